/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole searches with a language model behind an endpoint: what they cost and ask, and that a
 * daemon killed at any moment ends where an undisturbed one does, without asking twice for what it
 * had been told.
 */
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
#include "e2e/scripted_llm.h"

#define TASK "vector_add_l1"
#define OTHER "vector_add_l4"

enum {
    WAIT_S = 120,
    POLLS_PER_S = 50,
    EVALS = 10,
    EVALS_FEW = 4,
    KILLS_MAX = 400,
    STREAMING_US = 100000
};

/* ---- A daemon with a model ---- */

static struct scripted_llm *setup_model(struct e2e *e, const char *more)
{
    struct scripted_llm *m = scripted_llm_start();
    CLEANUP(freep) char *conf = str_printf(SCRIPTED_CONF "%s", scripted_llm_url(m), more);
    CLEANUP(freep)
    char *body = str_printf("LOG=%s/evals HOLD=%s/hold\n%s", e->dir, e->dir, SCRIPTED_HARNESS);

    e2e_fake_harness(e, body);
    e2e_configure(e, conf);
    return m;
}

static char *start(struct e2e *e, const char *task, const char *more)
{
    CLEANUP(freep)
    char *params = str_printf("{\"task\":\"%s\",\"device\":\"cpu\",\"set\":\"smoke\",\"seed\":7,"
                              "\"cold\":true,\"proposer\":\"openai\"%s}",
                              task, more);
    struct e2e_conn c = e2e_connect(e, true);
    json_auto_t *r = e2e_result(&c, "search.start", params);

    e2e_close(&c);
    return xstrdup(jsonx_str(r, "id", ""));
}

static json_t *ask(struct e2e *e, const char *method, const char *id)
{
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", id);
    struct e2e_conn c = e2e_connect(e, true);
    json_t *r = e2e_result(&c, method, params);

    e2e_close(&c);
    return r;
}

/* Waits until search.show says `state` (and words of the reason, NULL: any). Owned. */
static json_t *wait_state(struct e2e *e, const char *id, const char *state, const char *words)
{
    for (int i = 0; i < WAIT_S * POLLS_PER_S; i++) {
        json_t *s = ask(e, "search.show", id);
        const char *is = jsonx_str(s, "state", ""), *why = jsonx_str(s, "reason", "");

        if (strcmp(is, state) == 0 && (words == NULL || strstr(why, words) != NULL))
            return s;
        if (strcmp(is, "failed") == 0)
            fail_msg("search %s failed: %s", id, why);
        if (i == WAIT_S * POLLS_PER_S - 1)
            fail_msg("search %s is %s (%s), not %s", id, is, why, state);
        json_decref(s);
        usleep(1000000 / POLLS_PER_S);
    }
    return NULL;
}

static void die(struct e2e *e)
{
    kill(e->pid, SIGKILL);
    e2e_wait(e, WAIT_S);
}

/* ---- The end of a search ---- */

/* Members that depend on when something was done, and how fast; also in what contains them. */
static void forget_times(json_t *v)
{
    static const char *const members[] = { "id",       "created",     "overhead", "wall_s",
                                           "device_s", "seconds",     "time",     "device",
                                           "baseline", "measured_at", "with",     "without" };
    const char *key;
    json_t *item;
    size_t i;

    for (i = 0; i < ARRAY_LEN(members); i++)
        json_object_del(v, members[i]);
    json_object_foreach (v, key, item) {
        forget_times(item);
    }
    json_array_foreach (v, i, item)
        forget_times(item);
}

/* What the search is after its end, and what the knowledge base learned from it, as text. Owned. */
static char *end_of(struct e2e *e, const char *id)
{
    json_auto_t *show = ask(e, "search.show", id), *tree = ask(e, "search.tree", id);
    json_auto_t *stats = NULL, *learned = NULL, *verify = NULL, *all = NULL;
    struct e2e_conn c = e2e_connect(e, true);
    const json_t *problems;

    stats = e2e_result(&c, "kb.stats", "{}");
    learned = e2e_result(&c, "query", "{\"text\":\"vector\",\"task\":\"" TASK "\"}");
    verify = e2e_result(&c, "kb.verify", "{}");
    e2e_close(&c);
    problems = json_object_get(verify, "problems");
    if (json_array_size(problems) != 0)
        fail_msg("kb.verify: %s", json_string_value(json_array_get(problems, 0)));
    forget_times(show);
    forget_times(tree);
    forget_times(learned);
    all = json_pack("{s:O, s:O, s:O, s:O, s:O}", "show", show, "tree", tree, "facts",
                    json_object_get(stats, "facts"), "insights", json_object_get(stats, "insights"),
                    "hits", json_object_get(learned, "hits"));
    return jsonx_canonical(all);
}

