/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cold and the warm Gaussian process of an engine: when they are refitted, what a failure
 * counts as, what they predict. The warm one has the sources' scores as columns and as prior means.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/engine_impl.h"

#define COLD_GROWTH                                                                                \
    1.35            /* a model is refitted when the observations have grown by this factor ... */
#define COLD_STEP 2 /* ... and this many */
#define WARM_FIRST 10
#define WARM_GROWTH 1.4
#define WARM_STEP 4
#define WARM_FAIL_EXTRA 0.3
#define WARM_SD_VARIANCE 2.0 /* of a variance's logarithm on the target: 1 of its deviation's */
#define LIKELIHOOD_POWER 0.5 /* of the hypotheses' weights: they share their errors */

/* ---- set-up ---- */

void models_init(struct engine *e)
{
    struct gp_shape shape = { .n_params = e->enc.n, .n_means = 1, .profiled = true };

    memcpy(shape.unordered, e->enc.unordered, sizeof(shape.unordered));
    gp_init(&e->cold.gp, &shape);
    transfer_cold_prior(&e->enc, &e->cold.prior);
    e->cold.gp.hyper = e->cold.prior.centre;
    if (e->n_sources == 0)
        return;
    shape.n_scores = e->n_sources;
    shape.n_means = e->n_sources == 1 ? 1 : 1 + e->n_sources;
    shape.profiled = false;
    gp_init(&e->warm.gp, &shape);
    transfer_warm_prior(&e->enc, &e->warm.prior);
    transfer_learn(e->sources, e->n_sources, &e->enc, e->options.seed, &e->warm.prior);
    e->warm.prior.sd_amp = e->warm.prior.sd_noise = WARM_SD_VARIANCE;
    e->warm.gp.hyper = e->warm.prior.centre;
    e->warm.fail_extra = WARM_FAIL_EXTRA;
    for (size_t h = 0; h < shape.n_means; h++) {
        double sum = 0.0;

        for (size_t s = 0; s < e->n_sources; s++)
            sum += e->sources[s].weight;
        e->prior[h] = h == 0 ? 0.5 : 0.5 * e->sources[h - 1].weight / sum;
    }
}

static void model_release(struct model *m)
{
    gp_block_release(&m->block);
    gp_release(&m->gp);
    free(m->saved);
}

void models_release(struct engine *e)
{
    model_release(&e->cold);
    model_release(&e->warm);
}

void model_bind(const struct engine *e, const struct model *m, const struct batch *b,
                struct gp_block *out)
{
    const size_t d = m->gp.shape.n_params + m->gp.shape.n_scores;

    out->m = b->m;
    for (size_t c = 0; c < d; c++)
        out->col[c] = b->cols + c * b->m;
    for (size_t h = 0; h < m->gp.shape.n_means; h++) {
        out->prior[h] = NULL;
        if (m->gp.shape.n_scores > 0)
            out->prior[h] = h == 0 ? b->zmean : b->cols + (e->enc.n + h - 1) * b->m;
    }
}

/* ---- observations as the models see them ---- */

static double target(const struct engine *e, const struct model *m, size_t i)
{
    return isnan(e->obs[i].y) ? m->imputed : e->obs[i].y;
}

/* Before any success a failure is one unit of log time slow: only differences matter then. */
static double imputed_now(const struct engine *e, const struct model *m)
{
    return (e->n_good > 0 ? e->slowest : 1.0) + m->fail_extra;
}

static void prior_means(const struct engine *e, const struct model *m, size_t i, double *out)
{
    const float *x = e->obs_x + i * engine_columns(e);

    for (size_t h = 0; h < m->gp.shape.n_means; h++) {
        out[h] = 0.0;
        if (m->gp.shape.n_scores > 0)
            out[h] = h == 0 ? (double)e->obs_z[i] : (double)x[e->enc.n + h - 1];
    }
}

/* The active observations as arrays; x is [n][columns of the model]. */
static void gather(const struct engine *e, const struct model *m, float *x, double *y, double *mean)
{
    const size_t all = engine_columns(e), d = m->gp.shape.n_params + m->gp.shape.n_scores;

    for (size_t k = 0; k < e->n_active; k++) {
        size_t i = e->active[k];

        memcpy(x + k * d, e->obs_x + i * all, d * sizeof(*x));
        y[k] = target(e, m, i);
        prior_means(e, m, i, mean + k * m->gp.shape.n_means);
    }
}

/* ---- fitting ---- */

