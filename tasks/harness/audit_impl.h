/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of check-task share: the state of one audit. audit.c has the order and the record,
 * audit_sets.c workloads and sizes, audit_reference.c generator, reference and tolerances,
 * audit_programs.c baseline, template and roofline. Each check adds one entry to "checks" and
 * changes nothing else. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_AUDIT_IMPL_H
#define KS_HARNESS_AUDIT_IMPL_H

#include <jansson.h>

#include "audit_values.h"
#include "evaluate.h"

#define AUDIT_PROBES_MAX 8 /* workloads whose values are looked at */

enum audit_status { AUDIT_OK, AUDIT_WARNING, AUDIT_FAILED, AUDIT_SKIPPED, AUDIT_STATUS_COUNT };

/* What the probes said about one output. */
struct audit_findings {
    double wide, single, rounding; /* worst share of the tolerance */
    size_t values, exact;          /* finite and not zero; of these, exact in single precision */
    int tampered[TAMPER_COUNT], rejected[TAMPER_COUNT]; /* workloads */
};

struct audit {
    const struct job *job;
    json_t *checks, *sets, *tolerance, *programs, *timing;
    int failures;
    struct pack *pack;  /* with the job's set */
    struct pack *smoke; /* with the set "smoke"; NULL when there is none, or it is the job's */
    uint64_t tried;     /* bytes of inputs that audit_check_workloads generated, */
    int n_tried;        /* and workloads */
    const struct workload *probes[AUDIT_PROBES_MAX];
    int n_probes;
    struct task_module module, wide, single; /* in double, long double and float */
    struct audit_findings findings[KS_TENSORS_MAX];
};

/* Sizes of a workload, in bytes. */
struct audit_size {
    uint64_t inputs, outputs; /* of the tensors */
    uint64_t memory;          /* that an evaluation of two programs takes, without the reference */
};

/* ---- audit.c ---- */

/* Adds the outcome of a check; what is printed is data of the pack, so it is made visible. */
void audit_report(struct audit *a, const char *name, enum audit_status status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
const char *audit_status_name(enum audit_status status);
/* A number, or null for what is not known; owned. */
json_t *audit_number(bool known, double v);

/* ---- audit_sets.c ---- */

/* ERR_INVALID, ERR_LIMIT: a shape that has no value. */
int audit_size_of(const struct pack *p, const struct workload *w, struct audit_size *out,
                  struct err *err);
/* Why this machine cannot run the workload ("needs ..."), in `out`; "" when it can. */
const char *audit_too_large(const struct audit_size *s, char *out, size_t size);
/* The check "workloads": every line of every set of the definition. */
void audit_check_workloads(struct audit *a);
/* Fills a->probes: workloads of the set "smoke", or the smallest of the job's; small ones first. */
void audit_choose_probes(struct audit *a);

/* ---- audit_reference.c ---- */

/* The check "generator" on the probes. */
void audit_check_generator(struct audit *a);
/* The checks "reference", "tolerance" and "dishonest" on the probes. */
void audit_check_values(struct audit *a);

/* ---- audit_programs.c ---- */

/* The checks "baseline" and "template", with their times. */
void audit_check_programs(struct audit *a);
/* The check "roofline": is the pack's "bottleneck" what binds the workloads that were timed? */
void audit_check_bottleneck(struct audit *a);

#endif
