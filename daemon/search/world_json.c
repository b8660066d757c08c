/* SPDX-License-Identifier: Apache-2.0 */
/* The tree as JSON, as text for people and as the action text for a coder; see world.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/world_priv.h"

static json_t *action_to_json(const struct world_action *a)
{
    json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:f}", "title", a->title, "description",
                          a->description, "rationale", a->rationale, "difficulty_1_to_5",
                          a->difficulty, "score_0_to_1", a->score);

    if (a->has_expected) {
        json_object_set_new(j, "expected_log_speedup", json_real(a->expected));
        json_object_set_new(j, "expected_sd", json_real(a->expected_sd));
    }
    return j;
}

static json_t *evidence_to_json(const struct world_node *n)
{
    const struct world_evidence *e = &n->evidence;
    json_t *failures = json_object(), *j;

    for (uint32_t i = 0; i < e->n_failures; i++)
        json_object_set_new(failures, e->failures[i].status, json_integer(e->failures[i].count));
    j = json_pack("{s:s, s:i, s:i, s:o, s:s}", "status", e->status, "attempts", (int)e->attempts,
                  "failed_cycles", (int)e->failed_cycles, "failures", failures, "parent_program",
                  e->parent_program);
    if (n->state == WORLD_CLOSED) {
        json_t *assignment = json_loads(e->assignment, 0, NULL);

        json_object_set_new(j, "program", json_string(e->program));
        json_object_set_new(j, "assignment", assignment ? assignment : json_object());
        json_object_set_new(j, "evaluation", json_integer((json_int_t)e->evaluation));
        if (world_is_solved(n)) {
            json_object_set_new(j, "objective_q", json_integer(e->objective_q));
            json_object_set_new(j, "sd_q", json_integer(e->sd_q));
        }
    }
    return j;
}

json_t *world_node_to_json(const struct world *w, uint32_t index)
{
    const struct world_node *n = world_get(w, index);
    json_t *own = json_object(), *j;

    for (size_t i = 0; i < n->n_commitments; i++)
        json_object_set_new(own, n->commitments[i].param, json_string(n->commitments[i].value));
    j = json_pack(
        "{s:s, s:s?, s:s, s:s, s:i, s:s, s:s, s:o, s:o, s:f, s:f, s:s, s:s, s:o, s:I, s:I}", "id",
        n->id, "parent", n->parent == WORLD_NONE ? NULL : world_get(w, n->parent)->id, "kind",
        world_kind_name(n->kind), "state", world_state_name(n->state), "depth", (int)n->depth,
        "decision", n->decision, "choice", n->choice, "commitments", own, "action",
        action_to_json(&n->action), "overall_rating_0_to_10", n->rating, "confidence_0_to_1",
        n->confidence, "impacts", n->impacts, "notes", n->notes, "evidence", evidence_to_json(n),
        "created_round", (json_int_t)n->created_round, "updated_round",
        (json_int_t)n->updated_round);
    if (n->state == WORLD_ABANDONED)
        json_object_set_new(j, "reason", json_string(n->reason));
    if (n->graft.search[0] || n->graft.insight[0])
        json_object_set_new(j, "graft",
                            json_pack("{s:s, s:s, s:f, s:b}", "search", n->graft.search, "insight",
                                      n->graft.insight, "similarity", n->graft.similarity,
                                      "discounted", n->graft.discounted));
    return j;
}

json_t *world_to_json(const struct world *w)
{
    json_t *nodes = json_array();
    uint32_t best = world_best(w);

    for (uint32_t i = 0; i < w->n; i++)
        json_array_append_new(nodes, world_node_to_json(w, i));
    return json_pack("{s:i, s:I, s:s?, s:o}", "format", 1, "revision", (json_int_t)w->revision,
                     "best", best == WORLD_NONE ? NULL : w->nodes[best]->id, "nodes", nodes);
}

/* ---- Text ---- */

