/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What judge and runner say to each other: fixed structs over a SOCK_SEQPACKET pair, and one
 * control page at the start of the shared arena. The runner is hostile as soon as it holds a
 * candidate, so the judge believes nothing but a message's sender, its kernel time stamp and its
 * nonce.
 *
 *   judge                          runner
 *   INIT  ------------------------>  maps the arena, limits itself, loads the program
 *         <------------------------  HELLO (or why it could not load)
 *   SHAPE ------------------------>  tensors and axes of one workload (no answer)
 *   CALL  ------------------------>  wakes its pool
 *         <------------------------  ARMED, then spins on control.go
 *   offsets, reply nonce, go = arm   runs the calls
 *         <------------------------  DONE with the reply nonce, or CRASH
 */
#ifndef KS_HARNESS_WIRE_H
#define KS_HARNESS_WIRE_H

#include <stdint.h>

#include "ks_task.h"

#define WIRE_FD_SOCKET 3
#define WIRE_FD_ARENA 4
#define WIRE_FD_PROGRAM 5 /* only without bwrap: the shared object */
#define WIRE_BATCH_MAX 16
#define WIRE_THREADS_MAX 256
#define WIRE_NAME_MAX 64
#define WIRE_AXES_MAX 32
#define WIRE_CONTROL_BYTES 8192

enum wire_kind {
    WIRE_INIT = 1,
    WIRE_HELLO,
    WIRE_SHAPE,
    WIRE_CALL,
    WIRE_ARMED,
    WIRE_DONE,
    WIRE_CRASH
};

struct wire_init {
    uint32_t kind;
    uint32_t threads;
    uint32_t limited; /* 1: the number of processes may be limited (own user or own namespace) */
    uint32_t run_s;
    uint64_t arena_bytes;
    uint64_t
        memory_bytes; /* address space for the program, beyond the arena and the runner itself */
    char program[64]; /* what to load */
    uint16_t cpus[WIRE_THREADS_MAX]; /* a processor for each thread, the caller's first */
};

struct wire_hello {
    uint32_t kind;
    uint32_t loaded; /* 0: `why` says what went wrong */
    char why[400];
};

struct wire_tensor {
    char name[WIRE_NAME_MAX];
    int32_t dtype, rank;
    int64_t shape[KS_RANK_MAX];
};

struct wire_shape {
    uint32_t kind;
    int32_t n_inputs, n_outputs, n_axes;
    uint64_t scratch_bytes;
    struct wire_tensor tensors[KS_TENSORS_MAX]; /* inputs, then outputs */
    struct {
        char name[WIRE_NAME_MAX];
        int64_t value;
    } axes[WIRE_AXES_MAX];
};

struct wire_call {
    uint32_t kind;
    uint32_t n_calls; /* 0 to WIRE_BATCH_MAX; 0 measures the round trip */
    uint64_t arm;
};

/* ARMED, DONE and CRASH. */
struct wire_reply {
    uint32_t kind;
    int32_t value; /* DONE: what ks_kernel returned; CRASH: the signal */
    uint64_t nonce;
    uint64_t inner_ns; /* the runner's own claim; only ever compared, never used */
    int64_t fault;     /* CRASH: address within the arena, or -1; of SIGSYS: the call's number */
    uint32_t starved;  /* CRASH, DONE: 1 when the address space is used up */
    uint32_t call;     /* which call of the batch */
};

/* At offset 0 of the arena. */
struct wire_control {
    uint64_t go;    /* the judge writes `arm` of the CALL here, last */
    uint64_t nonce; /* for the reply */
    uint64_t offsets[WIRE_BATCH_MAX]
                    [KS_TENSORS_MAX + 1]; /* from the arena's start; scratch is last */
};

_Static_assert(sizeof(struct wire_control) <= WIRE_CONTROL_BYTES, "control page");

#endif
