/* SPDX-License-Identifier: Apache-2.0 */
/* Warm starts: what each part of memory gives alone, memory that misleads, and findings that reach
 * a search while it runs. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab.h"
#include "search/adoption.h"
#include "search/trust.h"
#include "unit/test.h"

static void lab_at(struct lab *lab, const char *dir)
{
    *lab = (struct lab){ .dir = dir, .worth = lab_bowl };
    lab_open(lab);
}

static char *sub(const char *dir, const char *name, size_t k)
{
    return str_printf("%s/%s%zu", dir, name, k);
}

/* Another landscape under the same names: what is best there is poor in the bowl. */
static double elsewhere(const struct lab *lab, const struct space *space, const uint16_t *a)
{
    static const double best[] = { 0, 0, 1, 0, 4, 0 };
    double loss = (a[0] == 0 ? 0 : 0.5) + (a[1] == 0 ? 0 : 0.3);

    (void)lab;
    (void)space;
    for (int p = 2; p < 6; p++)
        loss += 0.15 * (a[p] - best[p]) * (a[p] - best[p]) / (1 + 0.2 * fabs(a[p] - best[p]));
    return log(4.0) - loss;
}

/* A base with one finished search on lab_a, whose evaluations are worth `worth`. */
static void lab_with_past(struct lab *lab, const char *dir,
                          double (*worth)(const struct lab *, const struct space *,
                                          const uint16_t *))
{
    struct lab_run first = { "sa", "lab_a", "n=4", true, 11, 60 };

    lab_at(lab, dir);
    lab->worth = worth;
    search_free(lab_search(lab, &first));
    lab->worth = lab_bowl;
    lab->shift = 1;
}

/* Mean best so far over the evaluations. */
static double area(const struct search *s)
{
    double sum = 0;

    for (uint64_t n = 1; n <= s->n_trials; n++)
        sum += exp(1e-6 * (double)search_trial(s, n)->best_q);
    return sum / (double)s->n_trials;
}

static size_t count_adopted(const struct search *s)
{
    size_t n = 0;

    for (uint64_t i = 1; i <= s->n_trials; i++)
        n += search_trial(s, i)->adopted[0] != '\0';
    return n;
}

