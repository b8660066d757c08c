/* SPDX-License-Identifier: Apache-2.0 */
/* Text normalisation: splitting, compounds, stems, numbers, hostile bytes. */
#include "unit/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "text.h"

static int setup(void **state)
{
    *state = text_new();
    return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    text_free(*state);
    return 0;
}

/* The tokens as "word word [compound at]", stop words in parentheses. */
static void render(struct text *t, const char *s, size_t len, char *out, size_t size)
{
    struct text_scan sc;
    struct text_token tok;
    size_t n = 0;

    out[0] = '\0';
    text_scan_init(&sc, t, s, len);
    while (text_next(&sc, &tok) && n < size)
        n += (size_t)snprintf(out + n, size - n,
                              tok.is_compound ? "[%.*s] "
                              : tok.is_stop   ? "(%.*s) "
                                              : "%.*s ",
                              tok.is_compound ? (int)tok.len : (int)strlen(tok.word),
                              tok.is_compound ? s + tok.offset : tok.word);
}

static void assert_tokens(struct text *t, const char *s, const char *expected)
{
    char out[1024];

    render(t, s, strlen(s), out, sizeof(out));
    assert_string_equal(out, expected);
}

static uint64_t hash_of(struct text *t, const char *word)
{
    struct text_scan sc;
    struct text_token tok = { 0 }, last = { 0 };

    text_scan_init(&sc, t, word, strlen(word));
    while (text_next(&sc, &tok))
        last = tok;
    return last.hash;
}

static void text_splits_on_what_is_no_letter_or_digit(void **state)
{
    assert_tokens(*state, "Split the KV-cache, 2 CTAs/SM!",
                  "split (the) kv cache [KV-cache] 2 ctas sm ");
    assert_tokens(*state, "KV_TILE=64", "kv tile [KV_TILE] 64 ");
    assert_tokens(*state, "x 1.5 times v2.", "x 1.5 times v2 ");
    assert_tokens(*state, "- -a- --b", "(a) b ");
    assert_tokens(*state, "", "");
}

static void text_stems_words_and_keeps_compounds_apart(void **state)
{
    struct text *t = *state;

    assert_true(hash_of(t, "tiling") == hash_of(t, "Tiles"));
    assert_true(hash_of(t, "blocks") == hash_of(t, "blocking"));
    assert_true(hash_of(t, "online-softmax") == hash_of(t, "Online_softmax"));
    assert_true(hash_of(t, "online-softmax") != hash_of(t, "softmax-online"));
    assert_true(hash_of(t, "online-softmax") != hash_of(t, "softmax"));
    assert_true(hash_of(t, "sm90") != hash_of(t, "sm80"));
}

static void text_reads_numbers(void **state)
{
    struct text_scan sc;
    struct text_token tok;

    text_scan_init(&sc, *state, "128 99999999999 1.5 h32", 23);
    assert_true(text_next(&sc, &tok) && tok.is_number && tok.number == 128);
    assert_true(text_next(&sc, &tok) && tok.is_number && tok.number == UINT32_MAX);
    assert_true(text_next(&sc, &tok) && tok.is_number && tok.number == 1);
    assert_true(text_next(&sc, &tok) && !tok.is_number);
    assert_false(text_next(&sc, &tok));
}

static void text_keeps_letters_of_other_scripts_and_splits_on_their_signs(void **state)
{
    assert_tokens(*state,
                  "na\xc3\xafve 64\xc3\x97"
                  "128 a\xe2\x80\x94"
                  "b",
                  "na\xc3\xafve 64 128 (a) b ");
    assert_tokens(*state, "\xe7\xbc\x93\xe5\xad\x98", "\xe7\xbc\x93\xe5\xad\x98 ");
}

static void text_survives_bytes_that_are_no_text(void **state)
{
    struct rng r = rng_seeded(3);
    char bytes[6000];

    for (int round = 0; round < 200; round++) {
        struct text_scan sc;
        struct text_token tok;
        size_t end = 0;

        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (char)rng_u64(&r);
        text_scan_init(&sc, *state, bytes, sizeof(bytes));
        while (text_next(&sc, &tok)) {
            assert_true(tok.len > 0 && tok.offset + tok.len <= TEXT_BYTES_MAX);
            assert_true(tok.offset + tok.len >= end);
            assert_true(strlen(tok.word) <= TEXT_WORD_MAX && tok.hash != 0);
            end = tok.offset + tok.len;
        }
    }
    assert_tokens(*state, "ok\xff\xfe\xc0\x80ok", "ok ok ");
}

static void text_cuts_long_words_and_long_texts(void **state)
{
    char text[TEXT_BYTES_MAX + 100], out[256];

    memset(text, 'q', sizeof(text));
    render(*state, text, sizeof(text), out, sizeof(out));
    assert_int_equal(strlen(out), TEXT_WORD_MAX + 1);
    memset(text, ' ', TEXT_BYTES_MAX);
    render(*state, text, sizeof(text), out, sizeof(out));
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_splits_on_what_is_no_letter_or_digit),
        cmocka_unit_test(text_stems_words_and_keeps_compounds_apart),
        cmocka_unit_test(text_reads_numbers),
        cmocka_unit_test(text_keeps_letters_of_other_scripts_and_splits_on_their_signs),
        cmocka_unit_test(text_survives_bytes_that_are_no_text),
        cmocka_unit_test(text_cuts_long_words_and_long_texts),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
