/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a runner: each folds events into its search and stores them in one synced write,
 * under the search's lock, and leaves the notices to publish. They are what `struct work` runs.
 * When one fails, the search in memory is ahead of the base: r->fresh is it loaded again, NULL when
 * that failed too. Private to daemon/sched. Thread: worker, which has the search to itself; blocks.
 */
#ifndef KS_SCHED_STEP_H
#define KS_SCHED_STEP_H

#include "base/err.h"
#include "work.h"

/* Plans the next evaluation, of the built-in proposer. */
int step_plan(struct work *w, struct err *err);
/* With a language model: what arrived is stored, then used; requests are read back for the loop. */
int step_talk(struct work *w, struct err *err);
/* Stores what arrived, and no more. */
int step_store(struct work *w, struct err *err);
/* Records the result of an evaluation, and of its duel. */
int step_record(struct work *w, struct err *err);
/* Carries out the change that was asked for. */
int step_control(struct work *w, struct err *err);

#endif
