/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JOBDIR/job.json, parsed strictly: docs/harness.md has the fields. The job owns all it points to.
 * Thread: any; a job does not change once loaded.
 */
#ifndef KS_HARNESS_JOB_H
#define KS_HARNESS_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sha256.h"

#define JOB_JSON_MAX (1u << 20)
#define JOB_DEFINES_MAX 256
#define JOB_SLOTS 1000
#define JOB_THREADS_MAX 256
#define JOB_KNOWN_MAX 4096

enum sandbox { SANDBOX_BWRAP, SANDBOX_NONE };

struct define {
    char *name, *value; /* owned */
};

/* A program of the job: source text and macros. */
struct program {
    char *source; /* owned, the text; NULL when the job has no such program */
    struct define *defines;
    int n_defines;
};

struct job {
    char *pack, *definition, *set;
    struct program candidate, champion;
    char *march, *cache, *baseline_key, *module_key; /* cache and keys may be NULL */
    int threads, slot;
    enum sandbox sandbox;
    uint64_t seed;
    uint64_t build_s, run_s, memory_bytes, output_bytes;
    uint64_t cache_bytes;          /* that the build cache may take */
    char (*known)[SHA256_HEX + 1]; /* owned; digests of objects that need no measuring */
    size_t n_known;
    int pairs_min, pairs_max;
    double budget_s;             /* per workload */
    double read_gbs, fma_gflops; /* of the device; 0: not given, no roofline */
};

/* ERR_NOT_FOUND, ERR_IO, ERR_LIMIT, ERR_INVALID: the sentence names the field. */
int job_load(const char *dir, struct job **out, struct err *err);
/* An empty job with the default limits and timing, for `check`. ERR_NOMEM. */
int job_new(struct job **out, struct err *err);
void job_free(struct job *j);
/* Adds one macro. ERR_INVALID unless it is a C name and a short token; ERR_LIMIT. */
int program_define(struct program *p, const char *name, const char *value, struct err *err);
void program_release(struct program *p);
/* True for a value of -march= that is safe to pass to the compiler. */
bool job_is_march(const char *s);

#endif
