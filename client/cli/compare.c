/* SPDX-License-Identifier: Apache-2.0 */
/* Searches as runs, runs as arms, arms against the first; see compare.h. */
#include "compare.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "compare_stats.h"
#include "show.h"

/* Two bests that are this near each other, as a share, count as a tie. */
#define TIE 0.01

enum { CURVE_POINTS = 400, LABEL_MAX = 200 };

static const double within[] = { 0.95, 0.90 };
static const char *const within_names[] = { "within_5", "within_10" };
static const char *const by_names[] = { "arm", "strategy", "proposer", "warm", "seed", "search" };
static const char *const axis_names[] = { "evaluations", "tokens", "usd", "time" };
/* What a point of a curve has of each axis, cumulative. */
static const char *const axis_members[] = { "evaluation", "tokens", "usd", "wall_s" };

struct run {
    const json_t *show; /* borrowed */
    double *x, *best;   /* owned; best so far, NaN before the first pass */
    size_t n;
    double floor;         /* what counts before its first pass; NaN when nothing passed */
    double final;         /* best of all its own; NaN */
    double at_horizon;    /* best so far where all are compared; NaN */
    double area;          /* mean best so far up to there; NaN when nothing passed by then */
    double to[2];         /* x at which it came within 5 and 10 %; NaN when it never did */
    size_t evaluations_5; /* evaluations to within 5 %; 0 when never */
    size_t arm;
    bool free; /* it spends nothing of the axis: its best counts everywhere */
};

struct arm {
    char label[LABEL_MAX];
    size_t n, *runs; /* owned; in the order given */
};

struct comparison {
    enum compare_by by;
    enum compare_axis axis;
    size_t n, n_arms;
    struct run *runs;
    struct arm *arms;
    double best, horizon;
};

static void comparison_release(struct comparison *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->runs[i].x);
        free(c->runs[i].best);
    }
    for (size_t i = 0; i < c->n_arms; i++)
        free(c->arms[i].runs);
    free(c->runs);
    free(c->arms);
}

static int parse_name(const char *option, const char *name, const char *const *names, size_t n,
                      size_t *out, struct err *err)
{
    char allowed[120] = "";

    *out = 0;
    if (name == NULL)
        return 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(allowed);

        if (strcmp(names[i], name) == 0) {
            *out = i;
            return 0;
        }
        snprintf(allowed + len, sizeof(allowed) - len, "%s%s",
                 i == 0       ? ""
                 : i == n - 1 ? " or "
                              : ", ",
                 names[i]);
    }
    return err_set(err, ERR_INVALID, "--%s is '%.40s'; allowed is %s", option, name, allowed);
}

int compare_by_parse(const char *name, enum compare_by *out, struct err *err)
{
    size_t i;

    if (parse_name("by", name, by_names, ARRAY_LEN(by_names), &i, err) != 0)
        return -1;
    *out = (enum compare_by)i;
    return 0;
}

int compare_axis_parse(const char *name, enum compare_axis *out, struct err *err)
{
    size_t i;

    if (parse_name("against", name, axis_names, ARRAY_LEN(axis_names), &i, err) != 0)
        return -1;
    *out = (enum compare_axis)i;
    return 0;
}

/* ---- What compares ---- */

static const char *text_of(const json_t *show, const char *member)
{
    return jsonx_str(show, member, "");
}

static int check_alike(const json_t *first, const json_t *s, struct err *err)
{
    static const char *const members[] = { "task", "device", "set" };

    if (strcmp(text_of(first, "id"), text_of(s, "id")) == 0)
        return err_set(err, ERR_INVALID, "search '%.80s' is given twice", text_of(s, "id"));
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (strcmp(text_of(first, members[i]), text_of(s, members[i])) != 0)
            return err_set(err, ERR_INVALID,
                           "search '%.40s' has %s '%.40s' and search '%.40s' has '%.40s'; only "
                           "searches of one task, device and set compare",
                           text_of(first, "id"), members[i], text_of(first, members[i]),
                           text_of(s, "id"), text_of(s, members[i]));
    return 0;
}

static int check_all(const json_t *shows, struct err *err)
{
    if (json_array_size(shows) == 0)
        return err_set(err, ERR_INVALID, "no search is given; one at least is needed");
    for (size_t i = 0; i < json_array_size(shows); i++)
        for (size_t k = 0; k < i; k++)
            if (check_alike(json_array_get(shows, k), json_array_get(shows, i), err) != 0)
                return -1;
    return 0;
}

/* ---- Runs ---- */

