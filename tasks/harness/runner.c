/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner: limits itself, loads a program that is not trusted, and makes its calls. From dlopen
 * on, everything in this process may lie; nothing here is relied on but by the program itself.
 * Thread: one, and the pool's workers.
 */
#include "runner.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "confine.h"
#include "pool.h"
#include "wire.h"

#define RUNNER_OWN_BYTES (256ull << 20) /* address space of libc, stacks and the pool's threads */
#define RUNNER_PROCESSES 64             /* threads beyond the pool's */
#define PROBE_BYTES (32u << 20)         /* less than this left: starved */

typedef int kernel_fn(const struct ks_call *call);

static struct {
    uint8_t *arena;
    size_t arena_bytes;
    struct pool *pool;
    int threads;
    int cpu;            /* where this thread begins each call */
    cpu_set_t all_cpus; /* where it and threads of the program's own may go */
    kernel_fn *kernel;
    struct wire_shape shape;
    struct wire_control now; /* our copy of the control page */
    uint32_t call;           /* of the batch */
} run;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void post(const void *m, size_t len)
{
    if (send(WIRE_FD_SOCKET, m, len, MSG_NOSIGNAL) != (ssize_t)len)
        _exit(0); /* the judge is gone */
}

/* True when not even a small mapping is left. */
static bool is_starved(void)
{
    void *p = mmap(NULL, PROBE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return true;
    munmap(p, PROBE_BYTES);
    return false;
}

/* Tells the judge what the program dies of, then lets it die of it. */
static void on_crash(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr, base = (uintptr_t)run.arena;
    bool inside = at >= base && at < base + run.arena_bytes;
    struct wire_reply m = { .kind = WIRE_CRASH,
                            .value = sig,
                            .call = run.call,
                            .fault = sig == SIGSYS ? info->si_syscall
                                     : inside      ? (int64_t)(at - base)
                                                   : -1,
                            .starved = is_starved() };

    (void)context;
    post(&m, sizeof(m));
    signal(sig, SIG_DFL);
    raise(sig);
}

static void catch_crashes(void)
{
    static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
    static uint8_t stack[16384];
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
    struct sigaction action = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &action, NULL);
}

static int map_arena(const struct wire_init *init, struct err *err)
{
    run.arena = mmap(NULL, init->arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, WIRE_FD_ARENA, 0);
    if (run.arena == MAP_FAILED)
        return err_set(err, ERR_NOMEM, "cannot map the arena: %s", strerror(errno));
    madvise(run.arena, init->arena_bytes, MADV_HUGEPAGE);
    run.arena_bytes = init->arena_bytes;
    close(WIRE_FD_ARENA);
    return 0;
}

static int limit(const struct wire_init *init, struct err *err)
{
    struct confine_limits limits = {
        .as_bytes = init->arena_bytes + init->memory_bytes + RUNNER_OWN_BYTES +
                    (16ull << 20) * init->threads,
        .cpu_s = ((uint64_t)init->run_s + 10) * init->threads,
        .processes = init->limited ? init->threads + RUNNER_PROCESSES : 0,
        .files = 16,
    };

    if (confine_limit_self(&limits, err) != 0)
        return -1;
    confine_filter_self(); /* on a machine without it the namespaces stand alone */
    return 0;
}

