/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From C source to the bytes of a shared object, in a confined compiler that sees the system, the
 * source and the task headers, and nothing else. Builds are kept in the job's cache folder under a
 * digest of all that went in (cache.h), with what the compiler said, so that a cached build reports
 * the same. Object and words of the compiler are hostile data. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_BUILD_H
#define KS_HARNESS_BUILD_H

#include <stdbool.h>

#include "base/buf.h"
#include "fail.h"
#include "job.h"
#include "pack.h"

#define BUILD_OBJECT_MAX (64u << 20)

#define BUILD_REPORT_MAX (256u << 10)

struct build {
    struct buf object; /* the shared object */
    struct buf log;    /* what the compiler said, capped by the job's output_bytes */
    struct buf loops;  /* lines of the vectoriser: loops done and not; "" when it cannot tell */
    struct buf stack;  /* lines of -fstack-usage; "" when the compiler cannot tell */
    double ms;         /* wall time, 0 when it came from the cache */
    bool cached;       /* it came from the cache */
    bool damaged;      /* the cache's entry was damaged, so it was built again */
};

void build_release(struct build *b);

/*
 * Compiles `program` for the job, or takes it from the cache. `pack`: its constants become macros;
 * NULL for a module, which gets none. `key`: of a trusted source, begins its name in the cache;
 * NULL: a program under test, with warnings and reports. Fails with FAIL_BUILD_FAILED,
 * FAIL_BUILD_TIMEOUT, or FAIL_INFRASTRUCTURE (no compiler, no sandbox).
 */
int build_program(const struct job *job, const struct pack *pack, const struct program *program,
                  const char *key, struct build *out, struct fail *f);

/* "gcc 12.2.0", into out; "" when there is no compiler. */
void build_compiler(char *out, size_t size);
/* Runs argv[0] (found on PATH), and returns what it wrote on standard output; ERR_IO, ERR_LIMIT. */
int build_capture(const char *const *argv, struct buf *out, struct err *err);

/* The hidden verb "compile OBJECT STACK AS_BYTES CPU_S PROCESSES cc ARGS...": see build.c. */
int build_verb(int argc, char **argv);

#endif
