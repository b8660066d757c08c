/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing searches: arms, pairs, censored runs, fixed intervals, refusals and the picture. */
#include <float.h>
#include <math.h>

#include "base/jsonx.h"
#include "compare.h"
#include "compare_stats.h"
#include "show.h"
#include "svg_check.h"
#include "unit/test.h"

/* A search of ever better bests; 0 is a failure. */
static json_t *search(const char *id, const char *strategy, bool warm, int seed, size_t n,
                      const double *best)
{
    json_t *curve = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            curve, json_pack("{s:I, s:s, s:o, s:o, s:I, s:f, s:f}", "evaluation",
                             (json_int_t)(i + 1), "status", best[i] > 0 ? "ok" : "crashed",
                             "objective", best[i] > 0 ? json_real(best[i]) : json_null(), "best",
                             json_null(), "tokens", (json_int_t)(1000 * (i + 1) * (size_t)seed),
                             "usd", 0.01 * (double)(i + 1), "wall_s", 2.5 * (double)(i + 1)));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:s, s:o, s:{s:I, s:f, s:f, s:f}, "
                     "s:{s:i}}",
                     "id", id, "task", "gqa", "device", "cpu", "set", "tune", "proposer",
                     "llm:replay", "strategy", strategy, "warm", warm, "seed", seed, "state",
                     "done", "curve", curve, "spent", "tokens", (json_int_t)(5000 * seed), "usd",
                     0.05, "time", 12.5, "device", 10.0, "failures", "crashed", 1);
}

#define T(name) cmocka_unit_test(name)

#define CURVE(...)                                                                                 \
    sizeof((double[]){ __VA_ARGS__ }) / sizeof(double), (double[])                                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static json_t *compare(json_t *shows, enum compare_by by, enum compare_axis axis)
{
    json_t *out = NULL;
    struct err err;

    assert_ok(compare_searches(shows, by, axis, &out, &err), err);
    return out;
}

/* Two arms on seeds 1 to 3; the second is twice as good on each seed. */
static json_t *two_arms(void)
{
    return json_pack("[o, o, o, o, o, o]", search("a1", "tree", false, 1, CURVE(0, 1, 1.5, 2, 2)),
                     search("a2", "tree", false, 2, CURVE(1, 1, 1, 1, 1.1)),
                     search("a3", "tree", false, 3, CURVE(0, 0, 0, 0, 1.25)),
                     search("b1", "flat", false, 1, CURVE(0, 2, 3, 4, 4)),
                     search("b2", "flat", false, 2, CURVE(2, 2, 2, 2, 2.2)),
                     search("b3", "flat", false, 3, CURVE(0, 0, 0, 0, 2.5)));
}

static double at(const json_t *doc, size_t arm, const char *path)
{
    const json_t *v = show_at(json_array_get(json_object_get(doc, "arms"), arm), path);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void searches_of_one_kind_are_an_arm(void **state)
{
    json_auto_t *shows = two_arms(), *doc = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    const json_t *arms = json_object_get(doc, "arms");

    (void)state;
    assert_int_equal(json_array_size(arms), 2);
    assert_string_equal(jsonx_str(json_array_get(arms, 0), "arm", ""), "tree llm:replay cold");
    assert_int_equal(at(doc, 0, "n"), 3);
    assert_float_equal(at(doc, 0, "final.median"), 1.25, 1e-12);
    assert_float_equal(at(doc, 0, "final.geomean"), cbrt(2 * 1.1 * 1.25), 1e-12);
    assert_int_equal(at(doc, 0, "failures.crashed"), 3);
    assert_int_equal(at(doc, 0, "spent.tokens"), 30000);
    assert_float_equal(at(doc, 1, "spent.device_s"), 30, 1e-9);
    assert_float_equal(jsonx_num(doc, "best_of_all", 0), 4, 1e-12);
}

static void arms_that_share_seeds_are_compared_in_pairs(void **state)
{
    json_auto_t *shows = two_arms(), *doc = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);

    (void)state;
    assert_true(json_is_true(
        show_at(json_array_get(json_object_get(doc, "arms"), 1), "against_first.paired")));
    assert_int_equal(at(doc, 1, "against_first.pairs"), 3);
    assert_int_equal(at(doc, 1, "against_first.wins"), 3);
    assert_int_equal(at(doc, 1, "against_first.losses"), 0);
    assert_float_equal(at(doc, 1, "against_first.best.ratio"), 2, 1e-12);
    assert_null(show_at(json_array_get(json_object_get(doc, "arms"), 0), "against_first"));
}

