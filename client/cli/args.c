/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, read by the rows of a command; see cli.h. */
#include "cli.h"

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/str.h"

const struct opt cli_global_opts[] = {
    { "socket", OPT_TEXT, "P", "socket", ROW_LOCAL,
      "the daemon's socket (else $KSEARCH_SOCKET, else the default)" },
    { "json", OPT_FLAG, NULL, "json", ROW_LOCAL, "print the result as JSON and nothing else" },
    { "help", OPT_FLAG, NULL, "help", ROW_LOCAL, "print this help" },
    { "version", OPT_FLAG, NULL, "version", ROW_LOCAL, "print the version" },
    { 0 }
};

/* ---- Suggestions ---- */

enum { WORD_MAX = 40 };

/* Edits (insert, delete, replace) from a to b; words past WORD_MAX are far from everything. */
static size_t word_distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], la = strlen(a), lb = strlen(b);

    if (la > WORD_MAX || lb > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t replaced = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = MIN(MIN(row[j], row[j - 1]) + 1, replaced);
        }
    }
    return row[lb];
}

char *cli_suggest(const char *given, const char *dashes, const char *const *names, char *out,
                  size_t size)
{
    const char *best = NULL;
    size_t best_distance = strlen(given) < 4 ? 2 : 3;

    for (; *names; names++) {
        size_t d = word_distance(given, *names);

        if (d < best_distance) {
            best = *names;
            best_distance = d;
        }
    }
    if (best)
        snprintf(out, size, "; did you mean '%s%s'?", dashes, best);
    else
        out[0] = '\0';
    return out;
}

/* ---- Values ---- */

/* A NAME=VALUE of an option that takes several. */
struct pair {
    const char *name;
    enum { PAIR_COUNT, PAIR_TIME, PAIR_NUMBER, PAIR_ABOVE_0 } type;
    const char *help;
};

/* 0 is a bound too: nothing may be spent. */
static const struct pair budget_pairs[] = {
    { "evals", PAIR_COUNT, "measured assignments" },
    { "tokens", PAIR_COUNT, "tokens of a language model, in and out" },
    { "usd", PAIR_NUMBER, "money for a language model, US dollars" },
    { "time", PAIR_TIME, "wall time: seconds, or with s, m, h" },
    { "device", PAIR_TIME, "building, checking and timing: seconds, or with s, m, h" },
    { 0 }
};

static const struct pair stop_pairs[] = {
    { "roofline", PAIR_ABOVE_0, "the best reaches this share of the roofline, up to 1" },
    { "gain", PAIR_ABOVE_0, "no more than this natural log is expected of going on" },
    { 0 }
};

static const struct pair *pairs_of(enum opt_type type)
{
    return type == OPT_BUDGET ? budget_pairs : type == OPT_STOP ? stop_pairs : NULL;
}

bool args_pairs_help(FILE *f, enum opt_type type)
{
    const struct pair *p = pairs_of(type);

    for (; p && p->name; p++)
        fprintf(f, "  %-22s %s\n", p->name, p->help);
    return p != NULL;
}

static const char *pair_allowed(const struct pair *p)
{
    switch (p->type) {
    case PAIR_COUNT:
        return "a whole number is allowed";
    case PAIR_TIME:
        return "a time is allowed, such as 90, 90s, 5m or 2h";
    case PAIR_NUMBER:
        return "a number from 0 is allowed";
    case PAIR_ABOVE_0:
        return "a number above 0 is allowed";
    }
    return "";
}

static json_t *pair_value(const char *option, const struct pair *p, const char *text,
                          struct err *err)
{
    uint64_t n;
    double d;

    if (p->type == PAIR_COUNT && str_to_u64(text, &n) && n <= INT64_MAX)
        return json_integer((json_int_t)n);
    if (p->type == PAIR_TIME && str_to_duration_ns(text, &n))
        return json_real((double)n / (double)NS_PER_SEC);
    if ((p->type == PAIR_NUMBER || p->type == PAIR_ABOVE_0) && str_to_double(text, &d) &&
        (d > 0 || (d == 0 && p->type == PAIR_NUMBER)))
        return json_real(d);
    err_set(err, ERR_INVALID, "--%s %s is '%.60s'; %s", option, p->name, text, pair_allowed(p));
    return NULL;
}

/* Every NAME=LETTER of an option, as a sentence lists them. */
static void pairs_text(const struct pair *rows, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (const struct pair *p = rows; p->name && len < size; p++) {
        const char *between = p == rows ? "" : p[1].name ? ", " : " and ";

        len += (size_t)snprintf(out + len, size - len, "%s%s=%s", between, p->name,
                                p->type == PAIR_COUNT  ? "N"
                                : p->type == PAIR_TIME ? "T"
                                                       : "X");
    }
}

