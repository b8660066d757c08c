/* SPDX-License-Identifier: Apache-2.0 */
/* Checking a task; see audit.h. Each check adds one entry to "checks" and changes nothing else. */
#include "audit.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit_values.h"
#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "build.h"
#include "evaluate.h"
#include "shape.h"

#define PROBES_MAX 8                   /* workloads whose values are looked at */
#define PROBE_BYTES_MAX (256ull << 20) /* of inputs and outputs of all of them */
#define TRY_BYTES_MAX (64ull << 20)    /* inputs up to here are generated once in every set, */
#define TRY_TOTAL_MAX (1ull << 30)     /* as long as all that were have no more than this */
#define SETS_MAX 32
#define MEMORY_SHARE 0.8 /* of the machine's, that a workload may need */
#define WIDE_SHARE 0.01  /* of the tolerance, that the reference's own error may use */
#define NOISE_SHARE 0.5  /* of the tolerance, that honest single precision should leave */
#define EXACT_MIN 16     /* values, from which "all are exact" says something */

enum status { OK, WARNING, FAILED, SKIPPED };

static const char *const status_names[] = { "ok", "warning", "failed", "skipped" };

/* What the probes said about one output. */
struct findings {
    double wide, single, rounding; /* worst share of the tolerance */
    size_t values, exact;          /* finite and not zero; of these, exact in single precision */
    int tampered[TAMPER_COUNT], rejected[TAMPER_COUNT]; /* workloads */
};

struct audit {
    const struct job *job;
    json_t *checks, *sets, *tolerance, *programs, *timing;
    int failures;
    struct pack *pack;  /* with the job's set */
    struct pack *smoke; /* with the set "smoke"; NULL when there is none */
    uint64_t tried;     /* bytes of inputs that check_workloads generated, */
    int n_tried;        /* and workloads */
    const struct workload *probes[PROBES_MAX];
    int n_probes;
    struct task_module module, wide, single; /* in double, long double and float */
    struct findings findings[KS_TENSORS_MAX];
};

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

/* ---- the record ---- */

