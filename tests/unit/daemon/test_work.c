/* SPDX-License-Identifier: Apache-2.0 */
/* The thread pool: who runs where, and that `done` comes exactly once whatever happens. */
#include "unit/test.h"

#include <pthread.h>
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"
#include "loop.h"
#include "work.h"

struct fixture {
    struct loop *loop;
    struct work_pool *pool;
    pthread_t loop_thread;
};

struct item {
    struct work work;
    struct fixture *f;
    atomic_bool *gate; /* runs until it opens; NULL: at once */
    atomic_bool started;
    bool watch_cancel; /* returns as soon as it is cancelled */
    bool fails;
    bool ran_on_loop, saw_cancel;
    int n_done;
    enum err_code code; /* that done got; ERR_OK for NULL */
    struct item *then;  /* submitted from done */
};

static int item_run(struct work *w, struct err *err)
{
    struct item *it = LIST_OF(w, struct item, work);

    it->ran_on_loop = pthread_equal(pthread_self(), it->f->loop_thread);
    atomic_store(&it->started, true);
    while (it->gate != NULL && !atomic_load(it->gate)) {
        if (it->watch_cancel && work_cancelled(w)) {
            it->saw_cancel = true;
            break;
        }
        usleep(200);
    }
    return it->fails ? err_set(err, ERR_IO, "the disk is gone") : 0;
}

static void item_done(struct work *w, const struct err *err)
{
    struct item *it = LIST_OF(w, struct item, work);

    assert_true(pthread_equal(pthread_self(), it->f->loop_thread));
    it->n_done++;
    it->code = err != NULL ? err->code : ERR_OK;
    if (it->then != NULL)
        work_submit(it->f->pool, &it->then->work);
}

static struct item item_make(struct fixture *f)
{
    return (struct item){ .f = f, .work = { .run = item_run, .done = item_done } };
}

static void wait_started(struct item *it)
{
    while (!atomic_load(&it->started))
        usleep(100);
}

static void setup_pool(struct fixture *f, size_t threads)
{
    struct err err;

    f->loop_thread = pthread_self();
    assert_ok(loop_new(&f->loop, &err), err);
    assert_ok(work_pool_new(f->loop, threads, &f->pool, &err), err);
}

static void drain(struct fixture *f)
{
    while (work_pending(f->pool) > 0)
        loop_turn(f->loop, true);
}

static void teardown_pool(struct fixture *f)
{
    work_pool_free(f->pool);
    loop_free(f->loop);
}

static void work_runs_on_a_worker_and_is_done_on_the_loop(void **state)
{
    struct fixture f;
    struct item items[50];

    (void)state;
    setup_pool(&f, 3);
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        items[i] = item_make(&f);
        work_submit(f.pool, &items[i].work);
        assert_int_equal(items[i].n_done, 0);
    }
    drain(&f);
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        assert_int_equal(items[i].n_done, 1);
        assert_int_equal(items[i].code, ERR_OK);
        assert_false(items[i].ran_on_loop);
    }
    teardown_pool(&f);
}

static void work_hands_the_error_of_run_to_done(void **state)
{
    struct fixture f;
    struct item it;

    (void)state;
    setup_pool(&f, 1);
    it = item_make(&f);
    it.fails = true;
    work_submit(f.pool, &it.work);
    drain(&f);
    assert_int_equal(it.code, ERR_IO);
    teardown_pool(&f);
}

static void work_cancelled_while_queued_never_runs_and_is_done_once(void **state)
{
    struct fixture f;
    struct item first, second;
    atomic_bool gate = false;

    (void)state;
    setup_pool(&f, 1);
    first = item_make(&f);
    first.gate = &gate;
    second = item_make(&f);
    work_submit(f.pool, &first.work);
    work_submit(f.pool, &second.work);
    wait_started(&first);
    work_cancel(f.pool, &second.work);
    assert_int_equal(second.n_done, 0); /* never from inside cancel */
    work_cancel(f.pool, &second.work);
    while (second.n_done == 0)
        loop_turn(f.loop, true);
    assert_int_equal(second.code, ERR_CANCELLED);
    atomic_store(&gate, true);
    drain(&f);
    assert_false(atomic_load(&second.started));
    assert_int_equal(second.n_done, 1);
    assert_int_equal(first.code, ERR_OK);
    teardown_pool(&f);
}

static void work_cancelled_while_running_is_done_once_after_it_ran(void **state)
{
    struct fixture f;
    struct item it;
    atomic_bool gate = false;

    (void)state;
    setup_pool(&f, 1);
    it = item_make(&f);
    it.gate = &gate;
    it.watch_cancel = true;
    work_submit(f.pool, &it.work);
    wait_started(&it);
    work_cancel(f.pool, &it.work);
    drain(&f);
    assert_true(it.saw_cancel);
    assert_int_equal(it.n_done, 1);
    assert_int_equal(it.code, ERR_CANCELLED);
    work_cancel(f.pool, &it.work); /* idle: harmless */
    assert_int_equal(it.n_done, 1);
    teardown_pool(&f);
}

