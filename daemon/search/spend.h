/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a search spends: budgets, the ledger per stage, and the notice before a budget ends. All of
 * it is a function of the folded state. A budget of 0 that was given means that nothing may be
 * spent; one that was not given bounds nothing. docs/ledger.md defines the figures. Thread: the
 * search's.
 */
#ifndef KS_SEARCH_SPEND_H
#define KS_SEARCH_SPEND_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "search/calls.h"

struct journal;
struct search;
struct search_spec;
struct trial;

enum spend_kind {
    SPEND_EVALS,
    SPEND_TOKENS, /* of language models, in and out together */
    SPEND_USD,
    SPEND_TIME,   /* evaluating, and waiting for a model with nothing else to do */
    SPEND_DEVICE, /* building, checking and timing */
    SPEND_KIND_COUNT
};

/* Does the spec bound this kind? Evaluations always are. */
bool spend_is_bounded(const struct search_spec *spec, enum spend_kind k);

/*
 * Which budget is used up, or which aim is reached (stop.h); NULL while there is something left. A
 * search without a language model spends no tokens and no money: those budgets do not end it.
 * Static, or the thread's until its next call.
 */
const char *spend_exhausted(const struct search *s);
/* Why a language model cannot be asked any more: tokens, money or time are used up. A cycle that
 * the evaluations ended can still be told of. NULL while it can. Static. */
const char *spend_talk_exhausted(const struct search *s);

/* ---- The ledger ---- */

enum spend_stage {
    SPEND_BUILD,
    SPEND_CHECK,
    SPEND_TIMING,
    SPEND_DUEL,    /* champion and challenger side by side, all of it */
    SPEND_HOLDOUT, /* champions on the hold-out set, all of it */
    SPEND_UNSPLIT, /* of evaluations that were stored before there were stages */
    SPEND_STAGE_COUNT
};

/* All calls of one kind. */
struct spend_calls {
    uint64_t calls, answers, lost;
    uint64_t tokens_in, tokens_cached, tokens_out; /* cached ones are among tokens_in */
    uint64_t estimated;                            /* tokens of answers that nobody counted */
    int64_t usd_q;
    double seconds; /* waited, side by side too */
};

struct spend {
    uint64_t evals, tokens, tokens_in, tokens_cached, tokens_out, estimated;
    int64_t usd_q;
    uint64_t wall_ns, device_ns;
    struct spend_calls calls[CALL_KIND_COUNT];
    struct {
        uint64_t n, ns; /* evaluations that had the stage, and what it took */
    } stages[SPEND_STAGE_COUNT];
};

/* Everything counted anew from calls and trials: rows add up to the totals, and the totals are
 * those that the budgets are held against. */
void spend_of(const struct search *s, struct spend *out);

/* ---- The fold; each after the event's own applier ---- */

/* An answer arrived: adds its tokens, its money, and the time waited. */
void spend_apply_answered(struct search *s, const json_t *ev);
/* `t` was measured, and s->wall_ns and s->device_ns hold it: splits its device time and marks the
 * point of the cost curve. */
void spend_apply_measured(struct search *s, struct trial *t, const json_t *ev);
/* ERR_CORRUPT. */
int spend_apply_notice(struct search *s, const json_t *ev, struct err *err);

/*
 * Adds an event {type notice, about, text} for each budget but evaluations of which 90 % are spent,
 * once each. Call after anything was spent. What journal_add says.
 */
int spend_note(struct journal *j, struct err *err);

/* ---- JSON; fresh references ---- */

/* The names of the kinds that were given, for the stored document, and back; NULL is none.
 * ERR_CORRUPT. */
json_t *spend_given_to_json(const struct search_spec *spec);
int spend_given_from_json(const json_t *given, struct search_spec *spec, struct err *err);

/* {evals, tokens, usd, time, device}: those that are bounded; usd in dollars, times in seconds. */
json_t *spend_budget_json(const struct search_spec *spec);
/* {evals, tokens, tokens_in, tokens_cached, tokens_out, tokens_estimated, usd, time, device}. */
json_t *spend_json(const struct spend *p);
/*
 * [{stage, ...}]: {calls, answers, lost, tokens_in, tokens_cached, tokens_out, tokens_estimated,
 * usd, seconds} for each kind of call that was made, then {n, seconds} for each stage of an
 * evaluation.
 */
json_t *spend_ledger_json(const struct spend *p);
/* Sentences about budgets but evaluations of which 90 % are spent; none once the search is over. */
json_t *spend_notices_json(const struct search *s);
/*
 * Adds what the search had spent at this point of its curve: tokens, usd, device_s and wall_s. An
 * evaluation that is looked up takes no time worth telling: a recorded search's points have no
 * wall_s, so that equal searches have equal curves.
 */
void spend_add_point(const struct search *s, const struct trial *t, json_t *point);

#endif
