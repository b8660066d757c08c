/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the evidence of one claim adds up to: sums per cell, counts of signs per value of each
 * context feature, failures by class, and the condition learned from them. Sums and counts are
 * integers, so a fold does not depend on the order in which evidence arrives, and folds of
 * duplicate claims can be added. All members follow from the evidence; what fold_show derives from
 * them (condition, contradiction) is kept in struct insight alone. Thread: the owner's.
 */
#ifndef KS_KB_FOLD_H
#define KS_KB_FOLD_H

#include "insight.h"

/* Keys of cells, names of context features, failure classes: few, and named by every fold; each
 * kept once. */
struct names {
    size_t n, cap;
    char **items; /* sorted */
};
/* The kept copy, good as long as `names`; NULL when memory is out. */
const char *names_keep(struct names *names, const char *name);
void names_release(struct names *names);

/* Cells sorted by key; keys kept by struct names. */
struct fold_cells {
    size_t n, cap;
    struct insight_cell *v;
};

/* How often the effect was above and below zero at one value of a feature, and its sum. */
struct fold_point {
    const char *feature; /* kept by struct names */
    double value;
    uint32_t above, below;
    int64_t effect_q;
};

/* An array of capacity 0 that has elements is lent: it may be changed, and is copied to grow. */
struct fold {
    struct insight_sums all;
    struct fold_cells cells;
    /* The part of `all` and of `cells` that is foreign evidence, `all` under the key "". Follows
     * from the evidence and its origins: in no digest. */
    struct fold_cells foreign;
    size_t n_points, cap_points;
    struct fold_point *points; /* sorted by feature, value */
    size_t n_failures, cap_failures;
    struct insight_failure *failures; /* sorted by class; classes kept by struct names */
    size_t n_evidence, cap_evidence;
    struct id *evidence; /* sorted */
};

/* Adds a piece of evidence that is not in the fold. After ERR_NOMEM the fold is unusable. */
int fold_add(struct fold *f, struct names *names, const struct id *id, const struct evidence *e,
             struct err *err);
/* Adds all of another fold. After ERR_NOMEM the fold is unusable. */
int fold_merge(struct fold *f, const struct fold *from, struct err *err);
/* Evidence that is in the fold as foreign is local from now on. ERR_NOMEM: the fold is unusable. */
int fold_adopt(struct fold *f, struct names *names, const struct evidence *e, struct err *err);
bool fold_has(const struct fold *f, const struct id *id);

/*
 * The one split that puts most measurements on the side of their sign: a threshold of a context
 * feature, or one device class, shape or toolchain against the rest. A split needs at least 3
 * measurements on each side, three quarters of them with the side's sign. Ties: thresholds before
 * names, then the smaller feature, then the smaller value. Texts are kept by `names`. ERR_NOMEM.
 */
int fold_condition(const struct fold *f, struct names *names, struct insight_condition *out,
                   struct err *err);
/* "helps when num_kv_heads <= 4, hurts above; 14 against 9 measurements"; "" for none. Owned; NULL
 * when memory is out. */
char *fold_condition_text(const struct insight_condition *c);
/* Lends sums, cells, failures and evidence to an insight, without the condition. */
void fold_lend(const struct fold *f, struct insight *in);
/* fold_lend, then the condition, its text (which replaces in->condition, owned) and whether the
 * evidence contradicts itself. ERR_NOMEM. */
int fold_show(const struct fold *f, struct names *names, struct insight *in, struct err *err);
void fold_release(struct fold *f);

#endif
