/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs in answers: which fence is meant, blocks that must fit, what is seen before a build,
 * tunables, and that the grammar a model is shown is the one that is read.
 */
#include <math.h>

#include "base/mem.h"
#include "search/artifact.h"
#include "search/space.h"
#include "unit/test.h"

#define KERNEL "int ks_kernel(const struct ks_call *call)\n{\n    return call->abi != 1;\n}\n"
#define FENCED(text) "```c\n" text "```\n"

static struct artifact read_ok(const char *answer, const char *base)
{
    json_auto_t *errors = json_array();
    struct artifact a;
    struct err err;

    assert_ok(artifact_parse("c", answer, base, &a, errors, &err), err);
    assert_int_equal(json_array_size(errors), 0);
    return a;
}

/* The answer is refused, and one of the sentences has `part`; returns how many there are. */
static size_t refused(const char *answer, const char *base, const char *part)
{
    json_auto_t *errors = json_array();
    struct artifact a;
    struct err err;
    size_t i;
    json_t *e;
    bool found = false;

    assert_fails(artifact_parse("c", answer, base, &a, errors, &err), err, ERR_INVALID);
    assert_true(json_array_size(errors) > 0);
    json_array_foreach (errors, i, e)
        found = found || strstr(json_string_value(e), part) != NULL;
    if (!found) {
        CLEANUP(freep) char *all = json_dumps(errors, JSON_INDENT(1));

        fail_msg("no error mentions '%s': %s", part, all);
    }
    return json_array_size(errors);
}

/* The program, alone in a fence, is refused with a sentence that has `part`. */
static void bad(const char *program, const char *part)
{
    CLEANUP(freep) char *answer = xmalloc(strlen(program) + 32);

    snprintf(answer, strlen(program) + 32, "```c\n%s```\n", program);
    refused(answer, NULL, part);
}

static void good(const char *program)
{
    CLEANUP(freep) char *answer = xmalloc(strlen(program) + 32);
    struct artifact a;

    snprintf(answer, strlen(program) + 32, "```c\n%s```\n", program);
    a = read_ok(answer, NULL);
    assert_string_equal(a.source, program);
    artifact_release(&a);
}

static void a_program_in_a_fence_is_taken_byte_by_byte(void **state)
{
    static const char program[] = "/* 0x1.62e42fp-1f stays \t\r\n */ \n" KERNEL "\n\n";
    struct artifact a = read_ok("Here it is.\n\n```c\n/* 0x1.62e42fp-1f stays \t\r\n */ \n" KERNEL
                                "\n\n```\nIt is fast.\n",
                                NULL);

    (void)state;
    assert_string_equal(a.source, program);
    assert_false(a.patched);
    assert_false(a.has_expected);
    assert_string_equal(a.note, "");
    assert_int_equal(json_array_size(json_object_get(a.space, "parameters")), 0);
    artifact_release(&a);
}

static void fences_may_be_tagged_in_other_ways(void **state)
{
    static const char *const opens[] = { "```c", "```C",  "``` c ", "```",
                                         "~~~c", "````c", "```cpp", "   ```c" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(opens); i++) {
        char answer[400];
        struct artifact a;

        snprintf(answer, sizeof(answer), "%s\n" KERNEL "%s\n", opens[i],
                 opens[i][0] == '~'   ? "~~~"
                 : opens[i][3] == '`' ? "````"
                                      : "```");
        a = read_ok(answer, NULL);
        assert_string_equal(a.source, KERNEL);
        artifact_release(&a);
    }
    refused("```python\n" KERNEL "```\n", NULL, "neither a fence tagged c");
}

static void of_several_fences_the_one_with_the_kernel_is_meant(void **state)
{
    struct artifact a =
        read_ok("The old loop:\n" FENCED("for (;;) {\n") "The new program:\n" FENCED(
                    KERNEL) "Build it with\n```sh\nmake\n```\n",
                NULL);

    (void)state;
    assert_string_equal(a.source, KERNEL);
    artifact_release(&a);
    refused(FENCED(KERNEL) FENCED(KERNEL), NULL, "two programs");
    refused(FENCED("int a;\n") FENCED("int b;\n"), NULL, "no fence that defines ks_kernel");
}

