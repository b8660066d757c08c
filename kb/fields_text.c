/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables: JSON, canonical text, and the one-pass reader of that text; see fields.h. */
#include "fields.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "schema.h"

static const void *at(const struct field *row, const void *record)
{
    return (const char *)record + row->offset;
}

static void *at_mutable(const struct field *row, void *record)
{
    return (char *)record + row->offset;
}

static const char *text_at(const struct field *row, const void *record)
{
    const char *s = *(char *const *)at(row, record);

    return s ? s : "";
}

/* ---- Writing ---- */

static json_t *json_of(const struct field *row, const void *record)
{
    const void *v = at(row, record);

    switch (row->type) {
    case FIELD_TEXT:
        return json_string(text_at(row, record));
    case FIELD_ID:
        return json_string(((const struct id *)v)->hex);
    case FIELD_INT:
        return json_integer(*(const int64_t *)v);
    case FIELD_COUNT:
        return json_integer((json_int_t) * (const uint64_t *)v);
    case FIELD_BOOL:
        return json_boolean(*(const bool *)v);
    case FIELD_OBJECT:
        return *(json_t *const *)v ? json_incref(*(json_t *const *)v) : json_object();
    case FIELD_ARRAY:
        return *(json_t *const *)v ? json_incref(*(json_t *const *)v) : json_array();
    case FIELD_FACT:
        return json_string(fact_kind_name(*(const enum fact_kind *)v));
    }
    return NULL;
}

json_t *fields_json(const struct field *rows, const void *record)
{
    json_auto_t *j = json_object();

    for (const struct field *row = rows; j && row->name; row++)
        if (json_object_set_new(j, row->name, json_of(row, record)) != 0)
            return NULL;
    return TAKE(j);
}

/* Whether JSON shows the text as it is. */
static bool is_plain(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x80 || *s == '"' || *s == '\\')
            return false;
    return true;
}

/* By the JSON library, which knows the escapes. */
static int write_json(const struct field *row, const char *what, const void *record,
                      struct buf *out, struct err *err)
{
    json_auto_t *v = json_of(row, record);

    if (v == NULL)
        return err_set(err, ERR_INVALID, "%s: '%s' is not UTF-8 text", what, row->name);
    return json_to_value(v, out, err);
}

static int write_number(struct buf *out, int64_t n, struct err *err)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%" PRId64, n);

    return buf_add(out, text, (size_t)len, err);
}

static int write_quoted(struct buf *out, const char *s, struct err *err)
{
    if (buf_add(out, "\"", 1, err) != 0 || buf_adds(out, s, err) != 0)
        return -1;
    return buf_add(out, "\"", 1, err);
}

static int write_value(const struct field *row, const char *what, const void *record,
                       struct buf *out, struct err *err)
{
    const void *v = at(row, record);

    switch (row->type) {
    case FIELD_TEXT:
        if (is_plain(text_at(row, record)))
            return write_quoted(out, text_at(row, record), err);
        return write_json(row, what, record, out, err);
    case FIELD_ID:
        return write_quoted(out, ((const struct id *)v)->hex, err);
    case FIELD_INT:
        return write_number(out, *(const int64_t *)v, err);
    case FIELD_COUNT:
        return write_number(out, (int64_t) * (const uint64_t *)v, err);
    case FIELD_BOOL:
        return buf_adds(out, *(const bool *)v ? "true" : "false", err);
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        return write_json(row, what, record, out, err);
    case FIELD_FACT:
        return write_quoted(out, fact_kind_name(*(const enum fact_kind *)v), err);
    }
    return err_set(err, ERR_INTERNAL, "%s: the table row of '%s' is wrong", what, row->name);
}

int fields_write(const struct field *rows, const char *what, const void *record, struct buf *out,
                 struct err *err)
{
    for (const struct field *row = rows; row->name; row++) {
        if (buf_add(out, row == rows ? "{" : ",", 1, err) != 0 ||
            write_quoted(out, row->name, err) != 0 || buf_add(out, ":", 1, err) != 0 ||
            write_value(row, what, record, out, err) != 0)
            return -1;
    }
    return buf_add(out, "}", 1, err);
}

/* ---- Reading what fields_write made, in place ---- */

struct scan {
    char *p, *end;
    bool no_memory; /* why it stopped */
};

static bool scan_literal(struct scan *s, const char *text, size_t len)
{
    if ((size_t)(s->end - s->p) < len || memcmp(s->p, text, len) != 0)
        return false;
    s->p += len;
    return true;
}

