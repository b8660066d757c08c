/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorded table: every assignment of a space with what was measured for it on one device, and
 * evaluations answered from it. Rows are those of the space (space_row), in its order. A record has
 * the form of the harness's, so that nothing downstream tells the difference: the objective is the
 * median over the valid rows divided by the row's value. Immutable once made. Thread: any.
 */
#ifndef KS_EVAL_RECORDED_H
#define KS_EVAL_RECORDED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "eval/result.h"
#include "eval/t4.h"
#include "search/space.h"

/* The workload set and the workload of every recorded task. */
#define RECORDED_SET "recorded"

struct recorded {
    struct space *space;
    json_t *space_doc; /* of space_table_pack */
    char *objective;   /* what the values are, "time"; lower is better */
    bool timed;        /* they are milliseconds, as the samples are */
    bool noise;        /* an evaluation draws one sample */
    size_t n, n_ok;
    double median; /* over the values of the valid rows */
    uint8_t *status;
    double *value;          /* NaN unless ok */
    size_t *first;          /* [n + 1]: where each row's samples begin */
    double *samples;        /* milliseconds */
    int64_t *measured_at_s; /* NULL in a table that was stored */
};

/*
 * The table of a file; `t` stays the caller's. ERR_INVALID: assignments given twice, rows with
 * different parameters, values more than a factor 1e8 from the median, noise wanted where a valid
 * row has no sample or the objective is no time.
 */
int recorded_new(const struct t4 *t, bool noise, struct recorded **out, struct err *err);
void recorded_free(struct recorded *r); /* NULL is fine */

/* As a document and back. ERR_CORRUPT, ERR_LIMIT, ERR_NOMEM. */
int recorded_to_json(const struct recorded *r, json_t **out, struct err *err);
int recorded_from_json(const json_t *doc, struct recorded **out, struct err *err);

/* Failures by class, {"crashed": 155}. Fresh. */
json_t *recorded_failures(const struct recorded *r);
/* Log of the objective of a valid row and its standard deviation, without noise. */
double recorded_log_objective(const struct recorded *r, size_t row);
double recorded_log_sd(const struct recorded *r, size_t row);

/*
 * The record of one evaluation of `row` (docs/design.md section 3). With noise `seed` draws the
 * sample. `champion` (-1: none) is compared too: without noise by the values, with it by samples in
 * pairs. Fresh.
 */
json_t *recorded_evaluate(const struct recorded *r, const char *task, long row, long champion,
                          uint64_t seed);

#endif
