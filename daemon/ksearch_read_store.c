/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of solutions of a K-Search run, one JSON object a line; see ksearch_read.h. A line that
 * cannot be used is skipped and told, and the next one is read.
 */
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/result.h"
#include "ksearch_read_impl.h"

enum { LOG_MAX = 2000, NAME_MAX_BYTES = 160 };

void ksearch_solution_release(struct ksearch_solution *s)
{
    free(s->id);
    free(s->name);
    free(s->task);
    free(s->language);
    free(s->source);
    free(s->result.log);
}

/* The first of these members that is a text of more than blanks; NULL when none is. Borrowed. */
static const char *text_at(const json_t *obj, const char *const *keys)
{
    for (; *keys; keys++) {
        const char *s = jsonx_str(obj, *keys, "");

        if (s[strspn(s, " \t\r\n")])
            return s;
    }
    return NULL;
}

static const json_t *object_at(const json_t *obj, const char *const *keys)
{
    for (; *keys; keys++)
        if (json_is_object(json_object_get(obj, *keys)))
            return json_object_get(obj, *keys);
    return NULL;
}

/* ---- Results ---- */

/* What their backends call failures, in our classes. */
static const char *status_of(const char *said)
{
    static const struct {
        const char *part;
        enum eval_status status;
    } known[] = { { "pass", EVAL_OK },
                  { "compile", EVAL_BUILD_FAILED },
                  { "build", EVAL_BUILD_FAILED },
                  { "timeout", EVAL_TIMEOUT },
                  { "numerical", EVAL_WRONG_VALUE },
                  { "incorrect", EVAL_WRONG_VALUE },
                  { "shape", EVAL_WRONG_VALUE },
                  { "dtype", EVAL_WRONG_VALUE },
                  { "runtime", EVAL_CRASHED } };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcasestr(said, known[i].part) != NULL)
            return eval_status_name(known[i].status);
    return eval_status_name(EVAL_CRASHED);
}

/* A positive number, or NaN: no time and no ratio is anything else. */
static double positive(const json_t *obj, const char *key)
{
    double v = jsonx_num(obj, key, NAN);

    return isfinite(v) && v > 1e-9 && v < 1e9 ? v : NAN;
}

/* The score of a run's own scale, where it is a ratio that a field of its own does not have. */
static void read_score(const json_t *metrics, struct ksearch_result *r)
{
    const char *name = jsonx_str(metrics, "score_name", "");
    double score = positive(metrics, "score");

    if (strcmp(name, "mean_vs_baseline") == 0 && isnan(r->vs_baseline))
        r->vs_baseline = score;
    if (strcmp(name, "mean_speedup_vs_ref") == 0 && isnan(r->speedup))
        r->speedup = score;
}

static struct ksearch_result read_result(const json_t *j)
{
    static const char *const logs[] = { "log_excerpt", "log", NULL };
    const char *said = text_at(j, logs);
    struct ksearch_result r = {
        .status = status_of(jsonx_str(j, "status", "")),
        .vs_baseline = positive(j, "mean_vs_baseline_factor"),
        .speedup = positive(j, "speedup_factor"),
        .latency_ms = positive(j, "latency_ms"),
        .reference_ms = positive(j, "reference_latency_ms"),
    };

    r.passed = strcmp(r.status, "ok") == 0;
    if (r.passed)
        read_score(json_object_get(j, "metrics"), &r);
    else
        r.vs_baseline = r.speedup = NAN; /* a failure has no speed, whatever it says */
    r.log = xmalloc(LOG_MAX);
    str_visible(said ? said : "", said ? strlen(said) : 0, r.log, LOG_MAX);
    return r;
}

/* ---- Programs ---- */

/* Several files as one text, each under its name. */
static char *join_sources(const json_t *sources)
{
    struct buf b = { .max = KSEARCH_SOURCE_MAX };
    json_t *file;
    size_t i;

    json_array_foreach ((json_t *)sources, i, file) {
        const char *content = jsonx_str(file, "content", "");

        if (json_array_size(sources) > 1)
            buf_addf(&b, "%s===== %.200s =====\n", i ? "\n" : "", jsonx_str(file, "path", "?"));
        buf_addf(&b, "%s", content);
    }
    return buf_take(&b);
}

/* The program text: what the model answered, or files. Owned; NULL when there is none. */
static char *read_source(const json_t *record, const json_t *solution)
{
    static const char *const keys[] = { "raw",  "raw_code", "raw_answer", "raw_text",
                                        "code", "source",   NULL };
    const json_t *sources = json_object_get(solution ? solution : record, "sources");
    const char *s;

    if (json_array_size(sources) > 0)
        return join_sources(sources);
    s = text_at(record, keys);
    if (s == NULL)
        s = text_at(solution, keys);
    return s ? xstrdup(s) : NULL;
}

