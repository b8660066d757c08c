/* SPDX-License-Identifier: Apache-2.0 */
/* Starting what is not trusted; see confine.h. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#define SLICE_NS 100000 /* a short slice preempts a longer one at once on waking */

enum { ARGS_MAX = 160, PIDS_MAX = 16, FD_PARK = 64, FD_HIGH = 65536 };

/* Argument list of the child; strings it had to make are owned. */
struct args {
    const char *v[ARGS_MAX];
    char *owned[ARGS_MAX];
    int n, n_owned;
};

static _Atomic pid_t running[PIDS_MAX]; /* read by the leash's thread */

static void args_release(struct args *a)
{
    for (int i = 0; i < a->n_owned; i++)
        free(a->owned[i]);
}

static void args_add(struct args *a, const char *s)
{
    if (a->n < ARGS_MAX - 1)
        a->v[a->n++] = s;
}

static void args_add_number(struct args *a, unsigned long long v)
{
    char text[24];
    char *s;

    snprintf(text, sizeof(text), "%llu", v);
    s = xstrdup(text);
    if (a->n_owned < ARGS_MAX)
        a->owned[a->n_owned++] = s;
    args_add(a, s);
}

#define ARGS_ADD(a, ...)                                                                           \
    do {                                                                                           \
        static const char *const list_[] = { __VA_ARGS__ };                                        \
        for (size_t k_ = 0; k_ < ARRAY_LEN(list_); k_++)                                           \
            args_add(a, list_[k_]);                                                                \
    } while (0)

/* ---- memory files ---- */

int confine_memfd(const char *name, const void *data, size_t len, struct err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0)
        return err_set(err, ERR_IO, "cannot make a memory file: %s", strerror(errno));
    if (file_write_all(fd, data, len, err) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return err_set(err, ERR_IO, "cannot fill a memory file: %s", strerror(errno));
    }
    return fd;
}

/* ---- the argument list of bwrap ---- */

/* /bin, /lib, ... are links into /usr on a merged system, folders on others. */
static void add_system_dir(struct args *a, const char *path, char (*target)[128])
{
    ssize_t n = readlink(path, *target, sizeof(*target) - 1);

    if (n > 0) {
        (*target)[n] = '\0';
        args_add(a, "--symlink");
        args_add(a, *target);
        args_add(a, path);
    } else if (file_is_dir(path)) {
        ARGS_ADD(a, "--ro-bind");
        args_add(a, path);
        args_add(a, path);
    }
}

/* A sanitized build of ours cannot look for leaks without /proc. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZER_ENV "ASAN_OPTIONS=detect_leaks=0"
#define SANITIZER_ARGS "--setenv", "ASAN_OPTIONS", "detect_leaks=0",
#else
#define SANITIZER_ENV NULL
#define SANITIZER_ARGS
#endif

static void add_system(struct args *a)
{
    static const char *const dirs[] = { "/bin", "/sbin", "/lib", "/lib32", "/lib64" };
    static char targets[ARRAY_LEN(dirs)][128];

    ARGS_ADD(a, "bwrap", "--unshare-all", "--die-with-parent", "--clearenv",
             SANITIZER_ARGS "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LC_ALL", "C",
             "--setenv", "TMPDIR", "/tmp", "--uid", "65534", "--gid", "65534", "--ro-bind", "/usr",
             "/usr", "--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--ro-bind-try",
             "/etc/ld.so.cache", "/etc/ld.so.cache");
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        add_system_dir(a, dirs[i], &targets[i]);
}

static void add_file(struct args *a, int fd, const char *dest, const char *perms)
{
    args_add(a, "--perms");
    args_add(a, perms);
    args_add(a, "--ro-bind-data");
    args_add_number(a, (unsigned long long)fd);
    args_add(a, dest);
}

/* ---- descriptors ---- */

/* What the child needs open: `plain` become 3, 4, ...; `data` are read by bwrap. */
struct child_fds {
    int plain[CONFINE_FDS_MAX], n_plain;
    int data[CONFINE_FILES_MAX + 1], n_data;
    int err, null;
};

static void child_fds_release(struct child_fds *c)
{
    for (int i = 0; i < c->n_plain; i++)
        close(c->plain[i]);
    for (int i = 0; i < c->n_data; i++)
        close(c->data[i]);
    closep(&c->err);
    closep(&c->null);
}

/* A copy of `fd` far above those that the child will have. */
static int park(int fd, struct err *err)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, FD_PARK);

    return high >= 0 ? high : err_set(err, ERR_IO, "cannot copy a descriptor: %s", strerror(errno));
}

static int park_file(struct child_fds *c, int fd, struct err *err)
{
    int high;

    if (fd < 0)
        return -1;
    high = park(fd, err);
    close(fd);
    if (high < 0)
        return -1;
    c->data[c->n_data++] = high;
    return high;
}

