/* SPDX-License-Identifier: Apache-2.0 */
/* Baseline and template of a task, and the roofline; see audit_impl.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "audit_impl.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- baseline and template ---- */

static double median_ns(const struct contest_result *r, enum confine_role role)
{
    CLEANUP(freep) double *v = calloc((size_t)MAX(r->n, 1), sizeof(*v));

    for (int i = 0; v && i < r->n; i++)
        v[i] = (double)r->ns[role][i];
    return v && r->n > 0 ? stats_median(v, (size_t)r->n) : NAN;
}

static const char *bound_of(const struct job *job, const struct ks_cost *c, double *floor_ns)
{
    double memory = job->read_gbs > 0 ? c->bytes / job->read_gbs : 0;
    double compute = job->fma_gflops > 0 ? c->flops / job->fma_gflops : 0;

    *floor_ns = MAX(memory, compute);
    return *floor_ns <= 0 ? NULL : memory >= compute ? "memory" : "compute";
}

/* Times of one workload beside what the device could do. */
static json_t *timing_json(const struct audit *a, const char *name, const struct contest_result *r,
                           bool template)
{
    double floor_ns, base = median_ns(r, ROLE_BASELINE), own = median_ns(r, ROLE_CANDIDATE);
    const char *bound = bound_of(a->job, &r->cost, &floor_ns);
    json_t *o =
        json_pack("{s:s, s:f, s:f}", "name", name, "flops", r->cost.flops, "bytes", r->cost.bytes);

    json_object_set_new(o, "intensity",
                        audit_number(r->cost.bytes > 0, r->cost.flops / r->cost.bytes));
    json_object_set_new(o, "bound", bound ? json_string(bound) : json_null());
    json_object_set_new(o, "floor_ns", audit_number(bound != NULL, floor_ns));
    json_object_set_new(o, "baseline_ns", audit_number(true, base));
    json_object_set_new(o, "template_ns", audit_number(template, own));
    json_object_set_new(o, "baseline_roofline", audit_number(bound != NULL, floor_ns / base));
    json_object_set_new(o, "template_roofline", audit_number(template && bound, floor_ns / own));
    json_object_set_new(o, "ratio", audit_number(template, exp(r->ratio.log_ratio)));
    return o;
}

static void add_timing(struct audit *a, const struct pack *p, const struct evaluation *e,
                       bool template)
{
    json_array_clear(a->timing); /* the template's evaluation has the baseline's times as well */
    for (int i = 0; i < e->n_results; i++)
        json_array_append_new(a->timing,
                              timing_json(a, p->workloads[i].name, &e->results[i], template));
}

/* Built, run and compared in the sandbox as any candidate. Returns its failure class. */
static enum fail_class run_program(struct audit *a, const char *what, const struct pack *p,
                                   const char *set, const struct program *program, char *why,
                                   size_t why_size)
{
    CLEANUP(evaluation_release) struct evaluation e = { 0 };
    struct job job = *a->job; /* borrows everything */
    char seen[900];
    bool ok, timed;

    job.set = (char *)(uintptr_t)set;
    job.candidate = *program;
    job.champion = (struct program){ 0 };
    if (p == a->smoke) { /* for its values; timed no longer than it must be */
        job.pairs_min = job.pairs_max = 3;
        job.budget_s = 0;
    }
    evaluate(&job, p, &e);
    if (p == a->smoke && e.fail.class == FAIL_UNSTABLE)
        e.fail = (struct fail){ .class = FAIL_OK }; /* its values are right */
    ok = e.fail.class == FAIL_OK;
    timed = ok && p == a->pack;
    snprintf(why, why_size, "set '%s': %s: %.600s", set, fail_name(e.fail.class), e.fail.msg);
    json_array_append_new(
        a->programs,
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:o}", "program", what, "set", set, "status",
                  fail_name(e.fail.class), "message",
                  str_visible(e.fail.msg, ok ? 0 : strlen(e.fail.msg), seen, sizeof(seen)),
                  "workloads", e.n_results, "objective",
                  audit_number(timed, exp(e.objective.log_ratio)), "ci_low",
                  audit_number(timed, exp(e.objective.log_ratio - e.objective.half)), "ci_high",
                  audit_number(timed, exp(e.objective.log_ratio + e.objective.half))));
    if (timed)
        add_timing(a, p, &e, strcmp(what, "template") == 0);
    return e.fail.class;
}

