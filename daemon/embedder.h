/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedding provider of the configuration: embeds the knowledge base's claims in the background
 * and a question's text when it is asked. Whatever the provider does, queries are answered: the
 * built-in vectors are always there.
 *
 *     waiting --a second, or the back-off--> working --claims left--> working
 *        ^---------nothing left, or it failed (1, 2, 4 ... 60 s)--------/
 */
#ifndef KS_DAEMON_EMBEDDER_H
#define KS_DAEMON_EMBEDDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "embed.h"

struct daemon;
struct embedder;

enum { EMBEDDER_NOTE_MAX = 640 };

/*
 * With `embedding = openai`: reads the key and begins; `*out` is NULL with `embedding = builtin`.
 * ERR_INVALID, ERR_IO, ERR_NOT_FOUND for the key's file, ERR_NOMEM. Thread: loop, before workers
 * have work.
 */
int embedder_open(struct daemon *d, struct embedder **out, struct err *err);
/* Begins nothing more and breaks off what is being asked. NULL is fine. Thread: loop. */
void embedder_stop(struct embedder *e);
/* After the pool has ended. NULL is fine. */
void embedder_free(struct embedder *e);

/* Whether questions are to be put to the provider (embedder_query): its vectors are complete. NULL:
 * no. Thread: any. */
bool embedder_answers(struct embedder *e);
/*
 * Embeds a question: true with the vector in `out`; false with a sentence in `note` that says why
 * the built-in vectors are used. Waits for at most the option embedding_query_wait; after a failure
 * the provider is left alone for a while. Thread: worker, blocks.
 */
bool embedder_query(struct embedder *e, const char *text, struct embedding *out,
                    char note[EMBEDDER_NOTE_MAX]);

/* {provider, model, active, embedded, total, failure}: `failure` is the last sentence, "" when all
 * is well. Owned. Thread: loop. */
json_t *embedder_status(struct embedder *e);

#endif
