/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces: strict parsing, expressions, round trips, sampling and enumeration through constraints.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/space.h"
#include "search/space_expr.h"

static const char kernel_space[] =
    "{\"parameters\":["
    "{\"name\":\"TILE\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\",\"values\":[8,"
    "16,32,64,128],"
    "\"default\":16,\"technique\":\"tiling\",\"help\":\"keys per tile\"},"
    "{\"name\":\"UNROLL\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\",\"values\":[1,"
    "2,3,4,8],"
    "\"default\":1},"
    "{\"name\":\"SCALE\",\"type\":\"real\",\"kind\":\"ordinal\",\"role\":\"numeric\",\"values\":[0."
    "5,1.0,2.25],"
    "\"default\":1.0},"
    "{\"name\":\"PACK\",\"type\":\"bool\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[false,true],\"default\":false},"
    "{\"name\":\"SOFTMAX\",\"type\":\"enum\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[\"online\",\"two_pass\"],\"default\":\"two_pass\","
    "\"value_help\":{\"online\":\"one pass over the keys\"}}],"
    "\"constraints\":[\"TILE % UNROLL == 0\",\"SOFTMAX == 'online' || TILE <= 64\","
    "\"!PACK || UNROLL * 2 >= TILE / 8\"]}";

static struct space *parse(const char *text)
{
    struct space *s;
    struct err err;
    json_t *doc;

    if (jsonx_parse(text, strlen(text), "test", &doc, &err) != 0)
        fail_msg("%s", err.msg);
    if (space_parse(doc, "test", &s, &err) != 0)
        fail_msg("%s", err.msg);
    json_decref(doc);
    return s;
}

/* The document must be refused, with `part` in the sentence. */
static void refuse(const char *text, const char *part)
{
    struct space *s = NULL;
    struct err err = { 0 };
    json_t *doc;

    assert_int_equal(jsonx_parse(text, strlen(text), "test", &doc, &err), 0);
    if (space_parse(doc, "test", &s, &err) == 0)
        fail_msg("accepted: %s", text);
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' does not mention '%s'", err.msg, part);
    assert_null(s);
    json_decref(doc);
}

#define ONE(values, def, more)                                                                     \
    "{\"parameters\":[{\"name\":\"A\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\"," \
    "\"values\":" values ",\"default\":" def "}" more

static void a_space_keeps_what_its_document_says(void **state)
{
    struct space *s = parse(kernel_space);
    const struct space_param *p = space_param(s, 4);

    (void)state;
    assert_int_equal(space_n(s), 5);
    assert_int_equal(space_constraints(s), 3);
    assert_string_equal(space_param(s, 0)->technique, "tiling");
    assert_string_equal(space_param(s, 0)->help, "keys per tile");
    assert_int_equal(space_param(s, 0)->values[2].num, 32);
    assert_string_equal(space_param(s, 2)->values[1].text, "1.0");
    assert_int_equal(p->role, SPACE_STRUCTURAL);
    assert_int_equal(p->kind, SPACE_CATEGORICAL);
    assert_int_equal(p->default_index, 1);
    assert_string_equal(p->values[0].help, "one pass over the keys");
    assert_null(p->values[1].help);
    assert_int_equal(space_find(s, "SOFTMAX"), 4);
    assert_int_equal(space_find(s, "SOFT"), -1);
    assert_int_equal(space_value_find(s, 4, "two_pass"), 1);
    space_free(s);
}

