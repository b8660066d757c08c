/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and records: bad jobs get a sentence, good ones a complete record; probe and check work. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaltest.h"

static struct evaltest env;

/* A whole job.json with one thing wrong, and what has to be said about it. */
static const struct {
    const char *job, *says;
    int status;
} bad_jobs[] = {
    { NULL, "job.json", 3 },
    { "", "job.json", 2 },
    { "{", "job.json", 2 },
    { "[]", "allowed is an object", 2 },
    { "{ \"format\": 2 HEAD }", "'format' is 2", 2 },
    { "{ \"format\": 1 HEAD, \"sed\": 1 }", "'sed' is not a known field", 2 },
    { "{ \"format\": 1, \"pack\": \"PACK\" }", "missing", 2 },
    { "{ \"format\": 1 HEAD, \"threads\": 0 }", "'threads' is 0", 2 },
    { "{ \"format\": 1 HEAD, \"threads\": \"two\" }", "'threads'", 2 },
    { "{ \"format\": 1 HEAD, \"slot\": 1000 }", "'slot' is 1000", 2 },
    { "{ \"format\": 1 HEAD, \"slot\": -1 }", "'slot' is -1", 2 },
    { "{ \"format\": 1 HEAD, \"sandbox\": \"docker\" }", "one of bwrap, none", 2 },
    { "{ \"format\": 1 HEAD, \"march\": \"native -fplugin=x.so\" }", "'march'", 2 },
    { "{ \"format\": 1 HEAD, \"march\": \"-x\" }", "'march'", 2 },
    { "{ \"format\": 1 HEAD, \"limits\": { \"build_s\": 0 } }", "'build_s' is 0", 2 },
    { "{ \"format\": 1 HEAD, \"limits\": { \"files\": 3 } }", "'files' is not a known field", 2 },
    { "{ \"format\": 1 HEAD, \"timing\": { \"pairs_min\": 9, \"pairs_max\": 5 } }", "'pairs_max'",
      2 },
    { "{ \"format\": 1 HEAD, \"timing\": { \"budget_s\": -1 } }", "'budget_s'", 2 },
    { "{ \"format\": 1 HEAD, \"module_key\": \"../../x\" }", "hexadecimal", 2 },
    { "{ \"format\": 1 HEAD, \"champion\": { \"source\": \"absent.c\" } }", "absent.c", 3 },
    { "{ \"format\": 1 HEAD, \"champion\": { \"source\": \"../candidate.c\" } }", "'source'", 2 },
    { "{ \"format\": 1 HEAD, \"champion\": { \"source\": \"/etc/passwd\" } }", "'source'", 2 },
    { "{ \"format\": 1 HEAD, \"champion\": { \"source\": \"candidate.c\", \"defines\": { \"A B\": "
      "\"1\" } } }",
      "'A B' is not a C name", 2 },
    { "{ \"format\": 1 HEAD, \"champion\": { \"source\": \"candidate.c\", \"defines\": { \"A\": "
      "\"1 -I/\" } } }",
      "'1 -I/'", 2 },
    { "{ \"format\": 1 HEAD, \"champion\": { \"source\": \"candidate.c\", \"defines\": { \"A\": 1 "
      "} } }",
      "'A' is not a string", 2 },
    { "{ \"format\": 1, \"pack\": \"PACK\", \"definition\": \"vector_sub\", \"set\": \"smoke\", "
      "\"candidate\": { \"source\": \"candidate.c\" }, \"seed\": \"0000000000000001\" }",
      "no definition 'vector_sub'", 3 },
    { "{ \"format\": 1, \"pack\": \"PACK\", \"definition\": \"vector_add_l1\", \"set\": \"huge\", "
      "\"candidate\": { \"source\": \"candidate.c\" }, \"seed\": \"0000000000000001\" }",
      "'huge'", 3 },
    { "{ \"format\": 1, \"pack\": \"PACK/absent\", \"definition\": \"vector_add_l1\", \"set\": "
      "\"smoke\", "
      "\"candidate\": { \"source\": \"candidate.c\" }, \"seed\": \"0000000000000001\" }",
      "task.json", 3 },
    { "{ \"format\": 1, \"pack\": \"PACK\", \"definition\": \"vector_add_l1\", \"set\": \"smoke\", "
      "\"candidate\": { \"source\": \"candidate.c\" }, \"seed\": \"1\" }",
      "'seed'", 2 },
};

