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

/* A message that was too long ends between characters: it may go into JSON. `n` is the length that
 * it would have. */
static void trim(struct err *err, int n)
{
    size_t end = sizeof(err->msg) - 1, from = end, need;

    if (n < 0 || (size_t)n <= end)
        return;
    while (from > 0 && ((unsigned char)err->msg[from - 1] & 0xc0) == 0x80)
        from--;
    if (from == 0 || (unsigned char)err->msg[--from] < 0xc0)
        return; /* a character of one byte, or no UTF-8 */
    need = (unsigned char)err->msg[from] >= 0xf0   ? 4
           : (unsigned char)err->msg[from] >= 0xe0 ? 3
                                                   : 2;
    if (end - from < need)
        err->msg[from] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    trim(err, vsnprintf(err->msg, sizeof(err->msg), fmt, ap));
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
        n += snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", old);
    trim(err, n);
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
