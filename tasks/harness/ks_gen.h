/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers for task modules (the trusted side): sentences for what went wrong, parameters of a
 * workload, normal numbers, the paged cache of the attention families, threads for a reference,
 * and ks_real, the type that references compute in. All static inline; a module includes what it
 * needs with one line and stays one source. Thread: any, unless said.
 */
#ifndef KS_GEN_H
#define KS_GEN_H

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#include "ks_task.h"

/*
 * What a reference computes in: double in evaluations. `task check` builds the module again with
 * -DKS_REAL=... in a wider type, to see that double is enough, and in float, to see how far honest
 * single precision strays. With <tgmath.h> exp, log and sqrt follow the type.
 */
#ifndef KS_REAL
#define KS_REAL double
#endif
typedef KS_REAL ks_real;

/* Writes the sentence into `why` and returns -1. */
static inline int ks_fail(char *why, size_t why_size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static inline int ks_fail(char *why, size_t why_size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, why_size, fmt, ap);
    va_end(ap);
    return -1;
}

/* A parameter that is one number. */
static inline double ks_param_number(const struct ks_problem *p, const char *name, double fallback)
{
    const struct ks_param *q = ks_param_find(p, name);

    return q && !q->text && q->n == 1 ? q->values[0] : fallback;
}

/* A parameter that is a text. */
static inline const char *ks_param_text(const struct ks_problem *p, const char *name,
                                        const char *fallback)
{
    const struct ks_param *q = ks_param_find(p, name);

    return q && q->text ? q->text : fallback;
}

static inline int64_t ks_problem_axis(const struct ks_problem *p, const char *name,
                                      int64_t fallback)
{
    return ks_axis_value(p->axes, p->n_axes, name, fallback);
}

/* ---- Normal numbers ---- */

enum { KS_QUANTILES = 65536 };

/* Inverse of the upper normal tail Q(x) = erfc(x / sqrt 2) / 2 by Newton's method, which converges
 * from below on the convex side, x >= 0. */
static inline double ks_normal_quantile(double upper)
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

static float ks_normal_values[KS_QUANTILES] __attribute__((unused));
static pthread_once_t ks_normal_once __attribute__((unused)) = PTHREAD_ONCE_INIT;

static inline void ks_normal_fill_table(void)
{
    for (int i = 0; i < KS_QUANTILES / 2; i++) {
        float x = (float)ks_normal_quantile((i + 0.5) / KS_QUANTILES);

        ks_normal_values[KS_QUANTILES - 1 - i] = x;
        ks_normal_values[i] = -x;
    }
}

/*
 * 65,536 equally likely values of the standard normal distribution in ascending order; one hash
 * picks four: element i of a tensor is table[ks_hash(seed, i / 4) >> 16 * (i % 4) & 0xffff].
 */
static inline const float *ks_normal_table(void)
{
    pthread_once(&ks_normal_once, ks_normal_fill_table);
    return ks_normal_values;
}

static inline float ks_normal(uint64_t seed, uint64_t i)
{
    return ks_normal_table()[ks_hash(seed, i / 4) >> (16 * (i % 4)) & (KS_QUANTILES - 1)];
}

/* n elements whose place in the tensor starts at `first`, times `scale`, rounded once. */
static inline void ks_fill_normal_bf16(uint16_t *out, int64_t n, uint64_t seed, uint64_t first,
                                       float scale)
{
    const float *table = ks_normal_table();
    uint64_t z = 0;

    for (int64_t i = 0; i < n; i++) {
        uint64_t at = first + (uint64_t)i;

        if (i == 0 || at % 4 == 0)
            z = ks_hash(seed, at / 4);
        out[i] = ks_f32_to_bf16(table[z >> (16 * (at % 4)) & (KS_QUANTILES - 1)] * scale);
    }
}

static inline void ks_fill_normal_f32(float *out, int64_t n, uint64_t seed, float scale)
{
    const float *table = ks_normal_table();
    uint64_t z = 0;

    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            z = ks_hash(seed, (uint64_t)i / 4);
        out[i] = table[z >> (16 * (i % 4)) & (KS_QUANTILES - 1)] * scale;
    }
}

