/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pictures of this program share: text for XML, and labels. A picture is one SVG document
 * without scripts, references or fonts of its own; all text is escaped. Writers append to `out`,
 * whose cap bounds the picture: ERR_LIMIT when it is too small. Thread: main.
 */
#ifndef KS_CLI_SVG_H
#define KS_CLI_SVG_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Escaped; control characters that XML cannot hold become '?'. */
void svg_text(struct buf *out, const char *s, struct err *err);
/* The same, at most `max` characters (64 at most), cut between characters with "...". */
void svg_short(struct buf *out, const char *s, size_t max, struct err *err);
/* A text element at (x, y), anchored "start", "middle" or "end", of a class of the style sheet; at
 * most 60 characters. */
void svg_label(struct buf *out, double x, double y, const char *anchor, const char *class,
               const char *text, struct err *err);

#endif
