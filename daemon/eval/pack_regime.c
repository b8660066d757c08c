/* SPDX-License-Identifier: Apache-2.0 */
/* Regimes of packs; see pack_regime.h. */
#include "eval/pack_regime.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "eval/formula.h"
#include "eval/pack_parse.h"

enum { REGIME_MAX = 16, RELATED_MAX = 16 };

struct lookup {
    const struct pack_definition *def;
    const json_t *axes; /* declared, or of the workload */
};

/* For checking: every declared axis is 1. */
static bool find_declared(void *ctx, const char *name, double *out)
{
    *out = 1;
    return json_object_get(((struct lookup *)ctx)->axes, name) != NULL;
}

static bool find_value(void *ctx, const char *name, double *out)
{
    const struct lookup *l = ctx;
    const json_t *v = json_object_get(l->axes, name);
    int64_t constant;

    if (v == NULL && !pack_axis_value(l->def, name, &constant))
        return false;
    *out = v ? json_number_value(v) : (double)constant;
    return true;
}

static void read_quantity(struct pack *p, const char *name, const json_t *formula)
{
    struct lookup l = { .axes = json_object_get(p->json, "axes") };
    const struct formula_names names = { find_declared, &l };
    struct err err;
    double value;

    if (!str_is_name(name) || !json_is_string(formula))
        pack_problem(p, "'regime': '%.96s' must be a name with a formula over the axes", name);
    else if (formula_eval(json_string_value(formula), &names, &value, &err) != 0)
        pack_problem(p, "'regime': %s: %s", name, err.msg);
    else
        p->regime[p->n_regime++] =
            (struct pack_quantity){ xstrdup(name), xstrdup(json_string_value(formula)) };
}

static void read_regime(struct pack *p, json_t *regime)
{
    const char *name;
    json_t *formula;

    if (!json_is_object(regime) || json_object_size(regime) > REGIME_MAX) {
        pack_problem(p, "'regime' must be an object of at most %d formulas", REGIME_MAX);
        return;
    }
    p->regime = xcalloc(json_object_size(regime) + 1, sizeof(*p->regime));
    json_object_foreach (regime, name, formula)
        read_quantity(p, name, formula);
}

static void read_related(struct pack *p, const json_t *related)
{
    size_t n = json_array_size(related);

    if (!json_is_array(related) || n > RELATED_MAX) {
        pack_problem(p, "'related' must be a list of at most %d families", RELATED_MAX);
        return;
    }
    p->related = xcalloc(n + 1, sizeof(char *));
    for (size_t i = 0; i < n; i++) {
        const char *family = json_string_value(json_array_get(related, i));

        if (family && str_is_name(family))
            p->related[p->n_related++] = xstrdup(family);
        else
            pack_problem(p, "entry %zu of 'related' is no name of a family", i + 1);
    }
}

void pack_regime_read(struct pack *p, json_t *regime, json_t *related)
{
    if (regime != NULL)
        read_regime(p, regime);
    if (related != NULL)
        read_related(p, related);
}

void pack_regime_release(struct pack *p)
{
    for (size_t i = 0; i < p->n_regime; i++) {
        free(p->regime[i].name);
        free(p->regime[i].formula);
    }
    for (size_t i = 0; i < p->n_related; i++)
        free(p->related[i]);
    free(p->regime);
    free(p->related);
}

void pack_regime_add(const struct pack_definition *d, const json_t *axes, struct pack_mean *means)
{
    struct lookup l = { d, axes };
    const struct formula_names names = { find_value, &l };

    for (size_t i = 0; i < d->pack->n_regime; i++) {
        struct err ignored; /* a workload without the axis is a problem of its own */
        double value;

        if (formula_eval(d->pack->regime[i].formula, &names, &value, &ignored) != 0 ||
            !isfinite(value) || value <= 0)
            continue;
        means[i].log_sum += log(value);
        means[i].n++;
    }
}

static bool names_family(const struct pack *p, const char *family)
{
    for (size_t i = 0; i < p->n_related; i++)
        if (strcmp(p->related[i], family) == 0)
            return true;
    return false;
}

bool pack_is_related(const struct pack *a, const struct pack *b)
{
    return names_family(a, b->family) || names_family(b, a->family);
}
