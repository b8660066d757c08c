/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planning with a language model: the order of things within a step; see author.h. Which cycle
 * begins is author_cycle.c's, what is done with an answer author_answer.c's, what is measured of a
 * program author_measure.c's.
 */
#include "search/author.h"

#include <string.h>

#include "base/mem.h"
#include "search/author_priv.h"
#include "search/journal.h"
#include "search/scores.h"
#include "search/select.h"
#include "search/strategy.h"

/* ---- Small events ---- */

int author_edit(struct author *a, struct world_edit *edit, struct err *err)
{
    json_t *stored = edit->n_ops > 0 ? world_edit_to_json(edit) : NULL;

    world_edit_release(edit);
    if (stored == NULL)
        return 0;
    return journal_add(a->j, json_pack("{s:s, s:o}", "type", "edited", "edit", stored), err);
}

int author_lane_event(struct author *a, const char *type, const struct lane *l, json_t *more,
                      struct err *err)
{
    json_t *ev = json_pack("{s:s, s:I, s:s}", "type", type, "lane", (json_int_t)(l - a->s->lanes),
                           "node", l->node);

    if (ev != NULL && more != NULL)
        json_object_update(ev, more);
    json_decref(more);
    return journal_add(a->j, ev, err);
}

int author_finish(struct author *a, const char *reason, struct err *err)
{
    /* A budget that is used up ends a search cleanly, whatever came of it. */
    bool failed = a->s->champion == 0 && spend_exhausted(a->s) == NULL;

    /* the last champion is checked first; a reason to end is found again then */
    if (holdout_is_due_at_end(a->s))
        return holdout_plan(a->j, err);
    return journal_add(
        a->j, json_pack("{s:s, s:s}", "type", failed ? "failed" : "done", "reason", reason), err);
}

/* ---- Asking ---- */

/* The event of a text that prompts begin with; stored when it is new. */
static int store_text(struct author *a, const char *text, uint64_t *seq, struct err *err)
{
    const struct search *s = a->s;
    char hash[LLM_HASH_HEX + 1];

    llm_request_hash("text", 1, text, "", "", NULL, hash);
    for (size_t i = 0; i < MIN(s->n_texts, (size_t)SEARCH_TEXTS_MAX); i++)
        if (strcmp(s->texts[i].hash, hash) == 0) {
            *seq = s->texts[i].seq;
            return 0;
        }
    *seq = s->next_seq;
    return journal_add(
        a->j, json_pack("{s:s, s:s, s:s}", "type", "text", "hash", hash, "text", text), err);
}

static json_t *asked_event(const struct author *a, const struct prompt_ask *ask,
                           const struct prompt *p, uint64_t system, uint64_t prefix)
{
    char hash[LLM_HASH_HEX + 1];
    json_t *ev;

    llm_request_hash(call_kind_name(ask->kind), ask->attempt, p->system, p->prefix, p->text,
                     p->schema_name, hash);
    ev = json_pack("{s:s, s:I, s:s, s:i, s:i, s:s, s:I, s:I, s:s, s:O}", "type", "asked", "call",
                   (json_int_t)a->s->calls.n + 1, "kind", call_kind_name(ask->kind), "lane",
                   ask->lane, "try", (int)ask->attempt, "hash", hash, "system", (json_int_t)system,
                   "prefix", (json_int_t)prefix, "prompt", p->text, "sections", p->sections);
    if (ev != NULL && ask->lane >= 0)
        json_object_set_new(ev, "node", json_string(a->s->lanes[ask->lane].node));
    if (ev != NULL && ask->insights != NULL)
        json_object_set_new(ev, "insights", warm_model_ids(ask->insights));
    return ev;
}

int author_ask(struct author *a, struct prompt_ask *ask, struct err *err)
{
    json_t *insights = NULL;
    struct prompt p;
    uint64_t system = 0, prefix = 0;
    int rc;

    if (warm_model_insights(a->s, ask->kind, ask->lane, &insights, err) != 0)
        return -1;
    ask->insights = insights;
    rc = prompt_make(a->prompts, a->s, ask, &p, err);
    if (rc == 0) {
        rc = store_text(a, p.system, &system, err);
        if (rc == 0)
            rc = store_text(a, p.prefix, &prefix, err);
        if (rc == 0)
            rc = journal_add(a->j, asked_event(a, ask, &p, system, prefix), err);
        prompt_release(&p);
    }
    ask->insights = NULL;
    json_decref(insights);
    return rc;
}

