/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/err.h"
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
        cmocka_unit_test(err_names_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
