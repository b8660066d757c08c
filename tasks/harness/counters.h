/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware and software counters of a runner, opened from outside by the judge (perf_event_open;
 * the runner itself may not make that call) and counted while one untimed call runs, user mode
 * only. A processor counts only a few events at a time, so events come in groups, one group a call;
 * what was still multiplexed is scaled by the share of time it was counted. Where the kernel does
 * not count, a value is not known. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_COUNTERS_H
#define KS_HARNESS_COUNTERS_H

#include <stdint.h>
#include <sys/types.h>

/* name, name in records, group, perf type, perf config */
#define COUNTER_MAP(X)                                                                             \
    X(DTLB_LOADS, "dtlb_loads", 0, PERF_TYPE_HW_CACHE, COUNTER_CACHE(DTLB, ACCESS))                \
    X(DTLB_MISSES, "dtlb_load_misses", 0, PERF_TYPE_HW_CACHE, COUNTER_CACHE(DTLB, MISS))           \
    X(STALLED_FRONT, "stalled_cycles_frontend", 0, PERF_TYPE_HARDWARE,                             \
      PERF_COUNT_HW_STALLED_CYCLES_FRONTEND)                                                       \
    X(STALLED_BACK, "stalled_cycles_backend", 0, PERF_TYPE_HARDWARE,                               \
      PERF_COUNT_HW_STALLED_CYCLES_BACKEND)                                                        \
    X(L1D_LOADS, "l1d_loads", 1, PERF_TYPE_HW_CACHE, COUNTER_CACHE(L1D, ACCESS))                   \
    X(L1D_MISSES, "l1d_load_misses", 1, PERF_TYPE_HW_CACHE, COUNTER_CACHE(L1D, MISS))              \
    X(LLC_LOADS, "llc_loads", 1, PERF_TYPE_HW_CACHE, COUNTER_CACHE(LL, ACCESS))                    \
    X(LLC_MISSES, "llc_load_misses", 1, PERF_TYPE_HW_CACHE, COUNTER_CACHE(LL, MISS))               \
    X(INSTRUCTIONS, "instructions", 2, PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS)             \
    X(CYCLES, "cycles", 2, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES)                           \
    X(BRANCH_MISSES, "branch_misses", 2, PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES)          \
    X(CACHE_REFERENCES, "cache_references", 2, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES) \
    X(CACHE_MISSES, "cache_misses", 2, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES)             \
    X(TASK_CLOCK, "task_clock_ns", 2, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK)                \
    X(PAGE_FAULTS, "page_faults", 2, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS)                \
    X(CONTEXT_SWITCHES, "context_switches", 2, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES)

enum counter {
#define X(name, text, group, type, config) COUNTER_##name,
    COUNTER_MAP(X)
#undef X
        COUNTER_COUNT
};

#define COUNTER_GROUPS 3
#define COUNTERS_FDS_MAX 256 /* events times threads; threads beyond are not counted */

/* Per call, all threads together; negative when not known. */
struct counts {
    double value[COUNTER_COUNT];
};

/* Open events on the threads of one process. */
struct counters {
    int fds[COUNTERS_FDS_MAX];
    uint8_t which[COUNTERS_FDS_MAX]; /* enum counter */
    int n;
};

/* "instructions", ... Never NULL. */
const char *counter_name(enum counter c);
void counts_clear(struct counts *c);

/* Opens a group's events, not yet counting, on the threads that `pid` has now and on those that
 * they make. What the kernel refuses is left out. */
void counters_open(struct counters *c, pid_t pid, int group);
void counters_start(const struct counters *c);
void counters_stop(const struct counters *c);
/* Writes what was counted, divided by `calls`, and closes. */
void counters_read(struct counters *c, int calls, struct counts *out);
/* Closes without reading; harmless after counters_read. */
void counters_close(struct counters *c);

/* Why hardware events could not be counted so far, as a sentence; "" while nothing was refused. */
const char *counters_unavailable(void);

#endif
