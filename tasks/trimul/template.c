/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunable triangle update in three stages: tiles of positions are normalised and projected to left
 * and right; the triangle product is summed over k in blocks held in registers; tiles of it are
 * normalised, gated and projected to the output. The macros are described in template.space.json.
 *
 * Matrices are cut into panels of WIDTH columns (output channels). A block is ROWS positions by one
 * panel. What is too much of a block is computed again for the last position and not stored, so
 * that blocks need no remainder.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "ks_task.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors pass between inlined functions only */

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL_ALL _Pragma("GCC unroll 16")

#define BF16 (WEIGHTS == WEIGHTS_packed_bf16)
#define PACKED (WEIGHTS != WEIGHTS_rows)
#define FOLDED (NORM == NORM_folded)
#define PAIRED (PROJECT == PROJECT_pairs)
#define BY_CHANNEL (LAYOUT == LAYOUT_channel)
#define STORED (GATE == GATE_stored)

enum {
    DIM = KS_DIM,
    HIDDEN = KS_HIDDEN_DIM,
    LANES = VEC_BITS / 32,
    BLOCKS = HIDDEN / LANES,                 /* vectors of hidden channels */
    VECTORS = COLS < BLOCKS ? COLS : BLOCKS, /* of a panel, when packed */
    WIDTH = PACKED ? VECTORS * LANES : COLS,
    DEPTH_MAX = DIM > HIDDEN ? DIM : HIDDEN, /* terms of a product */
    ELEMENT = BF16 ? 2 : 4,                  /* bytes of a packed or normalised element */
    PLANE_PAD = 64,        /* floats that the last block of a plane may read beyond it */
    TILE_J = TILE / TRI_I, /* columns of a tile of the triangle product; TRI_I rows */
    LINE = 64
};

/* Matrices that multiply the normalised row, in the order of the call's inputs. */
enum { LEFT, RIGHT, LEFT_GATE, RIGHT_GATE, OUT_GATE, PROJECTIONS };

enum {
    PROJECT_PANELS = PROJECTIONS * HIDDEN / WIDTH,
    GATE_PANELS = HIDDEN / WIDTH, /* the last ones of these */
    OUT_PANELS = DIM / WIDTH,
    COLUMNS = PROJECTIONS * HIDDEN
};

_Static_assert(HIDDEN % 32 == 0 && DIM % 64 == 0, "panels have no remainder");

typedef float vf __attribute__((vector_size(VEC_BITS / 8)));
typedef uint32_t vu __attribute__((vector_size(VEC_BITS / 8)));
typedef float v4 __attribute__((vector_size(16)));

struct plan {
    const float *x, *mask, *norm_weight, *norm_bias;
    const float *projections[PROJECTIONS];
    const float *out_norm_weight, *out_norm_bias, *to_out;
    float *output;
    float *left, *right; /* see LAYOUT; a sequence's share is HIDDEN planes of `plane` floats */
    float *z;            /* [positions][HIDDEN], when OUTPUT is separate */
    char *normed;        /* [positions][DIM] elements, when NORM is separate */
    char *packed, *packed_out;
    float *fold_sum, *fold_bias; /* [COLUMNS], when NORM is folded: of W weight, and W bias */
    int bs, n;
    int64_t plane;
};

/* Rows of a tile as the products want them, with mean and 1 / deviation when NORM is folded. */
struct rows {
    const void *row[TILE];
    float mean[TILE], scale[TILE];
    char memory[TILE * DEPTH_MAX * ELEMENT] __attribute__((aligned(LINE)));
};

/* ---- Vectors ---- */

