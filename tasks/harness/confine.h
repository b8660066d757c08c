/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a program that is not trusted: under bwrap (own namespaces, no network, a read-only
 * system, a private /tmp, an empty environment) and, as root, under an unprivileged user of its own
 * per slot and role. What it runs is always ksearch-eval itself with a hidden verb, which then
 * limits itself further.
 *
 * docs/harness.md has the trust model. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_CONFINE_H
#define KS_HARNESS_CONFINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "job.h"

/* Who runs: each has its own user within the slot. */
enum confine_role { ROLE_CANDIDATE, ROLE_BASELINE, ROLE_CHAMPION, ROLE_BUILDER, ROLE_COUNT };

#define CONFINE_UID_BASE 61000

/* A file that the program sees, read-only, by its contents. */
struct confine_file {
    const char *dest; /* "/ks/candidate.c" */
    const void *data;
    size_t len;
};

#define CONFINE_FILES_MAX 6
#define CONFINE_FDS_MAX 4

struct confine_spec {
    enum sandbox sandbox;
    int slot;
    enum confine_role role;
    const struct confine_file *files; /* with SANDBOX_NONE: not used */
    int n_files;
    const char *verb;        /* of ksearch-eval */
    const char *const *args; /* after the verb, NULL-terminated */
    const int *fds;          /* become descriptors 3, 4, ... of the program */
    int n_fds;
    int stderr_fd;       /* its standard error; -1: /dev/null. Its standard output is /dev/null */
    uint64_t tmp_bytes;  /* size of its /tmp */
    const char *workdir; /* with SANDBOX_NONE: where it runs; NULL is "/" */
};

/*
 * Starts it; `*pid` is to be ended with confine_kill. Descriptors stay the caller's.
 * ERR_REFUSED when bwrap is missing; ERR_IO, ERR_NOMEM.
 */
int confine_spawn(const struct confine_spec *spec, pid_t *pid, struct err *err);

/* Kills the program with all it started and waits for it. Returns its wait status. */
int confine_kill(pid_t pid);
/* Waits without killing; returns the wait status. */
int confine_wait(pid_t pid);
/* Kills every program that is still running; async-signal-safe but for the waiting it does not do.
 */
void confine_kill_all(void);

/* The unprivileged user of this role, or -1 when we are not root (then nothing changes). */
int confine_uid(int slot, enum confine_role role);

/*
 * Puts the calling thread ahead of ordinary processes where that is allowed (as root), so that a
 * stray background process does not end up in a sample. Runners get it too; compilers do not.
 */
#define CONFINE_NICE (-15)
#define CONFINE_NICE_TEXT "-15"
void confine_hurry(void);
/*
 * Where sessions are scheduled as groups, niceness counts within the session only: raises all of
 * it, if this process leads a session of its own. A judge in a lesser session than the runners
 * would wait milliseconds for a processor on which a runner spins.
 */
void confine_hurry_session(void);

/* A memory file with these contents, close-on-exec; -1 with `*err`. */
int confine_memfd(const char *name, const void *data, size_t len, struct err *err);

/* ---- inside: called by the hidden verbs on themselves ---- */

struct confine_limits {
    uint64_t as_bytes; /* 0: no limit */
    uint64_t file_bytes;
    uint64_t cpu_s;
    uint64_t processes; /* 0: no limit */
    uint64_t files;
};

/* Sets the limits, for good. ERR_IO. */
int confine_limit_self(const struct confine_limits *l, struct err *err);
/*
 * Takes away, for good and for all threads to come, the system calls that a kernel has no use for:
 * making processes, sockets, tracing, namespaces, io_uring, ... (SIGSYS, whose handler can no
 * longer be changed), changing priorities and the like (EPERM). Returns true when the machine can
 * do it.
 */
bool confine_filter_self(void);
/* What a call that the filter traps is called; NULL when it traps no such number. */
const char *confine_call_name(int64_t nr);

#endif
