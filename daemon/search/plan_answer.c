/* SPDX-License-Identifier: Apache-2.0 */
/* What a planner's answer holds, and how it is read; see plan_answer.h. */
#include "search/plan_impl.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/world_priv.h"

enum {
    ERRORS_MAX = 200, /* sentences that are told */
    QUESTION_MAX = 400
};

/* ---- What an answer holds ---- */

static const struct plan_kind kinds[] = {
    { CALL_INIT, "world_model_init", "init", PLAN_HAS_SUMMARY | PLAN_HAS_QUESTIONS | PLAN_HAS_OPS,
      true },
    { CALL_PROPOSE, "world_model_propose", "propose", PLAN_HAS_OPS, false },
    { CALL_REFINE, "world_model_refine", "refine", PLAN_HAS_OPS | PLAN_HAS_INSIGHTS, false },
    { CALL_TOO_HARD, "world_model_too_hard", "too_hard", PLAN_HAS_OPS, false },
};

const struct plan_kind *plan_kind_find(enum call_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].kind == kind)
            return &kinds[i];
    return NULL;
}

const struct plan_member plan_members[PLAN_MEMBERS] = {
    { PLAN_HAS_SUMMARY, "kernel_summary" },
    { PLAN_HAS_QUESTIONS, "open_questions" },
    { PLAN_HAS_OPS, "ops" },
    { PLAN_HAS_INSIGHTS, "insights" },
};

const char *const plan_insight_members[PLAN_INSIGHT_MEMBERS] = { "technique", "statement",
                                                                 "mechanism", "condition" };

/* An answer being read. */
struct reading {
    const struct plan_kind *kind;
    bool flat;
    struct plan_answer *out;
    json_t *errors; /* borrowed */
    size_t n, first;
};

