/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Methods of the daemon as rows: the walker parses and checks parameters by the row's table, then
 * calls `fn` with a typed struct. A call lives until it is answered, by exactly one of rpc_reply,
 * rpc_fail and rpc_run, now or later; the connection may die in between, and the answer is then
 * dropped. Streams are notifications by key ("search:<id>"). Thread: loop, except where said.
 */
#ifndef KS_DAEMON_RPC_H
#define KS_DAEMON_RPC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/param.h"

struct daemon;
struct rpc_call;
struct rpc_server;

enum {
    RPC_WRITE = 1,     /* changes something; refused with CONFLICT once the daemon is stopping */
    RPC_STREAM = 2,    /* may call rpc_subscribe */
    RPC_ANY_STATE = 4, /* also answered before hello and while stopping */
    RPC_FILE = 8       /* needs a file: a descriptor that comes with the request */
};

struct rpc_method {
    const char *name;           /* "search.start"; NULL ends a group */
    const struct param *params; /* NULL: takes none */
    size_t params_size;         /* of the struct that the rows describe */
    unsigned flags;
    /* `params` is parsed and zeroed elsewhere; it lives as long as the call and is released with
     * it. NULL without a table. */
    void (*fn)(struct rpc_call *call, void *params);
    const char *help;               /* one or two sentences */
    const char *result;             /* one line that describes the result */
    void (*defaults)(void *params); /* NULL: all zero */
};

/* Groups of rows, one per file; each ends with a row of zeros. rpc_groups lists them all, NULL
 * last. */
extern const struct rpc_method rpc_device_methods[];
extern const struct rpc_method rpc_doctor_methods[];
extern const struct rpc_method rpc_eval_methods[];
extern const struct rpc_method rpc_insight_methods[];
extern const struct rpc_method rpc_kb_methods[];
extern const struct rpc_method rpc_llm_methods[];
extern const struct rpc_method rpc_pack_methods[];
extern const struct rpc_method rpc_program_methods[];
extern const struct rpc_method rpc_query_methods[];
extern const struct rpc_method rpc_retune_methods[];
extern const struct rpc_method rpc_search_methods[];
extern const struct rpc_method rpc_search_start_methods[];
extern const struct rpc_method rpc_status_methods[];
extern const struct rpc_method rpc_task_methods[];
extern const struct rpc_method rpc_task_admin_methods[];
extern const struct rpc_method *const rpc_groups[];

/* Answers and ends the call. `result` is stolen. */
void rpc_reply(struct rpc_call *call, json_t *result);
void rpc_fail(struct rpc_call *call, const struct err *err);
/*
 * Runs `run` on a worker and answers with its outcome: 0 and an owned `*result`, or -1 and err. It
 * may use kb_* and what else of the daemon is "Thread: any"; `params` is its own until the answer.
 * With `then`, that runs on the loop after success and may add to `result` (an object) before it is
 * sent.
 */
typedef int rpc_run_fn(struct daemon *d, void *params, json_t **result, struct err *err);
typedef void rpc_then_fn(struct daemon *d, void *params, json_t *result);
void rpc_run(struct rpc_call *call, rpc_run_fn *run);
void rpc_run_then(struct rpc_call *call, rpc_run_fn *run, rpc_then_fn *then);
/*
 * The same for a method whose answer is quick to make and often asked for: `run` appends its result
 * to `out` as JSON text. It is first called on the loop itself with `wait` false, at most once a
 * turn of the loop: then it must not block nor take more than a few milliseconds, and gives 1, with
 * nothing done, when it would; it is called again with `wait` on a worker.
 */
typedef int rpc_text_fn(struct daemon *d, void *params, bool wait, struct buf *out,
                        struct err *err);
void rpc_run_text(struct rpc_call *call, rpc_text_fn *run);
/* The daemon that answers. */
struct daemon *rpc_daemon(const struct rpc_call *call);
/* The call's parameters, as `fn` got them. */
void *rpc_call_params(const struct rpc_call *call);
struct rpc_server *rpc_call_server(const struct rpc_call *call);
/*
 * The file of a method with RPC_FILE: a regular file of at most PROTO_FILE_MAX bytes, open for
 * reading. Borrowed: it is closed with the call. Its offset is the caller's business: use pread.
 */
int rpc_call_file(const struct rpc_call *call);
/* Has the caller gone? Then a long job may stop early; the call must still be answered. */
bool rpc_call_dead(const struct rpc_call *call);

/*
 * Subscribes the call's connection to `key` until it closes; again is harmless. ERR_LIMIT over 64
 * keys a connection, ERR_CANCELLED when the connection is gone. Notifications may precede the
 * reply.
 */
int rpc_subscribe(struct rpc_call *call, const char *key, struct err *err);
/* Ends the subscription of the call's connection; harmless when there is none. */
void rpc_unsubscribe(struct rpc_call *call, const char *key);
/*
 * Sends {"jsonrpc","method","params"} to every subscriber of `key`; `params` is stolen. A reader
 * too slow to keep its output under the cap loses this subscription and gets one last notification,
 * "stream.dropped" {"key", "reason"}.
 */
void rpc_notify(struct rpc_server *s, const char *key, const char *method, json_t *params);
/* Does anybody listen? Saves building what nobody reads. */
bool rpc_subscribed(const struct rpc_server *s, const char *key);
/* Ends all subscriptions to `key`, without a word: the stream said itself that it was over. */
void rpc_end_stream(struct rpc_server *s, const char *key);

#endif
