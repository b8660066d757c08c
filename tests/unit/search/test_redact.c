/* SPDX-License-Identifier: Apache-2.0 */
/* Local paths do not get into facts, and what is no path stays readable. */
#include "search/redact.h"

#include "unit/test.h"

static void expect(const char *message, const char *redacted)
{
    char *out = redact_paths(message);

    assert_string_equal(out, redacted);
    free(out);
}

static void paths_are_taken_out(void **state)
{
    (void)state;
    expect("/home/x/k.c:3: error", "<path>:3: error");
    expect("in '/home/x/k.c', line 3", "in '<path>', line 3");
    expect("gcc -I/home/x/include -isystem/opt/y -o /tmp/z",
           "gcc -I<path> -isystem<path> -o <path>");
    expect("--sysroot=/srv/x -L/private/of/me", "--sysroot=<path> -L<path>");
    expect("file:///home/x a@/b [/c/d] </e/f.h>", "file:<path> a@<path> [<path> <<path>");
    expect("\xe2\x80\x98/home/x/k.c:4\xe2\x80\x99", "\xe2\x80\x98<path>:4\xe2\x80\x99");
    expect("../../home/x/k.c and build/tmp/x", "../..<path> and build<path>");
    expect("~/k.c and -I~/k", "<path> and -I<path>");
}

static void what_is_no_path_stays(void **state)
{
    (void)state;
    expect("", "");
    expect("12 GB/s of 1/2, a / b, (a+b)/2 // why", "12 GB/s of 1/2, a / b, (a+b)/2 // why");
    expect("src/kernel.c:3 and n/a", "src/kernel.c:3 and n/a");
}

static void a_long_message_is_cut(void **state)
{
    char *message = malloc(100001), *out;

    (void)state;
    memset(message, '/', 100000);
    message[100000] = '\0';
    out = redact_paths(message);
    assert_true(strlen(out) <= 2000);
    free(out);
    for (size_t i = 0; i < 100000; i += 5)
        memcpy(message + i, "/a b ", 5);
    out = redact_paths(message);
    assert_true(strlen(out) <= 2000 && strstr(out, "/a") == NULL);
    free(out);
    free(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_taken_out),
        cmocka_unit_test(what_is_no_path_stays),
        cmocka_unit_test(a_long_message_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
