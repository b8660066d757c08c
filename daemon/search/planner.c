/* SPDX-License-Identifier: Apache-2.0 */
/* Planning with the built-in proposer; see planner.h. */
#include "search/planner.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/graft.h"
#include "search/outcome.h"

enum {
    RANDOM_DRAWS_MAX = 2000,
    ADOPT_MAX = 2,          /* programs adopted by re-measurement */
    WAITING_WEIGHED_MAX = 8 /* open nodes that are priced beside the proposal */
};

/* What is to be measured next, and on whose word. */
struct intent {
    uint16_t a[SPACE_PARAMS_MAX];
    enum engine_arm arm;
    const char *origin; /* static */
    bool predicted;
    double mean, sd; /* of the log of the objective */
    double ei;
    const struct memory_adoption *adoption; /* NULL: proposed, not adopted */
};

static const char *const origins[ENGINE_ORIGIN_COUNT] = {
    [ENGINE_ORIGIN_RANDOM] = "a starting point, spread out over the space",
    [ENGINE_ORIGIN_GP] = "largest expected improvement over all assignments",
    [ENGINE_ORIGIN_NEAR] = "largest expected improvement one change away from the best",
    [ENGINE_ORIGIN_FOREST] = "largest expected improvement by the randomised forest",
    [ENGINE_ORIGIN_PRIOR] = "best in what near tasks and devices recorded",
    [ENGINE_ORIGIN_WARM] = "largest expected improvement with the records of near tasks as prior",
};

static const char *arm_name(enum engine_arm arm)
{
    static const char *const names[ENGINE_ARM_COUNT] = { "cold", "memory", "other" };

    return names[arm];
}

/* ---- Seeding ---- */

static size_t read_relatives(const json_t *j, struct memory_relative *out, size_t max)
{
    const json_t *v;
    size_t i, n = 0;

    json_array_foreach (j, i, v)
        if (n < max)
            out[n++] =
                (struct memory_relative){ jsonx_str(v, "task", ""), jsonx_num(v, "similarity", 0) };
    return n;
}

static json_t *edit_json(struct world_edit *edit)
{
    json_t *j = edit->n_ops > 0 ? world_edit_to_json(edit) : NULL;

    world_edit_release(edit);
    return j;
}

static int seed_warm(struct search *s, json_t *event, json_t *seeds, struct err *err)
{
    struct memory_relative relatives[64];
    size_t n = read_relatives(s->scope.relatives, relatives, ARRAY_LEN(relatives));
    size_t adopt = MIN((size_t)ADOPT_MAX, (size_t)(s->spec.budget_evals / 8 + 1));
    struct memory *m = xcalloc(1, sizeof(*m));
    struct world_edit edit;
    json_t *found;
    int rc;

    world_edit_init(&edit, WORLD_BY_BUILTIN, "graft", 0);
    /* Full tables of other devices say more together than each one's favourite: the engine's first
     * proposal is the best by all of them. */
    rc = memory_recall(s->kb, s->space, s->scope.family, s->spec.device, s->scope.device_class,
                       relatives, n, adopt, s->recorded ? 1 : 0, m, err);
    if (rc == 0)
        rc = graft_plans(s->kb, m, s->space, world_count(s->world), &edit, seeds, err);
    if (rc == 0) {
        found = memory_seeds(m, s->space);
        json_array_extend(seeds, found);
        json_decref(found);
        json_object_set_new(event, "memory", memory_to_json(m, s->space));
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
    if (journal_add(j, json_pack("{s:s}", "type", "started"), err) != 0) {
        json_decref(event);
        return -1;
    }
    return journal_add(j, event, err);
}

/* ---- What to measure ---- */

/* The engine works in log time, the search in log speed-up: one changes sign. */
static void take_proposal(struct intent *in, const struct engine_proposal *p, size_t width)
{
    memcpy(in->a, p->a, width * sizeof(*p->a));
    in->arm = p->arm;
    in->origin = origins[p->origin];
    in->predicted = isfinite(p->mean) && p->sd > 0;
    in->mean = -p->mean;
    in->sd = p->sd;
    in->ei = isfinite(p->ei) ? p->ei : 0;
    in->adoption = NULL;
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
        if (!engine_seen(s->engine, in->a))
            return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "%d random draws were all measured before",
                   RANDOM_DRAWS_MAX);
}

static bool is_random(const struct search *s)
{
    return strcmp(s->spec.proposer, "random") == 0;
}

