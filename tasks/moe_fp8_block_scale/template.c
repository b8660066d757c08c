/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunable routed experts. Tokens are routed and their activations widened into operands; then
 * groups of tokens of one expert pass the two matrix products, each a parallel run over (group,
 * rows of weights) or, for the second, over columns of the output. The macros are described in
 * template.space.json.
 *
 * Operands are floats or bf16 in the order in which codes come out of `decode`, so that activations
 * and weights meet element by element; `position_of` is that order. DECODE bits leaves floats 2^120
 * too small: OPERAND_FACTOR and WEIGHT_FACTOR bring that back without an instruction of their own.
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

#define IS_BF16 (MATH == MATH_bf16)
#define IS_FOLDED (SCALE == SCALE_folded)
#define IS_FUSED (ACTIVATION == ACTIVATION_fused)
#define IS_FLY (WEIGHTS == WEIGHTS_fly)
#define IS_BLOCK (WEIGHTS == WEIGHTS_block)

/* shuffle needs a table of 128 bytes in registers; elsewhere bits do the same work. */
#if DECODE == DECODE_shuffle && VEC_BITS == 512 && defined(__AVX512VBMI__) && defined(__AVX512BW__)
#define USE_SHUFFLE 1
#else
#define USE_SHUFFLE 0
#endif
#if IS_BF16 && defined(__AVX512BF16__) && defined(__AVX512VL__)
#define USE_DOT 1
#else
#define USE_DOT 0
#endif
#define USE_TABLE (DECODE == DECODE_table)
#define USE_RAW (!IS_BF16 && !USE_TABLE && !USE_SHUFFLE) /* floats 2^120 too small */

/* What operands, and what scales of weights, are multiplied by. */
#if USE_RAW
#define OPERAND_FACTOR (IS_FOLDED ? 0x1p30f : 0x1p60f)
#define WEIGHT_FACTOR (IS_FOLDED ? 0x1p90f : 0x1p60f)
#else
#define OPERAND_FACTOR 1.0f
#define WEIGHT_FACTOR 1.0f
#endif

enum {
    EXPERTS = KS_NUM_EXPERTS,
    LOCAL = KS_NUM_LOCAL_EXPERTS,
    HIDDEN = KS_HIDDEN_SIZE,
    INTER = KS_INTERMEDIATE_SIZE,
    TOP_K = KS_TOP_K,
    GROUPS = KS_N_GROUP,
    KEPT = KS_TOPK_GROUP,
    GROUP_SIZE = EXPERTS / GROUPS,
    QUANT = KS_BLOCK_SIZE,
    HIDDEN_BLOCKS = HIDDEN / QUANT,
    INTER_BLOCKS = INTER / QUANT,
    LANES = VEC_BITS / 32,
    PER = IS_BF16 ? 2 * LANES : LANES, /* elements of an operand vector */
    UNIT = USE_SHUFFLE ? 64 : PER,     /* codes decoded together */
    N_UNIT = UNIT / PER,               /* operand vectors they make */
    ROWS = ROW_STEP,                   /* rows of weights in the micro kernel */
    SUMS = TOKEN_BLOCK * ROWS,
    HALF = ROWS / 2,                           /* fused: rows of up, then as many of gate */
    FIRST_ROWS = IS_FUSED ? INTER : 2 * INTER, /* what items of the first product divide */
    ROUTE_TOKENS = 4,                          /* per item */
    LINE = 64
};

typedef float vf __attribute__((vector_size(VEC_BITS / 8)));
typedef uint32_t vu __attribute__((vector_size(VEC_BITS / 8)));
typedef int32_t vi __attribute__((vector_size(VEC_BITS / 8)));
typedef float v4 __attribute__((vector_size(16)));
#if IS_BF16
typedef vu operand;
typedef uint16_t element;
#else
typedef vf operand;
typedef float element;
#endif

/* Assignments [begin, end) go to one local expert. */
struct group {
    int expert, begin, end;
};

struct plan {
    const float *logits, *xs, *s13, *s2;
    const uint16_t *bias;
    const uint8_t *x, *w13, *w2;
    int tokens, offset;
    float factor;
    uint16_t *output;

    int *chosen;   /* [tokens][TOP_K]: local expert, -1 when it is elsewhere */
    float *share;  /* [tokens][TOP_K] */
    int *slot;     /* [tokens][TOP_K]: the assignment */
    int *token;    /* [assignments] */
    float *weight; /* [assignments] */
    struct group *groups;
    int n_groups, n_slots;
    element *wide;     /* [tokens][HIDDEN] */
    float *wide_scale; /* [tokens][HIDDEN_BLOCKS], SCALE block */
    element *gated;    /* [assignments][INTER] */
    float *product;    /* [assignments][2 INTER], ACTIVATION separate */
    float *sums;       /* [tokens][HIDDEN], or [assignments][HIDDEN] for COMBINE rows */
    float table[256];
    uint16_t table16[256];
    uint8_t bytes[2][128]; /* low and high half of a bf16, for the codes without sign */
};

