/* SPDX-License-Identifier: Apache-2.0 */
/* A search that holds a workload set back, through the socket and on the command line. The
 * measurements are a fake harness's: 2x on the tuning set, 1.6x on what was held back. */
#include "e2e/e2e.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "unit/daemon/t4_text.h"

enum { TEXT_ROOM = 2 << 20, WAIT_S = 60, POLLS_PER_S = 20 };

#define RESULT(set, x)                                                                             \
    "echo '{\"format\":1,\"status\":\"ok\",\"message\":\"\",\"definition\":\"vector_add_l1\","     \
    "\"set\":\"" set "\",\"objective\":" x ",\"ci_low\":" x ",\"ci_high\":" x ",\"log_sd\":0.01,"  \
    "\"worst\":" x ",\"workloads\":[{\"name\":\"a\",\"status\":\"ok\",\"ratio\":" x "}]}';;\n"

/* A job says its set. While <dir>/lose is there, a job of the hold-out set is lost, and leaves
 * <dir>/lost; while <dir>/hang is there, it hangs as long as the daemon lives, and leaves
 * <dir>/hung. */
#define HARNESS                                                                                    \
    "case $1 in\n"                                                                                 \
    "probe) echo '{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"cpu-avx2\",\"cores\":2,"          \
    "\"toolchain\":\"gcc 12.2.0\",\"features\":[\"avx2\",\"fma\"]}'; exit;;\n"                     \
    "esac\n"                                                                                       \
    "case $(cat $2/job.json) in\n"                                                                 \
    "*'\"set\": \"cpu\"'*) [ -e %s/lose ] && mv %s/lose %s/lost && exit 3\n"                       \
    "[ -e %s/hang ] && touch %s/hung && exec cat >%s/rest\n" RESULT("cpu", "1.6") "*) " RESULT(    \
        "smoke", "2.0") "esac\n"

static void begin(struct e2e *e, const char *marker)
{
    CLEANUP(freep)
    char *harness = str_printf(HARNESS, e->dir, e->dir, e->dir, e->dir, e->dir, e->dir);
    CLEANUP(freep) char *path = str_printf("%s/%s", e->dir, marker);
    struct err err;

    assert_ok(file_write(path, "", 0, 0600, &err), err);
    e2e_fake_harness(e, harness);
    e2e_start(e);
}

/* Starts a search with this budget, and options after it, that holds "cpu" back; its id, owned. */
static char *start(struct e2e *e, const char *options)
{
    CLEANUP(freep)
    char *line = str_printf("search start vector_add_l1 --device cpu --set smoke --holdout cpu "
                            "--cold --seed 3 --budget %s",
                            options);
    json_auto_t *started = e2e_ask(e, line, 0);

    return strdup(jsonx_str(started, "id", ""));
}

/* One check, of the best, that tells the gap. */
static void expect_one_check(const json_t *show, int evals)
{
    const json_t *holdout = json_object_get(show, "holdout"), *check, *row;
    const json_t *checks = json_object_get(holdout, "checks");
    const json_t *ledger = json_object_get(show, "ledger");
    double device = 0;
    size_t i, rows = 0;

    assert_int_equal(jsonx_int(show, "evaluations", 0), evals);
    assert_int_equal(json_array_size(json_object_get(show, "curve")), evals);
    assert_string_equal(jsonx_str(show, "set", ""), "smoke");
    assert_string_equal(jsonx_str(holdout, "set", ""), "cpu");
    assert_int_equal(json_array_size(checks), 1);
    check = json_array_get(checks, 0);
    if (strcmp(jsonx_str(check, "status", ""), "ok") != 0)
        fail_msg("the check is %s: %s", jsonx_str(check, "status", "?"),
                 jsonx_str(check, "message", ""));
    assert_int_equal(jsonx_int(check, "evaluation", 0),
                     jsonx_int(json_object_get(show, "best"), "evaluation", -1));
    assert_true(fabs(jsonx_num(check, "tuned", 0) - 2) < 1e-5);
    assert_true(fabs(jsonx_num(check, "objective", 0) - 1.6) < 1e-5);
    assert_true(fabs(jsonx_num(check, "gap", 0) - log(2 / 1.6)) < 1e-5);
    json_array_foreach ((json_t *)ledger, i, row) {
        device += jsonx_num(row, "seconds", 0);
        rows += strcmp(jsonx_str(row, "stage", ""), "holdout") == 0;
    }
    assert_true(rows <= 1);
    assert_true(fabs(device - jsonx_num(json_object_get(show, "spent"), "device", -1)) < 1e-9);
}

static void expect_words(struct e2e *e, const char *command, const char *id, const char *words)
{
    CLEANUP(freep) char *line = str_printf("search %s %s", command, id);
    CLEANUP(freep) char *text = e2e_say(e, line, NULL);

    if (strstr(text, words) == NULL)
        fail_msg("search %s does not say '%s': %s", command, words, text);
}

