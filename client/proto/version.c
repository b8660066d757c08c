/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon's socket is by default; see version.h. */
#include "proto/version.h"

#include <stdio.h>
#include <sys/un.h>

#include "base/mem.h"

static const char *env_or_null(const char *name)
{
    const char *v = getenv(name);

    return v && *v ? v : NULL;
}

int proto_socket_path(char *out, size_t size, struct err *err)
{
    const char *given = env_or_null(PROTO_SOCKET_ENV);
    const char *runtime = env_or_null("XDG_RUNTIME_DIR");
    char path[4096];
    int n;

    if (given)
        n = snprintf(path, sizeof(path), "%s", given);
    else if (runtime)
        n = snprintf(path, sizeof(path), "%s/ksearch/ksearchd.sock", runtime);
    else
        n = snprintf(path, sizeof(path), "/run/ksearch/ksearchd.sock");
    if (n < 0 || (size_t)n >= size || (size_t)n >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return err_set(err, ERR_INVALID,
                       "the socket path '%.80s%s' has %d bytes; a Unix socket's path may have %zu",
                       path, n > 80 ? "..." : "", n,
                       sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    memcpy(out, path, (size_t)n + 1);
    return 0;
}
