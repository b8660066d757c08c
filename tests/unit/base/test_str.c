/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "unit/test.h"

static void str_parses_whole_numbers_only(void **state)
{
    uint64_t u;
    int64_t i;
    double d;

    (void)state;
    assert_true(str_to_u64("18446744073709551615", &u) && u == UINT64_MAX);
    assert_false(str_to_u64("18446744073709551616", &u));
    assert_false(str_to_u64("-1", &u));
    assert_false(str_to_u64(" 1", &u));
    assert_false(str_to_u64("1 ", &u));
    assert_false(str_to_u64("", &u));
    assert_true(str_to_i64("-5", &i) && i == -5);
    assert_false(str_to_i64("--5", &i));
    assert_true(str_to_double("-2.5e3", &d) && d == -2500);
    assert_false(str_to_double("nan", &d));
    assert_false(str_to_double("1e999", &d));
}

static void str_parses_durations_with_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = { { "90", 90000000000ull },   { "90s", 90000000000ull }, { "5m", 300000000000ull },
                 { "2h", 7200000000000ull }, { "250ms", 250000000ull }, { "0.5s", 500000000ull } };
    static const char *const bad[] = { "", "s", "5x", "-1s", "1e30h", "5 m" };
    uint64_t ns;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(str_to_duration_ns(good[i].text, &ns) && ns == good[i].ns);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(str_to_duration_ns(bad[i], &ns));
}

static void str_names_cannot_leave_a_folder(void **state)
{
    (void)state;
    assert_true(str_is_name("gqa_paged_decode_h32_kv4_d128_ps1"));
    assert_false(str_is_name(".."));
    assert_false(str_is_name("a/b"));
    assert_false(str_is_name(""));
    assert_false(str_is_name("-x"));
    assert_false(str_is_name("a b"));
}

static void str_hex_round_trips(void **state)
{
    uint8_t in[3] = { 0, 0xab, 0xff }, out[3];
    char hex[7];

    (void)state;
    str_hex(in, 3, hex);
    assert_string_equal(hex, "00abff");
    assert_true(str_unhex(hex, 3, out));
    assert_memory_equal(in, out, 3);
    assert_false(str_unhex("00abf", 3, out));
    assert_false(str_unhex("00abfg", 3, out));
    assert_true(str_is_hex("00abff", 6));
    assert_false(str_is_hex("00ABFF", 6));
}

static void str_visible_disarms_terminals_and_cuts_with_dots(void **state)
{
    static const char bytes[] = "a\x1b[31m\n\xff"
                                "é";
    char out[64], small[8];

    (void)state;
    assert_string_equal(str_visible(bytes, sizeof(bytes) - 1, out, sizeof(out)),
                        "a\\x1b[31m\\n\\xffé");
    assert_string_equal(str_visible("abcdefghij", 10, small, sizeof(small)), "abcd...");
    assert_string_equal(str_visible("abcdefg", 7, small, sizeof(small)), "abcdefg");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(str_parses_whole_numbers_only),
        cmocka_unit_test(str_parses_durations_with_units),
        cmocka_unit_test(str_names_cannot_leave_a_folder),
        cmocka_unit_test(str_hex_round_trips),
        cmocka_unit_test(str_visible_disarms_terminals_and_cuts_with_dots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
