/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a cycle ends: two counters and one window K. A counts rounds without improvement, B rounds
 * in which the cycle's best stays at or below the score of the code it started from. A plain value:
 * copy it, store it, compare it. Scores are micro-logs of the objective. Thread: any.
 */
#ifndef KS_SEARCH_STAGNATION_H
#define KS_SEARCH_STAGNATION_H

#include <stdbool.h>
#include <stdint.h>

struct stagnation {
    /* set by stagnation_start */
    uint32_t window; /* K >= 1 */
    bool rate_aware; /* B spares rounds whose rate of improvement can still reach the base */
    bool has_base;   /* the parent has a measured score */
    int64_t base_q;
    int64_t margin_q; /* an improvement is more than this above the best; 0: any */
    /* state */
    uint32_t a, b;       /* the counters */
    uint32_t rounds;     /* counted so far */
    uint32_t since_pass; /* rounds since the first pass, itself not included */
    bool has_best;       /* any pass in this cycle */
    int64_t first_q;     /* first pass of the cycle */
    int64_t best_q;      /* best of the cycle */
};

enum stagnation_end {
    STAGNATION_RUNNING,
    STAGNATION_NO_IMPROVEMENT, /* A reached the window, with a pass */
    STAGNATION_BELOW_BASE,     /* B reached the window */
    STAGNATION_NO_PASS,        /* A reached the window without any pass: too hard */
    STAGNATION_END_COUNT
};

void stagnation_start(struct stagnation *s, uint32_t window, bool has_base, int64_t base_q,
                      int64_t margin_q, bool rate_aware);
/* Counts one round: it passed with score_q, or failed (score_q is ignored). */
void stagnation_count(struct stagnation *s, bool passed, int64_t score_q);
/* Whether the cycle is over, and why. */
enum stagnation_end stagnation_state(const struct stagnation *s);
/* A sentence for the end, "5 rounds in a row without improvement". Static text parts; fills `out`.
 */
const char *stagnation_text(const struct stagnation *s, char *out, unsigned size);

#endif
