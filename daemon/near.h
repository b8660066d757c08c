/* SPDX-License-Identifier: Apache-2.0 */
/* The nearest names to one that does not exist, for "did you mean". Thread: any; a struct near
 * belongs to its caller. */
#ifndef KS_DAEMON_NEAR_H
#define KS_DAEMON_NEAR_H

#include <stddef.h>

enum { NEAR_MAX = 3, NEAR_NAME_MAX = 97 };

struct near {
    const char *wanted; /* borrowed */
    size_t n;
    unsigned distance[NEAR_MAX]; /* ascending */
    char name[NEAR_MAX][NEAR_NAME_MAX];
};

/* struct near near = { .wanted = name }; then near_offer for every name that exists. */
void near_offer(struct near *near, const char *name);
/* "; nearest: 'a', 'b'" or "" when nothing was offered. Returns `out`. */
const char *near_text(const struct near *near, char *out, size_t size);

#endif
