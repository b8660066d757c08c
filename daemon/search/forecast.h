/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forecast that every proposal carries: what its source predicts for the log of the objective,
 * and what the ledger makes of that (calibration.h). The raw one is what models and acquisition go
 * by; the corrected one is shown, scored and believed by the tree. docs/ledger.md names the
 * sources. Thread: the search's.
 */
#ifndef KS_SEARCH_FORECAST_H
#define KS_SEARCH_FORECAST_H

#include <jansson.h>
#include <stdbool.h>

#include "search/calibration.h"
#include "search/search.h"

struct forecast {
    char source[SOURCE_NAME_MAX];
    bool informed; /* by a model or by memory, rather than by the spread of outcomes alone */
    double mean, sd;
    double corrected_mean, corrected_sd;
};

/*
 * Of a proposal: source "PROPOSER/arm/model". Where the model has said nothing yet (NaN, or sd not
 * above 0) the outcomes of the search so far speak: their mean and spread, one outcome of 0 with
 * deviation 0.5 among them; its model is then called "spread".
 */
void forecast_of_model(const struct search *s, const char *arm, const char *model, double mean,
                       double sd, struct forecast *out);
/*
 * Of an assignment adopted from memory: what it reached there, with a deviation of 0.1 over the
 * similarity (at most 1). Source "PROPOSER/memory/adopted".
 */
void forecast_of_adopted(const struct search *s, int64_t objective_q, double similarity,
                         struct forecast *out);
/* Adds `source`, `predicted` and `corrected` to an attempt event. */
void forecast_add(const struct forecast *f, json_t *attempt);

/*
 * Insights predict too: the effect of a pair of assignments that differ in their tunable alone, by
 * the posterior that they had when they were offered. Adds `claims` to the measured event of `t`,
 * which reached objective_q: [{insight, mean, sd, corrected_mean, corrected_sd, outcome}] of the
 * offers that it and the latest of the earlier trials that is its partner decide; nothing without
 * any. Their source is FORECAST_INSIGHT.
 */
#define FORECAST_INSIGHT "insight"
void forecast_add_claims(const struct search *s, const struct trial *t, int64_t objective_q,
                         json_t *measured);
/* Folds such rows into the search's calibration (NULL is fine). */
void forecast_count_claims(struct search *s, const json_t *claims);

#endif
