/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The knowledge base: facts, local documents and event logs in RocksDB, derived insights in memory,
 * lexical and vector indexes beside them. One process opens a folder at a time. A batch collects
 * writes; kb_commit makes them durable in one synced write and only then shows them. Thread: any
 * (readers share, a commit excludes); all but batch building blocks.
 */
#ifndef KS_KB_KB_H
#define KS_KB_KB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "embed.h"
#include "insight.h"
#include "record.h"
#include "regime.h"

struct kb;
struct kb_batch;

struct kb_options {
    const char *dir;           /* data folder; made when missing */
    const struct clock *clock; /* borrowed */
    /* Called with a sentence about something survived ("vector snapshot damaged, rebuilt from
     * ..."). May be NULL. */
    void (*notice)(void *ctx, const char *sentence);
    void *notice_ctx;
    bool sync; /* fsync at commit; false only for benchmarks and tests */
};

/*
 * Opens or creates. ERR_CONFLICT when another process holds the folder, ERR_CORRUPT when stored
 * data are damaged beyond what can be rebuilt, ERR_REFUSED when the schema is newer than this
 * program, ERR_IO else.
 */
int kb_open(const struct kb_options *o, struct kb **out, struct err *err);
/* Writes the snapshots that are worth it and closes. NULL is fine. */
void kb_close(struct kb *kb);

/* Local documents: one JSON object per key, replaced as a whole. */
enum kb_doc { KB_TASK, KB_DEVICE, KB_PROGRAM, KB_SEARCH, KB_SIDE, KB_DOC_COUNT };

struct kb_batch *kb_batch_new(struct kb *kb);
void kb_batch_free(struct kb_batch *b); /* NULL is fine; drops what was not committed */
/* All kb_batch_* borrow their arguments. They return -1 only for ERR_NOMEM and ERR_INVALID. */
int kb_batch_put_doc(struct kb_batch *b, enum kb_doc kind, const char *key, const json_t *doc,
                     struct err *err);
int kb_batch_delete_doc(struct kb_batch *b, enum kb_doc kind, const char *key, struct err *err);
/* Event `seq` of a search; committing an existing number is ERR_CONFLICT. */
int kb_batch_add_event(struct kb_batch *b, const char *search, uint64_t seq, const json_t *event,
                       struct err *err);
/* Facts: adding one that is there changes nothing. `*id` (may be NULL) gets the content address. */
int kb_batch_add_evaluation(struct kb_batch *b, const struct evaluation *e, struct id *id,
                            struct err *err);
int kb_batch_add_claim(struct kb_batch *b, const struct claim *c, struct id *id, struct err *err);
int kb_batch_add_evidence(struct kb_batch *b, const struct evidence *e, struct id *id,
                          struct err *err);
int kb_batch_add_retraction(struct kb_batch *b, const struct retraction *r, struct id *id,
                            struct err *err);
int kb_batch_add_link(struct kb_batch *b, const struct link *l, struct id *id, struct err *err);
/* The same for a fact as JSON: what kb_each_fact gave, here or elsewhere. ERR_INVALID names the
 * field. */
int kb_batch_add_fact(struct kb_batch *b, enum fact_kind kind, const json_t *fact, struct id *id,
                      struct err *err);
/*
 * Facts added to the batch from now on come from `origin`: a name of at most 128 bytes, such as the
 * fingerprint of a key; NULL or "" is this base itself, as in a new batch. It stays set over
 * commits. A fact that is stored already keeps the origin that it has, but one from elsewhere that
 * is then added without origin becomes local. Origins are local knowledge: they are in no content
 * address and no digest. ERR_INVALID for a long name, control characters or text that is no UTF-8.
 */
int kb_batch_set_origin(struct kb_batch *b, const char *origin, struct err *err);
/* One synced write; then derived state and indexes. The batch is empty afterwards, also after
 * failure. */
int kb_commit(struct kb_batch *b, struct err *err);
/* Nanoseconds that the last successful commit of this batch object waited for the disk. */
uint64_t kb_batch_sync_ns(const struct kb_batch *b);

/* Reads. ERR_NOT_FOUND when there is none; `*out` is the caller's. */
int kb_get_doc(struct kb *kb, enum kb_doc kind, const char *key, json_t **out, struct err *err);
/* Calls fn for each document in key order until it returns non-zero. */
int kb_each_doc(struct kb *kb, enum kb_doc kind,
                int (*fn)(void *ctx, const char *key, const json_t *doc), void *ctx,
                struct err *err);
