/* SPDX-License-Identifier: Apache-2.0 */
/* Recording outcomes; see outcome.h. */
#include "search/outcome.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/feedback.h"
#include "search/forecast.h"
#include "search/journal.h"
#include "search/redact.h"
#include "search/scores.h"
#include "search/strategy.h"
#include "search/warm_model.h"
#include "search/world_ops.h"

/* Micro-log: a deviation of the objective above this says that the machine was disturbed. */
#define SCATTER_Q 80000

/*
 * Times that scatter, or that do not fit what was seen from outside, say something of the machine
 * first (a crowded one starves the judge as well): only a program that is always so has failed.
 */
static bool is_doubtful(const struct search *s, const struct trial *t, const struct eval_result *r)
{
    if (r->status == EVAL_OK)
        return !s->recorded && t->tries == 0 && eval_result_sd_q(r) > SCATTER_Q;
    return (r->status == EVAL_UNSTABLE || r->status == EVAL_CLOCK_TAMPERED) &&
           t->tries + 1 < SEARCH_TRIES_MAX;
}

bool outcome_wants_duel(const struct search *s, const struct eval_result *r)
{
    return s->champion != 0 && r->status == EVAL_OK && !is_doubtful(s, search_open_trial(s), r) &&
           eval_result_objective_q(r) > search_best_q(s);
}

/* "Improved" needs a lower confidence bound above 1 against the champion, measured side by side. */
static bool is_improved(const struct search *s, const struct outcome *o)
{
    if (o->result->status != EVAL_OK)
        return false;
    if (s->champion == 0)
        return true;
    return o->duel != NULL && o->duel->status == EVAL_OK && o->duel->has_champion &&
           o->duel->vs_champion.ci_low > 1;
}

/* ---- Facts ---- */

static int64_t ratio_q(const struct eval_workload *w)
{
    return w->status == EVAL_OK ? quantise_log(w->ratio) : 0;
}

/* Borrows its strings: it is serialised at once. `workloads` has room for all. */
static struct evaluation make_evaluation(const struct search *s, const struct trial *t,
                                         const struct outcome *o, char *seed, char *message,
                                         json_t *assignment, struct workload_time *workloads,
                                         uint64_t now_s)
{
    const struct eval_result *r = o->result;
    struct evaluation e = {
        .task = s->spec.task,
        .family = s->scope.family,
        .set = s->spec.set,
        .device = s->spec.device,
        .device_class = s->scope.device_class,
        .toolchain = s->scope.toolchain,
        .shape = s->scope.shape,
        .language = s->scope.language,
        .program = search_program_id(s, t->program),
        .assignment = assignment,
        .status = (char *)eval_status_name(r->status),
        .message = message,
        .objective_q = eval_result_objective_q(r),
        .sd_q = eval_result_sd_q(r),
        .steered = trial_steered(t),
        .seed = seed,
        .measured_at_s = now_s,
        .n_workloads = r->n_workloads,
        .workloads = workloads,
    };

    for (size_t i = 0; i < r->n_workloads; i++)
        workloads[i] =
            (struct workload_time){ r->workloads[i].name, ratio_q(&r->workloads[i]),
                                    r->workloads[i].baseline_ns, r->workloads[i].candidate_ns };
    return e;
}

static int add_evaluation(struct journal *j, const struct trial *t, const struct outcome *o,
                          uint64_t now_s, struct id *id, struct err *err)
{
    const struct search *s = j->search;
    CLEANUP(freep) char *message = redact_paths(o->result->message);
    CLEANUP(freep)
    struct workload_time *workloads = xcalloc(o->result->n_workloads + 1, sizeof(*workloads));
    json_t *assignment = space_to_json(trial_space(s, t), t->a);
    struct evaluation e;
    char seed[17];
    int rc;

    snprintf(seed, sizeof(seed), "%016llx", (unsigned long long)o->seed);
    e = make_evaluation(s, t, o, seed, message, assignment, workloads, now_s);
    rc = kb_batch_add_evaluation(j->batch, &e, id, err);
    json_decref(assignment);
    return rc;
}

