/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted module of trimul: makes activations, mask and weights of a workload from a seed, computes
 * the triangle multiplicative update, and states what any correct kernel must compute and move. The
 * formula and the parameters of a workload stand in README.md.
 * Thread: any; the reference makes up to `threads - 1` threads and joins them before it returns.
 */
#include "ks_gen.h"

enum {
    IN_X,
    IN_MASK,
    IN_NORM_WEIGHT,
    IN_NORM_BIAS,
    IN_LEFT_PROJ,
    IN_RIGHT_PROJ,
    IN_LEFT_GATE,
    IN_RIGHT_GATE,
    IN_OUT_GATE,
    IN_OUT_NORM_WEIGHT,
    IN_OUT_NORM_BIAS,
    IN_TO_OUT,
    IN_COUNT
};
enum { DIM_MAX = 4096, HIDDEN_MAX = 1024 };

/* The axes of one call. */
struct dims {
    int64_t batch, n, dim, hidden;
};

static struct dims dims_of(const struct ks_problem *p)
{
    return (struct dims){
        .batch = ks_problem_axis(p, "bs", 0),
        .n = ks_problem_axis(p, "seqlen", 0),
        .dim = ks_problem_axis(p, "dim", 128),
        .hidden = ks_problem_axis(p, "hidden_dim", 128),
    };
}

static int dims_check(const struct dims *d, char *why, size_t why_size)
{
    if (d->batch < 1 || d->n < 1)
        return ks_fail(why, why_size, "bs and seqlen must be at least 1");
    if (d->dim < 8 || d->dim > DIM_MAX || d->dim % 8 != 0)
        return ks_fail(why, why_size, "dim is %lld, allowed are multiples of 8 up to %d",
                       (long long)d->dim, DIM_MAX);
    if (d->hidden < 8 || d->hidden > HIDDEN_MAX || d->hidden % 8 != 0)
        return ks_fail(why, why_size, "hidden_dim is %lld, allowed are multiples of 8 up to %d",
                       (long long)d->hidden, HIDDEN_MAX);
    return 0;
}

/* ---- Inputs ---- */

/* Uniform in (0, 1). */
static double unit(uint64_t seed, uint64_t i)
{
    return ((double)(ks_hash(seed, i) >> 11) + 0.5) * 0x1p-53;
}

/* Location 0, scale 2: its largest values are far from all others. */
static float cauchy(uint64_t seed, uint64_t i)
{
    return (float)(2 * tan(M_PI * (unit(seed, i) - 0.5)));
}

static int fill_activations(const struct ks_problem *p, const struct dims *d, uint64_t seed,
                            float *x, char *why, size_t why_size)
{
    const char *kind = ks_param_text(p, "distribution", "normal");
    int64_t rows = d->batch * d->n * d->n, count = rows * d->dim;

    if (strcmp(kind, "normal") == 0) {
        ks_fill_normal_f32(x, count, seed, 1);
    } else if (strcmp(kind, "cauchy") == 0) {
        for (int64_t i = 0; i < count; i++)
            x[i] = cauchy(seed, (uint64_t)i);
    } else if (strcmp(kind, "constant_rows") == 0) {
        for (int64_t i = 0; i < count; i++)
            x[i] = ks_normal(seed, (uint64_t)(i / d->dim));
    } else {
        return ks_fail(why, why_size,
                       "params.distribution is '%s', allowed are cauchy, constant_rows and normal",
                       kind);
    }
    return 0;
}

enum mask_kind { MASK_ONES, MASK_ZEROS, MASK_RANDOM, MASK_FRACTIONAL, MASK_UPPER, MASK_COUNT };

static const char *const mask_names[MASK_COUNT] = { "ones", "zeros", "random", "fractional",
                                                    "upper" };

static float mask_value(enum mask_kind kind, uint64_t seed, int64_t n, int64_t i)
{
    switch (kind) {
    case MASK_ONES:
        return 1;
    case MASK_RANDOM:
        return (float)(ks_hash(seed, (uint64_t)i) >> 63);
    case MASK_FRACTIONAL:
        return (float)unit(seed, (uint64_t)i);
    case MASK_UPPER:
        return i / n % n <= i % n ? 1 : 0;
    case MASK_ZEROS:
    case MASK_COUNT:
        break;
    }
    return 0;
}