static void without_common_seeds_all_meet_all(void **state)
{
    json_auto_t *shows = json_pack("[o, o, o]", search("a", "tree", true, 1, CURVE(1, 2)),
                                   search("b", "flat", true, 2, CURVE(1, 2.005)),
                                   search("c", "flat", true, 3, CURVE(1, 1)));
    json_auto_t *doc = compare(shows, COMPARE_BY_STRATEGY, COMPARE_EVALUATIONS);

    (void)state;
    assert_true(json_is_false(
        show_at(json_array_get(json_object_get(doc, "arms"), 1), "against_first.paired")));
    assert_int_equal(at(doc, 1, "against_first.pairs"), 2);
    assert_int_equal(at(doc, 1, "against_first.ties"), 1); /* within 1 % */
    assert_int_equal(at(doc, 1, "against_first.losses"), 1);
    assert_int_equal(at(doc, 1, "against_first.wins"), 0);
}

static void runs_that_never_came_near_are_said(void **state)
{
    json_auto_t *shows = two_arms(), *doc = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);

    (void)state;
    assert_int_equal(at(doc, 0, "within_5.reached"), 0);
    assert_int_equal(at(doc, 0, "within_5.censored"), 3);
    assert_true(isnan(at(doc, 0, "within_5.median")));
    assert_int_equal(at(doc, 1, "within_5.reached"), 1);
    /* one of three: the middle one never came there */
    assert_true(isnan(at(doc, 1, "within_5.median")));
    assert_int_equal(at(doc, 1, "against_first.to_within_5.left_out"), 3);
}

/* Failing first is not worth more than passing with less than the baseline's speed. */
static void area_counts_the_baseline_before_the_first_pass(void **state)
{
    json_auto_t *shows = json_pack("[o, o, o]", search("a", "s", true, 1, CURVE(0, 0, 3, 3)),
                                   search("b", "s", true, 2, CURVE(0, 0, 0.5, 0.5)),
                                   search("c", "s", true, 3, CURVE(0, 0, 0, 0)));
    json_auto_t *doc = compare(shows, COMPARE_BY_SEARCH, COMPARE_EVALUATIONS);

    (void)state;
    assert_float_equal(at(doc, 0, "area.median"), (1 + 1 + 3 + 3) / 4.0, 1e-12);
    assert_float_equal(at(doc, 1, "area.median"), 0.5, 1e-12);
    assert_true(isnan(at(doc, 2, "area.median")));
    assert_int_equal(at(doc, 2, "area.without"), 1);
    assert_int_equal(at(doc, 2, "against_first.losses"), 1);
}

/* Seed 2 pays twice as much an evaluation: at equal tokens it has done half as many. */
static void equal_tokens_are_not_equal_evaluations(void **state)
{
    json_auto_t *shows = json_pack("[o, o]", search("a", "s", true, 1, CURVE(1, 2, 3, 4)),
                                   search("b", "s", true, 2, CURVE(1, 2, 3, 4)));
    json_auto_t *doc = compare(shows, COMPARE_BY_SEED, COMPARE_TOKENS);
    json_auto_t *evals = compare(shows, COMPARE_BY_SEED, COMPARE_EVALUATIONS);

    (void)state;
    assert_float_equal(jsonx_num(doc, "horizon", 0), 4000, 0);
    assert_float_equal(at(doc, 0, "at_horizon.median"), 4, 0);
    assert_float_equal(at(doc, 1, "at_horizon.median"), 2, 0);
    assert_int_equal(at(doc, 1, "against_first.losses"), 1);
    assert_int_equal(at(doc, 1, "within_5.median"), 8000);
    assert_int_equal(at(evals, 1, "against_first.ties"), 1);
    /* 0 tokens to 1000 without a result, then 1, 2, 3 over 1000 each */
    assert_float_equal(at(doc, 0, "area.median"), (1 + 1 + 2 + 3) / 4.0, 1e-12);
}

static void a_builtin_search_spends_no_tokens(void **state)
{
    json_t *builtin = search("b", "s", true, 2, CURVE(1, 2.5));
    json_auto_t *shows = json_pack("[o, o]", search("a", "s", true, 1, CURVE(1, 2)), builtin);
    json_auto_t *doc = NULL;
    json_t *point;
    size_t i;

    (void)state;
    json_object_set_new(builtin, "proposer", json_string("builtin"));
    json_object_del(builtin, "spent");
    json_array_foreach (json_object_get(builtin, "curve"), i, point)
        json_object_del(point, "tokens");
    doc = compare(shows, COMPARE_BY_PROPOSER, COMPARE_TOKENS);
    assert_float_equal(jsonx_num(doc, "horizon", 0), 2000, 0);
    assert_int_equal(at(doc, 1, "spent.tokens"), 0);
    assert_int_equal(at(doc, 1, "against_first.wins"), 1);
}

