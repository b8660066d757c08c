/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pack mla_paged_decode: its generator and reference against golden results in double
 * precision, its workloads, and its baseline and template against the reference for all four
 * definitions. Kernels are built by `cc` with the flags of an evaluation; KS_MLA_RANDOM sets how
 * many random assignments of the template are tried (4).
 */
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

#define PACK KS_SOURCE_DIR "/tasks/mla_paged_decode"
#define REAL "mla_paged_decode_h16_ckv512_kpe64_ps1" /* the definition that has all sets */

enum { KPE = 64, N_INPUTS = 7, N_OUTPUTS = 2, N_AXES = 8, N_PARAMS = 6, GUARD = 64 };
enum { LENS_MAX = 256, VALUES_MAX = 16 };
enum { Q_NOPE, Q_PE, CKV, KPE_CACHE, INDPTR, INDICES, SCALE };

/* Where no vector extension beyond the base is known: the fallbacks. */
#if defined(__x86_64__)
#define PORTABLE "x86-64"
#else
#define PORTABLE "native"
#endif

extern char **environ;

/* The constant axes of a definition. */
struct shape {
    int heads, ckv;
};

static const struct shape shapes[] = { { 16, 512 }, { 8, 512 }, { 32, 512 }, { 16, 256 } };
static const struct shape real = { 16, 512 };

/* ---- A call and its buffers ---- */

struct fixture {
    struct ks_axis axes[N_AXES];
    struct ks_param params[N_PARAMS];
    double lens[LENS_MAX], numbers[N_PARAMS];
    struct ks_problem problem;
    struct ks_tensor in[N_INPUTS], out[N_OUTPUTS];
    double *expected[N_OUTPUTS];
    int64_t batch;
    struct shape shape;
};

static size_t tensor_count(const struct ks_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    return n;
}

static size_t tensor_bytes(const struct ks_tensor *t)
{
    return tensor_count(t) * (t->dtype == KS_BF16 ? 2 : t->dtype == KS_U8 ? 1 : 4);
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

static bool guard_intact(const struct ks_tensor *t)
{
    const unsigned char *p = (const unsigned char *)t->data + tensor_bytes(t);

    for (int i = 0; i < GUARD; i++)
        if (p[i] != 0x5a)
            return false;
    return true;
}

static void fixture_release(struct fixture *f)
{
    for (int i = 0; i < N_INPUTS; i++)
        free(f->in[i].data);
    for (int i = 0; i < N_OUTPUTS; i++) {
        free(f->out[i].data);
        free(f->expected[i]);
    }
}

static void fixture_tensors(struct fixture *f, int64_t pages, int64_t keys)
{
    int64_t batch = f->batch, heads = f->shape.heads, ckv = f->shape.ckv;

    f->in[Q_NOPE] = (struct ks_tensor){ "q_nope", KS_BF16, 3, { batch, heads, ckv }, NULL };
    f->in[Q_PE] = (struct ks_tensor){ "q_pe", KS_BF16, 3, { batch, heads, KPE }, NULL };
    f->in[CKV] = (struct ks_tensor){ "ckv_cache", KS_BF16, 3, { pages, 1, ckv }, NULL };
    f->in[KPE_CACHE] = (struct ks_tensor){ "kpe_cache", KS_BF16, 3, { pages, 1, KPE }, NULL };
    f->in[INDPTR] = (struct ks_tensor){ "kv_indptr", KS_I32, 1, { batch + 1 }, NULL };
    f->in[INDICES] = (struct ks_tensor){ "kv_indices", KS_I32, 1, { keys }, NULL };
    f->in[SCALE] = (struct ks_tensor){ "sm_scale", KS_F32, 0, { 0 }, NULL };
    f->out[0] = (struct ks_tensor){ "output", KS_BF16, 3, { batch, heads, ckv }, NULL };
    f->out[1] = (struct ks_tensor){ "lse", KS_F32, 2, { batch, heads }, NULL };
    for (int i = 0; i < N_INPUTS; i++)
        f->in[i].data = guarded(tensor_bytes(&f->in[i]));
    for (int i = 0; i < N_OUTPUTS; i++) {
        f->out[i].data = guarded(tensor_bytes(&f->out[i]));
        f->expected[i] = calloc(tensor_count(&f->out[i]), sizeof(double));
        assert_non_null(f->expected[i]);
    }
}

static void fixture_init(struct fixture *f, struct shape shape, const int *lens, int batch,
                         int num_pages)
{
    int64_t keys = 0;

    assert_in_range(batch, 1, LENS_MAX);
    memset(f, 0, sizeof(*f));
    f->batch = batch;
    f->shape = shape;
    for (int b = 0; b < batch; b++) {
        f->lens[b] = lens[b];
        keys += lens[b];
    }
    f->axes[0] = (struct ks_axis){ "batch_size", batch };
    f->axes[1] = (struct ks_axis){ "num_qo_heads", shape.heads };
    f->axes[2] = (struct ks_axis){ "head_dim_ckv", shape.ckv };
    f->axes[3] = (struct ks_axis){ "head_dim_kpe", KPE };
    f->axes[4] = (struct ks_axis){ "num_pages", num_pages };
    f->axes[5] = (struct ks_axis){ "page_size", 1 };
    f->axes[6] = (struct ks_axis){ "len_indptr", batch + 1 };
    f->axes[7] = (struct ks_axis){ "num_kv_indices", keys };
    f->params[0] = (struct ks_param){ "kv_lens", NULL, f->lens, (size_t)batch };
    f->problem = (struct ks_problem){ "mla", N_AXES, 1, f->axes, f->params };
    fixture_tensors(f, num_pages, keys);
}

static void fixture_text(struct fixture *f, const char *name, const char *text)
{
    assert_true(f->problem.n_params < N_PARAMS);
    f->params[f->problem.n_params++] = (struct ks_param){ name, text, NULL, 0 };
}

static void fixture_number(struct fixture *f, const char *name, double value)
{
    int i = f->problem.n_params++;

    assert_true(i < N_PARAMS);
    f->numbers[i] = value;
    f->params[i] = (struct ks_param){ name, NULL, &f->numbers[i], 1 };
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

    if (ks_task_module()->reference(&f->problem, f->in, N_INPUTS, f->expected, N_OUTPUTS, threads,
                                    why, sizeof(why)) != 0)
        fail_msg("reference: %s", why);
}

static const int32_t *fixture_indices(const struct fixture *f)
{
    return f->in[INDICES].data;
}

/* Element i of a bf16 input. */
static double in_value(const struct fixture *f, int input, int64_t i)
{
    return (double)ks_bf16_to_f32(((const uint16_t *)f->in[input].data)[i]);
}

/* ---- Golden results ---- */

static json_t *load(const char *path)
{
    struct err err;
    json_t *v = NULL;

    assert_ok(jsonx_load(path, 1 << 20, &v, &err), err);
    return v;
}

static double list_number(const json_t *obj, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(obj, key), i));
}

