/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results for people: values, tables, and the pictures of a search (bar, curve). All text from the
 * daemon is escaped before it reaches a terminal, and no picture uses a character that the locale
 * lacks. Writers print to stdout. Thread: main only.
 */
#ifndef KS_CLI_SHOW_H
#define KS_CLI_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Longest text that one value becomes; longer values are cut with "...". */
enum { SHOW_TEXT_MAX = 64 << 10 };

/* ---- JSON ---- */

/* One document and a newline: indented, or on one line. */
void show_json(const json_t *v, bool indented);

/* ---- Text ---- */

enum show_kind {
    SHOW_TEXT,    /* whatever it is */
    SHOW_SHORT,   /* a content address: its first 12 digits */
    SHOW_FACTOR,  /* 3.41x */
    SHOW_LOG,     /* a natural logarithm of a factor, shown as that factor */
    SHOW_SECONDS, /* 1:02:03 */
    SHOW_TIME,    /* seconds since 1970 as 2026-11-22T16:05:09Z */
    SHOW_SHARE,   /* 0.42 as 42 % */
    SHOW_KIND_COUNT
};

/* The text of a value, on one line, escaped; "-" for NULL and null. Owned by the caller. */
char *show_text(const json_t *v, enum show_kind kind);
/* The member at a dotted path, "best.objective"; NULL when there is none. Borrowed. */
const json_t *show_at(const json_t *obj, const char *path);
/* show_text of show_at. */
char *show_text_at(const json_t *obj, const char *path, enum show_kind kind);

/* Columns that UTF-8 text takes on the terminal. */
size_t text_cols(const char *s);
/*
 * Copies at most `cols` columns of `s`, cut with "..." where there is more; characters that the
 * locale cannot show become '?'. Returns `out`.
 */
char *text_fit(const char *s, size_t cols, char *out, size_t size);
/* Prints text of several lines: control characters other than newline and tab are escaped. */
void show_block(const char *s);
/* Prints words wrapped at the terminal's width, each line after `indent` blanks. */
void show_wrapped(const char *s, size_t indent);

/* ---- Tables and records ---- */

struct column {
    const char *title; /* NULL ends the row of columns */
    const char *path;  /* dotted; "" for the item itself */
    enum show_kind kind;
};

/*
 * A table of the items of `list`: an array of objects, or an object with such an array in its
 * member `member` (the daemon's lists come as either). Numbers are aligned right. Columns that no
 * item has are left out. `none` is printed on stderr for an empty list.
 */
void show_table(const json_t *list, const char *member, const struct column *columns,
                const char *none);
/* Any value: members one per line, objects indented, arrays of objects as tables. */
void show_value(const json_t *v);

/* ---- The terminal ---- */

/* Is stdout a terminal that can move its cursor? */
bool term_is_live(void);
bool term_is_utf8(void);
/* Of stdout; 100 columns and 40 lines when it is none. */
size_t term_cols(void);
size_t term_rows(void);

/* "[######......]" of `cols` columns for a share of 0 to 1. */
void draw_bar(double share, size_t cols, struct buf *out);
/* One line of blocks for `n` values, at most `cols` of them (each column the last value of its
 * part). */
void draw_spark(const double *values, size_t n, size_t cols, struct buf *out);
/*
 * A plot of `rows` lines, each ending in a newline: the scale on the left, then the curve. NaN
 * draws nothing. n >= 1.
 */
void draw_plot(const double *values, size_t n, size_t cols, size_t rows, struct buf *out);

/* ---- Searches ---- */

/*
 * Best-so-far curve of a search.show result: owned array of *n values, one per evaluation; NaN
 * before the first success. What the daemon calls best counts (a challenger has to be better beyond
 * noise); where it says none, the largest objective so far.
 */
double *curve_best(const json_t *search, size_t *n);

#endif
