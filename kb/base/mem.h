/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory: scope clean-up, moving ownership, and the allocator of small fixed things.
 * xmalloc and friends abort when memory is out (the store is crash-safe); they are for the daemon
 * and the command line. base, kb and client return ERR_NOMEM instead. Thread: any.
 */
#ifndef KS_BASE_MEM_H
#define KS_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/banned.h"

/* CLEANUP(freep) char *s = NULL; runs freep(&s) when s leaves its scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Gives the pointer away and leaves NULL behind. */
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) take_value_ = (p);                                                           \
        (p) = NULL;                                                                                \
        take_value_;                                                                               \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* For CLEANUP: frees what the pointer variable at `p` points to. */
static inline void freep(void *p)
{
    void *q = *(void **)p;
    free(q);
}

/* For CLEANUP: closes the descriptor at `fd` unless it is negative. */
void closep(int *fd);

void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
/* Grows an array by doubling to hold at least `need` elements; aborts when memory is out. */
void *xgrow(void *p, size_t *cap, size_t need, size_t elem_size);

#endif
