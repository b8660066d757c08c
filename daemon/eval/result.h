/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of one evaluation (docs/design.md section 3), parsed strictly into a struct. A failure
 * is a status, never a number: the objective is NaN unless the status is EVAL_OK. Thread: any; a
 * result belongs to its caller.
 */
#ifndef KS_EVAL_RESULT_H
#define KS_EVAL_RESULT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* status, name in records */
#define EVAL_STATUS_MAP(X)                                                                         \
    X(OK, "ok")                                                                                    \
    X(BUILD_FAILED, "build_failed")                                                                \
    X(BUILD_TIMEOUT, "build_timeout")                                                              \
    X(LOAD_FAILED, "load_failed")                                                                  \
    X(REFUSED_CALL, "refused_call")                                                                \
    X(CRASHED, "crashed")                                                                          \
    X(TIMEOUT, "timeout")                                                                          \
    X(WRONG_VALUE, "wrong_value")                                                                  \
    X(NONFINITE, "nonfinite")                                                                      \
    X(OUTPUT_UNTOUCHED, "output_untouched")                                                        \
    X(GUARD_HIT, "guard_hit")                                                                      \
    X(INPUT_MODIFIED, "input_modified")                                                            \
    X(MEMORY_LIMIT, "memory_limit")                                                                \
    X(PROCESS_LIMIT, "process_limit")                                                              \
    X(SANDBOX_VIOLATION, "sandbox_violation")                                                      \
    X(CLOCK_TAMPERED, "clock_tampered")                                                            \
    X(RESULT_FORGED, "result_forged")                                                              \
    X(UNSTABLE, "unstable")                                                                        \
    X(INFRASTRUCTURE, "infrastructure") /* never charged to the candidate */                       \
    X(KNOWN, "known")                   /* not measured: its object was, see eval_request.known */ \
    X(CANCELLED, "cancelled")           /* ours: no record says it, nothing stores it */

enum eval_status {
#define X(name, text) EVAL_##name,
    EVAL_STATUS_MAP(X)
#undef X
        EVAL_STATUS_COUNT
};

/* "ok", "build_failed", ... Never NULL. */
const char *eval_status_name(enum eval_status s);
/* The status of this name; EVAL_STATUS_COUNT when there is none. */
enum eval_status eval_status_from_name(const char *name);
/* False for ok, known, infrastructure and cancelled: the candidate is to blame. */
bool eval_status_blames(enum eval_status s);

/* A ratio of times with its 95 % confidence bounds. */
struct eval_ratio {
    double ratio, ci_low, ci_high;
    double log_sd; /* of its natural log; NaN when unknown */
};

struct eval_workload {
    char *name;
    enum eval_status status;
    char *message;        /* "" when ok */
    double ratio;         /* baseline over candidate; NaN unless measured */
    uint64_t baseline_ns; /* median of the raw samples; 0 when there are none */
    uint64_t candidate_ns;
    size_t n_samples;           /* of the candidate */
    double roofline;            /* share of the roofline, NaN when unknown */
    double flops, bytes;        /* of one call, NaN when unknown */
    double max_abs, tensor_rel; /* worst errors seen by the check, NaN when unknown */
};

struct eval_result {
    enum eval_status status;
    char *message; /* one sentence; "" when ok */
    char *definition, *set;
    double objective; /* geometric mean of ratios; NaN unless ok, as the next four */
    double ci_low, ci_high;
    double log_sd;   /* standard deviation of the objective's natural log */
    double worst;    /* smallest ratio of a workload */
    double roofline; /* share, NaN when unknown */
    bool has_champion;
    struct eval_ratio vs_champion; /* champion's time over the candidate's; above 1 is faster */
    size_t n_workloads;
    struct eval_workload *workloads;
    double build_ms, check_ms, timing_ms, total_ms;
    char *build_log;
    uint64_t build_bytes; /* of the built object */
    char *object;         /* its digest, 64 hexadecimal digits; "" when unknown */
    char *toolchain;      /* "gcc 12.2.0", "" when unknown */
    char *march, *sandbox;
    json_t *record; /* as received; an owned reference */
};

/*
 * Parses one record. Unknown keys, wrong types, numbers out of range, an "ok" without an objective
 * or one that its workloads' ratios do not give, and a failure without a message are ERR_INVALID.
 * Keeps a reference to `record`. Release with eval_result_release.
 */
int eval_result_from_json(json_t *record, struct eval_result *out, struct err *err);
/* Fills a result that has no record of a harness: infrastructure or cancelled. `record` is made. */
void eval_result_fail(struct eval_result *out, enum eval_status status, const char *definition,
                      const char *set, const char *message);
void eval_result_release(struct eval_result *r);

/* Micro-log of the objective, llround(1e6 ln); 0 unless ok. */
int64_t eval_result_objective_q(const struct eval_result *r);
/* Standard deviation of that log in micro-units; 0 unless ok. */
int64_t eval_result_sd_q(const struct eval_result *r);
/* Median of n samples (mean of the two in the middle); sorts `v`; NaN when n is 0. */
double eval_median(double *v, size_t n);

#endif
