/* SPDX-License-Identifier: Apache-2.0 */
/* What is told about a search: summary, show, tree, explain; see search.h. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "eval/feedback.h"
#include "search/search.h"
#include "search/spend.h"

enum { FEEDBACK_BUDGET = 6000 }; /* bytes of the text that a proposer is given */

/* Deviations on either side of the mean that hold 80 % of a normal distribution. */
static const double normal_80 = 1.2815515655446004;

static double factor(int64_t q)
{
    return exp(1e-6 * (double)q);
}

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static const char *arm_text(const struct trial *t)
{
    if (t->adopted[0])
        return "adopted";
    return t->arm == ENGINE_ARM_MEMORY ? "memory" : "memory-free";
}

/* ---- Summary: the stored document ---- */

json_t *search_summary(const struct search *s)
{
    json_t *doc = search_document(&s->spec, &s->scope, s->created_s);
    const struct trial *champion = search_trial(s, s->champion);

    json_object_set_new(doc, "state", json_string(search_state_name(s->state)));
    json_object_set_new(doc, "reason", json_string(s->reason));
    json_object_set_new(doc, "evaluations", json_integer((json_int_t)search_measured(s)));
    if (champion != NULL) {
        json_object_set_new(doc, "best_objective", json_real(factor(search_best_q(s))));
        json_object_set_new(doc, "best_assignment",
                            space_to_json(trial_space(s, champion), champion->a));
    }
    return doc;
}

/* ---- Show ---- */

static json_t *best_json(const struct search *s)
{
    const struct trial *t = search_trial(s, s->champion);

    double log_best = 1e-6 * (double)search_best_q(s), sd;

    if (t == NULL)
        return json_null();
    sd = 1e-6 * (double)t->sd_q / sqrt((double)s->champion_n);
    /* 1.96 standard deviations of the log of the objective: a 95 % interval */
    return json_pack("{s:s, s:o, s:I, s:f, s:f, s:f, s:I, s:o}", "program",
                     search_program_id(s, t->program).hex, "assignment",
                     space_to_json(trial_space(s, t), t->a), "evaluation", (json_int_t)t->n,
                     "objective", exp(log_best), "ci_low", exp(log_best - 1.96 * sd), "ci_high",
                     exp(log_best + 1.96 * sd), "measurements", (json_int_t)s->champion_n,
                     "roofline", real_or_null(t->roofline));
}

/* ---- Feedback: kept in the measured event alone ---- */

static int take_feedback(void *ctx, uint64_t seq, const json_t *event)
{
    (void)seq;
    *(json_t **)ctx = json_incref(json_object_get(event, "feedback"));
    return 1;
}

json_t *search_feedback(const struct search *s, const struct trial *t)
{
    json_t *found = NULL;
    struct err ignored;

    if (t != NULL && t->same_as != 0)
        t = search_trial(s, t->same_as);
    if (t == NULL || !t->measured ||
        kb_each_event(s->kb, s->spec.id, t->seq, take_feedback, &found, &ignored) != 0)
        return NULL;
    return found;
}

static void set_feedback(json_t *o, const struct search *s, const struct trial *t)
{
    json_t *feedback = search_feedback(s, t);

    if (feedback != NULL)
        json_object_set_new(o, "feedback", feedback);
}

static json_t *curve_json(const struct search *s)
{
    json_t *curve = json_array();

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);
        json_t *point = json_pack(
            "{s:I, s:s, s:o, s:o, s:s, s:s, s:o, s:s}", "evaluation", (json_int_t)n, "status",
            t->status, "objective", t->ok ? json_real(factor(t->objective_q)) : json_null(), "best",
            t->has_best ? json_real(factor(t->best_q)) : json_null(), "arm", arm_text(t), "program",
            search_program_id(s, t->program).hex, "assignment",
            space_to_json(trial_space(s, t), t->a), "node", t->node);

        spend_add_point(s, t, point);
        if (t->same_as != 0)
            json_object_set_new(point, "same_as", json_integer((json_int_t)t->same_as));
        json_array_append_new(curve, point);
    }
    return curve;
}

