/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces and assignments: validity, JSON, keys, build macros; see space.h. */
#include "search/space.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/space_impl.h"

const char *const space_type_names[SPACE_TYPE_COUNT] = { "int", "real", "bool", "enum" };

static void param_free(struct space_param *p)
{
    for (size_t i = 0; i < p->n_values; i++) {
        free((char *)p->values[i].text);
        free((char *)p->values[i].help);
    }
    free((struct space_value *)p->values);
    free((char *)p->name);
    free((char *)p->technique);
    free((char *)p->help);
}

void space_free(struct space *s)
{
    if (s == NULL)
        return;
    for (size_t p = 0; p < s->n; p++)
        param_free(&s->params[p]);
    for (size_t c = 0; c < s->n_constraints; c++) {
        space_expr_free(s->constraints[c].expr);
        free(s->constraints[c].table);
    }
    free(s->rows);
    free(s->row_slots);
    free(s);
}

/* ---- reading it ---- */

size_t space_n(const struct space *s)
{
    return s->n;
}

const struct space_param *space_param(const struct space *s, size_t p)
{
    assert(p < s->n);
    return &s->params[p];
}

int space_find(const struct space *s, const char *name)
{
    for (size_t p = 0; p < s->n; p++)
        if (strcmp(s->params[p].name, name) == 0)
            return (int)p;
    return -1;
}

int space_value_find(const struct space *s, size_t p, const char *text)
{
    assert(p < s->n);
    for (uint16_t i = 0; i < s->params[p].n_values; i++)
        if (strcmp(s->params[p].values[i].text, text) == 0)
            return i;
    return -1;
}

size_t space_constraints(const struct space *s)
{
    return s->n_constraints;
}

const char *space_constraint(const struct space *s, size_t c)
{
    assert(c < s->n_constraints);
    return space_expr_text(s->constraints[c].expr);
}

size_t space_rows(const struct space *s)
{
    return s->n_rows;
}

const uint16_t *space_row(const struct space *s, size_t k)
{
    assert(k < s->n_rows);
    return s->rows + k * s->n;
}

void space_default(const struct space *s, uint16_t *out)
{
    for (size_t p = 0; p < s->n; p++)
        out[p] = s->params[p].default_index;
}

/* ---- assignments ---- */

bool space_valid(const struct space *s, const uint16_t *a)
{
    for (size_t p = 0; p < s->n; p++)
        if (a[p] >= s->params[p].n_values)
            return false;
    if (s->n_rows > 0)
        return space_row_of(s, a) >= 0;
    for (size_t c = 0; c < s->n_constraints; c++)
        if (!constraint_holds(s, &s->constraints[c], a))
            return false;
    return true;
}

int space_check(const struct space *s, const uint16_t *a, struct err *err)
{
    CLEANUP(freep) char *key = NULL;

    for (size_t p = 0; p < s->n; p++)
        if (a[p] >= s->params[p].n_values)
            return err_set(err, ERR_INVALID, "value index %u of parameter '%s' is not below %u",
                           a[p], s->params[p].name, s->params[p].n_values);
    if (space_valid(s, a))
        return 0;
    key = space_key(s, a);
    for (size_t c = 0; c < s->n_constraints; c++)
        if (!constraint_holds(s, &s->constraints[c], a))
            return err_set(err, ERR_INVALID, "%.200s breaks the constraint '%.200s'", key,
                           space_constraint(s, c));
    return err_set(err, ERR_INVALID, "%.200s is not one of the %zu listed assignments", key,
                   s->n_rows);
}

json_t *space_value_json(const struct space *s, size_t p, uint16_t value)
{
    const struct space_param *param = space_param(s, p);
    const struct space_value *v = &param->values[value];

    assert(value < param->n_values);
    switch (param->type) {
    case SPACE_INT:
        return json_integer((json_int_t)v->num);
    case SPACE_REAL:
        return json_real(v->num);
    case SPACE_BOOL:
        return json_boolean(v->num != 0.0);
    case SPACE_ENUM:
        return json_string(v->text);
    case SPACE_TYPE_COUNT:
        break;
    }
    assert(false);
    return NULL;
}

json_t *space_to_json(const struct space *s, const uint16_t *a)
{
    json_t *obj = json_object();

    for (size_t p = 0; p < s->n; p++)
        json_object_set_new(obj, s->params[p].name, space_value_json(s, p, a[p]));
    return obj;
}