/* Zeros in the record of a run of another program are no spending. */
static void an_imported_run_tells_no_spending(void **state)
{
    json_t *imported = search("a", "s", true, 1, CURVE(1, 2));
    json_auto_t *shows = json_pack("[o]", imported), *doc = NULL;
    json_t *out = NULL;
    struct err err;

    (void)state;
    json_object_set_new(imported, "proposer", json_string("k-search"));
    doc = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    assert_true(isnan(at(doc, 0, "spent.tokens")));
    assert_true(isnan(at(doc, 0, "spent.wall_s")));
    assert_fails(compare_searches(shows, COMPARE_BY_ARM, COMPARE_TOKENS, &out, &err), err,
                 ERR_INVALID);
}

static void what_does_not_compare_is_refused_in_a_sentence(void **state)
{
    static const char *const members[] = { "task", "device", "set" };
    json_t *out = NULL;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        json_auto_t *shows = two_arms();

        json_object_set_new(json_array_get(shows, 4), members[i], json_string("other"));
        assert_fails(compare_searches(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS, &out, &err), err,
                     ERR_INVALID);
        assert_non_null(strstr(err.msg, "'other'"));
        assert_non_null(strstr(err.msg, members[i]));
    }
    {
        json_auto_t *shows = two_arms(), *none = json_array();

        json_object_set_new(json_array_get(shows, 1), "id", json_string("a1"));
        assert_fails(compare_searches(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS, &out, &err), err,
                     ERR_INVALID);
        assert_non_null(strstr(err.msg, "twice"));
        assert_fails(compare_searches(none, COMPARE_BY_ARM, COMPARE_EVALUATIONS, &out, &err), err,
                     ERR_INVALID);
    }
    {
        json_auto_t *shows = two_arms();

        json_object_del(json_array_get(json_object_get(json_array_get(shows, 2), "curve"), 1),
                        "usd");
        assert_fails(compare_searches(shows, COMPARE_BY_ARM, COMPARE_USD, &out, &err), err,
                     ERR_INVALID);
        assert_non_null(strstr(err.msg, "a3"));
    }
}

static void names_of_options_are_checked(void **state)
{
    enum compare_axis axis;
    enum compare_by by;
    struct err err;

    (void)state;
    assert_ok(compare_by_parse(NULL, &by, &err), err);
    assert_int_equal(by, COMPARE_BY_ARM);
    assert_ok(compare_axis_parse("usd", &axis, &err), err);
    assert_int_equal(axis, COMPARE_USD);
    assert_fails(compare_by_parse("colour", &by, &err), err, ERR_INVALID);
    assert_string_equal(err.msg, "--by is 'colour'; allowed is arm, strategy, proposer, warm, seed "
                                 "or search");
    assert_fails(compare_axis_parse("", &axis, &err), err, ERR_INVALID);
}

static void intervals_are_the_same_every_time(void **state)
{
    const double v[] = { 1.1, 2.0, 1.7, 3.2, 0.9 }, w[] = { 1, 1, 1, 1 };
    struct interval a = stats_geomean_interval(v, 5), b = stats_geomean_interval(v, 5);
    struct interval ratio = stats_ratio_interval(v, 5, w, 4), one = stats_geomean_interval(v, 1);

    (void)state;
    assert_true(a.low == b.low && a.high == b.high);
    assert_true(a.low > 0.9 && a.low < stats_geomean(v, 5));
    assert_true(a.high < 3.2 && a.high > stats_geomean(v, 5));
    assert_true(ratio.low < stats_geomean(v, 5) && ratio.high > stats_geomean(v, 5));
    assert_true(isnan(one.low));
    assert_true(isnan(stats_median(v, 0)));
    assert_float_equal(stats_median(v, 4), 1.85, 1e-12);
}

static void the_picture_has_arms_axes_and_escaped_names(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 }, tokens = { .max = 1 << 20 };
    json_auto_t *shows = two_arms(), *doc = NULL, *by_tokens = NULL;
    json_t *show;
    struct err err;
    size_t i;

    (void)state;
    json_array_foreach (shows, i, show) {
        json_object_set_new(show, "task", json_string("<script>alert(\"1\")</script>"));
        if (i >= 3)
            json_object_set_new(show, "strategy", json_string("a&b\x01"));
    }
    doc = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    assert_ok(compare_svg(doc, &out, &err), err);
    expect_well_formed(buf_str(&out));
    assert_null(strstr(buf_str(&out), "<script"));
    assert_null(strstr(buf_str(&out), "href"));
    assert_null(strstr(buf_str(&out), "url("));
    assert_non_null(strstr(buf_str(&out), "a&amp;b?"));
    assert_non_null(strstr(buf_str(&out), "<polygon class=\"band f1\""));
    assert_non_null(strstr(buf_str(&out), ">evaluations<"));
    assert_non_null(strstr(buf_str(&out), "prefers-color-scheme: dark"));
    by_tokens = compare(shows, COMPARE_BY_ARM, COMPARE_TOKENS);
    assert_ok(compare_svg(by_tokens, &tokens, &err), err);
    expect_well_formed(buf_str(&tokens));
    assert_non_null(strstr(buf_str(&tokens), ">tokens, in thousands<"));
}

