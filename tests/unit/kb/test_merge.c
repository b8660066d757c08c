/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Derived state is a function of the set of facts: shuffled, repeated, split over several bases and
 * brought together, committed one by one or all at once, reopened or not, the digest is the same.
 */
#include "kb_fixture.h"

enum { CLAIMS = 24, EVIDENCE = 160, LINKS = 8, WITHDRAWN = 10, FACTS_MAX = 256 };

/* A fact as a recipe, so that a shuffled list of indices is a shuffled list of facts. */
struct recipe {
    enum fact_kind kind;
    uint64_t a, b;
};

struct recipes {
    size_t n;
    struct recipe list[FACTS_MAX];
};

static void add(struct recipes *r, enum fact_kind kind, uint64_t a, uint64_t b)
{
    assert_true(r->n < FACTS_MAX);
    r->list[r->n++] = (struct recipe){ .kind = kind, .a = a, .b = b };
}

static void recipes_make(struct recipes *r, uint64_t seed)
{
    struct rng rng = rng_seeded(seed);

    r->n = 0;
    for (uint64_t i = 0; i < CLAIMS; i++)
        add(r, FACT_CLAIM, i, 0);
    /* Some of it for claims that never come. */
    for (uint64_t i = 0; i < EVIDENCE; i++)
        add(r, FACT_EVIDENCE, rng_below(&rng, CLAIMS + 4), i);
    for (int i = 0; i < LINKS; i++) {
        uint64_t a = rng_below(&rng, CLAIMS + 4), b = rng_below(&rng, CLAIMS + 4);

        if (a != b)
            add(r, FACT_LINK, a, b);
    }
    for (int i = 0; i < WITHDRAWN; i++) {
        const struct recipe *e = &r->list[CLAIMS + rng_below(&rng, EVIDENCE)];

        add(r, FACT_RETRACTION, e->a, e->b);
    }
    add(r, FACT_RETRACTION, 3, UINT64_MAX); /* of claims */
    add(r, FACT_RETRACTION, CLAIMS + 2, UINT64_MAX);
}

static struct id evidence_id(uint64_t claim, uint64_t n)
{
    struct sample_evidence s;
    json_t *j = evidence_to_json(sample_evidence(&s, claim, n));
    struct err err;
    struct id id;

    assert_ok(id_of_json(j, &id, &err));
    json_decref(j);
    json_decref(s.features);
    return id;
}

static void put(struct kb_batch *b, const struct recipe *r)
{
    switch (r->kind) {
    case FACT_CLAIM:
        put_claim(b, r->a);
        break;
    case FACT_EVIDENCE:
        put_evidence(b, r->a, r->b);
        break;
    case FACT_LINK:
        put_link(b, r->a, r->b);
        break;
    case FACT_RETRACTION:
        if (r->b == UINT64_MAX)
            put_retraction(b, FACT_CLAIM, claim_id(r->a));
        else
            put_retraction(b, FACT_EVIDENCE, evidence_id(r->a, r->b));
        break;
    case FACT_EVALUATION:
    case FACT_COUNT:
        break;
    }
}

/* The digest after the facts of `order` were committed in batches of random size. */
static struct id digest_in_order(const struct recipes *r, const uint32_t *order, size_t n,
                                 struct rng *rng, bool reopen)
{
    struct tmp_folder f;
    struct kb_batch *b;
    struct kb *kb;
    struct id id;

    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    for (size_t i = 0; i < n; i++) {
        put(b, &r->list[order[i]]);
        if (rng_below(rng, 20) == 0)
            commit(b);
    }
    commit(b);
    kb_batch_free(b);
    if (reopen) {
        kb_close(kb);
        kb = base_open(f.path);
    }
    id = digest_of(kb);
    kb_close(kb);
    folder_remove(&f);
    return id;
}

static void in_order(uint32_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
}

static void any_order_and_repetition_give_the_same_digest(void **arg)
{
    struct recipes r;
    uint32_t order[2 * FACTS_MAX];
    struct id want, got;

    (void)arg;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct rng rng = rng_seeded(seed);

        recipes_make(&r, seed);
        in_order(order, r.n);
        want = digest_in_order(&r, order, r.n, &rng, false);
        for (int round = 0; round < 4; round++) {
            size_t n = r.n;

            for (size_t i = 0; i < r.n / 2; i++) /* half of them twice */
                order[n++] = (uint32_t)rng_below(&rng, r.n);
            in_order(order, r.n);
            rng_shuffle(&rng, order, n);
            got = digest_in_order(&r, order, n, &rng, round % 2 == 1);
            assert_string_equal(got.hex, want.hex);
        }
    }
}

/* Copies claims of a base into a batch of another, the way an import does. */
static int copy_claim(void *ctx, const struct insight *in)
{
    struct kb_batch *b = ctx;
    struct err err;

    assert_ok(kb_batch_add_claim(b, &in->claim, NULL, &err));
    return 0;
}

static void bases_that_share_facts_merge_into_the_same_digest(void **arg)
{
    struct recipes r;
    struct tmp_folder f[3];
    struct kb *kb[3];
    uint32_t order[FACTS_MAX];
    struct rng rng = rng_seeded(11);
    struct id want;

    (void)arg;
    recipes_make(&r, 11);
    in_order(order, r.n);
    want = digest_in_order(&r, order, r.n, &rng, false);
    for (int i = 0; i < 3; i++) {
        folder_make(&f[i]);
        kb[i] = base_open(f[i].path);
    }
    /* Each fact goes to one or two of three bases first... */
    for (size_t k = 0; k < r.n; k++)
        for (int copies = 0; copies < 2; copies++) {
            struct kb_batch *b = kb_batch_new(kb[rng_below(&rng, 3)]);

            put(b, &r.list[k]);
            commit(b);
            kb_batch_free(b);
        }
    /* ... then all to all, each base in an order of its own. */
    for (int i = 0; i < 3; i++) {
        struct kb_batch *b = kb_batch_new(kb[i]);
        struct id got;

        for (int from = 0; from < 3; from++)
            if (from != i)
                assert_int_equal(kb_each_insight(kb[from], copy_claim, b), 0);
        rng_shuffle(&rng, order, r.n);
        for (size_t k = 0; k < r.n; k++)
            put(b, &r.list[order[k]]);
        commit(b);
        kb_batch_free(b);
        got = digest_of(kb[i]);
        assert_string_equal(got.hex, want.hex);
    }
    for (int i = 0; i < 3; i++) {
        kb_close(kb[i]);
        folder_remove(&f[i]);
    }
}

static void the_digest_tells_different_facts_apart(void **arg)
{
    struct recipes r;
    uint32_t order[FACTS_MAX];
    struct rng rng = rng_seeded(5);
    struct id all, less;

    (void)arg;
    recipes_make(&r, 5);
    in_order(order, r.n);
    all = digest_in_order(&r, order, r.n, &rng, false);
    less = digest_in_order(&r, order, r.n - 1, &rng, false);
    assert_string_not_equal(all.hex, less.hex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_and_repetition_give_the_same_digest),
        cmocka_unit_test(bases_that_share_facts_merge_into_the_same_digest),
        cmocka_unit_test(the_digest_tells_different_facts_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
