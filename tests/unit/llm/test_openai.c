/* SPDX-License-Identifier: Apache-2.0 */
/* The provider of endpoints against a server of our own: what arrives there, and what comes of
 * everything that it may answer. */
#include "unit/test.h"

#include <time.h>
#include <unistd.h>

#include "ask.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "fake_llm.h"

#define CHUNK(text) "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define FINISH(why)                                                                                \
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" why "\"}]}\n\n"
#define USAGE                                                                                      \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":200,"           \
    "\"prompt_tokens_details\":{\"cached_tokens\":600}}}\n\n"
#define DONE "data: [DONE]\n\n"
#define GOOD CHUNK("Hello, ") CHUNK("w\xc3\xb6rld") FINISH("stop") USAGE DONE
#define WORLD "Hello, w\xc3\xb6rld"
#define WHOLE                                                                                      \
    "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"" WORLD "\"},"                          \
    "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}"
#define RESPONSES                                                                                  \
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n"           \
    "event: response.output_text.delta\n"                                                          \
    "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello, \"}\n\n"                    \
    "event: response.output_text.delta\n"                                                          \
    "data: {\"type\":\"response.output_text.delta\",\"delta\":\"w\xc3\xb6rld\"}\n\n"               \
    "event: response.completed\n"                                                                  \
    "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]," \
    "\"usage\":{\"input_tokens\":50,\"output_tokens\":5,"                                          \
    "\"input_tokens_details\":{\"cached_tokens\":20}}}}\n\n"
#define ERROR(words) "{\"error\":{\"message\":\"" words "\"}}"

static struct fake_llm *server;
static struct asker a;

static int setup(void **state)
{
    (void)state;
    server = fake_llm_start();
    asker_init(&a, fake_llm_url(server));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    asker_release(&a);
    fake_llm_stop(server);
    return 0;
}

#define SCRIPT(...)                                                                                \
    do {                                                                                           \
        static const struct fake_reply replies_[] = { __VA_ARGS__ };                               \
                                                                                                   \
        fake_llm_script(server, replies_, ARRAY_LEN(replies_));                                    \
    } while (0)

static void expect_world(struct told *t)
{
    if (!t->good)
        fail_msg("%s: %s", err_name(t->err.code), t->err.msg);
    assert_string_equal(t->text, WORLD);
    told_clear(t);
}

static void expect_error(struct told *t, enum err_code code, const char *words)
{
    assert_false(t->good);
    if (t->err.code != code || strstr(t->err.msg, words) == NULL)
        fail_msg("%s instead of %s '%s': %s", err_name(t->err.code), err_name(code), words,
                 t->err.msg);
    told_clear(t);
}

/* ---- What is sent, what is read ---- */

