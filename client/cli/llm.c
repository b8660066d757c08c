/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch llm pending | take | answer | release | status: a person or a coding agent as the
 * language model of searches whose proposer is the queue. What may be pasted to a model goes to
 * stdout alone: byte by byte into a file or pipe; on a terminal without control characters.
 */
#include "cli.h"

#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "proto/limits.h"
#include "proto/methods.h"
#include "show.h"

enum { WHO_MAX = 63, TICK_MS = 1000 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
    (void)signo;
    interrupted = 1;
}

/* ---- pending ---- */

static const struct opt pending_opts[] = {
    { "search", OPT_TEXT, "S", "search", 0, "only requests of this search" },
    { "watch", OPT_FLAG, NULL, "watch", ROW_LOCAL, "go on with what comes and goes, until Ctrl-C" },
    { 0 }
};

static char *age_text(const json_t *request)
{
    uint64_t now = clock_system()->wall_ns(clock_system()) / NS_PER_SEC;
    uint64_t asked = (uint64_t)jsonx_int(request, "asked", 0);
    json_auto_t *age = json_integer((json_int_t)(now > asked ? now - asked : 0));

    return show_text(age, SHOW_SECONDS);
}

static char *lease_text(const json_t *request)
{
    const json_t *lease = json_object_get(request, "lease");
    CLEANUP(freep) char *who = show_text_at(lease, "who", SHOW_TEXT);

    if (!json_is_object(lease))
        return str_printf("-");
    return str_printf("%s, %.0f s", who, jsonx_num(lease, "left_s", 0));
}

static void set_owned(json_t *obj, const char *key, char *owned)
{
    json_object_set_new(obj, key, json_string(owned != NULL ? owned : "-"));
    free(owned);
}

static void pending_print(const json_t *result)
{
    static const struct column columns[] = {
        { "REQUEST", "id", SHOW_TEXT },     { "SEARCH", "search", SHOW_TEXT },
        { "TASK", "task", SHOW_TEXT },      { "KIND", "kind", SHOW_TEXT },
        { "ROLE", "role", SHOW_TEXT },      { "TRY", "attempt", SHOW_TEXT },
        { "WAITS", "age", SHOW_TEXT },      { "BYTES", "bytes", SHOW_TEXT },
        { "LEASED TO", "held", SHOW_TEXT }, { 0 }
    };
    json_auto_t *list = json_deep_copy(json_object_get(result, "requests"));
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        set_owned(item, "age", age_text(item));
        set_owned(item, "held", lease_text(item));
    }
    show_table(list, "", columns, "no request waits for an answer\n");
}

/* ---- pending --watch ---- */

struct watch {
    struct cli *cli;
    const char *search; /* NULL: all */
    json_t *seen;       /* id to request, as they were shown */
};

static json_t *watch_filter(const struct watch *w, const json_t *params)
{
    json_t *out = json_array(), *item;
    size_t i;

    json_array_foreach (json_object_get(params, "requests"), i, item) {
        if (w->search == NULL || strcmp(jsonx_str(item, "search", ""), w->search) == 0)
            json_array_append(out, item);
    }
    return out;
}

static void watch_line(const json_t *r, const char *what)
{
    CLEANUP(freep) char *id = show_text_at(r, "id", SHOW_TEXT);
    CLEANUP(freep) char *task = show_text_at(r, "task", SHOW_TEXT);
    CLEANUP(freep) char *kind = show_text_at(r, "kind", SHOW_TEXT);
    CLEANUP(freep) char *role = show_text_at(r, "role", SHOW_TEXT);

    printf("%-8s %s  %s of %s for %s, try %lld, %lld bytes\n", what, id, kind, role, task,
           jsonx_int(r, "attempt", 1), jsonx_int(r, "bytes", 0));
}

/* What became of one request since it was shown last. */
static void watch_show_one(const struct watch *w, const json_t *r)
{
    const json_t *before = json_object_get(w->seen, jsonx_str(r, "id", ""));
    const char *who = jsonx_str(json_object_get(r, "lease"), "who", "");
    const char *was = jsonx_str(json_object_get(before, "lease"), "who", "");
    CLEANUP(freep) char *id = show_text_at(r, "id", SHOW_TEXT);
    CLEANUP(freep) char *held = lease_text(r);

    if (before == NULL)
        watch_line(r, "asked");
    if (*who && strcmp(who, was) != 0)
        printf("%-8s %s  by %s\n", "taken", id, held);
    else if (!*who && *was)
        printf("%-8s %s\n", "free", id);
}

static void watch_show(struct watch *w, const json_t *params)
{
    json_t *list = watch_filter(w, params), *now = json_object(), *item;
    const char *id;
    size_t i;

    if (w->cli->json) {
        json_auto_t *doc = json_pack("{s:O}", "requests", list);

        show_json(doc, false);
    } else {
        json_array_foreach (list, i, item) {
            watch_show_one(w, item);
        }
    }
    json_array_foreach (list, i, item) {
        json_object_set(now, jsonx_str(item, "id", ""), item);
    }
    json_object_foreach (w->seen, id, item) {
        if (!w->cli->json && json_object_get(now, id) == NULL)
            watch_line(item, "gone");
    }
    json_decref(w->seen);
    w->seen = now;
    json_decref(list);
    fflush(stdout);
}

