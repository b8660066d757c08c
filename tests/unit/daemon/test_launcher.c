/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launchers against a fake ksearch-eval: a shell script that does what the first line of the
 * candidate says. What the real one does is the harness's own tests' business.
 */
#include <event2/event.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/launcher.h"
#include "unit/test.h"

#define RECORD                                                                                     \
    "{\\\"format\\\":1,\\\"status\\\":\\\"ok\\\",\\\"message\\\":\\\"\\\",\\\"definition\\\":"     \
    "\\\"$def\\\",\\\"set\\\":\\\"cpu\\\",\\\"objective\\\":2.0,\\\"ci_low\\\":1.9,\\\"ci_high"    \
    "\\\":2.1,\\\"log_sd\\\":0.01,\\\"worst\\\":2.0,\\\"workloads\\\":[{\\\"name\\\":\\\"a\\\","   \
    "\\\"status\\\":\\\"ok\\\",\\\"ratio\\\":2.0}]}"

static const char script[] =
    "#!/bin/sh\n"
    "[ \"$1\" = run ] || exit 64\n"
    "dir=$2; log=$(dirname $(dirname $dir))/log\n"
    "def=d\n"
    "case \"$(head -n 1 $dir/candidate.c)\" in\n"
    "*slow*) echo start >>$log; sleep 0.15; echo end >>$log;;\n"
    "*hang*) sleep 60 & echo $! >$log; wait;;\n"
    "*garbage*) echo 'so fast!'; exit 0;;\n"
    "*silent*) echo 'cannot open /dev/sandbox' >&2; exit 0;;\n"
    "*fail*) echo 'bad news' >&2; exit 3;;\n"
    "*killed*) kill -9 $$;;\n"
    "*flood*) head -c 300000 /dev/zero | tr '\\0' x; exit 0;;\n"
    "*chatter*) head -c 300000 /dev/zero | tr '\\0' x >&2;;\n"
    "*other*) def=e;;\n"
    "*orphan*) sleep 60 & echo $! >$log;;\n"
    "*env*) env >$log; cp $dir/job.json $dir/champion.c $(dirname $log);;\n"
    "esac\n"
    "echo \"" RECORD "\"\n";

struct lab {
    char *dir, *program, *work;
    struct event_base *base;
    struct evaluator *ev;
    struct pack pack;
    int done;
    enum eval_status last;
    char message[1000], order[16];
    double objective;
};

struct call {
    struct lab *lab;
    char name;
    int times;
};

static char *in_dir(const struct lab *lab, const char *name)
{
    char *path = str_printf("%s/%s", lab->dir, name);

    assert_non_null(path);
    return path;
}

static int setup(void **state)
{
    struct lab *lab = xcalloc(1, sizeof(*lab));
    struct launcher_local_config config = { .threads = 2, .record_max = 100000 };
    void *dir;
    struct err err;

    assert_int_equal(test_dir_setup(&dir), 0);
    lab->dir = dir;
    lab->program = in_dir(lab, "fake-eval");
    lab->work = in_dir(lab, "work");
    assert_ok(file_write(lab->program, script, strlen(script), 0700, &err), err);
    chmod(lab->program, 0700);
    lab->base = event_base_new();
    lab->pack.dir = lab->dir;
    config.program = lab->program;
    config.work_dir = lab->work;
    config.cache_dir = "/var/cache/k";
    assert_ok(launcher_local_new(lab->base, &config, &lab->ev, &err), err);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    struct lab *lab = *state;
    void *dir = lab->dir;

    evaluator_free(lab->ev);
    event_base_free(lab->base);
    free(lab->program);
    free(lab->work);
    test_dir_teardown(&dir);
    free(lab);
    return 0;
}

static void on_done(void *ctx, const struct eval_result *r, const json_t *record)
{
    struct call *c = ctx;

    assert_int_equal(++c->times, 1);
    assert_ptr_equal(record, r->record);
    assert_non_null(record);
    c->lab->order[c->lab->done++] = c->name;
    c->lab->last = r->status;
    c->lab->objective = r->objective;
    str_copy(c->lab->message, sizeof(c->lab->message), r->message);
}

