/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of struct kb, shared by the files that implement kb.h.
 *
 * Locks, in this order: `commit` serialises writers from numbering to folding, `lock` guards the
 * table and retrieval and is held for writing only while derived state changes, never during a disk
 * sync. The store needs neither. While `stale` is set, derived state is behind the facts (memory
 * ran out in the middle of folding) and kb_refresh must succeed before anyone reads it.
 */
#ifndef KS_KB_KB_IMPL_H
#define KS_KB_KB_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "folder.h"
#include "kb.h"
#include "origin.h"
#include "retrieve.h"
#include "table.h"

enum { BATCH_BYTES_MAX = 256 << 20 };

struct kb {
    struct folder folder;
    struct store *store; /* of the folder */
    char *dir;
    const struct clock *clock;
    void (*notice)(void *ctx, const char *sentence);
    void *notice_ctx;
    bool sync;

    pthread_mutex_t commit;
    uint64_t last_wall_ns;          /* of a commit; under `commit` */
    char model[RETRIEVE_MODEL_MAX]; /* kb_embedding_begin's; under `lock` */
    bool models_swept; /* vectors of other models were deleted; the embedding worker's */
    bool has_foreign;  /* CF_ORIGIN has entries; under `commit` */
    uint64_t adopted;  /* META_ADOPTED; under `commit` */

    pthread_rwlock_t lock;
    struct table table;
    struct retrieve *retrieve;
    uint32_t n_retrievable;     /* ordinals that retrieval was given */
    _Atomic bool snapshot_due;  /* retrieval differs from its snapshot */
    uint64_t facts[FACT_COUNT]; /* stored */
    _Atomic uint64_t last_seq;
    _Atomic bool stale;

    /* Of the snapshot of derived state on disk: whether it is good, and what it is of. */
    bool snapshot_good;
    uint64_t snapshot_seq, snapshot_adopted;
    /* A damaged fact was not folded, or the insights are not what the facts add up to: no snapshot
     * hides that from the next opening. */
    _Atomic bool left_out;
};

enum batch_type { BATCH_PUT, BATCH_DELETE, BATCH_EVENT, BATCH_FACT };

/* Offsets are into the batch's bytes. */
struct batch_op {
    enum batch_type type;
    enum schema_cf cf;
    enum fact_kind kind; /* of a fact */
    struct id id;        /* of a fact */
    bool skip;           /* a fact that is there already */
    bool adopt;          /* ... and was foreign: it becomes local */
    struct fact_head head;
    size_t key, key_len;
    size_t text, text_len;
    size_t task, device, device_len; /* of an evaluation: for CF_EVALUATED */
    size_t origin, origin_len;       /* of a fact; length 0 for a local one */
};

struct kb_batch {
    struct kb *kb;
    struct buf bytes;
    size_t n, cap;
    struct batch_op *ops;
    char origin[ORIGIN_MAX + 1]; /* of the facts to come; "" for none */
    uint64_t sync_ns;
};

/* Says something that was survived. */
void kb_notice(struct kb *kb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Reads one evidence fact for a table; `ctx` is the store. */
int load_evidence(void *ctx, const struct id *id, struct evidence *out, struct err *err);
/*
 * Folds one stored fact into the table, and into retrieval unless `r` is NULL. `scratch` is work
 * space for several calls. After ERR_INVALID (damaged text) both are as before.
 */
int fold_fact(struct table *t, struct retrieve *r, struct buf *scratch, enum fact_kind kind,
              const struct id *id, const struct fact_head *head, const char *text, size_t len,
              struct err *err);
/* Reads the newest number, and the wall time of its commit: later commits are not before it. */
int load_last(struct kb *kb, struct err *err);
/*
 * Folds all stored facts into `t`, which is empty, and numbered and settled afterwards; evidence
 * and retractions go to `r` too, unless it is NULL. A damaged record is left out with a notice.
 * `counts` gets the facts per kind but evaluations.
 */
int load_table(struct kb *kb, struct retrieve *r, struct table *t, uint64_t counts[FACT_COUNT],
               struct err *err);
/*
 * Folds the stored facts after number `seq` on top of what is folded, retrieval included, adds them
 * to `counts`, and settles the table. ERR_IO, ERR_NOMEM; ERR_CORRUPT or ERR_INVALID for a damaged
 * one: all must be folded anew then, which leaves it out.
 */
int load_tail(struct kb *kb, uint64_t seq, uint64_t counts[FACT_COUNT], struct err *err);
/* Takes over the counts of load_table; the rest up to last_seq are evaluations: numbers have no
 * gaps. */
void load_counts(struct kb *kb, const uint64_t counts[FACT_COUNT]);
/* Gives retrieval the insights it does not have yet, in order. */
int load_retrieve(struct kb *kb, struct err *err);
/* Folds anew when derived state is stale; then it is not, or this fails. No lock held. */
int kb_refresh(struct kb *kb, struct err *err);

/* Settles the table and tells retrieval what changed. ERR_NOMEM. */
int fold_settle(struct kb *kb, struct err *err);
/* Makes the derived state show facts that were stored. `lock` held for writing. */
int fold_batch(struct kb *kb, const struct kb_batch *b, struct err *err);

#endif
