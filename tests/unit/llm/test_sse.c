/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events: the same events wherever the stream is cut, and nothing that it may hold
 * breaks the parser. */
#include "unit/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "llm/sse.h"

static int note_event(void *ctx, const char *name, const char *data, size_t len, struct err *err)
{
    struct buf *seen = ctx;

    assert_int_equal(data[len], '\0');
    if (strcmp(data, "stop here") == 0)
        return err_set(err, ERR_UPSTREAM, "told to stop");
    return buf_addf(seen, "<%s|", name) || buf_add(seen, data, len, err) ||
           buf_adds(seen, ">", err);
}

/* Feeds the text in two pieces, cut at `at`. */
static void feed_cut(const char *text, size_t len, size_t at, struct buf *seen)
{
    struct sse s = { .fn = note_event, .ctx = seen };
    struct err err;

    assert_ok(sse_feed(&s, text, at, &err), err);
    assert_ok(sse_feed(&s, text + at, len - at, &err), err);
    assert_ok(sse_end(&s, &err), err);
    sse_release(&s);
}

static void expect_at_every_cut(const char *text, const char *events)
{
    size_t len = strlen(text);

    for (size_t at = 0; at <= len; at++) {
        CLEANUP(buf_release) struct buf seen = { .max = 1 << 20 };

        feed_cut(text, len, at, &seen);
        assert_string_equal(buf_str(&seen), events);
    }
}

static void events_are_the_same_wherever_the_stream_is_cut(void **state)
{
    (void)state;
    expect_at_every_cut("data: one\n\ndata:two\n\n", "<message|one><message|two>");
    expect_at_every_cut("event: delta\r\ndata: a\r\ndata: b\r\n\r\n", "<delta|a\nb>");
    expect_at_every_cut("data: a\r\rdata: b\r\r", "<message|a><message|b>");
    expect_at_every_cut("\xef\xbb\xbf"
                        "data: w\xc3\xb6rld\xe2\x82\xac\n\n",
                        "<message|w\xc3\xb6rld\xe2\x82\xac>");
    expect_at_every_cut(": alive\n\n:\nid: 7\nretry: 10\ndata\n\ndata:  two blanks\n\n",
                        "<message|><message| two blanks>");
    expect_at_every_cut("event: lost\n\ndata: [DONE]\n", "<message|[DONE]>");
    expect_at_every_cut("data: no newline at all", "<message|no newline at all>");
    expect_at_every_cut("dat: x\ndatax: y\n data: z\n\n", "");
}

static void single_bytes_and_random_cuts_make_no_difference(void **state)
{
    static const char text[] =
        "event: x\ndata: {\"a\":\"\xf0\x9f\x98\x80\"}\r\n\r\n: c\n\ndata: 1\n"
        "data: 2\n\ndata: [DONE]\n\n";
    struct rng r = rng_seeded(7);

    (void)state;
    for (int round = 0; round < 300; round++) {
        CLEANUP(buf_release) struct buf seen = { .max = 4096 };
        struct sse s = { .fn = note_event, .ctx = &seen };
        struct err err;

        for (size_t at = 0; at < sizeof(text) - 1;) {
            size_t n = round == 0 ? 1 : 1 + rng_below(&r, 9);

            n = MIN(n, sizeof(text) - 1 - at);
            assert_ok(sse_feed(&s, text + at, n, &err), err);
            at += n;
        }
        assert_ok(sse_end(&s, &err), err);
        assert_string_equal(buf_str(&seen),
                            "<x|{\"a\":\"\xf0\x9f\x98\x80\"}><message|1\n2><message|[DONE]>");
        sse_release(&s);
    }
}

static void an_event_without_end_is_refused(void **state)
{
    enum { PIECE = 1 << 16 };
    CLEANUP(freep) char *piece = xmalloc(PIECE);
    CLEANUP(buf_release) struct buf seen = { .max = 1 << 24 };
    struct sse line = { .fn = note_event, .ctx = &seen }, lines = line;
    struct err err;
    int rc = 0;
    size_t sent = 0;

    (void)state;
    memset(piece, 'x', PIECE);
    for (; rc == 0 && sent <= 2 * SSE_EVENT_MAX; sent += PIECE)
        rc = sse_feed(&line, piece, PIECE, &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_LIMIT);
    sse_release(&line);

    memcpy(piece, "data: ", 6);
    piece[PIECE - 1] = '\n';
    for (rc = 0, sent = 0; rc == 0 && sent <= 2 * SSE_EVENT_MAX; sent += PIECE)
        rc = sse_feed(&lines, piece, PIECE, &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(seen.len, 0);
    sse_release(&lines);
}

static void garbage_does_no_harm(void **state)
{
    static const char alphabet[] = "data: event:\r\n\n\r\0\xff{}:x";
    struct rng r = rng_seeded(11);

    (void)state;
    for (int round = 0; round < 2000; round++) {
        CLEANUP(buf_release) struct buf seen = { .max = 1 << 20 };
        struct sse s = { .fn = note_event, .ctx = &seen };
        char bytes[200];
        struct err err;

        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = alphabet[rng_below(&r, sizeof(alphabet) - 1)];
        assert_ok(sse_feed(&s, bytes, sizeof(bytes), &err), err);
        assert_ok(sse_end(&s, &err), err);
        sse_release(&s);
    }
}

static void the_function_can_stop_the_stream(void **state)
{
    static const char text[] = "data: a\n\ndata: stop here\n\ndata: b\n\n";
    CLEANUP(buf_release) struct buf seen = { .max = 4096 };
    struct sse s = { .fn = note_event, .ctx = &seen };
    struct err err;

    (void)state;
    assert_fails(sse_feed(&s, text, sizeof(text) - 1, &err), err, ERR_UPSTREAM);
    assert_string_equal(buf_str(&seen), "<message|a>");
    sse_release(&s);
}

static void a_long_name_is_cut(void **state)
{
    char text[400];
    CLEANUP(buf_release) struct buf seen = { .max = 4096 };
    struct sse s = { .fn = note_event, .ctx = &seen };
    struct err err;

    (void)state;
    memset(text, 'n', sizeof(text));
    memcpy(text, "event:", 6);
    memcpy(text + 300, "\ndata: d\n\n", 10);
    assert_ok(sse_feed(&s, text, 310, &err), err);
    assert_int_equal(seen.len, 1 + (SSE_NAME_MAX - 1) + 3);
    sse_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_the_same_wherever_the_stream_is_cut),
        cmocka_unit_test(single_bytes_and_random_cuts_make_no_difference),
        cmocka_unit_test(an_event_without_end_is_refused),
        cmocka_unit_test(garbage_does_no_harm),
        cmocka_unit_test(the_function_can_stop_the_stream),
        cmocka_unit_test(a_long_name_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
