/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces made of an explicit list of assignments, as recorded tuning tables are; see space.h. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/space_impl.h"

struct cell_value {
    double num;
    const char *text; /* borrowed from the JSON; NULL for a number or Boolean */
};

static int compare_values(const void *a, const void *b)
{
    const struct cell_value *x = a, *y = b;

    if (x->text != NULL && y->text != NULL)
        return strcmp(x->text, y->text);
    return (x->num > y->num) - (x->num < y->num);
}

/* The narrowest type that holds every value of the column; SPACE_TYPE_COUNT when they do not mix.
 */
static enum space_type column_type(const json_t *rows, const char *name)
{
    size_t n = json_array_size(rows), counts[SPACE_TYPE_COUNT] = { 0 };

    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(json_array_get(rows, i), name);

        if (json_is_integer(v) && llabs(json_integer_value(v)) <= 1ll << 53)
            counts[SPACE_INT]++;
        else if (json_is_number(v))
            counts[SPACE_REAL]++;
        else if (json_is_boolean(v))
            counts[SPACE_BOOL]++;
        else if (json_is_string(v) && str_is_name(json_string_value(v)))
            counts[SPACE_ENUM]++;
    }
    if (counts[SPACE_INT] == n)
        return SPACE_INT;
    if (counts[SPACE_INT] + counts[SPACE_REAL] == n)
        return SPACE_REAL;
    if (counts[SPACE_BOOL] == n)
        return SPACE_BOOL;
    return counts[SPACE_ENUM] == n ? SPACE_ENUM : SPACE_TYPE_COUNT;
}

static struct cell_value value_at(const json_t *rows, size_t i, const char *name)
{
    const json_t *v = json_object_get(json_array_get(rows, i), name);

    if (json_is_boolean(v))
        return (struct cell_value){ json_is_true(v), NULL };
    return (struct cell_value){ json_number_value(v) + 0.0, json_string_value(v) };
}

static char *value_text(enum space_type type, const struct cell_value *v)
{
    char text[40];

    if (type == SPACE_ENUM)
        return xstrdup(v->text);
    snprintf(text, sizeof(text), "%.17g", v->num);
    return xstrdup(text);
}

static void column_values(struct space_param *p, const struct cell_value *sorted, size_t n)
{
    struct space_value *values = xcalloc(n, sizeof(*values));

    for (size_t i = 0; i < n; i++) {
        values[i].num = p->type == SPACE_ENUM ? (double)i : sorted[i].num;
        values[i].text = value_text(p->type, &sorted[i]);
    }
    p->values = values;
    p->n_values = (uint16_t)n;
}

/* Declares one parameter and fills its column of the rows. */
static int add_column(struct space *s, const json_t *rows, const char *name, struct err *err)
{
    size_t n = json_array_size(rows), distinct = 0, p = s->n;
    CLEANUP(freep) struct cell_value *all = xcalloc(n, sizeof(*all));
    struct space_param *param = &s->params[p];

    param->type = column_type(rows, name);
    if (param->type == SPACE_TYPE_COUNT)
        return err_set(err, ERR_INVALID,
                       "parameter '%s' is missing in a row, or its values are of different types",
                       name);
    param->kind =
        param->type == SPACE_INT || param->type == SPACE_REAL ? SPACE_ORDINAL : SPACE_CATEGORICAL;
    param->role = SPACE_NUMERIC;
    for (size_t i = 0; i < n; i++)
        all[i] = value_at(rows, i, name);
    qsort(all, n, sizeof(*all), compare_values);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || compare_values(&all[i], &all[distinct - 1]) != 0)
            all[distinct++] = all[i];
    if (distinct > SPACE_VALUES_MAX)
        return err_set(err, ERR_LIMIT, "parameter '%s' has %zu values, at most %d are allowed",
                       name, distinct, SPACE_VALUES_MAX);
    param->name = xstrdup(name);
    s->n++;
    column_values(param, all, distinct);
    for (size_t i = 0; i < n; i++) {
        struct cell_value v = value_at(rows, i, name);
        struct cell_value *at = bsearch(&v, all, distinct, sizeof(v), compare_values);

        s->rows[i * json_object_size(json_array_get(rows, 0)) + p] = (uint16_t)(at - all);
    }
    param->default_index = s->rows[p];
    return 0;
}

static int index_rows(struct space *s, struct err *err)
{
    size_t slots = 16;

    while (slots < 2 * s->n_rows)
        slots *= 2;
    s->row_slot_mask = slots - 1;
    s->row_slots = xcalloc(slots, sizeof(*s->row_slots));
    for (size_t i = 0; i < s->n_rows; i++) {
        size_t at = space_hash(s, space_row(s, i)) & s->row_slot_mask;

        if (space_row_of(s, space_row(s, i)) >= 0)
            return err_set(err, ERR_INVALID, "rows %ld and %zu are the same assignment",
                           space_row_of(s, space_row(s, i)), i);
        while (s->row_slots[at] != 0)
            at = (at + 1) & s->row_slot_mask;
        s->row_slots[at] = (uint32_t)i + 1;
    }
    return 0;
}

long space_row_of(const struct space *s, const uint16_t *a)
{
    if (s->n_rows == 0)
        return -1;
    for (size_t at = space_hash(s, a) & s->row_slot_mask; s->row_slots[at] != 0;
         at = (at + 1) & s->row_slot_mask) {
        size_t row = s->row_slots[at] - 1;

        if (memcmp(s->rows + row * s->n, a, s->n * sizeof(*a)) == 0)
            return (long)row;
    }
    return -1;
}

static int check_rows(const json_t *rows, struct err *err)
{
    size_t n = json_array_size(rows), columns = json_object_size(json_array_get(rows, 0));

    if (n == 0 || columns == 0)
        return err_set(err, ERR_INVALID, "a table of assignments needs a row with a parameter");
    if (n > SPACE_ROWS_MAX || columns > SPACE_PARAMS_MAX)
        return err_set(err, ERR_LIMIT,
                       "the table has %zu rows of %zu parameters, at most %d of %d are allowed", n,
                       columns, SPACE_ROWS_MAX, SPACE_PARAMS_MAX);
    for (size_t i = 0; i < n; i++)
        if (json_object_size(json_array_get(rows, i)) != columns)
            return err_set(err, ERR_INVALID, "row %zu has other parameters than row 0", i);
    return 0;
}

int space_from_rows(const json_t *rows, struct space **out, struct err *err)
{
    struct space *s;
    const char *name;
    json_t *v;

    if (check_rows(rows, err) != 0)
        return -1;
    s = xcalloc(1, sizeof(*s));
    s->n_rows = json_array_size(rows);
    s->rows = xcalloc(s->n_rows * json_object_size(json_array_get(rows, 0)), sizeof(*s->rows));
    json_object_foreach (json_array_get(rows, 0), name, v) {
        if (!str_is_name(name)) {
            space_free(s);
            return err_set(err, ERR_INVALID, "a parameter of the table has no proper name");
        }
        if (add_column(s, rows, name, err) != 0) {
            space_free(s);
            return -1;
        }
    }
    if (index_rows(s, err) != 0) {
        space_free(s);
        return -1;
    }
    *out = s;
    return 0;
}
