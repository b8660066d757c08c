/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted module of moe_fp8_block_scale: makes the inputs of a workload from a seed, computes the
 * routed experts in double precision, states what any correct kernel must read and compute, and
 * settles ties of the routing. The formula and the parameters of a workload stand in README.md.
 * Thread: any; the reference makes up to `threads - 1` threads and joins them before it returns.
 */
#include "ks_gen.h"

enum { IN_LOGITS, IN_BIAS, IN_X, IN_XS, IN_W13, IN_S13, IN_W2, IN_S2, IN_OFFSET, IN_FACTOR };
enum { IN_COUNT = 10, OUT_COUNT = 1 };
enum { QUANT = 128, EXPERTS_MAX = 1024, GROUPS_MAX = 64, TOPK_MAX = 32, CHOICES_MAX = 64 };
enum { TOKENS = 32 }; /* whose activations the reference holds at a time */

#define E4M3_NAN 0x7f
#define E4M3_LARGEST 448.0f
#define TIE 1e-6      /* relative distance below which two scores count as equal */
#define TIE_WIDE 4e-6 /* what generate takes for a possible tie */

/* The axes of one call. */
struct dims {
    int64_t tokens, experts, local, hidden, inter, top_k, groups, kept;
    int64_t hidden_blocks, inter_blocks;
};

static struct dims dims_of(const struct ks_problem *p)
{
    struct dims d = {
        .tokens = ks_problem_axis(p, "seq_len", 0),
        .experts = ks_problem_axis(p, "num_experts", 0),
        .local = ks_problem_axis(p, "num_local_experts", 0),
        .hidden = ks_problem_axis(p, "hidden_size", 0),
        .inter = ks_problem_axis(p, "intermediate_size", 0),
        .top_k = ks_problem_axis(p, "top_k", 0),
        .groups = ks_problem_axis(p, "n_group", 0),
        .kept = ks_problem_axis(p, "topk_group", 0),
    };

    d.hidden_blocks = d.hidden / QUANT;
    d.inter_blocks = d.inter / QUANT;
    return d;
}

static int axis_check(const struct ks_problem *p, const char *name, int64_t want, char *why,
                      size_t why_size)
{
    int64_t v = ks_problem_axis(p, name, want);

    if (v != want)
        return ks_fail(why, why_size, "%s is %lld, it must be %lld here", name, (long long)v,
                       (long long)want);
    return 0;
}

static int routing_check(const struct dims *d, char *why, size_t why_size)
{
    int64_t size;

    if (d->experts < 1 || d->experts > EXPERTS_MAX || d->local < 1 || d->local > d->experts)
        return ks_fail(why, why_size,
                       "num_experts is %lld and num_local_experts %lld; allowed are 1 to %d, and "
                       "no more local experts than there are",
                       (long long)d->experts, (long long)d->local, EXPERTS_MAX);
    if (d->groups < 1 || d->groups > GROUPS_MAX || d->experts % d->groups != 0 || d->kept < 1 ||
        d->kept > d->groups)
        return ks_fail(why, why_size,
                       "n_group is %lld and topk_group %lld; n_group must divide num_experts %lld "
                       "and be at most %d",
                       (long long)d->groups, (long long)d->kept, (long long)d->experts, GROUPS_MAX);
    size = d->experts / d->groups;
    if (size < 2 || d->top_k < 1 || d->top_k > TOPK_MAX || d->top_k > d->kept * size)
        return ks_fail(why, why_size,
                       "top_k is %lld of %lld kept groups of %lld experts; groups need two experts "
                       "and top_k is at most %d",
                       (long long)d->top_k, (long long)d->kept, (long long)size, TOPK_MAX);
    return 0;
}

static int dims_check(const struct ks_problem *p, const struct dims *d, char *why, size_t why_size)
{
    if (d->tokens < 1 || d->tokens > INT32_MAX)
        return ks_fail(why, why_size, "seq_len is %lld, it must be at least 1",
                       (long long)d->tokens);
    if (d->hidden < QUANT || d->hidden % QUANT != 0 || d->inter < QUANT || d->inter % QUANT != 0)
        return ks_fail(why, why_size,
                       "hidden_size is %lld and intermediate_size %lld; allowed are multiples of "
                       "%d",
                       (long long)d->hidden, (long long)d->inter, QUANT);
    if (routing_check(d, why, why_size) != 0 ||
        axis_check(p, "block_size", QUANT, why, why_size) != 0 ||
        axis_check(p, "gemm1_out_size", 2 * d->inter, why, why_size) != 0 ||
        axis_check(p, "num_hidden_blocks", d->hidden_blocks, why, why_size) != 0 ||
        axis_check(p, "num_intermediate_blocks", d->inter_blocks, why, why_size) != 0)
        return -1;
    return axis_check(p, "num_gemm1_out_blocks", 2 * d->inter_blocks, why, why_size);
}

/* ---- Routing ---- */

/* One token's scores, and the kept groups as bits. */
struct scores {
    ks_real s[EXPERTS_MAX], u[EXPERTS_MAX], group[GROUPS_MAX];
};

static void scores_of(const struct dims *d, const float *logits, const uint16_t *bias,
                      struct scores *r)
{
    int64_t size = d->experts / d->groups;

    for (int64_t e = 0; e < d->experts; e++) {
        r->s[e] = 1 / (1 + exp(-(ks_real)logits[e]));
        r->u[e] = r->s[e] + (ks_real)ks_bf16_to_f32(bias[e]);
    }
    for (int64_t g = 0; g < d->groups; g++) {
        const ks_real *u = r->u + g * size;
        ks_real first = u[0] > u[1] ? u[0] : u[1], second = u[0] > u[1] ? u[1] : u[0];

        for (int64_t i = 2; i < size; i++) {
            if (u[i] > first) {
                second = first;
                first = u[i];
            } else if (u[i] > second) {
                second = u[i];
            }
        }
        r->group[g] = first + second;
    }
}