static int pair_add(const struct opt *o, json_t *into, const char *item, struct err *err)
{
    const char *eq = strchr(item, '=');
    const struct pair *rows = pairs_of(o->type);
    char allowed[120];
    json_t *v;

    for (const struct pair *p = rows; eq && p->name; p++) {
        if (strlen(p->name) != (size_t)(eq - item) || strncmp(p->name, item, strlen(p->name)) != 0)
            continue;
        if (json_object_get(into, p->name))
            return err_set(err, ERR_INVALID, "--%s names %s twice", o->name, p->name);
        v = pair_value(o->name, p, eq + 1, err);
        if (v == NULL)
            return -1;
        json_object_set_new(into, p->name, v);
        return 0;
    }
    pairs_text(rows, allowed, sizeof(allowed));
    return err_set(err, ERR_INVALID, "--%s has '%.60s'; %s are allowed, joined by commas", o->name,
                   item, allowed);
}

static json_t *pairs_parse(const struct opt *o, const char *text, struct err *err)
{
    CLEANUP(freep) char *copy = xstrdup(text);
    json_t *v = json_object();

    for (char *item = copy, *comma; item; item = comma ? comma + 1 : NULL) {
        comma = strchr(item, ',');
        if (comma)
            *comma = '\0';
        if (pair_add(o, v, item, err) != 0) {
            json_decref(v);
            return NULL;
        }
    }
    return v;
}

/* The JSON that an option's text stands for; NULL with `*err`. */
static json_t *opt_value(const struct opt *o, const char *text, struct err *err)
{
    json_t *v = NULL;
    uint64_t n;

    switch (o->type) {
    case OPT_FLAG:
        return json_true();
    case OPT_TEXT:
        v = *text ? json_string(text) : NULL;
        if (v == NULL)
            err_set(err, ERR_INVALID, "--%s is empty or not UTF-8 text", o->name);
        return v;
    case OPT_UINT:
        if (str_to_u64(text, &n) && n <= INT64_MAX)
            return json_integer((json_int_t)n);
        err_set(err, ERR_INVALID, "--%s is '%.60s'; a whole number from 0 to %lld is allowed",
                o->name, text, (long long)INT64_MAX);
        return NULL;
    case OPT_JSON:
        if (jsonx_parse(text, strlen(text), o->name, &v, err) != 0)
            return NULL;
        if (json_is_object(v))
            return v;
        json_decref(v);
        err_set(err, ERR_INVALID, "--%s must be a JSON object, such as '{\"TILE\": 16}'", o->name);
        return NULL;
    case OPT_BUDGET:
    case OPT_STOP:
        return pairs_parse(o, text, err);
    case OPT_TYPE_COUNT:
        break;
    }
    err_set(err, ERR_INTERNAL, "--%s has no type", o->name);
    return NULL;
}

/* ---- Walking the command line ---- */

struct walk {
    struct cli *cli;
    const struct command *cmd;
    struct args *args;
    const struct pos *next_pos; /* the positional that comes next */
    bool *help;
};

static const struct opt *opt_find(const struct opt *rows, const char *name, size_t len)
{
    for (; rows && rows->name; rows++)
        if (strlen(rows->name) == len && memcmp(rows->name, name, len) == 0)
            return rows;
    return NULL;
}

static int opt_unknown(const struct command *cmd, const char *name, size_t len, struct err *err)
{
    const char *names[64];
    char given[64], hint[100];
    size_t n = 0;

    for (const struct opt *o = cmd->opts; o && o->name && n < 50; o++)
        names[n++] = o->name;
    for (const struct opt *o = cli_global_opts; o->name && n < 63; o++)
        names[n++] = o->name;
    names[n] = NULL;
    str_visible(name, MIN(len, 40), given, sizeof(given));
    return err_set(err, ERR_INVALID, "'%s%s%s' has no option --%s%s", cmd->group ? cmd->group : "",
                   cmd->group ? " " : "", cmd->name, given,
                   cli_suggest(given, "--", names, hint, sizeof(hint)));
}

static void global_apply(struct walk *w, const struct opt *o, const char *value)
{
    if (strcmp(o->name, "socket") == 0)
        w->cli->socket = value;
    else if (strcmp(o->name, "json") == 0)
        w->cli->json = true;
    else
        *w->help = true; /* --version never gets here: main answers it first */
}