static void it_streams_an_answer_and_counts_its_tokens_and_cost(void **state)
{
    json_auto_t *body = NULL;
    struct told t;
    struct err err;

    (void)state;
    SCRIPT({ .status = 200, .body = GOOD });
    asker_set(&a, "llm_prices", "other=1/1/1, m=2.5/0.25/10", "llm_temperature", "0.2 0.7",
              "llm_max_tokens", "512", "llm_effort", "low", NULL);
    asker_open(&a);
    ask(&a, &t, "This call.");
    assert_true(t.good);
    assert_string_equal(t.model, "m");
    assert_int_equal(t.a.tokens_in, 1000);
    assert_int_equal(t.a.tokens_cached, 600);
    assert_int_equal(t.a.tokens_out, 200);
    assert_false(t.a.estimated);
    assert_int_equal(t.a.usd_q, 400 * 2.5 + 600 * 0.25 + 200 * 10);
    assert_int_equal(t.a.tries, 1);
    expect_world(&t);

    assert_true(str_has_prefix(fake_llm_head(server, 0), "POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_null(strstr(fake_llm_head(server, 0), "Authorization"));
    assert_ok(
        jsonx_parse(fake_llm_body(server, 0), strlen(fake_llm_body(server, 0)), "it", &body, &err),
        err);
    assert_string_equal(jsonx_str(body, "model", ""), "m");
    assert_true(jsonx_bool(body, "stream", 0));
    assert_true(jsonx_num(body, "temperature", 0) == 0.2);
    assert_int_equal(jsonx_int(body, "max_tokens", 0), 512);
    assert_string_equal(jsonx_str(body, "reasoning_effort", ""), "low");
    assert_null(json_object_get(body, "response_format"));
    body = (json_decref(body), NULL);
    assert_non_null(strstr(fake_llm_body(server, 0),
                           "[{\"role\":\"system\",\"content\":\"You write.\"},{\"role\":\"user\","
                           "\"content\":\"The task.\\n\\nThis call.\"}]"));
}

static void it_takes_a_whole_answer_and_estimates_what_is_not_counted(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = WHOLE },
           { .status = 200, .body = "{\"choices\":[{\"message\":{\"content\":\"12345678\"}}]}" });
    asker_set(&a, "llm_stream", "no", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(t.a.tokens_in, 7);
    expect_world(&t);
    assert_non_null(strstr(fake_llm_body(server, 0), "\"stream\":false"));
    assert_null(strstr(fake_llm_body(server, 0), "stream_options"));
    ask(&a, &t, "xx");
    assert_true(t.good && t.a.estimated);
    assert_int_equal(t.a.tokens_out, 2);
    assert_int_equal(t.a.tokens_in, (10 + 9 + 2) / 4);
    told_clear(&t);
}

static void it_speaks_responses_where_the_model_is_said_to_want_them(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = RESPONSES });
    asker_set(&a, "llm_models", "m@responses", "llm_max_tokens", "99", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(t.a.tokens_in, 50);
    assert_int_equal(t.a.tokens_cached, 20);
    expect_world(&t);
    assert_true(str_has_prefix(fake_llm_head(server, 0), "POST /v1/responses HTTP/1.1\r\n"));
    assert_non_null(strstr(fake_llm_body(server, 0), "\"max_output_tokens\":99"));
    assert_non_null(strstr(fake_llm_body(server, 0), "\"store\":false"));
}

static void it_finds_out_that_a_model_wants_responses(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 404, .body = ERROR("This model is only supported in v1/responses.") },
           { .status = 200, .body = RESPONSES });
    asker_open(&a);
    ask(&a, &t, "x");
    expect_world(&t);
    ask(&a, &t, "x");
    expect_world(&t);
    assert_int_equal(fake_llm_requests(server), 3); /* it is remembered */
}

static void it_reads_streams_cut_into_single_bytes(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = GOOD, .piece = 1 },
           { .status = 200, .body = RESPONSES, .piece = 1 });
    asker_set(&a, "llm_models", "m, n", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_world(&t);
}

static void it_ends_at_done_although_the_server_holds_the_line(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = GOOD, .holds = true });
    asker_open(&a);
    ask(&a, &t, "x");
    expect_world(&t);
}

static void it_reads_a_long_answer_in_slices(void **state)
{
    enum { CHUNKS = 60000 };
    CLEANUP(buf_release) struct buf body = { .max = 64 << 20 };
    struct fake_reply replies[1] = { { .status = 200 } };
    struct told t;

    (void)state;
    for (int i = 0; i < CHUNKS; i++)
        buf_addf(&body, "%s", CHUNK("0123456789"));
    buf_addf(&body, "%s", FINISH("stop") DONE);
    replies[0].body = buf_str(&body);
    fake_llm_script(server, replies, 1);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_true(t.good);
    assert_int_equal(strlen(t.text), 10 * CHUNKS);
    told_clear(&t);
}

/* ---- Form ---- */

