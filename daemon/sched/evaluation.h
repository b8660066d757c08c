/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The evaluation of a runner's open trial, or of the champion that is to be checked on the hold-out
 * set: the request that is made of trial, task and configuration, and the result as the runner
 * keeps it. Private to daemon/sched. Thread: loop.
 */
#ifndef KS_SCHED_EVALUATION_H
#define KS_SCHED_EVALUATION_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "eval/launcher.h"

struct runner;

/*
 * Starts it; `duel`: once more, side by side with the champion. `done` gets the runner, and comes
 * later. Sets r->job, without a duel r->seed too, and adds to r->start_ns. Errors: the evaluator's.
 */
int evaluation_start(struct runner *r, bool duel, eval_done_fn *done, struct err *err);
/* Makes the zeroed `to` a copy of a borrowed result, of its record; one that does not parse again
 * is our fault, not the candidate's. Release with eval_result_release. */
void evaluation_keep(const struct eval_result *from, const json_t *record, struct eval_result *to);

#endif
