/* SPDX-License-Identifier: Apache-2.0 */
/* Compiling; see build.h. */
#include "build.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "confine.h"

#define BUILD_PROCESSES 64
#define EXIT_NO_COMPILER 120
#define EXIT_NO_OBJECT 121
#define STARTED 'S' /* first byte of the object pipe: the sandbox works */

/* The headers of the task ABI, word for word, so that this program can be carried alone. */
#define EMBED(symbol, path)                                                                        \
    extern const char symbol[];                                                                    \
    __asm__(".section .rodata\n"                                                                   \
            ".global " #symbol "\n" #symbol ":\n"                                                  \
            ".incbin \"" path "\"\n"                                                               \
            ".byte 0\n"                                                                            \
            ".previous\n")

EMBED(build_task_h, KS_HARNESS_DIR "/ks_task.h");
EMBED(build_gen_h, KS_HARNESS_DIR "/ks_gen.h");

static const struct {
    const char *name, *text;
} headers[] = { { "ks_task.h", build_task_h }, { "ks_gen.h", build_gen_h } };

extern char **environ;

void build_release(struct build *b)
{
    buf_release(&b->object);
    buf_release(&b->log);
}

/* ---- arguments ---- */

#define COMPILE_ARGS_MAX (JOB_DEFINES_MAX + WIRE_AXES_MAX + 40)

struct compile_args {
    char *v[COMPILE_ARGS_MAX]; /* owned, NULL-terminated */
    int n;
};

static void compile_args_release(struct compile_args *a)
{
    for (int i = 0; i < a->n; i++)
        free(a->v[i]);
}

static int arg_add(struct compile_args *a, char *s, struct err *err)
{
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    if (a->n == COMPILE_ARGS_MAX - 1) {
        free(s);
        return err_set(err, ERR_LIMIT, "too many compiler arguments");
    }
    a->v[a->n++] = s;
    a->v[a->n] = NULL;
    return 0;
}

static int add_constant(struct compile_args *a, const struct ks_axis *axis, struct err *err)
{
    char name[WIRE_NAME_MAX];

    for (size_t i = 0; i <= strlen(axis->name); i++) {
        char c = axis->name[i];

        name[i] = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c == '-' || c == '.' ? '_' : c);
    }
    return arg_add(a, str_printf("-DKS_%s=%lld", name, (long long)axis->value), err);
}

/* `dir`: where source and object are; the first five are the verb's own. */
static int compile_args(const struct job *job, const struct pack *pack,
                        const struct program *program, const char *dir, const char *object,
                        struct compile_args *a, struct err *err)
{
    static const char *const flags[] = { "cc",      "-O3",   "-std=gnu17",
                                         "-shared", "-fPIC", "-fno-semantic-interposition" };
    static const char *const libs[] = { "-lm", "-pthread" };
    char *own[] = {
        str_printf("%s", object), str_printf("%llu", (unsigned long long)job->memory_bytes),
        str_printf("%llu", (unsigned long long)job->build_s * 4 + 4),
        str_printf("%d", confine_uid(0, ROLE_BUILDER) >= 0 || job->sandbox == SANDBOX_BWRAP
                             ? BUILD_PROCESSES
                             : 0)
    };
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        rc |= arg_add(a, own[i], err);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        rc |= arg_add(a, strdup(flags[i]), err);
    rc |= arg_add(a, str_printf("-march=%s", job->march), err);
    for (int i = 0; pack && i < pack->n_constants; i++)
        rc |= add_constant(a, &pack->constants[i], err);
    for (int i = 0; i < program->n_defines; i++)
        rc |= arg_add(a, str_printf("-D%s=%s", program->defines[i].name, program->defines[i].value),
                      err);
    rc |= arg_add(a, str_printf("-I%s", dir), err);
    rc |= arg_add(a, str_printf("%s/source.c", dir), err);
    rc |= arg_add(a, strdup("-o"), err);
    rc |= arg_add(a, strdup(object), err);
    for (size_t i = 0; i < ARRAY_LEN(libs); i++)
        rc |= arg_add(a, strdup(libs[i]), err);
    return rc;
}

/* ---- the cache ---- */