/* A daemon's data of its own, so that nothing is learned from the run before. */
static void fresh_data(struct e2e *e, int k)
{
    snprintf(e->data, sizeof(e->data), "%s/d%d", e->dir, k);
}

/* The search as it goes when nobody disturbs it: its end. Owned. */
static char *undisturbed(struct e2e *e, const char *more, int k)
{
    struct scripted_llm *m = setup_model(e, "");
    CLEANUP(freep) char *id = NULL;
    char *end;

    fresh_data(e, k);
    e2e_start(e);
    id = start(e, TASK, more);
    json_decref(wait_state(e, id, "done", NULL));
    end = end_of(e, id);
    /* What the counting of the tests below rests on: no two calls ask the same. */
    assert_int_equal(scripted_llm_distinct(m), scripted_llm_requests(m));
    assert_int_equal(e2e_stop(e), 0);
    scripted_llm_stop(m);
    return end;
}

static void expect_end(struct e2e *e, const char *id, const char *want)
{
    CLEANUP(freep) char *got = NULL;
    size_t same = 0;

    json_decref(wait_state(e, id, "done", NULL));
    got = end_of(e, id);
    while (got[same] != '\0' && got[same] == want[same])
        same++;
    if (got[same] != want[same])
        fail_msg("the end differs: %.200s\ninstead of %.200s", got + MAX(same, 80u) - 80,
                 want + MAX(same, 80u) - 80);
}

/* ---- A whole search ---- */

static const json_t *row_of(const json_t *ledger, const char *stage)
{
    json_t *row;
    size_t i;

    json_array_foreach (ledger, i, row)
        if (strcmp(jsonx_str(row, "stage", ""), stage) == 0)
            return row;
    return NULL;
}

/* The ledger's rows add up to what is spent, and that to what the endpoint gave. */
static void expect_sums(const json_t *show, struct scripted_llm *m)
{
    const json_t *spent = json_object_get(show, "spent");
    long long calls = 0, in = 0, cached = 0, out = 0, n = (long long)scripted_llm_answered(m);
    double usd = 0, device = 0;
    json_t *row;
    size_t i;

    json_array_foreach (json_object_get(show, "ledger"), i, row) {
        calls += jsonx_int(row, "answers", 0);
        in += jsonx_int(row, "tokens_in", 0);
        cached += jsonx_int(row, "tokens_cached", 0);
        out += jsonx_int(row, "tokens_out", 0);
        usd += jsonx_num(row, "usd", 0);
        if (json_object_get(row, "calls") == NULL)
            device += jsonx_num(row, "seconds", 0);
    }
    assert_int_equal(calls, n);
    assert_int_equal(in, n * SCRIPTED_TOKENS_IN);
    assert_int_equal(cached, n * SCRIPTED_TOKENS_CACHED);
    assert_int_equal(out, n * SCRIPTED_TOKENS_OUT);
    assert_int_equal(jsonx_int(spent, "tokens_in", -1), in);
    assert_int_equal(jsonx_int(spent, "tokens_cached", -1), cached);
    assert_int_equal(jsonx_int(spent, "tokens_out", -1), out);
    assert_int_equal(jsonx_int(spent, "tokens", -1), in + out);
    assert_true(fabs(usd - (double)n * SCRIPTED_USD_Q / 1e6) < 1e-9);
    assert_true(fabs(usd - jsonx_num(spent, "usd", -1)) < 1e-9);
    assert_true(fabs(device - jsonx_num(spent, "device", -1)) < 1e-6);
}

static void a_search_runs_from_the_first_question_to_its_end(void **state)
{
    struct e2e *e = *state;
    struct scripted_llm *m = setup_model(e, "");
    json_auto_t *show = NULL;
    CLEANUP(freep) char *id = NULL;
    const json_t *ledger, *best;

    e2e_start(e);
    id = start(e, TASK, ",\"budget\":{\"evals\":10}");
    show = wait_state(e, id, "done", "the budget of evaluations is used up");
    assert_int_equal(jsonx_int(show, "evaluations", 0), EVALS);
    assert_int_equal(json_array_size(json_object_get(show, "curve")), EVALS);
    best = json_object_get(show, "best");
    assert_true(jsonx_num(best, "objective", 0) > 1.2);
    assert_int_equal(jsonx_int(json_object_get(show, "model"), "calls", 0),
                     scripted_llm_requests(m));
    ledger = json_object_get(show, "ledger");
    assert_int_equal(jsonx_int(row_of(ledger, "init"), "answers", 0), 1);
    assert_true(jsonx_int(row_of(ledger, "code"), "answers", 0) > 0);
    assert_true(jsonx_int(row_of(ledger, "improve"), "answers", 0) > 0);
    expect_sums(show, m);
    assert_int_equal(e2e_stop(e), 0);
    scripted_llm_stop(m);
}

