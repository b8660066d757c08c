/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets: of nothing, of a little, and in the middle of a cycle; the ledger adds up. */
#include <math.h>

#include "../sched/lab.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/journal.h"
#include "search/scorebook.h"
#include "search/spend.h"
#include "search/stop.h"
#include "unit/test.h"

static struct search *begin(struct lab *lab, const char *dir, uint64_t evals)
{
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, evals };

    *lab = (struct lab){ .dir = dir, .worth = lab_bowl };
    lab_open(lab);
    return lab_begin(lab, &run);
}

static void end(struct lab *lab, struct search *s)
{
    search_free(s);
    lab_close(lab);
}

/* Adds an event as the daemon does, and commits it. */
static void event(struct lab *lab, struct search *s, json_t *ev)
{
    struct journal j;
    struct err err;

    assert_ok(journal_open(&j, s, &lab->clock.clock, &err), err);
    assert_ok(journal_add(&j, ev, &err), err);
    assert_ok(journal_commit(&j, &err), err);
    journal_close(&j);
}

static void talk(struct lab *lab, struct search *s, const char *kind, json_int_t in, json_int_t out,
                 json_int_t usd_q, double seconds, bool estimated)
{
    json_int_t n = (json_int_t)s->calls.n + 1;

    event(lab, s,
          json_pack("{s:s, s:I, s:s, s:i, s:s}", "type", "asked", "call", n, "kind", kind, "lane",
                    -1, "hash", "00"));
    event(lab, s,
          json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:b}", "type", "answered",
                    "call", n, "answer", "{}", "model", "m", "tokens_in", in, "tokens_cached",
                    in / 2, "tokens_out", out, "usd_q", usd_q, "seconds", seconds, "estimated",
                    estimated));
}

/* Rows against totals, and totals against what the budgets are held against. */
static void expect_that_it_adds_up(const struct search *s)
{
    uint64_t in = 0, out = 0, device = 0, calls = 0;
    json_t *row;
    struct spend p;
    int64_t usd = 0;
    size_t i;

    spend_of(s, &p);
    for (unsigned k = 0; k < CALL_KIND_COUNT; k++) {
        in += p.calls[k].tokens_in;
        out += p.calls[k].tokens_out;
        usd += p.calls[k].usd_q;
        calls += p.calls[k].calls;
    }
    for (unsigned g = 0; g < SPEND_STAGE_COUNT; g++)
        device += p.stages[g].ns;
    assert_true(p.tokens == in + out && p.tokens == s->tokens);
    assert_true(p.usd_q == usd && p.usd_q == s->usd_q);
    assert_true(p.device_ns == device && p.device_ns == s->device_ns);
    assert_true(p.wall_ns == s->wall_ns && p.evals == search_measured(s));
    assert_true(calls == s->calls.n);
    json_auto_t *ledger = spend_ledger_json(&p);
    json_auto_t *spent = spend_json(&p);
    double usd_rows = 0;
    long long tokens_rows = 0;
    json_array_foreach (ledger, i, row) {
        usd_rows += jsonx_num(row, "usd", 0);
        tokens_rows += jsonx_int(row, "tokens_in", 0) + jsonx_int(row, "tokens_out", 0);
    }
    assert_true(fabs(usd_rows - jsonx_num(spent, "usd", -1)) < 1e-9);
    assert_int_equal(tokens_rows, jsonx_int(spent, "tokens", -1));
}

static void a_budget_of_nothing_measures_nothing(void **state)
{
    static const enum spend_kind bound[] = { SPEND_EVALS, SPEND_TIME, SPEND_DEVICE };
    static const char *const reason[] = { "the budget of evaluations is used up",
                                          "the budget of time is used up",
                                          "the budget of device time is used up" };

    for (size_t i = 0; i < ARRAY_LEN(bound); i++) {
        CLEANUP(freep) char *dir = str_printf("%s/%zu", (const char *)*state, i);
        struct lab lab;
        struct search *s;
        struct err err;

        assert_ok(file_mkdirs(dir, &err), err);
        s = begin(&lab, dir, bound[i] == SPEND_EVALS ? 0 : 20);
        s->spec.budget_given = 1u << bound[i];
        while (lab_step(&lab, &s))
            fail_msg("something was measured");
        assert_int_equal(s->state, SEARCH_DONE);
        assert_int_equal(s->n_trials, 0);
        assert_false(search_in_cycle(s));
        assert_string_equal(s->reason, reason[i]);
        expect_that_it_adds_up(s);
        end(&lab, s);
    }
}

