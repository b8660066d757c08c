/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/select.h"
#include "unit/test.h"

#define PROGRAM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void add(struct world *w, const char *parent, const char *id, double score, int difficulty,
                double rating)
{
    struct world_edit e;
    struct err err;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_add(&e, WORLD_OP_INSERT, parent);
    world_spec_text(&e.ops[0].spec, WORLD_SET_ID, id);
    world_spec_text(&e.ops[0].spec, WORLD_SET_TITLE, id);
    world_spec_number(&e.ops[0].spec, WORLD_SET_SCORE, score);
    world_spec_number(&e.ops[0].spec, WORLD_SET_DIFFICULTY, difficulty);
    world_spec_number(&e.ops[0].spec, WORLD_SET_RATING, rating);
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
}

static void attach(struct world *w, const char *id, double ratio)
{
    struct world_edit e;
    struct err err;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_attach(&e, id, PROGRAM, "{}", "ok", llround(1e6 * log(ratio)), 0, 1);
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
}

static void fail_cycle(struct world *w, const char *id)
{
    struct world_edit e;
    struct err err;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_fail_cycle(&e, id, WORLD_FAILED_CYCLES_MAX, "mute");
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
}

/* The conformance vectors of the lexicographic policy. */
static void lexicographic_choices_match_the_vectors(void **state)
{
    static const struct {
        struct {
            double score;
            int difficulty;
            double rating;
            const char *id;
        } nodes[2];
        const char *chosen;
        bool dropped;
    } rows[] = {
        { { { 0.8, 5, 9, "a" }, { 0.6, 2, 5, "b" } }, "b", false },
        { { { 0.8, 5, 9, "a" }, { 0.9, 5, 1, "b" } }, "b", true },
        { { { 0.7, 3, 5, "a" }, { 0.7, 2, 1, "b" } }, "b", false },
        { { { 0.7, 2, 5, "n10" }, { 0.7, 2, 5, "n9" } }, "n10", false },
    };

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        size_t row = i / 2, first = i % 2; /* in either order of insertion */
        struct select_params p = select_defaults();
        struct world *w = world_new();
        struct select_choice c;

        for (size_t k = 0; k < 2; k++) {
            size_t n = k ^ first;

            add(w, "root", rows[row].nodes[n].id, rows[row].nodes[n].score,
                rows[row].nodes[n].difficulty, rows[row].nodes[n].rating);
        }
        p.policy = SELECT_LEXICOGRAPHIC;
        assert_true(select_next(w, &p, &c));
        assert_string_equal(c.chosen.id, rows[row].chosen);
        assert_int_equal(c.gate_dropped, rows[row].dropped);
        assert_int_equal(c.gate, 4);
        assert_int_equal(c.frontier, 2);
        world_free(w);
    }
}

static void relaxing_the_gate_never_tightens_it(void **state)
{
    struct select_params p = select_defaults();
    struct world *w = world_new();
    struct select_choice c;

    (void)state;
    p.policy = SELECT_LEXICOGRAPHIC;
    p.max_difficulty = 2;
    add(w, "root", "done", 0.5, 1, 5);
    add(w, "root", "hard", 0.9, 4, 5);
    add(w, "root", "easy", 0.1, 1, 5);
    attach(w, "done", 0.49);
    assert_true(select_next(w, &p, &c));
    assert_string_equal(c.chosen.id, "easy");
    p.max_difficulty = 5;
    assert_true(select_next(w, &p, &c) && c.gate == 5);
    add(w, "root", "better", 0.05, 1, 5);
    attach(w, "better", 0.51);
    assert_true(select_next(w, &p, &c) && c.gate == 5);
    p.max_difficulty = 2;
    assert_true(select_next(w, &p, &c));
    assert_int_equal(c.gate, 4);
    assert_string_equal(c.chosen.id, "hard");
    world_free(w);
}

static void the_utility_is_the_documented_sum(void **state)
{
    struct select_params p = select_defaults();
    struct world *w = world_new();
    struct select_choice c;
    struct world_edit e;
    uint32_t flying;
    struct err err;

    (void)state;
    add(w, "root", "base", 0.5, 1, 5);
    add(w, "root", "best", 0.5, 1, 5);
    attach(w, "base", 1.5);
    attach(w, "best", 3.0);
    add(w, "base", "child", 0.8, 3, 6);
    add(w, "base", "sibling", 0.1, 5, 0);
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_add(&e, WORLD_OP_UPDATE, "child");
    world_spec_number(&e.ops[0].spec, WORLD_SET_CONFIDENCE, 0.4);
    world_edit_fail_cycle(&e, "child", 2, "once");
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    flying = world_find(w, "sibling");
    p.in_flight = &flying;
    p.n_in_flight = 1;
    assert_true(select_next(w, &p, &c));
    assert_string_equal(c.chosen.id, "child");
    assert_int_equal(c.frontier, 1);
    assert_true(fabs(c.chosen.parent_quality - 0.5) < 1e-6);
    assert_true(fabs(c.chosen.utility - (3.0 * 0.8 + 0.5 * 0.6 + 0.25 * 0.4 + 1.5 * 0.5 -
                                         2.5 * 2 / 4 - 0.75 - 0.5)) < 1e-6);
    p.budget_left = 0;
    assert_true(select_next(w, &p, &c) && c.chosen.difficulty_scale == 1.25);
    p.budget_left = 1;
    assert_true(select_next(w, &p, &c) && c.chosen.difficulty_scale == 0.75);
    world_free(w);
}

