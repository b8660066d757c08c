/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pack gqa_paged_decode: its generator and reference against golden results in double
 * precision, and its baseline and template against the reference. Kernels are built by `cc` with
 * the flags of an evaluation; KS_GQA_RANDOM sets how many random assignments of the template are
 * tried (8).
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

#define PACK KS_SOURCE_DIR "/tasks/gqa_paged_decode"

enum { QO_HEADS = 32, DIM = 128, N_INPUTS = 6, N_OUTPUTS = 2, GUARD = 64, LENS_MAX = 256 };
enum { Q, K, V, INDPTR, INDICES, SCALE };

extern char **environ;

/* ---- A call and its buffers ---- */

struct fixture {
    struct ks_axis axes[8];
    struct ks_param params[5];
    double lens[LENS_MAX], pages, q_scale;
    struct ks_problem problem;
    struct ks_tensor in[N_INPUTS], out[N_OUTPUTS];
    double *expected[N_OUTPUTS];
    int64_t batch, kv_heads;
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

static bool guard_intact(const struct ks_tensor *t, size_t elem)
{
    const unsigned char *p = (const unsigned char *)t->data + tensor_count(t) * elem;

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

static void fixture_init_dim(struct fixture *f, int kv_heads, int dim, const int *lens, int batch,
                             int num_pages)
{
    int64_t keys = 0;

    memset(f, 0, sizeof(*f));
    f->batch = batch;
    f->kv_heads = kv_heads;
    for (int b = 0; b < batch; b++) {
        f->lens[b] = lens[b];
        keys += lens[b];
    }
    f->axes[0] = (struct ks_axis){ "batch_size", batch };
    f->axes[1] = (struct ks_axis){ "num_qo_heads", QO_HEADS };
    f->axes[2] = (struct ks_axis){ "num_kv_heads", kv_heads };
    f->axes[3] = (struct ks_axis){ "head_dim", dim };
    f->axes[4] = (struct ks_axis){ "num_pages", num_pages };
    f->axes[5] = (struct ks_axis){ "page_size", 1 };
    f->axes[6] = (struct ks_axis){ "len_indptr", batch + 1 };
    f->axes[7] = (struct ks_axis){ "num_kv_indices", keys };
    f->params[0] = (struct ks_param){ "kv_lens", NULL, f->lens, (size_t)batch };
    f->problem = (struct ks_problem){ "gqa", 8, 1, f->axes, f->params };
    f->in[Q] = (struct ks_tensor){ "q", KS_BF16, 3, { batch, QO_HEADS, dim }, NULL };
    f->in[K] = (struct ks_tensor){ "k_cache", KS_BF16, 4, { num_pages, 1, kv_heads, dim }, NULL };
    f->in[V] = (struct ks_tensor){ "v_cache", KS_BF16, 4, { num_pages, 1, kv_heads, dim }, NULL };
    f->in[INDPTR] = (struct ks_tensor){ "kv_indptr", KS_I32, 1, { batch + 1 }, NULL };
    f->in[INDICES] = (struct ks_tensor){ "kv_indices", KS_I32, 1, { keys }, NULL };
    f->in[SCALE] = (struct ks_tensor){ "sm_scale", KS_F32, 0, { 0 }, NULL };
    f->out[0] = (struct ks_tensor){ "output", KS_BF16, 3, { batch, QO_HEADS, dim }, NULL };
    f->out[1] = (struct ks_tensor){ "lse", KS_F32, 2, { batch, QO_HEADS }, NULL };
    for (int i = 0; i < N_INPUTS; i++)
        f->in[i].data = guarded(tensor_count(&f->in[i]) * (i < INDPTR ? 2 : 4));
    for (int i = 0; i < N_OUTPUTS; i++) {
        f->out[i].data = guarded(tensor_count(&f->out[i]) * (i == 0 ? 2 : 4));
        f->expected[i] = calloc(tensor_count(&f->out[i]), sizeof(double));
        assert_non_null(f->expected[i]);
    }
}

static void fixture_init(struct fixture *f, int kv_heads, const int *lens, int batch, int num_pages)
{
    fixture_init_dim(f, kv_heads, DIM, lens, batch, num_pages);
}

static void fixture_text(struct fixture *f, const char *name, const char *text)
{
    f->params[f->problem.n_params++] = (struct ks_param){ name, text, NULL, 0 };
}

static void fixture_number(struct fixture *f, const char *name, double *value)
{
    f->params[f->problem.n_params++] = (struct ks_param){ name, NULL, value, 1 };
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
    float scale = (float)list_number(c, "scales", (size_t)i);
    size_t n = tensor_count(&f->in[i]);
    double sum = 0;

    for (size_t k = 0; k < n; k++) {
        x[k] = ks_f32_to_bf16(scale * ks_uniform(seed, k));
        sum += (double)ks_bf16_to_f32(x[k]);
    }
    assert_true(fabs(sum - list_number(c, "input_sums", (size_t)i)) < 1e-6);
}

/*
 * The case's scale is a double and the tensor holds its rounding to float, 2e-8 apart: the single
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
    fixture_init(f, (int)jsonx_int(c, "num_kv_heads", 0), n, batch, pages);
    for (int i = Q; i <= V; i++)
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
    json_auto_t *golden = load(KS_SOURCE_DIR "/tests/fixtures/golden_gqa.json");
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
    assert_int_equal(n, 2);
}

/* ---- The generator ---- */

static void inputs_are_a_function_of_the_seed(void **state)
{
    static const int lens[] = { 40, 0, 7 };
    struct fixture a, b, c;
    size_t bytes;

    (void)state;
    fixture_init(&a, 4, lens, 3, 60);
    fixture_init(&b, 4, lens, 3, 60);
    fixture_init(&c, 4, lens, 3, 60);
    fixture_generate(&a, 11);
    fixture_generate(&b, 11);
    fixture_generate(&c, 12);
    for (int i = Q; i < SCALE; i++) {
        bytes = tensor_count(&a.in[i]) * (i < INDPTR ? 2 : 4);
        assert_memory_equal(a.in[i].data, b.in[i].data, bytes);
        if (i != INDPTR)
            assert_memory_not_equal(a.in[i].data, c.in[i].data, bytes);
    }
    fixture_release(&a);
    fixture_release(&b);
    fixture_release(&c);
}

static void values_are_standard_normal_and_unused_pages_are_nan(void **state)
{
    static const int lens[] = { 300 };
    struct fixture f;
    double sum = 0, sq = 0, quad = 0, n = 0;
    bool used[400] = { false };

    (void)state;
    fixture_init(&f, 8, lens, 1, 400);
    fixture_generate(&f, 3);
    for (int i = 0; i < 300; i++)
        used[fixture_indices(&f)[i]] = true;
    for (int i = 0; i < 400 * 8 * DIM; i++) {
        double x = (double)ks_bf16_to_f32(((const uint16_t *)f.in[K].data)[i]);

        assert_true(used[i / (8 * DIM)] == !isnan(x));
        if (isnan(x))
            continue;
        n++;
        sum += x;
        sq += x * x;
        quad += x * x * x * x;
    }
    assert_true(n == 300 * 8 * DIM);
    assert_true(fabs(sum / n) < 0.01 && fabs(sq / n - 1) < 0.02 && fabs(quad / n - 3) < 0.1);
    fixture_release(&f);
}

static void page_patterns_are_what_they_say(void **state)
{
    static const int lens[] = { 4, 0, 2, 4 };
    static const int32_t strided[] = { 5, 8, 11, 13, 6, 9, 7, 10, 12, 14 };
    struct fixture f;
    bool seen[40] = { false };
    double shared = 2;

    (void)state;
    fixture_init(&f, 4, lens, 4, 40);
    fixture_generate(&f, 1); /* permuted, the default */
    for (int i = 0; i < 10; i++) {
        assert_false(seen[fixture_indices(&f)[i]]);
        seen[fixture_indices(&f)[i]] = true;
    }
    fixture_text(&f, "page_pattern", "contiguous");
    fixture_generate(&f, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fixture_indices(&f)[i], 5 + i);
    f.params[1].text = "strided";
    fixture_generate(&f, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fixture_indices(&f)[i], strided[i]);
    f.params[1].text = "shared";
    fixture_number(&f, "shared_pages", &shared);
    fixture_generate(&f, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture_indices(&f)[i], fixture_indices(&f)[4 + i]);
        assert_int_equal(fixture_indices(&f)[i], fixture_indices(&f)[6 + i]);
        assert_int_not_equal(fixture_indices(&f)[2 + i], fixture_indices(&f)[8 + i]);
    }
    f.params[1].text = "aliased";
    fixture_generate(&f, 1);
    for (int i = 0; i < 4; i++) { /* sequences of 4, 0, 2 and 4 keys */
        assert_int_equal(fixture_indices(&f)[i], fixture_indices(&f)[6 + i]);
        assert_int_equal(fixture_indices(&f)[i % 2], fixture_indices(&f)[4 + i % 2]);
        assert_true(i == 0 || fixture_indices(&f)[i] != fixture_indices(&f)[i - 1]);
    }
    fixture_release(&f);
}

static void equal_keys_give_the_mean_of_the_values(void **state)
{
    static const int lens[] = { 50 };
    struct fixture f;
    double one = 1, sum = 0;

    (void)state;
    fixture_init(&f, 1, lens, 1, 60);
    fixture_number(&f, "k_equal", &one);
    fixture_generate(&f, 2);
    fixture_reference(&f, 1);
    for (int j = 0; j < 50; j++)
        sum +=
            (double)ks_bf16_to_f32(((const uint16_t *)f.in[V].data)[fixture_indices(&f)[j] * DIM]);
    assert_true(fabs(f.expected[0][0] - sum / 50) < 1e-12);
    fixture_release(&f);
}

static void wrong_workloads_are_refused_with_a_sentence(void **state)
{
    static const int lens[] = { 4, 2 };
    struct fixture f;
    char why[256] = "";

    (void)state;
    fixture_init(&f, 4, lens, 2, 6);
    f.lens[1] = 3;
    assert_int_equal(ks_task_module()->generate(&f.problem, 1, f.in, N_INPUTS, why, sizeof(why)),
                     -1);
    assert_non_null(strstr(why, "kv_lens"));
    f.lens[1] = 2;
    fixture_text(&f, "page_pattern", "spiral");
    assert_int_equal(ks_task_module()->generate(&f.problem, 1, f.in, N_INPUTS, why, sizeof(why)),
                     -1);
    assert_non_null(strstr(why, "spiral"));
    f.params[1].text = "permuted";
    f.axes[4].value = 5;
    assert_int_equal(ks_task_module()->generate(&f.problem, 1, f.in, N_INPUTS, why, sizeof(why)),
                     -1);
    assert_non_null(strstr(why, "num_pages"));
    fixture_release(&f);
}

/* ---- Reference and cost ---- */

static void reference_knows_empty_sequences_and_single_keys(void **state)
{
    static const int lens[] = { 0, 1 };
    struct fixture f;
    const uint16_t *v;

    (void)state;
    fixture_init(&f, 8, lens, 2, 9);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    v = (const uint16_t *)f.in[V].data + fixture_indices(&f)[0] * 8 * DIM;
    for (int h = 0; h < QO_HEADS; h++) {
        const uint16_t *q = (const uint16_t *)f.in[Q].data + (QO_HEADS + h) * DIM;
        const uint16_t *k =
            (const uint16_t *)f.in[K].data + (fixture_indices(&f)[0] * 8 + h / 4) * DIM;
        double x = 0;

        for (int d = 0; d < DIM; d++) {
            assert_true(f.expected[0][h * DIM + d] == 0);
            assert_true(f.expected[0][(QO_HEADS + h) * DIM + d] ==
                        (double)ks_bf16_to_f32(v[h / 4 * DIM + d]));
            x += (double)ks_bf16_to_f32(q[d]) * (double)ks_bf16_to_f32(k[d]);
        }
        assert_true(isinf(f.expected[1][h]) && f.expected[1][h] < 0);
        assert_true(fabs(f.expected[1][QO_HEADS + h] - x / sqrt(DIM) / M_LN2) < 1e-6);
    }
    fixture_release(&f);
}

static void reference_does_not_depend_on_the_threads(void **state)
{
    static const int lens[] = { 33, 5, 0, 80 };
    struct fixture f;
    double *once;

    (void)state;
    fixture_init(&f, 4, lens, 4, 130);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    once = calloc(4 * QO_HEADS * DIM, sizeof(*once));
    assert_non_null(once);
    memcpy(once, f.expected[0], 4 * QO_HEADS * DIM * sizeof(*once));
    fixture_reference(&f, 3);
    assert_memory_equal(once, f.expected[0], 4 * QO_HEADS * DIM * sizeof(*once));
    free(once);
    fixture_release(&f);
}

static void cost_counts_shared_pages_once(void **state)
{
    static const int lens[] = { 3, 0, 3 };
    struct fixture f;
    struct ks_cost cost;

    (void)state;
    fixture_init(&f, 8, lens, 3, 20);
    fixture_text(&f, "page_pattern", "shared"); /* one page in common: five pages for six keys */
    fixture_generate(&f, 5);
    ks_task_module()->cost(&f.problem, f.in, N_INPUTS, &cost);
    assert_true(cost.flops == 16384.0 * 6);
    assert_true(cost.bytes == 512.0 * 8 * 5 + (16384.0 + 128.0) * 3 + 4.0 * 4 + 4.0 * 6 + 4);
    fixture_release(&f);
}

/* ---- Kernels ---- */

/* defines: NULL-terminated -D arguments beyond the constant axes. */
static void kernel_build(struct kernel *k, const char *dir, const char *source, int kv_heads,
                         char *const *defines)
{
    CLEANUP(freep) char *out = str_printf("%s/k.so", dir);
    CLEANUP(freep) char *heads = str_printf("-DKS_NUM_KV_HEADS=%d", kv_heads);
    char *argv[64] = { "cc",
                       "-O3",
                       "-march=native",
                       "-std=gnu17",
                       "-Wall",
                       "-Wextra",
                       "-Werror",
                       "-fPIC",
                       "-shared",
                       "-I" KS_SOURCE_DIR "/tasks/harness",
                       "-DKS_NUM_QO_HEADS=32",
                       "-DKS_HEAD_DIM=128",
                       "-DKS_PAGE_SIZE=1",
                       heads };
    size_t n = 14;
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

static void check_output(const struct fixture *f, int o, struct limits lim, const char *what)
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
            if (!(diff <= lim.absolute + lim.relative * fabs(want)))
                fail_msg("%s: %s[%zu] is %g instead of %g", what, t->name, k, got, want);
            row_error += diff * diff;
            row_size += want * want;
        }
        if (!(ratio_of(row_error, row_size) <= lim.row_rel))
            fail_msg("%s: row %zu of %s is off by %g", what, i / row, t->name,
                     ratio_of(row_error, row_size));
        error += row_error;
        size += row_size;
    }
    if (!(ratio_of(error, size) <= lim.tensor_rel))
        fail_msg("%s: %s is off by %g", what, t->name, ratio_of(error, size));
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
        .n_axes = 8,
        .inputs = f->in,
        .outputs = f->out,
        .axes = f->axes,
        .threads = 2,
        .parallel = run_parallel,
        .scratch = scratch,
        .scratch_bytes = scratch_bytes,
    };
    const struct ks_tensor room = { "scratch", KS_U8, 1, { (int64_t)scratch_bytes }, scratch };

    memset(scratch, 0xff, scratch_bytes);
    for (int o = 0; o < N_OUTPUTS; o++)
        memset(f->out[o].data, 0xff, tensor_count(&f->out[o]) * (o == 0 ? 2 : 4));
    assert_int_equal(k->run(&call), 0);
    for (int o = 0; o < N_OUTPUTS; o++) {
        if (!guard_intact(&f->out[o], o == 0 ? 2 : 4))
            fail_msg("%s: wrote beyond %s", what, f->out[o].name);
        check_output(f, o, limits_of(task, (size_t)o), what);
    }
    if (!guard_intact(&room, 1))
        fail_msg("%s: wrote beyond the scratch", what);
}

