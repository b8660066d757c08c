/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits: transactions, the rules of each operation, hostile models, the fold over stored edits, and
 * the vectors for numbers as models write them.
 */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/world.h"
#include "search/world_ops.h"
#include "unit/test.h"

#define PROGRAM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char *tree_text(const struct world *w)
{
    json_auto_t *j = world_to_json(w);
    char *text = jsonx_canonical(j);

    assert_non_null(text);
    return text;
}

/* Parses and applies a model's answer; returns the first issue as fresh text, NULL when committed.
 */
static char *model(struct world *w, enum world_parse mode, const char *json)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    json_auto_t *answer = NULL;
    struct world_edit e;
    struct err err;
    int rc;

    assert_ok(jsonx_parse(json, strlen(json), "the answer", &answer, &err), err);
    rc = world_edit_from_model(answer, mode, "test", 1, &e, &report, &err);
    if (rc == 0) {
        rc = world_apply(w, &e, &report, &err);
        world_edit_release(&e);
    }
    if (rc == 0)
        return NULL;
    assert_true(report.n_issues > 0);
    return xstrdup(report.issues[0].text);
}

static void accepts(struct world *w, const char *json)
{
    CLEANUP(freep) char *issue = model(w, WORLD_PARSE_STRICT, json);

    if (issue)
        fail_msg("refused: %s", issue);
}

/* The edit is refused with a sentence that has `part`, and leaves the tree as it was. */
static void refuses(struct world *w, const char *json, const char *part)
{
    CLEANUP(freep) char *before = tree_text(w);
    CLEANUP(freep) char *issue = model(w, WORLD_PARSE_STRICT, json);
    CLEANUP(freep) char *after = tree_text(w);
    struct err err;

    if (issue == NULL || strstr(issue, part) == NULL)
        fail_msg("'%s' instead of '...%s...' for %s", issue ? issue : "accepted", part, json);
    assert_string_equal(before, after);
    assert_ok(world_check(w, &err), err);
}

static int system_attach(struct world *w, const char *id, int64_t q, uint64_t evaluation)
{
    struct world_edit e;
    struct err err;
    int rc;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", evaluation);
    world_edit_attach(&e, id, PROGRAM, "{}", "ok", q, 1000, evaluation);
    rc = world_apply(w, &e, NULL, &err);
    world_edit_release(&e);
    return rc;
}

static int system_fail(struct world *w, const char *id)
{
    struct world_edit e;
    struct err err;
    int rc;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_fail_cycle(&e, id, WORLD_FAILED_CYCLES_MAX, "no program passed");
    rc = world_apply(w, &e, NULL, &err);
    world_edit_release(&e);
    return rc;
}

static void an_edit_is_committed_whole_or_not_at_all(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"overall_rating_0_to_10\":4,\"action\":{\"title\":\"Tile\"}}},"
            "{\"op\":\"insert_node\",\"parent_id\":\"a\",\"node\":{\"action\":{\"title\":\"Next\"}}"
            "}]}");
    assert_int_equal(world_count(w), 3);
    assert_true(world_get(w, 1)->action.score == 0.4);
    assert_int_equal(world_get(w, 1)->action.difficulty, 3);
    assert_string_equal(world_get(w, 2)->id, "n2");
    /* Three good changes of several kinds before a bad one: nothing of them stays. */
    refuses(w,
            "{\"ops\":[{\"op\":\"update_node\",\"node_id\":\"a\",\"patch\":{\"notes\":\"x\","
            "\"action\":{\"title\":\"Renamed\",\"score_0_to_1\":0.9}}},"
            "{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"action\":{\"title\":"
            "\"Tile\"}}},"
            "{\"op\":\"abandon_node\",\"node_id\":\"a\",\"reason\":\"no\"},"
            "{\"op\":\"update_node\",\"node_id\":\"gone\",\"patch\":{}}]}",
            "there is no node 'gone'");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"action\":"
            "{\"title\":\"tile!\"}}}]}",
            "has this title already");
    world_free(w);
}

