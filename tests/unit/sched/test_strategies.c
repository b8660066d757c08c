/* SPDX-License-Identifier: Apache-2.0 */
/* The strategies beside each other: what each does and does not do, and that all of them spend the
 * same evaluations in the same way. With KS_STRATEGY_SEEDS in the environment the comparison of
 * docs/strategies.md is printed over that many seeds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab_llm.h"
#include "search/strategy.h"
#include "unit/test.h"

static struct search *search_by(struct lab *lab, const char *dir, const char *strategy,
                                uint32_t lanes, uint64_t evals)
{
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, evals };

    lab->dir = dir;
    lab->worth = lab_bowl;
    if (lab->model == NULL)
        lab->model = script_sensible;
    lab->strategy = strategy;
    lab->lanes = lanes;
    lab->window = 3;
    lab_open(lab);
    return lab_search(lab, &run);
}

static void done(struct lab *lab, struct search *s)
{
    assert_int_equal(s->state, SEARCH_DONE);
    search_free(s);
    lab_close(lab);
}

static size_t count_calls(const struct search *s, enum call_kind kind)
{
    size_t n = 0;

    for (uint64_t i = 1; i <= s->calls.n; i++)
        n += calls_get(&s->calls, i)->kind == kind && calls_get(&s->calls, i)->attempt == 1;
    return n;
}

/* Nodes are one below the other nowhere. */
static void check_flat(const struct search *s)
{
    for (uint32_t i = 1; i < world_count(s->world); i++)
        assert_int_equal(world_get(s->world, i)->parent, 0);
}

static void check_kinds(const struct search *s, unsigned allowed)
{
    for (unsigned k = 0; k < CALL_KIND_COUNT; k++)
        assert_true((allowed & 1u << k) || count_calls(s, (enum call_kind)k) == 0);
}

/* ---- best-of-n ---- */

static void best_of_n_samples_know_nothing_of_each_other(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_by(&lab, *state, "best-of-n", 2, 25);
    json_auto_t *events = lab_events(s);
    json_int_t samples = 0;
    json_t *ev;
    size_t i;

    check_kinds(s, 1u << CALL_SAMPLE);
    check_flat(s);
    for (uint32_t p = 1; p < search_programs(s); p++)
        assert_int_equal(search_program_record(s, p)->parent, 0);
    json_array_foreach (events, i, ev) {
        CLEANUP(freep) char *number = str_printf("Sample %lld.", (long long)samples + 1);

        if (strcmp(jsonx_str(ev, "type", ""), "asked") != 0)
            continue;
        /* but what number it is, and what is left of the budget */
        assert_non_null(strstr(jsonx_str(ev, "prompt", ""), number));
        assert_null(strstr(jsonx_str(ev, "prompt", ""), "path="));
        samples++;
    }
    assert_true(samples > 10);
    assert_int_equal(s->cycle, samples + 1); /* the seed's, and one program in each */
    done(&lab, s);
}

/* ---- evolve ---- */

enum { ISLANDS = 3, MIGRATION = 4 };

static unsigned island_of(uint64_t cycle)
{
    return (unsigned)((cycle - 2) % ISLANDS);
}

/* The first cycle that measured a program. */
static uint64_t cycle_of(const struct search *s, uint32_t program)
{
    for (uint64_t n = 1; n <= search_measured(s); n++)
        if (search_trial(s, n)->program == program)
            return search_trial(s, n)->cycle;
    return 0;
}

/* The best program of an island before evaluation `before`; 0 is in each. */
static uint32_t best_of(const struct search *s, unsigned island, uint64_t before)
{
    int64_t best_q = search_trial(s, 1)->objective_q;
    uint32_t best = 0;

    for (uint64_t n = 2; n < before; n++) {
        const struct trial *t = search_trial(s, n);

        if (t->ok && island_of(t->cycle) == island && t->objective_q > best_q) {
            best_q = t->objective_q;
            best = t->program;
        }
    }
    return best;
}

