/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits as values: building, releasing, and their translation from and to JSON; see world_ops.h.
 * One parser serves the stored form and a model's answer; the latter is not trusted with what the
 * system owns. What an edit means for a tree is world_ops.c's business.
 */
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
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

static char **text_at(struct world_spec *s, const struct world_field *f)
{
    return (char **)((char *)s + f->offset);
}

static double *number_at(struct world_spec *s, const struct world_field *f)
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
            free(*text_at(s, f));
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
        replace_text(text_at(s, f), text);
    else
        assert(!"the field is not a text");
    s->set |= field;
}

void world_spec_number(struct world_spec *s, unsigned field, double value)
{
    const struct world_field *f = world_field_find(field);

    assert(f && f->type != WORLD_FIELD_TEXT);
    *number_at(s, f) = value;
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

/* ---- Parsing ---- */

struct parser {
    enum world_parse mode;
    bool trusted; /* the stored form */
    size_t op;    /* index, for issues */
    struct world_report *report;
};

/* What prompts and earlier designs call the things that only the system writes. */
static const char *const system_owned[] = { "solution_ref",
                                            "solution_id",
                                            "solution",
                                            "eval",
                                            "evidence",
                                            "evaluation",
                                            "program",
                                            "objective_q",
                                            "status",
                                            "state",
                                            "attempts",
                                            "failures",
                                            "graft",
                                            "node_type",
                                            "created_round",
                                            "failed_cycles",
                                            "updated_round",
                                            "last_updated_round",
                                            NULL };

static void refuse_key(struct parser *p, const char *where, const char *key)
{
    char seen[120];

    str_visible(key, strlen(key), seen, sizeof(seen));
    for (const char *const *s = system_owned; *s; s++) {
        if (strcmp(*s, key) == 0) {
            world_report_issue(p->report, p->op, "'%s' in %s is written by the system only", seen,
                               where);
            return;
        }
    }
    world_report_issue(p->report, p->op, "%s has the unknown field '%s'", where, seen);
}

/* "0.8", "8/10", "70%", "1.2x": a number as models write it, on the field's own scale. */
static bool number_from_text(const char *text, const struct world_field *f, double *out)
{
    char copy[64], *end;
    double v;

    while (*text == ' ')
        text++;
    if (!str_copy(copy, sizeof(copy), text) || copy[0] == '\0')
        return false;
    v = strtod(copy, &end);
    if (end == copy || !isfinite(v))
        return false;
    if (*end == '/') {
        double whole = strtod(end + 1, &end);

        if (!(whole > 0) || f->max <= 0)
            return false;
        v = v / whole * f->max;
    } else if (*end == '%') {
        v = v / 100 * f->max;
        end++;
    } else if (*end == 'x' || *end == 'X') {
        end++;
    }
    while (*end == ' ')
        end++;
    *out = v;
    return *end == '\0';
}

/* A share written as "7 of 10" or as a percentage, then the nearest value in range. */
static double number_in_range(double v, const struct world_field *f)
{
    if (f->max == 1 && v >= 2 && v <= 10)
        v /= 10;
    else if (f->max == 1 && v > 10 && v <= 100)
        v /= 100;
    else if (f->max == 10 && f->type == WORLD_FIELD_REAL && v > 10 && v <= 100)
        v /= 10;
    if (f->type == WORLD_FIELD_INT)
        v = trunc(v);
    return v < f->min ? f->min : v > f->max ? f->max : v;
}

static bool read_number(struct parser *p, const json_t *v, const struct world_field *f, double *out)
{
    double read = 0;
    char *text;

    if (json_is_number(v)) {
        read = json_number_value(v);
        if (read >= f->min && read <= f->max &&
            (f->type != WORLD_FIELD_INT || read == trunc(read))) {
            *out = read;
            return true;
        }
    } else if (p->mode == WORLD_PARSE_LENIENT && json_is_null(v)) {
        return false;
    }
    text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (p->mode == WORLD_PARSE_STRICT) {
        world_report_issue(p->report, p->op, "'%s' is %.80s; it must be %s from %g to %g", f->name,
                           text ? text : "?",
                           f->type == WORLD_FIELD_INT ? "an integer" : "a number", f->min, f->max);
        free(text);
        return false;
    }
    if (!json_is_number(v) &&
        !(json_is_string(v) && number_from_text(json_string_value(v), f, &read))) {
        world_report_repair(p->report, p->op, "'%s' is %.80s; the default was taken", f->name,
                            text ? text : "?");
        free(text);
        return false;
    }
    *out = number_in_range(read, f);
    if (!json_is_number(v) || *out != read)
        world_report_repair(p->report, p->op, "'%s' is %.80s; it was read as %g", f->name,
                            text ? text : "?", *out);
    free(text);
    return true;
}

static void read_text(struct parser *p, const json_t *v, const struct world_field *f,
                      struct world_spec *s)
{
    CLEANUP(freep) char *dumped = NULL;

    if (json_is_string(v)) {
        world_spec_text(s, f->bit, json_string_value(v));
    } else if (f->bit == WORLD_SET_IMPACTS && json_is_object(v)) {
        dumped = jsonx_canonical(v);
        world_spec_text(s, f->bit, dumped);
    } else if (!(json_is_null(v) && !p->trusted)) {
        world_report_issue(p->report, p->op, "'%s' must be a text", f->name);
    }
}

/* The names of another scale for what the table has: a factor over the baseline, difficulty 0..3.
 */
static bool read_alias(struct parser *p, const char *key, const json_t *v, struct world_spec *s)
{
    static const struct world_field factor = {
        WORLD_SET_EXPECTED, "expected_vs_baseline_factor", true, WORLD_FIELD_REAL, 0, 0, 1e-6, 1e6
    };
    static const struct world_field legacy = {
        WORLD_SET_DIFFICULTY, "difficulty_0_to_3", true, WORLD_FIELD_INT, 0, 0, 0, 3
    };
    double read;

    if (strcmp(key, factor.name) == 0) {
        if (!json_is_null(v) && read_number(p, v, &factor, &read))
            world_spec_number(s, WORLD_SET_EXPECTED, log(read));
        return true;
    }
    if (p->mode == WORLD_PARSE_LENIENT && strcmp(key, legacy.name) == 0) {
        if (!(s->set & WORLD_SET_DIFFICULTY) && read_number(p, v, &legacy, &read))
            world_spec_number(s, WORLD_SET_DIFFICULTY, read + 1);
        return true;
    }
    return false;
}

static bool read_field(struct parser *p, bool in_action, const char *key, const json_t *v,
                       struct world_spec *s)
{
    double number;

    for (const struct world_field *f = world_fields; f->name; f++) {
        if (f->in_action != in_action || strcmp(f->name, key) != 0)
            continue;
        if (f->type == WORLD_FIELD_TEXT)
            read_text(p, v, f, s);
        else if (read_number(p, v, f, &number))
            world_spec_number(s, f->bit, number);
        return true;
    }
    return in_action && !p->trusted && read_alias(p, key, v, s);
}

static void read_action(struct parser *p, json_t *v, struct world_spec *s)
{
    const char *key;
    json_t *field;

    if (!json_is_object(v)) {
        if (!json_is_null(v) || p->trusted)
            world_report_issue(p->report, p->op, "'action' must be an object");
        return;
    }
    json_object_foreach (v, key, field) {
        if (!read_field(p, true, key, field, s))
            refuse_key(p, "the action", key);
    }
}

static void read_commitments(struct parser *p, json_t *v, struct world_spec *s)
{
    const char *key;
    json_t *field;

    if (!json_is_object(v)) {
        world_report_issue(p->report, p->op, "'commitments' must be an object of texts");
        return;
    }
    if (json_object_size(v) > WORLD_COMMITMENTS_MAX) {
        world_report_issue(p->report, p->op, "%zu commitments; at most %d are allowed",
                           json_object_size(v), WORLD_COMMITMENTS_MAX);
        return;
    }
    json_object_foreach (v, key, field) {
        if (json_is_string(field))
            world_spec_commit(s, key, json_string_value(field));
        else
            world_report_issue(p->report, p->op, "commitment '%.80s' must be a text", key);
    }
}

static void read_graft(struct parser *p, const json_t *v, struct world_spec *s)
{
    const char *search = jsonx_str(v, "search", NULL), *insight = jsonx_str(v, "insight", NULL);
    double similarity = jsonx_num(v, "similarity", NAN);

    if (!search || !insight || isnan(similarity))
        world_report_issue(p->report, p->op, "'graft' must hold search, insight and similarity");
    else
        world_spec_graft(s, search, insight, similarity, jsonx_bool(v, "discounted", 0));
}

static void read_kind(struct parser *p, const json_t *v, struct world_spec *s)
{
    for (int k = WORLD_DECISION; k < WORLD_KIND_COUNT; k++) {
        if (json_is_string(v) && strcmp(json_string_value(v), world_kind_name(k)) == 0) {
            world_spec_kind(s, k);
            return;
        }
    }
    world_report_issue(p->report, p->op, "'kind' must be 'decision' or 'leaf'");
}

static void read_string(struct parser *p, const char *key, const json_t *v, unsigned bit,
                        struct world_spec *s)
{
    if (json_is_string(v))
        world_spec_text(s, bit, json_string_value(v));
    else if (!json_is_null(v) || p->trusted)
        world_report_issue(p->report, p->op, "'%s' must be a text", key);
}

/* A node to insert (`is_new`) or a patch. */
static void read_spec(struct parser *p, const char *where, json_t *v, bool is_new,
                      struct world_spec *s)
{
    const char *key;
    json_t *field;

    if (!json_is_object(v)) {
        world_report_issue(p->report, p->op, "%s must be an object", where);
        return;
    }
    json_object_foreach (v, key, field) {
        if (strcmp(key, "action") == 0)
            read_action(p, field, s);
        else if (is_new && strcmp(key, "node_id") == 0)
            read_string(p, key, field, WORLD_SET_ID, s);
        else if (is_new && strcmp(key, "parent_solution_id") == 0)
            read_string(p, key, field, WORLD_SET_PARENT_PROGRAM, s);
        else if (is_new && strcmp(key, "commitments") == 0)
            read_commitments(p, field, s);
        else if (is_new && strcmp(key, "kind") == 0)
            read_kind(p, field, s);
        else if (is_new && p->trusted && strcmp(key, "graft") == 0)
            read_graft(p, field, s);
        else if (!read_field(p, false, key, field, s))
            refuse_key(p, where, key);
    }
}

/* The operations by name, and the keys each may have besides "op". */
static const struct op_name {
    const char *name;
    enum world_op_kind kind;
    bool trusted; /* only in the stored form */
    const char *target;
    const char *keys[8];
} op_names[] = {
    { "insert_node", WORLD_OP_INSERT, false, "parent_id", { "node", "parent_solution_id" } },
    { "update_node", WORLD_OP_UPDATE, false, "node_id", { "patch" } },
    { "split_node", WORLD_OP_SPLIT, false, "node_id", { "parent_patch", "children" } },
    { "abandon_node", WORLD_OP_ABANDON, false, "node_id", { "reason" } },
    { "delete_node", WORLD_OP_ABANDON, false, "node_id", { "reason" } },
    { "attach_solution",
      WORLD_OP_ATTACH,
      true,
      "node_id",
      { "program", "assignment", "status", "objective_q", "sd_q", "evaluation" } },
    { "count_attempt", WORLD_OP_ATTEMPT, true, "node_id", { "status" } },
    { "fail_cycle", WORLD_OP_FAIL_CYCLE, true, "node_id", { "limit", "reason", "status" } },
};

static void check_keys(struct parser *p, const struct op_name *n, json_t *v)
{
    const char *key;
    json_t *field;

    json_object_foreach (v, key, field) {
        bool known = strcmp(key, "op") == 0 || strcmp(key, n->target) == 0;

        for (size_t i = 0; i < ARRAY_LEN(n->keys) && n->keys[i]; i++)
            known = known || strcmp(key, n->keys[i]) == 0;
        if (!known)
            refuse_key(p, n->name, key);
    }
}

static void read_children(struct parser *p, json_t *list, struct world_op *op)
{
    size_t i;
    json_t *child;

    if (!json_is_array(list)) {
        world_report_issue(p->report, p->op, "'children' must be a list");
        return;
    }
    if (json_array_size(list) > WORLD_SPLIT_MAX) {
        world_report_issue(p->report, p->op, "%zu children; a split may have at most %d",
                           json_array_size(list), WORLD_SPLIT_MAX);
        return;
    }
    json_array_foreach (list, i, child)
        read_spec(p, "a child", child, true, world_op_child(op));
}

static char *optional_text(struct parser *p, const json_t *v, const char *key)
{
    const json_t *text = json_object_get(v, key);

    if (text && !json_is_string(text) && !json_is_null(text))
        world_report_issue(p->report, p->op, "'%s' must be a text", key);
    return json_is_string(text) ? xstrdup(json_string_value(text)) : NULL;
}

static void read_solution(struct parser *p, const json_t *v, struct world_op *op)
{
    struct world_solution *s = &op->solution;
    const json_t *assignment = json_object_get(v, "assignment");

    s->program = optional_text(p, v, "program");
    s->status = optional_text(p, v, "status");
    s->assignment = json_is_object(assignment) ? jsonx_canonical(assignment) : NULL;
    s->objective_q = jsonx_int(v, "objective_q", INT64_MIN);
    s->sd_q = jsonx_int(v, "sd_q", -1);
    s->evaluation = (uint64_t)jsonx_int(v, "evaluation", 0);
    if (!s->program || !s->status || !s->assignment)
        world_report_issue(p->report, p->op,
                           "attach_solution needs program, assignment and status");
}

static void read_op_body(struct parser *p, json_t *v, struct world_op *op)
{
    json_t *patch = json_object_get(v, op->kind == WORLD_OP_SPLIT ? "parent_patch" : "patch");
    json_t *parent_program = json_object_get(v, "parent_solution_id");

    switch (op->kind) {
    case WORLD_OP_INSERT:
        read_spec(p, "the node", json_object_get(v, "node"), true, &op->spec);
        if (parent_program)
            read_string(p, "parent_solution_id", parent_program, WORLD_SET_PARENT_PROGRAM,
                        &op->spec);
        break;
    case WORLD_OP_SPLIT:
        read_children(p, json_object_get(v, "children"), op);
        if (patch == NULL)
            break;
        /* fall through */
    case WORLD_OP_UPDATE:
        read_spec(p, "the patch", patch, false, &op->spec);
        break;
    case WORLD_OP_ABANDON:
        op->reason = optional_text(p, v, "reason");
        if (op->reason == NULL)
            op->reason = xstrdup("deleted without a reason");
        break;
    case WORLD_OP_ATTACH:
        read_solution(p, v, op);
        break;
    case WORLD_OP_ATTEMPT:
    case WORLD_OP_FAIL_CYCLE:
        op->status = optional_text(p, v, "status");
        op->reason = optional_text(p, v, "reason");
        op->limit = (uint32_t)jsonx_int(v, "limit", 0);
        break;
    case WORLD_OP_COUNT:
        break;
    }
}

static void read_op(struct parser *p, json_t *v, struct world_edit *e)
{
    const char *name = jsonx_str(v, "op", NULL);
    const struct op_name *row = NULL;
    const char *target;
    char seen[80];

    for (size_t i = 0; name && i < ARRAY_LEN(op_names); i++) {
        if (strcmp(op_names[i].name, name) == 0 && (p->trusted || !op_names[i].trusted))
            row = &op_names[i];
    }
    if (row == NULL) {
        world_report_issue(
            p->report, p->op,
            "'%s' is no operation; allowed are insert_node, update_node, split_node, delete_node "
            "and abandon_node",
            name ? str_visible(name, strlen(name), seen, sizeof(seen)) : "(no 'op')");
        return;
    }
    target = jsonx_str(v, row->target, NULL);
    if (target == NULL) {
        world_report_issue(p->report, p->op, "%s needs the text '%s'", row->name, row->target);
        return;
    }
    check_keys(p, row, v);
    read_op_body(p, v, world_edit_add(e, row->kind, target));
}

static void read_ops(struct parser *p, json_t *ops, struct world_edit *e)
{
    size_t i;
    json_t *v;

    p->op = SIZE_MAX;
    if (!json_is_array(ops)) {
        world_report_issue(p->report, p->op, "an edit needs the list 'ops'");
        return;
    }
    if (json_array_size(ops) > WORLD_EDIT_OPS_MAX) {
        world_report_issue(p->report, p->op, "%zu operations; at most %d are allowed",
                           json_array_size(ops), WORLD_EDIT_OPS_MAX);
        return;
    }
    json_array_foreach (ops, i, v) {
        p->op = i;
        if (json_is_object(v))
            read_op(p, v, e);
        else
            world_report_issue(p->report, p->op, "an operation must be an object");
    }
}

static int parse_result(struct parser *p, struct world_edit *e, struct world_edit *out,
                        struct err *err)
{
    const struct world_report *r = p->report;

    if (r->n_issues == 0) {
        *out = *e;
        return 0;
    }
    err_set(err, ERR_INVALID, "the edit has %zu error%s; the first: %s", r->n_issues,
            r->n_issues == 1 ? "" : "s", r->issues[0].text);
    world_edit_release(e);
    return -1;
}

int world_edit_from_model(const json_t *answer, enum world_parse mode, const char *cause,
                          uint64_t round, struct world_edit *out, struct world_report *report,
                          struct err *err)
{
    struct parser p = { .mode = mode, .op = SIZE_MAX, .report = report };
    struct world_edit e;
    const char *key;
    json_t *field;

    if (!json_is_object(answer))
        return err_set(err, ERR_INVALID, "the answer is not a JSON object");
    world_edit_init(&e, WORLD_BY_MODEL, cause, round);
    json_object_foreach ((json_t *)answer, key, field) {
        /* Which node is being worked on is the system's decision; models like to say it anyway. */
        if (strcmp(key, "active_leaf_id") == 0)
            world_report_repair(report, SIZE_MAX,
                                "'active_leaf_id' is written by the system only; ignored");
        else if (strcmp(key, "ops") != 0)
            refuse_key(&p, "the edit", key);
    }
    read_ops(&p, json_object_get(answer, "ops"), &e);
    return parse_result(&p, &e, out, err);
}

static const char *const actor_names[WORLD_ACTOR_COUNT] = { "system", "builtin", "model" };

int world_edit_from_json(const json_t *j, struct world_edit *out, struct err *err)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    struct parser p = { .mode = WORLD_PARSE_STRICT, .trusted = true, .report = &report };
    const char *actor = jsonx_str(j, "actor", ""), *cause = jsonx_str(j, "cause", NULL);
    long long round = jsonx_int(j, "round", -1), max_new = jsonx_int(j, "max_new", -1);
    struct world_edit e;
    int a = 0;

    while (a < WORLD_ACTOR_COUNT && strcmp(actor_names[a], actor) != 0)
        a++;
    if (a == WORLD_ACTOR_COUNT || !cause || round < 0 || max_new < 0 || max_new > UINT32_MAX ||
        json_object_size(j) != 5)
        return err_set(err, ERR_INVALID,
                       "a stored edit needs exactly actor, cause, round, max_new and ops");
    world_edit_init(&e, a, cause, (uint64_t)round);
    e.max_new = (uint32_t)max_new;
    read_ops(&p, json_object_get(j, "ops"), &e);
    return parse_result(&p, &e, out, err);
}

