/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.list, task.show and task.import_recorded. Task packs are in memory, so the loop answers
 * itself; recorded tasks are documents, which workers read.
 */
#include "base/mem.h"
#include "daemon.h"
#include "eval/pack.h"
#include "eval/recorded_store.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "tasks.h"

/* ---- list ---- */

static int list_one(void *ctx, const char *key, const json_t *doc)
{
    if (recorded_is_task(doc))
        json_array_append_new(ctx, recorded_list_json(key, doc));
    return 0;
}

static int list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *tasks = json_array();

    (void)params;
    if (kb_each_doc(d->kb, KB_TASK, list_one, tasks, err) != 0)
        return -1;
    *result = json_pack("{s:O}", "tasks", tasks);
    return 0;
}

/* Packs first, then what was recorded. */
static void list_then(struct daemon *d, void *params, json_t *result)
{
    json_auto_t *recorded = json_incref(json_object_get(result, "tasks"));
    json_auto_t *packs = packs_to_json(d->packs);

    (void)params;
    json_array_extend(json_object_get(packs, "tasks"), recorded);
    json_object_update(result, packs);
}

static void task_list(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run_then(call, list_run, list_then);
}

/* ---- show ---- */

struct show_params {
    char *task;
    bool sources;
};

static const struct param show_rows[] = {
    { "task", PARAM_NAME, offsetof(struct show_params, task), PARAM_REQUIRED, "name of the task", 0,
      0, NULL, 0 },
    { "sources", PARAM_BOOL, offsetof(struct show_params, sources), 0,
      "with the text of reference, baseline and template (false)", 0, 0, NULL, 0 },
    { 0 },
};

static int show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct show_params *p = params;
    json_auto_t *doc = NULL;

    if (task_recorded(d, p->task, &doc, err) != 0)
        return -1;
    *result = recorded_show_json(p->task, doc);
    return 0;
}

static void task_show(struct rpc_call *call, void *params)
{
    const struct show_params *p = params;
    const struct pack_definition *def = packs_find(rpc_daemon(call)->packs, p->task);

    if (def != NULL)
        rpc_reply(call, pack_definition_to_json(def, p->sources));
    else
        rpc_run(call, show_run);
}

/* ---- import of a recorded space ---- */

struct import_params {
    char *name, *device;
    bool noise;
    int file;
};

static const struct param import_rows[] = {
    { "name", PARAM_NAME, offsetof(struct import_params, name), PARAM_REQUIRED,
      "name of the task to make, or to extend to one more device", 0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct import_params, device), PARAM_REQUIRED,
      "device that it was recorded on; made when it is not known", 0, 0, NULL, 0 },
    { "noise", PARAM_BOOL, offsetof(struct import_params, noise), 0,
      "an evaluation draws one recorded sample instead of the value over all of them (false)", 0, 0,
      NULL, 0 },
    { 0 },
};

static int import_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct import_params *p = params;
    struct recorded *r;
    struct t4 t;
    int rc;

    if (t4_read(p->file, "the file", &t, err) != 0)
        return -1;
    rc = recorded_new(&t, p->noise, &r, err);
    t4_release(&t);
    if (rc != 0)
        return err_ctx(err, "the file");
    rc = recorded_import_table(d->kb, p->name, p->device, r, result, err);
    recorded_free(r);
    return rc;
}

static void task_import_recorded(struct rpc_call *call, void *params)
{
    struct import_params *p = params;
    struct err err;

    if (task_is_free(rpc_daemon(call), p->name, &err) != 0) {
        rpc_fail(call, &err);
        return;
    }
    p->file = rpc_call_file(call);
    rpc_run(call, import_run);
}

const struct rpc_method rpc_task_methods[] = {
    { METHOD_TASK_LIST, NULL, 0, 0, task_list, "The tasks there are, and packs that are broken.",
      "{tasks[{name, family, summary, ...}], broken[{dir, problems[]}]}", NULL },
    { METHOD_TASK_SHOW, show_rows, sizeof(struct show_params), 0, task_show,
      "One task: axes, tensors, tolerances, workload sets, tunables. Of a recorded one: parameters "
      "and "
      "devices.",
      "the definition; docs/design.md section 2 has its members, docs/recorded.md those of a "
      "recorded "
      "task",
      NULL },
    { METHOD_TASK_IMPORT_RECORDED, import_rows, sizeof(struct import_params), RPC_WRITE | RPC_FILE,
      task_import_recorded,
      "Make a replay task of a recorded tuning space (T4, plain or gzip), or extend one to another "
      "device. The same file again changes nothing.",
      "{task, device, assignments, valid, failures{}, parameters, devices[], noise, changed}",
      NULL },
    { 0 },
};
