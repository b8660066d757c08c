/* SPDX-License-Identifier: Apache-2.0 */
/* One workload's data; see scene.h. */
#include "scene.h"

#include <math.h>

#include "base/mem.h"
#include "base/str.h"
#include "check.h"
#include "shape.h"

#define PATCH_SHARE 16    /* a patch is this part of its tensor */
#define PART_ELEMENTS 512 /* of an output, looked at in one place; more when a row is longer */
#define LOOK_BYTES 4096   /* of an input, looked at in one place, */
#define LOOKS 16          /* in so many places */

static int fill_tensor(struct scene *s, const struct pack_tensor *p, int i, struct err *err)
{
    struct ks_tensor *t = &s->tensors[i];

    t->name = p->name;
    t->dtype = p->dtype;
    t->rank = p->rank;
    s->names[i] = p->name;
    for (int d = 0; d < p->rank; d++)
        if (shape_eval(p->shape[d], s->workload->axes, s->pack->n_axes, &t->shape[d], err) != 0)
            return err_ctx(err, "tensor '%s'", p->name);
    return shape_count(t, &s->elements[i], &s->shape.bytes[i], err);
}

int scene_init(const struct pack *pack, const struct workload *w,
               const struct ks_task_module *module, struct scene *out, struct err *err)
{
    struct scene s = { .pack = pack, .workload = w, .module = module };
    int n = pack->n_inputs + pack->n_outputs;
    int64_t scratch;

    s.problem =
        (struct ks_problem){ pack->definition, pack->n_axes, w->n_params, w->axes, w->params };
    s.shape.n_inputs = pack->n_inputs;
    s.shape.n_outputs = pack->n_outputs;
    s.names[n] = "scratch";
    for (int i = 0; i < n; i++)
        if (fill_tensor(&s,
                        i < pack->n_inputs ? &pack->inputs[i] : &pack->outputs[i - pack->n_inputs],
                        i, err) != 0)
            return err_ctx(err, "workload '%s'", w->name);
    if (shape_eval(pack->scratch, w->axes, pack->n_axes, &scratch, err) != 0)
        return err_ctx(err, "'scratch_bytes'");
    s.shape.bytes[n] = (size_t)scratch;
    if (arena_need(&s.shape, 2) > ARENA_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "workload '%s' needs more than %llu bytes", w->name,
                       ARENA_BYTES_MAX);
    for (int i = 0; i < pack->n_outputs; i++) {
        s.expected[i] = calloc(s.elements[pack->n_inputs + i] + 1, sizeof(double));
        if (s.expected[i] == NULL) {
            scene_release(&s);
            return err_set(err, ERR_NOMEM, "no memory for the outputs of workload '%s'", w->name);
        }
    }
    *out = s;
    return 0;
}

void scene_release(struct scene *s)
{
    for (int i = 0; i < KS_TENSORS_MAX; i++) {
        free(s->expected[i]);
        s->expected[i] = NULL;
    }
}

void input_set_release(struct input_set *set)
{
    for (int i = 0; i < KS_TENSORS_MAX; i++) {
        free(set->data[i]);
        set->data[i] = NULL;
    }
}

static void lend_inputs(const struct scene *s, const struct input_set *set,
                        struct ks_tensor *inputs)
{
    memcpy(inputs, s->tensors, sizeof(s->tensors));
    for (int i = 0; i < s->shape.n_inputs; i++)
        inputs[i].data = set->data[i];
}

int scene_generate(const struct scene *s, uint64_t seed, struct input_set *set, struct fail *f)
{
    struct ks_tensor inputs[KS_TENSORS_MAX];
    char why[256] = "it did not say why";

    for (int i = 0; i < s->shape.n_inputs; i++) {
        size_t size = (s->shape.bytes[i] + 64) / 64 * 64;

        if (set->data[i] == NULL && (set->data[i] = aligned_alloc(64, size)) == NULL)
            return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the inputs of workload '%s'",
                            s->workload->name);
    }
    lend_inputs(s, set, inputs);
    if (s->module->generate(&s->problem, seed, inputs, s->shape.n_inputs, why, sizeof(why)) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE,
                        "the task could not make the inputs of '%s': %.200s", s->workload->name,
                        why);
    return 0;
}

int scene_expect(struct scene *s, const struct input_set *set, int threads, struct fail *f)
{
    struct ks_tensor inputs[KS_TENSORS_MAX];
    char why[256] = "it did not say why";

    lend_inputs(s, set, inputs);
    if (s->module->reference(&s->problem, inputs, s->shape.n_inputs, s->expected,
                             s->shape.n_outputs, threads, why, sizeof(why)) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the task's reference failed on '%s': %.200s",
                        s->workload->name, why);
    return 0;
}

