/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shape regimes of the tasks that packs define: of one definition with a workload set, what of it
 * conditions may be learned on, and which other definitions are near. Thread: any.
 */
#ifndef KS_DAEMON_REGIMES_H
#define KS_DAEMON_REGIMES_H

#include <jansson.h>

#include "eval/pack.h"
#include "regime.h"

/* At most this many relatives, itself included: what a search reads of its scope. */
enum { REGIMES_RELATIVES_MAX = 64 };

/* The shape features of the pack and the constant axes that shapes are known by (all constant axes
 * when the pack names no features), its data type, and the quantities of its member `regime` over
 * the workloads of `set` (NULL: the default set). */
void regime_of_task(const struct pack_definition *def, const struct pack_set *set,
                    struct regime *out);

/* Adds the set's quantities to an object of features, to three digits, but for those that are a
 * constant axis under another name. */
void regime_add_features(const struct pack_definition *def, const struct pack_set *set,
                         json_t *features);

/*
 * What conditions may be learned from, by name to number: the constant axes of `def` and the
 * quantities of `set` (both NULL: none), and the size of the machine (`device` NULL: none). Owned.
 */
json_t *regime_context(const struct pack_definition *def, const struct pack_set *set,
                       const json_t *device);

/*
 * [{task, similarity}] of a search on `def` with `set`: itself first with 1, then the definitions
 * of its family and of related ones, nearest first, equal ones by name. Owned.
 */
json_t *regime_relatives(const struct packs *packs, const struct pack_definition *def,
                         const struct pack_set *set);

/* "mla_paged_prefill,...": the families related to that of `def`, comma-separated; "" for none.
 * Owned. */
char *regime_related_families(const struct packs *packs, const struct pack_definition *def);

#endif