/*
 * The k largest of the n values that `allowed` admits (NULL: all), the first of equals first.
 * Returns the k-th.
 */
static ks_real take_largest(const ks_real *x, int64_t n, const bool *allowed, int64_t k, int *out)
{
    bool taken[EXPERTS_MAX] = { false };
    ks_real last = 0;

    for (int64_t i = 0; i < k; i++) {
        int64_t best = -1;

        for (int64_t e = 0; e < n; e++)
            if (!taken[e] && (!allowed || allowed[e]) && (best < 0 || x[e] > x[best]))
                best = e;
        taken[best] = true;
        out[i] = (int)best;
        last = x[best];
    }
    return last;
}

/* Where the k-th place is shared: those certainly in, and those of whom `slots` get in. */
struct boundary {
    int sure[TOPK_MAX > GROUPS_MAX ? TOPK_MAX : GROUPS_MAX], tied[EXPERTS_MAX];
    int n_sure, n_tied, slots;
};

static void boundary_of(const ks_real *x, int64_t n, const bool *allowed, int64_t k, ks_real margin,
                        struct boundary *b)
{
    int chosen[EXPERTS_MAX];
    ks_real edge = take_largest(x, n, allowed, k, chosen);
    ks_real reach = margin * fabs(edge);

    b->n_sure = b->n_tied = 0;
    for (int64_t e = 0; e < n; e++) {
        if ((allowed && !allowed[e]) || x[e] < edge - reach)
            continue;
        if (x[e] > edge + reach)
            b->sure[b->n_sure++] = (int)e;
        else
            b->tied[b->n_tied++] = (int)e;
    }
    b->slots = (int)k - b->n_sure;
}

/* The sets of groups that may be kept, as bits. */
struct choices {
    uint64_t kept[CHOICES_MAX];
    int n;
    bool cut; /* there are more than fit */
};

static void choices_add(struct choices *c, const struct boundary *b, int from, int left,
                        uint64_t kept)
{
    if (left == 0) {
        if (c->n < CHOICES_MAX)
            c->kept[c->n++] = kept;
        else
            c->cut = true;
        return;
    }
    for (int i = from; i + left <= b->n_tied && !c->cut; i++)
        choices_add(c, b, i + 1, left - 1, kept | 1ull << b->tied[i]);
}

/* The first is what the reference takes. */
static void choices_of(const struct dims *d, const struct scores *r, ks_real margin,
                       struct choices *c)
{
    struct boundary b;
    int chosen[EXPERTS_MAX];
    uint64_t sure = 0, first = 0;

    boundary_of(r->group, d->groups, NULL, d->kept, margin, &b);
    take_largest(r->group, d->groups, NULL, d->kept, chosen);
    for (int i = 0; i < b.n_sure; i++)
        sure |= 1ull << b.sure[i];
    for (int i = 0; i < d->kept; i++)
        first |= 1ull << chosen[i];
    c->kept[0] = first;
    c->n = 1;
    c->cut = false;
    if (b.n_tied > b.slots)
        choices_add(c, &b, 0, b.slots, sure);
}

static void allow_groups(const struct dims *d, uint64_t kept, bool *allowed)
{
    int64_t size = d->experts / d->groups;

    for (int64_t e = 0; e < d->experts; e++)
        allowed[e] = kept >> (e / size) & 1;
}

/* The experts of one token: [top_k]. */
static void choose(const struct dims *d, const struct scores *r, int *chosen)
{
    bool allowed[EXPERTS_MAX];
    uint64_t kept = 0;
    int groups[EXPERTS_MAX];

    take_largest(r->group, d->groups, NULL, d->kept, groups);
    for (int i = 0; i < d->kept; i++)
        kept |= 1ull << groups[i];
    allow_groups(d, kept, allowed);
    take_largest(r->u, d->experts, allowed, d->top_k, chosen);
}

static ks_real chosen_sum(const struct dims *d, const struct scores *r, const int *chosen)
{
    ks_real sum = (ks_real)1e-20;

    for (int i = 0; i < d->top_k; i++)
        sum += r->s[chosen[i]];
    return sum;
}

/* Every expert that the token may get, whichever way ties fall, is set in `may`. */
static void mark_possible(const struct dims *d, const struct scores *r, ks_real margin, bool *may)
{
    struct choices c;
    struct boundary b;
    bool allowed[EXPERTS_MAX];

    choices_of(d, r, margin, &c);
    for (int i = 0; i < c.n; i++) {
        allow_groups(d, c.kept[i], allowed);
        boundary_of(r->u, d->experts, allowed, d->top_k, margin, &b);
        for (int k = 0; k < b.n_sure; k++)
            may[b.sure[k]] = true;
        for (int k = 0; k < b.n_tied; k++)
            may[b.tied[k]] = true;
    }
    for (int64_t e = 0; e < d->experts && c.cut; e++)
        may[e] = true;
}

/* ---- Inputs: routing ---- */

/* A logit as a DeepSeek router gives them, on the bf16 grid. */
static float captured_logit(uint64_t seed, uint64_t i)
{
    return ks_bf16_to_f32(ks_f32_to_bf16(-1.6706f + 0.656f * ks_normal(seed, i)));
}

struct local_range {
    int64_t first, end;
};

