/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of a retune: what was kept, lost and gained, and what it saved against starting anew.
 * Thread: worker, blocks.
 */
#ifndef KS_RETUNE_REPORT_H
#define KS_RETUNE_REPORT_H

#include <jansson.h>

#include "base/err.h"

struct kb;

/*
 * Makes the report of the document (survey.h) and the progress (job.h) so far, which may be
 * unfinished: {kept[], lost[], open[], gained[], tasks[], spent{}, saved{}} as docs/retune.md has
 * them. ERR_IO, ERR_NOMEM, ERR_CORRUPT.
 */
int report_make(struct kb *kb, const json_t *doc, const json_t *progress, json_t **out,
                struct err *err);

/*
 * What the results so far say of one insight: 1 confirmed, -1 refuted, 0 no difference beyond
 * noise, 2 nothing measured. `effect` and `sd` (natural log) are those of the pairs; `failed` gets
 * the class (borrowed) with which the claim's own side failed there, NULL when it did not.
 */
int report_verdict(const json_t *insight, const json_t *steps, const json_t *results,
                   double *effect, double *sd, const char **failed);

#endif
