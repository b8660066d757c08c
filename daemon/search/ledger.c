/* SPDX-License-Identifier: Apache-2.0 */
/* The prediction ledger; see ledger.h. */
#include "search/ledger.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/trial.h"

enum {
    PIT_BINS = 10,
    LEVELS = 3,    /* nominal intervals: 50, 80, 95 % */
    Z_BINS = 1024, /* of asinh(residual), so that the middle is fine and the tails are there */
    NAME_MAX_BYTES = 128
};

static const double z_reach = 8; /* asinh of 1490: beyond, the outermost bin */
static const double level_z[LEVELS] = { 0.6744897501960817, 1.2815515655446004, 1.959963984540054 };
static const char *const level_names[LEVELS] = { "50", "80", "95" };

/* The scores of one kind of forecast: as predicted, or as corrected. */
struct scores {
    int64_t crps_q, bias_q; /* sums, micro-logs */
    uint64_t inside[LEVELS], pit[PIT_BINS];
};

struct row {
    char source[NAME_MAX_BYTES], family[NAME_MAX_BYTES], device_class[NAME_MAX_BYTES];
    uint64_t n;
    struct scores raw, corrected;
    uint32_t z[Z_BINS]; /* residuals of raw forecasts */
};

struct ledger {
    size_t n, cap;
    struct row **rows; /* sorted by source, family, device class */
};

struct ledger *ledger_new(void)
{
    return xcalloc(1, sizeof(struct ledger));
}

void ledger_free(struct ledger *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; i < l->n; i++)
        free(l->rows[i]);
    free(l->rows);
    free(l);
}

/* ---- Counting ---- */

static int compare(const struct row *r, const char *source, const char *family, const char *class)
{
    int c = strcmp(r->source, source);

    if (c == 0)
        c = strcmp(r->family, family);
    return c != 0 ? c : strcmp(r->device_class, class);
}

static struct row *row_of(struct ledger *l, const struct ledger_outcome *o)
{
    char source[NAME_MAX_BYTES], family[NAME_MAX_BYTES], class[NAME_MAX_BYTES];
    size_t low = 0, high = l->n;
    struct row *r;

    str_copy(source, sizeof(source), o->source);
    str_copy(family, sizeof(family), o->family);
    str_copy(class, sizeof(class), o->device_class);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare(l->rows[mid], source, family, class);

