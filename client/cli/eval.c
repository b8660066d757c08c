/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch eval run: one honest measurement of a source file. */
#include "cli.h"

#include "base/file.h"
#include "base/jsonx.h"
#include "feedback.h"
#include "proto/methods.h"
#include "show.h"

/* What one candidate source may have; the request's own cap is larger. */
enum { SOURCE_MAX = 1 << 20 };

static const struct pos run_pos[] = {
    { "FILE", "file", ROW_REQUIRED | ROW_LOCAL, "the candidate's source" }, { 0 }
};

static const struct opt run_opts[] = {
    { "task", OPT_TEXT, "T", "task", ROW_REQUIRED, "task that it claims to solve" },
    { "device", OPT_TEXT, "D", "device", 0,
      "device to measure on (the task's only one, else the default)" },
    { "set", OPT_TEXT, "S", "set", 0, "workload set to measure on" },
    { "assignment", OPT_JSON, "JSON", "assignment", 0,
      "values of its tunables, {\"NAME\": value}" },
    { 0 }
};

/* A record without feedback is an older daemon's: its own table, then. */
static void old_print(const json_t *r)
{
    static const struct column columns[] = {
        { "WORKLOAD", "name", SHOW_TEXT },    { "STATUS", "status", SHOW_TEXT },
        { "SPEED", "ratio", SHOW_FACTOR },    { "ROOFLINE", "roofline", SHOW_SHARE },
        { "ERROR", "tensor_rel", SHOW_TEXT }, { 0 }
    };

    if (json_array_size(json_object_get(r, "workloads")) > 0)
        show_table(json_object_get(r, "workloads"), "", columns, "");
}

/* The compiler's own words, where the diagnostics do not say it all already. */
static void log_print(const json_t *r)
{
    const json_t *diagnostics = show_at(r, "feedback.diagnostics");
    const char *log = jsonx_str(json_object_get(r, "build"), "log", "");
    bool failed = strncmp(jsonx_str(r, "status", ""), "build_", 6) == 0;

    if (!*log || (json_array_size(diagnostics) > 0 && !failed))
        return;
    printf("\nbuild log:\n");
    show_block(log);
    putchar('\n');
}

static void record_print(const json_t *r)
{
    CLEANUP(freep) char *status = show_text_at(r, "status", SHOW_TEXT);
    CLEANUP(freep) char *objective = show_text_at(r, "objective", SHOW_FACTOR);
    CLEANUP(freep) char *low = show_text_at(r, "ci_low", SHOW_FACTOR);
    CLEANUP(freep) char *high = show_text_at(r, "ci_high", SHOW_FACTOR);
    const json_t *feedback = json_object_get(r, "feedback");

    printf("%s", status);
    if (json_is_number(json_object_get(r, "objective")))
        printf(": %s the baseline's speed [%s, %s]", objective, low, high);
    putchar('\n');
    if (*jsonx_str(r, "message", ""))
        show_wrapped(jsonx_str(r, "message", ""), 0);
    putchar('\n');
    if (feedback != NULL)
        feedback_print(feedback);
    else
        old_print(r);
    log_print(r);
}

/* A candidate that failed is a result, shown as such, and exit status 9. */
static int run_run(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    CLEANUP(buf_release) struct buf source = { .max = SOURCE_MAX };
    json_auto_t *result = NULL;
    json_t *text;
    const char *path = jsonx_str(args->local, "file", ""), *status;

    if (file_read(path, &source, err) != 0)
        return err_ctx(err, "candidate '%s'", path);
    text = json_stringn(buf_str(&source), source.len);
    if (text == NULL || strlen(buf_str(&source)) != source.len) {
        json_decref(text);
        return err_set(err, ERR_INVALID, "candidate '%s' is not UTF-8 text", path);
    }
    json_object_set_new(args->params, "source", text);
    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    status = jsonx_str(result, "status", "ok");
    cli_show(cli, record_print, result);
    if (strcmp(status, "ok") != 0)
        return err_set(err, ERR_FAILED, "the evaluation failed: %s", status);
    return 0;
}

const struct command cmd_eval_run = {
    .group = "eval",
    .name = "run",
    .summary = "Build, check and time one candidate source.",
    .method = METHOD_EVAL_RUN,
    .pos = run_pos,
    .opts = run_opts,
    .run = run_run,
};
