/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch search watch: follows a search by its events. On a terminal a block that is redrawn in
 * place (search_view.h), elsewhere one line per measurement, with --json one document per event.
 * Ctrl-C ends the watch, never the search.
 */
#include "cli.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "interrupt.h"
#include "proto/methods.h"
#include "search_view.h"
#include "show.h"

enum { TICK_MS = 1000 };

struct watch {
    struct cli *cli;
    const char *search;
    struct view view;
    bool live, ended;
    char *reason; /* of a failure, as an event or the show said; may be NULL */
};

static bool state_is_final(const char *state)
{
    return strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 ||
           strcmp(state, "cancelled") == 0;
}

static void watch_event(struct watch *w, const json_t *event)
{
    const char *type = jsonx_str(event, "type", "");
    bool fresh;

    if (w->cli->json) {
        show_json(event, false);
        return;
    }
    fresh = view_event(&w->view, event);
    if (strcmp(type, "failed") == 0) {
        free(w->reason);
        w->reason = show_text_at(event, "reason", SHOW_TEXT);
    }
    if (w->live) {
        view_draw(&w->view, w->search);
    } else if (fresh) {
        puts(w->view.recent[0]);
        fflush(stdout);
    } else if (strcmp(type, "paused") == 0 || strcmp(type, "resumed") == 0) {
        CLEANUP(freep) char *reason = show_text_at(event, "reason", SHOW_TEXT);

        printf("%s%s%s\n", type, strcmp(reason, "-") ? ": " : "",
               strcmp(reason, "-") ? reason : "");
        fflush(stdout);
    } else if (strcmp(type, "notice") == 0) {
        CLEANUP(freep) char *text = show_text_at(event, "text", SHOW_TEXT);

        printf("note: %s\n", text);
        fflush(stdout);
    }
}

/* We read too slowly and the daemon let us go: take up the stream again. */
static int watch_dropped(struct watch *w, const json_t *params, struct err *err)
{
    struct ks_error e;

    if (!str_has_suffix(jsonx_str(params, "key", ""), w->search))
        return 0;
    fprintf(stderr, "ksearch: this watch fell behind and some events were left out\n");
    return ks_subscribe(w->cli->ks, w->search, NULL, &e) == 0 ? 0 : cli_error(err, &e);
}

static int watch_take(struct watch *w, const char *method, const json_t *params, struct err *err)
{
    if (strcmp(method, NOTIFY_STREAM_DROPPED) == 0)
        return watch_dropped(w, params, err);
    if (strcmp(jsonx_str(params, "search", ""), w->search) != 0)
        return 0;
    if (strcmp(method, NOTIFY_SEARCH_EVENT) == 0) {
        watch_event(w, json_object_get(params, "event"));
    } else if (strcmp(method, NOTIFY_SEARCH_END) == 0) {
        view_state(&w->view, show_text_at(params, "state", SHOW_TEXT));
        w->ended = true;
        if (w->cli->json)
            show_json(params, false);
    }
    return 0;
}

static int watch_loop(struct watch *w, struct err *err)
{
    while (!w->ended && !interrupt_came()) {
        CLEANUP(freep) char *method = NULL;
        json_auto_t *params = NULL;
        struct ks_error e;
        int got = ks_next(w->cli->ks, TICK_MS, &method, &params, &e);

        if (got < 0)
            return cli_error(err, &e);
        if (got > 0 && watch_take(w, method, params, err) != 0)
            return -1;
        if (got == 0 && w->live && !interrupt_came())
            view_draw(&w->view, w->search);
    }
    return 0;
}

/* How much of the best was adopted from memory, and how much this search added. */
static void gain_print(const json_t *gain)
{
    CLEANUP(freep) char *adopted = show_text_at(gain, "adopted", SHOW_FACTOR);
    CLEANUP(freep) char *added = show_text_at(gain, "added", SHOW_FACTOR);

    if (jsonx_int(gain, "adoptions", 0) > 0)
        printf("of that %s was adopted from memory, %s added by this search\n", adopted, added);
}

