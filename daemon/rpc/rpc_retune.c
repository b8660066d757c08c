/* SPDX-License-Identifier: Apache-2.0 */
/* retune.*: what carries over to another device, and measuring what may not. */
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "daemon.h"
#include "eval/pack.h"
#include "kb.h"
#include "proto/methods.h"
#include "retune/report.h"
#include "retune/retunes.h"
#include "retune/survey.h"
#include "rpc/rpc.h"
#include "rpc/rpc_budget.h"
#include "work.h"

struct retune_params {
    char *device, *from;
    json_t *tasks, *budget;
    bool toolchain, control;
    uint64_t seed;
    bool seed_given;
};

static const struct param retune_rows[] = {
    { "device", PARAM_NAME, offsetof(struct retune_params, device), PARAM_REQUIRED,
      "the device to retune for", 0, 0, NULL, 0 },
    { "from", PARAM_NAME, offsetof(struct retune_params, from), 0,
      "the device whose knowledge is carried over (the one with most evaluations of the tasks)", 0,
      0, NULL, 0 },
    { "tasks", PARAM_JSON, offsetof(struct retune_params, tasks), 0,
      "array of task names (all that were measured there)", 0, 0, NULL, 0 },
    { "toolchain", PARAM_BOOL, offsetof(struct retune_params, toolchain), 0,
      "the device is the same, its compiler, driver or libraries are not", 0, 0, NULL, 0 },
    { "budget", PARAM_JSON, offsetof(struct retune_params, budget), 0,
      "{\"evals\": integer (40 a task), \"time\": seconds}", 0, 0, NULL, 0 },
    { "control", PARAM_BOOL, offsetof(struct retune_params, control), 0,
      "run a cold search of each task too, to measure what was saved; not of the budget", 0, 0,
      NULL, 0 },
    { "seed", PARAM_U64, offsetof(struct retune_params, seed), 0, "fixes every random choice", 0,
      4503599627370495.0, NULL, PARAM_SEEN(struct retune_params, seed_given) },
    { 0 },
};

/* ---- The survey, which both methods begin with ---- */

static int survey_run(struct daemon *d, const struct retune_params *p, json_t **out,
                      struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);
    struct rpc_budget budget = { 0 };
    struct survey_request req = { .device = p->device,
                                  .from = p->from,
                                  .tasks = p->tasks,
                                  .toolchain = p->toolchain,
                                  .control = p->control,
                                  .seed = p->seed };

    if (p->tasks != NULL && !json_is_array(p->tasks))
        return err_set(err, ERR_INVALID, "'tasks' is no array; allowed is an array of task names");
    if (p->toolchain && p->from != NULL && strcmp(p->from, p->device) != 0)
        return err_set(err, ERR_INVALID,
                       "'from' is '%s', but with 'toolchain' device '%s' is compared with its own "
                       "past; leave it out",
                       p->from, p->device);
    if (rpc_budget_parse(p->budget, &budget, err) != 0)
        return -1;
    if (budget.has_tokens || budget.has_usd || budget.has_device)
        return err_set(err, ERR_INVALID,
                       "'budget' of a retune bounds 'evals' and 'time'; it asks no language model, "
                       "and its device time is not bounded apart");
    if ((budget.has_evals && budget.evals == 0) || (budget.has_time && !(budget.time_s > 0)))
        return err_set(err, ERR_INVALID,
                       "'budget' is 0, but a retune measures something; retune.plan measures "
                       "nothing");
    if (!p->seed_given) {
        rng_os(&req.seed, sizeof(req.seed));
        req.seed >>= 12; /* 52 bits survive any JSON reader */
    }
    req.evals = budget.evals;
    req.time_s = budget.time_s;
    return survey_make(d->kb, packs, &req, out, err);
}

static int plan_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *doc = NULL, *nothing_done = json_pack("{s:[]}", "results");
    json_t *report;

    /* What the labels alone say: carried is kept, void is lost, the rest is open. */
    if (survey_run(d, params, &doc, err) != 0 ||
        report_make(d->kb, doc, nothing_done, &report, err) != 0)
        return -1;
    *result = retune_plan_json(doc);
    json_object_set_new(*result, "report", report);
    return 0;
}

static void retune_plan(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, plan_run);
}

/* ---- start ---- */

struct start {
    struct work work;
    struct rpc_call *call;
    const struct retune_params *params;
    json_t *doc;
};

static int start_run(struct work *w, struct err *err)
{
    struct start *st = LIST_OF(w, struct start, work);

    return survey_run(rpc_daemon(st->call), st->params, &st->doc, err);
}

static void started(void *arg, const char *id, const struct err *err)
{
    struct rpc_call *call = arg;

    if (err != NULL)
        rpc_fail(call, err);
    else
        rpc_reply(call, json_pack("{s:s, s:s, s:b}", "id", id, "state", "running", "joined", 0));
}

