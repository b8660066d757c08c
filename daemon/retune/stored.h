/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents of retunes in the knowledge base (KB_SIDE): "retune/ID" and "retune/ID/progress" of
 * each, and "retunes", the list of all. What readers are told of them (retune_show, retune_list,
 * retune_plan_json) is declared in retunes.h. Thread: any, blocks.
 */
#ifndef KS_RETUNE_STORED_H
#define KS_RETUNE_STORED_H

#include <jansson.h>

#include "base/err.h"

struct kb;
struct kb_batch;

/* Reading, changing and committing the list is one step: held from stored_put_listed to the commit.
 */
void stored_lock(void);
void stored_unlock(void);

/* Stores a new retune, listed as running. ERR_IO, ERR_NOMEM. Takes the lock itself. */
int stored_create(struct kb *kb, const char *id, const json_t *doc, const json_t *progress,
                  struct err *err);
/* Both documents of a retune, fresh; ERR_NOT_FOUND, ERR_IO. */
int stored_read(struct kb *kb, const char *id, json_t **doc, json_t **progress, struct err *err);
/* {retunes[{id, device, from, toolchain, created, state}]}, oldest first; fresh. ERR_IO. */
int stored_list(struct kb *kb, json_t **out, struct err *err);
/* Puts the progress of a retune into the batch. */
int stored_put_progress(struct kb_batch *b, const char *id, const json_t *progress,
                        struct err *err);
/* Puts the list into the batch, with this retune's entry in that state. Call with the lock held. */
int stored_put_listed(struct kb *kb, struct kb_batch *b, const char *id, const json_t *doc,
                      const char *state, struct err *err);

#endif
