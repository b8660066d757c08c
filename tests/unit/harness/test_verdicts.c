/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Known ways to cheat or to fail, each with its verdict, and honest twins that pass; on the real
 * program and the real sandbox. Sources: tests/fixtures/candidates.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "evaltest.h"

static struct evaltest env;

struct row {
    const char *fixture;
    const char *status[3]; /* any of these */
    const char *message;   /* a part of it; NULL: not looked at */
    struct evaltest_job job;
};

#define OK                                                                                         \
    {                                                                                              \
        "ok"                                                                                       \
    }

static const struct row rows[] = {
    { "honest", OK, NULL, { 0 } },
    { "honest_parallel", OK, NULL, { 0 } },
    { "honest_threads", OK, NULL, { 0 } },
    { "honest_memory", OK, NULL, { 0 } },
    { "honest_tables", OK, NULL, { 0 } },
    { "honest_aligned", OK, NULL, { .defines = "{ \"TWO\": \"2\" }" } },
    { "wrong", { "wrong_value" }, "z[0][3]", { 0 } },
    { "wrong_in_timing", { "wrong_value" }, "z[0][0]", { 0 } },
    { "nan", { "nonfinite" }, "nan", { 0 } },
    { "infinite", { "nonfinite" }, "inf", { 0 } },
    { "untouched", { "output_untouched" }, "was not written", { 0 } },
    { "noop_later", { "output_untouched" }, NULL, { 0 } },
    { "write_behind", { "guard_hit" }, "behind the end of 'z'", { 0 } },
    { "write_before", { "guard_hit" }, "1 bytes before 'x'", { 0 } },
    { "modify_input", { "input_modified" }, "'y'", { 0 } },
    { "cache_by_pointer",
      { "wrong_value" },
      NULL,
      { .set = "cpu", .definition = "vector_add_l1" } },
    { "cache_by_sample", { "wrong_value" }, NULL, { .set = "cpu", .definition = "vector_add_l1" } },
    { "crash", { "crashed" }, "SEGV", { 0 } },
    { "aborts", { "crashed" }, "ABRT", { 0 } },
    { "exits", { "crashed" }, "exit status 0", { 0 } },
    { "close_channel", { "crashed" }, "closed the channel", { 0 } },
    { "hang", { "timeout" }, "1 s", { .run_s = "1" } },
    { "hang_in_load", { "load_failed" }, "loading", { .run_s = "1" } },
    { "refuse", { "refused_call" }, "returned 7", { 0 } },
    { "no_kernel", { "load_failed" }, "ks_kernel", { 0 } },
    { "undefined_symbol", { "load_failed" }, "nobody_has_this", { 0 } },
    { "syntax_error", { "build_failed" }, "error", { 0 } },
    { "slow_build", { "build_timeout" }, "1 s", { .build_s = "1" } },
#if !defined(__SANITIZE_ADDRESS__) &&                                                              \
    !defined(__SANITIZE_THREAD__) /* no limit of address space then */
    { "memory_hog", { "memory_limit" }, "134217728", { .memory_bytes = "134217728" } },
#endif
    { "fork_500", OK, NULL, { 0 } },
    { "threads_500", OK, NULL, { 0 } },
    { "thread_left", { "process_limit" }, "1 threads", { 0 } },
    { "clock_own", OK, NULL, { 0 } },
    { "clock_patch", { "clock_tampered" }, "claims less", { 0 } },
    { "forge_reply", { "result_forged" }, "without the call's number", { 0 } },
    { "forge_early", { "result_forged" }, "before it was called", { 0 } },
    { "forge_twice", { "result_forged", "process_limit" }, NULL, { 0 } },
    { "output_flood", OK, NULL, { 0 } },
};

static bool is_expected(const struct row *row, const char *status)
{
    for (size_t i = 0; i < ARRAY_LEN(row->status) && row->status[i]; i++)
        if (strcmp(row->status[i], status) == 0)
            return true;
    return false;
}

/* Every failure has a sentence and no score; success has a score and no sentence. */
static void check_record(const struct row *row, const struct evaltest_result *r)
{
    bool ok = strcmp(evaltest_status(r), "ok") == 0;

    assert_int_equal(r->status, 0);
    assert_non_null(r->record);
    assert_int_equal(json_is_real(json_object_get(r->record, "objective")), ok);
    assert_int_equal(json_is_null(json_object_get(r->record, "objective")), !ok);
    assert_int_equal(evaltest_message(r)[0] == '\0', ok);
    if (row->message != NULL && strstr(evaltest_message(r), row->message) == NULL)
        fail_msg("%s: '%s' does not say '%s'", row->fixture, evaltest_message(r), row->message);
}

/* A crowded machine can make samples scatter: that verdict, and only that, is asked for again. */
static void gets_its_verdict(void **state)
{
    const struct row *row = *state;
    struct evaltest_job job = row->job;
    struct evaltest_result r;

    job.candidate = row->fixture;
    evaltest_run(evaltest_job(&env, row->fixture, &job), &r);
    for (int turn = 0; turn < 6 && strcmp(evaltest_status(&r), "unstable") == 0; turn++) {
        evaltest_release(&r);
        evaltest_run(evaltest_job(&env, row->fixture, &job), &r);
    }
    if (!is_expected(row, evaltest_status(&r)))
        fail_msg("%s: status '%s' (%s), expected '%s'; stderr: %s", row->fixture,
                 evaltest_status(&r), evaltest_message(&r), row->status[0], r.err);
    check_record(row, &r);
    evaltest_release(&r);
    evaltest_wait_for_no_processes(&env);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(rows)];
    int failed;

    evaltest_init(&env);
    if (!evaltest_has_sandbox(&env)) {
        evaltest_end(&env);
        return getenv("KS_REQUIRE") && strstr(getenv("KS_REQUIRE"), "bwrap") ? 1 : 77;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        tests[i] = (struct CMUnitTest){ rows[i].fixture, gets_its_verdict, NULL, NULL,
                                        (void *)(uintptr_t)&rows[i] };
    failed = cmocka_run_group_tests_name("verdicts", tests, NULL, NULL);
    evaltest_end(&env);
    return failed;
}
