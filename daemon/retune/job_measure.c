/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring a step of the plan, and recording what came of it; see job.h. */
#include <string.h>

#include "base/jsonx.h"
#include "base/rng.h"
#include "daemon.h"
#include "retune/job.h"
#include "retune/measure.h"
#include "sched/turns.h"

enum {
    TRIES_MAX = 3 /* evaluations of one step lost to the infrastructure before it is given up */
};

/* ---- On a worker ---- */

static json_t *lost_entry(const char *message)
{
    return json_pack("{s:s, s:i, s:i, s:s, s:s}", "status", "lost", "objective_q", 0, "sd_q", 0,
                     "fact", "", "message", message);
}

int job_record_result(struct job *job, struct kb_batch *b, json_t *next, struct err *err)
{
    const json_t *steps = json_object_get(job->doc, "steps"), *step;
    json_t *results = json_object_get(next, "results"), *entry;

    if (job->has_result) {
        bool measured = job->lost[0] == '\0';

        if (!measured)
            entry = lost_entry(job->lost);
        else if (measure_record(job->owner->daemon, b, json_object_get(job->doc, "device_record"),
                                steps, results, &job->result, &job->scope, job->program, job->seed,
                                &entry, err) != 0)
            return -1;
        json_array_append_new(results, entry);
        job_add_spent(job, next, measured);
    }
    while ((step = json_array_get(steps, json_array_size(results))) != NULL &&
           json_object_get(step, "known") != NULL)
        json_array_append(results, json_object_get(step, "known"));
    return 0;
}

/* ---- The loop's side ---- */

static void start_measuring(struct job *job);

static void measured(void *ctx, const struct eval_result *r, const json_t *record)
{
    struct job *job = ctx;
    bool ours = !eval_status_blames(r->status) && r->status != EVAL_OK;
    bool doubtful = r->status == EVAL_UNSTABLE || r->status == EVAL_CLOCK_TAMPERED;
    struct err err;

    job->eval = NULL;
    if (r->status == EVAL_CANCELLED) {
        turns_end(&job->turn);
        job_clear_step(job);
        job->phase = JOB_IDLE;
        if (!job->owner->closing)
            job_wake(job);
        return;
    }
    if ((ours || doubtful) && ++job->tries < TRIES_MAX) {
        job_clear_step(job);
        start_measuring(job);
    } else if (ours) {
        job_give_up(job, r->message);
    } else if (eval_result_from_json((json_t *)record, &job->result, &err) != 0) {
        job_give_up(job, err.msg);
    } else {
        job->has_result = true;
        job_submit(job);
    }
}

static void start_measuring(struct job *job)
{
    struct daemon *d = job->owner->daemon;
    const json_t *step = json_array_get(json_object_get(job->doc, "steps"), job_n_results(job));
    struct rng rng = rng_derive((uint64_t)jsonx_int(job->doc, "seed", 0), "retune",
                                job_n_results(job) * TRIES_MAX + job->tries);
    struct err err;

    job->phase = JOB_MEASURING;
    job->seed = rng_u64(&rng);
    if (measure_start(d, json_object_get(job->doc, "device_record"), step, job->seed, &job->scope,
                      &job->program, measured, job, &job->eval, &err) != 0) {
        job->eval = NULL;
        job_give_up(job, err.msg);
    }
}

void job_turn_go(struct turn *t)
{
    struct job *job = LIST_OF(t, struct job, turn);

    job->began_ns = job_mono(job);
    start_measuring(job);
}

/* Looking a measurement up takes no machine's time. */
void job_measure(struct job *job)
{
    const json_t *step = json_array_get(json_object_get(job->doc, "steps"), job_n_results(job)),
                 *task;
    const json_t *tasks = json_object_get(job->doc, "tasks");
    const char *kind = jsonx_str(json_object_get(job->doc, "device_record"), "kind", "");
    bool recorded = false;
    size_t i;

    json_array_foreach ((json_t *)tasks, i, task) {
        if (strcmp(jsonx_str(task, "task", ""), jsonx_str(step, "task", "")) == 0)
            recorded = jsonx_bool(task, "recorded", 0);
    }
    job->phase = JOB_QUEUED;
    if (recorded)
        job_turn_go(&job->turn);
    else
        turns_ask(job->owner->daemon->turns,
                  strcmp(kind, "cpu") == 0 ? "cpu" : jsonx_str(job->doc, "device", ""), &job->turn);
}
