/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vector_add, the trusted module: inputs, reference, cost. z[i][l] = alpha[l] x[i][l] + y[i][l].
 * A workload may have the parameter "scale": the largest magnitude of x (1 when it is absent).
 */
#include "ks_gen.h"

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    int64_t n = ks_axis_value(p->axes, p->n_axes, "n", -1);
    int64_t lanes = ks_axis_value(p->axes, p->n_axes, "lanes", -1);
    const struct ks_param *scale = ks_param_find(p, "scale");
    float *x, *y, *alpha;

    if (n_inputs != 3 || n < 1 || lanes < 1)
        return ks_fail(why, why_size, "n is %lld and lanes is %lld; both have to be at least 1",
                       (long long)n, (long long)lanes);
    x = inputs[0].data;
    y = inputs[1].data;
    alpha = inputs[2].data;
    for (int64_t i = 0; i < n * lanes; i++) {
        x[i] = ks_uniform(seed, (uint64_t)i) * (scale ? (float)scale->values[0] : 1.0f);
        y[i] = ks_uniform(seed ^ 0x79, (uint64_t)i);
    }
    for (int64_t l = 0; l < lanes; l++)
        alpha[l] = 1.0f + ks_uniform(seed ^ 0x61, (uint64_t)l);
    return 0;
}

static int reference(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size)
{
    int64_t n = ks_axis_value(p->axes, p->n_axes, "n", -1);
    int64_t lanes = ks_axis_value(p->axes, p->n_axes, "lanes", -1);
    const float *x = inputs[0].data, *y = inputs[1].data, *alpha = inputs[2].data;

    (void)n_inputs, (void)n_outputs, (void)threads, (void)why, (void)why_size;
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < lanes; l++)
            expected[0][i * lanes + l] =
                (double)((ks_real)alpha[l] * (ks_real)x[i * lanes + l] + (ks_real)y[i * lanes + l]);
    return 0;
}

/* x and y are read once, z is written once; a multiply-add per element. */
static void cost(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out)
{
    double elements = (double)ks_axis_value(p->axes, p->n_axes, "n", 0) *
                      (double)ks_axis_value(p->axes, p->n_axes, "lanes", 0);

    (void)inputs, (void)n_inputs;
    out->flops = 2 * elements;
    out->bytes = 3 * elements * sizeof(float);
}

const struct ks_task_module *ks_task_module(void)
{
    static const struct ks_task_module module = { .abi = KS_ABI_VERSION,
                                                  .generate = generate,
                                                  .reference = reference,
                                                  .cost = cost,
                                                  .real_bytes = sizeof(ks_real) };

    return &module;
}
