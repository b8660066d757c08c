/* SPDX-License-Identifier: Apache-2.0 */
/* Counting from outside; see counters.h. */
#include "counters.h"

#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define COUNTER_CACHE(cache, result)                                                               \
    (PERF_COUNT_HW_CACHE_##cache | (uint64_t)PERF_COUNT_HW_CACHE_OP_READ << 8 |                    \
     (uint64_t)PERF_COUNT_HW_CACHE_RESULT_##result << 16)

static const struct {
    const char *name;
    int group;
    uint32_t type;
    uint64_t config;
} rows[COUNTER_COUNT] = {
#define X(name, text, group, type, config) { text, group, type, config },
    COUNTER_MAP(X)
#undef X
};

static char why_not[160]; /* of the first hardware event that was refused */

const char *counter_name(enum counter c)
{
    return rows[c].name;
}

void counts_clear(struct counts *c)
{
    for (int i = 0; i < COUNTER_COUNT; i++)
        c->value[i] = -1;
}

const char *counters_unavailable(void)
{
    return why_not;
}

/* Cycles stand for all: a processor may well lack one of the others. */
static void note_refusal(enum counter which, int code)
{
    if (which != COUNTER_CYCLES || why_not[0] != '\0')
        return;
    if (code == EACCES || code == EPERM)
        snprintf(why_not, sizeof(why_not),
                 "The kernel does not permit hardware counters here (perf_event_paranoid, or a "
                 "container's rules).");
    else if (code == ENOSYS)
        snprintf(why_not, sizeof(why_not), "This kernel has no performance events.");
    else
        snprintf(why_not, sizeof(why_not),
                 "This machine shows no hardware counters (a virtual machine without them).");
}

static int open_event(enum counter which, pid_t tid)
{
    struct perf_event_attr attr = {
        .type = rows[which].type,
        .size = sizeof(attr),
        .config = rows[which].config,
        .disabled = 1,
        .inherit = 1,
        .exclude_kernel = rows[which].type != PERF_TYPE_SOFTWARE,
        .exclude_hv = 1,
        .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
    };
    long fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

    if (fd < 0 && !attr.exclude_kernel) { /* not permitted to look into the kernel */
        attr.exclude_kernel = 1;
        fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    if (fd < 0)
        note_refusal(which, errno);
    return (int)fd;
}

static void open_thread(struct counters *c, pid_t tid, int group)
{
    for (int i = 0; i < COUNTER_COUNT && c->n < COUNTERS_FDS_MAX; i++) {
        int fd;

        if (rows[i].group != group)
            continue;
        fd = open_event((enum counter)i, tid);
        if (fd < 0)
            continue;
        c->fds[c->n] = fd;
        c->which[c->n++] = (uint8_t)i;
    }
}

void counters_open(struct counters *c, pid_t pid, int group)
{
    char path[64];
    struct dirent *e;
    DIR *dir;

    c->n = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (e = readdir(dir)) != NULL)
        if (e->d_name[0] != '.')
            open_thread(c, (pid_t)strtol(e->d_name, NULL, 10), group);
    if (dir != NULL)
        closedir(dir);
}

static void tell(const struct counters *c, unsigned long request)
{
    for (int i = 0; i < c->n; i++)
        ioctl(c->fds[i], request, 0);
}

void counters_start(const struct counters *c)
{
    tell(c, PERF_EVENT_IOC_ENABLE);
}

void counters_stop(const struct counters *c)
{
    tell(c, PERF_EVENT_IOC_DISABLE);
}

void counters_read(struct counters *c, int calls, struct counts *out)
{
    for (int i = 0; i < c->n; i++) {
        uint64_t v[3]; /* count, time enabled, time running */
        double *sum = &out->value[c->which[i]], scale;

        if (read(c->fds[i], v, sizeof(v)) != (ssize_t)sizeof(v))
            continue;
        if (v[2] == 0 && v[1] > 0 && rows[c->which[i]].type != PERF_TYPE_SOFTWARE)
            continue; /* there was no room for it; a thread that slept was not enabled either */
        scale = v[2] > 0 ? (double)v[1] / (double)v[2] : 1;
        *sum = MAX(*sum, 0) + (double)v[0] * scale / MAX(calls, 1);
    }
    counters_close(c);
}

void counters_close(struct counters *c)
{
    while (c->n > 0)
        close(c->fds[--c->n]);
}
