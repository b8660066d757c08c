/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The task ABI: what a task's module (trusted: inputs, reference) and a candidate (hostile: the
 * kernel) look like to ksearch-eval. Plain C, no dependency; both are built at run time as shared
 * objects.
 *
 * Two parties, two processes. The judge loads the task's module, makes inputs, computes the
 * reference in double precision and keeps time; it never maps candidate code. The runner, confined,
 * loads the candidate, and sees nothing but the buffers of the present call.
 *
 * Tensors are row-major and contiguous, the last axis fastest; data starts at a multiple of 64
 * bytes, at an address that changes from call to call. Memory belongs to the harness throughout.
 */
#ifndef KS_TASK_H
#define KS_TASK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KS_ABI_VERSION 1
#define KS_RANK_MAX 6
#define KS_TENSORS_MAX 24

enum ks_dtype {
    KS_F32,     /* IEEE binary32 */
    KS_F64,     /* IEEE binary64 */
    KS_F16,     /* IEEE binary16, as its 16 bits */
    KS_BF16,    /* upper half of a binary32, as its 16 bits */
    KS_F8_E4M3, /* float8_e4m3fn: no infinities, largest 448, as its 8 bits */
    KS_I32,
    KS_I64,
    KS_U8,
    KS_DTYPE_COUNT
};

/* One tensor of a call: shape[0..rank-1] in elements. A scalar input has rank 0 and one element. */
struct ks_tensor {
    const char *name; /* as in the definition */
    enum ks_dtype dtype;
    int rank;
    int64_t shape[KS_RANK_MAX];
    void *data;
};

/* Value of one axis, constants included, by the definition's name. */
struct ks_axis {
    const char *name;
    int64_t value;
};

/*
 * One call of a kernel. Inputs must not be written; every element of every output must be (outputs
 * are filled with NaN bytes before each call, and guard bytes lie around every buffer).
 *
 * threads: how many the call may use, itself included. parallel runs fn(ctx, i) for all i in [0, n)
 * on those threads and returns when the last has ended; it must be called from the thread that runs
 * ks_kernel, and not from inside fn. A kernel may make threads of its own; they must have ended,
 * and all work must be done, when ks_kernel returns.
 *
 * scratch: scratch_bytes of 64-byte aligned memory that is not kept from call to call (as much as
 * the definition's "scratch_bytes" asks for; the contents are undefined on entry).
 */
struct ks_call {
    uint32_t abi; /* KS_ABI_VERSION */
    int n_inputs, n_outputs, n_axes;
    const struct ks_tensor *inputs;  /* in the definition's order */
    const struct ks_tensor *outputs; /* in the definition's order */
    const struct ks_axis *axes;
    int threads;
    void (*parallel)(void *pool, void (*fn)(void *ctx, int i), void *ctx, int n);
    void *pool;
    void *scratch;
    size_t scratch_bytes;
};

/*
 * The candidate: the one symbol that a candidate source must define. Returns 0, or another number
 * when it cannot do the call (the evaluation then fails with class "refused_call").
 *
 * Macros that the build defines: KS_<AXIS> for each constant axis of the definition (upper case: an
 * axis num_kv_heads gives KS_NUM_KV_HEADS), and for each tunable its name with the assigned value.
 * An enumerated tunable named MODE with values a and b is passed as the index of its value,
 * together with MODE_a=0 and MODE_b=1, so that a source can say `#if MODE == MODE_b`.
 */
int ks_kernel(const struct ks_call *call);

/*
 * ---- The task's module (trusted; built from the pack's "module" source into the judge) ----
 */

/* A parameter of a workload: its numbers, or its text. Numbers are given as integers where exact.
 */
struct ks_param {
    const char *name;
    const char *text; /* NULL unless the parameter is a string */
    const double *values;
    size_t n;
};

/* A workload as the module sees it. axes hold constants and variables. */
struct ks_problem {
    const char *definition;
    int n_axes, n_params;
    const struct ks_axis *axes;
    const struct ks_param *params;
};

/* Bytes and operations that any correct kernel must spend on this very input; for the roofline. */
struct ks_cost {
    double flops; /* a multiply-add counts as 2 */
    double
        bytes; /* compulsory traffic: each input read once where needed, each output written once */
};

