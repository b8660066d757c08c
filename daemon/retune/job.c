/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one retune on the loop: its birth, its wakings, its notices, its end; see job.h. */
#include "retune/job.h"

#include <event2/event.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "loop.h"
#include "rpc/rpc.h"
#include "sched/searches.h"

uint64_t job_mono(const struct job *job)
{
    const struct clock *c = job->owner->daemon->clock;

    return c->mono_ns(c);
}

/* ---- Notices ---- */

void job_publish(struct job *job, const char *type, json_t *event)
{
    struct daemon *d = job->owner->daemon;
    char key[64];

    snprintf(key, sizeof(key), "retune:%s", job->id);
    if (event == NULL || !rpc_subscribed(d->rpc, key)) {
        json_decref(event);
        return;
    }
    json_object_set_new(event, "type", json_string(type));
    json_object_set(event, "spent_evals", json_object_get(job->progress, "spent_evals"));
    json_object_set(event, "budget", json_object_get(job->doc, "budget"));
    rpc_notify(d->rpc, key, "retune.event",
               json_pack("{s:s, s:o}", "retune", job->id, "event", event));
}

void job_publish_end(struct job *job)
{
    struct daemon *d = job->owner->daemon;
    char key[64];

    snprintf(key, sizeof(key), "retune:%s", job->id);
    rpc_notify(
        d->rpc, key, "retune.end",
        json_pack("{s:s, s:s}", "retune", job->id, "state", jsonx_str(job->progress, "state", "")));
    rpc_end_stream(d->rpc, key);
}

/* ---- Waking and waiting ---- */

void job_wake(struct job *job)
{
    if (job->phase != JOB_IDLE || job->owner->closing)
        return;
    if (job->began_ns == 0)
        job->began_ns = job_mono(job);
    switch (job_next_step(job)) {
    case STEP_MEASURE:
        job_measure(job);
        return;
    case STEP_SEARCH:
        job_search(job);
        return;
    case STEP_KNOWN:
    case STEP_CHOOSE:
    case STEP_REPORT:
        job_submit(job);
        return;
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct job *job = arg;

    LOOP_CALLBACK("retune_timer");
    (void)fd;
    (void)what;
    job->phase = JOB_IDLE;
    job_wake(job);
}

void job_wait(struct job *job, enum job_phase phase, int ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    job->phase = phase;
    event_add(job->timer, &tv);
}

/* ---- Birth and end ---- */

struct job *job_new(struct retunes *rs, const char *id, json_t *doc, json_t *progress)
{
    struct job *job = xcalloc(1, sizeof(*job));

    job->owner = rs;
    str_copy(job->id, sizeof(job->id), id);
    job->doc = doc;
    job->progress = progress;
    job->turn.go = job_turn_go;
    job->timer = evtimer_new(loop_base(rs->daemon->loop), on_timer, job);
    list_append(&rs->live, &job->node);
    return job;
}

void job_clear_step(struct job *job)
{
    if (job->has_result && job->lost[0] == '\0')
        eval_result_release(&job->result);
    job->has_result = false;
    job->lost[0] = '\0';
    search_scope_release(&job->scope);
    memset(&job->scope, 0, sizeof(job->scope));
    json_decref(job->program);
    job->program = NULL;
    json_decref(job->next);
    job->next = NULL;
}

void job_free(struct job *job)
{
    job_clear_step(job);
    if (job->timer != NULL)
        event_free(job->timer);
    json_decref(job->doc);
    json_decref(job->progress);
    free(job);
}

static void free_later(void *arg)
{
    job_free(arg);
}

void job_end(struct job *job)
{
    list_remove(&job->node);
    loop_defer(job->owner->daemon->loop, free_later, job);
}
