/* SPDX-License-Identifier: Apache-2.0 */
/* Sections made of a cycle: its rules and where it stands, its rounds, and what evaluations cost.
 * See prompt_impl.h. */
#include <stdlib.h>

#include "base/mem.h"
#include "search/author.h"
#include "search/prompt_impl.h"
#include "search/strategy.h"

enum { MESSAGE_MAX = 600, NOTE_MAX = 400, HISTORY_MAX = 256 };

/* ---- Evaluations ---- */

uint64_t view_left(const struct prompt_view *v)
{
    uint64_t measured = search_measured(v->s);

    return v->s->spec.budget_evals > measured ? v->s->spec.budget_evals - measured : 0;
}

/* What the tunables of a program cost. */
int section_tuning_cost(const struct prompt_view *v, size_t budget, struct buf *out,
                        struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    uint64_t left = view_left(v),
             most = MAX((uint64_t)AUTHOR_TUNE_LITTLE, left / AUTHOR_TUNE_SHARE);

    (void)err;
    most = MIN(left > 0 ? left - 1 : 0, MIN((uint64_t)AUTHOR_TUNE_MAX, most));
    sheet_addf(&s,
               "Each assignment that is measured costs one of the %llu evaluations that are left: "
               "the defaults first, then at most %llu more of one program (%d, or a sixth of what "
               "is left where that is fewer; %d where the program is far behind the best).",
               (unsigned long long)left, (unsigned long long)most, AUTHOR_TUNE_MAX,
               AUTHOR_TUNE_LITTLE);
    return 0;
}

/* Nothing can be measured any more. */
int section_spent(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);

    (void)err;
    if (search_exhausted(v->s) != NULL)
        sheet_add(&s, "Nothing more is measured in this search: its budget is used up, or its aim "
                      "is reached.");
    return 0;
}

/* ---- The rules ---- */

static uint64_t cycle_evaluations(const struct prompt_view *v)
{
    uint64_t count = 0;

    for (uint64_t n = 1; n <= search_measured(v->s); n++)
        count += search_trial(v->s, n)->cycle == v->lane->cycle;
    return count;
}

static void add_rules(struct sheet *s, const struct stagnation *g, bool open)
{
    char base[32], now[32] = "";

    if (open)
        snprintf(now, sizeof(now), " (now %u)", g->a);
    sheet_addf(s,
               "A cycle ends after %u programs in a row that do not pass or do not raise its best "
               "by more than %.1f %%%s",
               g->window, 100e-6 * (double)g->margin_q, now);
    if (g->has_base) {
        text_factor(base, sizeof(base), 1e-6 * (double)g->base_q);
        if (open)
            snprintf(now, sizeof(now), " (now %u)", g->b);
        sheet_addf(s,
                   ", or after %u, counted from the first that passes, that leave it at or below "
                   "the %s of the program it started from%s%s",
                   g->window, base, now,
                   g->rate_aware ? "; a cycle that climbs fast enough to get there is spared" : "");
    }
    sheet_add(s, ".\n");
}

int section_cycle(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    uint64_t left = view_left(v), most, rounds;
    bool open;

    (void)err;
    if (v->lane == NULL || v->lane->stage == LANE_CLOSED)
        return 0;
    open = lane_in_cycle(v->lane);
    most = MAX((uint64_t)AUTHOR_CYCLE_LEAST, v->s->spec.budget_evals / AUTHOR_CYCLE_SHARE);
    rounds = v->s->strategy->rounds ? v->s->strategy->rounds : AUTHOR_ROUNDS_MAX;
    add_rules(&s, &v->lane->stagnation, open);
    sheet_addf(&s,
               "Programs in this cycle: %u of at most %llu; evaluations: %llu, and after %llu no "
               "further program. Evaluations left in the search: %llu.\n",
               v->lane->rounds, (unsigned long long)rounds,
               (unsigned long long)cycle_evaluations(v), (unsigned long long)most,
               (unsigned long long)left);
    if (open && left == 1)
        sheet_add(&s, "This is the last evaluation: the program you write now is measured once, "
                      "with its defaults, and nothing after it.\n");
    return 0;
}

/* ---- The rounds ---- */

