/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.import: a user's pack becomes one of ours; task.check: is a task fit to judge kernels by?
 *
 * An import goes loop -> worker (write, parse, compare) -> loop (is anything of it in use? rename,
 * swap the packs) -> worker (remove what is left) -> answer. Between the question and the swap
 * nothing else runs on the loop, so no search can begin on the old pack in between.
 */
#include <string.h>

#include "base/mem.h"
#include "conf.h"
#include "daemon.h"
#include "eval/launcher.h"
#include "eval/pack.h"
#include "eval/pack_install.h"
#include "eval/pack_parse.h"
#include "eval/recorded_store.h"
#include "kb.h"
#include "log.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "rpc/rpc_eval.h"
#include "sched/searches.h"
#include "search/space.h"
#include "tasks.h"
#include "work.h"

/* ---- task.import ---- */

struct import_params {
    json_t *files;
};

static const struct param import_rows[] = {
    { "files", PARAM_JSON, offsetof(struct import_params, files), PARAM_REQUIRED,
      "text of each file of the pack, {\"task.json\": \"...\", \"workloads/cpu.jsonl\": \"...\"}",
      0, 0, NULL, 0 },
    { 0 },
};

struct import {
    struct work work;
    struct rpc_call *call;
    struct daemon *daemon;
    const json_t *files; /* the call's */
    struct pack_stage stage;
    json_t *result; /* NULL: it failed with err */
    struct err err;
};

/* What searches need of a template is more than a pack needs. */
static void check_space(struct pack *p)
{
    struct space *space;
    struct err err;

    if (p->space == NULL || p->n_problems > 0)
        return;
    if (space_parse(p->space, strrchr(p->space_path, '/') + 1, &space, &err) != 0)
        pack_problem(p, "%s", err.msg);
    else
        space_free(space);
}

/* A recorded space may have taken a name as well. */
static int check_recorded(struct kb *kb, const struct pack *p, struct err *err)
{
    for (size_t i = 0; i < p->n_definitions; i++) {
        json_auto_t *doc = NULL;

        if (kb_get_doc(kb, KB_TASK, p->definitions[i].name, &doc, err) != 0) {
            if (err->code != ERR_NOT_FOUND)
                return -1;
        } else if (recorded_is_task(doc)) {
            return err_set(err, ERR_CONFLICT, "the task '%s' is already there, as a recorded space",
                           p->definitions[i].name);
        }
    }
    return 0;
}

static int import_stage(struct work *w, struct err *err)
{
    struct import *im = LIST_OF(w, struct import, work);
    CLEANUP(freep) char *home = daemon_pack_home(im->daemon);

    if (pack_stage(home, im->files, &im->stage, err) != 0)
        return -1;
    check_space(im->stage.pack);
    return check_recorded(im->daemon->kb, im->stage.pack, err);
}

/* No name of another pack, whether that one works or not. */
static int check_names(const struct packs *packs, const struct pack *p, const char *place,
                       struct err *err)
{
    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *other = packs_get(packs, i);

        if (strcmp(other->dir, place) == 0)
            continue;
        if (other->family && strcmp(other->family, p->family) == 0)
            return err_set(err, ERR_CONFLICT, "the family '%s' is already that of the pack '%s'",
                           p->family, other->dir);
        for (size_t k = 0; k < other->n_definitions; k++)
            for (size_t d = 0; d < p->n_definitions; d++)
                if (strcmp(other->definitions[k].name, p->definitions[d].name) == 0)
                    return err_set(err, ERR_CONFLICT, "the task '%s' is already in the pack '%s'",
                                   p->definitions[d].name, other->dir);
    }
    return 0;
}

static int check_unused(struct daemon *d, const char *family, struct err *err)
{
    if (searches_live_family(d->searches, family))
        return err_set(err, ERR_CONFLICT,
                       "a search of family '%s' is not over; its pack can be replaced when it is, "
                       "or when it is cancelled",
                       family);
    if (rpc_eval_runs(d, family))
        return err_set(err, ERR_CONFLICT,
                       "an evaluation of family '%s' runs; its pack can be replaced afterwards",
                       family);
    return 0;
}

static json_t *texts(char *const *v, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(v[i]));
    return list;
}

static json_t *import_result(const struct pack_stage *s, const struct pack *p, bool installed)
{
    json_t *definitions = json_array();

    for (size_t i = 0; i < p->n_definitions; i++)
        json_array_append_new(definitions, json_string(p->definitions[i].name));
    return json_pack("{s:o, s:o, s:s, s:b, s:b, s:b, s:o}", "family",
                     p->family ? json_string(p->family) : json_null(), "definitions", definitions,
                     "dir", installed ? s->place : "", "installed", installed, "replaced",
                     installed && s->exists && !s->same, "unchanged", installed && s->same,
                     "problems", texts(p->problems, p->n_problems));
}

/* On the loop: the questions, the rename and the swap, in one go. */
static int import_install(struct import *im, struct err *err)
{
    struct daemon *d = im->daemon;
    struct pack_stage *s = &im->stage;
    struct pack *fresh;

    if (s->pack->n_problems > 0) {
        im->result = import_result(s, s->pack, false);
        return 0;
    }
    if (check_names(d->packs, s->pack, s->place, err) != 0)
        return -1;
    if (s->same) {
        im->result = import_result(s, s->pack, true);
        return 0;
    }
    if (check_unused(d, s->pack->family, err) != 0 || pack_stage_install(s, &fresh, err) != 0)
        return -1;
    im->result = import_result(s, fresh, true);
    log_info("task pack '%s' was %s", fresh->dir, s->exists ? "replaced" : "imported");
    packs_swap(&d->packs, packs_with(d->packs, fresh));
    return 0;
}