INLINE vf load_f(const void *p)
{
    vf v;

    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void store_f(float *p, vf v)
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

/* By halves: the compiler sees shuffles of vectors. */
INLINE float sum_lanes(vf a)
{
    v4 part[LANES / 4], s = { 0 };

    memcpy(part, &a, sizeof(a));
    UNROLL_ALL
    for (int i = 0; i < LANES / 4; i++)
        s += part[i];
    s += __builtin_shufflevector(s, s, 2, 3, 0, 1);
    return s[0] + s[1];
}

/* exp(x) for |x| <= 87; beyond that as if x were there. Relative error below 3e-6. */
INLINE vf exp_poly(vf x)
{
    vf c = x * (float)M_LOG2E, t, f, p;

    c = select_f((vu)(c > splat(-126.0f)), c, splat(-126.0f));
    c = select_f((vu)(c < splat(126.0f)), c, splat(126.0f));
    t = c + 0x1.8p23f; /* the low bits now hold round(c) */
    f = c - (t - 0x1.8p23f);
    p = splat(1.3333558e-3f);
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return (vf)((vu)p + ((vu)t << 23));
}

INLINE vf sigmoid(vf x)
{
#if SIGMOID == SIGMOID_poly
    return 1.0f / (1.0f + exp_poly(-x));
#else
    for (int i = 0; i < LANES; i++)
        x[i] = expf(-x[i]);
    return 1.0f / (1.0f + x);
#endif
}

/* ---- Layer norm ---- */

INLINE void mean_and_scale(const float *x, int n, float *mean, float *scale)
{
    vf sum = { 0 }, square = { 0 }, m;

    for (int i = 0; i < n; i += LANES)
        sum += load_f(x + i);
    *mean = sum_lanes(sum) / (float)n;
    m = splat(*mean);
    for (int i = 0; i < n; i += LANES) {
        vf d = load_f(x + i) - m;

        square += d * d;
    }
    *scale = 1 / sqrtf(sum_lanes(square) / (float)n + 1e-5f);
}

/* n floats to n elements: as they are, or rounded to bf16. */
INLINE void store_elements(void *out, int i, vf v)
{
#if BF16
    typedef uint16_t vh __attribute__((vector_size(VEC_BITS / 16)));
    vu u = (vu)v;
    vh h = __builtin_convertvector((u + 0x7fffu + ((u >> 16) & 1u)) >> 16, vh);

    memcpy((char *)out + i * 2, &h, sizeof(h));
#else
    store_f((float *)out + i, v);
#endif
}

INLINE void normalise(const float *x, int n, const float *weight, const float *bias, void *out)
{
    float mean, scale;

    mean_and_scale(x, n, &mean, &scale);
    for (int i = 0; i < n; i += LANES)
        store_elements(out, i,
                       (load_f(x + i) - mean) * scale * load_f(weight + i) + load_f(bias + i));
}

/* A pass of its own: TILE positions of the normalised input. */
static void normalise_run(void *ctx, int item)
{
    const struct plan *p = ctx;
    int64_t positions = (int64_t)p->bs * p->n * p->n, first = (int64_t)item * TILE;

    for (int64_t at = first; at < first + TILE && at < positions; at++)
        normalise(p->x + at * DIM, DIM, p->norm_weight, p->norm_bias,
                  p->normed + at * DIM * ELEMENT);
}

/* Row t of a tile: position `at`. */
INLINE void rows_set(const struct plan *p, struct rows *r, int t, int64_t at)
{
#if NORM == NORM_separate
    r->row[t] = p->normed + at * DIM * ELEMENT;
#elif FOLDED
    r->row[t] = p->x + at * DIM;
    mean_and_scale(p->x + at * DIM, DIM, &r->mean[t], &r->scale[t]);
#else
    r->row[t] = r->memory + t * DIM * ELEMENT;
    normalise(p->x + at * DIM, DIM, p->norm_weight, p->norm_bias, r->memory + t * DIM * ELEMENT);
#endif
}

/* ---- Matrices ---- */

/*
 * Matrix and channel of column `column` of the projections. When PROJECT is pairs, a panel's first
 * half are channels of left or right, its second half the same channels of the gate.
 */
INLINE void column_find(int column, int *matrix, int *channel)
{
    const int half = WIDTH / 2, in_panel = column % WIDTH, panel = column / WIDTH;

    *matrix = column / HIDDEN;
    *channel = column % HIDDEN;
    if (PAIRED && *matrix < OUT_GATE) {
        int at = panel * half + in_panel % half; /* of 2 HIDDEN pairs */

        *matrix = at / HIDDEN + (in_panel < half ? LEFT : LEFT_GATE);
        *channel = at % HIDDEN;
    }
}

/*
 * One column of `depth` elements into its panel, times `weight` unless that is NULL. A panel is
 * made of words: one float, or two neighbours along the sum as bf16.
 */
INLINE void column_pack(const float *src, const float *weight, int depth, char *panels, int column)
{
    const int words = depth * ELEMENT / 4;
    uint32_t line[DEPTH_MAX] __attribute__((aligned(LINE)));
    uint32_t *panel = (uint32_t *)panels + (size_t)(column / WIDTH) * WIDTH * (size_t)words;

    for (int d = 0; d < depth; d += LANES)
        store_elements(line, d, weight ? load_f(src + d) * load_f(weight + d) : load_f(src + d));
    for (int d = 0; d < words; d++)
        panel[d * WIDTH + column % WIDTH] = line[d];
}

#if FOLDED
/* What a folded norm adds to the products of one column. */
INLINE void column_fold(const struct plan *p, const float *src, int column)
{
    vf sum = { 0 }, bias = { 0 };

    for (int d = 0; d < DIM; d += LANES) {
        sum += load_f(src + d) * load_f(p->norm_weight + d);
        bias += load_f(src + d) * load_f(p->norm_bias + d);
    }
    p->fold_sum[column] = sum_lanes(sum);
    p->fold_bias[column] = sum_lanes(bias);
}
#endif

static void pack_run(void *ctx, int panel)
{
    const struct plan *p = ctx;

    for (int c = 0; c < WIDTH; c++) {
        int column = panel * WIDTH + c, matrix, channel;
        const float *src;

        if (panel >= PROJECT_PANELS) {
            column -= PROJECT_PANELS * WIDTH;
            column_pack(p->to_out + (int64_t)column * HIDDEN, NULL, HIDDEN, p->packed_out, column);
            continue;
        }
        column_find(column, &matrix, &channel);
        src = p->projections[matrix] + (int64_t)channel * DIM;
        column_pack(src, FOLDED ? p->norm_weight : NULL, DIM, p->packed, column);
#if FOLDED
        column_fold(p, src, column);
#endif
    }
}

#if BF16
/* acc + the products of the bf16 pairs of x and y. */
INLINE vf dot_pairs(vf acc, vu x, vu y)
{
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
#if VEC_BITS == 512
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)x, (__m512bh)y);
#elif VEC_BITS == 256
    return (vf)_mm256_dpbf16_ps((__m256)acc, (__m256bh)x, (__m256bh)y);
