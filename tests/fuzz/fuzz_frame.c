/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame and message parser on any bytes. Beyond not crashing: how the bytes are split into reads
 * changes nothing, and what the parser takes it takes again after our writer has written it.
 */
#include <assert.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "proto/frame.h"

enum { LINE_CAP = 4096 };

/* Writes a message that was read. */
static int rewrite(const struct message *m, struct buf *out, struct err *err)
{
    switch (m->kind) {
    case MESSAGE_REQUEST:
        if (!json_is_integer(m->id))
            break;
        return frame_request(out, message_id(m), m->method, m->params, err);
    case MESSAGE_NOTIFICATION:
        return frame_notify(out, m->method, m->params, err);
    case MESSAGE_REPLY:
        return frame_reply(out, m->id, m->result, err);
    case MESSAGE_ERROR:
        return frame_error(out, m->id, m->error_code, m->error_text, err);
    case MESSAGE_KIND_COUNT:
        break;
    }
    return 1; /* nothing that we would write */
}

static void check_message(const char *line, size_t len)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 };
    json_t *id = NULL;
    struct message m, again;
    struct err err;
    int code = 0, status;

    if (message_parse(line, len, &m, &code, &id, &err) != 0) {
        assert(code == PROTO_CODE_PARSE || code == PROTO_CODE_REQUEST);
        assert(id != NULL && err.msg[0] != '\0');
        json_decref(id);
        return;
    }
    assert(m.kind < MESSAGE_KIND_COUNT);
    if (rewrite(&m, &out, &err) == 0) {
        assert(out.len > 0 && out.data[out.len - 1] == '\n');
        assert(memchr(out.data, '\n', out.len - 1) == NULL);
        status = message_parse(out.data, out.len - 1, &again, NULL, NULL, &err);
        assert(status == 0);
        assert(again.kind == m.kind);
        assert(m.params == NULL || json_equal(again.params, m.params));
        assert(m.kind != MESSAGE_ERROR || again.error_code == m.error_code);
        message_release(&again);
    }
    message_release(&m);
}

/* Feeds all bytes in reads of `step`; gives a checksum over the lines, and parses them once. */
static uint64_t cut_lines(const uint8_t *data, size_t len, size_t step, int parse)
{
    uint64_t sum = 1469598103934665603u;
    const char *line;
    struct frame f;
    struct err err;
    size_t n;
    int got = 0;

    frame_init(&f, LINE_CAP);
    for (size_t at = 0; at < len && got >= 0; at += step) {
        if (frame_feed(&f, data + at, MIN(step, len - at), &err) != 0)
            break;
        while ((got = frame_next(&f, &line, &n, &err)) == 1) {
            assert(n > 0 && n <= LINE_CAP && memchr(line, '\n', n) == NULL);
            for (size_t i = 0; i < n; i++)
                sum = (sum ^ (uint8_t)line[i]) * 1099511628211u;
            sum = (sum ^ 256) * 1099511628211u;
            if (parse)
                check_message(line, n);
        }
    }
    frame_release(&f);
    return sum;
}

void fuzz_one(const uint8_t *data, size_t len)
{
    uint64_t whole = cut_lines(data, len, MAX(len, (size_t)1), 1);

    assert(cut_lines(data, len, 7, 0) == whole);
    check_message((const char *)data, len);
}
