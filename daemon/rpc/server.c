/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening. Who may have the path is decided under a lock file beside it (flock, gone with its
 * process), so that two daemons that start together cannot both find a dead socket and both replace
 * it.
 */
#include "rpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "log.h"
#include "loop.h"
#include "rpc/conn.h"

enum { BACKLOG = 1024, ACCEPTS_PER_TURN = 64 };

struct rpc_server *rpc_server_new(const struct rpc_server_options *o)
{
    struct rpc_server *s = xcalloc(1, sizeof(*s));

    s->o = *o;
    s->listen_fd = s->lock_fd = -1;
    list_init(&s->conns);
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        list_init(&s->streams[i]);
    return s;
}

struct rpc_server_stats rpc_server_stats(const struct rpc_server *s)
{
    return s->stats;
}

/* ---- Accepting ---- */

int rpc_server_adopt(struct rpc_server *s, int fd, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        err_set(err, ERR_IO, "cannot set up a connection: %s", strerror(errno));
        close(fd);
        return -1;
    }
    if (s->stats.connections >= s->o.max_connections) {
        err_set(err, ERR_LIMIT, "%llu connections are open; at most %zu are allowed",
                (unsigned long long)s->stats.connections, s->o.max_connections);
        close(fd);
        return -1;
    }
    s->stats.accepted++;
    conn_new(s, fd);
    return 0;
}

/* Our own user and root: the socket's mode says so too, but a mode can be changed. */
static int peer_check(int fd, struct err *err)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return err_set(err, ERR_IO, "cannot read the peer's credentials: %s", strerror(errno));
    if (cred.uid != geteuid() && cred.uid != 0)
        return err_set(err, ERR_REFUSED, "this daemon belongs to user %u; you are user %u",
                       (unsigned)geteuid(), (unsigned)cred.uid);
    return 0;
}

