/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a closed cycle teaches, beyond single tunables (learn.h): a technique, stated by the model
 * or, without one, by the vocabulary's own words, and the measured difference between the program
 * that the cycle started from and its best. A model may word a claim; which evaluations bear on it,
 * and what they say, is the system's alone. Statements are hostile input: they are told to other
 * models and travel in packs. docs/search.md lists the rules. Thread: worker that holds the
 * search's lock.
 */
#ifndef KS_SEARCH_DISTIL_H
#define KS_SEARCH_DISTIL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct journal;
struct trial;

enum {
    DISTIL_STATEMENT_MIN = 20, /* bytes */
    DISTIL_STATEMENT_MAX = 400,
    DISTIL_MECHANISM_MAX = 600, /* bytes, the condition included */
    DISTIL_SENTENCES_MAX = 2,
    DISTIL_WORDS_MIN = 4
};

/* A cycle that is over. Borrowed. */
struct distil_case {
    uint32_t node;
    uint64_t cycle; /* its number; a failure of another cycle is not learned from again */
    /* Its best pass; NULL: there was none, and its last failure is what is learned from. */
    const struct trial *with;
    /* A measured pass of what it started from; NULL: nothing to compare with. */
    const struct trial *without;
    bool memory_free; /* nothing from memory was told in it */
};

/*
 * Adds claims and evidence of a cycle to j->batch, at most PLAN_INSIGHTS_MAX claims, each with one
 * piece of evidence. `insights` is what the model says, [{technique, statement, mechanism,
 * condition?}]; NULL or anything else is as good as nothing. Where none of it is accepted the
 * node's title, then its commitments, name the technique; where they name none nothing is stated.
 * *report (owned) is {evidence: "pair", "failure" or null, effect_q, accepted[{claim, technique,
 * proposed, statement}], refused[{why, text}]}; `proposed` techniques are not in the vocabulary.
 * Nothing that a model says is an error: ERR_NOMEM, ERR_IO alone.
 */
int distil_cycle(struct journal *j, const struct distil_case *c, const json_t *insights,
                 json_t **report, struct err *err);

#endif
