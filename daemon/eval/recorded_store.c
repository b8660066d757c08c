/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded tasks in the knowledge base; see recorded_store.h. */
#include "eval/recorded_store.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "retune/versions.h"
#include "search/learn.h"

enum {
    DEVICE_NAME_MAX = 80, /* its class has a prefix and is a name as well */
    FACTS_PER_COMMIT = 4000,
    EVIDENCE_PER_CLAIM = 16 /* pairs taken of one parameter's step, spread over the table */
};

/* Reading and writing a task document is one step. */
static pthread_mutex_t import_lock = PTHREAD_MUTEX_INITIALIZER;

static void unlock(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}

#define IMPORT_LOCKED                                                                              \
    pthread_mutex_t *held __attribute__((cleanup(unlock), unused)) = &import_lock;                 \
    pthread_mutex_lock(held)

/* ---- Documents ---- */

bool recorded_is_task(const json_t *doc)
{
    return strcmp(jsonx_str(doc, "kind", ""), "recorded") == 0;
}

/* {"parameters", "devices": {name: {...}}} of the base, or a new one. Owned. */
static int get_task(struct kb *kb, const char *task, json_t **out, struct err *err)
{
    if (kb_get_doc(kb, KB_TASK, task, out, err) == 0) {
        if (recorded_is_task(*out))
            return 0;
        json_decref(*out);
        return err_set(err, ERR_CONFLICT, "task '%s' is there and is no recorded space", task);
    }
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *out = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:{}}", "format", 1, "kind", "recorded",
                     "family", task, "shape", "", "language", RECORDED_LANGUAGE, "dtype", "",
                     "bottleneck", "", "devices");
    return 0;
}

/* The entry of a device in the task's document, made when it is missing. Borrowed. */
static json_t *device_entry(json_t *doc, const char *device)
{
    json_t *devices = json_object_get(doc, "devices"), *entry = json_object_get(devices, device);

    if (entry == NULL) {
        entry = json_object();
        json_object_set_new(devices, device, entry);
    }
    return entry;
}

int recorded_device_document(struct kb *kb, const char *device, json_t **out, bool *made,
                             struct err *err)
{
    char class[DEVICE_NAME_MAX + 16];

    *made = false;
    if (kb_get_doc(kb, KB_DEVICE, device, out, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    if (strlen(device) > DEVICE_NAME_MAX)
        return err_set(err, ERR_INVALID, "'device' has %zu bytes; a recorded one has at most %d",
                       strlen(device), DEVICE_NAME_MAX);
    /* Nothing is known of its architecture: what was learned there is a cell of its own. */
    snprintf(class, sizeof(class), "recorded-%s", device);
    *out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:[], s:b}", "name", device, "kind",
                     "recorded", "arch", "", "class", class, "model", device, "toolchain", "",
                     "features", "probed", 0);
    *made = true;
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for device '%s'", device);
}

static int ensure_device(struct kb *kb, struct kb_batch *b, const char *device, json_t **out,
                         struct err *err)
{
    bool made;

    if (recorded_device_document(kb, device, out, &made, err) != 0)
        return -1;
    return made ? kb_batch_put_doc(b, KB_DEVICE, device, *out, err) : 0;
}

/* ---- Parameters: the union over devices ---- */

static int compare_values(const void *pa, const void *pb)
{
    const json_t *a = *(json_t *const *)pa, *b = *(json_t *const *)pb;
    double x, y;

    if (json_is_string(a) && json_is_string(b))
        return strcmp(json_string_value(a), json_string_value(b));
    x = json_is_boolean(a) ? json_is_true(a) : json_number_value(a);
    y = json_is_boolean(b) ? json_is_true(b) : json_number_value(b);
    return (x > y) - (x < y);
}

/* Sorted values of both lists, each once. Fresh. */
static json_t *merge_values(const json_t *a, const json_t *b)
{
    size_t na = json_array_size(a), nb = json_array_size(b);
    CLEANUP(freep) json_t **all = xcalloc(na + nb + 1, sizeof(json_t *));
    json_t *out = json_array();

    for (size_t i = 0; i < na; i++)
        all[i] = json_array_get(a, i);
    for (size_t i = 0; i < nb; i++)
        all[na + i] = json_array_get(b, i);
    qsort(all, na + nb, sizeof(json_t *), compare_values);
    for (size_t i = 0; i < na + nb; i++)
        if (i == 0 || compare_values(&all[i - 1], &all[i]) != 0)
            json_array_append(out, all[i]);
    return out;
}

static bool is_number_type(const char *t)
{
    return strcmp(t, "int") == 0 || strcmp(t, "real") == 0;
}