/* Fills tensor i as the golden case says and compares the sum of its values. */
static void golden_fill(struct fixture *f, const json_t *c, int i)
{
    uint16_t *x = f->in[i].data;
    uint64_t seed = (uint64_t)list_number(c, "seeds", (size_t)i);
    double sum = 0;

    for (size_t k = 0; k < tensor_count(&f->in[i]); k++) {
        x[k] = ks_f32_to_bf16(ks_uniform(seed, k));
        sum += (double)ks_bf16_to_f32(x[k]);
    }
    assert_true(fabs(sum - list_number(c, "input_sums", (size_t)i)) < 1e-6);
}

/*
 * The case's scale is a double and the tensor holds its rounding to float, 3e-8 apart: the single
 * results agree to 1e-6, their sums to 1e-4.
 */
static void golden_compare(const double *got, const json_t *want)
{
    const json_t *row;
    double sum = 0, sum_abs = 0, sum_sq = 0;
    long long finite = 0;
    size_t i;

    for (long long k = 0; k < jsonx_int(want, "count", 0); k++) {
        if (!isfinite(got[k]))
            continue;
        finite++;
        sum += got[k];
        sum_abs += fabs(got[k]);
        sum_sq += got[k] * got[k];
    }
    assert_true(finite == jsonx_int(want, "finite", -1));
    assert_true(fabs(sum - jsonx_num(want, "sum", NAN)) < 1e-4);
    assert_true(fabs(sum_abs - jsonx_num(want, "sum_abs", NAN)) < 1e-4);
    assert_true(fabs(sum_sq - jsonx_num(want, "sum_sq", NAN)) < 1e-4);
    assert_true(json_array_size(json_object_get(want, "samples")) >= 8);
    json_array_foreach (json_object_get(want, "samples"), i, row) {
        double x = got[json_integer_value(json_array_get(row, 0))];
        const json_t *y = json_array_get(row, 1);

        if (json_is_string(y))
            assert_true(isinf(x) && x < 0);
        else
            assert_true(fabs(x - json_number_value(y)) < 1e-6);
    }
}

