/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluations looked up in recorded tables; see launcher_recorded.h. */
#include "eval/launcher_recorded.h"

#include <event2/event.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "eval/recorded_store.h"
#include "work.h"

struct launcher {
    struct evaluator ev;
    struct event_base *base;
    struct kb *kb;
    struct work_pool *pool;
    struct evaluator *inner;
    struct list entries; /* tables, the latest used last */
    size_t n_entries;
    struct list jobs; /* looked up, waiting for their event */
    bool closing;
};

/* One table, while it is read and after. */
struct entry {
    struct list node;
    struct launcher *l; /* NULL: the launcher is gone, only the worker's end is waited for */
    struct kb *kb;
    char *task, *device;
    struct work load;
    bool loading;
    struct recorded *table; /* NULL while loading */
    struct list waiting;    /* jobs */
};

struct recorded_job {
    struct eval_job job;
    struct launcher *l;
    struct list node; /* in entry.waiting or launcher.jobs */
    eval_done_fn *done;
    void *ctx;
    struct event *event;
    char *task;
    json_t *assignment, *champion;
    uint64_t seed;
    json_t *record; /* the answer */
    struct err err; /* why there is none */
    bool cancelled;
};

/* ---- Jobs ---- */

static void job_free(struct recorded_job *j)
{
    event_free(j->event);
    json_decref(j->assignment);
    json_decref(j->champion);
    json_decref(j->record);
    free(j->task);
    free(j);
}

static void job_end(struct recorded_job *j)
{
    struct eval_result result;
    struct err err;

    list_remove(&j->node);
    if (j->cancelled)
        eval_result_fail(&result, EVAL_CANCELLED, j->task, RECORDED_SET, "cancelled");
    else if (j->record == NULL)
        eval_result_fail(&result, EVAL_INFRASTRUCTURE, j->task, RECORDED_SET, j->err.msg);
    else if (eval_result_from_json(j->record, &result, &err) != 0)
        eval_result_fail(&result, EVAL_INFRASTRUCTURE, j->task, RECORDED_SET, err.msg);
    j->done(j->ctx, &result, result.record);
    eval_result_release(&result);
    job_free(j);
}

static void on_job(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    job_end(arg);
}

/* The row of an assignment; -1 with err when the table has none. */
static long row_of(const struct recorded *r, const json_t *assignment, struct err *err)
{
    uint16_t a[SPACE_PARAMS_MAX];

    if (space_from_json(r->space, assignment, a, err) != 0 || space_check(r->space, a, err) != 0)
        return err_ctx(err, "the recorded table");
    return space_row_of(r->space, a);
}

static void look_up(struct recorded_job *j, const struct recorded *r)
{
    long champion = -1, row = row_of(r, j->assignment, &j->err);

    if (row >= 0 && j->champion != NULL) {
        champion = row_of(r, j->champion, &j->err);
        if (champion < 0)
            return;
    }
    if (row >= 0)
        j->record = recorded_evaluate(r, j->task, row, champion, j->seed);
}

/* Its end comes from the loop, never from inside start. */
static void end_later(struct launcher *l, struct recorded_job *j)
{
    list_append(&l->jobs, &j->node);
    event_active(j->event, EV_TIMEOUT, 0);
}

/* ---- Tables ---- */

static void entry_free(struct entry *e)
{
    recorded_free(e->table);
    free(e->task);
    free(e->device);
    free(e);
}

static void entry_drop(struct launcher *l, struct entry *e)
{
    list_remove(&e->node);
    l->n_entries--;
    entry_free(e);
}

/* Evaluations take no time, so nobody holds a table that is not being read. */
static void drop_oldest(struct launcher *l)
{
    LIST_FOREACH (n, &l->entries) {
        struct entry *e = LIST_OF(n, struct entry, node);

        if (l->n_entries <= RECORDED_TABLES_KEPT)
            return;
        if (!e->loading)
            entry_drop(l, e);
    }
}

static int load_run(struct work *w, struct err *err)
{
    struct entry *e = LIST_OF(w, struct entry, load);

    return recorded_load(e->kb, e->task, e->device, &e->table, err);
}

static void load_done(struct work *w, const struct err *err)
{
    struct entry *e = LIST_OF(w, struct entry, load);
    struct launcher *l = e->l;

    e->loading = false;
    if (l == NULL) {
        entry_free(e);
        return;
    }
    LIST_FOREACH (n, &e->waiting) {
        struct recorded_job *j = LIST_OF(n, struct recorded_job, node);

        list_remove(n);
        if (err == NULL)
            look_up(j, e->table);
        else
            j->err = *err;
        end_later(l, j);
    }
    /* A table that could not be read is tried again by the next request. */
    if (err != NULL)
        entry_drop(l, e);
    else
        drop_oldest(l);
}

