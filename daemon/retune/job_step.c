/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a retune: which comes next, its turn on a worker, and what follows; see job.h. */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "kb.h"
#include "log.h"
#include "retune/job.h"
#include "retune/report.h"
#include "retune/stored.h"
#include "sched/turns.h"
#include "work.h"

enum { RETRY_MS = 5000 };

/* ---- What comes next: a function of the two documents ---- */

size_t job_n_results(const struct job *job)
{
    return json_array_size(json_object_get(job->progress, "results"));
}

double job_evals(const struct job *job)
{
    return jsonx_num(json_object_get(job->doc, "budget"), "evals", 0);
}

double job_time_left(const struct job *job)
{
    double budget = jsonx_num(json_object_get(job->doc, "budget"), "time", 0);

    return budget > 0 ? budget - 1e-9 * jsonx_num(job->progress, "spent_ns", 0) : INFINITY;
}

static bool may_measure(const struct job *job)
{
    return job_time_left(job) > 0 && jsonx_num(job->progress, "spent_evals", 0) < job_evals(job);
}

/*
 * Old best programs, then searches, then tests of insights: what a search measures first is worth
 * most to whoever waits for a program, and the tests find the part of the budget kept for them.
 */
enum step job_next_step(const struct job *job)
{
    const json_t *step = json_array_get(json_object_get(job->doc, "steps"), job_n_results(job));
    bool known = step != NULL && json_object_get(step, "known") != NULL;
    bool is_test = step != NULL && json_object_get(step, "insight") != NULL;
    enum step measure = known ? STEP_KNOWN : STEP_MEASURE;

    if (job->cancelled)
        return STEP_REPORT;
    if (json_object_get(job->progress, "searches") == NULL)
        return step != NULL && !is_test && (known || may_measure(job)) ? measure : STEP_CHOOSE;
    if (job_next_search(job) != SIZE_MAX)
        return STEP_SEARCH;
    return is_test && (known || may_measure(job)) ? measure : STEP_REPORT;
}

/* ---- On a worker ---- */

void job_add_spent(struct job *job, json_t *next, long long evals)
{
    uint64_t ns = job_mono(job) - job->began_ns;

    json_object_set_new(next, "spent_evals",
                        json_integer(jsonx_int(next, "spent_evals", 0) + evals));
    json_object_set_new(next, "spent_ns",
                        json_integer(jsonx_int(next, "spent_ns", 0) + (json_int_t)ns));
}

static int make_report(struct job *job, struct kb_batch *b, json_t *next, struct err *err)
{
    struct kb *kb = job->owner->daemon->kb;
    const char *state = job->ending ? "cancelled" : "done";
    json_t *report;

    if (report_make(kb, job->doc, next, &report, err) != 0)
        return -1;
    json_object_set_new(next, "report", report);
    json_object_set_new(next, "state", json_string(state));
    return stored_put_listed(kb, b, job->id, job->doc, state, err);
}

static int step_run(struct work *w, struct err *err)
{
    struct job *job = LIST_OF(w, struct job, work);
    struct kb_batch *b = kb_batch_new(job->owner->daemon->kb);
    int rc = -1;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a step of a retune");
    job->next = json_deep_copy(job->progress);
    stored_lock(); /* for the report's sake */
    switch (job->step) {
    case STEP_KNOWN:
    case STEP_MEASURE:
        rc = job_record_result(job, b, job->next, err);
        break;
    case STEP_CHOOSE:
        job_choose_searches(job, job->next);
        rc = 0;
        break;
    case STEP_SEARCH:
        rc = job_record_search(job, job->next, err);
        break;
    case STEP_REPORT:
        rc = make_report(job, b, job->next, err);
        break;
    }
    if (rc == 0 && stored_put_progress(b, job->id, job->next, err) == 0)
        rc = kb_commit(b, err);
    else
        rc = -1;
    stored_unlock();
    kb_batch_free(b);
    return rc;
}

/* ---- The loop's side ---- */

/* What watchers are told of the step that was stored. */
static void tell_step(struct job *job, size_t results_before, bool chose)
{
    const json_t *results = json_object_get(job->progress, "results");

    for (size_t i = results_before; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        const json_t *step = json_array_get(json_object_get(job->doc, "steps"), i);
        json_t *event =
            json_pack("{s:s, s:s, s:s, s:b, s:O}", "task", jsonx_str(step, "task", ""), "why",
                      jsonx_str(step, "why", ""), "status", jsonx_str(r, "status", ""), "known",
                      json_object_get(step, "known") != NULL, "assignment",
                      json_object_get(step, "assignment"));

        if (strcmp(jsonx_str(r, "status", ""), "ok") == 0)
            json_object_set_new(event, "objective",
                                json_real(exp(1e-6 * jsonx_num(r, "objective_q", 0))));
        job_publish(job, "measured", event);
    }
    if (chose)
        job_publish(job, "searches",
                    json_pack("{s:O}", "searches", json_object_get(job->progress, "searches")));
}

static void job_over(struct job *job)
{
    log_info("retune %s is %s", job->id, jsonx_str(job->progress, "state", ""));
    job_publish_end(job);
    job_end(job);
}

static void step_done(struct work *w, const struct err *err)
{
    struct job *job = LIST_OF(w, struct job, work);
    size_t before = job_n_results(job);
    bool chose;

    turns_end(&job->turn);
    if (err != NULL) {
        bool closing = job->owner->closing;

        if (!closing)
            log_error("retune %s: %s", job->id, err->msg);
        job_clear_step(job);
        job->phase = JOB_IDLE;
        if (!closing)
            job_wait(job, JOB_WAITING, RETRY_MS);
        return;
    }
    chose = json_object_get(job->progress, "searches") == NULL &&
            json_object_get(job->next, "searches") != NULL;
    json_decref(job->progress);
    job->progress = TAKE(job->next);
    job_clear_step(job);
    job->tries = 0;
    job->phase = JOB_IDLE;
    tell_step(job, before, chose);
    if (strcmp(jsonx_str(job->progress, "state", ""), "running") != 0)
        job_over(job);
    else
        job_wake(job);
}

void job_submit(struct job *job)
{
    job->step = job_next_step(job);
    job->ending = job->cancelled;
    job->phase = JOB_RECORDING;
    job->work.run = step_run;
    job->work.done = step_done;
    work_submit(job->owner->daemon->work, &job->work);
}

void job_give_up(struct job *job, const char *why)
{
    str_copy(job->lost, sizeof(job->lost), why);
    job->has_result = true;
    job_submit(job);
}
