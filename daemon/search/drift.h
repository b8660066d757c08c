/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the baseline still take what it took when the search began? Ratios are measured in
 * interleaved pairs, so a machine that becomes slower does not bend them; but it says that the
 * machine changed (clocks, heat, a neighbour), and that absolute times of this search do not
 * compare. Medians of the first and the last few evaluations, so that one disturbed evaluation says
 * nothing. Thread: whoever owns the search.
 */
#ifndef KS_SEARCH_DRIFT_H
#define KS_SEARCH_DRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DRIFT_WINDOW = 5 };

/* Further apart than this, in log, is worth a word: equal runs on shared machines differ by 6 %. */
#define DRIFT_NOTABLE 0.10

struct drift {
    size_t n;
    int64_t first_q[DRIFT_WINDOW], last_q[DRIFT_WINDOW]; /* log of nanoseconds, micro-units */
};

/* The baseline's level in one evaluation: mean log of its nanoseconds over the workloads. */
void drift_add(struct drift *d, int64_t baseline_q);
/* Log of now over then; 0 until there are twice DRIFT_WINDOW evaluations. */
double drift_log(const struct drift *d);
/* Median nanoseconds of the first and of the last evaluations; 0 when there is none. */
double drift_first_ns(const struct drift *d);
double drift_last_ns(const struct drift *d);
bool drift_is_notable(const struct drift *d);
/* One sentence, for people; "" when there is nothing to say. Returns `out`. */
const char *drift_text(const struct drift *d, char *out, size_t size);

#endif
