/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planners' answers: JSON in whatever a model wraps it, what is mended and what never is, the
 * members of each kind, and that the schema a model is bound to agrees with the parser.
 */
#include "base/jsonx.h"
#include "base/mem.h"
#include "search/plan_answer.h"
#include "unit/test.h"

/* ---- the object in a text ---- */

/* The object as canonical text, and how many repairs; fails when it cannot be read. */
static char *object_of(const char *text, const char *wanted, size_t *n_repairs)
{
    json_auto_t *repairs = json_array(), *object = NULL;
    struct err err;

    assert_ok(json_of_answer(text, wanted, &object, repairs, &err), err);
    *n_repairs = json_array_size(repairs);
    return jsonx_canonical(object);
}

static void reads(const char *text, const char *object, size_t n_repairs)
{
    size_t n;
    CLEANUP(freep) char *got = object_of(text, "ops", &n);

    assert_string_equal(got, object);
    assert_int_equal(n, n_repairs);
}

static void refuses(const char *text, const char *part)
{
    json_auto_t *repairs = json_array();
    json_t *object;
    struct err err;

    if (json_of_answer(text, "ops", &object, repairs, &err) == 0)
        fail_msg("accepted: %s", text);
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' does not mention '%s'", err.msg, part);
}

static void an_object_is_found_in_what_is_around_it(void **state)
{
    (void)state;
    reads("{\"ops\":[]}", "{\"ops\":[]}", 0);
    reads(" \n{\"ops\": []}\n", "{\"ops\":[]}", 0);
    reads("```json\n{\"ops\": [1]}\n```", "{\"ops\":[1]}", 1);
    reads("I think {so}. {\"ops\": [\"a } \\\" b\"]} Good luck.", "{\"ops\":[\"a } \\\" b\"]}", 1);
    reads("{\"thought\": {\"ops\": [0]}} {\"ops\": [1]}", "{\"ops\":[1]}", 2);
    reads("{\"ops\": [1]} or the same, {\"ops\": [1]}", "{\"ops\":[1]}", 2);
}

static void thoughts_before_the_object_are_dropped(void **state)
{
    (void)state;
    reads("<think>\n{\"ops\": [1]} or \"{\n</think>\n{\"ops\": [2]}", "{\"ops\":[2]}", 0);
    reads("\n <think>a</think>```json\n{\"ops\": [1]}\n```", "{\"ops\":[1]}", 1);
    reads("{\"ops\": [\"<think>\"]}", "{\"ops\":[\"<think>\"]}", 0);
    refuses("<think>first {\"ops\": [1]}", "cut off");
    refuses("<think>first {\"ops\": [1]}</think> That is it.", "no JSON object");
}

static void what_json_lacks_is_dropped_and_counted(void **state)
{
    (void)state;
    reads("{\"ops\": [1, 2,],}", "{\"ops\":[1,2]}", 1);
    reads("{\"ops\": [1, // one, \"}\n 2 /* two ] */]}", "{\"ops\":[1,2]}", 1);
    reads("{\"ops\": [1, /* last */ ]}", "{\"ops\":[1]}", 2);
    reads("{\"ops\": [\"http://x /* y */\"]}", "{\"ops\":[\"http://x /* y */\"]}", 0);
    reads("{\"ops\": [{\"a\": 1}]", "{\"ops\":[{\"a\":1}]}", 1);
    reads("{\"ops\": [{\"a\": 1}", "{\"ops\":[{\"a\":1}]}", 1);
    reads("```\n{\"ops\": [{\"a\": 1}]\n```\n", "{\"ops\":[{\"a\":1}]}", 2);
}

static void what_would_have_to_be_guessed_is_refused(void **state)
{
    (void)state;
    refuses("no plan", "no JSON object");
    refuses("{\"edits\": []}", "no JSON object with the member 'ops'");
    refuses("{\"ops\": [\"a text that en", "cut off");
    refuses("{\"ops\": [{\"a\": {\"b\": \"c\"", "cut off");
    refuses("{\"ops\": [{\"a\": 1},", "cut off");
    refuses("{\"ops\": [{\"a\":", "cut off");
    refuses("{\"ops\": [1", "cut off");
    refuses("{\"ops\": [{\"a\": 1", "cut off");
    refuses("{\"ops\": [1}", "does not match");
    refuses("{\"ops\": [NaN]}", "NaN and infinity");
    refuses("{\"ops\":\n [1, -Infinity]}", "line 2");
    refuses("{\"ops\": [], \"ops\": [1]}", "twice");
    refuses("{\"ops\": ['a']}", "is not JSON");
    refuses("{\"ops\": [\"\\u0000\"]}", "is not JSON");
    refuses("{\"ops\": [1e999]}", "is not JSON");
    refuses("{\"ops\": [1]} {\"ops\": [2]}", "two objects");
    refuses("{\"ops\": [1 2]} {\"ops\": [2]}", "is not JSON");
    refuses("{\"a\": NaN, \"b\": {\"ops\": []}}", "NaN and infinity");
}

