/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frontier, policies and fallbacks; see select.h. The utility is
 *
 *   U(n) = 3 s g + 0.5 r/10 + 0.25 c + 1.5 q + 0.15 [parent is root]
 *        - 2.5 (d-1)/4 x scale - 0.75 f - 0.5 (siblings in flight)
 *
 * with s score, corrected by what earlier scores were worth, g promise (1 unless gains are
 * weighed), r rating, c confidence, q parent's quality, d difficulty, f failed cycles. Depth is
 * neutral: nothing measured speaks for or against it.
 */
#include "search/select.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "search/scorebook.h"
#include "search/world_priv.h"

enum { DIFFICULTY_LAST = 5, FRONTIER_MIN = 3 };

static const double w_score = 3.0, w_rating = 0.5, w_confidence = 0.25, w_parent = 1.5,
                    w_root = 0.15, w_difficulty = 2.5, w_failed = 0.75, w_in_flight = 0.5;
/* Half the baseline's speed, from where on the difficulty gate is relaxed. */
static const double relax_at = 0.5;

static const char *const policy_names[SELECT_POLICY_COUNT] = { "utility", "lexicographic" };

const char *select_policy_name(enum select_policy p)
{
    return policy_names[p];
}

enum select_policy select_policy_from_name(const char *name)
{
    int p = 0;

    while (p < SELECT_POLICY_COUNT && strcmp(policy_names[p], name) != 0)
        p++;
    return p;
}

struct select_params select_defaults(void)
{
    return (struct select_params){ .policy = SELECT_UTILITY,
                                   .max_difficulty = 4,
                                   .relaxed_max_difficulty = 4,
                                   .budget_left = -1 };
}

size_t select_frontier(const struct world *w, uint32_t *out, size_t max)
{
    size_t n = 0;

    for (uint32_t i = 1; i < world_count(w); i++) {
        if (!world_is_executable(w, i))
            continue;
        if (n < max)
            out[n] = i;
        n++;
    }
    return n;
}

/* ---- Features ---- */

struct scorer {
    const struct world *w;
    const struct select_params *p;
    uint32_t best; /* WORLD_NONE when nothing is solved */
    int gate;
    uint64_t tie_seed;
    double most; /* largest expected gain of the frontier; 0: gains are not weighed */
};

static bool in_flight(const struct select_params *p, uint32_t node)
{
    for (size_t i = 0; i < p->n_in_flight; i++) {
        if (p->in_flight[i] == node)
            return true;
    }
    return false;
}

static uint32_t siblings_in_flight(const struct scorer *s, const struct world_node *n)
{
    uint32_t count = 0;

    for (size_t i = 0; i < s->p->n_in_flight; i++) {
        const struct world_node *other = world_get(s->w, s->p->in_flight[i]);

        count += other->parent == n->parent && other->index != n->index;
    }
    return count;
}

static double parent_quality(const struct scorer *s, const struct world_node *n)
{
    const struct world_node *parent = world_get(s->w, n->parent);
    double q;

    /* The root stands for the specification, whatever it begins with: a family of programs is not
     * judged by a slow baseline. */
    if (!world_is_solved(parent) || n->parent == 0)
        return 0.5;
    q = exp(1e-6 * (double)(parent->evidence.objective_q -
                            world_get(s->w, s->best)->evidence.objective_q));
    return q < 1 ? q : 1;
}

static double utility_of(const struct select_features *f)
{
    return w_score * f->corrected * f->promise + w_rating * f->rating / 10 +
           w_confidence * f->confidence + w_parent * f->parent_quality + w_root * f->under_root -
           w_difficulty * (f->difficulty - 1) / 4 * f->difficulty_scale -
           w_failed * f->failed_cycles - w_in_flight * f->siblings_in_flight;
}

/* The lexicographic policy is a reference to compare with: it knows no corrections. */
static double corrected_score(const struct scorer *s, double score)
{
    bool as_is = s->p->correction == NULL || s->p->policy == SELECT_LEXICOGRAPHIC;

    return as_is ? score : score_corrected(s->p->correction, score);
}

static bool is_chosen_from(const struct scorer *s, uint32_t i)
{
    return world_is_executable(s->w, i) && !in_flight(s->p, i) &&
           (s->p->keeps_off == NULL || !s->p->keeps_off(s->p->keeps_off_ctx, i));
}

