/* SPDX-License-Identifier: Apache-2.0 */
/* All groups of methods, and the page that is printed from them; a test compares it with
 * docs/rpc.md. */
#include "rpc/rpc_docs.h"

#include "base/param.h"
#include "rpc/conn.h"
#include "rpc/rpc.h"
#include "proto/limits.h"
#include "proto/version.h"

/* In the order of the page: by name, but that a search is started before it is looked at. */
const struct rpc_method *const rpc_groups[] = {
    rpc_device_methods, rpc_doctor_methods, rpc_eval_methods,         rpc_insight_methods,
    rpc_kb_methods,     rpc_llm_methods,    rpc_pack_methods,         rpc_program_methods,
    rpc_query_methods,  rpc_retune_methods, rpc_search_start_methods, rpc_search_methods,
    rpc_status_methods, rpc_task_methods,   rpc_task_admin_methods,   NULL,
};

static const char intro[] =
    "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
    "<!-- Printed by `ksearchd --rpc-docs`; do not edit. -->\n"
    "# The protocol of ksearchd\n"
    "\n"
    "JSON-RPC 2.0, one JSON text per line, over a Unix socket of mode 0600. Only the daemon's user "
    "and root may\n"
    "speak. The first request on a connection is `hello` with `\"version\": %d`; `params` is "
    "always an object, and\n"
    "unknown members are errors. Calls may be pipelined; answers come in any order. Batches are "
    "refused. A request\n"
    "without `id` is carried out and not answered.\n"
    "\n"
    "```\n"
    "> "
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"version\":%d,\"client\":"
    "\"example 1\"}}\n"
    "< "
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"version\":%d,\"program\":\"ksearchd\",\"release\":"
    "\"" KS_VERSION "\"}}\n"
    "```\n"
    "\n"
    "## Limits\n"
    "\n"
    "| what | limit | over it |\n"
    "|---|---|---|\n"
    "| line from a client | %u bytes | error LIMIT, then the connection is closed |\n"
    "| line from the daemon | %u bytes | error LIMIT in place of the answer |\n"
    "| calls in flight on a connection | %d | more lines wait unread |\n"
    "| answers waiting for a slow reader | %d bytes | no more lines are read |\n"
    "| notifications waiting for a slow reader | %d bytes | the stream is dropped |\n"
    "| streams watched by a connection | %d | error LIMIT |\n"
    "\n"
    "A method that takes a file gets its descriptor with the request (SCM_RIGHTS): one regular "
    "file, open for reading,\n"
    "of at most %u bytes. It belongs to the request whose line holds the last byte of the message "
    "that it came\n"
    "with; one that came with a request that takes no file is closed, and two in a message end the "
    "connection.\n"
    "\n"
    "A stream that is dropped ends with the notification `stream.dropped` `{key, reason}`; the "
    "connection goes on.\n"
    "\n"
    "## Errors\n"
    "\n"
    "`{\"code\", \"message\", \"data\": {\"name\"}}`: `message` is a sentence, `name` is stable. "
    "JSON-RPC's own numbers are\n"
    "-32700 (no JSON), -32600 (no request), -32601 (no such method) and -32602 (parameters), all "
    "of them INVALID.\n"
    "\n"
    "| code | name | exit status of the command line | meaning |\n"
    "|---|---|---|---|\n";

static int add_errors(struct buf *out)
{
    for (int c = ERR_OK + 1; c < ERR_COUNT; c++)
        if (buf_addf(out, "| %d | %s | %d | %s |\n", proto_code((enum err_code)c),
                     err_name((enum err_code)c), err_exit_status((enum err_code)c),
                     err_text((enum err_code)c)) != 0)
            return -1;
    return buf_addf(out, "\n## Methods\n");
}

static int add_params(struct buf *out, const struct param *rows)
{
    if (rows == NULL || rows->name == NULL)
        return buf_addf(out, "\nNo parameters.\n");
    if (buf_addf(out, "\n| parameter | type | |\n|---|---|---|\n") != 0)
        return -1;
    for (const struct param *r = rows; r->name; r++) {
        char type[300];

        param_type_text(r, type, sizeof(type));
        if (buf_addf(out, "| `%s`%s | %s | %s |\n", r->name,
                     r->flags & PARAM_REQUIRED ? ", required" : "", type, r->help) != 0)
            return -1;
    }
    return 0;
}

static int add_method(struct buf *out, const struct rpc_method *m)
{
    if (buf_addf(out, "\n### %s\n\n%s%s%s%s\n", m->name, m->help,
                 m->flags & RPC_WRITE ? " Changes something." : "",
                 m->flags & RPC_STREAM ? " Starts a stream of notifications." : "",
                 m->flags & RPC_FILE ? " Takes a file." : "") != 0 ||
        add_params(out, m->params) != 0)
        return -1;
    return buf_addf(out, "\nResult: %s.\n", m->result);
}

int rpc_docs(struct buf *out, struct err *err)
{
    int rc = buf_addf(out, intro, PROTO_VERSION, PROTO_VERSION, PROTO_VERSION, PROTO_REQUEST_MAX,
                      PROTO_REPLY_MAX, CONN_CALLS_MAX, CONN_OUT_PAUSE, CONN_OUT_STREAM,
                      CONN_SUBS_MAX, PROTO_FILE_MAX);

    if (rc == 0)
        rc = add_errors(out);
    for (const struct rpc_method *const *g = rpc_groups; *g && rc == 0; g++)
        for (const struct rpc_method *m = *g; m->name && rc == 0; m++)
            rc = add_method(out, m);
    if (rc != 0)
        return err_set(err, ERR_LIMIT, "the page does not fit into %zu bytes", out->max);
    return 0;
}
