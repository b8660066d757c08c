/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answering side of the queue: a person or a coding agent is the model. A request is open until
 * it is answered; who takes it holds a lease, which keeps others from working on the same one and
 * runs out by itself. The queue holds nothing durable: searches ask again after a restart, under
 * the same id. Thread: loop.
 */
#ifndef KS_LLM_PROVIDER_QUEUE_H
#define KS_LLM_PROVIDER_QUEUE_H

#include "llm/llm.h"

enum { LLM_WHO_MAX = 64, LLM_LEASE_S = 900, LLM_LEASE_MAX_S = 86400 };

/*
 * The open requests as [{id, search, task, kind, role, attempt, asked (s), lease{who, left_s} or
 * null, bytes, schema}], oldest first; `search` (NULL: all) restricts it. Owned.
 */
json_t *llm_queue_pending(struct llm *queue, const char *search);

/*
 * One open request whole: {id, ..., system, prefix, prompt, schema}. With `who` not NULL it is
 * leased to them for lease_s seconds (0: LLM_LEASE_S), again when they hold it already. id NULL:
 * the oldest one that nobody else holds. ERR_NOT_FOUND, ERR_CONFLICT (somebody else holds it: says
 * who and for how long).
 */
int llm_queue_take(struct llm *queue, const char *id, const char *search, const char *who,
                   double lease_s, json_t **out, struct err *err);
/* Gives a lease back. ERR_NOT_FOUND, ERR_CONFLICT. */
int llm_queue_release(struct llm *queue, const char *id, const char *who, struct err *err);
/*
 * Answers: the search is told at the end of this turn of the loop. `who` NULL: anonymous. `model`
 * (NULL: none) is what the answerer says it is. ERR_NOT_FOUND (unknown, or answered already),
 * ERR_CONFLICT (leased to somebody else), ERR_INVALID (empty, no UTF-8), ERR_LIMIT.
 */
int llm_queue_answer(struct llm *queue, const char *id, const char *who, const char *model,
                     const char *text, size_t len, struct err *err);
/* Called whenever the list changes (for watchers); NULL: nobody. */
void llm_queue_on_change(struct llm *queue, void (*changed)(void *ctx), void *ctx);

#endif
