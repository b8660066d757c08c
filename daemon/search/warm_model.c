/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for a search that a language model plans: the start, the arms, adoption; see warm_model.h.
 * What prompts tell is warm_insights.c. */
#include "search/warm_model.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/adoption.h"
#include "search/author_priv.h"
#include "search/gifts.h"
#include "search/graft_model.h"
#include "search/history.h"
#include "search/journal.h"
#include "search/strategy.h"
#include "search/trust.h"

enum { DUE_MAX = 2 /* cycles that the memory-free arm can be owed */ };

/* ---- The beginning ---- */

/* Half of what may be adopted is left to what other searches find meanwhile. */
static size_t adopted_at_start(const struct search *s)
{
    size_t cap = adoption_cap(s->spec.budget_evals);

    if (!(search_memory_parts(s) & MEMORY_ADOPT))
        return 0;
    if (search_memory_parts(s) & MEMORY_LIVE)
        cap = (cap + 1) / 2;
    return MIN(cap, (size_t)WARM_MODEL_ADOPT_MAX);
}

int warm_model_seed(struct search *s, json_t *event, json_t *seeds, struct err *err)
{
    struct memory *m = xcalloc(1, sizeof(*m));
    json_t *gifts = NULL, *plans = NULL, *past = NULL;
    int rc;

    m->as_of = kb_last_seq(s->kb);
    rc = gifts_recall(s, m, adopted_at_start(s), &gifts, err);
    if (rc == 0 && s->strategy->plans && (search_memory_parts(s) & MEMORY_PLANS))
        rc = graft_model_plans(s->kb, m, &plans, err);
    if (rc == 0)
        rc = history_recall(s->history, s->kb, s->scope.family, s->scope.device_class, &past, err);
    if (rc == 0) {
        json_object_set_new(event, "memory", memory_to_json(m, s->space));
        json_object_set(event, "gifts", gifts);
        json_object_set(event, "plans", plans ? plans : json_null());
        json_object_set(event, "calibration", past);
        json_array_extend(seeds, gifts);
    }
    json_decref(gifts);
    json_decref(plans);
    json_decref(past);
    free(m);
    return rc;
}

/* ---- The memory-free arm ---- */

/* What the arm is owed when a cycle begins, before it is paid. */
static double owed(const struct search *s, const struct trust *t)
{
    return fmin(DUE_MAX, s->due + t->share);
}

bool warm_model_owes(const struct search *s)
{
    struct trust t;

    if (s->memory == NULL)
        return false;
    trust_of(s, &t);
    return owed(s, &t) >= 1;
}

bool warm_model_keeps_off(const void *search, uint32_t node)
{
    const struct search *s = search;

    if (s->retreated && world_get(s->world, node)->graft.search[0])
        return true;
    return gifts_steered(s, node) && warm_model_owes(s);
}

void warm_model_arm(const struct search *s, uint32_t node, json_t *cycle)
{
    struct trust t;
    double due;
    bool is_free;

    if (s->memory == NULL)
        return;
    trust_of(s, &t);
    due = owed(s, &t);
    is_free = due >= 1 && !gifts_steered(s, node);
    json_object_set_new(cycle, "memory_free", json_boolean(is_free));
    json_object_set_new(cycle, "due", json_real(due - (is_free ? 1 : 0)));
    json_object_set_new(cycle, "memory_free_share", json_real(t.share));
}

/* Says when memory begins to lose, and when it has made up for it. */
static int judge(struct author *a, bool *moved, struct err *err)
{
    struct trust t;

    trust_of(a->s, &t);
    if (t.lost == a->s->retreated)
        return 0;
    *moved = true;
    return journal_add(a->j,
                       json_pack("{s:s, s:b, s:f, s:s}", "type", "trust", "retreat", t.lost,
                                 "memory_free_share", t.share, "why", t.why),
                       err);
}

bool warm_model_steers(const struct search *s, const struct lane *l)
{
    if (s->memory == NULL || l->memory_free)
        return false;
    return l->told || warm_model_is_adoption(s, l) ||
           gifts_steered(s, world_find(s->world, l->node));
}

/* ---- Plans, and what others find ---- */

/* Has the model's first plan been used, whatever came of it? */
static bool has_planted(const struct search *s)
{
    const struct call *last = NULL;

    for (uint64_t n = 1; n <= s->calls.n; n++)
        if (calls_get(&s->calls, n)->kind == CALL_INIT)
            last = calls_get(&s->calls, n);
    return last != NULL && last->used;
}

