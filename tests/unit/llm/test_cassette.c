/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings of answers: read, replayed, written, and what a crash leaves of them. */
#include <event2/event.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "llm/cassette.h"
#include "llm/provider_queue.h"
#include "unit/test.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define LINE(hash, text) "{\"hash\":\"" hash "\",\"kind\":\"code\",\"answer\":\"" text "\"}"

static char *write_file(void **state, const char *text, size_t len)
{
    char *path = str_printf("%s/cassette.jsonl", (char *)*state);
    struct err err;

    assert_ok(file_write(path, text, len, 0600, &err), err);
    return path;
}

static int load(void **state, const char *text, struct cassette **out, struct err *err)
{
    CLEANUP(freep) char *path = write_file(state, text, strlen(text));

    return cassette_load(path, out, err);
}

static void repeated_hashes_are_given_in_order(void **state)
{
    static const char text[] = LINE(HASH_A, "one") "\n" LINE(HASH_B, "other") "\n\n" LINE(
        HASH_A, "two") "\n" LINE(HASH_A, "three") "\n";
    static const char *const expected[] = { "one", "two", "three", "three" };
    struct llm_answer a;
    struct cassette *c;
    struct err err;

    assert_ok(load(state, text, &c, &err), err);
    assert_int_equal(cassette_count(c), 4);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(cassette_next(c, HASH_A, &a));
        assert_string_equal(a.text, expected[i]);
    }
    assert_true(cassette_next(c, HASH_B, &a));
    assert_string_equal(a.text, "other");
    assert_false(cassette_next(c, "cc", &a));
    cassette_free(c);
}

static void a_written_line_is_read_as_it_was(void **state)
{
    struct llm_request req = {
        .id = "s1.7", .task = "t", .hash = HASH_A, .kind = "plan", .role = LLM_PLANNER, .attempt = 2
    };
    struct llm_answer a = { .text = "a \"b\"\n\xc3\xa9",
                            .model = "m",
                            .tokens_in = 100,
                            .tokens_cached = 60,
                            .tokens_out = 7,
                            .usd_q = 1234567,
                            .seconds = 1.25 },
                      b;
    CLEANUP(freep) char *line = cassette_line(&req, &a);
    struct cassette *c;
    struct err err;

    assert_non_null(line);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_ok(load(state, line, &c, &err), err);
    assert_true(cassette_next(c, HASH_A, &b));
    assert_string_equal(b.text, a.text);
    assert_string_equal(b.model, "m");
    assert_int_equal(b.tokens_in, 100);
    assert_int_equal(b.tokens_cached, 60);
    assert_int_equal(b.tokens_out, 7);
    assert_int_equal(b.usd_q, 1234567);
    assert_true(b.seconds == 1.25 && !b.estimated);
    /* and by the number of the call, in any search of the task */
    req.id = "s2.7";
    assert_true(cassette_at_call(c, &req, &b));
    assert_string_equal(b.text, a.text);
    req.id = "s2.8";
    assert_false(cassette_at_call(c, &req, &b));
    req.id = "s2.7";
    req.kind = "code";
    assert_false(cassette_at_call(c, &req, &b));
    req.kind = "plan";
    req.task = "u";
    assert_false(cassette_at_call(c, &req, &b));
    cassette_free(c);
    a.text = "caf\xe9";
    assert_null(cassette_line(&req, &a));
}

static void damage_in_the_middle_is_refused_with_its_line(void **state)
{
    static const char *const bad[] = {
        "{\"hash\":\"aa",
        "garbage",
        "[]",
        "{\"hash\":\"aa\",\"kind\":\"code\",\"answer\":\"x\"}",
        "{\"hash\":\"" HASH_A "\",\"answer\":\"x\"}",
        "{\"hash\":\"" HASH_A "\",\"kind\":\"code\"}",
        LINE(HASH_A, ""),
        LINE(HASH_A, "a\\u0000b"),
        "{\"hash\":\"" HASH_A "\",\"kind\":\"code\",\"answer\":\"x\",\"extra\":1}",
        "{\"hash\":\"" HASH_A "\",\"kind\":\"code\",\"answer\":\"x\",\"tokens_in\":-1}",
        "{\"hash\":\"" HASH_A "\",\"kind\":\"code\",\"answer\":\"x\",\"usd_q\":1.5}",
        "{\"hash\":\"" HASH_A "\",\"kind\":\"code\",\"answer\":\"x\",\"seconds\":\"1\"}",
        "{\"hash\":\"" HASH_A "\",\"kind\":\"code\",\"answer\":\"x\",\"role\":\"king\"}",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(freep)
        char *text = str_printf("%s\n%s\n%s\n", LINE(HASH_A, "one"), bad[i], LINE(HASH_A, "two"));
        struct cassette *c;
        struct err err;

        assert_fails(load(state, text, &c, &err), err, ERR_INVALID);
        assert_non_null(strstr(err.msg, "line 2"));
    }
}

