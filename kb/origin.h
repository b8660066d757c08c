/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which stored facts came from elsewhere (CF_ORIGIN): local knowledge, in no content address and no
 * digest. A fact without an entry was made here. Thread: any; a struct origins belongs to its
 * caller.
 */
#ifndef KS_KB_ORIGIN_H
#define KS_KB_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store.h"

enum { ORIGIN_MAX = 128 }; /* bytes of a name */

/* ERR_INVALID unless it is UTF-8 of at most ORIGIN_MAX bytes without control characters. */
int origin_check(const char *name, struct err *err);
/* The name into `out`; "" for a fact that was made here, or is not stored. ERR_CORRUPT, ERR_IO. */
int origin_get(struct store *s, const struct id *id, char out[ORIGIN_MAX + 1], struct err *err);

/* The addresses of all foreign facts, for a walk over many facts. */
struct origins {
    size_t n, cap;
    uint8_t (*ids)[ID_BYTES]; /* sorted */
};
/* Fills an empty one. ERR_NOMEM, ERR_CORRUPT, ERR_IO. */
int origins_load(struct origins *o, struct store *s, struct err *err);
bool origins_has(const struct origins *o, const uint8_t id[ID_BYTES]);
void origins_release(struct origins *o);

#endif