/* What is not given bounds nothing; a search that asks no model spends no tokens and no money. */
static void what_is_not_given_or_not_spent_bounds_nothing(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 3);

    assert_null(spend_exhausted(s));
    s->spec.budget_given = 1u << SPEND_TOKENS | 1u << SPEND_USD;
    assert_true(spend_is_bounded(&s->spec, SPEND_TOKENS));
    assert_false(spend_is_bounded(&s->spec, SPEND_TIME));
    assert_null(spend_exhausted(s));
    while (lab_step(&lab, &s))
        ;
    assert_int_equal(s->n_trials, 3);
    expect_that_it_adds_up(s);
    end(&lab, s);
}

/* An evaluation of the lab takes one second, a tenth of it on the device. */
static void budgets_end_a_search_in_the_middle_of_a_cycle(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 40);

    s->spec.window = 30; /* no cycle ends by itself */
    s->spec.budget_time_ns = 3 * NS_PER_SEC;
    while (lab_step(&lab, &s))
        ;
    assert_int_equal(s->state, SEARCH_DONE);
    assert_int_equal(s->n_trials, 3);
    assert_false(search_in_cycle(s));
    assert_string_equal(s->reason, "the budget of time is used up");
    expect_that_it_adds_up(s);
    end(&lab, s);
}

static void device_time_is_split_by_stage(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 40);
    struct spend p;
    struct err err;

    s->spec.budget_device_ns = NS_PER_SEC; /* ten evaluations, or fewer with duels */
    while (lab_step(&lab, &s))
        ;
    assert_string_equal(s->reason, "the budget of device time is used up");
    assert_true(s->n_trials > 1 && s->n_trials <= 10);
    expect_that_it_adds_up(s);
    spend_of(s, &p);
    assert_int_equal(p.stages[SPEND_TIMING].n, s->n_trials);
    assert_true(p.stages[SPEND_DUEL].ns > 0);
    assert_int_equal(p.stages[SPEND_UNSPLIT].n, 0);
    /* the same after a restart */
    uint64_t device_ns = s->device_ns;
    search_free(s);
    assert_ok(search_load(lab.kb, "s1", true, &s, &err), err);
    assert_true(s->device_ns == device_ns);
    expect_that_it_adds_up(s);
    end(&lab, s);
}

static void calls_are_counted_by_kind_and_bounded(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 40);
    struct err err;
    struct spend p;

    free(s->spec.proposer);
    s->spec.proposer = xstrdup("queue");
    s->spec.budget_tokens = 1000;
    s->spec.budget_usd_q = 500000;
    event(&lab, s, json_pack("{s:s, s:s}", "type", "started", "reason", ""));
    talk(&lab, s, "init", 400, 100, 1000, 2, false);
    talk(&lab, s, "propose", 100, 50, 500, 3, true);
    assert_null(spend_exhausted(s));
    assert_null(spend_talk_exhausted(s));
    spend_of(s, &p);
    assert_int_equal(p.calls[CALL_INIT].tokens_cached, 200);
    assert_int_equal(p.calls[CALL_PROPOSE].estimated, 150);
    assert_int_equal(p.estimated, 150);
    assert_int_equal(p.tokens, 650);
    expect_that_it_adds_up(s);
    /* 90 % is said once, used up ends it */
    assert_int_equal(s->noticed, 0);
    talk(&lab, s, "propose", 250, 10, 500, 1, false);
    assert_int_equal(s->noticed, 1u << SPEND_TOKENS);
    uint64_t events = s->next_seq;
    talk(&lab, s, "propose", 10, 0, 0, 1, false);
    assert_int_equal(s->next_seq, events + 2);
    assert_null(spend_talk_exhausted(s));
    json_auto_t *notices = spend_notices_json(s);
    assert_int_equal(json_array_size(notices), 1);
    assert_non_null(strstr(json_string_value(json_array_get(notices, 0)), "budget of 1000 tokens"));
    talk(&lab, s, "propose", 80, 0, 0, 1, false);
    assert_string_equal(spend_exhausted(s), "the budget of tokens is used up");
    assert_string_equal(spend_talk_exhausted(s), "the budget of tokens is used up");
    s->spec.budget_tokens = 0;
    assert_null(spend_exhausted(s));
    talk(&lab, s, "propose", 1, 1, 600000, 1, false);
    assert_string_equal(spend_exhausted(s), "the budget of money is used up");
    /* evaluations that are used up do not forbid to tell the model */
    s->spec.budget_usd_q = 0;
    s->spec.budget_evals = 0;
    assert_non_null(spend_exhausted(s));
    assert_null(spend_talk_exhausted(s));
    /* nothing may be spent at all */
    s->spec.budget_given = 1u << SPEND_USD;
    assert_string_equal(spend_talk_exhausted(s), "the budget of money is used up");
    expect_that_it_adds_up(s);
    uint64_t wall_ns = s->wall_ns;
    search_free(s);
    assert_ok(search_load(lab.kb, "s1", true, &s, &err), err);
    assert_int_equal(s->noticed, 1u << SPEND_TOKENS | 1u << SPEND_USD);
    assert_true(s->wall_ns == wall_ns);
    expect_that_it_adds_up(s);
    end(&lab, s);
}

