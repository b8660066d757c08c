/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Insights: claims with what the evidence says of them, folded in memory from the facts with
 * integer sums, so that the result does not depend on the order, repetition or origin of the facts.
 * Duplicates (equal claim keys) merge by content address; `link` facts join claims into sets by
 * union-find, represented by the smallest id. Thread: the table belongs to struct kb, which locks
 * it.
 */
#ifndef KS_KB_INSIGHT_H
#define KS_KB_INSIGHT_H

#include "record.h"

/* Integer sums of one cell: everything a posterior needs, and nothing that depends on order. */
struct insight_sums {
    uint32_t blind, steered;  /* pairs measured */
    uint32_t positive;        /* pairs with effect above zero */
    uint32_t failures;        /* classified failures */
    int64_t effect_q;         /* sum of effects of pairs */
    uint64_t effect_sq_q;     /* sum of (effect_q / 1000)^2: milli-units keep the square in range */
    uint64_t first_s, last_s; /* of pairs; 0 for none */
};

/*
 * Sums of a cell: device class x shape regime x toolchain, joined by '|' in the key. Its parents
 * are cells of their own, "class|shape" and "class", and hold what their children hold: do not add
 * up cells of different depth.
 */
struct insight_cell {
    char *key;
    struct insight_sums sums;
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
    char *condition;            /* learned condition as text, "" for none */
    size_t n_evidence;
    struct id *evidence; /* sorted by id */
    uint32_t ordinal;    /* dense number, for the lexical and vector indexes; local, in no digest */
};

/* Posterior of the effect on log-speedup. mean, sd in natural log; n counts pairs behind it. */
struct insight_effect {
    double mean, sd;
    double p_positive; /* probability that the effect is above zero */
    uint32_t n;
    const char
        *cell; /* key of the cell used, "" when it fell back to all; borrowed from the insight */
};

/*
 * Normal posterior with a zero-centred prior (sd 0.15) over the sums of the most specific cell with
 * at least two pairs: (class|shape|toolchain), then (class|shape), (class), all. Any of the three
 * strings may be NULL (not asked), which leaves out those after it.
 *
 * Normal likelihood with known noise and conjugate normal prior (Gelman et al., Bayesian Data
 * Analysis, section 2.5): with n pairs of mean m, precision P = 1/0.15^2 + n/v, mean = (n m / v) /
 * P, sd = P^-1/2. The noise v is estimated: (2 * 0.05^2 + sum of squared deviations) / (2 + n), the
 * mean of a scaled inverse chi-squared posterior but for its degrees of freedom, so that two pairs
 * that happen to agree are not taken for certainty. Doubles; sums of squares come in milli-units.
 */
struct insight_effect insight_posterior(const struct insight *in, const char *device_class,
                                        const char *shape, const char *toolchain);

/* A copy that owns everything. ERR_NOMEM. */
int insight_dup(const struct insight *in, struct insight *out, struct err *err);
/* Frees what a copy owns. */
void insight_release(struct insight *in);

#endif
