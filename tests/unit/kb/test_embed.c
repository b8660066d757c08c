/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in embedding: determinism, what is near what, arithmetic, hostile text. */
#include "unit/test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "embed.h"
#include "vocab.h"

static int setup(void **state)
{
    struct err err;

    *state = text_new();
    return *state != NULL && vocab_init(&err) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    text_free(*state);
    return 0;
}

static struct embedding of(struct text *t, const char *s, const struct embed_context *c)
{
    struct embedding e;

    embed_text(t, s, strlen(s), c, &e);
    return e;
}

static float cosine(struct text *t, const char *x, const char *y)
{
    struct embedding a = of(t, x, NULL), b = of(t, y, NULL);

    return embed_cosine(&a, &b);
}

static uint64_t fold(const struct embedding *e)
{
    return text_hash(0, (const char *)e->v, sizeof(e->v));
}

/* Another value here means that stored vectors change their meaning: raise the model id with it. */
static void embed_is_the_same_everywhere(void **state)
{
    const struct embed_context c = { .technique = "flash decoding",
                                     .family = "gqa_paged_decode",
                                     .dtype = "bfloat16",
                                     .language = "cuda",
                                     .bottleneck = "memory",
                                     .requires = "cluster,tma",
                                     .param = "KV_TILE",
                                     .with_value = "64",
                                     .without_value = "32" };
    struct embedding e =
        of(*state, "Split the KV cache across 8 CTAs; the memory-bound part gets shorter.", &c);
    struct text *other = text_new();
    struct embedding again = of(other,
                                "Split the KV cache across 8 CTAs; the memory-bound part "
                                "gets shorter.",
                                &c);

    assert_memory_equal(&e, &again, sizeof(e));
    assert_int_equal(fold(&e), 0xa229af485158f77c);
    text_free(other);
}

static void embed_scales_to_one_length(void **state)
{
    struct embedding e = of(*state, "keep partial sums in registers across the inner loop", NULL);
    float f[EMBED_DIM], sum = 0;

    assert_in_range(embed_dot(&e, &e), 236 * 236, 244 * 244);
    embed_to_float(&e, f);
    for (size_t i = 0; i < EMBED_DIM; i++)
        sum += f[i] * f[i];
    assert_true(fabsf(sum - 1) < 1e-5f);
    assert_true(fabsf(embed_cosine(&e, &e) - 1) < 1e-6f);
}

static void embed_puts_related_texts_nearer(void **state)
{
    struct text *t = *state;
    const char *claim = "Split the KV cache across CTAs and merge partial softmax results";

    assert_true(cosine(t, claim, "flash decoding") >
                cosine(t, claim, "unroll the inner loop by eight") + 0.1f);
    assert_true(cosine(t, claim, "splitting kv caches over blocks") >
                cosine(t, claim, "prefetch the expert weights") + 0.1f);
    /* Misspelt, yet mostly the same n-grams. */
    assert_true(cosine(t, "vectorization", "vectorisaton") > cosine(t, "vectorization", "tiling"));
    /* Synonyms meet in their concept. */
    assert_true(cosine(t, "shared memory padding", "avoid bank conflicts") > 0.3f);
}

static void embed_lets_context_count(void **state)
{
    struct embed_context gqa = { .family = "gqa_paged_decode" };
    struct embed_context moe = { .family = "moe_fp8_block_scale" };
    struct embedding q = of(*state, "wide loads", &gqa);
    struct embedding same = of(*state, "load 128 bits at a time", &gqa);
    struct embedding other = of(*state, "load 128 bits at a time", &moe);
    struct embedding none = of(*state, "", NULL), only = of(*state, "", &gqa);

    assert_true(embed_cosine(&q, &same) > embed_cosine(&q, &other) + 0.05f);
    assert_int_equal(embed_dot(&none, &none), 0);
    assert_true(embed_cosine(&none, &q) == 0);
    assert_true(embed_dot(&only, &only) > 0);
}

static void embed_puts_near_values_nearer(void **state)
{
    struct embed_context a = { .param = "TILE", .with_value = "64" };
    struct embed_context b = { .param = "TILE", .with_value = "128" };
    struct embed_context c = { .param = "TILE", .with_value = "4096" };
    struct embedding x = of(*state, "", &a), y = of(*state, "", &b), z = of(*state, "", &c);

    assert_true(embed_cosine(&x, &y) > embed_cosine(&x, &z));
}

static void embed_dots_equal_the_plain_products(void **state)
{
    struct embedding v[50];
    struct embedding_wide w;
    struct rng r = rng_seeded(5);
    int32_t out[50];

    (void)state;
    for (size_t i = 0; i < 50; i++)
        for (size_t k = 0; k < EMBED_DIM; k++)
            v[i].v[k] = i == 0 ? -128 : (int8_t)rng_u64(&r);
    embed_widen(&v[0], &w);
    for (size_t way = 0; way < 3; way++) {
        int32_t other[50];

        embed_dots(&w, v, 50, out);
        if (embed_dots_each(way, &w, v, 50, other))
            assert_memory_equal(out, other, sizeof(out));
    }
    for (size_t i = 0; i < 50; i++) {
        int64_t sum = 0;

        for (size_t k = 0; k < EMBED_DIM; k++)
            sum += v[0].v[k] * v[i].v[k];
        assert_int_equal(out[i], sum);
        assert_int_equal(embed_dot(&v[0], &v[i]), sum);
    }
}

static void embed_survives_hostile_text(void **state)
{
    struct rng r = rng_seeded(9);
    char bytes[8000];

    for (int round = 0; round < 50; round++) {
        struct embedding e;

        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] =
                round % 2 ? (char)rng_u64(&r) : (char)('a' + rng_below(&r, 26) * (i % 5 != 0));
        embed_text(*state, bytes, sizeof(bytes), NULL, &e);
        assert_in_range(embed_dot(&e, &e), 1, 300 * 300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_is_the_same_everywhere),
        cmocka_unit_test(embed_scales_to_one_length),
        cmocka_unit_test(embed_puts_related_texts_nearer),
        cmocka_unit_test(embed_lets_context_count),
        cmocka_unit_test(embed_puts_near_values_nearer),
        cmocka_unit_test(embed_dots_equal_the_plain_products),
        cmocka_unit_test(embed_survives_hostile_text),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