static void answers_without_a_program_say_what_is_missing(void **state)
{
    (void)state;
    refused("", NULL, "empty");
    refused(" \n", NULL, "empty");
    refused("I cannot do this.", NULL, "neither a fence");
    refused("I cannot do this.", "x\n", "nor blocks");
    refused(KERNEL, NULL, "neither a fence");
    refused("\xff\xfe", NULL, "not UTF-8");
    refused(FENCED("int f(void) { return 0; }\n"), NULL, "does not define ks_kernel");
    refused(FENCED("int ks_kernel(const struct ks_call *call);\n"), NULL, "does not define");
    refused(FENCED("// int ks_kernel(void) { }\nchar s[] = \"int ks_kernel(void) { }\";\n"), NULL,
            "does not define");
    refused(FENCED("#if 0\n" KERNEL "#endif\n"), NULL, "does not define");
    refused(FENCED("static " KERNEL), NULL, "static");
    refused(FENCED(""), NULL, "empty");
}

static void cut_off_answers_are_recognised(void **state)
{
    (void)state;
    refused("```c\n" KERNEL, NULL, "cut off");
    refused("```c\nint ks_kernel(const struct ks_call *c)\n{\n    for (", NULL, "cut off");
    bad("int ks_kernel(const struct ks_call *c)\n{\n    if (c) {\n        return 0;\n}\n",
        "never closed");
    bad(KERNEL "/* and then\n", "comment that begins on line 5");
    bad(KERNEL "#ifdef A\nint a;\n", "no #endif");
    bad(KERNEL "char s[] = \"abc\n;\n", "not closed on its line");
    bad(KERNEL "#endif\n", "has no #if");
    bad(KERNEL "}\n", "closes nothing");
    bad("int ks_kernel(void)\n{\n    return (1];\n}\n", "meets the '('");
    refused("<<<<<<< SEARCH\nint a;\n=======\nint b;\n", "int a;\n", "cut off");
    refused("<<<<<<< SEARCH\nint a;\n", "int a;\n", "cut off");
}

static void what_c_allows_is_not_taken_for_an_error(void **state)
{
    (void)state;
    good("char a = '\"', b = '\\'', c = '{', *s = \"}\\\"(\"; /* ' \" { */ // ( ' \"\n" KERNEL);
    good("#if defined(A)\nint f(void) {\n#else\nint g(void) {\n#endif\n    return 0;\n}\n" KERNEL);
    good("#ifdef __cplusplus\nextern \"C\" {\n#endif\n" KERNEL "#ifdef __cplusplus\n}\n#endif\n");
    good("#define BEGIN {\n#define END }\nint f(void) BEGIN return 0; END\n" KERNEL);
    good("#define LONG(x) \\\n    ((x) + \\\n     1)\n// a comment that goes on \\\n { "
         "here\n" KERNEL);
    good("#if 0\nit doesn't matter what's (here\n#endif\n" KERNEL);
    good("#include <immintrin.h>\n#include \"ks_task.h\"\n# include /* x */ <math.h>\n" KERNEL);
    good("__attribute__((noinline)) static float f(float a[8]) { return a[0]; }\n"
         "__attribute__((visibility(\"default\")))\n" KERNEL);
}

static void includes_of_other_files_are_refused(void **state)
{
    (void)state;
    bad("#include \"mine.h\"\n" KERNEL, "the only header in quotes");
    bad("#include \"/etc/passwd\"\n" KERNEL, "the only header in quotes");
    bad("#include </etc/passwd>\n" KERNEL, "outside the standard headers");
    bad("#include <../../x.h>\n" KERNEL, "outside the standard headers");
    bad("#include HEADER\n" KERNEL, "no plain file name");
    bad("  #\tinc\\\nlude \"mine.h\"\n" KERNEL, "the only header in quotes");
    bad("%:include \"mine.h\"\n" KERNEL, "the only header in quotes");
}

static void an_answer_says_what_it_did(void **state)
{
    struct artifact a = read_ok("NOTE: Keeps the tile in registers.\n**EXPECT:** 1.8x +- 20%\n"
                                "USES: [i-12], `i-40`, i-12\n" FENCED("// NOTE: not this\n" KERNEL),
                                NULL);

    (void)state;
    assert_string_equal(a.note, "Keeps the tile in registers.");
    assert_true(a.has_expected);
    assert_true(fabs(a.expected - log(1.8)) < 1e-12);
    assert_true(fabs(a.expected_sd - log(1.2)) < 1e-12);
    assert_int_equal(a.n_uses, 2);
    assert_string_equal(a.uses[0], "i-12");
    assert_string_equal(a.uses[1], "i-40");
    artifact_release(&a);
}

