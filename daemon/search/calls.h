/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that a search makes to a language model, as the fold keeps them: asked, answered, used.
 * An answer is stored before anything is done with it, and a call that was asked is asked again
 * after a restart under the same number until it has one: no answer that had arrived is asked for
 * twice. The texts lie in the events alone. Invariant: calls are numbered 1.. without gaps.
 *
 *     asked -> answered -> used          (lost: the provider gave up; asked again by number)
 *
 * Thread: the search's.
 */
#ifndef KS_SEARCH_CALLS_H
#define KS_SEARCH_CALLS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "llm/llm.h"

struct search;

enum call_kind {
    CALL_INIT,     /* seed the tree */
    CALL_PROPOSE,  /* more to do: edits of the tree */
    CALL_REFINE,   /* a cycle ended with a pass: edits, insights */
    CALL_TOO_HARD, /* a cycle ended without: edits */
    CALL_CODE,     /* write the program of an action */
    CALL_DEBUG,    /* none of this cycle's programs has passed */
    CALL_IMPROVE,  /* one has */
    CALL_SAMPLE,   /* a program from the specification alone: best-of-n */
    CALL_MUTATE,   /* a program from others: evolve */
    CALL_KIND_COUNT
};
/* "init", "propose", "refine", "too_hard", "code", "debug", "improve", "sample", "mutate". */
const char *call_kind_name(enum call_kind k);
enum call_kind call_kind_from_name(const char *name);
/* Planner or coder. */
enum llm_role call_role(enum call_kind k);
/* Is a program the answer? */
bool call_writes(enum call_kind k);

enum { CALL_TRIES_MAX = 3 /* of one question: the first, and repairs with the errors told */ };

struct call {
    uint64_t n; /* from 1 */
    enum call_kind kind;
    int lane;         /* -1 for the search as a whole */
    unsigned attempt; /* 1..CALL_TRIES_MAX: above 1 the answer before was not usable */
    char hash[LLM_HASH_HEX + 1];
    uint64_t seq;    /* of its `asked` event, where the texts are */
    uint64_t cycles; /* of the search when it was asked */
    bool answered, used;
    unsigned lost; /* times that the provider gave up on it */
    json_t *told;  /* ids of the insights that its prompt tells; owned, NULL for none */
    char *answer;  /* NULL until answered; freed once used */
    char model[LLM_MODEL_MAX];
    uint64_t tokens_in, tokens_cached, tokens_out;
    int64_t usd_q;
    double seconds;
    bool estimated;
};

struct calls {
    size_t n, cap;
    struct call *items;
};

void calls_release(struct calls *c);
/* Call n (from 1); NULL when there is none. Borrowed until the next event. */
struct call *calls_get(const struct calls *c, uint64_t n);
/* The first call that is not answered, or not used, after call `after`; NULL when there is none. */
struct call *calls_unanswered(const struct calls *c, uint64_t after);
struct call *calls_unused(const struct calls *c, uint64_t after);

/* The fold of `asked`, `answered` and `unanswered`. ERR_CORRUPT. */
int calls_apply_asked(struct search *s, const json_t *ev, struct err *err);
int calls_apply_answered(struct search *s, const json_t *ev, struct err *err);
int calls_apply_lost(struct search *s, const json_t *ev, struct err *err);

/* A request as the provider wants it, read back from the events; release with call_request_release.
 */
struct call_request {
    struct llm_request req; /* its texts are owned by this struct */
    char id[64];
    json_t *event;           /* owned */
    json_t *system, *prefix; /* events that hold the two texts; owned */
    json_t *schema;          /* owned */
};
/* ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO. Thread: worker, blocks. */
int call_request_read(const struct search *s, const struct call *c, struct call_request *out,
                      struct err *err);
void call_request_release(struct call_request *r);

/* The event of an answer. Fresh. */
json_t *call_answered_event(uint64_t call, const struct llm_answer *a);

#endif
