/* SPDX-License-Identifier: Apache-2.0 */
/* Turns on a device; see turns.h. */
#include "sched/turns.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

struct turns_device {
    struct turns_device *next;
    char *name;
    struct list queue;
    struct turn *running;
    bool handing_over; /* turns_device_next is on the stack: an ask from inside `go` only queues */
};

struct turns {
    struct turns_device *devices;
};

struct turns *turns_new(void)
{
    return xcalloc(1, sizeof(struct turns));
}

void turns_free(struct turns *ts)
{
    struct turns_device *d, *next;

    if (ts == NULL)
        return;
    for (d = ts->devices; d; d = next) {
        next = d->next;
        assert(d->running == NULL && list_empty(&d->queue));
        free(d->name);
        free(d);
    }
    free(ts);
}

static struct turns_device *find(const struct turns *ts, const char *name)
{
    struct turns_device *d = ts->devices;

    while (d && strcmp(d->name, name) != 0)
        d = d->next;
    return d;
}

static void turns_device_next(struct turns_device *d)
{
    if (d->handing_over)
        return;
    d->handing_over = true;
    while (d->running == NULL && !list_empty(&d->queue)) {
        struct turn *t = LIST_OF(d->queue.next, struct turn, node);

        list_remove(&t->node);
        t->running = true;
        d->running = t;
        t->go(t);
    }
    d->handing_over = false;
}

void turns_ask(struct turns *ts, const char *device, struct turn *t)
{
    struct turns_device *d = find(ts, device);

    assert(t->device == NULL);
    if (d == NULL) {
        d = xcalloc(1, sizeof(*d));
        d->name = xstrdup(device);
        list_init(&d->queue);
        d->next = ts->devices;
        ts->devices = d;
    }
    t->device = d;
    list_append(&d->queue, &t->node);
    turns_device_next(d);
}

void turns_end(struct turn *t)
{
    struct turns_device *d = t->device;

    if (d == NULL)
        return;
    t->device = NULL;
    if (t->running)
        d->running = NULL;
    else
        list_remove(&t->node);
    t->running = false;
    turns_device_next(d);
}

bool turns_busy(const struct turns *ts, const char *device)
{
    const struct turns_device *d = find(ts, device);

    return d != NULL && d->running != NULL;
}
