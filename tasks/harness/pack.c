/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a task pack; see pack.h. */
#include "pack.h"

#include <stdio.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/param.h"
#include "base/str.h"
#include "shape.h"

#define WORKLOADS_BYTES_MAX (16u << 20)
#define PARAM_VALUES_MAX (1u << 22)

/* task.json, as parsed. Fields that only other programs use are read for their types' sake. */
struct pack_json {
    uint64_t format;
    char *family, *summary, *module, *baseline, *language, *dtype, *bottleneck;
    json_t *template, *axes, *definitions, *inputs, *outputs, *scratch_bytes, *shape_features,
        *regime, *related;
};

#define ROW(owner, field, kind, flag)                                                              \
    {                                                                                              \
        .name = #field, .type = (kind), .offset = offsetof(struct owner, field), .flags = (flag)   \
    }

static const struct param pack_rows[] = {
    ROW(pack_json, format, PARAM_U64, PARAM_REQUIRED),
    ROW(pack_json, family, PARAM_NAME, PARAM_REQUIRED),
    ROW(pack_json, summary, PARAM_STR, 0),
    ROW(pack_json, module, PARAM_NAME, PARAM_REQUIRED),
    ROW(pack_json, baseline, PARAM_NAME, PARAM_REQUIRED),
    ROW(pack_json, template, PARAM_JSON, 0),
    ROW(pack_json, language, PARAM_STR, 0),
    ROW(pack_json, dtype, PARAM_STR, 0),
    ROW(pack_json, bottleneck, PARAM_STR, 0),
    ROW(pack_json, axes, PARAM_JSON, PARAM_REQUIRED),
    ROW(pack_json, definitions, PARAM_JSON, PARAM_REQUIRED),
    ROW(pack_json, inputs, PARAM_JSON, PARAM_REQUIRED),
    ROW(pack_json, outputs, PARAM_JSON, PARAM_REQUIRED),
    ROW(pack_json, scratch_bytes, PARAM_JSON, 0),
    ROW(pack_json, shape_features, PARAM_JSON, 0),
    ROW(pack_json, regime, PARAM_JSON, 0),
    ROW(pack_json, related, PARAM_JSON, 0),
    { 0 },
};

struct template_json {
    char *source, *space;
};

static const struct param template_rows[] = {
    ROW(template_json, source, PARAM_NAME, PARAM_REQUIRED),
    ROW(template_json, space, PARAM_NAME, PARAM_REQUIRED),
    { 0 },
};

struct definition_json {
    char *name;
    json_t *axes;
};

static const struct param definition_rows[] = {
    ROW(definition_json, name, PARAM_NAME, PARAM_REQUIRED),
    ROW(definition_json, axes, PARAM_JSON, PARAM_REQUIRED),
    { 0 },
};

struct tensor_json {
    char *name, *dtype;
    json_t *shape, *tolerance;
    bool vary;
};

static const struct param tensor_rows[] = {
    ROW(tensor_json, name, PARAM_NAME, PARAM_REQUIRED),
    ROW(tensor_json, dtype, PARAM_STR, PARAM_REQUIRED),
    ROW(tensor_json, shape, PARAM_JSON, PARAM_REQUIRED),
    ROW(tensor_json, tolerance, PARAM_JSON, 0),
    ROW(tensor_json, vary, PARAM_BOOL, 0),
    { 0 },
};

static const struct param tolerance_rows[] = {
    { .name = "atol",
      .type = PARAM_REAL,
      .offset = offsetof(struct tolerance, abs_tol),
      .max = 1e30 },
    { .name = "rtol",
      .type = PARAM_REAL,
      .offset = offsetof(struct tolerance, rel_tol),
      .max = 1e30 },
    { .name = "tensor_rel",
      .type = PARAM_REAL,
      .offset = offsetof(struct tolerance, tensor_rel),
      .max = 1e30 },
    { .name = "row_rel",
      .type = PARAM_REAL,
      .offset = offsetof(struct tolerance, row_rel),
      .max = 1e30 },
    { 0 },
};

struct workload_json {
    char *name;
    json_t *axes, *params;
};

static const struct param workload_rows[] = {
    ROW(workload_json, name, PARAM_NAME, PARAM_REQUIRED),
    ROW(workload_json, axes, PARAM_JSON, PARAM_REQUIRED),
    ROW(workload_json, params, PARAM_JSON, 0),
    { 0 },
};

static void pack_json_release(struct pack_json *j)
{
    param_release(pack_rows, j);
}

