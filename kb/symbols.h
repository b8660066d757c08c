/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings numbered from 0 in the order they came; equal strings have one number. For columns of few
 * distinct values (families, devices, toolchains). Thread: the owner's lock.
 */
#ifndef KS_KB_SYMBOLS_H
#define KS_KB_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapfile.h"

enum { SYMBOLS_NONE = UINT32_MAX };

struct symbols {
    char **v;
    uint32_t n;
    size_t cap;
    uint32_t *slots; /* open addressing: number plus 1 */
    size_t n_slots;
};

/* The number of `s` (NULL counts as ""), adding a copy when it is new. ERR_NOMEM. */
int symbols_add(struct symbols *t, const char *s, uint32_t *out, struct err *err);
/* SYMBOLS_NONE when it was never added. */
uint32_t symbols_find(const struct symbols *t, const char *s);
/* Borrowed for the life of the table. */
const char *symbols_get(const struct symbols *t, uint32_t number);
/* Puts the strings into the section begun last; fills an empty table from one. ERR_CORRUPT,
 * ERR_NOMEM.
 */
void symbols_put(struct snap_writer *w, const struct symbols *t);
int symbols_take(const struct snap *s, enum snap_section section, struct symbols *t,
                 struct err *err);
void symbols_release(struct symbols *t);

#endif
