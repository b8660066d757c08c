/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted module of gqa_paged_decode: makes the inputs of a workload from a seed, computes
 * attention over the paged cache in double precision, and states what any correct kernel must read
 * and compute. The formula, the page patterns and the parameters of a workload stand in README.md.
 * Thread: any; the reference makes up to `threads - 1` threads and joins them before it returns.
 */
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ks_task.h"

enum { IN_Q, IN_K, IN_V, IN_INDPTR, IN_INDICES, IN_SCALE, IN_COUNT };
enum { OUT_OUTPUT, OUT_LSE, OUT_COUNT };
enum { HEAD_DIM_MAX = 512, THREADS_MAX = 64, FIRST_PAGE = 5 };
enum { QUANTILES = 65536 };
static const uint16_t bf16_nan = 0x7fc1;

/* The axes of one call. Constants fall back to what all definitions of the family share. */
struct dims {
    int64_t batch, qo_heads, kv_heads, dim, pages, page_size, keys;
};

static int fail(char *why, size_t why_size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char *why, size_t why_size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, why_size, fmt, ap);
    va_end(ap);
    return -1;
}

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
        return fail(why, why_size, "page_size is %lld, allowed is 1", (long long)d->page_size);
    if (d->batch < 1 || d->pages < 1 || d->keys < 0)
        return fail(why, why_size, "batch_size and num_pages must be at least 1");
    if (d->kv_heads < 1 || d->qo_heads % d->kv_heads != 0)
        return fail(why, why_size, "num_kv_heads is %lld, which does not divide num_qo_heads %lld",
                    (long long)d->kv_heads, (long long)d->qo_heads);
    if (d->dim < 8 || d->dim > HEAD_DIM_MAX || d->dim % 8 != 0)
        return fail(why, why_size, "head_dim is %lld, allowed are multiples of 8 up to %d",
                    (long long)d->dim, HEAD_DIM_MAX);
    if (indptr != d->batch + 1)
        return fail(why, why_size, "len_indptr is %lld, it must be batch_size + 1",
                    (long long)indptr);
    return 0;
}

/* ---- Inputs ---- */

static uint16_t normal_table[QUANTILES];
static pthread_once_t normal_once = PTHREAD_ONCE_INIT;

/* Inverse of the upper normal tail Q(x) = erfc(x / sqrt 2) / 2 by Newton's method, which converges
 * from below on the convex side, x >= 0. */
static double normal_quantile(double upper)
{
    double x = 0;

    for (int i = 0; i < 60; i++) {
        double density = exp(-0.5 * x * x) / sqrt(2 * M_PI);
        double step = (0.5 * erfc(x * M_SQRT1_2) - upper) / density;

        x += step;
        if (fabs(step) < 1e-12)
            break;
    }
    return x;
}

/* 65,536 equally likely values of the standard normal, so that one hash yields four elements. */
static void normal_table_fill(void)
{
    for (int i = 0; i < QUANTILES / 2; i++) {
        float x = (float)normal_quantile((i + 0.5) / QUANTILES);

        normal_table[QUANTILES - 1 - i] = ks_f32_to_bf16(x);
        normal_table[i] = ks_f32_to_bf16(-x);
    }
}

/* n elements (a multiple of 4) whose place in the tensor starts at `first`, scaled by `scale`. */
static void fill_normal(uint16_t *out, int64_t n, uint64_t seed, uint64_t first, float scale)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint64_t z = ks_hash(seed, (first + (uint64_t)i) / 4);

        for (int k = 0; k < 4; k++)
            out[i + k] = normal_table[z >> (16 * k) & (QUANTILES - 1)];
    }
    if (scale != 1.0f)
        for (int64_t i = 0; i < n; i++)
            out[i] = ks_f32_to_bf16(ks_bf16_to_f32(out[i]) * scale);
}

static double param_number(const struct ks_problem *p, const char *name, double fallback)
{
    const struct ks_param *q = ks_param_find(p, name);

    return q && !q->text && q->n == 1 ? q->values[0] : fallback;
}

