/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise loops that the compiler vectorises; see vecmath.h. Built with -O3 -fno-math-errno
 * -fno-trapping-math. */
#include "search/vecmath.h"

#include <math.h>
#include <stdint.h>

/* Sanitizers cannot run the resolvers that pick a clone at load time. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) &&             \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

union bits {
    float value;
    uint32_t bits;
};

/*
 * e^x for x <= 0: 2^k times a polynomial on [-ln2/2, ln2/2] (Cephes coefficients, Moshier 1992).
 * The clamp at -87 compares bits, which of negative numbers grow with the magnitude: gcc 12 does
 * not vectorise the comparison of floats in a target clone.
 */
static inline __attribute__((always_inline)) float exp_neg(float x)
{
    union bits in = { x }, y, two_k;
    float f, r, p = 1.9875691500e-4f;
    int32_t k;

    y.bits = in.bits > 0xC2AE0000u ? 0xC2AE0000u : in.bits;
    k = (int32_t)(y.value * 1.44269504f - 0.5f); /* towards zero, so this rounds x / ln2 */
    f = (float)k;
    r = y.value - f * 0.693359375f + f * 2.12194440e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    two_k.bits = (uint32_t)(k + 127) << 23;
    return p * two_k.value;
}

WIDE void vec_add_sq(float *restrict acc, const float *restrict x, float c, float w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - c;

        acc[i] += w * (d * d);
    }
}

WIDE void vec_add_neq(float *restrict acc, const float *restrict x, float c, float w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] += x[i] != c ? w : 0.0f;
}

WIDE void vec_axpy(float *restrict acc, const float *restrict x, float w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] += w * x[i];
}

WIDE void vec_sub_sq(float *restrict acc, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] -= x[i] * x[i];
}

WIDE void vec_add_matern(float *restrict out, const float *restrict d2, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float r = sqrtf(5.0f * d2[i]);

        out[i] += s * ((1.0f + r + r * r * 0.333333333f) * exp_neg(-r));
    }
}

WIDE void vec_add_ei(float *restrict ei, const float *restrict mean, const float *restrict var,
                     float best, float w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float sd = sqrtf(var[i]);
        float z = (best - mean[i]) / sd;
        float t = fabsf(z);
        /* g = 1 - t (1 - Phi(t)) / phi(t), from 1 at 0 to 1 / t^2: h(-t) = phi(t) g(t), h(t) = t +
         * h(-t) */
        float frac =
            (1.0f + 0.222225f * t) / (1.0f + t * (0.848882f + t * (0.308691f + t * 0.074075f)));
        float inv_g = t * t + 3.0f - 2.0f * frac;
        float h = 0.39894228f * exp_neg(-0.5f * t * t) / inv_g;

        ei[i] += w * sd * (z > 0.0f ? z + h : h);
    }
}

WIDE void vec_posterior(float *restrict mean, float *restrict var, const float *restrict prior,
                        const float *restrict u, const float *restrict ones,
                        const float *restrict v, float beta, float c, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float left = 1.0f - ones[i];
        float own = v[i] > 1e-9f ? v[i] : 1e-9f;

        mean[i] = beta + u[i] - ones[i] * beta;
        var[i] = scale * (own + left * left * c);
    }
    if (prior == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        mean[i] += prior[i];
}