/* A thread's decoded weights. */
enum {
    HELD_ROWS = IS_FLY     ? 1
                : IS_BLOCK ? (IS_FUSED ? 2 : 1) * ITEM_ROWS
                           : ROWS,
    WIDEST = HIDDEN > INTER ? HIDDEN : INTER
};
static _Thread_local element held[IS_FLY ? 1 : (int64_t)HELD_ROWS * WIDEST]
    __attribute__((aligned(LINE)));

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

INLINE operand load_o(const element *p)
{
    operand v;

    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void store_o(element *p, operand v)
{
    memcpy(p, &v, sizeof(v));
}

INLINE vf splat(float x)
{
    return x - (vf){ 0 };
}

INLINE vf select_f(vu mask, vf a, vf b)
{
    return (vf)((mask & (vu)a) | (~mask & (vu)b));
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

/* e^x, relative error below 2e-7; x is clamped to where the result is a normal number. */
INLINE vf exp_poly(vf x)
{
    vf c, n, f, p, t;

    c = select_f((vu)(x > splat(-87.0f)), x, splat(-87.0f));
    c = select_f((vu)(c < splat(88.0f)), c, splat(88.0f));
    t = c * 1.44269504f + 0x1.8p23f; /* the low bits now hold round(c / ln 2) */
    n = t - 0x1.8p23f;
    f = c - n * 0.693359375f;
    f = f + n * 2.12194440e-4f; /* 0.693359375 is larger than ln 2 by this */
    p = splat(1.9875691e-4f);
    p = p * f + 1.3981999e-3f;
    p = p * f + 8.3334519e-3f;
    p = p * f + 4.1665796e-2f;
    p = p * f + 1.6666665e-1f;
    p = p * f + 0.5f;
    p = p * (f * f) + f + 1.0f;
    return (vf)((vu)p + ((vu)t << 23));
}

/* 1 / (1 + e^-x) */
INLINE vf sigmoid(vf x)
{
#if EXP == EXP_poly
    return 1.0f / (1.0f + exp_poly(-x));
#else
    for (int i = 0; i < LANES; i++)
        x[i] = expf(-x[i]);
    return 1.0f / (1.0f + x);
#endif
}

/* ---- Codes ---- */

#if !USE_TABLE && !USE_SHUFFLE
/* Four, eight or sixteen codes as signed 32-bit numbers. */
INLINE vi widen_codes(const uint8_t *p)
{
#if VEC_BITS == 512 && defined(__AVX512F__)
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
#elif VEC_BITS == 256 && defined(__AVX2__)
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p));
#else
    typedef int8_t vb __attribute__((vector_size(LANES)));
    vb b;

    memcpy(&b, p, sizeof(b));
    return __builtin_convertvector(b, vi);
#endif
}

/* The codes as floats that are 2^120 too small; a sign and seven bits land where floats have them,
 * and a code without exponent becomes a float without one. */
INLINE vf raw_codes(const uint8_t *p)
{
    return (vf)(((vu)widen_codes(p) << 20) & 0x87f00000u);
}
#endif

/*
 * UNIT codes as N_UNIT operand vectors; scale: of the weights, WEIGHT_FACTOR included, and only
 * when it is folded into them.
 */
INLINE void decode(const struct plan *p, const uint8_t *codes, bool fold, float scale, operand *out)
{
#if USE_SHUFFLE
    __m512i x = _mm512_loadu_si512(codes);
    __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(p->bytes[0]), x,
                                           _mm512_loadu_si512(p->bytes[0] + 64));
    __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(p->bytes[1]), x,
                                            _mm512_loadu_si512(p->bytes[1] + 64));
    __m512i a, b;

    high = _mm512_or_si512(high, _mm512_and_si512(x, _mm512_set1_epi8((char)0x80)));
    a = _mm512_unpacklo_epi8(low, high);
    b = _mm512_unpackhi_epi8(low, high);
#if IS_BF16
    out[0] = (operand)a;
    out[1] = (operand)b;
#else
    out[0] = (vf)_mm512_unpacklo_epi16(_mm512_setzero_si512(), a);
    out[1] = (vf)_mm512_unpackhi_epi16(_mm512_setzero_si512(), a);
    out[2] = (vf)_mm512_unpacklo_epi16(_mm512_setzero_si512(), b);
    out[3] = (vf)_mm512_unpackhi_epi16(_mm512_setzero_si512(), b);
