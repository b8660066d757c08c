/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/jsonread.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "unit/test.h"

/* One byte of a text changed, anywhere: the quick reader takes nothing that jansson would not, and
 * gives the same value. */
static void the_quick_reader_agrees_with_jansson(void **state)
{
    static const char seed[] =
        "{\"a\":[1,-2,0,-0,1.5,-2e3,1E-2,123456789012345678,1234567890123456789,0.1],\"b\":{\"c\":"
        "\"text \xc3\xa9\",\"d\":null},\"e\" : [ true,false , {} , [] ],\"f\":0.30000000000000004}";
    static const char bytes[] = "{}[]\",:\\0129-+.eEtfn a\x01\x80\xc3";
    char text[sizeof(seed)];
    size_t plain = 0;

    (void)state;
    for (size_t at = 0; at < sizeof(seed) - 1; at++)
        for (size_t k = 0; k < sizeof(bytes) - 1; k++) {
            json_auto_t *quick = NULL, *slow = NULL;

            memcpy(text, seed, sizeof(seed));
            text[at] = bytes[k];
            quick = jsonread_plain(text, sizeof(seed) - 1);
            slow =
                json_loadb(text, sizeof(seed) - 1, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
            plain += quick != NULL;
            assert_true(quick == NULL || (slow != NULL && json_equal(quick, slow)));
        }
    assert_true(plain > 0);
    /* As an answer is: it is taken. */
    memcpy(text, seed, sizeof(seed));
    text[strstr(seed, "1234567890123456789") - seed] = ' ';
    {
        json_auto_t *quick = jsonread_plain(text, sizeof(seed) - 1);

        assert_non_null(quick);
        assert_string_equal(json_string_value(json_object_get(json_object_get(quick, "b"), "c")),
                            "text \xc3\xa9");
    }
}

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
        cmocka_unit_test(the_quick_reader_agrees_with_jansson),
        cmocka_unit_test(jsonx_rejects_what_is_not_one_json_text),
        cmocka_unit_test(jsonx_rejects_deep_nesting_but_not_brackets_in_strings),
        cmocka_unit_test(jsonx_canonical_does_not_depend_on_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
