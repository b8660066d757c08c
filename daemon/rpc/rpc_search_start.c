/* SPDX-License-Identifier: Apache-2.0 */
/* search.start, for a client and for the daemon itself; see rpc_search.h. Thread: loop. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "devices.h"
#include "eval/pack.h"
#include "eval/recorded_store.h"
#include "llms.h"
#include "regimes.h"
#include "rpc/rpc.h"
#include "rpc/rpc_budget.h"
#include "rpc/rpc_search.h"
#include "retune/versions.h"
#include "sched/searches.h"
#include "search/brief.h"
#include "search/strategy.h"
#include "tasks.h"
#include "work.h"

/*
 * With a numeric engine behind it, staying longer in one part of the space costs evaluations; a
 * model's rounds are programs, and it needs some to get an idea right.
 */
enum { WINDOW_DEFAULT = 1, WINDOW_MODEL = 3 };

/* ---- search.start ---- */

struct start_params {
    char *task, *device, *set, *holdout;
    int proposer, strategy, policy;
    bool cold;
    uint64_t seed;
    bool seed_given;
    uint64_t window, lanes;
    bool window_given;
    json_t *budget, *stop, *memory;
    const char *id; /* no parameter: of a search that the daemon itself starts; NULL: a new one */
};

static const char *const proposers[] = { "builtin", "random", "openai", "queue", "replay", NULL };
enum { PROPOSER_BUILTIN, PROPOSER_RANDOM, PROPOSER_MODELS /* and those after it */ };
static const char *const policies[] = { "utility", "lexicographic", NULL };

static const struct param start_rows[] = {
    { "task", PARAM_NAME, offsetof(struct start_params, task), PARAM_REQUIRED,
      "definition to search", 0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct start_params, device), 0,
      "device name; default from the configuration", 0, 0, NULL, 0 },
    { "set", PARAM_NAME, offsetof(struct start_params, set), 0, "workload set; default \"cpu\"", 0,
      0, NULL, 0 },
    { "holdout", PARAM_NAME, offsetof(struct start_params, holdout), 0,
      "workload set that is never tuned on: the best is measured on it every 20 evaluations and at "
      "the end",
      0, 0, NULL, 0 },
    { "proposer", PARAM_ENUM, offsetof(struct start_params, proposer), 0,
      "who proposes: builtin, random as its control arm (cold), or a language model: openai (an "
      "endpoint), queue (whoever answers 'llm pending'), replay (recorded answers)",
      0, 0, proposers, 0 },
    { "strategy", PARAM_ENUM, offsetof(struct start_params, strategy), 0,
      "how a language model's search goes: world-model, or a control arm of it", 0, 0,
      strategy_names, 0 },
    { "policy", PARAM_ENUM, offsetof(struct start_params, policy), 0,
      "selection policy of the world model", 0, 0, policies, 0 },
    { "cold", PARAM_BOOL, offsetof(struct start_params, cold), 0, "read nothing from memory", 0, 0,
      NULL, 0 },
    { "memory", PARAM_JSON, offsetof(struct start_params, memory), 0,
      "what a warm search takes from memory: [\"adopt\", \"plans\", \"prior\", \"live\"] or a text "
      "with commas; all when absent, not with cold",
      0, 0, NULL, 0 },
    { "seed", PARAM_U64, offsetof(struct start_params, seed), 0, "fixes every random choice", 0, 0,
      NULL, PARAM_SEEN(struct start_params, seed_given) },
    { "window", PARAM_U64, offsetof(struct start_params, window), 0,
      "stagnation window K of both counters; default 1, with a language model 3", 1, 1000, NULL,
      PARAM_SEEN(struct start_params, window_given) },
    { "lanes", PARAM_U64, offsetof(struct start_params, lanes), 0,
      "frontier nodes in flight with a language model", 1, LANES_MAX, NULL, 0 },
    { "budget", PARAM_JSON, offsetof(struct start_params, budget), 0,
      "{\"evals\": integer, \"tokens\": integer, \"usd\": dollars, \"time\": seconds, \"device\": "
      "seconds}; 0 is a bound, what is absent is none",
      0, 0, NULL, 0 },
    { "stop", PARAM_JSON, offsetof(struct start_params, stop), 0,
      "{\"roofline\": share of it that the best reaches, \"gain\": natural log, no more is "
      "expected}: "
      "ends the search before its budget does",
      0, 0, NULL, 0 },
    { 0 },
};

