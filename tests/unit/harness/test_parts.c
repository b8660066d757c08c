/* SPDX-License-Identifier: Apache-2.0 */
/* The harness's pure parts: shapes, element types, comparison, statistics, placement, the pool. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "arena.h"
#include "base/mem.h"
#include "check.h"
#include "confine.h"
#include "job.h"
#include "pool.h"
#include "selfcheck.h"
#include "shape.h"
#include "stats.h"

/* ---- shapes ---- */

static const struct ks_axis axes[] = { { "n", 5 }, { "batch_size", 3 }, { "big", 1ll << 39 } };

static void shape_expressions_have_their_values(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {
        { "n", 5 },           { "7", 7 },      { "batch_size+1", 4 }, { " n * batch_size ", 15 },
        { "2*n+1", 11 },      { "1+2*n", 11 }, { "(1+2)*n", 15 },     { "n*0", 0 },
        { "((n))+(n*2)", 15 }
    };
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t v = -1;

        assert_int_equal(shape_eval(rows[i].text, axes, 3, &v, &err), 0);
        assert_int_equal(v, rows[i].value);
    }
}

static void bad_shape_expressions_are_refused(void **state)
{
    static const char *const rows[] = { "",
                                        "m",
                                        "n+",
                                        "n n",
                                        "n-1",
                                        "(n",
                                        "n)",
                                        "big*big",
                                        "big+big+big",
                                        "99999999999999999999",
                                        "n*+1",
                                        "N",
                                        "batch",
                                        "((((((((((((((((((n))))))))))))))))))" };
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t v = -1;

        if (shape_eval(rows[i], axes, 3, &v, &err) == 0)
            fail_msg("'%s' was taken for %lld", rows[i], (long long)v);
        assert_int_equal(v, -1);
        assert_true(err.msg[0] != '\0');
    }
}

static void tensors_that_cannot_be_are_refused(void **state)
{
    struct ks_tensor t = {
        .name = "t", .dtype = KS_F64, .rank = 3, .shape = { 1ll << 20, 1ll << 20, 1 << 10 }
    };
    size_t elements, bytes;
    struct err err;

    (void)state;
    assert_int_equal(shape_count(&t, &elements, &bytes, &err), -1);
    t.shape[0] = t.shape[1] = 3;
    assert_int_equal(shape_count(&t, &elements, &bytes, &err), 0);
    assert_int_equal(elements, 9 * 1024);
    assert_int_equal(bytes, 9 * 1024 * 8);
    t.rank = 0;
    assert_int_equal(shape_count(&t, &elements, &bytes, &err), 0);
    assert_int_equal(elements, 1);
}

static void small_floats_are_decoded_exactly(void **state)
{
    static const uint16_t halves[] = { 0x3c00, 0xc000, 0x0001, 0x7bff, 0x0400 };
    static const uint8_t f8[] = { 0x38, 0xc0, 0x01, 0x7e, 0x08 };
    static const uint16_t bf[] = { 0x3f80, 0xc000, 0x7f7f };
    static const uint8_t nan8 = 0x7f;
    static const uint16_t inf16 = 0xfc00;
    double v[5];

    (void)state;
    dtype_decode(KS_F16, halves, 0, 5, v);
    assert_true(v[0] == 1 && v[1] == -2 && v[2] == 0x1p-24 && v[3] == 65504 && v[4] == 0x1p-14);
    dtype_decode(KS_F8_E4M3, f8, 0, 5, v);
    assert_true(v[0] == 1 && v[1] == -2 && v[2] == 0x1p-9 && v[3] == 448 && v[4] == 0x1p-6);
    dtype_decode(KS_BF16, bf, 1, 2, v);
    assert_true(v[0] == -2 && v[1] > 3e38);
    dtype_decode(KS_F8_E4M3, &nan8, 0, 1, v);
    assert_true(isnan(v[0]));
    dtype_decode(KS_F16, &inf16, 0, 1, v);
    assert_true(isinf(v[0]) && v[0] < 0);
}

/* ---- comparison ---- */

static const struct tolerance close_by = {
    .abs_tol = 1e-3, .rel_tol = 1e-2, .tensor_rel = -1, .row_rel = -1
};

static enum fail_class compare(const float *got, const double *want, const struct tolerance *tol)
{
    struct ks_tensor t = { .name = "z", .dtype = KS_F32, .rank = 2, .shape = { 2, 3 } };
    struct check_stats stats = { 0 };
    struct fail f;

    return check_output(&t, got, want, tol, 1, CHECK_POISON, &stats, &f) == 0 ? FAIL_OK : f.class;
}

