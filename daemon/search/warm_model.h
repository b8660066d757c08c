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
#include <stdbool.h>

#include "base/err.h"

struct author;
struct program;
struct search;

enum {
    WARM_MODEL_INSIGHTS_MAX = 8, /* told in one prompt */
    WARM_MODEL_ADOPT_MAX = 2     /* programs */
};

/* Adds what memory gives at the start to the `seeded` event: `gifts`, an edit with grafted nodes;
 * and seeds[] for displays. Finding nothing is no error. ERR_IO, ERR_CORRUPT. */
int warm_model_seed(struct search *s, json_t *event, json_t *seeds, struct err *err);
/* The hits of a query (kb.h) for a prompt of this lane (-1: the search as a whole); *out stays NULL
 * where nothing may be told or nothing is known. Owned. ERR_IO. */
int warm_model_insights(struct search *s, int lane, json_t **out, struct err *err);
/* Their ids, for the `asked` event. Fresh. */
json_t *warm_model_ids(const json_t *insights);
/* Decides whether the cycle that begins is memory-free: adds `memory_free` and `due` to its event.
 * Nothing for a cold one. */
void warm_model_arm(const struct search *s, json_t *cycle);
/* Adds to an attempt event which insights its author was told and which it says that it followed.
 */
void warm_model_credit(const struct search *s, const struct program *p, json_t *attempt);
/* Begins a cycle that measures the next program to adopt; *moved says whether there was one. */
int warm_model_adopt(struct author *a, bool *moved, struct err *err);

#endif
