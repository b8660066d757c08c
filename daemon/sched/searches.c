/* SPDX-License-Identifier: Apache-2.0 */
/* All searches of the daemon; see searches.h. */
#include "sched/searches.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "log.h"
#include "loop.h"
#include "sched/runner.h"

static struct runner *find_runner(const struct searches *ss, const char *id)
{
    for (struct list *n = ss->live.next; n != &ss->live; n = n->next) {
        struct runner *r = LIST_OF(n, struct runner, node);

        if (strcmp(r->search->spec.id, id) == 0)
            return r;
    }
    return NULL;
}

/* ---- Starting ---- */

struct start {
    struct list node; /* in searches->starting */
    struct work work;
    struct searches *owner;
    struct search_spec spec;
    struct search_scope scope;
    json_t *program;
    struct search *search;
    bool too_late; /* asked for by what ended while the daemon was stopping: nothing is stored */
    searches_done_fn *done;
    void *arg;
};

static int start_run(struct work *w, struct err *err)
{
    struct start *st = LIST_OF(w, struct start, work);
    struct kb *kb = st->owner->daemon->kb;
    struct kb_batch *b = kb_batch_new(kb);
    const struct clock *c = st->owner->daemon->clock;
    json_t *doc = search_document(&st->spec, &st->scope, c->wall_ns(c) / NS_PER_SEC);
    int rc = -1;

    if (st->too_late)
        err_set(err, ERR_CANCELLED, "the daemon is stopping");
    else if (b == NULL || doc == NULL)
        err_set(err, ERR_NOMEM, "no memory to start a search");
    else if ((st->program == NULL ||
              kb_batch_put_doc(b, KB_PROGRAM, st->scope.program.hex, st->program, err) == 0) &&
             kb_batch_put_doc(b, KB_SEARCH, st->spec.id, doc, err) == 0 && kb_commit(b, err) == 0)
        rc = search_new(kb, doc, false, &st->search, err);
    kb_batch_free(b);
    json_decref(doc);
    return rc;
}

static void start_done(struct work *w, const struct err *err)
{
    struct start *st = LIST_OF(w, struct start, work);
    struct runner *r = NULL;

    list_remove(&st->node);
    if (err == NULL && !st->owner->closing) {
        r = runner_new(st->owner, TAKE(st->search));
        log_info("search %s: %s on %s, %s, seed %llu, %llu evaluations", st->spec.id, st->spec.task,
                 st->spec.device, st->spec.cold ? "cold" : "warm",
                 (unsigned long long)st->spec.seed, (unsigned long long)st->spec.budget_evals);
        st->done(st->arg, st->spec.id, NULL);
    } else {
        struct err stopping = { .code = ERR_CANCELLED, .msg = "the daemon is stopping" };

        st->done(st->arg, st->spec.id, err ? err : &stopping);
    }
    search_free(st->search);
    search_spec_release(&st->spec);
    search_scope_release(&st->scope);
    json_decref(st->program);
    free(st);
    if (r != NULL) /* last: a worker has the search then, which shares what is released above */
        runner_wake(r);
}

/* A program is addressed by its source and build settings alone. */
void searches_start(struct searches *ss, struct search_spec *spec, struct search_scope *scope,
                    const char *template_source, json_t *space, searches_done_fn *done, void *arg)
{
    struct start *st = xcalloc(1, sizeof(*st));

    st->owner = ss;
    st->too_late = ss->closing;
    st->done = done;
    st->arg = arg;
    list_append(&ss->starting, &st->node);
    if (template_source != NULL)
        st->program = program_document(scope, template_source, space);
    st->spec = *spec;
    st->scope = *scope;
    memset(spec, 0, sizeof(*spec));
    memset(scope, 0, sizeof(*scope));
    st->work.run = start_run;
    st->work.done = start_done;
    work_submit(ss->daemon->work, &st->work);
}

/* ---- Requests ---- */

/* Requests on searches that are over need an answer from the base: off the loop. */
struct late {
    struct work work;
    struct searches *owner;
    char id[SEARCH_ID_MAX];
    searches_done_fn *done;
    void *arg;
};

