/* SPDX-License-Identifier: Apache-2.0 */
/* The command rows: help lists every one of them, parsing takes what help shows, names do not
 * clash. */
#include "cli.h"

#include <locale.h>
#include <math.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "show.h"
#include "unit/test.h"

static char *help_of(const struct command *cmd)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (cmd)
        help_command(f, cmd);
    else
        help_program(f);
    fclose(f);
    return text;
}

/* Help wraps its texts: any run of blanks and newlines becomes one blank. */
static void expect_row(const char *help, const char *text, const char *command)
{
    CLEANUP(freep) char *flat = xstrdup(help);
    size_t n = 0;

    for (const char *s = help; *s; s++)
        if ((*s != ' ' && *s != '\n') || (n > 0 && flat[n - 1] != ' '))
            flat[n++] = *s == '\n' ? ' ' : *s;
    flat[n] = '\0';
    if (strstr(flat, text) == NULL)
        fail_msg("help of %s lacks \"%s\"", command, text);
}

/* "--as-of" as a man page writes it, "\\-\\-as\\-of". Owned. */
static char *man_option(const char *name)
{
    CLEANUP(buf_release) struct buf text = { .max = 200 };
    struct err err;

    assert_ok(buf_adds(&text, "\\-\\-", &err), err);
    for (; *name; name++)
        assert_ok(*name == '-' ? buf_adds(&text, "\\-", &err) : buf_add(&text, name, 1, &err), err);
    return buf_take(&text);
}

static void the_man_page_has_every_command_and_option(void **state)
{
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };
    struct err err;

    (void)state;
    assert_ok(file_read(KS_SOURCE_DIR "/docs/man/ksearch.1", &page, &err), err);
    for (const struct command *const *c = cli_commands; *c; c++) {
        CLEANUP(freep)
        char *name =
            (*c)->group ? str_printf("%s %s", (*c)->group, (*c)->name) : xstrdup((*c)->name);

        if (strstr(buf_str(&page), name) == NULL)
            fail_msg("docs/man/ksearch.1 lacks the command %s", name);
        for (const struct opt *o = (*c)->opts; o && o->name; o++) {
            CLEANUP(freep) char *option = man_option(o->name);

            if (strstr(buf_str(&page), option) == NULL)
                fail_msg("docs/man/ksearch.1 lacks --%s of %s", o->name, name);
        }
    }
}

static void help_lists_every_row_of_every_command(void **state)
{
    CLEANUP(freep) char *all = help_of(NULL);

    (void)state;
    for (const struct command *const *c = cli_commands; *c; c++) {
        CLEANUP(freep) char *text = help_of(*c);
        char want[200];

        assert_non_null(strstr(text, (*c)->summary));
        assert_non_null(strstr(all, (*c)->summary));
        for (const struct opt *o = (*c)->opts; o && o->name; o++) {
            snprintf(want, sizeof(want), "  --%s", o->name);
            if (!strstr(text, want))
                fail_msg("help of %s lacks --%s", (*c)->name, o->name);
            expect_row(text, o->help, (*c)->name);
        }
        for (const struct opt *o = cli_global_opts; o->name; o++)
            expect_row(text, o->help, (*c)->name);
        for (const struct pos *p = (*c)->pos; p && p->metavar; p++)
            expect_row(text, p->help, (*c)->name);
    }
}

static void rows_are_complete_and_do_not_clash(void **state)
{
    (void)state;
    for (const struct command *const *c = cli_commands; *c; c++) {
        assert_true((*c)->method || (*c)->run);
        assert_non_null((*c)->summary);
        for (const struct command *const *d = c + 1; *d; d++)
            assert_false(strcmp((*c)->name, (*d)->name) == 0 &&
                         strcmp((*c)->group ? (*c)->group : "", (*d)->group ? (*d)->group : "") ==
                             0);
        for (const struct opt *o = (*c)->opts; o && o->name; o++) {
            assert_true((o->type == OPT_FLAG) == (o->metavar == NULL));
            assert_non_null(o->param);
            for (const struct opt *g = cli_global_opts; g->name; g++)
                assert_string_not_equal(o->name, g->name);
            for (const struct opt *p = o + 1; p->name; p++)
                assert_string_not_equal(o->name, p->name);
        }
    }
}

/* Parses the words for a command; returns the params as canonical text, or the error's sentence. */
static char *parse(const struct command *cmd, int argc, char **argv)
{
    CLEANUP(args_release) struct args args = { 0 };
    struct cli cli = { 0 };
    struct err err;
    bool help = false;

    if (args_parse(&cli, cmd, argc, argv, &args, &help, &err) != 0)
        return xstrdup(err.msg);
    return jsonx_canonical(args.params);
}