static int learn(struct journal *j, const struct trial *t, uint64_t now_s, struct err *err)
{
    struct search *s = j->search;
    struct learn_scope scope = search_learn_scope(s, t->program);
    CLEANUP(freep) const struct trial **before = xcalloc(t->n, sizeof(*before));
    size_t n = 0, n_evidence;

    for (uint64_t i = 1; i < t->n; i++)
        if (search_trial(s, i)->program == t->program)
            before[n++] = search_trial(s, i);
    return learn_from_trial(j->batch, &scope, before, n, t, now_s, &n_evidence, err);
}

/* ---- Events ---- */

static json_t *duel_json(const struct search *s, const struct eval_result *duel)
{
    json_t *j = json_pack("{s:I, s:s, s:s}", "champion", (json_int_t)s->champion, "status",
                          eval_status_name(duel->status), "why",
                          "its objective is above the champion's: both are measured again, side "
                          "by side");

    if (duel->status != EVAL_OK) {
        json_object_set_new(j, "message", json_string(duel->message));
    } else if (duel->has_champion) {
        int64_t challenger_q = eval_result_objective_q(duel);

        json_object_set_new(j, "ratio",
                            json_pack("[f, f, f]", duel->vs_champion.ci_low,
                                      duel->vs_champion.ratio, duel->vs_champion.ci_high));
        /* Both were measured again beside the baseline: what the champion is worth is pooled over
         * all its duels. */
        json_object_set_new(j, "challenger_q", json_integer(challenger_q));
        json_object_set_new(j, "champion_q",
                            json_integer(challenger_q - quantise_log(duel->vs_champion.ratio)));
    }
    return j;
}

/* The baseline's level, mean log over the workloads; false where nothing was timed beside it. */
static bool baseline_q(const struct eval_result *r, int64_t *out)
{
    int64_t sum = 0;

    for (size_t i = 0; i < r->n_workloads; i++) {
        if (r->workloads[i].baseline_ns == 0)
            return false;
        sum += quantise_log((double)r->workloads[i].baseline_ns);
    }
    *out = r->n_workloads ? sum / (int64_t)r->n_workloads : 0;
    return r->n_workloads > 0;
}

/* What a proposer is told of the evaluation. */
static json_t *feedback_json(const struct search *s, const struct eval_result *r)
{
    json_auto_t *device =
        json_pack("{s:f, s:f}", "read_gbs", s->scope.read_gbs, "fma_gflops", s->scope.fma_gflops);

    return feedback_of(r->record, device);
}

static void add_scores(const struct trial *t, double outcome, json_t *ev)
{
    json_object_set_new(ev, "crps", json_real(crps_normal(t->mean, t->sd, outcome)));
    json_object_set_new(ev, "crps_corrected",
                        json_real(crps_normal(t->corrected_mean, t->corrected_sd, outcome)));
}

/* ---- Credit ---- */

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/*
 * How far attempts of the memory-free arm came out above the best before them, in the middle: the
 * median of the latest ones and of one 0, which is all there is before the arm has run. A failure
 * is below everything.
 */
static int64_t control_gap_q(const struct search *s)
{
    enum { CONTROLS_MAX = 31 };
    int64_t gaps[CONTROLS_MAX + 1] = { 0 };
    size_t n = 1;

    for (uint64_t i = search_measured(s); i > 1 && n <= CONTROLS_MAX; i--) {
        const struct trial *t = search_trial(s, i), *before = search_trial(s, i - 1);

        if (t->arm != ENGINE_ARM_COLD || t->adopted[0] || t->same_as != 0 || !before->has_best)
            continue;
        gaps[n++] = t->ok ? t->objective_q - before->best_q : INT64_MIN / 4;
    }
    qsort(gaps, n, sizeof(*gaps), by_value);
    if (n % 2 == 1)
        return gaps[n / 2];
    return gaps[n / 2 - 1] / 2 + gaps[n / 2] / 2;
}

