/* SPDX-License-Identifier: Apache-2.0 */
/* The order of re-verification. */
#include <math.h>

#include "base/mem.h"
#include "retune/plan.h"
#include "unit/test.h"

static struct plan_candidate candidate(double p, double stake, uint32_t relying, double eval_s,
                                       const char *a, const char *b)
{
    return (struct plan_candidate){ p, stake, relying, eval_s, { a, b } };
}

static void the_most_valuable_per_cost_comes_first(void **state)
{
    struct plan_candidate c[] = {
        candidate(0.2, 0.1, 1, 1, "a", "b"), /* 0.025 for 2 s */
        candidate(0.4, 0.1, 1, 1, "c", "d"), /* 0.05 for 2 s */
        candidate(0.4, 0.2, 3, 9, "e", "f"), /* 0.26 for 18 s */
        candidate(0.0, 0.2, 3, 1, "g", "h"), /* certain: of no value */
    };
    json_auto_t *known = json_object();
    struct plan_item items[4];

    (void)state;
    assert_int_equal(plan_order(c, 4, known, items), 4);
    assert_int_equal(items[0].candidate, 1);
    assert_int_equal(items[1].candidate, 2);
    assert_int_equal(items[2].candidate, 0);
    assert_int_equal(items[3].candidate, 3);
    assert_true(fabs(items[0].value - 0.4 * 0.1 * 1.25) < 1e-12);
    assert_true(items[0].cost_s == 2 && items[0].evaluations == 2);
    assert_int_equal(json_object_size(known), 0);
}

static void a_shared_measurement_is_paid_once(void **state)
{
    struct plan_candidate c[] = {
        candidate(0.4, 0.1, 1, 1, "champion", "x"),
        candidate(0.3, 0.1, 1, 1, "champion", "y"),
        candidate(0.35, 0.1, 1, 1, "other", "z"),
        candidate(0.01, 0.1, 1, 1, "x", "y"),
    };
    json_auto_t *known = json_object();
    struct plan_item items[4];

    (void)state;
    assert_int_equal(plan_order(c, 4, known, items), 4);
    assert_int_equal(items[0].candidate, 0);
    assert_int_equal(items[1].candidate, 1); /* one more evaluation, so it goes before */
    assert_int_equal(items[1].evaluations, 1);
    assert_int_equal(items[2].candidate, 3); /* nothing more to measure */
    assert_int_equal(items[2].evaluations, 0);
    assert_true(items[2].cost_s == 0);
    assert_int_equal(items[3].candidate, 2);
    /* what is known already costs nothing either */
    json_object_set_new(known, "other", json_true());
    json_object_set_new(known, "z", json_true());
    plan_order(c, 4, known, items);
    assert_int_equal(items[0].candidate, 2);
    assert_int_equal(items[0].evaluations, 0);
}

static void programs_that_rely_on_it_multiply_its_value(void **state)
{
    struct plan_candidate none = candidate(0.5, 0.1, 0, 1, "a", "b");
    struct plan_candidate three = candidate(0.5, 0.1, 3, 1, "a", "b");

    (void)state;
    assert_true(plan_value(&none) > 0);
    assert_true(fabs(plan_value(&three) / plan_value(&none) - 13) < 1e-9);
}

static void ties_keep_their_order(void **state)
{
    struct plan_candidate c[50];
    json_auto_t *known = json_object();
    struct plan_item items[50];
    char keys[100][8];

    (void)state;
    for (int i = 0; i < 50; i++) {
        snprintf(keys[2 * i], 8, "a%d", i);
        snprintf(keys[2 * i + 1], 8, "b%d", i);
        c[i] = candidate(0.5, 0.1, 1, 1, keys[2 * i], keys[2 * i + 1]);
    }
    plan_order(c, 50, known, items);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(items[i].candidate, i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_valuable_per_cost_comes_first),
        cmocka_unit_test(a_shared_measurement_is_paid_once),
        cmocka_unit_test(programs_that_rely_on_it_multiply_its_value),
        cmocka_unit_test(ties_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