/* The last word: what was found, and where to go on. */
static void summary_print(const struct watch *w, const json_t *show)
{
    const json_t *best = json_object_get(show, "best");
    CLEANUP(freep) char *objective = show_text_at(best, "objective", SHOW_FACTOR);
    CLEANUP(freep) char *low = show_text_at(best, "ci_low", SHOW_FACTOR);
    CLEANUP(freep) char *high = show_text_at(best, "ci_high", SHOW_FACTOR);
    CLEANUP(freep) char *assignment = show_text_at(best, "assignment", SHOW_TEXT);
    CLEANUP(freep) char *program = show_text_at(best, "program", SHOW_SHORT);
    CLEANUP(freep) char *time = show_text_at(show, "spent.time", SHOW_SECONDS);
    CLEANUP(freep) char *holdout = view_holdout_last(show);

    printf("\nsearch %s is %s: %zu evaluation%s, %zu failed, %s\n", w->search, w->view.state,
           w->view.n, w->view.n == 1 ? "" : "s", view_failed(&w->view), time);
    if (json_is_number(json_object_get(best, "objective"))) {
        printf("best %s the baseline's speed [%s, %s]\n  %s\n", objective, low, high, assignment);
        gain_print(json_object_get(show, "gain"));
        if (holdout)
            printf("%s\n", holdout);
        printf("go on with:\n  ksearch program export %s --to DIR\n", program);
    } else {
        printf("nothing passed; what failed and why:\n");
    }
    printf("  ksearch search show %s\n  ksearch search tree %s\n", w->search, w->search);
}

static int watch_finish(struct watch *w, struct err *err)
{
    json_auto_t *show = NULL, *params = json_pack("{s:s}", "search", w->search);

    if (interrupt_came()) {
        fprintf(stderr,
                "\nthe watch ended; search %s goes on. See it again with: ksearch search watch %s\n"
                "end it with: ksearch search cancel %s\n",
                w->search, w->search, w->search);
        return err_set(err, ERR_CANCELLED, "the watch was ended by the user");
    }
    if (cli_call(w->cli, METHOD_SEARCH_SHOW, params, &show, err) != 0)
        return -1;
    if (!w->cli->json) {
        view_release(&w->view);
        w->view = (struct view){ 0 };
        view_load(&w->view, show);
        summary_print(w, show);
        fflush(stdout);
    }
    w->cli->answered = true;
    if (strcmp(jsonx_str(show, "state", ""), "failed") == 0)
        return err_set(err, ERR_FAILED, "search %s failed: %s", w->search,
                       w->reason ? w->reason : jsonx_str(show, "reason", "no reason is given"));
    if (strcmp(jsonx_str(show, "state", ""), "cancelled") == 0)
        return err_set(err, ERR_CANCELLED, "search %s was cancelled", w->search);
    return 0;
}

/* Subscribes first and looks second, so that nothing falls between the two. */
static int watch_begin(struct watch *w, struct err *err)
{
    json_auto_t *reply = NULL, *show = NULL, *params = json_pack("{s:s}", "search", w->search);
    struct ks_error e;

    if (params == NULL)
        return err_set(err, ERR_INVALID, "the id of the search is not UTF-8 text");
    if (cli_connect(w->cli, err) != 0)
        return -1;
    if (ks_subscribe(w->cli->ks, w->search, &reply, &e) != 0)
        return cli_error(err, &e);
    if (cli_call(w->cli, METHOD_SEARCH_SHOW, params, &show, err) != 0)
        return -1;
    view_load(&w->view, show);
    w->ended = state_is_final(jsonx_str(reply, "state", ""));
    if (w->ended && w->cli->json)
        show_json(reply, false);
    return 0;
}

int watch_search(struct cli *cli, const char *search, struct err *err)
{
    struct watch w = { .cli = cli, .search = search, .live = !cli->json && term_is_live() };
    struct sigaction old;
    int status;

    interrupt_catch(&old);
    status = watch_begin(&w, err);
    if (status == 0 && w.live && !w.ended)
        view_draw(&w.view, search);
    if (status == 0)
        status = watch_loop(&w, err);
    interrupt_release(&old);
    if (status == 0)
        status = watch_finish(&w, err);
    view_release(&w.view);
    free(w.reason);
    return status;
}
