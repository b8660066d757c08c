/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded tables; see recorded.h. */
#include "eval/recorded.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "search/packed.h"
#include "search/space_table.h"

/* What the harness allows between evaluations that no pair can show (docs/harness.md). */
static const double SESSION_SD = 0.003;
static const double RATIO_MAX = 1e8;
static const double NS_PER_MS = 1e6;
/* As records have it. */
static const double NS_MAX = 1e15;

void recorded_free(struct recorded *r)
{
    if (r == NULL)
        return;
    space_free(r->space);
    json_decref(r->space_doc);
    free(r->objective);
    free(r->status);
    free(r->value);
    free(r->first);
    free(r->samples);
    free(r->measured_at_s);
    free(r);
}

static struct recorded *table_new(size_t n, size_t n_samples)
{
    struct recorded *r = xcalloc(1, sizeof(*r));

    r->n = n;
    r->status = xcalloc(n, sizeof(*r->status));
    r->value = xcalloc(n, sizeof(*r->value));
    r->first = xcalloc(n + 1, sizeof(*r->first));
    r->samples = xcalloc(n_samples + 1, sizeof(*r->samples));
    return r;
}

static size_t samples_of(const struct recorded *r, size_t row)
{
    return r->first[row + 1] - r->first[row];
}

/* Counts, median, and what every table must be. */
static int settle(struct recorded *r, struct err *err)
{
    CLEANUP(freep) double *values = xcalloc(r->n, sizeof(*values));

    r->n_ok = 0;
    for (size_t k = 0; k < r->n; k++)
        if (r->status[k] == EVAL_OK)
            values[r->n_ok++] = r->value[k];
    r->median = eval_median(values, r->n_ok);
    for (size_t k = 0; k < r->n; k++) {
        if (r->status[k] != EVAL_OK)
            continue;
        if (!(r->value[k] > 0) || r->value[k] > r->median * RATIO_MAX ||
            r->value[k] < r->median / RATIO_MAX)
            return err_set(err, ERR_INVALID,
                           "the value %g is more than a factor %g from the median %g", r->value[k],
                           RATIO_MAX, r->median);
        if (r->noise && samples_of(r, k) == 0)
            return err_set(err, ERR_INVALID,
                           "noise draws recorded samples, but a correct row has no 'runtimes'");
    }
    if (r->noise && !r->timed)
        return err_set(err, ERR_INVALID,
                       "noise draws recorded times, but the objective is '%s', not 'time'",
                       r->objective);
    return 0;
}

/* ---- From a file ---- */

static int take_space(const struct t4 *t, uint32_t *order, json_t **doc, struct space **out,
                      struct err *err)
{
    json_auto_t *rows = json_array();
    struct space *given;
    int rc;

    for (size_t i = 0; i < t->n; i++)
        json_array_append(rows, t->rows[i].configuration);
    if (space_from_rows(rows, &given, err) != 0)
        return err_ctx(err, "the configurations, counted from 0");
    rc = space_table_pack(given, order, doc, err);
    space_free(given);
    return rc == 0 ? space_table_unpack(*doc, out, err) : -1;
}

int recorded_new(const struct t4 *t, bool noise, struct recorded **out, struct err *err)
{
    CLEANUP(freep) uint32_t *order = xcalloc(t->n, sizeof(*order));
    struct recorded *r = table_new(t->n, t->n_samples);
    size_t at = 0;

    r->objective = xstrdup(t->objective);
    r->timed = t->timed;
    r->noise = noise;
    r->measured_at_s = xcalloc(t->n, sizeof(*r->measured_at_s));
    if (take_space(t, order, &r->space_doc, &r->space, err) != 0)
        goto fail;
    for (size_t k = 0; k < t->n; k++) {
        const struct t4_row *row = &t->rows[order[k]];

        r->status[k] = (uint8_t)row->status;
        r->value[k] = row->value;
        r->measured_at_s[k] = row->measured_at_s;
        r->first[k] = at;
        if (row->n > 0)
            memcpy(r->samples + at, t->samples + row->first, row->n * sizeof(*r->samples));
        at += row->n;
    }
    r->first[t->n] = at;
    if (settle(r, err) != 0)
        goto fail;
    *out = r;
    return 0;
fail:
    recorded_free(r);
    return -1;
}

/* ---- As a document ---- */

/* How statuses are stored; entries are only ever added at the end. */
static const uint8_t stored_status[] = { EVAL_OK,      EVAL_BUILD_FAILED, EVAL_CRASHED,
                                         EVAL_TIMEOUT, EVAL_WRONG_VALUE,  EVAL_LOAD_FAILED };