static double gain_of(const struct scorer *s, const struct world_node *n)
{
    double best =
        s->best == WORLD_NONE ? 0 : 1e-6 * (double)world_get(s->w, s->best)->evidence.objective_q;

    return score_expected_gain(n->action.expected, n->action.expected_sd, best);
}

static double most_gain(const struct scorer *s)
{
    double most = 0;

    for (uint32_t i = 1; i < world_count(s->w); i++) {
        const struct world_node *n = world_get(s->w, i);

        if (is_chosen_from(s, i) && n->action.has_expected)
            most = fmax(most, gain_of(s, n));
    }
    return most;
}

static double promise_of(const struct scorer *s, const struct world_node *n)
{
    if (!(s->most > 0))
        return 1;
    return n->action.has_expected ? gain_of(s, n) / s->most : 0.5;
}

static struct select_features features_of(const struct scorer *s, uint32_t index)
{
    const struct world_node *n = world_get(s->w, index);
    double left = s->p->budget_left;
    struct select_features f = {
        .node = index,
        .score = n->action.score,
        .corrected = corrected_score(s, n->action.score),
        .promise = promise_of(s, n),
        .rating = n->rating,
        .confidence = n->confidence,
        .parent_quality = parent_quality(s, n),
        .under_root = n->parent == 0,
        .difficulty = n->action.difficulty,
        .difficulty_scale = left < 0 ? 1 : 1.25 - 0.5 * MIN(left, 1.0),
        .failed_cycles = n->evidence.failed_cycles,
        .siblings_in_flight = siblings_in_flight(s, n),
        .gated = s->p->policy == SELECT_LEXICOGRAPHIC && n->action.difficulty > s->gate,
    };

    str_copy(f.id, sizeof(f.id), n->id);
    f.utility = utility_of(&f);
    return f;
}

/* ---- Order ---- */

/* A number for each id that only the seed decides: the order of equals. */
static uint64_t tie_break(const struct scorer *s, const char *id)
{
    uint64_t h = 0xcbf29ce484222325ull;

    for (; *id; id++)
        h = (h ^ (uint8_t)*id) * 0x100000001b3ull;
    h ^= s->tie_seed;
    return rng_u64(&(struct rng){ h });
}

/* Negative when `a` is to be chosen before `b`. */
static int by_utility(const struct scorer *s, const struct select_features *a,
                      const struct select_features *b)
{
    uint64_t ta, tb;

    if (a->utility != b->utility)
        return a->utility > b->utility ? -1 : 1;
    ta = tie_break(s, a->id);
    tb = tie_break(s, b->id);
    if (ta != tb)
        return ta < tb ? -1 : 1;
    return strcmp(a->id, b->id);
}

static int by_key(const struct select_features *a, const struct select_features *b)
{
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->difficulty != b->difficulty)
        return a->difficulty < b->difficulty ? -1 : 1;
    if (a->rating != b->rating)
        return a->rating > b->rating ? -1 : 1;
    return strcmp(a->id, b->id);
}

/* Nodes through the gate come before the others: the gate is dropped when none is through. */
static int compare(const struct scorer *s, const struct select_features *a,
                   const struct select_features *b)
{
    if (s->p->policy == SELECT_UTILITY)
        return by_utility(s, a, b);
    if (a->gated != b->gated)
        return a->gated ? 1 : -1;
    return by_key(a, b);
}

/* The gate of the lexicographic policy. Relaxing never tightens it. */
static int gate_of(const struct scorer *s)
{
    const struct select_params *p = s->p;
    int gate = p->max_difficulty;

    if (p->policy != SELECT_LEXICOGRAPHIC)
        return 0;
    if (s->best != WORLD_NONE &&
        exp(1e-6 * (double)world_get(s->w, s->best)->evidence.objective_q) >= relax_at)
        gate = MAX(gate, p->relaxed_max_difficulty);
    return gate < 1 ? 1 : MIN(gate, (int)DIFFICULTY_LAST);
}

static void consider(const struct scorer *s, const struct select_features *f,
                     struct select_choice *c)
{
    if (c->frontier == 0 || compare(s, f, &c->chosen) < 0) {
        if (c->frontier > 0) {
            c->runner_up = c->chosen;
            c->has_runner_up = true;
        }
        c->chosen = *f;
    } else if (!c->has_runner_up || compare(s, f, &c->runner_up) < 0) {
        c->runner_up = *f;
        c->has_runner_up = true;
    }
    c->frontier++;
    c->eligible += !f->gated;
}

