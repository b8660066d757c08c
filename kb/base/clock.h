/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time is passed in: a struct clock is a pair of functions, so that a whole search runs on a fake
 * one in a test. Nanoseconds everywhere. Thread: any.
 */
#ifndef KS_BASE_CLOCK_H
#define KS_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_SEC 1000000000ull
#define NS_PER_MS 1000000ull

struct clock {
    uint64_t (*mono_ns)(const struct clock *c); /* never goes back; no known origin */
    uint64_t (*wall_ns)(const struct clock *c); /* since 1970-01-01 UTC */
};

/* The machine's own clocks. */
const struct clock *clock_system(void);

/* A clock that moves only when told to. */
struct clock_fake {
    struct clock clock; /* pass &fake.clock */
    uint64_t now_ns;
};
void clock_fake_init(struct clock_fake *f, uint64_t now_ns);

/* "2026-11-22T16:05:09Z" into out; returns out. */
char *clock_iso(uint64_t wall_ns, char *out, size_t size /* >= 21 */);
/* Reads "2026-11-22", "2026-11-22T16:05:09Z" or whole seconds since 1970; 0, or -1 when it is none.
 */
int clock_parse_time(const char *s, uint64_t *out_ns);

#endif
