/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON schema of a planner's answer; see plan_answer.h. */
#include <assert.h>
#include <stdio.h>

#include "search/plan_impl.h"
#include "search/world_priv.h"

static json_t *type_of(const char *type, bool may_be_null, const char *help)
{
    json_t *j = may_be_null ? json_pack("{s:[s, s]}", "type", type, "null")
                            : json_pack("{s:s}", "type", type);

    if (help)
        json_object_set_new(j, "description", json_string(help));
    return j;
}

/* An object with exactly these members; takes `properties`. */
static json_t *object_of(json_t *properties)
{
    json_t *required = json_array(), *v;
    const char *key;

    json_object_foreach (properties, key, v)
        json_array_append_new(required, json_string(key));
    return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required",
                     required, "additionalProperties", 0);
}

static json_t *list_of(json_t *items)
{
    return json_pack("{s:s, s:o}", "type", "array", "items", items);
}

/* The properties of a node, or of its action, that the world model's table has. */
static void add_fields(json_t *properties, bool in_action)
{
    for (const struct world_field *f = world_fields; f->name; f++) {
        char help[64] = "";

        if (f->in_action != in_action || f->bit == WORLD_SET_EXPECTED)
            continue;
        if (f->type != WORLD_FIELD_TEXT)
            snprintf(help, sizeof(help), "from %g to %g", f->min, f->max);
        else
            snprintf(help, sizeof(help), "at most %zu bytes", f->text_max);
        json_object_set_new(properties, f->name,
                            type_of(f->type == WORLD_FIELD_TEXT  ? "string"
                                    : f->type == WORLD_FIELD_INT ? "integer"
                                                                 : "number",
                                    true, help));
    }
}

static json_t *action_schema(void)
{
    json_t *properties = json_object(), *action;

    add_fields(properties, true);
    json_object_set_new(properties, "expected_vs_baseline_factor",
                        type_of("number", true, "expected speed as a multiple of the baseline's"));
    json_object_set_new(properties, "expected_sd",
                        type_of("number", true, "standard deviation of its natural logarithm"));
    action = object_of(properties);
    json_object_set_new(action, "type", json_pack("[s, s]", "object", "null"));
    return action;
}

static json_t *node_schema(bool is_new)
{
    json_t *properties = json_object();

    if (is_new) {
        json_object_set_new(properties, "node_id", type_of("string", true, "null: one is given"));
        json_object_set_new(properties, "kind",
                            json_pack("{s:s, s:[s, s]}", "type", "string", "enum",
                                      world_kind_name(WORLD_DECISION),
                                      world_kind_name(WORLD_LEAF)));
        json_object_set_new(
            properties, "commitments",
            list_of(object_of(json_pack("{s:o, s:o}", "param", type_of("string", false, NULL),
                                        "value", type_of("string", false, NULL)))));
    }
    add_fields(properties, false);
    json_object_set_new(properties, "action", action_schema());
    return object_of(properties);
}

/* One operation; `target` is the name of its node, `more` (taken) its other members. */
static json_t *op_schema(const char *name, const char *target, json_t *more)
{
    json_t *properties = json_pack("{s:{s:s, s:[s]}, s:o}", "op", "type", "string", "enum", name,
                                   target, type_of("string", false, NULL));

    json_object_update(properties, more);
    json_decref(more);
    return object_of(properties);
}

static json_t *ops_schema(const struct plan_kind *kind)
{
    json_t *any = json_array(), *patch;

    json_array_append_new(
        any, op_schema("insert_node", "parent_id",
                       json_pack("{s:o, s:o}", "parent_solution_id",
                                 type_of("string", true, "program attached to the parent, or null"),
                                 "node", node_schema(true))));
    if (!kind->seeds) {
        patch = node_schema(false);
        json_object_set_new(patch, "type", json_pack("[s, s]", "object", "null"));
        json_array_append_new(any, op_schema("update_node", "node_id",
                                             json_pack("{s:o}", "patch", node_schema(false))));
        json_array_append_new(any, op_schema("split_node", "node_id",
                                             json_pack("{s:o, s:o}", "parent_patch", patch,
                                                       "children", list_of(node_schema(true)))));
        json_array_append_new(
            any, op_schema("abandon_node", "node_id",
                           json_pack("{s:o}", "reason", type_of("string", false, NULL))));
    }
    return list_of(json_pack("{s:o}", "anyOf", any));
}

static json_t *insights_schema(void)
{
    json_t *properties = json_object();

    for (size_t i = 0; i < PLAN_INSIGHT_MEMBERS; i++)
        json_object_set_new(properties, plan_insight_members[i],
                            type_of("string", i >= PLAN_INSIGHT_REQUIRED, NULL));
    return list_of(object_of(properties));
}

static json_t *member_schema(const struct plan_kind *kind, unsigned bit)
{
    switch (bit) {
    case PLAN_HAS_SUMMARY:
        return type_of("string", false, "what the kernel computes and what bounds it");
    case PLAN_HAS_QUESTIONS:
        return list_of(type_of("string", false, NULL));
    case PLAN_HAS_OPS:
        return ops_schema(kind);
    case PLAN_HAS_INSIGHTS:
        return insights_schema();
    }
    assert(false);
    return NULL;
}

json_t *plan_answer_schema(enum call_kind kind, const char **name)
{
    const struct plan_kind *row = plan_kind_find(kind);
    json_t *properties = json_object();

    assert(row != NULL); /* only planners' calls have plans */
    for (size_t i = 0; i < PLAN_MEMBERS; i++)
        if (row->members & plan_members[i].bit)
            json_object_set_new(properties, plan_members[i].name,
                                member_schema(row, plan_members[i].bit));
    *name = row->name;
    return object_of(properties);
}
