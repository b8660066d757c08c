/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the RPC server: what rpc.c (calls), conn.c (bytes), stream.c (subscriptions) and server.c
 * (listening) share. Thread: loop.
 *
 * Invariants: 1. a call is in its connection's list until answered; a dying connection sets
 * call->conn to NULL. 2. A dead connection has no descriptor, no events pending, no calls, no
 * subscriptions, and is freed at the end of the turn. 3. server->out_bytes is the sum of all output
 * buffers, in_bytes of all input.
 */
#ifndef KS_DAEMON_RPC_CONN_H
#define KS_DAEMON_RPC_CONN_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "proto/frame.h"
#include "rpc/rpc.h"
#include "rpc/server.h"

enum {
    CONN_CALLS_MAX = 64,      /* in flight; more lines wait unread */
    CONN_LINES_PER_TURN = 64, /* then others get their turn */
    CONN_SUBS_MAX = 64,
    CONN_FILES_MAX = 4,         /* descriptors whose request is not complete yet */
    CONN_OUT_PAUSE = 1 << 20,   /* bytes waiting over which no more is read */
    CONN_OUT_STREAM = 1 << 20,  /* bytes waiting over which streams are dropped */
    CONN_OUT_MAX = 128 << 20,   /* bytes waiting over which the connection is closed */
    SERVER_OUT_MAX = 512 << 20, /* the same, all connections together */
    SERVER_IN_MAX = 256 << 20,  /* unfinished lines, all connections together */
    STREAM_BUCKETS = 256
};

struct rpc_server {
    struct rpc_server_options o;
    struct rpc_server_stats stats;
    struct list conns;
    size_t in_bytes, out_bytes;
    bool answered; /* a call was answered on the loop itself in this turn */
    struct list streams[STREAM_BUCKETS];
    /* Listening */
    int listen_fd, lock_fd; /* -1: none */
    struct event *accept, *retry;
    char *path;
    uint64_t socket_dev, socket_ino; /* of our socket file: never remove another's */
};

/*
 * A descriptor that came with the byte before position `end` of the stream: it belongs to the
 * request whose line holds that byte.
 */
struct conn_file {
    int fd;
    uint64_t end;
};

struct rpc_conn {
    struct list node; /* in server->conns */
    struct rpc_server *server;
    int fd;
    struct event *read, *write, *pump;
    struct frame in;
    uint64_t fed; /* bytes given to `in` since the beginning */
    struct conn_file files[CONN_FILES_MAX];
    unsigned n_files;
    struct evbuffer *out;
    size_t in_counted; /* our share of server->in_bytes */
    struct list calls; /* struct rpc_call */
    struct list subs;  /* struct rpc_sub */
    unsigned n_calls, n_subs;
    bool greeted;       /* said hello */
    bool eof;           /* the peer sends no more */
    bool closing;       /* no more lines: close when the output is sent */
    bool flush_pending; /* deferred to the end of the turn */
    bool dead;
};

struct rpc_call {
    struct list node;      /* in conn->calls */
    struct rpc_conn *conn; /* NULL when it is gone */
    struct rpc_server *server;
    const struct rpc_method *method;
    json_t *id; /* NULL for a notification: nothing is answered */
    void *params;
    int file; /* with RPC_FILE; -1: none */
    uint64_t start_ns;
};

/* conn.c */
struct rpc_conn *conn_new(struct rpc_server *s, int fd);
/* Queues bytes; closes the connection when it is over its cap. */
void conn_send(struct rpc_conn *c, const char *bytes, size_t len);
/* Sends nothing more than what is queued, then closes. */
void conn_close_after_output(struct rpc_conn *c);
void conn_kill(struct rpc_conn *c);
/* A call ended: waiting lines may go on. */
void conn_call_ended(struct rpc_conn *c);
/* One non-blocking attempt to send what is queued. */
void conn_flush(struct rpc_conn *c);

/* rpc.c */
/* One line from the client; `*file` is a descriptor that came with it (-1: none) and -1 afterwards
 * when it was taken. */
void rpc_dispatch(struct rpc_conn *c, const char *line, size_t len, int *file);
/* An error that belongs to no call; `id` borrowed, NULL sends null. */
void rpc_send_error(struct rpc_conn *c, const json_t *id, int number, const struct err *err);
/* Marks the caller's connection as greeted. */
void rpc_call_greet(struct rpc_call *call);

/* stream.c */
void stream_drop_conn(struct rpc_conn *c);
void stream_free_all(struct rpc_server *s);

#endif
