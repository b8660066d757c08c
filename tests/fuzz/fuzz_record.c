/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the knowledge base on any bytes, as JSON from outside and as text from the store.
 * Beyond not crashing: what is taken is written canonically, and reading that back gives the same
 * text.
 */
#include <assert.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "record_text.h"

enum { TEXT_MAX = 4 << 20 };

/* A record that was taken survives writing, reading and writing again. */
#define CHECK(noun, release)                                                                       \
    static void noun##_check(const json_t *j, const char *data, size_t len)                        \
    {                                                                                              \
        CLEANUP(buf_release) struct buf first = { .max = TEXT_MAX };                               \
        CLEANUP(buf_release) struct buf second = { .max = TEXT_MAX };                              \
        struct noun record;                                                                        \
        struct err err;                                                                            \
        int rc;                                                                                    \
                                                                                                   \
        if (noun##_read(data, len, &record, &err) == 0)                                            \
            release(&record);                                                                      \
        if (j == NULL || noun##_from_json(j, &record, &err) != 0)                                  \
            return;                                                                                \
        rc = noun##_write(&record, &first, &err);                                                  \
        release(&record);                                                                          \
        assert(rc == 0);                                                                           \
        rc = noun##_read(first.data, first.len, &record, &err);                                    \
        assert(rc == 0);                                                                           \
        rc = noun##_write(&record, &second, &err);                                                 \
        assert(rc == 0 && strcmp(first.data, second.data) == 0);                                   \
        release(&record);                                                                          \
    }

static void nothing_to_release(struct link *l)
{
    (void)l;
}

CHECK(evaluation, evaluation_release)
CHECK(claim, claim_release)
CHECK(evidence, evidence_release)
CHECK(retraction, retraction_release)
CHECK(link, nothing_to_release)

void fuzz_one(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    json_auto_t *j = NULL;
    struct err err;

    if (jsonx_parse(text, len, "the record", &j, &err) != 0)
        j = NULL;
    evaluation_check(j, text, len);
    claim_check(j, text, len);
    evidence_check(j, text, len);
    retraction_check(j, text, len);
    link_check(j, text, len);
}
