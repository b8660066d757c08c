/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planning one step of a search with the built-in proposer: seed the world model, end what is over,
 * choose the next node and the assignment to measure there, with the reason. The tree grows like a
 * search tree: each cycle adds one decision (the next structural tunable on the proposal's path)
 * or, below the last, a leaf assignment. Everything is a function of the folded state, so a step
 * that was planned and lost is planned again alike. Thread: worker that holds the search's lock.
 */
#ifndef KS_SEARCH_PLANNER_H
#define KS_SEARCH_PLANNER_H

#include "search/search.h"

struct journal;

/*
 * Adds events to the journal until the search has an open trial or is over. A queued search is
 * started; one with an open trial is left as it is. ERR_CORRUPT, ERR_IO, ERR_NOMEM.
 */
int planner_step(struct journal *j, struct err *err);

#endif