static int plant(struct author *a, bool *moved, struct err *err)
{
    struct world_edit edit;

    if (json_array_size(a->s->gifts.plans) == 0 || !has_planted(a->s))
        return 0;
    graft_model_edit(a->s->world, a->s->gifts.plans, a->s->n_trials, &edit);
    if (edit.n_ops == 0 || world_try(a->s->world, &edit, NULL, err) != 0) {
        world_edit_release(&edit); /* only a full world refuses it */
        return 0;
    }
    *moved = true;
    return author_edit(a, &edit, err);
}

static int hear(struct author *a, bool *moved, struct err *err)
{
    json_t *event = NULL;

    if (!(search_memory_parts(a->s) & MEMORY_LIVE))
        return 0;
    if (gifts_look(a->s, &event, err) != 0)
        return -1;
    *moved = event != NULL;
    return event != NULL ? journal_add(a->j, event, err) : 0;
}

/* ---- Adoption ---- */

bool warm_model_is_adoption(const struct search *s, const struct lane *l)
{
    const struct program *p =
        l->program != PROGRAM_NONE ? search_program_record(s, l->program) : NULL;

    return p != NULL && p->from[0] && l->call == 0;
}

/* How adoption went so far. */
struct tally {
    uint64_t n, last_live;          /* trials that adopted; the last of them that was live */
    int64_t adopted_q, own_q;       /* the best of each, micro-log */
    bool has_adopted, has_own, now; /* is one under way? */
};

static struct tally tally_of(const struct search *s)
{
    struct tally t = { 0 };

    for (uint64_t n = 1; n <= s->n_trials; n++) {
        const struct trial *trial = search_trial(s, n);
        bool adopted = trial->adopted[0] != '\0';
        int64_t *best = adopted ? &t.adopted_q : &t.own_q;
        bool *has = adopted ? &t.has_adopted : &t.has_own;

        t.n += adopted;
        if (adopted && trial->live)
            t.last_live = n;
        if (!trial->ok)
            continue;
        *best = *has ? MAX(*best, trial->objective_q) : trial->objective_q;
        *has = true;
    }
    for (unsigned i = 0; i < LANES_MAX; i++)
        t.now |= lane_in_cycle(&s->lanes[i]) && warm_model_is_adoption(s, &s->lanes[i]);
    return t;
}

/* One that running searches found is wanted while it promises more than the best here. */
static bool is_wanted(const struct search *s, const struct tally *t, const struct gift *g)
{
    if (g->taken || search_program_find(s, &g->here) != PROGRAM_NONE)
        return false;
    if (!g->live)
        return !t->has_adopted || !t->has_own || t->adopted_q >= t->own_q;
    return g->objective_q > search_best_q(s) &&
           (t->last_live == 0 || s->n_trials >= t->last_live + WARM_MODEL_LIVE_EVERY);
}

static const struct gift *next_gift(const struct search *s)
{
    struct tally t = tally_of(s);
    const struct gift *best = NULL;

    if (s->retreated || t.now || t.n >= adoption_cap(s->spec.budget_evals))
        return NULL;
    for (size_t i = 0; i < s->gifts.n; i++) {
        const struct gift *g = &s->gifts.v[i];

        /* those of the start come in the order of their use */
        if (is_wanted(s, &t, g) &&
            (best == NULL || (g->live && g->objective_q > best->objective_q)))
            best = g;
    }
    return best;
}

/* A title that no sibling has. */
static void title_of(const struct search *s, const struct gift *g, char *out, size_t size)
{
    bool taken = true;

    for (unsigned k = 1; taken; k++) {
        snprintf(out, size,
                 k == 1 ? GRAFT_MODEL_ADOPTED "%.150s" : GRAFT_MODEL_ADOPTED "%.150s (%u)", g->from,
                 k);
        taken = false;
        for (uint32_t i = 1; i < world_count(s->world) && !taken; i++)
            taken = world_get(s->world, i)->parent == 0 &&
                    strcasecmp(world_get(s->world, i)->action.title, out) == 0;
    }
}

/* The deviation of what is expected: less sure the farther it comes from. */
static double doubt_of(const struct gift *g)
{
    return fmin(1, 0.1 / g->similarity);
}

