/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch retune: starts a retune and follows it to its report, or prints its plan. Ctrl-C ends the
 * following, never the retune; the same command again joins it.
 */
#include "cli.h"

#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "interrupt.h"
#include "proto/methods.h"
#include "retune.h"
#include "show.h"

enum { SVG_MAX = 16 << 20, TICK_MS = 500 };

/* ---- The report in a file ---- */

static int write_text(const json_t *result, const char *path, struct err *err)
{
    FILE *f = fopen(path, "we");

    if (f == NULL)
        return err_set(err, ERR_IO, "cannot write '%s'", path);
    retune_print_plan(result, f);
    fputc('\n', f);
    retune_print_report(result, f);
    if (fclose(f) != 0)
        return err_set(err, ERR_IO, "cannot write '%s'", path);
    return 0;
}

static int write_report(const json_t *result, const char *path, struct err *err)
{
    CLEANUP(buf_release) struct buf svg = { .max = SVG_MAX };
    CLEANUP(freep) char *text = NULL;

    if (str_has_suffix(path, ".svg")) {
        if (retune_svg(result, &svg, err) != 0)
            return err_ctx(err, "the picture of the report");
        return file_write(path, svg.data, svg.len, 0644, err);
    }
    if (!str_has_suffix(path, ".json"))
        return write_text(result, path, err);
    text = json_dumps(result, JSON_INDENT(2));
    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the report");
    return file_write(path, text, strlen(text), 0644, err);
}

static int check_report_name(const char *path, struct err *err)
{
    if (path == NULL || str_has_suffix(path, ".svg") || str_has_suffix(path, ".json") ||
        str_has_suffix(path, ".txt"))
        return 0;
    return err_set(err, ERR_INVALID,
                   "--report is '%.200s'; a name in .json, .svg or .txt is "
                   "allowed, which says what is written",
                   path);
}

/* ---- Following ---- */

static void print_event(const json_t *event)
{
    CLEANUP(freep) char *task = show_text_at(event, "task", SHOW_TEXT);
    CLEANUP(freep) char *why = show_text_at(event, "why", SHOW_TEXT);
    CLEANUP(freep) char *status = show_text_at(event, "status", SHOW_TEXT);
    CLEANUP(freep) char *objective = show_text_at(event, "objective", SHOW_FACTOR);
    CLEANUP(freep) char *spent = show_text_at(event, "spent_evals", SHOW_TEXT);
    CLEANUP(freep) char *budget = show_text_at(event, "budget.evals", SHOW_TEXT);
    const char *type = jsonx_str(event, "type", "");
    bool ok = strcmp(status, "ok") == 0;

    if (strcmp(type, "measured") == 0)
        fprintf(stderr, "%s/%s  %s  %s: %s%s\n", spent, budget, task, why, ok ? objective : status,
                jsonx_bool(event, "known", 0) ? " (known)" : "");
    else if (strcmp(type, "search") == 0)
        fprintf(stderr, "%s/%s  %s  %s search %s begins\n", spent, budget, task,
                jsonx_str(event, "kind", ""), jsonx_str(event, "id", ""));
}

/* Until retune.end, or until interrupted. */
static int follow(struct cli *cli, const char *id, struct err *err)
{
    struct ks_error e;

    while (!interrupt_came()) {
        char *method = NULL;
        json_t *params = NULL;
        int got = ks_next(cli->ks, TICK_MS, &method, &params, &e);
        bool end;

        if (got < 0)
            return cli_error(err, &e);
        if (got == 0)
            continue;
        end = strcmp(method, NOTIFY_RETUNE_END) == 0 || strcmp(method, NOTIFY_STREAM_DROPPED) == 0;
        if (!cli->json && strcmp(method, NOTIFY_RETUNE_EVENT) == 0)
            print_event(json_object_get(params, "event"));
        free(method);
        json_decref(params);
        if (end)
            return 0;
    }
    return err_set(err, ERR_CANCELLED,
                   "no longer following retune '%s', which goes on; the same command joins it, "
                   "'ksearch retune --cancel %s' ends it",
                   id, id);
}

static int wait_for(struct cli *cli, const char *id, struct err *err)
{
    json_auto_t *params = json_pack("{s:s}", "retune", id), *reply = NULL;
    struct sigaction old;
    int rc;

    if (cli_call(cli, METHOD_RETUNE_WATCH, params, &reply, err) != 0)
        return -1;
    if (strcmp(jsonx_str(reply, "state", ""), "running") != 0)
        return 0;
    interrupt_catch(&old);
    rc = follow(cli, id, err);
    interrupt_release(&old);
    return rc;
}

static void report_print(const json_t *result)
{
    retune_print_report(result, stdout);
}

static void plan_print(const json_t *result)
{
    retune_print_plan(result, stdout);
}

