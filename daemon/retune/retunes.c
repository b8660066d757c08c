/* SPDX-License-Identifier: Apache-2.0 */
/* The set of retunes under way; see retunes.h. */
#include "retune/retunes.h"

#include <event2/event.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "daemon.h"
#include "kb.h"
#include "log.h"
#include "loop.h"
#include "retune/job.h"
#include "retune/stored.h"
#include "rpc/rpc_search.h"
#include "sched/turns.h"
#include "work.h"

/* ---- Starting ---- */

static int store_run(struct work *w, struct err *err)
{
    struct job *job = LIST_OF(w, struct job, work);

    return stored_create(job->owner->daemon->kb, job->id, job->doc, job->progress, err);
}

static void store_done(struct work *w, const struct err *err)
{
    struct job *job = LIST_OF(w, struct job, work);

    job->phase = JOB_IDLE;
    job->done(job->arg, job->id, err);
    if (err != NULL) {
        job_end(job);
        return;
    }
    log_info("retune %s: from %s to %s, %zu insights, %zu planned", job->id,
             jsonx_str(job->doc, "from", ""), jsonx_str(job->doc, "device", ""),
             json_array_size(json_object_get(job->doc, "insights")),
             json_array_size(json_object_get(job->doc, "plan")));
    job_wake(job);
}

void retunes_start(struct retunes *rs, json_t *doc, retune_done_fn *done, void *arg)
{
    struct daemon *d = rs->daemon;
    char id[SEARCH_ID_MAX];
    struct job *job;

    rpc_search_new_id(id);
    id[0] = 'r';
    json_object_set_new(doc, "id", json_string(id));
    json_object_set_new(doc, "created",
                        json_integer((json_int_t)(d->clock->wall_ns(d->clock) / NS_PER_SEC)));
    job = job_new(rs, id, doc,
                  json_pack("{s:s, s:[], s:i, s:i}", "state", "running", "results", "spent_evals",
                            0, "spent_ns", 0));
    job->done = done;
    job->arg = arg;
    job->phase = JOB_STORING;
    job->work.run = store_run;
    job->work.done = store_done;
    work_submit(d->work, &job->work);
}

/* ---- Finding and cancelling ---- */

static struct job *find_job(const struct retunes *rs, const char *id)
{
    for (struct list *n = rs->live.next; n != &rs->live; n = n->next)
        if (strcmp(LIST_OF(n, struct job, node)->id, id) == 0)
            return LIST_OF(n, struct job, node);
    return NULL;
}

/* The same tasks in any order; none asked for is all. */
static bool same_tasks(const json_t *doc, const json_t *asked)
{
    const json_t *mine = json_object_get(doc, "asked");
    json_t *a, *b;
    size_t i, k;

    if (json_array_size(mine) != json_array_size(asked))
        return false;
    json_array_foreach ((json_t *)mine, i, a) {
        bool found = false;

        json_array_foreach ((json_t *)asked, k, b)
            found |= json_equal(a, b);
        if (!found)
            return false;
    }
    return true;
}

const char *retunes_find(const struct retunes *rs, const char *device, const char *from,
                         bool toolchain, const json_t *tasks)
{
    for (struct list *n = rs->live.next; n != &rs->live; n = n->next) {
        const struct job *job = LIST_OF(n, const struct job, node);

        if (strcmp(jsonx_str(job->doc, "device", ""), device) == 0 && !job->cancelled &&
            job->phase != JOB_STORING && jsonx_bool(job->doc, "toolchain", 0) == toolchain &&
            (from == NULL || strcmp(jsonx_str(job->doc, "from", ""), from) == 0) &&
            same_tasks(job->doc, tasks))
            return job->id;
    }
    return NULL;
}

bool retunes_live(const struct retunes *rs, const char *id)
{
    return find_job(rs, id) != NULL;
}

int retunes_cancel(struct retunes *rs, const char *id, struct err *err)
{
    struct job *job = find_job(rs, id);
    const json_t *row;

    if (job == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no retune '%s' under way", id);
    if (job->cancelled)
        return err_set(err, ERR_CONFLICT, "retune '%s' is being cancelled already", id);
    job->cancelled = true;
    switch (job->phase) {
    case JOB_MEASURING:
        if (job->eval != NULL)
            evaluator_cancel(job->eval);
        break;
    case JOB_QUEUED:
        turns_end(&job->turn);
        job->phase = JOB_IDLE;
        break;
    case JOB_SEARCHING:
        row = json_array_get(json_object_get(job->progress, "searches"), job_next_search(job));
        if (row != NULL && event_pending(job->timer, EV_TIMEOUT, NULL)) {
            job_cancel_search(job, jsonx_str(row, "id", ""));
            event_del(job->timer);
            job->phase = JOB_IDLE;
        }
        break;
    case JOB_WAITING:
        event_del(job->timer);
        job->phase = JOB_IDLE;
        break;
    case JOB_IDLE:
    case JOB_STORING:
    case JOB_RECORDING:
        break;
    }
    job_wake(job);
    return 0;
}

/* ---- Opening and closing ---- */

static int reopen(struct retunes *rs, const char *id, struct err *err)
{
    json_auto_t *doc = NULL, *progress = NULL;

    if (stored_read(rs->daemon->kb, id, &doc, &progress, err) != 0)
        return -1;
    log_info("retune %s goes on (%zu of %zu steps)", id,
             json_array_size(json_object_get(progress, "results")),
             json_array_size(json_object_get(doc, "steps")));
    job_wake(job_new(rs, id, json_incref(doc), json_incref(progress)));
    return 0;
}

int retunes_open(struct daemon *d, struct retunes **out, struct err *err)
{
    struct retunes *rs = xcalloc(1, sizeof(*rs));
    json_auto_t *list = NULL;
    json_t *row;
    size_t i;

    rs->daemon = d;
    list_init(&rs->live);
    if (stored_list(d->kb, &list, err) != 0) {
        free(rs);
        return err_ctx(err, "looking for unfinished retunes");
    }
    *out = rs;
    d->retunes = rs; /* what is woken below may look for it */
    json_array_foreach (json_object_get(list, "retunes"), i, row) {
        struct err problem;

        if (strcmp(jsonx_str(row, "state", ""), "running") == 0 &&
            reopen(rs, jsonx_str(row, "id", ""), &problem) != 0)
            log_error("retune %s cannot go on: %s", jsonx_str(row, "id", ""), problem.msg);
    }
    return 0;
}

void retunes_close(struct retunes *rs)
{
    if (rs == NULL)
        return;
    rs->closing = true;
    LIST_FOREACH (n, &rs->live) {
        struct job *job = LIST_OF(n, struct job, node);

        if (job->eval != NULL)
            evaluator_cancel(job->eval);
    }
    for (bool busy = true; busy;) {
        busy = false;
        LIST_FOREACH (n, &rs->live) {
            struct job *job = LIST_OF(n, struct job, node);

            if (job->phase == JOB_STORING || job->phase == JOB_MEASURING ||
                job->phase == JOB_RECORDING ||
                (job->phase == JOB_SEARCHING && !event_pending(job->timer, EV_TIMEOUT, NULL)))
                busy = true;
        }
        if (busy)
            loop_turn(rs->daemon->loop, true);
    }
    LIST_FOREACH (n, &rs->live) {
        struct job *job = LIST_OF(n, struct job, node);

        turns_end(&job->turn);
        list_remove(&job->node);
        job_free(job);
    }
    free(rs);
}
