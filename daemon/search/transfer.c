/* SPDX-License-Identifier: Apache-2.0 */
/* Scores on sources, and hyper-parameters learned from them; see transfer.h. */
#include "search/transfer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

enum {
    MODEL_BEST = 100, /* records of a source that its model sees: the best, ... */
    MODEL_REST = 200, /* ... and random ones */
    PLAY_PICKED = 60, /* records of a source that plays the target: by tournament, ... */
    PLAY_RANDOM = 30,
    TOURNAMENT = 30,
    PLAY_POOL = 4096 /* records of a larger source from which they are taken */
};

#define BEND 0.7         /* scores above it ... */
#define BEND_SLOPE 0.25f /* ... grow this much slower: how slow the slow are matters little */
#define DENSE 0.5        /* share of the candidates that a listed source covers */

/* ---- one source ---- */

static void source_extremes(struct source *s, const double *sum, const uint32_t *count)
{
    s->best = INFINITY;
    s->slowest = -INFINITY;
    for (size_t i = 0; i < s->records.n; i++) {
        s->failed[i] = count[i] == 0;
        s->y[i] = s->failed[i] ? 0.0 : sum[i] / count[i];
        if (s->failed[i])
            continue;
        s->best = MIN(s->best, s->y[i]);
        s->slowest = MAX(s->slowest, s->y[i]);
    }
    for (size_t i = 0; i < s->records.n; i++)
        if (s->failed[i])
            s->y[i] = s->slowest;
}

void source_init(struct source *s, const struct space *space, const char *name, double weight,
                 size_t n, const uint16_t *a, const double *log_time)
{
    CLEANUP(freep) double *sum = xcalloc(n, sizeof(*sum));
    CLEANUP(freep) uint32_t *count = xcalloc(n, sizeof(*count));
    bool added;

    memset(s, 0, sizeof(*s));
    s->name = xstrdup(name);
    s->weight = weight;
    rowset_init(&s->records, space);
    for (size_t i = 0; i < n; i++) {
        size_t at = rowset_add(&s->records, a + i * space_n(space), &added);

        if (isnan(log_time[i]))
            continue;
        sum[at] += log_time[i];
        count[at]++;
    }
    s->y = xcalloc(s->records.n, sizeof(*s->y));
    s->failed = xcalloc(s->records.n, sizeof(*s->failed));
    source_extremes(s, sum, count);
}

void source_release(struct source *s)
{
    free(s->name);
    free(s->y);
    free(s->failed);
    rowset_release(&s->records);
    if (s->modelled)
        gp_release(&s->model);
    memset(s, 0, sizeof(*s));
}

struct ranked {
    double y;
    uint32_t at;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->y != y->y)
        return x->y < y->y ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* The best records and a random part of the rest, into pick[]; returns how many. */
static size_t pick_records(const struct source *s, uint64_t seed, uint32_t *pick)
{
    const size_t n = s->records.n;
    CLEANUP(freep) struct ranked *order = xmalloc(n * sizeof(*order));
    CLEANUP(freep) uint32_t *rest = xmalloc(n * sizeof(*rest));
    struct rng rng = rng_derive(seed, "source", n);
    size_t best = n <= MODEL_BEST + MODEL_REST ? n : MODEL_BEST;

    for (size_t i = 0; i < n; i++)
        order[i] = (struct ranked){ s->y[i], (uint32_t)i };
    qsort(order, n, sizeof(*order), compare_ranked);
    for (size_t i = 0; i < n; i++)
        rest[i] = order[i].at;
    rng_shuffle(&rng, rest + best, n - best);
    if (n > MODEL_BEST + MODEL_REST)
        best += MODEL_REST;
    memcpy(pick, rest, best * sizeof(*pick));
    return best;
}

void transfer_cold_prior(const struct encoding *enc, struct gp_prior *out)
{
    memset(out, 0, sizeof(*out));
    for (size_t c = 0; c < enc->n; c++)
        out->centre.length[c] = 0.7;
    out->centre.s1 = out->centre.s4 = out->centre.zlength = 1.0;
    out->centre.noise = 1e-3;
    out->sd_length = 1.0;
    out->sd_noise = 2.0;
    out->sd_amp = out->sd_zlength = 1.0;
}

