/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: the cycles that are open side by side, one frontier node each. With the built-in proposer
 * there is one. A model's lane goes through stages: a program is written, its tunables are
 * measured, and so on until the two counters end the cycle; then the model hears what came out.
 *
 *     (closed) -cycle-> WRITE -asked-> WRITING -program-> MEASURE -round-> WRITE ...
 *                                          \-round (nothing usable)-> WRITE
 *              -cycle_end-> TELL -asked-> TELLING -told-> (closed)      a search that refines
 *              -cycle_end-> (closed)                                    otherwise
 * Thread: the search's.
 */
#ifndef KS_SEARCH_LANES_H
#define KS_SEARCH_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "search/stagnation.h"
#include "search/world.h"

enum {
    LANES_MAX = 8,
    /* Micro-log: a model's round gains when it is this much better; two measurements of one program
     * differ by as much. */
    LANE_MARGIN_Q = 15000
};

enum lane_stage {
    LANE_CLOSED,
    LANE_WRITE,   /* a program is wanted; for the built-in proposer: the cycle is open */
    LANE_WRITING, /* and asked for */
    LANE_MEASURE, /* its assignments are measured */
    LANE_TELL,    /* the cycle is over, the model is to hear of it */
    LANE_TELLING, /* and was told */
    LANE_STAGE_COUNT
};

struct lane {
    enum lane_stage stage;
    uint64_t cycle; /* number in the search, from 1 */
    char node[WORLD_ID_MAX + 1];
    struct stagnation stagnation; /* rounds are evaluations (built-in) or programs (a model) */
    uint64_t best;                /* trial: the cycle's best pass; 0 for none */
    bool memory_free;             /* nothing from memory is told in it */
    bool told;                    /* a prompt for one of its programs told insights */
    uint32_t base;                /* program that it starts from */
    uint32_t program;             /* under way or last; PROGRAM_NONE */
    uint64_t call;                /* last one asked; 0 */
    unsigned rounds;              /* programs so far, answers without a usable one included */
    unsigned regressions; /* failed rounds in a row; LANE_REGRESSIONS_MAX after a slower one */
    unsigned measured;    /* evaluations of the program under way */
    uint64_t ended;       /* TELL: was there a pass? the cycle's best trial, 0 */
    char *note;           /* what went wrong with the last round without a program; NULL */
};

struct search;

/* Is a cycle open: between cycle and cycle_end? */
bool lane_in_cycle(const struct lane *l);
/*
 * The program that the next round of a lane changes: the one of the last round where it was the
 * best of the cycle, or fails and may be a slip away from right; the cycle's best again after a
 * round that works and is slower, and after LANE_REGRESSIONS_MAX that fail; the base before there
 * is any.
 */
enum { LANE_REGRESSIONS_MAX = 2 };
uint32_t lane_current(const struct search *s, const struct lane *l);

#endif
