/* SPDX-License-Identifier: Apache-2.0 */
/* Pages and names that must agree with the tables. */
#include "unit/test.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "rpc/rpc.h"
#include "rpc/rpc_docs.h"

static void load(const char *path, struct buf *out)
{
    struct err err;

    assert_ok(file_read(path, out, &err), err);
}

/* docs/rpc.md is printed by `ksearchd --rpc-docs`: print it again after changing a row. */
static void rpc_page_is_what_the_rows_print(void **state)
{
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };
    CLEANUP(buf_release) struct buf printed = { .max = 1 << 20 };
    struct err err;

    (void)state;
    load(KS_SOURCE_DIR "/docs/rpc.md", &page);
    assert_ok(rpc_docs(&printed, &err), err);
    assert_string_equal(buf_str(&page), buf_str(&printed));
}

static size_t count_method(const char *name)
{
    size_t n = 0;

    for (const struct rpc_method *const *g = rpc_groups; *g; g++)
        for (const struct rpc_method *m = *g; m->name; m++)
            n += strcmp(m->name, name) == 0;
    return n;
}

static void rows_are_complete_and_unique(void **state)
{
    (void)state;
    for (const struct rpc_method *const *g = rpc_groups; *g; g++)
        for (const struct rpc_method *m = *g; m->name; m++) {
            assert_int_equal(count_method(m->name), 1);
            assert_non_null(m->fn);
            assert_true(m->help != NULL && str_has_suffix(m->help, "."));
            assert_true(m->result != NULL && *m->result != '\0');
            assert_true((m->params == NULL) == (m->params_size == 0));
        }
}

/* Every name that client and daemon agreed on is served, and nothing else is. */
static void names_are_those_of_the_protocol(void **state)
{
    CLEANUP(buf_release) struct buf names = { .max = 1 << 16 };
    size_t n_names = 0, n_rows = 0;

    (void)state;
    load(KS_SOURCE_DIR "/client/proto/methods.h", &names);
    for (char *at = strstr(names.data, "#define METHOD_"); at != NULL;
         at = strstr(at + 1, "#define METHOD_")) {
        char name[100];

        if (sscanf(at, "#define METHOD_%*s \"%99[^\"]\"", name) != 1)
            fail_msg("cannot read %.60s", at);
        n_names++;
        if (count_method(name) != 1)
            fail_msg("nobody serves '%s'", name);
    }
    for (const struct rpc_method *const *g = rpc_groups; *g; g++)
        for (const struct rpc_method *m = *g; m->name; m++)
            n_rows++;
    assert_int_equal(n_names, n_rows);
}

static void daemon_page_has_every_option(void **state)
{
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };
    CLEANUP(buf_release) struct buf options = { .max = 1 << 16 };
    struct conf *c;
    struct err err;
    char *save = NULL;

    (void)state;
    load(KS_SOURCE_DIR "/docs/daemon.md", &page);
    assert_ok(conf_new(&c, &err), err);
    assert_ok(conf_print(c, &options, &err), err);
    for (char *line = strtok_r(options.data, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        CLEANUP(freep) char *row = NULL;

        if (line[0] == '#')
            continue;
        line[strcspn(line, " ")] = '\0';
        row = str_printf("\n| `%s` |", line);
        if (strstr(page.data, row) == NULL)
            fail_msg("docs/daemon.md has no row for '%s'", line);
    }
    conf_free(c);
}

/* Whoever writes prompts of their own finds each section in the page. */
static void prompts_page_has_every_section(void **state)
{
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };
    CLEANUP(buf_release) struct buf source = { .max = 1 << 20 };
    char name[60];
    size_t n = 0;

    (void)state;
    load(KS_SOURCE_DIR "/docs/prompts.md", &page);
    load(KS_SOURCE_DIR "/daemon/search/prompt.c", &source);
    for (const char *at = buf_str(&source); (at = strstr(at, "\n    X(")) != NULL; at++, n++) {
        CLEANUP(freep) char *want = NULL;

        if (sscanf(at, "\n    X(%59[a-z_],", name) != 1)
            fail_msg("cannot read %.60s", at);
        want = str_printf("`%s`", name);
        if (strstr(buf_str(&page), want) == NULL)
            fail_msg("docs/prompts.md has no section '%s'", name);
    }
    assert_true(n >= 30);
}

/* ---- Pages that name tests and other pages ---- */

/* "sched_author" is tests/unit/sched/test_author.c: the prefixes of test programs and where their
 * files are. */