#endif
#elif USE_TABLE && IS_BF16
    uint16_t x[PER];

    for (int i = 0; i < PER; i++)
        x[i] = p->table16[codes[i]];
    memcpy(out, x, sizeof(x));
#elif USE_TABLE
    float x[PER];

    for (int i = 0; i < PER; i++)
        x[i] = p->table[codes[i]];
    memcpy(out, x, sizeof(x));
#elif IS_BF16
    typedef int8_t vb __attribute__((vector_size(2 * LANES)));
    typedef int16_t vs __attribute__((vector_size(4 * LANES)));
    vb b;
    vu u;

    memcpy(&b, codes, sizeof(b));
    u = (vu) __builtin_convertvector(b, vs) << 4 & 0x87f087f0u;
    out[0] = ((vu)((vf)(u << 16) * 0x1p120f) >> 16) |
             ((vu)((vf)(u & 0xffff0000u) * 0x1p120f) & 0xffff0000u);
#else
    out[0] = raw_codes(codes);
#endif
#if !IS_BF16
    UNROLL_ALL
    for (int i = 0; i < N_UNIT; i++)
        if (fold)
            out[i] *= scale;
#endif
    (void)p, (void)fold, (void)scale;
}

/* acc + the products of a and b, pairwise where there are pairs. */
INLINE vf multiply_add(vf acc, operand a, operand b)
{
#if USE_DOT && VEC_BITS == 512
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#elif USE_DOT && VEC_BITS == 256
    return (vf)_mm256_dpbf16_ps((__m256)acc, (__m256bh)a, (__m256bh)b);
#elif USE_DOT
    return (vf)_mm_dpbf16_ps((__m128)acc, (__m128bh)a, (__m128bh)b);
#elif IS_BF16
    acc += (vf)(a << 16) * (vf)(b << 16);
    return acc + (vf)(a & 0xffff0000u) * (vf)(b & 0xffff0000u);
#else
    return acc + a * b;
#endif
}

/* Where element i of a row stands among its operands: unpacking works on lanes of 16 bytes. */
INLINE int position_of(int i)
{
#if USE_SHUFFLE
    enum { RUN = IS_BF16 ? 8 : 4 }; /* codes of a lane that stay neighbours */
    int at = i % LINE, lane = at / 16, byte = at % 16;

    return i - at + byte / RUN * PER + lane * RUN + byte % RUN;
#else
    return i;
#endif
}

INLINE element element_of(float x)
{
#if IS_BF16
    return ks_f32_to_bf16(x);
#else
    return x;
#endif
}

/* ---- Routing ---- */

#if TOPK == TOPK_scan
/* One pass over all experts of kept groups for each choice. */
static void choose(float *u, const bool *kept, int *out)
{
    for (int i = 0; i < TOP_K; i++) {
        int best = -1;

        for (int g = 0; g < GROUPS; g++)
            for (int e = g * GROUP_SIZE; kept[g] && e < (g + 1) * GROUP_SIZE; e++)
                if (best < 0 || u[e] > u[best])
                    best = e;
        out[i] = best;
        u[best] = -INFINITY;
    }
}
#else
static int group_best(const float *u, int g)
{
    int best = g * GROUP_SIZE;

    for (int e = best + 1; e < (g + 1) * GROUP_SIZE; e++)
        best = u[e] > u[best] ? e : best;
    return best;
}

/* Keeps the best of each group; only the group that gave the last choice is looked at again. */
static void choose(float *u, const bool *kept, int *out)
{
    int best[GROUPS];

    for (int g = 0; g < GROUPS; g++)
        best[g] = kept[g] ? group_best(u, g) : -1;
    for (int i = 0; i < TOP_K; i++) {
        int from = -1;

        for (int g = 0; g < GROUPS; g++)
            if (kept[g] && (from < 0 || u[best[g]] > u[best[from]]))
                from = g;
        out[i] = best[from];
        u[out[i]] = -INFINITY;
        best[from] = group_best(u, from);
    }
}
#endif

static void keep_groups(const float *u, bool *kept)
{
    float score[GROUPS];

    for (int g = 0; g < GROUPS; g++) {
        float first = -INFINITY, second = -INFINITY;

        for (int e = g * GROUP_SIZE; e < (g + 1) * GROUP_SIZE; e++) {
            float below = u[e] < first ? u[e] : first;

            second = below > second ? below : second;
            first = u[e] > first ? u[e] : first;
        }
        score[g] = first + second;
        kept[g] = GROUPS == KEPT;
    }
    for (int i = 0; GROUPS != KEPT && i < KEPT; i++) {
        int best = -1;

        for (int g = 0; g < GROUPS; g++)
            if (!kept[g] && (best < 0 || score[g] > score[best]))
                best = g;
        kept[best] = true;
    }
}

