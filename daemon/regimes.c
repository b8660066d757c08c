/* SPDX-License-Identifier: Apache-2.0 */
/* Regimes of packs' tasks; see regimes.h. */
#include "regimes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "eval/pack_regime.h"

/* Whether a constant axis says something of the shape: the pack names it, or everybody does. */
static bool axis_counts(const struct pack *p, const char *name)
{
    for (size_t i = 0; i < p->n_features; i++)
        if (strcmp(p->features[i], name) == 0)
            return true;
    return p->n_features == 0 || regime_axis_known(name);
}

void regime_of_task(const struct pack_definition *def, const struct pack_set *set,
                    struct regime *out)
{
    const struct pack *p = def->pack;
    struct err ignored; /* a pack may have more axes than count here */

    *out = (struct regime){ 0 };
    set = set ? set : pack_default_set(def);
    regime_dtype_name(p->dtype, out->dtype);
    for (size_t i = 0; set && i < p->n_regime; i++) {
        if (set->regime[i] <= 0)
            continue;
        if (strcmp(p->regime[i].name, "block_scale") == 0)
            snprintf(out->block_scale, sizeof(out->block_scale), "%.0fx%.0f", set->regime[i],
                     set->regime[i]);
        else
            regime_put(out, p->regime[i].name, set->regime[i], &ignored);
    }
    for (size_t i = 0; i < def->n_axes; i++)
        if (axis_counts(p, def->axes[i].name))
            regime_put(out, def->axes[i].name, (double)def->axes[i].value, &ignored);
}

/* Three digits: means of nearly the same workloads are the same regime. */
static double three_digits(double v)
{
    double unit = pow(10, floor(log10(fabs(v))) - 2);

    return round(v / unit) * unit;
}

static bool is_axis(const struct pack_definition *def, const char *quantity)
{
    for (size_t i = 0; i < def->n_axes; i++)
        if (strcmp(regime_axis_name(def->axes[i].name), regime_axis_name(quantity)) == 0)
            return true;
    return false;
}

void regime_add_features(const struct pack_definition *def, const struct pack_set *set,
                         json_t *features)
{
    const struct pack *p = def->pack;

    for (size_t i = 0; set && i < p->n_regime; i++)
        if (set->regime[i] > 0 && !is_axis(def, p->regime[i].name))
            json_object_set_new(features, p->regime[i].name,
                                json_real(three_digits(set->regime[i])));
}

json_t *regime_context(const struct pack_definition *def, const struct pack_set *set,
                       const json_t *device)
{
    static const char *const device_keys[] = { "cores", "threads", "copy_gbs", "fma_gflops" };
    json_t *features = json_object();

    for (size_t i = 0; def && i < def->n_axes; i++)
        json_object_set_new(features, def->axes[i].name, json_integer(def->axes[i].value));
    if (def)
        regime_add_features(def, set, features);
    for (size_t i = 0; i < ARRAY_LEN(device_keys); i++) {
        double v = jsonx_num(device, device_keys[i], NAN);

        /* two digits: a bandwidth measured anew is the same machine */
        if (isfinite(v) && v != 0) {
            double unit = pow(10, floor(log10(fabs(v))) - 1);

            json_object_set_new(features, device_keys[i], json_real(round(v / unit) * unit));
        }
    }
    return features;
}

struct relative {
    const char *task;
    double similarity;
    bool self;
};

static int nearest_first(const void *pa, const void *pb)
{
    const struct relative *a = pa, *b = pb;

    if (a->self != b->self)
        return a->self ? -1 : 1;
    if (a->similarity != b->similarity)
        return a->similarity > b->similarity ? -1 : 1;
    return strcmp(a->task, b->task);
}

struct near {
    const struct packs *packs;
    const struct pack_definition *def;
    const struct pack_set *set;
    struct regime own;
    size_t n, cap;
    struct relative *v;
};

/* The other task's regime is that of the set of the same name, where it has one. */
static void compare_pack(struct near *near, const struct pack *p, enum regime_kinship kinship)
{
    for (size_t i = 0; p->n_problems == 0 && i < p->n_definitions; i++) {
        const struct pack_definition *other = &p->definitions[i];
        struct regime theirs;
        struct regime_match m = { .similarity = 1 };

        if (packs_find(near->packs, other->name) != other)
            continue;
        if (other != near->def) {
            regime_of_task(other, near->set ? pack_set(other, near->set->name) : NULL, &theirs);
            m = regime_compare(&near->own, &theirs, kinship);
        }
        near->v = xgrow(near->v, &near->cap, near->n + 1, sizeof(*near->v));
        near->v[near->n++] = (struct relative){ other->name, m.similarity, other == near->def };
    }
}

json_t *regime_relatives(const struct packs *packs, const struct pack_definition *def,
                         const struct pack_set *set)
{
    struct near near = { .packs = packs, .def = def, .set = set };
    json_t *list = json_array();

    regime_of_task(def, set, &near.own);
    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *p = packs_get(packs, i);

        if (strcmp(p->family ? p->family : "", def->pack->family) == 0)
            compare_pack(&near, p, REGIME_OWN_FAMILY);
        else if (p->n_problems == 0 && pack_is_related(p, def->pack))
            compare_pack(&near, p, REGIME_RELATED_FAMILY);
    }
    qsort(near.v, near.n, sizeof(*near.v), nearest_first);
    for (size_t i = 0; i < near.n && i < REGIMES_RELATIVES_MAX; i++)
        json_array_append_new(list, json_pack("{s:s, s:f}", "task", near.v[i].task, "similarity",
                                              near.v[i].similarity));
    free(near.v);
    return list;
}

char *regime_related_families(const struct packs *packs, const struct pack_definition *def)
{
    struct buf out = { .max = 16384 };
    char *text;

    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *p = packs_get(packs, i);

        if (p->n_problems == 0 && strcmp(p->family, def->pack->family) != 0 &&
            pack_is_related(p, def->pack))
            buf_addf(&out, "%s%s", out.len ? "," : "", p->family);
    }
    text = buf_take(&out);
    return text ? text : xstrdup("");
}
