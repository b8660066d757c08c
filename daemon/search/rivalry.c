/* SPDX-License-Identifier: Apache-2.0 */
/* Memory against the memory-free arm; see rivalry.h. */
#include "search/rivalry.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

enum { NOTHING_Q = 10000 }; /* 1 %: less is no difference */

static void count_pair(struct rivalry *r, int64_t difference_q, int64_t sd_q)
{
    int64_t noise_q = MAX((int64_t)NOTHING_Q, 2 * sd_q);

    r->pairs++;
    r->pairs_worse += difference_q < -noise_q;
    r->pairs_better += difference_q > noise_q;
    r->sum_q += difference_q;
    r->squares += 1e-12 * (double)difference_q * (double)difference_q;
}

void rivalry_add(struct rivalry *r, uint64_t n, bool memory, bool ok, int64_t objective_q,
                 int64_t sd_q)
{
    if (ok) {
        r->worst_q = r->has_worst ? MIN(r->worst_q, objective_q) : objective_q;
        r->has_worst = true;
    } else {
        if (!r->has_worst)
            return;
        objective_q = r->worst_q;
        sd_q = 0;
    }
    if (r->waiting && r->waiting_memory != memory && r->waiting_n + 1 == n) {
        int64_t difference_q = objective_q - r->waiting_q;

        count_pair(r, memory ? difference_q : -difference_q,
                   llround(hypot((double)sd_q, (double)r->waiting_sd_q)));
        r->waiting = false;
        return;
    }
    r->waiting = true;
    r->waiting_memory = memory;
    r->waiting_n = n;
    r->waiting_q = objective_q;
    r->waiting_sd_q = sd_q;
}

bool rivalry_judged(const struct rivalry *r)
{
    return r->pairs >= RIVALRY_PAIRS_MIN;
}

/* The 95 % quantile of Student's t, to 2 % from 3 degrees of freedom on. */
static double t_95(double degrees)
{
    return 1.6449 + 1.55 / degrees + 1.7 / (degrees * degrees);
}

bool rivalry_memory_lost(const struct rivalry *r)
{
    double n = (double)r->pairs, mean, variance;

    if (!rivalry_judged(r))
        return false;
    mean = 1e-6 * (double)r->sum_q / n;
    variance = fmax(0, r->squares - n * mean * mean) / (n - 1);
    return mean < -1e-6 * NOTHING_Q && mean + t_95(n - 1) * sqrt(variance / n) < 0;
}
