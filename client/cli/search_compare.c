/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch search compare: searches side by side, as arms, as a table and as a picture. What the
 * numbers mean: docs/client.md, "Comparing searches".
 */
#include "cli.h"

#include <math.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "compare.h"
#include "proto/methods.h"
#include "show.h"

enum { SVG_MAX = 16 << 20 };

/* ---- Rows of text ---- */

static void set_text(json_t *row, const char *member, const char *text)
{
    json_object_set_new(row, member, json_string(text));
}

/* "2.10x", or "2.10x [1.95x, 2.31x]" where there is an interval. */
static void set_ratio(json_t *row, const char *member, const json_t *of, const char *value)
{
    const json_t *band = json_object_get(of, "interval95");
    double v = jsonx_num(of, value, NAN);
    char text[120];

    if (!isfinite(v))
        snprintf(text, sizeof(text), "-");
    else if (json_array_size(band) == 2)
        snprintf(text, sizeof(text), "%.2fx [%.2fx, %.2fx]", v,
                 json_number_value(json_array_get(band, 0)),
                 json_number_value(json_array_get(band, 1)));
    else
        snprintf(text, sizeof(text), "%.2fx", v);
    set_text(row, member, text);
}

/* "12", or "12 (1 of 3 never)", or "never". */
static void set_reached(json_t *row, const char *member, const json_t *of)
{
    long long reached = jsonx_int(of, "reached", 0), censored = jsonx_int(of, "censored", 0);
    double median = jsonx_num(of, "median", NAN);
    char text[120];
    int n = isfinite(median) ? snprintf(text, sizeof(text), "%.4g", median)
                             : snprintf(text, sizeof(text), reached ? "most never" : "never");

    if (censored > 0 && reached > 0)
        snprintf(text + n, sizeof(text) - (size_t)n, " (%lld of %lld never)", censored,
                 reached + censored);
    set_text(row, member, text);
}

static json_t *arm_row(const json_t *arm)
{
    const json_t *against = json_object_get(arm, "against_first");
    json_t *row = json_pack("{s:O, s:O, s:O, s:O}", "arm", json_object_get(arm, "arm"), "n",
                            json_object_get(arm, "n"), "spent", json_object_get(arm, "spent"),
                            "failures", json_object_get(arm, "failures"));
    char text[120];

    if (json_object_size(json_object_get(arm, "failures")) == 0)
        json_object_del(row, "failures");
    snprintf(text, sizeof(text), "%.2fx", jsonx_num(json_object_get(arm, "final"), "median", NAN));
    set_text(row, "median", json_is_number(show_at(arm, "final.median")) ? text : "-");
    set_ratio(row, "final", json_object_get(arm, "final"), "geomean");
    if (json_object_get(arm, "held_out") != NULL)
        set_ratio(row, "held_out", json_object_get(arm, "held_out"), "geomean");
    set_reached(row, "within_5", json_object_get(arm, "within_5"));
    set_reached(row, "within_10", json_object_get(arm, "within_10"));
    if (against == NULL)
        return row;
    set_ratio(row, "best", json_object_get(against, "best"), "ratio");
    set_ratio(row, "area", json_object_get(against, "area"), "ratio");
    set_ratio(row, "to", json_object_get(against, "to_within_5"), "ratio");
    snprintf(text, sizeof(text), "%lld/%lld/%lld of %lld %s", jsonx_int(against, "wins", 0),
             jsonx_int(against, "losses", 0), jsonx_int(against, "ties", 0),
             jsonx_int(against, "pairs", 0),
             jsonx_bool(against, "paired", 0) ? "pairs by seed" : "unpaired");
    set_text(row, "wins", text);
    return row;
}

