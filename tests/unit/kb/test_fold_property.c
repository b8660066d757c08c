/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A property: whatever facts there are, derived state depends on their set alone. Random facts of
 * every kind (near-duplicate claims, evidence of both signs and failures, withdrawals before and
 * after what they withdraw, links, evaluations) are shuffled, repeated, split over several bases
 * with and without origins, and merged in random orders through the calls that export and import
 * use. And the reverse: one fact more, less or other is another digest.
 */
#include "kb_fixture.h"

enum { BASES = 3, FACTS_MAX = 200, SEEDS = 25 };

struct fact {
    enum fact_kind kind;
    json_t *json;
};

struct facts {
    size_t n;
    struct fact list[FACTS_MAX];
    struct rng rng;
};

static uint64_t below(struct facts *f, uint64_t n)
{
    return rng_below(&f->rng, n);
}

static struct id add(struct facts *f, enum fact_kind kind, json_t *json)
{
    struct err err;
    struct id id;

    assert_non_null(json);
    assert_true(f->n < FACTS_MAX);
    f->list[f->n++] = (struct fact){ kind, json };
    assert_ok(id_of_json(json, &id, &err));
    return id;
}

static struct id any_claim(struct facts *f)
{
    static const char *const techniques[] = { "tiling", "online-softmax", "online_softmax" };
    static const char *const wordings[][2] = {
        { "Split the keys by", "so that loads overlap with arithmetic." },
        { "Splitting keys by", "makes the loads overlap with arithmetic." },
        { "Do not split the keys by", "loads overlap with arithmetic anyway." },
        { "Split the queries by", "so that loads overlap with arithmetic." },
    };
    const char *const *words = wordings[below(f, ARRAY_LEN(wordings))];
    bool tunable = below(f, 2);
    char statement[160];
    struct claim c = { .technique = (char *)techniques[below(f, 3)],
                       .statement = statement,
                       .mechanism = (char *)(below(f, 2) ? "" : "more in flight"),
                       .family = (char *)"gqa",
                       .dtype = (char *)"bf16",
                       .language = (char *)"c",
                       .bottleneck = (char *)"memory",
                       .requires = (char *)"",
                       .param = (char *)(tunable ? "SPLIT" : ""),
                       .with_value = (char *)(tunable ? "4" : ""),
                       .without_value = (char *)(tunable ? "1" : "") };

    snprintf(statement, sizeof(statement), "%s %d %s", words[0], below(f, 2) ? 4 : 8, words[1]);
    return add(f, FACT_CLAIM, claim_to_json(&c));
}

static struct id any_evidence(struct facts *f, struct id claim)
{
    static const char *const classes[] = { "cpu-avx2", "cpu-avx512", "sm_90" };
    static const char *const shapes[] = { "heads=4", "heads=8" };
    static const char *const failures[] = { "crashed", "wrong_value" };
    bool failure = below(f, 4) == 0;
    uint64_t heads = 1 + below(f, 6), class = below(f, 3);
    /* Often the sign hangs on the number or the class: conditions come and go. */
    int64_t effect = (int64_t)below(f, 200000) * (heads > 3 || class == 0 ? 1 : -1);
    struct evidence e = { .claim = claim,
                          .kind = (char *)(failure ? "failure" : "pair"),
                          .with = id_of_number("with", below(f, 1000)),
                          .effect_q = failure || below(f, 9) == 0 ? 0 : effect,
                          .sd_q = failure ? 0 : 9000,
                          .steered = below(f, 3) == 0,
                          .failure = (char *)(failure ? failures[below(f, 2)] : ""),
                          .task = (char *)"gqa_h32",
                          .device = (char *)"cpu",
                          .device_class = (char *)classes[class],
                          .shape = (char *)shapes[below(f, 2)],
                          .toolchain = (char *)(below(f, 2) ? "gcc 12.2.0" : ""),
                          .measured_at_s = 1700000000 + below(f, 20) };

