/* SPDX-License-Identifier: Apache-2.0 */
/* The think block before an answer; see thinking.h. */
#include "search/thinking.h"

#include <string.h>

#include "base/str.h"

const char *thinking_skip(const char *answer)
{
    static const char opens[] = "<think>", closes[] = "</think>";
    const char *at = answer + strspn(answer, " \t\r\n"), *end;

    if (!str_has_prefix(at, opens))
        return answer;
    end = strstr(at + strlen(opens), closes);
    return end != NULL ? end + strlen(closes) : NULL;
}
