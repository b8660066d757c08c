/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits from and to JSON: the operations by name. One parser serves the stored form and a model's
 * answer; the latter is not trusted with what the system owns.
 */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/world_ops.h"
#include "search/world_parse.h"
#include "search/world_priv.h"

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

static void check_keys(struct world_parser *p, const struct op_name *n, json_t *v)
{
    const char *key;
    json_t *field;

    json_object_foreach (v, key, field) {
        bool known = strcmp(key, "op") == 0 || strcmp(key, n->target) == 0;

        for (size_t i = 0; i < ARRAY_LEN(n->keys) && n->keys[i]; i++)
            known = known || strcmp(key, n->keys[i]) == 0;
        if (!known)
            world_parse_refuse_key(p, n->name, key);
    }
}

static void read_children(struct world_parser *p, json_t *list, struct world_op *op)
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
        world_parse_spec(p, "a child", child, true, world_op_child(op));
}

static char *optional_text(struct world_parser *p, const json_t *v, const char *key)
{
    const json_t *text = json_object_get(v, key);

    if (text && !json_is_string(text) && !json_is_null(text))
        world_report_issue(p->report, p->op, "'%s' must be a text", key);
    return json_is_string(text) ? xstrdup(json_string_value(text)) : NULL;
}

static void read_solution(struct world_parser *p, const json_t *v, struct world_op *op)
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

static void read_op_body(struct world_parser *p, json_t *v, struct world_op *op)
{
    json_t *patch = json_object_get(v, op->kind == WORLD_OP_SPLIT ? "parent_patch" : "patch");
    json_t *parent_program = json_object_get(v, "parent_solution_id");

    switch (op->kind) {
    case WORLD_OP_INSERT:
        world_parse_spec(p, "the node", json_object_get(v, "node"), true, &op->spec);
        if (parent_program)
            world_parse_string(p, "parent_solution_id", parent_program, WORLD_SET_PARENT_PROGRAM,
                               &op->spec);
        break;
    case WORLD_OP_SPLIT:
        read_children(p, json_object_get(v, "children"), op);
        if (patch == NULL)
            break;
        /* fall through */
    case WORLD_OP_UPDATE:
        world_parse_spec(p, "the patch", patch, false, &op->spec);
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

static void read_op(struct world_parser *p, json_t *v, struct world_edit *e)
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

static void read_ops(struct world_parser *p, json_t *ops, struct world_edit *e)
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

static int parse_result(struct world_parser *p, struct world_edit *e, struct world_edit *out,
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
    struct world_parser p = { .mode = mode, .op = SIZE_MAX, .report = report };
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
            world_parse_refuse_key(&p, "the edit", key);
    }
    read_ops(&p, json_object_get(answer, "ops"), &e);
    return parse_result(&p, &e, out, err);
}

static const char *const actor_names[WORLD_ACTOR_COUNT] = { "system", "builtin", "model" };

int world_edit_from_json(const json_t *j, struct world_edit *out, struct err *err)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    struct world_parser p = { .mode = WORLD_PARSE_STRICT, .trusted = true, .report = &report };
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
            json_object_set_new(into, f->name, json_string(*world_spec_text_at(s, f)));
        else if (f->type == WORLD_FIELD_INT)
            json_object_set_new(into, f->name,
                                json_integer((json_int_t)*world_spec_number_at(s, f)));
        else
            json_object_set_new(into, f->name, json_real(*world_spec_number_at(s, f)));
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
