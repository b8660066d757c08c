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
#include "cache.h"
#include "confine.h"
#include "sha256.h"

#define BUILD_PROCESSES 64
#define EXIT_NO_COMPILER 120
#define EXIT_NO_OBJECT 121
#define STARTED 'S' /* first byte of the object pipe: the sandbox works */
/* Then parts: a tag, a length of 8 bytes in the machine's order, the bytes. */
#define PART_LOOPS 'L'
#define PART_STACK 'U'
#define PART_OBJECT 'O'
#define PART_HEAD 9

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
    buf_release(&b->loops);
    buf_release(&b->stack);
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

/* The verb's own arguments: how it limits itself, and what it sends back. */
static int verb_args(const struct job *job, const char *object, const char *stack,
                     struct compile_args *a, struct err *err)
{
    bool limited = confine_uid(0, ROLE_BUILDER) >= 0 || job->sandbox == SANDBOX_BWRAP;
    int rc = 0;

    rc |= arg_add(a, strdup(object), err);
    rc |= arg_add(a, strdup(stack), err);
    rc |= arg_add(a, str_printf("%llu", (unsigned long long)job->memory_bytes), err);
    rc |= arg_add(a, str_printf("%llu", (unsigned long long)job->build_s * 4 + 4), err);
    rc |= arg_add(a, str_printf("%d", limited ? BUILD_PROCESSES : 0), err);
    return rc;
}

/*
 * Warnings, and where the compiler can say it: which loops became vector code and how much stack
 * functions take. Neither changes the code. Together about a tenth of a build's time.
 */
static int report_args(const char *tmp, struct compile_args *a, struct err *err)
{
    char compiler[64];
    int rc = 0;

    build_compiler(compiler, sizeof(compiler));
    rc |= arg_add(a, strdup("-Wall"), err);
    rc |= arg_add(a, strdup("-Wextra"), err);
    if (!str_has_prefix(compiler, "gcc "))
        return rc;
    rc |= arg_add(a, strdup("-fopt-info-vec-optimized-missed=stdout"), err);
    rc |= arg_add(a, strdup("-fstack-usage"), err);
    rc |= arg_add(a, strdup("-dumpdir"), err);
    rc |= arg_add(a, str_printf("%s/ks-", tmp), err);
    return rc;
}

