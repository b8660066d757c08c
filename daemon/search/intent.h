/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be measured next, and on whose word: a proposal of the numeric engine, one of the
 * memory-free arm, an assignment adopted from memory or found by another running search, a step of
 * a plan. Everything is a function of the folded state. Thread: worker that holds the search's
 * lock.
 */
#ifndef KS_SEARCH_INTENT_H
#define KS_SEARCH_INTENT_H

#include "search/forecast.h"
#include "search/search.h"
#include "search/trust.h"

struct intent {
    uint16_t a[SPACE_PARAMS_MAX];
    enum engine_arm arm;
    const char *origin;       /* static */
    struct forecast forecast; /* of the log of the objective */
    double ei;
    char from[LIVE_FROM_MAX]; /* "task@device" of what is adopted; "" for a proposal */
    double similarity;        /* of task and device there; 0 for a proposal */
    bool plan;                /* a step of a plan */
    bool live;                /* found by a search that ran beside this one */
};

/* "cold", "memory", "other": an arm in events and in the names of sources. */
const char *intent_arm_name(enum engine_arm arm);
/* The control arm of uniform draws? */
bool intent_is_random(const struct search *s);
/* The engine's next proposal within `pattern` (NULL: anywhere). ERR_NOT_FOUND: nothing is left. */
int intent_propose(struct search *s, const uint16_t *pattern, struct intent *out, struct err *err);
/* A proposal that no source, plan or adoption has a part in beyond what was measured here.
 * ERR_NOT_FOUND. */
int intent_memory_free(struct search *s, struct intent *out, struct err *err);
/* The assignment to adopt now; false when there is none, or none that is still worth it. */
bool intent_adopt(struct search *s, struct intent *out);
/*
 * A proposal for an open node that was grafted: within its plan as far down as that leads.
 * ERR_NOT_FOUND when all its assignments were measured.
 */
int intent_of_plan(struct search *s, uint32_t node, struct intent *out, struct err *err);

#endif