/* ---- Printing ---- */

static json_t *spec_to_json(const struct world_spec *spec)
{
    struct world_spec *s = (struct world_spec *)spec; /* only to share the accessors */
    json_t *j = json_object(), *action = json_object(), *own;

    for (const struct world_field *f = world_fields; f->name; f++) {
        json_t *into = f->in_action ? action : j;

        if (!(s->set & f->bit))
            continue;
        if (f->type == WORLD_FIELD_TEXT)
            json_object_set_new(into, f->name, json_string(*text_at(s, f)));
        else if (f->type == WORLD_FIELD_INT)
            json_object_set_new(into, f->name, json_integer((json_int_t)*number_at(s, f)));
        else
            json_object_set_new(into, f->name, json_real(*number_at(s, f)));
    }
    if (json_object_size(action))
        json_object_set(j, "action", action);
    json_decref(action);
    if (s->set & WORLD_SET_ID)
        json_object_set_new(j, "node_id", json_string(s->id));
    if (s->set & WORLD_SET_PARENT_PROGRAM)
        json_object_set_new(j, "parent_solution_id", json_string(s->parent_program));
    if (s->set & WORLD_SET_KIND)
        json_object_set_new(j, "kind", json_string(world_kind_name(s->kind)));
    if (s->set & WORLD_SET_GRAFT)
        json_object_set_new(j, "graft",
                            json_pack("{s:s, s:s, s:f, s:b}", "search", s->graft.search, "insight",
                                      s->graft.insight, "similarity", s->graft.similarity,
                                      "discounted", s->graft.discounted));
    if (s->n_commitments) {
        own = json_object();
        for (size_t i = 0; i < s->n_commitments; i++)
            json_object_set_new(own, s->commitments[i].param, json_string(s->commitments[i].value));
        json_object_set_new(j, "commitments", own);
    }
    return j;
}

