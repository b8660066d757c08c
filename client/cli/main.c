/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `ksearch` program: finds the command in its table, reads the command line by the command's
 * rows, runs it, and turns an error into a sentence and an exit status. See cli.h.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

#include "base/str.h"
#include "show.h"

/* For a connection and its greeting; a call itself waits as long as the daemon works on it. */
enum { CONNECT_TIMEOUT_MS = 10000 };

const struct command *const cli_commands[] = {
    &cmd_status,         &cmd_task_list,
    &cmd_task_show,      &cmd_task_import,
    &cmd_task_check,     &cmd_device_list,
    &cmd_device_show,    &cmd_device_probe,
    &cmd_device_import,  &cmd_search_start,
    &cmd_search_list,    &cmd_search_show,
    &cmd_search_watch,   &cmd_search_pause,
    &cmd_search_resume,  &cmd_search_cancel,
    &cmd_search_explain, &cmd_search_tree,
    &cmd_search_compare, &cmd_program_list,
    &cmd_program_show,   &cmd_program_export,
    &cmd_query,          &cmd_retune,
    &cmd_insight_list,   &cmd_insight_show,
    &cmd_insight_add,    &cmd_insight_retract,
    &cmd_kb_import,      &cmd_kb_export,
    &cmd_kb_key_show,    &cmd_kb_key_trust,
    &cmd_kb_key_list,    &cmd_kb_key_distrust,
    &cmd_kb_backup,      &cmd_kb_gc,
    &cmd_kb_stats,       &cmd_kb_doctor,
    &cmd_kb_verify,      &cmd_eval_run,
    &cmd_llm_pending,    &cmd_llm_take,
    &cmd_llm_answer,     &cmd_llm_release,
    &cmd_llm_status,     NULL,
};

/* ---- What commands call ---- */

int cli_error(struct err *err, const struct ks_error *from)
{
    return err_set(err, (enum err_code)from->code, "%s", from->message);
}

int cli_connect(struct cli *cli, struct err *err)
{
    struct ks_error e;

    if (cli->ks || ks_connect(cli->socket, CONNECT_TIMEOUT_MS, &cli->ks, &e) == 0)
        return 0;
    return cli_error(err, &e);
}

int cli_call(struct cli *cli, const char *method, const json_t *params, json_t **result,
             struct err *err)
{
    struct ks_error e;

    if (cli_connect(cli, err) != 0)
        return -1;
    return ks_call(cli->ks, method, params, result, &e) == 0 ? 0 : cli_error(err, &e);
}

int cli_call_fd(struct cli *cli, const char *method, const json_t *params, int fd, json_t **result,
                struct err *err)
{
    struct ks_error e;

    if (cli_connect(cli, err) != 0)
        return -1;
    return ks_call_fd(cli->ks, method, params, fd, result, &e) == 0 ? 0 : cli_error(err, &e);
}

int cli_call_file(struct cli *cli, const char *method, const json_t *params, const char *path,
                  json_t **result, struct err *err)
{
    struct stat st;
    CLEANUP(closep)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block */

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open '%s': %s", path,
                       strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "'%s' is no regular file", path);
    return cli_call_fd(cli, method, params, fd, result, err);
}

void cli_show(struct cli *cli, void (*print)(const json_t *), const json_t *result)
{
    cli->answered = true;
    if (cli->json)
        show_json(result, true);
    else if (print)
        print(result);
    else
        show_value(result);
}

int cli_run_call(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    json_auto_t *result = NULL;

    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    cli_show(cli, cmd->print, result);
    return 0;
}

/* ---- Finding the command ---- */

static bool is_group(const char *word)
{
    for (const struct command *const *c = cli_commands; *c; c++)
        if ((*c)->group && strcmp((*c)->group, word) == 0)
            return true;
    return false;
}

static const struct command *command_find(const char *group, const char *name)
{
    for (const struct command *const *c = cli_commands; *c; c++) {
        bool same_group = group ? (*c)->group && strcmp((*c)->group, group) == 0 : !(*c)->group;

        if (same_group && strcmp((*c)->name, name) == 0)
            return *c;
    }
    return NULL;
}

/* Do names of the group begin with this word and a blank, as "key show" does? */
static bool is_first_word(const char *group, const char *word)
{
    size_t len = strlen(word);

    for (const struct command *const *c = cli_commands; *c; c++)
        if ((*c)->group && strcmp((*c)->group, group) == 0 && str_has_prefix((*c)->name, word) &&
            (*c)->name[len] == ' ')
            return true;
    return false;
}

/* Says what is not a command; the nearest one is looked for within `group`, or among all first
 * words. */
static int command_unknown(const char *group, const char *word, struct err *err)
{
    const char *names[64];
    char seen[64], hint[100];
    size_t n = 0;

    for (const struct command *const *c = cli_commands; *c && n < ARRAY_LEN(names) - 1; c++)
        if (group == NULL)
            names[n++] = (*c)->group ? (*c)->group : (*c)->name;
        else if ((*c)->group && strcmp((*c)->group, group) == 0)
            names[n++] = (*c)->name;
    names[n] = NULL;
    str_visible(word, strlen(word), seen, sizeof(seen));
    cli_suggest(word, "", names, hint, sizeof(hint));
    return err_set(err, ERR_INVALID, "there is no command '%s%s%s'%s%s", group ? group : "",
                   group ? " " : "", seen, hint,
                   hint[0] ? "" : "; 'ksearch help' lists the commands");
}

