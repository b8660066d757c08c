/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest names by edit distance; see near.h. */
#include "near.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Levenshtein distance without regard to case, over the first NEAR_NAME_MAX - 1 bytes of each. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[NEAR_NAME_MAX];
    size_t n = strnlen(a, NEAR_NAME_MAX - 1), m = strnlen(b, NEAR_NAME_MAX - 1);

    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            unsigned replace = diagonal + !same;

            diagonal = row[j];
            row[j] = MIN(replace, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

/* A part of a long name typed alone is nearer than its length says. */
static unsigned distance_of(const char *wanted, const char *name)
{
    unsigned d = edit_distance(wanted, name);

    return wanted[0] != '\0' && strstr(name, wanted) != NULL ? d / 4 : d;
}

void near_offer(struct near *near, const char *name)
{
    unsigned d = distance_of(near->wanted, name);
    size_t at = near->n;

    while (at > 0 && near->distance[at - 1] > d)
        at--;
    if (at == NEAR_MAX)
        return;
    if (near->n < NEAR_MAX)
        near->n++;
    for (size_t i = near->n - 1; i > at; i--) {
        near->distance[i] = near->distance[i - 1];
        memcpy(near->name[i], near->name[i - 1], NEAR_NAME_MAX);
    }
    near->distance[at] = d;
    str_copy(near->name[at], NEAR_NAME_MAX, name);
}

const char *near_text(const struct near *near, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < near->n && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s'%s'", i ? ", " : "; nearest: ", near->name[i]);
    return out;
}