struct ks_task_module {
    uint32_t abi; /* KS_ABI_VERSION */
    /*
     * Fills the inputs from the seed: equal (problem, seed) give equal bytes. Memory that the
     * definition leaves unreferenced (unused pages) is filled with NaN. Returns 0, or -1 with a
     * sentence in `why`.
     */
    int (*generate)(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *inputs,
                    int n_inputs, char *why, size_t why_size);
    /*
     * The reference: expected[i] points to one double per element of output i. Accumulates in
     * double precision. Must use at most `threads` threads. Returns 0 or -1 with a sentence.
     */
    int (*reference)(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                     double *const *expected, int n_outputs, int threads, char *why,
                     size_t why_size);
    /* The cost of this input. */
    void (*cost)(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                 struct ks_cost *out);
    /*
     * Where more than one answer is right (ties in a top-k): puts into `expected`, which holds what
     * `reference` gave for these inputs, the right answer that is nearest to `got`, the outputs of
     * a kernel. Every other row stays as it is. Returns 0 or -1 with a sentence. NULL where the
     * answer is unique.
     */
    int (*settle)(const struct ks_problem *p, const struct ks_tensor *inputs, int n_inputs,
                  const struct ks_tensor *got, double *const *expected, int n_outputs, char *why,
                  size_t why_size);
    /*
     * sizeof(ks_real) when the reference computes in ks_real (ks_gen.h), so that `task check` can
     * build it once more in a wider type and compare; 0 when it is fixed to double.
     */
    size_t real_bytes;
};

/* The one symbol that a module must define; the returned table lives as long as the module. */
const struct ks_task_module *ks_task_module(void);

/* ---- Small helpers for both sides ---- */

static inline int64_t ks_axis_value(const struct ks_axis *axes, int n, const char *name,
                                    int64_t fallback)
{
    for (int i = 0; i < n; i++) {
        const char *a = axes[i].name, *b = name;

        while (*a && *a == *b)
            a++, b++;
        if (*a == *b)
            return axes[i].value;
    }
    return fallback;
}

static inline const struct ks_param *ks_param_find(const struct ks_problem *p, const char *name)
{
    for (int i = 0; i < p->n_params; i++) {
        const char *a = p->params[i].name, *b = name;

        while (*a && *a == *b)
            a++, b++;
        if (*a == *b)
            return &p->params[i];
    }
    return 0;
}

/* bfloat16 and binary32: exact up, round to nearest even down (NaN stays NaN). */
static inline float ks_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = { (uint32_t)h << 16 };
    return v.f;
}

static inline uint16_t ks_f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = { f };
    if ((v.u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((v.u >> 16) | 0x40);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

/* float8_e4m3fn: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, 0x7f is NaN. */
static inline float ks_e4m3_to_f32(uint8_t b)
{
    uint32_t e = b >> 3 & 15u, m = b & 7u;
    union {
        uint32_t u;
        float f;
    } v;

    if (e == 15u && m == 7u)
        v.u = 0x7fc00000u;
    else if (e > 0)
        v.u = (e + 120u) << 23 | m << 20;
    else
        v.f = (float)m * 0x1p-9f;
    v.u |= (uint32_t)(b & 0x80u) << 24;
    return v.f;
}

/* Round to nearest even; beyond 448 saturates, NaN stays NaN. */
static inline uint8_t ks_f32_to_e4m3(float f)
{
    union {
        float f;
        uint32_t u;
    } v = { f };
    uint8_t sign = (uint8_t)(v.u >> 24 & 0x80u);
    uint32_t u = v.u & 0x7fffffffu;

    if (u > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (u >= 0x43e80000u) /* 464, half-way from 448 to what would come next */
        return (uint8_t)(sign | 0x7eu);
    if (u < 0x3c800000u) { /* below 2^-6: subnormal, in units of 2^-9 */
        v.u = u;
        v.f += 0x1p14f; /* whose last bit is worth 2^-9: the addition rounds */
        return (uint8_t)(sign | (v.u & 0xfu));
    }
    u += 0x7ffffu + (u >> 20 & 1u);
    u = (u >> 20) - (120u << 3);
    return (uint8_t)(sign | (u > 0x7eu ? 0x7eu : u));
}

/*
 * Counter-based random numbers for input generators (SplitMix64 finaliser): uniform in [-1, 1) on a
 * grid of 2^-23, by (seed, element index).
 */
static inline uint64_t ks_hash(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15ull;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static inline float ks_uniform(uint64_t seed, uint64_t i)
{
    return (float)(ks_hash(seed, i) >> 40) * 0x1p-23f - 1.0f;
}

#ifdef __cplusplus
}
#endif

#endif
