/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parser of a planner's answer and the writer of its schema share: the kinds of call and
 * the members of an answer, as rows that both walk. Private to daemon/search. Thread: any.
 */
#ifndef KS_SEARCH_PLAN_IMPL_H
#define KS_SEARCH_PLAN_IMPL_H

#include "search/plan_answer.h"

enum {
    PLAN_HAS_SUMMARY = 1,
    PLAN_HAS_QUESTIONS = 2,
    PLAN_HAS_OPS = 4,
    PLAN_HAS_INSIGHTS = 8,
    PLAN_MEMBERS = 4,         /* rows below */
    PLAN_INSIGHT_MEMBERS = 4, /* as well */
    PLAN_INSIGHT_REQUIRED = 2 /* of those, from the first on */
};

struct plan_kind {
    enum call_kind kind;
    const char *name, *cause; /* of the schema; of the edit */
    unsigned members;         /* PLAN_HAS_ bits */
    bool seeds;               /* inserts alone, and more of them */
};
/* NULL for a call that brings no plan. */
const struct plan_kind *plan_kind_find(enum call_kind kind);

struct plan_member {
    unsigned bit; /* PLAN_HAS_ */
    const char *name;
};
extern const struct plan_member plan_members[PLAN_MEMBERS];

/* Members of an insight: what a model may say. Links to evidence are the system's. */
extern const char *const plan_insight_members[PLAN_INSIGHT_MEMBERS];

#endif
