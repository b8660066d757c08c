/* SPDX-License-Identifier: Apache-2.0 */
/* Reading documents, events, facts and insights; see kb.h. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "kb_impl.h"
#include "record_text.h"

enum { QUERY_NOW_MAX = 300000 };

static enum schema_cf doc_cf(enum kb_doc kind)
{
    static const enum schema_cf cfs[KB_DOC_COUNT] = { CF_TASK, CF_DEVICE, CF_PROGRAM, CF_SEARCH,
                                                      CF_SIDE };

    return cfs[kind];
}

/* What cannot be read back is damage, whatever the parser calls it. */
static int damaged(struct err *err, const char *what, const char *which)
{
    if (err->code == ERR_INVALID)
        err->code = ERR_CORRUPT;
    return err_ctx(err, "stored %s '%s'", what, which);
}

/* ---- Documents ---- */

int kb_get_doc(struct kb *kb, enum kb_doc kind, const char *key, json_t **out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = VALUE_MAX };
    struct key k;

    if (key_of_text("document key", key, &k, err) != 0)
        return -1;
    if (store_get(kb->store, doc_cf(kind), &k, &text, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, "there is no %s '%s'", schema_cf_name(doc_cf(kind)),
                           key);
        return -1;
    }
    if (json_of_value(buf_str(&text), text.len, out, err) != 0)
        return damaged(err, schema_cf_name(doc_cf(kind)), key);
    return 0;
}

struct doc_walk {
    enum schema_cf cf;
    int (*doc)(void *ctx, const char *key, const json_t *doc);
    int (*event)(void *ctx, uint64_t seq, const json_t *event);
    void *ctx;
    struct err *err;
    int rc;
};

static int doc_visit(void *ctx, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct doc_walk *w = ctx;
    json_auto_t *j = NULL;
    char text[KEY_MAX + 1];

    memcpy(text, key, MIN(key_len, (size_t)KEY_MAX));
    text[MIN(key_len, (size_t)KEY_MAX)] = '\0';
    if (json_of_value(value, value_len, &j, w->err) != 0) {
        w->rc = damaged(w->err, schema_cf_name(w->cf), text);
        return -1;
    }
    return w->doc(w->ctx, text, j);
}

int kb_each_doc(struct kb *kb, enum kb_doc kind,
                int (*fn)(void *ctx, const char *key, const json_t *doc), void *ctx,
                struct err *err)
{
    struct doc_walk w = { .cf = doc_cf(kind), .doc = fn, .ctx = ctx, .err = err };

    if (store_each(kb->store, w.cf, NULL, NULL, doc_visit, &w, err) != 0)
        return -1;
    return w.rc;
}

static int event_visit(void *ctx, const void *key, size_t key_len, const void *value,
                       size_t value_len)
{
    struct doc_walk *w = ctx;
    json_auto_t *j = NULL;
    uint64_t seq;

    if (key_to_pair_number(key, key_len, &seq, w->err) != 0 ||
        json_of_value(value, value_len, &j, w->err) != 0) {
        w->rc = damaged(w->err, "event of search", key); /* a NUL ends the search's name */
        return -1;
    }
    return w->event(w->ctx, seq, j);
}

int kb_each_event(struct kb *kb, const char *search, uint64_t from_seq,
                  int (*fn)(void *ctx, uint64_t seq, const json_t *event), void *ctx,
                  struct err *err)
{
    struct doc_walk w = { .cf = CF_EVENT, .event = fn, .ctx = ctx, .err = err };
    struct key prefix, from;

    if (key_of_pair_prefix("search", search, &prefix, err) != 0 ||
        key_of_pair("search", search, from_seq, &from, err) != 0)
        return -1;
    if (store_each(kb->store, CF_EVENT, &prefix, &from, event_visit, &w, err) != 0)
        return -1;
    return w.rc;
}

/* ---- Facts ---- */

/* Reads the stored value of a fact; `*text` points into it. */
static int get_fact(struct kb *kb, enum fact_kind kind, const struct id *id, struct buf *value,
                    const char **text, size_t *len, struct err *err)
{
    struct fact_head head;
    struct key key;

    if (!str_is_hex(id->hex, ID_HEX))
        return err_set(err, ERR_INVALID, "'%.64s' is no content address of 64 hexadecimal digits",
                       id->hex);
    key_of_id(id, &key);
    if (store_get(kb->store, schema_fact_cf(kind), &key, value, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, "there is no %s %s", fact_kind_name(kind), id->hex);
        return -1;
    }
    return fact_decode(value->data, value->len, &head, text, len, err);
}

int kb_get_evaluation(struct kb *kb, const struct id *id, struct evaluation *out, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    const char *text;
    size_t len;

    if (get_fact(kb, FACT_EVALUATION, id, &value, &text, &len, err) != 0)
        return -1;
    if (evaluation_read(text, len, out, err) != 0)
        return damaged(err, "evaluation", id->hex);
    return 0;
}