/* Chooses the experts of token t; false when none is local. */
static bool route_token(struct plan *p, int t)
{
    enum { PADDED = (EXPERTS + LANES - 1) / LANES * LANES };
    float s[PADDED] __attribute__((aligned(LINE))) = { 0 };
    float u[EXPERTS], sum = 1e-20f;
    bool kept[GROUPS], local = false;
    int chosen[TOP_K];

    memcpy(s, p->logits + (int64_t)t * EXPERTS, EXPERTS * sizeof(*s));
    for (int e = 0; e < EXPERTS; e += LANES)
        store_f(s + e, sigmoid(load_f(s + e)));
    for (int e = 0; e < EXPERTS; e++)
        u[e] = s[e] + ks_bf16_to_f32(p->bias[e]);
    keep_groups(u, kept);
    choose(u, kept, chosen);
    for (int i = 0; i < TOP_K; i++)
        sum += s[chosen[i]];
    for (int i = 0; i < TOP_K; i++) {
        int l = chosen[i] - p->offset;
        bool here = l >= 0 && l < LOCAL;

        p->chosen[t * TOP_K + i] = here ? l : -1;
        p->share[t * TOP_K + i] = s[chosen[i]] / sum * p->factor;
        local |= here;
    }
    return local;
}

/* Activations of token t as operands. */
static void widen_token(struct plan *p, int t)
{
    const uint8_t *codes = p->x + (int64_t)t * HIDDEN;
    element *wide = p->wide + (int64_t)t * HIDDEN;

    for (int b = 0; b < HIDDEN_BLOCKS; b++) {
        float scale = p->xs[(int64_t)b * p->tokens + t];

        if (!IS_FOLDED)
            p->wide_scale[(int64_t)t * HIDDEN_BLOCKS + b] = scale * WEIGHT_FACTOR;
        for (int i = b * QUANT; i < (b + 1) * QUANT; i += UNIT) {
            operand v[N_UNIT];

            decode(p, codes + i, false, 1, v);
            for (int k = 0; k < N_UNIT; k++) {
#if !IS_BF16
                if (USE_RAW)
                    v[k] *= 0x1p120f;
                v[k] *= IS_FOLDED ? OPERAND_FACTOR * scale : OPERAND_FACTOR;
#endif
                store_o(wide + i + k * PER, v[k]);
            }
        }
    }
}

static void route_item(void *ctx, int item)
{
    struct plan *p = ctx;
    int end = (item + 1) * ROUTE_TOKENS < p->tokens ? (item + 1) * ROUTE_TOKENS : p->tokens;

    for (int t = item * ROUTE_TOKENS; t < end; t++)
        if (route_token(p, t))
            widen_token(p, t);
}

/* ---- Groups ---- */

static void assign(struct plan *p, int t, int i, int slot)
{
    p->slot[t * TOP_K + i] = slot;
    p->token[slot] = t;
    p->weight[slot] = p->share[t * TOP_K + i];
}

#if GROUPING == GROUPING_token
/* Every assignment is a group. */
static void group_tokens(struct plan *p)
{
    for (int t = 0; t < p->tokens; t++)
        for (int i = 0; i < TOP_K; i++) {
            int l = p->chosen[t * TOP_K + i], n = p->n_slots;

            if (l < 0)
                continue;
            assign(p, t, i, n);
            p->groups[p->n_groups++] = (struct group){ l, n, n + 1 };
            p->n_slots++;
        }
}
#else
/* All tokens of an expert, or so many of them, are a group. */
static void group_tokens(struct plan *p)
{
    int next[LOCAL + 1] = { 0 }, most = GROUPING == GROUPING_chunk ? GROUP_TOKENS : INT32_MAX;

    for (int i = 0; i < p->tokens * TOP_K; i++)
        if (p->chosen[i] >= 0)
            next[p->chosen[i] + 1]++;
    for (int l = 0; l < LOCAL; l++) {
        int end;

        next[l + 1] += next[l];
        end = next[l + 1];
        for (int at = next[l]; at < end;) {
            int stop = end - at < most ? end : at + most;

            p->groups[p->n_groups++] = (struct group){ l, at, stop };
            at = stop;
        }
    }
    p->n_slots = next[LOCAL];
    for (int t = 0; t < p->tokens; t++)
        for (int i = 0; i < TOP_K; i++)
            if (p->chosen[t * TOP_K + i] >= 0)
                assign(p, t, i, next[p->chosen[t * TOP_K + i]]++);
}
#endif

/* ---- The micro kernel ---- */

/* ROWS rows of weights of one of the products. */
struct panel {
    const uint8_t *codes[ROWS];
    const element *wide[ROWS];
    const float *scale[ROWS]; /* by block of the inner dimension */
};

