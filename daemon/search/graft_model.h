/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans from memory for a search that a language model plans: what came near the best in finished
 * searches of near tasks, and what was a dead end there, as open nodes in plain words. Spaces
 * differ, so nothing is committed; a node of a numeric search is described by what its program says
 * of its tunables. They are found at the start, stored, and planted once the model has planted its
 * own tree. Thread: worker, blocks.
 */
#ifndef KS_SEARCH_GRAFT_MODEL_H
#define KS_SEARCH_GRAFT_MODEL_H

#include <jansson.h>

#include "kb.h"
#include "search/memory.h"
#include "search/world_ops.h"

enum {
    GRAFT_MODEL_NODES_MAX = 8, /* in all */
    GRAFT_MODEL_DEAD_MAX = 2   /* dead ends among them */
};
/* Titles of nodes that measure a program from memory begin so; they are no plans. */
#define GRAFT_MODEL_ADOPTED "adopted: "

/*
 * The plans of at most GRAFT_DONORS_MAX donors among the sources, nearest first, as the stored
 * array [{title, description, rationale, search, from, similarity, rating, confidence, difficulty,
 * score, expected and expected_sd, or dead: why}], merged by what their titles say. ERR_IO,
 * ERR_CORRUPT, ERR_NOMEM.
 */
int graft_model_plans(struct kb *kb, const struct memory *m, json_t **out, struct err *err);
/* Inserts of stored plans under the root of a world; those whose title is there already are left
 * out, and none are made when one was planted before. */
void graft_model_edit(const struct world *w, const json_t *plans, uint64_t round,
                      struct world_edit *edit);

#endif