static int fill_indptr(const struct ks_problem *p, const struct dims *d, int32_t *indptr, char *why,
                       size_t why_size)
{
    const struct ks_param *lens = ks_param_find(p, "kv_lens");
    double sum = 0;

    if (!lens || lens->text || (int64_t)lens->n != d->batch)
        return fail(why, why_size, "params.kv_lens must hold batch_size = %lld lengths",
                    (long long)d->batch);
    indptr[0] = 0;
    for (size_t b = 0; b < lens->n; b++) {
        double len = lens->values[b];

        if (!(len >= 0) || len != floor(len) || sum + len > INT32_MAX)
            return fail(why, why_size, "params.kv_lens[%zu] is %g, it must be a length >= 0", b,
                        len);
        sum += len;
        indptr[b + 1] = (int32_t)sum;
    }
    if ((int64_t)sum != d->keys)
        return fail(why, why_size, "params.kv_lens add up to %lld, num_kv_indices is %lld",
                    (long long)sum, (long long)d->keys);
    return 0;
}

/* ids: [pages] page numbers in a random order. */
static void shuffle_pages(int32_t *ids, int64_t pages, uint64_t seed)
{
    for (int64_t i = 0; i < pages; i++)
        ids[i] = (int32_t)i;
    for (int64_t i = pages - 1; i > 0; i--) {
        int64_t j = (int64_t)(ks_hash(seed, (uint64_t)i) % (uint64_t)(i + 1));
        int32_t t = ids[i];

        ids[i] = ids[j];
        ids[j] = t;
    }
}

/* Pages as a server gives them out that decodes all sequences in step: one page each per round. */
static void fill_strided(const struct dims *d, const int32_t *indptr, int32_t first,
                         int32_t *indices)
{
    int32_t next = first;

    for (int32_t round = 0; next - first < d->keys; round++)
        for (int64_t b = 0; b < d->batch; b++)
            if (round < indptr[b + 1] - indptr[b])
                indices[indptr[b] + round] = next++;
}

/* All sequences begin with the same `shared` pages; every other position has a page of its own. */
static int fill_shared(const struct dims *d, const int32_t *indptr, const int32_t *ids,
                       int32_t shared, int32_t *indices)
{
    int64_t next = shared;

    for (int64_t b = 0; b < d->batch; b++) {
        int32_t len = indptr[b + 1] - indptr[b];

        for (int32_t j = 0; j < len; j++) {
            if (j >= shared && next >= d->pages)
                return -1;
            indices[indptr[b] + j] = j < shared ? ids[j] : ids[next++];
        }
    }
    return 0;
}

static int fill_indices(const struct ks_problem *p, const struct dims *d, const int32_t *indptr,
                        uint64_t seed, int32_t *indices, char *why, size_t why_size)
{
    const struct ks_param *q = ks_param_find(p, "page_pattern");
    const char *pattern = q && q->text ? q->text : "permuted";
    bool shared = strcmp(pattern, "shared") == 0;
    int64_t prefix = shared ? (int64_t)param_number(p, "shared_pages", 1) : 0;
    int64_t spare = d->pages - d->keys;
    int32_t first = (int32_t)(spare < FIRST_PAGE ? spare : FIRST_PAGE);
    int32_t *ids = NULL;
    int rc = 0;

    if (prefix < 0 || prefix > d->pages)
        return fail(why, why_size, "params.shared_pages is %lld, num_pages is %lld",
                    (long long)prefix, (long long)d->pages);
    if (!shared && spare < 0)
        return fail(why, why_size, "num_pages is %lld, fewer than the %lld pages in use",
                    (long long)d->pages, (long long)d->keys);
    if (strcmp(pattern, "contiguous") == 0) {
        for (int64_t i = 0; i < d->keys; i++)
            indices[i] = first + (int32_t)i;
        return 0;
    }
    if (strcmp(pattern, "strided") == 0) {
        fill_strided(d, indptr, first, indices);
        return 0;
    }
    if (!shared && strcmp(pattern, "permuted") != 0)
        return fail(why, why_size,
                    "params.page_pattern is '%s', allowed are contiguous, permuted, shared and "
                    "strided",
                    pattern);
    ids = malloc((size_t)d->pages * sizeof(*ids));
    if (!ids)
        return fail(why, why_size, "out of memory");
    shuffle_pages(ids, d->pages, seed);
    if (fill_shared(d, indptr, ids, (int32_t)prefix, indices) != 0)
        rc = fail(why, why_size, "num_pages is %lld, too few for params.kv_lens",
                  (long long)d->pages);
    free(ids);
    return rc;
}

