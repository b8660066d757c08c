/* SPDX-License-Identifier: Apache-2.0 */
/* Sections made of where the search as a whole stands, of other searches' insights, and of the
 * answer that a repair is about. See prompt_impl.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/prompt_impl.h"
#include "search/strategy.h"

static const double normal_80 = 1.2815515655446004;

/* ---- Where the search stands ---- */

static bool under_way(const struct search *s, const char *node)
{
    for (size_t i = 0; i < LANES_MAX; i++)
        if (s->lanes[i].stage != LANE_CLOSED && strcmp(s->lanes[i].node, node) == 0)
            return true;
    return false;
}

/* Executable nodes, not under way, whose score is above `least`. */
static size_t frontier_above(const struct prompt_view *v, double least)
{
    const struct world *w = v->s->world;
    size_t n = 0;

    for (uint32_t i = 1; i < world_count(w); i++)
        n += world_is_executable(w, i) && world_get(w, i)->action.score > least &&
             !under_way(v->s, world_get(w, i)->id);
    return n;
}

static void add_best(struct sheet *s, const struct search *search)
{
    const struct trial *t = search_trial(search, search->champion);
    double best = 1e-6 * (double)search_best_q(search), sd;
    char at[32], low[32], high[32];

    if (t == NULL) {
        sheet_add(s, "Best so far: none; nothing has passed yet. The baseline is 1.00x.\n");
        return;
    }
    sd = 1e-6 * (double)t->sd_q / sqrt((double)MAX(search->champion_n, 1));
    text_factor(at, sizeof(at), best);
    text_factor(low, sizeof(low), best - 1.96 * sd);
    text_factor(high, sizeof(high), best + 1.96 * sd);
    sheet_addf(s, "Best so far: %s the baseline's speed (95 %% interval %s to %s), program %u", at,
               low, high, t->program);
    if (t->node != NULL && t->node[0])
        sheet_addf(s, ", node %s", t->node);
    if (isfinite(t->roofline))
        sheet_addf(s, ", %.0f %% of the roofline", 100 * t->roofline);
    sheet_add(s, "\n");
}

