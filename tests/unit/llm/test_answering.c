/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answering by hand, whole: the `ksearch` program talks to the methods llm.* on a socket, and the
 * queue behind them is asked by a search that is played here.
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "llm/provider_queue.h"
#include "llms.h"
#include "loop.h"
#include "proto/methods.h"
#include "proto/version.h"
#include "rpc/conn.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "unit/test.h"

enum { WORDS_MAX = 16, OUTPUT_MAX = 16 << 20, PAUSE_US = 1000 };

struct lab {
    char *dir, *socket, *out, *err, *in;
    struct conf conf;
    struct daemon d;
    int told;
    char *answer, *model;
    struct err failed;
};

static void hello(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_call_greet(call);
    rpc_reply(call, json_pack("{s:i, s:s}", "version", PROTO_VERSION, "program", "test"));
}

static const struct param hello_rows[] = {
    { "version", PARAM_U64, 0, 0, "", 0, 0, NULL, 0 },
    { "client", PARAM_STR, sizeof(uint64_t), 0, "", 0, 0, NULL, 0 },
    { 0 },
};
static const struct rpc_method hello_methods[] = {
    { METHOD_HELLO, hello_rows, sizeof(uint64_t) + sizeof(char *), RPC_ANY_STATE, hello, "", "",
      NULL },
    { 0 },
};
static const struct rpc_method *const groups[] = { hello_methods, rpc_llm_methods, NULL };

static int setup(void **state)
{
    struct lab *lab = xcalloc(1, sizeof(*lab));
    struct err err;
    void *dir;

    assert_int_equal(test_dir_setup(&dir), 0);
    lab->dir = dir;
    lab->socket = str_printf("%s/sock", lab->dir);
    lab->out = str_printf("%s/out", lab->dir);
    lab->err = str_printf("%s/err", lab->dir);
    lab->in = str_printf("%s/in", lab->dir);
    assert_ok(file_write(lab->in, "from stdin", 10, 0600, &err), err);
    lab->conf.llm_record = lab->conf.llm_replay_file = (char *)"";
    lab->conf.llm_models = lab->conf.llm_planner = (char *)"";
    lab->conf.llm_coder = lab->conf.llm_editor = (char *)"";
    lab->d = (struct daemon){ .conf = &lab->conf, .clock = clock_system() };
    assert_ok(loop_new(&lab->d.loop, &err), err);
    lab->d.rpc = rpc_server_new(&(struct rpc_server_options){
        .loop = lab->d.loop, .daemon = &lab->d, .groups = groups, .max_connections = 4 });
    assert_ok(llms_open(&lab->d, &lab->d.llms, &err), err);
    assert_ok(rpc_server_listen(lab->d.rpc, lab->socket, &err), err);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    struct lab *lab = *state;
    void *dir = lab->dir;

    llms_close(lab->d.llms);
    rpc_server_free(lab->d.rpc);
    loop_free(lab->d.loop);
    free(lab->socket);
    free(lab->out);
    free(lab->err);
    free(lab->in);
    free(lab->answer);
    free(lab->model);
    free(lab);
    return test_dir_teardown(&dir);
}

/* ---- The search ---- */

static void told(void *ctx, const struct llm_answer *a, const struct err *err)
{
    struct lab *lab = ctx;

    lab->told++;
    free(lab->answer);
    free(lab->model);
    lab->answer = a ? xstrdup(a->text) : NULL;
    lab->model = a ? xstrdup(a->model) : NULL;
    lab->failed = err ? *err : (struct err){ 0 };
}

static void ask(struct lab *lab, const char *id, const char *search)
{
    json_auto_t *schema = json_pack("{s:s}", "type", "object");
    struct llm_request req = { .id = id,
                               .hash = "00",
                               .role = LLM_PLANNER,
                               .kind = "plan",
                               .search = search,
                               .task = "vector_add",
                               .attempt = 1,
                               .system = "You plan.",
                               .prefix = "The task is \xc3\xa9\x01.",
                               .prompt = "What next?\n",
                               .schema = schema,
                               .schema_name = "plan" };
    struct llm_job *job;
    struct err err;
    struct llm *m = llms_find(lab->d.llms, "queue", &err);

    assert_non_null(m);
    assert_ok(m->start(m, &req, told, lab, &job, &err), err);
}