static void a_torn_last_line_is_passed_over(void **state)
{
    static const char whole[] = LINE(HASH_A, "one") "\n" LINE(HASH_B, "two");
    size_t first = strchr(whole, '\n') + 1 - whole;

    for (size_t len = first; len <= strlen(whole); len++) {
        CLEANUP(freep) char *path = write_file(state, whole, len);
        struct cassette *c;
        struct err err;

        assert_ok(cassette_load(path, &c, &err), err);
        assert_int_equal(cassette_count(c), len == strlen(whole) ? 2 : 1);
        cassette_free(c);
    }
}

/* What is no recording at all stays untouched: a wrong path must not cost its owner a file. */
static void other_files_are_refused(void **state)
{
    struct cassette *c;
    struct err err;

    assert_fails(load(state, "dear diary", &c, &err), err, ERR_INVALID);
    assert_fails(cassette_load("/nowhere.jsonl", &c, &err), err, ERR_NOT_FOUND);
}

/* ---- Providers ---- */

struct lab {
    char *dir, *path;
    struct event_base *base;
    struct llm *queue;
    int times;
    char *text;
    struct err err;
};

static void told(void *ctx, const struct llm_answer *a, const struct err *err)
{
    struct lab *lab = ctx;

    lab->times++;
    free(lab->text);
    lab->text = a ? xstrdup(a->text) : NULL;
    lab->err = err ? *err : (struct err){ 0 };
}

static int lab_setup(void **state)
{
    struct lab *lab = xcalloc(1, sizeof(*lab));
    void *dir;

    assert_int_equal(test_dir_setup(&dir), 0);
    lab->dir = dir;
    lab->path = str_printf("%s/rec.jsonl", lab->dir);
    lab->base = event_base_new();
    *state = lab;
    return 0;
}

static int lab_teardown(void **state)
{
    struct lab *lab = *state;
    void *dir = lab->dir;

    event_base_free(lab->base);
    free(lab->path);
    free(lab->text);
    free(lab);
    return test_dir_teardown(&dir);
}

static struct llm_job *ask(struct lab *lab, struct llm *m, const char *hash)
{
    struct llm_request req = { .id = "s1.1",
                               .hash = hash,
                               .role = LLM_CODER,
                               .kind = "code",
                               .search = "s1",
                               .task = "t",
                               .attempt = 1,
                               .system = "s",
                               .prefix = "p",
                               .prompt = "q" };
    struct llm_job *job;
    struct err err;

    assert_ok(m->start(m, &req, told, lab, &job, &err), err);
    return job;
}

static struct llm *recorder(struct lab *lab)
{
    struct llm *m;
    struct err err;

    assert_ok(llm_queue_new(lab->base, clock_system(), &lab->queue, &err), err);
    assert_ok(llm_record_new(lab->queue, lab->path, &m, &err), err);
    return m;
}

static void turn(struct lab *lab)
{
    event_base_loop(lab->base, EVLOOP_NONBLOCK);
}

static void answer(struct lab *lab, const char *text)
{
    struct err err;

    assert_ok(llm_queue_answer(lab->queue, "s1.1", NULL, NULL, text, strlen(text), &err), err);
    turn(lab);
}

static void put(struct lab *lab, const char *text)
{
    struct err err;

    assert_ok(file_write(lab->path, text, strlen(text), 0600, &err), err);
}

static void check_file(struct lab *lab, size_t expected)
{
    struct cassette *c;
    struct err err;

    assert_ok(cassette_load(lab->path, &c, &err), err);
    assert_int_equal(cassette_count(c), expected);
    cassette_free(c);
}

static rlim_t file_size(const struct lab *lab)
{
    struct stat st;

    assert_int_equal(stat(lab->path, &st), 0);
    return (rlim_t)st.st_size;
}

