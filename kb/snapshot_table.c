/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of insights in the snapshot; see snapshot_table.h. The arrays of all folds stand one
 * after the other in a section each; an entry is its struct, with places in those sections where it
 * has pointers. The arrays stay in the memory of the file: their capacity 0 says that they are
 * lent.
 */
#include "snapshot_table.h"

#include <string.h>

#include "base/mem.h"
#include "text.h"

enum { CLAIM_TEXTS = 11 };

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for a snapshot of insights");
}

static int damaged(const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "its %s do not fit together", what);
}

uint64_t snapshot_table_layout(void)
{
    static const size_t parts[] = {
        sizeof(struct table_entry),
        offsetof(struct table_entry, in.claim),
        offsetof(struct table_entry, in.seq),
        offsetof(struct table_entry, in.state),
        offsetof(struct table_entry, in.all),
        offsetof(struct table_entry, in.when),
        offsetof(struct table_entry, in.condition),
        offsetof(struct table_entry, in.contradicted),
        offsetof(struct table_entry, in.ordinal),
        offsetof(struct table_entry, present),
        offsetof(struct table_entry, retracted),
        offsetof(struct table_entry, own),
        offsetof(struct table_entry, parent),
        offsetof(struct table_entry, block),
        sizeof(struct fold),
        offsetof(struct fold, cells),
        offsetof(struct fold, foreign),
        offsetof(struct fold, points),
        offsetof(struct fold, failures),
        offsetof(struct fold, evidence),
        sizeof(struct insight_sums),
        offsetof(struct insight_sums, effect_q),
        offsetof(struct insight_sums, first_s),
        sizeof(struct insight_condition),
        offsetof(struct insight_condition, side),
        sizeof(struct insight_cell),
        sizeof(struct insight_failure),
        offsetof(struct insight_failure, newest),
        sizeof(struct fold_point),
        offsetof(struct fold_point, effect_q),
        sizeof(struct claim),
    };
    uint64_t h = ARRAY_LEN(parts);

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        h = text_hash_pair(h, parts[i]);
    return h;
}

static void claim_texts(struct claim *c, char **out[CLAIM_TEXTS])
{
    char **texts[CLAIM_TEXTS] = { &c->technique, &c->statement,  &c->mechanism,    &c->family,
                                  &c->dtype,     &c->language,   &c->bottleneck,   &c->requires,
                                  &c->param,     &c->with_value, &c->without_value };

    memcpy(out, texts, sizeof(texts));
}

/* ---- Writing ---- */

/* A kept name and its number. */
struct numbered {
    const char *name;
    uintptr_t number;
};

struct put {
    struct snap_writer *w;
    const struct table *t;
    size_t n;                     /* entries */
    const struct table_entry **v; /* in id order */
    struct numbered *names;       /* by address */
    /* Where the next entry's arrays begin. */
    uintptr_t texts, ids, cells, points, failures;
};

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct numbered *)a)->name;
    uintptr_t y = (uintptr_t)((const struct numbered *)b)->name;

    return x < y ? -1 : x > y;
}

/* Number of a kept name plus 1; 0 for NULL. */
static void *name_place(const struct put *p, const char *name)
{
    struct numbered key = { .name = name };
    const struct numbered *found =
        name ? bsearch(&key, p->names, p->t->names.n, sizeof(key), by_address) : NULL;

    return found ? (void *)(found->number + 1) : NULL;
}

static int by_id(const void *key, const void *element)
{
    const struct table_entry *a = key, *b = *(struct table_entry *const *)element;

    return strcmp(a->in.id.hex, b->in.id.hex);
}

static void *entry_place(const struct put *p, const struct table_entry *e, size_t self)
{
    const struct table_entry **found;

    if (e == p->v[self])
        return (void *)(uintptr_t)self;
    found = bsearch(e, p->v, p->n, sizeof(*p->v), by_id);
    return (void *)(uintptr_t)(found - p->v);
}

static void put_text(struct put *p, const char *text)
{
    if (text != NULL && text[0] != '\0')
        snap_put(p->w, text, strlen(text) + 1);
}

/* The place of a text in SNAP_TEXTS; "" stands at 0. */
static void *text_place(struct put *p, const char *text)
{
    uintptr_t at = p->texts;

    if (text == NULL || text[0] == '\0')
        return (void *)(uintptr_t)0;
    p->texts += strlen(text) + 1;
    return (void *)at;
}

static void put_texts(struct put *p)
{
    snap_begin(p->w, SNAP_TEXTS);
    snap_put(p->w, "", 1);
    for (size_t i = 0; i < p->n; i++) {
        struct claim c = p->v[i]->in.claim;
        char **texts[CLAIM_TEXTS];

        claim_texts(&c, texts);
        for (size_t k = 0; k < CLAIM_TEXTS; k++)
            put_text(p, *texts[k]);
        put_text(p, p->v[i]->in.condition);
    }
}

