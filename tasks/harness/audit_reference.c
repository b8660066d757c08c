/* SPDX-License-Identifier: Apache-2.0 */
/* Generator, reference and tolerances of a task; see audit_impl.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "audit_impl.h"
#include "base/mem.h"
#include "base/rng.h"
#include "shape.h"

#define WIDE_SHARE 0.01 /* of the tolerance, that the reference's own error may use */
#define NOISE_SHARE 0.5 /* of the tolerance, that honest single precision should leave */
#define EXACT_MIN 16    /* values, from which "all are exact" says something */

static const struct pack *probe_pack(const struct audit *a)
{
    return a->smoke ? a->smoke : a->pack;
}

static uint64_t seed_of(const struct audit *a, int workload, int what)
{
    struct rng r = rng_derive(a->job->seed, "audit", (uint64_t)workload * 8 + (uint64_t)what);

    return rng_u64(&r);
}

/* ---- generator ---- */

/* The first input that differs; -1 when none does. */
static int first_difference(const struct scene *s, const struct input_set *x,
                            const struct input_set *y)
{
    for (int i = 0; i < s->shape.n_inputs; i++)
        if (memcmp(x->data[i], y->data[i], s->shape.bytes[i]) != 0)
            return i;
    return -1;
}

static void fill(const struct scene *s, struct input_set *set, int byte)
{
    for (int i = 0; i < s->shape.n_inputs; i++)
        memset(set->data[i], byte, s->shape.bytes[i]);
}

/* Over what was there before: what the generator does not write shows. */
static int probe_generator(const struct audit *a, int k, const struct scene *s, struct input_set *x,
                           struct input_set *y, struct fail *f)
{
    uint64_t seed = seed_of(a, k, 0);
    int at;

    if (scene_generate(s, seed, x, f) != 0 || scene_generate(s, seed, y, f) != 0)
        return -1;
    fill(s, x, 0x00);
    fill(s, y, 0xff);
    if (scene_generate(s, seed, x, f) != 0 || scene_generate(s, seed, y, f) != 0)
        return -1;
    at = first_difference(s, x, y);
    if (at >= 0)
        return fail_set(f, FAIL_WRONG_VALUE,
                        "workload '%s': the same seed gave input '%s' other bytes the second time "
                        "(or they were not all written)",
                        s->workload->name, s->names[at]);
    if (scene_generate(s, seed_of(a, k, 1), y, f) != 0)
        return -1;
    if (first_difference(s, x, y) < 0)
        return fail_set(f, FAIL_WRONG_VALUE, "workload '%s': another seed gave the same inputs",
                        s->workload->name);
    return 0;
}

void audit_check_generator(struct audit *a)
{
    struct fail f = { .class = FAIL_OK };
    int rc = 0;

    for (int k = 0; k < a->n_probes && rc == 0; k++) {
        struct input_set x = { { 0 } }, y = { { 0 } };
        struct scene s;
        struct err err;

        if (scene_init(probe_pack(a), a->probes[k], a->module.table, &s, &err) != 0) {
            rc = fail_err(&f, &err);
            break;
        }
        rc = probe_generator(a, k, &s, &x, &y, &f);
        input_set_release(&x);
        input_set_release(&y);
        scene_release(&s);
    }
    if (rc != 0)
        audit_report(a, "generator", AUDIT_FAILED, "%s", f.msg);
    else
        audit_report(a, "generator", AUDIT_OK,
                     "equal seeds gave equal bytes and other seeds other ones on %d workloads",
                     a->n_probes);
}

/* ---- reference and tolerance ---- */

static size_t output_elements(const struct scene *s, int i)
{
    return s->elements[s->shape.n_inputs + i];
}

static void encode_output(const struct scene *s, int i, const double *values,
                          struct audit_outputs *o)
{
    audit_encode(s->tensors[s->shape.n_inputs + i].dtype, values, output_elements(s, i), o->got[i]);
}

static bool has_slack(const struct tolerance *t)
{
    return t->abs_tol > 0 || t->rel_tol > 0 || t->tensor_rel > 0 || t->row_rel > 0;
}

/* Outputs in double that are all exact in single precision were not computed in double. */
static void count_exact(const struct scene *s, int i, struct audit_findings *f)
{
    if (!dtype_is_float(s->tensors[s->shape.n_inputs + i].dtype))
        return;
    for (size_t k = 0; k < output_elements(s, i); k++) {
        double v = s->expected[i][k];

        if (v == 0 || !isfinite(v))
            continue;
        f->values++;
        f->exact += (double)(float)v == v;
    }
}

/* Expected outputs of another build of the module, against those in double. `round`: as a kernel
 * would give them, in the outputs' types. */