static struct eval_request request(struct lab *lab, const char *source)
{
    return (struct eval_request){ .pack = &lab->pack,
                                  .definition = "d",
                                  .set = "cpu",
                                  .device = "cpu",
                                  .candidate = { .source = source, .source_len = strlen(source) },
                                  .seed = 0xabcdef,
                                  .limits = eval_default_limits(),
                                  .timing = eval_default_timing() };
}

static struct eval_job *start(struct lab *lab, const struct eval_request *req, struct call *call)
{
    struct eval_job *job = NULL;
    struct err err;

    call->lab = lab;
    assert_ok(evaluator_start(lab->ev, req, on_done, call, &job, &err), err);
    assert_int_equal(call->times, 0);
    return job;
}

static void turn_until(struct lab *lab, int done)
{
    uint64_t end = clock_system()->mono_ns(clock_system()) + 20 * NS_PER_SEC;

    while (lab->done < done) {
        assert_true(clock_system()->mono_ns(clock_system()) < end);
        assert_true(event_base_loop(lab->base, EVLOOP_ONCE) >= 0);
    }
}

/* Runs one candidate to its end. */
static void run(struct lab *lab, const char *source)
{
    struct eval_request req = request(lab, source);
    struct call call = { .name = 'a' };

    lab->done = 0;
    start(lab, &req, &call);
    turn_until(lab, 1);
}

static char *read_text(const struct lab *lab, const char *name)
{
    CLEANUP(freep) char *path = in_dir(lab, name);
    struct buf text = { .max = 1 << 16 };
    struct err err;

    assert_ok(file_read(path, &text, &err), err);
    return buf_take(&text);
}

static bool is_alive(const struct lab *lab)
{
    CLEANUP(freep) char *pid = read_text(lab, "log");
    CLEANUP(freep) char *path = NULL;
    CLEANUP(freep) char *stat = NULL;
    struct buf text = { .max = 4096 };
    struct err ignored;

    pid[strcspn(pid, "\n")] = '\0';
    path = str_printf("/proc/%s/stat", pid);
    if (file_read(path, &text, &ignored) != 0) {
        buf_release(&text);
        return false;
    }
    stat = buf_take(&text);
    return strstr(stat, ") Z ") == NULL;
}

static void wait_for_log(const struct lab *lab)
{
    CLEANUP(freep) char *path = in_dir(lab, "log");
    struct stat st;

    for (int i = 0; i < 1000 && (stat(path, &st) != 0 || st.st_size == 0); i++)
        usleep(5000);
    assert_true(file_exists(path));
}

static void wait_dead(const struct lab *lab)
{
    for (int i = 0; i < 400 && is_alive(lab); i++)
        usleep(5000);
    assert_false(is_alive(lab));
}

static void a_record_comes_back_and_the_folder_goes(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *job = in_dir(lab, "work/job-1");

    run(lab, "// ok");
    assert_int_equal(lab->last, EVAL_OK);
    assert_true(lab->objective == 2.0);
    assert_false(file_exists(job));
}

