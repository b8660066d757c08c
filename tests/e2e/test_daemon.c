/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon as a process: starting, bad input, rivals, crashes and the end. */
#include "e2e/e2e.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#define PROBE_RECORD                                                                               \
    "{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"cpu-avx2\",\"toolchain\":\"gcc 12.2.0\","      \
    "\"features\":[\"avx2\",\"fma\"]}"

static void it_starts_answers_and_stops_cleanly(void **state)
{
    struct e2e *e = *state;
    json_auto_t *status = NULL, *tasks = NULL;
    struct e2e_conn c;
    struct stat st;

    e2e_start(e);
    assert_int_equal(stat(e->socket, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(e->data, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    c = e2e_connect(e, true);
    status = e2e_result(&c, "status", "{}");
    assert_int_equal(jsonx_int(status, "pid", 0), e->pid);
    assert_string_equal(jsonx_str(status, "socket", ""), e->socket);
    assert_string_equal(jsonx_str(status, "data", ""), e->data);
    assert_true(jsonx_int(status, "rss_bytes", 0) > 1000000);
    assert_int_equal(jsonx_int(json_object_get(status, "rpc"), "connections", 0), 1);
    tasks = e2e_result(&c, "task.list", "{}");
    assert_true(json_array_size(json_object_get(tasks, "tasks")) > 0);
    assert_int_equal(e2e_stop(e), 0);
    assert_null(e2e_line(&c));
    assert_int_equal(stat(e->socket, &st), -1);
    e2e_expect_log(e, "info ready: socket");
    e2e_expect_log(e, "info stopped");
    e2e_close(&c);
}

/* Every line gets a sentence, nothing is lost, and the daemon goes on. */
static void bad_input_gets_a_sentence(void **state)
{
    static const struct {
        const char *method, *params, *name, *words;
    } cases[] = {
        { "stat", "{}", "INVALID", "'stat' is not a method; nearest: 'status'" },
        { "status", "{\"x\":1}", "INVALID", "'x' is not a known field; allowed: none" },
        { "hello", "{\"version\":2}", "CONFLICT", "speaks protocol version 2" },
        { "hello", "{}", "INVALID", "'version' is missing" },
        { "task.show", "{}", "INVALID", "'task' is missing" },
        { "task.show", "{\"task\":7}", "INVALID", "'task' is 7" },
        { "task.show", "{\"task\":\"../etc\"}", "INVALID", "a name has" },
        { "task.show", "{\"task\":\"no_such\"}", "NOT_FOUND", "there is no task 'no_such'" },
        { "device.show", "{\"device\":\"h9000\"}", "NOT_FOUND", "device 'h9000' is not known" },
        { "device.probe", "{\"march\":\"a;b\"}", "INVALID", "'march' is \"a;b\"" },
        { "query", "{\"text\":\"x\",\"limit\":0}", "INVALID", "'limit' is 0; allowed is" },
        { "query", "{\"text\":\"x\",\"limit\":101}", "INVALID", "'limit' is 101" },
        { "query", "{\"text\":\"x\",\"limit\":1.5}", "INVALID", "'limit' is 1.5" },
        { "query", "{\"text\":\"x\",\"as_of\":\"soon\"}", "INVALID", "'as_of' is \"soon\"" },
        { "query", "{\"text\":\"x\",\"task\":\"no_such\"}", "NOT_FOUND", "task 'no_such'" },
        { "query", "{\"text\":\"x\",\"device\":\"h9000\"}", "NOT_FOUND", "device 'h9000'" },
        { "query", "{\"text\":\"a\\u0000b\"}", "INVALID", "" },
        { "insight.show", "{\"insight\":\"zz\"}", "INVALID", "" },
        { "insight.show", "{\"insight\":\"abcdef012345\"}", "NOT_FOUND", "" },
        { "insight.add", "{\"technique\":\"tiling\"}", "INVALID", "'statement' is missing" },
        { "insight.add", "{\"technique\":\"\",\"statement\":\"x\"}", "INVALID",
          "'technique' is empty" },
        { "insight.add", "{\"technique\":\"t\",\"statement\":\"x\",\"bottleneck\":\"io\"}",
          "INVALID", "one of memory, compute, latency" },
        { "insight.retract", "{\"insight\":\"abcdef012345\",\"reason\":\"r\"}", "NOT_FOUND", "" },
        { "program.show", "{\"program\":\"abc\"}", "INVALID", "'program' is 'abc'" },
        { "program.show", "{\"program\":\"abcdef\"}", "NOT_FOUND",
          "program 'abcdef' is not known" },
        { "kb.verify", "{\"digest\":\"yes\"}", "INVALID", "'digest' is \"yes\"" },
        { "eval.run", "{\"task\":\"no_such\",\"source\":\"int x;\"}", "NOT_FOUND",
          "task 'no_such'" },
    };
    struct e2e *e = *state;
    json_auto_t *stats = NULL;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        e2e_refused(&c, cases[i].method, cases[i].params, cases[i].name, cases[i].words);
    stats = e2e_result(&c, "kb.stats", "{}");
    assert_int_equal(jsonx_int(stats, "last_seq", -1), 0);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* Bytes that are no protocol at all: random ones, and a line without end. */
static void bad_bytes_do_no_harm(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c, bad;
    char *junk = xmalloc((9u << 20) + 1);
    unsigned x = 12345;
    json_t *line;

    e2e_start(e);
    for (size_t i = 0; i < 9u << 20; i++)
        junk[i] = 'a';
    junk[9u << 20] = '\0';
    bad = e2e_connect(e, false);
    e2e_send(&bad, junk);
    line = e2e_line(&bad);
    assert_string_equal(
        jsonx_str(json_object_get(json_object_get(line, "error"), "data"), "name", ""), "LIMIT");
    json_decref(line);
    assert_null(e2e_line(&bad));
    e2e_close(&bad);
    for (size_t i = 0; i < 100000; i++) {
        x = x * 1103515245u + 12345u;
        junk[i] = (char)((x >> 16) % 255 + 1);
    }
    junk[100000] = '\0';
    bad = e2e_connect(e, false);
    e2e_send(&bad, junk);
    e2e_close(&bad);
    free(junk);
    c = e2e_connect(e, true);
    json_decref(e2e_result(&c, "status", "{}"));
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

static void a_second_daemon_is_refused_and_harms_nothing(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *other_data = str_printf("%s/other", e->dir);
    CLEANUP(freep) char *other_socket = str_printf("%s/other.sock", e->dir);
    const char *same_data[] = { "--config", e->config,    "--data", e->data,
                                "--socket", other_socket, NULL };
    const char *same_socket[] = { "--config", e->config, "--data", other_data,
                                  "--socket", e->socket, NULL };
    struct e2e_conn c;

    e2e_start(e);
    assert_int_equal(e2e_run(e, same_data), 4);
    assert_false(file_exists(other_socket));
    assert_int_equal(e2e_run(e, same_socket), 4);
    e2e_expect_log(e, "a live daemon has the socket");
    c = e2e_connect(e, true);
    json_decref(e2e_result(&c, "status", "{}"));
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* kill -9: the socket's file stays behind and is replaced; what was acknowledged is there. */
static void a_killed_daemon_is_followed_without_loss(void **state)
{
    struct e2e *e = *state;
    json_auto_t *added = NULL, *again = NULL, *shown = NULL;
    struct e2e_conn c;
    CLEANUP(freep) char *show = NULL;

    e2e_start(e);
    c = e2e_connect(e, true);
    added = e2e_result(
        &c, "insight.add",
        "{\"technique\":\"tiling\",\"statement\":\"Tile the keys.\",\"requires\":\"fma,avx2\"}");
    assert_true(jsonx_bool(added, "added", 0));
    kill(e->pid, SIGKILL);
    assert_int_equal(e2e_wait(e, 10), 128 + SIGKILL);
    e2e_close(&c);
    assert_true(file_exists(e->socket));
    e2e_start(e);
    c = e2e_connect(e, true);
    again = e2e_result(
        &c, "insight.add",
        "{\"technique\":\"tiling\",\"statement\":\"Tile the keys.\",\"requires\":\"avx2, fma\"}");
    assert_false(jsonx_bool(again, "added", 1));
    assert_string_equal(jsonx_str(added, "insight", "a"), jsonx_str(again, "insight", "b"));
    show = str_printf("{\"insight\":\"%.8s\"}", jsonx_str(added, "insight", ""));
    shown = e2e_result(&c, "insight.show", show);
    assert_string_equal(jsonx_str(shown, "statement", ""), "Tile the keys.");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* Two wordings of one claim: both are kept, one stands for both, each names the other. */
static void insights_that_say_the_same_are_shown_together(void **state)
{
    static const char *const wordings[] = {
        "{\"technique\":\"tiling\",\"statement\":\"Tile the keys by 64 for the first cache.\"}",
        "{\"technique\":\"tiling\",\"statement\":\"Tiling keys by 64 for the first cache.\"}",
        "{\"technique\":\"tiling\",\"statement\":\"Tile the keys by 32 for the first cache.\"}",
    };
    struct e2e *e = *state;
    json_t *added[3], *shown[3];
    size_t superseded = 0;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    for (size_t i = 0; i < 3; i++)
        added[i] = e2e_result(&c, "insight.add", wordings[i]);
    for (size_t i = 0; i < 3; i++) {
        CLEANUP(freep)
        char *show = str_printf("{\"insight\":\"%s\"}", jsonx_str(added[i], "insight", ""));
        const json_t *same;

        shown[i] = e2e_result(&c, "insight.show", show);
        same = json_object_get(shown[i], "same_as");
        assert_int_equal(json_array_size(same), i < 2);
        if (i < 2)
            assert_string_equal(jsonx_str(json_array_get(same, 0), "insight", ""),
                                jsonx_str(added[1 - i], "insight", "-"));
        superseded += strcmp(jsonx_str(shown[i], "state", ""), "superseded") == 0;
        assert_true(json_is_object(json_object_get(shown[i], "failure_classes")));
        assert_true(json_is_null(json_object_get(shown[i], "when")));
    }
    assert_int_equal(superseded, 1);
    for (size_t i = 0; i < 3; i++) {
        json_decref(added[i]);
        json_decref(shown[i]);
    }
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

static void a_bad_start_says_why(void **state)
{
    struct e2e *e = *state;
    const char *unknown[] = { "--frobnicate", NULL }, *no_value[] = { "--data", NULL };
    const char *no_file[] = { "--config", "/nonexistent/k.conf", NULL };
    const char *check[] = { "--config", e->config, "--check-config", NULL };
    const char *file_as_data[] = { "--config", e->config, "--data", e->config,
                                   "--socket", e->socket, NULL };
    const char *run[] = { "--config", e->config, "--data", e->data, "--socket", e->socket, NULL };
    const char *dry[] = { "--dry-run", NULL };

    assert_int_equal(e2e_run(e, unknown), 2);
    e2e_expect_log(e, "ksearchd: '--frobnicate' is not an option; allowed: --config");
    assert_int_equal(e2e_run(e, no_value), 2);
    e2e_expect_log(e, "'--data' needs a value: DIR");
    assert_int_equal(e2e_run(e, dry), 2);
    assert_int_equal(e2e_run(e, no_file), 3);
    e2e_configure(e, "workers = lots\n");
    assert_int_equal(e2e_run(e, check), 2);
    e2e_expect_log(e,
                   "ksearchd.conf:2: 'workers' is 'lots'; allowed is a whole number from 1 to 64");
    e2e_configure(e, "wrokers = 1\n");
    assert_int_equal(e2e_run(e, run), 2);
    e2e_expect_log(e, "ksearchd.conf:2: 'wrokers' is not an option; allowed: command");
    e2e_configure(e, "tasks = /nonexistent/tasks\n");
    assert_true(e2e_run(e, run) != 0);
    e2e_expect_log(e, "/nonexistent/tasks");
    e2e_configure(e, "");
    assert_int_equal(e2e_run(e, check), 0);
    e2e_expect_log(e, "max_connections = 1100");
    assert_int_equal(e2e_run(e, file_as_data), 6);
    assert_false(file_exists(e->socket));
}

/* Every option of the command line has its place in the daemon's page and in its man page. */
static void its_help_and_its_pages_agree(void **state)
{
    struct e2e *e = *state;
    const char *help[] = { "--help", NULL };
    CLEANUP(buf_release)
    struct buf text = { .max = 1 << 16 }, page = { .max = 1 << 20 }, man = { .max = 1 << 20 };
    size_t n = 0;
    struct err err;

    assert_int_equal(e2e_run(e, help), 0);
    assert_ok(file_read(e->log, &text, &err), err);
    assert_ok(file_read(KS_SOURCE_DIR "/docs/daemon.md", &page, &err), err);
    assert_ok(file_read(KS_SOURCE_DIR "/docs/man/ksearchd.8", &man, &err), err);
    for (const char *at = buf_str(&text); (at = strstr(at, "\n  --")) != NULL; n++) {
        char name[40], escaped[80];
        size_t len = 0;

        at += 3;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, " "), at);
        for (const char *c = name; *c != '\0'; c++)
            len += (size_t)snprintf(escaped + len, sizeof(escaped) - len, "%s%c",
                                    *c == '-' ? "\\" : "", *c);
        if (strstr(buf_str(&page), name) == NULL || strstr(buf_str(&man), escaped) == NULL)
            fail_msg("docs/daemon.md or docs/man/ksearchd.8 lacks %s", name);
    }
    assert_true(n >= 10);
}

/* Prompts to change: once written, a daemon starts with them, and a second time is refused. */
static void its_prompts_are_written_once(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *dir = str_printf("%s/prompts", e->dir);
    CLEANUP(freep) char *option = str_printf("llm_prompts = %s\n", dir);
    CLEANUP(freep) char *code = str_printf("%s/code.md", dir);
    const char *print[] = { "--print-prompts", dir, NULL };
    const char *run[] = { "--config", e->config, "--data", e->data, "--socket", e->socket, NULL };
    struct err err;

    assert_int_equal(e2e_run(e, print), 0);
    e2e_expect_log(e, "the prompts are in");
    assert_true(file_exists(code));
    assert_int_equal(e2e_run(e, print), 4);
    e2e_expect_log(e, "is there already; nothing was written");
    e2e_configure(e, option);
    e2e_start(e);
    assert_int_equal(e2e_stop(e), 0);
    assert_ok(file_write(code, "{{actoin}}", 10, 0600, &err), err);
    assert_int_equal(e2e_run(e, run), 2);
    e2e_expect_log(e, "/code.md line 1: there is no section actoin");
}

/* The processor is measured on first need, once, however many ask meanwhile. */
static void the_processor_is_probed_once_on_first_need(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep)
    char *script = str_printf("echo x >> %s/probes; sleep 0.3; echo '" PROBE_RECORD "'", e->dir);
    CLEANUP(freep) char *count = str_printf("%s/probes", e->dir);
    CLEANUP(buf_release) struct buf probes = { .max = 100 };
    json_auto_t *device = NULL;
    struct e2e_conn c[3];
    struct err err;

    e2e_fake_harness(e, script);
    e2e_start(e);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        c[i] = e2e_connect(e, true);
        e2e_send(&c[i], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"query\",\"params\":{\"device\":"
                        "\"cpu\"}}\n");
    }
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        json_auto_t *line = e2e_line(&c[i]);

        assert_non_null(json_object_get(line, "result"));
    }
    json_decref(e2e_result(&c[0], "query", "{\"device\":\"cpu\"}"));
    device = e2e_result(&c[0], "device.show", "{\"device\":\"cpu\"}");
    assert_string_equal(jsonx_str(device, "class", ""), "cpu-avx2");
    assert_true(jsonx_bool(device, "probed", 0));
    assert_ok(file_read(count, &probes, &err), err);
    assert_int_equal(probes.len, 2); /* "x\n" */
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        e2e_close(&c[i]);
    assert_int_equal(e2e_stop(e), 0);
}

static void a_probe_that_fails_says_why_and_stores_nothing(void **state)
{
    static const struct {
        const char *script, *name, *words;
    } cases[] = {
        { "echo 'no such core' >&2; exit 3", "FAILED", "ended with status 3: no such core" },
        { "kill -9 $$", "FAILED", "was killed by signal 9" },
        { "echo '{'", "INVALID", "the probe's record is not JSON" },
        { "echo '{\"kind\":\"cpu\"}'", "FAILED", "the probe's record has no 'class'" },
        { "yes", "LIMIT", "more than the 262144 bytes" },
    };
    struct e2e *e = *state;
    json_auto_t *list = NULL;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        e2e_fake_harness(e, cases[i].script);
        e2e_refused(&c, "device.probe", "{}", cases[i].name, cases[i].words);
    }
    unlink(e->harness);
    e2e_refused(&c, "device.probe", "{}", "NOT_FOUND", "cannot start");
    list = e2e_result(&c, "device.list", "{}");
    assert_int_equal(json_array_size(json_object_get(list, "devices")), 0);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* A call that outlasts the drain is told; what it started is killed. */
static void stopping_cancels_what_does_not_end(void **state)
{
    struct e2e *e = *state;
    json_auto_t *line = NULL;
    struct e2e_conn c;
    CLEANUP(freep) char *script = str_printf("echo $$ > %s/pid; exec sleep 100", e->dir);
    CLEANUP(freep) char *path = str_printf("%s/pid", e->dir);
    CLEANUP(buf_release) struct buf text = { .max = 100 };
    struct err err;
    uint64_t pid;

    e2e_fake_harness(e, script);
    e2e_start(e);
    c = e2e_connect(e, true);
    e2e_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"device.probe\"}\n");
    for (int i = 0; i < 1000 && (!file_exists(path) || text.len == 0); i++) {
        usleep(5000);
        buf_clear(&text);
        if (file_exists(path))
            assert_ok(file_read(path, &text, &err), err);
    }
    assert_int_equal(e2e_stop(e), 0);
    line = e2e_line(&c);
    assert_string_equal(
        jsonx_str(json_object_get(json_object_get(line, "error"), "data"), "name", ""),
        "CANCELLED");
    assert_null(e2e_line(&c));
    text.data[text.len - 1] = '\0';
    assert_true(str_to_u64(text.data, &pid));
    assert_int_equal(kill((pid_t)pid, 0), -1);
    e2e_close(&c);
}

/* One evaluation runs, one waits for its turn: both are told. */
static void stopping_cancels_evaluations(void **state)
{
    struct e2e *e = *state;
    json_auto_t *first = NULL, *second = NULL, *tasks = NULL;
    CLEANUP(freep) char *line = NULL;
    struct e2e_conn c;

    e2e_fake_harness(e, "case $1 in probe) echo '" PROBE_RECORD "';; *) exec sleep 100;; esac");
    e2e_start(e);
    c = e2e_connect(e, true);
    tasks = e2e_result(&c, "task.list", "{}");
    line = str_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eval.run\","
                      "\"params\":{\"task\":\"%s\",\"source\":\"int x;\"}}\n",
                      jsonx_str(json_array_get(json_object_get(tasks, "tasks"), 0), "name", ""));
    e2e_send(&c, line);
    e2e_send(&c, line);
    for (int running = 0; running == 0; usleep(5000)) {
        json_auto_t *status = e2e_result(&c, "status", "{}");

        running = (int)jsonx_int(json_object_get(status, "evaluator"), "running", 0);
    }
    assert_int_equal(e2e_stop(e), 0);
    first = e2e_line(&c);
    second = e2e_line(&c);
    assert_string_equal(
        jsonx_str(json_object_get(json_object_get(first, "error"), "data"), "name", ""),
        "CANCELLED");
    assert_string_equal(
        jsonx_str(json_object_get(json_object_get(second, "error"), "data"), "name", ""),
        "CANCELLED");
    assert_null(e2e_line(&c));
    e2e_close(&c);
}

static void a_second_signal_ends_it_at_once(void **state)
{
    struct e2e *e = *state;
    uint64_t start;
    struct e2e_conn c;

    e2e_fake_harness(e, "exec sleep 100");
    e2e_start(e);
    c = e2e_connect(e, true);
    e2e_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"device.probe\"}\n");
    usleep(100000);
    start = clock_system()->mono_ns(clock_system());
    kill(e->pid, SIGTERM);
    usleep(100000); /* the drain waits for the call for two seconds */
    kill(e->pid, SIGTERM);
    assert_int_equal(e2e_wait(e, 10), 128 + SIGTERM);
    assert_true(clock_system()->mono_ns(clock_system()) - start < NS_PER_SEC);
    e2e_close(&c);
}

