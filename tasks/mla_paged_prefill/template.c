/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunable causal prefill. The rows of a sequence are its (query, head) pairs, query-major: all of
 * them meet the same latent rows, so the two products are matrix products of a tile of rows with a
 * tile of keys. A work item is a stretch of rows; a worker takes items, longest first, and keeps
 * queries, accumulators and logits of the tiles it has open in a bench of its own. Logits live in
 * base 2, so that exp2 serves and the log-sum-exp comes out as asked. The macros are described in
 * template.space.json.
 *
 * A row of 512 or 64 elements is held as chunks, each a pair of vectors. What a pair holds depends
 * on BF16_MATH: neighbouring halves (widen, scratch), even and odd elements (pairs), or what an
 * unpack of two keys yields (dot). Queries are brought into the same order, results are packed
 * back.
 */
#include <math.h>
#include <stdatomic.h>
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
#define TURNED (QK_FORM == QK_FORM_outer)
#define ONLINE (SOFTMAX == SOFTMAX_online)

enum {
    HEADS = KS_NUM_QO_HEADS,
    CKV = KS_HEAD_DIM_CKV,
    KPE = KS_HEAD_DIM_KPE,
    DIM = CKV + KPE,
    LANES = VEC_BITS / 32,
    CHUNK = 2 * LANES,
    BLOCK = ONLINE ? KV_TILE : 512, /* keys between two looks at the maximum */
    STRIDE = BLOCK + 16, /* of a row of logits; rows must not fall on the same cache sets */
    QK_VECS = QK_KEYS < KV_TILE / LANES ? QK_KEYS : KV_TILE / LANES,
    CKV_WORDS = LOAD_DOT ? CKV / 2 : CKV, /* of a turned key: bf16 pairs, or floats */
    KPE_WORDS = LOAD_DOT ? KPE / 2 : KPE,
    WORDS = CKV_WORDS + KPE_WORDS,
    PV_CHUNKS = ROW_BLOCK < 8 ? 8 / ROW_BLOCK : 1, /* sixteen accumulators */
    VALUE_STEP = LOAD_DOT ? 2 : 1,                 /* keys taken together by the weighted sum */
    HEAD_GROUP = HEADS < 8 ? HEADS : 8,            /* heads of an item under PARTITION head_group */
    OPEN = WALK == WALK_key_outer ? 4 : 1,         /* row tiles open at a time */
    BAND = OPEN * ROW_TILE,
    WORKERS_MAX = 64,
    LINE = 64
};

_Static_assert(HEADS % HEAD_GROUP == 0, "items are whole groups of heads");
_Static_assert(CKV % (CHUNK * PV_CHUNKS) == 0 && KPE % CHUNK == 0, "rows are whole chunks");

typedef float vf __attribute__((vector_size(VEC_BITS / 8)));
typedef uint32_t vu __attribute__((vector_size(VEC_BITS / 8)));
typedef int32_t vi __attribute__((vector_size(VEC_BITS / 8)));
typedef uint16_t vh __attribute__((vector_size(VEC_BITS / 16)));
typedef float v4 __attribute__((vector_size(16)));
typedef uint32_t u4 __attribute__((vector_size(16)));
typedef uint16_t h4 __attribute__((vector_size(8)));

/* Rows [first, first + count) of sequence b; row i is query i / heads, head `head` + i % heads. */
struct item {
    int b, head, heads;
    int first, count;
    int64_t cost; /* (row, key) pairs */
};

struct plan {
    const uint16_t *q_nope, *q_pe, *ckv, *kpe;
    const int32_t *qo_indptr, *kv_indptr, *indices;
    float scale; /* sm_scale * log2(e) */
    uint16_t *output;
    float *lse;
    struct item *items;
    int n_items;
    atomic_int next;
};

