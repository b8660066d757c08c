/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a retune; see report.h. */
#include "retune/report.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "kb.h"
#include "retune/curve.h"

static const double near_best = 0.04879; /* log of 1.05: within 5 % */
static const double gain_least = 0.02;   /* a best program that is better by less is the same */
static const double capacity_grew = 1.25;

/* ---- One insight ---- */

static bool is_ok(const json_t *result)
{
    return strcmp(jsonx_str(result, "status", ""), "ok") == 0;
}

/* A result that says something of its assignment. */
static bool is_measured(const json_t *result)
{
    return strcmp(jsonx_str(result, "status", "lost"), "lost") != 0;
}

/* The text that a claim would have for this value. */
static void value_text(const json_t *v, char *out, size_t size)
{
    out[0] = '\0';
    if (json_is_string(v))
        snprintf(out, size, "%s", json_string_value(v));
    else if (json_is_boolean(v))
        snprintf(out, size, "%d", json_is_true(v));
    else if (json_is_integer(v))
        snprintf(out, size, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(out, size, "%.17g", json_real_value(v));
}

/* 1: the claim's side; -1: its alternative; 0: neither. */
static int side_of(const json_t *insight, const json_t *assignment)
{
    char text[128];

    value_text(json_object_get(assignment, jsonx_str(insight, "param", "")), text, sizeof(text));
    if (strcmp(text, jsonx_str(insight, "with", "")) == 0)
        return 1;
    return strcmp(text, jsonx_str(insight, "without", "")) == 0 ? -1 : 0;
}

/* Do the two assignments differ in this parameter alone? */
static bool differ_in(const json_t *a, const json_t *b, const char *param)
{
    const char *name;
    json_t *v;

    json_object_foreach ((json_t *)a, name, v) {
        if ((strcmp(name, param) == 0) == json_equal(v, json_object_get(b, name)))
            return false;
    }
    return json_object_size(a) == json_object_size(b);
}

struct verdict {
    double sum, variance;
    unsigned n;
    const char *failed;
    bool rescued; /* the claim's side works where its alternative fails */
};

static void compare(const json_t *with, const json_t *without, struct verdict *v)
{
    if (is_ok(with) && is_ok(without)) {
        double sd = 1e-6 * hypot(jsonx_num(with, "sd_q", 0), jsonx_num(without, "sd_q", 0));

        v->sum += 1e-6 * (jsonx_num(with, "objective_q", 0) - jsonx_num(without, "objective_q", 0));
        v->variance += sd * sd;
        v->n++;
    } else if (is_ok(without)) {
        v->failed = jsonx_str(with, "status", "failed");
    } else if (is_ok(with)) {
        v->rescued = true;
    }
}

int report_verdict(const json_t *insight, const json_t *steps, const json_t *results,
                   double *effect, double *sd, const char **failed)
{
    const char *param = jsonx_str(insight, "param", ""), *task = jsonx_str(insight, "task", "");
    size_t n = json_array_size(results);
    struct verdict v = { 0 };
    double old = jsonx_num(json_object_get(insight, "effect_from"), "mean", 0);

    for (size_t i = 0; i < n; i++) {
        const json_t *a = json_object_get(json_array_get(steps, i), "assignment");
        int side = side_of(insight, a);

        if (side != 1 || strcmp(jsonx_str(json_array_get(steps, i), "task", ""), task) != 0)
            continue;
        for (size_t k = 0; k < n; k++) {
            const json_t *b = json_object_get(json_array_get(steps, k), "assignment");

            if (strcmp(jsonx_str(json_array_get(steps, k), "task", ""), task) == 0 &&
                side_of(insight, b) == -1 && differ_in(a, b, param) &&
                is_measured(json_array_get(results, i)) && is_measured(json_array_get(results, k)))
                compare(json_array_get(results, i), json_array_get(results, k), &v);
        }
    }
    *failed = v.n == 0 ? v.failed : NULL;
    *effect = v.n ? v.sum / v.n : 0;
    *sd = v.n ? sqrt(v.variance) / v.n : 0;
    if (v.n == 0)
        return v.failed ? (old > 0 ? -1 : 1) : v.rescued ? (old > 0 ? 1 : -1) : 2;
    if (fabs(*effect) <= 2 * *sd || *effect == 0)
        return 0;
    return (*effect > 0) == (old > 0) ? 1 : -1;
}

static json_t *row_of(const json_t *insight, const char *how, const char *why)
{
    json_t *row =
        json_pack("{s:s, s:s, s:s, s:s, s:f}", "insight", jsonx_str(insight, "id", ""), "statement",
                  jsonx_str(insight, "statement", ""), "how", how, "ground", why, "effect_from",
                  jsonx_num(json_object_get(insight, "effect_from"), "mean", 0));

    if (json_object_get(insight, "task") != NULL)
        json_object_set(row, "task", json_object_get(insight, "task"));
    return row;
}

struct lists {
    json_t *kept, *lost, *open, *gained;
};

/* Re-verified, one way or the other, or not. */
static void place_tested(const json_t *insight, const json_t *steps, const json_t *results,
                         struct lists *l)
{
    long long failures = jsonx_int(json_object_get(insight, "effect_from"), "failures", 0);
    bool only_failed = jsonx_int(json_object_get(insight, "effect_from"), "n", 0) == 0;
    double effect, sd;
    const char *failed;
    int verdict = report_verdict(insight, steps, results, &effect, &sd, &failed);
    char why[160];
    json_t *row;

    if (verdict == 2) {
        json_array_append_new(l->open,
                              row_of(insight, "not measured", jsonx_str(insight, "why", "")));
        return;
    }
    if (only_failed && failures > 0) {
        /* On the old device the value failed; what counts is whether it works here. */
        json_array_append_new(failed ? l->kept : l->gained,
                              row_of(insight, failed ? "fails there too" : "works there",
                                     failed ? failed : "it failed on the old device"));
        return;
    }
    if (failed != NULL)
        snprintf(why, sizeof(why), "it fails there: %s", failed);
    else
        snprintf(why, sizeof(why), "measured there: %+.1f %% (sd %.1f %%)", 100 * expm1(effect),
                 100 * sd);
    row = row_of(insight,
                 verdict == 1   ? "confirmed"
                 : verdict == 0 ? "no difference beyond noise"
                                : "refuted",
                 why);
    json_object_set_new(row, "effect_to", failed ? json_null() : json_real(effect));
    json_array_append_new(verdict == 1 ? l->kept : verdict == 0 ? l->open : l->lost, row);
}

static void place_insights(const json_t *doc, const json_t *results, struct lists *l)
{
    const json_t *steps = json_object_get(doc, "steps");
    json_t *insight;
    size_t i;

    json_array_foreach (json_object_get(doc, "insights"), i, insight) {
        const char *label = jsonx_str(insight, "label", ""), *why = jsonx_str(insight, "why", "");

        if (strcmp(label, "carry") == 0)
            json_array_append_new(l->kept, row_of(insight, "carried", why));
        else if (strcmp(label, "void") == 0)
            json_array_append_new(l->lost, row_of(insight, "void", why));
        else
            place_tested(insight, steps, results, l);
    }
}

/* ---- What only the new device has ---- */

static void add_possible(const json_t *doc, json_t *gained)
{
    const json_t *delta = json_object_get(doc, "delta");
    json_t *item, *value;
    size_t i, k;

    json_array_foreach (json_object_get(delta, "added"), i, item)
        json_array_append_new(gained, json_pack("{s:O}", "feature", item));
    json_array_foreach (json_object_get(delta, "members"), i, item) {
        double ratio = jsonx_num(item, "ratio", 0);

        if (ratio >= capacity_grew && strstr(jsonx_str(item, "name", ""), "bytes") != NULL)
            json_array_append_new(gained, json_pack("{s:s, s:f, s:f}", "capacity",
                                                    jsonx_str(item, "name", ""), "from",
                                                    jsonx_num(item, "from", 0), "to",
                                                    jsonx_num(item, "to", 0)));
    }
    json_array_foreach (json_object_get(doc, "tasks"), i, item) {
        json_array_foreach (json_object_get(item, "new_values"), k, value)
            json_array_append_new(gained, json_pack("{s:O, s:s}", "value", value, "task",
                                                    jsonx_str(item, "task", "")));
    }
}

/* ---- Tasks ---- */

/* What was measured for a task, in order: verification first, then its warm search. */
struct series {
    double *log;          /* NaN for a failure */
    json_t **assignments; /* borrowed; those of searches from `own` */
    size_t n, cap;
    size_t searched[2]; /* [from, to): those of searches; the others are of the verification */
    json_t *own;        /* array; owned */
    double known;       /* best that was known without measuring, log; NaN for none */
    json_t *known_assignment;
};

static void series_add(struct series *s, double log, json_t *assignment)
{
    size_t cap = s->cap;

    s->log = xgrow(s->log, &cap, s->n + 1, sizeof(*s->log));
    s->assignments = xgrow(s->assignments, &s->cap, s->n + 1, sizeof(*s->assignments));
    s->log[s->n] = log;
    s->assignments[s->n++] = assignment;
}

static double result_log(const json_t *result)
{
    return is_ok(result) ? 1e-6 * jsonx_num(result, "objective_q", 0) : NAN;
}

/* Adds what was measured of the plan: old best programs, or the tests of insights. */
static void series_verified(struct series *s, const char *task, bool tests, const json_t *steps,
                            const json_t *results)
{
    json_t *result;
    size_t i;

    json_array_foreach ((json_t *)results, i, result) {
        const json_t *step = json_array_get(steps, i);
        double log = result_log(result);

        if (strcmp(jsonx_str(step, "task", ""), task) != 0 || !is_measured(result) ||
            (json_object_get(step, "insight") != NULL) != tests)
            continue;
        if (json_object_get(step, "known") == NULL) {
            series_add(s, log, json_object_get(step, "assignment"));
        } else if (!isnan(log) && !(log <= s->known)) {
            s->known = log;
            s->known_assignment = json_object_get(step, "assignment");
        }
    }
}

static int series_search(struct kb *kb, struct series *s, const char *id, struct err *err)
{
    struct curve curve;

    if (curve_read(kb, id, &curve, err) != 0)
        return -1;
    for (size_t i = 0; i < curve.n; i++) {
        json_array_append(s->own,
                          curve.points[i].assignment ? curve.points[i].assignment : json_null());
        series_add(s, curve.points[i].log, json_array_get(s->own, json_array_size(s->own) - 1));
    }
    curve_release(&curve);
    return 0;
}

static size_t series_best(const struct series *s)
{
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < s->n; i++)
        if (!isnan(s->log[i]) && (best == SIZE_MAX || s->log[i] > s->log[best]))
            best = i;
    return best;
}

