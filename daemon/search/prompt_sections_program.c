/* SPDX-License-Identifier: Apache-2.0 */
/* Sections made of programs and of what was measured of them. See prompt_impl.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/feedback.h"
#include "search/prompt_impl.h"

enum { MESSAGE_MAX = 600, NOTE_MAX = 400, LINEAGE_MAX = 8, CLASSES_MAX = 24 };

/* ---- For several sections ---- */

const struct trial *view_trial_of(const struct prompt_view *v, uint32_t program)
{
    uint64_t n = 0;

    if (program == PROGRAM_NONE)
        return NULL;
    n = search_program_best(v->s, program);
    if (n == 0)
        n = search_program_last(v->s, program);
    return search_trial(v->s, n);
}

int64_t view_node_q(const struct prompt_view *v, const struct world_node *n)
{
    const struct trial *t = search_trial(v->s, n->evidence.evaluation);

    return t != NULL && t->measured && t->ok ? t->value_q : n->evidence.objective_q;
}

uint32_t view_rejected(const struct prompt_view *v)
{
    if (v->lane == NULL || v->lane->program == PROGRAM_NONE || v->lane->program == v->current ||
        !lane_in_cycle(v->lane))
        return PROGRAM_NONE;
    return v->lane->program;
}

void text_outcome(struct buf *row, const struct trial *t, size_t max)
{
    char value[32], own[32];

    if (t->ok) {
        text_factor(value, sizeof(value), 1e-6 * (double)t->value_q);
        text_factor(own, sizeof(own), 1e-6 * (double)t->objective_q);
        buf_addf(row, "%s", value);
        if (strcmp(value, own) != 0)
            buf_addf(row, " with its direct comparisons, %s in this measurement alone", own);
        if (t->sd_q > 0)
            buf_addf(row, " (sd %.1f %%)", 1e-4 * (double)t->sd_q);
        if (isfinite(t->roofline))
            buf_addf(row, ", %.0f %% of the roofline", 100 * t->roofline);
        return;
    }
    text_line(row, t->status != NULL ? t->status : "?", WORLD_STATUS_MAX);
    if (t->message != NULL && t->message[0]) {
        buf_addf(row, ": ");
        text_line(row, t->message, max);
    }
}

/* How often a program was measured. */
static size_t measurements_of(const struct search *s, uint32_t program, size_t *failed)
{
    size_t n = 0;

    *failed = 0;
    for (uint64_t i = 1; i <= search_measured(s); i++) {
        const struct trial *t = search_trial(s, i);

        n += t->program == program;
        *failed += t->program == program && !t->ok;
    }
    return n;
}

/* "Program 3, made from program 0, 1.32x in the best of 4 measurements." and its author's words. */
static void add_head(struct sheet *s, const struct prompt_view *v, uint32_t program)
{
    const struct program *p = search_program_record(v->s, program);
    const struct trial *t = view_trial_of(v, program);
    CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };
    size_t failed, n = measurements_of(v->s, program, &failed);
    char factor[32];

    buf_addf(&row, "Program %u", program);
    if (program == 0)
        buf_addf(&row, ", which the search began with");
    if (p != NULL && p->parent != PROGRAM_NONE)
        buf_addf(&row, ", made from program %u", p->parent);
    if (p != NULL && p->from[0]) {
        buf_addf(&row, ", taken over from ");
        text_line(&row, p->from, 200);
    }
    if (t == NULL) {
        buf_addf(&row, ", not measured yet");
    } else {
        buf_addf(&row, ": ");
        text_outcome(&row, t, MESSAGE_MAX);
        if (n > 1)
            buf_addf(&row, " in the %s of %zu measurements", t->ok ? "best" : "last", n);
        if (t->ok && failed > 0)
            buf_addf(&row, ", %zu of them failed", failed);
    }
    buf_addf(&row, "\n");
    if (p != NULL && p->note != NULL && p->note[0]) {
        buf_addf(&row, "Its author's note: ");
        text_line(&row, p->note, NOTE_MAX);
        buf_addf(&row, "\n");
    }
    if (p != NULL && p->has_expected) {
        text_factor(factor, sizeof(factor), p->expected);
        buf_addf(&row, "Its author expected %s.\n", factor);
    }
    sheet_add(s, buf_str(&row));
}

static void add_source(struct sheet *s, const struct prompt_view *v, uint32_t program)
{
    const char *source = search_program_source(v->s, program);

    if (program == 0 && v->seed_in_prefix)
        sheet_add(s, "(its text stands above, as the program that the search begins with)\n");
    else if (source == NULL || !sheet_fence(s, v->s->scope.language, source, true))
        sheet_add(s, "(its text is left out for want of room)\n");
}

static void add_program(const struct prompt_view *v, uint32_t program, size_t budget,
                        struct buf *out)
{
    struct sheet s = sheet_of(out, budget);

