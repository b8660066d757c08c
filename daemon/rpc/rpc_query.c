/* SPDX-License-Identifier: Apache-2.0 */
/* query: what the knowledge base knows. The names of task and device become scope, class and
 * features. */
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "devices.h"
#include "embedder.h"
#include "eval/pack.h"
#include "kb.h"
#include "proto/methods.h"
#include "regimes.h"
#include "rpc/rpc.h"
#include "tasks.h"

enum { TEXT_MAX = 4096, FEATURES_MAX = 8192 };

struct query_params {
    char *text, *task, *device, *technique, *shape;
    json_t *as_of;
    uint64_t limit;
    bool explain;
};

static const struct param query_rows[] = {
    { "text", PARAM_STR, offsetof(struct query_params, text), 0, "what to look for, in plain words",
      0, TEXT_MAX, NULL, 0 },
    { "task", PARAM_NAME, offsetof(struct query_params, task), 0,
      "rank for this task; claims about other families are left out", 0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct query_params, device), 0,
      "rank for this device; claims that need what it lacks are left out", 0, 0, NULL, 0 },
    { "technique", PARAM_STR, offsetof(struct query_params, technique), 0,
      "only this technique or a synonym of it", 0, 200, NULL, 0 },
    { "shape", PARAM_STR, offsetof(struct query_params, shape), 0,
      "rank for this shape regime, such as experts=64,topk=8,tokens_per_expert=8", 0,
      REGIME_TEXT_MAX, NULL, 0 },
    { "limit", PARAM_U64, offsetof(struct query_params, limit), 0, "most hits to give (10)", 1, 100,
      NULL, 0 },
    { "as_of", PARAM_JSON, offsetof(struct query_params, as_of), 0,
      "only what was known then: seconds since 1970, a date or a time in ISO 8601, UTC, or how "
      "long "
      "ago (90s, 5m, 2h, 3d)",
      0, 0, NULL, 0 },
    { "explain", PARAM_BOOL, offsetof(struct query_params, explain), 0,
      "say how the question was understood and each hit ranked", 0, 0, NULL, 0 },
    { 0 },
};

static void query_defaults(void *params)
{
    struct query_params *p = params;

    p->text = xstrdup("");
    p->limit = 10;
}

/* "2h", "3d": that long before now. Digits alone are a time. */
static bool parse_ago(const char *s, uint64_t now_ns, uint64_t *out)
{
    size_t len = strlen(s);
    char hours[24];
    uint64_t ago, days;

    if (len >= 2 && len < sizeof(hours) && s[len - 1] == 'd') {
        memcpy(hours, s, len);
        hours[len - 1] = '\0';
        if (!str_to_u64(hours, &days) || days > 100000)
            return false;
        ago = days * 86400 * NS_PER_SEC;
    } else if (!str_to_duration_ns(s, &ago)) {
        return false;
    }
    *out = now_ns - MIN(ago, now_ns - 1);
    return true;
}

static int parse_as_of(const json_t *v, uint64_t now_ns, uint64_t *out, struct err *err)
{
    CLEANUP(freep) char *shown = NULL;
    char seen[100];

    *out = 0;
    if (v == NULL)
        return 0;
    if (json_is_integer(v) && json_integer_value(v) > 0 &&
        (uint64_t)json_integer_value(v) < UINT64_MAX / NS_PER_SEC) {
        *out = (uint64_t)json_integer_value(v) * NS_PER_SEC;
        return 0;
    }
    if (json_is_string(v) && (clock_parse_time(json_string_value(v), out) == 0 ||
                              parse_ago(json_string_value(v), now_ns, out)))
        return 0;
    shown = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    str_visible(shown != NULL ? shown : "", shown != NULL ? strlen(shown) : 0, seen, sizeof(seen));
    return err_set(err, ERR_INVALID,
                   "'as_of' is %s; allowed are seconds since 1970, '2026-11-22', "
                   "'2026-11-22T16:05:09Z' or how long ago, such as '2h'",
                   seen);
}

/* "avx2,fma": the features of a device, as filters want them. */
static int features_text(const json_t *device, struct buf *out, struct err *err)
{
    const json_t *features = json_object_get(device, "features");
    json_t *f;
    size_t i;

    json_array_foreach (features, i, f) {
        if (!json_is_string(f))
            continue;
        if ((out->len > 0 && buf_adds(out, ",", err) != 0) ||
            buf_adds(out, json_string_value(f), err) != 0)
            return -1;
    }
    return buf_adds(out, "", err);
}

/* What a question's names stand for; kept as long as it is answered. */
struct place {
    struct packs *packs;
    char *family, *shape, *related;
    struct regime regime;
    json_t *device, *context;
    struct buf features;
    struct embedding vector;
    char note[EMBEDDER_NOTE_MAX];
};

static void place_release(struct place *p)
{
    packs_unref(p->packs);
    free(p->family);
    free(p->shape);
    free(p->related);
    json_decref(p->device);
    json_decref(p->context);
    buf_release(&p->features);
}

