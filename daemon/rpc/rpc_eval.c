/* SPDX-License-Identifier: Apache-2.0 */
/* eval.run: one honest measurement of a source that the client sent. Nothing of it is stored. */
#include "rpc/rpc_eval.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "devices.h"
#include "eval/feedback.h"
#include "eval/launcher.h"
#include "eval/pack.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "sched/turns.h"
#include "search/space.h"
#include "tasks.h"

enum { FAMILY_ROOM = 97, DTYPE_ROOM = 16 }; /* a name and its NUL */

struct run_params {
    char *task, *device, *set, *source;
    json_t *assignment;
};

static const struct param run_rows[] = {
    { "task", PARAM_NAME, offsetof(struct run_params, task), PARAM_REQUIRED,
      "task that it claims to solve", 0, 0, NULL, 0 },
    { "source", PARAM_STR, offsetof(struct run_params, source), PARAM_REQUIRED,
      "text of the candidate", 0, PACK_SOURCE_MAX, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct run_params, device), 0,
      "device to measure on (the configured one)", 0, 0, NULL, 0 },
    { "set", PARAM_NAME, offsetof(struct run_params, set), 0, "workload set to measure on (cpu)", 0,
      0, NULL, 0 },
    { "assignment", PARAM_JSON, offsetof(struct run_params, assignment), 0,
      "values of the task's tunables, {\"NAME\": value}; the others take their defaults", 0, 0,
      NULL, 0 },
    { 0 },
};

/* One call, until it is answered. */
struct eval_call {
    struct list node; /* in daemon->evals, from when its device is known */
    struct turn turn;
    struct rpc_call *call;
    const char *device; /* the call's own */
    rpc_eval_start_fn *start;
    double read_gbs, fma_gflops; /* of the device, for the task's dtype */
    char march[96];
    char dtype[DTYPE_ROOM];
    char family[FAMILY_ROOM]; /* of what runs; "" before */
    bool running;
};

static void call_end(struct eval_call *ec)
{
    list_remove(&ec->node);
    turns_end(&ec->turn);
    free(ec);
}

static void call_fail(struct eval_call *ec, const struct err *err)
{
    rpc_fail(ec->call, err);
    call_end(ec);
}

static int run_start(struct rpc_call *call, struct eval_request *req, eval_done_fn *done, void *ctx,
                     struct err *err);

static json_t *with_feedback(const struct eval_call *ec, const json_t *record)
{
    json_auto_t *device =
        json_pack("{s:f, s:f}", "read_gbs", ec->read_gbs, "fma_gflops", ec->fma_gflops);
    json_t *reply = json_copy((json_t *)record);

    json_object_set_new(reply, "feedback", feedback_of(record, device));
    return reply;
}

static void run_done(void *ctx, const struct eval_result *r, const json_t *record)
{
    struct eval_call *ec = ctx;
    struct err err;

    if (r->status == EVAL_CANCELLED) {
        err_set(&err, ERR_CANCELLED, "the evaluation was cancelled");
        call_fail(ec, &err);
        return;
    }
    rpc_reply(ec->call,
              ec->start == run_start ? with_feedback(ec, record) : json_incref((json_t *)record));
    call_end(ec);
}

void rpc_eval_drop_waiting(struct daemon *d)
{
    struct err err;

    err_set(&err, ERR_CANCELLED, "the daemon is stopping; the evaluation was not begun");
    LIST_FOREACH (n, &d->evals) {
        struct eval_call *ec = LIST_OF(n, struct eval_call, node);

        if (!ec->running)
            call_fail(ec, &err);
    }
}

bool rpc_eval_runs(const struct daemon *d, const char *family)
{
    for (const struct list *n = d->evals.next; n != &d->evals; n = n->next) {
        const struct eval_call *ec = LIST_OF(n, const struct eval_call, node);

        if (ec->running && strcmp(ec->family, family) == 0)
            return true;
    }
    return false;
}

int rpc_eval_defines(const struct pack *pack, json_t *given, json_t **out, struct err *err)
{
    uint16_t a[SPACE_PARAMS_MAX];
    struct space *space;
    json_auto_t *all = NULL;
    int rc;

    if (!json_is_object(given))
        return err_set(err, ERR_INVALID, "'assignment' is no object; allowed is {\"NAME\": value}");
    if (pack->space == NULL)
        return err_set(err, ERR_INVALID, "'assignment' was given, but family '%s' has no tunables",
                       pack->family);
    if (space_parse(pack->space, pack->space_path, &space, err) != 0)
        return -1;
    space_default(space, a);
    all = space_to_json(space, a);
    json_object_update(all, given);
    rc = space_from_json(space, all, a, err);
    if (rc == 0)
        rc = space_check(space, a, err);
    if (rc == 0)
        *out = space_defines(space, a);
    space_free(space);
    return rc;
}

size_t rpc_eval_fill(json_t *values, struct eval_define *out)
{
    const char *name;
    json_t *value;
    size_t n = 0;

    json_object_foreach (values, name, value) {
        if (n < EVAL_DEFINES_MAX)
            out[n++] = (struct eval_define){ name, json_string_value(value) };
    }
    return n;
}

