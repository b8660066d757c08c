/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring what a retune's plan names; see measure.h. */
#include "retune/measure.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "eval/pack.h"
#include "eval/recorded.h"
#include "eval/recorded_store.h"
#include "retune/versions.h"
#include "rpc/rpc_eval.h"
#include "rpc/rpc_search.h"
#include "search/programs.h"
#include "search/learn.h"
#include "search/space_table.h"

/* ---- Starting ---- */

static void recorded_scope(const char *task, const json_t *device, struct search_scope *scope)
{
    scope->family = xstrdup(task);
    scope->shape = xstrdup("");
    scope->dtype = xstrdup("");
    scope->language = xstrdup(RECORDED_LANGUAGE);
    scope->bottleneck = xstrdup("");
    scope->device_class = xstrdup(jsonx_str(device, "class", ""));
    scope->toolchain = versions_of_device(device);
    scope->march = xstrdup("");
    scope->features = json_object();
    scope->relatives = json_array();
}

int measure_start(struct daemon *d, const json_t *device, const json_t *step, uint64_t seed,
                  struct search_scope *scope, json_t **program, eval_done_fn *done, void *ctx,
                  struct eval_job **out, struct err *err)
{
    const char *task = jsonx_str(step, "task", "");
    const struct pack_definition *def = packs_find(d->packs, task);
    json_t *assignment = json_object_get(step, "assignment");
    struct eval_define defines[EVAL_DEFINES_MAX];
    json_auto_t *values = NULL;
    const struct pack_set *set = NULL;
    struct eval_request req = { .definition = task,
                                .set = RECORDED_SET,
                                .device = jsonx_str(device, "name", ""),
                                .seed = seed,
                                .threads = (uint32_t)d->conf->eval_threads,
                                .limits = eval_default_limits(),
                                .timing = { (uint32_t)d->conf->pairs_min,
                                            (uint32_t)d->conf->pairs_max,
                                            d->conf->timing_budget_s } };

    *program = NULL;
    if (def == NULL) {
        recorded_scope(task, device, scope);
        req.assignment = assignment;
        return evaluator_start(d->evaluator, &req, done, ctx, out, err);
    }
    if (def->pack->space == NULL)
        return err_set(err, ERR_INVALID, "task '%s' has no tunable template any more", task);
    if (rpc_eval_set(def, jsonx_str(step, "set", NULL), &set, err) != 0 ||
        rpc_eval_defines(def->pack, assignment, &values, err) != 0)
        return -1;
    rpc_search_scope(d, def, set, device, scope);
    *program = program_document(scope, def->pack->template.text, def->pack->space);
    req.pack = def->pack;
    req.set = set->name;
    req.march = scope->march;
    req.read_gbs = scope->read_gbs;
    req.fma_gflops = scope->fma_gflops;
    req.candidate = (struct eval_program){ def->pack->template.text, def->pack->template.len,
                                           defines, rpc_eval_fill(values, defines) };
    return evaluator_start(d->evaluator, &req, done, ctx, out, err);
}

/* ---- Recording ---- */

/* The stored program of a recorded task on the device. */
static int find_program(struct daemon *d, const char *task, const char *device, struct id *out,
                        struct err *err)
{
    json_auto_t *doc = NULL;
    const char *program;

    if (kb_get_doc(d->kb, KB_TASK, task, &doc, err) != 0)
        return err_ctx(err, "task '%s'", task);
    program = recorded_program(doc, device);
    if (program == NULL)
        return err_set(err, ERR_NOT_FOUND, "task '%s' has no recorded table of device '%s'", task,
                       device);
    str_copy(out->hex, sizeof(out->hex), program);
    return 0;
}

int measure_space(struct daemon *d, const char *task, const char *device, struct space **out,
                  struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);
    const struct pack_definition *def = packs_find(packs, task);
    json_auto_t *doc = NULL;
    struct id program;

    if (def != NULL && def->pack->space == NULL)
        return err_set(err, ERR_INVALID, "task '%s' has no tunable template any more", task);
    if (def != NULL)
        return space_parse(def->pack->space, def->pack->space_path, out, err);
    if (find_program(d, task, device, &program, err) != 0)
        return -1;
    if (kb_get_doc(d->kb, KB_PROGRAM, program.hex, &doc, err) != 0)
        return err_ctx(err, "the space of task '%s'", task);
    return space_table_unpack(json_object_get(doc, "space"), out, err);
}