/* What is left of a budget, to the tenth: finer would make every prompt another one. */
static void add_left(struct sheet *s, const char *what, double spent, double budget)
{
    double left = budget > 0 ? 1 - spent / budget : 0;

    if (budget > 0)
        sheet_addf(s, "Left of the budget of %s: about %.0f tenths\n", what,
                   ceil(10 * MAX(0, MIN(1, left))));
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* How far two measurements of one program and assignment differ: a duel measures both sides again.
 */
static void add_noise(struct sheet *s, const struct search *search)
{
    CLEANUP(freep) int64_t *apart = xcalloc(2 * search_measured(search) + 1, sizeof(*apart));
    char drift[320];
    double median;
    size_t n = 0;

    for (uint64_t i = 1; i <= search_measured(search); i++) {
        const struct trial *t = search_trial(search, i);
        const struct trial *with = search_trial(search, t->duel_with);

        if (with == NULL)
            continue;
        apart[n++] = llabs(t->objective_q - t->duel_q);
        apart[n++] = llabs(with->objective_q - t->duel_champion_q);
    }
    qsort(apart, n, sizeof(*apart), by_size);
    if (n > 0) {
        median = 0.5 * (double)(apart[(n - 1) / 2] + apart[n / 2]);
        sheet_addf(s,
                   "Noise: two measurements of the same program and assignment differed by %.1f %% "
                   "in the median of %zu pairs, by %.1f %% at most; differences below the median "
                   "mean nothing\n",
                   100 * expm1(1e-6 * median), n, 100 * expm1(1e-6 * (double)apart[n - 1]));
    }
    if (drift_text(&search->drift, drift, sizeof(drift))[0])
        sheet_addf(s, "Drift: %s\n", drift);
}

int section_status(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const struct search *q = v->s;
    struct sheet s = sheet_of(out, budget);
    double tokens = 0, usd_q = 0;
    uint64_t measured = search_measured(q), passed = 0;

    (void)err;
    for (uint64_t i = 1; i <= measured; i++)
        passed += search_trial(q, i)->ok;
    for (size_t i = 0; i < q->calls.n; i++) {
        tokens += (double)(q->calls.items[i].tokens_in + q->calls.items[i].tokens_out);
        usd_q += (double)q->calls.items[i].usd_q;
    }
    add_best(&s, q);
    sheet_addf(&s, "Measurements: %llu of %llu, %llu of them passed; programs so far: %u\n",
               (unsigned long long)measured, (unsigned long long)q->spec.budget_evals,
               (unsigned long long)passed, search_programs(q));
    add_noise(&s, q);
    add_left(&s, "time", (double)q->wall_ns, (double)q->spec.budget_time_ns);
    add_left(&s, "device time", (double)q->device_ns, (double)q->spec.budget_device_ns);
    add_left(&s, "tokens", tokens, (double)q->spec.budget_tokens);
    add_left(&s, "money", usd_q, (double)q->spec.budget_usd_q);
    if (q->spec.stop_roofline > 0)
        sheet_addf(&s, "Aim: %.0f %% of the roofline\n", 100 * q->spec.stop_roofline);
    for (size_t i = 0; i < LANES_MAX; i++)
        if (q->lanes[i].stage != LANE_CLOSED && &q->lanes[i] != v->lane && q->lanes[i].node[0])
            sheet_addf(&s, "Also under way: node %s\n", q->lanes[i].node);
    return 0;
}

/* Why the planner is asked for more. */
int section_need(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const struct world *w = v->s->world;
    struct sheet s = sheet_of(out, budget);
    uint32_t best = world_best(w);
    bool continued = false;

    (void)err;
    sheet_addf(
        &s,
        "Actions ready and not under way: %zu, with a score above 0.5: %zu. The search wants "
        "several to choose from.\n",
        frontier_above(v, -1), frontier_above(v, 0.5));
    if (best == WORLD_NONE)
        return 0;
    for (uint32_t c = world_get(w, best)->first_child; c != WORLD_NONE;
         c = world_get(w, c)->next_sibling)
        continued |= world_is_executable(w, c);
    if (!continued && !(v->s->strategy != NULL && v->s->strategy->flat))
        sheet_addf(
            &s, "The best node, %s, has no open child: insert at least one next step under it.\n",
            world_get(w, best)->id);
    return 0;
}

/* How the next node is chosen (select.h), for whoever sets the numbers that decide it. */
int section_choosing(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);

    (void)err;
    sheet_addf(&s,
               "`score_0_to_1` is the probability that carrying the node out improves on what it "
               "starts from, %s, by more than noise. That is how it is scored afterwards. The "
               "scores of all open nodes are compared with each other",
               v->s->strategy != NULL && v->s->strategy->flat ? "the best program of its time"
                                                              : "its parent's program");
    if (v->s->spec.policy == SELECT_LEXICOGRAPHIC)
        sheet_add(&s, ": the greatest that is not too difficult is carried out next, among equals "
                      "the least difficult, then the best rated. ");
    else
        sheet_add(&s, ", after a correction by how earlier ones came out. The score counts most "
                      "in the choice, times the node's promise: the gain over the best of the "
                      "search that its `expected_vs_baseline_factor` and `expected_sd` let hope "
                      "for, beside the largest of any open node (half where nothing is "
                      "predicted). So below a slow program, where an improvement is easy and "
                      "worth little, that factor decides: it counts everything above the node. "
                      "Then come how good the parent's program is beside the best one (half as "
                      "good under the root, whatever the search began with) and the difficulty, "
                      "which costs more as the budget runs out; rating and confidence count a "
                      "little; failed cycles on the node cost. ");
    sheet_add(&s, "The factor, too, is held against what is measured.\n");
    return 0;
}

/* ---- What past searches say ---- */

static void add_effect(struct buf *row, const json_t *effect)
{
    double mean = jsonx_num(effect, "mean", NAN), sd = jsonx_num(effect, "sd", 0);
    char at[32], low[32], high[32];

    if (!isfinite(mean))
        return;
    text_factor(at, sizeof(at), mean);
    text_factor(low, sizeof(low), mean - normal_80 * sd);
    text_factor(high, sizeof(high), mean + normal_80 * sd);
    buf_addf(row, "\n  effect %s (80 %% interval %s to %s)", at, low, high);
    if (jsonx_str(effect, "cell", "")[0]) {
        buf_addf(row, ", measured on ");
        text_line(row, jsonx_str(effect, "cell", ""), 120);
    }
}

