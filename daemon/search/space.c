/* SPDX-License-Identifier: Apache-2.0 */
/* Space documents: parsing, typed values, assignments as JSON, keys and build macros; see space.h.
 */
#include "search/space.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/space_impl.h"

enum { NAME_LEN_MAX = 64, HELP_LEN_MAX = 4096, VALUE_SHOWN_MAX = 80 };

static const json_int_t whole_max = 1ll << 53; /* exact in a double up to here */
static const char *const type_names[SPACE_TYPE_COUNT] = { "int", "real", "bool", "enum" };
static const char *const kind_names[SPACE_KIND_COUNT] = { "ordinal", "categorical" };
static const char *const role_names[SPACE_ROLE_COUNT] = { "structural", "numeric" };

/* ---- reading one document ---- */

static int check_keys(const json_t *obj, const char *const *allowed, const char *what,
                      struct err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach ((json_t *)obj, key, v) {
        char seen[VALUE_SHOWN_MAX];
        size_t i = 0;

        while (allowed[i] != NULL && strcmp(allowed[i], key) != 0)
            i++;
        if (allowed[i] == NULL)
            return err_set(err, ERR_INVALID, "%s has the unknown key '%s'", what,
                           str_visible(key, strlen(key), seen, sizeof(seen)));
    }
    return 0;
}

/* Text without NUL bytes, at most `max` long; NULL where the key is absent and not required. */
static int take_text(const json_t *obj, const char *key, size_t max, bool required,
                     const char **out, struct err *err)
{
    const json_t *v = json_object_get(obj, key);
    const char *text = json_string_value(v);

    if (v == NULL && !required) {
        *out = NULL;
        return 0;
    }
    if (text == NULL)
        return err_set(err, ERR_INVALID, "'%s' must be given as a string", key);
    if (strlen(text) != json_string_length(v) || strlen(text) > max)
        return err_set(err, ERR_INVALID, "'%s' must have at most %zu bytes and no NUL", key, max);
    *out = text;
    return 0;
}

static int take_choice(const json_t *obj, const char *key, const char *const *names, int count,
                       int *out, struct err *err)
{
    const char *text = json_string_value(json_object_get(obj, key));
    char all[128] = "", seen[VALUE_SHOWN_MAX];
    size_t len = 0;

    for (int i = 0; i < count; i++) {
        if (text != NULL && strcmp(names[i], text) == 0) {
            *out = i;
            return 0;
        }
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", names[i]);
    }
    return err_set(err, ERR_INVALID, "'%s' is '%s', but must be one of %s", key,
                   text ? str_visible(text, strlen(text), seen, sizeof(seen)) : "(no string)", all);
}

static bool is_word(const char *s, bool may_start_with_digit)
{
    if (*s == '\0' || strlen(s) > NAME_LEN_MAX ||
        (!may_start_with_digit && isdigit((unsigned char)*s)))
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_')
            return false;
    return true;
}

static int parse_name(const json_t *obj, const char **out, struct err *err)
{
    const char *name;
    char seen[VALUE_SHOWN_MAX];

    if (take_text(obj, "name", 1024, true, &name, err) != 0)
        return -1;
    if (!is_word(name, false) || str_has_prefix(name, "KS_") || str_has_prefix(name, "__"))
        return err_set(
            err, ERR_INVALID,
            "'%s' cannot be a parameter's name: letters, digits and _ (at most %d, no digit first, "
            "not KS_... or __...), because it becomes a build macro",
            str_visible(name, strlen(name), seen, sizeof(seen)), NAME_LEN_MAX);
    if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0)
        return err_set(err, ERR_INVALID, "'%s' cannot be a parameter's name", name);
    *out = name;
    return 0;
}

/* As C source reads it: a real keeps a point, so that 1.0 does not become a whole number. */
static char *real_text(double v)
{
    char text[40];

    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    if (strpbrk(text, ".e") == NULL)
        strncat(text, ".0", sizeof(text) - strlen(text) - 1);
    return xstrdup(text);
}

static char *whole_text(double v)
{
    char text[40];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    return xstrdup(text);
}

