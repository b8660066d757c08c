/* SPDX-License-Identifier: Apache-2.0 */
/* A private ksearchd for tests; see e2e.h. */
#include "e2e/e2e.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { LINE_MAX_BYTES = 80 << 20, ARGS_MAX = 16, SEARCH_WAIT_S = 120 };

extern char **environ;

static double now_s(void)
{
    return (double)clock_system()->mono_ns(clock_system()) * 1e-9;
}

static void nap_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

int e2e_setup(void **state)
{
    struct e2e *e = xcalloc(1, sizeof(*e));

    str_copy(e->dir, sizeof(e->dir), "/tmp/ks-e2e-XXXXXX");
    if (mkdtemp(e->dir) == NULL)
        return -1;
    snprintf(e->socket, sizeof(e->socket), "%s/run/k.sock", e->dir);
    snprintf(e->data, sizeof(e->data), "%s/data", e->dir);
    snprintf(e->log, sizeof(e->log), "%s/log", e->dir);
    snprintf(e->config, sizeof(e->config), "%s/ksearchd.conf", e->dir);
    snprintf(e->harness, sizeof(e->harness), "%s/harness", e->dir);
    e2e_fake_harness(e, "echo 'nothing to measure here' >&2; exit 1");
    e2e_configure(e, "");
    *state = e;
    return 0;
}

int e2e_teardown(void **state)
{
    struct e2e *e = *state;
    struct err err;

    if (e->pid > 0) {
        kill(e->pid, SIGKILL);
        waitpid(e->pid, NULL, 0);
    }
    file_rmtree(e->dir, &err);
    free(e);
    return 0;
}

void e2e_configure(struct e2e *e, const char *text)
{
    CLEANUP(freep) char *all = str_printf("harness = %s\n%s", e->harness, text);
    struct err err;

    assert_non_null(all);
    assert_ok(file_write(e->config, all, strlen(all), 0600, &err), err);
}

void e2e_fake_harness(struct e2e *e, const char *body)
{
    CLEANUP(freep) char *all = str_printf("#!/bin/sh\n%s\n", body);
    struct err err;

    assert_non_null(all);
    /* never over the real one, which a test may have used before */
    snprintf(e->harness, sizeof(e->harness), "%s/harness", e->dir);
    assert_ok(file_write(e->harness, all, strlen(all), 0700, &err), err);
}

void e2e_real_harness(struct e2e *e)
{
    snprintf(e->harness, sizeof(e->harness), "%s/ksearch-eval", KS_BIN_DIR);
    e2e_configure(e, "");
}

