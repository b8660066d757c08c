/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing of one evaluation record; see result.h. */
#include "eval/result.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum {
    RESULT_WORKLOADS_MAX = 256,
    RESULT_SAMPLES_MAX = 100000,
    RESULT_MESSAGE_MAX = 8192,
    RESULT_LOG_MAX = (1 << 20) + 200, /* and the sentence that says it was cut */
    RESULT_LIST_MAX = 256,            /* entries of a list in the build's report */
    RESULT_DIGEST = 64
};

/* The record rounds what it prints; a ratio of its own workloads must agree to this. */
static const double agreement = 2e-3;

static const char *const status_names[EVAL_STATUS_COUNT] = {
#define X(name, text) [EVAL_##name] = text,
    EVAL_STATUS_MAP(X)
#undef X
};

const char *eval_status_name(enum eval_status s)
{
    return status_names[s];
}

enum eval_status eval_status_from_name(const char *name)
{
    int s = 0;

    while (s < EVAL_STATUS_COUNT && strcmp(status_names[s], name) != 0)
        s++;
    return s;
}

bool eval_status_blames(enum eval_status s)
{
    return s != EVAL_OK && s != EVAL_KNOWN && s != EVAL_INFRASTRUCTURE && s != EVAL_CANCELLED;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double eval_median(double *v, size_t n)
{
    if (n == 0)
        return NAN;
    qsort(v, n, sizeof(*v), by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- Typed fields ---- */

/* ERR_INVALID when `obj` is no object or has a key that is not in the NULL-terminated list. */
static int check_keys(const json_t *obj, const char *where, const char *const *keys,
                      struct err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "%s is not an object", where);
    json_object_foreach ((json_t *)obj, key, value) {
        const char *const *k = keys;
        char seen[80];

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (*k == NULL)
            return err_set(err, ERR_INVALID, "%s has the unknown field '%s'", where,
                           str_visible(key, strlen(key), seen, sizeof(seen)));
    }
    return 0;
}

enum { NEEDED = 1 };

/* A text of at most `max` bytes; "" when it is absent and not needed. */
static int get_text(const json_t *obj, const char *key, size_t max, int needed, char **out,
                    struct err *err)
{
    const json_t *v = json_object_get(obj, key);

    if (v == NULL && !needed) {
        *out = xstrdup("");
        return 0;
    }
    if (!json_is_string(v))
        return err_set(err, ERR_INVALID, "'%s' must be a text", key);
    if (json_string_length(v) > max)
        return err_set(err, ERR_INVALID, "'%s' has %zu bytes; at most %zu are allowed", key,
                       json_string_length(v), max);
    *out = xstrdup(json_string_value(v));
    return 0;
}

/* A number from lo to hi; NaN when it is absent or null and not needed. */
static int get_number(const json_t *obj, const char *key, double lo, double hi, int needed,
                      double *out, struct err *err)
{
    const json_t *v = json_object_get(obj, key);
    double n;

    if ((v == NULL || json_is_null(v)) && !needed) {
        *out = NAN;
        return 0;
    }
    if (!json_is_number(v))
        return err_set(err, ERR_INVALID, "'%s' must be a number", key);
    n = json_number_value(v);
    if (!(n >= lo && n <= hi))
        return err_set(err, ERR_INVALID, "'%s' is %g; it must be from %g to %g", key, n, lo, hi);
    *out = n;
    return 0;
}

static int get_status(const json_t *obj, enum eval_status *out, struct err *err)
{
    const char *name = jsonx_str(obj, "status", NULL);
    char seen[80];

    if (name == NULL)
        return err_set(err, ERR_INVALID, "'status' must be a text");
    *out = eval_status_from_name(name);
    if (*out >= EVAL_CANCELLED)
        return err_set(err, ERR_INVALID, "the status '%s' is not known",
                       str_visible(name, strlen(name), seen, sizeof(seen)));
    return 0;
}

static int get_ratio(const json_t *obj, const char *key, struct eval_ratio *out, struct err *err)
{
    static const char *const keys[] = { "ratio", "ci_low", "ci_high", "log_sd", NULL };

    if (check_keys(obj, key, keys, err) != 0 ||
        get_number(obj, "ratio", 1e-9, 1e9, NEEDED, &out->ratio, err) != 0 ||
        get_number(obj, "ci_low", 0, 1e9, NEEDED, &out->ci_low, err) != 0 ||
        get_number(obj, "ci_high", 0, 1e9, NEEDED, &out->ci_high, err) != 0 ||
        get_number(obj, "log_sd", 0, 100, 0, &out->log_sd, err) != 0)
        return err_ctx(err, "%s", key);
    if (out->ci_low > out->ci_high)
        return err_set(err, ERR_INVALID, "the bounds of %s are swapped", key);
    return 0;
}

/* ---- Workloads ---- */

/* Median of raw samples in nanoseconds, 0 for none. */
static int get_samples(const json_t *obj, const char *key, uint64_t *median, size_t *count,
                       struct err *err)
{
    const json_t *list = json_object_get(obj, key);
    size_t n = json_array_size(list);
    CLEANUP(freep) double *v = NULL;

    *median = 0;
    *count = 0;
    if (list == NULL)
        return 0;
    if (!json_is_array(list) || n > RESULT_SAMPLES_MAX)
        return err_set(err, ERR_INVALID, "'%s' must be a list of at most %d samples", key,
                       RESULT_SAMPLES_MAX);
    v = xcalloc(n ? n : 1, sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_array_get(list, i);

        v[i] = json_is_number(s) ? json_number_value(s) : -1;
        if (!(v[i] > 0 && v[i] < 1e15))
            return err_set(err, ERR_INVALID, "sample %zu of '%s' is not a time in nanoseconds",
                           i + 1, key);
    }
    *count = n;
    *median = n ? (uint64_t)llround(eval_median(v, n)) : 0;
    return 0;
}

/* An object of plain numbers that are not negative: what was counted, sizes. */
static int check_numbers(const json_t *j, const char *where, struct err *err)
{
    const char *key;
    json_t *v;

    if (j != NULL && (!json_is_object(j) || json_object_size(j) > 64))
        return err_set(err, ERR_INVALID, "%s is not an object of at most 64 numbers", where);
    json_object_foreach ((json_t *)j, key, v) {
        char seen[80];

        if (!json_is_boolean(v) && !(json_is_number(v) && json_number_value(v) >= 0))
            return err_set(err, ERR_INVALID, "%s holds something else than a number in '%s'", where,
                           str_visible(key, strlen(key), seen, sizeof(seen)));
    }
    return 0;
}

/* `needed`: the evaluation is ok, so every workload must be measured. */
static int parse_workload(const json_t *j, int needed, struct eval_workload *w, struct err *err)
{
    static const char *const keys[] = {
        "name",      "status",      "message",      "ratio",       "log_sd",   "batch",
        "disturbed", "baseline_ns", "candidate_ns", "champion_ns", "roofline", "flops",
        "bytes",     "max_abs",     "tensor_rel",   "counters",    NULL
    };
    uint64_t champion_ns;
    double log_sd;
    size_t ignored;

    if (check_keys(j, "a workload", keys, err) != 0 ||
        get_text(j, "name", 200, NEEDED, &w->name, err) != 0 || get_status(j, &w->status, err) != 0)
        return -1;
    if (get_text(j, "message", RESULT_MESSAGE_MAX, 0, &w->message, err) != 0 ||
        get_number(j, "ratio", 1e-9, 1e9, needed, &w->ratio, err) != 0 ||
        get_number(j, "log_sd", 0, 100, 0, &log_sd, err) != 0 ||
        get_samples(j, "champion_ns", &champion_ns, &ignored, err) != 0 ||
        get_samples(j, "baseline_ns", &w->baseline_ns, &ignored, err) != 0 ||
        get_samples(j, "candidate_ns", &w->candidate_ns, &w->n_samples, err) != 0 ||
        get_number(j, "roofline", 0, 1e6, 0, &w->roofline, err) != 0 ||
        get_number(j, "flops", 0, 1e30, 0, &w->flops, err) != 0 ||
        get_number(j, "bytes", 0, 1e30, 0, &w->bytes, err) != 0 ||
        get_number(j, "max_abs", 0, HUGE_VAL, 0, &w->max_abs, err) != 0 ||
        get_number(j, "tensor_rel", 0, HUGE_VAL, 0, &w->tensor_rel, err) != 0 ||
        check_numbers(json_object_get(j, "counters"), "'counters'", err) != 0)
        return err_ctx(err, "workload '%s'", w->name);
    if (w->status != EVAL_OK)
        w->ratio = NAN;
    return 0;
}

static int parse_workloads(const json_t *list, struct eval_result *r, struct err *err)
{
    size_t n = json_array_size(list);

    if (list == NULL)
        return 0;
    if (!json_is_array(list) || n > RESULT_WORKLOADS_MAX)
        return err_set(err, ERR_INVALID, "'workloads' must be a list of at most %d",
                       RESULT_WORKLOADS_MAX);
    r->workloads = xcalloc(n ? n : 1, sizeof(*r->workloads));
    for (size_t i = 0; i < n; i++) {
        r->n_workloads = i + 1;
        if (parse_workload(json_array_get(list, i), r->status == EVAL_OK, &r->workloads[i], err) !=
            0)
            return -1;
    }
    return 0;
}

/* ---- The record ---- */

static int parse_env(const json_t *j, struct eval_result *r, struct err *err)
{
    const char *key;
    json_t *value;

    if (j && !json_is_object(j))
        return err_set(err, ERR_INVALID, "'env' is not an object");
    json_object_foreach ((json_t *)j, key, value) {
        if (!json_is_string(value) && !json_is_number(value) && !json_is_boolean(value))
            return err_set(err, ERR_INVALID, "'env' holds something else than plain values");
    }
    return get_text(j, "cc", 200, 0, &r->toolchain, err) ||
           get_text(j, "march", 200, 0, &r->march, err) ||
           get_text(j, "sandbox", 200, 0, &r->sandbox, err);
}

static double or_zero(double v)
{
    return isnan(v) ? 0 : v;
}

/* Entries of a report's list: objects of the given texts and of whole numbers. */
static int check_list(const json_t *build, const char *name, const char *const *texts,
                      struct err *err)
{
    const json_t *list = json_object_get(build, name), *item, *v;
    const char *key;
    size_t i;

    if (list != NULL && (!json_is_array(list) || json_array_size(list) > RESULT_LIST_MAX))
        return err_set(err, ERR_INVALID, "'%s' must be a list of at most %d", name,
                       RESULT_LIST_MAX);
    json_array_foreach (list, i, item) {
        if (!json_is_object(item))
            return err_set(err, ERR_INVALID, "'%s' holds something else than objects", name);
        json_object_foreach ((json_t *)item, key, v) {
            const char *const *t = texts;

            while (*t && strcmp(*t, key) != 0)
                t++;
            if (*t ? !json_is_string(v) || json_string_length(v) > RESULT_MESSAGE_MAX
                   : !json_is_integer(v) || json_integer_value(v) < 0)
                return err_set(err, ERR_INVALID, "entry %zu of '%s' is not as it must be", i + 1,
                               name);
        }
    }
    return 0;
}

/* What the build told of itself (docs/design.md section 3). */
static int parse_report(const json_t *build, struct eval_result *r, struct err *err)
{
    static const char *const diagnostic[] = { "severity", "kind", "message", "source", NULL };
    static const char *const loop[] = { "reason", "source", NULL };
    static const char *const counts[] = { "diagnostics_left_out", "vectorised_left_out",
                                          "missed_left_out", "vectorised_blocks" };
    double ignored;

    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (get_number(build, counts[i], 0, 1e9, 0, &ignored, err) != 0)
            return -1;
    if (check_list(build, "diagnostics", diagnostic, err) != 0 ||
        check_list(build, "vectorised", loop, err) != 0 ||
        check_list(build, "missed", loop, err) != 0 ||
        check_numbers(json_object_get(build, "size"), "'size'", err) != 0 ||
        get_text(build, "object_sha256", RESULT_DIGEST, 0, &r->object, err) != 0)
        return -1;
    if (r->object[0] && !str_is_hex(r->object, RESULT_DIGEST))
        return err_set(err, ERR_INVALID, "'object_sha256' is not %d hexadecimal digits",
                       RESULT_DIGEST);
    return 0;
}

static int parse_costs(const json_t *record, struct eval_result *r, struct err *err)
{
    static const char *const build_keys[] = { "ms",
                                              "log",
                                              "bytes",
                                              "cached",
                                              "cache_damaged",
                                              "diagnostics",
                                              "diagnostics_left_out",
                                              "vectorised",
                                              "vectorised_left_out",
                                              "vectorised_blocks",
                                              "missed",
                                              "missed_left_out",
                                              "vector_note",
                                              "size",
                                              "object_sha256",
                                              NULL };
    static const char *const time_keys[] = { "build_ms", "check_ms", "timing_ms", "total_ms",
                                             NULL };
    const json_t *build = json_object_get(record, "build"), *time = json_object_get(record, "time");
    double bytes = 0, ignored;

    if ((build && check_keys(build, "'build'", build_keys, err) != 0) ||
        (time && check_keys(time, "'time'", time_keys, err) != 0) ||
        get_text(build, "log", RESULT_LOG_MAX, 0, &r->build_log, err) != 0 ||
        parse_report(build, r, err) != 0 ||
        get_number(build, "bytes", 0, 1e15, 0, &bytes, err) != 0 ||
        get_number(build, "ms", 0, 1e12, 0, &ignored, err) != 0 ||
        get_number(time, "build_ms", 0, 1e12, 0, &r->build_ms, err) != 0 ||
        get_number(time, "check_ms", 0, 1e12, 0, &r->check_ms, err) != 0 ||
        get_number(time, "timing_ms", 0, 1e12, 0, &r->timing_ms, err) != 0 ||
        get_number(time, "total_ms", 0, 1e12, 0, &r->total_ms, err) != 0)
        return -1;
    r->build_bytes = (uint64_t)or_zero(bytes);
    r->build_ms = or_zero(r->build_ms);
    r->check_ms = or_zero(r->check_ms);
    r->timing_ms = or_zero(r->timing_ms);
    r->total_ms = or_zero(r->total_ms);
    return 0;
}

/* The objective must be what the workloads say: their ratios' geometric mean. */
static int check_objective(const struct eval_result *r, struct err *err)
{
    double sum = 0;

    if (r->n_workloads == 0)
        return err_set(err, ERR_INVALID, "an evaluation that is ok needs its workloads");
    for (size_t i = 0; i < r->n_workloads; i++) {
        if (r->workloads[i].status != EVAL_OK)
            return err_set(err, ERR_INVALID, "the evaluation is ok, but its workload '%s' is not",
                           r->workloads[i].name);
        sum += log(r->workloads[i].ratio);
    }
    if (fabs(log(r->objective) - sum / (double)r->n_workloads) > agreement)
        return err_set(err, ERR_INVALID,
                       "the objective %g is not the geometric mean %g of its workloads",
                       r->objective, exp(sum / (double)r->n_workloads));
    return 0;
}

static int parse_objective(const json_t *j, struct eval_result *r, struct err *err)
{
    int needed = r->status == EVAL_OK;

    if (get_number(j, "objective", 1e-9, 1e9, needed, &r->objective, err) != 0 ||
        get_number(j, "ci_low", 0, 1e9, needed, &r->ci_low, err) != 0 ||
        get_number(j, "ci_high", 0, 1e9, needed, &r->ci_high, err) != 0 ||
        get_number(j, "log_sd", 0, 100, needed, &r->log_sd, err) != 0 ||
        get_number(j, "worst", 0, 1e9, needed, &r->worst, err) != 0 ||
        get_number(j, "roofline", 0, 1e6, 0, &r->roofline, err) != 0)
        return -1;
    if (!needed && !isnan(r->objective))
        return err_set(err, ERR_INVALID, "a failure ('%s') has no objective",
                       eval_status_name(r->status));
    return needed ? check_objective(r, err) : 0;
}

static int parse_champion(const json_t *v, struct eval_result *r, struct err *err)
{
    if (v == NULL || json_is_null(v))
        return 0;
    r->has_champion = true;
    return get_ratio(v, "vs_champion", &r->vs_champion, err);
}

static int parse(const json_t *j, struct eval_result *r, struct err *err)
{
    static const char *const keys[] = { "format", "status",    "message",  "definition",
                                        "set",    "objective", "ci_low",   "ci_high",
                                        "log_sd", "worst",     "roofline", "workloads",
                                        "build",  "env",       "time",     "vs_champion",
                                        NULL };

    if (check_keys(j, "the record", keys, err) != 0)
        return -1;
    if (jsonx_int(j, "format", 0) != 1)
        return err_set(err, ERR_INVALID, "the record's 'format' must be 1");
    if (get_status(j, &r->status, err) != 0 ||
        get_text(j, "message", RESULT_MESSAGE_MAX, 0, &r->message, err) != 0 ||
        get_text(j, "definition", 200, NEEDED, &r->definition, err) != 0 ||
        get_text(j, "set", 200, NEEDED, &r->set, err) != 0 ||
        parse_workloads(json_object_get(j, "workloads"), r, err) != 0 ||
        parse_objective(j, r, err) != 0 ||
        parse_champion(json_object_get(j, "vs_champion"), r, err) != 0 ||
        parse_costs(j, r, err) != 0 || parse_env(json_object_get(j, "env"), r, err) != 0)
        return -1;
    if (r->status == EVAL_KNOWN && r->object[0] == '\0')
        return err_set(err, ERR_INVALID, "a known program needs the digest of its object");
    if (r->status != EVAL_OK && r->message[0] == '\0')
        return err_set(err, ERR_INVALID, "a failure ('%s') needs a message",
                       eval_status_name(r->status));
    return 0;
}

int eval_result_from_json(json_t *record, struct eval_result *out, struct err *err)
{
    struct eval_result r = { .objective = NAN };

    if (parse(record, &r, err) != 0) {
        eval_result_release(&r);
        return err_ctx(err, "evaluation record");
    }
    r.record = json_incref(record);
    *out = r;
    return 0;
}

void eval_result_fail(struct eval_result *out, enum eval_status status, const char *definition,
                      const char *set, const char *message)
{
    char seen[RESULT_MESSAGE_MAX];

    str_visible(message, strlen(message), seen, sizeof(seen));
    *out = (struct eval_result){
        .status = status,
        .message = xstrdup(seen),
        .definition = xstrdup(definition),
        .set = xstrdup(set),
        .objective = NAN,
        .ci_low = NAN,
        .ci_high = NAN,
        .log_sd = NAN,
        .worst = NAN,
        .roofline = NAN,
        .build_log = xstrdup(""),
        .object = xstrdup(""),
        .toolchain = xstrdup(""),
        .march = xstrdup(""),
        .sandbox = xstrdup(""),
        .record = json_pack("{s:i, s:s, s:s, s:s, s:s, s:n}", "format", 1, "status",
                            eval_status_name(status), "message", seen, "definition", definition,
                            "set", set, "objective"),
    };
}

void eval_result_release(struct eval_result *r)
{
    for (size_t i = 0; i < r->n_workloads; i++) {
        free(r->workloads[i].name);
        free(r->workloads[i].message);
    }
    free(r->workloads);
    free(r->message);
    free(r->definition);
    free(r->set);
    free(r->build_log);
    free(r->object);
    free(r->toolchain);
    free(r->march);
    free(r->sandbox);
    json_decref(r->record);
    memset(r, 0, sizeof(*r));
}

int64_t eval_result_objective_q(const struct eval_result *r)
{
    return r->status == EVAL_OK ? llround(1e6 * log(r->objective)) : 0;
}

int64_t eval_result_sd_q(const struct eval_result *r)
{
    return r->status == EVAL_OK ? llround(1e6 * r->log_sd) : 0;
}