static void it_asks_for_a_form_and_goes_on_without_where_that_is_refused(void **state)
{
    json_auto_t *schema =
        json_pack("{s:s, s:{s:{s:s}}, s:[s], s:b}", "type", "object", "properties", "x", "type",
                  "string", "required", "x", "additionalProperties", 0);
    struct told t;

    (void)state;
    SCRIPT({ .status = 400, .body = ERROR("Unknown parameter: response_format") },
           { .status = 200, .body = GOOD });
    asker_open(&a);
    ask_start(&a, &t, "x", schema);
    ask_wait(&a, &t);
    expect_world(&t);
    assert_int_equal(fake_llm_requests(server), 2);
    assert_non_null(
        strstr(fake_llm_body(server, 0), "\"response_format\":{\"type\":\"json_schema\""));
    assert_non_null(strstr(fake_llm_body(server, 0), "\"strict\":true"));
    assert_null(strstr(fake_llm_body(server, 1), "response_format"));
    ask_start(&a, &t, "x", schema);
    ask_wait(&a, &t);
    expect_world(&t);
    assert_int_equal(fake_llm_requests(server), 3); /* it is remembered */
}

static void it_leaves_out_what_else_an_endpoint_refuses(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 400, .body = ERROR("'temperature' does not support 0.5 with this model") },
           { .status = 400, .body = ERROR("Unrecognized request argument: reasoning_effort") },
           { .status = 400, .body = ERROR("max_tokens: use max_completion_tokens instead") },
           { .status = 422, .body = "{\"detail\":\"extra field stream_options\"}" },
           { .status = 200, .body = GOOD });
    asker_set(&a, "llm_temperature", "0.5", "llm_effort", "high", "llm_max_tokens", "9",
              "llm_retries", "0", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(t.a.tries, 5);
    expect_world(&t);
    assert_null(strstr(fake_llm_body(server, 4), "temperature"));
    assert_null(strstr(fake_llm_body(server, 4), "reasoning"));
    assert_null(strstr(fake_llm_body(server, 4), "stream_options"));
    assert_null(strstr(fake_llm_body(server, 4), "\"max_tokens\""));
    assert_non_null(strstr(fake_llm_body(server, 4), "\"max_completion_tokens\":9"));
}

/* ---- Failures that pass ---- */

static void it_tries_again_after_failures_that_pass(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 500, .body = ERROR("out of order") }, { .status = 0 },
           { .status = 200, .body = GOOD });
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(t.a.tries, 3);
    expect_world(&t);
}

static void it_gives_up_with_the_endpoint_s_own_words(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 503, .body = ERROR("back\\u0007 soon") });
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(fake_llm_requests(server), 3);
    assert_non_null(strstr(t.err.msg, "the model 'm' at 'http://127.0.0.1:"));
    assert_non_null(strstr(t.err.msg, "answered 503: back\\x07 soon (after 3 requests)"));
    expect_error(&t, ERR_UPSTREAM, "503");
}

static void it_starts_over_when_a_stream_breaks(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = CHUNK("half of it"), .breaks = true },
           { .status = 200, .body = CHUNK("not the end either") }, { .status = 200, .body = GOOD });
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(t.a.tries, 3);
    expect_world(&t); /* and nothing of the halves */
}

static void it_tries_again_after_answers_of_no_form(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = "data: {\"choices\": [{\"del\n\n" },
           { .status = 200, .body = "<html>welcome</html>" },
           { .status = 200, .body = CHUNK("") FINISH("stop") DONE },
           { .status = 200, .body = "data: {\"error\":{\"message\":\"worker died\"}}\n\n" },
           { .status = 200, .body = GOOD });
    asker_set(&a, "llm_retries", "4", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(t.a.tries, 5);
    expect_world(&t);
}

static void it_waits_as_long_as_it_is_asked_to(void **state)
{
    struct told t;
    char date[128];
    struct tm tm;
    time_t at;
    static struct fake_reply replies[3];

    (void)state;
    at = time(NULL) + 3;
    gmtime_r(&at, &tm);
    strftime(date, sizeof(date), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    replies[0] = (struct fake_reply){ .status = 429, .headers = "Retry-After: 1\r\n" };
    replies[1] = (struct fake_reply){ .status = 503, .headers = date };
    replies[2] = (struct fake_reply){ .status = 200, .body = GOOD };
    fake_llm_script(server, replies, 3);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_world(&t);
    assert_true(fake_llm_time_ns(server, 1) - fake_llm_time_ns(server, 0) >= NS_PER_SEC);
    assert_true(time(NULL) >= at);
}

static void it_does_not_wait_for_longer_than_allowed(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 429, .headers = "Retry-After: 3600\r\n", .body = ERROR("slow down") },
           { .status = 200, .body = GOOD });
    asker_set(&a, "llm_models", "m, n", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_string_equal(t.model, "n");
    expect_world(&t);
    SCRIPT({ .status = 429, .headers = "Retry-After: 3600\r\n" });
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "it asks for 3600 s of waiting");
}

