/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What watchers of a search are told of its events. Private to daemon/sched. Thread: that which has
 * the search.
 */
#ifndef KS_SCHED_NOTICE_H
#define KS_SCHED_NOTICE_H

#include <jansson.h>

struct search;

/* An event as clients see it: without what only the fold needs, with what a person wants to know.
 * The event was applied already. Owned. */
json_t *notice_of_event(const struct search *s, const json_t *ev);

#endif
