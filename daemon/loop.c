/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop; see loop.h. */
#include "loop.h"

#include <assert.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "log.h"

enum { SLOW_MS = 10 };

struct deferred {
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    struct event_base *base;
    bool stop;
    struct deferred *deferred;
    size_t n_deferred, cap_deferred;
};

static _Atomic uint64_t slow_callbacks, longest_ns;

int loop_new(struct loop **out, struct err *err)
{
    struct event_config *config = event_config_new();
    struct loop *l = xcalloc(1, sizeof(*l));

    if (config != NULL) {
        /* All events belong to the loop's thread: workers report through an eventfd. */
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
        l->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    if (l->base == NULL) {
        free(l);
        return err_set(err, ERR_IO, "cannot make an event loop");
    }
    *out = l;
    return 0;
}

/* Deferred functions may defer more: those run in the same turn. */
static void run_deferred(struct loop *l)
{
    for (size_t i = 0; i < l->n_deferred; i++) {
        struct deferred d = l->deferred[i];

        d.fn(d.arg);
    }
    l->n_deferred = 0;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    run_deferred(l);
    event_base_free(l->base);
    free(l->deferred);
    free(l);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_turn(struct loop *l, bool wait)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

    if (!wait || l->n_deferred > 0)
        flags |= EVLOOP_NONBLOCK;
    event_base_loop(l->base, flags);
    run_deferred(l);
}

void loop_run(struct loop *l)
{
    while (!l->stop)
        loop_turn(l, true);
}

void loop_stop(struct loop *l)
{
    l->stop = true;
}

bool loop_stopping(const struct loop *l)
{
    return l->stop;
}

void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg)
{
    l->deferred = xgrow(l->deferred, &l->cap_deferred, l->n_deferred + 1, sizeof(*l->deferred));
    l->deferred[l->n_deferred++] = (struct deferred){ fn, arg };
}

/* Processor time of this thread: what a callback waits for, a processor or a lock, is not in it.
 */
static uint64_t computed_ns(void)
{
    struct timespec t = { 0 };

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

struct loop_scope loop_scope_enter(const char *name)
{
    const struct clock *c = clock_system();

    return (struct loop_scope){ name, c->mono_ns(c), computed_ns() };
}

void loop_scope_leave(struct loop_scope *s)
{
    const struct clock *c = clock_system();
    uint64_t ns = c->mono_ns(c) - s->start_ns;

    if (ns > longest_ns) /* the loop's thread alone writes */
        longest_ns = ns;
    if (ns <= SLOW_MS * NS_PER_MS)
        return;
    slow_callbacks++;
    log_warn("loop: %s took %.1f ms, %.1f ms of them computing; the loop should not wait longer "
             "than %d ms",
             s->name, (double)ns / 1e6, (double)(computed_ns() - s->cpu_ns) / 1e6, SLOW_MS);
}

uint64_t loop_slow_callbacks(void)
{
    return slow_callbacks;
}

uint64_t loop_longest_ns(void)
{
    return longest_ns;
}
