/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synthetic insights with distinct claims, questions about them, and the one-line figures of
 * benchmarks: shared by query_bench and socket_bench. Everything is a function of the generator
 * passed in. Thread: any.
 */
#ifndef KS_BENCH_SYNTHETIC_H
#define KS_BENCH_SYNTHETIC_H

#include <stddef.h>

#include "base/rng.h"
#include "kb.h"

enum { SYNTHETIC_DEVICES = 6, SYNTHETIC_TEXT_SIZE = 400 };

void synthetic_id(struct rng *r, struct id *out);
/* Claim number i: distinct by its number, worded from tables as insights are. Release with
 * claim_release. */
void synthetic_claim(struct rng *r, uint32_t i, struct claim *out);
/* How many pieces of evidence an insight gets, 0 to 6. */
size_t synthetic_evidence_count(struct rng *r);
/* A pair for the claim; its strings are static: do not release it. */
void synthetic_evidence(struct rng *r, const struct id *claim, struct evidence *out);
/* Name and class of device i < SYNTHETIC_DEVICES. Static. */
const char *synthetic_device(size_t i);
const char *synthetic_class(size_t i);

/* `q` points into `text` and to static strings. */
struct synthetic_question {
    char text[SYNTHETIC_TEXT_SIZE];
    struct kb_query q;
};
/* Five to twelve words: a technique by one of its names, an object, a condition, in an asker's
 * order. */
void synthetic_question(struct rng *r, struct synthetic_question *out);

/* "name value unit n spread" on stdout. */
void synthetic_figure(const char *name, double value, const char *unit, size_t n, double spread);
/* Sorts n times in microseconds and prints NAME_p50 and NAME_p99; spread is half the quartiles'
 * distance. */
void synthetic_times(const char *name, double *us, size_t n);
int synthetic_compare(const void *p, const void *q);
double synthetic_quantile(const double *sorted, size_t n, double p);

#endif