/* One token that takes local expert t and top_k - 1 others out of groups without local experts. */
static int fill_one_each(const struct dims *d, struct local_range local, int64_t t, float *logits,
                         char *why, size_t why_size)
{
    int64_t size = d->experts / d->groups, left = d->top_k - 1, group = 0;
    int64_t room = d->kept - 1;

    logits[local.first + t % (local.end - local.first)] = 20;
    for (int64_t g = 0; g < d->groups && room > 0 && left > 0; g++) {
        int64_t first = g * size, share = (left + room - 1) / room;

        if (first < local.end && local.first < first + size)
            continue;
        for (int64_t i = 0; i < size && share > 0; i++, share--, left--)
            logits[first + i] = 19;
        group++, room--;
    }
    if (left > 0)
        return ks_fail(why, why_size,
                       "params.routing is 'one_each': %lld groups without local experts cannot "
                       "hold the other %lld choices",
                       (long long)group, (long long)d->top_k - 1);
    return 0;
}

static int fill_logits(const struct ks_problem *p, const struct dims *d, struct local_range local,
                       uint64_t seed, float *logits, char *why, size_t why_size)
{
    const char *routing = ks_param_text(p, "routing", "captured");
    int64_t hot = local.first + (int64_t)ks_param_number(p, "hot_expert", 0);
    bool captured = strcmp(routing, "captured") == 0, normal = strcmp(routing, "normal") == 0;
    bool ties = strcmp(routing, "ties") == 0, extreme = strcmp(routing, "extreme") == 0;
    bool own = strcmp(routing, "local") == 0, none = strcmp(routing, "none") == 0;
    bool heat = strcmp(routing, "hot") == 0, each = strcmp(routing, "one_each") == 0;

    if (!captured && !normal && !ties && !extreme && !own && !none && !heat && !each)
        return ks_fail(why, why_size,
                       "params.routing is '%s', allowed are captured, extreme, hot, local, none, "
                       "normal, one_each and ties",
                       routing);
    if (heat && (hot < local.first || hot >= local.end))
        return ks_fail(why, why_size, "params.hot_expert is %lld, it must be a local expert",
                       (long long)(hot - local.first));
    for (int64_t t = 0; t < d->tokens; t++) {
        float *row = logits + t * d->experts;

        for (int64_t e = 0; e < d->experts; e++) {
            uint64_t at = (uint64_t)(t * d->experts + e);
            bool inside = e >= local.first && e < local.end;
            float x = normal ? ks_normal(seed, at) : captured_logit(seed, at);

            if (ties)
                x = 0.25f * rint(x * 4);
            if (extreme)
                x = ks_uniform(seed, at) < 0 ? -80.0f : 80.0f;
            x += own && inside ? 10.0f : none && inside ? -20.0f : heat && e == hot ? 20.0f : 0.0f;
            row[e] = x;
        }
        if (each && fill_one_each(d, local, t, row, why, why_size) != 0)
            return -1;
    }
    return 0;
}

/*
 * captured: two values, the larger at two experts in five. distinct: no two experts alike, so that
 * saturated logits tie nowhere: 256 steps of the bf16 grid between 0.5 and 2, or fewer with fewer
 * experts.
 */
static int fill_bias(const struct ks_problem *p, const struct dims *d, uint64_t seed,
                     uint16_t *bias, char *why, size_t why_size)
{
    const char *kind = ks_param_text(p, "bias", "captured");
    bool zero = strcmp(kind, "zero") == 0, distinct = strcmp(kind, "distinct") == 0;

    if (!zero && !distinct && strcmp(kind, "captured") != 0)
        return ks_fail(why, why_size,
                       "params.bias is '%s', allowed are captured, distinct and zero", kind);
    if (distinct && d->experts > 256)
        return ks_fail(why, why_size, "params.bias 'distinct' is for at most 256 experts");
    if (distinct) {
        int32_t order[256];

        ks_shuffle(order, d->experts, seed);
        for (int64_t e = 0; e < d->experts; e++)
            bias[e] = (uint16_t)(0x3f00 + order[e]); /* 0x3f00 is 0.5 */
        return 0;
    }
    for (int64_t e = 0; e < d->experts; e++)
        bias[e] =
            zero ? 0 : ks_f32_to_bf16(ks_uniform(seed, (uint64_t)e) < -0.21f ? 4.96875f : 4.9375f);
    return 0;
}

/* ---- Inputs: values ---- */

/* Where in the table of normal numbers element i is. */
static inline uint32_t normal_index(uint64_t z, uint64_t i)
{
    return (uint32_t)(z >> (16 * (i % 4)) & (KS_QUANTILES - 1));
}

/* ks_f32_to_e4m3 for numbers that are finite and at most 448, without branches. */
static inline uint8_t small_to_e4m3(float f)
{
    union {
        float f;
        uint32_t u;
    } v = { f }, low;
    uint32_t sign = v.u >> 24 & 0x80u, u = v.u & 0x7fffffffu;
    uint32_t normal = ((u + 0x7ffffu + (u >> 20 & 1u)) >> 20) - (120u << 3);

    v.u = u;
    low.f = v.f + 0x1p14f;
    return (uint8_t)(sign | (u < 0x3c800000u ? low.u & 0xfu : normal));
}

/* N(0,1) clamped to 2, cast. first: where the piece lies in its tensor, a multiple of 4. */
static void fill_codes_bench(uint8_t *out, int64_t n, uint64_t seed, uint64_t first)
{
    const float *table = ks_normal_table();

    for (int64_t i = 0; i < n; i += 4) {
        uint64_t z = ks_hash(seed, (first + (uint64_t)i) / 4);

        for (uint64_t k = 0; k < 4; k++) {
            float x = table[normal_index(z, k)];

            out[i + (int64_t)k] = small_to_e4m3(x > 2 ? 2 : x < -2 ? -2 : x);
        }
    }
}

