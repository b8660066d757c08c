/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system call filter of the runner; see confine_filter_self. A list of what is refused, not of
 * what is allowed: a libm or a thread library may call more than we know, while a list of dangerous
 * doors can be read and checked.
 *
 * Three answers. What no kernel does by accident (making processes, sockets, tracing, ...) traps:
 * the program dies of SIGSYS and the verdict names the call. What a library may try in passing
 * fails with EPERM. clone3 fails with ENOSYS, so that libc falls back to clone, whose flags can be
 * looked at.
 */
#include "confine.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef FILTER_ARCH

struct call_name {
    int nr;
    const char *name;
};

#define CALL(name) { SYS_##name, #name },

/* No kernel has a use for these; timer_create could wake a process that was stopped. */
static const struct call_name trapped[] = {
    CALL(socket) CALL(socketpair) CALL(connect) CALL(bind) CALL(listen) CALL(accept) CALL(accept4)
        CALL(execve) CALL(execveat) CALL(ptrace) CALL(process_vm_readv) CALL(process_vm_writev)
#ifdef SYS_pidfd_open
            CALL(pidfd_open)
#endif
#ifdef SYS_pidfd_getfd
                CALL(pidfd_getfd)
#endif
#ifdef SYS_pidfd_send_signal
                    CALL(pidfd_send_signal)
#endif
                        CALL(kcmp)
#ifdef SYS_process_madvise
                            CALL(process_madvise)
#endif
#ifdef SYS_process_mrelease
                                CALL(process_mrelease)
#endif
                                    CALL(setns) CALL(unshare) CALL(mount) CALL(umount2) CALL(
                                        pivot_root) CALL(chroot)
#ifdef SYS_mount_setattr
                                        CALL(mount_setattr)
#endif
#ifdef SYS_open_tree
                                            CALL(open_tree)
#endif
#ifdef SYS_move_mount
                                                CALL(move_mount)
#endif
#ifdef SYS_fsopen
                                                    CALL(fsopen)
#endif
#ifdef SYS_fsconfig
                                                        CALL(fsconfig)
#endif
#ifdef SYS_fsmount
                                                            CALL(fsmount)
#endif
#ifdef SYS_fspick
                                                                CALL(fspick)
#endif
                                                                    CALL(open_by_handle_at) CALL(
                                                                        name_to_handle_at) CALL(io_uring_setup)
                                                                        CALL(io_uring_enter) CALL(
                                                                            io_uring_register) CALL(bpf) CALL(perf_event_open)
                                                                            CALL(userfaultfd) CALL(keyctl) CALL(
                                                                                add_key) CALL(request_key) CALL(kexec_load)
#ifdef SYS_kexec_file_load
                                                                                CALL(
                                                                                    kexec_file_load)
#endif
                                                                                    CALL(init_module) CALL(
                                                                                        finit_module) CALL(delete_module)
                                                                                        CALL(reboot) CALL(swapon) CALL(
                                                                                            swapoff) CALL(acct)
                                                                                            CALL(settimeofday) CALL(
                                                                                                clock_settime) CALL(clock_adjtime)
                                                                                                CALL(adjtimex) CALL(
                                                                                                    sethostname) CALL(setdomainname)
                                                                                                    CALL(syslog) CALL(
                                                                                                        timer_create)
#ifdef SYS_fork
                                                                                                        CALL(
                                                                                                            fork)
                                                                                                            CALL(
                                                                                                                vfork)
#endif
};

/* Refused without a word. */
static const struct call_name refused[] = {
    CALL(shmget) CALL(msgget) CALL(semget) CALL(mq_open) CALL(inotify_init1) CALL(fanotify_init)
        CALL(memfd_create)
#ifdef SYS_memfd_secret
            CALL(memfd_secret)
#endif
                CALL(personality) CALL(quotactl) CALL(sched_setscheduler) CALL(sched_setattr)
                    CALL(setpriority) CALL(ioprio_set) CALL(migrate_pages) CALL(move_pages)
};

/* fcntl commands by which a process asks for signals, SIGCONT perhaps, when a file changes. */
static const unsigned signal_commands[] = { F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY };
/* The same by ioctl. */
static const unsigned signal_requests[] = { FIOSETOWN, SIOCSPGRP };

