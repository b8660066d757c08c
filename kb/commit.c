/* SPDX-License-Identifier: Apache-2.0 */
/* kb_commit: numbers new facts, writes everything in one batch, then folds it into derived state.
 */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "kb_impl.h"

static const void *bytes_at(const struct kb_batch *b, size_t offset)
{
    return b->bytes.data + offset;
}

static void op_key(const struct kb_batch *b, const struct batch_op *op, struct key *out)
{
    out->len = op->key_len;
    memcpy(out->bytes, bytes_at(b, op->key), op->key_len);
}

/* ---- What is there already ---- */

static int event_conflict(const struct kb_batch *b, const struct batch_op *op, struct err *err)
{
    const char *search = bytes_at(b, op->key); /* its NUL ends the text */
    struct err ignored;
    uint64_t seq = 0;

    (void)key_to_pair_number(search, op->key_len, &seq, &ignored);
    return err_set(err, ERR_CONFLICT, "event %" PRIu64 " of search '%s' is stored already", seq,
                   search);
}

static int order_ops(const void *x, const void *y, void *ctx)
{
    const struct batch_op *a = *(struct batch_op *const *)x, *b = *(struct batch_op *const *)y;
    size_t len = MIN(a->key_len, b->key_len);
    int order;

    if (a->cf != b->cf)
        return a->cf < b->cf ? -1 : 1;
    order = memcmp(bytes_at(ctx, a->key), bytes_at(ctx, b->key), len);
    if (order != 0)
        return order;
    if (a->key_len != b->key_len)
        return a->key_len < b->key_len ? -1 : 1;
    return a < b ? -1 : a > b;
}

static bool same_key(const struct kb_batch *b, const struct batch_op *x, const struct batch_op *y)
{
    return x->cf == y->cf && x->key_len == y->key_len &&
           memcmp(bytes_at(b, x->key), bytes_at(b, y->key), x->key_len) == 0;
}

/* A fact twice in one batch counts once, as local if one of them is; an event twice is a mistake.
 * Documents: the last one wins. */
static int skip_repeats(struct kb_batch *b, struct err *err)
{
    CLEANUP(freep) struct batch_op **sorted = malloc(MAX(b->n, 1) * sizeof(*sorted));
    struct batch_op *first = NULL;

    if (sorted == NULL)
        return err_set(err, ERR_NOMEM, "no memory to commit %zu writes", b->n);
    for (size_t i = 0; i < b->n; i++)
        sorted[i] = &b->ops[i];
    qsort_r(sorted, b->n, sizeof(*sorted), order_ops, b);
    for (size_t i = 0; i < b->n; i++) {
        if (first == NULL || !same_key(b, first, sorted[i])) {
            first = sorted[i];
            continue;
        }
        if (sorted[i]->type == BATCH_EVENT)
            return event_conflict(b, sorted[i], err);
        sorted[i]->skip = sorted[i]->type == BATCH_FACT;
        if (sorted[i]->origin_len == 0)
            first->origin_len = 0;
    }
    return 0;
}

/* Only commits change the table, and this is the one commit: no lock is needed to read it. */
static int is_stored(struct kb *kb, const struct kb_batch *b, const struct batch_op *op, bool *out,
                     struct err *err)
{
    struct key key;

    if (op->type == BATCH_FACT && op->kind == FACT_CLAIM) {
        *out = table_get(&kb->table, &op->id) != NULL;
        return 0;
    }
    op_key(b, op, &key);
    return store_has(kb->store, op->cf, &key, out, err);
}

/* Whether a stored fact that is added again without origin has one. */
static int is_foreign(struct kb *kb, const struct kb_batch *b, const struct batch_op *op, bool *out,
                      struct err *err)
{
    struct key key;

    *out = false;
    if (!kb->has_foreign || op->origin_len != 0)
        return 0;
    op_key(b, op, &key);
    return store_has(kb->store, CF_ORIGIN, &key, out, err);
}