    if (!failure)
        e.without = id_of_number("without", below(f, 1000));
    e.features = below(f, 5) ? json_pack("{s:I, s:f}", "heads", (json_int_t)heads, "load",
                                         (double)below(f, 4) / 2 - 0.5)
                             : json_object();
    {
        struct id id = add(f, FACT_EVIDENCE, evidence_to_json(&e));

        json_decref(e.features);
        return id;
    }
}

static void add_retraction(struct facts *f, enum fact_kind kind, struct id target)
{
    struct retraction r = { .kind = kind, .target = target, .reason = (char *)"measured wrongly" };

    add(f, FACT_RETRACTION, retraction_to_json(&r));
}

static void add_link(struct facts *f, struct id a, struct id b)
{
    struct link l = { .a = a, .b = b };
    int order = strcmp(a.hex, b.hex);

    if (order == 0)
        return;
    if (order > 0)
        l = (struct link){ .a = b, .b = a };
    add(f, FACT_LINK, link_to_json(&l));
}

static void facts_make(struct facts *f, uint64_t seed)
{
    struct id claims[16], evidence[120];
    size_t n = 6 + seed % 8;

    f->n = 0;
    f->rng = rng_seeded(seed);
    for (size_t i = 0; i < n; i++)
        claims[i] = any_claim(f);
    claims[n] = id_of_number("claim that never comes", seed);
    for (size_t i = 0; i < 100; i++)
        evidence[i] = any_evidence(f, claims[below(f, n + 1)]);
    for (size_t i = 0; i < 8; i++)
        add_retraction(f, FACT_EVIDENCE, evidence[below(f, 100)]);
    add_retraction(f, FACT_EVIDENCE, id_of_number("evidence that never comes", seed));
    add_retraction(f, FACT_CLAIM, claims[below(f, n + 1)]);
    for (size_t i = 0; i < 2; i++)
        add_link(f, claims[below(f, n + 1)], claims[below(f, n + 1)]);
    for (size_t i = 0; i < 3; i++) {
        struct sample_evaluation s;
        json_t *j = evaluation_to_json(sample_evaluation(&s, below(f, 50)));

        json_decref(s.e.assignment);
        add(f, FACT_EVALUATION, j);
    }
}

static void facts_release(struct facts *f)
{
    for (size_t i = 0; i < f->n; i++)
        json_decref(f->list[i].json);
}

struct base {
    struct tmp_folder folder;
    struct kb *kb;
};

/* Hundreds of small bases: in memory where there is such a folder, for disks make each one wait. */
static void base_make(struct base *b)
{
    str_copy(b->folder.path, sizeof(b->folder.path), "/dev/shm/ks-kb-XXXXXX");
    if (mkdtemp(b->folder.path) == NULL)
        folder_make(&b->folder);
    b->kb = base_open(b->folder.path);
}

static void base_remove(struct base *b)
{
    kb_close(b->kb);
    folder_remove(&b->folder);
}

static void some_origin(struct kb_batch *b, struct rng *rng)
{
    static const char *const origins[] = { "", "key one", "key two" };
    struct err err;

    assert_ok(kb_batch_set_origin(b, origins[rng_below(rng, 3)], &err));
}

/* Adds the facts of `order` in batches of random size, from random origins. */
static void put_all(struct kb *kb, const struct facts *f, const uint32_t *order, size_t n,
                    struct rng *rng)
{
    struct kb_batch *b = kb_batch_new(kb);
    struct err err;

    for (size_t i = 0; i < n; i++) {
        const struct fact *fact = &f->list[order[i]];

        some_origin(b, rng);
        assert_ok(kb_batch_add_fact(b, fact->kind, fact->json, NULL, &err));
        if (rng_below(rng, 40) == 0)
            commit(b);
    }
    commit(b);
    kb_batch_free(b);
}

/* All facts once, in the order in which they were made, from here: what all others must equal. */
static struct id digest_plain(const struct facts *f, size_t n)
{
    struct base base;
    struct kb_batch *b;
    struct err err;
    struct id id;