bool select_next(const struct world *w, const struct select_params *p, struct select_choice *out)
{
    struct scorer s = { .w = w, .p = p, .best = world_best(w) };
    struct select_choice c = { .policy = p->policy };
    struct rng r = rng_derive(p->seed, "select", 0);

    s.tie_seed = rng_u64(&r);
    c.gate = s.gate = gate_of(&s);
    s.most = p->weighs_gain && p->policy == SELECT_UTILITY ? most_gain(&s) : 0;
    for (uint32_t i = 1; i < world_count(w); i++) {
        struct select_features f;

        if (!is_chosen_from(&s, i))
            continue;
        f = features_of(&s, i);
        consider(&s, &f, &c);
    }
    if (c.frontier == 0)
        return false;
    c.gate_dropped = c.eligible == 0;
    if (c.gate_dropped)
        c.eligible = c.frontier;
    *out = c;
    return true;
}

/* ---- The record of a choice ---- */

static json_t *features_to_json(const struct select_features *f)
{
    return json_pack(
        "{s:I, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:i, s:f, s:i, s:i, s:f, s:b}", "node",
        (json_int_t)f->node, "id", f->id, "score", f->score, "corrected", f->corrected, "promise",
        f->promise, "rating", f->rating, "confidence", f->confidence, "parent_quality",
        f->parent_quality, "under_root", f->under_root, "difficulty", f->difficulty,
        "difficulty_scale", f->difficulty_scale, "failed_cycles", (int)f->failed_cycles,
        "siblings_in_flight", (int)f->siblings_in_flight, "utility", f->utility, "gated", f->gated);
}

json_t *select_choice_to_json(const struct select_choice *c)
{
    json_t *j =
        json_pack("{s:s, s:I, s:I, s:i, s:b, s:o}", "policy", policy_names[c->policy], "frontier",
                  (json_int_t)c->frontier, "eligible", (json_int_t)c->eligible, "gate", c->gate,
                  "gate_dropped", c->gate_dropped, "chosen", features_to_json(&c->chosen));

    if (c->has_runner_up)
        json_object_set_new(j, "runner_up", features_to_json(&c->runner_up));
    return j;
}

static int features_from_json(json_t *j, struct select_features *f, struct err *err)
{
    json_int_t node, failed, siblings;
    const char *id;
    int under_root, gated;
    json_error_t why;

    if (json_unpack_ex(
            j, &why, JSON_STRICT,
            "{s:I, s:s, s:F, s?F, s?F, s:F, s:F, s:F, s:b, s:i, s:F, s:I, s:I, s:F, s:b}", "node",
            &node, "id", &id, "score", &f->score, "corrected", &f->corrected, "promise",
            &f->promise, "rating", &f->rating, "confidence", &f->confidence, "parent_quality",
            &f->parent_quality, "under_root", &under_root, "difficulty", &f->difficulty,
            "difficulty_scale", &f->difficulty_scale, "failed_cycles", &failed,
            "siblings_in_flight", &siblings, "utility", &f->utility, "gated", &gated) != 0)
        return err_set(err, ERR_INVALID, "a choice's features are malformed: %s", why.text);
    if (node < 0 || node >= WORLD_NODES_MAX || failed < 0 || failed > UINT32_MAX || siblings < 0 ||
        siblings > WORLD_NODES_MAX || !str_copy(f->id, sizeof(f->id), id))
        return err_set(err, ERR_INVALID, "a choice's node, id or counts are out of range");
    if (!json_object_get(j, "corrected"))
        f->corrected = f->score; /* a choice from before there were corrections */
    if (!json_object_get(j, "promise"))
        f->promise = 1; /* or before gains were weighed */
    f->node = (uint32_t)node;
    f->failed_cycles = (uint32_t)failed;
    f->siblings_in_flight = (uint32_t)siblings;
    f->under_root = under_root;
    f->gated = gated;
    return 0;
}