/* ---- Killed ---- */

static void a_daemon_killed_while_an_answer_streams_asks_for_it_again(void **state)
{
    struct e2e *e = *state;
    const char *more = ",\"budget\":{\"evals\":4}";
    CLEANUP(freep) char *want = undisturbed(e, more, 0);

    for (size_t k = 1; k <= 3; k++) {
        struct scripted_llm *m = setup_model(e, "");
        CLEANUP(freep) char *id = NULL;

        fresh_data(e, (int)k);
        scripted_llm_drip(m, k);
        e2e_start(e);
        id = start(e, TASK, more);
        for (int i = 0; scripted_llm_requests(m) < k; i++) {
            if (i > WAIT_S * POLLS_PER_S)
                fail_msg("request %zu never came", k);
            usleep(1000000 / POLLS_PER_S);
        }
        usleep(STREAMING_US);
        die(e);
        e2e_start(e);
        expect_end(e, id, want);
        for (size_t i = 0; i < scripted_llm_distinct(m); i++)
            assert_int_equal(scripted_llm_times(m, i), i + 1 == k ? 2 : 1);
        assert_int_equal(e2e_stop(e), 0);
        scripted_llm_stop(m);
    }
}

/* What search.watch told before the daemon was killed with event k. */
struct seen {
    bool died;
    size_t answered; /* calls 1..answered have their answers stored */
};

static struct seen kill_at_event(struct e2e *e, const char *id, int k)
{
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", id);
    struct e2e_conn c = e2e_connect(e, true);
    json_t *reply = e2e_result(&c, "search.watch", params);
    struct seen seen = { false, 0 };
    int n = 0;

    json_decref(reply);
    while (!seen.died) {
        json_auto_t *line = e2e_line(&c);
        const char *method = jsonx_str(line, "method", "");
        const json_t *event = json_object_get(json_object_get(line, "params"), "event");

        if (line == NULL || strcmp(method, "search.end") == 0)
            break;
        if (strcmp(method, "search.event") != 0)
            continue;
        if (strcmp(jsonx_str(event, "type", ""), "answered") == 0)
            seen.answered = MAX(seen.answered, (size_t)jsonx_int(event, "call", 0));
        seen.died = ++n == k;
    }
    if (seen.died)
        die(e);
    e2e_close(&c);
    return seen;
}

/* With one lane there is one call at a time: the i-th different request is call i + 1. */
static void expect_nothing_asked_twice(struct scripted_llm *m, const struct seen *seen)
{
    size_t twice = 0;

    for (size_t i = 0; i < scripted_llm_distinct(m); i++) {
        size_t times = scripted_llm_times(m, i);

        if (i < seen->answered)
            assert_int_equal(times, 1);
        assert_true(times <= 2);
        twice += times - 1;
    }
    assert_true(twice <= 1);
}

static void a_daemon_killed_at_every_event_ends_in_the_same_state(void **state)
{
    struct e2e *e = *state;
    const char *more = ",\"budget\":{\"evals\":4}";
    CLEANUP(freep) char *want = undisturbed(e, more, 0);
    struct seen seen = { true, 0 };
    int killed = 0;

    for (int k = 1; seen.died && k < KILLS_MAX; k++) {
        struct scripted_llm *m = setup_model(e, "");
        CLEANUP(freep) char *id = NULL;

        fresh_data(e, k);
        e2e_start(e);
        id = start(e, TASK, more);
        seen = kill_at_event(e, id, k);
        killed += seen.died;
        if (seen.died)
            e2e_start(e); /* it goes on by itself */
        expect_end(e, id, want);
        expect_nothing_asked_twice(m, &seen);
        assert_int_equal(e2e_stop(e), 0);
        scripted_llm_stop(m);
    }
    assert_true(killed > 4 * EVALS_FEW);
}

static char *log_of(struct e2e *e)
{
    CLEANUP(freep) char *path = str_printf("%s/evals", e->dir);
    struct buf text = { .max = 1 << 20 };
    struct err err;

    if (file_read(path, &text, &err) != 0)
        buf_clear(&text);
    return buf_take(&text);
}

static size_t count(const char *text, const char *words)
{
    size_t n = 0;

    for (; (text = strstr(text, words)) != NULL; text++)
        n++;
    return n;
}