static void set_text(json_t *j, const char *key, const char *text)
{
    if (text)
        json_object_set_new(j, key, json_string(text));
}

static void solution_to_json(const struct world_solution *s, json_t *j)
{
    set_text(j, "program", s->program);
    set_text(j, "status", s->status);
    json_object_set_new(j, "assignment", json_loads(s->assignment, 0, NULL));
    json_object_set_new(j, "objective_q", json_integer(s->objective_q));
    json_object_set_new(j, "sd_q", json_integer(s->sd_q));
    json_object_set_new(j, "evaluation", json_integer((json_int_t)s->evaluation));
}

static json_t *op_to_json(const struct world_op *op)
{
    const struct op_name *row = op_names;
    json_t *j, *children;

    while (row->kind != op->kind)
        row++;
    j = json_pack("{s:s, s:s}", "op", row->name, row->target, op->node);
    switch (op->kind) {
    case WORLD_OP_INSERT:
        json_object_set_new(j, "node", spec_to_json(&op->spec));
        break;
    case WORLD_OP_UPDATE:
        json_object_set_new(j, "patch", spec_to_json(&op->spec));
        break;
    case WORLD_OP_SPLIT:
        json_object_set_new(j, "parent_patch", spec_to_json(&op->spec));
        children = json_array();
        for (size_t i = 0; i < op->n_children; i++)
            json_array_append_new(children, spec_to_json(&op->children[i]));
        json_object_set_new(j, "children", children);
        break;
    case WORLD_OP_ABANDON:
        set_text(j, "reason", op->reason);
        break;
    case WORLD_OP_ATTACH:
        solution_to_json(&op->solution, j);
        break;
    case WORLD_OP_ATTEMPT:
        set_text(j, "status", op->status);
        break;
    case WORLD_OP_FAIL_CYCLE:
        set_text(j, "status", op->status);
        set_text(j, "reason", op->reason);
        json_object_set_new(j, "limit", json_integer(op->limit));
        break;
    case WORLD_OP_COUNT:
        break;
    }
    return j;
}