static uint8_t status_code(uint8_t status)
{
    const uint8_t *at = memchr(stored_status, status, ARRAY_LEN(stored_status));

    assert(at != NULL);
    return (uint8_t)(at - stored_status);
}

/* Most recordings were single precision before they became text: half the bytes. */
static bool is_single(const struct recorded *r)
{
    for (size_t i = 0; i < r->first[r->n]; i++)
        if ((double)(float)r->samples[i] != r->samples[i])
            return false;
    return true;
}

static int add_samples(const struct recorded *r, bool single, struct buf *out, struct err *err)
{
    size_t n = r->first[r->n];

    if (!single)
        return buf_add(out, r->samples, n * sizeof(*r->samples), err);
    for (size_t i = 0; i < n; i++) {
        float f = (float)r->samples[i];

        if (buf_add(out, &f, sizeof(f), err) != 0)
            return -1;
    }
    return 0;
}

int recorded_to_json(const struct recorded *r, json_t **out, struct err *err)
{
    CLEANUP(buf_release) struct buf bytes = { .max = PACKED_MAX };
    CLEANUP(freep) uint32_t *counts = xcalloc(r->n, sizeof(*counts));
    CLEANUP(freep) uint8_t *codes = xcalloc(r->n, 1);
    bool single = is_single(r);
    json_t *packed;

    for (size_t k = 0; k < r->n; k++) {
        counts[k] = (uint32_t)samples_of(r, k);
        codes[k] = status_code(r->status[k]);
    }
    if (buf_add(&bytes, codes, r->n, err) != 0 ||
        buf_add(&bytes, r->value, r->n * sizeof(*r->value), err) != 0 ||
        buf_add(&bytes, counts, r->n * sizeof(*counts), err) != 0 ||
        add_samples(r, single, &bytes, err) != 0)
        return err_ctx(err, "the table");
    packed = packed_json(bytes.data, bytes.len);
    if (packed == NULL)
        return err_set(err, ERR_NOMEM, "no memory to pack a table of %zu rows", r->n);
    *out = json_pack("{s:i, s:s, s:b, s:b, s:I, s:i, s:O, s:o}", "format", 1, "objective",
                     r->objective, "timed", r->timed, "noise", r->noise, "samples",
                     (json_int_t)r->first[r->n], "sample_bytes", single ? 4 : 8, "space",
                     r->space_doc, "table", packed);
    return 0;
}

static int damaged(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the recorded table has bad %s", what);
}

static int fill_table(struct recorded *r, const struct buf *bytes, size_t n_samples,
                      size_t sample_bytes, struct err *err)
{
    const char *at = bytes->data;
    size_t sum = 0;

    for (size_t k = 0; k < r->n; k++) {
        if ((uint8_t)at[k] >= ARRAY_LEN(stored_status))
            return damaged(err, "rows");
        r->status[k] = stored_status[(uint8_t)at[k]];
    }
    at += r->n;
    memcpy(r->value, at, r->n * sizeof(*r->value));
    at += r->n * sizeof(*r->value);
    for (size_t k = 0; k < r->n; k++, at += sizeof(uint32_t)) {
        uint32_t count;

        memcpy(&count, at, sizeof(count));
        if (count > n_samples - sum)
            return damaged(err, "rows");
        r->first[k] = sum;
        sum += count;
    }
    r->first[r->n] = sum;
    if (sum != n_samples)
        return damaged(err, "samples");
    for (size_t i = 0; i < n_samples; i++, at += sample_bytes) {
        float f = 0;

        memcpy(sample_bytes == 4 ? (void *)&f : (void *)&r->samples[i], at, sample_bytes);
        if (sample_bytes == 4)
            r->samples[i] = (double)f;
    }
    return 0;
}

