/* SPDX-License-Identifier: Apache-2.0 */
/* Aims of a search; see stop.h. */
#include "search/stop.h"

#include <math.h>
#include <stdio.h>

#include "search/scorebook.h"
#include "search/scores.h"
#include "search/search.h"

static _Thread_local char reason[160];

static bool near_roofline(const struct search *s)
{
    const struct trial *best = search_trial(s, s->champion);

    if (!(s->spec.stop_roofline > 0) || best == NULL || !(best->roofline >= s->spec.stop_roofline))
        return false;
    snprintf(reason, sizeof(reason), "the best reached %.2f of the roofline", best->roofline);
    return true;
}

/* What an attempt expected to gain over the best before it; infinite before there was one. */
static double gain_of_attempt(const struct search *s, const struct trial *t)
{
    const struct trial *before = search_trial(s, t->n - 1);

    if (before == NULL || !before->has_best)
        return INFINITY;
    return score_expected_gain(t->corrected_mean, t->corrected_sd, 1e-6 * (double)before->best_q);
}

static bool proposals_expect_little(const struct search *s)
{
    double most = 0;
    int n = 0;

    for (uint64_t i = search_measured(s); i >= 1 && n < STOP_PROPOSALS; i--) {
        const struct trial *t = search_trial(s, i);

        if (!t->predicted || t->adopted[0])
            continue;
        most = fmax(most, gain_of_attempt(s, t));
        n++;
    }
    if (n < STOP_PROPOSALS || !(most <= s->spec.stop_gain))
        return false;
    snprintf(reason, sizeof(reason),
             "the last %d proposals expected a log gain of %.4f at most, and %.4g is the least "
             "worth going on for",
             STOP_PROPOSALS, most, s->spec.stop_gain);
    return true;
}

static bool nodes_expect_little(const struct search *s)
{
    const char *model = scores_model(s);
    double most = -1;
    size_t settled = 0;

    for (size_t i = 0; i < s->scorebook.n; i++)
        settled += s->scorebook.bets[i].settled;
    if (settled < STOP_BETS || search_in_cycle(s))
        return false;
    for (uint32_t i = 1; i < world_count(s->world); i++)
        if (world_is_executable(s->world, i))
            most = fmax(most,
                        scorebook_gain(&s->scorebook, model, world_get(s->world, i)->action.score));
    if (most < 0 || most > s->spec.stop_gain)
        return false;
    snprintf(reason, sizeof(reason),
             "no open node is expected to bring a log gain above %.4f, and %.4g is the least worth "
             "going on for",
             most, s->spec.stop_gain);
    return true;
}

const char *stop_reached(const struct search *s)
{
    if (near_roofline(s))
        return reason;
    if (!(s->spec.stop_gain > 0))
        return NULL;
    return (search_has_model(s) ? nodes_expect_little(s) : proposals_expect_little(s)) ? reason
                                                                                       : NULL;
}