static void evolution_stays_on_its_islands_but_for_migrations(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_by(&lab, *state, "evolve", 1, 60);
    size_t migrants = 0, mutants = 0;

    check_kinds(s, 1u << CALL_MUTATE);
    check_flat(s);
    assert_int_equal(count_calls(s, CALL_MUTATE) + 1, s->cycle);
    for (uint64_t n = 2; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);
        uint64_t turn = (t->cycle - 2) / ISLANDS;
        uint32_t parent = search_program_record(s, t->program)->parent;

        if (search_trial(s, n - 1)->program == t->program)
            continue; /* tuning */
        mutants++;
        if (turn > 0 && turn % MIGRATION == 0) {
            unsigned neighbour = (island_of(t->cycle) + 1) % ISLANDS;

            assert_int_equal(parent, best_of(s, neighbour, n));
            migrants++;
        } else if (parent != 0) {
            assert_int_equal(island_of(cycle_of(s, parent)), island_of(t->cycle));
        }
    }
    assert_true(mutants > 10 && migrants > 1);
    done(&lab, s);
}

/* A repair that comes after another lane's measurement is still about the same program. */
static char *second_try(struct lab *lab, const struct llm_request *req)
{
    return req->attempt == 1 && script_call(req) % 2 ? xstrdup("Wait.") : script_sensible(lab, req);
}

static void a_mutation_that_is_repaired_changes_the_same_program(void **state)
{
    struct lab lab = { .slow = true, .model = second_try };
    struct search *s = search_by(&lab, *state, "evolve", 3, 40);
    json_auto_t *events = lab_events(s);
    const char *first[LANES_MAX] = { 0 };
    size_t i, repaired = 0;
    json_t *ev;

    json_array_foreach (events, i, ev) {
        const char *at = strstr(jsonx_str(ev, "prompt", ""), "## The program to change");
        json_int_t lane = jsonx_int(ev, "lane", 0);

        if (strcmp(jsonx_str(ev, "type", ""), "asked") != 0)
            continue;
        assert_non_null(at);
        if (jsonx_int(ev, "try", 0) == 1) {
            first[lane] = at;
        } else {
            size_t head = strcspn(first[lane], ",:"); /* "... Program 3" */

            assert_memory_equal(at, first[lane], head);
            repaired++;
        }
    }
    assert_true(repaired > 3);
    done(&lab, s);
}

/* ---- flat and no-refine ---- */

static void a_flat_list_starts_every_cycle_from_the_champion(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_by(&lab, *state, "flat", 1, 50);
    json_auto_t *events = lab_events(s);
    json_int_t champion = 0;
    size_t i, moved = 0;
    json_t *ev;

    check_flat(s);
    check_kinds(s, 1u << CALL_INIT | 1u << CALL_PROPOSE | 1u << CALL_REFINE | 1u << CALL_TOO_HARD |
                       1u << CALL_CODE | 1u << CALL_DEBUG | 1u << CALL_IMPROVE);
    json_array_foreach (events, i, ev) {
        const char *type = jsonx_str(ev, "type", "");

        if (strcmp(type, "measured") == 0 && jsonx_bool(ev, "improved", 0))
            champion =
                (json_int_t)search_trial(s, (uint64_t)jsonx_int(ev, "evaluation", 0))->program;
        if (strcmp(type, "cycle") != 0)
            continue;
        assert_int_equal(jsonx_int(ev, "program", -1), champion);
        moved += champion != 0;
    }
    assert_true(moved > 2);
    /* a list of three or more is enough: it is not asked for more before every cycle */
    assert_true(count_calls(s, CALL_PROPOSE) < s->cycle - 1);
    done(&lab, s);
}

static void without_refinement_nobody_is_told_of_a_cycle(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_by(&lab, *state, "no-refine", 1, 50);

    assert_int_equal(count_calls(s, CALL_REFINE) + count_calls(s, CALL_TOO_HARD), 0);
    assert_int_equal(count_calls(s, CALL_INIT), 1);
    assert_true(count_calls(s, CALL_PROPOSE) > 0); /* a best node without a child */
    assert_true(s->cycle > 3);
    done(&lab, s);
}

/* ---- What is equal between them ---- */

