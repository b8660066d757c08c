/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BM25 (Robertson and Zaragoza 2009; k1 1.2, b 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5))) over
 * an inverted index in memory. Documents are bags of term hashes, numbered densely from 0 and never
 * changed; frequencies count up to 255, lengths up to 65535. Top-k is exact: postings are skipped
 * only where a bound proves that they cannot change the answer. Thread: the owner's lock; searches
 * may run together, each with its own scratch.
 */
#ifndef KS_KB_LEXICAL_H
#define KS_KB_LEXICAL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum { LEXICAL_QUERY_TERMS = 64 };

struct lexical;
struct lexical_scratch;

struct lexical_hit {
    uint32_t doc;
    float score; /* > 0 */
};

struct lexical *lexical_new(void); /* NULL when memory is out */
void lexical_free(struct lexical *x);

/*
 * Adds the next document: its terms in any order, repeated as often as they occur; 0 is no term.
 * On failure the index is as before. ERR_NOMEM, ERR_LIMIT above 2^31 documents.
 */
int lexical_add(struct lexical *x, const uint64_t *terms, size_t n, struct err *err);

uint32_t lexical_docs(const struct lexical *x);
uint64_t lexical_terms(const struct lexical *x);
uint64_t lexical_postings(const struct lexical *x);
/* In how many documents the term occurs. */
uint32_t lexical_frequency(const struct lexical *x, uint64_t term);
/* How often the term occurs in the document. */
uint32_t lexical_occurrences(const struct lexical *x, uint64_t term, uint32_t doc);

struct lexical_scratch *lexical_scratch_new(void);
void lexical_scratch_free(struct lexical_scratch *s);

/*
 * The k best documents for at most LEXICAL_QUERY_TERMS distinct terms (more: the first ones), best
 * first, equal scores by number. `allowed` has a bit for each document, in whole words (NULL: all).
 * `*n` gets how many were written to out[k].
 */
void lexical_search(const struct lexical *x, struct lexical_scratch *s, const uint64_t *terms,
                    size_t n_terms, const uint64_t *allowed, size_t k, struct lexical_hit *out,
                    size_t *n);

/* Writes the index at the file's position; reads it back into an empty index. Bytes come from a
 * checked snapshot, yet every count is bounded. ERR_IO, ERR_CORRUPT, ERR_NOMEM. */
int lexical_write(const struct lexical *x, FILE *f, struct err *err);
int lexical_read(FILE *f, struct lexical **out, struct err *err);

#endif
