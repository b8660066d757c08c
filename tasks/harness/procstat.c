/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a process; see procstat.h. */
#include "procstat.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

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

struct waited waits_read(const struct waits *w)
{
    struct waited sum = { 0 };

    for (int i = 0; i < w->n; i++) {
        char text[96];
        ssize_t n = pread(w->fds[i], text, sizeof(text) - 1, 0);
        const char *at;
        uint64_t ns;

        if (n <= 0)
            continue;
        text[n] = '\0';
        at = strchr(text, ' ');
        ns = at ? strtoull(at, NULL, 10) : 0;
        sum.all += ns;
        sum.first += i == 0 ? ns : 0;
    }
    return sum;
}

void waits_close(struct waits *w)
{
    while (w->n > 0)
        close(w->fds[--w->n]);
}
