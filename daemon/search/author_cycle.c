/* SPDX-License-Identifier: Apache-2.0 */
/* Which cycle a free lane begins, on which node and from which program; see author.h. */
#include <string.h>

#include "base/str.h"
#include "search/author_priv.h"
#include "search/journal.h"
#include "search/scores.h"
#include "search/select.h"
#include "search/strategy.h"

static struct lane *free_lane(const struct search *s)
{
    unsigned used = 0;
    struct lane *first = NULL;

    for (unsigned i = 0; i < LANES_MAX; i++) {
        const struct lane *l = &s->lanes[i];

        used += l->stage != LANE_CLOSED;
        if (l->stage == LANE_CLOSED && first == NULL)
            first = (struct lane *)l;
    }
    return used < s->spec.lanes ? first : NULL;
}

/* The program that a node starts from: its parent's solution; the champion's in a flat list. */
static uint32_t base_of(const struct search *s, uint32_t node)
{
    const struct world_node *n = world_get(s->world, node);
    const struct trial *champion = search_trial(s, s->champion);
    struct id id;
    uint32_t p;

    if (s->strategy->flat)
        return champion ? champion->program : 0;
    str_copy(id.hex, sizeof(id.hex), world_get(s->world, n->parent)->evidence.program);
    p = search_program_find(s, &id);
    return p != PROGRAM_NONE ? p : 0;
}

int author_cycle(struct author *a, uint32_t node, uint32_t base, json_t *more, struct err *err)
{
    struct search *s = a->s;
    const struct world_node *n = world_get(s->world, node);
    const struct trial *best = search_trial(s, search_program_best(s, base));
    struct lane *l = free_lane(s);
    json_t *ev = json_pack("{s:s, s:I, s:I, s:s, s:s, s:I}", "type", "cycle", "cycle",
                           (json_int_t)s->cycle + 1, "lane", (json_int_t)(l - s->lanes), "node",
                           n->id, "title", n->action.title[0] ? n->action.title : n->choice,
                           "program", (json_int_t)base);

    if (best != NULL)
        json_object_set_new(ev, "base_q", json_integer(best->value_q));
    json_object_update(ev, more);
    json_decref(more);
    return journal_add(a->j, ev, err);
}

/* The same on a node that is inserted under the root. */
static int cycle_on_new(struct author *a, const char *title, uint32_t base, const char *why,
                        struct err *err)
{
    char id[WORLD_ID_MAX + 1];
    struct world_edit edit;
    struct world_spec *spec;
    json_t *more;

    snprintf(id, sizeof(id), "c%llu", (unsigned long long)a->s->cycle + 1);
    world_edit_init(&edit, WORLD_BY_SYSTEM, "propose", a->s->n_trials + 1);
    spec = &world_edit_add(&edit, WORLD_OP_INSERT, world_get(a->s->world, 0)->id)->spec;
    world_spec_text(spec, WORLD_SET_ID, id);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_text(spec, WORLD_SET_CHOICE, title);
    if (author_edit(a, &edit, err) != 0)
        return -1;
    more = json_pack("{s:s}", "why", why);
    warm_model_arm(a->s, world_find(a->s->world, id), more);
    return author_cycle(a, world_find(a->s->world, id), base, more, err);
}

static json_t *choice_of(const struct search *s, const struct select_choice *choice)
{
    char why[200];
    json_t *more;

    snprintf(why, sizeof(why), "chosen by policy %s among %zu executable nodes",
             select_policy_name(choice->policy), choice->frontier);
    more = json_pack("{s:s, s:o}", "why", why, "choice", select_choice_to_json(choice));
    warm_model_arm(s, choice->chosen.node, more);
    return more;
}

static size_t in_flight(const struct search *s, uint32_t out[LANES_MAX])
{
    size_t n = 0;

    for (unsigned i = 0; i < LANES_MAX; i++)
        if (s->lanes[i].stage != LANE_CLOSED)
            out[n++] = world_find(s->world, s->lanes[i].node);
    return n;
}