bool author_has_asked(const struct search *s, enum call_kind kind)
{
    for (uint64_t n = 1; n <= s->calls.n; n++)
        if (calls_get(&s->calls, n)->kind == kind)
            return true;
    return false;
}

/* ---- The beginning ---- */

static int begin(struct author *a, struct err *err)
{
    json_t *seeds = json_array();
    json_t *event = json_pack("{s:s, s:o}", "type", "seeded", "seeds", seeds);

    if (!a->s->spec.cold &&
        (warm_model_seed(a->s, event, seeds, err) != 0 || scores_seed(a->s, event, err) != 0)) {
        json_decref(event);
        return -1;
    }
    /* one that was paused before its first step runs already */
    if (a->s->state == SEARCH_QUEUED &&
        journal_add(a->j, json_pack("{s:s}", "type", "started"), err) != 0) {
        json_decref(event);
        return -1;
    }
    return journal_add(a->j, event, err);
}

/* ---- Lanes ---- */

static enum call_kind next_kind(const struct search *s, const struct lane *l)
{
    if (l->rounds == 0)
        return s->strategy->first;
    return l->best != 0 ? CALL_IMPROVE : CALL_DEBUG;
}

static uint64_t cycle_evaluations(const struct search *s, const struct lane *l)
{
    uint64_t count = 0;

    for (uint64_t n = 1; n <= search_measured(s); n++)
        count += search_trial(s, n)->cycle == l->cycle;
    return count;
}

/* One node that gains a little with every round must not have the whole budget. */
static uint64_t cycle_cap(const struct search *s)
{
    return MAX((uint64_t)AUTHOR_CYCLE_LEAST, s->spec.budget_evals / AUTHOR_CYCLE_SHARE);
}

/* Why the cycle of a lane that wants a program is over; NULL while it is not. */
static const char *cycle_over(const struct search *s, const struct lane *l, char *why, size_t size)
{
    unsigned most = s->strategy->rounds ? s->strategy->rounds : AUTHOR_ROUNDS_MAX;

    if (l->base == 0 && l->program == 0 && strcmp(l->node, world_get(s->world, 0)->id) == 0)
        return l->rounds > 0 ? "the program that the search begins with is measured" : NULL;
    if (warm_model_is_adoption(s, l))
        return l->rounds > 0 ? "the program from memory is measured here" : NULL;
    if (l->rounds > 0 && stagnation_state(&l->stagnation) != STAGNATION_RUNNING)
        return stagnation_text(&l->stagnation, why, (unsigned)size);
    if (l->rounds > 0 && cycle_evaluations(s, l) >= cycle_cap(s)) {
        snprintf(why, size, "%llu evaluations, as many as one cycle may have of this budget",
                 (unsigned long long)cycle_evaluations(s, l));
        return why;
    }
    if (l->rounds < most)
        return NULL;
    snprintf(why, size, "%u program%s, as many as a cycle may have", l->rounds,
             l->rounds == 1 ? "" : "s");
    return why;
}

static int ask_for_program(struct author *a, const struct lane *l, struct err *err)
{
    struct prompt_ask ask = { .kind = next_kind(a->s, l),
                              .lane = (int)(l - a->s->lanes),
                              .attempt = 1,
                              .sample = l->cycle - 1 };

    if (ask.kind == CALL_MUTATE) {
        struct strategy_step step;

        strategy_step_of(a->s, l, &step);
        ask.n_parents = step.n_parents;
        memcpy(ask.parents, step.parents, sizeof(step.parents));
    }
    return author_ask(a, &ask, err);
}

/* The model hears what came out of a cycle, unless it may not be asked any more. */
static int tell(struct author *a, const struct lane *l, struct err *err)
{
    struct prompt_ask ask = { .kind = l->best != 0 ? CALL_REFINE : CALL_TOO_HARD,
                              .lane = (int)(l - a->s->lanes),
                              .attempt = 1 };

    if (spend_talk_exhausted(a->s) != NULL)
        return author_told(a, l, NULL, "the model cannot be asked any more", err);
    return author_ask(a, &ask, err);
}

static int advance(struct author *a, struct lane *l, bool *moved, struct err *err)
{
    char text[200];
    const char *why;

    switch (l->stage) {
    case LANE_WRITE:
        *moved = true;
        why = cycle_over(a->s, l, text, sizeof(text));
        return why != NULL ? author_end_cycle(a, l, why, err) : ask_for_program(a, l, err);
    case LANE_MEASURE:
        if (l->measured == 0 && search_program_last(a->s, l->program) != 0) {
            *moved = true; /* another lane had the same idea, and was measured first */
            return author_known(a, l, l->program, err);
        }
        if (author_wants_measurement(a->s, l))
            return 0;
        *moved = true;
        return author_round(a, l, search_program_best(a->s, l->program), "", err);
    case LANE_TELL:
        *moved = true;
        return tell(a, l, err);
    default:
        return 0;
    }
}

