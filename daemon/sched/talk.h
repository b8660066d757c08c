/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live search's conversation with its language model: which calls are under way, which answers
 * have arrived and are not stored yet. The calls themselves are the fold's (search/calls.h); this
 * is what a restart begins anew. Private to daemon/sched. Thread: loop, except where said.
 */
#ifndef KS_SCHED_TALK_H
#define KS_SCHED_TALK_H

#include <jansson.h>

#include "base/list.h"
#include "search/search.h"

struct event;
struct journal;
struct runner;
struct talk_call;

struct talk {
    struct llm *model; /* NULL: the built-in proposer */
    struct list calls; /* under way */
    json_t *arrived;   /* events to store, in order of arrival; NULL for none */
    /* The worker's while it plans: what it stores, which calls it need not read, what it read. */
    json_t *storing;
    size_t n_known;
    uint64_t *known;
    bool hold; /* nothing is asked before `again` */
    size_t n_requests, cap_requests;
    struct call_request *requests;
    struct event *again; /* asks again after the provider gave up; NULL until then */
    unsigned failures;   /* in a row, of the provider */
    bool hopeless;       /* it will not work before somebody changes something */
    bool missing;        /* and nobody can: a recording lacks the answer */
    char trouble[300];   /* what the provider said last; "" when all is well */
};

/* The provider that the search names. ERR_INVALID and what making it said. NULL model for the
 * built-in proposer. */
int talk_open(struct runner *r, struct err *err);
/* Cancels what is under way; no answer reaches the runner any more. */
void talk_close(struct runner *r);

/* Is there anything to store: answers, or that there are none? */
bool talk_has_arrived(const struct runner *r);
/* Hands what arrived to the worker; call before a step, and talk_after with its outcome. */
void talk_before(struct runner *r);
void talk_after(struct runner *r, bool ok);
/* Stores what arrived, in a write of its own: before anything is done with it. Thread: worker. */
int talk_store(struct runner *r, struct journal *j, struct err *err);
/* Reads the requests of calls that nobody works on yet. Thread: worker, which has the search. */
int talk_read_requests(struct runner *r, struct err *err);
/* Starts what was read; ends what is not wanted any more. */
void talk_start(struct runner *r);
/* Somebody asked to go on: what was wrong may have been mended. */
void talk_hope(struct runner *r);
/* "2 requests wait for an answer", or what the provider's trouble is. Fills `out`. */
void talk_text(const struct runner *r, char *out, size_t size);

#endif
