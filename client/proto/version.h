/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol's version and where its socket is by default. A client's first request is `hello`
 * with the version it speaks; the daemon answers with its own or refuses with CONFLICT. Thread:
 * any.
 */
#ifndef KS_PROTO_VERSION_H
#define KS_PROTO_VERSION_H

#include <stddef.h>

#include "base/err.h"

#define PROTO_VERSION 1

/* Environment variable that names the socket in place of the default. */
#define PROTO_SOCKET_ENV "KSEARCH_SOCKET"

/*
 * Writes the socket's path to `out`: $KSEARCH_SOCKET, else $XDG_RUNTIME_DIR/ksearch/ksearchd.sock,
 * else /run/ksearch/ksearchd.sock. Unset and empty variables count alike. Nothing is created or
 * checked to exist. ERR_INVALID when the path does not fit into `size` or into a Unix socket
 * address.
 */
int proto_socket_path(char *out, size_t size, struct err *err);

#endif
