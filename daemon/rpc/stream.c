/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: who listens to which key, and what a slow listener loses. See rpc.h. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "log.h"
#include "proto/limits.h"
#include "rpc/conn.h"

struct rpc_stream {
    struct list node; /* in its bucket */
    struct list subs;
    char *key;
};

struct rpc_sub {
    struct list in_stream, in_conn;
    struct rpc_stream *stream;
    struct rpc_conn *conn;
};

/* FNV-1a: keys are our own, nobody can choose them to collide but by starting searches. */
static struct list *bucket_of(const struct rpc_server *s, const char *key)
{
    uint32_t h = 2166136261u;

    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 16777619u;
    return (struct list *)&s->streams[h % STREAM_BUCKETS];
}

static struct rpc_stream *stream_find(const struct rpc_server *s, const char *key)
{
    LIST_FOREACH (n, bucket_of(s, key)) {
        struct rpc_stream *st = LIST_OF(n, struct rpc_stream, node);

        if (strcmp(st->key, key) == 0)
            return st;
    }
    return NULL;
}

static struct rpc_stream *stream_make(struct rpc_server *s, const char *key)
{
    struct rpc_stream *st = xcalloc(1, sizeof(*st));

    st->key = xstrdup(key);
    list_init(&st->subs);
    list_append(bucket_of(s, key), &st->node);
    s->stats.streams++;
    return st;
}

static void stream_free(struct rpc_server *s, struct rpc_stream *st)
{
    list_remove(&st->node);
    s->stats.streams--;
    free(st->key);
    free(st);
}

/* A stream without listeners is forgotten. */
static void sub_free(struct rpc_sub *sub)
{
    struct rpc_server *s = sub->conn->server;

    list_remove(&sub->in_stream);
    list_remove(&sub->in_conn);
    sub->conn->n_subs--;
    if (list_empty(&sub->stream->subs))
        stream_free(s, sub->stream);
    free(sub);
}

static struct rpc_sub *sub_find(const struct rpc_conn *c, const char *key)
{
    LIST_FOREACH (n, (struct list *)&c->subs) {
        struct rpc_sub *sub = LIST_OF(n, struct rpc_sub, in_conn);

        if (strcmp(sub->stream->key, key) == 0)
            return sub;
    }
    return NULL;
}

int rpc_subscribe(struct rpc_call *call, const char *key, struct err *err)
{
    struct rpc_conn *c = call->conn;
    struct rpc_stream *st;
    struct rpc_sub *sub;

    assert(call->method->flags & RPC_STREAM);
    if (c == NULL)
        return err_set(err, ERR_CANCELLED, "the client has gone");
    if (sub_find(c, key) != NULL)
        return 0;
    if (c->n_subs >= CONN_SUBS_MAX)
        return err_set(err, ERR_LIMIT, "this connection watches %u streams already; at most %d",
                       c->n_subs, CONN_SUBS_MAX);
    st = stream_find(c->server, key);
    if (st == NULL)
        st = stream_make(c->server, key);
    sub = xcalloc(1, sizeof(*sub));
    sub->stream = st;
    sub->conn = c;
    list_append(&st->subs, &sub->in_stream);
    list_append(&c->subs, &sub->in_conn);
    c->n_subs++;
    return 0;
}

void rpc_unsubscribe(struct rpc_call *call, const char *key)
{
    struct rpc_sub *sub = call->conn != NULL ? sub_find(call->conn, key) : NULL;

    if (sub != NULL)
        sub_free(sub);
}

bool rpc_subscribed(const struct rpc_server *s, const char *key)
{
    return stream_find(s, key) != NULL;
}

/* The last word of a stream that its listener could not keep up with. */
static void drop_slow(struct rpc_sub *sub)
{
    CLEANUP(buf_release) struct buf line = { .max = PROTO_REPLY_MAX };
    struct rpc_conn *c = sub->conn;
    struct err err;
    json_auto_t *params = json_pack("{s:s, s:s}", "key", sub->stream->key, "reason",
                                    "notifications were not read fast enough");

    log_info("rpc: dropping stream '%s' of a slow reader", sub->stream->key);
    c->server->stats.dropped_streams++;
    sub_free(sub);
    if (params != NULL && frame_notify(&line, "stream.dropped", params, &err) == 0)
        conn_send(c, line.data, line.len);
}

void rpc_notify(struct rpc_server *s, const char *key, const char *method, json_t *params)
{
    CLEANUP(buf_release) struct buf line = { .max = PROTO_REPLY_MAX };
    json_auto_t *owned = params;
    struct rpc_stream *st = stream_find(s, key);
    struct err err;

    if (st == NULL)
        return;
    if (frame_notify(&line, method, owned, &err) != 0) {
        log_error("rpc: notification '%s' of '%s' was not sent: %s", method, key, err.msg);
        return;
    }
    /* Dropping the last listener frees the stream, and conn_send may kill a connection. */
    for (struct list *n = st->subs.next, *next; n != &st->subs; n = next) {
        struct rpc_sub *sub = LIST_OF(n, struct rpc_sub, in_stream);
        bool last = n->next == &st->subs;

        next = n->next;
        if (evbuffer_get_length(sub->conn->out) + line.len > CONN_OUT_STREAM)
            drop_slow(sub);
        else
            conn_send(sub->conn, line.data, line.len);
        if (last)
            break;
    }
}

void rpc_end_stream(struct rpc_server *s, const char *key)
{
    struct rpc_stream *st = stream_find(s, key);
    bool last = st == NULL;

    while (!last) {
        struct rpc_sub *sub = LIST_OF(st->subs.next, struct rpc_sub, in_stream);

        last = sub->in_stream.next == &st->subs;
        sub_free(sub);
    }
}

void stream_drop_conn(struct rpc_conn *c)
{
    while (!list_empty(&c->subs))
        sub_free(LIST_OF(c->subs.next, struct rpc_sub, in_conn));
}

void stream_free_all(struct rpc_server *s)
{
    for (size_t i = 0; i < STREAM_BUCKETS; i++)
        LIST_FOREACH (n, &s->streams[i]) {
            stream_free(s, LIST_OF(n, struct rpc_stream, node));
        }
}