/* A tile of rows: queries, running softmaxes, accumulators. Rows beyond `count` are zero. */
struct rows {
    float q[ROW_TILE][DIM] __attribute__((aligned(LINE)));
    float acc[ROW_TILE][CKV] __attribute__((aligned(LINE)));
    float top[ROW_TILE], sum[ROW_TILE];
    int visible[ROW_TILE]; /* keys that the row sees, counted from the sequence's start; ascending
                            */
    int count;
    int64_t at[ROW_TILE]; /* its place in the outputs */
};

/* A tile of keys. Entries of ckv and kpe are repeated up to a multiple of four keys. */
struct keys {
    const void *ckv[KV_TILE], *kpe[KV_TILE]; /* bf16; floats under BF16_MATH scratch */
    float wide[LOAD_SCRATCH ? KV_TILE : 1][DIM] __attribute__((aligned(LINE)));
    uint32_t turned[TURNED ? WORDS : 1][KV_TILE] __attribute__((aligned(LINE)));
    uint32_t pairs[LOAD_DOT ? KV_TILE / 2 : 1][CKV] __attribute__((aligned(LINE)));
};

struct bench {
    struct rows rows[OPEN];
    struct keys keys;
    float x[ROW_TILE][STRIDE] __attribute__((aligned(LINE))); /* logits, probabilities */
    uint16_t w[LOAD_DOT ? ROW_TILE : 1][STRIDE] __attribute__((aligned(LINE))); /* rounded ones */
};

/* Outlives the call, so that its pages need not be mapped again; nothing in it is carried over. */
static struct bench benches[WORKERS_MAX];

/* ---- Vectors ---- */