/* Puts text for the words in capitals. */
static char *expand(const char *job)
{
    static const char head[] =
        ", \"pack\": \"" EVALTEST_PACK "\", \"definition\": \"vector_add_l1\", "
        "\"set\": \"smoke\", \"candidate\": { \"source\": \"candidate.c\" }, "
        "\"seed\": \"0000000000000001\"";
    const char *at = strstr(job, " HEAD"), *pack = strstr(job, "PACK");

    if (at != NULL)
        return str_printf("%.*s%s%s", (int)(at - job), job, head, at + strlen(" HEAD"));
    if (pack != NULL)
        return str_printf("%.*s%s%s", (int)(pack - job), job, EVALTEST_PACK, pack + strlen("PACK"));
    return strdup(job);
}

static void a_bad_job_gets_a_sentence_and_an_exit_status(void **state)
{
    CLEANUP(freep) char *path = str_printf("%s/bad/job.json", env.dir);
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_jobs); i++) {
        CLEANUP(freep)
        char *dir =
            strdup(evaltest_job(&env, "bad", &(struct evaltest_job){ .candidate = "honest" }));
        struct evaltest_result r;

        unlink(path);
        if (bad_jobs[i].job != NULL) {
            CLEANUP(freep) char *text = expand(bad_jobs[i].job);

            assert_int_equal(file_write(path, text, strlen(text), 0600, &err), 0);
        }
        evaltest_run(dir, &r);
        if (r.status != bad_jobs[i].status || strstr(r.err, bad_jobs[i].says) == NULL)
            fail_msg("job %zu: status %d, said '%s', expected %d and '%s'", i, r.status, r.err,
                     bad_jobs[i].status, bad_jobs[i].says);
        assert_string_equal(r.out, "");
        evaltest_release(&r);
    }
}

static void a_bad_command_line_gets_a_sentence(void **state)
{
    static const char *const lines[][5] = {
        { KS_BIN_DIR "/ksearch-eval", NULL },
        { KS_BIN_DIR "/ksearch-eval", "walk", NULL },
        { KS_BIN_DIR "/ksearch-eval", "run", NULL },
        { KS_BIN_DIR "/ksearch-eval", "run", "a", "b", NULL },
        { KS_BIN_DIR "/ksearch-eval", "probe", "--march", "-x y", NULL },
        { KS_BIN_DIR "/ksearch-eval", "probe", "--march", NULL },
        { KS_BIN_DIR "/ksearch-eval", "check", "tasks", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct evaltest_result r;

        evaltest_exec(lines[i], &r);
        assert_int_equal(r.status, 2);
        assert_non_null(strstr(r.err, "ksearch-eval: "));
        assert_string_equal(r.out, "");
        evaltest_release(&r);
    }
}

static void help_and_version_go_to_standard_output(void **state)
{
    static const char *const help[] = { KS_BIN_DIR "/ksearch-eval", "--help", NULL };
    static const char *const version[] = { KS_BIN_DIR "/ksearch-eval", "--version", NULL };
    struct evaltest_result r;

    (void)state;
    evaltest_exec(help, &r);
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "run"));
    assert_null(strstr(r.out, "runner"));
    evaltest_release(&r);
    evaltest_exec(version, &r);
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "ksearch-eval 0."));
    evaltest_release(&r);
}

static void check_samples(const json_t *workload, const char *key, size_t n)
{
    const json_t *list = json_object_get(workload, key);

    assert_true(json_array_size(list) == n && n >= 3);
    for (size_t i = 0; i < n; i++)
        assert_true(json_is_integer(json_array_get(list, i)) &&
                    json_integer_value(json_array_get(list, i)) > 0);
}

