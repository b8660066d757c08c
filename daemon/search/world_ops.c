/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying an edit: every operation is tried on the tree itself under a journal, so that later ones
 * see earlier ones and every issue is found; with any issue the journal undoes all of it.
 * See world_ops.h, and docs/world-model.md for the rules.
 */
#include "search/world_ops.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/world_priv.h"

enum { OBJECTIVE_Q_MAX = 50 * 1000 * 1000 }; /* |ln| of a ratio; e^50 is beyond any measurement */

/* Beliefs may be revised for ever; the rest is settled when a node closes. */
static const unsigned beliefs =
    WORLD_SET_RATING | WORLD_SET_CONFIDENCE | WORLD_SET_IMPACTS | WORLD_SET_NOTES | WORLD_SET_SCORE;

struct txn {
    struct world *w;
    const struct world_edit *edit;
    struct world_report *report;
    size_t op; /* being applied */
    bool full; /* a cap of the world itself was reached */
    uint32_t n_before, n_new;
    size_t n_saved, cap_saved;
    struct world_node *saved; /* content before the first change */
};

#define ISSUE(t, ...) world_report_issue((t)->report, (t)->op, __VA_ARGS__)

/* ---- Journal ---- */

/* The node, after its content has been saved: the only way to a writable one. */
static struct world_node *txn_write(struct txn *t, uint32_t index)
{
    struct world *w = t->w;

    if (index < t->n_before && w->saved_in[index] != w->serial) {
        w->saved_in[index] = w->serial;
        t->saved = xgrow(t->saved, &t->cap_saved, t->n_saved + 1, sizeof(*t->saved));
        world_node_copy(&t->saved[t->n_saved++], w->nodes[index]);
    }
    w->nodes[index]->updated_round = t->edit->round;
    return w->nodes[index];
}

/* Puts saved content back, keeping the links, which popping the new nodes has restored. */
static void txn_restore(struct txn *t, struct world_node *saved)
{
    struct world *w = t->w;
    struct world_node *n = w->nodes[saved->index], links = *n;

    world_title_forget(w, n->index);
    w->bytes -= world_node_bytes(n);
    world_node_release(n);
    *n = *saved;
    n->first_child = links.first_child;
    n->last_child = links.last_child;
    n->prev_sibling = links.prev_sibling;
    n->next_sibling = links.next_sibling;
    n->n_children = links.n_children;
    w->bytes += world_node_bytes(n);
    world_title_learn(w, n->index);
}

static void txn_rollback(struct txn *t)
{
    while (t->w->n > t->n_before)
        world_pop(t->w);
    for (size_t i = 0; i < t->n_saved; i++)
        txn_restore(t, &t->saved[i]);
    free(t->saved);
}

static void txn_commit(struct txn *t)
{
    struct world_report *r = t->report;

    for (size_t i = 0; i < t->n_saved; i++)
        world_node_release(&t->saved[i]);
    free(t->saved);
    for (uint32_t i = t->n_before; i < t->w->n; i++) {
        r->inserted = xgrow(r->inserted, &r->cap_inserted, r->n_inserted + 1, sizeof(uint32_t));
        r->inserted[r->n_inserted++] = i;
    }
    t->w->revision++;
}

/* ---- Checks shared by operations ---- */

static uint32_t find_target(struct txn *t, const char *id)
{
    uint32_t at = world_find(t->w, id);
    char seen[2 * WORLD_ID_MAX];

    if (at == WORLD_NONE)
        ISSUE(t, "there is no node '%s'", str_visible(id, strlen(id), seen, sizeof(seen)));
    return at;
}

static bool check_text(struct txn *t, const char *name, const char *text, size_t max)
{
    if (strlen(text) > max) {
        ISSUE(t, "'%s' has %zu bytes; at most %zu are allowed", name, strlen(text), max);
        return false;
    }
    if (!world_is_utf8(text)) {
        ISSUE(t, "'%s' is not UTF-8", name);
        return false;
    }
    return true;
}