void transfer_warm_prior(const struct encoding *enc, struct gp_prior *out)
{
    memset(out, 0, sizeof(*out));
    for (size_t c = 0; c < enc->n; c++)
        out->centre.length[c] = 0.5;
    out->centre.s1 = out->centre.s4 = 0.15 * 0.15;
    out->centre.zlength = 0.3;
    out->centre.noise = 0.02 * 0.02;
    out->sd_length = out->sd_amp = out->sd_zlength = out->sd_noise = 1.0;
}

static void source_model(struct source *s, const struct encoding *enc, uint64_t seed)
{
    uint32_t pick[MODEL_BEST + MODEL_REST];
    double y[MODEL_BEST + MODEL_REST];
    size_t n = pick_records(s, seed, pick);
    CLEANUP(freep) float *x = xcalloc(n * enc->n + 1, sizeof(*x));
    struct gp_shape shape = { .n_params = enc->n, .n_means = 1, .profiled = true };
    struct gp_prior prior;
    struct gp_hyper hyper;

    memcpy(shape.unordered, enc->unordered, sizeof(shape.unordered));
    for (size_t i = 0; i < n; i++) {
        encoding_row(enc, rowset_row(&s->records, pick[i]), x + i * enc->n, 1);
        y[i] = s->y[pick[i]];
    }
    transfer_cold_prior(enc, &prior);
    hyper = prior.centre;
    gp_fit(&shape, &prior, &(struct gp_data){ n, x, y }, 1, &hyper);
    gp_init(&s->model, &shape);
    gp_set(&s->model, &hyper, n, x, y, NULL);
    gp_mean_prepare(&s->model);
    s->modelled = true;
}

void source_prepare(struct source *s, const struct encoding *enc, const struct rowset *candidates,
                    bool complete, uint64_t seed)
{
    size_t known = 0;

    for (size_t i = 0; i < candidates->n; i++)
        known += rowset_find(&s->records, rowset_row(candidates, i)) >= 0;
    s->listed = (double)known >= DENSE * (double)candidates->n;
    if (!s->listed || !complete || known < candidates->n)
        source_model(s, enc, seed);
}

static float bend(double z)
{
    float v = (float)MAX(z, 0.0);

    return v <= (float)BEND ? v : (float)BEND + BEND_SLOPE * (v - (float)BEND);
}

void source_score(const struct source *s, size_t m, const uint16_t *rows, const float *const *col,
                  float *z, float *fails)
{
    const size_t width = space_n(s->records.space);

    if (s->modelled)
        gp_mean(&s->model, m, col, NULL, z);
    for (size_t j = 0; j < m; j++) {
        long at = rowset_find(&s->records, rows + j * width);
        double y = s->modelled ? (double)z[j] : s->slowest;

        if (at >= 0 && fails != NULL && s->failed[at])
            fails[j] += 1.0f;
        if (at >= 0 && (s->listed || !s->modelled))
            y = s->y[at];
        z[j] = bend(y - s->best);
    }
}

/* ---- learning from the sources ---- */

/* What one source looks like as a target: records, and the others' scores of them. */
struct play {
    size_t n;
    float *x; /* [n][columns] */
    double *resid;
};

/* The records of `s` that a game draws from. */
static size_t play_pool(const struct source *s, struct rng *rng, uint32_t *out)
{
    CLEANUP(freep) uint32_t *all = xmalloc(s->records.n * sizeof(*all));
    size_t n = MIN(s->records.n, (size_t)PLAY_POOL);

    for (size_t i = 0; i < s->records.n; i++)
        all[i] = (uint32_t)i;
    if (s->records.n > PLAY_POOL)
        rng_shuffle(rng, all, s->records.n);
    memcpy(out, all, n * sizeof(*out));
    return n;
}

