/* SPDX-License-Identifier: Apache-2.0 */
/* Help, printed from the rows; see cli.h. */
#include "cli.h"

enum { USAGE_COLS = 88, TEXT_COLS = 96, TEXT_INDENT = 25 };

/* Adds a piece to the usage, on a new line where it would not fit. */
static void usage_add(FILE *f, size_t *at, const char *piece)
{
    if (*at + 1 + strlen(piece) > USAGE_COLS) {
        fprintf(f, "\n           ");
        *at = 11;
    }
    fprintf(f, " %s", piece);
    *at += 1 + strlen(piece);
}

/* "usage: ksearch search start T [--device D] ..." */
static void command_usage(FILE *f, const struct command *cmd)
{
    size_t at = (size_t)fprintf(f, "usage: ksearch");
    char piece[80];

    if (cmd->group)
        usage_add(f, &at, cmd->group);
    usage_add(f, &at, cmd->name);
    for (const struct pos *p = cmd->pos; p && p->metavar; p++) {
        snprintf(piece, sizeof(piece), p->flags & ROW_REQUIRED ? "%s%s" : "[%s%s]", p->metavar,
                 p->flags & (ROW_MANY | ROW_WORDS) ? "..." : "");
        usage_add(f, &at, piece);
    }
    for (const struct opt *o = cmd->opts; o && o->name; o++) {
        snprintf(piece, sizeof(piece), o->flags & ROW_REQUIRED ? "--%s%s%s" : "[--%s%s%s]", o->name,
                 o->metavar ? " " : "", o->metavar ? o->metavar : "");
        usage_add(f, &at, piece);
    }
}

/* What an argument or option is called, then what it is, wrapped beside that. */
static void text_line(FILE *f, const char *left, const char *text, const char *more)
{
    size_t at = (size_t)fprintf(f, "  %-22s", left);

    for (const char *s = text; *s != '\0'; s += strspn(s, " ")) {
        size_t len = strcspn(s, " ");

        if (at + 1 + len > TEXT_COLS && at > TEXT_INDENT) {
            fprintf(f, "\n%*s", TEXT_INDENT - 1, "");
            at = TEXT_INDENT - 1;
        }
        fprintf(f, " %.*s", (int)len, s);
        at += 1 + len;
        s += len;
    }
    fprintf(f, "%s\n", more);
}

static void opt_line(FILE *f, const struct opt *o)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s%s%s", o->name, o->metavar ? " " : "",
             o->metavar ? o->metavar : "");
    text_line(f, left, o->help, o->flags & ROW_REQUIRED ? " (required)" : "");
}

static void command_line(FILE *f, const struct command *cmd)
{
    char left[64];

    snprintf(left, sizeof(left), "%s%s%s", cmd->group ? cmd->group : "", cmd->group ? " " : "",
             cmd->name);
    fprintf(f, "  %-18s %s\n", left, cmd->summary);
}

void help_command(FILE *f, const struct command *cmd)
{
    command_usage(f, cmd);
    fprintf(f, "\n\n%s\n", cmd->summary);
    if (cmd->pos && cmd->pos->metavar)
        fprintf(f, "\narguments:\n");
    for (const struct pos *p = cmd->pos; p && p->metavar; p++)
        text_line(f, p->metavar, p->help, "");
    if (cmd->opts && cmd->opts->name)
        fprintf(f, "\noptions:\n");
    for (const struct opt *o = cmd->opts; o && o->name; o++)
        opt_line(f, o);
    for (const struct opt *o = cmd->opts; o && o->name; o++) {
        if (o->type != OPT_BUDGET && o->type != OPT_STOP)
            continue;
        fprintf(f, "\n--%s takes NAME=VALUE, joined by commas:\n", o->name);
        args_pairs_help(f, o->type);
    }
    fprintf(f, "\nglobal options:\n");
    for (const struct opt *o = cli_global_opts; o->name; o++)
        opt_line(f, o);
    if (cmd->notes)
        fprintf(f, "\n%s", cmd->notes);
}

bool help_group(FILE *f, const char *group)
{
    bool any = false;

    for (const struct command *const *c = cli_commands; *c; c++) {
        if ((*c)->group == NULL || strcmp((*c)->group, group) != 0)
            continue;
        if (!any)
            fprintf(f, "usage: ksearch %s COMMAND ...\n\n", group);
        any = true;
        command_line(f, *c);
    }
    if (any)
        fprintf(f, "\nMore on one of them: ksearch help %s COMMAND\n", group);
    return any;
}

void help_program(FILE *f)
{
    fprintf(f,
            "usage: ksearch [--socket P] [--json] COMMAND ...\n\n"
            "Talks to ksearchd, which searches for fast kernels and remembers what was learned.\n\n"
            "commands:\n");
    for (const struct command *const *c = cli_commands; *c; c++)
        command_line(f, *c);
    fprintf(f, "  %-18s %s\n", "help [COMMAND]", "print help on a command");
    fprintf(f, "\nglobal options:\n");
    for (const struct opt *o = cli_global_opts; o->name; o++)
        opt_line(f, o);
    fprintf(f, "\nexit status: 0 ok, 2 bad request, 3 not found, 4 conflict, 5 over a limit, 6 "
               "storage or\n"
               "socket failed or no daemon, 7 upstream failed, 8 cancelled, 9 evaluation or search "
               "failed,\n"
               "10 refused for safety\n");
}
