/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: every option takes what it should and refuses the rest, naming file, line, key and
 * value. */
#include "unit/test.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "log.h"

static struct conf *fresh(void)
{
    struct conf *c = NULL;
    struct err err;

    assert_ok(conf_new(&c, &err), err);
    return c;
}

/* conf_load of a file with this text; *err is set when it fails. */
static int load_text(const char *dir, struct conf *c, const char *text, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/ksearchd.conf", dir);

    assert_ok(file_write(path, text, strlen(text), 0600, err), *err);
    return conf_load(c, path, err);
}

static void conf_reads_every_option(void **state)
{
    struct conf *c = fresh();
    struct err err;

    assert_ok(load_text(*state, c,
                        "# a comment\n; another\n\n"
                        "data = /d\nsocket = /s\ntasks = /t1:/t2\nharness = /h\n"
                        "default_device = h200\nsandbox = none\nworkers = 7\nlog_level = debug\n"
                        "max_connections = 9\neval_threads = 3\nevaluator = record\n"
                        "replay_file = /r\ntiming_budget = 1.5\npairs_min = 4\npairs_max = 11\n",
                        &err),
              err);
    assert_string_equal(c->data, "/d");
    assert_string_equal(c->socket, "/s");
    assert_string_equal(c->tasks, "/t1:/t2");
    assert_string_equal(c->harness, "/h");
    assert_string_equal(c->default_device, "h200");
    assert_string_equal(c->replay_file, "/r");
    assert_int_equal(c->sandbox, CONF_SANDBOX_NONE);
    assert_int_equal(c->workers, 7);
    assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(c->max_connections, 9);
    assert_int_equal(c->eval_threads, 3);
    assert_int_equal(c->evaluator, CONF_EVAL_RECORD);
    assert_true(c->timing_budget_s == 1.5);
    assert_int_equal(c->pairs_min, 4);
    assert_int_equal(c->pairs_max, 11);
    assert_ok(conf_check(c, &err), err);
    conf_free(c);
}

static const struct {
    const char *key, *value;
} bad_values[] = {
    { "command_limit_retries", "101" },
    { "command_retries", "-1" },
    { "command_wait", "-1" },
    { "data", "" },
    { "default_device", "" },
    { "default_device", "a b" },
    { "default_device", "../x" },
    { "embedding", "cohere" },
    { "embedding_batch", "0" },
    { "embedding_batch", "2049" },
    { "embedding_dimensions", "-1" },
    { "embedding_query_wait", "0" },
    { "embedding_timeout", "601" },
    { "eval_threads", "-1" },
    { "eval_threads", "1025" },
    { "evaluator", "remote" },
    { "evaluator", "" },
    { "harness", "" },
    { "llm_api", "completions" },
    { "llm_backoff", "-1" },
    { "llm_backoff_max", "3601" },
    { "llm_breaker_failures", "0" },
    { "llm_breaker_wait", "0" },
    { "llm_connect_timeout", "0" },
    { "llm_effort", "" },
    { "llm_effort", "much" },
    { "llm_first_timeout", "0" },
    { "llm_idle_timeout", "nan" },
    { "llm_max_tokens", "10000001" },
    { "llm_parallel", "0" },
    { "llm_replay_match", "kind" },
    { "llm_retries", "101" },
    { "llm_stream", "true" },
    { "llm_timeout", "0" },
    { "log_level", "loud" },
    { "max_connections", "0" },
    { "max_connections", "100001" },
    { "max_connections", "1e3" },
    { "pairs_max", "2" },
    { "pairs_max", "1001" },
    { "pairs_min", "2" },
    { "pairs_min", "5 " },
    { "sandbox", "docker" },
    { "sandbox", "BWRAP" },
    { "socket", "" },
    { "tasks", "" },
    { "timing_budget", "0" },
    { "timing_budget", "inf" },
    { "timing_budget", "nan" },
    { "timing_budget", "601" },
    { "workers", "0" },
    { "workers", "65" },
    { "workers", "99999999999999999999" },
};

static void conf_refuses_every_bad_value_by_key_and_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_values); i++) {
        struct conf *c = fresh();
        struct err err;

        assert_fails(conf_set(c, "here:1", bad_values[i].key, bad_values[i].value, &err), err,
                     ERR_INVALID);
        assert_non_null(strstr(err.msg, "here:1: "));
        assert_non_null(strstr(err.msg, bad_values[i].key));
        assert_non_null(strstr(err.msg, bad_values[i].value));
        assert_non_null(strstr(err.msg, "allowed is"));
        conf_free(c);
    }
}

/* Checked by conf_check, if at all. */
static const char *const any_text[] = { "llm_ca_file",  "llm_coder",       "llm_editor",
                                        "llm_key_file", "llm_models",      "llm_planner",
                                        "llm_prices",   "llm_prompts",     "llm_proxy",
                                        "llm_record",   "llm_replay_file", "llm_temperature",
                                        "llm_url" };

