/* SPDX-License-Identifier: Apache-2.0 */
/* The scorebook of a search; see scores.h. */
#include "search/scores.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "search/history.h"
#include "search/search.h"

const char *scores_model(const struct search *s)
{
    for (uint64_t n = s->calls.n; n >= 1; n--) {
        const struct call *c = calls_get(&s->calls, n);

        if (c->answered && call_role(c->kind) == LLM_PLANNER)
            return c->model;
    }
    return "";
}

/* The bet is made on the node as it was chosen, before what happens in the cycle edits it. */
void scores_apply_cycle(struct search *s, const struct lane *l, const json_t *ev)
{
    uint32_t index = world_find(s->world, l->node);
    const struct world_node *n, *parent;
    struct score_bet bet = { .cycle = l->cycle };

    if (!search_has_model(s) || !scores_model(s)[0] || index == WORLD_NONE || index == 0)
        return;
    n = world_get(s->world, index);
    if (select_is_fallback(n))
        return;
    /* what memory gave is no bet of the model */
    if (n->graft.search[0] || json_object_get(ev, "gift") != NULL)
        return;
    parent = world_get(s->world, n->parent);
    str_copy(bet.model, sizeof(bet.model), scores_model(s));
    bet.score = n->action.score;
    bet.confidence = n->confidence;
    bet.base_q = jsonx_int(ev, "base_q", 0);
    bet.base_sd_q = world_is_solved(parent) ? parent->evidence.sd_q : 0;
    bet.has_expected = n->action.has_expected;
    bet.expected = n->action.expected - 1e-6 * (double)bet.base_q;
    scorebook_open(&s->scorebook, &bet);
}

void scores_apply_cycle_end(struct search *s, const struct lane *l)
{
    const struct trial *best = search_trial(s, l->best);

    if (best == NULL)
        scorebook_settle(&s->scorebook, l->cycle, false, 0, 0);
    else
        scorebook_settle(&s->scorebook, l->cycle, true, best->value_q, best->sd_q);
}

int scores_seed(const struct search *s, json_t *event, struct err *err)
{
    json_t *past;

    if (history_recall_scores(s->history, s->kb, &past, err) != 0)
        return -1;
    json_object_set_new(event, "scores", past);
    return 0;
}

json_t *scores_bet_json(const struct search *s, const struct lane *l)
{
    const struct trial *best = search_trial(s, l->best);

    return scorebook_bet_json(&s->scorebook, l->cycle, best != NULL, best ? best->value_q : 0,
                              best ? best->sd_q : 0);
}

struct score_correction scores_correction(const struct search *s)
{
    return scorebook_correction(&s->scorebook, scores_model(s));
}
