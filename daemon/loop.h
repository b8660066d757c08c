/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one libevent base, the stop flag, frees at the end of a turn, and a log line for
 * every callback that takes over 10 ms. All events of the daemon hang on this base. Thread: loop,
 * all of it.
 */
#ifndef KS_DAEMON_LOOP_H
#define KS_DAEMON_LOOP_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct loop;

/* ERR_NOMEM, ERR_IO. */
int loop_new(struct loop **out, struct err *err);
/* Runs what is deferred, then frees the base; every event must be gone. NULL is fine. */
void loop_free(struct loop *l);

/* The base, for event_new and friends; borrowed. */
struct event_base *loop_base(struct loop *l);

/* Runs turns until loop_stop; events that are ready are handled, then what was deferred. */
void loop_run(struct loop *l);
/* One turn: waits for events unless something is deferred or `wait` is false. For tests and
 * shutdown. */
void loop_turn(struct loop *l, bool wait);
void loop_stop(struct loop *l);
bool loop_stopping(const struct loop *l);

/*
 * Calls fn(arg) at the end of this turn: nothing is freed under a running callback, so a dying
 * object is marked dead and passed here. Deferring from a deferred function is fine (same turn).
 */
void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg);

/*
 * Times the rest of the enclosing scope: LOOP_CALLBACK("conn_read"); first thing in every event
 * callback. Over 10 ms it is a warning with the name, and how much of that the thread computed.
 */
struct loop_scope {
    const char *name;
    uint64_t start_ns, cpu_ns;
};
struct loop_scope loop_scope_enter(const char *name);
void loop_scope_leave(struct loop_scope *s);
/* Callbacks that were too slow since the start. Thread: any. */
uint64_t loop_slow_callbacks(void);
/* The longest callback since the start, in nanoseconds. Thread: any. */
uint64_t loop_longest_ns(void);
#define LOOP_CALLBACK(name)                                                                        \
    struct loop_scope loop_scope_ __attribute__((cleanup(loop_scope_leave), unused)) =             \
        loop_scope_enter(name)

#endif
