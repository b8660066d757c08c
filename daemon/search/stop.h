/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a search ends before its budget does: its best is as close to the roofline as was asked, or
 * too little is expected of going on. Functions of the folded state. Thread: the search's.
 */
#ifndef KS_SEARCH_STOP_H
#define KS_SEARCH_STOP_H

struct search;

enum {
    STOP_PROPOSALS = 3, /* in a row that expect too little, with the built-in proposer */
    STOP_BETS = 3       /* cycles that have to end before a model's scores are gone by */
};

/*
 * The reason as a sentence's part, "the best reached 0.82 of the roofline", or NULL. `stop_gain` of
 * the built-in proposer looks at the latest STOP_PROPOSALS attempts that were predicted and not
 * adopted: none expected more over the best before it. With a model it looks, between cycles, at
 * the open nodes: none is expected to gain more by scorebook_gain. The thread's until its next
 * call.
 */
const char *stop_reached(const struct search *s);

#endif