static bool choose(const struct search *s, struct select_choice *choice)
{
    struct score_correction correction = scores_correction(s);
    struct select_params params = select_defaults();
    uint32_t busy[LANES_MAX];

    params.policy = s->spec.policy;
    params.seed = s->spec.seed ^ s->cycle;
    params.budget_left = 1 - (double)search_measured(s) / (double)s->spec.budget_evals;
    params.in_flight = busy;
    params.n_in_flight = in_flight(s, busy);
    params.correction = &correction;
    params.weighs_gain = true;
    params.keeps_off = warm_model_keeps_off;
    params.keeps_off_ctx = s;
    if (select_next(s->world, &params, choice))
        return true;
    params.keeps_off = NULL;
    return select_next(s->world, &params, choice);
}

/* Was the model asked for proposals since the last cycle began? Once is enough. */
static bool has_proposed(const struct search *s)
{
    for (uint64_t n = s->calls.n; n >= 1; n--) {
        const struct call *c = calls_get(&s->calls, n);

        if (c->kind == CALL_PROPOSE)
            return c->cycles == s->cycle;
    }
    return false;
}

static bool waits_for_planner(const struct search *s)
{
    for (uint64_t n = s->calls.n; n >= 1; n--) {
        const struct call *c = calls_get(&s->calls, n);

        if (c->lane < 0 && !c->used)
            return true;
    }
    return false;
}

/* A best node without an open child, or an empty frontier, after the model was asked: a generic
 * small step. */
static int fall_back(struct author *a, struct err *err)
{
    struct world_edit edit;

    select_best_edit(a->s->world, a->s->n_trials, &edit);
    return author_edit(a, &edit, err);
}

/* How many evaluations are bound to come of the lanes that are open: each wants one at least. */
static bool budget_left_for_cycle(const struct search *s)
{
    uint64_t bound = search_measured(s);

    for (unsigned i = 0; i < LANES_MAX; i++)
        bound += lane_in_cycle(&s->lanes[i]);
    return bound < s->spec.budget_evals;
}

/* Is there too little to choose from? In a list no node has children, not the best one either. */
static bool needs_proposals(const struct search *s)
{
    return s->strategy->flat ? select_frontier(s->world, NULL, 0) < AUTHOR_LIST_MIN
                             : select_needs_proposals(s->world);
}

static int cycle_by_plan(struct author *a, bool *moved, struct err *err)
{
    struct search *s = a->s;
    struct select_choice choice;
    bool found;

    if (waits_for_planner(s))
        return 0;
    found = choose(s, &choice);
    if ((needs_proposals(s) || !found) && !has_proposed(s)) {
        struct prompt_ask ask = { .kind = CALL_PROPOSE, .lane = -1, .attempt = 1 };

        *moved = true;
        return author_ask(a, &ask, err);
    }
    if (!found) {
        if (search_in_cycle(s))
            return 0; /* what is under way may open more */
        *moved = true;
        return world_count(s->world) >= WORLD_NODES_MAX
                   ? author_finish(a, "its world model is full", err)
                   : fall_back(a, err);
    }
    *moved = true;
    return author_cycle(a, choice.chosen.node, base_of(s, choice.chosen.node),
                        choice_of(s, &choice), err);
}

static int cycle_by_strategy(struct author *a, bool *moved, struct err *err)
{
    struct search *s = a->s;
    struct strategy_step step;

    if (world_count(s->world) >= WORLD_NODES_MAX) {
        if (search_in_cycle(s))
            return 0;
        *moved = true;
        return author_finish(a, "its world model is full", err);
    }
    *moved = true;
    s->strategy->next(s, s->cycle + 1, &step);
    return cycle_on_new(a, step.title, step.parents[0], s->strategy->help, err);
}

int author_new_cycle(struct author *a, bool *moved, struct err *err)
{
    struct search *s = a->s;

    if (free_lane(s) == NULL || !budget_left_for_cycle(s))
        return 0;
    if (s->cycle == 0) {
        *moved = true;
        return author_seed(a, err);
    }
    /* nothing is planned before what the search begins with is measured */
    if (search_measured(s) == 0)
        return 0;
    if (warm_model_adopt(a, moved, err) != 0)
        return -1;
    if (*moved)
        return 0;
    if (s->strategy->next != NULL)
        return cycle_by_strategy(a, moved, err);
    if (s->strategy->plans && !author_has_asked(s, CALL_INIT)) {
        struct prompt_ask ask = { .kind = CALL_INIT, .lane = -1, .attempt = 1 };

        *moved = true;
        return author_ask(a, &ask, err);
    }
    return cycle_by_plan(a, moved, err);
}