json_t *world_edit_to_json(const struct world_edit *e)
{
    json_t *ops = json_array();

    for (size_t i = 0; i < e->n_ops; i++)
        json_array_append_new(ops, op_to_json(&e->ops[i]));
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "actor", actor_names[e->actor], "cause", e->cause,
                     "round", (json_int_t)e->round, "max_new", (json_int_t)e->max_new, "ops", ops);
}

/* ---- Reports ---- */

static void add_issue(struct world_issue **list, size_t *n, size_t *cap, size_t op, char *text)
{
    *list = xgrow(*list, cap, *n + 1, sizeof(**list));
    (*list)[(*n)++] = (struct world_issue){ op, text };
}

static char *format_text(const char *fmt, va_list ap)
{
    char *text = NULL;

    if (vasprintf(&text, fmt, ap) < 0)
        abort(); /* as xmalloc does */
    return text;
}

void world_report_issue(struct world_report *r, size_t op, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_issue(&r->issues, &r->n_issues, &r->cap_issues, op, format_text(fmt, ap));
    va_end(ap);
}

void world_report_repair(struct world_report *r, size_t op, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_issue(&r->repairs, &r->n_repairs, &r->cap_repairs, op, format_text(fmt, ap));
    va_end(ap);
}

void world_report_release(struct world_report *r)
{
    for (size_t i = 0; i < r->n_issues; i++)
        free(r->issues[i].text);
    for (size_t i = 0; i < r->n_repairs; i++)
        free(r->repairs[i].text);
    free(r->issues);
    free(r->repairs);
    free(r->inserted);
    memset(r, 0, sizeof(*r));
}

