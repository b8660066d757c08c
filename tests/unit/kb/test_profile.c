/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles in plain words: a table of questions and what is understood of them. */
#include "unit/test.h"

#include "base/mem.h"
#include "profile.h"

static void plain_words_are_understood(void **state)
{
    static const struct {
        const char *text, *understood;
    } cases[] = {
        { "memory-bound, 64 experts, 8 tokens each, sm_90",
          "memory-bound, experts=64,tokens_per_expert=8, sm_90" },
        { "Compute bound MoE on H100 with 256 experts top-8 hidden size 7168",
          "compute-bound, experts=256,hidden=7168,top_k=8, sm_90" },
        { "bandwidth limited decode, batch of 16, 32 query heads, 4 kv heads, head dim 128, bf16",
          "memory-bound, batch=16,head_dim=128,heads=32,kv_heads=4,dtype=bf16" },
        { "batch 8 heads 32", "batch=8,heads=32" },
        { "experts=64 topk=8", "experts=64,top_k=8" },
        { "EP8, fp8 128x128 blocks, 4k context", "ep=8,length=4096,block_scale=128x128,dtype=fp8" },
        { "context of 4k, page size 16", "length=4096,page_size=16" },
        { "8 tokens per expert at seq_len 2048", "length=2048,tokens_per_expert=8" },
        { "latency-bound on sm 80", "latency-bound, sm_80" },
        { "avx512 prefetch", "cpu-avx512" },
        { "gfx1032 tiling", "gfx1032" },
        { "block scale 128 for float32", "block_scale=128x128" },
        /* Numbers without an axis, and words that only resemble, say nothing. */
        { "2 reasons why 17 is prime", "" },
        { "memory of the bound variable", "" },
        { "", "" },
        { "\xff\xfe\x80 ,,, 64", "" },
        { "1e400 experts, 99999999999999999999999999999999 experts", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[PROFILE_TEXT_MAX];
        struct profile p;

        profile_read(cases[i].text, &p);
        assert_string_equal(profile_text(&p, text, sizeof(text)), cases[i].understood);
        assert_int_equal(profile_is_empty(&p), cases[i].understood[0] == '\0');
    }
}

/* Any bytes: no crash, and what is said fits. */
static void any_bytes_are_read(void **state)
{
    char text[4096], said[PROFILE_TEXT_MAX];
    unsigned x = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct profile p;

        for (size_t i = 0; i + 1 < sizeof(text); i++) {
            x = x * 1103515245u + 12345u;
            text[i] = round % 2 ? " 0123456789,tkexps_hadbound="[(x >> 16) % 28]
                                : (char)((x >> 16) % 255 + 1);
        }
        text[sizeof(text) - 1] = '\0';
        profile_read(text, &p);
        assert_true(p.regime.n <= REGIME_AXES_MAX);
        assert_true(strlen(profile_text(&p, said, sizeof(said))) < sizeof(said));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_words_are_understood),
        cmocka_unit_test(any_bytes_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
