/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All searches of the daemon: starts them, takes them through their turns (plan, evaluate, record),
 * carries out pause, resume and cancel between two steps, and goes on with unfinished ones after a
 * restart.
 *
 *     idle -ask-> queued -go-> planning -> measuring [-> duelling] -> recording -> idle
 *      \-control-> controlling -> idle          (stalled: storage failed; tried again after a
 * while)
 *
 * Thread: loop, except where said.
 */
#ifndef KS_SCHED_SEARCHES_H
#define KS_SCHED_SEARCHES_H

#include <jansson.h>

#include "daemon.h"
#include "search/search.h"

enum searches_control {
    SEARCHES_NONE,
    SEARCHES_PAUSE,
    SEARCHES_RESUME,
    SEARCHES_CANCEL,
    SEARCHES_FAIL /* the scheduler's own, when a step cannot succeed */
};

/*
 * Stores and starts a search. done(arg, id, err) comes on the loop, never from inside; err is NULL
 * after success. `spec` and `scope` are moved: empty afterwards. `template` and `space` (the
 * tunable template) are borrowed for the call; both are NULL when scope->program is stored already,
 * as that of a recorded task is.
 */
typedef void searches_done_fn(void *arg, const char *id, const struct err *err);
void searches_start(struct searches *ss, struct search_spec *spec, struct search_scope *scope,
                    const char *template_source, json_t *space, searches_done_fn *done, void *arg);

/*
 * Asks for a change of state; done comes when it is durable. ERR_NOT_FOUND, ERR_CONFLICT (it is
 * over, or not paused) through done.
 */
void searches_request(struct searches *ss, const char *id, enum searches_control what,
                      searches_done_fn *done, void *arg);

/*
 * Calls fn with the search, locked: the live one, else one loaded for reading. ERR_NOT_FOUND.
 * Thread: worker, blocks. `held_up` is "" or why a running search does not get on.
 */
int searches_with(struct searches *ss, const char *id,
                  int (*fn)(void *ctx, const struct search *s, const char *held_up,
                            struct err *err),
                  void *ctx, struct err *err);

/* Is it live, and in which state? SEARCH_STATE_COUNT when it is not live (over, or unknown). */
enum search_state searches_live_state(const struct searches *ss, const char *id);

/* Does a search of this family live, or is one being started? Thread: loop. */
bool searches_live_family(const struct searches *ss, const char *family);

#endif