static void arms_print(const json_t *arms)
{
    static const struct column results[] = { { "ARM", "arm", SHOW_TEXT },
                                             { "N", "n", SHOW_TEXT },
                                             { "MEDIAN", "median", SHOW_TEXT },
                                             { "FINAL BEST", "final", SHOW_TEXT },
                                             { "HELD OUT", "held_out", SHOW_TEXT },
                                             { "WITHIN 5 %", "within_5", SHOW_TEXT },
                                             { "WITHIN 10 %", "within_10", SHOW_TEXT },
                                             { "FAILURES", "failures", SHOW_TEXT },
                                             { "TOKENS", "spent.tokens", SHOW_TEXT },
                                             { "USD", "spent.usd", SHOW_TEXT },
                                             { "TIME", "spent.wall_s", SHOW_SECONDS },
                                             { "DEVICE", "spent.device_s", SHOW_SECONDS },
                                             { 0 } };
    static const struct column against[] = { { "AGAINST THE FIRST", "arm", SHOW_TEXT },
                                             { "BEST", "best", SHOW_TEXT },
                                             { "AREA", "area", SHOW_TEXT },
                                             { "TO WITHIN 5 %", "to", SHOW_TEXT },
                                             { "WINS/LOSSES/TIES", "wins", SHOW_TEXT },
                                             { 0 } };
    json_auto_t *rows = json_array(), *others = json_array();
    json_t *arm;
    size_t i;

    json_array_foreach ((json_t *)arms, i, arm) {
        json_t *row = arm_row(arm);

        json_array_append_new(rows, row);
        if (i > 0)
            json_array_append(others, row);
    }
    show_table(rows, NULL, results, "nothing to compare");
    if (json_array_size(others) > 0) {
        putchar('\n');
        show_table(others, NULL, against, "");
    }
}

static void searches_print(const json_t *result)
{
    static const struct column columns[] = { { "SEARCH", "id", SHOW_TEXT },
                                             { "ARM", "arm", SHOW_TEXT },
                                             { "SEED", "seed", SHOW_TEXT },
                                             { "STATE", "state", SHOW_TEXT },
                                             { "EVALS", "evaluations", SHOW_TEXT },
                                             { "WITHIN 5 %", "evaluations_to_within_5_percent",
                                               SHOW_TEXT },
                                             { "BEST", "objective", SHOW_FACTOR },
                                             { "ADOPTED", "gain.adopted", SHOW_FACTOR },
                                             { "ADDED", "gain.added", SHOW_FACTOR },
                                             { "TIME", "spent.time", SHOW_SECONDS },
                                             { 0 } };

    show_table(result, "searches", columns, "nothing to compare");
}

/* The median of an arm's curve where `x` is spent; NaN before its first point. */
static double curve_at(const json_t *curve, double x)
{
    double v = NAN;
    json_t *point;
    size_t i;

    json_array_foreach ((json_t *)curve, i, point)
        if (jsonx_num(point, "x", INFINITY) <= x)
            v = jsonx_num(point, "median", NAN);
    return v;
}

static double curve_end(const json_t *curve)
{
    size_t n = json_array_size(curve);

    return n ? jsonx_num(json_array_get(curve, n - 1), "x", 0) : 0;
}

/* Median curves of the arms, one scale across: a shorter one takes its share of the width. */
static void curves_print(const json_t *arms)
{
    size_t cols = term_cols() > 24 ? MIN(term_cols() - 12, (size_t)120) : 12;
    double longest = 0;
    json_t *arm;
    size_t i;

    json_array_foreach ((json_t *)arms, i, arm)
        longest = fmax(longest, curve_end(json_object_get(arm, "curve")));
    json_array_foreach ((json_t *)arms, i, arm) {
        const json_t *curve = json_object_get(arm, "curve");
        double end = curve_end(curve), v[120];
        size_t used = longest > 0 ? MAX((size_t)(end / longest * (double)cols), (size_t)1) : 1;
        CLEANUP(buf_release) struct buf plot = { .max = 64 << 10 };
        CLEANUP(freep) char *label = show_text_at(arm, "arm", SHOW_TEXT);

        if (json_array_size(curve) == 0)
            continue;
        for (size_t k = 0; k < used; k++)
            v[k] = curve_at(curve, end * (double)(k + 1) / (double)used);
        printf("\n%s\n", label);
        draw_plot(v, used, used, 4, &plot);
        fputs(buf_str(&plot), stdout);
    }
}

