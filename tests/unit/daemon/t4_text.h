/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A synthetic recorded space as T4 text: five parameters, one of them constant, a few hundred rows,
 * samples with noise, and devices that are alike but not the same. Thread: any.
 */
#ifndef KS_TESTS_T4_TEXT_H
#define KS_TESTS_T4_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct t4_synthetic {
    double tile;     /* the tile size that suits the device best, log2 */
    uint64_t seed;   /* of the noise */
    bool reversed;   /* rows and keys in the opposite order: the same table */
    double scale;    /* of all times */
    unsigned sample; /* samples per row */
    double cliff;    /* factor on the times of the three largest blocks; 0: none */
};

/* Rows that t4_synthetic_text writes: 6 x 8 x 3 x 2 = 288, all but the failures valid. */
enum { T4_SYNTHETIC_ROWS = 288 };

/* Appends the text; `out` has room for 1 MiB. */
void t4_synthetic_text(const struct t4_synthetic *s, struct buf *out);

#endif
