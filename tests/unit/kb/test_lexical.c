/* SPDX-License-Identifier: Apache-2.0 */
/* BM25 against a brute-force computation, with and without filters; files; limits. */
#include "unit/test.h"

#include <math.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "lexical.h"
#include "text.h"

enum { WORDS = 60, DOC_MAX = 40, QUERY_MAX = 12 };

/* A small corpus kept plainly beside the index. */
struct corpus {
    struct lexical *x;
    size_t n, cap;
    struct {
        uint64_t terms[DOC_MAX];
        size_t n;
    } * docs;
};

static uint64_t word(uint64_t i)
{
    return text_hash_pair(77, i) | 1;
}

/* Frequent words are drawn often: about Zipf. */
static uint64_t draw(struct rng *r)
{
    double u = rng_double(r);

    return word((uint64_t)(WORDS * u * u * u));
}

static void corpus_fill(struct corpus *c, struct rng *r, size_t n)
{
    struct err err;

    *c = (struct corpus){ .x = lexical_new(), .n = n };
    c->docs = xcalloc(n, sizeof(*c->docs));
    assert_non_null(c->x);
    for (size_t i = 0; i < n; i++) {
        c->docs[i].n = rng_below(r, DOC_MAX + 1);
        for (size_t k = 0; k < c->docs[i].n; k++)
            c->docs[i].terms[k] = draw(r);
        assert_ok(lexical_add(c->x, c->docs[i].terms, c->docs[i].n, &err), err);
    }
}

static void corpus_free(struct corpus *c)
{
    lexical_free(c->x);
    free(c->docs);
}

static size_t occurrences(const struct corpus *c, size_t doc, uint64_t term)
{
    size_t n = 0;

    for (size_t k = 0; k < c->docs[doc].n; k++)
        n += c->docs[doc].terms[k] == term;
    return n;
}

/* What a score needs of the whole corpus; the same for all documents of one query. */
struct plain {
    double average;
    double df[QUERY_MAX];
};

static struct plain plain_of(const struct corpus *c, const uint64_t *q, size_t n_q)
{
    struct plain p = { 0 };

    for (size_t i = 0; i < c->n; i++) {
        p.average += (double)c->docs[i].n / (double)c->n;
        for (size_t t = 0; t < n_q; t++)
            p.df[t] += occurrences(c, i, q[t]) > 0;
    }
    return p;
}

static double plain_score(const struct corpus *c, const struct plain *p, size_t doc,
                          const uint64_t *q, size_t n_q)
{
    double score = 0;

    for (size_t t = 0; t < n_q; t++) {
        double tf = (double)occurrences(c, doc, q[t]), df = p->df[t];

        if (tf > 0)
            score += log(1 + ((double)c->n - df + 0.5) / (df + 0.5)) * tf * 2.2 /
                     (tf + 1.2 * (0.25 + 0.75 * (double)c->docs[doc].n / p->average));
    }
    return score;
}

static size_t distinct_query(struct rng *r, uint64_t *q)
{
    size_t n = 0, want = 1 + rng_below(r, QUERY_MAX - 1);

    while (n < want) {
        uint64_t t = draw(r);
        bool again = false;

        for (size_t i = 0; i < n; i++)
            again |= q[i] == t;
        if (!again)
            q[n++] = t;
    }
    return n;
}

static int compare_falling(const void *p, const void *q)
{
    double x = *(const double *)p, y = *(const double *)q;

    return x > y ? -1 : x < y;
}

/* The k best plain scores, falling; returns how many are positive. */
static size_t plain_top(const struct corpus *c, const uint64_t *q, size_t n_q,
                        const uint64_t *allowed, size_t k, double *out)
{
    double *all = xcalloc(c->n, sizeof(*all));
    struct plain p = plain_of(c, q, n_q);
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++)
        if (allowed == NULL || (allowed[i / 64] >> (i % 64) & 1) != 0)
            all[i] = plain_score(c, &p, i, q, n_q);
    qsort(all, c->n, sizeof(*all), compare_falling);
    while (n < MIN(k, c->n) && all[n] > 0) {
        out[n] = all[n];
        n++;
    }
    free(all);
    return n;
}

static void check_query(const struct corpus *c, struct lexical_scratch *s, const uint64_t *q,
                        size_t n_q, const uint64_t *allowed, size_t k)
{
    struct lexical_hit hits[100];
    double expected[100];
    size_t n, n_expected = plain_top(c, q, n_q, allowed, k, expected);
    struct plain p = plain_of(c, q, n_q);

    lexical_search(c->x, s, q, n_q, allowed, k, hits, &n);
    assert_int_equal(n, n_expected);
    for (size_t i = 0; i < n; i++) {
        assert_true(fabs(hits[i].score - expected[i]) < 1e-4);
        assert_true(fabs(hits[i].score - plain_score(c, &p, hits[i].doc, q, n_q)) < 1e-4);
        if (allowed != NULL)
            assert_true((allowed[hits[i].doc / 64] >> (hits[i].doc % 64) & 1) != 0);
        if (i > 0)
            assert_true(hits[i - 1].score > hits[i].score ||
                        (hits[i - 1].score == hits[i].score && hits[i - 1].doc < hits[i].doc));
    }
}

static void lexical_agrees_with_brute_force(void **state)
{
    struct rng r = rng_seeded(1);
    struct lexical_scratch *s = lexical_scratch_new();

    (void)state;
    for (int round = 0; round < 12; round++) {
        struct corpus c;

        corpus_fill(&c, &r, 1 + rng_below(&r, 400));
        for (int i = 0; i < 20; i++) {
            uint64_t q[QUERY_MAX];
            size_t n = distinct_query(&r, q);

            check_query(&c, s, q, n, NULL, 1 + rng_below(&r, 30));
        }
        corpus_free(&c);
    }
    lexical_scratch_free(s);
}

