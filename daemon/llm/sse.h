/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events (WHATWG HTML, section 9.2.6), fed in pieces of any size: each event goes to a
 * function once its blank line is there. `id` and `retry` mean nothing here; bytes are passed on as
 * they came, UTF-8 or not. Thread: any; a parser belongs to its caller.
 */
#ifndef KS_LLM_SSE_H
#define KS_LLM_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum { SSE_EVENT_MAX = 2 << 20, SSE_NAME_MAX = 64 };

/* `data` has `len` bytes and a NUL after them; both are borrowed for the call. A value other than 0
 * stops the parser. */
typedef int sse_fn(void *ctx, const char *name, const char *data, size_t len, struct err *err);

struct sse {
    sse_fn *fn;
    void *ctx;
    /* The rest is the parser's own: zero at the start, released by sse_release. */
    struct buf line, data;
    char name[SSE_NAME_MAX];
    bool after_cr, not_first, has_data;
};

/* struct sse s = { .fn = fn, .ctx = ctx }; */

/* ERR_LIMIT: an event or a line over SSE_EVENT_MAX bytes; ERR_NOMEM; or what fn said. The parser
 * can only be released then. */
int sse_feed(struct sse *s, const char *bytes, size_t len, struct err *err);
/* The stream is over: passes on an event whose blank line is missing. As above. */
int sse_end(struct sse *s, struct err *err);
void sse_release(struct sse *s);

#endif