static bool check_number(struct txn *t, const struct world_field *f, double v)
{
    if (!(v >= f->min && v <= f->max)) { /* NaN is refused here */
        ISSUE(t, "'%s' is %g; it must be from %g to %g", f->name, v, f->min, f->max);
        return false;
    }
    if (f->type == WORLD_FIELD_INT && v != trunc(v)) {
        ISSUE(t, "'%s' is %g; it must be an integer", f->name, v);
        return false;
    }
    return true;
}

static bool check_fields(struct txn *t, const struct world_spec *s)
{
    bool ok = true;

    for (const struct world_field *f = world_fields; f->name; f++) {
        const char *at = (const char *)s + f->offset;

        if (!(s->set & f->bit))
            continue;
        if (f->type == WORLD_FIELD_TEXT)
            ok = check_text(t, f->name, *(char *const *)at, f->text_max) && ok;
        else
            ok = check_number(t, f, *(const double *)at) && ok;
    }
    return ok;
}

static bool check_status(struct txn *t, const char *status)
{
    if (status && str_is_name(status) && strlen(status) <= WORLD_STATUS_MAX)
        return true;
    ISSUE(t, "a status must be 'ok' or a failure class");
    return false;
}

/* W10: no node may contradict what its path has committed to. */
static bool check_commitments(struct txn *t, uint32_t parent, const struct world_spec *s)
{
    bool ok = true;

    if (s->n_commitments > WORLD_COMMITMENTS_MAX) {
        ISSUE(t, "%zu commitments; at most %d are allowed", s->n_commitments,
              WORLD_COMMITMENTS_MAX);
        return false;
    }
    for (size_t i = 0; i < s->n_commitments; i++) {
        const struct world_commitment *c = &s->commitments[i];
        const char *above;

        if (!str_is_name(c->param)) {
            ISSUE(t, "a commitment's parameter must be a name of letters, digits, '_', '.', '-'");
            ok = false;
            continue;
        }
        if (!check_text(t, c->param, c->value, WORLD_LABEL_MAX)) {
            ok = false;
            continue;
        }
        above = world_commitment(t->w, parent, c->param);
        if (above && strcmp(above, c->value) != 0) {
            ISSUE(t, "%s = %s contradicts the path, which has committed to %s = %s", c->param,
                  c->value, c->param, above);
            ok = false;
        }
    }
    return ok;
}

static bool check_title(struct txn *t, uint32_t parent, const char *title, uint32_t self)
{
    uint32_t other = world_find_title(t->w, parent, title);
    const struct world_node *n;

    if (other == WORLD_NONE || other == self)
        return true;
    n = world_get(t->w, other);
    if (n->state == WORLD_ABANDONED)
        ISSUE(t, "node '%s' had this title under the same parent and was abandoned: %s", n->id,
              n->reason);
    else
        ISSUE(t, "node '%s' under the same parent has this title already", n->id);
    return false;
}

/* ---- Inserting ---- */

static bool check_parent(struct txn *t, const struct world_node *parent)
{
    if (parent->state == WORLD_ABANDONED)
        ISSUE(t, "node '%s' is abandoned; nothing can be inserted below it", parent->id);
    else if (parent->kind == WORLD_LEAF)
        ISSUE(t, "node '%s' is a leaf assignment; it has no children", parent->id);
    else if (parent->depth >= WORLD_DEPTH_MAX)
        ISSUE(t, "node '%s' is at depth %u; the tree ends there", parent->id, parent->depth);
    else
        return true;
    return false;
}

static bool check_caps(struct txn *t)
{
    if (t->n_new >= t->edit->max_new) {
        ISSUE(t, "more than %u new nodes in one edit", t->edit->max_new);
        return false;
    }
    if (t->w->n >= WORLD_NODES_MAX) {
        ISSUE(t, "the tree has its %d nodes; nothing more can be inserted", WORLD_NODES_MAX);
        t->full = true;
        return false;
    }
    return true;
}

