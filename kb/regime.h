/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shape regimes: a task's shape as named numbers (experts, top_k, kv_heads, tokens_per_expert, ...)
 * with data type and block scale, and how far two of them are apart. Nothing snaps to the nearest
 * key: likeness falls continuously with the distance, guards cap it, and a match says how far it
 * fell back. docs/retrieval.md has the formulas. Values, no memory to free. Thread: any.
 */
#ifndef KS_KB_REGIME_H
#define KS_KB_REGIME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    REGIME_AXES_MAX = 32,
    REGIME_NAME_MAX = 48,  /* bytes of an axis' name, with its NUL */
    REGIME_LABEL_MAX = 24, /* of data type and block scale */
    REGIME_TEXT_MAX = 2048 /* of a whole regime as text */
};

struct regime_axis {
    char name[REGIME_NAME_MAX]; /* canonical */
    double value;               /* >= 0, finite */
};

struct regime {
    size_t n;
    struct regime_axis axes[REGIME_AXES_MAX]; /* by name, each once */
    char dtype[REGIME_LABEL_MAX];             /* "" unknown; canonical: "bf16", "fp8", ... */
    char block_scale[REGIME_LABEL_MAX];       /* "128x128"; "" unknown */
};

/* How far a match had to fall back, nearest first. */
enum regime_level {
    REGIME_SAME,    /* all that both say is equal */
    REGIME_NEAR,    /* likeness of at least 0.3 */
    REGIME_FAMILY,  /* the same family, and no more than that */
    REGIME_RELATED, /* a family that is said to be related */
    REGIME_NONE,    /* nothing in common */
    REGIME_LEVEL_COUNT
};
/* "same regime", "near regime", ... */
const char *regime_level_name(enum regime_level level);

enum regime_kinship { REGIME_OWN_FAMILY, REGIME_RELATED_FAMILY, REGIME_OTHER_FAMILY };

struct regime_match {
    double distance;   /* weighted doublings, >= 0 */
    double similarity; /* (0, 1], 0 at REGIME_NONE */
    enum regime_level level;
    const char *guard; /* "dtype", "block scale", "quantisation": what capped it; NULL: nothing */
    size_t shared;     /* axes that both have */
};

/*
 * The canonical name of an axis ("num_experts" and "n_experts" are "experts"); a name that is not
 * known stands for itself. Case does not matter. Borrowed from the table or from `name`.
 */
const char *regime_axis_name(const char *name);
/* Whether the name is one that shapes are described by. */
bool regime_axis_known(const char *name);
/* "fp8" for "f8_e4m3", "float8_e4m3fn", ...; an unknown one is only lowered and cut. Returns out.
 */
char *regime_dtype_name(const char *name, char out[REGIME_LABEL_MAX]);

/*
 * Enters an axis, or replaces its value; the names "dtype" and "block_scale" are regime_parse's.
 * ERR_INVALID for a name that is none or a value that is negative or not finite, ERR_LIMIT above
 * REGIME_AXES_MAX.
 */
int regime_put(struct regime *r, const char *name, double value, struct err *err);
/* The value of an axis; false when it has none of this name (any alias). */
bool regime_get(const struct regime *r, const char *name, double *out);
/*
 * "experts=64, topk=8, tokens_per_expert=8, dtype=fp8, block_scale=128x128": blanks are free,
 * numbers may end in k or M (1024, 1024^2). ERR_INVALID names the part that is wrong.
 */
int regime_parse(const char *text, struct regime *out, struct err *err);
/* The same of a stored text: parts that are no axis are left out. */
void regime_read(const char *text, struct regime *out);
/* The axes as "experts=64,top_k=8,dtype=fp8"; "" for none. Cut at a whole axis. Returns out. */
char *regime_text(const struct regime *r, char *out, size_t size);
bool regime_is_empty(const struct regime *r);
/* Adds what `from` says and `r` does not. */
void regime_complete(struct regime *r, const struct regime *from);

/*
 * Distance and likeness. Symmetric; a regime and itself have distance 0 and likeness 1; where two
 * regimes have the same axes, the distance obeys the triangle inequality.
 */
struct regime_match regime_compare(const struct regime *a, const struct regime *b,
                                   enum regime_kinship kinship);
/* The same of a question and a regime: what the question leaves open is no distance. */
struct regime_match regime_meet(const struct regime *asked, const struct regime *known,
                                enum regime_kinship kinship);

#endif