static char *test_file(const char *program)
{
    static const struct {
        const char *prefix, *folder;
    } rows[] = {
        { "sched_", "unit/sched" },         { "test_search_", "unit/search" },
        { "test_llm_", "unit/llm" },        { "test_eval_", "unit/daemon" },
        { "test_daemon_", "unit/daemon" },  { "test_harness_", "unit/harness" },
        { "test_hostile", "unit/harness" }, { "test_kb_", "unit/kb" },
        { "test_retune_", "unit/retune" },  { "client_", "unit/client" },
        { "base_", "unit/base" },           { "e2e_", "e2e" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (str_has_prefix(program, rows[i].prefix)) {
            const char *rest = program + strlen(rows[i].prefix);

            return str_printf(KS_SOURCE_DIR "/tests/%s/test_%s.c", rows[i].folder,
                              *rest ? rest : "hostile");
        }
    return NULL;
}

/* Does the test program have this case? */
static bool has_case(const char *program, const char *name)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    CLEANUP(freep) char *path = test_file(program);
    CLEANUP(freep) char *begin = str_printf("static void %s(void **", name);
    CLEANUP(freep) char *alone = str_printf("(%s)", name), *first = str_printf("(%s,", name);
    struct err err;

    return path != NULL && file_read(path, &text, &err) == 0 &&
           strstr(buf_str(&text), begin) != NULL &&
           (strstr(buf_str(&text), alone) != NULL || strstr(buf_str(&text), first) != NULL);
}

/* "`program/case`" anywhere in the page: the case exists, and is run. */
static void tests_that_a_page_names_exist(void **state)
{
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };
    size_t n = 0;

    (void)state;
    load(KS_SOURCE_DIR "/docs/weaknesses.md", &page);
    for (const char *at = buf_str(&page); (at = strchr(at, '`')) != NULL; at++) {
        char program[64], name[120];
        int len = 0;

        if (sscanf(at, "`%63[a-z0-9_]/%119[a-z0-9_]`%n", program, name, &len) != 2 || len == 0 ||
            test_file(program) == NULL)
            continue;
        if (!has_case(program, name))
            fail_msg("docs/weaknesses.md names %s/%s, which there is not", program, name);
        at += len - 1;
        n++;
    }
    assert_true(n >= 80);
}

/* Every row that it promises is there. */
static void weaknesses_are_all_told(void **state)
{
    static const struct {
        char letter;
        int n;
    } rows[] = { { 'W', 41 }, { 'T', 7 }, { 'A', 11 } };
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };

    (void)state;
    load(KS_SOURCE_DIR "/docs/weaknesses.md", &page);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int k = 1; k <= rows[i].n; k++) {
            CLEANUP(freep) char *row = str_printf("\n| %c%d | ", rows[i].letter, k);

            if (strstr(buf_str(&page), row) == NULL)
                fail_msg("docs/weaknesses.md has no row %c%d", rows[i].letter, k);
        }
}

/* Links of one page to files of the project; returns how many there were. */
static size_t check_links(const char *dir, const char *name)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    CLEANUP(buf_release) struct buf page = { .max = 1 << 20 };
    size_t n = 0;

    load(path, &page);
    for (const char *at = buf_str(&page); (at = strstr(at, "](")) != NULL; at++, n++) {
        size_t len = strcspn(at + 2, ")#");
        CLEANUP(freep) char *to = str_printf("%s/%.*s", dir, (int)len, at + 2);

        if (strncmp(at + 2, "http", 4) != 0 && len > 0 && !file_exists(to))
            fail_msg("%s links to '%.*s', which there is not", name, (int)len, at + 2);
    }
    return n;
}

static void links_lead_somewhere(void **state)
{
    DIR *d = opendir(KS_SOURCE_DIR "/docs");
    size_t n = check_links(KS_SOURCE_DIR, "README.md");
    const struct dirent *e;

    (void)state;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        if (str_has_suffix(e->d_name, ".md"))
            n += check_links(KS_SOURCE_DIR "/docs", e->d_name);
    closedir(d);
    assert_true(n > 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rpc_page_is_what_the_rows_print),
        cmocka_unit_test(rows_are_complete_and_unique),
        cmocka_unit_test(names_are_those_of_the_protocol),
        cmocka_unit_test(daemon_page_has_every_option),
        cmocka_unit_test(prompts_page_has_every_section),
        cmocka_unit_test(tests_that_a_page_names_exist),
        cmocka_unit_test(weaknesses_are_all_told),
        cmocka_unit_test(links_lead_somewhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
