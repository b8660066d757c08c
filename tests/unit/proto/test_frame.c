/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "proto/limits.h"
#include "unit/test.h"

/* ---- Lines ---- */

static void expect_line(struct frame *f, const char *want)
{
    const char *line;
    struct err err;
    size_t len;

    assert_int_equal(frame_next(f, &line, &len, &err), 1);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(line, want, len);
}

static void expect_none(struct frame *f)
{
    const char *line;
    struct err err;
    size_t len;

    assert_int_equal(frame_next(f, &line, &len, &err), 0);
}

static void feed(struct frame *f, const char *s)
{
    struct err err;

    assert_ok(frame_feed(f, s, strlen(s), &err), err);
}

static void frame_cuts_lines_wherever_the_reads_split(void **state)
{
    const char *text = "{\"a\":1}\n\n\r\nsecond\r\nthird\n";
    struct err err;

    (void)state;
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        const char *want[] = { "{\"a\":1}", "second", "third" }, *line;
        struct frame f;
        size_t seen = 0, len;

        frame_init(&f, 100);
        for (int part = 0; part < 2; part++) {
            assert_ok(
                frame_feed(&f, part ? text + cut : text, part ? strlen(text) - cut : cut, &err),
                err);
            while (frame_next(&f, &line, &len, &err) == 1) {
                assert_true(seen < ARRAY_LEN(want));
                assert_int_equal(len, strlen(want[seen]));
                assert_memory_equal(line, want[seen++], len);
            }
        }
        assert_int_equal(seen, 3);
        assert_int_equal(frame_pending(&f), 0);
        frame_release(&f);
    }
}

static void frame_takes_single_bytes(void **state)
{
    struct frame f;

    (void)state;
    frame_init(&f, 8);
    for (const char *p = "12345678\r"; *p; p++) {
        char one[2] = { *p, '\0' };

        feed(&f, one);
        expect_none(&f);
    }
    feed(&f, "\n");
    expect_line(&f, "12345678");
    expect_none(&f);
    frame_release(&f);
}

static void frame_refuses_a_line_over_its_cap(void **state)
{
    const char *line;
    struct frame f;
    struct err err;
    size_t len;

    (void)state;
    frame_init(&f, 8);
    feed(&f, "ok\n123456789\n");
    expect_line(&f, "ok");
    assert_fails(frame_next(&f, &line, &len, &err), err, ERR_LIMIT);
    frame_release(&f);

    frame_init(&f, 8); /* without its newline, too: it must not grow for ever */
    feed(&f, "1234567890");
    assert_fails(frame_next(&f, &line, &len, &err), err, ERR_LIMIT);
    frame_release(&f);
}

static void frame_bounds_what_is_fed_and_not_taken(void **state)
{
    CLEANUP(freep) char *big = calloc(1, FRAME_FEED_MAX + 1);
    struct frame f;
    struct err err;

    (void)state;
    frame_init(&f, 8);
    assert_fails(frame_feed(&f, big, FRAME_FEED_MAX + 1, &err), err, ERR_LIMIT);
    assert_ok(frame_feed(&f, big, FRAME_FEED_MAX, &err), err);
    assert_fails(frame_feed(&f, big, FRAME_FEED_MAX, &err), err, ERR_LIMIT);
    frame_release(&f);
}

static void frame_gives_memory_of_a_large_line_back(void **state)
{
    CLEANUP(freep) char *big = malloc(1 << 20);
    struct frame f;
    struct err err;

    (void)state;
    memset(big, 'x', 1 << 20);
    big[(1 << 20) - 1] = '\n';
    frame_init(&f, 2 << 20);
    assert_ok(frame_feed(&f, big, 1 << 20, &err), err);
    big[(1 << 20) - 1] = '\0';
    expect_line(&f, big);
    feed(&f, "small\n");
    expect_line(&f, "small");
    assert_true(f.in.cap < 1 << 20);
    frame_release(&f);
}

/* ---- Messages ---- */

static void parse(const char *text, struct message *m)
{
    struct err err;

    assert_ok(message_parse(text, strlen(text), m, NULL, NULL, &err), err);
}