#define PARSE(cmd, ...)                                                                            \
    parse(&(cmd), (int)(sizeof((char *[]){ __VA_ARGS__ }) / sizeof(char *)),                       \
          (char *[]){ __VA_ARGS__ })

static void expect_text(char *owned, const char *want)
{
    assert_string_equal(owned, want);
    free(owned);
}

static void words_become_parameters(void **state)
{
    (void)state;
    expect_text(PARSE(cmd_search_start, "t", "--cold", "--seed=7", "--device", "cpu"),
                "{\"cold\":true,\"device\":\"cpu\",\"seed\":7,\"task\":\"t\"}");
    expect_text(PARSE(cmd_search_start, "--budget", "evals=40,time=2m", "t"),
                "{\"budget\":{\"evals\":40,\"time\":120.0},\"task\":\"t\"}");
    /* nothing may be spent */
    expect_text(PARSE(cmd_search_start, "--budget", "evals=0,tokens=0,usd=0,time=0,device=0s", "t"),
                "{\"budget\":{\"device\":0.0,\"evals\":0,\"time\":0.0,\"tokens\":0,\"usd\":0.0},"
                "\"task\":\"t\"}");
    expect_text(PARSE(cmd_search_start, "--stop", "roofline=0.5,gain=0.25", "t"),
                "{\"stop\":{\"gain\":0.25,\"roofline\":0.5},\"task\":\"t\"}");
    expect_text(PARSE(cmd_query, "split", "the", "--limit", "3", "KV", "--", "--cache"),
                "{\"limit\":3,\"text\":\"split the KV --cache\"}");
    expect_text(PARSE(cmd_search_explain, "s1", "n2"), "{\"node\":\"n2\",\"search\":\"s1\"}");
    expect_text(PARSE(cmd_eval_run, "f.c", "--task", "t", "--assignment", "{\"A\":1}"),
                "{\"assignment\":{\"A\":1},\"task\":\"t\"}");
    expect_text(PARSE(cmd_insight_add, "--technique", "x", "--statement", "-5 % is --fine"),
                "{\"statement\":\"-5 % is --fine\",\"technique\":\"x\"}");
}

static void bad_words_get_a_sentence(void **state)
{
    (void)state;
    expect_text(PARSE(cmd_search_start, "t", "--sed", "1"),
                "'search start' has no option --sed; did you mean '--seed'?");
    expect_text(PARSE(cmd_search_start, "t", "--seed", "1", "--seed", "2"),
                "--seed is given twice");
    expect_text(PARSE(cmd_search_start, "t", "u"),
                "'u' is one argument too many for 'search start'");
    expect_text(PARSE(cmd_search_start, "t", "--seed"), "--seed needs a value: --seed N");
    expect_text(PARSE(cmd_search_start, "t", "--cold=yes"), "--cold takes no value");
    expect_text(PARSE(cmd_search_start, "t", "--budget", "evals=4,evals=5"),
                "--budget names evals twice");
    expect_text(PARSE(cmd_search_start, "t", "--budget", "time=-1"),
                "--budget time is '-1'; a time is allowed, such as 90, 90s, 5m or 2h");
    expect_text(PARSE(cmd_search_start, "t", "--budget", "usd=-0.5"),
                "--budget usd is '-0.5'; a number from 0 is allowed");
    expect_text(PARSE(cmd_search_start, "t", "--budget", "tokens=1e3"),
                "--budget tokens is '1e3'; a whole number is allowed");
    expect_text(PARSE(cmd_search_start, "t", "--budget", "evals=4,,time=1"),
                "--budget has ''; evals=N, tokens=N, usd=X, time=T and device=T are allowed, "
                "joined by commas");
    expect_text(PARSE(cmd_search_start, "t", "--stop", "gain=0"),
                "--stop gain is '0'; a number above 0 is allowed");
    expect_text(PARSE(cmd_search_start, "t", "--stop", "evals=4"),
                "--stop has 'evals=4'; roofline=X and gain=X are allowed, joined by commas");
    expect_text(PARSE(cmd_search_start, ""), "T is ''; UTF-8 text that is not empty is allowed");
    expect_text(PARSE(cmd_eval_run, "f.c", "--task", "t", "--assignment", "[1]"),
                "--assignment must be a JSON object, such as '{\"TILE\": 16}'");
    expect_text(PARSE(cmd_query, "-x"), "'-x' is no option: options have two dashes");
    expect_text(PARSE(cmd_insight_retract, "--reason", "r"),
                "'insight retract' needs I: id of the insight, or its first digits");
}

/* ---- Pictures and text ---- */