static int skip_stored(struct kb *kb, struct kb_batch *b, struct err *err)
{
    for (size_t i = 0; i < b->n; i++) {
        struct batch_op *op = &b->ops[i];
        bool stored;

        if (op->skip || (op->type != BATCH_FACT && op->type != BATCH_EVENT))
            continue;
        if (is_stored(kb, b, op, &stored, err) != 0)
            return -1;
        if (stored && op->type == BATCH_EVENT)
            return event_conflict(b, op, err);
        op->skip = stored;
        if (stored && is_foreign(kb, b, op, &op->adopt, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- Writing ---- */

static int put_evaluated(struct kb *kb, struct kb_batch *b, const struct batch_op *op,
                         struct store_batch *sb, struct err *err)
{
    uint8_t id[ID_BYTES];
    struct key key;

    if (key_of_pair("task", bytes_at(b, op->task), op->head.seq, &key, err) != 0)
        return -1;
    memcpy(id, bytes_at(b, op->key), ID_BYTES);
    store_batch_put(sb, kb->store, CF_EVALUATED, &key, id, sizeof(id), bytes_at(b, op->device),
                    op->device_len);
    return 0;
}

static int put_fact(struct kb *kb, struct kb_batch *b, const struct batch_op *op,
                    const struct key *key, struct store_batch *sb, struct err *err)
{
    struct fact_ref ref = { .kind = op->kind, .id = op->id };
    uint8_t head[FACT_HEAD_BYTES], value[FACT_REF_BYTES];
    struct key number;

    fact_head_encode(&op->head, head);
    store_batch_put(sb, kb->store, op->cf, key, head, sizeof(head), bytes_at(b, op->text),
                    op->text_len);
    key_of_u64(op->head.seq, &number);
    fact_ref_encode(&ref, value);
    store_batch_put(sb, kb->store, CF_FACT, &number, value, sizeof(value), "", 0);
    if (op->origin_len != 0)
        store_batch_put(sb, kb->store, CF_ORIGIN, key, bytes_at(b, op->origin), op->origin_len, "",
                        0);
    return op->kind == FACT_EVALUATION ? put_evaluated(kb, b, op, sb, err) : 0;
}

static int put_op(struct kb *kb, struct kb_batch *b, const struct batch_op *op,
                  struct store_batch *sb, struct err *err)
{
    struct key key;

    op_key(b, op, &key);
    switch (op->type) {
    case BATCH_PUT:
    case BATCH_EVENT:
        store_batch_put(sb, kb->store, op->cf, &key, "", 0, bytes_at(b, op->text), op->text_len);
        return 0;
    case BATCH_DELETE:
        store_batch_delete(sb, kb->store, op->cf, &key);
        return 0;
    case BATCH_FACT:
        return put_fact(kb, b, op, &key, sb, err);
    }
    return 0;
}

/* Foreign facts that become local, and how many did so far. */
static int put_adopted(struct kb *kb, struct kb_batch *b, struct store_batch *sb, uint64_t *adopted,
                       struct err *err)
{
    json_auto_t *count = NULL;

    *adopted = kb->adopted;
    for (size_t i = 0; i < b->n; i++) {
        struct key key;

        if (!b->ops[i].adopt)
            continue;
        op_key(b, &b->ops[i], &key);
        store_batch_delete(sb, kb->store, CF_ORIGIN, &key);
        ++*adopted;
    }
    if (*adopted == kb->adopted)
        return 0;
    count = json_integer((json_int_t)*adopted);
    if (count == NULL)
        return err_set(err, ERR_NOMEM, "no memory to commit %zu writes", b->n);
    return meta_put(sb, kb->store, META_ADOPTED, count, err);
}

/* What a commit adds to the numbers of the base. */
struct commit_sums {
    uint64_t last_seq, adopted;
    bool foreign; /* has facts from elsewhere */
    size_t writes;
};

/* `last_seq` goes up by one for each new fact. */
static int build(struct kb *kb, struct kb_batch *b, struct store_batch *sb, struct commit_sums *s,
                 struct err *err)
{
    uint64_t now = MAX(kb->clock->wall_ns(kb->clock), kb->last_wall_ns);

    for (size_t i = 0; i < b->n; i++) {
        struct batch_op *op = &b->ops[i];
        bool foreign = op->origin_len != 0;

        if (op->skip)
            continue;
        if (op->type == BATCH_FACT)
            op->head = (struct fact_head){ ++s->last_seq, now, foreign };
        if (foreign && !store_has_cf(kb->store, CF_ORIGIN))
            return err_set(err, ERR_IO,
                           "facts of another origin cannot be stored: the store has no place for "
                           "origins; open the knowledge base again");
        if (put_op(kb, b, op, sb, err) != 0)
            return -1;
        s->foreign |= foreign;
        s->writes++;
    }
    if (put_adopted(kb, b, sb, &s->adopted, err) != 0)
        return -1;
    s->writes += s->adopted - kb->adopted;
    kb->last_wall_ns = now;
    return 0;
}

static int write_batch(struct kb *kb, struct kb_batch *b, struct commit_sums *sums, struct err *err)
{
    struct store_batch *sb = store_batch_new();
    uint64_t start;
    int rc;

    if (sb == NULL)
        return err_set(err, ERR_NOMEM, "no memory to commit %zu writes", b->n);
    rc = build(kb, b, sb, sums, err);
    start = kb->clock->mono_ns(kb->clock);
    if (rc == 0 && sums->writes > 0)
        rc = store_write(kb->store, sb, kb->sync, err);
    if (rc == 0)
        b->sync_ns = sums->writes ? kb->clock->mono_ns(kb->clock) - start : 0;
    store_batch_free(sb);
    return rc;
}

/* ---- Folding ---- */

/* Insights that a settle changed; those that retrieval does not have yet are new to it anyway. */
struct changed {
    struct kb *kb;
    struct insight **list;
    size_t n, cap;
    bool failed;
};

static void note_change(void *ctx, struct insight *in)
{
    struct changed *c = ctx;

    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct insight **list = realloc(c->list, cap * sizeof(*list));

        if (list == NULL) {
            c->failed = true;
            return;
        }
        c->list = list;
        c->cap = cap;
    }
    c->list[c->n++] = in;
}

static int tell_retrieve(struct kb *kb, const struct changed *c, struct err *err)
{
    if (c->failed)
        return err_set(err, ERR_NOMEM, "no memory to fold a batch");
    if (load_retrieve(kb, err) != 0)
        return -1;
    for (size_t i = 0; i < c->n; i++)
        if (retrieve_update(kb->retrieve, c->list[i], err) != 0)
            return -1;
    return 0;
}

/* Evidence that was foreign counts as local from now on. */
static int fold_adopted(struct kb *kb, const struct batch_op *op, struct err *err)
{
    struct evidence e;
    int rc;

    if (op->kind != FACT_EVIDENCE)
        return 0;
    if (load_evidence(kb->store, &op->id, &e, err) != 0)
        return err->code == ERR_CORRUPT ? 0 : -1; /* was not folded in the first place */
    rc = table_adopt_evidence(&kb->table, &op->id, &e, err);
    if (rc == 0)
        rc = retrieve_add_evidence(kb->retrieve, &op->id, &e, 0, err);
    evidence_release(&e);
    return rc;
}

int fold_settle(struct kb *kb, struct err *err)
{
    struct changed changed = { .kb = kb };
    int rc = table_settle(&kb->table, note_change, &changed, err);

    if (rc == 0)
        rc = tell_retrieve(kb, &changed, err);
    free(changed.list);
    return rc;
}

int fold_batch(struct kb *kb, const struct kb_batch *b, struct err *err)
{
    CLEANUP(buf_release) struct buf scratch = { .max = VALUE_MAX };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < b->n; i++) {
        const struct batch_op *op = &b->ops[i];

        if (op->adopt)
            rc = fold_adopted(kb, op, err);
        if (op->type != BATCH_FACT || op->skip)
            continue;
        kb->facts[op->kind]++;
        rc = fold_fact(&kb->table, kb->retrieve, &scratch, op->kind, &op->id, &op->head,
                       bytes_at(b, op->text), op->text_len, err);
    }
    return rc == 0 ? fold_settle(kb, err) : -1;
}

/* ---- The commit ---- */

/* The facts are safe by now: what fails here is survived, and made good by kb_refresh. */
static void fold_committed(struct kb *kb, const struct kb_batch *b, const struct commit_sums *sums)
{
    struct err err;

    pthread_rwlock_wrlock(&kb->lock);
    kb->last_seq = sums->last_seq;
    kb->adopted = sums->adopted;
    kb->has_foreign |= sums->foreign;
    if (fold_batch(kb, b, &err) != 0) {
        kb->stale = true;
        kb_notice(kb, "facts were stored but not folded in yet: %s", err.msg);
    }
    pthread_rwlock_unlock(&kb->lock);
}

/* After a failed write: its facts may be stored after all, so numbers and insights are read again.
 */
static int mend(struct kb *kb, struct err *err)
{
    bool mended;

    if (store_mend(kb->store, &mended, err) != 0)
        return -1;
    if (!mended)
        return 0;
    kb->stale = true;
    return load_last(kb, err);
}

static int commit_locked(struct kb *kb, struct kb_batch *b, struct err *err)
{
    struct commit_sums sums = { 0 };

    if (mend(kb, err) != 0 || kb_refresh(kb, err) != 0)
        return -1;
    sums.last_seq = kb->last_seq;
    if (skip_repeats(b, err) != 0 || skip_stored(kb, b, err) != 0 ||
        write_batch(kb, b, &sums, err) != 0)
        return -1;
    if (sums.last_seq != kb->last_seq || sums.adopted != kb->adopted)
        fold_committed(kb, b, &sums);
    return 0;
}

int kb_commit(struct kb_batch *b, struct err *err)
{
    int rc;

    pthread_mutex_lock(&b->kb->commit);
    rc = commit_locked(b->kb, b, err);
    pthread_mutex_unlock(&b->kb->commit);
    b->n = 0;
    buf_clear(&b->bytes);
    return rc;
}
