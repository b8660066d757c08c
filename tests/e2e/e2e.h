/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private ksearchd in a folder of its own, and a bare connection to it that speaks lines, so that
 * a test can also send what no client would. Every function fails the test when something does not
 * work.
 */
#ifndef KS_TESTS_E2E_H
#define KS_TESTS_E2E_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "unit/test.h"

struct e2e {
    char dir[64];
    char socket[128], data[128], log[128], config[128], harness[128];
    pid_t pid; /* 0: not running */
};

/* cmocka setup and teardown: *state is a struct e2e; the daemon is not started. Teardown kills it.
 */
int e2e_setup(void **state);
int e2e_teardown(void **state);

/* Replaces the configuration file (given with --config at every start); the harness option is
 * always added. */
void e2e_configure(struct e2e *e, const char *text);
/* A shell script in place of ksearch-eval; `body` follows "#!/bin/sh". */
void e2e_fake_harness(struct e2e *e, const char *body);
/* Uses the real ksearch-eval. */
void e2e_real_harness(struct e2e *e);
/* Starts with more arguments (NULL-terminated; NULL: none) and returns at once. */
void e2e_spawn(struct e2e *e, const char *const *more);
/* The same, and waits until the socket accepts. */
void e2e_start(struct e2e *e);
/* Waits for its end, at most `seconds`; exit status, or 128 + signal. */
int e2e_wait(struct e2e *e, double seconds);
/* SIGTERM, and e2e_wait. */
int e2e_stop(struct e2e *e);
/* Runs ksearchd with exactly these arguments to its end; the status. What it printed is in e->log.
 */
int e2e_run(struct e2e *e, const char *const *args);
/* Fails unless the log holds these words. */
void e2e_expect_log(struct e2e *e, const char *words);

struct e2e_conn {
    int fd;
    struct buf in;
};

/* Connects; with `hello` says it and takes the answer. */
struct e2e_conn e2e_connect(struct e2e *e, bool hello);
void e2e_close(struct e2e_conn *c);
void e2e_send(struct e2e_conn *c, const char *text);
/* The next line; NULL at end of file. At most 60 seconds. Owned. */
json_t *e2e_line(struct e2e_conn *c);
/* One call by format ("{\"task\":\"%s\"}"): the whole answer. Owned. */
json_t *e2e_call(struct e2e_conn *c, const char *method, const char *params);
/* The `result` of a call that must succeed. Owned. */
json_t *e2e_result(struct e2e_conn *c, const char *method, const char *params);
/* Fails unless the call is refused with this error name and these words. */
void e2e_refused(struct e2e_conn *c, const char *method, const char *params, const char *name,
                 const char *words);

/* Waits until a search is in `state`; the answer of search.show then, owned. Fails when the search
 * did, or after two minutes. */
json_t *e2e_search_state(struct e2e_conn *c, const char *id, const char *state);
/* The same until it is done, over a connection for the occasion. */
json_t *e2e_search_done(struct e2e *e, const char *id);

/* Runs ksearch with these arguments (words of a shell) on the daemon's socket; what it printed on
 * stdout, owned. *code (may be NULL) gets the exit status, which else must be 0. */
char *e2e_say(struct e2e *e, const char *args, int *code);
/* The same with --json; fails unless the exit status is `want`. Owned; NULL when it printed
 * nothing.
 */
json_t *e2e_ask(struct e2e *e, const char *args, int want);

#endif
