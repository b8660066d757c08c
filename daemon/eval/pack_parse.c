/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing of one task pack; see pack_parse.h. Every part is checked on its own, so that a broken
 * pack is told everything that is wrong with it.
 */
#include "eval/pack_parse.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/param.h"
#include "base/str.h"
#include "eval/pack_regime.h"

enum { PACK_JSON_MAX = 4 << 20, RANK_MAX = 6 };
static const int64_t axis_max = 1ll << 40;

static const char *const dtypes[] = { "f32", "f64", "f16", "bf16", "f8_e4m3",
                                      "i32", "i64", "u8",  NULL };
static const char *const bottlenecks[] = { "memory", "compute", "latency", "", NULL };

/* task.json and its parts as they stand; PARAM_JSON members are checked further below. */
struct pack_json {
    uint64_t format;
    char *family, *summary, *module, *baseline, *language, *dtype;
    int bottleneck;
    json_t *template, *axes, *definitions, *inputs, *outputs, *scratch_bytes, *shape_features,
        *regime, *related;
};

#define ROW(owner, member, kind, need)                                                             \
    {                                                                                              \
        .name = #member, .type = (kind), .offset = offsetof(struct owner, member), .flags = (need) \
    }

static const struct param pack_rows[] = { ROW(pack_json, format, PARAM_U64, PARAM_REQUIRED),
                                          ROW(pack_json, family, PARAM_NAME, PARAM_REQUIRED),
                                          ROW(pack_json, summary, PARAM_STR, 0),
                                          ROW(pack_json, module, PARAM_NAME, PARAM_REQUIRED),
                                          ROW(pack_json, baseline, PARAM_NAME, PARAM_REQUIRED),
                                          ROW(pack_json, template, PARAM_JSON, 0),
                                          ROW(pack_json, language, PARAM_STR, 0),
                                          ROW(pack_json, dtype, PARAM_STR, 0),
                                          { .name = "bottleneck",
                                            .type = PARAM_ENUM,
                                            .offset = offsetof(struct pack_json, bottleneck),
                                            .choices = bottlenecks },
                                          ROW(pack_json, axes, PARAM_JSON, PARAM_REQUIRED),
                                          ROW(pack_json, definitions, PARAM_JSON, PARAM_REQUIRED),
                                          ROW(pack_json, inputs, PARAM_JSON, PARAM_REQUIRED),
                                          ROW(pack_json, outputs, PARAM_JSON, PARAM_REQUIRED),
                                          ROW(pack_json, scratch_bytes, PARAM_JSON, 0),
                                          ROW(pack_json, shape_features, PARAM_JSON, 0),
                                          ROW(pack_json, regime, PARAM_JSON, 0),
                                          ROW(pack_json, related, PARAM_JSON, 0),
                                          { 0 } };

struct template_json {
    char *source, *space;
};
static const struct param template_rows[] = { ROW(template_json, source, PARAM_NAME,
                                                  PARAM_REQUIRED),
                                              ROW(template_json, space, PARAM_NAME, PARAM_REQUIRED),
                                              { 0 } };

struct definition_json {
    char *name;
    json_t *axes;
};
static const struct param definition_rows[] = {
    ROW(definition_json, name, PARAM_NAME, PARAM_REQUIRED),
    ROW(definition_json, axes, PARAM_JSON, PARAM_REQUIRED),
    { 0 }
};

struct tensor_json {
    char *name;
    int dtype;
    json_t *shape, *tolerance;
    bool vary;
};
static const struct param tensor_rows[] = { ROW(tensor_json, name, PARAM_NAME, PARAM_REQUIRED),
                                            { .name = "dtype",
                                              .type = PARAM_ENUM,
                                              .offset = offsetof(struct tensor_json, dtype),
                                              .flags = PARAM_REQUIRED,
                                              .choices = dtypes },
                                            ROW(tensor_json, shape, PARAM_JSON, PARAM_REQUIRED),
                                            ROW(tensor_json, tolerance, PARAM_JSON, 0),
                                            ROW(tensor_json, vary, PARAM_BOOL, 0),
                                            { 0 } };

struct tolerance_json {
    double absolute, relative, tensor, row;
};
#define BOUND(key, member)                                                                         \
    {                                                                                              \
        .name = (key), .type = PARAM_REAL, .offset = offsetof(struct tolerance_json, member),      \
        .max = 1e30                                                                                \
    }
