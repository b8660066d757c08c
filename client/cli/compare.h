/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searches side by side: numbers and the picture of `search compare`. Searches of one task, device
 * and workload set are grouped into arms, and each arm is held against the first: by pairs of equal
 * seed where the two share seeds, else all against all. Numbers are a function of the searches
 * alone: the bootstrap's draws are fixed. docs/client.md defines every number. Thread: main.
 */
#ifndef KS_CLI_COMPARE_H
#define KS_CLI_COMPARE_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

enum compare_by {
    COMPARE_BY_ARM, /* strategy, proposer and warm or cold */
    COMPARE_BY_STRATEGY,
    COMPARE_BY_PROPOSER,
    COMPARE_BY_WARM,
    COMPARE_BY_SEED,
    COMPARE_BY_SEARCH,
    COMPARE_BY_COUNT
};

/* What searches are given equally much of. */
enum compare_axis {
    COMPARE_EVALUATIONS,
    COMPARE_TOKENS, /* of language models, in and out */
    COMPARE_USD,
    COMPARE_TIME, /* seconds by the clock on the wall */
    COMPARE_AXIS_COUNT
};

/* "arm", "strategy", "proposer", "warm", "seed", "search"; NULL is "arm". ERR_INVALID names what is
 * allowed. */
int compare_by_parse(const char *name, enum compare_by *out, struct err *err);
/* "evaluations", "tokens", "usd", "time"; NULL is "evaluations". ERR_INVALID. */
int compare_axis_parse(const char *name, enum compare_axis *out, struct err *err);

/*
 * Compares `shows`, an array of search.show results, one at least. *out is a fresh document: {task,
 * device, set, by, axis, best_of_all, horizon, searches, arms}. ERR_INVALID: a search twice, two
 * tasks, devices or sets, or an axis that a search's curve does not tell.
 */
int compare_searches(const json_t *shows, enum compare_by by, enum compare_axis axis, json_t **out,
                     struct err *err);

/*
 * The document as one SVG without scripts or references: best so far against the axis, the
 * objective on a logarithmic scale, a line and a band per arm. Readable on light and dark. Names
 * are escaped. ERR_LIMIT (`out` is too small).
 */
int compare_svg(const json_t *comparison, struct buf *out, struct err *err);

#endif