/* Takes one --option at argv[*i], and its value, which may be the next word. */
static int opt_take(struct walk *w, int argc, char **argv, int *i, struct err *err)
{
    const char *name = argv[*i] + 2, *eq = strchr(name, '='), *value = NULL;
    size_t len = eq ? (size_t)(eq - name) : strlen(name);
    const struct opt *o = opt_find(w->cmd->opts, name, len);
    bool global = o == NULL;
    json_t *into, *v;

    if (global)
        o = opt_find(cli_global_opts, name, len);
    if (o == NULL)
        return opt_unknown(w->cmd, name, len, err);
    if (o->type == OPT_FLAG && eq)
        return err_set(err, ERR_INVALID, "--%s takes no value", o->name);
    if (o->type != OPT_FLAG) {
        value = eq ? eq + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (value == NULL)
            return err_set(err, ERR_INVALID, "--%s needs a value: --%s %s", o->name, o->name,
                           o->metavar);
    }
    v = opt_value(o, value, err);
    if (v == NULL)
        return -1;
    if (global) {
        json_decref(v);
        global_apply(w, o, value);
        return 0;
    }
    into = o->flags & ROW_LOCAL ? w->args->local : w->args->params;
    if (o->flags & ROW_MANY) {
        if (json_object_get(into, o->param) == NULL)
            json_object_set_new(into, o->param, json_array());
        json_array_append_new(json_object_get(into, o->param), v);
        return 0;
    }
    if (json_object_get(into, o->param)) {
        json_decref(v);
        return err_set(err, ERR_INVALID, "--%s is given twice", o->name);
    }
    json_object_set_new(into, o->param, v);
    return 0;
}

/* Adds a word to a text that holds the words so far. */
static json_t *words_join(const json_t *so_far, const char *word)
{
    return so_far ? json_sprintf("%s %s", json_string_value(so_far), word) : json_string(word);
}

static int pos_take(struct walk *w, const char *word, struct err *err)
{
    const struct pos *p = w->next_pos;
    json_t *into, *have, *v;
    char seen[80];

    str_visible(word, strlen(word), seen, sizeof(seen));
    if (p == NULL || p->metavar == NULL)
        return err_set(err, ERR_INVALID, "'%s' is one argument too many for '%s%s%s'", seen,
                       w->cmd->group ? w->cmd->group : "", w->cmd->group ? " " : "", w->cmd->name);
    into = p->flags & ROW_LOCAL ? w->args->local : w->args->params;
    have = json_object_get(into, p->param);
    v = p->flags & ROW_WORDS ? words_join(have, word) : json_string(word);
    if (v == NULL || *word == '\0') {
        json_decref(v);
        return err_set(err, ERR_INVALID, "%s is '%s'; UTF-8 text that is not empty is allowed",
                       p->metavar, seen);
    }
    if (p->flags & ROW_MANY) {
        if (have == NULL)
            json_object_set_new(into, p->param, have = json_array());
        json_array_append_new(have, v);
    } else {
        json_object_set_new(into, p->param, v);
    }
    if (!(p->flags & (ROW_MANY | ROW_WORDS)))
        w->next_pos++;
    return 0;
}

static int required_check(const struct command *cmd, const struct args *args, struct err *err)
{
    for (const struct pos *p = cmd->pos; p && p->metavar; p++)
        if ((p->flags & ROW_REQUIRED) &&
            !json_object_get(p->flags & ROW_LOCAL ? args->local : args->params, p->param))
            return err_set(err, ERR_INVALID, "'%s%s%s' needs %s: %s", cmd->group ? cmd->group : "",
                           cmd->group ? " " : "", cmd->name, p->metavar, p->help);
    for (const struct opt *o = cmd->opts; o && o->name; o++)
        if ((o->flags & ROW_REQUIRED) &&
            !json_object_get(o->flags & ROW_LOCAL ? args->local : args->params, o->param))
            return err_set(err, ERR_INVALID, "'%s%s%s' needs --%s %s: %s",
                           cmd->group ? cmd->group : "", cmd->group ? " " : "", cmd->name, o->name,
                           o->metavar, o->help);
    return 0;
}

int args_parse(struct cli *cli, const struct command *cmd, int argc, char **argv, struct args *out,
               bool *help, struct err *err)
{
    struct walk w = { .cli = cli, .cmd = cmd, .args = out, .next_pos = cmd->pos, .help = help };
    bool options = true;

    out->params = json_object();
    out->local = json_object();
    for (int i = 0; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && strcmp(argv[i], "-h") == 0) {
            *help = true;
        } else if (options && str_has_prefix(argv[i], "--")) {
            if (opt_take(&w, argc, argv, &i, err) != 0)
                return -1;
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            return err_set(err, ERR_INVALID, "'%.40s' is no option: options have two dashes",
                           argv[i]);
        } else if (pos_take(&w, argv[i], err) != 0) {
            return -1;
        }
    }
    return *help ? 0 : required_check(cmd, out, err);
}

void args_release(struct args *args)
{
    json_decref(args->params);
    json_decref(args->local);
    *args = (struct args){ 0 };
}