/* Both lists are sorted by name. */
static int merge_parameters(json_t *doc, const json_t *more, const char *task, struct err *err)
{
    json_t *have = json_object_get(doc, "parameters");
    size_t n = json_array_size(more);

    if (have == NULL) {
        json_object_set_new(doc, "parameters", json_deep_copy(more));
        return 0;
    }
    for (size_t i = 0; i < n || i < json_array_size(have); i++) {
        json_t *mine = json_array_get(have, i);
        const json_t *his = json_array_get(more, i);
        const char *name = jsonx_str(mine, "name", "none"), *type = jsonx_str(mine, "type", "");

        if (strcmp(name, jsonx_str(his, "name", "none")) != 0)
            return err_set(
                err, ERR_CONFLICT,
                "task '%s' has %zu parameters, this file %zu, and they differ from '%s' on "
                "(the file has '%s'); another name keeps them apart",
                task, json_array_size(have), n, name, jsonx_str(his, "name", "none"));
        if (strcmp(type, jsonx_str(his, "type", "")) != 0) {
            if (!is_number_type(type) || !is_number_type(jsonx_str(his, "type", "")))
                return err_set(err, ERR_CONFLICT,
                               "parameter '%s' of task '%s' is of type %s, in this file of type %s",
                               name, task, type, jsonx_str(his, "type", ""));
            json_object_set_new(mine, "type", json_string("real"));
        }
        json_object_set_new(
            mine, "values",
            merge_values(json_object_get(mine, "values"), json_object_get(his, "values")));
    }
    return 0;
}

/* ---- The program that stands for a space ---- */

/* There is no source: what is addressed is the task and its assignments. `*doc` is fresh. */
static int program_of(const char *task, const json_t *space_doc, struct id *id, json_t **doc,
                      struct err *err)
{
    json_t *d = json_pack("{s:s, s:s, s:O}", "language", RECORDED_LANGUAGE, "settings", task,
                          "space", (json_t *)space_doc);

    if (d == NULL || id_of_json(d, id, err) != 0) {
        json_decref(d);
        return err_set(err, ERR_NOMEM, "no memory for the space of task '%s'", task);
    }
    json_object_set_new(d, "family", json_string(task));
    *doc = d;
    return 0;
}

static char *table_key(const char *task, const char *device)
{
    return str_printf("recorded/%s/%s", task, device);
}

/* ---- Importing: what both ways share ---- */

struct import {
    struct kb *kb;
    const char *task, *device;
    const struct recorded *r;
    json_t *doc, *device_doc, *program_doc;
    struct id program;
    char *versions; /* of the device's compiler, driver and libraries; owned */
    struct kb_batch *batch;
};

static void import_release(struct import *im)
{
    json_decref(im->doc);
    json_decref(im->device_doc);
    json_decref(im->program_doc);
    free(im->versions);
    kb_batch_free(im->batch);
}

/* Reads what is there, merges the space, and puts task, device and program into the batch's reach.
 */
static int import_begin(struct import *im, struct err *err)
{
    im->batch = kb_batch_new(im->kb);
    if (im->batch == NULL)
        return err_set(err, ERR_NOMEM, "no memory to import a table");
    if (get_task(im->kb, im->task, &im->doc, err) != 0 ||
        merge_parameters(im->doc, json_object_get(im->r->space_doc, "parameters"), im->task, err) !=
            0 ||
        ensure_device(im->kb, im->batch, im->device, &im->device_doc, err) != 0 ||
        program_of(im->task, im->r->space_doc, &im->program, &im->program_doc, err) != 0)
        return -1;
    im->versions = versions_of_device(im->device_doc);
    return kb_batch_put_doc(im->batch, KB_PROGRAM, im->program.hex, im->program_doc, err);
}

static json_t *import_reply(const struct import *im, bool changed)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:o, s:I, s:o, s:b}", "task", im->task, "device",
                     im->device, "assignments", (json_int_t)im->r->n, "valid",
                     (json_int_t)im->r->n_ok, "failures", recorded_failures(im->r), "parameters",
                     (json_int_t)json_array_size(json_object_get(im->doc, "parameters")), "devices",
                     recorded_devices(im->doc), "changed", changed);
}

/* ---- A table ---- */

/* 1: the same is there. ERR_CONFLICT: another is. */
static int compare_table(const struct import *im, const json_t *entry, const char *digest,
                         struct err *err)
{
    const char *there = jsonx_str(entry, "table", "");