static void refuse(struct reading *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void refuse(struct reading *r, const char *fmt, ...)
{
    CLEANUP(freep) char *text = NULL;
    va_list ap;

    if (r->n++ >= ERRORS_MAX)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort(); /* as xmalloc does */
    va_end(ap);
    json_array_append_new(r->errors, json_string(text));
}

/* ---- Summary, questions, insights ---- */

/* The text, cut between characters where it is too long. */
static char *text_within(struct reading *r, const char *what, const char *text, size_t max)
{
    char *copy = xstrdup(text);
    size_t n = strlen(copy);

    if (n <= max)
        return copy;
    for (n = max; n > 0 && ((unsigned char)copy[n] & 0xc0) == 0x80;)
        n--;
    copy[n] = '\0';
    json_array_append_new(r->out->repairs, json_sprintf("%s was cut at %zu bytes", what, n));
    return copy;
}

static void read_summary(struct reading *r, json_t *v)
{
    if (v && !json_is_string(v) && !json_is_null(v))
        refuse(r, "'kernel_summary' must be a text");
    if (!json_is_string(v))
        return;
    free(r->out->summary);
    r->out->summary = text_within(r, "'kernel_summary'", json_string_value(v), PLAN_SUMMARY_MAX);
}

/* The list `v`, at most `max` entries of it; NULL when there is none. */
static json_t *list_within(struct reading *r, const char *name, json_t *v, size_t max)
{
    if (v == NULL || json_is_null(v))
        return NULL;
    if (!json_is_array(v)) {
        refuse(r, "'%s' must be a list", name);
        return NULL;
    }
    if (json_array_size(v) > max)
        json_array_append_new(r->out->repairs,
                              json_sprintf("'%s' has %zu entries; the first %zu were taken", name,
                                           json_array_size(v), max));
    while (json_array_size(v) > max)
        json_array_remove(v, json_array_size(v) - 1);
    return v;
}

static void read_questions(struct reading *r, json_t *v)
{
    size_t i;
    json_t *q;

    v = list_within(r, "open_questions", v, PLAN_QUESTIONS_MAX);
    json_array_foreach (v, i, q) {
        CLEANUP(freep) char *text = NULL;

        if (!json_is_string(q)) {
            refuse(r, "open question %zu must be a text", i + 1);
            continue;
        }
        text = text_within(r, "an open question", json_string_value(q), QUESTION_MAX);
        json_array_append_new(r->out->questions, json_string(text));
    }
}

static bool is_insight_member(const char *key)
{
    for (size_t i = 0; i < PLAN_INSIGHT_MEMBERS; i++)
        if (strcmp(plan_insight_members[i], key) == 0)
            return true;
    return false;
}

static void read_insight(struct reading *r, size_t number, json_t *v)
{
    json_t *insight, *field;
    const char *key;
    size_t before = r->n;
    char seen[80];

    if (!json_is_object(v)) {
        refuse(r, "insight %zu must be an object", number);
        return;
    }
    insight = json_object();
    json_object_foreach (v, key, field) {
        if (!is_insight_member(key))
            refuse(r, "insight %zu has the unknown member '%s'", number,
                   str_visible(key, strlen(key), seen, sizeof(seen)));
        else if (json_is_string(field))
            json_object_set(insight, key, field);
        else if (!json_is_null(field))
            refuse(r, "'%s' of insight %zu must be a text", key, number);
    }
    for (size_t i = 0; i < PLAN_INSIGHT_REQUIRED; i++)
        if (json_object_get(insight, plan_insight_members[i]) == NULL && r->n == before)
            refuse(r, "insight %zu needs the text '%s'", number, plan_insight_members[i]);
    json_array_append_new(r->out->insights, insight);
}

static void read_insights(struct reading *r, json_t *v)
{
    size_t i;
    json_t *insight;

    v = list_within(r, "insights", v, PLAN_INSIGHTS_MAX);
    json_array_foreach (v, i, insight)
        read_insight(r, i + 1, insight);
}

/* ---- Operations ---- */

/* [{"param", "value"}] as a strict schema has it, to the object that the world model reads. */
static void fold_commitments(struct reading *r, size_t op, json_t *node)
{
    json_t *list = json_object_get(node, "commitments"), *object, *entry;
    size_t i;

    if (json_is_null(list))
        json_object_del(node, "commitments");
    if (!json_is_array(list))
        return;
    object = json_object();
    json_array_foreach (list, i, entry) {
        const char *param = jsonx_str(entry, "param", NULL);
        const char *value = jsonx_str(entry, "value", NULL);

        if (param == NULL || value == NULL || json_object_size(entry) != 2)
            refuse(r, "operation %zu: commitment %zu needs exactly the texts 'param' and 'value'",
                   op + 1, i + 1);
        else if (json_object_get(object, param))
            refuse(r, "operation %zu: commitment %zu gives the same parameter once more", op + 1,
                   i + 1);
        else
            json_object_set_new(object, param, json_string(value));
    }
    json_object_set_new(node, "commitments", object);
}

static void drop_null(json_t *object, const char *key)
{
    if (json_is_null(json_object_get(object, key)))
        json_object_del(object, key);
}

/* What a strict schema makes a model write, null for "nothing", to what the world model reads. */
static void fold_op(struct reading *r, size_t i, json_t *op)
{
    json_t *node = json_object_get(op, "node"), *children = json_object_get(op, "children"), *child;
    size_t k;

    drop_null(op, "parent_patch");
    drop_null(op, "parent_solution_id");
    drop_null(node, "kind");
    fold_commitments(r, i, node);
    json_array_foreach (children, k, child) {
        drop_null(child, "kind");
        fold_commitments(r, i, child);
    }
}

static void check_op(struct reading *r, size_t i, const json_t *op)
{
    const char *name = jsonx_str(op, "op", "");
    const char *under =
        jsonx_str(op, strcmp(name, "insert_node") == 0 ? "parent_id" : "node_id", "");
    bool inserts = strcmp(name, "insert_node") == 0, splits = strcmp(name, "split_node") == 0;

    if (r->kind->seeds && !inserts)
        refuse(r, "operation %zu: the first plan consists of insert_node alone", i + 1);
    if (r->flat && (inserts || splits) && strcmp(under, WORLD_ROOT_ID) != 0)
        refuse(r, "operation %zu: new nodes go under '%s' here, where each is a plan of its own",
               i + 1, WORLD_ROOT_ID);
}

static void copy_report(struct reading *r, const struct world_report *report)
{
    for (size_t i = 0; i < report->n_issues; i++) {
        const struct world_issue *issue = &report->issues[i];

        if (issue->op == SIZE_MAX)
            refuse(r, "%s", issue->text);
        else
            refuse(r, "operation %zu: %s", issue->op + 1, issue->text);
    }
    for (size_t i = 0; i < report->n_repairs; i++) {
        const struct world_issue *repair = &report->repairs[i];

        if (repair->op == SIZE_MAX)
            json_array_append_new(r->out->repairs, json_string(repair->text));
        else
            json_array_append_new(r->out->repairs,
                                  json_sprintf("operation %zu: %s", repair->op + 1, repair->text));
    }
}

static void read_ops(struct reading *r, json_t *ops, uint64_t round)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    json_auto_t *answer = json_object();
    struct err ignored;
    size_t i;
    json_t *op;

    if (ops == NULL) {
        refuse(r, "the answer needs the list 'ops'");
        return;
    }
    json_array_foreach (ops, i, op) {
        if (!json_is_object(op) || i >= WORLD_EDIT_OPS_MAX)
            continue; /* told below */
        fold_op(r, i, op);
        check_op(r, i, op);
    }
    if (r->kind->seeds && json_is_array(ops) && json_array_size(ops) == 0)
        refuse(r, "the first plan needs at least one insert_node");
    json_object_set(answer, "ops", ops);
    world_edit_release(&r->out->edit);
    if (world_edit_from_model(answer, WORLD_PARSE_LENIENT, r->kind->cause, round, &r->out->edit,
                              &report, &ignored) != 0)
        world_edit_init(&r->out->edit, WORLD_BY_MODEL, r->kind->cause, round);
    if (r->kind->seeds)
        r->out->edit.max_new = WORLD_INIT_NEW_MAX;
    copy_report(r, &report);
}

