/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans from memory: the best path of a finished search on a near task, and its dead ends, become
 * open and abandoned nodes of a new world, with beliefs discounted by distance. Thread: worker,
 * blocks.
 */
#ifndef KS_SEARCH_GRAFT_H
#define KS_SEARCH_GRAFT_H

#include "kb.h"
#include "search/memory.h"
#include "search/space.h"
#include "search/world_ops.h"

enum {
    GRAFT_DEAD_ENDS_MAX = 4,
    GRAFT_DEAD_DIFFICULTY = 5 /* of a dead end too far away to forbid: it is only made unlikely */
};

/*
 * Appends inserts for the best finished search of memory's nearest source that has one, node ids
 * numbered from `next_id` on. `seeds` (an array) gets {"plan": search id, "from", "similarity",
 * "nodes"}. Finding nothing is no error.
 */
int graft_plans(struct kb *kb, const struct memory *m, const struct space *space, uint32_t next_id,
                struct world_edit *edit, json_t *seeds, struct err *err);

#endif
