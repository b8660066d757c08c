/* SPDX-License-Identifier: Apache-2.0 */
/* Derived state from the stored facts: at opening, and after memory ran out. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "kb_impl.h"
#include "record_text.h"

int load_evidence(void *ctx, const struct id *id, struct evidence *out, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    struct fact_head head;
    const char *text;
    struct key key;
    size_t len;

    key_of_id(id, &key);
    if (store_get(ctx, CF_EVIDENCE, &key, &value, err) != 0 ||
        fact_decode(value.data, value.len, &head, &text, &len, err) != 0)
        return -1;
    if (evidence_read(text, len, out, err) != 0) {
        if (err->code == ERR_INVALID)
            err->code = ERR_CORRUPT;
        return err_ctx(err, "evidence %s", id->hex);
    }
    if (store_has(ctx, CF_ORIGIN, &key, &out->foreign, err) != 0) {
        evidence_release(out);
        return -1;
    }
    return 0;
}

/* How many foreign facts became local, and whether there are some. */
static int load_origins(struct kb *kb, struct err *err)
{
    json_auto_t *adopted = NULL;
    struct key last;

    if (meta_get(kb->store, META_ADOPTED, &adopted, err) != 0 ||
        store_last_key(kb->store, CF_ORIGIN, &last, err) != 0)
        return -1;
    kb->adopted = (uint64_t)json_integer_value(adopted);
    kb->has_foreign = last.len != 0;
    return 0;
}

int load_last(struct kb *kb, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    struct fact_head head;
    struct fact_ref ref;
    struct key key;
    const char *text;
    uint64_t seq;
    size_t len;

    if (load_origins(kb, err) != 0 || store_last_key(kb->store, CF_FACT, &key, err) != 0)
        return -1;
    if (key.len == 0)
        return 0;
    if (key_to_u64(key.bytes, key.len, &seq, err) != 0 ||
        store_get(kb->store, CF_FACT, &key, &value, err) != 0 ||
        fact_ref_decode(value.data, value.len, &ref, err) != 0)
        return -1;
    kb->last_seq = seq;
    buf_clear(&value);
    key_of_id(&ref.id, &key);
    if (store_get(kb->store, schema_fact_cf(ref.kind), &key, &value, err) != 0 ||
        fact_decode(value.data, value.len, &head, &text, &len, err) != 0) {
        if (err->code == ERR_IO)
            return -1;
        kb_notice(kb, "the newest fact, number %" PRIu64 ", is damaged: %s", seq, err->msg);
        return 0;
    }
    kb->last_wall_ns = head.recorded_at_ns;
    return 0;
}

/* A view for as long as `scratch` is left alone. */
static int view_evidence(struct buf *scratch, const char *text, size_t len, struct evidence *out,
                         struct err *err)
{
    buf_clear(scratch);
    if (buf_add(scratch, text, len, err) != 0)
        return -1;
    return evidence_view(scratch->data, len, out, err);
}

static int fold_evidence(struct table *t, struct retrieve *r, struct buf *scratch,
                         const struct id *id, const struct fact_head *head, const char *text,
                         size_t len, struct err *err)
{
    struct evidence e;
    int rc;

    if (view_evidence(scratch, text, len, &e, err) != 0)
        return -1;
    e.foreign = head->foreign;
    rc = table_add_evidence(t, id, &e, err);
    if (rc == 0 && r)
        rc = retrieve_add_evidence(r, id, &e, head->recorded_at_ns, err);
    evidence_leave(&e);
    return rc;
}

static int fold_retraction(struct table *t, struct retrieve *r, const struct fact_head *head,
                           const char *text, size_t len, struct err *err)
{
    struct retraction retraction;
    int rc;

    if (retraction_read(text, len, &retraction, err) != 0)
        return -1;
    rc = table_add_retraction(t, &retraction, err);
    if (rc == 0 && r)
        rc = retrieve_add_retraction(r, &retraction.target, head->recorded_at_ns, err);
    retraction_release(&retraction);
    return rc;
}

static int fold_link(struct table *t, const char *text, size_t len, struct err *err)
{
    struct link link;

    if (link_read(text, len, &link, err) != 0)
        return -1;
    return table_add_link(t, &link, err);
}