INLINE void sums_store(const vf *s, int n, float *out)
{
    if (n % 4 != 0) {
        UNROLL_ALL
        for (int i = 0; i < n; i++)
            out[i] = sum_lanes(s[i]);
        return;
    }
    UNROLL_ALL
    for (int i = 0; i < n; i += 4) {
        v4 r = sum_lanes4(s[i], s[i + 1], s[i + 2], s[i + 3]);

        memcpy(out + i, &r, sizeof(r));
    }
}

/* Codes at `at` of the panel's rows, as operands: [ROWS][N_UNIT]. */
INLINE void panel_load(const struct plan *p, const struct panel *w, int at, operand *v)
{
    UNROLL_ALL
    for (int r = 0; r < ROWS; r++) {
#if IS_FLY
        decode(p, w->codes[r] + at, IS_FOLDED, w->scale[r][at / QUANT] * WEIGHT_FACTOR,
               v + r * N_UNIT);
#else
        UNROLL_ALL
        for (int k = 0; k < N_UNIT; k++)
            v[r * N_UNIT + k] = load_o(w->wide[r] + at + k * PER);
#endif
    }
    (void)p;
}

/*
 * Products of n tokens' operands with the panel's rows into out[n][ROWS]. x: [n] rows; xs: their
 * scales by block, NULL in the second product. `n` and `inner` are constants where this is inlined.
 */
INLINE void micro(const struct plan *p, const struct panel *w, int n, int inner,
                  const element *const *x, const float *const *xs, float *out)
{
    vf total[SUMS], part[SUMS];

    UNROLL_ALL
    for (int i = 0; i < n * ROWS; i++)
        total[i] = (vf){ 0 };
    for (int b = 0; b < inner / QUANT; b++) {
        vf *acc = IS_FOLDED ? total : part;

        UNROLL_ALL
        for (int i = 0; i < n * ROWS; i++)
            part[i] = (vf){ 0 };
        for (int at = b * QUANT; at < (b + 1) * QUANT; at += UNIT) {
            operand v[ROWS * N_UNIT];

            panel_load(p, w, at, v);
            UNROLL_ALL
            for (int m = 0; m < n; m++)
                UNROLL_ALL
            for (int k = 0; k < N_UNIT; k++) {
                operand y = load_o(x[m] + at + k * PER);

                UNROLL_ALL
                for (int r = 0; r < ROWS; r++)
                    acc[m * ROWS + r] = multiply_add(acc[m * ROWS + r], y, v[r * N_UNIT + k]);
            }
        }
        if (IS_FOLDED)
            continue;
        UNROLL_ALL
        for (int m = 0; m < n; m++) {
            float scale = xs ? xs[m][b] : WEIGHT_FACTOR;

            UNROLL_ALL
            for (int r = 0; r < ROWS; r++)
                total[m * ROWS + r] += part[m * ROWS + r] * (scale * w->scale[r][b]);
        }
    }
    sums_store(total, n * ROWS, out);
}

#define MICRO(N)                                                                                   \
    static __attribute__((noinline, unused)) void first_##N(                                       \
        const struct plan *p, const struct panel *w, const element *const *x,                      \
        const float *const *xs, float *out)                                                        \
    {                                                                                              \
        micro(p, w, N, HIDDEN, x, xs, out);                                                        \
    }                                                                                              \
    static __attribute__((noinline, unused)) void second_##N(                                      \
        const struct plan *p, const struct panel *w, const element *const *x, float *out)          \
    {                                                                                              \
        micro(p, w, N, INTER, x, NULL, out);                                                       \
    }

MICRO(1)
#if TOKEN_BLOCK >= 2
MICRO(2)
#endif
#if TOKEN_BLOCK >= 4
MICRO(4)
#endif
#if TOKEN_BLOCK >= 8
MICRO(8)
#endif

/* As many of `left` tokens as one call of the micro kernel takes. */
INLINE int block_size(int left)
{
    int n = TOKEN_BLOCK;

    while (n > left)
        n /= 2;
    return n;
}

/* ---- The first product ---- */

/* out: [n][ROWS], HALF of up and HALF of gate from column j on: into the gated activations. */
INLINE void store_gated(const struct plan *p, int slot, int n, int j, const float *out)
{
    enum { PADDED = (SUMS / 2 + LANES) / LANES * LANES };
    float up[PADDED] __attribute__((aligned(LINE)));
    float gate[PADDED] __attribute__((aligned(LINE)));

    for (int m = 0; m < n; m++)
        for (int r = 0; r < HALF; r++) {
            up[m * HALF + r] = out[m * ROWS + r] * p->weight[slot + m] * OPERAND_FACTOR;
            gate[m * HALF + r] = out[m * ROWS + HALF + r];
        }
    for (int i = n * HALF; i < (n * HALF + LANES - 1) / LANES * LANES; i++)
        up[i] = gate[i] = 0;
    for (int i = 0; i < n * HALF; i += LANES) {
        vf g = load_f(gate + i);

        store_f(up + i, load_f(up + i) * g * sigmoid(g));
    }
    for (int m = 0; m < n; m++)
        for (int r = 0; r < HALF; r++)
            p->gated[(int64_t)(slot + m) * INTER + position_of(j + r)] =
                element_of(up[m * HALF + r]);
}

