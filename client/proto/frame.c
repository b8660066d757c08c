/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC 2.0 lines; see frame.h. */
#include "proto/frame.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "proto/limits.h"

/* Memory that a frame keeps between lines; what one large message needed beyond it is given back.
 */
enum { FRAME_KEEP = 256 << 10 };

/* ---- Error numbers ---- */

int proto_code(enum err_code code)
{
    return PROTO_CODE_BASE - (int)code;
}

enum err_code proto_err_code(int64_t number, const char *name)
{
    enum err_code by_name = name ? err_from_name(name) : ERR_COUNT;

    if (by_name != ERR_COUNT && by_name != ERR_OK)
        return by_name;
    if (number == PROTO_CODE_INTERNAL)
        return ERR_INTERNAL;
    if (number == PROTO_CODE_PARSE || (number <= PROTO_CODE_REQUEST && number >= PROTO_CODE_PARAMS))
        return ERR_INVALID;
    if (number < PROTO_CODE_BASE && number > PROTO_CODE_BASE - ERR_COUNT)
        return (enum err_code)(PROTO_CODE_BASE - number);
    return ERR_UPSTREAM;
}

/* ---- Lines ---- */

void frame_init(struct frame *f, size_t max)
{
    *f = (struct frame){ .max = max, .in = { .max = max + 2 + FRAME_FEED_MAX } };
}

void frame_release(struct frame *f)
{
    buf_release(&f->in);
    f->start = f->scanned = 0;
}

/* Drops the lines that were handed out. */
static void frame_compact(struct frame *f)
{
    buf_consume(&f->in, f->start);
    f->scanned -= f->start;
    f->start = 0;
    if (f->in.len == 0 && f->in.cap > FRAME_KEEP)
        buf_release(&f->in);
}

int frame_feed(struct frame *f, const void *data, size_t len, struct err *err)
{
    if (len > FRAME_FEED_MAX)
        return err_set(err, ERR_LIMIT, "%zu bytes fed at once; at most %u are allowed", len,
                       FRAME_FEED_MAX);
    if (f->start > 0)
        frame_compact(f);
    return buf_add(&f->in, data, len, err);
}

static int frame_too_long(const struct frame *f, struct err *err)
{
    return err_set(err, ERR_LIMIT, "a message is longer than the %zu bytes allowed in one line",
                   f->max);
}

int frame_next(struct frame *f, const char **line, size_t *len, struct err *err)
{
    for (;;) {
        const char *base = buf_str(&f->in), *end;
        size_t n, start = f->start;

        end = memchr(base + f->scanned, '\n', f->in.len - f->scanned);
        if (end == NULL) {
            f->scanned = f->in.len;
            /* One byte more may still be the '\r' before the newline. */
            return f->in.len - start > f->max + 1 ? frame_too_long(f, err) : 0;
        }
        n = (size_t)(end - base) - start;
        f->start = f->scanned = start + n + 1;
        if (n > 0 && base[start + n - 1] == '\r')
            n--;
        if (n > f->max)
            return frame_too_long(f, err);
        if (n == 0)
            continue;
        *line = base + start;
        *len = n;
        return 1;
    }
}

size_t frame_pending(const struct frame *f)
{
    return f->in.len - f->start;
}

/* ---- Messages ---- */

void message_release(struct message *m)
{
    json_decref(m->id);
    free(m->method);
    json_decref(m->params);
    json_decref(m->result);
    *m = (struct message){ 0 };
}

int64_t message_id(const struct message *m)
{
    return json_is_integer(m->id) ? (int64_t)json_integer_value(m->id) : -1;
}

/* The members that a message may have, borrowed from its document. */
struct members {
    const json_t *jsonrpc, *method, *params, *result, *error;
    json_t *id;
};

