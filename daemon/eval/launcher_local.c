/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs `ksearch-eval run JOBDIR` as a child, one at a time per lane (device and slot), behind a
 * command that leads to another machine where there is one.
 *
 *     start -> WAITING -> RUNNING -> ENDED -> done, freed
 *                 |  ^____retry__|     |
 *                 \____cancel, no room_/
 *
 * 1. A job is in l->jobs until its done has returned; in lane->waiting only while WAITING.
 * 2. A lane runs at most one job: lane->running, RUNNING or ENDED.
 * 3. done is called from job_end alone, and job_end from the loop or from free alone.
 * The child leads a process group of its own and dies of end-of-file on its stdin when we do.
 * Thread: loop.
 */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/launcher.h"

enum {
    RECORD_MAX_DEFAULT = 16 << 20,
    STDERR_MAX = 16 << 10, /* kept for the message; the rest is read and dropped */
    EXIT_POLL_MS = 10,     /* where the kernel has no pidfd */
    READ_CHUNK = 64 << 10,
    TERM_GRACE_S = 5, /* from SIGTERM to SIGKILL, for a prefix that gives its place back */
    RETRY_FIRST_S = 1 /* doubles with every retry */
};

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_ENDED };

struct lane {
    struct list link;
    char *device;
    uint32_t slot;
    struct list waiting;
    struct local_job *running;
};

struct local {
    struct evaluator ev;
    struct event_base *base;
    struct launcher_local_config config; /* its strings are owned */
    struct list jobs, lanes;
    uint64_t next_job;
    bool closing;
};

struct local_job {
    struct eval_job job;
    struct local *l;
    struct lane *lane;
    struct list all, queued; /* in l->jobs; in lane->waiting */
    enum job_state state;
    eval_done_fn *done;
    void *ctx;
    char *dir, *definition, *set;
    char *verb; /* NULL: "run" */
    double wall_s;
    pid_t pid; /* 0 when there is no child to reap */
    int pidfd, in_fd, out_fd, err_fd;
    struct event *exit_event, *out_event, *err_event, *wall_event, *end_event, *retry_event;
    struct buf record, diagnostics;
    int exit_status; /* of waitpid */
    bool cancelled;
    unsigned retries; /* used */
    char *trouble;    /* why no record counts; NULL while all is well */
};

