/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge's end of the socket pair to a runner (wire.h). The other end is hostile: of a message,
 * only what the kernel adds is certain, who sent it and when. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_CHANNEL_H
#define KS_HARNESS_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "wire.h"

/* A message from the runner's side: may be anything. */
struct envelope {
    union {
        uint32_t kind;
        struct wire_hello hello;
        struct wire_reply reply;
    } m;
    size_t len;
    pid_t sender;      /* by the kernel, in our numbering; 0: unknown */
    uint64_t stamp_ns; /* by the kernel: CLOCK_REALTIME when it was sent; 0: unknown */
    bool descriptors;  /* some were attached, which nobody asked for */
};

/* fds[0] is the judge's end, fds[1] the runner's; both close-on-exec. ERR_IO. */
int channel_open(int fds[2], struct err *err);
/*
 * Waits for a message until `until_ns` of the monotonic clock, sleeping or (`spin`) not.
 * 1: there is one; 0: none came; -1: the other end is gone. Descriptors sent along are closed.
 */
int channel_receive(int fd, uint64_t until_ns, bool spin, struct envelope *e);
/* 0, or -1 when the other end is gone. */
int channel_send(int fd, const void *m, size_t len);

#endif
