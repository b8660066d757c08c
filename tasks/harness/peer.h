/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge's end of one runner: start, describe a workload, call, kill. A peer believes the kernel
 * (who sent a message, and when) and the nonce that it handed out with the call; the rest of a
 * reply is a claim.
 *
 * Time of a call: from the store that releases the armed runner to the kernel's time stamp on its
 * reply. Between calls the runner is stopped, so that no work can hide behind a reply. Thread: the
 * judge's main thread.
 */
#ifndef KS_HARNESS_PEER_H
#define KS_HARNESS_PEER_H

#include "arena.h"
#include "base/buf.h"
#include "confine.h"
#include "counters.h"
#include "fail.h"
#include "job.h"
#include "pack.h"
#include "procstat.h"

#define PEER_READY_MAX 128

struct peer {
    const char *who; /* "candidate", "baseline", "champion" */
    enum confine_role role;
    const struct job *job;
    struct arena *arena; /* borrowed */
    int fd;              /* -1 when it does not run */
    pid_t pid;           /* what confine_spawn gave */
    pid_t runner;        /* the process that holds the program, as the kernel says */
    int threads;         /* that the runner has when idle */
    uint64_t spent_ns;   /* by all calls; the job's run_s bounds it */
    int calls,
        plausible;  /* since the last look: all, and those whose claim fits the measured time */
    struct rng rng; /* nonces */
    bool stopped;
    struct waits waits;
    const struct counters *counting; /* counts during calls; NULL: nothing does */
    uint64_t idle_cpu_ns;  /* processor time used when it had come to a stop; 0: not known */
    uint64_t woken_ns;     /* when it was last let go on, */
    uint64_t woken_ran_ns; /* and how long its main thread had run by then */
    int late;              /* calls after whose reply its main thread went on */
    int restless;          /* stops during which it went on running */
    uint64_t
        ready_ns[PEER_READY_MAX]; /* from its waking to "ready", of the calls since the last look */
    int n_ready;
};

/* What to do to the memory of an armed runner, just before the clock starts. */
struct last_touch {
    void (*fn)(void *ctx);
    void *ctx;
};

/* One finished call. */
struct call_time {
    uint64_t ns;       /* of all calls of the batch, as measured; at least 1 */
    uint64_t inner_ns; /* as claimed */
    bool disturbed;    /* its threads had to wait for a processor that something else used */
};

/*
 * Starts a runner for the program's object on an arena, which outlives it and is its alone. Fails
 * with FAIL_LOAD_FAILED, FAIL_TIMEOUT, FAIL_CRASHED, FAIL_SANDBOX_VIOLATION or FAIL_INFRASTRUCTURE
 * (code ERR_REFUSED: no sandbox).
 */
int peer_start(const struct job *job, enum confine_role role, const struct buf *object,
               struct arena *arena, struct peer *out, struct fail *f);
/* Kills the runner; nothing maps the arena after that but the judge. */
void peer_release(struct peer *p);

/* Describes a workload: tensors (data ignored) and axes. FAIL_CRASHED and the like. */
int peer_shape(struct peer *p, const struct ks_tensor *tensors, int n_inputs, int n_outputs,
               const struct ks_axis *axes, int n_axes, size_t scratch_bytes, struct fail *f);

/*
 * Runs n calls (0 to WIRE_BATCH_MAX; 0 is an empty round trip), one after another, on these cells.
 * `watched`: waits without sleeping and stops the runner within a microsecond or two of its reply.
 * `touch` (or NULL) brings the last of the inputs, so that what the runner computes before "go" is
 * worth nothing.
 * Fails with FAIL_TIMEOUT, FAIL_CRASHED, FAIL_REFUSED_CALL, FAIL_MEMORY_LIMIT, FAIL_PROCESS_LIMIT,
 * FAIL_RESULT_FORGED, FAIL_SANDBOX_VIOLATION, FAIL_INFRASTRUCTURE. The runner is stopped when this
 * returns 0.
 */
int peer_call(struct peer *p, const struct cell *const *cells, int n, int n_buffers, bool watched,
              const struct last_touch *touch, struct call_time *out, struct fail *f);

/*
 * FAIL_CLOCK_TAMPERED when the calls since the last look nearly all claim much less time than they
 * took, while those of a trusted program, measured side by side, do not (on a crowded machine both
 * may: the runner was not scheduled between "go" and its start), or when it takes much longer than
 * the trusted one from its waking to saying that it is ready: it works before the clock starts.
 * FAIL_SANDBOX_VIOLATION when it ran on after it was stopped. Starts all counts anew.
 */
int peer_check_claims(struct peer *p, struct peer *trusted, struct fail *f);

#endif
