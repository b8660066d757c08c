/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key and value layout of the store, in one place; docs/format.md describes them for people.
 * Numbers in keys are big-endian, so that key order is number order. Documents and events are
 * canonical JSON; a fact is a 16-byte head (struct fact_head) and its canonical JSON. A change here
 * is a new SCHEMA_VERSION and a migration. Thread: any; keys are values.
 */
#ifndef KS_KB_SCHEMA_H
#define KS_KB_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "record.h"

enum { SCHEMA_VERSION = 1 };

/* Column families: enum name, stored name. A stored name is never used for anything else again. */
#define SCHEMA_CF_MAP(X)                                                                           \
    X(META, "default")          /* text: schema, id, created, migration */                         \
    X(TASK, "task")             /* document key */                                                 \
    X(DEVICE, "device")         /* document key */                                                 \
    X(PROGRAM, "program")       /* document key */                                                 \
    X(SEARCH, "search")         /* document key */                                                 \
    X(SIDE, "side")             /* document key */                                                 \
    X(EVENT, "event")           /* search 0x00 number(8) */                                        \
    X(EVALUATION, "evaluation") /* id(32) */                                                       \
    X(CLAIM, "claim")           /* id(32) */                                                       \
    X(EVIDENCE, "evidence")     /* id(32) */                                                       \
    X(RETRACTION, "retraction") /* id(32) */                                                       \
    X(LINK, "link")             /* id(32) */                                                       \
    X(FACT, "fact")             /* sequence(8) -> struct fact_ref */                               \
    X(EVALUATED, "evaluated")   /* task 0x00 sequence(8) -> id(32) device name */                  \
    X(ORIGIN, "origin")         /* id(32) of a fact from elsewhere -> name of where; origin.h */   \
    X(EMBEDDING, "embedding")   /* model(8) id(32) of a claim -> 256 signed bytes; a cache */

enum schema_cf {
#define X(name, text) CF_##name,
    SCHEMA_CF_MAP(X)
#undef X
        CF_COUNT
};
/* "default", "task", ... */
const char *schema_cf_name(enum schema_cf cf);
/* The column family that holds facts of this kind. */
enum schema_cf schema_fact_cf(enum fact_kind kind);

/* Keys of CF_META. */
#define META_SCHEMA "schema"       /* integer */
#define META_ID "id"               /* string, 32 hex digits, random */
#define META_CREATED "created"     /* integer, wall time in nanoseconds */
#define META_MIGRATION "migration" /* while one runs: {"from", "cursor"} */
/* Integer, absent for 0: how many foreign facts became local. That changes derived state without a
 * sequence number, so a snapshot of derived state is good only for the count it was taken at. */
#define META_ADOPTED "adopted"

enum { DOC_KEY_MAX = 512, KEY_MAX = DOC_KEY_MAX + 16, ID_BYTES = 32 };
/* Longest value: a document, an event, a fact without its head. */
enum { VALUE_MAX = 64 << 20 };

struct key {
    size_t len;
    uint8_t bytes[KEY_MAX];
};

/* A key of 1 to DOC_KEY_MAX bytes of text; ERR_INVALID names `what`. */
int key_of_text(const char *what, const char *text, struct key *out, struct err *err);
/* `id` must hold 64 digits. */
void key_of_id(const struct id *id, struct key *out);
void key_of_u64(uint64_t n, struct key *out);
/* text 0x00 number: events of a search, evaluations of a task. ERR_INVALID names `what`. */
int key_of_pair(const char *what, const char *text, uint64_t n, struct key *out, struct err *err);
/* The prefix of all key_of_pair with this text. ERR_INVALID names `what`. */
int key_of_pair_prefix(const char *what, const char *text, struct key *out, struct err *err);

/* The reverse, of keys that came from the store; ERR_CORRUPT. */
int key_to_id(const void *key, size_t len, struct id *out, struct err *err);
int key_to_u64(const void *key, size_t len, uint64_t *out, struct err *err);
/* The number at the end of a key_of_pair. */
int key_to_pair_number(const void *key, size_t len, uint64_t *out, struct err *err);

/*
 * Appends the canonical text of a value, the one that jsonx_canonical gives. That function's way of
 * growing its text loses parts of it, without an error, when memory runs out half-way; what goes to
 * the store must not. ERR_NOMEM, ERR_LIMIT.
 */
int json_to_value(const json_t *v, struct buf *out, struct err *err);
/* Parses a stored document, event or meta value. ERR_CORRUPT when it is none, ERR_NOMEM. */
int json_of_value(const void *value, size_t len, json_t **out, struct err *err);

/* What stands before the JSON of a fact: local, in no digest. */
struct fact_head {
    uint64_t seq;            /* from 1, without gaps */
    uint64_t recorded_at_ns; /* wall time of the commit */
    bool foreign;            /* has an origin: kept in CF_ORIGIN, not in these bytes */
};
enum { FACT_HEAD_BYTES = 16 };
void fact_head_encode(const struct fact_head *h, uint8_t out[FACT_HEAD_BYTES]);
/* Splits a stored fact; `*text` points into `value`. ERR_CORRUPT. */
int fact_decode(const void *value, size_t len, struct fact_head *head, const char **text,
                size_t *text_len, struct err *err);

/* Value of CF_FACT: which fact got the number. */
struct fact_ref {
    enum fact_kind kind;
    struct id id;
};
enum { FACT_REF_BYTES = 1 + ID_BYTES };
void fact_ref_encode(const struct fact_ref *r, uint8_t out[FACT_REF_BYTES]);
int fact_ref_decode(const void *value, size_t len, struct fact_ref *out, struct err *err);

#endif
