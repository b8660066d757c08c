/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon of a few rows for client tests: a thread that listens on a Unix socket, greets, and
 * answers each method as its row says. One connection at a time. Asserts on its own failures.
 */
#ifndef KS_TEST_FAKE_DAEMON_H
#define KS_TEST_FAKE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum fake_action {
    FAKE_ANSWER,  /* with `result`, or with `code` and `error` */
    FAKE_RAW,     /* `raw` in place of an answer */
    FAKE_DROP,    /* `raw` (may be NULL), then the connection is closed */
    FAKE_BIG,     /* a result of `size` bytes */
    FAKE_ENDLESS, /* `size` bytes without a newline, then closed */
    FAKE_LATE,    /* answers after `size` milliseconds */
    FAKE_FLOOD    /* answers, then sends `size` bytes of notifications without reading */
};

struct fake_row {
    const char *method; /* NULL ends the table */
    enum fake_action action;
    const char *result; /* JSON text; NULL with `error` */
    enum err_code code;
    const char *error;
    const char *raw;    /* lines; with FAKE_ANSWER they follow the answer */
    const char *before; /* lines sent before the answer */
    size_t size;
    bool echo; /* the result is {"params": what came} */
};

struct fake_daemon;

/* Rows are borrowed; without a row for hello it greets as a daemon of our version. */
struct fake_daemon *fake_daemon_start(const char *path, const struct fake_row *rows);
/* How many requests it has read, hello included. Valid after fake_daemon_stop, too, by its return.
 */
size_t fake_daemon_stop(struct fake_daemon *d);

#endif