/* 0 when it was one of ours or none that matters. */
static int watch_take(struct watch *w, const char *method, const json_t *params, struct err *err)
{
    if (strcmp(method, NOTIFY_STREAM_DROPPED) == 0)
        return err_set(err, ERR_LIMIT, "the daemon ended the watch: %.200s",
                       jsonx_str(params, "reason", ""));
    if (strcmp(method, NOTIFY_LLM_PENDING) == 0)
        watch_show(w, params);
    return 0;
}

static int watch_loop(struct watch *w, struct err *err)
{
    json_auto_t *first = NULL;

    if (cli_call(w->cli, METHOD_LLM_WATCH, NULL, &first, err) != 0)
        return -1;
    w->cli->answered = true;
    watch_show(w, first);
    while (!interrupted) {
        CLEANUP(freep) char *method = NULL;
        json_auto_t *params = NULL;
        struct ks_error e;
        int got = ks_next(w->cli->ks, TICK_MS, &method, &params, &e);

        if (got < 0)
            return cli_error(err, &e);
        if (got > 0 && watch_take(w, method, params, err) != 0)
            return -1;
    }
    return 0;
}

static int watch_run(struct cli *cli, const char *search, struct err *err)
{
    struct watch w = { .cli = cli, .search = search, .seen = json_object() };
    struct sigaction act = { .sa_handler = on_interrupt },
                     old; /* no SA_RESTART: ks_next has to return */
    int rc;

    sigaction(SIGINT, &act, &old);
    rc = watch_loop(&w, err);
    sigaction(SIGINT, &old, NULL);
    json_decref(w.seen);
    if (rc == 0)
        return err_set(err, ERR_CANCELLED, "stopped watching; the requests stay open");
    return rc;
}

static int pending_run(struct cli *cli, const struct command *cmd, struct args *args,
                       struct err *err)
{
    if (jsonx_bool(args->local, "watch", 0))
        return watch_run(cli, jsonx_str(args->params, "search", NULL), err);
    return cli_run_call(cli, cmd, args, err);
}

const struct command cmd_llm_pending = {
    .group = "llm",
    .name = "pending",
    .summary = "List the requests to a language model that wait to be answered.",
    .method = METHOD_LLM_PENDING,
    .opts = pending_opts,
    .run = pending_run,
    .print = pending_print,
    .notes = "They are of searches whose proposer is 'queue'. Take one, answer it, and the search\n"
             "goes on. With --watch and --json every change prints the whole list on one line.\n",
};

/* ---- Who we are ---- */

/* The account's name, so that one person's `take` and `answer` agree without a word. */
static int who_default(json_t *params, struct err *err)
{
    const struct passwd *pw;

    if (json_object_get(params, "who") != NULL)
        return 0;
    pw = getpwuid(geteuid());
    if (pw == NULL || !str_is_name(pw->pw_name) || strlen(pw->pw_name) > WHO_MAX)
        return err_set(err, ERR_INVALID, "this account has no name to lease under: give --as NAME");
    json_object_set_new(params, "who", json_string(pw->pw_name));
    return 0;
}

/* ---- take ---- */

static const struct pos take_pos[] = {
    { "ID", "id", 0, "the request (the oldest one that nobody else holds)" }, { 0 }
};

static const struct opt take_opts[] = {
    { "search", OPT_TEXT, "S", "search", 0, "only requests of this search" },
    { "as", OPT_TEXT, "NAME", "who", 0, "who takes it (the account's name)" },
    { "lease", OPT_TEXT, "T", "lease", ROW_LOCAL,
      "how long it is held, such as 90s, 5m or 2h (15m)" },
    { 0 }
};

static void text_print(const char *text)
{
    size_t len = strlen(text);

    if (len == 0)
        return;
    if (isatty(STDOUT_FILENO))
        show_block(text);
    else
        fputs(text, stdout);
    printf("%s\n", text[len - 1] == '\n' ? "" : "\n");
}

/* What it is on stderr; on stdout the texts in the order in which a model reads them. */
static void take_print(const json_t *r)
{
    CLEANUP(freep) char *id = show_text_at(r, "id", SHOW_TEXT);
    CLEANUP(freep) char *task = show_text_at(r, "task", SHOW_TEXT);
    CLEANUP(freep) char *kind = show_text_at(r, "kind", SHOW_TEXT);
    CLEANUP(freep) char *role = show_text_at(r, "role", SHOW_TEXT);
    CLEANUP(freep) char *name = show_text_at(r, "schema_name", SHOW_TEXT);
    CLEANUP(freep) char *held = lease_text(r);
    const json_t *schema = json_object_get(r, "schema");

    fprintf(stderr, "request %s: %s of the %s for task %s, try %lld\n", id, kind, role, task,
            jsonx_int(r, "attempt", 1));
    fprintf(stderr, "leased to %s; answer with: ksearch llm answer %s FILE\n", held, id);
    if (jsonx_int(r, "max_tokens", 0) > 0)
        fprintf(stderr, "the answer may have %lld tokens\n", jsonx_int(r, "max_tokens", 0));
    text_print(jsonx_str(r, "system", ""));
    text_print(jsonx_str(r, "prefix", ""));
    text_print(jsonx_str(r, "prompt", ""));
    if (!json_is_object(schema))
        return;
    printf("Answer with one JSON document that fits this schema (%s):\n\n", name);
    show_json(schema, true);
}

