/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests, answers and errors of both interfaces, on bytes alone. */
#include "unit/test.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "llm/openai_wire.h"
#include "llm/sse.h"

/* ---- Requests ---- */

static struct wire_request plain(enum llm_api api)
{
    return (struct wire_request){ .api = api,
                                  .features = WIRE_ALL,
                                  .model = "m",
                                  .system = "S",
                                  .prefix = "P",
                                  .prompt = "Q",
                                  .temperature = -1 };
}

static json_t *body_of(const struct wire_request *r, unsigned *used)
{
    CLEANUP(freep) char *text = NULL;
    json_t *body = NULL;
    struct err err;

    assert_ok(wire_body(r, &text, used, &err), err);
    assert_ok(jsonx_parse(text, strlen(text), "body", &body, &err), err);
    return body;
}

static void addresses_end_in_the_interface(void **state)
{
    static const struct {
        const char *url, *chat, *responses;
    } cases[] = {
        { "http://h", "http://h/v1/chat/completions", "http://h/v1/responses" },
        { "http://h/", "http://h/v1/chat/completions", "http://h/v1/responses" },
        { "http://h/v1", "http://h/v1/chat/completions", "http://h/v1/responses" },
        { "http://h/v1//", "http://h/v1/chat/completions", "http://h/v1/responses" },
        { "http://h/api", "http://h/api/v1/chat/completions", "http://h/api/v1/responses" },
        { "http://h/v4/chat/completions", "http://h/v4/chat/completions", "http://h/v4/responses" },
        { "http://h/x/responses/", "http://h/x/chat/completions", "http://h/x/responses" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(freep) char *chat = wire_url(cases[i].url, LLM_API_CHAT);
        CLEANUP(freep) char *responses = wire_url(cases[i].url, LLM_API_RESPONSES);

        assert_string_equal(chat, cases[i].chat);
        assert_string_equal(responses, cases[i].responses);
    }
}

static void a_plain_request_mentions_nothing_more(void **state)
{
    struct wire_request r = plain(LLM_API_CHAT);
    CLEANUP(freep) char *text = NULL;
    unsigned used;
    struct err err;

    (void)state;
    r.features = 0;
    assert_ok(wire_body(&r, &text, &used, &err), err);
    assert_string_equal(text, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":"
                              "\"S\"},{\"role\":\"user\",\"content\":\"P\\n\\nQ\"}],"
                              "\"stream\":false}");
    assert_int_equal(used, 0);
}

static void a_feature_is_left_out_when_it_is_refused(void **state)
{
    static const char *const chat[] = { "response_format", "temperature", "reasoning_effort", NULL,
                                        "stream_options",  "max_tokens" };
    static const char *const responses[] = { "text", "temperature", "reasoning", NULL,
                                             NULL,   NULL,          "store" };
    json_auto_t *schema = json_pack("{s:s}", "type", "object");
    struct wire_request r = plain(LLM_API_CHAT);

    (void)state;
    r.schema = schema;
    r.schema_name = "form";
    r.temperature = 0.5;
    r.effort = "low";
    r.max_tokens = 9;
    for (int api = 0; api < 2; api++) {
        const char *const *names = api == 0 ? chat : responses;
        size_t n = api == 0 ? ARRAY_LEN(chat) : ARRAY_LEN(responses);

        r.api = api == 0 ? LLM_API_CHAT : LLM_API_RESPONSES;
        for (size_t bit = 0; bit < n; bit++) {
            unsigned used = 0;
            json_auto_t *with = NULL, *without = NULL;

            if (names[bit] == NULL)
                continue;
            r.features = WIRE_ALL;
            with = body_of(&r, &used);
            assert_true(used & (1u << bit));
            assert_non_null(json_object_get(with, names[bit]));
            r.features = WIRE_ALL & ~(1u << bit);
            without = body_of(&r, &used);
            assert_false(used & (1u << bit));
            assert_null(json_object_get(without, names[bit]));
        }
    }
}

static void a_schema_is_strict_only_when_it_can_be(void **state)
{
    static const struct {
        const char *schema;
        bool strict;
    } cases[] = {
        { "{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"],"
          "\"additionalProperties\":false}",
          true },
        { "{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[],"
          "\"additionalProperties\":false}",
          false },
        { "{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"]}", false },
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{\"properties\":{\"b\":{}}}]}},"
          "\"required\":[\"a\"],\"additionalProperties\":false}",
          false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wire_request r = plain(LLM_API_RESPONSES);
        json_auto_t *schema = NULL, *body = NULL;
        unsigned used;
        struct err err;

        assert_ok(jsonx_parse(cases[i].schema, strlen(cases[i].schema), "s", &schema, &err), err);
        r.schema = schema;
        body = body_of(&r, &used);
        assert_int_equal(
            jsonx_bool(json_object_get(json_object_get(body, "text"), "format"), "strict", -1),
            cases[i].strict);
    }
}

