/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics; see stats.h. */
#include "stats.h"

#include <math.h>

#include "base/mem.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double stats_median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), compare);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* Abramowitz and Stegun 26.7.5: expansion of the t quantile around the normal one. */
double stats_t95(size_t degrees)
{
    static const double exact[] = { 12.706, 4.303, 3.182, 2.776, 2.571, 2.447 };
    double z = 1.959964, nu = (double)degrees;

    if (degrees == 0)
        return INFINITY;
    if (degrees <= ARRAY_LEN(exact))
        return exact[degrees - 1];
    return z + (pow(z, 3) + z) / (4 * nu) +
           (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * nu * nu);
}

struct estimate stats_pairs(const double *log_ratios, size_t n, double *scratch)
{
    /* sigma = 1.4826 MAD; the median's standard error is sqrt(pi / 2) sigma / sqrt(n) */
    const double scale = 1.4826 * 1.2533;
    struct estimate e;
    double mad;

    memcpy(scratch, log_ratios, n * sizeof(*scratch));
    e.log_ratio = stats_median(scratch, n);
    for (size_t i = 0; i < n; i++)
        scratch[i] = fabs(log_ratios[i] - e.log_ratio);
    mad = stats_median(scratch, n);
    e.log_sd = scale * mad / sqrt((double)n);
    e.half = stats_t95(n - 1) * e.log_sd;
    return e;
}

struct estimate stats_midmean(const double *log_ratios, size_t n, double *scratch)
{
    size_t cut = n / 4, kept = n - 2 * cut;
    double mean = 0, all = 0, squares = 0;
    struct estimate e;

    memcpy(scratch, log_ratios, n * sizeof(*scratch));
    qsort(scratch, n, sizeof(*scratch), compare);
    for (size_t i = cut; i < n - cut; i++)
        mean += scratch[i] / (double)kept;
    for (size_t i = 0; i < n; i++) {
        scratch[i] = i < cut ? scratch[cut] : i >= n - cut ? scratch[n - cut - 1] : scratch[i];
        all += scratch[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        squares += (scratch[i] - all) * (scratch[i] - all);
    e.log_ratio = mean;
    e.log_sd = sqrt(squares / ((double)kept * (double)(kept - 1)));
    e.half = stats_t95(kept - 1) * e.log_sd;
    return e;
}

struct estimate stats_combine(const struct estimate *e, size_t n, double quantile)
{
    struct estimate out = { 0 };
    double var = 0, half2 = 0;

    for (size_t i = 0; i < n; i++) {
        out.log_ratio += e[i].log_ratio / (double)n;
        var += e[i].log_sd * e[i].log_sd;
        half2 += e[i].half * e[i].half;
    }
    out.log_sd = sqrt(var / (double)(n * n) + STATS_SESSION_SD * STATS_SESSION_SD);
    out.half =
        sqrt(half2 / (double)(n * n) + pow(STATS_95 * STATS_SESSION_SD, 2)) * quantile / STATS_95;
    return out;
}
