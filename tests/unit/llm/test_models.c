/* SPDX-License-Identifier: Apache-2.0 */
/* Chains, prices, temperatures, breakers, keys, and what identifies a request. */
#include "unit/test.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "llm/breaker.h"
#include "llm/models.h"
#include "secret.h"

static void chains_name_models_and_interfaces(void **state)
{
    struct llm_chain c;
    struct err err;

    (void)state;
    assert_ok(llm_chain_parse("llm_models", " a/b:8b , gpt@chat,x@y@responses", &c, &err), err);
    assert_int_equal(c.n, 3);
    assert_string_equal(c.model[0].name, "a/b:8b");
    assert_int_equal(c.model[0].api, LLM_API_AUTO);
    assert_string_equal(c.model[1].name, "gpt");
    assert_int_equal(c.model[1].api, LLM_API_CHAT);
    assert_string_equal(c.model[2].name, "x@y");
    assert_int_equal(c.model[2].api, LLM_API_RESPONSES);
    assert_ok(llm_chain_parse("llm_models", "  ", &c, &err), err);
    assert_int_equal(c.n, 0);
}

static void chains_refuse_what_names_no_model(void **state)
{
    static const char *const bad[] = { "a,,b", "a,",    ",",   "a b",  "@chat", "\"a\"",
                                       "a\\b", "a,b,a", "a#b", "\xff", "a\x01" };
    char text[400];
    struct llm_chain c = { .n = 7 };
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_fails(llm_chain_parse("llm_coder", bad[i], &c, &err), err, ERR_INVALID);
        assert_non_null(strstr(err.msg, "'llm_coder'"));
    }
    memset(text, 'x', sizeof(text));
    text[LLM_MODEL_MAX] = '\0';
    assert_fails(llm_chain_parse("llm_coder", text, &c, &err), err, ERR_INVALID);
    text[LLM_MODEL_MAX - 1] = '\0';
    assert_ok(llm_chain_parse("llm_coder", text, &c, &err), err);
    c.n = 7;
    assert_fails(llm_chain_parse("llm_coder", "a,b,c,d,e,f,g,h,i", &c, &err), err, ERR_LIMIT);
    assert_int_equal(c.n, 7); /* untouched */
}

static void prices_make_costs(void **state)
{
    struct llm_prices p;
    struct err err;

    (void)state;
    assert_ok(llm_prices_parse("a=1.25/0.125/10, b=x=0/0/0.5 ,c=2/2/2", &p, &err), err);
    assert_int_equal(p.n, 3);
    assert_string_equal(p.price[1].model, "b=x");
    assert_int_equal(llm_prices_cost(&p, "a", 1000000, 0, 0), 1250000);
    assert_int_equal(llm_prices_cost(&p, "a", 1000, 1000, 100), 125 + 1000);
    assert_int_equal(llm_prices_cost(&p, "a", 1000, 5000, 0), 125); /* no more than there were */
    assert_int_equal(llm_prices_cost(&p, "b=x", 7, 0, 3), 2);
    assert_int_equal(llm_prices_cost(&p, "unknown", 7, 0, 3), 0);
    assert_true(llm_prices_cost(&p, "a", UINT64_MAX, UINT64_MAX, UINT64_MAX) > 0);
    assert_ok(llm_prices_parse("", &p, &err), err);
    assert_int_equal(p.n, 0);
}

static void prices_refuse_what_is_no_price(void **state)
{
    static const char *const bad[] = {
        "a",         "a=1",    "a=1/2",  "a=1/2/3/4", "=1/2/3",   "a=1/2/x",         "a=-1/2/3",
        "a=1/2/1e9", "a=1//3", "a=1/2/", "a=nan/1/1", "a=1/2/3,", "a=1/1/1,a=2/2/2", "a= 1/2/3 4"
    };
    struct llm_prices p;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_fails(llm_prices_parse(bad[i], &p, &err), err, ERR_INVALID);
        assert_non_null(strstr(err.msg, "'llm_prices'"));
    }
}

static void temperatures_follow_the_attempts(void **state)
{
    static const char *const bad[] = { "x", "-0.1", "2.1", "0.5,0.6", "1 1 1 1 1 1 1 1 1", "nan" };
    struct llm_temperatures t;
    struct err err;

    (void)state;
    assert_ok(llm_temperatures_parse("", &t, &err), err);
    assert_true(llm_temperature_of(&t, 1) < 0);
    assert_ok(llm_temperatures_parse(" 0.2  0.7 ", &t, &err), err);
    assert_true(llm_temperature_of(&t, 0) == 0.2);
    assert_true(llm_temperature_of(&t, 1) == 0.2);
    assert_true(llm_temperature_of(&t, 2) == 0.7);
    assert_true(llm_temperature_of(&t, 9) == 0.7);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_fails(llm_temperatures_parse(bad[i], &t, &err), err, ERR_INVALID);
}

static void a_breaker_opens_waits_and_probes(void **state)
{
    struct breaker b = { 0 };
    uint64_t wait = 10, now = 100;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(breaker_enter(&b, now));
        breaker_failed(&b, now, 3, wait);
    }
    breaker_succeeded(&b); /* in a row is what counts */
    for (int i = 0; i < 3; i++) {
        assert_true(breaker_enter(&b, now));
        breaker_failed(&b, now, 3, wait);
    }
    assert_int_equal(b.state, BREAKER_OPEN);
    breaker_failed(&b, now + 5, 3, wait); /* one that was under way */
    assert_false(breaker_enter(&b, now + 9));
    assert_true(breaker_enter(&b, now + 10));
    assert_string_equal(breaker_state_name(b.state), "half-open");
    assert_false(breaker_enter(&b, now + 10)); /* one probe at a time */
    breaker_unknown(&b, now + 11);             /* cancelled: the next one probes */
    assert_true(breaker_enter(&b, now + 11));
    breaker_failed(&b, now + 12, 3, wait);
    assert_false(breaker_enter(&b, now + 21));
    assert_true(breaker_enter(&b, now + 22));
    breaker_succeeded(&b);
    assert_true(breaker_enter(&b, now + 22));
    assert_int_equal(b.failures, 0);
    breaker_unknown(&b, now);
    assert_int_equal(b.state, BREAKER_CLOSED);
}

