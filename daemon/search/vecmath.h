/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elementwise loops over candidates, in single precision, compiled for several vector widths. No
 * loop adds across elements and nothing is contracted, so every width gives the same bits. Arrays
 * do not overlap. Thread: any.
 */
#ifndef KS_SEARCH_VECMATH_H
#define KS_SEARCH_VECMATH_H

#include <stddef.h>

/* acc[i] += w * (x[i] - c)^2 */
void vec_add_sq(float *acc, const float *x, float c, float w, size_t n);
/* acc[i] += w where x[i] != c: the distance of unordered values */
void vec_add_neq(float *acc, const float *x, float c, float w, size_t n);
/* acc[i] += w * x[i] */
void vec_axpy(float *acc, const float *x, float w, size_t n);
/* acc[i] -= x[i]^2 */
void vec_sub_sq(float *acc, const float *x, size_t n);
/*
 * out[i] += s * m(sqrt(d2[i])), m the Matern 5/2 correlation (1 + r + r^2/3) exp(-r), r = sqrt(5) d
 * (Rasmussen and Williams 2006, equation 4.17). Relative error below 1e-5.
 */
void vec_add_matern(float *out, const float *d2, float s, size_t n);
/*
 * ei[i] += w * E[max(0, best - N(mean[i], var[i]))] = w sd (z Phi(z) + phi(z)), z = (best - mean) /
 * sd. var is positive. phi(t) - t (1 - Phi(t)) by a rational fit, relative error below 1e-3.
 */
void vec_add_ei(float *ei, const float *mean, const float *var, float best, float w, size_t n);
/*
 * Posterior under a flat prior on the constant: mean[i] = prior[i] + beta + u[i] - ones[i] * beta
 * and var[i] = scale * (max(v[i], 1e-9) + (1 - ones[i])^2 * c). `prior` NULL: zero.
 */
void vec_posterior(float *mean, float *var, const float *prior, const float *u, const float *ones,
                   const float *v, float beta, float c, float scale, size_t n);

#endif
