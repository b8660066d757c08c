/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often what was true on one class of devices is true on another, per technique, learned from
 * insights that have evidence on both: an effect of the same sign survived. Counts are integers
 * over folded sums, so the rates depend on the facts alone and on no order. A pair of classes has
 * no direction. Thread: the owner's.
 */
#ifndef KS_RETUNE_SURVIVAL_H
#define KS_RETUNE_SURVIVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "kb.h"

struct survival;

struct survival *survival_new(void); /* aborts when memory is out */
void survival_free(struct survival *s);

/* Counts one insight that was decided on both classes. */
void survival_add(struct survival *s, const char *class_a, const char *class_b,
                  const char *technique, bool survived);
/*
 * Counts an insight's classes against each other: those of at least two pairs, three quarters of
 * them with one sign. Superseded and retracted insights do not count.
 */
void survival_add_insight(struct survival *s, const struct insight *in);
/* The same for all insights of a base. ERR_NOMEM. */
int survival_fold(struct survival *s, struct kb *kb, struct err *err);

struct survival_rate {
    double mean;       /* posterior mean of the probability that an effect keeps its sign */
    uint32_t n, kept;  /* of this technique between these classes */
    uint32_t n_parent; /* behind the prior: all techniques between these classes */
};
/*
 * Beta posterior in three levels: of all pairs of classes (prior Beta(2, 1): more effects carry
 * than not), of this pair of classes (prior: four observations at the mean above it), of the
 * technique between them (the same). Equal classes are a pair like any other.
 */
struct survival_rate survival_rate(const struct survival *s, const char *class_a,
                                   const char *class_b, const char *technique);
/* {pairs[{a, b, technique, n, kept, mean}]} sorted. Fresh. */
json_t *survival_to_json(const struct survival *s);

#endif