static int late_run(struct work *w, struct err *err)
{
    struct late *l = LIST_OF(w, struct late, work);
    json_t *doc;

    if (kb_get_doc(l->owner->daemon->kb, KB_SEARCH, l->id, &doc, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            err_set(err, ERR_NOT_FOUND, "there is no search '%s'; 'search list' shows them", l->id);
        return -1;
    }
    err_set(err, ERR_CONFLICT, "search '%s' is %s already", l->id, jsonx_str(doc, "state", "over"));
    json_decref(doc);
    return -1;
}

static void late_done(struct work *w, const struct err *err)
{
    struct late *l = LIST_OF(w, struct late, work);

    l->done(l->arg, l->id, err);
    free(l);
}

void searches_request(struct searches *ss, const char *id, enum searches_control what,
                      searches_done_fn *done, void *arg)
{
    struct runner *r = find_runner(ss, id);
    struct err err;

    if (r == NULL) {
        struct late *l = xcalloc(1, sizeof(*l));

        l->owner = ss;
        str_copy(l->id, sizeof(l->id), id);
        l->done = done;
        l->arg = arg;
        l->work.run = late_run;
        l->work.done = late_done;
        work_submit(ss->daemon->work, &l->work);
        return;
    }
    if (runner_request(r, what, done, arg, &err) != 0)
        done(arg, id, &err);
}

/*
 * The live search of this id, for reading, and why it does not get on; NULL for none. Its own lock
 * may be held as long as a step takes, so it is waited for without the lock of the list, which the
 * loop takes.
 */
static struct search *take_live(struct searches *ss, const char *id, char held_up[HELD_UP_MAX])
{
    struct search *s = NULL;
    struct runner *r;

    pthread_mutex_lock(&ss->lock);
    r = find_runner(ss, id);
    if (r != NULL) {
        s = r->search;
        s->readers++;
        str_copy(held_up, HELD_UP_MAX, r->held_up);
    }
    pthread_mutex_unlock(&ss->lock);
    return s;
}

static void give_back(struct searches *ss, struct search *s)
{
    bool last;

    pthread_mutex_lock(&ss->lock);
    last = --s->readers == 0 && s->dropped;
    pthread_mutex_unlock(&ss->lock);
    if (last)
        search_free(s);
}

void searches_drop(struct searches *ss, struct search *s)
{
    bool unread;

    if (s == NULL)
        return;
    pthread_mutex_lock(&ss->lock);
    s->dropped = true;
    unread = s->readers == 0;
    pthread_mutex_unlock(&ss->lock);
    if (unread)
        search_free(s);
}

int searches_with(struct searches *ss, const char *id,
                  int (*fn)(void *ctx, const struct search *s, const char *held_up,
                            struct err *err),
                  void *ctx, struct err *err)
{
    char held_up[HELD_UP_MAX];
    struct search *s, *stored;
    int rc;

    s = take_live(ss, id, held_up);
    if (s != NULL) {
        pthread_mutex_lock(&s->lock);
        rc = fn(ctx, s, held_up, err);
        pthread_mutex_unlock(&s->lock);
        give_back(ss, s);
        return rc;
    }
    if (search_load(ss->daemon->kb, id, true, &stored, err) != 0)
        return -1;
    rc = fn(ctx, stored, "", err);
    search_free(stored);
    return rc;
}

enum search_state searches_live_state(const struct searches *ss, const char *id)
{
    const struct runner *r = find_runner(ss, id);

    return r ? r->state : SEARCH_STATE_COUNT;
}

bool searches_live_family(const struct searches *ss, const char *family)
{
    for (const struct list *n = ss->live.next; n != &ss->live; n = n->next)
        if (strcmp(LIST_OF(n, const struct runner, node)->search->scope.family, family) == 0)
            return true;
    for (const struct list *n = ss->starting.next; n != &ss->starting; n = n->next)
        if (strcmp(LIST_OF(n, const struct start, node)->scope.family, family) == 0)
            return true;
    return false;
}

json_t *searches_status(const struct searches *ss)
{
    json_int_t counts[SEARCH_STATE_COUNT] = { 0 };
    json_t *status = json_object();

    for (struct list *n = ss->live.next; n != &ss->live; n = n->next)
        counts[LIST_OF(n, struct runner, node)->state]++;
    for (int i = 0; i < SEARCH_STATE_COUNT; i++)
        if (counts[i])
            json_object_set_new(status, search_state_name((enum search_state)i),
                                json_integer(counts[i]));
    return status;
}

uint64_t searches_ended(const struct searches *ss)
{
    return ss->ended;
}

bool searches_idle(const struct searches *ss)
{
    return list_empty(&ss->live) && list_empty(&ss->starting);
}

/* ---- Opening and closing ---- */

struct unfinished {
    size_t n;
    char (*ids)[SEARCH_ID_MAX];
};

static int list_unfinished(void *ctx, const char *key, const json_t *doc)
{
    struct unfinished *u = ctx;
    enum search_state state = search_state_from_name(jsonx_str(doc, "state", ""));

    if (state == SEARCH_STATE_COUNT || search_is_over(state))
        return 0;
    u->ids = xrealloc(u->ids, (u->n + 1) * sizeof(*u->ids));
    str_copy(u->ids[u->n++], SEARCH_ID_MAX, key);
    return 0;
}

int searches_open(struct daemon *d, struct searches **out, struct err *err)
{
    struct searches *ss = xcalloc(1, sizeof(*ss));
    struct unfinished u = { 0 };

    ss->daemon = d;
    list_init(&ss->live);
    list_init(&ss->starting);
    pthread_mutex_init(&ss->lock, NULL);
    if (kb_each_doc(d->kb, KB_SEARCH, list_unfinished, &u, err) != 0) {
        searches_free(ss);
        return err_ctx(err, "looking for unfinished searches");
    }
    *out = ss;
    for (size_t i = 0; i < u.n; i++) {
        struct search *s;
        struct err problem;

        if (search_load(d->kb, u.ids[i], false, &s, &problem) != 0) {
            log_error("search %s cannot go on: %s", u.ids[i], problem.msg);
            continue;
        }
        log_info("search %s goes on (%s, %llu of %llu evaluations)", s->spec.id,
                 search_state_name(s->state), (unsigned long long)search_measured(s),
                 (unsigned long long)s->spec.budget_evals);
        runner_wake(runner_new(ss, s));
    }
    free(u.ids);
    return 0;
}

void searches_close(struct searches *ss)
{
    if (ss == NULL)
        return;
    ss->closing = true;
    LIST_FOREACH (n, &ss->live) {
        struct runner *r = LIST_OF(n, struct runner, node);

        if (r->job)
            evaluator_cancel(r->job);
    }
    /* What is under way ends on the loop: evaluations as cancelled, work when it is done. */
    for (bool busy = true; busy;) {
        busy = !list_empty(&ss->starting);
        LIST_FOREACH (n, &ss->live) {
            struct runner *r = LIST_OF(n, struct runner, node);

            if (r->phase != PHASE_IDLE && r->phase != PHASE_WAITING && r->phase != PHASE_STALLED &&
                r->phase != PHASE_QUEUED)
                busy = true;
            busy |= r->keeping;
        }
        if (busy)
            loop_turn(ss->daemon->loop, true);
    }
    LIST_FOREACH (n, &ss->live) {
        struct runner *r = LIST_OF(n, struct runner, node);

        if (r->want != SEARCHES_NONE) {
            struct err stopping = { .code = ERR_CANCELLED, .msg = "the daemon is stopping" };

            runner_answer(r, &stopping);
        }
        turns_end(&r->turn);
        runner_keep(r);
        pthread_mutex_lock(&ss->lock);
        list_remove(&r->node);
        pthread_mutex_unlock(&ss->lock);
        runner_free(r);
    }
}

void searches_free(struct searches *ss)
{
    if (ss == NULL)
        return;
    pthread_mutex_destroy(&ss->lock);
    free(ss);
}
