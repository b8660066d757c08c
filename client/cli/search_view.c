/* SPDX-License-Identifier: Apache-2.0 */
/* What a watched search looks like; see search_view.h. */
#include "search_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "show.h"

enum { PLOT_ROWS = 6, LINE_MAX = 4096 };

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

static void set_text(char **field, char *owned)
{
    free(*field);
    *field = owned;
}

void view_release(struct view *v)
{
    free(v->task);
    free(v->device);
    free(v->state);
    free(v->best);
    free(v->now);
    free(v->why);
    for (size_t i = 0; i < VIEW_RECENT_MAX; i++)
        free(v->recent[i]);
    json_decref(v->failures);
}

/* ---- The fold ---- */

static double view_top(const struct view *v)
{
    return v->n ? v->best[v->n - 1] : NAN;
}

static bool view_runs(const struct view *v)
{
    return v->state && strcmp(v->state, "running") == 0;
}

static double view_elapsed_s(const struct view *v)
{
    return v->spent_time_s +
           (view_runs(v) ? (double)(now_ns() - v->since_ns) / (double)NS_PER_SEC : 0);
}

void view_state(struct view *v, char *state)
{
    v->spent_time_s = view_elapsed_s(v);
    v->since_ns = now_ns();
    set_text(&v->state, state);
}

static void view_point(struct view *v, double best)
{
    v->best = xgrow(v->best, &v->cap, v->n + 1, sizeof(*v->best));
    v->best[v->n++] = best;
}

/* What is being tried now. */
static void view_attempt(struct view *v, const json_t *e)
{
    CLEANUP(freep) char *title = show_text_at(e, "title", SHOW_TEXT);
    CLEANUP(freep) char *assignment = show_text_at(e, "assignment", SHOW_TEXT);
    const json_t *predicted = json_object_get(e, "predicted");
    double objective = jsonx_num(predicted, "objective", exp(jsonx_num(predicted, "mean", NAN)));
    char expected[48] = "";

    if (isfinite(objective))
        snprintf(expected, sizeof(expected), "  (expected %.2fx)", objective);
    set_text(&v->now, str_printf("#%lld %s%s  %s", jsonx_int(e, "evaluation", 0), title, expected,
                                 assignment));
    set_text(&v->why, show_text_at(e, "why", SHOW_TEXT));
}

void view_load(struct view *v, const json_t *show)
{
    CLEANUP(freep) double *best = NULL;
    const json_t *curve = json_object_get(show, "curve");
    const json_t *failures = json_object_get(show, "failures");
    size_t n;

    set_text(&v->task, show_text_at(show, "task", SHOW_TEXT));
    set_text(&v->device, show_text_at(show, "device", SHOW_TEXT));
    set_text(&v->state, show_text_at(show, "state", SHOW_TEXT));
    best = curve_best(show, &n);
    for (size_t i = 0; i < n; i++)
        view_point(v, best[i]);
    v->last = n ? jsonx_int(json_array_get(curve, n - 1), "evaluation", (long long)n) : 0;
    v->budget_evals = jsonx_num(json_object_get(show, "budget"), "evals", NAN);
    v->budget_time_s = jsonx_num(json_object_get(show, "budget"), "time", NAN);
    v->spent_time_s = jsonx_num(json_object_get(show, "spent"), "time", 0);
    v->since_ns = now_ns();
    if (json_is_object(json_object_get(show, "trying")))
        view_attempt(v, json_object_get(show, "trying"));
    json_decref(v->failures);
    v->failures = json_is_object(failures) ? json_copy((json_t *)failures) : json_object();
}

