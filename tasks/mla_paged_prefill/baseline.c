/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Straightforward causal prefill: one work item per (query token, head), softmax in two passes over
 * the row of visible logits, float accumulation. No tiling, no sharing of latent rows between heads
 * or queries, no intrinsics.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ks_task.h"

enum { HEADS = KS_NUM_QO_HEADS, CKV = KS_HEAD_DIM_CKV, KPE = KS_HEAD_DIM_KPE };

struct args {
    const uint16_t *q_nope, *q_pe, *ckv, *kpe;
    const int32_t *qo_indptr, *kv_indptr, *indices;
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

static void logits(const struct args *a, int64_t row, const int32_t *pages, int n, float *x)
{
    const uint16_t *q = a->q_nope + row * CKV, *r = a->q_pe + row * KPE;

    for (int j = 0; j < n; j++) {
        const uint16_t *k = a->ckv + (int64_t)pages[j] * CKV, *e = a->kpe + (int64_t)pages[j] * KPE;
        float s = 0;

        for (int i = 0; i < CKV; i++)
            s += ks_bf16_to_f32(q[i]) * ks_bf16_to_f32(k[i]);
        for (int i = 0; i < KPE; i++)
            s += ks_bf16_to_f32(r[i]) * ks_bf16_to_f32(e[i]);
        x[j] = s * a->scale;
    }
}

/* The row-th (query token, head). */
static void attend(void *ctx, int row)
{
    struct args *a = ctx;
    int t = row / HEADS, b = 0, n;
    const int32_t *pages;
    float acc[CKV] = { 0 }, top, sum, *x;

    while (a->qo_indptr[b + 1] <= t)
        b++;
    pages = a->indices + a->kv_indptr[b];
    n = a->kv_indptr[b + 1] - a->kv_indptr[b] - (a->qo_indptr[b + 1] - t) + 1;
    x = malloc(sizeof(float) * ((size_t)n + 1));
    if (!x) {
        atomic_store(&a->failed, 1);
        return;
    }
    logits(a, row, pages, n, x);
    sum = softmax(x, n, &top);
    for (int j = 0; j < n; j++) {
        const uint16_t *v = a->ckv + (int64_t)pages[j] * CKV;

        for (int i = 0; i < CKV; i++)
            acc[i] += x[j] * ks_bf16_to_f32(v[i]);
    }
    for (int i = 0; i < CKV; i++)
        a->output[(int64_t)row * CKV + i] = ks_f32_to_bf16(acc[i] / sum);
    a->lse[row] = top * (float)M_LOG2E + log2f(sum);
    free(x);
}

int ks_kernel(const struct ks_call *call)
{
    struct args a = {
        .q_nope = call->inputs[0].data,
        .q_pe = call->inputs[1].data,
        .ckv = call->inputs[2].data,
        .kpe = call->inputs[3].data,
        .qo_indptr = call->inputs[4].data,
        .kv_indptr = call->inputs[5].data,
        .indices = call->inputs[6].data,
        .scale = *(const float *)call->inputs[7].data,
        .output = call->outputs[0].data,
        .lse = call->outputs[1].data,
    };

    call->parallel(call->pool, attend, &a, (int)call->inputs[0].shape[0] * HEADS);
    return atomic_load(&a.failed);
}