static void put_cells(struct put *p, const struct fold_cells *cells)
{
    for (size_t i = 0; i < cells->n; i++) {
        struct insight_cell cell = cells->v[i];

        cell.key = name_place(p, cell.key);
        snap_put(p->w, &cell, sizeof(cell));
    }
}

static void put_points(struct put *p, const struct fold *f)
{
    for (size_t i = 0; i < f->n_points; i++) {
        struct fold_point point = f->points[i];

        point.feature = name_place(p, point.feature);
        snap_put(p->w, &point, sizeof(point));
    }
}

static void put_failures(struct put *p, const struct fold *f)
{
    for (size_t i = 0; i < f->n_failures; i++) {
        struct insight_failure failure = f->failures[i];

        failure.class = name_place(p, failure.class);
        snap_put(p->w, &failure, sizeof(failure));
    }
}

/* Capacity 0: lent. */
static void place_cells(struct fold_cells *cells, uintptr_t *at)
{
    cells->v = (void *)*at;
    cells->cap = 0;
    *at += cells->n;
}

static void place_fold(struct put *p, struct fold *f)
{
    place_cells(&f->cells, &p->cells);
    place_cells(&f->foreign, &p->cells);
    f->points = (void *)p->points;
    f->failures = (void *)p->failures;
    f->evidence = (void *)p->ids;
    f->cap_points = f->cap_failures = f->cap_evidence = 0;
    p->points += f->n_points;
    p->failures += f->n_failures;
    p->ids += f->n_evidence;
}

static void put_entry(struct put *p, size_t i)
{
    struct table_entry e = *p->v[i];
    char **texts[CLAIM_TEXTS];

    claim_texts(&e.in.claim, texts);
    for (size_t k = 0; k < CLAIM_TEXTS; k++)
        *texts[k] = text_place(p, *texts[k]);
    e.in.condition = text_place(p, e.in.condition);
    e.in.when.feature = name_place(p, e.in.when.feature);
    e.in.when.text = name_place(p, e.in.when.text);
    e.in.cells = e.in.foreign = NULL;
    e.in.failures = NULL;
    e.in.evidence = NULL;
    place_fold(p, &e.own);
    e.parent = entry_place(p, e.parent, i);
    e.next = entry_place(p, e.next, i);
    e.text = NULL;
    e.merged = NULL;
    e.next_dirty = e.older = NULL;
    e.embedding = NULL;
    e.lent = true;
    snap_put(p->w, &e, sizeof(e));
}

static void put_folds(struct put *p)
{
    snap_begin(p->w, SNAP_IDS);
    for (size_t i = 0; i < p->n; i++)
        snap_put(p->w, p->v[i]->own.evidence, p->v[i]->own.n_evidence * sizeof(struct id));
    snap_begin(p->w, SNAP_CELLS);
    for (size_t i = 0; i < p->n; i++) {
        put_cells(p, &p->v[i]->own.cells);
        put_cells(p, &p->v[i]->own.foreign);
    }
    snap_begin(p->w, SNAP_POINTS);
    for (size_t i = 0; i < p->n; i++)
        put_points(p, &p->v[i]->own);
    snap_begin(p->w, SNAP_FAILURES);
    for (size_t i = 0; i < p->n; i++)
        put_failures(p, &p->v[i]->own);
}

static void put_rest(struct put *p)
{
    struct idmap_at at = { 0 };
    const struct id *id;

    snap_begin(p->w, SNAP_NAMES);
    for (size_t i = 0; i < p->t->names.n; i++)
        snap_put(p->w, p->t->names.items[i], strlen(p->t->names.items[i]) + 1);
    snap_begin(p->w, SNAP_ENTRIES);
    p->texts = 1;
    for (size_t i = 0; i < p->n; i++)
        put_entry(p, i);
    snap_begin(p->w, SNAP_WITHDRAWN);
    while ((id = idmap_next(&p->t->withdrawn, &at)) != NULL)
        snap_put(p->w, id, sizeof(*id));
}

int snapshot_table_put(struct snap_writer *w, const struct table *t, struct err *err)
{
    CLEANUP(freep)
    const struct table_entry **v = malloc(MAX(t->entries.count, (size_t)1) * sizeof(*v));
    CLEANUP(freep) struct numbered *names = malloc(MAX(t->names.n, (size_t)1) * sizeof(*names));
    struct put p = { .w = w, .t = t, .v = v, .names = names };
    struct idmap_at at = { 0 };

    if (v == NULL || names == NULL)
        return no_memory(err);
    while (p.n < t->entries.count && (v[p.n] = idmap_next(&t->entries, &at)) != NULL)
        p.n++;
    for (size_t i = 0; i < t->names.n; i++)
        names[i] = (struct numbered){ t->names.items[i], i };
    if (t->names.n > 0)
        qsort(names, t->names.n, sizeof(*names), by_address);
    put_texts(&p);
    put_folds(&p);
    put_rest(&p);
    return 0;
}

