/* SPDX-License-Identifier: Apache-2.0 */
/* program.*: stored programs and where they were measured. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "eval/pack.h"
#include "kb.h"
#include "proto/methods.h"
#include "rpc/answer.h"
#include "rpc/rpc.h"

enum { PREFIX_MIN = 6 };

/* ---- Measured: one row per program, task and device ---- */

/*
 * Rows by "program|task|device" in an object: {id, task, device, language, evaluations, ok,
 * best{objective, assignment}}; jansson's objects are hash tables, so this stays linear in the
 * evaluations.
 */
struct tally {
    json_t *rows;
    const char *program; /* only this one; NULL: all */
};

static json_t *tally_row(struct tally *t, const struct evaluation *e)
{
    CLEANUP(freep) char *key = str_printf("%s|%s|%s", e->program.hex, e->task, e->device);
    json_t *row = key != NULL ? json_object_get(t->rows, key) : NULL;

    if (row != NULL || key == NULL)
        return row;
    row =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:n}", "id", e->program.hex, "task", e->task,
                  "device", e->device, "language", e->language, "evaluations", 0, "ok", 0, "best");
    json_object_set_new(t->rows, key, row);
    return row;
}

static void add_one(json_t *row, const char *member)
{
    json_object_set_new(row, member, json_integer(jsonx_int(row, member, 0) + 1));
}

static int tally_evaluation(void *ctx, uint64_t seq, const struct id *id,
                            const struct evaluation *e)
{
    struct tally *t = ctx;
    json_t *row;
    double objective;

    (void)seq;
    if (t->program != NULL && strcmp(t->program, e->program.hex) != 0)
        return 0;
    row = tally_row(t, e);
    if (row == NULL)
        return 1;
    add_one(row, "evaluations");
    if (strcmp(e->status, "ok") != 0)
        return 0;
    add_one(row, "ok");
    objective = answer_ratio(e->objective_q);
    if (objective > jsonx_num(json_object_get(row, "best"), "objective", 0))
        json_object_set_new(row, "best",
                            json_pack("{s:f, s:s, s:O}", "objective", objective, "evaluation",
                                      id->hex, "assignment", e->assignment));
    return 0;
}

/* Names of all tasks that may have evaluations, as keys of an object. */
static int note_task(void *ctx, const char *key, const json_t *doc)
{
    (void)doc;
    json_object_set_new(ctx, key, json_true());
    return 0;
}

static int note_search(void *ctx, const char *key, const json_t *doc)
{
    const char *task = jsonx_str(doc, "task", NULL);

    (void)key;
    if (task != NULL)
        json_object_set_new(ctx, task, json_true());
    return 0;
}

/* Packs that are here now, imported tasks, and tasks of searches whose pack is gone. */
static int all_tasks(struct daemon *d, json_t *tasks, struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);

    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *p = packs_get(packs, i);

        for (size_t k = 0; k < p->n_definitions; k++)
            json_object_set_new(tasks, p->definitions[k].name, json_true());
    }
    if (kb_each_doc(d->kb, KB_TASK, note_task, tasks, err) != 0)
        return -1;
    return kb_each_doc(d->kb, KB_SEARCH, note_search, tasks, err);
}

static int tally_all(struct daemon *d, const char *task, const char *device, struct tally *t,
                     struct err *err)
{
    json_auto_t *tasks = json_object();
    const char *name;
    json_t *unused;

    if (task != NULL)
        return kb_each_evaluation(d->kb, task, device, UINT64_MAX, tally_evaluation, t, err);
    if (all_tasks(d, tasks, err) != 0)
        return -1;
    json_object_foreach (tasks, name, unused) {
        if (kb_each_evaluation(d->kb, name, device, UINT64_MAX, tally_evaluation, t, err) != 0)
            return -1;
    }
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The rows without their keys, in order of key. */
static json_t *tally_rows(const struct tally *t)
{
    size_t n = json_object_size(t->rows), i = 0;
    const char **keys = xcalloc(n ? n : 1, sizeof(*keys));
    json_t *out = json_array(), *row;
    const char *key;

    json_object_foreach (t->rows, key, row)
        keys[i++] = key;
    qsort(keys, n, sizeof(*keys), by_text);
    for (i = 0; i < n; i++)
        json_array_append(out, json_object_get(t->rows, keys[i]));
    free(keys);
    return out;
}

/* ---- list ---- */

struct list_params {
    char *task, *device;
};

static const struct param list_rows[] = {
    { "task", PARAM_NAME, offsetof(struct list_params, task), 0,
      "only programs measured on this task", 0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct list_params, device), 0,
      "only programs measured on this device", 0, 0, NULL, 0 },
    { 0 },
};