int kb_each_event(struct kb *kb, const char *search, uint64_t from_seq,
                  int (*fn)(void *ctx, uint64_t seq, const json_t *event), void *ctx,
                  struct err *err);
int kb_get_evaluation(struct kb *kb, const struct id *id, struct evaluation *out, struct err *err);
/* Evaluations of a task on a device (NULL: any device) with local sequence number <= max_seq, in
 * sequence order. */
int kb_each_evaluation(struct kb *kb, const char *task, const char *device, uint64_t max_seq,
                       int (*fn)(void *ctx, uint64_t seq, const struct id *id,
                                 const struct evaluation *e),
                       void *ctx, struct err *err);
/* The same from a sequence number on: what was stored since a reader last looked. */
int kb_each_evaluation_since(struct kb *kb, const char *task, const char *device, uint64_t from_seq,
                             uint64_t max_seq,
                             int (*fn)(void *ctx, uint64_t seq, const struct id *id,
                                       const struct evaluation *e),
                             void *ctx, struct err *err);
int kb_get_evidence(struct kb *kb, const struct id *id, struct evidence *out, struct err *err);
enum { KB_ORIGIN_MAX = 128 };
/* Where a fact of any kind came from; "" when it was made here or is not stored. ERR_CORRUPT,
 * ERR_IO. */
int kb_fact_origin(struct kb *kb, const struct id *id, char out[KB_ORIGIN_MAX + 1],
                   struct err *err);
/* Calls fn for each fact with a sequence number of at least `from_seq`, in sequence order, until it
 * returns non-zero: what exporting, merging and following need. */
int kb_each_fact(struct kb *kb, uint64_t from_seq,
                 int (*fn)(void *ctx, uint64_t seq, enum fact_kind kind, const struct id *id,
                           const json_t *fact),
                 void *ctx, struct err *err);
/* Sequence number of the newest committed fact; 0 in an empty base. */
uint64_t kb_last_seq(struct kb *kb);

/* Calls fn for each insight in id order under the read lock, until it returns non-zero; do not call
 * kb_* from fn. -1 only when memory for refolding is out; `notice` says so. */
int kb_each_insight(struct kb *kb, int (*fn)(void *ctx, const struct insight *in), void *ctx);
/* A copy of one insight by full id or unambiguous prefix of at least 6 digits; release with
 * insight_release. */
int kb_get_insight(struct kb *kb, const char *id, struct insight *out, struct err *err);

/* The same for each claim of this one's same-as set, itself included: those that links and
 * near-duplicates join. Nothing when there is no such claim. */
int kb_each_same(struct kb *kb, const struct id *id, int (*fn)(void *ctx, const struct insight *in),
                 void *ctx);

struct kb_stats {
    uint64_t facts[FACT_COUNT];
    uint64_t docs[KB_DOC_COUNT];
    uint64_t insights, last_seq, bytes_on_disk, vectors_indexed, vectors_pending;
    uint32_t schema;
    bool index_exact; /* exact search, no IVF yet */
};
/* Counts documents by walking their keys: milliseconds per ten thousand. */
int kb_get_stats(struct kb *kb, struct kb_stats *out, struct err *err);
/*
 * Reads everything back: parses every record, recomputes every content address, refolds the
 * insights and compares. Problems are appended to `problems` (an array of sentences). `digest` gets
 * the SHA-256 over facts' ids and derived state.
 */
int kb_verify(struct kb *kb, json_t *problems, struct id *digest, struct err *err);

/*
 * Copies the whole base, as it is after the last commit, into the folder `dir`, which must not
 * exist (ERR_CONFLICT); the copy is a base of its own that kb_open opens, with the same identity.
 * Commits go on meanwhile. ERR_IO. Thread: worker, blocks.
 */
int kb_backup(struct kb *kb, const char *dir, struct err *err);

/* ---- Retrieval ---- */

