/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pack moe_fp8_block_scale: the e4m3 helpers exhaustively, its generator and reference against
 * a golden result in double precision, ties, and its baseline and template against the reference on
 * the pack's own workloads. Kernels are built by `cc` with the flags of an evaluation;
 * KS_MOE_RANDOM sets how many random assignments are tried beyond one for each value (2).
 */
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "check.h"
#include "fail.h"
#include "ks_task.h"
#include "shape.h"
#include "unit/tasks/assignment.h"
#include "unit/tasks/kernel.h"

#define PACK KS_SOURCE_DIR "/tasks/moe_fp8_block_scale"
#define PREFIX "moe_fp8_block_scale_ds_routing_"

enum { LOGITS, BIAS, X, XS, W13, S13, W2, S2, OFFSET, FACTOR, N_INPUTS };
enum { GUARD = 64, AXES_MAX = 16, PARAMS_MAX = 16, POISON = 0xff };

extern char **environ;

/* ---- A call and its buffers ---- */

struct fixture {
    const json_t *task, *definition;
    char *name;
    struct ks_axis axes[AXES_MAX];
    struct ks_param params[PARAMS_MAX];
    double numbers[PARAMS_MAX];
    struct ks_problem problem;
    struct ks_tensor in[N_INPUTS], out;
    size_t in_bytes[N_INPUTS];
    double *expected;
    size_t rows, cols; /* of the output */
    size_t scratch;
};

static json_t *load(const char *path)
{
    struct err err;
    json_t *v = NULL;

    assert_ok(jsonx_load(path, 1 << 20, &v, &err), err);
    return v;
}

/* Zeroed memory, untouched until used, with GUARD bytes of 0x5a behind it. */
static void *guarded(size_t bytes)
{
    unsigned char *p = mmap(NULL, bytes + GUARD, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(p != MAP_FAILED);
    memset(p + bytes, 0x5a, GUARD);
    return p;
}

static bool guard_intact(const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data + bytes;

    for (int i = 0; i < GUARD; i++)
        if (p[i] != 0x5a)
            return false;
    return true;
}

static const json_t *definition_of(const json_t *task, const char *name)
{
    const json_t *d;
    size_t i;

    json_array_foreach (json_object_get(task, "definitions"), i, d)
        if (strstr(jsonx_str(d, "name", ""), name))
            return d;
    fail_msg("there is no definition '%s'", name);
    return NULL;
}

static int64_t axis(const struct fixture *f, const char *name)
{
    return ks_axis_value(f->axes, f->problem.n_axes, name, -1);
}

static void tensor_init(struct fixture *f, const json_t *j, struct ks_tensor *t)
{
    const json_t *shape = json_object_get(j, "shape");
    size_t elements, bytes;
    struct err err;

    t->name = jsonx_str(j, "name", "");
    t->dtype = dtype_from_name(jsonx_str(j, "dtype", ""));
    t->rank = (int)json_array_size(shape);
    for (int i = 0; i < t->rank; i++)
        assert_ok(shape_eval(json_string_value(json_array_get(shape, (size_t)i)), f->axes,
                             f->problem.n_axes, &t->shape[i], &err),
                  err);
    assert_ok(shape_count(t, &elements, &bytes, &err), err);
    t->data = guarded(bytes);
}

static size_t tensor_bytes(const struct ks_tensor *t)
{
    size_t elements, bytes;
    struct err err;

    assert_ok(shape_count(t, &elements, &bytes, &err), err);
    return bytes;
}

/* A call of the definition whose name contains `name`. */
static void fixture_init(struct fixture *f, const json_t *task, const char *name, int64_t tokens)
{
    const char *key;
    json_t *v;
    size_t i;
    int64_t scratch;
    struct err err;

    memset(f, 0, sizeof(*f));
    f->task = task;
    f->definition = definition_of(task, name);
    f->problem.definition = "moe";
    f->problem.axes = f->axes;
    f->problem.params = f->params;
    json_object_foreach (json_object_get(f->definition, "axes"), key, v) {
        assert_true(f->problem.n_axes < AXES_MAX - 1);
        f->axes[f->problem.n_axes++] = (struct ks_axis){ key, json_integer_value(v) };
    }
    f->axes[f->problem.n_axes++] = (struct ks_axis){ "seq_len", tokens };
    json_array_foreach (json_object_get(task, "inputs"), i, v) {
        tensor_init(f, v, &f->in[i]);
        f->in_bytes[i] = tensor_bytes(&f->in[i]);
    }
    assert_int_equal(i, N_INPUTS);
    tensor_init(f, json_array_get(json_object_get(task, "outputs"), 0), &f->out);
    f->rows = (size_t)f->out.shape[0];
    f->cols = (size_t)f->out.shape[1];
    f->expected = calloc(f->rows * f->cols, sizeof(double));
    assert_non_null(f->expected);
    assert_ok(shape_eval(jsonx_str(task, "scratch_bytes", ""), f->axes, f->problem.n_axes, &scratch,
                         &err),
              err);
    f->scratch = (size_t)scratch;
}

static void fixture_release(struct fixture *f)
{
    for (int i = 0; i < N_INPUTS; i++)
        munmap(f->in[i].data, f->in_bytes[i] + GUARD);
    munmap(f->out.data, f->rows * f->cols * 2 + GUARD);
    free(f->expected);
    free(f->name);
}

static void fixture_text(struct fixture *f, const char *name, const char *text)
{
    f->params[f->problem.n_params++] = (struct ks_param){ name, text, NULL, 0 };
}

static void fixture_number(struct fixture *f, const char *name, double value)
{
    double *at = &f->numbers[f->problem.n_params];

    *at = value;
    f->params[f->problem.n_params++] = (struct ks_param){ name, NULL, at, 1 };
}

static void fixture_generate(struct fixture *f, uint64_t seed)
{
    char why[256];

    if (ks_task_module()->generate(&f->problem, seed, f->in, N_INPUTS, why, sizeof(why)) != 0)
        fail_msg("generate: %s", why);
}

static void fixture_reference(struct fixture *f, int threads)
{
    char why[256];
    double *expected[] = { f->expected };

    if (ks_task_module()->reference(&f->problem, f->in, N_INPUTS, expected, 1, threads, why,
                                    sizeof(why)) != 0)
        fail_msg("reference: %s", why);
}

static void fixture_settle(struct fixture *f)
{
    char why[256];
    double *expected[] = { f->expected };

    if (ks_task_module()->settle(&f->problem, f->in, N_INPUTS, &f->out, expected, 1, why,
                                 sizeof(why)) != 0)
        fail_msg("settle: %s", why);
}

static struct ks_cost fixture_cost(struct fixture *f)
{
    struct ks_cost cost = { 0 };

    ks_task_module()->cost(&f->problem, f->in, N_INPUTS, &cost);
    return cost;
}

/* ---- e4m3 ---- */

/* By the definition of the format; NaN for the two codes that are. */
static double e4m3_value(int code)
{
    int e = code >> 3 & 15, m = code & 7;
    double v = e ? ldexp(8 + m, e - 10) : ldexp(m, -9);

    if (e == 15 && m == 7)
        return NAN;
    return code & 0x80 ? -v : v;
}

static void every_code_is_the_number_that_the_format_says(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        double want = e4m3_value(code), got = (double)ks_e4m3_to_f32((uint8_t)code);

        if (isnan(want)) {
            assert_true(isnan(got));
            assert_int_equal(ks_f32_to_e4m3((float)got) & 0x7f, 0x7f);
            continue;
        }
        assert_true(got == want);
        assert_int_equal(!!signbit(got), code >> 7);
        assert_int_equal(ks_f32_to_e4m3((float)got), code);
    }
}