/* Evaluations until within 5 % of `target`; 0 when never. */
static size_t series_to(const struct series *s, double target)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->log[i] >= target - near_best)
            return i + 1;
    return 0;
}

static void series_release(struct series *s)
{
    free(s->log);
    free(s->assignments);
    json_decref(s->own);
}

/* The searches of a task of one kind, all trials one after the other. */
static int add_searches(struct kb *kb, struct series *s, const char *task, const char *kind,
                        const json_t *progress, struct err *err)
{
    json_t *search;
    size_t i;

    json_array_foreach (json_object_get(progress, "searches"), i, search) {
        if (strcmp(jsonx_str(search, "task", ""), task) != 0 ||
            strcmp(jsonx_str(search, "kind", ""), kind) != 0 || !jsonx_bool(search, "started", 0))
            continue;
        if (series_search(kb, s, jsonx_str(search, "id", ""), err) != 0)
            return -1;
    }
    return 0;
}

/* The result of what a task begins with; NULL when it was not measured. Borrowed. */
static const json_t *carried_result(const char *task, const json_t *doc, const json_t *results)
{
    const json_t *steps = json_object_get(doc, "steps");
    json_t *step;
    size_t i;

    json_array_foreach ((json_t *)steps, i, step) {
        if (strcmp(jsonx_str(step, "task", ""), task) == 0 &&
            json_object_get(step, "insight") == NULL)
            return json_array_get(results, i);
    }
    return NULL;
}

