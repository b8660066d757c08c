/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text without a tree; see jsonw.h. */
#include "base/jsonw.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { NUMBER_MAX = 40 };

/* Room for n bytes more; NULL after a failure. */
static char *room(struct jsonw *w, size_t n)
{
    if (w->failed)
        return NULL;
    if (w->out->cap - w->out->len > n && w->out->data != NULL && n <= w->out->max - w->out->len)
        return w->out->data + w->out->len;
    if (buf_reserve(w->out, n, w->err) == 0)
        return w->out->data + w->out->len;
    w->failed = true;
    return NULL;
}

static void ended(struct jsonw *w, char *end)
{
    *end = '\0';
    w->out->len = (size_t)(end - w->out->data);
}

/* Room for a value of at most n bytes, after the comma where one is due. */
static char *value(struct jsonw *w, size_t n)
{
    char *p = room(w, n + 1);

    if (p != NULL && w->comma)
        *p++ = ',';
    w->comma = true;
    return p;
}

void jsonw_open(struct jsonw *w, char open)
{
    char *p = value(w, 1);

    if (p == NULL)
        return;
    *p++ = open;
    ended(w, p);
    w->comma = false;
}

void jsonw_close(struct jsonw *w, char close)
{
    char *p = room(w, 1);

    if (p == NULL)
        return;
    *p++ = close;
    ended(w, p);
    w->comma = true;
}

void jsonw_key(struct jsonw *w, const char *name)
{
    size_t n = strlen(name);
    char *p = value(w, n + 3);

    if (p == NULL)
        return;
    *p++ = '"';
    p = mempcpy(p, name, n);
    *p++ = '"';
    *p++ = ':';
    ended(w, p);
    w->comma = false;
}

/* What stands for a byte that a JSON text cannot hold as it is; at most 6 bytes. */
static char *escape(char *p, unsigned char c)
{
    static const char letters[] = "btn\0fr", digits[] = "0123456789ABCDEF";

    *p++ = '\\';
    if (c == '"' || c == '\\') {
        *p++ = (char)c;
    } else if (c >= '\b' && c <= '\r' && c != '\v') {
        *p++ = letters[c - '\b'];
    } else {
        p = mempcpy(p, "u00", 3);
        *p++ = digits[c >> 4];
        *p++ = digits[c & 15];
    }
    return p;
}

void jsonw_text(struct jsonw *w, const char *s)
{
    size_t n = strlen(s);
    char *p = value(w, n * 6 + 2);

    if (p == NULL)
        return;
    *p++ = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c < 0x20 || c == '"' || c == '\\')
            p = escape(p, c);
        else
            *p++ = (char)c;
    }
    *p++ = '"';
    ended(w, p);
}

/* The digits of v; returns where they end. */
static char *put_digits(char *p, uint64_t v, int least)
{
    char digits[20];
    int n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    while (n < least)
        digits[n++] = '0';
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

static char *put_sign(char *p, int64_t v, uint64_t *size)
{
    *size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    if (v < 0)
        *p++ = '-';
    return p;
}

void jsonw_int(struct jsonw *w, int64_t v)
{
    char *p = value(w, NUMBER_MAX);
    uint64_t size;

    if (p == NULL)
        return;
    p = put_sign(p, v, &size);
    ended(w, put_digits(p, size, 1));
}

void jsonw_micro(struct jsonw *w, int64_t v)
{
    char *p = value(w, NUMBER_MAX);
    uint64_t size;

    if (p == NULL)
        return;
    p = put_sign(p, v, &size);
    p = put_digits(p, size / 1000000, 1);
    *p++ = '.';
    p = put_digits(p, size % 1000000, 6);
    while (p[-1] == '0' && p[-2] != '.')
        p--;
    ended(w, p);
}

void jsonw_real(struct jsonw *w, double v)
{
    char *p, *first;

    if (!isfinite(v) && !w->failed) {
        err_set(w->err, ERR_INTERNAL, "a number of the answer is not finite");
        w->failed = true;
    }
    p = value(w, NUMBER_MAX);
    if (p == NULL)
        return;
    first = p;
    p += snprintf(p, NUMBER_MAX, "%.17g", v);
    /* So that it is read back as a real. */
    if (strcspn(first, ".e") == (size_t)(p - first))
        p = mempcpy(p, ".0", 2);
    ended(w, p);
}

static void put_word(struct jsonw *w, const char *word)
{
    size_t n = strlen(word);
    char *p = value(w, n);

    if (p != NULL)
        ended(w, mempcpy(p, word, n));
}

void jsonw_bool(struct jsonw *w, bool v)
{
    put_word(w, v ? "true" : "false");
}

void jsonw_null(struct jsonw *w)
{
    put_word(w, "null");
}

void jsonw_hex(struct jsonw *w, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *p = value(w, 2 * n + 2);

    if (p == NULL)
        return;
    *p++ = '"';
    for (size_t i = 0; i < n; i++) {
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    *p++ = '"';
    ended(w, p);
}

int jsonw_end(const struct jsonw *w)
{
    return w->failed ? -1 : 0;
}