static void hostile_nesting_and_size_are_capped(void **state)
{
    enum { SIZE = 1 << 20 };
    CLEANUP(freep) char *text = xcalloc(1, SIZE + 2);

    (void)state;
    for (size_t i = 0; i < SIZE - 1; i++)
        text[i] = "{\"a\":"[i % 5];
    refuses(text, "nested too deeply");
    for (size_t i = 0; i < SIZE - 1; i++)
        text[i] = "{\""[i % 2];
    refuses(text, "");
    for (size_t i = 0; i < SIZE - 1; i++)
        text[i] = "{\"a\" }"[i % 6];
    refuses(text, "line 1 ");
    for (size_t i = 0; i < SIZE - 1; i++)
        text[i] = "{/*"[i % 3];
    refuses(text, "too many places");
    memset(text, '{', SIZE - 1);
    refuses(text, "no JSON object");
    memset(text, ' ', SIZE + 1);
    refuses(text, "at most 1048576");
}

/* ---- plans ---- */

static struct plan_answer plan(enum call_kind kind, const char *text, bool flat)
{
    json_auto_t *errors = json_array();
    struct plan_answer a;
    struct err err;

    assert_ok(plan_answer_parse(kind, text, 7, flat, &a, errors, &err), err);
    return a;
}

static void no_plan(enum call_kind kind, const char *text, bool flat, const char *part)
{
    json_auto_t *errors = json_array();
    struct plan_answer a;
    struct err err;
    bool found = false;

    assert_fails(plan_answer_parse(kind, text, 7, flat, &a, errors, &err), err, ERR_INVALID);
    for (size_t i = 0; i < json_array_size(errors); i++)
        found = found || strstr(json_string_value(json_array_get(errors, i)), part) != NULL;
    if (!found) {
        CLEANUP(freep) char *all = json_dumps(errors, JSON_INDENT(1));

        fail_msg("no error mentions '%s': %s", part, all);
    }
}

#define INSERT(parent)                                                                             \
    "{\"op\": \"insert_node\", \"parent_id\": \"" parent "\", \"node\": {\"decision\": \"d\","     \
    " \"choice\": \"c\", \"action\": {\"title\": \"t\", \"score_0_to_1\": \"7/10\"}}}"
#define UPDATE                                                                                     \
    "{\"op\": \"update_node\", \"node_id\": \"n1\", \"patch\": {\"confidence_0_to_1\": 70}}"

static void each_kind_has_its_own_members(void **state)
{
    struct plan_answer a = plan(CALL_INIT,
                                "{\"kernel_summary\": \"streams\", \"open_questions\": [\"why?\"],"
                                " \"ops\": [" INSERT("root") "]}",
                                false);

    (void)state;
    assert_string_equal(a.summary, "streams");
    assert_int_equal(json_array_size(a.questions), 1);
    assert_int_equal(a.edit.n_ops, 1);
    assert_int_equal(a.edit.max_new, WORLD_INIT_NEW_MAX);
    assert_int_equal(a.edit.actor, WORLD_BY_MODEL);
    assert_int_equal(a.edit.round, 7);
    assert_string_equal(a.edit.cause, "init");
    assert_true(a.edit.ops[0].spec.score == 0.7);
    assert_int_equal(json_array_size(a.repairs), 1);
    plan_answer_release(&a);

    a = plan(CALL_REFINE,
             "{\"ops\": [" UPDATE "], \"insights\": [{\"technique\": \"tiling\", \"statement\": "
             "\"Tiles help.\", \"mechanism\": null}]}",
             false);
    assert_int_equal(a.edit.max_new, WORLD_MODEL_NEW_MAX);
    assert_string_equal(a.edit.cause, "refine");
    assert_int_equal(json_array_size(a.insights), 1);
    assert_int_equal(json_object_size(json_array_get(a.insights, 0)), 2);
    assert_true(a.edit.ops[0].spec.confidence == 0.7);
    plan_answer_release(&a);

    a = plan(CALL_TOO_HARD, "{\"ops\": []}", false);
    assert_int_equal(a.edit.n_ops, 0);
    plan_answer_release(&a);
}

