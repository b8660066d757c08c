/* SPDX-License-Identifier: Apache-2.0 */
/* Making the document that a retune starts from; see survey.h. */
#include "retune/survey.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "retune/survey_impl.h"

enum { EVALS_PER_TASK = 40 };
static const double failure_stake = 0.05; /* log effect at stake where only failures were seen */

static void survey_release(struct survey *s)
{
    for (size_t i = 0; i < s->n_insights; i++)
        survey_insight_release(&s->insights[i]);
    for (size_t i = 0; i < s->n_tasks; i++)
        survey_task_release(&s->tasks[i]);
    free(s->insights);
    free(s->tasks);
    delta_release(&s->delta);
    survival_free(s->survival);
    json_decref(s->to);
    json_decref(s->from);
    json_decref(s->names);
    json_decref(s->roofline);
    free(s->from_name);
    free(s->versions);
}

static int read_device(struct kb *kb, const char *name, json_t **out, struct err *err)
{
    if (kb_get_doc(kb, KB_DEVICE, name, out, err) == 0)
        return 0;
    if (err->code == ERR_NOT_FOUND)
        err_set(err, ERR_NOT_FOUND, "device '%s' is not known; 'ksearch device list' shows them",
                name);
    return -1;
}

static int find_devices(struct survey *s, struct err *err)
{
    if (read_device(s->kb, s->from_name, &s->from, err) != 0)
        return -1;
    delta_of(s->from, s->to, &s->delta);
    for (size_t i = 0; i < s->n_tasks; i++) {
        struct survey_task *t = &s->tasks[i];

        roofline_place(t->name, t->dtype, t->workloads, s->from, s->to, &t->shift, s->roofline);
    }
    return 0;
}

/* ---- The document ---- */

static json_t *factor_or_null(bool known, int64_t q)
{
    return known ? json_real(exp(1e-6 * (double)q)) : json_null();
}

static json_t *task_json(const struct survey_task *t)
{
    const struct survey_record *old = &t->old.v[0];
    json_t *j =
        json_pack("{s:s, s:s, s:s, s:b, s:b, s:{s:o, s:O, s:s, s:I}, s:f, s:b}", "task", t->name,
                  "family", t->family, "set", t->set, "recorded", t->recorded, "measurable",
                  t->why_not[0] == '\0', "old", "objective", factor_or_null(true, old->objective_q),
                  "assignment", old->assignment, "evaluation", old->id.hex, "records",
                  (json_int_t)t->old.n, "eval_s", t->eval_s, "eval_known", t->eval_known);

    json_object_set_new(j, "new_values", survey_new_values(t));
    if (t->why_not[0])
        json_object_set_new(j, "why_not", json_string(t->why_not));
    if (t->carried >= 0) {
        const struct survey_record *c = &t->old.v[t->carried];

        json_object_set_new(j, "carried",
                            json_pack("{s:O, s:o, s:s, s:b}", "assignment", c->assignment,
                                      "objective_there", factor_or_null(true, c->objective_q),
                                      "evaluation", c->id.hex, "is_best", t->carried == 0));
    }
    if (t->cold_searches > 0)
        json_object_set_new(j, "cold",
                            json_pack("{s:I, s:I, s:s}", "evaluations", (json_int_t)t->cold_evals,
                                      "searches", (json_int_t)t->cold_searches, "basis",
                                      t->cold_warm ? "past warm searches" : "past cold searches"));
    return j;
}

static json_t *effect_json(const struct label_evidence *e)
{
    return json_pack("{s:f, s:f, s:I, s:I, s:I}", "mean", e->mean, "sd", e->sd, "n",
                     (json_int_t)(e->sums.blind + e->sums.steered), "blind",
                     (json_int_t)e->sums.blind, "failures", (json_int_t)e->sums.failures);
}

static json_t *insight_json(const struct survey *s, const struct survey_insight *si)
{
    const struct claim *c = &si->in.claim;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:I, s:o}", "id",
                          si->in.id.hex, "label", retune_label_name(si->label.label), "ground",
                          retune_ground_name(si->label.ground), "why", si->label.text, "technique",
                          c->technique, "statement", c->statement, "param", c->param, "with",
                          c->with_value, "without", c->without_value, "p_wrong", si->label.p_wrong,
                          "relying", (json_int_t)si->relying, "effect_from", effect_json(&si->old));

    if (si->new.sums.blind + si->new.sums.steered > 0)
        json_object_set_new(j, "effect_to", effect_json(&si->new));
    if (si->task != SIZE_MAX)
        json_object_set_new(j, "task", json_string(s->tasks[si->task].name));
    return j;
}

/* ---- The plan and its steps ---- */

/* A measurement to make, or one that is known already. Steps are found again by their key. */
static void add_step(struct survey *s, json_t *steps, json_t *index, size_t task, const char *key,
                     const json_t *assignment, const char *why, const char *insight)
{
    const struct survey_task *t = &s->tasks[task];
    const struct survey_record *known;
    json_t *step;

    if (json_object_get(index, key) != NULL)
        return;
    step = json_pack("{s:s, s:s, s:O, s:s}", "task", t->name, "set", t->set, "assignment",
                     (json_t *)assignment, "why", why);
    if (insight != NULL)
        json_object_set_new(step, "insight", json_string(insight));
    known = survey_known(t, assignment);
    if (known != NULL)
        json_object_set_new(step, "known",
                            json_pack("{s:s, s:I, s:I, s:s}", "status", known->status,
                                      "objective_q", (json_int_t)known->objective_q, "sd_q",
                                      (json_int_t)known->sd_q, "fact", known->id.hex));
    json_object_set_new(index, key, json_integer((json_int_t)json_array_size(steps)));
    json_array_append_new(steps, step);
}