static void the_record_is_complete(const json_t *record)
{
    static const char *const numbers[] = { "objective", "ci_low", "ci_high",
                                           "log_sd",    "worst",  "roofline" };
    const json_t *workloads = json_object_get(record, "workloads"), *vs;
    size_t i;
    json_t *w;

    for (i = 0; i < ARRAY_LEN(numbers); i++)
        assert_true(jsonx_num(record, numbers[i], -1) > 0);
    assert_true(jsonx_num(record, "ci_low", 9) <= jsonx_num(record, "objective", 0));
    assert_true(jsonx_num(record, "ci_high", 0) >= jsonx_num(record, "objective", 9));
    assert_int_equal(json_array_size(workloads), 2);
    json_array_foreach ((json_t *)workloads, i, w) {
        size_t n = json_array_size(json_object_get(w, "baseline_ns"));

        assert_string_equal(jsonx_str(w, "status", ""), "ok");
        check_samples(w, "baseline_ns", n);
        check_samples(w, "candidate_ns", n);
        check_samples(w, "champion_ns", n);
        assert_true(jsonx_num(w, "ratio", 0) > 0 && jsonx_num(w, "bytes", 0) > 0);
    }
    vs = json_object_get(record, "vs_champion");
    assert_true(jsonx_num(vs, "ratio", 0) > 0);
    assert_true(jsonx_num(vs, "ci_low", 9) <= jsonx_num(vs, "ci_high", 0));
    assert_true(jsonx_num(json_object_get(record, "build"), "ms", 0) > 0 ||
                jsonx_bool(json_object_get(record, "build"), "cached", 0));
    assert_true(jsonx_int(json_object_get(record, "build"), "bytes", 0) > 0);
    assert_true(jsonx_num(json_object_get(record, "time"), "total_ms", 0) > 0);
}

