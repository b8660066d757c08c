/* SPDX-License-Identifier: Apache-2.0 */
/* Gaussian process posterior; see gp.h. */
#include "search/gp.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/linalg.h"
#include "search/vecmath.h"

enum { CHUNK = 2048 }; /* candidates whose distances stay in the nearest cache */

#define PIVOT_MIN 1e-6 /* of a squared pivot, relative to the prior variance */

static size_t columns(const struct gp *g)
{
    return g->shape.n_params + g->shape.n_scores;
}

static double *mean_row(const struct gp *g, double *base, size_t h)
{
    (void)g;
    return base + h * GP_OBS_MAX;
}

void gp_init(struct gp *g, const struct gp_shape *shape)
{
    memset(g, 0, sizeof(*g));
    g->shape = *shape;
    g->x = xcalloc(GP_OBS_MAX, columns(g) * sizeof(*g->x));
    g->y = xcalloc(GP_OBS_MAX, sizeof(*g->y));
    g->m = xcalloc(shape->n_means * GP_OBS_MAX, sizeof(*g->m));
    g->chol = xcalloc((size_t)GP_OBS_MAX * GP_OBS_MAX, sizeof(*g->chol));
    g->one = xcalloc(GP_OBS_MAX, sizeof(*g->one));
    g->alpha = xcalloc(shape->n_means * GP_OBS_MAX, sizeof(*g->alpha));
    g->w = xcalloc(GP_OBS_MAX, sizeof(*g->w));
}

void gp_release(struct gp *g)
{
    free(g->x);
    free(g->y);
    free(g->m);
    free(g->chol);
    free(g->one);
    free(g->alpha);
    free(g->w);
    memset(g, 0, sizeof(*g));
}

/* ---- kernel ---- */

static double prior_variance(const struct gp *g)
{
    return g->hyper.s1 + (g->shape.n_scores > 0 ? g->hyper.s4 : 0.0);
}

/* out[j] = k(x, candidate j) for candidates [from, from + n) of the columns. */
static void kernel_chunk(const struct gp *g, const float *x, const float *const *col, size_t from,
                         size_t n, float *out, float s)
{
    float d2[CHUNK] = { 0 };

    for (size_t p = 0; p < g->shape.n_params; p++) {
        float w = (float)(1.0 / (g->hyper.length[p] * g->hyper.length[p]));

        if (g->shape.unordered[p])
            vec_add_neq(d2, col[p] + from, x[p], w, n);
        else
            vec_add_sq(d2, col[p] + from, x[p], w, n);
    }
    vec_add_matern(out, d2, (float)g->hyper.s1 * s, n);
    if (g->shape.n_scores == 0)
        return;
    for (size_t j = 0; j < n; j++)
        d2[j] *= (float)GP_Z_PARAM;
    for (size_t k = 0; k < g->shape.n_scores; k++)
        vec_add_sq(d2, col[g->shape.n_params + k] + from, x[g->shape.n_params + k],
                   (float)(1.0 / (g->hyper.zlength * g->hyper.zlength * (double)g->shape.n_scores)),
                   n);
    vec_add_matern(out, d2, (float)g->hyper.s4 * s, n);
}

/* out[j] = s k(x, candidate j) + out[j], all m candidates. */
static void kernel_row(const struct gp *g, const float *x, const float *const *col, size_t m,
                       float *out, float s)
{
    for (size_t from = 0; from < m; from += CHUNK)
        kernel_chunk(g, x, col, from, MIN(m - from, (size_t)CHUNK), out + from, s);
}

