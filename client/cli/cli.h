/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands of the `ksearch` program share: the rows that describe a command, the parsed
 * command line, the connection, and how results are shown. One file per command; main.c has the
 * table. Data go to stdout, chatter to stderr; an error travels as `struct err` to main, which
 * prints it and makes the exit status of it. Small allocations abort when memory is out. Thread:
 * main only.
 */
#ifndef KS_CLI_CLI_H
#define KS_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"
#include "ksearch.h"

/* ---- Rows: parsing and help are made from them ---- */

enum opt_type {
    OPT_FLAG,   /* true */
    OPT_TEXT,   /* any text that is not empty */
    OPT_UINT,   /* 0 to 2^63 - 1 */
    OPT_JSON,   /* a JSON object */
    OPT_BUDGET, /* evals=N,time=T,... -> {"evals": N, "time": seconds} */
    OPT_STOP,   /* roofline=X,gain=X -> {"roofline": X, "gain": X} */
    OPT_TYPE_COUNT
};

enum {
    ROW_LOCAL = 1,    /* for the command itself: goes to args.local, not to args.params */
    ROW_REQUIRED = 2, /* must be given */
    ROW_MANY = 4,     /* positional: takes all that remain; option: may be repeated: an array */
    ROW_WORDS = 8     /* positional, takes all that remain: one text, joined by blanks */
};

/* --name VALUE; `param` is the member that it becomes. A NULL name ends the table. */
struct opt {
    const char *name;
    enum opt_type type;
    const char *metavar; /* NULL for a flag */
    const char *param;
    unsigned flags;
    const char *help;
};

/* A positional argument. A NULL metavar ends the table. */
struct pos {
    const char *metavar;
    const char *param;
    unsigned flags;
    const char *help;
};

/* What the command line said, as JSON: `params` is sent as it is. */
struct args {
    json_t *params;
    json_t *local;
};

struct cli {
    bool json;
    const char *socket; /* borrowed; NULL for the default */
    struct ks *ks;      /* connected on first use */
    bool answered;      /* the document of --json is out: an error then adds only its sentence */
};

struct command {
    const char *group; /* "search", or NULL */
    const char *name;  /* "start", or two words: "key show" */
    const char *summary;
    const char *method; /* called by cli_run_call */
    const struct pos *pos;
    const struct opt *opts;
    /* NULL: cli_run_call. 0, or -1 with the error that makes the exit status. */
    int (*run)(struct cli *cli, const struct command *cmd, struct args *args, struct err *err);
    /* Shows a result to a person. NULL: show_value. */
    void (*print)(const json_t *result);
    const char *notes; /* further help, whole lines; may be NULL */
};

/* ---- args.c ---- */

/*
 * Reads argv[0..argc) by the rows of `cmd` and the global ones. *help is set when --help is among
 * them; nothing else is then required. ERR_INVALID names the option, the value and what is allowed,
 * and suggests the nearest name. Release with args_release, after failure too.
 */
int args_parse(struct cli *cli, const struct command *cmd, int argc, char **argv, struct args *out,
               bool *help, struct err *err);
void args_release(struct args *args);

/* The global rows: --socket, --json, --help, --version. */
extern const struct opt cli_global_opts[];

/* "; did you mean 'DASHESname'?" for the nearest of `names` (NULL-terminated), or "". Returns
 * `out`. */
char *cli_suggest(const char *given, const char *dashes, const char *const *names, char *out,
                  size_t size);
/* One line for each NAME of an option of NAME=VALUE pairs; false when the option has none. */
bool args_pairs_help(FILE *f, enum opt_type type);

/* ---- help.c ---- */

void help_program(FILE *f);
/* All commands of a group, one line each. False when there is no such group. */
bool help_group(FILE *f, const char *group);
void help_command(FILE *f, const struct command *cmd);

/* ---- main.c ---- */

/* All commands, NULL-terminated, in the order of help. */
extern const struct command *const cli_commands[];

int cli_connect(struct cli *cli, struct err *err);
/* One call; *result (may be NULL) is a new reference. */
int cli_call(struct cli *cli, const char *method, const json_t *params, json_t **result,
             struct err *err);
/* One call with a file: opens `path` for reading and sends the descriptor along. ERR_NOT_FOUND,
 * ERR_IO, ERR_INVALID (no regular file). */
int cli_call_file(struct cli *cli, const char *method, const json_t *params, const char *path,
                  json_t **result, struct err *err);
/* The same with a file that is open already. */
int cli_call_fd(struct cli *cli, const char *method, const json_t *params, int fd, json_t **result,
                struct err *err);
/* The plain command: calls cmd->method with args->params, shows the result. */
int cli_run_call(struct cli *cli, const struct command *cmd, struct args *args, struct err *err);
/* Shows a result: as JSON with --json, else by `print` (NULL: show_value). */
void cli_show(struct cli *cli, void (*print)(const json_t *), const json_t *result);
/* Copies a library error. Always -1. */
int cli_error(struct err *err, const struct ks_error *from);

/* ---- the rows of all files ---- */

extern const struct command cmd_status;
extern const struct command cmd_task_list, cmd_task_show, cmd_task_import, cmd_task_check;
extern const struct command cmd_device_list, cmd_device_show, cmd_device_probe, cmd_device_import;
extern const struct command cmd_search_start, cmd_search_list, cmd_search_show, cmd_search_watch,
    cmd_search_pause, cmd_search_resume, cmd_search_cancel, cmd_search_explain, cmd_search_tree,
    cmd_search_compare;
extern const struct command cmd_program_list, cmd_program_show, cmd_program_export;
extern const struct command cmd_query;
extern const struct command cmd_retune;
extern const struct command cmd_insight_list, cmd_insight_show, cmd_insight_add,
    cmd_insight_retract;
extern const struct command cmd_kb_doctor, cmd_kb_stats, cmd_kb_verify, cmd_kb_import,
    cmd_kb_export, cmd_kb_backup, cmd_kb_gc, cmd_kb_key_show, cmd_kb_key_trust, cmd_kb_key_list,
    cmd_kb_key_distrust;
extern const struct command cmd_eval_run;
extern const struct command cmd_llm_pending, cmd_llm_take, cmd_llm_answer, cmd_llm_release,
    cmd_llm_status;

/* task_recorded.c: imports the recorded space in the file `path`, as a run function of `cmd` (whose
 * options became args->params). */
int cli_task_import_recorded(struct cli *cli, const struct command *cmd, struct args *args,
                             const char *path, struct err *err);

/* kb_ksearch.c: imports the run of K-Search in the folder (or beside the world model) `path`, as a
 * run function of `cmd`. */
int cli_kb_import_ksearch(struct cli *cli, const struct command *cmd, struct args *args,
                          const char *path, struct err *err);

/* query.c: one insight with its effect, scope, reasons and evidence, as a query and insight.show
 * give it. */
void insight_print(const json_t *insight);

/* kb_doctor.c: what predictions were worth, as kb.stats gives it: a table, and a curve per source.
 */
void calibration_print(const json_t *calibration);

/* Shows what an import of a recorded space did. */
void recorded_import_print(const json_t *result);

/* search_watch.c: follows `search` until it ends; ERR_FAILED or ERR_CANCELLED when it ends so. */
int watch_search(struct cli *cli, const char *search, struct err *err);

#endif
