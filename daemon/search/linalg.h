/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few dense operations that we take from BLAS and LAPACK, row-major. The first call sets
 * OpenBLAS to one thread (openblas_set_num_threads, for the whole process): the matrices are small,
 * and the order of sums must not depend on how many cores are free. Thread: any.
 */
#ifndef KS_SEARCH_LINALG_H
#define KS_SEARCH_LINALG_H

#include <stddef.h>

/* Replaces the lower triangle of `a`, [n][n] with `stride` doubles a row, by its Cholesky factor.
 * 0, or -1: not positive. */
int linalg_chol(double *a, size_t n, size_t stride);
/* x = L^-1 x for the lower triangle of l, [n][n] with `stride` doubles a row. */
void linalg_solve(const double *l, size_t n, size_t stride, double *x);
/* x = L^-T x. */
void linalg_solve_t(const double *l, size_t n, size_t stride, double *x);
/* V = L^-1 V, in single precision: l [n][n], v [n][m]. */
void linalg_solve_many(const float *l, float *v, size_t n, size_t m);
/* y += s V^T x: v [n][m], x [n], y [m]. */
void linalg_add_vt(float *y, const float *v, const float *x, float s, size_t n, size_t m);

#endif
