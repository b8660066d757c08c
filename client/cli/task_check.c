/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch task check: is a task fit to judge kernels by? */
#include "cli.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

static const struct pos check_pos[] = { { "T", "task", ROW_REQUIRED, "name of the task" }, { 0 } };

static const struct opt check_opts[] = {
    { "device", OPT_TEXT, "D", "device", 0, "device to check it on (the daemon's default)" },
    { "set", OPT_TEXT, "S", "set", 0, "workload set to time, beside smoke" },
    { 0 }
};

/* One line a check, its sentence wrapped under it. */
static void checks_print(const json_t *checks)
{
    size_t i;
    json_t *c;

    json_array_foreach ((json_t *)checks, i, c) {
        CLEANUP(freep) char *name = show_text_at(c, "name", SHOW_TEXT);
        CLEANUP(freep) char *status = show_text_at(c, "status", SHOW_TEXT);
        CLEANUP(freep) char *message = show_text_at(c, "message", SHOW_TEXT);

        printf("%-8s %s\n", status, name);
        show_wrapped(message, 9);
    }
}

/* "2/2": rejected on so many of the workloads where it could be tried. */
static void set_share(json_t *row, const json_t *tampered, const char *how)
{
    const json_t *t = json_object_get(tampered, how);

    if (jsonx_int(t, "of", 0) > 0)
        json_object_set_new(row, how,
                            json_sprintf("%lld/%lld", (long long)jsonx_int(t, "rejected", 0),
                                         (long long)jsonx_int(t, "of", 0)));
}

static void set_digits(json_t *row, const char *key, const json_t *v, double unit, int digits)
{
    if (json_is_number(v))
        json_object_set_new(row, key, json_sprintf("%.*g", digits, json_number_value(v) / unit));
}

static void tolerance_print(const json_t *list)
{
    static const struct column columns[] = { { "OUTPUT", "output", SHOW_TEXT },
                                             { "REFERENCE", "reference", SHOW_TEXT },
                                             { "SINGLE", "single", SHOW_TEXT },
                                             { "ROUNDING", "rounding", SHOW_TEXT },
                                             { "ZEROS", "zeros", SHOW_TEXT },
                                             { "ZERO ROW", "zero_row", SHOW_TEXT },
                                             { "SHIFT", "shift", SHOW_TEXT },
                                             { "X 1.05", "factor", SHOW_TEXT },
                                             { 0 } };
    static const char *const shares[] = { "reference", "single", "rounding" };
    static const char *const tampers[] = { "zeros", "zero_row", "shift", "factor" };
    json_auto_t *rows = json_array();
    size_t i;
    json_t *t;

    json_array_foreach ((json_t *)list, i, t) {
        json_t *row = json_object();

        json_object_set(row, "output", json_object_get(t, "output"));
        for (size_t k = 0; k < ARRAY_LEN(shares); k++)
            set_digits(row, shares[k], json_object_get(t, shares[k]), 1, 2);
        for (size_t k = 0; k < ARRAY_LEN(tampers); k++)
            set_share(row, json_object_get(t, "tampered"), tampers[k]);
        json_array_append_new(rows, row);
    }
    printf("\nShare of the tolerance that is used, and how often tampered outputs are rejected:\n");
    show_table(rows, "", columns, "");
}

static void timing_print(const json_t *list)
{
    static const struct column columns[] = { { "WORKLOAD", "name", SHOW_TEXT },
                                             { "GFLOP", "gflop", SHOW_TEXT },
                                             { "MB", "mb", SHOW_TEXT },
                                             { "BOUND", "bound", SHOW_TEXT },
                                             { "FLOOR us", "floor", SHOW_TEXT },
                                             { "BASELINE us", "baseline", SHOW_TEXT },
                                             { "%", "baseline_roofline", SHOW_SHARE },
                                             { "TEMPLATE us", "template", SHOW_TEXT },
                                             { "%", "template_roofline", SHOW_SHARE },
                                             { "SPEED", "ratio", SHOW_FACTOR },
                                             { 0 } };
    static const char *const kept[] = { "name", "bound", "baseline_roofline", "template_roofline",
                                        "ratio" };
    static const struct {
        const char *to, *from;
        double unit;
    } digits[] = { { "gflop", "flops", 1e9 },
                   { "mb", "bytes", 1e6 },
                   { "floor", "floor_ns", 1e3 },
                   { "baseline", "baseline_ns", 1e3 },
                   { "template", "template_ns", 1e3 } };
    json_auto_t *rows = json_array();
    size_t i;
    json_t *t;

    json_array_foreach ((json_t *)list, i, t) {
        json_t *row = json_object();

        for (size_t k = 0; k < ARRAY_LEN(kept); k++)
            if (!json_is_null(json_object_get(t, kept[k])))
                json_object_set(row, kept[k], json_object_get(t, kept[k]));
        for (size_t k = 0; k < ARRAY_LEN(digits); k++)
            set_digits(row, digits[k].to, json_object_get(t, digits[k].from), digits[k].unit, 4);
        json_array_append_new(rows, row);
    }
    printf("\nTimes, cold, beside what the device could do; %% is the share of the roofline:\n");
    show_table(rows, "", columns, "");
}

static void check_print(const json_t *r)
{
    CLEANUP(freep) char *definition = show_text_at(r, "definition", SHOW_TEXT);
    CLEANUP(freep) char *set = show_text_at(r, "set", SHOW_TEXT);
    CLEANUP(freep) char *status = show_text_at(r, "status", SHOW_TEXT);

    printf("%s, set %s: %s\n\n", definition, set, status);
    checks_print(json_object_get(r, "checks"));
    if (json_array_size(json_object_get(r, "tolerance")) > 0)
        tolerance_print(json_object_get(r, "tolerance"));
    if (json_array_size(json_object_get(r, "timing")) > 0)
        timing_print(json_object_get(r, "timing"));
}

/* A task that failed is a result, shown as such, and exit status 9. */
static int check_run(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    json_auto_t *result = NULL;
    const char *status;

    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    status = jsonx_str(result, "status", "");
    cli_show(cli, check_print, result);
    if (strcmp(status, "ok") != 0)
        return err_set(err, ERR_FAILED, "the task is not fit to judge kernels by: %s",
                       jsonx_str(result, "message", status));
    return 0;
}

const struct command cmd_task_check = {
    .group = "task",
    .name = "check",
    .summary = "Try out a task: workloads, reference, tolerances, kernels, roofline.",
    .method = METHOD_TASK_CHECK,
    .pos = check_pos,
    .opts = check_opts,
    .run = check_run,
    .notes = "The exit status is 0 when every check passed (warnings pass) and 9 when one failed.\n"
             "docs/harness.md, \"Checking a task\", says what is checked.\n",
};
