/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing outputs; see check.h. */
#include "check.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/mem.h"
#include "shape.h"

enum { BLOCK = 512 };

struct sums {
    double diff2, want2;         /* tensor */
    double row_diff2, row_want2; /* row in progress */
    double worst_row, max_abs;
    size_t worst_row_index;
};

/* "output[3][0][17]" */
static void index_text(const struct ks_tensor *t, size_t i, char *out, size_t size)
{
    size_t at[KS_RANK_MAX], n;

    for (int d = t->rank - 1; d >= 0; d--) {
        at[d] = i % (size_t)t->shape[d];
        i /= (size_t)t->shape[d];
    }
    n = (size_t)snprintf(out, size, "%s", t->name);
    for (int d = 0; d < t->rank && n < size; d++)
        n += (size_t)snprintf(out + n, size - n, "[%zu]", at[d]);
}

static int mismatch(const struct ks_tensor *t, size_t i, enum fail_class class, double got,
                    double want, const char *what, struct fail *f)
{
    char at[160];

    index_text(t, i, at, sizeof(at));
    if (class == FAIL_OUTPUT_UNTOUCHED)
        return fail_set(f, class, "%s was not written; %.9g is expected", at, want);
    return fail_set(f, class, "%s is %.9g where %.9g is expected (%s)", at, got, want, what);
}

static bool is_poison(const struct ks_tensor *t, const void *data, size_t i, uint8_t poison)
{
    size_t size = dtype_size(t->dtype);
    const uint8_t *p = (const uint8_t *)data + i * size;

    for (size_t b = 0; b < size; b++)
        if (p[b] != poison)
            return false;
    return true;
}

static double relative(double diff2, double want2)
{
    if (diff2 == 0)
        return 0;
    return want2 > 0 ? sqrt(diff2 / want2) : INFINITY;
}

static void end_row(struct sums *s, size_t row)
{
    double rel = relative(s->row_diff2, s->row_want2);

    if (rel > s->worst_row) {
        s->worst_row = rel;
        s->worst_row_index = row;
    }
    s->row_diff2 = s->row_want2 = 0;
}

/* A value that is not finite must be met by one of its kind. */
static bool same_nonfinite(double got, double want)
{
    return isnan(want) ? isnan(got) : got == want;
}

static int check_element(const struct ks_tensor *t, const void *data, size_t i, double got,
                         double want, const struct tolerance *tol, double widen, uint8_t poison,
                         struct sums *s, struct fail *f)
{
    double diff = fabs(got - want);
    bool match = got == want;

    if (!match && is_poison(t, data, i, poison))
        return mismatch(t, i, FAIL_OUTPUT_UNTOUCHED, got, want, "", f);
    if (!isfinite(want) || !isfinite(got)) {
        if (isfinite(want) || !same_nonfinite(got, want))
            return mismatch(t, i, FAIL_NONFINITE, got, want, "not finite", f);
        return 0;
    }
    if (tol->abs_tol >= 0) {
        double allowed =
            widen * (tol->abs_tol + (tol->rel_tol > 0 ? tol->rel_tol : 0) * fabs(want));

        if (!(diff <= allowed)) {
            char what[64];

            snprintf(what, sizeof(what), "%.3g apart, %.3g is allowed", diff, allowed);
            return mismatch(t, i, FAIL_WRONG_VALUE, got, want, what, f);
        }
    }
    s->max_abs = MAX(s->max_abs, diff);
    s->row_diff2 += diff * diff;
    s->row_want2 += want * want;
    s->diff2 += diff * diff;
    s->want2 += want * want;
    return 0;
}

static int check_sums(const struct ks_tensor *t, const struct tolerance *tol, double widen,
                      size_t row_len, const struct sums *s, struct fail *f)
{
    double rel = relative(s->diff2, s->want2);
    char at[160];

    if (tol->tensor_rel >= 0 && !(rel <= widen * tol->tensor_rel))
        return fail_set(f, FAIL_WRONG_VALUE,
                        "%s has a relative error of %.3g over the tensor; %.3g is allowed", t->name,
                        rel, widen * tol->tensor_rel);
    if (tol->row_rel < 0 || s->worst_row <= widen * tol->row_rel)
        return 0;
    index_text(t, s->worst_row_index * row_len, at, sizeof(at));
    return fail_set(f, FAIL_WRONG_VALUE,
                    "the row at %s has a relative error of %.3g; %.3g is allowed", at, s->worst_row,
                    widen * tol->row_rel);
}

int check_output(const struct ks_tensor *t, const void *got, const double *want,
                 const struct tolerance *tol, double widen, uint8_t poison,
                 struct check_stats *stats, struct fail *f)
{
    size_t n = 1;

    for (int d = 0; d < t->rank; d++)
        n *= (size_t)t->shape[d];
    return check_part(t, got, want, 0, n, tol, widen, poison, stats, f);
}

int check_part(const struct ks_tensor *t, const void *got, const double *want, size_t first,
               size_t count, const struct tolerance *tol, double widen, uint8_t poison,
               struct check_stats *stats, struct fail *f)
{
    size_t row_len = t->rank > 0 ? (size_t)t->shape[t->rank - 1] : 1, in_row = 0;
    struct sums s = { 0 };
    double block[BLOCK];

    for (size_t end = first + count; first < end; first += BLOCK) {
        size_t n = MIN(end - first, (size_t)BLOCK);

        dtype_decode(t->dtype, got, first, n, block);
        for (size_t i = 0; i < n; i++) {
            if (check_element(t, got, first + i, block[i], want[first + i], tol, widen, poison, &s,
                              f) != 0)
                return -1;
            if (++in_row == row_len) {
                end_row(&s, (first + i) / row_len);
                in_row = 0;
            }
        }
    }
    if (check_sums(t, tol, widen, row_len, &s, f) != 0)
        return -1;
    stats->max_abs = MAX(stats->max_abs, s.max_abs);
    stats->tensor_rel = MAX(stats->tensor_rel, relative(s.diff2, s.want2));
    return 0;
}