/* ---- Streams ---- */

static const char chat_stream[] =
    ": hello\n\n"
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
    "\"\"},\"finish_reason\":null}],\"usage\":null}\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"f\xc3\xbcr \"}},{\"index\":1,"
    "\"delta\":{\"content\":\"not this\"}}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud83d\\ude00\\\"\\n\"}}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,"
    "\"prompt_tokens_details\":{\"cached_tokens\":100}}}\n\n"
    "data: [DONE]\n\n";
static const char responses_stream[] =
    "event: response.created\r\ndata: {\"type\":\"response.created\"}\r\n\r\n"
    "event: response.reasoning_summary_text.delta\r\n"
    "data: {\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"hm\"}\r\n\r\n"
    "event: response.output_text.delta\r\n"
    "data: {\"type\":\"response.output_text.delta\",\"delta\":\"f\xc3\xbcr \"}\r\n\r\n"
    "event: response.output_text.delta\r\n"
    "data: {\"delta\":\"\\ud83d\\ude00\\\"\\n\"}\r\n\r\n"
    "event: response.completed\r\n"
    "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[{"
    "\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"f\xc3\xbcr "
    "\xf0\x9f\x98\x80\\\"\\n\"}]}],\"usage\":{\"input_tokens\":9,\"output_tokens\":4,"
    "\"input_tokens_details\":{\"cached_tokens\":100}}}}\r\n\r\n";
#define STREAM_TEXT "f\xc3\xbcr \xf0\x9f\x98\x80\"\n"

struct reading {
    enum llm_api api;
    struct wire_answer a;
};

static int on_event(void *ctx, const char *name, const char *data, size_t len, struct err *err)
{
    struct reading *r = ctx;

    return wire_event(r->api, name, data, len, &r->a, err);
}

/* Reads a stream in pieces of up to `most` bytes (0: all at once). */
static int read_stream(struct reading *r, const char *text, size_t len, size_t most,
                       struct rng *rng, struct err *err)
{
    struct sse s = { .fn = on_event, .ctx = r };
    int rc = 0;

    for (size_t at = 0; at < len && rc == 0;) {
        size_t n = most ? 1 + rng_below(rng, most) : len;

        n = MIN(n, len - at);
        rc = sse_feed(&s, text + at, n, err);
        at += n;
    }
    if (rc == 0)
        rc = sse_end(&s, err);
    sse_release(&s);
    return rc;
}

static void expect_stream(enum llm_api api, const char *text, size_t most, struct rng *rng)
{
    struct reading r = { .api = api };
    struct err err;

    assert_ok(read_stream(&r, text, strlen(text), most, rng, &err), err);
    assert_string_equal(buf_str(&r.a.text), STREAM_TEXT);
    assert_int_equal(r.a.end, WIRE_COMPLETE);
    assert_true(r.a.over && r.a.counted);
    assert_int_equal(r.a.in, 9);
    assert_int_equal(r.a.cached, 9); /* not more than there were */
    assert_int_equal(r.a.out, 4);
    wire_answer_release(&r.a);
}

static void streams_give_the_same_answer_wherever_they_are_cut(void **state)
{
    struct rng rng = rng_seeded(3);

    (void)state;
    for (size_t most = 0; most < 40; most++) {
        expect_stream(LLM_API_CHAT, chat_stream, most, &rng);
        expect_stream(LLM_API_RESPONSES, responses_stream, most, &rng);
    }
}

/* No beginning of a stream counts as an answer, or as one without an end. */
static void a_stream_that_breaks_off_anywhere_is_not_whole(void **state)
{
    struct rng rng = rng_seeded(5);
    size_t finish = (size_t)(strstr(chat_stream, "\"finish_reason\":\"stop\"") - chat_stream);

    (void)state;
    for (size_t len = 0; len < sizeof(chat_stream) - 1; len++) {
        struct reading r = { .api = LLM_API_CHAT };
        struct err err;
        int rc = read_stream(&r, chat_stream, len, 0, &rng, &err);

        if (len < finish)
            assert_true(rc != 0 || r.a.end == WIRE_OPEN);
        if (rc != 0)
            assert_int_equal(err.code, ERR_UPSTREAM);
        wire_answer_release(&r.a);
    }
    for (size_t len = 0; len < sizeof(responses_stream) - 8; len++) {
        struct reading r = { .api = LLM_API_RESPONSES };
        struct err err;

        if (read_stream(&r, responses_stream, len, 0, &rng, &err) == 0)
            assert_int_equal(r.a.end, WIRE_OPEN);
        wire_answer_release(&r.a);
    }
}