static void expectations_are_read_or_refused_but_never_misread(void **state)
{
    static const struct {
        const char *text;
        double mean, sd;
    } rows[] = {
        { "1.8", 1.8, 1 },
        { "~1.8x", 1.8, 1 },
        { "0.5 x", 0.5, 1 },
        { "2x +/- 10 %", 2, 1.1 },
        { "2x \xc2\xb1 10%", 2, 1.1 },
        { "2-8x", 4, 2 },
        { "2x - 8x.", 4, 2 },
        { "2x (if it streams)", 2, 1 },
        { "2x +- 10%, I hope", 2, 1.1 },
        { "2x over the baseline", 2, 1 },
    };
    static const char *const wrong[] = {
        "fast",         "80%",      "1.8x or 2x", "1.8x, perhaps 2x",
        "1.8x faster",  "1e9x",     "0x",         "1.8x +- (20%)",
        "1.8x +-",      "1.8x 20%", "1.8x + 20%", "-2x",
        "1.8x +- much", "nan",      "2-1x",       "0x10"
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char answer[400];
        struct artifact a;

        snprintf(answer, sizeof(answer), "EXPECT: %s\n" FENCED(KERNEL), rows[i].text);
        a = read_ok(answer, NULL);
        assert_true(a.has_expected);
        assert_true(fabs(a.expected - log(rows[i].mean)) < 1e-12);
        assert_true(fabs(a.expected_sd - log(rows[i].sd)) < 1e-12);
        artifact_release(&a);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char answer[400];

        snprintf(answer, sizeof(answer), "EXPECT: %s\n" FENCED(KERNEL), wrong[i]);
        refused(answer, NULL, "neither like '1.8x'");
    }
    refused("EXPECT: 2x\nEXPECT: 3x\n" FENCED(KERNEL), NULL, "something else");
}

/* ---- blocks ---- */

static const char base[] = "static int one(void)\n{\n    return 1;\n}\n\n"
                           "static int two(void)\n{\n    return 2;\n}\n\n" KERNEL;

#define BLOCK(old, new) "<<<<<<< SEARCH\n" old "=======\n" new ">>>>>>> REPLACE\n"

static void blocks_change_exactly_what_they_name(void **state)
{
    struct artifact a =
        read_ok("NOTE: two is three\n```c\n" BLOCK("    return 2;  \n", "    return 3;\n")
                    BLOCK("    return 3;\n}\n", "    return 4;\n}\n") "```\n" BLOCK(
                        "static int one(void)\n{\n    return 1;\n}\n\n", ""),
                base);

    (void)state;
    assert_true(a.patched);
    assert_string_equal(a.source, "static int two(void)\n{\n    return 4;\n}\n\n" KERNEL);
    assert_string_equal(a.note, "two is three");
    artifact_release(&a);
}

static void blocks_that_do_not_fit_are_told_where_they_nearly_do(void **state)
{
    (void)state;
    refused(BLOCK("    return 5;\n}\n", "x\n"), base, "nearest to line 3");
    refused(BLOCK("return 2;\n", "x\n"), base, "only blanks differ");
    refused(BLOCK("    return 2;\n}\n}\n", "x\n"), base, "line 3 is '}'");
    refused(BLOCK("while (qqq) { zzz(); }\n", "x\n"), base, "nor anything like it");
    refused(BLOCK("{\n", "x\n"), base, "3 times in the program (lines 2, 7, 12)");
    refused(BLOCK("\n", "x\n"), base, "searches for nothing");
    refused(BLOCK("", "x\n"), base, "searches for nothing");
    refused(BLOCK("    return 2;\n", "    return 2;\n"), base, "change nothing");
    refused(BLOCK("    return 2;\n", "    return 2;\n"), NULL, "no program to apply them to");
    refused(BLOCK("    return 2;\n", "    return (2;\n"), base, "meets the '('");
    assert_int_equal(
        refused(BLOCK("    return 7;\n", "") BLOCK("    return 8;\n", ""), base, "block 2"), 2);
}

