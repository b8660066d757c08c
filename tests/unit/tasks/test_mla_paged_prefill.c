/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pack mla_paged_prefill: its generator and reference against golden results in double
 * precision, its tolerances against kernels that cheat, and its baseline and template against the
 * reference. Kernels are built by `cc` with the flags of an evaluation; KS_MLA_PREFILL_RANDOM sets
 * how many random assignments of the template are tried (4) beyond those that cover every value.
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

#define PACK KS_SOURCE_DIR "/tasks/mla_paged_prefill"
#define NAME "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1"

enum { CKV = 512, KPE = 64, N_INPUTS = 8, N_OUTPUTS = 2, GUARD = 64, LENS_MAX = 512 };
enum { Q, QPE, C, E, QO_INDPTR, KV_INDPTR, INDICES, SCALE };
enum { AXIS_QUERIES = 0, AXIS_HEADS = 1, AXIS_PAGES = 4, N_AXES = 8 };

extern char **environ;

/* ---- A call and its buffers ---- */

struct fixture {
    struct ks_axis axes[N_AXES];
    struct ks_param params[8];
    double qo_lens[LENS_MAX], kv_lens[LENS_MAX], q_scale;
    struct ks_problem problem;
    struct ks_tensor in[N_INPUTS], out[N_OUTPUTS];
    double *expected[N_OUTPUTS];
    int64_t heads, queries, keys;
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
    return tensor_count(t) * (t->dtype == KS_BF16 ? 2 : 4);
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

static void fixture_axes(struct fixture *f, int heads, int batch, int pages)
{
    f->axes[AXIS_QUERIES] = (struct ks_axis){ "total_q", f->queries };
    f->axes[AXIS_HEADS] = (struct ks_axis){ "num_qo_heads", heads };
    f->axes[2] = (struct ks_axis){ "head_dim_ckv", CKV };
    f->axes[3] = (struct ks_axis){ "head_dim_kpe", KPE };
    f->axes[AXIS_PAGES] = (struct ks_axis){ "num_pages", pages };
    f->axes[5] = (struct ks_axis){ "page_size", 1 };
    f->axes[6] = (struct ks_axis){ "len_indptr", batch + 1 };
    f->axes[7] = (struct ks_axis){ "num_kv_indices", f->keys };
    f->params[0] = (struct ks_param){ "qo_lens", NULL, f->qo_lens, (size_t)batch };
    f->params[1] = (struct ks_param){ "kv_lens", NULL, f->kv_lens, (size_t)batch };
    f->problem = (struct ks_problem){ "mla", N_AXES, 2, f->axes, f->params };
}

static void fixture_init(struct fixture *f, int heads, const int *qo_lens, const int *kv_lens,
                         int batch, int pages)
{
    memset(f, 0, sizeof(*f));
    f->heads = heads;
    for (int b = 0; b < batch; b++) {
        f->qo_lens[b] = qo_lens[b];
        f->kv_lens[b] = kv_lens[b];
        f->queries += qo_lens[b];
        f->keys += kv_lens[b];
    }
    fixture_axes(f, heads, batch, pages);
    f->in[Q] = (struct ks_tensor){ "q_nope", KS_BF16, 3, { f->queries, heads, CKV }, NULL };
    f->in[QPE] = (struct ks_tensor){ "q_pe", KS_BF16, 3, { f->queries, heads, KPE }, NULL };
    f->in[C] = (struct ks_tensor){ "ckv_cache", KS_BF16, 3, { pages, 1, CKV }, NULL };
    f->in[E] = (struct ks_tensor){ "kpe_cache", KS_BF16, 3, { pages, 1, KPE }, NULL };
    f->in[QO_INDPTR] = (struct ks_tensor){ "qo_indptr", KS_I32, 1, { batch + 1 }, NULL };
    f->in[KV_INDPTR] = (struct ks_tensor){ "kv_indptr", KS_I32, 1, { batch + 1 }, NULL };
    f->in[INDICES] = (struct ks_tensor){ "kv_indices", KS_I32, 1, { f->keys }, NULL };
    f->in[SCALE] = (struct ks_tensor){ "sm_scale", KS_F32, 0, { 0 }, NULL };
    f->out[0] = (struct ks_tensor){ "output", KS_BF16, 3, { f->queries, heads, CKV }, NULL };
    f->out[1] = (struct ks_tensor){ "lse", KS_F32, 2, { f->queries, heads }, NULL };
    for (int i = 0; i < N_INPUTS; i++)
        f->in[i].data = guarded(tensor_bytes(&f->in[i]));
    for (int i = 0; i < N_OUTPUTS; i++) {
        f->out[i].data = guarded(tensor_bytes(&f->out[i]));
        f->expected[i] = calloc(tensor_count(&f->out[i]), sizeof(double));
        assert_non_null(f->expected[i]);
    }
}

static void fixture_text(struct fixture *f, const char *name, const char *text)
{
    f->params[f->problem.n_params++] = (struct ks_param){ name, text, NULL, 0 };
}

static void fixture_number(struct fixture *f, const char *name, const double *value)
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

/* The list of integers `key` of an object; returns how many. */
static int list_ints(const json_t *obj, const char *key, int out[LENS_MAX])
{
    size_t n = json_array_size(json_object_get(obj, key));

    assert_in_range(n, 1, LENS_MAX);
    for (size_t i = 0; i < n; i++)
        out[i] = (int)list_number(obj, key, i);
    return (int)n;
}

/* Fills tensor i as the golden case says and compares the sum of its values. */
static void golden_fill(struct fixture *f, const json_t *c, int i)
{
    uint16_t *x = f->in[i].data;
    uint64_t seed = (uint64_t)list_number(c, "seeds", (size_t)i);
    size_t n = tensor_count(&f->in[i]);
    double sum = 0;

    for (size_t k = 0; k < n; k++) {
        x[k] = ks_f32_to_bf16(ks_uniform(seed, k));
        sum += (double)ks_bf16_to_f32(x[k]);
    }
    assert_true(fabs(sum - list_number(c, "input_sums", (size_t)i)) < 1e-6);
}

/*
 * The case's scale is a double and the tensor holds its rounding to float, 3e-8 apart: the single
 * results agree to 1e-6, their sums to 1e-3.
 */
static void golden_compare(const double *got, const json_t *want)
{
    const json_t *row;
    double sum = 0, sum_abs = 0, sum_sq = 0;
    size_t i;

    for (long long k = 0; k < jsonx_int(want, "count", 0); k++) {
        assert_true(isfinite(got[k]));
        sum += got[k];
        sum_abs += fabs(got[k]);
        sum_sq += got[k] * got[k];
    }
    assert_true(jsonx_int(want, "finite", -1) == jsonx_int(want, "count", 0));
    assert_true(fabs(sum - jsonx_num(want, "sum", NAN)) < 1e-3);
    assert_true(fabs(sum_abs - jsonx_num(want, "sum_abs", NAN)) < 1e-3);
    assert_true(fabs(sum_sq - jsonx_num(want, "sum_sq", NAN)) < 1e-3);
    json_array_foreach (json_object_get(want, "samples"), i, row) {
        double x = got[json_integer_value(json_array_get(row, 0))];

        assert_true(fabs(x - json_number_value(json_array_get(row, 1))) < 1e-6);
    }
    assert_true(i >= 8);
}

static void golden_prepare(struct fixture *f, const json_t *c)
{
    int nq[LENS_MAX], nk[LENS_MAX], pages = (int)jsonx_int(c, "num_pages", 0);
    int batch = list_ints(c, "qo_lens", nq);
    int32_t *qo_indptr, *kv_indptr, *indices;

    assert_int_equal(list_ints(c, "kv_lens", nk), batch);
    fixture_init(f, (int)jsonx_int(c, "num_qo_heads", 0), nq, nk, batch, pages);
    for (int i = Q; i <= E; i++)
        golden_fill(f, c, i);
    qo_indptr = f->in[QO_INDPTR].data;
    kv_indptr = f->in[KV_INDPTR].data;
    indices = f->in[INDICES].data;
    for (int b = 0; b < batch; b++) {
        qo_indptr[b + 1] = qo_indptr[b] + nq[b];
        kv_indptr[b + 1] = kv_indptr[b] + nk[b];
    }
    for (int i = 0; i < kv_indptr[batch]; i++)
        indices[i] =
            (int32_t)((jsonx_int(c, "page_step", 0) * i + jsonx_int(c, "page_offset", 0)) % pages);
    *(float *)f->in[SCALE].data = (float)jsonx_num(c, "sm_scale", 0);
}

static void reference_agrees_with_the_golden_results(void **state)
{
    json_auto_t *golden = load(KS_SOURCE_DIR "/tests/fixtures/golden_mla_prefill.json");
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

static const int ragged_q[] = { 4, 0, 1, 9 }, ragged_k[] = { 6, 2, 3, 9 };

static void inputs_are_a_function_of_the_seed(void **state)
{
    struct fixture a, b, c;

    (void)state;
    fixture_init(&a, 16, ragged_q, ragged_k, 4, 60);
    fixture_init(&b, 16, ragged_q, ragged_k, 4, 60);
    fixture_init(&c, 16, ragged_q, ragged_k, 4, 60);
    fixture_generate(&a, 11);
    fixture_generate(&b, 11);
    fixture_generate(&c, 12);
    for (int i = Q; i <= SCALE; i++) {
        size_t bytes = tensor_bytes(&a.in[i]);

        assert_memory_equal(a.in[i].data, b.in[i].data, bytes);
        if (i <= E || i == INDICES)
            assert_memory_not_equal(a.in[i].data, c.in[i].data, bytes);
    }
    assert_true(*(const float *)a.in[SCALE].data == 0.1352337747812271f);
    fixture_release(&a);
    fixture_release(&b);
    fixture_release(&c);
}

static void values_are_standard_normal_and_unused_pages_are_nan(void **state)
{
    static const int nq[] = { 1 }, nk[] = { 300 };
    struct fixture f;
    double sum = 0, sq = 0, quad = 0, n = 0;
    bool used[400] = { false };

    (void)state;
    fixture_init(&f, 8, nq, nk, 1, 400);
    fixture_generate(&f, 3);
    for (int i = 0; i < 300; i++)
        used[fixture_indices(&f)[i]] = true;
    for (int i = 0; i < 400 * KPE; i++)
        assert_true(used[i / KPE] == !isnan(ks_bf16_to_f32(((const uint16_t *)f.in[E].data)[i])));
    for (int i = 0; i < 400 * CKV; i++) {
        double x = (double)ks_bf16_to_f32(((const uint16_t *)f.in[C].data)[i]);

        assert_true(used[i / CKV] == !isnan(x));
        if (isnan(x))
            continue;
        n++;
        sum += x;
        sq += x * x;
        quad += x * x * x * x;
    }
    assert_true(n == 300 * CKV);
    assert_true(fabs(sum / n) < 0.01 && fabs(sq / n - 1) < 0.02 && fabs(quad / n - 3) < 0.1);
    fixture_release(&f);
}

static void refused(struct fixture *f, const char *word)
{
    char why[256] = "";

    assert_int_equal(ks_task_module()->generate(&f->problem, 1, f->in, N_INPUTS, why, sizeof(why)),
                     -1);
    if (!strstr(why, word))
        fail_msg("'%s' does not speak of %s", why, word);
}

static void wrong_workloads_are_refused_with_a_sentence(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 16, ragged_q, ragged_k, 4, 30);
    f.kv_lens[1] = 3;
    refused(&f, "kv_lens");
    f.kv_lens[1] = 2;
    f.qo_lens[0] = 3;
    refused(&f, "qo_lens add up to");
    f.qo_lens[0] = 7; /* more queries than keys, while the total is right */
    f.qo_lens[3] = 6;
    refused(&f, "qo_lens[0] is 7, more than");
    f.qo_lens[0] = 4.5;
    refused(&f, "qo_lens[0] is 4.5");
    f.qo_lens[0] = 4;
    f.qo_lens[3] = 9;
    f.params[0].n = 3;
    refused(&f, "qo_lens must hold 4 lengths");
    f.params[0].n = 4;
    fixture_text(&f, "page_pattern", "spiral");
    refused(&f, "spiral");
    f.problem.n_params--;
    f.axes[AXIS_PAGES].value = 19;
    refused(&f, "num_pages");
    f.axes[AXIS_PAGES].value = 30;
    f.axes[AXIS_HEADS].value = 0;
    refused(&f, "num_qo_heads");
    f.axes[AXIS_HEADS].value = 16;
    fixture_generate(&f, 1);
    fixture_release(&f);
}

/* ---- Reference and cost ---- */

static void a_query_with_one_key_gives_its_value(void **state)
{
    static const int nq[] = { 2 }, nk[] = { 2 };
    struct fixture f;
    const uint16_t *c, *e;

    (void)state;
    fixture_init(&f, 8, nq, nk, 1, 9);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    c = (const uint16_t *)f.in[C].data + fixture_indices(&f)[0] * CKV;
    e = (const uint16_t *)f.in[E].data + fixture_indices(&f)[0] * KPE;
    for (int h = 0; h < 8; h++) {
        double x = 0;

        for (int d = 0; d < CKV; d++) {
            assert_true(f.expected[0][h * CKV + d] == (double)ks_bf16_to_f32(c[d]));
            x += (double)ks_bf16_to_f32(((const uint16_t *)f.in[Q].data)[h * CKV + d]) *
                 (double)ks_bf16_to_f32(c[d]);
        }
        for (int d = 0; d < KPE; d++)
            x += (double)ks_bf16_to_f32(((const uint16_t *)f.in[QPE].data)[h * KPE + d]) *
                 (double)ks_bf16_to_f32(e[d]);
        assert_true(fabs(f.expected[1][h] - x * 0.1352337747812271 / M_LN2) < 1e-5);
    }
    fixture_release(&f);
}

static void queries_see_the_prefix_and_themselves_and_no_more(void **state)
{
    static const int nq[] = { 5 }, nk[] = { 8 };
    struct fixture f;
    double before[5 * 8 * CKV];
    uint16_t *row;

    (void)state;
    fixture_init(&f, 8, nq, nk, 1, 20);
    fixture_generate(&f, 5);
    for (int j = 0; j < 8; j++) {
        fixture_reference(&f, 2);
        memcpy(before, f.expected[0], sizeof(before));
        row = (uint16_t *)f.in[E].data + fixture_indices(&f)[j] * KPE;
        for (int d = 0; d < KPE; d++)
            row[d] = ks_f32_to_bf16(2 - ks_bf16_to_f32(row[d]));
        fixture_reference(&f, 2);
        for (int i = 0; i < 5; i++) {
            const double *a = before + i * 8 * CKV, *b = f.expected[0] + i * 8 * CKV;

            assert_true((memcmp(a, b, sizeof(double) * 8 * CKV) != 0) == (j <= 3 + i));
        }
    }
    fixture_release(&f);
}

static void reference_does_not_depend_on_the_threads(void **state)
{
    struct fixture f;
    double once[14 * 16];

    (void)state;
    fixture_init(&f, 16, ragged_q, ragged_k, 4, 60);
    fixture_generate(&f, 5);
    fixture_reference(&f, 1);
    memcpy(once, f.expected[1], sizeof(once));
    fixture_reference(&f, 3);
    assert_memory_equal(once, f.expected[1], sizeof(once));
    fixture_release(&f);
}

static void cost_counts_visible_pairs_and_needed_pages(void **state)
{
    static const int nq[] = { 3, 0, 1 }, nk[] = { 4, 6, 3 };
    struct fixture f;
    struct ks_cost cost;

    (void)state;
    fixture_init(&f, 16, nq, nk, 3, 20);
    fixture_text(&f, "page_pattern", "shared"); /* one page in common: six pages for seven keys */
    fixture_generate(&f, 5);
    ks_task_module()->cost(&f.problem, f.in, N_INPUTS, &cost);
    assert_true(cost.flops == 34816.0 * (2 + 3 + 4 + 3));
    assert_true(cost.bytes == 1152.0 * 6 + 4 * (18432.0 + 16384.0 + 64.0) + 8.0 * 4 + 4.0 * 7 + 4);
    fixture_release(&f);
}

/* ---- Tolerances ---- */

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

/* Whether output o is within the limits; if not, `why` says where. */
static bool output_within(const struct fixture *f, int o, struct limits lim, char why[256])
{
    const struct ks_tensor *t = &f->out[o];
    size_t row = (size_t)t->shape[t->rank - 1];
    double error = 0, size = 0;

    for (size_t i = 0; i < tensor_count(t); i += row) {
        double row_error = 0, row_size = 0;

        for (size_t k = i; k < i + row; k++) {
            double want = f->expected[o][k], got = out_value(t, k), diff = fabs(got - want);

            if (!(diff <= lim.absolute + lim.relative * fabs(want))) {
                snprintf(why, 256, "%s[%zu] is %g instead of %g", t->name, k, got, want);
                return false;
            }
            row_error += diff * diff;
            row_size += want * want;
        }
        if (!(ratio_of(row_error, row_size) <= lim.row_rel)) {
            snprintf(why, 256, "row %zu of %s is off by %g", i / row, t->name,
                     ratio_of(row_error, row_size));
            return false;
        }
        error += row_error;
        size += row_size;
    }
    snprintf(why, 256, "%s is off by %g", t->name, ratio_of(error, size));
    return ratio_of(error, size) <= lim.tensor_rel;
}

/* Both outputs. */
static bool outputs_within(const struct fixture *f, const json_t *task, char why[256])
{
    return output_within(f, 0, limits_of(task, 0), why) &&
           output_within(f, 1, limits_of(task, 1), why);
}

/* The expected values as a kernel would hand them in. */
static void outputs_set(struct fixture *f)
{
    for (size_t i = 0; i < tensor_count(&f->out[0]); i++)
        ((uint16_t *)f->out[0].data)[i] = ks_f32_to_bf16((float)f->expected[0][i]);
    for (size_t i = 0; i < tensor_count(&f->out[1]); i++)
        ((float *)f->out[1].data)[i] = (float)f->expected[1][i];
}

static void tolerances_tell_honest_answers_from_cheats(void **state)
{
    static const int nq[] = { 30 }, nk[] = { 400 };
    json_auto_t *task = load(PACK "/task.json");
    struct fixture f;
    char why[256];

    (void)state;
    fixture_init(&f, 8, nq, nk, 1, 410);
    fixture_generate(&f, 8);
    ((int32_t *)f.in[KV_INDPTR].data)[1]--; /* every query without its last key */
    fixture_reference(&f, 2);
    outputs_set(&f);
    ((int32_t *)f.in[KV_INDPTR].data)[1]++;
    fixture_reference(&f, 2);
    assert_false(output_within(&f, 0, limits_of(task, 0), why));
    assert_false(output_within(&f, 1, limits_of(task, 1), why));
    outputs_set(&f);
    assert_true(outputs_within(&f, task, why));
    memset((uint16_t *)f.out[0].data + 7 * CKV, 0, CKV * 2); /* one row of zeros */
    assert_false(outputs_within(&f, task, why));
    fixture_release(&f);
}

/* ---- Kernels ---- */

/* defines: NULL-terminated -D arguments beyond the constant axes. */
static void kernel_build(struct kernel *k, const char *dir, const char *source, int heads,
                         char *const *defines)
{
    CLEANUP(freep) char *out = str_printf("%s/k.so", dir);
    CLEANUP(freep) char *constant = str_printf("-DKS_NUM_QO_HEADS=%d", heads);
    char *argv[80] = { "cc",
                       "-O3",
                       "-march=native",
                       "-std=gnu17",
                       "-Wall",
                       "-Wextra",
                       "-Werror",
                       "-fPIC",
                       "-shared",
                       "-I" KS_SOURCE_DIR "/tasks/harness",
                       "-DKS_HEAD_DIM_CKV=512",
                       "-DKS_HEAD_DIM_KPE=64",
                       "-DKS_PAGE_SIZE=1",
                       constant };
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

/* Calls the kernel on the fixture and compares everything it wrote. */
static void kernel_check(const struct kernel *k, struct fixture *f, const json_t *task,
                         const char *what)
{
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
    };
    char why[256];

    for (int o = 0; o < N_OUTPUTS; o++)
        memset(f->out[o].data, 0xff, tensor_bytes(&f->out[o]));
    assert_int_equal(k->run(&call), 0);
    for (int o = 0; o < N_OUTPUTS; o++)
        if (!guard_intact(&f->out[o]))
            fail_msg("%s: wrote beyond %s", what, f->out[o].name);
    if (!outputs_within(f, task, why))
        fail_msg("%s: %d heads: %s", what, (int)f->heads, why);
}

/*
 * Problems that meet the edges: of row blocks, tiles and bands; no queries, no keys, one of each;
 * more than a block of 512 keys; logits so large that exp overflows without subtracting the
 * maximum.
 */
enum { PROBLEMS = 3 };

static void problems_init(struct fixture f[PROBLEMS], int heads)
{
    static const int edges_q[] = { 1, 0, 5, 17, 3, 0, 9, 2, 33 };
    static const int edges_k[] = { 1, 4, 5, 17, 64, 0, 70, 2, 40 };
    static const int block_q[] = { 3, 1 }, block_k[] = { 517, 33 };
    static const int large_q[] = { 20, 1 }, large_k[] = { 31, 16 };

    fixture_init(&f[0], heads, edges_q, edges_k, 9, 300);
    fixture_init(&f[1], heads, block_q, block_k, 2, 600);
    fixture_text(&f[1], "page_pattern", "strided");
    fixture_init(&f[2], heads, large_q, large_k, 2, 60);
    fixture_text(&f[2], "page_pattern", "shared");
    f[2].q_scale = 40;
    fixture_number(&f[2], "q_scale", &f[2].q_scale);
    for (int i = 0; i < PROBLEMS; i++) {
        fixture_generate(&f[i], 77);
        fixture_reference(&f[i], 2);
    }
}

/* ---- The template ---- */

enum { SIZES = 3 };
static const int head_counts[SIZES] = { 16, 8, 32 };

struct template_test {
    json_t *task, *space;
    const char *dir;
    struct fixture f[SIZES][PROBLEMS];
};

static struct template_test *template_test_new(const char *dir)
{
    struct template_test *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    t->task = load(PACK "/task.json");
    t->space = load(PACK "/template.space.json");
    t->dir = dir;
    for (int i = 0; i < SIZES; i++)
        problems_init(t->f[i], head_counts[i]);
    return t;
}

static void template_test_free(struct template_test *t)
{
    for (int i = 0; i < SIZES; i++)
        for (int k = 0; k < PROBLEMS; k++)
            fixture_release(&t->f[i][k]);
    json_decref(t->task);
    json_decref(t->space);
    free(t);
}

/* Builds the template (or, without an assignment, the baseline) and compares it on all problems. */
static void build_and_check(struct template_test *t, const json_t *assignment, size_t size)
{
    CLEANUP(freep) char *what = assignment ? jsonx_canonical(assignment) : strdup("baseline");
    char *defines[64] = { NULL };
    size_t n = assignment ? assignment_defines(t->space, assignment, defines) : 0;
    struct kernel k;

    kernel_build(&k, t->dir, assignment ? PACK "/template.c" : PACK "/baseline.c",
                 head_counts[size], defines);
    for (int i = 0; i < PROBLEMS; i++)
        kernel_check(&k, &t->f[size][i], t->task, what);
    dlclose(k.handle);
    for (size_t i = 0; i < n; i++)
        free(defines[i]);
}

static void baseline_and_default_template_are_correct(void **state)
{
    struct template_test *t = template_test_new(*state);
    json_auto_t *a = assignment_default(t->space);

    assert_true(assignment_valid(t->space, a));
    for (size_t i = 0; i < SIZES; i++) {
        build_and_check(t, NULL, i);
        build_and_check(t, a, i);
    }
    template_test_free(t);
}

/* Notes which values of the space the assignment has: bit k of covered[i] is parameter i's k-th. */
static void cover(const json_t *space, const json_t *a, unsigned covered[])
{
    const json_t *p;
    size_t i;

    json_array_foreach (json_object_get(space, "parameters"), i, p) {
        const json_t *values = json_object_get(p, "values");

        for (size_t k = 0; k < json_array_size(values); k++)
            if (json_equal(json_object_get(a, jsonx_str(p, "name", "")), json_array_get(values, k)))
                covered[i] |= 1u << k;
    }
}

/* A random valid assignment with a value that is not covered yet; NULL when all are. */
static json_t *assignment_uncovered(const json_t *space, struct rng *r, const unsigned covered[])
{
    const json_t *p;
    size_t i;

    json_array_foreach (json_object_get(space, "parameters"), i, p)
        for (size_t k = 0; k < json_array_size(json_object_get(p, "values")); k++)
            if (!(covered[i] & 1u << k))
                return assignment_random(space, r, jsonx_str(p, "name", ""), k);
    return NULL;
}

static void template_is_correct_at_every_value_of_every_parameter(void **state)
{
    struct rng r = rng_derive(1, "mla prefill values", 0);
    struct template_test *t = template_test_new(*state);
    unsigned covered[32] = { 0 };
    size_t built = 0;
    json_t *a;

    while ((a = assignment_uncovered(t->space, &r, covered)) != NULL) {
        cover(t->space, a, covered);
        build_and_check(t, a, built++ % SIZES);
        json_decref(a);
    }
    assert_true(built >= 4);
    template_test_free(t);
}

static void template_is_correct_at_random_assignments(void **state)
{
    const char *wanted = getenv("KS_MLA_PREFILL_RANDOM");
    uint64_t n = 4;
    struct rng r = rng_derive(1, "mla prefill assignments", 0);
    struct template_test *t = template_test_new(*state);

    if (wanted)
        assert_true(str_to_u64(wanted, &n));
    for (uint64_t i = 0; i < n; i++) {
        json_auto_t *a = assignment_random(t->space, &r, NULL, 0);

        build_and_check(t, a, i % SIZES);
    }
    template_test_free(t);
}

/* ---- Workloads ---- */

/* Checks that axes and lengths agree; generates the inputs when they are small. */
static void workload_check(const char *line, size_t len)
{
    enum { GENERATED_MAX = 40 << 20 };
    struct err err;
    json_t *w = NULL;
    const json_t *axes, *params;
    struct fixture f = { .heads = 16 };
    int nq[LENS_MAX], nk[LENS_MAX], batch, pages;
    double shared;

    assert_ok(jsonx_parse(line, len, "workload", &w, &err), err);
    axes = json_object_get(w, "axes");
    params = json_object_get(w, "params");
    batch = list_ints(params, "qo_lens", nq);
    assert_int_equal(list_ints(params, "kv_lens", nk), batch);
    for (int b = 0; b < batch; b++) {
        assert_in_range(nq[b], 0, nk[b]);
        f.queries += nq[b];
        f.keys += nk[b];
    }
    assert_int_equal(jsonx_int(axes, "len_indptr", -1), batch + 1);
    assert_int_equal(jsonx_int(axes, "total_q", -1), f.queries);
    assert_int_equal(jsonx_int(axes, "num_kv_indices", -1), f.keys);
    assert_int_equal(json_object_size(axes), 4);
    pages = (int)jsonx_int(axes, "num_pages", 0);
    assert_true(pages >= 1 && strlen(jsonx_str(w, "name", "")) > 0);
    if ((f.queries * 34816 + pages * 1152ll) < GENERATED_MAX) {
        fixture_init(&f, 16, nq, nk, batch, pages);
        fixture_text(&f, "page_pattern", jsonx_str(params, "page_pattern", ""));
        shared = jsonx_num(params, "shared_pages", 1);
        fixture_number(&f, "shared_pages", &shared);
        fixture_generate(&f, 9);
        fixture_release(&f);
    }
    json_decref(w);
}

static void every_workload_is_valid(void **state)
{
    static const struct {
        const char *path;
        int lines;
    } sets[] = { { PACK "/workloads/smoke.jsonl", 2 },
                 { PACK "/workloads/cpu.jsonl", 4 },
                 { PACK "/workloads/" NAME ".edge.jsonl", 12 },
                 { PACK "/workloads/" NAME ".full.jsonl", 38 } };

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
        cmocka_unit_test(wrong_workloads_are_refused_with_a_sentence),
        cmocka_unit_test(a_query_with_one_key_gives_its_value),
        cmocka_unit_test(queries_see_the_prefix_and_themselves_and_no_more),
        cmocka_unit_test(reference_does_not_depend_on_the_threads),
        cmocka_unit_test(cost_counts_visible_pairs_and_needed_pages),
        cmocka_unit_test(tolerances_tell_honest_answers_from_cheats),
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
