/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gaussian process regression with a flat prior on the constant and several prior means
 * (hypotheses) that share one Cholesky factor (Rasmussen and Williams 2006, sections 2.2 and 2.7).
 * Kernel of two points:
 *
 *   s1 m(|x - x'|) + s4 m(sqrt(|z - z'|^2 + GP_Z_PARAM |x - x'|^2)) + noise when they are the same
 * observation
 *
 * m: Matern 5/2; |x - x'|: parameter columns, one length scale each; |z - z'|^2: mean over the
 * score columns, divided by zlength^2. A block keeps V = L^-1 K(observed, candidates) for a fixed
 * set of candidates, so an observation costs one row. Factors accumulate in double, V in single
 * precision. Thread: the owner's. Memory aborts when out.
 */
#ifndef KS_SEARCH_GP_H
#define KS_SEARCH_GP_H

#include <stdbool.h>
#include <stddef.h>

enum {
    GP_OBS_MAX = 384,
    GP_PARAMS_MAX = 64,
    GP_SCORES_MAX = 16,
    GP_COLS_MAX = GP_PARAMS_MAX + GP_SCORES_MAX,
    GP_MEANS_MAX = GP_SCORES_MAX + 1
};

#define GP_Z_PARAM 0.15

struct gp_shape {
    size_t n_params, n_scores;     /* columns of a point: parameters, then scores */
    size_t n_means;                /* hypotheses; at least 1 */
    bool unordered[GP_PARAMS_MAX]; /* values of this column are equal or not, no distance */
    bool profiled; /* s1 = 1 and the amplitude is estimated from the residuals; noise is a ratio */
};

/* All are variances or lengths, positive. */
struct gp_hyper {
    double length[GP_PARAMS_MAX];
    double s1, s4, zlength, noise;
};

struct gp {
    struct gp_shape shape;
    struct gp_hyper hyper;
    size_t n;      /* observations */
    float *x;      /* [GP_OBS_MAX][n_params + n_scores] */
    double *y;     /* [GP_OBS_MAX] */
    double *m;     /* [n_means][GP_OBS_MAX] prior means at the observations */
    double *chol;  /* [GP_OBS_MAX][GP_OBS_MAX], lower */
    double *one;   /* [GP_OBS_MAX] L^-1 1 */
    double *alpha; /* [n_means][GP_OBS_MAX] L^-1 (y - m) */
    double *w;     /* [GP_OBS_MAX] K^-1 of the residuals, by gp_mean_prepare */
};

/* Candidates with their part of the posterior. Columns and prior means are borrowed. */
struct gp_block {
    size_t m;
    const float *col[GP_COLS_MAX];    /* [m] each */
    const float *prior[GP_MEANS_MAX]; /* [m] each; NULL: zero */
    float *v;                         /* [rows][m] */
    size_t v_room;
    float *var;             /* [m] prior variance minus the sum of squares of V, before scaling */
    float *one;             /* [m] V^T one */
    float *u[GP_MEANS_MAX]; /* [m] V^T alpha */
};

void gp_init(struct gp *g, const struct gp_shape *shape);
void gp_release(struct gp *g);

/*
 * Replaces all observations: x [n][columns], y [n], m [n][n_means] (NULL: zero). A factor that
 * breaks gets more noise until it holds. n <= GP_OBS_MAX.
 */
void gp_set(struct gp *g, const struct gp_hyper *hyper, size_t n, const float *x, const double *y,
            const double *m);
/* Adds one observation: x [columns], m [n_means] (NULL: zero). The pivot is clamped. */
void gp_push(struct gp *g, const float *x, double y, const double *m);
/* Forgets all but the first n observations. */
void gp_truncate(struct gp *g, size_t n);
/* Replaces the y of all observations. */
void gp_retarget(struct gp *g, const double *y);

/* Variance of a prediction that the amplitude multiplies: 1 unless profiled. */
double gp_scale(const struct gp *g);
/* Posterior of the constant for hypothesis h: mean into *beta, variance (before scaling) returned.
 * n > 0. */
double gp_constant(const struct gp *g, size_t h, double *beta);
/* Weights of the hypotheses: prior x (marginal likelihood)^power, normalised, into out[n_means]. */
void gp_weights(const struct gp *g, const double *prior, double power, double *out);
/* Solves for what gp_mean needs; again after every change of the observations. */
void gp_mean_prepare(struct gp *g);
/* Mean alone of hypothesis 0 at m points given by columns: cheap, no variance. prior NULL: zero. */
void gp_mean(const struct gp *g, size_t m, const float *const *col, const float *prior, float *out);

/* Fills v, var, one and u for the present observations (m, col and prior are set). */
void gp_block_fill(struct gp_block *b, const struct gp *g);
/* Adds the last pushed observation. */
void gp_block_push(struct gp_block *b, const struct gp *g);
/* Recomputes u after gp_retarget. */
void gp_block_retarget(struct gp_block *b, const struct gp *g);
/* Keeps what gp_block_restore needs to go back to now (one level). */
void gp_block_save(const struct gp_block *b, const struct gp *g, float **saved);
void gp_block_restore(struct gp_block *b, const struct gp *g, const float *saved);
void gp_block_release(struct gp_block *b);
/* Posterior of hypothesis h without noise, into mean[m], var[m]. */
void gp_block_posterior(const struct gp_block *b, const struct gp *g, size_t h, float *mean,
                        float *var);

#endif