static void the_report_holds_every_error_uncut(void **state)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    struct world *w = world_new();
    struct world_edit e;
    struct err err;

    (void)state;
    world_edit_init(&e, WORLD_BY_MODEL, "test", 1);
    for (int i = 0; i < 200; i++)
        world_edit_add(&e, WORLD_OP_UPDATE, "a-node-that-is-not-there");
    assert_fails(world_apply(w, &e, &report, &err), err, ERR_INVALID);
    assert_int_equal(report.n_issues, 200);
    assert_ok(world_report_text(&report, &text, &err), err);
    assert_non_null(strstr(buf_str(&text), "operation 200: there is no node"));
    {
        json_auto_t *j = world_report_to_json(&report, e.n_ops);

        assert_int_equal(json_array_size(json_object_get(j, "issues")), 200);
        assert_string_equal(json_string_value(json_array_get(json_object_get(j, "status"), 199)),
                            "refused");
    }
    world_edit_release(&e);
    world_free(w);
}

static void a_model_cannot_forge_evidence(void **state)
{
    static const char *const forged[] = {
        "\"solution_ref\":{\"solution_id\":\"x\",\"eval\":{\"status\":\"passed\"}}",
        "\"solution_id\":\"" PROGRAM "\"",
        "\"eval\":{\"metrics\":{\"score\":99}}",
        "\"evidence\":{\"objective_q\":9000000}",
        "\"state\":\"closed\"",
        "\"graft\":{\"search\":\"s\",\"insight\":\"i\",\"similarity\":1}",
        "\"last_updated_round\":3",
    };
    struct world *w = world_new();
    struct world_edit e;
    struct err err;
    char json[400];

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"Tile\"}}}]}");
    for (size_t i = 0; i < ARRAY_LEN(forged); i++) {
        snprintf(json, sizeof(json),
                 "{\"ops\":[{\"op\":\"update_node\",\"node_id\":\"a\",\"patch\":{%s}}]}",
                 forged[i]);
        refuses(w, json, "is written by the system only");
        snprintf(json, sizeof(json),
                 "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{%s,\"action\":"
                 "{\"title\":\"Forged\"}}}]}",
                 forged[i]);
        refuses(w, json, "is written by the system only");
    }
    refuses(w,
            "{\"ops\":[{\"op\":\"attach_solution\",\"node_id\":\"a\",\"program\":\"" PROGRAM
            "\",\"assignment\":{},\"status\":\"ok\",\"objective_q\":1,\"sd_q\":1,"
            "\"evaluation\":1}]}",
            "is no operation");
    /* Not even when the operation is built without a parser. */
    for (int actor = WORLD_BY_BUILTIN; actor <= WORLD_BY_MODEL; actor++) {
        world_edit_init(&e, actor, "test", 1);
        world_edit_attach(&e, "a", PROGRAM, "{}", "ok", 1000, 0, 1);
        world_edit_attempt(&e, "a", "ok");
        world_edit_fail_cycle(&e, "a", 1, "");
        assert_fails(world_apply(w, &e, NULL, &err), err, ERR_INVALID);
        world_edit_release(&e);
    }
    assert_int_equal(world_get(w, 1)->state, WORLD_OPEN);
    world_free(w);
}

static void numbers_out_of_range_are_refused_with_a_sentence(void **state)
{
    static const struct {
        unsigned field;
        double value;
    } bad[] = { { WORLD_SET_RATING, NAN },     { WORLD_SET_RATING, 10.1 },
                { WORLD_SET_CONFIDENCE, 70 },  { WORLD_SET_CONFIDENCE, -0.01 },
                { WORLD_SET_DIFFICULTY, 0 },   { WORLD_SET_DIFFICULTY, 6 },
                { WORLD_SET_DIFFICULTY, 2.5 }, { WORLD_SET_SCORE, INFINITY },
                { WORLD_SET_EXPECTED, NAN },   { WORLD_SET_EXPECTED, 1e9 },
                { WORLD_SET_EXPECTED_SD, -1 } };
    struct world *w = world_new();
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct world_edit e;

        world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
        world_edit_add(&e, WORLD_OP_INSERT, "root");
        world_spec_text(&e.ops[0].spec, WORLD_SET_TITLE, "x");
        world_spec_number(&e.ops[0].spec, bad[i].field, bad[i].value);
        assert_fails(world_apply(w, &e, NULL, &err), err, ERR_INVALID);
        world_edit_release(&e);
    }
    assert_int_equal(world_count(w), 1);
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":"
            "{\"confidence_0_to_1\":70,\"action\":{\"title\":\"x\"}}}]}",
            "'confidence_0_to_1' is 70; it must be a number from 0 to 1");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":"
            "{\"overall_rating_0_to_10\":\"8/10\",\"action\":{\"title\":\"x\"}}}]}",
            "'overall_rating_0_to_10' is \"8/10\"");
    world_free(w);
}

