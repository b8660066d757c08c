/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a retune starts from, read from the knowledge base: the two devices and what changed, the
 * tasks with their best programs on the old device, every insight with evidence there, labelled,
 * and the plan. The result is one document (docs/retune.md), from which the run goes on without
 * looking back. Thread: worker, blocks.
 */
#ifndef KS_RETUNE_SURVEY_H
#define KS_RETUNE_SURVEY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct kb;
struct packs;

enum { SURVEY_TASKS_MAX = 256, SURVEY_INSIGHTS_MAX = 5000 };

struct survey_request {
    const char *device; /* the new one; must be known */
    const char *from; /* NULL: the device with most evaluations of the tasks that is not `device` */
    const json_t *tasks; /* array of names; NULL or empty: all that were measured on `from` */
    bool toolchain;      /* same device, other versions */
    bool control;        /* a cold search per task is run for comparison */
    uint64_t evals;      /* budget; 0: 40 for each task that can be measured */
    double time_s;       /* 0: none */
    uint64_t seed;
};

/*
 * Makes the document. ERR_NOT_FOUND (a device, a task, or nothing that was measured on the old
 * device), ERR_INVALID (the device is compared with itself), ERR_IO, ERR_NOMEM.
 */
int survey_make(struct kb *kb, const struct packs *packs, const struct survey_request *req,
                json_t **out, struct err *err);

#endif