        if (c == 0)
            return l->rows[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    r = xcalloc(1, sizeof(*r));
    memcpy(r->source, source, sizeof(source));
    memcpy(r->family, family, sizeof(family));
    memcpy(r->device_class, class, sizeof(class));
    l->rows = xgrow(l->rows, &l->cap, l->n + 1, sizeof(struct row *));
    memmove(&l->rows[low + 1], &l->rows[low], (l->n - low) * sizeof(struct row *));
    l->rows[low] = r;
    l->n++;
    return r;
}

/* Micro-logs, within what a sum of a billion of them holds. */
static int64_t quantised(double v)
{
    return llround(1e6 * fmin(1000, fmax(-1000, v)));
}

static void score(struct scores *s, double mean, double sd, double outcome)
{
    double z = (outcome - mean) / sd, p = 0.5 * erfc(-z * M_SQRT1_2);

    s->crps_q += quantised(crps_normal(mean, sd, outcome));
    s->bias_q += quantised(outcome - mean);
    for (int i = 0; i < LEVELS; i++)
        s->inside[i] += fabs(z) <= level_z[i];
    s->pit[MIN((size_t)(p * PIT_BINS), (size_t)PIT_BINS - 1)]++;
}

static size_t z_bin(double z)
{
    double x = (asinh(z) + z_reach) / (2 * z_reach) * Z_BINS;

    return (size_t)fmin(fmax(x, 0), Z_BINS - 1); /* of an infinite residual too */
}

static double z_of_bin(size_t bin)
{
    return sinh(((double)bin + 0.5) / Z_BINS * 2 * z_reach - z_reach);
}

void ledger_add(struct ledger *l, const struct ledger_outcome *o)
{
    struct row *r;

    if (!(o->sd > 0) || !(o->corrected_sd > 0) || !isfinite(o->outcome) || !isfinite(o->mean) ||
        !isfinite(o->corrected_mean) || !isfinite(o->sd) || !isfinite(o->corrected_sd))
        return;
    r = row_of(l, o);
    r->n++;
    score(&r->raw, o->mean, o->sd, o->outcome);
    score(&r->corrected, o->corrected_mean, o->corrected_sd, o->outcome);
    r->z[z_bin((o->outcome - o->mean) / o->sd)]++;
}

static bool is_source(const struct row *r, const char *source)
{
    return source == NULL || strcmp(r->source, source) == 0;
}

uint64_t ledger_count(const struct ledger *l, const char *source)
{
    uint64_t n = 0;

    for (size_t i = 0; i < l->n; i++)
        if (is_source(l->rows[i], source))
            n += l->rows[i]->n;
    return n;
}

/* ---- Corrections ---- */

/* The residuals of all rows that fit, as weighted values. */
struct sample {
    size_t n;
    double z[Z_BINS], weight[Z_BINS];
};

static void sample_rows(const struct ledger *l, const char *source, const char *family,
                        const char *class, struct sample *out)
{
    uint64_t count[Z_BINS] = { 0 };

    for (size_t i = 0; i < l->n; i++) {
        const struct row *r = l->rows[i];

        if (!is_source(r, source) || (source == NULL && !calibration_of_objectives(r->source)) ||
            (family && strcmp(r->family, family) != 0) ||
            (class && strcmp(r->device_class, class) != 0))
            continue;
        for (size_t b = 0; b < Z_BINS; b++)
            count[b] += r->z[b];
    }
    out->n = 0;
    for (size_t b = 0; b < Z_BINS; b++)
        if (count[b] > 0) {
            out->z[out->n] = z_of_bin(b);
            out->weight[out->n++] = (double)count[b];
        }
}

struct correction ledger_correction(const struct ledger *l, const char *source, const char *family,
                                    const char *device_class)
{
    const char *const families[] = { NULL, family, family };
    const char *const classes[] = { NULL, NULL, device_class };
    struct correction c = correction_none();
    struct sample *s = xmalloc(sizeof(*s));

    for (size_t level = 0; level < ARRAY_LEN(families); level++) {
        if (level > 0 && family == NULL)
            break;
        sample_rows(l, source, families[level], classes[level], s);
        c = correction_fit(&c, s->z, s->weight, s->n);
    }
    free(s);
    return c;
}

static json_t *recall_row(const struct ledger *l, const char *source, const char *family,
                          const char *device_class)
{
    struct correction c = ledger_correction(l, source, family, device_class);

    return json_pack("{s:s, s:I, s:f, s:f}", "source", source ? source : "", "n",
                     (json_int_t)ledger_count(l, source), "bias", c.bias, "scale", c.scale);
}

json_t *ledger_recall(const struct ledger *l, const char *family, const char *device_class)
{
    json_t *out = json_array();

    if (l->n > 0)
        json_array_append_new(out, recall_row(l, NULL, family, device_class));
    for (size_t i = 0; i < l->n; i++)
        if (i == 0 || strcmp(l->rows[i]->source, l->rows[i - 1]->source) != 0)
            json_array_append_new(out, recall_row(l, l->rows[i]->source, family, device_class));
    return out;
}

/* ---- The page ---- */

static json_t *coverage_json(const struct scores *s, uint64_t n)
{
    json_t *o = json_object();

    for (int i = 0; i < LEVELS; i++)
        json_object_set_new(o, level_names[i], json_real((double)s->inside[i] / (double)n));
    return o;
}

static json_t *pit_json(const struct scores *s)
{
    json_t *a = json_array();

    for (int i = 0; i < PIT_BINS; i++)
        json_array_append_new(a, json_integer((json_int_t)s->pit[i]));
    return a;
}

static json_t *row_json(const struct ledger *l, const struct row *r, bool of_cell)
{
    double n = 1e6 * (double)r->n;
    struct correction c = of_cell ? ledger_correction(l, r->source, r->family, r->device_class)
                                  : ledger_correction(l, r->source, NULL, NULL);
    json_t *o = json_pack("{s:s, s:I, s:f, s:f, s:f, s:f}", "source", r->source, "n",
                          (json_int_t)r->n, "crps", (double)r->raw.crps_q / n, "crps_corrected",
                          (double)r->corrected.crps_q / n, "bias", (double)r->raw.bias_q / n,
                          "bias_corrected", (double)r->corrected.bias_q / n);

    if (of_cell) {
        json_object_set_new(o, "family", json_string(r->family));
        json_object_set_new(o, "device_class", json_string(r->device_class));
    }
    json_object_set_new(o, "coverage", coverage_json(&r->raw, r->n));
    json_object_set_new(o, "coverage_corrected", coverage_json(&r->corrected, r->n));
    json_object_set_new(o, "pit", pit_json(&r->raw));
    json_object_set_new(o, "pit_corrected", pit_json(&r->corrected));
    json_object_set_new(o, "correction", json_pack("{s:f, s:f}", "bias", c.bias, "scale", c.scale));
    return o;
}

static void scores_add(struct scores *s, const struct scores *more)
{
    s->crps_q += more->crps_q;
    s->bias_q += more->bias_q;
    for (int i = 0; i < LEVELS; i++)
        s->inside[i] += more->inside[i];
    for (int i = 0; i < PIT_BINS; i++)
        s->pit[i] += more->pit[i];
}

json_t *ledger_json(const struct ledger *l)
{
    json_t *sources = json_array(), *cells = json_array();

    for (size_t i = 0; i < l->n;) {
        struct row *sum = xcalloc(1, sizeof(*sum));
        size_t first = i;

        memcpy(sum->source, l->rows[i]->source, sizeof(sum->source));
        for (; i < l->n && strcmp(l->rows[i]->source, l->rows[first]->source) == 0; i++) {
            sum->n += l->rows[i]->n;
            scores_add(&sum->raw, &l->rows[i]->raw);
            scores_add(&sum->corrected, &l->rows[i]->corrected);
            json_array_append_new(cells, row_json(l, l->rows[i], true));
        }
        json_array_append_new(sources, row_json(l, sum, false));
        free(sum);
    }
    return json_pack("{s:o, s:o}", "sources", sources, "cells", cells);
}
