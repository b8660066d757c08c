/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets by the command line: of nothing, of one, of several kinds, and with bad words. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "e2e/e2e.h"
#include "unit/daemon/t4_text.h"

enum { TEXT_ROOM = 2 << 20 };

static void begin(struct e2e *e)
{
    static const struct t4_synthetic space = { .tile = 2.2, .seed = 1, .scale = 1, .sample = 8 };
    CLEANUP(buf_release) struct buf text = { .max = TEXT_ROOM };
    CLEANUP(freep) char *path = str_printf("%s/t4.json", e->dir);
    CLEANUP(freep) char *import = str_printf("task import %s --name syn --device A", path);
    struct err err;

    t4_synthetic_text(&space, &text);
    assert_ok(file_write(path, text.data, text.len, 0600, &err), err);
    e2e_fake_harness(e, "exit 1\n"); /* values are looked up */
    e2e_start(e);
    json_decref(e2e_ask(e, import, 0));
}

/* A cold search with these options, to its end. Owned. */
static json_t *search_with(struct e2e *e, const char *options)
{
    CLEANUP(freep)
    char *command = str_printf("search start syn --device A --seed 3 --cold %s", options);
    json_auto_t *started = e2e_ask(e, command, 0);

    return e2e_search_done(e, jsonx_str(started, "id", ""));
}

static void expect_end(struct e2e *e, const char *options, long long evals, const char *reason)
{
    json_auto_t *show = search_with(e, options);
    const json_t *spent = json_object_get(show, "spent");
    double device = 0;
    json_t *row;
    size_t i;

    assert_int_equal(jsonx_int(show, "evaluations", -1), evals);
    assert_int_equal(jsonx_int(spent, "evals", -1), evals);
    assert_int_equal(json_array_size(json_object_get(show, "curve")), evals);
    assert_string_equal(jsonx_str(show, "reason", ""), reason);
    json_array_foreach (json_object_get(show, "ledger"), i, row)
        device += jsonx_num(row, "seconds", 0);
    assert_true(fabs(device - jsonx_num(spent, "device", -1)) < 1e-9);
    assert_int_equal(jsonx_int(spent, "tokens", -1), 0);
}

static void a_budget_of_nothing_ends_cleanly(void **state)
{
    struct e2e *e = *state;

    begin(e);
    expect_end(e, "--budget evals=0", 0, "the budget of evaluations is used up");
    expect_end(e, "--budget time=0", 0, "the budget of time is used up");
    expect_end(e, "--budget device=0s,evals=9", 0, "the budget of device time is used up");
    expect_end(e, "--budget evals=1", 1, "the budget of evaluations is used up");
    /* no model is asked, so nothing of these is spent */
    expect_end(e, "--budget tokens=0,usd=0,evals=5", 5, "the budget of evaluations is used up");
    assert_int_equal(e2e_stop(e), 0);
}

/* No provider is there to answer: nobody is asked. */
static void a_model_without_a_budget_is_never_asked(void **state)
{
    static const char *const rows[][2] = {
        { "tokens=0", "the budget of tokens is used up" },
        { "usd=0", "the budget of money is used up" },
        { "time=0", "the budget of time is used up" },
        { "evals=0", "the budget of evaluations is used up" },
    };
    struct e2e *e = *state;

    e2e_fake_harness(e,
                     "echo '{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"cpu-avx2\",\"cores\":2,"
                     "\"toolchain\":\"gcc 12.2.0\",\"features\":[\"avx2\",\"fma\"]}'\n");
    e2e_start(e);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(freep)
        char *start =
            str_printf("search start vector_add_l1 --set smoke --device cpu --cold --seed 3 "
                       "--proposer queue --budget %s",
                       rows[i][0]);
        json_auto_t *started = e2e_ask(e, start, 0);
        json_auto_t *show = e2e_search_done(e, jsonx_str(started, "id", ""));

        assert_string_equal(jsonx_str(show, "reason", ""), rows[i][1]);
        assert_int_equal(jsonx_int(json_object_get(show, "scores"), "n", -1), 0);
        /* stages of evaluations alone: there was no call */
        assert_string_equal(
            jsonx_str(json_array_get(json_object_get(show, "ledger"), 0), "stage", ""), "build");
        json_auto_t *pending = e2e_ask(e, "llm pending", 0);
        assert_true(json_is_array(json_object_get(pending, "requests")));
        assert_int_equal(json_array_size(json_object_get(pending, "requests")), 0);
    }
    assert_int_equal(e2e_stop(e), 0);
}

static void what_bounds_a_search_is_shown(void **state)
{
    struct e2e *e = *state;
    json_auto_t *show = NULL, *want = NULL, *aims = NULL;

    begin(e);
    show = search_with(e, "--budget evals=4,tokens=7,usd=0.25,time=1h,device=2m --stop "
                          "roofline=0.5,gain=0.25");
    want = json_pack("{s:i, s:i, s:f, s:f, s:f}", "evals", 4, "tokens", 7, "usd", 0.25, "time",
                     3600.0, "device", 120.0);
    aims = json_pack("{s:f, s:f}", "roofline", 0.5, "gain", 0.25);
    assert_true(json_equal(json_object_get(show, "budget"), want));
    assert_true(json_equal(json_object_get(show, "stop"), aims));
    assert_true(json_is_null(json_object_get(show, "scores")));
    assert_int_equal(e2e_stop(e), 0);
}

static void a_search_stops_when_little_is_expected(void **state)
{
    struct e2e *e = *state;
    json_auto_t *show = NULL;

    begin(e);
    show = search_with(e, "--budget evals=300 --stop gain=0.05");
    assert_true(jsonx_int(show, "evaluations", 0) < 300);
    assert_non_null(strstr(jsonx_str(show, "reason", ""), "expected a log gain of"));
    assert_int_equal(e2e_stop(e), 0);
}

static void bad_budgets_get_a_sentence(void **state)
{
    static const char *const bad[][2] = {
        { "{\"task\":\"syn\",\"budget\":{\"evals\":-1}}", "'evals'" },
        { "{\"task\":\"syn\",\"budget\":{\"evals\":1.5}}", "'evals'" },
        { "{\"task\":\"syn\",\"budget\":{\"tokens\":1e300}}", "'tokens'" },
        { "{\"task\":\"syn\",\"budget\":{\"usd\":-0.01}}", "'usd'" },
        { "{\"task\":\"syn\",\"budget\":{\"patience\":1}}", "'patience'" },
        { "{\"task\":\"syn\",\"budget\":[1]}", "budget" },
        { "{\"task\":\"syn\",\"stop\":{\"roofline\":1.5}}", "'roofline'" },
        { "{\"task\":\"syn\",\"stop\":{\"gain\":0}}", "'gain'" },
    };
    struct e2e *e = *state;
    struct e2e_conn c;

    begin(e);
    c = e2e_connect(e, true);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        e2e_refused(&c, "search.start", bad[i][0], "INVALID", bad[i][1]);
    e2e_refused(&c, "retune.plan", "{\"device\":\"A\",\"budget\":{\"tokens\":5}}", "INVALID",
                "asks no language model");
    e2e_refused(&c, "retune.plan", "{\"device\":\"A\",\"budget\":{\"evals\":0}}", "INVALID",
                "retune.plan measures nothing");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, e2e_setup, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_budget_of_nothing_ends_cleanly), T(a_model_without_a_budget_is_never_asked),
        T(what_bounds_a_search_is_shown),    T(a_search_stops_when_little_is_expected),
        T(bad_budgets_get_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
