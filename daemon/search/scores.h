/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A search's scorebook, kept as its cycles begin and end: only where a language model plans,
 * because the built-in proposer's scores are its engine's forecasts, which have a ledger of their
 * own, and those of fallbacks (select.h) are nobody's. Thread: the search's.
 */
#ifndef KS_SEARCH_SCORES_H
#define KS_SEARCH_SCORES_H

#include <jansson.h>

#include "base/err.h"
#include "search/scorebook.h"

struct lane;
struct search;

/* Who scores the nodes: the model of the latest answer to a planner's call, "" before there is one.
 * Borrowed until the next event. */
const char *scores_model(const struct search *s);

/* The fold of `cycle`, after the lane has its node, and of `cycle_end`, while it still has it. */
void scores_apply_cycle(struct search *s, const struct lane *l, const json_t *ev);
void scores_apply_cycle_end(struct search *s, const struct lane *l);

/* Adds to the `seeded` event, as `scores`, what past searches say of models' scores; not for a cold
 * search. What history_recall_scores says. Thread: worker, blocks. */
int scores_seed(const struct search *s, json_t *event, struct err *err);

/* The member `bet` of the `cycle_end` event of this lane, for history.h; NULL for none. Fresh. */
json_t *scores_bet_json(const struct search *s, const struct lane *l);

/* What the next choice's scores are corrected by. */
struct score_correction scores_correction(const struct search *s);

#endif