static void golden_prepare(struct fixture *f, const json_t *c)
{
    const json_t *lens = json_object_get(c, "kv_lens");
    int n[LENS_MAX], batch = (int)json_array_size(lens), pages = (int)jsonx_int(c, "num_pages", 0);
    int32_t *indptr, *indices;

    for (int b = 0; b < batch; b++)
        n[b] = (int)json_integer_value(json_array_get(lens, (size_t)b));
    fixture_init(f, real, n, batch, pages);
    for (int i = Q_NOPE; i <= KPE_CACHE; i++)
        golden_fill(f, c, i);
    indptr = f->in[INDPTR].data;
    indices = f->in[INDICES].data;
    for (int b = 0; b < batch; b++)
        indptr[b + 1] = indptr[b] + n[b];
    for (int i = 0; i < indptr[batch]; i++)
        indices[i] =
            (int32_t)((jsonx_int(c, "page_step", 0) * i + jsonx_int(c, "page_offset", 0)) % pages);
    *(float *)f->in[SCALE].data = (float)jsonx_num(c, "sm_scale", 0);
}

static void reference_agrees_with_the_golden_results(void **state)
{
    json_auto_t *golden = load(KS_SOURCE_DIR "/tests/fixtures/golden_mla_decode.json");
    const json_t *c;
    size_t i, n = 0;

    (void)state;
    json_array_foreach (json_object_get(json_object_get(golden, "generator"), "check"), i, c) {
        uint64_t seed = (uint64_t)jsonx_int(c, "seed", 0);

        for (size_t k = 0; k < json_array_size(json_object_get(c, "first")); k++)
            assert_true((double)ks_uniform(seed, k) == list_number(c, "first", k));
    }
    json_array_foreach (json_object_get(golden, "cases"), i, c) {
        struct fixture f;

        golden_prepare(&f, c);
        fixture_reference(&f, 2);
        golden_compare(f.expected[0], json_object_get(json_object_get(c, "outputs"), "output"));
        golden_compare(f.expected[1], json_object_get(json_object_get(c, "outputs"), "lse"));
        fixture_release(&f);
        n++;
    }
    assert_int_equal(n, 1);
}

/* ---- The generator ---- */

static void inputs_are_a_function_of_the_seed(void **state)
{
    static const int lens[] = { 40, 0, 7 };
    struct fixture a, b, c;

    (void)state;
    fixture_init(&a, real, lens, 3, 60);
    fixture_init(&b, real, lens, 3, 60);
    fixture_init(&c, real, lens, 3, 60);
    fixture_generate(&a, 11);
    fixture_generate(&b, 11);
    fixture_generate(&c, 12);
    for (int i = Q_NOPE; i < SCALE; i++) {
        assert_memory_equal(a.in[i].data, b.in[i].data, tensor_bytes(&a.in[i]));
        if (i != INDPTR)
            assert_memory_not_equal(a.in[i].data, c.in[i].data, tensor_bytes(&a.in[i]));
    }
    assert_true(*(const float *)a.in[SCALE].data == 0.1352337747812271f);
    fixture_release(&a);
    fixture_release(&b);
    fixture_release(&c);
}

static void check_cache(const struct fixture *f, int input, const bool *used)
{
    int64_t row = f->in[input].shape[2], count = f->in[input].shape[0] * row;
    double sum = 0, sq = 0, quad = 0, n = 0;

    for (int64_t i = 0; i < count; i++) {
        double x = in_value(f, input, i);

        assert_true(used[i / row] == !isnan(x));
        if (isnan(x))
            continue;
        n++;
        sum += x;
        sq += x * x;
        quad += x * x * x * x;
    }
    assert_true(n == 500.0 * (double)row);
    assert_true(fabs(sum / n) < 0.03 && fabs(sq / n - 1) < 0.03 && fabs(quad / n - 3) < 0.25);
}

static void values_are_standard_normal_and_unused_pages_are_nan(void **state)
{
    static const int lens[] = { 500 };
    struct fixture f;
    bool used[600] = { false };

    (void)state;
    fixture_init(&f, real, lens, 1, 600);
    fixture_generate(&f, 3);
    for (int i = 0; i < 500; i++)
        used[fixture_indices(&f)[i]] = true;
    check_cache(&f, CKV, used);
    check_cache(&f, KPE_CACHE, used);
    fixture_release(&f);
}

