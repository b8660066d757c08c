/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Summaries of a few numbers: medians, geometric means, and intervals by resampling with fixed
 * draws, so that equal numbers always give equal intervals. Thread: any.
 */
#ifndef KS_CLI_COMPARE_STATS_H
#define KS_CLI_COMPARE_STATS_H

#include <stddef.h>

enum { STATS_RESAMPLES = 2000 };

/* NaN for none. Values that are not finite do not count. */
double stats_median(const double *v, size_t n);
/* Of positive values; NaN for none. */
double stats_geomean(const double *v, size_t n);

struct interval {
    double low, high; /* NaN when there are fewer than two values */
};
/*
 * The 95 % percentile bootstrap interval (Efron 1979) of the geometric mean of n positive values.
 */
struct interval stats_geomean_interval(const double *v, size_t n);
/* The same of the ratio of the geometric means of `a` and `b`, resampled on their own. */
struct interval stats_ratio_interval(const double *a, size_t na, const double *b, size_t nb);

#endif