static int open_self(struct err *err)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    return fd >= 0 ? fd
                   : err_set(err, ERR_IO, "cannot open this program again: %s", strerror(errno));
}

static int open_child_fds(const struct confine_spec *s, struct child_fds *c, struct err *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return err_set(err, ERR_IO, "cannot open /dev/null: %s", strerror(errno));
    c->null = park(null, err);
    close(null);
    if (c->null < 0)
        return -1;
    if (s->stderr_fd >= 0 && (c->err = park(s->stderr_fd, err)) < 0)
        return -1;
    for (int i = 0; i < s->n_fds; i++) {
        c->plain[i] = park(s->fds[i], err);
        if (c->plain[i] < 0)
            return -1;
        c->n_plain++;
    }
    return 0;
}

/* ---- the child ---- */

int confine_uid(int slot, enum confine_role role)
{
    return geteuid() == 0 ? CONFINE_UID_BASE + slot * ROLE_COUNT + (int)role : -1;
}

void confine_hurry(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {
        .size = sizeof(attr), .policy = SCHED_OTHER, .nice = CONFINE_NICE, .runtime = SLICE_NS
    };

    /* what is not allowed, or not known to this kernel, stays as it is */
    setpriority(PRIO_PROCESS, 0, CONFINE_NICE);
    attr.nice = getpriority(PRIO_PROCESS, 0);
    syscall(SYS_sched_setattr, 0, &attr, 0);
}

void confine_hurry_session(void)
{
    static const char nice_text[] = CONFINE_NICE_TEXT;
    int fd = getsid(0) == getpid() ? open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        (void)!write(fd, nice_text, sizeof(nice_text) - 1);
        close(fd);
    }
}

static void child_limit(int what, rlim_t v)
{
    struct rlimit l = { v, v };

    setrlimit(what, &l);
}

/* Whatever we were started with goes no further: nobody said that it is close-on-exec. */
static void close_high(void)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, FD_PARK, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) == 0)
        return;
#endif
    for (int fd = FD_PARK; fd < FD_HIGH; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC); /* an older kernel */
}

/* After fork: system calls only, then exec. Exits with 126 when it cannot. */
static void child_run(const struct confine_spec *s, const struct child_fds *c, const char *path,
                      char *const *argv, pid_t parent)
{
    static char *const no_env[] = { SANITIZER_ENV, NULL };
    int uid = confine_uid(s->slot, s->role);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid(); /* its own group to kill, and no terminal to write to */
    if (s->role != ROLE_BUILDER) {
        confine_hurry();
        confine_hurry_session();
    }
    child_limit(RLIMIT_CORE, 0);
    dup2(c->null, 0);
    dup2(c->null, 1);
    dup2(c->err >= 0 ? c->err : c->null, 2);
    for (int i = 0; i < c->n_plain; i++)
        dup2(c->plain[i], 3 + i);
    for (int fd = 3 + c->n_plain; fd < FD_PARK; fd++)
        close(fd);
    close_high();
    for (int i = 0; i < c->n_data; i++)
        fcntl(c->data[i], F_SETFD, 0);
    if (uid >= 0 &&
        (setgroups(0, NULL) != 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) != 0 ||
         setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) != 0))
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || chdir(s->workdir ? s->workdir : "/") != 0)
        _exit(126);
    execve(path, argv, no_env);
    _exit(126);
}

static int remember(pid_t pid, struct err *err)
{
    for (int i = 0; i < PIDS_MAX; i++) {
        if (running[i] == 0) {
            running[i] = pid;
            return 0;
        }
    }
    return err_set(err, ERR_INTERNAL, "more than %d confined programs", PIDS_MAX);
}

