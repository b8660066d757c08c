/* SPDX-License-Identifier: Apache-2.0 */
/* Folding of evidence; see fold.h. */
#include "fold.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { SIGN_MIN = 3 }; /* pairs of either sign: fewer are no contradiction */

/* Room for one more element; keeps the array on failure. Capacity 0: nothing, or lent. */
static int grow(void **items, size_t n, size_t *cap, size_t size, struct err *err)
{
    size_t want = *cap ? *cap * 2 : n + 2;
    void *p;

    if (n < *cap)
        return 0;
    p = realloc(*cap ? *items : NULL, want * size);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory to fold evidence");
    if (*cap == 0 && n > 0)
        memcpy(p, *items, n * size);
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
    char key[INSIGHT_KEY_MAX] = "";
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
        (more->newest_s == found->newest_s && strcmp(more->newest.hex, found->newest.hex) < 0)) {
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

static void free_owned(void *items, size_t cap)
{
    if (cap > 0)
        free(items);
}

void fold_release(struct fold *f)
{
    free_owned(f->cells.v, f->cells.cap);
    free_owned(f->foreign.v, f->foreign.cap);
    free_owned(f->points, f->cap_points);
    free_owned(f->failures, f->cap_failures);
    free_owned(f->evidence, f->cap_evidence);
    memset(f, 0, sizeof(*f));
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
