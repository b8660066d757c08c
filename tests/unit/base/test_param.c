/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/mem.h"
#include "base/param.h"
#include "unit/test.h"

struct target {
    char *task;
    uint64_t seed;
    bool seed_given;
    double x;
    bool cold;
    int mode;
    json_t *extra;
};

static const char *const modes[] = { "fast", "slow", NULL };
static const struct param rows[] = {
    { "task", PARAM_NAME, offsetof(struct target, task), PARAM_REQUIRED, "task", 0, 0, NULL, 0 },
    { "seed", PARAM_U64, offsetof(struct target, seed), 0, "seed", 0, 0, NULL,
      PARAM_SEEN(struct target, seed_given) },
    { "x", PARAM_REAL, offsetof(struct target, x), 0, "x", 0, 1, NULL, 0 },
    { "cold", PARAM_BOOL, offsetof(struct target, cold), 0, "cold", 0, 0, NULL, 0 },
    { "mode", PARAM_ENUM, offsetof(struct target, mode), 0, "mode", 0, 0, modes, 0 },
    { "extra", PARAM_JSON, offsetof(struct target, extra), 0, "extra", 0, 0, NULL, 0 },
    { 0 },
};

static int parse(const char *text, struct target *t, struct err *err)
{
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    int rc;

    assert_non_null(j);
    memset(t, 0, sizeof(*t));
    t->x = 0.5;
    rc = param_parse(rows, j, t, err);
    json_decref(j);
    return rc;
}

static void param_fills_the_struct_and_keeps_defaults(void **state)
{
    struct target t;
    struct err err;

    (void)state;
    assert_ok(parse("{\"task\":\"a\",\"seed\":7,\"mode\":\"slow\",\"extra\":[1]}", &t, &err), err);
    assert_string_equal(t.task, "a");
    assert_int_equal(t.seed, 7);
    assert_true(t.seed_given);
    assert_int_equal(t.mode, 1);
    assert_true(t.x == 0.5);
    assert_int_equal(json_array_size(t.extra), 1);
    param_release(rows, &t);
    assert_null(t.task);
}

static void param_errors_name_field_value_and_what_is_allowed(void **state)
{
    static const struct {
        const char *text, *says[3];
    } bad[] = {
        { "{}", { "'task'", "missing", "name" } },
        { "{\"task\":5}", { "'task'", "5", "name" } },
        { "{\"task\":\"../x\"}", { "'task'", "../x", "letters" } },
        { "{\"task\":\"a\",\"seed\":-1}", { "'seed'", "-1", "integer" } },
        { "{\"task\":\"a\",\"seed\":1.5}", { "'seed'", "1.5", "integer" } },
        { "{\"task\":\"a\",\"x\":2}", { "'x'", "2", "from 0 to 1" } },
        { "{\"task\":\"a\",\"mode\":\"mid\"}", { "'mode'", "mid", "fast, slow" } },
        { "{\"task\":\"a\",\"cold\":1}", { "'cold'", "1", "true" } },
        { "{\"task\":\"a\",\"colt\":true}", { "'colt'", "not a known", "task, seed" } },
        { "[1]", { "[1]", "object", "allowed" } },
        { "{\"task\":\"a\\u0000b\"}", { "'task'", "NUL", "NUL" } },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct target t;
        struct err err = { 0 };

        if (strstr(bad[i].text, "u0000")) {
            json_t *j = json_loads(bad[i].text, JSON_ALLOW_NUL, NULL);

            memset(&t, 0, sizeof(t));
            assert_int_equal(param_parse(rows, j, &t, &err), -1);
            json_decref(j);
        } else {
            assert_int_equal(parse(bad[i].text, &t, &err), -1);
        }
        assert_int_equal(err.code, ERR_INVALID);
        for (int k = 0; k < 3; k++)
            if (strstr(err.msg, bad[i].says[k]) == NULL)
                fail_msg("'%s' does not say '%s'", err.msg, bad[i].says[k]);
        assert_null(t.task);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(param_fills_the_struct_and_keeps_defaults),
        cmocka_unit_test(param_errors_name_field_value_and_what_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