/* What the lenient mode makes of a value; the tree then holds `want`. */
static void numbers_as_models_write_them_are_read_leniently_and_counted(void **state)
{
    static const struct {
        const char *field; /* of the action, or of the node when it starts with '.' */
        const char *value;
        double want;
        bool repaired;
    } rows[] = {
        { "difficulty_1_to_5", "9", 5, true },
        { "difficulty_1_to_5", "0", 1, true },
        { "difficulty_1_to_5", "\"hard\"", 3, true },
        { "difficulty_1_to_5", "2.9", 2, true },
        { "difficulty_1_to_5", "null", 3, false },
        { "difficulty_0_to_3", "0", 1, false },
        { "score_0_to_1", "null", 0.4, false },
        { "score_0_to_1", "\"0.8\"", 0.8, true },
        { "score_0_to_1", "1.7", 1, true },
        { "score_0_to_1", "-1", 0, true },
        { "score_0_to_1", "\"high\"", 0.4, true },
        { "score_0_to_1", "0.25", 0.25, false },
        { "expected_vs_baseline_factor", "\"1.2x\"", 1.2, true },
        { "expected_vs_baseline_factor", "1.5", 1.5, false },
        { "expected_vs_baseline_factor", "null", 0, false },
        { ".overall_rating_0_to_10", "\"8/10\"", 8, true },
        { ".confidence_0_to_1", "70", 0.7, true },
        { ".confidence_0_to_1", "\"70%\"", 0.7, true },
        { ".confidence_0_to_1", "7", 0.7, true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool node = rows[i].field[0] == '.';
        CLEANUP(world_report_release) struct world_report report = { 0 };
        struct world *w = world_new();
        const struct world_node *n;
        json_auto_t *answer = NULL;
        struct world_edit e;
        struct err err;
        char json[400];
        double got;

        snprintf(json, sizeof(json),
                 "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{%s%s%s%s%s"
                 "\"action\":{\"title\":\"x\"%s%s%s%s}}}]}",
                 node ? "\"" : "\"overall_rating_0_to_10\":4,", node ? rows[i].field + 1 : "",
                 node ? "\":" : "", node ? rows[i].value : "", node ? "," : "", node ? "" : ",\"",
                 node ? "" : rows[i].field, node ? "" : "\":", node ? "" : rows[i].value);
        assert_ok(jsonx_parse(json, strlen(json), "answer", &answer, &err), err);
        assert_ok(world_edit_from_model(answer, WORLD_PARSE_LENIENT, "test", 1, &e, &report, &err),
                  err);
        assert_ok(world_apply(w, &e, &report, &err), err);
        n = world_get(w, 1);
        if (strstr(rows[i].field, "difficulty"))
            got = n->action.difficulty;
        else if (strstr(rows[i].field, "score"))
            got = n->action.score;
        else if (strstr(rows[i].field, "expected"))
            got = n->action.has_expected ? exp(n->action.expected) : 0;
        else
            got = strstr(rows[i].field, "rating") ? n->rating : n->confidence;
        if (fabs(got - rows[i].want) > 1e-9 || (report.n_repairs == 1) != rows[i].repaired)
            fail_msg("%s %s: %g and %zu repairs", rows[i].field, rows[i].value, got,
                     report.n_repairs);
        world_edit_release(&e);
        world_free(w);
    }
}

static void a_model_inserts_at_most_three_nodes_at_once(void **state)
{
    struct world *w = world_new();

    (void)state;
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\"}}},"
            "{\"op\":\"split_node\",\"node_id\":\"a\",\"children\":[{\"action\":{\"title\":\"b\"}},"
            "{\"action\":{\"title\":\"c\"}},{\"action\":{\"title\":\"d\"}}]}]}",
            "more than 3 new nodes");
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\"}}},"
            "{\"op\":\"split_node\",\"node_id\":\"a\",\"parent_patch\":{\"notes\":\"too big\"},"
            "\"children\":[{\"action\":{\"title\":\"b\"}},{\"action\":{\"title\":\"c\"}}]}]}");
    assert_string_equal(world_get(w, 1)->notes, "too big");
    assert_int_equal(world_get(w, 1)->n_children, 2);
    world_free(w);
}

