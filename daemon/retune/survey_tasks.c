/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a retune: their records on both devices and what past searches took. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/pack.h"
#include "eval/recorded_store.h"
#include "retune/curve.h"
#include "retune/survey_impl.h"
#include "search/search.h"
#include "search/space_table.h"

enum { COLD_SEARCHES_MAX = 16, DEVICES_MAX = 64 };

/* ---- Which tasks, which old device ---- */

static int add_recorded_name(void *ctx, const char *key, const json_t *doc)
{
    if (recorded_is_task(doc))
        json_array_append_new(ctx, json_string(key));
    return 0;
}

/* The tasks asked for, or all that there are. */
static int list_names(struct survey *s, struct err *err)
{
    size_t n = json_array_size(s->req->tasks);
    struct err none;

    s->names = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *name = json_array_get(s->req->tasks, i), *doc = NULL;

        if (!json_is_string(name) || !str_is_name(json_string_value(name)))
            return err_set(err, ERR_INVALID, "'tasks' has an item that is no task's name");
        if (packs_find(s->packs, json_string_value(name)) == NULL) {
            if (kb_get_doc(s->kb, KB_TASK, json_string_value(name), &doc, &none) != 0)
                return err_set(err, ERR_NOT_FOUND,
                               "there is no task '%s'; 'ksearch task list' lists them",
                               json_string_value(name));
            json_decref(doc);
        }
        json_array_append(s->names, name);
    }
    if (n > 0)
        return 0;
    for (size_t i = 0; i < packs_count(s->packs); i++) {
        const struct pack *p = packs_get(s->packs, i);

        for (size_t k = 0; k < p->n_definitions; k++)
            json_array_append_new(s->names, json_string(p->definitions[k].name));
    }
    return kb_each_doc(s->kb, KB_TASK, add_recorded_name, s->names, err);
}

/* Evaluations with a result, per device. */
struct counts {
    size_t n;
    char names[DEVICES_MAX][100];
    uint64_t evals[DEVICES_MAX];
};

static int count_one(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct counts *c = ctx;
    size_t i = 0;

    (void)seq;
    (void)id;
    if (strcmp(e->status, "ok") != 0)
        return 0;
    while (i < c->n && strcmp(c->names[i], e->device) != 0)
        i++;
    if (i == c->n) {
        if (c->n == DEVICES_MAX)
            return 0;
        str_copy(c->names[c->n++], sizeof(c->names[0]), e->device);
    }
    c->evals[i]++;
    return 0;
}

static int choose_from(struct survey *s, struct err *err)
{
    CLEANUP(freep) struct counts *c = xcalloc(1, sizeof(*c));
    json_t *name;
    size_t i, best = SIZE_MAX;

    if (s->req->toolchain || s->req->from != NULL) {
        s->from_name = xstrdup(s->req->toolchain ? s->req->device : s->req->from);
        return 0;
    }
    json_array_foreach (s->names, i, name) {
        if (kb_each_evaluation(s->kb, json_string_value(name), NULL, UINT64_MAX, count_one, c,
                               err) != 0)
            return -1;
    }
    for (size_t d = 0; d < c->n; d++)
        if (strcmp(c->names[d], s->req->device) != 0 &&
            (best == SIZE_MAX || c->evals[d] > c->evals[best] ||
             (c->evals[d] == c->evals[best] && strcmp(c->names[d], c->names[best]) < 0)))
            best = d;
    if (best == SIZE_MAX)
        return err_set(err, ERR_NOT_FOUND,
                       "nothing of these tasks was measured on another device than '%s', so there "
                       "is nothing to retune from",
                       s->req->device);
    s->from_name = xstrdup(c->names[best]);
    return 0;
}

/* ---- Records ---- */

struct take {
    const char *versions; /* only records under these; NULL: all */
    struct survey_records *out;
};

static int take_record(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct take *t = ctx;
    struct survey_records *r = t->out;
    struct versions_change change;

    (void)seq;
    if (t->versions != NULL && versions_compare(e->toolchain, t->versions, &change, 1) > 0)
        return 0;
    r->v = xgrow(r->v, &r->cap, r->n + 1, sizeof(*r->v));
    r->v[r->n++] = (struct survey_record){ json_incref(e->assignment), e->objective_q, e->sd_q, *id,
                                           xstrdup(e->status),         xstrdup(e->set) };
    return 0;
}

