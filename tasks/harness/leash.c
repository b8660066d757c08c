/* SPDX-License-Identifier: Apache-2.0 */
/* Dying with the parent; see leash.h. */
#include "leash.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confine.h"

static int signal_fd = -1;

static bool stdin_is_leash(void)
{
    struct stat s;

    return fstat(0, &s) == 0 && (S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode));
}

static void *leash_wait(void *unused)
{
    struct pollfd p[2] = { { signal_fd, POLLIN, 0 }, { stdin_is_leash() ? 0 : -1, POLLIN, 0 } };
    char ignored[512];

    (void)unused;
    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[0].revents)
            break;
        if (p[1].revents && read(0, ignored, sizeof(ignored)) <= 0 && errno != EINTR)
            break;
    }
    confine_kill_all();
    _exit(err_exit_status(ERR_CANCELLED));
}

int leash_start(struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t set;
    int rc;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (signal_fd < 0)
        return err_set(err, ERR_IO, "cannot watch for signals: %s", strerror(errno));
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    rc = pthread_create(&thread, &attr, leash_wait, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : err_set(err, ERR_IO, "cannot start a thread: %s", strerror(rc));
}