static void ids_and_parents_cannot_break_the_tree(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\"}}}]}");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"b\",\"node\":{\"node_id\":\"b\","
            "\"action\":{\"title\":\"b\"}}}]}",
            "there is no node 'b'");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"b\"}}}]}",
            "'a' is taken");
    refuses(
        w,
        "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"root\","
        "\"action\":{\"title\":\"b\"}}}]}",
        "'root' is taken");
    refuses(
        w,
        "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"../x\","
        "\"action\":{\"title\":\"b\"}}}]}",
        "a node id must be");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"kind\":\"root\","
            "\"action\":{\"title\":\"b\"}}}]}",
            "'kind' must be");
    refuses(
        w, "{\"ops\":[{\"op\":\"update_node\",\"node_id\":\"a\",\"patch\":{\"parent_id\":\"a\"}}]}",
        "unknown field 'parent_id'");
    refuses(
        w,
        "{\"ops\":[{\"op\":\"update_node\",\"node_id\":\"root\",\"patch\":{\"decision\":\"x\"}}]}",
        "the root has no decision");
    refuses(w, "{\"ops\":[{\"op\":\"delete_node\",\"node_id\":\"root\"}]}", "the root cannot");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"action\":"
            "{\"title\":\" ... \"}}}]}",
            "needs an action title");
    refuses(w, "{\"ops\":{}}", "needs the list 'ops'");
    refuses(w, "{\"ops\":[7]}", "must be an object");
    refuses(w, "{\"ops\":[{\"op\":\"format_disk\",\"node_id\":\"a\"}]}", "is no operation");
    world_free(w);
}

static void a_child_cannot_contradict_what_its_path_committed_to(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"commitments\":{\"SOFTMAX\":\"online\"},\"action\":{\"title\":\"a\"}}},"
            "{\"op\":\"insert_node\",\"parent_id\":\"a\",\"node\":{\"node_id\":\"b\",\"action\":"
            "{\"title\":\"b\"}}}]}");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"b\",\"node\":{\"commitments\":"
            "{\"SOFTMAX\":\"two_pass\"},\"action\":{\"title\":\"c\"}}}]}",
            "contradicts the path, which has committed to SOFTMAX = online");
    accepts(w, "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"b\",\"node\":{\"commitments\":"
               "{\"SOFTMAX\":\"online\",\"UNROLL\":\"2\"},\"action\":{\"title\":\"c\"}}}]}");
    world_free(w);
}

static void a_closed_node_keeps_all_but_its_beliefs(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\",\"expected_vs_baseline_factor\":2}}}]}");
    assert_int_equal(system_attach(w, "a", 5, 1), 0);
    assert_int_equal(system_attach(w, "a", 6, 2), -1);
    accepts(w,
            "{\"ops\":[{\"op\":\"update_node\",\"node_id\":\"a\",\"patch\":{\"notes\":\"measured\","
            "\"overall_rating_0_to_10\":9,\"confidence_0_to_1\":1,\"impacts\":{\"a\":1},\"action\":"
            "{\"score_0_to_1\":0.1}}}]}");
    refuses(w,
            "{\"ops\":[{\"op\":\"update_node\",\"node_id\":\"a\",\"patch\":{\"action\":"
            "{\"expected_vs_baseline_factor\":1.0}}}]}",
            "is closed");
    refuses(w, "{\"ops\":[{\"op\":\"delete_node\",\"node_id\":\"a\"}]}", "its evidence stays");
    refuses(
        w,
        "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"a\",\"parent_solution_id\":\"other\","
        "\"node\":{\"action\":{\"title\":\"b\"}}}]}",
        "is not the solution of node 'a'");
    accepts(
        w, "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"a\",\"parent_solution_id\":\"" PROGRAM
           "\",\"node\":{\"action\":{\"title\":\"b\"}}}]}");
    assert_string_equal(world_get(w, 2)->evidence.parent_program, PROGRAM);
    world_free(w);
}

/* A measured node is never run again; the same step is another node, with a record of its own. */
static void what_was_measured_is_tried_again_as_a_node_beside_it(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"Tile\"}}}]}");
    assert_int_equal(system_attach(w, "a", 5, 1), 0);
    assert_false(world_is_executable(w, 1));
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"b\","
            "\"action\":{\"title\":\"Tile, with the mistake mended\"}}}]}");
    assert_true(world_is_executable(w, 2));
    assert_int_equal(system_attach(w, "b", 7, 2), 0);
    assert_int_equal(world_get(w, 1)->evidence.objective_q, 5);
    assert_int_equal(world_get(w, 2)->evidence.objective_q, 7);
    world_free(w);
}

