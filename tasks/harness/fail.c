/* SPDX-License-Identifier: Apache-2.0 */
/* Failure classes; see fail.h. */
#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"

int fail_set(struct fail *f, enum fail_class class, const char *fmt, ...)
{
    va_list ap;

    f->class = class;
    f->code = class == FAIL_INFRASTRUCTURE ? ERR_INTERNAL : ERR_FAILED;
    va_start(ap, fmt);
    vsnprintf(f->msg, sizeof(f->msg), fmt, ap);
    va_end(ap);
    return -1;
}

int fail_err(struct fail *f, const struct err *err)
{
    f->class = FAIL_INFRASTRUCTURE;
    f->code = err->code;
    str_copy(f->msg, sizeof(f->msg), err->msg);
    return -1;
}

int fail_ctx(struct fail *f, const char *fmt, ...)
{
    char text[sizeof(f->msg)];
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n = strlen(text);
    snprintf(text + n, sizeof(text) - n, ": %s", f->msg);
    str_copy(f->msg, sizeof(f->msg), text);
    return -1;
}

const char *fail_name(enum fail_class class)
{
    static const char *const names[] = {
#define X(name, text) [FAIL_##name] = text,
        FAIL_MAP(X)
#undef X
    };

    return (unsigned)class < FAIL_COUNT ? names[class] : "infrastructure";
}
