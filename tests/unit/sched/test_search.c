/* SPDX-License-Identifier: Apache-2.0 */
/* Whole searches, step by step: the fold, the crash at every durable step, cold and warm. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab.h"
#include "unit/test.h"

/* The base keeps a pointer to the lab's clock: a lab stays where it was opened. */
static void lab_at(struct lab *lab, const char *dir)
{
    *lab = (struct lab){ .dir = dir, .worth = lab_bowl };
    lab_open(lab);
}

static char *sub(const char *dir, const char *name, size_t k)
{
    return str_printf("%s/%s%zu", dir, name, k);
}

static void search_runs_to_its_budget_and_finds_a_good_assignment(void **state)
{
    struct lab lab;
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 60 };
    const struct trial *best;
    struct search *s;

    lab_at(&lab, *state);
    s = lab_search(&lab, &run);
    best = search_trial(s, s->champion);
    assert_int_equal(s->state, SEARCH_DONE);
    assert_int_equal(s->n_trials, 60);
    assert_true(exp(1e-6 * (double)best->objective_q) > 3.6);
    assert_true(world_count(s->world) > 10);
    for (uint64_t i = 1; i <= 60; i++)
        for (uint64_t k = 1; k < i; k++)
            assert_memory_not_equal(search_trial(s, i)->a, search_trial(s, k)->a,
                                    space_n(s->space) * sizeof(uint16_t));
    search_free(s);
    lab_close(&lab);
}

static void search_stops_cleanly_at_a_budget_of_one(void **state)
{
    struct lab lab;
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 1 };
    struct search *s;

    lab_at(&lab, *state);
    s = lab_search(&lab, &run);
    assert_int_equal(s->state, SEARCH_DONE);
    assert_int_equal(s->n_trials, 1);
    assert_int_equal(s->champion, 1);
    assert_false(search_in_cycle(s));
    assert_true(s->wall_ns == NS_PER_SEC);
    assert_string_equal(s->reason, "the budget of evaluations is used up");
    search_free(s);
    lab_close(&lab);
}

/* Runs one search with a crash at write k; NULL when it has fewer than k writes. */
static char *final_with_crash(const char *dir, size_t k, bool before, bool cold, char digest[65])
{
    struct lab lab;
    struct lab_run first = { "sa", "lab_a", "n=4", true, 3, 25 };
    struct lab_run run = { "sb", "lab_b", "n=8", cold, 5, 14 };
    json_t *problems = json_array();
    struct search *s;
    struct id id;
    struct err err;
    char *text = NULL;

    lab_at(&lab, dir);
    search_free(lab_search(&lab, &first));
    lab.shift = 1;
    lab.commits = 0;
    lab.crash_at = k;
    lab.crash_before = before;
    s = lab_search(&lab, &run);
    if (k == 0 || lab.commits >= k)
        text = lab_final_state(s);
    search_free(s);
    assert_ok(kb_verify(lab.kb, problems, &id, &err), err);
    assert_int_equal(json_array_size(problems), 0);
    memcpy(digest, id.hex, sizeof(id.hex));
    json_decref(problems);
    lab_close(&lab);
    return text;
}

static void crash_everywhere(const char *dir, bool before, bool cold)
{
    char digest[65], want_digest[65];
    CLEANUP(freep) char *undisturbed_dir = sub(dir, cold ? "uc" : "uw", before);
    CLEANUP(freep) char *want = final_with_crash(undisturbed_dir, 0, before, cold, want_digest);
    size_t k = 1;

    for (;; k++) {
        CLEANUP(freep) char *at = sub(dir, before ? (cold ? "bc" : "bw") : (cold ? "ac" : "aw"), k);
        CLEANUP(freep) char *got = final_with_crash(at, k, before, cold, digest);

        if (got == NULL)
            break;
        assert_string_equal(got, want);
        assert_string_equal(digest, want_digest);
    }
    assert_true(k > 28); /* two writes per evaluation, and the end */
}

static void search_killed_after_any_write_ends_in_the_same_state(void **state)
{
    crash_everywhere(*state, false, true);
    crash_everywhere(*state, false, false);
}