/*
 * Problems that meet the edges: of tiles, key blocks and stretches; empty and single; more than a
 * block of 2048 keys; logits so large that exp overflows without subtracting the maximum.
 */
enum { PROBLEMS = 3 };

static void problems_init(struct fixture f[PROBLEMS], int kv_heads)
{
    static const int edges[] = { 1, 0, 127, 128, 129, 7, 8, 9, 33, 0, 2, 515 };
    static const int block[] = { 2051, 3 };
    static const int large[] = { 64, 31, 1 };

    fixture_init(&f[0], kv_heads, edges, 12, 1000);
    fixture_init(&f[1], kv_heads, block, 2, 2100);
    fixture_text(&f[1], "page_pattern", "strided");
    fixture_init(&f[2], kv_heads, large, 3, 100);
    fixture_text(&f[2], "page_pattern", "shared");
    f[2].q_scale = 40;
    fixture_number(&f[2], "q_scale", &f[2].q_scale);
    for (int i = 0; i < PROBLEMS; i++) {
        fixture_generate(&f[i], 77);
        fixture_reference(&f[i], 2);
    }
}

/* Every problem with the scratch of the definition, and with too little of it. */
static void kernel_check_all(const struct kernel *k, struct fixture f[PROBLEMS], const json_t *task,
                             const char *what)
{
    size_t scratch = (size_t)jsonx_int(task, "scratch_bytes", 0);

    for (int i = 0; i < PROBLEMS; i++)
        kernel_check(k, &f[i], task, scratch, what);
    kernel_check(k, &f[1], task, 100000, what);
    kernel_check(k, &f[1], task, 0, what);
}

