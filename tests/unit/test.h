/* SPDX-License-Identifier: Apache-2.0 */
/* What every cmocka program of ours includes, and a temporary folder for each test that wants one.
 */
#ifndef KS_TEST_H
#define KS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"

/* Fails with the sentence when a call that should succeed did not. */
#define assert_ok(call, err)                                                                       \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", err_name((err).code), (err).msg);                                   \
    } while (0)

/* Fails unless the call failed with this code. */
#define assert_fails(call, err, expected)                                                          \
    do {                                                                                           \
        (err).code = ERR_OK;                                                                       \
        assert_int_equal((call), -1);                                                              \
        if ((err).code != (expected))                                                              \
            fail_msg("%s instead of %s: %s", err_name((err).code), err_name(expected), (err).msg); \
    } while (0)

/* cmocka setup and teardown: *state is the path of a fresh folder. */
static inline int test_dir_setup(void **state)
{
    char *dir = strdup("/tmp/ks-test-XXXXXX");

    *state = dir;
    return dir != NULL && mkdtemp(dir) != NULL ? 0 : -1;
}

static inline int test_dir_teardown(void **state)
{
    struct err ignored;

    file_rmtree(*state, &ignored);
    free(*state);
    return 0;
}

#endif
