/* SPDX-License-Identifier: Apache-2.0 */
/* The client library against a fake daemon. */
#include "ksearch.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "unit/client/fake_daemon.h"
#include "unit/test.h"

#define NOTE(n)                                                                                    \
    "{\"jsonrpc\":\"2.0\",\"method\":\"search.event\",\"params\":{\"search\":\"s\",\"event\":{"    \
    "\"seq\":" #n "}}}\n"
#define END                                                                                        \
    "{\"jsonrpc\":\"2.0\",\"method\":\"search.end\",\"params\":{\"search\":\"s\",\"state\":"       \
    "\"done\"}}\n"

struct talk {
    struct fake_daemon *daemon;
    struct ks *ks;
    struct ks_error error;
    char path[120];
};

static void talk_path(struct talk *t, void **state)
{
    snprintf(t->path, sizeof(t->path), "%s/sock", (const char *)*state);
}

static void talk_open(struct talk *t, void **state, const struct fake_row *rows)
{
    talk_path(t, state);
    t->daemon = fake_daemon_start(t->path, rows);
    if (ks_connect(t->path, 5000, &t->ks, &t->error) != 0)
        fail_msg("%s", t->error.message);
    ks_set_timeout(t->ks, 20000);
}

static void talk_close(struct talk *t)
{
    ks_close(t->ks);
    fake_daemon_stop(t->daemon);
}

/* Fails unless the call failed with this code and its sentence holds `part`. */
static void expect_failure(struct talk *t, const char *method, enum ks_code code, const char *part)
{
    json_t *result = NULL;

    assert_int_equal(ks_call(t->ks, method, NULL, &result, &t->error), -1);
    assert_null(result);
    if (t->error.code != code || strstr(t->error.message, part) == NULL)
        fail_msg("%s: %s", ks_code_name(t->error.code), t->error.message);
}

static void expect_status_works(struct talk *t)
{
    json_t *result = NULL;

    if (ks_call(t->ks, "status", NULL, &result, &t->error) != 0)
        fail_msg("%s", t->error.message);
    assert_true(json_is_object(result));
    json_decref(result);
}

#define STATUS_ROW                                                                                 \
    {                                                                                              \
        .method = "status", .result = "{\"state\":\"ok\"}"                                         \
    }

static void client_connects_and_calls(void **state)
{
    const struct fake_row rows[] = { STATUS_ROW, { .method = "echo", .echo = true }, { 0 } };
    json_t *params = json_pack("{s:s, s:i}", "text", "a\nb", "n", 3), *result;
    struct talk t;

    talk_open(&t, state, rows);
    assert_string_equal(json_string_value(json_object_get(ks_hello(t.ks), "program")), "ksearchd");
    assert_string_equal(ks_path(t.ks), t.path);
    assert_true(ks_fd(t.ks) >= 0);
    expect_status_works(&t);
    assert_int_equal(ks_call(t.ks, "echo", params, &result, &t.error), 0);
    assert_true(json_equal(json_object_get(result, "params"), params));
    json_decref(result);
    assert_int_equal(ks_call(t.ks, "echo", params, NULL, &t.error), 0);
    json_decref(params);
    talk_close(&t);
}

static void client_says_that_no_daemon_is_there(void **state)
{
    struct talk t;

    talk_path(&t, state);
    assert_int_equal(ks_connect(t.path, 1000, &t.ks, &t.error), -1);
    assert_int_equal(t.error.code, KS_IO);
    assert_int_equal(ks_exit_status(t.error.code), 6);
    assert_non_null(strstr(t.error.message, "start one with"));
    assert_int_equal(ks_connect("", 1000, &t.ks, &t.error), -1);
    assert_int_equal(t.error.code, KS_INVALID);
}

