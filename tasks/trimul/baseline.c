/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Straightforward triangle update in two parallel passes over rows of positions: first layer norm
 * and the five projections of each position, then the product over k, the second layer norm and the
 * output projection. Single precision, one dot product after the other; no blocking, no packing, no
 * vectors by hand.
 */
#include <math.h>

#include "ks_task.h"

enum { DIM = KS_DIM, HIDDEN = KS_HIDDEN_DIM };

struct args {
    const float *x, *mask, *norm_weight, *norm_bias;
    const float *left_proj, *right_proj, *left_gate, *right_gate, *out_gate;
    const float *out_norm_weight, *out_norm_bias, *to_out;
    float *left, *right, *gate; /* [bs][seqlen][seqlen][HIDDEN], in the scratch */
    float *output;
    int n;
};

static void layer_norm(const float *x, int n, const float *weight, const float *bias, float *y)
{
    float mean = 0, var = 0, scale;

    for (int i = 0; i < n; i++)
        mean += x[i];
    mean /= (float)n;
    for (int i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    scale = 1 / sqrtf(var / (float)n + 1e-5f);
    for (int i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* left, right and gate of the positions (i, 0..n-1); item counts i over all sequences. */
static void project(void *ctx, int item)
{
    const struct args *a = ctx;

    for (int64_t at = (int64_t)item * a->n; at < ((int64_t)item + 1) * a->n; at++) {
        float x[DIM];

        layer_norm(a->x + at * DIM, DIM, a->norm_weight, a->norm_bias, x);
        for (int h = 0; h < HIDDEN; h++) {
            float left = 0, right = 0, left_gate = 0, right_gate = 0, out_gate = 0;

            for (int d = 0; d < DIM; d++) {
                left += x[d] * a->left_proj[h * DIM + d];
                right += x[d] * a->right_proj[h * DIM + d];
                left_gate += x[d] * a->left_gate[h * DIM + d];
                right_gate += x[d] * a->right_gate[h * DIM + d];
                out_gate += x[d] * a->out_gate[h * DIM + d];
            }
            a->left[at * HIDDEN + h] = left * a->mask[at] * sigmoid(left_gate);
            a->right[at * HIDDEN + h] = right * a->mask[at] * sigmoid(right_gate);
            a->gate[at * HIDDEN + h] = sigmoid(out_gate);
        }
    }
}

/* The outputs of the positions (i, 0..n-1). */
static void combine(void *ctx, int item)
{
    const struct args *a = ctx;
    int64_t n = a->n, first = item / n * n;

    for (int64_t j = 0; j < n; j++) {
        int64_t at = item * n + j;
        float z[HIDDEN] = { 0 }, y[HIDDEN];

        for (int64_t k = 0; k < n; k++)
            for (int h = 0; h < HIDDEN; h++)
                z[h] += a->left[(item * n + k) * HIDDEN + h] *
                        a->right[((first + j) * n + k) * HIDDEN + h];
        layer_norm(z, HIDDEN, a->out_norm_weight, a->out_norm_bias, y);
        for (int h = 0; h < HIDDEN; h++)
            y[h] *= a->gate[at * HIDDEN + h];
        for (int d = 0; d < DIM; d++) {
            float sum = 0;

            for (int h = 0; h < HIDDEN; h++)
                sum += y[h] * a->to_out[d * HIDDEN + h];
            a->output[at * DIM + d] = sum;
        }
    }
}

int ks_kernel(const struct ks_call *call)
{
    int64_t bs = call->inputs[0].shape[0], n = call->inputs[0].shape[1];
    int64_t size = bs * n * n * HIDDEN;
    struct args a = {
        .x = call->inputs[0].data,
        .mask = call->inputs[1].data,
        .norm_weight = call->inputs[2].data,
        .norm_bias = call->inputs[3].data,
        .left_proj = call->inputs[4].data,
        .right_proj = call->inputs[5].data,
        .left_gate = call->inputs[6].data,
        .right_gate = call->inputs[7].data,
        .out_gate = call->inputs[8].data,
        .out_norm_weight = call->inputs[9].data,
        .out_norm_bias = call->inputs[10].data,
        .to_out = call->inputs[11].data,
        .left = call->scratch,
        .right = (float *)call->scratch + size,
        .gate = (float *)call->scratch + 2 * size,
        .output = call->outputs[0].data,
        .n = (int)n,
    };

    if (call->scratch_bytes < 3 * sizeof(float) * (size_t)size)
        return 1;
    call->parallel(call->pool, project, &a, (int)(bs * n));
    call->parallel(call->pool, combine, &a, (int)(bs * n));
    return 0;
}
