/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeping a knowledge base: documents that nothing refers to any more. Facts are never dropped.
 * Thread: worker, blocks; commits wait meanwhile, reads go on.
 */
#ifndef KS_KB_GC_H
#define KS_KB_GC_H

#include <stdbool.h>
#include <stdint.h>

#include "kb.h"

struct gc_options {
    bool dry_run; /* count only */
    /* Is this side record one that nothing refers to? NULL: none is. May read documents, and
     * nothing else of the base. */
    bool (*is_loose)(void *ctx, const char *key);
    void *ctx;
};

struct gc_report {
    uint64_t programs, program_bytes; /* dropped, with the bytes of their documents */
    uint64_t sides, side_bytes;
};

/*
 * Drops programs whose id stands in no evaluation and no document or event of a task, a search or a
 * side record, and the side records that `is_loose` names, in one synced write. ERR_IO,
 * ERR_CORRUPT, ERR_NOMEM; nothing is dropped then.
 */
int gc_sweep(struct kb *kb, const struct gc_options *o, struct gc_report *out, struct err *err);

#endif
