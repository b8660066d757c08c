/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planning one step of a search with a language model: ask for plans and programs, use the answers
 * that have arrived, choose frontier nodes for the free lanes, and plan the next evaluation. What
 * the built-in proposer does is planner.h's; both write the same events. Everything is a function
 * of the folded state, the stored answers and the templates, so a step that was lost is planned
 * again alike. Thread: worker that holds the search's lock.
 */
#ifndef KS_SEARCH_AUTHOR_H
#define KS_SEARCH_AUTHOR_H

#include "search/prompt.h"
#include "search/search.h"

struct journal;

enum {
    AUTHOR_CYCLE_SHARE = 3, /* a cycle has at most this part of the evaluations, */
    AUTHOR_CYCLE_LEAST = 6, /* and these in any case */
    AUTHOR_ROUNDS_MAX = 12, /* programs in one cycle, whatever the counters say */
    AUTHOR_BARREN_MAX =
        12, /* answers in a row without a new program or an edit, then the search ends */
    AUTHOR_IDLE_MAX = 100,  /* answers since the last measurement, whatever they are: it ends too */
    AUTHOR_LIST_MIN = 3,    /* executable nodes of a flat list, below which more are asked for */
    AUTHOR_TUNE_MAX = 6,    /* evaluations of one program after its first, when it is promising */
    AUTHOR_TUNE_LITTLE = 2, /* when it is far behind the best */
    AUTHOR_TUNE_SHARE = 6,  /* and at most this part of what is left, or AUTHOR_TUNE_LITTLE */
    AUTHOR_REGRESSIONS_MAX =
        2 /* rounds below the cycle's best before the model starts from that again */
};

/*
 * Adds events until the search has an open trial, waits for answers alone, or is over. `prompts` is
 * borrowed. ERR_CORRUPT, ERR_IO, ERR_NOMEM.
 */
int author_step(struct journal *j, const struct prompts *prompts, struct err *err);

#endif
