/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evaluations as the search engine sees them: start one, be told once, on the loop. The evaluator
 * is passed in: the local launcher runs ksearch-eval, the replay launcher answers from a recording,
 * and the recorder wraps either. Nothing here blocks the loop beyond writing small files. Thread:
 * loop, all of it.
 */
#ifndef KS_EVAL_LAUNCHER_H
#define KS_EVAL_LAUNCHER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "eval/launcher_command.h"
#include "eval/pack.h"
#include "eval/result.h"

struct event_base;
struct evaluator;

enum { EVAL_DEFINES_MAX = 256, EVAL_KNOWN_MAX = 4096 };

struct eval_define {
    const char *name, *value;
};

/* A source with its build settings. */
struct eval_program {
    const char *source; /* text; NULL: there is none */
    size_t source_len;
    const struct eval_define *defines;
    size_t n_defines;
};

struct eval_limits {
    double build_s, run_s;
    uint64_t memory_bytes, output_bytes;
    double wall_s; /* of the whole evaluation, after which it is killed; 0: from the others */
};

struct eval_timing {
    uint32_t pairs_min, pairs_max;
    double budget_s; /* per workload */
};

/* Borrowed for the length of the start call only; the launcher copies what it needs. */
struct eval_request {
    const struct pack *pack; /* NULL only for replay */
    const char *definition;
    const char *set;
    const char *device; /* device name; evaluations of one device and slot never overlap */
    uint32_t slot;      /* of that device */
    struct eval_program candidate;
    struct eval_program champion; /* source NULL: none */
    uint64_t seed;
    uint32_t threads; /* 0: the evaluator's own setting */
    struct eval_limits limits;
    struct eval_timing timing;
    double read_gbs, fma_gflops; /* of the device, for the roofline; 0: unknown */
    const char *march;           /* of the device, as gcc's -march; NULL: the evaluator's own */
    /* Digests of objects that were measured before (64 hexadecimal digits): a candidate whose
     * object is one of them ends as EVAL_KNOWN and is not timed. Not looked at beside a champion.
     */
    const char *const *known;
    size_t n_known;
    /*
     * Of a recorded task, which has no source: the assignment to look up, and the champion's (NULL:
     * none). NULL for every other task.
     */
    const json_t *assignment, *champion_assignment;
    /*
     * Verb of ksearch-eval; NULL: "run". Another one's record is not an evaluation's: the result
     * has status EVAL_OK and nothing but the record, whatever this says. Only on a machine, never
     * recorded or replayed.
     */
    const char *verb;
};

/* build 60 s, run 30 s, 4 GiB, 1 MiB of output; 5 to 25 pairs, 0.6 s. */
struct eval_limits eval_default_limits(void);
struct eval_timing eval_default_timing(void);

/* One evaluation under way; valid until its done returns. What follows the member is private. */
struct eval_job {
    struct evaluator *ev; /* that runs it */
};

/*
 * Called exactly once per started evaluation, from the loop, never from inside start or cancel.
 * `r` and `record` (= r->record) are borrowed for the call. A cancelled evaluation ends as
 * EVAL_CANCELLED; what went wrong on our side as EVAL_INFRASTRUCTURE with a sentence. May start and
 * cancel other evaluations.
 */
typedef void eval_done_fn(void *ctx, const struct eval_result *r, const json_t *record);

struct evaluator {
    /* ERR_INVALID, ERR_LIMIT (malformed), ERR_IO (no room for the job), ERR_CANCELLED (being
     * freed); done is then not called. */
    int (*start)(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                 void *ctx, struct eval_job **out, struct err *err);
    /* Ends it soon; done follows. Harmless when called twice. */
    void (*cancel)(struct eval_job *job);
    /* Kills what runs, calls done as cancelled for all that are left, and frees. Not from a done.
     */
    void (*free)(struct evaluator *ev);
    /* Evaluations waiting and running, for status displays. */
    void (*load)(const struct evaluator *ev, size_t *waiting, size_t *running);
};

/* The members above, with the evaluator spelled once. evaluator_free: NULL is fine. */
int evaluator_start(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                    void *ctx, struct eval_job **out, struct err *err);
void evaluator_cancel(struct eval_job *job);
void evaluator_free(struct evaluator *ev);
void evaluator_load(const struct evaluator *ev, size_t *waiting, size_t *running);

/* The request as job.json (docs/design.md section 3); sources are files beside it. Fresh. */
struct launcher_local_config;
json_t *eval_request_to_job(const struct eval_request *req,
                            const struct launcher_local_config *config);
/* Checks what every evaluator needs: names, sizes, limits. ERR_INVALID, ERR_LIMIT. */
int eval_request_check(const struct eval_request *req, struct err *err);

/* ---- launcher_local.c ---- */

struct launcher_local_config {
    const char *program;   /* path of ksearch-eval */
    const char *work_dir;  /* job folders are made here; stale ones of earlier runs are removed */
    const char *cache_dir; /* build cache; NULL or "": none */
    const char *march;     /* "native" when NULL */
    const char *sandbox;   /* "bwrap" when NULL, or "none" */
    uint32_t threads;      /* per evaluation, >= 1 */
    size_t record_max;     /* cap on the record's bytes; 0: 16 MiB */
    /*
     * The launcher `command`: words put before `program` (srun, ssh, ...), NULL-terminated and
     * searched in PATH; NULL runs it on this machine. work_dir must then be visible under the same
     * path on the machine that it leads to, and so must the program and the packs.
     */
    const char *const *prefix;
    const char *const *prefix_env; /* further variables that the prefix gets; NULL-terminated */
    struct command_retries retries;
    double prefix_wait_s; /* how long it may wait for a place, on top of the evaluation's limit */
};

/*
 * Runs `[prefix] ksearch-eval run JOBDIR`, one at a time per (device, slot), in order of arrival. A
 * prefix is stopped with SIGTERM, so that it can give its place back, and killed when that does not
 * help. What fails on the way there is retried as `retries` allows, then EVAL_INFRASTRUCTURE with
 * the reason. ERR_IO.
 */
int launcher_local_new(struct event_base *base, const struct launcher_local_config *config,
                       struct evaluator **out, struct err *err);

/* ---- launcher_replay.c ---- */

/*
 * Answers from a JSON-lines recording {"definition", "set", "defines": {...}, "source", "record":
 * {...}}, by all but the record. "source" is the SHA-256 of the candidate's text; a line without it
 * answers for every program that has no line of its own. Of several records with one key, the k-th
 * request gets the k-th, the last one from then on. An unknown key ends as infrastructure. ERR_IO,
 * ERR_NOT_FOUND, ERR_INVALID (with the line), ERR_LIMIT.
 */
int launcher_replay_new(struct event_base *base, const char *path, struct evaluator **out,
                        struct err *err);

/*
 * Passes through to `inner` (owned from success on) and appends every record of a real outcome (not
 * cancelled, not infrastructure) to `path` in the form above. ERR_IO.
 */
int launcher_record_new(struct evaluator *inner, const char *path, struct evaluator **out,
                        struct err *err);

#endif
