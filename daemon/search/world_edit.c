/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits as values: the fields that an operation may give, building, releasing; see world_ops.h.
 * What an edit means for a tree is world_ops.c's business.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/world_ops.h"
#include "search/world_priv.h"

#define AT(member) offsetof(struct world_spec, member)

const struct world_field world_fields[] = {
    { WORLD_SET_DECISION, "decision", false, WORLD_FIELD_TEXT, AT(decision), WORLD_LABEL_MAX, 0,
      0 },
    { WORLD_SET_CHOICE, "choice", false, WORLD_FIELD_TEXT, AT(choice), WORLD_LABEL_MAX, 0, 0 },
    { WORLD_SET_RATING, "overall_rating_0_to_10", false, WORLD_FIELD_REAL, AT(rating), 0, 0, 10 },
    { WORLD_SET_CONFIDENCE, "confidence_0_to_1", false, WORLD_FIELD_REAL, AT(confidence), 0, 0, 1 },
    { WORLD_SET_IMPACTS, "impacts", false, WORLD_FIELD_TEXT, AT(impacts), WORLD_TEXT_MAX, 0, 0 },
    { WORLD_SET_NOTES, "notes", false, WORLD_FIELD_TEXT, AT(notes), WORLD_TEXT_MAX, 0, 0 },
    { WORLD_SET_TITLE, "title", true, WORLD_FIELD_TEXT, AT(title), WORLD_LABEL_MAX, 0, 0 },
    { WORLD_SET_DESCRIPTION, "description", true, WORLD_FIELD_TEXT, AT(description), WORLD_TEXT_MAX,
      0, 0 },
    { WORLD_SET_RATIONALE, "rationale", true, WORLD_FIELD_TEXT, AT(rationale), WORLD_TEXT_MAX, 0,
      0 },
    { WORLD_SET_DIFFICULTY, "difficulty_1_to_5", true, WORLD_FIELD_INT, AT(difficulty), 0, 1, 5 },
    { WORLD_SET_SCORE, "score_0_to_1", true, WORLD_FIELD_REAL, AT(score), 0, 0, 1 },
    { WORLD_SET_EXPECTED, "expected_log_speedup", true, WORLD_FIELD_REAL, AT(expected), 0, -20,
      20 },
    { WORLD_SET_EXPECTED_SD, "expected_sd", true, WORLD_FIELD_REAL, AT(expected_sd), 0, 0, 10 },
    { 0, NULL, false, WORLD_FIELD_TEXT, 0, 0, 0, 0 }
};

const struct world_field *world_field_find(unsigned bit)
{
    const struct world_field *f = world_fields;

    while (f->name && f->bit != bit)
        f++;
    return f->name ? f : NULL;
}

char **world_spec_text_at(struct world_spec *s, const struct world_field *f)
{
    return (char **)((char *)s + f->offset);
}

double *world_spec_number_at(struct world_spec *s, const struct world_field *f)
{
    return (double *)((char *)s + f->offset);
}

/* ---- Building ---- */

void world_edit_init(struct world_edit *e, enum world_actor actor, const char *cause,
                     uint64_t round)
{
    memset(e, 0, sizeof(*e));
    e->actor = actor;
    e->cause = xstrdup(cause);
    e->round = round;
    e->max_new = actor == WORLD_BY_MODEL ? WORLD_MODEL_NEW_MAX : WORLD_SYSTEM_NEW_MAX;
}

void world_spec_release(struct world_spec *s)
{
    for (const struct world_field *f = world_fields; f->name; f++) {
        if (f->type == WORLD_FIELD_TEXT)
            free(*world_spec_text_at(s, f));
    }
    free(s->id);
    free(s->parent_program);
    free(s->graft.search);
    free(s->graft.insight);
    for (size_t i = 0; i < s->n_commitments; i++) {
        free(s->commitments[i].param);
        free(s->commitments[i].value);
    }
    free(s->commitments);
    memset(s, 0, sizeof(*s));
}

static void op_release(struct world_op *op)
{
    free(op->node);
    free(op->reason);
    free(op->status);
    free(op->solution.program);
    free(op->solution.assignment);
    free(op->solution.status);
    world_spec_release(&op->spec);
    for (size_t i = 0; i < op->n_children; i++)
        world_spec_release(&op->children[i]);
    free(op->children);
}

void world_edit_release(struct world_edit *e)
{
    for (size_t i = 0; i < e->n_ops; i++)
        op_release(&e->ops[i]);
    free(e->ops);
    free(e->cause);
    memset(e, 0, sizeof(*e));
}

