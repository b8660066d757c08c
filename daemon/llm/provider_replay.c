/* SPDX-License-Identifier: Apache-2.0 */
/* Answers from a recording, by the request's hash; see llm.h and cassette.h. Thread: loop. */
#include <event2/event.h>

#include "base/list.h"
#include "base/mem.h"
#include "llm/cassette.h"

struct replay {
    struct llm llm;
    struct cassette *cassette;
    struct event *deliver;
    struct list jobs; /* struct llm_job, to be told */
    char *path;
    enum llm_match match;
    bool closing;
};

struct llm_job {
    struct list link;
    struct llm_answer answer; /* borrowed from the recording */
    struct err err;           /* OK: there is an answer */
    llm_done_fn *done;
    void *ctx;
};

static struct replay *replay_of(const struct llm *m)
{
    return LIST_OF(m, struct replay, llm);
}

static void on_deliver(evutil_socket_t fd, short what, void *arg)
{
    struct replay *r = arg;

    (void)fd;
    (void)what;
    while (!list_empty(&r->jobs)) {
        struct llm_job *j = LIST_OF(r->jobs.next, struct llm_job, link);

        list_remove(&j->link);
        if (j->err.code == ERR_OK)
            j->done(j->ctx, &j->answer, NULL);
        else
            j->done(j->ctx, NULL, &j->err);
        free(j);
    }
}

static int replay_start(struct llm *m, const struct llm_request *req, llm_done_fn *done, void *ctx,
                        struct llm_job **out, struct err *err)
{
    struct replay *r = replay_of(m);
    struct llm_job *j;

    if (r->closing)
        return err_set(err, ERR_CANCELLED, "the recording is being closed");
    j = xcalloc(1, sizeof(*j));
    j->done = done;
    j->ctx = ctx;
    if (!cassette_next(r->cassette, req->hash, &j->answer) &&
        !(r->match == LLM_MATCH_CALL && cassette_at_call(r->cassette, req, &j->answer)))
        err_set(&j->err, ERR_NOT_FOUND,
                "recording '%s' has no answer to request '%s' (%s, attempt %u, hash %.12s)",
                r->path, req->id, req->kind, req->attempt, req->hash);
    list_append(&r->jobs, &j->link);
    event_active(r->deliver, EV_TIMEOUT, 0);
    *out = j;
    return 0;
}

static void replay_cancel(struct llm *m, struct llm_job *j)
{
    (void)m;
    err_set(&j->err, ERR_CANCELLED, "the request was withdrawn");
}

static json_t *replay_status(const struct llm *m)
{
    const struct replay *r = replay_of(m);
    json_int_t n = 0;

    LIST_FOREACH (at, (struct list *)&r->jobs) {
        n++;
    }
    return json_pack("{s:I, s:I}", "pending", n, "recorded",
                     (json_int_t)cassette_count(r->cassette));
}

static void replay_free(struct llm *m)
{
    struct replay *r = replay_of(m);

    r->closing = true;
    LIST_FOREACH (n, &r->jobs) {
        replay_cancel(m, LIST_OF(n, struct llm_job, link));
    }
    on_deliver(-1, 0, r);
    event_free(r->deliver);
    cassette_free(r->cassette);
    free(r->path);
    free(r);
}

int llm_replay_new(struct event_base *base, const char *path, enum llm_match match,
                   struct llm **out, struct err *err)
{
    struct replay *r = xcalloc(1, sizeof(*r));

    r->llm = (struct llm){ "replay", replay_start, replay_cancel, replay_status, replay_free };
    list_init(&r->jobs);
    if (cassette_load(path, &r->cassette, err) != 0) {
        free(r);
        return -1;
    }
    r->deliver = event_new(base, -1, 0, on_deliver, r);
    if (r->deliver == NULL)
        abort(); /* as xmalloc does */
    r->path = xstrdup(path);
    r->match = match;
    *out = &r->llm;
    return 0;
}