/* Four answers that were waited for side by side took the time of one. */
static void waiting_counts_once(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 40);

    talk(&lab, s, "init", 1, 1, 0, 30, false);
    assert_true(s->wall_ns == 30 * NS_PER_SEC);
    lab.clock.now_ns += 60 * NS_PER_SEC;
    for (int i = 0; i < 4; i++)
        talk(&lab, s, "propose", 1, 1, 0, 60, false);
    assert_true(s->wall_ns >= 90 * NS_PER_SEC && s->wall_ns <= 93 * NS_PER_SEC);
    end(&lab, s);
}

/* The time of an evaluation holds what was waited for beside it. */
static void waiting_beside_an_evaluation_is_not_counted(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 40);
    uint16_t first[SPACE_PARAMS_MAX];

    talk(&lab, s, "init", 1, 1, 0, 30, false);
    event(&lab, s,
          json_pack("{s:s, s:i, s:s, s:i}", "type", "cycle", "lane", 0, "node", WORLD_ROOT_ID,
                    "program", 0));
    space_default(s->space, first);
    event(&lab, s,
          json_pack("{s:s, s:i, s:i, s:i, s:o}", "type", "attempt", "lane", 0, "evaluation", 1,
                    "program", 0, "assignment", space_to_json(s->space, first)));
    lab.clock.now_ns += 60 * NS_PER_SEC;
    talk(&lab, s, "propose", 1, 1, 0, 60, false);
    assert_true(s->wall_ns == 30 * NS_PER_SEC);
    event(&lab, s,
          json_pack("{s:s, s:i, s:s, s:I}", "type", "measured", "evaluation", 1, "status",
                    "crashed", "wall_ns", (json_int_t)(60 * NS_PER_SEC)));
    assert_true(s->wall_ns == 90 * NS_PER_SEC);
    end(&lab, s);
}

/* A provider may say anything. */
static void absurd_counts_do_not_wrap(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 40);

    free(s->spec.proposer);
    s->spec.proposer = xstrdup("openai");
    s->spec.budget_tokens = 1000;
    for (int i = 0; i < 4; i++)
        talk(&lab, s, "init", INT64_MAX, INT64_MAX, INT64_MAX, 1e300, false);
    assert_non_null(spend_exhausted(s));
    assert_true(s->tokens == UINT64_MAX && s->usd_q == INT64_MAX);
    talk(&lab, s, "init", -5, -5, -5, -5, false);
    assert_true(s->tokens == UINT64_MAX);
    json_auto_t *show = search_show_json(s);
    assert_true(jsonx_int(json_object_get(show, "spent"), "tokens", 0) == INT64_MAX);
    end(&lab, s);
}

static void what_was_given_survives_the_document(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 5), *read;
    json_t *doc;
    struct err err;

    s->spec.budget_given = 1u << SPEND_TOKENS | 1u << SPEND_TIME;
    s->spec.budget_device_ns = 7 * NS_PER_SEC;
    s->spec.stop_roofline = 0.5;
    doc = search_document(&s->spec, &s->scope, 1);
    assert_ok(search_new(lab.kb, doc, true, &read, &err), err);
    assert_int_equal(read->spec.budget_given, s->spec.budget_given);
    assert_true(spend_is_bounded(&read->spec, SPEND_TIME));
    assert_false(spend_is_bounded(&read->spec, SPEND_USD));
    assert_true(read->spec.stop_roofline == 0.5);
    json_auto_t *budget = spend_budget_json(&read->spec);
    json_auto_t *want =
        json_pack("{s:i, s:i, s:f, s:f}", "evals", 5, "tokens", 0, "time", 0.0, "device", 7.0);
    assert_true(json_equal(budget, want));
    search_free(read);
    /* one from before there were limits, and one that is damaged */
    json_object_del(doc, "limits");
    assert_ok(search_new(lab.kb, doc, true, &read, &err), err);
    assert_int_equal(read->spec.budget_given, 0);
    assert_false(spend_is_bounded(&read->spec, SPEND_TIME));
    search_free(read);
    json_object_set_new(doc, "limits", json_pack("{s:[s]}", "given", "patience"));
    assert_fails(search_new(lab.kb, doc, true, &read, &err), err, ERR_CORRUPT);
    json_decref(doc);
    end(&lab, s);
}

