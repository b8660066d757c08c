/* SPDX-License-Identifier: Apache-2.0 */
/* Survival rates: what counts, and that no order matters. */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "retune/survival.h"
#include "unit/test.h"

static void add(struct survival *s, const char *technique, uint32_t pairs_a, uint32_t up_a,
                uint32_t pairs_b, uint32_t up_b)
{
    struct insight_cell cells[] = {
        { (char *)"cpu-a", { .blind = pairs_a, .positive = up_a } },
        { (char *)"cpu-a|shape", { .blind = pairs_a, .positive = up_a } },
        { (char *)"cpu-b", { .steered = pairs_b, .positive = up_b } },
    };
    struct insight in = { .claim = { .technique = (char *)technique },
                          .state = INSIGHT_ACTIVE,
                          .n_cells = 3,
                          .cells = cells };

    survival_add_insight(s, &in);
}

static void a_sign_that_stays_survived(void **state)
{
    struct survival *s = survival_new();
    struct survival_rate r;

    (void)state;
    add(s, "tiling", 4, 4, 4, 3); /* both up */
    add(s, "tiling", 4, 0, 2, 0); /* both down */
    add(s, "tiling", 4, 4, 4, 1); /* turned over */
    add(s, "tiling", 4, 2, 4, 4); /* divided: says nothing */
    add(s, "tiling", 1, 1, 4, 4); /* too few */
    r = survival_rate(s, "cpu-b", "cpu-a", "tiling");
    assert_int_equal(r.n, 3);
    assert_int_equal(r.kept, 2);
    assert_int_equal(r.n_parent, 3);
    assert_true(r.mean > 0.5 && r.mean < 0.8);
    survival_free(s);
}

static void a_retracted_insight_does_not_count(void **state)
{
    struct insight_cell cells[] = { { (char *)"a", { .blind = 4, .positive = 4 } },
                                    { (char *)"b", { .blind = 4, .positive = 4 } } };
    struct insight in = { .claim = { .technique = (char *)"t" },
                          .state = INSIGHT_RETRACTED,
                          .n_cells = 2,
                          .cells = cells };
    struct survival *s = survival_new();

    (void)state;
    survival_add_insight(s, &in);
    assert_int_equal(survival_rate(s, "a", "b", "t").n, 0);
    survival_free(s);
}

static void what_is_unknown_takes_the_parent_s_rate(void **state)
{
    struct survival *s = survival_new();
    double nothing = survival_rate(s, "a", "b", "t").mean, pair, other;

    (void)state;
    assert_true(fabs(nothing - 2.0 / 3) < 1e-12);
    for (int i = 0; i < 20; i++)
        survival_add(s, "a", "b", "known", i < 2); /* nearly nothing survives */
    pair = survival_rate(s, "a", "b", "t").mean;
    other = survival_rate(s, "a", "c", "t").mean;
    assert_true(pair < 0.2);
    assert_true(other < nothing && other > pair);
    for (int i = 0; i < 20; i++)
        survival_add(s, "a", "b", "t", true);
    assert_true(survival_rate(s, "a", "b", "t").mean > 0.85);
    survival_free(s);
}

/* Any order of the same counts gives the same rates, byte for byte. */
static void the_order_does_not_matter(void **state)
{
    static const char *const classes[] = { "a", "b", "c" }, *const techniques[] = { "t", "u" };
    CLEANUP(freep) char *first = NULL;
    struct rng rng = rng_seeded(7);
    uint32_t order[60];

    (void)state;
    for (uint32_t i = 0; i < ARRAY_LEN(order); i++)
        order[i] = i;
    for (int round = 0; round < 20; round++) {
        struct survival *s = survival_new();
        json_auto_t *j = NULL;
        char *text;

        rng_shuffle(&rng, order, ARRAY_LEN(order));
        for (size_t k = 0; k < ARRAY_LEN(order); k++) {
            uint32_t i = order[k];
            const char *x = classes[i % 3], *y = classes[i / 3 % 3];
            bool turn = rng_below(&rng, 2);

            survival_add(s, turn ? x : y, turn ? y : x, techniques[i % 2], i % 5 != 0);
        }
        j = survival_to_json(s);
        text = jsonx_canonical(j);
        if (first == NULL)
            first = text;
        else {
            assert_string_equal(text, first);
            free(text);
        }
        survival_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sign_that_stays_survived),
        cmocka_unit_test(a_retracted_insight_does_not_count),
        cmocka_unit_test(what_is_unknown_takes_the_parent_s_rate),
        cmocka_unit_test(the_order_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
