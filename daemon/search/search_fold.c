/* SPDX-License-Identifier: Apache-2.0 */
/* How each event changes a search: search_apply; see search.h. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/forecast.h"
#include "search/scores.h"
#include "search/search.h"
#include "search/spend.h"
#include "search/trust.h"
#include "search/world_ops.h"

static int misfit(struct err *err, const struct search *s, const char *what)
{
    return err_set(err, ERR_CORRUPT, "event %llu of search '%s' does not fit: %s",
                   (unsigned long long)s->next_seq, s->spec.id, what);
}

static int set_state(struct search *s, enum search_state to, const char *reason, struct err *err)
{
    if (!search_state_may_become(s->state, to))
        return err_set(err, ERR_CORRUPT, "event %llu of search '%s' moves it from %s to %s",
                       (unsigned long long)s->next_seq, s->spec.id, search_state_name(s->state),
                       search_state_name(to));
    s->state = to;
    free(s->reason);
    s->reason = xstrdup(reason);
    return 0;
}

static int apply_edit(struct search *s, const json_t *edit, struct err *err)
{
    struct world_edit e;
    int rc;

    if (world_edit_from_json(edit, &e, err) != 0)
        return err_ctx(err, "stored edit of search '%s'", s->spec.id);
    rc = world_apply(s->world, &e, NULL, err);
    world_edit_release(&e);
    return rc;
}

static int apply_seeded(struct search *s, const json_t *ev, struct err *err)
{
    const json_t *memory = json_object_get(ev, "memory");

    s->begun = true;
    if (calibration_recall(s->calibration, json_object_get(ev, "calibration"), err) != 0 ||
        scorebook_recall(&s->scorebook, json_object_get(ev, "scores"), err) != 0)
        return -1;
    if (!json_is_object(memory))
        return 0;
    if (s->memory != NULL)
        return misfit(err, s, "it was seeded before");
    s->due = TRUST_DUE_START;
    s->memory = xcalloc(1, sizeof(*s->memory));
    if (memory_from_json(memory, s->space, s->memory, err) != 0 ||
        gifts_apply(&s->gifts, json_object_get(ev, "gifts"), false, err) != 0)
        return -1;
    s->gifts.plans = json_deep_copy(json_object_get(ev, "plans"));
    if (!(search_memory_parts(s) & MEMORY_PRIOR) || search_has_model(s))
        return 0;
    for (size_t i = 0; s->engine && i < s->memory->n_sources; i++)
        if (memory_feed(s->kb, s->space, &s->memory->sources[i], s->memory->as_of, s->engine,
                        err) != 0)
            return -1;
    return 0;
}

/* The lane that an event is about: the only one where it does not say. */
static struct lane *lane_of(struct search *s, const json_t *ev)
{
    json_int_t n = jsonx_int(ev, "lane", 0);

    return n >= 0 && n < LANES_MAX ? &s->lanes[n] : NULL;
}

static int apply_cycle(struct search *s, const json_t *ev, struct err *err)
{
    const char *node = jsonx_str(ev, "node", "");
    const json_t *base = json_object_get(ev, "base_q");
    struct lane *l = lane_of(s, ev);

    if (l == NULL || l->stage != LANE_CLOSED || world_find(s->world, node) == WORLD_NONE ||
        (uint64_t)jsonx_int(ev, "program", 0) >= search_programs(s))
        return misfit(err, s, "a cycle begins in a cycle or on an unknown node");
    free(l->note);
    *l = (struct lane){ .stage = LANE_WRITE,
                        .cycle = ++s->cycle,
                        .base = (uint32_t)jsonx_int(ev, "program", 0),
                        .program = PROGRAM_NONE,
                        .memory_free = jsonx_bool(ev, "memory_free", 0) };
    str_copy(l->node, sizeof(l->node), node);
    s->due = jsonx_num(ev, "due", s->due);
    stagnation_start(&l->stagnation, s->spec.window, json_is_integer(base),
                     json_integer_value(base), search_has_model(s) ? LANE_MARGIN_Q : 0, true);
    scores_apply_cycle(s, l, ev);
    gifts_apply_cycle(&s->gifts, ev);
    return 0;
}

