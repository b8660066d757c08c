/* SPDX-License-Identifier: Apache-2.0 */
/* Aborting allocation; see mem.h. */
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *must(void *p, size_t size)
{
    if (p == NULL && size != 0) {
        fprintf(stderr, "out of memory asking for %zu bytes\n", size);
        abort();
    }
    return p;
}

void closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

void *xmalloc(size_t size)
{
    return must(malloc(size), size);
}

void *xcalloc(size_t n, size_t size)
{
    return must(calloc(n, size), n != 0 ? size : 0);
}

void *xrealloc(void *p, size_t size)
{
    return must(realloc(p, size), size);
}

char *xstrdup(const char *s)
{
    return must(strdup(s), 1);
}

void *xgrow(void *p, size_t *cap, size_t need, size_t elem_size)
{
    size_t n = *cap ? *cap : 8;

    if (need <= *cap)
        return p;
    while (n < need)
        n *= 2;
    if (n > SIZE_MAX / elem_size)
        must(NULL, SIZE_MAX);
    p = xrealloc(p, n * elem_size);
    *cap = n;
    return p;
}
