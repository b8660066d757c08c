/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch llm take | answer | release | status: a person or a coding agent as the language model
 * of searches whose proposer is the queue. What may be pasted to a model goes to stdout alone: byte
 * by byte into a file or pipe; on a terminal without control characters.
 */
#include "llm.h"

#include <pwd.h>
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

enum { WHO_MAX = 63 };

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
    { "schema", OPT_FLAG, NULL, "schema", ROW_LOCAL,
      "print the JSON schema of the answer apart, also when the prompt has it" },
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

/* Does the prompt tell the schema of its answer? */
static bool tells_schema(const json_t *r)
{
    char *text = json_dumps(json_object_get(r, "schema"), JSON_COMPACT);
    bool tells = text != NULL && strstr(jsonx_str(r, "prompt", ""), text) != NULL;

    free(text);
    return tells;
}

/* What it is on stderr; on stdout the texts in the order in which a model reads them. */
static void print_request(const json_t *r, bool with_schema)
{
    CLEANUP(freep) char *id = show_text_at(r, "id", SHOW_TEXT);
    CLEANUP(freep) char *task = show_text_at(r, "task", SHOW_TEXT);
    CLEANUP(freep) char *kind = show_text_at(r, "kind", SHOW_TEXT);
    CLEANUP(freep) char *role = show_text_at(r, "role", SHOW_TEXT);
    CLEANUP(freep) char *name = show_text_at(r, "schema_name", SHOW_TEXT);
    CLEANUP(freep) char *held = llm_lease_text(r);
    const json_t *schema = json_object_get(r, "schema");

    fprintf(stderr, "request %s: %s of the %s for task %s, try %lld\n", id, kind, role, task,
            jsonx_int(r, "attempt", 1));
    fprintf(stderr, "leased to %s; answer with: ksearch llm answer %s FILE\n", held, id);
    if (jsonx_int(r, "max_tokens", 0) > 0)
        fprintf(stderr, "the answer may have %lld tokens\n", jsonx_int(r, "max_tokens", 0));
    text_print(jsonx_str(r, "system", ""));
    text_print(jsonx_str(r, "prefix", ""));
    text_print(jsonx_str(r, "prompt", ""));
    if (!json_is_object(schema) || (!with_schema && tells_schema(r)))
        return;
    printf("Answer with one JSON document that fits this schema (%s):\n\n", name);
    show_json(schema, true);
}

static void take_print(const json_t *r)
{
    print_request(r, false);
}

static void take_print_with_schema(const json_t *r)
{
    print_request(r, true);
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
    json_auto_t *result = NULL;

    if (read_lease(args, err) != 0 || who_default(args->params, err) != 0 ||
        cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    cli_show(cli, jsonx_bool(args->local, "schema", 0) ? take_print_with_schema : cmd->print,
             result);
    return 0;
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