int kb_get_evidence(struct kb *kb, const struct id *id, struct evidence *out, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    const char *text;
    size_t len;

    if (get_fact(kb, FACT_EVIDENCE, id, &value, &text, &len, err) != 0)
        return -1;
    if (evidence_read(text, len, out, err) != 0)
        return damaged(err, "evidence", id->hex);
    return 0;
}

struct evaluation_walk {
    struct kb *kb;
    const char *device;
    uint64_t max_seq;
    int (*fn)(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e);
    void *ctx;
    struct err *err;
    int rc;
};

/* The index row has id and device, so that other devices' evaluations are not even read. */
static int evaluation_visit(void *ctx, const void *key, size_t key_len, const void *value,
                            size_t value_len)
{
    struct evaluation_walk *w = ctx;
    const char *device = (const char *)value + ID_BYTES;
    struct evaluation e;
    struct id id;
    uint64_t seq;
    int rc;

    if (key_to_pair_number(key, key_len, &seq, w->err) != 0 ||
        key_to_id(value, MIN(value_len, (size_t)ID_BYTES), &id, w->err) != 0) {
        w->rc = -1;
        return -1;
    }
    if (seq > w->max_seq)
        return 1;
    if (w->device && (strlen(w->device) != value_len - ID_BYTES ||
                      memcmp(w->device, device, value_len - ID_BYTES) != 0))
        return 0;
    if (kb_get_evaluation(w->kb, &id, &e, w->err) != 0) {
        w->rc = -1;
        return -1;
    }
    rc = w->fn(w->ctx, seq, &id, &e);
    evaluation_release(&e);
    return rc;
}

int kb_each_evaluation_since(struct kb *kb, const char *task, const char *device, uint64_t from_seq,
                             uint64_t max_seq,
                             int (*fn)(void *ctx, uint64_t seq, const struct id *id,
                                       const struct evaluation *e),
                             void *ctx, struct err *err)
{
    struct evaluation_walk w = {
        .kb = kb, .device = device, .max_seq = max_seq, .fn = fn, .ctx = ctx, .err = err
    };
    struct key prefix, from;

    if (key_of_pair_prefix("task", task, &prefix, err) != 0 ||
        key_of_pair("task", task, from_seq, &from, err) != 0 ||
        store_each(kb->store, CF_EVALUATED, &prefix, &from, evaluation_visit, &w, err) != 0)
        return -1;
    return w.rc;
}

int kb_each_evaluation(struct kb *kb, const char *task, const char *device, uint64_t max_seq,
                       int (*fn)(void *ctx, uint64_t seq, const struct id *id,
                                 const struct evaluation *e),
                       void *ctx, struct err *err)
{
    return kb_each_evaluation_since(kb, task, device, 0, max_seq, fn, ctx, err);
}

struct fact_walk {
    struct kb *kb;
    int (*fn)(void *ctx, uint64_t seq, enum fact_kind kind, const struct id *id,
              const json_t *fact);
    void *ctx;
    struct err *err;
    int rc;
};

static int read_fact(struct fact_walk *w, const struct fact_ref *ref, json_t **out)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    const char *text;
    size_t len;

    if (get_fact(w->kb, ref->kind, &ref->id, &value, &text, &len, w->err) != 0)
        return -1;
    if (json_of_value(text, len, out, w->err) != 0)
        return damaged(w->err, fact_kind_name(ref->kind), ref->id.hex);
    return 0;
}

static int fact_visit(void *ctx, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct fact_walk *w = ctx;
    json_auto_t *fact = NULL;
    struct fact_ref ref;
    uint64_t seq;

    if (key_to_u64(key, key_len, &seq, w->err) != 0 ||
        fact_ref_decode(value, value_len, &ref, w->err) != 0 || read_fact(w, &ref, &fact) != 0) {
        w->rc = -1;
        return -1;
    }
    return w->fn(w->ctx, seq, ref.kind, &ref.id, fact);
}

int kb_each_fact(struct kb *kb, uint64_t from_seq,
                 int (*fn)(void *ctx, uint64_t seq, enum fact_kind kind, const struct id *id,
                           const json_t *fact),
                 void *ctx, struct err *err)
{
    struct fact_walk w = { .kb = kb, .fn = fn, .ctx = ctx, .err = err };
    struct key from;

    key_of_u64(from_seq, &from);
    if (store_each(kb->store, CF_FACT, NULL, &from, fact_visit, &w, err) != 0)
        return -1;
    return w.rc;
}

uint64_t kb_last_seq(struct kb *kb)
{
    return kb->last_seq;
}

int kb_fact_origin(struct kb *kb, const struct id *id, char out[KB_ORIGIN_MAX + 1], struct err *err)
{
    _Static_assert((int)KB_ORIGIN_MAX == (int)ORIGIN_MAX, "one length for both");

    return origin_get(kb->store, id, out, err);
}

/* ---- Insights ---- */