static void numbers_between_codes_round_to_the_nearest_and_halves_to_even(void **state)
{
    (void)state;
    for (int code = 0; code < 0x7e; code++) {
        double half = (e4m3_value(code) + e4m3_value(code + 1)) / 2;
        float middle = (float)half;

        assert_true((double)middle == half);
        for (int sign = 0; sign < 2; sign++) {
            int bit = sign ? 0x80 : 0, even = code % 2 ? code + 1 : code;
            float s = sign ? -1.0f : 1.0f;

            assert_int_equal(ks_f32_to_e4m3(s * middle), bit | even);
            assert_int_equal(ks_f32_to_e4m3(s * nextafterf(middle, 0)), bit | code);
            assert_int_equal(ks_f32_to_e4m3(s * nextafterf(middle, 1000)), bit | (code + 1));
        }
    }
}

static void numbers_too_large_saturate_and_nan_stays(void **state)
{
    static const float large[] = { 448, 449, 463.9f, 464, 465, 480, 1e6f, 3e38f, INFINITY };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(large); i++) {
        assert_int_equal(ks_f32_to_e4m3(large[i]), 0x7e);
        assert_int_equal(ks_f32_to_e4m3(-large[i]), 0xfe);
    }
    assert_int_equal(ks_f32_to_e4m3(NAN) & 0x7f, 0x7f);
    assert_int_equal(ks_f32_to_e4m3(1e-30f), 0);
    assert_int_equal(ks_f32_to_e4m3(-1e-30f), 0x80);
}

/* ---- Golden results ---- */

static double golden_number(const json_t *c, const char *table, const char *name)
{
    double v = jsonx_num(json_object_get(c, table), name, NAN);

    assert_false(isnan(v));
    return v;
}

/* Elements [first, first + n) of input i by the rule of the golden case; returns their sum. */
static double golden_fill(struct fixture *f, const json_t *c, int i, size_t first, size_t n)
{
    const struct ks_tensor *t = &f->in[i];
    uint64_t seed = (uint64_t)golden_number(c, "seeds", t->name);
    float factor = (float)golden_number(c, "factors", t->name), x;
    float centre = (float)jsonx_num(c, "bias_centre", 0);
    double sum = 0;

    for (size_t k = first; k < first + n; k++) {
        float u = ks_uniform(seed, k);

        if (t->dtype == KS_F8_E4M3) {
            uint8_t code = ks_f32_to_e4m3(factor * u);

            ((uint8_t *)t->data)[k] = code;
            x = ks_e4m3_to_f32(code);
        } else if (i == BIAS) {
            uint16_t half = ks_f32_to_bf16(centre + factor * u);

            ((uint16_t *)t->data)[k] = half;
            x = ks_bf16_to_f32(half);
        } else {
            x = i == LOGITS ? factor * u : factor * (u + 1.5f);
            ((float *)t->data)[k] = x;
        }
        sum += (double)x;
    }
    return sum;
}

static void golden_whole(struct fixture *f, const json_t *c, int i)
{
    size_t n = f->in_bytes[i] / dtype_size(f->in[i].dtype);
    double want = golden_number(c, "input_sums", f->in[i].name);

    assert_true(fabs(golden_fill(f, c, i, 0, n) - want) < 1e-6);
}