#else
    return (vf)_mm_dpbf16_ps((__m128)acc, (__m128bh)x, (__m128bh)y);
#endif
#else
    acc += (vf)(x << 16) * (vf)(y << 16);
    return acc + (vf)(x & 0xffff0000u) * (vf)(y & 0xffff0000u);
#endif
}
#endif

#if PACKED
/* ROWS rows times one panel: acc[m][v] is vector v of the panel's columns for row m. */
INLINE void block_product(const void *const *row, const char *panel, int depth,
                          vf acc[ROWS][VECTORS])
{
    UNROLL_ALL
    for (int m = 0; m < ROWS; m++)
        UNROLL_ALL
    for (int v = 0; v < VECTORS; v++)
        acc[m][v] = (vf){ 0 };
    for (int d = 0; d < depth * ELEMENT / 4; d++) {
        vf w[VECTORS];

        UNROLL_ALL
        for (int v = 0; v < VECTORS; v++)
            w[v] = load_f(panel + ((size_t)d * WIDTH + (size_t)v * LANES) * 4);
        UNROLL_ALL
        for (int m = 0; m < ROWS; m++) {
#if BF16
            uint32_t two;
            vu x;

            memcpy(&two, (const char *)row[m] + d * 4, sizeof(two));
            x = two - (vu){ 0 };
            UNROLL_ALL
            for (int v = 0; v < VECTORS; v++)
                acc[m][v] = dot_pairs(acc[m][v], (vu)w[v], x);
#else
            vf x = splat(((const float *)row[m])[d]);

            UNROLL_ALL
            for (int v = 0; v < VECTORS; v++)
                acc[m][v] += w[v] * x;
#endif
        }
    }
}
#else
/* ROWS rows times COLS matrix rows of `depth` floats: out[m][c]. */
INLINE void block_product(const void *const *row, const float *matrix, int depth,
                          float out[ROWS][COLS])
{
    vf acc[ROWS][COLS];

    UNROLL_ALL
    for (int m = 0; m < ROWS; m++)
        UNROLL_ALL
    for (int c = 0; c < COLS; c++)
        acc[m][c] = (vf){ 0 };
    for (int d = 0; d < depth; d += LANES) {
        vf w[COLS];

        UNROLL_ALL
        for (int c = 0; c < COLS; c++)
            w[c] = load_f(matrix + c * depth + d);
        UNROLL_ALL
        for (int m = 0; m < ROWS; m++) {
            vf x = load_f((const float *)row[m] + d);

            UNROLL_ALL
            for (int c = 0; c < COLS; c++)
                acc[m][c] += w[c] * x;
        }
    }
    UNROLL_ALL
    for (int m = 0; m < ROWS; m++)
        UNROLL_ALL
    for (int c = 0; c < COLS; c++)
        out[m][c] = sum_lanes(acc[m][c]);
}
#endif

