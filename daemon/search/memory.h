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

/*
 * What memory may give a search; each part works alone. Programs adopted by re-measurement, plans
 * grafted into the tree, records as the prior of the numeric engine, and what other searches find
 * while this one runs.
 */
enum memory_part {
    MEMORY_ADOPT = 1 << 0,
    MEMORY_PLANS = 1 << 1,
    MEMORY_PRIOR = 1 << 2,
    MEMORY_LIVE = 1 << 3,
    MEMORY_ALL = (1 << 4) - 1
};
/* Parts as an array of names, "adopt", "plans", "prior", "live". Owned. */
json_t *memory_parts_json(unsigned parts);
/* Parts of an array of names, or of a text with commas between them; at least one. ERR_INVALID. */
int memory_parts_parse(const json_t *j, unsigned *out, struct err *err);

enum { MEMORY_SOURCES_MAX = 8, MEMORY_ADOPT_MAX = 4, MEMORY_INSIGHTS_MAX = 8 };

/* A near task of the same family (or the task itself, similarity 1). Borrowed strings. */
struct memory_relative {
    const char *task;
    double similarity; /* of the shapes, (0, 1] */
};

/* Records of one task on one device. */
struct memory_source {
    char task[100], device[100];
    double similarity;  /* shape x device, (0, 1] */
    uint64_t records;   /* usable ones */
    bool has_level;     /* the two below are known */
    int64_t best_q;     /* micro-log of the best objective there */
    int64_t ordinary_q; /* and of one that a quarter of the successes stay below */
};

enum { MEMORY_RELATIVES_MAX = 64 };
/* The relatives of a search's scope, [{task, similarity}]; borrows from `j`. Returns how many. */
size_t memory_relatives(const json_t *j, struct memory_relative *out, size_t max);

/*
 * The similarity of a device to the one that is searched for: 1 the same, 0.8 of its class, 0.5
 * another; an unknown one counts as of another class. ERR_IO, ERR_CORRUPT.
 */
int memory_device_similarity(struct kb *kb, const char *own, const char *own_class,
                             const char *device, double *out, struct err *err);

/*
 * The assignment of this space that a stored one, of this space or of a related one, stands for:
 * parameters by name, ordinal values by the nearest, the default where it says nothing. False when
 * fewer than half of the structural parameters (of all, where none is structural) are shared, or
 * what comes out is not valid. *shared is the share of parameters that it did say, 1 for an
 * assignment of the space itself.
 */
bool memory_translate(const struct space *space, const json_t *assignment, uint16_t *out,
                      double *shared);

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

/*
 * The active insights that speak for an assignment: those whose tunable it sets as they say, with a
 * positive effect, the greatest first, at most `max`. `similarity` is copied into them. Returns how
 * many.
 */
size_t memory_insights_for(struct kb *kb, const struct space *space, const char *family,
                           const char *device_class, uint64_t as_of, const uint16_t *a,
                           double similarity, struct memory_insight *out, size_t max);

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
