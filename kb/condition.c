/* SPDX-License-Identifier: Apache-2.0 */
/* The condition that is learned from evidence of both signs; see fold.h. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "fold.h"

enum { SIDE_MIN = 3 }; /* measurements on a side of a split */

/* A split under trial: how many measurements fit, and what its two sides hold. */
struct split {
    enum insight_op op;
    const char *feature;
    double value;     /* INSIGHT_AT_MOST */
    const char *text; /* INSIGHT_IS; `len` bytes */
    size_t len;
    bool helps;
    uint64_t right; /* measurements on the side that fits their sign */
    struct insight_side side[2];
};

/* Signs on the two sides of a split: [0] where it holds, [1] elsewhere. */
struct signs {
    uint64_t above[2], below[2];
};

/* Each side has at least three measurements, three quarters of them with the side's sign. */
static bool separates(const struct signs *s, bool helps, uint64_t *right)
{
    *right = 0;
    for (int i = 0; i < 2; i++) {
        uint64_t with = (i == 0) == helps ? s->above[i] : s->below[i];
        uint64_t n = s->above[i] + s->below[i];

        if (n < SIDE_MIN || with * 4 < n * 3)
            return false;
        *right += with;
    }
    return true;
}

/* `split` is complete but for its sign; it replaces a best that fits less. */
static void try_split(struct split split, const struct signs *s, struct split *best)
{
    for (int helps = 1; helps >= 0; helps--)
        if (separates(s, helps, &split.right) && split.right > best->right) {
            split.helps = helps;
            *best = split;
        }
}

/* Tries every threshold of the feature whose points are [first, end). */
static void split_feature(const struct fold_point *first, const struct fold_point *end,
                          struct split *best)
{
    struct signs s = { 0 };
    struct split split = { .op = INSIGHT_AT_MOST, .feature = first->feature };

    for (const struct fold_point *p = first; p < end; p++) {
        s.above[1] += p->above;
        s.below[1] += p->below;
        split.side[1].effect_q += p->effect_q;
    }
    for (const struct fold_point *p = first; p + 1 < end; p++) {
        s.above[0] += p->above;
        s.below[0] += p->below;
        s.above[1] -= p->above;
        s.below[1] -= p->below;
        split.value = p->value;
        split.side[0].effect_q += p->effect_q;
        split.side[1].effect_q -= p->effect_q;
        for (int i = 0; i < 2; i++)
            split.side[i].n = (uint32_t)(s.above[i] + s.below[i]);
        try_split(split, &s, best);
    }
}

/* The parts of cell keys by which evidence can be told apart, in the order of their names. */
static const struct {
    const char *feature;
    int part; /* of the key */
} named[] = { { "device_class", 0 }, { "shape", 1 }, { "toolchain", 2 } };

/* Part number `part` of a cell's key; false when the key has not exactly `depth` parts. */
static bool key_part(const char *key, int depth, int part, const char **out, size_t *len)
{
    int parts = 1;

    for (const char *p = strchr(key, '|'); p; p = strchr(p + 1, '|'))
        parts++;
    if (parts != depth)
        return false;
    for (; part > 0; part--)
        key = strchr(key, '|') + 1;
    *out = key;
    *len = strcspn(key, "|");
    return true;
}

/* What the evidence with one value of a part adds up to. */
struct value {
    const char *text;
    size_t len;
    uint64_t above, below;
    struct insight_side side;
};

static int by_text(const void *x, const void *y)
{
    const struct value *a = x, *b = y;
    int order = memcmp(a->text, b->text, MIN(a->len, b->len));

    return order != 0 ? order : a->len < b->len ? -1 : a->len > b->len;
}

static void value_add(struct value *v, const struct value *more)
{
    v->above += more->above;
    v->below += more->below;
    v->side.n += more->side.n;
    v->side.effect_q += more->side.effect_q;
}

/* The values of a part, sorted, each once, and their total. Cells with just that many parts hold
 * each pair once. `list` has room for a value per cell; returns how many there are. */
