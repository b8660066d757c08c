/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A K-Search run as a past search of the knowledge base: its tree with beliefs, its solutions as
 * programs, what was measured as evaluations from elsewhere (origin KSEARCH_ORIGIN), and claims
 * where a closed node and its parent were both measured. docs/k-search.md has the rules. Thread:
 * worker, blocks.
 */
#ifndef KS_DAEMON_KSEARCH_IMPORT_H
#define KS_DAEMON_KSEARCH_IMPORT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kb.h"

struct search_scope;

#define KSEARCH_ORIGIN "k-search"

/* Where it ran. Borrowed. */
struct ksearch_place {
    const char *task, *device;
    struct search_scope *scope; /* its language and program are filled in here */
    const json_t *device_doc;   /* to store too; NULL when the device is known */
    uint64_t now_s;             /* of the import */
};

/*
 * Imports what `data` holds: a line {"format": "k-search", "world_model": n, "solutions": n}, then
 * so many bytes of each file. All in one commit. The same files for the same task and device are
 * one search, whose id is made of them: again changes nothing. *reply (fresh): {search, task,
 * device, changed, nodes, closed, solutions, evaluations, claims, objective, repaired, repairs[],
 * left_out, skipped[]}. ERR_INVALID, ERR_LIMIT, and what the base says; nothing is stored then.
 */
int ksearch_import(struct kb *kb, const struct ksearch_place *place, const char *data, size_t len,
                   json_t **reply, struct err *err);

#endif