static void text_is_cut_by_columns_not_bytes(void **state)
{
    char out[64];

    (void)state;
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        skip();
    assert_int_equal(text_cols("a\xc3\xa9\xe4\xb8\xad"), 4); /* the last is two columns wide */
    assert_string_equal(text_fit("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 4, out, sizeof(out)),
                        "\xc3\xa9...");
    assert_string_equal(text_fit("abcd", 4, out, sizeof(out)), "abcd");
    setlocale(LC_CTYPE, "C");
    assert_string_equal(text_fit("a\xc3\xa9z", 10, out, sizeof(out)), "a?z");
}

static void curve_is_drawn_in_ascii_where_blocks_are_missing(void **state)
{
    const double v[] = { NAN, 1, 1, 2, 3, 3 };
    CLEANUP(buf_release) struct buf out = { .max = 10000 };

    (void)state;
    setlocale(LC_CTYPE, "C");
    draw_spark(v, 6, 10, &out);
    assert_string_equal(out.data, " __-##");
    buf_clear(&out);
    draw_bar(0.5, 12, &out);
    assert_string_equal(out.data, "[#####.....]");
    buf_clear(&out);
    draw_plot(v, 6, 3, 2, &out);
    assert_string_equal(out.data, "   3.00x | _#\n   1.00x |_##\n");
    buf_clear(&out);
    draw_plot(v + 3, 2, 100, 1, &out); /* two values, four columns each */
    assert_string_equal(out.data, "   3.00x |____####\n");
    buf_clear(&out);
    draw_bar(NAN, 4, &out);
    draw_spark(v, 1, 4, &out);
    assert_string_equal(out.data, "[..] ");
}

static void curve_keeps_the_best_over_failures(void **state)
{
    json_auto_t *search =
        json_pack("{s:[{s:n},{s:f},{s:n},{s:f},{s:f}]}", "curve", "objective", "objective", 1.5,
                  "objective", "objective", 1.2, "objective", 2.0);
    size_t n;
    CLEANUP(freep) double *best = curve_best(search, &n);

    (void)state;
    assert_int_equal(n, 5);
    assert_true(isnan(best[0]));
    assert_true(best[1] == 1.5 && best[2] == 1.5 && best[3] == 1.5 && best[4] == 2.0);
}

/* A challenger within the noise of the champion has a larger objective and is not the best. */
static void curve_believes_what_the_daemon_calls_best(void **state)
{
    json_auto_t *search = json_pack("{s:[{s:f,s:f},{s:f,s:f}]}", "curve", "objective", 1.5, "best",
                                    1.5, "objective", 1.51, "best", 1.5);
    size_t n;
    CLEANUP(freep) double *best = curve_best(search, &n);

    (void)state;
    assert_int_equal(n, 2);
    assert_true(best[0] == 1.5 && best[1] == 1.5);
}

static void values_read_as_a_person_writes_them(void **state)
{
    static const struct {
        const char *json;
        enum show_kind kind;
        const char *want;
    } cases[] = {
        { "null", SHOW_TEXT, "-" },
        { "3.5", SHOW_FACTOR, "3.50x" },
        { "0.423", SHOW_SHARE, "42 %" },
        { "3.25", SHOW_SECONDS, "3.2 s" },
        { "75", SHOW_SECONDS, "1:15" },
        { "3725", SHOW_SECONDS, "1:02:05" },
        { "0", SHOW_TIME, "-" },
        { "86400", SHOW_TIME, "1970-01-02T00:00:00Z" },
        { "\"0123456789abcdef\"", SHOW_SHORT, "0123456789ab" },
        { "\"a\\u001b[2Jb\"", SHOW_TEXT, "a\\x1b[2Jb" },
        { "{\"A\":16,\"B\":\"x\",\"C\":true}", SHOW_TEXT, "A=16 B=x C=yes" },
        { "[1,2.5,[]]", SHOW_TEXT, "1, 2.5, -" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_auto_t *v = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);

        expect_text(show_text(v, cases[i].kind), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_lists_every_row_of_every_command),
        cmocka_unit_test(the_man_page_has_every_command_and_option),
        cmocka_unit_test(rows_are_complete_and_do_not_clash),
        cmocka_unit_test(words_become_parameters),
        cmocka_unit_test(bad_words_get_a_sentence),
        cmocka_unit_test(text_is_cut_by_columns_not_bytes),
        cmocka_unit_test(curve_is_drawn_in_ascii_where_blocks_are_missing),
        cmocka_unit_test(curve_keeps_the_best_over_failures),
        cmocka_unit_test(curve_believes_what_the_daemon_calls_best),
        cmocka_unit_test(values_read_as_a_person_writes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
