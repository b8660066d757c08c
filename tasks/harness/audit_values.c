/* SPDX-License-Identifier: Apache-2.0 */
/* Rounding, tampering and shares of tolerances; see audit_values.h. */
#include "audit_values.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "shape.h"

const char *tamper_name(enum tamper how)
{
    static const char *const names[TAMPER_COUNT] = { "zeros", "zero_row", "shift", "factor" };

    return names[how];
}

static const struct ks_tensor *output_tensor(const struct scene *s, int i)
{
    return &s->tensors[s->shape.n_inputs + i];
}

static size_t output_elements(const struct scene *s, int i)
{
    return s->elements[s->shape.n_inputs + i];
}

int audit_outputs_new(const struct scene *s, struct audit_outputs *out, struct fail *f)
{
    *out = (struct audit_outputs){ 0 };
    for (int i = 0; i < s->shape.n_outputs; i++) {
        size_t n = output_elements(s, i), bytes = s->shape.bytes[s->shape.n_inputs + i];

        out->got[i] = aligned_alloc(64, (bytes + 64) / 64 * 64);
        out->values[i] = calloc(n + 1, sizeof(double));
        out->want[i] = calloc(n + 1, sizeof(double));
        if (out->got[i] == NULL || out->values[i] == NULL || out->want[i] == NULL) {
            audit_outputs_release(out);
            return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the outputs of '%s'",
                            s->workload->name);
        }
    }
    return 0;
}

void audit_outputs_release(struct audit_outputs *o)
{
    for (int i = 0; i < KS_TENSORS_MAX; i++) {
        free(o->got[i]);
        free(o->values[i]);
        free(o->want[i]);
    }
    *o = (struct audit_outputs){ 0 };
}

/* ---- rounding ---- */

/* IEEE binary16 of a double. Steps of 2^-24 below 2^-14, eleven bits above. */
static uint16_t f16_of(double v)
{
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    double x = fabs(v);
    int e;

    if (isnan(v))
        return (uint16_t)(sign | 0x7e00);
    if (x >= 65520)
        return (uint16_t)(sign | 0x7c00);
    e = x < 0x1p-14 ? -14 : ilogb(x);
    x = nearbyint(ldexp(x, 10 - e)); /* 0 to 2048, in units of the last place */
    return (uint16_t)(sign | (uint16_t)((double)((e + 14) * 1024) + x));
}

/* An integer type's nearest value; a NaN, which none can hold, becomes the smallest. */
static int64_t integer_of(double v, double low, double high)
{
    if (!(v > low))
        return high < 256 ? 0 : (int64_t)low;
    return v >= high ? (int64_t)high : (int64_t)nearbyint(v);
}

void audit_encode(enum ks_dtype dtype, const double *src, size_t n, void *out)
{
    for (size_t i = 0; i < n; i++) {
        double v = src[i];

        switch (dtype) {
        case KS_F32:
            ((float *)out)[i] = (float)v;
            break;
        case KS_F64:
            ((double *)out)[i] = v;
            break;
        case KS_F16:
            ((uint16_t *)out)[i] = f16_of(v);
            break;
        case KS_BF16:
            ((uint16_t *)out)[i] = ks_f32_to_bf16((float)v);
            break;
        case KS_F8_E4M3:
            ((uint8_t *)out)[i] = ks_f32_to_e4m3((float)v);
            break;
        case KS_I32:
            ((int32_t *)out)[i] = (int32_t)integer_of(v, INT32_MIN, INT32_MAX);
            break;
        case KS_I64:
            ((int64_t *)out)[i] = integer_of(v, -0x1p63, 0x1.fffffffffffffp62);
            break;
        case KS_U8:
            ((uint8_t *)out)[i] = (uint8_t)integer_of(v, 0, 255);
            break;
        case KS_DTYPE_COUNT:
            break;
        }
    }
}

/* ---- comparing ---- */

int audit_settle(const struct scene *s, const struct input_set *set, struct audit_outputs *o,
                 struct fail *f)
{
    struct ks_tensor t[KS_TENSORS_MAX];
    char why[256] = "it did not say why";

