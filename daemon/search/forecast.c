/* SPDX-License-Identifier: Apache-2.0 */
/* Forecasts of proposals; see forecast.h. */
#include "search/forecast.h"

#include <math.h>
#include <stdio.h>

#include "base/jsonx.h"

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
    json_object_set_new(attempt, "corrected",
                        json_pack("{s:f, s:f}", "mean", f->corrected_mean, "sd", f->corrected_sd));
}

/* ---- Insights ---- */

enum { PARTNERS_MAX = 256 }; /* latest earlier trials that are looked through */

static bool differ_in(const struct search *s, const uint16_t *a, const uint16_t *b, size_t param)
{
    for (size_t p = 0; p < space_n(s->space); p++)
        if ((a[p] != b[p]) != (p == param))
            return false;
    return true;
}

/* The latest earlier success that differs from `t` in the offer's tunable alone, one of them with
 * the claim's value and the other without; NULL for none. */
static const struct trial *partner_of(const struct search *s, const struct trial *t,
                                      const struct credit_offer *o)
{
    uint16_t wanted = t->a[o->param] == o->with      ? o->without
                      : t->a[o->param] == o->without ? o->with
                                                     : SPACE_ANY;

    for (uint64_t n = t->n - 1; wanted != SPACE_ANY && n >= 1 && n + PARTNERS_MAX >= t->n; n--) {
        const struct trial *p = search_trial(s, n);

        if (p->ok && p->same_as == 0 && p->a[o->param] == wanted &&
            differ_in(s, p->a, t->a, o->param))
            return p;
    }
    return NULL;
}

void forecast_add_claims(const struct search *s, const struct trial *t, int64_t objective_q,
                         json_t *measured)
{
    struct correction c = calibration_of(s->calibration, FORECAST_INSIGHT);
    json_t *claims = json_array();

    for (size_t i = 0; i < s->offers.n; i++) {
        const struct credit_offer *o = &s->offers.items[i];
        const struct trial *p = o->sd > 0 ? partner_of(s, t, o) : NULL;
        double mean = o->mean, sd = o->sd, effect;

        if (p == NULL)
            continue;
        effect = 1e-6 * (double)(objective_q - p->objective_q);
        correction_apply(&c, &mean, &sd);
        json_array_append_new(
            claims, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "insight", o->insight.hex, "mean",
                              o->mean, "sd", o->sd, "corrected_mean", mean, "corrected_sd", sd,
                              "outcome", t->a[o->param] == o->with ? effect : -effect));
    }
    if (json_array_size(claims) > 0)
        json_object_set(measured, "claims", claims);
    json_decref(claims);
}

void forecast_count_claims(struct search *s, const json_t *claims)
{
    const json_t *c;
    size_t i;

    json_array_foreach (claims, i, c)
        calibration_add(s->calibration, FORECAST_INSIGHT,
                        (jsonx_num(c, "outcome", NAN) - jsonx_num(c, "mean", NAN)) /
                            jsonx_num(c, "sd", NAN));
}
