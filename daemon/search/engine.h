/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numeric search engine: proposes the next assignment of a tuning space to measure. Cold it
 * rotates between a Gaussian process, the same near the best seen, and a randomised forest; with
 * sources (records of other devices or shapes) a warm Gaussian process takes over, with a
 * memory-free arm whose share adapts. docs/engine.md has the model and its figures.
 *
 * An engine is a fold: its state is a pure function of (space, options, sources, the observations
 * in order, the pending set). Proposing changes nothing, so observations replayed into a new engine
 * give the same next proposal, bit for bit on one machine. Lower is better: log time, or minus log
 * of an objective. Thread: one at a time per engine; different engines are independent. Small
 * allocations abort when memory is out.
 */
#ifndef KS_SEARCH_ENGINE_H
#define KS_SEARCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "search/space.h"

enum {
    ENGINE_SOURCES_MAX = 16,
    ENGINE_PENDING_MAX = 64,
    ENGINE_RECORDS_MAX = 1 << 20 /* of one source */
};

/* Which arm asked for a measurement. OTHER: a default, an adopted assignment, another proposer. */
enum engine_arm { ENGINE_ARM_COLD, ENGINE_ARM_MEMORY, ENGINE_ARM_OTHER, ENGINE_ARM_COUNT };

/* Which model chose a proposal. */
enum engine_origin {
    ENGINE_ORIGIN_RANDOM, /* starting points; the last resort */
    ENGINE_ORIGIN_GP,     /* Gaussian process over all candidates */
    ENGINE_ORIGIN_NEAR,   /* Gaussian process near the best three */
    ENGINE_ORIGIN_FOREST,
    ENGINE_ORIGIN_PRIOR, /* best by the sources' mean score: the first warm proposal */
    ENGINE_ORIGIN_WARM,  /* warm Gaussian process */
    ENGINE_ORIGIN_COUNT
};

struct engine_options {
    uint64_t seed;    /* fixes every random choice */
    size_t pool_full; /* up to this many valid assignments all are candidates; 0: 12000 */
    size_t pool_cap;  /* candidates of a larger space; 0: 6000. 256 to 65536 */
    bool cold;        /* sources are refused, no warm model */
};

struct engine_proposal {
    uint16_t a[SPACE_PARAMS_MAX];
    enum engine_arm arm; /* give it back to engine_observe */
    enum engine_origin origin;
    double mean,
        sd; /* predicted log time and its deviation, noise included; NaN before there is a model */
    double ei; /* expected improvement on the best seen, in log time; NaN before there is a model */
    double memory_share; /* of the memory arm now: 0 cold; what the shares have adapted to */
};

struct engine; /* opaque */

/* `space` is borrowed and must outlive the engine. ERR_INVALID for an option out of range. */
int engine_new(const struct space *space, const struct engine_options *options, struct engine **out,
               struct err *err);
void engine_free(struct engine *e);

/*
 * Adds what was measured elsewhere, before the first observation, pending or proposal: `a` is
 * [n][space_n], assignments of this space (others must be left out by the caller); `log_time[n]` is
 * NaN where it failed. `weight` > 0 is its prior standing among the sources (1: equal). Repeated
 * assignments are averaged. Needs at least one success. ERR_INVALID, ERR_LIMIT, ERR_CONFLICT when
 * too late or the engine is cold.
 */
int engine_add_source(struct engine *e, const char *name, double weight, size_t n,
                      const uint16_t *a, const double *log_time, struct err *err);
size_t engine_sources(const struct engine *e);
/* The posterior weight of hypothesis h, and its name into *name (borrowed): h = 0 is the mean of
 * all sources, h = 1.. each alone. */
double engine_hypothesis(const struct engine *e, size_t h, const char **name);

/*
 * Takes one measurement: `log_time` is NaN when it failed, else finite. An assignment may be
 * observed again. It ceases to be pending. ERR_INVALID for an assignment that is not valid, or an
 * infinite time.
 */
int engine_observe(struct engine *e, const uint16_t *a, double log_time, enum engine_arm arm,
                   struct err *err);
size_t engine_observed(const struct engine *e);
/* Has this assignment been observed or is it pending? */
bool engine_seen(const struct engine *e, const uint16_t *a);

/*
 * Believes an assignment under way to come out as predicted, so that the next proposal differs;
 * engine_observe or engine_pending_drop takes the belief back. ERR_INVALID, ERR_LIMIT, ERR_CONFLICT
 * when it is seen already.
 */
int engine_pending(struct engine *e, const uint16_t *a, enum engine_arm arm, struct err *err);
/* Forgets a pending assignment (cancelled); nothing happens when it is not pending. */
void engine_pending_drop(struct engine *e, const uint16_t *a);

/*
 * The next assignment to measure, never one observed or pending. `pattern` (NULL: none) restricts
 * it, for example to a structural cell (space_cell). ERR_NOT_FOUND when nothing is left there.
 */
int engine_propose(struct engine *e, const uint16_t *pattern, struct engine_proposal *out,
                   struct err *err);

/*
 * Predicted log time of any valid assignment (that of the warm model where there is one), with its
 * deviation, noise included. ERR_NOT_FOUND before there is a model (cold: fewer than 4
 * observations), ERR_INVALID.
 */
int engine_predict(struct engine *e, const uint16_t *a, double *mean, double *sd, struct err *err);

#endif
