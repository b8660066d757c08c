/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured of a program, and when a round and a cycle are over; see author_priv.h. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/author_priv.h"
#include "search/forecast.h"
#include "search/intent.h"
#include "search/journal.h"
#include "search/outcome.h"

/*
 * How a program's tunables are measured. Its author's own assignment comes first. Then single steps
 * away from the program's best, as its author's numbers are worth more than a spread of starting
 * points; the engine takes over once it has a model. A program within 15 % of the champion is worth
 * more than one far behind, no program more than a sixth of what is left, and it is over when
 * TUNE_VAIN evaluations in a row brought less than 1 %.
 */
#define PROMISING_Q 150000
#define WORTH_Q 10000
#define TUNE_LEAST_EI 0.01
enum { TUNE_STEPS = 4, TUNE_VAIN = 3 };

/* The deviation of the log of what an author predicts without saying how sure it is, and of what a
 * step in one tunable does. */
#define AUTHOR_SD 0.35
#define TUNE_STEP_SD 0.1

/* ---- The beginning ---- */

int author_seed(struct author *a, struct err *err)
{
    struct lane *l = &a->s->lanes[0];

    if (author_cycle(a, 0, 0,
                     json_pack("{s:s, s:b}", "why", "what the search begins with is measured first",
                               "memory_free", 1),
                     err) != 0)
        return -1;
    return author_lane_event(a, "program", l, json_pack("{s:I}", "program", (json_int_t)0), err);
}

/* ---- Which assignment next ---- */

static bool is_promising(const struct search *s, const struct trial *best)
{
    return s->champion == 0 || best->value_q + PROMISING_Q >= search_best_q(s);
}

/* Evaluations of this program beyond its first. */
static uint64_t tune_cap(const struct search *s, const struct trial *best)
{
    uint64_t left = s->spec.budget_evals - search_measured(s);
    uint64_t most = is_promising(s, best) ? AUTHOR_TUNE_MAX : AUTHOR_TUNE_LITTLE;

    return MIN(most, MAX((uint64_t)AUTHOR_TUNE_LITTLE, left / AUTHOR_TUNE_SHARE));
}

/* How many of the newest evaluations of a program brought nothing to speak of. */
static unsigned in_vain(const struct search *s, uint32_t program)
{
    int64_t best_q = INT64_MIN;
    unsigned vain = 0;

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);

        if (t->program != program)
            continue;
        if (t->ok && (best_q == INT64_MIN || t->value_q > best_q + WORTH_Q)) {
            best_q = t->value_q;
            vain = 0;
        } else {
            vain++;
        }
    }
    return vain;
}

/* A step in one tunable away from `from`, drawn among those that were not measured; ordinal ones go
 * to the next value. False when none is left. */
static bool draw_step(const struct search *s, uint32_t program, const uint16_t *from, uint16_t *out)
{
    const struct space *space = search_program_space(s, program);
    size_t n = space_n(space), found = 0;
    struct rng rng = rng_derive(s->spec.seed, "step", s->n_trials);
    CLEANUP(freep) uint16_t *all = xcalloc(SPACE_NEIGHBOURS_MAX * n, sizeof(*all));
    size_t count = space_neighbours(space, from, all, SPACE_NEIGHBOURS_MAX);

    for (size_t i = 0; i < count; i++) {
        const uint16_t *a = all + i * n;
        size_t p = 0;

        while (a[p] == from[p])
            p++;
        if (engine_seen(search_program_engine(s, program), a) ||
            (space_param(space, p)->kind == SPACE_ORDINAL && abs((int)a[p] - (int)from[p]) != 1))
            continue;
        if (rng_below(&rng, ++found) == 0)
            memcpy(out, a, n * sizeof(*a));
    }
    return found > 0;
}

/* The next assignment of a program that has been measured. ERR_NOT_FOUND when there is none that is
 * worth it. */
static int next_assignment(const struct search *s, uint32_t program, unsigned measured,
                           struct engine_proposal *p, const char **origin, struct err *err)
{
    const struct trial *best = search_trial(s, search_program_best(s, program));