/* ---- Too slow ---- */

static void it_gives_up_on_silence(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .silent = true, .status = 200 });
    asker_set(&a, "llm_first_timeout", "0.1", "llm_retries", "0", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "no answer began within 0.1 s");
}

static void it_gives_up_on_a_stream_that_stands_still(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = CHUNK("a") CHUNK("b"), .holds = true });
    asker_set(&a, "llm_idle_timeout", "0.1", "llm_retries", "0", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "nothing came for 0.1 s in the middle of the answer");
}

static void it_gives_up_on_a_slow_drip(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = ": alive\n\n" GOOD, .piece = 1, .pause_ms = 20 });
    asker_set(&a, "llm_timeout", "0.5", "llm_retries", "0", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "is too slow");
}

static void it_says_that_nobody_is_there(void **state)
{
    struct told t;

    (void)state;
    asker_set(&a, "llm_url", "http://127.0.0.1:1", "llm_retries", "1", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "cannot be reached");
}

/* ---- Failures that do not pass ---- */

static const struct {
    int status;
    const char *body;
    enum err_code code;
    const char *words;
} final_replies[] = {
    { 401, ERROR("who are you?"), ERR_REFUSED, "(the key is missing or is not accepted): who" },
    { 402, ERROR("pay"), ERR_REFUSED, "402: pay" },
    { 404, "not found", ERR_REFUSED, "404: not found" },
    { 301, "", ERR_REFUSED, "301: nothing" },
    { 400, ERROR("no"), ERR_INVALID, "400: no" },
    { 400, ERROR("This model's maximum context length is 10 tokens"), ERR_LIMIT, "400: This" },
    { 413, "", ERR_LIMIT, "413" },
    { 429, "{\"error\":{\"message\":\"out of money\",\"code\":\"insufficient_quota\"}}",
      ERR_REFUSED, "429: out of money" },
    { 200, CHUNK("half of i") FINISH("length") USAGE DONE, ERR_LIMIT, "was cut off" },
    { 200, CHUNK("bad") FINISH("content_filter") DONE, ERR_REFUSED, "content filter" },
    { 200, "data: {\"choices\":[{\"delta\":{\"refusal\":\"I will not\"}}]}\n\n" FINISH("stop") DONE,
      ERR_REFUSED, "declined to answer: I will not" },
};

static void it_does_not_repeat_what_cannot_work(void **state)
{
    (void)state;
    asker_open(&a);
    for (size_t i = 0; i < ARRAY_LEN(final_replies); i++) {
        struct fake_reply r = { .status = final_replies[i].status, .body = final_replies[i].body };
        struct told t;

        fake_llm_script(server, &r, 1);
        ask(&a, &t, "x");
        assert_int_equal(fake_llm_requests(server), 1);
        expect_error(&t, final_replies[i].code, final_replies[i].words);
    }
}

static void it_refuses_an_answer_without_end(void **state)
{
    CLEANUP(freep) char *flood = xmalloc(LLM_ANSWER_MAX + 4096);
    struct fake_reply r = { .status = 200, .body = flood };
    struct told t;
    size_t n;

    (void)state;
    n = (size_t)snprintf(flood, 4096, "data: {\"choices\":[{\"delta\":{\"content\":\"");
    memset(flood + n, 'a', LLM_ANSWER_MAX + 1);
    memcpy(flood + n + LLM_ANSWER_MAX + 1, "\"}}]}\n\n", 8);
    fake_llm_script(server, &r, 1);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_error(&t, ERR_LIMIT, "more than the 1048576 bytes allowed");
}

