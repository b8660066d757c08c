/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Upkeep of the vector index, the first reading of what all searches did, and giving back the
 * memory of those that are over; see upkeep.h.
 *
 *     idle --due--> asked (waits for the turn of "cpu") --> working (worker) --> idle
 *
 * Whether something is due is asked on a worker too: the base's lock may be held by a commit.
 */
#include "upkeep.h"

#include <malloc.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"
#include "daemon.h"
#include "kb.h"
#include "log.h"
#include "loop.h"
#include "sched/turns.h"
#include "search/history.h"
#include "work.h"

struct upkeep {
    struct daemon *daemon;
    struct event *timer;
    struct turn turn;
    struct work look, maintain;
    bool due;
    bool trim;      /* searches have ended since memory was given back */
    uint64_t ended; /* searches, as of then */
    bool read;      /* the events of all searches, once */
    bool stopped;
};

static void look_later(struct upkeep *u)
{
    static const struct timeval second = { 1, 0 };

    if (!u->stopped)
        event_add(u->timer, &second);
}

static int maintain_run(struct work *w, struct err *err)
{
    struct upkeep *u = LIST_OF(w, struct upkeep, maintain);
    struct kb *kb = u->daemon->kb;

    if (!u->read && history_refresh(u->daemon->history, kb, err) != 0)
        return -1;
    u->read = true;
    /* What many searches held at once lies in pieces between what still lives: the allocator keeps
     * it until it is told not to. */
    if (u->trim)
        malloc_trim(0);
    return kb_maintain_due(kb) ? kb_maintain(kb, err) : 0;
}

static void maintain_done(struct work *w, const struct err *err)
{
    struct upkeep *u = LIST_OF(w, struct upkeep, maintain);

    turns_end(&u->turn);
    if (err != NULL && err->code != ERR_CANCELLED)
        log_warn("kb: upkeep failed: %s", err->msg);
    look_later(u);
}

static void go(struct turn *t)
{
    struct upkeep *u = LIST_OF(t, struct upkeep, turn);

    work_submit(u->daemon->work, &u->maintain);
}

static int look_run(struct work *w, struct err *err)
{
    struct upkeep *u = LIST_OF(w, struct upkeep, look);

    (void)err;
    u->due = !u->read || kb_maintain_due(u->daemon->kb);
    return 0;
}

static void look_done(struct work *w, const struct err *err)
{
    struct upkeep *u = LIST_OF(w, struct upkeep, look);

    if (err == NULL && (u->due || u->trim) && !u->stopped)
        turns_ask(u->daemon->turns, "cpu", &u->turn);
    else
        look_later(u);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct upkeep *u = arg;
    const struct searches *ss = u->daemon->searches;

    (void)fd;
    (void)what;
    /* while others run they would only ask for the memory again */
    u->trim = ss != NULL && searches_idle(ss) && searches_ended(ss) != u->ended;
    if (u->trim)
        u->ended = searches_ended(ss);
    work_submit(u->daemon->work, &u->look);
}

struct upkeep *upkeep_new(struct daemon *d)
{
    struct upkeep *u = xcalloc(1, sizeof(*u));

    u->daemon = d;
    u->turn.go = go;
    u->look.run = look_run;
    u->look.done = look_done;
    u->maintain.run = maintain_run;
    u->maintain.done = maintain_done;
    u->timer = evtimer_new(loop_base(d->loop), on_timer, u);
    if (u->timer == NULL)
        abort(); /* as xmalloc: small and fixed */
    look_later(u);
    return u;
}

void upkeep_stop(struct upkeep *u)
{
    if (u == NULL)
        return;
    u->stopped = true;
    event_del(u->timer);
    if (!u->turn.running)
        turns_end(&u->turn);
}

void upkeep_free(struct upkeep *u)
{
    if (u == NULL)
        return;
    event_free(u->timer);
    free(u);
}