/* The character that stands for an escape of jsonx_canonical; -1 for none. Moves past it. */
static int scan_escape(struct scan *s)
{
    static const char letters[] = "\"\\bfnrt", meant[] = "\"\\\b\f\n\r\t";
    const char *letter;
    uint8_t byte;

    if (s->end - s->p < 2)
        return -1;
    letter = strchr(letters, s->p[1]);
    if (letter && *letter) {
        s->p += 2;
        return meant[letter - letters];
    }
    /* Other control characters: \u00XX, upper-case digits. */
    if (s->end - s->p < 6 || memcmp(s->p, "\\u00", 4) != 0)
        return -1;
    s->p[4] = (char)tolower((unsigned char)s->p[4]);
    s->p[5] = (char)tolower((unsigned char)s->p[5]);
    byte = 0;
    for (int i = 4; i < 6; i++) {
        const char *digits = "0123456789abcdef", *at_digit = strchr(digits, s->p[i]);

        if (at_digit == NULL || *at_digit == '\0')
            return -1;
        byte = (uint8_t)(byte << 4 | (at_digit - digits));
    }
    s->p += 6;
    return byte >= 0x20 || byte == 0 ? -1 : byte;
}

/* The rest of a text that has escapes from `to` on: they shrink in place. */
static bool scan_escaped(struct scan *s, char *to, char **end)
{
    while (s->p < s->end && *s->p != '"') {
        int c = (unsigned char)*s->p;

        if (c == '\\')
            c = scan_escape(s);
        else
            s->p++;
        if (c <= 0)
            return false;
        *to++ = (char)c;
    }
    *end = to;
    return s->p < s->end;
}

/* A quoted text; `*out` points to its beginning, and a NUL ends it where the quote or less was. */
static bool scan_text(struct scan *s, char **out, size_t *len)
{
    char *quote, *escape;

    if (!scan_literal(s, "\"", 1))
        return false;
    *out = s->p;
    quote = memchr(s->p, '"', (size_t)(s->end - s->p));
    if (quote == NULL)
        return false;
    escape = memchr(s->p, '\\', (size_t)(quote - s->p));
    s->p = escape ? escape : quote;
    if (escape && !scan_escaped(s, escape, &quote))
        return false;
    s->p++;
    *quote = '\0';
    *len = (size_t)(quote - *out);
    return true;
}

static bool scan_int(struct scan *s, int64_t *out)
{
    bool negative = scan_literal(s, "-", 1);
    const char *first = s->p;
    int64_t n = 0;

    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
        if (s->p - first >= 18)
            return false;
        n = n * 10 + (*s->p - '0');
    }
    *out = negative ? -n : n;
    return s->p > first;
}

/* An object or array, up to its closing bracket; the JSON library does the rest. */
static bool scan_json(struct scan *s, json_t **out)
{
    const char *first = s->p;
    bool in_text = false;
    int depth = 0;
    struct err err;

    for (; s->p < s->end; s->p++) {
        if (in_text && *s->p == '\\')
            s->p++;
        else if (*s->p == '"')
            in_text = !in_text;
        else if (!in_text && (*s->p == '{' || *s->p == '['))
            depth++;
        else if (!in_text && (*s->p == '}' || *s->p == ']') && --depth <= 0)
            break;
    }
    if (s->p >= s->end)
        return false;
    s->p++;
    if (json_of_value(first, (size_t)(s->p - first), out, &err) == 0)
        return true;
    s->no_memory = err.code == ERR_NOMEM;
    return false;
}

/* A number of a flat object; integers and reals stay what they are. */
static bool scan_number(struct scan *s, json_t **out)
{
    size_t len = strspn(s->p, "+-.0123456789eE"), digits = strspn(s->p, "-0123456789");
    char *first = s->p, *end = first;
    long long n = 0;
    double real = 0;

    errno = 0;
    if (digits == len)
        n = strtoll(first, &end, 10);
    else
        real = strtod(first, &end);
    if (len == 0 || end != first + len || end > s->end || !isfinite(real) ||
        (digits == len && errno == ERANGE))
        return false;
    s->p = end;
    *out = digits == len ? json_integer(n) : json_real(real);
    s->no_memory = *out == NULL;
    return *out != NULL;
}

static bool scan_member(struct scan *s, json_t *obj)
{
    char *name;
    size_t len;
    json_t *v;

    if (!scan_text(s, &name, &len) || !scan_literal(s, ":", 1) || !scan_number(s, &v))
        return false;
    if (!str_is_name(name)) {
        json_decref(v);
        return false;
    }
    s->no_memory = json_object_set_new(obj, name, v) != 0;
    return !s->no_memory;
}