/* rows x QUANT normal numbers, quantised by their largest; returns the scale for standard ones. */
static float fill_tile_honest(uint8_t *out, int64_t rows, int64_t stride, uint64_t seed,
                              uint64_t tile)
{
    const float *table = ks_normal_table();
    uint16_t index[QUANT * QUANT];
    uint64_t first = tile * (uint64_t)(rows * QUANT / 4);
    int32_t far = 0;
    float largest, inverse;

    for (int64_t i = 0; i < rows * QUANT / 4; i++) {
        uint64_t z = ks_hash(seed, first + (uint64_t)i);

        memcpy(index + 4 * i, &z, sizeof(z));
    }
    for (int64_t i = 0; i < rows * QUANT; i++) {
        int32_t from = 2 * (int32_t)index[i] - (KS_QUANTILES - 1);

        far = from > far ? from : -from > far ? -from : far;
    }
    largest = table[(far + KS_QUANTILES - 1) / 2];
    inverse = E4M3_LARGEST / largest;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < QUANT; c++)
            out[r * stride + c] = small_to_e4m3(table[index[r * QUANT + c]] * inverse);
    return largest / E4M3_LARGEST;
}

/* What the parameters say about values. */
struct values {
    bool bench, sparse;
    uint64_t seed;
};

static int values_of(const struct ks_problem *p, uint64_t seed, struct values *out, char *why,
                     size_t why_size)
{
    const char *mode = ks_param_text(p, "input_mode", "honest");
    const char *scales = ks_param_text(p, "scales", "plain");

    out->bench = strcmp(mode, "bench") == 0;
    out->sparse = strcmp(scales, "sparse") == 0;
    out->seed = seed;
    if (!out->bench && strcmp(mode, "honest") != 0)
        return ks_fail(why, why_size, "params.input_mode is '%s', allowed are bench and honest",
                       mode);
    if (!out->sparse && strcmp(scales, "plain") != 0)
        return ks_fail(why, why_size, "params.scales is '%s', allowed are plain and sparse",
                       scales);
    return 0;
}

/* A scale as it will stand in the tensor: of a sparse one a tenth is 0 and a tenth is 1e-8. */
static float scale_value(const struct values *v, uint64_t seed, uint64_t i, float scale)
{
    float u = ks_uniform(seed ^ 0x5ca1e, i);

    if (v->bench)
        scale = ks_normal(seed, i);
    if (v->sparse && u < -0.8f)
        return 0;
    return v->sparse && u < -0.6f ? 1e-8f : scale;
}

/* [rows][cols] of one expert's weights; rows and cols are multiples of QUANT. */
static void fill_weights(const struct values *v, uint64_t seed, int64_t expert, int64_t rows,
                         int64_t cols, uint8_t *codes, float *scales)
{
    float size = 1 / sqrt((float)cols); /* variance of a product of `cols` terms */
    int64_t row_blocks = rows / QUANT, col_blocks = cols / QUANT;

    if (v->bench)
        fill_codes_bench(codes, rows * cols, seed, (uint64_t)(expert * rows * cols));
    for (int64_t r = 0; r < row_blocks; r++)
        for (int64_t c = 0; c < col_blocks; c++) {
            uint64_t tile = (uint64_t)((expert * row_blocks + r) * col_blocks + c);
            float scale = 0;

            if (!v->bench)
                scale = size * fill_tile_honest(codes + r * QUANT * cols + c * QUANT, QUANT, cols,
                                                seed, tile);
            scales[r * col_blocks + c] = scale_value(v, seed + 1, tile, scale);
        }
}

static void fill_nan_f32(float *x, int64_t n, int64_t stride)
{
    for (int64_t i = 0; i < n; i++)
        x[i * stride] = NAN;
}

/* Activations of token t. scales: [hidden_blocks][tokens]. */
static void fill_token(const struct values *v, const struct dims *d, int64_t t, uint8_t *x,
                       float *scales)
{
    uint64_t seed = ks_hash(v->seed, 13);

    if (v->bench)
        fill_codes_bench(x + t * d->hidden, d->hidden, seed, (uint64_t)(t * d->hidden));
    for (int64_t b = 0; b < d->hidden_blocks; b++) {
        uint64_t tile = (uint64_t)(t * d->hidden_blocks + b);
        float scale = 0;

        if (!v->bench)
            scale = fill_tile_honest(x + t * d->hidden + b * QUANT, 1, d->hidden, seed, tile);
        scales[b * d->tokens + t] = scale_value(v, seed + 1, tile, scale);
    }
}

static void fill_expert(const struct values *v, const struct dims *d, int64_t e, bool used,
                        const struct ks_tensor *in)
{
    int64_t n13 = 2 * d->inter * d->hidden, n2 = d->hidden * d->inter;
    int64_t blocks = d->inter_blocks * d->hidden_blocks;
    uint8_t *w13 = (uint8_t *)in[IN_W13].data + e * n13, *w2 = (uint8_t *)in[IN_W2].data + e * n2;
    float *s13 = (float *)in[IN_S13].data + e * 2 * blocks;
    float *s2 = (float *)in[IN_S2].data + e * blocks;

    if (!used) {
        memset(w13, E4M3_NAN, (size_t)n13);
        memset(w2, E4M3_NAN, (size_t)n2);
        fill_nan_f32(s13, 2 * blocks, 1);
        fill_nan_f32(s2, blocks, 1);
        return;
    }
    fill_weights(v, ks_hash(v->seed, 15), e, 2 * d->inter, d->hidden, w13, s13);
    fill_weights(v, ks_hash(v->seed, 17), e, d->hidden, d->inter, w2, s2);
}