static const struct param tolerance_rows[] = { BOUND("atol", absolute),
                                               BOUND("rtol", relative),
                                               BOUND("tensor_rel", tensor),
                                               BOUND("row_rel", row),
                                               { 0 } };

struct workload_json {
    char *name;
    json_t *axes, *params;
};
static const struct param workload_rows[] = { ROW(workload_json, name, PARAM_NAME, PARAM_REQUIRED),
                                              ROW(workload_json, axes, PARAM_JSON, PARAM_REQUIRED),
                                              ROW(workload_json, params, PARAM_JSON, 0),
                                              { 0 } };

void pack_problem(struct pack *p, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort(); /* as xmalloc does */
    va_end(ap);
    p->problems = xrealloc(p->problems, (p->n_problems + 1) * sizeof(char *));
    p->problems[p->n_problems++] = text;
}

static char *join(const char *dir, const char *name)
{
    char *path = str_printf("%s/%s", dir, name);

    if (path == NULL)
        abort();
    return path;
}

/* ---- Files ---- */

static void source_key(struct pack_source *s)
{
    unsigned char digest[32];
    int ok = EVP_Digest(s->text, s->len, digest, NULL, EVP_sha256(), NULL);

    assert(ok);
    str_hex(digest, sizeof(digest), s->key);
}

static void read_source(struct pack *p, const char *what, const char *name, struct pack_source *out)
{
    CLEANUP(buf_release) struct buf text = { .max = PACK_SOURCE_MAX };
    struct err err;

    out->path = join(p->dir, name);
    if (file_read(out->path, &text, &err) != 0)
        pack_problem(p, "'%s': %s", what, err.msg);
    else if (text.len == 0 || memchr(text.data, '\0', text.len))
        pack_problem(p, "'%s' is empty or holds a NUL byte", name);
    out->len = text.len;
    out->text = buf_take(&text);
    if (out->text == NULL)
        abort();
    source_key(out);
}

static void read_template(struct pack *p, const json_t *j)
{
    struct template_json t = { 0 };
    struct err err;

    if (j == NULL)
        return;
    if (param_parse(template_rows, j, &t, &err) != 0) {
        pack_problem(p, "'template': %s", err.msg);
        return;
    }
    read_source(p, "template", t.source, &p->template);
    p->space_path = join(p->dir, t.space);
    if (jsonx_load(p->space_path, PACK_SOURCE_MAX, &p->space, &err) != 0)
        pack_problem(p, "'template.space': %s", err.msg);
    else if (json_array_size(json_object_get(p->space, "parameters")) == 0)
        pack_problem(
            p, "'%s' needs a list 'parameters' of at least one: a template is there to be tuned",
            t.space);
    param_release(template_rows, &t);
}

/* Copies a text of lines, each as str_visible shows it. `out` has four bytes for each, and one
 * more. */
static void readme_clean(const char *text, size_t len, char *out)
{
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;
        size_t cr = n > 0 && text[at + n - 1] == '\r';

        str_visible(text + at, n - cr, out, 4 * n + 1);
        out += strlen(out);
        at += n;
        if (end != NULL) {
            *out++ = '\n';
            at++;
        }
    }
    *out = '\0';
}

/* The whole, and its first paragraph that is not a heading, its lines joined. */
static void read_readme(struct pack *p)
{
    CLEANUP(freep) char *path = join(p->dir, "README.md");
    CLEANUP(buf_release) struct buf text = { .max = PACK_README_MAX }, para = { .max = 4096 };
    struct err ignored;
    char *line, *rest;

    p->readme = xstrdup("");
    p->guide = xstrdup("");
    if (file_read(path, &text, &ignored) != 0 || text.len == 0)
        return;
    free(p->guide);
    p->guide = xmalloc(4 * text.len + 4);
    readme_clean(buf_str(&text), text.len, p->guide);
    for (rest = text.data; (line = strsep(&rest, "\n")) != NULL;) {
        bool blank = line[strspn(line, " \t\r")] == '\0';

        if (blank && para.len > 0)
            break;
        if (blank || line[0] == '#')
            continue;
        if ((para.len && buf_adds(&para, " ", &ignored) != 0) ||
            buf_adds(&para, line, &ignored) != 0)
            break; /* a very long paragraph is shown in part */
    }
    free(p->readme);
    p->readme = xmalloc(2 * para.len + 4);
    str_visible(buf_str(&para), para.len, p->readme, 2 * para.len + 4);
}