/* Pointers to rows t .. t + ROWS, the last of n repeated. */
INLINE void rows_take(const struct rows *r, int t, int n, const void *row[ROWS])
{
    UNROLL_ALL
    for (int m = 0; m < ROWS; m++)
        row[m] = r->row[t + m < n ? t + m : n - 1];
}

/* What the products of a folded norm lack. */
INLINE vf unfold(const struct plan *p, const struct rows *r, int t, int column, vf v)
{
#if FOLDED
    v = (v - r->mean[t] * load_f(p->fold_sum + column)) * r->scale[t] +
        load_f(p->fold_bias + column);
#else
    (void)p, (void)r, (void)t, (void)column;
#endif
    return v;
}

/*
 * Panels [first, end) of the projections, n rows; column c of row t goes to out[t * stride + c -
 * first * WIDTH].
 */
static void project_panels(const struct plan *p, const struct rows *r, int n, int first, int end,
                           float *out, int64_t stride)
{
    const void *row[ROWS];

    for (int panel = first; panel < end; panel++)
        for (int t = 0; t < n; t += ROWS) {
            float *o = out + t * stride + (panel - first) * WIDTH;
            int valid = n - t < ROWS ? n - t : ROWS;
#if PACKED
            vf acc[ROWS][VECTORS];

            rows_take(r, t, n, row);
            block_product(row, p->packed + (size_t)panel * WIDTH * DIM * ELEMENT, DIM, acc);
            UNROLL_ALL
            for (int m = 0; m < ROWS; m++)
                UNROLL_ALL
            for (int v = 0; v < VECTORS; v++)
                if (m < valid)
                    store_f(o + m * stride + v * LANES,
                            unfold(p, r, t + m, panel * WIDTH + v * LANES, acc[m][v]));
#else
            float acc[ROWS][COLS];
            const float *w = p->projections[panel * WIDTH / HIDDEN];

            rows_take(r, t, n, row);
            block_product(row, w + (int64_t)(panel * WIDTH % HIDDEN) * DIM, DIM, acc);
            for (int m = 0; m < valid; m++)
                memcpy(o + m * stride, acc[m], sizeof(acc[m]));
#endif
        }
}

/* n rows of gated z times to_out, to the output rows dst[t]. */
static void project_out(const struct plan *p, const struct rows *r, int n, float *const *dst)
{
    const void *row[ROWS];

    for (int panel = 0; panel < OUT_PANELS; panel++)
        for (int t = 0; t < n; t += ROWS) {
            int valid = n - t < ROWS ? n - t : ROWS;
#if PACKED
            vf acc[ROWS][VECTORS];

            rows_take(r, t, n, row);
            block_product(row, p->packed_out + (size_t)panel * WIDTH * HIDDEN * ELEMENT, HIDDEN,
                          acc);
            UNROLL_ALL
            for (int m = 0; m < ROWS; m++)
                UNROLL_ALL
            for (int v = 0; v < VECTORS; v++)
                if (m < valid)
                    store_f(dst[t + m] + panel * WIDTH + v * LANES, acc[m][v]);
#else
            float acc[ROWS][COLS];

            rows_take(r, t, n, row);
            block_product(row, p->to_out + (int64_t)panel * WIDTH * HIDDEN, HIDDEN, acc);
            for (int m = 0; m < valid; m++)
                memcpy(dst[t + m] + panel * WIDTH, acc[m], sizeof(acc[m]));
#endif
        }
}

/* ---- First stage: left, right and the output gate ---- */

/* Positions first .. first + n of sequence b, counted as left and right lie: with k fastest, or,
 * when LAYOUT is channel, with i fastest. */
struct tile {
    int b, n;
    int64_t first;
    int64_t at[TILE]; /* of each position, in the input */
};

