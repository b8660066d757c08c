/* SPDX-License-Identifier: Apache-2.0 */
/* Sections made of what was believed and what came of it: the outcome of a cycle, and how scores,
 * nodes and authors predicted so far. See prompt_impl.h. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/prompt_impl.h"

static const double normal_80 = 1.2815515655446004;

int section_outcome(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const struct world_node *n;
    struct sheet s = sheet_of(out, budget);
    char a[32], b[32], reason[160];

    (void)err;
    if (v->lane == NULL || v->node == WORLD_NONE)
        return 0;
    n = world_get(v->s->world, v->node);
    if (n->action.has_expected) {
        text_factor(a, sizeof(a), n->action.expected);
        sheet_addf(&s, "Predicted by the node: %s\n", a);
    } else {
        sheet_add(&s, "The node predicted nothing.\n");
    }
    if (v->result != NULL) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        text_outcome(&row, v->result, 400);
        sheet_addf(&s, "Measured: %s\n", buf_str(&row));
        if (v->result->ok && n->action.has_expected)
            sheet_addf(&s, "Measured over predicted: %.2f\n",
                       exp(1e-6 * (double)v->result->value_q - n->action.expected));
    }
    if (v->lane->stagnation.has_base && v->result != NULL && v->result->ok) {
        text_factor(a, sizeof(a), 1e-6 * (double)v->lane->stagnation.base_q);
        text_factor(b, sizeof(b), 1e-6 * (double)(v->result->value_q - v->lane->stagnation.base_q));
        sheet_addf(&s, "It started from a program of %s: the step itself gave %s.\n", a, b);
    }
    if (v->lane->rounds > 0)
        sheet_addf(&s, "Rounds of the cycle: %u\n", v->lane->rounds);
    if (stagnation_state(&v->lane->stagnation) != STAGNATION_RUNNING)
        sheet_addf(&s, "It ended for: %s\n",
                   stagnation_text(&v->lane->stagnation, reason, sizeof(reason)));
    if (n->evidence.failed_cycles > 0)
        sheet_addf(&s, "Cycles on this node without a pass: %u (at %d it is abandoned).\n",
                   n->evidence.failed_cycles, WORLD_FAILED_CYCLES_MAX);
    return 0;
}

/* Predictions of one source against what was measured. */
struct tally {
    const char *source;
    size_t n, inside;
    double sum;
};

static struct tally *tally_of(struct tally *list, size_t *n, size_t max, const char *source)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(list[i].source, source) == 0)
            return &list[i];
    if (*n == max)
        return NULL;
    list[*n] = (struct tally){ .source = source };
    return &list[(*n)++];
}

static void add_nodes_tally(struct sheet *s, const struct prompt_view *v)
{
    const struct world *w = v->s->world;
    size_t n = 0;
    double sum = 0, square = 0;

    for (uint32_t i = 1; i < world_count(w); i++) {
        const struct world_node *node = world_get(w, i);
        double d;

        if (!world_is_solved(node) || !node->action.has_expected)
            continue;
        d = 1e-6 * (double)view_node_q(v, node) - node->action.expected;
        n++;
        sum += d;
        square += d * d;
    }
    if (n > 0)
        sheet_addf(
            s,
            "Nodes measured so far that predicted a factor: %zu; measured over predicted is %.2f "
            "in the mean (typical distance: a factor of %.2f)\n",
            n, exp(sum / (double)n), exp(sqrt(square / (double)n)));
}

/* Scores read as probabilities that a cycle improves on what it starts from. */
static void add_scores(struct sheet *s, const struct scorebook *book)
{
    size_t n = 0, improved = 0, passed = 0;
    double score = 0;

    for (size_t i = 0; i < book->n; i++) {
        const struct score_bet *b = &book->bets[i];

        if (!b->settled)
            continue;
        n++;
        score += b->score;
        improved += b->improved;
        passed += b->passed;
    }
    if (n > 0)
        sheet_addf(
            s,
            "Actions carried out: %zu with a mean score of %.2f; %zu found a program that passes, "
            "%zu improved on what they started from\n",
            n, score / (double)n, passed, improved);
}

/* Forecasts of the numeric tuner, and that of the program a search begins with, say nothing of who
 * writes programs. */
static bool is_of_author(const char *source)
{
    return source != NULL && source[0] && !str_has_suffix(source, "/tuning") &&
           !str_has_suffix(source, "/seed");
}

/* Through whom the model is asked is nothing to the model: a search recorded with one proposer asks
 * the same with another. */
static const char *after_proposer(const char *source)
{
    const char *slash = strchr(source, '/');

    return slash != NULL ? slash + 1 : source;
}

int section_calibration(const struct prompt_view *v, size_t budget, struct buf *out,
                        struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    struct tally list[8];
    size_t n = 0;

    (void)err;
    add_scores(&s, &v->s->scorebook);
    add_nodes_tally(&s, v);
    for (size_t i = 0; i < v->s->n_trials; i++) {
        const struct trial *t = v->s->trials[i];
        double d = 1e-6 * (double)t->objective_q - t->mean;
        struct tally *tally;

        if (!t->measured || !t->ok || !t->predicted || !is_of_author(t->source))
            continue;
        tally = tally_of(list, &n, ARRAY_LEN(list), t->source);
        if (tally == NULL)
            continue;
        tally->n++;
        tally->sum += d;
        tally->inside += fabs(d) <= normal_80 * t->sd;
    }
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_release) struct buf name = { .max = TEXT_ROW_MAX };

        text_line(&name, after_proposer(list[i].source), SOURCE_NAME_MAX);
        sheet_addf(
            &s,
            "Measurements predicted by %s: %zu; measured over predicted is %.2f in the mean; %zu "
            "lay within the 80 %% interval\n",
            buf_str(&name), list[i].n, exp(list[i].sum / (double)list[i].n), list[i].inside);
    }
    return 0;
}