/* The weights of the experts that a token chose; others stay untouched memory. */
static void golden_experts(struct fixture *f, const json_t *c)
{
    size_t n13 = (size_t)(axis(f, "gemm1_out_size") * axis(f, "hidden_size"));
    size_t n2 = (size_t)(axis(f, "intermediate_size") * axis(f, "hidden_size"));
    const json_t *list, *expert;
    bool seen = false;
    size_t t, i;

    json_array_foreach (json_object_get(c, "local"), t, list)
        json_array_foreach (list, i, expert) {
            size_t l =
                (size_t)(json_integer_value(expert) - jsonx_int(c, "local_expert_offset", 0));
            double sum13 = 0, sum2 = 0;

            if (((const uint8_t *)f->in[W2].data)[l * n2 + 1] == 0) {
                sum13 = golden_fill(f, c, W13, l * n13, n13);
                sum2 = golden_fill(f, c, W2, l * n2, n2);
            }
            if (l == 30 && sum13 != 0) {
                assert_true(sum13 == golden_number(c, "input_sums", "gemm1_weights_expert_30"));
                assert_true(sum2 == golden_number(c, "input_sums", "gemm2_weights_expert_30"));
                seen = true;
            }
        }
    assert_true(seen);
}

static void golden_compare(const struct fixture *f, const json_t *want)
{
    size_t n = f->rows * f->cols, i;
    double sum = 0, sum_abs = 0, sum_sq = 0;
    const json_t *row;

    assert_true(jsonx_int(want, "count", 0) == (long long)n);
    for (i = 0; i < n; i++) {
        assert_true(isfinite(f->expected[i]));
        sum += f->expected[i];
        sum_abs += fabs(f->expected[i]);
        sum_sq += f->expected[i] * f->expected[i];
    }
    assert_true(fabs(sum - jsonx_num(want, "sum", NAN)) < 1e-6);
    assert_true(fabs(sum_abs - jsonx_num(want, "sum_abs", NAN)) < 1e-5);
    assert_true(fabs(sum_sq - jsonx_num(want, "sum_sq", NAN)) < 1e-3);
    json_array_foreach (json_object_get(want, "samples"), i, row) {
        double x = f->expected[json_integer_value(json_array_get(row, 0))];

        assert_true(fabs(x - json_number_value(json_array_get(row, 1))) < 1e-7);
    }
}

static void reference_agrees_with_the_golden_result(void **state)
{
    json_auto_t *golden = load(KS_SOURCE_DIR "/tests/fixtures/golden_moe.json");
    json_auto_t *task = load(PACK "/task.json");
    const json_t *c = json_array_get(json_object_get(golden, "cases"), 0);
    struct fixture f;

    (void)state;
    fixture_init(&f, task, jsonx_str(c, "definition", "?"), jsonx_int(c, "seq_len", 0));
    for (int i = LOGITS; i <= XS; i++)
        golden_whole(&f, c, i);
    golden_whole(&f, c, S13);
    golden_whole(&f, c, S2);
    golden_experts(&f, c);
    *(int32_t *)f.in[OFFSET].data = (int32_t)jsonx_int(c, "local_expert_offset", 0);
    *(float *)f.in[FACTOR].data = (float)jsonx_num(c, "routed_scaling_factor", 0);
    fixture_reference(&f, 2);
    golden_compare(&f, json_object_get(json_object_get(c, "outputs"), "output"));
    fixture_release(&f);
}

/* ---- The generator ---- */

#define EP4 "topk8_ng8_kg4_e32_h256_i128" /* 32 of 128 experts */
#define EP2 "topk2_ng2_kg1_e8_h512_i256"  /* 8 of 16 */
#define KG2 "topk4_ng4_kg2_e16_h256_i256" /* 16 of 64 */

static void inputs_are_a_function_of_the_seed(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture a, b;

    (void)state;
    fixture_init(&a, task, EP4, 9);
    fixture_init(&b, task, EP4, 9);
    fixture_generate(&a, 5);
    for (uint64_t seed = 6; seed >= 5; seed--) {
        fixture_generate(&b, seed);
        for (int i = LOGITS; i <= S2; i++) {
            assert_int_equal(memcmp(a.in[i].data, b.in[i].data, a.in_bytes[i]) == 0, seed == 5);
            assert_true(guard_intact(b.in[i].data, b.in_bytes[i]));
        }
    }
    fixture_release(&a);
    fixture_release(&b);
}

/* One tile of codes: the largest is 448, all are finite; returns the sum of squares of values. */
static double tile_check(const uint8_t *codes, size_t rows, size_t stride, float scale)
{
    double largest = 0, squares = 0;

    assert_true(scale > 0 && isfinite(scale));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < 128; c++) {
            double v = e4m3_value(codes[r * stride + c]);

            assert_true(isfinite(v));
            largest = MAX(largest, fabs(v));
            squares += v * v * (double)scale * (double)scale;
        }
    assert_true(largest == 448);
    return squares;
}

static bool all_bytes(const uint8_t *p, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != value)
            return false;
    return true;
}