static int load(const struct wire_init *init, struct err *err)
{
    void *handle;

    handle = dlopen(init->program, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return err_set(err, ERR_INVALID, "%s", dlerror());
    close(WIRE_FD_PROGRAM);
    run.kernel = (kernel_fn *)(uintptr_t)dlsym(handle, "ks_kernel");
    if (run.kernel == NULL)
        return err_set(err, ERR_INVALID, "it does not define ks_kernel");
    return 0;
}

static int start(struct err *err)
{
    struct wire_reply here = { .kind = WIRE_ARMED };
    struct wire_init init;

    post(&here, sizeof(here));
    if (recv(WIRE_FD_SOCKET, &init, sizeof(init), 0) != (ssize_t)sizeof(init) ||
        init.kind != WIRE_INIT)
        return err_set(err, ERR_INTERNAL, "the judge did not say what to load");
    init.program[sizeof(init.program) - 1] = '\0';
    run.threads = (int)MIN(init.threads, (uint32_t)WIRE_THREADS_MAX);
    run.cpu = init.cpus[0];
    CPU_ZERO(&run.all_cpus);
    sched_getaffinity(0, sizeof(run.all_cpus), &run.all_cpus);
    catch_crashes(); /* the filter fixes what SIGSYS does */
    if (map_arena(&init, err) != 0 || limit(&init, err) != 0)
        return -1;
    if (pool_new(run.threads, init.cpus, &run.pool, err) != 0)
        return -1;
    return load(&init, err);
}

/* ---- calls ---- */

static void fill_call(const struct wire_shape *s, const uint64_t *offsets,
                      struct ks_tensor *tensors, struct ks_axis *axes, struct ks_call *call)
{
    int n = s->n_inputs + s->n_outputs;

    for (int i = 0; i < n; i++) {
        tensors[i].name = s->tensors[i].name;
        tensors[i].dtype = (enum ks_dtype)s->tensors[i].dtype;
        tensors[i].rank = s->tensors[i].rank;
        memcpy(tensors[i].shape, s->tensors[i].shape, sizeof(tensors[i].shape));
        tensors[i].data = run.arena + offsets[i];
    }
    for (int i = 0; i < s->n_axes; i++)
        axes[i] = (struct ks_axis){ s->axes[i].name, s->axes[i].value };
    *call = (struct ks_call){
        .abi = KS_ABI_VERSION,
        .n_inputs = s->n_inputs,
        .n_outputs = s->n_outputs,
        .n_axes = s->n_axes,
        .inputs = tensors,
        .outputs = tensors + s->n_inputs,
        .axes = axes,
        .threads = run.threads,
        .parallel = pool_run,
        .pool = run.pool,
        .scratch = s->scratch_bytes ? run.arena + offsets[n] : NULL,
        .scratch_bytes = s->scratch_bytes,
    };
}

static int run_calls(uint32_t n)
{
    struct ks_tensor tensors[KS_TENSORS_MAX];
    struct ks_axis axes[WIRE_AXES_MAX];
    struct ks_call call;
    int rc = 0;

    for (run.call = 0; run.call < n && rc == 0; run.call++) {
        fill_call(&run.shape, run.now.offsets[run.call], tensors, axes, &call);
        rc = run.kernel(&call);
    }
    return rc;
}

static void wait_for_go(const volatile struct wire_control *control, uint64_t arm)
{
    while (__atomic_load_n(&control->go, __ATOMIC_ACQUIRE) != arm) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

/*
 * Goes to its processor, and is free to leave it: two of the program's threads on one processor,
 * while another stands idle, is what the system may settle into when it is busy. A thread that
 * stayed bound would hand that down to threads that the program makes.
 */
static void go_home(void)
{
    cpu_set_t home;

    CPU_ZERO(&home);
    CPU_SET(run.cpu, &home);
    if (sched_setaffinity(0, sizeof(home), &home) == 0)
        sched_setaffinity(0, sizeof(run.all_cpus), &run.all_cpus);
}

static void serve_call(const struct wire_call *m)
{
    const struct wire_control *control = (const struct wire_control *)(void *)run.arena;
    struct wire_reply armed = { .kind = WIRE_ARMED, .nonce = m->arm };
    struct wire_reply done = { .kind = WIRE_DONE };
    uint64_t began;

    go_home();
    pool_arm(run.pool);
    post(&armed, sizeof(armed));
    wait_for_go(control, m->arm);
    pool_disarm(run.pool);
    began = now_ns();
    memcpy(run.now.offsets, control->offsets, sizeof(run.now.offsets[0]) * m->n_calls);
    done.nonce = control->nonce;
    done.value = run_calls(m->n_calls);
    done.inner_ns = now_ns() - began;
    done.starved = done.value != 0 && is_starved();
    post(&done, sizeof(done));
}

int runner_verb(void)
{
    static union {
        uint32_t kind;
        struct wire_shape shape;
        struct wire_call call;
    } m;
    struct wire_hello hello = { .kind = WIRE_HELLO, .loaded = 1 };
    struct err err;

    if (start(&err) != 0) {
        hello.loaded = 0;
        str_copy(hello.why, sizeof(hello.why), err.msg);
    }
    post(&hello, sizeof(hello));
    for (;;) {
        ssize_t n = recv(WIRE_FD_SOCKET, &m, sizeof(m), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(0); /* no destructors of the program's: it has had its say */
        if (n == (ssize_t)sizeof(m.shape) && m.kind == WIRE_SHAPE)
            run.shape = m.shape;
        else if (n == (ssize_t)sizeof(m.call) && m.kind == WIRE_CALL &&
                 m.call.n_calls <= WIRE_BATCH_MAX)
            serve_call(&m.call);
    }
}
