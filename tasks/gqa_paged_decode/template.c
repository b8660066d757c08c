/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunable paged decode. A work item is a stretch of keys of one sequence for one or all KV heads;
 * it streams K and V in tiles for HEADS query heads at a time. Logits live in base 2, so that exp2
 * serves and the log-sum-exp comes out as asked. Stretches of a split sequence leave partial
 * results in the call's scratch, which a second parallel pass merges. The macros are described in
 * template.space.json.
 *
 * A row of 128 elements is held as CHUNKS pairs of vectors. What a pair holds depends on BF16_MATH:
 * neighbouring halves (widen, scratch), even and odd elements (pairs), or what an unpack of two
 * keys yields (dot). Queries are brought into the same order, results are packed back from it.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ks_task.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors pass between inlined functions only */

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL_ALL _Pragma("GCC unroll 16")

/* dot needs AVX512-BF16; elsewhere the portable pairs do the same work. */
#if BF16_MATH == BF16_MATH_dot && defined(__AVX512BF16__) && defined(__AVX512VL__)
#define LOAD_DOT 1
#else
#define LOAD_DOT 0
#endif
#define LOAD_PAIRS (BF16_MATH == BF16_MATH_pairs || (BF16_MATH == BF16_MATH_dot && !LOAD_DOT))
#define LOAD_SCRATCH (BF16_MATH == BF16_MATH_scratch)

enum {
    QO_HEADS = KS_NUM_QO_HEADS,
    KV_HEADS = KS_NUM_KV_HEADS,
    DIM = KS_HEAD_DIM,
    GROUP = QO_HEADS / KV_HEADS, /* query heads of one KV head */
    HEADS = HEAD_GROUP < GROUP ? HEAD_GROUP : GROUP,
    LANES = VEC_BITS / 32,
    CHUNKS = DIM / (2 * LANES),
    BLOCK = SOFTMAX == SOFTMAX_online ? KV_TILE : 2048, /* keys between two looks at the maximum */
    STRIDE = BLOCK + 16, /* of a head's row of logits; rows must not fall on the same cache sets */
    PAIR_STRIDE = KV_TILE < 16 ? 16 : KV_TILE, /* of a head's row of rounded probabilities */
    KEY_STEP = QK_KEYS,
    LINE = 64
};

typedef float vf __attribute__((vector_size(VEC_BITS / 8)));
typedef uint32_t vu __attribute__((vector_size(VEC_BITS / 8)));
typedef uint16_t vh __attribute__((vector_size(VEC_BITS / 16)));
typedef float v4 __attribute__((vector_size(16)));

/* keys [begin, end) of sequence b for KV heads [head, head_end). */
struct item {
    int b, head, head_end;
    int begin, end;
    int partial; /* slot of its partial results; -1 when the item covers the sequence */
};

struct plan {
    const uint16_t *q, *k, *v;
    const int32_t *indptr, *indices;
    float scale; /* sm_scale * log2(e) */
    uint16_t *output;
    float *lse;
    struct item *items;
    int n_items;
    float *partials; /* slots of [QO_HEADS][DIM + 2]: accumulator, maximum, sum */
    int *first_slot; /* [batch]: slot of the sequence's first stretch, -1 when it is not split */
    int *stretches;  /* [batch] */
};

enum { SLOT = QO_HEADS * (DIM + 2) };

/* HEADS running softmaxes and their queries. */
struct state {
    float q[HEADS][DIM] __attribute__((aligned(LINE)));
    float acc[HEADS][DIM] __attribute__((aligned(LINE)));
    float top[HEADS], sum[HEADS];
};

/* ---- Vectors ---- */

