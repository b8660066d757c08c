/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stale insights: what was measured on a device under versions (compiler, driver, libraries) that
 * its record no longer has. Such an insight is not wrong, but nobody has measured it since.
 * `ksearch retune --toolchain` measures it again. Thread: worker, blocks.
 */
#ifndef KS_RETUNE_STALENESS_H
#define KS_RETUNE_STALENESS_H

#include "kb.h"
#include "retune/versions.h"

/* Borrowed for the call. */
struct stale_insight {
    const struct insight *insight; /* a copy */
    const char *device;
    size_t n_changes; /* at least 1 */
    const struct versions_change *changes;
    uint32_t stale;  /* pieces of evidence under other versions; there is none under the present */
    uint64_t last_s; /* when it was measured last */
};

/*
 * Calls fn for each active insight all of whose evidence on `device` (NULL: on any known device,
 * one after the other) was measured under other versions than its record has now, until it returns
 * non-zero. The changes are those of the newest evidence. Devices without versions are passed over.
 * ERR_NOT_FOUND (the device), ERR_IO, ERR_NOMEM.
 */
int staleness_each(struct kb *kb, const char *device,
                   int (*fn)(void *ctx, const struct stale_insight *s), void *ctx, struct err *err);

#endif