static void fit_hyper(const struct engine *e, struct model *m, const float *x, const double *y,
                      const double *mean, struct gp_hyper *hyper)
{
    CLEANUP(freep) double *resid = xmalloc((e->n_active + 1) * sizeof(*resid));
    double weights[GP_MEANS_MAX];
    size_t h = 0;

    /* Against the hypothesis that the data favour. */
    if (m->gp.shape.n_scores > 0) {
        model_weights(e, m, weights);
        for (size_t k = 1; k < m->gp.shape.n_means; k++)
            if (weights[k] > weights[h])
                h = k;
    }
    for (size_t k = 0; k < e->n_active; k++)
        resid[k] = y[k] - mean[k * m->gp.shape.n_means + h];
    gp_fit(&m->gp.shape, &m->prior, &(struct gp_data){ e->n_active, x, resid }, 1, hyper);
}

/* Rebuilds the model on the active observations, with new hyper-parameters when `fit`. */
static void rebuild(struct engine *e, struct model *m, bool fit)
{
    const size_t d = m->gp.shape.n_params + m->gp.shape.n_scores, h = m->gp.shape.n_means;
    CLEANUP(freep) float *x = xmalloc((e->n_active * d + 1) * sizeof(*x));
    CLEANUP(freep) double *y = xmalloc((e->n_active + 1) * sizeof(*y));
    CLEANUP(freep) double *mean = xmalloc((e->n_active * h + 1) * sizeof(*mean));
    /* From the prior's centre every time: what the last fit found is a local optimum of less data.
     */
    struct gp_hyper hyper = fit ? m->prior.centre : m->gp.hyper;

    m->imputed = imputed_now(e, m);
    gather(e, m, x, y, mean);
    if (fit) {
        fit_hyper(e, m, x, y, mean, &hyper);
        m->fitted_at = e->n_obs;
    }
    gp_set(&m->gp, &hyper, e->n_active, x, y, mean);
    if (m->block.m != e->view.m)
        gp_block_release(&m->block); /* a renewed pool may be of another size */
    model_bind(e, m, &e->view, &m->block);
    gp_block_fill(&m->block, &m->gp);
    m->on = true;
}

static void push(struct engine *e, struct model *m)
{
    const size_t i = e->n_obs - 1;
    double mean[GP_MEANS_MAX], y[GP_OBS_MAX];

    prior_means(e, m, i, mean);
    gp_push(&m->gp, e->obs_x + i * engine_columns(e), target(e, m, i), mean);
    gp_block_push(&m->block, &m->gp);
    if (m->imputed == imputed_now(e, m) || e->n_good == e->n_obs) {
        m->imputed = imputed_now(e, m);
        return;
    }
    m->imputed = imputed_now(e, m); /* the failures before it count as slower now */
    for (size_t k = 0; k < e->n_active; k++)
        y[k] = target(e, m, e->active[k]);
    gp_retarget(&m->gp, y);
    gp_block_retarget(&m->block, &m->gp);
}

struct by_time {
    double y;
    size_t i;
};

static int compare_times(const void *a, const void *b)
{
    const struct by_time *x = a, *y = b;

    if (x->y != y->y)
        return x->y < y->y ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static int compare_sizes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x > y) - (x < y);
}

/* Keeps the best third and a random third of the cap, in order of observation. */
static void thin_active(struct engine *e)
{
    struct by_time *order = xmalloc(e->n_obs * sizeof(*order));
    uint32_t *rest = xmalloc(e->n_obs * sizeof(*rest));
    struct rng rng = rng_derive(e->options.seed, "thin", e->n_obs);

    for (size_t i = 0; i < e->n_obs; i++)
        order[i] = (struct by_time){ isnan(e->obs[i].y) ? INFINITY : e->obs[i].y, i };
    qsort(order, e->n_obs, sizeof(*order), compare_times);
    for (size_t i = 0; i < e->n_obs; i++)
        rest[i] = (uint32_t)order[i].i;
    rng_shuffle(&rng, rest + ACTIVE_BEST, e->n_obs - ACTIVE_BEST);
    e->n_active = ACTIVE_BEST + ACTIVE_RANDOM;
    for (size_t k = 0; k < e->n_active; k++)
        e->active[k] = rest[k];
    qsort(e->active, e->n_active, sizeof(*e->active), compare_sizes);
    free(order);
    free(rest);
}

static bool cold_due(const struct engine *e)
{
    if (e->cold.fitted_at == 0)
        return e->n_obs >= START_POINTS;
    return (double)e->n_obs >= COLD_GROWTH * (double)e->cold.fitted_at + COLD_STEP;
}

static bool warm_due(const struct engine *e)
{
    if (e->warm.fitted_at == 0)
        return e->n_obs >= WARM_FIRST;
    return (double)e->n_obs >= WARM_GROWTH * (double)e->warm.fitted_at + WARM_STEP;
}

