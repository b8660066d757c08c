/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the survey: its tasks and insights while the document is being made. */
#ifndef KS_RETUNE_SURVEY_IMPL_H
#define KS_RETUNE_SURVEY_IMPL_H

#include "kb.h"
#include "retune/label.h"
#include "retune/plan.h"
#include "retune/survey.h"
#include "search/space.h"

/* A record of a task on either device. */
struct survey_record {
    json_t *assignment; /* owned */
    int64_t objective_q, sd_q;
    struct id id;
    char *status; /* owned */
    char *set;    /* workload set; owned */
};

struct survey_records {
    size_t n, cap;
    struct survey_record *v; /* of the old device: by objective, best first; failures last */
};

struct survey_task {
    const char *name; /* borrowed from the request's list or `names` */
    char *family, *dtype;
    const char *set; /* the workload set of most old records, which alone are kept; borrowed */
    bool recorded;
    char why_not[200];   /* why it cannot be measured on the new device; "" when it can */
    struct space *space; /* on the new device; NULL when there is none */
    struct survey_records old, new; /* new: under the device's present versions only */
    long carried;                   /* the best old record that is valid there; -1 for none */
    double eval_s;                  /* of one evaluation, from past searches; 1 when unknown */
    bool eval_known;
    uint64_t cold_evals;    /* median to within 5 % of the best; 0 when unknown */
    unsigned cold_searches; /* behind it */
    bool cold_warm;         /* they were warm: no cold one is stored */
    json_t *workloads;      /* {name, flops, bytes}; NULL when nothing is known */
    struct roofline_shift shift;
    uint32_t tested; /* insights planned on it */
};

struct survey_insight {
    struct insight in; /* a copy */
    struct label_evidence old, new;
    struct labelled label;
    size_t task; /* where it would be tested; SIZE_MAX for none */
    bool value_missing;
    uint32_t relying;
    char *keys[PLAN_KEYS];          /* owned */
    json_t *assignments[PLAN_KEYS]; /* owned; of the keys */
};

struct survey {
    struct kb *kb;
    const struct packs *packs;
    const struct survey_request *req;
    json_t *to, *from; /* device records */
    char *from_name, *versions;
    struct delta delta;
    struct survival *survival;
    size_t n_tasks;
    struct survey_task *tasks;
    json_t *names; /* array that task names are borrowed from */
    size_t n_insights, cap_insights, left_out;
    struct survey_insight *insights;
    json_t *roofline; /* rows */
};

/* survey_tasks.c: chooses `from`, then reads the tasks' records and what past searches took. */
int survey_find_tasks(struct survey *s, struct err *err);
void survey_task_release(struct survey_task *t);
/* "task\nKEY": the name of a measurement. Owned. */
char *survey_key(const struct survey_task *t, const uint16_t *a);
/* Values that only ever failed on the old device and have a valid assignment on the new one:
 * [{param, value}]. Fresh. */
json_t *survey_new_values(const struct survey_task *t);
/* Does the space have a valid assignment with this value (-1: no value of it)? */
bool survey_value_is_valid(const struct space *space, size_t p, int value);
/* The record of this assignment among those of the new device; NULL when there is none. */
const struct survey_record *survey_known(const struct survey_task *t, const json_t *assignment);

/* survey_insights.c: gathers and labels the insights and finds how each could be tested. */
int survey_find_insights(struct survey *s, struct err *err);
void survey_insight_release(struct survey_insight *si);

#endif
