/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be measured next; see intent.h. */
#include "search/intent.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/adoption.h"
#include "search/place.h"

enum {
    RANDOM_DRAWS_MAX = 2000,
    LIVE_SPACING = 4 /* evaluations between two findings of running searches */
};

#define NOISE_Q 20000 /* micro-log: what two measurements of one program may differ by */

static const char *const origins[ENGINE_ORIGIN_COUNT] = {
    [ENGINE_ORIGIN_RANDOM] = "a starting point, spread out over the space",
    [ENGINE_ORIGIN_GP] = "largest expected improvement over all assignments",
    [ENGINE_ORIGIN_NEAR] = "largest expected improvement one change away from the best",
    [ENGINE_ORIGIN_FOREST] = "largest expected improvement by the randomised forest",
    [ENGINE_ORIGIN_PRIOR] = "best in what near tasks and devices recorded",
    [ENGINE_ORIGIN_WARM] = "largest expected improvement with the records of near tasks as prior",
};

static const char *const models[ENGINE_ORIGIN_COUNT] = {
    [ENGINE_ORIGIN_RANDOM] = "random", [ENGINE_ORIGIN_GP] = "gp",
    [ENGINE_ORIGIN_NEAR] = "near",     [ENGINE_ORIGIN_FOREST] = "forest",
    [ENGINE_ORIGIN_PRIOR] = "prior",   [ENGINE_ORIGIN_WARM] = "warm",
};

const char *intent_arm_name(enum engine_arm arm)
{
    static const char *const names[ENGINE_ARM_COUNT] = { "cold", "memory", "other" };

    return names[arm];
}

/* The engine works in log time, the search in log speed-up: one changes sign. */
static void take_proposal(const struct search *s, struct intent *in,
                          const struct engine_proposal *p)
{
    *in = (struct intent){ .arm = p->arm,
                           .origin = origins[p->origin],
                           .ei = isfinite(p->ei) ? p->ei : 0 };
    memcpy(in->a, p->a, space_n(s->space) * sizeof(*p->a));
    forecast_of_model(s, intent_arm_name(p->arm), models[p->origin], -p->mean, p->sd,
                      &in->forecast);
}

/* The control arm: a uniform draw that looks at nothing but what was drawn before. */
static int propose_random(struct search *s, const uint16_t *pattern, struct intent *in,
                          struct err *err)
{
    struct rng rng = rng_derive(s->spec.seed, "random", s->n_trials);

    for (int i = 0; i < RANDOM_DRAWS_MAX; i++) {
        *in = (struct intent){ .arm = ENGINE_ARM_COLD, .origin = "a uniform random draw" };
        if (space_sample(s->space, pattern, &rng, in->a, err) != 0)
            return -1;
        if (!engine_seen(s->engine, in->a)) {
            forecast_of_model(s, intent_arm_name(in->arm), "random", NAN, NAN, &in->forecast);
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "%d random draws were all measured before",
                   RANDOM_DRAWS_MAX);
}

bool intent_is_random(const struct search *s)
{
    return strcmp(s->spec.proposer, "random") == 0;
}

int intent_propose(struct search *s, const uint16_t *pattern, struct intent *out, struct err *err)
{
    struct engine_proposal p;

    if (intent_is_random(s))
        return propose_random(s, pattern, out, err);
    if (engine_propose(s->engine, pattern, &p, err) != 0)
        return -1;
    take_proposal(s, out, &p);
    return 0;
}

int intent_memory_free(struct search *s, struct intent *out, struct err *err)
{
    struct engine_proposal p;
    struct engine *engine;

    if (intent_is_random(s))
        return propose_random(s, NULL, out, err);
    if (search_memory_free_engine(s, &engine, err) != 0 ||
        engine_propose(engine, NULL, &p, err) != 0)
        return -1;
    take_proposal(s, out, &p);
    return 0;
}

/* ---- Adoption ---- */

/* What is known of the adoptions so far. */
struct adopted {
    size_t n;
    bool any_ok;
    int64_t best_q, others_q; /* the best adopted, and the best of what was not adopted */
    bool others;
};

static struct adopted adopted_so_far(const struct search *s)
{
    struct adopted a = { .best_q = INT64_MIN, .others_q = INT64_MIN };

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);

        a.n += t->adopted[0] != '\0';
        if (!t->ok)
            continue;
        if (t->adopted[0]) {
            a.any_ok = true;
            a.best_q = MAX(a.best_q, t->objective_q);
        } else {
            a.others = true;
            a.others_q = MAX(a.others_q, t->objective_q);
        }
    }
    return a;
}