/* Built-in proposers call no model: what they do not tell of tokens and money is nothing. */
static bool spends_nothing(const json_t *show, enum compare_axis axis)
{
    return (axis == COMPARE_TOKENS || axis == COMPARE_USD) &&
           strcmp(text_of(show, "proposer"), "builtin") == 0;
}

/* A run of another program says nothing of what it spent, so that a 0 there is no 0. */
static bool spending_is_known(const json_t *show)
{
    return strcmp(text_of(show, "proposer"), "k-search") != 0;
}

static int run_axis(struct run *r, enum compare_axis axis, struct err *err)
{
    const json_t *curve = json_object_get(r->show, "curve");

    for (size_t i = 0; i < r->n; i++) {
        const json_t *point = json_array_get(curve, i);
        double x = axis == COMPARE_EVALUATIONS ? (double)(i + 1)
                                               : jsonx_num(point, axis_members[axis],
                                                           spends_nothing(r->show, axis) ? 0 : NAN);

        if (!isfinite(x) || x < 0 || (axis != COMPARE_EVALUATIONS && !spending_is_known(r->show)))
            return err_set(err, ERR_INVALID,
                           "search '%.80s' does not tell %s for its evaluations; compare it "
                           "--against evaluations",
                           text_of(r->show, "id"), axis_names[axis]);
        r->x[i] = i > 0 ? fmax(x, r->x[i - 1]) : x;
    }
    r->free = r->n > 0 && axis != COMPARE_EVALUATIONS && r->x[r->n - 1] <= 0;
    return 0;
}

/* Before the first pass there is the baseline: 1, or the first pass itself where that is lower, so
 * that failing is never worth more than passing. */
static double run_floor(const struct run *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (isfinite(r->best[i]))
            return fmin(r->best[i], 1);
    return NAN;
}

static int run_load(struct run *r, const json_t *show, enum compare_axis axis, struct err *err)
{
    r->show = show;
    r->best = curve_best(show, &r->n);
    for (size_t i = 0; i < r->n; i++) /* a logarithm is taken of it */
        if (!(r->best[i] > 0))
            r->best[i] = NAN;
    r->x = xcalloc(r->n + 1, sizeof(*r->x));
    r->final = r->n ? r->best[r->n - 1] : NAN;
    r->floor = run_floor(r);
    return run_axis(r, axis, err);
}

/* Best so far where `x` is spent; NaN before the first pass. */
static double run_at(const struct run *r, double x)
{
    double best = NAN;

    for (size_t i = 0; i < r->n && r->x[i] <= x; i++)
        best = r->best[i];
    return best;
}

/* What a search has to show where `x` is spent; NaN when it never passed. */
static double run_shown(const struct run *r, double x)
{
    double best = run_at(r, x);

    return isfinite(best) ? best : r->floor;
}

/* The mean of that up to the horizon. */
static double run_area(const struct run *r, double horizon, bool steps)
{
    double sum = 0, at = 0, best = r->floor;

    if (!isfinite(run_at(r, horizon)))
        return NAN;
    if (horizon <= 0)
        return run_at(r, horizon);
    for (size_t i = 0; i < r->n && r->x[i] <= horizon; i++) {
        /* An evaluation counts for itself: what it found holds over its own step. */
        double from = steps ? r->x[i] - 1 : r->x[i];

        sum += best * (from - at);
        at = from;
        if (isfinite(r->best[i]))
            best = r->best[i];
    }
    return (sum + best * (horizon - at)) / horizon;
}

static void run_judge(struct run *r, const struct comparison *c)
{
    r->at_horizon = run_at(r, c->horizon);
    r->area = run_area(r, c->horizon, c->axis == COMPARE_EVALUATIONS);
    r->to[0] = r->to[1] = NAN;
    for (size_t i = r->n; i > 0; i--) {
        for (size_t k = 0; k < ARRAY_LEN(within); k++)
            if (r->best[i - 1] >= within[k] * c->best)
                r->to[k] = r->x[i - 1];
        if (r->best[i - 1] >= within[0] * c->best)
            r->evaluations_5 = i;
    }
}

/* The most that every search has spent, those that spend nothing aside. */
static double horizon_of(const struct comparison *c)
{
    double horizon = INFINITY;

    for (size_t i = 0; i < c->n; i++)
        if (!c->runs[i].free)
            horizon = fmin(horizon, c->runs[i].n ? c->runs[i].x[c->runs[i].n - 1] : 0);
    return isfinite(horizon) ? horizon : 0;
}

/* ---- Arms ---- */

static void label_add(char *label, const char *word)
{
    size_t n = strlen(label);

    if (*word)
        snprintf(label + n, LABEL_MAX - n, "%s%.60s", n ? " " : "", word);
}