static void bad_documents_are_refused_with_a_sentence(void **state)
{
    (void)state;
    refuse("[]", "must be a JSON object");
    refuse("{\"parameters\":3}", "must be a list of parameters");
    refuse("{\"parameters\":[1]}", "not an object");
    refuse(ONE("[1,2]", "1", "],\"extra\":1}"), "unknown key 'extra'");
    refuse(ONE("[]", "1", "]}"), "at least one value");
    refuse(ONE("[1,1]", "1", "]}"), "listed twice");
    refuse(ONE("[1,2]", "3", "]}"), "not one of its values");
    refuse(ONE("[1,2]", "1.0", "]}"), "not one of its values");
    refuse(ONE("[1,2.5]", "1", "]}"), "whole number");
    refuse(ONE("[1,\"x\"]", "1", "]}"), "whole number");
    refuse(ONE("[1,9007199254740993]", "1", "]}"), "2^53");
    refuse(ONE("[1,2]", "1", "],\"constraints\":{}}"), "list of expressions");
    refuse(ONE("[1,2]", "1", "],\"constraints\":[7]}"), "not a string");
    refuse(ONE("[1,2]", "1", "],\"constraints\":[\"A == 2\"]}"), "breaks the constraint 'A == 2'");
    refuse(ONE("[1,2]", "1", "],\"constraints\":[\"B == 2\"]}"), "'B' is not a parameter");
    refuse(ONE("[1,2]", "1", ",{\"name\":\"A\"}]}"), "declared twice");
    refuse(ONE("[1,2]", "1", ",{\"name\":\"B C\"}]}"), "cannot be a parameter's name");
    refuse(ONE("[1,2]", "1", ",{\"name\":\"KS_X\"}]}"), "cannot be a parameter's name");
    refuse(ONE("[1,2]", "1", ",{\"name\":\"B\",\"type\":\"float\"}]}"), "one of int, real, bool");
    refuse(ONE("[1,2]", "1", ",{\"name\":\"B\",\"type\":\"int\",\"kind\":\"ordinal\"}]}"),
           "'role'");
    refuse(ONE("[1,2]", "1", ",{\"name\":\"B\",\"typ\":\"int\"}]}"), "unknown key 'typ'");
}

static void macro_names_may_not_collide(void **state)
{
    (void)state;
    refuse("{\"parameters\":["
           "{\"name\":\"M\",\"type\":\"enum\",\"kind\":\"categorical\",\"role\":\"numeric\","
           "\"values\":[\"a\",\"b\"],\"default\":\"a\"},"
           "{\"name\":\"M_b\",\"type\":\"bool\",\"kind\":\"categorical\",\"role\":\"numeric\","
           "\"values\":[true],\"default\":true}]}",
           "macro name of value 'b'");
}

/* ---- expressions ---- */

static int find_xyz(void *ctx, const char *name, size_t len, enum space_expr_type *type)
{
    static const enum space_expr_type types[] = { SPACE_EXPR_INT, SPACE_EXPR_REAL, SPACE_EXPR_BOOL,
                                                  SPACE_EXPR_TEXT, SPACE_EXPR_TEXT };
    const char *at = memchr("xrbtu", name[0], 5);

    (void)ctx;
    if (len != 1 || at == NULL)
        return -1;
    *type = types[at - "xrbtu"];
    return (int)(at - "xrbtu");
}

static int text_value(void *ctx, int var, const char *text, size_t len)
{
    (void)ctx;
    (void)var;
    return len == 2 && memcmp(text, "on", 2) == 0 ? 0 : len == 3 ? 1 : -1;
}

static const struct space_expr_names names = { NULL, find_xyz, text_value };