static void what_goes_wrong_is_infrastructure_with_a_sentence(void **state)
{
    static const struct {
        const char *source, *part;
    } rows[] = {
        { "// garbage", "is not JSON" },
        { "// silent", "wrote no record: cannot open /dev/sandbox" },
        { "// fail", "ended with status 3: bad news" },
        { "// killed", "killed by signal 9" },
        { "// flood", "more than the 100000 bytes allowed" },
        { "// other", "answered for another job" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lab *lab = *state;

        run(lab, rows[i].source);
        assert_int_equal(lab->last, EVAL_INFRASTRUCTURE);
        assert_true(isnan(lab->objective));
        if (strstr(lab->message, rows[i].part) == NULL)
            fail_msg("%s: %s", rows[i].source, lab->message);
    }
}

static void chatter_on_stderr_neither_blocks_nor_counts(void **state)
{
    struct lab *lab = *state;

    run(lab, "// chatter");
    assert_int_equal(lab->last, EVAL_OK);
}

static void evaluations_of_a_device_never_overlap_and_keep_their_order(void **state)
{
    struct lab *lab = *state;
    struct eval_request req = request(lab, "// slow");
    struct call calls[3] = { { .name = 'a' }, { .name = 'b' }, { .name = 'c' } };
    CLEANUP(freep) char *log = NULL;
    size_t waiting, running;

    for (size_t i = 0; i < 3; i++)
        start(lab, &req, &calls[i]);
    evaluator_load(lab->ev, &waiting, &running);
    assert_int_equal(waiting, 2);
    assert_int_equal(running, 1);
    turn_until(lab, 3);
    assert_string_equal(lab->order, "abc");
    log = read_text(lab, "log");
    assert_string_equal(log, "start\nend\nstart\nend\nstart\nend\n");
}

static void other_devices_and_slots_run_beside(void **state)
{
    struct lab *lab = *state;
    struct eval_request req = request(lab, "// slow");
    struct call calls[3] = { { .name = 'a' }, { .name = 'b' }, { .name = 'c' } };
    size_t waiting, running;

    start(lab, &req, &calls[0]);
    req.slot = 1;
    start(lab, &req, &calls[1]);
    req.device = "gpu";
    start(lab, &req, &calls[2]);
    evaluator_load(lab->ev, &waiting, &running);
    assert_int_equal(running, 3);
    turn_until(lab, 3);
}

static void a_hanging_harness_is_killed_with_all_it_started(void **state)
{
    struct lab *lab = *state;
    struct eval_request req = request(lab, "// hang");
    struct call call = { .name = 'a' };

    req.limits.wall_s = 0.5;
    start(lab, &req, &call);
    turn_until(lab, 1);
    assert_int_equal(lab->last, EVAL_INFRASTRUCTURE);
    assert_non_null(strstr(lab->message, "did not end within"));
    wait_dead(lab);
}

/* A grandchild that keeps stdout open must not hold up the evaluation, nor outlive it. */
static void an_orphan_holds_nothing_up(void **state)
{
    struct lab *lab = *state;

    run(lab, "// orphan");
    assert_int_equal(lab->last, EVAL_OK);
    wait_dead(lab);
}

static void cancelling_ends_running_and_waiting_once_each(void **state)
{
    struct lab *lab = *state;
    struct eval_request req = request(lab, "// hang");
    struct call calls[3] = { { .name = 'a' }, { .name = 'b' }, { .name = 'c' } };
    struct eval_job *jobs[2];

    jobs[0] = start(lab, &req, &calls[0]);
    jobs[1] = start(lab, &req, &calls[1]);
    wait_for_log(lab);
    req = request(lab, "// ok");
    start(lab, &req, &calls[2]);
    evaluator_cancel(jobs[1]);
    evaluator_cancel(jobs[1]);
    assert_int_equal(lab->done, 0); /* never from inside cancel */
    turn_until(lab, 1);
    assert_int_equal(lab->order[0], 'b');
    assert_int_equal(lab->last, EVAL_CANCELLED);
    evaluator_cancel(jobs[0]);
    turn_until(lab, 2);
    assert_int_equal(lab->last, EVAL_CANCELLED);
    wait_dead(lab);
    turn_until(lab, 3);
    assert_int_equal(lab->last, EVAL_OK);
}

static void freeing_tells_every_evaluation_that_is_left(void **state)
{
    struct lab *lab = *state;
    struct eval_request req = request(lab, "// hang");
    struct call calls[2] = { { .name = 'a' }, { .name = 'b' } };

    start(lab, &req, &calls[0]);
    start(lab, &req, &calls[1]);
    wait_for_log(lab);
    evaluator_free(lab->ev);
    lab->ev = NULL;
    assert_int_equal(lab->done, 2);
    assert_int_equal(lab->last, EVAL_CANCELLED);
    wait_dead(lab);
}

static void a_child_sees_the_job_and_little_of_our_environment(void **state)
{
    struct lab *lab = *state;
    struct eval_request req = request(lab, "// env");
    struct eval_define defines[] = { { "TILE", "16" }, { "MODE_fast", "1" } };
    struct call call = { .name = 'a' };
    CLEANUP(freep) char *log = NULL;
    CLEANUP(freep) char *champion = NULL;
    CLEANUP(freep) char *path = in_dir(lab, "job.json");
    json_auto_t *job = NULL;
    struct err err;

    setenv("KSEARCH_API_KEY", "secret", 1);
    req.candidate.defines = defines;
    req.candidate.n_defines = 2;
    req.champion = (struct eval_program){ .source = "int c;", .source_len = 6 };
    req.limits.build_s = 1.5;
    start(lab, &req, &call);
    turn_until(lab, 1);
    unsetenv("KSEARCH_API_KEY");
    log = read_text(lab, "log");
    assert_null(strstr(log, "secret"));
    assert_non_null(strstr(log, "PATH="));
    champion = read_text(lab, "champion.c");
    assert_string_equal(champion, "int c;");
    assert_ok(jsonx_load(path, 1 << 16, &job, &err), err);
    assert_string_equal(jsonx_str(job, "seed", ""), "0000000000abcdef");
    assert_string_equal(jsonx_str(job, "cache", ""), "/var/cache/k");
    assert_int_equal(jsonx_int(job, "threads", 0), 2);
    assert_int_equal(jsonx_int(json_object_get(job, "limits"), "build_s", 0), 2);
    assert_string_equal(
        jsonx_str(json_object_get(json_object_get(job, "candidate"), "defines"), "TILE", ""), "16");
}

static void a_malformed_request_is_refused_at_once(void **state)
{
    struct lab *lab = *state;
    struct eval_request good = request(lab, "// ok"), req;
    struct eval_define bad_name = { "a b", "1" }, bad_value = { "A", "1; rm" };
    struct eval_job *job;
    struct err err;

#define REFUSED(code)                                                                              \
    assert_fails(evaluator_start(lab->ev, &req, on_done, NULL, &job, &err), err, code)
    req = good;
    req.set = "../x";
    REFUSED(ERR_INVALID);
    req = good;
    req.candidate.source_len = 0;
    REFUSED(ERR_INVALID);
    req = good;
    req.candidate.source_len = PACK_SOURCE_MAX + 1;
    {
        CLEANUP(freep) char *big = xmalloc(PACK_SOURCE_MAX + 1);

        memset(big, 'x', PACK_SOURCE_MAX + 1);
        req.candidate.source = big;
        REFUSED(ERR_LIMIT);
    }
    req = good;
    req.candidate.defines = &bad_name;
    req.candidate.n_defines = 1;
    REFUSED(ERR_INVALID);
    req.candidate.defines = &bad_value;
    REFUSED(ERR_INVALID);
    req = good;
    req.limits.run_s = NAN;
    REFUSED(ERR_INVALID);
    req = good;
    req.timing.pairs_max = 2;
    REFUSED(ERR_INVALID);
#undef REFUSED
}

static void a_program_that_cannot_be_run_is_said_so(void **state)
{
    struct lab *lab = *state;
    struct launcher_local_config config = { .program = "/nowhere/ksearch-eval",
                                            .work_dir = lab->work,
                                            .threads = 1 };
    struct evaluator *ev;
    struct err err;

    assert_fails(launcher_local_new(lab->base, &config, &ev, &err), err, ERR_IO);
    unlink(lab->program);
    run(lab, "// ok");
    assert_int_equal(lab->last, EVAL_INFRASTRUCTURE);
    assert_non_null(strstr(lab->message, "cannot be started"));
}

static void job_folders_of_a_killed_daemon_are_removed(void **state)
{
    struct lab *lab = *state;
    struct launcher_local_config config = { .program = lab->program,
                                            .work_dir = lab->work,
                                            .threads = 1 };
    CLEANUP(freep) char *stale = in_dir(lab, "work/job-77");
    struct evaluator *ev;
    struct err err;

    assert_ok(file_mkdirs(stale, &err), err);
    assert_ok(launcher_local_new(lab->base, &config, &ev, &err), err);
    assert_false(file_exists(stale));
    evaluator_free(ev);
}

/* Records two evaluations of one key and one of another, then answers from the file. */
static void what_was_recorded_can_be_replayed(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *path = in_dir(lab, "recording.jsonl");
    struct eval_define tile = { "TILE", "8" };
    struct eval_request req = request(lab, "// ok");
    struct evaluator *recorder, *local = lab->ev;
    struct call calls[8] = { 0 };
    struct err err;

    assert_ok(launcher_record_new(local, path, &recorder, &err), err);
    lab->ev = recorder;
    start(lab, &req, &calls[0]);
    turn_until(lab, 1);
    req.candidate.defines = &tile;
    req.candidate.n_defines = 1;
    start(lab, &req, &calls[1]);
    turn_until(lab, 2);
    req = request(lab, "// fail");
    start(lab, &req, &calls[2]); /* infrastructure: not kept */
    turn_until(lab, 3);
    req = request(lab, "// hang");
    evaluator_cancel(start(lab, &req, &calls[3]));
    turn_until(lab, 4);
    evaluator_free(lab->ev);
    assert_ok(launcher_replay_new(lab->base, path, &lab->ev, &err), err);
    req = request(lab, "// ok");
    start(lab, &req, &calls[4]);
    assert_int_equal(lab->done, 4); /* never from inside start */
    turn_until(lab, 5);
    assert_int_equal(lab->last, EVAL_OK);
    assert_true(lab->objective == 2.0);
    tile.value = "9";
    req.candidate.defines = &tile;
    req.candidate.n_defines = 1;
    start(lab, &req, &calls[5]);
    turn_until(lab, 6);
    assert_int_equal(lab->last, EVAL_INFRASTRUCTURE);
    evaluator_cancel(start(lab, &req, &calls[6]));
    turn_until(lab, 7);
    assert_int_equal(lab->last, EVAL_CANCELLED);
    start(lab, &req, &calls[7]);
    evaluator_free(lab->ev);
    lab->ev = NULL;
    assert_int_equal(calls[7].times, 1);
}

static void repeated_records_are_given_in_order(void **state)
{
    static const char *const lines[] = { "crashed", "timeout" };
    static const enum eval_status expected[] = { EVAL_CRASHED, EVAL_TIMEOUT, EVAL_TIMEOUT };
    struct lab *lab = *state;
    CLEANUP(freep) char *path = in_dir(lab, "recording.jsonl");
    CLEANUP(buf_release) struct buf text = { .max = 4096 };
    struct eval_request req = request(lab, "// ok");
    struct call calls[3] = { 0 };
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        buf_addf(&text,
                 "{\"definition\":\"d\",\"set\":\"cpu\",\"defines\":{},\"record\":{\"format\":1,"
                 "\"status\":\"%s\",\"message\":\"m\",\"definition\":\"d\",\"set\":\"cpu\"}}\n",
                 lines[i]);
    assert_ok(file_write(path, text.data, text.len, 0600, &err), err);
    evaluator_free(lab->ev);
    assert_ok(launcher_replay_new(lab->base, path, &lab->ev, &err), err);
    for (int i = 0; i < 3; i++) {
        start(lab, &req, &calls[i]);
        turn_until(lab, i + 1);
        assert_int_equal(lab->last, expected[i]);
    }
}

/* Lines of older recordings have no source and answer for every program without a line of its own.
 */
static void programs_are_told_apart_by_their_source(void **state)
{
    static const char sha256_of_mine[] =
        "46f700c862b11071e96fd31f643afe2c39f18596ab5507c4e70479c2d2306c5e";
    struct lab *lab = *state;
    CLEANUP(freep) char *path = in_dir(lab, "recording.jsonl");
    CLEANUP(buf_release) struct buf text = { .max = 4096 };
    struct eval_request mine = request(lab, "// mine"), other = request(lab, "// other");
    struct call calls[4] = { 0 };
    struct err err;

    for (int old = 0; old < 2; old++)
        buf_addf(&text,
                 "{\"definition\":\"d\",\"set\":\"cpu\",\"defines\":{}%s%s%s,\"record\":"
                 "{\"format\":1,\"status\":\"%s\",\"message\":\"m\",\"definition\":\"d\",\"set\":"
                 "\"cpu\"}}\n",
                 old ? "" : ",\"source\":\"", old ? "" : sha256_of_mine, old ? "" : "\"",
                 old ? "timeout" : "crashed");
    evaluator_free(lab->ev);
    for (int old = 1; old >= 0; old--) {
        size_t len = old ? text.len : (size_t)(strchr(text.data, '\n') + 1 - text.data);

        assert_ok(file_write(path, text.data, len, 0600, &err), err);
        assert_ok(launcher_replay_new(lab->base, path, &lab->ev, &err), err);
        lab->done = 0;
        start(lab, &mine, &calls[2 * old]);
        turn_until(lab, 1);
        assert_int_equal(lab->last, EVAL_CRASHED);
        start(lab, &other, &calls[2 * old + 1]);
        turn_until(lab, 2);
        assert_int_equal(lab->last, old ? EVAL_TIMEOUT : EVAL_INFRASTRUCTURE);
        if (old)
            evaluator_free(lab->ev);
    }
}

static void what_is_recorded_names_its_source(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *path = in_dir(lab, "recording.jsonl");
    struct eval_request req = request(lab, "// ok");
    struct evaluator *recorder;
    struct call calls[3] = { 0 };
    struct err err;

    assert_ok(launcher_record_new(lab->ev, path, &recorder, &err), err);
    lab->ev = recorder;
    start(lab, &req, &calls[0]);
    turn_until(lab, 1);
    evaluator_free(lab->ev);
    assert_ok(launcher_replay_new(lab->base, path, &lab->ev, &err), err);
    start(lab, &req, &calls[1]);
    turn_until(lab, 2);
    assert_int_equal(lab->last, EVAL_OK);
    req = request(lab, "// ok, but for a word");
    start(lab, &req, &calls[2]);
    turn_until(lab, 3);
    assert_int_equal(lab->last, EVAL_INFRASTRUCTURE);
}

static void a_damaged_recording_is_refused_with_its_line(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *path = in_dir(lab, "bad.jsonl");
    static const char text[] = "\n{\"definition\":\"d\"}\n";
    struct evaluator *ev;
    struct err err;

    assert_ok(file_write(path, text, strlen(text), 0600, &err), err);
    assert_fails(launcher_replay_new(lab->base, path, &ev, &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "line 2"));
    assert_fails(launcher_replay_new(lab->base, "/nowhere.jsonl", &ev, &err), err, ERR_NOT_FOUND);
}

#define IN_LAB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_LAB(a_record_comes_back_and_the_folder_goes),
        IN_LAB(what_goes_wrong_is_infrastructure_with_a_sentence),
        IN_LAB(chatter_on_stderr_neither_blocks_nor_counts),
        IN_LAB(evaluations_of_a_device_never_overlap_and_keep_their_order),
        IN_LAB(other_devices_and_slots_run_beside),
        IN_LAB(a_hanging_harness_is_killed_with_all_it_started),
        IN_LAB(an_orphan_holds_nothing_up),
        IN_LAB(cancelling_ends_running_and_waiting_once_each),
        IN_LAB(freeing_tells_every_evaluation_that_is_left),
        IN_LAB(a_child_sees_the_job_and_little_of_our_environment),
        IN_LAB(a_malformed_request_is_refused_at_once),
        IN_LAB(a_program_that_cannot_be_run_is_said_so),
        IN_LAB(job_folders_of_a_killed_daemon_are_removed),
        IN_LAB(what_was_recorded_can_be_replayed),
        IN_LAB(repeated_records_are_given_in_order),
        IN_LAB(programs_are_told_apart_by_their_source),
        IN_LAB(what_is_recorded_names_its_source),
        IN_LAB(a_damaged_recording_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