/* ---- Axes and tensors ---- */

/* "const" or "var"; NULL when the pack has no such axis. */
static const char *axis_kind(const struct pack *p, const char *name)
{
    return json_string_value(json_object_get(json_object_get(p->json, "axes"), name));
}

static void check_axes(struct pack *p, json_t *axes)
{
    const char *name;
    json_t *kind;

    if (!json_is_object(axes) || json_object_size(axes) > PACK_AXES_MAX) {
        pack_problem(p, "'axes' must be an object of at most %d axes", PACK_AXES_MAX);
        return;
    }
    p->var_axes = xcalloc(json_object_size(axes) + 1, sizeof(char *));
    json_object_foreach (axes, name, kind) {
        const char *text = json_string_value(kind);

        if (!str_is_name(name))
            pack_problem(p, "an axis must be named by letters, digits and '_'");
        else if (text && strcmp(text, "var") == 0)
            p->var_axes[p->n_var_axes++] = xstrdup(name);
        else if (text == NULL || strcmp(text, "const") != 0)
            pack_problem(p, "axis '%s' must be \"const\" or \"var\"", name);
    }
}

/* The end of one operand ("batch_size", "4", "(a + 1)" without its closing part); NULL: none. */
static const char *skip_operand(const struct pack *p, const char *s, int *depth)
{
    char name[100];
    size_t n = 0;

    while (*s == '(' || *s == ' ')
        *depth += *s++ == '(';
    if (isdigit((unsigned char)*s)) {
        while (isdigit((unsigned char)*s))
            s++;
        return s;
    }
    while (isalnum((unsigned char)s[n]) || s[n] == '_')
        n++;
    if (n == 0 || n >= sizeof(name))
        return NULL;
    memcpy(name, s, n);
    name[n] = '\0';
    return axis_kind(p, name) ? s + n : NULL;
}

/* Names of axes, integers, '+', '*' and parentheses. */
static bool is_shape_entry(const struct pack *p, const char *s)
{
    int depth = 0;

    for (;;) {
        s = skip_operand(p, s, &depth);
        if (s == NULL)
            return false;
        while (*s == ' ' || *s == ')') {
            if (*s++ == ')' && --depth < 0)
                return false;
        }
        if (*s == '\0')
            return depth == 0;
        if (*s != '+' && *s != '*')
            return false;
        s++;
    }
}

static void check_tensor(struct pack *p, const char *list, const json_t *item, bool output)
{
    struct tensor_json t = { 0 };
    struct tolerance_json tolerance = { 0 };
    struct err err;
    size_t i;
    json_t *entry;

    if (param_parse(tensor_rows, item, &t, &err) != 0) {
        pack_problem(p, "'%s': %s", list, err.msg);
        return;
    }
    if (!json_is_array(t.shape) || json_array_size(t.shape) > RANK_MAX)
        pack_problem(p, "the shape of tensor '%s' must be a list of at most %d entries", t.name,
                     RANK_MAX);
    json_array_foreach (t.shape, i, entry) {
        if (!json_is_string(entry) || !is_shape_entry(p, json_string_value(entry)))
            pack_problem(p, "entry %zu of the shape of tensor '%s' is no sum or product of axes",
                         i + 1, t.name);
    }
    if (t.tolerance && param_parse(tolerance_rows, t.tolerance, &tolerance, &err) != 0)
        pack_problem(p, "the tolerance of tensor '%s': %s", t.name, err.msg);
    if (output && json_object_size(t.tolerance) == 0)
        pack_problem(p, "output '%s' needs a tolerance", t.name);
    if (!output && t.tolerance)
        pack_problem(p, "input '%s' has a tolerance; only outputs do", t.name);
    param_release(tensor_rows, &t);
}

static void check_tensors(struct pack *p, const char *list, const json_t *items, bool output)
{
    size_t n = json_array_size(items);

    if (!json_is_array(items) || n < (output ? 1 : 0) || n > PACK_TENSORS_MAX) {
        pack_problem(p, "'%s' must be a list of at most %d tensors", list, PACK_TENSORS_MAX);
        return;
    }
    for (size_t i = 0; i < n; i++)
        check_tensor(p, list, json_array_get(items, i), output);
}