static int apply_cycle_end(struct search *s, const json_t *ev, struct err *err)
{
    const struct trial *open = search_open_trial(s);
    struct lane *l = lane_of(s, ev);

    if (l == NULL || !lane_in_cycle(l) || (open != NULL && search_trial_lane(s, open) == l))
        return misfit(err, s, "no cycle can end here");
    scores_apply_cycle_end(s, l);
    l->stage = jsonx_bool(ev, "tell", 0) ? LANE_TELL : LANE_CLOSED;
    return 0;
}

/* The program of a lane is done with: one round, by what its best assignment came to. */
static int apply_round(struct search *s, const json_t *ev, struct err *err)
{
    struct lane *l = lane_of(s, ev);
    const struct trial *best;

    if (l == NULL || (l->stage != LANE_MEASURE && l->stage != LANE_WRITING))
        return misfit(err, s, "a round ends that had not begun");
    best = search_trial(s, (uint64_t)jsonx_int(ev, "evaluation", 0));
    if (best != NULL && !best->ok)
        best = NULL;
    stagnation_count(&l->stagnation, best != NULL, best ? best->value_q : 0);
    /* What works and is slower is no place to go on from; what fails may be a slip away from right.
     */
    if (best != NULL)
        l->regressions = l->best == best->n ? 0 : LANE_REGRESSIONS_MAX;
    else
        l->regressions++;
    l->rounds++;
    l->stage = LANE_WRITE;
    free(l->note);
    l->note = xstrdup(jsonx_str(ev, "note", ""));
    return 0;
}

/* The model has heard of a cycle, or cannot be told. */
static int apply_told(struct search *s, const json_t *ev, struct err *err)
{
    struct lane *l = lane_of(s, ev);

    if (l == NULL || (l->stage != LANE_TELLING && l->stage != LANE_TELL))
        return misfit(err, s, "nobody was to be told of a cycle there");
    l->stage = LANE_CLOSED;
    return 0;
}

static int apply_answered(struct search *s, const json_t *ev, struct err *err)
{
    if (calls_apply_answered(s, ev, err) != 0)
        return -1;
    spend_apply_answered(s, ev);
    return 0;
}

/* An answer was used up; `fruitful` says whether it brought anything. */
static int apply_used(struct search *s, const json_t *ev, struct err *err)
{
    struct call *c = calls_get(&s->calls, (uint64_t)jsonx_int(ev, "call", 0));
    const json_t *questions = json_object_get(ev, "questions");

    if (c == NULL || !c->answered || c->used)
        return misfit(err, s, "an answer is used that is not there");
    c->used = true;
    free(c->answer);
    c->answer = NULL;
    s->barren = jsonx_bool(ev, "fruitful", 0) ? 0 : s->barren + 1;
    if (json_object_get(ev, "summary") != NULL) {
        free(s->summary);
        s->summary = xstrdup(jsonx_str(ev, "summary", ""));
    }
    if (json_is_array(questions)) {
        json_decref(s->questions);
        s->questions = json_deep_copy(questions);
    }
    return 0;
}

static enum engine_arm arm_from_name(const char *name)
{
    if (strcmp(name, "memory") == 0)
        return ENGINE_ARM_MEMORY;
    return strcmp(name, "cold") == 0 ? ENGINE_ARM_COLD : ENGINE_ARM_OTHER;
}