static void search_killed_before_any_write_ends_in_the_same_state(void **state)
{
    crash_everywhere(*state, true, false);
}

/*
 * Warm from a neighbouring shape against cold, paired by seed: fewer evaluations to within 5 % of
 * the best, and the cold one reads nothing from memory.
 */
static void warm_search_needs_fewer_evaluations_than_cold(void **state)
{
    struct lab lab;
    struct lab_run first = { "sa", "lab_a", "n=4", true, 11, 60 };
    double ratio = 0;

    lab_at(&lab, *state);
    search_free(lab_search(&lab, &first));
    lab.shift = 1;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        char cold_id[8], warm_id[8];
        struct lab_run cold = { cold_id, "lab_b", "n=8", true, seed, 40 }, warm = cold;
        struct search *c, *w;
        double best = log(4.0) - 0.05 * 2;

        snprintf(cold_id, sizeof(cold_id), "c%u", (unsigned)seed);
        snprintf(warm_id, sizeof(warm_id), "w%u", (unsigned)seed);
        warm.id = warm_id;
        warm.cold = false;
        /* the warm one first: it must not see the cold one's records of its own task */
        w = lab_search(&lab, &warm);
        if (seed == 1) {
            assert_non_null(w->memory);
            assert_true(w->memory->n_adoptions >= 1);
            assert_true(world_get(w->world, 1)->graft.similarity > 0);
            assert_true(trial_steered(search_trial(w, 1)));
        }
        c = lab_search(&lab, &cold);
        assert_null(c->memory);
        for (uint64_t n = 1; n <= c->n_trials; n++)
            assert_false(trial_steered(search_trial(c, n)));
        ratio += log((double)lab_evals_to(c, best, 0.05) / (double)lab_evals_to(w, best, 0.05));
        search_free(c);
        search_free(w);
    }
    assert_true(exp(ratio / 5) > 2);
    lab_close(&lab);
}

static void cold_curve_is_the_same_on_an_empty_and_on_a_full_base(void **state)
{
    CLEANUP(freep) char *empty = sub(*state, "empty", 0);
    CLEANUP(freep) char *full = sub(*state, "full", 0);
    struct lab a, b;
    struct lab_run first = { "sa", "lab_a", "n=4", true, 11, 30 };
    struct lab_run run = { "sb", "lab_b", "n=8", true, 5, 20 };
    struct search *on_empty, *on_full;

    lab_at(&a, empty);
    lab_at(&b, full);
    search_free(lab_search(&b, &first));
    on_empty = lab_search(&a, &run);
    on_full = lab_search(&b, &run);
    CLEANUP(freep) char *x = lab_final_state(on_empty);
    CLEANUP(freep) char *y = lab_final_state(on_full);
    assert_string_equal(x, y);
    search_free(on_empty);
    search_free(on_full);
    lab_close(&a);
    lab_close(&b);
}

static int count_kinds(void *ctx, const struct insight *in)
{
    size_t *n = ctx;

    n[0]++;
    n[1] += in->all.blind;
    n[2] += in->all.failures;
    assert_string_equal(in->claim.family, "lab");
    assert_non_null(strstr(in->claim.statement, in->claim.param));
    return 0;
}

static void search_leaves_claims_with_evidence_behind(void **state)
{
    struct lab lab;
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 60 };
    size_t n[3] = { 0 };

    lab_at(&lab, *state);
    search_free(lab_search(&lab, &run));
    kb_each_insight(lab.kb, count_kinds, n);
    assert_true(n[0] >= 5);
    assert_true(n[1] >= n[0] - n[2]);
    lab_close(&lab);
}

static void search_measures_again_what_was_unstable(void **state)
{
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 12 };
    struct search *calm, *shaky;
    struct lab lab;

    lab_at(&lab, *state);
    calm = lab_search(&lab, &run);
    lab.shaky = true;
    run.id = "s2";
    shaky = lab_search(&lab, &run);
    assert_int_equal(shaky->state, SEARCH_DONE);
    assert_int_equal(shaky->champion, calm->champion);
    for (uint64_t n = 1; n <= 12; n++) {
        assert_int_equal(search_trial(shaky, n)->tries, 1);
        assert_string_equal(search_trial(shaky, n)->status, search_trial(calm, n)->status);
    }
    search_free(calm);
    search_free(shaky);
    lab_close(&lab);
}