static char *read_language(const json_t *record, const json_t *solution, const char *source)
{
    static const char *const keys[] = { "language", NULL };
    const char *said = text_at(record, keys);

    if (said == NULL)
        said = text_at(solution, keys);
    if (said == NULL)
        said = text_at(json_object_get(solution ? solution : record, "spec"), keys);
    if (said == NULL)
        said = strstr(source, "triton") ? "triton" : strstr(source, "__global__") ? "cuda" : "";
    return str_is_name(said) ? xstrdup(said) : xstrdup("unknown");
}

/* ---- Records ---- */

static int read_record(const json_t *j, struct ksearch_solution *s, struct err *err)
{
    static const char *const ids[] = { "solution_id", "id", NULL };
    static const char *const names[] = { "solution_name", "name", NULL };
    static const char *const tasks[] = { "definition", "definition_name", "task", "task_name",
                                         NULL };
    static const char *const results[] = { "eval_result", "eval", "result", "evaluation", NULL };
    static const char *const solutions[] = { "solution", NULL };
    const json_t *solution = object_at(j, solutions), *result = object_at(j, results);
    const char *id = text_at(j, ids), *name = text_at(j, names), *task = text_at(j, tasks);

    if (id == NULL || strlen(id) > 200)
        return err_set(err, ERR_INVALID, "it has no id of at most 200 bytes");
    s->source = read_source(j, solution);
    if (s->source == NULL)
        return err_set(err, ERR_INVALID, "the solution '%.80s' has no program", id);
    if (strlen(s->source) > KSEARCH_SOURCE_MAX)
        return err_set(err, ERR_INVALID, "the program of '%.80s' has over %d bytes", id,
                       KSEARCH_SOURCE_MAX);
    s->id = xstrdup(id);
    s->name = xmalloc(NAME_MAX_BYTES);
    str_visible(name ? name : "", name ? strlen(name) : 0, s->name, NAME_MAX_BYTES);
    s->task = xstrdup(task ? task : "");
    s->language = read_language(j, solution, s->source);
    s->result = read_result(result);
    s->node = KSEARCH_NONE;
    return 0;
}

static void keep(struct ksearch_run *r, size_t *cap, struct ksearch_solution *s)
{
    for (size_t i = 0; i < r->n_solutions; i++) {
        if (strcmp(r->solutions[i].id, s->id) != 0)
            continue;
        ksearch_repair(r, "line %zu of the store has the id of line %zu; the later one counts",
                       s->line, r->solutions[i].line);
        ksearch_solution_release(&r->solutions[i]);
        memmove(&r->solutions[i], &r->solutions[i + 1],
                (r->n_solutions - i - 1) * sizeof(*r->solutions));
        r->n_solutions--;
        break;
    }
    r->solutions = xgrow(r->solutions, cap, r->n_solutions + 1, sizeof(*r->solutions));
    r->solutions[r->n_solutions++] = *s;
}

static void read_line(struct ksearch_run *r, size_t *cap, const char *text, size_t len,
                      size_t number)
{
    struct ksearch_solution s = { .line = number };
    struct err err;
    size_t words;
    json_auto_t *j = ksearch_json(text, len, &words, "it", &err);

    if (j == NULL || read_record(j, &s, &err) != 0) {
        ksearch_skip(r, "line %zu of the store: %.300s", number, err.msg);
        ksearch_solution_release(&s);
        return;
    }
    if (words > 0)
        ksearch_repair(r, "line %zu of the store has %zu numbers that are none (NaN, Infinity)",
                       number, words);
    keep(r, cap, &s);
}

static bool is_blank(const char *text, size_t n)
{
    while (n > 0 && strchr(" \t\r", text[n - 1]) != NULL && text[n - 1] != '\0')
        n--;
    return n == 0;
}

int ksearch_read_store(struct ksearch_run *r, const char *text, size_t len, struct err *err)
{
    size_t cap = 0, number = 0, at = 0;

    while (at < len) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;

        number++;
        if (r->n_solutions >= KSEARCH_SOLUTIONS_MAX)
            return err_set(err, ERR_LIMIT, "the store has more than %d solutions",
                           KSEARCH_SOLUTIONS_MAX);
        if (!is_blank(text + at, n))
            read_line(r, &cap, text + at, n, number);
        at += n + 1;
    }
    return 0;
}