/* One model after an observation; `rebuilt`: the pool or the active list is another one now. */
static void model_observe(struct engine *e, struct model *m, bool due, bool rebuilt)
{
    if (due || rebuilt || !m->on)
        rebuild(e, m, due || rebuilt);
    else
        push(e, m);
}

void models_observe(struct engine *e)
{
    bool cold = cold_due(e), thin = e->n_active == ACTIVE_MAX, renew = cold && !e->pool_whole;

    if (thin)
        thin_active(e);
    else
        e->active[e->n_active++] = e->n_obs - 1;
    if (thin || renew)
        pool_renew(e);
    if (e->cold.on || cold)
        model_observe(e, &e->cold, cold, thin);
    if (e->n_sources > 0) {
        bool due = warm_due(e);

        if (renew && !due && !thin)
            rebuild(e, &e->warm, false);
        else
            model_observe(e, &e->warm, due, thin);
    }
}

/* ---- beliefs ---- */

static void unbelieve(struct engine *e, struct model *m)
{
    if (!m->on || m->gp.n == e->n_active)
        return;
    gp_truncate(&m->gp, e->n_active);
    gp_block_restore(&m->block, &m->gp, m->saved);
}

void models_unbelieve(struct engine *e)
{
    unbelieve(e, &e->cold);
    unbelieve(e, &e->warm);
}

static void believe(struct engine *e, struct model *m, const struct pending *p)
{
    double mean, var, prior[GP_MEANS_MAX] = { 0 };
    struct batch b;

    if (!m->on || m->gp.n == GP_OBS_MAX)
        return;
    if (m->gp.n == e->n_active)
        gp_block_save(&m->block, &m->gp, &m->saved);
    model_predict(e, m, p->a, &mean, &var);
    batch_make(e, 1, p->a, &b);
    for (size_t h = 0; h < m->gp.shape.n_means && m->gp.shape.n_scores > 0; h++)
        prior[h] = h == 0 ? (double)b.zmean[0] : (double)b.cols[e->enc.n + h - 1];
    gp_push(&m->gp, b.cols, mean, prior);
    gp_block_push(&m->block, &m->gp);
    batch_release(&b);
}

void models_believe(struct engine *e)
{
    for (size_t i = 0; i < e->n_pending; i++) {
        believe(e, &e->cold, &e->pending[i]);
        believe(e, &e->warm, &e->pending[i]);
    }
}

/* ---- predictions ---- */

void model_weights(const struct engine *e, const struct model *m, double *out)
{
    if (m->gp.shape.n_means == 1)
        out[0] = 1.0;
    else
        gp_weights(&m->gp, e->prior, LIKELIHOOD_POWER, out);
}

/* Mean and variance, noise included, under each hypothesis. */
static void predict_each(const struct engine *e, const struct model *m, const uint16_t *a,
                         double *mean, double *var)
{
    struct gp_block block = { 0 };
    struct batch b;

    batch_make(e, 1, a, &b);
    model_bind(e, m, &b, &block);
    gp_block_fill(&block, &m->gp);
    for (size_t h = 0; h < m->gp.shape.n_means; h++) {
        float mu, v;

        gp_block_posterior(&block, &m->gp, h, &mu, &v);
        mean[h] = (double)mu;
        var[h] = (double)v + m->gp.hyper.noise * gp_scale(&m->gp);
    }
    gp_block_release(&block);
    batch_release(&b);
}

void model_predict(const struct engine *e, const struct model *m, const uint16_t *a, double *mean,
                   double *var)
{
    double w[GP_MEANS_MAX], mu[GP_MEANS_MAX], v[GP_MEANS_MAX], sum = 0.0, square = 0.0;

    model_weights(e, m, w);
    predict_each(e, m, a, mu, v);
    for (size_t h = 0; h < m->gp.shape.n_means; h++)
        sum += w[h] * mu[h];
    for (size_t h = 0; h < m->gp.shape.n_means; h++)
        square += w[h] * (v[h] + (mu[h] - sum) * (mu[h] - sum));
    *mean = sum;
    *var = square;
}

double model_score(const struct engine *e, const struct model *m, const uint16_t *a, double y)
{
    double w[GP_MEANS_MAX], mu[GP_MEANS_MAX], v[GP_MEANS_MAX], density = 0.0;

    model_weights(e, m, w);
    predict_each(e, m, a, mu, v);
    for (size_t h = 0; h < m->gp.shape.n_means; h++)
        density += w[h] * exp(-0.5 * (y - mu[h]) * (y - mu[h]) / v[h]) / sqrt(2.0 * M_PI * v[h]);
    return log(density);
}