static void abandoning_keeps_tombstones_of_all_below(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(
        w,
        "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
        "\"action\":{\"title\":\"a\"}}},{\"op\":\"insert_node\",\"parent_id\":\"a\",\"node\":"
        "{\"node_id\":\"b\",\"action\":{\"title\":\"b\"}}},{\"op\":\"insert_node\",\"parent_id\":"
        "\"root\",\"node\":{\"node_id\":\"c\",\"action\":{\"title\":\"c\"}}}]}");
    accepts(
        w, "{\"ops\":[{\"op\":\"abandon_node\",\"node_id\":\"a\",\"reason\":\"bank conflicts\"}]}");
    assert_string_equal(world_get(w, 1)->reason, "bank conflicts");
    assert_int_equal(world_get(w, 2)->state, WORLD_ABANDONED);
    assert_int_equal(world_get(w, 3)->state, WORLD_OPEN);
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"a\",\"node\":{\"action\":"
            "{\"title\":\"d\"}}}]}",
            "is abandoned");
    /* The same idea cannot come back under the same parent. */
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"action\":"
            "{\"title\":\"A\"}}}]}",
            "was abandoned: bank conflicts");
    assert_int_equal(system_attach(w, "b", 1, 1), -1);
    world_free(w);
}

static void failed_cycles_abandon_a_node_at_the_limit(void **state)
{
    struct world *w = world_new();

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\"}}}]}");
    assert_int_equal(system_fail(w, "a"), 0);
    assert_int_equal(world_get(w, 1)->state, WORLD_OPEN);
    assert_int_equal(world_get(w, 1)->evidence.failed_cycles, 1);
    assert_int_equal(system_fail(w, "a"), 0);
    assert_int_equal(world_get(w, 1)->state, WORLD_ABANDONED);
    assert_string_equal(world_get(w, 1)->reason, "2 cycles without a pass: no program passed");
    assert_int_equal(system_fail(w, "a"), -1);
    world_free(w);
}

static void the_system_attaches_only_what_passed_to_what_can_run(void **state)
{
    struct world *w = world_new();
    struct world_edit e;
    struct err err;
    static const struct {
        const char *node, *program, *assignment, *status;
        int64_t q;
        uint64_t evaluation;
    } bad[] = {
        { "a", "beef", "{}", "ok", 0, 1 },          { "a", PROGRAM, "[]", "ok", 0, 1 },
        { "a", PROGRAM, "{", "ok", 0, 1 },          { "a", PROGRAM, "{}", "crashed", 0, 1 },
        { "a", PROGRAM, "{}", "ok", INT64_MAX, 1 }, { "a", PROGRAM, "{}", "ok", 0, 0 },
        { "b", PROGRAM, "{}", "ok", 0, 1 },         { "a", PROGRAM, "{}", "O K", 0, 1 },
    };

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\"}}},{\"op\":\"insert_node\",\"parent_id\":\"a\",\"node\":"
            "{\"node_id\":\"b\",\"action\":{\"title\":\"b\"}}}]}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
        world_edit_attach(&e, bad[i].node, bad[i].program, bad[i].assignment, bad[i].status,
                          bad[i].q, 0, bad[i].evaluation);
        assert_fails(world_apply(w, &e, NULL, &err), err, ERR_INVALID);
        world_edit_release(&e);
    }
    /* A seed goes on the root, whether or not it passed. */
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_attach(&e, "root", PROGRAM, "{}", "crashed", 0, 0, 1);
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    assert_int_equal(world_best(w), WORLD_NONE);
    world_free(w);
}

static void a_full_world_says_so_and_stays_whole(void **state)
{
    struct world *w = world_new();
    struct world_edit e;
    struct err err;
    int rc = 0;

    (void)state;
    for (uint32_t batch = 0; rc == 0; batch++) {
        assert_true(batch < 5);
        world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
        for (uint32_t i = 0; i < WORLD_SYSTEM_NEW_MAX; i++) {
            char title[40];

            snprintf(title, sizeof(title), "t%u", batch * WORLD_SYSTEM_NEW_MAX + i);
            world_edit_add(&e, WORLD_OP_INSERT, "root");
            world_spec_text(&e.ops[i].spec, WORLD_SET_TITLE, title);
        }
        rc = world_apply(w, &e, NULL, &err);
        world_edit_release(&e);
    }
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(world_count(w), 1 + 3 * WORLD_SYSTEM_NEW_MAX);
    assert_ok(world_check(w, &err), err);
    world_free(w);
}