static void start_defaults(void *p)
{
    ((struct start_params *)p)->window = WINDOW_DEFAULT;
    ((struct start_params *)p)->lanes = 1;
}

/* What is held back must be there, and must not be what is tuned on. */
static int check_holdout(const struct pack_definition *def, const struct pack_set *tuned,
                         const struct start_params *p, struct err *err)
{
    if (p->holdout == NULL)
        return 0;
    if (pack_set(def, p->holdout) == NULL)
        return err_set(err, ERR_NOT_FOUND, "task '%s' has no workload set '%s' to hold out",
                       p->task, p->holdout);
    if (strcmp(p->holdout, tuned->name) == 0)
        return err_set(err, ERR_INVALID,
                       "'holdout' is '%s', the set that the search tunes on; name another one",
                       p->holdout);
    return 0;
}

static int check_task(struct daemon *d, const struct start_params *p,
                      const struct pack_definition **def, const struct pack_set **set,
                      struct err *err)
{
    const struct pack_definition *found = NULL;

    if (task_definition(d, p->task, &found, err) != 0)
        return -1;
    if (found->pack->space == NULL && p->proposer < PROPOSER_MODELS)
        return err_set(err, ERR_INVALID,
                       "task '%s' has no tunable template, which the built-in proposer needs",
                       p->task);
    *set = p->set ? pack_set(found, p->set) : pack_default_set(found);
    if (*set == NULL)
        return err_set(err, ERR_NOT_FOUND, "task '%s' has no workload set '%s'", p->task,
                       p->set ? p->set : "cpu");
    *def = found;
    return check_holdout(found, *set, p, err);
}

void rpc_search_new_id(char out[SEARCH_ID_MAX])
{
    uint8_t bytes[6] = { 0 };

    rng_os(bytes, sizeof(bytes));
    out[0] = 's';
    str_hex(bytes, sizeof(bytes), out + 1);
}

/* The parts of memory that are switched off. */
static int read_parts(const struct start_params *p, unsigned *without, struct err *err)
{
    unsigned parts = MEMORY_ALL;

    if (p->memory != NULL && (p->cold || p->proposer == PROPOSER_RANDOM))
        return err_set(err, ERR_INVALID,
                       "'memory' names what a warm search reads, but this one is cold: it reads "
                       "nothing from memory");
    if (p->memory != NULL && memory_parts_parse(p->memory, &parts, err) != 0)
        return -1;
    *without = (unsigned)MEMORY_ALL & ~parts;
    return 0;
}

static void fill_spec(struct search_spec *spec, const struct start_params *p,
                      const struct rpc_budget *budget, const char *device, const char *set)
{
    struct err checked_before;

    if (p->id != NULL)
        str_copy(spec->id, sizeof(spec->id), p->id);
    else
        rpc_search_new_id(spec->id);
    spec->task = xstrdup(p->task);
    spec->device = xstrdup(device);
    spec->set = xstrdup(set);
    spec->holdout = p->holdout ? xstrdup(p->holdout) : NULL;
    spec->proposer = xstrdup(proposers[p->proposer]);
    spec->strategy = xstrdup(strategy_names[p->strategy]);
    spec->policy = select_policy_from_name(policies[p->policy]);
    spec->cold = p->cold || p->proposer == PROPOSER_RANDOM;
    read_parts(p, &spec->without, &checked_before);
    spec->seed = p->seed;
    if (!p->seed_given) {
        rng_os(&spec->seed, sizeof(spec->seed));
        spec->seed >>= 12; /* 52 bits survive any JSON reader */
    }
    rpc_budget_fill(budget, spec);
    spec->window = (uint32_t)p->window;
    if (p->proposer >= PROPOSER_MODELS && !p->window_given)
        spec->window = WINDOW_MODEL;
    spec->lanes = (uint32_t)p->lanes;
}

static void started(void *arg, const char *id, const struct err *err)
{
    struct rpc_call *call = arg;

    if (err)
        rpc_fail(call, err);
    else
        rpc_reply(call, json_pack("{s:s, s:s}", "id", id, "state", "queued"));
}