/*
 * The command that the words name, and how many words name it. *cmd is NULL when the words are a
 * group alone, which asks for its help.
 */
static int command_lookup(char **words, int n, const struct command **cmd, int *used,
                          struct err *err)
{
    if (!is_group(words[0])) {
        *cmd = command_find(NULL, words[0]);
        *used = 1;
        return *cmd ? 0 : command_unknown(NULL, words[0], err);
    }
    *cmd = NULL;
    *used = 1;
    if (n == 1 || str_has_prefix(words[1], "-"))
        return 0;
    if (is_first_word(words[0], words[1])) {
        CLEANUP(freep) char *name = NULL;

        if (n == 2 || str_has_prefix(words[2], "-"))
            return 0;
        name = str_printf("%s %s", words[1], words[2]);
        *cmd = name ? command_find(words[0], name) : NULL;
        *used = 3;
        return *cmd ? 0 : command_unknown(words[0], name ? name : words[1], err);
    }
    *cmd = command_find(words[0], words[1]);
    *used = 2;
    return *cmd ? 0 : command_unknown(words[0], words[1], err);
}

static int help_run(char **words, int n, struct err *err)
{
    const struct command *cmd;
    int used;

    if (n == 0) {
        help_program(stdout);
        return 0;
    }
    if (command_lookup(words, n, &cmd, &used, err) != 0)
        return -1;
    if (cmd)
        help_command(stdout, cmd);
    else
        help_group(stdout, words[0]);
    return 0;
}

static int command_run(struct cli *cli, const struct command *cmd, int argc, char **argv,
                       struct err *err)
{
    CLEANUP(args_release) struct args args = { 0 };
    bool help = false;

    if (args_parse(cli, cmd, argc, argv, &args, &help, err) != 0)
        return -1;
    if (help) {
        help_command(stdout, cmd);
        return 0;
    }
    return (cmd->run ? cmd->run : cli_run_call)(cli, cmd, &args, err);
}

/* Takes the global options that stand before the command; returns how many words they are. */
static int globals_take(struct cli *cli, int argc, char **argv, bool *help, bool *version,
                        struct err *err)
{
    int i = 0;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            cli->json = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
        } else if (strcmp(argv[i], "--version") == 0) {
            *version = true;
        } else if (str_has_prefix(argv[i], "--socket=")) {
            cli->socket = argv[i] + strlen("--socket=");
        } else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
            cli->socket = argv[++i];
        } else {
            return err_set(
                err, ERR_INVALID,
                "'%.60s' is no global option, or lacks its value; before the command --socket P, "
                "--json, --help and --version are allowed",
                argv[i]);
        }
    }
    return i;
}

static int cli_main(struct cli *cli, int argc, char **argv, struct err *err)
{
    const struct command *cmd;
    bool help = false, version = false;
    int used, n = globals_take(cli, argc, argv, &help, &version, err);

    if (n < 0)
        return -1;
    argc -= n;
    argv += n;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        version = version || strcmp(argv[i], "--version") == 0;
    if (version) {
        printf("ksearch %s\n", ks_version());
        return 0;
    }
    if (argc > 0 && strcmp(argv[0], "help") == 0)
        return help_run(argv + 1, argc - 1, err);
    if (help)
        return help_run(argv, argc, err);
    if (argc == 0) {
        help_program(stderr);
        return err_set(err, ERR_INVALID, "a command is missing");
    }
    if (command_lookup(argv, argc, &cmd, &used, err) != 0)
        return -1;
    if (cmd)
        return command_run(cli, cmd, argc - used, argv + used, err);
    for (int i = 1; i < argc; i++) /* behind a group, or a group and the first word of a name */
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return help_run(argv, 1, err);
    help_group(stderr, argv[0]);
    return err_set(err, ERR_INVALID, "'%s' needs a command", argv[0]);
}

/* The sentence for the person; with --json the document for the program that called. */
static void error_print(const struct cli *cli, const struct err *err)
{
    if (cli->json && !cli->answered) {
        json_auto_t *doc =
            json_pack("{s:{s:s, s:s}}", "error", "code", err_name(err->code), "message", err->msg);

        show_json(doc, false);
    }
    fprintf(stderr, "ksearch: %s\n", err->msg);
}

int main(int argc, char **argv)
{
    struct cli cli = { 0 };
    struct err err;
    int status = 0;

    setlocale(LC_CTYPE, "");
    /* An error in the words before --json is still answered in JSON. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        cli.json = cli.json || strcmp(argv[i], "--json") == 0;
    if (cli_main(&cli, argc - 1, argv + 1, &err) != 0) {
        error_print(&cli, &err);
        status = err_exit_status(err.code);
    }
    ks_close(cli.ks);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        fprintf(stderr, "ksearch: cannot write the output: %s\n", strerror(errno));
        status = err_exit_status(ERR_IO);
    }
    return status;
}