static void first_block(const struct plan *p, const struct panel *w, int slot, int n, int row)
{
    const element *x[TOKEN_BLOCK];
    const float *xs[TOKEN_BLOCK];
    float out[SUMS] __attribute__((aligned(LINE)));

    for (int m = 0; m < n; m++) {
        x[m] = p->wide + (int64_t)p->token[slot + m] * HIDDEN;
        xs[m] = p->wide_scale + (int64_t)p->token[slot + m] * HIDDEN_BLOCKS;
    }
#if TOKEN_BLOCK >= 8
    if (n == 8)
        first_8(p, w, x, xs, out);
#endif
#if TOKEN_BLOCK >= 4
    if (n == 4)
        first_4(p, w, x, xs, out);
#endif
#if TOKEN_BLOCK >= 2
    if (n == 2)
        first_2(p, w, x, xs, out);
#endif
    if (n == 1)
        first_1(p, w, x, xs, out);
    if (IS_FUSED) {
        store_gated(p, slot, n, row, out);
        return;
    }
    for (int m = 0; m < n; m++)
        for (int r = 0; r < ROWS; r++)
            p->product[(int64_t)(slot + m) * 2 * INTER + row + r] = out[m * ROWS + r];
}

/* ---- The second product ---- */

/* out: [n][ROWS], columns from `col` on. */
INLINE void store_output(const struct plan *p, int slot, int n, int col, const float *out)
{
    for (int m = 0; m < n; m++) {
        const float *from = out + m * ROWS;

#if COMBINE == COMBINE_rows
        memcpy(p->sums + (int64_t)(slot + m) * HIDDEN + col, from, ROWS * sizeof(*from));
#else
        float *to = p->sums + (int64_t)p->token[slot + m] * HIDDEN + col;

        for (int r = 0; r < ROWS; r++)
            to[r] += from[r];
#endif
    }
}

static void second_block(const struct plan *p, const struct panel *w, int slot, int n, int col)
{
    const element *x[TOKEN_BLOCK];
    float out[SUMS] __attribute__((aligned(LINE)));

    for (int m = 0; m < n; m++)
        x[m] = p->gated + (int64_t)(slot + m) * INTER;
#if TOKEN_BLOCK >= 8
    if (n == 8)
        second_8(p, w, x, out);
#endif
#if TOKEN_BLOCK >= 4
    if (n == 4)
        second_4(p, w, x, out);
#endif
#if TOKEN_BLOCK >= 2
    if (n == 2)
        second_2(p, w, x, out);
#endif
    if (n == 1)
        second_1(p, w, x, out);
    store_output(p, slot, n, col, out);
}

/* ---- Rows of weights against a group ---- */

/* The i-th row of a panel that begins at `row` of what items divide. */
INLINE int panel_row(bool second, int row, int i)
{
    return second || !IS_FUSED ? row + i : i < HALF ? row + i : INTER + row + i - HALF;
}

INLINE const uint8_t *row_codes(const struct plan *p, bool second, int expert, int row)
{
    return second ? p->w2 + ((int64_t)expert * HIDDEN + row) * INTER
                  : p->w13 + ((int64_t)expert * 2 * INTER + row) * HIDDEN;
}

INLINE const float *row_scale(const struct plan *p, bool second, int expert, int row)
{
    return second ? p->s2 + (expert * HIDDEN_BLOCKS + row / QUANT) * INTER_BLOCKS
                  : p->s13 + (expert * 2 * INTER_BLOCKS + row / QUANT) * HIDDEN_BLOCKS;
}

/* Asks for the panel that begins at `row`, when the item has one there. */
INLINE void prefetch_panel(const struct plan *p, bool second, int expert, int row, int end)
{
    int inner = second ? INTER : HIDDEN;

    for (int r = 0; r < ROWS && row < end; r++) {
        const uint8_t *codes = row_codes(p, second, expert, panel_row(second, row, r));

        for (int i = 0; i < inner; i += LINE)
            __builtin_prefetch(codes + i, 0, 2);
    }
}

/* index: of the panel's first row among the rows that this thread holds decoded. */
INLINE void panel_set(const struct plan *p, bool second, int expert, int row, int index,
                      struct panel *w)
{
    int inner = second ? INTER : HIDDEN;

