/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of assignments of one space, numbered in the order of insertion, found by hash; and the
 * encoding of assignments as columns of numbers for the models. Thread: the owner's. Memory aborts
 * when out.
 */
#ifndef KS_SEARCH_ROWSET_H
#define KS_SEARCH_ROWSET_H

#include "search/space.h"

struct rowset {
    const struct space *space; /* borrowed */
    size_t n, room;
    uint16_t *rows; /* [n][space_n] */
    uint32_t *slots;
    size_t mask; /* slots - 1; 0 while empty */
};

void rowset_init(struct rowset *t, const struct space *space);
void rowset_release(struct rowset *t);
void rowset_clear(struct rowset *t);
const uint16_t *rowset_row(const struct rowset *t, size_t i);
/* Number of the assignment; -1 when it is not in the table. */
long rowset_find(const struct rowset *t, const uint16_t *a);
/* Adds it unless it is there already; its number either way, *added says which. */
size_t rowset_add(struct rowset *t, const uint16_t *a, bool *added);

/*
 * One column per parameter of more than one value. Ordered numbers: log2 of the value (of value + 1
 * where the least is 0; their rank where one is negative), scaled to [0, 1]. Unordered values:
 * their index, to be told apart only.
 */
struct encoding {
    size_t n; /* columns */
    uint8_t param[SPACE_PARAMS_MAX];
    bool unordered[SPACE_PARAMS_MAX];
    float *code[SPACE_PARAMS_MAX]; /* by value index */
};

void encoding_init(struct encoding *e, const struct space *space);
void encoding_release(struct encoding *e);
/* out[c * stride] for each column c. */
void encoding_row(const struct encoding *e, const uint16_t *a, float *out, size_t stride);

#endif
