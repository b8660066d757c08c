/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Straightforward routed experts: one work item per token, which routes it and runs its local
 * experts one after another, row by row, float accumulation. No grouping of tokens, no blocking, no
 * intrinsics.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ks_task.h"

enum {
    EXPERTS = KS_NUM_EXPERTS,
    LOCAL = KS_NUM_LOCAL_EXPERTS,
    HIDDEN = KS_HIDDEN_SIZE,
    INTER = KS_INTERMEDIATE_SIZE,
    TOP_K = KS_TOP_K,
    GROUPS = KS_N_GROUP,
    KEPT = KS_TOPK_GROUP,
    GROUP_SIZE = EXPERTS / GROUPS,
    BLOCK = KS_BLOCK_SIZE,
    HIDDEN_BLOCKS = HIDDEN / BLOCK,
    INTER_BLOCKS = INTER / BLOCK
};

struct args {
    const float *logits, *xs, *s13, *s2;
    const uint16_t *bias;
    const uint8_t *x, *w13, *w2;
    int tokens, offset;
    float factor;
    uint16_t *output;
    float table[256]; /* the number of each code */
    atomic_int failed;
};

/* The k largest of x[n]; allowed NULL: of all. */
static void largest(const float *x, int n, const bool *allowed, int k, int *out)
{
    bool taken[EXPERTS] = { false };

    for (int i = 0; i < k; i++) {
        int best = -1;

        for (int e = 0; e < n; e++)
            if (!taken[e] && (!allowed || allowed[e]) && (best < 0 || x[e] > x[best]))
                best = e;
        taken[best] = true;
        out[i] = best;
    }
}

/* Chooses TOP_K experts and their weights for one token. */
static void route(const struct args *a, const float *logits, int *chosen, float *weights)
{
    float s[EXPERTS], u[EXPERTS], score[GROUPS], sum = 1e-20f;
    bool allowed[EXPERTS] = { false };
    int groups[GROUPS], best[2];

    for (int e = 0; e < EXPERTS; e++) {
        s[e] = 1 / (1 + expf(-logits[e]));
        u[e] = s[e] + ks_bf16_to_f32(a->bias[e]);
    }
    for (int g = 0; g < GROUPS; g++) {
        largest(u + g * GROUP_SIZE, GROUP_SIZE, NULL, 2, best);
        score[g] = u[g * GROUP_SIZE + best[0]] + u[g * GROUP_SIZE + best[1]];
    }
    largest(score, GROUPS, NULL, KEPT, groups);
    for (int i = 0; i < KEPT; i++)
        for (int e = 0; e < GROUP_SIZE; e++)
            allowed[groups[i] * GROUP_SIZE + e] = true;
    largest(u, EXPERTS, allowed, TOP_K, chosen);
    for (int i = 0; i < TOP_K; i++)
        sum += s[chosen[i]];
    for (int i = 0; i < TOP_K; i++)
        weights[i] = s[chosen[i]] / sum * a->factor;
}

/* Product of a row of codes, one scale for each BLOCK of them, with x. */
static float dot(const struct args *a, const uint8_t *codes, const float *scales, const float *x,
                 int n)
{
    float sum = 0;

    for (int b = 0; b < n / BLOCK; b++) {
        float part = 0;

        for (int i = b * BLOCK; i < (b + 1) * BLOCK; i++)
            part += a->table[codes[i]] * x[i];
        sum += part * scales[b];
    }
    return sum;
}

/* out += weight * (local expert l of x). gated: [INTER] */
static void expert(const struct args *a, int l, float weight, const float *x, float *gated,
                   float *out)
{
    const uint8_t *w13 = a->w13 + (int64_t)l * 2 * INTER * HIDDEN;
    const uint8_t *w2 = a->w2 + (int64_t)l * HIDDEN * INTER;
    const float *s13 = a->s13 + l * 2 * INTER_BLOCKS * HIDDEN_BLOCKS;
    const float *s2 = a->s2 + l * HIDDEN_BLOCKS * INTER_BLOCKS;

    for (int j = 0; j < INTER; j++) {
        int g = INTER + j;
        float up = dot(a, w13 + (int64_t)j * HIDDEN, s13 + j / BLOCK * HIDDEN_BLOCKS, x, HIDDEN);
        float gate = dot(a, w13 + (int64_t)g * HIDDEN, s13 + g / BLOCK * HIDDEN_BLOCKS, x, HIDDEN);

        gated[j] = gate / (1 + expf(-gate)) * up;
    }
    for (int i = 0; i < HIDDEN; i++)
        out[i] +=
            weight * dot(a, w2 + (int64_t)i * INTER, s2 + i / BLOCK * INTER_BLOCKS, gated, INTER);
}

static void token(void *ctx, int t)
{
    struct args *a = ctx;
    int chosen[TOP_K];
    float weights[TOP_K], *x = calloc(2 * HIDDEN + INTER, sizeof(*x));
    float *out = x + HIDDEN, *gated = out + HIDDEN;

    if (!x) {
        atomic_store(&a->failed, 1);
        return;
    }
    route(a, a->logits + (int64_t)t * EXPERTS, chosen, weights);
    for (int i = 0; i < HIDDEN; i++)
        x[i] =
            a->table[a->x[(int64_t)t * HIDDEN + i]] * a->xs[(int64_t)(i / BLOCK) * a->tokens + t];
    for (int i = 0; i < TOP_K; i++) {
        int l = chosen[i] - a->offset;

        if (l >= 0 && l < LOCAL)
            expert(a, l, weights[i], x, gated, out);
    }
    for (int i = 0; i < HIDDEN; i++)
        a->output[(int64_t)t * HIDDEN + i] = ks_f32_to_bf16(out[i]);
    free(x);
}

int ks_kernel(const struct ks_call *call)
{
    struct args a = {
        .logits = call->inputs[0].data,
        .bias = call->inputs[1].data,
        .x = call->inputs[2].data,
        .xs = call->inputs[3].data,
        .w13 = call->inputs[4].data,
        .s13 = call->inputs[5].data,
        .w2 = call->inputs[6].data,
        .s2 = call->inputs[7].data,
        .tokens = (int)call->inputs[0].shape[0],
        .offset = *(const int32_t *)call->inputs[8].data,
        .factor = *(const float *)call->inputs[9].data,
        .output = call->outputs[0].data,
    };

    for (int i = 0; i < 256; i++)
        a.table[i] = ks_e4m3_to_f32((uint8_t)i);
    call->parallel(call->pool, token, &a, a.tokens);
    return atomic_load(&a.failed);
}