/* One round of a cycle: a program and its measurements. */
struct round {
    uint32_t program;
    size_t n;
    const struct trial *best; /* passed; NULL */
    const struct trial *last;
    const struct trial *duel; /* compared directly with the best of its time; NULL */
};

static size_t rounds_of(const struct search *s, uint64_t cycle, struct round *list, size_t max)
{
    size_t n = 0;

    for (uint64_t i = 1; i <= search_measured(s); i++) {
        const struct trial *t = search_trial(s, i);
        size_t k = 0;

        if (t->cycle != cycle)
            continue;
        while (k < n && list[k].program != t->program)
            k++;
        if (k == max)
            continue;
        if (k == n)
            list[n++] = (struct round){ .program = t->program };
        list[k].n++;
        list[k].last = t;
        if (t->duel_with != 0 && (list[k].duel == NULL || !list[k].duel->improved))
            list[k].duel = t;
        if (t->ok && (list[k].best == NULL || t->value_q > list[k].best->value_q))
            list[k].best = t;
    }
    return n;
}

/* How the direct comparison with the best of its time came out. */
static void add_duel(struct buf *row, const struct search *s, const struct round *r)
{
    const struct trial *t = r->duel, *with = t != NULL ? search_trial(s, t->duel_with) : NULL;
    char factor[32];

    if (with != NULL) {
        text_factor(factor, sizeof(factor), 1e-6 * (double)(t->duel_q - t->duel_champion_q));
        buf_addf(row, "; side by side with program %u: %s, %s", with->program, factor,
                 t->improved ? "better, and became the best" : "not better");
    } else if (r->best != NULL) {
        buf_addf(row, r->best->improved ? "; became the best without a direct comparison"
                                        : "; not compared directly with the best");
    }
}

static void round_row(struct buf *row, const struct prompt_view *v, const struct round *r)
{
    const struct program *p = search_program_record(v->s, r->program);
    char factor[32];

    buf_addf(row, "- program %u", r->program);
    if (p != NULL && p->parent != PROGRAM_NONE)
        buf_addf(row, " (from %u)", p->parent);
    buf_addf(row, ": ");
    text_outcome(row, r->best != NULL ? r->best : r->last, 300);
    if (r->n > 1)
        buf_addf(row, " in the %s of %zu measurements", r->best != NULL ? "best" : "last", r->n);
    add_duel(row, v->s, r);
    if (p != NULL && p->has_expected) {
        text_factor(factor, sizeof(factor), p->expected);
        buf_addf(row, "; expected %s", factor);
    }
    if (p != NULL && p->note != NULL && p->note[0]) {
        buf_addf(row, "; ");
        text_line(row, p->note, NOTE_MAX);
    }
    buf_addf(row, "\n");
}

int section_history(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget), part = s;
    CLEANUP(freep) struct round *list = NULL;
    CLEANUP(freep) char **rows = NULL;
    size_t n, from, used = 320;
    uint32_t rejected = view_rejected(v);

    (void)err;
    if (v->lane == NULL || v->lane->rounds == 0)
        return 0;
    list = xcalloc(HISTORY_MAX, sizeof(*list));
    n = rounds_of(v->s, v->lane->cycle, list, HISTORY_MAX);
    rows = xcalloc(n + 1, sizeof(*rows));
    for (from = n; from > 0; from--) { /* the newest rounds that fit, the oldest of them first */
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        round_row(&row, v, &list[from - 1]);
        used += row.len;
        if (used > budget)
            break;
        rows[from - 1] = buf_take(&row);
    }
    if (from > 0)
        sheet_addf(&part, "(%zu earlier rounds are left out)\n", from);
    for (size_t i = from; i < n; i++) {
        sheet_add(&part, rows[i]);
        free(rows[i]);
    }
    if (v->lane->rounds > n)
        sheet_addf(&part, "- rounds without a program that could be measured: %zu\n",
                   v->lane->rounds - n);
    if (v->lane->note != NULL && v->lane->note[0]) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        text_line(&row, v->lane->note, MESSAGE_MAX);
        sheet_addf(&part, "- the last such round: %s\n", buf_str(&row));
    }
    if (rejected != PROGRAM_NONE)
        sheet_addf(&part,
                   "Program %u is rejected; the next round changes program %u again, which is the "
                   "best of the cycle.\n",
                   rejected, v->current);
    return 0;
}