/* `followed`: a retune that was started here and was cancelled did not do what was asked. */
static int show(struct cli *cli, const char *id, const char *path, bool followed, struct err *err)
{
    json_auto_t *params = json_pack("{s:s}", "retune", id), *result = NULL;

    if (cli_call(cli, METHOD_RETUNE_SHOW, params, &result, err) != 0)
        return -1;
    cli_show(cli, report_print, result);
    if (path != NULL && write_report(result, path, err) != 0)
        return -1;
    if (followed && strcmp(jsonx_str(result, "state", ""), "cancelled") == 0)
        return err_set(err, ERR_CANCELLED, "retune '%s' was cancelled", id);
    return 0;
}

/* ---- The command ---- */

static void list_print(const json_t *result)
{
    static const struct column columns[] = {
        { "RETUNE", "id", SHOW_TEXT },       { "STATE", "state", SHOW_TEXT },
        { "FROM", "from", SHOW_TEXT },       { "TO", "device", SHOW_TEXT },
        { "STARTED", "created", SHOW_TIME }, { 0 }
    };

    show_table(result, "retunes", columns, "no retunes yet");
}

static int start(struct cli *cli, struct args *args, const char *path, struct err *err)
{
    json_auto_t *result = NULL;
    const char *id;

    if (cli_call(cli, METHOD_RETUNE_START, args->params, &result, err) != 0)
        return -1;
    id = jsonx_str(result, "id", NULL);
    if (id == NULL)
        return err_set(err, ERR_UPSTREAM, "the daemon started a retune and gave no id for it");
    fprintf(stderr, "retune %s %s\n", id,
            jsonx_bool(result, "joined", 0) ? "is under way already; joined" : "begins");
    if (wait_for(cli, id, err) != 0)
        return -1;
    return show(cli, id, path, true, err);
}

static int retune_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    const char *path = jsonx_str(args->local, "report", NULL);
    const char *cancel = jsonx_str(args->local, "cancel", NULL);
    const char *id = jsonx_str(args->local, "show", NULL);
    json_auto_t *result = NULL, *one = NULL;

    (void)cmd;
    if (check_report_name(path, err) != 0)
        return -1;
    if (jsonx_bool(args->local, "list", 0)) {
        if (cli_call(cli, METHOD_RETUNE_LIST, NULL, &result, err) != 0)
            return -1;
        cli_show(cli, list_print, result);
        return 0;
    }
    if (cancel != NULL) {
        one = json_pack("{s:s}", "retune", cancel);
        if (cli_call(cli, METHOD_RETUNE_CANCEL, one, &result, err) != 0)
            return -1;
        cli_show(cli, NULL, result);
        return 0;
    }
    if (id != NULL)
        return show(cli, id, path, false, err);
    if (json_object_get(args->params, "device") == NULL)
        return err_set(err, ERR_INVALID, "'retune' needs --device D: the device to retune for");
    if (!jsonx_bool(args->local, "plan", 0))
        return start(cli, args, path, err);
    if (cli_call(cli, METHOD_RETUNE_PLAN, args->params, &result, err) != 0)
        return -1;
    cli_show(cli, plan_print, result);
    return path != NULL ? write_report(result, path, err) : 0;
}

static const struct pos retune_pos[] = { { "T", "tasks", ROW_MANY, "more tasks, after --task" },
                                         { 0 } };

static const struct opt retune_opts[] = {
    { "device", OPT_TEXT, "D", "device", 0, "the device to retune for" },
    { "from", OPT_TEXT, "D0", "from", 0,
      "the device whose knowledge is carried over (the one with most evaluations)" },
    { "task", OPT_TEXT, "T", "tasks", ROW_MANY,
      "only these tasks; may be given several times (all that were measured on D0)" },
    { "budget", OPT_BUDGET, "B", "budget", 0,
      "where to stop: evals=N (40 a task), time=T; a quarter of it tests insights" },
    { "plan", OPT_FLAG, NULL, "plan", ROW_LOCAL, "print the plan and stop" },
    { "toolchain", OPT_FLAG, NULL, "toolchain", 0,
      "same device, but its compiler, driver or libraries changed" },
    { "control", OPT_FLAG, NULL, "control", 0, "run cold searches too, to measure what was saved" },
    { "seed", OPT_UINT, "N", "seed", 0, "fixes every random choice" },
    { "report", OPT_TEXT, "FILE", "report", ROW_LOCAL,
      "write the report to FILE.json, FILE.svg or FILE.txt too" },
    { "list", OPT_FLAG, NULL, "list", ROW_LOCAL, "list the retunes, running and ended" },
    { "show", OPT_TEXT, "R", "show", ROW_LOCAL, "show the report of a retune, so far" },
    { "cancel", OPT_TEXT, "R", "cancel", ROW_LOCAL, "end a retune; what it measured stays" },
    { 0 }
};

const struct command cmd_retune = {
    .name = "retune",
    .summary = "After an upgrade: carry knowledge to a new device, and measure what may not hold.",
    .pos = retune_pos,
    .opts = retune_opts,
    .run = retune_run,
    .notes =
        "--device is needed unless --list, --show or --cancel is given. Of a budget, evals and\n"
        "time count. Ctrl-C ends the following; the retune goes on, and the same command joins "
        "it.\n",
};