INLINE vf load_f(const float *p)
{
    vf v;

    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void store_f(float *p, vf v)
{
    memcpy(p, &v, sizeof(v));
}

INLINE vu load_u(const void *p)
{
    vu v;

    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE vf splat(float x)
{
    return x - (vf){ 0 };
}

INLINE vf select_f(vu mask, vf a, vf b)
{
    return (vf)((mask & (vu)a) | (~mask & (vu)b));
}

INLINE vf max_f(vf a, vf b)
{
    return select_f((vu)(a > b), a, b);
}

INLINE vf widen(const uint16_t *p)
{
    vh h;

    memcpy(&h, p, sizeof(h));
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

#if VEC_BITS == 512
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
INLINE float sum_lanes(vf a)
{
    typedef float v8 __attribute__((vector_size(32)));
    v8 b = __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
    v4 c = __builtin_shufflevector(b, b, 0, 1, 2, 3) + __builtin_shufflevector(b, b, 4, 5, 6, 7);

    c += __builtin_shufflevector(c, c, 2, 3, 0, 1);
    return c[0] + c[1];
}

/* The sums of four vectors at once: halves, then quarters of different vectors share a register. */
INLINE v4 sum_lanes4(vf a, vf b, vf c, vf d)
{
    vf s = PICK(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           PICK(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    vf t = PICK(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           PICK(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    vf u = PICK(s, t, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           PICK(s, t, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);

    u += PICK(u, u, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    u += PICK(u, u, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return __builtin_shufflevector(u, u, 0, 4, 8, 12);
}
#elif VEC_BITS == 256
INLINE float sum_lanes(vf a)
{
    v4 c = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);

    c += __builtin_shufflevector(c, c, 2, 3, 0, 1);
    return c[0] + c[1];
}

INLINE v4 sum_lanes4(vf a, vf b, vf c, vf d)
{
    vf s = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    vf t = __builtin_shufflevector(c, d, 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(c, d, 4, 5, 6, 7, 12, 13, 14, 15);
    vf u = __builtin_shufflevector(s, t, 0, 1, 8, 9, 4, 5, 12, 13) +
           __builtin_shufflevector(s, t, 2, 3, 10, 11, 6, 7, 14, 15);

    u += __builtin_shufflevector(u, u, 1, 0, 3, 2, 5, 4, 7, 6);
    return __builtin_shufflevector(u, u, 0, 4, 2, 6);
}
#else
INLINE float sum_lanes(vf c)
{
    c += __builtin_shufflevector(c, c, 2, 3, 0, 1);
    return c[0] + c[1];
}

INLINE v4 sum_lanes4(vf a, vf b, vf c, vf d)
{
    vf s = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    vf t = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);

    return __builtin_shufflevector(s, t, 0, 2, 4, 6) + __builtin_shufflevector(s, t, 1, 3, 5, 7);
}
#endif

/* 2^x for x <= 0; what would be below 2^-126 becomes 2^-126. Relative error below 3e-6. */
INLINE vf exp2_poly(vf x)
{
    vf c = max_f(x, splat(-126.0f));
    vf t = c + 0x1.8p23f; /* the low bits now hold round(c) */
    vf f = c - (t - 0x1.8p23f);
    vf p = splat(1.3333558e-3f);

    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return (vf)((vu)p + ((vu)t << 23));
}

INLINE vf exp2_v(vf x)
{
#if EXP == EXP_poly
    return exp2_poly(x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = exp2f(x[i]);
    return x;
#endif
}

/* Chunk c of a row as two vectors of floats. row: bf16, or floats under BF16_MATH scratch. */
INLINE void row_load(const void *row, int c, vf *a, vf *b)
{
#if LOAD_SCRATCH
    *a = load_f((const float *)row + c * 2 * LANES);
    *b = load_f((const float *)row + c * 2 * LANES + LANES);
#elif LOAD_PAIRS || LOAD_DOT
    vu u = load_u((const uint16_t *)row + c * 2 * LANES);

    *a = (vf)(u << 16);
    *b = (vf)(u & 0xffff0000u);
#else
    *a = widen((const uint16_t *)row + c * 2 * LANES);
    *b = widen((const uint16_t *)row + c * 2 * LANES + LANES);
#endif
}

INLINE vu round_bf16(vf x)
{
    vu u = (vu)x;

    return u + 0x7fffu + ((u >> 16) & 1u);
}

/* The inverse of row_load: chunk c of acc x factor, rounded to bf16 in natural order. */
INLINE void row_store(uint16_t *row, int c, const float *acc, float factor)
{
    vu x = round_bf16(load_f(acc + c * 2 * LANES) * factor);
    vu y = round_bf16(load_f(acc + c * 2 * LANES + LANES) * factor);
    uint16_t *p = row + c * 2 * LANES;

#if LOAD_DOT
    x >>= 16;
    y >>= 16;
#if VEC_BITS == 512
    x = (vu)_mm512_packus_epi32((__m512i)x, (__m512i)y);
#elif VEC_BITS == 256
    x = (vu)_mm256_packus_epi32((__m256i)x, (__m256i)y);
#else
    x = (vu)_mm_packus_epi32((__m128i)x, (__m128i)y);
#endif
    memcpy(p, &x, sizeof(x));
#elif LOAD_PAIRS
    x = (x >> 16) | (y & 0xffff0000u);
    memcpy(p, &x, sizeof(x));
#else
    vh lo = __builtin_convertvector(x >> 16, vh), hi = __builtin_convertvector(y >> 16, vh);

    memcpy(p, &lo, sizeof(lo));
    memcpy(p + LANES, &hi, sizeof(hi));
#endif
}

#if LOAD_DOT
/* acc + the products of the bf16 pairs of x and y. */
INLINE vf dot_pairs(vf acc, vu x, vu y)
{
#if VEC_BITS == 512
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)x, (__m512bh)y);
#elif VEC_BITS == 256
    return (vf)_mm256_dpbf16_ps((__m256)acc, (__m256bh)x, (__m256bh)y);
#else
    return (vf)_mm_dpbf16_ps((__m128)acc, (__m128bh)x, (__m128bh)y);
#endif
}

/* Interleaves two keys' elements, so that one 32-bit lane holds both keys' values of an element. */
INLINE void interleave(vu x, vu y, vu *lo, vu *hi)
{
#if VEC_BITS == 512
    *lo = (vu)_mm512_unpacklo_epi16((__m512i)x, (__m512i)y);
    *hi = (vu)_mm512_unpackhi_epi16((__m512i)x, (__m512i)y);
#elif VEC_BITS == 256
    *lo = (vu)_mm256_unpacklo_epi16((__m256i)x, (__m256i)y);
    *hi = (vu)_mm256_unpackhi_epi16((__m256i)x, (__m256i)y);
#else
    *lo = (vu)_mm_unpacklo_epi16((__m128i)x, (__m128i)y);
    *hi = (vu)_mm_unpackhi_epi16((__m128i)x, (__m128i)y);
#endif
}
#endif

/* ---- Pages ---- */

INLINE const uint16_t *row_of(const struct plan *p, const uint16_t *cache, int key, int head)
{
    return cache + ((int64_t)p->indices[key] * KV_HEADS + head) * DIM;
}

INLINE void prefetch_row(const struct plan *p, const uint16_t *cache, int key, int end, int head)
{
#if PREFETCH > 0
    if (key < end) {
        const char *row = (const char *)row_of(p, cache, key, head);

        for (int i = 0; i < DIM * 2; i += LINE)
            __builtin_prefetch(row + i, 0, PREFETCH_LEVEL == 1 ? 3 : 2);
    }
#else
    (void)p, (void)cache, (void)key, (void)end, (void)head;
#endif
}

/*
 * The rows of keys [key, key + n), n <= KV_TILE, of one tile; the last one is repeated up to a
 * multiple of four, so that key blocks need no remainder. Under BF16_MATH scratch they are widened
 * first.
 */
INLINE void tile_rows(const struct plan *p, const uint16_t *cache, int key, int n, int head,
                      const void **rows, float *wide)
{
    for (int t = 0; t < n; t++) {
        const uint16_t *row = row_of(p, cache, key + t, head);
#if LOAD_SCRATCH
        float *w = wide + t * DIM;

        for (int i = 0; i < DIM; i += LANES)
            store_f(w + i, widen(row + i));
        rows[t] = w;
#else
        rows[t] = row;
#endif
    }
    for (int t = n; t < KV_TILE && t % 4 != 0; t++)
        rows[t] = rows[n - 1];
    (void)wide;
}

/* ---- Logits ---- */

/* Sums of KEY_STEP dot products per head, into x[h * STRIDE + j]. */
INLINE void sums_store(vf s[HEADS * KEY_STEP], float *x)
{
    if (HEADS * KEY_STEP % 4 != 0) {
        for (int i = 0; i < HEADS * KEY_STEP; i++)
            x[i / KEY_STEP * STRIDE + i % KEY_STEP] = sum_lanes(s[i]);
        return;
    }
    UNROLL_ALL
    for (int i = 0; i < HEADS * KEY_STEP; i += 4) {
        v4 r = sum_lanes4(s[i], s[i + 1], s[i + 2], s[i + 3]);

        UNROLL_ALL
        for (int k = 0; k < 4; k++)
            x[(i + k) / KEY_STEP * STRIDE + (i + k) % KEY_STEP] = r[k];
    }
}

/* Dot products of all heads' queries with KEY_STEP rows. */
INLINE void key_block(const float q[HEADS][DIM], const void *const *rows, float *x)
{
    vf s[HEADS * KEY_STEP];

    UNROLL_ALL
    for (int i = 0; i < HEADS * KEY_STEP; i++)
        s[i] = (vf){ 0 };
    for (int c = 0; c < CHUNKS; c++) {
#if LOAD_DOT
        vu k[KEY_STEP];

        UNROLL_ALL
        for (int j = 0; j < KEY_STEP; j++)
            k[j] = load_u((const uint16_t *)rows[j] + c * 2 * LANES);
        UNROLL_ALL
        for (int h = 0; h < HEADS; h++) {
            vu qc = load_u((const uint16_t *)q[h] + c * 2 * LANES);

            UNROLL_ALL
            for (int j = 0; j < KEY_STEP; j++)
                s[h * KEY_STEP + j] = dot_pairs(s[h * KEY_STEP + j], k[j], qc);
        }
#else
        vf a[KEY_STEP], b[KEY_STEP];

        UNROLL_ALL
        for (int j = 0; j < KEY_STEP; j++)
            row_load(rows[j], c, &a[j], &b[j]);
        UNROLL_ALL
        for (int h = 0; h < HEADS; h++) {
            vf qa = load_f(q[h] + c * 2 * LANES), qb = load_f(q[h] + c * 2 * LANES + LANES);

            UNROLL_ALL
            for (int j = 0; j < KEY_STEP; j++) {
                s[h * KEY_STEP + j] += qa * a[j];
                s[h * KEY_STEP + j] += qb * b[j];
            }
        }
#endif
    }
    sums_store(s, x);
}

/* Queries as the logits want them: floats in the order of row_load, or bf16 as they are. */
static void load_queries(const struct plan *p, int b, int head, float q[HEADS][DIM])
{
    for (int h = 0; h < HEADS; h++) {
        const uint16_t *src = p->q + ((int64_t)b * QO_HEADS + head + h) * DIM;

#if LOAD_DOT
        memcpy(q[h], src, DIM * sizeof(*src));
#elif LOAD_PAIRS
        for (int c = 0; c < CHUNKS; c++) {
            vf x, y;

            row_load(src, c, &x, &y);
            store_f(q[h] + c * 2 * LANES, x);
            store_f(q[h] + c * 2 * LANES + LANES, y);
        }
#else
        for (int i = 0; i < DIM; i += LANES)
            store_f(q[h] + i, widen(src + i));
#endif
    }
}

/* ---- Softmax ---- */

/*
 * x: [HEADS][STRIDE], n logits a head, unscaled; replaced by 2^(scale x - top), zero (or 2^-126)
 * beyond n up to a multiple of the vector. The running sums and accumulators are brought to the new
 * maximum.
 */
static void softmax_block(struct state *st, float *x, int n, float scale)
{
    int padded = (n + LANES - 1) / LANES * LANES;

    for (int h = 0; h < HEADS; h++) {
        float *r = x + h * STRIDE, top = st->top[h];
        vf m = splat(-INFINITY), sum = { 0 };

        for (int t = n; t < padded; t++)
            r[t] = -INFINITY;
        for (int t = 0; t < padded; t += LANES) {
            vf y = load_f(r + t) * scale;

            store_f(r + t, y);
            m = max_f(y, m);
        }
        for (int i = 0; i < LANES; i++)
            top = m[i] > top ? m[i] : top;
        for (int t = 0; t < padded; t += LANES) {
            vf e = exp2_v(load_f(r + t) - top);

            store_f(r + t, e);
            sum += e;
        }
        if (top > st->top[h]) {
            float shrink = exp2f(st->top[h] - top);

            st->sum[h] *= shrink;
            for (int i = 0; i < DIM; i += LANES)
                store_f(st->acc[h] + i, load_f(st->acc[h] + i) * shrink);
            st->top[h] = top;
        }
        st->sum[h] += sum_lanes(sum);
    }
}

/* ---- Values ---- */

/*
 * n probabilities a head, rounded to bf16: two neighbouring keys make one 32-bit word of pairs.
 * Beyond n stands what softmax_block left there, or zero.
 */
INLINE void round_probabilities(const float *x, int n, uint16_t *pairs)
{
    for (int h = 0; h < HEADS; h++) {
        for (int t = 0; t < n; t += LANES) {
            vh p = __builtin_convertvector(round_bf16(load_f(x + h * STRIDE + t)) >> 16, vh);

            memcpy(pairs + h * PAIR_STRIDE + t, &p, sizeof(p));
        }
        if (n % 2 != 0)
            pairs[h * PAIR_STRIDE + n] = 0;
    }
}

/* Keys taken together by the weighted sum. */
enum { VALUE_STEP = LOAD_DOT ? 2 : 1 };

/* s[h] += p[h][t] * (chunk c of the rows of step t), for all heads. */
INLINE void value_step(const void *const *rows, const float *x, const uint16_t *pairs, int t, int c,
                       vf s[HEADS][2])
{
#if LOAD_DOT
    vu lo, hi;

    interleave(load_u((const uint16_t *)rows[t] + c * 2 * LANES),
               load_u((const uint16_t *)rows[t + 1] + c * 2 * LANES), &lo, &hi);
    UNROLL_ALL
    for (int h = 0; h < HEADS; h++) {
        uint32_t two;
        vu w;

        memcpy(&two, pairs + h * PAIR_STRIDE + t, sizeof(two));
        w = two - (vu){ 0 };
        s[h][0] = dot_pairs(s[h][0], lo, w);
        s[h][1] = dot_pairs(s[h][1], hi, w);
    }
    (void)x;
#else
    vf a, b;

    row_load(rows[t], c, &a, &b);
    UNROLL_ALL
    for (int h = 0; h < HEADS; h++) {
        s[h][0] += x[h * STRIDE + t] * a;
        s[h][1] += x[h * STRIDE + t] * b;
    }
    (void)pairs;
#endif
}

INLINE void acc_load(const struct state *st, int c, vf s[HEADS][2])
{
    UNROLL_ALL
    for (int h = 0; h < HEADS; h++) {
        s[h][0] = load_f(st->acc[h] + c * 2 * LANES);
        s[h][1] = load_f(st->acc[h] + c * 2 * LANES + LANES);
    }
}

INLINE void acc_store(struct state *st, int c, vf s[HEADS][2])
{
    UNROLL_ALL
    for (int h = 0; h < HEADS; h++) {
        store_f(st->acc[h] + c * 2 * LANES, s[h][0]);
        store_f(st->acc[h] + c * 2 * LANES + LANES, s[h][1]);
    }
}

/* Adds n keys' values to the accumulators. x: the tile's first probability of head 0. */
static void values_tile(struct state *st, const void *const *rows, const float *x,
                        const uint16_t *pairs, int n)
{
    vf s[HEADS][2];

#if ACCUM == ACCUM_registers
    for (int c = 0; c < CHUNKS; c++) {
        acc_load(st, c, s);
        for (int t = 0; t < n; t += VALUE_STEP)
            value_step(rows, x, pairs, t, c, s);
        acc_store(st, c, s);
    }
#else
    for (int t = 0; t < n; t += VALUE_STEP)
        for (int c = 0; c < CHUNKS; c++) {
            acc_load(st, c, s);
            value_step(rows, x, pairs, t, c, s);
            acc_store(st, c, s);
        }
#endif
}

/* ---- Streaming ---- */

static void logits_tile(const struct plan *p, const float q[HEADS][DIM], int key, int n, int end,
                        int head, float *x)
{
    const void *rows[KV_TILE];
    float wide[LOAD_SCRATCH ? KV_TILE * DIM : 1] __attribute__((aligned(LINE)));

    tile_rows(p, p->k, key, n, head, rows, wide);
    for (int t = 0; t < n; t += KEY_STEP) {
        for (int j = 0; j < KEY_STEP; j++) {
            prefetch_row(p, p->k, key + t + j + PREFETCH, end, head);
            if (SOFTMAX == SOFTMAX_online)
                prefetch_row(p, p->v, key + t + j + PREFETCH, end, head);
        }
        key_block(q, rows + t, x + t);
    }
}

static void weigh_tile(const struct plan *p, struct state *st, int key, int n, int end, int head,
                       float *x)
{
    const void *rows[KV_TILE];
    float wide[LOAD_SCRATCH ? KV_TILE * DIM : 1] __attribute__((aligned(LINE)));
    uint16_t pairs[LOAD_DOT ? HEADS * PAIR_STRIDE : 1];

    tile_rows(p, p->v, key, n, head, rows, wide);
    if (LOAD_DOT)
        round_probabilities(x, n, pairs);
    if (SOFTMAX != SOFTMAX_online)
        for (int t = 0; t < n; t++)
            prefetch_row(p, p->v, key + t + PREFETCH, end, head);
    values_tile(st, rows, x, pairs, n);
}

static void state_init(const struct plan *p, struct state *st, int b, int qo_head)
{
    load_queries(p, b, qo_head, st->q);
    memset(st->acc, 0, sizeof(st->acc));
    for (int h = 0; h < HEADS; h++) {
        st->top[h] = -INFINITY;
        st->sum[h] = 0;
    }
}

/* Takes n <= BLOCK keys from `key` on into the softmax; end: where the stretch ends. */
static void block_run(const struct plan *p, struct state *st, int key, int n, int end, int head)
{
    float x[HEADS * STRIDE] __attribute__((aligned(LINE)));

    for (int t = 0; t < n; t += KV_TILE)
        logits_tile(p, st->q, key + t, n - t < KV_TILE ? n - t : KV_TILE, end, head, x + t);
    softmax_block(st, x, n, p->scale);
    for (int t = 0; t < n; t += KV_TILE)
        weigh_tile(p, st, key + t, n - t < KV_TILE ? n - t : KV_TILE, end, head, x + t);
}

/* Asks for the rows that lie before the reach of the running prefetch. */
static void prefetch_first(const struct plan *p, const struct item *it, int head)
{
    for (int t = 0; t < PREFETCH; t++) {
        prefetch_row(p, p->k, it->begin + t, it->end, head);
        prefetch_row(p, p->v, it->begin + t, it->end, head);
    }
}

/* st: one state for each HEADS query heads of the item. */
static void item_stream(const struct plan *p, const struct item *it, struct state *st)
{
    const int per_head = GROUP / HEADS, passes = (it->head_end - it->head) * per_head;
    const int step = WALK == WALK_page_major ? passes : 1;

    for (int first = 0; first < passes; first += step) {
        for (int i = first; i < first + step; i += per_head)
            prefetch_first(p, it, it->head + i / per_head);
        for (int key = it->begin; key < it->end; key += BLOCK) {
            int n = it->end - key < BLOCK ? it->end - key : BLOCK;

            for (int i = first; i < first + step; i++)
                block_run(p, st + i, key, n, it->end, it->head + i / per_head);
        }
    }
}

/* ---- Results ---- */

/* acc: one head's accumulator, in the order of row_load. An empty sequence gives zeros and -inf. */
static void head_store(const struct plan *p, int b, int qo_head, const float *acc, float top,
                       float sum)
{
    int64_t at = (int64_t)b * QO_HEADS + qo_head;
    float inverse = sum > 0 ? 1 / sum : 0;

    for (int c = 0; c < CHUNKS; c++)
        row_store(p->output + at * DIM, c, acc, inverse);
    p->lse[at] = sum > 0 ? top + log2f(sum) : -INFINITY;
}

/* Keeps one head's part of a split sequence for the merge. */
static void partial_store(const struct plan *p, const struct item *it, int qo_head,
                          const struct state *st, int h)
{
    float *slot = p->partials + (size_t)it->partial * SLOT + (size_t)qo_head * (DIM + 2);

    memcpy(slot, st->acc[h], sizeof(st->acc[h]));
    slot[DIM] = st->top[h];
    slot[DIM + 1] = st->sum[h];
}

static void item_run(void *ctx, int i)
{
    const struct plan *p = ctx;
    const struct item *it = &p->items[i];
    struct state st[QO_HEADS / HEADS];
    int first = it->head * GROUP, end = it->head_end * GROUP;

    for (int qo_head = first; qo_head < end; qo_head += HEADS)
        state_init(p, &st[(qo_head - first) / HEADS], it->b, qo_head);
    item_stream(p, it, st);
    for (int qo_head = first; qo_head < end; qo_head++) {
        const struct state *s = &st[(qo_head - first) / HEADS];
        int h = qo_head % HEADS;

        if (it->partial < 0)
            head_store(p, it->b, qo_head, s->acc[h], s->top[h], s->sum[h]);
        else
            partial_store(p, it, qo_head, s, h);
    }
}

/* Item i: KV head i % KV_HEADS of sequence i / KV_HEADS, when that sequence was split. */
static void merge_run(void *ctx, int i)
{
    const struct plan *p = ctx;
    int b = i / KV_HEADS, first = i % KV_HEADS * GROUP, n = p->stretches[b];

    if (p->first_slot[b] < 0)
        return;
    for (int h = first; h < first + GROUP; h++) {
        const float *part = p->partials + (size_t)p->first_slot[b] * SLOT + h * (DIM + 2);
        float acc[DIM] __attribute__((aligned(LINE))) = { 0 }, top = -INFINITY, sum = 0;

        for (int s = 0; s < n; s++)
            top = part[s * SLOT + DIM] > top ? part[s * SLOT + DIM] : top;
        for (int s = 0; s < n; s++) {
            const float *a = part + s * SLOT;
            float w = exp2f(a[DIM] - top);

            sum += w * a[DIM + 1];
            for (int d = 0; d < DIM; d++)
                acc[d] += w * a[d];
        }
        head_store(p, b, h, acc, top, sum);
    }
}

/* ---- Work items ---- */

/* How many stretches of `keys` keys a sequence falls into; an empty one is one stretch. */
static int stretches_of(int len, int keys)
{
    return len <= keys ? 1 : len / keys + (len % keys != 0);
}

/* The most stretches that the scratch has room for. */
static int stretch_room(const struct ks_call *call)
{
    size_t room = call->scratch_bytes / (sizeof(float) * SLOT);

    return room > 1 << 20 ? 1 << 20 : (int)room;
}

/* SPLIT_KEYS, doubled until the partial results fit; INT32_MAX when nothing is to be split. */
static int stretch_keys(const struct ks_call *call, const int32_t *indptr, int batch)
{
#if PARTITION == PARTITION_split_kv
    int room = stretch_room(call);

    for (int keys = SPLIT_KEYS; keys <= 1 << 28; keys *= 2) {
        int64_t need = 0;

        for (int b = 0; b < batch; b++) {
            int n = stretches_of(indptr[b + 1] - indptr[b], keys);

            need += n > 1 ? n : 0;
        }
        if (need <= room)
            return keys;
    }
#else
    (void)call, (void)indptr, (void)batch, (void)stretch_room;
#endif
    return INT32_MAX;
}

/* Longest first: the last items to start are then short, and threads end together. */
static int by_length(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int64_t p = (int64_t)(x->end - x->begin) * (x->head_end - x->head);
    int64_t q = (int64_t)(y->end - y->begin) * (y->head_end - y->head);

    return p < q ? 1 : p > q ? -1 : 0;
}

static void plan_items(struct plan *p, int batch, int keys)
{
    int heads = PARTITION == PARTITION_sequence || WALK == WALK_page_major ? KV_HEADS : 1;
    int slot = 0;

    for (int b = 0; b < batch; b++) {
        int begin = p->indptr[b], end = p->indptr[b + 1], n = stretches_of(end - begin, keys);

        p->stretches[b] = n;
        p->first_slot[b] = n > 1 ? slot : -1;
        for (int s = 0; s < n; s++) {
            int from = begin + s * (n > 1 ? keys : 0);

            for (int head = 0; head < KV_HEADS; head += heads)
                p->items[p->n_items++] = (struct item){
                    .b = b,
                    .head = head,
                    .head_end = head + heads,
                    .begin = from,
                    .end = n == 1 || end - from < keys ? end : from + keys,
                    .partial = n > 1 ? slot : -1,
                };
            slot += n > 1;
        }
    }
    qsort(p->items, (size_t)p->n_items, sizeof(*p->items), by_length);
}

/* How many items plan_items will make, at most. */
static size_t items_max(const int32_t *indptr, int batch, int keys)
{
    size_t n = 0;

    for (int b = 0; b < batch; b++)
        n += (size_t)stretches_of(indptr[b + 1] - indptr[b], keys) * KV_HEADS;
    return n;
}

int ks_kernel(const struct ks_call *call)
{
    int batch = (int)call->inputs[0].shape[0];
    const int32_t *indptr = call->inputs[3].data;
    int keys = stretch_keys(call, indptr, batch);
    size_t n_items = items_max(indptr, batch, keys), n_batch = (size_t)batch;
    char *memory = malloc(n_items * sizeof(struct item) + 2 * n_batch * sizeof(int));
    struct plan p = {
        .q = call->inputs[0].data,
        .k = call->inputs[1].data,
        .v = call->inputs[2].data,
        .indptr = indptr,
        .indices = call->inputs[4].data,
        .scale = *(const float *)call->inputs[5].data * (float)M_LOG2E,
        .output = call->outputs[0].data,
        .lse = call->outputs[1].data,
        .partials = call->scratch,
    };

    if (!memory)
        return 1;
    p.items = (struct item *)memory;
    p.first_slot = (int *)(memory + n_items * sizeof(struct item));
    p.stretches = p.first_slot + batch;
    plan_items(&p, batch, keys);
    call->parallel(call->pool, item_run, &p, p.n_items);
    if (keys != INT32_MAX)
        call->parallel(call->pool, merge_run, &p, batch * KV_HEADS);
    free(memory);
    return 0;
}
