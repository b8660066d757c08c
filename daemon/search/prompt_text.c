/* SPDX-License-Identifier: Apache-2.0 */
/* See prompt_text.h. Buffers here are large enough by construction; a failure to grow aborts. */
#include "search/prompt_text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- Sheets ---- */

struct sheet sheet_of(struct buf *out, size_t budget)
{
    return (struct sheet){ .out = out, .end = MIN(out->len + budget, out->max) };
}

size_t sheet_left(const struct sheet *s)
{
    return s->end > s->out->len ? s->end - s->out->len : 0;
}

struct sheet sheet_share(const struct sheet *s, double share)
{
    return (struct sheet){ .out = s->out,
                           .end = s->out->len + (size_t)(share * (double)sheet_left(s)) };
}

static void must_add(struct buf *b, const char *text, size_t len)
{
    struct err err;

    if (buf_add(b, text, len, &err) != 0)
        abort();
}

bool sheet_add(struct sheet *s, const char *text)
{
    size_t len = strlen(text);

    if (len > sheet_left(s))
        return false;
    must_add(s->out, text, len);
    return true;
}

bool sheet_addf(struct sheet *s, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    bool fits;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    fits = sheet_add(s, text);
    free(text);
    return fits;
}

void sheet_back(struct sheet *s, size_t len)
{
    s->out->len = len;
    if (s->out->data != NULL)
        s->out->data[len] = '\0';
}

/* ---- Texts of others ---- */

/* Bytes of the UTF-8 character at s[0..len), 0 when it is none. */
static size_t utf8_at(const unsigned char *s, size_t len)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (n == 0 || s[0] > 0xf4 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

/* The next piece of a text as it is shown; moves *i behind it. `keep`: control characters that stay
 * as they are. Returns the bytes of the piece. */
static size_t piece_at(const char *s, size_t len, size_t *i, const char *keep, char piece[8])
{
    const unsigned char c = (unsigned char)s[*i];
    size_t n = utf8_at((const unsigned char *)s + *i, len - *i);

    /* C1 controls too: C2 80 to C2 9F */
    if (n == 0 || (c < 0x20 && strchr(keep, c) == NULL) || c == 0x7f ||
        (c == 0xc2 && (unsigned char)s[*i + 1] < 0xa0)) {
        (*i)++;
        return (size_t)snprintf(piece, 8, "\\x%02x", c);
    }
    memcpy(piece, s + *i, n);
    *i += n;
    return n;
}

void text_line(struct buf *row, const char *s, size_t max)
{
    size_t len = strlen(s), start = row->len, safe = row->len;

    for (size_t i = 0; i < len;) {
        char piece[8];
        size_t n;

        if (s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
            piece[0] = ' ';
            n = 1;
            i++;
        } else {
            n = piece_at(s, len, &i, "", piece);
        }
        if (row->len - start + n > max) {
            row->len = MIN(safe, row->len);
            must_add(row, "...", 3);
            return;
        }
        must_add(row, piece, n);
        if (row->len - start + 3 <= max)
            safe = row->len;
    }
}

void text_block(struct buf *row, const char *s, const char *margin, size_t max)
{
    size_t start = row->len;

    while (*s) {
        size_t n = strcspn(s, "\n");
        size_t left = row->len - start + strlen(margin) + 8 < max
                          ? max - (row->len - start) - strlen(margin)
                          : 0;
        char *line;

        if (left == 0) {
            must_add(row, margin, strlen(margin));
            must_add(row, "...\n", 4);
            return;
        }
        line = strndup(s, n);
        if (line == NULL)
            abort();
        must_add(row, margin, strlen(margin));
        text_line(row, line, left);
        must_add(row, "\n", 1);
        free(line);
        s += n + (s[n] == '\n');
    }
}

void text_factor(char *out, size_t size, double log_value)
{
    double f = exp(log_value);

    snprintf(out, size, f < 10 ? "%.3fx" : f < 100 ? "%.2fx" : "%.4gx", f);
}

/* ---- Fences ---- */

/* The longest run of backticks. */
static size_t longest_run(const char *s)
{
    size_t longest = 0, run = 0;

    for (; *s; s++) {
        run = *s == '`' ? run + 1 : 0;
        longest = MAX(longest, run);
    }
    return longest;
}

/* The text as it is shown, ending with a line end. Owned. */
static char *shown(const char *text, size_t *len_out)
{
    size_t len = strlen(text), n = 0;
    char *out = xmalloc(4 * len + 2);

    for (size_t i = 0; i < len;)
        n += piece_at(text, len, &i, "\n\t\r\f", out + n);
    if (n == 0 || out[n - 1] != '\n')
        out[n++] = '\n';
    out[n] = '\0';
    *len_out = n;
    return out;
}

static size_t lines_in(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += s[i] == '\n';
    return n;
}

/* Ends of what is kept of a text of whole lines: [0, *head) and [*tail, len). */
static void keep_ends(const char *text, size_t len, size_t room, bool tail, size_t *head_end,
                      size_t *tail_from)
{
    size_t head_room = tail ? room * 2 / 3 : room, at = 0;

    for (;;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t next = end ? (size_t)(end - text) + 1 : len;

        if (next > head_room || next == at)
            break;
        at = next;
    }
    *head_end = at;
    *tail_from = len;
    if (!tail)
        return;
    for (at = len; at > *head_end;) {
        const char *before = memrchr(text, '\n', at - 1);
        size_t from = before ? (size_t)(before - text) + 1 : 0;

        if (len - from > room - *head_end || from < *head_end)
            break;
        at = from;
    }
    *tail_from = at;
}

bool sheet_fence(struct sheet *s, const char *language, const char *text, bool tail)
{
    size_t ticks = MAX(longest_run(text) + 1, 3), len, head, rest;
    char *clean;
    char mark[160] = "";

    /* A text made of backticks must not make fences that cost more than it. */
    if (sheet_left(s) < 2 * ticks + 64)
        return false;
    clean = shown(text, &len);
    head = rest = len;
    if (len + 2 * ticks + strlen(language) + 2 > sheet_left(s)) {
        size_t room = sheet_left(s) - (2 * ticks + strlen(language) + 2);

        if (sheet_left(s) < TEXT_FENCE_MIN || room < sizeof(mark)) {
            free(clean);
            return false;
        }
        keep_ends(clean, len, room - sizeof(mark), tail, &head, &rest);
        snprintf(mark, sizeof(mark), "[%zu lines left out here: %zu to %zu of %zu]\n",
                 lines_in(clean + head, rest - head), lines_in(clean, head) + 1,
                 lines_in(clean, rest), lines_in(clean, len));
    }
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < ticks; i++)
            must_add(s->out, "`", 1);
        if (side == 0) {
            must_add(s->out, language, strlen(language));
            must_add(s->out, "\n", 1);
            must_add(s->out, clean, head);
            must_add(s->out, mark, strlen(mark));
            must_add(s->out, clean + rest, len - rest);
        }
    }
    must_add(s->out, "\n", 1);
    free(clean);
    return true;
}