static int apply_attempt(struct search *s, const json_t *ev, struct err *err)
{
    const json_t *predicted = json_object_get(ev, "predicted");
    const json_t *corrected = json_object_get(ev, "corrected");
    uint64_t program = (uint64_t)jsonx_int(ev, "program", 0);
    struct lane *l = lane_of(s, ev);
    struct trial *t;

    if (l == NULL || !lane_in_cycle(l) || search_open_trial(s) != NULL || s->holdout.open != 0 ||
        program >= search_programs(s) ||
        (uint64_t)jsonx_int(ev, "evaluation", 0) != s->n_trials + 1)
        return misfit(err, s, "an attempt out of order");
    t = xcalloc(1, sizeof(*t));
    if (space_from_json(search_program_space(s, (uint32_t)program),
                        json_object_get(ev, "assignment"), t->a, err) != 0) {
        free(t);
        return -1;
    }
    t->n = s->n_trials + 1;
    t->lane = (int)(l - s->lanes);
    t->program = (uint32_t)program;
    t->cycle = l->cycle;
    t->attempt = (unsigned)jsonx_int(ev, "attempt", 1);
    t->node = xstrdup(l->node);
    t->title = xstrdup(jsonx_str(ev, "title", ""));
    t->why = xstrdup(jsonx_str(ev, "why", ""));
    t->adopted = xstrdup(jsonx_str(ev, "adopted", ""));
    t->live = jsonx_bool(ev, "live", 0);
    t->plan = jsonx_bool(ev, "plan", 0);
    s->due = jsonx_num(ev, "due", s->due);
    t->arm = arm_from_name(jsonx_str(ev, "arm", ""));
    t->status = xstrdup("");
    t->message = xstrdup("");
    t->source = xstrdup(jsonx_str(ev, "source", ""));
    t->served = credit_of_attempt(&s->offers, ev);
    t->offered = json_array_size(json_object_get(ev, "served")) > 0;
    t->roofline = t->crps = t->crps_corrected = NAN;
    if (json_is_object(predicted)) {
        t->predicted = true;
        t->mean = jsonx_num(predicted, "mean", 0);
        t->sd = jsonx_num(predicted, "sd", 0);
        t->corrected_mean = jsonx_num(corrected, "mean", t->mean);
        t->corrected_sd = jsonx_num(corrected, "sd", t->sd);
    }
    s->trials = xgrow(s->trials, &s->cap_trials, s->n_trials + 1, sizeof(struct trial *));
    s->trials[s->n_trials++] = t;
    return 0;
}

static int apply_lost(struct search *s, const json_t *ev, struct err *err)
{
    struct trial *t = search_open_trial(s);

    if (t == NULL)
        return misfit(err, s, "an evaluation was lost that was not under way");
    t->tries++;
    free(t->message);
    t->message = xstrdup(jsonx_str(ev, "message", ""));
    return 0;
}

static void observe(struct search *s, const struct trial *t, bool ok, int64_t objective_q)
{
    struct engine *engine = search_program_engine(s, t->program);
    double y = ok ? -1e-6 * (double)objective_q : NAN;
    struct err ignored; /* only an invalid assignment is refused, and the space parsed this one */

    if (engine)
        engine_observe(engine, t->a, y, t->arm, &ignored);
    if (s->memory_free && t->program == 0)
        engine_observe(s->memory_free, t->a, y, t->arm, &ignored);
}

/* A trial and its duel, as the search's own engine was told of them. */
static void observe_trial(const struct search *s, const struct trial *t, struct engine *e)
{
    const struct trial *champion = search_trial(s, t->duel_with);
    struct err ignored;

    if (t->program != 0)
        return;
    engine_observe(e, t->a, t->ok ? -1e-6 * (double)t->objective_q : NAN, t->arm, &ignored);
    if (champion == NULL || champion->program != 0)
        return;
    engine_observe(e, t->a, -1e-6 * (double)t->duel_q, t->arm, &ignored);
    engine_observe(e, champion->a, -1e-6 * (double)t->duel_champion_q, champion->arm, &ignored);
}

int search_memory_free_engine(struct search *s, struct engine **out, struct err *err)
{
    struct engine_options o = { .seed = s->spec.seed, .cold = true };

    *out = engine_sources(s->engine) > 0 ? s->memory_free : s->engine;
    if (*out != NULL)
        return 0;
    if (engine_new(s->space, &o, &s->memory_free, err) != 0)
        return -1;
    for (uint64_t n = 1; n <= search_measured(s); n++)
        observe_trial(s, search_trial(s, n), s->memory_free);
    *out = s->memory_free;
    return 0;
}