static void check_scratch(struct pack *p, const json_t *v)
{
    bool ok = v == NULL || (json_is_integer(v) && json_integer_value(v) >= 0) ||
              (json_is_string(v) && is_shape_entry(p, json_string_value(v)));

    if (!ok)
        pack_problem(p, "'scratch_bytes' must be a number of bytes, or a sum or product of axes");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_features(struct pack *p, const json_t *list)
{
    size_t n = json_array_size(list);

    if (list == NULL)
        return;
    if (!json_is_array(list) || n > PACK_AXES_MAX) {
        pack_problem(p, "'shape_features' must be a list of constant axes");
        return;
    }
    p->features = xcalloc(n + 1, sizeof(char *));
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const char *kind = name ? axis_kind(p, name) : NULL;

        if (kind && strcmp(kind, "const") == 0)
            p->features[p->n_features++] = xstrdup(name);
        else
            pack_problem(p, "entry %zu of 'shape_features' is no constant axis", i + 1);
    }
    qsort(p->features, p->n_features, sizeof(char *), by_text);
}

/* ---- Definitions ---- */

static int by_axis(const void *a, const void *b)
{
    return strcmp(((const struct pack_axis *)a)->name, ((const struct pack_axis *)b)->name);
}

/* Checks that `axes` gives exactly the pack's axes of this kind; `out` (may be NULL) gets them. */
static size_t read_axes(struct pack *p, const char *where, json_t *axes, const char *kind,
                        struct pack_axis *out)
{
    json_t *declared = json_object_get(p->json, "axes"), *v;
    size_t n = 0, want = 0;
    const char *name;

    if (!json_is_object(axes)) {
        pack_problem(p, "%s: 'axes' must be an object", where);
        return 0;
    }
    json_object_foreach (declared, name, v)
        want += json_is_string(v) && strcmp(json_string_value(v), kind) == 0;
    json_object_foreach (axes, name, v) {
        const char *k = axis_kind(p, name);

        if (k == NULL || strcmp(k, kind) != 0)
            pack_problem(p, "%s: '%.96s' is no '%s' axis of the pack", where, name, kind);
        else if (!json_is_integer(v) || json_integer_value(v) < 0 ||
                 json_integer_value(v) > axis_max)
            pack_problem(p, "%s: axis '%s' must be an integer from 0 to %lld", where, name,
                         (long long)axis_max);
        else if (out)
            out[n++] = (struct pack_axis){ xstrdup(name), json_integer_value(v) };
        else
            n++;
    }
    if (n != want)
        pack_problem(p, "%s gives %zu of the %zu '%s' axes", where, n, want, kind);
    return n;
}

static char *shape_text(const struct pack *p, const struct pack_definition *d)
{
    CLEANUP(buf_release) struct buf out = { .max = 8192 };
    char *text;

    for (size_t i = 0; i < p->n_features; i++) {
        int64_t value;

        if (pack_axis_value(d, p->features[i], &value))
            buf_addf(&out, "%s%s=%lld", out.len ? "," : "", p->features[i], (long long)value);
    }
    text = buf_take(&out);
    if (text == NULL)
        abort();
    return text;
}

static void read_definition(struct pack *p, const json_t *item)
{
    struct pack_definition *d = &p->definitions[p->n_definitions];
    struct definition_json j = { 0 };
    struct err err;

    if (param_parse(definition_rows, item, &j, &err) != 0) {
        pack_problem(p, "'definitions': %s", err.msg);
        return;
    }
    d->pack = p;
    d->name = TAKE(j.name);
    d->axes = xcalloc(PACK_AXES_MAX, sizeof(*d->axes));
    if (json_object_size(j.axes) <= PACK_AXES_MAX)
        d->n_axes = read_axes(p, d->name, j.axes, "const", d->axes);
    else
        pack_problem(p, "definition '%s' has more than %d axes", d->name, PACK_AXES_MAX);
    qsort(d->axes, d->n_axes, sizeof(*d->axes), by_axis);
    d->shape = shape_text(p, d);
    p->n_definitions++;
    param_release(definition_rows, &j);
}

static void read_definitions(struct pack *p, const json_t *list)
{
    size_t n = json_array_size(list);

    if (n < 1 || n > PACK_DEFINITIONS_MAX) {
        pack_problem(p, "'definitions' must be a list of 1 to %d", PACK_DEFINITIONS_MAX);
        return;
    }
    p->definitions = xcalloc(n, sizeof(*p->definitions));
    for (size_t i = 0; i < n; i++)
        read_definition(p, json_array_get(list, i));
}

