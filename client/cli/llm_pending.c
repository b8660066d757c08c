/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch llm pending: the requests that wait to be answered, once or as they come and go. */
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "interrupt.h"
#include "llm.h"
#include "proto/methods.h"
#include "show.h"

enum { TICK_MS = 1000 };

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

char *llm_lease_text(const json_t *request)
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
        set_owned(item, "held", llm_lease_text(item));
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
    CLEANUP(freep) char *held = llm_lease_text(r);

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
    while (!interrupt_came()) {
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
    struct sigaction old;
    int rc;

    interrupt_catch(&old);
    rc = watch_loop(&w, err);
    interrupt_release(&old);
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
