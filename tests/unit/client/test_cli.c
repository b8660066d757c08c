/* SPDX-License-Identifier: Apache-2.0 */
/* The program itself, run against a fake daemon: what it prints, where, and how it exits. */
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "unit/client/fake_daemon.h"
#include "unit/test.h"

enum { OUTPUT_MAX = 8 << 20, WORDS_MAX = 16 };

struct outcome {
    char *out, *err; /* owned */
    int status;      /* exit status; 128 + n for signal n */
};

struct program {
    pid_t pid;
    int out, err;
};

/* Starts `ksearch` with these words (NULL-terminated); stdout is `tty` when that is not -1. */
static struct program program_start(const char *const *words, int tty)
{
    static char *env[] = { "LC_ALL=C.UTF-8", "TERM=xterm", "PATH=/usr/bin:/bin", NULL };
    char *argv[WORDS_MAX + 2] = { KS_BIN_DIR "/ksearch" };
    posix_spawn_file_actions_t files;
    int out[2], err[2];
    struct program p;

    for (size_t i = 0; words[i]; i++)
        argv[i + 1] = (char *)words[i];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, tty >= 0 ? tty : out[1], 1);
    posix_spawn_file_actions_adddup2(&files, err[1], 2);
    assert_int_equal(posix_spawn(&p.pid, argv[0], &files, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&files);
    close(out[1]);
    close(err[1]);
    p.out = out[0];
    p.err = err[0];
    return p;
}

/* Appends what `fd` has; false at its end. */
static bool drain(int fd, struct buf *into)
{
    char chunk[4096];
    struct err err;
    ssize_t n = read(fd, chunk, sizeof(chunk));

    return n > 0 && buf_add(into, chunk, (size_t)n, &err) == 0;
}

static struct outcome program_end(struct program *p)
{
    struct buf out = { .max = OUTPUT_MAX }, err = { .max = OUTPUT_MAX };
    struct pollfd fds[2] = { { .fd = p->out, .events = POLLIN },
                             { .fd = p->err, .events = POLLIN } };
    int status;

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        assert_true(poll(fds, 2, 30000) > 0); /* a program that hangs fails the test */
        if (fds[0].revents && !drain(p->out, &out))
            fds[0].fd = -1;
        if (fds[1].revents && !drain(p->err, &err))
            fds[1].fd = -1;
    }
    close(p->out);
    close(p->err);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    return (struct outcome){ .out = buf_take(&out),
                             .err = buf_take(&err),
                             .status =
                                 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status) };
}

static void outcome_release(struct outcome *o)
{
    free(o->out);
    free(o->err);
}

/* ---- A daemon and a program that talks to it ---- */

#define TASK_LIST                                                                                  \
    "{\"tasks\":[{\"name\":\"vector_add\",\"family\":\"vector_add\",\"language\":\"c\"},"          \
    "{\"name\":\"gqa\",\"family\":\"gqa_paged_decode\",\"language\":\"c\"}]}"
#define CURVE                                                                                      \
    "[{\"evaluation\":1,\"status\":\"ok\",\"objective\":1.0,\"best\":1.0,\"arm\":\"cold\","        \
    "\"assignment\":{\"T\":1}},"                                                                   \
    "{\"evaluation\":2,\"status\":\"crashed\",\"objective\":null,\"best\":1.0,\"arm\":\"cold\","   \
    "\"assignment\":{\"T\":2}},"                                                                   \
    "{\"evaluation\":3,\"status\":\"ok\",\"objective\":2.0,\"best\":2.0,\"arm\":\"memory\","       \
    "\"assignment\":{\"T\":4}}]"
#define SHOW                                                                                       \
    "{\"id\":\"s1\",\"task\":\"gqa\",\"device\":\"cpu\",\"state\":\"done\",\"warm\":true,"         \
    "\"seed\":7,"                                                                                  \
    "\"budget\":{\"evals\":3},\"spent\":{\"evals\":3,\"time\":12.5},\"best\":{\"program\":"        \
    "\"abcdef0123456789\","                                                                        \
    "\"assignment\":{\"T\":4},\"objective\":2.0,\"ci_low\":1.9,\"ci_high\":2.1,\"roofline\":0.5}," \
    "\"curve\":" CURVE ",\"evaluations\":3,\"failures\":{\"crashed\":1},\"seeds\":[],"             \
    "\"predictions\":{\"n\":3,\"crps\":0.1}}"
