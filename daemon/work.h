/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread pool: blocking work (RocksDB, faiss, files) leaves the loop as a struct work and comes
 * back.
 *
 *     idle --submit--> queued --> running --> finished --done--> idle
 *                         \--cancel--> finished
 *
 * Invariants: 1. `done` is called exactly once per submit, on the loop, never from inside
 * work_submit or work_cancel. 2. Between submit and done the item belongs to the pool: nobody frees
 * or changes it.
 * 3. A cancelled item that never ran, and one cancelled while it ran, both see ERR_CANCELLED in
 * `done`.
 */
#ifndef KS_DAEMON_WORK_H
#define KS_DAEMON_WORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/list.h"

struct loop;
struct work_pool;

enum work_state { WORK_IDLE, WORK_QUEUED, WORK_RUNNING, WORK_FINISHED, WORK_STATE_COUNT };

/* Embedded in the caller's own struct (LIST_OF gets it back). Zero it, set the two functions,
 * submit. */
struct work {
    /* On a worker; sees only the item. 0, or -1 with `err` set. Blocks as it likes. */
    int (*run)(struct work *w, struct err *err);
    /* On the loop: `err` is NULL after success; ERR_CANCELLED when cancelled; may free the item or
     * submit it again. */
    void (*done)(struct work *w, const struct err *err);
    /* The pool's own. */
    struct list node;
    enum work_state state;
    atomic_bool cancelled;
    int rc;
    struct err err;
};

/* Starts `threads` (1 to 64) workers that report to `loop`. ERR_INVALID, ERR_NOMEM, ERR_IO. Thread:
 * loop. */
int work_pool_new(struct loop *loop, size_t threads, struct work_pool **out, struct err *err);
/*
 * Cancels what is queued, waits for what runs and calls every outstanding `done`; what those submit
 * is cancelled too. NULL is fine. Thread: loop.
 */
void work_pool_free(struct work_pool *p);

/* Gives the item to the pool. Never fails: after work_pool_free has begun the item is cancelled.
 * Thread: loop. */
void work_submit(struct work_pool *p, struct work *w);
/* Asks for ERR_CANCELLED. Harmless on an item that is idle or finished. Thread: loop. */
void work_cancel(struct work_pool *p, struct work *w);
/* For a long `run`: has somebody cancelled this item? Thread: any. */
bool work_cancelled(const struct work *w);
/* Items submitted and not yet done. Thread: loop. */
size_t work_pending(const struct work_pool *p);

#endif
