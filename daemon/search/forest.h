/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extremely randomised trees (Geurts, Ernst and Wehenkel 2006) on bootstrap samples, grown and
 * applied to the candidates in one go: no tree is kept. The spread across trees stands for the
 * deviation. Thread: any.
 */
#ifndef KS_SEARCH_FOREST_H
#define KS_SEARCH_FOREST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/rng.h"

/*
 * x: [n][d] of the observations, y: [n], n >= 1; col: d columns of [m] candidates; unordered: [d],
 * a cut of such a column parts one value from the others. Writes mean[m] and var[m] (>= 0).
 */
void forest_predict(size_t d, const bool *unordered, size_t n, const float *x, const double *y,
                    size_t m, const float *const *col, struct rng *rng, float *mean, float *var);

#endif
