/* SPDX-License-Identifier: Apache-2.0 */
/* insight.*: what has been learned, claims made by hand, and withdrawing them. */
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "kb.h"
#include "proto/methods.h"
#include "rpc/answer.h"
#include "rpc/rpc.h"
#include "search/history.h"

enum {
    LIST_DEFAULT = 100,
    LIST_MAX = 10000,
    EVIDENCE_MAX = 200,
    TEXT_MAX = 2000,
    REASON_MAX = 1000
};

/* ---- list ---- */

static const char *const state_names[] = { "active", "superseded", "retracted", NULL };

struct list_params {
    uint64_t limit;
    char *family, *technique;
    int state;
    bool by_state;
};

static const struct param list_rows[] = {
    { "limit", PARAM_U64, offsetof(struct list_params, limit), 0, "most insights to list (100)", 1,
      LIST_MAX, NULL, 0 },
    { "family", PARAM_NAME, offsetof(struct list_params, family), 0,
      "only claims about this family", 0, 0, NULL, 0 },
    { "technique", PARAM_STR, offsetof(struct list_params, technique), 0,
      "only claims of this technique", 0, 200, NULL, 0 },
    { "state", PARAM_ENUM, offsetof(struct list_params, state), 0, "only insights in this state", 0,
      0, state_names, PARAM_SEEN(struct list_params, by_state) },
    { 0 },
};

static void list_defaults(void *params)
{
    ((struct list_params *)params)->limit = LIST_DEFAULT;
}

struct listing {
    const struct list_params *p;
    json_t *rows;
    json_int_t total;
};

static int list_one(void *ctx, const struct insight *in)
{
    struct listing *l = ctx;
    const struct list_params *p = l->p;

    if ((p->family != NULL && strcmp(p->family, in->claim.family) != 0) ||
        (p->technique != NULL && strcmp(p->technique, in->claim.technique) != 0) ||
        (p->by_state && p->state != (int)in->state))
        return 0;
    l->total++;
    if (json_array_size(l->rows) < p->limit)
        json_array_append_new(l->rows, answer_insight(in));
    return 0;
}

static int list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *rows = json_array();
    struct listing l = { params, rows, 0 };

    if (kb_each_insight(d->kb, list_one, &l) != 0)
        return err_set(err, ERR_NOMEM, "no memory to bring the insights up to date");
    *result = json_pack("{s:O, s:I}", "insights", rows, "total", l.total);
    return 0;
}

static void insight_list(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, list_run);
}

/* ---- show ---- */

struct insight_params {
    char *insight, *reason;
};

#define INSIGHT_ROW                                                                                \
    {                                                                                              \
        "insight", PARAM_STR, offsetof(struct insight_params, insight), PARAM_REQUIRED,            \
            "id of the insight, or its first digits (at least 6)", 0, ID_HEX, NULL, 0              \
    }

static const struct param show_rows[] = { INSIGHT_ROW, { 0 } };

static const struct insight_sums *foreign_part(const struct insight *in, const char *key)
{
    for (size_t i = 0; i < in->n_foreign; i++)
        if (strcmp(in->foreign[i].key, key) == 0)
            return &in->foreign[i].sums;
    return NULL;
}

static json_t *mean_json(int64_t sum_q, uint32_t n)
{
    return n > 0 ? json_real((double)sum_q * 1e-6 / n) : json_null();
}

static json_t *cell_json(const struct insight *in, const struct insight_cell *cell)
{
    const struct insight_sums *s = &cell->sums, *f = foreign_part(in, cell->key);

    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "cell", cell->key, "blind",
                     (json_int_t)s->blind, "steered", (json_int_t)s->steered, "positive",
                     (json_int_t)s->positive, "negative", (json_int_t)s->negative, "failures",
                     (json_int_t)s->failures, "foreign",
                     (json_int_t)(f ? f->blind + f->steered : 0), "mean",
                     mean_json(s->effect_q, s->blind + s->steered), "blind_mean",
                     mean_json(s->blind_q, s->blind));
}

