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
/*
 * The same by the mean of the middle half and its standard error from the winsorised deviations
 * (Yuen 1974): a third less noise than the median's on samples that are nearly normal, as unmoved
 * by a few wild ones. For duels, where a percent decides. n >= 6.
 */
struct estimate stats_midmean(const double *log_ratios, size_t n, double *scratch);
/* Two-sided 95 % quantile of Student's t. */
double stats_t95(size_t degrees);
/* Quantiles of the normal distribution for two-sided intervals. What is called an improvement needs
 * the wider one: one side of 99 % leaves half a percent for equal programs. */
#define STATS_95 1.959964
#define STATS_99 2.575829
/* Geometric mean of several workloads' estimates, with STATS_SESSION_SD added; `half` is widened
 * from 95 % to the interval of `quantile`. */
struct estimate stats_combine(const struct estimate *e, size_t n, double quantile);

#endif