/* k(x, observation i) for i < n, through columns made of the observations. */
static void kernel_observed(const struct gp *g, const float *x, size_t n, float *out)
{
    float store[GP_OBS_MAX];
    const size_t d = columns(g);
    CLEANUP(freep) float *cols = xmalloc((d + 1) * GP_OBS_MAX * sizeof(*cols));
    const float *col[GP_COLS_MAX];

    for (size_t c = 0; c < d; c++) {
        for (size_t i = 0; i < n; i++)
            cols[c * GP_OBS_MAX + i] = g->x[i * d + c];
        col[c] = cols + c * GP_OBS_MAX;
    }
    memset(store, 0, sizeof(store));
    kernel_row(g, x, col, n, store, 1.0f);
    memcpy(out, store, n * sizeof(*out));
}

/* ---- observations ---- */

static void solve_targets(struct gp *g)
{
    for (size_t i = 0; i < g->n; i++)
        g->one[i] = 1.0;
    linalg_solve(g->chol, g->n, GP_OBS_MAX, g->one);
    for (size_t h = 0; h < g->shape.n_means; h++) {
        double *alpha = mean_row(g, g->alpha, h), *m = mean_row(g, g->m, h);

        for (size_t i = 0; i < g->n; i++)
            alpha[i] = g->y[i] - m[i];
        linalg_solve(g->chol, g->n, GP_OBS_MAX, alpha);
    }
}

/* The whole kernel matrix, lower triangle, into chol. */
static void fill_kernel(struct gp *g, double noise)
{
    const size_t d = columns(g), n = g->n;
    CLEANUP(freep) float *cols = xmalloc(d * n * sizeof(*cols));
    CLEANUP(freep) float *row = xmalloc(n * sizeof(*row));
    const float *col[GP_COLS_MAX];

    for (size_t c = 0; c < d; c++) {
        for (size_t i = 0; i < n; i++)
            cols[c * n + i] = g->x[i * d + c];
        col[c] = cols + c * n;
    }
    for (size_t i = 0; i < n; i++) {
        memset(row, 0, (i + 1) * sizeof(*row));
        kernel_row(g, g->x + i * d, col, i + 1, row, 1.0f);
        for (size_t j = 0; j <= i; j++)
            g->chol[i * GP_OBS_MAX + j] = (double)row[j];
        g->chol[i * GP_OBS_MAX + i] = prior_variance(g) + noise;
    }
}

void gp_set(struct gp *g, const struct gp_hyper *hyper, size_t n, const float *x, const double *y,
            const double *m)
{
    double noise = hyper->noise;

    assert(n <= GP_OBS_MAX);
    g->hyper = *hyper;
    g->n = n;
    if (n == 0)
        return;
    memcpy(g->x, x, n * columns(g) * sizeof(*x));
    memcpy(g->y, y, n * sizeof(*y));
    for (size_t h = 0; h < g->shape.n_means; h++)
        for (size_t i = 0; i < n; i++)
            mean_row(g, g->m, h)[i] = m ? m[i * g->shape.n_means + h] : 0.0;
    for (fill_kernel(g, noise); linalg_chol(g->chol, n, GP_OBS_MAX) != 0; fill_kernel(g, noise))
        noise = noise * 10.0 + 1e-6 * prior_variance(g);
    solve_targets(g);
}

void gp_push(struct gp *g, const float *x, double y, const double *m)
{
    const size_t n = g->n, d = columns(g);
    double row[GP_OBS_MAX], pivot, sum = 1.0;
    float k[GP_OBS_MAX];

    assert(n < GP_OBS_MAX);
    kernel_observed(g, x, n, k);
    for (size_t i = 0; i < n; i++)
        row[i] = (double)k[i];
    if (n > 0)
        linalg_solve(g->chol, n, GP_OBS_MAX, row);
    pivot = prior_variance(g) + g->hyper.noise;
    for (size_t i = 0; i < n; i++) {
        pivot -= row[i] * row[i];
        sum -= row[i] * g->one[i];
    }
    pivot = sqrt(MAX(pivot, PIVOT_MIN * prior_variance(g)));
    row[n] = pivot;
    memcpy(g->chol + n * GP_OBS_MAX, row, (n + 1) * sizeof(*row));
    g->one[n] = sum / pivot;
    for (size_t h = 0; h < g->shape.n_means; h++) {
        double *alpha = mean_row(g, g->alpha, h), r;

        mean_row(g, g->m, h)[n] = m ? m[h] : 0.0;
        r = y - mean_row(g, g->m, h)[n];
        for (size_t i = 0; i < n; i++)
            r -= row[i] * alpha[i];
        alpha[n] = r / pivot;
    }
    memcpy(g->x + n * d, x, d * sizeof(*x));
    g->y[n] = y;
    g->n++;
}