/* ---- Workload sets ---- */

static void read_workload(struct pack *p, const struct pack_definition *d, struct pack_set *set,
                          const char *where, const char *line, size_t len, struct pack_mean *means)
{
    json_auto_t *j = NULL;
    struct workload_json w = { 0 };
    struct err err;

    if (set->n_workloads == PACK_WORKLOADS_MAX) {
        pack_problem(p, "%s: more than %d workloads", where, PACK_WORKLOADS_MAX);
        return;
    }
    if (jsonx_parse(line, len, "the line", &j, &err) != 0 ||
        param_parse(workload_rows, j, &w, &err) != 0) {
        pack_problem(p, "%s: %s", where, err.msg);
        return;
    }
    read_axes(p, where, w.axes, "var", NULL);
    pack_regime_add(d, w.axes, means);
    if (w.params && !json_is_object(w.params))
        pack_problem(p, "%s: 'params' must be an object", where);
    set->workloads = xrealloc(set->workloads, (set->n_workloads + 1) * sizeof(char *));
    json_array_append_new(set->rows, json_incref(j));
    set->workloads[set->n_workloads++] = TAKE(w.name);
    param_release(workload_rows, &w);
}

static void read_set(struct pack *p, const struct pack_definition *d, struct pack_set *set)
{
    CLEANUP(buf_release) struct buf text = { .max = PACK_SOURCE_MAX };
    CLEANUP(freep) struct pack_mean *means = xcalloc(p->n_regime + 1, sizeof(*means));
    struct err err;
    char *line, *rest;
    int number = 0;

    set->rows = json_array();
    set->regime = xcalloc(p->n_regime + 1, sizeof(*set->regime));
    if (file_read(set->path, &text, &err) != 0) {
        pack_problem(p, "workloads: %s", err.msg);
        return;
    }
    for (rest = text.data; rest && (line = strsep(&rest, "\n")) != NULL;) {
        char where[300];

        number++;
        if (line[strspn(line, " \t\r")] == '\0')
            continue;
        snprintf(where, sizeof(where), "%s line %d", strrchr(set->path, '/') + 1, number);
        read_workload(p, d, set, where, line, strlen(line), means);
    }
    for (size_t i = 0; i < p->n_regime; i++)
        set->regime[i] = means[i].n > 0 ? exp(means[i].log_sum / means[i].n) : 0;
    if (set->n_workloads == 0)
        pack_problem(p, "the workload set '%s' is empty", set->name);
}

/* Adds a set, or replaces a shared one by the definition's own. */
static void add_set(struct pack *p, struct pack_definition *d, const char *name, const char *file,
                    bool own)
{
    struct pack_set *set = NULL;

    for (size_t i = 0; i < d->n_sets; i++) {
        if (strcmp(d->sets[i].name, name) == 0)
            set = &d->sets[i];
    }
    if (set && !own)
        return;
    if (set) {
        free(set->path);
    } else if (d->n_sets == PACK_SETS_MAX) {
        pack_problem(p, "definition '%s' has more than %d workload sets", d->name, PACK_SETS_MAX);
        return;
    } else {
        d->sets = xrealloc(d->sets, (d->n_sets + 1) * sizeof(*d->sets));
        set = &d->sets[d->n_sets++];
        *set = (struct pack_set){ .name = xstrdup(name) };
    }
    set->path = str_printf("%s/workloads/%s", p->dir, file);
    if (set->path == NULL)
        abort();
}

/* "cpu.jsonl" is a set of every definition, "<definition>.cpu.jsonl" of that one alone. */
static void add_file(struct pack *p, const char *file)
{
    char stem[256];
    size_t n = strlen(file) - strlen(".jsonl");
    struct pack_definition *owner = NULL;

    if (n == 0 || n >= sizeof(stem))
        return;
    memcpy(stem, file, n);
    stem[n] = '\0';
    for (size_t i = 0; i < p->n_definitions; i++) {
        const char *name = p->definitions[i].name;

        if (str_has_prefix(stem, name) && stem[strlen(name)] == '.')
            owner = &p->definitions[i];
    }
    if (owner)
        add_set(p, owner, stem + strlen(owner->name) + 1, file, true);
    for (size_t i = 0; !owner && i < p->n_definitions; i++)
        add_set(p, &p->definitions[i], stem, file, false);
}

static int is_workload_file(const struct dirent *e)
{
    return e->d_name[0] != '.' && str_has_suffix(e->d_name, ".jsonl");
}

