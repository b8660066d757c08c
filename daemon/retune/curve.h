/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The course of a stored search as its events tell it, without the fold: what was measured in which
 * order. Thread: worker, blocks; a curve belongs to its caller.
 */
#ifndef KS_RETUNE_CURVE_H
#define KS_RETUNE_CURVE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kb.h"

struct curve {
    size_t n, cap;
    struct curve_point {
        double log;         /* of the objective; NaN for a failure */
        json_t *assignment; /* owned; NULL when the attempt was not found */
    } * points;             /* by evaluation number */
    uint64_t wall_ns;
    json_t *workloads; /* {name, flops, bytes} of the first that was told; owned, may be NULL */
};

/* A search that is not stored has no points. ERR_IO, ERR_CORRUPT. */
int curve_read(struct kb *kb, const char *search, struct curve *out, struct err *err);
void curve_release(struct curve *c);
/* Evaluations until within 5 % of the curve's own best; 0 without a success. */
size_t curve_to_best(const struct curve *c);

#endif
