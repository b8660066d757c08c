/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch task list | show. */
#include "cli.h"
#include "proto/methods.h"
#include "show.h"

static void list_print(const json_t *result)
{
    static const struct column columns[] = { { "TASK", "name", SHOW_TEXT },
                                             { "FAMILY", "family", SHOW_TEXT },
                                             { "LANGUAGE", "language", SHOW_TEXT },
                                             { "DTYPE", "dtype", SHOW_TEXT },
                                             { "BOUND", "bottleneck", SHOW_TEXT },
                                             { "DEVICES", "devices", SHOW_TEXT },
                                             { "SETS", "sets", SHOW_TEXT },
                                             { "SUMMARY", "summary", SHOW_TEXT },
                                             { 0 } };

    show_table(result, "tasks", columns, "no tasks; the daemon's tasks_dirs name no pack");
}

const struct command cmd_task_list = {
    .group = "task",
    .name = "list",
    .summary = "List the kernels that can be optimised.",
    .method = METHOD_TASK_LIST,
    .print = list_print,
};

static const struct pos show_pos[] = { { "T", "task", ROW_REQUIRED, "name of the task" }, { 0 } };

const struct command cmd_task_show = {
    .group = "task",
    .name = "show",
    .summary = "Show one task: axes, tensors, workloads, tunables.",
    .method = METHOD_TASK_SHOW,
    .pos = show_pos,
};
