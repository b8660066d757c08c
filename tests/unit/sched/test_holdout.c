/* SPDX-License-Identifier: Apache-2.0 */
/* The champion on workloads that a search never tunes on: when it is measured there, what is told
 * of it, that nobody who proposes hears of it, and the crash at every durable step. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab_llm.h"
#include "search/journal.h"
#include "search/spend.h"
#include "unit/test.h"

enum { EVALS = 30 };

static const struct lab_run the_run = { "s1", "lab_a", "n=4", true, 7, EVALS };

/* The base keeps a pointer to the lab's clock: a lab stays where it was opened. */
static void lab_at(struct lab *lab, const char *dir, const char *holdout, bool with_model)
{
    *lab = (struct lab){ .dir = dir, .worth = lab_bowl, .holdout = holdout, .holdout_gap = 0.15 };
    if (with_model) {
        lab->model = script_sensible;
        lab->strategy = "world-model";
        lab->window = 3;
    }
    lab_open(lab);
}

static struct search *run_at(struct lab *lab, const char *dir, const char *name,
                             const char *holdout, bool with_model)
{
    CLEANUP(freep) char *at = str_printf("%s/%s", dir, name);

    lab_at(lab, at, holdout, with_model);
    return lab_search(lab, &the_run);
}

static void done(struct lab *lab, struct search *s)
{
    search_free(s);
    lab_close(lab);
}

static bool is_type(const json_t *ev, const char *type)
{
    return strcmp(jsonx_str(ev, "type", ""), type) == 0;
}

static size_t count_events(const json_t *events, const char *type)
{
    json_t *ev;
    size_t i, n = 0;

    json_array_foreach (events, i, ev)
        n += is_type(ev, type);
    return n;
}

/* One check once HOLDOUT_EVERY evaluations are measured, one of the last champion before the end,
 * each of the champion of its time. */
static void expect_all_checks(const struct search *s)
{
    json_auto_t *events = lab_events(s);
    uint64_t measured = 0, champion = 0;
    size_t i, checks = 0;
    json_t *ev;

    json_array_foreach (events, i, ev) {
        measured += is_type(ev, "measured");
        if (is_type(ev, "measured") && jsonx_bool(ev, "improved", 0))
            champion = (uint64_t)jsonx_int(ev, "evaluation", 0);
        if (!is_type(ev, "holdout_due"))
            continue;
        assert_int_equal(jsonx_int(ev, "evaluation", 0), champion);
        assert_true(measured == (checks++ == 0 ? HOLDOUT_EVERY : EVALS));
    }
    assert_true(checks >= 1);
    assert_int_equal(checks, s->holdout.n);
    assert_int_equal(count_events(events, "holdout"), s->holdout.n);
    assert_int_equal(s->holdout.checks[s->holdout.n - 1].evaluation, s->champion);
    assert_true(is_type(json_array_get(events, json_array_size(events) - 1), "done"));
}

static void the_champion_is_checked_now_and_then_and_at_the_end(void **state)
{
    for (int with_model = 0; with_model <= 1; with_model++) {
        CLEANUP(freep) char *name = str_printf("checked%d", with_model);
        struct lab lab;
        struct search *s = run_at(&lab, *state, name, "full", with_model);

        assert_int_equal(s->state, SEARCH_DONE);
        assert_int_equal(s->n_trials, EVALS);
        expect_all_checks(s);
        done(&lab, s);
    }
}