static bool is_ok(const struct survey_record *r)
{
    return strcmp(r->status, "ok") == 0;
}

static int better_record(const void *pa, const void *pb)
{
    const struct survey_record *a = pa, *b = pb;
    bool ok_a = is_ok(a), ok_b = is_ok(b);

    if (ok_a != ok_b)
        return ok_a ? -1 : 1;
    if (a->objective_q != b->objective_q)
        return a->objective_q > b->objective_q ? -1 : 1;
    return strcmp(a->id.hex, b->id.hex);
}

static void record_release(struct survey_record *r)
{
    json_decref(r->assignment);
    free(r->status);
    free(r->set);
}

/* Ratios over different workloads cannot be compared: only those of one set stay. */
static void keep_set(struct survey_records *r, const char *set)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->v[i].set, set) != 0)
            record_release(&r->v[i]);
        else
            r->v[kept++] = r->v[i];
    }
    r->n = kept;
}

/* The set that most records with a result are of; the first by name of several. "" for none. */
static char *common_set(const struct survey_records *r)
{
    const char *best = "";
    size_t most = 0;
    bool new;

    for (size_t i = 0; i < r->n; i++) {
        size_t n = 0;

        new = true;
        for (size_t k = 0; k < i && new; k++)
            new = strcmp(r->v[k].set, r->v[i].set) != 0;
        for (size_t k = i; k < r->n && new; k++)
            n += is_ok(&r->v[k]) && strcmp(r->v[k].set, r->v[i].set) == 0;
        if (n > most || (n == most && n > 0 && strcmp(r->v[i].set, best) < 0)) {
            most = n;
            best = r->v[i].set;
        }
    }
    return xstrdup(best);
}

static void records_release(struct survey_records *r)
{
    for (size_t i = 0; i < r->n; i++)
        record_release(&r->v[i]);
    free(r->v);
    *r = (struct survey_records){ 0 };
}

static int read_records(struct survey *s, struct survey_task *t, struct err *err)
{
    struct take old = { NULL, &t->old }, new = { s->versions, &t->new };
    CLEANUP(freep) char *set = NULL;

    if (kb_each_evaluation(s->kb, t->name, s->from_name, UINT64_MAX, take_record, &old, err) != 0)
        return -1;
    if (kb_each_evaluation(s->kb, t->name, s->req->device, UINT64_MAX, take_record, &new, err) != 0)
        return -1;
    set = common_set(&t->old);
    keep_set(&t->old, set);
    keep_set(&t->new, set);
    if (t->old.n > 0)
        qsort(t->old.v, t->old.n, sizeof(*t->old.v), better_record);
    t->set = t->old.n > 0 ? t->old.v[0].set : "";
    return 0;
}

/* ---- The space on the new device ---- */

static int recorded_space(struct survey *s, struct survey_task *t, const json_t *doc,
                          struct err *err)
{
    const char *program = recorded_program(doc, s->req->device);
    json_auto_t *program_doc = NULL;

    t->recorded = true;
    t->family = xstrdup(t->name);
    t->dtype = xstrdup("");
    if (program == NULL) {
        snprintf(t->why_not, sizeof(t->why_not), "it has no recorded table of device '%s'",
                 s->req->device);
        return 0;
    }
    if (kb_get_doc(s->kb, KB_PROGRAM, program, &program_doc, err) != 0 ||
        space_table_unpack(json_object_get(program_doc, "space"), &t->space, err) != 0)
        return err_ctx(err, "the space of task '%s'", t->name);
    return 0;
}

static int pack_space(struct survey *s, struct survey_task *t, const struct pack_definition *def,
                      struct err *err)
{
    const char *kind = jsonx_str(s->to, "kind", "");