static void malformed_blocks_are_never_guessed_at(void **state)
{
    (void)state;
    refused(FENCED(KERNEL) BLOCK("    return 2;\n", "    return 3;\n"), base, "one or the other");
    refused("```c\n" KERNEL BLOCK("    return 2;\n", "    return 3;\n") "```\n", base,
            "one or the other");
    refused("<<<<<<< SEARCH\n    return 2;\n>>>>>>> REPLACE\n", base, "without a '======='");
    refused("<<<<<<< SEARCH\n    return 2;\n=======\na\n=======\nb\n>>>>>>> REPLACE\n", base,
            "second '======='");
    refused("<<<<<<< SEARCH\n    return 2;\n" BLOCK("    return 2;\n", "x\n"), base,
            "before block 1 has ended");
    refused("<<<<<<< ORIGINAL\nx\n=======\ny\n>>>>>>> UPDATED\n", base, "a block is");
}

/* ---- tunables ---- */

static void tunables_become_a_space(void **state)
{
    static const char program[] =
        "//@tunable TILE int 8|16|32 default 16 technique kv-tiling \"keys per tile\"\n"
        "// @tunable MODE enum fast | exact default exact structural\n"
        "//@tunable PACK bool default true\n"
        "//@tunable SLACK real 0.5|1.25 default 1.25\n"
        "//@constraint TILE % 8 == 0\n"
        "//@constraint MODE == 'exact' || TILE <= 16\n"
        "#ifndef TILE\n#define TILE (16)\n#endif\n"
        "#ifndef MODE\n#define MODE_fast 0\n#define MODE_exact 1\n#define MODE MODE_exact\n#endif\n"
        "#if MODE == MODE_fast\n#endif\nfloat f[TILE * PACK] = { SLACK };\n" KERNEL;
    json_auto_t *errors = json_array(), *doc = NULL;
    const struct space_param *p;
    struct space *s;
    struct err err;

    (void)state;
    assert_ok(artifact_tunables(program, &doc, errors, &err), err);
    assert_ok(space_parse(doc, "test", &s, &err), err);
    assert_int_equal(space_n(s), 4);
    assert_int_equal(space_constraints(s), 2);
    p = space_param(s, 0);
    assert_string_equal(p->name, "TILE");
    assert_string_equal(p->technique, "kv-tiling");
    assert_string_equal(p->help, "keys per tile");
    assert_int_equal(p->role, SPACE_NUMERIC);
    assert_int_equal(p->kind, SPACE_ORDINAL);
    assert_int_equal(p->default_index, 1);
    assert_int_equal(space_param(s, 1)->role, SPACE_STRUCTURAL);
    assert_int_equal(space_param(s, 1)->kind, SPACE_CATEGORICAL);
    assert_int_equal(space_param(s, 2)->type, SPACE_BOOL);
    assert_int_equal(space_param(s, 2)->default_index, 1);
    assert_int_equal(space_param(s, 3)->type, SPACE_REAL);
    space_free(s);
}

static void tunable_errors(const char *lines, const char *part)
{
    CLEANUP(freep) char *program = xmalloc(strlen(lines) + 400);

    snprintf(program, strlen(lines) + 400, "%sint a[] = { A, 1 };\n" KERNEL, lines);
    bad(program, part);
}