void scene_cost(const struct scene *s, const struct input_set *set, struct ks_cost *out)
{
    struct ks_tensor inputs[KS_TENSORS_MAX];

    lend_inputs(s, set, inputs);
    *out = (struct ks_cost){ 0 };
    s->module->cost(&s->problem, inputs, s->shape.n_inputs, out);
}

void scene_stage(const struct scene *s, const struct input_set *set, struct arena *a,
                 const struct cell *c)
{
    for (int i = 0; i < s->shape.n_inputs; i++)
        memcpy(arena_at(a, c, i), set->data[i], s->shape.bytes[i]);
    arena_poison(a, &s->shape, c);
}

/* ---- new contents ---- */

static bool is_nan_at(enum ks_dtype dtype, const void *data, size_t i)
{
    double v;

    dtype_decode(dtype, data, i, 1, &v);
    return isnan(v);
}

static void swap_ranges(enum ks_dtype dtype, void *data, const struct patch *p)
{
    size_t size = dtype_size(dtype);
    char *base = data, held[8];

    for (size_t i = 0; i < p->count; i++) {
        char *x = base + (p->a + i) * size, *y = base + (p->b + i) * size;

        if (is_nan_at(dtype, data, p->a + i) || is_nan_at(dtype, data, p->b + i))
            continue;
        memcpy(held, x, size);
        memcpy(x, y, size);
        memcpy(y, held, size);
    }
}

int scene_vary(const struct scene *s, struct input_set *set, struct rng *rng, size_t most,
               struct patch *patches)
{
    int n = 0;

    for (int i = 0; i < s->shape.n_inputs; i++) {
        size_t elements = s->elements[i], half = elements / 2;
        size_t count = elements < 2 ? 0 : MIN(MAX(elements / PATCH_SHARE, 1u), most);
        struct patch *p = &patches[n];

        if (!s->pack->inputs[i].vary || !dtype_is_float(s->tensors[i].dtype) || count == 0)
            continue;
        *p = (struct patch){ i, rng_below(rng, half - count + 1),
                             half + rng_below(rng, elements - half - count + 1), count };
        swap_ranges(s->tensors[i].dtype, set->data[i], p);
        n++;
    }
    return n;
}

void scene_patch(const struct scene *s, const struct input_set *set, struct arena *a,
                 const struct cell *c, const struct patch *patches, int n)
{
    for (int k = 0; k < n; k++) {
        const struct patch *p = &patches[k];
        size_t size = dtype_size(s->tensors[p->tensor].dtype);
        const char *from = set->data[p->tensor];
        uint8_t *to = arena_at(a, c, p->tensor);

        memcpy(to + p->a * size, from + p->a * size, p->count * size);
        memcpy(to + p->b * size, from + p->b * size, p->count * size);
    }
}

/* ---- comparison ---- */

static int check_inputs(const struct scene *s, const struct input_set *set, const struct arena *a,
                        const struct cell *c, struct fail *f)
{
    for (int i = 0; i < s->shape.n_inputs; i++) {
        const uint8_t *got = arena_at(a, c, i), *want = set->data[i];
        size_t at = 0;

        if (memcmp(got, want, s->shape.bytes[i]) == 0)
            continue;
        while (at < s->shape.bytes[i] && got[at] == want[at])
            at++;
        return fail_set(f, FAIL_INPUT_MODIFIED, "the input '%s' was written, first at element %zu",
                        s->names[i], at / dtype_size(s->tensors[i].dtype));
    }
    return 0;
}

int scene_check_inputs(const struct scene *s, const struct input_set *set, const struct arena *a,
                       const struct cell *c, struct rng *rng, struct fail *f)
{
    for (int i = 0; i < s->shape.n_inputs; i++) {
        const uint8_t *got = arena_at(a, c, i), *want = set->data[i];
        size_t bytes = s->shape.bytes[i], n = MIN(bytes, (size_t)LOOK_BYTES);

        for (int k = 0; n > 0 && k < LOOKS; k++) {
            size_t at = rng_below(rng, bytes - n + 1);

            if (memcmp(got + at, want + at, n) != 0)
                return check_inputs(s, set, a, c, f);
            if (n == bytes)
                break;
        }
    }
    return 0;
}