    t->family = xstrdup(def->pack->family);
    t->dtype = xstrdup(def->pack->dtype);
    if (strcmp(kind, "recorded") == 0)
        snprintf(t->why_not, sizeof(t->why_not), "device '%s' is a recording, which runs nothing",
                 s->req->device);
    if (def->pack->space == NULL) {
        snprintf(t->why_not, sizeof(t->why_not), "it has no tunable template");
        return 0;
    }
    return space_parse(def->pack->space, def->pack->space_path, &t->space, err);
}

static int find_space(struct survey *s, struct survey_task *t, struct err *err)
{
    const struct pack_definition *def = packs_find(s->packs, t->name);
    json_auto_t *doc = NULL;

    if (def != NULL)
        return pack_space(s, t, def, err);
    if (kb_get_doc(s->kb, KB_TASK, t->name, &doc, err) != 0)
        return err_ctx(err, "task '%s'", t->name);
    return recorded_space(s, t, doc, err);
}

/* The best old record that is valid on the new device: what is carried over. */
static void choose_carried(struct survey_task *t)
{
    uint16_t a[SPACE_PARAMS_MAX];
    struct err ignored;

    t->carried = -1;
    for (size_t i = 0; t->space != NULL && i < t->old.n && is_ok(&t->old.v[i]); i++)
        if (space_from_json(t->space, t->old.v[i].assignment, a, &ignored) == 0 &&
            space_valid(t->space, a)) {
            t->carried = (long)i;
            return;
        }
}

char *survey_key(const struct survey_task *t, const uint16_t *a)
{
    CLEANUP(freep) char *key = space_key(t->space, a);
    char *out = str_printf("%s\n%s", t->name, key);

    if (out == NULL)
        abort(); /* as xmalloc does */
    return out;
}

const struct survey_record *survey_known(const struct survey_task *t, const json_t *assignment)
{
    for (size_t i = 0; i < t->new.n; i++)
        if (json_equal(t->new.v[i].assignment, (json_t *)assignment))
            return &t->new.v[i];
    return NULL;
}

/* ---- Values ---- */

/* Constrained spaces list no rows: all their values are meant. */
bool survey_value_is_valid(const struct space *space, size_t p, int value)
{
    if (value < 0)
        return false;
    for (size_t k = 0; k < space_rows(space); k++)
        if (space_row(space, k)[p] == value)
            return true;
    return space_rows(space) == 0;
}

json_t *survey_new_values(const struct survey_task *t)
{
    json_t *out = json_array();

    for (size_t p = 0; t->space != NULL && p < space_n(t->space); p++) {
        const struct space_param *param = space_param(t->space, p);

        for (uint16_t v = 0; v < param->n_values && param->n_values > 1; v++) {
            json_auto_t *value = space_value_json(t->space, p, v);
            bool failed = false, worked = false;

            for (size_t i = 0; i < t->old.n && !worked; i++) {
                if (!json_equal(json_object_get(t->old.v[i].assignment, param->name), value))
                    continue;
                worked = is_ok(&t->old.v[i]);
                failed = true;
            }
            if (failed && !worked && survey_value_is_valid(t->space, p, v))
                json_array_append_new(
                    out, json_pack("{s:s, s:O}", "param", param->name, "value", value));
        }
    }
    return out;
}

/* ---- What past searches took ---- */

struct past {
    struct survey *s;
    size_t n, cap;
    struct past_search {
        size_t task;
        char id[SEARCH_ID_MAX], device[100];
        bool cold;
    } * v;
};

static int list_search(void *ctx, const char *key, const json_t *doc)
{
    struct past *p = ctx;

    if (strcmp(jsonx_str(doc, "state", ""), "done") != 0 ||
        strcmp(jsonx_str(doc, "proposer", ""), "random") == 0)
        return 0;
    for (size_t i = 0; i < p->s->n_tasks; i++) {
        if (strcmp(p->s->tasks[i].name, jsonx_str(doc, "task", "")) != 0)
            continue;
        p->v = xgrow(p->v, &p->cap, p->n + 1, sizeof(*p->v));
        p->v[p->n].task = i;
        p->v[p->n].cold = jsonx_bool(doc, "cold", 0);
        str_copy(p->v[p->n].id, sizeof(p->v[0].id), key);
        str_copy(p->v[p->n].device, sizeof(p->v[0].device), jsonx_str(doc, "device", ""));
        p->n++;
    }
    return 0;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), by_double);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Cold searches of the task, on any device; warm ones only where there is no cold one. Their
 * feedback knows operations and bytes of the workloads. */
