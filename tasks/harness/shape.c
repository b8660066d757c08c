/* SPDX-License-Identifier: Apache-2.0 */
/* Shape expressions and element types; see shape.h. */
#include "shape.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/mem.h"

enum { DEPTH_MAX = 16 };

struct reader {
    const char *p, *text;
    const struct ks_axis *axes;
    int n_axes, depth;
};

static int read_sum(struct reader *r, int64_t *out, struct err *err);

static void skip_blanks(struct reader *r)
{
    while (*r->p == ' ')
        r->p++;
}

static int bad(const struct reader *r, const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID, "shape '%.80s': %s at '%.20s'", r->text, what, r->p);
}

static int read_number(struct reader *r, int64_t *out, struct err *err)
{
    int64_t v = 0;

    for (; isdigit((unsigned char)*r->p); r->p++) {
        v = v * 10 + (*r->p - '0');
        if (v > SHAPE_DIM_MAX)
            return bad(r, "the number is too large", err);
    }
    *out = v;
    return 0;
}

static int read_axis(struct reader *r, int64_t *out, struct err *err)
{
    const char *start = r->p;
    size_t len;

    while (isalnum((unsigned char)*r->p) || *r->p == '_')
        r->p++;
    len = (size_t)(r->p - start);
    for (int i = 0; i < r->n_axes; i++) {
        if (strlen(r->axes[i].name) == len && memcmp(r->axes[i].name, start, len) == 0) {
            *out = r->axes[i].value;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "shape '%.80s': there is no axis '%.*s'", r->text,
                   (int)MIN(len, (size_t)64), start);
}

static int read_factor(struct reader *r, int64_t *out, struct err *err)
{
    skip_blanks(r);
    if (isdigit((unsigned char)*r->p))
        return read_number(r, out, err);
    if (isalpha((unsigned char)*r->p) || *r->p == '_')
        return read_axis(r, out, err);
    if (*r->p != '(')
        return bad(r, "an axis, a number or '(' is expected", err);
    if (++r->depth > DEPTH_MAX)
        return bad(r, "too many parentheses", err);
    r->p++;
    if (read_sum(r, out, err) != 0)
        return -1;
    if (*r->p != ')')
        return bad(r, "')' is expected", err);
    r->p++;
    r->depth--;
    return 0;
}

static int check_range(const struct reader *r, int64_t v, struct err *err)
{
    if (v < 0 || v > SHAPE_DIM_MAX)
        return err_set(err, ERR_INVALID, "shape '%.80s': the value %lld is not in 0 to %lld",
                       r->text, (long long)v, SHAPE_DIM_MAX);
    return 0;
}

static int read_product(struct reader *r, int64_t *out, struct err *err)
{
    int64_t v, w;

    if (read_factor(r, &v, err) != 0 || check_range(r, v, err) != 0)
        return -1;
    for (skip_blanks(r); *r->p == '*'; skip_blanks(r)) {
        r->p++;
        if (read_factor(r, &w, err) != 0)
            return -1;
        if (__builtin_mul_overflow(v, w, &v))
            return bad(r, "the product overflows", err);
        if (check_range(r, v, err) != 0)
            return -1;
    }
    *out = v;
    return 0;
}

static int read_sum(struct reader *r, int64_t *out, struct err *err)
{
    int64_t v, w;

    if (read_product(r, &v, err) != 0)
        return -1;
    for (skip_blanks(r); *r->p == '+'; skip_blanks(r)) {
        r->p++;
        if (read_product(r, &w, err) != 0)
            return -1;
        v += w; /* both at most SHAPE_DIM_MAX */
        if (check_range(r, v, err) != 0)
            return -1;
    }
    *out = v;
    return 0;
}

int shape_eval(const char *text, const struct ks_axis *axes, int n_axes, int64_t *out,
               struct err *err)
{
    struct reader r = { text, text, axes, n_axes, 0 };
    int64_t v;

    if (read_sum(&r, &v, err) != 0)
        return -1;
    if (*r.p != '\0')
        return bad(&r, "the expression should end", err);
    *out = v;
    return 0;
}

int shape_count(const struct ks_tensor *t, size_t *elements, size_t *bytes, struct err *err)
{
    size_t n = 1, size;

    for (int i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(n, (size_t)t->shape[i], &n) || n > (size_t)SHAPE_DIM_MAX)
            return err_set(err, ERR_LIMIT, "tensor '%s' is too large", t->name);
    }
    size = n * dtype_size(t->dtype);
    if (size > (size_t)SHAPE_DIM_MAX)
        return err_set(err, ERR_LIMIT, "tensor '%s' is too large", t->name);
    *elements = n;
    *bytes = size;
    return 0;
}

static const struct {
    const char *name;
    size_t size;
    int is_float;
} dtypes[KS_DTYPE_COUNT] = {
    [KS_F32] = { "f32", 4, 1 },   [KS_F64] = { "f64", 8, 1 },         [KS_F16] = { "f16", 2, 1 },
    [KS_BF16] = { "bf16", 2, 1 }, [KS_F8_E4M3] = { "f8_e4m3", 1, 1 }, [KS_I32] = { "i32", 4, 0 },
    [KS_I64] = { "i64", 8, 0 },   [KS_U8] = { "u8", 1, 0 },
};

size_t dtype_size(enum ks_dtype dtype)
{
    return dtypes[dtype].size;
}

const char *dtype_name(enum ks_dtype dtype)
{
    return dtypes[dtype].name;
}

int dtype_is_float(enum ks_dtype dtype)
{
    return dtypes[dtype].is_float;
}

enum ks_dtype dtype_from_name(const char *name)
{
    for (int i = 0; i < KS_DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return (enum ks_dtype)i;
    return KS_DTYPE_COUNT;
}

static double decode_f16(uint16_t h)
{
    int exponent = (h >> 10) & 31;
    double fraction = h & 1023, v;

    if (exponent == 31)
        v = fraction != 0 ? NAN : INFINITY;
    else if (exponent == 0)
        v = ldexp(fraction, -24);
    else
        v = ldexp(fraction + 1024, exponent - 25);
    return h & 0x8000 ? -v : v;
}

static double decode_f8_e4m3(uint8_t b)
{
    int exponent = (b >> 3) & 15;
    double fraction = b & 7, v;

    if ((b & 0x7f) == 0x7f)
        v = NAN;
    else if (exponent == 0)
        v = ldexp(fraction, -9);
    else
        v = ldexp(fraction + 8, exponent - 10);
    return b & 0x80 ? -v : v;
}

#define DECODE(type, expr)                                                                         \
    for (size_t i = 0; i < n; i++) {                                                               \
        type v = ((const type *)src)[first + i];                                                   \
        out[i] = (expr);                                                                           \
    }                                                                                              \
    return

void dtype_decode(enum ks_dtype dtype, const void *src, size_t first, size_t n, double *out)
{
    switch (dtype) {
    case KS_F32:
        DECODE(float, (double)v);
    case KS_F64:
        DECODE(double, v);
    case KS_F16:
        DECODE(uint16_t, decode_f16(v));
    case KS_BF16:
        DECODE(uint16_t, (double)ks_bf16_to_f32(v));
    case KS_F8_E4M3:
        DECODE(uint8_t, decode_f8_e4m3(v));
    case KS_I32:
        DECODE(int32_t, (double)v);
    case KS_I64:
        DECODE(int64_t, (double)v);
    case KS_U8:
        DECODE(uint8_t, (double)v);
    case KS_DTYPE_COUNT:
        break;
    }
}
