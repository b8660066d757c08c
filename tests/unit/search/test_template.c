/* SPDX-License-Identifier: Apache-2.0 */
/* The template language: what goes in, what is dropped, what is refused and where. */
#include "base/mem.h"
#include "search/template.h"
#include "unit/test.h"

enum { TREE, ACTION, EMPTY, NAMES };

static const struct template_name names[NAMES] = { { "tree", 6000 },
                                                   { "action", 0 },
                                                   { "empty", 1000 } };

/* Renders `text` with tree = "T", action = "{{tree}}" and empty = nothing. Owned. */
static char *rendered(const char *text)
{
    const struct template_value values[NAMES] = { { "T", 1 }, { "{{tree}}", 8 }, { NULL, 0 } };
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 };
    struct template *t;
    struct err err;

    assert_ok(template_parse("x.md", text, strlen(text), names, NAMES, &t, &err), err);
    assert_ok(template_render(t, values, &out, &err), err);
    template_free(t);
    return buf_take(&out);
}

static void assert_renders(const char *text, const char *want)
{
    CLEANUP(freep) char *got = rendered(text);

    assert_string_equal(got, want);
}

static void a_section_stands_for_its_name(void **state)
{
    (void)state;
    assert_renders("a {{tree}} b {{ tree }}\n", "a T b T\n");
    assert_renders("{{empty}}|", "|");
    assert_renders("", "");
    assert_renders("no { { tags } } here", "no { { tags } } here");
}

/* A section may hold anything: it is put in, never read as template. */
static void what_is_put_in_is_not_looked_at_again(void **state)
{
    (void)state;
    assert_renders("{{action}}", "{{tree}}");
}

static void blocks_follow_their_section(void **state)
{
    (void)state;
    assert_renders("a{{#tree}}b{{/tree}}c", "abc");
    assert_renders("a{{^tree}}b{{/tree}}c", "ac");
    assert_renders("a{{#empty}}b{{/empty}}c", "ac");
    assert_renders("a{{^empty}}b{{/empty}}c", "abc");
    assert_renders("{{#tree}}1{{#empty}}2{{/empty}}{{^empty}}3{{tree}}{{/empty}}4{{/tree}}",
                   "13T4");
    assert_renders("{{#empty}}{{#tree}}1{{/tree}}2{{/empty}}3", "3");
}

static void lines_of_tags_alone_leave_no_line(void **state)
{
    (void)state;
    assert_renders("a\n{{#tree}}\nb\n{{/tree}}\nc\n", "a\nb\nc\n");
    assert_renders("a\n  {{#empty}}  \nb\n{{/empty}}\nc\n", "a\nc\n");
    assert_renders("a\n{{! a comment\nof two lines }}\nb\n", "a\nb\n");
    assert_renders("a {{! inside }} b\n", "a  b\n");
    assert_renders("a\n\n{{#empty}}\nb\n{{/empty}}\n\n\nc\n", "a\n\nc\n");
}

static void a_head_gives_budgets(void **state)
{
    static const char text[] = "# comment\nbudget tree = 700\n\nbudget empty=800\n---\nx\n";
    struct template *t;
    struct err err;

    (void)state;
    assert_ok(template_parse("x.md", text, strlen(text), names, NAMES, &t, &err), err);
    assert_int_equal(template_budget(t, TREE), 700);
    assert_int_equal(template_budget(t, EMPTY), 800);
    assert_int_equal(template_budget(t, ACTION), 0);
    assert_false(template_uses(t, TREE));
    template_free(t);
    assert_ok(template_parse("x.md", "{{#tree}}{{/tree}}", 18, names, NAMES, &t, &err), err);
    assert_int_equal(template_budget(t, TREE), 6000);
    assert_true(template_uses(t, TREE));
    template_free(t);
    assert_renders("budget tree = 700\n---\nx {{tree}}\n", "x T\n");
}

static void assert_refused(const char *text, const char *sentence)
{
    struct template *t;
    struct err err;

    assert_fails(template_parse("x.md", text, strlen(text), names, NAMES, &t, &err), err,
                 ERR_INVALID);
    if (strstr(err.msg, sentence) == NULL)
        fail_msg("'%s' is not in '%s'", sentence, err.msg);
}

static void mistakes_are_told_with_file_and_line(void **state)
{
    (void)state;
    assert_refused("a\nb {{treee}}\n", "x.md line 2: there is no section treee");
    assert_refused("a\n\n{{#tree}}\nb\n", "x.md line 3: the block 'tree' is not closed");
    assert_refused("a\n{{/tree}}\n", "x.md line 2: this closes a block that is not open: tree");
    assert_refused("{{#tree}}\n{{#empty}}\n{{/tree}}\n", "x.md line 3: 'tree' is closed while "
                                                         "'empty', opened in line 2");
    assert_refused("a {{tree\n", "x.md line 1: '{{' without '}}'");
    assert_refused("{{}}", "x.md line 1: there is no section ''");
    assert_refused("budget tree = 12\n---\n", "x.md line 1: a budget of '12' bytes");
    assert_refused("\nbudget tree = many\n---\n", "x.md line 2: a budget of 'many' bytes");
    assert_refused("budget action = 600\n---\n", "x.md line 1: this section is never cut");
    assert_refused("budget x = 600\n---\n", "x.md line 1: there is no section x");
    assert_refused("text\n---\nmore\n", "x.md line 1: the head has lines");
    assert_refused("budget tree = 700\n---\na\n{{x}}\n", "x.md line 4: there is no section x");
}

static void a_mistake_after_a_comment_is_told_with_its_line(void **state)
{
    (void)state;
    assert_refused("{{! one\ntwo\n}}\n{{#tree}}\n{{/tree}}\n\n{{x}}\n", "x.md line 7:");
}

static void deep_and_large_templates_are_refused(void **state)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    struct template *t;
    struct err err;

    (void)state;
    for (int i = 0; i <= TEMPLATE_DEPTH_MAX; i++)
        assert_ok(buf_adds(&text, "{{#tree}}", &err), err);
    assert_fails(template_parse("x.md", text.data, text.len, names, NAMES, &t, &err), err,
                 ERR_INVALID);
    buf_clear(&text);
    while (text.len <= TEMPLATE_BYTES_MAX)
        assert_ok(buf_adds(&text, "a line of text\n", &err), err);
    assert_fails(template_parse("x.md", text.data, text.len, names, NAMES, &t, &err), err,
                 ERR_LIMIT);
    assert_fails(template_parse("x.md", "a\0b", 3, names, NAMES, &t, &err), err, ERR_INVALID);
}

static void a_small_buffer_is_an_error_not_a_cut(void **state)
{
    const struct template_value values[NAMES] = { { "TTTTTTTTTTTTTTTT", 16 } };
    struct buf out = { .max = 10 };
    struct template *t;
    struct err err;

    (void)state;
    assert_ok(template_parse("x.md", "{{tree}}", 8, names, NAMES, &t, &err), err);
    assert_fails(template_render(t, values, &out, &err), err, ERR_LIMIT);
    template_free(t);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_section_stands_for_its_name),
        cmocka_unit_test(what_is_put_in_is_not_looked_at_again),
        cmocka_unit_test(blocks_follow_their_section),
        cmocka_unit_test(lines_of_tags_alone_leave_no_line),
        cmocka_unit_test(a_head_gives_budgets),
        cmocka_unit_test(mistakes_are_told_with_file_and_line),
        cmocka_unit_test(a_mistake_after_a_comment_is_told_with_its_line),
        cmocka_unit_test(deep_and_large_templates_are_refused),
        cmocka_unit_test(a_small_buffer_is_an_error_not_a_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