static json_t *cells_json(const struct insight *in)
{
    json_t *cells = json_array();

    for (size_t i = 0; i < in->n_cells; i++)
        json_array_append_new(cells, cell_json(in, &in->cells[i]));
    return cells;
}

/* The newest failure of each class: what its evaluation said. One whose evaluation is not here (an
 * import may leave it behind) has a class and a count alone. */
static json_t *newest_failures(struct kb *kb, const struct insight *in)
{
    json_t *list = json_array();

    for (size_t i = 0; i < in->n_failures; i++) {
        const struct insight_failure *f = &in->failures[i];
        json_t *row =
            json_pack("{s:s, s:I, s:I, s:s}", "class", f->class, "n", (json_int_t)f->n,
                      "measured_at_s", (json_int_t)f->newest_s, "evidence", f->newest.hex);
        struct evaluation run;
        struct evidence e;
        struct err ignored;

        json_array_append_new(list, row);
        if (kb_get_evidence(kb, &f->newest, &e, &ignored) != 0)
            continue;
        if (kb_get_evaluation(kb, &e.with, &run, &ignored) == 0) {
            json_object_set_new(row, "message", json_string(run.message));
            evaluation_release(&run);
        }
        evidence_release(&e);
    }
    return list;
}

struct same {
    const struct insight *of;
    json_t *list;
};

static int add_same(void *ctx, const struct insight *in)
{
    struct same *s = ctx;

    if (strcmp(in->id.hex, s->of->id.hex) != 0)
        json_array_append_new(
            s->list, json_pack("{s:s, s:s, s:s, s:I, s:I}", "insight", in->id.hex, "statement",
                               in->claim.statement, "state", insight_state_name(in->state), "blind",
                               (json_int_t)in->all.blind, "steered", (json_int_t)in->all.steered));
    return 0;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(jsonx_str(*(json_t *const *)a, "insight", ""),
                  jsonx_str(*(json_t *const *)b, "insight", ""));
}

/* The other claims of its same-as set, in id order. */
static int same_json(struct kb *kb, const struct insight *in, json_t **out, struct err *err)
{
    json_auto_t *list = json_array();
    CLEANUP(freep) json_t **rows = NULL;
    struct same s = { in, list };
    size_t n;

    if (kb_each_same(kb, &in->id, add_same, &s) != 0)
        return err_set(err, ERR_NOMEM, "no memory to bring the insights up to date");
    n = json_array_size(list);
    rows = xcalloc(n + 1, sizeof(json_t *));
    for (size_t i = 0; i < n; i++)
        rows[i] = json_array_get(list, i);
    qsort(rows, n, sizeof(*rows), by_id);
    *out = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append(*out, rows[i]);
    return 0;
}