static int propose(struct search *s, const uint16_t *pattern, struct intent *in, struct err *err)
{
    struct engine_proposal p;

    if (is_random(s))
        return propose_random(s, pattern, in, err);
    if (engine_propose(s->engine, pattern, &p, err) != 0)
        return -1;
    take_proposal(in, &p, space_n(s->space));
    return 0;
}

/* The first assignment to adopt that has not been measured here yet; false when all are. */
static bool next_adoption(struct search *s, struct intent *in)
{
    const struct memory_adoption *ad = NULL;
    struct err ignored;
    double mean, sd;

    for (size_t i = 0; s->memory != NULL && ad == NULL && i < s->memory->n_adoptions; i++)
        if (!engine_seen(s->engine, s->memory->adoptions[i].a))
            ad = &s->memory->adoptions[i];
    if (ad == NULL)
        return false;
    *in = (struct intent){ .arm = ENGINE_ARM_MEMORY,
                           .origin = "adopted from memory, measured again here",
                           .adoption = ad };
    memcpy(in->a, ad->a, space_n(s->space) * sizeof(*in->a));
    if (engine_predict(s->engine, in->a, &mean, &sd, &ignored) == 0) {
        in->predicted = true;
        in->mean = -mean;
        in->sd = sd;
    }
    return true;
}

/* The commitments on the path to a node as a pattern of the space. */
static void node_pattern(const struct search *s, uint32_t node, uint16_t *pattern)
{
    for (size_t p = 0; p < space_n(s->space); p++) {
        const char *v = world_commitment(s->world, node, space_param(s->space, p)->name);
        int i = v ? space_value_find(s->space, p, v) : -1;

        pattern[p] = i < 0 ? SPACE_ANY : (uint16_t)i;
    }
}

/* ---- Where it belongs in the tree ---- */

static const char *value_text(const struct search *s, size_t p, uint16_t v)
{
    return space_param(s->space, p)->values[v].text;
}

/* The child of `parent` that decides parameter p as value v; WORLD_NONE when there is none. */
static uint32_t child_deciding(const struct search *s, uint32_t parent, size_t p, uint16_t v)
{
    const char *name = space_param(s->space, p)->name;
    uint32_t c = world_get(s->world, parent)->first_child;

    for (; c != WORLD_NONE; c = world_get(s->world, c)->next_sibling) {
        const struct world_node *n = world_get(s->world, c);

        if (n->kind == WORLD_DECISION && n->n_commitments == 1 &&
            strcmp(n->commitments[0].param, name) == 0 &&
            strcmp(n->commitments[0].value, value_text(s, p, v)) == 0)
            return c;
    }
    return WORLD_NONE;
}

/* Where an assignment goes: an open node that waits for it, or a new child of `parent`. */
struct place {
    uint32_t node;   /* WORLD_NONE: insert */
    uint32_t parent; /* of what is inserted */
    int param;       /* structural parameter that the new decision settles; -1: a leaf */
};

/*
 * "KV_TILE=64 UNROLL=4 ..." of the parameters that the path does not settle yet. Titles tell
 * siblings apart: one too long to say everything ends in a hash of the whole.
 */
static char *leaf_title(const struct search *s, uint32_t parent, const uint16_t *a)
{
    struct buf b = { .max = WORLD_LABEL_MAX - 20 };
    char hash[20];

    for (size_t p = 0; p < space_n(s->space); p++) {
        const struct space_param *param = space_param(s->space, p);

        if (param->n_values < 2 || world_commitment(s->world, parent, param->name) != NULL)
            continue;
        if (buf_addf(&b, "%s%s=%s", b.len ? " " : "", param->name, param->values[a[p]].text) != 0) {
            b.max = WORLD_LABEL_MAX;
            snprintf(hash, sizeof(hash), " #%016llx", (unsigned long long)space_hash(s->space, a));
            buf_addf(&b, "%s", hash);
            break;
        }
    }
    return buf_take(&b);
}

/* A leaf for this assignment that waits already; WORLD_NONE when there is none. */
static uint32_t open_leaf(const struct search *s, uint32_t parent, const uint16_t *a)
{
    CLEANUP(freep) char *title = leaf_title(s, parent, a);
    uint32_t c = world_get(s->world, parent)->first_child;

    for (; c != WORLD_NONE; c = world_get(s->world, c)->next_sibling) {
        const struct world_node *n = world_get(s->world, c);

        if (n->kind == WORLD_LEAF && n->state == WORLD_OPEN && strcmp(n->action.title, title) == 0)
            return c;
    }
    return WORLD_NONE;
}