static void message_reads_each_kind(void **state)
{
    struct message m;

    (void)state;
    parse("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"status\",\"params\":{\"a\":1}}", &m);
    assert_int_equal(m.kind, MESSAGE_REQUEST);
    assert_int_equal(message_id(&m), 7);
    assert_string_equal(m.method, "status");
    assert_int_equal(json_object_size(m.params), 1);
    message_release(&m);

    parse("{\"jsonrpc\":\"2.0\",\"method\":\"search.event\"}", &m);
    assert_int_equal(m.kind, MESSAGE_NOTIFICATION);
    assert_true(json_is_object(m.params));
    assert_int_equal(message_id(&m), -1);
    message_release(&m);

    parse("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":null}", &m);
    assert_int_equal(m.kind, MESSAGE_REPLY);
    assert_true(json_is_null(m.result));
    message_release(&m);

    parse("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32002,\"message\":\"no task "
          "\\u001b[1m\","
          "\"data\":{\"name\":\"NOT_FOUND\"}}}",
          &m);
    assert_int_equal(m.kind, MESSAGE_ERROR);
    assert_int_equal(m.code, -32002);
    assert_int_equal(m.error_code, ERR_NOT_FOUND);
    assert_string_equal(m.error_text, "no task \\x1b[1m"); /* fit for a terminal */
    message_release(&m);
}

static void message_refuses_what_is_not_the_protocol(void **state)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        { "", PROTO_CODE_PARSE },
        { "nonsense", PROTO_CODE_PARSE },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"} x", PROTO_CODE_PARSE },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"a\"}", PROTO_CODE_PARSE },
        { "[]", PROTO_CODE_REQUEST },
        { "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}]", PROTO_CODE_REQUEST },
        { "3", PROTO_CODE_REQUEST },
        { "{}", PROTO_CODE_REQUEST },
        { "{\"id\":1,\"method\":\"a\"}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"a\"}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"a\"}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\"}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"a\"}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"a\"}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":[1]}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"extra\":1}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"result\":1}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{}}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"result\":1}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":1}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"params\":{},\"result\":1}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":3}", PROTO_CODE_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"x\",\"message\":\"y\"}}",
          PROTO_CODE_REQUEST },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_auto_t *id = NULL;
        struct message m;
        struct err err;
        int code = 0;

        if (message_parse(cases[i].text, strlen(cases[i].text), &m, &code, &id, &err) != -1)
            fail_msg("accepted: %s", cases[i].text);
        if (code != cases[i].code || err.code != ERR_INVALID || id == NULL)
            fail_msg("%s: code %d, %s", cases[i].text, code, err.msg);
    }
}

static void message_says_which_request_was_bad(void **state)
{
    const char *text = "{\"jsonrpc\":\"2.0\",\"id\":42,\"method\":\"a\",\"params\":[1]}";
    json_auto_t *id = NULL;
    struct message m;
    struct err err;

    (void)state;
    assert_fails(message_parse(text, strlen(text), &m, NULL, &id, &err), err, ERR_INVALID);
    assert_int_equal(json_integer_value(id), 42);
}

static void message_that_nests_too_deep_is_refused(void **state)
{
    CLEANUP(buf_release) struct buf text = { .max = 10000 };
    struct message m;
    struct err err;
    int code = 0;

    (void)state;
    buf_addf(&text, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":{\"x\":");
    for (int i = 0; i < 1000; i++)
        buf_addf(&text, "[");
    for (int i = 0; i < 1000; i++)
        buf_addf(&text, "]");
    buf_addf(&text, "}}");
    assert_fails(message_parse(text.data, text.len, &m, &code, NULL, &err), err, ERR_INVALID);
    assert_int_equal(code, PROTO_CODE_PARSE);
}

/* ---- Writing ---- */

/* Takes one line out of `b`, which must hold exactly that. */
static void reparse(struct buf *b, struct message *m)
{
    const char *line;
    struct frame f;
    struct err err;
    size_t len;

    frame_init(&f, PROTO_REQUEST_MAX);
    assert_ok(frame_feed(&f, b->data, b->len, &err), err);
    assert_int_equal(frame_next(&f, &line, &len, &err), 1);
    assert_ok(message_parse(line, len, m, NULL, NULL, &err), err);
    expect_none(&f);
    assert_int_equal(frame_pending(&f), 0);
    frame_release(&f);
    buf_clear(b);
}

