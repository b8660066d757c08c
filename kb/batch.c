/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting writes: everything is checked and turned into bytes here, so that a commit only
 * writes. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "kb_impl.h"
#include "record_text.h"

struct kb_batch *kb_batch_new(struct kb *kb)
{
    struct kb_batch *b = calloc(1, sizeof(*b));

    if (b) {
        b->kb = kb;
        b->bytes.max = BATCH_BYTES_MAX;
    }
    return b;
}

void kb_batch_free(struct kb_batch *b)
{
    if (b == NULL)
        return;
    buf_release(&b->bytes);
    free(b->ops);
    free(b);
}

int kb_batch_set_origin(struct kb_batch *b, const char *origin, struct err *err)
{
    if (origin == NULL)
        origin = "";
    if (origin_check(origin, err) != 0)
        return -1;
    str_copy(b->origin, sizeof(b->origin), origin);
    return 0;
}

uint64_t kb_batch_sync_ns(const struct kb_batch *b)
{
    return b->sync_ns;
}

/* The next operation, not counted yet; NULL when memory is out. */
static struct batch_op *next_op(struct kb_batch *b, struct err *err)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 16;
        struct batch_op *ops = realloc(b->ops, cap * sizeof(*ops));

        if (ops == NULL) {
            err_set(err, ERR_NOMEM, "no memory for a batch of %zu writes", cap);
            return NULL;
        }
        b->ops = ops;
        b->cap = cap;
    }
    memset(&b->ops[b->n], 0, sizeof(b->ops[b->n]));
    return &b->ops[b->n];
}

static int add_bytes(struct kb_batch *b, const void *data, size_t len, size_t *offset,
                     struct err *err)
{
    *offset = b->bytes.len;
    if (buf_add(&b->bytes, data, len, err) == 0)
        return 0;
    if (err->code == ERR_LIMIT)
        err->code = ERR_INVALID;
    return err_ctx(err, "batch");
}

static int add_json(struct kb_batch *b, struct batch_op *op, const json_t *doc, struct err *err)
{
    op->text = b->bytes.len;
    if (json_to_value(doc, &b->bytes, err) != 0) {
        if (err->code == ERR_LIMIT)
            err->code = ERR_INVALID;
        return err_ctx(err, "batch");
    }
    op->text_len = b->bytes.len - op->text;
    if (op->text_len > VALUE_MAX)
        return err_set(err, ERR_INVALID, "a document has %zu bytes; at most %d are allowed",
                       op->text_len, VALUE_MAX);
    return 0;
}

/* ---- Documents and events ---- */

static enum schema_cf doc_cf(enum kb_doc kind)
{
    static const enum schema_cf cfs[KB_DOC_COUNT] = { CF_TASK, CF_DEVICE, CF_PROGRAM, CF_SEARCH,
                                                      CF_SIDE };

    return cfs[kind];
}

static int doc_op(struct kb_batch *b, enum kb_doc kind, const char *key, enum batch_type type,
                  const json_t *doc, struct err *err)
{
    struct batch_op *op = next_op(b, err);
    struct key k;

    if (op == NULL || key_of_text("document key", key, &k, err) != 0)
        return -1;
    op->type = type;
    op->cf = doc_cf(kind);
    op->key_len = k.len;
    if (add_bytes(b, k.bytes, k.len, &op->key, err) != 0 || (doc && add_json(b, op, doc, err) != 0))
        return -1;
    b->n++;
    return 0;
}

int kb_batch_put_doc(struct kb_batch *b, enum kb_doc kind, const char *key, const json_t *doc,
                     struct err *err)
{
    if (!json_is_object(doc))
        return err_set(err, ERR_INVALID, "document '%s' is no JSON object", key);
    return doc_op(b, kind, key, BATCH_PUT, doc, err);
}

int kb_batch_delete_doc(struct kb_batch *b, enum kb_doc kind, const char *key, struct err *err)
{
    return doc_op(b, kind, key, BATCH_DELETE, NULL, err);
}

int kb_batch_add_event(struct kb_batch *b, const char *search, uint64_t seq, const json_t *event,
                       struct err *err)
{
    struct batch_op *op = next_op(b, err);
    struct key k;

