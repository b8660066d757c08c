/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of one task on one device as assignments of a space, in sequence order: what the
 * sources of a warm start are made of. Those of a related space are translated (memory_translate).
 * Thread: worker, blocks.
 */
#ifndef KS_SEARCH_RECORDS_H
#define KS_SEARCH_RECORDS_H

#include "kb.h"
#include "search/space.h"

struct records {
    const struct space *space; /* borrowed */
    size_t n, cap, n_ok;
    double shared;    /* mean share of parameters that the records spoke of; 1: the same space */
    uint16_t *a;      /* [n][space_n] */
    double *log_time; /* [n] minus log objective, NaN where it failed */
    int64_t *objective_q; /* [n] INT64_MIN where it failed */
    struct id *ids;       /* [n] */
};

/* Reads what was stored up to sequence number `as_of`. Release also after failure. ERR_IO,
 * ERR_CORRUPT. */
int records_load(struct kb *kb, const struct space *space, const char *task, const char *device,
                 uint64_t as_of, struct records *out, struct err *err);
void records_release(struct records *r);
/* The best objective and one that a quarter of the successes stay below, micro-log; false without
 * successes. */
bool records_level(const struct records *r, int64_t *best_q, int64_t *ordinary_q);

#endif