/* With x = 7, r = 2.5, b = true, t = 'on'. */
static bool value_of(const char *text)
{
    static const double vars[] = { 7.0, 2.5, 1.0, 0.0, 1.0 };
    struct space_expr *e;
    struct err err;
    bool v;

    if (space_expr_parse(text, &names, &e, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    assert_string_equal(space_expr_text(e), text);
    v = space_expr_eval(e, vars);
    space_expr_free(e);
    return v;
}

static void expressions_have_the_usual_meaning(void **state)
{
    (void)state;
    assert_true(value_of("1 + 2 * 3 == x"));
    assert_true(value_of("(1 + 2) * 3 == 9"));
    assert_true(value_of("10 - 2 - 3 == 5"));
    assert_true(value_of("x / 2 == 3.5"));
    assert_true(value_of("x % 4 == 3"));
    assert_true(value_of("-x + 1 == -6"));
    assert_true(value_of("r * 2 >= 5 && r <= 2.5e0"));
    assert_true(value_of("b == true"));
    assert_true(value_of("!(x < 7) && !!b"));
    assert_true(value_of("t == 'on' && 'off' != t"));
    assert_true(value_of("false || x > 6 && x != 8"));
    assert_true(value_of("true || false && false"));
    assert_false(value_of("x == 8"));
    assert_false(value_of("t != 'on'"));
}

static void division_by_zero_makes_a_constraint_false(void **state)
{
    (void)state;
    assert_false(value_of("x / 0 > 1"));
    assert_false(value_of("!(x % 0 == 1)"));
    assert_true(value_of("x == 7 || x / 0 > 1"));
}

static void bad_expressions_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "x",
        "x +",
        "x == ",
        "(x == 1",
        "x == 1)",
        "x = 1",
        "x == 1 1",
        "y == 1",
        "x == 'on'",
        "t == 'what'",
        "t < 'on'",
        "t == u",
        "'on' == t + 1",
        "b + 1 == 2",
        "x && b",
        "r % 2 == 0",
        "x / 2 % 2 == 0",
        "!x",
        "-b",
        "'on' == 'on'",
        "t == 'on",
        "1e999 == x",
        "1x == x",
        "x == 1 ? b : b",
        "b < true",
        "99999999999999999999 == x",
        "x == 1;",
        "x ** 2 == 1",
        "\x01",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct space_expr *e = NULL;
        struct err err = { 0 };

        if (space_expr_parse(bad[i], &names, &e, &err) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(strlen(err.msg) > 10);
    }
}

static void expressions_are_capped_in_length_depth_and_size(void **state)
{
    char text[SPACE_EXPR_LEN_MAX + 16];
    struct space_expr *e;
    struct err err;
    size_t n = 0;

    (void)state;
    memset(text, ' ', sizeof(text));
    text[SPACE_EXPR_LEN_MAX + 1] = '\0';
    assert_int_equal(space_expr_parse(text, &names, &e, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    for (int i = 0; i < SPACE_EXPR_DEPTH_MAX + 1; i++)
        text[n++] = '(';
    text[n] = '\0';
    assert_int_equal(space_expr_parse(text, &names, &e, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    memset(text, '!', 2000);
    text[2000] = '\0';
    assert_int_equal(space_expr_parse(text, &names, &e, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    for (n = 0; n + 2 < 2000; n += 2)
        memcpy(text + n, "1+", 2);
    memcpy(text + n, "1>0", 4);
    assert_int_equal(space_expr_parse(text, &names, &e, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
}

/* ---- assignments ---- */

static void assignments_survive_json_and_defines(void **state)
{
    struct space *s = parse(kernel_space);
    uint16_t *rows, back[SPACE_PARAMS_MAX];
    struct err err;
    size_t n;

    (void)state;
    assert_int_equal(space_enumerate(s, NULL, 10000, &rows, &n, &err), 0);
    assert_true(n > 50);
    for (size_t i = 0; i < n; i++) {
        json_t *obj = space_to_json(s, rows + i * 5);

        assert_int_equal(space_from_json(s, obj, back, &err), 0);
        assert_memory_equal(back, rows + i * 5, 5 * sizeof(*rows));
        assert_int_equal(json_object_size(obj), 5);
        json_decref(obj);
    }
    free(rows);
    space_free(s);
}

static void defines_are_what_a_build_needs(void **state)
{
    struct space *s = parse(kernel_space);
    uint16_t a[5] = { 2, 1, 2, 1, 0 };
    json_t *d = space_defines(s, a);
    char *key = space_key(s, a);

    (void)state;
    assert_string_equal(jsonx_str(d, "TILE", ""), "32");
    assert_string_equal(jsonx_str(d, "SCALE", ""), "2.25");
    assert_string_equal(jsonx_str(d, "PACK", ""), "1");
    assert_string_equal(jsonx_str(d, "SOFTMAX", ""), "0");
    assert_string_equal(jsonx_str(d, "SOFTMAX_online", ""), "0");
    assert_string_equal(jsonx_str(d, "SOFTMAX_two_pass", ""), "1");
    assert_int_equal(json_object_size(d), 7);
    assert_string_equal(key, "PACK=1,SCALE=2.25,SOFTMAX=online,TILE=32,UNROLL=2");
    free(key);
    json_decref(d);
    space_free(s);
}

static void refuse_assignment(const struct space *s, const char *text, const char *part)
{
    uint16_t a[SPACE_PARAMS_MAX];
    struct err err = { 0 };
    json_t *obj;

    assert_int_equal(jsonx_parse(text, strlen(text), "test", &obj, &err), 0);
    if (space_from_json(s, obj, a, &err) == 0)
        fail_msg("accepted: %s", text);
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' does not mention '%s'", err.msg, part);
    json_decref(obj);
}

static void bad_assignments_name_parameter_value_and_what_is_allowed(void **state)
{
    struct space *s =
        parse(ONE("[1,2]", "1",
                  ",{\"name\":\"B\",\"type\":\"bool\",\"kind\":\"categorical\","
                  "\"role\":\"numeric\",\"values\":[false,true],\"default\":true}]}"));

    (void)state;
    refuse_assignment(s, "{\"A\":1}", "'B' has no value (bool: false, true)");
    refuse_assignment(s, "{\"A\":3,\"B\":true}", "'A' is 3, but must be one of 1, 2");
    refuse_assignment(s, "{\"A\":1.0,\"B\":true}", "'A' is 1.0");
    refuse_assignment(s, "{\"A\":1,\"B\":1}", "'B' is 1, but must be one of false, true");
    refuse_assignment(s, "{\"A\":1,\"B\":true,\"C\":1}", "'C' is not a parameter");
    refuse_assignment(s, "[1]", "must be a JSON object");
    space_free(s);
}

static void a_broken_constraint_is_named(void **state)
{
    struct space *s = parse(kernel_space);
    uint16_t a[5] = { 0, 2, 0, 0, 0 };
    struct err err;

    (void)state;
    assert_false(space_valid(s, a));
    assert_int_equal(space_check(s, a, &err), -1);
    assert_non_null(strstr(err.msg, "TILE % UNROLL == 0"));
    a[0] = 77;
    assert_int_equal(space_check(s, a, &err), -1);
    assert_non_null(strstr(err.msg, "'TILE'"));
    space_free(s);
}

/* ---- walks ---- */

/* Every assignment of the full product, valid or not, by counting. */
static size_t count_by_force(const struct space *s, const uint16_t *pattern)
{
    uint16_t a[SPACE_PARAMS_MAX] = { 0 };
    size_t n = 0, p = 0;

    while (p < space_n(s)) {
        n += space_valid(s, a) && space_matches(s, pattern, a);
        for (p = 0; p < space_n(s) && ++a[p] == space_param(s, p)->n_values; p++)
            a[p] = 0;
    }
    return n;
}

static void enumeration_finds_exactly_the_valid_assignments(void **state)
{
    struct space *s = parse(kernel_space);
    uint16_t pattern[5] = { SPACE_ANY, 1, SPACE_ANY, SPACE_ANY, 0 };
    uint16_t *rows;
    struct err err;
    size_t n;

    (void)state;
    assert_int_equal(space_enumerate(s, NULL, 10000, &rows, &n, &err), 0);
    assert_int_equal(n, count_by_force(s, NULL));
    assert_int_equal(space_count(s, NULL, UINT64_MAX), n);
    assert_int_equal(space_count(s, NULL, 7), 7);
    for (size_t i = 0; i < n; i++) {
        assert_true(space_valid(s, rows + i * 5));
        assert_true(i == 0 || memcmp(rows + i * 5, rows + (i - 1) * 5, 10) != 0);
    }
    free(rows);
    assert_int_equal(space_enumerate(s, pattern, 10000, &rows, &n, &err), 0);
    assert_int_equal(n, count_by_force(s, pattern));
    free(rows);
    assert_int_equal(space_enumerate(s, NULL, 10, &rows, &n, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    space_free(s);
}

static void samples_are_valid_and_reach_everything(void **state)
{
    struct space *s = parse(kernel_space);
    size_t n = space_count(s, NULL, UINT64_MAX), distinct = 0;
    uint64_t *seen = calloc(4096, sizeof(*seen));
    struct rng rng = rng_seeded(5);
    uint16_t a[SPACE_PARAMS_MAX], pattern[SPACE_PARAMS_MAX];
    struct err err;

    (void)state;
    for (size_t i = 0; i < 40 * n; i++) {
        uint64_t h;
        size_t at;

        assert_int_equal(space_sample(s, NULL, &rng, a, &err), 0);
        assert_true(space_valid(s, a));
        h = space_hash(s, a) | 1;
        for (at = h >> 20 & 4095; seen[at] != 0 && seen[at] != h; at = (at + 1) & 4095)
            ;
        distinct += seen[at] == 0;
        seen[at] = h;
    }
    assert_int_equal(distinct, n);
    space_cell(s, a, pattern);
    assert_int_equal(pattern[0], SPACE_ANY);
    assert_int_equal(pattern[3], a[3]);
    for (size_t i = 0; i < 200; i++) {
        uint16_t b[SPACE_PARAMS_MAX];

        assert_int_equal(space_sample(s, pattern, &rng, b, &err), 0);
        assert_true(space_valid(s, b) && space_matches(s, pattern, b));
    }
    free(seen);
    space_free(s);
}

/* Twelve parameters of ten values that must all be equal: one in 1e11 of the product is valid. */
static void sampling_works_where_rejection_is_hopeless(void **state)
{
    char text[8192];
    size_t len = (size_t)snprintf(text, sizeof(text), "{\"parameters\":[");
    struct rng rng = rng_seeded(1);
    uint16_t a[SPACE_PARAMS_MAX];
    unsigned reached = 0;
    struct space *s;
    struct err err;

    (void)state;
    for (int p = 0; p < 12; p++)
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len,
                             "%s{\"name\":\"P%d\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":"
                             "\"numeric\",\"values\":[0,1,2,3,4,5,6,7,8,9],\"default\":0}",
                             p ? "," : "", p);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "],\"constraints\":[");
    for (int p = 0; p < 11; p++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\"P%d == P%d\"", p ? "," : "", p,
                                p + 1);
    snprintf(text + len, sizeof(text) - len, "]}");
    s = parse(text);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(space_sample(s, NULL, &rng, a, &err), 0);
        assert_true(space_valid(s, a));
        reached |= 1u << a[0];
    }
    assert_int_equal(reached, 0x3ff);
    assert_int_equal(space_count(s, NULL, UINT64_MAX), 10);
    space_free(s);
}

static void an_impossible_pattern_is_not_found(void **state)
{
    struct space *s = parse(kernel_space);
    uint16_t pattern[5] = { 0, 2, SPACE_ANY, SPACE_ANY, SPACE_ANY }, a[SPACE_PARAMS_MAX];
    struct rng rng = rng_seeded(1);
    struct err err;

    (void)state;
    assert_int_equal(space_sample(s, pattern, &rng, a, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    pattern[1] = 99;
    assert_int_equal(space_sample(s, pattern, &rng, a, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    space_free(s);
}

static void neighbours_differ_in_one_parameter(void **state)
{
    struct space *s = parse(kernel_space);
    uint16_t a[SPACE_PARAMS_MAX], near[64 * 5];
    size_t n, expected = 0;

    (void)state;
    space_default(s, a);
    n = space_neighbours(s, a, near, 64);
    for (size_t i = 0; i < n; i++) {
        int differing = 0;

        for (size_t p = 0; p < 5; p++)
            differing += near[i * 5 + p] != a[p];
        assert_int_equal(differing, 1);
        assert_true(space_valid(s, near + i * 5));
    }
    for (size_t p = 0; p < 5; p++)
        for (uint16_t v = 0; v < space_param(s, p)->n_values; v++) {
            uint16_t kept = a[p];

            a[p] = v;
            expected += v != kept && space_valid(s, a);
            a[p] = kept;
        }
    assert_int_equal(n, expected);
    assert_int_equal(space_neighbours(s, a, near, 2), 2);
    space_free(s);
}

/* ---- spaces made of rows ---- */

static void rows_make_a_space_of_exactly_those_rows(void **state)
{
    static const char text[] =
        "[{\"a\":4,\"mode\":\"x\",\"r\":0.5},{\"a\":2,\"mode\":\"y\",\"r\":1},"
        "{\"a\":4,\"mode\":\"y\",\"r\":1}]";
    struct rng rng = rng_seeded(3);
    uint16_t a[SPACE_PARAMS_MAX];
    struct space *s;
    struct err err;
    json_t *rows;

    (void)state;
    assert_int_equal(jsonx_parse(text, strlen(text), "rows", &rows, &err), 0);
    assert_int_equal(space_from_rows(rows, &s, &err), 0);
    assert_int_equal(space_rows(s), 3);
    assert_int_equal(space_count(s, NULL, UINT64_MAX), 3);
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(space_row_of(s, space_row(s, k)), k);
        assert_int_equal(space_from_json(s, json_array_get(rows, k), a, &err),
                         k == 0 ? 0 : -1); /* r is real: a whole 1 is of another type */
    }
    memcpy(a, space_row(s, 0), 6);
    a[space_find(s, "mode")] ^= 1;
    assert_int_equal(space_check(s, a, &err), -1);
    assert_non_null(strstr(err.msg, "not one of the 3 listed"));
    for (int i = 0; i < 30; i++) {
        assert_int_equal(space_sample(s, NULL, &rng, a, &err), 0);
        assert_true(space_row_of(s, a) >= 0);
    }
    json_decref(rows);
    space_free(s);
}

static void bad_row_lists_are_refused(void **state)
{
    static const char *const bad[] = { "[]",
                                       "[{}]",
                                       "[{\"a\":1},{\"a\":1}]",
                                       "[{\"a\":1},{\"b\":1}]",
                                       "[{\"a\":1},{\"a\":\"x\"}]",
                                       "[{\"a\":1},{\"a\":1,\"b\":2}]",
                                       "[{\"a\":[]}]",
                                       "[{\"a b\":1}]" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct space *s;
        struct err err;
        json_t *rows;

        assert_int_equal(jsonx_parse(bad[i], strlen(bad[i]), "rows", &rows, &err), 0);
        if (space_from_rows(rows, &s, &err) == 0)
            fail_msg("accepted: %s", bad[i]);
        json_decref(rows);
    }
}

/* A program that declares no tunables has a space too: of one assignment, of nothing. */
static void a_space_without_parameters_has_one_assignment(void **state)
{
    struct space *s = parse("{\"parameters\":[],\"constraints\":[]}");
    uint16_t a[1] = { 7 }, *rows = NULL;
    CLEANUP(freep) char *key = space_key(s, a);
    json_auto_t *obj = space_to_json(s, a), *defines = space_defines(s, a);
    struct rng rng = rng_seeded(1);
    struct err err;
    size_t n = 0;

    (void)state;
    assert_int_equal(space_n(s), 0);
    space_default(s, a);
    assert_true(space_valid(s, a));
    assert_int_equal(space_check(s, a, &err), 0);
    assert_string_equal(key, "");
    assert_int_equal(json_object_size(obj), 0);
    assert_int_equal(json_object_size(defines), 0);
    assert_int_equal(space_from_json(s, obj, a, &err), 0);
    assert_int_equal(space_hash(s, a), space_hash(s, rows));
    assert_int_equal(space_sample(s, NULL, &rng, a, &err), 0);
    assert_int_equal(space_enumerate(s, NULL, 10, &rows, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_int_equal(space_count(s, NULL, 10), 1);
    assert_int_equal(space_enumerate(s, NULL, 0, &rows, &n, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_true(space_product(s) == 1.0);
    assert_int_equal(space_neighbours(s, a, a, 1), 0);
    assert_true(space_matches(s, a, a));
    space_cell(s, a, a);
    assert_int_equal(a[0], 7); /* nothing was ever written */
    json_object_set_new(obj, "A", json_integer(1));
    assert_int_equal(space_from_json(s, obj, a, &err), -1);
    free(rows);
    space_free(s);
    refuse("{\"constraints\":[]}", "'parameters'");
    refuse("{\"parameters\":{}}", "'parameters'");
    refuse("{\"parameters\":[],\"constraints\":[\"1 == 2\"]}", "breaks the constraint");
    refuse("{\"parameters\":[],\"constraints\":[\"A == 2\"]}", "A");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_space_without_parameters_has_one_assignment),
        cmocka_unit_test(a_space_keeps_what_its_document_says),
        cmocka_unit_test(bad_documents_are_refused_with_a_sentence),
        cmocka_unit_test(macro_names_may_not_collide),
        cmocka_unit_test(expressions_have_the_usual_meaning),
        cmocka_unit_test(division_by_zero_makes_a_constraint_false),
        cmocka_unit_test(bad_expressions_are_refused),
        cmocka_unit_test(expressions_are_capped_in_length_depth_and_size),
        cmocka_unit_test(assignments_survive_json_and_defines),
        cmocka_unit_test(defines_are_what_a_build_needs),
        cmocka_unit_test(bad_assignments_name_parameter_value_and_what_is_allowed),
        cmocka_unit_test(a_broken_constraint_is_named),
        cmocka_unit_test(enumeration_finds_exactly_the_valid_assignments),
        cmocka_unit_test(samples_are_valid_and_reach_everything),
        cmocka_unit_test(sampling_works_where_rejection_is_hopeless),
        cmocka_unit_test(an_impossible_pattern_is_not_found),
        cmocka_unit_test(neighbours_differ_in_one_parameter),
        cmocka_unit_test(rows_make_a_space_of_exactly_those_rows),
        cmocka_unit_test(bad_row_lists_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