static bool check_identity(struct txn *t, const struct world_node *parent,
                           const struct world_spec *s)
{
    const char *title = s->set & WORLD_SET_TITLE ? s->title : "";
    const char *decision = s->set & WORLD_SET_DECISION ? s->decision : "";
    char normalised[WORLD_LABEL_MAX + 1];
    bool ok = true;

    if ((s->set & WORLD_SET_ID) && (!str_is_name(s->id) || strlen(s->id) > WORLD_ID_MAX)) {
        ISSUE(t, "a node id must be 1 to %d letters, digits, '_', '.', '-'", WORLD_ID_MAX);
        ok = false;
    } else if ((s->set & WORLD_SET_ID) && world_find(t->w, s->id) != WORLD_NONE) {
        ISSUE(t, "the node id '%s' is taken", s->id);
        ok = false;
    }
    if ((s->set & WORLD_SET_KIND) && s->kind != WORLD_DECISION && s->kind != WORLD_LEAF) {
        ISSUE(t, "a new node is a decision or a leaf, never a root");
        ok = false;
    }
    world_title_normalise(title, normalised);
    if (normalised[0] == '\0' && (title[0] != '\0' || decision[0] == '\0')) {
        ISSUE(t, "a new node needs an action title of words, or a decision");
        ok = false;
    }
    if ((s->set & WORLD_SET_PARENT_PROGRAM) &&
        strcmp(s->parent_program, parent->evidence.program) != 0) {
        ISSUE(t, "'parent_solution_id' is not the solution of node '%s'", parent->id);
        ok = false;
    }
    return check_title(t, parent->index, title, WORLD_NONE) && ok;
}

static bool check_graft(struct txn *t, const struct world_spec *s)
{
    if (!(s->set & WORLD_SET_GRAFT))
        return true;
    if (t->edit->actor == WORLD_BY_MODEL)
        ISSUE(t, "where a node was grafted from is written by the system only");
    else if (!(s->graft.similarity >= 0 && s->graft.similarity <= 1))
        ISSUE(t, "a graft's similarity is %g; it must be from 0 to 1", s->graft.similarity);
    else
        return check_text(t, "graft.search", s->graft.search, WORLD_LABEL_MAX) &&
               check_text(t, "graft.insight", s->graft.insight, WORLD_LABEL_MAX);
    return false;
}

static void take_text(char **to, const char *from)
{
    char *copy = xstrdup(from);

    free(*to);
    *to = copy;
}

/* What `s` gives goes into the node; `s` has been checked. */
static void fill_node(struct world_node *n, const struct world_spec *s)
{
    struct world_action *a = &n->action;
    char **const texts[] = { &n->decision, &n->choice,      &n->impacts,  &n->notes,
                             &a->title,    &a->description, &a->rationale };
    static const unsigned bits[] = { WORLD_SET_DECISION, WORLD_SET_CHOICE, WORLD_SET_IMPACTS,
                                     WORLD_SET_NOTES,    WORLD_SET_TITLE,  WORLD_SET_DESCRIPTION,
                                     WORLD_SET_RATIONALE };
    const char *given[] = { s->decision, s->choice,      s->impacts,  s->notes,
                            s->title,    s->description, s->rationale };

    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        if (s->set & bits[i])
            take_text(texts[i], given[i]);
    }
    if (s->set & WORLD_SET_RATING)
        n->rating = s->rating;
    if (s->set & WORLD_SET_CONFIDENCE)
        n->confidence = s->confidence;
    if (s->set & WORLD_SET_DIFFICULTY)
        a->difficulty = (int)s->difficulty;
    if (s->set & WORLD_SET_SCORE)
        a->score = s->score;
    if (s->set & WORLD_SET_EXPECTED) {
        a->has_expected = true;
        a->expected = s->expected;
    }
    if (a->has_expected && (s->set & WORLD_SET_EXPECTED_SD))
        a->expected_sd = s->expected_sd;
}

