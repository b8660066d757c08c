/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Straightforward paged decode: one work item per (sequence, query head), softmax in two passes
 * over a row of logits, float accumulation. No tiling, no sharing of K and V between heads, no
 * intrinsics.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ks_task.h"

enum { HEADS = KS_NUM_QO_HEADS, KV_HEADS = KS_NUM_KV_HEADS, DIM = KS_HEAD_DIM };

struct args {
    const uint16_t *q, *k, *v;
    const int32_t *indptr, *indices;
    float scale;
    uint16_t *output;
    float *lse;
    atomic_int failed;
};

/* x: [n] logits, replaced by exp(x - max). Returns the sum; *top is the maximum. */
static float softmax(float *x, int n, float *top)
{
    float m = -INFINITY, sum = 0;

    for (int j = 0; j < n; j++)
        m = x[j] > m ? x[j] : m;
    for (int j = 0; j < n; j++) {
        x[j] = expf(x[j] - m);
        sum += x[j];
    }
    *top = m;
    return sum;
}

static void logits(const struct args *a, const uint16_t *q, const int32_t *pages, int n, int g,
                   float *x)
{
    for (int j = 0; j < n; j++) {
        const uint16_t *k = a->k + ((int64_t)pages[j] * KV_HEADS + g) * DIM;
        float s = 0;

        for (int i = 0; i < DIM; i++)
            s += ks_bf16_to_f32(q[i]) * ks_bf16_to_f32(k[i]);
        x[j] = s * a->scale;
    }
}

/* The item-th (sequence, query head). */
static void attend(void *ctx, int item)
{
    struct args *a = ctx;
    int b = item / HEADS, h = item % HEADS, g = h / (HEADS / KV_HEADS);
    int n = a->indptr[b + 1] - a->indptr[b];
    const int32_t *pages = a->indices + a->indptr[b];
    float acc[DIM] = { 0 }, top, sum, *x = malloc(sizeof(float) * ((size_t)n + 1));

    if (!x) {
        atomic_store(&a->failed, 1);
        return;
    }
    logits(a, a->q + (int64_t)item * DIM, pages, n, g, x);
    sum = softmax(x, n, &top);
    for (int j = 0; j < n; j++) {
        const uint16_t *v = a->v + ((int64_t)pages[j] * KV_HEADS + g) * DIM;

        for (int i = 0; i < DIM; i++)
            acc[i] += x[j] * ks_bf16_to_f32(v[i]);
    }
    for (int i = 0; i < DIM; i++)
        a->output[(int64_t)item * DIM + i] = ks_f32_to_bf16(n ? acc[i] / sum : 0);
    a->lse[item] = n ? top * (float)M_LOG2E + log2f(sum) : -INFINITY;
    free(x);
}

int ks_kernel(const struct ks_call *call)
{
    struct args a = {
        .q = call->inputs[0].data,
        .k = call->inputs[1].data,
        .v = call->inputs[2].data,
        .indptr = call->inputs[3].data,
        .indices = call->inputs[4].data,
        .scale = *(const float *)call->inputs[5].data,
        .output = call->outputs[0].data,
        .lse = call->outputs[1].data,
    };

    call->parallel(call->pool, attend, &a, (int)call->inputs[0].shape[0] * HEADS);
    return atomic_load(&a.failed);
}
