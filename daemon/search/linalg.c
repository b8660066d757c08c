/* SPDX-License-Identifier: Apache-2.0 */
/* BLAS and LAPACK behind linalg.h. Row-major lower is column-major upper, which LAPACK takes as it
 * is. */
#include "search/linalg.h"

#include <cblas.h>
#include <lapacke.h>
#include <pthread.h>

/* Absent from other BLAS libraries, which then keep their own setting. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_threads(void)
{
    if (openblas_set_num_threads != NULL)
        openblas_set_num_threads(1);
}

int linalg_chol(double *a, size_t n, size_t stride)
{
    pthread_once(&once, set_threads);
    return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, a, (lapack_int)stride) == 0
               ? 0
               : -1;
}

void linalg_solve(const double *l, size_t n, size_t stride, double *x)
{
    pthread_once(&once, set_threads);
    cblas_dtrsv(CblasRowMajor, CblasLower, CblasNoTrans, CblasNonUnit, (int)n, l, (int)stride, x,
                1);
}

void linalg_solve_t(const double *l, size_t n, size_t stride, double *x)
{
    pthread_once(&once, set_threads);
    cblas_dtrsv(CblasRowMajor, CblasLower, CblasTrans, CblasNonUnit, (int)n, l, (int)stride, x, 1);
}

void linalg_solve_many(const float *l, float *v, size_t n, size_t m)
{
    pthread_once(&once, set_threads);
    cblas_strsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)n, (int)m,
                1.0f, l, (int)n, v, (int)m);
}

void linalg_add_vt(float *y, const float *v, const float *x, float s, size_t n, size_t m)
{
    pthread_once(&once, set_threads);
    if (n > 0)
        cblas_sgemv(CblasRowMajor, CblasTrans, (int)n, (int)m, s, v, (int)m, x, 1, 1.0f, y, 1);
}
