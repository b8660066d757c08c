/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pack trimul: its generator and reference against golden results in double precision, its
 * baseline and template against the reference, its tolerance against kernels that should fail.
 * Kernels are built by `cc` with the flags of an evaluation; KS_TRIMUL_RANDOM sets how many random
 * assignments of the template are tried (4).
 */
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "ks_task.h"
#include "unit/tasks/assignment.h"
#include "unit/tasks/kernel.h"

#define PACK KS_SOURCE_DIR "/tasks/trimul"

enum { N_INPUTS = 12, GUARD = 64, MASK = 1, TO_OUT_NORM_BIAS = 10, TO_OUT = 11 };

extern char **environ;

/* ---- A call and its buffers ---- */

struct fixture {
    struct ks_axis axes[4];
    struct ks_param params[2];
    struct ks_problem problem;
    struct ks_tensor in[N_INPUTS], out;
    double *expected;
    int64_t positions, dim, hidden;
};

static size_t tensor_count(const struct ks_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    return n;
}

/* Zeroed memory with GUARD bytes of 0x5a behind it. */
static void *guarded(size_t bytes)
{
    size_t whole = (bytes + GUARD + 63) / 64 * 64;
    unsigned char *p = aligned_alloc(64, whole);

    assert_non_null(p);
    memset(p, 0, bytes);
    memset(p + bytes, 0x5a, whole - bytes);
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

static void fixture_release(struct fixture *f)
{
    for (int i = 0; i < N_INPUTS; i++)
        free(f->in[i].data);
    free(f->out.data);
    free(f->expected);
}

static void fixture_init(struct fixture *f, int dim, int hidden, int bs, int n, const char *mask,
                         const char *distribution)
{
    memset(f, 0, sizeof(*f));
    f->dim = dim;
    f->hidden = hidden;
    f->positions = (int64_t)bs * n * n;
    f->axes[0] = (struct ks_axis){ "bs", bs };
    f->axes[1] = (struct ks_axis){ "seqlen", n };
    f->axes[2] = (struct ks_axis){ "dim", dim };
    f->axes[3] = (struct ks_axis){ "hidden_dim", hidden };
    f->params[0] = (struct ks_param){ "mask", mask, NULL, 0 };
    f->params[1] = (struct ks_param){ "distribution", distribution, NULL, 0 };
    f->problem = (struct ks_problem){ "trimul", 4, 2, f->axes, f->params };
    f->in[0] = (struct ks_tensor){ "input", KS_F32, 4, { bs, n, n, dim }, NULL };
    f->in[1] = (struct ks_tensor){ "mask", KS_F32, 3, { bs, n, n }, NULL };
    f->in[2] = (struct ks_tensor){ "norm_weight", KS_F32, 1, { dim }, NULL };
    f->in[3] = (struct ks_tensor){ "norm_bias", KS_F32, 1, { dim }, NULL };
    f->in[4] = (struct ks_tensor){ "left_proj", KS_F32, 2, { hidden, dim }, NULL };
    f->in[5] = (struct ks_tensor){ "right_proj", KS_F32, 2, { hidden, dim }, NULL };
    f->in[6] = (struct ks_tensor){ "left_gate", KS_F32, 2, { hidden, dim }, NULL };
    f->in[7] = (struct ks_tensor){ "right_gate", KS_F32, 2, { hidden, dim }, NULL };
    f->in[8] = (struct ks_tensor){ "out_gate", KS_F32, 2, { hidden, dim }, NULL };
    f->in[9] = (struct ks_tensor){ "to_out_norm_weight", KS_F32, 1, { hidden }, NULL };
    f->in[10] = (struct ks_tensor){ "to_out_norm_bias", KS_F32, 1, { hidden }, NULL };
    f->in[11] = (struct ks_tensor){ "to_out", KS_F32, 2, { dim, hidden }, NULL };
    f->out = (struct ks_tensor){ "output", KS_F32, 4, { bs, n, n, dim }, NULL };
    for (int i = 0; i < N_INPUTS; i++)
        f->in[i].data = guarded(tensor_count(&f->in[i]) * sizeof(float));
    f->out.data = guarded(tensor_count(&f->out) * sizeof(float));
    f->expected = calloc(tensor_count(&f->out), sizeof(double));
    assert_non_null(f->expected);
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

    if (ks_task_module()->reference(&f->problem, f->in, N_INPUTS, &f->expected, 1, threads, why,
                                    sizeof(why)) != 0)
        fail_msg("reference: %s", why);
}

static float *fixture_input(const struct fixture *f, int i)
{
    return f->in[i].data;
}

/* ---- Golden results ---- */

static json_t *load(const char *path)
{
    struct err err;
    json_t *v = NULL;

    assert_ok(jsonx_load(path, 1 << 20, &v, &err), err);
    return v;
}

static void golden_fill(struct fixture *f, const json_t *c)
{
    const json_t *input;
    size_t i;

    json_array_foreach (json_object_get(c, "inputs"), i, input) {
        const char *name = jsonx_str(input, "name", "");
        double want = jsonx_num(json_object_get(c, "input_sums"), name, NAN), sum = 0;
        uint64_t seed = (uint64_t)jsonx_int(input, "seed", 0);
        float scale = (float)jsonx_num(input, "scale", 0), *x = fixture_input(f, (int)i);

        assert_string_equal(name, f->in[i].name);
        for (size_t k = 0; k < tensor_count(&f->in[i]); k++) {
            float u = ks_uniform(seed, k);

            x[k] = i == MASK ? (u >= 0 ? 1.0f : 0.0f) : scale * u;
            sum += (double)x[k];
        }
        if (!isnan(want))
            assert_true(fabs(sum - want) < 1e-5);
    }
    assert_int_equal(i, N_INPUTS);
}

static void reference_agrees_with_the_golden_results(void **state)
{
    json_auto_t *golden = load(KS_SOURCE_DIR "/tests/fixtures/golden_trimul.json");
    const json_t *want = json_object_get(golden, "output"), *row;
    double sum = 0, sum_abs = 0, sum_sq = 0;
    struct fixture f;
    size_t i;

    (void)state;
    fixture_init(&f, 128, 128, (int)jsonx_int(golden, "bs", 0), (int)jsonx_int(golden, "seqlen", 0),
                 "ones", "normal");
    assert_int_equal(jsonx_int(want, "count", 0), tensor_count(&f.out));
    golden_fill(&f, golden);
    fixture_reference(&f, 2);
    for (size_t k = 0; k < tensor_count(&f.out); k++) {
        sum += f.expected[k];
        sum_abs += fabs(f.expected[k]);
        sum_sq += f.expected[k] * f.expected[k];
    }
    assert_true(fabs(sum - jsonx_num(want, "sum", NAN)) < 1e-4);
    assert_true(fabs(sum_abs - jsonx_num(want, "sum_abs", NAN)) < 1e-4);
    assert_true(fabs(sum_sq - jsonx_num(want, "sum_sq", NAN)) < 1e-4);
    json_array_foreach (json_object_get(want, "samples"), i, row)
        assert_true(fabs(f.expected[json_integer_value(json_array_get(row, 0))] -
                         json_number_value(json_array_get(row, 1))) < 1e-7);
    assert_true(i >= 8);
    fixture_release(&f);
}

/* ---- The generator ---- */

static void inputs_are_a_function_of_the_seed(void **state)
{
    struct fixture a, b, c;

    (void)state;
    fixture_init(&a, 64, 32, 2, 9, "fractional", "cauchy");
    fixture_init(&b, 64, 32, 2, 9, "fractional", "cauchy");
    fixture_init(&c, 64, 32, 2, 9, "fractional", "cauchy");
    fixture_generate(&a, 11);
    fixture_generate(&b, 11);
    fixture_generate(&c, 12);
    for (int i = 0; i < N_INPUTS; i++) {
        size_t bytes = tensor_count(&a.in[i]) * sizeof(float);

        assert_memory_equal(a.in[i].data, b.in[i].data, bytes);
        assert_memory_not_equal(a.in[i].data, c.in[i].data, bytes);
        for (int k = 0; k < i; k++) /* no two tensors from the same numbers */
            assert_memory_not_equal(a.in[i].data, a.in[k].data, 64);
    }
    fixture_release(&a);
    fixture_release(&b);
    fixture_release(&c);
}

static double mean_square(const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum / (double)n;
}

static void values_have_the_stated_scales(void **state)
{
    struct fixture f;
    size_t wide = 0, n;

    (void)state;
    fixture_init(&f, 256, 128, 1, 12, "ones", "normal");
    fixture_generate(&f, 3);
    n = tensor_count(&f.in[0]);
    assert_true(fabs(mean_square(fixture_input(&f, 0), n) - 1) < 0.03);
    for (int i = 4; i <= 8; i++)
        assert_true(fabs(mean_square(fixture_input(&f, i), 256 * 128) * 256 - 1) < 0.05);
    assert_true(fabs(mean_square(fixture_input(&f, TO_OUT), 256 * 128) * 128 - 1) < 0.05);
    f.params[1].text = "cauchy";
    fixture_generate(&f, 3);
    for (size_t i = 0; i < n; i++)
        wide += fabsf(fixture_input(&f, 0)[i]) > 2; /* half of it beyond the scale */
    assert_true(fabs((double)wide / (double)n - 0.5) < 0.02);
    f.params[1].text = "constant_rows";
    fixture_generate(&f, 3);
    for (size_t i = 0; i < n; i++)
        assert_true(fixture_input(&f, 0)[i] == fixture_input(&f, 0)[i / 256 * 256]);
    fixture_release(&f);
}

static void masks_are_what_they_say(void **state)
{
    struct fixture f;
    double ones = 0, fractions = 0;
    const float *m;

    (void)state;
    fixture_init(&f, 64, 32, 2, 30, "random", "normal");
    m = fixture_input(&f, MASK);
    fixture_generate(&f, 8);
    for (int i = 0; i < 1800; i++) {
        assert_true(m[i] == 0 || m[i] == 1);
        ones += (double)m[i];
    }
    assert_true(fabs(ones / 1800 - 0.5) < 0.05);
    f.params[0].text = "fractional";
    fixture_generate(&f, 8);
    for (int i = 0; i < 1800; i++) {
        assert_true(m[i] >= 0 && m[i] <= 1);
        fractions += m[i] > 0 && m[i] < 1;
    }
    assert_true(fractions > 1790);
    f.params[0].text = "upper";
    fixture_generate(&f, 8);
    for (int i = 0; i < 1800; i++)
        assert_true(m[i] == (i / 30 % 30 <= i % 30 ? 1.0f : 0.0f));
    f.params[0].text = "zeros";
    fixture_generate(&f, 8);
    assert_true(mean_square(m, 1800) == 0);
    f.params[0].text = "ones";
    fixture_generate(&f, 8);
    assert_true(mean_square(m, 1800) == 1);
    fixture_release(&f);
}

static void assert_refused(struct fixture *f, const char *word)
{
    char why[256] = "";

    assert_int_equal(ks_task_module()->generate(&f->problem, 1, f->in, N_INPUTS, why, sizeof(why)),
                     -1);
    assert_non_null(strstr(why, word));
}

static void wrong_workloads_are_refused_with_a_sentence(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 64, 32, 1, 3, "lower", "normal");
    assert_refused(&f, "params.mask is 'lower'");
    f.params[0].text = "ones";
    f.params[1].text = "laplace";
    assert_refused(&f, "params.distribution is 'laplace'");
    f.params[1].text = "normal";
    f.axes[1].value = 0;
    assert_refused(&f, "seqlen");
    f.axes[1].value = 3;
    f.axes[2].value = 60;
    assert_refused(&f, "dim is 60");
    f.axes[2].value = 64;
    f.axes[3].value = 2048;
    assert_refused(&f, "hidden_dim is 2048");
    fixture_release(&f);
}

