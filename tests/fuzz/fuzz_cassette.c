/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recordings of answers, of any bytes. Beyond not crashing: what is cut off behind the last whole
 * line makes no difference, and every answer that was taken is one that can be used.
 */
#include <assert.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "llm/cassette.h"

static void check_answer(struct cassette *c, const char *hash)
{
    struct llm_answer a;

    if (!cassette_next(c, hash, &a))
        return;
    assert(a.text[0] != '\0' && strlen(a.text) <= LLM_ANSWER_MAX);
    assert(strlen(a.model) < LLM_MODEL_MAX && a.usd_q >= 0 && a.seconds >= 0);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    static const char a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char b[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct cassette *c, *again;
    struct err err;
    size_t whole, whole_again;
    int status;

    if (cassette_parse((const char *)data, len, &c, &whole, &err) != 0) {
        assert(err.code == ERR_INVALID || err.code == ERR_LIMIT);
        assert(strstr(err.msg, "line ") != NULL);
        return;
    }
    assert(whole <= len);
    status = cassette_parse((const char *)data, whole, &again, &whole_again, &err);
    assert(status == 0 && whole_again == whole);
    assert(cassette_count(again) == cassette_count(c));
    for (int i = 0; i < 3; i++) {
        check_answer(c, a);
        check_answer(c, b);
    }
    cassette_free(again);
    cassette_free(c);
}
