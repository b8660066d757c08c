/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a workload stands below the rooflines of two devices (Williams, Waterman and Patterson,
 * Communications of the ACM 52(4), 2009): its operations per byte against the machine balance, peak
 * operations over bandwidth. A balance that moves past a workload changes what bounds it, and with
 * it what a technique is worth. Thread: any.
 */
#ifndef KS_RETUNE_ROOFLINE_H
#define KS_RETUNE_ROOFLINE_H

#include <jansson.h>
#include <stdbool.h>

/* How far the balance may move, as a factor either way, before unplaced workloads are doubted. */
#define ROOFLINE_MOVED 1.25

enum roofline_bound { ROOFLINE_UNKNOWN, ROOFLINE_MEMORY, ROOFLINE_COMPUTE, ROOFLINE_BOUND_COUNT };
/* "memory", "compute", "unknown". */
const char *roofline_bound_name(enum roofline_bound b);

/* Operations per byte at which the device is balanced, for this dtype; NaN when unknown. */
double roofline_balance(const json_t *device, const char *dtype);
/* What bounds a workload of this intensity (operations per byte) on a device of this balance. */
enum roofline_bound roofline_bound(double intensity, double balance);

/* A task's workloads seen from both devices. */
struct roofline_shift {
    double balance_from, balance_to; /* NaN when unknown */
    size_t workloads;                /* whose operations and bytes are known */
    size_t crossed;                  /* bound by something else on the new device */
    bool moved;                      /* by more than ROOFLINE_MOVED, or unknown */
};

/*
 * Positions of a task's workloads: `workloads` has {name, flops, bytes}, of one call each (NULL:
 * none are known). Adds a row {task, workload, intensity, bound_from, bound_to} to `rows` for each,
 * and one without a workload, {task, balance_from, balance_to, moved}, for the task itself.
 */
void roofline_place(const char *task, const char *dtype, const json_t *workloads,
                    const json_t *from, const json_t *to, struct roofline_shift *out, json_t *rows);

#endif
