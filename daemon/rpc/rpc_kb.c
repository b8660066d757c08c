/* SPDX-License-Identifier: Apache-2.0 */
/* kb.*: counting and checking the knowledge base, and importing into it. */
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "conf.h"
#include "daemon.h"
#include "eval/pack.h"
#include "eval/recorded_store.h"
#include "exchange.h"
#include "housekeeping.h"
#include "kb.h"
#include "ksearch_import.h"
#include "ksearch_read.h"
#include "packfile.h"
#include "proto/methods.h"
#include "rpc/answer.h"
#include "rpc/rpc.h"
#include "rpc/rpc_search.h"
#include "search/history.h"
#include "search/search.h"
#include "tasks.h"

struct stats_params {
    bool calibration;
};

static const struct param stats_rows[] = {
    { "calibration", PARAM_BOOL, offsetof(struct stats_params, calibration), 0,
      "give what predictions were worth, per source (false)", 0, 0, NULL, 0 },
    { 0 },
};

static int stats_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    bool calibration = ((struct stats_params *)params)->calibration;
    struct kb_stats stats;

    if (kb_get_stats(d->kb, &stats, err) != 0 ||
        (calibration && history_refresh(d->history, d->kb, err) != 0))
        return -1;
    *result = answer_stats(&stats);
    if (calibration)
        json_object_set_new(*result, "calibration", history_calibration(d->history));
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

/* ---- gc ---- */

struct gc_params {
    bool dry_run;
};

static const struct param gc_rows[] = {
    { "dry_run", PARAM_BOOL, offsetof(struct gc_params, dry_run), 0,
      "count and drop nothing (false)", 0, 0, NULL, 0 },
    { 0 },
};

static int gc_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return housekeeping_run(d, ((struct gc_params *)params)->dry_run, result, err);
}

static void kb_gc_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, gc_run);
}

/* ---- import ---- */

enum import_format { IMPORT_T4, IMPORT_PACK, IMPORT_KSEARCH };

struct import_params {
    int format;
    bool by_format;
    char *task, *device;
    int file;
};

static const char *const formats[] = { "t4", "pack", "k-search", NULL };

static const struct param import_rows[] = {
    { "format", PARAM_ENUM, offsetof(struct import_params, format), 0,
      "what the file is; else a pack is known by how it begins, and all others are t4", 0, 0,
      formats, PARAM_SEEN(struct import_params, by_format) },
    { "task", PARAM_NAME, offsetof(struct import_params, task), 0,
      "t4: recorded task that was measured, made when it is not known; k-search: known task that "
      "the run was for",
      0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct import_params, device), 0,
      "t4 and k-search: device that it was measured on; made when it is not known", 0, 0, NULL, 0 },
    { 0 },
};

static int import_t4_run(struct daemon *d, void *params, json_t **result, struct err *err)
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

static int import_pack_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return exchange_import(d->kb, d->conf->data, ((struct import_params *)params)->file, result,
                           err);
}

/* The whole file; its offset is not touched. */
static int read_whole(int fd, struct buf *out, struct err *err)
{
    char chunk[1 << 16];
    ssize_t n;

    while ((n = pread(fd, chunk, sizeof(chunk), (off_t)out->len)) > 0)
        if (buf_add(out, chunk, (size_t)n, err) != 0)
            return -1;
    return n == 0 ? 0 : err_set(err, ERR_IO, "cannot read the file");
}

/* Of a task of a pack; of a recorded one what its document says. */
static int fill_scope(struct daemon *d, const char *task, const json_t *device,
                      struct search_scope *out, struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);
    const struct pack_definition *def = packs_find(packs, task);
    char *family = NULL, *shape = NULL;

    if (def != NULL && pack_default_set(def) != NULL) {
        rpc_search_scope(d, def, pack_default_set(def), device, out);
        return 0;
    }
    if (task_scope(d, task, &family, &shape, err) != 0)
        return -1;
    *out = (struct search_scope){ .family = family,
                                  .shape = shape,
                                  .dtype = xstrdup(""),
                                  .language = xstrdup(""),
                                  .bottleneck = xstrdup(""),
                                  .device_class = xstrdup(jsonx_str(device, "class", "")),
                                  .toolchain = xstrdup(""),
                                  .march = xstrdup(""),
                                  .features = json_object(),
                                  .relatives =
                                      json_pack("[{s:s, s:f}]", "task", task, "similarity", 1.0) };
    return 0;
}

