/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/buf.h"
#include "unit/test.h"

static void buf_appends_and_stays_a_string(void **state)
{
    struct buf b = { .max = 100 };
    struct err err;

    (void)state;
    assert_string_equal(buf_str(&b), "");
    assert_ok(buf_adds(&b, "ab", &err), err);
    assert_int_equal(buf_addf(&b, "%d", 42), 0);
    assert_string_equal(buf_str(&b), "ab42");
    buf_consume(&b, 3);
    assert_string_equal(buf_str(&b), "2");
    buf_consume(&b, 9);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void buf_refuses_past_its_cap_and_keeps_what_it_has(void **state)
{
    struct buf b = { .max = 4 };
    struct err err;

    (void)state;
    assert_ok(buf_adds(&b, "1234", &err), err);
    assert_fails(buf_adds(&b, "5", &err), err, ERR_LIMIT);
    assert_int_equal(buf_addf(&b, "%s", "5"), -1);
    assert_string_equal(buf_str(&b), "1234");
    buf_release(&b);
}

static void buf_take_gives_a_string_even_when_empty(void **state)
{
    struct buf b = { .max = 4 };
    char *s = buf_take(&b);

    (void)state;
    assert_string_equal(s, "");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_appends_and_stays_a_string),
        cmocka_unit_test(buf_refuses_past_its_cap_and_keeps_what_it_has),
        cmocka_unit_test(buf_take_gives_a_string_even_when_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
