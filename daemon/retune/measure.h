/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One measurement of a retune: an assignment that the plan names, evaluated on the new device and
 * stored as any search's evaluation is, with the evidence of the pairs that it completes. Its
 * confirmations count as steered: memory asked for it.
 */
#ifndef KS_RETUNE_MEASURE_H
#define KS_RETUNE_MEASURE_H

#include <jansson.h>

#include "eval/launcher.h"
#include "kb.h"
#include "search/search.h"

struct daemon;

/*
 * Starts the evaluation of a step, {task, set, assignment}, on the device of the record. Fills the
 * zeroed *scope (release with search_scope_release) and *program (a fresh KB_PROGRAM document; NULL
 * for a recorded task, whose program is stored) as measure_record wants them. ERR_NOT_FOUND,
 * ERR_INVALID (the task is gone or has changed), ERR_IO. Thread: loop.
 */
int measure_start(struct daemon *d, const json_t *device, const json_t *step, uint64_t seed,
                  struct search_scope *scope, json_t **program, eval_done_fn *done, void *ctx,
                  struct eval_job **out, struct err *err);

/*
 * Adds to the batch: the evaluation as a fact, the program, and evidence from this result beside
 * the earlier ones of the same task. `steps` and `results` are parallel arrays; the result is that
 * of step number json_array_size(results). *entry becomes {status, objective_q, sd_q, fact,
 * message} (fresh). The result must not be one of ours (infrastructure, cancelled, known). Thread:
 * worker, blocks.
 */
int measure_record(struct daemon *d, struct kb_batch *batch, const json_t *device,
                   const json_t *steps, const json_t *results, const struct eval_result *r,
                   struct search_scope *scope, const json_t *program, uint64_t seed, json_t **entry,
                   struct err *err);

/* The space of a task on a device: of its pack's template, or of its recorded table. ERR_NOT_FOUND,
 * ERR_INVALID. Thread: worker, blocks. */
int measure_space(struct daemon *d, const char *task, const char *device, struct space **out,
                  struct err *err);

#endif