/* ---- Chains and breakers ---- */

static void it_goes_on_with_the_next_model_of_the_role(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 404, .body = ERROR("no model 'first'") }, { .status = 500 },
           { .status = 500 }, { .status = 500 }, { .status = 200, .body = GOOD });
    asker_set(&a, "llm_coder", "first, second,third", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_string_equal(t.model, "third");
    expect_world(&t);
    assert_non_null(strstr(fake_llm_body(server, 0), "\"model\":\"first\""));
    assert_non_null(strstr(fake_llm_body(server, 3), "\"model\":\"second\""));
}

static void it_says_that_it_may_work_later_when_one_model_may(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 500 }, { .status = 404, .body = ERROR("no such model") });
    asker_set(&a, "llm_models", "m, n", "llm_retries", "0", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "no such model");
}

static void it_leaves_a_model_alone_that_keeps_failing(void **state)
{
    struct told t;
    json_auto_t *status = NULL;

    (void)state;
    SCRIPT({ .status = 500 });
    asker_set(&a, "llm_breaker_failures", "2", "llm_breaker_wait", "60", "llm_retries", "5", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    told_clear(&t);
    assert_int_equal(fake_llm_requests(server), 2);
    ask(&a, &t, "x");
    assert_int_equal(fake_llm_requests(server), 2);
    expect_error(&t, ERR_UPSTREAM, "failed 2 times in a row and is left alone for another 60 s");
    status = a.llm->status(a.llm);
    assert_non_null(strstr(jsonx_str(status, "trouble", ""), "left alone"));

    a.clock.now_ns += 61 * NS_PER_SEC; /* one probe, which fails: it waits again */
    ask(&a, &t, "x");
    told_clear(&t);
    assert_int_equal(fake_llm_requests(server), 3);
    ask(&a, &t, "x");
    expect_error(&t, ERR_UPSTREAM, "left alone");
    assert_int_equal(fake_llm_requests(server), 3);

    a.clock.now_ns += 61 * NS_PER_SEC; /* one that works: as if nothing had been */
    SCRIPT({ .status = 200, .body = GOOD });
    ask(&a, &t, "x");
    expect_world(&t);
    ask(&a, &t, "x");
    expect_world(&t);
}

/* ---- The key ---- */

static void it_sends_the_key_and_shows_it_nowhere(void **state)
{
    static const char key[] = "sk-t3st-0123456789abcdefXYZ";
    CLEANUP(freep) char *path = str_printf("/tmp/ks-test-key-%d", (int)getpid());
    json_auto_t *status = NULL;
    struct told t;
    struct err err;

    (void)state;
    SCRIPT({ .status = 500, .body = ERROR("Bearer sk-t3st-0123456789abcdefXYZ is fine") },
           { .status = 401, .body = ERROR("Wrong key: SK-T3ST-0123456789ABCDEFxyz!") },
           { .status = 401, .body = "you sent 0123456789abcdef..." },
           { .status = 200, .body = CHUNK("sk-t3st-0123456789abcdefXYZ") FINISH("stop") DONE });
    assert_ok(file_write(path, "sk-t3st-0123456789abcdefXYZ\n", sizeof(key), 0600, &err), err);
    asker_set(&a, "llm_key_file", path, NULL);
    asker_open(&a);
    unlink(path);
    for (int i = 0; i < 2; i++) {
        ask(&a, &t, "x");
        assert_false(t.good);
        assert_null(strcasestr(t.err.msg, "456789abcdef"));
        assert_non_null(strstr(t.err.msg, "***"));
        status = (json_decref(status), a.llm->status(a.llm));
        assert_null(strcasestr(jsonx_str(status, "trouble", ""), "456789abcdef"));
        told_clear(&t);
    }
    assert_non_null(
        strstr(fake_llm_head(server, 1), "Authorization: Bearer sk-t3st-0123456789abcdefXYZ\r\n"));
    ask(&a, &t, "x");
    assert_string_equal(t.text, "***************************");
    told_clear(&t);
}

/* ---- Many, and ends ---- */

static void it_sends_no_more_at_a_time_than_allowed(void **state)
{
    enum { MANY = 40 };
    struct told t[MANY];

    (void)state;
    SCRIPT({ .status = 200, .body = GOOD, .piece = 40, .pause_ms = 4 });
    asker_set(&a, "llm_parallel", "3", NULL);
    asker_open(&a);
    for (int i = 0; i < MANY; i++)
        ask_start(&a, &t[i], "x", NULL);
    for (int i = 0; i < MANY; i++) {
        ask_wait(&a, &t[i]);
        expect_world(&t[i]);
    }
    assert_int_equal(fake_llm_requests(server), MANY);
    assert_in_range(fake_llm_most_open(server), 2, 3);
}

static void it_cancels_at_any_point(void **state)
{
    struct told t[4];

    (void)state;
    SCRIPT({ .status = 200, .silent = true }, { .status = 500 });
    asker_set(&a, "llm_parallel", "1", "llm_backoff", "600", "llm_backoff_max", "600", NULL);
    asker_open(&a);
    ask_start(&a, &t[0], "sent", NULL);
    ask_start(&a, &t[1], "waits for its place", NULL);
    while (fake_llm_requests(server) == 0)
        ask_idle(&a, 1);
    ask_start(&a, &t[2], "not even begun", NULL);
    for (int i = 2; i >= 0; i--) {
        a.llm->cancel(a.llm, t[i].job);
        a.llm->cancel(a.llm, t[i].job);  /* harmless */
        assert_int_equal(t[i].times, 0); /* not from inside */
        ask_wait(&a, &t[i]);
        expect_error(&t[i], ERR_CANCELLED, "'s1.1' was cancelled");
    }
    ask_start(&a, &t[3], "waits before it is tried again", NULL);
    while (fake_llm_requests(server) < 2)
        ask_idle(&a, 1);
    ask_idle(&a, 50);
    a.llm->cancel(a.llm, t[3].job);
    ask_wait(&a, &t[3]);
    expect_error(&t[3], ERR_CANCELLED, "cancelled");
}

static void a_freed_provider_tells_all_that_wait(void **state)
{
    struct told t[3];

    (void)state;
    SCRIPT({ .status = 200, .silent = true });
    asker_set(&a, "llm_parallel", "2", NULL);
    asker_open(&a);
    for (int i = 0; i < 3; i++)
        ask_start(&a, &t[i], "x", NULL);
    while (fake_llm_requests(server) < 2)
        ask_idle(&a, 1);
    llm_free(a.llm);
    a.llm = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(t[i].times, 1);
        expect_error(&t[i], ERR_CANCELLED, "cancelled");
    }
}

