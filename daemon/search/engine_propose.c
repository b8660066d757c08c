/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Acquisition: which arm is due, which model it asks, and the candidate of greatest expected
 * improvement. Ties go to the first candidate, so that a run is reproducible.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/engine_impl.h"
#include "search/forest.h"
#include "search/vecmath.h"

enum {
    START_TRIES = 60,   /* random candidates of which the farthest is taken */
    NEAR_BEST = 3,      /* observations whose neighbours are looked at */
    SIDE_LISTED = 2000, /* candidates of a restricted proposal that the pool does not hold */
    SIDE_SAMPLED = 1000,
    SIDE_LEAST = 64, /* so many in the pool and no side candidates are needed */
    EXHAUST_TRIES = 10000
};

#define FAIL_FACTOR 0.3f /* for what failed on more than half of the sources */
#define EI_UNDERFLOW 1e-15f

/* Candidates to choose from: a batch, which of them may not be chosen, and where the answer lands.
 */
struct choice {
    const struct batch *batch;
    const uint8_t *taken; /* [m]; NULL: all are free */
    const uint16_t *pattern;
    float *ei, *mean, *var; /* [m] */
    size_t at;              /* the chosen one */
};

static const uint16_t *batch_row(const struct engine *e, const struct batch *b, size_t i)
{
    return b->rows + i * space_n(e->space);
}

static bool is_free(const struct engine *e, const struct choice *c, size_t i)
{
    return (c->taken == NULL || !c->taken[i]) &&
           space_matches(e->space, c->pattern, batch_row(e, c->batch, i));
}

/* Greatest expected improvement; where all underflow, greatest standardised distance. */
static bool pick_best(const struct engine *e, struct choice *c)
{
    float top = -INFINITY, value;
    bool found = false, by_distance = false;

    for (int pass = 0; pass < 2 && (pass == 0 || by_distance); pass++) {
        top = -INFINITY;
        for (size_t i = 0; i < c->batch->m; i++) {
            value = c->ei[i];
            if (pass == 1)
                value = ((float)e->best - c->mean[i]) / sqrtf(c->var[i]);
            if (!(value > top) || !is_free(e, c, i))
                continue;
            top = value;
            c->at = i;
            found = true;
        }
        by_distance = found && pass == 0 && !(top > EI_UNDERFLOW);
    }
    return found;
}

static void choice_alloc(struct choice *c, const struct batch *b, const uint8_t *taken,
                         const uint16_t *pattern)
{
    *c = (struct choice){ .batch = b, .taken = taken, .pattern = pattern };
    c->ei = xcalloc(b->m + 1, sizeof(float));
    c->mean = xcalloc(b->m + 1, sizeof(float));
    c->var = xcalloc(b->m + 1, sizeof(float));
}

static void choice_free(struct choice *c)
{
    free(c->ei);
    free(c->mean);
    free(c->var);
}

/* Expected improvement under the model's hypotheses, weighted; mean and var are the mixture's. */
static void acquire(const struct engine *e, const struct model *m, const struct gp_block *block,
                    struct choice *c)
{
    const size_t n = block->m, hypotheses = m->gp.shape.n_means;
    CLEANUP(freep) float *mean = xmalloc((n + 1) * sizeof(*mean));
    CLEANUP(freep) float *var = xmalloc((n + 1) * sizeof(*var));
    double w[GP_MEANS_MAX];

    model_weights(e, m, w);
    for (size_t h = 0; h < hypotheses; h++) {
        if (w[h] < 1e-4)
            continue;
        gp_block_posterior(block, &m->gp, h, mean, var);
        if (e->n_good > 0)
            vec_add_ei(c->ei, mean, var, (float)e->best, (float)w[h], n);
        vec_axpy(c->mean, mean, (float)w[h], n);
        vec_axpy(c->var, var, (float)w[h], n);
    }
    for (size_t i = 0; i < n && e->n_good == 0; i++)
        c->ei[i] = expf(-c->mean[i]); /* nothing to improve on: the best expected */
    if (m != &e->warm)
        return;
    for (size_t i = 0; i < n; i++)
        if (c->batch->fails[i] > 0.5f * (float)e->n_sources)
            c->ei[i] *= FAIL_FACTOR;
}

/* ---- where the answer goes ---- */