/*
 * What this outcome says of the insights that its attempt was offered: what it reached above what
 * could be expected without memory, and whether that is more than noise (at least 1 %, and two
 * deviations of the measurement).
 */
static json_t *credit_of(const struct search *s, bool ok, int64_t objective_q, int64_t sd_q)
{
    int64_t floor_q = -50000000; /* no expectation is below 50 natural logs */
    int64_t expected_q =
        s->champion == 0 ? 0 : MAX(floor_q, search_best_q(s) + MAX(floor_q, control_gap_q(s)));
    int64_t lift_q = ok ? objective_q - expected_q : 0, noise_q = MAX((int64_t)10000, 2 * sd_q);
    int verdict = !ok || lift_q < -noise_q ? -1 : lift_q > noise_q;

    return json_pack("{s:I, s:I, s:i}", "expected_q", (json_int_t)expected_q, "lift_q",
                     (json_int_t)lift_q, "verdict", verdict);
}

/* By stage, in whole nanoseconds, and the sum of these: the ledger's rows add up to its total. */
static void add_device_time(json_t *ev, const struct eval_result *r, const struct eval_result *duel)
{
    double duel_ms = duel ? duel->build_ms + duel->check_ms + duel->timing_ms : 0;
    json_int_t build = (json_int_t)(r->build_ms * 1e6), check = (json_int_t)(r->check_ms * 1e6);
    json_int_t timing = (json_int_t)(r->timing_ms * 1e6), both = (json_int_t)(duel_ms * 1e6);

    json_object_set_new(ev, "device_ns", json_integer(build + check + timing + both));
    json_object_set_new(ev, "build_ns", json_integer(build));
    json_object_set_new(ev, "check_ns", json_integer(check));
    json_object_set_new(ev, "timing_ns", json_integer(timing));
    if (duel)
        json_object_set_new(ev, "duel_ns", json_integer(both));
}

static json_t *measured_event(const struct search *s, const struct trial *t,
                              const struct outcome *o, const struct id *fact, bool improved)
{
    const struct eval_result *r = o->result;
    int64_t objective_q = eval_result_objective_q(r);
    bool ok = r->status == EVAL_OK;
    int64_t level_q;
    json_t *ev;

    ev = json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:I}", "type", "measured",
                   "evaluation", (json_int_t)t->n, "node", t->node, "status",
                   eval_status_name(r->status), "message", r->message, "objective_q",
                   (json_int_t)objective_q, "sd_q", (json_int_t)eval_result_sd_q(r), "improved",
                   improved, "fact", fact->hex, "wall_ns", (json_int_t)o->wall_ns);
    if (ev == NULL)
        return NULL;
    add_device_time(ev, r, o->duel);
    if (ok && isfinite(r->roofline))
        json_object_set_new(ev, "roofline", json_real(r->roofline));
    if (ok && baseline_q(r, &level_q))
        json_object_set_new(ev, "baseline_q", json_integer((json_int_t)level_q));
    if (ok && t->predicted)
        add_scores(t, 1e-6 * (double)objective_q, ev);
    if (ok)
        forecast_add_claims(s, t, objective_q, ev);
    if (t->offered)
        json_object_set_new(ev, "credit", credit_of(s, ok, objective_q, eval_result_sd_q(r)));
    if (r->object && r->object[0])
        json_object_set_new(ev, "object", json_string(r->object));
    if (r->record != NULL)
        json_object_set_new(ev, "feedback", feedback_json(s, r));
    if (o->duel)
        json_object_set_new(ev, "duel", duel_json(s, o->duel));
    return ev;
}

