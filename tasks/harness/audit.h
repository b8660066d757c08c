/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb "check-task": is a task's pack fit to judge kernels by? Workloads, generator, reference,
 * tolerances, baseline and template are tried, and timed against the roofline; docs/harness.md
 * ("Checking a task") has the record. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_AUDIT_H
#define KS_HARNESS_AUDIT_H

#include <jansson.h>

#include "job.h"

/*
 * Checks the job's definition on the job's set and on "smoke". The candidate is the template with
 * its defaults, or the baseline where the pack has no template. `*record` is owned by the caller;
 * what the pack fails is in it. ERR_NOMEM only.
 */
int audit(const struct job *job, json_t **record, struct err *err);

#endif