/* 60 winners of tournaments on the others' mean score, then 30 random ones; no record twice. */
static size_t play_draw(const float *mean, size_t n, struct rng *rng, uint32_t *out)
{
    CLEANUP(freep) uint8_t *taken = xcalloc(n, 1);
    size_t drawn = 0;

    for (int i = 0; i < PLAY_PICKED + PLAY_RANDOM; i++) {
        size_t best = rng_below(rng, n);

        for (int t = 1; i < PLAY_PICKED && t < TOURNAMENT; t++) {
            size_t other = rng_below(rng, n);

            if (mean[other] < mean[best])
                best = other;
        }
        if (!taken[best])
            out[drawn++] = (uint32_t)best;
        taken[best] = 1;
    }
    return drawn;
}

/* Scores of the pool on every source but `self`: z[k][n] and their mean. */
static void play_scores(const struct source *sources, size_t n_sources, size_t self, size_t n,
                        const uint16_t *rows, const float *const *col, float *z, float *mean)
{
    size_t k = 0;

    memset(mean, 0, n * sizeof(*mean));
    for (size_t s = 0; s < n_sources; s++) {
        if (s == self)
            continue;
        source_score(&sources[s], n, rows, col, z + k * n, NULL);
        for (size_t i = 0; i < n; i++)
            mean[i] += z[k * n + i] / (float)(n_sources - 1);
        k++;
    }
}

static void play_make(const struct source *sources, size_t n_sources, size_t self,
                      const struct encoding *enc, uint64_t seed, struct play *out)
{
    const struct source *s = &sources[self];
    const size_t width = space_n(s->records.space), others = n_sources - 1, d = enc->n + others;
    struct rng rng = rng_derive(seed, "play", self);
    uint32_t pool[PLAY_POOL], draw[PLAY_PICKED + PLAY_RANDOM];
    size_t n = play_pool(s, &rng, pool);
    CLEANUP(freep) uint16_t *rows = xmalloc(n * width * sizeof(*rows));
    CLEANUP(freep) float *cols = xmalloc((enc->n + others + 1) * n * sizeof(*cols));
    float *z = cols + enc->n * n, *mean = z + others * n;
    const float *col[SPACE_PARAMS_MAX];

    for (size_t i = 0; i < n; i++) {
        memcpy(rows + i * width, rowset_row(&s->records, pool[i]), width * sizeof(*rows));
        encoding_row(enc, rows + i * width, cols + i, n);
    }
    for (size_t c = 0; c < enc->n; c++)
        col[c] = cols + c * n;
    play_scores(sources, n_sources, self, n, rows, col, z, mean);
    out->n = play_draw(mean, n, &rng, draw);
    out->x = xmalloc(out->n * d * sizeof(*out->x));
    out->resid = xmalloc(out->n * sizeof(*out->resid));
    for (size_t i = 0; i < out->n; i++) {
        for (size_t c = 0; c < d; c++)
            out->x[i * d + c] = cols[c * n + draw[i]];
        /* Bent like the scores: else the slow records, which nobody is after, set the amplitudes.
         */
        out->resid[i] = (double)bend(s->y[pool[draw[i]]] - s->best) - (double)mean[draw[i]];
    }
}

void transfer_learn(struct source *sources, size_t n, const struct encoding *enc, uint64_t seed,
                    struct gp_prior *prior)
{
    struct gp_shape shape = { .n_params = enc->n, .n_scores = n - 1, .n_means = 1 };
    struct gp_hyper hyper = prior->centre;
    struct play plays[GP_SCORES_MAX];
    struct gp_data data[GP_SCORES_MAX];

    if (n < 2)
        return;
    memcpy(shape.unordered, enc->unordered, sizeof(shape.unordered));
    for (size_t s = 0; s < n; s++) {
        play_make(sources, n, s, enc, seed, &plays[s]);
        data[s] = (struct gp_data){ plays[s].n, plays[s].x, plays[s].resid };
    }
    gp_fit(&shape, prior, data, n, &hyper);
    for (size_t s = 0; s < n; s++) {
        free(plays[s].x);
        free(plays[s].resid);
    }
    prior->centre = hyper;
}
