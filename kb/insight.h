/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Insights: claims with what the evidence says of them, folded in memory from the facts with
 * integer sums, so that the result does not depend on the order, repetition or origin of the facts.
 * Equal claims merge by content address; `link` facts and near-duplicates (alike.h) join claims
 * into sets, represented by the smallest id. Thread: the table belongs to struct kb, which locks
 * it.
 */
#ifndef KS_KB_INSIGHT_H
#define KS_KB_INSIGHT_H

#include "record.h"

/* Integer sums of one cell: everything a posterior needs, and nothing that depends on order. */
struct insight_sums {
    uint32_t blind, steered;     /* pairs measured */
    uint32_t positive, negative; /* pairs with effect above and below zero */
    uint32_t failures;           /* classified failures */
    int64_t effect_q;            /* sum of effects of pairs */
    int64_t blind_q;             /* ... of blind pairs alone */
    uint64_t effect_sq_q;     /* sum of (effect_q / 1000)^2: milli-units keep the square in range */
    uint64_t first_s, last_s; /* of pairs; 0 for none */
};

enum { INSIGHT_KEY_MAX = 96 + 2 * 1024 + 3 }; /* bytes of a cell's key with its NUL */

/*
 * Sums of a cell: device class x shape regime x toolchain, joined by '|' in the key. Its parents
 * are cells of their own, "class|shape" and "class", and hold what their children hold: do not add
 * up cells of different depth.
 */
struct insight_cell {
    char *key;
    struct insight_sums sums;
};

/* Failures of one class. */
struct insight_failure {
    char *class;
    uint32_t n;
    uint64_t newest_s; /* when the newest was measured */
    struct id newest;  /* its evidence; the smaller id of two from the same second */
};

enum insight_op {
    INSIGHT_ALWAYS,  /* no condition */
    INSIGHT_AT_MOST, /* holds where feature <= value */
    INSIGHT_IS       /* holds where feature is text: device_class, shape or toolchain */
};

/* "", "<=" or "is". */
const char *insight_op_name(enum insight_op op);

/* What separates the measurements of one sign from those of the other. Sums of a side hold counts
 * and sums of effects; for a numeric feature only of pairs that have it and are not zero. */
struct insight_condition {
    enum insight_op op;
    char *feature;
    double value; /* of INSIGHT_AT_MOST */
    char *text;   /* of INSIGHT_IS */
    bool helps;   /* the effect is positive where it holds and negative elsewhere, or the reverse */
    /* [0] where it holds, [1] elsewhere: pairs, the sum of their effects, and the sum of squares of
     * their deviations from the side's own mean in milli-units. */
    struct insight_side {
        uint32_t n;
        int64_t effect_q;
        uint64_t deviation_sq_q;
    } side[2];
};

enum insight_state { INSIGHT_ACTIVE, INSIGHT_SUPERSEDED, INSIGHT_RETRACTED, INSIGHT_STATE_COUNT };
const char *insight_state_name(enum insight_state s);

struct insight {
    struct id id; /* of the claim */
    struct claim claim;
    uint64_t seq;            /* local sequence number of the claim */
    uint64_t recorded_at_ns; /* local wall time of its commit */
    enum insight_state state;
    /* The representative that supersedes it; its own id in any other state. */
    struct id same_as;
    struct insight_sums all; /* of a representative: with the duplicates that it supersedes */
    size_t n_cells;
    struct insight_cell *cells; /* sorted by key */
    /* The part of these sums that came from elsewhere: sorted by key, "" for all; none without such
     * evidence. Local knowledge, in no digest. */
    size_t n_foreign;
    struct insight_cell *foreign;
    size_t n_failures;
    struct insight_failure *failures; /* sorted by class */
    struct insight_condition when;    /* learned */
    char *condition;                  /* the same as text, "" for none */
    bool contradicted; /* at least 3 pairs of either sign, and no condition that tells them apart */
    size_t n_evidence;
    struct id *evidence; /* sorted by id */
    uint32_t ordinal;    /* dense number, for the lexical and vector indexes; local, in no digest */
};

/* Levels of cells: everything, class, class|shape, class|shape|toolchain. */
enum { INSIGHT_LEVELS = 4 };
/* What foreign evidence counts for before the insight was replicated here. */
#define INSIGHT_FOREIGN_WEIGHT 0.5

/* What is known of the place where an insight would be used. */
struct insight_place {
    const char *device_class, *shape, *toolchain; /* NULL: not asked, nor what comes after it */
    const json_t *features;                       /* context features to numbers; may be NULL */
    double foreign_weight;                        /* in [0, 1] */
};

/* Posterior of the effect on log-speedup; mean, sd in natural log. */
struct insight_effect {
    double mean, sd;
    double p_positive; /* probability that the effect is above zero */
    /* The deepest cell asked for that has pairs: its pairs, and its key, "" for all; borrowed from
     * the insight. */
    uint32_t n;
    const char *cell;
    uint32_t blind, steered;         /* of these n */
    double blind_mean;               /* plain mean of the blind ones; 0 without any */
    uint32_t foreign;                /* of these n, from elsewhere */
    double trust;                    /* what each of those counted for */
    uint32_t levels[INSIGHT_LEVELS]; /* pairs in the cell of each level asked for, else 0 */
    int side; /* of insight.when: 0 it holds here, 1 it does not; -1 not known, or no condition */
    uint32_t side_n; /* pairs of that side, when mean and sd come from them alone; else 0 */
};

/*
 * Shrinkage from level to level. The effect in the place asked for has the prior N(0, 0.15^2),
 * however deep it is; part of that variance lies between the cells of one parent: the effect of a
 * cell is N(effect of its parent, d^2) with d = 0.08 for a class, 0.06 for a shape, 0.03 for a
 * toolchain. Going down, the pairs of the parent that are not in the child inform the parent as one
 * more cell would (variance d^2 + v/n), the deepest cell with pairs informs itself (v/n), and cells
 * without pairs only widen. So one pair in a cell moves it a little, many make its parents
 * unimportant, and a cell without pairs has its parent's mean with more doubt. Normal likelihood
 * with a conjugate prior (Gelman et al., Bayesian Data Analysis, sections 2.5 and 5.4). The noise v
 * of each set of pairs is estimated: (2 * 0.05^2 + sum of squared deviations) / (2 + n), so that
 * two pairs that happen to agree are not taken for certainty.
 *
 * Trust: a foreign pair counts as `foreign_weight` of a pair, until there is a local pair, blind or
 * steered, whose sign is that of the mean of all foreign pairs; then it counts in full. A local
 * pair of the other sign changes nothing.
 *
 * A condition on a number whose feature is given decides on the effect: then the pairs of that
 * side, under the prior N(0, 0.15^2), are used in place of the shrinkage above; `n`, `cell` and
 * counts stay those of the cell. Doubles throughout.
 */
struct insight_effect insight_effect_at(const struct insight *in, const struct insight_place *at);
/* The same without features, foreign evidence at INSIGHT_FOREIGN_WEIGHT. */
struct insight_effect insight_posterior(const struct insight *in, const char *device_class,
                                        const char *shape, const char *toolchain);
/* Which side of the condition a place is on: 0 where it holds, 1 elsewhere, -1 unknown or none. */
int insight_side_at(const struct insight *in, const struct insight_place *at);
/* What a foreign pair counts for under the trust rule above. */
double insight_trust(const struct insight *in, double foreign_weight);

/* A copy that owns everything. ERR_NOMEM. */
int insight_dup(const struct insight *in, struct insight *out, struct err *err);
/* Frees what a copy owns. */
void insight_release(struct insight *in);

#endif