    base_make(&base);
    b = kb_batch_new(base.kb);
    for (size_t i = 0; i < n; i++)
        assert_ok(kb_batch_add_fact(b, f->list[i].kind, f->list[i].json, NULL, &err));
    commit(b);
    kb_batch_free(b);
    id = digest_of(base.kb);
    base_remove(&base);
    return id;
}

struct copied {
    size_t n;
    struct fact list[FACTS_MAX];
};

static int copy_fact(void *ctx, uint64_t seq, enum fact_kind kind, const struct id *id,
                     const json_t *fact)
{
    struct copied *c = ctx;

    (void)seq;
    (void)id;
    assert_true(c->n < FACTS_MAX);
    c->list[c->n++] = (struct fact){ kind, json_incref((json_t *)fact) };
    return 0;
}

/* Everything that `from` has into `to`, in an order of its own. */
static void merge(struct kb *to, struct kb *from, struct rng *rng)
{
    struct kb_batch *b = kb_batch_new(to);
    uint32_t order[FACTS_MAX];
    struct copied c = { 0 };
    struct err err;

    assert_ok(kb_each_fact(from, 1, copy_fact, &c, &err));
    for (size_t i = 0; i < c.n; i++)
        order[i] = (uint32_t)i;
    rng_shuffle(rng, order, c.n);
    some_origin(b, rng);
    for (size_t i = 0; i < c.n; i++) {
        const struct fact *fact = &c.list[order[i]];

        assert_ok(kb_batch_add_fact(b, fact->kind, fact->json, NULL, &err));
        if (rng_below(rng, 60) == 0)
            commit(b);
    }
    commit(b);
    kb_batch_free(b);
    for (size_t i = 0; i < c.n; i++)
        json_decref(c.list[i].json);
}

static void split(struct base *bases, const struct facts *f, struct rng *rng)
{
    for (int i = 0; i < BASES; i++) {
        uint32_t order[2 * FACTS_MAX];
        size_t n = 0;

        /* The first has its share for certain: together they have all. */
        for (size_t k = 0; k < f->n; k++) {
            if (k % BASES == (size_t)i || rng_below(rng, 4) == 0)
                order[n++] = (uint32_t)k;
            if (k % BASES == (size_t)i && rng_below(rng, 4) == 0)
                order[n++] = (uint32_t)k;
        }
        rng_shuffle(rng, order, n);
        put_all(bases[i].kb, f, order, n, rng);
    }
}

static void bases_merged_in_any_order_have_one_digest(void **arg)
{
    struct facts f;

    (void)arg;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct rng rng = rng_derive(seed, "merge", 0);
        struct base bases[BASES];
        struct id want;

        facts_make(&f, seed);
        want = digest_plain(&f, f.n);
        for (int i = 0; i < BASES; i++)
            base_make(&bases[i]);
        split(bases, &f, &rng);
        /* The first and the second take all of the others; the third takes the first alone. */
        merge(bases[0].kb, bases[2].kb, &rng);
        merge(bases[0].kb, bases[1].kb, &rng);
        merge(bases[1].kb, bases[0].kb, &rng);
        merge(bases[1].kb, bases[2].kb, &rng);
        merge(bases[2].kb, bases[0].kb, &rng);
        if (seed % 5 == 0) {
            kb_close(bases[1].kb);
            bases[1].kb = base_open(bases[1].folder.path);
        }
        for (int i = 0; i < BASES; i++) {
            struct id got = digest_of(bases[i].kb);

            if (strcmp(got.hex, want.hex) != 0)
                fail_msg("seed %ju: base %d has another digest", (uintmax_t)seed, i);
            base_remove(&bases[i]);
        }
        facts_release(&f);
    }
}

/* The insights alone: the facts' own ids would give any change away. */
static int describe(void *ctx, const struct insight *in)
{
    struct buf *b = ctx;

    assert_int_equal(buf_addf(b, "%.12s %s %.12s %s %d %u %u %lld;", in->id.hex,
                              insight_state_name(in->state), in->same_as.hex, in->condition,
                              in->contradicted, in->all.blind, in->all.failures,
                              (long long)in->all.effect_q),
                     0);
    return 0;
}

