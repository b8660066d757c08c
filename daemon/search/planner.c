/* SPDX-License-Identifier: Apache-2.0 */
/* Planning with the built-in proposer; see planner.h. */
#include "search/planner.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/adoption.h"
#include "search/graft.h"
#include "search/history.h"
#include "search/intent.h"
#include "search/journal.h"
#include "search/outcome.h"
#include "search/place.h"

/* ---- Seeding ---- */

static json_t *edit_json(struct world_edit *edit)
{
    json_t *j = edit->n_ops > 0 ? world_edit_to_json(edit) : NULL;

    world_edit_release(edit);
    return j;
}

/* Half of what may be adopted is left to what other searches find meanwhile. */
static size_t seeds_adopted(const struct search *s)
{
    size_t cap = adoption_cap(s->spec.budget_evals);

    return search_memory_parts(s) & MEMORY_LIVE ? (cap + 1) / 2 : cap;
}

/* The insights that memory gives the search, as the ledger wants to know of them. */
static json_t *offered(const struct search *s, const struct memory *m)
{
    struct insight_place at = search_place(s);
    struct id ids[MEMORY_INSIGHTS_MAX];

    for (size_t i = 0; i < m->n_insights; i++)
        ids[i] = m->insights[i].id;
    return credit_offered(s->kb, s->space, &at, ids, m->n_insights);
}

static int seed_warm(struct search *s, json_t *event, json_t *seeds, struct err *err)
{
    struct memory_relative relatives[MEMORY_RELATIVES_MAX];
    size_t n = memory_relatives(s->scope.relatives, relatives, MEMORY_RELATIVES_MAX);
    unsigned parts = search_memory_parts(s);
    size_t adopt = parts & MEMORY_ADOPT ? seeds_adopted(s) : 0;
    struct memory *m = xcalloc(1, sizeof(*m));
    struct world_edit edit;
    json_t *found, *past = NULL;
    int rc;

    world_edit_init(&edit, WORLD_BY_BUILTIN, "graft", 0);
    /* Full tables of other devices say more together than each one's favourite: the engine's first
     * proposal is the best by all of them. */
    rc = memory_recall(s->kb, s->space, s->scope.family, s->spec.device, s->scope.device_class,
                       relatives, n, adopt, s->recorded ? 1 : 0, m, err);
    if (rc == 0 && (parts & MEMORY_PLANS))
        rc = graft_plans(s->kb, m, s->space, world_count(s->world), &edit, seeds, err);
    if (rc == 0)
        rc = history_recall(s->history, s->kb, s->scope.family, s->scope.device_class, &past, err);
    if (rc == 0) {
        found = memory_seeds(m, s->space);
        json_array_extend(seeds, found);
        json_decref(found);
        json_object_set_new(event, "memory", memory_to_json(m, s->space));
        json_object_set_new(event, "calibration", past);
        json_object_set_new(event, "offered", offered(s, m));
        found = edit_json(&edit);
        if (found)
            json_object_set_new(event, "edit", found);
    } else {
        world_edit_release(&edit);
    }
    free(m);
    return rc;
}

static int begin(struct journal *j, struct err *err)
{
    struct search *s = j->search;
    json_t *seeds = json_array();
    json_t *event = json_pack("{s:s, s:o}", "type", "seeded", "seeds", seeds);

    if (!s->spec.cold && seed_warm(s, event, seeds, err) != 0) {
        json_decref(event);
        return -1;
    }
    /* one that was paused before its first step runs already */
    if (s->state == SEARCH_QUEUED &&
        journal_add(j, json_pack("{s:s}", "type", "started"), err) != 0) {
        json_decref(event);
        return -1;
    }
    return journal_add(j, event, err);
}

/* ---- A new cycle ---- */

enum {
    WAITING_WEIGHED_MAX = 8, /* open nodes that are priced beside the proposal */
    START_FREE = 2           /* spread evaluations before the first step of a plan */
};

/*
 * Open nodes that wait (from memory, or passed over before) are priced by the engine like the
 * proposal, so that their beliefs follow what was measured: score = their expected improvement over
 * the best of all.
 */
