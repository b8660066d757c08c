/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: from a line to a handler with typed parameters, and from its outcome to a line. See rpc.h.
 */
#include "rpc/rpc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "log.h"
#include "loop.h"
#include "near.h"
#include "proto/limits.h"
#include "rpc/conn.h"
#include "work.h"

static const struct param no_params[] = { { 0 } };

static const struct param *params_of(const struct rpc_method *m)
{
    return m->params != NULL ? m->params : no_params;
}

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

/* ---- Answers ---- */

static void send_line(struct rpc_conn *c, struct buf *line)
{
    conn_send(c, line->data, line->len);
}

void rpc_send_error(struct rpc_conn *c, const json_t *id, int number, const struct err *err)
{
    CLEANUP(buf_release) struct buf line = { .max = PROTO_REPLY_MAX };
    struct err why;
    int rc;

    c->server->stats.errors++;
    if (number != 0)
        rc = frame_error_number(&line, id, number, err->code, err->msg, &why);
    else
        rc = frame_error(&line, id, err->code, err->msg, &why);
    if (rc == 0)
        send_line(c, &line);
    else
        log_error("rpc: an error was not sent: %s", why.msg);
}

static void call_free(struct rpc_call *call)
{
    struct rpc_conn *c = call->conn;

    list_remove(&call->node);
    call->server->stats.in_flight--;
    log_debug("rpc: %s took %.3f ms", call->method->name,
              (double)(now_ns() - call->start_ns) / 1e6);
    if (call->params != NULL) {
        param_release(params_of(call->method), call->params);
        free(call->params);
    }
    closep(&call->file);
    json_decref(call->id);
    free(call);
    if (c != NULL)
        conn_call_ended(c);
}

static void answer_error(struct rpc_call *call, int number, const struct err *err)
{
    log_debug("rpc: %s failed: %s: %s", call->method->name, err_name(err->code), err->msg);
    if (call->conn != NULL && call->id != NULL)
        rpc_send_error(call->conn, call->id, number, err);
    call_free(call);
}

void rpc_fail(struct rpc_call *call, const struct err *err)
{
    answer_error(call, 0, err);
}

void rpc_reply(struct rpc_call *call, json_t *result)
{
    CLEANUP(buf_release) struct buf line = { .max = PROTO_REPLY_MAX };
    json_auto_t *owned = result;
    struct err err;

    if (call->conn != NULL && call->id != NULL) {
        if (frame_reply(&line, call->id, owned, &err) != 0) {
            err_ctx(&err, "the answer of '%s' cannot be sent", call->method->name);
            rpc_fail(call, &err);
            return;
        }
        send_line(call->conn, &line);
    }
    call_free(call);
}

struct daemon *rpc_daemon(const struct rpc_call *call)
{
    return call->server->o.daemon;
}

void *rpc_call_params(const struct rpc_call *call)
{
    return call->params;
}

struct rpc_server *rpc_call_server(const struct rpc_call *call)
{
    return call->server;
}

int rpc_call_file(const struct rpc_call *call)
{
    return call->file;
}

bool rpc_call_dead(const struct rpc_call *call)
{
    return call->conn == NULL;
}

void rpc_call_greet(struct rpc_call *call)
{
    if (call->conn != NULL)
        call->conn->greeted = true;
}

/* ---- Work ---- */

struct rpc_work {
    struct work work;
    struct rpc_call *call;
    struct daemon *daemon;
    void *params;
    const json_t *id;
    rpc_run_fn *run;
    rpc_text_fn *text; /* in place of `run` */
    rpc_then_fn *then;
    json_t *result;  /* with `then` */
    struct buf line; /* without: the reply as it is sent */
};

/* The whole line of an answer that is made as text; 1 when it would have to wait. */
static int text_run(struct rpc_work *job, bool wait, struct err *err)
{
    int rc;

    if (frame_reply_begin(&job->line, job->id, err) != 0)
        return -1;
    rc = job->text(job->daemon, job->params, wait, &job->line, err);
    return rc != 0 ? rc : frame_reply_end(&job->line, err);
}