static void client_refuses_another_version(void **state)
{
    const struct fake_row other[] = { { .method = "hello", .result = "{\"version\":2}" }, { 0 } };
    const struct fake_row refusing[] = {
        { .method = "hello", .code = ERR_CONFLICT, .error = "too old" }, { 0 }
    };
    struct talk t;

    talk_path(&t, state);
    t.daemon = fake_daemon_start(t.path, other);
    assert_int_equal(ks_connect(t.path, 5000, &t.ks, &t.error), -1);
    assert_int_equal(t.error.code, KS_CONFLICT);
    assert_non_null(strstr(t.error.message, "version 2"));
    fake_daemon_stop(t.daemon);
    remove(t.path);
    t.daemon = fake_daemon_start(t.path, refusing);
    assert_int_equal(ks_connect(t.path, 5000, &t.ks, &t.error), -1);
    assert_int_equal(t.error.code, KS_CONFLICT);
    assert_string_equal(t.error.message, "too old");
    fake_daemon_stop(t.daemon);
}

static void client_gives_up_on_a_silent_daemon(void **state)
{
    const struct fake_row rows[] = { { .method = "hello", .action = FAKE_RAW, .raw = "" }, { 0 } };
    struct talk t;

    talk_path(&t, state);
    t.daemon = fake_daemon_start(t.path, rows);
    assert_int_equal(ks_connect(t.path, 50, &t.ks, &t.error), -1);
    assert_int_equal(t.error.code, KS_IO);
    assert_non_null(strstr(t.error.message, "in time"));
    fake_daemon_stop(t.daemon);
}

static void errors_map_to_codes_and_exit_statuses(void **state)
{
    static const struct {
        enum err_code sent;
        int status;
    } cases[] = { { ERR_INVALID, 2 },   { ERR_NOT_FOUND, 3 }, { ERR_CONFLICT, 4 },
                  { ERR_LIMIT, 5 },     { ERR_CORRUPT, 6 },   { ERR_UPSTREAM, 7 },
                  { ERR_CANCELLED, 8 }, { ERR_FAILED, 9 },    { ERR_REFUSED, 10 },
                  { ERR_INTERNAL, 6 } };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fake_row rows[] = {
            { .method = "m", .code = cases[i].sent, .error = "a sentence" }, STATUS_ROW, { 0 }
        };
        struct talk t;

        talk_open(&t, state, rows);
        expect_failure(&t, "m", (enum ks_code)cases[i].sent, "a sentence");
        assert_int_equal(ks_exit_status(t.error.code), cases[i].status);
        expect_status_works(&t); /* an error leaves the connection usable */
        talk_close(&t);
        remove(t.path);
    }
}

static void an_error_of_a_later_daemon_is_upstream(void **state)
{
    const struct fake_row rows[] = { { .method = "m",
                                       .action = FAKE_RAW,
                                       .raw = "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-"
                                              "32099,\"message\":\"new\",\"data\":{\"name\":"
                                              "\"NEWER\"}}}\n" },
                                     { 0 } };
    struct talk t;

    talk_open(&t, state, rows);
    expect_failure(&t, "m", KS_UPSTREAM, "new");
    talk_close(&t);
}

static void large_reply_arrives_whole(void **state)
{
    const struct fake_row rows[] = { { .method = "big", .action = FAKE_BIG, .size = 20u << 20 },
                                     { 0 } };
    struct talk t;
    json_t *result;

    talk_open(&t, state, rows);
    assert_int_equal(ks_call(t.ks, "big", NULL, &result, &t.error), 0);
    assert_int_equal(json_string_length(result), 20u << 20);
    json_decref(result);
    talk_close(&t);
}

static void reply_over_the_cap_ends_the_connection(void **state)
{
    const struct fake_row rows[] = {
        { .method = "endless", .action = FAKE_ENDLESS, .size = 80u << 20 }, { 0 }
    };
    struct talk t;

    talk_open(&t, state, rows);
    expect_failure(&t, "endless", KS_LIMIT, "longer than");
    assert_int_equal(ks_fd(t.ks), -1);
    expect_failure(&t, "status", KS_LIMIT, "longer than"); /* and it stays so */
    talk_close(&t);
}

