/* SPDX-License-Identifier: Apache-2.0 */
/* The searches of a retune: choosing them, then running one after the other; see job.h. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "kb.h"
#include "log.h"
#include "retune/job.h"
#include "retune/report.h"
#include "rpc/rpc_search.h"
#include "sched/searches.h"

enum {
    SEARCH_EVALS_MIN = 5, /* a search of fewer teaches nothing */
    POLL_MS = 50,
    TESTS_SHARE = 4,   /* tests of insights get this part of the budget, when there are any */
    CONTROL_FACTOR = 2 /* a control search may take twice what the retune had for a task */
};

/* ---- Choosing, on a worker ---- */

/* How much a task changed: the carried program's log against the old one, refuted insights. */
static double change_of(const struct job *job, const json_t *task)
{
    const json_t *steps = json_object_get(job->doc, "steps"),
                 *results = json_object_get(job->progress, "results");
    const char *name = jsonx_str(task, "task", "");
    double change = 0, old = jsonx_num(json_object_get(task, "old"), "objective", 1);
    const char *failed;
    double effect, sd;
    json_t *item;
    size_t i;

    json_array_foreach ((json_t *)results, i, item) {
        const json_t *step = json_array_get(steps, i);

        if (strcmp(jsonx_str(step, "task", ""), name) != 0 ||
            json_object_get(step, "insight") != NULL)
            continue;
        if (strcmp(jsonx_str(item, "status", ""), "ok") == 0)
            change += fabs(1e-6 * jsonx_num(item, "objective_q", 0) - log(fmax(old, 1e-9)));
        else
            change += 1; /* the best program fails there */
    }
    json_array_foreach (json_object_get(job->doc, "insights"), i, item) {
        if (strcmp(jsonx_str(item, "task", ""), name) == 0 &&
            report_verdict(item, steps, results, &effect, &sd, &failed) == -1)
            change += fabs(effect) + 0.01;
    }
    return change;
}

/* Tests that still have to be measured. */
static double tests_left(const struct job *job, const json_t *next)
{
    const json_t *steps = json_object_get(job->doc, "steps");
    double n = 0;

    for (size_t i = json_array_size(json_object_get(next, "results")); i < json_array_size(steps);
         i++)
        n += json_object_get(json_array_get(steps, i), "known") == NULL;
    return n;
}

struct changed {
    const json_t *task;
    double change;
};

static int by_change(const void *pa, const void *pb)
{
    const struct changed *a = pa, *b = pb;

    if (a->change != b->change)
        return a->change > b->change ? -1 : 1;
    return strcmp(jsonx_str(a->task, "task", ""), jsonx_str(b->task, "task", ""));
}

static void add_search(json_t *searches, const json_t *task_row, const char *kind, uint64_t evals,
                       double time_s)
{
    char id[SEARCH_ID_MAX];
    json_t *row;

    rpc_search_new_id(id);
    row = json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:b}", "id", id, "task",
                    jsonx_str(task_row, "task", ""), "set", jsonx_str(task_row, "set", ""), "kind",
                    kind, "evals", (json_int_t)evals, "started", 0, "over", 0);
    if (isfinite(time_s))
        json_object_set_new(row, "time", json_real(time_s));
    json_array_append_new(searches, row);
}

/* What is not kept for tests goes to short warm searches, those tasks first that changed most. */
void job_choose_searches(struct job *job, json_t *next)
{
    const json_t *tasks = json_object_get(job->doc, "tasks");
    CLEANUP(freep)
    struct changed *v = xcalloc(json_array_size(tasks) + 1, sizeof(*v));
    json_t *searches = json_array(), *task;
    double left = job_evals(job) - jsonx_num(next, "spent_evals", 0);
    double tests = fmin(tests_left(job, next), job_evals(job) / TESTS_SHARE), time_s;
    size_t i, n = 0, some;

    time_s = job_time_left(job) * (tests > 0 ? 1.0 - 1.0 / TESTS_SHARE : 1);
    left = fmax(0, left - tests);

    json_array_foreach ((json_t *)tasks, i, task) {
        if (jsonx_bool(task, "measurable", 0))
            v[n++] = (struct changed){ task, change_of(job, task) };
    }
    qsort(v, n, sizeof(*v), by_change);
    some = MIN(n, (size_t)(left / SEARCH_EVALS_MIN));
    if (time_s <= 0)
        some = 0;
    for (i = 0; i < some; i++) {
        /* Equal shares; the first get what does not divide. */
        uint64_t share = (uint64_t)left / some + (i < (uint64_t)left % some);

        add_search(searches, v[i].task, "warm", share, time_s / (double)some);
    }
    for (i = 0; jsonx_bool(job->doc, "control", 0) && i < n; i++)
        add_search(searches, v[i].task, "control",
                   (uint64_t)(CONTROL_FACTOR * job_evals(job) / (double)n), INFINITY);
    json_object_set_new(next, "searches", searches);
}