/* ---- Reference and cost ---- */

/* Where everything is masked, the triangle product is 0 and its norm is the bias. */
static void reference_of_a_masked_input_is_the_gated_bias(void **state)
{
    struct fixture f;
    const float *bias;

    (void)state;
    fixture_init(&f, 64, 32, 1, 4, "zeros", "normal");
    fixture_generate(&f, 5);
    memset(f.in[8].data, 0, tensor_count(&f.in[8]) * sizeof(float)); /* every gate is 1/2 */
    fixture_reference(&f, 1);
    bias = fixture_input(&f, TO_OUT_NORM_BIAS);
    for (int64_t at = 0; at < f.positions; at++)
        for (int d = 0; d < 64; d++) {
            double want = 0;

            for (int h = 0; h < 32; h++)
                want += 0.5 * (double)bias[h] * (double)fixture_input(&f, TO_OUT)[d * 32 + h];
            assert_true(fabs(f.expected[at * 64 + d] - want) < 1e-12);
        }
    fixture_release(&f);
}

/* Row i of the mask is row i of left, row j is row j of right: what is masked there stays there. */
static void reference_masks_rows_of_left_and_right(void **state)
{
    struct fixture f;
    double *before;

    (void)state;
    fixture_init(&f, 64, 32, 1, 6, "ones", "normal");
    fixture_generate(&f, 6);
    fixture_reference(&f, 1);
    before = calloc(tensor_count(&f.out), sizeof(*before));
    assert_non_null(before);
    memcpy(before, f.expected, tensor_count(&f.out) * sizeof(*before));
    fixture_input(&f, MASK)[2 * 6 + 4] = 0; /* (2, 4): i = 2 or j = 2 */
    fixture_reference(&f, 1);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            assert_true((f.expected[(i * 6 + j) * 64] == before[(i * 6 + j) * 64]) ==
                        (i != 2 && j != 2));
    free(before);
    fixture_release(&f);
}