static int count_files(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void a_good_job_gives_a_complete_record_and_fills_the_cache(void **state)
{
    struct evaltest_job job = {
        .candidate = "honest",
        .champion = "honest_parallel",
        .extra = ", \"device\": { \"read_gbs\": 0.001, \"fma_gflops\": 0.001 }"
    };
    CLEANUP(freep) char *cache = str_printf("%s/cache", env.dir);
    CLEANUP(freep) char *dir = NULL, *path = NULL;
    CLEANUP(buf_release) struct buf file = { .max = 1 << 20 };
    struct evaltest_result r;
    struct err err;
    int files;

    (void)state;
    /* a device that slow puts every time far below its floor */
    dir = strdup(evaltest_job(&env, "good", &job));
    evaltest_run(dir, &r);
    assert_string_equal(evaltest_status(&r), "clock_tampered");
    assert_non_null(strstr(evaltest_message(&r), "cannot do it"));
    evaltest_release(&r);

    job.extra = ", \"device\": { \"read_gbs\": 20, \"fma_gflops\": 100 }";
    job.pairs_max = "40";
    for (int turn = 0; turn < 7; turn++) {
        evaltest_job(&env, "good", &job);
        evaltest_run(dir, &r);
        if (strcmp(evaltest_status(&r), "unstable") != 0)
            break;
        evaltest_release(&r);
    }
    assert_int_equal(r.status, 0);
    assert_string_equal(evaltest_status(&r), "ok");
    the_record_is_complete(r.record);
    path = str_printf("%s/result.json", dir);
    assert_int_equal(file_read(path, &file, &err), 0);
    assert_string_equal(buf_str(&file), r.out);
    evaltest_release(&r);
    files = count_files(cache); /* module, baseline of this definition, champion */
    assert_true(files >= 3);
    evaltest_run(dir, &r);
    evaltest_release(&r);
    assert_int_equal(count_files(cache), files);
}

static void a_champion_that_fails_is_not_the_candidates_fault(void **state)
{
    struct evaltest_job job = { .candidate = "honest", .champion = "wrong" };
    struct evaltest_result r;

    (void)state;
    evaltest_run(evaltest_job(&env, "champion", &job), &r);
    assert_int_equal(r.status, 0);
    assert_string_equal(evaltest_status(&r), "infrastructure");
    assert_non_null(strstr(evaltest_message(&r), "the champion failed (wrong_value)"));
    evaltest_release(&r);
}

static void probe_describes_the_machine(void **state)
{
    static const char *const argv[] = { KS_BIN_DIR "/ksearch-eval", "probe", "--name", "box",
                                        NULL };
    static const char *const words[] = { "arch", "class", "model", "toolchain" };
    struct evaltest_result r;

    (void)state;
    evaltest_exec(argv, &r);
    assert_int_equal(r.status, 0);
    assert_non_null(r.record);
    assert_string_equal(jsonx_str(r.record, "name", ""), "box");
    assert_string_equal(jsonx_str(r.record, "kind", ""), "cpu");
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        assert_true(strlen(jsonx_str(r.record, words[i], "")) > 0);
    assert_int_equal(strncmp(jsonx_str(r.record, "class", ""), "cpu-", 4), 0);
    assert_true(jsonx_num(r.record, "read_gbs", 0) > 0.1);
    assert_true(jsonx_num(r.record, "copy_gbs", 0) > 0.1);
    assert_true(jsonx_num(r.record, "fma_gflops", 0) > 0.5);
    assert_true(jsonx_int(r.record, "cores", 0) >= 1);
    assert_true(jsonx_int(r.record, "threads", 0) >= jsonx_int(r.record, "cores", 99));
    assert_true(json_array_size(json_object_get(r.record, "isa")) > 0);
    evaltest_release(&r);
}

/* What code for an older processor may not use is no feature of the device. */
static void probe_for_less_than_the_processor_has(void **state)
{
    static const char *const argv[] = { KS_BIN_DIR "/ksearch-eval", "probe", "--march", "x86-64-v2",
                                        NULL };
    struct evaltest_result r;
    json_t *feature;
    size_t i;

    (void)state;
#ifndef __x86_64__
    skip();
#endif
    evaltest_exec(argv, &r);
    assert_int_equal(r.status, 0);
    assert_string_equal(jsonx_str(r.record, "march", ""), "x86-64-v2");
    assert_string_equal(jsonx_str(r.record, "class", ""), "cpu-generic");
    json_array_foreach (json_object_get(r.record, "features"), i, feature)
        assert_int_not_equal(strncmp(json_string_value(feature), "avx", 3), 0);
    assert_null(json_object_get(r.record, "bf16_gflops"));
    assert_true(jsonx_num(r.record, "fma_gflops", 0) > 0.5);
    evaltest_release(&r);
}

static void check_passes_the_small_pack(void **state)
{
    static const char *const argv[] = { KS_BIN_DIR "/ksearch-eval", "check", EVALTEST_PACK,
                                        "vector_add_l1", NULL };
    struct evaltest_result r;

    (void)state;
    for (int turn = 0; turn < 7; turn++) {
        evaltest_exec(argv, &r);
        if (strstr(r.err, "unstable") == NULL)
            break;
        evaltest_release(&r);
    }
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "baseline: ok"));
    assert_non_null(strstr(r.out, "template: ok"));
    evaltest_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_job_gets_a_sentence_and_an_exit_status),
        cmocka_unit_test(a_bad_command_line_gets_a_sentence),
        cmocka_unit_test(help_and_version_go_to_standard_output),
        cmocka_unit_test(a_good_job_gives_a_complete_record_and_fills_the_cache),
        cmocka_unit_test(a_champion_that_fails_is_not_the_candidates_fault),
        cmocka_unit_test(probe_describes_the_machine),
        cmocka_unit_test(probe_for_less_than_the_processor_has),
        cmocka_unit_test(check_passes_the_small_pack),
    };
    int failed;

    evaltest_init(&env);
    if (!evaltest_has_sandbox(&env)) {
        evaltest_end(&env);
        return getenv("KS_REQUIRE") && strstr(getenv("KS_REQUIRE"), "bwrap") ? 1 : 77;
    }
    failed = cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
    evaltest_end(&env);
    return failed;
}