static int fill_mask(const struct ks_problem *p, const struct dims *d, uint64_t seed, float *mask,
                     char *why, size_t why_size)
{
    const char *name = ks_param_text(p, "mask", "random");
    int kind = 0;

    while (kind < MASK_COUNT && strcmp(mask_names[kind], name) != 0)
        kind++;
    if (kind == MASK_COUNT)
        return ks_fail(why, why_size,
                       "params.mask is '%s', allowed are fractional, ones, random, upper and zeros",
                       name);
    for (int64_t i = 0; i < d->batch * d->n * d->n; i++)
        mask[i] = mask_value((enum mask_kind)kind, seed, d->n, i);
    return 0;
}

/* Matrices are scaled by the root of their fan-in, so that projections of unit rows stay of order
 * 1. */
static void fill_weights(const struct dims *d, uint64_t seed, const struct ks_tensor *inputs)
{
    for (int i = IN_NORM_WEIGHT; i < IN_COUNT; i++) {
        int64_t rows = inputs[i].rank == 2 ? inputs[i].shape[0] : 1;
        int64_t fan_in = inputs[i].rank == 2 ? i == IN_TO_OUT ? d->hidden : d->dim : 1;
        int64_t count = inputs[i].rank == 2 ? rows * fan_in : inputs[i].shape[0];

        ks_fill_normal_f32(inputs[i].data, count, ks_hash(seed, (uint64_t)i),
                           (float)(1 / sqrt((double)fan_in)));
    }
}

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    struct dims d = dims_of(p);

    if (n_inputs != IN_COUNT)
        return ks_fail(why, why_size, "%d inputs were given, %d are needed", n_inputs, IN_COUNT);
    if (dims_check(&d, why, why_size) != 0 ||
        fill_activations(p, &d, ks_hash(seed, IN_X), inputs[IN_X].data, why, why_size) != 0 ||
        fill_mask(p, &d, ks_hash(seed, IN_MASK), inputs[IN_MASK].data, why, why_size) != 0)
        return -1;
    fill_weights(&d, seed, inputs);
    return 0;
}

/* ---- Reference ---- */

struct reference {
    struct dims d;
    const float *in[IN_COUNT];
    ks_real *weights[IN_COUNT];   /* widened, [columns of the input][rows]: see widen_weights */
    ks_real *left, *right, *gate; /* [batch][n][n][hidden] */
    double *output;
};

