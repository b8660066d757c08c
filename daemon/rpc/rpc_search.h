/* SPDX-License-Identifier: Apache-2.0 */
/* Starting searches from inside the daemon, as search.start does it. Thread: loop. */
#ifndef KS_DAEMON_RPC_SEARCH_H
#define KS_DAEMON_RPC_SEARCH_H

#include <jansson.h>

#include "sched/searches.h"

struct daemon;
struct pack_definition;
struct pack_set;

/* A new id: 's' and 12 random hexadecimal digits. */
void rpc_search_new_id(char out[SEARCH_ID_MAX]);
/*
 * Starts the search `id` (copied; of rpc_search_new_id, and not in the base) with the parameters of
 * search.start (borrowed). done(arg, id, err) comes once, also from inside; err is NULL after
 * success.
 */
void rpc_search_launch(struct daemon *d, const char *id, const json_t *params,
                       searches_done_fn *done, void *arg);
/* What is true of a pack's task with a workload set on a device: fills the zeroed `out` but for the
 * program. */
void rpc_search_scope(struct daemon *d, const struct pack_definition *def,
                      const struct pack_set *set, const json_t *device, struct search_scope *out);

#endif
