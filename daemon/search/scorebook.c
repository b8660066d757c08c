/* SPDX-License-Identifier: Apache-2.0 */
/* Scores and their outcomes; see scorebook.h. */
#include "search/scorebook.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* Log gain that counts whatever the noise, and that of an improvement nobody has seen yet. */
static const double gain_floor = 0.01, gain_usual = 0.1;

void scorebook_release(struct scorebook *b)
{
    free(b->bets);
    *b = (struct scorebook){ 0 };
}

static struct score_bet *bet_of(const struct scorebook *b, uint64_t cycle)
{
    for (size_t i = b->n; i > 0; i--)
        if (b->bets[i - 1].cycle == cycle)
            return &b->bets[i - 1];
    return NULL;
}

void scorebook_open(struct scorebook *b, const struct score_bet *bet)
{
    struct score_bet *mine;

    if (bet_of(b, bet->cycle) != NULL)
        return;
    b->bets = xgrow(b->bets, &b->cap, b->n + 1, sizeof(*b->bets));
    mine = &b->bets[b->n++];
    *mine = *bet;
    mine->settled = mine->passed = mine->improved = false;
    mine->gain = 0;
}

static void settle(struct score_bet *bet, bool passed, int64_t best_q, int64_t sd_q)
{
    double noise;

    bet->settled = true;
    bet->passed = passed;
    if (!passed)
        return;
    noise = 2e-6 * hypot((double)sd_q, (double)bet->base_sd_q);
    bet->gain = 1e-6 * ((double)best_q - (double)bet->base_q);
    bet->improved = bet->gain > fmax(gain_floor, noise);
}

void scorebook_settle(struct scorebook *b, uint64_t cycle, bool passed, int64_t best_q,
                      int64_t sd_q)
{
    struct score_bet *bet = bet_of(b, cycle);

    if (bet != NULL && !bet->settled)
        settle(bet, passed, best_q, sd_q);
}

json_t *scorebook_bet_json(const struct scorebook *b, uint64_t cycle, bool passed, int64_t best_q,
                           int64_t sd_q)
{
    const struct score_bet *open = bet_of(b, cycle);
    struct score_bet bet;

    if (open == NULL || open->settled)
        return NULL;
    bet = *open;
    settle(&bet, passed, best_q, sd_q);
    return json_pack("{s:s, s:f, s:b}", "model", bet.model, "score", bet.score, "improved",
                     bet.improved);
}

/* ---- Corrections ---- */

struct score_correction score_correction_none(void)
{
    return (struct score_correction){ .slope = 1 };
}

double score_corrected(const struct score_correction *c, double score)
{
    return fmin(1, fmax(0, c->intercept + c->slope * score));
}

/* Sums of a line through weighted points. */
struct line {
    double n, x, y, xx, xy;
};

static void line_add(struct line *l, double x, double y)
{
    l->n += 1;
    l->x += x;
    l->y += y;
    l->xx += x * x;
    l->xy += x * y;
}

/* The points of a prior: the middles of SCOREBOOK_PRIOR equal parts of 0..1. */
static struct line line_prior(const struct score_correction *prior)
{
    struct line l = { 0 };

    for (int i = 0; i < SCOREBOOK_PRIOR; i++) {
        double x = (i + 0.5) / SCOREBOOK_PRIOR;

        line_add(&l, x, prior->intercept + prior->slope * x);
    }
    return l;
}

/* The prior's points differ in x, so the denominator is never 0. */
static struct score_correction line_fit(const struct line *l, size_t outcomes)
{
    struct score_correction c = { .n = outcomes };

    c.slope = fmax(0, (l->n * l->xy - l->x * l->y) / (l->n * l->xx - l->x * l->x));
    c.intercept = (l->y - c.slope * l->x) / l->n;
    return c;
}

struct score_correction score_correction_fit(const struct score_correction *prior,
                                             const double *scores, const bool *improved, size_t n)
{
    struct score_correction c = *prior;
    struct line l = line_prior(prior);

    c.n = 0;
    if (n == 0)
        return c;
    for (size_t i = 0; i < n; i++)
        line_add(&l, scores[i], improved[i]);
    return line_fit(&l, n);
}

/* The settled bets before the i-th, of one model (NULL: of all). */
static struct score_correction fit_until(const struct scorebook *b, size_t i, const char *model,
                                         const struct score_correction *prior)
{
    struct score_correction c = *prior;
    struct line l = line_prior(prior);
    size_t n = 0;

    for (size_t k = 0; k < i; k++) {
        const struct score_bet *bet = &b->bets[k];

        if (!bet->settled || (model && strcmp(bet->model, model) != 0))
            continue;
        line_add(&l, bet->score, bet->improved);
        n++;
    }
    c.n = 0;
    return n > 0 ? line_fit(&l, n) : c;
}

