/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of one embedding with many: what a vector search spends its time on. Built several times
 * and chosen when the program runs; sums of integers, so that all give the same.
 */
#include <stdbool.h>

#include "embed.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

void embed_widen(const struct embedding *e, struct embedding_wide *out)
{
    out->sum = 0;
    for (size_t i = 0; i < EMBED_DIM; i++) {
        out->v[i] = out->narrow[i] = e->v[i];
        out->sum += e->v[i];
    }
}

static inline __attribute__((always_inline)) void
dots_any(const struct embedding_wide *q, const struct embedding *v, size_t n, int32_t *out)
{
    for (size_t k = 0; k < n; k++) {
        int32_t sum = 0;

        for (size_t i = 0; i < EMBED_DIM; i++)
            sum += q->v[i] * v[k].v[i];
        out[k] = sum;
    }
}

static __attribute__((optimize("O3"))) void
dots_plain(const struct embedding_wide *q, const struct embedding *v, size_t n, int32_t *out)
{
    dots_any(q, v, n, out);
}

#ifdef HAVE_X86

static __attribute__((target("avx2"), optimize("O3"))) void
dots_avx2(const struct embedding_wide *q, const struct embedding *v, size_t n, int32_t *out)
{
    dots_any(q, v, n, out);
}

/*
 * The instruction multiplies unsigned by signed bytes: with 128 added to the vector (its top bits
 * turned) the sum is too great by 128 times the sum of the query. Nothing overflows: 256 products
 * of at most 255 * 128.
 */
static __attribute__((target("avx512f,avx512bw,avx512vnni"))) void
dots_vnni(const struct embedding_wide *q, const struct embedding *v, size_t n, int32_t *out)
{
    enum { STEP = 64, STEPS = EMBED_DIM / STEP };
    const __m512i top = _mm512_set1_epi8((char)0x80);
    __m512i with[STEPS];

    for (size_t i = 0; i < STEPS; i++)
        with[i] = _mm512_loadu_si512(q->narrow + i * STEP);
    for (size_t k = 0; k < n; k++) {
        __m512i sum = _mm512_setzero_si512();

        for (size_t i = 0; i < STEPS; i++) {
            __m512i x = _mm512_loadu_si512(v[k].v + i * STEP);

            sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(x, top), with[i]);
        }
        out[k] = _mm512_reduce_add_epi32(sum) - 128 * q->sum;
    }
}

#endif

typedef void dots_fn(const struct embedding_wide *q, const struct embedding *v, size_t n,
                     int32_t *out);

static dots_fn *dots_best(void)
{
#ifdef HAVE_X86
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        return dots_vnni;
    if (__builtin_cpu_supports("avx2"))
        return dots_avx2;
#endif
    return dots_plain;
}

void embed_dots(const struct embedding_wide *q, const struct embedding *v, size_t n, int32_t *out)
{
    static _Atomic(dots_fn *) chosen; /* threads that come first together choose the same */
    dots_fn *dots = chosen;

    if (dots == NULL)
        chosen = dots = dots_best();
    dots(q, v, n, out);
}

bool embed_dots_each(size_t i, const struct embedding_wide *q, const struct embedding *v, size_t n,
                     int32_t *out)
{
    dots_fn *dots = i == 0 ? dots_plain : NULL;

#ifdef HAVE_X86
    if (i == 1 && __builtin_cpu_supports("avx2"))
        dots = dots_avx2;
    if (i == 2 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        dots = dots_vnni;
#endif
    if (dots != NULL)
        dots(q, v, n, out);
    return dots != NULL;
}