/* ---- The program ---- */

static pid_t program_start(struct lab *lab, const char *const *words)
{
    static char *env[] = { "LC_ALL=C", "TERM=dumb", NULL };
    char *argv[WORDS_MAX + 4] = { KS_BIN_DIR "/ksearch", "--socket", lab->socket };
    posix_spawn_file_actions_t files;
    pid_t pid;

    for (size_t i = 0; words[i]; i++)
        argv[i + 3] = (char *)words[i];
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, lab->in, O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, lab->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, lab->err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(posix_spawn(&pid, argv[0], &files, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

static void turn(struct lab *lab)
{
    loop_turn(lab->d.loop, false);
    usleep(PAUSE_US);
}

/* Serves until the program ends; its exit status. */
static int program_end(struct lab *lab, pid_t pid)
{
    int status;

    while (waitpid(pid, &status, WNOHANG) == 0)
        turn(lab);
    loop_turn(lab->d.loop, false);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run(struct lab *lab, const char *const *words)
{
    return program_end(lab, program_start(lab, words));
}

#define RUN(...) run(lab, (const char *const[]){ __VA_ARGS__, NULL })

static bool has(const char *path, const char *part)
{
    CLEANUP(buf_release) struct buf text = { .max = OUTPUT_MAX };
    struct err err;

    assert_ok(file_read(path, &text, &err), err);
    return strstr(buf_str(&text), part) != NULL;
}

static void expect(const char *path, const char *part)
{
    CLEANUP(buf_release) struct buf text = { .max = OUTPUT_MAX };
    struct err err;

    assert_ok(file_read(path, &text, &err), err);
    if (strstr(buf_str(&text), part) == NULL)
        fail_msg("no \"%s\" in: %.2000s", part, buf_str(&text));
}

static char *answer_file(struct lab *lab, const char *text, size_t len)
{
    char *path = str_printf("%s/answer", lab->dir);
    struct err err;

    assert_ok(file_write(path, text, len, 0600, &err), err);
    return path;
}

/* ---- Cases ---- */

static void a_request_is_listed_taken_and_answered(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *path = answer_file(lab, "{\"a\": 1}\n", 9);

    assert_int_equal(RUN("llm", "pending"), 0);
    expect(lab->err, "no request waits");
    ask(lab, "s1.1", "s1");
    assert_int_equal(RUN("llm", "pending"), 0);
    expect(lab->out, "s1.1");
    expect(lab->out, "planner");
    assert_int_equal(RUN("llm", "take", "--as", "alice", "--lease", "2h"), 0);
    /* To a file: byte by byte, whatever the locale. */
    expect(lab->out, "You plan.\n\nThe task is \xc3\xa9\x01.\n\nWhat next?\n\n");
    expect(lab->out, "\"type\": \"object\"");
    assert_false(has(lab->out, "s1.1"));
    expect(lab->err, "request s1.1: plan of the planner for task vector_add, try 1");
    expect(lab->err, "alice, 7200 s");
    assert_int_equal(RUN("llm", "answer", "s1.1", path, "--as", "bob"), 4);
    expect(lab->err, "leased to 'alice' for another");
    assert_int_equal(RUN("llm", "answer", "s1.1", path, "--as", "alice", "--model", "m-1"), 0);
    assert_int_equal(lab->told, 1);
    assert_string_equal(lab->answer, "{\"a\": 1}\n");
    assert_string_equal(lab->model, "queue:alice/m-1");
    assert_int_equal(RUN("llm", "answer", "s1.1", path, "--as", "alice"), 3);
    assert_int_equal(RUN("llm", "take"), 3);
}

static void the_account_is_the_name_without_one(void **state)
{
    struct lab *lab = *state;

    ask(lab, "s1.1", "s1");
    assert_int_equal(RUN("llm", "take"), 0);
    assert_int_equal(RUN("llm", "take", "s1.1", "--as", "some-body-else"), 4);
    assert_int_equal(RUN("llm", "release", "s1.1"), 0);
    assert_int_equal(RUN("llm", "take", "s1.1", "--as", "some-body-else"), 0);
    assert_int_equal(RUN("llm", "release", "s1.1"), 4);
    assert_int_equal(RUN("llm", "release", "s1.1", "--as", "some-body-else"), 0);
    assert_int_equal(RUN("llm", "answer", "s1.1", "-"), 0);
    assert_string_equal(lab->answer, "from stdin");
}

static void answers_of_a_mebibyte_pass_and_larger_ones_do_not(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *text = xmalloc(LLM_ANSWER_MAX + 1), *path = NULL, *more = NULL;

    ask(lab, "s1.1", "s1");
    memset(text, '\n', LLM_ANSWER_MAX + 1); /* twice the size on its way */
    text[0] = 'x';
    more = answer_file(lab, text, LLM_ANSWER_MAX + 1);
    assert_int_equal(RUN("llm", "answer", "s1.1", more), 5);
    path = answer_file(lab, text, LLM_ANSWER_MAX);
    assert_int_equal(RUN("llm", "answer", "s1.1", path), 0);
    assert_int_equal(strlen(lab->answer), LLM_ANSWER_MAX);
}

static void bad_answers_leave_the_request_open(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } bad[] = { { "", 0 }, { "\n\n", 2 }, { "caf\xe9", 4 }, { "a\0b", 3 } };
    struct lab *lab = *state;

    ask(lab, "s1.1", "s1");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(freep) char *path = answer_file(lab, bad[i].text, bad[i].len);

        assert_int_equal(RUN("llm", "answer", "s1.1", path), 2);
    }
    assert_int_equal(RUN("llm", "answer", "s1.1", "/nowhere/answer"), 3);
    assert_int_equal(RUN("llm", "take", "--lease", "soon"), 2);
    assert_int_equal(RUN("llm", "take", "--lease", "25h"), 2);
    assert_int_equal(lab->told, 0);
    assert_int_equal(RUN("llm", "answer", "s1.1", "-"), 0);
    assert_int_equal(lab->told, 1);
}

static void json_is_one_document(void **state)
{
    struct lab *lab = *state;
    json_t *doc;
    struct err err;

    ask(lab, "s1.1", "s1");
    ask(lab, "s2.1", "s2");
    assert_int_equal(RUN("--json", "llm", "pending", "--search", "s2"), 0);
    assert_ok(jsonx_load(lab->out, OUTPUT_MAX, &doc, &err), err);
    assert_int_equal(json_array_size(json_object_get(doc, "requests")), 1);
    json_decref(doc);
    assert_int_equal(RUN("--json", "llm", "take", "s2.1"), 0);
    assert_ok(jsonx_load(lab->out, OUTPUT_MAX, &doc, &err), err);
    assert_string_equal(jsonx_str(doc, "prompt", ""), "What next?\n");
    json_decref(doc);
    assert_int_equal(RUN("--json", "llm", "status"), 0);
    assert_ok(jsonx_load(lab->out, OUTPUT_MAX, &doc, &err), err);
    assert_int_equal(jsonx_int(json_object_get(doc, "queue"), "leased", 0), 1);
    assert_true(json_is_null(json_object_get(doc, "openai")));
    json_decref(doc);
}

static void wait_for(struct lab *lab, const char *part)
{
    while (!has(lab->out, part))
        turn(lab);
}

static void a_watch_follows_what_comes_and_goes(void **state)
{
    struct lab *lab = *state;
    struct err err;
    json_t *taken;
    pid_t pid;

    ask(lab, "s1.1", "s1");
    pid = program_start(
        lab, (const char *const[]){ "llm", "pending", "--watch", "--search", "s1", NULL });
    wait_for(lab, "asked    s1.1  plan of planner for vector_add");
    ask(lab, "s2.1", "s2"); /* of no interest here */
    ask(lab, "s1.2", "s1");
    wait_for(lab, "asked    s1.2");
    assert_ok(llm_queue_take(llms_queue(lab->d.llms), "s1.1", NULL, "alice", 0, &taken, &err), err);
    json_decref(taken);
    wait_for(lab, "taken    s1.1  by alice");
    assert_ok(llm_queue_release(llms_queue(lab->d.llms), "s1.1", "alice", &err), err);
    wait_for(lab, "free     s1.1");
    assert_ok(llm_queue_answer(llms_queue(lab->d.llms), "s1.1", NULL, NULL, "x", 1, &err), err);
    wait_for(lab, "gone     s1.1");
    assert_false(has(lab->out, "s2.1"));
    kill(pid, SIGINT);
    assert_int_equal(program_end(lab, pid), 8);
}

static void a_watch_in_json_is_one_document_a_line(void **state)
{
    struct lab *lab = *state;
    CLEANUP(buf_release) struct buf text = { .max = OUTPUT_MAX };
    struct err err;
    pid_t pid =
        program_start(lab, (const char *const[]){ "--json", "llm", "pending", "--watch", NULL });
    size_t lines = 0;

    wait_for(lab, "\n");
    ask(lab, "s1.1", "s1");
    ask(lab, "s1.2", "s1");
    wait_for(lab, "s1.2");
    kill(pid, SIGINT);
    assert_int_equal(program_end(lab, pid), 8);
    assert_ok(file_read(lab->out, &text, &err), err);
    for (char *rest = text.data, *line; (line = strsep(&rest, "\n")) != NULL && *line; lines++) {
        json_auto_t *doc = NULL;

        assert_ok(jsonx_parse(line, strlen(line), "the line", &doc, &err), err);
        assert_true(json_is_array(json_object_get(doc, "requests")));
    }
    /* Both came in one turn of the loop: one list for the two of them. */
    assert_int_equal(lines, 2);
}

static void what_is_not_configured_is_said_when_it_is_asked_for(void **state)
{
    struct lab *lab = *state;
    struct err err;

    assert_null(llms_find(lab->d.llms, "replay", &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "llm_replay_file"));
    assert_null(llms_find(lab->d.llms, "oracle", &err));
    assert_non_null(strstr(err.msg, "queue"));
    lab->conf.llm_replay_file = (char *)"/nowhere/rec.jsonl";
    assert_null(llms_find(lab->d.llms, "replay", &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    lab->conf.llm_record = lab->conf.llm_replay_file;
    assert_null(llms_find(lab->d.llms, "replay", &err));
    assert_non_null(strstr(err.msg, "same file"));
    /* A recording that cannot be written: the queue is refused, and lives. */
    assert_null(llms_find(lab->d.llms, "queue", &err));
    assert_int_equal(err.code, ERR_IO);
    lab->conf.llm_record = (char *)"";
    ask(lab, "s1.1", "s1");
}

/* Recorded by hand, replayed without one. */
static void the_queue_is_recorded_too(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *path = str_printf("%s/rec.jsonl", lab->dir);

    lab->conf.llm_record = path;
    ask(lab, "s1.1", "s1");
    assert_int_equal(RUN("llm", "answer", "s1.1", "-"), 0);
    expect(path, "\"answer\":\"from stdin\"");
    expect(path, "\"kind\":\"plan\"");
    assert_int_equal(RUN("--json", "llm", "status"), 0);
    expect(lab->out, "rec.jsonl");
}

static void closing_tells_who_asked(void **state)
{
    struct lab *lab = *state;

    ask(lab, "s1.1", "s1");
    llms_close(lab->d.llms);
    lab->d.llms = NULL;
    assert_int_equal(lab->told, 1);
    assert_int_equal(lab->failed.code, ERR_CANCELLED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_request_is_listed_taken_and_answered),
        T(the_account_is_the_name_without_one),
        T(answers_of_a_mebibyte_pass_and_larger_ones_do_not),
        T(bad_answers_leave_the_request_open),
        T(json_is_one_document),
        T(a_watch_follows_what_comes_and_goes),
        T(a_watch_in_json_is_one_document_a_line),
        T(what_is_not_configured_is_said_when_it_is_asked_for),
        T(the_queue_is_recorded_too),
        T(closing_tells_who_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
