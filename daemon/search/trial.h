/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trial: one evaluation of a search, from the decision to measure to the outcome, as the fold
 * keeps it. Owned strings; trial_release frees them. Thread: the search's.
 */
#ifndef KS_SEARCH_TRIAL_H
#define KS_SEARCH_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"
#include "search/credit.h"
#include "search/engine.h"
#include "search/space.h"

struct trial {
    uint64_t n; /* evaluation number in the search, from 1 */
    uint64_t cycle;
    unsigned attempt; /* within the cycle, from 1 */
    char *node;       /* id of the world model's node */
    char *title;      /* of the intent */
    char *why;        /* one sentence */
    int lane;
    uint32_t program; /* number in the search (programs.h) */
    char *adopted;    /* where an adopted assignment comes from ("task/device"), "" for none */
    uint16_t a[SPACE_PARAMS_MAX]; /* in the program's space */
    enum engine_arm arm;
    bool predicted; /* mean and sd hold a prediction of the log of the objective, noise included */
    double mean, sd;
    char *source; /* who predicts, "builtin/cold/gp"; "" for none */
    /* The prediction as past outcomes of its source correct it: shown, scored, believed. */
    double corrected_mean, corrected_sd;
    struct credit_served served; /* insights offered to it, followed, contradicted */
    bool offered;                /* any at all, those that no space can embody too */
    unsigned tries;              /* evaluations lost to the infrastructure so far */

    bool plan; /* a step of a plan from memory */
    bool live; /* adopted from a search that ran beside this one */

    bool measured;
    uint64_t seq;    /* of its measured event */
    char object[65]; /* digest of its compiled object, "" when unknown */
    /* Trial whose measurement this one shares, because their objects are equal; 0: its own. */
    uint64_t same_as;
    char *status; /* "ok" or a failure class */
    char *message;
    bool ok;
    int64_t objective_q, sd_q;
    /* What it is taken for: its own measurement; with a language model, which goes by few of them,
     * the mean of that and of its duels. */
    int64_t value_q;
    double roofline;      /* NaN when unknown */
    struct id evaluation; /* of the trial that it shares, when it does */
    double crps;          /* of the prediction; NaN when none */
    double crps_corrected;
    bool improved; /* became the champion */
    /* The duel with the champion of that time, as observations; duel_with 0: there was none. */
    uint64_t duel_with;
    int64_t duel_q, duel_champion_q;
    int64_t best_q; /* champion's objective after this trial; meaningful when has_best */
    bool has_best;
    uint64_t device_ns; /* the sum of the four below; old events have the sum alone */
    uint64_t build_ns, check_ns, timing_ns, duel_ns;
    /* What the search had spent when it was measured, itself included: what cost curves are drawn
     * from. */
    struct trial_spent {
        uint64_t tokens, wall_ns, device_ns;
        int64_t usd_q;
    } spent;
};

void trial_release(struct trial *t);
/* Memory or memory-free: what counts as steered (product rule 5). */
bool trial_steered(const struct trial *t);

/*
 * Continuous ranked probability score of a normal forecast against an outcome, in the unit of both
 * (Gneiting and Raftery 2007, equation 21). Lower is better.
 */
double crps_normal(double mean, double sd, double outcome);

#endif