/* Tokens without a local expert and experts without a token hold NaN. */
static int fill_values(const struct values *v, const struct dims *d, struct local_range local,
                       const struct ks_tensor *in)
{
    struct scores *r = malloc(sizeof(*r));
    bool used[EXPERTS_MAX] = { false };

    if (!r)
        return -1;
    for (int64_t t = 0; t < d->tokens; t++) {
        bool may[EXPERTS_MAX] = { false }, here = false;

        scores_of(d, (const float *)in[IN_LOGITS].data + t * d->experts, in[IN_BIAS].data, r);
        mark_possible(d, r, TIE_WIDE, may);
        for (int64_t e = local.first; e < local.end; e++) {
            here |= may[e];
            used[e] |= may[e];
        }
        if (here) {
            fill_token(v, d, t, in[IN_X].data, in[IN_XS].data);
            continue;
        }
        memset((uint8_t *)in[IN_X].data + t * d->hidden, E4M3_NAN, (size_t)d->hidden);
        fill_nan_f32((float *)in[IN_XS].data + t, d->hidden_blocks, d->tokens);
    }
    for (int64_t l = 0; l < d->local; l++)
        fill_expert(v, d, l, local.first + l < local.end && used[local.first + l], in);
    free(r);
    return 0;
}

static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size)
{
    struct dims d = dims_of(p);
    struct local_range local;
    struct values values;
    double offset = ks_param_number(p, "local_expert_offset", 0);

    if (n_inputs != IN_COUNT)
        return ks_fail(why, why_size, "%d inputs were given, %d are needed", n_inputs, IN_COUNT);
    if (dims_check(p, &d, why, why_size) != 0 || values_of(p, seed, &values, why, why_size) != 0)
        return -1;
    if (!(offset >= 0 && offset < (double)d.experts) || offset != floor(offset))
        return ks_fail(why, why_size,
                       "params.local_expert_offset is %g, allowed are 0 to num_experts - 1",
                       offset);
    local.first = (int64_t)offset;
    local.end = local.first + d.local < d.experts ? local.first + d.local : d.experts;
    if (fill_logits(p, &d, local, ks_hash(seed, 11), inputs[IN_LOGITS].data, why, why_size) != 0 ||
        fill_bias(p, &d, ks_hash(seed, 12), inputs[IN_BIAS].data, why, why_size) != 0)
        return -1;
    *(int32_t *)inputs[IN_OFFSET].data = (int32_t)offset;
    *(float *)inputs[IN_FACTOR].data = (float)ks_param_number(p, "routed_scaling_factor", 2.5);
    if (fill_values(&values, &d, local, inputs) != 0)
        return ks_fail(why, why_size, "out of memory");
    return 0;
}

/* ---- Weights and activations as numbers ---- */

/* The inputs of a call, by name. */
struct call {
    struct dims d;
    const float *logits, *xs, *s13, *s2;
    const uint16_t *bias;
    const uint8_t *x, *w13, *w2;
    int64_t offset;
    ks_real factor;
    float decode[256];
};

static void call_init(struct call *c, const struct ks_problem *p, const struct ks_tensor *in)
{
    c->d = dims_of(p);
    c->logits = in[IN_LOGITS].data;
    c->bias = in[IN_BIAS].data;
    c->x = in[IN_X].data;
    c->xs = in[IN_XS].data;
    c->w13 = in[IN_W13].data;
    c->s13 = in[IN_S13].data;
    c->w2 = in[IN_W2].data;
    c->s2 = in[IN_S2].data;
    c->offset = *(const int32_t *)in[IN_OFFSET].data;
    c->factor = (ks_real) * (const float *)in[IN_FACTOR].data;
    for (int i = 0; i < 256; i++)
        c->decode[i] = ks_e4m3_to_f32((uint8_t)i);
}

/* n codes with one scale for each QUANT of them, `step` apart. */
static void dequantise(const struct call *c, const uint8_t *codes, int64_t n, const float *scales,
                       int64_t step, ks_real *out)
{
    for (int64_t b = 0; b < n / QUANT; b++) {
        ks_real scale = (ks_real)scales[b * step];

        for (int64_t i = b * QUANT; i < (b + 1) * QUANT; i++)
            out[i] = (ks_real)c->decode[codes[i]] * scale;
    }
}

static void token_row(const struct call *c, int64_t t, ks_real *out)
{
    dequantise(c, c->x + t * c->d.hidden, c->d.hidden, c->xs + t, c->d.tokens, out);
}

/* Row r of local expert l's first matrix. */
static void w13_row(const struct call *c, int64_t l, int64_t r, ks_real *out)
{
    const struct dims *d = &c->d;

    dequantise(c, c->w13 + (l * 2 * d->inter + r) * d->hidden, d->hidden,
               c->s13 + (l * 2 * d->inter_blocks + r / QUANT) * d->hidden_blocks, 1, out);
}

static void w2_row(const struct call *c, int64_t l, int64_t r, ks_real *out)
{
    const struct dims *d = &c->d;

    dequantise(c, c->w2 + (l * d->hidden + r) * d->inter, d->inter,
               c->s2 + (l * d->hidden_blocks + r / QUANT) * d->inter_blocks, 1, out);
}

/* Eight sums, so that the compiler may use vectors without changing what is computed. */
static ks_real dot(const ks_real *a, const ks_real *b, int64_t n)
{
    ks_real s[8] = { 0 }, sum = 0;

    for (int64_t i = 0; i < n; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] += a[i + k] * b[i + k];
    for (int k = 0; k < 8; k++)
        sum += s[k];
    return sum;
}

static ks_real silu(ks_real x)
{
    return x / (1 + exp(-x));
}

/* ---- Reference ---- */

/* A token that chose a local expert. */
struct assignment {
    int32_t token;
    ks_real weight;
};

/* Those of local expert l are [first[l], first[l + 1]), in order of tokens. */
struct reference {
    struct call c;
    struct assignment *list;
    int64_t *first;
    ks_real *gated; /* [assignments][inter], weight included */
    double *output;
};

