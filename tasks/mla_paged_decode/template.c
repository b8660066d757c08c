/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunable latent decode. A work item is a stretch of keys of one sequence for HEADS or for all
 * query heads; it streams latent rows in tiles, each of which is two small matrix products: queries
 * by rows, then probabilities by the same rows. Logits live in base 2, so that exp2 serves and the
 * log-sum-exp comes out as asked, and key by key, so that one vector holds one key's logits of
 * several heads. Stretches of a split sequence leave partial results in the call's scratch, which a
 * second parallel pass merges. The macros are described in template.space.json.
 *
 * Rows are taken in chunks of two vectors. What the pair holds depends on BF16_MATH: neighbouring
 * halves (widen, scratch), even and odd elements (pairs), or what an unpack of two keys yields
 * (dot). Queries are brought into the same order, results are packed back from it.
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
#define UNROLL_ALL _Pragma("GCC unroll 32")

/* dot needs AVX512-BF16; elsewhere the portable pairs do the same work. */
#if BF16_MATH == BF16_MATH_dot && defined(__AVX512BF16__) && defined(__AVX512VL__)
#define LOAD_DOT 1
#else
#define LOAD_DOT 0
#endif
#define LOAD_PAIRS (BF16_MATH == BF16_MATH_pairs || (BF16_MATH == BF16_MATH_dot && !LOAD_DOT))
#define LOAD_SCRATCH (BF16_MATH == BF16_MATH_scratch)
#define HEAD_LANES (LOGITS == LOGITS_head_lanes)

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
/* One vector holds one number for each of so many heads. */
#define HLANES MIN_OF(MIN_OF(HEAD_GROUP, KS_NUM_QO_HEADS), VEC_BITS / 32)

enum {
    QO_HEADS = KS_NUM_QO_HEADS,
    CKV = KS_HEAD_DIM_CKV,
    KPE = KS_HEAD_DIM_KPE,
    DIM = CKV + KPE,
    HEADS = MIN_OF(HEAD_GROUP, QO_HEADS), /* that share one pass over the rows */
    PASSES = QO_HEADS / HEADS,
    LANES = VEC_BITS / 32,
    CHUNK = 2 * LANES,
    HEAD_VECS = HEADS / HLANES,
    /* keys between two looks at the maximum */
    BLOCK = SOFTMAX == SOFTMAX_online ? KV_TILE : 1024,
    DOT_HEADS = MIN_OF(QK_HEADS, HEADS),
    SUM_HEADS = MIN_OF(PV_HEADS, HEADS),
    SUM_CHUNKS = 8 / SUM_HEADS, /* sixteen vectors of sums, whatever the shape */
    LINE = 64
};

_Static_assert(QO_HEADS % HEADS == 0 && HEADS % HLANES == 0, "heads fill their vectors");
_Static_assert(CKV % (CHUNK * SUM_CHUNKS) == 0 && KPE % CHUNK == 0, "rows fill their chunks");

typedef float vf __attribute__((vector_size(VEC_BITS / 8)));
typedef uint32_t vu __attribute__((vector_size(VEC_BITS / 8)));
typedef uint16_t vh __attribute__((vector_size(VEC_BITS / 16)));
typedef float hf __attribute__((vector_size(HLANES * 4))); /* one number for each of HLANES heads */
typedef uint32_t hu __attribute__((vector_size(HLANES * 4)));
typedef float v4 __attribute__((vector_size(16)));

/* keys [begin, end) of sequence b for query heads [head, head_end). */
struct item {
    int b, head, head_end;
    int begin, end;
    int partial; /* slot of its partial results; -1 when the item covers the sequence */
};

struct plan {
    const uint16_t *q_nope, *q_pe, *ckv, *kpe;
    const int32_t *indptr, *indices;
    float scale; /* sm_scale * log2(e) */
    uint16_t *output;
    float *lse;
    struct item *items;
    int n_items;
    float *partials; /* slots of [QO_HEADS][CKV + 2]: accumulator, maximum, sum */
    int *first_slot; /* [batch]: slot of the sequence's first stretch, -1 when it is not split */
    int *stretches;  /* [batch] */
};