static void name_node(const struct world *w, struct world_node *n, const struct world_spec *s)
{
    if (s->set & WORLD_SET_ID) {
        str_copy(n->id, sizeof(n->id), s->id);
        return;
    }
    snprintf(n->id, sizeof(n->id), "n%u", w->n);
    for (unsigned k = 2; world_find(w, n->id) != WORLD_NONE; k++)
        snprintf(n->id, sizeof(n->id), "n%u_%u", w->n, k);
}

static struct world_node *build_node(struct txn *t, const struct world_node *parent,
                                     const struct world_spec *s)
{
    struct world_node *n = world_node_new();

    n->parent = parent->index;
    n->kind = s->set & WORLD_SET_KIND ? s->kind : WORLD_DECISION;
    n->created_round = n->updated_round = t->edit->round;
    name_node(t->w, n, s);
    fill_node(n, s);
    if (n->action.title[0] && !(s->set & WORLD_SET_SCORE))
        n->action.score = n->rating / 10;
    n->n_commitments = s->n_commitments;
    n->commitments = s->n_commitments ? xcalloc(s->n_commitments, sizeof(*n->commitments)) : NULL;
    for (size_t i = 0; i < s->n_commitments; i++) {
        n->commitments[i].param = xstrdup(s->commitments[i].param);
        n->commitments[i].value = xstrdup(s->commitments[i].value);
    }
    if (s->set & WORLD_SET_GRAFT) {
        take_text(&n->graft.search, s->graft.search);
        take_text(&n->graft.insight, s->graft.insight);
        n->graft.similarity = s->graft.similarity;
        n->graft.discounted = s->graft.discounted;
    }
    str_copy(n->evidence.parent_program, sizeof(n->evidence.parent_program),
             parent->evidence.program);
    return n;
}

static bool fits(struct txn *t, size_t more)
{
    int most = t->edit->actor == WORLD_BY_MODEL ? WORLD_BYTES_MODEL : WORLD_BYTES_MAX;

    if (t->w->bytes + more <= (size_t)most)
        return true;
    ISSUE(t, "the tree would have more than its %d bytes", most);
    t->full = true;
    return false;
}

static void insert_child(struct txn *t, uint32_t parent_at, const struct world_spec *s)
{
    const struct world_node *parent = world_get(t->w, parent_at);
    struct world_node *n;
    bool ok = check_parent(t, parent) && check_caps(t);

    ok = check_fields(t, s) && ok;
    ok = check_graft(t, s) && ok;
    if (!ok || !check_identity(t, parent, s) || !check_commitments(t, parent_at, s))
        return;
    n = build_node(t, parent, s);
    if (!fits(t, world_node_bytes(n))) {
        world_node_free(n);
        return;
    }
    world_append(t->w, n);
    t->n_new++;
}

/* ---- The operations ---- */

static void apply_insert(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);

    if (at != WORLD_NONE)
        insert_child(t, at, &op->spec);
}

static bool check_patch(struct txn *t, const struct world_node *n, const struct world_spec *s)
{
    const unsigned insert_only =
        WORLD_SET_ID | WORLD_SET_KIND | WORLD_SET_PARENT_PROGRAM | WORLD_SET_GRAFT;
    char normalised[WORLD_LABEL_MAX + 1];

    if (!check_fields(t, s))
        return false;
    if ((s->set & insert_only) || s->n_commitments) {
        ISSUE(t, "id, kind, commitments and origin of node '%s' cannot be changed", n->id);
    } else if (n->state == WORLD_ABANDONED) {
        ISSUE(t, "node '%s' is abandoned and cannot be changed", n->id);
    } else if (n->state == WORLD_CLOSED && (s->set & ~beliefs)) {
        ISSUE(t,
              "node '%s' is closed; only rating, confidence, score, impacts and notes can be "
              "changed",
              n->id);
    } else if (n->kind == WORLD_ROOT && (s->set & ~(WORLD_SET_RATING | WORLD_SET_CONFIDENCE |
                                                    WORLD_SET_IMPACTS | WORLD_SET_NOTES))) {
        ISSUE(t, "the root has no decision and no action");
    } else if (s->set & WORLD_SET_TITLE) {
        world_title_normalise(s->title, normalised);
        if (normalised[0] != '\0')
            return check_title(t, n->parent, s->title, n->index);
        ISSUE(t, "the action title of node '%s' needs words", n->id);
    } else {
        return true;
    }
    return false;
}

