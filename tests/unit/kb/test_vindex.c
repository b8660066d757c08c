/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index: exact search against brute force, lists at 30k vectors, filters, files. */
#include "unit/test.h"

#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "vindex.h"

enum { MANY = 30000, CENTRES = 400 };

/* Vectors around centres, as embeddings of claims lie around their techniques. */
static void make(struct rng *r, uint64_t centre, struct embedding *out)
{
    struct rng c = rng_derive(11, "centre", centre);

    for (size_t i = 0; i < EMBED_DIM; i++)
        out->v[i] = (int8_t)(rng_normal(&c) * 10 + rng_normal(r) * 9);
}

static struct vindex *filled(struct rng *r, uint32_t n)
{
    struct vindex *v = vindex_new();
    struct embedding e;
    struct err err;

    assert_non_null(v);
    for (uint32_t i = 0; i < n; i++) {
        make(r, rng_below(r, CENTRES), &e);
        assert_ok(vindex_add(v, &e, &err), err);
    }
    return v;
}

static void train(struct vindex *v)
{
    struct vindex_build *b;
    struct err err;

    assert_ok(vindex_build_begin(v, &b, &err), err);
    assert_ok(vindex_build_run(b, &err), err);
    vindex_build_swap(v, b);
    vindex_build_free(b);
}

/* One index of 30k vectors in lists for several tests. */
static int setup(void **state)
{
    struct rng r = rng_seeded(21);
    struct vindex *v = filled(&r, MANY);

    assert_true(vindex_build_due(v));
    train(v);
    *state = v;
    return 0;
}

static int teardown(void **state)
{
    vindex_free(*state);
    return 0;
}

static void assert_same_hits(const struct vindex_hit *x, const struct vindex_hit *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(x[i].number, y[i].number);
        assert_true(x[i].score == y[i].score);
    }
}

static void vindex_searches_few_exactly(void **state)
{
    struct rng r = rng_seeded(3);
    struct vindex *v = filled(&r, 5000);
    struct embedding q;
    struct vindex_hit hits[20];
    struct err err;
    size_t n;

    (void)state;
    assert_false(vindex_build_due(v));
    for (int round = 0; round < 20; round++) {
        make(&r, rng_below(&r, CENTRES), &q);
        assert_ok(vindex_search(v, &q, 20, NULL, false, hits, &n, &err), err);
        assert_int_equal(n, 20);
        for (size_t i = 0; i < n; i++) {
            size_t better = 0;

            for (uint32_t k = 0; k < 5000; k++)
                better += embed_cosine(&q, vindex_get(v, k)) > hits[i].score + 1e-6f;
            assert_true(better <= i);
            assert_true(i == 0 || hits[i - 1].score >= hits[i].score);
        }
    }
    vindex_free(v);
}

static void vindex_gives_nothing_for_nothing(void **state)
{
    struct rng r = rng_seeded(4);
    struct embedding zero = { 0 }, q;
    struct vindex *empty = vindex_new();
    uint64_t none[(MANY + 63) / 64] = { 0 };
    struct vindex_hit hit;
    struct err err;
    size_t n = 9;

    make(&r, 1, &q);
    assert_ok(vindex_search(*state, &zero, 1, NULL, false, &hit, &n, &err), err);
    assert_int_equal(n, 0);
    assert_ok(vindex_search(*state, &q, 1, none, false, &hit, &n, &err), err);
    assert_int_equal(n, 0);
    assert_ok(vindex_search(empty, &q, 1, NULL, false, &hit, &n, &err), err);
    assert_int_equal(n, 0);
    vindex_free(empty);
}

