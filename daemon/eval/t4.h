/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of tuning results in the T4 format: {"metadata", "results": [{"configuration",
 * "invalidity", "times", "measurements", "objectives"}], "schema_version"}, plain or gzip. Strict
 * about what is used, deaf to what is not: a row has a configuration of named scalars and either a
 * positive value of its first objective (lower is better) or the class of its failure. Times become
 * milliseconds. Rows are parsed one by one, so that beside the text only the rows themselves are
 * held. docs/recorded.md has the rules. Thread: worker, blocks.
 */
#ifndef KS_EVAL_T4_H
#define KS_EVAL_T4_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "eval/result.h"

enum {
    T4_FILE_MAX = 256 << 20,  /* bytes of a file as it is stored */
    T4_TEXT_MAX = 1 << 30,    /* bytes of its JSON, inflated */
    T4_ROWS_MAX = 1 << 20,    /* SPACE_ROWS_MAX */
    T4_SAMPLES_MAX = 1 << 12, /* of one row */
    T4_PARAMS_MAX = 64        /* SPACE_PARAMS_MAX */
};

struct t4_row {
    json_t *configuration;   /* owned */
    enum eval_status status; /* EVAL_OK or the failure that its invalidity stands for */
    double value;            /* of the first objective; NaN unless ok */
    size_t first, n;         /* its samples in t4.samples, milliseconds */
    int64_t measured_at_s;   /* since 1970; 0 when the row does not say */
};

struct t4 {
    char *objective; /* the name of the first objective, the same in all rows */
    bool timed;      /* it is a time, as the samples are */
    size_t n, n_ok;
    struct t4_row *rows;
    size_t n_samples;
    double *samples;
};

/*
 * Reads what the descriptor holds, from its beginning. `what` names it in errors. ERR_INVALID (not
 * the format; the sentence names the row), ERR_LIMIT, ERR_IO, ERR_NOMEM. Release with t4_release.
 */
int t4_read(int fd, const char *what, struct t4 *out, struct err *err);
/* The same from bytes, plain JSON or gzip. */
int t4_parse(const void *data, size_t len, struct t4 *out, struct err *err);
void t4_release(struct t4 *t);

#endif