static void damaged_streams_do_no_harm(void **state)
{
    struct rng rng = rng_seeded(9);
    char text[sizeof(chat_stream) + sizeof(responses_stream)];

    (void)state;
    for (int round = 0; round < 4000; round++) {
        struct reading r = { .api = round % 2 ? LLM_API_CHAT : LLM_API_RESPONSES };
        const char *from = round % 4 < 2 ? chat_stream : responses_stream;
        size_t len = strlen(from);
        struct err err;

        memcpy(text, from, len + 1);
        for (int i = 0; i < 1 + round % 5; i++)
            text[rng_below(&rng, len)] = "\"{}[]:,0\n\xff"[rng_below(&rng, 10)];
        if (read_stream(&r, text, len, 64, &rng, &err) != 0)
            assert_int_equal(err.code, ERR_UPSTREAM);
        else
            assert_true(r.a.end <= WIRE_FAILED && r.a.cached <= r.a.in);
        wire_answer_release(&r.a);
    }
}

/* ---- Single events and whole answers ---- */

static const struct {
    enum llm_api api;
    const char *body;
    enum wire_end end;
    const char *text;
} whole[] = {
    { LLM_API_CHAT, "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}", WIRE_COMPLETE, "x" },
    { LLM_API_CHAT,
      "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
      "\"image\"},{\"type\":\"text\",\"text\":\"b\"}]},\"finish_reason\":\"stop\"}]}",
      WIRE_COMPLETE, "ab" },
    { LLM_API_CHAT, "{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"length\"}]}",
      WIRE_CUT, "" },
    { LLM_API_CHAT,
      "{\"choices\":[{\"message\":{\"content\":\"x\",\"refusal\":\"no\"},\"finish_reason\":"
      "\"stop\"}]}",
      WIRE_DECLINED, "no" },
    { LLM_API_CHAT, "{\"error\":{\"message\":\"overloaded\",\"code\":502}}", WIRE_FAILED, "" },
    { LLM_API_RESPONSES,
      "{\"status\":\"completed\",\"output\":[{\"type\":\"reasoning\"},{\"type\":\"message\","
      "\"content\":[{\"type\":\"output_text\",\"text\":\"x\"}]}]}",
      WIRE_COMPLETE, "x" },
    { LLM_API_RESPONSES,
      "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"}}",
      WIRE_CUT, "" },
    { LLM_API_RESPONSES,
      "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"}}",
      WIRE_FILTERED, "" },
    { LLM_API_RESPONSES,
      "{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":"
      "\"refusal\",\"refusal\":\"no\"}]}]}",
      WIRE_DECLINED, "no" },
    { LLM_API_RESPONSES,
      "{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"s\"}}",
      WIRE_FAILED, "" },
};

static void whole_answers_end_as_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        struct wire_answer a = { 0 };
        struct err err;

        assert_ok(wire_whole(whole[i].api, whole[i].body, strlen(whole[i].body), &a, &err), err);
        assert_int_equal(a.end, whole[i].end);
        assert_string_equal(buf_str(&a.text), whole[i].text);
        assert_true(a.over);
        wire_answer_release(&a);
    }
}

