/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a space, for space.c, space_rows.c and space_walk.c alone. Thread: any; immutable
 * once made. */
#ifndef KS_SEARCH_SPACE_IMPL_H
#define KS_SEARCH_SPACE_IMPL_H

#include "search/space.h"
#include "search/space_expr.h"

enum { CONSTRAINT_TABLE_MAX = 1 << 14 }; /* truth values kept of one constraint */

/* One constraint; small ones are a table of truth values over the parameters that they mention. */
struct constraint {
    struct space_expr *expr;
    uint64_t vars;
    size_t n_vars;
    uint8_t var[SPACE_PARAMS_MAX];     /* the parameters mentioned, ascending */
    uint32_t stride[SPACE_PARAMS_MAX]; /* of var[i] in the table */
    uint8_t *table;                    /* NULL: evaluate the expression */
};

struct space {
    size_t n;
    struct space_param params[SPACE_PARAMS_MAX];
    size_t n_constraints;
    struct constraint constraints[SPACE_CONSTRAINTS_MAX];
    /* A space made of rows: */
    size_t n_rows;
    uint16_t *rows;       /* [n_rows][n] */
    uint32_t *row_slots;  /* open addressing: row number + 1, 0 is empty */
    size_t row_slot_mask; /* slots - 1 */
};

/* Is the constraint true? Every parameter that it mentions is set in `a`. */
bool constraint_holds(const struct space *s, const struct constraint *c, const uint16_t *a);

#endif
