/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to an OpenAI-compatible embeddings service: POST {url}/v1/embeddings with model,
 * input[] and, where asked for, dimensions; data[].embedding comes back. It blocks, on a worker;
 * llm/http.h is for requests on the loop.
 * The key is sent to the service and appears nowhere else. Thread: a client belongs to its caller;
 * the parser any.
 */
#ifndef KS_DAEMON_EMBEDDING_OPENAI_H
#define KS_DAEMON_EMBEDDING_OPENAI_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "embed.h"

struct openai_config {
    const char *url;     /* "http://127.0.0.1:8080", with or without "/v1"; borrowed */
    const char *model;   /* borrowed */
    const char *key;     /* "" for none; borrowed */
    uint64_t dimensions; /* asked of the service, and required; 0: as many as it gives */
};

/* What came of a request that failed. */
enum openai_fault {
    OPENAI_LATER,   /* down, busy or slow: the same may work later */
    OPENAI_REFUSED, /* key, model or address are wrong: it works when somebody changes them */
    OPENAI_INPUT    /* it does not take these texts (too long, too many) */
};

struct openai_client; /* a connection that is kept open between requests */

struct openai_client *openai_client_new(void);    /* NULL when memory is out */
void openai_client_free(struct openai_client *c); /* NULL is fine */

/*
 * Embeds n texts into out[n]. Blocks for at most `timeout_s`; `*stop` (may be NULL) set true by
 * somebody ends it early (ERR_CANCELLED). `*dim` is how many numbers a vector had before, 0 when it
 * is not known yet; it is set. ERR_UPSTREAM with a sentence that names the service's address and
 * what it said, and `*fault`; ERR_NOMEM. Thread: worker.
 */
int openai_embed(struct openai_client *c, const struct openai_config *config,
                 const char *const *texts, size_t n, double timeout_s, const atomic_bool *stop,
                 size_t *dim, struct embedding *out, enum openai_fault *fault, struct err *err);

/* Reads the body of a good answer; as above. ERR_UPSTREAM. */
int openai_parse(const char *body, size_t len, size_t n, size_t *dim, struct embedding *out,
                 struct err *err);

#endif