    add_head(&s, v, program);
    add_source(&s, v, program);
}

/* Which measurement a block of feedback is of: its figures are those of one alone. */
static void feedback_head(struct buf *row, const struct prompt_view *v, const struct trial *t)
{
    const struct space *space = search_program_space(v->s, t->program);
    CLEANUP(freep) char *key = space_n(space) > 0 ? space_key(space, t->a) : NULL;
    char value[32], own[32];

    buf_addf(row, "Measurement %llu, program %u", (unsigned long long)t->n, t->program);
    if (key != NULL) {
        buf_addf(row, " with ");
        text_line(row, key, 800);
    }
    text_factor(value, sizeof(value), 1e-6 * (double)t->value_q);
    text_factor(own, sizeof(own), 1e-6 * (double)t->objective_q);
    if (t->ok && strcmp(value, own) != 0)
        buf_addf(row, "; this measurement alone: %s, with its direct comparisons: %s", own, value);
    buf_addf(row, "\n");
}

/* What was told of a trial's measurement, in a fence of its own. */
static int add_feedback(const struct prompt_view *v, const struct trial *t, size_t budget,
                        struct buf *out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = budget + 1 }, head = { .max = TEXT_ROW_MAX };
    struct sheet s = sheet_of(out, budget);
    json_auto_t *feedback = NULL;

    enum { FENCE = 24 };

    if (t == NULL || !t->measured || budget < FEEDBACK_TEXT_MIN + FENCE || v->s->kb == NULL)
        return 0;
    feedback = search_feedback(v->s, t);
    if (feedback == NULL)
        return 0;
    feedback_head(&head, v, t);
    if (sheet_left(&s) >= head.len + FEEDBACK_TEXT_MIN + FENCE)
        sheet_add(&s, buf_str(&head));
    if (feedback_text(feedback, sheet_left(&s) - FENCE, &text, err) != 0)
        return -1;
    sheet_fence(&s, "text", buf_str(&text), false);
    return 0;
}

/* ---- Programs ---- */

int section_seed(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);

    (void)err;
    if (v->s->source != NULL && v->s->source[0])
        sheet_fence(&s, v->s->scope.language, v->s->source, true);
    return 0;
}

int section_seed_result(const struct prompt_view *v, size_t budget, struct buf *out,
                        struct err *err)
{
    const struct trial *t = view_trial_of(v, 0);

    /* Where program 0 is shown as another one, it is measured there. */
    if (t == NULL || v->current == 0 || (v->base == 0 && v->base_measured) || v->best == 0)
        return 0;
    return add_feedback(v, t, budget, out, err);
}

int section_current(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    (void)err;
    if (v->current != PROGRAM_NONE)
        add_program(v, v->current, budget, out);
    return 0;
}

int section_result(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    return v->current == PROGRAM_NONE ? 0 : add_feedback(v, v->result, budget, out, err);
}

int section_base(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    (void)err;
    if (v->base != PROGRAM_NONE && v->base != v->current)
        add_program(v, v->base, budget, out);
    return 0;
}

int section_base_result(const struct prompt_view *v, size_t budget, struct buf *out,
                        struct err *err)
{
    if (v->base == PROGRAM_NONE || v->base == v->current)
        return 0;
    return add_feedback(v, view_trial_of(v, v->base), budget, out, err);
}

/* The program that the cycle started from and those before it, by figures and notes alone: the
 * newest first. */
int section_lineage(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    uint32_t at = v->base;

    (void)err;
    for (size_t i = 0; i < LINEAGE_MAX && at != PROGRAM_NONE; i++) {
        const struct program *p = search_program_record(v->s, at);
        const struct trial *t = view_trial_of(v, at);
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        buf_addf(&row, "- program %u%s: ", at, i == 0 ? ", which the cycle started from" : "");
        if (t != NULL)
            text_outcome(&row, t, 160);
        else
            buf_addf(&row, "not measured yet");
        if (p != NULL && p->note != NULL && p->note[0]) {
            buf_addf(&row, "; ");
            text_line(&row, p->note, NOTE_MAX);
        } else if (at == 0) {
            buf_addf(&row, "; what the search began with");
        }
        if (!sheet_addf(&s, "%s\n", buf_str(&row)))
            break;
        at = p != NULL ? p->parent : PROGRAM_NONE;
    }
    return 0;
}

int section_best(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    (void)err;
    if (v->best != PROGRAM_NONE && v->best != v->current && !(v->best == v->base && v->base_whole))
        add_program(v, v->best, budget, out);
    return 0;
}

int section_best_result(const struct prompt_view *v, size_t budget, struct buf *out,
                        struct err *err)
{
    if (v->best == PROGRAM_NONE || v->best == v->current ||
        (v->best == v->base && v->base_measured))
        return 0;
    return add_feedback(v, view_trial_of(v, v->best), budget, out, err);
}