static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; *s != '\0'; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3ull; /* FNV-1a */
    return (h ^ 0xff) * 0x100000001b3ull;
}

/* The cache's name for these inputs; owned. */
static char *cache_path(const struct job *job, const struct compile_args *a, const char *source,
                        const char *key)
{
    uint64_t h[2] = { 0xcbf29ce484222325ull, 0x9ae16a3b2f90404full };
    char compiler[64];

    build_compiler(compiler, sizeof(compiler));
    for (int k = 0; k < 2; k++) {
        h[k] = hash_text(h[k], compiler);
        for (int i = 4; i < a->n; i++)
            h[k] = hash_text(h[k], a->v[i]);
        for (size_t i = 0; i < ARRAY_LEN(headers); i++)
            h[k] = hash_text(h[k], headers[i].text);
        h[k] = hash_text(h[k], source);
    }
    return str_printf("%s/%.16s-%016llx%016llx.so", job->cache, key, (unsigned long long)h[0],
                      (unsigned long long)h[1]);
}

static void cache_store(const struct job *job, const char *path, const struct build *b)
{
    struct err ignored; /* a cache that cannot be written costs time, nothing else */

    if (file_mkdirs(job->cache, &ignored) == 0)
        file_write_atomic(path, b->object.data, b->object.len, &ignored);
}

/* ---- running the compiler ---- */

/* The two pipes from the compiler, and until when it may take. */
struct watch {
    int log_fd, object_fd;
    uint64_t deadline_ns;
    bool timed_out;
};

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

/* Reads what is there, keeping what fits. Returns false at the end of the pipe. */
static bool drain(int fd, struct buf *b)
{
    char chunk[65536];
    ssize_t n = read(fd, chunk, sizeof(chunk));
    struct err ignored;

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n > 0)
        buf_add(b, chunk, MIN((size_t)n, b->max - b->len), &ignored);
    return n > 0;
}

