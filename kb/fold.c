/* SPDX-License-Identifier: Apache-2.0 */
/* Folding of evidence; see fold.h. */
#include "fold.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum {
    SIDE_MIN = 3,    /* measurements on a side of a split */
    SIGN_MIN = 3,    /* of either sign: fewer are no contradiction */
};
/* A class, a shape and a toolchain, as long as evidence may have them. */
enum { CELL_KEY_MAX = 96 + 2 * 1024 + 3 };

/* Room for one more element; keeps the array on failure. */
static int grow(void **items, size_t n, size_t *cap, size_t size, struct err *err)
{
    size_t want = *cap ? *cap * 2 : 2;
    void *p;

    if (n < *cap)
        return 0;
    p = realloc(*items, want * size);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory to fold evidence");
    *items = p;
    *cap = want;
    return 0;
}

#define GROW(array, n, cap, err) grow((void **)&(array), n, &(cap), sizeof(*(array)), err)

/* Opens a gap at `i` in an array of `n` elements that has room for one more. */
#define GAP(array, n, i) memmove(&(array)[(i) + 1], &(array)[i], ((n) - (i)) * sizeof(*(array)))

/* ---- Names ---- */

const char *names_keep(struct names *names, const char *name)
{
    size_t low = 0, high = names->n;
    struct err ignored;
    char *copy;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(names->items[mid], name);

        if (order == 0)
            return names->items[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (GROW(names->items, names->n, names->cap, &ignored) != 0)
        return NULL;
    copy = strdup(name);
    if (copy == NULL)
        return NULL;
    GAP(names->items, names->n, low);
    names->items[low] = copy;
    names->n++;
    return copy;
}

void names_release(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->items[i]);
    free(names->items);
    memset(names, 0, sizeof(*names));
}

/* ---- Sums ---- */

static void sums_add_evidence(struct insight_sums *s, const struct evidence *e)
{
    int64_t milli = e->effect_q / 1000;

    if (strcmp(e->kind, "pair") != 0) {
        s->failures++;
        return;
    }
    if (e->steered)
        s->steered++;
    else
        s->blind++;
    s->positive += e->effect_q > 0;
    s->negative += e->effect_q < 0;
    s->effect_q += e->effect_q;
    s->blind_q += e->steered ? 0 : e->effect_q;
    s->effect_sq_q += (uint64_t)(milli * milli);
    if (s->first_s == 0 || e->measured_at_s < s->first_s)
        s->first_s = e->measured_at_s;
    if (e->measured_at_s > s->last_s)
        s->last_s = e->measured_at_s;
}

static void sums_add(struct insight_sums *s, const struct insight_sums *more)
{
    s->blind += more->blind;
    s->steered += more->steered;
    s->positive += more->positive;
    s->negative += more->negative;
    s->failures += more->failures;
    s->effect_q += more->effect_q;
    s->blind_q += more->blind_q;
    s->effect_sq_q += more->effect_sq_q;
    if (more->first_s != 0 && (s->first_s == 0 || more->first_s < s->first_s))
        s->first_s = more->first_s;
    s->last_s = MAX(s->last_s, more->last_s);
}

/* `key` is a kept name, so that equal keys are the same pointer. */
static struct insight_cell *cell_get(struct fold_cells *cells, const char *key, struct err *err)
{
    size_t low = 0, high = cells->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = cells->v[mid].key == key ? 0 : strcmp(cells->v[mid].key, key);

