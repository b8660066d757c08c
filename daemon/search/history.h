/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all searches of a base add up to: the prediction ledger, credit per insight, and how often
 * memory lost against the memory-free arm. It is a fold over stored events, read once each: a
 * search is followed to its latest event whenever somebody asks, so that reading may begin, stop
 * and be repeated anywhere. docs/ledger.md defines the figures. Thread: any; a lock inside.
 */
#ifndef KS_SEARCH_HISTORY_H
#define KS_SEARCH_HISTORY_H

#include <jansson.h>
#include <stdint.h>

#include "kb.h"
#include "search/credit.h"

struct history;

/* An empty one, of the caller; aborts when memory is out. */
struct history *history_new(void);
void history_free(struct history *h); /* NULL is fine */

/* Reads what is new of every search, or of one. A search whose events cannot be read is left out
 * and remembered (history_problems). ERR_IO, ERR_NOT_FOUND. Thread: worker, blocks. */
int history_refresh(struct history *h, struct kb *kb, struct err *err);
int history_follow(struct history *h, struct kb *kb, const char *search, struct err *err);

/* What a warm search recalls (ledger_recall), after a refresh; with h NULL everything is read for
 * this one answer. Owned. Thread: worker, blocks. */
int history_recall(struct history *h, struct kb *kb, const char *family, const char *device_class,
                   json_t **out, struct err *err);

/* The same of the scores of language models, score_past_json. */
int history_recall_scores(struct history *h, struct kb *kb, json_t **out, struct err *err);

/* As it is after the last refresh. Owned. */
json_t *history_calibration(struct history *h); /* ledger_json */
struct credit_row history_credit(struct history *h, const char *insight);
/* {searches, judged, lost, rate, pairs, pairs_worse, pairs_better}: warm searches, those that had
 * enough pairs, those in which memory lost; rate is null while none was judged. Owned. */
json_t *history_transfer(struct history *h);
/*
 * Credit and warm searches as they were at one moment, to look at while the knowledge base's own
 * lock is held: nothing else here may be called then. Release with history_view_release.
 */
struct history_view {
    struct credit_table credit;
    size_t n_warm;
    struct history_warm {
        char *family;
        uint64_t created_s;
    } * warm;
};
void history_view_take(struct history *h, struct history_view *out);
/* Warm searches of a family that began at `since_s` or later. */
uint64_t history_view_warm(const struct history_view *v, const char *family, uint64_t since_s);
void history_view_release(struct history_view *v);
/* [{search, problem}] of searches whose events cannot be read. Owned. */
json_t *history_problems(struct history *h);

#endif
