/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a proposer is told of an evaluation, the same for people and for language models: a record
 * (docs/design.md section 3) condensed into one compact document of bounded size, and that document
 * as text within a byte budget. Strings in it come from compilers and candidates: they are escaped
 * and stay on their line. Thread: any.
 */
#ifndef KS_EVAL_FEEDBACK_H
#define KS_EVAL_FEEDBACK_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    FEEDBACK_WORKLOADS_MAX = 48, /* rows; beyond that the fastest are left out */
    FEEDBACK_LIST_MAX = 12,      /* diagnostics, loops */
    FEEDBACK_TEXT_MIN = 400      /* the smallest useful budget */
};

/*
 * Condenses a record. `device`: an object with read_gbs and fma_gflops (docs/design.md section 5),
 * or NULL; without them there is no floor. Members, each only when it is known:
 *   status, message, objective, ci_low, ci_high, worst, roofline
 *   workloads[]: name, status, message, ratio, baseline_us, baseline_spread, candidate_us,
 *     candidate_spread, floor_us, roofline, bound ("memory" or "compute"), gbs, gflops, counters
 *   diagnostics[], vectorised[], missed[], vector_note, size: as in the record's "build"
 *   build_ms, cached, counters_unavailable
 *   workloads_left_out, diagnostics_left_out, vectorised_left_out, missed_left_out
 * Times are medians in microseconds a call; a spread is 1.4826 times the median absolute deviation
 * over the median. Owned; never NULL.
 */
json_t *feedback_of(const json_t *record, const json_t *device);

/*
 * Appends a feedback document as text of at most `budget` bytes (FEEDBACK_TEXT_MIN or more) to
 * `out`: the verdict, errors, the table (worst workload first), warnings, loops, sizes, counters.
 * What does not fit is left out by whole rows, and each list says how many it lacks. ERR_INVALID (a
 * smaller budget), ERR_LIMIT (`out` is smaller), ERR_NOMEM.
 */
int feedback_text(const json_t *feedback, size_t budget, struct buf *out, struct err *err);

#endif
