/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing a candidate's output with the expected values. Written so that only a proven match
 * counts: a NaN never passes by a comparison that is false. Computed in double precision. Thread:
 * any.
 */
#ifndef KS_HARNESS_CHECK_H
#define KS_HARNESS_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "fail.h"
#include "ks_task.h"

/* Negative: not asked for. Non-finite values must match in kind and place under every tolerance. */
struct tolerance {
    double abs_tol, rel_tol; /* element: |got - want| <= abs_tol + rel_tol |want| */
    double tensor_rel;       /* ||got - want|| / ||want|| over the tensor */
    double row_rel;          /* the same for the worst row of the last axis */
};

struct check_stats {
    double max_abs, tensor_rel;
};

/* Outputs are filled with this before each call: NaN of every float type. */
#define CHECK_POISON 0xff

/*
 * Compares `got` (t's elements) with want[], one double per element. `poison` is the byte that the
 * output was filled with; `widen` multiplies every tolerance (1, or 2 against another kernel's
 * output). Returns 0 and adds to *stats the worst seen, or -1 with FAIL_OUTPUT_UNTOUCHED,
 * FAIL_NONFINITE or FAIL_WRONG_VALUE: the first index and both values.
 */
int check_output(const struct ks_tensor *t, const void *got, const double *want,
                 const struct tolerance *tol, double widen, uint8_t poison,
                 struct check_stats *stats, struct fail *f);
/*
 * The same for `count` elements from element `first` on, a multiple of the last axis: the sums over
 * the tensor are then those over this part.
 */
int check_part(const struct ks_tensor *t, const void *got, const double *want, size_t first,
               size_t count, const struct tolerance *tol, double widen, uint8_t poison,
               struct check_stats *stats, struct fail *f);

#endif
