/* SPDX-License-Identifier: Apache-2.0 */
/* The fold of facts into insights; see table.h for its invariants. */
#include "table.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "record_text.h"
#include "snapfile.h"
#include "vocab.h"

enum { ENTRY_BITS = 12, WITHDRAWN_BITS = 4 };

static void entry_free(void *value)
{
    struct table_entry *e = value;

    free(e->text);
    free(e->in.condition);
    fold_release(&e->own);
    if (e->merged)
        fold_release(e->merged);
    free(e->merged);
    free(e->embedding);
    if (!e->lent)
        free(e);
}

int table_init(struct table *t, table_fetch *fetch, void *ctx, struct err *err)
{
    memset(t, 0, sizeof(*t));
    t->fetch = fetch;
    t->fetch_ctx = ctx;
    if (vocab_init(err) != 0 || idmap_init(&t->entries, ENTRY_BITS, err) != 0 ||
        idmap_init(&t->withdrawn, WITHDRAWN_BITS, err) != 0) {
        table_release(t);
        return -1;
    }
    t->alike = alike_new();
    if (t->alike == NULL) {
        table_release(t);
        return err_set(err, ERR_NOMEM, "no memory for insights");
    }
    return 0;
}

void table_release(struct table *t)
{
    idmap_release(&t->entries, entry_free);
    idmap_release(&t->withdrawn, free);
    names_release(&t->names);
    free(t->by_ordinal);
    blocks_release(&t->blocks);
    alike_free(t->alike);
    snap_data_free(t->lent, t->lent_len);
    memset(t, 0, sizeof(*t));
}

/* The entry of a claim id, made when it is new. NULL when memory is out. */
static struct table_entry *entry_of(struct table *t, const struct id *id, struct err *err)
{
    struct table_entry *e = idmap_get(&t->entries, id);

    if (e)
        return e;
    e = calloc(1, sizeof(*e));
    if (e == NULL) {
        err_set(err, ERR_NOMEM, "no memory for an insight");
        return NULL;
    }
    e->in.id = *id;
    e->parent = e->next = e;
    if (idmap_add(&t->entries, e, err) != 0) {
        entry_free(e);
        return NULL;
    }
    return e;
}

static void mark(struct table *t, struct table_entry *e)
{
    if (e->dirty)
        return;
    e->dirty = true;
    e->next_dirty = t->dirty;
    t->dirty = e;
}

/* ---- Facts ---- */

static int number(struct table *t, struct table_entry *e, struct err *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct table_entry **list = realloc(t->by_ordinal, cap * sizeof(struct table_entry *));

        if (list == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %zu insights", cap);
        t->by_ordinal = list;
        t->cap = cap;
    }
    e->in.ordinal = (uint32_t)t->n;
    t->by_ordinal[t->n++] = e;
    return 0;
}

int table_add_claim(struct table *t, const struct id *id, const struct fact_head *head,
                    const char *text, size_t len, struct err *err)
{
    CLEANUP(freep) char *copy = malloc(len + 1);
    struct table_entry *e;
    struct claim c;

    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (claim_view(copy, len, &c, err) != 0)
        return -1;
    e = entry_of(t, id, err);
    if (e == NULL || number(t, e, err) != 0)
        return -1;
    assert(!e->present);
    e->text = TAKE(copy);
    e->in.claim = c;
    e->in.seq = head->seq;
    e->in.recorded_at_ns = head->recorded_at_ns;
    e->present = true;
    mark(t, e);
    return 0;
}

int table_add_evidence(struct table *t, const struct id *id, const struct evidence *e,
                       struct err *err)
{
    struct table_entry *entry;

    if (idmap_get(&t->withdrawn, id))
        return 0;
    entry = entry_of(t, &e->claim, err);
    if (entry == NULL || fold_add(&entry->own, &t->names, id, e, err) != 0)
        return -1;
    mark(t, entry);
    return 0;
}

/* Folds the entry's evidence anew, without the piece that was withdrawn. */
static int refold(struct table *t, struct table_entry *e, const struct id *without, struct err *err)
{
    struct fold old = e->own;
    int rc = 0;

    memset(&e->own, 0, sizeof(e->own));
    for (size_t i = 0; rc == 0 && i < old.n_evidence; i++) {
        struct evidence ev;

        if (strcmp(old.evidence[i].hex, without->hex) == 0)
            continue;
        rc = t->fetch(t->fetch_ctx, &old.evidence[i], &ev, err);
        if (rc != 0)
            break;
        rc = fold_add(&e->own, &t->names, &old.evidence[i], &ev, err);
        evidence_release(&ev);
    }
    fold_release(&old);
    mark(t, e);
    return rc;
}