static void writers_and_parser_agree(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 1000 };
    json_auto_t *v = json_pack("{s:s}", "text", "two\nlines \xc3\xa9"), *id = json_string("abc");
    struct message m;
    struct err err;

    (void)state;
    assert_ok(frame_request(&b, 9, "query", v, &err), err);
    reparse(&b, &m);
    assert_int_equal(m.kind, MESSAGE_REQUEST);
    assert_int_equal(message_id(&m), 9);
    assert_true(json_equal(m.params, v));
    message_release(&m);

    assert_ok(frame_notify(&b, "search.end", NULL, &err), err);
    reparse(&b, &m);
    assert_int_equal(m.kind, MESSAGE_NOTIFICATION);
    message_release(&m);

    assert_ok(frame_reply(&b, id, v, &err), err);
    reparse(&b, &m);
    assert_int_equal(m.kind, MESSAGE_REPLY);
    assert_true(json_equal(m.result, v));
    assert_true(json_equal(m.id, id));
    message_release(&m);

    assert_ok(frame_error(&b, NULL, ERR_LIMIT, "bad \xff byte", &err), err);
    reparse(&b, &m);
    assert_int_equal(m.kind, MESSAGE_ERROR);
    assert_int_equal(m.code, -32004);
    assert_int_equal(m.error_code, ERR_LIMIT);
    assert_string_equal(m.error_text, "bad \\xff byte");
    message_release(&m);

    assert_ok(frame_error_number(&b, id, PROTO_CODE_METHOD, ERR_INVALID, "no such method", &err),
              err);
    reparse(&b, &m);
    assert_int_equal(m.code, -32601);
    assert_int_equal(m.error_code, ERR_INVALID);
    message_release(&m);
}

static void writer_past_the_cap_leaves_the_buffer_as_it_was(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 60 };
    json_auto_t *v =
        json_pack("{s:s}", "text", "this does not fit into what is left of the buffer");
    struct err err;

    (void)state;
    assert_ok(frame_notify(&b, "ok", NULL, &err), err);
    assert_string_equal(b.data, "{\"jsonrpc\":\"2.0\",\"method\":\"ok\"}\n");
    assert_fails(frame_notify(&b, "big", v, &err), err, ERR_LIMIT);
    assert_string_equal(b.data, "{\"jsonrpc\":\"2.0\",\"method\":\"ok\"}\n");
}

static void error_numbers_and_names_map_both_ways(void **state)
{
    (void)state;
    for (int c = ERR_OK + 1; c < ERR_COUNT; c++) {
        assert_int_equal(proto_err_code(proto_code((enum err_code)c), NULL), c);
        assert_int_equal(proto_err_code(0, err_name((enum err_code)c)), c);
    }
    assert_int_equal(proto_err_code(PROTO_CODE_PARSE, NULL), ERR_INVALID);
    assert_int_equal(proto_err_code(PROTO_CODE_METHOD, "INVENTED"), ERR_INVALID);
    assert_int_equal(proto_err_code(PROTO_CODE_INTERNAL, NULL), ERR_INTERNAL);
    assert_int_equal(proto_err_code(-32000 - ERR_COUNT, NULL), ERR_UPSTREAM);
    assert_int_equal(proto_err_code(INT64_MIN, "OK"), ERR_UPSTREAM); /* an error is never OK */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_cuts_lines_wherever_the_reads_split),
        cmocka_unit_test(frame_takes_single_bytes),
        cmocka_unit_test(frame_refuses_a_line_over_its_cap),
        cmocka_unit_test(frame_bounds_what_is_fed_and_not_taken),
        cmocka_unit_test(frame_gives_memory_of_a_large_line_back),
        cmocka_unit_test(message_reads_each_kind),
        cmocka_unit_test(message_refuses_what_is_not_the_protocol),
        cmocka_unit_test(message_says_which_request_was_bad),
        cmocka_unit_test(message_that_nests_too_deep_is_refused),
        cmocka_unit_test(writers_and_parser_agree),
        cmocka_unit_test(writer_past_the_cap_leaves_the_buffer_as_it_was),
        cmocka_unit_test(error_numbers_and_names_map_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
