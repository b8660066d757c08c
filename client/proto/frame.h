/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0, one JSON text per line: cutting bytes into lines, reading a line into a typed
 * message, and writing requests, replies, errors and notifications. Both the daemon and the client
 * use it; it knows no socket and no event loop.
 *
 * Thread: any; a struct frame and a struct message belong to one thread at a time.
 * Strings and JSON given to the writers are borrowed; a message owns what it holds.
 */
#ifndef KS_PROTO_FRAME_H
#define KS_PROTO_FRAME_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/limits.h"

/* ---- Error numbers ---- */

/* JSON-RPC's own codes; everything else is PROTO_CODE_BASE - err_code. */
enum {
    PROTO_CODE_PARSE = -32700,
    PROTO_CODE_REQUEST = -32600,
    PROTO_CODE_METHOD = -32601,
    PROTO_CODE_PARAMS = -32602,
    PROTO_CODE_INTERNAL = -32603,
    PROTO_CODE_BASE = -32000
};

/* The number sent for one of our codes: -32000 - code. */
int proto_code(enum err_code code);

/*
 * Our code for what the other side sent: `name` decides when it is one of ERR_MAP's, else the
 * number does (JSON-RPC's own are INVALID, -32603 INTERNAL), else it is UPSTREAM. `name` may be
 * NULL.
 */
enum err_code proto_err_code(int64_t number, const char *name);

/* ---- Lines ---- */

/* Most bytes of one frame_feed. */
#define FRAME_FEED_MAX (1u << 20)

/*
 * Bytes in, lines out. `max` caps one line without its newline. Feed what the socket gave, then
 * call frame_next until it gives 0, then feed again. A line over the cap is ERR_LIMIT from
 * frame_next, and then the connection has to be closed, because where the next line starts is not
 * known.
 */
struct frame {
    struct buf in;
    size_t start;   /* of the line that is not handed out yet */
    size_t scanned; /* no newline between `start` and here; both count from the start of `in` */
    size_t max;
};

void frame_init(struct frame *f, size_t max);
/* Frees the bytes; frame_init makes it usable again. */
void frame_release(struct frame *f);

/*
 * Appends `len` bytes, at most FRAME_FEED_MAX, as they came from the socket; what frame_next lent
 * is void after it. ERR_LIMIT (more bytes waiting than one line and one feed), ERR_NOMEM.
 */
int frame_feed(struct frame *f, const void *data, size_t len, struct err *err);

/*
 * Next whole line, without "\n" or "\r\n": 1 with `*line` (borrowed until the next call on `f`; not
 * NUL-terminated) and `*len`; 0 when more bytes are needed; -1 with ERR_LIMIT. Empty lines are
 * skipped.
 */
int frame_next(struct frame *f, const char **line, size_t *len, struct err *err);

/* Bytes fed and not handed out yet. */
size_t frame_pending(const struct frame *f);

/* ---- Messages ---- */

enum message_kind {
    MESSAGE_REQUEST,      /* method, params, id */
    MESSAGE_NOTIFICATION, /* method, params */
    MESSAGE_REPLY,        /* id, result */
    MESSAGE_ERROR,        /* id, code, error_code, error_text */
    MESSAGE_KIND_COUNT
};

struct message {
    enum message_kind kind;
    json_t *id;   /* owned; integer or string; JSON null in an error about an unreadable request */
    char *method; /* owned; NULL in replies and errors */
    json_t
        *params; /* owned; always an object in requests and notifications (empty when none came) */
    json_t *result;                            /* owned; replies only */
    int64_t code;                              /* errors only: the number as it was sent */
    enum err_code error_code;                  /* errors only: our code, by proto_err_code */
    char error_text[PROTO_ERROR_TEXT_MAX + 1]; /* errors only */
};

/*
 * Reads one line. Strict: an object with "jsonrpc":"2.0", no unknown members, params an object, id
 * an integer, string, or (in errors) null; batches are refused. On failure `*err` says what is
 * wrong,
 * `*code` (may be NULL) is the JSON-RPC number to answer with (PROTO_CODE_PARSE or
 * PROTO_CODE_REQUEST) and `*id_out` (may be NULL) the request's id where it could be read, else
 * JSON null; the caller owns that reference. On success neither is written, and the caller releases
 * `*out`. ERR_INVALID, ERR_NOMEM.
 */
int message_parse(const char *line, size_t len, struct message *out, int *code, json_t **id_out,
                  struct err *err);
/* Frees the members and zeroes the struct; safe on a zeroed one. */
void message_release(struct message *m);

/* The whole-number id of a reply or error; -1 when it is none. */
int64_t message_id(const struct message *m);

/* ---- Writing: each appends one line with its newline to `out`, whose `max` bounds it ---- */

/* `params` may be NULL. ERR_LIMIT, ERR_NOMEM, ERR_INVALID (what is not JSON, such as NaN). */
int frame_request(struct buf *out, int64_t id, const char *method, const json_t *params,
                  struct err *err);
int frame_notify(struct buf *out, const char *method, const json_t *params, struct err *err);
/* `id` as it came with the request; `result` may be NULL for JSON null. */
int frame_reply(struct buf *out, const json_t *id, const json_t *result, struct err *err);
/* The same around a result that the caller appends as JSON text in between. */
int frame_reply_begin(struct buf *out, const json_t *id, struct err *err);
int frame_reply_end(struct buf *out, struct err *err);
/*
 * {"code": proto_code(code), "message": text, "data": {"name": "NOT_FOUND"}}; `id` NULL sends null.
 * Bytes of `text` that are not UTF-8 are escaped.
 */
int frame_error(struct buf *out, const json_t *id, enum err_code code, const char *text,
                struct err *err);
/* The same with a number of JSON-RPC's own (PROTO_CODE_METHOD ...); data.name is that of `code`. */
int frame_error_number(struct buf *out, const json_t *id, int number, enum err_code code,
                       const char *text, struct err *err);

#endif
