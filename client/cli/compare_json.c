/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of a comparison as one document; see compare.h. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "compare_impl.h"
#include "compare_stats.h"

/* Two bests that are this near each other, as a share, count as a tie. */
#define TIE 0.01

enum { CURVE_POINTS = 400 };

static const char *const within_names[] = { "within_5", "within_10" };

static const char *text_of(const json_t *show, const char *member)
{
    return jsonx_str(show, member, "");
}

/* ---- Numbers ---- */

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* A count where it is one, so that "12" is not told as "12.0". */
static json_t *amount(double v)
{
    return isfinite(v) && v == floor(v) && v < 1e15 ? json_integer((json_int_t)v) : number(v);
}

static json_t *interval_json(struct interval i)
{
    return isfinite(i.low) ? json_pack("[f, f]", i.low, i.high) : json_null();
}

/* The finite ones among a member of the arm's runs. */
#define ARM_VALUES(c, a, member, out, n)                                                           \
    do {                                                                                           \
        (n) = 0;                                                                                   \
        for (size_t i_ = 0; i_ < (a)->n; i_++)                                                     \
            if (isfinite((c)->runs[(a)->runs[i_]].member))                                         \
                (out)[(n)++] = (c)->runs[(a)->runs[i_]].member;                                    \
    } while (0)

static json_t *summary_json(const double *v, size_t n, size_t of)
{
    json_t *values = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(values, json_real(v[i]));
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o}", "n", (json_int_t)n, "without",
                     (json_int_t)(of - n), "median", number(stats_median(v, n)), "geomean",
                     number(stats_geomean(v, n)), "interval95",
                     interval_json(stats_geomean_interval(v, n)), "values", values);
}

/* Those that never came there are counted, and sort above all others in the median. */
static json_t *reached_json(const double *v, size_t n, size_t of)
{
    json_t *values = json_array();
    double median = NAN;

    for (size_t i = 0; i < n; i++)
        json_array_append_new(values, amount(v[i]));
    if (2 * n > of) { /* the middle of all of them is among those that came there, or just above */
        CLEANUP(freep) double *all = xmalloc(of * sizeof(*all));

        for (size_t i = 0; i < of; i++)
            all[i] = i < n ? v[i] : DBL_MAX;
        median = stats_median(all, of);
        if (median >= DBL_MAX / 4)
            median = NAN;
    }
    return json_pack("{s:I, s:I, s:o, s:o}", "reached", (json_int_t)n, "censored",
                     (json_int_t)(of - n), "median", amount(median), "values", values);
}

/* ---- What was spent ---- */

/* The member of `spent` or `ledger`, as a number or as the sum of an object's; NaN when neither
 * says. */
static double spent_of(const json_t *show, const char *member, double fallback)
{
    static const char *const places[] = { "spent", "ledger" };

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        json_t *v = json_object_get(json_object_get(show, places[i]), member), *part;
        const char *key;
        double sum = 0;

        if (json_is_number(v))
            return json_number_value(v);
        if (!json_is_object(v) || json_object_size(v) == 0)
            continue;
        json_object_foreach (v, key, part)
            sum += json_is_number(part) ? json_number_value(part) : 0;
        return sum;
    }
    return fallback;
}

static json_t *spent_json(const struct comparison *c, const struct arm *a)
{
    static const struct {
        const char *member, *name;
        enum compare_axis axis;
    } parts[] = { { "tokens", "tokens", COMPARE_TOKENS },
                  { "usd", "usd", COMPARE_USD },
                  { "time", "wall_s", COMPARE_TIME },
                  { "device", "device_s", COMPARE_TIME } };
    json_t *spent = json_object();

    for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
        double sum = 0;
        size_t known = 0;

        for (size_t i = 0; i < a->n; i++) {
            const struct run *r = &c->runs[a->runs[i]];
            double v =
                spent_of(r->show, parts[p].member, run_spends_nothing(r, parts[p].axis) ? 0 : NAN);

            if (!run_tells_spending(r))
                v = NAN;
            known += isfinite(v);
            sum += isfinite(v) ? v : 0;
        }
        /* A sum over some of the searches would look like one over all. */
        json_object_set_new(spent, parts[p].name, known == a->n ? amount(sum) : json_null());
    }
    return spent;
}

