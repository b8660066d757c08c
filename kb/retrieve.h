/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retrieval over the insights of a knowledge base: hard filters, BM25, vector search, fusion,
 * expected usefulness and diversity; see docs/retrieval.md. It borrows the insights (through a
 * callback), keeps what searching needs beside them, and owns the snapshot `vectors.faiss`.
 * Thread: the caller's reader-writer lock guards everything: calls marked "write lock" alone, calls
 * marked "read lock" together. Nothing here takes a lock but retrieve_maintain.
 */
#ifndef KS_KB_RETRIEVE_H
#define KS_KB_RETRIEVE_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "embed.h"
#include "insight.h"
#include "record.h"

struct kb_query;
struct retrieve;

enum { RETRIEVE_ANSWER_MAX = 16 << 20 }; /* bytes of an answer: 100 hits have far fewer */

struct retrieve_options {
    const char *dir; /* data folder, exists; holds vectors.faiss */
    /* The insight with this ordinal, never NULL for one that was added; called under the lock that
     * the caller of retrieve_* holds. The pointer stays good until that lock is released. */
    const struct insight *(*insight)(void *ctx, uint32_t ordinal);
    void *insight_ctx;
    void (*notice)(void *ctx, const char *sentence); /* what was survived; may be NULL */
    void *notice_ctx;
};

/* An empty retrieval, loading. Strings are copied. ERR_NOMEM. */
int retrieve_open(const struct retrieve_options *o, struct retrieve **out, struct err *err);
/* Frees; writes nothing. NULL is fine. */
void retrieve_close(struct retrieve *r);

/* Begins to read the snapshot beside what the caller does until retrieve_finish_load; without it
 * that call reads. Write lock. */
void retrieve_preload(struct retrieve *r);

/*
 * Enters the insight number in->ordinal, which must be the count of insights added so far
 * (ERR_INTERNAL else); ordinals follow the claims' sequence numbers, so that an insight has the
 * same one after every restart. Before retrieve_finish_load this is cheap; afterwards the insight
 * is embedded and searchable when this returns. Write lock. ERR_NOMEM.
 */
int retrieve_add(struct retrieve *r, const struct insight *in, struct err *err);
/*
 * Enters an evidence fact with the wall time of its commit, before or after its insight; of one
 * that is there already only `foreign` is taken over. A compact copy is kept: answers and time
 * travel read it. After it (and after every other change of in->state or in->evidence) call
 * retrieve_update for the insights whose evidence list has it. Write lock. ERR_NOMEM.
 */
int retrieve_add_evidence(struct retrieve *r, const struct id *id, const struct evidence *ev,
                          uint64_t recorded_at_ns, struct err *err);
/* Notes when a claim or evidence was withdrawn, for time travel to before it. Write lock.
 * ERR_NOMEM. */
int retrieve_add_retraction(struct retrieve *r, const struct id *target, uint64_t recorded_at_ns,
                            struct err *err);
/* Takes over the state and the evidence list of an insight that was added. Write lock. ERR_NOMEM,
 * ERR_INTERNAL for an unknown ordinal. */
int retrieve_update(struct retrieve *r, const struct insight *in, struct err *err);

/*
 * Ends loading: takes vectors and index from the snapshot; when that is missing, stale, damaged or
 * of another embedding, computes them from the insights and says so to `notice` (a base without
 * insights says nothing). Then queries may begin. Write lock (or before any other thread).
 * ERR_NOMEM.
 */
int retrieve_finish_load(struct retrieve *r, uint64_t last_seq, struct err *err);
/*
 * Writes the snapshot of everything up to sequence number `seq`: temporary, sync, rename, with a
 * checksum. Read lock. ERR_IO, ERR_NOMEM; the old snapshot then stays.
 */
int retrieve_snapshot(const struct retrieve *r, uint64_t seq, struct err *err);

/* Whether retrieve_maintain has work. Read lock. */
bool retrieve_maintain_due(const struct retrieve *r);
/*
 * Trains a new index when the base has doubled since the last one, or adds waiting vectors to the
 * present one. Takes `lock` itself (call it holding nothing): training and adding run outside of
 * it, swapping takes it for writing for microseconds, adding for at most about 2 ms at a time. One
 * call at a time (ERR_CONFLICT). Never needed for right answers, only for fast ones. Thread:
 * worker, blocks up to seconds. ERR_NOMEM, ERR_INTERNAL (faiss failed; the old index stays).
 */
int retrieve_maintain(struct retrieve *r, pthread_rwlock_t *lock, struct err *err);

/*
 * Answers as kb_query documents. Read lock. ERR_INVALID for a limit outside 1..100 or text over
 * 4096 bytes, ERR_NOMEM.
 */
int retrieve_query(const struct retrieve *r, const struct kb_query *q, json_t **out,
                   struct err *err);
/* The same, appended to `out` as text: several times faster. After a failure the end of `out` is
 * not to be used. ERR_LIMIT when it is over the buffer's cap. */
int retrieve_query_text(const struct retrieve *r, const struct kb_query *q, struct buf *out,
                        struct err *err);

enum { RETRIEVE_MODEL_MAX = 160 }; /* bytes of a model's id, with its NUL */

/*
 * Begins to collect vectors of a provider's model beside those that answer now; what was begun
 * before and is not complete is dropped. Nothing happens when it is the one that answers, or is
 * being collected. Write lock. ERR_NOMEM, ERR_INVALID for an empty or long id.
 */
int retrieve_model_begin(struct retrieve *r, const char *model, struct err *err);
/* The first insight that lacks a vector of the model begun last; the count of insights when none
 * does, or none was begun. Read lock. */
uint32_t retrieve_model_missing(const struct retrieve *r);
/*
 * Enters the vectors of insights first .. first + n - 1; `first` is retrieve_model_missing
 * (ERR_CONFLICT else). When every insight has one the model takes over, at once for all queries to
 * come; it stays so when insights are added, which then are found by their words until they have
 * vectors. Write lock. ERR_NOMEM; those entered before stay.
 */
int retrieve_model_put(struct retrieve *r, uint32_t first, const struct embedding *v, size_t n,
                       struct err *err);
/* The provider's model that answers; "" for the built-in one. Read lock. */
const char *retrieve_model_active(const struct retrieve *r);

struct retrieve_stats {
    uint64_t insights, evidence;
    uint64_t vectors_indexed, vectors_pending; /* in the IVF index; searched exactly */
    uint64_t terms, postings;                  /* of the lexical index */
    bool exact;                                /* no IVF index yet */
};
/* Read lock. */
void retrieve_get_stats(const struct retrieve *r, struct retrieve_stats *out);

#endif
