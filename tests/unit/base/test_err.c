/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "unit/test.h"

static void err_keeps_the_code_and_gains_context(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(err_set(&err, ERR_LIMIT, "size %d", 7), -1);
    assert_int_equal(err_ctx(&err, "candidate '%s'", "a.c"), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_string_equal(err.msg, "candidate 'a.c': size 7");
}

static void err_context_never_overflows(void **state)
{
    struct err err;

    (void)state;
    err_set(&err, ERR_IO, "start");
    for (int i = 0; i < 200; i++)
        err_ctx(&err, "level %d", i);
    assert_true(strlen(err.msg) < sizeof(err.msg));
}

/* Messages go into events and replies: a cut must leave UTF-8. */
static void err_is_cut_between_characters(void **state)
{
    static const char *const characters[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x94\xa5" };

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(characters); c++)
        for (size_t shift = 0; shift < 4; shift++) {
            CLEANUP(buf_release) struct buf text = { .max = 4096 };
            json_auto_t *json = NULL;
            struct err err;

            assert_ok(buf_adds(&text, &"...."[shift], &err), err);
            while (text.len < 2 * sizeof(err.msg))
                assert_ok(buf_adds(&text, characters[c], &err), err);
            err_set(&err, ERR_IO, "%s", buf_str(&text));
            assert_in_range(strlen(err.msg), sizeof(err.msg) - 4, sizeof(err.msg) - 1);
            json = json_string(err.msg);
            assert_non_null(json);
            err_ctx(&err, "again%.*s", (int)shift, "....");
            json_decref(json);
            json = json_string(err.msg);
            assert_non_null(json);
        }
}

static void err_names_round_trip(void **state)
{
    (void)state;
    for (int c = 0; c < ERR_COUNT; c++)
        assert_int_equal(err_from_name(err_name((enum err_code)c)), c);
    assert_int_equal(err_from_name("NOPE"), ERR_COUNT);
    assert_int_equal(err_exit_status(ERR_REFUSED), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_keeps_the_code_and_gains_context),
        cmocka_unit_test(err_context_never_overflows),
        cmocka_unit_test(err_is_cut_between_characters),
        cmocka_unit_test(err_names_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