static int check_evidence(void *ctx, uint64_t seq, enum fact_kind kind, const struct id *id,
                          const json_t *fact)
{
    size_t *pairs = ctx;

    (void)seq;
    (void)id;
    if (kind != FACT_EVIDENCE || strcmp(jsonx_str(fact, "kind", ""), "pair") != 0)
        return 0;
    assert_string_not_equal(jsonx_str(fact, "with", ""), jsonx_str(fact, "without", ""));
    (*pairs)++;
    return 0;
}

/*
 * One tunable changes nothing in the object: what compiles to an object that was measured takes its
 * value, costs no time of the device, and is no second fact.
 */
static void search_shares_the_measurement_of_an_equal_object(void **state)
{
    struct lab lab;
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 60 };
    size_t shared = 0, pairs = 0;
    struct kb_stats stats;
    struct search *s;
    struct err err;

    lab_at(&lab, *state);
    lab.dead = 1 + 5; /* GROUP */
    s = lab_search(&lab, &run);
    assert_int_equal(s->n_trials, 60);
    for (uint64_t n = 1; n <= 60; n++) {
        const struct trial *t = search_trial(s, n), *same = search_trial(s, t->same_as);

        if (t->same_as == 0)
            continue;
        shared++;
        assert_true(t->ok && !t->improved && isnan(t->crps));
        assert_true(same->n < n && same->ok && same->same_as == 0);
        assert_int_equal(t->objective_q, same->objective_q);
        assert_string_equal(t->evaluation.hex, same->evaluation.hex);
        assert_int_equal(t->device_ns, 0);
    }
    assert_true(shared > 0);
    assert_int_equal(lab.timed, 60 - shared);
    assert_ok(kb_get_stats(lab.kb, &stats, &err), err);
    assert_int_equal(stats.facts[FACT_EVALUATION], 60 - shared);
    assert_ok(kb_each_fact(lab.kb, 0, check_evidence, &pairs, &err), err);
    assert_true(pairs > 0);
    search_free(s);
    assert_ok(search_load(lab.kb, "s1", true, &s, &err), err); /* and it is all in the events */
    for (uint64_t n = 1; n <= 60; n++)
        shared -= search_trial(s, n)->same_as != 0;
    assert_int_equal(shared, 0);
    search_free(s);
    lab_close(&lab);
}

static void search_that_loses_its_evaluator_fails_with_the_reason(void **state)
{
    struct lab lab;
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 5 };
    struct kb_stats stats;
    struct search *s;
    struct err err;

    lab_at(&lab, *state);
    lab.infrastructure_fails = true;
    s = lab_search(&lab, &run);
    assert_int_equal(s->state, SEARCH_FAILED);
    assert_int_equal(search_measured(s), 0);
    assert_non_null(strstr(s->reason, "the machine is on fire"));
    assert_ok(kb_get_stats(lab.kb, &stats, &err), err);
    assert_int_equal(stats.facts[FACT_EVALUATION], 0); /* never charged to the candidate */
    search_free(s);
    lab_close(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
        T(search_runs_to_its_budget_and_finds_a_good_assignment),
        T(search_stops_cleanly_at_a_budget_of_one),
        T(search_killed_after_any_write_ends_in_the_same_state),
        T(search_killed_before_any_write_ends_in_the_same_state),
        T(warm_search_needs_fewer_evaluations_than_cold),
        T(cold_curve_is_the_same_on_an_empty_and_on_a_full_base),
        T(search_leaves_claims_with_evidence_behind),
        T(search_measures_again_what_was_unstable),
        T(search_shares_the_measurement_of_an_equal_object),
        T(search_that_loses_its_evaluator_fails_with_the_reason),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