static void list_values(const struct space_param *p, char *out, size_t size)
{
    size_t len = 0;

    for (uint16_t i = 0; i < p->n_values && len + 8 < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s", i ? ", " : "",
                                p->type != SPACE_BOOL     ? p->values[i].text
                                : p->values[i].num != 0.0 ? "true"
                                                          : "false");
    if (len + 8 >= size)
        memcpy(out + size - 4, "...", 4);
}

int space_from_json(const struct space *s, const json_t *obj, uint16_t *out, struct err *err)
{
    uint16_t a[SPACE_PARAMS_MAX];
    char seen[SPACE_SHOWN_MAX], allowed[256];
    const char *key;
    json_t *v;

    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "an assignment must be a JSON object");
    json_object_foreach ((json_t *)obj, key, v)
        if (space_find(s, key) < 0)
            return err_set(err, ERR_INVALID, "'%s' is not a parameter of this space",
                           str_visible(key, strlen(key), seen, sizeof(seen)));
    for (size_t p = 0; p < s->n; p++) {
        const json_t *given = json_object_get(obj, s->params[p].name);

        if (space_value_of_json(&s->params[p], given, &a[p]) == 0)
            continue;
        list_values(&s->params[p], allowed, sizeof(allowed));
        if (given == NULL)
            return err_set(err, ERR_INVALID, "parameter '%s' has no value (%s: %s)",
                           s->params[p].name, space_type_names[s->params[p].type], allowed);
        return err_set(err, ERR_INVALID, "parameter '%s' is %s, but must be one of %s (%s)",
                       s->params[p].name, space_shown(given, seen, sizeof(seen)), allowed,
                       space_type_names[s->params[p].type]);
    }
    if (s->n > 0)
        memcpy(out, a, s->n * sizeof(*a));
    return 0;
}

json_t *space_defines(const struct space *s, const uint16_t *a)
{
    json_t *obj = json_object();
    char text[16], name[2 * SPACE_NAME_MAX + 2];

    for (size_t p = 0; p < s->n; p++) {
        const struct space_param *param = &s->params[p];

        if (param->type != SPACE_ENUM) {
            json_object_set_new(obj, param->name, json_string(param->values[a[p]].text));
            continue;
        }
        snprintf(text, sizeof(text), "%u", a[p]);
        json_object_set_new(obj, param->name, json_string(text));
        for (uint16_t i = 0; i < param->n_values; i++) {
            snprintf(name, sizeof(name), "%s_%s", param->name, param->values[i].text);
            snprintf(text, sizeof(text), "%u", i);
            json_object_set_new(obj, name, json_string(text));
        }
    }
    return obj;
}

char *space_key(const struct space *s, const uint16_t *a)
{
    size_t order[SPACE_PARAMS_MAX], size = 1, len = 0;
    char *key;

    for (size_t p = 0; p < s->n; p++) {
        size_t at = p;

        for (; at > 0 && strcmp(s->params[order[at - 1]].name, s->params[p].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = p;
        size += strlen(s->params[p].name) + 2 +
                (a[p] == SPACE_ANY ? 1 : strlen(s->params[p].values[a[p]].text));
    }
    key = xcalloc(1, size);
    for (size_t i = 0; i < s->n; i++) {
        const struct space_param *p = &s->params[order[i]];
        uint16_t v = a[order[i]];

        len += (size_t)snprintf(key + len, size - len, "%s%s=%s", i ? "," : "", p->name,
                                v == SPACE_ANY ? "*" : p->values[v].text);
    }
    return key;
}

uint64_t space_hash(const struct space *s, const uint16_t *a)
{
    uint64_t h = 0x9E3779B97F4A7C15ull;

    for (size_t p = 0; p < s->n; p++) {
        h = (h ^ a[p]) * 0xBF58476D1CE4E5B9ull;
        h ^= h >> 29;
    }
    return (h * 0x94D049BB133111EBull) ^ (h >> 32);
}

void space_cell(const struct space *s, const uint16_t *a, uint16_t *cell)
{
    for (size_t p = 0; p < s->n; p++)
        cell[p] = s->params[p].role == SPACE_STRUCTURAL ? a[p] : (uint16_t)SPACE_ANY;
}

bool space_matches(const struct space *s, const uint16_t *pattern, const uint16_t *a)
{
    if (pattern == NULL)
        return true;
    for (size_t p = 0; p < s->n; p++)
        if (pattern[p] != SPACE_ANY && pattern[p] != a[p])
            return false;
    return true;
}

double space_product(const struct space *s)
{
    double product = 1.0;

    for (size_t p = 0; p < s->n; p++)
        product *= s->params[p].n_values;
    return product;
}