static void parameters_scale_queries_and_rows_and_make_them_equal(void **state)
{
    static const int lens[] = { 3, 2 };
    struct fixture f, plain;
    const int32_t *pages;

    (void)state;
    fixture_init(&plain, real, lens, 2, 9);
    fixture_generate(&plain, 4);
    fixture_init(&f, real, lens, 2, 9);
    fixture_number(&f, "q_scale", 2);
    fixture_number(&f, "ckv_scale", 4);
    fixture_number(&f, "equal_rows", 1);
    fixture_number(&f, "sm_scale", 0.5);
    fixture_generate(&f, 4);
    pages = fixture_indices(&f);
    assert_true(in_value(&f, Q_NOPE, 5) == 2 * in_value(&plain, Q_NOPE, 5));
    assert_true(in_value(&f, Q_PE, 5) == 2 * in_value(&plain, Q_PE, 5));
    assert_true(*(const float *)f.in[SCALE].data == 0.5f);
    for (int i = 0; i < 5; i++)
        for (int d = 0; d < 512; d++)
            assert_true(in_value(&f, CKV, pages[i] * 512 + d) ==
                        4 * in_value(&plain, CKV, pages[0] * 512 + d));
    for (int i = 0; i < 5; i++)
        for (int d = 0; d < KPE; d++)
            assert_true(in_value(&f, KPE_CACHE, pages[i] * KPE + d) ==
                        in_value(&plain, KPE_CACHE, pages[0] * KPE + d));
    fixture_release(&f);
    fixture_release(&plain);
}

/* The workload must be refused, and the sentence must name `word`. */
static void refused(const struct fixture *f, const char *word)
{
    char why[256] = "";

    assert_int_equal(ks_task_module()->generate(&f->problem, 1, f->in, N_INPUTS, why, sizeof(why)),
                     -1);
    if (!strstr(why, word))
        fail_msg("'%s' does not speak of %s", why, word);
}

static void wrong_workloads_are_refused_with_a_sentence(void **state)
{
    static const struct {
        int axis;
        int64_t value;
        const char *word;
    } wrong[] = { { 0, 0, "batch_size" },    { 1, 0, "num_qo_heads" }, { 1, 500, "num_qo_heads" },
                  { 2, 12, "head_dim_ckv" }, { 3, 0, "head_dim_kpe" }, { 3, 4096, "head_dim_kpe" },
                  { 4, 5, "num_pages" },     { 5, 16, "page_size" },   { 6, 9, "len_indptr" },
                  { 7, 7, "num_kv_indices" } };
    static const int lens[] = { 4, 2 };
    struct fixture f;

    (void)state;
    fixture_init(&f, real, lens, 2, 6);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int64_t kept = f.axes[wrong[i].axis].value;

        f.axes[wrong[i].axis].value = wrong[i].value;
        refused(&f, wrong[i].word);
        f.axes[wrong[i].axis].value = kept;
    }
    f.lens[1] = 3;
    refused(&f, "kv_lens");
    f.lens[1] = 2;
    fixture_text(&f, "page_pattern", "spiral");
    refused(&f, "spiral");
    fixture_release(&f);
}

/* ---- Reference and cost ---- */

static void reference_knows_empty_sequences_and_single_keys(void **state)
{
    static const int lens[] = { 0, 1 };
    struct fixture f;
    int32_t page;

    (void)state;
    fixture_init(&f, real, lens, 2, 9);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    page = fixture_indices(&f)[0];
    for (int h = 0; h < 16; h++) {
        double x = 0;

        for (int d = 0; d < 512; d++) {
            double row = in_value(&f, CKV, page * 512 + d);

            assert_true(f.expected[0][h * 512 + d] == 0);
            assert_true(f.expected[0][(16 + h) * 512 + d] == row);
            x += in_value(&f, Q_NOPE, (16 + h) * 512 + d) * row;
        }
        for (int d = 0; d < KPE; d++)
            x += in_value(&f, Q_PE, (16 + h) * KPE + d) * in_value(&f, KPE_CACHE, page * KPE + d);
        assert_true(isinf(f.expected[1][h]) && f.expected[1][h] < 0);
        assert_true(fabs(f.expected[1][16 + h] - x * 0.1352337747812271 / M_LN2) < 1e-5);
    }
    fixture_release(&f);
}

