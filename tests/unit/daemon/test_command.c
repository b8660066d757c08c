/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher `command`: words of its prefix, and a scheduler's sentences. */
#include "eval/launcher_command.h"

#include "base/mem.h"
#include "unit/test.h"

static void a_line_becomes_words(void **state)
{
    char **words;
    struct err err;

    (void)state;
    assert_ok(command_words("  srun -n1 --job-name='k s' \"a \\\"b\\\"\" c\\ d '' ", &words, &err),
              err);
    assert_string_equal(words[0], "srun");
    assert_string_equal(words[1], "-n1");
    assert_string_equal(words[2], "--job-name=k s");
    assert_string_equal(words[3], "a \"b\"");
    assert_string_equal(words[4], "c d");
    assert_string_equal(words[5], "");
    assert_null(words[6]);
    command_words_free(words);
}

static void a_line_that_is_no_command_is_refused(void **state)
{
    char many[300] = "", **words;
    struct err err;

    (void)state;
    assert_int_equal(command_words("   ", &words, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(command_words("ssh 'host", &words, &err), -1);
    assert_non_null(strstr(err.msg, "quote '"));
    memset(many, ' ', sizeof(many) - 1);
    for (int i = 0; i < COMMAND_WORDS_MAX + 1; i++)
        many[2 * i] = 'a';
    assert_int_equal(command_words(many, &words, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
}

static void a_scheduler_is_understood(void **state)
{
    static const struct {
        const char *text;
        enum command_failure want;
    } cases[] = {
        { "", COMMAND_FAILURE_NONE },
        { "ksearch-eval: no such pack\n", COMMAND_FAILURE_NONE },
        { "srun: error: Node failure on n7\n", COMMAND_FAILURE_NODE },
        { "srun: Job step aborted: Waiting up to 4 seconds for job step to finish.\n"
          "slurmstepd-n1: error: *** STEP 8.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME "
          "LIMIT ***\n",
          COMMAND_FAILURE_LIMIT },
        { "slurmstepd: error: *** STEP 3.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO "
          "PREEMPTION ***\n",
          COMMAND_FAILURE_PREEMPT },
        { "srun: error: Unable to allocate resources: Invalid partition name specified\n",
          COMMAND_FAILURE_ASK },
        { "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0.\n", COMMAND_FAILURE_MEMORY },
        { "ssh: connect to host gpu1 port 22: No route to host\n", COMMAND_FAILURE_ASK },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(command_failure_of(cases[i].text), cases[i].want);
}

static void only_what_the_configuration_allows_is_tried_again(void **state)
{
    struct command_retries r = { .node = 2, .limit = 1 };

    (void)state;
    assert_int_equal(command_failure_retries(&r, COMMAND_FAILURE_NODE), 2);
    assert_int_equal(command_failure_retries(&r, COMMAND_FAILURE_PREEMPT), 2);
    assert_int_equal(command_failure_retries(&r, COMMAND_FAILURE_ASK), 2);
    assert_int_equal(command_failure_retries(&r, COMMAND_FAILURE_LIMIT), 1);
    assert_int_equal(command_failure_retries(&r, COMMAND_FAILURE_MEMORY), 0);
    assert_int_equal(command_failure_retries(&r, COMMAND_FAILURE_NONE), 0);
    for (int f = COMMAND_FAILURE_NONE + 1; f < COMMAND_FAILURE_COUNT; f++)
        assert_non_null(command_failure_text((enum command_failure)f));
    assert_null(command_failure_text(COMMAND_FAILURE_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_becomes_words),
        cmocka_unit_test(a_line_that_is_no_command_is_refused),
        cmocka_unit_test(a_scheduler_is_understood),
        cmocka_unit_test(only_what_the_configuration_allows_is_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
