/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a measurement teaches: two trials of one search that differ in exactly one tunable are a
 * comparable pair, and bear on the claim "this value rather than that one"; a failure beside a
 * neighbour that works bears on it too. Claims are worded from the space's own help texts, so that
 * equal findings of different searches are equal claims. Thread: worker.
 */
#ifndef KS_SEARCH_LEARN_H
#define KS_SEARCH_LEARN_H

#include "kb.h"
#include "search/space.h"
#include "search/trial.h"

/* What does not change during a search; borrowed strings. */
struct learn_scope {
    const struct space *space;
    const char *task, *family, *dtype, *language, *bottleneck;
    const char *device, *device_class, *shape, *toolchain;
    const json_t *features; /* context features by name to number */
};

/*
 * Adds claims and evidence to the batch for trial `t` (measured, not of class infrastructure)
 * against the earlier measured trials `prev[n]`. At most LEARN_PAIRS_MAX pairs, latest first.
 * `*n_evidence` counts them.
 */
enum { LEARN_PAIRS_MAX = 16 };
int learn_from_trial(struct kb_batch *b, const struct learn_scope *scope,
                     const struct trial *const *prev, size_t n, const struct trial *t,
                     uint64_t measured_at_s, size_t *n_evidence, struct err *err);

/* Fills the claim "parameter p: value `with` rather than `without`"; release with claim_release. */
int learn_claim(const struct learn_scope *scope, size_t p, uint16_t with, uint16_t without,
                struct claim *out, struct err *err);

#endif
