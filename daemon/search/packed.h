/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes inside a JSON document: {"bytes": n, "sha256": hex, "zlib": base64}. Tables of a recorded
 * space are kept so. Thread: any.
 */
#ifndef KS_SEARCH_PACKED_H
#define KS_SEARCH_PACKED_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum { PACKED_MAX = 512 << 20 /* bytes, unpacked */ };

/* Fresh; NULL when memory is out or there are more than PACKED_MAX bytes. */
json_t *packed_json(const void *data, size_t len);
/*
 * Appends the bytes to `out`, whose cap bounds them. ERR_CORRUPT names `what` when they are not
 * what was packed, ERR_LIMIT, ERR_NOMEM.
 */
int packed_read(const json_t *j, const char *what, struct buf *out, struct err *err);

#endif