static void read_past(struct survey *s, const struct past *p, size_t task)
{
    double evals[COLD_SEARCHES_MAX], seconds[COLD_SEARCHES_MAX];
    struct survey_task *t = &s->tasks[task];

    for (int cold = 1; cold >= 0 && t->cold_searches == 0; cold--) {
        size_t n = 0, timed = 0;

        for (size_t i = p->n; i > 0 && n < COLD_SEARCHES_MAX; i--) {
            const struct past_search *ps = &p->v[i - 1];
            struct err ignored;
            struct curve curve;
            size_t to_best;

            if (ps->task != task || ps->cold != (cold == 1) ||
                curve_read(s->kb, ps->id, &curve, &ignored) != 0)
                continue;
            to_best = curve_to_best(&curve);
            if (to_best > 0) {
                evals[n++] = (double)to_best;
                if (curve.wall_ns > 0)
                    seconds[timed++] = 1e-9 * (double)curve.wall_ns / (double)curve.n;
            }
            if (t->workloads == NULL)
                t->workloads = TAKE(curve.workloads);
            curve_release(&curve);
        }
        if (n > 0) {
            t->cold_searches = (unsigned)n;
            t->cold_evals = (uint64_t)ceil(median(evals, n));
            t->cold_warm = cold == 0;
        }
        if (timed > 0 && !t->eval_known) {
            t->eval_s = median(seconds, timed);
            t->eval_known = true;
        }
    }
}

/* ---- All of it ---- */

void survey_task_release(struct survey_task *t)
{
    free(t->family);
    free(t->dtype);
    space_free(t->space);
    records_release(&t->old);
    records_release(&t->new);
    json_decref(t->workloads);
}

/* Tasks without a success on the old device are passed over, unless they were asked for. */
static int read_task(struct survey *s, const char *name, struct err *err)
{
    struct survey_task *t = &s->tasks[s->n_tasks];

    *t = (struct survey_task){ .name = name, .carried = -1, .eval_s = 1 };
    s->n_tasks++; /* from here on it is released with the survey */
    if (read_records(s, t, err) != 0)
        return -1;
    if (t->old.n == 0 || !is_ok(&t->old.v[0])) {
        if (json_array_size(s->req->tasks) > 0)
            return err_set(err, ERR_NOT_FOUND,
                           "task '%s' was never measured with success on device '%s'", name,
                           s->from_name);
        s->n_tasks--;
        survey_task_release(t);
        return 0;
    }
    if (find_space(s, t, err) != 0)
        return -1;
    choose_carried(t);
    if (t->why_not[0] == '\0' && t->carried < 0)
        snprintf(t->why_not, sizeof(t->why_not),
                 "none of its programs from device '%s' is valid there", s->from_name);
    return 0;
}

int survey_find_tasks(struct survey *s, struct err *err)
{
    struct past past = { .s = s };
    json_t *name;
    size_t i;
    int rc = 0;

    if (list_names(s, err) != 0 || choose_from(s, err) != 0)
        return -1;
    s->tasks = xcalloc(json_array_size(s->names) + 1, sizeof(*s->tasks));
    json_array_foreach (s->names, i, name) {
        if (s->n_tasks == SURVEY_TASKS_MAX)
            return err_set(err, ERR_LIMIT, "over %d tasks at once; '--task' names fewer",
                           SURVEY_TASKS_MAX);
        if (read_task(s, json_string_value(name), err) != 0)
            return -1;
    }
    if (s->n_tasks == 0)
        return err_set(err, ERR_NOT_FOUND,
                       "nothing was measured with success on device '%s', so there is nothing to "
                       "retune",
                       s->from_name);
    rc = kb_each_doc(s->kb, KB_SEARCH, list_search, &past, err);
    for (i = 0; rc == 0 && i < s->n_tasks; i++)
        read_past(s, &past, i);
    free(past.v);
    return rc;
}
