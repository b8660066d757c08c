/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near-duplicates: claims that say the same in other words. Two claims are alike when
 * 1. technique (canonical, vocab.h), family, dtype, language, bottleneck, requires, param,
 *    with_value and without_value are equal,
 * 2. their statements have the same numbers in the same order and equally many negations; without a
 *    param, which pins down what is meant, also the same set of word stems, but for stop words and
 *    words that only carry a sentence ("make", "whole"): an embedding cannot tell "before the loop"
 *    from "after the loop", and
 * 3. the built-in embeddings a, b of their statements have 100 * a.b >= ALIKE_PERCENT * max(a.a,
 *    b.b).
 * Integers only, and symmetric: what is alike does not depend on order or machine. Claims are found
 * by a hash of 1 and 2, their block; most blocks hold one claim. Thread: the owner's.
 */
#ifndef KS_KB_ALIKE_H
#define KS_KB_ALIKE_H

#include <stdbool.h>
#include <stdint.h>

#include "embed.h"
#include "record.h"
#include "text.h"

enum { ALIKE_PERCENT = 80 };

/* Work space: a stemmer, and recent techniques. */
struct alike;
struct alike *alike_new(void); /* NULL when memory is out */
void alike_free(struct alike *a);

/* The hash of a claim's block; never 0. */
uint64_t alike_block(struct alike *a, const struct claim *c);
/* Conditions 1 and 2, exactly. */
bool alike_in_block(struct alike *a, const struct claim *x, const struct claim *y);
/* The embedding that condition 3 compares. */
void alike_embed(struct alike *a, const struct claim *c, struct embedding *out);
/* Condition 3. */
bool alike_near(const struct embedding *x, const struct embedding *y);

/* Blocks to the newest of their claims: open addressing, at most half full. */
struct blocks {
    size_t used, size; /* size is 0 or a power of two */
    struct block {
        uint64_t hash; /* 0 for an empty slot */
        void *newest;
    } * slots;
};
/* Puts `value` as the newest of its block; `*before` gets the one that was, NULL for none.
 * ERR_NOMEM. */
int blocks_put(struct blocks *b, uint64_t hash, void *value, void **before, struct err *err);
void blocks_release(struct blocks *b);

#endif