static struct entry *entry_find(struct launcher *l, const char *task, const char *device)
{
    LIST_FOREACH (n, &l->entries) {
        struct entry *e = LIST_OF(n, struct entry, node);

        if (strcmp(e->task, task) == 0 && strcmp(e->device, device) == 0) {
            list_remove(n);
            list_append(&l->entries, n);
            return e;
        }
    }
    return NULL;
}

static struct entry *entry_load(struct launcher *l, const char *task, const char *device)
{
    struct entry *e = xcalloc(1, sizeof(*e));

    e->l = l;
    e->kb = l->kb;
    e->task = xstrdup(task);
    e->device = xstrdup(device);
    e->loading = true;
    list_init(&e->waiting);
    e->load.run = load_run;
    e->load.done = load_done;
    list_append(&l->entries, &e->node);
    l->n_entries++;
    work_submit(l->pool, &e->load);
    return e;
}

/* ---- The evaluator ---- */

static struct recorded_job *job_new(struct launcher *l, const struct eval_request *req,
                                    eval_done_fn *done, void *ctx)
{
    struct recorded_job *j = xcalloc(1, sizeof(*j));

    j->job.ev = &l->ev;
    j->l = l;
    j->done = done;
    j->ctx = ctx;
    j->task = xstrdup(req->definition);
    /* Copies: what they are of is read by a worker as soon as `done` was called. */
    j->assignment = json_deep_copy(req->assignment);
    j->champion = json_deep_copy(req->champion_assignment);
    j->seed = req->seed;
    j->event = event_new(l->base, -1, 0, on_job, j);
    if (j->event == NULL)
        abort(); /* as xmalloc does */
    return j;
}

static int launcher_start(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                          void *ctx, struct eval_job **out, struct err *err)
{
    struct launcher *l = LIST_OF(ev, struct launcher, ev);
    struct recorded_job *j;
    struct entry *e;

    if (req->assignment == NULL)
        return evaluator_start(l->inner, req, done, ctx, out, err);
    if (l->closing)
        return err_set(err, ERR_CANCELLED, "evaluations are being shut down");
    j = job_new(l, req, done, ctx);
    e = entry_find(l, req->definition, req->device);
    if (e == NULL)
        e = entry_load(l, req->definition, req->device);
    if (e->loading) {
        list_append(&e->waiting, &j->node);
    } else {
        look_up(j, e->table);
        end_later(l, j);
    }
    *out = &j->job;
    return 0;
}

/* Jobs of the inner evaluator are cancelled there: their ev is that one. */
static void launcher_cancel(struct eval_job *job)
{
    struct recorded_job *j = LIST_OF(job, struct recorded_job, job);

    j->cancelled = true;
}

static void end_all(struct list *jobs)
{
    while (!list_empty(jobs)) {
        struct recorded_job *j = LIST_OF(jobs->next, struct recorded_job, node);

        j->cancelled = true;
        job_end(j);
    }
}

static void launcher_free(struct evaluator *ev)
{
    struct launcher *l = LIST_OF(ev, struct launcher, ev);

    l->closing = true;
    evaluator_free(l->inner);
    end_all(&l->jobs);
    LIST_FOREACH (n, &l->entries) {
        struct entry *e = LIST_OF(n, struct entry, node);

        end_all(&e->waiting);
        if (e->loading) {
            list_remove(n);
            e->l = NULL;
        } else {
            entry_drop(l, e);
        }
    }
    free(l);
}

static void launcher_load(const struct evaluator *ev, size_t *waiting, size_t *running)
{
    const struct launcher *l = LIST_OF(ev, const struct launcher, ev);

    evaluator_load(l->inner, waiting, running);
    LIST_FOREACH (n, &l->jobs) {
        (*running)++;
    }
}

struct evaluator *launcher_recorded_new(struct event_base *base, struct kb *kb,
                                        struct work_pool *pool, struct evaluator *inner)
{
    struct launcher *l = xcalloc(1, sizeof(*l));

    l->ev = (struct evaluator){ launcher_start, launcher_cancel, launcher_free, launcher_load };
    l->base = base;
    l->kb = kb;
    l->pool = pool;
    l->inner = inner;
    list_init(&l->entries);
    list_init(&l->jobs);
    return &l->ev;
}
