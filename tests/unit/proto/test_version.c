/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/version.h"

#include "unit/test.h"

static void socket_path_follows_the_environment(void **state)
{
    char path[200];
    struct err err;

    (void)state;
    unsetenv("KSEARCH_SOCKET");
    unsetenv("XDG_RUNTIME_DIR");
    assert_ok(proto_socket_path(path, sizeof(path), &err), err);
    assert_string_equal(path, "/run/ksearch/ksearchd.sock");
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    assert_ok(proto_socket_path(path, sizeof(path), &err), err);
    assert_string_equal(path, "/run/user/7/ksearch/ksearchd.sock");
    setenv("KSEARCH_SOCKET", "/tmp/s", 1);
    assert_ok(proto_socket_path(path, sizeof(path), &err), err);
    assert_string_equal(path, "/tmp/s");
    setenv("KSEARCH_SOCKET", "", 1); /* empty counts as unset */
    assert_ok(proto_socket_path(path, sizeof(path), &err), err);
    assert_string_equal(path, "/run/user/7/ksearch/ksearchd.sock");
}

static void socket_path_that_no_address_holds_is_refused(void **state)
{
    char path[300], longest[110];
    struct err err;

    (void)state;
    memset(longest, 'a', sizeof(longest) - 1);
    longest[0] = '/';
    longest[108] = '\0';
    setenv("KSEARCH_SOCKET", longest, 1);
    assert_fails(proto_socket_path(path, sizeof(path), &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "108 bytes"));
    longest[107] = '\0';
    setenv("KSEARCH_SOCKET", longest, 1);
    assert_ok(proto_socket_path(path, sizeof(path), &err), err);
    assert_fails(proto_socket_path(path, 107, &err), err, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(socket_path_follows_the_environment),
        cmocka_unit_test(socket_path_that_no_address_holds_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