/* Normal values in the pages that are referenced, NaN in all others. */
static void fill_cache(const struct dims *d, const int32_t *indices, uint64_t seed, uint16_t *cache)
{
    int64_t row = d->kv_heads * d->dim;

    for (int64_t i = 0; i < d->pages * row; i++)
        cache[i] = bf16_nan;
    for (int64_t i = 0; i < d->keys; i++) {
        uint16_t *page = cache + indices[i] * row;

        if (page[0] == bf16_nan) /* a shared page is filled once */
            fill_normal(page, row, seed, (uint64_t)(indices[i] * row), 1.0f);
    }
}

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    struct dims d = dims_of(p);
    int32_t *indptr, *indices;

    if (n_inputs != IN_COUNT)
        return fail(why, why_size, "%d inputs were given, %d are needed", n_inputs, IN_COUNT);
    if (dims_check(p, &d, why, why_size) != 0)
        return -1;
    indptr = inputs[IN_INDPTR].data;
    indices = inputs[IN_INDICES].data;
    if (fill_indptr(p, &d, indptr, why, why_size) != 0 ||
        fill_indices(p, &d, indptr, ks_hash(seed, 4), indices, why, why_size) != 0)
        return -1;
    pthread_once(&normal_once, normal_table_fill);
    fill_normal(inputs[IN_Q].data, d.batch * d.qo_heads * d.dim, ks_hash(seed, 1), 0,
                (float)param_number(p, "q_scale", 1));
    fill_cache(&d, indices, ks_hash(seed, 2), inputs[IN_K].data);
    fill_cache(&d, indices, ks_hash(seed, 3), inputs[IN_V].data);
    *(float *)inputs[IN_SCALE].data = (float)param_number(p, "sm_scale", 1 / sqrt((double)d.dim));
    return 0;
}

/* ---- Reference ---- */

/* Eight doubles; the compiler lowers them to what the machine has. */
typedef double vec8 __attribute__((vector_size(64)));

struct reference {
    struct dims d;
    const uint16_t *q, *k, *v;
    const int32_t *indptr, *indices;
    double scale;
    double *output, *lse;
    int32_t longest;
    atomic_llong next;      /* the next (sequence, KV head) to be taken */
    atomic_bool out_of_mem; /* set by any thread */
};

static void widen_row(const uint16_t *x, int64_t n, double *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)ks_bf16_to_f32(x[i]);
}

static double dot(const double *a, const double *b, int64_t n)
{
    vec8 s = { 0 };
    double sum = 0;

    for (int64_t i = 0; i < n; i += 8) {
        vec8 x, y;

        memcpy(&x, a + i, sizeof(x));
        memcpy(&y, b + i, sizeof(y));
        s += x * y;
    }
    for (int i = 0; i < 8; i++)
        sum += s[i];
    return sum;
}

/* x: [n] logits, replaced by probabilities; returns the log-sum-exp to base 2. */
static double softmax(double *x, int32_t n)
{
    double top = x[0], sum = 0;

    for (int32_t j = 1; j < n; j++)
        top = x[j] > top ? x[j] : top;
    for (int32_t j = 0; j < n; j++)
        sum += x[j] = exp(x[j] - top);
    for (int32_t j = 0; j < n; j++)
        x[j] /= sum;
    return (top + log(sum)) / M_LN2;
}

/*
 * All query heads of one KV head of one sequence. logits: [group][longest]. Each row of K and V is
 * widened once for the whole group.
 */