int rpc_eval_set(const struct pack_definition *def, const char *name, const struct pack_set **out,
                 struct err *err)
{
    const struct pack_set *set = name != NULL ? pack_set(def, name) : pack_default_set(def);
    char list[256] = "none";
    size_t n = 0;

    if (set != NULL) {
        *out = set;
        return 0;
    }
    for (size_t i = 0; i < def->n_sets && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", def->sets[i].name);
    return err_set(err, ERR_NOT_FOUND, "task '%s' has no workload set '%s'; it has: %s", def->name,
                   name != NULL ? name : "cpu", list);
}

static int run_start(struct rpc_call *call, struct eval_request *req, eval_done_fn *done, void *ctx,
                     struct err *err)
{
    struct daemon *d = rpc_daemon(call);
    const struct run_params *p = rpc_call_params(call);
    struct eval_define defines[EVAL_DEFINES_MAX];
    json_auto_t *values = NULL;
    const struct pack_definition *def = NULL;
    const struct pack_set *set = NULL;
    struct eval_job *job;

    if (task_definition(d, p->task, &def, err) != 0 || rpc_eval_set(def, p->set, &set, err) != 0)
        return -1;
    if (p->assignment != NULL && rpc_eval_defines(def->pack, p->assignment, &values, err) != 0)
        return -1;
    req->pack = def->pack;
    req->definition = def->name;
    req->set = set->name;
    req->candidate = (struct eval_program){ p->source, strlen(p->source), defines,
                                            rpc_eval_fill(values, defines) };
    return evaluator_start(d->evaluator, req, done, ctx, &job, err);
}

/* Everything of a request that does not depend on the task. */
static int common_request(const struct eval_call *ec, struct eval_request *out, struct err *err)
{
    const struct conf *conf = rpc_daemon(ec->call)->conf;

    *out = (struct eval_request){ .device = ec->device,
                                  .threads = (uint32_t)conf->eval_threads,
                                  .read_gbs = ec->read_gbs,
                                  .fma_gflops = ec->fma_gflops,
                                  .march = ec->march,
                                  .limits = eval_default_limits(),
                                  .timing = { .pairs_min = (uint32_t)conf->pairs_min,
                                              .pairs_max = (uint32_t)conf->pairs_max,
                                              .budget_s = conf->timing_budget_s } };
    if (rng_os(&out->seed, sizeof(out->seed)) != 0)
        return err_set(err, ERR_IO, "cannot read random bytes");
    return 0;
}

static void run_go(struct turn *t)
{
    struct eval_call *ec = LIST_OF(t, struct eval_call, turn);
    struct eval_request req;
    struct err err;

    if (common_request(ec, &req, &err) != 0 || ec->start(ec->call, &req, run_done, ec, &err) != 0) {
        call_fail(ec, &err);
        return;
    }
    ec->running = true;
    str_copy(ec->family, sizeof(ec->family), req.pack->family);
}

static void run_with_device(void *arg, const json_t *device, const struct err *err)
{
    struct eval_call *ec = arg;
    struct daemon *d = rpc_daemon(ec->call);
    bool cpu;

    if (device == NULL) {
        rpc_fail(ec->call, err);
        free(ec);
        return;
    }
    ec->read_gbs = jsonx_num(device, "read_gbs", 0);
    ec->fma_gflops = device_gflops(device, ec->dtype);
    str_copy(ec->march, sizeof(ec->march), jsonx_str(device, "march", "native"));
    list_append(&d->evals, &ec->node);
    cpu = strcmp(jsonx_str(device, "kind", ""), "cpu") == 0;
    turns_ask(d->turns, cpu ? "cpu" : ec->device, &ec->turn);
}

void rpc_eval_measure(struct rpc_call *call, const char *device, const char *dtype,
                      rpc_eval_start_fn *start)
{
    struct eval_call *ec = xcalloc(1, sizeof(*ec));

    ec->call = call;
    ec->device = device;
    str_copy(ec->dtype, sizeof(ec->dtype), dtype);
    ec->start = start;
    ec->turn.go = run_go;
    device_ensure(rpc_daemon(call), device, run_with_device, ec);
}

static void eval_run(struct rpc_call *call, void *params)
{
    struct daemon *d = rpc_daemon(call);
    struct run_params *p = params;
    const struct pack_definition *def = NULL;
    struct err err;

    if (p->device == NULL)
        p->device = xstrdup(d->conf->default_device);
    /* Before a probe that takes seconds: is the rest worth it? */
    if (task_definition(d, p->task, &def, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_eval_measure(call, p->device, def->pack->dtype, run_start);
}

const struct rpc_method rpc_eval_methods[] = {
    { METHOD_EVAL_RUN, run_rows, sizeof(struct run_params), RPC_WRITE, eval_run,
      "Build, check and time one candidate source. A candidate that fails is a result, with its "
      "failure class.",
      "the record of docs/design.md section 3, and `feedback`: the same condensed, with times, "
      "spreads and the floor by the device",
      NULL },
    { 0 },
};