void gp_truncate(struct gp *g, size_t n)
{
    assert(n <= g->n);
    g->n = n;
}

void gp_retarget(struct gp *g, const double *y)
{
    memcpy(g->y, y, g->n * sizeof(*y));
    solve_targets(g);
}

/* ---- summaries ---- */

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

double gp_constant(const struct gp *g, size_t h, double *beta)
{
    double c = 1.0 / dot(g->one, g->one, g->n);

    *beta = c * dot(g->one, mean_row(g, g->alpha, h), g->n);
    return c;
}

/* Squared Mahalanobis length of the residuals once the constant is fitted. */
static double misfit(const struct gp *g, size_t h)
{
    const double *alpha = mean_row(g, g->alpha, h);
    double beta, c = gp_constant(g, h, &beta);

    return MAX(dot(alpha, alpha, g->n) - beta * beta / c, 0.0);
}

double gp_scale(const struct gp *g)
{
    if (!g->shape.profiled || g->n < 2)
        return 1.0;
    return MAX(misfit(g, 0) / (double)(g->n - 1), 1e-10);
}

void gp_weights(const struct gp *g, const double *prior, double power, double *out)
{
    double least = INFINITY, sum = 0.0;

    for (size_t h = 0; h < g->shape.n_means; h++) {
        out[h] = g->n > 1 ? misfit(g, h) : 0.0;
        least = MIN(least, out[h]);
    }
    for (size_t h = 0; h < g->shape.n_means; h++) {
        out[h] = prior[h] * exp(-0.5 * power * (out[h] - least));
        sum += out[h];
    }
    for (size_t h = 0; h < g->shape.n_means; h++)
        out[h] /= sum;
}

void gp_mean_prepare(struct gp *g)
{
    double beta;

    gp_constant(g, 0, &beta);
    for (size_t i = 0; i < g->n; i++)
        g->w[i] = g->alpha[i] - beta * g->one[i];
    linalg_solve_t(g->chol, g->n, GP_OBS_MAX, g->w);
}

void gp_mean(const struct gp *g, size_t m, const float *const *col, const float *prior, float *out)
{
    double beta;

    gp_constant(g, 0, &beta);
    for (size_t j = 0; j < m; j++)
        out[j] = (float)beta + (prior ? prior[j] : 0.0f);
    for (size_t from = 0; from < m; from += CHUNK)
        for (size_t i = 0; i < g->n; i++)
            kernel_chunk(g, g->x + i * columns(g), col, from, MIN(m - from, (size_t)CHUNK),
                         out + from, (float)g->w[i]);
}

/* ---- blocks ---- */

static void block_reserve(struct gp_block *b, const struct gp *g, size_t rows)
{
    if (b->var == NULL) {
        b->var = xmalloc(b->m * sizeof(float));
        b->one = xmalloc(b->m * sizeof(float));
        for (size_t h = 0; h < g->shape.n_means; h++)
            b->u[h] = xmalloc(b->m * sizeof(float));
    }
    if (rows > b->v_room) {
        b->v_room = MIN(MAX(2 * b->v_room, rows + 16), (size_t)GP_OBS_MAX);
        b->v = xrealloc(b->v, b->v_room * b->m * sizeof(*b->v));
    }
}

static void to_float(float *out, const double *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)in[i];
}