    for (int r = 0; r < ROWS; r++) {
        int at = panel_row(second, row, r);

        w->codes[r] = row_codes(p, second, expert, at);
        w->scale[r] = row_scale(p, second, expert, at);
        w->wide[r] = IS_FLY ? NULL : held + (int64_t)(index + r) * inner;
    }
}

INLINE void panel_decode(const struct plan *p, bool second, const struct panel *w)
{
    int inner = second ? INTER : HIDDEN;

    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < inner; i += UNIT) {
            element *to = (element *)w->wide[r] + i; /* this thread's own */
            operand v[N_UNIT];

            decode(p, w->codes[r] + i, IS_FOLDED, w->scale[r][i / QUANT] * WEIGHT_FACTOR, v);
            for (int k = 0; k < N_UNIT; k++)
                store_o(to + k * PER, v[k]);
        }
}

INLINE void run_block(const struct plan *p, bool second, const struct panel *w, int slot, int n,
                      int row)
{
    if (second)
        second_block(p, w, slot, n, row);
    else
        first_block(p, w, slot, n, row);
}

/* ITEM_ROWS rows from `from` on (fused: of up and of gate each) with all tokens of the group. */
INLINE void run_rows(const struct plan *p, bool second, const struct group *g, int from)
{
    const int step = second || !IS_FUSED ? ROWS : HALF, end = from + ITEM_ROWS;
    struct panel w;

    for (int i = 0; i < PREFETCH; i++)
        prefetch_panel(p, second, g->expert, from + i * step, end);
#if IS_BLOCK
    for (int row = from; row < end; row += step) {
        if (PREFETCH > 0)
            prefetch_panel(p, second, g->expert, row + PREFETCH * step, end);
        panel_set(p, second, g->expert, row, (row - from) / step * ROWS, &w);
        panel_decode(p, second, &w);
    }
    for (int slot = g->begin, n; slot < g->end; slot += n) {
        n = block_size(g->end - slot);
        for (int row = from; row < end; row += step) {
            panel_set(p, second, g->expert, row, (row - from) / step * ROWS, &w);
            run_block(p, second, &w, slot, n, row);
        }
    }
#else
    for (int row = from; row < end; row += step) {
        if (PREFETCH > 0)
            prefetch_panel(p, second, g->expert, row + PREFETCH * step, end);
        panel_set(p, second, g->expert, row, 0, &w);
        if (!IS_FLY)
            panel_decode(p, second, &w);
        for (int slot = g->begin, n; slot < g->end; slot += n) {
            n = block_size(g->end - slot);
            run_block(p, second, &w, slot, n, row);
        }
    }
#endif
}

static void first_item(void *ctx, int item)
{
    enum { PARTS = FIRST_ROWS / ITEM_ROWS };
    const struct plan *p = ctx;

    run_rows(p, false, &p->groups[item / PARTS], item % PARTS * ITEM_ROWS);
}

/* ACTIVATION separate: one assignment. */
static __attribute__((unused)) void gate_item(void *ctx, int slot)
{
    const struct plan *p = ctx;
    const float *up = p->product + (int64_t)slot * 2 * INTER, *gate = up + INTER;
    float weight = p->weight[slot] * OPERAND_FACTOR;

    for (int j = 0; j < INTER; j += LINE) {
        float y[LINE] __attribute__((aligned(LINE)));

        for (int i = 0; i < LINE; i += LANES) {
            vf g = load_f(gate + j + i);

            store_f(y + i, load_f(up + j + i) * weight * g * sigmoid(g));
        }
        for (int i = 0; i < LINE; i++)
            p->gated[(int64_t)slot * INTER + position_of(j + i)] = element_of(y[i]);
    }
}

static void round_row(uint16_t *out, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = ks_f32_to_bf16(x[i]);
}

#if COMBINE == COMBINE_rows
static void second_item(void *ctx, int item)
{
    enum { PARTS = HIDDEN / ITEM_ROWS };
    const struct plan *p = ctx;

    run_rows(p, true, &p->groups[item / PARTS], item % PARTS * ITEM_ROWS);
}

static void combine_item(void *ctx, int t)
{
    const struct plan *p = ctx;
    float sum[HIDDEN] __attribute__((aligned(LINE))) = { 0 };

    for (int i = 0; i < TOP_K; i++) {
        const float *row = p->sums + (int64_t)p->slot[t * TOP_K + i] * HIDDEN;

        if (p->chosen[t * TOP_K + i] < 0)
            continue;
        for (int c = 0; c < HIDDEN; c += LANES)
            store_f(sum + c, load_f(sum + c) + load_f(row + c));
    }
    round_row(p->output + (int64_t)t * HIDDEN, sum, HIDDEN);
}
#else
/* ITEM_ROWS columns of the output, all groups. */
static void second_item(void *ctx, int item)
{
    const struct plan *p = ctx;
    int from = item * ITEM_ROWS;

    for (int t = 0; t < p->tokens; t++)
        memset(p->sums + (int64_t)t * HIDDEN + from, 0, ITEM_ROWS * sizeof(float));
    for (int g = 0; g < p->n_groups; g++)
        run_rows(p, true, &p->groups[g], from);
    for (int t = 0; t < p->tokens; t++)
        round_row(p->output + (int64_t)t * HIDDEN + from, p->sums + (int64_t)t * HIDDEN + from,
                  ITEM_ROWS);
}
#endif

