/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line per entry on stderr, "2026-11-22T16:05:09Z info text". The text is made visible
 * (control characters and bytes that are not UTF-8 are escaped), so what came from outside can be
 * passed as an argument; it is never the format. An error is logged once, where it stops
 * travelling. Thread: any.
 */
#ifndef KS_DAEMON_LOG_H
#define KS_DAEMON_LOG_H

#include "base/err.h"

#define LOG_LEVEL_MAP(X) X(ERROR, "error") X(WARN, "warn") X(INFO, "info") X(DEBUG, "debug")

enum log_level {
#define X(name, text) LOG_LEVEL_##name,
    LOG_LEVEL_MAP(X)
#undef X
        LOG_LEVEL_COUNT
};

/* Entries above this level are dropped; starts as info. */
void log_set_level(enum log_level level);
/* "error", ...; borrowed. */
const char *log_level_name(enum log_level level);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