static void answer(struct engine *e, const uint16_t *a, enum engine_arm arm,
                   enum engine_origin origin, struct engine_proposal *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->a, a, space_n(e->space) * sizeof(*a));
    out->arm = arm;
    out->origin = origin;
    out->mean = out->sd = out->ei = NAN;
    out->memory_share = e->n_sources > 0 ? 1.0 - e->share : 0.0;
}

static void answer_predicted(struct engine *e, const struct choice *c, enum engine_arm arm,
                             enum engine_origin origin, double noise, struct engine_proposal *out)
{
    answer(e, batch_row(e, c->batch, c->at), arm, origin, out);
    out->mean = (double)c->mean[c->at];
    out->sd = sqrt((double)c->var[c->at] + noise);
    out->ei = e->n_good > 0 ? (double)c->ei[c->at] : (double)NAN;
}

static double model_noise(const struct model *m)
{
    return m->gp.hyper.noise * gp_scale(&m->gp);
}

/* ---- candidates beside the pool ---- */

static void add_free(const struct engine *e, const uint16_t *a, const uint16_t *pattern,
                     struct rowset *out)
{
    bool added;

    if (space_matches(e->space, pattern, a) && !engine_seen(e, a))
        rowset_add(out, a, &added);
}

static void add_neighbours(const struct engine *e, const uint16_t *pattern, struct rowset *out)
{
    const size_t width = space_n(e->space);
    CLEANUP(freep) uint16_t *near = xmalloc(SPACE_NEIGHBOURS_MAX * width * sizeof(*near));
    size_t best[NEAR_BEST], n = 0;

    for (size_t i = 0; i < e->n_obs; i++) {
        size_t at = n;

        if (isnan(e->obs[i].y) || !space_matches(e->space, pattern, e->obs_a + i * width))
            continue;
        for (; at > 0 && e->obs[best[at - 1]].y > e->obs[i].y; at--)
            if (at < NEAR_BEST)
                best[at] = best[at - 1];
        if (at < NEAR_BEST)
            best[at] = i;
        n = MIN(n + 1, (size_t)NEAR_BEST);
    }
    for (size_t k = 0; k < n; k++) {
        size_t found =
            space_neighbours(e->space, e->obs_a + best[k] * width, near, SPACE_NEIGHBOURS_MAX);

        for (size_t i = 0; i < found; i++)
            add_free(e, near + i * width, pattern, out);
    }
}

/* All or many of the free assignments that agree with the pattern. */
static void add_side(const struct engine *e, const uint16_t *pattern, struct rowset *out)
{
    const size_t width = space_n(e->space);
    struct rng rng = rng_derive(e->options.seed, "side", e->n_obs + e->n_pending);
    uint16_t *rows, a[SPACE_PARAMS_MAX];
    struct err ignored;
    size_t n;

    add_neighbours(e, pattern, out);
    if (space_enumerate(e->space, pattern, SIDE_LISTED, &rows, &n, &ignored) == 0) {
        for (size_t i = 0; i < n; i++)
            add_free(e, rows + i * width, pattern, out);
        free(rows);
        return;
    }
    for (int i = 0; i < SIDE_SAMPLED; i++)
        if (space_sample(e->space, pattern, &rng, a, &ignored) == 0)
            add_free(e, a, pattern, out);
}

/* ---- the models' choices ---- */

static bool over_pool(struct engine *e, const struct model *m, const uint16_t *pattern,
                      enum engine_arm arm, enum engine_origin origin, struct engine_proposal *out)
{
    struct choice c;
    bool found;

    choice_alloc(&c, &e->view, e->taken, pattern);
    acquire(e, m, &m->block, &c);
    found = pick_best(e, &c);
    if (found)
        answer_predicted(e, &c, arm, origin, model_noise(m), out);
    choice_free(&c);
    return found;
}

/* The same over assignments that need not be in the pool. */
static bool over_table(struct engine *e, const struct model *m, const struct rowset *t,
                       enum engine_arm arm, enum engine_origin origin, struct engine_proposal *out)
{
    struct gp_block block = { 0 };
    struct batch b;
    struct choice c;
    bool found;

    if (t->n == 0)
        return false;
    batch_make(e, t->n, t->rows, &b);
    model_bind(e, m, &b, &block);
    gp_block_fill(&block, &m->gp);
    choice_alloc(&c, &b, NULL, NULL);
    acquire(e, m, &block, &c);
    found = pick_best(e, &c);
    if (found)
        answer_predicted(e, &c, arm, origin, model_noise(m), out);
    choice_free(&c);
    gp_block_release(&block);
    batch_release(&b);
    return found;
}