/* However much a model writes, what is measured can still be kept. */
static void a_model_cannot_fill_the_world_up(void **state)
{
    struct world *w = world_new();
    char text[WORLD_TEXT_MAX + 1], title[32];
    struct world_edit e;
    struct err err;
    int rc = 0;

    (void)state;
    memset(text, 'x', WORLD_TEXT_MAX);
    text[WORLD_TEXT_MAX] = '\0';
    for (unsigned i = 0; rc == 0; i++) {
        struct world_spec *spec;

        assert_true(i < WORLD_NODES_MAX);
        snprintf(title, sizeof(title), "step %u", i);
        world_edit_init(&e, WORLD_BY_MODEL, "propose", 1);
        spec = &world_edit_add(&e, WORLD_OP_INSERT, WORLD_ROOT_ID)->spec;
        world_spec_text(spec, WORLD_SET_TITLE, title);
        world_spec_text(spec, WORLD_SET_DESCRIPTION, text);
        world_spec_text(spec, WORLD_SET_RATIONALE, text);
        world_spec_text(spec, WORLD_SET_IMPACTS, text);
        world_spec_text(spec, WORLD_SET_NOTES, text);
        rc = world_apply(w, &e, NULL, &err);
        world_edit_release(&e);
    }
    assert_int_equal(err.code, ERR_LIMIT);
    world_edit_init(&e, WORLD_BY_SYSTEM, "cycle", 1);
    for (unsigned i = 0; i < 100; i++) {
        struct world_spec *spec = &world_edit_add(&e, WORLD_OP_INSERT, WORLD_ROOT_ID)->spec;

        snprintf(title, sizeof(title), "own %u", i);
        world_spec_text(spec, WORLD_SET_TITLE, title);
        world_spec_text(spec, WORLD_SET_NOTES, text);
    }
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    world_free(w);
}

static void texts_are_bounded_and_are_utf8(void **state)
{
    struct world *w = world_new();
    struct world_edit e;
    struct err err;
    char *big = xmalloc(WORLD_TEXT_MAX + 2);

    (void)state;
    memset(big, 'x', WORLD_TEXT_MAX + 1);
    big[WORLD_TEXT_MAX + 1] = '\0';
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_add(&e, WORLD_OP_INSERT, "root");
    world_spec_text(&e.ops[0].spec, WORLD_SET_TITLE, "t");
    world_spec_text(&e.ops[0].spec, WORLD_SET_NOTES, big);
    assert_fails(world_apply(w, &e, NULL, &err), err, ERR_INVALID);
    world_spec_text(&e.ops[0].spec, WORLD_SET_NOTES, big + 1);
    assert_ok(world_apply(w, &e, NULL, &err), err);
    world_edit_release(&e);
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_add(&e, WORLD_OP_UPDATE, "n1");
    world_spec_text(&e.ops[0].spec, WORLD_SET_NOTES, "\xed\xa0\x80"); /* a surrogate */
    assert_fails(world_apply(w, &e, NULL, &err), err, ERR_INVALID);
    world_edit_release(&e);
    /* A reason quotes what it likes: it is cleaned and cut, and never in the way. */
    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    world_edit_fail_cycle(&e, "n1", 1, big);
    world_edit_add(&e, WORLD_OP_INSERT, "root");
    world_spec_text(&e.ops[1].spec, WORLD_SET_TITLE, "u");
    world_edit_abandon(&e, "n2", "\xff\xfe");
    assert_ok(world_apply(w, &e, NULL, &err), err);
    assert_string_equal(world_get(w, 2)->reason, "\\xff\\xfe");
    assert_int_equal(world_get(w, 1)->state, WORLD_ABANDONED);
    world_edit_release(&e);
    free(big);
    world_free(w);
}

/* ---- The fold ---- */

static const char *any_id(const struct world *w, struct rng *r)
{
    static const char *const wrong[] = { "gone", "", "root " };

    if (rng_below(r, 12) == 0)
        return wrong[rng_below(r, ARRAY_LEN(wrong))];
    return world_get(w, (uint32_t)rng_below(r, world_count(w)))->id;
}