static void the_gap_is_told(void **state)
{
    struct lab lab;
    struct search *s = run_at(&lab, *state, "gap", "full", false);
    json_auto_t *show = search_show_json(s);
    const json_t *holdout = json_object_get(show, "holdout"), *check;
    struct spend spent;

    assert_string_equal(jsonx_str(holdout, "set", ""), "full");
    assert_true(json_is_null(json_object_get(holdout, "checking")));
    check = json_array_get(json_object_get(holdout, "checks"), s->holdout.n - 1);
    assert_int_equal(jsonx_int(check, "evaluation", 0), s->champion);
    assert_string_equal(jsonx_str(check, "status", ""), "ok");
    assert_true(fabs(jsonx_num(check, "gap", 0) - lab.holdout_gap) < 1e-5);
    assert_true(fabs(jsonx_num(check, "tuned", 0) - exp(1e-6 * (double)search_best_q(s))) < 1e-9);
    assert_true(fabs(log(jsonx_num(check, "tuned", 0) / jsonx_num(check, "objective", 1)) -
                     jsonx_num(check, "gap", 0)) < 1e-9);
    /* it costs time, and the ledger says so; it is no evaluation and no fact */
    spend_of(s, &spent);
    assert_int_equal(spent.evals, EVALS);
    assert_int_equal(spent.stages[SPEND_HOLDOUT].n, s->holdout.n);
    assert_true(spent.device_ns == s->device_ns);
    assert_true(s->wall_ns == (EVALS + s->holdout.n) * NS_PER_SEC);
    done(&lab, s);
}

/* ---- Nobody hears of it ---- */

static void expect_same_trials(const struct search *a, const struct search *b)
{
    assert_int_equal(a->n_trials, b->n_trials);
    for (uint64_t n = 1; n <= a->n_trials; n++) {
        const struct trial *x = search_trial(a, n), *y = search_trial(b, n);

        assert_memory_equal(x->a, y->a, sizeof(x->a));
        assert_int_equal(x->program, y->program);
        assert_string_equal(x->node, y->node);
        assert_true(x->objective_q == y->objective_q && x->best_q == y->best_q);
    }
}

/* What a model was asked, in order. */
static json_t *asked_of(const struct search *s)
{
    json_auto_t *events = lab_events(s);
    json_t *hashes = json_array(), *ev;
    size_t i;

    json_array_foreach (events, i, ev)
        if (is_type(ev, "asked"))
            json_array_append(hashes, json_object_get(ev, "hash"));
    return hashes;
}

static char *knowledge(struct lab *lab)
{
    struct kb_stats stats;
    struct err err;

    assert_ok(kb_get_stats(lab->kb, &stats, &err), err);
    return str_printf("%llu %llu", (unsigned long long)stats.facts[FACT_EVALUATION],
                      (unsigned long long)stats.facts[FACT_EVIDENCE]);
}

static void no_proposer_and_no_claim_hears_of_a_check(void **state)
{
    for (int with_model = 0; with_model <= 1; with_model++) {
        CLEANUP(freep) char *name = str_printf("with%d", with_model);
        CLEANUP(freep) char *other = str_printf("without%d", with_model);
        struct lab a, b;
        struct search *with = run_at(&a, *state, name, "full", with_model);
        struct search *without = run_at(&b, *state, other, NULL, with_model);
        json_auto_t *asked = asked_of(with), *asked_without = asked_of(without);
        json_auto_t *show = search_show_json(without), *doc = search_summary(without);
        CLEANUP(freep) char *known = knowledge(&a);
        CLEANUP(freep) char *known_without = knowledge(&b);

        assert_true(with->holdout.n > 0);
        assert_int_equal(without->holdout.n, 0);
        expect_same_trials(with, without);
        assert_int_equal(json_array_size(asked) > 0, with_model);
        assert_true(json_equal(asked, asked_without));
        assert_string_equal(known, known_without);
        assert_null(json_object_get(show, "holdout"));
        assert_null(json_object_get(doc, "holdout"));
        done(&a, with);
        done(&b, without);
    }
}

/* ---- Losses ---- */

