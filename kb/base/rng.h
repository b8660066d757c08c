/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers that are passed in and reproducible: SplitMix64 (Steele, Lea, Flood 2014), so a
 * generator is one word and can be derived from (seed, purpose, counter) instead of carried along.
 * Thread: a generator belongs to its caller.
 */
#ifndef KS_BASE_RNG_H
#define KS_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

struct rng rng_seeded(uint64_t seed);
/*
 * An independent generator for one purpose: equal (seed, purpose, counter) give equal streams, so a
 * decision can be taken again after a restart without replaying those before it.
 */
struct rng rng_derive(uint64_t seed, const char *purpose, uint64_t counter);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, 1). */
double rng_double(struct rng *r);
/* Uniform in [0, n), without bias; n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* Standard normal (Box-Muller). */
double rng_normal(struct rng *r);
/* Fisher-Yates over indices. */
void rng_shuffle(struct rng *r, uint32_t *idx, size_t n);
/* Bytes from the kernel, for secrets and unpredictable seeds. 0 or -1. */
int rng_os(void *out, size_t n);

#endif