/* What was measured of the program that the round before this one brought, where the search goes
 * back to an earlier one: its table, without its text. */
int section_rejected(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    uint32_t program = view_rejected(v);
    const struct trial *t = view_trial_of(v, program);
    struct sheet s = sheet_of(out, budget);

    if (t == NULL)
        return 0;
    add_head(&s, v, program);
    return add_feedback(v, t, sheet_left(&s), out, err);
}

int section_parents(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    size_t others = 0;

    (void)err;
    for (size_t i = 0; i < v->ask->n_parents; i++)
        others += v->ask->parents[i] != v->current;
    for (size_t i = 0; i < v->ask->n_parents; i++) {
        struct sheet part;

        if (v->ask->parents[i] == v->current || v->ask->parents[i] >= search_programs(v->s))
            continue;
        part = sheet_share(&s, 1.0 / (double)others--);
        add_program(v, v->ask->parents[i], sheet_left(&part), out);
    }
    return 0;
}

/* ---- What tuning found ---- */

static int by_objective(const void *a, const void *b)
{
    const struct trial *x = *(const struct trial *const *)a;
    const struct trial *y = *(const struct trial *const *)b;

    if (x->ok != y->ok)
        return x->ok ? -1 : 1;
    if (x->ok && x->value_q != y->value_q)
        return x->value_q > y->value_q ? -1 : 1;
    return x->n < y->n ? -1 : 1;
}

int section_tuning(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const struct space *space =
        v->current != PROGRAM_NONE ? search_program_space(v->s, v->current) : NULL;
    struct sheet s = sheet_of(out, budget), part = s;
    CLEANUP(freep) const struct trial **list = NULL;
    size_t n = 0, shown = 0;

    (void)err;
    if (space == NULL || space_n(space) == 0)
        return 0;
    list = xcalloc(search_measured(v->s) + 1, sizeof(struct trial *));
    for (uint64_t i = 1; i <= search_measured(v->s); i++)
        if (search_trial(v->s, i)->program == v->current)
            list[n++] = search_trial(v->s, i);
    if (n == 0)
        return 0;
    qsort(list, n, sizeof(struct trial *), by_objective);
    part.end -= MIN(budget, 80);
    for (; shown < n; shown++) {
        CLEANUP(freep) char *key = space_key(space, list[shown]->a);
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        buf_addf(&row, "- ");
        text_outcome(&row, list[shown], 160);
        buf_addf(&row, " with ");
        text_line(&row, key != NULL ? key : "?", 800);
        if (!sheet_addf(&part, "%s\n", buf_str(&row)))
            break;
    }
    if (shown < n)
        sheet_addf(&s, "(%zu of %zu measured assignments left out, the slowest)\n", n - shown, n);
    return 0;
}

/* ---- Failures by class ---- */

struct class
{
    const char *status;
    size_t n;
    const struct trial *newest;
};

static int by_count(const void *a, const void *b)
{
    const struct class *x = a, *y = b;

    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    return strcmp(x->status, y->status);
}

/* Of one node, or of the whole search (NULL). */
static void add_failures(const struct prompt_view *v, const char *node, size_t budget,
                         struct buf *out)
{
    struct sheet s = sheet_of(out, budget);
    struct class list[CLASSES_MAX];
    size_t n = 0;

    for (uint64_t i = 1; i <= search_measured(v->s); i++) {
        const struct trial *t = search_trial(v->s, i);
        size_t k = 0;

        if (t->ok || t->status == NULL || (node != NULL && strcmp(t->node, node) != 0))
            continue;
        while (k < n && strcmp(list[k].status, t->status) != 0)
            k++;
        if (k == CLASSES_MAX)
            continue;
        if (k == n)
            list[n++] = (struct class){ .status = t->status };
        list[k].n++;
        list[k].newest = t;
    }
    qsort(list, n, sizeof(*list), by_count);
    for (size_t k = 0; k < n; k++) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        buf_addf(&row, "- ");
        text_line(&row, list[k].status, WORLD_STATUS_MAX);
        buf_addf(&row, ": %zu; the newest (program %u", list[k].n, list[k].newest->program);
        if (node == NULL)
            buf_addf(&row, ", node %s", list[k].newest->node);
        buf_addf(&row, "): ");
        text_line(&row, list[k].newest->message != NULL ? list[k].newest->message : "",
                  MESSAGE_MAX);
        if (!sheet_addf(&s, "%s\n", buf_str(&row)))
            break;
    }
}

int section_failures(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    (void)err;
    add_failures(v, NULL, budget, out);
    return 0;
}

int section_node_failures(const struct prompt_view *v, size_t budget, struct buf *out,
                          struct err *err)
{
    (void)err;
    if (v->node != WORLD_NONE)
        add_failures(v, world_get(v->s->world, v->node)->id, budget, out);
    return 0;
}