struct weighed {
    uint32_t node;
    struct intent intent;
};

static size_t weigh_waiting(struct search *s, struct weighed *out, struct world_edit *edit)
{
    uint32_t frontier[WAITING_WEIGHED_MAX];
    size_t n = MIN(select_frontier(s->world, frontier, ARRAY_LEN(frontier)), ARRAY_LEN(frontier));
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        uint16_t pattern[SPACE_PARAMS_MAX];
        struct err err;

        place_pattern(s, frontier[i], pattern);
        if (intent_propose(s, pattern, &out[found].intent, &err) == 0)
            out[found++].node = frontier[i];
        else if (err.code == ERR_NOT_FOUND)
            world_edit_abandon(edit, world_get(s->world, frontier[i])->id,
                               "all its assignments were measured elsewhere in the tree");
    }
    return found;
}

static void rescore(struct world_edit *edit, const char *node, double score,
                    const struct intent *in)
{
    struct world_spec *spec = &world_edit_add(edit, WORLD_OP_UPDATE, node)->spec;

    world_spec_number(spec, WORLD_SET_SCORE, fmin(1, fmax(0, score)));
    if (in->forecast.informed)
        place_expect(spec, in);
}

static int add_cycle(struct journal *j, const char *node, json_t *choice, const char *why,
                     struct err *err)
{
    struct search *s = j->search;
    const struct world_node *n = world_get(s->world, world_find(s->world, node));
    const struct world_node *parent = world_get(s->world, n->parent);
    json_t *ev =
        json_pack("{s:s, s:I, s:s, s:s, s:s}", "type", "cycle", "cycle", (json_int_t)s->cycle + 1,
                  "node", node, "title", n->action.title, "why", why);

    if (choice != NULL)
        json_object_set_new(ev, "choice", choice);
    if (world_is_solved(parent))
        json_object_set_new(ev, "base_q", json_integer(parent->evidence.objective_q));
    return journal_add(j, ev, err);
}

/* The memory-free arm's share, and what it is owed once this attempt is made. */
static void set_arms(const struct search *s, const struct intent *in, json_t *ev)
{
    struct trust trust;
    double due;

    trust_of(s, &trust);
    due = trust_due(s, &trust);
    if (in->arm == ENGINE_ARM_COLD)
        due = fmax(0, due - 1);
    json_object_set_new(ev, "memory_free_share", json_real(trust.share));
    json_object_set_new(ev, "due", json_real(due));
}

static int add_attempt(struct journal *j, const struct intent *in, struct err *err)
{
    struct search *s = j->search;
    const struct lane *l = &s->lanes[0];
    const struct world_node *n = world_get(s->world, world_find(s->world, l->node));
    json_t *ev = json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:o}", "type", "attempt",
                           "evaluation", (json_int_t)s->n_trials + 1, "cycle", (json_int_t)s->cycle,
                           "attempt", (json_int_t)l->stagnation.rounds + 1, "node", l->node,
                           "title", n->action.title, "why", in->origin, "arm",
                           intent_arm_name(in->arm), "assignment", space_to_json(s->space, in->a));

    forecast_add(&in->forecast, ev);
    if (in->arm == ENGINE_ARM_MEMORY)
        credit_serve(&s->offers, in->a, ev);
    if (in->from[0])
        json_object_set_new(ev, "adopted", json_string(in->from));
    if (in->plan)
        json_object_set_new(ev, "plan", json_true());
    if (in->live)
        json_object_set_new(ev, "live", json_true());
    if (s->memory != NULL)
        set_arms(s, in, ev);
    return journal_add(j, ev, err);
}

/* Stores an edit as an event of its own, when it has anything. */
static int add_edit(struct journal *j, struct world_edit *edit, struct err *err)
{
    json_t *stored = edit->n_ops > 0 ? world_edit_to_json(edit) : NULL;

    world_edit_release(edit);
    if (stored == NULL)
        return 0;
    return journal_add(j, json_pack("{s:s, s:o}", "type", "edited", "edit", stored), err);
}

