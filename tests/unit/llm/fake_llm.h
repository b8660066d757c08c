/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An endpoint of language models in threads of its own that answers by a script (one reply for each
 * request in the order of their coming, the last one from then on) or by a function. It does what
 * well-behaved mock servers do not: breaks off, drips, says nothing, repeats what it was sent.
 * Thread: any.
 */
#ifndef KS_TESTS_FAKE_LLM_H
#define KS_TESTS_FAKE_LLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_reply {
    int status;          /* 0: closes without a word */
    const char *headers; /* more of them, each with "\r\n"; may be NULL */
    const char *body;    /* a stream when it begins with "data:", "event:" or ":" */
    size_t piece;        /* bytes sent at a time; 0: all */
    unsigned pause_ms;   /* between pieces */
    bool breaks;         /* closes where the end of the body should be announced */
    bool holds;          /* keeps the connection open at the end, without announcing it */
    bool silent;         /* nothing at all, connection open */
};

struct fake_llm;

/*
 * Makes the reply to one request, in a thread of that request's own; it may wait. A text that
 * `out->body` points to may be handed over in *owned, which is freed when it is sent.
 */
typedef void fake_llm_fn(void *ctx, const char *head, const char *body, struct fake_reply *out,
                         char **owned);

/* Fails the test when no port is free. */
struct fake_llm *fake_llm_start(void);
/* The same over TLS; its own authority's certificate is written to `ca_file`. */
struct fake_llm *fake_llm_start_tls(const char *ca_file);
void fake_llm_stop(struct fake_llm *f);
/* "http://127.0.0.1:41234"; borrowed. */
const char *fake_llm_url(const struct fake_llm *f);
/* `replies` and their texts must live as long as it is used. Starts the count of requests anew. */
void fake_llm_script(struct fake_llm *f, const struct fake_reply *replies, size_t n);
/* Replies are what `fn` makes of requests, instead of a script. Starts the count anew as well. */
void fake_llm_think(struct fake_llm *f, fake_llm_fn *fn, void *ctx);
/* Requests since fake_llm_script; how many were open at a time at most. */
size_t fake_llm_requests(struct fake_llm *f);
size_t fake_llm_most_open(struct fake_llm *f);
/* Head and body of a request, and when it came (monotonic). Borrowed until fake_llm_script. */
const char *fake_llm_head(struct fake_llm *f, size_t i);
const char *fake_llm_body(struct fake_llm *f, size_t i);
uint64_t fake_llm_time_ns(struct fake_llm *f, size_t i);

#endif