#define EVENT(e)                                                                                   \
    "{\"jsonrpc\":\"2.0\",\"method\":\"search.event\",\"params\":{\"search\":\"s1\",\"event\":" e  \
    "}}\n"
#define MEASURED                                                                                   \
    EVENT("{\"seq\":3,\"type\":\"attempt\",\"evaluation\":4,\"node\":\"n2\",\"title\":\"wider "    \
          "tiles\","                                                                               \
          "\"why\":\"memory-bound\",\"assignment\":{\"T\":8},\"predicted\":{\"mean\":0.7,\"sd\":"  \
          "0.1}}")                                                                                 \
    EVENT("{\"seq\":4,\"type\":\"measured\",\"evaluation\":4,\"status\":\"ok\",\"objective\":2.5," \
          "\"best\":2.5,"                                                                          \
          "\"arm\":\"memory\",\"assignment\":{\"T\":8},\"title\":\"wider "                         \
          "tiles\",\"budget\":{\"evals\":9,\"spent\":4}}")                                         \
    EVENT("{\"seq\":5,\"type\":\"lost\",\"evaluation\":5,\"message\":\"no compiler\"}")            \
    EVENT("{\"seq\":6,\"type\":\"of-the-future\",\"x\":[1]}")
#define END(state)                                                                                 \
    "{\"jsonrpc\":\"2.0\",\"method\":\"search.end\",\"params\":{\"search\":\"s1\",\"state\":"      \
    "\"" state "\"}}\n"
#define QUERY                                                                                      \
    "{\"hits\":[{\"insight\":\"0123456789abcdef\",\"statement\":\"Split the keys across "          \
    "threads.\","                                                                                  \
    "\"technique\":\"split-k\",\"scope\":{\"family\":\"gqa\",\"dtype\":\"\"},\"condition\":"       \
    "\"batch <= 4\","                                                                              \
    "\"effect\":{\"mean\":0.350657,\"sd\":0.04},\"blind\":12,\"steered\":3,\"failures\":1,"        \
    "\"score\":0.5,"                                                                               \
    "\"why\":[\"matches "                                                                          \
    "'split'\"],\"evidence\":[{\"task\":\"gqa\",\"device\":\"cpu\",\"toolchain\":\"gcc 12\","      \
    "\"effect\":0.3,\"steered\":false,\"failure\":\"\",\"measured_at\":86400}]}],\"removed\":{"    \
    "\"device\":4,\"task\":0},"                                                                    \
    "\"took_us\":800}"

#define INSIGHT                                                                                    \
    "{\"insight\":\"0123456789abcdef\",\"statement\":\"Split the keys.\",\"technique\":"           \
    "\"split-k\",\"scope\":{\"family\":\"gqa\"},\"condition\":\"helps when heads <= 4, hurts "     \
    "above; 5 "                                                                                    \
    "against 6 "                                                                                   \
    "measurements\",\"contradicted\":true,\"state\":\"active\",\"effect\":{\"mean\":0.1,"          \
    "\"sd\":0.04,\"n\":7},\"blind\":5,\"steered\":2,\"failures\":2,\"failure_classes\":{"          \
    "\"crashed\":2},\"newest_failures\":[{\"class\":\"crashed\",\"n\":2,\"message\":\"It read "    \
    "behind the end.\"}],\"same_as\":[{\"insight\":\"fedcba98765432\",\"statement\":\"Splitting "  \
    "keys.\",\"state\":\"superseded\"}],\"cells\":[{\"cell\":\"sm_90\",\"blind\":5,\"steered\":2," \
    "\"positive\":6,\"negative\":1,\"failures\":2,\"foreign\":3,\"mean\":0.1,\"blind_mean\":null}" \
    "],"                                                                                           \
    "\"evidence\":[]}"

