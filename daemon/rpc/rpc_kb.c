/* SPDX-License-Identifier: Apache-2.0 */
/* kb.*: counting and checking the knowledge base. */
#include "daemon.h"
#include "kb.h"
#include "proto/methods.h"
#include "rpc/answer.h"
#include "rpc/rpc.h"

static int stats_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct kb_stats stats;

    (void)params;
    if (kb_get_stats(d->kb, &stats, err) != 0)
        return -1;
    *result = answer_stats(&stats);
    return 0;
}

static void kb_stats_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, stats_run);
}

struct verify_params {
    bool digest;
};

static const struct param verify_rows[] = {
    { "digest", PARAM_BOOL, offsetof(struct verify_params, digest), 0,
      "give the hash over facts and derived state, to compare with another base (false)", 0, 0,
      NULL, 0 },
    { 0 },
};

static int verify_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *problems = json_array();
    struct id digest;

    if (kb_verify(d->kb, problems, &digest, err) != 0)
        return -1;
    *result = json_pack("{s:b, s:O}", "ok", json_array_size(problems) == 0, "problems", problems);
    if (((struct verify_params *)params)->digest)
        json_object_set_new(*result, "digest", json_string(digest.hex));
    return 0;
}

static void kb_verify_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, verify_run);
}

const struct rpc_method rpc_kb_methods[] = {
    { METHOD_KB_STATS, NULL, 0, 0, kb_stats_call, "Count what the knowledge base holds.",
      "{facts{kind: n}, documents{kind: n}, insights, last_seq, vectors{indexed, pending, exact}, "
      "bytes_on_disk, schema}",
      NULL },
    { METHOD_KB_VERIFY, verify_rows, sizeof(struct verify_params), 0, kb_verify_call,
      "Read everything back, recompute every content address and derived state, and compare.",
      "{ok, problems[sentence], digest?}", NULL },
    { 0 },
};