int world_report_text(const struct world_report *r, struct buf *out, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < r->n_issues; i++) {
        if (r->issues[i].op == SIZE_MAX)
            rc |= buf_addf(out, "the edit: %s\n", r->issues[i].text);
        else
            rc |= buf_addf(out, "operation %zu: %s\n", r->issues[i].op + 1, r->issues[i].text);
    }
    if (rc != 0)
        return err_set(err, ERR_LIMIT, "the edit's %zu errors are more than the %zu bytes allowed",
                       r->n_issues, out->max);
    return 0;
}

static json_t *issues_to_json(const struct world_issue *list, size_t n)
{
    json_t *out = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            out, json_pack("{s:I, s:s}", "op",
                           list[i].op == SIZE_MAX ? (json_int_t)-1 : (json_int_t)list[i].op, "text",
                           list[i].text));
    return out;
}

json_t *world_report_to_json(const struct world_report *r, size_t n_ops)
{
    json_t *status = json_array();

    for (size_t op = 0; op < n_ops; op++) {
        bool ok = true;

        for (size_t i = 0; i < r->n_issues; i++)
            ok = ok && r->issues[i].op != op;
        json_array_append_new(status, json_string(ok ? "ok" : "refused"));
    }
    return json_pack(
        "{s:o, s:o, s:o, s:I}", "status", status, "issues", issues_to_json(r->issues, r->n_issues),
        "repairs", issues_to_json(r->repairs, r->n_repairs), "inserted", (json_int_t)r->n_inserted);
}
