/* SPDX-License-Identifier: Apache-2.0 */
/* Finding tasks by name: packs first, then task documents of the knowledge base (recorded spaces).
 */
#ifndef KS_DAEMON_TASKS_H
#define KS_DAEMON_TASKS_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

struct daemon;
struct pack_definition;

/* A definition of a pack; borrowed until the loop turns (an import may replace the pack).
 * ERR_NOT_FOUND names the nearest ones; a recorded task, which has nothing to build, is
 * ERR_INVALID. Thread: loop. */
int task_definition(struct daemon *d, const char *name, const struct pack_definition **out,
                    struct err *err);
/* ERR_CONFLICT when the name is a pack's: a recorded space cannot have it. Thread: loop. */
int task_is_free(struct daemon *d, const char *name, struct err *err);
/*
 * The document of a recorded task (eval/recorded_store.h); owned. ERR_NOT_FOUND names the nearest
 * tasks. Thread: worker, blocks.
 */
int task_recorded(struct daemon *d, const char *name, json_t **out, struct err *err);
/*
 * Family and shape regime of any known task, owned strings ("" where the task has none).
 * ERR_NOT_FOUND names the nearest ones. Thread: worker, blocks.
 */
int task_scope(struct daemon *d, const char *name, char **family, char **shape, struct err *err);

#endif