#define TAKEN(prompt)                                                                              \
    "{\"id\":\"s1.1\",\"kind\":\"init\",\"role\":\"planner\",\"task\":\"gqa\",\"attempt\":1,"      \
    "\"system\":\"S\",\"prefix\":\"P\",\"prompt\":\"" prompt "\",\"schema_name\":\"plan\","        \
    "\"schema\":{\"type\":\"object\",\"required\":[\"ops\"]},\"max_tokens\":0,\"lease\":null}"
#define SCHEMA_IN_TEXT "{\\\"type\\\":\\\"object\\\",\\\"required\\\":[\\\"ops\\\"]}"

static const struct fake_row rows[] = {
    { .method = "llm.take", .result = TAKEN("Plan. Schema: " SCHEMA_IN_TEXT) },
    { .method = "status", .result = "{\"state\":\"running\",\"searches\":{\"running\":1}}" },
    { .method = "task.list", .result = TASK_LIST },
    { .method = "task.show", .code = ERR_NOT_FOUND, .error = "no task 'nope'" },
    { .method = "search.list", .result = "[]" },
    { .method = "search.show", .result = SHOW },
    { .method = "search.watch",
      .result = "{\"id\":\"s1\",\"state\":\"running\"}",
      .raw = MEASURED END("done") },
    { .method = "search.start", .echo = true },
    { .method = "search.tree",
      .result =
          "{\"best\":\"n3\",\"nodes\":[{\"id\":\"n1\",\"parent\":null,\"action\":{\"title\":"
          "\"start\"}},"
          "{\"id\":\"n2\",\"parent\":\"n1\",\"state\":\"open\",\"action\":{\"title\":\"tile\"}},"
          "{\"id\":\"n3\",\"parent\":\"n2\",\"state\":\"closed\",\"evidence\":{\"status\":"
          "\"passed\","
          "\"objective_q\":693147}},{\"id\":\"n4\",\"parent\":\"n1\",\"decision\":\"A\",\"choice\":"
          "\"b\"},"
          "{\"id\":\"n5\",\"parent\":\"n5\"}]}" },
    { .method = "query", .result = QUERY },
    { .method = "insight.show", .result = INSIGHT },
    { .method = "insight.retract", .echo = true },
    { .method = "kb.verify",
      .result = "{\"digest\":\"ab\",\"problems\":[\"record 7 is damaged\"]}" },
    { .method = "eval.run",
      .result =
          "{\"status\":\"crashed\",\"message\":\"It wrote to address 0.\",\"objective\":null}" },
    { .method = "program.show",
      .result = "{\"id\":\"abc\",\"language\":\"c\",\"source\":\"int x;\\n\"}" },
    { .method = "kb.stats", .action = FAKE_DROP },
    { 0 }
};

struct stage {
    struct fake_daemon *daemon;
    char *dir;
    char path[120];
};

static int stage_setup(void **state)
{
    struct stage *s = calloc(1, sizeof(*s));

    if (s == NULL || test_dir_setup((void **)&s->dir) != 0)
        return -1;
    snprintf(s->path, sizeof(s->path), "%s/sock", s->dir);
    s->daemon = fake_daemon_start(s->path, rows);
    *state = s;
    return 0;
}

static int stage_teardown(void **state)
{
    struct stage *s = *state;

    fake_daemon_stop(s->daemon);
    test_dir_teardown((void **)&s->dir);
    free(s);
    return 0;
}

static struct program stage_start(void **state, int tty, const char *const *words)
{
    const char *all[WORDS_MAX + 1] = { "--socket", ((struct stage *)*state)->path };
    size_t n = 2;

    for (; *words && n < WORDS_MAX; words++)
        all[n++] = *words;
    all[n] = NULL;
    return program_start(all, tty);
}

static struct outcome stage_run(void **state, const char *const *words)
{
    struct program p = stage_start(state, -1, words);

    return program_end(&p);
}

#define RUN(...) stage_run(state, (const char *const[]){ __VA_ARGS__, NULL })

static void expect_part(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in:\n%s", part, text);
}

/* Fails unless `text` is exactly one JSON document equal to `want`. */
static void expect_json(const char *text, const char *want)
{
    json_auto_t *a = json_loads(text, JSON_DECODE_ANY, NULL),
                *b = json_loads(want, JSON_DECODE_ANY, NULL);

    assert_non_null(b);
    if (a == NULL || !json_equal(a, b))
        fail_msg("not %s:\n%s", want, text);
}