static void it_does_not_start_what_cannot_be_asked(void **state)
{
    CLEANUP(freep) char *huge = xmalloc(LLM_PROMPT_MAX + 2);
    struct llm_request r = {
        .id = "s.1", .role = LLM_PLANNER, .system = "", .prefix = "", .prompt = huge
    };
    struct llm_job *job = NULL;
    struct told t;
    struct err err;

    (void)state;
    memset(huge, 'x', LLM_PROMPT_MAX + 1);
    huge[LLM_PROMPT_MAX + 1] = '\0';
    SCRIPT({ .status = 200, .body = GOOD });
    asker_set(&a, "llm_models", "", NULL);
    assert_fails(llm_openai_new(loop_base(a.loop), a.conf, &a.clock.clock, &a.llm, &err), err,
                 ERR_INVALID);
    assert_non_null(strstr(err.msg, "'llm_models' is empty"));
    asker_set(&a, "llm_coder", "m", NULL);
    asker_open(&a);
    assert_fails(a.llm->start(a.llm, &r, NULL, NULL, &job, &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "'llm_planner' and 'llm_models' are empty"));
    r.role = LLM_CODER;
    assert_fails(a.llm->start(a.llm, &r, NULL, NULL, &job, &err), err, ERR_LIMIT);
    ask(&a, &t, "no utf-8: \xff");
    expect_error(&t, ERR_INVALID, "no UTF-8");
    assert_int_equal(fake_llm_requests(server), 0);
}

