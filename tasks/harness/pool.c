/* SPDX-License-Identifier: Apache-2.0 */
/* The runner's thread pool; see pool.h. */
#include "pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define SPIN_NS 50000ull          /* after a region, and after "go" */
#define SPIN_ARMED_NS 10000000ull /* between "armed" and "go" */

#define STATE_OPEN (1ull << 31)
#define STATE_COUNT (STATE_OPEN - 1)
#define STATE_GEN(state) ((uint32_t)((state) >> 32))

struct pool {
    _Alignas(64) _Atomic uint64_t state; /* generation, open bit, workers inside */
    _Alignas(64) _Atomic int next;
    _Alignas(
        64) _Atomic uint32_t wake; /* futex word: changes whenever sleepers have to look again */
    _Atomic int sleepers;
    _Atomic bool armed, quit;
    void (*fn)(void *ctx, int i);
    void *ctx;
    int n;
    int n_workers;
    pthread_t workers[];
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void pool_wake(struct pool *p)
{
    atomic_fetch_add(&p->wake, 1);
    if (atomic_load(&p->sleepers) > 0)
        syscall(SYS_futex, &p->wake, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void take_items(struct pool *p)
{
    for (;;) {
        int i = atomic_fetch_add(&p->next, 1);

        if (i >= p->n)
            return;
        p->fn(p->ctx, i);
    }
}

/* Enters the open region newer than *seen, works, leaves. Returns false when there is none. */
static bool join_region(struct pool *p, uint32_t *seen)
{
    uint64_t s = atomic_load(&p->state);

    do {
        if (!(s & STATE_OPEN) || STATE_GEN(s) == *seen)
            return false;
    } while (!atomic_compare_exchange_weak(&p->state, &s, s + 1));
    *seen = STATE_GEN(s);
    take_items(p);
    atomic_fetch_sub(&p->state, 1);
    return true;
}

/*
 * Spins for work; returns false when it is time to sleep. While armed it lets others have the
 * processor now and then, since the judge may need it to say "go".
 */
static bool spin_for_work(struct pool *p, uint32_t *seen)
{
    uint64_t start = now_ns();
    bool was_armed = false;

    for (unsigned turn = 0;; turn++) {
        bool armed = atomic_load(&p->armed);

        if (atomic_load(&p->quit) || join_region(p, seen))
            return true;
        for (int i = 0; i < 32; i++)
            cpu_relax();
        if (was_armed && !armed)
            start = now_ns();
        was_armed = armed;
        if (turn % 16 != 15)
            continue;
        if (now_ns() - start > (armed ? SPIN_ARMED_NS : SPIN_NS))
            return false;
        if (armed)
            sched_yield();
    }
}

static void *pool_worker(void *arg)
{
    struct pool *p = arg;
    uint32_t seen = 0;

    while (!atomic_load(&p->quit)) {
        uint32_t word = atomic_load(&p->wake);

        if (spin_for_work(p, &seen))
            continue;
        atomic_fetch_add(&p->sleepers, 1);
        syscall(SYS_futex, &p->wake, FUTEX_WAIT_PRIVATE, word, NULL, NULL, 0);
        atomic_fetch_sub(&p->sleepers, 1);
    }
    return NULL;
}

/* Where it may not, the thread goes where the system likes. */
static void bind_to(pthread_t thread, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(thread, sizeof(set), &set);
}

int pool_new(int threads, const uint16_t *cpus, struct pool **out, struct err *err)
{
    size_t size = sizeof(struct pool) + (size_t)(threads > 1 ? threads - 1 : 0) * sizeof(pthread_t);
    struct pool *p = aligned_alloc(64, (size + 63) / 64 * 64);

    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a pool of %d threads", threads);
    memset(p, 0, size);
    for (; p->n_workers < threads - 1; p->n_workers++) {
        if (pthread_create(&p->workers[p->n_workers], NULL, pool_worker, p) != 0) {
            int made = p->n_workers;

            pool_free(p);
            return err_set(err, ERR_LIMIT, "only %d of %d threads could be started", made + 1,
                           threads);
        }
        if (cpus != NULL)
            bind_to(p->workers[p->n_workers], cpus[p->n_workers + 1]);
    }
    *out = p;
    return 0;
}

void pool_run(void *pool, void (*fn)(void *ctx, int i), void *ctx, int n)
{
    struct pool *p = pool;
    uint64_t s;

    if (n <= 1 || p->n_workers == 0) {
        for (int i = 0; i < n; i++)
            fn(ctx, i);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->n = n;
    atomic_store(&p->next, 0);
    s = atomic_load(&p->state);
    atomic_store(&p->state, ((uint64_t)(STATE_GEN(s) + 1) << 32) | STATE_OPEN);
    atomic_store(&p->armed, false);
    pool_wake(p);
    take_items(p);
    atomic_fetch_and(&p->state, ~STATE_OPEN);
    for (unsigned turn = 1; atomic_load(&p->state) & STATE_COUNT; turn++) {
        cpu_relax();
        if (turn % 4096 == 0)
            sched_yield();
    }
}

void pool_arm(struct pool *p)
{
    atomic_store(&p->armed, true);
    pool_wake(p);
}

void pool_disarm(struct pool *p)
{
    atomic_store(&p->armed, false);
}

void pool_free(struct pool *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->quit, true);
    pool_wake(p);
    for (int i = 0; i < p->n_workers; i++)
        pthread_join(p->workers[i], NULL);
    free(p);
}
