/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as out-parameters; see err.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int status;
    const char *text;
} rows[] = {
#define X(name, status, text) { #name, status, text },
    ERR_MAP(X)
#undef X
};

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    err->code = code;
    return -1;
}

int err_ctx(struct err *err, const char *fmt, ...)
{
    char old[sizeof(err->msg)];
    va_list ap;
    int n;

    memcpy(old, err->msg, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n < sizeof(err->msg))
        snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", old);
    return -1;
}

const char *err_name(enum err_code code)
{
    return (unsigned)code < ERR_COUNT ? rows[code].name : "INTERNAL";
}

const char *err_text(enum err_code code)
{
    return (unsigned)code < ERR_COUNT ? rows[code].text : "internal error";
}

int err_exit_status(enum err_code code)
{
    return (unsigned)code < ERR_COUNT ? rows[code].status : 6;
}

enum err_code err_from_name(const char *name)
{
    for (unsigned i = 0; i < ERR_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return (enum err_code)i;
    return ERR_COUNT;
}
