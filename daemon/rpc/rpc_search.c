/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Methods on searches that were started (rpc_search_start.c). Thread: loop; what reads a search's
 * state runs on a worker.
 */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "daemon.h"
#include "rpc/rpc.h"
#include "sched/searches.h"

/* ---- search.list ---- */

struct list_ctx {
    json_t *out;
};

static int list_one(void *ctx, const char *key, const json_t *doc)
{
    static const char *const kept[] = { "id",           "task",          "device",  "cold",
                                        "state",        "reason",        "created", "evaluations",
                                        "budget_evals", "best_objective" };
    struct list_ctx *l = ctx;
    json_t *item = json_object();

    (void)key;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (json_object_get(doc, kept[i]))
            json_object_set(item, kept[i], json_object_get(doc, kept[i]));
    json_object_set_new(item, "warm", json_boolean(!jsonx_bool(doc, "cold", 0)));
    /* Stored as 16 digits, shown as it was given. */
    json_object_set_new(item, "seed",
                        json_integer((json_int_t)strtoull(jsonx_str(doc, "seed", "0"), NULL, 16)));
    json_array_append_new(l->out, item);
    return 0;
}

static int refresh_one(void *ctx, const struct search *s, const char *held_up, struct err *err)
{
    json_t *item = ctx, *doc = search_summary(s);

    (void)err;
    json_object_set(item, "state", json_object_get(doc, "state"));
    if (held_up[0])
        json_object_set_new(item, "state", json_string("waiting"));
    json_object_set(item, "evaluations", json_object_get(doc, "evaluations"));
    if (json_object_get(doc, "best_objective"))
        json_object_set(item, "best_objective", json_object_get(doc, "best_objective"));
    json_decref(doc);
    return 0;
}

static int newer_first(const void *pa, const void *pb)
{
    const json_t *a = *(json_t *const *)pa, *b = *(json_t *const *)pb;
    long long ca = jsonx_int(a, "created", 0), cb = jsonx_int(b, "created", 0);

    if (ca != cb)
        return ca > cb ? -1 : 1;
    return strcmp(jsonx_str(a, "id", ""), jsonx_str(b, "id", ""));
}

static json_t *sorted(json_t *list)
{
    size_t n = json_array_size(list);
    json_t **v = xcalloc(n + 1, sizeof(*v));
    json_t *out = json_array();

    for (size_t i = 0; i < n; i++)
        v[i] = json_array_get(list, i);
    qsort(v, n, sizeof(*v), newer_first);
    for (size_t i = 0; i < n; i++)
        json_array_append(out, v[i]);
    free(v);
    json_decref(list);
    return out;
}

static int list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct list_ctx l = { json_array() };
    json_t *item;
    size_t i;

    (void)params;
    if (kb_each_doc(d->kb, KB_SEARCH, list_one, &l, err) != 0) {
        json_decref(l.out);
        return -1;
    }
    json_array_foreach (l.out, i, item) {
        struct err ignored;

        if (!search_is_over(search_state_from_name(jsonx_str(item, "state", "done"))))
            searches_with(d->searches, jsonx_str(item, "id", ""), refresh_one, item, &ignored);
    }
    *result = json_pack("{s:o}", "searches", sorted(l.out));
    return 0;
}

static void search_list(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, list_run);
}

/* ---- Methods that name a search ---- */

struct one_params {
    char *search, *node;
};

static const struct param one_rows[] = {
    { "search", PARAM_NAME, offsetof(struct one_params, search), PARAM_REQUIRED, "search id", 0, 0,
      NULL, 0 },
    { 0 },
};

static const struct param explain_rows[] = {
    { "search", PARAM_NAME, offsetof(struct one_params, search), PARAM_REQUIRED, "search id", 0, 0,
      NULL, 0 },
    { "node", PARAM_NAME, offsetof(struct one_params, node), 0,
      "node of its world model; all when absent", 0, 0, NULL, 0 },
    { 0 },
};

static int show_with(void *ctx, const struct search *s, const char *held_up, struct err *err)
{
    json_t *show = search_show_json(s);

    (void)err;
    if (held_up[0]) {
        json_object_set_new(show, "state", json_string("waiting"));
        json_object_set_new(show, "reason", json_string(held_up));
    }
    *(json_t **)ctx = show;
    return 0;
}

static int show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return searches_with(d->searches, ((struct one_params *)params)->search, show_with, result,
                         err);
}

static void search_show(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, show_run);
}

static int tree_with(void *ctx, const struct search *s, const char *held_up, struct err *err)
{
    (void)held_up;
    (void)err;
    *(json_t **)ctx = search_tree_json(s);
    return 0;
}

static int tree_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return searches_with(d->searches, ((struct one_params *)params)->search, tree_with, result,
                         err);
}

static void search_tree(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, tree_run);
}

struct explain_ctx {
    const char *node;
    json_t *out;
};

static int explain_with(void *ctx, const struct search *s, const char *held_up, struct err *err)
{
    struct explain_ctx *e = ctx;

    (void)held_up;
    return search_explain_json(s, e->node, &e->out, err);
}

static int explain_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct one_params *p = params;
    struct explain_ctx e = { p->node, NULL };

    if (searches_with(d->searches, p->search, explain_with, &e, err) != 0)
        return -1;
    *result = e.out;
    return 0;
}

