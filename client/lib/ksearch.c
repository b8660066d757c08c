/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client library; see ksearch.h. One non-blocking socket, one frame, one queue of
 * notifications. Internally errors are `struct err`; they become `struct ks_error` at the public
 * functions.
 */
#include "ksearch.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/methods.h"
#include "proto/version.h"

/* Notifications that one connection keeps for ks_next; a caller that never takes them loses it. */
enum { QUEUE_MAX = 65536, READ_CHUNK = 64 << 10 };

#define X(name, status, text) _Static_assert((int)KS_##name == (int)ERR_##name, #name " has moved");
ERR_MAP(X)
#undef X
_Static_assert(KS_INTERNAL + 1 == ERR_COUNT, "ksearch.h lacks a code");
_Static_assert(sizeof(((struct ks_error *)0)->message) == sizeof(((struct err *)0)->msg), "sizes");

struct note {
    struct note *next;
    char *method;
    json_t *params;
};

struct ks {
    int fd; /* -1 once the connection is dead */
    int timeout_ms;
    int64_t last_id;
    struct frame in;
    struct note *first, **last;
    size_t n_notes;
    json_t *hello;
    struct err dead; /* why, while fd is -1 */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* When to stop waiting; `at_ns` is unused for ever. */
struct deadline {
    bool forever;
    uint64_t at_ns;
};

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

static struct deadline deadline_in(int timeout_ms)
{
    return (struct deadline){ .forever = timeout_ms < 0,
                              .at_ns = timeout_ms < 0
                                           ? 0
                                           : now_ns() + (uint64_t)timeout_ms * NS_PER_MS };
}

/* For poll: -1 for ever, rounded up so that a wait never ends early and spins. */
static int deadline_left_ms(const struct deadline *d)
{
    uint64_t now, left_ms;

    if (d->forever)
        return -1;
    now = now_ns();
    if (now >= d->at_ns)
        return 0;
    left_ms = (d->at_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}

static int give(struct ks_error *error, const struct err *err)
{
    error->code = (enum ks_code)err->code;
    str_copy(error->message, sizeof(error->message), err->msg);
    return -1;
}

const char *ks_code_name(enum ks_code code)
{
    return err_name((enum err_code)code);
}

int ks_exit_status(enum ks_code code)
{
    return err_exit_status((enum err_code)code);
}

const char *ks_version(void)
{
    return KS_VERSION;
}

/* ---- The connection ---- */

/* Ends the connection for good; every later use gives `err`. */
static int ks_die(struct ks *c, const struct err *err)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->dead = *err;
    return -1;
}

static int ks_note(struct ks *c, struct message *m, struct err *err)
{
    struct note *n;

    if (c->n_notes == QUEUE_MAX)
        return err_set(err, ERR_LIMIT, "%d notifications wait and none is taken", QUEUE_MAX);
    n = malloc(sizeof(*n));
    if (n == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a notification");
    *n = (struct note){ .method = TAKE(m->method), .params = TAKE(m->params) };
    *c->last = n;
    c->last = &n->next;
    c->n_notes++;
    return 0;
}

/* What one wait is for: the reply with this id, kept in `reply` once it came. */
struct waiting {
    int64_t id;
    bool have;
    struct message reply;
};

/*
 * Sorts one line: a notification is queued, the awaited answer is kept, the late answer to a call
 * that timed out is dropped. Anything else is a daemon that does not speak our protocol.
 */
static int ks_sort(struct ks *c, const char *line, size_t len, struct waiting *w, struct err *err)
{
    struct message m = { 0 };
    struct err why;
    int status = 0;

    if (message_parse(line, len, &m, NULL, NULL, &why) != 0)
        return err_set(err, why.code == ERR_NOMEM ? ERR_NOMEM : ERR_IO,
                       "the daemon sent something unreadable: %s", why.msg);
    switch (m.kind) {
    case MESSAGE_NOTIFICATION:
        status = ks_note(c, &m, err);
        break;
    case MESSAGE_REPLY:
    case MESSAGE_ERROR:
        if (w && !w->have && message_id(&m) == w->id) {
            w->have = true;
            w->reply = m;
            return 0;
        }
        if (message_id(&m) >= 1 && message_id(&m) <= c->last_id)
            break;
        status =
            m.kind == MESSAGE_ERROR
                ? err_set(err, m.error_code, "the daemon refused the connection: %s", m.error_text)
                : err_set(err, ERR_IO, "the daemon answered a request that was not made");
        break;
    case MESSAGE_REQUEST:
    case MESSAGE_KIND_COUNT:
        status = err_set(err, ERR_IO, "the daemon sent a request; only clients do");
        break;
    }
    message_release(&m);
    return status;
}

/* Sorts all whole lines that are here. */
static int ks_sort_all(struct ks *c, struct waiting *w, struct err *err)
{
    const char *line;
    size_t len;
    int got;

    while ((got = frame_next(&c->in, &line, &len, err)) == 1)
        if (ks_sort(c, line, len, w, err) != 0)
            return ks_die(c, err);
    if (got < 0) {
        err_ctx(err, "the daemon's reply");
        return ks_die(c, err);
    }
    return 0;
}

/* Reads what the socket has, without waiting. A dead connection is -1. */
static int ks_read(struct ks *c, struct waiting *w, struct err *err)
{
    char chunk[READ_CHUNK];
    ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n <= 0) {
        if (n == 0)
            err_set(err, ERR_IO, "the daemon at %s closed the connection%s", c->path,
                    frame_pending(&c->in) ? " in the middle of a message" : "");
        else
            err_set(err, ERR_IO, "the connection to %s broke: %s", c->path, strerror(errno));
        return ks_die(c, err);
    }
    if (frame_feed(&c->in, chunk, (size_t)n, err) != 0)
        return ks_die(c, err);
    return ks_sort_all(c, w, err);
}

/* Bytes on their way, and a descriptor that goes with the first of them (-1: none). */
struct outgoing {
    struct buf bytes;
    size_t sent;
    int file;
};

static ssize_t send_some(int fd, struct outgoing *o)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { o->bytes.data + o->sent, o->bytes.len - o->sent };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (o->file >= 0 && o->sent == 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                         .cmsg_type = SCM_RIGHTS,
                                         .cmsg_len = CMSG_LEN(sizeof(int)) };
        memcpy(CMSG_DATA(&control.head), &o->file, sizeof(int));
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Writes what the socket takes, without waiting. */
static int ks_write(struct ks *c, struct outgoing *o, struct err *err)
{
    ssize_t n = send_some(c->fd, o);

    if (n >= 0) {
        o->sent += (size_t)n;
        return 0;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return 0;
    /* The daemon may have said why before it closed: read that first. */
    if (errno == EPIPE && ks_read(c, NULL, err) != 0)
        return -1;
    err_set(err, ERR_IO, "the connection to %s broke: %s", c->path, strerror(errno));
    return ks_die(c, err);
}

/* Sends `o` and waits for the answer `w` names; reads while it writes, so that neither side
 * blocks. */
static int ks_exchange(struct ks *c, struct outgoing *o, struct waiting *w,
                       const struct deadline *d, struct err *err)
{
    while (!w->have) {
        struct pollfd p = { .fd = c->fd,
                            .events = POLLIN | (o->sent < o->bytes.len ? POLLOUT : 0) };
        int n = poll(&p, 1, deadline_left_ms(d));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, "poll failed: %s", strerror(errno));
        if (n == 0) {
            err_set(err, ERR_IO, "the daemon at %s did not answer in time", c->path);
            /* Half a request cannot be taken back. */
            return o->sent > 0 && o->sent < o->bytes.len ? ks_die(c, err) : -1;
        }
        if ((p.revents & POLLOUT) && ks_write(c, o, err) != 0)
            return -1;
        if ((p.revents & (POLLIN | POLLHUP | POLLERR)) && ks_read(c, w, err) != 0)
            return w->have ? 0 : -1; /* the answer came, then the connection went */
    }
    return 0;
}

static void outgoing_release(struct outgoing *o)
{
    buf_release(&o->bytes);
}

static int call(struct ks *c, const char *method, const json_t *params, int file,
                const struct deadline *d, json_t **result, struct err *err)
{
    CLEANUP(outgoing_release)
    struct outgoing out = { .bytes = { .max = PROTO_REQUEST_MAX + 1 }, .file = file };
    struct waiting w = { .id = c->last_id + 1 };

    if (c->fd < 0) {
        *err = c->dead;
        return -1;
    }
    if (params && !json_is_object(params))
        return err_set(err, ERR_INVALID, "the parameters of %s must be an object", method);
    if (frame_request(&out.bytes, w.id, method, params, err) != 0)
        return err_ctx(err, "the request %s", method);
    c->last_id = w.id;
    if (ks_exchange(c, &out, &w, d, err) != 0)
        return -1;
    if (w.reply.kind == MESSAGE_ERROR) {
        err_set(err, w.reply.error_code, "%s", w.reply.error_text);
        message_release(&w.reply);
        return -1;
    }
    if (result)
        *result = TAKE(w.reply.result);
    message_release(&w.reply);
    return 0;
}

int ks_call(struct ks *c, const char *method, const json_t *params, json_t **result,
            struct ks_error *error)
{
    struct deadline d = deadline_in(c->timeout_ms);
    struct err err;

