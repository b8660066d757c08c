/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "unit/test.h"

static void file_write_atomic_replaces_and_leaves_no_temporary(void **state)
{
    CLEANUP(freep) char *path = str_printf("%s/f", (char *)*state);
    CLEANUP(freep) char *tmp = str_printf("%s/f.tmp.%ld", (char *)*state, (long)getpid());
    struct buf b = { .max = 100 };
    struct err err;

    assert_ok(file_write_atomic(path, "old", 3, &err), err);
    assert_ok(file_write_atomic(path, "newer", 5, &err), err);
    assert_ok(file_read(path, &b, &err), err);
    assert_string_equal(buf_str(&b), "newer");
    assert_false(file_exists(tmp));
    buf_release(&b);
}

static void file_read_names_a_missing_file_and_a_long_one(void **state)
{
    CLEANUP(freep) char *path = str_printf("%s/f", (char *)*state);
    struct buf b = { .max = 4 };
    struct err err;

    assert_fails(file_read(path, &b, &err), err, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_ok(file_write(path, "12345", 5, 0600, &err), err);
    assert_fails(file_read(path, &b, &err), err, ERR_LIMIT);
    buf_release(&b);
    assert_ok(file_write(path, "1234", 4, 0600, &err), err);
    assert_ok(file_read(path, &b, &err), err);
    buf_release(&b);
}

static void file_mkdirs_and_rmtree_do_not_follow_links(void **state)
{
    CLEANUP(freep) char *deep = str_printf("%s/a/b/c", (char *)*state);
    CLEANUP(freep) char *top = str_printf("%s/a", (char *)*state);
    CLEANUP(freep) char *keep = str_printf("%s/keep", (char *)*state);
    CLEANUP(freep) char *link_path = str_printf("%s/a/b/link", (char *)*state);
    struct err err;

    assert_ok(file_mkdirs(deep, &err), err);
    assert_ok(file_mkdirs(deep, &err), err);
    assert_ok(file_mkdirs(keep, &err), err);
    assert_int_equal(symlink(keep, link_path), 0);
    assert_ok(file_rmtree(top, &err), err);
    assert_false(file_exists(top));
    assert_true(file_is_dir(keep));
    assert_ok(file_rmtree(top, &err), err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(file_write_atomic_replaces_and_leaves_no_temporary,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(file_read_names_a_missing_file_and_a_long_one,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(file_mkdirs_and_rmtree_do_not_follow_links, test_dir_setup,
                                        test_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
