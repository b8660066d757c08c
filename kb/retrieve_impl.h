/* SPDX-License-Identifier: Apache-2.0 */
/* What retrieve.c (life and snapshot) and retrieve_query.c (answers) share; for them alone. */
#ifndef KS_KB_RETRIEVE_IMPL_H
#define KS_KB_RETRIEVE_IMPL_H

#include <stdatomic.h>

#include "evtable.h"
#include "facet.h"
#include "lexical.h"
#include "retrieve.h"
#include "text.h"
#include "vindex.h"
#include "vocab.h"

enum { RETRIEVE_RETIRED_MAX = 4 };

/* Vectors of a model other than the built-in one, by ordinal from 0 on; `vectors` NULL: none. */
struct retrieve_model {
    char name[RETRIEVE_MODEL_MAX];
    struct vindex *vectors;
};

/* One row an insight, by ordinal. */
struct retrieve_doc {
    uint64_t id_lead; /* the first 16 digits of its address */
    uint64_t recorded_at_ns;
    uint32_t technique, family, requires; /* value numbers in the facets */
    float gain;                           /* usefulness over all cells, in [0, 1] */
    enum insight_state state;
};

/* What vectors.faiss holds, before it is known to fit. */
struct retrieve_preload {
    bool running; /* `thread` is to be joined */
    pthread_t thread;
    struct snapshot_head *head; /* owned */
    struct lexical *lexical;
    struct vindex *vectors;
    int rc;
    struct err why;
};

struct retrieve {
    struct retrieve_options options;
    char *dir; /* owned; options.dir points to it */
    bool loading;
    struct retrieve_doc *docs;
    uint32_t n_docs;
    size_t cap_docs;
    struct facet technique, family, requires; /* technique by canonical name */
    struct symbols technique_raw;             /* as claims spell it */
    uint32_t *technique_of_raw;               /* facet value of each spelling */
    size_t cap_raw;
    struct bitset *devices; /* insights with evidence on a device, by evtable's name number */
    size_t n_devices;
    struct bitset retracted, superseded;
    struct evtable *evidence;
    struct lexical *lexical;
    struct vindex *vectors; /* of the built-in model */
    /* A provider's model: the one that answers, and the one that is to take its place. */
    struct retrieve_model active, next;
    struct vindex *retired[RETRIEVE_RETIRED_MAX]; /* replaced while they were maintained */
    struct text *text;                            /* the writer's */
    struct retrieve_preload preload;              /* until it is loaded */
    atomic_bool maintaining;
    pthread_mutex_t pool_lock;
    struct retrieve_scratch *pool; /* scratch memory of queries, to be used again */
};

/* Terms that stand for a vocabulary technique in documents and queries. */
uint64_t retrieve_concept_term(const char *technique);
/* Posterior gain x confidence, in [0, 1]. */
double retrieve_gain(const struct insight_effect *e);
/* Frees the vectors of providers' models. */
void retrieve_model_release(struct retrieve *r);
/* Frees the pool. */
void retrieve_scratch_free_all(struct retrieve_scratch *s);

/* Writes a snapshot whose head names another embedding model: for the tests of that case. */
int retrieve_snapshot_as(const struct retrieve *r, uint64_t seq, const char *model,
                         struct err *err);

struct kb_query;

/* Two bit sets of a query; words hold (n_docs + 63) / 64 each. */
struct filter {
    uint64_t *pass; /* insights that every filter lets pass */
    uint64_t *one;  /* work space for one filter */
    uint32_t n_pass;
};
/*
 * Fills `f->pass`, whose two arrays the caller provides, and enters into `removed` how many
 * insights of the base each filter removes, counted alone. ERR_NOMEM.
 */
int filter_apply(const struct retrieve *r, const struct kb_query *q, struct filter *f,
                 json_t *removed, struct err *err);
/*
 * Calls fn for each row of evidence that counts for the insight at this wall time (0: now), until
 * it returns non-zero, which is then returned. Each row once.
 */
int retrieve_each_row(const struct retrieve *r, const struct insight *in, uint64_t as_of_ns,
                      int (*fn)(void *ctx, uint32_t row), void *ctx);

#endif