static void work_can_be_submitted_again_from_done(void **state)
{
    struct fixture f;
    struct item first, second;

    (void)state;
    setup_pool(&f, 2);
    first = item_make(&f);
    second = item_make(&f);
    first.then = &second;
    work_submit(f.pool, &first.work);
    drain(&f);
    assert_int_equal(second.n_done, 1);
    assert_int_equal(second.code, ERR_OK);
    teardown_pool(&f);
}

/* What runs ends, what waits is cancelled, and what `done` submits then is cancelled as well. */
static void work_pool_free_drains_everything(void **state)
{
    struct fixture f;
    struct item running, queued[10], late;
    atomic_bool gate = false;

    (void)state;
    setup_pool(&f, 1);
    running = item_make(&f);
    running.gate = &gate;
    running.watch_cancel = true;
    late = item_make(&f);
    work_submit(f.pool, &running.work);
    wait_started(&running);
    for (size_t i = 0; i < ARRAY_LEN(queued); i++) {
        queued[i] = item_make(&f);
        work_submit(f.pool, &queued[i].work);
    }
    queued[3].then = &late;
    atomic_store(&gate, true);
    work_pool_free(f.pool);
    assert_int_equal(running.n_done, 1);
    assert_int_equal(late.n_done, 1);
    for (size_t i = 0; i < ARRAY_LEN(queued); i++)
        assert_int_equal(queued[i].n_done, 1);
    loop_free(f.loop);
}

static void work_submitted_while_the_pool_closes_is_cancelled(void **state)
{
    struct fixture f;
    struct item first, late;
    atomic_bool gate = false;

    (void)state;
    setup_pool(&f, 1);
    first = item_make(&f);
    first.gate = &gate;
    first.watch_cancel = true;
    late = item_make(&f);
    first.then = &late;
    work_submit(f.pool, &first.work);
    wait_started(&first);
    work_cancel(f.pool, &first.work);
    work_pool_free(f.pool); /* first's done submits late through the pool that is closing */
    assert_int_equal(first.n_done, 1);
    assert_int_equal(late.n_done, 1);
    assert_int_equal(late.code, ERR_CANCELLED);
    assert_false(atomic_load(&late.started));
    loop_free(f.loop);
}

static void work_pool_refuses_a_silly_number_of_threads(void **state)
{
    struct fixture f;
    struct err err;

    (void)state;
    assert_ok(loop_new(&f.loop, &err), err);
    assert_fails(work_pool_new(f.loop, 0, &f.pool, &err), err, ERR_INVALID);
    assert_fails(work_pool_new(f.loop, 65, &f.pool, &err), err, ERR_INVALID);
    loop_free(f.loop);
}

struct order {
    struct loop *loop;
    int n, seen[4];
};

static void second_deferred(void *arg)
{
    struct order *o = arg;

    o->seen[o->n++] = 2;
}

static void first_deferred(void *arg)
{
    struct order *o = arg;

    o->seen[o->n++] = 1;
    loop_defer(o->loop, second_deferred, o);
}

static void deferred_functions_run_at_the_end_of_the_turn_in_order(void **state)
{
    struct order o = { 0 };
    struct err err;

    (void)state;
    assert_ok(loop_new(&o.loop, &err), err);
    loop_defer(o.loop, first_deferred, &o);
    assert_int_equal(o.n, 0);
    loop_turn(o.loop, true);
    assert_int_equal(o.n, 2);
    assert_int_equal(o.seen[0], 1);
    assert_int_equal(o.seen[1], 2);
    loop_free(o.loop);
}

static void slow_scope(void)
{
    LOOP_CALLBACK("test_slow");

    usleep(15000);
}

static void a_slow_callback_is_counted(void **state)
{
    uint64_t before = loop_slow_callbacks();

    (void)state;
    slow_scope();
    assert_int_equal(loop_slow_callbacks(), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_runs_on_a_worker_and_is_done_on_the_loop),
        cmocka_unit_test(work_hands_the_error_of_run_to_done),
        cmocka_unit_test(work_cancelled_while_queued_never_runs_and_is_done_once),
        cmocka_unit_test(work_cancelled_while_running_is_done_once_after_it_ran),
        cmocka_unit_test(work_can_be_submitted_again_from_done),
        cmocka_unit_test(work_pool_free_drains_everything),
        cmocka_unit_test(work_submitted_while_the_pool_closes_is_cancelled),
        cmocka_unit_test(work_pool_refuses_a_silly_number_of_threads),
        cmocka_unit_test(deferred_functions_run_at_the_end_of_the_turn_in_order),
        cmocka_unit_test(a_slow_callback_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
