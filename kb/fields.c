/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables: checking, parsing, freeing; see fields.h. */
#include "fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

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
                       "%s: '%s' is %" PRId64 "; allowed is an integer from %" PRId64
                       " to %" PRId64,
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
        return err_set(err, ERR_INVALID,
                       "%s: '%s' has %zu members; at most %" PRId64 " are allowed", what, row->name,
                       json_object_size(obj), row->high);
    json_object_foreach ((json_t *)obj, key, v) {
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
            return err_set(err, ERR_INVALID,
                           "%s: '%s' is %" PRIu64 "; at most %" PRId64 " is allowed", what,
                           row->name, *(const uint64_t *)v, row->high);
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
    return err_set(err, ERR_INVALID, "%s: '%s' is of the wrong type; allowed is %s", what,
                   row->name, allowed);
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
    json_object_foreach ((json_t *)j, key, v)
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