/* Counts the attempt on the node; the edit rides on the measured event. */
static json_t *attempt_edit(const struct trial *t, const char *status)
{
    struct world_edit edit;
    json_t *j;

    world_edit_init(&edit, WORLD_BY_SYSTEM, "measured", t->n);
    world_edit_attempt(&edit, t->node, status);
    j = world_edit_to_json(&edit);
    world_edit_release(&edit);
    return j;
}

static int add_lost(struct journal *j, const struct trial *t, const struct outcome *o,
                    struct err *err)
{
    const struct eval_result *r = o->result;
    char scatter[120];

    snprintf(scatter, sizeof(scatter), "its times scatter by %.0f %%: it is measured once more",
             1e-4 * (double)eval_result_sd_q(r));
    return journal_add(j,
                       json_pack("{s:s, s:I, s:s}", "type", "lost", "evaluation", (json_int_t)t->n,
                                 "message", r->status == EVAL_OK ? scatter : r->message),
                       err);
}

static int record_lost(struct journal *j, struct trial *t, const struct outcome *o, struct err *err)
{
    if (add_lost(j, t, o, err) != 0)
        return -1;
    if (t->tries < SEARCH_TRIES_MAX)
        return 0;
    CLEANUP(freep)
    char *reason = str_printf("evaluation %llu could not be carried out %d times: %s",
                              (unsigned long long)t->n, SEARCH_TRIES_MAX, t->message);
    return journal_add(j, json_pack("{s:s, s:s}", "type", "failed", "reason", reason), err);
}

/* Ends the cycle when the counters say that it leads nowhere any more. */
static int end_when_stagnant(struct journal *j, struct err *err)
{
    const struct lane *l = &j->search->lanes[0];
    char why[200];

    /* With a model, rounds are programs, not evaluations: author.c counts them. */
    if (search_has_model(j->search) || stagnation_state(&l->stagnation) == STAGNATION_RUNNING)
        return 0;
    stagnation_text(&l->stagnation, why, sizeof(why));
    return outcome_end_cycle(j, l, why, err);
}

/*
 * A program that an earlier trial's measurement was of: the trial counts and takes that value. It
 * is one measurement still, so it makes no fact, no evidence and no score of a prediction, and it
 * can beat no champion that the earlier one did not beat.
 */
static int record_known(struct journal *j, struct trial *t, const struct trial *same,
                        const struct outcome *o, struct err *err)
{
    char why[120];
    json_t *ev;

    snprintf(why, sizeof(why),
             "compiles to the object of evaluation %llu: one measurement serves both",
             (unsigned long long)same->n);
    ev = json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:I, s:I, s:I, s:s, s:s}", "type",
                   "measured", "evaluation", (json_int_t)t->n, "node", t->node, "status", "ok",
                   "message", "", "objective_q", (json_int_t)same->objective_q, "sd_q",
                   (json_int_t)same->sd_q, "improved", 0, "fact", same->evaluation.hex, "wall_ns",
                   (json_int_t)o->wall_ns, "device_ns", (json_int_t)(o->result->build_ms * 1e6),
                   "same_as", (json_int_t)same->n, "shared", why, "object", same->object);
    if (ev != NULL)
        json_object_set(ev, "build_ns", json_object_get(ev, "device_ns"));
    if (ev != NULL && isfinite(same->roofline))
        json_object_set_new(ev, "roofline", json_real(same->roofline));
    if (ev != NULL)
        json_object_set_new(ev, "edit", attempt_edit(t, "ok"));
    if (journal_add(j, ev, err) != 0)
        return -1;
    return end_when_stagnant(j, err);
}

