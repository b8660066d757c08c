/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running the real ksearch-eval on job folders of the tests' own: each has a temporary folder, a
 * tag for the names of files outside, and slots that other test programs do not use.
 */
#ifndef KS_TEST_EVALTEST_H
#define KS_TEST_EVALTEST_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define EVALTEST_PACK KS_SOURCE_DIR "/tasks/vector_add"
#define EVALTEST_FIXTURES KS_SOURCE_DIR "/tests/fixtures/hostile"

struct evaltest {
    char dir[64]; /* temporary; removed at the end */
    int tag;      /* unlike that of any test program that runs now */
    char slot[16];
};

/* What a job says beyond the usual; NULL or 0 for the usual. */
struct evaltest_job {
    const char *candidate; /* fixture without ".c" */
    const char *with;      /* a header that goes before it, after add.h; or NULL */
    const char *champion;  /* fixture or NULL */
    const char *defines;   /* JSON object text */
    const char *definition, *set, *sandbox;
    const char *memory_bytes, *run_s, *build_s, *pairs_max;
    const char *extra; /* more members of the job: ", \"x\": 1" */
};

/* What came out. */
struct evaltest_result {
    int status;      /* exit status, or 128 + signal */
    json_t *record;  /* owned; NULL when standard output held no JSON */
    char *out, *err; /* owned */
};

void evaltest_init(struct evaltest *t);
void evaltest_end(struct evaltest *t);
/* Writes job.json and the sources into t->dir/`name`; returns the folder (borrowed until the next
 * call). */
const char *evaltest_job(struct evaltest *t, const char *name, const struct evaltest_job *job);
/* Runs `argv` (argv[0] a path) with standard input from /dev/null, and waits. */
void evaltest_exec(const char *const *argv, struct evaltest_result *r);
/* ksearch-eval run `dir`. */
void evaltest_run(const char *dir, struct evaltest_result *r);
/* The same as another user, to whom the folder is given; we are root. */
void evaltest_run_as(const char *dir, unsigned uid, struct evaltest_result *r);
/* The same, without waiting: *leash is the writing end of its standard input. */
pid_t evaltest_start(const char *dir, int *leash);
void evaltest_release(struct evaltest_result *r);
const char *evaltest_status(const struct evaltest_result *r);
const char *evaltest_message(const struct evaltest_result *r);
/* False when ksearch-eval says that this machine has no sandbox. */
bool evaltest_has_sandbox(struct evaltest *t);
/* Processes whose user is one of the slot's; -1 when we are not root. */
int evaltest_slot_processes(const struct evaltest *t);
/* Fails the test unless the slot's last process is gone within five seconds. */
void evaltest_wait_for_no_processes(const struct evaltest *t);

#endif
