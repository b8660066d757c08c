/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/mem.h"
#include "search/stagnation.h"
#include "unit/test.h"

enum { ROUNDS_MAX = 8 };

static int64_t micro(double ratio)
{
    return llround(1e6 * log(ratio));
}

/* The traces for a window of 3: score (0: the round failed), then both counters after it. */
static void the_counters_follow_the_vectors(void **state)
{
    static const struct {
        double base; /* 0: none */
        struct {
            double score;
            uint32_t a, b;
        } rounds[ROUNDS_MAX];
        int n;
        enum stagnation_end end;
        double best;
    } rows[] = {
        { 0, { { 0, 1, 0 }, { 0, 2, 0 }, { 0, 3, 0 } }, 3, STAGNATION_NO_PASS, 0 },
        { 0,
          { { 0, 1, 0 }, { 0, 2, 0 }, { 0.4, 0, 0 }, { 0.4, 1, 0 }, { 0, 2, 0 }, { 0, 3, 0 } },
          6,
          STAGNATION_NO_IMPROVEMENT,
          0.4 },
        { 1.0,
          { { 0, 1, 0 }, { 0.8, 0, 1 }, { 0.9, 0, 2 }, { 0.95, 0, 3 } },
          4,
          STAGNATION_BELOW_BASE,
          0.95 },
        { 1.0,
          { { 1.2, 0, 0 },
            { 0, 1, 0 },
            { 0, 2, 0 },
            { 1.3, 0, 0 },
            { 1.3, 1, 0 },
            { 0, 2, 0 },
            { 1.1, 3, 0 } },
          7,
          STAGNATION_NO_IMPROVEMENT,
          1.3 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct stagnation s;

        stagnation_start(&s, 3, rows[i].base > 0, rows[i].base > 0 ? micro(rows[i].base) : 0, 0,
                         false);
        for (int r = 0; r < rows[i].n; r++) {
            double score = rows[i].rounds[r].score;

            assert_int_equal(stagnation_state(&s), STAGNATION_RUNNING);
            stagnation_count(&s, score > 0, score > 0 ? micro(score) : 0);
            assert_int_equal(s.a, rows[i].rounds[r].a);
            assert_int_equal(s.b, rows[i].rounds[r].b);
        }
        assert_int_equal(stagnation_state(&s), rows[i].end);
        assert_int_equal(s.has_best, rows[i].best > 0);
        if (rows[i].best > 0)
            assert_int_equal(s.best_q, micro(rows[i].best));
    }
}

/* The third vector again: 0.8, 0.9, 0.95 gains enough a round to get above 1.0, so it may go on. */
static void a_rate_that_reaches_the_base_is_spared(void **state)
{
    struct stagnation s;

    (void)state;
    stagnation_start(&s, 3, true, micro(1.0), 0, true);
    stagnation_count(&s, false, 0);
    stagnation_count(&s, true, micro(0.8));
    assert_int_equal(s.b, 1); /* no rate is known yet */
    stagnation_count(&s, true, micro(0.9));
    assert_int_equal(s.b, 1);
    stagnation_count(&s, true, micro(0.95));
    assert_int_equal(s.b, 1);
    stagnation_count(&s, true, micro(1.05));
    assert_int_equal(s.b, 0);
    assert_int_equal(stagnation_state(&s), STAGNATION_RUNNING);
}

static void a_rate_that_cannot_reach_the_base_still_ends_the_cycle(void **state)
{
    struct stagnation s;
    int rounds = 0;
    char text[120];

    (void)state;
    stagnation_start(&s, 4, true, micro(2.0), 0, true);
    while (stagnation_state(&s) == STAGNATION_RUNNING) {
        stagnation_count(&s, true, micro(1.0 + 0.001 * rounds));
        assert_true(++rounds <= 4);
    }
    assert_int_equal(rounds, 4);
    assert_int_equal(stagnation_state(&s), STAGNATION_BELOW_BASE);
    assert_string_equal(stagnation_text(&s, text, sizeof(text)),
                        "4 rounds in a row without getting above the base");
}

static void an_improvement_within_the_margin_is_none(void **state)
{
    struct stagnation s;

    (void)state;
    stagnation_start(&s, 2, false, 0, 10000, false);
    stagnation_count(&s, true, 500000);
    stagnation_count(&s, true, 510000);
    assert_int_equal(s.a, 1);
    assert_int_equal(s.best_q, 500000);
    stagnation_count(&s, true, 510001);
    assert_int_equal(s.a, 0);
    assert_int_equal(s.best_q, 510001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counters_follow_the_vectors),
        cmocka_unit_test(a_rate_that_reaches_the_base_is_spared),
        cmocka_unit_test(a_rate_that_cannot_reach_the_base_still_ends_the_cycle),
        cmocka_unit_test(an_improvement_within_the_margin_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