static void bad_tunables_are_told_with_their_line(void **state)
{
    (void)state;
    tunable_errors("\n//@tunable A int 8|16\n", "line 2 of the program, the tunable A: it has no");
    tunable_errors("//@tunable A int 8|x default 8\n", "value 2 is none of type int");
    tunable_errors("//@tunable A int 8|16 default 32\n", "not one of its values");
    tunable_errors("//@tunable A int 8|8 default 8\n", "listed twice");
    tunable_errors("//@tunable A real nan default nan\n", "value 1 is none of type real");
    tunable_errors("//@tunable A float 1|2 default 1\n", "int, real, bool or enum");
    tunable_errors("//@tunable A int 8 default 8 often\n", "'often' is not understood");
    tunable_errors("//@tunable A int 8 default 8 \"open\n", "quotes are not closed");
    tunable_errors("//@tunable A int 8 default 8 default 8\n", "two defaults");
    tunable_errors("//@tunable KS_A int 8 default 8\n", "is not free");
    tunable_errors("//@tunable int int 8 default 8\n", "is not free");
    tunable_errors("//@tunable 8 int 8 default 8\n", "name that can be a macro");
    tunable_errors("//@tunable A int 8 default 8\n//@tunable A int 8 default 8\n", "twice");
    tunable_errors("//@tunable B int 8 default 8\n", "declared but not used");
    tunable_errors("//@tunable B int 8 default 8\n#ifndef B\n#define B 8\n#endif\n",
                   "declared but not used");
    tunable_errors("//@tunable A int 8|16 default 8\n#define A 8\n", "without '#ifndef A'");
    tunable_errors("//@tunable A int 8|16 default 8\n#ifndef A\n#define A 16\n#endif\n",
                   "falls back to 16");
    tunable_errors("//@tunable A int 8|16 default 8\n#undef A\n", "undefines");
    tunable_errors("//@tunable A int 8|16 default 8\n//@constraint A > 8\n",
                   "breaks the constraint");
    tunable_errors("//@tunable A int 8|16 default 8\n//@constraint C > 8\n", "C");
    tunable_errors("//@tunable A int 8|16 default 8\n//@constraint\n", "1 to");
    tunable_errors("//@constraint A > 8\n", "no tunables");
    tunable_errors("//@tunables A int 8|16 default 8\n", "neither @tunable");
    tunable_errors("/*@tunable A int 8|16 default 8 */\n", "// comment");
}

static void errors_are_capped_and_the_rest_is_counted(void **state)
{
    char program[8192] = "";
    json_auto_t *errors = json_array();
    json_t *doc;
    struct err err;
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 50; i++)
        len += (size_t)snprintf(program + len, sizeof(program) - len, "//@tunable T%d int\n", i);
    assert_fails(artifact_tunables(program, &doc, errors, &err), err, ERR_INVALID);
    assert_int_equal(json_array_size(errors), ARTIFACT_ERRORS_MAX + 1);
    assert_string_equal(json_string_value(json_array_get(errors, ARTIFACT_ERRORS_MAX)),
                        "and 30 more of the kind");
    len = 0;
    for (int i = 0; i <= ARTIFACT_TUNABLES_MAX; i++)
        len += (size_t)snprintf(program + len, sizeof(program) - len,
                                "//@tunable T%d int 1|2 default 1\nint t%d = T%d;\n", i, i, i);
    json_array_clear(errors);
    assert_fails(artifact_tunables(program, &doc, errors, &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "at most 16"));
}

/* ---- thoughts ---- */

/* What a reasoning model drafts before its answer is no part of the answer. */
static void thoughts_before_the_answer_are_dropped(void **state)
{
    struct artifact a = read_ok(
        " \n<think>\nNOTE: a draft\n" FENCED(
            "int ks_kernel(x) { draft }\n") "EXPECT: 9x\n</think>\n\nNOTE: meant\n" FENCED(KERNEL),
        NULL);

    (void)state;
    assert_string_equal(a.source, KERNEL);
    assert_string_equal(a.note, "meant");
    assert_false(a.has_expected);
    artifact_release(&a);
    a = read_ok("<think></think>" FENCED(KERNEL), NULL);
    artifact_release(&a);
    refused("<think>\n" FENCED(KERNEL), NULL, "cut off inside");
    refused("<think>hm</think> \n", NULL, "empty");
    /* only what stands before the answer; and lines count from there */
    refused(FENCED(KERNEL) "<think>\n" FENCED(KERNEL) "</think>\n", NULL, "two programs");
    refused("<think>\n\n\n</think>\nEXPECT: soon\n" FENCED(KERNEL), NULL, "line 2 of the answer");
}

/* ---- the grammar ---- */