/* "#7 ok 3.10x best 3.40x memory  A=1 B=2": one measurement as text. */
static char *measured_text(const struct view *v, const json_t *e)
{
    CLEANUP(freep) char *status = show_text_at(e, "status", SHOW_TEXT);
    CLEANUP(freep) char *objective = show_text_at(e, "objective", SHOW_FACTOR);
    CLEANUP(freep) char *arm = show_text_at(e, "arm", SHOW_TEXT);
    CLEANUP(freep) char *assignment = show_text_at(e, "assignment", SHOW_TEXT);
    CLEANUP(freep) char *message = show_text_at(e, "message", SHOW_TEXT);
    bool said = *message && strcmp(message, "-") != 0;
    char best[32] = "-";

    if (isfinite(view_top(v)))
        snprintf(best, sizeof(best), "%.2fx", view_top(v));
    return str_printf("#%-4lld %-13s %8s  best %8s  %-11s  %s%s%s", jsonx_int(e, "evaluation", 0),
                      status, objective, best, arm, assignment, said ? "  " : "",
                      said ? message : "");
}

/* The same, with what is to be said of the baseline; saying it once is enough. */
static char *drifted_text(struct view *v, const json_t *e)
{
    CLEANUP(freep) char *text = measured_text(v, e);
    CLEANUP(freep) char *note = show_text_at(e, "drift", SHOW_TEXT);

    v->drifted = *jsonx_str(e, "drift", "") != '\0';
    return v->drifted ? str_printf("%s  note: %s", text, note) : TAKE(text);
}

static void view_count_failure(struct view *v, const char *status)
{
    json_t *count = json_object_get(v->failures, status);

    if (strcmp(status, "ok") != 0)
        json_object_set_new(v->failures, status, json_integer(json_integer_value(count) + 1));
}

/* Puts a line on top of the recent ones; it is owned from here. */
static void view_remember(struct view *v, char *line)
{
    free(v->recent[VIEW_RECENT_MAX - 1]);
    memmove(&v->recent[1], &v->recent[0], (VIEW_RECENT_MAX - 1) * sizeof(v->recent[0]));
    v->recent[0] = line;
}

/* A new measurement; false when it was counted before. */
static bool view_measured(struct view *v, const json_t *e)
{
    long long number = jsonx_int(e, "evaluation", v->last + 1);
    double top = jsonx_num(e, "best", fmax(view_top(v), jsonx_num(e, "objective", NAN)));

    if (number <= v->last)
        return false;
    v->last = number;
    view_point(v, top);
    view_count_failure(v, jsonx_str(e, "status", "ok"));
    v->budget_evals = jsonx_num(json_object_get(e, "budget"), "evals", v->budget_evals);
    view_remember(v, v->drifted ? measured_text(v, e) : drifted_text(v, e));
    set_text(&v->now, NULL);
    set_text(&v->why, NULL);
    return true;
}

/* The machinery failed, not the candidate: nothing is counted, and the evaluation is tried again.
 */
static bool view_lost(struct view *v, const json_t *e)
{
    CLEANUP(freep) char *message = show_text_at(e, "message", SHOW_TEXT);

    view_remember(v, str_printf("#%-4lld could not be carried out: %s",
                                jsonx_int(e, "evaluation", 0), message));
    return true;
}

/* What other searches found, and what memory is worth: lines of their own. */
static bool view_memory(struct view *v, const json_t *e)
{
    const json_t *found = json_object_get(e, "found"), *first = json_array_get(found, 0);

    if (json_is_array(found))
        view_remember(v, str_printf("heard of %zu finding%s of other searches (%s on %s: %.2fx)",
                                    json_array_size(found), json_array_size(found) == 1 ? "" : "s",
                                    jsonx_str(first, "task", "?"), jsonx_str(first, "device", "?"),
                                    exp(jsonx_num(first, "objective_q", NAN) / 1e6)));
    else
        view_remember(v, str_printf("memory %s: %s",
                                    jsonx_bool(e, "retreat", 0) ? "retreats" : "is back",
                                    jsonx_str(e, "why", "")));
    return true;
}

