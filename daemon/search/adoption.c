/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing adoptions; see adoption.h. */
#include "search/adoption.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/records.h"

enum {
    NEAR_BEST_Q = 250000, /* what is adopted came within a quarter of its source's best */
    CANDIDATES_MAX = 256, /* of one source, the best */
    DIFFERENT_MIN = 2     /* parameters in which two adoptions differ, where there are so many */
};

struct candidate {
    struct memory_adoption adoption;
    double usefulness;
};

struct candidates {
    size_t n, cap;
    struct candidate *v;
};

size_t adoption_cap(uint64_t budget_evals)
{
    return budget_evals < 20 ? 1 : (size_t)MIN(budget_evals / 10, (uint64_t)1000);
}

static int by_objective_down(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;

    if (a->adoption.objective_q != b->adoption.objective_q)
        return a->adoption.objective_q > b->adoption.objective_q ? -1 : 1;
    return strcmp(a->adoption.evaluation.hex, b->adoption.evaluation.hex);
}

/* The records of one source that came near its best. */
static int add_source(struct kb *kb, const struct space *space, const struct memory *m,
                      size_t source, struct candidates *c, struct err *err)
{
    const struct memory_source *src = &m->sources[source];
    size_t first = c->n, width = space_n(space);
    int64_t best, ordinary;
    struct records r;

    if (records_load(kb, space, src->task, src->device, m->as_of, &r, err) != 0) {
        records_release(&r);
        return -1;
    }
    if (records_level(&r, &best, &ordinary))
        for (size_t i = 0; i < r.n; i++) {
            struct candidate *k;

            if (r.objective_q[i] == INT64_MIN || r.objective_q[i] < best - NEAR_BEST_Q)
                continue;
            c->v = xgrow(c->v, &c->cap, c->n + 1, sizeof(*c->v));
            k = &c->v[c->n++];
            *k = (struct candidate){ .usefulness = src->similarity *
                                                   exp(1e-6 * (double)(r.objective_q[i] - best)) };
            memcpy(k->adoption.a, r.a + i * width, width * sizeof(*r.a));
            k->adoption.source = source;
            k->adoption.objective_q = r.objective_q[i];
            k->adoption.evaluation = r.ids[i];
        }
    qsort(c->v + first, c->n - first, sizeof(*c->v), by_objective_down);
    c->n = MIN(c->n, first + CANDIDATES_MAX);
    records_release(&r);
    return 0;
}

/* In how many parameters do they differ, and how many could? */
static size_t differing(const struct space *space, const uint16_t *a, const uint16_t *b, size_t *of)
{
    size_t n = 0;

    *of = 0;
    for (size_t p = 0; p < space_n(space); p++) {
        *of += space_param(space, p)->n_values > 1;
        n += a[p] != b[p];
    }
    return n;
}

/* How new an assignment is beside those chosen, 0..1; 0 when it is nearly one of them. */
static double novelty(const struct space *space, const struct memory *m, const uint16_t *a)
{
    double least = 1;

    for (size_t i = 0; i < m->n_adoptions; i++) {
        size_t of, n = differing(space, a, m->adoptions[i].a, &of);

        if (n < MIN((size_t)DIFFERENT_MIN, of))
            return 0;
        least = fmin(least, 0.5 + 0.5 * (double)n / (double)of);
    }
    return least;
}

int adoption_choose(struct kb *kb, const struct space *space, size_t want, double least,
                    struct memory *m, struct err *err)
{
    struct candidates c = { 0 };
    int rc = 0;

    for (size_t s = 0; want > 0 && s < m->n_sources && rc == 0; s++)
        if (m->sources[s].similarity >= least)
            rc = add_source(kb, space, m, s, &c, err);
    while (rc == 0 && m->n_adoptions < MIN(want, (size_t)MEMORY_ADOPT_MAX)) {
        double top = 0;
        size_t at = 0;

        for (size_t i = 0; i < c.n; i++) {
            double value = c.v[i].usefulness * novelty(space, m, c.v[i].adoption.a);

            if (value > top) {
                top = value;
                at = i;
            }
        }
        if (!(top > 0))
            break;
        m->adoptions[m->n_adoptions++] = c.v[at].adoption;
    }
    free(c.v);
    return rc;
}