/* A duel measured both again: the winner's estimate and the engine's records gain by it. */
static void count_duel(struct search *s, struct trial *t, const json_t *duel)
{
    const struct trial *champion = search_trial(s, s->champion);
    int64_t challenger_q = jsonx_int(duel, "challenger_q", 0);
    int64_t champion_q = jsonx_int(duel, "champion_q", 0);

    if (champion == NULL || json_object_get(duel, "champion_q") == NULL)
        return;
    t->duel_with = s->champion;
    t->duel_q = challenger_q;
    t->duel_champion_q = champion_q;
    observe(s, t, true, challenger_q);
    observe(s, champion, true, champion_q);
    if (search_has_model(s)) {
        t->value_q = (t->objective_q + challenger_q) / 2;
        search_trial(s, s->champion)->value_q =
            (s->champion_sum_q + champion_q) / (s->champion_n + 1);
    }
    if (t->improved) {
        s->champion_sum_q = challenger_q;
        s->champion_n = 1;
    } else {
        s->champion_sum_q += champion_q;
        s->champion_n++;
    }
}

/* The best pass of a cycle, the first among equals; 0 for none. A duel can lower what a trial was
 * taken for. */
static uint64_t best_of_cycle(const struct search *s, uint64_t cycle)
{
    const struct trial *best = NULL;

    for (uint64_t n = 1; n <= s->n_trials; n++) {
        const struct trial *t = search_trial(s, n);

        if (t->cycle == cycle && t->measured && t->ok &&
            (best == NULL || t->value_q > best->value_q))
            best = t;
    }
    return best ? best->n : 0;
}

static void count_trial(struct search *s, struct trial *t, const json_t *duel)
{
    struct lane *l = search_trial_lane(s, t);

    if (!search_has_model(s))
        stagnation_count(&l->stagnation, t->ok, t->objective_q);
    l->measured++;
    observe(s, t, t->ok, t->objective_q);
    count_duel(s, t, duel);
    l->best = best_of_cycle(s, l->cycle);
    if (t->improved) {
        if (t->duel_with == 0) /* without one, nothing measured before belongs to it */
            s->champion_sum_q = s->champion_n = 0;
        s->champion = t->n;
        s->champion_sum_q += t->objective_q;
        s->champion_n++;
    }
    if (s->champion != 0) {
        t->has_best = true;
        t->best_q = search_best_q(s);
    }
}

static int apply_measured(struct search *s, const json_t *ev, struct err *err)
{
    struct trial *t = search_open_trial(s);

    if (t == NULL || (uint64_t)jsonx_int(ev, "evaluation", 0) != t->n)
        return misfit(err, s, "a measurement of a trial that is not under way");
    free(t->status);
    free(t->message);
    t->status = xstrdup(jsonx_str(ev, "status", ""));
    t->message = xstrdup(jsonx_str(ev, "message", ""));
    t->ok = strcmp(t->status, "ok") == 0;
    t->objective_q = t->value_q = jsonx_int(ev, "objective_q", 0);
    t->sd_q = jsonx_int(ev, "sd_q", 0);
    t->roofline = jsonx_num(ev, "roofline", NAN);
    t->crps = jsonx_num(ev, "crps", NAN);
    t->crps_corrected = jsonx_num(ev, "crps_corrected", t->crps);
    t->improved = t->ok && jsonx_bool(ev, "improved", 0);
    t->device_ns = (uint64_t)jsonx_int(ev, "device_ns", 0);
    t->seq = s->next_seq;
    t->same_as = (uint64_t)jsonx_int(ev, "same_as", 0);
    str_copy(t->object, sizeof(t->object), jsonx_str(ev, "object", ""));
    str_copy(t->evaluation.hex, sizeof(t->evaluation.hex), jsonx_str(ev, "fact", ""));
    s->wall_ns += (uint64_t)jsonx_int(ev, "wall_ns", 0);
    s->device_ns += t->device_ns;
    spend_apply_measured(s, t, ev);
    t->measured = true;
    if (json_is_integer(json_object_get(ev, "baseline_q")))
        drift_add(&s->drift, jsonx_int(ev, "baseline_q", 0));
    if (isfinite(t->crps) && t->sd > 0)
        calibration_add(s->calibration, t->source,
                        (1e-6 * (double)t->objective_q - t->mean) / t->sd);
    forecast_count_claims(s, json_object_get(ev, "claims"));
    count_trial(s, t, json_object_get(ev, "duel"));
    return 0;
}