static int by_set(const void *a, const void *b)
{
    return strcmp(((const struct pack_set *)a)->name, ((const struct pack_set *)b)->name);
}

static void read_sets(struct pack *p)
{
    CLEANUP(freep) char *dir = join(p->dir, "workloads");
    struct dirent **files = NULL;
    int n = scandir(dir, &files, is_workload_file, alphasort);

    for (int i = 0; i < n; i++) {
        add_file(p, files[i]->d_name);
        free(files[i]);
    }
    free(files);
    for (size_t i = 0; i < p->n_definitions; i++) {
        struct pack_definition *d = &p->definitions[i];

        if (d->n_sets == 0)
            pack_problem(p, "definition '%s' has no workload set in '%s'", d->name, dir);
        else
            qsort(d->sets, d->n_sets, sizeof(*d->sets), by_set);
        for (size_t s = 0; s < d->n_sets; s++)
            read_set(p, d, &d->sets[s]);
    }
}

/* ---- The pack ---- */

static void parse_body(struct pack *p, struct pack_json *j)
{
    if (j->format != 1)
        pack_problem(p, "'format' is %llu; it must be 1", (unsigned long long)j->format);
    p->family = TAKE(j->family);
    p->summary = j->summary ? TAKE(j->summary) : xstrdup("");
    p->language = j->language ? TAKE(j->language) : xstrdup("c");
    p->dtype = j->dtype ? TAKE(j->dtype) : xstrdup("");
    p->bottleneck = xstrdup(bottlenecks[j->bottleneck]);
    read_source(p, "module", j->module, &p->module);
    read_source(p, "baseline", j->baseline, &p->baseline);
    read_template(p, j->template);
    check_axes(p, j->axes);
    check_tensors(p, "inputs", j->inputs, false);
    check_tensors(p, "outputs", j->outputs, true);
    check_scratch(p, j->scratch_bytes);
    read_features(p, j->shape_features);
    pack_regime_read(p, j->regime, j->related);
    read_definitions(p, j->definitions);
    read_sets(p);
}

struct pack *pack_parse(const char *dir)
{
    struct pack *p = xcalloc(1, sizeof(*p));
    struct pack_json j = { .bottleneck = ARRAY_LEN(bottlenecks) - 2 };
    CLEANUP(freep) char *path = join(dir, "task.json");
    struct err err;

    p->refs = 1;
    p->dir = xstrdup(dir);
    read_readme(p);
    if (jsonx_load(path, PACK_JSON_MAX, &p->json, &err) != 0 ||
        param_parse(pack_rows, p->json, &j, &err) != 0) {
        pack_problem(p, "task.json: %s", err.msg);
        return p;
    }
    parse_body(p, &j);
    param_release(pack_rows, &j);
    return p;
}

static void source_release(struct pack_source *s)
{
    free(s->path);
    free(s->text);
}

static void set_release(struct pack_set *s)
{
    for (size_t i = 0; i < s->n_workloads; i++)
        free(s->workloads[i]);
    free(s->workloads);
    json_decref(s->rows);
    free(s->regime);
    free(s->name);
    free(s->path);
}

static void definition_release(struct pack_definition *d)
{
    for (size_t i = 0; i < d->n_axes; i++)
        free(d->axes[i].name);
    for (size_t i = 0; i < d->n_sets; i++)
        set_release(&d->sets[i]);
    free(d->axes);
    free(d->sets);
    free(d->name);
    free(d->shape);
}

static void texts_free(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
}

struct pack *pack_ref(struct pack *p)
{
    p->refs++;
    return p;
}

void pack_unref(struct pack *p)
{
    if (p == NULL || --p->refs > 0)
        return;
    for (size_t i = 0; i < p->n_definitions; i++)
        definition_release(&p->definitions[i]);
    free(p->definitions);
    texts_free(p->var_axes, p->n_var_axes);
    texts_free(p->features, p->n_features);
    texts_free(p->problems, p->n_problems);
    pack_regime_release(p);
    source_release(&p->module);
    source_release(&p->baseline);
    source_release(&p->template);
    json_decref(p->space);
    json_decref(p->json);
    free(p->space_path);
    free(p->dir);
    free(p->family);
    free(p->summary);
    free(p->readme);
    free(p->guide);
    free(p->language);
    free(p->dtype);
    free(p->bottleneck);
    free(p);
}