/* ---- Plain commands ---- */

static void json_prints_the_result_alone(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("--json", "task", "list");
    CLEANUP(outcome_release) struct outcome after = RUN("task", "list", "--json");

    assert_int_equal(o.status, 0);
    assert_string_equal(o.err, "");
    expect_json(o.out, TASK_LIST);
    assert_string_equal(after.out, o.out);
}

static void list_is_a_tidy_table(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("task", "list");

    assert_int_equal(o.status, 0);
    assert_string_equal(o.out, "TASK        FAMILY            LANGUAGE\n"
                               "vector_add  vector_add        c\n"
                               "gqa         gqa_paged_decode  c\n");
}

static void empty_list_says_so_on_stderr(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("search", "list");

    assert_int_equal(o.status, 0);
    assert_string_equal(o.out, "");
    expect_part(o.err, "no searches yet");
}

static void error_of_the_daemon_is_a_sentence_and_a_status(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("task", "show", "nope");
    CLEANUP(outcome_release) struct outcome j = RUN("--json", "task", "show", "nope");

    assert_int_equal(o.status, 3);
    assert_string_equal(o.out, "");
    assert_string_equal(o.err, "ksearch: no task 'nope'\n");
    assert_int_equal(j.status, 3);
    assert_string_equal(j.err, o.err);
    expect_json(j.out, "{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"no task 'nope'\"}}");
}

static void no_daemon_is_status_6_and_says_how_to_start_one(void **state)
{
    const char *words[] = { "status", "--socket", "/nonexistent/sock", "--json", NULL };
    struct program p = program_start(words, -1);
    CLEANUP(outcome_release) struct outcome o = program_end(&p);

    (void)state;
    assert_int_equal(o.status, 6);
    expect_part(o.err, "start one with: ksearchd");
    expect_part(o.out, "{\"error\":{\"code\":\"IO\"");
}

static void dropped_connection_is_status_6(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("kb", "stats");

    assert_int_equal(o.status, 6);
    expect_part(o.err, "closed the connection");
}

static void unknown_words_are_status_2_with_a_suggestion(void **state)
{
    CLEANUP(outcome_release) struct outcome command = RUN("serach", "list");
    CLEANUP(outcome_release) struct outcome sub = RUN("search", "wacth", "s1");
    CLEANUP(outcome_release)
    struct outcome option = RUN("--json", "search", "start", "t", "--devcie", "x");
    CLEANUP(outcome_release) struct outcome missing = RUN("task", "show");

    assert_int_equal(command.status, 2);
    expect_part(command.err, "did you mean 'search'?");
    assert_int_equal(sub.status, 2);
    expect_part(sub.err, "did you mean 'watch'?");
    assert_int_equal(option.status, 2);
    expect_part(option.err, "did you mean '--device'?");
    expect_part(option.out, "\"code\":\"INVALID\"");
    assert_int_equal(missing.status, 2);
    expect_part(missing.err, "needs T");
}

static void help_works_without_a_daemon(void **state)
{
    CLEANUP(outcome_release)
    struct outcome all = RUN("--help"), one = RUN("help", "search", "start");
    CLEANUP(outcome_release)
    struct outcome after = RUN("search", "start", "--help"), version = RUN("--version");
    CLEANUP(outcome_release) struct outcome group = RUN("search", "--help");

    assert_int_equal(all.status, 0);
    expect_part(all.out, "search compare");
    assert_int_equal(one.status, 0);
    expect_part(one.out, "--budget B");
    assert_string_equal(after.out, one.out);
    expect_part(group.out, "search tree");
    assert_int_equal(version.status, 0);
    assert_int_equal(strncmp(version.out, "ksearch ", 8), 0);
}

