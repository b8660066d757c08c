/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A planner's answer: one JSON object with edits of the world model, and what else the kind of call
 * asks for. Models wrap JSON in prose, forget commas and get cut off: what can be read without
 * guessing is read, and counted as a repair. Answers are hostile input. Thread: any.
 */
#ifndef KS_SEARCH_PLAN_ANSWER_H
#define KS_SEARCH_PLAN_ANSWER_H

#include <jansson.h>

#include "search/calls.h"
#include "search/world_ops.h"

enum { PLAN_QUESTIONS_MAX = 8, PLAN_INSIGHTS_MAX = 4, PLAN_SUMMARY_MAX = 4000 };

/* The object in a text that has the member `wanted` (NULL: the first object), whatever is around
 * it. `repairs` (an array, appended to) says what was mended: fences, trailing commas, comments,
 * brackets missing at the very end. ERR_INVALID says where it cannot be read; a text that ends
 * inside a string is never mended. A think block before it (thinking.h) is passed over, and its
 * lines do not count. Owned. */
int json_of_answer(const char *text, const char *wanted, json_t **out, json_t *repairs,
                   struct err *err);

struct plan_answer {
    char *summary;          /* CALL_INIT: of the kernel; "" */
    json_t *questions;      /* CALL_INIT: open questions, texts; an array, owned */
    struct world_edit edit; /* perhaps without operations */
    json_t *insights; /* CALL_REFINE: what the model says was learned, for distil.h; an array of
                         objects, owned */
    json_t *repairs;  /* sentences, owned */
};
void plan_answer_release(struct plan_answer *a);

/*
 * Parses the answer to a planner's call. `round` is the evaluation number, for the edit. With
 * `flat` an insertion elsewhere than under the root is an error. ERR_INVALID with a summary, and
 * `errors` (appended to): every error, uncut.
 */
int plan_answer_parse(enum call_kind kind, const char *text, uint64_t round, bool flat,
                      struct plan_answer *out, json_t *errors, struct err *err);

/* JSON schema of the answer to a planner's call, and its name (static). Fresh. */
json_t *plan_answer_schema(enum call_kind kind, const char **name);

#endif
