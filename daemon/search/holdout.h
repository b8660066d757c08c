/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hold-out set of a search: workloads that it never tunes on. Now and then, and before the end,
 * the champion of the moment is measured on them, so that an objective which holds for the tuning
 * set alone shows. Events: holdout_due {evaluation}, holdout_lost {evaluation, message}, holdout
 * {evaluation, status, message, objective_q, sd_q, device_ns, wall_ns}. A check is no evaluation of
 * the budget and no fact: no proposer, no prompt and no claim hears of it.
 * Invariants: 1. at most one check is open; 2. none is while a trial is open; 3. each champion is
 * checked once. Thread: the search's.
 */
#ifndef KS_SEARCH_HOLDOUT_H
#define KS_SEARCH_HOLDOUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct eval_result;
struct journal;
struct search;
struct trial;

enum {
    HOLDOUT_EVERY = 20 /* evaluations of the search between two checks, the last one aside */
};

/* One check that was made, or given up. Owned strings. */
struct holdout_check {
    uint64_t evaluation;       /* the champion's trial */
    int64_t tuned_q;           /* the champion's objective on the tuning set then, micro-log */
    char *status;              /* "ok" or a failure class */
    char *message;             /* why not; "" when ok */
    bool ok;                   /* objective_q and sd_q hold a measurement */
    int64_t objective_q, sd_q; /* on the hold-out set, micro-log */
    uint64_t device_ns;        /* what it took of the machine */
};

/* The fold; zeros to begin with. */
struct holdout {
    uint64_t open;     /* trial that is being checked; 0: none */
    unsigned tries;    /* of the open check that were lost to the infrastructure */
    int64_t tuned_q;   /* as in holdout_check, of the open check */
    uint64_t asked_at; /* evaluations that were measured when the last check became due */
    struct holdout_check *checks;
    size_t n, cap;
};

/* Frees the checks. */
void holdout_release(struct holdout *h);

/* The trial whose check is open; NULL when there is none. */
struct trial *holdout_open_trial(const struct search *s);
/* Is it time for a check, while the search goes on? Never without a hold-out set. */
bool holdout_is_due(const struct search *s);
/* Was the champion not checked yet? What a search asks before it ends. */
bool holdout_is_due_at_end(const struct search *s);
/* Opens the check of the champion. What journal_add says. */
int holdout_plan(struct journal *j, struct err *err);
/*
 * Records what came of the open check. What says nothing of the program, and times that cannot be
 * relied on, are tried again, SEARCH_TRIES_MAX times in all; then the check is given up with the
 * reason and the search goes on. What journal_add says.
 */
int holdout_record(struct journal *j, const struct eval_result *r, uint64_t wall_ns,
                   struct err *err);

/* The appliers of the three events. ERR_CORRUPT. */
int holdout_apply_due(struct search *s, const json_t *ev, struct err *err);
int holdout_apply_lost(struct search *s, const json_t *ev, struct err *err);
int holdout_apply(struct search *s, const json_t *ev, struct err *err);

/* {set, checking, checks[{evaluation, status, message, objective, tuned, gap}]}: checking is the
 * evaluation whose check is open, or null; gap the log of tuned over objective, both null unless
 * ok. NULL without a hold-out set. Owned. */
json_t *holdout_json(const struct search *s);
/* Adds to the notice of a holdout event, which was applied already, the set, and to that of a
 * result objective, tuned and gap. */
void holdout_describe(const struct search *s, json_t *notice);

#endif
