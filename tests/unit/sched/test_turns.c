/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "sched/turns.h"
#include "unit/test.h"

struct taker {
    struct turn turn; /* first: a turn is its taker */
    char name;
    bool end_at_once;
};

static char order[32];

static void went(struct turn *t)
{
    struct taker *k = (struct taker *)t;
    size_t n = strlen(order);

    order[n] = k->name;
    order[n + 1] = '\0';
    if (k->end_at_once)
        turns_end(t);
}

static void turns_go_first_come_first_served_one_at_a_time(void **state)
{
    struct turns *ts = turns_new();
    struct taker a = { { .go = went }, 'a', false }, b = { { .go = went }, 'b', false };
    struct taker c = { { .go = went }, 'c', false };

    (void)state;
    order[0] = '\0';
    turns_ask(ts, "cpu", &a.turn);
    turns_ask(ts, "cpu", &b.turn);
    turns_ask(ts, "cpu", &c.turn);
    assert_string_equal(order, "a");
    turns_end(&a.turn);
    turns_ask(ts, "cpu", &a.turn);
    assert_string_equal(order, "ab");
    turns_end(&c.turn); /* leaves the queue */
    turns_end(&b.turn);
    assert_string_equal(order, "aba");
    assert_true(turns_busy(ts, "cpu"));
    turns_end(&a.turn);
    turns_end(&a.turn);
    assert_false(turns_busy(ts, "cpu"));
    turns_free(ts);
}

static void turns_of_different_devices_do_not_wait_for_each_other(void **state)
{
    struct turns *ts = turns_new();
    struct taker a = { { .go = went }, 'a', false }, b = { { .go = went }, 'b', false };

    (void)state;
    order[0] = '\0';
    turns_ask(ts, "cpu", &a.turn);
    turns_ask(ts, "h200", &b.turn);
    assert_string_equal(order, "ab");
    turns_end(&a.turn);
    turns_end(&b.turn);
    turns_free(ts);
}

static void turns_that_end_at_once_do_not_recurse(void **state)
{
    struct turns *ts = turns_new();
    struct taker first = { { .go = went }, 'f', false }, many[20];

    (void)state;
    order[0] = '\0';
    turns_ask(ts, "cpu", &first.turn);
    for (int i = 0; i < 20; i++) {
        many[i] = (struct taker){ { .go = went }, (char)('a' + i), true };
        turns_ask(ts, "cpu", &many[i].turn);
    }
    turns_end(&first.turn);
    assert_string_equal(order, "fabcdefghijklmnopqrst");
    turns_free(ts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_go_first_come_first_served_one_at_a_time),
        cmocka_unit_test(turns_of_different_devices_do_not_wait_for_each_other),
        cmocka_unit_test(turns_that_end_at_once_do_not_recurse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