static void start_done(struct work *w, const struct err *err)
{
    struct start *st = LIST_OF(w, struct start, work);
    struct retunes *retunes = rpc_daemon(st->call)->retunes;
    struct err stopping = { .code = ERR_CANCELLED, .msg = "the daemon is stopping" };

    if (err != NULL || retunes == NULL)
        rpc_fail(st->call, err != NULL ? err : &stopping);
    else
        retunes_start(retunes, TAKE(st->doc), started, st->call);
    json_decref(st->doc);
    free(st);
}

static void retune_start(struct rpc_call *call, void *params)
{
    struct retune_params *p = params;
    struct daemon *d = rpc_daemon(call);
    const char *joined =
        retunes_find(d->retunes, p->device, p->toolchain ? NULL : p->from, p->toolchain, p->tasks);
    struct start *st;

    if (joined != NULL) {
        rpc_reply(call,
                  json_pack("{s:s, s:s, s:b}", "id", joined, "state", "running", "joined", 1));
        return;
    }
    st = xcalloc(1, sizeof(*st));
    st->call = call;
    st->params = p;
    st->work.run = start_run;
    st->work.done = start_done;
    work_submit(d->work, &st->work);
}

/* ---- One retune ---- */

struct one_params {
    char *retune;
};

static const struct param one_rows[] = {
    { "retune", PARAM_NAME, offsetof(struct one_params, retune), PARAM_REQUIRED, "id of the retune",
      0, 0, NULL, 0 },
    { 0 },
};

static int show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return retune_show(d, ((struct one_params *)params)->retune, result, err);
}

static void retune_show_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, show_run);
}

static int list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    (void)params;
    return retune_list(d, result, err);
}

static void retune_list_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, list_run);
}

/* One that is over has nothing more to say. */
static int watch_over_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *show = NULL;

    if (retune_show(d, ((struct one_params *)params)->retune, &show, err) != 0)
        return -1;
    *result = json_pack("{s:O, s:O}", "id", json_object_get(show, "id"), "state",
                        json_object_get(show, "state"));
    return 0;
}

static void retune_watch(struct rpc_call *call, void *params)
{
    struct one_params *p = params;
    char key[128];
    struct err err;

    if (!retunes_live(rpc_daemon(call)->retunes, p->retune)) {
        rpc_run(call, watch_over_run);
        return;
    }
    snprintf(key, sizeof(key), "retune:%s", p->retune);
    if (rpc_subscribe(call, key, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, json_pack("{s:s, s:s}", "id", p->retune, "state", "running"));
}

static void retune_cancel(struct rpc_call *call, void *params)
{
    struct one_params *p = params;
    struct err err;

    if (retunes_cancel(rpc_daemon(call)->retunes, p->retune, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, json_pack("{s:s, s:s}", "id", p->retune, "state", "cancelling"));
}

const struct rpc_method rpc_retune_methods[] = {
    { METHOD_RETUNE_CANCEL, one_rows, sizeof(struct one_params), RPC_WRITE, retune_cancel,
      "End a retune after the step under way; what it measured stays, and it is reported.",
      "{id, state}", NULL },
    { METHOD_RETUNE_LIST, NULL, 0, 0, retune_list_call, "All retunes, newest first.",
      "{retunes[{id, device, from, toolchain, state, created}]}", NULL },
    { METHOD_RETUNE_PLAN, retune_rows, sizeof(struct retune_params), 0, retune_plan,
      "What would carry over to a device, what would have to be measured again, and in which "
      "order. Measures nothing.",
      "{from, to, toolchain, budget{evals, time}, delta{}, roofline[], tasks[], insights[{id, "
      "label, ground, why, technique, statement, p_wrong, relying, effect_from{}, effect_to{}?, "
      "task?}], plan[{insight, task, cost, value, evaluations, statement}], left_out, report{}}; "
      "the "
      "report is what the labels alone say",
      NULL },
    { METHOD_RETUNE_SHOW, one_rows, sizeof(struct one_params), 0, retune_show_call,
      "One retune with its report so far.",
      "as retune.plan, with id, state, created, searches[], report{kept[], lost[], gained[], "
      "open[], tasks[{task, old{}, carried{}, retuned{}, cold{}, evaluations, "
      "saved_evaluations}], spent{}, saved{}}",
      NULL },
    { METHOD_RETUNE_START, retune_rows, sizeof(struct retune_params), RPC_WRITE, retune_start,
      "Measure on a device what may not carry over to it, then search where it changed most. The "
      "same request while one runs joins it.",
      "{id, state, joined}", NULL },
    { METHOD_RETUNE_WATCH, one_rows, sizeof(struct one_params), RPC_STREAM, retune_watch,
      "Streams the steps of a retune as notifications retune.event until retune.end. One that is "
      "over has no stream: the reply says so.",
      "{id, state}", NULL },
    { 0 },
};