static void options_reach_the_daemon_as_parameters(void **state)
{
    CLEANUP(outcome_release)
    struct outcome o = RUN("--json", "search", "start", "gqa", "--device", "cpu", "--cold",
                           "--seed", "7", "--budget", "evals=40,time=5m");
    CLEANUP(outcome_release) struct outcome r = RUN("--json", "insight", "retract", "abc");

    expect_json(o.out, "{\"params\":{\"task\":\"gqa\",\"device\":\"cpu\",\"cold\":true,\"seed\":7,"
                       "\"budget\":{\"evals\":40,\"time\":300.0}}}");
    expect_json(r.out, "{\"params\":{\"insight\":\"abc\",\"reason\":\"withdrawn by hand\"}}");
}

/* ---- Richer results ---- */

static void insight_shows_cells_failures_and_what_says_the_same(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("insight", "show", "012345");

    assert_int_equal(o.status, 0);
    expect_part(o.out, "helps when heads <= 4, hurts above");
    expect_part(o.out, "contradicted: measurements of both signs");
    expect_part(o.out, "failed 2 times: crashed; the newest: It read behind the end.");
    expect_part(o.out, "same as fedcba987654 (superseded): Splitting keys.");
    expect_part(o.out, "IMPORTED");
    expect_part(o.out, "sm_90");
}

static void query_shows_effect_evidence_and_what_was_removed(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("query", "split", "the", "keys");

    assert_int_equal(o.status, 0);
    expect_part(o.out, "1. Split the keys across threads.");
    expect_part(o.out, "1.42x [1.31, 1.54], 12 blind + 3 steered, 1 failure");
    expect_part(o.out, "scope: family gqa\n");
    expect_part(o.out, "when: batch <= 4");
    expect_part(o.out, "why: matches 'split'");
    expect_part(o.out, "1.35x  gqa on cpu, gcc 12, 1970-01-02T00:00:00Z, blind");
    expect_part(o.out, "filters removed: 4 by device\n");
    expect_part(o.err, "1 hit in 0.80 ms");
}

/* The schema is printed once: in the prompt where that has it, behind it otherwise. */
static void take_prints_the_schema_once(void **state)
{
    static const struct fake_row without[] = { { .method = "llm.take", .result = TAKEN("Plan.") },
                                               { 0 } };
    struct stage *s = *state;
    CLEANUP(outcome_release) struct outcome once = RUN("llm", "take", "--as", "alice");
    CLEANUP(outcome_release) struct outcome asked = RUN("llm", "take", "--as", "a", "--schema");
    CLEANUP(outcome_release) struct outcome apart = { .out = NULL };

    assert_int_equal(once.status, 0);
    assert_string_equal(once.out, "S\n\nP\n\nPlan. Schema: "
                                  "{\"type\":\"object\",\"required\":[\"ops\"]}\n\n");
    expect_part(asked.out, "fits this schema (plan)");
    fake_daemon_stop(s->daemon);
    assert_int_equal(unlink(s->path), 0);
    s->daemon = fake_daemon_start(s->path, without);
    apart = RUN("llm", "take", "--as", "alice");
    expect_part(apart.out, "fits this schema (plan)");
    expect_part(apart.out, "\"required\"");
}

static void search_show_has_best_and_curve(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("search", "show", "s1");

    expect_part(o.out, "2.00x the baseline's speed [1.90x, 2.10x], 50 % of roofline");
    expect_part(o.out, "best so far over 3 evaluations");
    expect_part(o.out, "crashed=1");
}

static void tree_is_indented_and_draws_every_node_once(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("search", "tree", "s1");

    assert_string_equal(o.out, "n1 start\n"
                               "├─ n2 tile  (open)\n"
                               "│  └─ n3*  (closed, passed, 2.00x)\n"
                               "└─ n4 A = b\n"
                               "n5\n");
}