    return call(c, method, params, -1, &d, result, &err) == 0 ? 0 : give(error, &err);
}

int ks_call_fd(struct ks *c, const char *method, const json_t *params, int file, json_t **result,
               struct ks_error *error)
{
    struct deadline d = deadline_in(c->timeout_ms);
    struct err err;

    if (file < 0) {
        err_set(&err, ERR_INVALID, "the request %s needs an open file", method);
        return give(error, &err);
    }
    return call(c, method, params, file, &d, result, &err) == 0 ? 0 : give(error, &err);
}

int ks_subscribe(struct ks *c, const char *search, json_t **result, struct ks_error *error)
{
    json_auto_t *params = json_pack("{s:s}", "search", search);
    struct err err;

    if (params == NULL) {
        err_set(&err, ERR_INVALID, "the id of the search is not UTF-8 text");
        return give(error, &err);
    }
    return ks_call(c, METHOD_SEARCH_WATCH, params, result, error);
}

/* ---- Notifications ---- */

static bool note_take(struct ks *c, char **method, json_t **params)
{
    struct note *n = c->first;

    if (n == NULL)
        return false;
    c->first = n->next;
    if (c->first == NULL)
        c->last = &c->first;
    c->n_notes--;
    *method = n->method;
    *params = n->params;
    free(n);
    return true;
}

int ks_next(struct ks *c, int timeout_ms, char **method, json_t **params, struct ks_error *error)
{
    struct deadline d = deadline_in(timeout_ms);
    struct err err;

    for (;;) {
        struct pollfd p = { .fd = c->fd, .events = POLLIN };
        int n;

        if (note_take(c, method, params))
            return 1;
        if (c->fd < 0)
            return give(error, &c->dead);
        n = poll(&p, 1, deadline_left_ms(&d));
        if (n == 0 || (n < 0 && errno == EINTR))
            return 0;
        if (n < 0) {
            err_set(&err, ERR_IO, "poll failed: %s", strerror(errno));
            return give(error, &err);
        }
        if (ks_read(c, NULL, &err) != 0 && c->first == NULL)
            return give(error, &err);
    }
}

int ks_fd(const struct ks *c)
{
    return c->fd;
}

/* ---- Coming and going ---- */

/*
 * A Unix socket connects at once or finds the daemon's backlog full (EAGAIN); the second is waited
 * out in small steps, because poll does not report it.
 */
static int ks_dial(struct ks *c, const struct deadline *d, struct err *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    str_copy(addr.sun_path, sizeof(addr.sun_path), c->path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return err_set(err, ERR_IO, "cannot make a socket: %s", strerror(errno));
    while (connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        int left = deadline_left_ms(d);

        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && left != 0) {
            poll(NULL, 0, left < 0 || left > 20 ? 20 : left);
            continue;
        }
        if (errno == ENOENT || errno == ECONNREFUSED)
            return err_set(err, ERR_IO,
                           "no daemon listens at %s; start one with: ksearchd --socket %s", c->path,
                           c->path);
        return err_set(err, ERR_IO, "cannot connect to %s: %s", c->path, strerror(errno));
    }
    return 0;
}

static int ks_greet(struct ks *c, const struct deadline *d, struct err *err)
{
    json_auto_t *params =
        json_pack("{s:i, s:s}", "version", PROTO_VERSION, "client", "ksearch " KS_VERSION);
    json_int_t version;

    if (params == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a greeting");
    if (call(c, METHOD_HELLO, params, -1, d, &c->hello, err) != 0)
        return -1;
    version = json_integer_value(json_object_get(c->hello, "version"));
    if (version != PROTO_VERSION)
        return err_set(
            err, ERR_CONFLICT,
            "the daemon at %s speaks protocol version %lld; this client speaks version %d", c->path,
            (long long)version, PROTO_VERSION);
    return 0;
}

static int ks_set_path(struct ks *c, const char *path, struct err *err)
{
    if (path == NULL)
        return proto_socket_path(c->path, sizeof(c->path), err);
    if (*path == '\0' || !str_copy(c->path, sizeof(c->path), path))
        return err_set(err, ERR_INVALID,
                       "the socket path '%.80s' has %zu bytes; 1 to %zu are allowed", path,
                       strlen(path), sizeof(c->path) - 1);
    return 0;
}

int ks_connect(const char *path, int timeout_ms, struct ks **out, struct ks_error *error)
{
    struct deadline d = deadline_in(timeout_ms);
    struct ks *c = calloc(1, sizeof(*c));
    struct err err;

    if (c == NULL) {
        err_set(&err, ERR_NOMEM, "no memory for a connection");
        return give(error, &err);
    }
    c->fd = -1;
    c->timeout_ms = -1;
    c->last = &c->first;
    frame_init(&c->in, PROTO_REPLY_MAX);
    if (ks_set_path(c, path, &err) != 0 || ks_dial(c, &d, &err) != 0 ||
        ks_greet(c, &d, &err) != 0) {
        ks_close(c);
        return give(error, &err);
    }
    *out = c;
    return 0;
}

void ks_close(struct ks *c)
{
    char *method;
    json_t *params;

    if (c == NULL)
        return;
    while (note_take(c, &method, &params)) {
        free(method);
        json_decref(params);
    }
    if (c->fd >= 0)
        close(c->fd);
    frame_release(&c->in);
    json_decref(c->hello);
    free(c);
}

void ks_set_timeout(struct ks *c, int timeout_ms)
{
    c->timeout_ms = timeout_ms;
}

const json_t *ks_hello(const struct ks *c)
{
    return c->hello;
}

const char *ks_path(const struct ks *c)
{
    return c->path;
}