        if (order == 0)
            return &cells->v[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (GROW(cells->v, cells->n, cells->cap, err) != 0)
        return NULL;
    GAP(cells->v, cells->n, low);
    cells->v[low] = (struct insight_cell){ .key = (char *)key };
    cells->n++;
    return &cells->v[low];
}

static int merge_cells(struct fold_cells *to, const struct fold_cells *from, struct err *err)
{
    for (size_t i = 0; i < from->n; i++) {
        struct insight_cell *cell = cell_get(to, from->v[i].key, err);

        if (cell == NULL)
            return -1;
        sums_add(&cell->sums, &from->v[i].sums);
    }
    return 0;
}

/* What is to be done with each cell that a piece of evidence belongs to. */
typedef int cell_visit(struct fold *f, const char *key, const struct evidence *e, struct err *err);

/* Calls fn for "", class, class|shape and class|shape|toolchain: kept names. */
static int each_cell(struct fold *f, struct names *names, const struct evidence *e, cell_visit *fn,
                     struct err *err)
{
    const char *parts[] = { e->device_class, e->shape, e->toolchain };
    char key[CELL_KEY_MAX] = "";
    size_t len = 0;

    for (size_t level = 0; level <= ARRAY_LEN(parts); level++) {
        const char *kept = names_keep(names, key);
        int n;

        if (kept == NULL)
            return err_set(err, ERR_NOMEM, "no memory to fold evidence");
        if (fn(f, kept, e, err) != 0)
            return -1;
        if (level == ARRAY_LEN(parts))
            break;
        n = snprintf(key + len, sizeof(key) - len, "%s%s", level ? "|" : "", parts[level]);
        len += (size_t)n;
        if (len >= sizeof(key))
            return err_set(err, ERR_INVALID,
                           "the key of a cell has %zu bytes; at most %zu are allowed", len,
                           sizeof(key) - 1);
    }
    return 0;
}

static int add_cell(struct fold *f, const char *key, const struct evidence *e, struct err *err)
{
    struct insight_cell *cell;

    if (e->foreign) {
        cell = cell_get(&f->foreign, key, err);
        if (cell == NULL)
            return -1;
        sums_add_evidence(&cell->sums, e);
    }
    if (*key == '\0') {
        sums_add_evidence(&f->all, e);
        return 0;
    }
    cell = cell_get(&f->cells, key, err);
    if (cell == NULL)
        return -1;
    sums_add_evidence(&cell->sums, e);
    return 0;
}

/* ---- Points ---- */

static int point_order(const struct fold_point *p, const char *feature, double value)
{
    int order = p->feature == feature ? 0 : strcmp(p->feature, feature);

    if (order != 0)
        return order;
    return p->value < value ? -1 : p->value > value;
}

static int add_point(struct fold *f, const struct fold_point *more, struct err *err)
{
    size_t low = 0, high = f->n_points;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (point_order(&f->points[mid], more->feature, more->value) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == f->n_points || point_order(&f->points[low], more->feature, more->value) != 0) {
        if (GROW(f->points, f->n_points, f->cap_points, err) != 0)
            return -1;
        GAP(f->points, f->n_points, low);
        f->points[low] = (struct fold_point){ .feature = more->feature, .value = more->value };
        f->n_points++;
    }
    f->points[low].above += more->above;
    f->points[low].below += more->below;
    f->points[low].effect_q += more->effect_q;
    return 0;
}

static int add_points(struct fold *f, struct names *names, const struct evidence *e,
                      struct err *err)
{
    const char *name;
    json_t *v;

