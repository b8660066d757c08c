/* SPDX-License-Identifier: Apache-2.0 */
/* kb_verify: everything read back, parsed strictly, addressed and folded anew; see kb.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "kb_impl.h"

enum { PROBLEMS_MAX = 1000 };

struct verify {
    struct kb *kb;
    json_t *problems;
    struct digest *digest;
    enum schema_cf cf;
    enum fact_kind kind;
    uint64_t numbers;
};

__attribute__((format(printf, 2, 3))) static void problem(struct verify *v, const char *fmt, ...)
{
    char sentence[700];
    va_list ap;

    if (json_array_size(v->problems) > PROBLEMS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, ap);
    va_end(ap);
    if (json_array_size(v->problems) == PROBLEMS_MAX)
        str_copy(sentence, sizeof(sentence), "there are more problems than are listed here");
    json_array_append_new(v->problems, json_string(sentence));
}

/* ---- Documents ---- */

static int verify_doc(void *ctx, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct verify *v = ctx;
    json_auto_t *j = NULL;
    char seen[160];
    struct err err;

    str_visible(key, key_len, seen, sizeof(seen));
    if (json_of_value(value, value_len, &j, &err) != 0)
        problem(v, "%s '%s' is damaged: %s", schema_cf_name(v->cf), seen, err.msg);
    else if (!json_is_object(j))
        problem(v, "%s '%s' is damaged: it is no object", schema_cf_name(v->cf), seen);
    return 0;
}

/* ---- Facts ---- */

static int parse_fact(enum fact_kind kind, const json_t *j, struct err *err)
{
    union {
        struct evaluation evaluation;
        struct claim claim;
        struct evidence evidence;
        struct retraction retraction;
        struct link link;
    } u;

    switch (kind) {
    case FACT_EVALUATION:
        if (evaluation_from_json(j, &u.evaluation, err) != 0)
            return -1;
        evaluation_release(&u.evaluation);
        return 0;
    case FACT_CLAIM:
        if (claim_from_json(j, &u.claim, err) != 0)
            return -1;
        claim_release(&u.claim);
        return 0;
    case FACT_EVIDENCE:
        if (evidence_from_json(j, &u.evidence, err) != 0)
            return -1;
        evidence_release(&u.evidence);
        return 0;
    case FACT_RETRACTION:
        if (retraction_from_json(j, &u.retraction, err) != 0)
            return -1;
        retraction_release(&u.retraction);
        return 0;
    case FACT_LINK:
        return link_from_json(j, &u.link, err);
    case FACT_COUNT:
        break;
    }
    return err_set(err, ERR_INTERNAL, "unknown kind of fact");
}

/* Whether the number that the fact was given leads back to it. */
static int verify_number(struct verify *v, const struct id *id, uint64_t seq, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    struct fact_ref ref;
    struct key key;

    key_of_u64(seq, &key);
    if (store_get(v->kb->store, CF_FACT, &key, &value, err) != 0 ||
        fact_ref_decode(value.data, value.len, &ref, err) != 0)
        return -1;
    if (ref.kind != v->kind || strcmp(ref.id.hex, id->hex) != 0)
        return err_set(err, ERR_CORRUPT, "its number %" PRIu64 " belongs to %s %s", seq,
                       fact_kind_name(ref.kind), ref.id.hex);
    return 0;
}

static int verify_text(struct verify *v, const struct id *id, const char *text, size_t len,
                       struct err *err)
{
    json_auto_t *j = NULL;
    struct id address;

    id_of_bytes(text, len, &address);
    if (strcmp(address.hex, id->hex) != 0)
        return err_set(err, ERR_CORRUPT, "its text has the content address %s", address.hex);
    if (json_of_value(text, len, &j, err) != 0)
        return -1;
    return parse_fact(v->kind, j, err);
}

static int verify_fact(void *ctx, const void *key, size_t key_len, const void *value,
                       size_t value_len)
{
    struct verify *v = ctx;
    struct fact_head head;
    const char *text;
    struct err err;
    struct id id;
    size_t len;

    if (key_to_id(key, key_len, &id, &err) != 0) {
        problem(v, "a %s has a damaged key: %s", fact_kind_name(v->kind), err.msg);
        return 0;
    }
    digest_add(v->digest, id.hex, ID_HEX + 1);
    if (fact_decode(value, value_len, &head, &text, &len, &err) != 0 ||
        verify_text(v, &id, text, len, &err) != 0 || verify_number(v, &id, head.seq, &err) != 0)
        problem(v, "%s %s is damaged: %s", fact_kind_name(v->kind), id.hex, err.msg);
    return 0;
}

/* Numbers have no gaps, and each leads to a fact that is there. */
static int verify_ref(void *ctx, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct verify *v = ctx;
    struct fact_ref ref;
    struct key fact;
    struct err err;
    uint64_t seq;
    bool there;

    v->numbers++;
    if (key_to_u64(key, key_len, &seq, &err) != 0 ||
        fact_ref_decode(value, value_len, &ref, &err) != 0) {
        problem(v, "fact number %" PRIu64 " is damaged: %s", v->numbers, err.msg);
        return 0;
    }
    key_of_id(&ref.id, &fact);
    if (seq != v->numbers)
        problem(v, "fact number %" PRIu64 " is missing", v->numbers);
    else if (store_has(v->kb->store, schema_fact_cf(ref.kind), &fact, &there, &err) != 0 || !there)
        problem(v, "fact number %" PRIu64 ", %s %s, is missing", seq, fact_kind_name(ref.kind),
                ref.id.hex);
    v->numbers = seq;
    return 0;
}