/* ---- Running ---- */

size_t job_next_search(const struct job *job)
{
    json_t *search;
    size_t i;

    json_array_foreach (json_object_get(job->progress, "searches"), i, search) {
        if (!jsonx_bool(search, "over", 0))
            return i;
    }
    return SIZE_MAX;
}

int job_record_search(struct job *job, json_t *next, struct err *err)
{
    json_t *row = json_array_get(json_object_get(next, "searches"), job_next_search(job));
    json_auto_t *doc = NULL;
    struct kb *kb = job->owner->daemon->kb;

    if (!jsonx_bool(row, "started", 0)) {
        json_object_set_new(row, "started", json_true());
        return 0;
    }
    json_object_set_new(row, "over", json_true());
    if (job->lost[0]) {
        json_object_set_new(row, "started", json_false());
        json_object_set_new(row, "state", json_string(job->lost));
        return 0;
    }
    if (kb_get_doc(kb, KB_SEARCH, jsonx_str(row, "id", ""), &doc, err) != 0)
        return err_ctx(err, "a retune's search");
    json_object_set(row, "state", json_object_get(doc, "state"));
    if (strcmp(jsonx_str(row, "kind", ""), "warm") == 0)
        job_add_spent(job, next, jsonx_int(doc, "evaluations", 0));
    return 0;
}

static void search_cancelled(void *arg, const char *id, const struct err *err)
{
    (void)arg;
    (void)id;
    (void)err; /* it ended by itself meanwhile */
}

void job_cancel_search(struct job *job, const char *id)
{
    searches_request(job->owner->daemon->searches, id, SEARCHES_CANCEL, search_cancelled, NULL);
}

static void launched(void *arg, const char *id, const struct err *err)
{
    struct job *job = arg;

    if (err == NULL && job->cancelled) /* while it was being started */
        job_cancel_search(job, id);
    if (err != NULL && !job->owner->closing) {
        str_copy(job->lost, sizeof(job->lost), err->msg);
        log_error("retune %s could not search: %s", job->id, err->msg);
        job_submit(job); /* it is over before it began */
        return;
    }
    job_wait(job, JOB_SEARCHING, POLL_MS);
}

/* Is the search stored already, by a daemon that was killed after it had started it? */
static bool is_stored(struct job *job, const char *id)
{
    struct err ignored;
    json_t *doc;

    if (kb_get_doc(job->owner->daemon->kb, KB_SEARCH, id, &doc, &ignored) != 0)
        return false;
    json_decref(doc);
    return true;
}

static void launch(struct job *job, const json_t *row)
{
    const char *kind = jsonx_str(row, "kind", ""), *id = jsonx_str(row, "id", "");
    json_auto_t *params =
        json_pack("{s:s, s:s, s:s, s:b, s:I, s:{s:O}}", "task", jsonx_str(row, "task", ""), "set",
                  jsonx_str(row, "set", ""), "device", jsonx_str(job->doc, "device", ""), "cold",
                  strcmp(kind, "control") == 0, "seed", (json_int_t)jsonx_int(job->doc, "seed", 0),
                  "budget", "evals", json_object_get(row, "evals"));

    if (json_object_get(row, "time") != NULL)
        json_object_set(json_object_get(params, "budget"), "time", json_object_get(row, "time"));
    job_publish(job, "search", json_deep_copy(row));
    rpc_search_launch(job->owner->daemon, id, params, launched, job);
}

/*
 * One search after the other: noted as begun, started unless it is stored, waited for, noted as
 * over.
 */
void job_search(struct job *job)
{
    const json_t *row =
        json_array_get(json_object_get(job->progress, "searches"), job_next_search(job));
    const char *id = jsonx_str(row, "id", "");

    if (!jsonx_bool(row, "started", 0)) {
        job->began_ns = job_mono(job);
        job_submit(job);
        return;
    }
    job->phase = JOB_SEARCHING;
    if (searches_live_state(job->owner->daemon->searches, id) != SEARCH_STATE_COUNT)
        job_wait(job, JOB_SEARCHING, POLL_MS);
    else if (is_stored(job, id))
        job_submit(job);
    else
        launch(job, row);
}