static void a_check_that_cannot_be_made_is_given_up_with_the_reason(void **state)
{
    CLEANUP(freep) char *at = str_printf("%s/lost", (char *)*state);
    struct lab lab;
    struct search *s;

    lab_at(&lab, at, "full", false);
    lab.holdout_fails = true;
    s = lab_search(&lab, &the_run);
    json_auto_t *events = lab_events(s);
    json_auto_t *told = holdout_json(s);
    const json_t *check = json_array_get(json_object_get(told, "checks"), 0);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_true(s->holdout.n > 0);
    assert_int_equal(count_events(events, "holdout_lost"), (SEARCH_TRIES_MAX - 1) * s->holdout.n);
    assert_string_equal(jsonx_str(check, "status", ""), "infrastructure");
    assert_string_equal(jsonx_str(check, "message", ""), "the other machine is on fire");
    assert_true(json_is_null(json_object_get(check, "objective")));
    assert_true(json_is_null(json_object_get(check, "gap")));
    done(&lab, s);
}

static void refuse(struct search *s, json_t *event)
{
    struct err err;

    json_object_set_new(event, "seq", json_integer((json_int_t)s->next_seq));
    assert_int_equal(search_apply(s, event, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    json_decref(event);
}

static void events_that_do_not_fit_are_refused(void **state)
{
    struct lab lab;
    struct search *s = run_at(&lab, *state, "misfit", "full", false);

    /* the champion was checked, so no check is open and none can begin */
    refuse(s,
           json_pack("{s:s, s:I}", "type", "holdout_due", "evaluation", (json_int_t)s->champion));
    refuse(s, json_pack("{s:s, s:I, s:s}", "type", "holdout", "evaluation", (json_int_t)s->champion,
                        "status", "ok"));
    refuse(s, json_pack("{s:s, s:i}", "type", "holdout_lost", "evaluation", 0));
    done(&lab, s);
}

/* ---- Crashes ---- */

/* A search with a crash at write k, of two evaluations after its first check; NULL when it has
 * fewer than k writes. */
static char *final_with_crash(struct lab *lab, const char *dir, size_t k, bool before,
                              bool with_model)
{
    CLEANUP(freep) char *at = str_printf("%s/k%d%d-%zu", dir, before, with_model, k);
    struct lab_run run = the_run;
    struct search *s;
    char *text = NULL;

    run.evals = HOLDOUT_EVERY + 2;
    lab_at(lab, at, "full", with_model);
    lab->crash_at = k;
    lab->crash_before = before;
    s = lab_search(lab, &run);
    assert_true(s->holdout.n >= 1);
    if (k == 0 || lab->commits >= k)
        text = lab_final_state(s);
    done(lab, s);
    return text;
}

/* At each write from the one that opens the first check; test_search and test_author have those
 * before it. */
static void crash_everywhere(const char *dir, bool before, bool with_model)
{
    struct lab lab, killed;
    CLEANUP(freep) char *want = final_with_crash(&lab, dir, 0, before, with_model);
    size_t k;

    assert_true(lab.check_at > 0);
    for (k = lab.check_at; k <= lab.commits; k++) {
        CLEANUP(freep) char *got = final_with_crash(&killed, dir, k, before, with_model);

        assert_non_null(got);
        assert_string_equal(got, want);
    }
    assert_true(k >= lab.check_at + 4); /* the check, its result, and two evaluations at least */
}

static void a_search_killed_after_any_write_checks_the_same(void **state)
{
    crash_everywhere(*state, false, false);
    crash_everywhere(*state, false, true);
}

static void a_search_killed_before_any_write_checks_the_same(void **state)
{
    crash_everywhere(*state, true, false);
    crash_everywhere(*state, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
        T(the_champion_is_checked_now_and_then_and_at_the_end),
        T(the_gap_is_told),
        T(no_proposer_and_no_claim_hears_of_a_check),
        T(a_check_that_cannot_be_made_is_given_up_with_the_reason),
        T(events_that_do_not_fit_are_refused),
        T(a_search_killed_after_any_write_checks_the_same),
        T(a_search_killed_before_any_write_checks_the_same),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
