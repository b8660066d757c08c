/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of an engine, for engine.c (the fold), engine_pool.c (candidates), engine_model.c (the
 * two Gaussian processes) and engine_propose.c (acquisition) alone. Thread: the owner's.
 *
 * Invariants: `seen` holds the observed assignments; each is in the active list at most once; both
 * models hold the active observations in that order, then the pending ones; both blocks cover the
 * pool.
 */
#ifndef KS_SEARCH_ENGINE_IMPL_H
#define KS_SEARCH_ENGINE_IMPL_H

#include "base/rng.h"
#include "search/engine.h"
#include "search/gp_fit.h"
#include "search/rowset.h"
#include "search/transfer.h"

enum {
    START_POINTS = 4, /* random and far apart, before there is a cold model */
    ACTIVE_MAX = 300, /* observations that the models keep */
    ACTIVE_BEST = 100,
    ACTIVE_RANDOM = 100,
    ARM_FROM = 6 /* the first evaluation that the memory-free arm may take from the warm model */
};

struct observation {
    double y; /* log time; NaN: failed */
    enum engine_arm arm;
};

/* A set of assignments with all that the models want to know of them. */
struct batch {
    size_t m;
    const uint16_t *rows; /* [m][space_n], borrowed */
    float *cols;          /* [columns][m]: parameters, then scores */
    float *zmean;         /* [m] weighted mean score; NULL without sources */
    float *fails;         /* [m] sources on which it failed; NULL without sources */
};

/* One Gaussian process with its part of the pool. */
struct model {
    struct gp gp;
    struct gp_block block;
    struct gp_prior prior;
    float *saved;      /* the block before the pending observations */
    size_t fitted_at;  /* observations when its hyper-parameters were last fitted; 0: never */
    double imputed;    /* what a failure counts as now */
    double fail_extra; /* added to the slowest for a failure */
    bool on;           /* holds the active observations */
};

struct pending {
    uint16_t a[SPACE_PARAMS_MAX];
    enum engine_arm arm;
};

struct engine {
    const struct space *space;
    struct engine_options options;
    struct encoding enc;
    size_t n_sources;
    struct source sources[ENGINE_SOURCES_MAX];
    double prior[GP_MEANS_MAX]; /* of the hypotheses */
    bool started;

    /* Candidates. */
    struct rowset pool;
    bool pool_whole;   /* the pool is every valid assignment */
    uint8_t *taken;    /* [pool.n] observed or pending */
    struct batch view; /* of the pool */
    uint16_t *listed;  /* all valid assignments of a middling space; NULL in a larger one */
    size_t n_listed;
    uint16_t *by_prior; /* the best by mean score, of a sampled pool */
    size_t n_by_prior;

    /* The fold. */
    struct rowset seen; /* observed assignments, each once */
    struct observation *obs;
    uint16_t *obs_a; /* [n_obs][space_n] */
    float *obs_x;    /* [n_obs][columns] */
    float *obs_z;    /* [n_obs] mean score */
    size_t n_obs, obs_room, obs_a_room, obs_x_room, obs_z_room;
    size_t active[GP_OBS_MAX];
    size_t n_active;
    double best, slowest; /* of the successes */
    size_t n_good;
    struct model cold, warm;
    double score_cold, score_warm; /* discounted log scores of what came */
    double share, due;             /* of the memory-free arm, and how much of it is owed */
    struct pending pending[ENGINE_PENDING_MAX];
    size_t n_pending;
    double pending_due;
};

/* ---- engine_pool.c ---- */
/* Makes the pool; ERR_NOT_FOUND for a space without valid assignments. */
int pool_start(struct engine *e, struct err *err);
/* A sampled pool is renewed around what has been seen; blocks must be refilled. A whole one stays.
 */
void pool_renew(struct engine *e);
void pool_release(struct engine *e);
void pool_mark_taken(struct engine *e);
/* Encodes and scores m assignments; rows are borrowed. */
void batch_make(const struct engine *e, size_t m, const uint16_t *rows, struct batch *out);
void batch_release(struct batch *b);

/* ---- engine_model.c ---- */
void models_init(struct engine *e);
void models_release(struct engine *e);
/* Brings the models up to date with observation n_obs - 1: push, retarget or refit. */
void models_observe(struct engine *e);
/* Removes and adds the believed observations. */
void models_unbelieve(struct engine *e);
void models_believe(struct engine *e);
/* Sets col and prior of a block over this batch. */
void model_bind(const struct engine *e, const struct model *m, const struct batch *b,
                struct gp_block *out);
/* Weights of the model's hypotheses, into out[n_means]. */
void model_weights(const struct engine *e, const struct model *m, double *out);
/* Mixture mean and variance (noise included) of one assignment. */
void model_predict(const struct engine *e, const struct model *m, const uint16_t *a, double *mean,
                   double *var);
/* Log density of y at one assignment. */
double model_score(const struct engine *e, const struct model *m, const uint16_t *a, double y);

/* ---- engine_propose.c ---- */
int propose(struct engine *e, const uint16_t *pattern, struct engine_proposal *out,
            struct err *err);

/* Columns of an assignment: encoded parameters, then one score per source. */
size_t engine_columns(const struct engine *e);

#endif