static bool over_neighbours(struct engine *e, const uint16_t *pattern, struct engine_proposal *out)
{
    struct rowset t;
    bool found;

    rowset_init(&t, e->space);
    add_neighbours(e, pattern, &t);
    found = over_table(e, &e->cold, &t, ENGINE_ARM_COLD, ENGINE_ORIGIN_NEAR, out);
    rowset_release(&t);
    return found;
}

static bool over_side(struct engine *e, const struct model *m, const uint16_t *pattern,
                      enum engine_arm arm, struct engine_proposal *out)
{
    enum engine_origin origin = m == &e->warm ? ENGINE_ORIGIN_WARM : ENGINE_ORIGIN_GP;
    struct rowset t;
    bool found;

    rowset_init(&t, e->space);
    add_side(e, pattern, &t);
    found = over_table(e, m, &t, arm, origin, out);
    rowset_release(&t);
    return found;
}

static bool over_forest(struct engine *e, const uint16_t *pattern, struct engine_proposal *out)
{
    const size_t n = e->n_active, d = engine_columns(e);
    struct rng rng = rng_derive(e->options.seed, "forest", e->n_obs + e->n_pending);
    CLEANUP(freep) float *x = xmalloc((n * e->enc.n + 1) * sizeof(*x));
    CLEANUP(freep) double *y = xmalloc((n + 1) * sizeof(*y));
    struct choice c;
    bool found;

    for (size_t k = 0; k < n; k++) {
        size_t i = e->active[k];

        memcpy(x + k * e->enc.n, e->obs_x + i * d, e->enc.n * sizeof(*x));
        y[k] = isnan(e->obs[i].y) ? e->slowest : e->obs[i].y;
    }
    choice_alloc(&c, &e->view, e->taken, pattern);
    forest_predict(e->enc.n, e->enc.unordered, n, x, y, e->view.m, e->cold.block.col, &rng, c.mean,
                   c.var);
    for (size_t i = 0; i < e->view.m; i++)
        c.var[i] += 1e-6f;
    vec_add_ei(c.ei, c.mean, c.var, (float)e->best, 1.0f, e->view.m);
    found = pick_best(e, &c);
    if (found)
        answer_predicted(e, &c, ENGINE_ARM_COLD, ENGINE_ORIGIN_FOREST, 0.0, out);
    choice_free(&c);
    return found;
}

/* ---- starting points ---- */

/* Squared distance in encoded columns to the nearest observed or pending assignment. */
static float nearest(const struct engine *e, const uint16_t *a)
{
    float x[SPACE_PARAMS_MAX], y[SPACE_PARAMS_MAX], least = INFINITY;

    encoding_row(&e->enc, a, x, 1);
    for (size_t i = 0; i < e->n_obs + e->n_pending; i++) {
        float sum = 0.0f;

        encoding_row(&e->enc,
                     i < e->n_obs ? e->obs_a + i * space_n(e->space) : e->pending[i - e->n_obs].a,
                     y, 1);
        for (size_t c = 0; c < e->enc.n; c++)
            sum += e->enc.unordered[c] ? (float)(x[c] != y[c]) : (x[c] - y[c]) * (x[c] - y[c]);
        least = MIN(least, sum);
    }
    return least;
}

/* A random free assignment; false when none was found, and then none is left if the pool is whole.
 */
static bool random_free(const struct engine *e, const uint16_t *pattern, struct rng *rng,
                        uint16_t *out)
{
    const size_t width = space_n(e->space), m = e->pool.n;
    size_t from = rng_below(rng, m);
    struct err ignored;

    for (int i = 0; i < 16; i++) {
        size_t at = rng_below(rng, m);

        if (!e->taken[at] && space_matches(e->space, pattern, rowset_row(&e->pool, at))) {
            memcpy(out, rowset_row(&e->pool, at), width * sizeof(*out));
            return true;
        }
    }
    for (size_t k = 0; k < m; k++) {
        size_t at = (from + k) % m;

        if (!e->taken[at] && space_matches(e->space, pattern, rowset_row(&e->pool, at))) {
            memcpy(out, rowset_row(&e->pool, at), width * sizeof(*out));
            return true;
        }
    }
    for (int i = 0; i < EXHAUST_TRIES && !e->pool_whole; i++) {
        if (space_sample(e->space, pattern, rng, out, &ignored) != 0)
            return false;
        if (!engine_seen(e, out))
            return true;
    }
    return false;
}