/* Reads one value of the type; `*num` and the owned `*text` are set on success. */
static int read_value(enum space_type type, const json_t *v, double *num, char **text,
                      struct err *err)
{
    switch (type) {
    case SPACE_INT:
        *num = (double)json_integer_value(v);
        if (!json_is_integer(v) || json_integer_value(v) > whole_max ||
            json_integer_value(v) < -whole_max)
            return err_set(err, ERR_INVALID, "must be a whole number of at most 2^53");
        *text = whole_text(*num);
        return 0;
    case SPACE_REAL:
        *num = json_number_value(v) + 0.0; /* -0 is 0 */
        if (!json_is_number(v) || !isfinite(*num))
            return err_set(err, ERR_INVALID, "must be a finite number");
        *text = real_text(*num);
        return 0;
    case SPACE_BOOL:
        if (!json_is_boolean(v))
            return err_set(err, ERR_INVALID, "must be true or false");
        *num = json_is_true(v);
        *text = xstrdup(*num != 0.0 ? "1" : "0");
        return 0;
    case SPACE_ENUM:
        if (!json_is_string(v) || !is_word(json_string_value(v), true) ||
            strlen(json_string_value(v)) != json_string_length(v))
            return err_set(err, ERR_INVALID, "must be a string of at most %d letters, digits and _",
                           NAME_LEN_MAX);
        *num = 0.0;
        *text = xstrdup(json_string_value(v));
        return 0;
    case SPACE_TYPE_COUNT:
        break;
    }
    assert(false);
    return -1;
}

static char *shown(const json_t *v, char *out, size_t size)
{
    CLEANUP(freep) char *text = v ? jsonx_canonical(v) : NULL;

    return str_visible(text ? text : "(none)", text ? strlen(text) : 6, out, size);
}

static int add_value(struct space_param *p, struct space_value *values, const json_t *v,
                     struct err *err)
{
    struct space_value *slot = &values[p->n_values];
    char *text = NULL, seen[VALUE_SHOWN_MAX];

    if (read_value(p->type, v, &slot->num, &text, err) != 0)
        return err_ctx(err, "value %s", shown(v, seen, sizeof(seen)));
    slot->text = text;
    if (p->type == SPACE_ENUM)
        slot->num = p->n_values;
    for (uint16_t i = 0; i < p->n_values; i++)
        if (strcmp(values[i].text, text) == 0) {
            free(text);
            slot->text = NULL;
            return err_set(err, ERR_INVALID, "value %s is listed twice",
                           shown(v, seen, sizeof(seen)));
        }
    p->n_values++;
    return 0;
}

static int parse_values(struct space_param *p, const json_t *list, struct err *err)
{
    size_t n = json_array_size(list);
    struct space_value *values;

    if (!json_is_array(list) || n == 0)
        return err_set(err, ERR_INVALID, "'values' must be a list of at least one value");
    if (n > SPACE_VALUES_MAX)
        return err_set(err, ERR_LIMIT, "'values' has %zu values, at most %d are allowed", n,
                       SPACE_VALUES_MAX);
    values = xcalloc(n, sizeof(*values));
    p->values = values;
    for (size_t i = 0; i < n; i++)
        if (add_value(p, values, json_array_get(list, i), err) != 0)
            return -1;
    return 0;
}

static int value_of_json(const struct space_param *p, const json_t *v, uint16_t *out)
{
    struct err ignored;
    double num;
    char *text = NULL;
    int found = -1;

    if (v == NULL || read_value(p->type, v, &num, &text, &ignored) != 0)
        return -1;
    for (uint16_t i = 0; i < p->n_values && found < 0; i++)
        if (strcmp(p->values[i].text, text) == 0)
            found = i;
    free(text);
    if (found < 0)
        return -1;
    *out = (uint16_t)found;
    return 0;
}

static int parse_value_help(struct space_param *p, const json_t *help, struct err *err)
{
    struct space_value *values = (struct space_value *)p->values;
    const char *key;
    json_t *v;

    if (help == NULL)
        return 0;
    if (!json_is_object(help) || p->type != SPACE_ENUM)
        return err_set(err, ERR_INVALID, "'value_help' must be an object, of an enum parameter");
    json_object_foreach ((json_t *)help, key, v) {
        const char *text = json_string_value(v);
        char seen[VALUE_SHOWN_MAX];
        uint16_t i = 0;

        while (i < p->n_values && strcmp(values[i].text, key) != 0)
            i++;
        if (i == p->n_values || text == NULL || strlen(text) > HELP_LEN_MAX)
            return err_set(err, ERR_INVALID,
                           "'value_help' has '%s', which is no value with a text of its own",
                           str_visible(key, strlen(key), seen, sizeof(seen)));
        values[i].help = xstrdup(text);
    }
    return 0;
}

static int parse_texts(struct space_param *p, const json_t *obj, struct err *err)
{
    const char *technique, *help;

    if (take_text(obj, "technique", 128, false, &technique, err) != 0 ||
        take_text(obj, "help", HELP_LEN_MAX, false, &help, err) != 0)
        return -1;
    p->technique = technique ? xstrdup(technique) : NULL;
    p->help = help ? xstrdup(help) : NULL;
    return parse_value_help(p, json_object_get(obj, "value_help"), err);
}

