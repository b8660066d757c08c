/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says of a process of another user or namespace: threads, children, waiting for a
 * processor. Where it does not say, the answer is the harmless one. Thread: any.
 */
#ifndef KS_HARNESS_PROCSTAT_H
#define KS_HARNESS_PROCSTAT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCSTAT_THREADS_MAX 256

/* How many threads; -1 when the kernel does not say. */
int procstat_threads(pid_t pid);
/* Nanoseconds that all its threads have run so far; 0 when the kernel does not say. */
uint64_t procstat_cpu_ns(pid_t pid);
/* True when every thread has been stopped by a signal, or when the kernel does not say. */
bool procstat_is_stopped(pid_t pid);
/* True when the main thread has children. */
bool procstat_has_children(pid_t pid);

/* Open files on the threads that a process has now. */
struct waits {
    int fds[PROCSTAT_THREADS_MAX]; /* the main thread's first */
    int n;
};

/* Nanoseconds that threads have been ready to run without running. */
struct waited {
    uint64_t first, all; /* the main thread; all of them */
};

void waits_open(struct waits *w, pid_t pid);
struct waited waits_read(const struct waits *w);
/* Of the main thread alone; *ran_ns: how long it has run, exact while it does not run. */
uint64_t waits_read_first(const struct waits *w, uint64_t *ran_ns);
void waits_close(struct waits *w);

#endif