static int compare_with(struct audit *a, const struct scene *s, const struct input_set *set,
                        const struct ks_task_module *other, bool round, struct audit_outputs *o,
                        struct fail *f)
{
    struct scene twin;
    struct err err;
    int rc;

    if (scene_init(s->pack, s->workload, other, &twin, &err) != 0)
        return fail_err(f, &err);
    rc = scene_expect(&twin, set, a->job->threads, f);
    for (int i = 0; rc == 0 && i < s->shape.n_outputs; i++)
        encode_output(s, i, twin.expected[i], o);
    if (rc == 0)
        rc = audit_settle(s, set, o, f);
    for (int i = 0; rc == 0 && i < s->shape.n_outputs; i++) {
        struct audit_findings *found = &a->findings[i];
        double *worst = other == s->module       ? &found->rounding
                        : other == a->wide.table ? &found->wide
                                                 : &found->single;

        if (round)
            dtype_decode(s->tensors[s->shape.n_inputs + i].dtype, o->got[i], 0,
                         output_elements(s, i), twin.expected[i]);
        *worst = MAX(*worst, audit_share(s, i, twin.expected[i], o->want[i]));
    }
    scene_release(&twin);
    return rc;
}

/* Would these outputs pass as a kernel's? */
static int is_rejected(const struct scene *s, const struct input_set *set, struct audit_outputs *o,
                       bool *rejected, struct fail *f)
{
    struct check_stats unused = { 0 };
    struct fail why;

    if (audit_settle(s, set, o, f) != 0)
        return -1;
    *rejected = false;
    for (int i = 0; i < s->shape.n_outputs && !*rejected; i++)
        *rejected = check_output(&s->tensors[s->shape.n_inputs + i], o->got[i], o->want[i],
                                 &s->pack->outputs[i].tol, 1, CHECK_POISON, &unused, &why) != 0;
    return 0;
}

static int probe_tampering(struct audit *a, const struct scene *s, const struct input_set *set,
                           struct audit_outputs *o, struct fail *f)
{
    for (int i = 0; i < s->shape.n_outputs; i++)
        encode_output(s, i, s->expected[i], o);
    for (int i = 0; i < s->shape.n_outputs; i++) {
        for (int how = 0; how < TAMPER_COUNT; how++) {
            bool rejected;

            if (!audit_tamper(s, i, (enum tamper)how, o))
                continue;
            encode_output(s, i, o->values[i], o);
            if (is_rejected(s, set, o, &rejected, f) != 0)
                return -1;
            a->findings[i].tampered[how]++;
            a->findings[i].rejected[how] += rejected;
        }
        encode_output(s, i, s->expected[i], o);
    }
    return 0;
}

static int probe_scene(struct audit *a, struct scene *s, struct input_set *set,
                       struct audit_outputs *o, int k, struct fail *f)
{
    if (scene_generate(s, seed_of(a, k, 2), set, f) != 0 ||
        scene_expect(s, set, a->job->threads, f) != 0)
        return -1;
    for (int i = 0; i < s->shape.n_outputs; i++)
        count_exact(s, i, &a->findings[i]);
    if (compare_with(a, s, set, a->module.table, true, o, f) != 0)
        return -1;
    if (a->wide.table != NULL && (compare_with(a, s, set, a->wide.table, false, o, f) != 0 ||
                                  compare_with(a, s, set, a->single.table, true, o, f) != 0))
        return -1;
    return probe_tampering(a, s, set, o, f);
}

static int probe_values(struct audit *a, int k, struct fail *f)
{
    CLEANUP(audit_outputs_release) struct audit_outputs o = { 0 };
    CLEANUP(input_set_release) struct input_set set = { { 0 } };
    struct scene s;
    struct err err;
    int rc;

    if (scene_init(probe_pack(a), a->probes[k], a->module.table, &s, &err) != 0)
        return fail_err(f, &err);
    rc = audit_outputs_new(&s, &o, f);
    if (rc == 0)
        rc = probe_scene(a, &s, &set, &o, k, f);
    scene_release(&s);
    return rc == 0 ? 0 : fail_ctx(f, "workload '%s'", a->probes[k]->name);
}

/* The output with the largest of these numbers. */
static int worst_output(const struct audit *a, size_t offset)
{
    int worst = 0;

#define AT(i) (*(const double *)((const char *)&a->findings[i] + offset))
    for (int i = 1; i < a->pack->n_outputs; i++)
        if (AT(i) > AT(worst))
            worst = i;
#undef AT
    return worst;
}

