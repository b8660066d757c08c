/* SPDX-License-Identifier: Apache-2.0 */
/* What must not leave in a pack is found, and what people write of kernels is not. */
#include "kb_fixture.h"

#include "screen.h"

static const char *const hosts[] = { "athena", "athena.example.org" };
static const char *const instances[] = { "b16_ragged", "n4096-s8" };
static const struct screen screen = { hosts, 2, instances, 2 };

static void what_gives_a_machine_or_a_person_away_is_found(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        { "See /home/ada/kernels/a.c for the code.", "path" },
        { "Built in ~/src/kernel.", "path" },
        { "include=\"/opt/cuda/include\"", "path" },
        { "the file (/tmp) fills up", "path" },
        { "-I/usr/include is fine", NULL }, /* joined to an option: not the start of a word */
        { "but -I/home/ada/include is not", "path" },
        { "path=/srv/models/x", "path" },
        { "C:/Users/ada/a.c", "path" },
        { "Ask ada@example.org about it.", "address" },
        { "root@gpu17 measured it", "address" },
        { "measured on gpu17.cluster.internal.", "host" },
        { "https://example.org/x", "host" },
        { "http://10.0.0.7:8000", "host" },
        { "node 192.168.1.20 is slow", "host" },
        { "On Athena it is slower.", "host" },
        { "key sk-abcdefghijklmnopqrst", "key" },
        { "token=hf_abcdefghijklmnop", "key" },
        { "digest 0123456789abcdef0123456789abcdef01", "key" },
        { "aZ3kQ9xT1bV7mN5cL2pR8sD4fG6hJ0wY", "key" },
        { "-----BEGIN PRIVATE KEY-----", "key" },
        { "Best on b16_ragged alone.", "workload" },
        { "tuned for n4096-s8, not more", "workload" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *found = screen_text(&screen, rows[i].text);

        if (rows[i].why == NULL ? found != NULL
                                : found == NULL || strstr(found, rows[i].why) == NULL)
            fail_msg("'%s' is found to hold %s", rows[i].text, found ? found : "nothing");
    }
}

static void what_people_write_of_kernels_is_not(void **state)
{
    static const char *const rows[] = {
        "Set KV_TILE to 64 rather than 16: keys per tile.",
        "Tiling the keys keeps them in L1/L2; bytes / flop falls from 4.0 to 0.5.",
        "Use fp8_e4m3 with 128x128 block scales and/or bf16 accumulation, e.g. 2:4 sparsity.",
        "GB/s and GFLOP/s go up 1.5x; 3/4 of the warps wait (see `cp.async.bulk`).",
        "wgmma.m64n64k16 needs sm_90a; libdevice 12.4.131, gcc 12.2.0, v1.2.3",
        "m@n with m >= n; a[i] @ b[j]",
        "compute-bound when tokens per expert > 64 (decode: no)",
        "online-softmax, split-k, double-buffering, __restrict__, -O3 -march=native",
        "the recording has it as a failure: build_failed",
        "workload 'b1' and b16 are short names",
        "candidate.c:12: error: 'x' undeclared; in <path>",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (screen_text(&screen, rows[i]) != NULL)
            fail_msg("'%s' is found to hold %s", rows[i], screen_text(&screen, rows[i]));
}

static void sources_may_hold_what_code_holds(void **state)
{
    static const char source[] =
        "#include <math.h>\n/* a/b */ static const char *p = \"/dev/null\";\n"
        "// see https://example.org/paper and 1.2.3.4\nint f(int x)\n"
        "{ return x //2\n /3; }\n";

    (void)state;
    assert_null(screen_source(&screen, source));
    assert_non_null(screen_source(&screen, "#include \"/home/ada/a.h\""));
    assert_non_null(screen_source(&screen, "/* by ada@example.org */"));
    assert_non_null(screen_source(&screen, "char k[] = \"sk-abcdefghijklmnopqrst\";"));
}

static void texts_within_json_are_found(void **state)
{
    json_t *j = json_pack("{s:[i, {s:s}]}", "a", 1, "b", "in /home/ada/x");

    (void)state;
    assert_non_null(screen_json(&screen, j));
    json_decref(j);
    j = json_pack("{s:i}", "/home/ada/x", 1);
    assert_non_null(screen_json(&screen, j));
    json_decref(j);
    j = json_pack("{s:i, s:[s, b, n]}", "KV_TILE", 16, "isa", "avx2", 1);
    assert_null(screen_json(&screen, j));
    json_decref(j);
}

static void only_names_that_are_no_words_are_instances(void **state)
{
    (void)state;
    assert_true(screen_is_instance_name("b16_ragged"));
    assert_true(screen_is_instance_name("t128"));
    assert_false(screen_is_instance_name("decode"));
    assert_false(screen_is_instance_name("b1"));
}

/* Looking at each part of a word that is nothing but signs once took quadratic time. */
static void a_megabyte_of_signs_is_looked_at_in_time(void **state)
{
    size_t len = 1 << 20;
    CLEANUP(freep) char *text = malloc(len + 1);

    (void)state;
    assert_non_null(text);
    memset(text, '=', len);
    text[len] = '\0';
    assert_null(screen_text(&screen, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gives_a_machine_or_a_person_away_is_found),
        cmocka_unit_test(what_people_write_of_kernels_is_not),
        cmocka_unit_test(sources_may_hold_what_code_holds),
        cmocka_unit_test(texts_within_json_are_found),
        cmocka_unit_test(only_names_that_are_no_words_are_instances),
        cmocka_unit_test(a_megabyte_of_signs_is_looked_at_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