static bool task_regime(void *ctx, const char *task, struct regime *out)
{
    const struct pack_definition *def = packs_find(ctx, task);

    if (def != NULL)
        regime_of_task(def, NULL, out);
    return def != NULL;
}

/* The task gives the family, its relatives and the shape; a shape of its own right goes before. */
static int place_task(struct daemon *d, const struct query_params *p, struct place *at,
                      struct kb_query *q, struct err *err)
{
    const struct pack_definition *def;

    if (p->shape != NULL && regime_parse(p->shape, &at->regime, err) != 0)
        return err_ctx(err, "'shape'");
    if (p->task == NULL)
        return 0;
    if (task_scope(d, p->task, &at->family, &at->shape, err) != 0)
        return -1;
    q->family = *at->family ? at->family : NULL;
    if (p->shape == NULL && *at->shape)
        q->shape = at->shape;
    def = packs_find(at->packs, p->task);
    if (def != NULL) {
        struct regime own;

        regime_of_task(def, NULL, &own);
        regime_complete(&at->regime, &own);
        at->related = regime_related_families(at->packs, def);
        q->related = *at->related ? at->related : NULL;
    }
    /* Of a shape that is not the task's own, only what was asked is known. */
    at->context =
        regime_context(p->shape == NULL ? def : NULL,
                       p->shape == NULL && def ? pack_default_set(def) : NULL, at->device);
    q->context = at->context;
    return 0;
}

static int place_device(struct daemon *d, const struct query_params *p, struct place *at,
                        struct kb_query *q, struct err *err)
{
    if (p->device == NULL)
        return 0;
    if (device_get(d, p->device, &at->device, err) != 0 ||
        features_text(at->device, &at->features, err) != 0)
        return -1;
    q->device_class = jsonx_str(at->device, "class", NULL);
    q->features = buf_str(&at->features);
    return 0;
}

static void place_vector(struct daemon *d, const struct query_params *p, struct place *at,
                         struct kb_query *q)
{
    if (p->text[0] == '\0' || !embedder_answers(d->embedder))
        return;
    if (embedder_query(d->embedder, p->text, &at->vector, at->note))
        q->vector = &at->vector;
    else
        q->note = at->note;
}

static int query_at(struct daemon *d, const struct query_params *p, bool wait, struct place *at,
                    struct buf *out, struct err *err)
{
    struct kb_query q = { .text = p->text,
                          .task = p->task,
                          .technique = p->technique,
                          .limit = p->limit,
                          .explain = p->explain,
                          .task_regime = task_regime,
                          .task_regime_ctx = at->packs };

    if (parse_as_of(p->as_of, d->clock->wall_ns(d->clock), &q.as_of_ns, err) != 0 ||
        place_device(d, p, at, &q, err) != 0 || place_task(d, p, at, &q, err) != 0)
        return -1;
    if (!regime_is_empty(&at->regime))
        q.regime = &at->regime;
    if (!wait)
        return kb_query_now(d->kb, &q, out, err);
    place_vector(d, p, at, &q);
    return kb_query_text(d->kb, &q, out, err);
}

static int query_run(struct daemon *d, void *params, bool wait, struct buf *out, struct err *err)
{
    const struct query_params *p = params;
    struct place at = { .features.max = FEATURES_MAX };
    int rc;

    /* Without a text, every insight's evidence is compared with the shape: milliseconds. */
    if (!wait && p->text[0] == '\0' && (p->task != NULL || p->shape != NULL))
        return 1;
    /* Asking the provider blocks. */
    if (!wait && p->text[0] != '\0' && embedder_answers(d->embedder))
        return 1;
    at.packs = packs_take(&d->packs);
    rc = query_at(d, p, wait, &at, out, err);
    place_release(&at);
    return rc;
}

static void query_with_device(void *arg, const json_t *device, const struct err *err)
{
    struct rpc_call *call = arg;

    if (device == NULL)
        rpc_fail(call, err);
    else
        rpc_run_text(call, query_run);
}

static void query(struct rpc_call *call, void *params)
{
    const struct query_params *p = params;

    if (p->device != NULL && strcmp(p->device, "cpu") == 0)
        device_ensure(rpc_daemon(call), p->device, query_with_device, call);
    else
        rpc_run_text(call, query_run);
}

const struct rpc_method rpc_query_methods[] = {
    { METHOD_QUERY, query_rows, sizeof(struct query_params), 0, query,
      "Ask the knowledge base; no language model is called. A miss says which filter removed how "
      "many.",
      "{hits[{insight, statement, technique, scope{}, condition, when{feature, op, value, helps} "
      "or "
      "null, contradicted, effect{mean, sd, p_positive, n, cell, blind, steered, blind_mean, "
      "foreign, "
      "levels[], holds, side_n}, blind, steered, failures, failure_classes{class: n}, state, "
      "score, why[], evidence[]}], removed{filter: n}, took_us, understood{profile, shape, "
      "techniques[], embedding}?, notes[]?}",
      query_defaults },
    { 0 },
};
