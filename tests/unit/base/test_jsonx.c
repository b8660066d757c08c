/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "unit/test.h"

static void jsonx_rejects_what_is_not_one_json_text(void **state)
{
    static const char *const bad[] = {
        "", "{", "{} {}", "{\"a\":1,\"a\":2}", "NaN", "[1,]", "nul"
    };
    struct err err;
    json_t *v;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_fails(jsonx_parse(bad[i], strlen(bad[i]), "text", &v, &err), err, ERR_INVALID);
}

static void jsonx_rejects_deep_nesting_but_not_brackets_in_strings(void **state)
{
    char deep[300], flat[300];
    struct err err;
    json_t *v;

    (void)state;
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_fails(jsonx_parse(deep, 200, "text", &v, &err), err, ERR_INVALID);
    memset(flat, '[', 200);
    flat[0] = flat[199] = '"';
    assert_ok(jsonx_parse(flat, 200, "text", &v, &err), err);
    json_decref(v);
}

static void jsonx_canonical_does_not_depend_on_order(void **state)
{
    json_t *a = json_pack("{s:i, s:f}", "x", 1, "b", 0.1);
    json_t *b = json_pack("{s:f, s:i}", "b", 0.1, "x", 1);
    CLEANUP(freep) char *ta = jsonx_canonical(a);
    CLEANUP(freep) char *tb = jsonx_canonical(b);

    (void)state;
    assert_string_equal(ta, tb);
    assert_string_equal(ta, "{\"b\":0.10000000000000001,\"x\":1}");
    json_decref(a);
    json_decref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jsonx_rejects_what_is_not_one_json_text),
        cmocka_unit_test(jsonx_rejects_deep_nesting_but_not_brackets_in_strings),
        cmocka_unit_test(jsonx_canonical_does_not_depend_on_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
