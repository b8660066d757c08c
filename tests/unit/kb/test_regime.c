/* SPDX-License-Identifier: Apache-2.0 */
/* Shape regimes: the distance's properties, guards, fall-back, text. */
#include "unit/test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "regime.h"

static struct regime parsed(const char *text)
{
    struct regime r;
    struct err err;

    assert_ok(regime_parse(text, &r, &err), err);
    return r;
}

static double between(const char *a, const char *b)
{
    struct regime x = parsed(a), y = parsed(b);

    return regime_compare(&x, &y, REGIME_OWN_FAMILY).distance;
}

static struct regime random_regime(struct rng *rng, bool all)
{
    static const char *const names[] = { "experts", "top_k",    "hidden", "tokens_per_expert",
                                         "ep",      "kv_heads", "lanes",  "length" };
    struct regime r = { 0 };
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (all || rng_below(rng, 2))
            assert_ok(regime_put(&r, names[i], (double)(rng_below(rng, 2000)), &err), err);
    return r;
}

static void distance_is_symmetric_and_zero_on_itself(void **state)
{
    struct rng rng = rng_seeded(7);

    (void)state;
    for (int i = 0; i < 500; i++) {
        struct regime a = random_regime(&rng, false), b = random_regime(&rng, false);
        struct regime_match ab = regime_compare(&a, &b, REGIME_OWN_FAMILY);
        struct regime_match ba = regime_compare(&b, &a, REGIME_OWN_FAMILY);
        struct regime_match aa = regime_compare(&a, &a, REGIME_OWN_FAMILY);

        assert_true(fabs(ab.distance - ba.distance) < 1e-9);
        assert_true(ab.distance >= 0 && ab.similarity > 0 && ab.similarity <= 1);
        assert_true(aa.distance == 0 && aa.similarity == 1);
        assert_int_equal(aa.level, REGIME_SAME);
    }
}

static void distance_keeps_the_triangle_inequality_over_equal_axes(void **state)
{
    struct rng rng = rng_seeded(8);

    (void)state;
    for (int i = 0; i < 500; i++) {
        struct regime a = random_regime(&rng, true), b = random_regime(&rng, true);
        struct regime c = random_regime(&rng, true);
        double ab = regime_compare(&a, &b, REGIME_OWN_FAMILY).distance;
        double bc = regime_compare(&b, &c, REGIME_OWN_FAMILY).distance;
        double ac = regime_compare(&a, &c, REGIME_OWN_FAMILY).distance;

        assert_true(ac <= ab + bc + 1e-9);
    }
}

/* Nothing snaps to the nearest key: each doubling is farther than the last, without a jump. */
static void likeness_falls_continuously_with_each_axis(void **state)
{
    struct regime here = parsed("experts=64,top_k=8,tokens_per_expert=8");
    double last = 1;

    (void)state;
    for (double tokens = 8; tokens < 1024; tokens *= 1.05) {
        struct regime there = here;
        struct regime_match m;
        struct err err;

        assert_ok(regime_put(&there, "tokens_per_expert", tokens, &err), err);
        m = regime_compare(&here, &there, REGIME_OWN_FAMILY);
        assert_true(m.similarity <= last && m.similarity > 0.96 * last);
        last = m.similarity;
    }
    assert_true(last < 0.15);
    assert_true(fabs(between("kv_heads=4", "kv_heads=8") - 1) < 1e-9);
    assert_true(fabs(between("num_kv_heads=4", "kv_heads=4")) < 1e-9);
    assert_true(between("kv_heads=4", "kv_heads=16") > between("kv_heads=4", "kv_heads=8"));
    assert_true(between("length=1000", "length=2000") < between("head_dim=64", "head_dim=128"));
}

static void guards_cap_likeness_however_near_the_shape(void **state)
{
    static const struct {
        const char *a, *b, *guard;
        double most;
    } cases[] = {
        { "experts=64,dtype=fp8", "experts=64,dtype=bf16", "quantisation", 0.15 },
        { "experts=64,dtype=bf16", "experts=64,dtype=f16", "dtype", 0.3 },
        { "experts=64,block_scale=128", "experts=64,block_scale=32x32", "block scale", 0.4 },
    };
    struct regime x, y;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct regime_match m;

        x = parsed(cases[i].a);
        y = parsed(cases[i].b);
        m = regime_compare(&x, &y, REGIME_OWN_FAMILY);
        assert_string_equal(m.guard, cases[i].guard);
        assert_true(fabs(m.similarity - cases[i].most) < 1e-12 && m.distance == 0);
        assert_true(m.level != REGIME_SAME);
    }
    x = parsed("experts=64,dtype=f8_e4m3,block_scale=128");
    y = parsed("experts=64,dtype=fp8,block_scale=128x128");
    assert_int_equal(regime_compare(&x, &y, REGIME_OWN_FAMILY).level, REGIME_SAME);
    assert_null(regime_compare(&x, &y, REGIME_OWN_FAMILY).guard);
}