    for (int i = 0; i < s->shape.n_outputs; i++)
        memcpy(o->want[i], s->expected[i], output_elements(s, i) * sizeof(double));
    if (s->module->settle == NULL)
        return 0;
    memcpy(t, s->tensors, sizeof(t));
    for (int i = 0; i < s->shape.n_inputs; i++)
        t[i].data = set->data[i];
    for (int i = 0; i < s->shape.n_outputs; i++)
        t[s->shape.n_inputs + i].data = o->got[i];
    if (s->module->settle(&s->problem, t, s->shape.n_inputs, t + s->shape.n_inputs, o->want,
                          s->shape.n_outputs, why, sizeof(why)) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the task could not settle ties of '%s': %.200s",
                        s->workload->name, why);
    return 0;
}

/* a of b, where nothing of nothing is nothing. */
static double share_of(double a, double b)
{
    if (a == 0)
        return 0;
    return b > 0 ? a / b : INFINITY;
}

static double relative(double diff2, double want2)
{
    return share_of(sqrt(diff2), sqrt(want2));
}

/* One element's share, and its squares for those of row and tensor. */
static double element_share(const struct tolerance *tol, double got, double want, double *diff2,
                            double *want2)
{
    double diff = fabs(got - want);

    *diff2 = *want2 = 0;
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got) ? 0 : INFINITY;
    if (!isfinite(want) || !isfinite(got))
        return got == want ? 0 : INFINITY;
    *diff2 = diff * diff;
    *want2 = want * want;
    if (tol->abs_tol < 0)
        return 0;
    return share_of(diff, tol->abs_tol + MAX(tol->rel_tol, 0.0) * fabs(want));
}

static size_t row_length(const struct ks_tensor *t)
{
    return t->rank > 0 ? (size_t)t->shape[t->rank - 1] : 1;
}

double audit_share(const struct scene *s, int i, const double *got, const double *want)
{
    const struct tolerance *tol = &s->pack->outputs[i].tol;
    size_t n = output_elements(s, i), row = row_length(output_tensor(s, i)), in_row = 0;
    double worst = 0, diff2 = 0, want2 = 0, row_diff2 = 0, row_want2 = 0;

    for (size_t k = 0; k < n; k++) {
        double d2, w2;

        worst = MAX(worst, element_share(tol, got[k], want[k], &d2, &w2));
        diff2 += d2;
        want2 += w2;
        row_diff2 += d2;
        row_want2 += w2;
        if (++in_row < row)
            continue;
        if (tol->row_rel >= 0)
            worst = MAX(worst, share_of(relative(row_diff2, row_want2), tol->row_rel));
        row_diff2 = row_want2 = 0;
        in_row = 0;
    }
    if (tol->tensor_rel >= 0)
        worst = MAX(worst, share_of(relative(diff2, want2), tol->tensor_rel));
    return worst;
}

/* ---- tampering ---- */

static bool row_is_zero(const double *row, size_t len)
{
    for (size_t k = 0; k < len; k++)
        if (row[k] != 0)
            return false;
    return true;
}

static bool zero_a_row(double *values, size_t rows, size_t len)
{
    for (size_t k = 0; k < rows; k++) {
        double *row = values + (rows / 2 + k) % rows * len;

        if (row_is_zero(row, len))
            continue;
        memset(row, 0, len * sizeof(*row));
        return true;
    }
    return false;
}

/* `unit` elements are moved at a time; the last ones come first. */
static bool shift(double *values, const double *want, size_t n, size_t unit)
{
    if (n <= unit)
        return false;
    memcpy(values, want + n - unit, unit * sizeof(*values));
    memcpy(values + unit, want, (n - unit) * sizeof(*values));
    return memcmp(values, want, n * sizeof(*values)) != 0;
}

bool audit_tamper(const struct scene *s, int i, enum tamper how, struct audit_outputs *o)
{
    const struct ks_tensor *t = output_tensor(s, i);
    size_t n = output_elements(s, i), len = row_length(t), rows = len > 0 ? n / len : 0;
    double *values = o->values[i];
    const double *want = s->expected[i];
    bool zero = row_is_zero(want, n);

    memcpy(values, want, n * sizeof(*values));
    switch (how) {
    case TAMPER_ZEROS:
        memset(values, 0, n * sizeof(*values));
        return !zero;
    case TAMPER_ZERO_ROW:
        return zero_a_row(values, rows, len);
    case TAMPER_SHIFT:
        return shift(values, want, n, rows > 1 ? len : 1);
    case TAMPER_FACTOR:
        for (size_t k = 0; k < n; k++)
            values[k] *= 1.05;
        return !zero && dtype_is_float(t->dtype);
    case TAMPER_COUNT:
        break;
    }
    return false;
}
