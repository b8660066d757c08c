/* SPDX-License-Identifier: Apache-2.0 */
/* Connections and calls, over socket pairs and a real socket: what a client can do wrong, and what
 * it gets. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "loop.h"
#include "proto/limits.h"
#include "rpc/conn.h"
#include "rpc/server.h"
#include "work.h"

/* ---- A small daemon ---- */

struct fixture {
    struct daemon daemon;
    struct rpc_server *server;
};

static struct rpc_call *held[200]; /* calls of "hold" that nobody answered yet */
static size_t n_held;

struct echo_params {
    char *text;
    int64_t n;
    json_t *any;
    uint64_t bytes;
};

static const struct param echo_rows[] = {
    { "text", PARAM_STR, offsetof(struct echo_params, text), PARAM_REQUIRED, "said again", 0, 0,
      NULL, 0 },
    { "n", PARAM_I64, offsetof(struct echo_params, n), 0, "a number", 1, 10, NULL, 0 },
    { 0 },
};
static const struct param bytes_rows[] = {
    { "bytes", PARAM_U64, offsetof(struct echo_params, bytes), PARAM_REQUIRED, "how many", 0, 0,
      NULL, 0 },
    { 0 },
};
static const struct param key_rows[] = {
    { "key", PARAM_STR, offsetof(struct echo_params, text), PARAM_REQUIRED, "stream", 0, 0, NULL,
      0 },
    { 0 },
};

static void echo_defaults(void *params)
{
    ((struct echo_params *)params)->n = 7;
}

static void echo(struct rpc_call *call, void *params)
{
    struct echo_params *p = params;

    rpc_reply(call, json_pack("{s:s, s:I}", "text", p->text, "n", (json_int_t)p->n));
}

static void hello(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_call_greet(call);
    rpc_reply(call, json_pack("{s:i}", "version", 1));
}

static void hold(struct rpc_call *call, void *params)
{
    (void)params;
    assert_true(n_held < ARRAY_LEN(held));
    held[n_held++] = call;
}

static int work_length(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct echo_params *p = params;

    assert_non_null(d);
    if (p->text[0] == '\0')
        return err_set(err, ERR_NOT_FOUND, "there is no '%s'", p->text);
    *result = json_integer((json_int_t)strlen(p->text));
    return 0;
}

static void length(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, work_length);
}

static void big(struct rpc_call *call, void *params)
{
    size_t n = ((struct echo_params *)params)->bytes;
    char *text = xmalloc(n + 1);

    memset(text, 'b', n);
    text[n] = '\0';
    rpc_reply(call, json_string(text));
    free(text);
}

static void watch(struct rpc_call *call, void *params)
{
    struct err err;

    if (rpc_subscribe(call, ((struct echo_params *)params)->text, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, json_true());
}

static const struct rpc_method test_methods[] = {
    { "big", bytes_rows, sizeof(struct echo_params), 0, big, "", "", NULL },
    { "echo", echo_rows, sizeof(struct echo_params), 0, echo, "", "", echo_defaults },
    { "hello", NULL, 0, RPC_ANY_STATE, hello, "", "", NULL },
    { "hold", NULL, 0, 0, hold, "", "", NULL },
    { "length", echo_rows, sizeof(struct echo_params), 0, length, "", "", echo_defaults },
    { "set", NULL, 0, RPC_WRITE, hold, "", "", NULL },
    { "watch", key_rows, sizeof(struct echo_params), RPC_STREAM, watch, "", "", NULL },
    { 0 },
};
static const struct rpc_method *const test_groups[] = { test_methods, NULL };

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct err err;

    n_held = 0;
    if (loop_new(&f->daemon.loop, &err) != 0 ||
        work_pool_new(f->daemon.loop, 2, &f->daemon.work, &err) != 0)
        return -1;
    f->server = rpc_server_new(&(struct rpc_server_options){ .loop = f->daemon.loop,
                                                             .daemon = &f->daemon,
                                                             .groups = test_groups,
                                                             .max_connections = 1100 });
    f->daemon.rpc = f->server;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    uint64_t in_flight;

    work_pool_free(f->daemon.work);
    in_flight = rpc_server_stats(f->server).in_flight;
    rpc_server_free(f->server);
    loop_free(f->daemon.loop);
    free(f);
    return in_flight == 0 ? 0 : -1; /* every test answers its calls */
}

/* ---- A client that turns the loop while it waits ---- */

