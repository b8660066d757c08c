/* SPDX-License-Identifier: Apache-2.0 */
/* Finding packs, look-ups, likeness and the JSON of task.list and task.show; see pack.h. */
#include "eval/pack.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/pack_parse.h"

struct packs {
    atomic_uint refs;
    size_t n, cap;
    struct pack **packs;
};

static bool is_pack(const char *dir)
{
    CLEANUP(freep) char *path = str_printf("%s/task.json", dir);

    return path && file_exists(path);
}

/* The same folder reached by two of `dirs` counts once. */
static void add_pack(struct packs *p, const char *dir)
{
    CLEANUP(freep) char *real = realpath(dir, NULL);

    if (real == NULL)
        return;
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->packs[i]->dir, real) == 0)
            return;
    }
    p->packs = xgrow(p->packs, &p->cap, p->n + 1, sizeof(struct pack *));
    p->packs[p->n++] = pack_parse(real);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int scan(struct packs *p, const char *dir, struct err *err)
{
    struct dirent **entries = NULL;
    int n;

    if (is_pack(dir)) {
        add_pack(p, dir);
        return 0;
    }
    n = scandir(dir, &entries, is_visible, alphasort);
    if (n < 0)
        return err_set(err, ERR_IO, "the tasks folder '%s' cannot be listed: %s", dir,
                       strerror(errno));
    for (int i = 0; i < n; i++) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, entries[i]->d_name);

        if (path && is_pack(path))
            add_pack(p, path);
        free(entries[i]);
    }
    free(entries);
    return 0;
}

/* The first pack that names a definition keeps it; the other one is told. */
static void find_duplicates(struct packs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct pack *pack = p->packs[i];

        for (size_t d = 0; d < pack->n_definitions; d++) {
            const struct pack_definition *mine = &pack->definitions[d];
            const struct pack_definition *first = packs_find(p, mine->name);

            if (first && first != mine && pack->n_problems == 0)
                pack_problem(pack, "the definition '%s' is already in '%s'", mine->name,
                             first->pack->dir);
        }
    }
}

int packs_load(const char *const *dirs, size_t n_dirs, struct packs **out, struct err *err)
{
    struct packs *p = xcalloc(1, sizeof(*p));
    size_t listed = 0;
    struct err why = { .code = ERR_IO, .msg = "no tasks folder is configured" };

    p->refs = 1;
    for (size_t i = 0; i < n_dirs; i++)
        listed += scan(p, dirs[i], &why) == 0;
    if (listed == 0) {
        packs_unref(p);
        *err = why;
        return -1;
    }
    find_duplicates(p);
    *out = p;
    return 0;
}

int packs_add(struct packs *p, const char *dir, struct err *err)
{
    if (scan(p, dir, err) != 0)
        return -1;
    find_duplicates(p);
    return 0;
}

struct packs *packs_ref(struct packs *p)
{
    p->refs++;
    return p;
}

void packs_unref(struct packs *p)
{
    if (p == NULL || --p->refs > 0)
        return;
    for (size_t i = 0; i < p->n; i++)
        pack_unref(p->packs[i]);
    free(p->packs);
    free(p);
}

void packs_release(struct packs **p)
{
    packs_unref(*p);
}

struct packs *packs_with(const struct packs *p, struct pack *fresh)
{
    struct packs *out = xcalloc(1, sizeof(*out));
    bool placed = false;

    out->refs = 1;
    out->packs = xgrow(NULL, &out->cap, p->n + 1, sizeof(struct pack *));
    for (size_t i = 0; i < p->n; i++) {
        bool here = strcmp(p->packs[i]->dir, fresh->dir) == 0;

        out->packs[out->n++] = here ? fresh : pack_ref(p->packs[i]);
        placed = placed || here;
    }
    if (!placed)
        out->packs[out->n++] = fresh;
    return out;
}

/* Between reading a slot and counting the reference nobody may drop the last one. */
static pthread_mutex_t slot_lock = PTHREAD_MUTEX_INITIALIZER;

struct packs *packs_take(struct packs *const *slot)
{
    struct packs *p;

    pthread_mutex_lock(&slot_lock);
    p = packs_ref(*slot);
    pthread_mutex_unlock(&slot_lock);
    return p;
}

void packs_swap(struct packs **slot, struct packs *fresh)
{
    struct packs *old;

    pthread_mutex_lock(&slot_lock);
    old = *slot;
    *slot = fresh;
    pthread_mutex_unlock(&slot_lock);
    packs_unref(old);
}

size_t packs_count(const struct packs *p)
{
    return p->n;
}

const struct pack *packs_get(const struct packs *p, size_t i)
{
    return p->packs[i];
}

const struct pack_definition *packs_find(const struct packs *p, const char *definition)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct pack *pack = p->packs[i];

        for (size_t d = 0; pack->n_problems == 0 && d < pack->n_definitions; d++) {
            if (strcmp(pack->definitions[d].name, definition) == 0)
                return &pack->definitions[d];
        }
    }
    return NULL;
}

