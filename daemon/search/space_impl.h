/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a space, for the sources named space*.c alone. Thread: any; immutable
 * once made. */
#ifndef KS_SEARCH_SPACE_IMPL_H
#define KS_SEARCH_SPACE_IMPL_H

#include "search/space.h"
#include "search/space_expr.h"

enum {
    CONSTRAINT_TABLE_MAX = 1 << 14, /* truth values kept of one constraint */
    SPACE_NAME_MAX = 64,            /* bytes of a parameter's name or an enum value */
    SPACE_SHOWN_MAX = 80            /* bytes of a value in an error */
};

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

/* Parses one constraint over the parameters of `s` into the zeroed *c. ERR_INVALID, ERR_LIMIT,
 * ERR_NOMEM. */
int constraint_parse(struct space *s, const char *text, struct constraint *c, struct err *err);

/* Names of the types in documents, by enum space_type. */
extern const char *const space_type_names[SPACE_TYPE_COUNT];

/* 1 to SPACE_NAME_MAX letters, digits and _. */
bool space_is_word(const char *s, bool may_start_with_digit);
/* Reads one value of the type; `*num` and the owned `*text` are set on success. ERR_INVALID: "must
 * be ...". */
int space_value_read(enum space_type type, const json_t *v, double *num, char **text,
                     struct err *err);
/* Index of the parameter's value that this JSON is, type and all, into *out; -1 when it is none. */
int space_value_of_json(const struct space_param *p, const json_t *v, uint16_t *out);
/* The value as an error shows it (NULL: "(none)"); returns `out`. */
char *space_shown(const json_t *v, char *out, size_t size);

#endif
