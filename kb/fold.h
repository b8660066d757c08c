/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the evidence of one claim adds up to: sums per cell, counts of signs per value of each
 * context feature, and the condition learned from them. Sums and counts are integers, so a fold
 * does not depend on the order in which evidence arrives, and folds of duplicate claims can be
 * added. Thread: the owner's.
 */
#ifndef KS_KB_FOLD_H
#define KS_KB_FOLD_H

#include "insight.h"

/* Keys of cells and names of context features: few, and named by every fold; each kept once. */
struct names {
    size_t n, cap;
    char **items; /* sorted */
};
/* The kept copy, good as long as `names`; NULL when memory is out. */
const char *names_keep(struct names *names, const char *name);
void names_release(struct names *names);

/* How often the effect was above and below zero at one value of a feature. */
struct fold_point {
    const char *feature; /* kept by struct names */
    double value;
    uint32_t above, below;
};

struct fold {
    struct insight_sums all;
    size_t n_cells, cap_cells;
    struct insight_cell *cells; /* sorted by key; keys kept by struct names */
    size_t n_points, cap_points;
    struct fold_point *points; /* sorted by feature, value */
    size_t n_evidence, cap_evidence;
    struct id *evidence; /* sorted */
};

/* Adds a piece of evidence that is not in the fold. After ERR_NOMEM the fold is unusable. */
int fold_add(struct fold *f, struct names *names, const struct id *id, const struct evidence *e,
             struct err *err);
/* Adds all of another fold. After ERR_NOMEM the fold is unusable. */
int fold_merge(struct fold *f, const struct fold *from, struct err *err);
/*
 * The one split of a feature that puts most measurements on the side of their sign: "helps when
 * num_kv_heads <= 4, hurts above; 14 against 9 measurements". A split needs at least 3 measurements
 * on each side, three quarters of them with the side's sign; "" when there is none. Ties go to the
 * smaller feature name, then to the smaller value. NULL when memory is out.
 */
char *fold_condition(const struct fold *f);
void fold_release(struct fold *f);

#endif
