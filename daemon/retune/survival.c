/* SPDX-License-Identifier: Apache-2.0 */
/* Survival rates; see survival.h. */
#include "retune/survival.h"

#include <string.h>

#include "base/mem.h"

enum { PAIRS_LEAST = 2 };
static const double prior_weight = 4; /* observations that a level's parent counts for */

struct count {
    char *a, *b, *technique; /* a <= b */
    uint32_t n, kept;
};

struct survival {
    size_t n, cap;
    struct count *counts; /* sorted by a, b, technique */
};

struct survival *survival_new(void)
{
    return xcalloc(1, sizeof(struct survival));
}

void survival_free(struct survival *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++) {
        free(s->counts[i].a);
        free(s->counts[i].b);
        free(s->counts[i].technique);
    }
    free(s->counts);
    free(s);
}

static int compare(const struct count *c, const char *a, const char *b, const char *technique)
{
    int d = strcmp(c->a, a);

    if (d == 0)
        d = strcmp(c->b, b);
    return d ? d : strcmp(c->technique, technique);
}

/* Where the entry is or belongs. */
static size_t position(const struct survival *s, const char *a, const char *b,
                       const char *technique, bool *found)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t mid = (low + high) / 2;
        int d = compare(&s->counts[mid], a, b, technique);

        if (d == 0) {
            *found = true;
            return mid;
        }
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = false;
    return low;
}

static void order(const char **a, const char **b)
{
    if (strcmp(*a, *b) > 0) {
        const char *swap = *a;

        *a = *b;
        *b = swap;
    }
}

void survival_add(struct survival *s, const char *class_a, const char *class_b,
                  const char *technique, bool survived)
{
    bool found;
    size_t at;

    order(&class_a, &class_b);
    at = position(s, class_a, class_b, technique, &found);
    if (!found) {
        s->counts = xgrow(s->counts, &s->cap, s->n + 1, sizeof(*s->counts));
        memmove(s->counts + at + 1, s->counts + at, (s->n - at) * sizeof(*s->counts));
        s->n++;
        s->counts[at] =
            (struct count){ xstrdup(class_a), xstrdup(class_b), xstrdup(technique), 0, 0 };
    }
    s->counts[at].n++;
    s->counts[at].kept += survived;
}

/* 1 or -1 when three quarters of the pairs have that sign, 0 when they are divided or few. */
static int sign_of(const struct insight_sums *sums)
{
    uint64_t n = (uint64_t)sums->blind + sums->steered;

    if (n < PAIRS_LEAST)
        return 0;
    if (4 * (uint64_t)sums->positive >= 3 * n)
        return 1;
    return 4 * (uint64_t)sums->positive <= n ? -1 : 0;
}

void survival_add_insight(struct survival *s, const struct insight *in)
{
    if (in->state != INSIGHT_ACTIVE)
        return;
    for (size_t i = 0; i < in->n_cells; i++) {
        int sign = strchr(in->cells[i].key, '|') ? 0 : sign_of(&in->cells[i].sums);

        for (size_t k = i + 1; sign != 0 && k < in->n_cells; k++) {
            int other = strchr(in->cells[k].key, '|') ? 0 : sign_of(&in->cells[k].sums);

            if (other != 0)
                survival_add(s, in->cells[i].key, in->cells[k].key, in->claim.technique,
                             sign == other);
        }
    }
}

static int visit(void *ctx, const struct insight *in)
{
    survival_add_insight(ctx, in);
    return 0;
}

int survival_fold(struct survival *s, struct kb *kb, struct err *err)
{
    if (kb_each_insight(kb, visit, s) != 0)
        return err_set(err, ERR_NOMEM, "no memory to bring the insights up to date");
    return 0;
}

static double posterior(double prior_mean, double weight, uint32_t n, uint32_t kept)
{
    return (prior_mean * weight + kept) / (weight + n);
}

struct survival_rate survival_rate(const struct survival *s, const char *class_a,
                                   const char *class_b, const char *technique)
{
    struct survival_rate r = { 0 };
    uint32_t all_n = 0, all_kept = 0, pair_kept = 0;
    double mean;

    order(&class_a, &class_b);
    for (size_t i = 0; i < s->n; i++) {
        const struct count *c = &s->counts[i];

        all_n += c->n;
        all_kept += c->kept;
        if (strcmp(c->a, class_a) != 0 || strcmp(c->b, class_b) != 0)
            continue;
        r.n_parent += c->n;
        pair_kept += c->kept;
        if (strcmp(c->technique, technique) == 0) {
            r.n = c->n;
            r.kept = c->kept;
        }
    }
    mean = posterior(2.0 / 3, 3, all_n, all_kept);
    mean = posterior(mean, prior_weight, r.n_parent, pair_kept);
    r.mean = posterior(mean, prior_weight, r.n, r.kept);
    return r;
}

json_t *survival_to_json(const struct survival *s)
{
    json_t *pairs = json_array();

    for (size_t i = 0; i < s->n; i++) {
        const struct count *c = &s->counts[i];

        json_array_append_new(
            pairs, json_pack("{s:s, s:s, s:s, s:I, s:I, s:f}", "a", c->a, "b", c->b, "technique",
                             c->technique, "n", (json_int_t)c->n, "kept", (json_int_t)c->kept,
                             "mean", survival_rate(s, c->a, c->b, c->technique).mean));
    }
    return json_pack("{s:o}", "pairs", pairs);
}