/* What a language model is asked, and what comes of its answers: lines of their own. */
static bool view_talk(struct view *v, const char *type, const json_t *e)
{
    long long call = jsonx_int(e, "call", 0);
    const json_t *errors = json_object_get(e, "errors");
    const char *note = jsonx_str(e, "note", "");

    if (strcmp(type, "asked") == 0)
        view_remember(v,
                      str_printf("asked  call %lld: %s%s%s%s", call, jsonx_str(e, "kind", "?"),
                                 *jsonx_str(e, "node", "") ? " for " : "", jsonx_str(e, "node", ""),
                                 jsonx_int(e, "try", 1) > 1 ? ", once more" : ""));
    else if (strcmp(type, "answered") == 0)
        view_remember(v, str_printf("answer to call %lld from %s, %lld tokens", call,
                                    jsonx_str(e, "model", "?"),
                                    jsonx_int(e, "tokens_in", 0) + jsonx_int(e, "tokens_out", 0)));
    else if (strcmp(type, "unanswered") == 0)
        view_remember(v,
                      str_printf("no answer to call %lld: %s", call, jsonx_str(e, "message", "?")));
    else if (strcmp(type, "used") == 0 && json_array_size(errors) > 0)
        view_remember(v, str_printf("answer to call %lld cannot be used: %s", call,
                                    json_string_value(json_array_get(errors, 0))));
    else if (strcmp(type, "program") == 0 && *note)
        view_remember(v, str_printf("program %lld: %s", jsonx_int(e, "program", 0), note));
    else
        return false;
    return true;
}

char *view_holdout_text(const char *set, const json_t *check)
{
    CLEANUP(freep) char *objective = show_text_at(check, "objective", SHOW_FACTOR);
    CLEANUP(freep) char *tuned = show_text_at(check, "tuned", SHOW_FACTOR);
    CLEANUP(freep) char *status = show_text_at(check, "status", SHOW_TEXT);
    CLEANUP(freep) char *message = show_text_at(check, "message", SHOW_TEXT);
    bool said = *message && strcmp(message, "-") != 0;

    if (json_is_number(json_object_get(check, "objective")))
        return str_printf("held out (%s): %s where the tuning set says %s", set, objective, tuned);
    return str_printf("held out (%s): %s where the tuning set says %s%s%s", set, status, tuned,
                      said ? ": " : "", said ? message : "");
}

char *view_holdout_last(const json_t *show)
{
    const json_t *holdout = json_object_get(show, "holdout");
    const json_t *checks = json_object_get(holdout, "checks");
    CLEANUP(freep) char *set = show_text_at(holdout, "set", SHOW_TEXT);
    size_t n = json_array_size(checks);

    return n > 0 ? view_holdout_text(set, json_array_get(checks, n - 1)) : NULL;
}

/* The champion on the hold-out set: lines of their own. */
static bool view_holdout(struct view *v, const char *type, const json_t *e)
{
    CLEANUP(freep) char *set = show_text_at(e, "set", SHOW_TEXT);
    CLEANUP(freep) char *message = show_text_at(e, "message", SHOW_TEXT);

    if (strcmp(type, "holdout") == 0)
        view_remember(v, view_holdout_text(set, e));
    else if (strcmp(type, "holdout_lost") == 0)
        view_remember(v, str_printf("held out (%s): could not be carried out: %s", set, message));
    else
        return false;
    return true;
}

bool view_event(struct view *v, const json_t *e)
{
    static const struct {
        const char *type, *state;
    } states[] = { { "started", "running" }, { "resumed", "running" },     { "paused", "paused" },
                   { "done", "done" },       { "cancelled", "cancelled" }, { "failed", "failed" } };
    const char *type = jsonx_str(e, "type", "");

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strcmp(type, states[i].type) == 0)
            view_state(v, xstrdup(states[i].state));
    if (strcmp(type, "attempt") == 0)
        view_attempt(v, e);
    if (strcmp(type, "lost") == 0)
        return view_lost(v, e);
    if (strcmp(type, "shared") == 0 || strcmp(type, "trust") == 0)
        return view_memory(v, e);
    if (strcmp(type, "measured") == 0)
        return view_measured(v, e);
    if (str_has_prefix(type, "holdout"))
        return view_holdout(v, type, e);
    return view_talk(v, type, e);
}

