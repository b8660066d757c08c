/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic over named numbers, as a pack's regime is written: "seq_len * top_k / num_experts".
 * Thread: any. */
#ifndef KS_EVAL_FORMULA_H
#define KS_EVAL_FORMULA_H

#include <stdbool.h>

#include "base/err.h"

enum { FORMULA_LEN_MAX = 512, FORMULA_DEPTH_MAX = 16, FORMULA_NAME_MAX = 96 };

struct formula_names {
    /* The value of a name; false when there is none of this name. */
    bool (*find)(void *ctx, const char *name, double *out);
    void *ctx;
};

/*
 * Evaluates names, numbers, + - * / (of reals) and parentheses in doubles; a division by zero gives
 * infinity or NaN. ERR_INVALID says what is wrong and at which column.
 */
int formula_eval(const char *text, const struct formula_names *names, double *out, struct err *err);

#endif