/* A start waits for its device: the first search on a machine probes it. */
struct start_call {
    struct daemon *daemon;
    struct start_params *params; /* borrowed until `done` */
    struct rpc_budget budget;
    searches_done_fn *done;
    void *arg;
};

void rpc_search_scope(struct daemon *d, const struct pack_definition *def,
                      const struct pack_set *set, const json_t *device, struct search_scope *out)
{
    out->family = xstrdup(def->pack->family);
    out->shape = xstrdup(def->shape);
    out->dtype = xstrdup(def->pack->dtype);
    out->language = xstrdup(def->pack->language);
    out->bottleneck = xstrdup(def->pack->bottleneck);
    out->device_class = xstrdup(jsonx_str(device, "class", ""));
    out->toolchain = versions_of_device(device);
    out->march = xstrdup(jsonx_str(device, "march", "native"));
    out->read_gbs = jsonx_num(device, "read_gbs", 0);
    out->fma_gflops = device_gflops(device, def->pack->dtype);
    out->features = regime_context(def, set, device);
    out->relatives = regime_relatives(d->packs, def, set);
}

static void start_on(void *arg, const json_t *device, const struct err *err)
{
    struct start_call *sc = arg;
    struct start_params *p = sc->params;
    struct daemon *d = sc->daemon;
    const struct pack_definition *def;
    const struct pack_set *set;
    struct search_spec spec = { 0 };
    struct search_scope scope = { 0 };
    struct err mine;

    if (err != NULL || check_task(d, p, &def, &set, &mine) != 0) {
        sc->done(sc->arg, NULL, err ? err : &mine);
        free(sc);
        return;
    }
    fill_spec(&spec, p, &sc->budget, p->device ? p->device : d->conf->default_device, set->name);
    rpc_search_scope(d, def, set, device, &scope);
    if (p->proposer >= PROPOSER_MODELS) {
        /* A model's search begins with the baseline, which has no tunables. */
        json_auto_t *none = json_pack("{s:[]}", "parameters");

        scope.brief = brief_make(def, set, device);
        searches_start(d->searches, &spec, &scope, def->pack->baseline.text, none, sc->done,
                       sc->arg);
    } else {
        searches_start(d->searches, &spec, &scope, def->pack->template.text, def->pack->space,
                       sc->done, sc->arg);
    }
    free(sc);
}

/* ---- search.start of a recorded task ---- */

struct start_recorded {
    struct work work;
    struct start_call start;
    char *device, *program;
    json_t *device_doc;
};

static int start_recorded_run(struct work *w, struct err *err)
{
    struct start_recorded *sr = LIST_OF(w, struct start_recorded, work);
    const struct start_params *p = sr->start.params;
    struct daemon *d = sr->start.daemon;
    json_auto_t *doc = NULL;
    const char *device;

    if (task_recorded(d, p->task, &doc, err) != 0)
        return -1;
    if (p->set != NULL && strcmp(p->set, RECORDED_SET) != 0)
        return err_set(err, ERR_NOT_FOUND,
                       "task '%s' has no workload set '%s'; it has: " RECORDED_SET, p->task,
                       p->set);
    if (p->holdout != NULL)
        return err_set(
            err, ERR_INVALID,
            "'holdout' is '%s', but task '%s' is a recorded table: its only set is " RECORDED_SET,
            p->holdout, p->task);
    if (recorded_device(doc, p->task, p->device, d->conf->default_device, &device, err) != 0)
        return -1;
    sr->device = xstrdup(device);
    sr->program = xstrdup(recorded_program(doc, device));
    return device_get(d, device, &sr->device_doc, err);
}

static void recorded_scope(const struct start_recorded *sr, struct search_scope *scope)
{
    const char *task = sr->start.params->task;

    scope->family = xstrdup(task);
    scope->shape = xstrdup("");
    scope->dtype = xstrdup("");
    scope->language = xstrdup(RECORDED_LANGUAGE);
    scope->bottleneck = xstrdup("");
    scope->device_class = xstrdup(jsonx_str(sr->device_doc, "class", ""));
    scope->toolchain = versions_of_device(sr->device_doc);
    scope->march = xstrdup("");
    scope->features = json_object();
    scope->relatives = json_pack("[{s:s, s:f}]", "task", task, "similarity", 1.0);
    str_copy(scope->program.hex, sizeof(scope->program.hex), sr->program);
}

