/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A search whose language model is whoever answers: its requests outlive the daemon, are open while
 * it is paused, and go when it is cancelled. The measurements are a fake harness's.
 */
#include "e2e/e2e.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#define HARNESS                                                                                    \
    "case $1 in\n"                                                                                 \
    "probe) echo '{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"cpu-avx2\",\"cores\":2,"          \
    "\"toolchain\":\"gcc 12.2.0\",\"features\":[\"avx2\",\"fma\"]}';;\n"                           \
    "*) echo '{\"format\":1,\"status\":\"ok\",\"message\":\"\",\"definition\":\"vector_add_l1\","  \
    "\"set\":\"smoke\",\"objective\":2.0,\"ci_low\":1.9,\"ci_high\":2.1,\"log_sd\":0.01,"          \
    "\"worst\":2.0,\"workloads\":[{\"name\":\"a\",\"status\":\"ok\",\"ratio\":2.0}]}';;\n"         \
    "esac\n"

enum { WAIT_S = 60, POLLS_PER_S = 20 };

static void ask_daemon(struct e2e *e, const char *method, const char *params, json_t **out)
{
    struct e2e_conn c = e2e_connect(e, true);

    *out = e2e_result(&c, method, params);
    e2e_close(&c);
}

/* The oldest open request, once there is one that is not `before` (NULL: any). Owned. */
static json_t *wait_request(struct e2e *e, const char *before)
{
    for (int i = 0; i < WAIT_S * POLLS_PER_S; i++) {
        json_t *list, *first;

        ask_daemon(e, "llm.pending", "{}", &list);
        first = json_array_get(json_object_get(list, "requests"), 0);
        if (first && (!before || strcmp(jsonx_str(first, "id", ""), before) != 0)) {
            json_incref(first);
            json_decref(list);
            return first;
        }
        json_decref(list);
        usleep(1000000 / POLLS_PER_S);
    }
    fail_msg("no request came in %d s", WAIT_S);
    return NULL;
}

static size_t n_open(struct e2e *e)
{
    json_auto_t *list = NULL;

    ask_daemon(e, "llm.pending", "{}", &list);
    return json_array_size(json_object_get(list, "requests"));
}

static json_t *take(struct e2e *e, const char *who)
{
    CLEANUP(freep) char *params = str_printf("{\"who\":\"%s\"}", who);
    json_t *request;

    ask_daemon(e, "llm.take", params, &request);
    return request;
}

static void answer(struct e2e *e, const json_t *request)
{
    CLEANUP(freep)
    char *params = str_printf("{\"id\":\"%s\",\"text\":\"no idea\"}", jsonx_str(request, "id", ""));
    json_auto_t *r = NULL;

    ask_daemon(e, "llm.answer", params, &r);
}

static void control(struct e2e *e, const char *method, const char *search)
{
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", search);
    json_auto_t *r = NULL;

    ask_daemon(e, method, params, &r);
}

static json_t *start(struct e2e *e)
{
    json_t *r;

    e2e_fake_harness(e, HARNESS);
    e2e_start(e);
    ask_daemon(e, "search.start",
               "{\"task\":\"vector_add_l1\",\"device\":\"cpu\",\"set\":\"smoke\",\"seed\":5,"
               "\"proposer\":\"queue\",\"budget\":{\"evals\":4}}",
               &r);
    return r;
}

static void expect_same(const json_t *a, const json_t *b, const char *member)
{
    assert_non_null(json_object_get(a, member));
    assert_true(json_equal(json_object_get(a, member), json_object_get(b, member)));
}

/* The daemon is killed, then stopped in order while a request is open: neither loses or changes it,
 * nor does the open request hold up the stop. */
static void requests_come_again_as_they_were(void **state)
{
    static const char *const kept[] = { "id", "hash", "attempt", "system", "prefix", "prompt" };
    struct e2e *e = *state;
    json_auto_t *seen = NULL, *first = NULL;

    json_decref(start(e));
    seen = wait_request(e, NULL);
    first = take(e, "alice");
    for (int killed = 1; killed >= 0; killed--) {
        json_auto_t *listed = NULL, *again = NULL;

        if (killed) {
            kill(e->pid, SIGKILL);
            e2e_wait(e, WAIT_S);
        } else {
            assert_int_equal(e2e_stop(e), 0);
        }
        e2e_start(e);
        listed = wait_request(e, NULL);
        assert_true(json_is_null(json_object_get(listed, "lease")));
        again = take(e, "bob"); /* nobody holds it any more */
        for (size_t i = 0; i < ARRAY_LEN(kept); i++)
            expect_same(first, again, kept[i]);
    }
    expect_same(seen, first, "id");
    assert_int_equal(e2e_stop(e), 0);
}

/* An answer that came while the search was paused is used when it goes on, after a restart too. */
static void a_paused_search_can_be_answered(void **state)
{
    struct e2e *e = *state;
    json_auto_t *search = start(e), *first = wait_request(e, NULL), *second = NULL;
    const char *id = jsonx_str(search, "id", "");

    control(e, "search.pause", id); /* answers when it is paused */
    assert_int_equal(n_open(e), 1);
    answer(e, first);
    assert_int_equal(n_open(e), 0);
    assert_int_equal(e2e_stop(e), 0);
    e2e_start(e);
    control(e, "search.resume", id);
    second = wait_request(e, jsonx_str(first, "id", ""));
    /* It was no answer of the right form: the same is asked again, as the next attempt. */
    assert_int_equal(jsonx_int(second, "attempt", 0), 2);
    expect_same(first, second, "kind");
    assert_string_not_equal(jsonx_str(first, "hash", ""), jsonx_str(second, "hash", ""));
    assert_int_equal(e2e_stop(e), 0);
}