/* Says why, as far as the socket's buffer takes it, and closes. */
static void refuse(struct rpc_server *s, int fd, const struct err *err)
{
    CLEANUP(buf_release) struct buf line = { .max = 4096 };
    struct err ignored;

    s->stats.refused++;
    log_info("rpc: connection refused: %s", err->msg);
    if (frame_error(&line, NULL, err->code, err->msg, &ignored) == 0 &&
        send(fd, line.data, line.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("rpc: the refused peer had gone");
    close(fd);
}

static void welcome(struct rpc_server *s, int fd)
{
    struct err err;

    if (peer_check(fd, &err) != 0) {
        refuse(s, fd, &err);
    } else if (s->stats.connections >= s->o.max_connections) {
        err_set(&err, ERR_LIMIT, "%llu connections are open; at most %zu are allowed",
                (unsigned long long)s->stats.connections, s->o.max_connections);
        refuse(s, fd, &err);
    } else if (rpc_server_adopt(s, fd, &err) != 0) {
        log_warn("rpc: %s", err.msg);
    }
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("rpc_accept");
    struct rpc_server *s = arg;

    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (peer >= 0) {
            welcome(s, peer);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN) {
            static const struct timeval pause = { 1, 0 };

            /* Out of descriptors or memory: waiting clients keep their place in the backlog. */
            log_warn("rpc: cannot accept: %s; trying again in a second", strerror(errno));
            event_del(s->accept);
            event_add(s->retry, &pause);
        }
        return;
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct rpc_server *s = arg;

    (void)fd;
    (void)what;
    event_add(s->accept, NULL);
}

/* ---- The socket ---- */

static int make_folder(const char *path, struct err *err)
{
    CLEANUP(freep) char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');

    if (slash == NULL || slash == dir)
        return 0;
    *slash = '\0';
    return file_mkdirs(dir, err);
}

static int take_lock(struct rpc_server *s, const char *path, struct err *err)
{
    CLEANUP(freep) char *lock = str_printf("%s.lock", path);

    if (lock == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    s->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return err_set(err, ERR_IO, "cannot open '%s': %s", lock, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return err_set(err, ERR_CONFLICT, "a live daemon has the socket '%s'", path);
    return err_set(err, ERR_IO, "cannot lock '%s': %s", lock, strerror(errno));
}

/* Removes what a dead daemon left; something alive or of another kind stays. */
static int clear_path(const struct sockaddr_un *addr, struct err *err)
{
    CLEANUP(closep) int fd = -1;
    struct stat st;

    if (lstat(addr->sun_path, &st) != 0) {
        if (errno == ENOENT)
            return 0;
        return err_set(err, ERR_IO, "cannot look at '%s': %s", addr->sun_path, strerror(errno));
    }
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_CONFLICT, "'%s' is there and is no socket; it is left alone",
                       addr->sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
        return err_set(err, ERR_CONFLICT, "a live daemon has the socket '%s'", addr->sun_path);
    if (errno != ECONNREFUSED)
        return err_set(err, ERR_IO, "cannot tell whether the socket '%s' is alive: %s",
                       addr->sun_path, strerror(errno));
    log_info("rpc: replacing the socket '%s' of a daemon that is gone", addr->sun_path);
    if (unlink(addr->sun_path) != 0 && errno != ENOENT)
        return err_set(err, ERR_IO, "cannot remove '%s': %s", addr->sun_path, strerror(errno));
    return 0;
}

static int bind_socket(struct rpc_server *s, const struct sockaddr_un *addr, struct err *err)
{
    struct stat st;

    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0)
        return err_set(err, ERR_IO, "cannot make a socket: %s", strerror(errno));
    if (bind(s->listen_fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0)
        return err_set(err, ERR_IO, "cannot bind '%s': %s", addr->sun_path, strerror(errno));
    s->path = xstrdup(addr->sun_path);
    if (lstat(s->path, &st) != 0 || chmod(s->path, 0600) != 0)
        return err_set(err, ERR_IO, "cannot set the mode of '%s': %s", s->path, strerror(errno));
    s->socket_dev = st.st_dev;
    s->socket_ino = st.st_ino;
    if (listen(s->listen_fd, BACKLOG) != 0)
        return err_set(err, ERR_IO, "cannot listen on '%s': %s", s->path, strerror(errno));
    return 0;
}

static int start_accepting(struct rpc_server *s, struct err *err)
{
    struct event_base *base = loop_base(s->o.loop);

    s->accept = event_new(base, s->listen_fd, EV_READ | EV_PERSIST, on_accept, s);
    s->retry = evtimer_new(base, on_retry, s);
    if (s->accept == NULL || s->retry == NULL || event_add(s->accept, NULL) != 0)
        return err_set(err, ERR_NOMEM, "no memory for an event");
    return 0;
}

int rpc_server_listen(struct rpc_server *s, const char *path, struct err *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    if (!str_copy(addr.sun_path, sizeof(addr.sun_path), path) || path[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "the socket's path '%s' has %zu bytes; allowed are 1 to %zu", path,
                       strlen(path), sizeof(addr.sun_path) - 1);
    if (make_folder(path, err) != 0 || take_lock(s, path, err) != 0 ||
        clear_path(&addr, err) != 0 || bind_socket(s, &addr, err) != 0 ||
        start_accepting(s, err) != 0) {
        rpc_server_close_socket(s);
        return -1;
    }
    return 0;
}

static void remove_socket(struct rpc_server *s)
{
    struct stat st;

    if (lstat(s->path, &st) == 0 && st.st_dev == s->socket_dev && st.st_ino == s->socket_ino)
        unlink(s->path);
    free(s->path);
    s->path = NULL;
}

void rpc_server_close_socket(struct rpc_server *s)
{
    if (s->accept != NULL)
        event_free(s->accept);
    if (s->retry != NULL)
        event_free(s->retry);
    s->accept = s->retry = NULL;
    if (s->path != NULL)
        remove_socket(s);
    closep(&s->listen_fd);
    closep(&s->lock_fd);
    s->listen_fd = s->lock_fd = -1;
}

void rpc_server_disconnect(struct rpc_server *s)
{
    LIST_FOREACH (n, &s->conns) {
        struct rpc_conn *c = LIST_OF(n, struct rpc_conn, node);

        conn_flush(c);
        conn_kill(c);
    }
}

void rpc_server_free(struct rpc_server *s)
{
    if (s == NULL)
        return;
    rpc_server_close_socket(s);
    rpc_server_disconnect(s);
    stream_free_all(s);
    free(s);
}
