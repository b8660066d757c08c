/* SPDX-License-Identifier: Apache-2.0 */
/* The thread pool; see work.h. Two lists under one lock; an eventfd wakes the loop for the second.
 */
#include "work.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "log.h"
#include "loop.h"

enum { THREADS_MAX = 64 };

struct work_pool {
    pthread_mutex_t lock;
    pthread_cond_t more;  /* something is queued, or the end has come */
    struct list queued;   /* under the lock */
    struct list finished; /* under the lock */
    bool stop;            /* under the lock */
    bool closing;         /* loop: submitting is cancelling now */
    size_t pending;       /* loop */
    size_t n_threads;
    pthread_t threads[THREADS_MAX];
    int wake_fd;
    struct event *wake;
};

static void wake_loop(struct work_pool *p)
{
    uint64_t one = 1;

    while (write(p->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* With the lock held. */
static void finish(struct work_pool *p, struct work *w)
{
    bool first = list_empty(&p->finished);

    w->state = WORK_FINISHED;
    list_append(&p->finished, &w->node);
    if (first)
        wake_loop(p);
}

static struct work *next_queued(struct work_pool *p)
{
    struct work *w;

    while (list_empty(&p->queued) && !p->stop)
        pthread_cond_wait(&p->more, &p->lock);
    if (list_empty(&p->queued))
        return NULL;
    w = LIST_OF(p->queued.next, struct work, node);
    list_remove(&w->node);
    w->state = WORK_RUNNING;
    return w;
}

static void *worker(void *arg)
{
    struct work_pool *p = arg;
    struct work *w;

    pthread_mutex_lock(&p->lock);
    while ((w = next_queued(p)) != NULL) {
        pthread_mutex_unlock(&p->lock);
        w->rc = w->run(w, &w->err);
        pthread_mutex_lock(&p->lock);
        finish(p, w);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void deliver(struct work_pool *p, struct work *w)
{
    struct err err;

    assert(w->state == WORK_FINISHED);
    p->pending--;
    w->state = WORK_IDLE;
    if (atomic_load(&w->cancelled))
        err_set(&err, ERR_CANCELLED, "cancelled before it was done");
    else if (w->rc != 0)
        err = w->err;
    else {
        w->done(w, NULL);
        return;
    }
    w->done(w, &err);
}

static void deliver_all(struct work_pool *p)
{
    struct list batch;

    list_init(&batch);
    pthread_mutex_lock(&p->lock);
    LIST_FOREACH (n, &p->finished) {
        list_remove(n);
        list_append(&batch, n);
    }
    pthread_mutex_unlock(&p->lock);
    /* `done` may free or submit the item, and submit others: take one at a time. */
    while (!list_empty(&batch)) {
        struct work *w = LIST_OF(batch.next, struct work, node);

        list_remove(&w->node);
        deliver(p, w);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("work_done");
    uint64_t count;
    ssize_t n;

    (void)what;
    n = read(fd, &count, sizeof(count));
    (void)n; /* only the wake-up matters: the list says what is there */
    deliver_all(arg);
}

/* Workers take no signals: those are the loop's. */
static int start_threads(struct work_pool *p, size_t threads, struct err *err)
{
    sigset_t all, old;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->n_threads < threads && rc == 0) {
        rc = pthread_create(&p->threads[p->n_threads], NULL, worker, p);
        if (rc == 0)
            p->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return err_set(err, ERR_NOMEM, "cannot start worker thread %zu of %zu: %s",
                       p->n_threads + 1, threads, strerror(rc));
    return 0;
}

int work_pool_new(struct loop *loop, size_t threads, struct work_pool **out, struct err *err)
{
    struct work_pool *p;

    if (threads < 1 || threads > THREADS_MAX)
        return err_set(err, ERR_INVALID, "%zu worker threads; allowed are 1 to %d", threads,
                       THREADS_MAX);
    p = xcalloc(1, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    list_init(&p->queued);
    list_init(&p->finished);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        err_set(err, ERR_IO, "cannot make an eventfd: %s", strerror(errno));
        goto fail;
    }
    p->wake = event_new(loop_base(loop), p->wake_fd, EV_READ | EV_PERSIST, on_wake, p);
    if (p->wake == NULL || event_add(p->wake, NULL) != 0) {
        err_set(err, ERR_NOMEM, "no memory for an event");
        goto fail;
    }
    if (start_threads(p, threads, err) != 0)
        goto fail;
    *out = p;
    return 0;
fail:
    work_pool_free(p);
    return -1;
}

static void cancel_queued(struct work_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    LIST_FOREACH (n, &p->queued) {
        struct work *w = LIST_OF(n, struct work, node);

        list_remove(n);
        atomic_store(&w->cancelled, true);
        finish(p, w);
    }
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
}

void work_pool_free(struct work_pool *p)
{
    if (p == NULL)
        return;
    p->closing = true;
    cancel_queued(p);
    for (size_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    while (!list_empty(&p->finished))
        deliver_all(p);
    assert(p->pending == 0);
    if (p->wake != NULL)
        event_free(p->wake);
    closep(&p->wake_fd);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void work_submit(struct work_pool *p, struct work *w)
{
    assert(w->state == WORK_IDLE && w->run != NULL && w->done != NULL);
    atomic_store(&w->cancelled, p->closing);
    w->rc = 0;
    p->pending++;
    pthread_mutex_lock(&p->lock);
    if (p->closing) {
        finish(p, w);
    } else {
        w->state = WORK_QUEUED;
        list_append(&p->queued, &w->node);
        pthread_cond_signal(&p->more);
    }
    pthread_mutex_unlock(&p->lock);
}

void work_cancel(struct work_pool *p, struct work *w)
{
    pthread_mutex_lock(&p->lock);
    if (w->state == WORK_QUEUED) {
        list_remove(&w->node);
        atomic_store(&w->cancelled, true);
        finish(p, w);
    } else if (w->state == WORK_RUNNING) {
        atomic_store(&w->cancelled, true);
    }
    pthread_mutex_unlock(&p->lock);
}

bool work_cancelled(const struct work *w)
{
    return atomic_load(&((struct work *)w)->cancelled);
}

size_t work_pending(const struct work_pool *p)
{
    return p->pending;
}
