/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in embedding "builtin-1": words, character n-grams, technique concepts and structured
 * context, hashed with signs into 256 integers, scaled to a length of 240 and rounded to bytes.
 * Everything but one square root is integer arithmetic, so a text has the same embedding, and a
 * pair the same score, on every machine. Thread: any.
 */
#ifndef KS_KB_EMBED_H
#define KS_KB_EMBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "record.h"
#include "text.h"

enum { EMBED_DIM = 256 };

#define EMBED_MODEL "builtin-1"

struct embedding {
    int8_t v[EMBED_DIM]; /* all zero for a text without any feature */
};

/* What is known beside the text; any member may be NULL or "". */
struct embed_context {
    const char *technique; /* resolved through the vocabulary */
    const char *family, *dtype, *language, *bottleneck;
    const char *requires; /* comma-separated hardware features */
    const char *param, *with_value, *without_value;
};

/*
 * Embeds text (any bytes; see text.h for caps) with its context. Words that name a data type,
 * language or bottleneck ("bf16", "cuda", "memory-bound") count as that context too. `t` is used
 * for the call. vocab_init must have been called.
 */
void embed_text(struct text *t, const char *s, size_t len, const struct embed_context *ctx,
                struct embedding *out);
/* Statement, mechanism and scope of a claim. */
void embed_claim(struct text *t, const struct claim *c, struct embedding *out);

/*
 * A provider's vector of n numbers (n >= 1) brought to ours. Up to EMBED_DIM numbers keep their
 * places. More are folded by feature hashing with signs (Weinberger et al. 2009): number i goes to
 * place h(i) with sign s(i), h and s fixed hashes of i, so that the expectation of a cosine is what
 * it was, with a deviation of about 1/16. Then scaled to the length of the built-in vectors, or
 * less where a number would not fit, and rounded; computed in doubles. All zero for zeros.
 * ERR_INVALID for a number that is not finite.
 */
int embed_project(const double *x, size_t n, struct embedding *out, struct err *err);
/* What a provider is asked to embed of a claim: technique, statement, mechanism and scope, in one
 * paragraph, appended to `out`. ERR_NOMEM, ERR_LIMIT. */
int embed_claim_text(const struct claim *c, struct buf *out, struct err *err);

/* Inner product, and squared length; exact. */
int32_t embed_dot(const struct embedding *a, const struct embedding *b);

/* An embedding made ready for many products. */
struct embedding_wide {
    int16_t v[EMBED_DIM];
    int8_t narrow[EMBED_DIM];
    int32_t sum; /* of all of them */
};
void embed_widen(const struct embedding *e, struct embedding_wide *out);
/* out[i] = embed_dot(q, v[i]) for n vectors side by side; the fast way. */
void embed_dots(const struct embedding_wide *q, const struct embedding *v, size_t n, int32_t *out);
/* The same by way number i, from 0; false where this machine has no such way. For tests. */
bool embed_dots_each(size_t i, const struct embedding_wide *q, const struct embedding *v, size_t n,
                     int32_t *out);

/* Cosine of the angle in [-1, 1]; 0 when one of them is all zero. */
float embed_cosine(const struct embedding *a, const struct embedding *b);
/* The vector scaled to length 1, for faiss: out[EMBED_DIM]. All zero stays all zero. */
void embed_to_float(const struct embedding *e, float *out);

#endif