/* Begins a cycle for exactly this intent. */
static int cycle_for(struct journal *j, const struct intent *in, const char *why, struct err *err)
{
    struct search *s = j->search;
    struct place pl = place_find(s, in->a);
    char id[WORLD_ID_MAX + 1];
    struct world_edit edit;

    world_edit_init(&edit, WORLD_BY_BUILTIN, "propose", s->n_trials + 1);
    if (pl.node == WORLD_NONE)
        place_insert(s, &pl, in, &edit, id);
    else
        str_copy(id, sizeof(id), world_get(s->world, pl.node)->id);
    if (add_edit(j, &edit, err) != 0 || add_cycle(j, id, NULL, why, err) != 0)
        return -1;
    return add_attempt(j, in, err);
}

/* The intent that belongs to a chosen node: its own when it was weighed, the proposal for the
 * proposal's node. */
static int intent_for(struct search *s, uint32_t node, const struct weighed *waiting, size_t n,
                      const char *proposal_node, const struct intent *proposal, struct intent *out,
                      struct err *err)
{
    uint16_t pattern[SPACE_PARAMS_MAX];

    for (size_t i = 0; i < n; i++)
        if (waiting[i].node == node) {
            *out = waiting[i].intent;
            return 0;
        }
    if (strcmp(world_get(s->world, node)->id, proposal_node) == 0) {
        *out = *proposal;
        return 0;
    }
    place_pattern(s, node, pattern);
    return intent_propose(s, pattern, out, err);
}

/* Begins a cycle by the selection policy, among the proposal's node and those that wait. */
static int cycle_by_policy(struct journal *j, const struct intent *in, struct err *err)
{
    struct search *s = j->search;
    struct weighed waiting[WAITING_WEIGHED_MAX];
    struct select_params params = select_defaults();
    struct place pl = place_find(s, in->a);
    struct select_choice choice;
    struct intent chosen;
    struct world_edit edit;
    char id[WORLD_ID_MAX + 1], why[200];
    double top = in->ei;
    size_t n;

    world_edit_init(&edit, WORLD_BY_BUILTIN, "propose", s->n_trials + 1);
    n = weigh_waiting(s, waiting, &edit);
    for (size_t i = 0; i < n; i++)
        top = fmax(top, waiting[i].intent.ei);
    for (size_t i = 0; i < n; i++)
        rescore(&edit, world_get(s->world, waiting[i].node)->id,
                top > 0 ? waiting[i].intent.ei / top : 0, &waiting[i].intent);
    if (pl.node == WORLD_NONE) {
        place_insert(s, &pl, in, &edit, id);
        world_spec_number(&edit.ops[edit.n_ops - 1].spec, WORLD_SET_SCORE,
                          top > 0 ? fmin(1, in->ei / top) : 1);
    } else {
        str_copy(id, sizeof(id), world_get(s->world, pl.node)->id);
    }
    if (add_edit(j, &edit, err) != 0)
        return -1;
    params.policy = s->spec.policy;
    params.seed = s->spec.seed ^ s->n_trials;
    params.budget_left = 1 - (double)search_measured(s) / (double)s->spec.budget_evals;
    if (!select_next(s->world, &params, &choice))
        return err_set(err, ERR_INTERNAL, "search '%s' has no executable node", s->spec.id);
    if (intent_for(s, choice.chosen.node, waiting, n, id, in, &chosen, err) != 0)
        return -1;
    snprintf(why, sizeof(why), "chosen by policy %s among %zu executable nodes",
             select_policy_name(choice.policy), choice.frontier);
    if (add_cycle(j, choice.chosen.id, select_choice_to_json(&choice), why, err) != 0)
        return -1;
    return add_attempt(j, &chosen, err);
}

/* ---- Memory's turn, and its retreat ---- */