static void reference_does_not_depend_on_the_threads(void **state)
{
    static const int lens[] = { 33, 5, 0, 80 };
    struct fixture f;
    size_t bytes;
    double *once;

    (void)state;
    fixture_init(&f, real, lens, 4, 130);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    bytes = tensor_count(&f.out[0]) * sizeof(*once);
    once = malloc(bytes);
    assert_non_null(once);
    memcpy(once, f.expected[0], bytes);
    fixture_reference(&f, 3);
    assert_memory_equal(once, f.expected[0], bytes);
    free(once);
    fixture_release(&f);
}

static void cost_counts_shared_pages_once(void **state)
{
    static const int lens[] = { 3, 0, 3 };
    struct fixture f;
    struct ks_cost cost;

    (void)state;
    fixture_init(&f, real, lens, 3, 20);
    fixture_text(&f, "page_pattern", "shared"); /* one page in common: five pages for six keys */
    fixture_generate(&f, 5);
    ks_task_module()->cost(&f.problem, f.in, N_INPUTS, &cost);
    assert_true(cost.flops == 34816.0 * 6);
    assert_true(cost.bytes == 1152.0 * 5 + 3 * (18432.0 + 16384.0 + 64.0) + 4.0 * 4 + 4.0 * 6 + 4);
    fixture_release(&f);
}

/* ---- Kernels ---- */