static void report_reference(struct audit *a)
{
    int w = worst_output(a, offsetof(struct audit_findings, wide));
    const struct audit_findings *f = &a->findings[w];
    const char *name = a->pack->outputs[w].name;

    for (int i = 0; i < a->pack->n_outputs; i++) {
        const struct audit_findings *o = &a->findings[i];

        if (o->values < EXACT_MIN || o->exact < o->values || !has_slack(&a->pack->outputs[i].tol))
            continue;
        audit_report(
            a, "reference", AUDIT_FAILED,
            "all %zu values of output '%s' are exact in single precision, though its tolerance "
            "allows for errors: the reference does not compute in double",
            o->values, a->pack->outputs[i].name);
        return;
    }
    if (a->wide.table == NULL)
        audit_report(a, "reference", AUDIT_SKIPPED,
                     "not checked against a wider type: the reference is fixed to double");
    else if (!(f->wide < WIDE_SHARE))
        audit_report(
            a, "reference", AUDIT_FAILED,
            "double and long double differ by %.3g of the tolerance of output '%s'; below %g "
            "is needed",
            f->wide, name, WIDE_SHARE);
    else
        audit_report(a, "reference", AUDIT_OK,
                     "double and long double differ by at most %.2g of the tolerance (output '%s')",
                     f->wide, name);
}

static void report_noise(struct audit *a)
{
    bool single = a->single.table != NULL;
    int w = worst_output(a, single ? offsetof(struct audit_findings, single)
                                   : offsetof(struct audit_findings, rounding));
    double share = single ? a->findings[w].single : a->findings[w].rounding;
    const char *name = a->pack->outputs[w].name,
               *what = single ? "honest single precision" : "rounding the exact result once";

    if (!(share < 1))
        audit_report(a, "tolerance", AUDIT_FAILED,
                     "too tight: %s uses %.3g times the tolerance of output '%s'", what, share,
                     name);
    else if (share > NOISE_SHARE)
        audit_report(a, "tolerance", AUDIT_WARNING,
                     "tight: %s uses %.3g of the tolerance of output '%s'", what, share, name);
    else
        audit_report(
            a, "tolerance", AUDIT_OK, "%s uses %.2g of the tolerance of output '%s'%s", what, share,
            name, single ? "" : "; its own error is not known, the reference is fixed to double");
}

static void report_tampering(struct audit *a)
{
    char missed[400] = "", factor[300] = "";
    size_t n = 0, m = 0;

    for (int i = 0; i < a->pack->n_outputs; i++) {
        const struct audit_findings *f = &a->findings[i];
        const char *name = a->pack->outputs[i].name;

        for (int how = 0; how < TAMPER_FACTOR && n < sizeof(missed); how++)
            if (f->tampered[how] > 0 && f->rejected[how] == 0)
                n += (size_t)snprintf(missed + n, sizeof(missed) - n, "%s%s of '%s'", n ? ", " : "",
                                      tamper_name((enum tamper)how), name);
        if (f->tampered[TAMPER_FACTOR] > 0 && f->rejected[TAMPER_FACTOR] == 0 && m < sizeof(factor))
            m += (size_t)snprintf(factor + m, sizeof(factor) - m, "%s'%s'", m ? ", " : "", name);
    }
    if (n > 0)
        audit_report(a, "dishonest", AUDIT_FAILED, "too loose: the tolerance lets pass %s", missed);
    else
        audit_report(a, "dishonest", AUDIT_OK,
                     "zeros, a zero row and shifted rows are rejected%s%s",
                     m > 0 ? "; a factor of 1.05 passes in " : ", so is a factor of 1.05", factor);
}

/* A share of a tolerance; more than all of it by any factor is shown as such. */
static json_t *share_json(double v)
{
    return json_real(isfinite(v) ? MIN(v, 1e9) : 1e9);
}

static json_t *tampering_json(const struct audit_findings *f)
{
    json_t *o = json_object();

    for (int how = 0; how < TAMPER_COUNT; how++)
        json_object_set_new(
            o, tamper_name((enum tamper)how),
            json_pack("{s:i, s:i}", "rejected", f->rejected[how], "of", f->tampered[how]));
    return o;
}

static void add_tolerance(struct audit *a)
{
    bool known = a->wide.table != NULL;

    for (int i = 0; i < a->pack->n_outputs; i++) {
        const struct audit_findings *f = &a->findings[i];

        json_array_append_new(a->tolerance,
                              json_pack("{s:s, s:o, s:o, s:o, s:o}", "output",
                                        a->pack->outputs[i].name, "reference",
                                        known ? share_json(f->wide) : json_null(), "single",
                                        known ? share_json(f->single) : json_null(), "rounding",
                                        share_json(f->rounding), "tampered", tampering_json(f)));
    }
}

void audit_check_values(struct audit *a)
{
    struct fail f = { .class = FAIL_OK };

    for (int k = 0; k < a->n_probes; k++) {
        if (probe_values(a, k, &f) != 0) {
            audit_report(a, "reference", AUDIT_FAILED, "%s", f.msg);
            return;
        }
    }
    report_reference(a);
    report_noise(a);
    report_tampering(a);
    add_tolerance(a);
}
