/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes on the loop; see child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/launcher_command.h"
#include "loop.h"

enum { STDERR_MAX = 16384, REAP_MS = 5 };

struct child {
    struct loop *loop;
    child_done_fn *done;
    void *arg;
    char *name;
    pid_t pid;
    int in;    /* write end of its stdin, never written */
    int fd[2]; /* read ends of its stdout and stderr; -1 after end of file */
    struct event *read[2], *timeout, *reap;
    struct buf out, errors;
    bool failed; /* `err` says why it was killed */
    struct err err;
};

static void child_free(void *arg)
{
    struct child *c = arg;

    for (int i = 0; i < 2; i++) {
        if (c->read[i] != NULL)
            event_free(c->read[i]);
        closep(&c->fd[i]);
    }
    if (c->timeout != NULL)
        event_free(c->timeout);
    if (c->reap != NULL)
        event_free(c->reap);
    closep(&c->in);
    buf_release(&c->out);
    buf_release(&c->errors);
    free(c->name);
    free(c);
}

/* What went wrong, with the last line that it wrote on stderr. */
static void describe_exit(struct child *c, int status)
{
    char seen[300], how[64];
    char *text = c->errors.data;
    size_t len = c->errors.len;
    const char *line;

    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    line = len > 0 ? strrchr(text, '\n') : NULL;
    line = line != NULL ? line + 1 : buf_str(&c->errors);
    str_visible(line, strlen(line), seen, sizeof(seen));
    if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
    err_set(&c->err, ERR_FAILED, "'%s' %s%s%s", c->name, how, seen[0] ? ": " : "", seen);
}

static void child_end(struct child *c, int status)
{
    if (!c->failed && status != 0) {
        describe_exit(c, status);
        c->failed = true;
    }
    c->pid = 0;
    for (int i = 0; i < 2; i++)
        event_del(c->read[i]);
    event_del(c->timeout);
    event_del(c->reap);
    if (c->failed)
        c->done(c->arg, NULL, 0, &c->err);
    else
        c->done(c->arg, buf_str(&c->out), c->out.len, NULL);
    loop_defer(c->loop, child_free, c);
}

static void reap_soon(struct child *c)
{
    static const struct timeval pause = { 0, REAP_MS * 1000 };

    event_add(c->reap, &pause);
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
    struct child *c = arg;
    int status;
    pid_t pid = waitpid(c->pid, &status, WNOHANG);

    (void)fd;
    (void)what;
    if (pid == 0 || (pid < 0 && errno == EINTR)) {
        reap_soon(c);
        return;
    }
    child_end(c, pid == c->pid ? status : -1);
}

static void child_kill(struct child *c)
{
    kill(-c->pid, SIGKILL);
    reap_soon(c);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct child *c = arg;

    (void)fd;
    (void)what;
    if (!c->failed)
        err_set(&c->err, ERR_FAILED, "'%s' was killed because it took too long", c->name);
    c->failed = true;
    child_kill(c);
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("child_output");
    struct child *c = arg;
    int which = fd == c->fd[1];
    char chunk[8192];
    ssize_t n = read(fd, chunk, sizeof(chunk));

    (void)what;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        event_del(c->read[which]);
        closep(&c->fd[which]);
        c->fd[which] = -1;
        if (c->fd[0] < 0 && c->fd[1] < 0)
            reap_soon(c);
        return;
    }
    if (which == 1) {
        struct err ignored; /* only the first bytes of a flood of complaints are kept */

        buf_add(&c->errors, chunk, (size_t)n, &ignored);
    } else if (buf_add(&c->out, chunk, (size_t)n, &c->err) != 0 && !c->failed) {
        err_ctx(&c->err, "output of '%s'", c->name);
        c->failed = true;
        child_kill(c);
    }
}

static int spawn(struct child *c, const struct child_options *o, const int ends[3], struct err *err)
{
    const char *const *argv = o->argv;
    char **env = command_environment(o->env);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    for (int i = 0; i < 3; i++)
        posix_spawn_file_actions_adddup2(&actions, ends[i], i);
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawnp(&c->pid, argv[0], &actions, &attr, (char *const *)(uintptr_t)argv, env);
    command_words_free(env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        c->pid = 0;
        return err_set(err, rc == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot start '%s': %s", argv[0],
                       strerror(rc));
    }
    return 0;
}

/* Makes the pipes, starts the program and closes its ends. */
static int start_process(struct child *c, const struct child_options *o, struct err *err)
{
    int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
    int ends[3], rc = 0;

    for (int i = 0; i < 3 && rc == 0; i++)
        if (pipe2(pipes[i], O_CLOEXEC) != 0)
            rc = err_set(err, ERR_IO, "cannot make a pipe: %s", strerror(errno));
    ends[0] = pipes[0][0];
    ends[1] = pipes[1][1];
    ends[2] = pipes[2][1];
    c->in = pipes[0][1];
    c->fd[0] = pipes[1][0];
    c->fd[1] = pipes[2][0];
    if (rc == 0)
        rc = spawn(c, o, ends, err);
    for (int i = 0; i < 3; i++)
        closep(&ends[i]);
    return rc;
}

static int add_events(struct child *c, double timeout_s, struct err *err)
{
    struct event_base *base = loop_base(c->loop);
    struct timeval tv = { (time_t)timeout_s, (suseconds_t)((timeout_s - (time_t)timeout_s) * 1e6) };

    for (int i = 0; i < 2; i++) {
        fcntl(c->fd[i], F_SETFL, O_NONBLOCK);
        c->read[i] = event_new(base, c->fd[i], EV_READ | EV_PERSIST, on_output, c);
        if (c->read[i] == NULL || event_add(c->read[i], NULL) != 0)
            return err_set(err, ERR_NOMEM, "no memory for an event");
    }
    c->timeout = evtimer_new(base, on_timeout, c);
    c->reap = evtimer_new(base, on_reap, c);
    if (c->timeout == NULL || c->reap == NULL || event_add(c->timeout, &tv) != 0)
        return err_set(err, ERR_NOMEM, "no memory for an event");
    return 0;
}

int child_start(struct loop *loop, const struct child_options *o, child_done_fn *done, void *arg,
                struct child **out, struct err *err)
{
    struct child *c = xcalloc(1, sizeof(*c));

    c->loop = loop;
    c->done = done;
    c->arg = arg;
    c->name = xstrdup(o->argv[0]);
    c->in = c->fd[0] = c->fd[1] = -1;
    c->out.max = o->out_max;
    c->errors.max = STDERR_MAX;
    if (start_process(c, o, err) != 0 || add_events(c, o->timeout_s, err) != 0) {
        if (c->pid > 0) {
            kill(-c->pid, SIGKILL);
            waitpid(c->pid, NULL, 0);
        }
        child_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

static void mark_cancelled(struct child *c)
{
    if (!c->failed)
        err_set(&c->err, ERR_CANCELLED, "'%s' was cancelled", c->name);
    c->failed = true;
}

void child_cancel(struct child *c)
{
    mark_cancelled(c);
    child_kill(c);
}

void child_stop(struct child *c)
{
    int status = 0;

    mark_cancelled(c);
    kill(-c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    child_end(c, status);
}