    if (measured <= TUNE_STEPS && draw_step(s, program, best->a, p->a)) {
        *origin = "a step away from the program's best";
        p->mean = -1e-6 * (double)best->value_q;
        p->sd = TUNE_STEP_SD;
        return 0;
    }
    *origin = "its tunables, by the numeric engine";
    if (engine_propose(search_program_engine(s, program), NULL, p, err) != 0)
        return -1;
    if (isfinite(p->ei) && p->ei < TUNE_LEAST_EI)
        return err_set(err, ERR_NOT_FOUND, "nothing more is expected of its tunables");
    return 0;
}

bool author_wants_measurement(const struct search *s, const struct lane *l)
{
    const struct trial *best = search_trial(s, search_program_best(s, l->program));
    const struct program *program = search_program_record(s, l->program);
    struct engine_proposal p;
    const char *origin;
    struct err err;

    if (l->measured == 0)
        return true;
    if (best == NULL || program == NULL || program->engine == NULL || program->from[0] != '\0' ||
        l->measured > tune_cap(s, best) || in_vain(s, l->program) >= TUNE_VAIN)
        return false;
    return next_assignment(s, l->program, l->measured, &p, &origin, &err) == 0;
}

/* ---- Planning an evaluation ---- */

/* What the author of a program predicts for it: kept in its event alone. */
static bool author_predicts(const struct search *s, const struct lane *l, double *mean, double *sd)
{
    const struct world_node *n = world_get(s->world, world_find(s->world, l->node));
    const struct program *p = search_program_record(s, l->program);

    if (p != NULL && p->has_expected) {
        *mean = p->expected;
        *sd = p->expected_sd > 0 ? p->expected_sd : AUTHOR_SD;
        return true;
    }
    *mean = n->action.expected;
    *sd = n->action.expected_sd > 0 ? n->action.expected_sd : AUTHOR_SD;
    return n->action.has_expected;
}

/* Where a program begins: with its defaults, or with what it was adopted with. */
static int first_assignment(const struct search *s, uint32_t program, uint16_t *out,
                            struct err *err)
{
    const struct program *p = search_program_record(s, program);

    if (p != NULL && p->assignment != NULL)
        return space_from_json(p->space, p->assignment, out, err);
    space_default(search_program_space(s, program), out);
    return 0;
}

static enum engine_arm arm_of(const struct search *s, const struct lane *l)
{
    return warm_model_steers(s, l) ? ENGINE_ARM_MEMORY : ENGINE_ARM_COLD;
}

static const char *model_of(const struct search *s, const struct lane *l)
{
    const struct program *p = search_program_record(s, l->program);
    const struct call *c = p ? calls_get(&s->calls, p->call) : NULL;

    if (p != NULL && p->from[0])
        return "adopted";
    return c && c->model[0] ? c->model : "seed";
}

static int plan_first(const struct search *s, const struct lane *l, struct intent *in,
                      struct err *err)
{
    const struct program *p = search_program_record(s, l->program);
    double mean = NAN, sd = NAN;

    *in = (struct intent){ .arm = arm_of(s, l),
                           .origin = l->program == 0 ? "what the search begins with"
                                     : p->from[0]    ? "a program from memory, as it was there"
                                                     : "a program as its author set it" };
    if (p != NULL && p->from[0])
        str_copy(in->from, sizeof(in->from), p->from);
    if (first_assignment(s, l->program, in->a, err) != 0)
        return -1;
    author_predicts(s, l, &mean, &sd);
    forecast_of_model(s, intent_arm_name(in->arm), model_of(s, l), mean, sd, &in->forecast);
    return 0;
}

static int plan_tuning(const struct search *s, const struct lane *l, struct intent *in,
                       struct err *err)
{
    struct engine_proposal p = { 0 };
    const char *origin;

    if (next_assignment(s, l->program, l->measured, &p, &origin, err) != 0)
        return -1;
    *in = (struct intent){ .arm = arm_of(s, l), .origin = origin };
    memcpy(in->a, p.a, space_n(search_program_space(s, l->program)) * sizeof(*p.a));
    forecast_of_model(s, intent_arm_name(in->arm), "tuning", -p.mean, p.sd, &in->forecast);
    return 0;
}

