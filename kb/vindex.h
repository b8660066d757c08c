/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nearest neighbours among embeddings by cosine. All vectors are searched exactly while they are
 * few. Once they are many, faiss clusters them (IVF: k-means, and its quantizer finds the lists
 * near a query), and the byte vectors of those lists are compared with exact integer products: a
 * quarter of the memory of float lists, and so four times the lists for the same time. Vectors not
 * in lists yet are searched exactly. The only C user of faiss. Thread: the owner's reader-writer
 * lock; searches may run together.
 */
#ifndef KS_KB_VINDEX_H
#define KS_KB_VINDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "embed.h"

enum {
    VINDEX_IVF_MIN = 20000, /* vectors from which lists are made */
    VINDEX_PROBES = 64,     /* lists visited when nothing is filtered */
    VINDEX_EXACT_MAX = 2000 /* vectors that a filter lets pass up to which its search is exact */
};

struct vindex;
struct vindex_build;

struct vindex_hit {
    uint32_t number;
    float score; /* cosine */
};

struct vindex *vindex_new(void); /* NULL when memory is out */
void vindex_free(struct vindex *v);

/* Makes sure that the next vindex_add cannot fail. ERR_NOMEM, ERR_LIMIT above 2^30. Write lock. */
int vindex_reserve(struct vindex *v, struct err *err);
/* Adds the next vector; searched from now on. ERR_NOMEM, ERR_LIMIT above 2^30. Write lock. */
int vindex_add(struct vindex *v, const struct embedding *e, struct err *err);
uint32_t vindex_count(const struct vindex *v);
/* How many of them are in lists; 0 while there are none. */
uint32_t vindex_indexed(const struct vindex *v);
/* Borrowed, never moved. */
const struct embedding *vindex_get(const struct vindex *v, uint32_t number);
/* Cosine of the query and one vector. */
float vindex_score(const struct vindex *v, const struct embedding *q, uint32_t number);

/*
 * The k nearest to `q` among those whose bit is set in `allowed` (NULL: all), best first, equal
 * scores by number; none for an all-zero query. `*n` gets how many were written to out[k]. With
 * `exact`, and when at most VINDEX_EXACT_MAX are allowed, the lists are not used. Read lock.
 * ERR_NOMEM, ERR_INTERNAL when faiss fails.
 */
int vindex_search(const struct vindex *v, const struct embedding *q, size_t k,
                  const uint64_t *allowed, bool exact, struct vindex_hit *out, size_t *n,
                  struct err *err);

/* Whether a new index should be trained: none yet, or twice the vectors it was trained for. */
bool vindex_build_due(const struct vindex *v);
/* Takes note of the vectors there are. Read lock. ERR_NOMEM. */
int vindex_build_begin(const struct vindex *v, struct vindex_build **out, struct err *err);
/* Trains and fills a new index. No lock: vectors never move. Seconds. ERR_NOMEM, ERR_INTERNAL. */
int vindex_build_run(struct vindex_build *b, struct err *err);
/* Puts the new index in place; the old one goes into the build, to be freed with it. Write lock. */
void vindex_build_swap(struct vindex *v, struct vindex_build *b);
void vindex_build_free(struct vindex_build *b); /* NULL is fine */
/* Indexes at most `max` waiting vectors; does nothing without an index. Write lock. ERR_NOMEM,
 * ERR_INTERNAL (what was not indexed goes on waiting). */
int vindex_catch_up(struct vindex *v, uint32_t max, struct err *err);

/* Writes vectors and index at the file's position; reads them back. A file without good vectors is
 * ERR_CORRUPT. ERR_IO, ERR_NOMEM. Read lock. */
int vindex_write(const struct vindex *v, FILE *f, struct err *err);
int vindex_read(FILE *f, struct vindex **out, struct err *err);

#endif