int select_choice_from_json(const json_t *j, struct select_choice *out, struct err *err)
{
    struct select_choice c = { 0 };
    json_t *chosen, *runner_up = NULL;
    json_int_t frontier, eligible;
    const char *policy;
    int dropped;
    json_error_t why;

    if (json_unpack_ex((json_t *)j, &why, JSON_STRICT, "{s:s, s:I, s:I, s:i, s:b, s:o, s?o}",
                       "policy", &policy, "frontier", &frontier, "eligible", &eligible, "gate",
                       &c.gate, "gate_dropped", &dropped, "chosen", &chosen, "runner_up",
                       &runner_up) != 0)
        return err_set(err, ERR_INVALID, "a choice is malformed: %s", why.text);
    c.policy = select_policy_from_name(policy);
    if (c.policy == SELECT_POLICY_COUNT || frontier < 1 || eligible < 1 || eligible > frontier)
        return err_set(err, ERR_INVALID, "a choice's policy or counts are out of range");
    c.frontier = (size_t)frontier;
    c.eligible = (size_t)eligible;
    c.gate_dropped = dropped;
    c.has_runner_up = runner_up != NULL;
    if (features_from_json(chosen, &c.chosen, err) != 0 ||
        (runner_up && features_from_json(runner_up, &c.runner_up, err) != 0))
        return -1;
    *out = c;
    return 0;
}

/* ---- Why this node? ---- */

static int explain_utility(const struct select_features *f, struct buf *out)
{
    char score[120];
    int n;

    if (f->corrected == f->score)
        n = snprintf(score, sizeof(score), "score %.2f", f->score);
    else
        n = snprintf(score, sizeof(score), "score %.2f, corrected to %.2f,", f->score,
                     f->corrected);
    if (f->promise != 1)
        snprintf(score + n, sizeof(score) - (size_t)n, " times a promise of %.2f", f->promise);
    return buf_addf(
        out,
        "Its utility is %.3f: %s gives %+.3f, rating %.1f %+.3f, confidence "
        "%.2f %+.3f, its parent's quality %.2f %+.3f, being under the root %+.3f, "
        "difficulty %d (weighed by %.2f) %+.3f, %u failed cycle%s %+.3f, %u "
        "sibling%s in flight %+.3f.\n",
        f->utility, score, w_score * f->corrected * f->promise, f->rating,
        w_rating * f->rating / 10, f->confidence, w_confidence * f->confidence, f->parent_quality,
        w_parent * f->parent_quality, w_root * f->under_root, f->difficulty, f->difficulty_scale,
        -w_difficulty * (f->difficulty - 1) / 4 * f->difficulty_scale, f->failed_cycles,
        f->failed_cycles == 1 ? "" : "s", -w_failed * f->failed_cycles, f->siblings_in_flight,
        f->siblings_in_flight == 1 ? "" : "s", -w_in_flight * f->siblings_in_flight);
}

/* What decided between the two under the lexicographic policy. */
static const char *key_that_decided(const struct select_features *a,
                                    const struct select_features *b)
{
    if (a->gated != b->gated)
        return "it is through the difficulty gate";
    if (a->score != b->score)
        return "its score is higher";
    if (a->difficulty != b->difficulty)
        return "it is easier at the same score";
    if (a->rating != b->rating)
        return "its rating is higher at the same score and difficulty";
    return "its id comes first among equals";
}

static int explain_key(const struct select_choice *c, struct buf *out)
{
    int rc = buf_addf(out, "Its score is %.2f, its difficulty %d, its rating %.1f.\n",
                      c->chosen.score, c->chosen.difficulty, c->chosen.rating);

    if (c->gate_dropped)
        rc |= buf_addf(out, "Nothing was at most of difficulty %d, so the gate was dropped.\n",
                       c->gate);
    else
        rc |= buf_addf(out, "%zu of the %zu were at most of difficulty %d.\n", c->eligible,
                       c->frontier, c->gate);
    return rc;
}

int select_explain(const struct select_choice *c, struct buf *out, struct err *err)
{
    int rc =
        buf_addf(out, "Node %s was chosen among %zu executable node%s by the %s policy.\n",
                 c->chosen.id, c->frontier, c->frontier == 1 ? "" : "s", policy_names[c->policy]);

    rc |= c->policy == SELECT_UTILITY ? explain_utility(&c->chosen, out) : explain_key(c, out);
    if (c->has_runner_up && c->policy == SELECT_UTILITY && c->chosen.utility > c->runner_up.utility)
        rc |= buf_addf(out, "Node %s came second with a utility of %.3f.\n", c->runner_up.id,
                       c->runner_up.utility);
    else if (c->has_runner_up && c->policy == SELECT_UTILITY)
        rc |= buf_addf(out, "Node %s has the same utility; the search's seed decided.\n",
                       c->runner_up.id);
    else if (c->has_runner_up)
        rc |= buf_addf(out, "Node %s came second: %s.\n", c->runner_up.id,
                       key_that_decided(&c->chosen, &c->runner_up));
    if (rc != 0)
        return err_set(err, ERR_LIMIT, "the explanation is more than the %zu bytes allowed",
                       out->max);
    return 0;
}