static void parts_are_read_from_names_and_refused_otherwise(void **state)
{
    static const char *const good[] = { "[\"adopt\",\"plans\",\"prior\",\"live\"]",
                                        "\"live,adopt,prior,plans\"" };
    static const char *const bad[] = { "[]",  "\"\"", "\"adopt,\"", "\"adopt,luck\"",
                                       "[1]", "7",    "{}",         "[\"adopt\",\"\"]",
                                       "null" };
    struct err err;
    unsigned parts;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        json_auto_t *j = json_loads(good[i], JSON_DECODE_ANY, NULL), *back = NULL;

        assert_ok(memory_parts_parse(j, &parts, &err), err);
        assert_int_equal(parts, MEMORY_ALL);
        back = memory_parts_json(parts);
        assert_int_equal(json_array_size(back), 4);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_auto_t *j = json_loads(bad[i], JSON_DECODE_ANY, NULL);

        assert_int_equal(memory_parts_parse(j, &parts, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

/* Each part alone gives what it is named for, and nothing of the others. */
static void each_part_of_memory_works_alone(void **state)
{
    static const unsigned parts[] = { MEMORY_ADOPT, MEMORY_PLANS, MEMORY_PRIOR };
    struct lab_run run = { NULL, "lab_b", "n=8", false, 5, 20 };
    static const char *const ids[] = { "w0", "w1", "w2" };
    struct lab lab;

    lab_with_past(&lab, *state, lab_bowl);
    for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
        size_t grafted = 0, plans = 0, memory = 0;
        struct search *s;

        run.id = ids[k];
        lab.without = (unsigned)MEMORY_ALL & ~parts[k];
        s = lab_search(&lab, &run);
        for (uint32_t i = 0; i < world_count(s->world); i++)
            grafted += world_get(s->world, i)->graft.search[0] != '\0';
        for (uint64_t n = 1; n <= s->n_trials; n++) {
            plans += search_trial(s, n)->plan;
            memory += trial_steered(search_trial(s, n));
        }
        assert_true(memory > 0);
        assert_int_equal(count_adopted(s) > 0, parts[k] == MEMORY_ADOPT);
        assert_int_equal(grafted > 0, parts[k] == MEMORY_PLANS);
        assert_int_equal(plans > 0, parts[k] == MEMORY_PLANS);
        assert_int_equal(engine_sources(s->engine) > 0, parts[k] == MEMORY_PRIOR);
        assert_int_equal(search_memory_parts(s), parts[k]);
        search_free(s);
    }
    lab_close(&lab);
}

/* At most a tenth of the budget is adopted, and nothing twice in all but one tunable. */
static void adoptions_are_few_and_differ(void **state)
{
    struct lab_run run = { "w", "lab_b", "n=8", false, 5, 30 };
    struct search *s;
    struct lab lab;

    assert_int_equal(adoption_cap(1), 1);
    assert_int_equal(adoption_cap(19), 1);
    assert_int_equal(adoption_cap(40), 4);
    lab_with_past(&lab, *state, lab_bowl);
    lab.without = (unsigned)MEMORY_ALL & ~(unsigned)MEMORY_ADOPT;
    s = lab_search(&lab, &run);
    assert_true(s->memory->n_adoptions >= 2);
    assert_true(count_adopted(s) >= 1 && count_adopted(s) <= 3);
    for (size_t i = 0; i < s->memory->n_adoptions; i++)
        for (size_t k = 0; k < i; k++) {
            size_t differ = 0;

            for (size_t p = 0; p < space_n(s->space); p++)
                differ += s->memory->adoptions[i].a[p] != s->memory->adoptions[k].a[p];
            assert_true(differ >= 2);
        }
    search_free(s);
    lab_close(&lab);
}

static int count_retreats(void *ctx, uint64_t seq, const json_t *event)
{
    size_t *n = ctx;

    (void)seq;
    if (strcmp(jsonx_str(event, "type", ""), "trust") == 0 && jsonx_bool(event, "retreat", 0)) {
        n[0]++;
        assert_true(jsonx_num(event, "memory_free_share", 0) >= 0.6);
        assert_true(strlen(jsonx_str(event, "why", "")) > 20);
    }
    return 0;
}

/*
 * Memory of another landscape: the first measurement stays behind what was promised, so the search
 * lets go of memory at once, and is hardly worse than a cold one.
 */
static void memory_that_misleads_is_let_go(void **state)
{
    double log_ratio = 0;

    for (uint64_t seed = 1; seed <= 3; seed++) {
        CLEANUP(freep) char *dir = sub(*state, "base", seed);
        struct lab_run cold = { "c", "lab_b", "n=8", true, seed, 40 }, warm = cold;
        size_t retreats = 0, early = 0;
        struct lab lab;
        struct search *c, *w;
        struct err err;

        warm.id = "w";
        warm.cold = false;
        lab_with_past(&lab, dir, elsewhere);
        w = lab_search(&lab, &warm);
        if (seed == 1) {
            json_auto_t *show = search_show_json(w);

            assert_ok(kb_each_event(lab.kb, "w", 0, count_retreats, &retreats, &err), err);
            assert_true(retreats >= 1);
            assert_true(jsonx_num(json_object_get(show, "arms"), "memory_free_share", 0) > 0.1);
            for (uint64_t n = 2; n <= 4; n++)
                early += !trial_steered(search_trial(w, n));
            assert_true(early >= 2);
        }
        c = lab_search(&lab, &cold);
        log_ratio += log(area(w) / area(c)) / 3;
        search_free(w);
        search_free(c);
        lab_close(&lab);
    }
    assert_true(exp(log_ratio) > 0.85); /* three searches' noise allowed for */
}

static void gain_is_told_in_parts(void **state)
{
    struct lab_run run = { "w", "lab_b", "n=8", false, 5, 20 },
                   cold = { "c", "lab_b", "n=8", true, 5, 8 };
    json_auto_t *gain = NULL, *none = NULL;
    struct search *s, *c;
    struct lab lab;

    lab_with_past(&lab, *state, lab_bowl);
    s = lab_search(&lab, &run);
    gain = search_gain_json(s);
    assert_true(jsonx_int(gain, "adoptions", 0) >= 1);
    assert_float_equal(jsonx_num(gain, "total", 0), exp(1e-6 * (double)search_best_q(s)), 1e-9);
    assert_float_equal(jsonx_num(gain, "adopted", 0) * jsonx_num(gain, "added", 0),
                       jsonx_num(gain, "total", 0), 1e-9);
    assert_true(jsonx_num(gain, "adopted", 0) > 1.5 && jsonx_num(gain, "added", 0) >= 1);
    c = lab_search(&lab, &cold);
    none = search_gain_json(c);
    assert_int_equal(jsonx_int(none, "adoptions", -1), 0);
    assert_float_equal(jsonx_num(none, "adopted", 0), 1, 0);
    search_free(s);
    search_free(c);
    lab_close(&lab);
}

/* ---- Live ---- */

/* Runs two searches on related tasks by turns; the second begins first and knows nothing. Returns
 * the final states of both as text, NULL when there were fewer than k writes. */
static char *two_at_once(const char *dir, size_t k, bool before, uint64_t *adopted_at)
{
    struct lab_run slow = { "s2", "lab_b", "n=8", false, 3, 8 };
    struct lab_run quick = { "s1", "lab_a", "n=4", true, 7, 14 };
    struct search *a, *b;
    struct lab lab;
    char *text = NULL;

    lab_at(&lab, dir);
    lab.crash_at = k;
    lab.crash_before = before;
    a = lab_begin(&lab, &quick);
    b = lab_begin(&lab, &slow);
    lab_step(&lab, &b);
    lab_step(&lab, &b);
    while (lab_step(&lab, &a))
        ;
    while (lab_step(&lab, &b))
        ;
    for (uint64_t n = 1; n <= b->n_trials && adopted_at; n++)
        if (search_trial(b, n)->live) {
            *adopted_at = n;
            assert_memory_equal(search_trial(b, n)->a, search_trial(a, a->champion)->a,
                                space_n(a->space) * sizeof(uint16_t));
            assert_string_equal(search_trial(b, n)->adopted, "lab_a@cpu");
            assert_string_equal(
                search_node_origin(b, world_find(b->world, search_trial(b, n)->node)), "live");
            break;
        }
    if (k == 0 || lab.commits >= k) {
        CLEANUP(freep) char *one = lab_final_state(a);
        CLEANUP(freep) char *two = lab_final_state(b);

        text = str_printf("%s\n%s", one, two);
    }
    search_free(a);
    search_free(b);
    lab_close(&lab);
    return text;
}

/* The other's champion is measured at the next attempt, not at the end of the cycle or the search.
 */
static void a_finding_reaches_the_other_search_at_its_next_attempt(void **state)
{
    CLEANUP(freep) char *dir = sub(*state, "two", 0);
    uint64_t adopted_at = 0;
    CLEANUP(freep) char *text = two_at_once(dir, 0, false, &adopted_at);

    assert_int_equal(adopted_at, 3);
    assert_non_null(strstr(text, "\"live\":true"));
}

static void searches_that_share_end_the_same_wherever_they_are_killed(void **state)
{
    CLEANUP(freep) char *whole_dir = sub(*state, "whole", 0);
    CLEANUP(freep) char *want = two_at_once(whole_dir, 0, false, NULL);
    size_t k = 1;

    for (;; k++) {
        CLEANUP(freep) char *dir = sub(*state, "killed", k);
        CLEANUP(freep) char *got = two_at_once(dir, k, k % 2 == 0, NULL);

        if (got == NULL)
            break;
        assert_string_equal(got, want);
    }
    assert_true(k > 40);
}

static void a_cold_search_hears_of_nobody(void **state)
{
    struct lab_run first = { "s1", "lab_a", "n=4", true, 7, 20 };
    struct lab_run run = { "s2", "lab_b", "n=8", true, 3, 8 };
    CLEANUP(freep) char *alone_dir = sub(*state, "alone", 0);
    CLEANUP(freep) char *beside_dir = sub(*state, "beside", 0);
    struct search *alone, *beside;
    struct lab empty, busy;

    lab_at(&empty, alone_dir);
    lab_at(&busy, beside_dir);
    alone = lab_search(&empty, &run);
    beside = lab_begin(&busy, &run);
    lab_step(&busy, &beside);
    search_free(lab_search(&busy, &first));
    while (lab_step(&busy, &beside))
        ;
    CLEANUP(freep) char *x = lab_final_state(alone);
    CLEANUP(freep) char *y = lab_final_state(beside);
    assert_string_equal(x, y);
    search_free(alone);
    search_free(beside);
    lab_close(&empty);
    lab_close(&busy);
}

/* ---- Related spaces ---- */

static bool translated(const char *assignment, char key[200], double *shared)
{
    json_auto_t *doc = lab_space(), *j = json_loads(assignment, 0, NULL);
    CLEANUP(freep) char *text = NULL;
    uint16_t a[SPACE_PARAMS_MAX];
    struct space *space;
    struct err err;
    bool ok;

    assert_ok(space_parse(doc, "lab", &space, &err), err);
    ok = memory_translate(space, j, a, shared);
    if (ok) {
        text = space_key(space, a);
        str_copy(key, 200, text);
    }
    space_free(space);
    return ok;
}

static void assignments_of_related_spaces_are_translated_by_name(void **state)
{
    char key[200];
    double shared;

    (void)state;
    assert_true(translated("{\"MODE\":\"online\",\"LAYOUT\":\"rows\",\"TILE\":32,\"UNROLL\":2,"
                           "\"PREFETCH\":4,\"GROUP\":8}",
                           key, &shared));
    assert_float_equal(shared, 1, 0);
    /* nearest by ratio, the default where nothing is said, foreign names left out */
    assert_true(
        translated("{\"MODE\":\"online\",\"TILE\":40,\"UNROLL\":2,\"WARPS\":4}", key, &shared));
    assert_string_equal(key, "GROUP=1,LAYOUT=rows,MODE=online,PREFETCH=0,TILE=32,UNROLL=2");
    assert_float_equal(shared, 0.5, 1e-12);
    /* one of two structural parameters is enough, none is not, whatever else agrees */
    assert_false(translated("{\"TILE\":32,\"UNROLL\":2,\"PREFETCH\":4,\"GROUP\":8}", key, &shared));
    assert_false(translated("{\"MODE\":\"warp\",\"TILE\":32,\"UNROLL\":2}", key, &shared));
    /* what comes out must be valid: TILE % UNROLL == 0 */
    assert_false(translated("{\"MODE\":\"online\",\"TILE\":4,\"UNROLL\":9}", key, &shared));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
        T(parts_are_read_from_names_and_refused_otherwise),
        T(each_part_of_memory_works_alone),
        T(adoptions_are_few_and_differ),
        T(memory_that_misleads_is_let_go),
        T(gain_is_told_in_parts),
        T(a_finding_reaches_the_other_search_at_its_next_attempt),
        T(searches_that_share_end_the_same_wherever_they_are_killed),
        T(a_cold_search_hears_of_nobody),
        T(assignments_of_related_spaces_are_translated_by_name),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