int recorded_from_json(const json_t *doc, struct recorded **out, struct err *err)
{
    CLEANUP(buf_release) struct buf bytes = { .max = PACKED_MAX };
    const json_t *space_doc = json_object_get(doc, "space");
    size_t n_samples = (size_t)jsonx_int(doc, "samples", -1);
    size_t sample_bytes = (size_t)jsonx_int(doc, "sample_bytes", 0), n;
    struct space *space;
    struct recorded *r;

    if (jsonx_int(doc, "format", 0) != 1 || n_samples > PACKED_MAX ||
        (sample_bytes != 4 && sample_bytes != 8))
        return damaged(err, "form");
    if (packed_read(json_object_get(doc, "table"), "the recorded table", &bytes, err) != 0 ||
        space_table_unpack(space_doc, &space, err) != 0)
        return -1;
    n = space_rows(space);
    r = table_new(n, n_samples);
    r->space = space;
    r->space_doc = json_incref((json_t *)space_doc);
    r->objective = xstrdup(jsonx_str(doc, "objective", ""));
    r->timed = jsonx_bool(doc, "timed", 0);
    r->noise = jsonx_bool(doc, "noise", 0);
    if (bytes.len != n * (1 + sizeof(double) + sizeof(uint32_t)) + n_samples * sample_bytes) {
        damaged(err, "length");
        goto fail;
    }
    if (fill_table(r, &bytes, n_samples, sample_bytes, err) != 0)
        goto fail;
    if (settle(r, err) != 0) {
        err->code = ERR_CORRUPT;
        goto fail;
    }
    *out = r;
    return 0;
fail:
    recorded_free(r);
    return -1;
}

/* ---- Answers ---- */

json_t *recorded_failures(const struct recorded *r)
{
    json_t *out = json_object();

    for (size_t k = 0; k < r->n; k++) {
        const char *name = eval_status_name((enum eval_status)r->status[k]);

        if (r->status[k] != EVAL_OK)
            json_object_set_new(out, name, json_integer(jsonx_int(out, name, 0) + 1));
    }
    return out;
}

/* Standard deviation of the log of a row's samples; 0 for fewer than two. */
static double sample_sd(const struct recorded *r, size_t row)
{
    const double *s = r->samples + r->first[row];
    size_t n = samples_of(r, row);
    double mean = 0, sum = 0;

    if (n < 2)
        return 0;
    for (size_t i = 0; i < n; i++)
        mean += log(s[i]) / (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (log(s[i]) - mean) * (log(s[i]) - mean);
    return sqrt(sum / (double)(n - 1));
}

double recorded_log_objective(const struct recorded *r, size_t row)
{
    return log(r->median / r->value[row]);
}

double recorded_log_sd(const struct recorded *r, size_t row)
{
    return samples_of(r, row) ? sample_sd(r, row) / sqrt((double)samples_of(r, row)) : 0;
}

/* ---- One evaluation ---- */

/* What one evaluation saw. */
struct seen {
    double value, log_sd;
    const double *samples; /* milliseconds, for the record */
    size_t n;
};

static struct seen see(const struct recorded *r, size_t row, uint64_t seed)
{
    struct rng rng = rng_derive(seed, "recorded sample", 0);
    const double *samples = r->samples + r->first[row];
    size_t n = samples_of(r, row);

    if (!r->noise)
        return (struct seen){ r->value[row], recorded_log_sd(r, row), samples, n };
    samples += rng_below(&rng, n);
    return (struct seen){ *samples, sample_sd(r, row), samples, 1 };
}

static json_t *times_ns(const double *ms, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        if (ms[i] * NS_PER_MS < NS_MAX)
            json_array_append_new(list, json_real(ms[i] * NS_PER_MS));
    return list;
}

static json_t *workload_json(const struct recorded *r, const struct seen *s, double objective)
{
    json_t *w = json_pack("{s:s, s:s, s:f, s:f}", "name", RECORDED_SET, "status", "ok", "ratio",
                          objective, "log_sd", s->log_sd);

    if (r->timed) {
        json_object_set_new(w, "baseline_ns", times_ns(&r->median, 1));
        json_object_set_new(w, "candidate_ns", times_ns(s->samples, s->n));
    }
    return w;
}

static json_t *ok_json(const struct recorded *r, const char *task, const struct seen *s)
{
    double objective = r->median / s->value, half = 1.959964 * s->log_sd;
    json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:s}", "format", 1, "status", "ok", "message", "",
                          "definition", task, "set", RECORDED_SET);

    json_object_set_new(j, "objective", json_real(objective));
    json_object_set_new(j, "ci_low", json_real(objective * exp(-half)));
    json_object_set_new(j, "ci_high", json_real(objective * exp(half)));
    json_object_set_new(j, "log_sd", json_real(s->log_sd));
    json_object_set_new(j, "worst", json_real(objective));
    json_object_set_new(j, "workloads", json_pack("[o]", workload_json(r, s, objective)));
    return j;
}

static json_t *failure_json(const char *task, enum eval_status status)
{
    CLEANUP(freep)
    char *message = str_printf("the recording has it as a failure: %s", eval_status_name(status));

    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:n}", "format", 1, "status",
                     eval_status_name(status), "message", message, "definition", task, "set",
                     RECORDED_SET, "objective");
}