/* `dir`: where the source is; `tmp`: where the compiler may write. `tested`: with reports. */
static int compile_args(const struct job *job, const struct pack *pack,
                        const struct program *program, const char *dir, const char *tmp,
                        bool tested, struct compile_args *a, struct err *err)
{
    /* Without a build id, which depends on what is never loaded. */
    static const char *const flags[] = { "cc",
                                         "-O3",
                                         "-std=gnu17",
                                         "-shared",
                                         "-fPIC",
                                         "-fno-semantic-interposition",
                                         "-Wl,--build-id=none" };
    CLEANUP(freep) char *object = str_printf("%s/object.so", tmp);
    CLEANUP(freep) char *stack = str_printf("%s/ks-source.su", tmp);
    int rc = 0;

    if (object == NULL || stack == NULL || verb_args(job, object, stack, a, err) != 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        rc |= arg_add(a, strdup(flags[i]), err);
    rc |= arg_add(a, str_printf("-march=%s", job->march), err);
    if (tested)
        rc |= report_args(tmp, a, err);
    for (int i = 0; pack && i < pack->n_constants; i++)
        rc |= add_constant(a, &pack->constants[i], err);
    for (int i = 0; i < program->n_defines; i++)
        rc |= arg_add(a, str_printf("-D%s=%s", program->defines[i].name, program->defines[i].value),
                      err);
    rc |= arg_add(a, str_printf("-I%s", dir), err);
    rc |= arg_add(a, str_printf("%s/source.c", dir), err);
    rc |= arg_add(a, strdup("-o"), err);
    rc |= arg_add(a, strdup(object), err);
    rc |= arg_add(a, strdup("-lm"), err);
    rc |= arg_add(a, strdup("-pthread"), err);
    return rc;
}

/* ---- the cache ---- */

#define VERB_ARGS 5 /* not the compiler's: they change no code */

/* "native" is this processor: a folder that moves to another machine must not bring its code. */
static void add_processor(struct sha256 *h)
{
    static const char *const keys[] = { "model name", "flags", "Features", "CPU part" };
    CLEANUP(freep) char *line = NULL;
    bool seen[ARRAY_LEN(keys)] = { false };
    size_t cap = 0;
    FILE *info = fopen("/proc/cpuinfo", "re");

    while (info != NULL && getline(&line, &cap, info) > 0)
        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
            if (!seen[i] && str_has_prefix(line, keys[i])) {
                seen[i] = true;
                sha256_adds(h, line);
            }
    if (info != NULL)
        fclose(info);
}

/* A compiler, assembler or linker that was replaced is another one, whatever it calls itself. */
static void add_tools(struct sha256 *h)
{
    static const char *const tools[] = { "/usr/bin/cc", "/usr/local/bin/cc", "/usr/bin/as",
                                         "/usr/bin/ld" };
    char compiler[64];
    struct stat s;

    build_compiler(compiler, sizeof(compiler));
    sha256_adds(h, compiler);
    for (size_t i = 0; i < ARRAY_LEN(tools); i++)
        if (stat(tools[i], &s) == 0) {
            uint64_t v[3] = { (uint64_t)s.st_size, (uint64_t)s.st_mtim.tv_sec, s.st_ino };

            sha256_add(h, v, sizeof(v));
        }
}

/* The cache's name for these inputs; owned. */
static char *cache_name(const struct job *job, const struct compile_args *a, const char *source,
                        const char *key)
{
    char hex[SHA256_HEX + 1];
    struct sha256 h;

    sha256_init(&h);
    add_tools(&h);
    if (strstr(job->march, "native") != NULL)
        add_processor(&h);
    for (int i = VERB_ARGS; i < a->n; i++)
        sha256_adds(&h, a->v[i]);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        sha256_adds(&h, headers[i].text);
    sha256_adds(&h, source);
    sha256_hex(&h, hex);
    return str_printf("%.16s-%s", key ? key : "program", hex);
}

/* Returns true when the build came from the cache. */
static bool from_cache(const struct job *job, const char *name, struct build *b)
{
    struct buf *const parts[] = { &b->object, &b->log, &b->loops, &b->stack };
    enum cache_found found = cache_load(job->cache, name, parts, ARRAY_LEN(parts));

    b->damaged = found == CACHE_DAMAGED;
    b->cached = found == CACHE_HIT && b->object.len > 0;
    return b->cached;
}

static void into_cache(const struct job *job, const char *name, const struct build *b)
{
    const struct buf *const parts[] = { &b->object, &b->log, &b->loops, &b->stack };

    cache_store(job->cache, name, parts, ARRAY_LEN(parts), job->cache_bytes);
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

/* What the object pipe brings goes to `answer`. */
static void watch_compiler(struct watch *w, struct build *b, struct buf *answer)
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
        if (p[1].fd >= 0 && p[1].revents && !drain(p[1].fd, answer))
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
                        const char *workdir, struct watch *w, struct build *b, struct buf *answer,
                        int *status, struct err *err)
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
        watch_compiler(w, b, answer);
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

/* Takes the parts of an answer; false when it is not made of them. */
static bool take_parts(const struct buf *answer, struct build *b)
{
    size_t at = 1;
    struct err ignored;

    while (answer->len - at >= PART_HEAD) {
        char tag = answer->data[at];
        struct buf *part = tag == PART_LOOPS    ? &b->loops
                           : tag == PART_STACK  ? &b->stack
                           : tag == PART_OBJECT ? &b->object
                                                : NULL;
        uint64_t len;

        memcpy(&len, answer->data + at + 1, sizeof(len));
        at += PART_HEAD;
        if (part == NULL || part->len > 0 || len > answer->len - at ||
            buf_add(part, answer->data + at, (size_t)len, &ignored) != 0)
            return false;
        at += (size_t)len;
    }
    return at == answer->len;
}

static int judge_build(const struct job *job, const struct watch *w, int status,
                       const struct buf *answer, struct build *b, struct fail *f)
{
    char log[240];

    if (answer->len == 0 || answer->data[0] != STARTED) {
        fail_set(f, FAIL_INFRASTRUCTURE, "the sandbox could not be started: %s",
                 str_visible(buf_str(&b->log), b->log.len, log, sizeof(log)));
        f->code = ERR_REFUSED;
        return -1;
    }
    if (w->timed_out)
        return fail_set(f, FAIL_BUILD_TIMEOUT, "the compiler was stopped after %llu s",
                        (unsigned long long)job->build_s);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_COMPILER)
        return fail_set(f, FAIL_INFRASTRUCTURE, "there is no C compiler 'cc' on this machine");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !take_parts(answer, b) ||
        b->object.len == 0)
        return fail_set(f, FAIL_BUILD_FAILED, "the compiler rejected the source: %s",
                        first_error(&b->log, log, sizeof(log)));
    return 0;
}