static json_t *failures_json(const struct comparison *c, const struct arm *a)
{
    json_t *all = json_object();

    for (size_t i = 0; i < a->n; i++) {
        json_t *one = json_object_get(c->runs[a->runs[i]].show, "failures"), *count;
        const char *key;

        json_object_foreach (one, key, count)
            json_object_set_new(all, key,
                                json_integer(json_integer_value(count) + jsonx_int(all, key, 0)));
    }
    return all;
}

/* ---- The curve of an arm ---- */

/* How far the arm's curve goes: as far as all of its searches. */
static double arm_extent(const struct comparison *c, const struct arm *a)
{
    double extent = INFINITY, longest = 0;

    for (size_t i = 0; i < c->n; i++)
        longest = fmax(longest, c->runs[i].n ? c->runs[i].x[c->runs[i].n - 1] : 0);
    for (size_t i = 0; i < a->n; i++) {
        const struct run *r = &c->runs[a->runs[i]];

        extent = fmin(extent, r->free ? longest : r->n ? r->x[r->n - 1] : 0);
    }
    return extent;
}

static void curve_point(const struct comparison *c, const struct arm *a, double x, json_t *curve)
{
    CLEANUP(freep) double *v = xmalloc(a->n * sizeof(*v));
    struct interval band;
    size_t n = 0;

    for (size_t i = 0; i < a->n; i++) {
        double best = run_shown(&c->runs[a->runs[i]], x);

        if (isfinite(best))
            v[n++] = best;
    }
    if (n == 0) /* none of them ever passed */
        return;
    band = stats_geomean_interval(v, n);
    json_array_append_new(curve, json_pack("{s:o, s:f, s:o, s:o}", "x", amount(x), "median",
                                           stats_median(v, n), "low", number(band.low), "high",
                                           number(band.high)));
}

static int by_x(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* At each place where one of its searches has a point, thinned where there are very many. */
static json_t *curve_json(const struct comparison *c, const struct arm *a)
{
    CLEANUP(freep) double *xs = NULL;
    double extent = arm_extent(c, a), last = -1;
    json_t *curve = json_array();
    size_t n = 0, total = 1, step, kept = 0;

    for (size_t i = 0; i < a->n; i++)
        total += c->runs[a->runs[i]].n;
    xs = xmalloc(total * sizeof(*xs));
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < c->runs[a->runs[i]].n; k++)
            if (c->runs[a->runs[i]].x[k] <= extent)
                xs[n++] = c->runs[a->runs[i]].x[k];
    xs[n++] = extent;
    qsort(xs, n, sizeof(*xs), by_x);
    for (size_t i = 0; i < n; i++) {
        if (xs[i] > last)
            xs[kept++] = xs[i];
        last = xs[i];
    }
    step = (kept + CURVE_POINTS - 1) / CURVE_POINTS;
    for (size_t i = 0; i < kept; i++)
        if (i % step == 0 || i == kept - 1)
            curve_point(c, a, xs[i], curve);
    return curve;
}

/* ---- Against the first arm ---- */

/* Two runs of the two arms that belong together. */
struct pair {
    const struct run *mine, *first;
};

static bool same_seed(const struct run *a, const struct run *b)
{
    const json_t *x = json_object_get(a->show, "seed"), *y = json_object_get(b->show, "seed");

    return x != NULL && y != NULL && json_equal((json_t *)x, (json_t *)y);
}