/* Evidence as it is stored, with its id. */
static int evidence_json(struct kb *kb, const struct insight *in, json_t *out, struct err *err)
{
    for (size_t i = 0; i < in->n_evidence && i < EVIDENCE_MAX; i++) {
        char origin[KB_ORIGIN_MAX + 1];
        struct evidence ev;
        json_t *j;

        if (kb_get_evidence(kb, &in->evidence[i], &ev, err) != 0)
            return err_ctx(err, "evidence of insight '%.12s'", in->id.hex);
        j = evidence_to_json(&ev);
        evidence_release(&ev);
        if (j == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the evidence");
        json_object_set_new(j, "id", json_string(in->evidence[i].hex));
        if (kb_fact_origin(kb, &in->evidence[i], origin, err) != 0) {
            json_decref(j);
            return -1;
        }
        if (*origin != '\0')
            json_object_set_new(j, "origin", json_string(origin));
        json_array_append_new(out, j);
    }
    return 0;
}

static int show_json(struct kb *kb, const struct insight *in, json_t **result, struct err *err)
{
    json_auto_t *evidence = json_array(), *same = NULL;
    char when[32], origin[KB_ORIGIN_MAX + 1];
    json_t *j;

    if (evidence_json(kb, in, evidence, err) != 0 || same_json(kb, in, &same, err) != 0 ||
        kb_fact_origin(kb, &in->id, origin, err) != 0)
        return -1;
    j = answer_insight(in);
    json_object_set_new(j, "recorded_at",
                        json_string(clock_iso(in->recorded_at_ns, when, sizeof(when))));
    if (*in->claim.param != '\0')
        json_object_set_new(j, "tunable",
                            json_pack("{s:s, s:s, s:s}", "name", in->claim.param, "with",
                                      in->claim.with_value, "without", in->claim.without_value));
    if (*origin != '\0')
        json_object_set_new(j, "origin", json_string(origin));
    if (in->state == INSIGHT_SUPERSEDED)
        json_object_set_new(j, "superseded_by", json_string(in->same_as.hex));
    json_object_set(j, "same_as", same);
    json_object_set_new(j, "newest_failures", newest_failures(kb, in));
    json_object_set_new(j, "cells", cells_json(in));
    json_object_set(j, "evidence", evidence);
    *result = j;
    return 0;
}

/* What following it was worth to searches that it was offered to. */
static int add_credit(struct daemon *d, const char *insight, json_t *result, struct err *err)
{
    struct credit_row row;

    if (history_refresh(d->history, d->kb, err) != 0)
        return -1; /* whoever called frees what there is of the result */
    row = history_credit(d->history, insight);
    json_object_set_new(result, "credit", credit_json(&row));
    return 0;
}

static int show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct insight in;
    int rc;

    if (kb_get_insight(d->kb, ((struct insight_params *)params)->insight, &in, err) != 0)
        return -1;
    rc = show_json(d->kb, &in, result, err);
    if (rc == 0)
        rc = add_credit(d, in.id.hex, *result, err);
    insight_release(&in);
    return rc;
}

static void insight_show(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, show_run);
}

/* ---- add ---- */

static const char *const bottleneck_names[] = { "memory", "compute", "latency", NULL };

struct add_params {
    char *technique, *statement, *mechanism, *family, *dtype, *language, *requires;
    int bottleneck;
    bool bound;
};

#define TEXT_ROW(field, name_flags, cap, what)                                                     \
    {                                                                                              \
#field, PARAM_STR, offsetof(struct add_params, field), name_flags, what, 0, cap, NULL, 0   \
    }

static const struct param add_rows[] = {
    TEXT_ROW(technique, PARAM_REQUIRED, 96, "what is done, a term such as tiling"),
    TEXT_ROW(statement, PARAM_REQUIRED, TEXT_MAX, "the claim, one or two sentences"),
    TEXT_ROW(mechanism, 0, TEXT_MAX, "why it should work"),
    TEXT_ROW(family, 0, 96, "only for tasks of this family"),
    TEXT_ROW(dtype, 0, 32, "only for this data type"),
    TEXT_ROW(language, 0, 32, "only for this language: c, cuda"),
    { "bottleneck", PARAM_ENUM, offsetof(struct add_params, bottleneck), 0,
      "only where this bounds", 0, 0, bottleneck_names, PARAM_SEEN(struct add_params, bound) },
    TEXT_ROW(requires, 0, 500,
             "hardware features it needs, or capacities such as shared_bytes.block>=65536, joined "
             "by commas"),
    { 0 },
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "fma,avx2" to "avx2,fma", in place: equal claims have equal texts. Empty items are dropped. */
static void sort_list(char *list)
{
    char *items[250], *save = NULL;
    CLEANUP(freep) char *copy = xstrdup(list);
    size_t n = 0, at = 0;

    for (char *t = strtok_r(copy, ", ", &save); t != NULL && n < ARRAY_LEN(items);
         t = strtok_r(NULL, ", ", &save))
        items[n++] = t;
    qsort(items, n, sizeof(*items), by_text);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(items[i]);

        if (i > 0 && strcmp(items[i], items[i - 1]) == 0)
            continue;
        if (at > 0)
            list[at++] = ',';
        memcpy(list + at, items[i], len);
        at += len;
    }
    list[at] = '\0';
}

static char *text_or_empty(char *s)
{
    static char empty[] = "";

    return s != NULL ? s : empty;
}