struct client {
    struct fixture *f;
    int fd;
    struct buf in;
};

static void turns(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(f->daemon.loop, false);
}

static struct client client_of(struct fixture *f, int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return (struct client){ .f = f, .fd = fd, .in = { .max = 256u << 20 } };
}

static struct client client_new(struct fixture *f)
{
    struct err err;
    int fd[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(rpc_server_adopt(f->server, fd[0], &err), err);
    return client_of(f, fd[1]);
}

static void client_close(struct client *c)
{
    close(c->fd);
    buf_release(&c->in);
}

/* Sends everything, or as much as the daemon takes before it closes: false then. */
static bool client_send_bytes(struct client *c, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno != EAGAIN) {
            return false;
        }
        turns(c->f, 1);
    }
    return true;
}

static void client_send(struct client *c, const char *text)
{
    assert_true(client_send_bytes(c, text, strlen(text)));
}

/* Reads what is there. 1 for bytes, 0 for end of file, -1 for nothing. */
static int client_pull(struct client *c)
{
    struct err err;
    ssize_t n;

    assert_ok(buf_reserve(&c->in, 65536, &err), err);
    n = read(c->fd, c->in.data + c->in.len, 65536);
    if (n < 0)
        return errno == EAGAIN ? -1 : 0;
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = '\0';
    return n > 0;
}

/* The next line as JSON, or NULL at end of file. Waits at most ten seconds. */
static json_t *client_line(struct client *c)
{
    uint64_t start = clock_system()->mono_ns(clock_system());

    for (;;) {
        char *end = memchr(buf_str(&c->in), '\n', c->in.len);
        struct err err;
        json_t *v;
        int got;

        if (end != NULL) {
            size_t len = (size_t)(end - c->in.data);

            assert_ok(jsonx_parse(c->in.data, len, "answer", &v, &err), err);
            buf_consume(&c->in, len + 1);
            return v;
        }
        turns(c->f, 1);
        got = client_pull(c);
        if (got == 0)
            return NULL;
        if (got < 0)
            usleep(50);
        if (clock_system()->mono_ns(clock_system()) - start > 10 * NS_PER_SEC)
            fail_msg("no answer within ten seconds");
    }
}

static void client_hello(struct client *c)
{
    client_send(c, "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"hello\"}\n");
    json_decref(client_line(c));
}

/* The error of the next line: its number, and that it has this name and these words. */
static void expect_error(struct client *c, int number, const char *name, const char *words)
{
    json_auto_t *line = client_line(c);
    const json_t *e = json_object_get(line, "error");

    if (e == NULL)
        fail_msg("no error came, '%s' was expected", words);
    assert_int_equal(jsonx_int(e, "code", 0), number);
    assert_string_equal(jsonx_str(json_object_get(e, "data"), "name", ""), name);
    if (strstr(jsonx_str(e, "message", ""), words) == NULL)
        fail_msg("'%s' does not say '%s'", jsonx_str(e, "message", ""), words);
}

static void expect_alive(struct client *c)
{
    json_auto_t *line = NULL;

    client_send(
        c, "{\"jsonrpc\":\"2.0\",\"id\":99,\"method\":\"echo\",\"params\":{\"text\":\"x\"}}\n");
    line = client_line(c);
    assert_int_equal(jsonx_int(line, "id", 0), 99);
    assert_non_null(json_object_get(line, "result"));
}

/* ---- Tests ---- */

static void rpc_answers_with_typed_parameters_and_defaults(void **state)
{
    struct client c = client_new(*state);
    json_auto_t *line = NULL;
    const json_t *r;

    client_hello(&c);
    client_send(
        &c,
        "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"echo\",\"params\":{\"text\":\"hi\"}}\n");
    line = client_line(&c);
    r = json_object_get(line, "result");
    assert_string_equal(jsonx_str(line, "id", ""), "a");
    assert_string_equal(jsonx_str(r, "text", ""), "hi");
    assert_int_equal(jsonx_int(r, "n", 0), 7);
    client_close(&c);
}