/* An origin is a name, of a fact that is there. */
static int verify_origin(void *ctx, const void *key, size_t key_len, const void *value,
                         size_t value_len)
{
    struct verify *v = ctx;
    char name[ORIGIN_MAX + 1];
    bool there = false;
    struct key fact;
    struct err err;
    struct id id;

    if (key_to_id(key, key_len, &id, &err) != 0) {
        problem(v, "an origin has a damaged key: %s", err.msg);
        return 0;
    }
    key_of_id(&id, &fact);
    for (int kind = 0; kind < FACT_COUNT && !there; kind++)
        if (store_has(v->kb->store, schema_fact_cf((enum fact_kind)kind), &fact, &there, &err) != 0)
            break;
    if (!there)
        problem(v, "fact %s has an origin, and is missing", id.hex);
    if (value_len == 0 || value_len > ORIGIN_MAX) {
        problem(v, "the origin of fact %s has %zu bytes; 1 to %d are allowed", id.hex, value_len,
                ORIGIN_MAX);
        return 0;
    }
    memcpy(name, value, value_len);
    name[value_len] = '\0';
    if (strlen(name) != value_len || origin_check(name, &err) != 0)
        problem(v, "the origin of fact %s is damaged", id.hex);
    return 0;
}

/* ---- The walk ---- */

static void verify_cf(struct verify *v, enum schema_cf cf, store_visit *fn)
{
    struct err err;

    v->cf = cf;
    if (store_each(v->kb->store, cf, NULL, NULL, fn, v, &err) != 0)
        problem(v, "%s records: %s", schema_cf_name(cf), err.msg);
}

static void verify_stored(struct verify *v)
{
    static const enum schema_cf docs[] = { CF_TASK,   CF_DEVICE, CF_PROGRAM,
                                           CF_SEARCH, CF_SIDE,   CF_EVENT };

    for (size_t i = 0; i < ARRAY_LEN(docs); i++)
        verify_cf(v, docs[i], verify_doc);
    for (int kind = 0; kind < FACT_COUNT; kind++) {
        v->kind = (enum fact_kind)kind;
        verify_cf(v, schema_fact_cf(v->kind), verify_fact);
    }
    verify_cf(v, CF_FACT, verify_ref);
    verify_cf(v, CF_ORIGIN, verify_origin);
    if (v->numbers != v->kb->last_seq)
        problem(v, "facts are numbered up to %" PRIu64 ", not to %" PRIu64, v->numbers,
                (uint64_t)v->kb->last_seq);
}

static int digest_of_table(const struct table *t, struct id *out, struct err *err)
{
    struct digest *d = digest_new();
    int rc;

    if (d == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a digest");
    rc = table_digest(t, d, err);
    if (rc == 0)
        digest_end(d, out);
    digest_free(d);
    return rc;
}

/* Folds the stored facts again, into another table, and compares. */
static int verify_folded(struct verify *v, struct id *derived, struct err *err)
{
    struct kb *kb = v->kb;
    uint64_t counts[FACT_COUNT] = { 0 };
    struct table fresh;
    struct id again;
    int rc;

    if (digest_of_table(&kb->table, derived, err) != 0 ||
        table_init(&fresh, load_evidence, kb->store, err) != 0)
        return -1;
    rc = load_table(kb, NULL, &fresh, counts, err);
    if (rc != 0 && err->code == ERR_NOMEM) {
        table_release(&fresh);
        return -1;
    }
    if (rc != 0 || (rc = digest_of_table(&fresh, &again, err)) != 0)
        problem(v, "the insights cannot be folded again: %s", err->msg);
    else if (strcmp(again.hex, derived->hex) != 0)
        problem(v, "the insights in memory differ from what the stored facts add up to");
    if (rc != 0 || strcmp(again.hex, derived->hex) != 0)
        kb->left_out = true;
    table_release(&fresh);
    return 0;
}

/* No commit runs meanwhile, so the facts and what is folded from them belong together. */
int kb_verify(struct kb *kb, json_t *problems, struct id *digest, struct err *err)
{
    struct verify v = { .kb = kb, .problems = problems, .digest = digest_new() };
    struct id derived;
    int rc;

    if (v.digest == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a digest");
    pthread_mutex_lock(&kb->commit);
    rc = kb_refresh(kb, err);
    if (rc == 0) {
        verify_stored(&v);
        rc = verify_folded(&v, &derived, err);
    }
    pthread_mutex_unlock(&kb->commit);
    if (rc == 0) {
        digest_add(v.digest, derived.hex, ID_HEX);
        digest_end(v.digest, digest);
    }
    digest_free(v.digest);
    return rc;
}
