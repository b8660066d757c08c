/* SPDX-License-Identifier: Apache-2.0 */
/* What memory gave a search and what the search added, for answers; see search.h. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/search.h"
#include "search/trust.h"

/* ---- Gain ---- */

/* The best of what was adopted, as measured here, micro-log; 0 (the baseline) without any. */
static int64_t adopted_q(const struct search *s, size_t *n)
{
    int64_t best = 0;

    *n = 0;
    for (uint64_t i = 1; i <= search_measured(s); i++) {
        const struct trial *t = search_trial(s, i);

        if (!t->adopted[0])
            continue;
        ++*n;
        if (t->ok)
            best = MAX(best, t->objective_q);
    }
    return best;
}

json_t *search_gain_json(const struct search *s)
{
    int64_t total = search_best_q(s), adopted;
    size_t n;

    if (s->champion == 0)
        return json_null();
    adopted = adopted_q(s, &n);
    /* The best is a mean over its duels: an adopted champion added nothing, whatever the noise. */
    if (n > 0 && (search_trial(s, s->champion)->adopted[0] || adopted > total))
        adopted = total;
    return json_pack("{s:f, s:f, s:f, s:{s:f, s:f, s:f}, s:I}", "total", exp(1e-6 * (double)total),
                     "adopted", exp(1e-6 * (double)adopted), "added",
                     exp(1e-6 * (double)(total - adopted)), "log", "total", 1e-6 * (double)total,
                     "adopted", 1e-6 * (double)adopted, "added", 1e-6 * (double)(total - adopted),
                     "adoptions", (json_int_t)n);
}

/* ---- Arms ---- */

json_t *search_arms_json(const struct search *s)
{
    struct trust t;

    if (s->memory == NULL)
        return json_null();
    trust_of(s, &t);
    return json_pack("{s:f, s:b, s:s, s:I, s:I, s:I}", "memory_free_share", t.share, "retreat",
                     s->retreated, "why", t.why, "memory", (json_int_t)t.n_memory, "memory_free",
                     (json_int_t)t.n_free, "shared", (json_int_t)s->live.heard);
}

/* ---- Where a node comes from ---- */

static const struct trial *first_trial(const struct search *s, const char *node)
{
    for (uint64_t i = 1; i <= s->n_trials; i++)
        if (strcmp(search_trial(s, i)->node, node) == 0)
            return search_trial(s, i);
    return NULL;
}

const char *search_node_origin(const struct search *s, uint32_t node)
{
    const struct world_node *n = world_get(s->world, node);
    const struct trial *t;

    if (node == 0)
        return "";
    if (n->graft.search[0])
        return "plan from memory";
    t = first_trial(s, n->id);
    if (t == NULL || !t->adopted[0])
        return "own";
    return t->live ? "live" : "adopted from memory";
}