static void the_fall_back_goes_from_regime_to_family_to_related(void **state)
{
    struct regime here = parsed("experts=64,tokens_per_expert=8");
    struct regime near = parsed("experts=128,tokens_per_expert=8");
    struct regime far = parsed("experts=8,tokens_per_expert=4096");
    struct regime_match m[5];

    (void)state;
    m[0] = regime_compare(&here, &here, REGIME_OWN_FAMILY);
    m[1] = regime_compare(&here, &near, REGIME_OWN_FAMILY);
    m[2] = regime_compare(&here, &far, REGIME_OWN_FAMILY);
    m[3] = regime_compare(&here, &near, REGIME_RELATED_FAMILY);
    m[4] = regime_compare(&here, &near, REGIME_OTHER_FAMILY);
    for (int i = 0; i < 5; i++)
        assert_int_equal(m[i].level, i);
    assert_true(m[3].similarity < m[1].similarity && m[3].similarity > 0);
    assert_true(m[4].similarity == 0);
}

/* A question names two axes; what it leaves open is no distance, what nobody knows is some. */
static void a_question_is_not_held_against_what_it_leaves_open(void **state)
{
    struct regime asked = parsed("experts=64,topk=8");
    struct regime known = parsed("experts=64,top_k=8,hidden=7168,intermediate=2048,tokens=16");
    struct regime bare = parsed("experts=64,hidden=7168");

    (void)state;
    assert_true(regime_meet(&asked, &known, REGIME_OWN_FAMILY).distance == 0);
    assert_true(regime_compare(&asked, &known, REGIME_OWN_FAMILY).distance > 0);
    assert_true(regime_meet(&asked, &bare, REGIME_OWN_FAMILY).distance > 0);
    assert_int_equal(regime_meet(&asked, &bare, REGIME_OWN_FAMILY).shared, 1);
}

static void text_is_read_strictly_and_written_back(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        { "", "empty" },
        { " , ", "empty" },
        { "experts", "'experts' is no part" },
        { "experts=", "axis 'experts' is ''" },
        { "experts=many", "is 'many'" },
        { "experts=-1", "is -1" },
        { "experts=nan", "" },
        { "ex perts=1", "names no axis" },
        { "=4", "names no axis" },
        { "dtype=", "'dtype' of the shape is ''" },
        { "dtype=a b", "'dtype' of the shape" },
    };
    struct regime r =
        parsed(" num_experts = 64 , topk=8, hidden=7k, block_scale=128, dtype=F8_E4M3 ");
    char text[REGIME_TEXT_MAX], shorter[24];
    struct err err;
    double v;

    (void)state;
    assert_string_equal(regime_text(&r, text, sizeof(text)),
                        "experts=64,hidden=7168,top_k=8,block_scale=128x128,dtype=fp8");
    assert_string_equal(regime_text(&r, shorter, sizeof(shorter)), "experts=64,hidden=7168");
    assert_true(regime_get(&r, "num_experts_per_tok", &v) && v == 8);
    assert_false(regime_get(&r, "heads", &v));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_fails(regime_parse(bad[i].text, &r, &err), err, ERR_INVALID);
        assert_non_null(strstr(err.msg, bad[i].words));
    }
    regime_read("kv=x,num_kv_heads=4,,=,7", &r);
    assert_string_equal(regime_text(&r, text, sizeof(text)), "kv_heads=4");
    for (int i = 0; i < 2 * REGIME_AXES_MAX; i++) {
        char name[16];

        snprintf(name, sizeof(name), "axis_%d", i);
        if (regime_put(&r, name, 1, &err) != 0)
            assert_int_equal(err.code, ERR_LIMIT);
    }
    assert_int_equal(r.n, REGIME_AXES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distance_is_symmetric_and_zero_on_itself),
        cmocka_unit_test(distance_keeps_the_triangle_inequality_over_equal_axes),
        cmocka_unit_test(likeness_falls_continuously_with_each_axis),
        cmocka_unit_test(guards_cap_likeness_however_near_the_shape),
        cmocka_unit_test(the_fall_back_goes_from_regime_to_family_to_related),
        cmocka_unit_test(a_question_is_not_held_against_what_it_leaves_open),
        cmocka_unit_test(text_is_read_strictly_and_written_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
