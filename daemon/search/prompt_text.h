/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the texts of prompts. What comes from models, compilers and candidates stays where it is
 * put: on one line, behind a margin, or within a fence that is longer than any run of its own. All
 * that is written is valid UTF-8. A sheet is a part of a buffer with an end that nothing crosses:
 * what does not fit whole is not written. Thread: any.
 */
#ifndef KS_SEARCH_PROMPT_TEXT_H
#define KS_SEARCH_PROMPT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum { TEXT_ROW_MAX = 64 << 10 /* bytes of one row */ };

struct sheet {
    struct buf *out; /* borrowed */
    size_t end;      /* out->len stays at or below this */
};

/* A sheet of `budget` bytes from the end of `out`. */
struct sheet sheet_of(struct buf *out, size_t budget);
/* A part of a sheet: the share (0..1) of what is left. */
struct sheet sheet_share(const struct sheet *s, double share);
size_t sheet_left(const struct sheet *s);
/* Writes a text whole, or nothing and false. */
bool sheet_add(struct sheet *s, const char *text);
bool sheet_addf(struct sheet *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Takes back what was written after `len`. */
void sheet_back(struct sheet *s, size_t len);

/* Appends at most `max` bytes of a text as one line: line ends become blanks, control characters
 * and what is no UTF-8 become \xNN. A cut is marked with "...". */
void text_line(struct buf *row, const char *s, size_t max);
/* The same text of lines, each behind `margin`. */
void text_block(struct buf *row, const char *s, const char *margin, size_t max);
/* "1.234x" of a micro-log or a log. */
void text_factor(char *out, size_t size, double log_value);

/*
 * A text in a fence, shortened to the sheet: whole lines of the beginning and, with `tail`, of the
 * end, with a line between them that says how many lines are left out and which. A text whose lines
 * all fit is unchanged but for control characters. False (nothing written) when less than
 * TEXT_FENCE_MIN bytes are left and the text is longer.
 */
enum { TEXT_FENCE_MIN = 300 };
bool sheet_fence(struct sheet *s, const char *language, const char *text, bool tail);

#endif
