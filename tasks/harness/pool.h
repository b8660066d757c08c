/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads behind ks_call.parallel. Workers spin for a moment after each use and then sleep on a
 * futex, so back-to-back parallel regions cost under a microsecond and an idle runner costs
 * nothing.
 *
 * Invariants: (1) a region is open or closed in `state`; workers enter only an open one, by adding
 * themselves to its count in the same atomic step; (2) fn, ctx, n and next change only while the
 * region is closed and its count is 0. So a worker that comes late never sees another region's
 * function. Thread: pool_run and pool_arm from the one thread that made the pool.
 */
#ifndef KS_HARNESS_POOL_H
#define KS_HARNESS_POOL_H

#include <stdint.h>

#include "base/err.h"

struct pool;

/*
 * `threads` counts the caller: 1 makes no worker. cpus[i]: the processor that thread i stays on,
 * NULL for any; cpus[0] is the caller's, which is not bound. ERR_NOMEM, ERR_LIMIT.
 */
int pool_new(int threads, const uint16_t *cpus, struct pool **out, struct err *err);
/* Runs fn(ctx, i) for i in [0, n) on all threads; returns when the last has ended.
 * ks_call.parallel. */
void pool_run(void *pool, void (*fn)(void *ctx, int i), void *ctx, int n);
/* Wakes the workers so that they spin until pool_disarm, for at most some 10 ms. */
void pool_arm(struct pool *pool);
/* Work is about to come: armed workers spin a moment more and then sleep, as after a region. */
void pool_disarm(struct pool *pool);
/* Stops and joins the workers. NULL is fine. */
void pool_free(struct pool *pool);

#endif
