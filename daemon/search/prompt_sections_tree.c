/* SPDX-License-Identifier: Apache-2.0 */
/* Sections made of the world model: the tree as compact rows, the path to the node at hand, its
 * action. See prompt_impl.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "search/prompt_impl.h"
#include "search/strategy.h"
#include "search/warm_model.h"

/* ---- Rows ---- */

enum { MISSING_ROOM = 100 }; /* for the line that counts what does not fit */

static bool is_under_way(const struct search *s, const char *node)
{
    for (size_t i = 0; i < LANES_MAX; i++)
        if (s->lanes[i].stage != LANE_CLOSED && strcmp(s->lanes[i].node, node) == 0)
            return true;
    return false;
}

static void add_expected(struct buf *row, const struct world_action *a)
{
    char factor[32];

    if (!a->has_expected)
        return;
    text_factor(factor, sizeof(factor), a->expected);
    buf_addf(row, " | expects %s", factor);
    if (a->expected_sd > 0)
        buf_addf(row, " (sd %.0f %%)", 100 * a->expected_sd);
}

/* "wrong_value 2, crashed 1" of the node's attempts. */
static void add_attempts(struct buf *row, const struct world_evidence *e)
{
    if (e->attempts == 0 && e->failed_cycles == 0)
        return;
    buf_addf(row, " | measurements: %u", e->attempts);
    if (e->failed_cycles > 0)
        buf_addf(row, ", %u cycles without a pass", e->failed_cycles);
    for (uint32_t i = 0; i < e->n_failures; i++)
        buf_addf(row, "%s%s %u", i == 0 ? " (" : ", ", e->failures[i].status, e->failures[i].count);
    if (e->n_failures > 0)
        buf_addf(row, ")");
}

static void add_parent(struct buf *row, const struct prompt_view *v, const struct world_node *n)
{
    const struct world_node *parent;
    char factor[32];

    if (n->parent == WORLD_NONE)
        return;
    parent = world_get(v->s->world, n->parent);
    buf_addf(row, " | under %s", parent->id);
    if (world_is_solved(parent)) {
        text_factor(factor, sizeof(factor), 1e-6 * (double)view_node_q(v, parent));
        buf_addf(row, " (%s)", factor);
    }
}

static void open_row(struct buf *row, const struct prompt_view *v, const struct world_node *n)
{
    buf_addf(row, "- %s: ", n->id);
    text_line(row, n->action.title, WORLD_LABEL_MAX);
    buf_addf(row, " | score %.2f | difficulty %d", n->action.score, n->action.difficulty);
    add_expected(row, &n->action);
    buf_addf(row, " | rating %.1f, confidence %.2f", n->rating, n->confidence);
    add_parent(row, v, n);
    add_attempts(row, &n->evidence);
    if (n->graft.search[0] || n->graft.insight[0])
        buf_addf(row, " | from past searches, similarity %.2f", n->graft.similarity);
    if (is_under_way(v->s, n->id))
        buf_addf(row, " | under way");
    buf_addf(row, "\n");
}

static void closed_row(struct buf *row, const struct prompt_view *v, const struct world_node *n)
{
    char factor[32];

    buf_addf(row, "- %s: ", n->id);
    text_line(row,
              n->action.title[0]      ? n->action.title
              : n->kind == WORLD_ROOT ? "start"
                                      : "-",
              WORLD_LABEL_MAX);
    if (world_is_solved(n)) {
        text_factor(factor, sizeof(factor), 1e-6 * (double)view_node_q(v, n));
        buf_addf(row, " | measured %s", factor);
    } else {
        buf_addf(row, " | %s", n->evidence.status);
    }
    add_expected(row, &n->action);
    buf_addf(row, " | rating %.1f, confidence %.2f", n->rating, n->confidence);
    add_parent(row, v, n);
    add_attempts(row, &n->evidence);
    if (n->notes[0]) {
        buf_addf(row, " | notes: ");
        text_line(row, n->notes, 240);
    }
    buf_addf(row, "\n");
}

