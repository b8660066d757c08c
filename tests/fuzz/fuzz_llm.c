/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an endpoint of language models may send, on any bytes: the same bytes as a stream of either
 * interface, in two pieces, as a whole answer and as an error. Beyond not crashing: a stream says
 * the same wherever it is cut, counts make sense, and errors keep to their codes.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "llm/openai_wire.h"
#include "llm/sse.h"

struct reading {
    enum llm_api api;
    struct wire_answer a;
};

static int on_event(void *ctx, const char *name, const char *data, size_t len, struct err *err)
{
    struct reading *r = ctx;

    assert(data[len] == '\0');
    return wire_event(r->api, name, data, len, &r->a, err);
}

static int read_stream(struct reading *r, const char *bytes, size_t len, size_t cut)
{
    struct sse s = { .fn = on_event, .ctx = r };
    struct err err;
    int rc = sse_feed(&s, bytes, cut, &err) || sse_feed(&s, bytes + cut, len - cut, &err) ||
             sse_end(&s, &err);

    assert(rc == 0 || err.code == ERR_UPSTREAM || err.code == ERR_LIMIT);
    sse_release(&s);
    return rc;
}

static void check(const struct wire_answer *a)
{
    assert(a->end <= WIRE_FAILED && a->cached <= a->in);
    assert(strlen(a->fault.words) < sizeof(a->fault.words));
}

static void both_ways(enum llm_api api, const char *bytes, size_t len)
{
    struct reading one = { .api = api }, two = { .api = api };
    struct wire_answer whole = { 0 };
    struct err err;

    if (read_stream(&one, bytes, len, 0) == 0) {
        assert(read_stream(&two, bytes, len, len / 2) == 0);
        assert(one.a.end == two.a.end && one.a.out == two.a.out);
        assert(strcmp(buf_str(&one.a.text), buf_str(&two.a.text)) == 0);
    }
    check(&one.a);
    if (wire_whole(api, bytes, len, &whole, &err) == 0)
        assert(whole.end != WIRE_OPEN);
    check(&whole);
    wire_answer_release(&one.a);
    wire_answer_release(&two.a);
    wire_answer_release(&whole);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    CLEANUP(freep) char *bytes = xmalloc(len + 1);
    static const long statuses[] = { 400, 404, 429, 500 };
    struct wire_fault f;

    memcpy(bytes, data, len);
    bytes[len] = '\0';
    both_ways(LLM_API_CHAT, bytes, len);
    both_ways(LLM_API_RESPONSES, bytes, len);
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        wire_fault_read(statuses[i], bytes, len, WIRE_ALL, &f);
        assert(strlen(f.words) < sizeof(f.words));
    }
}