static void keys_come_from_a_file_or_the_environment(void **state)
{
    CLEANUP(freep) char *path = str_printf("%s/key", (char *)*state);
    char *key = NULL;
    struct err err;

    unsetenv("KSEARCH_API_KEY");
    assert_ok(secret_load("llm_key_file", "", &key, &err), err);
    assert_string_equal(key, "");
    free(key);
    setenv("KSEARCH_API_KEY", "from-environment", 1);
    assert_ok(secret_load("llm_key_file", "", &key, &err), err);
    assert_string_equal(key, "from-environment");
    free(key);
    assert_ok(file_write(path, "from-file \n", 11, 0600, &err), err);
    assert_ok(secret_load("llm_key_file", path, &key, &err), err);
    assert_string_equal(key, "from-file");
    free(key);
    assert_ok(file_write(path, "\n", 1, 0600, &err), err);
    assert_fails(secret_load("llm_key_file", path, &key, &err), err, ERR_INVALID);
    assert_ok(file_write(path, "a\x01s3cret", 8, 0600, &err), err);
    assert_fails(secret_load("llm_key_file", path, &key, &err), err, ERR_INVALID);
    assert_null(strstr(err.msg, "s3cret"));
    assert_fails(secret_load("llm_key_file", "/no/such/file", &key, &err), err, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "'llm_key_file'"));
    unsetenv("KSEARCH_API_KEY");
}

static void keys_are_taken_out_of_what_is_said(void **state)
{
    static const char key[] = "sk-abcdefghijklmnop";
    static const struct {
        const char *text, *redacted, *whole;
    } cases[] = {
        { "key sk-abcdefghijklmnop!", "key *******************!", "key *******************!" },
        { "SK-ABCDEFGHIJKLMNOP", "*******************", "*******************" },
        { "ends sk-abcdefghijk", "ends **************", "ends sk-abcdefghijk" },
        { "mid cdefghijkl.", "mid **********.", "mid cdefghijkl." },
        { "sk-abcd is short", "sk-abcd is short", "sk-abcd is short" },
        { "", "", "" },
        { "sk-abcdefghijklmnopsk-abcdefghijklmnop", "**************************************",
          "**************************************" },
    };
    char text[100];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        str_copy(text, sizeof(text), cases[i].text);
        secret_redact(key, text, strlen(text));
        assert_string_equal(text, cases[i].redacted);
        str_copy(text, sizeof(text), cases[i].text);
        secret_redact_whole(key, text, strlen(text));
        assert_string_equal(text, cases[i].whole);
        secret_redact("", text, strlen(text));
        assert_string_equal(text, cases[i].whole);
    }
    str_copy(text, sizeof(text), "a tiny key: k3y");
    secret_redact("k3y", text, strlen(text));
    assert_string_equal(text, "a tiny key: ***");
}

static void a_request_is_known_by_its_texts(void **state)
{
    char a[LLM_HASH_HEX + 1], b[LLM_HASH_HEX + 1];

    (void)state;
    llm_request_hash("code", 1, "s", "p", "q", NULL, a);
    assert_true(str_is_hex(a, LLM_HASH_HEX));
    llm_request_hash("code", 1, "s", "p", "q", NULL, b);
    assert_string_equal(a, b);
    /* Of what is written into recordings: it must not change between versions. */
    assert_string_equal(a, "33f5a52167521bc845959f93a03a7f4099b3b24d9ba8fdeca7a01c039ecaf5e3");
#define DIFFERS(...)                                                                               \
    llm_request_hash(__VA_ARGS__, b);                                                              \
    assert_string_not_equal(a, b)
    DIFFERS("plan", 1, "s", "p", "q", NULL);
    DIFFERS("code", 2, "s", "p", "q", NULL);
    DIFFERS("code", 1, "", "sp", "q", NULL);
    DIFFERS("code", 1, "s", "pq", "", NULL);
    DIFFERS("code", 1, "s", "p", "q", "");
    DIFFERS("code", 1, "s", "p", "q", "form");
}

static void roles_have_names(void **state)
{
    (void)state;
    for (int r = 0; r < LLM_ROLE_COUNT; r++)
        assert_int_equal(llm_role_from_name(llm_role_name((enum llm_role)r)), r);
    assert_int_equal(llm_role_from_name("boss"), LLM_ROLE_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_name_models_and_interfaces),
        cmocka_unit_test(chains_refuse_what_names_no_model),
        cmocka_unit_test(prices_make_costs),
        cmocka_unit_test(prices_refuse_what_is_no_price),
        cmocka_unit_test(temperatures_follow_the_attempts),
        cmocka_unit_test(a_breaker_opens_waits_and_probes),
        cmocka_unit_test_setup_teardown(keys_come_from_a_file_or_the_environment, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test(keys_are_taken_out_of_what_is_said),
        cmocka_unit_test(a_request_is_known_by_its_texts),
        cmocka_unit_test(roles_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