    if (there[0] == '\0')
        return 0;
    if (strcmp(there, digest) != 0)
        return err_set(
            err, ERR_CONFLICT,
            "task '%s' has another table of device '%s' already; another name keeps them "
            "apart",
            im->task, im->device);
    if (jsonx_bool(entry, "noise", 0) != im->r->noise)
        return err_set(
            err, ERR_CONFLICT,
            "task '%s' was imported %s noise for device '%s', which does not change any more; "
            "another name keeps them apart",
            im->task, im->r->noise ? "without" : "with", im->device);
    return 1;
}

static int put_table(struct import *im, json_t *entry, const char *digest, json_t *table,
                     struct err *err)
{
    CLEANUP(freep) char *key = table_key(im->task, im->device);

    json_object_set_new(entry, "table", json_string(digest));
    json_object_set_new(entry, "noise", json_boolean(im->r->noise));
    json_object_set_new(entry, "objective", json_string(im->r->objective));
    json_object_set_new(entry, "assignments", json_integer((json_int_t)im->r->n));
    json_object_set_new(entry, "program", json_string(im->program.hex));
    if (key == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a key");
    if (kb_batch_put_doc(im->batch, KB_SIDE, key, table, err) != 0 ||
        kb_batch_put_doc(im->batch, KB_TASK, im->task, im->doc, err) != 0)
        return -1;
    return kb_commit(im->batch, err);
}

/* The table's content address: what was measured, not how it answers. */
static int table_digest(json_t *table, struct id *out, struct err *err)
{
    json_auto_t *content = json_copy(table);

    json_object_del(content, "noise");
    return id_of_json(content, out, err);
}

static int import_table(struct import *im, json_t **reply, struct err *err)
{
    json_auto_t *table = NULL;
    struct id digest;
    json_t *entry;
    int same;

    if (import_begin(im, err) != 0 || recorded_to_json(im->r, &table, err) != 0 ||
        table_digest(table, &digest, err) != 0)
        return -1;
    entry = device_entry(im->doc, im->device);
    same = compare_table(im, entry, digest.hex, err);
    if (same < 0 || (same == 0 && put_table(im, entry, digest.hex, table, err) != 0))
        return -1;
    *reply = import_reply(im, same == 0);
    json_object_set_new(*reply, "noise", json_boolean(im->r->noise));
    return 0;
}

int recorded_import_table(struct kb *kb, const char *task, const char *device,
                          const struct recorded *r, json_t **reply, struct err *err)
{
    struct import im = { .kb = kb, .task = task, .device = device, .r = r };
    int rc;

    IMPORT_LOCKED;
    rc = import_table(&im, reply, err);
    import_release(&im);
    return rc;
}

/* ---- Facts ---- */

/* Facts are added one by one and committed a few thousand at a time. */
struct facts {
    struct import *im;
    size_t pending;
    struct id *ids; /* of the rows' evaluations */
};

static int facts_added(struct facts *f, struct err *err)
{
    if (++f->pending < FACTS_PER_COMMIT)
        return 0;
    f->pending = 0;
    return kb_commit(f->im->batch, err);
}

static uint64_t to_ns(const struct recorded *r, double ms)
{
    double ns = r->timed ? ms * 1e6 : 0;

    return ns < 1e15 ? (uint64_t)llround(ns) : 0;
}

/* Borrows all its strings: it is serialised at once. */
static int add_row(struct facts *f, size_t k, struct err *err)
{
    const struct import *im = f->im;
    const struct recorded *r = im->r;
    const char *status = eval_status_name((enum eval_status)r->status[k]);
    bool ok = r->status[k] == EVAL_OK;
    CLEANUP(freep)
    char *message = ok ? xstrdup("") : str_printf("the recording has it as a failure: %s", status);
    json_auto_t *assignment = space_to_json(r->space, space_row(r->space, k));
    int64_t q = ok ? llround(1e6 * recorded_log_objective(r, k)) : 0;
    struct workload_time w = { RECORDED_SET, q, to_ns(r, r->median),
                               ok ? to_ns(r, r->value[k]) : 0 };
    struct evaluation e = {
        .task = (char *)im->task,
        .family = (char *)im->task,
        .set = RECORDED_SET,
        .device = (char *)im->device,
        .device_class = (char *)jsonx_str(im->device_doc, "class", ""),
        .toolchain = im->versions,
        .shape = "",
        .language = RECORDED_LANGUAGE,
        .program = im->program,
        .assignment = assignment,
        .status = (char *)status,
        .message = message,
        .objective_q = q,
        .sd_q = ok ? llround(1e6 * recorded_log_sd(r, k)) : 0,
        .seed = "0000000000000000",
        .measured_at_s = (uint64_t)r->measured_at_s[k],
        .n_workloads = ok,
        .workloads = &w,
    };

    if (kb_batch_add_evaluation(im->batch, &e, &f->ids[k], err) != 0)
        return -1;
    return facts_added(f, err);
}

static struct trial trial_of(const struct facts *f, size_t k)
{
    const struct recorded *r = f->im->r;
    bool ok = r->status[k] == EVAL_OK;
    struct trial t = {
        .arm = ENGINE_ARM_OTHER,
        .measured = true,
        .ok = ok,
        .status = (char *)eval_status_name((enum eval_status)r->status[k]),
        .objective_q = ok ? llround(1e6 * recorded_log_objective(r, k)) : 0,
        .sd_q = ok ? llround(1e6 * recorded_log_sd(r, k)) : 0,
        .evaluation = f->ids[k],
    };