/* {"name":number,...}: what context features are, several times faster than by the JSON library. */
static bool scan_numbers(struct scan *s, json_t **out)
{
    json_t *obj = json_object();
    bool ok;

    s->no_memory = obj == NULL;
    ok = obj != NULL && scan_literal(s, "{", 1);
    if (ok && !scan_literal(s, "}", 1)) {
        do
            ok = scan_member(s, obj);
        while (ok && scan_literal(s, ",", 1));
        ok = ok && scan_literal(s, "}", 1);
    }
    if (ok)
        *out = obj;
    else
        json_decref(obj);
    return ok;
}

/* Three ids stand in a piece of evidence: this is a good part of opening a base, hence the table.
 */
static bool is_hex_id(const char *text)
{
    static const uint8_t digit[256] = {
        ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1,
        ['8'] = 1, ['9'] = 1, ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1
    };
    uint8_t all = 1;

    for (int i = 0; i < ID_HEX; i++)
        all &= digit[(uint8_t)text[i]];
    return all;
}

static bool scan_id(const struct field *row, struct scan *s, struct id *out)
{
    char *text;
    size_t len;

    if (!scan_text(s, &text, &len) || (len != 0 && len != ID_HEX))
        return false;
    memcpy(out->hex, text, len + 1);
    return len == 0 ? (row->rules & FIELD_MAY_LACK) != 0 : is_hex_id(out->hex);
}

static bool scan_fact(struct scan *s, enum fact_kind *out)
{
    char *text;
    size_t len;

    if (!scan_text(s, &text, &len))
        return false;
    *out = strcmp(text, fact_kind_name(FACT_CLAIM)) == 0 ? FACT_CLAIM : FACT_EVIDENCE;
    return strcmp(text, fact_kind_name(*out)) == 0;
}

static bool scan_value(const struct field *row, struct scan *s, void *record)
{
    void *out = at_mutable(row, record);
    size_t len;
    int64_t n;

    switch (row->type) {
    case FIELD_TEXT:
        return scan_text(s, out, &len);
    case FIELD_ID:
        return scan_id(row, s, out);
    case FIELD_INT:
    case FIELD_COUNT:
        if (!scan_int(s, &n) || n < row->low || n > row->high)
            return false;
        *(int64_t *)out = n; /* a uint64_t has the same bytes: it is not negative */
        return true;
    case FIELD_BOOL:
        *(bool *)out = scan_literal(s, "true", 4);
        return *(bool *)out || scan_literal(s, "false", 5);
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        return row->rules & FIELD_NUMBERS ? scan_numbers(s, out) : scan_json(s, out);
    case FIELD_FACT:
        return scan_fact(s, out);
    }
    return false;
}

static bool scan_all(const struct field *rows, struct scan *s, void *record)
{
    for (const struct field *row = rows; row->name; row++)
        if (!scan_literal(s, row == rows ? "{\"" : ",\"", 2) ||
            !scan_literal(s, row->name, strlen(row->name)) || !scan_literal(s, "\":", 2) ||
            !scan_value(row, s, record))
            return false;
    return scan_literal(s, "}", 1) && s->p == s->end;
}

int fields_view(const struct field *rows, const char *what, char *text, size_t len, void *record,
                struct err *err)
{
    struct scan s = { .p = text, .end = text + len };

    if (scan_all(rows, &s, record))
        return 0;
    fields_leave(rows, record);
    if (s.no_memory)
        return err_set(err, ERR_NOMEM, "no memory for a %s", what);
    return err_set(err, ERR_INVALID, "%s: its text is damaged near byte %zu", what,
                   (size_t)(s.p - text));
}

void fields_leave(const struct field *rows, void *record)
{
    for (const struct field *row = rows; row->name; row++) {
        void *field = at_mutable(row, record);

        if (row->type == FIELD_OBJECT || row->type == FIELD_ARRAY)
            json_decref(*(json_t **)field);
        if (row->type == FIELD_TEXT || row->type == FIELD_OBJECT || row->type == FIELD_ARRAY)
            *(void **)field = NULL;
    }
}

/* Gives the record texts of its own; those not copied yet are NULL when this fails. */
static int own_texts(const struct field *rows, void *record, struct err *err)
{
    bool failed = false;

    for (const struct field *row = rows; row->name; row++) {
        char **text = at_mutable(row, record);

        if (row->type != FIELD_TEXT)
            continue;
        *text = failed ? NULL : strdup(*text);
        failed = failed || *text == NULL;
    }
    return failed ? err_set(err, ERR_NOMEM, "no memory for the texts of a record") : 0;
}

int fields_read(const struct field *rows, const char *what, const char *text, size_t len,
                void *record, struct err *err)
{
    CLEANUP(freep) char *copy = malloc(len + 1);

    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read a record");
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (fields_view(rows, what, copy, len, record, err) != 0)
        return -1;
    if (own_texts(rows, record, err) != 0) {
        fields_release(rows, record);
        return -1;
    }
    return 0;
}
