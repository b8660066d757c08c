/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tuning space: named parameters with typed lists of values, and constraints between them. An
 * assignment is one value index per parameter, `uint16_t a[space_n(s)]`, in the order of
 * declaration. A pattern is the same with SPACE_ANY for "free"; a *cell* is the pattern that fixes
 * the structural parameters alone. Space JSON is in docs/design.md, section 2. A space is immutable
 * after it was made. Thread: any. Functions take borrowed arguments; strings, arrays and JSON that
 * they return are the caller's.
 */
#ifndef KS_SEARCH_SPACE_H
#define KS_SEARCH_SPACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"

enum {
    SPACE_PARAMS_MAX = 64,
    SPACE_VALUES_MAX = 4096, /* of one parameter */
    SPACE_CONSTRAINTS_MAX = 128,
    SPACE_TEXT_MAX = 1 << 20, /* bytes of a space file */
    SPACE_ROWS_MAX = 1 << 20, /* of a space made of rows */
    SPACE_NEIGHBOURS_MAX = 1024,
    SPACE_ANY = 0xffff /* in a pattern: any value */
};

enum space_type { SPACE_INT, SPACE_REAL, SPACE_BOOL, SPACE_ENUM, SPACE_TYPE_COUNT };
enum space_kind { SPACE_ORDINAL, SPACE_CATEGORICAL, SPACE_KIND_COUNT };
enum space_role { SPACE_STRUCTURAL, SPACE_NUMERIC, SPACE_ROLE_COUNT };

struct space_value {
    double num;       /* int, real: the value; bool: 0 or 1; enum: its index */
    const char *text; /* as a build define and a key have it: "16", "0.5", "1", "online" */
    const char *help; /* of an enum value; NULL when none */
};

struct space_param {
    const char *name;
    enum space_type type;
    enum space_kind kind;
    enum space_role role;
    uint16_t n_values;      /* at least 1 */
    uint16_t default_index; /* of its default value */
    const struct space_value *values;
    const char *technique; /* NULL when none */
    const char *help;      /* NULL when none */
};

struct space; /* opaque */

/*
 * Makes a space of its JSON; `what` names the document in errors. Without parameters it has one
 * assignment, of nothing (a program that declares no tunables). Strict: unknown keys, duplicate
 * names, empty or repeated values, a default that is no value or that breaks a constraint, a bad
 * constraint, and names that cannot be build macros are ERR_INVALID; caps are ERR_LIMIT.
 */
int space_parse(const json_t *doc, const char *what, struct space **out, struct err *err);
/* The same from a file. Also ERR_NOT_FOUND, ERR_IO. Thread: worker, blocks. */
int space_load(const char *path, struct space **out, struct err *err);
/*
 * Makes the space of an explicit list (a recorded table): `rows` is a JSON array of objects with
 * the same keys. Valid is what is listed; values are sorted; numbers become ordinal, Booleans and
 * strings categorical, all numeric in role; the default is the first row. Row k of the array is
 * space_row(s, k). Repeated rows are ERR_INVALID.
 */
int space_from_rows(const json_t *rows, struct space **out, struct err *err);
void space_free(struct space *s);

size_t space_n(const struct space *s);
/* Parameter p < space_n; borrowed. */
const struct space_param *space_param(const struct space *s, size_t p);
/* Index of the parameter of this name; -1 when there is none. */
int space_find(const struct space *s, const char *name);
/* Index of the value of parameter p whose `text` this is; -1 when there is none. */
int space_value_find(const struct space *s, size_t p, const char *text);
size_t space_constraints(const struct space *s);
/* Text of constraint c < space_constraints; borrowed. */
const char *space_constraint(const struct space *s, size_t c);
/* The listed rows of a space made of rows: 0 for a constrained one. */
size_t space_rows(const struct space *s);
/* Row k < space_rows; borrowed. */
const uint16_t *space_row(const struct space *s, size_t k);
/* The row number of an assignment; -1 when it is not listed or the space has no rows. */
long space_row_of(const struct space *s, const uint16_t *a);

/* The default assignment into out[space_n]. */
void space_default(const struct space *s, uint16_t *out);
/* Value indices in range and all constraints true (or the row listed). */
bool space_valid(const struct space *s, const uint16_t *a);
/* The same; ERR_INVALID says which constraint is broken, with the assignment. */
int space_check(const struct space *s, const uint16_t *a, struct err *err);

/* One typed value as JSON. Owned reference. */
json_t *space_value_json(const struct space *s, size_t p, uint16_t value);
/* { "KV_TILE": 16, "SOFTMAX": "online" }: all parameters. Owned reference. */
json_t *space_to_json(const struct space *s, const uint16_t *a);
/*
 * The assignment of a JSON object that gives every parameter once, a value of its own type. Does
 * not look at constraints (space_check does). ERR_INVALID names the parameter, the value and what
 * is allowed.
 */
int space_from_json(const struct space *s, const json_t *obj, uint16_t *out, struct err *err);
/* Build macros as an object of strings: name -> text; an enum as its index, with NAME_value ->
 * index. Owned. */
json_t *space_defines(const struct space *s, const uint16_t *a);
/* "A=1,B=x", sorted by name: equal in every space that has these parameters, whatever their order.
 * Pattern: "B=*". */
char *space_key(const struct space *s, const uint16_t *a);
/* 64-bit hash of the value indices: for tables within one space only. */
uint64_t space_hash(const struct space *s, const uint16_t *a);

/* The structural projection of `a`: structural parameters kept, numeric ones SPACE_ANY. */
void space_cell(const struct space *s, const uint16_t *a, uint16_t *cell);
/* Does the assignment agree with the pattern (NULL: yes)? */
bool space_matches(const struct space *s, const uint16_t *pattern, const uint16_t *a);

/*
 * A random valid assignment that agrees with `pattern` (NULL: any): uniform when rejection soon
 * succeeds, or where the valid ones are listed; else by backtracking in random order, which is not
 * uniform but never hopeless. ERR_NOT_FOUND when there is none, ERR_LIMIT when the search for one
 * was given up.
 */
int space_sample(const struct space *s, const uint16_t *pattern, struct rng *rng, uint16_t *out,
                 struct err *err);
/*
 * All valid assignments that agree with `pattern`, [n][space_n] in lexicographic order of value
 * indices (in row order for listed ones). ERR_LIMIT when there are more than `cap` or the walk is
 * too long to finish.
 */
int space_enumerate(const struct space *s, const uint16_t *pattern, size_t cap, uint16_t **rows,
                    size_t *n, struct err *err);
/* How many valid assignments agree with `pattern`; counting stops at `cap`. */
uint64_t space_count(const struct space *s, const uint16_t *pattern, uint64_t cap);
/* Product of the numbers of values, constraints or not (as a real: it may be huge). */
double space_product(const struct space *s);
/*
 * The valid assignments that differ from `a` in exactly one parameter, into out[max][space_n], in
 * order of parameter and value; returns how many were written.
 */
size_t space_neighbours(const struct space *s, const uint16_t *a, uint16_t *out, size_t max);

#endif