/* ---- The template ---- */

static const int kv_heads_of[] = { 4, 8, 1, 2 }; /* of each definition of task.json */

enum { VARIANTS = ARRAY_LEN(kv_heads_of) };

struct template_test {
    json_t *task, *space;
    const char *dir;
    struct fixture problems[VARIANTS][PROBLEMS];
};

static void template_test_init(struct template_test *t, const char *dir)
{
    t->task = load(PACK "/task.json");
    t->space = load(PACK "/template.space.json");
    t->dir = dir;
    assert_int_equal(json_array_size(json_object_get(t->task, "definitions")), VARIANTS);
    for (int v = 0; v < VARIANTS; v++)
        problems_init(t->problems[v], kv_heads_of[v]);
}

static void template_test_release(struct template_test *t)
{
    for (int v = 0; v < VARIANTS; v++)
        for (int i = 0; i < PROBLEMS; i++)
            fixture_release(&t->problems[v][i]);
    json_decref(t->task);
    json_decref(t->space);
}

/* Builds the template (or, without an assignment, the baseline) and compares it on all problems. */
static void build_and_check(struct template_test *t, const json_t *assignment, size_t variant)
{
    CLEANUP(freep) char *what = assignment ? jsonx_canonical(assignment) : strdup("baseline");
    char *defines[48] = { NULL };
    size_t n = assignment ? assignment_defines(t->space, assignment, defines) : 0;
    struct kernel k;

    kernel_build(&k, t->dir, assignment ? PACK "/template.c" : PACK "/baseline.c",
                 kv_heads_of[variant], defines);
    kernel_check_all(&k, t->problems[variant], t->task, what);
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
    for (size_t v = 0; v < VARIANTS; v++) {
        build_and_check(&t, NULL, v);
        build_and_check(&t, a, v);
    }
    template_test_release(&t);
}

