/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted module of mla_paged_decode: makes the inputs of a workload from a seed, computes latent
 * attention over the paged cache in double precision, and states what any correct kernel must read
 * and compute. The formula, the page patterns and the parameters of a workload stand in README.md.
 * Thread: any; the reference makes up to `threads - 1` threads and joins them before it returns.
 */
#include "ks_gen.h"

enum { IN_Q_NOPE, IN_Q_PE, IN_CKV, IN_KPE, IN_INDPTR, IN_INDICES, IN_SCALE, IN_COUNT };
enum { OUT_OUTPUT, OUT_LSE, OUT_COUNT };
enum { HEAD_DIM_MAX = 1024, HEADS_MAX = 128 };
enum { HEADS_PER_ITEM = 4 }; /* of the reference: they share the widening of a row */

/* (0.1 ln 40 + 1)^2 / sqrt(192): the factor that all captured workloads carry. */
static const double default_scale = 0.1352337747812271;

/* The axes of one call. */
struct dims {
    int64_t batch, heads, ckv, kpe, pages, page_size, keys;
};

static struct dims dims_of(const struct ks_problem *p)
{
    return (struct dims){
        .batch = ks_problem_axis(p, "batch_size", 0),
        .heads = ks_problem_axis(p, "num_qo_heads", 16),
        .ckv = ks_problem_axis(p, "head_dim_ckv", 512),
        .kpe = ks_problem_axis(p, "head_dim_kpe", 64),
        .pages = ks_problem_axis(p, "num_pages", 0),
        .page_size = ks_problem_axis(p, "page_size", 1),
        .keys = ks_problem_axis(p, "num_kv_indices", 0),
    };
}

static int dim_check(const char *name, int64_t dim, char *why, size_t why_size)
{
    if (dim < 8 || dim > HEAD_DIM_MAX || dim % 8 != 0)
        return ks_fail(why, why_size, "%s is %lld, allowed are multiples of 8 up to %d", name,
                       (long long)dim, HEAD_DIM_MAX);
    return 0;
}

static int dims_check(const struct ks_problem *p, const struct dims *d, char *why, size_t why_size)
{
    int64_t indptr = ks_problem_axis(p, "len_indptr", d->batch + 1);

    if (d->page_size != 1)
        return ks_fail(why, why_size, "page_size is %lld, allowed is 1", (long long)d->page_size);
    if (d->batch < 1 || d->pages < 1 || d->keys < 0)
        return ks_fail(why, why_size, "batch_size and num_pages must be at least 1");
    if (d->heads < 1 || d->heads > HEADS_MAX)
        return ks_fail(why, why_size, "num_qo_heads is %lld, allowed are 1 to %d",
                       (long long)d->heads, HEADS_MAX);
    if (dim_check("head_dim_ckv", d->ckv, why, why_size) != 0 ||
        dim_check("head_dim_kpe", d->kpe, why, why_size) != 0)
        return -1;
    if (indptr != d->batch + 1)
        return ks_fail(why, why_size, "len_indptr is %lld, it must be batch_size + 1",
                       (long long)indptr);
    return 0;
}

/* ---- Inputs ---- */

/* Every page that is referenced becomes a copy of the first. */
static void equal_rows(int64_t row, const int32_t *indices, int64_t keys, uint16_t *cache)
{
    for (int64_t i = 1; i < keys; i++)
        if (indices[i] != indices[0])
            memcpy(cache + indices[i] * row, cache + indices[0] * row,
                   (size_t)row * sizeof(*cache));
}