static void random_spec(struct world_spec *s, struct rng *r, bool is_new)
{
    char text[40];

    snprintf(text, sizeof(text), "Title %u", (unsigned)rng_below(r, 400));
    if (is_new || rng_below(r, 4) == 0)
        world_spec_text(s, WORLD_SET_TITLE, text);
    if (rng_below(r, 2))
        world_spec_number(s, WORLD_SET_SCORE, rng_double(r) * (rng_below(r, 20) ? 1 : 2));
    if (rng_below(r, 2))
        world_spec_number(s, WORLD_SET_RATING, rng_double(r) * 10);
    if (rng_below(r, 3) == 0)
        world_spec_number(s, WORLD_SET_EXPECTED, rng_normal(r));
    if (rng_below(r, 3) == 0)
        world_spec_number(s, WORLD_SET_DIFFICULTY, (double)(1 + rng_below(r, 5)));
    if (rng_below(r, 3) == 0)
        world_spec_text(s, WORLD_SET_NOTES, "späte Notiz\n");
    if (is_new && rng_below(r, 3) == 0)
        world_spec_commit(s, rng_below(r, 2) ? "A" : "B", rng_below(r, 2) ? "1" : "2");
    if (is_new && rng_below(r, 10) == 0)
        world_spec_graft(s, "s1", "i1", rng_double(r), true);
    if (is_new && rng_below(r, 10) == 0)
        world_spec_kind(s, WORLD_LEAF);
}

static void random_op(struct world_edit *e, const struct world *w, struct rng *r)
{
    static const char *const statuses[] = { "ok", "crashed", "wrong_value" };
    const char *id = any_id(w, r);
    struct world_op *op;

    switch (rng_below(r, 8)) {
    case 0:
    case 1:
    case 2:
        random_spec(&world_edit_add(e, WORLD_OP_INSERT, id)->spec, r, true);
        break;
    case 3:
        random_spec(&world_edit_add(e, WORLD_OP_UPDATE, id)->spec, r, false);
        break;
    case 4:
        op = world_edit_add(e, WORLD_OP_SPLIT, id);
        for (uint64_t n = 1 + rng_below(r, 3); n > 0; n--)
            random_spec(world_op_child(op), r, true);
        break;
    case 5:
        world_edit_attach(e, id, PROGRAM, "{\"b\":1, \"a\":2.5}", "ok",
                          (int64_t)rng_below(r, 2000000) - 500000, 700, 1 + rng_below(r, 100));
        break;
    case 6:
        world_edit_attempt(e, id, statuses[rng_below(r, 3)]);
        break;
    default:
        if (rng_below(r, 3))
            world_edit_fail_cycle(e, id, 2, "why");
        else
            world_edit_abandon(e, id, "no good");
    }
}

/*
 * Random edits, most of them partly wrong: what is refused leaves no trace, every invariant holds
 * throughout, and the stored form of what was committed builds an identical tree.
 */
static void a_tree_is_the_fold_of_its_stored_edits(void **state)
{
    int committed = 0, refused = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new(), *copy = world_new();
        struct rng r = rng_seeded(seed);

        for (int step = 0; step < 150; step++) {
            CLEANUP(freep) char *before = tree_text(w);
            json_auto_t *stored = NULL, *parsed = NULL;
            struct world_edit e, again;
            struct err err;

            world_edit_init(&e, WORLD_BY_SYSTEM, "test", (uint64_t)step);
            for (uint64_t n = rng_below(&r, 4); n > 0; n--)
                random_op(&e, w, &r);
            stored = world_edit_to_json(&e);
            if (world_apply(w, &e, NULL, &err) == 0) {
                CLEANUP(freep) char *text = jsonx_canonical(stored);
                CLEANUP(freep) char *reprinted = NULL;
                json_auto_t *second = NULL;

                assert_ok(jsonx_parse(text, strlen(text), "edit", &parsed, &err), err);
                assert_ok(world_edit_from_json(parsed, &again, &err), err);
                second = world_edit_to_json(&again);
                reprinted = jsonx_canonical(second);
                assert_string_equal(text, reprinted);
                assert_ok(world_apply(copy, &again, NULL, &err), err);
                world_edit_release(&again);
                committed++;
            } else {
                CLEANUP(freep) char *after = tree_text(w);

                assert_string_equal(before, after);
                refused++;
            }
            assert_ok(world_check(w, &err), err);
            world_edit_release(&e);
        }
        {
            CLEANUP(freep) char *a = tree_text(w);
            CLEANUP(freep) char *b = tree_text(copy);

            assert_string_equal(a, b);
        }
        world_free(w);
        world_free(copy);
    }
    assert_true(committed > 200 && refused > 200);
}