static void values_are_quantised_normal_numbers_and_what_is_unused_is_nan(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    size_t hidden, inter, used = 0, idle = 0, here = 0;
    const uint8_t *x, *w2;
    double squares = 0, token_squares = 0;

    (void)state;
    fixture_init(&f, task, EP4, 7);
    fixture_number(&f, "local_expert_offset", 32);
    fixture_generate(&f, 5);
    hidden = (size_t)axis(&f, "hidden_size");
    inter = (size_t)axis(&f, "intermediate_size");
    x = f.in[X].data;
    w2 = f.in[W2].data;
    for (size_t e = 0; e < 32; e++) {
        const float *scale = (const float *)f.in[S2].data + e * 2;

        if (isnan(*scale)) {
            idle++;
            assert_true(all_bytes(w2 + e * hidden * inter, hidden * inter, 0x7f));
            assert_true(all_bytes((const uint8_t *)f.in[W13].data + e * 2 * hidden * inter,
                                  2 * hidden * inter, 0x7f));
            continue;
        }
        used++;
        for (size_t b = 0; b < 2; b++)
            squares += tile_check(w2 + e * hidden * inter + b * 128 * inter, 128, inter, scale[b]);
    }
    for (size_t t = 0; t < 7; t++) {
        const float *scale = (const float *)f.in[XS].data + t;

        if (isnan(scale[0])) {
            assert_true(isnan(scale[7]) && all_bytes(x + t * hidden, hidden, 0x7f));
            continue;
        }
        here++;
        for (size_t b = 0; b < 2; b++)
            token_squares += tile_check(x + t * hidden + b * 128, 1, hidden, scale[b * 7]);
    }
    assert_true(used > 0 && idle > 0 && here > 0);
    assert_true(fabs(squares / (double)(used * hidden) - 1) < 0.02); /* variance 1 / inter */
    assert_true(fabs(token_squares / (double)(here * hidden) - 1) < 0.2);
    fixture_reference(&f, 1);
    for (size_t i = 0; i < f.rows * f.cols; i++)
        assert_true(isfinite(f.expected[i]));
    fixture_release(&f);
}

static void bench_mode_has_clamped_codes_and_signed_scales(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    size_t negative = 0, n = 0;

    (void)state;
    fixture_init(&f, task, "topk1_ng1_kg1_e8", 64);
    fixture_text(&f, "input_mode", "bench");
    fixture_text(&f, "scales", "sparse");
    fixture_generate(&f, 5);
    for (size_t i = 0; i < f.in_bytes[X]; i++)
        assert_true(fabs(e4m3_value(((const uint8_t *)f.in[X].data)[i])) <= 2);
    for (size_t i = 0; i < f.in_bytes[S13] / sizeof(float); i++)
        negative += ((const float *)f.in[S13].data)[i] < 0;
    for (size_t i = 0; i < f.in_bytes[XS] / sizeof(float); i++)
        n += ((const float *)f.in[XS].data)[i] == 0;
    assert_true(negative > 0 && n > 0 && n < 64);
    fixture_release(&f);
}

/* Largest magnitude of a row of the expected output. */
static double row_size(const struct fixture *f, size_t t)
{
    double most = 0;

    for (size_t i = 0; i < f->cols; i++)
        most = MAX(most, fabs(f->expected[t * f->cols + i]));
    return most;
}

static void routings_are_what_they_say(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    static const struct {
        const char *routing;
        double assignments, experts; /* -1: some number */
    } rows[] = { { "none", 0, 0 }, { "local", 8 * 24, -1 }, { "hot", -1, -1 } };
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double per = 6.0 * 256 * 128, flops;

        fixture_init(&f, task, EP4, 24);
        fixture_number(&f, "local_expert_offset", 64);
        fixture_text(&f, "routing", rows[i].routing);
        fixture_number(&f, "hot_expert", 5);
        fixture_generate(&f, 3);
        fixture_reference(&f, 2);
        flops = fixture_cost(&f).flops;
        if (rows[i].assignments >= 0)
            assert_true(flops == per * rows[i].assignments);
        else
            assert_true(flops >= per * 24);
        for (size_t t = 0; t < f.rows; t++)
            assert_int_equal(row_size(&f, t) > 0, i > 0);
        fixture_release(&f);
    }
    fixture_init(&f, task, KG2, 16);
    fixture_number(&f, "local_expert_offset", 16);
    fixture_text(&f, "routing", "one_each");
    fixture_text(&f, "bias", "zero");
    fixture_generate(&f, 3);
    assert_true(fixture_cost(&f).flops == 6.0 * 256 * 256 * 16);
    fixture_release(&f);
}

static void check_refused(const char *name, const char *key, const char *text, double number,
                          const char *sentence)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    char why[256] = "";

    fixture_init(&f, task, name, 4);
    if (text)
        fixture_text(&f, key, text);
    else
        fixture_number(&f, key, number);
    assert_int_equal(ks_task_module()->generate(&f.problem, 1, f.in, N_INPUTS, why, sizeof(why)),
                     -1);
    if (!strstr(why, sentence))
        fail_msg("'%s' does not say '%s'", why, sentence);
    fixture_release(&f);
}

static void wrong_workloads_are_refused_with_a_sentence(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    char why[256] = "";

    (void)state;
    check_refused(EP4, "routing", "random", 0, "params.routing is 'random'");
    check_refused(EP4, "bias", "two", 0, "params.bias is 'two'");
    check_refused(EP4, "input_mode", "fib", 0, "params.input_mode is 'fib'");
    check_refused(EP4, "scales", "none", 0, "params.scales is 'none'");
    check_refused(EP4, "local_expert_offset", NULL, 128, "local_expert_offset is 128");
    check_refused(EP4, "local_expert_offset", NULL, 0.5, "local_expert_offset is 0.5");
    check_refused("topk2_ng1", "routing", "one_each", 0, "0 groups without local experts");
    fixture_init(&f, task, EP4, 4);
    for (int i = 0; i < f.problem.n_axes; i++)
        if (strcmp(f.axes[i].name, "gemm1_out_size") == 0)
            f.axes[i].value++;
    assert_int_equal(ks_task_module()->generate(&f.problem, 1, f.in, N_INPUTS, why, sizeof(why)),
                     -1);
    assert_non_null(strstr(why, "gemm1_out_size is 257, it must be 256"));
    fixture_release(&f);
}

static void reference_does_not_depend_on_the_threads(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    double *once;
    size_t n;

    (void)state;
    fixture_init(&f, task, EP2, 40);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    n = f.rows * f.cols;
    once = calloc(n, sizeof(*once));
    assert_non_null(once);
    memcpy(once, f.expected, n * sizeof(*once));
    fixture_reference(&f, 3);
    assert_memory_equal(once, f.expected, n * sizeof(*once));
    free(once);
    fixture_release(&f);
}

