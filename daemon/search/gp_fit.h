/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hyper-parameters of a Gaussian process by coordinate search on the restricted marginal likelihood
 * (the constant integrated out; the amplitude profiled where the shape says so), summed over one or
 * more data sets that share them, with log-normal priors. Steps are factors of 2, then of sqrt 2:
 * no gradients. Thread: any.
 */
#ifndef KS_SEARCH_GP_FIT_H
#define KS_SEARCH_GP_FIT_H

#include "search/gp.h"

/* One data set: x [n][columns], resid [n] (y minus the prior mean). n <= GP_OBS_MAX. */
struct gp_data {
    size_t n;
    const float *x;
    const double *resid;
};

/* Log-normal priors: centre and the deviation of the natural logarithm. Amplitudes are s1 and s4.
 */
struct gp_prior {
    struct gp_hyper centre;
    double sd_length, sd_noise, sd_amp, sd_zlength;
};

/*
 * Improves *hyper (a start within the prior's reach) against `n_data` data sets; data sets of fewer
 * than 2 points count for nothing.
 */
void gp_fit(const struct gp_shape *shape, const struct gp_prior *prior, const struct gp_data *data,
            size_t n_data, struct gp_hyper *hyper);

#endif