static void request_over_the_cap_is_not_sent(void **state)
{
    const struct fake_row rows[] = { STATUS_ROW, { 0 } };
    size_t size = 9u << 20;
    char *big = malloc(size + 1);
    struct talk t;
    json_t *params;

    memset(big, 'x', size);
    big[size] = '\0';
    params = json_pack("{s:s}", "text", big);
    talk_open(&t, state, rows);
    assert_int_equal(ks_call(t.ks, "status", params, NULL, &t.error), -1);
    assert_int_equal(t.error.code, KS_LIMIT);
    expect_status_works(&t);
    ks_close(t.ks);
    assert_int_equal(fake_daemon_stop(t.daemon), 2); /* hello and the small one */
    json_decref(params);
    free(big);
}

static void dropped_connection_is_an_error_that_stays(void **state)
{
    const struct fake_row rows[] = {
        { .method = "m", .action = FAKE_DROP, .raw = "{\"jsonrpc\":\"2.0\",\"id\":2,\"res" }, { 0 }
    };
    struct talk t;

    talk_open(&t, state, rows);
    expect_failure(&t, "m", KS_IO, "in the middle of a message");
    assert_int_equal(ks_fd(t.ks), -1);
    expect_failure(&t, "m", KS_IO, "in the middle of a message");
    talk_close(&t);
}

static void garbage_from_the_daemon_is_io(void **state)
{
    static const char *const lines[] = {
        "nonsense\n", "{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":1}\n", /* never asked */
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}\n",            /* only clients ask */
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const struct fake_row rows[] = { { .method = "m", .action = FAKE_RAW, .raw = lines[i] },
                                         { 0 } };
        struct talk t;

        talk_open(&t, state, rows);
        expect_failure(&t, "m", KS_IO, "the daemon");
        talk_close(&t);
        remove(t.path);
    }
}

static void late_reply_is_dropped_and_the_next_call_works(void **state)
{
    const struct fake_row rows[] = {
        { .method = "slow", .action = FAKE_LATE, .size = 150, .result = "1" }, STATUS_ROW, { 0 }
    };
    struct talk t;

    talk_open(&t, state, rows);
    ks_set_timeout(t.ks, 20);
    expect_failure(&t, "slow", KS_IO, "in time");
    ks_set_timeout(t.ks, 20000);
    expect_status_works(&t);
    talk_close(&t);
}

static void expect_note(struct talk *t, const char *want_method, int want_seq)
{
    char *method = NULL;
    json_t *params = NULL;

    if (ks_next(t->ks, 5000, &method, &params, &t->error) != 1)
        fail_msg("no notification: %s", t->error.message);
    assert_string_equal(method, want_method);
    if (want_seq >= 0)
        assert_int_equal(
            json_integer_value(json_object_get(json_object_get(params, "event"), "seq")), want_seq);
    free(method);
    json_decref(params);
}

static void notifications_come_in_order_around_replies(void **state)
{
    const struct fake_row rows[] = {
        { .method = "search.watch",
          .result = "{\"id\":\"s\",\"state\":\"running\"}",
          .before = NOTE(0) NOTE(1),
          .raw = NOTE(2) },
        { .method = "status", .result = "{}", .before = NOTE(3), .raw = END },
        { 0 }
    };
    struct talk t;
    char *method;
    json_t *result, *params;

    talk_open(&t, state, rows);
    assert_int_equal(ks_subscribe(t.ks, "s", &result, &t.error), 0);
    assert_string_equal(json_string_value(json_object_get(result, "state")), "running");
    json_decref(result);
    expect_status_works(&t);
    for (int i = 0; i < 4; i++)
        expect_note(&t, "search.event", i);
    expect_note(&t, "search.end", -1);
    assert_int_equal(ks_next(t.ks, 0, &method, &params, &t.error), 0);
    assert_int_equal(ks_next(t.ks, 30, &method, &params, &t.error), 0);
    talk_close(&t);
}