static void compare_counts_evaluations_to_within_5_percent(void **state)
{
    const char *dir = ((struct stage *)*state)->dir;
    CLEANUP(outcome_release) struct outcome o = RUN("search", "compare", "s1");
    CLEANUP(outcome_release) struct outcome j = RUN("--json", "search", "compare", "s1");
    CLEANUP(outcome_release) struct outcome twice = RUN("search", "compare", "s1", "s1");
    json_auto_t *doc = json_loads(j.out, 0, NULL);
    const json_t *first = json_array_get(json_object_get(doc, "searches"), 0);
    char path[160];

    expect_part(o.out, "WITHIN 5 %");
    expect_part(o.out, "gqa on cpu; best of all 2.00x; equal up to 3 evaluations");
    expect_part(o.out, "crashed=1");
    assert_int_equal(json_integer_value(json_object_get(first, "evaluations_to_within_5_percent")),
                     3);
    assert_int_equal(json_array_size(json_object_get(first, "curve")), 3);
    assert_int_equal(twice.status, 2);
    expect_part(twice.err, "search 's1' is given twice");
    snprintf(path, sizeof(path), "%s/curves.svg", dir);
    {
        CLEANUP(outcome_release) struct outcome d = RUN("search", "compare", "s1", "--svg", path);
        CLEANUP(buf_release) struct buf svg = { .max = 1 << 20 };
        struct err err;

        assert_int_equal(d.status, 0);
        assert_ok(file_read(path, &svg, &err), err);
        expect_part(buf_str(&svg), "gqa on cpu: best so far");
    }
}

static void verify_with_problems_is_status_6_and_one_document(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("--json", "kb", "verify", "--digest");

    assert_int_equal(o.status, 6);
    expect_json(o.out, "{\"digest\":\"ab\",\"problems\":[\"record 7 is damaged\"]}");
    expect_part(o.err, "1 problem found");
}

static void failed_evaluation_is_shown_and_status_9(void **state)
{
    const char *dir = ((struct stage *)*state)->dir;
    char path[200];
    struct err err;
    struct outcome o, missing;

    snprintf(path, sizeof(path), "%s/f.c", dir);
    assert_ok(file_write(path, "int x;\n", 7, 0600, &err), err);
    o = RUN("eval", "run", "--task", "t", path);
    assert_int_equal(o.status, 9);
    expect_part(o.out, "crashed\nIt wrote to address 0.");
    outcome_release(&o);
    missing = RUN("eval", "run", "--task", "t", "/nonexistent.c");
    assert_int_equal(missing.status, 3);
    outcome_release(&missing);
}

static void export_writes_source_and_record(void **state)
{
    CLEANUP(buf_release) struct buf source = { .max = 1000 };
    char dir[200], path[220];
    struct outcome o;
    struct err err;

    snprintf(dir, sizeof(dir), "%s/new/dir", ((struct stage *)*state)->dir);
    o = RUN("program", "export", "abc", "--to", dir);
    assert_int_equal(o.status, 0);
    snprintf(path, sizeof(path), "%s/candidate.c", dir);
    expect_part(o.out, path);
    assert_ok(file_read(path, &source, &err), err);
    assert_string_equal(source.data, "int x;\n");
    snprintf(path, sizeof(path), "%s/program.json", dir);
    assert_true(file_exists(path));
    outcome_release(&o);
}

/* ---- Watching ---- */

static void watch_prints_one_line_per_measurement(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("search", "watch", "s1");

    assert_int_equal(o.status, 0);
    expect_part(o.out, "#4    ok               2.50x  best    2.50x  memory       T=8\n");
    expect_part(o.out, "#5    could not be carried out: no compiler\n");
    expect_part(o.out, "best 2.00x the baseline's speed [1.90x, 2.10x]");
    assert_null(strstr(o.out, "\033["));
}

static void watch_in_json_is_one_document_a_line(void **state)
{
    CLEANUP(outcome_release) struct outcome o = RUN("--json", "search", "watch", "s1");
    size_t lines = 0;

    assert_int_equal(o.status, 0);
    for (char *line = o.out, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
        json_auto_t *doc = json_loadb(line, (size_t)(end - line), 0, NULL);

        assert_non_null(doc);
    }
    assert_int_equal(lines, 5); /* four events and the end */
}

static void watch_of_a_failed_search_is_status_9(void **state)
{
    static const struct fake_row failing[] = {
        { .method = "search.watch", .result = "{\"id\":\"s1\",\"state\":\"failed\"}" },
        { .method = "search.show",
          .result = "{\"id\":\"s1\",\"state\":\"failed\",\"reason\":\"no sandbox\",\"curve\":[]}" },
        { 0 }
    };
    struct stage *s = *state;
    char path[130];
    struct fake_daemon *d;
    struct program p;

    snprintf(path, sizeof(path), "%s/sock2", s->dir);
    d = fake_daemon_start(path, failing);
    p = program_start((const char *[]){ "search", "watch", "s1", "--socket", path, NULL }, -1);
    {
        CLEANUP(outcome_release) struct outcome o = program_end(&p);

        assert_int_equal(o.status, 9);
        expect_part(o.err, "search s1 failed: no sandbox");
    }
    fake_daemon_stop(d);
}