static void what_is_recorded_is_replayed(void **state)
{
    struct lab *lab = *state;
    struct llm *m = recorder(lab);
    struct err err;

    ask(lab, m, HASH_A);
    answer(lab, "first");
    assert_string_equal(lab->text, "first");
    ask(lab, m, HASH_A);
    answer(lab, "second");
    m->cancel(m, ask(lab, m, HASH_B)); /* no answer, no line */
    turn(lab);
    assert_int_equal(lab->err.code, ERR_CANCELLED);
    llm_free(m);
    check_file(lab, 2);
    assert_ok(llm_replay_new(lab->base, lab->path, LLM_MATCH_HASH, &m, &err), err);
    lab->times = 0;
    ask(lab, m, HASH_A);
    assert_int_equal(lab->times, 0); /* never from inside start */
    turn(lab);
    assert_string_equal(lab->text, "first");
    ask(lab, m, HASH_A);
    turn(lab);
    assert_string_equal(lab->text, "second");
    ask(lab, m, HASH_B);
    turn(lab);
    assert_int_equal(lab->err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(lab->err.msg, "code"));
    assert_non_null(strstr(lab->err.msg, "bbbbbbbbbbbb)"));
    m->cancel(m, ask(lab, m, HASH_A));
    turn(lab);
    assert_int_equal(lab->err.code, ERR_CANCELLED);
    ask(lab, m, HASH_A);
    llm_free(m);
    assert_int_equal(lab->times, 5);
    assert_int_equal(lab->err.code, ERR_CANCELLED);
}

/* The file of a daemon that was killed while it wrote: the torn line goes, nothing else does. */
static void a_torn_line_is_cut_off_before_more_is_added(void **state)
{
    struct lab *lab = *state;
    struct llm *m;

    put(lab, LINE(HASH_A, "one") "\n" LINE(HASH_A, "two") "\n{\"answer\":\"tor");
    m = recorder(lab);
    ask(lab, m, HASH_B);
    answer(lab, "three");
    llm_free(m);
    check_file(lab, 3);
}

static void a_missing_newline_is_added(void **state)
{
    struct lab *lab = *state;
    struct llm *m;

    put(lab, LINE(HASH_A, "one") "\n" LINE(HASH_A, "two"));
    m = recorder(lab);
    ask(lab, m, HASH_B);
    answer(lab, "three");
    llm_free(m);
    check_file(lab, 3);
}

static void a_file_that_is_no_recording_is_not_written_to(void **state)
{
    struct lab *lab = *state;
    CLEANUP(buf_release) struct buf text = { .max = 100 };
    struct llm *queue, *m;
    struct err err;

    put(lab, "dear diary");
    assert_ok(llm_queue_new(lab->base, clock_system(), &queue, &err), err);
    assert_fails(llm_record_new(queue, lab->path, &m, &err), err, ERR_INVALID);
    assert_fails(llm_record_new(queue, "/nowhere/rec.jsonl", &m, &err), err, ERR_IO);
    llm_free(queue); /* still ours */
    assert_ok(file_read(lab->path, &text, &err), err);
    assert_string_equal(buf_str(&text), "dear diary");
}

/* A limit on the size of files stands for a full disk: the line is written in part. */
static void an_answer_that_cannot_be_kept_counts_as_failed(void **state)
{
    struct lab *lab = *state;
    struct llm *m = recorder(lab);
    struct rlimit before, small;

    ask(lab, m, HASH_A);
    answer(lab, "kept");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){ file_size(lab) + 20, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    ask(lab, m, HASH_B);
    answer(lab, "lost");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_null(lab->text);
    assert_int_equal(lab->err.code, ERR_IO);
    ask(lab, m, HASH_B);
    answer(lab, "kept too");
    assert_string_equal(lab->text, "kept too");
    llm_free(m);
    check_file(lab, 2);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, test_dir_setup, test_dir_teardown)
#define IN_LAB(test) cmocka_unit_test_setup_teardown(test, lab_setup, lab_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(repeated_hashes_are_given_in_order),
        IN_DIR(a_written_line_is_read_as_it_was),
        IN_DIR(damage_in_the_middle_is_refused_with_its_line),
        IN_DIR(a_torn_last_line_is_passed_over),
        IN_DIR(other_files_are_refused),
        IN_LAB(what_is_recorded_is_replayed),
        IN_LAB(a_torn_line_is_cut_off_before_more_is_added),
        IN_LAB(a_missing_newline_is_added),
        IN_LAB(a_file_that_is_no_recording_is_not_written_to),
        IN_LAB(an_answer_that_cannot_be_kept_counts_as_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
