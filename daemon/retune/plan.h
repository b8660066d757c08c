/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of re-verification: what is measured first is what is worth most per second of device
 * time. The value of testing an insight is the probability that its label is wrong, times the gain
 * at stake, times the stored best programs that rely on it (one that none follows counts a quarter:
 * later searches read it too). Its cost are the measurements that it needs and that are neither
 * known nor planned before it, so that insights tested beside one champion share its measurement.
 * Pure. Thread: any.
 */
#ifndef KS_RETUNE_PLAN_H
#define KS_RETUNE_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLAN_ITEMS_MAX = 1000, PLAN_KEYS = 2 };

/* One insight that could be tested: the pair of assignments that tests it. Borrowed strings. */
struct plan_candidate {
    double p_wrong;   /* that its label is wrong */
    double stake;     /* size of the effect, natural log */
    uint32_t relying; /* stored best programs that follow it */
    double eval_s;    /* what one evaluation of its task takes */
    /* What has to be measured, by a name that is equal for equal measurements. */
    const char *keys[PLAN_KEYS];
};

struct plan_item {
    size_t candidate;
    unsigned evaluations; /* new ones */
    double cost_s, value;
};

/* What testing it is worth: P(label is wrong) x stake x (relying programs + 1/4). */
double plan_value(const struct plan_candidate *c);
/*
 * Orders n candidates into `out` (room for min(n, PLAN_ITEMS_MAX)) and returns how many there are:
 * greedily by value per cost, those without cost first, ties by the candidates' order. Those of no
 * value come last. Beyond PLAN_ITEMS_MAX the least valuable are left out. `known` is a set of keys
 * (an object) that need no measurement; it is not changed.
 */
size_t plan_order(const struct plan_candidate *candidates, size_t n, const json_t *known,
                  struct plan_item *out);

#endif
