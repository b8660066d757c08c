/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordered map from content addresses to values: buckets by the leading bits of the id, each a
 * small sorted array. Ids are SHA-256, so buckets fill evenly; one structure gives look-up, look-up
 * by prefix and walking in id order. A value is a struct whose first member is its struct id.
 * Thread: the owner's.
 */
#ifndef KS_KB_IDMAP_H
#define KS_KB_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "record.h"

struct idmap_slot {
    uint64_t lead; /* the first 16 digits: most comparisons end here */
    void *value;
};

struct idmap_bucket {
    uint32_t n, cap;
    struct idmap_slot *slots;
};

struct idmap {
    unsigned bits; /* the map has 2^bits buckets */
    size_t count;
    struct idmap_bucket *buckets;
};

/* `bits` 0..16: about log2 of the values expected, less 4. ERR_NOMEM. */
int idmap_init(struct idmap *m, unsigned bits, struct err *err);
/* Frees the map; `free_value` (may be NULL) is called for each value. */
void idmap_release(struct idmap *m, void (*free_value)(void *value));
/* NULL when there is none. */
void *idmap_get(const struct idmap *m, const struct id *id);
/* Adds a value whose id is not in the map. ERR_NOMEM. */
int idmap_add(struct idmap *m, void *value, struct err *err);
/* Fills an empty map with `n` values of `size` bytes each, in ascending order of ids. ERR_NOMEM:
 * the map is empty. */
int idmap_fill(struct idmap *m, void *values, size_t size, size_t n, struct err *err);
/*
 * The value whose id starts with `digits` (1 to 64 lower-case hexadecimal digits); NULL when there
 * is none, or more than one: then `*ambiguous` is set.
 */
void *idmap_find(const struct idmap *m, const char *digits, bool *ambiguous);

/* struct idmap_at at = { 0 }; while ((v = idmap_next(&m, &at)) ...: in id order; no adding
 * meanwhile. */
struct idmap_at {
    size_t bucket, slot;
};
void *idmap_next(const struct idmap *m, struct idmap_at *at);

#endif
