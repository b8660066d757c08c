/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte buffer that is born with its cap: appending past `max` is ERR_LIMIT, never a truncation.
 * The bytes are always followed by a NUL that `len` does not count, so text can be read as a
 * string. Thread: any; a buffer belongs to its caller.
 */
#ifndef KS_BASE_BUF_H
#define KS_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
    char *data; /* NULL while empty */
    size_t len, cap, max;
};

/* struct buf b = { .max = KERNEL_SRC_MAX }; */

int buf_reserve(struct buf *b, size_t extra, struct err *err);
int buf_add(struct buf *b, const void *data, size_t len, struct err *err);
int buf_adds(struct buf *b, const char *s, struct err *err);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first `n` bytes. */
void buf_consume(struct buf *b, size_t n);
/* Empties the buffer and keeps its memory. */
void buf_clear(struct buf *b);
/* Frees the memory; the buffer is then empty and reusable. */
void buf_release(struct buf *b);
/* Gives the NUL-terminated bytes away (an empty string when there are none; NULL when memory is
 * out). */
char *buf_take(struct buf *b);
/* The text, "" when empty; borrowed until the next change. */
const char *buf_str(const struct buf *b);

#endif
