/* SPDX-License-Identifier: Apache-2.0 */
/* Medians, geometric means and bootstrap intervals; see compare_stats.h. */
#include "compare_stats.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double stats_median(const double *v, size_t n)
{
    CLEANUP(freep) double *sorted = xmalloc((n + 1) * sizeof(*sorted));
    size_t used = 0;

    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i]))
            sorted[used++] = v[i];
    if (used == 0)
        return NAN;
    qsort(sorted, used, sizeof(*sorted), by_value);
    return used % 2 ? sorted[used / 2] : (sorted[used / 2 - 1] + sorted[used / 2]) / 2;
}

double stats_geomean(const double *v, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += log(v[i]);
    return n ? exp(sum / (double)n) : NAN;
}

/* The mean log of n draws with replacement. */
static double resample(const double *v, size_t n, struct rng *rng)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += log(v[rng_below(rng, n)]);
    return sum / (double)n;
}

static struct interval percentiles(double *logs)
{
    const size_t cut = STATS_RESAMPLES / 40; /* 2.5 % on either side */

    qsort(logs, STATS_RESAMPLES, sizeof(*logs), by_value);
    return (struct interval){ exp(logs[cut]), exp(logs[STATS_RESAMPLES - 1 - cut]) };
}

struct interval stats_geomean_interval(const double *v, size_t n)
{
    struct rng rng = rng_derive(1, "compare", 0);
    double logs[STATS_RESAMPLES];

    if (n < 2)
        return (struct interval){ NAN, NAN };
    for (size_t i = 0; i < STATS_RESAMPLES; i++)
        logs[i] = resample(v, n, &rng);
    return percentiles(logs);
}

struct interval stats_ratio_interval(const double *a, size_t na, const double *b, size_t nb)
{
    struct rng rng = rng_derive(1, "compare", 0);
    double logs[STATS_RESAMPLES];

    if (na < 2 || nb < 2)
        return (struct interval){ NAN, NAN };
    for (size_t i = 0; i < STATS_RESAMPLES; i++)
        logs[i] = resample(a, na, &rng) - resample(b, nb, &rng);
    return percentiles(logs);
}