/* x: [n], replaced by its layer norm. */
static void layer_norm(ks_real *x, int64_t n, const float *weight, const float *bias)
{
    ks_real mean = 0, var = 0, scale;

    for (int64_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (ks_real)n;
    for (int64_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    scale = 1 / sqrt(var / (ks_real)n + (ks_real)1e-5L);
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) * scale * (ks_real)weight[i] + (ks_real)bias[i];
}

static ks_real sigmoid(ks_real x)
{
    return 1 / (1 + exp(-x));
}

/* y[r] = sum over c of w[c][r] x[c]. */
static void multiply(const ks_real *restrict w, const ks_real *x, int64_t rows, int64_t columns,
                     ks_real *restrict y)
{
    for (int64_t r = 0; r < rows; r++)
        y[r] = 0;
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            y[r] += w[c * rows + r] * x[c];
}

/* The projections of all positions (i, k) of one i of one sequence. */
static int project_item(void *ctx, int64_t item)
{
    const struct reference *r = ctx;
    int64_t dim = r->d.dim, h = r->d.hidden;
    ks_real *x = malloc(sizeof(ks_real) * (size_t)(dim + 2 * h)), *value = x + dim,
            *gate = value + h;

    if (!x)
        return -1;
    for (int64_t at = item * r->d.n; at < (item + 1) * r->d.n; at++) {
        ks_real mask = (ks_real)r->in[IN_MASK][at];

        for (int64_t c = 0; c < dim; c++)
            x[c] = (ks_real)r->in[IN_X][at * dim + c];
        layer_norm(x, dim, r->in[IN_NORM_WEIGHT], r->in[IN_NORM_BIAS]);
        for (int side = 0; side < 2; side++) {
            ks_real *out = (side ? r->right : r->left) + at * h;

            multiply(r->weights[IN_LEFT_PROJ + side], x, h, dim, value);
            multiply(r->weights[IN_LEFT_GATE + side], x, h, dim, gate);
            for (int64_t c = 0; c < h; c++)
                out[c] = value[c] * mask * sigmoid(gate[c]);
        }
        multiply(r->weights[IN_OUT_GATE], x, h, dim, gate);
        for (int64_t c = 0; c < h; c++)
            r->gate[at * h + c] = sigmoid(gate[c]);
    }
    free(x);
    return 0;
}

/* The outputs of all positions (i, j) of one i of one sequence. */
static int output_item(void *ctx, int64_t item)
{
    const struct reference *r = ctx;
    int64_t n = r->d.n, dim = r->d.dim, h = r->d.hidden, first = item / n * n;
    ks_real *z = malloc(sizeof(ks_real) * (size_t)(h + dim)), *y = z + h;

    if (!z)
        return -1;
    for (int64_t j = 0; j < n; j++) {
        int64_t at = item * n + j;

        for (int64_t c = 0; c < h; c++)
            z[c] = 0;
        for (int64_t k = 0; k < n; k++) {
            const ks_real *a = r->left + (item * n + k) * h;
            const ks_real *b = r->right + ((first + j) * n + k) * h;

            for (int64_t c = 0; c < h; c++)
                z[c] += a[c] * b[c];
        }
        layer_norm(z, h, r->in[IN_OUT_NORM_WEIGHT], r->in[IN_OUT_NORM_BIAS]);
        for (int64_t c = 0; c < h; c++)
            z[c] *= r->gate[at * h + c];
        multiply(r->weights[IN_TO_OUT], z, dim, h, y);
        for (int64_t c = 0; c < dim; c++)
            r->output[at * dim + c] = (double)y[c];
    }
    free(z);
    return 0;
}

/* Matrices [rows][columns] become [columns][rows], so that products run over contiguous rows. */
static void widen_weights(struct reference *r, ks_real *memory)
{
    for (int i = IN_LEFT_PROJ; i < IN_COUNT; i++) {
        int64_t rows = i == IN_TO_OUT ? r->d.dim : r->d.hidden;
        int64_t columns = i == IN_TO_OUT ? r->d.hidden : r->d.dim;

        if (i == IN_OUT_NORM_WEIGHT || i == IN_OUT_NORM_BIAS)
            continue;
        r->weights[i] = memory;
        memory += rows * columns;
        for (int64_t a = 0; a < rows; a++)
            for (int64_t b = 0; b < columns; b++)
                r->weights[i][b * rows + a] = (ks_real)r->in[i][a * columns + b];
    }
}

static int reference(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size)
{
    struct reference r = { .d = dims_of(p) };
    size_t positions, weights;
    ks_real *memory;
    int rc;

    if (n_inputs != IN_COUNT || n_outputs != 1)
        return ks_fail(why, why_size, "%d inputs and %d outputs were given, %d and 1 are needed",
                       n_inputs, n_outputs, IN_COUNT);
    if (dims_check(&r.d, why, why_size) != 0)
        return -1;
    positions = (size_t)(r.d.batch * r.d.n * r.d.n * r.d.hidden);
    weights = (size_t)(6 * r.d.hidden * r.d.dim);
    memory = malloc(sizeof(ks_real) * (3 * positions + weights));
    if (!memory)
        return ks_fail(why, why_size, "the reference ran out of memory");
    for (int i = 0; i < IN_COUNT; i++)
        r.in[i] = inputs[i].data;
    r.left = memory;
    r.right = r.left + positions;
    r.gate = r.right + positions;
    r.output = expected[0];
    widen_weights(&r, r.gate + positions);
    rc = ks_for_items(threads, r.d.batch * r.d.n, project_item, &r);
    if (rc == 0)
        rc = ks_for_items(threads, r.d.batch * r.d.n, output_item, &r);
    free(memory);
    return rc == 0 ? 0 : ks_fail(why, why_size, "the reference ran out of memory");
}

/* ---- Cost ---- */

/* Everything between input and output may stay on the chip. */
static void cost(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out)
{
    struct dims d = dims_of(p);
    double rows = (double)(d.batch * d.n * d.n), weights = (double)(d.hidden * d.dim);

    (void)inputs, (void)n_inputs;
    out->flops = 12 * rows * weights + 2 * rows * (double)(d.n * d.hidden);
    out->bytes =
        8 * rows * (double)d.dim + 4 * rows + 24 * weights + 8 * (double)(d.dim + d.hidden);
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
