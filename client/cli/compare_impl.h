/* SPDX-License-Identifier: Apache-2.0 */
/* What compare.c and compare_json.c share; nobody else includes it. */
#ifndef KS_CLI_COMPARE_IMPL_H
#define KS_CLI_COMPARE_IMPL_H

#include <stdbool.h>

#include "compare.h"

enum { COMPARE_LABEL_MAX = 200 };

struct run {
    const json_t *show; /* borrowed */
    double *x, *best;   /* owned; best so far, NaN before the first pass */
    size_t n;
    double floor;         /* what counts before its first pass; NaN when nothing passed */
    double final;         /* best of all its own; NaN */
    double held_out;      /* its final best on the hold-out set; NaN */
    double at_horizon;    /* best so far where all are compared; NaN */
    double area;          /* mean best so far up to there; NaN when nothing passed by then */
    double to[2];         /* x at which it came within 5 and 10 %; NaN when it never did */
    size_t evaluations_5; /* evaluations to within 5 %; 0 when never */
    size_t arm;
    bool free; /* it spends nothing of the axis: its best counts everywhere */
};

struct arm {
    char label[COMPARE_LABEL_MAX];
    size_t n, *runs; /* owned; in the order given */
};

struct comparison {
    enum compare_by by;
    enum compare_axis axis;
    size_t n, n_arms;
    struct run *runs;
    struct arm *arms;
    double best, horizon;
    const char *holdout; /* set on which all have a final best; NULL: not all have */
};

/* compare.c */

/* "arm", ...; "evaluations", ... */
extern const char *const compare_by_names[COMPARE_BY_COUNT];
extern const char *const compare_axis_names[COMPARE_AXIS_COUNT];
/* How near the best of all a run is to come, and what that is called. */
extern const double compare_within[2];
/* Best so far where `x` is spent, and before the first pass what counts then; NaN when it never
 * passed. */
double run_shown(const struct run *r, double x);
/* A built-in proposer calls no model: what it does not tell of tokens and money is nothing. */
bool run_spends_nothing(const struct run *r, enum compare_axis axis);
/* A run of another program says nothing of what it spent, so that a 0 there is no 0. */
bool run_tells_spending(const struct run *r);

/* compare_json.c */

/* The document of a comparison. Fresh. */
json_t *comparison_json(const struct comparison *c);

#endif
