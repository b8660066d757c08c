/* SPDX-License-Identifier: Apache-2.0 */
/* Is a picture well-formed? For tests of what draws one. */
#ifndef KS_TEST_SVG_CHECK_H
#define KS_TEST_SVG_CHECK_H

#include <string.h>

#include "base/mem.h"
#include "unit/test.h"

/* Fails unless elements nest, attributes are quoted, and text is escaped. Enough for what we draw:
 * no comments, no CDATA. */
static inline void expect_well_formed(const char *s)
{
    char stack[32][32];
    size_t depth = 0, elements = 0;

    assert_memory_equal(s, "<?xml", 5);
    s = strstr(s, "?>") + 2;
    while (*s) {
        if (*s == '&') {
            const char *end = strchr(s, ';');

            assert_true(end != NULL && end - s <= 6);
            s = end + 1;
        } else if (*s != '<') {
            assert_true((unsigned char)*s >= ' ' || *s == '\n');
            assert_true(*s != '>');
            s++;
        } else if (s[1] == '/') {
            size_t n = strcspn(s + 2, ">");

            assert_true(depth > 0);
            depth--;
            assert_int_equal(n, strlen(stack[depth]));
            assert_memory_equal(s + 2, stack[depth], n);
            s += 3 + n;
        } else {
            size_t n = strcspn(s + 1, " />");
            bool empty;

            assert_true(n > 0 && n < sizeof(stack[0]) && depth < ARRAY_LEN(stack));
            snprintf(stack[depth], sizeof(stack[0]), "%.*s", (int)n, s + 1);
            s += 1 + n;
            while (*s == ' ') {
                s += strcspn(s, "=") + 1;
                assert_int_equal(*s, '"');
                s += 1 + strcspn(s + 1, "\"<");
                assert_int_equal(*s, '"');
                s++;
            }
            empty = *s == '/';
            s += empty;
            assert_int_equal(*s, '>');
            s++;
            depth += !empty;
            elements++;
        }
    }
    assert_int_equal(depth, 0);
    assert_true(elements > 10);
}

#endif