/*
 * Walks down along the assignment's structural choices through closed nodes. The first open node on
 * the path takes it; the first missing one is inserted; below the last decision, and beside an
 * abandoned one, it is a leaf.
 */
static struct place find_place(const struct search *s, const uint16_t *a)
{
    uint32_t at = 0;

    for (size_t p = 0; p < space_n(s->space); p++) {
        uint32_t child;

        if (space_param(s->space, p)->role != SPACE_STRUCTURAL ||
            space_param(s->space, p)->n_values < 2)
            continue;
        child = child_deciding(s, at, p, a[p]);
        if (child == WORLD_NONE)
            return (struct place){ WORLD_NONE, at, (int)p };
        switch (world_get(s->world, child)->state) {
        case WORLD_OPEN:
            return (struct place){ child, at, (int)p };
        case WORLD_ABANDONED:
            return (struct place){ open_leaf(s, at, a), at, -1 };
        case WORLD_CLOSED:
        case WORLD_STATE_COUNT:
            break;
        }
        at = child;
    }
    return (struct place){ open_leaf(s, at, a), at, -1 };
}

static void describe_decision(const struct search *s, struct world_spec *spec, size_t p, uint16_t v)
{
    const struct space_param *param = space_param(s->space, p);
    const char *help = param->values[v].help ? param->values[v].help : param->help;
    CLEANUP(freep)
    char *title = str_printf("%s: %s=%s", param->technique ? param->technique : "tuning",
                             param->name, param->values[v].text);

    world_spec_kind(spec, WORLD_DECISION);
    world_spec_text(spec, WORLD_SET_DECISION, param->name);
    world_spec_text(spec, WORLD_SET_CHOICE, param->values[v].text);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_text(spec, WORLD_SET_DESCRIPTION, help ? help : "");
    world_spec_commit(spec, param->name, param->values[v].text);
}

static void describe_leaf(const struct search *s, struct world_spec *spec, uint32_t parent,
                          const uint16_t *a)
{
    CLEANUP(freep) char *title = leaf_title(s, parent, a);

    world_spec_kind(spec, WORLD_LEAF);
    world_spec_text(spec, WORLD_SET_DECISION, "numeric assignment");
    world_spec_text(spec, WORLD_SET_CHOICE, title);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    for (size_t p = 0; p < space_n(s->space); p++)
        if (world_commitment(s->world, parent, space_param(s->space, p)->name) == NULL)
            world_spec_commit(spec, space_param(s->space, p)->name, value_text(s, p, a[p]));
}

/* A model that knows nothing yet may say anything: a node holds what is within reason. */
static void set_expected(struct world_spec *spec, const struct intent *in)
{
    world_spec_number(spec, WORLD_SET_EXPECTED, fmin(20, fmax(-20, in->mean)));
    world_spec_number(spec, WORLD_SET_EXPECTED_SD, fmin(10, in->sd));
}

/* Inserts the node for an intent and writes its id. */
static void insert_node(const struct search *s, const struct place *pl, const struct intent *in,
                        struct world_edit *edit, char id[WORLD_ID_MAX + 1])
{
    const char *parent = world_get(s->world, pl->parent)->id;
    struct world_spec *spec = &world_edit_add(edit, WORLD_OP_INSERT, parent)->spec;

    snprintf(id, WORLD_ID_MAX + 1, "n%u", world_count(s->world));
    world_spec_text(spec, WORLD_SET_ID, id);
    if (pl->param >= 0)
        describe_decision(s, spec, (size_t)pl->param, in->a[pl->param]);
    else
        describe_leaf(s, spec, pl->parent, in->a);
    world_spec_text(spec, WORLD_SET_RATIONALE, in->origin);
    world_spec_number(spec, WORLD_SET_DIFFICULTY, 2);
    world_spec_number(spec, WORLD_SET_SCORE, 1);
    world_spec_number(spec, WORLD_SET_RATING, 5);
    world_spec_number(spec, WORLD_SET_CONFIDENCE, in->predicted ? 1 / (1 + 5 * in->sd) : 0.1);
    if (in->predicted)
        set_expected(spec, in);
    if (in->adoption)
        world_spec_graft(spec, NULL, NULL, s->memory->sources[in->adoption->source].similarity,
                         true);
}

