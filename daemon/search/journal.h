/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of one step of a search: collects its events, folds each in at once and puts it into
 * one batch, so that what is in memory and what is stored agree once it is committed. Thread:
 * worker, blocks; the search's lock is held.
 */
#ifndef KS_SEARCH_JOURNAL_H
#define KS_SEARCH_JOURNAL_H

#include <jansson.h>

#include "base/clock.h"
#include "base/err.h"

struct kb_batch;
struct search;

struct journal {
    struct search *search;
    struct kb_batch *batch;
    const struct clock *clock;
    json_t *events; /* array, for notifications; owned */
};

/* Begins with no events; `s` and `clock` are borrowed. ERR_NOMEM: nothing is left to close. */
int journal_open(struct journal *j, struct search *s, const struct clock *clock, struct err *err);
/* Adds `event` (stolen): {"type": ...}; fills seq and at. ERR_CORRUPT, ERR_NOMEM. */
int journal_add(struct journal *j, json_t *event, struct err *err);
/* One synced write; on failure the search no longer matches the base and must be loaded again. */
int journal_commit(struct journal *j, struct err *err);
/* What was not committed is not stored. */
void journal_close(struct journal *j);

#endif