static void reference_release(struct reference *r)
{
    free(r->list);
    free(r->first);
    free(r->gated);
}

/* Routes all tokens: calls back for every assignment, tokens in order. */
static int for_assignments(const struct call *c,
                           void (*fn)(void *ctx, int64_t t, int64_t l, ks_real weight), void *ctx)
{
    const struct dims *d = &c->d;
    struct scores *s = malloc(sizeof(*s));
    int chosen[TOPK_MAX];

    if (!s)
        return -1;
    for (int64_t t = 0; t < d->tokens; t++) {
        ks_real sum;

        scores_of(d, c->logits + t * d->experts, c->bias, s);
        choose(d, s, chosen);
        sum = chosen_sum(d, s, chosen);
        for (int i = 0; i < d->top_k; i++) {
            int64_t l = chosen[i] - c->offset;

            if (l >= 0 && l < d->local)
                fn(ctx, t, l, s->s[chosen[i]] / sum * c->factor);
        }
    }
    free(s);
    return 0;
}

static void count_assignment(void *ctx, int64_t t, int64_t l, ks_real weight)
{
    struct reference *r = ctx;

    (void)t, (void)weight;
    r->first[l + 1]++;
}

static void list_assignment(void *ctx, int64_t t, int64_t l, ks_real weight)
{
    struct reference *r = ctx;

    r->list[r->first[l]++] = (struct assignment){ (int32_t)t, weight };
}

static int reference_route(struct reference *r)
{
    int64_t local = r->c.d.local, n;

    r->first = calloc((size_t)local + 1, sizeof(*r->first));
    if (!r->first || for_assignments(&r->c, count_assignment, r) != 0)
        return -1;
    for (int64_t l = 0; l < local; l++)
        r->first[l + 1] += r->first[l];
    n = r->first[local];
    r->list = malloc(((size_t)n + 1) * sizeof(*r->list));
    r->gated = malloc(((size_t)(n * r->c.d.inter) + 1) * sizeof(*r->gated));
    if (!r->list || !r->gated || for_assignments(&r->c, list_assignment, r) != 0)
        return -1;
    for (int64_t l = local; l > 0; l--) /* listing moved each start to its end */
        r->first[l] = r->first[l - 1];
    r->first[0] = 0;
    return 0;
}

/* One local expert, QUANT columns of its gated activations, up to TOKENS tokens at a time. */
static int gate_item(void *ctx, int64_t item)
{
    struct reference *r = ctx;
    const struct dims *d = &r->c.d;
    int64_t l = item / d->inter_blocks, from = item % d->inter_blocks * QUANT;
    ks_real *x, *up, *gate;

    if (r->first[l] == r->first[l + 1])
        return 0;
    x = malloc(sizeof(*x) * (size_t)((TOKENS + 2) * d->hidden));
    if (!x)
        return -1;
    up = x + TOKENS * d->hidden;
    gate = up + d->hidden;
    for (int64_t i = r->first[l]; i < r->first[l + 1]; i += TOKENS) {
        int64_t n = r->first[l + 1] - i < TOKENS ? r->first[l + 1] - i : TOKENS;

        for (int64_t k = 0; k < n; k++)
            token_row(&r->c, r->list[i + k].token, x + k * d->hidden);
        for (int64_t j = from; j < from + QUANT; j++) {
            w13_row(&r->c, l, j, up);
            w13_row(&r->c, l, d->inter + j, gate);
            for (int64_t k = 0; k < n; k++)
                r->gated[(i + k) * d->inter + j] = r->list[i + k].weight *
                                                   silu(dot(x + k * d->hidden, gate, d->hidden)) *
                                                   dot(x + k * d->hidden, up, d->hidden);
        }
    }
    free(x);
    return 0;
}

/* QUANT columns of the output, all experts. */
static int output_item(void *ctx, int64_t item)
{
    struct reference *r = ctx;
    const struct dims *d = &r->c.d;
    ks_real *row = malloc(sizeof(*row) * (size_t)(d->inter + d->tokens));
    ks_real *sum = row ? row + d->inter : NULL;

    if (!row)
        return -1;
    for (int64_t c = item * QUANT; c < (item + 1) * QUANT; c++) {
        for (int64_t t = 0; t < d->tokens; t++)
            sum[t] = 0;
        for (int64_t l = 0; l < d->local; l++) {
            if (r->first[l] == r->first[l + 1])
                continue;
            w2_row(&r->c, l, c, row);
            for (int64_t i = r->first[l]; i < r->first[l + 1]; i++)
                sum[r->list[i].token] += dot(r->gated + i * d->inter, row, d->inter);
        }
        for (int64_t t = 0; t < d->tokens; t++)
            r->output[t * d->hidden + c] = (double)sum[t];
    }
    free(row);
    return 0;
}

static int reference(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size)
{
    struct reference r = { .output = expected[0] };
    struct dims d = dims_of(p);
    int rc;

    if (n_inputs != IN_COUNT || n_outputs != OUT_COUNT)
        return ks_fail(why, why_size, "%d inputs and %d outputs were given, %d and %d are needed",
                       n_inputs, n_outputs, IN_COUNT, OUT_COUNT);
    if (dims_check(p, &d, why, why_size) != 0)
        return -1;
    call_init(&r.c, p, inputs);
    rc = reference_route(&r);
    if (rc == 0)
        rc = ks_for_items(threads, d.local * d.inter_blocks, gate_item, &r);
    if (rc == 0)
        rc = ks_for_items(threads, d.hidden_blocks, output_item, &r);
    reference_release(&r);
    return rc == 0 ? 0 : ks_fail(why, why_size, "the reference ran out of memory");
}

/* ---- Ties ---- */