static void a_single_search_is_a_line_and_none_that_passed_is_a_frame(void **state)
{
    CLEANUP(buf_release) struct buf one = { .max = 1 << 20 }, none = { .max = 1 << 20 };
    json_auto_t *line = json_pack("[o]", search("a", "s", true, 1, CURVE(1, 1.01)));
    json_auto_t *empty = json_pack("[o]", search("a", "s", true, 1, CURVE(0, 0)));
    json_auto_t *a = compare(line, COMPARE_BY_SEARCH, COMPARE_EVALUATIONS);
    json_auto_t *b = compare(empty, COMPARE_BY_SEARCH, COMPARE_EVALUATIONS);
    struct err err;

    (void)state;
    assert_ok(compare_svg(a, &one, &err), err);
    expect_well_formed(buf_str(&one));
    assert_null(strstr(buf_str(&one), "<polygon"));
    assert_ok(compare_svg(b, &none, &err), err);
    expect_well_formed(buf_str(&none));
    assert_non_null(strstr(buf_str(&none), "nothing passed"));
}

/* Bests from another program: scales stay finite whatever the numbers are. */
static void extreme_numbers_are_drawn(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 }, small = { .max = 600 };
    json_auto_t *shows = json_pack("[o, o]", search("a", "s", true, 1, CURVE(1e-300, 1e300)),
                                   search("b", "s", true, 2, CURVE(DBL_MIN, 1)));
    json_auto_t *doc = compare(shows, COMPARE_BY_SEARCH, COMPARE_EVALUATIONS);
    struct err err;

    (void)state;
    assert_ok(compare_svg(doc, &out, &err), err);
    expect_well_formed(buf_str(&out));
    assert_null(strstr(buf_str(&out), "nan"));
    assert_null(strstr(buf_str(&out), "inf"));
    assert_fails(compare_svg(doc, &small, &err), err, ERR_LIMIT);
}

static void hold_out(json_t *show, const char *set, int checked, double objective)
{
    json_object_set_new(show, "best", json_pack("{s:i}", "evaluation", 4));
    json_object_set_new(show, "holdout",
                        json_pack("{s:s, s:[{s:i, s:f}]}", "set", set, "checks", "evaluation",
                                  checked, "objective", objective));
}

/* Final bests on what was held back are told when all searches have one, on the same set. */
static void held_out_bests_are_told_when_all_have_one(void **state)
{
    json_auto_t *shows = two_arms(), *none = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    json_auto_t *all = NULL, *old = NULL, *other = NULL;

    (void)state;
    assert_true(isnan(at(none, 0, "held_out.geomean")));
    for (size_t i = 0; i < json_array_size(shows); i++)
        hold_out(json_array_get(shows, i), "full", 4, i < 3 ? 1.5 : 3);
    all = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    assert_float_equal(at(all, 0, "held_out.geomean"), 1.5, 1e-12);
    assert_float_equal(at(all, 1, "held_out.geomean"), 3, 1e-12);
    assert_int_equal(at(all, 1, "held_out.n"), 3);
    hold_out(json_array_get(shows, 2), "full", 3, 9); /* of an earlier best */
    old = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    assert_true(isnan(at(old, 1, "held_out.geomean")));
    hold_out(json_array_get(shows, 2), "edge", 4, 9);
    other = compare(shows, COMPARE_BY_ARM, COMPARE_EVALUATIONS);
    assert_true(isnan(at(other, 1, "held_out.geomean")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(searches_of_one_kind_are_an_arm),
        T(arms_that_share_seeds_are_compared_in_pairs),
        T(without_common_seeds_all_meet_all),
        T(runs_that_never_came_near_are_said),
        T(area_counts_the_baseline_before_the_first_pass),
        T(equal_tokens_are_not_equal_evaluations),
        T(a_builtin_search_spends_no_tokens),
        T(an_imported_run_tells_no_spending),
        T(what_does_not_compare_is_refused_in_a_sentence),
        T(names_of_options_are_checked),
        T(intervals_are_the_same_every_time),
        T(the_picture_has_arms_axes_and_escaped_names),
        T(a_single_search_is_a_line_and_none_that_passed_is_a_frame),
        T(extreme_numbers_are_drawn),
        T(held_out_bests_are_told_when_all_have_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