static void wait_log(struct e2e *e, const char *words, size_t n)
{
    for (int i = 0; i < WAIT_S * POLLS_PER_S; i++) {
        CLEANUP(freep) char *log = log_of(e);

        if (count(log, words) >= n)
            return;
        usleep(1000000 / POLLS_PER_S);
    }
    fail_msg("no evaluation %zu after %d s", n, WAIT_S);
}

static void hold(struct e2e *e, bool on)
{
    CLEANUP(freep) char *path = str_printf("%s/hold", e->dir);
    CLEANUP(freep) char *log = str_printf("%s/evals", e->dir);
    struct err err;

    if (on) {
        unlink(log);
        assert_ok(file_write(path, "", 0, 0600, &err), err);
    } else {
        unlink(path);
    }
}

static void a_daemon_killed_while_a_program_is_measured_measures_it_again(void **state)
{
    struct e2e *e = *state;
    const char *more = ",\"budget\":{\"evals\":4}";
    CLEANUP(freep) char *want = undisturbed(e, more, 0);

    for (size_t k = 1; k <= 3; k++) {
        struct scripted_llm *m = setup_model(e, "");
        CLEANUP(freep) char *id = NULL;
        size_t asked;

        fresh_data(e, (int)k);
        hold(e, true);
        e2e_start(e);
        id = start(e, TASK, more);
        for (size_t n = 1; n < k; n++) { /* let the ones before go */
            wait_log(e, "start", n);
            hold(e, false);
            wait_log(e, "end", n);
            CLEANUP(freep) char *path = str_printf("%s/hold", e->dir);
            struct err err;

            assert_ok(file_write(path, "", 0, 0600, &err), err);
        }
        wait_log(e, "start", k);
        asked = scripted_llm_requests(m);
        die(e);
        hold(e, false);
        e2e_start(e);
        expect_end(e, id, want);
        assert_true(scripted_llm_requests(m) >= asked);
        assert_int_equal(scripted_llm_distinct(m), scripted_llm_requests(m));
        assert_int_equal(e2e_stop(e), 0);
        scripted_llm_stop(m);
    }
}

/* ---- Trouble with the endpoint ---- */

static void a_search_waits_for_an_endpoint_that_is_down(void **state)
{
    struct e2e *e = *state;
    struct scripted_llm *m = setup_model(e, "");
    json_auto_t *show = NULL, *done = NULL;
    CLEANUP(freep) char *id = NULL;

    scripted_llm_mood(m, SCRIPTED_DOWN);
    e2e_start(e);
    id = start(e, TASK, ",\"budget\":{\"evals\":2}");
    show = wait_state(e, id, "waiting", "127.0.0.1");
    assert_non_null(strstr(jsonx_str(show, "reason", ""), "planner-1"));
    scripted_llm_mood(m, SCRIPTED_ANSWERS);
    done = wait_state(e, id, "done", NULL);
    assert_int_equal(jsonx_int(done, "evaluations", 0), 2);
    expect_sums(done, m);
    assert_int_equal(e2e_stop(e), 0);
    scripted_llm_stop(m);
}

static void a_wrong_key_pauses_a_search_until_it_is_resumed(void **state)
{
    struct e2e *e = *state;
    struct scripted_llm *m = setup_model(e, "");
    json_auto_t *paused = NULL, *done = NULL;
    CLEANUP(freep) char *id = NULL, *resume = NULL;

    scripted_llm_mood(m, SCRIPTED_REFUSES);
    e2e_start(e);
    id = start(e, TASK, ",\"budget\":{\"evals\":2}");
    paused = wait_state(e, id, "paused", "Incorrect key provided.");
    assert_true(scripted_llm_answered(m) == 0);
    scripted_llm_mood(m, SCRIPTED_ANSWERS);
    resume = str_printf("search resume %s", id);
    free(e2e_say(e, resume, NULL));
    done = wait_state(e, id, "done", NULL);
    assert_int_equal(jsonx_int(done, "evaluations", 0), 2);
    expect_sums(done, m);
    assert_int_equal(e2e_stop(e), 0);
    scripted_llm_stop(m);
}

/* ---- Several at once ---- */

/* Evaluations on one device never overlap: each start is followed by its end. */
static void expect_turns(struct e2e *e, size_t evaluations)
{
    CLEANUP(freep) char *log = log_of(e);
    size_t n = 0;

    for (char *rest = log, *line; (line = strsep(&rest, "\n")) != NULL && *line; n++) {
        if (!str_has_prefix(line, n % 2 == 0 ? "start " : "end "))
            fail_msg("line %zu of the evaluations is '%s'", n + 1, line);
    }
    assert_true(n >= 2 * evaluations);
    assert_int_equal(n % 2, 0);
}