static void search_explain(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, explain_run);
}

/* ---- Watch ---- */

/* A search that is over has nothing more to say: the stream ends at once. */
static int watch_over_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_t *doc;

    if (kb_get_doc(d->kb, KB_SEARCH, ((struct one_params *)params)->search, &doc, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            err_set(err, ERR_NOT_FOUND, "there is no search '%s'; 'search list' shows them",
                    ((struct one_params *)params)->search);
        return -1;
    }
    *result = json_pack("{s:s, s:s}", "id", jsonx_str(doc, "id", ""), "state",
                        jsonx_str(doc, "state", ""));
    json_decref(doc);
    return 0;
}

static void search_watch(struct rpc_call *call, void *params)
{
    struct one_params *p = params;
    enum search_state state = searches_live_state(rpc_daemon(call)->searches, p->search);
    char key[128];
    struct err err;

    if (state == SEARCH_STATE_COUNT) {
        rpc_run(call, watch_over_run);
        return;
    }
    snprintf(key, sizeof(key), "search:%s", p->search);
    if (rpc_subscribe(call, key, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call,
                  json_pack("{s:s, s:s}", "id", p->search, "state", search_state_name(state)));
}

/* ---- Pause, resume, cancel ---- */

static void requested(void *arg, const char *id, const struct err *err)
{
    struct rpc_call *call = arg;
    enum search_state state;

    if (err) {
        rpc_fail(call, err);
        return;
    }
    state = searches_live_state(rpc_daemon(call)->searches, id);
    rpc_reply(call, json_pack("{s:s, s:s}", "id", id, "state", search_state_name(state)));
}

static void search_pause(struct rpc_call *call, void *params)
{
    searches_request(rpc_daemon(call)->searches, ((struct one_params *)params)->search,
                     SEARCHES_PAUSE, requested, call);
}

static void search_resume(struct rpc_call *call, void *params)
{
    searches_request(rpc_daemon(call)->searches, ((struct one_params *)params)->search,
                     SEARCHES_RESUME, requested, call);
}

static void search_cancel(struct rpc_call *call, void *params)
{
    searches_request(rpc_daemon(call)->searches, ((struct one_params *)params)->search,
                     SEARCHES_CANCEL, requested, call);
}

const struct rpc_method rpc_search_methods[] = {
    { "search.list", NULL, 0, 0, search_list, "Lists all searches, newest first.",
      "{searches[{id, task, device, cold, warm, seed, state, reason, created, evaluations, "
      "budget_evals, "
      "best_objective}]}",
      NULL },
    { "search.show", one_rows, sizeof(struct one_params), 0, search_show,
      "Everything about one search: best program, curve of evaluations, seeds from memory.",
      "{id, task, device, set, proposer, strategy, policy, warm, memory[], seed, state, reason, "
      "created, budget{evals, tokens, usd, time, device}, stop{roofline, gain}, spent{evals, "
      "tokens, "
      "tokens_in, tokens_cached, tokens_out, tokens_estimated, usd, time, device}, ledger[{stage, "
      "calls, answers, lost, tokens_in, tokens_cached, tokens_out, tokens_estimated, usd, seconds} "
      "or "
      "{stage, n, seconds}], notices[], scores{n, improved, slope, intercept, brier, "
      "brier_corrected, bins[], factor{}, models[]} or null, "
      "best{program, assignment, evaluation, objective, ci_low, ci_high, "
      "measurements, roofline}, gain{total, adopted, added, log{}, adoptions}, "
      "arms{memory_free_share, retreat, why, memory, memory_free, shared}, curve[{evaluation, "
      "status, objective, best, arm, program, assignment, node, tokens, usd, device_s, wall_s}], "
      "evaluations, failures{}, seeds[], predictions{n, crps, crps_corrected, coverage80, "
      "coverage80_corrected}, nodes, cycles, trying{}, "
      "baseline{n, first_us, now_us, drift, note}, "
      "overhead{n, own_ms_median, sync_ms_median, launch_ms_median}, and with a hold-out set "
      "holdout{set, checking, checks[{evaluation, status, message, objective, tuned, gap}]}}",
      NULL },
    { "search.watch", one_rows, sizeof(struct one_params), RPC_STREAM, search_watch,
      "Streams the events of a search as notifications search.event until search.end. One that is "
      "over has no stream: the reply says so.",
      "{id, state}", NULL },
    { "search.pause", one_rows, sizeof(struct one_params), RPC_WRITE, search_pause,
      "Pauses a search after the evaluation under way; answers when that is durable.",
      "{id, state}", NULL },
    { "search.resume", one_rows, sizeof(struct one_params), RPC_WRITE, search_resume,
      "Goes on with a paused search.", "{id, state}", NULL },
    { "search.cancel", one_rows, sizeof(struct one_params), RPC_WRITE, search_cancel,
      "Ends a search; what it measured stays.", "{id, state}", NULL },
    { "search.explain", explain_rows, sizeof(struct one_params), 0, search_explain,
      "Why a node was chosen, what was tried there, and what came out.",
      "{id, node{}, choices[{cycle, node, title, why, explanation, choice{}}], trials[]}", NULL },
    { "search.tree", one_rows, sizeof(struct one_params), 0, search_tree,
      "The world model of a search, as nodes and as text.",
      "{id, format, revision, best, nodes[], text}", NULL },
    { 0 },
};
