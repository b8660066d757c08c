/* SPDX-License-Identifier: Apache-2.0 */
/* Every scenario of mock.mjs through the provider and the loop, in one program. run.sh starts the
 * server and passes its address in KS_MOCK_URL. */
#include "unit/test.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "unit/llm/ask.h"

static const char good[] = "Tile the loop by 64 and keep the accumulators in registers.";

struct scenario {
    const char *name;
    const char *options[9]; /* key, value, ..., NULL */
    unsigned tries;         /* of a good end */
    enum err_code code;     /* of a bad one; ERR_OK for a good one */
    const char *words;      /* of the error */
};

static const struct scenario scenarios[] = {
    { "plain", { "llm_stream", "no" }, 1, ERR_OK, NULL },
    { "stream", { "llm_stream", "yes" }, 1, ERR_OK, NULL },
    { "responses", { "llm_api", "responses" }, 1, ERR_OK, NULL },
    { "responses", { "llm_models", "m@responses", "llm_stream", "no" }, 1, ERR_OK, NULL },
    { "busy", { NULL }, 2, ERR_OK, NULL },
    { "chaos-busy", { NULL }, 2, ERR_OK, NULL },
    { "down", { NULL }, 3, ERR_OK, NULL },
    { "broke", { NULL }, 0, ERR_UPSTREAM, "answered 500: out of order for good (after 3" },
    { "cut", { NULL }, 0, ERR_LIMIT, "was cut off at its limit of tokens" },
    { "cut", { "llm_stream", "no" }, 0, ERR_LIMIT, "was cut off at its limit of tokens" },
    { "cut", { "llm_api", "responses" }, 0, ERR_LIMIT, "was cut off at its limit of tokens" },
    { "malformed", { "llm_stream", "no" }, 2, ERR_OK, NULL },
    { "garbled", { NULL }, 0, ERR_UPSTREAM, "cannot be used" },
    { "gone", { NULL }, 2, ERR_OK, NULL },
    { "broken", { NULL }, 2, ERR_OK, NULL },
    { "drip", { "llm_idle_timeout", "0.1", "llm_retries", "0" }, 0, ERR_UPSTREAM, "nothing came" },
    { "slow", { "llm_timeout", "1", "llm_retries", "0" }, 0, ERR_UPSTREAM, "is too slow" },
    { "slow", { "llm_idle_timeout", "20" }, 1, ERR_OK, NULL },
    { "unheard-of", { NULL }, 0, ERR_REFUSED, "answered 404" },
};

static void play(const struct scenario *s)
{
    CLEANUP(freep) char *prompt = str_printf("This is scenario %s.", s->name);
    struct asker a;
    struct told t;

    asker_init(&a, getenv("KS_MOCK_URL"));
    for (size_t i = 0; s->options[i] != NULL; i += 2)
        asker_set(&a, s->options[i], s->options[i + 1], NULL);
    asker_open(&a);
    ask(&a, &t, prompt);
    if (t.good != (s->code == ERR_OK) || (!t.good && t.err.code != s->code))
        fail_msg("%s: %s %s", s->name, t.good ? "answered" : err_name(t.err.code),
                 t.good ? t.text : t.err.msg);
    if (t.good) {
        assert_string_equal(t.text, good);
        if (t.a.tries != s->tries || t.a.estimated || t.a.tokens_in != 120 || t.a.tokens_out != 14)
            fail_msg("%s: %u tries, %s %llu tokens in, %llu out", s->name, t.a.tries,
                     t.a.estimated ? "estimated" : "counted", (unsigned long long)t.a.tokens_in,
                     (unsigned long long)t.a.tokens_out);
    } else if (strstr(t.err.msg, s->words) == NULL) {
        fail_msg("%s: '%s' is not in: %s", s->name, s->words, t.err.msg);
    }
    told_clear(&t);
    asker_release(&a);
}

static void the_mock_server_s_scenarios_end_as_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
        play(&scenarios[i]);
}

static void an_answer_keeps_to_the_form_that_is_asked_for(void **state)
{
    json_auto_t *schema =
        json_pack("{s:s, s:{s:{s:s}}, s:[s], s:b}", "type", "object", "properties", "tile", "type",
                  "integer", "required", "tile", "additionalProperties", 0);
    json_auto_t *answer = NULL;
    struct asker a;
    struct told t;
    struct err err;

    (void)state;
    asker_init(&a, getenv("KS_MOCK_URL"));
    asker_open(&a);
    ask_start(&a, &t, "This is scenario form.", schema);
    ask_wait(&a, &t);
    if (!t.good)
        fail_msg("%s", t.err.msg);
    assert_ok(jsonx_parse(t.text, strlen(t.text), "it", &answer, &err), err);
    assert_int_equal(jsonx_int(answer, "tile", 0), 64);
    told_clear(&t);
    asker_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mock_server_s_scenarios_end_as_they_should),
        cmocka_unit_test(an_answer_keeps_to_the_form_that_is_asked_for),
    };

    if (getenv("KS_MOCK_URL") == NULL) {
        fprintf(stderr, "KS_MOCK_URL is not set; run.sh starts the server and sets it\n");
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