/* defines: NULL-terminated -D arguments beyond the constant axes. */
static void kernel_build(struct kernel *k, const char *dir, const char *source, struct shape shape,
                         const char *march, char *const *defines)
{
    CLEANUP(freep) char *out = str_printf("%s/k.so", dir);
    CLEANUP(freep) char *heads = str_printf("-DKS_NUM_QO_HEADS=%d", shape.heads);
    CLEANUP(freep) char *ckv = str_printf("-DKS_HEAD_DIM_CKV=%d", shape.ckv);
    CLEANUP(freep) char *arch = str_printf("-march=%s", march);
    char *argv[80] = { "cc",
                       "-O3",
                       "-std=gnu17",
                       "-Wall",
                       "-Wextra",
                       "-Werror",
                       "-Wno-psabi",
                       "-fPIC",
                       "-shared",
                       "-I" KS_SOURCE_DIR "/tasks/harness",
                       "-DKS_HEAD_DIM_KPE=64",
                       "-DKS_PAGE_SIZE=1",
                       arch,
                       heads,
                       ckv };
    size_t n = 15;
    pid_t pid;
    int status;

    while (defines && *defines)
        argv[n++] = *defines++;
    argv[n++] = (char *)source;
    argv[n++] = "-o";
    argv[n++] = out;
    argv[n++] = "-lm";
    assert_int_equal(posix_spawnp(&pid, "cc", NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    kernel_open(k, out);
    unlink(out); /* the next one must not be taken for this one */
}

/* The tolerances of task.json, as the checker applies them. */
struct limits {
    double absolute, relative, tensor_rel, row_rel;
};

static struct limits limits_of(const json_t *task, size_t output)
{
    const json_t *t =
        json_object_get(json_array_get(json_object_get(task, "outputs"), output), "tolerance");

    return (struct limits){ jsonx_num(t, "atol", 0), jsonx_num(t, "rtol", 0),
                            jsonx_num(t, "tensor_rel", INFINITY),
                            jsonx_num(t, "row_rel", INFINITY) };
}

static double out_value(const struct ks_tensor *t, size_t i)
{
    return (double)(t->dtype == KS_BF16 ? ks_bf16_to_f32(((const uint16_t *)t->data)[i])
                                        : ((const float *)t->data)[i]);
}

static double ratio_of(double error, double size)
{
    return error == 0 ? 0 : sqrt(error / size);
}

/* Whether output o is within its limits; what fails goes into `why`. */
static bool output_passes(const struct fixture *f, int o, struct limits lim, char *why,
                          size_t why_size)
{
    const struct ks_tensor *t = &f->out[o];
    size_t row = (size_t)t->shape[t->rank - 1];
    double error = 0, size = 0;

    for (size_t i = 0; i < tensor_count(t); i += row) {
        double row_error = 0, row_size = 0;

        for (size_t k = i; k < i + row; k++) {
            double want = f->expected[o][k], got = out_value(t, k), diff = fabs(got - want);

            if (isinf(want) && got == want)
                continue;
            if (!(diff <= lim.absolute + lim.relative * fabs(want))) {
                snprintf(why, why_size, "%s[%zu] is %g instead of %g", t->name, k, got, want);
                return false;
            }
            row_error += diff * diff;
            row_size += want * want;
        }
        if (!(ratio_of(row_error, row_size) <= lim.row_rel)) {
            snprintf(why, why_size, "row %zu of %s is off by %g", i / row, t->name,
                     ratio_of(row_error, row_size));
            return false;
        }
        error += row_error;
        size += row_size;
    }
    snprintf(why, why_size, "%s is off by %g", t->name, ratio_of(error, size));
    return ratio_of(error, size) <= lim.tensor_rel;
}

/* Calls the kernel on the fixture with so much scratch and compares everything it wrote. */
static void kernel_check(const struct kernel *k, struct fixture *f, const json_t *task,
                         size_t scratch_bytes, const char *what)
{
    CLEANUP(freep) void *scratch = guarded(scratch_bytes);
    struct ks_call call = {
        .abi = KS_ABI_VERSION,
        .n_inputs = N_INPUTS,
        .n_outputs = N_OUTPUTS,
        .n_axes = N_AXES,
        .inputs = f->in,
        .outputs = f->out,
        .axes = f->axes,
        .threads = 2,
        .parallel = run_parallel,
        .scratch = scratch,
        .scratch_bytes = scratch_bytes,
    };
    const struct ks_tensor room = { "scratch", KS_U8, 1, { (int64_t)scratch_bytes }, scratch };
    char why[256];

    memset(scratch, 0xff, scratch_bytes);
    for (int o = 0; o < N_OUTPUTS; o++)
        memset(f->out[o].data, 0xff, tensor_bytes(&f->out[o]));
    assert_int_equal(k->run(&call), 0);
    for (int o = 0; o < N_OUTPUTS; o++) {
        if (!guard_intact(&f->out[o]))
            fail_msg("%s: wrote beyond %s", what, f->out[o].name);
        if (!output_passes(f, o, limits_of(task, (size_t)o), why, sizeof(why)))
            fail_msg("%s: %s", what, why);
    }
    if (!guard_intact(&room))
        fail_msg("%s: wrote beyond the scratch", what);
}

/*
 * Problems that meet the edges: of tiles, key blocks and stretches; empty and single; more than a
 * block of 1024 keys; logits so large that exp overflows without subtracting the maximum; and
 * values beyond one.
 */
enum { PROBLEMS = 4 };

static void problems_init(struct fixture f[PROBLEMS], struct shape shape)
{
    static const int edges[] = { 1, 0, 63, 64, 65, 7, 8, 9, 33, 0, 2, 257 };
    static const int block[] = { 1027, 3 };
    static const int large[] = { 64, 31, 1 };
    static const int scaled[] = { 90 };

    fixture_init(&f[0], shape, edges, 12, 600);
    fixture_init(&f[1], shape, block, 2, 1100);
    fixture_text(&f[1], "page_pattern", "strided");
    fixture_init(&f[2], shape, large, 3, 100);
    fixture_text(&f[2], "page_pattern", "shared");
    fixture_number(&f[2], "q_scale", 40);
    fixture_init(&f[3], shape, scaled, 1, 100);
    fixture_number(&f[3], "ckv_scale", 8);
    for (int i = 0; i < PROBLEMS; i++) {
        fixture_generate(&f[i], 77);
        fixture_reference(&f[i], 2);
    }
}

/* ---- What the tolerances tell apart ---- */

/* The expected output, rounded; with the last `dropped` keys of sequence 0 left out of it. */
static void answer_without(const struct fixture *f, int dropped, uint16_t *output, float *lse)
{
    struct fixture g;
    int lens[1] = { (int)f->lens[0] - dropped };
    const size_t n = tensor_count(&f->out[0]);

    fixture_init(&g, f->shape, lens, 1, (int)f->axes[4].value);
    for (int i = Q_NOPE; i <= KPE_CACHE; i++)
        memcpy(g.in[i].data, f->in[i].data, tensor_bytes(&g.in[i]));
    ((int32_t *)g.in[INDPTR].data)[1] = lens[0];
    memcpy(g.in[INDICES].data, f->in[INDICES].data, tensor_bytes(&g.in[INDICES]));
    *(float *)g.in[SCALE].data = *(const float *)f->in[SCALE].data;
    fixture_reference(&g, 2);
    for (size_t i = 0; i < n; i++)
        output[i] = ks_f32_to_bf16((float)g.expected[0][i]);
    for (size_t i = 0; i < tensor_count(&f->out[1]); i++)
        lse[i] = (float)g.expected[1][i];
    fixture_release(&g);
}

static void dropped_keys_and_zeros_are_beyond_the_tolerance(void **state)
{
    static const int lens[] = { 600 };
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    char why[256];

    (void)state;
    fixture_init(&f, real, lens, 1, 620);
    fixture_generate(&f, 21);
    fixture_reference(&f, 2);
    answer_without(&f, 0, f.out[0].data, f.out[1].data);
    assert_true(output_passes(&f, 0, limits_of(task, 0), why, sizeof(why)));
    assert_true(output_passes(&f, 1, limits_of(task, 1), why, sizeof(why)));
    answer_without(&f, 1, f.out[0].data, f.out[1].data);
    assert_false(output_passes(&f, 0, limits_of(task, 0), why, sizeof(why)));
    assert_false(output_passes(&f, 1, limits_of(task, 1), why, sizeof(why)));
    memset(f.out[0].data, 0, tensor_bytes(&f.out[0]));
    assert_false(output_passes(&f, 0, limits_of(task, 0), why, sizeof(why)));
    fixture_release(&f);
}

/* ---- The template ---- */

struct template_test {
    json_t *task, *space;
    const char *dir;
    struct fixture problems[ARRAY_LEN(shapes)][PROBLEMS];
};

static void template_test_init(struct template_test *t, const char *dir)
{
    t->task = load(PACK "/task.json");
    t->space = load(PACK "/template.space.json");
    t->dir = dir;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        problems_init(t->problems[i], shapes[i]);
}

static void template_test_release(struct template_test *t)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        for (int k = 0; k < PROBLEMS; k++)
            fixture_release(&t->problems[i][k]);
    json_decref(t->task);
    json_decref(t->space);
}

/*
 * Builds the template (or, without an assignment, the baseline) for shape s and compares it on all
 * problems with the scratch of the definition, and with too little of it.
 */
static void build_and_check(struct template_test *t, const json_t *assignment, size_t s,
                            const char *march)
{
    CLEANUP(freep) char *what = assignment ? jsonx_canonical(assignment) : strdup("baseline");
    size_t scratch = (size_t)jsonx_int(t->task, "scratch_bytes", 0), n = 0;
    char *defines[56] = { NULL };
    struct kernel k;

    if (assignment)
        n = assignment_defines(t->space, assignment, defines);
    kernel_build(&k, t->dir, assignment ? PACK "/template.c" : PACK "/baseline.c", shapes[s], march,
                 defines);
    for (int i = 0; i < PROBLEMS; i++)
        kernel_check(&k, &t->problems[s][i], t->task, scratch, what);
    kernel_check(&k, &t->problems[s][1], t->task, 200000, what);
    kernel_check(&k, &t->problems[s][1], t->task, 0, what);
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
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
        build_and_check(&t, NULL, s, "native");
        build_and_check(&t, a, s, "native");
    }
    template_test_release(&t);
}