/*
 * What is needed to judge how far a selection's row is from a kernel's: the rows of the local
 * experts that may be chosen, and their products with each other and with the kernel's row.
 */
struct suit {
    const struct call *c;
    const struct scores *s;
    int64_t t;
    int n; /* experts below */
    int expert[TOPK_MAX * 8];
    int place[EXPERTS_MAX]; /* of an expert in the list, -1 when it is not there */
    ks_real *rows;          /* [n][hidden] */
    ks_real *with_got;      /* [n] */
    ks_real *products;      /* [n][n] */
};

enum { SUIT_MAX = TOPK_MAX * 8 };

static void suit_release(struct suit *u)
{
    free(u->rows);
    free(u->with_got);
    free(u->products);
}

/* The unweighted result of local expert l for token t. work: [2 hidden + inter]. */
static void expert_row(const struct call *c, int64_t t, int64_t l, ks_real *work, ks_real *out)
{
    const struct dims *d = &c->d;
    ks_real *x = work, *w = x + d->hidden,
            *gated = w + (d->hidden > d->inter ? d->hidden : d->inter);

    token_row(c, t, x);
    for (int64_t j = 0; j < d->inter; j++) {
        w13_row(c, l, j, w);
        gated[j] = dot(x, w, d->hidden);
        w13_row(c, l, d->inter + j, w);
        gated[j] *= silu(dot(x, w, d->hidden));
    }
    for (int64_t i = 0; i < d->hidden; i++) {
        w2_row(c, l, i, w);
        out[i] = dot(gated, w, d->inter);
    }
}

/* got: [hidden] as numbers. -1 when memory is out. */
static int suit_prepare(struct suit *u, const ks_real *got)
{
    const struct dims *d = &u->c->d;
    size_t n = (size_t)u->n, wide = (size_t)(d->hidden > d->inter ? d->hidden : d->inter);
    ks_real *work = malloc(sizeof(*work) * ((size_t)(d->hidden + d->inter) + wide));
    int rc = -1;

    u->rows = malloc(sizeof(ks_real) * (n + 1) * (size_t)d->hidden);
    u->with_got = malloc(sizeof(ks_real) * (n + 1));
    u->products = malloc(sizeof(ks_real) * (n * n + 1));
    if (work && u->rows && u->with_got && u->products) {
        for (int i = 0; i < u->n; i++) {
            ks_real *row = u->rows + i * d->hidden;

            expert_row(u->c, u->t, u->expert[i] - u->c->offset, work, row);
            u->with_got[i] = dot(row, got, d->hidden);
            for (int k = 0; k <= i; k++)
                u->products[i * u->n + k] = u->products[k * u->n + i] =
                    dot(row, u->rows + k * d->hidden, d->hidden);
        }
        rc = 0;
    }
    free(work);
    return rc;
}

/* Squared distance of the selection's row from the kernel's, less what all have in common. */
static ks_real suit_distance(const struct suit *u, const int *chosen)
{
    const struct dims *d = &u->c->d;
    ks_real scale = u->c->factor / chosen_sum(d, u->s, chosen), sum = 0;

    for (int i = 0; i < d->top_k; i++) {
        int a = u->place[chosen[i]];
        ks_real inner = 0;

        if (a < 0)
            continue;
        for (int k = 0; k < d->top_k; k++) {
            int b = u->place[chosen[k]];

            if (b >= 0)
                inner += scale * u->s->s[chosen[k]] * u->products[a * u->n + b];
        }
        sum += scale * u->s->s[chosen[i]] * (inner - 2 * u->with_got[a]);
    }
    return sum;
}

/*
 * The best of all exchanges of a tied expert in the selection for one outside, as long as there is
 * a better one. Rows of different experts are nearly orthogonal, so steps of one lead to the
 * nearest; whatever it ends with is a right selection.
 */
static ks_real suit_improve(const struct suit *u, const struct boundary *b, int *chosen)
{
    const struct dims *d = &u->c->d;
    ks_real best = suit_distance(u, chosen);

    for (int round = 0; round < 2 * TOPK_MAX; round++) {
        int place = -1, expert = 0;

        for (int i = b->n_sure; i < d->top_k; i++)
            for (int k = 0; k < b->n_tied; k++) {
                int before = chosen[i];
                bool inside = false;
                ks_real x;

                for (int m = b->n_sure; m < d->top_k; m++)
                    inside |= chosen[m] == b->tied[k];
                if (inside)
                    continue;
                chosen[i] = b->tied[k];
                x = suit_distance(u, chosen);
                chosen[i] = before;
                if (x < best) {
                    best = x;
                    place = i;
                    expert = b->tied[k];
                }
            }
        if (place < 0)
            break;
        chosen[place] = expert;
    }
    return best;
}

/* The nearest right selection, over all choices of groups. */
static void suit_search(const struct suit *u, const struct choices *groups, int *chosen)
{
    const struct dims *d = &u->c->d;
    ks_real nearest = suit_distance(u, chosen);

    for (int i = 0; i < groups->n; i++) {
        bool allowed[EXPERTS_MAX];
        struct boundary b;
        int at[TOPK_MAX];
        ks_real x;

        allow_groups(d, groups->kept[i], allowed);
        boundary_of(u->s->u, d->experts, allowed, d->top_k, (ks_real)TIE, &b);
        memcpy(at, b.sure, sizeof(*at) * (size_t)b.n_sure);
        memcpy(at + b.n_sure, b.tied, sizeof(*at) * (size_t)b.slots);
        x = suit_improve(u, &b, at);
        if (x < nearest - (ks_real)1e-9 * fabs(nearest)) { /* more than another order of sums */
            nearest = x;
            memcpy(chosen, at, sizeof(*at) * (size_t)d->top_k);
        }
    }
}

