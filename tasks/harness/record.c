/* SPDX-License-Identifier: Apache-2.0 */
/* The record of an evaluation as JSON; docs/harness.md has the fields. */
#include <math.h>

#include "base/mem.h"
#include "base/str.h"
#include "build.h"
#include "evaluate.h"

/* Text from a compiler may be anything; JSON wants UTF-8. */
static json_t *text_json(const char *s)
{
    CLEANUP(freep) char *copy = NULL;
    json_t *v = json_string(s ? s : "");

    if (v != NULL)
        return v;
    copy = strdup(s);
    if (copy == NULL)
        return json_string("");
    for (char *p = copy; *p != '\0'; p++)
        if (*p & 0x80)
            *p = '?';
    return json_string(copy);
}

/* A log that filled its buffer ends with its last whole line, and says so. */
static json_t *log_json(const struct job *job, char *log)
{
    char *end = log && strlen(log) >= job->output_bytes ? strrchr(log, '\n') : NULL;
    CLEANUP(freep) char *told = NULL;

    if (end == NULL)
        return text_json(log);
    *end = '\0';
    told = str_printf("%s\n(the compiler said more than %llu bytes; the rest was left out)\n", log,
                      (unsigned long long)job->output_bytes);
    return text_json(told);
}

/* A number, or null for what is not known. */
static json_t *number(bool known, double v)
{
    return known && isfinite(v) ? json_real(v) : json_null();
}

static json_t *samples(const struct contest_result *r, enum confine_role role)
{
    json_t *list = json_array();

    for (int i = 0; i < r->n; i++)
        json_array_append_new(list, json_integer((json_int_t)r->ns[role][i]));
    return list;
}

/* What was counted, per call; NULL when nothing was. */
static json_t *counters_json(const struct counts *c)
{
    double cycles = c->value[COUNTER_CYCLES], instructions = c->value[COUNTER_INSTRUCTIONS];
    json_t *o = json_object();

    for (int i = 0; i < COUNTER_COUNT; i++)
        if (c->value[i] >= 0 && isfinite(c->value[i]))
            json_object_set_new(o, counter_name((enum counter)i), json_real(c->value[i]));
    if (cycles > 0 && instructions > 0)
        json_object_set_new(o, "ipc", json_real(instructions / cycles));
    if (json_object_size(o) > 0)
        return o;
    json_decref(o);
    return NULL;
}

/* The workload that failed is the last one begun. */
static json_t *workload_json(const struct pack *pack, const struct evaluation *e, int i,
                             bool champion)
{
    const struct contest_result *r = &e->results[i];
    bool measured = r->batch > 0;
    bool failed =
        e->fail.class != FAIL_OK && e->fail.class != FAIL_UNSTABLE && i == e->n_results - 1;
    json_t *o = json_object(), *counters = measured ? counters_json(&r->counts) : NULL;

    json_object_set_new(o, "name", json_string(pack->workloads[i].name));
    json_object_set_new(o, "status", json_string(failed ? fail_name(e->fail.class) : "ok"));
    json_object_set_new(o, "ratio", number(measured && !failed, exp(r->ratio.log_ratio)));
    json_object_set_new(o, "log_sd", number(measured && !failed, r->ratio.log_sd));
    json_object_set_new(o, "batch", json_integer(r->batch));
    json_object_set_new(o, "disturbed", json_integer(r->disturbed));
    json_object_set_new(o, "baseline_ns", samples(r, ROLE_BASELINE));
    json_object_set_new(o, "candidate_ns", samples(r, ROLE_CANDIDATE));
    if (champion)
        json_object_set_new(o, "champion_ns", samples(r, ROLE_CHAMPION));
    json_object_set_new(o, "roofline", number(r->roofline > 0, r->roofline));
    json_object_set_new(o, "flops", number(measured, r->cost.flops));
    json_object_set_new(o, "bytes", number(measured, r->cost.bytes));
    json_object_set_new(o, "max_abs", number(measured, r->stats.max_abs));
    json_object_set_new(o, "tensor_rel", number(measured, r->stats.tensor_rel));
    if (counters != NULL)
        json_object_set_new(o, "counters", counters);
    return o;
}

static void add_objective(json_t *o, const struct evaluation *e, bool champion)
{
    bool ok = e->fail.class == FAIL_OK;
    const struct estimate *r = &e->objective, *c = &e->vs_champion;

    json_object_set_new(o, "objective", number(ok, exp(r->log_ratio)));
    json_object_set_new(o, "ci_low", number(ok, exp(r->log_ratio - r->half)));
    json_object_set_new(o, "ci_high", number(ok, exp(r->log_ratio + r->half)));
    json_object_set_new(o, "log_sd", number(ok, r->log_sd));
    json_object_set_new(o, "worst", number(ok, e->worst));
    json_object_set_new(o, "roofline", number(ok && e->roofline > 0, e->roofline));
    if (champion && ok)
        json_object_set_new(o, "vs_champion",
                            json_pack("{s:f, s:f, s:f, s:f}", "ratio", exp(c->log_ratio), "ci_low",
                                      exp(c->log_ratio - c->half), "ci_high",
                                      exp(c->log_ratio + c->half), "log_sd", c->log_sd));
}

static void add_times(json_t *o, const struct evaluation *e)
{
    uint64_t check_ns = 0, timing_ns = 0;

    for (int i = 0; i < e->n_results; i++) {
        check_ns += e->results[i].check_ns;
        timing_ns += e->results[i].timing_ns;
    }
    json_object_set_new(o, "time",
                        json_pack("{s:f, s:f, s:f, s:f}", "build_ms", e->build_ms, "check_ms",
                                  (double)check_ns / 1e6, "timing_ms", (double)timing_ns / 1e6,
                                  "total_ms", (double)e->total_ns / 1e6));
}

json_t *record_make(const struct job *job, const struct pack *pack, const struct evaluation *e)
{
    bool champion = job->champion.source != NULL;
    json_t *o = json_object(), *workloads = json_array(), *build = json_object(),
           *env = json_object();
    char compiler[64];

    if (o == NULL || workloads == NULL || build == NULL || env == NULL)
        return NULL;
    build_compiler(compiler, sizeof(compiler));
    json_object_set_new(o, "format", json_integer(1));
    json_object_set_new(o, "status", json_string(fail_name(e->fail.class)));
    json_object_set_new(o, "message", text_json(e->fail.class == FAIL_OK ? "" : e->fail.msg));
    json_object_set_new(o, "definition", json_string(job->definition));
    json_object_set_new(o, "set", json_string(job->set));
    add_objective(o, e, champion);
    for (int i = 0; i < e->n_results; i++)
        json_array_append_new(workloads, workload_json(pack, e, i, champion));
    json_object_set_new(o, "workloads", workloads);
    json_object_set_new(build, "ms", json_real(e->build_ms));
    json_object_set_new(build, "log", log_json(job, e->log));
    json_object_set_new(build, "bytes", json_integer((json_int_t)e->object_bytes));
    json_object_update_missing(build, e->report);
    json_object_set_new(o, "build", build);
    json_object_set_new(env, "cc", json_string(compiler));
    json_object_set_new(env, "march", json_string(job->march));
    json_object_set_new(env, "sandbox",
                        json_string(job->sandbox == SANDBOX_BWRAP ? "bwrap" : "none"));
    json_object_set_new(env, "threads", json_integer(job->threads));
    if (*counters_unavailable())
        json_object_set_new(env, "counters_unavailable", json_string(counters_unavailable()));
    json_object_set_new(o, "env", env);
    add_times(o, e);
    return o;
}
