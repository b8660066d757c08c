/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary: look-ups by name and synonym, texts that name techniques, the table itself. */
#include "unit/test.h"

#include "base/mem.h"
#include "text.h"
#include "vocab.h"

static int setup(void **state)
{
    struct err err;

    (void)state;
    return vocab_init(&err) == 0 && vocab_init(&err) == 0 ? 0 : -1;
}

static const char *canonical(const char *name)
{
    static char out[VOCAB_NAME_MAX];

    return vocab_canonical(name, out);
}

static void vocab_resolves_names_and_synonyms(void **state)
{
    (void)state;
    assert_string_equal(canonical("online-softmax"), "online-softmax");
    assert_string_equal(canonical("Online Softmax"), "online-softmax");
    assert_string_equal(canonical("flash decoding"), "split-kv");
    assert_string_equal(canonical("Flash-Decoding"), "split-kv");
    assert_string_equal(canonical("cache blocking"), "tiling");
    assert_string_equal(canonical("tiles"), "tiling");
    assert_string_equal(canonical("SIMD"), "vectorization");
    assert_string_equal(canonical("unroll"), "loop-unrolling");
}

static void vocab_leaves_other_names_alone_but_for_their_form(void **state)
{
    char name[300];

    (void)state;
    assert_int_equal(vocab_find("quantum entanglement"), -1);
    assert_string_equal(canonical("Quantum  Entanglement!"), "quantum-entanglement");
    assert_string_equal(canonical(""), "");
    assert_string_equal(canonical("?!"), "");
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(strlen(canonical(name)), VOCAB_NAME_MAX - 1);
}

static size_t scan(const char *s, uint16_t *out, size_t cap)
{
    struct text *t = text_new();
    struct text_scan sc;
    struct text_token tok;
    uint64_t stems[64];
    size_t n = 0;

    assert_non_null(t);
    text_scan_init(&sc, t, s, strlen(s));
    while (n < 64 && text_next(&sc, &tok))
        if (!tok.is_stop && !tok.is_compound)
            stems[n++] = tok.hash;
    text_free(t);
    return vocab_scan(stems, n, out, cap);
}

static void vocab_finds_techniques_in_a_sentence_longest_first(void **state)
{
    uint16_t out[8];

    (void)state;
    assert_int_equal(scan("split the KV cache across CTAs, then a tree reduction", out, 8), 2);
    assert_string_equal(vocab_at(out[0])->name, "split-kv");
    assert_string_equal(vocab_at(out[1])->name, "reduction-tree");
    assert_int_equal(scan("shared memory tiling, shared-memory tiles", out, 8), 1);
    assert_string_equal(vocab_at(out[0])->name, "shared-memory-staging");
    assert_int_equal(scan("nothing of the kind here", out, 8), 0);
    assert_int_equal(scan("tiling and unrolling", out, 1), 1);
}

static void vocab_table_is_sorted_complete_and_unambiguous(void **state)
{
    (void)state;
    for (size_t i = 0; i < vocab_count(); i++) {
        const struct vocab_entry *e = vocab_at(i);

        if (i > 0)
            assert_true(strcmp(vocab_at(i - 1)->name, e->name) < 0);
        assert_true(strlen(e->summary) > 10 && e->concepts[0] != NULL && e->synonyms[0] != NULL);
        assert_int_equal(vocab_find(e->name), i);
        for (size_t k = 0; k < VOCAB_SYNONYMS_MAX && e->synonyms[k] != NULL; k++)
            if (vocab_find(e->synonyms[k]) != (int)i)
                fail_msg("'%s' of %s is taken by %s", e->synonyms[k], e->name,
                         vocab_at((size_t)vocab_find(e->synonyms[k]))->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_resolves_names_and_synonyms),
        cmocka_unit_test(vocab_leaves_other_names_alone_but_for_their_form),
        cmocka_unit_test(vocab_finds_techniques_in_a_sentence_longest_first),
        cmocka_unit_test(vocab_table_is_sorted_complete_and_unambiguous),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
