/* SPDX-License-Identifier: Apache-2.0 */
/* Corrections of forecasts; see calibration.h. */
#include "search/calibration.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { BISECTIONS = 48 };

/* The standard normal's central 80 %: |z| below this. */
static const double normal_80 = 1.2815515655446004;
/* Beyond these a forecaster says nothing, and a correction could only be luck. */
static const double bias_max = 8, scale_min = 0.05, scale_max = 100;

struct correction correction_none(void)
{
    return (struct correction){ 0, 1 };
}

void correction_apply(const struct correction *c, double *mean, double *sd)
{
    *mean += c->bias * *sd;
    *sd *= c->scale;
}

/* ---- Fitting ---- */

/* The prior's outcomes and the residuals, as one sample. */
struct mixture {
    const struct correction *prior;
    const double *z, *weight;
    size_t n;
    double total; /* of the residuals' weights */
};

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double weight_of(const struct mixture *m, size_t i)
{
    return m->weight ? m->weight[i] : 1;
}

/* Share of the mixture below x; a residual at x counts half. */
static double share_below(const struct mixture *m, double x)
{
    double sum = CORRECTION_PRIOR * normal_cdf((x - m->prior->bias) / m->prior->scale);

    for (size_t i = 0; i < m->n; i++)
        sum += weight_of(m, i) * (m->z[i] < x ? 1 : m->z[i] > x ? 0 : 0.5);
    return sum / (CORRECTION_PRIOR + m->total);
}

/* Share of the mixture within `reach` of `centre`. */
static double share_within(const struct mixture *m, double centre, double reach)
{
    double sum =
        CORRECTION_PRIOR * (normal_cdf((centre + reach - m->prior->bias) / m->prior->scale) -
                            normal_cdf((centre - reach - m->prior->bias) / m->prior->scale));

    for (size_t i = 0; i < m->n; i++)
        sum += weight_of(m, i) * (fabs(m->z[i] - centre) <= reach ? 1 : 0);
    return sum / (CORRECTION_PRIOR + m->total);
}

static double fit_bias(const struct mixture *m)
{
    double low = -bias_max, high = bias_max;

    for (int i = 0; i < BISECTIONS; i++) {
        double mid = (low + high) / 2;

        *(share_below(m, mid) < 0.5 ? &low : &high) = mid;
    }
    return (low + high) / 2;
}

static double fit_scale(const struct mixture *m, double bias)
{
    double low = scale_min, high = scale_max;

    for (int i = 0; i < BISECTIONS; i++) {
        double mid = sqrt(low * high);

        *(share_within(m, bias, mid * normal_80) < 0.8 ? &low : &high) = mid;
    }
    return high;
}

struct correction correction_fit(const struct correction *prior, const double *z,
                                 const double *weight, size_t n)
{
    struct mixture m = { prior, z, weight, n, 0 };
    struct correction c;

    for (size_t i = 0; i < n; i++)
        m.total += weight_of(&m, i);
    if (!(m.total > 0))
        return *prior;
    c.bias = fit_bias(&m);
    c.scale = fit_scale(&m, c.bias);
    return c;
}

/* ---- Within a search ---- */

struct source {
    char name[SOURCE_NAME_MAX];
    bool recalled;
    struct correction past;
    size_t n;                        /* residuals so far */
    double z[CALIBRATION_WINDOW];    /* a ring: the latest */
    uint64_t at[CALIBRATION_WINDOW]; /* when each came, for all sources together */
};

struct calibration {
    size_t n_sources;
    struct source sources[CALIBRATION_SOURCES_MAX];
    bool recalled_all;
    struct correction past_all; /* of sources that the past does not know */
    uint64_t n;                 /* residuals of all sources */
};

bool calibration_of_objectives(const char *source)
{
    return strchr(source, '/') != NULL;
}

struct calibration *calibration_new(void)
{
    struct calibration *c = xcalloc(1, sizeof(*c));

    c->past_all = correction_none();
    return c;
}

void calibration_free(struct calibration *c)
{
    free(c);
}

static const struct source *find(const struct calibration *c, const char *name)
{
    for (size_t i = 0; i < c->n_sources; i++)
        if (strcmp(c->sources[i].name, name) == 0)
            return &c->sources[i];
    return NULL;
}

/* NULL when there is no room for another, or its name is too long. */
static struct source *find_or_add(struct calibration *c, const char *name)
{
    struct source *s = (struct source *)find(c, name);

    if (s != NULL || c->n_sources == CALIBRATION_SOURCES_MAX || strlen(name) >= SOURCE_NAME_MAX)
        return s;
    s = &c->sources[c->n_sources++];
    str_copy(s->name, sizeof(s->name), name);
    return s;
}

static int recall_one(struct calibration *c, const json_t *row, struct err *err)
{
    const char *name = jsonx_str(row, "source", NULL);
    struct correction past = { jsonx_num(row, "bias", NAN), jsonx_num(row, "scale", NAN) };
    struct source *s;

    if (name == NULL || !(fabs(past.bias) <= bias_max) ||
        !(past.scale >= scale_min && past.scale <= scale_max))
        return err_set(err, ERR_CORRUPT, "the stored calibration of a search is damaged");
    if (*name == '\0') {
        c->recalled_all = true;
        c->past_all = past;
        return 0;
    }
    s = find_or_add(c, name);
    if (s != NULL) {
        s->recalled = true;
        s->past = past;
    }
    return 0;
}

int calibration_recall(struct calibration *c, const json_t *past, struct err *err)
{
    const json_t *row;
    size_t i;

    json_array_foreach (past, i, row)
        if (recall_one(c, row, err) != 0)
            return -1;
    return 0;
}

void calibration_add(struct calibration *c, const char *source, double residual)
{
    struct source *s = find_or_add(c, source);

    if (s == NULL || !isfinite(residual))
        return;
    s->z[s->n % CALIBRATION_WINDOW] = residual;
    s->at[s->n % CALIBRATION_WINDOW] = c->n++;
    s->n++;
}

/* The latest residuals of all sources. */
static size_t latest_of_all(const struct calibration *c, double z[CALIBRATION_WINDOW])
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_sources; i++) {
        const struct source *s = &c->sources[i];

        if (!calibration_of_objectives(s->name))
            continue;
        for (size_t k = 0; k < MIN(s->n, (size_t)CALIBRATION_WINDOW); k++)
            if (s->at[k] + CALIBRATION_WINDOW >= c->n && n < CALIBRATION_WINDOW)
                z[n++] = s->z[k];
    }
    return n;
}

struct correction calibration_of(const struct calibration *c, const char *source)
{
    const struct source *s = find(c, source);
    bool together = calibration_of_objectives(source);
    struct correction prior = s != NULL && s->recalled ? s->past
                              : together               ? c->past_all
                                                       : correction_none();
    double z[CALIBRATION_WINDOW] = { 0 };

    if (together)
        prior = correction_fit(&prior, z, NULL, latest_of_all(c, z));
    if (s == NULL)
        return prior;
    return correction_fit(&prior, s->z, NULL, MIN(s->n, (size_t)CALIBRATION_WINDOW));
}
