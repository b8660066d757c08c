/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of keys and values; see schema.h. */
#include "schema.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

const char *schema_cf_name(enum schema_cf cf)
{
    static const char *const names[] = {
#define X(name, text) text,
        SCHEMA_CF_MAP(X)
#undef X
    };

    assert(cf >= 0 && cf < CF_COUNT);
    return names[cf];
}

enum schema_cf schema_fact_cf(enum fact_kind kind)
{
    static const enum schema_cf cfs[FACT_COUNT] = { CF_EVALUATION, CF_CLAIM, CF_EVIDENCE,
                                                    CF_RETRACTION, CF_LINK };

    assert(kind >= 0 && kind < FACT_COUNT);
    return cfs[kind];
}

static void put_u64(uint8_t *out, uint64_t n)
{
    for (int i = 7; i >= 0; i--, n >>= 8)
        out[i] = (uint8_t)n;
}

static uint64_t get_u64(const uint8_t *in)
{
    uint64_t n = 0;

    for (int i = 0; i < 8; i++)
        n = n << 8 | in[i];
    return n;
}

int key_of_text(const char *what, const char *text, struct key *out, struct err *err)
{
    size_t len = text ? strlen(text) : 0;

    if (len == 0)
        return err_set(err, ERR_INVALID, "%s is empty; 1 to %d bytes are allowed", what,
                       DOC_KEY_MAX);
    if (len > DOC_KEY_MAX)
        return err_set(err, ERR_INVALID, "%s has %zu bytes; 1 to %d are allowed", what, len,
                       DOC_KEY_MAX);
    memcpy(out->bytes, text, len);
    out->len = len;
    return 0;
}

void key_of_id(const struct id *id, struct key *out)
{
    bool hex = str_unhex(id->hex, ID_BYTES, out->bytes);

    assert(hex);
    out->len = ID_BYTES;
}

void key_of_u64(uint64_t n, struct key *out)
{
    put_u64(out->bytes, n);
    out->len = 8;
}

int key_of_pair_prefix(const char *what, const char *text, struct key *out, struct err *err)
{
    if (key_of_text(what, text, out, err) != 0)
        return -1;
    out->bytes[out->len++] = 0;
    return 0;
}

int key_of_pair(const char *what, const char *text, uint64_t n, struct key *out, struct err *err)
{
    if (key_of_pair_prefix(what, text, out, err) != 0)
        return -1;
    put_u64(out->bytes + out->len, n);
    out->len += 8;
    return 0;
}

int key_to_id(const void *key, size_t len, struct id *out, struct err *err)
{
    if (len != ID_BYTES)
        return err_set(err, ERR_CORRUPT, "a stored id has %zu bytes, not %d", len, ID_BYTES);
    str_hex(key, ID_BYTES, out->hex);
    return 0;
}

int key_to_u64(const void *key, size_t len, uint64_t *out, struct err *err)
{
    if (len != 8)
        return err_set(err, ERR_CORRUPT, "a stored number has %zu bytes, not 8", len);
    *out = get_u64(key);
    return 0;
}

int key_to_pair_number(const void *key, size_t len, uint64_t *out, struct err *err)
{
    const uint8_t *bytes = key;

    if (len < 10 || bytes[len - 9] != 0)
        return err_set(err, ERR_CORRUPT, "a stored key of %zu bytes has no number", len);
    *out = get_u64(bytes + len - 8);
    return 0;
}

int json_to_value(const json_t *v, struct buf *out, struct err *err)
{
    size_t flags = JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);
    size_t len = json_dumpb(v, NULL, 0, flags);

    if (len == 0)
        return err_set(err, ERR_NOMEM, "no memory for the text of a document");
    if (buf_reserve(out, len, err) != 0)
        return -1;
    if (json_dumpb(v, out->data + out->len, len, flags) != len)
        return err_set(err, ERR_NOMEM, "no memory for the text of a document");
    out->len += len;
    out->data[out->len] = '\0';
    return 0;
}

int json_of_value(const void *value, size_t len, json_t **out, struct err *err)
{
    json_error_t je;

    /* The library calls some failed allocations bad syntax: only what fails twice is damage. */
    for (int attempt = 0; attempt < 2; attempt++) {
        *out = json_loadb(value, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
        if (*out)
            return 0;
    }
    if (json_error_code(&je) == json_error_out_of_memory)
        return err_set(err, ERR_NOMEM, "no memory for %zu bytes of JSON", len);
    return err_set(err, ERR_CORRUPT, "it is no JSON from line %d, column %d on", je.line,
                   je.column);
}

void fact_head_encode(const struct fact_head *h, uint8_t out[FACT_HEAD_BYTES])
{
    put_u64(out, h->seq);
    put_u64(out + 8, h->recorded_at_ns);
}

int fact_decode(const void *value, size_t len, struct fact_head *head, const char **text,
                size_t *text_len, struct err *err)
{
    if (len <= FACT_HEAD_BYTES)
        return err_set(err, ERR_CORRUPT, "a stored fact has only %zu bytes", len);
    head->seq = get_u64(value);
    head->recorded_at_ns = get_u64((const uint8_t *)value + 8);
    head->foreign = false; /* for those who can ask CF_ORIGIN */
    *text = (const char *)value + FACT_HEAD_BYTES;
    *text_len = len - FACT_HEAD_BYTES;
    return 0;
}

void fact_ref_encode(const struct fact_ref *r, uint8_t out[FACT_REF_BYTES])
{
    bool hex = str_unhex(r->id.hex, ID_BYTES, out + 1);

    assert(hex);
    out[0] = (uint8_t)r->kind;
}

int fact_ref_decode(const void *value, size_t len, struct fact_ref *out, struct err *err)
{
    const uint8_t *bytes = value;

    if (len != FACT_REF_BYTES || bytes[0] >= FACT_COUNT)
        return err_set(err, ERR_CORRUPT, "a stored fact number points to nothing known");
    out->kind = (enum fact_kind)bytes[0];
    str_hex(bytes + 1, ID_BYTES, out->id.hex);
    return 0;
}
