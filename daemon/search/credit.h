/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact credit: which insights memory offered a search, which of them each attempt followed or went
 * against, and what that was worth. An offer is an insight whose claim the search's space can
 * embody; an attempt of the memory arm that follows it carries its share of the lift, which is what
 * was measured less what could be expected without memory. docs/ledger.md defines the figures.
 * Thread: the owner's.
 */
#ifndef KS_SEARCH_CREDIT_H
#define KS_SEARCH_CREDIT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kb.h"
#include "search/space.h"

enum { CREDIT_OFFERS_MAX = 32 }; /* of one search; later ones are left out */

struct credit_offer {
    struct id insight;
    size_t param;
    uint16_t with, without; /* SPACE_ANY: a value that the space does not have */
    double mean, sd;        /* what it predicts for the log effect of one pair; sd 0: nothing */
};

struct credit_offers {
    size_t n;
    struct credit_offer items[CREDIT_OFFERS_MAX];
};

/*
 * The insights `ids[n]` as offers, [{insight, param, with, without, mean, sd}]: an event of any
 * type that gives a search insights has them as its member `offered`. mean and sd are the posterior
 * at the place of use (NULL: anywhere), widened by 0.05 for what one pair scatters; without any
 * pair there are none. Left out are insights that the base does not have, and claims whose tunable
 * or value the space does not have. Owned. Thread: worker.
 */
json_t *credit_offered(struct kb *kb, const struct space *space, const struct insight_place *at,
                       const struct id *ids, size_t n);
/* Folds the member `offered` of an event in (NULL is fine); an insight is offered once.
 * ERR_CORRUPT.
 */
int credit_take(struct credit_offers *o, const struct space *space, const json_t *offered,
                struct err *err);

/* Bit i: offer i. */
struct credit_served {
    uint32_t served, followed, against;
};

/*
 * What an attempt of the memory arm makes of the offers: adds served[], followed[] and against[],
 * ids each, to its event; nothing when there are no offers.
 */
void credit_serve(const struct credit_offers *o, const uint16_t *a, json_t *attempt);
/* The reverse: the bits of those lists. Ids that were never offered are ignored. */
struct credit_served credit_of_attempt(const struct credit_offers *o, const json_t *attempt);

/* ---- Per insight, over all searches ---- */

struct credit_row {
    struct id insight;
    uint64_t served, adopted, against; /* attempts that it was offered to, followed, contradicted */
    uint64_t wins, losses;             /* followed, and beyond noise better, worse or failed */
    int64_t lift_q, debit_q;           /* sums of its shares above and below zero, micro-logs */
};

struct credit_table {
    size_t n, cap;
    struct credit_row *rows; /* sorted by id */
};

/* The row of an insight; NULL when it was never offered. Borrowed until the next change. */
const struct credit_row *credit_find(const struct credit_table *t, const char *insight);
/* Counts an attempt's served[], followed[] and against[]. */
void credit_count_attempt(struct credit_table *t, const json_t *attempt);
/*
 * Counts its outcome: lift_q goes in equal shares to followed[n], the first `lift_q % n` of them
 * one micro-log more, so that the shares add up. verdict: 1 better beyond noise, -1 worse beyond
 * noise or failed, 0 neither; a failure has no lift (`ok` false).
 */
void credit_count_outcome(struct credit_table *t, const json_t *followed, bool ok, int64_t lift_q,
                          int verdict);
/* {served, adopted, against, wins, losses, lift, debit}: lift and debit as natural logs; zeros for
 * NULL. Owned. */
json_t *credit_json(const struct credit_row *r);
void credit_release(struct credit_table *t);

#endif
