/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Candidates: every valid assignment of a small space; of a larger one a pool of its best by the
 * sources, the neighbours of the best seen, what a forest likes among many random ones, and plainly
 * random ones.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/engine_impl.h"
#include "search/forest.h"

enum {
    LISTED_MAX = 200000,  /* valid assignments that are listed once, so that sampling is uniform */
    PRIOR_SAMPLE = 12000, /* random ones from which the best by mean score are kept */
    NEAR_BEST = 10        /* observations whose neighbours join the pool */
};

size_t engine_columns(const struct engine *e)
{
    return e->enc.n + e->n_sources;
}

/* ---- batches ---- */

static void batch_scores(const struct engine *e, struct batch *b)
{
    const float *col[SPACE_PARAMS_MAX];
    double weights = 0.0;

    for (size_t c = 0; c < e->enc.n; c++)
        col[c] = b->cols + c * b->m;
    b->zmean = xcalloc(b->m + 1, sizeof(*b->zmean));
    b->fails = xcalloc(b->m + 1, sizeof(*b->fails));
    for (size_t s = 0; s < e->n_sources; s++)
        weights += e->sources[s].weight;
    for (size_t s = 0; s < e->n_sources; s++) {
        float *z = b->cols + (e->enc.n + s) * b->m;
        float w = (float)(e->sources[s].weight / weights);

        source_score(&e->sources[s], b->m, b->rows, col, z, b->fails);
        for (size_t j = 0; j < b->m; j++)
            b->zmean[j] += w * z[j];
    }
}

void batch_make(const struct engine *e, size_t m, const uint16_t *rows, struct batch *out)
{
    *out = (struct batch){ .m = m, .rows = rows };
    out->cols = xcalloc(engine_columns(e) * m + 1, sizeof(*out->cols));
    for (size_t j = 0; j < m; j++)
        encoding_row(&e->enc, rows + j * space_n(e->space), out->cols + j, m);
    if (e->n_sources > 0)
        batch_scores(e, out);
}

void batch_release(struct batch *b)
{
    free(b->cols);
    free(b->zmean);
    free(b->fails);
    *b = (struct batch){ 0 };
}

/* ---- the pool ---- */

/* One random valid assignment; false when the space does not give one up. */
static bool draw(const struct engine *e, struct rng *rng, uint16_t *out)
{
    struct err ignored;

    if (e->listed == NULL)
        return space_sample(e->space, NULL, rng, out, &ignored) == 0;
    memcpy(out, e->listed + rng_below(rng, e->n_listed) * space_n(e->space),
           space_n(e->space) * sizeof(*out));
    return true;
}

/* Up to n distinct random assignments. */
static void draw_many(const struct engine *e, struct rng *rng, size_t n, struct rowset *out)
{
    uint16_t a[SPACE_PARAMS_MAX];
    bool added;

    for (size_t tries = 0; tries < 2 * n && out->n < n; tries++)
        if (draw(e, rng, a))
            rowset_add(out, a, &added);
}

struct scored {
    float value;
    uint32_t at;
};

static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* The numbers of the n smallest values, smallest first (n <= m). */
static void smallest(const float *value, size_t m, size_t n, uint32_t *out)
{
    CLEANUP(freep) struct scored *order = xmalloc((m + 1) * sizeof(*order));

    for (size_t i = 0; i < m; i++)
        order[i] = (struct scored){ value[i], (uint32_t)i };
    qsort(order, m, sizeof(*order), compare_scored);
    for (size_t i = 0; i < n; i++)
        out[i] = order[i].at;
}

/* Keeps a third of the pool's room for what the sources like best. */
static void find_by_prior(struct engine *e)
{
    const size_t width = space_n(e->space);
    struct rng rng = rng_derive(e->options.seed, "pool prior", 0);
    struct rowset sample;
    struct batch b;
    uint32_t *pick;

    rowset_init(&sample, e->space);
    draw_many(e, &rng, PRIOR_SAMPLE, &sample);
    for (size_t s = 0; s < e->n_sources; s++) /* what was recorded is what is known best */
        for (size_t i = 0; i < MIN(e->sources[s].records.n, (size_t)PRIOR_SAMPLE); i++) {
            bool added;

            rowset_add(&sample, rowset_row(&e->sources[s].records, i), &added);
        }
    batch_make(e, sample.n, sample.rows, &b);
    e->n_by_prior = MIN(sample.n, e->options.pool_cap / 3);
    pick = xmalloc((e->n_by_prior + 1) * sizeof(*pick));
    smallest(b.zmean, sample.n, e->n_by_prior, pick);
    e->by_prior = xmalloc((e->n_by_prior + 1) * width * sizeof(*e->by_prior));
    for (size_t i = 0; i < e->n_by_prior; i++)
        memcpy(e->by_prior + i * width, rowset_row(&sample, pick[i]), width * sizeof(*e->by_prior));
    free(pick);
    batch_release(&b);
    rowset_release(&sample);
}

static void add_near_best(struct engine *e)
{
    const size_t width = space_n(e->space);
    CLEANUP(freep) float *y = xmalloc((e->n_obs + 1) * sizeof(*y));
    CLEANUP(freep) uint16_t *near = xmalloc(SPACE_NEIGHBOURS_MAX * width * sizeof(*near));
    uint32_t best[NEAR_BEST];
    size_t n = MIN(e->n_good, (size_t)NEAR_BEST);
    bool added;

    for (size_t i = 0; i < e->n_obs; i++)
        y[i] = isnan(e->obs[i].y) ? INFINITY : (float)e->obs[i].y;
    smallest(y, e->n_obs, n, best);
    for (size_t i = 0; i < n; i++) {
        size_t found =
            space_neighbours(e->space, e->obs_a + best[i] * width, near, SPACE_NEIGHBOURS_MAX);

        for (size_t k = 0; k < found && e->pool.n < e->options.pool_cap; k++)
            rowset_add(&e->pool, near + k * width, &added);
    }
}

