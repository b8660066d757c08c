/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory gives a search that a language model plans: programs of near tasks to adopt by
 * re-measurement, plans that are grafted as open nodes, and the insights that its prompts tell. A
 * share of the cycles is memory-free: nothing of it is told in their prompts. A cold search never
 * reads. docs/search.md has the policy. Thread: worker that holds the search's lock, blocks.
 */
#ifndef KS_SEARCH_WARM_MODEL_H
#define KS_SEARCH_WARM_MODEL_H

#include <jansson.h>

#include "base/err.h"
#include "search/calls.h"

struct author;
struct lane;
struct program;
struct search;

enum {
    WARM_MODEL_INSIGHTS_MAX = 8, /* told in one prompt */
    WARM_MODEL_ADOPT_MAX = 2,    /* programs at the start */
    WARM_MODEL_LIVE_EVERY = 4    /* evaluations from one live adoption to the next, at least */
};

/* Adds what memory gives at the start to the `seeded` event: `memory` (as of when, and the
 * sources), `gifts`, `plans`, `calibration`; and to seeds[] for displays. Finding nothing is no
 * error. ERR_IO, ERR_CORRUPT, ERR_NOMEM. */
int warm_model_seed(struct search *s, json_t *event, json_t *seeds, struct err *err);
/* The hits of a query (kb.h) for a prompt of this kind and lane (-1: the search as a whole); *out
 * stays NULL where nothing may be told or nothing is known. A hit that this search itself has
 * confirmed, beside others, has `own`: how many of its evidence[]. Owned. ERR_IO. */
int warm_model_insights(struct search *s, enum call_kind kind, int lane, json_t **out,
                        struct err *err);
/* Their ids, for the `asked` event. Fresh. */
json_t *warm_model_ids(const json_t *insights);
/* Is the next cycle owed to the memory-free arm? */
bool warm_model_owes(const struct search *s);
/* Should the next cycle keep off this node: because memory had a hand in it and a memory-free cycle
 * is owed, or because it is memory's and memory has retreated? `search` is the struct search. */
bool warm_model_keeps_off(const void *search, uint32_t node);
/* Decides whether the cycle that begins on a node is memory-free: adds `memory_free`, `due` and
 * `memory_free_share` to its event. Nothing for a cold one. */
void warm_model_arm(const struct search *s, uint32_t node, json_t *cycle);
/* Adds to an attempt event which insights the program's author was told (`served`) and which it
 * says that it followed (`followed`); nothing when it was told none. */
void warm_model_credit(const struct search *s, const struct program *p, json_t *attempt);
/*
 * Memory's turn before a cycle begins: says when memory retreats or is back, hears of what running
 * searches found, plants the plans once the model has planted its tree, and begins the cycle that
 * measures the next program to adopt. *moved says whether anything was done.
 */
int warm_model_adopt(struct author *a, bool *moved, struct err *err);
/* Has memory a hand in the lane's cycle: its program, its node, or what its prompts told? Never in
 * a memory-free one. What such a cycle confirms is steered, all else is blind. */
bool warm_model_steers(const struct search *s, const struct lane *l);
/* Is a node left out of a prompt, because memory had a hand in it and this call is to know nothing
 * of it? What was measured here is never left out. */
bool warm_model_hides(const struct search *s, enum call_kind kind, int lane, uint32_t node);
/* Is the lane's cycle there to measure a program from memory, and nothing else? */
bool warm_model_is_adoption(const struct search *s, const struct lane *l);

#endif
