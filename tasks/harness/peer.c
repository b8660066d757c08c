/* SPDX-License-Identifier: Apache-2.0 */
/* One runner, seen from the judge; see peer.h. */
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "channel.h"
#include "stats.h"
#include "topology.h"

#define START_NS (10 * NS_PER_SEC)
#define CLAIM_RATIO 0.8
#define CLAIM_SLACK_NS 20000 /* between the judge's clock and the runner's */
#define CLAIM_CALLS_MIN 5
#define WAIT_FIRST_NS 3000
#define WAIT_ALL_NS 40000 /* per thread of the pool */
#define WAIT_SHARE 0.03
#define REST_WAIT_NS 100000000 /* for a thread that waits for a processor, to be stopped on */
/*
 * A thread shows as stopped a moment before it leaves its processor, and where that processor is a
 * virtual one the moment can be milliseconds long and counts as its own. So little says nothing
 * unless it happens in a large part of the calls, and not to the baseline.
 */
#define REST_SLACK_NS 50000   /* of processor time, to come to a stop */
#define REST_NS_MAX 50000000  /* so much while stopped is no accident */
#define LATE_SLACK_NS 100000  /* of processor time, to return from sending a reply */
#define LATE_NS_MAX 50000000  /* so much after a reply is no accident */
#define READY_RATIO 4         /* of the trusted program's time to get ready, */
#define READY_SLACK_NS 150000 /* and on top of it */

_Static_assert(JOB_THREADS_MAX <= WIRE_THREADS_MAX, "a processor per thread");

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

static uint64_t stamp_ns(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * NS_PER_SEC + (uint64_t)t->tv_nsec;
}

static uint64_t wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return stamp_ns(&t);
}

/* ---- when it goes wrong ---- */

static void peer_stop(struct peer *p)
{
    if (p->runner > 0 && !p->stopped)
        kill(p->runner, SIGSTOP);
    p->stopped = true;
}

static void peer_go_on(struct peer *p)
{
    if (p->runner > 0 && p->stopped)
        kill(p->runner, SIGCONT);
    p->stopped = false;
    p->idle_cpu_ns = 0;
}

/* Waits until the stop has reached every thread, and notes how long they have run by then. */
static void note_rest(struct peer *p)
{
    uint64_t until = now_ns() + REST_WAIT_NS;

    while (!procstat_is_stopped(p->runner) && now_ns() < until)
        usleep(50);
    p->idle_cpu_ns = procstat_cpu_ns(p->runner);
}

/* The last process of a killed sandbox has gone when nobody holds the channel's other end. */
static void wait_for_silence(struct peer *p)
{
    uint64_t until = now_ns() + NS_PER_SEC;
    struct envelope e;

    while (channel_receive(p->fd, until, false, &e) > 0)
        ;
}

static int peer_kill(struct peer *p)
{
    int status = 0;

    if (p->fd >= 0) {
        if (p->runner > 0)
            kill(p->runner,
                 SIGKILL); /* still ours to name: its parent is alive and has not waited */
        status = confine_kill(p->pid);
        wait_for_silence(p);
        close(p->fd);
    }
    p->fd = -1;
    return status;
}

/* Waits a moment for the process to be over; it may have closed its channel and live on. */
static bool has_ended(const struct peer *p)
{
    siginfo_t info = { 0 };

    for (int turn = 0; turn < 200; turn++) {
        if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == p->pid)
            return true;
        usleep(5000);
    }
    return false;
}

/* The runner is gone without a word: what did it die of? bwrap passes a signal on as 128 + signal.
 */