static int withdraw_evidence(struct table *t, const struct id *id, struct err *err)
{
    struct table_entry *e;
    struct evidence ev;
    struct id *copy;

    if (idmap_get(&t->withdrawn, id))
        return 0;
    copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a retraction");
    *copy = *id;
    if (idmap_add(&t->withdrawn, copy, err) != 0) {
        free(copy);
        return -1;
    }
    if (t->fetch == NULL)
        return 0;
    if (t->fetch(t->fetch_ctx, id, &ev, err) != 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    e = idmap_get(&t->entries, &ev.claim);
    evidence_release(&ev);
    if (e == NULL || !fold_has(&e->own, id))
        return 0;
    return refold(t, e, id, err);
}

int table_adopt_evidence(struct table *t, const struct id *id, const struct evidence *e,
                         struct err *err)
{
    struct table_entry *entry = idmap_get(&t->entries, &e->claim);

    if (entry == NULL || !fold_has(&entry->own, id))
        return 0; /* withdrawn */
    if (fold_adopt(&entry->own, &t->names, e, err) != 0)
        return -1;
    mark(t, entry);
    return 0;
}

int table_add_retraction(struct table *t, const struct retraction *r, struct err *err)
{
    struct table_entry *e;

    if (r->kind == FACT_EVIDENCE)
        return withdraw_evidence(t, &r->target, err);
    e = entry_of(t, &r->target, err);
    if (e == NULL)
        return -1;
    e->retracted = true;
    mark(t, e);
    return 0;
}

static struct table_entry *root_of(struct table_entry *e)
{
    while (e->parent != e) {
        e->parent = e->parent->parent; /* halves the path */
        e = e->parent;
    }
    return e;
}

static void join(struct table *t, struct table_entry *a, struct table_entry *b)
{
    struct table_entry *root_a = root_of(a), *root_b = root_of(b), *swap;

    if (root_a == root_b)
        return;
    root_b->parent = root_a;
    swap = a->next; /* joins two rings into one */
    a->next = b->next;
    b->next = swap;
    mark(t, a);
}

int table_add_link(struct table *t, const struct link *l, struct err *err)
{
    struct table_entry *a = entry_of(t, &l->a, err), *b = a ? entry_of(t, &l->b, err) : NULL;

    if (b == NULL)
        return -1;
    join(t, a, b);
    return 0;
}

/* ---- Near-duplicates ---- */

static const struct embedding *embedding_of(struct table *t, struct table_entry *e, struct err *err)
{
    if (e->embedding)
        return e->embedding;
    e->embedding = malloc(sizeof(*e->embedding));
    if (e->embedding == NULL) {
        err_set(err, ERR_NOMEM, "no memory for near-duplicates");
        return NULL;
    }
    alike_embed(t->alike, &e->in.claim, e->embedding);
    return e->embedding;
}

/* Joins the claim with those of its block that are like it. */
static int compare(struct table *t, struct table_entry *e, struct err *err)
{
    for (struct table_entry *other = e->older; other; other = other->older) {
        const struct embedding *x, *y;

        if (root_of(other) == root_of(e) ||
            !alike_in_block(t->alike, &e->in.claim, &other->in.claim))
            continue;
        x = embedding_of(t, e, err);
        y = x ? embedding_of(t, other, err) : NULL;
        if (y == NULL)
            return -1;
        if (alike_near(x, y))
            join(t, e, other);
    }
    return 0;
}

/* Claims that were not compared yet, with all. */
static int compare_new(struct table *t, struct err *err)
{
    if (t->n_compared == t->n)
        return 0;
    for (; t->n_blocks < t->n; t->n_blocks++) {
        struct table_entry *e = t->by_ordinal[t->n_blocks];
        void *older;

        if (e->block == 0)
            e->block = alike_block(t->alike, &e->in.claim);
        if (blocks_put(&t->blocks, e->block, e, &older, err) != 0)
            return -1;
        e->older = older;
        if (t->n_blocks >= t->n_compared && compare(t, e, err) != 0)
            return -1;
    }
    t->n_compared = t->n;
    return 0;
}

/* ---- What callers see ---- */

static int show(struct table *t, struct table_entry *e, const struct fold *f,
                enum insight_state state, const struct table_entry *same_as, struct err *err)
{
    if (fold_show(f, &t->names, &e->in, err) != 0)
        return -1;
    e->in.state = state;
    e->in.same_as = same_as->in.id;
    return 0;
}

static bool counts(const struct table_entry *e)
{
    return e->present && !e->retracted;
}

static struct table_entry *representative(struct table_entry *set)
{
    struct table_entry *best = NULL, *e = set;

    do {
        if (counts(e) && (best == NULL || strcmp(e->in.id.hex, best->in.id.hex) < 0))
            best = e;
        e = e->next;
    } while (e != set);
    return best;
}

/* The sum over the members of the set that count. */
static int merge_set(struct table_entry *best, struct err *err)
{
    struct table_entry *e = best;

    best->merged = calloc(1, sizeof(*best->merged));
    if (best->merged == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    do {
        if (counts(e) && fold_merge(best->merged, &e->own, err) != 0)
            return -1;
        e = e->next;
    } while (e != best);
    return 0;
}

static void drop_merged(struct table_entry *e)
{
    if (e->merged)
        fold_release(e->merged);
    free(e->merged);
    e->merged = NULL;
}

/* A member's state follows from the whole set, so a change of one is a change of all. */
static int settle_set(struct table *t, struct table_entry *set, struct err *err)
{
    struct table_entry *best = representative(set), *e = set;
    bool several = set->next != set;

    do {
        drop_merged(e);
        e = e->next;
    } while (e != set);
    if (several && best && merge_set(best, err) != 0)
        return -1;
    do {
        enum insight_state state = e->retracted ? INSIGHT_RETRACTED
                                   : e == best  ? INSIGHT_ACTIVE
                                                : INSIGHT_SUPERSEDED;
        const struct table_entry *same_as = state == INSIGHT_SUPERSEDED ? best : e;

        if (e->present && show(t, e, e->merged ? e->merged : &e->own, state, same_as, err) != 0)
            return -1;
        e = e->next;
    } while (e != set);
    return 0;
}

/* Marks all members of a set whose member changed, so that each is told to `changed` once. */
static void mark_sets(struct table *t)
{
    for (struct table_entry *e = t->dirty; e; e = e->next_dirty)
        for (struct table_entry *m = e->next; m != e; m = m->next)
            mark(t, m);
}

int table_settle(struct table *t, void (*changed)(void *ctx, struct insight *in), void *ctx,
                 struct err *err)
{
    if (compare_new(t, err) != 0)
        return -1;
    mark_sets(t);
    for (struct table_entry *e = t->dirty; e; e = e->next_dirty)
        if (root_of(e) == e && settle_set(t, e, err) != 0)
            return -1;
    while (t->dirty) {
        struct table_entry *e = t->dirty;

        t->dirty = e->next_dirty;
        e->next_dirty = NULL;
        e->dirty = false;
        if (e->present && changed)
            changed(ctx, &e->in);
    }
    return 0;
}

static int by_seq(const void *a, const void *b)
{
    uint64_t x = (*(struct table_entry *const *)a)->in.seq;
    uint64_t y = (*(struct table_entry *const *)b)->in.seq;

    return x < y ? -1 : x > y;
}

void table_number(struct table *t)
{
    if (t->n > 1)
        qsort(t->by_ordinal, t->n, sizeof(struct table_entry *), by_seq);
    for (size_t i = 0; i < t->n; i++)
        t->by_ordinal[i]->in.ordinal = (uint32_t)i;
}

/* ---- Reading ---- */

const struct insight *table_get(const struct table *t, const struct id *id)
{
    const struct table_entry *e = idmap_get(&t->entries, id);

    return e && e->present ? &e->in : NULL;
}

const struct insight *table_find(const struct table *t, const char *digits, bool *ambiguous)
{
    const struct table_entry *e = idmap_find(&t->entries, digits, ambiguous);

    return e && e->present ? &e->in : NULL;
}

const struct insight *table_next(const struct table *t, struct idmap_at *at)
{
    const struct table_entry *e;

    do
        e = idmap_next(&t->entries, at);
    while (e && !e->present);
    return e ? &e->in : NULL;
}

void table_each_same(const struct table *t, const struct id *id,
                     int (*fn)(void *ctx, const struct insight *in), void *ctx)
{
    const struct table_entry *e = idmap_get(&t->entries, id), *m = e;

    if (e == NULL || !e->present)
        return;
    do {
        if (m->present && fn(ctx, &m->in) != 0)
            return;
        m = m->next;
    } while (m != e);
}

static void digest_text(struct digest *d, const char *text)
{
    digest_add(d, text, strlen(text) + 1);
}

static int digest_sums(struct digest *d, const struct insight_sums *s, struct err *err)
{
    CLEANUP(freep)
    char *text =
        str_printf("%u %u %u %u %u %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                   s->blind, s->steered, s->positive, s->negative, s->failures, s->effect_q,
                   s->blind_q, s->effect_sq_q, s->first_s, s->last_s);

    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a digest");
    digest_text(d, text);
    return 0;
}

static int digest_failures(struct digest *d, const struct insight *in, struct err *err)
{
    for (size_t i = 0; i < in->n_failures; i++) {
        const struct insight_failure *f = &in->failures[i];
        CLEANUP(freep)
        char *text = str_printf("%s %u %" PRIu64 " %s", f->class, f->n, f->newest_s, f->newest.hex);

        if (text == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a digest");
        digest_text(d, text);
    }
    return 0;
}

int table_digest(const struct table *t, struct digest *d, struct err *err)
{
    struct idmap_at at = { 0 };
    const struct insight *in;

    while ((in = table_next(t, &at)) != NULL) {
        digest_text(d, in->id.hex);
        digest_text(d, insight_state_name(in->state));
        digest_text(d, in->same_as.hex);
        digest_text(d, in->condition);
        if (digest_sums(d, &in->all, err) != 0)
            return -1;
        for (size_t i = 0; i < in->n_cells; i++) {
            digest_text(d, in->cells[i].key);
            if (digest_sums(d, &in->cells[i].sums, err) != 0)
                return -1;
        }
        if (digest_failures(d, in, err) != 0)
            return -1;
        for (size_t i = 0; i < in->n_evidence; i++)
            digest_text(d, in->evidence[i].hex);
    }
    return 0;
}