static void start_recorded_done(struct work *w, const struct err *err)
{
    struct start_recorded *sr = LIST_OF(w, struct start_recorded, work);
    struct start_call *sc = &sr->start;
    struct search_spec spec = { 0 };
    struct search_scope scope = { 0 };

    if (err != NULL) {
        sc->done(sc->arg, NULL, err);
    } else {
        fill_spec(&spec, sc->params, &sc->budget, sr->device, RECORDED_SET);
        recorded_scope(sr, &scope);
        searches_start(sc->daemon->searches, &spec, &scope, NULL, NULL, sc->done, sc->arg);
    }
    free(sr->device);
    free(sr->program);
    json_decref(sr->device_doc);
    free(sr);
}

static void start_recorded(const struct start_call *sc)
{
    struct start_recorded *sr = xcalloc(1, sizeof(*sr));

    sr->start = *sc;
    sr->work.run = start_recorded_run;
    sr->work.done = start_recorded_done;
    work_submit(sc->daemon->work, &sr->work);
}

/* A strategy is a model's; a model writes programs, which a recorded task has none of. */
static int check_model(struct daemon *d, const struct start_params *p, bool recorded,
                       struct err *err)
{
    const char *proposer = proposers[p->proposer];

    if (p->proposer < PROPOSER_MODELS && p->strategy != 0)
        return err_set(err, ERR_INVALID,
                       "strategy '%s' needs a language model; proposer '%s' knows 'world-model' "
                       "alone",
                       strategy_names[p->strategy], proposer);
    if (p->proposer < PROPOSER_MODELS)
        return 0;
    if (recorded)
        return err_set(err, ERR_INVALID,
                       "proposer '%s' writes programs, and task '%s' is a recorded table (or "
                       "unknown): 'builtin' searches it",
                       proposer, p->task);
    return llms_find(d->llms, proposer, err) != NULL ? 0 : -1;
}

/* What search.start does; `done` may come from inside. */
static void start(struct daemon *d, struct start_params *p, searches_done_fn *done, void *arg)
{
    const struct pack_definition *def = packs_find(d->packs, p->task);
    const struct pack_set *set;
    struct start_call sc = { d, p, { 0 }, done, arg }, *kept;
    unsigned without;
    struct err err;

    if (check_model(d, p, def == NULL, &err) != 0 ||
        (def != NULL && check_task(d, p, &def, &set, &err) != 0) ||
        rpc_budget_parse(p->budget, &sc.budget, &err) != 0 ||
        rpc_stop_parse(p->stop, &sc.budget, &err) != 0 || read_parts(p, &without, &err) != 0) {
        done(arg, NULL, &err);
        return;
    }
    if (def == NULL) {
        start_recorded(&sc);
        return;
    }
    kept = xcalloc(1, sizeof(*kept));
    *kept = sc;
    device_ensure(d, p->device ? p->device : d->conf->default_device, start_on, kept);
}

static void search_start(struct rpc_call *call, void *params)
{
    start(rpc_daemon(call), params, started, call);
}

/* ---- A search that the daemon itself starts ---- */

struct launch {
    struct start_params params;
    char id[SEARCH_ID_MAX];
    searches_done_fn *done;
    void *arg;
};

static void launched(void *arg, const char *id, const struct err *err)
{
    struct launch *l = arg;

    l->done(l->arg, id, err);
    param_release(start_rows, &l->params);
    free(l);
}

void rpc_search_launch(struct daemon *d, const char *id, const json_t *params,
                       searches_done_fn *done, void *arg)
{
    struct launch *l = xcalloc(1, sizeof(*l));
    struct err err;

    start_defaults(&l->params);
    l->done = done;
    l->arg = arg;
    str_copy(l->id, sizeof(l->id), id);
    if (param_parse(start_rows, params, &l->params, &err) != 0) {
        done(arg, NULL, &err);
        free(l);
        return;
    }
    l->params.id = l->id;
    start(d, &l->params, launched, l);
}

const struct rpc_method rpc_search_start_methods[] = {
    { "search.start", start_rows, sizeof(struct start_params), RPC_WRITE, search_start,
      "Starts a search for a fast program for one task on one device. Without a budget it measures "
      "40 evaluations; with another bound than evaluations alone, these have none.",
      "{id, state}", start_defaults },
    { 0 },
};