static void only_a_proven_match_counts(void **state)
{
    const double want[6] = { 0, 1, -2, 100, 0, 3 };
    const float good[6] = { 0.0009f, 1.01f, -2.02f, 100.9f, -0.0009f, 3 };
    float got[6];

    (void)state;
    assert_int_equal(compare(good, want, &close_by), FAIL_OK);
    for (size_t i = 0; i < 6; i++) {
        memcpy(got, good, sizeof(got));
        got[i] = (float)want[i] + 2;
        assert_int_equal(compare(got, want, &close_by), FAIL_WRONG_VALUE);
        got[i] = NAN;
        assert_int_equal(compare(got, want, &close_by), FAIL_NONFINITE);
        got[i] = -INFINITY;
        assert_int_equal(compare(got, want, &close_by), FAIL_NONFINITE);
        memset(&got[i], CHECK_POISON, sizeof(float));
        assert_int_equal(compare(got, want, &close_by), FAIL_OUTPUT_UNTOUCHED);
    }
}

static void nonfinite_values_match_in_kind_and_place(void **state)
{
    const double want[6] = { -INFINITY, NAN, INFINITY, 1, 1, 1 };
    float got[6] = { -INFINITY, NAN, INFINITY, 1, 1, 1 };

    (void)state;
    assert_int_equal(compare(got, want, &close_by), FAIL_OK);
    got[0] = INFINITY;
    assert_int_equal(compare(got, want, &close_by), FAIL_NONFINITE);
    got[0] = 3e38f;
    assert_int_equal(compare(got, want, &close_by), FAIL_NONFINITE);
    got[0] = -INFINITY;
    got[1] = 0;
    assert_int_equal(compare(got, want, &close_by), FAIL_NONFINITE);
}

static void relative_norms_are_checked_by_tensor_and_by_row(void **state)
{
    const double want[6] = { 100, 100, 100, 1, 1, 1 };
    const float got[6] = { 100, 100, 100, 1, 1, 1.5f };
    struct tolerance tol = { .abs_tol = -1, .rel_tol = -1, .tensor_rel = 0.01, .row_rel = -1 };

    (void)state;
    assert_int_equal(compare(got, want, &tol), FAIL_OK); /* 0.5 / 173 */
    tol.tensor_rel = 0.002;
    assert_int_equal(compare(got, want, &tol), FAIL_WRONG_VALUE);
    tol.tensor_rel = -1;
    tol.row_rel = 0.2; /* 0.5 / 1.73 in the second row */
    assert_int_equal(compare(got, want, &tol), FAIL_WRONG_VALUE);
    tol.row_rel = 0.3;
    assert_int_equal(compare(got, want, &tol), FAIL_OK);
}

static void a_row_of_zeros_has_to_be_zero(void **state)
{
    const double want[6] = { 0, 0, 0, 1, 1, 1 };
    float got[6] = { 0, 0, 0, 1, 1, 1 };
    const struct tolerance tol = { .abs_tol = -1, .rel_tol = -1, .tensor_rel = 1, .row_rel = 0.5 };

    (void)state;
    assert_int_equal(compare(got, want, &tol), FAIL_OK);
    got[1] = 1e-20f;
    assert_int_equal(compare(got, want, &tol), FAIL_WRONG_VALUE);
}

static void integers_may_equal_the_poison(void **state)
{
    struct ks_tensor t = { .name = "i", .dtype = KS_I32, .rank = 1, .shape = { 2 } };
    const struct tolerance exact = { .abs_tol = 0, .rel_tol = 0, .tensor_rel = -1, .row_rel = -1 };
    struct check_stats stats = { 0 };
    int32_t got[2] = { -1, 5 };
    double want[2] = { -1, 5 };
    struct fail f;

    (void)state;
    assert_int_equal(check_output(&t, got, want, &exact, 1, CHECK_POISON, &stats, &f), 0);
    want[0] = 0;
    assert_int_equal(check_output(&t, got, want, &exact, 1, CHECK_POISON, &stats, &f), -1);
    assert_int_equal(f.class, FAIL_OUTPUT_UNTOUCHED);
}

static void a_wrong_value_is_named_with_its_index(void **state)
{
    struct ks_tensor t = { .name = "out", .dtype = KS_F32, .rank = 3, .shape = { 2, 3, 4 } };
    float got[24] = { 0 };
    double want[24] = { 0 };
    struct check_stats stats = { 0 };
    struct fail f;

    (void)state;
    got[17] = 1;
    assert_int_equal(check_output(&t, got, want, &close_by, 1, CHECK_POISON, &stats, &f), -1);
    assert_non_null(strstr(f.msg, "out[1][1][1]"));
}