/* ---- The end ---- */

/* Nobody waits for this call any more. */
static int drop_call(struct author *a, const struct call *c, const char *why, struct err *err)
{
    return journal_add(a->j,
                       json_pack("{s:s, s:I, s:b, s:s}", "type", "unanswered", "call",
                                 (json_int_t)c->n, "dropped", 1, "message", why),
                       err);
}

static int drop_calls(struct author *a, int lane, const char *why, struct err *err)
{
    uint64_t after = 0;
    const struct call *c;

    while ((c = calls_unanswered(&a->s->calls, after)) != NULL) {
        after = c->n;
        if (c->lane == lane && drop_call(a, c, why, err) != 0)
            return -1;
    }
    return 0;
}

/* Closes what is open, one thing a time; then the search is over. */
static int wind_down(struct author *a, const char *why, struct err *err)
{
    struct search *s = a->s;
    bool waits = false;

    for (int i = 0; i < LANES_MAX; i++) {
        struct lane *l = &s->lanes[i];

        if (lane_in_cycle(l))
            return drop_calls(a, i, why, err) != 0 ? -1 : author_end_cycle(a, l, why, err);
        if (l->stage == LANE_TELL)
            return tell(a, l, err);
        if (l->stage == LANE_TELLING && spend_talk_exhausted(s) != NULL)
            return drop_calls(a, i, why, err) != 0
                       ? -1
                       : author_told(a, l, NULL, "the model cannot be asked any more", err);
        waits |= l->stage == LANE_TELLING;
    }
    a->waits = waits;
    if (waits)
        return 0;
    return drop_calls(a, -1, why, err) != 0 ? -1 : author_finish(a, why, err);
}

/* ---- The step ---- */

/* Plans alone are no progress either: answers to what was asked since the last measurement. */
static uint64_t answers_since_measurement(const struct search *s)
{
    const struct trial *last = search_trial(s, search_measured(s));
    uint64_t n = 0;

    for (uint64_t i = s->calls.n; i >= 1; i--) {
        const struct call *c = calls_get(&s->calls, i);

        if (last != NULL && c->seq < last->seq)
            break;
        n += c->answered;
    }
    return n;
}

static const char *over(const struct search *s)
{
    const char *why = search_exhausted(s);

    if (why == NULL && s->barren >= AUTHOR_BARREN_MAX)
        why = "the model's answers bring neither programs nor plans";
    if (why == NULL && answers_since_measurement(s) >= AUTHOR_IDLE_MAX)
        why = "the model's answers bring nothing that could be measured";
    /* each lane may have one more under way */
    if (why == NULL && search_programs(s) > PROGRAMS_MAX - LANES_MAX)
        why = "it has as many programs as a search may have";
    return why;
}

/* One thing that can be done now; *moved stays false when there is none. */
static int move(struct author *a, bool *moved, struct err *err)
{
    struct search *s = a->s;
    const struct call *c = calls_unused(&s->calls, 0);
    const char *why;

    if (c != NULL) {
        *moved = true;
        return author_use(a, c, err);
    }
    why = over(s);
    if (why != NULL) {
        *moved = true;
        return wind_down(a, why, err);
    }
    for (unsigned i = 0; i < LANES_MAX && !*moved; i++)
        if (advance(a, &s->lanes[i], moved, err) != 0)
            return -1;
    if (*moved)
        return 0;
    return author_new_cycle(a, moved, err);
}

int author_step(struct journal *j, const struct prompts *prompts, struct err *err)
{
    struct author a = { j, j->search, prompts, false };
    struct search *s = j->search;

    if (!s->begun && s->state != SEARCH_PAUSED && begin(&a, err) != 0)
        return -1;
    while (s->state == SEARCH_RUNNING && search_open_trial(s) == NULL && s->holdout.open == 0 &&
           !a.waits) {
        bool moved = false;

        if (move(&a, &moved, err) != 0)
            return -1;
        if (moved)
            continue;
        /* all that could be asked is asked: now the machine */
        if (holdout_is_due(s))
            return holdout_plan(j, err);
        if (author_measure(&a, &moved, err) != 0)
            return -1;
        if (!moved)
            break;
    }
    return 0;
}