/* Adds the outcome of a check; what is printed is data of the pack, so it is made visible. */
static void report(struct audit *a, const char *name, enum status status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void report(struct audit *a, const char *name, enum status status, const char *fmt, ...)
{
    char text[900], seen[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    str_visible(text, strlen(text), seen, sizeof(seen));
    a->failures += status == FAILED;
    json_array_append_new(a->checks, json_pack("{s:s, s:s, s:s}", "name", name, "status",
                                               status_names[status], "message", seen));
}

static json_t *number(bool known, double v)
{
    return known && isfinite(v) ? json_real(v) : json_null();
}

/* A share of a tolerance; more than all of it by any factor is shown as such. */
static json_t *share_json(double v)
{
    return json_real(isfinite(v) ? MIN(v, 1e9) : 1e9);
}

/* ---- sizes ---- */

static uint64_t machine_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static int tensor_bytes(const struct pack *p, const struct workload *w, const struct pack_tensor *t,
                        size_t *elements, size_t *bytes, struct err *err)
{
    struct ks_tensor shape = { .name = t->name, .dtype = t->dtype, .rank = t->rank };

    for (int d = 0; d < t->rank; d++)
        if (shape_eval(t->shape[d], w->axes, p->n_axes, &shape.shape[d], err) != 0)
            return err_ctx(err, "tensor '%s'", t->name);
    return shape_count(&shape, elements, bytes, err);
}

struct size {
    uint64_t inputs, outputs; /* bytes of the tensors */
    uint64_t memory;          /* that an evaluation of two programs takes, without the reference */
};

/* In what cells of two programs, as many pristine sets as a contest stages, and expected take. */
static int workload_size(const struct pack *p, const struct workload *w, struct size *out,
                         struct err *err)
{
    struct cell_shape shape = { .n_inputs = p->n_inputs, .n_outputs = p->n_outputs };
    struct size size = { 0 };
    size_t elements, expected = 0;
    int64_t scratch;
    int cells;

    for (int i = 0; i < p->n_inputs; i++) {
        if (tensor_bytes(p, w, &p->inputs[i], &elements, &shape.bytes[i], err) != 0)
            return -1;
        size.inputs += shape.bytes[i];
    }
    for (int i = 0; i < p->n_outputs; i++) {
        if (tensor_bytes(p, w, &p->outputs[i], &elements, &shape.bytes[p->n_inputs + i], err) != 0)
            return -1;
        size.outputs += shape.bytes[p->n_inputs + i];
        expected += elements * sizeof(double);
    }
    if (shape_eval(p->scratch, w->axes, p->n_axes, &scratch, err) != 0)
        return err_ctx(err, "'scratch_bytes'");
    shape.bytes[p->n_inputs + p->n_outputs] = (size_t)scratch;
    cells = contest_cells(&shape);
    size.memory = 2 * arena_need(&shape, cells) + (uint64_t)cells * size.inputs + expected;
    *out = size;
    return 0;
}

/* Why this machine cannot run the workload; "" when it can. */
static const char *too_large(const struct size *s, char *out, size_t size)
{
    double most = MEMORY_SHARE * (double)machine_bytes();

    out[0] = '\0';
    if (s->memory / 2 > ARENA_BYTES_MAX)
        snprintf(out, size, "needs %.1f GiB, more than the harness places",
                 (double)s->memory / 0x1p30);
    else if (most > 0 && (double)s->memory > most)
        snprintf(out, size, "needs %.1f GiB of memory; this machine has %.1f",
                 (double)s->memory / 0x1p30, (double)machine_bytes() / 0x1p30);
    return out;
}

/* ---- modules ---- */

static bool load_modules(struct audit *a)
{
    struct fail f;

    if (module_load(a->job, a->pack, NULL, &a->module, &f) != 0) {
        report(a, "module", FAILED, "%s", f.msg);
        return false;
    }
    if (a->module.table->real_bytes == 0) {
        report(a, "module", OK, "builds and loads; the reference is fixed to double");
        return true;
    }
    if (module_load(a->job, a->pack, "long double", &a->wide, &f) != 0 ||
        module_load(a->job, a->pack, "float", &a->single, &f) != 0) {
        report(a, "module", FAILED, "with another KS_REAL: %s", f.msg);
        return false;
    }
    if (a->module.table->real_bytes != sizeof(double) ||
        a->wide.table->real_bytes != sizeof(long double) ||
        a->single.table->real_bytes != sizeof(float)) {
        report(a, "module", FAILED,
               "real_bytes is %zu, %zu and %zu with KS_REAL double, long double and float; it has "
               "to be sizeof(ks_real), or 0 for a reference that is fixed to double",
               a->module.table->real_bytes, a->wide.table->real_bytes, a->single.table->real_bytes);
        return false;
    }
    report(a, "module", OK, "builds and loads in double, long double and float");
    return true;
}

/* ---- workload sets ---- */

static bool is_other_definition(const struct pack *p, const char *stem)
{
    size_t i;
    json_t *item;

    json_array_foreach (json_object_get(p->root, "definitions"), i, item) {
        const char *name = jsonx_str(item, "name", "");

        if (*name && str_has_prefix(stem, name) && stem[strlen(name)] == '.')
            return true;
    }
    return false;
}

static int is_workload_file(const struct dirent *e)
{
    return e->d_name[0] != '.' && str_has_suffix(e->d_name, ".jsonl");
}

/* The names of the definition's sets, "cpu.jsonl" and "DEFINITION.cpu.jsonl" once; owned. */
static int list_sets(const struct pack *p, char *names[SETS_MAX])
{
    CLEANUP(freep) char *dir = str_printf("%s/workloads", p->dir);
    CLEANUP(freep) char *own = str_printf("%s.", p->definition);
    struct dirent **files = NULL;
    int n = dir && own ? scandir(dir, &files, is_workload_file, alphasort) : 0, kept = 0;

    for (int i = 0; i < n; i++) {
        char *stem = files[i]->d_name;
        bool known = false;

        stem[strlen(stem) - strlen(".jsonl")] = '\0';
        if (str_has_prefix(stem, own))
            stem += strlen(own);
        else if (is_other_definition(p, stem))
            known = true;
        for (int k = 0; k < kept; k++)
            known = known || strcmp(names[k], stem) == 0;
        if (!known && kept < SETS_MAX && (names[kept] = strdup(stem)) != NULL)
            kept++;
        free(files[i]);
    }
    free(files);
    return kept;
}

/* Sizes, and whether the module takes its parameters. */
static enum status try_workload(struct audit *a, const struct pack *p, const struct workload *w,
                                struct size *size, char *why, size_t why_size)
{
    struct input_set set = { { 0 } };
    struct scene scene;
    struct fail f = { .class = FAIL_OK };
    struct err err;
    int rc;

    if (workload_size(p, w, size, &err) != 0) {
        snprintf(why, why_size, "%s", err.msg);
        return FAILED;
    }
    if (too_large(size, why, why_size)[0] != '\0')
        return SKIPPED;
    if (size->inputs > TRY_BYTES_MAX || a->tried + size->inputs > TRY_TOTAL_MAX)
        return OK;
    a->tried += size->inputs;
    a->n_tried++;
    if (scene_init(p, w, a->module.table, &scene, &err) != 0) {
        snprintf(why, why_size, "%s", err.msg);
        return FAILED;
    }
    rc = scene_generate(&scene, a->job->seed, &set, &f);
    input_set_release(&set);
    scene_release(&scene);
    snprintf(why, why_size, "%s", rc == 0 ? "" : f.msg);
    return rc == 0 ? OK : FAILED;
}

/* Workloads by outcome, and the first sentence of each. */
struct tally {
    int n[SKIPPED + 1];
    char first[SKIPPED + 1][400];
};

static void tally_add(struct tally *t, enum status status, const char *set, const char *workload,
                      const char *why)
{
    if (t->n[status]++ == 0)
        snprintf(t->first[status], sizeof(t->first[status]), "%s%s%s: %.300s", set,
                 workload ? "/" : "", workload ? workload : "", why);
}

static void try_set(struct audit *a, const char *name, struct tally *t)
{
    json_t *list = json_array();
    struct pack *p = NULL;
    struct err err;

    if (pack_load(a->job->pack, a->job->definition, name, &p, &err) != 0)
        tally_add(t, FAILED, name, NULL, err.msg);
    for (int i = 0; p && i < p->n_workloads; i++) {
        struct size size = { 0 };
        char why[700] = "", seen[800];
        enum status status = try_workload(a, p, &p->workloads[i], &size, why, sizeof(why));

        tally_add(t, status, name, p->workloads[i].name, why);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", p->workloads[i].name,
                                        "status", status_names[status], "message",
                                        str_visible(why, strlen(why), seen, sizeof(seen)),
                                        "tensor_bytes", (json_int_t)(size.inputs + size.outputs),
                                        "memory_bytes", (json_int_t)size.memory));
    }
    pack_free(p);
    json_array_append_new(a->sets, json_pack("{s:s, s:o}", "set", name, "workloads", list));
}