    if (op == NULL || key_of_pair("search", search, seq, &k, err) != 0)
        return -1;
    if (!json_is_object(event))
        return err_set(err, ERR_INVALID, "event %ju of search '%s' is no JSON object",
                       (uintmax_t)seq, search);
    op->type = BATCH_EVENT;
    op->cf = CF_EVENT;
    op->key_len = k.len;
    if (add_bytes(b, k.bytes, k.len, &op->key, err) != 0 || add_json(b, op, event, err) != 0)
        return -1;
    b->n++;
    return 0;
}

/* ---- Facts ---- */

/* The fact's text stands at the end of the batch's bytes, from `text` on. */
static int fact_op(struct kb_batch *b, enum fact_kind kind, size_t text, struct id *id,
                   struct batch_op **out, struct err *err)
{
    struct batch_op *op = next_op(b, err);
    struct key k;

    if (op == NULL)
        return -1;
    op->type = BATCH_FACT;
    op->cf = schema_fact_cf(kind);
    op->kind = kind;
    op->text = text;
    op->text_len = b->bytes.len - text;
    id_of_bytes(b->bytes.data + text, op->text_len, &op->id);
    key_of_id(&op->id, &k);
    op->key_len = k.len;
    op->origin_len = strlen(b->origin);
    if (add_bytes(b, k.bytes, k.len, &op->key, err) != 0 ||
        add_bytes(b, b->origin, op->origin_len, &op->origin, err) != 0)
        return -1;
    if (id)
        *id = op->id;
    *out = op;
    return 0;
}

/* Undoes what a failed x_write left behind; a record over the batch's cap is the caller's mistake.
 */
static int write_failed(struct kb_batch *b, size_t text, struct err *err)
{
    b->bytes.len = text;
    if (err->code == ERR_LIMIT)
        err->code = ERR_INVALID;
    return -1;
}

int kb_batch_add_evaluation(struct kb_batch *b, const struct evaluation *e, struct id *id,
                            struct err *err)
{
    size_t text = b->bytes.len;
    struct batch_op *op;

    if (evaluation_write(e, &b->bytes, err) != 0)
        return write_failed(b, text, err);
    if (fact_op(b, FACT_EVALUATION, text, id, &op, err) != 0)
        return -1;
    op->device_len = strlen(e->device);
    if (add_bytes(b, e->task, strlen(e->task) + 1, &op->task, err) != 0 ||
        add_bytes(b, e->device, op->device_len, &op->device, err) != 0)
        return -1;
    b->n++;
    return 0;
}

#define ADD_FACT(noun, KIND)                                                                       \
    int kb_batch_add_##noun(struct kb_batch *b, const struct noun *fact, struct id *id,            \
                            struct err *err)                                                       \
    {                                                                                              \
        size_t text = b->bytes.len;                                                                \
        struct batch_op *op;                                                                       \
                                                                                                   \
        if (noun##_write(fact, &b->bytes, err) != 0)                                               \
            return write_failed(b, text, err);                                                     \
        if (fact_op(b, FACT_##KIND, text, id, &op, err) != 0)                                      \
            return -1;                                                                             \
        b->n++;                                                                                    \
        return 0;                                                                                  \
    }

ADD_FACT(claim, CLAIM)
ADD_FACT(evidence, EVIDENCE)
ADD_FACT(retraction, RETRACTION)
ADD_FACT(link, LINK)

#define ADD_JSON(noun, KIND, release)                                                              \
    case FACT_##KIND: {                                                                            \
        struct noun fact;                                                                          \
        int rc;                                                                                    \
                                                                                                   \
        if (noun##_from_json(j, &fact, err) != 0)                                                  \
            return -1;                                                                             \
        rc = kb_batch_add_##noun(b, &fact, id, err);                                               \
        release(&fact);                                                                            \
        return rc;                                                                                 \
    }

static void link_release(struct link *l)
{
    (void)l; /* owns nothing */
}

int kb_batch_add_fact(struct kb_batch *b, enum fact_kind kind, const json_t *j, struct id *id,
                      struct err *err)
{
    switch (kind) {
        ADD_JSON(evaluation, EVALUATION, evaluation_release)
        ADD_JSON(claim, CLAIM, claim_release)
        ADD_JSON(evidence, EVIDENCE, evidence_release)
        ADD_JSON(retraction, RETRACTION, retraction_release)
        ADD_JSON(link, LINK, link_release)
    case FACT_COUNT:
        break;
    }
    return err_set(err, ERR_INVALID, "there is no kind of fact with number %d", (int)kind);
}