static void plain_row(struct buf *row, const struct prompt_view *v, const struct world_node *n)
{
    buf_addf(row, "- %s: ", n->id);
    text_line(row, n->choice[0] ? n->choice : n->decision, WORLD_LABEL_MAX);
    add_parent(row, v, n);
    buf_addf(row, "\n");
}

static void abandoned_row(struct buf *row, const struct prompt_view *v, const struct world_node *n)
{
    buf_addf(row, "- %s: ", n->id);
    text_line(row, n->action.title[0] ? n->action.title : n->choice, WORLD_LABEL_MAX);
    add_parent(row, v, n);
    add_attempts(row, &n->evidence);
    buf_addf(row, " | why: ");
    text_line(row, n->reason, 240);
    buf_addf(row, "\n");
}

/* ---- Which nodes, in which order ---- */

static int by_promise(const void *a, const void *b, void *view)
{
    const struct world *w = ((const struct prompt_view *)view)->s->world;
    const struct world_node *x = world_get(w, *(const uint32_t *)a);
    const struct world_node *y = world_get(w, *(const uint32_t *)b);

    if (x->action.score != y->action.score)
        return x->action.score > y->action.score ? -1 : 1;
    if (x->action.difficulty != y->action.difficulty)
        return x->action.difficulty - y->action.difficulty;
    if (x->rating != y->rating)
        return x->rating > y->rating ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static int by_worth(const void *a, const void *b, void *view)
{
    const struct prompt_view *v = view;
    const struct world_node *x = world_get(v->s->world, *(const uint32_t *)a);
    const struct world_node *y = world_get(v->s->world, *(const uint32_t *)b);
    int64_t p, q;

    if (world_is_solved(x) != world_is_solved(y))
        return world_is_solved(x) ? -1 : 1;
    p = world_is_solved(x) ? view_node_q(v, x) : 0;
    q = world_is_solved(y) ? view_node_q(v, y) : 0;
    if (p != q)
        return p > q ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static int by_newest(const void *a, const void *b, void *view)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    (void)view;
    return x > y ? -1 : x < y;
}

typedef void row_fn(struct buf *row, const struct prompt_view *v, const struct world_node *n);
typedef int order_fn(const void *a, const void *b, void *view);

/* What nodes are shown as, in the order in which they are written. */
enum group {
    GROUP_FRONTIER,
    GROUP_CLOSED,
    GROUP_WAITING,
    GROUP_ABANDONED,
    GROUP_PLAIN,
    GROUP_COUNT
};

static enum group group_of(const struct world *w, uint32_t i)
{
    const struct world_node *n = world_get(w, i);

    if (n->state == WORLD_CLOSED)
        return GROUP_CLOSED;
    if (n->state == WORLD_ABANDONED)
        return GROUP_ABANDONED;
    if (world_is_executable(w, i))
        return GROUP_FRONTIER;
    return n->action.title[0] ? GROUP_WAITING : GROUP_PLAIN;
}

static const struct group_form {
    const char *heading, *left_out;
    double share; /* of the budget, at least, when the group wants it */
    row_fn *row;
    order_fn *order;
} group_forms[GROUP_COUNT] = {
    [GROUP_FRONTIER] = { "Ready to be carried out, the highest score first:\n",
                         "of the lowest score", 0.45, open_row, by_promise },
    [GROUP_CLOSED] = { "Carried out and measured, the best first:\n", "the slowest", 0.25,
                       closed_row, by_worth },
    [GROUP_WAITING] = { "Waiting for their parent to be measured:\n", "of the lowest score", 0.15,
                        open_row, by_promise },
    [GROUP_ABANDONED] = { "Abandoned (nothing of the same title can be put in their place), the "
                          "newest first:\n",
                          "the oldest", 0.1, abandoned_row, by_newest },
    [GROUP_PLAIN] = { "Decisions without an action of their own:\n", "the oldest", 0.05, plain_row,
                      by_newest },
};

/* The nodes of one group. */
struct group_list {
    const struct group_form *form;
    size_t n, bytes; /* bytes: of all rows, with the heading */
    uint32_t *nodes;
};

static void list_sort_and_size(struct group_list *l, const struct prompt_view *v)
{
    qsort_r(l->nodes, l->n, sizeof(*l->nodes), l->form->order, (void *)v);
    l->bytes = l->n > 0 ? strlen(l->form->heading) + MISSING_ROOM : 0;
    for (size_t i = 0; i < l->n; i++) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        l->form->row(&row, v, world_get(v->s->world, l->nodes[i]));
        l->bytes += row.len;
    }
}