static void check_workloads(struct audit *a)
{
    char *names[SETS_MAX];
    int n = list_sets(a->pack, names);
    struct tally t = { 0 };

    for (int i = 0; i < n; i++) {
        try_set(a, names[i], &t);
        free(names[i]);
    }
    if (t.n[FAILED] > 0)
        report(a, "workloads", FAILED, "%d of %d in %d sets are wrong; the first is %s",
               t.n[FAILED], t.n[OK] + t.n[FAILED] + t.n[SKIPPED], n, t.first[FAILED]);
    else if (t.n[SKIPPED] > 0)
        report(a, "workloads", OK,
               "%d in %d sets, inputs of %d made; %d are too large for this machine and were left "
               "out: %s",
               t.n[OK] + t.n[SKIPPED], n, a->n_tried, t.n[SKIPPED], t.first[SKIPPED]);
    else
        report(a, "workloads", OK, "%d in %d sets, inputs of %d made", t.n[OK], n, a->n_tried);
}

/* ---- the workloads that are looked at closely ---- */

/* Those of the set "smoke", or the smallest of the job's set: small ones first. */
static void choose_probes(struct audit *a)
{
    const struct pack *p = a->smoke ? a->smoke : a->pack;
    uint64_t left = PROBE_BYTES_MAX;
    bool taken[PACK_WORKLOADS_MAX] = { false };

    while (a->n_probes < PROBES_MAX) {
        uint64_t least = UINT64_MAX;
        int best = -1;

        for (int i = 0; i < p->n_workloads; i++) {
            struct size s;
            struct err ignored;

            if (taken[i] || workload_size(p, &p->workloads[i], &s, &ignored) != 0 ||
                s.inputs + s.outputs >= least)
                continue;
            least = s.inputs + s.outputs;
            best = i;
        }
        if (best < 0 || least > left)
            return;
        taken[best] = true;
        left -= least;
        a->probes[a->n_probes++] = &p->workloads[best];
    }
}

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

