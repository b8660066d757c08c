/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted module of gqa_paged_decode: makes the inputs of a workload from a seed, computes
 * attention over the paged cache in double precision, and states what any correct kernel must read
 * and compute. The formula, the page patterns and the parameters of a workload stand in README.md.
 * Thread: any; the reference makes up to `threads - 1` threads and joins them before it returns.
 */
#include "ks_gen.h"

enum { IN_Q, IN_K, IN_V, IN_INDPTR, IN_INDICES, IN_SCALE, IN_COUNT };
enum { OUT_OUTPUT, OUT_LSE, OUT_COUNT };
enum { HEAD_DIM_MAX = 512 };

/* The axes of one call. Constants fall back to what all definitions of the family share. */
struct dims {
    int64_t batch, qo_heads, kv_heads, dim, pages, page_size, keys;
};

static struct dims dims_of(const struct ks_problem *p)
{
    const struct ks_axis *a = p->axes;
    int n = p->n_axes;

    return (struct dims){
        .batch = ks_axis_value(a, n, "batch_size", 0),
        .qo_heads = ks_axis_value(a, n, "num_qo_heads", 32),
        .kv_heads = ks_axis_value(a, n, "num_kv_heads", 0),
        .dim = ks_axis_value(a, n, "head_dim", 128),
        .pages = ks_axis_value(a, n, "num_pages", 0),
        .page_size = ks_axis_value(a, n, "page_size", 1),
        .keys = ks_axis_value(a, n, "num_kv_indices", 0),
    };
}

static int dims_check(const struct ks_problem *p, const struct dims *d, char *why, size_t why_size)
{
    int64_t indptr = ks_axis_value(p->axes, p->n_axes, "len_indptr", d->batch + 1);

    if (d->page_size != 1)
        return ks_fail(why, why_size, "page_size is %lld, allowed is 1", (long long)d->page_size);
    if (d->batch < 1 || d->pages < 1 || d->keys < 0)
        return ks_fail(why, why_size, "batch_size and num_pages must be at least 1");
    if (d->kv_heads < 1 || d->qo_heads % d->kv_heads != 0)
        return ks_fail(why, why_size,
                       "num_kv_heads is %lld, which does not divide num_qo_heads %lld",
                       (long long)d->kv_heads, (long long)d->qo_heads);
    if (d->dim < 8 || d->dim > HEAD_DIM_MAX || d->dim % 8 != 0)
        return ks_fail(why, why_size, "head_dim is %lld, allowed are multiples of 8 up to %d",
                       (long long)d->dim, HEAD_DIM_MAX);
    if (indptr != d->batch + 1)
        return ks_fail(why, why_size, "len_indptr is %lld, it must be batch_size + 1",
                       (long long)indptr);
    return 0;
}

/* ---- Inputs ---- */

/* Every page in use becomes a copy of the first: all keys are equal, and so are all logits. */
static void equal_rows(const struct dims *d, const int32_t *indices, uint16_t *cache)
{
    int64_t row = d->kv_heads * d->dim;

    for (int64_t i = 1; i < d->keys; i++)
        if (indices[i] != indices[0])
            memcpy(cache + indices[i] * row, cache + indices[0] * row,
                   sizeof(*cache) * (size_t)row);
}

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    struct dims d = dims_of(p);
    int32_t *indptr, *indices;

    if (n_inputs != IN_COUNT)
        return ks_fail(why, why_size, "%d inputs were given, %d are needed", n_inputs, IN_COUNT);
    if (dims_check(p, &d, why, why_size) != 0)
        return -1;
    indptr = inputs[IN_INDPTR].data;
    indices = inputs[IN_INDICES].data;
    if (ks_fill_indptr(p, "kv_lens", "num_kv_indices", d.batch, d.keys, indptr, why, why_size) !=
            0 ||
        ks_fill_pages(p, d.batch, d.pages, indptr, ks_hash(seed, 4), indices, why, why_size) != 0)
        return -1;
    ks_fill_normal_bf16(inputs[IN_Q].data, d.batch * d.qo_heads * d.dim, ks_hash(seed, 1), 0,
                        (float)ks_param_number(p, "q_scale", 1));
    ks_fill_cache_bf16(d.pages, d.kv_heads * d.dim, indices, d.keys, ks_hash(seed, 2), 1,
                       inputs[IN_K].data);
    if (ks_param_number(p, "k_equal", 0) != 0)
        equal_rows(&d, indices, inputs[IN_K].data);
    ks_fill_cache_bf16(d.pages, d.kv_heads * d.dim, indices, d.keys, ks_hash(seed, 3), 1,
                       inputs[IN_V].data);
    *(float *)inputs[IN_SCALE].data =
        (float)ks_param_number(p, "sm_scale", 1 / sqrt((double)d.dim));
    return 0;
}

