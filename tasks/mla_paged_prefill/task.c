/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Causal paged prefill of multi-head latent attention: makes the inputs of a workload, computes
 * outputs and log-sum-exps from the latent cache in ks_real, and states what any correct kernel
 * must read and compute. The formula, the parameters of a workload and which workloads are refused
 * stand in README.md. Thread: any; the reference makes up to `threads - 1` threads and joins them
 * before it returns.
 */
#include "ks_gen.h"

enum { IN_Q, IN_QPE, IN_CKV, IN_KPE, IN_QO_INDPTR, IN_KV_INDPTR, IN_INDICES, IN_SCALE, IN_COUNT };
enum { OUT_OUTPUT, OUT_LSE, OUT_COUNT };
enum { HEADS_MAX = 256, DIM_MAX = 1024 };

/* (0.1 ln 40 + 1)^2 / sqrt(192): attention over 128 + 64 dimensions, stretched forty times. */
#define SCALE_DEFAULT 0.1352337747812271

/* The axes of one call. Constants fall back to what all definitions of the family share. */
struct dims {
    int64_t batch, queries, heads, ckv, kpe, pages, page_size, keys;
};

static struct dims dims_of(const struct ks_problem *p)
{
    return (struct dims){
        .batch = ks_problem_axis(p, "len_indptr", 0) - 1,
        .queries = ks_problem_axis(p, "total_q", 0),
        .heads = ks_problem_axis(p, "num_qo_heads", 16),
        .ckv = ks_problem_axis(p, "head_dim_ckv", 512),
        .kpe = ks_problem_axis(p, "head_dim_kpe", 64),
        .pages = ks_problem_axis(p, "num_pages", 0),
        .page_size = ks_problem_axis(p, "page_size", 1),
        .keys = ks_problem_axis(p, "num_kv_indices", 0),
    };
}

static int dims_check(const struct dims *d, char *why, size_t why_size)
{
    if (d->page_size != 1)
        return ks_fail(why, why_size, "page_size is %lld, allowed is 1", (long long)d->page_size);
    if (d->batch < 1 || d->queries < 1 || d->pages < 1 || d->keys < 0)
        return ks_fail(why, why_size,
                       "len_indptr is %lld, total_q %lld, num_pages %lld; they must be at least 2, "
                       "1 and 1",
                       (long long)d->batch + 1, (long long)d->queries, (long long)d->pages);
    if (d->heads < 1 || d->heads > HEADS_MAX)
        return ks_fail(why, why_size, "num_qo_heads is %lld, allowed are 1 to %d",
                       (long long)d->heads, HEADS_MAX);
    if (d->ckv < 8 || d->ckv > DIM_MAX || d->ckv % 8 != 0)
        return ks_fail(why, why_size, "head_dim_ckv is %lld, allowed are multiples of 8 up to %d",
                       (long long)d->ckv, DIM_MAX);
    if (d->kpe < 8 || d->kpe > DIM_MAX || d->kpe % 8 != 0)
        return ks_fail(why, why_size, "head_dim_kpe is %lld, allowed are multiples of 8 up to %d",
                       (long long)d->kpe, DIM_MAX);
    return 0;
}

/* ---- Inputs ---- */

