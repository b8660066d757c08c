/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops that probe times; see probe_loops.h. This file alone is compiled with contraction of
 * a*b+c into one instruction: that instruction is what is being measured.
 */
#include "probe_loops.h"

/* Keeps the compiler from folding the loop; the values never leave the registers. */
#define FMA_BODY(vec, lanes)                                                                       \
    vec acc[16], m, a;                                                                             \
    for (int i = 0; i < (lanes); i++) {                                                            \
        m[i] = 0.999f;                                                                             \
        a[i] = 0.001f;                                                                             \
    }                                                                                              \
    for (int k = 0; k < 16; k++)                                                                   \
        acc[k] = m + (float)k;                                                                     \
    for (size_t t = 0; t < turns; t++)                                                             \
        for (int k = 0; k < 16; k++)                                                               \
            acc[k] = acc[k] * m + a;                                                               \
    for (int k = 1; k < 16; k++)                                                                   \
        acc[0] += acc[k];                                                                          \
    sink = acc[0][0];                                                                              \
    return (double)turns * 16 * (lanes)*2

static _Atomic float sink;

typedef float vec4 __attribute__((vector_size(16)));

static double fma_base(size_t turns)
{
    FMA_BODY(vec4, 4);
}

#if defined(__x86_64__)

#include <immintrin.h>

typedef float vec8 __attribute__((vector_size(32)));
typedef float vec16 __attribute__((vector_size(64)));

__attribute__((target("avx2,fma"))) static double fma_avx2(size_t turns)
{
    FMA_BODY(vec8, 8);
}

__attribute__((target("avx512f,fma"))) static double fma_avx512(size_t turns)
{
    FMA_BODY(vec16, 16);
}

__attribute__((target("avx512f,avx512bf16"))) static double dot_avx512(size_t turns)
{
    __m512 acc[16], sum;
    __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f703f70),
             b = (__m512bh)_mm512_set1_epi32(0x3a003a00);

    for (int k = 0; k < 16; k++)
        acc[k] = _mm512_set1_ps((float)k);
    for (size_t t = 0; t < turns; t++)
        for (int k = 0; k < 16; k++)
            acc[k] = _mm512_dpbf16_ps(acc[k], a, b);
    sum = acc[0];
    for (int k = 1; k < 16; k++)
        sum = _mm512_add_ps(sum, acc[k]);
    sink = _mm512_cvtss_f32(sum);
    return (double)turns * 16 * 16 * 2 * 2;
}

double probe_dot_bf16(size_t turns)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") ? dot_avx512(turns) : 0;
}

enum vector_isa probe_vector_isa(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return VECTOR_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return VECTOR_AVX2;
    return VECTOR_BASE;
}

double probe_fma(enum vector_isa isa, size_t turns)
{
    if (isa == VECTOR_AVX512)
        return fma_avx512(turns);
    return isa == VECTOR_AVX2 ? fma_avx2(turns) : fma_base(turns);
}

#else

enum vector_isa probe_vector_isa(void)
{
    return VECTOR_BASE;
}

double probe_dot_bf16(size_t turns)
{
    (void)turns;
    return 0;
}

double probe_fma(enum vector_isa isa, size_t turns)
{
    (void)isa;
    return fma_base(turns);
}

#endif

/* Eight sums side by side: the loads, not the additions, are what takes the time. */
uint64_t probe_read(const uint64_t *p, size_t n)
{
    uint64_t s[8] = { 0 }, all = 0;

    for (size_t i = 0; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] += p[i + (size_t)k];
    for (int k = 0; k < 8; k++)
        all += s[k];
    return all;
}