/* "warm", "cold", or which parts of memory it reads; "" when the search does not say. */
static void add_warm(char *label, const json_t *show)
{
    const json_t *parts = json_object_get(show, "memory");
    char text[80] = "warm:";
    json_t *part;
    size_t i;

    if (!json_is_boolean(json_object_get(show, "warm")))
        return;
    if (!json_is_true(json_object_get(show, "warm"))) {
        label_add(label, "cold");
        return;
    }
    json_array_foreach (parts, i, part) {
        size_t n = strlen(text);

        snprintf(text + n, sizeof(text) - n, "%s%.12s", i ? "," : "", json_string_value(part));
    }
    /* All four of them go without saying. */
    label_add(label, i > 0 && i < 4 ? text : "warm");
}

static void run_label(const struct run *r, enum compare_by by, char *label)
{
    label[0] = '\0';
    switch (by) {
    case COMPARE_BY_ARM:
        label_add(label, text_of(r->show, "strategy"));
        label_add(label, text_of(r->show, "proposer"));
        add_warm(label, r->show);
        break;
    case COMPARE_BY_STRATEGY:
        label_add(label, text_of(r->show, "strategy"));
        break;
    case COMPARE_BY_PROPOSER:
        label_add(label, text_of(r->show, "proposer"));
        break;
    case COMPARE_BY_WARM:
        add_warm(label, r->show);
        break;
    case COMPARE_BY_SEED:
        snprintf(label, LABEL_MAX, "seed %lld", jsonx_int(r->show, "seed", 0));
        break;
    case COMPARE_BY_SEARCH:
        label_add(label, text_of(r->show, "id"));
        break;
    case COMPARE_BY_COUNT:
        break;
    }
    if (label[0] == '\0')
        snprintf(label, LABEL_MAX, "not said");
}

static void arms_make(struct comparison *c)
{
    c->arms = xcalloc(c->n, sizeof(*c->arms));
    for (size_t i = 0; i < c->n; i++) {
        char label[LABEL_MAX];
        size_t a = 0;

        run_label(&c->runs[i], c->by, label);
        while (a < c->n_arms && strcmp(c->arms[a].label, label) != 0)
            a++;
        if (a == c->n_arms) {
            memcpy(c->arms[a].label, label, sizeof(label));
            c->arms[a].runs = xcalloc(c->n, sizeof(size_t));
            c->n_arms++;
        }
        c->runs[i].arm = a;
        c->arms[a].runs[c->arms[a].n++] = i;
    }
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
            const json_t *show = c->runs[a->runs[i]].show;
            double v =
                spent_of(show, parts[p].member, spends_nothing(show, parts[p].axis) ? 0 : NAN);

            if (!spending_is_known(show))
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
    ARM_VALUES(c, a, at_horizon, v, n);
    json_object_set_new(o, "at_horizon", summary_json(v, n, a->n));
    ARM_VALUES(c, a, area, v, n);
    json_object_set_new(o, "area", summary_json(v, n, a->n));
    for (size_t k = 0; k < ARRAY_LEN(within); k++) {
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
    for (size_t k = 0; k < ARRAY_LEN(within); k++)
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

static json_t *comparison_json(const struct comparison *c)
{
    const json_t *first = c->runs[0].show;
    json_t *arms = json_array(), *runs = json_array();

    for (size_t i = 0; i < c->n_arms; i++)
        json_array_append_new(arms, arm_json(c, &c->arms[i]));
    for (size_t i = 0; i < c->n; i++)
        json_array_append_new(runs, run_json(c, &c->runs[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "task",
                     text_of(first, "task"), "device", text_of(first, "device"), "set",
                     text_of(first, "set"), "by", by_names[c->by], "axis", axis_names[c->axis],
                     "best_of_all", number(c->best), "horizon", amount(c->horizon), "searches",
                     runs, "arms", arms);
}

int compare_searches(const json_t *shows, enum compare_by by, enum compare_axis axis, json_t **out,
                     struct err *err)
{
    CLEANUP(comparison_release) struct comparison c = { .by = by, .axis = axis, .best = NAN };

    if (check_all(shows, err) != 0)
        return -1;
    c.runs = xcalloc(json_array_size(shows), sizeof(*c.runs));
    for (size_t i = 0; i < json_array_size(shows); i++) {
        c.n++;
        if (run_load(&c.runs[i], json_array_get(shows, i), axis, err) != 0)
            return -1;
        c.best = fmax(c.best, c.runs[i].final);
    }
    c.horizon = horizon_of(&c);
    for (size_t i = 0; i < c.n; i++)
        run_judge(&c.runs[i], &c);
    arms_make(&c);
    *out = comparison_json(&c);
    return 0;
}