/* The low half of an argument, on both our architectures, comes first. */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQ(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define CODE_MAX (2 * (ARRAY_LEN(trapped) + ARRAY_LEN(refused)) + 64)

struct code {
    struct sock_filter ops[CODE_MAX];
    unsigned short n;
};

static void emit(struct code *c, struct sock_filter op)
{
    c->ops[c->n++] = op;
}

#define EMIT(c, op) emit((c), (struct sock_filter)op)

static void add_calls(struct code *c, const struct call_name *calls, size_t n, unsigned answer)
{
    for (size_t i = 0; i < n; i++) {
        EMIT(c, IF_EQ((unsigned)calls[i].nr, 0, 1));
        EMIT(c, RETURN(answer));
    }
}

/* Call `nr` traps when its second argument is one of these. */
static void add_values(struct code *c, unsigned nr, const unsigned *values, unsigned char n)
{
    EMIT(c, IF_EQ(nr, 0, (unsigned char)(2 * n + 2)));
    EMIT(c, LOAD(args[1]));
    for (unsigned char i = 0; i < n; i++) {
        EMIT(c, IF_EQ(values[i], 0, 1));
        EMIT(c, RETURN(SECCOMP_RET_TRAP));
    }
    EMIT(c, RETURN(SECCOMP_RET_ALLOW));
}

/* Who could catch SIGSYS would not have to die of it. */
static void add_signal_handler(struct code *c)
{
    EMIT(c, IF_EQ(SYS_rt_sigaction, 0, 4));
    EMIT(c, LOAD(args[0]));
    EMIT(c, IF_EQ(SIGSYS, 0, 1));
    EMIT(c, RETURN(SECCOMP_RET_KILL_PROCESS));
    EMIT(c, RETURN(SECCOMP_RET_ALLOW));
}

static void add_clone(struct code *c)
{
    EMIT(c, IF_EQ(SYS_clone3, 0, 1));
    EMIT(c, RETURN(SECCOMP_RET_ERRNO | ENOSYS));
    EMIT(c, IF_EQ(SYS_clone, 0, 3));
    EMIT(c, LOAD(args[0]));
    EMIT(c, BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0));
    EMIT(c, RETURN(SECCOMP_RET_TRAP));
    EMIT(c, RETURN(SECCOMP_RET_ALLOW));
}

bool confine_filter_self(void)
{
    struct code c = { .n = 0 };
    struct sock_fprog prog;

    EMIT(&c, LOAD(arch));
    EMIT(&c, IF_EQ(FILTER_ARCH, 1, 0));
    EMIT(&c, RETURN(SECCOMP_RET_KILL_PROCESS));
    EMIT(&c, LOAD(nr));
#ifdef __x86_64__
    /* the x32 numbers reach the same calls by other names */
    EMIT(&c, BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1));
    EMIT(&c, RETURN(SECCOMP_RET_TRAP));
#endif
    add_calls(&c, trapped, ARRAY_LEN(trapped), SECCOMP_RET_TRAP);
    add_calls(&c, refused, ARRAY_LEN(refused), SECCOMP_RET_ERRNO | EPERM);
    add_values(&c, SYS_fcntl, signal_commands, ARRAY_LEN(signal_commands));
    add_values(&c, SYS_ioctl, signal_requests, ARRAY_LEN(signal_requests));
    add_signal_handler(&c);
    add_clone(&c);
    prog = (struct sock_fprog){ c.n, c.ops };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return false;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog) ==
           0;
}

const char *confine_call_name(int64_t nr)
{
    for (size_t i = 0; i < ARRAY_LEN(trapped); i++)
        if (trapped[i].nr == nr)
            return trapped[i].name;
    if (nr == SYS_clone)
        return "clone (of a process)";
    if (nr == SYS_fcntl)
        return "fcntl (asking for signals)";
    return nr == SYS_ioctl ? "ioctl (asking for signals)" : NULL;
}

#else

bool confine_filter_self(void)
{
    return false;
}

const char *confine_call_name(int64_t nr)
{
    (void)nr;
    return NULL;
}

#endif