static int members_read(json_t *doc, struct members *m, struct err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach (doc, key, v) {
        if (strcmp(key, "jsonrpc") == 0) {
            m->jsonrpc = v;
        } else if (strcmp(key, "id") == 0) {
            m->id = v;
        } else if (strcmp(key, "method") == 0) {
            m->method = v;
        } else if (strcmp(key, "params") == 0) {
            m->params = v;
        } else if (strcmp(key, "result") == 0) {
            m->result = v;
        } else if (strcmp(key, "error") == 0) {
            m->error = v;
        } else {
            char seen[64];

            str_visible(key, strlen(key), seen, sizeof(seen));
            return err_set(
                err, ERR_INVALID,
                "the message has a member '%s'; jsonrpc, id, method, params, result and error "
                "are allowed",
                seen);
        }
    }
    return 0;
}

static bool id_is_plain(const json_t *id)
{
    return json_is_integer(id) || json_is_string(id);
}

static int call_read(const struct members *m, struct message *out, struct err *err)
{
    size_t len = json_string_length(m->method);

    if (m->result || m->error)
        return err_set(err, ERR_INVALID, "the message has a method and also a result or an error");
    if (!json_is_string(m->method) || len == 0 || len > PROTO_METHOD_MAX)
        return err_set(err, ERR_INVALID, "method must be a text of 1 to %d bytes",
                       PROTO_METHOD_MAX);
    if (m->params && !json_is_object(m->params))
        return err_set(err, ERR_INVALID, "params must be an object: parameters go by name");
    if (m->id && !id_is_plain(m->id))
        return err_set(err, ERR_INVALID, "id must be an integer or a text");
    out->kind = m->id ? MESSAGE_REQUEST : MESSAGE_NOTIFICATION;
    out->method = strdup(json_string_value(m->method));
    out->params = m->params ? json_incref((json_t *)m->params) : json_object();
    if (out->method == NULL || out->params == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a message");
    return 0;
}

static int error_read(const struct members *m, struct message *out, struct err *err)
{
    const json_t *code = json_object_get(m->error, "code");
    const json_t *text = json_object_get(m->error, "message");
    const json_t *data = json_object_get(m->error, "data");

    if (!json_is_object(m->error) || !json_is_integer(code) || !json_is_string(text))
        return err_set(err, ERR_INVALID,
                       "error must be an object with an integer code and a message");
    out->kind = MESSAGE_ERROR;
    out->code = (int64_t)json_integer_value(code);
    out->error_code = proto_err_code(out->code, json_string_value(json_object_get(data, "name")));
    /* A sentence for a terminal: escaped, and cut where it does not fit. */
    str_visible(json_string_value(text), json_string_length(text), out->error_text,
                sizeof(out->error_text));
    return 0;
}

static int answer_read(const struct members *m, struct message *out, struct err *err)
{
    if (m->params)
        return err_set(err, ERR_INVALID, "the message has params but no method");
    if ((m->result != NULL) == (m->error != NULL))
        return err_set(err, ERR_INVALID,
                       "the message must have a method, or either a result or an error");
    if (!id_is_plain(m->id) && !(m->error && json_is_null(m->id)))
        return err_set(err, ERR_INVALID, "id must be an integer or a text");
    if (m->error)
        return error_read(m, out, err);
    out->kind = MESSAGE_REPLY;
    out->result = json_incref((json_t *)m->result);
    return 0;
}

static int message_read(json_t *doc, struct members *m, struct message *out, struct err *err)
{
    const char *version;

    if (!json_is_object(doc))
        return err_set(err, ERR_INVALID,
                       "the message must be a JSON object (batches are not accepted)");
    if (members_read(doc, m, err) != 0)
        return -1;
    version = json_string_value(m->jsonrpc);
    if (version == NULL || strcmp(version, "2.0") != 0)
        return err_set(err, ERR_INVALID, "the message must have \"jsonrpc\":\"2.0\"");
    if ((m->method ? call_read(m, out, err) : answer_read(m, out, err)) != 0)
        return -1;
    out->id = json_incref(m->id);
    return 0;
}

int message_parse(const char *line, size_t len, struct message *out, int *code, json_t **id_out,
                  struct err *err)
{
    json_auto_t *doc = NULL;
    struct message m = { 0 };
    struct members members = { 0 };
    int number = PROTO_CODE_PARSE;

    if (jsonx_parse(line, len, "the message", &doc, err) == 0) {
        number = PROTO_CODE_REQUEST;
        if (message_read(doc, &members, &m, err) == 0) {
            *out = m;
            return 0;
        }
    }
    message_release(&m);
    if (code)
        *code = number;
    if (id_out)
        *id_out = id_is_plain(members.id) ? json_incref(members.id) : json_null();
    return -1;
}

/* ---- Writing ---- */

struct writer {
    struct buf *out;
    struct err *err;
    bool failed;
};

static int writer_add(const char *data, size_t size, void *arg)
{
    struct writer *w = arg;

    if (buf_add(w->out, data, size, w->err) == 0)
        return 0;
    w->failed = true;
    return -1;
}

/* Appends `doc`, which it owns, as one line; on failure `out` is as it was. */
static int line_write(struct buf *out, json_t *doc, struct err *err)
{
    json_auto_t *owned = doc;
    struct writer w = { .out = out, .err = err };
    size_t before = out->len;

    if (owned == NULL)
        return err_set(err, ERR_INVALID,
                       "the message holds a value that is not JSON or no memory is left");
    if (json_dump_callback(owned, writer_add, &w, JSON_COMPACT) == 0 &&
        writer_add("\n", 1, &w) == 0)
        return 0;
    out->len = before;
    if (out->data)
        out->data[before] = '\0';
    if (!w.failed)
        err_set(err, ERR_INVALID, "the message cannot be written as JSON");
    return -1;
}

static json_t *borrow(const json_t *v)
{
    return json_incref((json_t *)v);
}

int frame_request(struct buf *out, int64_t id, const char *method, const json_t *params,
                  struct err *err)
{
    return line_write(out,
                      json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", (json_int_t)id,
                                "method", method, "params", borrow(params)),
                      err);
}

