/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the author share; see author.h. Private to daemon/search. Thread: as there. */
#ifndef KS_SEARCH_AUTHOR_PRIV_H
#define KS_SEARCH_AUTHOR_PRIV_H

#include "search/author.h"
#include "search/spend.h"
#include "search/warm_model.h"

/* One step under way. */
struct author {
    struct journal *j;
    struct search *s;
    const struct prompts *prompts;
    bool waits; /* nothing can be done before an answer arrives */
};

/* ---- author.c ---- */

/* Stores an edit as an event of its own, when it has anything; releases it. */
int author_edit(struct author *a, struct world_edit *edit, struct err *err);
/* An event about a lane; `more` (stolen, NULL is fine) is added to it. */
int author_lane_event(struct author *a, const char *type, const struct lane *l, json_t *more,
                      struct err *err);
/* Asks the model; what may be told from memory is looked up. */
int author_ask(struct author *a, struct prompt_ask *ask, struct err *err);
/* Was a call of this kind ever asked? */
bool author_has_asked(const struct search *s, enum call_kind kind);
/* Ends the search: done, or failed where nothing passed although there was something left. */
int author_finish(struct author *a, const char *reason, struct err *err);

/* ---- author_cycle.c ---- */

/* Begins a cycle of the first free lane, which there must be, on `node`, from program `base`. */
int author_cycle(struct author *a, uint32_t node, uint32_t base, json_t *more, struct err *err);
/* Begins the next cycle, or asks what it needs, where a lane is free; *moved stays false where
 * nothing is to be done. */
int author_new_cycle(struct author *a, bool *moved, struct err *err);

/* ---- author_answer.c ---- */

/* Uses an answer that has arrived: edits, a program, or the question once more with what was wrong.
 */
int author_use(struct author *a, const struct call *c, struct err *err);
/* The model has heard of a lane's cycle (`insights`: what it learned, NULL for nothing): evidence
 * is linked, and the node gets an open child. `why` says why it was not told; "" when it was. */
int author_told(struct author *a, const struct lane *l, const json_t *insights, const char *why,
                struct err *err);

/* Ends the round of a lane that brought a program which was measured before: that is not measured
 * again, and counts as a round without a pass. */
int author_known(struct author *a, const struct lane *l, uint32_t number, struct err *err);

/* ---- author_measure.c ---- */

/* Measures what the search begins with, on the root. */
int author_seed(struct author *a, struct err *err);
/* Has the program of a lane in stage MEASURE another assignment that is worth an evaluation? */
bool author_wants_measurement(const struct search *s, const struct lane *l);
/* Plans the next evaluation, of the oldest cycle that wants one. */
int author_measure(struct author *a, bool *moved, struct err *err);
/* Ends a round: `evaluation` is the best of the program, 0 when nothing was measured. */
int author_round(struct author *a, const struct lane *l, uint64_t evaluation, const char *note,
                 struct err *err);
/* Ends a cycle, the round under way first. */
int author_end_cycle(struct author *a, struct lane *l, const char *why, struct err *err);

#endif