static void cost_counts_experts_and_tokens_that_take_part(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    struct ks_cost cost;
    int64_t expert = 0;

    (void)state;
    fixture_init(&f, task, "topk1_ng1_kg1_e8", 6);
    fixture_text(&f, "routing", "hot"); /* one choice a token: all of expert 0 */
    fixture_generate(&f, 1);
    cost = fixture_cost(&f);
    expert = 3 * 256 * 128;
    assert_true(cost.flops == 6.0 * 256 * 128 * 6);
    assert_true(cost.bytes == (double)(expert + 4 * 3 * 2 * 1) + 6.0 * (256 + 4 * 2) +
                                  6.0 * (4 * 8 + 2 * 256) + 2.0 * 8 + 8);
    fixture_release(&f);
}

/* ---- Ties ---- */

/* Rounds `rows` into the fixture's output, as a kernel would leave it. */
static void output_from(struct fixture *f, const double *rows)
{
    for (size_t i = 0; i < f->rows * f->cols; i++)
        ((uint16_t *)f->out.data)[i] = ks_f32_to_bf16((float)rows[i]);
}

/* Relative distance of row t of the expected output from `rows`. */
static double row_distance(const struct fixture *f, const double *rows, size_t t)
{
    double error = 0, size = 1e-30;

    for (size_t i = t * f->cols; i < (t + 1) * f->cols; i++) {
        error += (f->expected[i] - rows[i]) * (f->expected[i] - rows[i]);
        size += rows[i] * rows[i];
    }
    return sqrt(error / size);
}

/* The expected output after logits were moved by less than counts as a tie; `sign` says how. */
static double *nudged(struct fixture *f, int sign)
{
    float *logits = f->in[LOGITS].data;
    size_t n = f->in_bytes[LOGITS] / sizeof(float), cells = f->rows * f->cols;
    double *rows = calloc(cells, sizeof(*rows)), *swap = calloc(cells, sizeof(*swap));
    float *kept = malloc(f->in_bytes[LOGITS]);

    assert_true(rows && swap && kept);
    memcpy(kept, logits, f->in_bytes[LOGITS]);
    for (size_t i = 0; i < n; i++)
        logits[i] += 1e-7f * (float)sign * (float)(1 + (i * 7) % 11);
    memcpy(swap, f->expected, cells * sizeof(*swap));
    fixture_reference(f, 2);
    memcpy(rows, f->expected, cells * sizeof(*rows));
    memcpy(f->expected, swap, cells * sizeof(*swap));
    memcpy(logits, kept, f->in_bytes[LOGITS]);
    free(kept);
    free(swap);
    return rows;
}

static void every_resolution_of_a_tie_is_accepted(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    size_t moved = 0;

    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        double *other;

        fixture_init(&f, task, EP4, 48);
        fixture_number(&f, "local_expert_offset", 32);
        fixture_text(&f, "routing", "ties");
        fixture_generate(&f, 8);
        fixture_reference(&f, 2);
        other = nudged(&f, sign);
        for (size_t t = 0; t < f.rows; t++)
            moved += row_distance(&f, other, t) > 0.05;
        output_from(&f, other);
        fixture_settle(&f);
        for (size_t t = 0; t < f.rows; t++)
            if (row_distance(&f, other, t) > 1e-2)
                fail_msg("row %zu is %g away after settling", t, row_distance(&f, other, t));
        free(other);
        fixture_release(&f);
    }
    assert_true(moved >= 4);
}

/* What settle may choose from is right answers: a wrong row stays wrong, a right one stays. */
static void settling_accepts_no_wrong_row(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    double *before;
    size_t cells, settled = 0;

    (void)state;
    fixture_init(&f, task, EP4, 48);
    fixture_number(&f, "local_expert_offset", 32);
    fixture_text(&f, "routing", "ties");
    fixture_generate(&f, 8);
    fixture_reference(&f, 2);
    cells = f.rows * f.cols;
    before = calloc(cells, sizeof(*before));
    assert_non_null(before);
    memcpy(before, f.expected, cells * sizeof(*before));
    output_from(&f, before);
    fixture_settle(&f);
    assert_memory_equal(before, f.expected, cells * sizeof(*before));
    for (size_t i = 0; i < cells; i++)
        before[i] *= 0.8; /* as if a fifth of the weight were missing */
    output_from(&f, before);
    fixture_settle(&f);
    for (size_t t = 0; t < f.rows; t++)
        if (row_size(&f, t) > 0) {
            assert_true(row_distance(&f, before, t) > 0.1);
            settled++;
        }
    assert_true(settled > 10);
    memset(f.out.data, 0xff, cells * 2); /* a kernel that wrote nothing */
    fixture_settle(&f);
    free(before);
    fixture_release(&f);
}