static void template_is_correct_at_every_value_of_every_parameter(void **state)
{
    struct rng r = rng_derive(1, "gqa values", 0);
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
            build_and_check(&t, a, built++ % VARIANTS);
        }
    }
    assert_true(built >= 8);
    template_test_release(&t);
}

static void template_is_correct_at_random_assignments(void **state)
{
    const char *wanted = getenv("KS_GQA_RANDOM");
    uint64_t n = 8;
    struct rng r = rng_derive(1, "gqa assignments", 0);
    struct template_test t;

    if (wanted)
        assert_true(str_to_u64(wanted, &n));
    template_test_init(&t, *state);
    for (uint64_t i = 0; i < n; i++) {
        json_auto_t *a = assignment_random(t.space, &r, NULL, 0);

        build_and_check(&t, a, i % VARIANTS);
    }
    template_test_release(&t);
}

/* ---- Workloads ---- */

/* One KV head of 8 elements in place of what the definition has: the axes and parameters of a line
 * do not depend on that, and the largest pools are generated in no time. */
static void workload_check(const char *line, size_t len)
{
    struct err err;
    json_auto_t *w = NULL;
    const json_t *axes, *params, *lens;
    struct fixture f;
    int n[LENS_MAX], batch;
    double shared, q_scale, sm_scale;

    assert_ok(jsonx_parse(line, len, "workload", &w, &err), err);
    axes = json_object_get(w, "axes");
    params = json_object_get(w, "params");
    lens = json_object_get(params, "kv_lens");
    batch = (int)json_array_size(lens);
    assert_in_range(batch, 1, LENS_MAX);
    for (int b = 0; b < batch; b++)
        n[b] = (int)json_integer_value(json_array_get(lens, (size_t)b));
    fixture_init_dim(&f, 1, 8, n, batch, (int)jsonx_int(axes, "num_pages", 0));
    assert_int_equal(json_object_size(axes), 4);
    assert_true(jsonx_int(axes, "batch_size", -1) == batch);
    assert_true(jsonx_int(axes, "len_indptr", -1) == batch + 1);
    assert_true(jsonx_int(axes, "num_kv_indices", -1) == f.axes[7].value);
    fixture_text(&f, "page_pattern", jsonx_str(params, "page_pattern", ""));
    shared = jsonx_num(params, "shared_pages", 1);
    fixture_number(&f, "shared_pages", &shared);
    q_scale = jsonx_num(params, "q_scale", 1);
    fixture_number(&f, "q_scale", &q_scale);
    sm_scale = jsonx_num(params, "sm_scale", 1 / sqrt(DIM));
    assert_true(fabs(sm_scale * sqrt(DIM) - 1) < 1e-6);
    fixture_number(&f, "sm_scale", &sm_scale);
    fixture_generate(&f, 9);
    for (int64_t i = 0; i < f.axes[7].value; i++)
        assert_in_range(fixture_indices(&f)[i], 0, f.axes[4].value - 1);
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
    assert_true(lines >= 2);
    return lines;
}

static void every_workload_can_be_generated(void **state)
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
    assert_int_equal(full, 48 + 48);
    assert_int_equal(files, 2 + 2 + 4); /* smoke and cpu, full, edge */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_the_golden_results),
        cmocka_unit_test(inputs_are_a_function_of_the_seed),
        cmocka_unit_test(values_are_standard_normal_and_unused_pages_are_nan),
        cmocka_unit_test(page_patterns_are_what_they_say),
        cmocka_unit_test(equal_keys_give_the_mean_of_the_values),
        cmocka_unit_test(wrong_workloads_are_refused_with_a_sentence),
        cmocka_unit_test(reference_knows_empty_sequences_and_single_keys),
        cmocka_unit_test(reference_does_not_depend_on_the_threads),
        cmocka_unit_test(cost_counts_shared_pages_once),
        cmocka_unit_test(every_workload_can_be_generated),
        cmocka_unit_test_setup_teardown(baseline_and_default_template_are_correct, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(template_is_correct_at_every_value_of_every_parameter,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(template_is_correct_at_random_assignments, test_dir_setup,
                                        test_dir_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
