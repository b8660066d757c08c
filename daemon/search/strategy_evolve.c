/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evolution in program space, the control arm: islands that take turns, each with an archive of its
 * best programs; a parent is drawn from the archive, by rank or at random, and the model is shown
 * it with others for inspiration. From time to time an island begins with the best of its
 * neighbour. All of it is read off the trials, and every draw is derived from the search's seed and
 * the number of the cycle.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "search/search.h"
#include "search/strategy.h"

enum {
    ISLANDS_MAX = 3,
    ISLAND_EVALS = 20, /* of the budget, for each island */
    ARCHIVE_MAX = 12,  /* programs of an island that may be parents */
    MIGRATION = 4      /* every so many turns of an island its neighbour's best is the parent */
};
#define EXPLOIT 0.65 /* share of parents drawn from the better half of the archive */

struct member {
    uint32_t program;
    int64_t objective_q;
};

struct archive {
    size_t n;
    struct member items[ARCHIVE_MAX]; /* best first */
};

static void archive_add(struct archive *a, uint32_t program, int64_t objective_q)
{
    size_t at = a->n;

    while (at > 0 && a->items[at - 1].objective_q < objective_q)
        at--;
    if (at == ARCHIVE_MAX)
        return;
    a->n = MIN(a->n + 1, (size_t)ARCHIVE_MAX);
    memmove(&a->items[at + 1], &a->items[at], (a->n - 1 - at) * sizeof(*a->items));
    a->items[at] = (struct member){ program, objective_q };
}

/* A small budget is not divided: an island needs generations. */
static unsigned islands_of(const struct search *s)
{
    uint64_t n = s->spec.budget_evals / ISLAND_EVALS;

    return n < 1 ? 1 : (unsigned)MIN(n, (uint64_t)ISLANDS_MAX);
}

/* Cycle 1 measures what the search began with; the islands take turns from cycle 2 on. */
static unsigned island_of(const struct search *s, uint64_t cycle)
{
    return (unsigned)((cycle - 2) % islands_of(s));
}

/* The programs of an island by their best measurement; the one that all began with is in each. */
static void read_island(const struct search *s, unsigned island, struct archive *out)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t p = 0; p < search_programs(s); p++) {
        const struct trial *best = search_trial(s, search_program_best(s, p));

        if (best != NULL && (p == 0 || (best->cycle >= 2 && island_of(s, best->cycle) == island)))
            archive_add(out, p, best->value_q);
    }
}

static uint32_t draw(const struct archive *a, struct rng *rng)
{
    size_t half = (a->n + 1) / 2;
    bool exploit = rng_double(rng) < EXPLOIT;

    return a->items[rng_below(rng, exploit ? half : a->n)].program;
}

static void add_parent(struct strategy_step *out, uint32_t program)
{
    for (size_t i = 0; i < out->n_parents; i++)
        if (out->parents[i] == program)
            return;
    if (out->n_parents < sizeof(out->parents) / sizeof(*out->parents))
        out->parents[out->n_parents++] = program;
}

void evolve_next(const struct search *s, uint64_t cycle, struct strategy_step *out)
{
    uint64_t turn = (cycle - 2) / islands_of(s);
    unsigned island = island_of(s, cycle), islands = islands_of(s);
    struct rng rng = rng_derive(s->spec.seed, "evolve", cycle);
    bool migrates = islands > 1 && turn > 0 && turn % MIGRATION == 0;
    struct archive own, other;

    memset(out, 0, sizeof(*out));
    read_island(s, island, &own);
    read_island(s, (island + 1) % islands, &other);
    out->sample = cycle - 1;
    if (migrates && other.n > 0)
        add_parent(out, other.items[0].program);
    else
        add_parent(out, own.n > 0 ? draw(&own, &rng) : 0);
    if (s->champion != 0) /* whoever found it: it is shown beside the parent */
        add_parent(out, search_trial(s, s->champion)->program);
    if (own.n > 0) {
        add_parent(out, own.items[0].program);
        add_parent(out, draw(&own, &rng));
    }
    snprintf(out->title, sizeof(out->title), "mutation %llu of program %u, island %u",
             (unsigned long long)out->sample, out->parents[0], island + 1);
}
