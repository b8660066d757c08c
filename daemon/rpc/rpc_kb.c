/* SPDX-License-Identifier: Apache-2.0 */
/* kb.*: counting and checking the knowledge base, and importing into it. */
#include "daemon.h"
#include "eval/recorded_store.h"
#include "kb.h"
#include "proto/methods.h"
#include "rpc/answer.h"
#include "rpc/rpc.h"
#include "tasks.h"

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

/* ---- import ---- */

struct import_params {
    int format;
    char *task, *device;
    int file;
};

static const char *const formats[] = { "t4", NULL };

static const struct param import_rows[] = {
    { "format", PARAM_ENUM, offsetof(struct import_params, format), PARAM_REQUIRED,
      "what the file is", 0, 0, formats, 0 },
    { "task", PARAM_NAME, offsetof(struct import_params, task), PARAM_REQUIRED,
      "recorded task that was measured; made when it is not known", 0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct import_params, device), PARAM_REQUIRED,
      "device that it was measured on; made when it is not known", 0, 0, NULL, 0 },
    { 0 },
};

static int import_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct import_params *p = params;
    struct recorded *r;
    struct t4 t;
    int rc;

    if (t4_read(p->file, "the file", &t, err) != 0)
        return -1;
    rc = recorded_new(&t, false, &r, err);
    t4_release(&t);
    if (rc != 0)
        return err_ctx(err, "the file");
    rc = recorded_import_facts(d->kb, p->task, p->device, r, result, err);
    recorded_free(r);
    return rc;
}

static void kb_import_call(struct rpc_call *call, void *params)
{
    struct import_params *p = params;
    struct err err;

    if (task_is_free(rpc_daemon(call), p->task, &err) != 0) {
        rpc_fail(call, &err);
        return;
    }
    p->file = rpc_call_file(call);
    rpc_run(call, import_run);
}

const struct rpc_method rpc_kb_methods[] = {
    { METHOD_KB_IMPORT, import_rows, sizeof(struct import_params), RPC_WRITE | RPC_FILE,
      kb_import_call,
      "Store the records of a file as evaluations of a device, with the evidence that follows from "
      "them. The "
      "same file again changes nothing.",
      "{task, device, assignments, valid, failures{}, parameters, devices[], changed}", NULL },

    { METHOD_KB_STATS, NULL, 0, 0, kb_stats_call, "Count what the knowledge base holds.",
      "{facts{kind: n}, documents{kind: n}, insights, last_seq, vectors{indexed, pending, exact}, "
      "bytes_on_disk, schema}",
      NULL },
    { METHOD_KB_VERIFY, verify_rows, sizeof(struct verify_params), 0, kb_verify_call,
      "Read everything back, recompute every content address and derived state, and compare.",
      "{ok, problems[sentence], digest?}", NULL },
    { 0 },
};