int fold_fact(struct table *t, struct retrieve *r, struct buf *scratch, enum fact_kind kind,
              const struct id *id, const struct fact_head *head, const char *text, size_t len,
              struct err *err)
{
    switch (kind) {
    case FACT_CLAIM:
        return table_add_claim(t, id, head, text, len, err);
    case FACT_EVIDENCE:
        return fold_evidence(t, r, scratch, id, head, text, len, err);
    case FACT_RETRACTION:
        return fold_retraction(t, r, head, text, len, err);
    case FACT_LINK:
        return fold_link(t, text, len, err);
    case FACT_EVALUATION:
    case FACT_COUNT:
        break;
    }
    return 0;
}

/* One walk over the facts of a kind. */
struct load {
    struct kb *kb;
    struct retrieve *retrieve; /* NULL: the table alone */
    struct table *table;
    enum fact_kind kind;
    const struct origins *origins;
    struct buf scratch;
    uint64_t count;
    struct err *err;
    int rc;
};

static int load_fact(struct load *l, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct fact_head head;
    const char *text;
    struct id id;
    size_t len;

    if (key_to_id(key, key_len, &id, l->err) != 0 ||
        fact_decode(value, value_len, &head, &text, &len, l->err) != 0)
        return -1;
    head.foreign = origins_has(l->origins, key);
    return fold_fact(l->table, l->retrieve, &l->scratch, l->kind, &id, &head, text, len, l->err);
}

/* A record that cannot be read costs itself alone: verify names it, a backup may still have it. */
static int load_visit(void *ctx, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct load *l = ctx;

    l->count++;
    if (load_fact(l, key, key_len, value, value_len) == 0)
        return 0;
    if (l->err->code == ERR_INVALID || l->err->code == ERR_CORRUPT) {
        l->kb->left_out = true;
        kb_notice(l->kb, "a stored %s is damaged and left out: %s", fact_kind_name(l->kind),
                  l->err->msg);
        return 0;
    }
    l->rc = -1;
    return -1;
}

static int load_kind(struct kb *kb, struct retrieve *r, struct table *t,
                     const struct origins *origins, enum fact_kind kind, uint64_t *count,
                     struct err *err)
{
    struct load l = {
        .kb = kb, .retrieve = r, .table = t, .kind = kind, .origins = origins, .err = err
    };
    int rc;

    l.scratch.max = VALUE_MAX;
    rc = store_each(kb->store, schema_fact_cf(kind), NULL, NULL, load_visit, &l, err);
    buf_release(&l.scratch);
    *count = l.count;
    return rc == 0 ? l.rc : -1;
}

int load_table(struct kb *kb, struct retrieve *r, struct table *t, uint64_t counts[FACT_COUNT],
               struct err *err)
{
    /* Withdrawals come first, so that nothing has to be taken back. */
    static const enum fact_kind order[] = { FACT_RETRACTION, FACT_LINK, FACT_CLAIM, FACT_EVIDENCE };

    CLEANUP(origins_release) struct origins origins = { 0 };

    if (origins_load(&origins, kb->store, err) != 0)
        return -1;
    t->fetch = NULL;
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        if (load_kind(kb, r, t, &origins, order[i], &counts[order[i]], err) != 0)
            return -1;
    t->fetch = load_evidence;
    t->fetch_ctx = kb->store;
    table_number(t);
    return table_settle(t, NULL, NULL, err);
}

/* ---- What a snapshot has not ---- */

struct tail {
    struct kb *kb;
    struct buf value, scratch;
    uint64_t *counts, next;
    struct err *err;
    int rc;
};

static int tail_read(struct tail *t, const struct fact_ref *ref, struct fact_head *head,
                     const char **text, size_t *len)
{
    struct store *store = t->kb->store;
    struct key key;

    key_of_id(&ref->id, &key);
    buf_clear(&t->value);
    if (store_get(store, schema_fact_cf(ref->kind), &key, &t->value, t->err) != 0) {
        if (t->err->code == ERR_NOT_FOUND)
            err_set(t->err, ERR_CORRUPT, "%s %s is missing", fact_kind_name(ref->kind),
                    ref->id.hex);
        return -1;
    }
    if (fact_decode(t->value.data, t->value.len, head, text, len, t->err) != 0)
        return -1;
    return store_has(store, CF_ORIGIN, &key, &head->foreign, t->err);
}