static void check_generator(struct audit *a)
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
        report(a, "generator", FAILED, "%s", f.msg);
    else
        report(a, "generator", OK,
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
static void count_exact(const struct scene *s, int i, struct findings *f)
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
        struct findings *found = &a->findings[i];
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
    int w = worst_output(a, offsetof(struct findings, wide));
    const struct findings *f = &a->findings[w];
    const char *name = a->pack->outputs[w].name;

    for (int i = 0; i < a->pack->n_outputs; i++) {
        const struct findings *o = &a->findings[i];

        if (o->values < EXACT_MIN || o->exact < o->values || !has_slack(&a->pack->outputs[i].tol))
            continue;
        report(a, "reference", FAILED,
               "all %zu values of output '%s' are exact in single precision, though its tolerance "
               "allows for errors: the reference does not compute in double",
               o->values, a->pack->outputs[i].name);
        return;
    }
    if (a->wide.table == NULL)
        report(a, "reference", SKIPPED,
               "not checked against a wider type: the reference is fixed to double");
    else if (!(f->wide < WIDE_SHARE))
        report(a, "reference", FAILED,
               "double and long double differ by %.3g of the tolerance of output '%s'; below %g "
               "is needed",
               f->wide, name, WIDE_SHARE);
    else
        report(a, "reference", OK,
               "double and long double differ by at most %.2g of the tolerance (output '%s')",
               f->wide, name);
}

static void report_noise(struct audit *a)
{
    bool single = a->single.table != NULL;
    int w = worst_output(a, single ? offsetof(struct findings, single)
                                   : offsetof(struct findings, rounding));
    double share = single ? a->findings[w].single : a->findings[w].rounding;
    const char *name = a->pack->outputs[w].name,
               *what = single ? "honest single precision" : "rounding the exact result once";

    if (!(share < 1))
        report(a, "tolerance", FAILED, "too tight: %s uses %.3g times the tolerance of output '%s'",
               what, share, name);
    else if (share > NOISE_SHARE)
        report(a, "tolerance", WARNING, "tight: %s uses %.3g of the tolerance of output '%s'", what,
               share, name);
    else
        report(a, "tolerance", OK, "%s uses %.2g of the tolerance of output '%s'%s", what, share,
               name,
               single ? "" : "; its own error is not known, the reference is fixed to double");
}

static void report_tampering(struct audit *a)
{
    char missed[400] = "", factor[300] = "";
    size_t n = 0, m = 0;

    for (int i = 0; i < a->pack->n_outputs; i++) {
        const struct findings *f = &a->findings[i];
        const char *name = a->pack->outputs[i].name;

        for (int how = 0; how < TAMPER_FACTOR && n < sizeof(missed); how++)
            if (f->tampered[how] > 0 && f->rejected[how] == 0)
                n += (size_t)snprintf(missed + n, sizeof(missed) - n, "%s%s of '%s'", n ? ", " : "",
                                      tamper_name((enum tamper)how), name);
        if (f->tampered[TAMPER_FACTOR] > 0 && f->rejected[TAMPER_FACTOR] == 0 && m < sizeof(factor))
            m += (size_t)snprintf(factor + m, sizeof(factor) - m, "%s'%s'", m ? ", " : "", name);
    }
    if (n > 0)
        report(a, "dishonest", FAILED, "too loose: the tolerance lets pass %s", missed);
    else
        report(a, "dishonest", OK, "zeros, a zero row and shifted rows are rejected%s%s",
               m > 0 ? "; a factor of 1.05 passes in " : ", so is a factor of 1.05", factor);
}

