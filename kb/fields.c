/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables; see fields.h. */
#include "fields.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

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

/* ---- Checking ---- */

static int bad_text(const struct field *row, const char *what, const char *got, const char *allowed,
                    struct err *err)
{
    char seen[120];

    str_visible(got, strlen(got), seen, sizeof(seen));
    return err_set(err, ERR_INVALID, "%s: '%s' is \"%s\"; allowed is %s", what, row->name, seen,
                   allowed);
}

static int check_choice(const struct field *row, const char *what, const char *s, struct err *err)
{
    char list[200] = "one of";
    size_t n = strlen(list);

    for (size_t i = 0; row->choices[i]; i++)
        if (strcmp(row->choices[i], s) == 0)
            return 0;
    for (size_t i = 0; row->choices[i] && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s \"%s\"", i ? "," : "",
                              row->choices[i]);
    return bad_text(row, what, s, list, err);
}

static bool is_cell_part(const char *s)
{
    for (; *s; s++)
        if (*s == '|' || (unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static int check_text(const struct field *row, const char *what, const char *s, struct err *err)
{
    size_t len = strlen(s);

    if (len > (size_t)row->high)
        return err_set(err, ERR_INVALID, "%s: '%s' has %zu bytes; at most %" PRId64 " are allowed",
                       what, row->name, len, row->high);
    if ((row->rules & FIELD_NONEMPTY) && len == 0)
        return err_set(err, ERR_INVALID, "%s: '%s' is empty; a text is required", what, row->name);
    if ((row->rules & FIELD_NAME) && len > 0 && !str_is_name(s))
        return bad_text(row, what, s,
                        "a name of 1 to 96 letters, digits, '_', '.' or '-' that does not start "
                        "with '.' or '-'",
                        err);
    if ((row->rules & FIELD_CELL) && !is_cell_part(s))
        return bad_text(row, what, s, "text without '|' and control characters", err);
    if ((row->rules & FIELD_SEED) && !str_is_hex(s, 16))
        return bad_text(row, what, s, "16 hexadecimal digits", err);
    return row->choices ? check_choice(row, what, s, err) : 0;
}

static int check_int(const struct field *row, const char *what, int64_t n, struct err *err)
{
    if (n < row->low || n > row->high)
        return err_set(err, ERR_INVALID,
                       "%s: '%s' is %" PRId64 "; allowed is an integer from %" PRId64 " to %" PRId64,
                       what, row->name, n, row->low, row->high);
    return 0;
}

static bool is_finite_number(const json_t *v)
{
    return json_is_number(v) && isfinite(json_number_value(v));
}

static int check_members(const struct field *row, const char *what, const json_t *obj,
                         struct err *err)
{
    const char *key;
    json_t *v;

    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "%s: '%s' is missing; an object is required", what,
                       row->name);
    if (json_object_size(obj) > (size_t)row->high)
        return err_set(err, ERR_INVALID, "%s: '%s' has %zu members; at most %" PRId64 " are allowed",
                       what, row->name, json_object_size(obj), row->high);
    json_object_foreach((json_t *)obj, key, v) {
        bool scalar = json_is_string(v) || json_is_boolean(v) || is_finite_number(v);

        if (!str_is_name(key))
            return bad_text(row, what, key, "members that are names", err);
        if ((row->rules & FIELD_NUMBERS) && !is_finite_number(v))
            return err_set(err, ERR_INVALID, "%s: '%s.%s' is no number; a finite number is allowed",
                           what, row->name, key);
        if ((row->rules & FIELD_SCALARS) && !scalar)
            return err_set(err, ERR_INVALID,
                           "%s: '%s.%s' is no value; text, a number, true or false is allowed",
                           what, row->name, key);
    }
    return 0;
}

static int check_id(const struct field *row, const char *what, const struct id *id, struct err *err)
{
    if (id->hex[0] == '\0' && (row->rules & FIELD_MAY_LACK))
        return 0;
    if (!str_is_hex(id->hex, ID_HEX))
        return bad_text(row, what, id->hex, "a content address of 64 hexadecimal digits", err);
    return 0;
}

static int check_one(const struct field *row, const char *what, const void *record, struct err *err)
{
    const void *v = at(row, record);

    switch (row->type) {
    case FIELD_TEXT:
        return check_text(row, what, text_at(row, record), err);
    case FIELD_ID:
        return check_id(row, what, v, err);
    case FIELD_INT:
        return check_int(row, what, *(const int64_t *)v, err);
    case FIELD_COUNT:
        if (*(const uint64_t *)v > (uint64_t)row->high)
            return err_set(err, ERR_INVALID, "%s: '%s' is %" PRIu64 "; at most %" PRId64 " is allowed",
                           what, row->name, *(const uint64_t *)v, row->high);
        return 0;
    case FIELD_BOOL:
        return 0;
    case FIELD_OBJECT:
        return check_members(row, what, *(json_t *const *)v, err);
    case FIELD_ARRAY:
        if (json_array_size(*(json_t *const *)v) > (size_t)row->high)
            return err_set(err, ERR_INVALID, "%s: '%s' has more than %" PRId64 " items", what,
                           row->name, row->high);
        return 0;
    case FIELD_FACT:
        if (*(const enum fact_kind *)v != FACT_CLAIM && *(const enum fact_kind *)v != FACT_EVIDENCE)
            return err_set(err, ERR_INVALID, "%s: '%s' must be \"claim\" or \"evidence\"", what,
                           row->name);
        return 0;
    }
    return err_set(err, ERR_INTERNAL, "%s: the table row of '%s' is wrong", what, row->name);
}

int fields_check(const struct field *rows, const char *what, const void *record, struct err *err)
{
    for (const struct field *row = rows; row->name; row++)
        if (check_one(row, what, record, err) != 0)
            return -1;
    return 0;
}

/* ---- Parsing ---- */

static int wrong_type(const struct field *row, const char *what, const char *allowed,
                      struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: '%s' is of the wrong type; allowed is %s", what, row->name,
                   allowed);
}

static int parse_text(const struct field *row, const char *what, const json_t *v, char **out,
                      struct err *err)
{
    const char *s = json_string_value(v);

    if (s == NULL || strlen(s) != json_string_length(v))
        return wrong_type(row, what, "text without NUL characters", err);
    *out = strdup(s);
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for '%s'", row->name);
}

static int parse_id(const struct field *row, const char *what, const json_t *v, struct id *out,
                    struct err *err)
{
    const char *s = json_string_value(v);

    if (s == NULL || !str_copy(out->hex, sizeof(out->hex), s))
        return wrong_type(row, what, "a content address of 64 hexadecimal digits", err);
    return 0;
}

static int parse_fact(const struct field *row, const char *what, const json_t *v,
                      enum fact_kind *out, struct err *err)
{
    const char *s = json_string_value(v);

    for (int k = 0; s && k < FACT_COUNT; k++)
        if (strcmp(s, fact_kind_name((enum fact_kind)k)) == 0) {
            *out = (enum fact_kind)k;
            return 0;
        }
    return wrong_type(row, what, "\"claim\" or \"evidence\"", err);
}

static int parse_one(const struct field *row, const char *what, json_t *v, void *record,
                     struct err *err)
{
    void *out = at_mutable(row, record);

    switch (row->type) {
    case FIELD_TEXT:
        return parse_text(row, what, v, out, err);
    case FIELD_ID:
        return parse_id(row, what, v, out, err);
    case FIELD_INT:
        if (!json_is_integer(v))
            return wrong_type(row, what, "an integer", err);
        *(int64_t *)out = json_integer_value(v);
        return 0;
    case FIELD_COUNT:
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return wrong_type(row, what, "an integer of at least 0", err);
        *(uint64_t *)out = (uint64_t)json_integer_value(v);
        return 0;
    case FIELD_BOOL:
        if (!json_is_boolean(v))
            return wrong_type(row, what, "true or false", err);
        *(bool *)out = json_is_true(v);
        return 0;
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        if (row->type == FIELD_OBJECT ? !json_is_object(v) : !json_is_array(v))
            return wrong_type(row, what, row->type == FIELD_OBJECT ? "an object" : "an array", err);
        *(json_t **)out = json_incref(v);
        return 0;
    case FIELD_FACT:
        return parse_fact(row, what, v, out, err);
    }
    return err_set(err, ERR_INTERNAL, "%s: the table row of '%s' is wrong", what, row->name);
}

static const struct field *row_by_name(const struct field *rows, const char *name)
{
    while (rows->name && strcmp(rows->name, name) != 0)
        rows++;
    return rows->name ? rows : NULL;
}

static int parse_all(const struct field *rows, const char *what, const json_t *j, void *record,
                     struct err *err)
{
    const char *key;
    json_t *v;

    if (!json_is_object(j))
        return err_set(err, ERR_INVALID, "%s is no JSON object", what);
    json_object_foreach((json_t *)j, key, v)
        if (row_by_name(rows, key) == NULL) {
            char seen[96];

            str_visible(key, strlen(key), seen, sizeof(seen));
            return err_set(err, ERR_INVALID, "%s: '%s' is not a known field", what, seen);
        }
    for (const struct field *row = rows; row->name; row++) {
        v = json_object_get(j, row->name);
        if (v == NULL)
            return err_set(err, ERR_INVALID, "%s: '%s' is missing", what, row->name);
        if (parse_one(row, what, v, record, err) != 0)
            return -1;
    }
    return fields_check(rows, what, record, err);
}

int fields_parse(const struct field *rows, const char *what, const json_t *j, void *record,
                 struct err *err)
{
    if (parse_all(rows, what, j, record, err) == 0)
        return 0;
    fields_release(rows, record);
    return -1;
}

void fields_release(const struct field *rows, void *record)
{
    for (const struct field *row = rows; row->name; row++) {
        void *field = at_mutable(row, record);

        if (row->type == FIELD_TEXT) {
            free(*(char **)field);
            *(char **)field = NULL;
        } else if (row->type == FIELD_OBJECT || row->type == FIELD_ARRAY) {
            json_decref(*(json_t **)field);
            *(json_t **)field = NULL;
        }
    }
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

/* By jansson, so that the escapes are those of jsonx_canonical. */
static int write_json(const struct field *row, const char *what, const void *record,
                      struct buf *out, struct err *err)
{
    json_auto_t *v = json_of(row, record);
    CLEANUP(freep) char *text = NULL;

    if (v == NULL)
        return err_set(err, ERR_INVALID, "%s: '%s' is not UTF-8 text", what, row->name);
    text = jsonx_canonical(v);
    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for '%s'", row->name);
    return buf_adds(out, text, err);
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
    *out = json_loadb(first, (size_t)(s->p - first), JSON_REJECT_DUPLICATES, NULL);
    return *out != NULL;
}

/* A number of a flat object; integers and reals stay what they are. */
static json_t *scan_number(struct scan *s)
{
    char *first = s->p, *end;
    double real;
    int64_t n;

    if (scan_int(s, &n) && s->p < s->end && (*s->p == ',' || *s->p == '}'))
        return json_integer(n);
    real = *first == '-' || (*first >= '0' && *first <= '9') ? strtod(first, &end) : NAN;
    if (!isfinite(real) || end > s->end)
        return NULL;
    s->p = end;
    return json_real(real);
}

/* {"name":number,...}: what context features are, several times faster than by the JSON library. */
static bool scan_numbers(struct scan *s, json_t **out)
{
    json_t *obj = json_object();
    bool ok = obj != NULL && scan_literal(s, "{", 1);

    if (ok && scan_literal(s, "}", 1)) {
        *out = obj;
        return true;
    }
    do {
        char *name;
        size_t len;

        ok = ok && scan_text(s, &name, &len) && scan_literal(s, ":", 1) &&
             json_object_set_new(obj, name, scan_number(s)) == 0;
    } while (ok && scan_literal(s, ",", 1));
    if (ok && scan_literal(s, "}", 1)) {
        *out = obj;
        return true;
    }
    json_decref(obj);
    return false;
}

static bool scan_id(const struct field *row, struct scan *s, struct id *out)
{
    char *text;
    size_t len;

    if (!scan_text(s, &text, &len) || (len != 0 && len != ID_HEX))
        return false;
    memcpy(out->hex, text, len + 1);
    return len == 0 ? (row->rules & FIELD_MAY_LACK) != 0 : str_is_hex(out->hex, ID_HEX);
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