/* Levenshtein distance of names of at most 96 bytes. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[128], n = strnlen(b, ARRAY_LEN(row) - 1);

    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t corner = row[0];

        row[0] = i + 1;
        for (size_t j = 1; j <= n; j++) {
            size_t old = row[j];

            row[j] = MIN(MIN(row[j], row[j - 1]) + 1, corner + (a[i] != b[j - 1]));
            corner = old;
        }
    }
    return row[n];
}

size_t packs_suggest(const struct packs *p, const char *name, const char **out, size_t max)
{
    size_t n = 0, far = 2 + strlen(name) / 3;

    for (size_t i = 0; i < p->n; i++) {
        const struct pack *pack = p->packs[i];

        for (size_t d = 0; pack->n_problems == 0 && d < pack->n_definitions && n < max; d++) {
            const char *have = pack->definitions[d].name;

            if (strstr(have, name) || edit_distance(name, have) <= far)
                out[n++] = have;
        }
    }
    return n;
}

const struct pack_set *pack_set(const struct pack_definition *d, const char *name)
{
    for (size_t i = 0; i < d->n_sets; i++) {
        if (strcmp(d->sets[i].name, name) == 0)
            return &d->sets[i];
    }
    return NULL;
}

const struct pack_set *pack_default_set(const struct pack_definition *d)
{
    const struct pack_set *set = pack_set(d, "cpu");

    if (set == NULL)
        set = pack_set(d, "smoke"); /* where the others are too large for a CPU */
    return set ? set : d->n_sets ? &d->sets[0] : NULL;
}

bool pack_axis_value(const struct pack_definition *d, const char *name, int64_t *out)
{
    for (size_t i = 0; i < d->n_axes; i++) {
        if (strcmp(d->axes[i].name, name) == 0) {
            *out = d->axes[i].value;
            return true;
        }
    }
    return false;
}

/* ---- JSON ---- */

static json_t *texts_to_json(char *const *texts, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(texts[i]));
    return list;
}

/* Each quantity's mean over the set, to four digits. */
static json_t *regime_to_json(const struct pack *p, const struct pack_set *s)
{
    json_t *j = json_object();

    for (size_t i = 0; i < p->n_regime; i++) {
        char text[32];

        snprintf(text, sizeof(text), "%.4g", s->regime[i]);
        if (s->regime[i] > 0)
            json_object_set_new(j, p->regime[i].name, json_real(strtod(text, NULL)));
    }
    return j;
}

static json_t *sets_to_json(const struct pack_definition *d, bool names)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->n_sets; i++) {
        const struct pack_set *s = &d->sets[i];
        json_t *j =
            json_pack("{s:s, s:I}", "name", s->name, "n_workloads", (json_int_t)s->n_workloads);

        if (names) {
            json_object_set_new(j, "workloads", texts_to_json(s->workloads, s->n_workloads));
            json_object_set_new(j, "regime", regime_to_json(d->pack, s));
        }
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *brief_to_json(const struct pack_definition *d, bool names)
{
    const struct pack *p = d->pack;

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "name", d->name, "family",
                     p->family, "summary", p->summary, "shape", d->shape, "language", p->language,
                     "dtype", p->dtype, "bottleneck", p->bottleneck, "template", p->space != NULL,
                     "sets", sets_to_json(d, names));
}

json_t *packs_to_json(const struct packs *p)
{
    json_t *tasks = json_array(), *broken = json_array();

    for (size_t i = 0; i < p->n; i++) {
        const struct pack *pack = p->packs[i];

        if (pack->n_problems)
            json_array_append_new(broken,
                                  json_pack("{s:s, s:o}", "dir", pack->dir, "problems",
                                            texts_to_json(pack->problems, pack->n_problems)));
        for (size_t d = 0; pack->n_problems == 0 && d < pack->n_definitions; d++)
            json_array_append_new(tasks, brief_to_json(&pack->definitions[d], false));
    }
    return json_pack("{s:o, s:o}", "tasks", tasks, "broken", broken);
}

static json_t *source_to_json(const struct pack_source *s, bool text)
{
    json_t *j =
        json_pack("{s:s, s:I, s:s}", "path", s->path, "bytes", (json_int_t)s->len, "key", s->key);

    if (text)
        json_object_set_new(j, "text", json_stringn(s->text, s->len));
    return j;
}

json_t *pack_definition_to_json(const struct pack_definition *d, bool sources)
{
    const struct pack *p = d->pack;
    json_t *j = brief_to_json(d, true), *axes = json_object();
    static const char *const copied[] = { "inputs", "outputs", "axes", "scratch_bytes" };

    for (size_t i = 0; i < d->n_axes; i++)
        json_object_set_new(axes, d->axes[i].name, json_integer(d->axes[i].value));
    json_object_set_new(j, "constants", axes);
    for (size_t i = 0; i < ARRAY_LEN(copied); i++) {
        json_t *v = json_object_get(p->json, copied[i]);

        if (v)
            json_object_set(j, copied[i], v);
    }
    json_object_set_new(j, "shape_features", texts_to_json(p->features, p->n_features));
    json_object_set_new(j, "related", texts_to_json(p->related, p->n_related));
    json_object_set_new(j, "dir", json_string(p->dir));
    json_object_set_new(j, "readme", json_string(p->readme));
    json_object_set_new(j, "module", source_to_json(&p->module, sources));
    json_object_set_new(j, "baseline", source_to_json(&p->baseline, sources));
    if (p->space) {
        json_object_set_new(j, "template_source", source_to_json(&p->template, sources));
        json_object_set(j, "space", p->space);
    }
    return j;
}