/* ---- Reading ---- */

struct take {
    struct table *t;
    char *texts;
    struct id *ids;
    struct insight_cell *cells;
    struct fold_point *points;
    struct insight_failure *failures;
    struct table_entry *entries;
    size_t n_texts, n_ids, n_cells, n_points, n_failures, n;
};

static int take_names(const struct snap *s, struct names *names, struct err *err)
{
    size_t n, len;
    const char *at = snap_elements(s, SNAP_NAMES, 1, &n, err), *end = at + n;

    if (at == NULL)
        return -1;
    if (n > 0 && end[-1] != '\0')
        return damaged("names", err);
    for (; at < end; at += len + 1) {
        size_t before = names->n;

        len = strlen(at);
        if (names_keep(names, at) == NULL)
            return no_memory(err);
        if (names->n == before || strcmp(names->items[before], at) != 0)
            return damaged("names", err); /* not sorted: numbers would mean others */
    }
    return 0;
}

/* What name_place wrote. */
static bool take_name(const struct take *k, void *place, bool may_be_none, const char **out)
{
    uintptr_t number = (uintptr_t)place;

    if (number > k->t->names.n || (number == 0 && !may_be_none))
        return false;
    *out = number > 0 ? k->t->names.items[number - 1] : NULL;
    return true;
}

static int take_all_names(const struct take *k, struct err *err)
{
    bool ok = true;
    const char *name = NULL;

    for (size_t i = 0; i < k->n_cells && ok; i++) {
        ok = take_name(k, k->cells[i].key, false, &name);
        k->cells[i].key = (char *)name;
    }
    for (size_t i = 0; i < k->n_points && ok; i++) {
        ok = take_name(k, (void *)(uintptr_t)k->points[i].feature, false, &name);
        k->points[i].feature = name;
    }
    for (size_t i = 0; i < k->n_failures && ok; i++) {
        ok = take_name(k, k->failures[i].class, false, &name);
        k->failures[i].class = (char *)name;
    }
    return ok ? 0 : damaged("names", err);
}

static bool in_range(uintptr_t from, size_t n, size_t all)
{
    return from <= all && n <= all - from;
}

static bool take_cells(const struct take *k, struct fold_cells *cells)
{
    uintptr_t from = (uintptr_t)cells->v;

    cells->v = k->cells + from;
    return cells->cap == 0 && in_range(from, cells->n, k->n_cells);
}

static bool take_fold(const struct take *k, struct fold *f)
{
    uintptr_t points = (uintptr_t)f->points, failures = (uintptr_t)f->failures;
    uintptr_t ids = (uintptr_t)f->evidence;

    f->points = k->points + points;
    f->failures = k->failures + failures;
    f->evidence = k->ids + ids;
    return f->cap_points == 0 && f->cap_failures == 0 && f->cap_evidence == 0 &&
           in_range(points, f->n_points, k->n_points) &&
           in_range(failures, f->n_failures, k->n_failures) &&
           in_range(ids, f->n_evidence, k->n_ids) && take_cells(k, &f->cells) &&
           take_cells(k, &f->foreign);
}

static bool take_text(const struct take *k, char **text)
{
    uintptr_t at = (uintptr_t)*text;

    *text = k->texts + at;
    return at < k->n_texts;
}

/* Another entry of the set. */
static bool take_entry_place(const struct take *k, struct table_entry **e)
{
    uintptr_t at = (uintptr_t)*e;

    *e = k->entries + at;
    return at < k->n;
}

static bool take_claim(const struct take *k, struct insight *in)
{
    char **texts[CLAIM_TEXTS];
    const char *feature = NULL, *text = NULL;
    bool ok = take_text(k, &in->condition) && take_name(k, in->when.feature, true, &feature) &&
              take_name(k, in->when.text, true, &text);

    claim_texts(&in->claim, texts);
    for (size_t i = 0; i < CLAIM_TEXTS && ok; i++)
        ok = take_text(k, texts[i]);
    if (!ok)
        return false;
    in->when.feature = (char *)feature;
    in->when.text = (char *)text;
    return in->state >= 0 && in->state < INSIGHT_STATE_COUNT;
}