static int apply_started(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_RUNNING, jsonx_str(ev, "reason", ""), err);
}

static int apply_paused(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_PAUSED, jsonx_str(ev, "reason", ""), err);
}

static int apply_done(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_DONE, jsonx_str(ev, "reason", ""), err);
}

static int apply_failed(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_FAILED, jsonx_str(ev, "reason", ""), err);
}

static int apply_cancelled(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_CANCELLED, jsonx_str(ev, "reason", ""), err);
}

/* Memory retreats, or is back: trust.h says when. */
static int apply_trust(struct search *s, const json_t *ev, struct err *err)
{
    if (s->memory == NULL)
        return misfit(err, s, "it has no memory that could retreat");
    s->retreated = jsonx_bool(ev, "retreat", 0);
    return 0;
}

static int apply_shared(struct search *s, const json_t *ev, struct err *err)
{
    if (s->memory == NULL)
        return misfit(err, s, "a cold search hears of nobody");
    if (gifts_apply(&s->gifts, json_object_get(ev, "gifts"), true, err) != 0)
        return -1;
    s->live.heard += json_array_size(json_object_get(ev, "gifts"));
    return live_apply(&s->live, ev, s->space, err);
}

/* Its edit was applied before. */
static int apply_edited(struct search *s, const json_t *ev, struct err *err)
{
    return json_is_object(json_object_get(ev, "edit")) ? 0 : misfit(err, s, "an edit without edit");
}

/* A text of prompts, read back by its number when it is wanted. */
static int apply_text(struct search *s, const json_t *ev, struct err *err)
{
    size_t at = s->n_texts % SEARCH_TEXTS_MAX;

    if (!json_is_string(json_object_get(ev, "text")) ||
        !str_copy(s->texts[at].hash, sizeof(s->texts[at].hash), jsonx_str(ev, "hash", "")))
        return misfit(err, s, "a text without text");
    s->texts[at].seq = s->next_seq;
    s->n_texts++;
    return 0;
}

static const struct {
    const char *type;
    int (*apply)(struct search *s, const json_t *ev, struct err *err);
} appliers[] = {
    { "edited", apply_edited },
    { "started", apply_started },
    { "seeded", apply_seeded },
    { "cycle", apply_cycle },
    { "attempt", apply_attempt },
    { "lost", apply_lost },
    { "measured", apply_measured },
    { "cycle_end", apply_cycle_end },
    { "paused", apply_paused },
    { "resumed", apply_started },
    { "done", apply_done },
    { "failed", apply_failed },
    { "cancelled", apply_cancelled },
    { "trust", apply_trust },
    { "shared", apply_shared },
    { "text", apply_text },
    { "program", programs_apply },
    { "round", apply_round },
    { "asked", calls_apply_asked },
    { "answered", apply_answered },
    { "unanswered", calls_apply_lost },
    { "used", apply_used },
    { "told", apply_told },
    { "notice", spend_apply_notice },
    { "holdout_due", holdout_apply_due },
    { "holdout_lost", holdout_apply_lost },
    { "holdout", holdout_apply },
};

int search_apply(struct search *s, const json_t *event, struct err *err)
{
    const char *type = jsonx_str(event, "type", "");
    const json_t *edit = json_object_get(event, "edit");
    uint32_t nodes = world_count(s->world);

    if ((uint64_t)jsonx_int(event, "seq", -1) != s->next_seq)
        return misfit(err, s, "its number is not the next");
    if (edit != NULL && apply_edit(s, edit, err) != 0)
        return -1;
    gifts_note_nodes(s, event, nodes);
    if (credit_take(&s->offers, s->space, json_object_get(event, "offered"), err) != 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(appliers); i++)
        if (strcmp(appliers[i].type, type) == 0) {
            if (appliers[i].apply(s, event, err) != 0)
                return -1;
            s->next_seq++;
            return 0;
        }
    return misfit(err, s, "its type is unknown");
}