static int list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct list_params *p = params;
    json_auto_t *rows = json_object();
    struct tally t = { rows, NULL };

    if (tally_all(d, p->task, p->device, &t, err) != 0)
        return -1;
    *result = json_pack("{s:o}", "programs", tally_rows(&t));
    return 0;
}

static void program_list(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, list_run);
}

/* ---- show ---- */

struct show_params {
    char *program;
};

static const struct param show_rows[] = {
    { "program", PARAM_STR, offsetof(struct show_params, program), PARAM_REQUIRED,
      "id of the program, or its first digits (at least 6)", 0, ID_HEX, NULL, 0 },
    { 0 },
};

struct match {
    const char *prefix;
    size_t n;
    char id[ID_HEX + 1];
    json_t *doc;
};

static int match_one(void *ctx, const char *key, const json_t *doc)
{
    struct match *m = ctx;

    if (!str_has_prefix(key, m->prefix))
        return 0;
    if (m->n++ == 0) {
        str_copy(m->id, sizeof(m->id), key);
        m->doc = json_incref((json_t *)doc);
    }
    return m->n > 1;
}

static int find_program(struct kb *kb, const char *prefix, struct match *m, struct err *err)
{
    size_t len = strlen(prefix);

    if (len < PREFIX_MIN || !str_is_hex(prefix, len))
        return err_set(
            err, ERR_INVALID,
            "'program' is '%.80s'; allowed is an id of %d hexadecimal digits or its first "
            "%d or more",
            prefix, ID_HEX, PREFIX_MIN);
    m->prefix = prefix;
    if (kb_each_doc(kb, KB_PROGRAM, match_one, m, err) != 0)
        return -1;
    if (m->n == 0)
        return err_set(err, ERR_NOT_FOUND,
                       "program '%s' is not known; 'ksearch program list' lists them", prefix);
    if (m->n > 1)
        return err_set(err, ERR_INVALID,
                       "'program' is '%s'; several programs begin so, give more digits", prefix);
    return 0;
}

/* A recorded space lists its assignments by the thousand: their number is enough, beside the
 * parameters. */
static void shorten_space(json_t *program)
{
    json_t *space = json_copy(json_object_get(program, "space"));

    json_object_del(space, "columns");
    json_object_set_new(program, "space", space);
}

static int show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct match m = { 0 };
    json_auto_t *rows = json_object();
    json_auto_t *doc = NULL;
    struct tally t = { rows, m.id };
    int rc = find_program(d->kb, ((struct show_params *)params)->program, &m, err);

    doc = m.doc;
    if (rc != 0 || tally_all(d, NULL, NULL, &t, err) != 0)
        return -1;
    *result = json_copy(doc);
    if (json_object_get(doc, "source") == NULL)
        shorten_space(*result);
    json_object_set_new(*result, "id", json_string(m.id));
    json_object_set_new(*result, "measured", tally_rows(&t));
    return 0;
}

static void program_show(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, show_run);
}

const struct rpc_method rpc_program_methods[] = {
    { METHOD_PROGRAM_LIST, list_rows, sizeof(struct list_params), 0, program_list,
      "The programs that were measured, one row per program, task and device.",
      "{programs[{id, task, device, language, evaluations, ok, best{objective, evaluation, "
      "assignment} or null}]}",
      NULL },
    { METHOD_PROGRAM_SHOW, show_rows, sizeof(struct show_params), 0, program_show,
      "One program: source, space and settings, and where it was measured. What stands for a "
      "recorded space has no "
      "source: an assignment is all there is.",
      "the program's document with id and measured[as the rows of program.list]", NULL },
    { 0 },
};
