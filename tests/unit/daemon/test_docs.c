/* SPDX-License-Identifier: Apache-2.0 */
/* Pages and names that must agree with the tables. */
#include "unit/test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rpc_page_is_what_the_rows_print),
        cmocka_unit_test(rows_are_complete_and_unique),
        cmocka_unit_test(names_are_those_of_the_protocol),
        cmocka_unit_test(daemon_page_has_every_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
