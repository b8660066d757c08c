/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models' programs on any bytes: as an answer with and without a program to change, and as a
 * program with tunables. Beyond not crashing: what is refused says why, what is taken is in the
 * answer byte by byte (or comes of blocks), and its space is one.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "search/artifact.h"
#include "search/space.h"

static const char base[] = "//@tunable TILE int 8|16 default 8\n"
                           "static int tile(void)\n{\n    return TILE;\n}\n\n"
                           "int ks_kernel(const struct ks_call *call)\n{\n"
                           "    return call->abi != tile();\n}\n";

static void check_space(const json_t *doc)
{
    struct space *s;
    struct err err;
    int rc = space_parse(doc, "a program", &s, &err);

    assert(rc == 0 && space_n(s) <= ARTIFACT_TUNABLES_MAX);
    space_free(s);
}

static void check_answer(const char *text, const char *from)
{
    json_auto_t *errors = json_array();
    struct artifact a;
    struct err err;

    if (artifact_parse("c", text, from, &a, errors, &err) != 0) {
        assert(json_array_size(errors) > 0);
        assert(json_array_size(errors) <= ARTIFACT_ERRORS_MAX + 1);
        return;
    }
    assert(json_array_size(errors) == 0);
    assert(a.patched ? from != NULL : strstr(text, a.source) != NULL);
    assert(strlen(a.note) <= ARTIFACT_NOTE_MAX && a.n_uses <= ARTIFACT_USES_MAX);
    assert(a.has_expected ? a.expected > -7 && a.expected < 10 && a.expected_sd >= 0
                          : a.expected == 0);
    check_space(a.space);
    artifact_release(&a);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    CLEANUP(freep) char *text = xmalloc(len + 1);
    json_auto_t *errors = json_array(), *space = NULL;
    struct err err;

    if (len > 0)
        memcpy(text, data, len);
    text[len] = '\0';
    check_answer(text, NULL);
    check_answer(text, base);
    if (artifact_tunables(text, &space, errors, &err) == 0)
        check_space(space);
}