static json_t *failures_json(const struct search *s)
{
    json_t *failures = json_object();

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);

        if (!t->ok)
            json_object_set_new(failures, t->status,
                                json_integer(jsonx_int(failures, t->status, 0) + 1));
    }
    return failures;
}

/* How predictions came out, as made and as corrected. */
static json_t *predictions_json(const struct search *s)
{
    double crps = 0, corrected = 0, inside = 0, inside_corrected = 0, n = 0;

    for (uint64_t i = 1; i <= search_measured(s); i++) {
        const struct trial *t = search_trial(s, i);
        double y = 1e-6 * (double)t->objective_q;

        if (!isfinite(t->crps))
            continue;
        n++;
        crps += t->crps;
        corrected += t->crps_corrected;
        inside += fabs(y - t->mean) <= normal_80 * t->sd;
        inside_corrected += fabs(y - t->corrected_mean) <= normal_80 * t->corrected_sd;
    }
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "n", (json_int_t)n, "crps",
                     real_or_null(crps / n), "crps_corrected", real_or_null(corrected / n),
                     "coverage80", real_or_null(inside / n), "coverage80_corrected",
                     real_or_null(inside_corrected / n));
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double median_ms(const uint64_t *v, size_t n)
{
    uint64_t sorted[1024];

    if (n == 0)
        return 0;
    memcpy(sorted, v, n * sizeof(*v));
    qsort(sorted, n, sizeof(*sorted), by_value);
    return (double)sorted[n / 2] / 1e6;
}

/* Own time of this daemon's run only: what is not stored is not told of earlier ones. */
static json_t *overhead_json(const struct search *s)
{
    size_t n = MIN(s->n_overhead, ARRAY_LEN(s->own_ns));

    return json_pack("{s:I, s:f, s:f, s:f}", "n", (json_int_t)n, "own_ms_median",
                     median_ms(s->own_ns, n), "sync_ms_median", median_ms(s->sync_ns, n),
                     "launch_ms_median", median_ms(s->launch_ns, n));
}

static json_t *open_trial_json(const struct search *s)
{
    const struct trial *t = search_open_trial(s);

    if (t == NULL)
        return json_null();
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:o}", "evaluation", (json_int_t)t->n, "node",
                     t->node, "title", t->title, "why", t->why, "arm", arm_text(t), "assignment",
                     space_to_json(trial_space(s, t), t->a));
}

/* What the baseline took at first and takes now, and a sentence when that differs. */
static json_t *baseline_json(const struct search *s)
{
    char note[240];

    if (s->drift.n == 0)
        return json_null();
    return json_pack("{s:I, s:f, s:f, s:f, s:s}", "n", (json_int_t)s->drift.n, "first_us",
                     drift_first_ns(&s->drift) / 1e3, "now_us", drift_last_ns(&s->drift) / 1e3,
                     "drift", exp(drift_log(&s->drift)), "note",
                     drift_text(&s->drift, note, sizeof(note)));
}

/* What memory gave at the start, and what other searches found since. */
static json_t *seeds_json(const struct search *s)
{
    bool recalls = s->memory != NULL && !search_has_model(s);
    json_t *seeds = recalls ? memory_seeds(s->memory, s->space) : json_array();

    gifts_seeds(s, seeds);
    live_seeds(&s->live, s->space, seeds);
    return seeds;
}

/* The aims that were set. */
static json_t *stop_json(const struct search_spec *spec)
{
    json_t *stop = json_object();

    if (spec->stop_roofline > 0)
        json_object_set_new(stop, "roofline", json_real(spec->stop_roofline));
    if (spec->stop_gain > 0)
        json_object_set_new(stop, "gain", json_real(spec->stop_gain));
    return stop;
}

