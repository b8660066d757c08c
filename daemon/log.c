/* SPDX-License-Identifier: Apache-2.0 */
/* The log; see log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

static _Atomic int max_level = LOG_LEVEL_INFO;

static const char *const names[] = {
#define X(name, text) text,
    LOG_LEVEL_MAP(X)
#undef X
};

void log_set_level(enum log_level level)
{
    max_level = (int)level;
}

const char *log_level_name(enum log_level level)
{
    return names[level];
}

/* One write() per line, so that lines of different threads do not mix. */
static void emit(enum log_level level, const char *fmt, va_list ap)
{
    char text[2048], shown[3072], line[3200], when[32];
    ssize_t written;
    int n;

    vsnprintf(text, sizeof(text), fmt, ap);
    str_visible(text, strlen(text), shown, sizeof(shown));
    clock_iso(clock_system()->wall_ns(clock_system()), when, sizeof(when));
    n = snprintf(line, sizeof(line), "%s %s %s\n", when, names[level], shown);
    written = write(STDERR_FILENO, line, (size_t)MIN(n, (int)sizeof(line) - 1));
    (void)written; /* there is nowhere to say that stderr is gone */
}

#define LOG_FUNCTION(fn, level)                                                                    \
    void fn(const char *fmt, ...)                                                                  \
    {                                                                                              \
        va_list ap;                                                                                \
                                                                                                   \
        if ((level) > max_level)                                                                   \
            return;                                                                                \
        va_start(ap, fmt);                                                                         \
        emit(level, fmt, ap);                                                                      \
        va_end(ap);                                                                                \
    }

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
