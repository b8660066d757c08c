/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events; see sse.h. */
#include "llm/sse.h"

#include <string.h>

#include "base/mem.h"

static int dispatch(struct sse *s, struct err *err)
{
    int rc = 0;

    if (s->has_data)
        rc = s->fn(s->ctx, s->name[0] ? s->name : "message", buf_str(&s->data), s->data.len, err);
    buf_clear(&s->data);
    s->name[0] = '\0';
    s->has_data = false;
    return rc;
}

static int add_data(struct sse *s, const char *value, size_t len, struct err *err)
{
    if ((s->has_data && buf_adds(&s->data, "\n", err) != 0) ||
        buf_add(&s->data, value, len, err) != 0)
        return err_ctx(err, "an event of the stream");
    s->has_data = true;
    return 0;
}

static int take_line(struct sse *s, const char *line, size_t len, struct err *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    const char *colon, *value;
    size_t n_field, n_value;

    if (!s->not_first && len >= 3 && memcmp(line, bom, 3) == 0) {
        line += 3;
        len -= 3;
    }
    s->not_first = true;
    if (len == 0)
        return dispatch(s, err);
    colon = memchr(line, ':', len);
    n_field = colon ? (size_t)(colon - line) : len;
    value = colon ? colon + 1 : line + len;
    n_value = len - (size_t)(value - line);
    if (n_value > 0 && value[0] == ' ') {
        value++;
        n_value--;
    }
    if (n_field == 4 && memcmp(line, "data", 4) == 0)
        return add_data(s, value, n_value, err);
    if (n_field == 5 && memcmp(line, "event", 5) == 0) {
        n_value = MIN(n_value, sizeof(s->name) - 1);
        memcpy(s->name, value, n_value);
        s->name[n_value] = '\0';
    }
    return 0;
}

static int take_kept_line(struct sse *s, struct err *err)
{
    int rc = take_line(s, buf_str(&s->line), s->line.len, err);

    buf_clear(&s->line);
    return rc;
}

/* Bytes up to the end of the line, or all. */
static size_t line_bytes(const char *bytes, size_t len)
{
    const char *lf = memchr(bytes, '\n', len);
    size_t n = lf ? (size_t)(lf - bytes) : len;
    const char *cr = memchr(bytes, '\r', n);

    return cr ? (size_t)(cr - bytes) : n;
}

int sse_feed(struct sse *s, const char *bytes, size_t len, struct err *err)
{
    s->line.max = s->data.max = SSE_EVENT_MAX;
    while (len > 0) {
        size_t n;
        int rc;

        if (s->after_cr && bytes[0] == '\n') { /* the second half of "\r\n" */
            s->after_cr = false;
            bytes++;
            len--;
            continue;
        }
        s->after_cr = false;
        n = line_bytes(bytes, len);
        if (n == len || s->line.len > 0) {
            if (buf_add(&s->line, bytes, n, err) != 0)
                return err_ctx(err, "a line of the stream");
            if (n == len)
                return 0;
            rc = take_kept_line(s, err);
        } else {
            rc = take_line(s, bytes, n, err);
        }
        if (rc != 0)
            return rc;
        s->after_cr = bytes[n] == '\r';
        bytes += n + 1;
        len -= n + 1;
    }
    return 0;
}

int sse_end(struct sse *s, struct err *err)
{
    if (s->line.len > 0) {
        int rc = take_kept_line(s, err);

        if (rc != 0)
            return rc;
    }
    return dispatch(s, err);
}

void sse_release(struct sse *s)
{
    buf_release(&s->line);
    buf_release(&s->data);
}