/* Pairs by seed, each run in one pair at most; how many. */
static size_t pairs_by_seed(const struct comparison *c, const struct arm *a, struct pair *out)
{
    const struct arm *first = &c->arms[0];
    CLEANUP(freep) bool *taken = xcalloc(first->n, sizeof(*taken));
    size_t n = 0;

    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < first->n; k++) {
            const struct run *mine = &c->runs[a->runs[i]], *other = &c->runs[first->runs[k]];

            if (taken[k] || !same_seed(mine, other))
                continue;
            taken[k] = true;
            out[n++] = (struct pair){ mine, other };
            break;
        }
    return n;
}

/* All against all. */
static size_t pairs_all(const struct comparison *c, const struct arm *a, struct pair *out)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < c->arms[0].n; k++)
            out[n++] = (struct pair){ &c->runs[a->runs[i]], &c->runs[c->arms[0].runs[k]] };
    return n;
}

/* 1 when the first of the two is better, -1 when the second, 0 for a tie; what never passed is
 * worst. */
static int outcome(double mine, double other)
{
    if (!isfinite(mine) || !isfinite(other))
        return isfinite(mine) - isfinite(other);
    return mine > other * (1 + TIE) ? 1 : other > mine * (1 + TIE) ? -1 : 0;
}

static double member_of(const struct run *r, int which)
{
    return which == 0 ? r->at_horizon : which == 1 ? r->area : r->to[0];
}

static size_t finite_of(const struct comparison *c, const struct arm *a, int which, double *out)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n; i++) {
        double v = member_of(&c->runs[a->runs[i]], which);

        if (isfinite(v) && v > 0)
            out[n++] = v;
    }
    return n;
}

/* The ratio mine over first, of pairs, or of the two geometric means; `left_out` counts what has
 * no number. */
static json_t *ratio_json(const struct comparison *c, const struct arm *a, const struct pair *pairs,
                          size_t n, bool paired, int which)
{
    CLEANUP(freep) double *x = xmalloc((n + a->n) * sizeof(*x));
    CLEANUP(freep) double *y = xmalloc((n + c->arms[0].n) * sizeof(*y));
    size_t nx = 0, ny = 0, left = 0;
    struct interval band;
    double ratio;

    if (paired) {
        for (size_t i = 0; i < n; i++) {
            double v = member_of(pairs[i].mine, which) / member_of(pairs[i].first, which);

            if (isfinite(v) && v > 0)
                x[nx++] = v;
        }
        left = n - nx;
        ratio = stats_geomean(x, nx);
        band = stats_geomean_interval(x, nx);
    } else {
        nx = finite_of(c, a, which, x);
        ny = finite_of(c, &c->arms[0], which, y);
        left = a->n - nx + c->arms[0].n - ny;
        ratio = stats_geomean(x, nx) / stats_geomean(y, ny);
        band = stats_ratio_interval(x, nx, y, ny);
    }
    return json_pack("{s:o, s:o, s:I}", "ratio", number(ratio), "interval95", interval_json(band),
                     "left_out", (json_int_t)left);
}

static json_t *against_json(const struct comparison *c, const struct arm *a)
{
    CLEANUP(freep) struct pair *pairs = xcalloc(a->n * c->arms[0].n, sizeof(*pairs));
    size_t n = pairs_by_seed(c, a, pairs);
    bool paired = n > 0;
    json_int_t counts[3] = { 0 };

    if (!paired)
        n = pairs_all(c, a, pairs);
    for (size_t i = 0; i < n; i++)
        counts[outcome(pairs[i].mine->at_horizon, pairs[i].first->at_horizon) + 1]++;
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "paired", paired, "pairs",
                     (json_int_t)n, "wins", counts[2], "losses", counts[0], "ties", counts[1],
                     "best", ratio_json(c, a, pairs, n, paired, 0), "area",
                     ratio_json(c, a, pairs, n, paired, 1), "to_within_5",
                     ratio_json(c, a, pairs, n, paired, 2));
}

/* ---- The document ---- */