static void two_searches_talk_at_once_and_measure_in_turns(void **state)
{
    struct e2e *e = *state;
    struct scripted_llm *m = setup_model(e, "");
    CLEANUP(freep) char *one = NULL, *two = NULL, *log = NULL;

    scripted_llm_gather(m, 2);
    e2e_start(e);
    one = start(e, TASK, ",\"budget\":{\"evals\":6}");
    two = start(e, OTHER, ",\"budget\":{\"evals\":6}");
    json_decref(wait_state(e, one, "done", NULL));
    json_decref(wait_state(e, two, "done", NULL));
    assert_true(scripted_llm_gathered(m) >= 2);
    expect_turns(e, 12);
    log = log_of(e);
    assert_true(count(log, "end " TASK) >= 6);
    assert_true(count(log, "end " OTHER) >= 6);
    assert_int_equal(e2e_stop(e), 0);
    scripted_llm_stop(m);
}

static void the_lanes_of_a_search_talk_at_once_and_measure_in_turns(void **state)
{
    struct e2e *e = *state;
    struct scripted_llm *m = setup_model(e, "");
    json_auto_t *show = NULL;
    CLEANUP(freep) char *id = NULL;

    scripted_llm_gather(m, 3);
    e2e_start(e);
    id = start(e, TASK, ",\"lanes\":3,\"budget\":{\"evals\":8}");
    show = wait_state(e, id, "done", NULL);
    assert_int_equal(scripted_llm_gathered(m), 3);
    assert_int_equal(jsonx_int(show, "evaluations", 0), 8);
    expect_turns(e, 8);
    assert_int_equal(e2e_stop(e), 0);
    scripted_llm_stop(m);
}

/* ---- Budgets ---- */

static void budgets_end_a_search_cleanly_and_the_ledger_adds_up(void **state)
{
    static const struct {
        const char *budget, *reason;
        long long evals;
        size_t asked; /* SIZE_MAX: any number */
    } rows[] = {
        { "evals=0", "the budget of evaluations is used up", 0, 0 },
        { "evals=1", "the budget of evaluations is used up", 1, 0 },
        { "tokens=0,evals=9", "the budget of tokens is used up", -1, 0 },
        { "tokens=1,evals=9", "the budget of tokens is used up", 1, 1 },
        { "usd=0,evals=9", "the budget of money is used up", -1, 0 },
        { "usd=0.000001,evals=9", "the budget of money is used up", 1, 1 },
        { "usd=0.005,evals=30", "the budget of money is used up", -1, SIZE_MAX },
    };
    struct e2e *e = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct scripted_llm *m = setup_model(e, "");
        CLEANUP(freep)
        char *args = str_printf("search start " TASK " --set smoke --device cpu --cold --seed 7 "
                                "--proposer openai --budget %s",
                                rows[i].budget);
        CLEANUP(freep) char *show_args = NULL;
        json_auto_t *started = NULL, *show = NULL, *again = NULL;

        fresh_data(e, (int)i);
        e2e_start(e);
        started = e2e_ask(e, args, 0);
        show_args = str_printf("search show %s", jsonx_str(started, "id", ""));
        show = wait_state(e, jsonx_str(started, "id", ""), "done", NULL);
        again = e2e_ask(e, show_args, 0);
        assert_string_equal(jsonx_str(again, "reason", ""), rows[i].reason);
        if (rows[i].evals >= 0)
            assert_int_equal(jsonx_int(again, "evaluations", -1), rows[i].evals);
        if (rows[i].asked != SIZE_MAX)
            assert_int_equal(scripted_llm_requests(m), rows[i].asked);
        expect_sums(again, m);
        assert_int_equal(e2e_stop(e), 0);
        scripted_llm_stop(m);
    }
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, e2e_setup, e2e_teardown)
    const struct CMUnitTest tests[] = {
        T(a_search_runs_from_the_first_question_to_its_end),
        T(a_daemon_killed_while_an_answer_streams_asks_for_it_again),
        T(a_daemon_killed_at_every_event_ends_in_the_same_state),
        T(a_daemon_killed_while_a_program_is_measured_measures_it_again),
        T(a_search_waits_for_an_endpoint_that_is_down),
        T(a_wrong_key_pauses_a_search_until_it_is_resumed),
        T(two_searches_talk_at_once_and_measure_in_turns),
        T(the_lanes_of_a_search_talk_at_once_and_measure_in_turns),
        T(budgets_end_a_search_cleanly_and_the_ledger_adds_up),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
