/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One live search on its way through its turns; the drawing is in searches.h. A runner alternates
 * between the loop, which takes turns and starts evaluations, and a worker, which has the search to
 * itself while it plans, records or carries out a request. Private to daemon/sched. Thread: loop.
 */
#ifndef KS_SCHED_RUNNER_H
#define KS_SCHED_RUNNER_H

#include "base/list.h"
#include "eval/launcher.h"
#include "sched/talk.h"
#include "sched/searches.h"
#include "sched/turns.h"
#include "work.h"

enum phase {
    PHASE_IDLE,
    PHASE_WAITING, /* for a model's answers */
    PHASE_QUEUED,
    PHASE_PLANNING,
    PHASE_MEASURING,
    PHASE_DUELLING,
    PHASE_RECORDING,
    PHASE_CONTROLLING,
    PHASE_STALLED
};

enum { HELD_UP_MAX = 300 };

struct runner {
    struct list node; /* in searches.live */
    struct searches *owner;
    struct search *search;
    struct turn turn;
    struct work work;
    enum phase phase;
    /* of the step under way */
    uint64_t turn_started_ns, seed;
    uint64_t own_ns, sync_ns; /* the daemon's own time, waits for the disk among it */
    uint64_t plan_ns;         /* a part of it */
    uint64_t start_ns;        /* launching evaluations, mostly waiting for the new process */
    struct eval_job *job;
    /* Answers are stored while the search waits for its turn or for an evaluation; what comes
     * meanwhile waits until that is done. */
    bool keeping;   /* a worker has the search for it */
    bool turn_came; /* meanwhile */
    bool has_ended; /* the evaluation, meanwhile; `ended` holds its result unless cancelled */
    bool was_cancelled;
    struct eval_result ended;
    bool keep_failed; /* once the evaluation is over, the search is loaded again */
    struct err keep_err;
    bool has_result, has_duel, duelled_twice;
    struct eval_result result, duel;
    json_t *notices;           /* made by the worker, sent by the loop */
    struct search *fresh;      /* loaded again after a failed write */
    bool diverged;             /* and could not be loaded: memory is ahead of the base */
    char held_up[HELD_UP_MAX]; /* guarded by searches.lock */
    struct talk talk;          /* with a language model; unused with the built-in proposer */
    struct event *retry;
    enum search_state
        state; /* after the last step, for the loop: the search itself may be with a worker */
    /* a change asked for */
    enum searches_control want;
    char why[300]; /* the reason, unless it is the user's wish; not written while a worker has it */
    searches_done_fn *want_done;
    void *want_arg;
};

struct searches {
    struct daemon *daemon;
    struct list live;
    struct list starting; /* being stored; the loop's alone */
    /* Guards the list and runner.search against readers on workers; the loop alone writes. */
    pthread_mutex_t lock;
    uint64_t ended; /* the loop's alone */
    bool closing;
};

static inline struct runner *runner_of(struct work *w)
{
    return LIST_OF(w, struct runner, work);
}

/* Takes the search over and enters it among the live ones. Call runner_wake then. */
struct runner *runner_new(struct searches *ss, struct search *s);
/* Frees a search that nobody works on any more, after those that read it. NULL is fine. */
void searches_drop(struct searches *ss, struct search *s);
/* Nothing of it may be under way. */
void runner_free(struct runner *r);
/* Looks what an idle search should do: a change asked for first, else its next turn. */
void runner_wake(struct runner *r);
/* Stores what arrived and was not stored yet, now: the daemon is stopping. Blocks. */
void runner_keep(struct runner *r);
/* Asks for a change of state; done comes when it is durable. ERR_CONFLICT when it does not fit the
 * state. */
int runner_request(struct runner *r, enum searches_control what, searches_done_fn *done, void *arg,
                   struct err *err);
/* Tells who asked for a change how it went; harmless when nobody did. */
void runner_answer(struct runner *r, const struct err *err);

#endif