static void rpc_tells_what_is_wrong_and_goes_on(void **state)
{
    static const struct {
        const char *line;
        int number;
        const char *name, *words;
    } cases[] = {
        { "{\n", -32700, "INVALID", "" },
        { "\xff\xfe\n", -32700, "INVALID", "" },
        { "[1,2]\n", -32600, "INVALID", "" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1}\n", -32600, "INVALID", "method" },
        { "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"echo\"}\n", -32600, "INVALID", "jsonrpc" },
        { "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"echo\"}\n", -32600, "INVALID", "id" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":[1]}\n", -32600, "INVALID",
          "params" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n", -32600, "INVALID",
          "a client sends requests" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ecko\"}\n", -32601, "INVALID",
          "'ecko' is not a method; nearest: 'echo'" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n", -32602, "INVALID",
          "'text' is missing" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":{\"text\":5}}\n", -32602,
          "INVALID", "'text' is 5" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":{\"text\":\"\",\"n\":11}}"
          "\n",
          -32602, "INVALID", "'n' is 11; allowed is integer from 1 to 10" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":{\"text\":\"\",\"m\":1}}\n",
          -32602, "INVALID", "'m' is not a known field; allowed: text, n" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\",\"params\":{\"m\":1}}\n", -32602,
          "INVALID", "'m' is not a known field; allowed: none" },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"length\",\"params\":{\"text\":\"\"}}\n",
          -32002, "NOT_FOUND", "there is no ''" },
    };
    struct client c = client_new(*state);

    client_hello(&c);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        client_send(&c, cases[i].line);
        expect_error(&c, cases[i].number, cases[i].name, cases[i].words);
        expect_alive(&c);
    }
    client_close(&c);
}

static void rpc_wants_hello_first(void **state)
{
    struct client c = client_new(*state);

    client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n");
    expect_error(&c, -32001, "INVALID", "'hold' came before 'hello'");
    client_hello(&c);
    expect_alive(&c);
    client_close(&c);
}

static void rpc_refuses_writes_while_stopping(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f);

    client_hello(&c);
    f->daemon.stopping = true;
    client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"set\"}\n");
    expect_error(&c, -32003, "CONFLICT", "the daemon is stopping");
    expect_alive(&c);
    client_close(&c);
}

/* The connection is told and closed, others do not notice. */
static void rpc_closes_a_connection_whose_line_is_too_long(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f), other = client_new(f);
    char *big_line = xmalloc(PROTO_REQUEST_MAX + 4096);

    client_hello(&c);
    client_hello(&other);
    memset(big_line, 'x', PROTO_REQUEST_MAX + 4096);
    client_send_bytes(&c, big_line, PROTO_REQUEST_MAX + 4096);
    free(big_line);
    expect_error(&c, -32004, "LIMIT", "");
    assert_null(client_line(&c));
    expect_alive(&other);
    assert_int_equal(rpc_server_stats(f->server).connections, 1);
    client_close(&c);
    client_close(&other);
}

static void rpc_answers_pipelined_calls_in_one_write(void **state)
{
    enum { N = 500 };
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    struct client c = client_new(*state);
    bool seen[N] = { 0 };

    client_hello(&c);
    for (int i = 0; i < N; i++)
        assert_int_equal(
            buf_addf(
                &text,
                "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":{\"text\":\"abc\"}}\n",
                i, i % 2 ? "echo" : "length"),
            0);
    client_send(&c, text.data);
    for (int i = 0; i < N; i++) {
        json_auto_t *line = client_line(&c);
        long long id = jsonx_int(line, "id", -1);

        assert_non_null(json_object_get(line, "result"));
        assert_true(id >= 0 && id < N && !seen[id]);
        seen[id] = true;
    }
    client_close(&c);
}

static void answer_held(void)
{
    while (n_held > 0)
        rpc_reply(held[--n_held], json_true());
}

/* The 65th call waits in the socket until one is answered. */
static void rpc_keeps_at_most_64_calls_in_flight(void **state)
{
    struct client c = client_new(*state);
    int answers = 0;

    client_hello(&c);
    for (int i = 0; i < 100; i++)
        client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n");
    turns(c.f, 50);
    assert_int_equal(n_held, 64);
    answer_held();
    turns(c.f, 50);
    assert_int_equal(n_held, 36);
    answer_held();
    for (; answers < 100; answers++)
        json_decref(client_line(&c));
    client_close(&c);
}

static void rpc_survives_the_death_of_a_peer_in_the_middle_of_a_call(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f), other = client_new(f);

    client_hello(&c);
    client_hello(&other);
    client_send(&c,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n"
                "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"length\",\"params\":{\"text\":\"x\"}}\n"
                "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"echo\",\"params\":{\"te");
    client_close(&c);
    turns(f, 20);
    assert_int_equal(n_held, 1);
    answer_held();
    turns(f, 20);
    while (work_pending(f->daemon.work) > 0)
        loop_turn(f->daemon.loop, true);
    turns(f, 20);
    assert_int_equal(rpc_server_stats(f->server).connections, 1);
    expect_alive(&other);
    client_close(&other);
}