int kb_each_insight(struct kb *kb, int (*fn)(void *ctx, const struct insight *in), void *ctx)
{
    struct idmap_at at = { 0 };
    const struct insight *in;
    struct err err;

    if (kb_refresh(kb, &err) != 0) {
        kb_notice(kb, "%s", err.msg);
        return -1;
    }
    pthread_rwlock_rdlock(&kb->lock);
    while ((in = table_next(&kb->table, &at)) != NULL && fn(ctx, in) == 0)
        ;
    pthread_rwlock_unlock(&kb->lock);
    return 0;
}

int kb_each_same(struct kb *kb, const struct id *id, int (*fn)(void *ctx, const struct insight *in),
                 void *ctx)
{
    struct err err;

    if (kb_refresh(kb, &err) != 0) {
        kb_notice(kb, "%s", err.msg);
        return -1;
    }
    pthread_rwlock_rdlock(&kb->lock);
    table_each_same(&kb->table, id, fn, ctx);
    pthread_rwlock_unlock(&kb->lock);
    return 0;
}

static int copy_insight(const struct table *t, const char *id, struct insight *out, struct err *err)
{
    bool ambiguous;
    const struct insight *in = table_find(t, id, &ambiguous);

    if (ambiguous)
        return err_set(err, ERR_INVALID, "more than one insight starts with '%s'; give more digits",
                       id);
    if (in == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no insight '%s'", id);
    return insight_dup(in, out, err);
}

int kb_get_insight(struct kb *kb, const char *id, struct insight *out, struct err *err)
{
    size_t len = strlen(id);
    int rc;

    if (len < 6 || len > ID_HEX || !str_is_hex(id, len)) {
        char seen[96];

        str_visible(id, len, seen, sizeof(seen));
        return err_set(err, ERR_INVALID,
                       "'%s' is no insight; 6 to 64 hexadecimal digits of its id are allowed",
                       seen);
    }
    if (kb_refresh(kb, err) != 0)
        return -1;
    pthread_rwlock_rdlock(&kb->lock);
    rc = copy_insight(&kb->table, id, out, err);
    pthread_rwlock_unlock(&kb->lock);
    return rc;
}

/* ---- Counts ---- */

static int count_visit(void *ctx, const void *key, size_t key_len, const void *value,
                       size_t value_len)
{
    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    ++*(uint64_t *)ctx;
    return 0;
}

static void stats_locked(struct kb *kb, struct kb_stats *out)
{
    struct retrieve_stats r;

    memcpy(out->facts, kb->facts, sizeof(out->facts));
    out->insights = kb->table.n;
    out->last_seq = kb->last_seq;
    retrieve_get_stats(kb->retrieve, &r);
    out->vectors_indexed = r.vectors_indexed;
    out->vectors_pending = r.vectors_pending;
    out->index_exact = r.exact;
}

int kb_get_stats(struct kb *kb, struct kb_stats *out, struct err *err)
{
    struct kb_stats s = { .schema = kb->folder.schema, .bytes_on_disk = store_bytes(kb->store) };

    for (int k = 0; k < KB_DOC_COUNT; k++)
        if (store_each(kb->store, doc_cf((enum kb_doc)k), NULL, NULL, count_visit, &s.docs[k],
                       err) != 0)
            return -1;
    if (kb_refresh(kb, err) != 0)
        return -1;
    pthread_rwlock_rdlock(&kb->lock);
    stats_locked(kb, &s);
    pthread_rwlock_unlock(&kb->lock);
    *out = s;
    return 0;
}

/* ---- Retrieval ---- */

int kb_query(struct kb *kb, const struct kb_query *q, json_t **out, struct err *err)
{
    int rc;

    if (kb_refresh(kb, err) != 0)
        return -1;
    pthread_rwlock_rdlock(&kb->lock);
    rc = retrieve_query(kb->retrieve, q, out, err);
    pthread_rwlock_unlock(&kb->lock);
    return rc;
}

int kb_query_text(struct kb *kb, const struct kb_query *q, struct buf *out, struct err *err)
{
    int rc;

    if (kb_refresh(kb, err) != 0)
        return -1;
    pthread_rwlock_rdlock(&kb->lock);
    rc = retrieve_query_text(kb->retrieve, q, out, err);
    pthread_rwlock_unlock(&kb->lock);
    return rc;
}

int kb_query_now(struct kb *kb, const struct kb_query *q, struct buf *out, struct err *err)
{
    int rc = 1;

    if (kb->stale || q->as_of_ns != 0 || pthread_rwlock_tryrdlock(&kb->lock) != 0)
        return 1;
    if (!kb->stale && kb->table.n <= QUERY_NOW_MAX)
        rc = retrieve_query_text(kb->retrieve, q, out, err);
    pthread_rwlock_unlock(&kb->lock);
    return rc;
}

bool kb_maintain_due(struct kb *kb)
{
    bool due;

    pthread_rwlock_rdlock(&kb->lock);
    due = retrieve_maintain_due(kb->retrieve);
    pthread_rwlock_unlock(&kb->lock);
    return due;
}

int kb_maintain(struct kb *kb, struct err *err)
{
    kb->snapshot_due = true;
    return retrieve_maintain(kb->retrieve, &kb->lock, err);
}
