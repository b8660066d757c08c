/* SPDX-License-Identifier: Apache-2.0 */
/* Finding tasks by name: packs first, then task documents of the knowledge base (recorded spaces).
 */
#ifndef KS_DAEMON_TASKS_H
#define KS_DAEMON_TASKS_H

#include "base/buf.h"
#include "base/err.h"

struct daemon;
struct pack_definition;

/* A definition of a pack; borrowed. ERR_NOT_FOUND names the nearest ones. Thread: any. */
int task_definition(struct daemon *d, const char *name, const struct pack_definition **out,
                    struct err *err);
/*
 * Family and shape regime of any known task, owned strings ("" where the task has none).
 * ERR_NOT_FOUND names the nearest ones. Thread: worker, blocks.
 */
int task_scope(struct daemon *d, const char *name, char **family, char **shape, struct err *err);

#endif
