/* SPDX-License-Identifier: Apache-2.0 */
/* JSON parameter tables; see param.h. */
#include "base/param.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { STR_CAP_DEFAULT = 65536 };

static void value_text(const json_t *v, char *out, size_t size)
{
    CLEANUP(freep) char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);

    if (s == NULL)
        str_copy(out, size, "?");
    else
        str_visible(s, strlen(s), out, size);
}

void param_type_text(const struct param *row, char *out, size_t size)
{
    static const char *const names[] = { "string",  "name",   "integer >= 0",
                                         "integer", "number", "true or false",
                                         "",        "JSON" };
    size_t n;

    _Static_assert(ARRAY_LEN(names) == PARAM_TYPE_COUNT, "a name per type");
    if (row->type != PARAM_ENUM) {
        bool ranged = row->max > row->min && row->type != PARAM_STR && row->type != PARAM_NAME;

        if (ranged)
            snprintf(out, size, "%s from %g to %g", row->type == PARAM_REAL ? "number" : "integer",
                     row->min, row->max);
        else
            str_copy(out, size, names[row->type]);
        return;
    }
    n = (size_t)snprintf(out, size, "one of");
    for (size_t i = 0; row->choices[i] && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s %s", i ? "," : "", row->choices[i]);
}

static int bad(const struct param *row, const json_t *v, struct err *err)
{
    char got[96], want[160];

    value_text(v, got, sizeof(got));
    param_type_text(row, want, sizeof(want));
    return err_set(err, ERR_INVALID, "'%s' is %s; allowed is %s", row->name, got, want);
}

static bool in_range(const struct param *row, double v)
{
    return !(row->max > row->min) || (v >= row->min && v <= row->max);
}

static int parse_string(const struct param *row, const json_t *v, char **field, struct err *err)
{
    size_t cap = row->max > 0 ? (size_t)row->max : STR_CAP_DEFAULT;
    const char *s = json_string_value(v);
    char *copy;

    if (s == NULL)
        return bad(row, v, err);
    if (json_string_length(v) > cap)
        return err_set(err, ERR_LIMIT, "'%s' has %zu bytes; at most %zu are allowed", row->name,
                       json_string_length(v), cap);
    if (strlen(s) != json_string_length(v))
        return err_set(err, ERR_INVALID, "'%s' holds a NUL character", row->name);
    if (row->type == PARAM_NAME && !str_is_name(s)) {
        char got[96];

        value_text(v, got, sizeof(got));
        return err_set(err, ERR_INVALID,
                       "'%s' is %s; a name has 1 to 96 letters, digits, '_', '.' or '-' and does "
                       "not start with '.' or '-'",
                       row->name, got);
    }
    copy = strdup(s);
    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory for '%s'", row->name);
    free(*field);
    *field = copy;
    return 0;
}

static int parse_one(const struct param *row, json_t *v, char *out, struct err *err)
{
    void *field = out + row->offset;

    switch (row->type) {
    case PARAM_STR:
    case PARAM_NAME:
        return parse_string(row, v, field, err);
    case PARAM_U64:
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            !in_range(row, (double)json_integer_value(v)))
            return bad(row, v, err);
        *(uint64_t *)field = (uint64_t)json_integer_value(v);
        return 0;
    case PARAM_I64:
        if (!json_is_integer(v) || !in_range(row, (double)json_integer_value(v)))
            return bad(row, v, err);
        *(int64_t *)field = json_integer_value(v);
        return 0;
    case PARAM_REAL:
        if (!json_is_number(v) || !isfinite(json_number_value(v)) ||
            !in_range(row, json_number_value(v)))
            return bad(row, v, err);
        *(double *)field = json_number_value(v);
        return 0;
    case PARAM_BOOL:
        if (!json_is_boolean(v))
            return bad(row, v, err);
        *(bool *)field = json_is_true(v);
        return 0;
    case PARAM_ENUM:
        for (int i = 0; json_is_string(v) && row->choices[i]; i++)
            if (strcmp(row->choices[i], json_string_value(v)) == 0) {
                *(int *)field = i;
                return 0;
            }
        return bad(row, v, err);
    case PARAM_JSON:
        json_decref(*(json_t **)field);
        *(json_t **)field = json_incref(v);
        return 0;
    case PARAM_TYPE_COUNT:
        break;
    }
    return err_set(err, ERR_INTERNAL, "parameter table of '%s' is wrong", row->name);
}

static int unknown_key(const struct param *rows, const char *key, struct err *err)
{
    char seen[96], list[256];
    size_t n = 0;

    str_visible(key, strlen(key), seen, sizeof(seen));
    list[0] = '\0';
    for (const struct param *r = rows; r->name && n < sizeof(list); r++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", r->name);
    return err_set(err, ERR_INVALID, "'%s' is not a known field; allowed: %s", seen,
                   list[0] ? list : "none");
}

static int parse_all(const struct param *rows, const json_t *obj, void *out, struct err *err)
{
    const char *key;
    json_t *value;

    if (obj != NULL && !json_is_object(obj)) {
        char got[96];

        value_text(obj, got, sizeof(got));
        return err_set(err, ERR_INVALID, "parameters are %s; allowed is an object", got);
    }
    json_object_foreach ((json_t *)obj, key, value) {
        const struct param *row = rows;

        while (row->name && strcmp(row->name, key) != 0)
            row++;
        if (row->name == NULL)
            return unknown_key(rows, key, err);
        if (parse_one(row, value, out, err) != 0)
            return -1;
        if (row->seen_offset)
            *((bool *)((char *)out + row->seen_offset - 1)) = true;
    }
    for (const struct param *row = rows; row->name; row++)
        if ((row->flags & PARAM_REQUIRED) && json_object_get(obj, row->name) == NULL) {
            char want[160];

            param_type_text(row, want, sizeof(want));
            return err_set(err, ERR_INVALID, "'%s' is missing; it is required: %s", row->name,
                           want);
        }
    return 0;
}

int param_parse(const struct param *rows, const json_t *obj, void *out, struct err *err)
{
    if (parse_all(rows, obj, out, err) == 0)
        return 0;
    param_release(rows, out);
    return -1;
}

void param_release(const struct param *rows, void *out)
{
    for (const struct param *row = rows; row->name; row++) {
        void *field = (char *)out + row->offset;

        if (row->type == PARAM_STR || row->type == PARAM_NAME) {
            free(*(char **)field);
            *(char **)field = NULL;
        } else if (row->type == PARAM_JSON) {
            json_decref(*(json_t **)field);
            *(json_t **)field = NULL;
        }
    }
}
