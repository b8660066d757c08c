/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a process; see procstat.h. */
#include "procstat.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

int procstat_threads(pid_t pid)
{
    char path[64], text[512];
    int threads = -1;
    const char *at;
    FILE *stat;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    stat = fopen(path, "re");
    if (stat == NULL)
        return -1;
    if (fgets(text, sizeof(text), stat) != NULL && (at = strrchr(text, ')')) != NULL) {
        for (int field = 2; at != NULL && field < 20; field++)
            at = strchr(at + 1, ' ');
        if (at != NULL)
            threads = (int)strtol(at, NULL, 10);
    }
    fclose(stat);
    return threads;
}

uint64_t procstat_cpu_ns(pid_t pid)
{
    struct timespec t;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/* The letter of a thread's state; 0 when the kernel does not say. */
static char thread_state(pid_t pid, const char *tid)
{
    char path[96], text[512];
    const char *at;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", (int)pid, tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')');
    return at && at[1] == ' ' ? at[2] : 0;
}

bool procstat_is_stopped(pid_t pid)
{
    struct dirent *entry;
    bool stopped = true;
    char path[64];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (stopped && dir != NULL && (entry = readdir(dir)) != NULL) {
        char state = entry->d_name[0] == '.' ? 0 : thread_state(pid, entry->d_name);

        stopped = state == 0 || strchr("TtZX", state) != NULL;
    }
    if (dir != NULL)
        closedir(dir);
    return stopped;
}

bool procstat_has_children(pid_t pid)
{
    char path[96], text[256];
    size_t n;
    FILE *children;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    children = fopen(path, "re");
    if (children == NULL)
        return false;
    n = fread(text, 1, sizeof(text), children);
    fclose(children);
    return n > 0;
}

static void open_wait(struct waits *w, pid_t pid, const char *tid)
{
    char path[96];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", (int)pid, tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        w->fds[w->n++] = fd;
}

void waits_open(struct waits *w, pid_t pid)
{
    char path[64], first[16];
    struct dirent *entry;
    DIR *dir;

    snprintf(first, sizeof(first), "%d", (int)pid);
    open_wait(w, pid, first);
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL && w->n < PROCSTAT_THREADS_MAX)
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, first) != 0)
            open_wait(w, pid, entry->d_name);
    if (dir != NULL)
        closedir(dir);
}

static uint64_t read_wait(int fd, uint64_t *ran_ns)
{
    char text[96];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    const char *at;

    *ran_ns = 0;
    if (n <= 0)
        return 0;
    text[n] = '\0';
    *ran_ns = strtoull(text, NULL, 10);
    at = strchr(text, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t waits_read_first(const struct waits *w, uint64_t *ran_ns)
{
    *ran_ns = 0;
    return w->n > 0 ? read_wait(w->fds[0], ran_ns) : 0;
}

struct waited waits_read(const struct waits *w)
{
    uint64_t ran_ns;
    struct waited sum = { .first = waits_read_first(w, &ran_ns) };

    sum.all = sum.first;
    for (int i = 1; i < w->n; i++)
        sum.all += read_wait(w->fds[i], &ran_ns);
    return sum;
}

void waits_close(struct waits *w)
{
    while (w->n > 0)
        close(w->fds[--w->n]);
}