    memcpy(t.a, space_row(r->space, k), space_n(r->space) * sizeof(*t.a));
    return t;
}

/* The row that differs from row k in parameter p alone, by one step upwards; -1 when there is none.
 */
static long next_row(const struct recorded *r, size_t k, size_t p)
{
    uint16_t a[SPACE_PARAMS_MAX];
    long other;

    memcpy(a, space_row(r->space, k), space_n(r->space) * sizeof(*a));
    if (++a[p] >= space_param(r->space, p)->n_values)
        return -1;
    other = space_row_of(r->space, a);
    /* Two failures say nothing of the step between them. */
    if (other >= 0 && r->status[k] != EVAL_OK && r->status[other] != EVAL_OK)
        return -1;
    return other;
}

static int add_pair(struct facts *f, const struct learn_scope *scope, size_t k, size_t other,
                    struct err *err)
{
    struct trial a = trial_of(f, k), b = trial_of(f, other);
    const struct trial *prev[] = { &a };
    const struct recorded *r = f->im->r;
    size_t added;

    if (learn_from_trial(f->im->batch, scope, prev, 1, &b,
                         (uint64_t)MAX(r->measured_at_s[k], r->measured_at_s[other]), &added,
                         err) != 0)
        return -1;
    return facts_added(f, err);
}

/* Evidence for the steps of one parameter: per step a few pairs, spread evenly over the table. */
static int add_parameter(struct facts *f, const struct learn_scope *scope, size_t p,
                         struct err *err)
{
    const struct recorded *r = f->im->r;
    size_t n_values = space_param(r->space, p)->n_values;
    CLEANUP(freep) size_t *total = xcalloc(n_values, sizeof(*total));
    CLEANUP(freep) size_t *seen = xcalloc(n_values, sizeof(*seen));

    for (size_t k = 0; k < r->n; k++)
        total[space_row(r->space, k)[p]] += next_row(r, k, p) >= 0;
    for (size_t k = 0; k < r->n; k++) {
        uint16_t v = space_row(r->space, k)[p];
        long other = next_row(r, k, p);
        size_t i;

        if (other < 0)
            continue;
        i = seen[v]++;
        if (i > 0 && i * EVIDENCE_PER_CLAIM / total[v] == (i - 1) * EVIDENCE_PER_CLAIM / total[v])
            continue;
        if (add_pair(f, scope, k, (size_t)other, err) != 0)
            return -1;
    }
    return 0;
}

static int add_facts(struct import *im, struct err *err)
{
    CLEANUP(freep) struct id *ids = xcalloc(im->r->n, sizeof(*ids));
    struct facts f = { .im = im, .ids = ids };
    json_auto_t *features = json_object();
    struct learn_scope scope = {
        .space = im->r->space,
        .task = im->task,
        .family = im->task,
        .dtype = "",
        .language = RECORDED_LANGUAGE,
        .bottleneck = "",
        .device = im->device,
        .device_class = jsonx_str(im->device_doc, "class", ""),
        .shape = "",
        .toolchain = im->versions,
        .features = features,
    };

    for (size_t k = 0; k < im->r->n; k++)
        if (add_row(&f, k, err) != 0)
            return -1;
    for (size_t p = 0; p < space_n(im->r->space); p++)
        if (add_parameter(&f, &scope, p, err) != 0)
            return -1;
    return kb_commit(im->batch, err);
}

int recorded_import_facts(struct kb *kb, const char *task, const char *device,
                          const struct recorded *r, json_t **reply, struct err *err)
{
    struct import im = { .kb = kb, .task = task, .device = device, .r = r };
    uint64_t before = kb_last_seq(kb);
    int rc;

    IMPORT_LOCKED;
    rc = import_begin(&im, err);
    if (rc == 0) {
        json_object_set_new(device_entry(im.doc, device), "imported", json_true());
        rc = kb_batch_put_doc(im.batch, KB_TASK, task, im.doc, err);
    }
    /* Task and device are there before the first fact that names them. */
    if (rc == 0)
        rc = kb_commit(im.batch, err);
    if (rc == 0)
        rc = add_facts(&im, err);
    if (rc == 0)
        *reply = import_reply(&im, kb_last_seq(kb) != before);
    import_release(&im);
    return rc;
}

/* ---- Reading ---- */

int recorded_load(struct kb *kb, const char *task, const char *device, struct recorded **out,
                  struct err *err)
{
    CLEANUP(freep) char *key = table_key(task, device);
    json_auto_t *doc = NULL;