static void compare_print(const json_t *result)
{
    CLEANUP(freep) char *task = show_text_at(result, "task", SHOW_TEXT);
    CLEANUP(freep) char *device = show_text_at(result, "device", SHOW_TEXT);
    CLEANUP(freep) char *best = show_text_at(result, "best_of_all", SHOW_FACTOR);
    CLEANUP(freep) char *horizon = show_text_at(result, "horizon", SHOW_TEXT);
    CLEANUP(freep) char *axis = show_text_at(result, "axis", SHOW_TEXT);
    const json_t *arms = json_object_get(result, "arms");

    printf("%s on %s; best of all %s; equal up to %s %s\n\n", task, device, best, horizon,
           strcmp(axis, "time") == 0 ? "seconds" : axis);
    arms_print(arms);
    putchar('\n');
    searches_print(result);
    curves_print(arms);
    printf("\nWITHIN 5 %%, 10 %%: %s until that near the best of all, failures included\n"
           "FINAL BEST: geometric mean, with a 95 %% interval by resampling\n",
           strcmp(axis, "time") == 0 ? "seconds" : axis);
    if (json_object_get(json_array_get(arms, 0), "held_out") != NULL)
        printf("HELD OUT: the same of the final bests on the set that was not tuned on\n");
    if (json_array_size(arms) > 1)
        printf("BEST, AREA: best so far there, and mean best so far up to there, over the first "
               "arm's\n");
}

/* ---- The command ---- */

static int load(struct cli *cli, const json_t *ids, json_t *shows, struct err *err)
{
    json_t *id;
    size_t i;

    json_array_foreach ((json_t *)ids, i, id) {
        json_auto_t *params = json_pack("{s:O}", "search", id);
        json_t *show = NULL;

        if (cli_call(cli, METHOD_SEARCH_SHOW, params, &show, err) != 0)
            return -1;
        json_array_append_new(shows, show);
    }
    return 0;
}

static int write_svg(const json_t *result, const char *path, struct err *err)
{
    CLEANUP(buf_release) struct buf svg = { .max = SVG_MAX };

    if (compare_svg(result, &svg, err) != 0)
        return err_ctx(err, "the picture of the comparison");
    return file_write(path, svg.data, svg.len, 0644, err);
}

static int compare_run(struct cli *cli, const struct command *cmd, struct args *args,
                       struct err *err)
{
    const char *path = jsonx_str(args->local, "svg", NULL);
    json_auto_t *shows = json_array(), *result = NULL;
    enum compare_axis axis;
    enum compare_by by;

    (void)cmd;
    if (compare_by_parse(jsonx_str(args->local, "by", NULL), &by, err) != 0 ||
        compare_axis_parse(jsonx_str(args->local, "against", NULL), &axis, err) != 0 ||
        load(cli, json_object_get(args->local, "searches"), shows, err) != 0 ||
        compare_searches(shows, by, axis, &result, err) != 0)
        return -1;
    cli_show(cli, compare_print, result);
    if (path != NULL && write_svg(result, path, err) != 0)
        return -1;
    return 0;
}

static const struct pos compare_pos[] = { { "S", "searches", ROW_REQUIRED | ROW_MANY | ROW_LOCAL,
                                            "ids of searches of one task and device" },
                                          { 0 } };

static const struct opt compare_opts[] = {
    { "by", OPT_TEXT, "B", "by", ROW_LOCAL,
      "what makes an arm: arm (strategy, proposer, warm or cold; default), strategy, proposer, "
      "warm, "
      "seed or search" },
    { "against", OPT_TEXT, "X", "against", ROW_LOCAL,
      "what they are given equally much of: evaluations (default), tokens, usd or time" },
    { "svg", OPT_TEXT, "FILE", "svg", ROW_LOCAL, "also draw the curves of the arms into FILE" },
    { 0 }
};

const struct command cmd_search_compare = {
    .group = "search",
    .name = "compare",
    .summary = "Put searches side by side, as arms: best, how soon, at what cost, and curves.",
    .pos = compare_pos,
    .opts = compare_opts,
    .run = compare_run,
};
