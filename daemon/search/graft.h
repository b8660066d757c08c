/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans from memory: of the best finished search of each of the nearest tasks and devices, the
 * structures that came near its best become open nodes of a new world, merged where searches agree,
 * with beliefs discounted by distance and the evidence told. Dead ends go along: near by they are
 * dead here too, from farther away they only make a choice unlikely. Thread: worker, blocks.
 */
#ifndef KS_SEARCH_GRAFT_H
#define KS_SEARCH_GRAFT_H

#include "kb.h"
#include "search/memory.h"
#include "search/space.h"
#include "search/world_ops.h"

enum {
    GRAFT_DONORS_MAX = 3,
    GRAFT_NODES_MAX = 16,     /* of one donor */
    GRAFT_DEAD_ENDS_MAX = 4,  /* of one donor */
    GRAFT_DEAD_DIFFICULTY = 5 /* of a dead end too far away to forbid: it is only made unlikely */
};
#define GRAFT_NEAR_BEST 0.2 /* ln: how near its best a structure came that is copied */
#define GRAFT_FORBIDS 0.75  /* least similarity at which a dead end is dead here too */

/* The best finished search of a source. */
struct graft_donor {
    const struct memory_source *source; /* borrowed */
    char id[64];                        /* "" for a source that has none */
    double objective;
};

/* The donors of all sources, in their order, into out[MEMORY_SOURCES_MAX]; *n is how many sources
 * there are. `imported`: runs of other programs too; they commit to no tunables, so that a plan of
 * words alone comes of them. ERR_IO, ERR_CORRUPT. */
int graft_find_donors(struct kb *kb, const struct memory *m, bool imported, struct graft_donor *out,
                      size_t *n, struct err *err);
/* The tree of a stored search; the caller frees it. ERR_IO, ERR_CORRUPT. */
int graft_fold_world(struct kb *kb, const char *search, struct world **out, struct err *err);

/*
 * Appends inserts, node ids numbered from `next_id` on. `seeds` (an array) gets {"plan": search id,
 * "from", "similarity", "nodes", "merged", "dead_ends"} for each donor. Finding nothing is no
 * error. ERR_IO, ERR_CORRUPT.
 */
int graft_plans(struct kb *kb, const struct memory *m, const struct space *space, uint32_t next_id,
                struct world_edit *edit, json_t *seeds, struct err *err);

#endif
