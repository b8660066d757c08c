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
    char *log;      /* owned; the compiler's words on the candidate; may be NULL */
    json_t *report; /* owned; what its build tells (report.h); may be NULL */
    uint64_t total_ns;
};

/* A task's trusted module, loaded. */
struct task_module {
    const struct ks_task_module *table; /* lives as long as the module */
    void *handle;
    int fd; /* of its object: open as long as it, because the loader knows modules by that name */
};

/*
 * Builds the pack's module, or takes it from the job's cache, and loads it. `real`: what KS_REAL
 * stands for; NULL: what ks_gen.h says. FAIL_INFRASTRUCTURE; then there is nothing to release.
 */
int module_load(const struct job *job, const struct pack *pack, const char *real,
                struct task_module *out, struct fail *f);
/* Safe on one that was never loaded, as long as its fd is -1. */
void module_release(struct task_module *m);

/* Evaluates; what goes wrong is in out->fail. ERR_* only for what makes a record impossible. */
void evaluate(const struct job *job, const struct pack *pack, struct evaluation *out);
void evaluation_release(struct evaluation *e);

/* The record of docs/design.md section 3; owned by the caller, NULL when memory is out. */
json_t *record_make(const struct job *job, const struct pack *pack, const struct evaluation *e);

#endif
