/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `check-task` does with one workload's expected outputs: rounds them to the outputs' types,
 * tampers with them, and says how much of a tolerance a difference uses up. Thread: the judge's
 * main thread.
 */
#ifndef KS_HARNESS_AUDIT_VALUES_H
#define KS_HARNESS_AUDIT_VALUES_H

#include <stdbool.h>

#include "scene.h"

/* Ways to make dishonest outputs of the expected ones. */
enum tamper {
    TAMPER_ZEROS,    /* all elements zero */
    TAMPER_ZERO_ROW, /* one row of the last axis zero: the middle one of those that are not */
    TAMPER_SHIFT,    /* every row in the place of the next one (elements, in a vector) */
    TAMPER_FACTOR,   /* every element 1.05 times as large */
    TAMPER_COUNT
};

/* "zeros", "zero_row", "shift", "factor". */
const char *tamper_name(enum tamper how);

/* Outputs of one workload beside the expected ones. */
struct audit_outputs {
    void *got[KS_TENSORS_MAX];      /* owned; in the outputs' types */
    double *values[KS_TENSORS_MAX]; /* owned; what `got` is made from */
    double *want[KS_TENSORS_MAX];   /* owned; what they are compared with */
};

/* Room for the outputs of a scene. FAIL_INFRASTRUCTURE. */
int audit_outputs_new(const struct scene *s, struct audit_outputs *out, struct fail *f);
void audit_outputs_release(struct audit_outputs *o);

/* n doubles as elements of `out`, each rounded once to nearest, ties to even. */
void audit_encode(enum ks_dtype dtype, const double *src, size_t n, void *out);

/*
 * Copies the scene's expected outputs to o->want, and, where the task has more than one right
 * answer, lets it choose those nearest to o->got. FAIL_INFRASTRUCTURE.
 */
int audit_settle(const struct scene *s, const struct input_set *set, struct audit_outputs *o,
                 struct fail *f);

/*
 * How much of output i's tolerance the difference between `got` and `want` (one double an element)
 * uses: 1 is all of it, 0 none; INFINITY where a value that is not finite is not met by its like,
 * or the tolerance is zero and there is a difference.
 */
double audit_share(const struct scene *s, int i, const double *got, const double *want);

/*
 * Writes to o->values[i] the scene's expected output i, tampered with. False when this changes
 * nothing: the expected output is zero, or all its rows are the same, or it has one row only.
 */
bool audit_tamper(const struct scene *s, int i, enum tamper how, struct audit_outputs *o);

#endif
