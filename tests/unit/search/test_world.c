/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/world.h"
#include "search/world_ops.h"
#include "unit/test.h"

#define PROGRAM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static uint32_t insert(struct world *w, const char *parent, const char *title, double score)
{
    struct world_edit e;
    struct world_report report = { 0 };
    struct err err;
    uint32_t at;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_add(&e, WORLD_OP_INSERT, parent);
    world_spec_text(&e.ops[0].spec, WORLD_SET_TITLE, title);
    world_spec_number(&e.ops[0].spec, WORLD_SET_SCORE, score);
    assert_ok(world_apply(w, &e, &report, &err), err);
    assert_int_equal(report.n_inserted, 1);
    at = report.inserted[0];
    world_report_release(&report);
    world_edit_release(&e);
    return at;
}

static void attach(struct world *w, uint32_t node, int64_t objective_q, uint64_t evaluation)
{
    struct world_edit e;
    struct err err;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", evaluation);
    world_edit_attach(&e, world_get(w, node)->id, PROGRAM, "{\"TILE\": 8}", "ok", objective_q, 9000,
                      evaluation);
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
}

static void an_empty_world_is_a_root_that_holds_every_invariant(void **state)
{
    struct world *w = world_new();
    struct err err;

    (void)state;
    assert_ok(world_check(w, &err), err);
    assert_int_equal(world_count(w), 1);
    assert_int_equal(world_get(w, 0)->kind, WORLD_ROOT);
    assert_int_equal(world_get(w, 0)->parent, WORLD_NONE);
    assert_int_equal(world_find(w, "root"), 0);
    assert_int_equal(world_find(w, "n1"), WORLD_NONE);
    assert_int_equal(world_best(w), WORLD_NONE);
    assert_false(world_is_executable(w, 0));
    world_free(w);
}

static void a_child_is_executable_only_once_its_parent_is_closed(void **state)
{
    struct world *w = world_new();
    uint32_t a, b;

    (void)state;
    a = insert(w, "root", "Tile the keys", 0.5);
    b = insert(w, world_get(w, a)->id, "Unroll the tile", 0.5);
    assert_true(world_is_executable(w, a));
    assert_false(world_is_executable(w, b));
    attach(w, a, 100000, 3);
    assert_false(world_is_executable(w, a));
    assert_true(world_is_executable(w, b));
    assert_string_equal(world_get(w, a)->evidence.program, PROGRAM);
    assert_string_equal(world_get(w, a)->evidence.assignment, "{\"TILE\":8}");
    world_free(w);
}

static void the_best_node_is_the_first_of_the_greatest_objective(void **state)
{
    struct world *w = world_new();
    uint32_t a, b, c;

    (void)state;
    a = insert(w, "root", "a", 0.5);
    b = insert(w, "root", "b", 0.5);
    c = insert(w, "root", "c", 0.5);
    attach(w, a, -5000, 1);
    assert_int_equal(world_best(w), a);
    attach(w, c, 700000, 2);
    attach(w, b, 700000, 3);
    assert_int_equal(world_best(w), b);
    world_free(w);
}

static void commitments_are_read_along_the_path(void **state)
{
    struct world *w = world_new();
    struct world_edit e;
    struct err err;
    json_auto_t *all = NULL;

    (void)state;
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 0);
    world_edit_add(&e, WORLD_OP_INSERT, "root");
    world_spec_text(&e.ops[0].spec, WORLD_SET_ID, "top");
    world_spec_text(&e.ops[0].spec, WORLD_SET_TITLE, "top");
    world_spec_commit(&e.ops[0].spec, "SOFTMAX", "online");
    world_spec_commit(&e.ops[0].spec, "LAYOUT", "rows");
    world_edit_add(&e, WORLD_OP_INSERT, "top");
    world_spec_text(&e.ops[1].spec, WORLD_SET_ID, "below");
    world_spec_text(&e.ops[1].spec, WORLD_SET_TITLE, "below");
    world_spec_commit(&e.ops[1].spec, "UNROLL", "4");
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    assert_string_equal(world_commitment(w, world_find(w, "below"), "SOFTMAX"), "online");
    assert_string_equal(world_commitment(w, world_find(w, "below"), "UNROLL"), "4");
    assert_null(world_commitment(w, world_find(w, "top"), "UNROLL"));
    all = world_commitments_to_json(w, world_find(w, "below"));
    assert_int_equal(json_object_size(all), 3);
    assert_string_equal(jsonx_str(all, "LAYOUT", ""), "rows");
    world_free(w);
}

