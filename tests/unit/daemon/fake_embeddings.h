/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An embeddings service in a thread, on a port of its own, that answers well, fails in one way or
 * another, or not at all. A text's vector counts its words by hash, so that texts with words in
 * common are near. Thread: any.
 */
#ifndef KS_TESTS_FAKE_EMBEDDINGS_H
#define KS_TESTS_FAKE_EMBEDDINGS_H

#include <stddef.h>

enum fake_mood {
    FAKE_GOOD,
    FAKE_DOWN,      /* 500 with the error's usual form */
    FAKE_BUSY,      /* 429 with a body that is no JSON */
    FAKE_SILENT,    /* takes the request and never answers */
    FAKE_WRONG_DIM, /* one number more than before */
    FAKE_GARBAGE,   /* 200, and no JSON */
    FAKE_FEW,       /* a vector less than texts */
    FAKE_NAN,       /* a text where a number belongs */
    FAKE_PICKY,     /* 400 for a request with a text that holds "poison" */
    FAKE_GONE       /* closes without a word */
};

struct fake;

/* Answers with vectors of `dim` numbers unless the request asks for other `dimensions`; with a
 * `key` (may be NULL) only to who sends it. Fails the test when no port is free. */
struct fake *fake_start(size_t dim, const char *key);
void fake_stop(struct fake *f);
/* "http://127.0.0.1:41234"; borrowed. */
const char *fake_url(const struct fake *f);
void fake_set_mood(struct fake *f, enum fake_mood mood);
/* Requests that came, and texts that were embedded, since the start. */
size_t fake_requests(const struct fake *f);
size_t fake_texts(const struct fake *f);

#endif