static int fork_child(const struct confine_spec *s, const struct child_fds *c, const char *path,
                      const struct args *a, pid_t *out, struct err *err)
{
    pid_t parent = getpid(), pid;

    pid = fork();
    if (pid < 0)
        return err_set(err, ERR_IO, "cannot start a process: %s", strerror(errno));
    if (pid == 0)
        child_run(s, c, path, (char *const *)(uintptr_t)a->v, parent);
    if (remember(pid, err) != 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    *out = pid;
    return 0;
}

static const char *find_bwrap(void)
{
    static const char *const paths[] = { "/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap" };
    static char beside[4096];
    ssize_t n = readlink("/proc/self/exe", beside, sizeof(beside) - 16);
    char *slash;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    if (n <= 0)
        return NULL;
    beside[n] = '\0';
    slash = strrchr(beside, '/');
    snprintf(slash + 1, 16, "bwrap"); /* carried along to a bare machine */
    return access(beside, X_OK) == 0 ? beside : NULL;
}

static int add_files(const struct confine_spec *s, struct child_fds *c, struct args *a,
                     struct err *err)
{
    int fd = park_file(c, open_self(err), err);

    if (fd < 0)
        return -1;
    add_file(a, fd, "/ks/ksearch-eval", "0555");
    for (int i = 0; i < s->n_files; i++) {
        fd = park_file(c, confine_memfd("file", s->files[i].data, s->files[i].len, err), err);
        if (fd < 0)
            return -1;
        add_file(a, fd, s->files[i].dest, "0444");
    }
    return 0;
}

static int spawn_bwrap(const struct confine_spec *s, struct child_fds *c, pid_t *pid,
                       struct err *err)
{
    CLEANUP(args_release) struct args a = { .n = 0 };
    const char *bwrap = find_bwrap();

    if (bwrap == NULL)
        return err_set(err, ERR_REFUSED,
                       "there is no bwrap on this machine, so code that is not trusted is not run; "
                       "install bubblewrap, or say \"sandbox\": \"none\" to run it unconfined");
    add_system(&a);
    ARGS_ADD(&a, "--size");
    args_add_number(&a, s->tmp_bytes);
    ARGS_ADD(&a, "--tmpfs", "/tmp", "--dir", "/ks");
    if (add_files(s, c, &a, err) != 0)
        return -1;
    ARGS_ADD(&a, "--remount-ro", "/", "--chdir", "/tmp", "/ks/ksearch-eval");
    args_add(&a, s->verb);
    for (int i = 0; s->args && s->args[i]; i++)
        args_add(&a, s->args[i]);
    if (a.n >= ARGS_MAX - 1)
        return err_set(err, ERR_LIMIT, "too many arguments for a confined program");
    a.v[a.n] = NULL;
    return fork_child(s, c, bwrap, &a, pid, err);
}

static int spawn_bare(const struct confine_spec *s, struct child_fds *c, pid_t *pid,
                      struct err *err)
{
    CLEANUP(args_release) struct args a = { .n = 0 };

    args_add(&a, "ksearch-eval");
    args_add(&a, s->verb);
    for (int i = 0; s->args && s->args[i]; i++)
        args_add(&a, s->args[i]);
    if (a.n >= ARGS_MAX - 1)
        return err_set(err, ERR_LIMIT, "too many arguments for a program");
    a.v[a.n] = NULL;
    return fork_child(s, c, "/proc/self/exe", &a, pid, err);
}

int confine_spawn(const struct confine_spec *spec, pid_t *pid, struct err *err)
{
    CLEANUP(child_fds_release) struct child_fds c = { .err = -1, .null = -1 };

    if (open_child_fds(spec, &c, err) != 0)
        return -1;
    if (spec->sandbox == SANDBOX_BWRAP)
        return spawn_bwrap(spec, &c, pid, err);
    return spawn_bare(spec, &c, pid, err);
}

/* ---- the end ---- */

static void forget(pid_t pid)
{
    for (int i = 0; i < PIDS_MAX; i++)
        if (running[i] == pid)
            running[i] = 0;
}

int confine_wait(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    forget(pid);
    return status;
}

int confine_kill(pid_t pid)
{
    kill(-pid, SIGKILL); /* without bwrap: the group; with it, the namespace dies with its parent */
    kill(pid, SIGKILL);
    return confine_wait(pid);
}

void confine_kill_all(void)
{
    for (int i = 0; i < PIDS_MAX; i++) {
        pid_t pid = running[i];

        if (pid > 0) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL);
        }
    }
}

/* ---- inside ---- */

static int limit_self(int what, uint64_t v, const char *name, struct err *err)
{
    struct rlimit l = { v, v };

    if (setrlimit(what, &l) != 0)
        return err_set(err, ERR_IO, "cannot set the limit %s to %llu: %s", name,
                       (unsigned long long)v, strerror(errno));
    return 0;
}

int confine_limit_self(const struct confine_limits *l, struct err *err)
{
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their shadow is terabytes   \
                                                                     */
    if (l->as_bytes != 0 && limit_self(RLIMIT_AS, l->as_bytes, "AS", err) != 0)
        return -1;
#endif
    if (l->processes != 0 && limit_self(RLIMIT_NPROC, l->processes, "NPROC", err) != 0)
        return -1;
    if (limit_self(RLIMIT_CORE, 0, "CORE", err) != 0 ||
        limit_self(RLIMIT_FSIZE, l->file_bytes, "FSIZE", err) != 0 ||
        limit_self(RLIMIT_CPU, l->cpu_s, "CPU", err) != 0)
        return -1;
    return limit_self(RLIMIT_NOFILE, l->files, "NOFILE", err);
}
