/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other devices and shapes know: the score z of an assignment on one source (log of its time
 * over the source's best, compressed above 0.7), and hyper-parameters learned by letting each
 * source play the target. Thread: the owner's. Memory aborts when out.
 */
#ifndef KS_SEARCH_TRANSFER_H
#define KS_SEARCH_TRANSFER_H

#include "search/gp_fit.h"
#include "search/rowset.h"

struct source {
    char *name;
    double weight;
    struct rowset records;
    double *y; /* [records.n] log time; the slowest of the source where it failed */
    uint8_t *failed;
    double best, slowest;
    bool listed;   /* its records are dense in the candidates: a record speaks for itself */
    bool modelled; /* `model` is fitted */
    struct gp model;
};

/* Owns copies; repeated assignments are averaged. At least one success. */
void source_init(struct source *s, const struct space *space, const char *name, double weight,
                 size_t n, const uint16_t *a, const double *log_time);
void source_release(struct source *s);
/* Decides `listed` for these candidates and fits the model where one is needed. Once, before
 * scoring. */
void source_prepare(struct source *s, const struct encoding *enc, const struct rowset *candidates,
                    bool complete, uint64_t seed);
/*
 * Scores of m assignments into z[m] (0: its best), and counts known failures into fails[m] (+= 1;
 * NULL: not wanted). `col`: their enc->n encoded columns of [m].
 */
void source_score(const struct source *s, size_t m, const uint16_t *rows, const float *const *col,
                  float *z, float *fails);

/* The priors of the cold model and of the warm one before anything is learned. */
void transfer_cold_prior(const struct encoding *enc, struct gp_prior *out);
void transfer_warm_prior(const struct encoding *enc, struct gp_prior *out);
/*
 * Each source plays the target, with the others as its sources: one set of hyper-parameters
 * maximises the summed likelihood. Moves prior->centre there. Does nothing with fewer than two
 * sources.
 */
void transfer_learn(struct source *sources, size_t n, const struct encoding *enc, uint64_t seed,
                    struct gp_prior *prior);

#endif
