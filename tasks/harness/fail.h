/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an evaluation ends: "ok", or one failure class with one sentence. A failure is a state, never
 * a score. Functions of the harness that judge a program return 0, or -1 with a struct fail filled
 * in; FAIL_INFRASTRUCTURE means that the candidate is not to blame. Thread: any.
 */
#ifndef KS_HARNESS_FAIL_H
#define KS_HARNESS_FAIL_H

#include "base/err.h"

#define FAIL_MAP(X)                                                                                \
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
    X(KNOWN, "known") /* not measured: its object is one of the job's known ones */                \
    X(UNSTABLE, "unstable")                                                                        \
    X(INFRASTRUCTURE, "infrastructure")

enum fail_class {
#define X(name, text) FAIL_##name,
    FAIL_MAP(X)
#undef X
        FAIL_COUNT
};

struct fail {
    enum fail_class class;
    enum err_code code; /* of an infrastructure failure: ERR_REFUSED without a sandbox */
    char msg[640];
};

/* Sets class and sentence; always returns -1. */
int fail_set(struct fail *f, enum fail_class class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Turns an error of ours into FAIL_INFRASTRUCTURE, keeping its code; always returns -1. */
int fail_err(struct fail *f, const struct err *err);
/* Puts "context: " before the sentence; always returns -1. */
int fail_ctx(struct fail *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "ok", "build_failed", ...: the "status" of the record. Never NULL. */
const char *fail_name(enum fail_class class);

#endif
