/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A short-lived child process whose output is read by the loop: posix_spawn, scrubbed environment,
 * own process group, stdin a pipe that is held open (so the child can see that we are gone).
 * Thread: loop.
 */
#ifndef KS_DAEMON_CHILD_H
#define KS_DAEMON_CHILD_H

#include <stddef.h>

#include "base/err.h"

struct child;
struct loop;

struct child_options {
    const char *const *argv; /* NULL last; argv[0] is a path, or a name searched in PATH */
    const char *const *env;  /* names of further variables that it gets; NULL last, NULL: none */
    double timeout_s;
    size_t out_max; /* bytes of stdout; more is ERR_LIMIT */
};

/*
 * Called once, from the loop, never from inside child_start: err is NULL after exit status 0, and
 * `out` is what it wrote (borrowed, NUL-terminated). Else FAILED (with the end of its stderr),
 * LIMIT, CANCELLED or IO.
 */
typedef void child_done_fn(void *arg, const char *out, size_t len, const struct err *err);

/* ERR_NOT_FOUND when there is no such program, ERR_IO. */
int child_start(struct loop *loop, const struct child_options *o, child_done_fn *done, void *arg,
                struct child **out, struct err *err);
/* Kills it; done follows with ERR_CANCELLED. */
void child_cancel(struct child *c);
/* Kills it, waits for it and calls done with ERR_CANCELLED before it returns. */
void child_stop(struct child *c);

#endif
