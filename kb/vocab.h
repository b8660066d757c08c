/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controlled vocabulary of techniques: canonical names, synonyms, and the broader concepts that
 * relate techniques to one another. A static table, open to additions: a name that is not in it is
 * a technique of its own. Thread: any, after vocab_init.
 */
#ifndef KS_KB_VOCAB_H
#define KS_KB_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    VOCAB_NAME_MAX = 96,     /* bytes of a canonical name, with its NUL */
    VOCAB_PHRASE_WORDS = 5,  /* words of a name or synonym, stop words not counted */
    VOCAB_SYNONYMS_MAX = 12, /* of one technique */
    VOCAB_CONCEPTS_MAX = 4,
};

struct vocab_entry {
    const char *name; /* "online-softmax" */
    const char *summary;
    const char *concepts[VOCAB_CONCEPTS_MAX]; /* NULL-terminated unless full */
    const char *synonyms[VOCAB_SYNONYMS_MAX];
};

/* Prepares look-ups; calling it again changes nothing. ERR_NOMEM. Every other call needs it. */
int vocab_init(struct err *err);

/* A number that changes with the table: what was computed with another one is out of date. */
uint64_t vocab_fingerprint(void);

size_t vocab_count(void);
const struct vocab_entry *vocab_at(size_t i);
/* Index of the technique that `name` (a canonical name or a synonym, in any case, inflection and
 * punctuation) stands for; -1 when the vocabulary has none. */
int vocab_find(const char *name);
/*
 * The canonical name of `name` into out; one that the vocabulary lacks is only normalised (lower
 * case, blanks and signs become single '-', cut at VOCAB_NAME_MAX - 1). Returns out.
 */
char *vocab_canonical(const char *name, char out[VOCAB_NAME_MAX]);
/*
 * The techniques that a text names: `stems` are the hashes of its words in order, without stop
 * words and compounds. Longest match first, from the left, each technique once. Returns how many of
 * `cap` were written to `out`.
 */
size_t vocab_scan(const uint64_t *stems, size_t n, uint16_t *out, size_t cap);

#endif
