/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of task packs share to run a kernel that they built: opening its object, and the
 * call's `parallel` on two threads.
 */
#ifndef KS_TEST_TASK_KERNEL_H
#define KS_TEST_TASK_KERNEL_H

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "ks_task.h"
#include "unit/test.h"

/* An open object; dlclose(handle) ends it. */
struct kernel {
    void *handle;
    int (*run)(const struct ks_call *call);
};

struct region {
    void (*fn)(void *ctx, int i);
    void *ctx;
    int n;
    atomic_int next;
};

static inline void *region_thread(void *arg)
{
    struct region *r = arg;
    int i;

    while ((i = atomic_fetch_add(&r->next, 1)) < r->n)
        r->fn(r->ctx, i);
    return NULL;
}

/* ks_call.parallel on two threads. */
static inline void run_parallel(void *pool, void (*fn)(void *ctx, int i), void *ctx, int n)
{
    struct region r = { .fn = fn, .ctx = ctx, .n = n };
    pthread_t other;

    (void)pool;
    assert_int_equal(pthread_create(&other, NULL, region_thread, &r), 0);
    region_thread(&r);
    pthread_join(other, NULL);
}

static inline void kernel_open(struct kernel *k, const char *path)
{
    void *symbol;

    k->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!k->handle)
        fail_msg("%s", dlerror());
    symbol = dlsym(k->handle, "ks_kernel");
    assert_non_null(symbol);
    memcpy(&k->run, &symbol, sizeof(symbol));
}

#endif
