/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One evaluation from job to record: builds module, baseline, candidate and champion, starts a
 * runner for each program, runs a contest per workload, and puts the results together. Thread: the
 * judge's main thread.
 */
#ifndef KS_HARNESS_EVALUATE_H
#define KS_HARNESS_EVALUATE_H

#include <jansson.h>

#include "contest.h"
#include "fail.h"
#include "job.h"
#include "pack.h"

struct evaluation {
    struct fail fail;               /* class FAIL_OK when all went well */
    struct contest_result *results; /* owned, one per workload that was begun */
    int n_results;
    struct estimate objective, vs_champion; /* log */
    double worst;                           /* smallest of the workloads' ratios */
    double roofline;                        /* geometric mean; 0: not known */
    double build_ms;
    size_t object_bytes;
    char *log; /* owned; the compiler's words on the candidate; may be NULL */
    uint64_t total_ns;
};

/* Evaluates; what goes wrong is in out->fail. ERR_* only for what makes a record impossible. */
void evaluate(const struct job *job, const struct pack *pack, struct evaluation *out);
void evaluation_release(struct evaluation *e);

/* The record of docs/design.md section 3; owned by the caller, NULL when memory is out. */
json_t *record_make(const struct job *job, const struct pack *pack, const struct evaluation *e);

#endif