static int add_node(struct author *a, const struct gift *g, char id[WORLD_ID_MAX + 1],
                    struct err *err)
{
    const struct search *s = a->s;
    double there = 1e-6 * (double)g->objective_q;
    struct world_edit edit;
    struct world_spec *spec;
    char title[WORLD_LABEL_MAX + 1], text[200];
    unsigned k = 0;

    do
        snprintf(id, WORLD_ID_MAX + 1, "gift%u", ++k);
    while (world_find(s->world, id) != WORLD_NONE);
    title_of(s, g, title, sizeof(title));
    snprintf(text, sizeof(text),
             "A whole program from memory, measured %.2fx its baseline there (similarity %.2f); "
             "measured again here as it was.",
             exp(there), g->similarity);
    world_edit_init(&edit, WORLD_BY_SYSTEM, "adopt", s->n_trials);
    spec = &world_edit_add(&edit, WORLD_OP_INSERT, WORLD_ROOT_ID)->spec;
    world_spec_text(spec, WORLD_SET_ID, id);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_text(spec, WORLD_SET_CHOICE, title);
    world_spec_text(spec, WORLD_SET_DESCRIPTION, text);
    world_spec_number(spec, WORLD_SET_SCORE, g->similarity);
    world_spec_number(spec, WORLD_SET_EXPECTED, there);
    world_spec_number(spec, WORLD_SET_EXPECTED_SD, doubt_of(g));
    return author_edit(a, &edit, err);
}

/* The document of a gift, under the search's own build settings. */
static int put_document(struct author *a, const struct gift *g, const json_t *there,
                        struct err *err)
{
    struct search_scope scope = a->s->scope;
    json_auto_t *doc =
        program_document(&scope, jsonx_str(there, "source", ""), json_object_get(there, "space"));

    if (strcmp(scope.program.hex, g->here.hex) != 0)
        return err_set(err, ERR_CORRUPT, "program %.12s is not what search '%s' was told of",
                       g->program.hex, a->s->spec.id);
    return kb_batch_put_doc(a->j->batch, KB_PROGRAM, g->here.hex, doc, err);
}

static int add_gift_program(struct author *a, const struct lane *l, const struct gift *g,
                            const json_t *there, struct err *err)
{
    const struct search *s = a->s;
    char note[80];

    snprintf(note, sizeof(note), "from memory, as it was on %.40s", g->from);
    return author_lane_event(a, "program", l,
                             json_pack("{s:I, s:s, s:s, s:O, s:I, s:I, s:s, s:s, s:O, s:f, s:f}",
                                       "program", (json_int_t)search_programs(s), "id", g->here.hex,
                                       "source", jsonx_str(there, "source", ""), "space",
                                       json_object_get(there, "space"), "parent", (json_int_t)-1,
                                       "call", (json_int_t)0, "note", note, "from", g->from,
                                       "assignment", g->assignment, "expected",
                                       1e-6 * (double)g->objective_q, "expected_sd", doubt_of(g)),
                             err);
}

static const struct lane *lane_on(const struct search *s, const char *node)
{
    for (unsigned i = 0; i < LANES_MAX; i++)
        if (lane_in_cycle(&s->lanes[i]) && strcmp(s->lanes[i].node, node) == 0)
            return &s->lanes[i];
    return NULL;
}

static int adopt(struct author *a, const struct gift *g, struct err *err)
{
    json_auto_t *there = NULL;
    char node[WORLD_ID_MAX + 1];

    if (kb_get_doc(a->s->kb, KB_PROGRAM, g->program.hex, &there, err) != 0)
        return err_ctx(err, "a program from memory");
    if (put_document(a, g, there, err) != 0 || add_node(a, g, node, err) != 0 ||
        author_cycle(a, world_find(a->s->world, node), 0,
                     json_pack("{s:s, s:s}", "why", "a program from memory is measured here",
                               "gift", g->evaluation.hex),
                     err) != 0)
        return -1;
    return add_gift_program(a, lane_on(a->s, node), g, there, err);
}

int warm_model_adopt(struct author *a, bool *moved, struct err *err)
{
    const struct gift *g;

    if (a->s->memory == NULL)
        return 0;
    if (judge(a, moved, err) != 0 || (!*moved && hear(a, moved, err) != 0) ||
        (!*moved && plant(a, moved, err) != 0))
        return -1;
    if (*moved || world_count(a->s->world) >= WORLD_NODES_MAX)
        return 0;
    g = next_gift(a->s);
    if (g == NULL)
        return 0;
    *moved = true;
    return adopt(a, g, err);
}