/* Share of the true ten nearest that lists find, over queries and a filter of this percentage. */
static double recall(struct vindex *v, unsigned percent)
{
    struct rng r = rng_seeded(5 + percent);
    uint64_t allowed[(MANY + 1000 + 63) / 64] = { 0 };
    double sum = 0;

    for (uint32_t i = 0; i < vindex_count(v); i++)
        if (rng_below(&r, 100) < percent)
            allowed[i / 64] |= 1ull << (i % 64);
    for (int round = 0; round < 100; round++) {
        struct vindex_hit truth[10], hits[10];
        struct embedding q;
        struct err err;
        size_t n, m, found = 0;

        make(&r, rng_below(&r, CENTRES), &q);
        assert_ok(vindex_search(v, &q, 10, allowed, true, truth, &n, &err), err);
        assert_ok(vindex_search(v, &q, 10, allowed, false, hits, &m, &err), err);
        assert_int_equal(n, 10);
        assert_int_equal(m, 10);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < m; k++)
                found += truth[i].number == hits[k].number;
        for (size_t k = 0; k < m; k++)
            assert_true((allowed[hits[k].number / 64] >> (hits[k].number % 64) & 1) != 0);
        sum += (double)found / 10;
    }
    return sum / 100;
}

static void vindex_recalls_nearly_all_with_lists(void **state)
{
    assert_int_equal(vindex_indexed(*state), MANY);
    assert_false(vindex_build_due(*state));
    assert_true(recall(*state, 100) >= 0.95);
    assert_true(recall(*state, 40) >= 0.95);
    assert_true(recall(*state, 10) >= 0.95);
    assert_true(recall(*state, 3) == 1);
}

static void vindex_finds_what_waits_for_its_list(void **state)
{
    struct rng r = rng_seeded(8);
    struct vindex *v = filled(&r, 20500);
    struct vindex_hit hit;
    struct embedding e;
    struct err err;
    size_t n;

    (void)state;
    train(v);
    for (uint32_t i = 0; i < 1000; i++) {
        make(&r, rng_below(&r, CENTRES), &e);
        assert_ok(vindex_add(v, &e, &err), err);
    }
    assert_int_equal(vindex_count(v) - vindex_indexed(v), 1000);
    assert_ok(vindex_search(v, &e, 1, NULL, false, &hit, &n, &err), err);
    assert_int_equal(hit.number, 21499);
    assert_ok(vindex_catch_up(v, 300, &err), err);
    assert_int_equal(vindex_indexed(v), 20800);
    assert_ok(vindex_catch_up(v, 5000, &err), err);
    assert_int_equal(vindex_indexed(v), 21500);
    assert_ok(vindex_search(v, &e, 1, NULL, false, &hit, &n, &err), err);
    assert_int_equal(hit.number, 21499);
    vindex_free(v);
}

static void vindex_reads_back_what_it_wrote(void **state)
{
    struct vindex *v = *state, *back = NULL;
    struct rng r = rng_seeded(6);
    FILE *f = tmpfile();
    struct err err;
    long len;

    assert_ok(vindex_write(v, f, &err), err);
    len = ftell(f);
    rewind(f);
    assert_ok(vindex_read(f, &back, &err), err);
    assert_int_equal(vindex_count(back), MANY);
    assert_int_equal(vindex_indexed(back), MANY);
    for (int round = 0; round < 50; round++) {
        struct vindex_hit x[10], y[10];
        struct embedding q;
        size_t n, m;

        make(&r, rng_below(&r, CENTRES), &q);
        assert_ok(vindex_search(v, &q, 10, NULL, false, x, &n, &err), err);
        assert_ok(vindex_search(back, &q, 10, NULL, false, y, &m, &err), err);
        assert_int_equal(n, m);
        assert_same_hits(x, y, n);
    }
    vindex_free(back);
    for (int cut = 1; cut < 5; cut++) {
        assert_int_equal(ftruncate(fileno(f), len * (5 - cut) / 5), 0);
        rewind(f);
        assert_fails(vindex_read(f, &back, &err), err, ERR_CORRUPT);
    }
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vindex_searches_few_exactly),
        cmocka_unit_test(vindex_gives_nothing_for_nothing),
        cmocka_unit_test(vindex_recalls_nearly_all_with_lists),
        cmocka_unit_test(vindex_finds_what_waits_for_its_list),
        cmocka_unit_test(vindex_reads_back_what_it_wrote),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