int outcome_record(struct journal *j, const struct outcome *o, struct err *err)
{
    struct search *s = j->search;
    struct trial *t = search_open_trial(s);
    bool improved = is_improved(s, o);
    uint64_t now_s = j->clock->wall_ns(j->clock) / NS_PER_SEC;
    struct id fact;
    json_t *ev;

    assert(t != NULL);
    if (o->result->status == EVAL_KNOWN) {
        const struct trial *same = search_trial_of_object(s, o->result->object);

        return same ? record_known(j, t, same, o, err) : record_lost(j, t, o, err);
    }
    if (!eval_status_blames(o->result->status) && o->result->status != EVAL_OK)
        return record_lost(j, t, o, err);
    if (is_doubtful(s, t, o->result))
        return add_lost(j, t, o, err);
    if (add_evaluation(j, t, o, now_s, &fact, err) != 0)
        return -1;
    ev = measured_event(s, t, o, &fact, improved);
    if (ev != NULL)
        json_object_set_new(ev, "edit", attempt_edit(t, eval_status_name(o->result->status)));
    if (journal_add(j, ev, err) != 0 || learn(j, t, now_s, err) != 0)
        return -1;
    return end_when_stagnant(j, err);
}

/* ---- The end of a cycle ---- */

static void attach_best(const struct search *s, const struct lane *l, struct world_edit *edit)
{
    const struct trial *t = search_trial(s, l->best);
    const struct world_node *n = world_get(s->world, world_find(s->world, l->node));
    json_t *assignment = space_to_json(trial_space(s, t), t->a);
    struct id program = search_program_id(s, t->program);
    CLEANUP(freep) char *text = jsonx_canonical(assignment);
    double below_best = s->champion ? 1e-6 * (double)(t->value_q - search_best_q(s)) : 0;
    char notes[300];
    struct world_spec *patch;
    int len;

    json_decref(assignment);
    len = snprintf(notes, sizeof(notes), "Measured %.3fx the baseline",
                   exp(1e-6 * (double)t->value_q));
    if (t->same_as != 0)
        len += snprintf(notes + len, sizeof(notes) - (size_t)len,
                        ", as evaluation %llu, whose object it shares",
                        (unsigned long long)t->same_as);
    if (n->action.has_expected)
        snprintf(notes + len, sizeof(notes) - (size_t)len, "; expected %.3fx (sd %.0f %%)",
                 exp(n->action.expected), 100 * n->action.expected_sd);
    patch = &world_edit_add(edit, WORLD_OP_UPDATE, l->node)->spec;
    world_spec_number(patch, WORLD_SET_RATING, 10 * exp(fmin(0, below_best)));
    world_spec_number(patch, WORLD_SET_CONFIDENCE, 0.9);
    world_spec_text(patch, WORLD_SET_NOTES, notes);
    world_edit_attach(edit, l->node, program.hex, text, "ok", t->value_q, t->sd_q, t->n);
}

int outcome_end_cycle(struct journal *j, const struct lane *l, const char *why, struct err *err)
{
    struct search *s = j->search;
    bool adopts = warm_model_is_adoption(s, l);
    struct world_edit edit;
    json_t *ev, *bet;

    world_edit_init(&edit, WORLD_BY_SYSTEM, "cycle", s->n_trials);
    if (l->best != 0)
        attach_best(s, l, &edit);
    else
        world_edit_fail_cycle(&edit, l->node, adopts ? 1 : WORLD_FAILED_CYCLES_MAX, why);
    ev = json_pack("{s:s, s:I, s:s, s:b, s:s, s:o}", "type", "cycle_end", "cycle",
                   (json_int_t)l->cycle, "node", l->node, "passed", l->best != 0, "why", why,
                   "edit", world_edit_to_json(&edit));
    world_edit_release(&edit);
    bet = scores_bet_json(s, l);
    if (bet != NULL)
        json_object_set_new(ev, "bet", bet);
    if (search_has_model(s)) {
        json_object_set_new(ev, "lane", json_integer(l - s->lanes));
        json_object_set_new(ev, "tell", json_boolean(s->strategy->refines && !adopts));
    }
    return journal_add(j, ev, err);
}