json_t *search_show_json(const struct search *s)
{
    struct spend spent;
    json_t *show;

    spend_of(s, &spent);
    show = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s}", "id", s->spec.id, "task",
                     s->spec.task, "device", s->spec.device, "set", s->spec.set, "proposer",
                     s->spec.proposer, "strategy", s->spec.strategy, "warm", !s->spec.cold,
                     "policy", select_policy_name(s->spec.policy), "state",
                     search_state_name(s->state), "reason", s->reason);
    json_object_set_new(show, "memory", memory_parts_json(search_memory_parts(s)));
    json_object_set_new(show, "seed", json_integer((json_int_t)s->spec.seed));
    json_object_set_new(show, "created", json_integer((json_int_t)s->created_s));
    json_object_set_new(show, "budget", spend_budget_json(&s->spec));
    json_object_set_new(show, "stop", stop_json(&s->spec));
    json_object_set_new(show, "spent", spend_json(&spent));
    json_object_set_new(show, "ledger", spend_ledger_json(&spent));
    json_object_set_new(show, "notices", spend_notices_json(s));
    json_object_set_new(show, "scores",
                        search_has_model(s) ? scorebook_json(&s->scorebook) : json_null());
    json_object_set_new(show, "best", best_json(s));
    json_object_set_new(show, "gain", search_gain_json(s));
    json_object_set_new(show, "arms", search_arms_json(s));
    set_feedback(json_object_get(show, "best"), s, search_trial(s, s->champion));
    json_object_set_new(show, "curve", curve_json(s));
    json_object_set_new(show, "evaluations", json_integer((json_int_t)search_measured(s)));
    json_object_set_new(show, "failures", failures_json(s));
    json_object_set_new(show, "seeds", seeds_json(s));
    json_object_set_new(show, "predictions", predictions_json(s));
    json_object_set_new(show, "nodes", json_integer(world_count(s->world)));
    json_object_set_new(show, "cycles", json_integer((json_int_t)s->cycle));
    json_object_set_new(show, "trying", open_trial_json(s));
    json_object_set_new(show, "model", search_model_json(s));
    json_object_set_new(show, "baseline", baseline_json(s));
    json_object_set_new(show, "overhead", overhead_json(s));
    if (s->spec.holdout != NULL)
        json_object_set_new(show, "holdout", holdout_json(s));
    return show;
}

/* ---- Tree and explain ---- */

json_t *search_tree_json(const struct search *s)
{
    struct buf text = { .max = 16 << 20 };
    struct err ignored;
    json_t *tree = world_to_json(s->world), *node;
    size_t i;

    json_object_set_new(tree, "id", json_string(s->spec.id));
    json_array_foreach (json_object_get(tree, "nodes"), i, node)
        json_object_set_new(node, "origin", json_string(search_node_origin(s, (uint32_t)i)));
    if (world_render_text(s->world, &text, &ignored) == 0)
        json_object_set_new(tree, "text", json_string(buf_str(&text)));
    buf_release(&text);
    return tree;
}

/* The stored cycle events on a node: why it was chosen, each time. */
struct choices {
    const char *node; /* NULL: any */
    json_t *out;
};

static int collect_choice(void *ctx, uint64_t seq, const json_t *event)
{
    struct choices *c = ctx;
    const char *type = jsonx_str(event, "type", "");
    const json_t *stored = json_object_get(event, "choice");
    struct select_choice choice;
    struct err ignored;
    json_t *item;

    (void)seq;
    if (strcmp(type, "cycle") != 0 ||
        (c->node && strcmp(jsonx_str(event, "node", ""), c->node) != 0))
        return 0;
    item = json_pack("{s:I, s:s, s:s, s:s}", "cycle", (json_int_t)jsonx_int(event, "cycle", 0),
                     "node", jsonx_str(event, "node", ""), "title", jsonx_str(event, "title", ""),
                     "why", jsonx_str(event, "why", ""));
    if (stored && select_choice_from_json(stored, &choice, &ignored) == 0) {
        struct buf text = { .max = 16384 };

        if (select_explain(&choice, &text, &ignored) == 0)
            json_object_set_new(item, "explanation", json_string(buf_str(&text)));
        buf_release(&text);
        json_object_set(item, "choice", (json_t *)stored);
    }
    json_array_append_new(c->out, item);
    return 0;
}