/* Which node is worked on is the system's to say: a model that says it is not heard, and told. */
static void the_node_at_hand_is_the_system_s_to_choose(void **state)
{
    struct plan_answer a = plan(CALL_PROPOSE, "{\"ops\": [], \"active_leaf_id\": \"n4\"}", false);

    (void)state;
    assert_int_equal(a.edit.n_ops, 0);
    assert_int_equal(json_array_size(a.repairs), 1);
    assert_non_null(strstr(json_string_value(json_array_get(a.repairs, 0)), "the system only"));
    plan_answer_release(&a);
}

static void what_does_not_belong_is_named(void **state)
{
    (void)state;
    no_plan(CALL_PROPOSE, "{\"ops\": [], \"plan\": 1}", false, "unknown member 'plan'");
    no_plan(CALL_PROPOSE, "{\"ops\": [], \"insights\": []}", false, "unknown member 'insights'");
    no_plan(CALL_PROPOSE, "{\"ops\": {}}", false, "'ops'");
    no_plan(CALL_INIT, "{\"ops\": [" UPDATE "]}", false, "insert_node alone");
    no_plan(CALL_INIT, "{\"ops\": []}", false, "at least one");
    no_plan(CALL_INIT, "{\"ops\": [" INSERT("root") "], \"kernel_summary\": 3}", false,
            "must be a text");
    no_plan(CALL_PROPOSE, "{\"ops\": [{\"op\": \"fly\"}, 7]}", false, "operation 2: an operation");
    no_plan(CALL_PROPOSE,
            "{\"ops\": [{\"op\": \"update_node\", \"node_id\": \"n1\", \"patch\": "
            "{\"solution_ref\": {\"solution_id\": \"x\"}}}]}",
            false, "written by the system only");
    no_plan(CALL_PROPOSE,
            "{\"ops\": [{\"op\": \"attach_solution\", \"node_id\": \"n1\", \"objective_q\": 1}]}",
            false, "is no operation");
    no_plan(CALL_REFINE, "{\"ops\": [], \"insights\": [{\"statement\": \"x\"}]}", false,
            "insight 1 needs the text 'technique'");
    no_plan(CALL_REFINE, "{\"ops\": [], \"insights\": [{\"evidence\": []}]}", false,
            "unknown member 'evidence'");
    no_plan(CALL_REFINE, "{\"ops\": [1, 2,", false, "cut off");
}

static void a_flat_plan_puts_everything_under_the_root(void **state)
{
    struct plan_answer a = plan(CALL_PROPOSE, "{\"ops\": [" INSERT("root") "," UPDATE "]}", true);

    (void)state;
    assert_int_equal(a.edit.n_ops, 2);
    plan_answer_release(&a);
    no_plan(CALL_PROPOSE, "{\"ops\": [" INSERT("n1") "]}", true, "under 'root'");
    no_plan(CALL_PROPOSE,
            "{\"ops\": [{\"op\": \"split_node\", \"node_id\": \"n1\", \"children\": []}]}", true,
            "under 'root'");
}

static void too_much_is_cut_and_said(void **state)
{
    char text[8192] = "{\"kernel_summary\": \"", *end = text + strlen(text);
    struct plan_answer a;

    (void)state;
    for (int i = 0; i < 2500; i++, end += 2)
        memcpy(end, "\xc3\xa9", 3);
    snprintf(end, 1024,
             "\", \"open_questions\": [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\","
             "\"9\"], \"ops\": [" INSERT("root") "]}");
    a = plan(CALL_INIT, text, false);
    assert_int_equal(strlen(a.summary), PLAN_SUMMARY_MAX);
    assert_int_equal(json_array_size(a.questions), PLAN_QUESTIONS_MAX);
    assert_int_equal(json_array_size(a.repairs), 3);
    plan_answer_release(&a);
}

/* ---- the schema ---- */