/* A client may send its last request and shut its side: the answer still comes, then the end. */
static void rpc_answers_after_the_client_shut_its_side(void **state)
{
    struct client c = client_new(*state);
    json_auto_t *line = NULL;

    client_hello(&c);
    client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"hold\"}\n");
    shutdown(c.fd, SHUT_WR);
    turns(c.f, 20);
    answer_held();
    line = client_line(&c);
    assert_int_equal(jsonx_int(line, "id", 0), 5);
    assert_null(client_line(&c));
    client_close(&c);
}

static void rpc_executes_a_notification_and_answers_nothing(void **state)
{
    struct client c = client_new(*state);

    client_hello(&c);
    client_send(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{\"text\":\"x\"}}\n"
                    "{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}\n");
    expect_alive(&c);
    client_close(&c);
}

/* Not reading answers stops the reading of requests, so memory stays bounded. */
static void rpc_stops_reading_from_a_client_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    struct client c = client_new(f);
    size_t out;

    client_hello(&c);
    for (int i = 0; i < 200; i++)
        client_send(
            &c,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\",\"params\":{\"bytes\":500000}}\n");
    turns(f, 100);
    out = f->server->out_bytes;
    assert_true(out > 0 && out < 3000000);
    for (int i = 0; i < 200; i++)
        json_decref(client_line(&c));
    turns(f, 5);
    assert_int_equal(f->server->out_bytes, 0);
    expect_alive(&c);
    client_close(&c);
}

static void rpc_says_when_an_answer_is_too_big_to_send(void **state)
{
    struct client c = client_new(*state);

    client_hello(&c);
    client_send(
        &c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\",\"params\":{\"bytes\":68000000}}\n");
    expect_error(&c, -32004, "LIMIT", "the answer of 'big' cannot be sent");
    expect_alive(&c);
    client_close(&c);
}

static json_t *event(int n)
{
    return json_pack("{s:i}", "n", n);
}

static void stream_reaches_its_subscribers_and_no_others(void **state)
{
    struct fixture *f = *state;
    struct client a = client_new(f), b = client_new(f);
    json_auto_t *line = NULL, *ok = NULL;

    client_hello(&a);
    client_hello(&b);
    assert_false(rpc_subscribed(f->server, "search:1"));
    rpc_notify(f->server, "search:1", "search.event", event(0)); /* nobody listens */
    client_send(
        &a,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"watch\",\"params\":{\"key\":\"search:1\"}}\n");
    ok = client_line(&a);
    assert_true(rpc_subscribed(f->server, "search:1"));
    rpc_notify(f->server, "search:2", "search.event", event(1));
    rpc_notify(f->server, "search:1", "search.event", event(2));
    line = client_line(&a);
    assert_string_equal(jsonx_str(line, "method", ""), "search.event");
    assert_int_equal(jsonx_int(json_object_get(line, "params"), "n", 0), 2);
    expect_alive(&b); /* and nothing came before */
    rpc_end_stream(f->server, "search:1");
    rpc_notify(f->server, "search:1", "search.event", event(3));
    expect_alive(&a);
    assert_int_equal(rpc_server_stats(f->server).streams, 0);
    client_close(&a);
    client_close(&b);
}

static void stream_forgets_a_closed_connection(void **state)
{
    struct fixture *f = *state;
    struct client a = client_new(f);

    client_hello(&a);
    client_send(&a,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"watch\",\"params\":{\"key\":\"k\"}}\n");
    json_decref(client_line(&a));
    client_close(&a);
    turns(f, 5);
    assert_false(rpc_subscribed(f->server, "k"));
    rpc_notify(f->server, "k", "search.event", event(1));
    assert_int_equal(rpc_server_stats(f->server).connections, 0);
}

/* One that does not read loses the stream, is told which as its last word, and keeps its
 * connection. */
