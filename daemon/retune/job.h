/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One retune under way, shared by job*.c and retunes.c alone. It moves from step to step; each is
 * prepared on the loop (job_measure.c, job_search.c), stored by a worker together with the progress
 * that it makes (job_step.c), and only then acknowledged by replacing `progress`.
 *
 *     STORING ─> IDLE ─> QUEUED ─> MEASURING ─> RECORDING ─> IDLE ... (job_wake takes what is next)
 *                 └────> SEARCHING ───────────────┘ └─ storage failed ─> WAITING ─> IDLE
 *
 * Thread: loop, except where said.
 */
#ifndef KS_RETUNE_JOB_H
#define KS_RETUNE_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "retune/measure.h"
#include "retune/retunes.h"
#include "sched/turns.h"
#include "work.h"

struct event;
struct kb_batch;

enum job_phase {
    JOB_IDLE,
    JOB_STORING,
    JOB_QUEUED, /* for its turn on the processor */
    JOB_MEASURING,
    JOB_RECORDING, /* on a worker: a result, the choice of searches, or the report */
    JOB_SEARCHING,
    JOB_WAITING /* storage failed; tried again after a while */
};

enum step { STEP_KNOWN, STEP_MEASURE, STEP_CHOOSE, STEP_SEARCH, STEP_REPORT };

struct job {
    struct list node; /* in retunes.live */
    struct retunes *owner;
    char id[SEARCH_ID_MAX];
    json_t *doc, *progress;
    enum job_phase phase;
    bool cancelled;
    struct turn turn;
    struct work work;
    struct event *timer;
    retune_done_fn *done;
    void *arg;
    /* of the step under way; `step` and `ending` are what the worker goes by */
    enum step step;
    bool ending; /* because it was cancelled */
    struct eval_job *eval;
    struct eval_result result;
    bool has_result;
    unsigned tries;
    uint64_t began_ns, seed;
    struct search_scope scope;
    json_t *program;
    json_t *next; /* progress as it will be, made by the worker */
    char lost[300];
};

struct retunes {
    struct daemon *daemon;
    struct list live;
    bool closing;
};

/* ---- Its life (job.c) ---- */

/* An idle job in the set; takes both documents. */
struct job *job_new(struct retunes *rs, const char *id, json_t *doc, json_t *progress);
void job_free(struct job *job);
/* Takes it out of the set and frees it at the end of the loop's turn. */
void job_end(struct job *job);
/* Does what comes next, if it is idle and the daemon is not closing. */
void job_wake(struct job *job);
/* Enters a phase and wakes it after so many milliseconds. */
void job_wait(struct job *job, enum job_phase phase, int ms);
/* Forgets what the step under way holds. */
void job_clear_step(struct job *job);
/* Now, monotonic. Thread: any. */
uint64_t job_mono(const struct job *job);
/* Tells the watchers; takes `event` (NULL is fine). */
void job_publish(struct job *job, const char *type, json_t *event);
/* Tells the watchers that it is over, and ends their streams. */
void job_publish_end(struct job *job);

/* ---- Its steps (job_step.c) ---- */

/* Functions of the two documents. Thread: any. */
enum step job_next_step(const struct job *job);
size_t job_n_results(const struct job *job);
/* The budget's evaluations. */
double job_evals(const struct job *job);
/* Seconds left of the budget; infinite without one. */
double job_time_left(const struct job *job);
/* Adds to `next` what the step under way spent. Thread: worker. */
void job_add_spent(struct job *job, json_t *next, long long evals);
/* Sends the next step to a worker, which stores it; then the job is woken. */
void job_submit(struct job *job);
/* Submits the measurement under way as lost, with a sentence. */
void job_give_up(struct job *job, const char *why);

/* ---- Measuring (job_measure.c) ---- */

/* Measures the next step of the plan and submits the result. */
void job_measure(struct job *job);
/* Its turn has come; of struct turn. */
void job_turn_go(struct turn *t);
/* Appends to `next` the result under way, and whatever is known after it; the facts go into `b`.
 * Thread: worker. */
int job_record_result(struct job *job, struct kb_batch *b, json_t *next, struct err *err);

/* ---- Searching (job_search.c) ---- */

/* The number of the search that comes next; SIZE_MAX when all are over. Thread: any. */
size_t job_next_search(const struct job *job);
/* Goes on with that search. */
void job_search(struct job *job);
/* Asks for the end of that search; fine when it has ended. */
void job_cancel_search(struct job *job, const char *id);
/* Writes the searches to come into `next`. Thread: worker. */
void job_choose_searches(struct job *job, json_t *next);
/* Marks in `next` the search under way as started, or as over with what it spent. ERR_IO.
 * Thread: worker, blocks. */
int job_record_search(struct job *job, json_t *next, struct err *err);

#endif