static void job_trouble(struct local_job *j, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The first trouble is the one to tell. */
static void job_trouble(struct local_job *j, const char *fmt, ...)
{
    va_list ap;

    if (j->trouble)
        return;
    va_start(ap, fmt);
    if (vasprintf(&j->trouble, fmt, ap) < 0)
        abort(); /* as xmalloc does */
    va_end(ap);
}

static void event_close(struct event **e, int *fd)
{
    if (*e)
        event_free(*e);
    *e = NULL;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- Jobs ---- */

static void job_free(struct local_job *j)
{
    struct err ignored;
    int none = -1;

    event_close(&j->exit_event, &j->pidfd);
    event_close(&j->out_event, &j->out_fd);
    event_close(&j->err_event, &j->err_fd);
    event_close(&j->wall_event, &j->in_fd);
    event_close(&j->end_event, &none);
    event_close(&j->retry_event, &none);
    if (j->dir)
        file_rmtree(j->dir, &ignored); /* what is left is removed at the next start */
    buf_release(&j->record);
    buf_release(&j->diagnostics);
    free(j->dir);
    free(j->definition);
    free(j->set);
    free(j->verb);
    free(j->trouble);
    free(j);
}

/* The child's last words, for a message; "" when it had none. */
static const char *last_words(const struct local_job *j, char *out, size_t size)
{
    const char *text = buf_str(&j->diagnostics);
    size_t len = j->diagnostics.len;

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    return str_visible(text, len, out, size);
}

/* What the prefix says of itself. Some end with status 0 when the node is gone. */
static enum command_failure prefix_failure(const struct local_job *j)
{
    if (j->l->config.prefix == NULL || j->record.len > 0)
        return COMMAND_FAILURE_NONE;
    return command_failure_of(buf_str(&j->diagnostics));
}

static void check_exit(struct local_job *j)
{
    const char *why = command_failure_text(prefix_failure(j));
    char words[600];

    last_words(j, words, sizeof(words));
    if (why != NULL && j->retries > 0)
        job_trouble(j, "%s, also on retry %u: %s", why, j->retries, words);
    else if (why != NULL)
        job_trouble(j, "%s: %s", why, words);
    else if (WIFSIGNALED(j->exit_status))
        job_trouble(j, "ksearch-eval was killed by signal %d%s%s", WTERMSIG(j->exit_status),
                    words[0] ? ": " : "", words);
    else if (WEXITSTATUS(j->exit_status) != 0)
        job_trouble(j, "ksearch-eval ended with status %d%s%s", WEXITSTATUS(j->exit_status),
                    words[0] ? ": " : "", words);
    else if (j->record.len == 0)
        job_trouble(j, "ksearch-eval wrote no record%s%s", words[0] ? ": " : "", words);
}

/* A record that is no evaluation's, for a caller that knows what it is. */
static int wrap_record(const struct local_job *j, json_t *record, struct eval_result *out,
                       struct err *err)
{
    if (!json_is_object(record))
        return err_set(err, ERR_INVALID, "the record of ksearch-eval %s is no object", j->verb);
    *out = (struct eval_result){ .status = EVAL_OK,
                                 .definition = xstrdup(jsonx_str(record, "definition", "")),
                                 .set = xstrdup(jsonx_str(record, "set", "")),
                                 .record = json_incref(record) };
    return 0;
}

/* The record as a result; leaves a trouble when it is none, or another job's. */
static bool read_record(struct local_job *j, struct eval_result *out)
{
    json_auto_t *record = NULL;
    struct err err;

    check_exit(j);
    if (j->trouble)
        return false;
    if (jsonx_parse(buf_str(&j->record), j->record.len, "the record of ksearch-eval", &record,
                    &err) != 0 ||
        (j->verb ? wrap_record(j, record, out, &err) : eval_result_from_json(record, out, &err)) !=
            0) {
        job_trouble(j, "%s", err.msg);
        return false;
    }
    if (strcmp(out->definition, j->definition) == 0 && strcmp(out->set, j->set) == 0)
        return true;
    job_trouble(j, "ksearch-eval answered for another job: '%.96s', set '%.96s'", out->definition,
                out->set);
    eval_result_release(out);
    return false;
}

static void lane_run(struct lane *lane);

/* The end of a job, once its child is reaped: tells and frees it, then the lane goes on. */
static void job_end(struct local_job *j)
{
    struct lane *lane = j->lane;
    struct local *l = j->l;
    struct eval_result result;

    if (j->cancelled)
        eval_result_fail(&result, EVAL_CANCELLED, j->definition, j->set, "cancelled");
    else if (j->trouble || !read_record(j, &result))
        eval_result_fail(&result, EVAL_INFRASTRUCTURE, j->definition, j->set, j->trouble);
    if (lane->running == j)
        lane->running = NULL;
    list_remove(&j->queued);
    j->done(j->ctx, &result, result.record);
    list_remove(&j->all);
    eval_result_release(&result);
    job_free(j);
    if (!l->closing)
        lane_run(lane);
}

static void on_end(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    job_end(arg);
}

/* Ends a job that has no child, from the loop rather than from where we are. */
static void job_end_later(struct local_job *j)
{
    int none = -1;

    event_close(&j->retry_event, &none);
    j->state = JOB_ENDED;
    list_remove(&j->queued);
    event_active(j->end_event, EV_TIMEOUT, 0);
}

/* ---- The child ---- */

/* Reads what there is; false at end of file. `keep` says what to do when the buffer is full. */
static bool drain(struct local_job *j, int fd, struct buf *into, bool cut)
{
    char chunk[4096];

    for (size_t total = 0; total < READ_CHUNK;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        struct err err;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        total += (size_t)n;
        if (cut)
            n = (ssize_t)MIN((size_t)n, into->max - into->len);
        if (buf_add(into, chunk, (size_t)n, &err) != 0) {
            job_trouble(j, "ksearch-eval wrote a record of %s", err.msg);
            kill(-j->pid, SIGKILL);
            return false;
        }
    }
    return true; /* more next turn */
}

static void on_out(evutil_socket_t fd, short what, void *arg)
{
    struct local_job *j = arg;

    (void)what;
    if (!drain(j, fd, &j->record, false))
        event_close(&j->out_event, &j->out_fd);
}

static void on_err(evutil_socket_t fd, short what, void *arg)
{
    struct local_job *j = arg;

    (void)what;
    if (!drain(j, fd, &j->diagnostics, true))
        event_close(&j->err_event, &j->err_fd);
}

static struct timeval as_timeval(double seconds)
{
    return (struct timeval){ .tv_sec = (time_t)seconds,
                             .tv_usec = (suseconds_t)((seconds - floor(seconds)) * 1e6) };
}

static void on_grace(evutil_socket_t fd, short what, void *arg)
{
    struct local_job *j = arg;

    (void)fd;
    (void)what;
    kill(-j->pid, SIGKILL);
}

/* Ends the child; a prefix gets the chance to take its job elsewhere down with it. */
static void job_stop(struct local_job *j)
{
    struct timeval grace = as_timeval(TERM_GRACE_S);
    int none = -1;

    if (j->l->config.prefix == NULL) {
        kill(-j->pid, SIGKILL);
        return;
    }
    kill(-j->pid, SIGTERM);
    event_close(&j->wall_event, &none);
    j->wall_event = event_new(j->l->base, -1, 0, on_grace, j);
    event_add(j->wall_event, &grace);
}

static void on_wall(evutil_socket_t fd, short what, void *arg)
{
    struct local_job *j = arg;

    (void)fd;
    (void)what;
    job_trouble(j, "ksearch-eval did not end within %.0f s and was killed", j->wall_s);
    job_stop(j);
}

/* Reads the pipes to what is there now; grandchildren that hold them open are being killed. */
static void drain_rest(struct local_job *j)
{
    while (j->out_fd >= 0) {
        size_t before = j->record.len;

        if (!drain(j, j->out_fd, &j->record, false) || j->record.len == before)
            event_close(&j->out_event, &j->out_fd);
    }
    if (j->err_fd >= 0)
        drain(j, j->err_fd, &j->diagnostics, true);
}

static void job_reap(struct local_job *j)
{
    /* The leader is a zombie still, so its number cannot be another group's yet. */
    kill(-j->pid, SIGKILL);
    while (waitpid(j->pid, &j->exit_status, 0) < 0) {
        if (errno != EINTR) {
            job_trouble(j, "ksearch-eval's exit status is lost: %s", strerror(errno));
            break;
        }
    }
    j->pid = 0;
    j->state = JOB_ENDED;
}

static void job_spawn(struct local_job *j);

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct local_job *j = arg;

    (void)fd;
    (void)what;
    job_spawn(j);
    if (j->trouble)
        job_end_later(j);
}

/*
 * Where the prefix failed and may be tried again: forgets this try, keeps the lane, and starts once
 * more after a while. False when the job is to end.
 */
static bool job_retry(struct local_job *j)
{
    unsigned allowed = command_failure_retries(&j->l->config.retries, prefix_failure(j));
    struct timeval pause = as_timeval((double)RETRY_FIRST_S * (1 << MIN(j->retries, 6u)));
    int none = -1;

    if (j->cancelled || j->trouble || j->retries >= allowed)
        return false;
    j->retries++;
    event_close(&j->exit_event, &j->pidfd);
    event_close(&j->out_event, &j->out_fd);
    event_close(&j->err_event, &j->err_fd);
    event_close(&j->wall_event, &j->in_fd);
    buf_clear(&j->record);
    buf_clear(&j->diagnostics);
    j->state = JOB_WAITING;
    event_close(&j->retry_event, &none);
    j->retry_event = event_new(j->l->base, -1, 0, on_retry, j);
    event_add(j->retry_event, &pause);
    return true;
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
    struct local_job *j = arg;
    siginfo_t info = { 0 };

    (void)fd;
    (void)what;
    if (waitid(P_PID, (id_t)j->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0)
        return; /* not yet */
    job_reap(j);
    drain_rest(j);
    if (!job_retry(j))
        job_end(j);
}

struct pipes {
    int in[2], out[2], err[2];
};

static void pipes_close(struct pipes *p)
{
    int *fds[] = { &p->in[0], &p->in[1], &p->out[0], &p->out[1], &p->err[0], &p->err[1] };

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

/* [prefix] program run JOBDIR; borrows its words. */
static void job_argv(const struct local_job *j, const char **argv)
{
    const struct launcher_local_config *c = &j->l->config;
    size_t n = 0;

    for (; c->prefix && c->prefix[n]; n++)
        argv[n] = c->prefix[n];
    argv[n++] = c->program;
    argv[n++] = j->verb ? j->verb : "run";
    argv[n++] = j->dir;
    argv[n] = NULL;
}

static int spawn_with(struct local_job *j, const struct pipes *p)
{
    const char *argv[COMMAND_WORDS_MAX + 4];
    char **env = command_environment(j->l->config.prefix_env);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, p->in[0], 0);
    posix_spawn_file_actions_adddup2(&files, p->out[1], 1);
    posix_spawn_file_actions_adddup2(&files, p->err[1], 2);
    job_argv(j, argv);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawnp(&j->pid, argv[0], &files, &attr, (char *const *)(uintptr_t)argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    command_words_free(env);
    if (rc != 0) {
        j->pid = 0;
        job_trouble(j, "'%s' cannot be started: %s", argv[0], strerror(rc));
    }
    return rc ? -1 : 0;
}

static void watch(struct local_job *j)
{
    struct event_base *base = j->l->base;
    struct timeval wall = as_timeval(j->wall_s), poll = { 0, EXIT_POLL_MS * 1000 };

    j->pidfd = (int)syscall(SYS_pidfd_open, j->pid, 0);
    j->exit_event =
        event_new(base, j->pidfd, EV_PERSIST | (j->pidfd >= 0 ? EV_READ : 0), on_exit_event, j);
    j->out_event = event_new(base, j->out_fd, EV_READ | EV_PERSIST, on_out, j);
    j->err_event = event_new(base, j->err_fd, EV_READ | EV_PERSIST, on_err, j);
    j->wall_event = event_new(base, -1, 0, on_wall, j);
    event_add(j->exit_event, j->pidfd >= 0 ? NULL : &poll);
    event_add(j->out_event, NULL);
    event_add(j->err_event, NULL);
    event_add(j->wall_event, &wall);
}

/* Starts the child; on failure the job has a trouble and no child. */
static void job_spawn(struct local_job *j)
{
    struct pipes p = { { -1, -1 }, { -1, -1 }, { -1, -1 } };

    if (pipe2(p.in, O_CLOEXEC) != 0 || pipe2(p.out, O_CLOEXEC) != 0 || pipe2(p.err, O_CLOEXEC) != 0)
        job_trouble(j, "no pipe to ksearch-eval: %s", strerror(errno));
    else if (spawn_with(j, &p) == 0) {
        j->in_fd = p.in[1];
        j->out_fd = p.out[0];
        j->err_fd = p.err[0];
        p.in[1] = p.out[0] = p.err[0] = -1;
        fcntl(j->out_fd, F_SETFL, O_NONBLOCK);
        fcntl(j->err_fd, F_SETFL, O_NONBLOCK);
        j->state = JOB_RUNNING;
        watch(j);
    }
    pipes_close(&p);
}

static void lane_run(struct lane *lane)
{
    struct local_job *j;

    if (lane->running || list_empty(&lane->waiting))
        return;
    j = LIST_OF(lane->waiting.next, struct local_job, queued);
    list_remove(&j->queued);
    lane->running = j;
    job_spawn(j);
    if (j->trouble)
        job_end_later(j);
}

/* ---- The evaluator ---- */

static struct lane *lane_of(struct local *l, const char *device, uint32_t slot)
{
    struct lane *lane;

    LIST_FOREACH (at, &l->lanes) {
        lane = LIST_OF(at, struct lane, link);
        if (lane->slot == slot && strcmp(lane->device, device) == 0)
            return lane;
    }
    lane = xcalloc(1, sizeof(*lane));
    lane->device = xstrdup(device);
    lane->slot = slot;
    list_init(&lane->waiting);
    list_append(&l->lanes, &lane->link);
    return lane;
}

static int write_part(const char *dir, const char *name, const char *data, size_t len,
                      struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    return file_write(path, data, len, 0600, err);
}

static int write_job(struct local *l, const char *dir, const struct eval_request *req,
                     struct err *err)
{
    json_auto_t *job = eval_request_to_job(req, &l->config);
    CLEANUP(freep) char *text = json_dumps(job, JSON_INDENT(1));

    if (text == NULL)
        return err_set(err, ERR_INVALID, "the job holds text that is not UTF-8");
    if (file_mkdirs(dir, err) != 0 || write_part(dir, "job.json", text, strlen(text), err) != 0 ||
        write_part(dir, "candidate.c", req->candidate.source, req->candidate.source_len, err) != 0)
        return -1;
    if (req->champion.source &&
        write_part(dir, "champion.c", req->champion.source, req->champion.source_len, err) != 0)
        return -1;
    return 0;
}

/*
 * Generous: the harness keeps the limits itself, this one catches a harness that hangs. Four
 * builds, and per workload one run limit, the timing budget for two programs, and room for
 * preparation.
 */
static double wall_limit(const struct eval_request *req)
{
    const struct pack_definition *d = NULL;
    const struct pack_set *set = NULL;
    double n = 16;

    if (req->limits.wall_s > 0)
        return req->limits.wall_s;
    for (size_t i = 0; req->pack && i < req->pack->n_definitions; i++) {
        if (strcmp(req->pack->definitions[i].name, req->definition) == 0)
            d = &req->pack->definitions[i];
    }
    set = d ? pack_set(d, req->set) : NULL;
    if (set)
        n = (double)set->n_workloads;
    return 30 + 4 * req->limits.build_s + (n + 1) * (req->limits.run_s + 3 * req->timing.budget_s);
}

static struct local_job *job_new(struct local *l, const struct eval_request *req)
{
    struct local_job *j = xcalloc(1, sizeof(*j));

    j->job.ev = &l->ev;
    j->l = l;
    j->lane = lane_of(l, req->device, req->slot);
    list_init(&j->all);
    list_init(&j->queued);
    j->definition = xstrdup(req->definition);
    j->set = xstrdup(req->set);
    j->verb = req->verb ? xstrdup(req->verb) : NULL;
    j->wall_s = wall_limit(req) + (l->config.prefix ? l->config.prefix_wait_s : 0);
    j->pidfd = j->in_fd = j->out_fd = j->err_fd = -1;
    j->record.max = l->config.record_max;
    j->diagnostics.max = STDERR_MAX;
    j->end_event = event_new(l->base, -1, 0, on_end, j);
    j->dir = str_printf("%s/job-%llu", l->config.work_dir, (unsigned long long)++l->next_job);
    if (j->dir == NULL || j->end_event == NULL)
        abort(); /* as xmalloc does */
    return j;
}

static int local_start(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                       void *ctx, struct eval_job **out, struct err *err)
{
    struct local *l = LIST_OF(ev, struct local, ev);
    struct local_job *j;

    if (l->closing)
        return err_set(err, ERR_CANCELLED, "evaluations are being shut down");
    if (eval_request_check(req, err) != 0)
        return -1;
    if (req->pack == NULL)
        return err_set(err, ERR_INVALID, "an evaluation on this machine needs a task pack");
    j = job_new(l, req);
    j->done = done;
    j->ctx = ctx;
    if (write_job(l, j->dir, req, err) != 0) {
        job_free(j);
        return err_ctx(err, "evaluation");
    }
    list_append(&l->jobs, &j->all);
    list_append(&j->lane->waiting, &j->queued);
    *out = &j->job;
    lane_run(j->lane);
    return 0;
}

static void local_cancel(struct eval_job *job)
{
    struct local_job *j = LIST_OF(job, struct local_job, job);

    if (j->cancelled)
        return;
    j->cancelled = true;
    if (j->state == JOB_RUNNING)
        job_stop(j);
    else if (j->state == JOB_WAITING)
        job_end_later(j);
}

/* Stops and reaps, waiting for a prefix to give its place back. */
static void job_stop_now(struct local_job *j)
{
    struct timespec nap = { 0, EXIT_POLL_MS * 1000000L };
    siginfo_t info = { 0 };

    job_stop(j);
    for (int i = 0; j->l->config.prefix && i < TERM_GRACE_S * 1000 / EXIT_POLL_MS; i++) {
        if (waitid(P_PID, (id_t)j->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
            break;
        nanosleep(&nap, NULL);
    }
    job_reap(j);
}

static void local_free(struct evaluator *ev)
{
    struct local *l = LIST_OF(ev, struct local, ev);

    l->closing = true;
    while (!list_empty(&l->jobs)) {
        struct local_job *j = LIST_OF(l->jobs.next, struct local_job, all);

        j->cancelled = true;
        if (j->pid > 0)
            job_stop_now(j);
        job_end(j);
    }
    LIST_FOREACH (at, &l->lanes) {
        struct lane *lane = LIST_OF(at, struct lane, link);

        free(lane->device);
        free(lane);
    }
    command_words_free((char **)(uintptr_t)l->config.prefix);
    command_words_free((char **)(uintptr_t)l->config.prefix_env);
    free((char *)l->config.program);
    free((char *)l->config.work_dir);
    free((char *)l->config.cache_dir);
    free((char *)l->config.march);
    free((char *)l->config.sandbox);
    free(l);
}

static void local_load(const struct evaluator *ev, size_t *waiting, size_t *running)
{
    const struct local *l = LIST_OF(ev, const struct local, ev);

    *waiting = *running = 0;
    LIST_FOREACH (at, &l->jobs) {
        const struct local_job *j = LIST_OF(at, const struct local_job, all);

        *waiting += j->state == JOB_WAITING;
        *running += j->state == JOB_RUNNING;
    }
}

/* Job folders of an earlier run that was killed. */
static void remove_stale(const char *work_dir)
{
    DIR *dir = opendir(work_dir);
    struct dirent *e;

    while (dir && (e = readdir(dir)) != NULL) {
        CLEANUP(freep) char *path = NULL;
        struct err ignored;

        if (str_has_prefix(e->d_name, "job-") &&
            (path = str_printf("%s/%s", work_dir, e->d_name)) != NULL)
            file_rmtree(path, &ignored);
    }
    if (dir)
        closedir(dir);
}

static char *copy_or(const char *s, const char *fallback)
{
    return xstrdup(s && s[0] ? s : fallback);
}

static const char *const *copy_words(const char *const *words)
{
    size_t n = 0;
    char **copy;

    if (words == NULL)
        return NULL;
    while (words[n])
        n++;
    copy = xcalloc(n + 1, sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        copy[i] = xstrdup(words[i]);
    return (const char *const *)copy;
}

int launcher_local_new(struct event_base *base, const struct launcher_local_config *config,
                       struct evaluator **out, struct err *err)
{
    struct local *l;

    if (config->threads < 1)
        return err_set(err, ERR_INVALID, "an evaluation needs at least one thread");
    if (config->prefix == NULL && access(config->program, X_OK) != 0)
        return err_set(err, ERR_IO, "'%s' cannot be run: %s", config->program, strerror(errno));
    if (file_mkdirs(config->work_dir, err) != 0)
        return -1;
    remove_stale(config->work_dir);
    l = xcalloc(1, sizeof(*l));
    l->ev = (struct evaluator){ local_start, local_cancel, local_free, local_load };
    l->base = base;
    l->config = *config;
    l->config.program = xstrdup(config->program);
    l->config.prefix = copy_words(config->prefix);
    l->config.prefix_env = copy_words(config->prefix_env);
    l->config.work_dir = xstrdup(config->work_dir);
    l->config.cache_dir = copy_or(config->cache_dir, "");
    l->config.march = copy_or(config->march, "native");
    l->config.sandbox = copy_or(config->sandbox, "bwrap");
    if (l->config.record_max == 0)
        l->config.record_max = RECORD_MAX_DEFAULT;
    list_init(&l->jobs);
    list_init(&l->lanes);
    *out = &l->ev;
    return 0;
}