/* A model that copies the examples of the text is understood. */
static void the_grammar_is_the_one_that_is_read(void **state)
{
    const char *whole = artifact_grammar("c", false), *both = artifact_grammar("c", true);
    const char *first = strstr(whole, "\nExample, ");
    const char *one = strstr(both, "\nExample of form 1, ");
    const char *two = strstr(both, "Example of form 2, a change of that program:\n");
    CLEANUP(freep) char *form1 = NULL;
    struct artifact a, b, c;

    (void)state;
    assert_null(artifact_grammar("fortran", true));
    assert_non_null(first);
    assert_true(one != NULL && two > one);
    assert_null(strstr(whole, "SEARCH"));
    a = read_ok(strchr(first + 1, '\n') + 1, NULL);
    form1 = strndup(one, (size_t)(two - one));
    b = read_ok(form1, NULL);
    assert_string_equal(a.source, b.source);
    assert_int_equal(json_array_size(json_object_get(a.space, "parameters")), 2);
    assert_true(a.has_expected && a.expected_sd > 0);
    c = read_ok(two, a.source);
    assert_true(c.patched);
    assert_non_null(strstr(c.source, "float *restrict z"));
    artifact_release(&a);
    artifact_release(&b);
    artifact_release(&c);
    assert_true(strlen(both) < 6000);
}

/* Lines that make a careless reader look at everything again for each of them. */
static void hostile_texts_take_no_more_than_their_length(void **state)
{
    static const char *const pieces[] = { "'\\",  "\"'",        "#\n",  "#if 0\n", "/*",
                                          "//@",  "ks_kernel(", "(",    "{\n",     "```c\n",
                                          "\\\n", "\n",         "a b\n" };
    enum { SIZE = 64 << 10 };
    CLEANUP(freep) char *program = xcalloc(1, SIZE + 64);
    CLEANUP(freep) char *answer = xcalloc(1, SIZE * 2 + 400);
    json_auto_t *errors = json_array();
    struct artifact a;
    struct err err;

    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(pieces); p++)
        for (int dead = 0; dead < 2; dead++) {
            size_t n = strlen(pieces[p]), at = dead ? 6 : 0;
            json_t *space = NULL;

            memcpy(program, "#if 0\n", 6);
            for (size_t i = at; i < SIZE; i++)
                program[i] = pieces[p][i % n];
            snprintf(answer, SIZE * 2 + 400, "```c\n%s\n```\n", program);
            (void)artifact_parse("c", answer, NULL, &a, errors, &err);
            snprintf(answer, SIZE * 2 + 400, BLOCK("%.100000s\n}\n", "x\n"), program);
            assert_int_equal(artifact_parse("c", answer, program, &a, errors, &err), -1);
            if (artifact_tunables(program, &space, errors, &err) == 0)
                json_decref(space);
            json_array_clear(errors);
        }
}

static void caps_hold(void **state)
{
    size_t size = ARTIFACT_SOURCE_MAX + 100;
    CLEANUP(freep) char *answer = xmalloc(size + 400);
    json_auto_t *errors = json_array();
    struct artifact a;
    struct err err;

    (void)state;
    memset(answer, ' ', size + 400);
    memcpy(answer, "```c\n", 5);
    snprintf(answer + size, 400, "%s", "\n" KERNEL "```\n");
    refused(answer, NULL, "at most 262144 are allowed");
    assert_fails(artifact_parse("fortran", "x", NULL, &a, errors, &err), err, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_in_a_fence_is_taken_byte_by_byte),
        cmocka_unit_test(fences_may_be_tagged_in_other_ways),
        cmocka_unit_test(of_several_fences_the_one_with_the_kernel_is_meant),
        cmocka_unit_test(answers_without_a_program_say_what_is_missing),
        cmocka_unit_test(cut_off_answers_are_recognised),
        cmocka_unit_test(what_c_allows_is_not_taken_for_an_error),
        cmocka_unit_test(includes_of_other_files_are_refused),
        cmocka_unit_test(an_answer_says_what_it_did),
        cmocka_unit_test(expectations_are_read_or_refused_but_never_misread),
        cmocka_unit_test(blocks_change_exactly_what_they_name),
        cmocka_unit_test(blocks_that_do_not_fit_are_told_where_they_nearly_do),
        cmocka_unit_test(malformed_blocks_are_never_guessed_at),
        cmocka_unit_test(tunables_become_a_space),
        cmocka_unit_test(bad_tunables_are_told_with_their_line),
        cmocka_unit_test(errors_are_capped_and_the_rest_is_counted),
        cmocka_unit_test(thoughts_before_the_answer_are_dropped),
        cmocka_unit_test(the_grammar_is_the_one_that_is_read),
        cmocka_unit_test(hostile_texts_take_no_more_than_their_length),
        cmocka_unit_test(caps_hold),
    };

    return cmocka_run_group_tests_name("artifact", tests, NULL, NULL);
}