/* Every row that conf_print knows has at least one bad value above (some take any text). */
static void conf_test_covers_every_option(void **state)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 16 };
    struct conf *c = fresh();
    struct err err;
    size_t n = 0;

    (void)state;
    assert_ok(conf_print(c, &text, &err), err);
    for (char *save = NULL, *line = strtok_r(text.data, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        bool covered =
            line[0] == '#' || str_has_prefix(line, "replay_file") ||
            str_has_prefix(line, "command = ") || str_has_prefix(line, "command_dir") ||
            str_has_prefix(line, "command_env") || str_has_prefix(line, "embedding_key_file") ||
            str_has_prefix(line, "embedding_model") || str_has_prefix(line, "embedding_url");

        for (size_t i = 0; i < ARRAY_LEN(any_text) && !covered; i++)
            covered = str_has_prefix(line, any_text[i]);

        n += line[0] != '#';
        for (size_t i = 0; i < ARRAY_LEN(bad_values) && !covered; i++)
            covered = str_has_prefix(line, bad_values[i].key);
        if (!covered)
            fail_msg("no bad value is tried for: %s", line);
    }
    assert_int_equal(n, 57);
    conf_free(c);
}

static void conf_takes_no_secret_in_an_address(void **state)
{
    struct conf *c = fresh();
    struct err err;

    assert_ok(load_text(*state, c,
                        "embedding = openai\nembedding_model = m\n"
                        "embedding_url = https://me:s3cret@host/v1\n",
                        &err),
              err);
    assert_fails(conf_check(c, &err), err, ERR_INVALID);
    assert_null(strstr(err.msg, "s3cret"));
    conf_free(c);
    c = fresh();
    assert_ok(load_text(*state, c,
                        "embedding = openai\nembedding_model = m\n"
                        "embedding_url = https://host/a@b\n",
                        &err),
              err);
    assert_ok(conf_check(c, &err), err);
    conf_free(c);
}

static void conf_checks_the_forms_of_language_models(void **state)
{
    static const char *const bad[] = { "llm_url = ftp://h",
                                       "llm_url = https://",
                                       "llm_url = ",
                                       "llm_url = https://me:s3cret@h",
                                       "llm_url = http://a b",
                                       "llm_url = me:s3cret@h",
                                       "llm_proxy = h:3128",
                                       "llm_proxy = http://u:s3cret@h",
                                       "llm_models = a,,b",
                                       "llm_planner = a b",
                                       "llm_coder = ,",
                                       "llm_editor = a,a",
                                       "llm_temperature = hot",
                                       "llm_temperature = 3",
                                       "llm_prices = a=1/2",
                                       "llm_models = a,b,c,d,e,f,g,h,i" };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(freep) char *text = str_printf("%s\n", bad[i]);
        CLEANUP(freep) char *option = str_printf("'%.*s'", (int)strcspn(bad[i], " "), bad[i]);
        struct conf *c = fresh();
        struct err err;

        assert_ok(load_text(*state, c, text, &err), err);
        assert_fails(conf_check(c, &err), err, ERR_INVALID);
        if (strstr(err.msg, option) == NULL || strstr(err.msg, "s3cret") != NULL)
            fail_msg("%s: %s", bad[i], err.msg);
        conf_free(c);
    }
}

static void conf_lists_go_on_in_further_lines(void **state)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 16 };
    struct conf *c = fresh();
    struct err err;

    assert_ok(load_text(*state, c,
                        "llm_prices = a=1/2/3,\n  b=1/2/3,\n\tc=1/2/3\nworkers = 3\n"
                        "llm_models = a, b,\n  c@chat\nllm_temperature = 0.1 0.2\n",
                        &err),
              err);
    assert_string_equal(c->llm_prices, "a=1/2/3, b=1/2/3, c=1/2/3");
    assert_string_equal(c->llm_models, "a, b, c@chat");
    assert_int_equal(c->workers, 3);
    assert_ok(conf_check(c, &err), err);
    conf_free(c);

    /* What is printed is read back, however long it is. */
    c = fresh();
    for (int i = 0; i < 40; i++)
        assert_int_equal(buf_addf(&text, "%smodel-%d=1.25/0.125/10", i ? ", " : "", i), 0);
    assert_ok(conf_set(c, "it", "llm_prices", buf_str(&text), &err), err);
    buf_clear(&text);
    assert_ok(conf_print(c, &text, &err), err);
    conf_free(c);
    c = fresh();
    assert_ok(load_text(*state, c, buf_str(&text), &err), err);
    assert_non_null(strstr(c->llm_prices, "model-38=1.25/0.125/10, model-39=1.25/0.125/10"));
    assert_ok(conf_check(c, &err), err);
    conf_free(c);

    /* Other options do not go on. */
    c = fresh();
    assert_fails(load_text(*state, c, "workers = 3\n  sandbox = none\n", &err), err, ERR_INVALID);
    conf_free(c);
}

static void conf_names_file_line_key_and_value(void **state)
{
    struct conf *c = fresh();
    struct err err;

    assert_fails(load_text(*state, c, "# first\nworkers = 4\nlog_level = loud\n", &err), err,
                 ERR_INVALID);
    assert_non_null(strstr(err.msg, "ksearchd.conf:3: 'log_level' is 'loud'; allowed is one of"));
    conf_free(c);
}