static void stream_of_a_slow_reader_is_dropped_with_a_word(void **state)
{
    struct fixture *f = *state;
    struct client slow = client_new(f), quick = client_new(f);
    char text[1001];
    int n_slow = 0;
    json_t *line;

    memset(text, 't', 1000);
    text[1000] = '\0';
    client_hello(&slow);
    client_hello(&quick);
    client_send(&slow,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"watch\",\"params\":{\"key\":\"k\"}}\n");
    client_send(&quick,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"watch\",\"params\":{\"key\":\"k\"}}\n");
    json_decref(client_line(&slow));
    json_decref(client_line(&quick));
    for (int i = 0; i < 5000; i++) {
        rpc_notify(f->server, "k", "search.event", json_pack("{s:s}", "t", text));
        json_decref(client_line(&quick));
        assert_true(f->server->out_bytes < 1200000);
    }
    assert_int_equal(rpc_server_stats(f->server).dropped_streams, 1);
    for (;; n_slow++) {
        line = client_line(&slow);
        if (strcmp(jsonx_str(line, "method", ""), "stream.dropped") == 0)
            break;
        json_decref(line);
    }
    assert_string_equal(jsonx_str(json_object_get(line, "params"), "key", ""), "k");
    json_decref(line);
    assert_true(n_slow > 100 && n_slow < 5000);
    expect_alive(&slow);
    client_close(&slow);
    client_close(&quick);
}

static void stream_keys_of_one_connection_are_bounded(void **state)
{
    struct client c = client_new(*state);
    char line[200];

    client_hello(&c);
    for (int i = 0; i < 65; i++) {
        snprintf(
            line, sizeof(line),
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"watch\",\"params\":{\"key\":\"k%d\"}}\n",
            i);
        client_send(&c, line);
        if (i < 64)
            json_decref(client_line(&c));
    }
    expect_error(&c, -32004, "LIMIT", "watches 64 streams");
    client_close(&c);
}

/* ---- The socket ---- */