INLINE void tile_set(const struct plan *p, struct tile *t, int item)
{
    int64_t size = (int64_t)p->n * p->n, per = (size + TILE - 1) / TILE;

    t->b = (int)(item / per);
    t->first = item % per * TILE;
    t->n = size - t->first < TILE ? (int)(size - t->first) : TILE;
    for (int i = 0; i < t->n; i++) {
        int64_t q = t->first + i;

        t->at[i] = t->b * size + (BY_CHANNEL ? q % p->n * p->n + q / p->n : q);
    }
}

/* Where channels [block * LANES, + LANES) of position `in_sequence` of sequence b lie, when
 * vectors run over channels. */
INLINE int64_t operand_at(const struct plan *p, int b, int64_t in_sequence, int block)
{
    int64_t base = (int64_t)b * HIDDEN * p->plane;

#if LAYOUT == LAYOUT_channel_block
    return base + block * LANES * p->plane + in_sequence * LANES;
#else
    return base + in_sequence * HIDDEN + block * LANES;
#endif
}

/* A tile of left and right on its way to [channel][k][i]. */
struct turn {
    float side[2][TILE][HIDDEN] __attribute__((aligned(LINE)));
};

/* One vector of channels of left (side 0) or right, gated, for position i of the tile. */
INLINE void operand_store(const struct plan *p, const struct tile *t, struct turn *turn, int side,
                          int i, int channel, vf v)
{
#if BY_CHANNEL
    (void)p, (void)t;
    store_f(turn->side[side][i] + channel, v);
#else
    (void)turn;
    store_f((side ? p->right : p->left) + operand_at(p, t->b, t->first + i, channel / LANES), v);
#endif
}

static void turn_store(const struct plan *p, const struct tile *t, const struct turn *turn)
{
    for (int side = 0; side < 2; side++)
        for (int c = 0; c < HIDDEN; c++) {
            float *out =
                (side ? p->right : p->left) + ((int64_t)t->b * HIDDEN + c) * p->plane + t->first;

            for (int i = 0; i < t->n; i++)
                out[i] = turn->side[side][i][c];
        }
}

INLINE void gate_store(const struct plan *p, int64_t at, int channel, vf v)
{
    store_f(p->output + at * DIM + channel, sigmoid(v));
}

/* Projections with a buffer of all columns, and the gates in a second loop. */
INLINE void operands_buffered(const struct plan *p, const struct tile *t, const struct rows *r,
                              struct turn *turn)
{
    const int columns = STORED ? COLUMNS : OUT_GATE * HIDDEN;
    float buffer[TILE * COLUMNS] __attribute__((aligned(LINE)));

    project_panels(p, r, t->n, 0, columns / WIDTH, buffer, columns);
    for (int i = 0; i < t->n; i++) {
        const float *row = buffer + i * columns;
        float mask = p->mask[t->at[i]];

        for (int c = 0; c < HIDDEN; c += LANES) {
            for (int side = 0; side < 2; side++) {
                vf v = load_f(row + (LEFT + side) * HIDDEN + c);
                vf g = load_f(row + (LEFT_GATE + side) * HIDDEN + c);

                operand_store(p, t, turn, side, i, c, v * mask * sigmoid(g));
            }
            if (STORED)
                gate_store(p, t->at[i], c, load_f(row + OUT_GATE * HIDDEN + c));
        }
    }
}

#if PAIRED
/* Projections whose panels hold values beside their gates. */
INLINE void operands_paired(const struct plan *p, const struct tile *t, const struct rows *r,
                            struct turn *turn)
{
    const int panels = PROJECT_PANELS - (STORED ? 0 : GATE_PANELS);