/* What the past says of a model, else of all, else nothing. */
static struct score_correction recalled(const struct scorebook *b, const char *model)
{
    struct score_correction found = score_correction_none();

    for (size_t i = 0; i < b->n_recalled; i++) {
        if (strcmp(b->recalled[i].model, model) == 0)
            return b->recalled[i].correction;
        if (b->recalled[i].model[0] == '\0')
            found = b->recalled[i].correction;
    }
    return found;
}

struct score_correction scorebook_correction(const struct scorebook *b, const char *model)
{
    struct score_correction past = recalled(b, model), own;
    struct score_correction all = fit_until(b, b->n, NULL, &past);

    own = fit_until(b, b->n, model, &all);
    /* Bets of one model alone would count twice. */
    return own.n == 0 || own.n == all.n ? all : own;
}

double scorebook_gain(const struct scorebook *b, const char *model, double score)
{
    struct score_correction c = scorebook_correction(b, model);
    double sum = gain_usual * SCOREBOOK_PRIOR / 2, n = SCOREBOOK_PRIOR / 2.0;

    for (size_t i = 0; i < b->n; i++)
        if (b->bets[i].improved) {
            sum += b->bets[i].gain;
            n++;
        }
    return score_corrected(&c, score) * sum / n;
}

/* ---- The report ---- */

static json_t *mean_or_null(double sum, double n)
{
    return n > 0 ? json_real(sum / n) : json_null();
}

static json_t *bins_json(const struct scorebook *b)
{
    json_t *bins = json_array();

    for (int k = 0; k < SCOREBOOK_BINS; k++) {
        double score = 0, improved = 0, n = 0;

        for (size_t i = 0; i < b->n; i++) {
            const struct score_bet *bet = &b->bets[i];

            if (!bet->settled || MIN((int)(bet->score * SCOREBOOK_BINS), SCOREBOOK_BINS - 1) != k)
                continue;
            n++;
            score += bet->score;
            improved += bet->improved;
        }
        json_array_append_new(
            bins, json_pack("{s:f, s:f, s:I, s:o, s:o}", "from", (double)k / SCOREBOOK_BINS, "to",
                            (k + 1.0) / SCOREBOOK_BINS, "n", (json_int_t)n, "score",
                            mean_or_null(score, n), "improved", mean_or_null(improved, n)));
    }
    return bins;
}

static json_t *factor_json(const struct scorebook *b)
{
    double sum = 0, squares = 0, n = 0;

    for (size_t i = 0; i < b->n; i++) {
        const struct score_bet *bet = &b->bets[i];
        double d = bet->gain - bet->expected;

        if (!bet->passed || !bet->has_expected)
            continue;
        n++;
        sum += d;
        squares += d * d;
    }
    return json_pack("{s:I, s:o, s:o}", "n", (json_int_t)n, "bias", mean_or_null(sum, n), "rms",
                     n > 0 ? json_real(sqrt(squares / n)) : json_null());
}

/* Settled bets of a model (NULL: of all), how many of them improved, and the Brier score. */
struct tally {
    double n, improved, brier;
};

static struct tally tally_of(const struct scorebook *b, const char *model)
{
    struct tally t = { 0 };

    for (size_t i = 0; i < b->n; i++) {
        const struct score_bet *bet = &b->bets[i];

        if (!bet->settled || (model && strcmp(bet->model, model) != 0))
            continue;
        t.n++;
        t.improved += bet->improved;
        t.brier += pow(bet->score - bet->improved, 2);
    }
    return t;
}

/* Each bet corrected by those before it: what the correction was worth when it was used. */
static double brier_corrected(const struct scorebook *b)
{
    struct score_correction past = recalled(b, "");
    struct line l = line_prior(&past);
    double sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++) {
        const struct score_bet *bet = &b->bets[i];
        struct score_correction c = n > 0 ? line_fit(&l, n) : past;

        if (!bet->settled)
            continue;
        sum += pow(score_corrected(&c, bet->score) - bet->improved, 2);
        line_add(&l, bet->score, bet->improved);
        n++;
    }
    return sum;
}

static bool seen_before(const struct scorebook *b, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (b->bets[k].settled && strcmp(b->bets[k].model, b->bets[i].model) == 0)
            return true;
    return false;
}