static void fill_caches(const struct ks_problem *p, const struct dims *d, uint64_t seed,
                        const int32_t *indices, uint16_t *ckv, uint16_t *kpe)
{
    ks_fill_cache_bf16(d->pages, d->ckv, indices, d->keys, ks_hash(seed, 3),
                       (float)ks_param_number(p, "ckv_scale", 1), ckv);
    ks_fill_cache_bf16(d->pages, d->kpe, indices, d->keys, ks_hash(seed, 4), 1, kpe);
    if (ks_param_number(p, "equal_rows", 0) != 0) {
        equal_rows(d->ckv, indices, d->keys, ckv);
        equal_rows(d->kpe, indices, d->keys, kpe);
    }
}

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    struct dims d = dims_of(p);
    float q_scale = (float)ks_param_number(p, "q_scale", 1);
    int32_t *indptr, *indices;

    if (n_inputs != IN_COUNT)
        return ks_fail(why, why_size, "%d inputs were given, %d are needed", n_inputs, IN_COUNT);
    if (dims_check(p, &d, why, why_size) != 0)
        return -1;
    indptr = inputs[IN_INDPTR].data;
    indices = inputs[IN_INDICES].data;
    if (ks_fill_indptr(p, "kv_lens", "num_kv_indices", d.batch, d.keys, indptr, why, why_size) !=
            0 ||
        ks_fill_pages(p, d.batch, d.pages, indptr, ks_hash(seed, 5), indices, why, why_size) != 0)
        return -1;
    ks_fill_normal_bf16(inputs[IN_Q_NOPE].data, d.batch * d.heads * d.ckv, ks_hash(seed, 1), 0,
                        q_scale);
    ks_fill_normal_bf16(inputs[IN_Q_PE].data, d.batch * d.heads * d.kpe, ks_hash(seed, 2), 0,
                        q_scale);
    fill_caches(p, &d, seed, indices, inputs[IN_CKV].data, inputs[IN_KPE].data);
    *(float *)inputs[IN_SCALE].data = (float)ks_param_number(p, "sm_scale", default_scale);
    return 0;
}

/* ---- Reference ---- */

struct reference {
    struct dims d;
    const uint16_t *q_nope, *q_pe, *ckv, *kpe;
    const int32_t *indptr, *indices;
    double scale;
    double *output, *lse;
};

/* What one item works in: q [heads][ckv + kpe], row [ckv + kpe], out [heads][ckv],
 * logits [heads][n]. */
struct room {
    ks_real *q, *row, *out, *logits;
};

static void widen_row(const uint16_t *x, int64_t n, ks_real *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (ks_real)ks_bf16_to_f32(x[i]);
}

/* Eight sums, so that the compiler may use vectors without changing what is computed. */
static ks_real dot(const ks_real *a, const ks_real *b, int64_t n)
{
    ks_real s[8] = { 0 }, sum = 0;

    for (int64_t i = 0; i < n; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] += a[i + k] * b[i + k];
    for (int k = 0; k < 8; k++)
        sum += s[k];
    return sum;
}

/* The logits of n keys from `begin` for heads of sequence b; first: the first head's row of q. */
static void find_logits(const struct reference *r, int64_t first, int64_t heads, int32_t begin,
                        int32_t n, const struct room *w)
{
    const struct dims *d = &r->d;
    int64_t dim = d->ckv + d->kpe;

    for (int64_t h = 0; h < heads; h++) {
        widen_row(r->q_nope + (first + h) * d->ckv, d->ckv, w->q + h * dim);
        widen_row(r->q_pe + (first + h) * d->kpe, d->kpe, w->q + h * dim + d->ckv);
    }
    for (int32_t j = 0; j < n; j++) {
        int64_t page = r->indices[begin + j];

        widen_row(r->ckv + page * d->ckv, d->ckv, w->row);
        widen_row(r->kpe + page * d->kpe, d->kpe, w->row + d->ckv);
        for (int64_t h = 0; h < heads; h++)
            w->logits[h * n + j] = (ks_real)r->scale * dot(w->q + h * dim, w->row, dim);
    }
}

/* The probabilities in w->logits times the latent rows. */
static void find_output(const struct reference *r, int64_t first, int64_t heads, int32_t begin,
                        int32_t n, const struct room *w)
{
    const struct dims *d = &r->d;

    for (int64_t i = 0; i < heads * d->ckv; i++)
        w->out[i] = 0;
    for (int32_t j = 0; j < n; j++) {
        widen_row(r->ckv + r->indices[begin + j] * d->ckv, d->ckv, w->row);
        for (int64_t h = 0; h < heads; h++) {
            ks_real p = w->logits[h * n + j], *restrict o = w->out + h * d->ckv;

            for (int64_t i = 0; i < d->ckv; i++)
                o[i] += p * w->row[i];
        }
    }
    for (int64_t i = 0; i < heads * d->ckv; i++)
        r->output[first * d->ckv + i] = (double)w->out[i];
}