/* Borrows its strings: it is serialised at once. A failure's message says nothing of paths. */
static int add_evaluation(struct kb_batch *b, const char *task, const char *device,
                          const json_t *assignment, const struct eval_result *r,
                          const struct search_scope *scope, uint64_t seed, uint64_t now_s,
                          struct id *id, struct err *err)
{
    CLEANUP(freep)
    struct workload_time *workloads = xcalloc(r->n_workloads + 1, sizeof(*workloads));
    bool ok = r->status == EVAL_OK;
    char text[17], message[120] = "";
    struct evaluation e = {
        .task = (char *)task,
        .family = scope->family,
        .set = r->set,
        .device = (char *)device,
        .device_class = scope->device_class,
        .toolchain = scope->toolchain,
        .shape = scope->shape,
        .language = scope->language,
        .program = scope->program,
        .assignment = (json_t *)assignment,
        .status = (char *)eval_status_name(r->status),
        .message = message,
        .objective_q = eval_result_objective_q(r),
        .sd_q = eval_result_sd_q(r),
        .steered = true,
        .seed = text,
        .measured_at_s = now_s,
        .n_workloads = r->n_workloads,
        .workloads = workloads,
    };

    if (!ok)
        snprintf(message, sizeof(message), "a retune measured it: %s", eval_status_name(r->status));
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)seed);
    for (size_t i = 0; i < r->n_workloads; i++) {
        const struct eval_workload *w = &r->workloads[i];

        workloads[i] =
            (struct workload_time){ w->name, w->status == EVAL_OK ? quantise_log(w->ratio) : 0,
                                    w->baseline_ns, w->candidate_ns };
    }
    return kb_batch_add_evaluation(b, &e, id, err);
}

/* A result as learn.h wants it: only what it looks at. */
static bool trial_of(const struct space *space, const json_t *step, const json_t *result,
                     struct trial *t)
{
    const char *status = jsonx_str(result, "status", "lost");
    struct err ignored;

    memset(t, 0, sizeof(*t));
    t->arm = ENGINE_ARM_MEMORY;
    t->adopted = (char *)"retune";
    t->measured = strcmp(status, "lost") != 0;
    t->ok = strcmp(status, "ok") == 0;
    t->status = (char *)status;
    t->objective_q = jsonx_int(result, "objective_q", 0);
    t->sd_q = jsonx_int(result, "sd_q", 0);
    str_copy(t->evaluation.hex, sizeof(t->evaluation.hex), jsonx_str(result, "fact", ""));
    return t->measured &&
           space_from_json(space, json_object_get(step, "assignment"), t->a, &ignored) == 0;
}

static int learn(struct daemon *d, struct kb_batch *b, const struct search_scope *scope,
                 const char *device, const json_t *steps, const json_t *results,
                 const json_t *entry, uint64_t now_s, struct err *err)
{
    size_t n = json_array_size(results), k = 0, added;
    const json_t *step = json_array_get(steps, n);
    const char *task = jsonx_str(step, "task", "");
    CLEANUP(freep) struct trial *trials = xcalloc(n + 1, sizeof(*trials));
    CLEANUP(freep) const struct trial **prev = xcalloc(n + 1, sizeof(struct trial *));
    struct space *space;
    int rc = 0;

    if (measure_space(d, task, device, &space, err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const json_t *other = json_array_get(steps, i);

        if (strcmp(jsonx_str(other, "task", ""), task) == 0 &&
            trial_of(space, other, json_array_get(results, i), &trials[k])) {
            prev[k] = &trials[k];
            k++;
        }
    }
    if (trial_of(space, step, entry, &trials[n])) {
        struct learn_scope ls = { .space = space,
                                  .task = task,
                                  .family = scope->family,
                                  .dtype = scope->dtype,
                                  .language = scope->language,
                                  .bottleneck = scope->bottleneck,
                                  .device = device,
                                  .device_class = scope->device_class,
                                  .shape = scope->shape,
                                  .toolchain = scope->toolchain,
                                  .features = scope->features };

        rc = learn_from_trial(b, &ls, prev, k, &trials[n], now_s, &added, err);
    }
    space_free(space);
    return rc;
}

int measure_record(struct daemon *d, struct kb_batch *batch, const json_t *device,
                   const json_t *steps, const json_t *results, const struct eval_result *r,
                   struct search_scope *scope, const json_t *program, uint64_t seed, json_t **entry,
                   struct err *err)
{
    const json_t *step = json_array_get(steps, json_array_size(results));
    const char *task = jsonx_str(step, "task", ""), *name = jsonx_str(device, "name", "");
    uint64_t now_s = d->clock->wall_ns(d->clock) / NS_PER_SEC;
    struct id id;
    json_t *e;

    if ((!scope->program.hex[0] && find_program(d, task, name, &scope->program, err) != 0) ||
        (program != NULL &&
         kb_batch_put_doc(batch, KB_PROGRAM, scope->program.hex, program, err) != 0) ||
        add_evaluation(batch, task, name, json_object_get(step, "assignment"), r, scope, seed,
                       now_s, &id, err) != 0)
        return -1;
    e = json_pack("{s:s, s:I, s:I, s:s, s:s}", "status", eval_status_name(r->status), "objective_q",
                  (json_int_t)eval_result_objective_q(r), "sd_q", (json_int_t)eval_result_sd_q(r),
                  "fact", id.hex, "message", r->message);
    if (e == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a result");
    if (learn(d, batch, scope, name, steps, results, e, now_s, err) != 0) {
        json_decref(e);
        return -1;
    }
    *entry = e;
    return 0;
}
