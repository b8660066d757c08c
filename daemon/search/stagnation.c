/* SPDX-License-Identifier: Apache-2.0 */
/* The two counters; see stagnation.h. */
#include "search/stagnation.h"

#include <assert.h>
#include <stdio.h>

void stagnation_start(struct stagnation *s, uint32_t window, bool has_base, int64_t base_q,
                      int64_t margin_q, bool rate_aware)
{
    assert(window >= 1 && margin_q >= 0);
    *s = (struct stagnation){ .window = window,
                              .rate_aware = rate_aware,
                              .has_base = has_base,
                              .base_q = has_base ? base_q : 0,
                              .margin_q = margin_q };
}

/*
 * Whether the cycle, improving as it did per round since its first pass, gets above the base in the
 * rounds that B has left. Without a rate (the first pass itself) it does not.
 */
static bool can_reach_base(const struct stagnation *s)
{
    double gap = (double)(s->base_q - s->best_q), left = (double)(s->window - s->b), gain;

    if (s->since_pass == 0 || s->best_q <= s->first_q)
        return false;
    gain = (double)(s->best_q - s->first_q) / s->since_pass;
    return gain * left > gap;
}

static void count_base(struct stagnation *s)
{
    if (!s->has_best || !s->has_base)
        return;
    if (s->best_q > s->base_q)
        s->b = 0;
    else if (!s->rate_aware || !can_reach_base(s))
        s->b++;
}

void stagnation_count(struct stagnation *s, bool passed, int64_t score_q)
{
    s->rounds++;
    if (s->has_best)
        s->since_pass++;
    if (passed && !s->has_best) {
        s->has_best = true;
        s->first_q = s->best_q = score_q;
        s->a = 0;
    } else if (passed && score_q > s->best_q + s->margin_q) {
        s->best_q = score_q;
        s->a = 0;
    } else {
        s->a++;
    }
    count_base(s);
}

enum stagnation_end stagnation_state(const struct stagnation *s)
{
    if (s->a >= s->window)
        return s->has_best ? STAGNATION_NO_IMPROVEMENT : STAGNATION_NO_PASS;
    return s->b >= s->window ? STAGNATION_BELOW_BASE : STAGNATION_RUNNING;
}

const char *stagnation_text(const struct stagnation *s, char *out, unsigned size)
{
    switch (stagnation_state(s)) {
    case STAGNATION_RUNNING:
        snprintf(out, size, "%u of %u rounds without improvement, %u of %u below the base", s->a,
                 s->window, s->b, s->window);
        break;
    case STAGNATION_NO_IMPROVEMENT:
        snprintf(out, size, "%u rounds in a row without improvement", s->a);
        break;
    case STAGNATION_BELOW_BASE:
        snprintf(out, size, "%u rounds in a row without getting above the base", s->b);
        break;
    case STAGNATION_NO_PASS:
        snprintf(out, size, "%u rounds without a pass", s->a);
        break;
    case STAGNATION_END_COUNT:
        break;
    }
    return out;
}
