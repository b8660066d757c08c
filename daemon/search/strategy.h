/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a search goes, by name. All run on the same evaluator, model, lanes, tuning and ledger, so
 * that what one of them adds can be measured: docs/strategies.md. Thread: any; the table is
 * constant.
 */
#ifndef KS_SEARCH_STRATEGY_H
#define KS_SEARCH_STRATEGY_H

#include <stdbool.h>

#include "base/err.h"
#include "search/calls.h"
#include "search/programs.h"

struct search;
struct prompt_ask;
struct strategy_step;

struct strategy {
    const char *name;
    bool plans;           /* the model keeps the tree: init, propose */
    bool refines;         /* it rewrites the tree after each cycle */
    bool flat;            /* the tree is a list: every intent starts from the champion */
    unsigned rounds;      /* programs in a cycle; 0: until the counters end it */
    enum call_kind first; /* the call that writes a cycle's first program */
    /* Without a plan of the model: intent and parents of cycle number `cycle`, a function of the
     * folded state. NULL where the model plans. */
    void (*next)(const struct search *s, uint64_t cycle, struct strategy_step *out);
    const char *help;
};

/* The next cycle of a strategy that plans nothing. */
struct strategy_step {
    char title[160];
    uint64_t sample;
    size_t n_parents; /* the first is the one to change */
    uint32_t parents[4];
};

/* The strategy of this name; NULL when there is none. */
const struct strategy *strategy_find(const char *name);
/* All names, NULL last; the default first. */
extern const char *const strategy_names[];

struct lane;
/*
 * The step of an open cycle once more. Other lanes may have measured since it began, so the draw of
 * its other parents may come out differently; the program to change is the cycle's base in any
 * case.
 */
void strategy_step_of(const struct search *s, const struct lane *l, struct strategy_step *out);

/* strategy_evolve.c */
void evolve_next(const struct search *s, uint64_t cycle, struct strategy_step *out);

#endif
