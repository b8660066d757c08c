/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a question, a pack or an embeddings service may say, on any bytes: profiles, shapes,
 * formulas, answers with vectors. Beyond not crashing: what a shape is written as reads back as the
 * same shape, and likeness stays in its bounds.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "embedding_openai.h"
#include "eval/formula.h"
#include "fuzz/fuzz.h"
#include "profile.h"

static bool any_name(void *ctx, const char *name, double *out)
{
    (void)ctx;
    *out = (double)strlen(name);
    return true;
}

static void shape(const char *text)
{
    struct regime r, again;
    struct regime_match m;
    char written[REGIME_TEXT_MAX], rewritten[REGIME_TEXT_MAX];
    struct err err;

    regime_read(text, &r);
    m = regime_compare(&r, &r, REGIME_OWN_FAMILY);
    assert(m.distance == 0 && m.similarity == 1);
    if (regime_parse(text, &r, &err) != 0)
        return;
    regime_text(&r, written, sizeof(written));
    assert(regime_parse(written, &again, &err) == 0);
    assert(strcmp(regime_text(&again, rewritten, sizeof(rewritten)), written) == 0);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    CLEANUP(freep) char *text = xcalloc(len + 1, 1);
    const struct formula_names names = { any_name, NULL };
    struct embedding v[2];
    struct profile p;
    char said[PROFILE_TEXT_MAX];
    struct err err;
    size_t dim = 0;
    double value;

    memcpy(text, data, len);
    profile_read(text, &p);
    assert(strlen(profile_text(&p, said, sizeof(said))) < sizeof(said));
    shape(text);
    if (formula_eval(text, &names, &value, &err) != 0)
        assert(err.msg[0] != '\0');
    if (openai_parse(text, len, 2, &dim, v, &err) != 0)
        assert(err.code == ERR_UPSTREAM && dim == 0);
}