static void a_cancelled_search_asks_nothing_more(void **state)
{
    struct e2e *e = *state;
    json_auto_t *search = start(e), *first = wait_request(e, NULL);
    struct e2e_conn c;
    CLEANUP(freep)
    char *params = str_printf("{\"id\":\"%s\",\"text\":\"x\"}", jsonx_str(first, "id", ""));

    control(e, "search.cancel", jsonx_str(search, "id", ""));
    for (int i = 0; n_open(e) > 0 && i < WAIT_S * POLLS_PER_S; i++)
        usleep(1000000 / POLLS_PER_S);
    c = e2e_connect(e, true);
    e2e_refused(&c, "llm.answer", params, "NOT_FOUND", "waits for an answer");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* ---- Answers beside an evaluation ---- */

#define HOLDING                                                                                    \
    "case $1 in probe) ;; *) while [ -e ${0%/*}/hold ]; do sleep 0.02; done;; esac\n" HARNESS

static void set_hold(struct e2e *e, bool on)
{
    CLEANUP(freep) char *path = str_printf("%s/hold", e->dir);
    struct err err;

    if (on)
        assert_ok(file_write(path, "", 0, 0600, &err), err);
    else
        assert_int_equal(unlink(path), 0);
}

static void say(struct e2e *e, const json_t *request, const char *text)
{
    json_auto_t *params = json_pack("{s:s, s:s}", "id", jsonx_str(request, "id", ""), "text", text);
    CLEANUP(freep) char *line = json_dumps(params, JSON_COMPACT);
    json_auto_t *r = NULL;

    ask_daemon(e, "llm.answer", line, &r);
}

static json_t *wait_requests(struct e2e *e, size_t n)
{
    for (int i = 0; i < WAIT_S * POLLS_PER_S; i++) {
        json_t *list;

        ask_daemon(e, "llm.pending", "{}", &list);
        if (json_array_size(json_object_get(list, "requests")) == n)
            return list;
        json_decref(list);
        usleep(1000000 / POLLS_PER_S);
    }
    fail_msg("there were never %zu requests", n);
    return NULL;
}

/* Answers that the search has stored. */
static json_int_t n_stored(struct e2e *e, const char *id)
{
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", id);
    json_auto_t *s = NULL;
    json_int_t n = 0;
    const json_t *row;
    size_t i;

    ask_daemon(e, "search.show", params, &s);
    json_array_foreach (json_object_get(s, "ledger"), i, row)
        n += jsonx_int(row, "answers", 0);
    return n;
}

static void wait_stored(struct e2e *e, const char *id, json_int_t n)
{
    for (int i = 0; n_stored(e, id) < n; i++) {
        if (i > WAIT_S * POLLS_PER_S)
            fail_msg("%lld answers were never stored", (long long)n);
        usleep(1000000 / POLLS_PER_S);
    }
}

#define NODE(id)                                                                                   \
    "{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":\"" id                   \
    "\",\"action\":{\"title\":\"do " id "\"}}}"
#define PROGRAM(text)                                                                              \
    "```c\n#include \"ks_task.h\"\nint ks_kernel(const struct ks_call *call)\n{\n    return " text \
    ";\n}\n```\n"

/* While one lane's program is measured, which may take minutes, the other one's answer arrives: it
 * is stored then and there, so that a daemon that dies meanwhile asks for it no more. */
static void an_answer_beside_an_evaluation_is_stored_at_once(void **state)
{
    struct e2e *e = *state;
    json_auto_t *search = NULL, *init = NULL, *both = NULL, *after = NULL;
    const json_t *first, *second;
    const char *id;

    e2e_fake_harness(e, HOLDING);
    e2e_start(e);
    ask_daemon(e, "search.start",
               "{\"task\":\"vector_add_l1\",\"device\":\"cpu\",\"set\":\"smoke\",\"seed\":5,"
               "\"proposer\":\"queue\",\"lanes\":2,\"budget\":{\"evals\":9}}",
               &search);
    id = jsonx_str(search, "id", "");
    init = wait_request(e, NULL);
    set_hold(e, true);
    say(e, init,
        "{\"kernel_summary\":\"\",\"open_questions\":[],\"ops\":[" NODE("a") "," NODE("b") "," NODE(
            "c") "," NODE("d") "," NODE("e") "]}");
    both = wait_requests(e, 2);
    first = json_array_get(json_object_get(both, "requests"), 0);
    second = json_array_get(json_object_get(both, "requests"), 1);
    say(e, first, PROGRAM("call == 0"));
    wait_stored(e, id, 2);
    say(e, second, PROGRAM("call == (void *)1"));
    wait_stored(e, id, 3); /* nothing can be measured before it is */
    kill(e->pid, SIGKILL);
    e2e_wait(e, WAIT_S);
    set_hold(e, false);
    e2e_start(e);
    after = wait_requests(e, 2); /* both programs are measured, and more is asked */
    for (size_t i = 0; i < 2; i++)
        assert_string_not_equal(
            jsonx_str(json_array_get(json_object_get(after, "requests"), i), "id", ""),
            jsonx_str(second, "id", ""));
    assert_int_equal(e2e_stop(e), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, e2e_setup, e2e_teardown)
    const struct CMUnitTest tests[] = {
        T(requests_come_again_as_they_were),
        T(a_paused_search_can_be_answered),
        T(a_cancelled_search_asks_nothing_more),
        T(an_answer_beside_an_evaluation_is_stored_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