static int pack_open(const struct pack *p, const char *name, size_t max, char **out,
                     struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", p->dir, name);
    CLEANUP(buf_release) struct buf text = { .max = max };

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    if (file_read(path, &text, err) != 0)
        return -1;
    *out = buf_take(&text);
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for '%s'", path);
}

int pack_read(const struct pack *p, const char *name, char **out, struct err *err)
{
    if (!str_is_name(name))
        return err_set(err, ERR_INVALID, "'%s' is not the name of a file in the pack", name);
    return pack_open(p, name, PACK_SOURCE_MAX, out, err);
}

/* ---- tensors ---- */

static int parse_tolerance(const json_t *obj, struct tolerance *tol, struct err *err)
{
    struct tolerance t = { -1, -1, -1, -1 };

    if (obj != NULL && param_parse(tolerance_rows, obj, &t, err) != 0)
        return -1;
    if (t.abs_tol < 0 && t.rel_tol >= 0)
        t.abs_tol = 0;
    if (t.abs_tol < 0 && t.tensor_rel < 0 && t.row_rel < 0)
        t.abs_tol = 0; /* nothing said: exact */
    *tol = t;
    return 0;
}

static int fill_tensor(const struct tensor_json *j, const json_t *item, struct pack_tensor *t,
                       struct err *err)
{
    size_t i;
    json_t *dim;

    t->name = jsonx_str(item, "name", "");
    t->dtype = dtype_from_name(j->dtype);
    t->vary = j->vary;
    if (t->dtype == KS_DTYPE_COUNT)
        return err_set(err, ERR_INVALID,
                       "'dtype' is '%.40s'; allowed are f32, f64, f16, bf16, f8_e4m3, i32, i64, u8",
                       j->dtype);
    if (strlen(t->name) >= WIRE_NAME_MAX)
        return err_set(err, ERR_LIMIT, "the name is longer than %d", WIRE_NAME_MAX - 1);
    if (!json_is_array(j->shape) || json_array_size(j->shape) > KS_RANK_MAX)
        return err_set(err, ERR_INVALID, "'shape' is not a list of at most %d expressions",
                       KS_RANK_MAX);
    json_array_foreach (j->shape, i, dim) {
        t->shape[i] = json_string_value(dim);
        if (t->shape[i] == NULL)
            return err_set(err, ERR_INVALID, "entry %zu of 'shape' is not a string", i);
    }
    t->rank = (int)json_array_size(j->shape);
    return parse_tolerance(j->tolerance, &t->tol, err);
}

static int parse_tensors(const json_t *list, const char *what, struct pack_tensor *out, int *n,
                         struct err *err)
{
    size_t i;
    json_t *item;

    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) >= KS_TENSORS_MAX)
        return err_set(err, ERR_INVALID, "'%s' is not a list of 1 to %d tensors", what,
                       KS_TENSORS_MAX - 1);
    json_array_foreach (list, i, item) {
        struct tensor_json j = { .vary = true };
        int rc = param_parse(tensor_rows, item, &j, err);

        if (rc == 0)
            rc = fill_tensor(&j, item, &out[i], err);
        param_release(tensor_rows, &j);
        if (rc != 0)
            return err_ctx(err, "'%s' entry %zu", what, i);
    }
    *n = (int)json_array_size(list);
    return 0;
}

/* ---- axes ---- */

static int parse_axes(const json_t *obj, struct ks_axis *out, int *n, struct err *err)
{
    const char *key;
    json_t *v;

    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "'axes' is not an object");
    json_object_foreach ((json_t *)obj, key, v) {
        if (*n >= WIRE_AXES_MAX || strlen(key) >= WIRE_NAME_MAX)
            return err_set(err, ERR_LIMIT, "more than %d axes, or a name of more than %d letters",
                           WIRE_AXES_MAX, WIRE_NAME_MAX - 1);
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) > SHAPE_DIM_MAX)
            return err_set(err, ERR_INVALID, "axis '%.40s' is not an integer in 0 to %lld", key,
                           SHAPE_DIM_MAX);
        out[*n].name = key;
        out[(*n)++].value = json_integer_value(v);
    }
    return 0;
}

/* Every axis that was given is declared as `kind`, and the other way round. */
static int check_axes(const json_t *declared, const char *kind, const struct ks_axis *axes, int n,
                      struct err *err)
{
    const char *key;
    json_t *v;

    for (int i = 0; i < n; i++)
        if (strcmp(jsonx_str(declared, axes[i].name, ""), kind) != 0)
            return err_set(err, ERR_INVALID, "'%s' is not declared as a '%s' axis", axes[i].name,
                           kind);
    json_object_foreach ((json_t *)declared, key, v) {
        bool found = false;

        for (int i = 0; i < n; i++)
            found = found || strcmp(axes[i].name, key) == 0;
        if (!found && strcmp(json_is_string(v) ? json_string_value(v) : "", kind) == 0)
            return err_set(err, ERR_INVALID, "the '%s' axis '%.40s' has no value", kind, key);
    }
    return 0;
}