/* ---- The way there ---- */

static void it_goes_through_a_proxy(void **state)
{
    struct told t;

    (void)state;
    SCRIPT({ .status = 200, .body = GOOD });
    asker_set(&a, "llm_proxy", fake_llm_url(server), "llm_url", "http://models.invalid/v1/", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_world(&t);
    assert_true(str_has_prefix(fake_llm_head(server, 0),
                               "POST http://models.invalid/v1/chat/completions HTTP/1.1\r\n"));
}

static void it_checks_the_certificate_against_the_file_of_authorities(void **state)
{
    CLEANUP(freep) char *ca = str_printf("/tmp/ks-test-ca-%d.pem", (int)getpid());
    struct fake_llm *tls = fake_llm_start_tls(ca);
    static const struct fake_reply good = { .status = 200, .body = GOOD };
    struct told t;
    struct err err;

    (void)state;
    fake_llm_script(tls, &good, 1);
    asker_set(&a, "llm_url", fake_llm_url(tls), "llm_retries", "0", NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    assert_int_equal(fake_llm_requests(tls), 0);
    expect_error(&t, ERR_UPSTREAM, "certificate");
    llm_free(TAKE(a.llm));

    asker_set(&a, "llm_ca_file", ca, NULL);
    asker_open(&a);
    ask(&a, &t, "x");
    expect_world(&t);
    llm_free(TAKE(a.llm));

    assert_ok(file_write(ca, "nothing\n", 8, 0600, &err), err);
    assert_fails(llm_openai_new(loop_base(a.loop), a.conf, &a.clock.clock, &a.llm, &err), err,
                 ERR_INVALID);
    unlink(ca);
    assert_fails(llm_openai_new(loop_base(a.loop), a.conf, &a.clock.clock, &a.llm, &err), err,
                 ERR_NOT_FOUND);
    fake_llm_stop(tls);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(it_streams_an_answer_and_counts_its_tokens_and_cost),
        T(it_takes_a_whole_answer_and_estimates_what_is_not_counted),
        T(it_speaks_responses_where_the_model_is_said_to_want_them),
        T(it_finds_out_that_a_model_wants_responses),
        T(it_reads_streams_cut_into_single_bytes),
        T(it_ends_at_done_although_the_server_holds_the_line),
        T(it_reads_a_long_answer_in_slices),
        T(it_asks_for_a_form_and_goes_on_without_where_that_is_refused),
        T(it_leaves_out_what_else_an_endpoint_refuses),
        T(it_tries_again_after_failures_that_pass),
        T(it_gives_up_with_the_endpoint_s_own_words),
        T(it_starts_over_when_a_stream_breaks),
        T(it_tries_again_after_answers_of_no_form),
        T(it_waits_as_long_as_it_is_asked_to),
        T(it_does_not_wait_for_longer_than_allowed),
        T(it_gives_up_on_silence),
        T(it_gives_up_on_a_stream_that_stands_still),
        T(it_gives_up_on_a_slow_drip),
        T(it_says_that_nobody_is_there),
        T(it_does_not_repeat_what_cannot_work),
        T(it_refuses_an_answer_without_end),
        T(it_goes_on_with_the_next_model_of_the_role),
        T(it_says_that_it_may_work_later_when_one_model_may),
        T(it_leaves_a_model_alone_that_keeps_failing),
        T(it_sends_the_key_and_shows_it_nowhere),
        T(it_sends_no_more_at_a_time_than_allowed),
        T(it_cancels_at_any_point),
        T(a_freed_provider_tells_all_that_wait),
        T(it_does_not_start_what_cannot_be_asked),
        T(it_goes_through_a_proxy),
        T(it_checks_the_certificate_against_the_file_of_authorities),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