static void list_add(struct sheet *s, const struct group_list *l, const struct prompt_view *v,
                     size_t budget)
{
    struct sheet part = { .out = s->out, .end = MIN(s->end, s->out->len + budget) };
    size_t shown = 0, start = s->out->len;

    part.end -= MIN(sheet_left(&part), MISSING_ROOM);
    sheet_add(&part, l->form->heading);
    for (; shown < l->n; shown++) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        l->form->row(&row, v, world_get(v->s->world, l->nodes[shown]));
        if (!sheet_add(&part, buf_str(&row)))
            break;
    }
    if (shown == 0)
        sheet_back(s, start);
    if (shown < l->n)
        sheet_addf(s, "(%zu of %zu left out here, %s)\n", l->n - shown, l->n, l->form->left_out);
}

/* Every group gets what it wants up to its share; what is left over goes to the first that want
 * more. */
static void share_out(const struct group_list *lists, size_t budget, size_t out[GROUP_COUNT])
{
    size_t left = budget;

    for (size_t g = 0; g < GROUP_COUNT; g++) {
        out[g] = MIN(lists[g].bytes, (size_t)(lists[g].form->share * (double)budget));
        left -= MIN(left, out[g]);
    }
    for (size_t g = 0; g < GROUP_COUNT; g++) {
        size_t more = MIN(left, lists[g].bytes - out[g]);

        out[g] += more;
        left -= more;
    }
}

int section_tree(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const struct world *w = v->s->world;
    struct sheet s = sheet_of(out, budget);
    CLEANUP(freep)
    uint32_t *nodes = xcalloc((size_t)world_count(w) * GROUP_COUNT + 1, sizeof(*nodes));
    struct group_list lists[GROUP_COUNT];
    size_t budgets[GROUP_COUNT];

    (void)err;
    for (size_t g = 0; g < GROUP_COUNT; g++)
        lists[g] =
            (struct group_list){ .form = &group_forms[g], .nodes = nodes + g * world_count(w) };
    for (uint32_t i = 0; i < world_count(w); i++) {
        struct group_list *l = &lists[group_of(w, i)];

        if ((i > 0 || l->form->row == closed_row) &&
            !warm_model_hides(v->s, v->ask->kind, v->ask->lane, i))
            l->nodes[l->n++] = i;
    }
    for (size_t g = 0; g < GROUP_COUNT; g++)
        list_sort_and_size(&lists[g], v);
    share_out(lists, budget, budgets);
    for (size_t g = 0; g < GROUP_COUNT; g++)
        if (lists[g].n > 0)
            list_add(&s, &lists[g], v, budgets[g]);
    return 0;
}

/* ---- The path to a node, whole ---- */