/* ---- The call ---- */

static void plan_tables(struct plan *p)
{
    for (int i = 0; i < 256 && USE_TABLE; i++) {
        p->table[i] = ks_e4m3_to_f32((uint8_t)i);
        p->table16[i] = ks_f32_to_bf16(p->table[i]);
    }
    for (int i = 0; i < 128 && USE_SHUFFLE; i++) {
        uint16_t half = ks_f32_to_bf16(ks_e4m3_to_f32((uint8_t)i));

        p->bytes[0][i] = (uint8_t)(half & 0xff);
        p->bytes[1][i] = (uint8_t)(half >> 8);
    }
}

/* Cuts `bytes` off the memory at *at, when there is one. */
static void *cut(char **at, size_t *total, size_t bytes)
{
    char *p = *at;

    bytes = (bytes + LINE - 1) / LINE * LINE;
    *total += bytes;
    if (p)
        *at += bytes;
    return p;
}

/* Lays the plan's arrays out from `memory` on (NULL: nowhere); returns the bytes they take. */
static size_t plan_lay(struct plan *p, char *memory)
{
    size_t tokens = (size_t)p->tokens, most = tokens * TOP_K, total = 0;

    p->chosen = cut(&memory, &total, most * sizeof(*p->chosen));
    p->share = cut(&memory, &total, most * sizeof(*p->share));
    p->slot = cut(&memory, &total, most * sizeof(*p->slot));
    p->token = cut(&memory, &total, most * sizeof(*p->token));
    p->weight = cut(&memory, &total, most * sizeof(*p->weight));
    p->groups = cut(&memory, &total, most * sizeof(*p->groups));
    p->wide = cut(&memory, &total, tokens * HIDDEN * sizeof(*p->wide));
    p->wide_scale = cut(&memory, &total, tokens * HIDDEN_BLOCKS * sizeof(*p->wide_scale));
    p->gated = cut(&memory, &total, most * INTER * sizeof(*p->gated));
    p->product = cut(&memory, &total, IS_FUSED ? 0 : most * 2 * INTER * sizeof(*p->product));
    p->sums =
        cut(&memory, &total, (COMBINE == COMBINE_rows ? most : tokens) * HIDDEN * sizeof(*p->sums));
    return total;
}

/* One item needs no other thread. */
static void parallel(const struct ks_call *call, void (*fn)(void *ctx, int i), struct plan *p,
                     int n)
{
    if (n == 1)
        fn(p, 0);
    else if (n > 1)
        call->parallel(call->pool, fn, p, n);
}

static void run(struct plan *p, const struct ks_call *call)
{
    parallel(call, route_item, p, (p->tokens + ROUTE_TOKENS - 1) / ROUTE_TOKENS);
    group_tokens(p);
    parallel(call, first_item, p, p->n_groups * (FIRST_ROWS / ITEM_ROWS));
    if (!IS_FUSED)
        parallel(call, gate_item, p, p->n_slots);
#if COMBINE == COMBINE_rows
    parallel(call, second_item, p, p->n_groups * (HIDDEN / ITEM_ROWS));
    parallel(call, combine_item, p, p->tokens);
#else
    parallel(call, second_item, p, HIDDEN / ITEM_ROWS);
#endif
}

int ks_kernel(const struct ks_call *call)
{
    struct plan p = {
        .logits = call->inputs[0].data,
        .bias = call->inputs[1].data,
        .x = call->inputs[2].data,
        .xs = call->inputs[3].data,
        .w13 = call->inputs[4].data,
        .s13 = call->inputs[5].data,
        .w2 = call->inputs[6].data,
        .s2 = call->inputs[7].data,
        .tokens = (int)call->inputs[0].shape[0],
        .offset = *(const int32_t *)call->inputs[8].data,
        .factor = *(const float *)call->inputs[9].data,
        .output = call->outputs[0].data,
    };
    size_t need = plan_lay(&p, NULL);
    char *own = NULL;

    if (need > call->scratch_bytes) {
        own = aligned_alloc(LINE, need);
        if (!own)
            return 1;
    }
    plan_lay(&p, own ? own : call->scratch);
    plan_tables(&p);
    run(&p, call);
    free(own);
    return 0;
}