static json_t *tampering_json(const struct findings *f)
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
        const struct findings *f = &a->findings[i];

        json_array_append_new(a->tolerance,
                              json_pack("{s:s, s:o, s:o, s:o, s:o}", "output",
                                        a->pack->outputs[i].name, "reference",
                                        known ? share_json(f->wide) : json_null(), "single",
                                        known ? share_json(f->single) : json_null(), "rounding",
                                        share_json(f->rounding), "tampered", tampering_json(f)));
    }
}

static void check_values(struct audit *a)
{
    struct fail f = { .class = FAIL_OK };

    for (int k = 0; k < a->n_probes; k++) {
        if (probe_values(a, k, &f) != 0) {
            report(a, "reference", FAILED, "%s", f.msg);
            return;
        }
    }
    report_reference(a);
    report_noise(a);
    report_tampering(a);
    add_tolerance(a);
}

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

    json_object_set_new(o, "intensity", number(r->cost.bytes > 0, r->cost.flops / r->cost.bytes));
    json_object_set_new(o, "bound", bound ? json_string(bound) : json_null());
    json_object_set_new(o, "floor_ns", number(bound != NULL, floor_ns));
    json_object_set_new(o, "baseline_ns", number(true, base));
    json_object_set_new(o, "template_ns", number(template, own));
    json_object_set_new(o, "baseline_roofline", number(bound != NULL, floor_ns / base));
    json_object_set_new(o, "template_roofline", number(template && bound, floor_ns / own));
    json_object_set_new(o, "ratio", number(template, exp(r->ratio.log_ratio)));
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
                  "workloads", e.n_results, "objective", number(timed, exp(e.objective.log_ratio)),
                  "ci_low", number(timed, exp(e.objective.log_ratio - e.objective.half)), "ci_high",
                  number(timed, exp(e.objective.log_ratio + e.objective.half))));
    if (timed)
        add_timing(a, p, &e, strcmp(what, "template") == 0);
    return e.fail.class;
}

/* Why this machine cannot run some workload of the set; "" when it can. */
static const char *set_too_large(const struct pack *p, char *out, size_t size)
{
    struct size s;
    struct err ignored;

    out[0] = '\0';
    for (int i = 0; i < p->n_workloads && out[0] == '\0'; i++)
        if (workload_size(p, &p->workloads[i], &s, &ignored) == 0)
            too_large(&s, out, size);
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
            report(a, what, SKIPPED, "set '%s' is too large for this machine: it %s", names[i],
                   large);
            return;
        }
        class = run_program(a, what, packs[i], names[i], program, why, sizeof(why));
        if (class == FAIL_UNSTABLE) { /* right, but this machine is too busy to time it */
            report(a, what, WARNING, "%s", why);
            return;
        }
        if (class != FAIL_OK) {
            report(a, what, FAILED, "%s", why);
            return;
        }
        done++;
    }
    report(a, what, OK, "agrees with the reference on %s%s%s", names[done > 1 || !a->smoke],
           done > 1 ? " and " : "", done > 1 ? names[0] : "");
}

static void check_programs(struct audit *a)
{
    CLEANUP(program_release) struct program baseline = { 0 };
    struct err err;

    if (pack_read(a->pack, a->pack->baseline, &baseline.source, &err) != 0)
        report(a, "baseline", FAILED, "%s", err.msg);
    else
        check_program(a, "baseline", &baseline);
    if (a->pack->template_source != NULL)
        check_program(a, "template", &a->job->candidate);
    else
        report(a, "template", SKIPPED, "the pack has none: it can be measured, not searched");
}