static void attend(const struct reference *r, int64_t b, int64_t g, double *logits, double *wide)
{
    const struct dims *d = &r->d;
    int64_t group = d->qo_heads / d->kv_heads, first = b * d->qo_heads + g * group;
    int32_t begin = r->indptr[b], n = r->indptr[b + 1] - begin;
    double *row = wide, *q = wide + d->dim, *out = r->output + first * d->dim;

    widen_row(r->q + first * d->dim, group * d->dim, q);
    for (int32_t j = 0; j < n; j++) {
        widen_row(r->k + (r->indices[begin + j] * d->kv_heads + g) * d->dim, d->dim, row);
        for (int64_t h = 0; h < group; h++)
            logits[h * r->longest + j] = r->scale * dot(q + h * d->dim, row, d->dim);
    }
    for (int64_t h = 0; h < group; h++)
        r->lse[first + h] = n ? softmax(logits + h * r->longest, n) : -INFINITY;
    memset(out, 0, (size_t)(group * d->dim) * sizeof(*out));
    for (int32_t j = 0; j < n; j++) {
        widen_row(r->v + (r->indices[begin + j] * d->kv_heads + g) * d->dim, d->dim, row);
        for (int64_t h = 0; h < group; h++) {
            double p = logits[h * r->longest + j], *restrict o = out + h * d->dim;

            for (int64_t i = 0; i < d->dim; i++)
                o[i] += p * row[i];
        }
    }
}

static void *reference_thread(void *arg)
{
    struct reference *r = arg;
    const struct dims *d = &r->d;
    size_t group = (size_t)(d->qo_heads / d->kv_heads), dim = (size_t)d->dim;
    double *logits = malloc(sizeof(double) * group * (size_t)(r->longest + 1));
    double *wide = malloc(sizeof(double) * (group + 1) * dim);
    long long item;

    if (!logits || !wide)
        atomic_store(&r->out_of_mem, true);
    else
        while ((item = atomic_fetch_add(&r->next, 1)) < d->batch * d->kv_heads)
            attend(r, item / d->kv_heads, item % d->kv_heads, logits, wide);
    free(logits);
    free(wide);
    return NULL;
}

static int reference(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size)
{
    struct reference r = { .d = dims_of(p) };
    pthread_t ids[THREADS_MAX];
    int made = 0;

    if (n_inputs != IN_COUNT || n_outputs != OUT_COUNT)
        return fail(why, why_size, "%d inputs and %d outputs were given, %d and %d are needed",
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
    for (int64_t b = 0; b < r.d.batch; b++) {
        int32_t len = r.indptr[b + 1] - r.indptr[b];

        r.longest = len > r.longest ? len : r.longest;
    }
    while (made < threads - 1 && made < THREADS_MAX &&
           pthread_create(&ids[made], NULL, reference_thread, &r) == 0)
        made++;
    reference_thread(&r);
    for (int i = 0; i < made; i++)
        pthread_join(ids[i], NULL);
    if (atomic_load(&r.out_of_mem))
        return fail(why, why_size, "the reference ran out of memory");
    return 0;
}

/* ---- Cost ---- */

/* How many different pages the call refers to; all of them counted twice when memory is out. */
static int64_t distinct_pages(const struct dims *d, const int32_t *indices)
{
    unsigned char *seen = calloc((size_t)d->pages, 1);
    int64_t n = 0;

    if (!seen)
        return d->keys;
    for (int64_t i = 0; i < d->keys; i++) {
        n += !seen[indices[i]];
        seen[indices[i]] = 1;
    }
    free(seen);
    return n;
}

static void cost(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out)
{
    struct dims d = dims_of(p);
    int64_t pages = n_inputs > IN_INDICES ? distinct_pages(&d, inputs[IN_INDICES].data) : d.keys;
    double heads = (double)(d.batch * d.qo_heads);

    out->flops = 4.0 * (double)(d.qo_heads * d.dim) * (double)d.keys;
    out->bytes = 4.0 * (double)(d.kv_heads * d.dim * pages) /* K and V */
                 + heads * (4.0 * (double)d.dim + 4.0)      /* q, output and lse */
                 + 4.0 * (double)(d.batch + 1 + d.keys) + 4.0;
}

static const struct ks_task_module module = { KS_ABI_VERSION, generate, reference, cost };

const struct ks_task_module *ks_task_module(void)
{
    return &module;
}
