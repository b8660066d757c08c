/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Straightforward latent decode: one work item per (sequence, query head), softmax in two passes
 * over a row of logits, float accumulation. No tiling, no sharing of rows between heads, no
 * intrinsics.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ks_task.h"

enum { HEADS = KS_NUM_QO_HEADS, CKV = KS_HEAD_DIM_CKV, KPE = KS_HEAD_DIM_KPE };

struct args {
    const uint16_t *q_nope, *q_pe, *ckv, *kpe;
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

static float dot(const uint16_t *a, const uint16_t *b, int n)
{
    float s = 0;

    for (int i = 0; i < n; i++)
        s += ks_bf16_to_f32(a[i]) * ks_bf16_to_f32(b[i]);
    return s;
}

/* The item-th (sequence, query head). */
static void attend(void *ctx, int item)
{
    struct args *a = ctx;
    int b = item / HEADS, n = a->indptr[b + 1] - a->indptr[b];
    const int32_t *pages = a->indices + a->indptr[b];
    const uint16_t *q_nope = a->q_nope + (int64_t)item * CKV;
    const uint16_t *q_pe = a->q_pe + (int64_t)item * KPE;
    float acc[CKV] = { 0 }, top, sum, *x = malloc(sizeof(float) * ((size_t)n + 1));

    if (!x) {
        atomic_store(&a->failed, 1);
        return;
    }
    for (int j = 0; j < n; j++)
        x[j] = a->scale * (dot(q_nope, a->ckv + (int64_t)pages[j] * CKV, CKV) +
                           dot(q_pe, a->kpe + (int64_t)pages[j] * KPE, KPE));
    sum = softmax(x, n, &top);
    for (int j = 0; j < n; j++) {
        const uint16_t *v = a->ckv + (int64_t)pages[j] * CKV;

        for (int i = 0; i < CKV; i++)
            acc[i] += x[j] * ks_bf16_to_f32(v[i]);
    }
    for (int i = 0; i < CKV; i++)
        a->output[(int64_t)item * CKV + i] = ks_f32_to_bf16(n ? acc[i] / sum : 0);
    a->lse[item] = n ? top * (float)M_LOG2E + log2f(sum) : -INFINITY;
    free(x);
}

int ks_kernel(const struct ks_call *call)
{
    struct args a = {
        .q_nope = call->inputs[0].data,
        .q_pe = call->inputs[1].data,
        .ckv = call->inputs[2].data,
        .kpe = call->inputs[3].data,
        .indptr = call->inputs[4].data,
        .indices = call->inputs[5].data,
        .scale = *(const float *)call->inputs[6].data,
        .output = call->outputs[0].data,
        .lse = call->outputs[1].data,
    };

    call->parallel(call->pool, attend, &a, (int)call->inputs[0].shape[0] * HEADS);
    return atomic_load(&a.failed);
}