static void path_row(struct buf *row, const struct prompt_view *v, const struct world_node *n)
{
    char factor[32];

    buf_addf(row, "- %s (%s)", n->id, world_state_name(n->state));
    if (world_is_solved(n)) {
        text_factor(factor, sizeof(factor), 1e-6 * (double)view_node_q(v, n));
        buf_addf(row, " measured %s", factor);
    }
    buf_addf(row, ": ");
    text_line(row,
              n->action.title[0]      ? n->action.title
              : n->kind == WORLD_ROOT ? "start"
                                      : "-",
              WORLD_LABEL_MAX);
    buf_addf(row, "\n");
    if (n->decision[0] || n->choice[0]) {
        buf_addf(row, "  decides: ");
        text_line(row, n->decision, WORLD_LABEL_MAX);
        buf_addf(row, " -> ");
        text_line(row, n->choice, WORLD_LABEL_MAX);
        buf_addf(row, "\n");
    }
    for (size_t i = 0; i < n->n_commitments; i++) {
        buf_addf(row, "  commits: ");
        text_line(row, n->commitments[i].param, WORLD_LABEL_MAX);
        buf_addf(row, " = ");
        text_line(row, n->commitments[i].value, WORLD_LABEL_MAX);
        buf_addf(row, "\n");
    }
    if (n->impacts[0]) {
        buf_addf(row, "  impacts:\n");
        text_block(row, n->impacts, "    ", WORLD_TEXT_MAX);
    }
    if (n->notes[0]) {
        buf_addf(row, "  notes:\n");
        text_block(row, n->notes, "    ", WORLD_TEXT_MAX);
    }
}

int section_path(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const struct world *w = v->s->world;
    struct sheet s = sheet_of(out, budget);
    uint32_t path[WORLD_DEPTH_MAX + 2];
    size_t n = 0, shown = 0;
    CLEANUP(freep) char **rows = NULL;

    (void)err;
    if (v->node == WORLD_NONE)
        return 0;
    for (uint32_t at = v->node; at != WORLD_NONE && n < ARRAY_LEN(path);
         at = world_get(w, at)->parent)
        path[n++] = at;
    /* The nearest ones count most: as many as fit, then shown from the root down. */
    rows = xcalloc(n, sizeof(*rows));
    for (size_t used = MISSING_ROOM; shown < n; shown++) {
        CLEANUP(buf_release) struct buf row = { .max = 4 * TEXT_ROW_MAX };

        path_row(&row, v, world_get(w, path[shown]));
        used += row.len;
        if (used > budget)
            break;
        rows[shown] = buf_take(&row);
    }
    if (shown < n)
        sheet_addf(&s, "(%zu nodes nearer to the root are left out)\n", n - shown);
    for (size_t i = shown; i-- > 0;) {
        sheet_add(&s, rows[i]);
        free(rows[i]);
    }
    return 0;
}

int section_summary(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    CLEANUP(buf_release) struct buf block = { .max = 4 * TEXT_ROW_MAX };

    (void)err;
    if (v->s->summary == NULL || v->s->summary[0] == '\0')
        return 0;
    text_block(&block, v->s->summary, "> ", MIN(budget - MIN(budget, 16), TEXT_ROW_MAX));
    sheet_add(&s, buf_str(&block));
    return 0;
}

int section_questions(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);
    size_t i;
    const json_t *q;

    (void)err;
    json_array_foreach (v->s->questions, i, q) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        text_line(&row, json_is_string(q) ? json_string_value(q) : "", 600);
        if (!sheet_addf(&s, "- %s\n", buf_str(&row)))
            break;
    }
    return 0;
}

/* ---- The node at hand ---- */

int section_action(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = 8 * TEXT_ROW_MAX };
    struct sheet s;

    (void)budget;
    if (v->node == WORLD_NONE)
        return 0;
    if (world_action_text(v->s->world, v->node, &text, err) != 0)
        return -1;
    s = sheet_of(out, 16 * TEXT_ROW_MAX);
    sheet_fence(&s, "text", buf_str(&text), false);
    return 0;
}

/* Does the strategy keep a list instead of a tree? */
int section_flat(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    struct sheet s = sheet_of(out, budget);

    (void)err;
    if (v->s->strategy != NULL && v->s->strategy->flat)
        sheet_add(&s,
                  "This search keeps a list: every new node is inserted under the root, and each "
                  "action starts from the best program of its time.\n");
    return 0;
}