static json_t *factor_or_null(double log)
{
    return isfinite(log) ? json_real(exp(log)) : json_null();
}

/* Sets `cold`: measured by a control search when there was one, else estimated; gives its
 * evaluations (0: unknown). */
static double set_cold(json_t *row, const json_t *task, const struct series *control, double best)
{
    size_t top = series_best(control), n;
    const json_t *estimate = json_object_get(task, "cold");

    if (control->n == 0) {
        json_object_set_new(row, "cold", estimate ? json_deep_copy(estimate) : json_null());
        return jsonx_num(estimate, "evaluations", 0);
    }
    n = isnan(best) ? 0 : series_to(control, best); /* to what the retune came to */
    json_object_set_new(row, "cold",
                        json_pack("{s:I, s:b, s:s, s:o, s:I}", "evaluations",
                                  (json_int_t)(n ? n : control->n), "reached", n != 0, "basis",
                                  "a cold control search", "objective",
                                  factor_or_null(top == SIZE_MAX ? NAN : control->log[top]),
                                  "budget", (json_int_t)control->n));
    return (double)(n ? n : control->n);
}

struct totals {
    double evaluations, seconds;
    bool any;
};

static void set_saved(json_t *row, const json_t *task, double cold, size_t to_best,
                      struct totals *saved)
{
    double evals = cold - (double)to_best, seconds = evals * jsonx_num(task, "eval_s", 1);

    /* What a warm search took says little of a cold one. */
    if (cold <= 0 || to_best == 0 ||
        strcmp(jsonx_str(json_object_get(row, "cold"), "basis", ""), "past warm searches") == 0) {
        json_object_set_new(row, "saved_evaluations", json_null());
        return;
    }
    json_object_set_new(row, "saved_evaluations", json_real(evals));
    saved->evaluations += evals;
    saved->any = true;
    if (jsonx_bool(task, "eval_known", 0)) {
        json_object_set_new(row, "saved_seconds", json_real(seconds));
        saved->seconds += seconds;
    }
}