int frame_notify(struct buf *out, const char *method, const json_t *params, struct err *err)
{
    return line_write(
        out,
        json_pack("{s:s, s:s, s:o*}", "jsonrpc", "2.0", "method", method, "params", borrow(params)),
        err);
}

int frame_reply(struct buf *out, const json_t *id, const json_t *result, struct err *err)
{
    return line_write(out,
                      json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", "id",
                                id ? borrow(id) : json_null(), "result",
                                result ? borrow(result) : json_null()),
                      err);
}

int frame_reply_begin(struct buf *out, const json_t *id, struct err *err)
{
    struct writer w = { .out = out, .err = err };

    if (buf_adds(out, "{\"jsonrpc\":\"2.0\",\"id\":", err) != 0)
        return -1;
    if (id == NULL ? writer_add("null", 4, &w) != 0
                   : json_dump_callback(id, writer_add, &w, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        return w.failed ? -1 : err_set(err, ERR_INVALID, "the id cannot be written as JSON");
    return buf_adds(out, ",\"result\":", err);
}

int frame_reply_end(struct buf *out, struct err *err)
{
    return buf_adds(out, "}\n", err);
}

int frame_error_number(struct buf *out, const json_t *id, int number, enum err_code code,
                       const char *text, struct err *err)
{
    json_t *message = json_string(text);
    char seen[1024];

    if (message == NULL) /* not UTF-8 */
        message = json_string(str_visible(text, strlen(text), seen, sizeof(seen)));
    return line_write(out,
                      json_pack("{s:s, s:o, s:{s:i, s:o, s:{s:s}}}", "jsonrpc", "2.0", "id",
                                id ? borrow(id) : json_null(), "error", "code", number, "message",
                                message, "data", "name", err_name(code)),
                      err);
}

int frame_error(struct buf *out, const json_t *id, enum err_code code, const char *text,
                struct err *err)
{
    return frame_error_number(out, id, proto_code(code), code, text, err);
}
