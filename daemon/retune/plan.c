/* SPDX-License-Identifier: Apache-2.0 */
/* Ordering of re-verification; see plan.h. */
#include "retune/plan.h"

#include "base/mem.h"

static const double followed_by_none = 0.25;

double plan_value(const struct plan_candidate *c)
{
    return c->p_wrong * c->stake * (c->relying + followed_by_none);
}

static unsigned missing(const struct plan_candidate *c, const json_t *have)
{
    unsigned n = 0;

    for (size_t k = 0; k < PLAN_KEYS; k++)
        n += c->keys[k] != NULL && json_object_get(have, c->keys[k]) == NULL;
    return n;
}

/* The most valuable candidates, by index; ties by index. */
struct ranked {
    size_t candidate;
    double value;
};

static int more_valuable(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;

    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return (a->candidate > b->candidate) - (a->candidate < b->candidate);
}

/* a before b: more value per second; nothing to measure beats everything of some value. */
static bool before(double value_a, double cost_a, double value_b, double cost_b)
{
    if (cost_a == 0 || cost_b == 0)
        return cost_a == 0 && value_a > 0 && (cost_b > 0 || value_a > value_b);
    return value_a * cost_b > value_b * cost_a;
}

size_t plan_order(const struct plan_candidate *candidates, size_t n, const json_t *known,
                  struct plan_item *out)
{
    CLEANUP(freep) struct ranked *left = xcalloc(n + 1, sizeof(*left));
    json_auto_t *have = json_copy((json_t *)known);
    size_t n_left, planned = 0;

    for (size_t i = 0; i < n; i++)
        left[i] = (struct ranked){ i, plan_value(&candidates[i]) };
    qsort(left, n, sizeof(*left), more_valuable);
    n_left = MIN(n, (size_t)PLAN_ITEMS_MAX);
    while (n_left > 0) {
        size_t best = 0;
        double best_cost = 0;
        const struct plan_candidate *c;

        for (size_t i = 0; i < n_left; i++) {
            double cost = missing(&candidates[left[i].candidate], have) *
                          candidates[left[i].candidate].eval_s;

            if (i == 0 || before(left[i].value, cost, left[best].value, best_cost)) {
                best = i;
                best_cost = cost;
            }
        }
        c = &candidates[left[best].candidate];
        out[planned++] = (struct plan_item){ left[best].candidate, missing(c, have), best_cost,
                                             left[best].value };
        for (size_t k = 0; k < PLAN_KEYS; k++)
            if (c->keys[k] != NULL)
                json_object_set_new(have, c->keys[k], json_true());
        n_left--;
        for (size_t i = best; i < n_left; i++)
            left[i] = left[i + 1];
    }
    return planned;
}
