/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch program list | show | export. */
#include "cli.h"

#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

static const struct opt list_opts[] = {
    { "task", OPT_TEXT, "T", "task", 0, "only programs of this task" },
    { "device", OPT_TEXT, "D", "device", 0, "only programs measured on this device" },
    { 0 }
};

static void list_print(const json_t *result)
{
    static const struct column columns[] = {
        { "PROGRAM", "id", SHOW_SHORT },           { "TASK", "task", SHOW_TEXT },
        { "DEVICE", "device", SHOW_TEXT },         { "LANGUAGE", "language", SHOW_TEXT },
        { "BEST", "best.objective", SHOW_FACTOR }, { "EVALS", "evaluations", SHOW_TEXT },
        { "TITLE", "title", SHOW_TEXT },           { 0 }
    };

    show_table(result, "programs", columns, "no programs yet");
}

const struct command cmd_program_list = {
    .group = "program",
    .name = "list",
    .summary = "List the stored programs.",
    .method = METHOD_PROGRAM_LIST,
    .opts = list_opts,
    .print = list_print,
};

static const struct pos show_pos[] = { { "P", "program", ROW_REQUIRED, "id of the program" },
                                       { 0 } };

static void show_print(const json_t *program)
{
    static const struct column columns[] = { { "TASK", "task", SHOW_TEXT },
                                             { "DEVICE", "device", SHOW_TEXT },
                                             { "EVALS", "evaluations", SHOW_TEXT },
                                             { "PASSED", "ok", SHOW_TEXT },
                                             { "BEST", "best.objective", SHOW_FACTOR },
                                             { "ASSIGNMENT", "best.assignment", SHOW_TEXT },
                                             { 0 } };
    json_auto_t *rest = json_copy((json_t *)program);

    json_object_del(rest, "source");
    json_object_del(rest, "measured");
    json_object_del(rest, "space");
    show_value(rest);
    if (json_array_size(json_object_get(program, "measured")) > 0) {
        putchar('\n');
        show_table(program, "measured", columns, "");
    }
    putchar('\n');
    if (json_object_get(program, "source") != NULL)
        show_block(jsonx_str(program, "source", ""));
    else
        puts("A recorded tuning space: there is no source, an assignment is all there is.");
}

const struct command cmd_program_show = {
    .group = "program",
    .name = "show",
    .summary = "Show one program: source, settings, where it was measured.",
    .method = METHOD_PROGRAM_SHOW,
    .pos = show_pos,
    .print = show_print,
};

/* ---- export ---- */

static const struct opt export_opts[] = { { "to", OPT_TEXT, "DIR", "to", ROW_LOCAL | ROW_REQUIRED,
                                            "folder to write to; made when missing" },
                                          { 0 } };

/* Writes DIR/name over what is there, and adds its path to `files`. */
static int export_file(const char *dir, const char *name, const char *text, size_t len,
                       json_t *files, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (file_write_atomic(path, text, len, err) != 0)
        return -1;
    json_array_append_new(files, json_string(path));
    return 0;
}

static int export_write(const json_t *program, const char *dir, json_t *files, struct err *err)
{
    const json_t *source = json_object_get(program, "source");
    CLEANUP(freep) char *record = NULL;
    json_auto_t *rest = json_copy((json_t *)program);
    const char *name =
        strcmp(jsonx_str(program, "language", "c"), "cuda") == 0 ? "candidate.cu" : "candidate.c";

    if (source != NULL && !json_is_string(source))
        return err_set(err, ERR_UPSTREAM, "the daemon gave a source that is no text");
    json_object_del(rest, "source");
    record = json_dumps(rest, JSON_INDENT(2));
    if (record == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the program's record");
    if (file_mkdirs(dir, err) != 0)
        return -1;
    /* A recorded space has none. */
    if (source != NULL && export_file(dir, name, json_string_value(source),
                                      json_string_length(source), files, err) != 0)
        return -1;
    return export_file(dir, "program.json", record, strlen(record), files, err);
}

static void export_print(const json_t *result)
{
    json_t *file;
    size_t i;

    json_array_foreach (json_object_get(result, "files"), i, file) {
        CLEANUP(freep) char *s = show_text(file, SHOW_TEXT);

        puts(s);
    }
}

static int export_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    json_auto_t *program = NULL, *files = json_array(), *result = NULL;

    if (cli_call(cli, cmd->method, args->params, &program, err) != 0)
        return -1;
    if (export_write(program, jsonx_str(args->local, "to", "."), files, err) != 0)
        return err_ctx(err, "program export");
    result = json_pack("{s:O, s:O}", "program", json_object_get(args->params, "program"), "files",
                       files);
    cli_show(cli, export_print, result);
    return 0;
}

const struct command cmd_program_export = {
    .group = "program",
    .name = "export",
    .summary = "Write a program's source and its record (program.json) to a folder.",
    .method = METHOD_PROGRAM_SHOW,
    .pos = show_pos,
    .opts = export_opts,
    .run = export_run,
};