/* With more queries than keys the first queries would see nothing: such a call is not valid. */
static int lens_check(const struct dims *d, const int32_t *qo_indptr, const int32_t *kv_indptr,
                      char *why, size_t why_size)
{
    for (int64_t b = 0; b < d->batch; b++) {
        int32_t nq = qo_indptr[b + 1] - qo_indptr[b], nk = kv_indptr[b + 1] - kv_indptr[b];

        if (nq > nk)
            return ks_fail(why, why_size,
                           "params.qo_lens[%lld] is %d, more than params.kv_lens[%lld], %d: its "
                           "first queries would see no key",
                           (long long)b, nq, (long long)b, nk);
    }
    return 0;
}

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    struct dims d = dims_of(p);
    float q_scale = (float)ks_param_number(p, "q_scale", 1);
    int32_t *qo_indptr, *kv_indptr, *indices;

    if (n_inputs != IN_COUNT)
        return ks_fail(why, why_size, "%d inputs were given, %d are needed", n_inputs, IN_COUNT);
    if (dims_check(&d, why, why_size) != 0)
        return -1;
    qo_indptr = inputs[IN_QO_INDPTR].data;
    kv_indptr = inputs[IN_KV_INDPTR].data;
    indices = inputs[IN_INDICES].data;
    if (ks_fill_indptr(p, "qo_lens", "total_q", d.batch, d.queries, qo_indptr, why, why_size) !=
            0 ||
        ks_fill_indptr(p, "kv_lens", "num_kv_indices", d.batch, d.keys, kv_indptr, why, why_size) !=
            0 ||
        lens_check(&d, qo_indptr, kv_indptr, why, why_size) != 0 ||
        ks_fill_pages(p, d.batch, d.pages, kv_indptr, ks_hash(seed, 5), indices, why, why_size) !=
            0)
        return -1;
    ks_fill_normal_bf16(inputs[IN_Q].data, d.queries * d.heads * d.ckv, ks_hash(seed, 1), 0,
                        q_scale);
    ks_fill_normal_bf16(inputs[IN_QPE].data, d.queries * d.heads * d.kpe, ks_hash(seed, 2), 0,
                        q_scale);
    ks_fill_cache_bf16(d.pages, d.ckv, indices, d.keys, ks_hash(seed, 3), 1, inputs[IN_CKV].data);
    ks_fill_cache_bf16(d.pages, d.kpe, indices, d.keys, ks_hash(seed, 4), 1, inputs[IN_KPE].data);
    *(float *)inputs[IN_SCALE].data = (float)ks_param_number(p, "sm_scale", SCALE_DEFAULT);
    return 0;
}

/* ---- Reference ---- */