static void a_stored_edit_is_parsed_strictly(void **state)
{
    static const char *const bad[] = {
        "{}",
        "{\"actor\":\"god\",\"cause\":\"x\",\"round\":0,\"max_new\":3,\"ops\":[]}",
        "{\"actor\":\"model\",\"cause\":\"x\",\"round\":-1,\"max_new\":3,\"ops\":[]}",
        "{\"actor\":\"model\",\"cause\":\"x\",\"round\":0,\"max_new\":3,\"ops\":[],\"more\":1}",
        "{\"actor\":\"system\",\"cause\":\"x\",\"round\":0,\"max_new\":3,\"ops\":[{\"op\":"
        "\"attach_solution\",\"node_id\":\"a\"}]}",
        "{\"actor\":\"system\",\"cause\":\"x\",\"round\":0,\"max_new\":3,\"ops\":[{\"op\":"
        "\"update_node\",\"node_id\":\"a\",\"patch\":{\"confidence_0_to_1\":\"1\"}}]}",
    };
    struct world_edit e;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_auto_t *j = json_loads(bad[i], 0, NULL);

        assert_non_null(j);
        assert_fails(world_edit_from_json(j, &e, &err), err, ERR_INVALID);
    }
}

/* T2: whatever a hostile model sends, the invariants hold and nothing of a bad answer stays. */
static void a_hostile_model_changes_nothing(void **state)
{
    struct world *w = world_new();
    json_t *ops = json_array();
    json_auto_t *answer = NULL;
    CLEANUP(freep) char *text = NULL;

    (void)state;
    accepts(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"a\","
            "\"action\":{\"title\":\"a\"}}}]}");
    for (int i = 0; i < 1000; i++)
        json_array_append_new(ops, json_pack("{s:s, s:s, s:{s:{s:s}}}", "op", "insert_node",
                                             "parent_id", i % 2 ? "root" : "a", "node", "action",
                                             "title", i % 3 ? "same" : "other"));
    answer = json_pack("{s:o}", "ops", ops);
    text = json_dumps(answer, 0);
    refuses(w, text, "");
    refuses(w, "{\"ops\":[],\"decision_tree\":{\"root_id\":\"x\"}}",
            "unknown field 'decision_tree'");
    refuses(w, "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":null}]}",
            "the node must be an object");
    refuses(w, "{\"ops\":[{\"op\":\"split_node\",\"node_id\":\"a\",\"children\":[]}]}",
            "1 to 8 children");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"commitments\":"
            "{\"a b;rm\":\"1\"},\"action\":{\"title\":\"c\"}}}]}",
            "must be a name");
    refuses(w,
            "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"action\":"
            "{\"title\":\"c\",\"expected_vs_baseline_factor\":-3}}}]}",
            "must be a number from 1e-06");
    assert_int_equal(world_count(w), 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_edit_is_committed_whole_or_not_at_all),
        cmocka_unit_test(the_report_holds_every_error_uncut),
        cmocka_unit_test(a_model_cannot_forge_evidence),
        cmocka_unit_test(numbers_out_of_range_are_refused_with_a_sentence),
        cmocka_unit_test(numbers_as_models_write_them_are_read_leniently_and_counted),
        cmocka_unit_test(a_model_inserts_at_most_three_nodes_at_once),
        cmocka_unit_test(ids_and_parents_cannot_break_the_tree),
        cmocka_unit_test(a_child_cannot_contradict_what_its_path_committed_to),
        cmocka_unit_test(a_closed_node_keeps_all_but_its_beliefs),
        cmocka_unit_test(what_was_measured_is_tried_again_as_a_node_beside_it),
        cmocka_unit_test(abandoning_keeps_tombstones_of_all_below),
        cmocka_unit_test(failed_cycles_abandon_a_node_at_the_limit),
        cmocka_unit_test(the_system_attaches_only_what_passed_to_what_can_run),
        cmocka_unit_test(a_full_world_says_so_and_stays_whole),
        cmocka_unit_test(a_model_cannot_fill_the_world_up),
        cmocka_unit_test(texts_are_bounded_and_are_utf8),
        cmocka_unit_test(a_tree_is_the_fold_of_its_stored_edits),
        cmocka_unit_test(a_stored_edit_is_parsed_strictly),
        cmocka_unit_test(a_hostile_model_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
