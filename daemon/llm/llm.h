/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Language models as the search sees them: start a request, be told once, on the loop. A provider
 * answers for a model: an endpoint on the network, whoever answers the queue over the socket, or a
 * recording. Nothing here knows of searches beyond the names it shows. Retry, backoff, circuit
 * breaker and fallback are the provider's; what it reports as failed is over.
 *
 *     start -> under way -> done(answer) | done(error)      exactly once, never from inside start
 *                 \-cancel-> done(ERR_CANCELLED)
 *
 * Thread: loop, all of it, but for llm_request_hash.
 */
#ifndef KS_LLM_LLM_H
#define KS_LLM_LLM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct event_base;

enum {
    LLM_PROMPT_MAX = 1 << 20, /* bytes of one request's texts together */
    LLM_ANSWER_MAX = 1 << 20, /* of an answer; more is refused as ERR_LIMIT */
    LLM_MODEL_MAX = 96,       /* bytes of a model's name, with its NUL */
    LLM_HASH_HEX = 64
};

/* Who is asked: the one that keeps the world model (and has the last try at a program that the
 * coder did not get right), the one that writes programs, the one that repairs a plan's form. */
enum llm_role { LLM_PLANNER, LLM_CODER, LLM_EDITOR, LLM_ROLE_COUNT };
/* "planner", "coder", "editor". */
const char *llm_role_name(enum llm_role role);
/* LLM_ROLE_COUNT when there is none of this name. */
enum llm_role llm_role_from_name(const char *name);

/* One request; borrowed for the length of the start call, the provider copies what it needs. */
struct llm_request {
    const char *id;   /* "s1a2b3c4d5e6.7": search and number of the call; unique in the daemon */
    const char *hash; /* llm_request_hash of this request */
    enum llm_role role;
    const char *kind; /* of the call, "code"; for displays and recordings */
    const char *search, *task;
    unsigned attempt; /* 1..; above 1 the answer before was not usable */
    /* The texts, in the order in which they are sent: what never changes, what is the same for all
     * calls of this search, what is this call's own. The first is the system message. */
    const char *system, *prefix, *prompt;
    /* JSON schema that the answer must fit, and its name; NULL: free text. */
    const char *schema_name;
    const json_t *schema;
    uint64_t max_tokens; /* of the answer; 0: the provider's own */
};

/*
 * What identifies a request in recordings: SHA-256 over kind, attempt, the three texts and the
 * schema's name. Whoever is asked, and by which search, is not in it. Thread: any.
 */
void llm_request_hash(const char *kind, unsigned attempt, const char *system, const char *prefix,
                      const char *prompt, const char *schema_name, char out[LLM_HASH_HEX + 1]);

struct llm_answer {
    const char *text;                              /* borrowed for the call of done */
    const char *model;                             /* who answered, "gpt-5.2", "queue:alice" */
    uint64_t tokens_in, tokens_cached, tokens_out; /* cached ones are among tokens_in */
    bool estimated;                                /* the provider did not count: bytes / 4 */
    int64_t usd_q;  /* cost in millionths of a dollar, by the price table; 0 when free or unknown */
    double seconds; /* from start to answer, retries included */
    unsigned tries; /* requests that were sent */
};

/*
 * `a` is NULL after failure. ERR_UPSTREAM: it may work later; ERR_REFUSED, ERR_INVALID: it works
 * when somebody changes the configuration; ERR_LIMIT: this request is too large, or its answer was
 * cut; ERR_NOT_FOUND: a recording does not have it; ERR_CANCELLED.
 */
typedef void llm_done_fn(void *ctx, const struct llm_answer *a, const struct err *err);

struct llm_job; /* a request under way; valid until its done returns */

struct llm {
    const char *name; /* "openai", "queue", "replay" */
    /* ERR_INVALID, ERR_LIMIT, ERR_CANCELLED (being freed): done is then not called. */
    int (*start)(struct llm *m, const struct llm_request *req, llm_done_fn *done, void *ctx,
                 struct llm_job **out, struct err *err);
    /* Ends it soon; done follows. Harmless when called twice. */
    void (*cancel)(struct llm *m, struct llm_job *job);
    /* For status displays: {pending n, ...}, and what is wrong, if anything, as `trouble`. Owned.
     */
    json_t *(*status)(const struct llm *m);
    /* Calls done as cancelled for all that are left, and frees. Not from a done. */
    void (*free)(struct llm *m);
};

/* NULL is fine. */
void llm_free(struct llm *m);

/* ---- Providers ---- */

struct conf;
struct clock;

/* Endpoints of the configuration (conf rows llm_*): docs/llm.md. ERR_INVALID, ERR_NOT_FOUND (key
 * file), ERR_NOMEM. */
int llm_openai_new(struct event_base *base, const struct conf *conf, const struct clock *clock,
                   struct llm **out, struct err *err);

/* Requests wait until somebody answers them: provider_queue.h has the other side. */
int llm_queue_new(struct event_base *base, const struct clock *clock, struct llm **out,
                  struct err *err);

/* What an answer of a recording is found by: the whole request, or, where that is not there, the
 * task, the number and the kind of the call. */
enum llm_match { LLM_MATCH_HASH, LLM_MATCH_CALL };
/* Answers from a recording (cassette.h). ERR_NOT_FOUND, ERR_INVALID with the line, ERR_IO. Thread:
 * blocks while it reads. */
int llm_replay_new(struct event_base *base, const char *path, enum llm_match match,
                   struct llm **out, struct err *err);

/*
 * Passes through to `inner` (owned from success on) and appends every answer to `path` as a line of
 * a recording, synced before it is passed on; an answer that cannot be kept counts as failed
 * (ERR_IO). What a crash left of a last line is cut off. ERR_IO, ERR_INVALID (there is a file that
 * is no recording). Blocks while it reads what is there.
 */
int llm_record_new(struct llm *inner, const char *path, struct llm **out, struct err *err);

#endif