static int import_ksearch_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct import_params *p = params;
    CLEANUP(buf_release) struct buf file = { .max = KSEARCH_FILE_MAX };
    CLEANUP(search_scope_release) struct search_scope scope = { 0 };
    struct ksearch_place place = { .task = p->task,
                                   .device = p->device,
                                   .scope = &scope,
                                   .now_s = d->clock->wall_ns(d->clock) / NS_PER_SEC };
    json_auto_t *device = NULL;
    bool made;

    if (read_whole(p->file, &file, err) != 0 ||
        recorded_device_document(d->kb, p->device, &device, &made, err) != 0 ||
        fill_scope(d, p->task, device, &scope, err) != 0)
        return -1;
    place.device_doc = made ? device : NULL;
    return ksearch_import(d->kb, &place, buf_str(&file), file.len, result, err);
}

static int format_of_file(int fd)
{
    char start[PACKFILE_MAGIC_LEN];
    ssize_t n = pread(fd, start, sizeof(start), 0);

    return n > 0 && packfile_is(start, (size_t)n) ? IMPORT_PACK : IMPORT_T4;
}

/* A pack says itself what it is about; a tuning space has to be told. */
static int check_import(struct daemon *d, const struct import_params *p, struct err *err)
{
    if (p->format == IMPORT_PACK)
        return p->task == NULL && p->device == NULL
                   ? 0
                   : err_set(
                         err, ERR_INVALID,
                         "'%s' is for tuning spaces; a pack says itself what was measured where",
                         p->task ? "task" : "device");
    if (p->task == NULL || p->device == NULL)
        return err_set(
            err, ERR_INVALID, "kb.import: %s'%s' is missing: the %s",
            p->by_format ? "" : "the file does not begin like a pack, and for a tuning space ",
            p->task ? "device" : "task",
            p->task ? "device that was measured on" : "recorded task that was measured");
    return p->format == IMPORT_KSEARCH ? 0 : task_is_free(d, p->task, err);
}

static void kb_import_call(struct rpc_call *call, void *params)
{
    struct import_params *p = params;
    struct err err;

    p->file = rpc_call_file(call);
    if (!p->by_format)
        p->format = format_of_file(p->file);
    if (check_import(rpc_daemon(call), p, &err) != 0) {
        rpc_fail(call, &err);
        return;
    }
    rpc_run(call, p->format == IMPORT_PACK      ? import_pack_run
                  : p->format == IMPORT_KSEARCH ? import_ksearch_run
                                                : import_t4_run);
}

const struct rpc_method rpc_kb_methods[] = {
    { METHOD_KB_GC, gc_rows, sizeof(struct gc_params), RPC_WRITE, kb_gc_call,
      "Drop what nothing refers to: programs, tables of recorded spaces without a task, and builds "
      "that were not used for 30 days. Facts stay.",
      "{programs{n, bytes}, side{n, bytes}, builds{n, bytes}, dry_run}", NULL },
    { METHOD_KB_IMPORT, import_rows, sizeof(struct import_params), RPC_WRITE | RPC_FILE,
      kb_import_call,
      "Store what a file holds: the facts of a pack that a trusted key signed, or the records of a "
      "tuning space as evaluations of a device, with the evidence that follows, or a run of "
      "K-Search "
      "as a past search. The same file again changes nothing.",
      "t4: {task, device, assignments, valid, failures{}, parameters, devices[], changed}; pack: "
      "{signer, name, own, made_at_s, embedding, filters{}, facts{new, known, refused}, "
      "documents{new, known, refused}, named[{line, why}]}; k-search: {search, task, device, "
      "changed, nodes, closed, solutions, evaluations, claims, objective, repaired, repairs[], "
      "left_out, skipped[]}",
      NULL },
    { METHOD_KB_STATS, stats_rows, sizeof(struct stats_params), 0, kb_stats_call,
      "Count what the knowledge base holds.",
      "{facts{kind: n}, documents{kind: n}, insights, last_seq, vectors{indexed, pending, exact}, "
      "bytes_on_disk, schema, calibration{sources[{source, n, crps, crps_corrected, bias, "
      "bias_corrected, coverage{50, 80, 95}, coverage_corrected{}, pit[10], pit_corrected[10], "
      "correction{bias, scale}}], cells[the same with family, device_class]}?}",
      NULL },
    { METHOD_KB_VERIFY, verify_rows, sizeof(struct verify_params), 0, kb_verify_call,
      "Read everything back, recompute every content address and derived state, and compare.",
      "{ok, problems[sentence], digest?}", NULL },
    { 0 },
};