static void the_text_shows_beliefs_evidence_and_why_a_node_was_abandoned(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 16 };
    CLEANUP(buf_release) struct buf small = { .max = 40 };
    struct world *w = world_new();
    struct world_edit e;
    struct err err;
    uint32_t a;

    (void)state;
    a = insert(w, "root", "Tile the keys\x1b[31m", 0.8);
    insert(w, world_get(w, a)->id, "Unroll", 0.4);
    insert(w, "root", "Give up", 0.2);
    attach(w, a, 693147, 7);
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 8);
    world_edit_attempt(&e, "n3", "wrong_value");
    world_edit_attempt(&e, "n3", "wrong_value");
    world_edit_abandon(&e, "n3", "it cannot work");
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    assert_ok(world_render_text(w, &out, &err), err);
    assert_non_null(strstr(buf_str(&out), "[ ] root  specification\n  [x] n1  Tile the keys\\x1b"));
    assert_non_null(strstr(buf_str(&out), "2.000x (sd 0.90%, evaluation 7)"));
    assert_non_null(strstr(buf_str(&out), "\n    [ ] n2  Unroll"));
    assert_non_null(strstr(buf_str(&out), "attempts 2 (wrong_value 2)  abandoned: it cannot work"));
    assert_fails(world_render_text(w, &small, &err), err, ERR_LIMIT);
    buf_clear(&out);
    assert_ok(world_action_text(w, 2, &out, &err), err);
    assert_non_null(strstr(buf_str(&out), "Base node: n1\nAction: Unroll\n"));
    world_free(w);
}

static void a_tree_of_the_full_size_is_found_by_id_and_title(void **state)
{
    struct world *w = world_new();
    struct err err;
    struct rng r = rng_seeded(7);
    uint32_t n = 1;

    (void)state;
    while (n < WORLD_NODES_MAX) {
        struct world_edit e;
        uint32_t batch = MIN(WORLD_SYSTEM_NEW_MAX, WORLD_NODES_MAX - n);

        world_edit_init(&e, WORLD_BY_SYSTEM, "test", 0);
        for (uint32_t i = 0; i < batch; i++) {
            uint32_t parent = (uint32_t)rng_below(&r, n);
            char text[32];

            while (world_get(w, parent)->depth >= WORLD_DEPTH_MAX)
                parent = (uint32_t)rng_below(&r, n);
            snprintf(text, sizeof(text), "step %u", n + i);
            world_edit_add(&e, WORLD_OP_INSERT, world_get(w, parent)->id);
            world_spec_text(&e.ops[i].spec, WORLD_SET_TITLE, text);
        }
        assert_ok(world_apply(w, &e, NULL, &err), err);
        world_edit_release(&e);
        n += batch;
    }
    assert_int_equal(world_count(w), WORLD_NODES_MAX);
    for (uint32_t i = 1; i < n; i++)
        assert_int_equal(world_find(w, world_get(w, i)->id), i);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_world_is_a_root_that_holds_every_invariant),
        cmocka_unit_test(a_child_is_executable_only_once_its_parent_is_closed),
        cmocka_unit_test(the_best_node_is_the_first_of_the_greatest_objective),
        cmocka_unit_test(commitments_are_read_along_the_path),
        cmocka_unit_test(the_text_shows_beliefs_evidence_and_why_a_node_was_abandoned),
        cmocka_unit_test(a_tree_of_the_full_size_is_found_by_id_and_title),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
