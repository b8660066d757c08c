/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The build cache: finished builds under a digest of all that went into them. An object is built
 * from hostile source, so entries lie in a folder that only the judge's user can write and that no
 * sandbox shows; each carries a digest of itself, and one that does not fit is removed. The judge
 * keeps the folder under a cap, oldest use first out. Several judges may share it. Thread: the
 * judge's main thread.
 */
#ifndef KS_HARNESS_CACHE_H
#define KS_HARNESS_CACHE_H

#include <stdint.h>

#include "base/buf.h"

#define CACHE_BYTES_MAX (256ull << 20)
#define CACHE_PARTS_MAX 4

enum cache_found { CACHE_MISS, CACHE_HIT, CACHE_DAMAGED };

/*
 * Reads entry `name` of the folder into n parts, which are empty and know their caps; marks it as
 * used. CACHE_DAMAGED: it was there and is no whole entry any more; it has been removed. Parts are
 * empty again unless it is CACHE_HIT.
 */
enum cache_found cache_load(const char *dir, const char *name, struct buf *const *parts, int n);

/*
 * Keeps an entry, then removes the least recently used ones until the folder has at most
 * `bytes_max`. A folder that cannot be written, or that others may write, keeps nothing: that costs
 * time, nothing else.
 */
void cache_store(const char *dir, const char *name, const struct buf *const *parts, int n,
                 uint64_t bytes_max);

#endif