static void a_child_of_an_unsolved_root_has_half_quality_and_a_bonus(void **state)
{
    struct select_params p = select_defaults();
    struct world *w = world_new();
    struct select_choice c;

    (void)state;
    add(w, "root", "only", 0.5, 1, 0);
    assert_true(select_next(w, &p, &c));
    assert_true(fabs(c.chosen.utility - (1.5 + 0.75 + 0.15)) < 1e-12);
    assert_false(c.has_runner_up);
    world_free(w);
}

static void ties_are_broken_by_the_seed_and_nothing_else(void **state)
{
    struct select_params p = select_defaults();
    int first = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 64; seed++) {
        char chosen[2][WORLD_ID_MAX + 1];

        p.seed = seed;
        for (int order = 0; order < 2; order++) {
            struct world *w = world_new();
            struct select_choice c;

            add(w, "root", order ? "b" : "a", 0.5, 2, 5);
            add(w, "root", order ? "a" : "b", 0.5, 2, 5);
            assert_true(select_next(w, &p, &c));
            memcpy(chosen[order], c.chosen.id, sizeof(chosen[order]));
            world_free(w);
        }
        assert_string_equal(chosen[0], chosen[1]);
        first += chosen[0][0] == 'a';
    }
    assert_true(first > 16 && first < 48);
}

static void a_choice_can_be_stored_and_explained(void **state)
{
    static const enum select_policy policies[] = { SELECT_UTILITY, SELECT_LEXICOGRAPHIC };
    struct world *w = world_new();

    (void)state;
    add(w, "root", "first", 0.9, 2, 5);
    add(w, "root", "second", 0.9, 3, 5);
    add(w, "root", "third", 0.1, 3, 5);
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        CLEANUP(buf_release) struct buf out = { .max = 4096 };
        CLEANUP(freep) char *text = NULL;
        CLEANUP(freep) char *again = NULL;
        json_auto_t *j = NULL, *parsed = NULL, *printed = NULL;
        struct select_params p = select_defaults();
        struct select_choice c, read;
        struct err err;

        p.policy = policies[i];
        assert_true(select_next(w, &p, &c));
        assert_string_equal(c.runner_up.id, "second");
        j = select_choice_to_json(&c);
        text = jsonx_canonical(j);
        assert_ok(jsonx_parse(text, strlen(text), "choice", &parsed, &err), err);
        assert_ok(select_choice_from_json(parsed, &read, &err), err);
        printed = select_choice_to_json(&read);
        again = jsonx_canonical(printed);
        assert_string_equal(text, again);
        assert_ok(select_explain(&read, &out, &err), err);
        assert_non_null(strstr(buf_str(&out), "Node first was chosen among 3 executable nodes"));
        assert_non_null(strstr(buf_str(&out), "Node second"));
        json_object_set_new(parsed, "surprise", json_true());
        assert_fails(select_choice_from_json(parsed, &read, &err), err, ERR_INVALID);
    }
    assert_int_equal(select_policy_from_name("lexicographic"), SELECT_LEXICOGRAPHIC);
    assert_int_equal(select_policy_from_name("luck"), SELECT_POLICY_COUNT);
    world_free(w);
}

static void a_correction_weighs_scores_against_the_rest(void **state)
{
    struct score_correction blind = { 0, 0.3, 40 }, none = score_correction_none();
    struct select_params p = select_defaults();
    struct world *w = world_new();
    struct buf text = { .max = 4000 };
    struct select_choice c, read;
    struct err err;
    json_t *j;

    (void)state;
    add(w, "root", "loud", 0.95, 3, 5);
    add(w, "root", "easy", 0.6, 2, 5);
    assert_true(select_next(w, &p, &c));
    assert_string_equal(c.chosen.id, "loud");
    p.correction = &none; /* changes nothing */
    assert_true(select_next(w, &p, &read));
    assert_memory_equal(&c, &read, sizeof(c));
    p.correction = &blind; /* this author's scores say nothing: the easier node is next */
    assert_true(select_next(w, &p, &c));
    assert_string_equal(c.chosen.id, "easy");
    assert_true(c.chosen.score == 0.6 && c.chosen.corrected == 0.3);
    /* both are stored and told, and read back */
    j = select_choice_to_json(&c);
    assert_ok(select_choice_from_json(j, &read, &err), err);
    assert_true(read.chosen.score == 0.6 && read.chosen.corrected == 0.3);
    assert_ok(select_explain(&read, &text, &err), err);
    assert_non_null(strstr(buf_str(&text), "score 0.60, corrected to 0.30, gives +0.900"));
    /* a choice stored before there were corrections */
    json_object_del(json_object_get(j, "chosen"), "corrected");
    json_object_del(json_object_get(j, "runner_up"), "corrected");
    assert_ok(select_choice_from_json(j, &read, &err), err);
    assert_true(read.chosen.corrected == 0.6 && read.runner_up.corrected == 0.95);
    json_decref(j);
    /* the reference policy knows no corrections */
    p.policy = SELECT_LEXICOGRAPHIC;
    assert_true(select_next(w, &p, &c));
    assert_string_equal(c.chosen.id, "loud");
    assert_true(c.chosen.corrected == 0.95);
    buf_release(&text);
    world_free(w);
}

