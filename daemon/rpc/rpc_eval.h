/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that measure: eval.run, and what other files of methods run in the same way. Each waits for
 * its device to be known and for its turn on it, and answers with the record. Thread: loop.
 */
#ifndef KS_DAEMON_RPC_EVAL_H
#define KS_DAEMON_RPC_EVAL_H

#include <stdbool.h>

#include "eval/launcher.h"

struct daemon;
struct rpc_call;

/*
 * Starts the call's evaluation when its turn has come: completes *req (device, rates, limits,
 * timing and seed are set; what it points to need only live until the return) and passes it with
 * `done` and `ctx` to evaluator_start. -1: the call is answered with *err.
 */
typedef int rpc_eval_start_fn(struct rpc_call *call, struct eval_request *req, eval_done_fn *done,
                              void *ctx, struct err *err);
/* `device`: its name, which lives as long as the call; `dtype`: the task's, which picks the
 * device's arithmetic peak. */
void rpc_eval_measure(struct rpc_call *call, const char *device, const char *dtype,
                      rpc_eval_start_fn *start);
/* Is one of these running on a task of this family, that is, reading the pack's folder? */
bool rpc_eval_runs(const struct daemon *d, const char *family);
/* Answers the calls that still wait for their turn with ERR_CANCELLED. */
void rpc_eval_drop_waiting(struct daemon *d);

/* ---- parts of a request ---- */

/* The set of this name, or the default one (NULL); borrowed. ERR_NOT_FOUND lists what there is. */
int rpc_eval_set(const struct pack_definition *def, const char *name, const struct pack_set **out,
                 struct err *err);
/* Build macros of the given values over the template's defaults, as an object of strings; owned.
 * ERR_INVALID. */
int rpc_eval_defines(const struct pack *pack, json_t *given, json_t **out, struct err *err);
/* The same as an array of at most EVAL_DEFINES_MAX, borrowed from `values`; their number. */
size_t rpc_eval_fill(json_t *values, struct eval_define *out);

#endif