/* Its first try is lost to the infrastructure: it is made again. */
static void the_best_is_measured_on_what_was_held_back(void **state)
{
    struct e2e *e = *state;
    json_auto_t *show = NULL, *compared = NULL, *stats = NULL;
    struct e2e_conn c;

    begin(e, "lose");
    CLEANUP(freep) char *id = start(e, "evals=3");
    CLEANUP(freep) char *lost = str_printf("%s/lost", e->dir);
    CLEANUP(freep) char *compare = str_printf("search compare %s", id);
    show = e2e_search_done(e, id);
    expect_one_check(show, 3);
    assert_int_equal(access(lost, F_OK), 0);
    expect_words(e, "show", id, "held out (cpu): 1.60x where the tuning set says 2.00x");
    expect_words(e, "watch", id, "held out (cpu): 1.60x where the tuning set says 2.00x");
    expect_words(e, "compare", id, "HELD OUT");
    compared = e2e_ask(e, compare, 0);
    const json_t *arm = json_array_get(json_object_get(compared, "arms"), 0);
    assert_true(fabs(jsonx_num(json_object_get(arm, "held_out"), "geomean", 0) - 1.6) < 1e-5);
    c = e2e_connect(e, true);
    stats = e2e_result(&c, "kb.stats", "{}"); /* a check is no fact */
    assert_int_equal(jsonx_int(json_object_get(stats, "facts"), "evaluation", -1), 3);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

static void a_daemon_killed_during_a_check_does_it_again(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *hang = str_printf("%s/hang", e->dir);
    CLEANUP(freep) char *hung = str_printf("%s/hung", e->dir);
    json_auto_t *under_way = NULL, *show = NULL;

    begin(e, "hang");
    CLEANUP(freep) char *id = start(e, "evals=3");
    CLEANUP(freep) char *look = str_printf("search show %s", id);
    for (int i = 0; i < WAIT_S * POLLS_PER_S && access(hung, F_OK) != 0; i++)
        usleep(1000000 / POLLS_PER_S);
    assert_int_equal(access(hung, F_OK), 0);
    under_way = e2e_ask(e, look, 0);
    assert_string_equal(jsonx_str(under_way, "state", ""), "running");
    assert_true(jsonx_int(json_object_get(under_way, "holdout"), "checking", 0) >= 1);
    assert_int_equal(kill(e->pid, SIGKILL), 0);
    e2e_wait(e, 10);
    assert_int_equal(unlink(hang), 0);
    e2e_start(e);
    show = e2e_search_done(e, id);
    expect_one_check(show, 3);
    assert_int_equal(e2e_stop(e), 0);
}

/* The seed of a model's search is measured, and checked, without a question. */
static void a_search_with_a_model_is_checked_too(void **state)
{
    struct e2e *e = *state;
    json_auto_t *show = NULL;

    begin(e, "none");
    CLEANUP(freep) char *id = start(e, "evals=1 --proposer queue --strategy best-of-n");
    show = e2e_search_done(e, id);
    expect_one_check(show, 1);
    assert_int_equal(e2e_stop(e), 0);
}

static void what_cannot_be_held_back_gets_a_sentence(void **state)
{
    static const struct t4_synthetic space = { .tile = 2.2, .seed = 1, .scale = 1, .sample = 8 };
    CLEANUP(buf_release) struct buf text = { .max = TEXT_ROOM };
    struct e2e *e = *state;
    CLEANUP(freep) char *path = str_printf("%s/t4.json", e->dir);
    CLEANUP(freep) char *import = str_printf("task import %s --name syn --device A", path);
    struct e2e_conn c;
    struct err err;

    begin(e, "none");
    t4_synthetic_text(&space, &text);
    assert_ok(file_write(path, text.data, text.len, 0600, &err), err);
    json_decref(e2e_ask(e, import, 0));
    c = e2e_connect(e, true);
    e2e_refused(&c, "search.start", "{\"task\":\"vector_add_l1\",\"holdout\":\"huge\"}",
                "NOT_FOUND", "no workload set 'huge' to hold out");
    e2e_refused(&c, "search.start", "{\"task\":\"vector_add_l1\",\"holdout\":\"cpu\"}", "INVALID",
                "'cpu', the set that the search tunes on");
    e2e_refused(&c, "search.start",
                "{\"task\":\"vector_add_l1\",\"set\":\"smoke\",\"holdout\":\"smoke\"}", "INVALID",
                "'smoke', the set that the search tunes on");
    e2e_refused(&c, "search.start", "{\"task\":\"syn\",\"device\":\"A\",\"holdout\":\"full\"}",
                "INVALID", "'syn' is a recorded table");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, e2e_setup, e2e_teardown)
        T(the_best_is_measured_on_what_was_held_back),
        T(a_daemon_killed_during_a_check_does_it_again),
        T(a_search_with_a_model_is_checked_too),
        T(what_cannot_be_held_back_gets_a_sentence),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