static bool take_entry(struct take *k, size_t i)
{
    struct table_entry *e = &k->entries[i];

    if (!e->lent || e->dirty || strnlen(e->in.id.hex, ID_HEX + 1) != ID_HEX ||
        (i > 0 && strcmp(k->entries[i - 1].in.id.hex, e->in.id.hex) >= 0) ||
        !take_claim(k, &e->in) || !take_fold(k, &e->own) || !take_entry_place(k, &e->parent) ||
        !take_entry_place(k, &e->next))
        return false;
    fold_lend(&e->own, &e->in);
    if (!e->present)
        return true;
    if (e->in.ordinal >= k->t->n || k->t->by_ordinal[e->in.ordinal] != NULL)
        return false;
    k->t->by_ordinal[e->in.ordinal] = e;
    return true;
}

static int take_ordinals(struct take *k, struct err *err)
{
    size_t n = 0;

    for (size_t i = 0; i < k->n; i++)
        n += k->entries[i].present;
    k->t->by_ordinal = calloc(MAX(n, (size_t)1), sizeof(struct table_entry *));
    if (k->t->by_ordinal == NULL)
        return no_memory(err);
    k->t->n = k->t->n_compared = n;
    k->t->cap = MAX(n, (size_t)1);
    return 0;
}

/* Sets of several are shown by table_settle: their sums are not in the file. */
static void mark_sets(struct take *k)
{
    for (size_t i = 0; i < k->n; i++) {
        struct table_entry *e = &k->entries[i];

        if (e->next == e)
            continue;
        e->dirty = true;
        e->next_dirty = k->t->dirty;
        k->t->dirty = e;
    }
}

/* Conditions are owned by the insight and replaced when it changes. */
static int own_conditions(struct take *k, struct err *err)
{
    bool ok = true;

    for (size_t i = 0; i < k->n; i++) {
        struct insight *in = &k->entries[i].in;

        in->condition = ok ? strdup(in->condition) : NULL;
        ok = ok && in->condition != NULL;
    }
    return ok ? 0 : no_memory(err);
}

static int take_withdrawn(const struct snap *s, struct table *t, struct err *err)
{
    size_t n;
    const struct id *ids = snap_elements(s, SNAP_WITHDRAWN, sizeof(*ids), &n, err);

    for (size_t i = 0; ids != NULL && i < n; i++) {
        struct id *copy = malloc(sizeof(*copy));

        if (copy == NULL)
            return no_memory(err);
        *copy = ids[i];
        if (strnlen(copy->hex, ID_HEX + 1) != ID_HEX || idmap_add(&t->withdrawn, copy, err) != 0) {
            free(copy);
            return err->code == ERR_NOMEM ? -1 : damaged("retractions", err);
        }
    }
    return ids != NULL ? 0 : -1;
}

static int take_sections(const struct snap *s, struct take *k, struct err *err)
{
    k->texts = snap_elements(s, SNAP_TEXTS, 1, &k->n_texts, err);
    k->ids = snap_elements(s, SNAP_IDS, sizeof(*k->ids), &k->n_ids, err);
    k->cells = snap_elements(s, SNAP_CELLS, sizeof(*k->cells), &k->n_cells, err);
    k->points = snap_elements(s, SNAP_POINTS, sizeof(*k->points), &k->n_points, err);
    k->failures = snap_elements(s, SNAP_FAILURES, sizeof(*k->failures), &k->n_failures, err);
    k->entries = snap_elements(s, SNAP_ENTRIES, sizeof(*k->entries), &k->n, err);
    if (k->texts == NULL || k->ids == NULL || k->cells == NULL || k->points == NULL ||
        k->failures == NULL || k->entries == NULL)
        return -1;
    return k->n_texts > 0 && k->texts[k->n_texts - 1] == '\0' ? 0 : damaged("texts", err);
}

int snapshot_table_take(struct snap *s, struct table *t, struct err *err)
{
    struct take k = { .t = t };

    if (take_sections(s, &k, err) != 0 || take_names(s, &t->names, err) != 0 ||
        take_all_names(&k, err) != 0 || take_ordinals(&k, err) != 0)
        return -1;
    for (size_t i = 0; i < k.n; i++)
        if (!take_entry(&k, i))
            return damaged("insights", err);
    if (take_withdrawn(s, t, err) != 0)
        return -1;
    t->lent = TAKE(s->data); /* from here on the table's */
    t->lent_len = s->body_len;
    if (own_conditions(&k, err) != 0 ||
        idmap_fill(&t->entries, k.entries, sizeof(*k.entries), k.n, err) != 0) {
        for (size_t i = 0; i < k.n; i++)
            free(k.entries[i].in.condition); /* the table does not know its entries */
        return -1;
    }
    mark_sets(&k);
    return 0;
}