/* Why this machine cannot run some workload of the set; "" when it can. */
static const char *set_too_large(const struct pack *p, char *out, size_t size)
{
    struct audit_size s;
    struct err ignored;

    out[0] = '\0';
    for (int i = 0; i < p->n_workloads && out[0] == '\0'; i++)
        if (audit_size_of(p, &p->workloads[i], &s, &ignored) == 0)
            audit_too_large(&s, out, size);
    return out;
}

static void check_program(struct audit *a, const char *what, const struct program *program)
{
    const struct pack *packs[] = { a->smoke, a->pack };
    const char *names[] = { "smoke", a->job->set };
    char why[900], large[200];
    int done = 0;

    for (size_t i = 0; i < ARRAY_LEN(packs); i++) {
        enum fail_class class;

        if (packs[i] == NULL)
            continue;
        if (set_too_large(packs[i], large, sizeof(large))[0] != '\0') {
            audit_report(a, what, AUDIT_SKIPPED, "set '%s' is too large for this machine: it %s",
                         names[i], large);
            return;
        }
        class = run_program(a, what, packs[i], names[i], program, why, sizeof(why));
        if (class == FAIL_UNSTABLE) { /* right, but this machine is too busy to time it */
            audit_report(a, what, AUDIT_WARNING, "%s", why);
            return;
        }
        if (class != FAIL_OK) {
            audit_report(a, what, AUDIT_FAILED, "%s", why);
            return;
        }
        done++;
    }
    audit_report(a, what, AUDIT_OK, "agrees with the reference on %s%s%s",
                 names[done > 1 || !a->smoke], done > 1 ? " and " : "", done > 1 ? names[0] : "");
}

void audit_check_programs(struct audit *a)
{
    CLEANUP(program_release) struct program baseline = { 0 };
    struct err err;

    if (pack_read(a->pack, a->pack->baseline, &baseline.source, &err) != 0)
        audit_report(a, "baseline", AUDIT_FAILED, "%s", err.msg);
    else
        check_program(a, "baseline", &baseline);
    if (a->pack->template_source != NULL)
        check_program(a, "template", &a->job->candidate);
    else
        audit_report(a, "template", AUDIT_SKIPPED,
                     "the pack has none: it can be measured, not searched");
}

/* The pack says what binds its kernels; the arithmetic has to agree. */
void audit_check_bottleneck(struct audit *a)
{
    const char *said = jsonx_str(a->pack->root, "bottleneck", ""), *bound = NULL;
    size_t i, n = json_array_size(a->timing), agree = 0;
    json_t *row;

    if (n == 0 || !json_is_string(json_object_get(json_array_get(a->timing, 0), "bound"))) {
        audit_report(a, "roofline", AUDIT_SKIPPED,
                     n == 0 ? "nothing was timed" : "the device's rates are not known");
        return;
    }
    json_array_foreach (a->timing, i, row) {
        bound = jsonx_str(row, "bound", "");
        agree += strcmp(bound, said) == 0;
    }
    if (agree == 0 && (strcmp(said, "memory") == 0 || strcmp(said, "compute") == 0))
        audit_report(
            a, "roofline", AUDIT_WARNING,
            "'bottleneck' is \"%s\", but on this device the floor of all %zu workloads is set "
            "by %s",
            said, n, bound);
    else
        audit_report(a, "roofline", AUDIT_OK, "%zu workloads were timed against the device's rates",
                     n);
}