/* The search goes on for ever; the program must end by itself after the signal, and say what goes
 * on. */
static void interrupt_ends_the_watch_and_not_the_search(void **state)
{
    static const struct fake_row endless[] = {
        { .method = "search.watch",
          .result = "{\"id\":\"s1\",\"state\":\"running\"}",
          .raw = MEASURED },
        { .method = "search.show", .result = "{\"id\":\"s1\",\"state\":\"running\",\"curve\":[]}" },
        { 0 }
    };
    struct stage *s = *state;
    char path[130], byte;
    struct fake_daemon *d;
    struct program p;

    snprintf(path, sizeof(path), "%s/sock2", s->dir);
    d = fake_daemon_start(path, endless);
    p = program_start((const char *[]){ "search", "watch", "s1", "--socket", path, NULL }, -1);
    assert_int_equal(read(p.out, &byte, 1), 1); /* its first line has come: it watches */
    kill(p.pid, SIGINT);
    {
        CLEANUP(outcome_release) struct outcome o = program_end(&p);

        assert_int_equal(o.status, 8);
        expect_part(o.err, "search s1 goes on");
        expect_part(o.err, "ksearch search cancel s1");
    }
    fake_daemon_stop(d);
}

/* On a terminal: the block is redrawn in place, in blocks, and no line is wider than the window. */
static void watch_on_a_terminal_redraws_in_place(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), tty;
    struct winsize size = { .ws_row = 40, .ws_col = 60 };
    CLEANUP(buf_release) struct buf seen = { .max = OUTPUT_MAX };
    struct program p;

    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    tty = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(tty >= 0);
    ioctl(tty, TIOCSWINSZ, &size);
    p = stage_start(state, tty, (const char *const[]){ "search", "watch", "s1", NULL });
    close(tty);
    while (drain(master, &seen)) /* the last writer's end gives EIO */
        ;
    {
        CLEANUP(outcome_release) struct outcome o = program_end(&p);

        assert_int_equal(o.status, 0);
    }
    close(master);
    expect_part(seen.data, "gqa on cpu");
    expect_part(seen.data, "\033[J");
    expect_part(seen.data, "A\r"); /* the cursor went up */
    expect_part(seen.data, "█");
    expect_part(seen.data, "now  #4 wider tiles  (expected 2.01x)");
    expect_part(seen.data, "why  memory-bound");
    expect_part(seen.data, "1 failed: crashed=1");
    expect_part(seen.data, "go on with:");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, stage_setup, stage_teardown)
    const struct CMUnitTest tests[] = {
        T(json_prints_the_result_alone),
        T(list_is_a_tidy_table),
        T(empty_list_says_so_on_stderr),
        T(error_of_the_daemon_is_a_sentence_and_a_status),
        T(no_daemon_is_status_6_and_says_how_to_start_one),
        T(dropped_connection_is_status_6),
        T(unknown_words_are_status_2_with_a_suggestion),
        T(help_works_without_a_daemon),
        T(options_reach_the_daemon_as_parameters),
        T(insight_shows_cells_failures_and_what_says_the_same),
        T(query_shows_effect_evidence_and_what_was_removed),
        T(take_prints_the_schema_once),
        T(search_show_has_best_and_curve),
        T(tree_is_indented_and_draws_every_node_once),
        T(compare_counts_evaluations_to_within_5_percent),
        T(verify_with_problems_is_status_6_and_one_document),
        T(failed_evaluation_is_shown_and_status_9),
        T(export_writes_source_and_record),
        T(watch_prints_one_line_per_measurement),
        T(watch_in_json_is_one_document_a_line),
        T(watch_of_a_failed_search_is_status_9),
        T(interrupt_ends_the_watch_and_not_the_search),
        T(watch_on_a_terminal_redraws_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