static json_t *arm_json(const struct comparison *c, const struct arm *a)
{
    CLEANUP(freep) double *v = xmalloc(a->n * sizeof(*v));
    json_t *ids = json_array(), *o;
    size_t n;

    for (size_t i = 0; i < a->n; i++)
        json_array_append_new(ids, json_string(text_of(c->runs[a->runs[i]].show, "id")));
    o = json_pack("{s:s, s:I, s:o}", "arm", a->label, "n", (json_int_t)a->n, "searches", ids);
    ARM_VALUES(c, a, final, v, n);
    json_object_set_new(o, "final", summary_json(v, n, a->n));
    if (c->holdout != NULL) {
        ARM_VALUES(c, a, held_out, v, n);
        json_object_set_new(o, "held_out", summary_json(v, n, a->n));
    }
    ARM_VALUES(c, a, at_horizon, v, n);
    json_object_set_new(o, "at_horizon", summary_json(v, n, a->n));
    ARM_VALUES(c, a, area, v, n);
    json_object_set_new(o, "area", summary_json(v, n, a->n));
    for (size_t k = 0; k < ARRAY_LEN(compare_within); k++) {
        ARM_VALUES(c, a, to[k], v, n);
        json_object_set_new(o, within_names[k], reached_json(v, n, a->n));
    }
    json_object_set_new(o, "failures", failures_json(c, a));
    json_object_set_new(o, "spent", spent_json(c, a));
    json_object_set_new(o, "curve", curve_json(c, a));
    if (a != &c->arms[0])
        json_object_set_new(o, "against_first", against_json(c, a));
    return o;
}

static json_t *run_json(const struct comparison *c, const struct run *r)
{
    static const char *const copied[] = { "id",   "task", "device", "strategy", "proposer",
                                          "warm", "seed", "state",  "failures", "spent" };
    json_t *o = json_object(), *curve = json_array();

    for (size_t k = 0; k < ARRAY_LEN(copied); k++)
        if (json_object_get(r->show, copied[k]))
            json_object_set(o, copied[k], json_object_get(r->show, copied[k]));
    json_object_set_new(o, "arm", json_string(c->arms[r->arm].label));
    json_object_set_new(o, "evaluations", json_integer((json_int_t)r->n));
    json_object_set_new(o, "objective", number(r->final));
    json_object_set_new(o, "best_of_all", number(c->best));
    json_object_set_new(o, "area", number(r->area));
    json_object_set_new(o, "evaluations_to_within_5_percent",
                        r->evaluations_5 ? json_integer((json_int_t)r->evaluations_5)
                                         : json_null());
    for (size_t k = 0; k < ARRAY_LEN(compare_within); k++)
        json_object_set_new(o, within_names[k], amount(r->to[k]));
    if (jsonx_int(json_object_get(r->show, "gain"), "adoptions", 0) > 0)
        json_object_set(o, "gain", json_object_get(r->show, "gain"));
    for (size_t k = 0; k < r->n; k++)
        json_array_append_new(curve, number(r->best[k]));
    json_object_set_new(o, "curve", curve);
    if (c->axis != COMPARE_EVALUATIONS) {
        json_t *xs = json_array();

        for (size_t k = 0; k < r->n; k++)
            json_array_append_new(xs, amount(r->x[k]));
        json_object_set_new(o, "x", xs);
    }
    return o;
}

json_t *comparison_json(const struct comparison *c)
{
    const json_t *first = c->runs[0].show;
    json_t *arms = json_array(), *runs = json_array();

    for (size_t i = 0; i < c->n_arms; i++)
        json_array_append_new(arms, arm_json(c, &c->arms[i]));
    for (size_t i = 0; i < c->n; i++)
        json_array_append_new(runs, run_json(c, &c->runs[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "task",
                     text_of(first, "task"), "device", text_of(first, "device"), "set",
                     text_of(first, "set"), "by", compare_by_names[c->by], "axis",
                     compare_axis_names[c->axis], "best_of_all", number(c->best), "horizon",
                     amount(c->horizon), "searches", runs, "arms", arms);
}
