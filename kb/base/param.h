/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON parameter tables: one row a field, parsed once and strictly into a struct. Unknown keys,
 * wrong types, values out of range and missing required fields are errors that name the field, the
 * value and what was allowed. Help texts and docs/rpc.md are printed from the same rows. Thread:
 * any. Strings in the target struct are owned; param_release frees them.
 */
#ifndef KS_BASE_PARAM_H
#define KS_BASE_PARAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum param_type {
    PARAM_STR,  /* char *, owned; NULL when absent */
    PARAM_NAME, /* char *, owned; str_is_name */
    PARAM_U64,  /* uint64_t */
    PARAM_I64,  /* int64_t */
    PARAM_REAL, /* double */
    PARAM_BOOL, /* bool */
    PARAM_ENUM, /* int, an index into `choices` */
    PARAM_JSON, /* json_t *, owned reference; NULL when absent */
    PARAM_TYPE_COUNT
};

enum { PARAM_REQUIRED = 1 };

struct param {
    const char *name; /* NULL ends the table */
    enum param_type type;
    size_t offset; /* of the field in the target struct */
    unsigned flags;
    const char *help;
    /* Bounds for U64, I64 and REAL (inclusive) when max > min; for STR `max` caps the bytes (0: 64
     * KiB). */
    double min, max;
    const char *const *choices; /* PARAM_ENUM: NULL-terminated */
    /* Set true when the field was given; SIZE_MAX-free tables leave it 0 and has_offset unused. */
    size_t seen_offset; /* offset of a bool plus 1; 0 for none */
};

/* `seen_offset` of a bool member. */
#define PARAM_SEEN(type, member) (offsetof(type, member) + 1)

/*
 * Parses `obj` (an object, or NULL for none given) into `out`, which holds the defaults.
 * ERR_INVALID names the field. On failure what was already parsed is released.
 */
int param_parse(const struct param *rows, const json_t *obj, void *out, struct err *err);
/* Frees the owned fields and sets them to NULL. */
void param_release(const struct param *rows, void *out);
/* "string", "integer", "one of a, b" ... as documentation writes it. */
void param_type_text(const struct param *row, char *out, size_t size);

#endif