/* Group 0 is kept; groups 1, 2 and 3 tie for the other place, and only group 3 is local. */
static void ties_of_groups_are_settled(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    float *logits;
    double *other;

    (void)state;
    fixture_init(&f, task, KG2, 2);
    fixture_number(&f, "local_expert_offset", 48);
    fixture_text(&f, "routing", "local"); /* so that local experts have values */
    fixture_text(&f, "bias", "zero");
    fixture_generate(&f, 4);
    logits = f.in[LOGITS].data;
    for (size_t i = 0; i < 64; i++)
        logits[i] = i % 16 == 3 || i % 16 == 9 ? (i < 16 ? 3.0f : 1.0f) : -2.0f;
    for (size_t i = 0; i < 64; i++) /* those who may win must hold numbers */
        if (logits[i] > 0 && i >= 48) {
            size_t from = 48;
            size_t n13 = f.in_bytes[W13] / 16, n2 = f.in_bytes[W2] / 16;

            while (isnan(((const float *)f.in[S2].data)[(from - 48) * 4]))
                from++;
            memmove((uint8_t *)f.in[W13].data + (i - 48) * n13,
                    (uint8_t *)f.in[W13].data + (from - 48) * n13, n13);
            memmove((uint8_t *)f.in[W2].data + (i - 48) * n2,
                    (uint8_t *)f.in[W2].data + (from - 48) * n2, n2);
            for (size_t b = 0; b < 8; b++)
                ((float *)f.in[S13].data)[(i - 48) * 8 + b] = 0.01f * (float)(b + i);
            for (size_t b = 0; b < 4; b++)
                ((float *)f.in[S2].data)[(i - 48) * 4 + b] = 0.02f * (float)(b + i);
        }
    fixture_reference(&f, 1);
    assert_true(row_size(&f, 0) == 0); /* the first of the tied groups is not local */
    for (size_t i = 48; i < 64; i++)
        logits[i] = nextafterf(logits[i], 10);
    other = calloc(f.rows * f.cols, sizeof(*other));
    assert_non_null(other);
    fixture_reference(&f, 1);
    memcpy(other, f.expected, f.rows * f.cols * sizeof(*other));
    assert_true(row_size(&f, 0) > 0);
    for (size_t i = 48; i < 64; i++)
        logits[i] = nextafterf(logits[i], -10);
    fixture_reference(&f, 1);
    output_from(&f, other);
    fixture_settle(&f);
    assert_true(row_distance(&f, other, 0) < 1e-5);
    free(other);
    fixture_release(&f);
}

/* ---- Kernels ---- */

static char *axis_define(const char *name, long long value)
{
    char *text = str_printf("-DKS_%s=%lld", name, value);

    for (char *p = text + 2; *p && *p != '='; p++)
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
    return text;
}

