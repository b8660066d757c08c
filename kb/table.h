/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of insights: the fold of all claims, evidence, retractions and links, in memory. Facts
 * may come in any order, each once; evidence, retractions and links for a claim that is not there
 * wait for it. What callers see of an insight changes in table_settle only. Thread: the owner's
 * lock. After ERR_NOMEM the table must be thrown away and folded anew.
 *
 * 1. An entry exists for each claim id that any fact names; `present` when the claim itself came.
 * 2. `own` is the fold of the entry's evidence less the withdrawn.
 * 3. Entries joined by links, or because their claims are alike (alike.h), form a ring through
 *    `next`; `parent` leads to one of them. Sets only grow: a retracted claim still joins others.
 * 4. In a set, the smallest id that is present and not retracted represents it: its insight shows
 *    the sum over such members, the others are superseded by it and show their own evidence.
 */
#ifndef KS_KB_TABLE_H
#define KS_KB_TABLE_H

#include "alike.h"
#include "digest.h"
#include "fold.h"
#include "idmap.h"
#include "insight.h"
#include "schema.h"

struct table_entry {
    struct insight in; /* arrays borrowed from `own` or `merged`; first: the id is the map's key */
    char *text;        /* owned; the claim's texts point into it */
    bool present, retracted, dirty;
    bool lent; /* part of table.lent; its fold's arrays of capacity 0 too */
    struct fold own;
    struct fold *merged; /* owned; of the representative of a set of several */
    struct table_entry *parent, *next, *next_dirty;
    /* For near-duplicates. Follow from the claim: `block` (0: not computed yet) and `embedding`
     * (owned; NULL until its block has two claims). */
    uint64_t block;
    struct embedding *embedding;
    struct table_entry *older; /* the one before in its block */
};

/* Reads one evidence fact; ERR_NOT_FOUND when it has not come yet. */
typedef int table_fetch(void *ctx, const struct id *id, struct evidence *out, struct err *err);

struct table {
    struct idmap entries;
    struct idmap withdrawn; /* of evidence, struct id alone */
    struct names names;
    size_t n, cap; /* insights, by ordinal */
    struct table_entry **by_ordinal;
    struct table_entry *dirty;
    /* Claims below `n_compared` were compared with one another: their sets (parent, next) hold what
     * is alike. Those below `n_blocks` are in `blocks`, a map that is derived from the claims; what
     * restores sets and n_compared may leave it empty. */
    size_t n_compared, n_blocks;
    struct blocks blocks;
    struct alike *alike;
    /* Memory of a snapshot that entries, texts and arrays of folds are part of; NULL for none. */
    uint8_t *lent;
    size_t lent_len;
    table_fetch *fetch; /* how a withdrawal finds evidence that was folded before it */
    void *fetch_ctx;
};

/* An empty table; after a failure (ERR_NOMEM) there is nothing to release. */
int table_init(struct table *t, table_fetch *fetch, void *ctx, struct err *err);
void table_release(struct table *t);

/* `text` is the claim as stored. ERR_INVALID when it cannot be read; the table is as before then.
 */
int table_add_claim(struct table *t, const struct id *id, const struct fact_head *head,
                    const char *text, size_t len, struct err *err);
int table_add_evidence(struct table *t, const struct id *id, const struct evidence *e,
                       struct err *err);
/* Foreign evidence, `e`, became local; nothing for evidence that is not folded. ERR_NOMEM. */
int table_adopt_evidence(struct table *t, const struct id *id, const struct evidence *e,
                         struct err *err);
int table_add_retraction(struct table *t, const struct retraction *r, struct err *err);
int table_add_link(struct table *t, const struct link *l, struct err *err);

/* Brings what callers see up to date; calls `changed` (may be NULL) for each insight that did. */
int table_settle(struct table *t, void (*changed)(void *ctx, struct insight *in), void *ctx,
                 struct err *err);
/* Numbers the insights 0.. by sequence number: for a table that was filled in another order. */
void table_number(struct table *t);

/* NULL when there is no such claim. */
const struct insight *table_get(const struct table *t, const struct id *id);
/* The insight whose id starts with `digits`; NULL when none, or several: then `*ambiguous`. */
const struct insight *table_find(const struct table *t, const char *digits, bool *ambiguous);
/* In id order; NULL at the end. */
const struct insight *table_next(const struct table *t, struct idmap_at *at);

/*
 * Calls fn for each present claim of the set of this one, itself included, in no order of meaning,
 * until it returns non-zero. Nothing when there is no such claim.
 */
void table_each_same(const struct table *t, const struct id *id,
                     int (*fn)(void *ctx, const struct insight *in), void *ctx);

/* Adds every insight to the digest, in id order, without anything local. ERR_NOMEM. */
int table_digest(const struct table *t, struct digest *d, struct err *err);

#endif