static void reference_does_not_depend_on_the_threads(void **state)
{
    struct fixture f;
    double *once;
    size_t bytes;

    (void)state;
    fixture_init(&f, 64, 32, 2, 7, "random", "normal");
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    bytes = tensor_count(&f.out) * sizeof(*once);
    once = malloc(bytes);
    assert_non_null(once);
    memcpy(once, f.expected, bytes);
    fixture_reference(&f, 3);
    assert_memory_equal(once, f.expected, bytes);
    free(once);
    fixture_release(&f);
}

static void cost_is_what_the_formula_says(void **state)
{
    struct fixture f;
    struct ks_cost cost;

    (void)state;
    fixture_init(&f, 128, 128, 2, 5, "ones", "normal");
    ks_task_module()->cost(&f.problem, f.in, N_INPUTS, &cost);
    assert_true(cost.flops == 12.0 * 50 * 128 * 128 + 2.0 * 2 * 125 * 128);
    assert_true(cost.bytes ==
                8.0 * 50 * 128 + 4.0 * 50 + 4.0 * (6 * 128 * 128 + 2 * 128 + 2 * 128));
    fixture_release(&f);
}

/* ---- Kernels ---- */

/* defines: NULL-terminated -D arguments beyond the constant axes. */
static void kernel_build(struct kernel *k, const char *dir, const char *source, int dim, int hidden,
                         char *const *defines)
{
    CLEANUP(freep) char *out = str_printf("%s/k.so", dir);
    CLEANUP(freep) char *dim_axis = str_printf("-DKS_DIM=%d", dim);
    CLEANUP(freep) char *hidden_axis = str_printf("-DKS_HIDDEN_DIM=%d", hidden);
    char *argv[80] = {
        "cc",      "-O3",      "-march=native", "-std=gnu17", "-Wall",
        "-Wextra", "-Werror",  "-fPIC",         "-shared",    "-I" KS_SOURCE_DIR "/tasks/harness",
        dim_axis,  hidden_axis
    };
    size_t n = 12;
    pid_t pid;
    int status;

    while (defines && *defines)
        argv[n++] = *defines++;
    argv[n++] = (char *)source;
    argv[n++] = "-o";
    argv[n++] = out;
    argv[n++] = "-lm";
    assert_true(n < ARRAY_LEN(argv));
    assert_int_equal(posix_spawnp(&pid, "cc", NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    kernel_open(k, out);
    unlink(out); /* the next one must not be taken for this one */
}

/* ---- The tolerance, as the checker applies it ---- */

struct limits {
    double absolute, relative, tensor_rel, row_rel;
};

static struct limits limits_of(const json_t *task)
{
    const json_t *t =
        json_object_get(json_array_get(json_object_get(task, "outputs"), 0), "tolerance");

    return (struct limits){ jsonx_num(t, "atol", NAN), jsonx_num(t, "rtol", NAN),
                            jsonx_num(t, "tensor_rel", NAN), jsonx_num(t, "row_rel", NAN) };
}

static double ratio_of(double error, double size)
{
    return error == 0 ? 0 : sqrt(error / size);
}

/* Whether what lies in f->out is within the limits; otherwise `what` of it is not, in why. */
static bool within(const struct fixture *f, struct limits lim, char *why, size_t why_size)
{
    const float *got = f->out.data;
    double error = 0, size = 0;

    for (int64_t row = 0; row < f->positions; row++) {
        double row_error = 0, row_size = 0;

        for (int64_t i = row * f->dim; i < (row + 1) * f->dim; i++) {
            double want = f->expected[i], diff = fabs((double)got[i] - want);

            if (!(diff <= lim.absolute + lim.relative * fabs(want))) {
                snprintf(why, why_size, "output[%lld] is %g instead of %g", (long long)i,
                         (double)got[i], want);
                return false;
            }
            row_error += diff * diff;
            row_size += want * want;
        }
        if (!(ratio_of(row_error, row_size) <= lim.row_rel)) {
            snprintf(why, why_size, "row %lld is off by %g", (long long)row,
                     ratio_of(row_error, row_size));
            return false;
        }
        error += row_error;
        size += row_size;
    }
    snprintf(why, why_size, "the tensor is off by %g", ratio_of(error, size));
    return ratio_of(error, size) <= lim.tensor_rel;
}

/* What the definition says, and its value. */
#define SCRATCH_BYTES                                                                              \
    "bs*seqlen*seqlen*(12*hidden_dim+4*dim)+bs*hidden_dim*512+24*hidden_dim*dim+64*hidden_dim+"    \
    "4096"

static size_t scratch_of(const struct fixture *f)
{
    int64_t bs = f->axes[0].value, n = f->axes[1].value;

    return (size_t)(bs * n * n * (12 * f->hidden + 4 * f->dim) + bs * f->hidden * 512 +
                    24 * f->hidden * f->dim + 64 * f->hidden + 4096);
}

static void kernel_check(const struct kernel *k, struct fixture *f, const json_t *task,
                         const char *what)
{
    size_t bytes = scratch_of(f), out_bytes = tensor_count(&f->out) * sizeof(float);
    CLEANUP(freep) void *scratch = guarded(bytes);
    struct ks_call call = {
        .abi = KS_ABI_VERSION,
        .n_inputs = N_INPUTS,
        .n_outputs = 1,
        .n_axes = 4,
        .inputs = f->in,
        .outputs = &f->out,
        .axes = f->axes,
        .threads = 2,
        .parallel = run_parallel,
        .scratch = scratch,
        .scratch_bytes = bytes,
    };
    char why[256];

    memset(scratch, 0xff, bytes);
    memset(f->out.data, 0xff, out_bytes);
    assert_int_equal(k->run(&call), 0);
    if (!guard_intact(f->out.data, out_bytes))
        fail_msg("%s: wrote beyond the output", what);
    if (!guard_intact(scratch, bytes))
        fail_msg("%s: wrote beyond the scratch", what);
    if (!within(f, limits_of(task), why, sizeof(why)))
        fail_msg("%s: bs %lld, seqlen %lld: %s", what, (long long)f->axes[0].value,
                 (long long)f->axes[1].value, why);
}

/* The smallest call; lengths that are multiples of nothing; a tile's edge; a mask that is not
 * symmetric; rows without variance. */
enum { PROBLEMS = 5 };

static void problems_init(struct fixture f[PROBLEMS], int dim, int hidden)
{
    fixture_init(&f[0], dim, hidden, 1, 1, "ones", "normal");
    fixture_init(&f[1], dim, hidden, 2, 5, "fractional", "cauchy");
    fixture_init(&f[2], dim, hidden, 1, 8, "random", "constant_rows");
    fixture_init(&f[3], dim, hidden, 1, 11, "upper", "normal");
    fixture_init(&f[4], dim, hidden, 1, hidden == 32 ? 35 : 4, "random", "normal");
    for (int i = 0; i < PROBLEMS; i++) {
        fixture_generate(&f[i], 77);
        fixture_reference(&f[i], 2);
    }
}

/* ---- Baseline and template ---- */

static const struct {
    int dim, hidden;
} variants[] = { { 64, 32 }, { 128, 64 }, { 128, 128 }, { 256, 128 }, { 384, 128 }, { 768, 128 } };

struct template_test {
    json_t *task, *space;
    const char *dir;
    struct fixture problems[ARRAY_LEN(variants)][PROBLEMS];
};

static void template_test_init(struct template_test *t, const char *dir)
{
    t->task = load(PACK "/task.json");
    t->space = load(PACK "/template.space.json");
    t->dir = dir;
    for (size_t v = 0; v < ARRAY_LEN(variants); v++)
        problems_init(t->problems[v], variants[v].dim, variants[v].hidden);
}

static void template_test_release(struct template_test *t)
{
    for (size_t v = 0; v < ARRAY_LEN(variants); v++)
        for (int i = 0; i < PROBLEMS; i++)
            fixture_release(&t->problems[v][i]);
    json_decref(t->task);
    json_decref(t->space);
}

/* Builds the template (or, without an assignment, the baseline) and compares it on all problems. */
static void build_and_check(struct template_test *t, const json_t *assignment, size_t v)
{
    CLEANUP(freep) char *what = assignment ? jsonx_canonical(assignment) : strdup("baseline");
    char *defines[64] = { NULL };
    size_t n = assignment ? assignment_defines(t->space, assignment, defines) : 0;
    struct kernel k;

    kernel_build(&k, t->dir, assignment ? PACK "/template.c" : PACK "/baseline.c", variants[v].dim,
                 variants[v].hidden, defines);
    for (int i = 0; i < PROBLEMS; i++)
        kernel_check(&k, &t->problems[v][i], t->task, what);
    dlclose(k.handle);
    for (size_t i = 0; i < n; i++)
        free(defines[i]);
}

static void baseline_and_default_template_are_correct(void **state)
{
    struct template_test t;
    json_auto_t *a = NULL;

    template_test_init(&t, *state);
    assert_int_equal(json_array_size(json_object_get(t.task, "definitions")), ARRAY_LEN(variants));
    a = assignment_default(t.space);
    assert_true(assignment_valid(t.space, a));
    assert_string_equal(jsonx_str(t.task, "scratch_bytes", ""), SCRATCH_BYTES);
    for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
        build_and_check(&t, NULL, v);
        build_and_check(&t, a, v);
    }
    template_test_release(&t);
}

static void template_is_correct_at_every_value_of_every_parameter(void **state)
{
    struct rng r = rng_derive(1, "trimul values", 0);
    struct template_test t;
    const json_t *p;
    size_t i, built = 0;

    template_test_init(&t, *state);
    json_array_foreach (json_object_get(t.space, "parameters"), i, p) {
        const char *name = jsonx_str(p, "name", "");

        for (size_t k = 0; k < json_array_size(json_object_get(p, "values")); k++) {
            const json_t *v = json_array_get(json_object_get(p, "values"), k);
            json_auto_t *a = assignment_default(t.space);

            if (json_equal(json_object_get(a, name), v))
                continue; /* tried as the default */
            json_object_set(a, name, (json_t *)v);
            if (!assignment_valid(t.space, a)) {
                json_decref(a);
                a = assignment_random(t.space, &r, name, k);
            }
            build_and_check(&t, a, built++ % 3);
        }
    }
    assert_true(built >= 20);
    template_test_release(&t);
}

static void template_is_correct_at_random_assignments(void **state)
{
    const char *wanted = getenv("KS_TRIMUL_RANDOM");
    uint64_t n = 4;
    struct rng r = rng_derive(1, "trimul assignments", 0);
    struct template_test t;

    if (wanted)
        assert_true(str_to_u64(wanted, &n));
    template_test_init(&t, *state);
    for (uint64_t i = 0; i < n; i++) {
        json_auto_t *a = assignment_random(t.space, &r, NULL, 0);

        build_and_check(&t, a, i % ARRAY_LEN(variants));
    }
    template_test_release(&t);
}

/* ---- Wrong answers ---- */

/* The expected output, as a kernel might leave it. */
static void out_take(struct fixture *f)
{
    for (size_t i = 0; i < tensor_count(&f->out); i++)
        ((float *)f->out.data)[i] = (float)f->expected[i];
}

/* The output of a kernel for which input i is `values` throughout, against the true one. */
static bool passes_without(struct fixture *f, const json_t *task, int i, float value)
{
    size_t n = tensor_count(&f->in[i]);
    CLEANUP(freep) float *kept = malloc(n * sizeof(*kept));
    char why[256];

    assert_non_null(kept);
    memcpy(kept, f->in[i].data, n * sizeof(*kept));
    for (size_t k = 0; k < n; k++)
        fixture_input(f, i)[k] = value;
    fixture_reference(f, 2);
    out_take(f);
    memcpy(f->in[i].data, kept, n * sizeof(*kept));
    fixture_reference(f, 2);
    return within(f, limits_of(task), why, sizeof(why));
}

static void tolerance_sees_what_is_left_out(void **state)
{
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    char why[256];

    (void)state;
    fixture_init(&f, 128, 128, 1, 24, "random", "normal");
    fixture_generate(&f, 4);
    fixture_reference(&f, 2);
    out_take(&f);
    assert_true(within(&f, limits_of(task), why, sizeof(why)));
    memset(f.out.data, 0, tensor_count(&f.out) * sizeof(float));
    assert_false(within(&f, limits_of(task), why, sizeof(why)));
    assert_false(passes_without(&f, task, MASK, 1));
    assert_false(passes_without(&f, task, 3, 0));  /* norm_bias */
    assert_false(passes_without(&f, task, 6, 0));  /* left_gate */
    assert_false(passes_without(&f, task, 8, 0));  /* out_gate */
    assert_false(passes_without(&f, task, 10, 0)); /* to_out_norm_bias */
    fixture_release(&f);
    /* The last k of 64 left out: the mask of a column. */
    fixture_init(&f, 64, 32, 1, 64, "ones", "normal");
    fixture_generate(&f, 4);
    for (int i = 0; i < 64; i++)
        fixture_input(&f, MASK)[i * 64 + 63] = 0;
    fixture_reference(&f, 2);
    out_take(&f);
    for (int i = 0; i < 64; i++)
        fixture_input(&f, MASK)[i * 64 + 63] = 1;
    fixture_reference(&f, 2);
    assert_false(within(&f, limits_of(task), why, sizeof(why)));
    fixture_release(&f);
}

/* ---- Workloads ---- */

/* A line is valid when its axes are, and its parameters generate (a small problem). */
static void workload_check(const char *line, size_t len)
{
    struct err err;
    json_auto_t *w = NULL;
    const json_t *axes, *params;
    struct fixture f;

    assert_ok(jsonx_parse(line, len, "workload", &w, &err), err);
    axes = json_object_get(w, "axes");
    params = json_object_get(w, "params");
    assert_int_equal(json_object_size(axes), 2);
    assert_in_range(jsonx_int(axes, "bs", 0), 1, 8);
    assert_in_range(jsonx_int(axes, "seqlen", 0), 1, 1024);
    assert_true(strlen(jsonx_str(w, "name", "")) > 0);
    fixture_init(&f, 64, 32, 1, 3, jsonx_str(params, "mask", ""),
                 jsonx_str(params, "distribution", ""));
    fixture_generate(&f, 9);
    fixture_release(&f);
}

static int workload_file_check(const char *name)
{
    CLEANUP(freep) char *path = str_printf(PACK "/workloads/%s", name);
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    struct err err;
    int lines = 0;

    assert_ok(file_read(path, &text, &err), err);
    for (const char *at = buf_str(&text); *at; lines++) {
        size_t len = strcspn(at, "\n");

        workload_check(at, len);
        at += len + (at[len] == '\n');
    }
    assert_true(lines >= 1);
    return lines;
}

static void every_workload_is_valid(void **state)
{
    DIR *dir = opendir(PACK "/workloads");
    const struct dirent *e;
    int full = 0, files = 0, lines;

    (void)state;
    assert_non_null(dir);
    while ((e = readdir(dir))) {
        if (e->d_name[0] == '.')
            continue;
        lines = workload_file_check(e->d_name);
        files++;
        if (strstr(e->d_name, ".full."))
            full += lines;
    }
    closedir(dir);
    assert_int_equal(full, 7 + 18);
    assert_true(files >= 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_the_golden_results),
        cmocka_unit_test(inputs_are_a_function_of_the_seed),
        cmocka_unit_test(values_have_the_stated_scales),
        cmocka_unit_test(masks_are_what_they_say),
        cmocka_unit_test(wrong_workloads_are_refused_with_a_sentence),
        cmocka_unit_test(reference_of_a_masked_input_is_the_gated_bias),
        cmocka_unit_test(reference_masks_rows_of_left_and_right),
        cmocka_unit_test(reference_does_not_depend_on_the_threads),
        cmocka_unit_test(cost_is_what_the_formula_says),
        cmocka_unit_test(tolerance_sees_what_is_left_out),
        cmocka_unit_test(every_workload_is_valid),
        cmocka_unit_test_setup_teardown(baseline_and_default_template_are_correct, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(template_is_correct_at_every_value_of_every_parameter,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(template_is_correct_at_random_assignments, test_dir_setup,
                                        test_dir_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