struct kb_query {
    const char *text; /* may be "" */
    const char *task; /* definition name, NULL for any */
    const char
        *family; /* hard filter on scope; NULL for any (a claim of family "" always passes) */
    const char *device_class; /* for the posterior and the expected usefulness; NULL for any */
    const char *device;       /* hard filter: evidence on this device; NULL for any */
    const char *shape;        /* shape regime of `task`; NULL when unknown */
    const char *features;     /* hardware features present, comma-separated; NULL: not filtered */
    const char *technique;    /* hard filter; synonyms are resolved; NULL for any */
    /* Shape regime asked about, for ranking; NULL: what the text says. */
    const struct regime *regime;
    /* The regime of a task that was measured, false when the task is not known; NULL: its stored
     * shape is all there is. Called under the read lock. */
    bool (*task_regime)(void *ctx, const char *task, struct regime *out);
    void *task_regime_ctx;
    /* Context features of the place asked about, by name to number, for learned conditions; NULL.
     */
    const json_t *context;
    /* Families whose claims pass the family filter too, comma-separated, and rank lower; NULL. */
    const char *related;
    /* The text embedded by kb_embedding_stats.active; NULL: the built-in model is used, and the
     * answer says so when `note` says why. */
    const struct embedding *vector;
    const char *note;  /* a sentence for notes[] of the answer; NULL for none */
    uint64_t as_of_ns; /* only facts committed at or before this wall time; 0: now */
    size_t limit;      /* 1..100 */
    bool explain;
};
/*
 * Answers as product JSON: {hits[{insight, statement, technique, scope{}, condition, when{feature,
 * op, value, helps} or null, contradicted, effect{mean, sd, p_positive, n, cell, blind, steered,
 * blind_mean or null, foreign, levels[4], holds or null, side_n}, blind, steered, failures,
 * failure_classes{class: n}, state, score, why[], evidence[]}], removed{filter: n}, took_us}.
 * effect{} is a struct insight_effect, when{} a struct insight_condition. evidence[] holds at most
 * 8 items {id, task, device, device_class, shape, toolchain, effect, sd, steered, failure,
 * measured_at, with, without}, newest first; with explain each hit has ranks{lexical, vector,
 * fused, usefulness} and the answer understood{profile, shape, techniques[], embedding}; notes[] is
 * there when the asker gave one, or when no hit has evidence near the shape asked about.
 * ERR_INVALID for a bad limit.
 */
int kb_query(struct kb *kb, const struct kb_query *q, json_t **out, struct err *err);
/* The same, appended to `out` as text, several times faster; after a failure the end of `out` is
 * not to be used. */
int kb_query_text(struct kb *kb, const struct kb_query *q, struct buf *out, struct err *err);
/*
 * The same where nobody may wait: 1, and nothing written, when a commit holds the insights, when
 * they must be folded anew first, or when the answer may take more than a few milliseconds (time
 * travel, a base of over 300 000 insights). Thread: any, does not block.
 */
int kb_query_now(struct kb *kb, const struct kb_query *q, struct buf *out, struct err *err);

/* ---- Vectors of another embedding model ---- */

/*
 * A provider's vectors are kept beside the built-in ones, which go on answering until every claim
 * has one of the provider's; then those answer, from one query to the next. They are stored (in
 * this folder alone) as they come, so that what was embedded once is never asked for again. Who
 * embeds is not the base's business: the caller takes a job, embeds its texts, gives the vectors.
 */
struct kb_embedding_stats {
    char model[160];  /* being collected or complete; "" for the built-in one alone */
    char active[160]; /* what answers; "" for the built-in one */
    uint64_t embedded, total;
};

struct kb_embedding_job {
    char model[160];
    uint32_t first; /* number of the first insight */
    size_t n;
    struct id *ids;
    char **texts;
};

/* Begins with a model, once or whenever it changes. ERR_NOMEM, ERR_INVALID for a long id. */
int kb_embedding_begin(struct kb *kb, const char *model, struct err *err);
/*
 * The next claims without a vector, at most `max`, after those whose vectors are stored were taken
 * from there; n is 0 when none is left. Release with kb_embedding_job_release. Thread: worker,
 * blocks, one at a time. ERR_NOMEM, ERR_IO, ERR_CORRUPT.
 */
int kb_embedding_next(struct kb *kb, size_t max, struct kb_embedding_job *out, struct err *err);
/* Stores vectors[n] of a job in one synced write, and enters them. Thread: worker, blocks. ERR_IO,
 * ERR_NOMEM, ERR_CONFLICT when another model was begun meanwhile. */
int kb_embedding_put(struct kb *kb, const struct kb_embedding_job *job,
                     const struct embedding *vectors, struct err *err);
void kb_embedding_job_release(struct kb_embedding_job *job);
void kb_embedding_get_stats(struct kb *kb, struct kb_embedding_stats *out);

/*
 * Keeps queries fast as the base grows: trains or extends the vector index (retrieve_maintain).
 * When kb_maintain_due says so, call kb_maintain from a worker, one at a time (ERR_CONFLICT); it
 * blocks up to seconds, readers and commits go on. ERR_NOMEM, ERR_INTERNAL; the old index then
 * stays.
 */
bool kb_maintain_due(struct kb *kb);
int kb_maintain(struct kb *kb, struct err *err);

#endif
