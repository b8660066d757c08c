/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field tables of records: one row a field, in the order of canonical JSON (sorted names), from
 * which strict parsing, checking, writing, fast reading of what we wrote, and freeing all follow.
 * Every field is required: a record has one text. Texts are owned by the record. Thread: any.
 */
#ifndef KS_KB_FIELDS_H
#define KS_KB_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "record.h"

enum field_type {
    FIELD_TEXT,   /* char *; NULL is written as "" */
    FIELD_ID,     /* struct id */
    FIELD_INT,    /* int64_t within low..high */
    FIELD_COUNT,  /* uint64_t within 0..high */
    FIELD_BOOL,   /* bool */
    FIELD_OBJECT, /* json_t *, at most `high` members */
    FIELD_ARRAY,  /* json_t *, at most `high` items */
    FIELD_FACT    /* enum fact_kind as text: "claim" or "evidence" */
};

enum {
    FIELD_NONEMPTY = 1, /* of a text */
    FIELD_NAME = 2,     /* empty, or str_is_name */
    FIELD_CELL = 4,     /* no '|' and no control character: part of a cell's key */
    FIELD_MAY_LACK = 8, /* an id may be empty */
    FIELD_NUMBERS = 16, /* members are finite numbers */
    FIELD_SCALARS = 32, /* members are texts, finite numbers, true or false */
    FIELD_SEED = 64     /* 16 hexadecimal digits */
};

struct field {
    const char *name; /* NULL ends the table */
    enum field_type type;
    size_t offset;
    unsigned rules;
    int64_t low, high;          /* INT, COUNT; of a TEXT `high` is the most bytes */
    const char *const *choices; /* of a TEXT: NULL-terminated; NULL for any */
};

/* Checks every rule; ERR_INVALID names `what`, the field, the value and what is allowed. */
int fields_check(const struct field *rows, const char *what, const void *record, struct err *err);
/* Parses into a zeroed record and checks; on failure the record is released. ERR_INVALID,
 * ERR_NOMEM. */
int fields_parse(const struct field *rows, const char *what, const json_t *j, void *record,
                 struct err *err);
/* A fresh object; NULL when memory is out or a text is not UTF-8. */
json_t *fields_json(const struct field *rows, const void *record);
/* Appends the canonical text. ERR_NOMEM, ERR_LIMIT, ERR_INVALID for a text that is not UTF-8. */
int fields_write(const struct field *rows, const char *what, const void *record, struct buf *out,
                 struct err *err);
/*
 * Reads canonical text that fields_write made into a zeroed record: one pass, several times faster
 * than parsing, and checks no rules but the ranges of numbers. ERR_INVALID for any other text,
 * ERR_NOMEM; on failure there is nothing to release.
 */
int fields_read(const struct field *rows, const char *what, const char *text, size_t len,
                void *record, struct err *err);
/* The same in place: `text`, with a NUL after its `len` bytes, is changed, and the record's texts
 * point into it. Ended by fields_leave. */
int fields_view(const struct field *rows, const char *what, char *text, size_t len, void *record,
                struct err *err);
/* Frees what a view owns, its JSON; sets that and texts to NULL. */
void fields_leave(const struct field *rows, void *record);
/* Frees texts and JSON and sets them to NULL. */
void fields_release(const struct field *rows, void *record);

#endif