static int dial(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    str_copy(addr.sun_path, sizeof(addr.sun_path), path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Path of a socket in a fresh folder that does not exist yet; free both with remove_dir. */
static char *socket_path(char *dir)
{
    assert_non_null(mkdtemp(dir));
    return str_printf("%s/run/k.sock", dir);
}

static void socket_is_private_and_serves(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/ks-rpc-XXXXXX";
    CLEANUP(freep) char *path = socket_path(dir);
    struct client c;
    struct stat st;
    struct err err;

    assert_ok(rpc_server_listen(f->server, path, &err), err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    c = client_of(f, dial(path));
    client_hello(&c);
    expect_alive(&c);
    client_close(&c);
    rpc_server_close_socket(f->server);
    assert_int_equal(stat(path, &st), -1);
    assert_ok(file_rmtree(dir, &err), err);
}

static void socket_of_a_live_server_is_refused_and_of_a_dead_one_replaced(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/ks-rpc-XXXXXX";
    CLEANUP(freep) char *path = socket_path(dir);
    struct rpc_server *second = rpc_server_new(&f->server->o);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct client c;
    struct err err;
    int stranger;

    assert_ok(rpc_server_listen(f->server, path, &err), err);
    assert_fails(rpc_server_listen(second, path, &err), err, ERR_CONFLICT);
    assert_true(file_exists(path));
    rpc_server_close_socket(f->server);

    /* Something alive that knows nothing of our lock. */
    stranger = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    str_copy(addr.sun_path, sizeof(addr.sun_path), path);
    assert_int_equal(bind(stranger, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(stranger, 1), 0);
    assert_fails(rpc_server_listen(second, path, &err), err, ERR_CONFLICT);

    /* Now it is dead, and its file is still there. */
    close(stranger);
    assert_true(file_exists(path));
    assert_ok(rpc_server_listen(second, path, &err), err);
    c = client_of(f, dial(path));
    client_hello(&c);
    client_close(&c);
    rpc_server_free(second);
    assert_ok(file_rmtree(dir, &err), err);
}

static void socket_path_that_is_a_file_or_too_long_is_refused(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/ks-rpc-XXXXXX";
    CLEANUP(freep) char *path = socket_path(dir);
    char long_path[200];
    struct err err;

    memset(long_path, 'p', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    assert_fails(rpc_server_listen(f->server, long_path, &err), err, ERR_INVALID);
    path[strlen(dir) + 4] = '\0'; /* dir/run */
    assert_ok(file_write(path, "data", 4, 0600, &err), err);
    assert_fails(rpc_server_listen(f->server, path, &err), err, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "is no socket"));
    assert_true(file_exists(path));
    assert_ok(file_rmtree(dir, &err), err);
}

static void connections_over_the_limit_are_told_so(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/ks-rpc-XXXXXX";
    CLEANUP(freep) char *path = socket_path(dir);
    struct client a, b;
    struct err err;

    f->server->o.max_connections = 1;
    assert_ok(rpc_server_listen(f->server, path, &err), err);
    a = client_of(f, dial(path));
    client_hello(&a);
    b = client_of(f, dial(path));
    expect_error(&b, -32004, "LIMIT", "at most 1");
    assert_null(client_line(&b));
    expect_alive(&a);
    client_close(&a);
    client_close(&b);
    assert_ok(file_rmtree(dir, &err), err);
}

/* As root: a child that became nobody connects to a socket whose mode was opened by mistake. */
static void another_users_connection_is_refused(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/ks-rpc-XXXXXX", got[512] = "";
    CLEANUP(freep) char *path = NULL;
    struct err err;
    int out[2], status;
    pid_t pid;

    if (geteuid() != 0)
        skip();
    path = socket_path(dir);
    assert_ok(rpc_server_listen(f->server, path, &err), err);
    assert_int_equal(chmod(dir, 0755), 0);
    path[strlen(dir) + 4] = '\0';
    assert_int_equal(chmod(path, 0755), 0);
    path[strlen(dir) + 4] = '/';
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        int fd = setuid(65534) == 0 ? dial(path) : -1;
        ssize_t n = fd >= 0 ? read(fd, got, sizeof(got)) : 0;

        _exit(n > 0 && write(out[1], got, (size_t)n) == n ? 0 : 1);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        turns(f, 1);
        usleep(500);
    }
    assert_int_equal(status, 0);
    assert_true(read(out[0], got, sizeof(got) - 1) > 0);
    assert_non_null(strstr(got, "REFUSED"));
    assert_int_equal(rpc_server_stats(f->server).refused, 1);
    close(out[0]);
    close(out[1]);
    assert_ok(file_rmtree(dir, &err), err);
}

static void a_thousand_idle_connections_do_no_harm(void **state)
{
    enum { N = 1000 };
    struct rlimit lim = { 4096, 4096 };
    struct fixture *f = *state;
    static struct client idle[N];
    struct client busy;

    if (setrlimit(RLIMIT_NOFILE, &lim) != 0)
        skip();
    for (int i = 0; i < N; i++)
        idle[i] = client_new(f);
    busy = client_new(f);
    client_hello(&busy);
    for (int i = 0; i < 200; i++)
        expect_alive(&busy);
    assert_int_equal(rpc_server_stats(f->server).connections, N + 1);
    client_hello(&idle[N - 1]);
    for (int i = 0; i < N; i++)
        client_close(&idle[i]);
    turns(f, 20);
    assert_int_equal(rpc_server_stats(f->server).connections, 1);
    expect_alive(&busy);
    client_close(&busy);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(rpc_answers_with_typed_parameters_and_defaults),
        CASE(rpc_tells_what_is_wrong_and_goes_on),
        CASE(rpc_wants_hello_first),
        CASE(rpc_refuses_writes_while_stopping),
        CASE(rpc_closes_a_connection_whose_line_is_too_long),
        CASE(rpc_answers_pipelined_calls_in_one_write),
        CASE(rpc_keeps_at_most_64_calls_in_flight),
        CASE(rpc_survives_the_death_of_a_peer_in_the_middle_of_a_call),
        CASE(rpc_answers_after_the_client_shut_its_side),
        CASE(rpc_executes_a_notification_and_answers_nothing),
        CASE(rpc_stops_reading_from_a_client_that_does_not_read),
        CASE(rpc_says_when_an_answer_is_too_big_to_send),
        CASE(stream_reaches_its_subscribers_and_no_others),
        CASE(stream_forgets_a_closed_connection),
        CASE(stream_of_a_slow_reader_is_dropped_with_a_word),
        CASE(stream_keys_of_one_connection_are_bounded),
        CASE(socket_is_private_and_serves),
        CASE(socket_of_a_live_server_is_refused_and_of_a_dead_one_replaced),
        CASE(socket_path_that_is_a_file_or_too_long_is_refused),
        CASE(connections_over_the_limit_are_told_so),
        CASE(another_users_connection_is_refused),
        CASE(a_thousand_idle_connections_do_no_harm),
    };

    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
