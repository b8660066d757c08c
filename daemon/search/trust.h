/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory has been worth to a search so far, as the share of the evaluations that is owed to
 * the memory-free arm. Two signs count: what memory's proposals reached here against what their
 * sources promised, which is known after the first measurement, and memory's proposals against
 * memory-free ones, once there are some of both. When memory loses it retreats: its nodes are no
 * longer preferred and nothing more is adopted, until it has made up for it. A pure function of the
 * folded state. Thread: whoever holds the search's lock.
 */
#ifndef KS_SEARCH_TRUST_H
#define KS_SEARCH_TRUST_H

#include <stdbool.h>
#include <stddef.h>

struct search;

/* The debt to the memory-free arm before the second evaluation: half a turn. */
#define TRUST_DUE_START 0.5

struct trust {
    double share;    /* owed to the memory-free arm, 0.1 .. 0.9 */
    double doubt;    /* 0..1: how far memory stays behind its promise */
    double gap;      /* memory-free minus memory, in standard errors, -3 .. 3; 0: not comparable */
    size_t n_memory; /* measured evaluations of memory and of the memory-free arm */
    size_t n_free;
    bool lost; /* memory has to retreat */
    char why[240];
};

/* What memory has been worth after all that was measured so far. */
void trust_of(const struct search *s, struct trust *out);
/* The debt to the memory-free arm when evaluation n (from 1) is planned, before it is paid. */
double trust_due(const struct search *s, const struct trust *t);

#endif