static int import_tidy(struct work *w, struct err *err)
{
    struct import *im = LIST_OF(w, struct import, work);

    (void)err;
    pack_stage_release(&im->stage);
    return 0;
}

static void import_answer(struct work *w, const struct err *cancelled)
{
    struct import *im = LIST_OF(w, struct import, work);

    if (cancelled != NULL) /* it did not run: the daemon is closing */
        pack_stage_release(&im->stage);
    if (im->result != NULL)
        rpc_reply(im->call, im->result);
    else
        rpc_fail(im->call, &im->err);
    free(im);
}

static void import_staged(struct work *w, const struct err *err)
{
    struct import *im = LIST_OF(w, struct import, work);

    if (err != NULL)
        im->err = *err;
    else if (import_install(im, &im->err) != 0)
        im->result = NULL;
    im->work = (struct work){ .run = import_tidy, .done = import_answer };
    work_submit(im->daemon->work, &im->work);
}

static void task_import(struct rpc_call *call, void *params)
{
    const struct import_params *p = params;
    struct import *im = xcalloc(1, sizeof(*im));

    im->call = call;
    im->daemon = rpc_daemon(call);
    im->files = p->files;
    im->work.run = import_stage;
    im->work.done = import_staged;
    work_submit(im->daemon->work, &im->work);
}

/* ---- task.check ---- */

struct check_params {
    char *task, *device, *set;
};

static const struct param check_rows[] = {
    { "task", PARAM_NAME, offsetof(struct check_params, task), PARAM_REQUIRED, "name of the task",
      0, 0, NULL, 0 },
    { "device", PARAM_NAME, offsetof(struct check_params, device), 0,
      "device to check it on (the configured one)", 0, 0, NULL, 0 },
    { "set", PARAM_NAME, offsetof(struct check_params, set), 0,
      "workload set to time, beside smoke (cpu)", 0, 0, NULL, 0 },
    { 0 },
};

/* References may be slow; the values of one set are looked at three times. */
enum { CHECK_WALL_S = 3600, CHECK_RUN_S = 300 };

/* The template with its defaults, or the baseline where there is no template. */
static int check_start(struct rpc_call *call, struct eval_request *req, eval_done_fn *done,
                       void *ctx, struct err *err)
{
    struct daemon *d = rpc_daemon(call);
    const struct check_params *p = rpc_call_params(call);
    struct eval_define defines[EVAL_DEFINES_MAX];
    json_auto_t *values = NULL, *defaults = json_object();
    const struct pack_definition *def = NULL;
    const struct pack_set *set = NULL;
    const struct pack_source *source;
    struct eval_job *job;

    if (task_definition(d, p->task, &def, err) != 0 || rpc_eval_set(def, p->set, &set, err) != 0)
        return -1;
    if (def->pack->space && rpc_eval_defines(def->pack, defaults, &values, err) != 0)
        return -1;
    source = def->pack->space ? &def->pack->template : &def->pack->baseline;
    req->verb = "check-task";
    req->pack = def->pack;
    req->definition = def->name;
    req->set = set->name;
    req->limits.run_s = CHECK_RUN_S;
    req->limits.wall_s = CHECK_WALL_S;
    req->candidate =
        (struct eval_program){ source->text, source->len, defines, rpc_eval_fill(values, defines) };
    return evaluator_start(d->evaluator, req, done, ctx, &job, err);
}

static void task_check(struct rpc_call *call, void *params)
{
    struct daemon *d = rpc_daemon(call);
    struct check_params *p = params;
    const struct pack_definition *def;
    const struct pack_set *set;
    struct err err;

    if (p->device == NULL)
        p->device = xstrdup(d->conf->default_device);
    /* Before a probe that takes seconds: is the rest worth it? A recorded space is not. */
    if (task_definition(d, p->task, &def, &err) != 0 || rpc_eval_set(def, p->set, &set, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_eval_measure(call, p->device, def->pack->dtype, check_start);
}

const struct rpc_method rpc_task_admin_methods[] = {
    { METHOD_TASK_IMPORT, import_rows, sizeof(struct import_params), RPC_WRITE, task_import,
      "Add a task pack, or replace one that was imported before. It is checked as a whole: with "
      "any problem nothing is installed. CONFLICT when a name is another pack's, or a search or an "
      "evaluation of the family is under way. The pack's module is trusted code of the judge.",
      "{family, definitions[], dir, installed, replaced, unchanged, problems[]}", NULL },
    { METHOD_TASK_CHECK, check_rows, sizeof(struct check_params), RPC_WRITE, task_check,
      "Check a task's workloads, generator, reference, tolerances, baseline and template, and time "
      "them against the roofline. Takes the device's turn, as eval.run does.",
      "{status, checks[{name, status, message}], sets[], tolerance[], programs[], timing[]}; "
      "docs/harness.md, \"Checking a task\"",
      NULL },
    { 0 },
};