static int died(struct peer *p, struct fail *f)
{
    int status, sig = 0;

    if (!has_ended(p)) {
        peer_kill(p);
        return fail_set(f, FAIL_CRASHED, "the program closed the channel to the judge");
    }
    status = confine_wait(p->pid);
    close(p->fd);
    p->fd = -1;
    if (WIFSIGNALED(status))
        sig = WTERMSIG(status);
    else if (WIFEXITED(status) && WEXITSTATUS(status) > 128)
        sig = WEXITSTATUS(status) - 128;
    if (sig == SIGSYS)
        return fail_set(f, FAIL_SANDBOX_VIOLATION, "the program made a forbidden system call");
    if (sig == SIGXCPU || sig == SIGKILL)
        return fail_set(f, sig == SIGXCPU ? FAIL_TIMEOUT : FAIL_CRASHED,
                        sig == SIGXCPU ? "the program used up its processor time"
                                       : "the program was killed (SIGKILL: out of memory?)");
    if (sig != 0)
        return fail_set(f, FAIL_CRASHED, "the program died of SIG%s", sigabbrev_np(sig) ?: "?");
    return fail_set(f, FAIL_CRASHED, "the program ended the process with exit status %d",
                    WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static int timed_out(struct peer *p, const char *doing, struct fail *f)
{
    peer_kill(p);
    return fail_set(f, FAIL_TIMEOUT,
                    "the program did not end %s within the %llu s that all its calls may take",
                    doing, (unsigned long long)p->job->run_s);
}

static int crashed(struct peer *p, const struct wire_reply *r, struct fail *f)
{
    const char *name = sigabbrev_np(r->value);

    peer_kill(p);
    if (r->value == SIGSYS) {
        const char *call = confine_call_name(r->fault);

        return call ? fail_set(f, FAIL_SANDBOX_VIOLATION,
                               "the program made the forbidden system call %s", call)
                    : fail_set(f, FAIL_SANDBOX_VIOLATION,
                               "the program made the forbidden system call number %lld",
                               (long long)r->fault);
    }
    if (r->starved)
        return fail_set(f, FAIL_MEMORY_LIMIT,
                        "the program died of SIG%s with its address space of %llu bytes used up",
                        name ? name : "?", (unsigned long long)p->job->memory_bytes);
    if (r->fault >= 0)
        return fail_set(f, FAIL_CRASHED, "the program died of SIG%s within the shared buffers",
                        name ? name : "?");
    return fail_set(f, FAIL_CRASHED, "the program died of SIG%s", name ? name : "?");
}

static int forged(struct peer *p, const char *what, struct fail *f)
{
    peer_kill(p);
    return fail_set(f, FAIL_RESULT_FORGED, "the program wrote to the judge's channel itself: %s",
                    what);
}

/* A stopped program does not run; a timer or a file can be made to wake it. */
static int check_rest(struct peer *p, struct fail *f)
{
    uint64_t now = p->idle_cpu_ns != 0 ? procstat_cpu_ns(p->runner) : 0, ran;

    if (now <= p->idle_cpu_ns)
        return 0;
    ran = now - p->idle_cpu_ns;
    p->restless += ran > REST_SLACK_NS;
    if (ran <= REST_NS_MAX)
        return 0;
    peer_kill(p);
    return fail_set(f, FAIL_SANDBOX_VIOLATION,
                    "the program's process ran for %llu us after it had been stopped",
                    (unsigned long long)(ran / 1000));
}

/* What is left of the time that the job gives to all calls of a program. */
static uint64_t allowed_ns(const struct peer *p)
{
    uint64_t all = p->job->run_s * NS_PER_SEC;

    return p->spent_ns < all ? all - p->spent_ns : 0;
}

/* Receives what has to be a wire_reply of `kind` with `nonce`, from the runner itself. */
static int expect(struct peer *p, enum wire_kind kind, uint64_t nonce, bool spin, const char *doing,
                  struct envelope *e, struct fail *f)
{
    int rc = channel_receive(p->fd, now_ns() + allowed_ns(p), spin, e);

    if (rc == 0)
        return timed_out(p, doing, f);
    if (rc < 0)
        return died(p, f);
    if (e->sender != p->runner)
        return forged(p, "a message came from another process", f);
    if (e->descriptors)
        return forged(p, "a message with descriptors attached", f);
    if (e->len == sizeof(e->m.reply) && e->m.kind == WIRE_CRASH)
        return crashed(p, &e->m.reply, f);
    if (e->len != sizeof(e->m.reply) || e->m.kind != (uint32_t)kind)
        return forged(p, "a message that was not asked for", f);
    if (e->m.reply.nonce != nonce)
        return forged(p, "a reply without the call's number", f);
    return 0;
}

/* Threads that have ended take a moment to be gone: looks again before it accuses. */
static int check_idle(struct peer *p, struct fail *f)
{
    int threads = 0;

    for (int turn = 0; turn < 20; turn++) {
        threads = procstat_threads(p->runner);
        if (threads <= p->threads && !procstat_has_children(p->runner)) {
            note_rest(p);
            return 0;
        }
        usleep(1000); /* stopped: what is on its way out goes on, what works does not */
    }
    peer_kill(p);
    if (threads > p->threads)
        return fail_set(f, FAIL_PROCESS_LIMIT,
                        "%d threads of its own were still there after ks_kernel had returned",
                        threads - p->threads);
    return fail_set(f, FAIL_PROCESS_LIMIT,
                    "processes were still there after ks_kernel had returned");
}

/* ---- start ---- */

static int spawn_runner(struct peer *p, const struct buf *object, int channel, struct err *err)
{
    struct confine_file file = { "/ks/program.so", object->data, object->len };
    int bare = p->job->sandbox == SANDBOX_NONE, fds[3], memfd = -1, rc;
    struct confine_spec spec = { .sandbox = p->job->sandbox,
                                 .slot = p->job->slot,
                                 .role = p->role,
                                 .files = &file,
                                 .n_files = 1,
                                 .verb = "runner",
                                 .fds = fds,
                                 .n_fds = bare ? 3 : 2,
                                 .stderr_fd = -1,
                                 .tmp_bytes = 1 << 20 };

    fds[0] = channel;
    fds[1] = p->arena->fd;
    if (bare) {
        memfd = confine_memfd("program", object->data, object->len, err);
        if (memfd < 0)
            return -1;
        fds[2] = memfd;
    }
    rc = confine_spawn(&spec, &p->pid, err);
    closep(&memfd);
    return rc;
}

static int greet(struct peer *p, struct fail *f)
{
    struct wire_init init = { .kind = WIRE_INIT,
                              .threads = (uint32_t)p->job->threads,
                              .run_s = (uint32_t)p->job->run_s,
                              .arena_bytes = p->arena->size,
                              .memory_bytes = p->job->memory_bytes };
    struct topology cpus;
    struct envelope e;
    int rc;

    topology_read(&cpus);
    for (int i = 0; i < p->job->threads; i++)
        init.cpus[i] = (uint16_t)cpus.cpus[i % cpus.n_cpus];
    init.limited = p->job->sandbox == SANDBOX_BWRAP || confine_uid(p->job->slot, p->role) >= 0;
    str_copy(init.program, sizeof(init.program),
             p->job->sandbox == SANDBOX_BWRAP ? "/ks/program.so" : "/proc/self/fd/5");
    rc = channel_send(p->fd, &init, sizeof(init)) == 0
             ? channel_receive(p->fd, now_ns() + MIN(START_NS, p->job->run_s * NS_PER_SEC), false,
                               &e)
             : -1;
    if (rc == 0) {
        peer_kill(p);
        return fail_set(f, FAIL_LOAD_FAILED, "the program did not end loading in time");
    }
    if (rc < 0 || (e.len == sizeof(e.m.reply) && e.m.kind == WIRE_CRASH)) {
        if (rc < 0)
            died(p, f);
        else
            crashed(p, &e.m.reply, f);
        if (f->class != FAIL_SANDBOX_VIOLATION)
            f->class = FAIL_LOAD_FAILED;
        return -1;
    }
    if (e.len != sizeof(e.m.hello) || e.m.kind != WIRE_HELLO)
        return forged(p, "it spoke before it was called", f);
    e.m.hello.why[sizeof(e.m.hello.why) - 1] = '\0';
    if (!e.m.hello.loaded) {
        char why[256];

        str_visible(e.m.hello.why, strlen(e.m.hello.why), why, sizeof(why));
        peer_kill(p);
        return fail_set(f, FAIL_LOAD_FAILED, "the program could not be loaded: %s", why);
    }
    p->runner = e.sender;
    waits_open(&p->waits, p->runner);
    peer_stop(p); /* a thread that loading left behind would run beside the others' calls */
    return check_idle(p, f);
}

/*
 * Before the runner has loaded anything it says "here" with an ARMED: so a sandbox that does not
 * work is told from a program that dies while loading.
 */
static int wait_for_sandbox(struct peer *p, struct fail *f)
{
    struct envelope e;
    int rc = channel_receive(p->fd, now_ns() + START_NS, false, &e);

    if (rc > 0 && e.len == sizeof(e.m.reply) && e.m.kind == WIRE_ARMED)
        return 0;
    peer_kill(p);
    fail_set(f, FAIL_INFRASTRUCTURE, "the sandbox could not be started");
    f->code = ERR_REFUSED;
    return -1;
}

int peer_start(const struct job *job, enum confine_role role, const struct buf *object,
               struct arena *arena, struct peer *out, struct fail *f)
{
    static const char *const names[] = { "candidate", "baseline", "champion", "builder" };
    struct peer p = { .who = names[role], .role = role, .job = job, .fd = -1, .arena = arena };
    struct err err;
    uint64_t seed;
    int fds[2];

    if (rng_os(&seed, sizeof(seed)) != 0)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the kernel gives no random numbers");
    p.rng = rng_seeded(seed);
    if (channel_open(fds, &err) != 0)
        return fail_err(f, &err);
    if (spawn_runner(&p, object, fds[1], &err) != 0) {
        close(fds[0]);
        close(fds[1]);
        return fail_err(f, &err);
    }
    close(fds[1]);
    p.fd = fds[0];
    p.threads = job->threads;
    if (wait_for_sandbox(&p, f) != 0 || greet(&p, f) != 0)
        return -1;
    *out = p;
    return 0;
}

void peer_release(struct peer *p)
{
    peer_kill(p);
    waits_close(&p->waits);
}

int peer_shape(struct peer *p, const struct ks_tensor *tensors, int n_inputs, int n_outputs,
               const struct ks_axis *axes, int n_axes, size_t scratch_bytes, struct fail *f)
{
    struct wire_shape m = { .kind = WIRE_SHAPE,
                            .n_inputs = n_inputs,
                            .n_outputs = n_outputs,
                            .n_axes = n_axes,
                            .scratch_bytes = scratch_bytes };

    for (int i = 0; i < n_inputs + n_outputs; i++) {
        str_copy(m.tensors[i].name, WIRE_NAME_MAX, tensors[i].name);
        m.tensors[i].dtype = (int32_t)tensors[i].dtype;
        m.tensors[i].rank = tensors[i].rank;
        memcpy(m.tensors[i].shape, tensors[i].shape, sizeof(m.tensors[i].shape));
    }
    for (int i = 0; i < n_axes; i++) {
        str_copy(m.axes[i].name, WIRE_NAME_MAX, axes[i].name);
        m.axes[i].value = axes[i].value;
    }
    if (check_rest(p, f) != 0)
        return -1;
    peer_go_on(p);
    return channel_send(p->fd, &m, sizeof(m)) == 0 ? 0 : died(p, f);
}

/* ---- a call ---- */

/* The reply's time after `start`, by the kernel's stamp where that is plausible. */
static uint64_t elapsed(uint64_t start_wall, uint64_t start, const struct envelope *e)
{
    uint64_t outer = now_ns() - start;

    if (e->stamp_ns > start_wall && e->stamp_ns - start_wall <= outer)
        return e->stamp_ns - start_wall;
    return outer; /* no stamp, or the wall clock was set meanwhile */
}

/* Waiting for a processor is not its doing; sleeping is, since others may work meanwhile. */
static void note_ready(struct peer *p, uint64_t ns, uint64_t waited_ns)
{
    if (p->waits.n > 0)
        p->ready_ns[p->n_ready++ % PEER_READY_MAX] = ns > waited_ns ? ns - waited_ns : 0;
}

/*
 * Wakes the runner until it says that it is ready, and notes how long that took. The message goes
 * first, so that nothing of that time is the judge's.
 */
static int arm(struct peer *p, int n, uint64_t *arm_word, struct fail *f)
{
    struct wire_call m = { .kind = WIRE_CALL, .n_calls = (uint32_t)n, .arm = rng_u64(&p->rng) | 1 };
    struct envelope e;
    uint64_t start_wall, waited, ran;
    int rc;

    if (check_rest(p, f) != 0)
        return -1;
    rc = channel_receive(p->fd, 0, false, &e);
    if (rc > 0)
        return forged(p, "a message between calls", f);
    if (rc < 0 || channel_send(p->fd, &m, sizeof(m)) != 0)
        return died(p, f);
    *arm_word = m.arm;
    waited = waits_read_first(&p->waits, &p->woken_ran_ns);
    p->woken_ran_ns = p->stopped ? p->woken_ran_ns : UINT64_MAX; /* it is exact at rest only */
    p->woken_ns = now_ns();
    start_wall = wall_ns();
    peer_go_on(p);
    rc = expect(p, WIRE_ARMED, m.arm, false, "getting ready", &e, f);
    p->spent_ns += now_ns() - p->woken_ns;
    if (rc == 0)
        note_ready(p, elapsed(start_wall, p->woken_ns, &e),
                   waits_read_first(&p->waits, &ran) - waited);
    return rc;
}

/* The judge's own waking costs the pool's threads some tens of microseconds, the first thread none.
 */
static bool was_disturbed(const struct waited *before, const struct waited *after, int n_threads,
                          uint64_t ns)
{
    uint64_t share = (uint64_t)(WAIT_SHARE * (double)ns);

    return after->first - before->first > WAIT_FIRST_NS + share ||
           after->all - before->all > WAIT_ALL_NS * (uint64_t)n_threads + share;
}

static int judge_reply(struct peer *p, const struct wire_reply *r, struct fail *f)
{
    if (r->value == 0)
        return 0;
    if (r->starved)
        return fail_set(f, FAIL_MEMORY_LIMIT,
                        "ks_kernel returned %d with its address space of %llu bytes used up",
                        r->value, (unsigned long long)p->job->memory_bytes);
    return fail_set(f, FAIL_REFUSED_CALL, "ks_kernel returned %d instead of 0", r->value);
}

/*
 * A thread cannot run for longer than the time that passes: what its main thread has run, from its
 * waking until it has come to rest, beyond the time of its reply, it has run behind the reply. A
 * crowded machine cannot make this more, only less.
 */
static int check_late(struct peer *p, uint64_t replied_ns, struct fail *f)
{
    uint64_t ran, wall = replied_ns - p->woken_ns, late;

    waits_read_first(&p->waits, &ran);
    if (ran <= p->woken_ran_ns || ran - p->woken_ran_ns <= wall + LATE_SLACK_NS)
        return 0;
    late = ran - p->woken_ran_ns - wall;
    p->late++;
    if (late < LATE_NS_MAX)
        return 0;
    peer_kill(p);
    return fail_set(f, FAIL_CLOCK_TAMPERED,
                    "the program's process worked on for %llu us after it had answered",
                    (unsigned long long)(late / 1000));
}

int peer_call(struct peer *p, const struct cell *const *cells, int n, int n_buffers, bool watched,
              const struct last_touch *touch, struct call_time *out, struct fail *f)
{
    struct wire_control *control = (struct wire_control *)(void *)p->arena->base;
    uint64_t nonce = rng_u64(&p->rng), arm_word = 0, start, start_wall;
    struct waited before, after;
    struct envelope e;

    if (arm(p, n, &arm_word, f) != 0)
        return -1;
    if (touch != NULL)
        touch->fn(touch->ctx);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n_buffers; i++)
            control->offsets[k][i] = cells[k]->offset[i];
    control->nonce = nonce;
    if (p->counting)
        counters_start(p->counting);
    before = waits_read(&p->waits);
    start = now_ns();
    start_wall = wall_ns();
    __atomic_store_n(&control->go, arm_word, __ATOMIC_RELEASE);
    if (expect(p, WIRE_DONE, nonce, watched, "the call", &e, f) != 0)
        return -1;
    out->ns = elapsed(start_wall, start, &e);
    peer_stop(p);
    if (p->counting)
        counters_stop(p->counting);
    out->inner_ns = e.m.reply.inner_ns;
    after = waits_read(&p->waits);
    out->disturbed = was_disturbed(&before, &after, p->threads, out->ns);
    p->calls++;
    p->plausible += (double)out->inner_ns + CLAIM_SLACK_NS >= CLAIM_RATIO * (double)out->ns;
    p->spent_ns += out->ns;
    if (out->ns == 0)
        out->ns = 1;
    if (judge_reply(p, &e.m.reply, f) != 0 || check_idle(p, f) != 0)
        return -1;
    return check_late(p, start + out->ns, f);
}

static uint64_t median_ready(struct peer *p)
{
    double v[PEER_READY_MAX];
    int n = MIN(p->n_ready, PEER_READY_MAX);

    for (int i = 0; i < n; i++)
        v[i] = (double)p->ready_ns[i];
    p->n_ready = 0;
    return n > 0 ? (uint64_t)stats_median(v, (size_t)n) : 0;
}

static int check_ready(struct peer *p, struct peer *trusted, struct fail *f)
{
    int n = MIN(p->n_ready, trusted->n_ready);
    uint64_t own = median_ready(p), other = median_ready(trusted);

    if (n < CLAIM_CALLS_MIN || own <= READY_RATIO * other + READY_SLACK_NS)
        return 0;
    return fail_set(f, FAIL_CLOCK_TAMPERED,
                    "the program's process works before the clock starts: it took %llu us to get "
                    "ready for a call, the baseline's %llu us",
                    (unsigned long long)own / 1000, (unsigned long long)other / 1000);
}

int peer_check_claims(struct peer *p, struct peer *trusted, struct fail *f)
{
    int calls = p->calls, plausible = p->plausible, late = p->late, restless = p->restless;
    int others = trusted->calls, others_late = trusted->late, others_restless = trusted->restless;
    bool crowded = trusted->plausible * 10 < trusted->calls * 3;

    p->calls = p->plausible = trusted->calls = trusted->plausible = 0;
    p->late = trusted->late = p->restless = trusted->restless = 0;
    if (check_rest(p, f) != 0 || check_ready(p, trusted, f) != 0)
        return -1;
    if (calls >= CLAIM_CALLS_MIN && restless * 4 >= calls && others_restless * 8 < others)
        return fail_set(f, FAIL_SANDBOX_VIOLATION,
                        "the program's process ran after it had been stopped, in %d of %d calls",
                        restless, calls);
    if (calls >= CLAIM_CALLS_MIN && late * 2 >= calls && others_late * 4 < others)
        return fail_set(f, FAIL_CLOCK_TAMPERED,
                        "the program's process worked on after it had answered, in %d of %d calls",
                        late, calls);
    if (calls < CLAIM_CALLS_MIN || plausible * 10 >= calls || crowded)
        return 0;
    return fail_set(
        f, FAIL_CLOCK_TAMPERED,
        "the program's process claims less than %.1f of the time that its calls took, in %d "
        "of %d calls",
        CLAIM_RATIO, calls - plausible, calls);
}
