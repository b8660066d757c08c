/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which assignments from memory a search measures again: few, useful and not alike. Usefulness is
 * the similarity of their source times how near they came to its best; what differs from a chosen
 * one in hardly anything teaches nothing new and is passed over. Thread: worker, blocks.
 */
#ifndef KS_SEARCH_ADOPTION_H
#define KS_SEARCH_ADOPTION_H

#include "search/memory.h"

/*
 * Appends at most `want` adoptions of sources of at least the similarity `least`, the most useful
 * first. Finding none is no error.
 */
int adoption_choose(struct kb *kb, const struct space *space, size_t want, double least,
                    struct memory *m, struct err *err);
/* How many assignments a search of so many evaluations may adopt in all: a tenth, at least one. */
size_t adoption_cap(uint64_t budget_evals);

#endif
