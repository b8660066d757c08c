/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads of a task: sizes, and whether the module takes them; see audit_impl.h. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit_impl.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "shape.h"

#define PROBE_BYTES_MAX (256ull << 20) /* of inputs and outputs of all probes */
#define TRY_BYTES_MAX (64ull << 20)    /* inputs up to here are generated once in every set, */
#define TRY_TOTAL_MAX (1ull << 30)     /* as long as all that were have no more than this */
#define SETS_MAX 32
#define MEMORY_SHARE 0.8 /* of the machine's, that a workload may need */

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

/* In what cells of two programs, as many pristine sets as a contest stages, and expected take. */
int audit_size_of(const struct pack *p, const struct workload *w, struct audit_size *out,
                  struct err *err)
{
    struct cell_shape shape = { .n_inputs = p->n_inputs, .n_outputs = p->n_outputs };
    struct audit_size size = { 0 };
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

const char *audit_too_large(const struct audit_size *s, char *out, size_t size)
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
static enum audit_status try_workload(struct audit *a, const struct pack *p,
                                      const struct workload *w, struct audit_size *size, char *why,
                                      size_t why_size)
{
    struct input_set set = { { 0 } };
    struct scene scene;
    struct fail f = { .class = FAIL_OK };
    struct err err;
    int rc;

    if (audit_size_of(p, w, size, &err) != 0) {
        snprintf(why, why_size, "%s", err.msg);
        return AUDIT_FAILED;
    }
    if (audit_too_large(size, why, why_size)[0] != '\0')
        return AUDIT_SKIPPED;
    if (size->inputs > TRY_BYTES_MAX || a->tried + size->inputs > TRY_TOTAL_MAX)
        return AUDIT_OK;
    a->tried += size->inputs;
    a->n_tried++;
    if (scene_init(p, w, a->module.table, &scene, &err) != 0) {
        snprintf(why, why_size, "%s", err.msg);
        return AUDIT_FAILED;
    }
    rc = scene_generate(&scene, a->job->seed, &set, &f);
    input_set_release(&set);
    scene_release(&scene);
    snprintf(why, why_size, "%s", rc == 0 ? "" : f.msg);
    return rc == 0 ? AUDIT_OK : AUDIT_FAILED;
}

/* Workloads by outcome, and the first sentence of each. */
struct tally {
    int n[AUDIT_SKIPPED + 1];
    char first[AUDIT_SKIPPED + 1][400];
};

static void tally_add(struct tally *t, enum audit_status status, const char *set,
                      const char *workload, const char *why)
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
        tally_add(t, AUDIT_FAILED, name, NULL, err.msg);
    for (int i = 0; p && i < p->n_workloads; i++) {
        struct audit_size size = { 0 };
        char why[700] = "", seen[800];
        enum audit_status status = try_workload(a, p, &p->workloads[i], &size, why, sizeof(why));

        tally_add(t, status, name, p->workloads[i].name, why);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", p->workloads[i].name,
                                        "status", audit_status_name(status), "message",
                                        str_visible(why, strlen(why), seen, sizeof(seen)),
                                        "tensor_bytes", (json_int_t)(size.inputs + size.outputs),
                                        "memory_bytes", (json_int_t)size.memory));
    }
    pack_free(p);
    json_array_append_new(a->sets, json_pack("{s:s, s:o}", "set", name, "workloads", list));
}

void audit_check_workloads(struct audit *a)
{
    char *names[SETS_MAX];
    int n = list_sets(a->pack, names);
    struct tally t = { 0 };

    for (int i = 0; i < n; i++) {
        try_set(a, names[i], &t);
        free(names[i]);
    }
    if (t.n[AUDIT_FAILED] > 0)
        audit_report(a, "workloads", AUDIT_FAILED, "%d of %d in %d sets are wrong; the first is %s",
                     t.n[AUDIT_FAILED], t.n[AUDIT_OK] + t.n[AUDIT_FAILED] + t.n[AUDIT_SKIPPED], n,
                     t.first[AUDIT_FAILED]);
    else if (t.n[AUDIT_SKIPPED] > 0)
        audit_report(
            a, "workloads", AUDIT_OK,
            "%d in %d sets, inputs of %d made; %d are too large for this machine and were left "
            "out: %s",
            t.n[AUDIT_OK] + t.n[AUDIT_SKIPPED], n, a->n_tried, t.n[AUDIT_SKIPPED],
            t.first[AUDIT_SKIPPED]);
    else
        audit_report(a, "workloads", AUDIT_OK, "%d in %d sets, inputs of %d made", t.n[AUDIT_OK], n,
                     a->n_tried);
}

/* ---- the workloads that are looked at closely ---- */

void audit_choose_probes(struct audit *a)
{
    const struct pack *p = a->smoke ? a->smoke : a->pack;
    uint64_t left = PROBE_BYTES_MAX;
    bool taken[PACK_WORKLOADS_MAX] = { false };

    while (a->n_probes < AUDIT_PROBES_MAX) {
        uint64_t least = UINT64_MAX;
        int best = -1;

        for (int i = 0; i < p->n_workloads; i++) {
            struct audit_size s;
            struct err ignored;

            if (taken[i] || audit_size_of(p, &p->workloads[i], &s, &ignored) != 0 ||
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