/* More documents than are scored at a time. */
static void lexical_obeys_filters_of_every_selectivity(void **state)
{
    enum { DOCS = 9000 };
    struct rng r = rng_seeded(2);
    struct lexical_scratch *s = lexical_scratch_new();
    struct corpus c;

    (void)state;
    corpus_fill(&c, &r, DOCS);
    for (int i = 0; i < 60; i++) {
        uint64_t allowed[(DOCS + 63) / 64] = { 0 }, q[QUERY_MAX];
        uint64_t share = 1 + rng_below(&r, 100);
        size_t n = distinct_query(&r, q);

        for (size_t d = 0; d < c.n; d++)
            if (rng_below(&r, 100) < share * share / 100)
                allowed[d / 64] |= 1ull << (d % 64);
        check_query(&c, s, q, n, allowed, 1 + rng_below(&r, 30));
    }
    corpus_free(&c);
    lexical_scratch_free(s);
}

static void lexical_ranks_equal_documents_by_number(void **state)
{
    const uint64_t doc[] = { word(1), word(2) };
    struct lexical *x = lexical_new();
    struct lexical_scratch *s = lexical_scratch_new();
    struct lexical_hit hits[5];
    struct err err;
    size_t n;

    (void)state;
    for (int i = 0; i < 50; i++)
        assert_ok(lexical_add(x, doc, 2, &err), err);
    lexical_search(x, s, doc, 2, NULL, 5, hits, &n);
    assert_int_equal(n, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(hits[i].doc, i);
    lexical_free(x);
    lexical_scratch_free(s);
}

static void lexical_counts_long_documents_and_many_occurrences(void **state)
{
    struct lexical *x = lexical_new();
    struct lexical_scratch *s = lexical_scratch_new();
    uint64_t *terms = xcalloc(70000, sizeof(*terms));
    struct lexical_hit hit;
    struct err err;
    size_t n;

    (void)state;
    for (size_t i = 0; i < 70000; i++)
        terms[i] = i < 1000 ? word(1) : word(i);
    assert_ok(lexical_add(x, terms, 70000, &err), err);
    assert_int_equal(lexical_occurrences(x, word(1), 0), 255);
    assert_int_equal(lexical_occurrences(x, word(5000), 0), 1);
    assert_int_equal(lexical_occurrences(x, word(1), 1), 0);
    assert_int_equal(lexical_frequency(x, word(1)), 1);
    lexical_search(x, s, terms, 1, NULL, 1, &hit, &n);
    assert_true(n == 1 && hit.score > 0);
    free(terms);
    lexical_free(x);
    lexical_scratch_free(s);
}

static void lexical_searches_what_is_not_there(void **state)
{
    struct lexical *x = lexical_new();
    struct lexical_scratch *s = lexical_scratch_new();
    uint64_t q[100];
    struct lexical_hit hit;
    struct err err;
    size_t n = 9;

    (void)state;
    for (size_t i = 0; i < 100; i++)
        q[i] = word(i);
    lexical_search(x, s, q, 100, NULL, 1, &hit, &n);
    assert_int_equal(n, 0);
    assert_ok(lexical_add(x, q, 0, &err), err); /* an empty document is a document */
    assert_int_equal(lexical_docs(x), 1);
    lexical_search(x, s, q, 100, NULL, 1, &hit, &n);
    assert_int_equal(n, 0);
    lexical_search(x, s, q, 0, NULL, 1, &hit, &n);
    assert_int_equal(n, 0);
    lexical_free(x);
    lexical_scratch_free(s);
}

static void lexical_reads_back_what_it_wrote(void **state)
{
    struct rng r = rng_seeded(4);
    struct lexical_scratch *s = lexical_scratch_new();
    struct lexical *back = NULL, *old;
    FILE *f = tmpfile();
    struct corpus c;
    struct err err;
    long len;

    (void)state;
    corpus_fill(&c, &r, 300);
    assert_ok(lexical_write(c.x, f, &err), err);
    len = ftell(f);
    rewind(f);
    assert_ok(lexical_read(f, &back, &err), err);
    assert_int_equal(ftell(f), len);
    assert_int_equal(lexical_docs(back), 300);
    assert_int_equal(lexical_postings(back), lexical_postings(c.x));
    old = c.x;
    c.x = back;
    for (int i = 0; i < 20; i++) {
        uint64_t q[QUERY_MAX];
        size_t n = distinct_query(&r, q);

        check_query(&c, s, q, n, NULL, 10);
    }
    /* Cut anywhere, it is refused. */
    for (long cut = 0; cut < len; cut += 1 + len / 50) {
        struct lexical *never = NULL;

        assert_int_equal(ftruncate(fileno(f), len - 1 - cut), 0);
        rewind(f);
        assert_fails(lexical_read(f, &never, &err), err, ERR_CORRUPT);
    }
    fclose(f);
    lexical_free(old);
    corpus_free(&c);
    lexical_scratch_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lexical_agrees_with_brute_force),
        cmocka_unit_test(lexical_obeys_filters_of_every_selectivity),
        cmocka_unit_test(lexical_ranks_equal_documents_by_number),
        cmocka_unit_test(lexical_counts_long_documents_and_many_occurrences),
        cmocka_unit_test(lexical_searches_what_is_not_there),
        cmocka_unit_test(lexical_reads_back_what_it_wrote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
