/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hard filters look at: bit sets over insights' numbers, and facets, which list for each value
 * of a column the numbers that have it. Thread: the owner's lock.
 */
#ifndef KS_KB_FACET_H
#define KS_KB_FACET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "symbols.h"

/* Bits 0 .. 64 * n_words - 1; those above are clear. */
struct bitset {
    uint64_t *words;
    size_t n_words;
};

/* Room for numbers below `n`. ERR_NOMEM. */
int bitset_reserve(struct bitset *b, size_t n, struct err *err);
/* Room for it was reserved. */
void bitset_put(struct bitset *b, uint32_t number, bool on);
bool bitset_has(const struct bitset *b, uint32_t number);
void bitset_release(struct bitset *b);

/* How many of the first n bits of raw words are set. */
uint32_t bits_count(const uint64_t *words, uint32_t n);

struct facet {
    struct symbols names;
    struct facet_list {
        uint32_t *v; /* ascending */
        uint32_t n, cap;
    } * lists; /* by name number */
    size_t cap_lists;
};

/* The number of the value, with room for one entry more. ERR_NOMEM. */
int facet_reserve(struct facet *f, const char *value, uint32_t *number, struct err *err);
/* Enters an insight; its room was reserved. */
void facet_put(struct facet *f, uint32_t number, uint32_t insight);
/* Sets, or clears, the bits of all insights that have the value. */
void facet_mark(const struct facet *f, uint32_t number, uint64_t *words, bool on);
void facet_release(struct facet *f);

#endif