static void a_part_is_compared_alone(void **state)
{
    struct ks_tensor t = { .name = "out", .dtype = KS_F32, .rank = 2, .shape = { 6, 4 } };
    float got[24] = { 0 };
    double want[24] = { 0 };
    struct check_stats stats = { 0 };
    struct fail f;

    (void)state;
    got[17] = 1;
    assert_int_equal(check_part(&t, got, want, 0, 16, &close_by, 1, CHECK_POISON, &stats, &f), 0);
    assert_int_equal(check_part(&t, got, want, 20, 4, &close_by, 1, CHECK_POISON, &stats, &f), 0);
    assert_int_equal(check_part(&t, got, want, 16, 4, &close_by, 1, CHECK_POISON, &stats, &f), -1);
    assert_non_null(strstr(f.msg, "out[4][1]"));
}

#if defined(__x86_64__) || defined(__aarch64__)
static void forbidden_calls_have_names(void **state)
{
    (void)state;
    assert_string_equal(confine_call_name(SYS_ptrace), "ptrace");
    assert_string_equal(confine_call_name(SYS_timer_create), "timer_create");
    assert_null(confine_call_name(SYS_getpid));
}
#endif

/* ---- statistics ---- */

static void the_median_ignores_a_disturbed_sample(void **state)
{
    double v[7] = { 0.10, 0.11, 0.09, 5.0, 0.10, 0.105, 0.095 }, scratch[7];
    struct estimate e = stats_pairs(v, 7, scratch);

    (void)state;
    assert_true(fabs(e.log_ratio - 0.10) < 1e-12);
    assert_true(e.log_sd > 0 && e.log_sd < 0.01);
    assert_true(e.half > e.log_sd);
    assert_true(v[3] == 5.0); /* the samples stay as they are */
}

static void t_quantiles_are_those_of_the_tables(void **state)
{
    (void)state;
    assert_true(fabs(stats_t95(1) - 12.706) < 1e-3);
    assert_true(fabs(stats_t95(5) - 2.571) < 0.01);
    assert_true(fabs(stats_t95(10) - 2.228) < 0.003);
    assert_true(fabs(stats_t95(100) - 1.984) < 0.001);
}

/* Draws normal pairs with a known truth: the interval has to hold it about as often as it says. */
static void the_interval_covers_the_truth(void **state)
{
    struct rng rng = rng_seeded(7);
    double v[15], scratch[15];
    int covered = 0;

    (void)state;
    for (int trial = 0; trial < 2000; trial++) {
        struct estimate e;

        for (int i = 0; i < 15; i++)
            v[i] = 0.05 + 0.01 * rng_normal(&rng);
        e = stats_pairs(v, 15, scratch);
        covered += fabs(e.log_ratio - 0.05) <= e.half;
    }
    assert_in_range(covered, 1780, 1980); /* 89 to 99 %: the spread itself is estimated */
}

static void workloads_combine_to_a_geometric_mean(void **state)
{
    const struct estimate e[2] = { { log(2), 0.01, 0.02 }, { log(8), 0.01, 0.02 } };
    struct estimate all = stats_combine(e, 2, STATS_95);

    (void)state;
    assert_true(fabs(exp(all.log_ratio) - 4) < 1e-12);
    assert_true(all.log_sd >= 0.01 / sqrt(2));
    assert_true(all.log_sd >= STATS_SESSION_SD);
}

/* ---- placement ---- */

static void cells_are_aligned_apart_and_guarded(void **state)
{
    const struct cell_shape shape = { { 100, 64, 7, 0 }, 2, 1 };
    const char *const names[] = { "x", "y", "z", "scratch" };
    struct arena *a;
    struct cell cells[2];
    struct err err;
    struct fail f;

    (void)state;
    assert_int_equal(arena_new(arena_need(&shape, 2), 3, &a, &err), 0);
    for (int turn = 0; turn < 50; turn++) {
        arena_reset(a);
        arena_place(a, &shape, &cells[0]);
        arena_place(a, &shape, &cells[1]);
        assert_true(a->used <= a->size);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(cells[0].offset[i] % 64, 0);
            memset(arena_at(a, &cells[0], i), 0, shape.bytes[i]);
            memset(arena_at(a, &cells[1], i), 0, shape.bytes[i]);
        }
        assert_int_equal(arena_check_guards(a, &shape, &cells[0], names, &f), 0);
        assert_int_equal(arena_check_guards(a, &shape, &cells[1], names, &f), 0);
    }
    for (int i = 0; i < 3; i++) {
        uint8_t *end = arena_at(a, &cells[0], i) + shape.bytes[i], kept = *end;

        *end = (uint8_t)~kept;
        assert_int_equal(arena_check_guards(a, &shape, &cells[0], names, &f), -1);
        assert_int_equal(f.class, FAIL_GUARD_HIT);
        assert_non_null(strstr(f.msg, names[i]));
        *end = kept;
    }
    arena_at(a, &cells[0], 0)[-1] ^= 1;
    assert_int_equal(arena_check_guards(a, &shape, &cells[0], names, &f), -1);
    arena_free(a);
}

