/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording what came out of a trial: the evaluation as a fact, evidence for claims, the champion,
 * the world model's evidence, the end of the cycle. All of it goes into one journal, hence one
 * synced write. Thread: worker that holds the search's lock.
 */
#ifndef KS_SEARCH_OUTCOME_H
#define KS_SEARCH_OUTCOME_H

#include "eval/result.h"
#include "search/search.h"

struct journal;

/* One finished evaluation of the open trial. */
struct outcome {
    const struct eval_result *result;
    /* Interleaved against the champion, when `result` looked better than it; NULL when that was not
     * needed. */
    const struct eval_result *duel;
    uint64_t wall_ns; /* of the whole turn */
    uint64_t seed;    /* of the measurement */
};

/* Does this result of the open trial claim to beat the champion, so that a duel has to decide? One
 * that will be measured once more decides nothing. */
bool outcome_wants_duel(const struct search *s, const struct eval_result *r);

/*
 * Records the outcome of the open trial. Lost to the infrastructure: the trial stays open, and the
 * search fails after SEARCH_TRIES_MAX of them. ERR_CORRUPT, ERR_NOMEM.
 */
int outcome_record(struct journal *j, const struct outcome *o, struct err *err);

/*
 * Ends the open cycle of a lane of the journal's search: its best pass closes the node, no pass
 * counts against it. In a search that refines, the lane then waits for the model to be told.
 */
int outcome_end_cycle(struct journal *j, const struct lane *l, const char *why, struct err *err);

#endif