/* The local experts among those that the token may get; false when they are always the same. */
static bool suit_list(struct suit *u, const struct choices *groups)
{
    const struct dims *d = &u->c->d;
    bool may[EXPERTS_MAX] = { false }, open = groups->n > 1;
    bool allowed[EXPERTS_MAX];
    struct boundary b;

    for (int i = 0; i < groups->n; i++) {
        allow_groups(d, groups->kept[i], allowed);
        boundary_of(u->s->u, d->experts, allowed, d->top_k, (ks_real)TIE, &b);
        open |= b.n_tied > b.slots;
        for (int k = 0; k < b.n_sure; k++)
            may[b.sure[k]] = true;
        for (int k = 0; k < b.n_tied; k++)
            may[b.tied[k]] = true;
    }
    u->n = 0;
    for (int64_t e = 0; e < d->experts; e++) {
        int64_t l = e - u->c->offset;

        u->place[e] = -1;
        if (may[e] && l >= 0 && l < d->local && u->n < SUIT_MAX) {
            u->place[e] = u->n;
            u->expert[u->n++] = (int)e;
        }
    }
    return open && u->n > 0;
}

/* expected: [hidden], the token's row, replaced when another selection is nearer to `got`. */
static int settle_token(const struct call *c, const struct scores *s, int64_t t, const ks_real *got,
                        double *expected)
{
    struct suit *u = calloc(1, sizeof(*u));
    const struct dims *d = &c->d;
    struct choices groups;
    int chosen[TOPK_MAX], first[TOPK_MAX], rc = 0;

    if (!u)
        return -1;
    u->c = c;
    u->s = s;
    u->t = t;
    choices_of(d, s, (ks_real)TIE, &groups);
    if (suit_list(u, &groups)) {
        choose(d, s, chosen);
        memcpy(first, chosen, sizeof(first));
        rc = suit_prepare(u, got);
        if (rc == 0)
            suit_search(u, &groups, chosen);
        if (rc == 0 && memcmp(first, chosen, sizeof(*first) * (size_t)d->top_k) != 0) {
            ks_real scale = c->factor / chosen_sum(d, s, chosen);

            for (int64_t i = 0; i < d->hidden; i++) {
                ks_real x = 0;

                for (int k = 0; k < d->top_k; k++)
                    if (u->place[chosen[k]] >= 0)
                        x += scale * s->s[chosen[k]] * u->rows[u->place[chosen[k]] * d->hidden + i];
                expected[i] = (double)x;
            }
        }
    }
    suit_release(u);
    free(u);
    return rc;
}

static bool row_is_finite(const uint16_t *row, int64_t n)
{
    bool finite = true;

    for (int64_t i = 0; i < n; i++)
        finite &= (row[i] & 0x7f80) != 0x7f80;
    return finite;
}

/* The cost is a few experts' rows per tied token: the reference's for a call of that size. */
static int settle(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                  const struct ks_tensor *got, double *const *expected, int n_outputs, char *why,
                  size_t why_size)
{
    const uint16_t *rows = got[0].data;
    struct call *c = malloc(sizeof(*c));
    struct scores *s = malloc(sizeof(*s));
    struct dims d = dims_of(p);
    ks_real *row = malloc(sizeof(*row) * (size_t)(d.hidden + 1));
    int rc = c && s && row && n_inputs == IN_COUNT && n_outputs == OUT_COUNT ? 0 : -1;

    if (rc == 0)
        call_init(c, p, inputs);
    for (int64_t t = 0; rc == 0 && t < d.tokens; t++) {
        if (!row_is_finite(rows + t * d.hidden, d.hidden))
            continue;
        scores_of(&d, c->logits + t * d.experts, c->bias, s);
        for (int64_t i = 0; i < d.hidden; i++)
            row[i] = (ks_real)ks_bf16_to_f32(rows[t * d.hidden + i]);
        rc = settle_token(c, s, t, row, expected[0] + t * d.hidden);
    }
    free(row);
    free(s);
    free(c);
    return rc == 0 ? 0 : ks_fail(why, why_size, "there was no memory to settle ties");
}

/* ---- Cost ---- */

struct tally {
    int64_t assignments, tokens, last;
    bool used[EXPERTS_MAX];
};

static void tally_assignment(void *ctx, int64_t t, int64_t l, ks_real weight)
{
    struct tally *y = ctx;

    (void)weight;
    y->assignments++;
    y->tokens += t != y->last;
    y->last = t;
    y->used[l] = true;
}

static void cost(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out)
{
    struct tally y = { .last = -1 };
    struct call c;
    const struct dims *d = &c.d;
    double active = 0, blocks;

    if (n_inputs != IN_COUNT)
        return;
    call_init(&c, p, inputs);
    if (for_assignments(&c, tally_assignment, &y) != 0)
        return;
    for (int64_t l = 0; l < d->local; l++)
        active += y.used[l];
    blocks = 3.0 * (double)(d->inter_blocks * d->hidden_blocks);
    out->flops = 6.0 * (double)(d->hidden * d->inter) * (double)y.assignments;
    out->bytes = active * (3.0 * (double)(d->hidden * d->inter) + 4.0 * blocks) +
                 (double)(y.tokens * (d->hidden + 4 * d->hidden_blocks)) +
                 (double)(d->tokens * (4 * d->experts + 2 * d->hidden)) + 2.0 * (double)d->experts +
                 8.0;
}

static const struct ks_task_module module = { .abi = KS_ABI_VERSION,
                                              .generate = generate,
                                              .reference = reference,
                                              .cost = cost,
                                              .settle = settle,
                                              .real_bytes = sizeof(ks_real) };

const struct ks_task_module *ks_task_module(void)
{
    return &module;
}
