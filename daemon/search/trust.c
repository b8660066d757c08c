/* SPDX-License-Identifier: Apache-2.0 */
/* Trust in memory; see trust.h. */
#include "search/trust.h"

#include <math.h>
#include <stdio.h>

#include "search/search.h"

enum {
    WINDOW = 12,     /* newest evaluations of either arm that are compared */
    COMPARED_MIN = 3 /* of each, before they are */
};

#define SHARE_LEAST 0.10
#define SHARE_RANGE 0.80
#define BIAS (-2.2)      /* log odds of the memory-free arm while nothing speaks against memory */
#define DOUBT_WEIGHT 4.0 /* memory that keeps nothing of its promise: share 0.79 */
#define FAR_WEIGHT 1.2   /* sources of similarity below a half are doubted beforehand */
#define KEPT 0.6         /* of the way from ordinary to promised: no doubt */
#define RANGE_LEAST 0.3  /* ln; sources whose best is hardly above the ordinary promise little */
#define GAP_MAX 3.0      /* standard errors */
#define NOISE 0.02       /* ln; a difference that two measurements of one program may have */
#define LOST_AT 0.6      /* share at which memory retreats, and at which it is back */
#define REGAINED_AT 0.35
#define ENGINE_SHARE 0.2 /* what the engine gives its own memory-free arm while all is well */
#define DUE_MAX 2.0

/* The newest outcomes of one arm, newest first. */
struct outcomes {
    size_t n_all, n;
    double v[WINDOW], best;
};

static void take(struct outcomes *o, double v)
{
    o->best = o->n_all++ == 0 ? v : fmax(o->best, v);
    if (o->n < WINDOW)
        o->v[o->n++] = v;
}

/* The lowest log objective that was measured: what a failure counts as. */
static double lowest(const struct search *s)
{
    double low = INFINITY;

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);

        if (t->ok)
            low = fmin(low, 1e-6 * (double)t->objective_q);
    }
    return isfinite(low) ? low : 0;
}

/* Memory's proposals that were expected to be good as they stand: not a step of a plan, whose
 * numbers are still open, nor what a model writes, which is promised by nobody but the model. */
static bool is_promised(const struct search *s, const struct trial *t)
{
    return search_has_model(s) ? t->adopted[0] != '\0' : !t->plan;
}

static void collect(const struct search *s, struct outcomes *memory, struct outcomes *promised,
                    struct outcomes *blind)
{
    double low = lowest(s);

    for (uint64_t n = search_measured(s); n > 0; n--) {
        const struct trial *t = search_trial(s, n);
        double y = t->ok ? 1e-6 * (double)t->objective_q : low;

        /* what a model begins with is the baseline itself: no arm proposed it */
        if (search_has_model(s) && t->program == 0)
            continue;
        take(trial_steered(t) ? memory : blind, y);
        if (trial_steered(t) && is_promised(s, t))
            take(promised, y);
    }
}

/* What the sources promise, ordinary and best, as means over them by similarity; false: nothing. */
static bool promise_of(const struct memory *m, double *ordinary, double *best)
{
    double w = 0, sum_best = 0, sum_ordinary = 0;

    for (size_t i = 0; m != NULL && i < m->n_sources; i++) {
        const struct memory_source *src = &m->sources[i];

        if (!src->has_level)
            continue;
        w += src->similarity;
        sum_best += src->similarity * 1e-6 * (double)src->best_q;
        sum_ordinary += src->similarity * 1e-6 * (double)src->ordinary_q;
    }
    if (w <= 0 || sum_best / w < NOISE)
        return false;
    *best = sum_best / w;
    *ordinary = fmin(sum_ordinary / w, *best - RANGE_LEAST);
    return true;
}

/* How far the best of memory's proposals stays behind the promise; less counts once memory is ahead
 * of what was found without it. */
static double doubt_of(const struct search *s, const struct outcomes *memory,
                       const struct outcomes *blind)
{
    double ordinary, best, kept, doubt;

    if (memory->n_all == 0 || !promise_of(s->memory, &ordinary, &best))
        return 0;
    kept = (memory->best - ordinary) / (best - ordinary);
    doubt = fmin(1, fmax(0, (KEPT - kept) / KEPT));
    if (blind->n_all > 0 && memory->best > blind->best + NOISE)
        doubt /= 1 + (double)blind->n_all;
    return doubt;
}

static double mean_of(const struct outcomes *o)
{
    double sum = 0;

    for (size_t i = 0; i < o->n; i++)
        sum += o->v[i];
    return sum / (double)o->n;
}

static double variance_of_mean(const struct outcomes *o, double mean)
{
    double sum = NOISE * NOISE;

    for (size_t i = 0; i < o->n; i++)
        sum += (o->v[i] - mean) * (o->v[i] - mean) / (double)(o->n - 1);
    return sum / (double)o->n;
}

/* Welch's statistic of the two arms' newest outcomes. */
static double gap_of(const struct outcomes *memory, const struct outcomes *blind)
{
    double m, b, z;

    if (memory->n < COMPARED_MIN || blind->n < COMPARED_MIN)
        return 0;
    m = mean_of(memory);
    b = mean_of(blind);
    z = (b - m) / sqrt(variance_of_mean(memory, m) + variance_of_mean(blind, b));
    return fmin(GAP_MAX, fmax(-GAP_MAX, z));
}

static double nearest_similarity(const struct search *s)
{
    return s->memory != NULL && s->memory->n_sources > 0 ? s->memory->sources[0].similarity : 1;
}

static void say_why(struct trust *t)
{
    if (t->gap > 1)
        snprintf(t->why, sizeof(t->why),
                 "what was proposed without memory came out better by %.1f standard errors "
                 "(%zu evaluations against %zu)",
                 t->gap, t->n_free, t->n_memory);
    else if (t->doubt > 0.25)
        snprintf(t->why, sizeof(t->why),
                 "the best of %zu evaluation%s on memory's word stays behind what near tasks "
                 "promised",
                 t->n_memory, t->n_memory == 1 ? "" : "s");
    else
        snprintf(t->why, sizeof(t->why), "memory keeps what it promised");
}

void trust_of(const struct search *s, struct trust *out)
{
    struct outcomes memory = { 0 }, promised = { 0 }, blind = { 0 };
    double odds = BIAS + FAR_WEIGHT * fmax(0, 0.5 - nearest_similarity(s));

    collect(s, &memory, &promised, &blind);
    *out = (struct trust){ .doubt = doubt_of(s, &promised, &blind),
                           .gap = gap_of(&memory, &blind),
                           .n_memory = memory.n_all,
                           .n_free = blind.n_all };
    odds += DOUBT_WEIGHT * out->doubt + out->gap;
    out->share = SHARE_LEAST + SHARE_RANGE / (1 + exp(-odds));
    out->lost = out->share >= (s->retreated ? REGAINED_AT : LOST_AT);
    say_why(out);
}

/*
 * With sources the engine pays its own memory-free arm what it gets while all is well; what is owed
 * beyond that is paid here, and all of it while memory loses.
 */
double trust_due(const struct search *s, const struct trust *t)
{
    bool paid = engine_sources(s->engine) > 0 && !t->lost;
    double accrued = paid ? fmax(0, t->share - ENGINE_SHARE) : t->share;

    return s->n_trials == 0 ? s->due : fmin(DUE_MAX, s->due + accrued);
}
