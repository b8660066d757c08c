/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model's scores turned out to be worth. A node's score is read as the probability that its
 * cycle improves on what it starts from, beyond noise. Each cycle is a bet with the node's beliefs
 * as they were when it was chosen, settled when the cycle ends. From the settled bets follow a
 * correction of later scores and a report. A fold over the search's cycles; docs/ledger.md has the
 * method. Thread: the search's.
 */
#ifndef KS_SEARCH_SCOREBOOK_H
#define KS_SEARCH_SCOREBOOK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SCOREBOOK_PRIOR = 10, /* outcomes that the prior is worth */
    SCOREBOOK_BINS = 5,   /* of the reliability table, equal parts of 0..1 */
    SCOREBOOK_MODEL_MAX = 96,
    SCOREBOOK_MODELS_MAX = 16 /* told apart; the bets of further ones count among all */
};

/* One cycle. */
struct score_bet {
    uint64_t cycle;
    char model[SCOREBOOK_MODEL_MAX]; /* who scored the node */
    double score, confidence;        /* 0..1 */
    bool has_expected;
    double expected; /* log gain over the base that the node promised */
    int64_t base_q;  /* what the cycle starts from, micro-log of the objective */
    int64_t base_sd_q;
    bool settled, passed;
    bool improved; /* beyond noise */
    double gain;   /* log gain over the base; 0 when nothing passed */
};

/* corrected = intercept + slope * score, cut to 0..1; the slope is never negative. */
struct score_correction {
    double slope, intercept;
    size_t n; /* settled bets behind it */
};

struct scorebook {
    size_t n, cap;
    struct score_bet *bets; /* in the order of their cycles */
    /* What past searches say: of all models under the name "". */
    size_t n_recalled;
    struct score_recalled {
        char model[SCOREBOOK_MODEL_MAX];
        struct score_correction correction;
    } recalled[SCOREBOOK_MODELS_MAX + 1];
};

void scorebook_release(struct scorebook *b);
/* Opens the bet of a cycle; `bet` is copied, and not settled. A cycle has one: a second one is
 * ignored. */
void scorebook_open(struct scorebook *b, const struct score_bet *bet);
/*
 * Settles it: the cycle's best, micro-log with its deviation, or nothing passed. Improved is a gain
 * above 1 % and above two deviations of the difference. A cycle without a bet, or settled before,
 * changes nothing.
 */
void scorebook_settle(struct scorebook *b, uint64_t cycle, bool passed, int64_t best_q,
                      int64_t sd_q);

/* {1, 0, 0}: changes nothing. */
struct score_correction score_correction_none(void);
double score_corrected(const struct score_correction *c, double score);
/*
 * What scores[n] and whether each improved call for: least squares over them and over a prior of
 * SCOREBOOK_PRIOR outcomes, spread evenly over 0..1, that came out as `prior` says. Without
 * outcomes `prior` comes back; scores that say nothing end as the share that improved.
 */
struct score_correction score_correction_fit(const struct score_correction *prior,
                                             const double *scores, const bool *improved, size_t n);
/*
 * The correction of a model's later scores: all settled bets fitted first, from what the past says
 * of the model (or of all models, or nothing), then the model's own with that as their prior. A
 * model without bets has what all say.
 */
struct score_correction scorebook_correction(const struct scorebook *b, const char *model);

/*
 * The log gain to be expected of a node with this score: the corrected probability times the usual
 * gain of bets that improved, the mean of their gains and of SCOREBOOK_PRIOR / 2 gains of 0.1.
 */
double scorebook_gain(const struct scorebook *b, const char *model, double score);

/*
 * {n, improved, slope, intercept, brier, brier_corrected, bins[{from, to, n, score, improved}],
 * factor{n, bias, rms}, models[{model, n, improved, slope, intercept, brier}]}. Brier scores: mean
 * square of what was said less what came; the corrected one corrects each bet by those settled
 * before it. factor: measured less promised log gain of bets that passed. null where there is
 * nothing to divide by. Owned.
 */
json_t *scorebook_json(const struct scorebook *b);

/* ---- Over all searches ---- */

/* The bet of a cycle as it will be settled, {model, score, improved}, for its last event; NULL when
 * there is none. Fresh. */
json_t *scorebook_bet_json(const struct scorebook *b, uint64_t cycle, bool passed, int64_t best_q,
                           int64_t sd_q);

/* Sums of settled bets in integers: scores in millionths, so that the order does not matter. */
struct score_sums {
    int64_t n, improved, x_q, xx_q, xy_q;
};
struct score_past {
    struct score_sums all;
    size_t n;
    struct {
        char model[SCOREBOOK_MODEL_MAX];
        struct score_sums sums;
    } models[SCOREBOOK_MODELS_MAX];
};
/* Counts what scorebook_bet_json gave; NULL, or what does not have its form, is nothing. */
void score_past_add(struct score_past *p, const json_t *bet);
/* [{model, n, slope, intercept}], "" for all; empty without bets. Fresh. */
json_t *score_past_json(const struct score_past *p);
/* Takes that in; NULL is nothing. ERR_CORRUPT. */
int scorebook_recall(struct scorebook *b, const json_t *past, struct err *err);

/* The expected log gain of a normal forecast over `best`. Natural logs. */
double score_expected_gain(double mean, double sd, double best);

#endif
