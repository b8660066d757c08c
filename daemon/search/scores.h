/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A search's scorebook, kept as its cycles begin and end: only with a language model, because the
 * built-in proposer's scores are its engine's forecasts, which have a ledger of their own. Thread:
 * the search's.
 */
#ifndef KS_SEARCH_SCORES_H
#define KS_SEARCH_SCORES_H

#include <jansson.h>

#include "search/scorebook.h"

struct lane;
struct search;

/* Who scores the nodes: the model of the latest answer to a planner's call, "" before there is one.
 * Borrowed until the next event. */
const char *scores_model(const struct search *s);

/* The fold of `cycle`, after the lane has its node, and of `cycle_end`, while it still has it. */
void scores_apply_cycle(struct search *s, const struct lane *l, const json_t *ev);
void scores_apply_cycle_end(struct search *s, const struct lane *l);

/* What the next choice's scores are corrected by. */
struct score_correction scores_correction(const struct search *s);

#endif
