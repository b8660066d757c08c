/* SPDX-License-Identifier: Apache-2.0 */
/* vector_add, the baseline: the formula as it is written, one element after another, on one thread.
 */
#include "ks_task.h"

int ks_kernel(const struct ks_call *call)
{
    int64_t n = ks_axis_value(call->axes, call->n_axes, "n", 0);
    const float *x = call->inputs[0].data, *y = call->inputs[1].data;
    const float *alpha = call->inputs[2].data;
    float *z = call->outputs[0].data;

    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < KS_LANES; l++)
            z[i * KS_LANES + l] = alpha[l] * x[i * KS_LANES + l] + y[i * KS_LANES + l];
    return 0;
}