static void apply_update(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);
    struct world_node *n;
    size_t before, after;

    if (at == WORLD_NONE || !check_patch(t, world_get(t->w, at), &op->spec))
        return;
    n = txn_write(t, at);
    before = world_node_bytes(n);
    world_title_forget(t->w, at);
    fill_node(n, &op->spec);
    world_title_learn(t->w, at);
    after = world_node_bytes(n);
    t->w->bytes = t->w->bytes - before + after;
    fits(t, 0);
}

static void apply_split(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);

    if (at == WORLD_NONE)
        return;
    if (op->n_children == 0 || op->n_children > WORLD_SPLIT_MAX) {
        ISSUE(t, "a split has 1 to %d children, not %zu", WORLD_SPLIT_MAX, op->n_children);
        return;
    }
    if (op->spec.set)
        apply_update(t, op);
    for (size_t i = 0; i < op->n_children; i++)
        insert_child(t, at, &op->children[i]);
}

static void abandon_node(struct txn *t, uint32_t at, const char *reason)
{
    struct world_node *n = txn_write(t, at);
    size_t before = strlen(n->reason);

    n->state = WORLD_ABANDONED;
    take_text(&n->reason, reason);
    t->w->bytes = t->w->bytes - before + strlen(reason);
}

/* The node and all below it that is still open. Nothing below an open node can be closed. */
static void abandon_tree(struct txn *t, uint32_t top, const char *reason)
{
    char below[WORLD_REASON_MAX];

    snprintf(below, sizeof(below), "its ancestor %s was abandoned", world_get(t->w, top)->id);
    for (uint32_t i = top; i != WORLD_NONE; i = world_walk(t->w, top, i)) {
        if (world_get(t->w, i)->state == WORLD_OPEN)
            abandon_node(t, i, i == top ? reason : below);
    }
    fits(t, 0);
}

static void apply_abandon(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);
    const struct world_node *n;

    if (at == WORLD_NONE || !check_text(t, "reason", op->reason, WORLD_REASON_MAX))
        return;
    n = world_get(t->w, at);
    if (n->kind == WORLD_ROOT)
        ISSUE(t, "the root cannot be abandoned");
    else if (n->state == WORLD_CLOSED)
        ISSUE(t, "node '%s' is closed: its evidence stays", n->id);
    else if (n->state == WORLD_ABANDONED)
        ISSUE(t, "node '%s' is abandoned already", n->id);
    else if (op->reason[0] == '\0')
        ISSUE(t, "abandoning node '%s' needs a reason", n->id);
    else
        abandon_tree(t, at, op->reason);
}

/* The canonical text of an assignment; NULL, with an issue, when it is none. Owned. */
static char *check_assignment(struct txn *t, const char *text)
{
    json_t *j = NULL;
    char *canonical = NULL;
    struct err why;

    if (text == NULL || strlen(text) > WORLD_ASSIGNMENT_MAX)
        ISSUE(t, "an assignment of at most %d bytes is needed", WORLD_ASSIGNMENT_MAX);
    else if (jsonx_parse(text, strlen(text), "the assignment", &j, &why) != 0)
        ISSUE(t, "%s", why.msg);
    else if (!json_is_object(j))
        ISSUE(t, "the assignment is not a JSON object");
    else
        canonical = jsonx_canonical(j);
    json_decref(j);
    return canonical;
}

