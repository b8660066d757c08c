/* SPDX-License-Identifier: Apache-2.0 */
/* The judge's end of a channel; see channel.h. */
#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

int channel_open(int fds[2], struct err *err)
{
    int on = 1;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        return err_set(err, ERR_IO, "cannot make a socket pair: %s", strerror(errno));
    if (setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0 ||
        setsockopt(fds[0], SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) != 0) {
        close(fds[0]);
        close(fds[1]);
        return err_set(err, ERR_IO, "cannot prepare a socket pair: %s", strerror(errno));
    }
    return 0;
}

static void read_control(struct msghdr *h, struct envelope *e)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred u;

            memcpy(&u, CMSG_DATA(c), sizeof(u));
            e->sender = u.pid;
        } else if (c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;

            memcpy(&t, CMSG_DATA(c), sizeof(t));
            e->stamp_ns = (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
        } else if (c->cmsg_type == SCM_RIGHTS) {
            size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

            /* all of them: what stays open adds up until /proc can no longer be opened */
            for (size_t i = 0; i < n; i++) {
                int fd;

                memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
                close(fd);
            }
            e->descriptors = true;
        }
    }
}

int channel_receive(int fd, uint64_t until_ns, bool spin, struct envelope *e)
{
    _Alignas(struct cmsghdr) char control[256];
    struct iovec io = { &e->m, sizeof(e->m) };

    for (;;) {
        struct msghdr h = { .msg_iov = &io,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof(control) };
        ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        uint64_t now;

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return -1;
        if (n > 0) {
            e->len = (size_t)n;
            e->sender = 0;
            e->stamp_ns = 0;
            e->descriptors = false;
            read_control(&h, e);
            return 1;
        }
        now = clock_system()->mono_ns(clock_system());
        if (now >= until_ns)
            return 0;
        if (!spin) {
            struct pollfd p = { fd, POLLIN, 0 };

            poll(&p, 1, (int)MIN((until_ns - now) / NS_PER_MS + 1, 1000000ull));
        }
    }
}

int channel_send(int fd, const void *m, size_t len)
{
    return send(fd, m, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}