/* What other searches found since; they are told of at the attempt, not at the end. */
static int hear(struct journal *j, struct err *err)
{
    json_t *event = NULL;

    if (!(search_memory_parts(j->search) & MEMORY_LIVE))
        return 0;
    if (live_look(j->search, &event, err) != 0)
        return -1;
    return event != NULL ? journal_add(j, event, err) : 0;
}

/* Says when memory begins to lose, and when it has made up for it. */
static int judge_memory(struct journal *j, const struct trust *t, struct err *err)
{
    if (t->lost == j->search->retreated)
        return 0;
    return journal_add(j,
                       json_pack("{s:s, s:b, s:f, s:s}", "type", "trust", "retreat", t->lost,
                                 "memory_free_share", t->share, "why", t->why),
                       err);
}

/* The most promising step of a plan that can be taken; WORLD_NONE when there is none. */
static uint32_t plan_node(const struct search *s)
{
    uint32_t n = world_count(s->world), best = WORLD_NONE;

    for (uint32_t i = 1; i < n; i++) {
        const struct world_node *node = world_get(s->world, i);

        if (node->graft.search[0] && node->action.difficulty < GRAFT_DEAD_DIFFICULTY &&
            world_is_executable(s->world, i) &&
            (best == WORLD_NONE || node->action.score > world_get(s->world, best)->action.score))
            best = i;
    }
    return best;
}

/*
 * Has the plan earned another step? The first is for free; after that there must be as many
 * evaluations without memory beside it, and none of them better than the plan's best.
 */
static bool plan_has_earned(const struct search *s)
{
    int64_t best_plan = INT64_MIN, best_free = INT64_MIN;
    size_t plan = 0, without = 0;

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);
        int64_t q = t->ok ? t->objective_q : INT64_MIN;

        plan += t->plan;
        without += !trial_steered(t);
        if (t->plan)
            best_plan = MAX(best_plan, q);
        else if (!trial_steered(t))
            best_free = MAX(best_free, q);
    }
    return without >= plan + START_FREE && (plan == 0 || best_plan > best_free);
}

/* Takes a step of a plan where no numeric prior prices plans; *done says whether there was one. */
static int cycle_for_plan(struct journal *j, bool *done, struct err *err)
{
    struct search *s = j->search;
    uint32_t node;

    while ((node = plan_node(s)) != WORLD_NONE) {
        const char *id = world_get(s->world, node)->id;
        struct world_edit edit;
        struct intent in;

        if (intent_of_plan(s, node, &in, err) == 0) {
            *done = true;
            return add_cycle(j, id, NULL, in.origin, err) != 0 ? -1 : add_attempt(j, &in, err);
        }
        if (err->code != ERR_NOT_FOUND)
            return -1;
        world_edit_init(&edit, WORLD_BY_BUILTIN, "propose", s->n_trials + 1);
        world_edit_abandon(&edit, id, "all its assignments were measured elsewhere in the tree");
        if (add_edit(j, &edit, err) != 0)
            return -1;
    }
    return 0;
}

/*
 * What memory has to offer before the engine is asked: an assignment to adopt, a step of a plan. A
 * memory-free evaluation that is owed comes first, however early; *done says that one of them began
 * a cycle.
 */
static int memory_turn(struct journal *j, const struct trust *t, bool *done, struct err *err)
{
    struct search *s = j->search;
    struct intent in;

    if (trust_due(s, t) >= 1) {
        if (intent_memory_free(s, &in, err) != 0)
            return err->code == ERR_NOT_FOUND ? 0 : -1;
        *done = true;
        return cycle_for(j, &in, in.origin, err);
    }
    if (t->lost)
        return 0;
    if (intent_adopt(s, &in)) {
        *done = true;
        return cycle_for(j, &in, in.live ? "found by a running search" : "adopted from memory",
                         err);
    }
    if (engine_sources(s->engine) == 0 && plan_has_earned(s))
        return cycle_for_plan(j, done, err);
    return 0;
}