static void poison_covers_outputs_and_nothing_else(void **state)
{
    const struct cell_shape shape = { { 16, 32, 0 }, 1, 1 };
    struct arena *a;
    struct cell c;
    struct err err;

    (void)state;
    assert_int_equal(arena_new(arena_need(&shape, 1), 3, &a, &err), 0);
    arena_place(a, &shape, &c);
    memset(arena_at(a, &c, 0), 1, 16);
    arena_poison(a, &shape, &c);
    for (int i = 0; i < 16; i++)
        assert_int_equal(arena_at(a, &c, 0)[i], 1);
    for (int i = 0; i < 32; i++)
        assert_int_equal(arena_at(a, &c, 1)[i], CHECK_POISON);
    arena_free(a);
}

/* ---- the pool ---- */

struct tally {
    _Atomic int seen[1000];
    int n;
};

static void count_item(void *ctx, int i)
{
    struct tally *t = ctx;

    atomic_fetch_add(&t->seen[i], 1);
}

static void every_item_runs_exactly_once(void **state)
{
    static struct tally t;
    struct pool *p;
    struct err err;

    (void)state;
    assert_int_equal(pool_new(3, NULL, &p, &err), 0);
    for (int turn = 0; turn < 2000; turn++) {
        t.n = turn % 7 == 0 ? 1000 : turn % 5;
        memset((void *)&t, 0, sizeof(int) * 1000);
        if (turn % 3 == 0)
            pool_arm(p);
        pool_run(p, count_item, &t, t.n);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(atomic_load(&t.seen[i]), i < t.n);
        pool_disarm(p);
    }
    pool_free(p);
    assert_int_equal(pool_new(1, NULL, &p, &err), 0);
    memset((void *)&t, 0, sizeof(int) * 1000);
    pool_run(p, count_item, &t, 10);
    assert_int_equal(t.seen[9], 1);
    pool_free(p);
}

/* ---- templates ---- */

static void defaults_become_macros(void **state)
{
    static const char space[] = "{ \"parameters\": [ { \"name\": \"TILE\", \"type\": \"int\", "
                                "\"values\": [8, 16], \"default\": 16 },"
                                " { \"name\": \"MODE\", \"type\": \"enum\", \"values\": [\"a\", "
                                "\"b\"], \"default\": \"b\" },"
                                " { \"name\": \"WIDE\", \"type\": \"bool\", \"values\": [false, "
                                "true], \"default\": true } ] }";
    static const char *const names[] = { "TILE", "MODE_a", "MODE_b", "MODE", "WIDE" };
    static const char *const values[] = { "16", "0", "1", "1", "1" };
    struct program p = { 0 };
    struct err err;

    (void)state;
    assert_int_equal(selfcheck_defaults(space, &p, &err), 0);
    assert_int_equal(p.n_defines, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(p.defines[i].name, names[i]);
        assert_string_equal(p.defines[i].value, values[i]);
    }
    program_release(&p);
    assert_int_equal(selfcheck_defaults("{ \"parameters\": [ { \"name\": \"A\" } ] }", &p, &err),
                     -1);
    program_release(&p);
    assert_int_equal(selfcheck_defaults("[]", &p, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_is_compared_alone),
#if defined(__x86_64__) || defined(__aarch64__)
        cmocka_unit_test(forbidden_calls_have_names),
#endif
        cmocka_unit_test(shape_expressions_have_their_values),
        cmocka_unit_test(bad_shape_expressions_are_refused),
        cmocka_unit_test(tensors_that_cannot_be_are_refused),
        cmocka_unit_test(small_floats_are_decoded_exactly),
        cmocka_unit_test(only_a_proven_match_counts),
        cmocka_unit_test(nonfinite_values_match_in_kind_and_place),
        cmocka_unit_test(relative_norms_are_checked_by_tensor_and_by_row),
        cmocka_unit_test(a_row_of_zeros_has_to_be_zero),
        cmocka_unit_test(integers_may_equal_the_poison),
        cmocka_unit_test(a_wrong_value_is_named_with_its_index),
        cmocka_unit_test(the_median_ignores_a_disturbed_sample),
        cmocka_unit_test(t_quantiles_are_those_of_the_tables),
        cmocka_unit_test(the_interval_covers_the_truth),
        cmocka_unit_test(workloads_combine_to_a_geometric_mean),
        cmocka_unit_test(cells_are_aligned_apart_and_guarded),
        cmocka_unit_test(poison_covers_outputs_and_nothing_else),
        cmocka_unit_test(every_item_runs_exactly_once),
        cmocka_unit_test(defaults_become_macros),
    };

    return cmocka_run_group_tests_name("harness parts", tests, NULL, NULL);
}
