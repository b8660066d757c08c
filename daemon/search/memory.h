/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a warm-started search takes from the knowledge base: records of near tasks as sources of the
 * numeric engine, their best assignments to adopt by re-measurement, and the insights that speak
 * for them. Everything is read as of one sequence number, which the search stores, so that a
 * restart recalls the same. A cold search never calls this. Thread: worker, blocks.
 */
#ifndef KS_SEARCH_MEMORY_H
#define KS_SEARCH_MEMORY_H

#include <jansson.h>

#include "kb.h"
#include "search/engine.h"
#include "search/space.h"

enum { MEMORY_SOURCES_MAX = 8, MEMORY_ADOPT_MAX = 4, MEMORY_INSIGHTS_MAX = 8 };

/* A near task of the same family (or the task itself, similarity 1). Borrowed strings. */
struct memory_relative {
    const char *task;
    double similarity; /* of the shapes, (0, 1] */
};

/* Records of one task on one device. */
struct memory_source {
    char task[100], device[100];
    double similarity; /* shape x device, (0, 1] */
    uint64_t records;  /* usable ones */
};

/* An assignment worth measuring here, with what it reached there. */
struct memory_adoption {
    uint16_t a[SPACE_PARAMS_MAX];
    size_t source; /* index into sources */
    int64_t objective_q;
    struct id evaluation;
};

/* An insight that speaks for an adopted assignment. */
struct memory_insight {
    struct id id;
    double similarity; /* of the nearest source */
    double mean;       /* posterior effect, natural log */
};

struct memory {
    uint64_t as_of; /* sequence number */
    size_t n_sources, n_adoptions, n_insights;
    struct memory_source sources[MEMORY_SOURCES_MAX]; /* nearest first */
    struct memory_adoption adoptions[MEMORY_ADOPT_MAX];
    struct memory_insight insights[MEMORY_INSIGHTS_MAX];
};

/*
 * Looks for sources among `relatives` on `device` and on other devices (their similarity is halved
 * when the class differs), and picks at most `adopt` assignments to measure, from sources of at
 * least the similarity `adopt_least`. An empty memory is no error.
 */
int memory_recall(struct kb *kb, const struct space *space, const char *family, const char *device,
                  const char *device_class, const struct memory_relative *relatives, size_t n,
                  size_t adopt, double adopt_least, struct memory *out, struct err *err);

/* Gives the engine the records of one source up to `as_of`. */
int memory_feed(struct kb *kb, const struct space *space, const struct memory_source *source,
                uint64_t as_of, struct engine *engine, struct err *err);

/* To and from the "memory" member of a search's `seeded` event. Strict. */
json_t *memory_to_json(const struct memory *m, const struct space *space);
int memory_from_json(const json_t *j, const struct space *space, struct memory *out,
                     struct err *err);
/* The seeds[] of search.show: {kind and id, from, similarity}. Owned. */
json_t *memory_seeds(const struct memory *m, const struct space *space);

#endif