/* Is what was adopted worse than what the search found by itself? Then more of it is regret. */
static bool is_regretted(const struct adopted *a)
{
    if (a->n == 0 || !a->others)
        return false;
    return !a->any_ok || a->best_q + NOISE_Q < a->others_q;
}

/* Are the models here, which know what was measured, sure that it is not the best? */
static bool is_ruled_out(struct search *s, const uint16_t *a)
{
    struct err ignored;
    double mean, sd;

    return s->champion != 0 && engine_predict(s->engine, a, &mean, &sd, &ignored) == 0 &&
           -mean + 2 * sd < 1e-6 * (double)search_best_q(s);
}

static bool adopt(struct search *s, const uint16_t *a, const char *task, const char *device,
                  double similarity, int64_t objective_q, struct intent *out)
{
    if (engine_seen(s->engine, a) || is_ruled_out(s, a))
        return false;
    *out = (struct intent){ .arm = ENGINE_ARM_MEMORY,
                            .origin = "adopted from memory, measured again here",
                            .similarity = similarity };
    memcpy(out->a, a, space_n(s->space) * sizeof(*a));
    snprintf(out->from, sizeof(out->from), "%s@%s", task, device);
    forecast_of_adopted(s, objective_q, similarity, &out->forecast);
    return true;
}

/* The evaluation that last adopted a finding of a running search; 0 for none. */
static uint64_t last_live(const struct search *s)
{
    for (uint64_t n = s->n_trials; n > 0; n--)
        if (search_trial(s, n)->live)
            return n;
    return 0;
}

/* The nearest finding of a running search that promises more than what is known here. A search that
 * climbs is not followed step by step. */
static bool adopt_live(struct search *s, struct intent *out)
{
    uint64_t last = last_live(s);
    struct intent in;
    double top = 0;

    if (last != 0 && s->n_trials + 1 < last + LIVE_SPACING)
        return false;
    for (size_t i = 0; i < s->live.n; i++) {
        const struct live_finding *f = &s->live.found[i];

        if (f->similarity <= top ||
            (s->champion != 0 && f->objective_q <= search_best_q(s) + NOISE_Q) ||
            !adopt(s, f->a, f->task, f->device, f->similarity, f->objective_q, &in))
            continue;
        top = f->similarity;
        *out = in;
        out->live = true;
        out->origin = "found by a search that runs beside this one, measured again here";
    }
    return top > 0;
}

bool intent_adopt(struct search *s, struct intent *out)
{
    size_t cap = adoption_cap(s->spec.budget_evals);
    struct adopted so_far = adopted_so_far(s);

    if (s->memory == NULL || so_far.n >= cap || is_regretted(&so_far))
        return false;
    for (size_t i = 0; i < s->memory->n_adoptions; i++) {
        const struct memory_adoption *ad = &s->memory->adoptions[i];
        const struct memory_source *from = &s->memory->sources[ad->source];

        if (adopt(s, ad->a, from->task, from->device, from->similarity, ad->objective_q, out))
            return true;
    }
    return adopt_live(s, out);
}

/* ---- Plans ---- */

/* The most promising open child of a grafted node that belongs to a plan too; WORLD_NONE: none. */
static uint32_t next_of_plan(const struct search *s, uint32_t node)
{
    uint32_t best = WORLD_NONE, c = world_get(s->world, node)->first_child;

    for (; c != WORLD_NONE; c = world_get(s->world, c)->next_sibling) {
        const struct world_node *n = world_get(s->world, c);

        if (n->kind == WORLD_DECISION && n->state == WORLD_OPEN && n->graft.search[0] &&
            (best == WORLD_NONE || n->action.score > world_get(s->world, best)->action.score))
            best = c;
    }
    return best;
}

int intent_of_plan(struct search *s, uint32_t node, struct intent *out, struct err *err)
{
    uint32_t path[WORLD_DEPTH_MAX + 1], n = 0;

    for (uint32_t at = node; at != WORLD_NONE && n <= WORLD_DEPTH_MAX; at = next_of_plan(s, at))
        path[n++] = at;
    while (n > 0) {
        uint16_t pattern[SPACE_PARAMS_MAX];

        place_pattern(s, path[--n], pattern);
        if (intent_propose(s, pattern, out, err) == 0) {
            out->arm = ENGINE_ARM_MEMORY;
            out->plan = true;
            out->origin = "a step of a plan that another search left";
            return 0;
        }
        if (err->code != ERR_NOT_FOUND)
            return -1;
    }
    return -1;
}