static int compile_in(const struct job *job, const struct pack *pack, const struct program *program,
                      char *workdir, const char *key, struct build *b, struct fail *f)
{
    CLEANUP(compile_args_release) struct compile_args a = { .n = 0 };
    CLEANUP(buf_release)
    struct buf answer = { .max = BUILD_OBJECT_MAX + 2 * BUILD_REPORT_MAX + 3 * PART_HEAD + 1 };
    CLEANUP(freep) char *name = NULL;
    bool bwrap = job->sandbox == SANDBOX_BWRAP;
    struct watch w = { .timed_out = false };
    uint64_t start = now_ns();
    struct err err;
    int status = 0;

    if (compile_args(job, pack, program, bwrap ? "/ks" : workdir, bwrap ? "/tmp" : workdir,
                     key == NULL, &a, &err) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the compiler's arguments");
    /* Without bwrap a program may run as the cache's owner. */
    if (job->cache != NULL && bwrap) {
        name = cache_name(job, &a, program->source, key);
        if (name && from_cache(job, name, b))
            return 0;
    }
    if (workdir[0] != '\0' && fill_workdir(job, workdir, program->source, &err) != 0)
        return fail_err(f, &err);
    if (run_compiler(job, &a, program->source, workdir[0] ? workdir : NULL, &w, b, &answer, &status,
                     &err) != 0)
        return fail_err(f, &err);
    b->ms = (double)(now_ns() - start) / 1e6;
    if (judge_build(job, &w, status, &answer, b, f) != 0)
        return -1;
    if (name != NULL)
        into_cache(job, name, b);
    return 0;
}

int build_program(const struct job *job, const struct pack *pack, const struct program *program,
                  const char *key, struct build *out, struct fail *f)
{
    CLEANUP(workdir_release) char workdir[32] = "/tmp/ksearch-eval-XXXXXX";

    *out = (struct build){ .object = { .max = BUILD_OBJECT_MAX },
                           .log = { .max = job->output_bytes },
                           .loops = { .max = BUILD_REPORT_MAX },
                           .stack = { .max = BUILD_REPORT_MAX } };
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

static int send_part(char tag, const struct buf *part)
{
    char head[PART_HEAD] = { tag };
    uint64_t len = part->len;
    struct err ignored;

    if (len == 0)
        return 0;
    memcpy(head + 1, &len, sizeof(len));
    return file_write_all(3, head, sizeof(head), &ignored) != 0 ||
                   file_write_all(3, part->data, part->len, &ignored) != 0
               ? -1
               : 0;
}

static int send_all(const char *object_path, const char *stack_path, const struct buf *loops)
{
    CLEANUP(buf_release) struct buf object = { .max = BUILD_OBJECT_MAX };
    CLEANUP(buf_release) struct buf stack = { .max = BUILD_REPORT_MAX };
    struct err ignored;

    if (file_read(object_path, &object, &ignored) != 0)
        return EXIT_NO_OBJECT;
    if (file_read(stack_path, &stack, &ignored) != 0)
        buf_clear(&stack); /* not every compiler writes it */
    return send_part(PART_LOOPS, loops) == 0 && send_part(PART_STACK, &stack) == 0 &&
                   send_part(PART_OBJECT, &object) == 0
               ? 0
               : EXIT_NO_OBJECT;
}

static bool is_about_loops(const char *line)
{
    return strstr(line, ": optimized: ") || strstr(line, ": missed: ");
}

/* Reads the compiler's standard output to its end, and keeps what is told on, by whole lines. */
static void read_loops(int fd, struct buf *loops)
{
    CLEANUP(freep) char *line = NULL;
    size_t cap = 0;
    struct err ignored;
    FILE *in = fdopen(fd, "r");

    while (in != NULL && getline(&line, &cap, in) > 0)
        if (is_about_loops(line) && strlen(line) <= loops->max - loops->len)
            buf_adds(loops, line, &ignored);
    if (in != NULL)
        fclose(in);
    else
        close(fd);
}

/* Runs the compiler with a pipe for its standard output; 0, or the verb's exit status. */
static int compile(char **argv, struct buf *loops)
{
    posix_spawn_file_actions_t actions;
    int fds[2], status;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) != 0)
        return EXIT_NO_OBJECT;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) != 0)
        return EXIT_NO_COMPILER;
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    read_loops(fds[0], loops);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_NO_OBJECT;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

int build_verb(int argc, char **argv)
{
    struct confine_limits limits = { .file_bytes = BUILD_OBJECT_MAX, .files = 256 };
    CLEANUP(buf_release) struct buf loops = { .max = BUILD_REPORT_MAX };
    struct err err;
    int rc;

    if (argc < VERB_ARGS + 1 || !str_to_u64(argv[2], &limits.as_bytes) ||
        !str_to_u64(argv[3], &limits.cpu_s) || !str_to_u64(argv[4], &limits.processes))
        return 2;
    if (write(3, &(char){ STARTED }, 1) != 1 || fcntl(3, F_SETFD, FD_CLOEXEC) != 0)
        return EXIT_NO_OBJECT;
    setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
    setenv("LC_ALL", "C", 1);
    if (confine_limit_self(&limits, &err) != 0)
        return EXIT_NO_OBJECT;
    rc = compile(argv + VERB_ARGS, &loops);
    return rc == 0 ? send_all(argv[0], argv[1], &loops) : rc;
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
