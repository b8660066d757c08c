/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of paired log ratios. The estimate is the median, its standard error comes from the
 * median absolute deviation, so that a page fault or an interrupt in one sample moves neither.
 * Thread: any.
 */
#ifndef KS_HARNESS_STATS_H
#define KS_HARNESS_STATS_H

#include <stddef.h>

/*
 * Allowance, as a standard deviation in log, for what differs from one evaluation to the next
 * although nothing changed: where the kernel put pages and code. Pairs within one evaluation cannot
 * show it. A cautious choice, not yet a measurement; docs/harness.md has what was measured.
 */
#define STATS_SESSION_SD 0.003

struct estimate {
    double log_ratio; /* natural log */
    double log_sd;    /* standard error of it */
    double half;      /* half the 95 % interval, in log */
};

/* Median of n >= 1 values; the array is put in order. */
double stats_median(double *v, size_t n);
/* Median log ratio of n >= 2 samples and its standard error; `scratch` holds n values. */
struct estimate stats_pairs(const double *log_ratios, size_t n, double *scratch);
/* Two-sided 95 % quantile of Student's t. */
double stats_t95(size_t degrees);
/* Geometric mean of several workloads' estimates, with STATS_SESSION_SD added. */
struct estimate stats_combine(const struct estimate *e, size_t n);

#endif