/* ---- Paged caches: one token a page ---- */

enum { KS_FIRST_PAGE = 5 };
#define KS_BF16_NAN 0x7fc1

/*
 * CSR pointer of [batch + 1] from the parameter `name`, the sequences' lengths, which must add up
 * to `total` (the value of the axis `axis`).
 */
static inline int ks_fill_indptr(const struct ks_problem *p, const char *name, const char *axis,
                                 int64_t batch, int64_t total, int32_t *indptr, char *why,
                                 size_t why_size)
{
    const struct ks_param *lens = ks_param_find(p, name);
    double sum = 0;

    if (!lens || lens->text || (int64_t)lens->n != batch)
        return ks_fail(why, why_size, "params.%s must hold %lld lengths, one a sequence", name,
                       (long long)batch);
    indptr[0] = 0;
    for (size_t b = 0; b < lens->n; b++) {
        double len = lens->values[b];

        if (!(len >= 0) || len != floor(len) || sum + len > INT32_MAX)
            return ks_fail(why, why_size, "params.%s[%zu] is %g, it must be a length >= 0", name, b,
                           len);
        sum += len;
        indptr[b + 1] = (int32_t)sum;
    }
    if ((int64_t)sum != total)
        return ks_fail(why, why_size, "params.%s add up to %lld, %s is %lld", name, (long long)sum,
                       axis, (long long)total);
    return 0;
}

/* ids: [pages] page numbers in a random order. */
static inline void ks_shuffle(int32_t *ids, int64_t pages, uint64_t seed)
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
static inline void ks_pages_strided(int64_t batch, const int32_t *indptr, int32_t first,
                                    int32_t *indices)
{
    int32_t next = first, keys = indptr[batch];

    for (int32_t round = 0; next - first < keys; round++)
        for (int64_t b = 0; b < batch; b++)
            if (round < indptr[b + 1] - indptr[b])
                indices[indptr[b] + round] = next++;
}

/* All sequences begin with the same `shared` pages; every other position has a page of its own. */
static inline int ks_pages_shared(int64_t batch, int64_t pages, const int32_t *indptr,
                                  const int32_t *ids, int32_t shared, int32_t *indices)
{
    int64_t next = shared;

    for (int64_t b = 0; b < batch; b++) {
        int32_t len = indptr[b + 1] - indptr[b];

        for (int32_t j = 0; j < len; j++) {
            if (j >= shared && next >= pages)
                return -1;
            indices[indptr[b] + j] = j < shared ? ids[j] : ids[next++];
        }
    }
    return 0;
}

/*
 * indices: [indptr[batch]] page ids by the parameter page_pattern: permuted (no page twice, the
 * default), contiguous, strided (a server decoding in step), shared (all sequences begin with the
 * same `shared_pages` pages, 1 unless given), aliased (position j of every sequence is the same
 * page).
 */
static inline int ks_fill_pages(const struct ks_problem *p, int64_t batch, int64_t pages,
                                const int32_t *indptr, uint64_t seed, int32_t *indices, char *why,
                                size_t why_size)
{
    const char *pattern = ks_param_text(p, "page_pattern", "permuted");
    bool shared = strcmp(pattern, "shared") == 0, aliased = strcmp(pattern, "aliased") == 0;
    int64_t prefix = shared ? (int64_t)ks_param_number(p, "shared_pages", 1) : aliased ? pages : 0;
    int64_t keys = indptr[batch], spare = pages - keys;
    int32_t first = (int32_t)(spare < KS_FIRST_PAGE ? spare : KS_FIRST_PAGE);
    int32_t *ids = NULL;
    int rc = 0;

    if (prefix < 0 || prefix > pages)
        return ks_fail(why, why_size, "params.shared_pages is %lld, num_pages is %lld",
                       (long long)prefix, (long long)pages);
    for (int64_t b = 0; aliased && b < batch; b++)
        if (indptr[b + 1] - indptr[b] > pages)
            return ks_fail(why, why_size, "num_pages is %lld, too few for params.kv_lens",
                           (long long)pages);
    if (!shared && !aliased && spare < 0)
        return ks_fail(why, why_size, "num_pages is %lld, fewer than the %lld pages in use",
                       (long long)pages, (long long)keys);
    if (strcmp(pattern, "contiguous") == 0) {
        for (int64_t i = 0; i < keys; i++)
            indices[i] = first + (int32_t)i;
        return 0;
    }
    if (strcmp(pattern, "strided") == 0) {
        ks_pages_strided(batch, indptr, first, indices);
        return 0;
    }
    if (!shared && !aliased && strcmp(pattern, "permuted") != 0)
        return ks_fail(why, why_size,
                       "params.page_pattern is '%s', allowed are aliased, contiguous, permuted, "
                       "shared and strided",
                       pattern);
    ids = malloc((size_t)pages * sizeof(*ids));
    if (!ids)
        return ks_fail(why, why_size, "out of memory");
    ks_shuffle(ids, pages, seed);
    if (ks_pages_shared(batch, pages, indptr, ids, (int32_t)prefix, indices) != 0)
        rc = ks_fail(why, why_size, "num_pages is %lld, too few for params.kv_lens",
                     (long long)pages);
    free(ids);
    return rc;
}

