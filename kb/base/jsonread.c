/* SPDX-License-Identifier: Apache-2.0 */
/* Plain JSON by recursive descent; see jsonread.h. Every step gives NULL or false to give up. */
#include "base/jsonread.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { DEPTH_MAX = 64, NAME_MAX_BYTES = 127, NUMBER_MAX = 63, INT_DIGITS = 18 };

struct reader {
    const char *p, *end;
    int depth;
};

static json_t *read_value(struct reader *r);

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
}

/* Moves past the byte, and the blanks before it, when it is next. */
static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

/* A quoted text without escapes, from after its first quote; *ascii: whether it is nothing else. */
static bool read_quoted(struct reader *r, const char **out, size_t *len, bool *ascii)
{
    unsigned char all = 0;

    for (*out = r->p; r->p < r->end && *r->p != '"'; r->p++) {
        unsigned char c = (unsigned char)*r->p;

        if (c < 0x20 || c == '\\')
            return false;
        all |= c;
    }
    if (r->p == r->end)
        return false;
    *len = (size_t)(r->p++ - *out);
    *ascii = all < 0x80;
    return true;
}

static json_t *read_text(struct reader *r)
{
    const char *s;
    size_t len;
    bool ascii;

    r->p++;
    if (!read_quoted(r, &s, &len, &ascii))
        return NULL;
    return ascii ? json_stringn_nocheck(s, len) : json_stringn(s, len);
}

/* How many digits come; moves past them. */
static size_t digits(struct reader *r)
{
    const char *first = r->p;

    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return (size_t)(r->p - first);
}

static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* Whatever language the program speaks, a number has a point. */
static json_t *real_of(const char *s, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char text[NUMBER_MAX + 1];
    double v;

    pthread_once(&once, make_locale);
    if (len > NUMBER_MAX || c_locale == (locale_t)0)
        return NULL;
    memcpy(text, s, len);
    text[len] = '\0';
    v = strtod_l(text, NULL, c_locale);
    return isfinite(v) ? json_real(v) : NULL;
}

static json_t *integer_of(const char *s, const char *end)
{
    bool negative = *s == '-';
    int64_t v = 0;

    if (end - s > INT_DIGITS)
        return NULL;
    for (s += negative; s < end; s++)
        v = v * 10 + (*s - '0');
    return json_integer(negative ? -v : v);
}

static json_t *read_number(struct reader *r)
{
    const char *first = r->p;
    bool real = false;
    size_t n;

    r->p += *r->p == '-';
    n = digits(r);
    if (n == 0 || (n > 1 && r->p[-(ptrdiff_t)n] == '0'))
        return NULL;
    if (r->p < r->end && *r->p == '.') {
        real = true;
        r->p++;
        if (digits(r) == 0)
            return NULL;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        real = true;
        r->p++;
        r->p += r->p < r->end && (*r->p == '+' || *r->p == '-');
        if (digits(r) == 0)
            return NULL;
    }
    return real ? real_of(first, (size_t)(r->p - first)) : integer_of(first, r->p);
}

static json_t *read_word(struct reader *r)
{
    static const char *const words[] = { "true", "false", "null" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);

        if ((size_t)(r->end - r->p) < n || memcmp(r->p, words[i], n) != 0)
            continue;
        r->p += n;
        return i == 2 ? json_null() : json_boolean(i == 0);
    }
    return NULL;
}

static bool read_items(struct reader *r, json_t *list)
{
    if (take(r, ']'))
        return true;
    do
        if (json_array_append_new(list, read_value(r)) != 0)
            return false;
    while (take(r, ','));
    return take(r, ']');
}

static bool read_member(struct reader *r, json_t *object)
{
    char name[NAME_MAX_BYTES + 1];
    size_t len, before = json_object_size(object);
    const char *s;
    bool ascii;

    if (!take(r, '"') || !read_quoted(r, &s, &len, &ascii) || !ascii || len > NAME_MAX_BYTES ||
        !take(r, ':'))
        return false;
    memcpy(name, s, len);
    name[len] = '\0';
    /* A name that was there already adds nothing. */
    return json_object_set_new_nocheck(object, name, read_value(r)) == 0 &&
           json_object_size(object) == before + 1;
}

static bool read_members(struct reader *r, json_t *object)
{
    if (take(r, '}'))
        return true;
    do
        if (!read_member(r, object))
            return false;
    while (take(r, ','));
    return take(r, '}');
}

static json_t *read_nested(struct reader *r, char open)
{
    json_t *v = open == '{' ? json_object() : json_array();
    bool ok;

    r->p++;
    if (v == NULL || ++r->depth > DEPTH_MAX) {
        json_decref(v);
        return NULL;
    }
    ok = open == '{' ? read_members(r, v) : read_items(r, v);
    r->depth--;
    if (ok)
        return v;
    json_decref(v);
    return NULL;
}

static json_t *read_value(struct reader *r)
{
    skip_space(r);
    if (r->p == r->end)
        return NULL;
    switch (*r->p) {
    case '{':
    case '[':
        return read_nested(r, *r->p);
    case '"':
        return read_text(r);
    case 't':
    case 'f':
    case 'n':
        return read_word(r);
    default:
        return *r->p == '-' || (*r->p >= '0' && *r->p <= '9') ? read_number(r) : NULL;
    }
}

json_t *jsonread_plain(const char *text, size_t len)
{
    struct reader r = { .p = text, .end = text + len };
    json_t *v = read_value(&r);

    skip_space(&r);
    if (v != NULL && r.p == r.end)
        return v;
    json_decref(v);
    return NULL;
}