static void add_condition(struct buf *row, const json_t *hit)
{
    const json_t *when = json_object_get(hit, "when");

    if (jsonx_str(hit, "condition", "")[0]) {
        buf_addf(row, "\n  condition: ");
        text_line(row, jsonx_str(hit, "condition", ""), 300);
    }
    if (json_is_object(when)) {
        buf_addf(row, "\n  learned: %s where ",
                 jsonx_bool(when, "helps", 1) ? "helps" : "does not help");
        text_line(row, jsonx_str(when, "feature", "?"), 80);
        buf_addf(row, " ");
        text_line(row, jsonx_str(when, "op", "?"), 8);
        buf_addf(row, " %.4g", jsonx_num(when, "value", 0));
    }
}

static void insight_row(struct buf *row, const json_t *hit)
{
    const json_t *why = json_object_get(hit, "why"), *classes, *v;
    const char *key;
    size_t i;

    buf_addf(row, "- [");
    text_line(row, jsonx_str(hit, "insight", "?"), 12 + 3);
    row->len -= row->len > 3 && strcmp(row->data + row->len - 3, "...") == 0 ? 3 : 0;
    buf_addf(row, "] ");
    text_line(row, jsonx_str(hit, "technique", ""), 80);
    buf_addf(row, ": ");
    text_line(row, jsonx_str(hit, "statement", ""), 500);
    add_condition(row, hit);
    add_effect(row, json_object_get(hit, "effect"));
    buf_addf(row, "; evidence: %lld blind, %lld steered, %lld failures",
             jsonx_int(hit, "blind", jsonx_int(json_object_get(hit, "effect"), "blind", 0)),
             jsonx_int(hit, "steered", jsonx_int(json_object_get(hit, "effect"), "steered", 0)),
             jsonx_int(hit, "failures", 0));
    classes = json_object_get(hit, "failure_classes");
    json_object_foreach ((json_t *)classes, key, v) {
        buf_addf(row, ", ");
        text_line(row, key, 40);
        buf_addf(row, " %lld", (long long)json_integer_value(v));
    }
    if (jsonx_int(hit, "own", 0) > 0)
        buf_addf(row, " (%lld of them from this search)", jsonx_int(hit, "own", 0));
    if (jsonx_bool(hit, "contradicted", 0))
        buf_addf(row, "; contradicted by other evidence");
    if (jsonx_str(hit, "state", "")[0]) {
        buf_addf(row, "; ");
        text_line(row, jsonx_str(hit, "state", ""), 20);
    }
    if (json_array_size(why) > 0)
        buf_addf(row, "\n  why told: ");
    json_array_foreach (why, i, v) {
        if (i == 3)
            break;
        buf_addf(row, "%s", i > 0 ? "; " : "");
        text_line(row, json_is_string(v) ? json_string_value(v) : "", 160);
    }
    buf_addf(row, "\n");
}

int section_insights(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const json_t *hits = v->ask->insights, *hit;
    struct sheet s = sheet_of(out, budget), part = s;
    size_t i;

    (void)err;
    if (json_is_object(hits))
        hits = json_object_get(hits, "hits");
    part.end -= MIN(budget, 60);
    json_array_foreach (hits, i, hit) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        insight_row(&row, hit);
        if (!sheet_add(&part, buf_str(&row)))
            break;
    }
    if (i < json_array_size(hits))
        sheet_addf(&s, "(%zu less useful ones are left out)\n", json_array_size(hits) - i);
    return 0;
}

/* ---- The call itself ---- */

int section_sample(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);

    (void)err;
    sheet_addf(&s, "%llu", (unsigned long long)v->ask->sample);
    return 0;
}

int section_previous(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);

    (void)err;
    if (v->ask->attempt > 1 && v->ask->previous != NULL && v->ask->previous[0] &&
        !sheet_fence(&s, "text", v->ask->previous, true))
        sheet_add(&s, "(too long to be shown)\n");
    return 0;
}

/* Whole, whatever their number: a repair that does not see an error cannot mend it. */
int section_errors(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    size_t i;
    const json_t *e;

    (void)budget;
    if (v->ask->attempt <= 1)
        return 0;
    json_array_foreach (v->ask->errors, i, e) {
        const char *text = json_is_string(e) ? json_string_value(e) : "";
        CLEANUP(buf_release) struct buf row = { .max = 4 * strlen(text) + 64 };

        text_line(&row, text, 4 * strlen(text) + 1);
        if (buf_adds(out, "- ", err) != 0 || buf_adds(out, buf_str(&row), err) != 0 ||
            buf_adds(out, "\n", err) != 0)
            return -1;
    }
    return 0;
}