static int new_cycle(struct journal *j, bool *exhausted, struct err *err)
{
    struct search *s = j->search;
    struct trust trust = { 0 };
    struct intent in;
    bool done = false;

    if (s->memory != NULL) {
        if (hear(j, err) != 0)
            return -1;
        trust_of(s, &trust);
        if (judge_memory(j, &trust, err) != 0 || memory_turn(j, &trust, &done, err) != 0)
            return -1;
        if (done)
            return 0;
    }
    if (intent_propose(s, NULL, &in, err) != 0) {
        *exhausted = err->code == ERR_NOT_FOUND;
        return *exhausted ? 0 : -1;
    }
    /* The memory-free arm follows its own proposal: nothing from memory competes with it. Nor does
     * it while memory loses. */
    if (s->spec.cold || in.arm == ENGINE_ARM_COLD || trust.lost)
        return cycle_for(j, &in, in.origin, err);
    return cycle_by_policy(j, &in, err);
}

/* Ends a cycle early when the memory-free arm is owed an evaluation, or when something is to be
 * adopted: both are told of at the attempt. */
static int look_up(struct journal *j, const char **cycle_over, struct err *err)
{
    struct search *s = j->search;
    struct trust trust;
    struct intent in;

    if (s->memory == NULL)
        return 0;
    if (hear(j, err) != 0)
        return -1;
    trust_of(s, &trust);
    if (judge_memory(j, &trust, err) != 0)
        return -1;
    if (trust_due(s, &trust) >= 1)
        *cycle_over = "an evaluation is owed to the memory-free arm";
    else if (!trust.lost && intent_adopt(s, &in))
        *cycle_over = "memory has an assignment to measure here";
    return 0;
}

/* The next attempt of the open cycle, within what its node has settled; *cycle_over says why there
 * is none. */
static int next_attempt(struct journal *j, const char **cycle_over, struct err *err)
{
    struct search *s = j->search;
    uint16_t pattern[SPACE_PARAMS_MAX];
    struct intent in;

    /* staying below a node would make the next uniform draw less than uniform */
    if (intent_is_random(s))
        *cycle_over = "nothing more is tried below this node";
    else if (look_up(j, cycle_over, err) != 0)
        return -1;
    if (*cycle_over != NULL)
        return 0;
    place_pattern(s, world_find(s->world, s->lanes[0].node), pattern);
    if (intent_propose(s, pattern, &in, err) == 0)
        return add_attempt(j, &in, err);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *cycle_over = "nothing more is tried below this node";
    return 0;
}

/* The last champion is checked on the hold-out set first; a reason to end is found again then. */
static int finish(struct journal *j, const char *reason, struct err *err)
{
    if (holdout_is_due_at_end(j->search))
        return holdout_plan(j, err);
    return journal_add(j, json_pack("{s:s, s:s}", "type", "done", "reason", reason), err);
}

int planner_step(struct journal *j, struct err *err)
{
    struct search *s = j->search;

    if (!s->begun && s->state != SEARCH_PAUSED && begin(j, err) != 0)
        return -1;
    while (s->state == SEARCH_RUNNING && search_open_trial(s) == NULL && s->holdout.open == 0) {
        const char *why = search_exhausted(s), *cycle_over = NULL;
        bool over = false;

        if (why != NULL && lane_in_cycle(&s->lanes[0])) {
            if (outcome_end_cycle(j, &s->lanes[0], why, err) != 0)
                return -1;
        } else if (why != NULL) {
            if (finish(j, why, err) != 0)
                return -1;
        } else if (holdout_is_due(s)) {
            if (holdout_plan(j, err) != 0)
                return -1;
        } else if (lane_in_cycle(&s->lanes[0])) {
            if (next_attempt(j, &cycle_over, err) != 0 ||
                (cycle_over != NULL && outcome_end_cycle(j, &s->lanes[0], cycle_over, err) != 0))
                return -1;
        } else if (world_count(s->world) >= WORLD_NODES_MAX) {
            if (finish(j, "its world model is full", err) != 0)
                return -1;
        } else {
            if (new_cycle(j, &over, err) != 0 ||
                (over && finish(j, "every assignment of the space was measured", err) != 0))
                return -1;
        }
    }
    return 0;
}