static pid_t spawn(struct e2e *e, const char *const *args)
{
    posix_spawn_file_actions_t actions;
    const char *argv[ARGS_MAX] = { KS_BIN_DIR "/ksearchd" };
    size_t n = 1;
    pid_t pid;

    for (; *args; args++) {
        assert_true(n + 1 < ARGS_MAX);
        argv[n++] = *args;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, e->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

void e2e_spawn(struct e2e *e, const char *const *more)
{
    const char *args[ARGS_MAX] = {
        "--config", e->config, "--data", e->data, "--socket", e->socket
    };
    size_t n = 6;

    for (; more != NULL && *more; more++) {
        assert_true(n + 1 < ARGS_MAX);
        args[n++] = *more;
    }
    assert_int_equal(e->pid, 0);
    e->pid = spawn(e, args);
}

static int dial(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    str_copy(addr.sun_path, sizeof(addr.sun_path), path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    close(fd);
    return -1;
}

/*
 * Is it our daemon that listens? The socket of one that was killed while it started a child lives
 * on in the child until that has become another program.
 */
static bool is_ours(const struct e2e *e, int fd)
{
    struct ucred peer = { 0 };
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == e->pid;
}

static void show_log(struct e2e *e)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    struct err err;

    if (file_read(e->log, &text, &err) == 0)
        fprintf(stderr, "---- log\n%s----\n", buf_str(&text));
}

void e2e_start(struct e2e *e)
{
    double end = now_s() + 30;
    int fd;

    e2e_spawn(e, NULL);
    while ((fd = dial(e->socket)) < 0 || !is_ours(e, fd)) {
        if (fd >= 0)
            close(fd);
        if (now_s() > end || waitpid(e->pid, NULL, WNOHANG) != 0) {
            show_log(e);
            fail_msg("the daemon did not become ready");
        }
        nap_ms(5);
    }
    close(fd);
}

static int wait_for(pid_t pid, double seconds)
{
    double end = now_s() + seconds;
    int status;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (now_s() > end)
            fail_msg("the daemon did not end within %g seconds", seconds);
        nap_ms(5);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int e2e_wait(struct e2e *e, double seconds)
{
    int status = wait_for(e->pid, seconds);

    e->pid = 0;
    return status;
}

int e2e_stop(struct e2e *e)
{
    kill(e->pid, SIGTERM);
    return e2e_wait(e, 30);
}

int e2e_run(struct e2e *e, const char *const *args)
{
    return wait_for(spawn(e, args), 30);
}

void e2e_expect_log(struct e2e *e, const char *words)
{
    CLEANUP(buf_release) struct buf text = { .max = 16 << 20 };
    struct err err;

    assert_ok(file_read(e->log, &text, &err), err);
    if (strstr(buf_str(&text), words) == NULL)
        fail_msg("the log does not say '%s':\n%s", words, buf_str(&text));
}

struct e2e_conn e2e_connect(struct e2e *e, bool hello)
{
    struct e2e_conn c = { .fd = dial(e->socket), .in = { .max = LINE_MAX_BYTES } };

    if (c.fd < 0)
        fail_msg("cannot connect to '%s': %s", e->socket, strerror(errno));
    if (hello)
        json_decref(e2e_result(&c, "hello", "{\"version\":1,\"client\":\"e2e\"}"));
    return c;
}

void e2e_close(struct e2e_conn *c)
{
    close(c->fd);
    buf_release(&c->in);
}

void e2e_send(struct e2e_conn *c, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

        if (n < 0)
            return; /* the daemon closed: what it said is still to be read */
        text += n;
        len -= (size_t)n;
    }
}

json_t *e2e_line(struct e2e_conn *c)
{
    double end = now_s() + 60;

    for (;;) {
        char *nl = c->in.len > 0 ? memchr(c->in.data, '\n', c->in.len) : NULL;
        struct pollfd p = { c->fd, POLLIN, 0 };
        struct err err;
        ssize_t n;

        if (nl != NULL) {
            size_t len = (size_t)(nl - c->in.data);
            json_t *v;

            assert_ok(jsonx_parse(c->in.data, len, "answer", &v, &err), err);
            buf_consume(&c->in, len + 1);
            return v;
        }
        if (now_s() > end)
            fail_msg("no answer within 60 seconds");
        if (poll(&p, 1, 1000) <= 0)
            continue;
        assert_ok(buf_reserve(&c->in, 65536, &err), err);
        n = read(c->fd, c->in.data + c->in.len, 65536);
        if (n <= 0)
            return NULL;
        c->in.len += (size_t)n;
        c->in.data[c->in.len] = '\0';
    }
}

json_t *e2e_call(struct e2e_conn *c, const char *method, const char *params)
{
    CLEANUP(freep)
    char *line = str_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n",
                            method, params);
    json_t *answer;

    assert_non_null(line);
    e2e_send(c, line);
    answer = e2e_line(c);
    if (answer == NULL)
        fail_msg("the daemon closed the connection during '%s'", method);
    return answer;
}

json_t *e2e_result(struct e2e_conn *c, const char *method, const char *params)
{
    json_auto_t *answer = e2e_call(c, method, params);
    json_t *result = json_object_get(answer, "result");

    if (result == NULL)
        fail_msg("'%s' failed: %s", method,
                 jsonx_str(json_object_get(answer, "error"), "message", "?"));
    return json_incref(result);
}

void e2e_refused(struct e2e_conn *c, const char *method, const char *params, const char *name,
                 const char *words)
{
    json_auto_t *answer = e2e_call(c, method, params);
    const json_t *error = json_object_get(answer, "error");

    if (error == NULL)
        fail_msg("'%s' %s was accepted", method, params);
    assert_string_equal(jsonx_str(json_object_get(error, "data"), "name", ""), name);
    if (strstr(jsonx_str(error, "message", ""), words) == NULL)
        fail_msg("'%s' does not say '%s'", jsonx_str(error, "message", ""), words);
}

json_t *e2e_search_state(struct e2e_conn *c, const char *id, const char *state)
{
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", id);

    for (int i = 0; i < SEARCH_WAIT_S * 50; i++) {
        json_t *show = e2e_result(c, "search.show", params);

        if (strcmp(jsonx_str(show, "state", ""), state) == 0)
            return show;
        if (strcmp(jsonx_str(show, "state", ""), "failed") == 0)
            fail_msg("search %s failed: %s", id, jsonx_str(show, "reason", ""));
        json_decref(show);
        nap_ms(20);
    }
    fail_msg("search %s is not %s after %d s", id, state, SEARCH_WAIT_S);
    return NULL;
}

json_t *e2e_search_done(struct e2e *e, const char *id)
{
    struct e2e_conn c = e2e_connect(e, true);
    json_t *show = e2e_search_state(&c, id, "done");

    e2e_close(&c);
    return show;
}

char *e2e_say(struct e2e *e, const char *args, int *code)
{
    CLEANUP(freep)
    char *line =
        str_printf(KS_BIN_DIR "/ksearch --socket %s %s 2>%s/stderr", e->socket, args, e->dir);
    struct buf out = { .max = 16 << 20 };
    FILE *f = popen(line, "r"); /* NOLINT: a test of ours */
    char step[4096];
    struct err err;
    size_t n;
    int status;

    assert_non_null(f);
    while ((n = fread(step, 1, sizeof(step), f)) > 0)
        assert_ok(buf_add(&out, step, n, &err), err);
    status = WEXITSTATUS(pclose(f));
    if (code != NULL)
        *code = status;
    else if (status != 0)
        fail_msg("ksearch %s: exit status %d: %s", args, status, buf_str(&out));
    return buf_take(&out);
}

json_t *e2e_ask(struct e2e *e, const char *args, int want)
{
    CLEANUP(freep) char *line = str_printf("--json %s", args);
    int code = -1;
    CLEANUP(freep) char *text = e2e_say(e, line, &code);
    json_t *v = NULL;
    struct err err;

    if (code != want)
        fail_msg("ksearch %s: exit status %d instead of %d: %s", args, code, want, text);
    if (text[0] != '\0')
        assert_ok(jsonx_parse(text, strlen(text), "output", &v, &err), err);
    return v;
}