/* A big answer is written out here, not on the loop. */
static int work_run(struct work *w, struct err *err)
{
    struct rpc_work *job = LIST_OF(w, struct rpc_work, work);

    if (job->text != NULL)
        return text_run(job, true, err);
    if (job->run(job->daemon, job->params, &job->result, err) != 0)
        return -1;
    if (job->then != NULL || job->id == NULL)
        return 0;
    if (frame_reply(&job->line, job->id, job->result, err) != 0)
        return err_ctx(err, "the answer cannot be sent");
    return 0;
}

/* Sends the line at once: what else there is to do in this turn shall not delay it. */
static void send_now(struct rpc_call *call, struct buf *line)
{
    struct rpc_conn *c = call->conn;

    if (c != NULL && call->id != NULL && line->len > 0)
        send_line(c, line);
    call_free(call);
    if (c != NULL)
        conn_flush(c);
}

static void job_end(struct rpc_work *job, const struct err *err)
{
    struct rpc_call *call = job->call;

    if (err != NULL) {
        rpc_fail(call, err);
    } else if (job->then != NULL) {
        job->then(job->daemon, job->params, job->result);
        rpc_reply(call, TAKE(job->result));
    } else {
        send_now(call, &job->line);
    }
    json_decref(job->result);
    buf_release(&job->line);
    free(job);
}

static void work_done(struct work *w, const struct err *err)
{
    job_end(LIST_OF(w, struct rpc_work, work), err);
}

static struct rpc_work *job_new(struct rpc_call *call)
{
    struct rpc_work *job = xcalloc(1, sizeof(*job));

    job->work.run = work_run;
    job->work.done = work_done;
    job->call = call;
    job->daemon = rpc_daemon(call);
    job->params = call->params;
    job->id = call->id;
    job->line.max = PROTO_REPLY_MAX;
    return job;
}

void rpc_run_then(struct rpc_call *call, rpc_run_fn *run, rpc_then_fn *then)
{
    struct rpc_work *job = job_new(call);

    job->run = run;
    job->then = then;
    work_submit(job->daemon->work, &job->work);
}

void rpc_run(struct rpc_call *call, rpc_run_fn *run)
{
    rpc_run_then(call, run, NULL);
}

static void turn_ended(void *arg)
{
    struct rpc_server *s = arg;

    s->answered = false;
}

/* Whether the job was answered here, without the two ways between threads: once a turn, so that
 * others wait for one answer at most. */
static bool answer_now(struct rpc_work *job)
{
    struct rpc_server *s = job->call->server;
    struct err err;
    int rc;

    if (s->answered || job->id == NULL)
        return false;
    s->answered = true;
    loop_defer(s->o.loop, turn_ended, s);
    rc = text_run(job, false, &err);
    if (rc == 1)
        buf_clear(&job->line);
    else
        job_end(job, rc == 0 ? NULL : &err);
    return rc != 1;
}

void rpc_run_text(struct rpc_call *call, rpc_text_fn *run)
{
    struct rpc_work *job = job_new(call);

    job->text = run;
    if (!answer_now(job))
        work_submit(job->daemon->work, &job->work);
}

/* ---- Dispatch ---- */

static const struct rpc_method *method_find(const struct rpc_server *s, const char *name)
{
    for (const struct rpc_method *const *g = s->o.groups; *g; g++)
        for (const struct rpc_method *m = *g; m->name; m++)
            if (strcmp(m->name, name) == 0)
                return m;
    return NULL;
}

static int unknown_method(const struct rpc_server *s, const char *name, struct err *err)
{
    struct near near = { .wanted = name };
    char seen[PROTO_METHOD_MAX + 8], list[400];

    for (const struct rpc_method *const *g = s->o.groups; *g; g++)
        for (const struct rpc_method *m = *g; m->name; m++)
            near_offer(&near, m->name);
    str_visible(name, strlen(name), seen, sizeof(seen));
    return err_set(err, ERR_INVALID, "'%s' is not a method%s", seen,
                   near_text(&near, list, sizeof(list)));
}