static bool random_start(struct engine *e, const uint16_t *pattern, struct engine_proposal *out)
{
    const size_t n = e->n_obs + e->n_pending;
    struct rng rng = rng_derive(e->options.seed, "start", n);
    uint16_t a[SPACE_PARAMS_MAX], best[SPACE_PARAMS_MAX];
    float farthest = -1.0f;

    for (int i = 0; i < (n == 0 ? 1 : START_TRIES); i++) {
        float d;

        if (!random_free(e, pattern, &rng, a))
            break;
        d = nearest(e, a);
        if (d <= farthest)
            continue;
        farthest = d;
        memcpy(best, a, sizeof(best));
    }
    if (farthest < 0.0f)
        return false;
    answer(e, best, ENGINE_ARM_COLD, ENGINE_ORIGIN_RANDOM, out);
    return true;
}

/* The free candidate of least mean score, those aside that failed on most sources. */
static bool best_by_prior(struct engine *e, const uint16_t *pattern, struct engine_proposal *out)
{
    struct choice c = { .batch = &e->view, .taken = e->taken, .pattern = pattern };
    float least = INFINITY;

    for (size_t i = 0; i < e->view.m; i++) {
        float z = e->view.zmean[i];

        if (e->view.fails[i] > 0.5f * (float)e->n_sources)
            z += 10.0f;
        if (z >= least || !is_free(e, &c, i))
            continue;
        least = z;
        c.at = i;
    }
    if (isinf(least))
        return false;
    answer(e, batch_row(e, &e->view, c.at), ENGINE_ARM_MEMORY, ENGINE_ORIGIN_PRIOR, out);
    return true;
}

/* ---- the rotation ---- */

static bool cold_turn(struct engine *e, const uint16_t *pattern, struct engine_proposal *out)
{
    size_t n = e->n_obs + e->n_pending;

    if (!e->cold.on || n < START_POINTS || e->n_good == 0)
        return random_start(e, pattern, out);
    if (n % 3 == 0 && over_forest(e, pattern, out))
        return true;
    if (n % 3 != 0 && n % 2 == 0 && over_neighbours(e, pattern, out))
        return true;
    return over_pool(e, &e->cold, pattern, ENGINE_ARM_COLD, ENGINE_ORIGIN_GP, out);
}

static bool warm_turn(struct engine *e, const uint16_t *pattern, struct engine_proposal *out)
{
    if (!e->warm.on)
        return best_by_prior(e, pattern, out);
    return over_pool(e, &e->warm, pattern, ENGINE_ARM_MEMORY, ENGINE_ORIGIN_WARM, out);
}

/* A restricted proposal finds few candidates in a sampled pool: look beside it. */
static bool needs_side(const struct engine *e, const uint16_t *pattern)
{
    struct choice c = { .batch = &e->view, .taken = e->taken, .pattern = pattern };
    size_t n = 0;

    if (e->pool_whole || pattern == NULL)
        return false;
    for (size_t i = 0; i < e->view.m && n < SIDE_LEAST; i++)
        n += is_free(e, &c, i);
    return n < SIDE_LEAST;
}

int propose(struct engine *e, const uint16_t *pattern, struct engine_proposal *out, struct err *err)
{
    bool cold = e->n_sources == 0 || e->pending_due >= 1.0;
    const struct model *m = cold ? &e->cold : &e->warm;
    enum engine_arm arm = cold ? ENGINE_ARM_COLD : ENGINE_ARM_MEMORY;
    struct rng rng = rng_derive(e->options.seed, "last resort", e->n_obs + e->n_pending);
    uint16_t a[SPACE_PARAMS_MAX];

    if (m->on && e->n_good > 0 && needs_side(e, pattern) && over_side(e, m, pattern, arm, out))
        return 0;
    if (cold ? cold_turn(e, pattern, out) : warm_turn(e, pattern, out))
        return 0;
    if (random_free(e, pattern, &rng, a)) {
        answer(e, a, arm, ENGINE_ORIGIN_RANDOM, out);
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND,
                   "the space is exhausted: %zu assignments observed, %zu pending, none left%s",
                   e->n_obs, e->n_pending, pattern ? " that agrees with the pattern" : "");
}
