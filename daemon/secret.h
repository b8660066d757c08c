/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of services: read from a file or the environment, and taken out of what services say, for
 * some repeat the key that they refuse. A key is sent to its service and appears nowhere else.
 * Thread: any.
 */
#ifndef KS_DAEMON_SECRET_H
#define KS_DAEMON_SECRET_H

#include <stddef.h>

#include "base/err.h"

/*
 * The key in the file at `path`, or of KSEARCH_API_KEY in the environment when `path` is "": up to
 * the first blank; "" when there is none. `option` names the path's option in errors. *out is the
 * caller's. ERR_NOT_FOUND, ERR_IO, ERR_LIMIT, ERR_INVALID. Blocks for a small file.
 */
int secret_load(const char *option, const char *path, char **out, struct err *err);

/*
 * Overwrites with '*' the places of `text` (len bytes, changed in place) that hold the key, in
 * whatever case, or 8 bytes in a row of it; an empty key changes nothing. Takes len * key bytes
 * steps: for a service's error, not for its answers.
 */
void secret_redact(const char *key, char *text, size_t len);
/* The same for the whole key alone, in len steps. */
void secret_redact_whole(const char *key, char *text, size_t len);

#endif