    if (key == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a key");
    if (kb_get_doc(kb, KB_SIDE, key, &doc, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, "task '%s' has no recorded table of device '%s'",
                           task, device);
    } else if (recorded_from_json(doc, out, err) == 0) {
        return 0;
    }
    return err_ctx(err, "the table of task '%s' on device '%s'", task, device);
}

json_t *recorded_devices(const json_t *doc)
{
    json_t *list = json_array(), *entry;
    const char *name;

    json_object_foreach (json_object_get(doc, "devices"), name, entry) {
        if (json_object_get(entry, "table") != NULL)
            json_array_append_new(list, json_string(name));
    }
    return list;
}

const char *recorded_program(const json_t *doc, const char *device)
{
    return jsonx_str(json_object_get(json_object_get(doc, "devices"), device), "program", NULL);
}

static char *names_text(const json_t *names, char *out, size_t size)
{
    size_t n = 0;

    snprintf(out, size, "none");
    for (size_t i = 0; i < json_array_size(names) && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "",
                              json_string_value(json_array_get(names, i)));
    return out;
}

int recorded_device(const json_t *doc, const char *task, const char *asked, const char *fallback,
                    const char **out, struct err *err)
{
    json_auto_t *names = recorded_devices(doc);
    const char *wanted = asked ? asked : fallback;
    char list[256];

    if (asked == NULL && json_array_size(names) == 1)
        wanted = json_string_value(json_array_get(names, 0));
    if (recorded_program(doc, wanted) != NULL) {
        json_t *devices = json_object_get(doc, "devices");

        *out = json_object_iter_key(json_object_iter_at(devices, wanted));
        return 0;
    }
    names_text(names, list, sizeof(list));
    if (json_array_size(names) == 0)
        return err_set(
            err, ERR_NOT_FOUND,
            "task '%s' has evaluations of other machines but no recorded table to measure "
            "with; 'ksearch task import' adds one",
            task);
    if (asked != NULL)
        return err_set(err, ERR_NOT_FOUND,
                       "task '%s' has no recorded table of device '%s'; it has: %s", task, asked,
                       list);
    return err_set(err, ERR_INVALID,
                   "'device' is missing: task '%s' was recorded on several; give one of %s", task,
                   list);
}

json_t *recorded_list_json(const char *task, const json_t *doc)
{
    json_t *devices = recorded_devices(doc), *parameters = json_object_get(doc, "parameters");
    CLEANUP(freep)
    char *summary =
        str_printf("a recorded tuning space of %zu parameters", json_array_size(parameters));

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:[s]}", "name", task, "family",
                     task, "summary", summary, "language", RECORDED_LANGUAGE, "dtype", "",
                     "bottleneck", "", "recorded", 1, "devices", devices, "sets", RECORDED_SET);
}

json_t *recorded_show_json(const char *task, const json_t *doc)
{
    json_t *show = recorded_list_json(task, doc), *devices = json_array(), *entry;
    const char *name;

    json_object_foreach (json_object_get(doc, "devices"), name, entry) {
        json_t *d = json_pack("{s:s, s:b, s:b}", "device", name, "table",
                              json_object_get(entry, "table") != NULL, "evaluations",
                              jsonx_bool(entry, "imported", 0));

        if (json_object_get(entry, "table") != NULL) {
            json_object_set(d, "assignments", json_object_get(entry, "assignments"));
            json_object_set(d, "objective", json_object_get(entry, "objective"));
            json_object_set(d, "noise", json_object_get(entry, "noise"));
            json_object_set(d, "program", json_object_get(entry, "program"));
        }
        json_array_append_new(devices, d);
    }
    json_object_set_new(show, "devices", devices);
    json_object_set(show, "parameters", json_object_get(doc, "parameters"));
    return show;
}
