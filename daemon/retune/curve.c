/* SPDX-License-Identifier: Apache-2.0 */
/* Curves of stored searches; see curve.h. */
#include "retune/curve.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"

enum { POINTS_MAX = 100000 };
static const double near_best = 0.04879; /* log of 1.05 */

/* Operations and bytes of one call, from the rates and times that a proposer was told. */
static json_t *workloads_of(const json_t *feedback)
{
    const json_t *rows = json_object_get(feedback, "workloads");
    json_t *out = json_array(), *row;
    size_t i;

    json_array_foreach ((json_t *)rows, i, row) {
        double ns = 1e3 * jsonx_num(row, "candidate_us", NAN);
        double flops = ns * jsonx_num(row, "gflops", NAN), bytes = ns * jsonx_num(row, "gbs", NAN);

        if (isfinite(flops) && bytes > 0)
            json_array_append_new(out,
                                  json_pack("{s:s, s:f, s:f}", "name", jsonx_str(row, "name", ""),
                                            "flops", flops, "bytes", bytes));
    }
    if (json_array_size(out) > 0)
        return out;
    json_decref(out);
    return NULL;
}

static struct curve_point *point_of(struct curve *c, const json_t *event)
{
    long long n = jsonx_int(event, "evaluation", 0);

    if (n < 1 || n > POINTS_MAX)
        return NULL;
    c->points = xgrow(c->points, &c->cap, (size_t)n, sizeof(*c->points));
    for (; c->n < (size_t)n; c->n++)
        c->points[c->n] = (struct curve_point){ NAN, NULL };
    return &c->points[n - 1];
}

static int take_event(void *ctx, uint64_t seq, const json_t *event)
{
    const char *type = jsonx_str(event, "type", "");
    struct curve *c = ctx;
    struct curve_point *p;

    (void)seq;
    if (strcmp(type, "attempt") == 0) {
        p = point_of(c, event);
        if (p != NULL) {
            json_decref(p->assignment);
            p->assignment = json_incref(json_object_get(event, "assignment"));
        }
    } else if (strcmp(type, "measured") == 0) {
        p = point_of(c, event);
        if (p != NULL && strcmp(jsonx_str(event, "status", ""), "ok") == 0)
            p->log = 1e-6 * jsonx_num(event, "objective_q", 0);
        c->wall_ns += (uint64_t)jsonx_int(event, "wall_ns", 0);
        if (c->workloads == NULL)
            c->workloads = workloads_of(json_object_get(event, "feedback"));
    }
    return 0;
}

int curve_read(struct kb *kb, const char *search, struct curve *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    if (kb_each_event(kb, search, 0, take_event, out, err) == 0)
        return 0;
    curve_release(out);
    return err_ctx(err, "the events of search '%s'", search);
}

void curve_release(struct curve *c)
{
    for (size_t i = 0; i < c->n; i++)
        json_decref(c->points[i].assignment);
    free(c->points);
    json_decref(c->workloads);
    memset(c, 0, sizeof(*c));
}

size_t curve_to_best(const struct curve *c)
{
    double best = NAN;

    for (size_t i = 0; i < c->n; i++)
        if (!isnan(c->points[i].log) && !(c->points[i].log <= best))
            best = c->points[i].log;
    for (size_t i = 0; i < c->n; i++)
        if (c->points[i].log >= best - near_best)
            return i + 1;
    return 0;
}