    for (int panel = 0; panel < panels; panel++)
        for (int i = 0; i < t->n; i += ROWS) {
            const void *row[ROWS];
            vf acc[ROWS][VECTORS];
            bool paired = panel < PROJECT_PANELS - GATE_PANELS;
            int valid = t->n - i < ROWS ? t->n - i : ROWS, column = panel * WIDTH;
            int pair = panel * (WIDTH / 2), gate = (panel - PROJECT_PANELS + GATE_PANELS) * WIDTH;

            rows_take(r, i, t->n, row);
            block_product(row, p->packed + (size_t)panel * WIDTH * DIM * ELEMENT, DIM, acc);
            UNROLL_ALL
            for (int m = 0; m < ROWS; m++) {
                if (m >= valid)
                    break;
                UNROLL_ALL
                for (int v = 0; v < VECTORS; v++)
                    acc[m][v] = unfold(p, r, i + m, column + v * LANES, acc[m][v]);
                if (!paired) {
                    UNROLL_ALL
                    for (int v = 0; v < VECTORS; v++)
                        gate_store(p, t->at[i + m], gate + v * LANES, acc[m][v]);
                    continue;
                }
                UNROLL_ALL
                for (int v = 0; v < VECTORS / 2; v++)
                    operand_store(p, t, turn, pair / HIDDEN, i + m, pair % HIDDEN + v * LANES,
                                  acc[m][v] * p->mask[t->at[i + m]] *
                                      sigmoid(acc[m][v + VECTORS / 2]));
            }
        }
}
#endif

static void operands_run(void *ctx, int item)
{
    const struct plan *p = ctx;
    struct turn turn[BY_CHANNEL ? 1 : 0];
    struct rows r;
    struct tile t;

    tile_set(p, &t, item);
    for (int i = 0; i < t.n; i++)
        rows_set(p, &r, i, t.at[i]);
#if PAIRED
    operands_paired(p, &t, &r, turn);
#else
    operands_buffered(p, &t, &r, turn);
#endif
    if (BY_CHANNEL)
        turn_store(p, &t, turn);
}

/* ---- Second stage: the triangle product ---- */

/* Rows [i, i_end) by columns [j, j_end) of sequence b, to z[((i' - i) * width + j' - j) * HIDDEN +
 * channel]. */
struct area {
    int b, i, i_end, j, j_end;
    int64_t width;
    float *z;
};

INLINE int least(int a, int b)
{
    return a < b ? a : b;
}

#if BY_CHANNEL
/* LANES x TRI_J columns from j on of rows from i on, of one channel. */
INLINE void triangle_block(const struct plan *p, const struct area *a, int channel, int i, int j)
{
    int64_t base = ((int64_t)a->b * HIDDEN + channel) * p->plane;
    const float *right = p->right + base + j, *left[TRI_I];
    vf acc[TRI_I][TRI_J];

    UNROLL_ALL
    for (int y = 0; y < TRI_I; y++) {
        left[y] = p->left + base + least(i + y, a->i_end - 1);
        UNROLL_ALL
        for (int x = 0; x < TRI_J; x++)
            acc[y][x] = (vf){ 0 };
    }
    for (int64_t k = 0; k < p->n; k++) {
        vf r[TRI_J];

        UNROLL_ALL
        for (int x = 0; x < TRI_J; x++)
            r[x] = load_f(right + k * p->n + x * LANES);
        UNROLL_ALL
        for (int y = 0; y < TRI_I; y++) {
            vf l = splat(left[y][k * p->n]);

            UNROLL_ALL
            for (int x = 0; x < TRI_J; x++)
                acc[y][x] += l * r[x];
        }
    }
    for (int y = 0; y < TRI_I && i + y < a->i_end; y++) {
        float *z = a->z + ((i + y - a->i) * a->width + j - a->j) * HIDDEN + channel;
        float flat[TRI_J * LANES];

        memcpy(flat, acc[y], sizeof(flat));
        for (int x = 0; x < TRI_J * LANES && j + x < a->j_end; x++)
            z[(int64_t)x * HIDDEN] = flat[x];
    }
}