struct world_op *world_edit_add(struct world_edit *e, enum world_op_kind kind, const char *node)
{
    struct world_op *op;

    e->ops = xgrow(e->ops, &e->cap_ops, e->n_ops + 1, sizeof(*e->ops));
    op = &e->ops[e->n_ops++];
    memset(op, 0, sizeof(*op));
    op->kind = kind;
    op->node = xstrdup(node);
    return op;
}

struct world_spec *world_op_child(struct world_op *op)
{
    struct world_spec *s;

    op->children =
        xgrow(op->children, &op->cap_children, op->n_children + 1, sizeof(*op->children));
    s = &op->children[op->n_children++];
    memset(s, 0, sizeof(*s));
    return s;
}

static void replace_text(char **at, const char *text)
{
    char *copy = xstrdup(text ? text : "");

    free(*at);
    *at = copy;
}

void world_spec_text(struct world_spec *s, unsigned field, const char *text)
{
    const struct world_field *f = world_field_find(field);

    if (field == WORLD_SET_ID)
        replace_text(&s->id, text);
    else if (field == WORLD_SET_PARENT_PROGRAM)
        replace_text(&s->parent_program, text);
    else if (f && f->type == WORLD_FIELD_TEXT)
        replace_text(world_spec_text_at(s, f), text);
    else
        assert(!"the field is not a text");
    s->set |= field;
}

void world_spec_number(struct world_spec *s, unsigned field, double value)
{
    const struct world_field *f = world_field_find(field);

    assert(f && f->type != WORLD_FIELD_TEXT);
    *world_spec_number_at(s, f) = value;
    s->set |= field;
}

void world_spec_kind(struct world_spec *s, enum world_kind kind)
{
    s->kind = kind;
    s->set |= WORLD_SET_KIND;
}

void world_spec_commit(struct world_spec *s, const char *param, const char *value)
{
    size_t at = 0;

    while (at < s->n_commitments && strcmp(s->commitments[at].param, param) < 0)
        at++;
    if (at < s->n_commitments && strcmp(s->commitments[at].param, param) == 0) {
        replace_text(&s->commitments[at].value, value);
        return;
    }
    s->commitments =
        xgrow(s->commitments, &s->cap_commitments, s->n_commitments + 1, sizeof(*s->commitments));
    memmove(&s->commitments[at + 1], &s->commitments[at],
            (s->n_commitments - at) * sizeof(*s->commitments));
    s->commitments[at].param = xstrdup(param);
    s->commitments[at].value = xstrdup(value);
    s->n_commitments++;
}

void world_spec_graft(struct world_spec *s, const char *search, const char *insight,
                      double similarity, bool discounted)
{
    replace_text(&s->graft.search, search);
    replace_text(&s->graft.insight, insight);
    s->graft.similarity = similarity;
    s->graft.discounted = discounted;
    s->set |= WORLD_SET_GRAFT;
}

/* A reason may quote a compiler: it is made UTF-8 and cut, since the operation must not fail. */
static char *clean_reason(const char *text)
{
    char out[WORLD_REASON_MAX + 1];

    return xstrdup(str_visible(text, strlen(text), out, sizeof(out)));
}

void world_edit_abandon(struct world_edit *e, const char *node, const char *reason)
{
    world_edit_add(e, WORLD_OP_ABANDON, node)->reason = clean_reason(reason);
}

void world_edit_attach(struct world_edit *e, const char *node, const char *program,
                       const char *assignment, const char *status, int64_t objective_q,
                       int64_t sd_q, uint64_t evaluation)
{
    struct world_op *op = world_edit_add(e, WORLD_OP_ATTACH, node);

    op->solution = (struct world_solution){ .program = xstrdup(program),
                                            .assignment = xstrdup(assignment),
                                            .status = xstrdup(status),
                                            .objective_q = objective_q,
                                            .sd_q = sd_q,
                                            .evaluation = evaluation };
}

void world_edit_attempt(struct world_edit *e, const char *node, const char *status)
{
    world_edit_add(e, WORLD_OP_ATTEMPT, node)->status = xstrdup(status);
}

void world_edit_fail_cycle(struct world_edit *e, const char *node, uint32_t limit,
                           const char *reason)
{
    struct world_op *op = world_edit_add(e, WORLD_OP_FAIL_CYCLE, node);

    op->limit = limit;
    op->reason = clean_reason(reason);
}