/* ---- workloads ---- */

static int parse_numbers(const json_t *v, struct ks_param *p, struct err *err)
{
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    double *values;

    if (n > PARAM_VALUES_MAX)
        return err_set(err, ERR_LIMIT, "'%.40s' has more than %u numbers", p->name,
                       PARAM_VALUES_MAX);
    values = calloc(n ? n : 1, sizeof(*values));
    if (values == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    p->values = values;
    p->n = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;

        if (json_is_boolean(item))
            values[i] = json_is_true(item);
        else if (json_is_number(item))
            values[i] = json_number_value(item);
        else
            return err_set(err, ERR_INVALID,
                           "'%.40s' is not a number, a list of numbers, a boolean or a string",
                           p->name);
    }
    return 0;
}

static int parse_params(const json_t *obj, struct workload *w, struct err *err)
{
    const char *key;
    json_t *v;

    if (obj == NULL)
        return 0;
    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "'params' is not an object");
    w->params = calloc(json_object_size(obj) + 1, sizeof(*w->params));
    if (w->params == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    json_object_foreach ((json_t *)obj, key, v) {
        struct ks_param *p = &w->params[w->n_params++];

        p->name = key;
        if (json_is_string(v))
            p->text = json_string_value(v);
        else if (parse_numbers(v, p, err) != 0)
            return -1;
    }
    return 0;
}

static int fill_workload(struct pack *p, const json_t *axes, const struct workload_json *j,
                         const json_t *line, struct workload *w, struct err *err)
{
    int n = p->n_constants;

    w->name = jsonx_str(line, "name", "");
    memcpy(w->axes, p->constants, sizeof(p->constants));
    if (parse_axes(j->axes, w->axes, &n, err) != 0)
        return -1;
    if (check_axes(axes, "var", w->axes + p->n_constants, n - p->n_constants, err) != 0)
        return -1;
    p->n_axes = n;
    return parse_params(j->params, w, err);
}

static int parse_workload(struct pack *p, const json_t *axes, const char *text, size_t len,
                          struct err *err)
{
    struct workload *w = &p->workloads[p->n_workloads];
    struct workload_json j = { 0 };
    json_t *line = NULL;
    int rc;

    if (jsonx_parse(text, len, "workload", &line, err) != 0)
        return -1;
    json_array_append_new(p->lines, line);
    rc = param_parse(workload_rows, line, &j, err);
    if (rc == 0) {
        p->n_workloads++;
        rc = fill_workload(p, axes, &j, line, w, err);
    }
    param_release(workload_rows, &j);
    return rc;
}