/* Strict mode: every object closed, with all of its members required. */
static void check_strict(const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties");
    json_t *required = json_object_get(schema, "required"), *any;
    const char *key;
    json_t *v;
    size_t i;

    any = json_object_get(schema, "anyOf");
    json_array_foreach (any, i, v)
        check_strict(v);
    if (json_object_get(schema, "items"))
        check_strict(json_object_get(schema, "items"));
    if (any == NULL)
        assert_non_null(json_object_get(schema, "type"));
    if (properties == NULL)
        return;
    assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    assert_int_equal(json_array_size(required), json_object_size(properties));
    json_array_foreach (required, i, v)
        assert_non_null(json_object_get(properties, json_string_value(v)));
    json_object_foreach ((json_t *)properties, key, v)
        check_strict(v);
}

static bool may_be(const json_t *schema, const char *type)
{
    const json_t *t = json_object_get(schema, "type");
    bool found = json_is_string(t) && strcmp(json_string_value(t), type) == 0;

    for (size_t i = 0; i < json_array_size(t); i++)
        found = found || strcmp(json_string_value(json_array_get(t, i)), type) == 0;
    return found;
}

/* A value that the schema allows: `sparse` takes null wherever it is allowed. */
static json_t *example_of(const json_t *schema, bool sparse)
{
    const json_t *any = json_object_get(schema, "anyOf"), *names = json_object_get(schema, "enum");
    json_t *out, *v;
    const char *key;
    size_t i;

    if (names)
        return json_incref(json_array_get(names, 0));
    if (sparse && may_be(schema, "null"))
        return json_null();
    if (may_be(schema, "string"))
        return json_string("root");
    if (may_be(schema, "number") || may_be(schema, "integer"))
        return json_integer(1);
    if (may_be(schema, "array")) {
        schema = json_object_get(schema, "items");
        any = json_object_get(schema, "anyOf");
        out = json_array();
        json_array_foreach (any, i, v)
            json_array_append_new(out, example_of(v, sparse));
        if (any == NULL)
            json_array_append_new(out, example_of(schema, sparse));
        return out;
    }
    out = json_object();
    json_object_foreach (json_object_get(schema, "properties"), key, v)
        json_object_set_new(out, key, example_of(v, sparse));
    return out;
}

static void the_schema_allows_exactly_what_is_read(void **state)
{
    static const enum call_kind kinds[] = { CALL_INIT, CALL_PROPOSE, CALL_REFINE, CALL_TOO_HARD };

    (void)state;
    for (size_t k = 0; k < 2 * ARRAY_LEN(kinds); k++) {
        enum call_kind kind = kinds[k / 2];
        const char *name, *key;
        json_auto_t *schema = plan_answer_schema(kind, &name), *example = NULL;
        CLEANUP(freep) char *text = NULL;
        struct plan_answer a;
        json_t *v;

        assert_non_null(name);
        check_strict(schema);
        example = example_of(schema, k % 2);
        text = jsonx_canonical(example);
        a = plan(kind, text, false);
        assert_int_equal(a.edit.n_ops, kind == CALL_INIT ? 1 : 4);
        assert_int_equal(json_array_size(a.repairs), 0);
        assert_int_equal(a.edit.ops[0].spec.n_commitments, 1);
        plan_answer_release(&a);
        json_object_foreach (json_object_get(schema, "properties"), key, v) {
            CLEANUP(freep) char *without = NULL;
            json_auto_t *less = json_deep_copy(example);

            json_object_set_new(less, key, json_true()); /* a member that is read is checked */
            without = jsonx_canonical(less);
            no_plan(kind, without, false, key);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_is_found_in_what_is_around_it),
        cmocka_unit_test(thoughts_before_the_object_are_dropped),
        cmocka_unit_test(what_json_lacks_is_dropped_and_counted),
        cmocka_unit_test(what_would_have_to_be_guessed_is_refused),
        cmocka_unit_test(hostile_nesting_and_size_are_capped),
        cmocka_unit_test(each_kind_has_its_own_members),
        cmocka_unit_test(the_node_at_hand_is_the_system_s_to_choose),
        cmocka_unit_test(what_does_not_belong_is_named),
        cmocka_unit_test(a_flat_plan_puts_everything_under_the_root),
        cmocka_unit_test(too_much_is_cut_and_said),
        cmocka_unit_test(the_schema_allows_exactly_what_is_read),
    };

    return cmocka_run_group_tests_name("plan_answer", tests, NULL, NULL);
}