static bool check_solution(struct txn *t, const struct world_node *n,
                           const struct world_solution *s)
{
    bool ok = check_status(t, s->status);

    if (s->program == NULL || !str_is_hex(s->program, WORLD_PROGRAM_HEX)) {
        ISSUE(t, "a program id is %d lower-case hexadecimal digits", WORLD_PROGRAM_HEX);
        ok = false;
    }
    if (s->evaluation == 0 || s->evaluation > INT64_MAX) {
        ISSUE(t, "a solution needs the number of its evaluation");
        ok = false;
    }
    if (s->objective_q < -OBJECTIVE_Q_MAX || s->objective_q > OBJECTIVE_Q_MAX || s->sd_q < 0 ||
        s->sd_q > OBJECTIVE_Q_MAX) {
        ISSUE(t, "the objective or its deviation is out of range");
        ok = false;
    }
    if (n->state != WORLD_OPEN) {
        ISSUE(t, "node '%s' is %s; a solution can be attached to an open node only", n->id,
              world_state_name(n->state));
        ok = false;
    } else if (n->kind != WORLD_ROOT && !world_is_executable(t->w, n->index)) {
        ISSUE(t, "node '%s' is not executable: it has no action, or its parent is open", n->id);
        ok = false;
    } else if (n->kind != WORLD_ROOT && ok && strcmp(s->status, "ok") != 0) {
        ISSUE(t, "node '%s' can only be closed by a program that passed, not by '%s'", n->id,
              s->status);
        ok = false;
    }
    return ok;
}

static void apply_attach(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);
    const struct world_solution *s = &op->solution;
    CLEANUP(freep) char *assignment = NULL;
    struct world_node *n;

    if (at == WORLD_NONE || !check_solution(t, world_get(t->w, at), s))
        return;
    assignment = check_assignment(t, s->assignment);
    if (assignment == NULL)
        return;
    n = txn_write(t, at);
    n->state = WORLD_CLOSED;
    str_copy(n->evidence.program, sizeof(n->evidence.program), s->program);
    str_copy(n->evidence.status, sizeof(n->evidence.status), s->status);
    n->evidence.objective_q = strcmp(s->status, "ok") == 0 ? s->objective_q : 0;
    n->evidence.sd_q = strcmp(s->status, "ok") == 0 ? s->sd_q : 0;
    n->evidence.evaluation = s->evaluation;
    if (n->parent != WORLD_NONE && n->evidence.parent_program[0] == '\0')
        str_copy(n->evidence.parent_program, sizeof(n->evidence.parent_program),
                 world_get(t->w, n->parent)->evidence.program);
    t->w->bytes = t->w->bytes - strlen(n->evidence.assignment) + strlen(assignment);
    take_text(&n->evidence.assignment, assignment);
    fits(t, 0);
}

static void count_failure(struct world_evidence *e, const char *status)
{
    for (uint32_t i = 0; i < e->n_failures; i++) {
        if (strcmp(e->failures[i].status, status) == 0) {
            e->failures[i].count++;
            return;
        }
    }
    if (e->n_failures == WORLD_FAILURES_MAX)
        return; /* there are fewer classes than places; an unknown one still counts as an attempt */
    str_copy(e->failures[e->n_failures].status, sizeof(e->failures[0].status), status);
    e->failures[e->n_failures++].count = 1;
}

static void apply_attempt(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);
    struct world_node *n;

    if (at == WORLD_NONE || !check_status(t, op->status))
        return;
    n = txn_write(t, at);
    n->evidence.attempts++;
    if (n->state != WORLD_CLOSED)
        str_copy(n->evidence.status, sizeof(n->evidence.status), op->status);
    if (strcmp(op->status, "ok") != 0)
        count_failure(&n->evidence, op->status);
}