/* Mean over the evaluations of the log of the best so far. */
static double area(const struct search *s)
{
    double sum = 0;

    for (uint64_t n = 1; n <= search_measured(s); n++)
        sum += 1e-6 * (double)search_trial(s, n)->best_q;
    return sum / (double)search_measured(s);
}

enum { SEEDS_MAX = 64 };

struct score {
    double area[SEEDS_MAX];
    double best, asked, tokens; /* sums over the seeds */
};

static void add_score(struct lab *lab, const char *strategy, uint64_t seed, struct score *sum)
{
    char id[32];
    struct lab_run run = { id, "lab_a", "n=4", true, seed, 60 };
    struct script script = { .seed = seed };
    struct search *s;

    snprintf(id, sizeof(id), "%.12s%u", strategy, (unsigned)seed);
    lab->strategy = strategy;
    lab->model_ctx = &script;
    lab->asked = 0;
    s = lab_search(lab, &run);
    if (search_measured(s) != 60)
        fail_msg("%s ended after %llu evaluations: %s", id, (unsigned long long)search_measured(s),
                 s->reason);
    sum->area[seed - 1] = area(s);
    sum->best += 1e-6 * (double)search_best_q(s);
    sum->asked += (double)lab->asked;
    sum->tokens += (double)s->tokens;
    /* equal evaluations, the same seed, all of it in its curve */
    assert_int_equal(search_trial(s, 1)->program, 0);
    search_free(s);
}

static size_t count_names(void)
{
    size_t n = 0;

    while (strategy_names[n])
        n++;
    return n;
}

/* The area beside that of the last strategy, best-of-n, by seed: factor, and its 95 % interval. */
static void print_row(const char *name, const struct score *s, const struct score *of, uint64_t n)
{
    double mean = 0, square = 0, error;

    for (uint64_t i = 0; i < n; i++)
        mean += (s->area[i] - of->area[i]) / (double)n;
    for (uint64_t i = 0; i < n; i++)
        square += pow(s->area[i] - of->area[i] - mean, 2);
    error = n > 1 ? 1.96 * sqrt(square / (double)(n - 1) / (double)n) : 0;
    printf("| %s | %.2f (%.2f to %.2f) | %.2fx | %.0f | %.0f |\n", name, exp(mean),
           exp(mean - error), exp(mean + error), exp(s->best / (double)n), s->asked / (double)n,
           s->tokens / (double)n);
}

static void strategies_spend_equal_evaluations(void **state)
{
    const char *given = getenv("KS_STRATEGY_SEEDS");
    uint64_t seeds = given ? MIN(strtoull(given, NULL, 10), (uint64_t)SEEDS_MAX) : 2;
    struct score scores[8] = { 0 };
    struct lab lab = {
        .dir = *state, .worth = lab_bowl, .model = script_sensible, .lanes = 1, .window = 3
    };

    lab_open(&lab);
    for (size_t k = 0; strategy_names[k]; k++)
        for (uint64_t seed = 1; seed <= seeds; seed++)
            add_score(&lab, strategy_names[k], seed, &scores[k]);
    for (size_t k = 0; given && strategy_names[k]; k++)
        print_row(strategy_names[k], &scores[k], &scores[count_names() - 1], seeds);
    for (size_t k = 0; strategy_names[k]; k++)
        assert_true(scores[k].best > 0);
    lab_close(&lab);
}

static void there_is_no_other_strategy(void **state)
{
    (void)state;
    assert_null(strategy_find("greedy"));
    assert_null(strategy_find(""));
    for (size_t k = 0; strategy_names[k]; k++)
        assert_string_equal(strategy_find(strategy_names[k])->name, strategy_names[k]);
    assert_string_equal(strategy_names[0], "world-model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
        T(best_of_n_samples_know_nothing_of_each_other),
        T(evolution_stays_on_its_islands_but_for_migrations),
        T(a_mutation_that_is_repaired_changes_the_same_program),
        T(a_flat_list_starts_every_cycle_from_the_champion),
        T(without_refinement_nobody_is_told_of_a_cycle),
        T(strategies_spend_equal_evaluations),
        T(there_is_no_other_strategy),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
