/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constraint expressions of a tuning space: `KV_TILE % UNROLL == 0`, `SOFTMAX == 'online' ||
 * KV_TILE <= 64`. Integers, reals, 'text', names, + - * / %, == != < <= > >=, && || !, true false,
 * parentheses. Types are checked when parsing, so evaluation cannot meet a wrong one: `%` takes
 * whole numbers, `/` is real division, text compares by == and != only, and a text literal must be
 * a value of the tunable it is compared with. Thread: any; an expression is immutable once parsed.
 */
#ifndef KS_SEARCH_SPACE_EXPR_H
#define KS_SEARCH_SPACE_EXPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SPACE_EXPR_LEN_MAX = 2048, /* bytes of text */
    SPACE_EXPR_DEPTH_MAX = 32, /* nested operators and parentheses */
    SPACE_EXPR_NODES_MAX = 512
};

enum space_expr_type {
    SPACE_EXPR_INT,
    SPACE_EXPR_REAL,
    SPACE_EXPR_BOOL,
    SPACE_EXPR_TEXT,
    SPACE_EXPR_TYPE_COUNT
};

struct space_expr; /* opaque */

/* What a name means: looked up while parsing. */
struct space_expr_names {
    void *ctx;
    /* The variable's number (>= 0) and type; -1 when there is none of this name (`len` bytes, no
     * NUL). */
    int (*find)(void *ctx, const char *name, size_t len, enum space_expr_type *type);
    /* The number that stands for this text as a value of text variable `var`; -1 when it is none.
     */
    int (*text_value)(void *ctx, int var, const char *text, size_t len);
};

/*
 * Parses one Boolean expression; `*out` is owned by the caller. ERR_INVALID says what is wrong and
 * at which column, ERR_LIMIT names the cap that was passed, ERR_NOMEM.
 */
int space_expr_parse(const char *text, const struct space_expr_names *names,
                     struct space_expr **out, struct err *err);
void space_expr_free(struct space_expr *e);

/* The text it was parsed from; borrowed. */
const char *space_expr_text(const struct space_expr *e);
/* The variables it mentions: bit v of the answer is variable v (v < 64). */
uint64_t space_expr_vars(const struct space_expr *e);

/*
 * Truth under `vars`: one number per variable (an integer or real itself, 0 or 1 for a Boolean, the
 * number of text_value for a text). Division or remainder by zero makes the expression false.
 */
bool space_expr_eval(const struct space_expr *e, const double *vars);

#endif