/* Marks the values that the assignment has. seen: [parameters][VALUES_MAX]. */
static void values_mark(const json_t *space, const json_t *a, bool (*seen)[VALUES_MAX])
{
    const json_t *p, *v;
    size_t i, k;

    json_array_foreach (json_object_get(space, "parameters"), i, p)
        json_array_foreach (json_object_get(p, "values"), k, v)
            seen[i][k] |= json_equal(v, json_object_get(a, jsonx_str(p, "name", ""))) != 0;
}

static void template_is_correct_at_every_value_of_every_parameter(void **state)
{
    struct rng r = rng_derive(1, "mla values", 0);
    bool seen[32][VALUES_MAX] = { { false } };
    struct template_test t;
    const json_t *p;
    size_t i, built = 0;

    template_test_init(&t, *state);
    json_array_foreach (json_object_get(t.space, "parameters"), i, p) {
        size_t values = json_array_size(json_object_get(p, "values"));

        assert_true(i < ARRAY_LEN(seen) && values <= VALUES_MAX);
        for (size_t k = 0; k < values; k++) {
            json_auto_t *a = NULL;

            if (seen[i][k])
                continue; /* an assignment for another value had it */
            a = assignment_random(t.space, &r, jsonx_str(p, "name", ""), k);
            values_mark(t.space, a, seen);
            build_and_check(&t, a, built++ % ARRAY_LEN(shapes), "native");
        }
    }
    assert_true(built >= 4);
    template_test_release(&t);
}

static void template_is_correct_at_random_assignments(void **state)
{
    const char *wanted = getenv("KS_MLA_RANDOM");
    uint64_t n = 4;
    struct rng r = rng_derive(1, "mla assignments", 0);
    struct template_test t;

    if (wanted)
        assert_true(str_to_u64(wanted, &n));
    template_test_init(&t, *state);
    for (uint64_t i = 0; i < n; i++) {
        json_auto_t *a = assignment_random(t.space, &r, NULL, 0);

        build_and_check(&t, a, i % ARRAY_LEN(shapes), i % 2 ? "native" : PORTABLE);
    }
    template_test_release(&t);
}