static void conf_refuses_what_is_no_option(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "worker = 4\n", "ksearchd.conf:1: 'worker' is not an option; allowed: command" },
        { "workers = 4\nworkers = 5\n", "ksearchd.conf:2: 'workers' was given before, in line 1" },
        { "workers = 4\n  5\n", "ksearchd.conf:2: 'workers' was given before" },
        { "[llm]\nworkers = 4\n", "ksearchd.conf:2: section '[llm]' is not known" },
        { "workers = 4\njust words\n", "ksearchd.conf:2: the line is neither" },
        { "\x1b[2J = 4\n", "'\\x1b[2J'" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf *c = fresh();
        struct err err;

        assert_fails(load_text(*state, c, cases[i].text, &err), err, ERR_INVALID);
        if (strstr(err.msg, cases[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
        conf_free(c);
    }
}

static void conf_refuses_a_line_that_is_too_long(void **state)
{
    char text[5000];
    struct conf *c = fresh();
    struct err err;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "data = /", 8);
    assert_fails(load_text(*state, c, text, &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "ksearchd.conf:1: the line has 4999 bytes"));
    conf_free(c);
}

static void conf_refuses_a_nul_and_a_missing_file(void **state)
{
    CLEANUP(freep) char *path = str_printf("%s/nul", (char *)*state);
    struct conf *c = fresh();
    struct err err;

    assert_ok(file_write(path, "workers = 4\n\0x", 14, 0600, &err), err);
    assert_fails(conf_load(c, path, &err), err, ERR_INVALID);
    assert_fails(conf_load(c, "/nonexistent/ksearchd.conf", &err), err, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nonexistent/ksearchd.conf"));
    conf_free(c);
}

static void conf_checks_options_against_each_other(void **state)
{
    struct conf *c = fresh();
    struct err err;

    (void)state;
    assert_ok(conf_set(c, "t", "pairs_min", "30", &err), err);
    assert_fails(conf_check(c, &err), err, ERR_INVALID);
    assert_ok(conf_set(c, "t", "pairs_min", "3", &err), err);
    assert_ok(conf_set(c, "t", "evaluator", "command", &err), err);
    assert_fails(conf_check(c, &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "'command' is ''"));
    assert_ok(conf_set(c, "t", "command", "srun 'n", &err), err);
    assert_fails(conf_check(c, &err), err, ERR_INVALID);
    assert_ok(conf_set(c, "t", "command", "srun -n1", &err), err);
    assert_ok(conf_check(c, &err), err);
    assert_ok(conf_set(c, "t", "evaluator", "replay", &err), err);
    assert_fails(conf_check(c, &err), err, ERR_INVALID);
    assert_ok(conf_set(c, "t", "replay_file", "/nonexistent/r.jsonl", &err), err);
    assert_fails(conf_check(c, &err), err, ERR_NOT_FOUND);
    conf_free(c);
}

static void conf_prints_what_it_reads_back(void **state)
{
    CLEANUP(buf_release) struct buf one = { .max = 1 << 16 };
    CLEANUP(buf_release) struct buf two = { .max = 1 << 16 };
    struct conf *a = fresh(), *b = fresh();
    struct err err;

    assert_ok(conf_set(a, "t", "timing_budget", "0.1", &err), err);
    assert_ok(conf_set(a, "t", "data", "/data/x", &err), err);
    assert_ok(conf_print(a, &one, &err), err);
    assert_ok(load_text(*state, b, one.data, &err), err);
    assert_ok(conf_print(b, &two, &err), err);
    assert_string_equal(one.data, two.data);
    conf_free(a);
    conf_free(b);
}

static void conf_defaults_follow_the_environment(void **state)
{
    struct conf *c;

    (void)state;
    setenv("XDG_DATA_HOME", "/xdg", 1);
    c = fresh();
    assert_string_equal(c->data, "/xdg/ksearch");
    conf_free(c);
    setenv("XDG_DATA_HOME", "relative", 1); /* the standard says: ignored */
    setenv("HOME", "/home/u", 1);
    c = fresh();
    assert_string_equal(c->data, "/home/u/.local/share/ksearch");
    conf_free(c);
    unsetenv("XDG_DATA_HOME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conf_reads_every_option),
        cmocka_unit_test(conf_refuses_every_bad_value_by_key_and_value),
        cmocka_unit_test(conf_test_covers_every_option),
        cmocka_unit_test(conf_takes_no_secret_in_an_address),
        cmocka_unit_test(conf_checks_the_forms_of_language_models),
        cmocka_unit_test(conf_lists_go_on_in_further_lines),
        cmocka_unit_test(conf_names_file_line_key_and_value),
        cmocka_unit_test(conf_refuses_what_is_no_option),
        cmocka_unit_test(conf_refuses_a_line_that_is_too_long),
        cmocka_unit_test(conf_refuses_a_nul_and_a_missing_file),
        cmocka_unit_test(conf_checks_options_against_each_other),
        cmocka_unit_test(conf_prints_what_it_reads_back),
        cmocka_unit_test(conf_defaults_follow_the_environment),
    };

    return cmocka_run_group_tests(tests, test_dir_setup, test_dir_teardown);
}