/* HEADS_PER_ITEM heads of one sequence. */
static int reference_item(void *ctx, int64_t item)
{
    const struct reference *r = ctx;
    const struct dims *d = &r->d;
    int64_t groups = (d->heads + HEADS_PER_ITEM - 1) / HEADS_PER_ITEM;
    int64_t b = item / groups, head = item % groups * HEADS_PER_ITEM, first = b * d->heads + head;
    int64_t heads = d->heads - head < HEADS_PER_ITEM ? d->heads - head : HEADS_PER_ITEM;
    int32_t begin = r->indptr[b], n = r->indptr[b + 1] - begin;
    int64_t dim = d->ckv + d->kpe, fixed = (heads + 1) * dim + heads * d->ckv;
    ks_real *memory = malloc(sizeof(ks_real) * (size_t)(fixed + heads * n));
    struct room w = { .q = memory };

    if (!memory)
        return -1;
    w.row = w.q + heads * dim;
    w.out = w.row + dim;
    w.logits = w.out + heads * d->ckv;
    find_logits(r, first, heads, begin, n, &w);
    for (int64_t h = 0; h < heads; h++)
        r->lse[first + h] = n ? (double)ks_softmax(w.logits + h * n, n) : -INFINITY;
    find_output(r, first, heads, begin, n, &w);
    free(memory);
    return 0;
}

static int reference(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size)
{
    struct reference r = { .d = dims_of(p) };
    int64_t groups = (r.d.heads + HEADS_PER_ITEM - 1) / HEADS_PER_ITEM;

    if (n_inputs != IN_COUNT || n_outputs != OUT_COUNT)
        return ks_fail(why, why_size, "%d inputs and %d outputs were given, %d and %d are needed",
                       n_inputs, n_outputs, IN_COUNT, OUT_COUNT);
    if (dims_check(p, &r.d, why, why_size) != 0)
        return -1;
    r.q_nope = inputs[IN_Q_NOPE].data;
    r.q_pe = inputs[IN_Q_PE].data;
    r.ckv = inputs[IN_CKV].data;
    r.kpe = inputs[IN_KPE].data;
    r.indptr = inputs[IN_INDPTR].data;
    r.indices = inputs[IN_INDICES].data;
    r.scale = (double)*(const float *)inputs[IN_SCALE].data;
    r.output = expected[OUT_OUTPUT];
    r.lse = expected[OUT_LSE];
    if (ks_for_items(threads, r.d.batch * groups, reference_item, &r) != 0)
        return ks_fail(why, why_size, "the reference ran out of memory");
    return 0;
}

/* ---- Cost ---- */

static void cost(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out)
{
    struct dims d = dims_of(p);
    int64_t pages = n_inputs > IN_INDICES
                        ? ks_distinct_pages(d.pages, inputs[IN_INDICES].data, d.keys)
                        : d.keys;
    double dim = (double)(d.ckv + d.kpe), ckv = (double)d.ckv;

    out->flops = 2.0 * (double)d.heads * (dim + ckv) * (double)d.keys;
    out->bytes = 2.0 * dim * (double)pages /* latent and rotary rows */
                 + (double)(d.batch * d.heads) * (2.0 * dim + 2.0 * ckv + 4.0) /* q, output, lse */
                 + 4.0 * (double)(d.batch + 1 + d.keys) + 4.0;
}

static const struct ks_task_module module = { .abi = KS_ABI_VERSION,
                                              .generate = generate,
                                              .reference = reference,
                                              .cost = cost,
                                              .real_bytes = sizeof(ks_real) };

const struct ks_task_module *ks_task_module(void)
{
    return &module;
}