static int parse_param_body(struct space_param *p, const json_t *obj, struct err *err)
{
    static const char *const keys[] = { "name",    "type",      "kind", "role",       "values",
                                        "default", "technique", "help", "value_help", NULL };
    char seen[VALUE_SHOWN_MAX];
    int type, kind, role;

    if (check_keys(obj, keys, "the parameter", err) != 0 ||
        take_choice(obj, "type", type_names, SPACE_TYPE_COUNT, &type, err) != 0 ||
        take_choice(obj, "kind", kind_names, SPACE_KIND_COUNT, &kind, err) != 0 ||
        take_choice(obj, "role", role_names, SPACE_ROLE_COUNT, &role, err) != 0)
        return -1;
    p->type = (enum space_type)type;
    p->kind = (enum space_kind)kind;
    p->role = (enum space_role)role;
    if (parse_values(p, json_object_get(obj, "values"), err) != 0)
        return -1;
    if (value_of_json(p, json_object_get(obj, "default"), &p->default_index) != 0)
        return err_set(err, ERR_INVALID, "'default' is %s, which is not one of its values",
                       shown(json_object_get(obj, "default"), seen, sizeof(seen)));
    return parse_texts(p, obj, err);
}

static int parse_param(struct space *s, const json_t *obj, struct err *err)
{
    struct space_param *p = &s->params[s->n];
    const char *name = NULL;

    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "parameter %zu is not an object", s->n);
    if (parse_name(obj, &name, err) != 0)
        return err_ctx(err, "parameter %zu", s->n);
    if (space_find(s, name) >= 0)
        return err_set(err, ERR_INVALID, "parameter '%s' is declared twice", name);
    p->name = xstrdup(name);
    s->n++;
    if (parse_param_body(p, obj, err) != 0)
        return err_ctx(err, "parameter '%s'", name);
    return 0;
}

static int parse_params(struct space *s, const json_t *list, struct err *err)
{
    if (!json_is_array(list) || json_array_size(list) == 0)
        return err_set(err, ERR_INVALID, "'parameters' must be a list of at least one parameter");
    if (json_array_size(list) > SPACE_PARAMS_MAX)
        return err_set(err, ERR_LIMIT, "'parameters' has %zu parameters, at most %d are allowed",
                       json_array_size(list), SPACE_PARAMS_MAX);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (parse_param(s, json_array_get(list, i), err) != 0)
            return -1;
    return 0;
}

/* A parameter MODE_a beside an enum MODE with a value a would be one macro with two meanings. */
static int check_macros(const struct space *s, struct err *err)
{
    for (size_t p = 0; p < s->n; p++) {
        size_t len = strlen(s->params[p].name);

        for (size_t q = 0; q < s->n && s->params[p].type == SPACE_ENUM; q++) {
            const char *other = s->params[q].name;

            if (strncmp(other, s->params[p].name, len) == 0 && other[len] == '_' &&
                space_value_find(s, p, other + len + 1) >= 0)
                return err_set(err, ERR_INVALID,
                               "parameter '%s' has the macro name of value '%s' of parameter '%s'",
                               other, other + len + 1, s->params[p].name);
        }
    }
    return 0;
}

/* ---- constraints ---- */

static int expr_find(void *ctx, const char *name, size_t len, enum space_expr_type *type)
{
    static const enum space_expr_type types[SPACE_TYPE_COUNT] = {
        [SPACE_INT] = SPACE_EXPR_INT,
        [SPACE_REAL] = SPACE_EXPR_REAL,
        [SPACE_BOOL] = SPACE_EXPR_BOOL,
        [SPACE_ENUM] = SPACE_EXPR_TEXT,
    };
    const struct space *s = ctx;

    for (size_t p = 0; p < s->n; p++)
        if (strlen(s->params[p].name) == len && memcmp(s->params[p].name, name, len) == 0) {
            *type = types[s->params[p].type];
            return (int)p;
        }
    return -1;
}

static int expr_text_value(void *ctx, int var, const char *text, size_t len)
{
    const struct space *s = ctx;
    const struct space_param *p = &s->params[var];

    for (uint16_t i = 0; i < p->n_values; i++)
        if (strlen(p->values[i].text) == len && memcmp(p->values[i].text, text, len) == 0)
            return i;
    return -1;
}

static bool evaluate(const struct space *s, const struct constraint *c, const uint16_t *a)
{
    double vars[SPACE_PARAMS_MAX];

    for (size_t i = 0; i < c->n_vars; i++)
        vars[c->var[i]] = s->params[c->var[i]].values[a[c->var[i]]].num;
    return space_expr_eval(c->expr, vars);
}

