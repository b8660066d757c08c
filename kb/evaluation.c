/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluations: the field table, the workloads inside, and the rules between fields. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "fields.h"
#include "record.h"
#include "record_text.h"

enum {
    LABEL_MAX = 96,
    CELL_PART_MAX = 1024,
    MESSAGE_MAX = 4096,
    PARAMETERS_MAX = 256,
    WORKLOADS_MAX = 4096,
    EFFECT_Q_MAX = 50 * 1000 * 1000
};
static const int64_t TIME_S_MAX = 7258118400;            /* 2200-01-01 */
static const int64_t WORKLOAD_NS_MAX = 1000000000000000; /* eleven days */

/* The table works on JSON; the workloads of the struct are translated on the way. */
struct row_form {
    struct evaluation e;
    json_t *workloads;
};

#define TEXT(field) #field, FIELD_TEXT, offsetof(struct row_form, e.field)
#define OTHER(field, type) #field, type, offsetof(struct row_form, e.field)
static const struct field rows[] = {
    { OTHER(assignment, FIELD_OBJECT), FIELD_SCALARS, 0, PARAMETERS_MAX, NULL },
    { TEXT(device), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { TEXT(device_class), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { TEXT(family), FIELD_NAME, 0, LABEL_MAX, NULL },
    { TEXT(language), FIELD_NAME, 0, LABEL_MAX, NULL },
    { OTHER(measured_at_s, FIELD_COUNT), 0, 0, TIME_S_MAX, NULL },
    { TEXT(message), 0, 0, MESSAGE_MAX, NULL },
    { OTHER(objective_q, FIELD_INT), 0, -EFFECT_Q_MAX, EFFECT_Q_MAX, NULL },
    { OTHER(program, FIELD_ID), 0, 0, 0, NULL },
    { OTHER(sd_q, FIELD_INT), 0, 0, EFFECT_Q_MAX, NULL },
    { TEXT(seed), FIELD_SEED, 0, LABEL_MAX, NULL },
    { TEXT(set), FIELD_NAME, 0, LABEL_MAX, NULL },
    { TEXT(shape), FIELD_CELL, 0, CELL_PART_MAX, NULL },
    { TEXT(status), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { OTHER(steered, FIELD_BOOL), 0, 0, 0, NULL },
    { TEXT(task), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { TEXT(toolchain), FIELD_CELL, 0, CELL_PART_MAX, NULL },
    { "workloads", FIELD_ARRAY, offsetof(struct row_form, workloads), 0, 0, WORKLOADS_MAX, NULL },
    { 0 }
};

#define WORKLOAD(field, type) #field, type, offsetof(struct workload_time, field)
static const struct field workload_rows[] = {
    { WORKLOAD(baseline_ns, FIELD_COUNT), 0, 0, WORKLOAD_NS_MAX, NULL },
    { WORKLOAD(candidate_ns, FIELD_COUNT), 0, 0, WORKLOAD_NS_MAX, NULL },
    { WORKLOAD(name, FIELD_TEXT), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { WORKLOAD(ratio_q, FIELD_INT), 0, -EFFECT_Q_MAX, EFFECT_Q_MAX, NULL },
    { 0 }
};

static int rules(const struct evaluation *e, struct err *err)
{
    if (strcmp(e->status, "ok") != 0 && (e->objective_q != 0 || e->sd_q != 0))
        return err_set(
            err, ERR_INVALID,
            "evaluation: a failure has no objective; 'objective_q' and 'sd_q' must be 0");
    return 0;
}

static int workloads_from_json(const json_t *list, struct evaluation *e, struct err *err)
{
    size_t n = json_array_size(list);

    if (n == 0)
        return 0;
    e->workloads = calloc(n, sizeof(*e->workloads));
    if (e->workloads == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu workloads", n);
    for (; e->n_workloads < n; e->n_workloads++)
        if (fields_parse(workload_rows, "evaluation.workloads",
                         json_array_get(list, e->n_workloads), &e->workloads[e->n_workloads],
                         err) != 0)
            return -1;
    return 0;
}

static json_t *workloads_to_json(const struct evaluation *e)
{
    json_auto_t *list = json_array();

    for (size_t i = 0; list && i < e->n_workloads; i++)
        if (json_array_append_new(list, fields_json(workload_rows, &e->workloads[i])) != 0)
            return NULL;
    return TAKE(list);
}

/* Moves the parsed form into the caller's struct, or releases it. */
static int finish(struct row_form *form, struct evaluation *out, struct err *err)
{
    int rc = workloads_from_json(form->workloads, &form->e, err);

    json_decref(form->workloads);
    if (rc == 0)
        rc = rules(&form->e, err);
    if (rc == 0)
        *out = form->e;
    else
        evaluation_release(&form->e);
    return rc;
}

int evaluation_from_json(const json_t *j, struct evaluation *out, struct err *err)
{
    struct row_form form = { 0 };

    if (fields_parse(rows, "evaluation", j, &form, err) != 0)
        return -1;
    return finish(&form, out, err);
}

int evaluation_read(const char *text, size_t len, struct evaluation *out, struct err *err)
{
    struct row_form form = { 0 };

    if (fields_read(rows, "evaluation", text, len, &form, err) != 0)
        return -1;
    return finish(&form, out, err);
}

json_t *evaluation_to_json(const struct evaluation *e)
{
    struct row_form form = { .e = *e, .workloads = workloads_to_json(e) };
    json_t *j = form.workloads ? fields_json(rows, &form) : NULL;

    json_decref(form.workloads);
    return j;
}

static int check_workloads(const struct evaluation *e, struct err *err)
{
    if (e->n_workloads > WORKLOADS_MAX)
        return err_set(err, ERR_INVALID,
                       "evaluation: 'workloads' has %zu items; at most %d are "
                       "allowed",
                       e->n_workloads, WORKLOADS_MAX);
    for (size_t i = 0; i < e->n_workloads; i++)
        if (fields_check(workload_rows, "evaluation.workloads", &e->workloads[i], err) != 0)
            return -1;
    return 0;
}

int evaluation_write(const struct evaluation *e, struct buf *out, struct err *err)
{
    struct row_form form = { .e = *e };
    int rc = check_workloads(e, err);

    if (rc != 0)
        return rc;
    form.workloads = workloads_to_json(e);
    if (form.workloads == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu workloads", e->n_workloads);
    rc = fields_check(rows, "evaluation", &form, err);
    if (rc == 0)
        rc = rules(e, err);
    if (rc == 0)
        rc = fields_write(rows, "evaluation", &form, out, err);
    json_decref(form.workloads);
    return rc;
}

void evaluation_release(struct evaluation *e)
{
    struct row_form form = { .e = *e };

    fields_release(rows, &form);
    for (size_t i = 0; i < e->n_workloads; i++)
        fields_release(workload_rows, &e->workloads[i]);
    free(e->workloads);
    *e = form.e;
    e->workloads = NULL;
    e->n_workloads = 0;
}
