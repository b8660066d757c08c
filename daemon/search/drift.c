/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline's drift; see drift.h. */
#include "search/drift.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void drift_add(struct drift *d, int64_t baseline_q)
{
    if (d->n < DRIFT_WINDOW)
        d->first_q[d->n] = baseline_q;
    d->last_q[d->n % DRIFT_WINDOW] = baseline_q;
    d->n++;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double median(const int64_t *q, size_t n)
{
    int64_t v[DRIFT_WINDOW];

    memcpy(v, q, n * sizeof(*v));
    qsort(v, n, sizeof(*v), compare);
    return 1e-6 * (n % 2 ? (double)v[n / 2] : 0.5 * ((double)v[n / 2 - 1] + (double)v[n / 2]));
}

double drift_log(const struct drift *d)
{
    if (d->n < 2 * DRIFT_WINDOW)
        return 0;
    return median(d->last_q, DRIFT_WINDOW) - median(d->first_q, DRIFT_WINDOW);
}

double drift_first_ns(const struct drift *d)
{
    return d->n ? exp(median(d->first_q, MIN(d->n, (size_t)DRIFT_WINDOW))) : 0;
}

double drift_last_ns(const struct drift *d)
{
    return d->n ? exp(median(d->last_q, MIN(d->n, (size_t)DRIFT_WINDOW))) : 0;
}

bool drift_is_notable(const struct drift *d)
{
    return fabs(drift_log(d)) > DRIFT_NOTABLE;
}

const char *drift_text(const struct drift *d, char *out, size_t size)
{
    out[0] = '\0';
    if (drift_is_notable(d))
        snprintf(
            out, size,
            "the baseline takes %.2f times what it took when the search began: the machine has "
            "changed; ratios are measured side by side and stay comparable, times do not",
            exp(drift_log(d)));
    return out;
}
