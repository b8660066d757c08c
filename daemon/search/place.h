/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an assignment belongs in the tree. Its structural tunables, in their declared order, are a
 * path from the root; each cycle adds the first decision on that path that is missing, and below
 * the last decision assignments are leaves. Pure functions of the world. Thread: worker that holds
 * the search's lock.
 */
#ifndef KS_SEARCH_PLACE_H
#define KS_SEARCH_PLACE_H

#include "search/intent.h"
#include "search/search.h"

/* An open node that waits for an assignment, or a new child of `parent`. */
struct place {
    uint32_t node;   /* WORLD_NONE: insert */
    uint32_t parent; /* of what is inserted */
    int param;       /* structural parameter that the new decision settles; -1: a leaf */
};

/*
 * Walks down along the assignment's structural choices through closed nodes. The first open node on
 * the path takes it; the first missing one is inserted; below the last decision, and beside an
 * abandoned one, it is a leaf.
 */
struct place place_find(const struct search *s, const uint16_t *a);
/* Adds the insertion of a node for this intent to the edit, and writes its id. */
void place_insert(const struct search *s, const struct place *pl, const struct intent *in,
                  struct world_edit *edit, char id[WORLD_ID_MAX + 1]);
/* Sets what is expected of a node to what the intent predicts, within the range of a node. */
void place_expect(struct world_spec *spec, const struct intent *in);
/* The commitments on the path to a node as a pattern of the space, pattern[space_n]. */
void place_pattern(const struct search *s, uint32_t node, uint16_t *pattern);

#endif