/* One block of LANES channels over the area. */
static void triangle_area(const struct plan *p, const struct area *a, int block)
{
    for (int channel = block * LANES; channel < (block + 1) * LANES; channel++)
        for (int i = a->i; i < a->i_end; i += TRI_I)
            for (int j = a->j; j < a->j_end; j += TRI_J * LANES)
                triangle_block(p, a, channel, i, j);
}
#else
INLINE void triangle_block(const struct plan *p, const struct area *a, int block, int i, int j)
{
    const int64_t step = operand_at(p, 0, 1, 0);
    const float *left[TRI_I], *right[TRI_J];
    vf acc[TRI_I][TRI_J];

    UNROLL_ALL
    for (int x = 0; x < TRI_J; x++)
        right[x] =
            p->right + operand_at(p, a->b, (int64_t)least(j + x, a->j_end - 1) * p->n, block);
    UNROLL_ALL
    for (int y = 0; y < TRI_I; y++) {
        left[y] = p->left + operand_at(p, a->b, (int64_t)least(i + y, a->i_end - 1) * p->n, block);
        UNROLL_ALL
        for (int x = 0; x < TRI_J; x++)
            acc[y][x] = (vf){ 0 };
    }
    for (int64_t k = 0; k < p->n; k++) {
        vf r[TRI_J];

        UNROLL_ALL
        for (int x = 0; x < TRI_J; x++)
            r[x] = load_f(right[x] + k * step);
        UNROLL_ALL
        for (int y = 0; y < TRI_I; y++) {
            vf l = load_f(left[y] + k * step);

            UNROLL_ALL
            for (int x = 0; x < TRI_J; x++)
                acc[y][x] += l * r[x];
        }
    }
    UNROLL_ALL
    for (int y = 0; y < TRI_I; y++)
        UNROLL_ALL
    for (int x = 0; x < TRI_J; x++)
        if (i + y < a->i_end && j + x < a->j_end)
            store_f(a->z + ((i + y - a->i) * a->width + j + x - a->j) * HIDDEN + block * LANES,
                    acc[y][x]);
}

static void triangle_area(const struct plan *p, const struct area *a, int block)
{
    for (int i = a->i; i < a->i_end; i += TRI_I)
        for (int j = a->j; j < a->j_end; j += TRI_J)
            triangle_block(p, a, block, i, j);
}
#endif

/* The item-th tile of TRI_I rows by TILE_J columns. */
INLINE struct area area_of_tile(const struct plan *p, int item)
{
    int down = (p->n + TRI_I - 1) / TRI_I, across = (p->n + TILE_J - 1) / TILE_J;
    int i = item / across % down * TRI_I, j = item % across * TILE_J;

    return (struct area){ .b = item / (across * down),
                          .i = i,
                          .i_end = least(i + TRI_I, p->n),
                          .j = j,
                          .j_end = least(j + TILE_J, p->n) };
}

static int triangle_tiles(const struct plan *p)
{
    return p->bs * ((p->n + TRI_I - 1) / TRI_I) * ((p->n + TILE_J - 1) / TILE_J);
}

static void triangle_run(void *ctx, int item)
{
    const struct plan *p = ctx;
    int64_t size = (int64_t)p->n * p->n;

    if (SPLIT == SPLIT_channels) {
        int b = item / BLOCKS;
        struct area a = { b, 0, p->n, 0, p->n, p->n, p->z + b * size * HIDDEN };

        triangle_area(p, &a, item % BLOCKS);
    } else {
        struct area a = area_of_tile(p, item);

        a.width = p->n;
        a.z = p->z + (a.b * size + (int64_t)a.i * p->n + a.j) * HIDDEN;
        for (int block = 0; block < BLOCKS; block++)
            triangle_area(p, &a, block);
    }
}

/* ---- Third stage: output ---- */

/* z: n rows of HIDDEN; at: their positions. */
static void output_rows(const struct plan *p, const float *const *z, const int64_t *at, int n)
{
    struct rows r;
    float *dst[TILE];
    float gates[STORED ? 1 : TILE * HIDDEN] __attribute__((aligned(LINE)));

    if (!STORED) {
        for (int t = 0; t < n; t++)
            rows_set(p, &r, t, at[t]);
        project_panels(p, &r, n, PROJECT_PANELS - GATE_PANELS, PROJECT_PANELS, gates, HIDDEN);
    }
    for (int t = 0; t < n; t++) {
        const float *g;
        float mean, scale;

        dst[t] = p->output + at[t] * DIM;
        g = STORED ? dst[t] : gates + t * HIDDEN;
        r.row[t] = r.memory + t * HIDDEN * ELEMENT;
        mean_and_scale(z[t], HIDDEN, &mean, &scale);
        for (int c = 0; c < HIDDEN; c += LANES) {
            vf y = (load_f(z[t] + c) - mean) * scale * load_f(p->out_norm_weight + c) +
                   load_f(p->out_norm_bias + c);
            vf gate = STORED ? load_f(g + c) : sigmoid(load_f(g + c));

            store_elements(r.memory + t * HIDDEN * ELEMENT, c, y * gate);
        }
    }
    project_out(p, &r, n, dst);
}