static void proposals_are_needed_when_the_frontier_runs_dry(void **state)
{
    struct world *w = world_new();

    (void)state;
    assert_true(select_needs_proposals(w));
    add(w, "root", "a", 0.5, 2, 5);
    add(w, "root", "b", 0.5, 2, 5);
    add(w, "root", "c", 0.5, 2, 5);
    assert_false(select_needs_proposals(w));
    add(w, "root", "d", 0.5, 2, 5);
    attach(w, "a", 2);
    assert_true(select_needs_proposals(w)); /* the best has no child to go on from */
    add(w, "a", "next", 0.5, 5, 5);
    assert_false(select_needs_proposals(w));
    assert_false(select_has_continuation(w, world_find(w, "a"))); /* too hard to count */
    add(w, "a", "easier", 0.5, 4, 5);
    assert_true(select_has_continuation(w, world_find(w, "a")));
    world_free(w);
}

static void fallbacks_always_find_a_place(void **state)
{
    struct world *w = world_new();
    struct world_edit e;
    struct err err;

    (void)state;
    for (uint64_t i = 0; i < 5; i++) {
        select_best_edit(w, i, &e);
        assert_ok(world_apply(w, &e, NULL, &err), err);
        world_edit_release(&e);
    }
    assert_int_equal(world_get(w, 0)->n_children, 5);
    assert_true(world_get(w, 1)->action.score == 0.60 && world_get(w, 1)->action.difficulty == 2);
    assert_string_equal(world_get(w, 1)->notes, "auto best continuation");
    attach(w, "n2", 2);
    select_continuation_edit(w, 2, 9, &e);
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    assert_true(select_has_continuation(w, 2));
    assert_true(world_get(w, 6)->action.score == 0.35);
    assert_true(world_get(w, 6)->confidence == 0.2);
    assert_string_equal(world_get(w, 6)->evidence.parent_program, PROGRAM);
    select_best_edit(w, 9, &e);
    assert_string_equal(e.ops[0].node, "n2");
    world_edit_release(&e);
    world_free(w);
}

/* T1: a model that never edits anything. No node is cycled more often than the limit, and the
 * search ends when nothing is left. */
static void a_mute_model_never_repeats_a_node_beyond_the_limit(void **state)
{
    static const enum select_policy policies[] = { SELECT_UTILITY, SELECT_LEXICOGRAPHIC };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        struct select_params p = select_defaults();
        struct world *w = world_new();
        unsigned cycles = 0, times[8] = { 0 };
        struct select_choice c;

        p.policy = policies[i];
        for (int n = 0; n < 6; n++) {
            char id[8];

            snprintf(id, sizeof(id), "a%d", n);
            add(w, n < 4 ? "root" : "a0", id, 0.1 * n, 1 + n % 5, n);
        }
        while (select_next(w, &p, &c)) {
            assert_true(++times[c.chosen.node] <= WORLD_FAILED_CYCLES_MAX);
            assert_true(++cycles <= 8);
            fail_cycle(w, c.chosen.id);
        }
        assert_int_equal(cycles, 4 * WORLD_FAILED_CYCLES_MAX);
        assert_int_equal(select_frontier(w, NULL, 0), 0);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lexicographic_choices_match_the_vectors),
        cmocka_unit_test(relaxing_the_gate_never_tightens_it),
        cmocka_unit_test(the_utility_is_the_documented_sum),
        cmocka_unit_test(a_child_of_an_unsolved_root_has_half_quality_and_a_bonus),
        cmocka_unit_test(ties_are_broken_by_the_seed_and_nothing_else),
        cmocka_unit_test(a_choice_can_be_stored_and_explained),
        cmocka_unit_test(a_correction_weighs_scores_against_the_rest),
        cmocka_unit_test(proposals_are_needed_when_the_frontier_runs_dry),
        cmocka_unit_test(fallbacks_always_find_a_place),
        cmocka_unit_test(a_mute_model_never_repeats_a_node_beyond_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