/* ---- Workloads ---- */

/* Pages that the lengths need under the workload's pattern. */
static int64_t pages_needed(const json_t *params, const int *lens, int batch)
{
    const char *pattern = jsonx_str(params, "page_pattern", "permuted");
    int64_t shared = strcmp(pattern, "shared") == 0 ? jsonx_int(params, "shared_pages", 1) : 0;
    int64_t need = shared;

    for (int b = 0; b < batch; b++) {
        if (strcmp(pattern, "aliased") == 0)
            need = lens[b] > need ? lens[b] : need;
        else
            need += lens[b] > shared ? lens[b] - shared : 0;
    }
    return need;
}

/* Generates the workload as the harness would. */
static void workload_generate(const json_t *w, const int *lens, int batch)
{
    static const char *const numbers[] = { "shared_pages", "q_scale", "ckv_scale", "equal_rows" };
    const json_t *params = json_object_get(w, "params");
    struct fixture f;

    fixture_init(&f, real, lens, batch, (int)jsonx_int(json_object_get(w, "axes"), "num_pages", 0));
    fixture_text(&f, "page_pattern", jsonx_str(params, "page_pattern", "permuted"));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (json_object_get(params, numbers[i]))
            fixture_number(&f, numbers[i], jsonx_num(params, numbers[i], 0));
    fixture_generate(&f, 9);
    fixture_release(&f);
}

static void workload_check(const char *line, size_t len)
{
    struct err err;
    json_t *w = NULL;
    const json_t *axes, *params, *lens;
    int n[LENS_MAX], batch;
    long long keys = 0, pages;

    assert_ok(jsonx_parse(line, len, "workload", &w, &err), err);
    axes = json_object_get(w, "axes");
    params = json_object_get(w, "params");
    lens = json_object_get(params, "kv_lens");
    batch = (int)json_array_size(lens);
    assert_in_range(batch, 1, LENS_MAX);
    for (int b = 0; b < batch; b++) {
        n[b] = (int)json_integer_value(json_array_get(lens, (size_t)b));
        assert_true(n[b] >= 0);
        keys += n[b];
    }
    pages = jsonx_int(axes, "num_pages", 0);
    assert_int_equal(json_object_size(axes), 4);
    assert_true(strlen(jsonx_str(w, "name", "")) > 0);
    assert_true(jsonx_int(axes, "batch_size", -1) == batch);
    assert_true(jsonx_int(axes, "len_indptr", -1) == batch + 1);
    assert_true(jsonx_int(axes, "num_kv_indices", -1) == keys);
    assert_true(pages >= pages_needed(params, n, batch));
    if (pages < 5000)
        workload_generate(w, n, batch);
    json_decref(w);
}

static void every_workload_is_valid(void **state)
{
    static const struct {
        const char *path;
        int lines;
    } sets[] = { { PACK "/workloads/smoke.jsonl", 2 },
                 { PACK "/workloads/cpu.jsonl", 4 },
                 { PACK "/workloads/" REAL ".full.jsonl", 47 },
                 { PACK "/workloads/" REAL ".edge.jsonl", 16 },
                 { PACK "/workloads/" REAL ".edge_large.jsonl", 5 } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
        struct err err;
        int lines = 0;

        assert_ok(file_read(sets[i].path, &text, &err), err);
        for (const char *at = buf_str(&text); *at; lines++) {
            size_t len = strcspn(at, "\n");

            workload_check(at, len);
            at += len + (at[len] == '\n');
        }
        assert_int_equal(lines, sets[i].lines);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_the_golden_results),
        cmocka_unit_test(inputs_are_a_function_of_the_seed),
        cmocka_unit_test(values_are_standard_normal_and_unused_pages_are_nan),
        cmocka_unit_test(parameters_scale_queries_and_rows_and_make_them_equal),
        cmocka_unit_test(wrong_workloads_are_refused_with_a_sentence),
        cmocka_unit_test(reference_knows_empty_sequences_and_single_keys),
        cmocka_unit_test(reference_does_not_depend_on_the_threads),
        cmocka_unit_test(cost_counts_shared_pages_once),
        cmocka_unit_test(dropped_keys_and_zeros_are_beyond_the_tolerance),
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
