/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pack says of its shape regimes: quantities as formulas over the axes ("regime"), whose
 * geometric mean over a set's workloads describes the set, and families that its knowledge may come
 * from as well ("related"). docs/tasks.md has the format. Thread: any.
 */
#ifndef KS_EVAL_PACK_REGIME_H
#define KS_EVAL_PACK_REGIME_H

#include "eval/pack.h"

/* Takes over and checks the members `regime` and `related` of task.json (NULL: not there); what is
 * wrong becomes a problem of the pack. */
void pack_regime_read(struct pack *p, json_t *regime, json_t *related);
/* Frees what pack_regime_read took. */
void pack_regime_release(struct pack *p);

/* A geometric mean in the making: of one quantity over workloads. */
struct pack_mean {
    double log_sum;
    unsigned n;
};
/* Adds one workload of `d`, whose var axes are in `axes`, to means[p->n_regime]. A quantity that is
 * not above zero there (no tokens, an empty batch) is left out of its mean. */
void pack_regime_add(const struct pack_definition *d, const json_t *axes, struct pack_mean *means);

/* Whether one of the two packs names the other's family under `related`. */
bool pack_is_related(const struct pack *a, const struct pack *b);

#endif