    if (e->effect_q == 0)
        return 0; /* a failure, or a pair without a sign */
    json_object_foreach (e->features, name, v) {
        struct fold_point p = { .feature = names_keep(names, name),
                                .value = json_number_value(v) + 0.0, /* -0 becomes 0 */
                                .above = e->effect_q > 0,
                                .below = e->effect_q < 0,
                                .effect_q = e->effect_q };

        if (p.feature == NULL)
            return err_set(err, ERR_NOMEM, "no memory to fold evidence");
        if (add_point(f, &p, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- Failures ---- */

static int add_failure(struct fold *f, const struct insight_failure *more, struct err *err)
{
    struct insight_failure *found;
    size_t i = 0;

    while (i < f->n_failures && strcmp(f->failures[i].class, more->class) < 0)
        i++;
    if (i == f->n_failures || strcmp(f->failures[i].class, more->class) != 0) {
        if (GROW(f->failures, f->n_failures, f->cap_failures, err) != 0)
            return -1;
        GAP(f->failures, f->n_failures, i);
        f->failures[i] = *more;
        f->n_failures++;
        return 0;
    }
    found = &f->failures[i];
    found->n += more->n;
    if (more->newest_s > found->newest_s ||
        (more->newest_s == found->newest_s &&
         strcmp(more->newest.hex, found->newest.hex) < 0)) {
        found->newest_s = more->newest_s;
        found->newest = more->newest;
    }
    return 0;
}

static int add_failed(struct fold *f, struct names *names, const struct id *id,
                      const struct evidence *e, struct err *err)
{
    struct insight_failure one = { .n = 1, .newest_s = e->measured_at_s, .newest = *id };

    if (strcmp(e->kind, "pair") == 0)
        return 0;
    one.class = (char *)names_keep(names, e->failure);
    if (one.class == NULL)
        return err_set(err, ERR_NOMEM, "no memory to fold evidence");
    return add_failure(f, &one, err);
}

/* ---- Folds ---- */

/* Where the id is in the list, or belongs. */
static size_t find_id(const struct fold *f, const struct id *id)
{
    size_t low = 0, high = f->n_evidence;

    if (high > 0 && strcmp(f->evidence[high - 1].hex, id->hex) < 0)
        low = high; /* in id order, as when the store is read */
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (strcmp(f->evidence[mid].hex, id->hex) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool fold_has(const struct fold *f, const struct id *id)
{
    size_t i = find_id(f, id);

    return i < f->n_evidence && strcmp(f->evidence[i].hex, id->hex) == 0;
}

static int add_id(struct fold *f, const struct id *id, struct err *err)
{
    size_t i = find_id(f, id);

    if (GROW(f->evidence, f->n_evidence, f->cap_evidence, err) != 0)
        return -1;
    GAP(f->evidence, f->n_evidence, i);
    f->evidence[i] = *id;
    f->n_evidence++;
    return 0;
}

int fold_add(struct fold *f, struct names *names, const struct id *id, const struct evidence *e,
             struct err *err)
{
    if (add_id(f, id, err) != 0 || each_cell(f, names, e, add_cell, err) != 0 ||
        add_points(f, names, e, err) != 0)
        return -1;
    return add_failed(f, names, id, e, err);
}

int fold_merge(struct fold *f, const struct fold *from, struct err *err)
{
    for (size_t i = 0; i < from->n_evidence; i++)
        if (add_id(f, &from->evidence[i], err) != 0)
            return -1;
    if (merge_cells(&f->cells, &from->cells, err) != 0 ||
        merge_cells(&f->foreign, &from->foreign, err) != 0)
        return -1;
    for (size_t i = 0; i < from->n_points; i++)
        if (add_point(f, &from->points[i], err) != 0)
            return -1;
    for (size_t i = 0; i < from->n_failures; i++)
        if (add_failure(f, &from->failures[i], err) != 0)
            return -1;
    sums_add(&f->all, &from->all);
    return 0;
}

/* Times of foreign sums are not kept: nothing reads them, and they cannot be taken back. */
static int adopt_cell(struct fold *f, const char *key, const struct evidence *e, struct err *err)
{
    struct insight_cell *cell = cell_get(&f->foreign, key, err);
    struct insight_sums one = { 0 }, *s;

    if (cell == NULL)
        return -1;
    s = &cell->sums;
    sums_add_evidence(&one, e);
    s->blind -= one.blind;
    s->steered -= one.steered;
    s->positive -= one.positive;
    s->negative -= one.negative;
    s->failures -= one.failures;
    s->effect_q -= one.effect_q;
    s->blind_q -= one.blind_q;
    s->effect_sq_q -= one.effect_sq_q;
    return 0;
}

int fold_adopt(struct fold *f, struct names *names, const struct evidence *e, struct err *err)
{
    return each_cell(f, names, e, adopt_cell, err);
}

void fold_release(struct fold *f)
{
    free(f->cells.v);
    free(f->foreign.v);
    free(f->points);
    free(f->failures);
    free(f->evidence);
    memset(f, 0, sizeof(*f));
}

/* ---- The learned condition ---- */

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

static bool same_text(const char *x, size_t n, const char *y, size_t m)
{
    return n == m && memcmp(x, y, n) == 0;
}

/* One value of a part against the rest. Cells with just that many parts hold each pair once. */
static void split_value(const struct fold *f, size_t which, const char *text, size_t len,
                        struct split *best)
{
    struct split split = {
        .op = INSIGHT_IS, .feature = named[which].feature, .text = text, .len = len
    };
    struct signs s = { 0 };

    for (size_t i = 0; i < f->cells.n; i++) {
        const struct insight_cell *cell = &f->cells.v[i];
        const char *part;
        size_t part_len;
        int at;

        if (!key_part(cell->key, named[which].part + 1, named[which].part, &part, &part_len))
            continue;
        at = !same_text(part, part_len, text, len);
        s.above[at] += cell->sums.positive;
        s.below[at] += cell->sums.negative;
        split.side[at].n += cell->sums.blind + cell->sums.steered;
        split.side[at].effect_q += cell->sums.effect_q;
    }
    try_split(split, &s, best);
}

/* Every value of the part, the smallest first: keys are sorted, but by their first part. */
static void split_named(const struct fold *f, size_t which, struct split *best)
{
    for (size_t i = 0; i < f->cells.n; i++) {
        struct split here = { .right = best->right };
        const char *part;
        size_t len;

        if (!key_part(f->cells.v[i].key, named[which].part + 1, named[which].part, &part, &len))
            continue;
        split_value(f, which, part, len, &here);
        if (here.op != INSIGHT_ALWAYS)
            *best = here;
        else if (best->op == INSIGHT_IS && best->feature == named[which].feature) {
            /* As good as the best: the smaller text wins. */
            size_t common = MIN(len, best->len);
            int order = memcmp(part, best->text, common);

            if (order > 0 || (order == 0 && len >= best->len))
                continue;
            here.right = best->right - 1;
            split_value(f, which, part, len, &here);
            if (here.op != INSIGHT_ALWAYS)
                *best = here;
        }
    }
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
    char text[CELL_KEY_MAX];

    memset(out, 0, sizeof(*out));
    if (f->all.positive < SIDE_MIN || f->all.negative < SIDE_MIN)
        return 0; /* neither side could have three of its sign */
    for (size_t i = 0, end; i < f->n_points; i = end) {
        for (end = i + 1; end < f->n_points && f->points[end].feature == f->points[i].feature;)
            end++;
        split_feature(&f->points[i], &f->points[end], &best);
    }
    for (size_t which = 0; which < ARRAY_LEN(named); which++)
        split_named(f, which, &best);
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

/* ---- What callers see ---- */

void fold_lend(const struct fold *f, struct insight *in)
{
    in->all = f->all;
    in->n_cells = f->cells.n;
    in->cells = f->cells.v;
    in->n_foreign = f->foreign.n;
    in->foreign = f->foreign.v;
    in->n_failures = f->n_failures;
    in->failures = f->failures;
    in->n_evidence = f->n_evidence;
    in->evidence = f->evidence;
}

int fold_show(const struct fold *f, struct names *names, struct insight *in, struct err *err)
{
    struct insight_condition when;
    char *text;

    if (fold_condition(f, names, &when, err) != 0)
        return -1;
    text = fold_condition_text(&when);
    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    free(in->condition);
    in->condition = text;
    in->when = when;
    in->contradicted =
        when.op == INSIGHT_ALWAYS && f->all.positive >= SIGN_MIN && f->all.negative >= SIGN_MIN;
    fold_lend(f, in);
    return 0;
}