static void set_retuned(json_t *row, const struct series *s, double *best, size_t *to_best)
{
    size_t top = series_best(s);
    bool known = !isnan(s->known) && (top == SIZE_MAX || s->known >= s->log[top]);

    *best = known ? s->known : top == SIZE_MAX ? NAN : s->log[top];
    *to_best = isnan(*best) ? 0 : series_to(s, *best);
    if (isnan(*best)) {
        json_object_set_new(row, "retuned", json_null());
        return;
    }
    json_object_set_new(row, "retuned",
                        json_pack("{s:f, s:O, s:s, s:I}", "objective", exp(*best), "assignment",
                                  known ? s->known_assignment : s->assignments[top], "by",
                                  known                                           ? "known before"
                                  : top < s->searched[0] || top >= s->searched[1] ? "verification"
                                                                                  : "search",
                                  "evaluations", (json_int_t)*to_best));
}

/* A best program that is better than what was carried over is something gained. */
static void add_program(const json_t *row, double best, double carried, json_t *gained)
{
    if (isnan(best) || !(isnan(carried) || best > carried + gain_least))
        return;
    json_array_append_new(gained,
                          json_pack("{s:O, s:s, s:o}", "program",
                                    json_object_get(json_object_get(row, "retuned"), "assignment"),
                                    "task", jsonx_str(row, "task", ""), "factor",
                                    isnan(carried) ? json_null() : json_real(exp(best - carried))));
}

static int task_row(struct kb *kb, const json_t *doc, const json_t *progress, const json_t *task,
                    struct lists *l, struct totals *saved, json_t **out, struct err *err)
{
    const char *name = jsonx_str(task, "task", "");
    const json_t *results = json_object_get(progress, "results");
    const json_t *carried = carried_result(name, doc, results);
    struct series s = { .own = json_array(), .known = NAN },
                  control = { .own = json_array(), .known = NAN };
    double best, there = carried ? result_log(carried) : NAN;
    size_t to_best;
    json_t *row;
    int rc = -1;

    series_verified(&s, name, false, json_object_get(doc, "steps"), results);
    s.searched[0] = s.n;
    if (add_searches(kb, &s, name, "warm", progress, err) == 0 &&
        add_searches(kb, &control, name, "control", progress, err) == 0) {
        s.searched[1] = s.n;
        series_verified(&s, name, true, json_object_get(doc, "steps"), results);
        row = json_pack("{s:s, s:O, s:{s:o, s:s}, s:I}", "task", name, "old",
                        json_object_get(task, "old"), "carried", "objective", factor_or_null(there),
                        "status", carried ? jsonx_str(carried, "status", "") : "not measured",
                        "evaluations", (json_int_t)s.n);
        if (json_object_get(task, "why_not") != NULL)
            json_object_set(row, "why_not", json_object_get(task, "why_not"));
        set_retuned(row, &s, &best, &to_best);
        set_saved(row, task, set_cold(row, task, &control, best), to_best, saved);
        add_program(row, best, there, l->gained);
        *out = row;
        rc = 0;
    }
    series_release(&s);
    series_release(&control);
    return rc;
}

/* ---- All of it ---- */

int report_make(struct kb *kb, const json_t *doc, const json_t *progress, json_t **out,
                struct err *err)
{
    struct lists l = { json_array(), json_array(), json_array(), json_array() };
    struct totals saved = { 0 };
    json_t *tasks = json_array(), *task, *row;
    size_t i;
    int rc = 0;

    add_possible(doc, l.gained);
    place_insights(doc, json_object_get(progress, "results"), &l);
    json_array_foreach (json_object_get(doc, "tasks"), i, task) {
        rc = task_row(kb, doc, progress, task, &l, &saved, &row, err);
        if (rc != 0)
            break;
        json_array_append_new(tasks, row);
    }
    if (rc == 0)
        *out = json_pack("{s:O, s:O, s:O, s:O, s:O, s:{s:I, s:f}, s:{s:o, s:o}}", "kept", l.kept,
                         "lost", l.lost, "gained", l.gained, "open", l.open, "tasks", tasks,
                         "spent", "evaluations", jsonx_int(progress, "spent_evals", 0), "seconds",
                         1e-9 * jsonx_num(progress, "spent_ns", 0), "saved", "evaluations",
                         saved.any ? json_real(saved.evaluations) : json_null(), "seconds",
                         saved.any ? json_real(saved.seconds) : json_null());
    json_decref(l.kept);
    json_decref(l.lost);
    json_decref(l.gained);
    json_decref(l.open);
    json_decref(tasks);
    return rc;
}
