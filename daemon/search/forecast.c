/* SPDX-License-Identifier: Apache-2.0 */
/* Forecasts of proposals; see forecast.h. */
#include "search/forecast.h"

#include <math.h>
#include <stdio.h>

static void set_forecast(const struct search *s, const char *arm, const char *model, double mean,
                         double sd, struct forecast *out)
{
    struct correction c;

    snprintf(out->source, sizeof(out->source), "%s/%s/%s", s->spec.proposer, arm, model);
    out->mean = out->corrected_mean = mean;
    out->sd = out->corrected_sd = sd;
    c = calibration_of(s->calibration, out->source);
    correction_apply(&c, &out->corrected_mean, &out->corrected_sd);
}

/* Mean and deviation of what came out so far. */
static void spread(const struct search *s, double *mean, double *sd)
{
    static const double prior_sd = 0.5;
    double n = 1, sum = 0, squares = prior_sd * prior_sd;

    for (uint64_t i = 1; i <= s->n_trials; i++) {
        const struct trial *t = search_trial(s, i);
        double y = 1e-6 * (double)t->objective_q;

        if (!t->measured || !t->ok)
            continue;
        n++;
        sum += y;
        squares += y * y;
    }
    *mean = sum / n;
    *sd = sqrt(fmax(1e-4, squares / n - *mean * *mean));
}

void forecast_of_model(const struct search *s, const char *arm, const char *model, double mean,
                       double sd, struct forecast *out)
{
    out->informed = isfinite(mean) && isfinite(sd) && sd > 0;
    if (!out->informed) {
        spread(s, &mean, &sd);
        model = "spread";
    }
    set_forecast(s, arm, model, mean, sd, out);
}

void forecast_of_adopted(const struct search *s, int64_t objective_q, double similarity,
                         struct forecast *out)
{
    out->informed = true;
    set_forecast(s, "memory", "adopted", 1e-6 * (double)objective_q,
                 fmin(1, 0.1 / fmax(similarity, 0.1)), out);
}

void forecast_add(const struct forecast *f, json_t *attempt)
{
    json_object_set_new(attempt, "source", json_string(f->source));
    json_object_set_new(attempt, "predicted",
                        json_pack("{s:f, s:f}", "mean", f->mean, "sd", f->sd));
    json_object_set_new(
        attempt, "corrected",
        json_pack("{s:f, s:f}", "mean", f->corrected_mean, "sd", f->corrected_sd));
}
