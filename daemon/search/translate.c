/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assignments of a related space as assignments of this one; see memory_translate in memory.h. Two
 * families that share tunables (a decode and a prefill kernel of one attention) know things about
 * each other that only names can carry over.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/memory.h"

#define SHARED_LEAST 0.5

/* The value of an ordinal parameter whose number is nearest, by ratio where both are positive. */
static uint16_t nearest_value(const struct space_param *p, double num)
{
    double least = INFINITY;
    uint16_t at = p->default_index;

    for (uint16_t v = 0; v < p->n_values; v++) {
        double x = p->values[v].num;
        double d = num > 0 && x > 0 ? fabs(log(x / num)) : fabs(x - num) + 1e3;

        if (d < least) {
            least = d;
            at = v;
        }
    }
    return at;
}

static bool number_of(const json_t *v, double *out)
{
    if (json_is_boolean(v))
        *out = json_is_true(v);
    else if (json_is_number(v))
        *out = json_number_value(v);
    else
        return false;
    return true;
}

/* The value that `v` stands for; false when it says nothing that this parameter knows. */
static bool translate_value(const struct space *s, size_t at, const json_t *v, uint16_t *out)
{
    const struct space_param *p = space_param(s, at);
    double num;
    int found;

    if (json_is_string(v)) {
        found = p->type == SPACE_ENUM ? space_value_find(s, at, json_string_value(v)) : -1;
        *out = found < 0 ? p->default_index : (uint16_t)found;
        return found >= 0;
    }
    if (p->type == SPACE_ENUM || !number_of(v, &num))
        return false;
    *out = nearest_value(p, num);
    return p->kind == SPACE_ORDINAL || p->values[*out].num == num;
}

bool memory_translate(const struct space *space, const json_t *assignment, uint16_t *out,
                      double *shared)
{
    size_t n = 0, said = 0, structural = 0, structural_said = 0;
    struct err ignored;

    *shared = 1;
    if (space_from_json(space, assignment, out, &ignored) == 0)
        return space_valid(space, out);
    space_default(space, out);
    for (size_t p = 0; p < space_n(space); p++) {
        const struct space_param *param = space_param(space, p);
        const json_t *v = json_object_get(assignment, param->name);
        uint16_t value;
        bool known = v != NULL && translate_value(space, p, v, &value);

        if (known)
            out[p] = value;
        if (param->n_values < 2)
            continue;
        n++;
        said += known;
        structural += param->role == SPACE_STRUCTURAL;
        structural_said += known && param->role == SPACE_STRUCTURAL;
    }
    if (said == 0 || (double)structural_said < SHARED_LEAST * (double)structural ||
        (structural == 0 && (double)said < SHARED_LEAST * (double)n))
        return false;
    *shared = (double)said / (double)n;
    return space_valid(space, out);
}
