/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes JSON text straight into a buffer, for answers that are made often: no tree in between.
 * The caller keeps the nesting right; commas are put where they belong. The first failure stays and
 * makes all that follows do nothing: it is asked for once, at the end. Texts must be UTF-8. Thread:
 * any; a writer belongs to its caller.
 */
#ifndef KS_BASE_JSONW_H
#define KS_BASE_JSONW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct jsonw {
    struct buf *out; /* borrowed */
    struct err *err; /* borrowed; set by the first failure */
    bool comma;      /* a value precedes at this level */
    bool failed;
};

/* struct jsonw w = { .out = &buf, .err = err }; */

/* `open` is '{' or '[', `close` is '}' or ']'. */
void jsonw_open(struct jsonw *w, char open);
void jsonw_close(struct jsonw *w, char close);
/* A member's name, which needs no escapes; its value is what is written next. */
void jsonw_key(struct jsonw *w, const char *name);
void jsonw_text(struct jsonw *w, const char *s);
void jsonw_int(struct jsonw *w, int64_t v);
/* 17 significant digits, so that the same double is read back; ERR_INTERNAL when not finite. */
void jsonw_real(struct jsonw *w, double v);
/* v / 10^6 as a decimal number: it reads back as the double (double)v / 1e6. */
void jsonw_micro(struct jsonw *w, int64_t v);
void jsonw_bool(struct jsonw *w, bool v);
void jsonw_null(struct jsonw *w);
/* n bytes as a text of 2n digits. */
void jsonw_hex(struct jsonw *w, const uint8_t *bytes, size_t n);
/* 0, or -1 when something failed. */
int jsonw_end(const struct jsonw *w);

#endif
