/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schema 0 to 1: the index of evaluations by task, and the identity of the knowledge base.
 *
 * before: meta holds "schema" alone; there is no column family "evaluated"
 * after:  evaluated[task 0x00 sequence(8)] = id(32) device, for each evaluation;
 *         meta holds "id" and "created" too
 *
 * A step indexes the next facts by number; the cursor is the last number done.
 */
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "folder.h"
#include "migrations.h"
#include "record_text.h"

enum { FACTS_PER_STEP = 1000 };

static int prepare(struct store *s, struct err *err)
{
    return store_add_cf(s, CF_EVALUATED, err);
}

static int put_row(struct store *s, struct store_batch *b, uint64_t seq, const struct id *id,
                   const struct evaluation *e, struct err *err)
{
    struct key key, value;

    if (key_of_pair("task", e->task, seq, &key, err) != 0)
        return -1;
    key_of_id(id, &value);
    store_batch_put(b, s, CF_EVALUATED, &key, value.bytes, value.len, e->device, strlen(e->device));
    return 0;
}

static int index_evaluation(struct store *s, struct store_batch *b, uint64_t seq,
                            const struct id *id, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    struct fact_head head;
    struct evaluation e;
    struct key key;
    const char *text;
    size_t len;
    int rc;

    key_of_id(id, &key);
    if (store_get(s, CF_EVALUATION, &key, &value, err) != 0 ||
        fact_decode(value.data, value.len, &head, &text, &len, err) != 0 ||
        evaluation_read(text, len, &e, err) != 0)
        return err_ctx(err, "evaluation %s", id->hex);
    rc = put_row(s, b, seq, id, &e, err);
    evaluation_release(&e);
    return rc;
}

struct walk {
    struct store *store;
    struct store_batch *b;
    uint64_t facts, last;
    struct err *err;
    int rc;
};

static int visit(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct walk *w = ctx;
    struct fact_ref ref;

    if (w->facts == FACTS_PER_STEP)
        return 1;
    w->rc = key_to_u64(key, key_len, &w->last, w->err);
    if (w->rc == 0)
        w->rc = fact_ref_decode(value, value_len, &ref, w->err);
    if (w->rc == 0 && ref.kind == FACT_EVALUATION)
        w->rc = index_evaluation(w->store, w->b, w->last, &ref.id, w->err);
    w->facts++;
    return w->rc;
}

static int put_identity(struct store *s, const struct clock *clock, struct store_batch *b,
                        struct err *err)
{
    json_auto_t *id = NULL, *created = json_integer((json_int_t)clock->wall_ns(clock));
    uint8_t random[KB_ID_HEX / 2];
    char hex[KB_ID_HEX + 1];

    if (rng_os(random, sizeof(random)) != 0)
        return err_set(err, ERR_IO, "the kernel gives no random numbers");
    str_hex(random, sizeof(random), hex);
    id = json_string(hex);
    if (id == NULL || created == NULL)
        return err_set(err, ERR_NOMEM, "no memory to migrate");
    if (meta_put(b, s, META_ID, id, err) != 0)
        return -1;
    return meta_put(b, s, META_CREATED, created, err);
}

static int step(struct store *s, const struct clock *clock, const json_t *cursor,
                struct store_batch *b, json_t **next, struct err *err)
{
    struct walk w = { .store = s, .b = b, .err = err };
    struct key from;

    key_of_u64(cursor ? (uint64_t)json_integer_value(cursor) + 1 : 0, &from);
    if (store_each(s, CF_FACT, NULL, &from, visit, &w, err) != 0 || w.rc != 0)
        return -1;
    if (w.facts < FACTS_PER_STEP)
        return put_identity(s, clock, b, err);
    *next = json_integer((json_int_t)w.last);
    return *next ? 0 : err_set(err, ERR_NOMEM, "no memory to migrate");
}

extern const struct migration migration_0001_evaluated;
const struct migration migration_0001_evaluated = {
    .from = 0,
    .name = "0001_evaluated",
    .what = "index evaluations by task and give the knowledge base an id",
    .prepare = prepare,
    .step = step,
};
