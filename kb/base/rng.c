/* SPDX-License-Identifier: Apache-2.0 */
/* Reproducible random numbers; see rng.h. */
#include "base/rng.h"

#include <math.h>
#include <sys/random.h>

#include "base/mem.h"

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

struct rng rng_seeded(uint64_t seed)
{
    return (struct rng){ mix(seed + 0x9E3779B97F4A7C15ull) };
}

struct rng rng_derive(uint64_t seed, const char *purpose, uint64_t counter)
{
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a of the purpose keeps streams apart */

    for (const char *p = purpose; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3ull;
    return (struct rng){ mix(mix(seed ^ mix(h)) + counter * 0x9E3779B97F4A7C15ull) };
}

uint64_t rng_u64(struct rng *r)
{
    return mix(r->state += 0x9E3779B97F4A7C15ull);
}

double rng_double(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t v;

    do
        v = rng_u64(r);
    while (v >= limit);
    return v % n;
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_double(r); /* (0, 1] */
    double v = rng_double(r);

    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

void rng_shuffle(struct rng *r, uint32_t *idx, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(r, i);
        uint32_t t = idx[i - 1];

        idx[i - 1] = idx[j];
        idx[j] = t;
    }
}

int rng_os(void *out, size_t n)
{
    unsigned char *p = out;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);

        if (got <= 0)
            return -1;
        p += got;
        n -= (size_t)got;
    }
    return 0;
}