static int add_evidence_text(const struct world_node *n, struct buf *out)
{
    const struct world_evidence *e = &n->evidence;
    int rc = 0;

    if (world_is_solved(n))
        rc |= buf_addf(out, "  %.3fx (sd %.2f%%, evaluation %llu)",
                       exp(1e-6 * (double)e->objective_q), 1e-4 * (double)e->sd_q,
                       (unsigned long long)e->evaluation);
    else if (n->state == WORLD_CLOSED)
        rc |= buf_addf(out, "  %s (evaluation %llu)", e->status, (unsigned long long)e->evaluation);
    if (e->attempts)
        rc |= buf_addf(out, "  attempts %u", e->attempts);
    if (e->failed_cycles)
        rc |= buf_addf(out, "  failed cycles %u", e->failed_cycles);
    for (uint32_t i = 0; i < e->n_failures; i++)
        rc |= buf_addf(out, "%s%s %u%s", i ? ", " : " (", e->failures[i].status,
                       e->failures[i].count, i + 1 == e->n_failures ? ")" : "");
    return rc;
}

static int add_node_text(const struct world_node *n, struct buf *out)
{
    static const char marks[WORLD_STATE_COUNT] = { ' ', 'x', '-' };
    char seen[2 * WORLD_REASON_MAX];
    const char *what = n->action.title[0] ? n->action.title : n->decision;
    int rc = buf_addf(out, "%*s[%c] %s", (int)(2 * n->depth), "", marks[n->state], n->id);

    if (n->kind == WORLD_ROOT)
        rc |= buf_addf(out, "  specification");
    else
        rc |= buf_addf(out, "  %s", str_visible(what, strlen(what), seen, sizeof(seen)));
    for (size_t i = 0; i < n->n_commitments; i++) {
        rc |= buf_addf(out, "%s%s=", i ? " " : "  {", n->commitments[i].param);
        rc |= buf_addf(out, "%s%s",
                       str_visible(n->commitments[i].value, strlen(n->commitments[i].value), seen,
                                   sizeof(seen)),
                       i + 1 == n->n_commitments ? "}" : "");
    }
    if (n->kind != WORLD_ROOT)
        rc |= buf_addf(out, "  score %.2f difficulty %d rating %.1f confidence %.2f",
                       n->action.score, n->action.difficulty, n->rating, n->confidence);
    if (n->action.has_expected)
        rc |= buf_addf(out, "  expected %.2fx", exp(n->action.expected));
    rc |= add_evidence_text(n, out);
    if (n->graft.search[0] || n->graft.insight[0])
        rc |= buf_addf(out, "  from memory (similarity %.2f)", n->graft.similarity);
    if (n->state == WORLD_ABANDONED)
        rc |= buf_addf(out, "  abandoned: %s",
                       str_visible(n->reason, strlen(n->reason), seen, sizeof(seen)));
    return rc | buf_addf(out, "\n");
}

int world_render_text(const struct world *w, struct buf *out, struct err *err)
{
    for (uint32_t i = 0; i != WORLD_NONE; i = world_walk(w, 0, i)) {
        if (add_node_text(w->nodes[i], out) != 0)
            return err_set(err, ERR_LIMIT, "the tree's text is more than the %zu bytes allowed",
                           out->max);
    }
    return 0;
}

int world_action_text(const struct world *w, uint32_t index, struct buf *out, struct err *err)
{
    const struct world_node *n = world_get(w, index);
    const struct world_action *a = &n->action;
    int rc = buf_addf(out, "Node: %s\nBase node: %s\nAction: %s\nDifficulty (1 to 5): %d\n", n->id,
                      n->parent == WORLD_NONE ? "none" : w->nodes[n->parent]->id, a->title,
                      a->difficulty);

    if (a->description[0])
        rc |= buf_addf(out, "Description: %s\n", a->description);
    for (uint32_t at = index; at != WORLD_NONE; at = w->nodes[at]->parent) {
        const struct world_node *from = w->nodes[at];

        for (size_t i = 0; i < from->n_commitments; i++)
            rc |= buf_addf(out, "Committed by %s: %s = %s\n", from->id, from->commitments[i].param,
                           from->commitments[i].value);
    }
    if (a->has_expected)
        rc |= buf_addf(out, "Expected speed-up over the baseline: %.2fx\n", exp(a->expected));
    if (a->rationale[0])
        rc |= buf_addf(out, "Rationale: %s\n", a->rationale);
    if (rc != 0)
        return err_set(err, ERR_LIMIT, "the action's text is more than the %zu bytes allowed",
                       out->max);
    return 0;
}
