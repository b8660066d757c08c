/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns on a device. On a CPU nothing else may run while a kernel is timed, so a search's whole
 * turn (plan, evaluate, record) is one turn of its device: searches on one device alternate, first
 * come first served, and one search's planning never falls into another's timing. Thread: loop.
 */
#ifndef KS_SCHED_TURNS_H
#define KS_SCHED_TURNS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"

struct turns;

/* Embedded in who takes turns; zero it, set `go`. */
struct turn {
    /* The turn has come: call turns_end when it is over. Called from turns_ask or turns_end. */
    void (*go)(struct turn *t);
    struct list node; /* the queue's own */
    struct turns_device *device;
    bool running;
};

struct turns *turns_new(void);
/* Nobody may be waiting or running any more. NULL is fine. */
void turns_free(struct turns *t);
/* Queues for `device`; `go` is called at once when it is free. Asking while queued or running is a
 * bug. */
void turns_ask(struct turns *ts, const char *device, struct turn *t);
/* Ends a running turn or leaves the queue; harmless when neither. The next one goes. */
void turns_end(struct turn *t);
/* Is anybody's turn running on the device? */
bool turns_busy(const struct turns *ts, const char *device);

#endif