static int state_check(const struct rpc_conn *c, const struct rpc_method *m, struct err *err)
{
    if (m->flags & RPC_ANY_STATE)
        return 0;
    if (!c->greeted)
        return err_set(err, ERR_INVALID,
                       "'%s' came before 'hello'; the first request on a connection is 'hello'",
                       m->name);
    if ((m->flags & RPC_WRITE) && c->server->o.daemon->stopping)
        return err_set(err, ERR_CONFLICT, "the daemon is stopping; '%s' changes nothing any more",
                       m->name);
    return 0;
}

static struct rpc_call *call_new(struct rpc_conn *c, const struct rpc_method *m, json_t *id)
{
    struct rpc_call *call = xcalloc(1, sizeof(*call));

    call->conn = c;
    call->server = c->server;
    call->method = m;
    call->id = id;
    call->file = -1;
    call->start_ns = now_ns();
    list_append(&c->calls, &call->node);
    c->n_calls++;
    c->server->stats.calls++;
    c->server->stats.in_flight++;
    return call;
}

/* A method with RPC_FILE reads a regular file; anything else could block a worker for ever. */
static int file_check(const struct rpc_method *m, int fd, struct err *err)
{
    struct stat st;
    int mode;

    if (fd < 0)
        return err_set(err, ERR_INVALID,
                       "'%s' needs a file: its descriptor comes with the request (SCM_RIGHTS)",
                       m->name);
    mode = fcntl(fd, F_GETFL);
    if (fstat(fd, &st) != 0 || mode < 0)
        return err_set(err, ERR_IO, "the file of '%s' cannot be looked at: %s", m->name,
                       strerror(errno));
    if (!S_ISREG(st.st_mode) || (mode & O_ACCMODE) == O_WRONLY || (mode & O_PATH))
        return err_set(err, ERR_INVALID,
                       "the file of '%s' must be a regular file, open for reading", m->name);
    if ((uint64_t)st.st_size > PROTO_FILE_MAX)
        return err_set(err, ERR_LIMIT, "the file of '%s' has %lld bytes; at most %u are allowed",
                       m->name, (long long)st.st_size, PROTO_FILE_MAX);
    return 0;
}

/* The walker: everything that is common to all methods, then the method. */
static void call_begin(struct rpc_conn *c, const struct rpc_method *m, struct message *msg,
                       int *file)
{
    struct rpc_call *call = call_new(c, m, TAKE(msg->id));
    struct err err;

    if (state_check(c, m, &err) != 0) {
        answer_error(call, 0, &err);
        return;
    }
    if (m->params != NULL) {
        call->params = xcalloc(1, m->params_size);
        if (m->defaults != NULL)
            m->defaults(call->params);
    }
    if (param_parse(params_of(m), msg->params, call->params, &err) != 0) {
        err_ctx(&err, "%s", m->name);
        answer_error(call, PROTO_CODE_PARAMS, &err);
        return;
    }
    if (m->flags & RPC_FILE) {
        if (file_check(m, *file, &err) != 0) {
            answer_error(call, 0, &err);
            return;
        }
        call->file = *file;
        *file = -1;
    }
    m->fn(call, call->params);
}

static void dispatch_message(struct rpc_conn *c, struct message *msg, int *file)
{
    const struct rpc_method *m;
    struct err err;

    if (msg->kind != MESSAGE_REQUEST && msg->kind != MESSAGE_NOTIFICATION) {
        err_set(&err, ERR_INVALID, "an answer came; a client sends requests");
        rpc_send_error(c, NULL, PROTO_CODE_REQUEST, &err);
        return;
    }
    m = method_find(c->server, msg->method);
    if (m != NULL) {
        call_begin(c, m, msg, file);
        return;
    }
    unknown_method(c->server, msg->method, &err);
    if (msg->kind == MESSAGE_REQUEST)
        rpc_send_error(c, msg->id, PROTO_CODE_METHOD, &err);
}

void rpc_dispatch(struct rpc_conn *c, const char *line, size_t len, int *file)
{
    struct message msg = { 0 };
    json_t *id = NULL;
    struct err err;
    int number = PROTO_CODE_REQUEST;

    if (message_parse(line, len, &msg, &number, &id, &err) != 0) {
        rpc_send_error(c, id, number, &err);
        json_decref(id);
        return;
    }
    dispatch_message(c, &msg, file);
    message_release(&msg);
}
