/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces of rows as documents; see space_table.h. */
#include "search/space_table.h"

#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "search/packed.h"
#include "search/space_impl.h"

/* The columns are 16-bit numbers in the machine's order, which is little-endian wherever this runs.
 */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored tables are little-endian");

/* ---- Writing ---- */

/* Parameters by name into order[space_n]. */
static void by_name(const struct space *s, size_t *order)
{
    for (size_t p = 0; p < s->n; p++) {
        size_t at = p;

        for (; at > 0 && strcmp(s->params[order[at - 1]].name, s->params[p].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = p;
    }
}

struct row_order {
    const struct space *s;
    size_t columns[SPACE_PARAMS_MAX];
};

static int compare_rows(const void *pa, const void *pb, void *ctx)
{
    const struct row_order *o = ctx;
    const uint16_t *a = space_row(o->s, *(const uint32_t *)pa);
    const uint16_t *b = space_row(o->s, *(const uint32_t *)pb);

    for (size_t i = 0; i < o->s->n; i++) {
        size_t p = o->columns[i];

        if (a[p] != b[p])
            return a[p] < b[p] ? -1 : 1;
    }
    return 0;
}

static json_t *parameter_json(const struct space *s, size_t p)
{
    json_t *values = json_array();

    for (uint16_t v = 0; v < s->params[p].n_values; v++)
        json_array_append_new(values, space_value_json(s, p, v));
    return json_pack("{s:s, s:s, s:o}", "name", s->params[p].name, "type",
                     space_type_names[s->params[p].type], "values", values);
}

json_t *space_table_parameters(const struct space *s)
{
    json_t *list = json_array();
    size_t order[SPACE_PARAMS_MAX];

    by_name(s, order);
    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(list, parameter_json(s, order[i]));
    return list;
}

int space_table_pack(const struct space *s, uint32_t *order, json_t **out, struct err *err)
{
    CLEANUP(freep) uint32_t *rows = xcalloc(s->n_rows, sizeof(*rows));
    CLEANUP(freep) uint16_t *columns = xcalloc(s->n_rows * s->n, sizeof(*columns));
    struct row_order o = { .s = s };
    json_t *packed;

    by_name(s, o.columns);
    for (size_t k = 0; k < s->n_rows; k++)
        rows[k] = (uint32_t)k;
    qsort_r(rows, s->n_rows, sizeof(*rows), compare_rows, &o);
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->n_rows; k++)
            columns[i * s->n_rows + k] = space_row(s, rows[k])[o.columns[i]];
    packed = packed_json(columns, s->n_rows * s->n * sizeof(*columns));
    if (packed == NULL)
        return err_set(err, ERR_NOMEM, "no memory to pack a table of %zu rows", s->n_rows);
    if (order != NULL)
        memcpy(order, rows, s->n_rows * sizeof(*rows));
    *out = json_pack("{s:o, s:I, s:o}", "parameters", space_table_parameters(s), "rows",
                     (json_int_t)s->n_rows, "columns", packed);
    return 0;
}

/* ---- Reading ---- */

static int damaged(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "a stored table of assignments has bad %s", what);
}

/* One JSON row per row of the table; their values are shared. */
static int fill_rows(const json_t *parameters, size_t n, const uint16_t *columns, json_t *rows,
                     struct err *err)
{
    for (size_t k = 0; k < n; k++)
        json_array_append_new(rows, json_object());
    for (size_t p = 0; p < json_array_size(parameters); p++) {
        const json_t *param = json_array_get(parameters, p);
        const char *name = jsonx_str(param, "name", NULL);
        const json_t *values = json_object_get(param, "values");

        if (name == NULL)
            return damaged(err, "parameters");
        for (size_t k = 0; k < n; k++) {
            json_t *v = json_array_get(values, columns[p * n + k]);

            if (v == NULL)
                return damaged(err, "values");
            json_object_set(json_array_get(rows, k), name, v);
        }
    }
    return 0;
}

int space_table_unpack(const json_t *doc, struct space **out, struct err *err)
{
    const json_t *parameters = json_object_get(doc, "parameters");
    CLEANUP(buf_release) struct buf bytes = { .max = PACKED_MAX };
    json_auto_t *rows = json_array();
    size_t n = (size_t)jsonx_int(doc, "rows", 0), width = json_array_size(parameters);

    if (n == 0 || n > SPACE_ROWS_MAX || width == 0 || width > SPACE_PARAMS_MAX)
        return damaged(err, "dimensions");
    if (packed_read(json_object_get(doc, "columns"), "a stored table of assignments", &bytes,
                    err) != 0)
        return -1;
    if (bytes.len != n * width * sizeof(uint16_t))
        return damaged(err, "columns");
    if (fill_rows(parameters, n, (const uint16_t *)bytes.data, rows, err) != 0)
        return -1;
    if (space_from_rows(rows, out, err) != 0) {
        err->code = ERR_CORRUPT;
        return err_ctx(err, "a stored table of assignments");
    }
    return 0;
}
