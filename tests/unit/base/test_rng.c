/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/rng.h"
#include "unit/test.h"

static void rng_streams_are_reproducible_and_apart(void **state)
{
    struct rng a = rng_derive(7, "propose", 3), b = rng_derive(7, "propose", 3);
    struct rng c = rng_derive(7, "propose", 4), d = rng_derive(7, "ties", 3);
    uint64_t va = rng_u64(&a);

    (void)state;
    assert_true(va == rng_u64(&b));
    assert_true(va != rng_u64(&c));
    assert_true(va != rng_u64(&d));
}

static void rng_below_is_even(void **state)
{
    struct rng r = rng_seeded(1);
    int count[7] = { 0 };

    (void)state;
    for (int i = 0; i < 70000; i++)
        count[rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_true(abs(count[i] - 10000) < 500);
}

static void rng_normal_has_mean_zero_and_deviation_one(void **state)
{
    struct rng r = rng_seeded(2);
    double sum = 0, sq = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        double x = rng_normal(&r);

        sum += x;
        sq += x * x;
    }
    assert_true(fabs(sum / 1e5) < 0.02);
    assert_true(fabs(sq / 1e5 - 1) < 0.03);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng_streams_are_reproducible_and_apart),
        cmocka_unit_test(rng_below_is_even),
        cmocka_unit_test(rng_normal_has_mean_zero_and_deviation_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