void gp_block_retarget(struct gp_block *b, const struct gp *g)
{
    float alpha[GP_OBS_MAX];

    for (size_t h = 0; h < g->shape.n_means; h++) {
        to_float(alpha, mean_row(g, g->alpha, h), g->n);
        memset(b->u[h], 0, b->m * sizeof(float));
        linalg_add_vt(b->u[h], b->v, alpha, 1.0f, g->n, b->m);
    }
}

void gp_block_fill(struct gp_block *b, const struct gp *g)
{
    CLEANUP(freep) float *l = xmalloc((g->n * g->n + 1) * sizeof(*l));
    float one[GP_OBS_MAX];

    block_reserve(b, g, g->n);
    memset(b->v, 0, g->n * b->m * sizeof(*b->v));
    for (size_t i = 0; i < g->n; i++) {
        kernel_row(g, g->x + i * columns(g), b->col, b->m, b->v + i * b->m, 1.0f);
        to_float(l + i * g->n, g->chol + i * GP_OBS_MAX, g->n);
    }
    if (g->n > 0)
        linalg_solve_many(l, b->v, g->n, b->m);
    for (size_t j = 0; j < b->m; j++)
        b->var[j] = (float)prior_variance(g);
    memset(b->one, 0, b->m * sizeof(float));
    for (size_t i = 0; i < g->n; i++)
        vec_sub_sq(b->var, b->v + i * b->m, b->m);
    to_float(one, g->one, g->n);
    linalg_add_vt(b->one, b->v, one, 1.0f, g->n, b->m);
    gp_block_retarget(b, g);
}

void gp_block_push(struct gp_block *b, const struct gp *g)
{
    const size_t n = g->n - 1;
    const double *l = g->chol + n * GP_OBS_MAX;
    float row[GP_OBS_MAX], *v, inverse = (float)(1.0 / l[n]);

    block_reserve(b, g, n + 1);
    v = b->v + n * b->m;
    memset(v, 0, b->m * sizeof(*v));
    kernel_row(g, g->x + n * columns(g), b->col, b->m, v, inverse);
    to_float(row, l, n);
    linalg_add_vt(v, b->v, row, -inverse, n, b->m);
    vec_sub_sq(b->var, v, b->m);
    vec_axpy(b->one, v, (float)g->one[n], b->m);
    for (size_t h = 0; h < g->shape.n_means; h++)
        vec_axpy(b->u[h], v, (float)g->alpha[h * GP_OBS_MAX + n], b->m);
}

void gp_block_save(const struct gp_block *b, const struct gp *g, float **saved)
{
    *saved = xrealloc(*saved, (2 + g->shape.n_means) * b->m * sizeof(float));
    memcpy(*saved, b->var, b->m * sizeof(float));
    memcpy(*saved + b->m, b->one, b->m * sizeof(float));
    for (size_t h = 0; h < g->shape.n_means; h++)
        memcpy(*saved + (2 + h) * b->m, b->u[h], b->m * sizeof(float));
}

void gp_block_restore(struct gp_block *b, const struct gp *g, const float *saved)
{
    memcpy(b->var, saved, b->m * sizeof(float));
    memcpy(b->one, saved + b->m, b->m * sizeof(float));
    for (size_t h = 0; h < g->shape.n_means; h++)
        memcpy(b->u[h], saved + (2 + h) * b->m, b->m * sizeof(float));
}

void gp_block_release(struct gp_block *b)
{
    free(b->v);
    free(b->var);
    free(b->one);
    for (size_t h = 0; h < GP_MEANS_MAX; h++)
        free(b->u[h]);
    memset(b, 0, sizeof(*b));
}

void gp_block_posterior(const struct gp_block *b, const struct gp *g, size_t h, float *mean,
                        float *var)
{
    double beta, c = gp_constant(g, h, &beta);

    vec_posterior(mean, var, b->prior[h], b->u[h], b->one, b->var, (float)beta, (float)c,
                  (float)gp_scale(g), b->m);
}