/* ---- Duels ---- */

/* Two-sided 95 % quantile of Student's t (Abramowitz and Stegun 26.7.5). */
static double t95(size_t degrees)
{
    static const double exact[] = { 12.706, 4.303, 3.182, 2.776, 2.571, 2.447 };
    double z = 1.959964, nu = (double)degrees;

    if (degrees <= ARRAY_LEN(exact))
        return exact[degrees - 1];
    return z + (pow(z, 3) + z) / (4 * nu) +
           (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * nu * nu);
}

/* A random order of n samples into out[n]. */
static void shuffled(const double *samples, size_t n, uint64_t seed, const char *purpose,
                     double *out)
{
    struct rng rng = rng_derive(seed, purpose, 0);
    CLEANUP(freep) uint32_t *order = xcalloc(n, sizeof(*order));

    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    rng_shuffle(&rng, order, n);
    for (size_t i = 0; i < n; i++)
        out[i] = samples[order[i]];
}

/* The harness's rule: median of log ratios, its error by the median deviation, Student's t. */
static struct eval_ratio compare_samples(const struct recorded *r, size_t row, size_t champion,
                                         uint64_t seed)
{
    size_t n = MIN(samples_of(r, row), samples_of(r, champion));
    CLEANUP(freep) double *mine = xcalloc(samples_of(r, row), sizeof(*mine));
    CLEANUP(freep) double *his = xcalloc(samples_of(r, champion), sizeof(*his));
    CLEANUP(freep) double *logs = xcalloc(n, sizeof(*logs));
    double median, sd, half;

    shuffled(r->samples + r->first[row], samples_of(r, row), seed, "challenger's samples", mine);
    shuffled(r->samples + r->first[champion], samples_of(r, champion), seed, "champion's samples",
             his);
    for (size_t i = 0; i < n; i++)
        logs[i] = log(his[i] / mine[i]);
    memcpy(mine, logs, n * sizeof(*logs));
    median = eval_median(mine, n);
    if (n < 2) /* one pair says nothing of its own error */
        return (struct eval_ratio){ exp(median), 0, 1e9, 0 };
    for (size_t i = 0; i < n; i++)
        mine[i] = fabs(logs[i] - median);
    sd = 1.4826 * 1.2533 * eval_median(mine, n) / sqrt((double)n);
    half = hypot(t95(n - 1) * sd, 1.959964 * SESSION_SD);
    return (struct eval_ratio){ exp(median), exp(median - half), exp(median + half),
                                hypot(sd, SESSION_SD) };
}

static struct eval_ratio compare(const struct recorded *r, size_t row, size_t champion,
                                 uint64_t seed)
{
    double ratio = r->value[champion] / r->value[row];

    if (r->noise)
        return compare_samples(r, row, champion, seed);
    return (struct eval_ratio){ ratio, ratio, ratio, 0 };
}

/* In a duel both are measured over all their samples. */
static struct seen see_all(const struct recorded *r, size_t row, double *scratch)
{
    size_t n = samples_of(r, row);

    if (!r->noise)
        return see(r, row, 0);
    memcpy(scratch, r->samples + r->first[row], n * sizeof(*scratch));
    return (struct seen){ eval_median(scratch, n), recorded_log_sd(r, row),
                          r->samples + r->first[row], n };
}

static json_t *duel_json(const struct recorded *r, const char *task, size_t row, size_t champion,
                         uint64_t seed)
{
    CLEANUP(freep) double *scratch = xcalloc(samples_of(r, row) + 1, sizeof(*scratch));
    struct seen s = see_all(r, row, scratch);
    struct eval_ratio ratio = compare(r, row, champion, seed);
    json_t *j = ok_json(r, task, &s);

    json_object_set_new(j, "vs_champion",
                        json_pack("{s:f, s:f, s:f, s:f}", "ratio", ratio.ratio, "ci_low",
                                  ratio.ci_low, "ci_high", ratio.ci_high, "log_sd", ratio.log_sd));
    return j;
}

json_t *recorded_evaluate(const struct recorded *r, const char *task, long row, long champion,
                          uint64_t seed)
{
    struct seen s;

    if (r->status[row] != EVAL_OK)
        return failure_json(task, (enum eval_status)r->status[row]);
    if (champion >= 0 && r->status[champion] == EVAL_OK)
        return duel_json(r, task, (size_t)row, (size_t)champion, seed);
    s = see(r, (size_t)row, seed);
    return ok_json(r, task, &s);
}