/* TILE positions whose z lies in memory. */
static void output_run(void *ctx, int item)
{
    const struct plan *p = ctx;
    int64_t positions = (int64_t)p->bs * p->n * p->n, first = (int64_t)item * TILE, at[TILE];
    const float *z[TILE];
    int n = positions - first < TILE ? (int)(positions - first) : TILE;

    for (int t = 0; t < n; t++) {
        at[t] = first + t;
        z[t] = p->z + at[t] * HIDDEN;
    }
    output_rows(p, z, at, n);
}

/* A tile of the triangle product and its outputs. */
static void fused_run(void *ctx, int item)
{
    const struct plan *p = ctx;
    struct area a = area_of_tile(p, item);
    float z[TILE * HIDDEN] __attribute__((aligned(LINE)));
    const float *row[TILE];
    int64_t at[TILE];
    int n = 0;

    a.width = TILE_J;
    a.z = z;
    for (int block = 0; block < BLOCKS; block++)
        triangle_area(p, &a, block);
    for (int i = a.i; i < a.i_end; i++)
        for (int j = a.j; j < a.j_end; j++) {
            row[n] = z + ((i - a.i) * TILE_J + j - a.j) * HIDDEN;
            at[n++] = ((int64_t)a.b * p->n + i) * p->n + j;
        }
    output_rows(p, row, at, n);
}

/* ---- The call ---- */

/* Takes `bytes` from the scratch, in whole lines. */
static void *take(char **at, size_t bytes)
{
    void *p = *at;

    *at += (bytes + LINE - 1) / LINE * LINE;
    return p;
}

/* Divides the scratch; returns how much of it is needed. */
static size_t plan_memory(struct plan *p, char *scratch)
{
    size_t positions = (size_t)p->bs * (size_t)p->n * (size_t)p->n;
    size_t operand = (size_t)p->bs * HIDDEN * (size_t)p->plane * sizeof(float);
    char *at = scratch;

    p->left = take(&at, operand);
    p->right = take(&at, operand);
    if (OUTPUT == OUTPUT_separate)
        p->z = take(&at, positions * HIDDEN * sizeof(float));
    if (NORM == NORM_separate)
        p->normed = take(&at, positions * DIM * ELEMENT);
    if (PACKED) {
        p->packed = take(&at, (size_t)COLUMNS * DIM * ELEMENT);
        p->packed_out = take(&at, (size_t)DIM * HIDDEN * ELEMENT);
    }
    if (FOLDED) {
        p->fold_sum = take(&at, COLUMNS * sizeof(float));
        p->fold_bias = take(&at, COLUMNS * sizeof(float));
    }
    return (size_t)(at - scratch);
}

static void plan_inputs(struct plan *p, const struct ks_call *call)
{
    const struct ks_tensor *in = call->inputs;

    *p = (struct plan){
        .x = in[0].data,
        .mask = in[1].data,
        .norm_weight = in[2].data,
        .norm_bias = in[3].data,
        .out_norm_weight = in[9].data,
        .out_norm_bias = in[10].data,
        .to_out = in[11].data,
        .output = call->outputs[0].data,
        .bs = (int)in[0].shape[0],
        .n = (int)in[0].shape[1],
    };
    for (int i = 0; i < PROJECTIONS; i++)
        p->projections[i] = in[4 + i].data;
    p->plane = (int64_t)p->n * p->n + PLANE_PAD;
}

int ks_kernel(const struct ks_call *call)
{
    struct plan p;
    int tiles;

    plan_inputs(&p, call);
    if (plan_memory(&p, call->scratch) > call->scratch_bytes)
        return 1;
    tiles = (int)(((int64_t)p.bs * p.n * p.n + TILE - 1) / TILE);
    if (PACKED)
        call->parallel(call->pool, pack_run, &p, PROJECT_PANELS + OUT_PANELS);
    if (NORM == NORM_separate)
        call->parallel(call->pool, normalise_run, &p, tiles);
    call->parallel(call->pool, operands_run, &p,
                   p.bs * (int)(((int64_t)p.n * p.n + TILE - 1) / TILE));
    if (OUTPUT == OUTPUT_fused) {
        call->parallel(call->pool, fused_run, &p, triangle_tiles(&p));
        return 0;
    }
    call->parallel(call->pool, triangle_run, &p,
                   SPLIT == SPLIT_channels ? p.bs * BLOCKS : triangle_tiles(&p));
    call->parallel(call->pool, output_run, &p, tiles);
    return 0;
}
