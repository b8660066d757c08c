/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections: bytes to lines, lines to calls, answers to bytes. Reading pauses while too many
 * calls are in flight or too much output waits, so a client that does not read is its own problem.
 */
#include "rpc/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "log.h"
#include "loop.h"
#include "proto/limits.h"

enum { READ_CHUNK = 65536 };

/* ---- Files ---- */

static void files_drop(struct rpc_conn *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        closep(&c->files[i].fd);
    c->n_files -= n;
    memmove(c->files, c->files + n, c->n_files * sizeof(c->files[0]));
}

/* The descriptor that came with the line that ended at `end`; what came with earlier bytes goes. */
static int file_take(struct rpc_conn *c, uint64_t end)
{
    unsigned n = 0;
    int fd = -1;

    while (n < c->n_files && c->files[n].end <= end)
        n++;
    if (n > 0) {
        fd = c->files[n - 1].fd;
        c->files[n - 1].fd = -1;
        files_drop(c, n);
    }
    return fd;
}

/* All descriptors of one message; keeps the first one. -1: none. */
static int files_in(struct msghdr *m, unsigned *count)
{
    int kept = -1;

    *count = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
        size_t n;

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
            if ((*count)++ == 0)
                kept = fd;
            else
                close(fd);
        }
    }
    return kept;
}

/* Reads bytes and at most one descriptor, close-on-exec; -1 with errno as read(2) has it. */
static ssize_t receive(struct rpc_conn *c, char *chunk, size_t size, bool *too_many)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    struct iovec iov = { chunk, size };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
    };
    ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    unsigned count;
    int fd;

    if (n < 0)
        return n;
    fd = files_in(&m, &count);
    *too_many =
        count > 1 || (m.msg_flags & MSG_CTRUNC) || (count > 0 && c->n_files == CONN_FILES_MAX);
    if (fd >= 0 && (*too_many || n == 0))
        close(fd);
    else if (fd >= 0)
        c->files[c->n_files++] = (struct conn_file){ fd, c->fed + (uint64_t)n };
    return n;
}

/* ---- Life ---- */

static void conn_free(void *arg)
{
    struct rpc_conn *c = arg;

    event_free(c->read);
    event_free(c->write);
    event_free(c->pump);
    evbuffer_free(c->out);
    frame_release(&c->in);
    free(c);
}

void conn_kill(struct rpc_conn *c)
{
    struct rpc_server *s = c->server;

    if (c->dead)
        return;
    c->dead = true;
    LIST_FOREACH (n, &c->calls) {
        LIST_OF(n, struct rpc_call, node)->conn = NULL;
        list_remove(n);
    }
    c->n_calls = 0;
    stream_drop_conn(c);
    event_del(c->read);
    event_del(c->write);
    event_del(c->pump);
    files_drop(c, c->n_files);
    close(c->fd);
    c->fd = -1;
    s->out_bytes -= evbuffer_get_length(c->out);
    s->in_bytes -= c->in_counted;
    list_remove(&c->node);
    s->stats.connections--;
    loop_defer(s->o.loop, conn_free, c);
}

/* ---- Lines ---- */

static bool wants_lines(const struct rpc_conn *c)
{
    return !c->dead && !c->closing && c->n_calls < CONN_CALLS_MAX &&
           evbuffer_get_length(c->out) < CONN_OUT_PAUSE;
}

/* Nothing left to do for a peer that sends no more? */
static bool finished(const struct rpc_conn *c)
{
    if (evbuffer_get_length(c->out) > 0)
        return false;
    return c->closing || (c->eof && c->n_calls == 0 && !event_pending(c->pump, EV_TIMEOUT, NULL));
}

/* Sets events and end of life by the present state; the last thing every entry point does. */
static void conn_settle(struct rpc_conn *c)
{
    if (c->dead)
        return;
    if (finished(c)) {
        conn_kill(c);
        return;
    }
    if (wants_lines(c) && !c->eof)
        event_add(c->read, NULL);
    else
        event_del(c->read);
}

