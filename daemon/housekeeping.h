/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the data folder holds and nothing refers to: programs, tables of recorded spaces whose task
 * does not have them, and builds that nobody asked for in a long time. Thread: worker, blocks.
 */
#ifndef KS_DAEMON_HOUSEKEEPING_H
#define KS_DAEMON_HOUSEKEEPING_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct daemon;

enum { HOUSEKEEPING_BUILD_DAYS = 30 /* a build that was not used for this long goes */ };

/* *report is {programs{n, bytes}, side{n, bytes}, builds{n, bytes}, dry_run}; with `dry_run`
 * nothing is dropped. ERR_IO, ERR_CORRUPT, ERR_NOMEM. */
int housekeeping_run(struct daemon *d, bool dry_run, json_t **report, struct err *err);

#endif