/* defines: NULL-terminated -D arguments beyond the constant axes of the definition. */
static void kernel_build(struct kernel *k, const char *dir, const char *source,
                         const json_t *definition, char *const *defines)
{
    CLEANUP(freep) char *out = str_printf("%s/k.so", dir);
    char *argv[128] = {
        "cc",      "-O3",     "-march=native", "-std=gnu17", "-Wall",
        "-Wextra", "-Werror", "-fPIC",         "-shared",    "-I" KS_SOURCE_DIR "/tasks/harness"
    };
    char *own[AXES_MAX];
    size_t n = 10, n_own = 0;
    const char *key;
    json_t *v;
    pid_t pid;
    int status;

    json_object_foreach (json_object_get(definition, "axes"), key, v)
        argv[n++] = own[n_own++] = axis_define(key, json_integer_value(v));
    while (defines && *defines)
        argv[n++] = *defines++;
    argv[n++] = (char *)source;
    argv[n++] = "-o";
    argv[n++] = out;
    argv[n++] = "-lm";
    assert_int_equal(posix_spawnp(&pid, "cc", NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    while (n_own > 0)
        free(own[--n_own]);
    kernel_open(k, out);
    unlink(out); /* the next one must not be taken for this one */
}

static struct tolerance tolerance_of(const json_t *task)
{
    const json_t *t =
        json_object_get(json_array_get(json_object_get(task, "outputs"), 0), "tolerance");

    return (struct tolerance){ .abs_tol = jsonx_num(t, "atol", -1),
                               .rel_tol = jsonx_num(t, "rtol", -1),
                               .tensor_rel = jsonx_num(t, "tensor_rel", -1),
                               .row_rel = jsonx_num(t, "row_rel", -1) };
}

/* Calls the kernel on the fixture with so much scratch and compares everything it wrote. */
static void kernel_check(const struct kernel *k, struct fixture *f, size_t scratch_bytes,
                         const char *what)
{
    void *scratch = guarded(scratch_bytes);
    struct ks_call call = {
        .abi = KS_ABI_VERSION,
        .n_inputs = N_INPUTS,
        .n_outputs = 1,
        .n_axes = f->problem.n_axes,
        .inputs = f->in,
        .outputs = &f->out,
        .axes = f->axes,
        .threads = 2,
        .parallel = run_parallel,
        .scratch = scratch,
        .scratch_bytes = scratch_bytes,
    };
    struct tolerance tol = tolerance_of(f->task);
    struct check_stats stats = { 0 };
    struct fail bad = { 0 };

    memset(scratch, 0xff, scratch_bytes);
    memset(f->out.data, POISON, f->rows * f->cols * 2);
    assert_int_equal(k->run(&call), 0);
    if (!guard_intact(f->out.data, f->rows * f->cols * 2) || !guard_intact(scratch, scratch_bytes))
        fail_msg("%s: wrote beyond its output or scratch on %s", what, f->name);
    for (int i = 0; i < N_INPUTS; i++)
        assert_true(guard_intact(f->in[i].data, f->in_bytes[i]));
    fixture_settle(f);
    if (check_output(&f->out, f->out.data, f->expected, &tol, 1, POISON, &stats, &bad) != 0)
        fail_msg("%s on %s: %s", what, f->name, bad.msg);
    munmap(scratch, scratch_bytes + GUARD);
}

static int output_check(struct fixture *f)
{
    struct tolerance tol = tolerance_of(f->task);
    struct check_stats stats = { 0 };
    struct fail bad = { 0 };

    return check_output(&f->out, f->out.data, f->expected, &tol, 1, POISON, &stats, &bad);
}

static void the_tolerance_tells_rounding_from_missing_work(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    double *rows;
    size_t cells;

    (void)state;
    fixture_init(&f, task, EP4, 24);
    fixture_generate(&f, 2);
    fixture_reference(&f, 2);
    cells = f.rows * f.cols;
    rows = calloc(cells, sizeof(*rows));
    assert_non_null(rows);
    output_from(&f, rows);
    assert_int_equal(output_check(&f), -1); /* zeros */
    memcpy(rows, f.expected, cells * sizeof(*rows));
    output_from(&f, rows);
    assert_int_equal(output_check(&f), 0); /* rounded once */
    for (size_t t = 0; t < f.rows; t++) {
        double keep = row_size(&f, t) > 0 ? 0.97 : 1;

        for (size_t i = t * f.cols; keep < 1 && i < (t + 1) * f.cols; i++)
            rows[i] *= keep;
        output_from(&f, rows);
        assert_int_equal(output_check(&f), keep < 1 ? -1 : 0); /* 3 % of one token missing */
        memcpy(rows, f.expected, cells * sizeof(*rows));
        rows[t * f.cols] += keep < 1 ? 0 : 1e-3;
        output_from(&f, rows);
        assert_int_equal(output_check(&f), keep < 1 ? 0 : -1); /* where zeros belong */
        rows[t * f.cols] = f.expected[t * f.cols];
    }
    free(rows);
    fixture_release(&f);
}

/* ---- Workloads ---- */

/* The line's parameters become the fixture's; names and kinds must be known ones. */
static void params_take(struct fixture *f, const json_t *params)
{
    static const char *const texts[] = { "routing", "bias",       "input_mode", "scales",
                                         "uuid",    "provenance", "id" };
    static const char *const numbers[] = { "hot_expert", "local_expert_offset",
                                           "routed_scaling_factor" };
    const char *key;
    json_t *v;

    json_object_foreach ((json_t *)params, key, v) {
        bool known = false;

        if (json_is_string(v)) {
            for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                known |= strcmp(key, texts[i]) == 0;
            fixture_text(f, key, json_string_value(v));
        } else {
            for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
                known |= strcmp(key, numbers[i]) == 0;
            fixture_number(f, key, json_number_value(v));
        }
        if (!known)
            fail_msg("parameter '%s' is not known", key);
    }
}

/* A list of the objects of one line each. */
static json_t *lines_of(const char *path)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    json_t *list = json_array();
    struct err err;

    assert_ok(file_read(path, &text, &err), err);
    for (const char *at = buf_str(&text); *at;) {
        size_t len = strcspn(at, "\n");
        json_t *w = NULL;

        assert_ok(jsonx_parse(at, len, "workload", &w, &err), err);
        json_array_append_new(list, w);
        at += len + (at[len] == '\n');
    }
    return list;
}

static void workload_check(const json_t *task, const char *definition, const json_t *w)
{
    const json_t *axes = json_object_get(w, "axes");
    struct fixture f;
    double offset;

    assert_int_equal(json_object_size(axes), 1);
    assert_in_range(jsonx_int(axes, "seq_len", -1), 1, 1 << 20);
    fixture_init(&f, task, definition, jsonx_int(axes, "seq_len", -1));
    params_take(&f, json_object_get(w, "params"));
    offset = jsonx_num(json_object_get(w, "params"), "local_expert_offset", 0);
    assert_true(offset >= 0 && offset < (double)axis(&f, "num_experts"));
    if (axis(&f, "hidden_size") < 4096) /* the weights of the real one take 1.4 GB */
        fixture_generate(&f, 9);
    fixture_release(&f);
}

static void every_workload_is_one_of_its_definition(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    DIR *dir = opendir(PACK "/workloads");
    struct dirent *e;
    size_t files = 0, real = 0;

    (void)state;
    assert_non_null(dir);
    while ((e = readdir(dir)) != NULL) {
        CLEANUP(freep) char *path = str_printf(PACK "/workloads/%s", e->d_name);
        size_t name = strcspn(e->d_name, "."), i;
        char definition[128];
        json_t *list, *w;

        if (e->d_name[0] == '.')
            continue;
        assert_true(name < sizeof(definition));
        memcpy(definition, e->d_name, name);
        definition[name] = '\0';
        list = lines_of(path);
        assert_true(json_array_size(list) >= 1);
        json_array_foreach (list, i, w)
            workload_check(task, definition, w);
        real += strstr(e->d_name, "_h7168_") ? json_array_size(list) : 0;
        json_decref(list);
        files++;
    }
    closedir(dir);
    assert_true(files >= 2 * (json_array_size(json_object_get(task, "definitions")) - 1) + 2);
    assert_true(real >= 19 + 33);
}

/* ---- The template ---- */

enum { PROBLEMS_MAX = 10 };

/* The workloads of the definition's sets smoke and cpu, with what is expected of them. */
struct bench {
    const json_t *definition;
    json_t *lists[2];
    struct fixture f[PROBLEMS_MAX];
    size_t n;
};

static void bench_init(struct bench *b, const json_t *task, const char *name)
{
    static const char *const sets[] = { "smoke", "cpu" };

    memset(b, 0, sizeof(*b));
    b->definition = definition_of(task, name);
    for (size_t s = 0; s < 2; s++) {
        CLEANUP(freep)
        char *path = str_printf(PACK "/workloads/%s.%s.jsonl", jsonx_str(b->definition, "name", ""),
                                sets[s]);
        json_t *w;
        size_t i;

        b->lists[s] = lines_of(path);
        json_array_foreach (b->lists[s], i, w) {
            struct fixture *f = &b->f[b->n++];

            assert_true(b->n <= PROBLEMS_MAX);
            fixture_init(f, task, name, jsonx_int(json_object_get(w, "axes"), "seq_len", 0));
            f->name = str_printf("%s of %s", jsonx_str(w, "name", ""), name);
            params_take(f, json_object_get(w, "params"));
            fixture_generate(f, 77);
            fixture_reference(f, 2);
        }
    }
}

static void bench_release(struct bench *b)
{
    for (size_t i = 0; i < b->n; i++)
        fixture_release(&b->f[i]);
    json_decref(b->lists[0]);
    json_decref(b->lists[1]);
}

enum { BENCHES = 3 };

struct template_test {
    json_t *task, *space;
    const char *dir;
    struct bench benches[BENCHES];
};

static void template_test_init(struct template_test *t, const char *dir)
{
    static const char *const names[BENCHES] = { EP4, EP2, "topk1_ng1_kg1_e8" };

    t->task = load(PACK "/task.json");
    t->space = load(PACK "/template.space.json");
    t->dir = dir;
    for (size_t i = 0; i < BENCHES; i++)
        bench_init(&t->benches[i], t->task, names[i]);
}

static void template_test_release(struct template_test *t)
{
    for (size_t i = 0; i < BENCHES; i++)
        bench_release(&t->benches[i]);
    json_decref(t->task);
    json_decref(t->space);
}

/* Builds the template (or, without an assignment, the baseline) and compares it on all workloads
 * of a definition; the last also without scratch. */
static void build_and_check(struct template_test *t, const json_t *assignment, size_t which)
{
    CLEANUP(freep) char *what = assignment ? jsonx_canonical(assignment) : strdup("baseline");
    struct bench *b = &t->benches[which % BENCHES];
    char *defines[64] = { NULL };
    size_t n = assignment ? assignment_defines(t->space, assignment, defines) : 0;
    struct kernel k;

    kernel_build(&k, t->dir, assignment ? PACK "/template.c" : PACK "/baseline.c", b->definition,
                 defines);
    for (size_t i = 0; i < b->n; i++)
        kernel_check(&k, &b->f[i], b->f[i].scratch, what);
    kernel_check(&k, &b->f[b->n - 1], 0, what);
    dlclose(k.handle);
    for (size_t i = 0; i < n; i++)
        free(defines[i]);
}

static void baseline_and_default_template_are_correct(void **state)
{
    struct template_test t;
    json_auto_t *a = NULL;

    template_test_init(&t, *state);
    a = assignment_default(t.space);
    assert_true(assignment_valid(t.space, a));
    for (size_t i = 0; i < BENCHES; i++) {
        build_and_check(&t, NULL, i);
        build_and_check(&t, a, i);
    }
    template_test_release(&t);
}

/* Bit k of seen[i]: value k of parameter i has been tried. */
static void mark_values(const json_t *space, const json_t *assignment, uint64_t *seen)
{
    const json_t *p, *v;
    size_t i, k;

    json_array_foreach (json_object_get(space, "parameters"), i, p)
        json_array_foreach (json_object_get(p, "values"), k, v)
            if (json_equal(v, json_object_get(assignment, jsonx_str(p, "name", ""))))
                seen[i] |= 1ull << k;
}

static void template_is_correct_at_every_value_of_every_parameter(void **state)
{
    const char *wanted = getenv("KS_MOE_RANDOM");
    struct rng r = rng_derive(1, "moe values", 0);
    uint64_t seen[64] = { 0 }, more = 2;
    struct template_test t;
    const json_t *p;
    size_t i, built = 0;

    if (wanted)
        assert_true(str_to_u64(wanted, &more));
    template_test_init(&t, *state);
    json_array_foreach (json_object_get(t.space, "parameters"), i, p)
        for (size_t k = 0; k < json_array_size(json_object_get(p, "values")); k++) {
            json_auto_t *a = NULL;

            if (seen[i] >> k & 1)
                continue;
            a = assignment_random(t.space, &r, jsonx_str(p, "name", ""), k);
            mark_values(t.space, a, seen);
            build_and_check(&t, a, built++);
        }
    assert_true(built >= 4);
    for (uint64_t k = 0; k < more; k++) {
        json_auto_t *a = assignment_random(t.space, &r, NULL, 0);

        build_and_check(&t, a, built++);
    }
    template_test_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_is_the_number_that_the_format_says),
        cmocka_unit_test(numbers_between_codes_round_to_the_nearest_and_halves_to_even),
        cmocka_unit_test(numbers_too_large_saturate_and_nan_stays),
        cmocka_unit_test(reference_agrees_with_the_golden_result),
        cmocka_unit_test(inputs_are_a_function_of_the_seed),
        cmocka_unit_test(values_are_quantised_normal_numbers_and_what_is_unused_is_nan),
        cmocka_unit_test(bench_mode_has_clamped_codes_and_signed_scales),
        cmocka_unit_test(routings_are_what_they_say),
        cmocka_unit_test(wrong_workloads_are_refused_with_a_sentence),
        cmocka_unit_test(reference_does_not_depend_on_the_threads),
        cmocka_unit_test(cost_counts_experts_and_tokens_that_take_part),
        cmocka_unit_test(every_resolution_of_a_tie_is_accepted),
        cmocka_unit_test(settling_accepts_no_wrong_row),
        cmocka_unit_test(ties_of_groups_are_settled),
        cmocka_unit_test(the_tolerance_tells_rounding_from_missing_work),
        cmocka_unit_test(every_workload_is_one_of_its_definition),
        cmocka_unit_test_setup_teardown(baseline_and_default_template_are_correct, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(template_is_correct_at_every_value_of_every_parameter,
                                        test_dir_setup, test_dir_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