/* Lets the module choose among right answers by what the arena's outputs hold. */
static int settle(const struct scene *s, const struct input_set *set, const struct arena *a,
                  const struct cell *c, struct fail *f)
{
    struct ks_tensor inputs[KS_TENSORS_MAX];
    char why[256] = "it did not say why";

    if (s->module->settle == NULL)
        return 0;
    lend_inputs(s, set, inputs);
    for (int i = 0; i < s->shape.n_outputs; i++)
        inputs[s->shape.n_inputs + i].data = arena_at(a, c, s->shape.n_inputs + i);
    if (s->module->settle(&s->problem, inputs, s->shape.n_inputs, inputs + s->shape.n_inputs,
                          s->expected, s->shape.n_outputs, why, sizeof(why)) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the task could not settle ties of '%s': %.200s",
                        s->workload->name, why);
    return 0;
}

static int check_outputs(const struct scene *s, const struct arena *a, const struct cell *c,
                         double widen, struct check_stats *stats, struct fail *f)
{
    for (int i = 0; i < s->shape.n_outputs; i++) {
        int t = s->shape.n_inputs + i;

        if (check_output(&s->tensors[t], arena_at(a, c, t), s->expected[i],
                         &s->pack->outputs[i].tol, widen, CHECK_POISON, stats, f) != 0)
            return -1;
    }
    return 0;
}

int scene_check(struct scene *s, const struct input_set *set, const struct arena *a,
                const struct cell *c, struct fail *f)
{
    if (arena_check_guards(a, &s->shape, c, s->names, f) != 0 || check_inputs(s, set, a, c, f) != 0)
        return -1;
    if (settle(s, set, a, c, f) != 0)
        return -1;
    return check_outputs(s, a, c, 1, &s->stats, f);
}

int scene_check_twin(struct scene *s, const struct input_set *set, const struct arena *a,
                     const struct cell *c, const struct arena *trusted,
                     const struct cell *trusted_cell, int threads, struct fail *f)
{
    struct check_stats apart = { 0 };

    if (arena_check_guards(a, &s->shape, c, s->names, f) != 0)
        return -1;
    for (int i = 0; i < s->shape.n_outputs; i++) {
        int t = s->shape.n_inputs + i;

        dtype_decode(s->tensors[t].dtype, arena_at(trusted, trusted_cell, t), 0, s->elements[t],
                     s->expected[i]);
    }
    if (check_outputs(s, a, c, 2, &apart, f) == 0)
        return 0;
    if (s->module->settle == NULL)
        return -1;
    if (scene_expect(s, set, threads, f) != 0 || settle(s, set, a, c, f) != 0)
        return -1;
    return check_outputs(s, a, c, 1, &s->stats, f);
}

/* Random runs of rows of output i, `elements` of them in all. */
static int check_rows(struct scene *s, int i, const struct arena *a, const struct cell *c,
                      const struct arena *trusted, const struct cell *trusted_cell, struct rng *rng,
                      size_t elements, struct fail *f)
{
    int at = s->shape.n_inputs + i;
    const struct ks_tensor *t = &s->tensors[at];
    size_t row = t->rank > 0 ? (size_t)t->shape[t->rank - 1] : 1, rows, some;
    struct check_stats apart = { 0 };
    struct tolerance tol;

    if (row == 0 || s->elements[at] == 0)
        return 0;
    rows = s->elements[at] / row;
    tol = s->pack->outputs[i].tol;
    /* a limit for the whole says nothing of a part, unless there is no other */
    tol.tensor_rel = tol.abs_tol >= 0 || tol.row_rel >= 0 ? -1 : 4 * tol.tensor_rel;
    some = MIN(MAX(PART_ELEMENTS / row, 1u), rows);
    for (size_t done = 0; done < elements; done += some * row) {
        size_t first = rng_below(rng, rows - some + 1) * row;

        dtype_decode(t->dtype, arena_at(trusted, trusted_cell, at), first, some * row,
                     s->expected[i] + first);
        if (check_part(t, arena_at(a, c, at), s->expected[i], first, some * row, &tol, 2,
                       CHECK_POISON, &apart, f) != 0)
            return -1;
    }
    return 0;
}

int scene_check_parts(struct scene *s, const struct input_set *set, const struct arena *a,
                      const struct cell *c, const struct arena *trusted,
                      const struct cell *trusted_cell, struct rng *rng, size_t elements,
                      struct fail *f)
{
    if (arena_check_guards(a, &s->shape, c, s->names, f) != 0 ||
        scene_check_inputs(s, set, a, c, rng, f) != 0)
        return -1;
    for (int i = 0; i < s->shape.n_outputs; i++)
        if (check_rows(s, i, a, c, trusted, trusted_cell, rng,
                       MIN(elements, s->elements[s->shape.n_inputs + i]), f) != 0)
            return -1;
    return 0;
}
