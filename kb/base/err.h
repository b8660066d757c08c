/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors as out-parameters: one code, one sentence a user can read as it stands.
 * A function that can fail returns 0 or -1 and takes `struct err *err` last, never NULL; `*err` is
 * written only on failure. Thread: any; a struct err belongs to its caller.
 */
#ifndef KS_BASE_ERR_H
#define KS_BASE_ERR_H

/* code, exit status of the command line, text. The protocol sends the same names. */
#define ERR_MAP(X)                                                                                 \
    X(OK, 0, "ok")                                                                                 \
    X(INVALID, 2, "request is malformed")                                                          \
    X(NOT_FOUND, 3, "no such object")                                                              \
    X(CONFLICT, 4, "conflicts with the present state")                                             \
    X(LIMIT, 5, "over a limit")                                                                    \
    X(IO, 6, "storage or socket failed")                                                           \
    X(CORRUPT, 6, "stored data is damaged")                                                        \
    X(NOMEM, 6, "out of memory")                                                                   \
    X(UPSTREAM, 7, "an upstream service failed")                                                   \
    X(CANCELLED, 8, "cancelled by the user")                                                       \
    X(FAILED, 9, "evaluation or search failed")                                                    \
    X(REFUSED, 10, "refused for safety")                                                           \
    X(INTERNAL, 6, "internal error")

enum err_code {
#define X(name, status, text) ERR_##name,
    ERR_MAP(X)
#undef X
        ERR_COUNT
};

struct err {
    enum err_code code;
    char msg[512];
};

/* Sets code and message; always returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message already there, keeping the code; always returns -1. */
int err_ctx(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "INVALID", ...: the name that the protocol sends. Never NULL. */
const char *err_name(enum err_code code);
/* The one-line meaning of the code. Never NULL. */
const char *err_text(enum err_code code);
/* Exit status of the command line for this code. */
int err_exit_status(enum err_code code);
/* The code of this name; ERR_COUNT when there is none. */
enum err_code err_from_name(const char *name);

#endif