/* ---- The whole ---- */

static void check_members(struct reading *r, json_t *object)
{
    const char *key;
    json_t *v;

    json_object_foreach (object, key, v) {
        bool known = false;
        char seen[80];

        for (size_t i = 0; i < PLAN_MEMBERS; i++)
            known = known || ((r->kind->members & plan_members[i].bit) &&
                              strcmp(plan_members[i].name, key) == 0);
        if (strcmp(key, "active_leaf_id") == 0)
            json_array_append_new(
                r->out->repairs,
                json_string("'active_leaf_id' is written by the system only; ignored"));
        else if (!known)
            refuse(r, "the answer has the unknown member '%s'",
                   str_visible(key, strlen(key), seen, sizeof(seen)));
    }
}

static void read_object(struct reading *r, json_t *object, uint64_t round)
{
    check_members(r, object);
    if (r->kind->members & PLAN_HAS_SUMMARY)
        read_summary(r, json_object_get(object, "kernel_summary"));
    if (r->kind->members & PLAN_HAS_QUESTIONS)
        read_questions(r, json_object_get(object, "open_questions"));
    if (r->kind->members & PLAN_HAS_INSIGHTS)
        read_insights(r, json_object_get(object, "insights"));
    read_ops(r, json_object_get(object, "ops"), round);
}

static int reading_end(struct reading *r, struct err *err)
{
    const char *text = json_string_value(json_array_get(r->errors, r->first));

    if (r->n == 0)
        return 0;
    if (r->n > ERRORS_MAX)
        json_array_append_new(r->errors, json_sprintf("and %zu more errors", r->n - ERRORS_MAX));
    return err_set(err, ERR_INVALID, "the plan has %zu error%s; the first: %s", r->n,
                   r->n == 1 ? "" : "s", text ? text : "(not told)");
}

int plan_answer_parse(enum call_kind kind, const char *text, uint64_t round, bool flat,
                      struct plan_answer *out, json_t *errors, struct err *err)
{
    struct plan_answer answer = { .summary = xstrdup(""),
                                  .questions = json_array(),
                                  .insights = json_array(),
                                  .repairs = json_array() };
    struct reading r = { .kind = plan_kind_find(kind),
                         .flat = flat,
                         .out = &answer,
                         .errors = errors,
                         .first = json_array_size(errors) };
    json_auto_t *object = NULL;
    struct err why;

    assert(r.kind != NULL); /* only planners' calls have plans */
    world_edit_init(&answer.edit, WORLD_BY_MODEL, r.kind->cause, round);
    if (json_of_answer(text, "ops", &object, answer.repairs, &why) != 0)
        refuse(&r, "%s", why.msg);
    else
        read_object(&r, object, round);
    if (reading_end(&r, err) != 0) {
        plan_answer_release(&answer);
        return -1;
    }
    *out = answer;
    return 0;
}

void plan_answer_release(struct plan_answer *a)
{
    free(a->summary);
    json_decref(a->questions);
    json_decref(a->insights);
    json_decref(a->repairs);
    world_edit_release(&a->edit);
    memset(a, 0, sizeof(*a));
}