/* The pack says what binds its kernels; the arithmetic has to agree. */
static void check_bottleneck(struct audit *a)
{
    const char *said = jsonx_str(a->pack->root, "bottleneck", ""), *bound = NULL;
    size_t i, n = json_array_size(a->timing), agree = 0;
    json_t *row;

    if (n == 0 || !json_is_string(json_object_get(json_array_get(a->timing, 0), "bound"))) {
        report(a, "roofline", SKIPPED,
               n == 0 ? "nothing was timed" : "the device's rates are not known");
        return;
    }
    json_array_foreach (a->timing, i, row) {
        bound = jsonx_str(row, "bound", "");
        agree += strcmp(bound, said) == 0;
    }
    if (agree == 0 && (strcmp(said, "memory") == 0 || strcmp(said, "compute") == 0))
        report(a, "roofline", WARNING,
               "'bottleneck' is \"%s\", but on this device the floor of all %zu workloads is set "
               "by %s",
               said, n, bound);
    else
        report(a, "roofline", OK, "%zu workloads were timed against the device's rates", n);
}

/* ---- the whole ---- */

static bool load_packs(struct audit *a)
{
    const struct job *job = a->job;
    struct err err;

    if (pack_load(job->pack, job->definition, job->set, &a->pack, &err) != 0) {
        report(a, "pack", FAILED, "%s", err.msg);
        return false;
    }
    if (strcmp(job->set, "smoke") != 0 &&
        pack_load(job->pack, job->definition, "smoke", &a->smoke, &err) != 0 &&
        err.code != ERR_NOT_FOUND) {
        report(a, "pack", FAILED, "%s", err.msg);
        return false;
    }
    report(a, "pack", OK, "task.json and the workloads of '%s'%s can be read", job->set,
           a->smoke ? " and 'smoke'" : "");
    return true;
}

static void run_checks(struct audit *a)
{
    if (!load_packs(a) || !load_modules(a))
        return;
    check_workloads(a);
    choose_probes(a);
    if (a->n_probes == 0) {
        report(a, "generator", SKIPPED, "no workload is small enough to look at its values");
    } else {
        check_generator(a);
        check_values(a);
    }
    check_programs(a);
    check_bottleneck(a);
}

static json_t *make_record(const struct audit *a, uint64_t start_ns)
{
    char compiler[64], message[64] = "";

    build_compiler(compiler, sizeof(compiler));
    if (a->failures > 0)
        snprintf(message, sizeof(message), "%d of %zu checks failed", a->failures,
                 json_array_size(a->checks));
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:O, s:O, s:O, s:O, s:O, s:{s:s, s:s, s:s, s:i}, s:{s:f}}",
        "format", 1, "definition", a->job->definition, "set", a->job->set, "status",
        a->failures > 0 ? "failed" : "ok", "message", message, "checks", a->checks, "sets", a->sets,
        "tolerance", a->tolerance, "programs", a->programs, "timing", a->timing, "env", "cc",
        compiler, "march", a->job->march, "sandbox",
        a->job->sandbox == SANDBOX_BWRAP ? "bwrap" : "none", "threads", a->job->threads, "time",
        "total_ms", (double)(now_ns() - start_ns) / 1e6);
}

static void audit_release(struct audit *a)
{
    module_release(&a->module);
    module_release(&a->wide);
    module_release(&a->single);
    pack_free(a->pack);
    pack_free(a->smoke);
    json_decref(a->checks);
    json_decref(a->sets);
    json_decref(a->tolerance);
    json_decref(a->programs);
    json_decref(a->timing);
}

int audit(const struct job *job, json_t **record, struct err *err)
{
    CLEANUP(audit_release)
    struct audit a = { .job = job,
                       .checks = json_array(),
                       .sets = json_array(),
                       .tolerance = json_array(),
                       .programs = json_array(),
                       .timing = json_array(),
                       .module = { .fd = -1 },
                       .wide = { .fd = -1 },
                       .single = { .fd = -1 } };
    uint64_t start = now_ns();
    json_t *made;

    run_checks(&a);
    made = make_record(&a, start);
    if (made == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the record");
    *record = made;
    return 0;
}