static void what_is_no_answer_is_said_to_be_none(void **state)
{
    static const char *const bodies[] = { "",
                                          "{",
                                          "[]",
                                          "7",
                                          "null",
                                          "\"x\"",
                                          "{}",
                                          "{\"choices\":[]}",
                                          "{\"choices\":{\"0\":1}}",
                                          "{\"status\":\"in_progress\"}",
                                          "{\"choices\":[{\"text\":\"old\"}]}",
                                          "{\"choices\":[{\"message\":7}]}" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        for (int api = 0; api < 2; api++) {
            struct wire_answer a = { 0 };
            struct err err;

            assert_fails(wire_whole(api ? LLM_API_CHAT : LLM_API_RESPONSES, bodies[i],
                                    strlen(bodies[i]), &a, &err),
                         err, ERR_UPSTREAM);
            wire_answer_release(&a);
        }
}

static void counts_that_make_no_sense_are_not_taken(void **state)
{
    static const char *const usages[] = {
        "{\"prompt_tokens\":-1,\"completion_tokens\":1}",
        "{\"prompt_tokens\":1e3,\"completion_tokens\":1}",
        "{\"prompt_tokens\":\"7\",\"completion_tokens\":1}",
        "{\"prompt_tokens\":9000000000000,\"completion_tokens\":1}",
        "{\"prompt_tokens\":7}",
        "[7,7]",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(usages); i++) {
        CLEANUP(freep)
        char *body =
            str_printf("{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":%s}", usages[i]);
        struct wire_answer a = { 0 };
        struct err err;

        assert_ok(wire_whole(LLM_API_CHAT, body, strlen(body), &a, &err), err);
        assert_false(a.counted);
        wire_answer_release(&a);
    }
}

/* ---- Errors ---- */

static const struct {
    long status;
    unsigned used;
    const char *body;
    enum wire_fault_kind kind;
    unsigned feature;
    const char *words;
} faults[] = {
    { 500, 0, "{\"error\":{\"message\":\"m\"}}", WIRE_LATER, 0, "m" },
    { 500, 0, "", WIRE_LATER, 0, "nothing" },
    { 502, 0, "<html>\x01", WIRE_LATER, 0, "<html>\\x01" },
    { 408, 0, "{}", WIRE_LATER, 0, "{}" },
    { 429, 0, "{\"error\":\"busy\"}", WIRE_BUSY, 0, "busy" },
    { 429, 0, "{\"error\":{\"message\":\"q\",\"type\":\"insufficient_quota\"}}", WIRE_REFUSED, 0,
      "q" },
    { 401, 0, "{\"detail\":\"d\"}", WIRE_REFUSED, 0, "d" },
    { 404, 0, "[{\"error\":{\"message\":\"first\"}}]", WIRE_REFUSED, 0, "first" },
    { 404, 0, "{\"error\":{\"message\":\"use v1/responses\"}}", WIRE_OTHER_API, 0, "use v1" },
    { 413, 0, "x", WIRE_TOO_LONG, 0, "x" },
    { 400, 0, "{\"error\":{\"message\":\"m\",\"code\":\"context_length_exceeded\"}}", WIRE_TOO_LONG,
      0, "m" },
    { 400, WIRE_SCHEMA, "{\"error\":{\"message\":\"bad\",\"param\":\"response_format\"}}",
      WIRE_LACKS, WIRE_SCHEMA, "bad" },
    { 400, 0, "{\"error\":{\"message\":\"bad\",\"param\":\"response_format\"}}", WIRE_INVALID, 0,
      "bad" },
    { 422, WIRE_ALL, "{\"message\":\"no Temperature here\"}", WIRE_LACKS, WIRE_TEMPERATURE,
      "no Temp" },
    { 400, WIRE_ALL, "{\"error\":{\"message\":\"max_tokens is too large\"}}", WIRE_INVALID, 0,
      "max_tokens" },
    { 400, WIRE_USAGE | WIRE_STREAM, "stream_options?", WIRE_LACKS, WIRE_USAGE, "stream" },
    { 400, WIRE_STREAM, "no streaming", WIRE_LACKS, WIRE_STREAM, "no" },
    { 307, 0, "", WIRE_REFUSED, 0, "nothing" },
};

static void errors_mean_what_their_words_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct wire_fault f;

        wire_fault_read(faults[i].status, faults[i].body, strlen(faults[i].body), faults[i].used,
                        &f);
        if (f.kind != faults[i].kind || f.feature != faults[i].feature ||
            !str_has_prefix(f.words, faults[i].words))
            fail_msg("%ld '%s': kind %d, feature %u, '%s'", faults[i].status, faults[i].body,
                     (int)f.kind, f.feature, f.words);
    }
}

static void errors_of_any_size_and_bytes_do_no_harm(void **state)
{
    enum { SIZE = 1 << 16 };
    CLEANUP(freep) char *body = xmalloc(SIZE + 1);
    struct rng rng = rng_seeded(13);
    struct wire_fault f;

    (void)state;
    for (int round = 0; round < 200; round++) {
        size_t len = rng_below(&rng, SIZE);

        for (size_t i = 0; i < len; i++)
            body[i] = (char)rng_u64(&rng);
        body[len] = '\0';
        wire_fault_read(400, body, len, WIRE_ALL, &f);
        assert_true(strlen(f.words) < sizeof(f.words));
    }
    memset(body, '[', SIZE); /* deep */
    wire_fault_read(400, body, SIZE, WIRE_ALL, &f);
    memcpy(body, "{\"error\":{\"message\":\"", 21);
    memset(body + 21, 'm', SIZE - 24);
    memcpy(body + SIZE - 3, "\"}}", 3);
    wire_fault_read(400, body, SIZE, WIRE_ALL, &f);
    assert_true(str_has_prefix(f.words, "mmm"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_end_in_the_interface),
        cmocka_unit_test(a_plain_request_mentions_nothing_more),
        cmocka_unit_test(a_feature_is_left_out_when_it_is_refused),
        cmocka_unit_test(a_schema_is_strict_only_when_it_can_be),
        cmocka_unit_test(streams_give_the_same_answer_wherever_they_are_cut),
        cmocka_unit_test(a_stream_that_breaks_off_anywhere_is_not_whole),
        cmocka_unit_test(damaged_streams_do_no_harm),
        cmocka_unit_test(whole_answers_end_as_they_say),
        cmocka_unit_test(what_is_no_answer_is_said_to_be_none),
        cmocka_unit_test(counts_that_make_no_sense_are_not_taken),
        cmocka_unit_test(errors_mean_what_their_words_say),
        cmocka_unit_test(errors_of_any_size_and_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