/* What a forest grown on the observations likes best among many random assignments. */
static void add_by_forest(struct engine *e, size_t n)
{
    const size_t d = engine_columns(e), width = space_n(e->space);
    struct rng rng = rng_derive(e->options.seed, "pool forest", e->n_obs);
    CLEANUP(freep) double *y = xmalloc((e->n_obs + 1) * sizeof(*y));
    CLEANUP(freep) float *x = xmalloc((e->n_obs * e->enc.n + 1) * sizeof(*x));
    CLEANUP(freep) float *mean = NULL, *var = NULL, *cols = NULL;
    CLEANUP(freep) uint32_t *pick = NULL;
    const float *col[SPACE_PARAMS_MAX];
    struct rowset sample;
    bool added;

    rowset_init(&sample, e->space);
    draw_many(e, &rng, 4 * n, &sample);
    cols = xmalloc((sample.n * e->enc.n + 1) * sizeof(*cols));
    mean = xmalloc((sample.n + 1) * sizeof(*mean));
    var = xmalloc((sample.n + 1) * sizeof(*var));
    for (size_t c = 0; c < e->enc.n; c++)
        col[c] = cols + c * sample.n;
    for (size_t j = 0; j < sample.n; j++)
        encoding_row(&e->enc, sample.rows + j * width, cols + j, sample.n);
    for (size_t i = 0; i < e->n_obs; i++) {
        memcpy(x + i * e->enc.n, e->obs_x + i * d, e->enc.n * sizeof(*x));
        y[i] = isnan(e->obs[i].y) ? e->slowest : e->obs[i].y;
    }
    forest_predict(e->enc.n, e->enc.unordered, e->n_obs, x, y, sample.n, col, &rng, mean, var);
    n = MIN(n, sample.n);
    pick = xmalloc((n + 1) * sizeof(*pick));
    smallest(mean, sample.n, n, pick);
    for (size_t i = 0; i < n; i++)
        rowset_add(&e->pool, rowset_row(&sample, pick[i]), &added);
    rowset_release(&sample);
}

static void fill_pool(struct engine *e)
{
    const size_t width = space_n(e->space), cap = e->options.pool_cap;
    struct rng rng = rng_derive(e->options.seed, "pool", e->n_obs);
    uint16_t a[SPACE_PARAMS_MAX];
    bool added;

    rowset_clear(&e->pool);
    for (size_t i = 0; i < e->n_by_prior; i++)
        rowset_add(&e->pool, e->by_prior + i * width, &added);
    if (e->n_good > 0) {
        add_near_best(e);
        add_by_forest(e, (cap - MIN(e->pool.n, cap)) / 3);
    }
    for (size_t tries = 0; tries < 2 * cap && e->pool.n < cap; tries++)
        if (draw(e, &rng, a))
            rowset_add(&e->pool, a, &added);
}

static void pool_view(struct engine *e)
{
    batch_release(&e->view);
    batch_make(e, e->pool.n, e->pool.rows, &e->view);
    e->taken = xrealloc(e->taken, e->pool.n + 1);
    pool_mark_taken(e);
}

void pool_mark_taken(struct engine *e)
{
    memset(e->taken, 0, e->pool.n);
    for (size_t i = 0; i < e->seen.n; i++) {
        long at = rowset_find(&e->pool, rowset_row(&e->seen, i));

        if (at >= 0)
            e->taken[at] = 1;
    }
    for (size_t i = 0; i < e->n_pending; i++) {
        long at = rowset_find(&e->pool, e->pending[i].a);

        if (at >= 0)
            e->taken[at] = 1;
    }
}

/* All valid assignments where they can be listed: into the pool when few, else aside for sampling.
 */
static int list_valid(struct engine *e, struct err *err)
{
    const size_t width = space_n(e->space);
    uint16_t *rows;
    size_t n;
    bool added;
    struct err ignored;

    if (space_enumerate(e->space, NULL, LISTED_MAX, &rows, &n, &ignored) != 0)
        return 0;
    if (n == 0) {
        free(rows);
        return err_set(err, ERR_NOT_FOUND, "no assignment of the space is valid");
    }
    if (n > e->options.pool_full) {
        e->listed = rows;
        e->n_listed = n;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        rowset_add(&e->pool, rows + i * width, &added);
    e->pool_whole = true;
    free(rows);
    return 0;
}

int pool_start(struct engine *e, struct err *err)
{
    rowset_init(&e->pool, e->space);
    if (list_valid(e, err) != 0)
        return -1;
    if (!e->pool_whole)
        fill_pool(e);
    if (e->pool.n == 0)
        return err_set(err, ERR_NOT_FOUND, "no valid assignment was found in the space");
    for (size_t s = 0; s < e->n_sources; s++)
        source_prepare(&e->sources[s], &e->enc, &e->pool, e->pool_whole, e->options.seed + s);
    if (!e->pool_whole && e->n_sources > 0) {
        find_by_prior(e);
        fill_pool(e);
    }
    pool_view(e);
    return 0;
}

void pool_renew(struct engine *e)
{
    if (e->pool_whole)
        return;
    fill_pool(e);
    pool_view(e);
}

void pool_release(struct engine *e)
{
    batch_release(&e->view);
    rowset_release(&e->pool);
    free(e->taken);
    free(e->listed);
    free(e->by_prior);
}