static void cost_curves_only_rise(void **state)
{
    static const char *const costs[] = { "tokens", "usd", "device_s", "wall_s" };
    struct lab lab;
    struct search *s = begin(&lab, *state, 12);
    json_t *point;
    size_t i;

    while (lab_step(&lab, &s))
        ;
    json_auto_t *show = search_show_json(s);
    const json_t *curve = json_object_get(show, "curve"), *spent = json_object_get(show, "spent");
    for (size_t k = 0; k < ARRAY_LEN(costs); k++) {
        double last = -1;

        json_array_foreach (curve, i, point) {
            assert_true(json_is_number(json_object_get(point, costs[k])));
            assert_true(jsonx_num(point, costs[k], -1) >= last);
            last = jsonx_num(point, costs[k], -1);
        }
        if (k >= 2)
            assert_true(last > 0);
    }
    point = json_array_get(curve, json_array_size(curve) - 1);
    assert_true(jsonx_num(point, "wall_s", 0) == jsonx_num(spent, "time", 1));
    assert_true(jsonx_num(point, "device_s", 0) == jsonx_num(spent, "device", 1));
    /* looked up values take no time worth telling */
    s->recorded = true;
    json_auto_t *recorded = search_show_json(s);
    assert_null(json_object_get(json_array_get(json_object_get(recorded, "curve"), 0), "wall_s"));
    end(&lab, s);
}

static void aims_end_a_search(void **state)
{
    struct lab lab;
    struct search *s = begin(&lab, *state, 300);
    uint64_t n;

    s->spec.stop_gain = 0.02;
    while (lab_step(&lab, &s))
        ;
    n = search_measured(s);
    assert_int_equal(s->state, SEARCH_DONE);
    assert_true(n >= STOP_PROPOSALS && n < 300);
    assert_non_null(strstr(s->reason, "proposals expected a log gain of"));
    /* it had found what there is to find */
    assert_true(1e-6 * (double)search_best_q(s) > log(4.0) - 0.15);
    search_trial(s, s->champion)->roofline = 0.82;
    s->spec.stop_gain = 0;
    assert_null(stop_reached(s));
    s->spec.stop_roofline = 0.9;
    assert_null(stop_reached(s));
    s->spec.stop_roofline = 0.8;
    assert_string_equal(stop_reached(s), "the best reached 0.82 of the roofline");
    search_trial(s, s->champion)->roofline = NAN;
    assert_null(stop_reached(s));
    end(&lab, s);
}

static void expected_gain_is_that_of_a_normal_forecast(void **state)
{
    (void)state;
    /* mean at the best: sd / sqrt(2 pi) */
    assert_true(fabs(score_expected_gain(1, 0.5, 1) - 0.5 * 0.3989422804) < 1e-9);
    assert_true(fabs(score_expected_gain(2, 0.1, 1) - 1) < 1e-6); /* far above */
    assert_true(score_expected_gain(0, 0.1, 1) < 1e-6);           /* far below */
    assert_true(score_expected_gain(3, 0, 1) == 2 && score_expected_gain(0, 0, 1) == 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_budget_of_nothing_measures_nothing),
        T(what_is_not_given_or_not_spent_bounds_nothing),
        T(budgets_end_a_search_in_the_middle_of_a_cycle),
        T(device_time_is_split_by_stage),
        T(calls_are_counted_by_kind_and_bounded),
        T(waiting_counts_once),
        T(waiting_beside_an_evaluation_is_not_counted),
        T(absurd_counts_do_not_wrap),
        T(what_was_given_survives_the_document),
        T(cost_curves_only_rise),
        T(aims_end_a_search),
        cmocka_unit_test(expected_gain_is_that_of_a_normal_forecast),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