static void a_thousand_idle_clients_do_no_harm(void **state)
{
    enum { N = 1000 };
    struct rlimit lim;
    struct e2e *e = *state;
    static struct e2e_conn idle[N];
    json_auto_t *status = NULL;
    struct e2e_conn c;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
    lim.rlim_cur = MIN(lim.rlim_max, 4096);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    e2e_start(e);
    for (int i = 0; i < N; i++)
        idle[i] = e2e_connect(e, false);
    c = e2e_connect(e, true);
    for (int i = 0; i < 100; i++)
        json_decref(e2e_result(&c, "status", "{}"));
    status = e2e_result(&c, "status", "{}");
    assert_int_equal(jsonx_int(json_object_get(status, "rpc"), "connections", 0), N + 1);
    for (int i = 0; i < N; i++)
        e2e_close(&idle[i]);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, e2e_setup, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(it_starts_answers_and_stops_cleanly),
        CASE(bad_input_gets_a_sentence),
        CASE(bad_bytes_do_no_harm),
        CASE(a_second_daemon_is_refused_and_harms_nothing),
        CASE(a_killed_daemon_is_followed_without_loss),
        CASE(insights_that_say_the_same_are_shown_together),
        CASE(a_bad_start_says_why),
        CASE(its_help_and_its_pages_agree),
        CASE(its_prompts_are_written_once),
        CASE(the_processor_is_probed_once_on_first_need),
        CASE(a_probe_that_fails_says_why_and_stores_nothing),
        CASE(stopping_cancels_what_does_not_end),
        CASE(stopping_cancels_evaluations),
        CASE(a_second_signal_ends_it_at_once),
        CASE(a_thousand_idle_clients_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