static size_t values_of(const struct fold *f, int part, struct value *list, struct value *total)
{
    size_t n = 0, kept = 0;

    memset(total, 0, sizeof(*total));
    for (size_t i = 0; i < f->cells.n; i++) {
        const struct insight_sums *s = &f->cells.v[i].sums;
        struct value v = { .above = s->positive,
                           .below = s->negative,
                           .side = { s->blind + s->steered, s->effect_q, 0 } };

        if (!key_part(f->cells.v[i].key, part + 1, part, &v.text, &v.len))
            continue;
        list[n++] = v;
        value_add(total, &v);
    }
    qsort(list, n, sizeof(*list), by_text);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && by_text(&list[kept - 1], &list[i]) == 0)
            value_add(&list[kept - 1], &list[i]);
        else
            list[kept++] = list[i];
    }
    return kept;
}

/* Every value of the part against the rest, the smallest first. */
static int split_named(const struct fold *f, size_t which, struct split *best, struct err *err)
{
    CLEANUP(freep) struct value *list = malloc(MAX(f->cells.n, 1) * sizeof(*list));
    struct value total;
    size_t n;

    if (list == NULL)
        return err_set(err, ERR_NOMEM, "no memory to fold evidence");
    n = values_of(f, named[which].part, list, &total);
    for (size_t i = 0; i < n; i++) {
        const struct value *v = &list[i];
        struct split split = { .op = INSIGHT_IS,
                               .feature = named[which].feature,
                               .text = v->text,
                               .len = v->len,
                               .side = { v->side,
                                         { total.side.n - v->side.n,
                                           total.side.effect_q - v->side.effect_q, 0 } } };
        struct signs signs = { { v->above, total.above - v->above },
                               { v->below, total.below - v->below } };

        try_split(split, &signs, best);
    }
    return 0;
}

/*
 * Squares of the deviations from each side's own mean. Points hold no squares: those of all pairs,
 * less what the sides' means explain, are shared out by number of pairs. Exact when every pair has
 * the feature, else too large, which is the careful side. Milli-units.
 */
static void spread_sides(const struct fold *f, struct insight_condition *c)
{
    uint64_t n = (uint64_t)c->side[0].n + c->side[1].n;
    double rest = (double)f->all.effect_sq_q;

    for (int i = 0; i < 2; i++) {
        double sum = (double)c->side[i].effect_q / 1000;

        rest -= sum * sum / c->side[i].n;
    }
    for (int i = 0; i < 2; i++)
        c->side[i].deviation_sq_q = rest > 0 ? (uint64_t)(rest * c->side[i].n / (double)n) : 0;
}

int fold_condition(const struct fold *f, struct names *names, struct insight_condition *out,
                   struct err *err)
{
    struct split best = { 0 };
    char text[INSIGHT_KEY_MAX];

    memset(out, 0, sizeof(*out));
    if (f->all.positive < SIDE_MIN || f->all.negative < SIDE_MIN)
        return 0; /* neither side could have three of its sign */
    for (size_t i = 0, end; i < f->n_points; i = end) {
        for (end = i + 1; end < f->n_points && f->points[end].feature == f->points[i].feature;)
            end++;
        split_feature(&f->points[i], &f->points[end], &best);
    }
    for (size_t which = 0; which < ARRAY_LEN(named); which++)
        if (split_named(f, which, &best, err) != 0)
            return -1;
    if (best.op == INSIGHT_ALWAYS)
        return 0;
    out->op = best.op;
    out->feature = (char *)names_keep(names, best.feature);
    out->value = best.value;
    out->helps = best.helps;
    memcpy(out->side, best.side, sizeof(out->side));
    if (best.text) {
        memcpy(text, best.text, best.len);
        text[best.len] = '\0';
        out->text = (char *)names_keep(names, text);
    }
    if (out->feature == NULL || (best.text && out->text == NULL))
        return err_set(err, ERR_NOMEM, "no memory to fold evidence");
    spread_sides(f, out);
    return 0;
}

char *fold_condition_text(const struct insight_condition *c)
{
    const char *here = c->helps ? "helps" : "hurts", *there = c->helps ? "hurts" : "helps";

    switch (c->op) {
    case INSIGHT_ALWAYS:
        return strdup("");
    case INSIGHT_AT_MOST:
        return str_printf("%s when %s <= %.10g, %s above; %u against %u measurements", here,
                          c->feature, c->value, there, c->side[0].n, c->side[1].n);
    case INSIGHT_IS:
        return str_printf("%s when %s is %s, %s elsewhere; %u against %u measurements", here,
                          c->feature, *c->text ? c->text : "empty", there, c->side[0].n,
                          c->side[1].n);
    }
    return NULL;
}