static int add_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct add_params *p = params;
    char none[] = "";
    struct claim c = {
        .technique = p->technique,
        .statement = p->statement,
        .mechanism = text_or_empty(p->mechanism),
        .family = text_or_empty(p->family),
        .dtype = text_or_empty(p->dtype),
        .language = text_or_empty(p->language),
        .bottleneck = p->bound ? (char *)bottleneck_names[p->bottleneck] : none,
        .requires = text_or_empty(p->requires),
        .param = none,
        .with_value = none,
        .without_value = none,
    };
    struct insight before;
    struct kb_batch *b;
    struct err ignored;
    struct id id;
    bool known = false;
    int rc;

    if (*c.technique == '\0' || *c.statement == '\0')
        return err_set(err, ERR_INVALID, "'%s' is empty; a claim has a technique and a statement",
                       *c.technique == '\0' ? "technique" : "statement");
    if (p->requires != NULL)
        sort_list(p->requires);
    b = kb_batch_new(d->kb);
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to store the claim");
    rc = kb_batch_add_claim(b, &c, &id, err);
    if (rc == 0 && kb_get_insight(d->kb, id.hex, &before, &ignored) == 0) {
        known = true;
        insight_release(&before);
    }
    if (rc == 0)
        rc = kb_commit(b, err);
    kb_batch_free(b);
    if (rc == 0)
        *result = json_pack("{s:s, s:b}", "insight", id.hex, "added", !known);
    return rc;
}

static void insight_add(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, add_run);
}

/* ---- retract ---- */

static const struct param retract_rows[] = {
    INSIGHT_ROW,
    { "reason", PARAM_STR, offsetof(struct insight_params, reason), PARAM_REQUIRED, "why", 0,
      REASON_MAX, NULL, 0 },
    { 0 },
};

static int retract_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct insight_params *p = params;
    struct retraction r = { .kind = FACT_CLAIM, .reason = p->reason };
    struct insight in;
    struct kb_batch *b;
    int rc;

    if (kb_get_insight(d->kb, p->insight, &in, err) != 0)
        return -1;
    r.target = in.id;
    insight_release(&in);
    b = kb_batch_new(d->kb);
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to store the retraction");
    rc = kb_batch_add_retraction(b, &r, NULL, err);
    if (rc == 0)
        rc = kb_commit(b, err);
    kb_batch_free(b);
    if (rc == 0)
        *result = json_pack("{s:s, s:s}", "insight", r.target.hex, "state", "retracted");
    return rc;
}

static void insight_retract(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, retract_run);
}

const struct rpc_method rpc_insight_methods[] = {
    { METHOD_INSIGHT_ADD, add_rows, sizeof(struct add_params), RPC_WRITE, insight_add,
      "State a claim by hand; measurements will judge it. An equal claim is the same insight.",
      "{insight, added}", NULL },
    { METHOD_INSIGHT_LIST, list_rows, sizeof(struct list_params), 0, insight_list,
      "What has been learned, in order of id.",
      "{insights[{insight, technique, statement, mechanism, scope{}, condition, when{feature, op, "
      "value, helps} or null, contradicted, state, effect{mean, sd, p_positive, n, cell, blind, "
      "steered, blind_mean, foreign, trust, levels[]} or null, blind, steered, failures, "
      "failure_classes{class: n}, evidence_count}], total}",
      list_defaults },
    { METHOD_INSIGHT_RETRACT, retract_rows, sizeof(struct insight_params), RPC_WRITE,
      insight_retract, "Withdraw an insight; a tombstone keeps what it said.", "{insight, state}",
      NULL },
    { METHOD_INSIGHT_SHOW, show_rows, sizeof(struct insight_params), 0, insight_show,
      "One insight with its cells and at most 200 pieces of evidence.",
      "as in insight.list, with recorded_at, tunable{name, with, without}?, origin?, "
      "superseded_by?, same_as[{insight, statement, state, blind, steered}], "
      "newest_failures[{class, n, measured_at_s, evidence, message?}], cells[{cell, blind, "
      "steered, positive, negative, failures, foreign, mean, blind_mean}], evidence[{..., id, "
      "origin?}], credit{served, adopted, against, wins, losses, lift, debit}",
      NULL },
    { 0 },
};