INLINE vf load_f(const void *p)
{
    vf v;

    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void store_f(void *p, vf v)
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

/* Lanes whose key, t + lane, is below n. */
INLINE vu lanes_below(int t, int n)
{
    vi lane = { 0 };

    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return (vu)(lane + t < n);
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

/* Chunk c of a row as two vectors of floats. row: bf16, or floats when `wide`. */
INLINE void row_load(const void *row, int c, bool wide, vf *a, vf *b)
{
    if (wide) {
        *a = load_f((const float *)row + c * CHUNK);
        *b = load_f((const float *)row + c * CHUNK + LANES);
        return;
    }
#if LOAD_PAIRS || LOAD_DOT
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

/* The inverse of row_load: chunk c of acc x factor, rounded to bf16 in natural order. */
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

/* One 32-bit word against a vector of such: bf16 pairs, or floats. */
INLINE vf word_step(vf acc, uint32_t word, vu x)
{
#if LOAD_DOT
    return dot_pairs(acc, x, word - (vu){ 0 });
#else
    union {
        uint32_t u;
        float f;
    } v = { word };

    return acc + v.f * (vf)x;
#endif
}

/* ---- A tile of keys ---- */

INLINE void prefetch_bytes(const void *p, int bytes)
{
    for (int i = 0; i < bytes; i += LINE)
        __builtin_prefetch((const char *)p + i, 0, 2);
}

/* Asks for the rows of `PREFETCH` keys from `key` on. */
INLINE void prefetch_keys(const struct plan *p, const int32_t *pages, int key, int end)
{
    for (int j = key; j < end && j < key + PREFETCH; j++) {
        prefetch_bytes(p->ckv + (int64_t)pages[j] * CKV, CKV * 2);
        prefetch_bytes(p->kpe + (int64_t)pages[j] * KPE, KPE * 2);
    }
}

/* Finds the rows of n keys and widens them when BF16_MATH says so. */
static void keys_find(const struct plan *p, struct keys *k, const int32_t *pages, int n)
{
    for (int t = 0; t < n; t++) {
        const uint16_t *ckv = p->ckv + (int64_t)pages[t] * CKV;
        const uint16_t *kpe = p->kpe + (int64_t)pages[t] * KPE;

#if LOAD_SCRATCH
        for (int i = 0; i < CKV; i += LANES)
            store_f(k->wide[t] + i, widen(ckv + i));
        for (int i = 0; i < KPE; i += LANES)
            store_f(k->wide[t] + CKV + i, widen(kpe + i));
        k->ckv[t] = k->wide[t];
        k->kpe[t] = k->wide[t] + CKV;
#else
        k->ckv[t] = ckv;
        k->kpe[t] = kpe;
#endif
    }
    for (int t = n; t < KV_TILE && t % 4 != 0; t++) {
        k->ckv[t] = k->ckv[n - 1];
        k->kpe[t] = k->kpe[n - 1];
    }
}

/* Four words of a row from word i on. */
INLINE u4 words_load(const void *row, int i)
{
#if LOAD_DOT || LOAD_SCRATCH
    u4 u;

    memcpy(&u, (const uint32_t *)row + i, sizeof(u));
    return u;
#else
    h4 h;

    memcpy(&h, (const uint16_t *)row + i, sizeof(h));
    return __builtin_convertvector(h, u4) << 16;
#endif
}

/* Turns `words` words of four rows: word i of row j goes to out[i][t + j]. */
INLINE void turn_rows(const void *const *rows, int words, uint32_t (*out)[KV_TILE], int t)
{
    for (int i = 0; i < words; i += 4) {
        u4 a = words_load(rows[0], i), b = words_load(rows[1], i);
        u4 c = words_load(rows[2], i), d = words_load(rows[3], i);
        u4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        u4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        u4 ef = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        u4 gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        u4 turned[4] = { __builtin_shufflevector(ab, cd, 0, 1, 4, 5),
                         __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                         __builtin_shufflevector(ef, gh, 0, 1, 4, 5),
                         __builtin_shufflevector(ef, gh, 2, 3, 6, 7) };

        UNROLL_ALL
        for (int j = 0; j < 4; j++)
            memcpy(&out[i + j][t], &turned[j], sizeof(turned[j]));
    }
}

/* Keys in the form of the first product: turned, so that neighbouring lanes are neighbouring keys.
 */
static void keys_turn(struct keys *k, int n)
{
#if TURNED
    for (int t = 0; t < n; t += 4) {
        turn_rows(k->ckv + t, CKV_WORDS, k->turned, t);
        turn_rows(k->kpe + t, KPE_WORDS, k->turned + CKV_WORDS, t);
    }
#else
    (void)k, (void)n;
#endif
}

/* Keys in the form of the second product: two keys' values side by side. */
static void keys_pair(struct keys *k, int n)
{
#if LOAD_DOT
    for (int t = 0; t < n; t += 2)
        for (int c = 0; c < CKV / CHUNK; c++) {
            vu lo, hi;

            interleave(load_u((const uint16_t *)k->ckv[t] + c * CHUNK),
                       load_u((const uint16_t *)k->ckv[t + 1] + c * CHUNK), &lo, &hi);
            store_f(k->pairs[t / 2] + c * CHUNK, (vf)lo);
            store_f(k->pairs[t / 2] + c * CHUNK + LANES, (vf)hi);
        }
#else
    (void)k, (void)n;
#endif
}

/* ---- Logits ---- */

#if !TURNED
/* `chunks` chunks of ROW_BLOCK queries, from element `from` on, with those of QK_KEYS rows. */
INLINE void rows_step(const float (*q)[DIM], int from, const void *const *rows, int chunks,
                      vf s[ROW_BLOCK * QK_KEYS])
{
    for (int c = 0; c < chunks; c++) {
#if LOAD_DOT
        vu k[QK_KEYS];

        UNROLL_ALL
        for (int j = 0; j < QK_KEYS; j++)
            k[j] = load_u((const uint16_t *)rows[j] + c * CHUNK);
        UNROLL_ALL
        for (int r = 0; r < ROW_BLOCK; r++) {
            vu x = load_u((const uint16_t *)q[r] + from + c * CHUNK);

            UNROLL_ALL
            for (int j = 0; j < QK_KEYS; j++)
                s[r * QK_KEYS + j] = dot_pairs(s[r * QK_KEYS + j], k[j], x);
        }
#else
        vf a[QK_KEYS], b[QK_KEYS];

        UNROLL_ALL
        for (int j = 0; j < QK_KEYS; j++)
            row_load(rows[j], c, LOAD_SCRATCH, &a[j], &b[j]);
        UNROLL_ALL
        for (int r = 0; r < ROW_BLOCK; r++) {
            vf x = load_f(q[r] + from + c * CHUNK), y = load_f(q[r] + from + c * CHUNK + LANES);

            UNROLL_ALL
            for (int j = 0; j < QK_KEYS; j++) {
                s[r * QK_KEYS + j] += x * a[j];
                s[r * QK_KEYS + j] += y * b[j];
            }
        }
#endif
    }
}

/* Sums of QK_KEYS dot products per row, into x[r][j]. */
INLINE void sums_store(vf s[ROW_BLOCK * QK_KEYS], float (*x)[STRIDE], int t)
{
    if (ROW_BLOCK * QK_KEYS % 4 != 0) {
        for (int i = 0; i < ROW_BLOCK * QK_KEYS; i++)
            x[i / QK_KEYS][t + i % QK_KEYS] = sum_lanes(s[i]);
        return;
    }
    UNROLL_ALL
    for (int i = 0; i < ROW_BLOCK * QK_KEYS; i += 4) {
        v4 sums = sum_lanes4(s[i], s[i + 1], s[i + 2], s[i + 3]);

        UNROLL_ALL
        for (int k = 0; k < 4; k++)
            x[(i + k) / QK_KEYS][t + (i + k) % QK_KEYS] = sums[k];
    }
}
#endif

/* Unscaled logits of ROW_BLOCK rows with the tile's first n keys, into x[r][at..at + n). */
static void logits_block(const float (*q)[DIM], const struct keys *k, int n, float (*x)[STRIDE],
                         int at)
{
#if TURNED
    for (int t = 0; t < n; t += QK_VECS * LANES) {
        vf s[ROW_BLOCK * QK_VECS];

        UNROLL_ALL
        for (int i = 0; i < ROW_BLOCK * QK_VECS; i++)
            s[i] = (vf){ 0 };
        for (int d = 0; d < WORDS; d++) {
            vu v[QK_VECS];

            UNROLL_ALL
            for (int j = 0; j < QK_VECS; j++)
                v[j] = load_u(&k->turned[d][t + j * LANES]);
            UNROLL_ALL
            for (int r = 0; r < ROW_BLOCK; r++) {
                uint32_t word;

                memcpy(&word, (const uint32_t *)q[r] + d, sizeof(word));
                UNROLL_ALL
                for (int j = 0; j < QK_VECS; j++)
                    s[r * QK_VECS + j] = word_step(s[r * QK_VECS + j], word, v[j]);
            }
        }
        UNROLL_ALL
        for (int i = 0; i < ROW_BLOCK * QK_VECS; i++)
            store_f(x[i / QK_VECS] + at + t + i % QK_VECS * LANES, s[i]);
    }
#else
    for (int t = 0; t < n; t += QK_KEYS) {
        vf s[ROW_BLOCK * QK_KEYS];

        UNROLL_ALL
        for (int i = 0; i < ROW_BLOCK * QK_KEYS; i++)
            s[i] = (vf){ 0 };
        rows_step(q, 0, k->ckv + t, CKV / CHUNK, s);
        rows_step(q, CKV, k->kpe + t, KPE / CHUNK, s);
        sums_store(s, x, at + t);
    }
#endif
}

/* ---- Softmax ---- */

/* How many of n keys from `key` on the products of the row block at r take in. */
INLINE int keys_taken(const struct rows *rows, int r, int key, int n)
{
    int seen = rows->visible[r + ROW_BLOCK - 1] - key;

    if (MASK != MASK_diagonal)
        return n;
    return seen < 0 ? 0 : seen < n ? seen : n;
}

/*
 * x: one row of logits, the first n of them computed, `seen` (at least 1) of them visible: replaced
 * by scale * x, -inf where hidden and beyond n up to a multiple of the vector. Returns the maximum.
 */
INLINE float scale_and_mask(float *x, int n, int seen, float scale, float top)
{
    vf m = splat(-INFINITY);
    int t = 0;

    if (MASK == MASK_diagonal)
        for (; t + LANES <= seen; t += LANES) {
            vf y = load_f(x + t) * scale;

            store_f(x + t, y);
            m = max_f(y, m);
        }
    for (; t < n; t += LANES) {
        vf y = select_f(lanes_below(t, seen), load_f(x + t) * scale, splat(-INFINITY));

        store_f(x + t, y);
        m = max_f(y, m);
    }
    for (int i = 0; i < LANES; i++)
        top = m[i] > top ? m[i] : top;
    return top;
}

/* Writes 2^(x - top) over x, and rounded into w under BF16_MATH dot. Returns the sum. */
INLINE float weights_of(float *x, uint16_t *w, int n, float top)
{
    vf sum = { 0 };

    for (int t = 0; t < n; t += LANES) {
        vf e = exp2_v(load_f(x + t) - top);

        sum += e;
#if LOAD_DOT
        vh h = __builtin_convertvector(round_bf16(e) >> 16, vh);

        memcpy(w + t, &h, sizeof(h));
#else
        store_f(x + t, e);
#endif
    }
    (void)w;
    return sum_lanes(sum);
}

/* One row and n computed logits, of which `seen` are visible. */
INLINE void softmax_row(struct rows *rows, int r, float *x, uint16_t *w, int n, int seen,
                        float scale)
{
    float top, sum;

    if (seen <= 0) {
        memset(x, 0, sizeof(*x) * (size_t)n);
        if (LOAD_DOT)
            memset(w, 0, sizeof(*w) * (size_t)(n + n % 2));
        return;
    }
    top = scale_and_mask(x, n, seen, scale, rows->top[r]);
    sum = weights_of(x, w, n, top);
    if (top > rows->top[r]) {
        float shrink = exp2f(rows->top[r] - top);

        rows->sum[r] *= shrink;
        for (int i = 0; i < CKV; i += LANES)
            store_f(rows->acc[r] + i, load_f(rows->acc[r] + i) * shrink);
        rows->top[r] = top;
    }
    rows->sum[r] += sum;
}

/* The logits of n keys from `key` on become weights; sums and accumulators follow the maximum. */
static void softmax_block(struct bench *bench, struct rows *rows, int key, int n, float scale)
{
    for (int r = 0; r < rows->count; r++) {
        int taken = keys_taken(rows, r / ROW_BLOCK * ROW_BLOCK, key, n);
        int seen = rows->visible[r] - key;

        if (taken > 0)
            softmax_row(rows, r, bench->x[r], bench->w[LOAD_DOT ? r : 0], taken,
                        seen < taken ? seen : taken, scale);
    }
}

/* ---- Values ---- */

/* s[r] += weights of keys t (and t + 1) times chunks [c, c + PV_CHUNKS) of their values. */
INLINE void value_step(const struct keys *k, const float (*x)[STRIDE], const uint16_t (*w)[STRIDE],
                       int at, int t, int c, vf s[ROW_BLOCK][2 * PV_CHUNKS])
{
    vu v[2 * PV_CHUNKS];

    UNROLL_ALL
    for (int i = 0; i < PV_CHUNKS; i++) {
#if LOAD_DOT
        v[2 * i] = load_u(k->pairs[t / 2] + (c + i) * CHUNK);
        v[2 * i + 1] = load_u(k->pairs[t / 2] + (c + i) * CHUNK + LANES);
#else
        vf a, b;

        row_load(k->ckv[t], c + i, LOAD_SCRATCH, &a, &b);
        v[2 * i] = (vu)a;
        v[2 * i + 1] = (vu)b;
#endif
    }
    UNROLL_ALL
    for (int r = 0; r < ROW_BLOCK; r++) {
        uint32_t word;

#if LOAD_DOT
        memcpy(&word, &w[r][at + t], sizeof(word));
#else
        memcpy(&word, &x[r][at + t], sizeof(word));
#endif
        UNROLL_ALL
        for (int i = 0; i < 2 * PV_CHUNKS; i++)
            s[r][i] = word_step(s[r][i], word, v[i]);
    }
    (void)x, (void)w;
}

INLINE void acc_load(float (*acc)[CKV], int c, vf s[ROW_BLOCK][2 * PV_CHUNKS])
{
    UNROLL_ALL
    for (int i = 0; i < ROW_BLOCK * 2 * PV_CHUNKS; i++)
        s[i / (2 * PV_CHUNKS)][i % (2 * PV_CHUNKS)] =
            load_f(acc[i / (2 * PV_CHUNKS)] + c * CHUNK + i % (2 * PV_CHUNKS) * LANES);
}

INLINE void acc_store(float (*acc)[CKV], int c, vf s[ROW_BLOCK][2 * PV_CHUNKS])
{
    UNROLL_ALL
    for (int i = 0; i < ROW_BLOCK * 2 * PV_CHUNKS; i++)
        store_f(acc[i / (2 * PV_CHUNKS)] + c * CHUNK + i % (2 * PV_CHUNKS) * LANES,
                s[i / (2 * PV_CHUNKS)][i % (2 * PV_CHUNKS)]);
}

/* Adds the values of the tile's first n keys, whose weights begin at x[r][at], to ROW_BLOCK rows.
 */
static void values_block(float (*acc)[CKV], const struct keys *k, const float (*x)[STRIDE],
                         const uint16_t (*w)[STRIDE], int at, int n)
{
    vf s[ROW_BLOCK][2 * PV_CHUNKS];

#if ACCUM == ACCUM_registers
    for (int c = 0; c < CKV / CHUNK; c += PV_CHUNKS) {
        acc_load(acc, c, s);
        for (int t = 0; t < n; t += VALUE_STEP)
            value_step(k, x, w, at, t, c, s);
        acc_store(acc, c, s);
    }
#else
    for (int t = 0; t < n; t += VALUE_STEP)
        for (int c = 0; c < CKV / CHUNK; c += PV_CHUNKS) {
            acc_load(acc, c, s);
            value_step(k, x, w, at, t, c, s);
            acc_store(acc, c, s);
        }
#endif
}

/* ---- Tiles of rows and keys ---- */

/* What remains of n from t on, at most a tile. */
INLINE int tile_rest(int n, int t)
{
    return n - t < 0 ? 0 : n - t < KV_TILE ? n - t : KV_TILE;
}

static void logits_tile(struct bench *bench, const struct rows *rows, int key, int n, int t)
{
    for (int r = 0; r < rows->count; r += ROW_BLOCK) {
        int taken = tile_rest(keys_taken(rows, r, key, n), t);

        if (taken > 0)
            logits_block(rows->q + r, &bench->keys, taken, bench->x + r, t);
    }
}

static void values_tile(struct bench *bench, struct rows *rows, int key, int n, int t)
{
    for (int r = 0; r < rows->count; r += ROW_BLOCK) {
        int taken = tile_rest(keys_taken(rows, r, key, n), t);

        if (taken > 0)
            values_block(rows->acc + r, &bench->keys, bench->x + r, bench->w + (LOAD_DOT ? r : 0),
                         t, taken);
    }
}

/* n keys from `key` on, loaded already, for one tile of rows. */
static void block_online(const struct plan *p, struct bench *bench, struct rows *rows, int key,
                         int n)
{
    if (MASK != MASK_dense && rows->visible[rows->count - 1] <= key)
        return;
    logits_tile(bench, rows, key, n, 0);
    softmax_block(bench, rows, key, n, p->scale);
    values_tile(bench, rows, key, n, 0);
}

/* n keys from `key` on in two passes over their tiles. */
static void block_two_pass(const struct plan *p, struct bench *bench, const int32_t *pages, int key,
                           int n, int end)
{
    for (int t = 0; t < n; t += KV_TILE) {
        prefetch_keys(p, pages, key + t + tile_rest(n, t), end);
        keys_find(p, &bench->keys, pages + key + t, tile_rest(n, t));
        keys_turn(&bench->keys, tile_rest(n, t));
        logits_tile(bench, bench->rows, key, n, t);
    }
    softmax_block(bench, bench->rows, key, n, p->scale);
    for (int t = 0; t < n; t += KV_TILE) {
        keys_find(p, &bench->keys, pages + key + t, tile_rest(n, t));
        keys_pair(&bench->keys, tile_rest(n, t));
        values_tile(bench, bench->rows, key, n, t);
    }
}

/* ---- Rows ---- */

/* `n` elements of a query, from element `from` on, in the form that the logits want. */
INLINE void query_load(float *q, int from, const uint16_t *src, int n)
{
#if LOAD_DOT
    memcpy((uint16_t *)q + from, src, sizeof(*src) * (size_t)n);
#elif LOAD_PAIRS && !TURNED
    for (int c = 0; c < n / CHUNK; c++) {
        vf x, y;

        row_load(src, c, false, &x, &y);
        store_f(q + from + c * CHUNK, x);
        store_f(q + from + c * CHUNK + LANES, y);
    }
#else
    for (int i = 0; i < n; i += LANES)
        store_f(q + from + i, widen(src + i));
#endif
}

/* Opens the tile of the item's rows [first, first + count), rounded up to whole row blocks. */
static void rows_open(const struct plan *p, const struct item *it, int first, int count,
                      struct rows *rows)
{
    int nq = p->qo_indptr[it->b + 1] - p->qo_indptr[it->b];
    int nk = p->kv_indptr[it->b + 1] - p->kv_indptr[it->b];
    int padded = (count + ROW_BLOCK - 1) / ROW_BLOCK * ROW_BLOCK;

    rows->count = count;
    memset(rows->acc, 0, sizeof(rows->acc[0]) * (size_t)padded);
    for (int r = 0; r < count; r++) {
        int query = (first + r) / it->heads, head = it->head + (first + r) % it->heads;
        int64_t at = (int64_t)(p->qo_indptr[it->b] + query) * HEADS + head;

        query_load(rows->q[r], 0, p->q_nope + at * CKV, CKV);
        query_load(rows->q[r], CKV, p->q_pe + at * KPE, KPE);
        rows->top[r] = -INFINITY;
        rows->sum[r] = 0;
        rows->visible[r] = nk - nq + query + 1;
        rows->at[r] = at;
    }
    for (int r = count; r < padded; r++) {
        memset(rows->q[r], 0, sizeof(rows->q[r]));
        rows->visible[r] = rows->visible[count - 1];
    }
}

static void rows_close(const struct plan *p, const struct rows *rows)
{
    for (int r = 0; r < rows->count; r++) {
        for (int c = 0; c < CKV / CHUNK; c++)
            row_store(p->output + rows->at[r] * CKV, c, rows->acc[r], 1 / rows->sum[r]);
        p->lse[rows->at[r]] = rows->top[r] + log2f(rows->sum[r]);
    }
}

/* ---- Work ---- */

/* The item's rows [first, first + count), at most BAND of them, against all keys they see. */
static void band_run(const struct plan *p, const struct item *it, struct bench *bench, int first,
                     int count)
{
    const int32_t *pages = p->indices + p->kv_indptr[it->b];
    int nk = p->kv_indptr[it->b + 1] - p->kv_indptr[it->b];
    int tiles = (count + ROW_TILE - 1) / ROW_TILE, end;

    for (int i = 0; i < tiles; i++) {
        int rest = count - i * ROW_TILE;

        rows_open(p, it, first + i * ROW_TILE, rest < ROW_TILE ? rest : ROW_TILE, &bench->rows[i]);
    }
    end = bench->rows[tiles - 1].visible[bench->rows[tiles - 1].count - 1];
    end = MASK == MASK_dense ? nk : end;
    for (int key = 0; key < end; key += BLOCK) {
        int n = end - key < BLOCK ? end - key : BLOCK;

        if (!ONLINE) {
            block_two_pass(p, bench, pages, key, n, end);
            continue;
        }
        prefetch_keys(p, pages, key + n, end);
        keys_find(p, &bench->keys, pages + key, n);
        keys_turn(&bench->keys, n);
        keys_pair(&bench->keys, n);
        for (int i = 0; i < tiles; i++)
            block_online(p, bench, &bench->rows[i], key, n);
    }
    for (int i = 0; i < tiles; i++)
        rows_close(p, &bench->rows[i]);
}

/* Takes items until none is left. w: the worker, whose bench it uses. */
static void worker_run(void *ctx, int w)
{
    struct plan *p = ctx;
    int i;

    while ((i = atomic_fetch_add(&p->next, 1)) < p->n_items) {
        const struct item *it = &p->items[i];

        for (int r = 0; r < it->count; r += BAND)
            band_run(p, it, &benches[w], it->first + r,
                     it->count - r < BAND ? it->count - r : BAND);
    }
}

/* Longest first: the last items to start are then short, and workers end together. */
static int by_cost(const void *a, const void *b)
{
    int64_t x = ((const struct item *)a)->cost, y = ((const struct item *)b)->cost;

    return x < y ? 1 : x > y ? -1 : 0;
}

static struct item item_of(const struct plan *p, int b, int head, int heads, int first, int count)
{
    int nq = p->qo_indptr[b + 1] - p->qo_indptr[b], nk = p->kv_indptr[b + 1] - p->kv_indptr[b];
    int64_t seen = 2 * (int64_t)(nk - nq + 1) + first / heads + (first + count - 1) / heads;

    return (struct item){ b, head, heads, first, count, seen * count / 2 };
}

/* Fills p->items, or only counts them while it is NULL. */
static void plan_items(struct plan *p, int batch)
{
    const int heads = PARTITION == PARTITION_head_group ? HEAD_GROUP : HEADS;
    int n = 0;

    for (int b = 0; b < batch; b++) {
        int rows = (p->qo_indptr[b + 1] - p->qo_indptr[b]) * heads;
        int step = PARTITION == PARTITION_query_tile ? BAND : rows;

        for (int first = 0; first < rows; first += step)
            for (int head = 0; head < HEADS; head += heads, n++)
                if (p->items)
                    p->items[n] = item_of(p, b, head, heads, first,
                                          rows - first < step ? rows - first : step);
    }
    p->n_items = n;
}

int ks_kernel(const struct ks_call *call)
{
    int batch = (int)call->inputs[4].shape[0] - 1;
    int workers = call->threads < WORKERS_MAX ? call->threads : WORKERS_MAX;
    struct plan p = {
        .q_nope = call->inputs[0].data,
        .q_pe = call->inputs[1].data,
        .ckv = call->inputs[2].data,
        .kpe = call->inputs[3].data,
        .qo_indptr = call->inputs[4].data,
        .kv_indptr = call->inputs[5].data,
        .indices = call->inputs[6].data,
        .scale = *(const float *)call->inputs[7].data * (float)M_LOG2E,
        .output = call->outputs[0].data,
        .lse = call->outputs[1].data,
    };

    plan_items(&p, batch);
    p.items = malloc(sizeof(*p.items) * (size_t)(p.n_items + 1));
    if (!p.items)
        return 1;
    plan_items(&p, batch);
    qsort(p.items, (size_t)p.n_items, sizeof(*p.items), by_cost);
    call->parallel(call->pool, worker_run, &p, workers);
    free(p.items);
    return 0;
}