/* ---- Proposals and fallbacks ---- */

bool select_has_continuation(const struct world *w, uint32_t node)
{
    for (uint32_t c = world_get(w, node)->first_child; c != WORLD_NONE;
         c = world_get(w, c)->next_sibling) {
        const struct world_node *n = world_get(w, c);

        if (n->state == WORLD_OPEN && n->action.title[0] && n->action.difficulty < DIFFICULTY_LAST)
            return true;
    }
    return false;
}

static bool has_open_child(const struct world *w, uint32_t node)
{
    for (uint32_t c = world_get(w, node)->first_child; c != WORLD_NONE;
         c = world_get(w, c)->next_sibling) {
        if (world_get(w, c)->state == WORLD_OPEN)
            return true;
    }
    return false;
}

bool select_needs_proposals(const struct world *w)
{
    uint32_t best = world_best(w);

    return select_frontier(w, NULL, 0) < FRONTIER_MIN ||
           (best != WORLD_NONE && !has_open_child(w, best));
}

static const char fallback_title[] = "One small change at the main bottleneck";

bool select_is_fallback(const struct world_node *n)
{
    return str_has_prefix(n->action.title, fallback_title);
}

/* A title that no child of `parent` has, nor had before it was abandoned. */
static void free_title(const struct world *w, uint32_t parent, char *out, size_t size)
{
    str_copy(out, size, fallback_title);
    for (unsigned k = 2; world_find_title(w, parent, out) != WORLD_NONE; k++)
        snprintf(out, size, "%s %u", fallback_title, k);
}

/* The nearest node from here to the root that may have children. */
static uint32_t fertile(const struct world *w, uint32_t node)
{
    const struct world_node *n = world_get(w, node);

    while (n->kind == WORLD_LEAF || n->depth >= WORLD_DEPTH_MAX || n->state == WORLD_ABANDONED)
        n = world_get(w, n->parent);
    return n->index;
}

static void fallback_edit(const struct world *w, uint32_t node, double score, const char *cause,
                          uint64_t round, struct world_edit *out)
{
    const struct world_node *parent = world_get(w, fertile(w, node));
    char title[WORLD_LABEL_MAX + 1];
    struct world_spec *s;

    world_edit_init(out, WORLD_BY_SYSTEM, cause, round);
    s = &world_edit_add(out, WORLD_OP_INSERT, parent->id)->spec;
    free_title(w, parent->index, title, sizeof(title));
    world_spec_text(s, WORLD_SET_TITLE, title);
    world_spec_text(s, WORLD_SET_DECISION, "next small step");
    world_spec_text(s, WORLD_SET_CHOICE, "improve what limits the present program most");
    world_spec_text(s, WORLD_SET_DESCRIPTION,
                    "Make one small change aimed at the main bottleneck of the present program. "
                    "Keep the overall mapping of work to the machine as it is.");
    world_spec_text(s, WORLD_SET_NOTES, cause);
    world_spec_text(s, WORLD_SET_IMPACTS, parent->impacts);
    world_spec_number(s, WORLD_SET_SCORE, score);
    world_spec_number(s, WORLD_SET_DIFFICULTY, 2);
    world_spec_number(s, WORLD_SET_RATING, parent->rating);
    world_spec_number(s, WORLD_SET_CONFIDENCE, MAX(0.2, parent->confidence));
    if (parent->evidence.program[0])
        world_spec_text(s, WORLD_SET_PARENT_PROGRAM, parent->evidence.program);
}

void select_continuation_edit(const struct world *w, uint32_t node, uint64_t round,
                              struct world_edit *out)
{
    fallback_edit(w, node, 0.35, "auto continuation", round, out);
}

void select_best_edit(const struct world *w, uint64_t round, struct world_edit *out)
{
    uint32_t best = world_best(w);

    fallback_edit(w, best == WORLD_NONE ? 0 : best, 0.60, "auto best continuation", round, out);
}
