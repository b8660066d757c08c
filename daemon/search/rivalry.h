/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Did memory help? Within one warm search, attempts of the memory arm are paired with attempts of
 * the memory-free arm beside them (their evaluation numbers differ by one), and the differences are
 * judged. docs/ledger.md defines the negative-transfer rate that follows. Thread: the owner's.
 */
#ifndef KS_SEARCH_RIVALRY_H
#define KS_SEARCH_RIVALRY_H

#include <stdbool.h>
#include <stdint.h>

/* Fold over a search's proposals in order; zero it first. */
struct rivalry {
    /* the latest attempt that has no partner yet */
    bool waiting, waiting_memory;
    uint64_t waiting_n;
    int64_t waiting_q, waiting_sd_q;
    int64_t worst_q; /* least log objective so far: what a failure counts as */
    bool has_worst;
    /* pairs: memory less memory-free, micro-log */
    uint64_t pairs, pairs_worse, pairs_better;
    int64_t sum_q;
    double squares; /* of natural logs */
};

enum { RIVALRY_PAIRS_MIN = 4 }; /* fewer say nothing of a search */

/* Evaluation `n` of the memory arm or the memory-free arm came out. Adopted assignments are of
 * neither: they are not proposals. */
void rivalry_add(struct rivalry *r, uint64_t n, bool memory, bool ok, int64_t objective_q,
                 int64_t sd_q);
/* Enough pairs to judge by? */
bool rivalry_judged(const struct rivalry *r);
/* Was memory worse beyond noise: mean difference below -1 %, and below 0 at the 5 % level by
 * Student's t? False when it cannot be judged. */
bool rivalry_memory_lost(const struct rivalry *r);

#endif