void conn_flush(struct rpc_conn *c)
{
    while (!c->dead && evbuffer_get_length(c->out) > 0) {
        int n = evbuffer_write(c->out, c->fd);

        if (n > 0) {
            c->server->out_bytes -= (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            event_add(c->write, NULL);
        else
            conn_kill(c);
        return;
    }
}

/* More lines may be waiting than one turn handles, or than the calls in flight allowed before. */
static void pump_later(struct rpc_conn *c)
{
    static const struct timeval now = { 0, 0 };

    if (!c->dead && frame_pending(&c->in) > 0 && wants_lines(c))
        event_add(c->pump, &now);
}

static void deferred_flush(void *arg)
{
    struct rpc_conn *c = arg;

    c->flush_pending = false;
    if (c->dead)
        return;
    conn_flush(c);
    pump_later(c);
    conn_settle(c);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("conn_write");

    (void)fd;
    (void)what;
    deferred_flush(arg);
}

void conn_send(struct rpc_conn *c, const char *bytes, size_t len)
{
    struct rpc_server *s = c->server;

    if (c->dead || c->closing)
        return;
    if (evbuffer_get_length(c->out) + len > CONN_OUT_MAX || s->out_bytes + len > SERVER_OUT_MAX) {
        log_warn("rpc: closing a connection that does not read its answers");
        conn_kill(c);
        return;
    }
    if (evbuffer_add(c->out, bytes, len) != 0) {
        conn_kill(c);
        return;
    }
    s->out_bytes += len;
    if (!c->flush_pending) {
        c->flush_pending = true;
        loop_defer(s->o.loop, deferred_flush, c);
    }
}

void conn_close_after_output(struct rpc_conn *c)
{
    c->closing = true;
    event_del(c->read);
}

void conn_call_ended(struct rpc_conn *c)
{
    c->n_calls--;
    /* Settles at the end of the turn: this may be inside the pump. */
    if (!c->flush_pending) {
        c->flush_pending = true;
        loop_defer(c->server->o.loop, deferred_flush, c);
    }
}

static void count_input(struct rpc_conn *c)
{
    size_t now = frame_pending(&c->in);

    c->server->in_bytes = c->server->in_bytes - c->in_counted + now;
    c->in_counted = now;
}

static void refuse_input(struct rpc_conn *c, const struct err *err)
{
    rpc_send_error(c, NULL, 0, err);
    conn_close_after_output(c);
}

static void handle_lines(struct rpc_conn *c)
{
    struct err err;
    const char *line;
    size_t len;

    for (int i = 0; i < CONN_LINES_PER_TURN && wants_lines(c); i++) {
        int file, rc = frame_next(&c->in, &line, &len, &err);

        if (rc < 0)
            refuse_input(c, &err);
        if (rc <= 0)
            return;
        file = file_take(c, c->fed - frame_pending(&c->in));
        rpc_dispatch(c, line, len, &file);
        if (file >= 0)
            close(file); /* came with a request that takes none */
    }
    pump_later(c);
}

static void on_pump(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("conn_pump");
    struct rpc_conn *c = arg;

    (void)fd;
    (void)what;
    handle_lines(c);
    if (!c->dead)
        count_input(c);
    conn_settle(c);
}

static void take_input(struct rpc_conn *c, const char *bytes, size_t len)
{
    struct err err;

    c->fed += len;
    if (frame_feed(&c->in, bytes, len, &err) != 0) {
        refuse_input(c, &err);
        return;
    }
    handle_lines(c);
    if (c->dead)
        return;
    count_input(c);
    if (c->server->in_bytes > SERVER_IN_MAX) {
        err_set(&err, ERR_LIMIT, "all connections together hold over %d bytes of unfinished input",
                (int)SERVER_IN_MAX);
        refuse_input(c, &err);
    }
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("conn_read");
    static char chunk[READ_CHUNK]; /* one loop thread */
    struct rpc_conn *c = arg;
    bool too_many = false;
    ssize_t n = receive(c, chunk, sizeof(chunk), &too_many);
    struct err err;

    (void)fd;
    (void)what;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        conn_kill(c);
        return;
    }
    if (n == 0) {
        c->eof = true;
    } else if (too_many) {
        err_set(&err, ERR_LIMIT, "at most one file may come with a request");
        refuse_input(c, &err);
    } else {
        take_input(c, chunk, (size_t)n);
    }
    conn_settle(c);
}

struct rpc_conn *conn_new(struct rpc_server *s, int fd)
{
    struct event_base *base = loop_base(s->o.loop);
    struct rpc_conn *c = xcalloc(1, sizeof(*c));

    c->server = s;
    c->fd = fd;
    list_init(&c->calls);
    list_init(&c->subs);
    frame_init(&c->in, PROTO_REQUEST_MAX);
    c->out = evbuffer_new();
    c->read = event_new(base, fd, EV_READ | EV_PERSIST, on_read, c);
    c->write = event_new(base, fd, EV_WRITE, on_write, c);
    c->pump = evtimer_new(base, on_pump, c);
    if (c->out == NULL || c->read == NULL || c->write == NULL || c->pump == NULL)
        abort(); /* as xmalloc: small and fixed */
    list_append(&s->conns, &c->node);
    s->stats.connections++;
    event_add(c->read, NULL);
    return c;
}