size_t view_failed(const struct view *v)
{
    long long total = 0;
    const char *key;
    json_t *n;

    json_object_foreach (v->failures, key, n)
        total += json_integer_value(n);
    return total > 0 ? (size_t)total : 0;
}

/* ---- The live view ---- */

struct screen {
    struct buf out;
    size_t lines, cols;
};

static void screen_put(struct screen *s, const char *text, bool bold)
{
    buf_addf(&s->out, "%s%s%s\033[K\n", bold ? "\033[1m" : "", text, bold ? "\033[0m" : "");
    s->lines++;
}

static void screen_line(struct screen *s, bool bold, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void screen_line(struct screen *s, bool bold, const char *fmt, ...)
{
    char whole[LINE_MAX], cut[LINE_MAX + 8];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(whole, sizeof(whole), fmt, ap);
    va_end(ap);
    screen_put(s, text_fit(whole, s->cols - 1, cut, sizeof(cut)), bold);
}

static void screen_bar(struct screen *s, const struct view *v)
{
    CLEANUP(buf_release) struct buf bar = { .max = 4096 };
    bool by_time = !isfinite(v->budget_evals) && isfinite(v->budget_time_s);
    double share = by_time ? view_elapsed_s(v) / v->budget_time_s : (double)v->n / v->budget_evals;
    char label[80];

    if (!isfinite(share)) {
        screen_line(s, false, "%zu evaluations", v->n);
        return;
    }
    if (by_time)
        snprintf(label, sizeof(label), "%.0f of %.0f s, %zu evaluations", view_elapsed_s(v),
                 v->budget_time_s, v->n);
    else
        snprintf(label, sizeof(label), "%zu of %.0f evaluations", v->n, v->budget_evals);
    draw_bar(share, s->cols > 60 ? 40 : 16, &bar);
    screen_line(s, false, "%s %s", buf_str(&bar), label);
}

static void screen_plot(struct screen *s, const struct view *v)
{
    CLEANUP(buf_release) struct buf plot = { .max = 64 << 10 };
    char *line, *end;

    if (v->n == 0 || term_rows() < 20)
        return;
    draw_plot(v->best, v->n, s->cols > 24 ? MIN(s->cols - 12, (size_t)100) : 12, PLOT_ROWS, &plot);
    for (line = plot.data; line && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        screen_put(s, line, false);
    }
}

static void screen_recent(struct screen *s, const struct view *v)
{
    size_t shown = term_rows() < 20 ? 2 : VIEW_RECENT_MAX;

    for (size_t i = 0; i < shown && v->recent[i]; i++)
        screen_line(s, false, "%s %s", i == 0 ? "last" : "    ", v->recent[i]);
}

void view_draw(struct view *v, const char *search)
{
    struct screen s = { .out = { .max = 256 << 10 }, .cols = MAX(term_cols(), (size_t)20) };
    CLEANUP(freep) char *failures = show_text(v->failures, SHOW_TEXT);
    CLEANUP(freep) char *elapsed = NULL;
    json_auto_t *seconds = json_real(view_elapsed_s(v));

    elapsed = show_text(seconds, SHOW_SECONDS);
    if (v->drawn)
        buf_addf(&s.out, "\033[%zuA\r", v->drawn);
    screen_line(&s, true, "%s on %s   search %s   %s   %s", v->task, v->device, search, v->state,
                elapsed);
    screen_bar(&s, v);
    if (isfinite(view_top(v)))
        screen_line(&s, true, "best %.2fx the baseline's speed", view_top(v));
    screen_plot(&s, v);
    if (v->now) {
        screen_line(&s, false, "now  %s", v->now);
        screen_line(&s, false, "why  %s", v->why);
    }
    screen_recent(&s, v);
    if (view_failed(v) > 0)
        screen_line(&s, false, "%zu failed: %s", view_failed(v), failures);
    buf_addf(&s.out, "\033[J");
    fputs(buf_str(&s.out), stdout);
    fflush(stdout);
    v->drawn = s.lines;
    buf_release(&s.out);
}
