/* SPDX-License-Identifier: Apache-2.0 */
/* task.*: the task packs. They do not change between start and stop, so the loop answers itself. */
#include "daemon.h"
#include "eval/pack.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "tasks.h"

static void task_list(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_reply(call, packs_to_json(rpc_daemon(call)->packs));
}

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

static void task_show(struct rpc_call *call, void *params)
{
    const struct show_params *p = params;
    const struct pack_definition *def;
    struct err err;

    if (task_definition(rpc_daemon(call), p->task, &def, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, pack_definition_to_json(def, p->sources));
}

const struct rpc_method rpc_task_methods[] = {
    { METHOD_TASK_LIST, NULL, 0, 0, task_list,
      "The tasks that were found at start, and packs that are broken.",
      "{tasks[{name, family, summary, ...}], broken[{dir, problems[]}]}", NULL },
    { METHOD_TASK_SHOW, show_rows, sizeof(struct show_params), 0, task_show,
      "One task: axes, tensors, tolerances, workload sets, tunables.",
      "the definition; docs/design.md section 2 has its members", NULL },
    { 0 },
};
