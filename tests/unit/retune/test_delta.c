/* SPDX-License-Identifier: Apache-2.0 */
/* What changed between two devices: numbers, features, versions, and rooflines. */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "retune/delta.h"
#include "retune/roofline.h"
#include "unit/test.h"

static json_t *parse(const char *text)
{
    struct err err;
    json_t *j;

    assert_ok(jsonx_parse(text, strlen(text), "a record", &j, &err), err);
    return j;
}

static json_t *fixture(const char *name)
{
    char path[512];
    struct err err;
    json_t *j;

    snprintf(path, sizeof(path), KS_SOURCE_DIR "/tests/fixtures/devices/%s.json", name);
    assert_ok(jsonx_load(path, 1 << 20, &j, &err), err);
    return j;
}

static void numbers_are_ratios_and_unknown_is_not_unchanged(void **state)
{
    json_auto_t *a = fixture("A100"), *b = fixture("A4000"), *empty = parse("{\"class\":\"x\"}");
    struct delta d;

    (void)state;
    delta_of(a, b, &d);
    assert_true(fabs(delta_ratio(&d, "units") - 48.0 / 108) < 1e-12);
    assert_true(fabs(delta_ratio(&d, "read_gbs") - 448.0 / 1555) < 1e-12);
    assert_true(fabs(delta_ratio(&d, "shared_bytes.block") - 101376.0 / 166912) < 1e-12);
    assert_true(fabs(delta_ratio(&d, "gflops.f16") - 76700.0 / 312000) < 1e-12);
    assert_true(isnan(delta_ratio(&d, "cores")));
    assert_true(delta_removed(&d, "full-rate-f64"));
    assert_false(delta_removed(&d, "bf16"));
    assert_int_equal(json_array_size(d.added), 0);
    delta_release(&d);
    /* a record that lists no feature has lost none */
    delta_of(a, empty, &d);
    assert_false(d.features_known);
    assert_int_equal(json_array_size(d.removed), 0);
    assert_true(isnan(delta_ratio(&d, "units")));
    assert_true(d.n > 10);
    delta_release(&d);
}

static void zero_is_unknown(void **state)
{
    json_auto_t *a = parse("{\"cache_bytes\":{\"l3\":0}}"),
                *b = parse("{\"cache_bytes\":{\"l3\":8}}");
    struct delta d;

    (void)state;
    delta_of(a, b, &d);
    assert_int_equal(d.n, 1);
    assert_true(isnan(delta_ratio(&d, "cache_bytes.l3")));
    delta_release(&d);
}

static void versions_differ_by_axis(void **state)
{
    json_auto_t *a =
        parse("{\"toolchain\":\"nvcc 12.2\",\"driver\":\"535\",\"libraries\":{\"cudnn\":"
              "\"9.0\",\"cublas\":\"12.2\"}}");
    json_auto_t *b =
        parse("{\"toolchain\":\"nvcc 12.4\",\"driver\":\"535\",\"libraries\":{\"cublas\":"
              "\"12.4\",\"nccl\":\"2.20\"}}");
    json_auto_t *cpu = parse("{\"toolchain\":\"gcc 12.2.0\"}");
    CLEANUP(freep) char *ta = versions_of_device(a);
    CLEANUP(freep) char *tb = versions_of_device(b);
    CLEANUP(freep) char *tc = versions_of_device(cpu);
    struct versions_change c[VERSIONS_AXES_MAX];

    (void)state;
    assert_string_equal(ta, "nvcc 12.2; driver 535; cublas 12.2; cudnn 9.0");
    assert_string_equal(tc, "gcc 12.2.0");
    assert_int_equal(versions_compare(ta, tb, c, VERSIONS_AXES_MAX), 4);
    assert_string_equal(c[0].axis, "compiler");
    assert_string_equal(c[0].from, "nvcc 12.2");
    assert_string_equal(c[1].axis, "cublas");
    assert_string_equal(c[2].axis, "cudnn");
    assert_string_equal(c[2].to, "");
    assert_string_equal(c[3].axis, "nccl");
    assert_string_equal(c[3].from, "");
    assert_int_equal(versions_compare(ta, ta, c, VERSIONS_AXES_MAX), 0);
    /* an unknown side differs from nothing */
    assert_int_equal(versions_compare("", tb, c, VERSIONS_AXES_MAX), 0);
    assert_int_equal(versions_compare("driver 1", "driver 2", c, VERSIONS_AXES_MAX), 1);
    assert_string_equal(c[0].axis, "driver");
}

static void a_workload_crosses_the_ridge(void **state)
{
    json_auto_t *a = fixture("A100"), *b = fixture("A4000");
    json_auto_t *work = parse("[{\"name\":\"between\",\"flops\":2000,\"bytes\":100},"
                              "{\"name\":\"low\",\"flops\":100,\"bytes\":100}]");
    json_auto_t *rows = json_array();
    struct roofline_shift s;

    (void)state;
    /* balances: 12.5 and 42.8 operations per byte; 20 lies between */
    roofline_place("t", "f32", work, a, b, &s, rows);
    assert_true(fabs(s.balance_from - 19500.0 / 1555) < 1e-9);
    assert_int_equal(s.workloads, 2);
    assert_int_equal(s.crossed, 1);
    assert_true(s.moved);
    assert_int_equal(json_array_size(rows), 3);
    assert_string_equal(jsonx_str(json_array_get(rows, 0), "bound_from", ""), "compute");
    assert_string_equal(jsonx_str(json_array_get(rows, 0), "bound_to", ""), "memory");
    roofline_place("t", "f32", NULL, a, a, &s, rows);
    assert_false(s.moved);
    json_object_del(b, "read_gbs");
    roofline_place("t", "f32", NULL, a, b, &s, rows);
    assert_true(s.moved); /* unknown */
    assert_true(isnan(s.balance_to));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_ratios_and_unknown_is_not_unchanged),
        cmocka_unit_test(zero_is_unknown),
        cmocka_unit_test(versions_differ_by_axis),
        cmocka_unit_test(a_workload_crosses_the_ridge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