static char *insights_of(const struct facts *f, size_t without)
{
    struct buf text = { .max = 1 << 20 };
    struct base base;
    struct kb_batch *b;
    struct err err;

    base_make(&base);
    b = kb_batch_new(base.kb);
    for (size_t i = 0; i < f->n; i++)
        if (i != without)
            assert_ok(kb_batch_add_fact(b, f->list[i].kind, f->list[i].json, NULL, &err));
    commit(b);
    kb_batch_free(b);
    assert_int_equal(kb_each_insight(base.kb, describe, &text), 0);
    base_remove(&base);
    return buf_take(&text);
}

static void every_fact_less_is_another_digest(void **arg)
{
    struct facts f;
    size_t claims = 0;

    (void)arg;
    facts_make(&f, 7);
    for (size_t n = f.n; n > f.n - 4; n--) {
        struct id more = digest_plain(&f, n), less = digest_plain(&f, n - 1);

        if (strcmp(more.hex, less.hex) == 0) { /* only when the fact was there before */
            bool twice = false;

            for (size_t i = 0; i + 1 < n; i++)
                twice |= json_equal(f.list[i].json, f.list[n - 1].json);
            assert_true(twice);
        }
    }
    /* And the fold itself, not only the list of facts, knows the difference. */
    for (size_t i = 0; i < f.n && claims < 3; i++) {
        CLEANUP(freep) char *all = insights_of(&f, SIZE_MAX), *less = insights_of(&f, i);

        if (f.list[i].kind == FACT_CLAIM)
            claims += strcmp(all, less) != 0;
    }
    assert_int_equal(claims, 3);
    facts_release(&f);
}

/* Another effect in one of many measurements, of the same size: caught by the digest. */
static void one_other_number_is_another_digest(void **arg)
{
    struct id want, got;
    struct facts f;

    (void)arg;
    facts_make(&f, 3);
    want = digest_plain(&f, f.n);
    for (size_t i = 0; i < f.n; i++) {
        json_int_t effect = json_integer_value(json_object_get(f.list[i].json, "effect_q"));

        if (f.list[i].kind != FACT_EVIDENCE || effect == 0)
            continue;
        json_object_set_new(f.list[i].json, "effect_q", json_integer(effect + 1));
        break;
    }
    got = digest_plain(&f, f.n);
    assert_string_not_equal(got.hex, want.hex);
    facts_release(&f);
}

/* The generator makes what the property is about. */
static int look(void *ctx, const struct insight *in)
{
    bool *seen = ctx;

    seen[0] |= in->state == INSIGHT_SUPERSEDED;
    seen[1] |= in->when.op == INSIGHT_AT_MOST;
    seen[2] |= in->when.op == INSIGHT_IS;
    seen[3] |= in->contradicted;
    seen[4] |= in->n_failures > 1;
    seen[5] |= in->state == INSIGHT_RETRACTED;
    seen[6] |= in->n_foreign > 0;
    return 0;
}

static void the_random_facts_cover_what_folds_do(void **arg)
{
    bool seen[7] = { false };
    struct facts f;

    (void)arg;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct rng rng = rng_seeded(seed);
        uint32_t order[FACTS_MAX];
        struct base base;

        facts_make(&f, seed);
        for (size_t i = 0; i < f.n; i++)
            order[i] = (uint32_t)i;
        base_make(&base);
        put_all(base.kb, &f, order, f.n, &rng);
        assert_int_equal(kb_each_insight(base.kb, look, seen), 0);
        base_remove(&base);
        facts_release(&f);
    }
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        if (!seen[i])
            fail_msg("no seed has case %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bases_merged_in_any_order_have_one_digest),
        cmocka_unit_test(every_fact_less_is_another_digest),
        cmocka_unit_test(one_other_number_is_another_digest),
        cmocka_unit_test(the_random_facts_cover_what_folds_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
