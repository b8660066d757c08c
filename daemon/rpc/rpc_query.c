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
#include "kb.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "tasks.h"

enum { TEXT_MAX = 4096, FEATURES_MAX = 8192 };

struct query_params {
    char *text, *task, *device, *technique;
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
    { "limit", PARAM_U64, offsetof(struct query_params, limit), 0, "most hits to give (10)", 1, 100,
      NULL, 0 },
    { "as_of", PARAM_JSON, offsetof(struct query_params, as_of), 0,
      "only what was known then: seconds since 1970, a date or a time in ISO 8601, UTC", 0, 0, NULL,
      0 },
    { "explain", PARAM_BOOL, offsetof(struct query_params, explain), 0,
      "say how each hit was ranked", 0, 0, NULL, 0 },
    { 0 },
};

static void query_defaults(void *params)
{
    struct query_params *p = params;

    p->text = xstrdup("");
    p->limit = 10;
}

static int parse_as_of(const json_t *v, uint64_t *out, struct err *err)
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
    if (json_is_string(v) && clock_parse_time(json_string_value(v), out) == 0)
        return 0;
    shown = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    str_visible(shown != NULL ? shown : "", shown != NULL ? strlen(shown) : 0, seen, sizeof(seen));
    return err_set(err, ERR_INVALID,
                   "'as_of' is %s; allowed are seconds since 1970, '2026-11-22' or "
                   "'2026-11-22T16:05:09Z'",
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

static int query_run(struct daemon *d, void *params, bool wait, struct buf *out, struct err *err)
{
    CLEANUP(buf_release) struct buf features = { .max = FEATURES_MAX };
    CLEANUP(freep) char *family = NULL;
    CLEANUP(freep) char *shape = NULL;
    const struct query_params *p = params;
    json_auto_t *device = NULL;
    struct kb_query q = { .text = p->text,
                          .task = p->task,
                          .technique = p->technique,
                          .limit = p->limit,
                          .explain = p->explain };

    if (parse_as_of(p->as_of, &q.as_of_ns, err) != 0)
        return -1;
    if (p->task != NULL) {
        if (task_scope(d, p->task, &family, &shape, err) != 0)
            return -1;
        q.family = *family ? family : NULL;
        q.shape = *shape ? shape : NULL;
    }
    if (p->device != NULL) {
        if (device_get(d, p->device, &device, err) != 0 ||
            features_text(device, &features, err) != 0)
            return -1;
        q.device_class = jsonx_str(device, "class", NULL);
        q.features = buf_str(&features);
    }
    return wait ? kb_query_text(d->kb, &q, out, err) : kb_query_now(d->kb, &q, out, err);
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
      "{hits[{insight, statement, technique, scope{}, condition, effect{mean, sd, n, cell}, blind, "
      "steered, "
      "failures, state, score, why[], evidence[]}], removed{filter: n}, took_us}",
      query_defaults },
    { 0 },
};
