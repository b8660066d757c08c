/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's language models: one provider of each name, made when a search first asks for it, so
 * that what is missing in the configuration is said at the start of that search. With conf
 * `llm_record` all that they answer is recorded. Thread: loop.
 */
#ifndef KS_DAEMON_LLMS_H
#define KS_DAEMON_LLMS_H

#include <jansson.h>

#include "base/err.h"
#include "llm/llm.h"

struct daemon;
struct llms;

/* Opens the queue, which needs nothing, and the endpoint when models are named and nothing is
 * wrong. Keeps `d`: its loop, clock, configuration and RPC server must be there. ERR_NOMEM. Blocks
 * for small files. */
int llms_open(struct daemon *d, struct llms **out, struct err *err);
/* Frees the providers; what they have under way ends as cancelled. NULL is fine. */
void llms_close(struct llms *m);
/*
 * The provider of this name: "openai", "queue" or "replay"; lives until llms_close. NULL with
 * ERR_INVALID (no such name, or what it needs is not configured) or what making it said; the next
 * call tries again.
 */
struct llm *llms_find(struct llms *m, const char *proposer, struct err *err);
/* The queue itself, for the answering side (llm/provider_queue.h). Never NULL. */
struct llm *llms_queue(struct llms *m);
/* {openai: {...} or null, queue: {...}, replay: {...} or null}: null is one that nobody asked for
 * yet. Owned. */
json_t *llms_status(const struct llms *m);

#endif