static int tail_fold(struct tail *t, const struct fact_ref *ref)
{
    struct kb *kb = t->kb;
    struct fact_head head;
    const char *text;
    size_t len;

    t->counts[ref->kind]++;
    if (ref->kind == FACT_EVALUATION)
        return 0;
    if (tail_read(t, ref, &head, &text, &len) != 0)
        return -1;
    return fold_fact(&kb->table, kb->retrieve, &t->scratch, ref->kind, &ref->id, &head, text, len,
                     t->err);
}

static int tail_visit(void *ctx, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct tail *t = ctx;
    struct fact_ref ref;
    uint64_t seq;

    t->rc = key_to_u64(key, key_len, &seq, t->err);
    if (t->rc == 0 && seq != t->next++)
        t->rc = err_set(t->err, ERR_CORRUPT, "fact number %" PRIu64 " is missing", t->next - 1);
    if (t->rc == 0)
        t->rc = fact_ref_decode(value, value_len, &ref, t->err);
    if (t->rc == 0)
        t->rc = tail_fold(t, &ref);
    return t->rc;
}

int load_tail(struct kb *kb, uint64_t seq, uint64_t counts[FACT_COUNT], struct err *err)
{
    struct tail t = { .kb = kb, .counts = counts, .next = seq + 1, .err = err };
    struct key from;
    int rc;

    t.value.max = t.scratch.max = VALUE_MAX;
    key_of_u64(seq + 1, &from);
    rc = store_each(kb->store, CF_FACT, NULL, &from, tail_visit, &t, err);
    buf_release(&t.value);
    buf_release(&t.scratch);
    if (rc != 0 || t.rc != 0)
        return -1;
    if (t.next != kb->last_seq + 1)
        return err_set(err, ERR_CORRUPT, "fact number %" PRIu64 " is missing", t.next);
    return fold_settle(kb, err);
}

int load_retrieve(struct kb *kb, struct err *err)
{
    for (; kb->n_retrievable < kb->table.n; kb->n_retrievable++) {
        const struct insight *in = &kb->table.by_ordinal[kb->n_retrievable]->in;

        if (retrieve_add(kb->retrieve, in, err) != 0)
            return -1;
        kb->snapshot_due = true;
    }
    return 0;
}

void load_counts(struct kb *kb, const uint64_t counts[FACT_COUNT])
{
    uint64_t others = 0;

    for (int k = 0; k < FACT_COUNT; k++)
        if (k != FACT_EVALUATION)
            others += counts[k];
    memcpy(kb->facts, counts, sizeof(kb->facts));
    kb->facts[FACT_EVALUATION] = kb->last_seq - MIN(kb->last_seq, others);
}

static int refresh_locked(struct kb *kb, struct err *err)
{
    uint64_t counts[FACT_COUNT] = { 0 };
    struct table t;

    if (table_init(&t, load_evidence, kb->store, err) != 0)
        return -1;
    if (load_table(kb, kb->retrieve, &t, counts, err) != 0) {
        table_release(&t);
        return -1;
    }
    load_counts(kb, counts);
    table_release(&kb->table);
    kb->table = t;
    if (load_retrieve(kb, err) != 0)
        return -1;
    for (size_t i = 0; i < kb->table.n; i++)
        if (retrieve_update(kb->retrieve, &kb->table.by_ordinal[i]->in, err) != 0)
            return -1;
    kb->stale = false;
    return 0;
}

int kb_refresh(struct kb *kb, struct err *err)
{
    int rc = 0;

    if (!kb->stale)
        return 0;
    pthread_rwlock_wrlock(&kb->lock);
    if (kb->stale)
        rc = refresh_locked(kb, err);
    pthread_rwlock_unlock(&kb->lock);
    return rc == 0 ? 0 : err_ctx(err, "the insights could not be folded anew");
}
