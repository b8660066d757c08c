/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vector_add, the tunable template. Decisions: who does what (SPLIT: one thread, blocks that
 * threads take in turn, or one even range each) and how results are stored (STORES: through the
 * cache or past it). Numbers: BLOCK elements at a time, VECTOR bits wide, PREFETCH elements ahead
 * (0: left to the processor).
 */
#include "ks_task.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define LANES_PER_VECTOR (VECTOR / 32)

typedef float vec __attribute__((vector_size(VECTOR / 8), aligned(4), may_alias));

struct work {
    const float *x, *y, *alpha;
    float *z;
    int64_t n;    /* elements, all lanes together */
    int64_t part; /* elements per item, a multiple of 16 and of the lanes */
};

static inline void store(float *to, vec v)
{
#if STORES == STORES_stream && defined(__SSE2__)
    for (int i = 0; i < LANES_PER_VECTOR; i += 4)
        _mm_stream_ps(to + i, _mm_set_ps(v[i + 3], v[i + 2], v[i + 1], v[i]));
#else
    *(vec *)(void *)to = v;
#endif
}

/* `from` is a multiple of 16 and of the lanes, so every vector begins at lane 0. */
static void add_range(const struct work *w, int64_t from, int64_t to)
{
    int64_t i = from;
    vec alpha;

    for (int k = 0; k < LANES_PER_VECTOR; k++)
        alpha[k] = w->alpha[k % KS_LANES];
    for (; i + LANES_PER_VECTOR <= to; i += LANES_PER_VECTOR) {
#if PREFETCH > 0
        __builtin_prefetch(w->x + i + PREFETCH);
        __builtin_prefetch(w->y + i + PREFETCH);
#endif
        store(w->z + i, alpha * *(const vec *)(const void *)(w->x + i) +
                            *(const vec *)(const void *)(w->y + i));
    }
    for (; i < to; i++)
        w->z[i] = w->alpha[i % KS_LANES] * w->x[i] + w->y[i];
#if STORES == STORES_stream && defined(__SSE2__)
    _mm_sfence(); /* streamed stores are weakly ordered */
#endif
}

#if SPLIT != SPLIT_one
static void run_part(void *ctx, int i)
{
    const struct work *w = ctx;
    int64_t from = i * w->part, to = from + w->part;

    add_range(w, from, to < w->n ? to : w->n);
}
#endif

int ks_kernel(const struct ks_call *call)
{
    struct work w = { call->inputs[0].data,
                      call->inputs[1].data,
                      call->inputs[2].data,
                      call->outputs[0].data,
                      0,
                      BLOCK };

    w.n = ks_axis_value(call->axes, call->n_axes, "n", 0) * KS_LANES;
#if SPLIT == SPLIT_even
    w.part = (w.n / call->threads + 63) / 64 * 64 + 64;
#endif
#if SPLIT == SPLIT_one
    add_range(&w, 0, w.n);
#else
    call->parallel(call->pool, run_part, &w, (int)((w.n + w.part - 1) / w.part));
#endif
    return 0;
}
