/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that judge and one runner share: a control page, then tensors at 64-byte aligned
 * random places with guard bytes between them. Pristine inputs and expected outputs are never here.
 *
 * A cell is one staged set of tensors of a workload. Cells are placed one after another from a
 * random start; arena_reset forgets them all. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_ARENA_H
#define KS_HARNESS_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "fail.h"
#include "ks_task.h"
#include "wire.h"

#define ARENA_GAP_MIN 256
#define ARENA_GAP_MAX 4096
#define ARENA_START_MAX (256u << 10)
#define ARENA_BYTES_MAX (64ull << 30)

struct arena {
    int fd;
    uint8_t *base; /* shared with the runner */
    size_t size, used;
    uint8_t guard;
    struct rng rng;
};

/* Sizes of the buffers of a cell, in order: inputs, outputs, scratch. */
struct cell_shape {
    size_t bytes[KS_TENSORS_MAX + 1];
    int n_inputs, n_outputs;
};

struct cell {
    size_t offset[KS_TENSORS_MAX + 1]; /* from the arena's start */
    size_t gap[KS_TENSORS_MAX + 2];    /* guard bytes before each buffer; the last follows all */
};

/* The most bytes that `cells` cells of this shape can take, start and control page included. */
size_t arena_need(const struct cell_shape *s, int cells);

/* Makes and maps one of `size` bytes; `seed` drives placement and the guard byte. ERR_IO. */
int arena_new(size_t size, uint64_t seed, struct arena **out, struct err *err);
void arena_free(struct arena *a);

/* Zeroes all of it, before another program gets it. */
void arena_scrub(struct arena *a);
/*
 * From here on, places depend on `seed` alone: arenas of one seed place the same shapes at the same
 * offsets, so that programs timed against each other meet the same alignments. Followed by
 * arena_reset.
 */
void arena_reseed(struct arena *a, uint64_t seed);
/* Forgets all cells and picks another start. */
void arena_reset(struct arena *a);
/* Places one more cell, its guards filled. The arena is large enough (arena_need). */
void arena_place(struct arena *a, const struct cell_shape *s, struct cell *out);
/* Buffer i of the cell: inputs, outputs, scratch. */
static inline uint8_t *arena_at(const struct arena *a, const struct cell *c, int i)
{
    return a->base + c->offset[i];
}
/* Fills outputs with CHECK_POISON and scratch with the guard byte. */
void arena_poison(struct arena *a, const struct cell_shape *s, const struct cell *c);
/* FAIL_GUARD_HIT when a byte between buffers has changed; names[i]: buffer i's name. */
int arena_check_guards(const struct arena *a, const struct cell_shape *s, const struct cell *c,
                       const char *const *names, struct fail *f);
/* Removes the cell's lines from every cache. False where the machine has no such instruction. */
bool arena_flush(const struct arena *a, const struct cell_shape *s, const struct cell *c);
/* The same for n bytes at `p`. */
bool arena_flush_bytes(const uint8_t *p, size_t n);
/* Writes twice the last-level cache: what cold means where arena_flush cannot. */
void arena_evict(void);

#endif