enum { SLOT = QO_HEADS * (CKV + 2) };

/*
 * HEADS running softmaxes and their queries. q: [HEADS][DIM] in the order of the chunks, or, when
 * lanes are heads, [DIM][HEADS]; of bf16 under dot, where two elements share a word.
 */
struct state {
    float q[HEADS * DIM] __attribute__((aligned(LINE)));
    float acc[HEADS][CKV] __attribute__((aligned(LINE)));
    float top[HEADS] __attribute__((aligned(LINE)));
    float sum[HEADS] __attribute__((aligned(LINE)));
};

/* One key's row: two arrays of bf16, or (scratch) one of floats in which `pe` follows `latent`. */
struct row {
    const void *latent, *pe;
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

INLINE hf load_heads(const float *p)
{
    hf v;

    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void store_heads(float *p, hf v)
{
    memcpy(p, &v, sizeof(v));
}

INLINE uint32_t load_word(const void *p)
{
    uint32_t w;

    memcpy(&w, p, sizeof(w));
    return w;
}

INLINE float word_float(uint32_t w)
{
    float f;

    memcpy(&f, &w, sizeof(f));
    return f;
}

INLINE hf max_heads(hf a, hf b)
{
    hu m = (hu)(a > b);

    return (hf)((m & (hu)a) | (~m & (hu)b));
}

INLINE vf widen(const uint16_t *p)
{
    vh h;

    memcpy(&h, p, sizeof(h));
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

#if VEC_BITS == 512
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
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
INLINE v4 sum_lanes4(vf a, vf b, vf c, vf d)
{
    vf s = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    vf t = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);

    return __builtin_shufflevector(s, t, 0, 2, 4, 6) + __builtin_shufflevector(s, t, 1, 3, 5, 7);
}
#endif

/* 2^x for x <= 0; what would be below 2^-126 becomes 2^-126. Relative error below 3e-6. */
INLINE hf exp2_poly(hf x)
{
    hf c = max_heads(x, -126.0f - (hf){ 0 });
    hf t = c + 0x1.8p23f; /* the low bits now hold round(c) */
    hf f = c - (t - 0x1.8p23f);
    hf p = 1.3333558e-3f - (hf){ 0 };

    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return (hf)((hu)p + ((hu)t << 23));
}

INLINE hf exp2_heads(hf x)
{
#if EXP == EXP_poly
    return exp2_poly(x);
#else
    for (int i = 0; i < HLANES; i++)
        x[i] = exp2f(x[i]);
    return x;
#endif
}

/* Chunk c of a row (or of its rotary part) as two vectors of floats. */
INLINE void row_load(const void *row, int c, vf *a, vf *b)
{
#if LOAD_SCRATCH
    *a = load_f((const float *)row + c * CHUNK);
    *b = load_f((const float *)row + c * CHUNK + LANES);
#elif LOAD_PAIRS || LOAD_DOT
    vu u = load_u((const uint16_t *)row + c * CHUNK);

    *a = (vf)(u << 16);
    *b = (vf)(u & 0xffff0000u);
#else
    *a = widen((const uint16_t *)row + c * CHUNK);
    *b = widen((const uint16_t *)row + c * CHUNK + LANES);
#endif
}

INLINE vu round_bf16(vf x)
{
    vu u = (vu)x;

    return u + 0x7fffu + ((u >> 16) & 1u);
}

/* Chunk c of acc x factor, rounded to bf16 and brought from the order of the chunks into the
 * natural one. */
INLINE void row_store(uint16_t *row, int c, const float *acc, float factor)
{
    vu x = round_bf16(load_f(acc + c * CHUNK) * factor);
    vu y = round_bf16(load_f(acc + c * CHUNK + LANES) * factor);
    uint16_t *p = row + c * CHUNK;

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

/* The same with one lane a head. */
INLINE hf dot_heads(hf acc, hu x, hu y)
{
#if HLANES == 16
    return (hf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)x, (__m512bh)y);
#elif HLANES == 8
    return (hf)_mm256_dpbf16_ps((__m256)acc, (__m256bh)x, (__m256bh)y);
#else
    return (hf)_mm_dpbf16_ps((__m128)acc, (__m128bh)x, (__m128bh)y);
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

INLINE void prefetch_row(const struct plan *p, int key, int end)
{
#if PREFETCH > 0
    if (key < end) {
        const char *latent = (const char *)(p->ckv + (int64_t)p->indices[key] * CKV);
        const char *pe = (const char *)(p->kpe + (int64_t)p->indices[key] * KPE);

        for (int i = 0; i < CKV * 2; i += LINE)
            __builtin_prefetch(latent + i, 0, 2);
        for (int i = 0; i < KPE * 2; i += LINE)
            __builtin_prefetch(pe + i, 0, 2);
    }
#else
    (void)p, (void)key, (void)end;
#endif
}

INLINE void widen_row(float *out, const uint16_t *x, int n)
{
    for (int i = 0; i < n; i += LANES)
        store_f(out + i, widen(x + i));
}

/*
 * The rows of keys [key, key + n), n <= KV_TILE, of one tile; the last one is repeated up to the
 * end of the tile, so that blocks of keys need no remainder. Under BF16_MATH scratch they are
 * widened first. end: where the stretch ends.
 */
INLINE void tile_rows(const struct plan *p, int key, int n, int end, struct row *rows, float *wide)
{
    for (int t = 0; t < n; t++) {
        int64_t page = p->indices[key + t];
        const uint16_t *latent = p->ckv + page * CKV, *pe = p->kpe + page * KPE;

#if LOAD_SCRATCH
        float *w = wide + t * DIM;

        prefetch_row(p, key + t + PREFETCH, end);
        widen_row(w, latent, CKV);
        widen_row(w + CKV, pe, KPE);
        rows[t] = (struct row){ w, w + CKV };
#else
        rows[t] = (struct row){ latent, pe };
#endif
    }
    for (int t = n; t < KV_TILE; t++)
        rows[t] = rows[n - 1];
    (void)wide, (void)end;
}

/* ---- Logits, a lane for each slice of the dimensions ---- */

/* s[j][h] += the products of chunks [0, n) of QK_KEYS rows with DOT_HEADS queries. */
INLINE void dims_part(const float *q, const void *const *rows, int n, vf s[QK_KEYS][DOT_HEADS])
{
    for (int c = 0; c < n; c++) {
#if LOAD_DOT
        UNROLL_ALL
        for (int h = 0; h < DOT_HEADS; h++) {
            vu qc = load_u((const uint16_t *)(q + h * DIM) + c * CHUNK);

            UNROLL_ALL
            for (int j = 0; j < QK_KEYS; j++)
                s[j][h] = dot_pairs(s[j][h], load_u((const uint16_t *)rows[j] + c * CHUNK), qc);
        }
#else
        vf a[QK_KEYS], b[QK_KEYS];

        UNROLL_ALL
        for (int j = 0; j < QK_KEYS; j++)
            row_load(rows[j], c, &a[j], &b[j]);
        UNROLL_ALL
        for (int h = 0; h < DOT_HEADS; h++) {
            vf qa = load_f(q + h * DIM + c * CHUNK), qb = load_f(q + h * DIM + c * CHUNK + LANES);

            UNROLL_ALL
            for (int j = 0; j < QK_KEYS; j++) {
                s[j][h] += qa * a[j];
                s[j][h] += qb * b[j];
            }
        }
#endif
    }
}

/* Logits of QK_KEYS keys for DOT_HEADS heads, into x[j * HEADS + h]. */
INLINE void dims_block(const float *q, const struct row *rows, float *x)
{
    vf s[QK_KEYS][DOT_HEADS];
    const void *latent[QK_KEYS], *pe[QK_KEYS];

    UNROLL_ALL
    for (int j = 0; j < QK_KEYS; j++) {
        latent[j] = rows[j].latent;
        pe[j] = rows[j].pe;
        UNROLL_ALL
        for (int h = 0; h < DOT_HEADS; h++)
            s[j][h] = (vf){ 0 };
    }
    dims_part(q, latent, CKV / CHUNK, s);
    /* bf16 queries are half as long as the floats that they stand in for */
    dims_part(q + (LOAD_DOT ? CKV / 2 : CKV), pe, KPE / CHUNK, s);
    UNROLL_ALL
    for (int i = 0; i < QK_KEYS * DOT_HEADS; i += 4) {
        v4 r =
            sum_lanes4(s[i / DOT_HEADS][i % DOT_HEADS], s[(i + 1) / DOT_HEADS][(i + 1) % DOT_HEADS],
                       s[(i + 2) / DOT_HEADS][(i + 2) % DOT_HEADS],
                       s[(i + 3) / DOT_HEADS][(i + 3) % DOT_HEADS]);

        UNROLL_ALL
        for (int k = 0; k < 4; k++)
            x[(i + k) / DOT_HEADS * HEADS + (i + k) % DOT_HEADS] = r[k];
    }
}

/* ---- Logits, a lane for each head ---- */

/* s[j][v] += elements [0, n) of QK_KEYS rows times the queries of all heads, two at a time. */
INLINE void heads_part(const float *q, const void *const *rows, int n, hf s[QK_KEYS][HEAD_VECS])
{
    for (int i = 0; i < n; i += 2) {
        UNROLL_ALL
        for (int v = 0; v < HEAD_VECS; v++) {
#if LOAD_DOT
            hu qi = (hu)load_heads(q + i / 2 * HEADS + v * HLANES);

            UNROLL_ALL
            for (int j = 0; j < QK_KEYS; j++)
                s[j][v] =
                    dot_heads(s[j][v], load_word((const uint16_t *)rows[j] + i) - (hu){ 0 }, qi);
#else
            hf qa = load_heads(q + i * HEADS + v * HLANES);
            hf qb = load_heads(q + (i + 1) * HEADS + v * HLANES);

            UNROLL_ALL
            for (int j = 0; j < QK_KEYS; j++) {
#if LOAD_SCRATCH
                s[j][v] += ((const float *)rows[j])[i] * qa;
                s[j][v] += ((const float *)rows[j])[i + 1] * qb;
#elif LOAD_PAIRS
                hu two = load_word((const uint16_t *)rows[j] + i) - (hu){ 0 };

                s[j][v] += (hf)(two << 16) * qa;
                s[j][v] += (hf)(two & 0xffff0000u) * qb;
#else
                const uint16_t *two = (const uint16_t *)rows[j] + i;

                s[j][v] += word_float((uint32_t)two[0] << 16) * qa;
                s[j][v] += word_float((uint32_t)two[1] << 16) * qb;
#endif
            }
#endif
        }
    }
}

/* Logits of QK_KEYS keys for all HEADS, into x[j * HEADS + h]. */
INLINE void heads_block(const float *q, const struct row *rows, float *x)
{
    hf s[QK_KEYS][HEAD_VECS];
    const void *latent[QK_KEYS], *pe[QK_KEYS];

    UNROLL_ALL
    for (int j = 0; j < QK_KEYS; j++) {
        latent[j] = rows[j].latent;
        pe[j] = rows[j].pe;
        UNROLL_ALL
        for (int v = 0; v < HEAD_VECS; v++)
            s[j][v] = (hf){ 0 };
    }
    heads_part(q, latent, CKV, s);
    heads_part(q + (LOAD_DOT ? CKV / 2 : CKV) * HEADS, pe, KPE, s);
    UNROLL_ALL
    for (int j = 0; j < QK_KEYS; j++)
        UNROLL_ALL
    for (int v = 0; v < HEAD_VECS; v++)
        store_heads(x + j * HEADS + v * HLANES, s[j][v]);
}

/* ---- Queries ---- */

/* One head's query [DIM] in natural order: its latent part, then its rotary part. */
static void query_copy(const struct plan *p, int64_t row, uint16_t *q)
{
    memcpy(q, p->q_nope + row * CKV, CKV * sizeof(*q));
    memcpy(q + CKV, p->q_pe + row * KPE, KPE * sizeof(*q));
}

/* Places head h's query as `struct state` says. */
static void query_place(float *q, int h, const uint16_t *x)
{
#if HEAD_LANES && LOAD_DOT
    for (int i = 0; i < DIM; i += 2)
        memcpy(q + i / 2 * HEADS + h, x + i, sizeof(*q));
#elif HEAD_LANES
    for (int i = 0; i < DIM; i++)
        q[i * HEADS + h] = ks_bf16_to_f32(x[i]);
#elif LOAD_DOT
    memcpy(q + h * DIM, x, DIM * sizeof(*x));
#elif LOAD_PAIRS
    for (int c = 0; c < DIM / CHUNK; c++) {
        vf a, b;

        row_load(x, c, &a, &b);
        store_f(q + h * DIM + c * CHUNK, a);
        store_f(q + h * DIM + c * CHUNK + LANES, b);
    }
#else
    widen_row(q + h * DIM, x, DIM);
#endif
}

static void state_init(const struct plan *p, struct state *st, int b, int head)
{
    uint16_t x[DIM];

    for (int h = 0; h < HEADS; h++) {
        query_copy(p, (int64_t)b * QO_HEADS + head + h, x);
        query_place(st->q, h, x);
        st->top[h] = -INFINITY;
        st->sum[h] = 0;
    }
    memset(st->acc, 0, sizeof(st->acc));
}

/* ---- Softmax ---- */

/* Brings head h's accumulator to a larger maximum. */
static void head_shrink(struct state *st, int h, float top)
{
    float shrink = exp2f(st->top[h] - top);

    st->sum[h] *= shrink;
    for (int i = 0; i < CKV; i += LANES)
        store_f(st->acc[h] + i, load_f(st->acc[h] + i) * shrink);
    st->top[h] = top;
}

/* x: [n][HEADS] logits, unscaled; replaced by 2^(scale x - top). The running sums and accumulators
 * are brought to the new maximum. */
static void softmax_block(struct state *st, float *x, int n, float scale)
{
    for (int v = 0; v < HEADS; v += HLANES) {
        hf top = load_heads(st->top + v), sum = { 0 };

        for (int t = 0; t < n; t++) {
            hf y = load_heads(x + t * HEADS + v) * scale;

            store_heads(x + t * HEADS + v, y);
            top = max_heads(y, top);
        }
        for (int t = 0; t < n; t++) {
            hf e = exp2_heads(load_heads(x + t * HEADS + v) - top);

            store_heads(x + t * HEADS + v, e);
            sum += e;
        }
        for (int i = 0; i < HLANES; i++)
            if (top[i] > st->top[v + i])
                head_shrink(st, v + i, top[i]);
        store_heads(st->sum + v, load_heads(st->sum + v) + sum);
    }
}

/* ---- Values ---- */

/*
 * Keys taken together by the weighted sum. Under dot a word of weights holds the probabilities of
 * two neighbouring keys, rounded to bf16; otherwise one float stands for each.
 */
enum { VALUE_STEP = LOAD_DOT ? 2 : 1 };

#if LOAD_DOT
INLINE hu round_heads(hf x)
{
    hu u = (hu)x;

    return u + 0x7fffu + ((u >> 16) & 1u);
}

/* x: [n][HEADS] probabilities; w: [n / 2, rounded up][HEADS] pairs. */
INLINE void pair_weights(const float *x, int n, float *w)
{
    for (int t = 0; t < n; t += 2)
        for (int v = 0; v < HEADS; v += HLANES) {
            hu a = round_heads(load_heads(x + t * HEADS + v)) >> 16, b = { 0 };

            if (t + 1 < n)
                b = round_heads(load_heads(x + (t + 1) * HEADS + v)) & 0xffff0000u;
            store_heads(w + t / 2 * HEADS + v, (hf)(a | b));
        }
}
#endif

/* s[h][c] += w[h] * (chunks of the rows of step t), for SUM_HEADS heads and SUM_CHUNKS chunks. */
INLINE void value_step(const struct row *rows, const float *w, int t, int chunk,
                       vf s[SUM_HEADS][SUM_CHUNKS * 2])
{
    UNROLL_ALL
    for (int c = 0; c < SUM_CHUNKS; c++) {
#if LOAD_DOT
        vu a, b;

        interleave(load_u((const uint16_t *)rows[t].latent + (chunk + c) * CHUNK),
                   load_u((const uint16_t *)rows[t + 1].latent + (chunk + c) * CHUNK), &a, &b);
        UNROLL_ALL
        for (int h = 0; h < SUM_HEADS; h++) {
            vu two = load_word(w + t / 2 * HEADS + h) - (vu){ 0 };

            s[h][c * 2] = dot_pairs(s[h][c * 2], a, two);
            s[h][c * 2 + 1] = dot_pairs(s[h][c * 2 + 1], b, two);
        }
#else
        vf a, b;

        row_load(rows[t].latent, chunk + c, &a, &b);
        UNROLL_ALL
        for (int h = 0; h < SUM_HEADS; h++) {
            s[h][c * 2] += w[t * HEADS + h] * a;
            s[h][c * 2 + 1] += w[t * HEADS + h] * b;
        }
#endif
    }
}

INLINE void acc_load(float acc[][CKV], int chunk, vf s[SUM_HEADS][SUM_CHUNKS * 2])
{
    UNROLL_ALL
    for (int h = 0; h < SUM_HEADS; h++)
        UNROLL_ALL
    for (int i = 0; i < SUM_CHUNKS * 2; i++)
        s[h][i] = load_f(acc[h] + chunk * CHUNK + i * LANES);
}

INLINE void acc_store(float acc[][CKV], int chunk, vf s[SUM_HEADS][SUM_CHUNKS * 2])
{
    UNROLL_ALL
    for (int h = 0; h < SUM_HEADS; h++)
        UNROLL_ALL
    for (int i = 0; i < SUM_CHUNKS * 2; i++)
        store_f(acc[h] + chunk * CHUNK + i * LANES, s[h][i]);
}

/* Adds n keys' latent rows, weighted by w, to the accumulators. */
static void values_tile(struct state *st, const struct row *rows, const float *w, int n)
{
    vf s[SUM_HEADS][SUM_CHUNKS * 2];

#if ACCUM == ACCUM_registers
    for (int chunk = 0; chunk < CKV / CHUNK; chunk += SUM_CHUNKS)
        for (int h = 0; h < HEADS; h += SUM_HEADS) {
            acc_load(st->acc + h, chunk, s);
            for (int t = 0; t < n; t += VALUE_STEP)
                value_step(rows, w + h, t, chunk, s);
            acc_store(st->acc + h, chunk, s);
        }
#else
    for (int t = 0; t < n; t += VALUE_STEP)
        for (int h = 0; h < HEADS; h += SUM_HEADS)
            for (int chunk = 0; chunk < CKV / CHUNK; chunk += SUM_CHUNKS) {
                acc_load(st->acc + h, chunk, s);
                value_step(rows, w + h, t, chunk, s);
                acc_store(st->acc + h, chunk, s);
            }
#endif
}

/* ---- Streaming ---- */

/* A tile: its rows, and under BF16_MATH scratch their floats. */
struct tile {
    struct row rows[KV_TILE];
    float wide[LOAD_SCRATCH ? KV_TILE * DIM : 1] __attribute__((aligned(LINE)));
};

/* x: room for [KV_TILE][HEADS]. */
static void logits_tile(const struct plan *p, const struct state *st, const struct row *rows,
                        int key, int n, int end, float *x)
{
    for (int t = 0; t < n; t += QK_KEYS) {
        if (!LOAD_SCRATCH)
            for (int j = 0; j < QK_KEYS; j++)
                prefetch_row(p, key + t + j + PREFETCH, end);
        if (HEAD_LANES)
            heads_block(st->q, rows + t, x + t * HEADS);
        else
            for (int h = 0; h < HEADS; h += DOT_HEADS)
                dims_block(st->q + h * DIM, rows + t, x + t * HEADS + h);
    }
}

static void weigh_tile(struct state *st, const struct row *rows, int n, const float *x)
{
#if LOAD_DOT
    float w[(KV_TILE + 1) / 2 * HEADS] __attribute__((aligned(LINE)));

    pair_weights(x, n, w);
    values_tile(st, rows, w, n);
#else
    values_tile(st, rows, x, n);
#endif
}

/* Takes n <= BLOCK keys from `key` on into the softmax; end: where the stretch ends. */
static void block_run(const struct plan *p, struct state *st, int key, int n, int end)
{
    float x[BLOCK * HEADS] __attribute__((aligned(LINE)));
    struct tile tile;

    for (int t = 0; t < n; t += KV_TILE) {
        int m = n - t < KV_TILE ? n - t : KV_TILE;

        tile_rows(p, key + t, m, end, tile.rows, tile.wide);
        logits_tile(p, st, tile.rows, key + t, m, end, x + t * HEADS);
    }
    softmax_block(st, x, n, p->scale);
    for (int t = 0; t < n; t += KV_TILE) {
        int m = n - t < KV_TILE ? n - t : KV_TILE;

        if (SOFTMAX != SOFTMAX_online) /* else the tile is still the one that made the logits */
            tile_rows(p, key + t, m, end, tile.rows, tile.wide);
        weigh_tile(st, tile.rows, m, x + t * HEADS);
    }
}

/* ---- Results ---- */

/* acc: one head's accumulator, in the order of the chunks. An empty sequence gives zeros, -inf. */
static void head_store(const struct plan *p, int b, int head, const float *acc, float top,
                       float sum)
{
    int64_t at = (int64_t)b * QO_HEADS + head;
    float inverse = sum > 0 ? 1 / sum : 0;

    for (int c = 0; c < CKV / CHUNK; c++)
        row_store(p->output + at * CKV, c, acc, inverse);
    p->lse[at] = sum > 0 ? top + log2f(sum) : -INFINITY;
}

/* Keeps one head's part of a split sequence for the merge. */
static void partial_store(const struct plan *p, const struct item *it, int head,
                          const struct state *st, int h)
{
    float *slot = p->partials + (size_t)it->partial * SLOT + (size_t)head * (CKV + 2);

    memcpy(slot, st->acc[h], sizeof(st->acc[h]));
    slot[CKV] = st->top[h];
    slot[CKV + 1] = st->sum[h];
}

static void item_run(void *ctx, int i)
{
    const struct plan *p = ctx;
    const struct item *it = &p->items[i];
    struct state st;

    for (int head = it->head; head < it->head_end; head += HEADS) {
        for (int t = 0; t < PREFETCH; t++)
            prefetch_row(p, it->begin + t, it->end);
        state_init(p, &st, it->b, head);
        for (int key = it->begin; key < it->end; key += BLOCK)
            block_run(p, &st, key, it->end - key < BLOCK ? it->end - key : BLOCK, it->end);
        for (int h = 0; h < HEADS; h++)
            if (it->partial < 0)
                head_store(p, it->b, head + h, st.acc[h], st.top[h], st.sum[h]);
            else
                partial_store(p, it, head + h, &st, h);
    }
}

/* Query heads that one item of the merge takes. */
enum { MERGE_HEADS = 4 };

/* Item i: MERGE_HEADS heads of sequence i / (QO_HEADS / MERGE_HEADS), when that was split. */
static void merge_run(void *ctx, int i)
{
    const struct plan *p = ctx;
    int groups = QO_HEADS / MERGE_HEADS, b = i / groups, first = i % groups * MERGE_HEADS;
    int n = p->stretches[b];

    if (p->first_slot[b] < 0)
        return;
    for (int h = first; h < first + MERGE_HEADS; h++) {
        const float *part = p->partials + (size_t)p->first_slot[b] * SLOT + h * (CKV + 2);
        float acc[CKV] __attribute__((aligned(LINE))) = { 0 }, top = -INFINITY, sum = 0;

        for (int s = 0; s < n; s++)
            top = part[s * SLOT + CKV] > top ? part[s * SLOT + CKV] : top;
        for (int s = 0; s < n; s++) {
            const float *a = part + s * SLOT;
            float w = exp2f(a[CKV] - top);

            sum += w * a[CKV + 1];
            for (int d = 0; d < CKV; d++)
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

/* SPLIT_KEYS, doubled until the partial results fit; INT32_MAX when nothing is to be split. */
static int stretch_keys(const struct ks_call *call, const int32_t *indptr, int batch)
{
#if PARTITION == PARTITION_split_kv
    size_t room = call->scratch_bytes / (sizeof(float) * SLOT);

    for (int keys = SPLIT_KEYS; keys <= 1 << 28; keys *= 2) {
        size_t need = 0;

        for (int b = 0; b < batch; b++) {
            int n = stretches_of(indptr[b + 1] - indptr[b], keys);

            need += n > 1 ? (size_t)n : 0;
        }
        if (need <= room)
            return keys;
    }
#else
    (void)call, (void)indptr, (void)batch;
#endif
    return INT32_MAX;
}

/* Longest first: the last items to start are then short, and threads end together. */
static int by_length(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int p = x->end - x->begin, q = y->end - y->begin;

    return p < q ? 1 : p > q ? -1 : 0;
}

static void plan_items(struct plan *p, int batch, int keys)
{
    int heads = PARTITION == PARTITION_sequence ? QO_HEADS : HEADS, slot = 0;

    for (int b = 0; b < batch; b++) {
        int begin = p->indptr[b], end = p->indptr[b + 1], n = stretches_of(end - begin, keys);

        p->stretches[b] = n;
        p->first_slot[b] = n > 1 ? slot : -1;
        for (int s = 0; s < n; s++) {
            int from = begin + s * (n > 1 ? keys : 0);

            for (int head = 0; head < QO_HEADS; head += heads)
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
        n += (size_t)stretches_of(indptr[b + 1] - indptr[b], keys) * PASSES;
    return n;
}

int ks_kernel(const struct ks_call *call)
{
    int batch = (int)call->inputs[0].shape[0];
    const int32_t *indptr = call->inputs[4].data;
    int keys = stretch_keys(call, indptr, batch);
    size_t n_items = items_max(indptr, batch, keys), n_batch = (size_t)batch;
    char *memory = malloc(n_items * sizeof(struct item) + 2 * n_batch * sizeof(int));
    struct plan p = {
        .q_nope = call->inputs[0].data,
        .q_pe = call->inputs[1].data,
        .ckv = call->inputs[2].data,
        .kpe = call->inputs[3].data,
        .indptr = indptr,
        .indices = call->inputs[5].data,
        .scale = *(const float *)call->inputs[6].data * (float)M_LOG2E,
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
        call->parallel(call->pool, merge_run, &p, batch * (QO_HEADS / MERGE_HEADS));
    free(memory);
    return 0;
}