static int open_set(const struct pack *p, const char *set, char **out, struct err *err)
{
    CLEANUP(freep) char *own = str_printf("workloads/%s.%s.jsonl", p->definition, set);
    CLEANUP(freep) char *shared = str_printf("workloads/%s.jsonl", set);

    if (own == NULL || shared == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    if (pack_open(p, own, WORKLOADS_BYTES_MAX, out, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    if (pack_open(p, shared, WORKLOADS_BYTES_MAX, out, err) != 0)
        return err_ctx(err, "workload set '%s'", set);
    return 0;
}

static int parse_workloads(struct pack *p, const json_t *axes, const char *set, struct err *err)
{
    CLEANUP(freep) char *text = NULL;
    int number = 0;

    if (!str_is_name(set))
        return err_set(err, ERR_INVALID, "the workload set '%.40s' is not a name", set);
    if (open_set(p, set, &text, err) != 0)
        return -1;
    p->lines = json_array();
    p->workloads = calloc(PACK_WORKLOADS_MAX, sizeof(*p->workloads));
    if (p->lines == NULL || p->workloads == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    for (char *at = text; *at != '\0';) {
        size_t len = strcspn(at, "\n");

        number++;
        if (strspn(at, " \t\r") < len) {
            if (p->n_workloads == PACK_WORKLOADS_MAX)
                return err_set(err, ERR_LIMIT, "more than %d workloads in the set '%s'",
                               PACK_WORKLOADS_MAX, set);
            if (parse_workload(p, axes, at, len, err) != 0)
                return err_ctx(err, "workload set '%s', line %d", set, number);
        }
        at += len + (at[len] == '\n');
    }
    if (p->n_workloads == 0)
        return err_set(err, ERR_INVALID, "the workload set '%s' is empty", set);
    return 0;
}

/* ---- the pack ---- */

static int pick_definition(struct pack *p, const struct pack_json *j, const char *wanted,
                           struct err *err)
{
    size_t i;
    json_t *item;

    json_array_foreach (j->definitions, i, item) {
        struct definition_json d = { 0 };
        int rc = param_parse(definition_rows, item, &d, err);
        bool match = rc == 0 && strcmp(d.name, wanted) == 0;

        if (match) {
            p->definition = jsonx_str(item, "name", "");
            rc = parse_axes(d.axes, p->constants, &p->n_constants, err);
            if (rc == 0)
                rc = check_axes(j->axes, "const", p->constants, p->n_constants, err);
        }
        param_release(definition_rows, &d);
        if (rc != 0)
            return err_ctx(err, "'definitions' entry %zu", i);
        if (match)
            return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "the pack '%s' has no definition '%.96s'", p->family,
                   wanted);
}

static int take_template(struct pack *p, const json_t *obj, struct err *err)
{
    struct template_json t = { 0 };

    if (obj == NULL)
        return 0;
    if (param_parse(template_rows, obj, &t, err) != 0)
        return err_ctx(err, "'template'");
    p->template_source = t.source;
    p->template_space = t.space;
    return 0;
}

static int take_scratch(struct pack *p, const json_t *v, struct err *err)
{
    if (v == NULL)
        p->scratch = strdup("0");
    else if (json_is_string(v))
        p->scratch = strdup(json_string_value(v));
    else if (json_is_integer(v) && json_integer_value(v) >= 0)
        p->scratch = str_printf("%lld", (long long)json_integer_value(v));
    else
        return err_set(err, ERR_INVALID,
                       "'scratch_bytes' is not an integer >= 0 or a shape expression");
    return p->scratch ? 0 : err_set(err, ERR_NOMEM, "no memory");
}

static int pack_fill(struct pack *p, struct pack_json *j, const char *definition, const char *set,
                     struct err *err)
{
    if (j->format != 1)
        return err_set(err, ERR_INVALID, "'format' is %llu; allowed is 1",
                       (unsigned long long)j->format);
    p->family = TAKE(j->family);
    p->module = TAKE(j->module);
    p->baseline = TAKE(j->baseline);
    if (!json_is_array(j->definitions) || !json_is_object(j->axes))
        return err_set(err, ERR_INVALID, "'definitions' is not a list, or 'axes' is not an object");
    if (parse_tensors(j->inputs, "inputs", p->inputs, &p->n_inputs, err) != 0 ||
        parse_tensors(j->outputs, "outputs", p->outputs, &p->n_outputs, err) != 0)
        return -1;
    if (p->n_inputs + p->n_outputs > KS_TENSORS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d tensors", KS_TENSORS_MAX);
    if (take_template(p, j->template, err) != 0 || take_scratch(p, j->scratch_bytes, err) != 0)
        return -1;
    if (pick_definition(p, j, definition, err) != 0)
        return -1;
    return set ? parse_workloads(p, j->axes, set, err) : 0;
}

int pack_load(const char *dir, const char *definition, const char *set, struct pack **out,
              struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/task.json", dir);
    CLEANUP(pack_json_release) struct pack_json j = { 0 };
    struct pack *p = calloc(1, sizeof(*p));

    if (p == NULL || path == NULL) {
        free(p);
        return err_set(err, ERR_NOMEM, "no memory");
    }
    p->dir = strdup(dir);
    if (p->dir == NULL) {
        err_set(err, ERR_NOMEM, "no memory");
        goto fail;
    }
    if (jsonx_load(path, PACK_JSON_MAX, &p->root, err) != 0)
        goto fail;
    if (param_parse(pack_rows, p->root, &j, err) != 0 ||
        pack_fill(p, &j, definition, set, err) != 0) {
        err_ctx(err, "task pack '%s'", dir);
        goto fail;
    }
    *out = p;
    return 0;
fail:
    pack_free(p);
    return -1;
}

void pack_free(struct pack *p)
{
    if (p == NULL)
        return;
    for (int i = 0; i < p->n_workloads; i++) {
        for (int k = 0; k < p->workloads[i].n_params; k++)
            free((void *)p->workloads[i].params[k].values);
        free(p->workloads[i].params);
    }
    free(p->workloads);
    json_decref(p->lines);
    json_decref(p->root);
    free(p->family);
    free(p->module);
    free(p->baseline);
    free(p->template_source);
    free(p->template_space);
    free(p->scratch);
    free(p->dir);
    free(p);
}