/* ---- Reference ---- */

struct reference {
    struct dims d;
    const uint16_t *q, *k, *v;
    const int32_t *indptr, *indices;
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
 * All query heads of one KV head of one sequence. logits: [group][n]. Each row of K and V is
 * widened once for the whole group.
 */
static void attend(const struct reference *r, int64_t b, int64_t g, ks_real *logits, ks_real *wide)
{
    const struct dims *d = &r->d;
    int64_t group = d->qo_heads / d->kv_heads, first = b * d->qo_heads + g * group;
    int32_t begin = r->indptr[b], n = r->indptr[b + 1] - begin;
    ks_real *row = wide, *q = row + d->dim, *out = q + group * d->dim;
    double *output = r->output + first * d->dim;

    widen_row(r->q + first * d->dim, group * d->dim, q);
    for (int32_t j = 0; j < n; j++) {
        widen_row(r->k + (r->indices[begin + j] * d->kv_heads + g) * d->dim, d->dim, row);
        for (int64_t h = 0; h < group; h++)
            logits[h * n + j] = (ks_real)r->scale * dot(q + h * d->dim, row, d->dim);
    }
    for (int64_t h = 0; h < group; h++)
        r->lse[first + h] = n ? (double)ks_softmax(logits + h * n, n) : -INFINITY;
    for (int64_t i = 0; i < group * d->dim; i++)
        out[i] = 0;
    for (int32_t j = 0; j < n; j++) {
        widen_row(r->v + (r->indices[begin + j] * d->kv_heads + g) * d->dim, d->dim, row);
        for (int64_t h = 0; h < group; h++) {
            ks_real p = logits[h * n + j], *restrict o = out + h * d->dim;

            for (int64_t i = 0; i < d->dim; i++)
                o[i] += p * row[i];
        }
    }
    for (int64_t i = 0; i < group * d->dim; i++)
        output[i] = (double)out[i];
}

/* One sequence and KV head. */
static int reference_item(void *ctx, int64_t item)
{
    const struct reference *r = ctx;
    const struct dims *d = &r->d;
    int64_t b = item / d->kv_heads, n = r->indptr[b + 1] - r->indptr[b];
    size_t group = (size_t)(d->qo_heads / d->kv_heads), dim = (size_t)d->dim;
    ks_real *logits = malloc(sizeof(ks_real) * group * (size_t)(n + 1));
    ks_real *wide = malloc(sizeof(ks_real) * (2 * group + 1) * dim);
    int rc = logits && wide ? 0 : -1;

    if (rc == 0)
        attend(r, b, item % d->kv_heads, logits, wide);
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
    if (dims_check(p, &r.d, why, why_size) != 0)
        return -1;
    r.q = inputs[IN_Q].data;
    r.k = inputs[IN_K].data;
    r.v = inputs[IN_V].data;
    r.indptr = inputs[IN_INDPTR].data;
    r.indices = inputs[IN_INDICES].data;
    r.scale = *(const float *)inputs[IN_SCALE].data;
    r.output = expected[OUT_OUTPUT];
    r.lse = expected[OUT_LSE];
    if (ks_for_items(threads, r.d.batch * r.d.kv_heads, reference_item, &r) != 0)
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
    double heads = (double)(d.batch * d.qo_heads);

    out->flops = 4.0 * (double)(d.qo_heads * d.dim) * (double)d.keys;
    out->bytes = 4.0 * (double)(d.kv_heads * d.dim * pages) /* K and V */
                 + heads * (4.0 * (double)d.dim + 4.0)      /* q, output and lse */
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