static json_t *models_json(const struct scorebook *b)
{
    json_t *models = json_array();

    for (size_t i = 0; i < b->n && json_array_size(models) < SCOREBOOK_MODELS_MAX; i++) {
        const char *model = b->bets[i].model;
        struct score_correction c;
        struct tally t;

        if (!b->bets[i].settled || seen_before(b, i))
            continue;
        c = scorebook_correction(b, model);
        t = tally_of(b, model);
        json_array_append_new(models, json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "model", model,
                                                "n", (json_int_t)t.n, "improved",
                                                (json_int_t)t.improved, "slope", c.slope,
                                                "intercept", c.intercept, "brier", t.brier / t.n));
    }
    return models;
}

json_t *scorebook_json(const struct scorebook *b)
{
    struct score_correction past = recalled(b, "");
    struct score_correction all = fit_until(b, b->n, NULL, &past);
    struct tally t = tally_of(b, NULL);

    return json_pack("{s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:o, s:o}", "n", (json_int_t)t.n,
                     "improved", (json_int_t)t.improved, "slope", all.slope, "intercept",
                     all.intercept, "brier", mean_or_null(t.brier, t.n), "brier_corrected",
                     mean_or_null(brier_corrected(b), t.n), "bins", bins_json(b), "factor",
                     factor_json(b), "models", models_json(b));
}

/* ---- Over all searches ---- */

static void sums_add(struct score_sums *s, int64_t score_q, bool improved)
{
    s->n++;
    s->improved += improved;
    s->x_q += score_q;
    s->xx_q += score_q * score_q / 1000000;
    s->xy_q += improved ? score_q : 0;
}

void score_past_add(struct score_past *p, const json_t *bet)
{
    const char *model = jsonx_str(bet, "model", NULL);
    double score = jsonx_num(bet, "score", NAN);
    bool improved = jsonx_bool(bet, "improved", 0);
    int64_t score_q;
    size_t i = 0;

    if (model == NULL || !(score >= 0 && score <= 1) || strlen(model) >= SCOREBOOK_MODEL_MAX)
        return;
    score_q = llround(score * 1e6);
    sums_add(&p->all, score_q, improved);
    while (i < p->n && strcmp(p->models[i].model, model) != 0)
        i++;
    if (i == SCOREBOOK_MODELS_MAX || model[0] == '\0')
        return;
    if (i == p->n)
        str_copy(p->models[p->n++].model, SCOREBOOK_MODEL_MAX, model);
    sums_add(&p->models[i].sums, score_q, improved);
}

static struct score_correction fit_sums(const struct score_sums *s,
                                        const struct score_correction *prior)
{
    struct line l = line_prior(prior);

    l.n += (double)s->n;
    l.x += 1e-6 * (double)s->x_q;
    l.y += (double)s->improved;
    l.xx += 1e-6 * (double)s->xx_q;
    l.xy += 1e-6 * (double)s->xy_q;
    return line_fit(&l, (size_t)s->n);
}

static json_t *past_row(const char *model, const struct score_correction *c)
{
    return json_pack("{s:s, s:I, s:f, s:f}", "model", model, "n", (json_int_t)c->n, "slope",
                     c->slope, "intercept", c->intercept);
}

json_t *score_past_json(const struct score_past *p)
{
    struct score_correction none = score_correction_none(), all;
    json_t *rows = json_array();

    if (p->all.n == 0)
        return rows;
    all = fit_sums(&p->all, &none);
    json_array_append_new(rows, past_row("", &all));
    for (size_t i = 0; i < p->n; i++) {
        struct score_correction own = fit_sums(&p->models[i].sums, &all);

        json_array_append_new(rows, past_row(p->models[i].model, &own));
    }
    return rows;
}

int scorebook_recall(struct scorebook *b, const json_t *past, struct err *err)
{
    json_t *row;
    size_t i;

    json_array_foreach (past, i, row) {
        struct score_recalled *r = &b->recalled[b->n_recalled];
        const char *model = jsonx_str(row, "model", NULL);
        double slope = jsonx_num(row, "slope", NAN), intercept = jsonx_num(row, "intercept", NAN);

        if (b->n_recalled == ARRAY_LEN(b->recalled) || model == NULL || !(slope >= 0) ||
            !isfinite(slope) || !isfinite(intercept) ||
            !str_copy(r->model, sizeof(r->model), model))
            return err_set(err, ERR_CORRUPT, "stored scores of past searches are damaged");
        r->correction = (struct score_correction){ slope, intercept, 0 };
        b->n_recalled++;
    }
    return 0;
}

double score_expected_gain(double mean, double sd, double best)
{
    double gain = mean - best, z;

    if (!(sd > 0))
        return fmax(0, gain);
    z = gain / sd;
    return gain * 0.5 * erfc(-z * M_SQRT1_2) + sd * exp(-0.5 * z * z) / sqrt(2 * M_PI);
}
