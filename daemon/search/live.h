/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other searches find while this one runs. Before an evaluation is planned, evaluations that
 * were stored since are looked through: one that is better than anything known of its task and
 * device becomes a finding, to be adopted by measuring it here, and insights that speak for it are
 * told. Findings are stored as an event (`shared`), so that a restart knows the same. A cold search
 * never looks.
 */
#ifndef KS_SEARCH_LIVE_H
#define KS_SEARCH_LIVE_H

#include <jansson.h>

#include "kb.h"
#include "search/memory.h"
#include "search/space.h"

struct search;

enum {
    LIVE_FROM_MAX = 204, /* "task@device" */
    LIVE_MAX = 16        /* findings kept: the newest of each source */
};

struct live_finding {
    uint16_t a[SPACE_PARAMS_MAX];
    char task[100], device[100];
    double similarity; /* of task and device */
    int64_t objective_q;
    struct id evaluation;
};

struct live {
    uint64_t seq;   /* sequence number of the knowledge base up to which findings were stored */
    uint64_t heard; /* findings in all, those replaced since too */
    size_t n;
    struct live_finding found[LIVE_MAX];
};

/*
 * The event to store when other searches found something since; *event stays NULL when they did
 * not. Reads the knowledge base from s->looked_seq on and moves that. Thread: worker, blocks.
 */
int live_look(struct search *s, json_t **event, struct err *err);
/* Folds a `shared` event in. ERR_CORRUPT. */
int live_apply(struct live *l, const json_t *event, const struct space *space, struct err *err);
/* The seeds[] entries of search.show, appended to `seeds`. */
void live_seeds(const struct live *l, const struct space *space, json_t *seeds);

#endif
