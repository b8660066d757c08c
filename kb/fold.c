/* SPDX-License-Identifier: Apache-2.0 */
/* Folding of evidence; see fold.h. */
#include "fold.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { SIDE_MIN = 3 }; /* measurements on a side of a split */
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
    s->effect_q += e->effect_q;
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
    s->failures += more->failures;
    s->effect_q += more->effect_q;
    s->effect_sq_q += more->effect_sq_q;
    if (more->first_s != 0 && (s->first_s == 0 || more->first_s < s->first_s))
        s->first_s = more->first_s;
    s->last_s = MAX(s->last_s, more->last_s);
}

/* `key` is a kept name, so that equal keys are the same pointer. */
static struct insight_cell *cell_get(struct fold *f, const char *key, struct err *err)
{
    size_t low = 0, high = f->n_cells;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = f->cells[mid].key == key ? 0 : strcmp(f->cells[mid].key, key);

        if (order == 0)
            return &f->cells[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (GROW(f->cells, f->n_cells, f->cap_cells, err) != 0)
        return NULL;
    GAP(f->cells, f->n_cells, low);
    f->cells[low] = (struct insight_cell){ .key = (char *)key };
    f->n_cells++;
    return &f->cells[low];
}

static int add_cell(struct fold *f, struct names *names, const char *key, const struct evidence *e,
                    struct err *err)
{
    const char *kept = names_keep(names, key);
    struct insight_cell *cell;

    if (kept == NULL)
        return err_set(err, ERR_NOMEM, "no memory to fold evidence");
    cell = cell_get(f, kept, err);
    if (cell == NULL)
        return -1;
    sums_add_evidence(&cell->sums, e);
    return 0;
}

/* The cell class|shape|toolchain and its parents class|shape and class. */
static int add_cells(struct fold *f, struct names *names, const struct evidence *e, struct err *err)
{
    size_t class_len = strlen(e->device_class), shape_len = strlen(e->shape);
    size_t len = class_len + 1 + shape_len + 1 + strlen(e->toolchain);
    char key[CELL_KEY_MAX], *p = key;

    if (len >= sizeof(key))
        return err_set(err, ERR_INVALID, "the key of a cell has %zu bytes; at most %zu are allowed",
                       len, sizeof(key) - 1);
    p = stpcpy(p, e->device_class);
    if (add_cell(f, names, key, e, err) != 0)
        return -1;
    *p++ = '|';
    p = stpcpy(p, e->shape);
    if (add_cell(f, names, key, e, err) != 0)
        return -1;
    *p++ = '|';
    stpcpy(p, e->toolchain);
    return add_cell(f, names, key, e, err);
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
                                .below = e->effect_q < 0 };

        if (p.feature == NULL)
            return err_set(err, ERR_NOMEM, "no memory to fold evidence");
        if (add_point(f, &p, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- Folds ---- */

static int add_id(struct fold *f, const struct id *id, struct err *err)
{
    size_t low = 0, high = f->n_evidence;

    if (GROW(f->evidence, f->n_evidence, f->cap_evidence, err) != 0)
        return -1;
    if (high > 0 && strcmp(f->evidence[high - 1].hex, id->hex) < 0)
        low = high; /* in id order, as when the store is read */
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (strcmp(f->evidence[mid].hex, id->hex) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    GAP(f->evidence, f->n_evidence, low);
    f->evidence[low] = *id;
    f->n_evidence++;
    return 0;
}

int fold_add(struct fold *f, struct names *names, const struct id *id, const struct evidence *e,
             struct err *err)
{
    if (add_id(f, id, err) != 0 || add_cells(f, names, e, err) != 0 ||
        add_points(f, names, e, err) != 0)
        return -1;
    sums_add_evidence(&f->all, e);
    return 0;
}

int fold_merge(struct fold *f, const struct fold *from, struct err *err)
{
    for (size_t i = 0; i < from->n_evidence; i++)
        if (add_id(f, &from->evidence[i], err) != 0)
            return -1;
    for (size_t i = 0; i < from->n_cells; i++) {
        struct insight_cell *cell = cell_get(f, from->cells[i].key, err);

        if (cell == NULL)
            return -1;
        sums_add(&cell->sums, &from->cells[i].sums);
    }
    for (size_t i = 0; i < from->n_points; i++)
        if (add_point(f, &from->points[i], err) != 0)
            return -1;
    sums_add(&f->all, &from->all);
    return 0;
}

void fold_release(struct fold *f)
{
    free(f->cells);
    free(f->points);
    free(f->evidence);
    memset(f, 0, sizeof(*f));
}

/* ---- The learned condition ---- */

/* A threshold of a feature: values <= it against values above. */
struct split {
    const char *feature;
    double threshold;
    uint64_t right;     /* measurements on the side that fits their sign */
    uint64_t low, high; /* measurements on either side */
    bool helps_low;
};

/* Whether each side has at least three measurements, three quarters of them with the side's sign:
 * `low` of one sign against low_not on one side, `high` of the other against high_not beyond. */
static bool separates(uint64_t low, uint64_t low_not, uint64_t high_not, uint64_t high)
{
    uint64_t low_n = low + low_not, high_n = high + high_not;

    return low_n >= SIDE_MIN && high_n >= SIDE_MIN && low * 4 >= low_n * 3 &&
           high * 4 >= high_n * 3;
}

/* Tries every threshold of the feature whose points are [first, end). */
static void split_feature(const struct fold_point *first, const struct fold_point *end,
                          struct split *best)
{
    uint64_t above = 0, below = 0, low_above = 0, low_below = 0;

    for (const struct fold_point *p = first; p < end; p++) {
        above += p->above;
        below += p->below;
    }
    for (const struct fold_point *p = first; p + 1 < end; p++) {
        uint64_t high_above, high_below;

        low_above += p->above;
        low_below += p->below;
        high_above = above - low_above;
        high_below = below - low_below;
        if (separates(low_above, low_below, high_above, high_below) &&
            low_above + high_below > best->right)
            *best = (struct split){ p->feature,
                                    p->value,
                                    low_above + high_below,
                                    low_above + low_below,
                                    high_above + high_below,
                                    true };
        if (separates(low_below, low_above, high_below, high_above) &&
            low_below + high_above > best->right)
            *best = (struct split){ p->feature,
                                    p->value,
                                    low_below + high_above,
                                    low_above + low_below,
                                    high_above + high_below,
                                    false };
    }
}

static struct split split_best(const struct fold *f)
{
    struct split best = { 0 };

    for (size_t i = 0, end; i < f->n_points; i = end) {
        for (end = i + 1; end < f->n_points && f->points[end].feature == f->points[i].feature;)
            end++;
        split_feature(&f->points[i], &f->points[end], &best);
    }
    return best;
}

char *fold_condition(const struct fold *f)
{
    struct split s = split_best(f);

    if (s.feature == NULL)
        return strdup("");
    return str_printf("%s when %s <= %.10g, %s above; %ju against %ju measurements",
                      s.helps_low ? "helps" : "hurts", s.feature, s.threshold,
                      s.helps_low ? "hurts" : "helps", (uintmax_t)s.low, (uintmax_t)s.high);
}