/* ---- A new cycle ---- */

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

        node_pattern(s, frontier[i], pattern);
        if (propose(s, pattern, &out[found].intent, &err) == 0)
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
    if (in->predicted)
        set_expected(spec, in);
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

static int add_attempt(struct journal *j, const struct intent *in, struct err *err)
{
    struct search *s = j->search;
    const struct world_node *n = world_get(s->world, world_find(s->world, s->cycle_node));
    json_t *ev = json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:o}", "type", "attempt",
                           "evaluation", (json_int_t)s->n_trials + 1, "cycle", (json_int_t)s->cycle,
                           "attempt", (json_int_t)s->stagnation.rounds + 1, "node", s->cycle_node,
                           "title", n->action.title, "why", in->origin, "arm", arm_name(in->arm),
                           "assignment", space_to_json(s->space, in->a));

    if (in->predicted)
        json_object_set_new(ev, "predicted",
                            json_pack("{s:f, s:f}", "mean", in->mean, "sd", in->sd));
    if (in->adoption) {
        const struct memory_source *src = &s->memory->sources[in->adoption->source];
        char from[220];

        snprintf(from, sizeof(from), "%s@%s", src->task, src->device);
        json_object_set_new(ev, "adopted", json_string(from));
    }
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
    struct place pl = find_place(s, in->a);
    char id[WORLD_ID_MAX + 1];
    struct world_edit edit;

    world_edit_init(&edit, WORLD_BY_BUILTIN, "propose", s->n_trials + 1);
    if (pl.node == WORLD_NONE)
        insert_node(s, &pl, in, &edit, id);
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
    node_pattern(s, node, pattern);
    return propose(s, pattern, out, err);
}

/* Begins a cycle by the selection policy, among the proposal's node and those that wait. */
static int cycle_by_policy(struct journal *j, const struct intent *in, struct err *err)
{
    struct search *s = j->search;
    struct weighed waiting[WAITING_WEIGHED_MAX];
    struct select_params params = select_defaults();
    struct place pl = find_place(s, in->a);
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
        insert_node(s, &pl, in, &edit, id);
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

static int new_cycle(struct journal *j, bool *exhausted, struct err *err)
{
    struct search *s = j->search;
    struct intent in;

    if (next_adoption(s, &in))
        return cycle_for(j, &in, "adopted from memory", err);
    if (propose(s, NULL, &in, err) != 0) {
        *exhausted = err->code == ERR_NOT_FOUND;
        return *exhausted ? 0 : -1;
    }
    /* The memory-free arm follows its own proposal: nothing from memory competes with it. */
    if (s->spec.cold || in.arm == ENGINE_ARM_COLD)
        return cycle_for(j, &in, in.origin, err);
    return cycle_by_policy(j, &in, err);
}

/* The next attempt of the open cycle, within what its node has settled; NOT_FOUND ends the cycle.
 */
static int next_attempt(struct journal *j, bool *cycle_over, struct err *err)
{
    struct search *s = j->search;
    uint16_t pattern[SPACE_PARAMS_MAX];
    struct intent in;

    if (is_random(s)) {
        *cycle_over = true; /* staying below a node would make the next draw less than uniform */
        return 0;
    }
    node_pattern(s, world_find(s->world, s->cycle_node), pattern);
    if (propose(s, pattern, &in, err) == 0)
        return add_attempt(j, &in, err);
    *cycle_over = err->code == ERR_NOT_FOUND;
    return *cycle_over ? 0 : -1;
}

static int finish(struct journal *j, const char *reason, struct err *err)
{
    return journal_add(j, json_pack("{s:s, s:s}", "type", "done", "reason", reason), err);
}

int planner_step(struct journal *j, struct err *err)
{
    struct search *s = j->search;

    if (s->next_seq == 0 && begin(j, err) != 0)
        return -1;
    while (s->state == SEARCH_RUNNING && search_open_trial(s) == NULL) {
        const char *why = search_exhausted(s);
        bool over = false;

        if (why != NULL && s->in_cycle) {
            if (outcome_end_cycle(j, why, err) != 0)
                return -1;
        } else if (why != NULL) {
            if (finish(j, why, err) != 0)
                return -1;
        } else if (s->in_cycle) {
            if (next_attempt(j, &over, err) != 0 ||
                (over && outcome_end_cycle(j, "nothing more is tried below this node", err) != 0))
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