static void apply_fail_cycle(struct txn *t, const struct world_op *op)
{
    uint32_t at = find_target(t, op->node);
    const char *why = op->reason ? op->reason : "";
    char full[WORLD_REASON_MAX + 80], reason[WORLD_REASON_MAX + 1];
    struct world_node *n;

    if (at == WORLD_NONE)
        return;
    if (op->limit == 0 || (op->status && !check_status(t, op->status)) ||
        !check_text(t, "reason", why, WORLD_REASON_MAX)) {
        if (op->limit == 0)
            ISSUE(t, "the limit of failed cycles must be at least 1");
        return;
    }
    if (!world_is_executable(t->w, at)) {
        ISSUE(t, "node '%s' is not executable; no cycle can have failed on it", op->node);
        return;
    }
    n = txn_write(t, at);
    n->evidence.failed_cycles++;
    if (op->status)
        str_copy(n->evidence.status, sizeof(n->evidence.status), op->status);
    if (n->evidence.failed_cycles < op->limit)
        return;
    snprintf(full, sizeof(full), "%u cycle%s without a pass%s%s", n->evidence.failed_cycles,
             n->evidence.failed_cycles == 1 ? "" : "s", why[0] ? ": " : "", why);
    str_visible(full, strlen(full), reason, sizeof(reason)); /* cuts between characters */
    abandon_tree(t, at, reason);
}

static void apply_op(struct txn *t, const struct world_op *op)
{
    static void (*const apply[WORLD_OP_COUNT])(struct txn *, const struct world_op *) = {
        [WORLD_OP_INSERT] = apply_insert,         [WORLD_OP_UPDATE] = apply_update,
        [WORLD_OP_SPLIT] = apply_split,           [WORLD_OP_ABANDON] = apply_abandon,
        [WORLD_OP_ATTACH] = apply_attach,         [WORLD_OP_ATTEMPT] = apply_attempt,
        [WORLD_OP_FAIL_CYCLE] = apply_fail_cycle,
    };
    bool evidence = op->kind == WORLD_OP_ATTACH || op->kind == WORLD_OP_ATTEMPT ||
                    op->kind == WORLD_OP_FAIL_CYCLE;

    if (evidence && t->edit->actor != WORLD_BY_SYSTEM)
        ISSUE(t, "evidence is written by the system only");
    else
        apply[op->kind](t, op);
}

static bool check_edit(struct txn *t)
{
    const struct world_edit *e = t->edit;
    uint32_t most = e->actor == WORLD_BY_MODEL ? WORLD_INIT_NEW_MAX : WORLD_SYSTEM_NEW_MAX;

    t->op = SIZE_MAX;
    if (e->n_ops > WORLD_EDIT_OPS_MAX)
        ISSUE(t, "%zu operations; at most %d are allowed", e->n_ops, WORLD_EDIT_OPS_MAX);
    else if (e->max_new > most)
        ISSUE(t, "an edit that may insert %u nodes; at most %u are allowed", e->max_new, most);
    else if (e->round > INT64_MAX)
        ISSUE(t, "the round is out of range");
    else
        return check_text(t, "cause", e->cause, WORLD_LABEL_MAX);
    return false;
}

/* Undoes everything; `first` is the number of issues that the report had before this edit. */
static int refuse(struct txn *t, size_t first, struct err *err)
{
    const struct world_report *r = t->report;
    size_t n = r->n_issues - first;

    txn_rollback(t);
    return err_set(err, t->full ? ERR_LIMIT : ERR_INVALID,
                   "the edit has %zu error%s; the first: %s", n, n == 1 ? "" : "s",
                   r->issues[first].text);
}

static int apply(struct world *w, const struct world_edit *e, bool keep,
                 struct world_report *report, struct err *err)
{
    CLEANUP(world_report_release) struct world_report own = { 0 };
    struct txn t = { .w = w, .edit = e, .report = report ? report : &own, .n_before = w->n };
    size_t issues = t.report->n_issues;
    struct err broken;

    w->serial++;
    if (check_edit(&t)) {
        for (t.op = 0; t.op < e->n_ops; t.op++)
            apply_op(&t, &e->ops[t.op]);
    }
    if (t.report->n_issues > issues)
        return refuse(&t, issues, err);
    if (keep)
        txn_commit(&t);
    else
        txn_rollback(&t);
    assert(world_check(w, &broken) == 0);
    return 0;
}

int world_apply(struct world *w, const struct world_edit *e, struct world_report *report,
                struct err *err)
{
    return apply(w, e, true, report, err);
}

int world_try(struct world *w, const struct world_edit *e, struct world_report *report,
              struct err *err)
{
    return apply(w, e, false, report, err);
}