/* The insights among the search's offers whose bits are set. */
static json_t *offers_json(const struct search *s, uint32_t bits)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < s->offers.n; i++)
        if (bits & 1u << i)
            json_array_append_new(ids, json_string(s->offers.items[i].insight.hex));
    return ids;
}

static json_t *trials_of_node(const struct search *s, const char *node)
{
    json_t *trials = json_array();

    for (uint64_t n = 1; n <= s->n_trials; n++) {
        const struct trial *t = search_trial(s, n);
        json_t *item;

        if (node && strcmp(t->node, node) != 0)
            continue;
        item = json_pack("{s:I, s:s, s:s, s:s, s:o, s:o}", "evaluation", (json_int_t)n, "status",
                         t->measured ? t->status : "under way", "arm", arm_text(t), "why", t->why,
                         "assignment", space_to_json(trial_space(s, t), t->a), "objective",
                         t->ok ? json_real(factor(t->objective_q)) : json_null());
        if (t->predicted)
            json_object_set_new(item, "predicted",
                                json_pack("{s:f, s:f, s:s}", "objective", exp(t->corrected_mean),
                                          "log_sd", t->corrected_sd, "source", t->source));
        if (t->measured && !t->ok)
            json_object_set_new(item, "message", json_string(t->message));
        if (t->served.served != 0)
            json_object_set_new(item, "followed", offers_json(s, t->served.followed));
        if (t->same_as != 0)
            json_object_set_new(item, "same_as", json_integer((json_int_t)t->same_as));
        json_array_append_new(trials, item);
    }
    return trials;
}

/* The trial of a node that says most: its best pass, else the last failure; NULL for none. */
static const struct trial *telling_trial(const struct search *s, const char *node)
{
    const struct trial *found = NULL;

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);

        if (node && strcmp(t->node, node) != 0)
            continue;
        if (found == NULL ||
            (t->ok ? !found->ok || t->objective_q > found->objective_q : !found->ok))
            found = t;
    }
    return found;
}

/* That trial's feedback as a document, and as the text that a proposer is given. */
static void add_told(json_t *answer, const struct search *s, const char *node)
{
    const struct trial *t = telling_trial(s, node);
    CLEANUP(buf_release) struct buf text = { .max = FEEDBACK_BUDGET };
    json_t *feedback = search_feedback(s, t);
    struct err ignored;

    if (feedback == NULL)
        return;
    json_object_set_new(answer, "feedback", feedback);
    if (feedback_text(feedback, FEEDBACK_BUDGET, &text, &ignored) == 0)
        json_object_set_new(
            answer, "told",
            json_pack("{s:I, s:s}", "evaluation", (json_int_t)t->n, "text", buf_str(&text)));
}

int search_explain_json(const struct search *s, const char *node, json_t **out, struct err *err)
{
    struct choices choices = { node, json_array() };
    json_t *answer;
    uint32_t index = node ? world_find(s->world, node) : 0;

    if (index == WORLD_NONE) {
        json_decref(choices.out);
        return err_set(err, ERR_NOT_FOUND, "search '%s' has no node '%s'; 'search tree' lists them",
                       s->spec.id, node);
    }
    if (kb_each_event(s->kb, s->spec.id, 0, collect_choice, &choices, err) != 0) {
        json_decref(choices.out);
        return -1;
    }
    answer = json_pack("{s:s, s:o, s:o}", "id", s->spec.id, "choices", choices.out, "trials",
                       trials_of_node(s, node));
    if (node) {
        json_object_set_new(answer, "node", world_node_to_json(s->world, index));
        json_object_set_new(json_object_get(answer, "node"), "origin",
                            json_string(search_node_origin(s, index)));
    }
    add_told(answer, s, node);
    *out = answer;
    return 0;
}