static void watch_compiler(struct watch *w, struct build *b)
{
    struct pollfd p[2] = { { w->log_fd, POLLIN, 0 }, { w->object_fd, POLLIN, 0 } };

    while (p[0].fd >= 0 || p[1].fd >= 0) {
        uint64_t now = now_ns();

        if (now >= w->deadline_ns) {
            w->timed_out = true;
            return;
        }
        if (poll(p, 2, (int)((w->deadline_ns - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return;
        if (p[0].fd >= 0 && p[0].revents && !drain(p[0].fd, &b->log))
            p[0].fd = -1;
        if (p[1].fd >= 0 && p[1].revents && !drain(p[1].fd, &b->object))
            p[1].fd = -1;
        p[0].revents = p[1].revents = 0;
    }
}

static int write_text(const char *dir, const char *name, const char *text, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    return file_write(path, text, strlen(text), 0644, err);
}

/* Writes source and headers into a folder that the builder's user owns (no bwrap). */
static int fill_workdir(const struct job *job, const char *dir, const char *source, struct err *err)
{
    int uid = confine_uid(job->slot, ROLE_BUILDER);

    if (write_text(dir, "source.c", source, err) != 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        if (write_text(dir, headers[i].name, headers[i].text, err) != 0)
            return -1;
    if (uid >= 0 && chown(dir, (uid_t)uid, (gid_t)uid) != 0)
        return err_set(err, ERR_IO, "cannot give '%s' away: %s", dir, strerror(errno));
    return 0;
}

static void workdir_release(char (*dir)[32])
{
    struct err ignored;

    if ((*dir)[0] != '\0')
        file_rmtree(*dir, &ignored);
}

/* Starts the compiler with its pipes; returns its wait status in *status. */
static int run_compiler(const struct job *job, const struct compile_args *a, const char *source,
                        const char *workdir, struct watch *w, struct build *b, int *status,
                        struct err *err)
{
    struct confine_file files[] = { { "/ks/source.c", source, strlen(source) },
                                    { "/ks/ks_task.h", build_task_h, strlen(build_task_h) },
                                    { "/ks/ks_gen.h", build_gen_h, strlen(build_gen_h) } };
    int log_pipe[2] = { -1, -1 }, object_pipe[2] = { -1, -1 }, rc;
    struct confine_spec spec = { .sandbox = job->sandbox,
                                 .slot = job->slot,
                                 .role = ROLE_BUILDER,
                                 .files = files,
                                 .n_files = ARRAY_LEN(files),
                                 .verb = "compile",
                                 .args = (const char *const *)a->v,
                                 .n_fds = 1,
                                 .tmp_bytes = 4ull * BUILD_OBJECT_MAX,
                                 .workdir = workdir };
    pid_t pid;

    if (pipe2(log_pipe, O_CLOEXEC) != 0 || pipe2(object_pipe, O_CLOEXEC) != 0) {
        closep(&log_pipe[0]);
        closep(&log_pipe[1]);
        return err_set(err, ERR_IO, "cannot make a pipe: %s", strerror(errno));
    }
    spec.fds = &object_pipe[1];
    spec.stderr_fd = log_pipe[1];
    rc = confine_spawn(&spec, &pid, err);
    close(log_pipe[1]);
    close(object_pipe[1]);
    if (rc == 0) {
        w->log_fd = log_pipe[0];
        w->object_fd = object_pipe[0];
        w->deadline_ns = now_ns() + job->build_s * NS_PER_SEC;
        watch_compiler(w, b);
        *status = w->timed_out ? confine_kill(pid) : confine_wait(pid);
        while (w->timed_out && drain(w->log_fd, &b->log))
            ; /* until the last process of the killed sandbox has gone */
    }
    close(log_pipe[0]);
    close(object_pipe[0]);
    return rc;
}

/* The first line that speaks of an error, else the beginning. */
static const char *first_error(const struct buf *log, char *out, size_t size)
{
    const char *text = buf_str(log), *at = strstr(text, "error:");

    if (at == NULL)
        return str_visible(text, log->len, out, size);
    while (at > text && at[-1] != '\n')
        at--;
    return str_visible(at, strcspn(at, "\n"), out, size);
}

static int judge_build(const struct job *job, const struct watch *w, int status, struct build *b,
                       struct fail *f)
{
    char log[240];

    if (b->object.len == 0 || b->object.data[0] != STARTED) {
        fail_set(f, FAIL_INFRASTRUCTURE, "the sandbox could not be started: %s",
                 str_visible(buf_str(&b->log), b->log.len, log, sizeof(log)));
        f->code = ERR_REFUSED;
        return -1;
    }
    buf_consume(&b->object, 1);
    if (w->timed_out)
        return fail_set(f, FAIL_BUILD_TIMEOUT, "the compiler was stopped after %llu s",
                        (unsigned long long)job->build_s);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_COMPILER)
        return fail_set(f, FAIL_INFRASTRUCTURE, "there is no C compiler 'cc' on this machine");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || b->object.len == 0)
        return fail_set(f, FAIL_BUILD_FAILED, "the compiler rejected the source: %s",
                        first_error(&b->log, log, sizeof(log)));
    return 0;
}

static int compile_in(const struct job *job, const struct pack *pack, const struct program *program,
                      char *workdir, const char *key, struct build *b, struct fail *f)
{
    CLEANUP(compile_args_release) struct compile_args a = { .n = 0 };
    CLEANUP(freep) char *object = NULL, *cached = NULL;
    const char *dir = job->sandbox == SANDBOX_BWRAP ? "/ks" : workdir;
    struct watch w = { .timed_out = false };
    uint64_t start = now_ns();
    struct err err;
    int status = 0;

    object = str_printf("%s/object.so", job->sandbox == SANDBOX_BWRAP ? "/tmp" : workdir);
    if (object == NULL || compile_args(job, pack, program, dir, object, &a, &err) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the compiler's arguments");
    if (key != NULL && job->cache != NULL && job->sandbox == SANDBOX_BWRAP) {
        cached = cache_path(job, &a, program->source, key);
        if (cached && file_read(cached, &b->object, &err) == 0 && b->object.len > 0)
            return 0;
        buf_clear(&b->object);
    }
    if (workdir[0] != '\0' && fill_workdir(job, workdir, program->source, &err) != 0)
        return fail_err(f, &err);
    if (run_compiler(job, &a, program->source, workdir[0] ? workdir : NULL, &w, b, &status, &err) !=
        0)
        return fail_err(f, &err);
    b->ms = (double)(now_ns() - start) / 1e6;
    if (judge_build(job, &w, status, b, f) != 0)
        return -1;
    if (cached != NULL)
        cache_store(job, cached, b);
    return 0;
}

int build_program(const struct job *job, const struct pack *pack, const struct program *program,
                  const char *key, struct build *out, struct fail *f)
{
    CLEANUP(workdir_release) char workdir[32] = "/tmp/ksearch-eval-XXXXXX";

    *out = (struct build){ .object = { .max = BUILD_OBJECT_MAX },
                           .log = { .max = job->output_bytes } };
    if (job->sandbox == SANDBOX_BWRAP)
        workdir[0] = '\0';
    else if (mkdtemp(workdir) == NULL) {
        workdir[0] = '\0';
        return fail_set(f, FAIL_INFRASTRUCTURE, "cannot make a folder in /tmp: %s",
                        strerror(errno));
    }
    return compile_in(job, pack, program, workdir, key, out, f);
}

/* ---- inside the sandbox ---- */

static int send_object(const char *path)
{
    struct err ignored;
    CLEANUP(buf_release) struct buf object = { .max = BUILD_OBJECT_MAX };

    if (file_read(path, &object, &ignored) != 0)
        return EXIT_NO_OBJECT;
    return file_write_all(3, object.data, object.len, &ignored) == 0 ? 0 : EXIT_NO_OBJECT;
}

int build_verb(int argc, char **argv)
{
    struct confine_limits limits = { .file_bytes = BUILD_OBJECT_MAX, .files = 256 };
    struct err err;
    pid_t pid;
    int status;

    if (argc < 6 || !str_to_u64(argv[1], &limits.as_bytes) || !str_to_u64(argv[2], &limits.cpu_s) ||
        !str_to_u64(argv[3], &limits.processes))
        return 2;
    if (write(3, &(char){ STARTED }, 1) != 1 || fcntl(3, F_SETFD, FD_CLOEXEC) != 0)
        return EXIT_NO_OBJECT;
    setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
    setenv("LC_ALL", "C", 1);
    if (confine_limit_self(&limits, &err) != 0)
        return EXIT_NO_OBJECT;
    if (posix_spawnp(&pid, argv[4], NULL, NULL, argv + 4, environ) != 0)
        return EXIT_NO_COMPILER;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_NO_OBJECT;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return 1;
    return send_object(argv[0]);
}

/* ---- the compiler's name ---- */

int build_capture(const char *const *argv, struct buf *out, struct err *err)
{
    posix_spawn_file_actions_t actions;
    int pipe_fds[2], rc, status;
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return err_set(err, ERR_IO, "cannot make a pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    if (rc != 0) {
        close(pipe_fds[0]);
        return err_set(err, ERR_IO, "cannot start '%s': %s", argv[0], strerror(rc));
    }
    rc = file_read_fd(pipe_fds[0], out, err);
    close(pipe_fds[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return rc;
}

void build_compiler(char *out, size_t size)
{
    static const char *const argv[] = { "cc", "--version", NULL };
    static char name[64]; /* asked once: the compiler does not change under an evaluation */
    CLEANUP(buf_release) struct buf text = { .max = 65536 };
    struct err ignored;

    if (name[0] == '\0' && build_capture(argv, &text, &ignored) == 0 && text.len > 0) {
        const char *line = buf_str(&text);
        size_t len = strcspn(line, "\n");
        const char *clang = strstr(line, "clang version ");

        if (clang != NULL) {
            clang += strlen("clang version ");
            snprintf(name, sizeof(name), "clang %.*s", (int)MIN(strcspn(clang, " \n"), (size_t)40),
                     clang);
        } else {
            const char *last = line + len;

            while (last > line && last[-1] != ' ')
                last--;
            snprintf(name, sizeof(name), "gcc %.*s",
                     (int)MIN((size_t)(line + len - last), (size_t)40), last);
        }
    }
    str_copy(out, size, name);
}
