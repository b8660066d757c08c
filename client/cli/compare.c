/* SPDX-License-Identifier: Apache-2.0 */
/* Searches as runs, runs as arms, arms against the first; see compare.h. */

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "compare_impl.h"
#include "show.h"

const char *const compare_by_names[COMPARE_BY_COUNT] = { "arm",  "strategy", "proposer",
                                                         "warm", "seed",     "search" };
const char *const compare_axis_names[COMPARE_AXIS_COUNT] = { "evaluations", "tokens", "usd",
                                                             "time" };
const double compare_within[2] = { 0.95, 0.90 };
/* What a point of a curve has of each axis, cumulative. */
static const char *const axis_members[] = { "evaluation", "tokens", "usd", "wall_s" };

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

    if (parse_name("by", name, compare_by_names, ARRAY_LEN(compare_by_names), &i, err) != 0)
        return -1;
    *out = (enum compare_by)i;
    return 0;
}

int compare_axis_parse(const char *name, enum compare_axis *out, struct err *err)
{
    size_t i;

    if (parse_name("against", name, compare_axis_names, ARRAY_LEN(compare_axis_names), &i, err) !=
        0)
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
bool run_spends_nothing(const struct run *r, enum compare_axis axis)
{
    return (axis == COMPARE_TOKENS || axis == COMPARE_USD) &&
           strcmp(text_of(r->show, "proposer"), "builtin") == 0;
}

/* A run of another program says nothing of what it spent, so that a 0 there is no 0. */
bool run_tells_spending(const struct run *r)
{
    return strcmp(text_of(r->show, "proposer"), "k-search") != 0;
}

static int run_axis(struct run *r, enum compare_axis axis, struct err *err)
{
    const json_t *curve = json_object_get(r->show, "curve");

    for (size_t i = 0; i < r->n; i++) {
        const json_t *point = json_array_get(curve, i);
        double x = axis == COMPARE_EVALUATIONS ? (double)(i + 1)
                                               : jsonx_num(point, axis_members[axis],
                                                           run_spends_nothing(r, axis) ? 0 : NAN);

        if (!isfinite(x) || x < 0 || (axis != COMPARE_EVALUATIONS && !run_tells_spending(r)))
            return err_set(err, ERR_INVALID,
                           "search '%.80s' does not tell %s for its evaluations; compare it "
                           "--against evaluations",
                           text_of(r->show, "id"), compare_axis_names[axis]);
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

/* The last check on the hold-out set, where it is of the final best. */
static double run_held_out(const json_t *show)
{
    const json_t *checks = json_object_get(json_object_get(show, "holdout"), "checks");
    size_t n = json_array_size(checks);
    const json_t *last = n > 0 ? json_array_get(checks, n - 1) : NULL;

    if (jsonx_int(last, "evaluation", 0) !=
        jsonx_int(json_object_get(show, "best"), "evaluation", -1))
        return NAN;
    return jsonx_num(last, "objective", NAN);
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
    r->held_out = run_held_out(show);
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
double run_shown(const struct run *r, double x)
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

/* The hold-out set, when all have a final best on the same one. */
static const char *common_holdout(const struct comparison *c)
{
    const char *set = jsonx_str(json_object_get(c->runs[0].show, "holdout"), "set", "");

    for (size_t i = 0; i < c->n; i++)
        if (!(c->runs[i].held_out > 0) ||
            strcmp(jsonx_str(json_object_get(c->runs[i].show, "holdout"), "set", ""), set) != 0)
            return NULL;
    return set;
}

static void run_judge(struct run *r, const struct comparison *c)
{
    r->at_horizon = run_at(r, c->horizon);
    r->area = run_area(r, c->horizon, c->axis == COMPARE_EVALUATIONS);
    r->to[0] = r->to[1] = NAN;
    for (size_t i = r->n; i > 0; i--) {
        for (size_t k = 0; k < ARRAY_LEN(compare_within); k++)
            if (r->best[i - 1] >= compare_within[k] * c->best)
                r->to[k] = r->x[i - 1];
        if (r->best[i - 1] >= compare_within[0] * c->best)
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
        snprintf(label + n, COMPARE_LABEL_MAX - n, "%s%.60s", n ? " " : "", word);
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
        snprintf(label, COMPARE_LABEL_MAX, "seed %lld", jsonx_int(r->show, "seed", 0));
        break;
    case COMPARE_BY_SEARCH:
        label_add(label, text_of(r->show, "id"));
        break;
    case COMPARE_BY_COUNT:
        break;
    }
    if (label[0] == '\0')
        snprintf(label, COMPARE_LABEL_MAX, "not said");
}

static void arms_make(struct comparison *c)
{
    c->arms = xcalloc(c->n, sizeof(*c->arms));
    for (size_t i = 0; i < c->n; i++) {
        char label[COMPARE_LABEL_MAX];
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
    c.holdout = common_holdout(&c);
    for (size_t i = 0; i < c.n; i++)
        run_judge(&c.runs[i], &c);
    arms_make(&c);
    *out = comparison_json(&c);
    return 0;
}