static int read_lease(const struct args *args, struct err *err)
{
    const char *text = jsonx_str(args->local, "lease", NULL);
    char seen[60];
    uint64_t ns;

    if (text == NULL)
        return 0;
    if (!str_to_duration_ns(text, &ns) || ns == 0)
        return err_set(err, ERR_INVALID,
                       "--lease is '%s'; allowed are durations such as 90s, 5m "
                       "or 2h",
                       str_visible(text, strlen(text), seen, sizeof(seen)));
    json_object_set_new(args->params, "lease", json_real((double)ns / (double)NS_PER_SEC));
    return 0;
}

static int take_run(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    if (read_lease(args, err) != 0 || who_default(args->params, err) != 0)
        return -1;
    return cli_run_call(cli, cmd, args, err);
}

const struct command cmd_llm_take = {
    .group = "llm",
    .name = "take",
    .summary = "Take an open request: print its whole prompt, and keep others off it.",
    .method = METHOD_LLM_TAKE,
    .pos = take_pos,
    .opts = take_opts,
    .run = take_run,
    .print = take_print,
    .notes =
        "Several that answer at once from one account give themselves names with --as: nobody\n"
        "gets what another name holds. Taking a request again renews its lease. An answer that\n"
        "comes after the lease ran out still counts while nobody else took the request.\n",
};

/* ---- answer ---- */

static const struct pos answer_pos[] = { { "ID", "id", ROW_REQUIRED, "the request" },
                                         { "FILE", "file", ROW_REQUIRED | ROW_LOCAL,
                                           "file with the answer; - is standard input" },
                                         { 0 } };

static const struct opt answer_opts[] = {
    { "as", OPT_TEXT, "NAME", "who", 0, "who answers (the account's name)" },
    { "model", OPT_TEXT, "M", "model", 0, "model that wrote the answer, for the record" },
    { 0 }
};

static int read_answer(const char *path, struct buf *out, struct err *err)
{
    if (strcmp(path, "-") == 0 ? file_read_fd(STDIN_FILENO, out, err) != 0
                               : file_read(path, out, err) != 0)
        return err_ctx(err, "answer '%s'", path);
    return 0;
}

static int answer_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = PROTO_LLM_ANSWER_MAX };
    const char *path = jsonx_str(args->local, "file", "");
    json_t *value;

    if (who_default(args->params, err) != 0 || read_answer(path, &text, err) != 0)
        return -1;
    value = json_stringn(buf_str(&text), text.len);
    if (value == NULL)
        return err_set(err, ERR_INVALID, "answer '%s' is no UTF-8 text", path);
    json_object_set_new(args->params, "text", value);
    return cli_run_call(cli, cmd, args, err);
}

static void answer_print(const json_t *r)
{
    CLEANUP(freep) char *id = show_text_at(r, "id", SHOW_TEXT);

    printf("request %s is answered with %lld bytes\n", id, jsonx_int(r, "bytes", 0));
}

const struct command cmd_llm_answer = {
    .group = "llm",
    .name = "answer",
    .summary = "Answer an open request in place of a language model.",
    .method = METHOD_LLM_ANSWER,
    .pos = answer_pos,
    .opts = answer_opts,
    .run = answer_run,
    .print = answer_print,
    .notes = "The answer is text of at most 1 MiB. One that is refused leaves the request open.\n",
};

/* ---- release ---- */

static const struct pos release_pos[] = { { "ID", "id", ROW_REQUIRED, "the request" }, { 0 } };

static const struct opt release_opts[] = {
    { "as", OPT_TEXT, "NAME", "who", 0, "who holds it (the account's name)" }, { 0 }
};

static int release_run(struct cli *cli, const struct command *cmd, struct args *args,
                       struct err *err)
{
    if (who_default(args->params, err) != 0)
        return -1;
    return cli_run_call(cli, cmd, args, err);
}

static void release_print(const json_t *r)
{
    CLEANUP(freep) char *id = show_text_at(r, "id", SHOW_TEXT);

    printf("request %s is free again\n", id);
}

const struct command cmd_llm_release = {
    .group = "llm",
    .name = "release",
    .summary = "Give back a request that was taken.",
    .method = METHOD_LLM_RELEASE,
    .pos = release_pos,
    .opts = release_opts,
    .run = release_run,
    .print = release_print,
};

/* ---- status ---- */

const struct command cmd_llm_status = {
    .group = "llm",
    .name = "status",
    .summary = "Show how the language models are doing.",
    .method = METHOD_LLM_STATUS,
};
