/* SPDX-License-Identifier: Apache-2.0 */
/* How a retune's result (retune.plan, retune.show) is shown: text and a picture. Thread: main. */
#ifndef KS_CLI_RETUNE_H
#define KS_CLI_RETUNE_H

#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

/* The plan: what changed, labels, and the order of re-verification. */
void retune_print_plan(const json_t *result, FILE *f);
/* The report: per task, what was kept, lost and gained, and what was saved. */
void retune_print_report(const json_t *result, FILE *f);
/*
 * The report as one SVG document without scripts or references: per task the old best, what it is
 * worth on the new device, and the retuned best, all over the new device's baseline; evaluations
 * against a cold start; labels as shares. All text is escaped. ERR_LIMIT (`out` is too small).
 */
int retune_svg(const json_t *result, struct buf *out, struct err *err);

#endif