/* cache: [pages][row] bf16: normal values times `scale` in the pages that are referenced, NaN in
 * all others. */
static inline void ks_fill_cache_bf16(int64_t pages, int64_t row, const int32_t *indices,
                                      int64_t keys, uint64_t seed, float scale, uint16_t *cache)
{
    for (int64_t i = 0; i < pages * row; i++)
        cache[i] = KS_BF16_NAN;
    for (int64_t i = 0; i < keys; i++) {
        uint16_t *page = cache + indices[i] * row;

        if (page[0] == KS_BF16_NAN) /* a shared page is filled once */
            ks_fill_normal_bf16(page, row, seed, (uint64_t)(indices[i] * row), scale);
    }
}

/* How many different pages the call refers to; each reference counts when memory is out. */
static inline int64_t ks_distinct_pages(int64_t pages, const int32_t *indices, int64_t keys)
{
    unsigned char *seen = calloc((size_t)pages, 1);
    int64_t n = 0;

    if (!seen)
        return keys;
    for (int64_t i = 0; i < keys; i++) {
        n += !seen[indices[i]];
        seen[indices[i]] = 1;
    }
    free(seen);
    return n;
}

/* ---- References ---- */

/* x: [n] logits, replaced by probabilities; returns the log-sum-exp to base 2. n >= 1. */
static inline ks_real ks_softmax(ks_real *x, int64_t n)
{
    ks_real top = x[0], sum = 0;

    for (int64_t j = 1; j < n; j++)
        top = x[j] > top ? x[j] : top;
    for (int64_t j = 0; j < n; j++)
        sum += x[j] = exp(x[j] - top);
    for (int64_t j = 0; j < n; j++)
        x[j] /= sum;
    return (top + log(sum)) / (ks_real)0.693147180559945309417232121458176568L;
}

enum { KS_THREADS_MAX = 64 };

struct ks_items {
    int (*fn)(void *ctx, int64_t item);
    void *ctx;
    int64_t n;
    atomic_llong next;
    atomic_int failed;
};

static inline void *ks_items_thread(void *arg)
{
    struct ks_items *w = arg;
    long long i;

    while (!atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next, 1)) < w->n)
        if (w->fn(w->ctx, i) != 0)
            atomic_store(&w->failed, 1);
    return NULL;
}

/* fn(ctx, i) for all i in [0, n) on up to `threads` threads, joined before it returns. -1 when any
 * of them returned other than 0. */
static inline int ks_for_items(int threads, int64_t n, int (*fn)(void *ctx, int64_t item),
                               void *ctx)
{
    struct ks_items w = { .fn = fn, .ctx = ctx, .n = n };
    pthread_t ids[KS_THREADS_MAX];
    int made = 0;

    while (made < threads - 1 && made < KS_THREADS_MAX && made + 1 < n &&
           pthread_create(&ids[made], NULL, ks_items_thread, &w) == 0)
        made++;
    ks_items_thread(&w);
    for (int i = 0; i < made; i++)
        pthread_join(ids[i], NULL);
    return atomic_load(&w.failed) ? -1 : 0;
}

#endif