static void notifications_before_a_break_are_still_given(void **state)
{
    const struct fake_row rows[] = { { .method = "m", .action = FAKE_DROP, .raw = NOTE(0) NOTE(1) },
                                     { 0 } };
    struct talk t;
    char *method;
    json_t *params;

    talk_open(&t, state, rows);
    expect_failure(&t, "m", KS_IO, "closed the connection");
    expect_note(&t, "search.event", 0);
    expect_note(&t, "search.event", 1);
    assert_int_equal(ks_next(t.ks, 1000, &method, &params, &t.error), -1);
    assert_int_equal(t.error.code, KS_IO);
    talk_close(&t);
}

/* The daemon writes 4 MiB without reading while the client writes 4 MiB: neither may wait for the
 * other. */
static void both_sides_can_write_at_once(void **state)
{
    const struct fake_row rows[] = {
        { .method = "status", .action = FAKE_FLOOD, .size = 4u << 20, .result = "{}" },
        { .method = "echo", .echo = true },
        { 0 }
    };
    size_t size = 4u << 20;
    char *big = malloc(size + 1);
    struct talk t;
    json_t *params, *result;

    memset(big, 'y', size);
    big[size] = '\0';
    params = json_pack("{s:s}", "text", big);
    talk_open(&t, state, rows);
    expect_status_works(&t);
    if (ks_call(t.ks, "echo", params, &result, &t.error) != 0)
        fail_msg("%s", t.error.message);
    assert_true(json_equal(json_object_get(result, "params"), params));
    json_decref(result);
    expect_note(&t, "flood", -1);
    json_decref(params);
    free(big);
    talk_close(&t);
}

static void descriptor_wakes_an_event_loop(void **state)
{
    const struct fake_row rows[] = { { .method = "search.watch", .result = "{}", .raw = NOTE(5) },
                                     { 0 } };
    struct pollfd p;
    struct talk t;
    char *method;
    json_t *params;
    int got = 0;

    talk_open(&t, state, rows);
    assert_int_equal(ks_subscribe(t.ks, "s", NULL, &t.error), 0);
    p = (struct pollfd){ .fd = ks_fd(t.ks), .events = POLLIN };
    while ((got = ks_next(t.ks, 0, &method, &params, &t.error)) == 0)
        assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(got, 1);
    free(method);
    json_decref(params);
    talk_close(&t);
}

/* The daemon's side of it is in e2e_recorded. */
static void a_file_goes_with_a_request_and_stays_the_caller_s(void **state)
{
    static const struct fake_row rows[] = { { .method = "take", .echo = true }, STATUS_ROW, { 0 } };
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    json_t *params = json_pack("{s:i}", "a", 1), *result = NULL;
    struct talk t;

    assert_true(fd >= 0);
    talk_open(&t, state, rows);
    assert_int_equal(ks_call_fd(t.ks, "take", params, fd, &result, &t.error), 0);
    assert_true(json_equal(json_object_get(result, "params"), params));
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(ks_call_fd(t.ks, "take", params, -1, NULL, &t.error), -1);
    assert_int_equal(t.error.code, KS_INVALID);
    expect_status_works(&t);
    json_decref(params);
    json_decref(result);
    close(fd);
    talk_close(&t);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
    const struct CMUnitTest tests[] = {
        T(client_connects_and_calls),
        T(client_says_that_no_daemon_is_there),
        T(client_refuses_another_version),
        T(client_gives_up_on_a_silent_daemon),
        T(errors_map_to_codes_and_exit_statuses),
        T(an_error_of_a_later_daemon_is_upstream),
        T(large_reply_arrives_whole),
        T(reply_over_the_cap_ends_the_connection),
        T(request_over_the_cap_is_not_sent),
        T(dropped_connection_is_an_error_that_stays),
        T(garbage_from_the_daemon_is_io),
        T(late_reply_is_dropped_and_the_next_call_works),
        T(notifications_come_in_order_around_replies),
        T(notifications_before_a_break_are_still_given),
        T(both_sides_can_write_at_once),
        T(descriptor_wakes_an_event_loop),
        T(a_file_goes_with_a_request_and_stays_the_caller_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