/* What every task starts with: its best program that is valid on the new device. */
static void add_carried(struct survey *s, json_t *steps, json_t *index)
{
    for (size_t i = 0; i < s->n_tasks; i++) {
        struct survey_task *t = &s->tasks[i];
        CLEANUP(freep) char *key = NULL;
        json_auto_t *assignment = NULL;
        uint16_t a[SPACE_PARAMS_MAX];
        struct err ignored;

        if (t->why_not[0] || t->carried < 0 ||
            space_from_json(t->space, t->old.v[t->carried].assignment, a, &ignored) != 0)
            continue;
        key = survey_key(t, a);
        assignment = space_to_json(t->space, a);
        add_step(s, steps, index, i, key, assignment, "best program of the old device", NULL);
    }
}

static void add_plan(struct survey *s, json_t *plan, json_t *steps, json_t *index)
{
    CLEANUP(freep)
    struct plan_candidate *candidates = xcalloc(s->n_insights + 1, sizeof(*candidates));
    CLEANUP(freep) size_t *insights = xcalloc(s->n_insights + 1, sizeof(*insights));
    CLEANUP(freep)
    struct plan_item *items =
        xcalloc(MIN(s->n_insights, (size_t)PLAN_ITEMS_MAX) + 1, sizeof(*items));
    size_t n = 0, planned;

    for (size_t i = 0; i < s->n_insights; i++) {
        const struct survey_insight *si = &s->insights[i];
        double stake = fabs(si->old.mean);

        if (si->label.label != LABEL_REVERIFY || si->task == SIZE_MAX)
            continue;
        if (si->old.sums.blind + si->old.sums.steered == 0)
            stake = failure_stake;
        candidates[n] = (struct plan_candidate){ .p_wrong = si->label.p_wrong,
                                                 .stake = stake,
                                                 .relying = si->relying,
                                                 .eval_s = s->tasks[si->task].eval_s,
                                                 .keys = { si->keys[0], si->keys[1] } };
        insights[n++] = i;
    }
    planned = plan_order(candidates, n, index, items);
    for (size_t k = 0; k < planned; k++) {
        const struct survey_insight *si = &s->insights[insights[items[k].candidate]];

        json_array_append_new(plan, json_pack("{s:s, s:s, s:f, s:f, s:I, s:s}", "insight",
                                              si->in.id.hex, "task", s->tasks[si->task].name,
                                              "cost", items[k].cost_s, "value", items[k].value,
                                              "evaluations", (json_int_t)items[k].evaluations,
                                              "statement", si->in.claim.statement));
        for (size_t p = 0; p < PLAN_KEYS; p++)
            add_step(s, steps, index, si->task, si->keys[p], si->assignments[p], "tests an insight",
                     si->in.id.hex);
    }
}

static json_t *document(struct survey *s)
{
    const struct survey_request *r = s->req;
    json_t *tasks = json_array(), *insights = json_array(), *plan = json_array();
    json_t *steps = json_array(), *delta = delta_to_json(&s->delta);
    json_auto_t *index = json_object();
    uint64_t measurable = 0;
    json_t *doc;

    for (size_t i = 0; i < s->n_tasks; i++) {
        json_array_append_new(tasks, task_json(&s->tasks[i]));
        measurable += s->tasks[i].why_not[0] == '\0';
    }
    for (size_t i = 0; i < s->n_insights; i++)
        json_array_append_new(insights, insight_json(s, &s->insights[i]));
    add_carried(s, steps, index);
    add_plan(s, plan, steps, index);
    doc =
        json_pack("{s:i, s:s, s:s, s:b, s:b, s:{s:I, s:f}, s:I, s:O, s:O, s:o, s:O, s:o, s:o, s:o, "
                  "s:o, s:I}",
                  "format", 1, "device", r->device, "from", s->from_name, "toolchain", r->toolchain,
                  "control", r->control, "budget", "evals",
                  (json_int_t)(r->evals ? r->evals : EVALS_PER_TASK * MAX(measurable, 1)), "time",
                  r->time_s, "seed", (json_int_t)r->seed, "device_record", s->to, "from_record",
                  s->from, "delta", delta, "roofline", s->roofline, "tasks", tasks, "insights",
                  insights, "plan", plan, "steps", steps, "left_out", (json_int_t)s->left_out);
    if (doc != NULL)
        json_object_set_new(doc, "asked", r->tasks ? json_deep_copy(r->tasks) : json_array());
    return doc;
}

int survey_make(struct kb *kb, const struct packs *packs, const struct survey_request *req,
                json_t **out, struct err *err)
{
    struct survey s = {
        .kb = kb, .packs = packs, .req = req, .survival = survival_new(), .roofline = json_array()
    };
    int rc = -1;

    if (req->from != NULL && strcmp(req->from, req->device) == 0 && !req->toolchain) {
        err_set(err, ERR_INVALID,
                "'from' and 'device' are both '%s'; with 'toolchain' its own versions are compared",
                req->device);
    } else if (read_device(kb, req->device, &s.to, err) == 0) {
        s.versions = versions_of_device(s.to);
        rc = survey_find_tasks(&s, err);
    }
    if (rc == 0 && (find_devices(&s, err) != 0 || survival_fold(s.survival, kb, err) != 0 ||
                    survey_find_insights(&s, err) != 0))
        rc = -1;
    if (rc == 0) {
        *out = document(&s);
        if (*out == NULL)
            rc = err_set(err, ERR_NOMEM, "no memory for the plan of a retune");
    }
    survey_release(&s);
    return rc;
}
