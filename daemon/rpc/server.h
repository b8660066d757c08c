/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RPC server: the Unix socket, the connections and the streams. Only our own user and root may
 * speak; a dead daemon's socket is replaced, a live one's refused. Thread: loop, all of it.
 */
#ifndef KS_DAEMON_RPC_SERVER_H
#define KS_DAEMON_RPC_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "rpc/rpc.h"

struct loop;
struct rpc_conn;

struct rpc_server_options {
    struct loop *loop;
    struct daemon *daemon;                  /* what rpc_daemon gives; its `work` runs rpc_run */
    const struct rpc_method *const *groups; /* NULL last */
    size_t max_connections;
};

struct rpc_server_stats {
    uint64_t connections, accepted, refused, calls, errors, in_flight, streams, dropped_streams;
};

/* A server that listens nowhere yet. Never fails. */
struct rpc_server *rpc_server_new(const struct rpc_server_options *o);
/*
 * Listens on a Unix socket of mode 0600, in a folder that is made (0700) when missing. ERR_CONFLICT
 * when a live daemon or something that is no socket is there, ERR_INVALID for a path too long,
 * ERR_IO.
 */
int rpc_server_listen(struct rpc_server *s, const char *path, struct err *err);
/* Serves a connected stream socket; takes `fd`. -1 with ERR_LIMIT over max_connections. */
int rpc_server_adopt(struct rpc_server *s, int fd, struct err *err);
/* Stops accepting and removes the socket; connections live on. */
void rpc_server_close_socket(struct rpc_server *s);
/* Closes all connections, after one attempt to send what they still have to get. Calls that are not
 * answered stay valid and may only be answered before rpc_server_free. */
void rpc_server_disconnect(struct rpc_server *s);
/* All calls must be answered. NULL is fine. */
void rpc_server_free(struct rpc_server *s);
struct rpc_server_stats rpc_server_stats(const struct rpc_server *s);

#endif
