/* SPDX-License-Identifier: Apache-2.0 */
/* Shared tensors; see arena.h. */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "base/mem.h"
#include "check.h"

#define ALIGN 64

static size_t align_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static int buffers(const struct cell_shape *s)
{
    return s->n_inputs + s->n_outputs + 1;
}

size_t arena_need(const struct cell_shape *s, int cells)
{
    size_t one = ARENA_GAP_MAX;

    for (int i = 0; i < buffers(s); i++)
        one += align_up(s->bytes[i]) + ARENA_GAP_MAX + ALIGN;
    return WIRE_CONTROL_BYTES + ARENA_START_MAX + (size_t)cells * one;
}

int arena_new(size_t size, uint64_t seed, struct arena **out, struct err *err)
{
    struct arena *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    a->rng = rng_seeded(seed);
    a->guard = (uint8_t)(0x10 + rng_below(&a->rng, 0xe0)); /* never the poison, never 0 */
    a->size = (size + 4095) / 4096 * 4096;
    a->fd = memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (a->fd < 0 || ftruncate(a->fd, (off_t)a->size) != 0 ||
        fcntl(a->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        err_set(err, ERR_IO, "cannot make a shared arena of %zu bytes: %s", size, strerror(errno));
        goto fail;
    }
    a->base = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    if (a->base == MAP_FAILED) {
        a->base = NULL;
        err_set(err, ERR_NOMEM, "cannot map an arena of %zu bytes: %s", size, strerror(errno));
        goto fail;
    }
    madvise(a->base, a->size, MADV_HUGEPAGE);
    arena_reset(a);
    *out = a;
    return 0;
fail:
    arena_free(a);
    return -1;
}

void arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    if (a->base != NULL)
        munmap(a->base, a->size);
    if (a->fd >= 0)
        close(a->fd);
    free(a);
}

void arena_scrub(struct arena *a)
{
    memset(a->base, 0, a->size);
}

void arena_reseed(struct arena *a, uint64_t seed)
{
    a->rng = rng_seeded(seed);
}

void arena_reset(struct arena *a)
{
    a->used = WIRE_CONTROL_BYTES + ALIGN * rng_below(&a->rng, ARENA_START_MAX / ALIGN);
}

static size_t take_gap(struct arena *a)
{
    size_t steps = (ARENA_GAP_MAX - ARENA_GAP_MIN) / ALIGN;
    size_t gap = ARENA_GAP_MIN + ALIGN * rng_below(&a->rng, steps);

    memset(a->base + a->used, a->guard, gap);
    a->used += gap;
    return gap;
}

/*
 * Guards begin right behind the last byte of a tensor, so the padding up to the next multiple of 64
 * belongs to the gap that follows it.
 */
void arena_place(struct arena *a, const struct cell_shape *s, struct cell *out)
{
    int n = buffers(s);

    for (int i = 0; i <= n; i++) {
        size_t pad = 0;

        if (i > 0) {
            pad = align_up(s->bytes[i - 1]) - s->bytes[i - 1];
            memset(a->base + a->used, a->guard, pad);
            a->used += pad;
        }
        out->gap[i] = pad + take_gap(a);
        if (i < n) {
            out->offset[i] = a->used;
            a->used += s->bytes[i];
        }
    }
}

void arena_poison(struct arena *a, const struct cell_shape *s, const struct cell *c)
{
    int n = s->n_inputs + s->n_outputs;

    for (int i = s->n_inputs; i < n; i++)
        memset(arena_at(a, c, i), CHECK_POISON, s->bytes[i]);
    memset(arena_at(a, c, n), a->guard, s->bytes[n]);
}

static bool all_guard(const uint8_t *p, size_t n, uint8_t guard)
{
    return n == 0 || (p[0] == guard && memcmp(p, p + 1, n - 1) == 0);
}

int arena_check_guards(const struct arena *a, const struct cell_shape *s, const struct cell *c,
                       const char *const *names, struct fail *f)
{
    int n = buffers(s);

    for (int i = 0; i <= n; i++) {
        size_t end = i < n ? c->offset[i] : c->offset[n - 1] + s->bytes[n - 1] + c->gap[n];
        const uint8_t *gap = a->base + end - c->gap[i];
        size_t at = 0;

        if (all_guard(gap, c->gap[i], a->guard))
            continue;
        while (gap[at] == a->guard)
            at++;
        if (i > 0)
            return fail_set(f, FAIL_GUARD_HIT,
                            "a byte was written %zu bytes behind the end of '%s'", at,
                            names[i - 1]);
        return fail_set(f, FAIL_GUARD_HIT, "a byte was written %zu bytes before '%s'",
                        c->gap[0] - at, names[0]);
    }
    return 0;
}

#if defined(__x86_64__)

__attribute__((target("clflushopt"))) static void flush_opt(const uint8_t *p, size_t n)
{
    const uint8_t *line = p - (uintptr_t)p % ALIGN;

    for (; line < p + n; line += ALIGN)
        _mm_clflushopt((void *)(uintptr_t)line);
    _mm_sfence();
}

static void flush_plain(const uint8_t *p, size_t n)
{
    const uint8_t *line = p - (uintptr_t)p % ALIGN;

    for (; line < p + n; line += ALIGN)
        _mm_clflush(line);
    _mm_mfence();
}

static bool has_clflushopt(void)
{
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 23));
}

bool arena_flush_bytes(const uint8_t *p, size_t n)
{
    static int opt = -1;

    if (opt < 0)
        opt = has_clflushopt();
    if (opt)
        flush_opt(p, n);
    else
        flush_plain(p, n);
    return true;
}

#else

bool arena_flush_bytes(const uint8_t *p, size_t n)
{
    (void)p, (void)n;
    return false;
}

#endif

bool arena_flush(const struct arena *a, const struct cell_shape *s, const struct cell *c)
{
    for (int i = 0; i < buffers(s); i++)
        if (!arena_flush_bytes(arena_at(a, c, i), s->bytes[i]))
            return false;
    return true;
}

void arena_evict(void)
{
    static uint8_t *block;
    static size_t size;
    static uint8_t turn;
    long llc = sysconf(_SC_LEVEL3_CACHE_SIZE);

    if (block == NULL) {
        size = 2 * (size_t)(llc > 0 ? llc : 32l << 20);
        block = malloc(size);
        if (block == NULL)
            return;
    }
    memset(block, ++turn, size);
}
