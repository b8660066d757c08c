/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libksearch: talk to a ksearchd daemon. Connect, call a method, follow a search.
 *
 * A connection carries JSON-RPC 2.0 over a Unix socket. Method names, their parameters and their
 * results are those of docs/rpc.md; this library knows how to carry them and not what they mean.
 *
 * Errors. Functions that can fail return 0 or -1 and take `struct ks_error *error` last, which must
 * not be NULL and is written only on failure; output arguments are written only on success. The
 * message is a sentence that a user can read as it stands.
 *
 * Ownership. Functions take borrowed strings and JSON and give new references: the caller calls
 * json_decref on every `json_t` it got.
 *
 * Threads. A struct ks belongs to one thread at a time; different connections are independent. The
 * library starts no thread, installs no signal handler, raises no SIGPIPE, writes to no log and
 * never exits. After fork() only one of the two processes may go on using a connection.
 *
 * A minimal program:
 *
 *     struct ks_error error;
 *     struct ks *c;
 *     json_t *status;
 *
 *     if (ks_connect(NULL, 5000, &c, &error) != 0 || ks_call(c, "status", NULL, &status, &error) !=
 * 0) errx(ks_exit_status(error.code), "%s", error.message); json_dumpf(status, stdout,
 * JSON_INDENT(2)); json_decref(status); ks_close(c);
 */
#ifndef KSEARCH_H
#define KSEARCH_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong, in the daemon or on the way to it. The numbers are stable. */
enum ks_code {
    KS_OK = 0,
    KS_INVALID = 1,   /* the request is malformed: names the field, the value and what is allowed */
    KS_NOT_FOUND = 2, /* no such task, device, search, program, insight */
    KS_CONFLICT =
        3,          /* not possible in the present state; also: the daemon speaks another version */
    KS_LIMIT = 4,   /* over a cap or a budget */
    KS_IO = 5,      /* no daemon, the connection broke or timed out, or storage failed */
    KS_CORRUPT = 6, /* stored data is damaged */
    KS_NOMEM = 7,
    KS_UPSTREAM =
        8, /* a service behind the daemon failed, or a number this version does not know */
    KS_CANCELLED = 9,
    KS_FAILED = 10,  /* the evaluation or the search itself failed */
    KS_REFUSED = 11, /* refused for safety */
    KS_INTERNAL = 12
};

struct ks_error {
    enum ks_code code;
    char message[512]; /* one sentence, printable, NUL-terminated */
};

/* A connection. */
struct ks;

/* "NOT_FOUND", ... : the name that the protocol sends. Never NULL. */
const char *ks_code_name(enum ks_code code);

/* The exit status that the `ksearch` program gives for this code: 0, 2 to 10. */
int ks_exit_status(enum ks_code code);

/* This library's release, "0.1.0". */
const char *ks_version(void);

/*
 * Connects and agrees on the protocol's version.
 * path: the socket; NULL for $KSEARCH_SOCKET, else $XDG_RUNTIME_DIR/ksearch/ksearchd.sock, else
 *   /run/ksearch/ksearchd.sock.
 * timeout_ms: for the connection and the greeting together; negative waits for ever.
 * Errors: KS_INVALID (path too long), KS_IO (no daemon there, timed out), KS_CONFLICT (version),
 * and what the daemon refuses a greeting with. Release with ks_close.
 */
int ks_connect(const char *path, int timeout_ms, struct ks **out, struct ks_error *error);

/* Closes the connection and frees it, queued notifications included; NULL is fine. */
void ks_close(struct ks *c);

/* Bounds every later ks_call and ks_subscribe; negative, the default, waits for ever. */
void ks_set_timeout(struct ks *c, int timeout_ms);

/* The daemon's answer to the greeting: {version, program, release}. Borrowed, lives as long as `c`.
 */
const json_t *ks_hello(const struct ks *c);

/* The path of the socket that `c` is connected to. Borrowed, lives as long as `c`. */
const char *ks_path(const struct ks *c);

/*
 * Sends one request and waits for its reply.
 * params: an object, or NULL for none. *result: the reply's `result`, a new reference; pass NULL to
 *   drop it.
 * An error from the daemon leaves the connection usable. So does a timeout (KS_IO): the late reply
 * is dropped when it comes, but the request may still be carried out. Any other failure of the
 * connection is final: this and all later calls give KS_IO, or KS_LIMIT when a message was over the
 * protocol's cap (8 MiB for a request, 64 MiB for a reply), and reconnecting is the caller's. A
 * request over its cap is KS_LIMIT, is not sent, and harms nothing. Notifications that come in
 * between are kept for ks_next, in order. A signal handler that runs meanwhile does not end the
 * wait.
 */
int ks_call(struct ks *c, const char *method, const json_t *params, json_t **result,
            struct ks_error *error);

/*
 * The same for a method that takes a file: `file` is a descriptor of a regular file, open for
 * reading, which the daemon gets with the request and reads from its beginning. It stays the
 * caller's and may be closed after the return. Works on the Unix socket alone.
 */
int ks_call_fd(struct ks *c, const char *method, const json_t *params, int file, json_t **result,
               struct ks_error *error);

/*
 * Follows a search: calls `search.watch`. *result (may be NULL) is its {id, state}. From then on
 * ks_next gives `search.event` notifications, {search, event}, and at the end one `search.end`,
 * {search, state}. Several searches may be followed on one connection; `params.search` tells them
 * apart. Closing the connection ends the following, never the search.
 */
int ks_subscribe(struct ks *c, const char *search, json_t **result, struct ks_error *error);

/*
 * Takes the next notification.
 * timeout_ms: how long to wait for one; 0 only looks, negative waits for ever.
 * Returns 1 with *method and *params (new: the caller frees the first with free() and the second
 * with json_decref); 0 when none came in time, or when a signal handler ran meanwhile; -1 with
 * `error`, and then the connection is dead. What came before it broke is still given first.
 */
int ks_next(struct ks *c, int timeout_ms, char **method, json_t **params, struct ks_error *error);

/*
 * The descriptor to wait on in an event loop of the caller's, for reading only. When it is
 * readable, and after every ks_call and ks_subscribe (which may have read notifications ahead),
 * call ks_next with a timeout of 0 until it gives 0. -1 when the connection is dead.
 */
int ks_fd(const struct ks *c);

#ifdef __cplusplus
}
#endif

#endif
