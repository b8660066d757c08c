/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shape expressions of a task pack: axis names, integers, + and *, parentheses ("batch_size + 1"),
 * and the sizes that follow from them. Everything is checked for overflow and against caps. Thread:
 * any.
 */
#ifndef KS_HARNESS_SHAPE_H
#define KS_HARNESS_SHAPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "ks_task.h"

#define SHAPE_DIM_MAX (1ll << 40)

/*
 * The value of `text` with these axes. ERR_INVALID when it is malformed, names an axis that is not
 * there, or leaves [0, SHAPE_DIM_MAX].
 */
int shape_eval(const char *text, const struct ks_axis *axes, int n_axes, int64_t *out,
               struct err *err);

/* Elements and bytes of a tensor whose shape is set. ERR_LIMIT past SHAPE_DIM_MAX bytes. */
int shape_count(const struct ks_tensor *t, size_t *elements, size_t *bytes, struct err *err);

/* Bytes of one element. */
size_t dtype_size(enum ks_dtype dtype);
/* "f32", "bf16", ...; KS_DTYPE_COUNT when there is none of this name. */
enum ks_dtype dtype_from_name(const char *name);
const char *dtype_name(enum ks_dtype dtype);
/* True for f64, f32, f16, bf16 and f8_e4m3. */
int dtype_is_float(enum ks_dtype dtype);
/* Decodes n elements of `src` to double. */
void dtype_decode(enum ks_dtype dtype, const void *src, size_t first, size_t n, double *out);

#endif