bool constraint_holds(const struct space *s, const struct constraint *c, const uint16_t *a)
{
    uint32_t at = 0;

    if (c->table == NULL)
        return evaluate(s, c, a);
    for (size_t i = 0; i < c->n_vars; i++)
        at += c->stride[i] * a[c->var[i]];
    return c->table[at] != 0;
}

/* Lists the parameters mentioned, and tabulates the truth values when they are few. */
static void constraint_prepare(const struct space *s, struct constraint *c)
{
    uint16_t a[SPACE_PARAMS_MAX] = { 0 };
    size_t size = 1;

    c->vars = space_expr_vars(c->expr);
    for (size_t p = 0; p < s->n; p++)
        if (c->vars >> p & 1) {
            c->var[c->n_vars] = (uint8_t)p;
            c->stride[c->n_vars++] = (uint32_t)MIN(size, CONSTRAINT_TABLE_MAX);
            size = MIN(size * s->params[p].n_values, (size_t)CONSTRAINT_TABLE_MAX + 1);
        }
    if (size > CONSTRAINT_TABLE_MAX)
        return;
    c->table = xmalloc(size);
    for (size_t at = 0; at < size; at++) {
        size_t rest = at;

        for (size_t i = 0; i < c->n_vars; i++) {
            a[c->var[i]] = (uint16_t)(rest % s->params[c->var[i]].n_values);
            rest /= s->params[c->var[i]].n_values;
        }
        c->table[at] = evaluate(s, c, a);
    }
}

static int parse_constraints(struct space *s, const json_t *list, struct err *err)
{
    struct space_expr_names names = { s, expr_find, expr_text_value };

    if (list == NULL)
        return 0;
    if (!json_is_array(list))
        return err_set(err, ERR_INVALID, "'constraints' must be a list of expressions");
    if (json_array_size(list) > SPACE_CONSTRAINTS_MAX)
        return err_set(err, ERR_LIMIT, "'constraints' has %zu entries, at most %d are allowed",
                       json_array_size(list), SPACE_CONSTRAINTS_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        struct constraint *c = &s->constraints[i];
        char seen[VALUE_SHOWN_MAX];

        if (text == NULL || strlen(text) != json_string_length(json_array_get(list, i)))
            return err_set(err, ERR_INVALID, "constraint %zu is not a string", i);
        if (space_expr_parse(text, &names, &c->expr, err) != 0)
            return err_ctx(err, "constraint %zu, '%s'", i,
                           str_visible(text, strlen(text), seen, sizeof(seen)));
        s->n_constraints++;
        constraint_prepare(s, c);
    }
    return 0;
}

static int parse_body(struct space *s, const json_t *doc, struct err *err)
{
    static const char *const keys[] = { "parameters", "constraints", NULL };
    uint16_t a[SPACE_PARAMS_MAX];

    if (!json_is_object(doc))
        return err_set(err, ERR_INVALID, "the space must be a JSON object");
    if (check_keys(doc, keys, "the space", err) != 0 ||
        parse_params(s, json_object_get(doc, "parameters"), err) != 0 ||
        check_macros(s, err) != 0 ||
        parse_constraints(s, json_object_get(doc, "constraints"), err) != 0)
        return -1;
    space_default(s, a);
    if (space_check(s, a, err) != 0)
        return err_ctx(err, "the default assignment");
    return 0;
}

int space_parse(const json_t *doc, const char *what, struct space **out, struct err *err)
{
    struct space *s = xcalloc(1, sizeof(*s));

    if (parse_body(s, doc, err) != 0) {
        space_free(s);
        return err_ctx(err, "%s", what);
    }
    *out = s;
    return 0;
}

int space_load(const char *path, struct space **out, struct err *err)
{
    json_t *doc;
    int rc;

    if (jsonx_load(path, SPACE_TEXT_MAX, &doc, err) != 0)
        return -1;
    rc = space_parse(doc, path, out, err);
    json_decref(doc);
    return rc;
}

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
    char seen[VALUE_SHOWN_MAX], allowed[256];
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

        if (value_of_json(&s->params[p], given, &a[p]) == 0)
            continue;
        list_values(&s->params[p], allowed, sizeof(allowed));
        if (given == NULL)
            return err_set(err, ERR_INVALID, "parameter '%s' has no value (%s: %s)",
                           s->params[p].name, type_names[s->params[p].type], allowed);
        return err_set(err, ERR_INVALID, "parameter '%s' is %s, but must be one of %s (%s)",
                       s->params[p].name, shown(given, seen, sizeof(seen)), allowed,
                       type_names[s->params[p].type]);
    }
    memcpy(out, a, s->n * sizeof(*a));
    return 0;
}

json_t *space_defines(const struct space *s, const uint16_t *a)
{
    json_t *obj = json_object();
    char text[16], name[2 * NAME_LEN_MAX + 2];

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