struct reference {
    struct dims d;
    const uint16_t *q, *qpe, *ckv, *kpe;
    const int32_t *qo_indptr, *kv_indptr, *indices;
    double scale;
    double *output, *lse;
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

/*
 * All heads of query token t, which sees the n pages of `pages`. logits: [heads][n]; wide: room for
 * a row, the queries and the outputs. Each row is widened once for all heads.
 */
static void attend(const struct reference *r, int64_t t, const int32_t *pages, int64_t n,
                   ks_real *logits, ks_real *wide)
{
    const struct dims *d = &r->d;
    int64_t dim = d->ckv + d->kpe, first = t * d->heads;
    ks_real *row = wide, *q = row + dim, *out = q + d->heads * dim;

    for (int64_t h = 0; h < d->heads; h++) {
        widen_row(r->q + (first + h) * d->ckv, d->ckv, q + h * dim);
        widen_row(r->qpe + (first + h) * d->kpe, d->kpe, q + h * dim + d->ckv);
    }
    for (int64_t j = 0; j < n; j++) {
        widen_row(r->ckv + pages[j] * d->ckv, d->ckv, row);
        widen_row(r->kpe + pages[j] * d->kpe, d->kpe, row + d->ckv);
        for (int64_t h = 0; h < d->heads; h++)
            logits[h * n + j] = (ks_real)r->scale * dot(q + h * dim, row, dim);
    }
    for (int64_t h = 0; h < d->heads; h++)
        r->lse[first + h] = n ? (double)ks_softmax(logits + h * n, n) : -INFINITY;
    for (int64_t i = 0; i < d->heads * d->ckv; i++)
        out[i] = 0;
    for (int64_t j = 0; j < n; j++) {
        widen_row(r->ckv + pages[j] * d->ckv, d->ckv, row);
        for (int64_t h = 0; h < d->heads; h++) {
            ks_real p = logits[h * n + j], *restrict o = out + h * d->ckv;

            for (int64_t i = 0; i < d->ckv; i++)
                o[i] += p * row[i];
        }
    }
    for (int64_t i = 0; i < d->heads * d->ckv; i++)
        r->output[first * d->ckv + i] = (double)out[i];
}

/* One query token. Keys beyond the causal limit are never looked at. */
static int reference_item(void *ctx, int64_t t)
{
    const struct reference *r = ctx;
    const struct dims *d = &r->d;
    size_t heads = (size_t)d->heads, dim = (size_t)(d->ckv + d->kpe);
    int64_t b = 0, nq, n;
    ks_real *logits, *wide;
    int rc;

    while (r->qo_indptr[b + 1] <= t)
        b++;
    nq = r->qo_indptr[b + 1] - r->qo_indptr[b];
    n = r->kv_indptr[b + 1] - r->kv_indptr[b] - nq + (t - r->qo_indptr[b]) + 1;
    n = n > 0 ? n : 0;
    logits = malloc(sizeof(ks_real) * heads * (size_t)(n + 1));
    wide = malloc(sizeof(ks_real) * (2 * heads + 1) * dim);
    rc = logits && wide ? 0 : -1;
    if (rc == 0)
        attend(r, t, r->indices + r->kv_indptr[b], n, logits, wide);
    free(logits);
    free(wide);
    return rc;
}

static int reference(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size)
{
    struct reference r = { .d = dims_of(p) };

    if (n_inputs != IN_COUNT || n_outputs != OUT_COUNT)
        return ks_fail(why, why_size, "%d inputs and %d outputs were given, %d and %d are needed",
                       n_inputs, n_outputs, IN_COUNT, OUT_COUNT);
    if (dims_check(&r.d, why, why_size) != 0)
        return -1;
    r.q = inputs[IN_Q].data;
    r.qpe = inputs[IN_QPE].data;
    r.ckv = inputs[IN_CKV].data;
    r.kpe = inputs[IN_KPE].data;
    r.qo_indptr = inputs[IN_QO_INDPTR].data;
    r.kv_indptr = inputs[IN_KV_INDPTR].data;
    r.indices = inputs[IN_INDICES].data;
    r.scale = *(const float *)inputs[IN_SCALE].data;
    r.output = expected[OUT_OUTPUT];
    r.lse = expected[OUT_LSE];
    if (ks_for_items(threads, r.d.queries, reference_item, &r) != 0)
        return ks_fail(why, why_size, "the reference ran out of memory");
    return 0;
}

/* ---- Cost ---- */

/*
 * Sequences without queries need not be read. Where all of them have queries, every page is seen by
 * the last query of a sequence.
 */
static void cost(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out)
{
    struct dims d = dims_of(p);
    const int32_t *qo = inputs[IN_QO_INDPTR].data, *kv = inputs[IN_KV_INDPTR].data;
    const int32_t *indices = inputs[IN_INDICES].data;
    int32_t *needed = malloc(sizeof(*needed) * (size_t)(d.keys + 1));
    double pairs = 0, rows = (double)(d.queries * d.heads);
    int64_t keys = 0, pages;

    (void)n_inputs;
    for (int64_t b = 0; b < d.batch; b++) {
        double nq = qo[b + 1] - qo[b], nk = kv[b + 1] - kv[b];

        pairs += nq * nk - nq * (nq - 1) / 2;
        for (int32_t j = kv[b]; nq > 0 && j < kv[b + 1]; j++, keys++)
            if (needed)
                needed[keys] = indices[j];
    }
    pages = needed ? ks_distinct_pages(d.pages, needed, keys) : 0;
    free(needed);
    out->flops = 2.0 * (double)(d.heads * (2 * d.ckv + d.kpe)) * pairs;
    out->bytes = 2.0 * (double)((d.ckv + d.kpe) * pages)                   /* the latent rows */
                 + rows * (2.0 * (double)(2 * d.ckv + d.kpe) + 4.0)        /* q, output and lse */
                 + 8.0 * (double)(d.batch + 1) + 4.0 * (double)keys + 4.0; /* pointers, scale */
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