/* Insights that were told and that the program's author says it followed, for the ledger. */
static void add_credit(const struct search *s, const struct lane *l, json_t *ev)
{
    const struct program *p = search_program_record(s, l->program);

    if (arm_of(s, l) == ENGINE_ARM_MEMORY && p != NULL && p->from[0] == '\0' && l->measured == 0)
        warm_model_credit(s, p, ev);
}

static int add_attempt(struct author *a, const struct lane *l, const struct intent *in,
                       struct err *err)
{
    struct search *s = a->s;
    const struct world_node *n = world_get(s->world, world_find(s->world, l->node));
    const struct space *space = search_program_space(s, l->program);
    const struct gift *gift = gifts_of_program(s, l->program);
    json_t *ev = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:o}", "type", "attempt", "evaluation",
        (json_int_t)s->n_trials + 1, "lane", (json_int_t)(l - s->lanes), "program",
        (json_int_t)l->program, "cycle", (json_int_t)l->cycle, "attempt", (json_int_t)l->rounds + 1,
        "node", l->node, "title", n->action.title[0] ? n->action.title : "the specification", "why",
        in->origin, "arm", intent_arm_name(in->arm), "assignment", space_to_json(space, in->a));

    forecast_add(&in->forecast, ev);
    if (in->from[0])
        json_object_set_new(ev, "adopted", json_string(in->from));
    if (gift != NULL && gift->live)
        json_object_set_new(ev, "live", json_true());
    add_credit(s, l, ev);
    return journal_add(a->j, ev, err);
}

/* The lane of the oldest cycle that wants an evaluation; NULL for none. */
static const struct lane *next_lane(const struct search *s)
{
    const struct lane *found = NULL;

    for (unsigned i = 0; i < LANES_MAX; i++) {
        const struct lane *l = &s->lanes[i];

        if (l->stage == LANE_MEASURE && (found == NULL || l->cycle < found->cycle))
            found = l;
    }
    return found;
}

int author_measure(struct author *a, bool *moved, struct err *err)
{
    const struct lane *l = next_lane(a->s);
    struct intent in;
    int rc;

    if (l == NULL)
        return 0;
    *moved = true;
    rc = l->measured == 0 ? plan_first(a->s, l, &in, err) : plan_tuning(a->s, l, &in, err);
    return rc != 0 ? -1 : add_attempt(a, l, &in, err);
}

/* ---- Rounds and cycles ---- */

int author_round(struct author *a, const struct lane *l, uint64_t evaluation, const char *note,
                 struct err *err)
{
    return author_lane_event(
        a, "round", l, json_pack("{s:I, s:s}", "evaluation", (json_int_t)evaluation, "note", note),
        err);
}

/* The seed's cycle attaches it to the root, and that is all: nobody is told of it. */
static int end_seed(struct author *a, struct lane *l, const char *why, struct err *err)
{
    struct search *s = a->s;
    const struct trial *t = search_trial(s, l->best);
    json_t *more = json_pack("{s:I, s:b, s:s, s:b}", "cycle", (json_int_t)l->cycle, "passed",
                             t != NULL, "why", why, "tell", 0);
    struct id program = search_program_id(s, 0);
    struct world_edit edit;

    if (t != NULL) {
        json_auto_t *assignment = space_to_json(trial_space(s, t), t->a);
        CLEANUP(freep) char *text = jsonx_canonical(assignment);

        world_edit_init(&edit, WORLD_BY_SYSTEM, "cycle", s->n_trials);
        world_edit_attach(&edit, l->node, program.hex, text, "ok", t->value_q, t->sd_q, t->n);
        json_object_set_new(more, "edit", world_edit_to_json(&edit));
        world_edit_release(&edit);
    }
    return author_lane_event(a, "cycle_end", l, more, err);
}

int author_end_cycle(struct author *a, struct lane *l, const char *why, struct err *err)
{
    bool is_seed = strcmp(l->node, world_get(a->s->world, 0)->id) == 0;

    if (l->stage == LANE_MEASURE && l->measured > 0 &&
        author_round(a, l, search_program_best(a->s, l->program), why, err) != 0)
        return -1;
    return is_seed ? end_seed(a, l, why, err) : outcome_end_cycle(a->j, l, why, err);
}
