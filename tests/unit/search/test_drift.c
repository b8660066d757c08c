/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline's drift: said when the machine changed, silent about single disturbances. */
#include "search/drift.h"

#include <math.h>
#include <string.h>

#include "unit/test.h"

static int64_t level(double us)
{
    return (int64_t)llround(1e6 * log(1e3 * us));
}

static void a_steady_baseline_is_silent(void **state)
{
    struct drift d = { 0 };
    char text[240];

    (void)state;
    assert_true(drift_first_ns(&d) == 0 && drift_last_ns(&d) == 0);
    for (int i = 0; i < 40; i++)
        drift_add(&d, level(100 + i % 7));
    assert_false(drift_is_notable(&d));
    assert_string_equal(drift_text(&d, text, sizeof(text)), "");
    assert_true(fabs(drift_first_ns(&d) / 102e3 - 1) < 1e-5);
}

static void one_disturbed_evaluation_says_nothing(void **state)
{
    struct drift d = { 0 };

    (void)state;
    for (int i = 0; i < 20; i++)
        drift_add(&d, level(i == 2 || i == 19 || i == 18 ? 500 : 100));
    assert_true(drift_log(&d) == 0);
}

static void a_machine_that_became_slower_is_said(void **state)
{
    struct drift d = { 0 };
    char text[240];

    (void)state;
    for (int i = 0; i < 9; i++)
        drift_add(&d, level(i < 4 ? 100 : 130));
    assert_true(drift_log(&d) == 0); /* too few to tell */
    for (int i = 0; i < 5; i++)
        drift_add(&d, level(130));
    assert_true(fabs(drift_log(&d) - log(1.3)) < 1e-5);
    assert_non_null(strstr(drift_text(&d, text, sizeof(text)), "1.30 times"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_baseline_is_silent),
        cmocka_unit_test(one_disturbed_evaluation_says_nothing),
        cmocka_unit_test(a_machine_that_became_slower_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
