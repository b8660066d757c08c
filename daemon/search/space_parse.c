/* SPDX-License-Identifier: Apache-2.0 */
/* Space documents: strict parsing into a space; see space.h. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/space_impl.h"

enum { HELP_LEN_MAX = 4096 };

static const char *const kind_names[SPACE_KIND_COUNT] = { "ordinal", "categorical" };
static const char *const role_names[SPACE_ROLE_COUNT] = { "structural", "numeric" };

static int check_keys(const json_t *obj, const char *const *allowed, const char *what,
                      struct err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach ((json_t *)obj, key, v) {
        char seen[SPACE_SHOWN_MAX];
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
    char all[128] = "", seen[SPACE_SHOWN_MAX];
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

static int parse_name(const json_t *obj, const char **out, struct err *err)
{
    const char *name;
    char seen[SPACE_SHOWN_MAX];

    if (take_text(obj, "name", 1024, true, &name, err) != 0)
        return -1;
    if (!space_is_word(name, false) || str_has_prefix(name, "KS_") || str_has_prefix(name, "__"))
        return err_set(
            err, ERR_INVALID,
            "'%s' cannot be a parameter's name: letters, digits and _ (at most %d, no digit first, "
            "not KS_... or __...), because it becomes a build macro",
            str_visible(name, strlen(name), seen, sizeof(seen)), SPACE_NAME_MAX);
    if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0)
        return err_set(err, ERR_INVALID, "'%s' cannot be a parameter's name", name);
    *out = name;
    return 0;
}

static int add_value(struct space_param *p, struct space_value *values, const json_t *v,
                     struct err *err)
{
    struct space_value *slot = &values[p->n_values];
    char *text = NULL, seen[SPACE_SHOWN_MAX];

    if (space_value_read(p->type, v, &slot->num, &text, err) != 0)
        return err_ctx(err, "value %s", space_shown(v, seen, sizeof(seen)));
    slot->text = text;
    if (p->type == SPACE_ENUM)
        slot->num = p->n_values;
    for (uint16_t i = 0; i < p->n_values; i++)
        if (strcmp(values[i].text, text) == 0) {
            free(text);
            slot->text = NULL;
            return err_set(err, ERR_INVALID, "value %s is listed twice",
                           space_shown(v, seen, sizeof(seen)));
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
        char seen[SPACE_SHOWN_MAX];
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
    char seen[SPACE_SHOWN_MAX];
    int type = 0, kind = 0, role = 0;

    if (check_keys(obj, keys, "the parameter", err) != 0 ||
        take_choice(obj, "type", space_type_names, SPACE_TYPE_COUNT, &type, err) != 0 ||
        take_choice(obj, "kind", kind_names, SPACE_KIND_COUNT, &kind, err) != 0 ||
        take_choice(obj, "role", role_names, SPACE_ROLE_COUNT, &role, err) != 0)
        return -1;
    p->type = (enum space_type)type;
    p->kind = (enum space_kind)kind;
    p->role = (enum space_role)role;
    if (parse_values(p, json_object_get(obj, "values"), err) != 0)
        return -1;
    if (space_value_of_json(p, json_object_get(obj, "default"), &p->default_index) != 0)
        return err_set(err, ERR_INVALID, "'default' is %s, which is not one of its values",
                       space_shown(json_object_get(obj, "default"), seen, sizeof(seen)));
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
    if (!json_is_array(list))
        return err_set(err, ERR_INVALID, "'parameters' must be a list of parameters");
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

static int parse_constraints(struct space *s, const json_t *list, struct err *err)
{

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
        char seen[SPACE_SHOWN_MAX];

        if (text == NULL || strlen(text) != json_string_length(json_array_get(list, i)))
            return err_set(err, ERR_INVALID, "constraint %zu is not a string", i);
        if (constraint_parse(s, text, c, err) != 0)
            return err_ctx(err, "constraint %zu, '%s'", i,
                           str_visible(text, strlen(text), seen, sizeof(seen)));
        s->n_constraints++;
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
