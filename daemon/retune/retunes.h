/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retunes under way. Each is two documents (KB_SIDE): "retune/ID", made once by the survey, and
 * "retune/ID/progress", replaced together with the facts of every step, so that a daemon killed
 * anywhere goes on with the step that was not acknowledged. The list of all is "retunes".
 *
 *     measuring (steps of the plan, a quarter of the budget at most) -> choosing (which tasks get a
 *     search) -> searching (ordinary searches, one after the other) -> reporting -> done
 *
 * Cancelling ends the step under way and goes to reporting; the end is then `cancelled`. What a
 * step does is a function of the two documents. Thread: loop, except where said.
 */
#ifndef KS_RETUNE_RETUNES_H
#define KS_RETUNE_RETUNES_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct daemon;
struct retunes;

/* Goes on with what was unfinished; after the searches were opened. ERR_IO. */
int retunes_open(struct daemon *d, struct retunes **out, struct err *err);
/* Stops stepping and waits for what is under way. Before searches_close. NULL is fine. */
void retunes_close(struct retunes *rs);

/*
 * Stores and starts a retune with the survey's document (stolen). done(arg, id, err) comes later.
 * An unfinished one with the same request is joined: done gets its id.
 */
typedef void retune_done_fn(void *arg, const char *id, const struct err *err);
void retunes_start(struct retunes *rs, json_t *doc, retune_done_fn *done, void *arg);
/* The id of an unfinished retune of the same device, old device, mode and tasks (borrowed; tasks
 * NULL or empty: all); NULL when there is none. */
const char *retunes_find(const struct retunes *rs, const char *device, const char *from,
                         bool toolchain, const json_t *tasks);
/* Asks for the end. ERR_NOT_FOUND, ERR_CONFLICT (it is over). */
int retunes_cancel(struct retunes *rs, const char *id, struct err *err);
/* Is it live? */
bool retunes_live(const struct retunes *rs, const char *id);

/*
 * Everything about one retune: {id, state, reason, created, from, to, toolchain, budget, spent,
 * delta, roofline, tasks, insights, plan, searches, report}. ERR_NOT_FOUND. Thread: worker, blocks.
 */
int retune_show(struct daemon *d, const char *id, json_t **out, struct err *err);
/* {retunes[{id, device, from, toolchain, state, created}]}, newest first. Thread: worker. */
int retune_list(struct daemon *d, json_t **out, struct err *err);
/* What a document is to a reader, without a run: {from, to, toolchain, budget, delta, roofline,
 * tasks, insights, plan}. Fresh. Thread: any. */
json_t *retune_plan_json(const json_t *doc);

#endif
