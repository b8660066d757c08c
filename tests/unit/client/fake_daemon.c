/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_daemon.h. */
#include "unit/client/fake_daemon.h"

#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "proto/frame.h"
#include "proto/limits.h"

struct fake_daemon {
    const struct fake_row *rows;
    int listener, stop[2];
    size_t requests;
    pthread_t thread;
};

static const struct fake_row hello_row = {
    .method = "hello", .result = "{\"version\":1,\"program\":\"ksearchd\",\"release\":\"0.1.0\"}"
};

/* False when the client has gone. */
static bool put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static bool put_text(int fd, const char *s)
{
    return s == NULL || put(fd, s, strlen(s));
}

static bool put_reply(int fd, const struct message *m, json_t *result)
{
    CLEANUP(buf_release) struct buf out = { .max = PROTO_REPLY_MAX };
    json_auto_t *owned = result;
    struct err err;
    int status = frame_reply(&out, m->id, owned, &err);

    assert(status == 0);
    return put(fd, out.data, out.len);
}

static bool answer(int fd, const struct fake_row *row, const struct message *m)
{
    CLEANUP(buf_release) struct buf out = { .max = PROTO_REPLY_MAX };
    struct err err;
    int status;

    if (row->echo)
        return put_reply(fd, m, json_pack("{s:O}", "params", m->params));
    if (row->result) {
        json_t *v = json_loads(row->result, JSON_DECODE_ANY, NULL);

        assert(v != NULL);
        return put_reply(fd, m, v);
    }
    status = frame_error(&out, m->id, row->code, row->error, &err);
    assert(status == 0);
    return put(fd, out.data, out.len);
}

static bool put_many(int fd, const char *piece, size_t size)
{
    for (size_t sent = 0; sent < size; sent += strlen(piece))
        if (!put_text(fd, piece))
            return false;
    return true;
}

/* False when the connection is over. */
static bool act(int fd, const struct fake_row *row, const struct message *m)
{
    static char block[64 << 10]; /* text without a newline */
    char *big;
    bool alive;

    if (!put_text(fd, row->before))
        return false;
    switch (row->action) {
    case FAKE_ANSWER:
        return answer(fd, row, m) && put_text(fd, row->raw);
    case FAKE_RAW:
        return put_text(fd, row->raw);
    case FAKE_DROP:
        put_text(fd, row->raw);
        return false;
    case FAKE_BIG:
        big = xmalloc(row->size + 1);
        memset(big, 'x', row->size);
        big[row->size] = '\0';
        alive = put_reply(fd, m, json_string(big));
        free(big);
        return alive;
    case FAKE_ENDLESS:
        memset(block, '0', sizeof(block) - 1);
        put_many(fd, block, row->size);
        return false;
    case FAKE_LATE:
        usleep((useconds_t)row->size * 1000);
        return answer(fd, row, m);
    case FAKE_FLOOD:
        return answer(fd, row, m) && put_many(fd,
                                              "{\"jsonrpc\":\"2.0\",\"method\":\"flood\","
                                              "\"params\":{\"text\":\"............\"}}\n",
                                              row->size);
    }
    return false;
}

static const struct fake_row *row_of(const struct fake_daemon *d, const char *method)
{
    for (const struct fake_row *r = d->rows; r->method; r++)
        if (strcmp(r->method, method) == 0)
            return r;
    return strcmp(method, "hello") == 0 ? &hello_row : NULL;
}

static bool serve_line(struct fake_daemon *d, int fd, const char *line, size_t len)
{
    static const struct fake_row unknown = { .code = ERR_INVALID, .error = "no such method here" };
    const struct fake_row *row;
    struct message m;
    struct err err;
    bool alive;

    d->requests++;
    if (message_parse(line, len, &m, NULL, NULL, &err) != 0)
        return false;
    row = row_of(d, m.method);
    alive = act(fd, row ? row : &unknown, &m);
    message_release(&m);
    return alive;
}

/* Waits for bytes, or for the order to stop, which is false. */
static bool wait_for(struct fake_daemon *d, int fd)
{
    struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = d->stop[0], .events = POLLIN } };

    return poll(p, 2, -1) > 0 && p[1].revents == 0;
}

static void serve(struct fake_daemon *d, int fd)
{
    char chunk[8192];
    const char *line;
    struct frame f;
    struct err err;
    size_t len;
    bool alive = true;

    frame_init(&f, PROTO_REQUEST_MAX);
    while (alive && wait_for(d, fd)) {
        ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

        if (n <= 0 || frame_feed(&f, chunk, (size_t)n, &err) != 0)
            break;
        while (alive && frame_next(&f, &line, &len, &err) == 1)
            alive = serve_line(d, fd, line, len);
    }
    frame_release(&f);
    close(fd);
}

static void *run(void *arg)
{
    struct fake_daemon *d = arg;

    while (wait_for(d, d->listener)) {
        int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            serve(d, fd);
    }
    return NULL;
}

struct fake_daemon *fake_daemon_start(const char *path, const struct fake_row *rows)
{
    struct fake_daemon *d = xcalloc(1, sizeof(*d));
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int status;

    d->rows = rows;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(d->listener >= 0);
    status = bind(d->listener, (struct sockaddr *)&addr, sizeof(addr));
    assert(status == 0);
    status = listen(d->listener, 8);
    assert(status == 0);
    status = pipe2(d->stop, O_CLOEXEC);
    assert(status == 0);
    status = pthread_create(&d->thread, NULL, run, d);
    assert(status == 0);
    return d;
}

size_t fake_daemon_stop(struct fake_daemon *d)
{
    size_t requests;

    close(d->stop[1]);
    pthread_join(d->thread, NULL);
    close(d->stop[0]);
    close(d->listener);
    requests = d->requests;
    free(d);
    return requests;
}
