/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text normalisation for retrieval: lower case, words split on what is no letter or digit,
 * compounds
 * ("online-softmax", "KV_TILE") kept beside their parts, English stems (libstemmer), stop words
 * marked. A term is known by the 64-bit hash of its stem. Input is any bytes: what is not UTF-8
 * separates words. Thread: a struct text belongs to its caller.
 */
#ifndef KS_KB_TEXT_H
#define KS_KB_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TEXT_WORD_MAX = 47,      /* bytes of a word that count; the rest of a longer one is skipped */
    TEXT_BYTES_MAX = 4096,   /* of one text; the rest is not read */
    TEXT_COMPOUND_PARTS = 8, /* parts of a compound; a longer one is cut into several */
};

struct text;

struct text_token {
    uint64_t hash;   /* of the stem; of the stems joined by '-' for a compound; never 0 */
    uint32_t offset; /* of the word in the scanned text */
    uint32_t len;    /* bytes there */
    uint32_t number; /* integer part when is_number, saturated */
    bool is_number;
    bool is_stop;
    bool is_compound;             /* comes right after its parts */
    char word[TEXT_WORD_MAX + 1]; /* lower case, not stemmed; "" for a compound */
};

/* A place in a text being cut into tokens; the fields are private. */
struct text_scan {
    struct text *text;
    const char *s;
    size_t len, pos;
    size_t compound_start;
    unsigned parts;
    uint64_t compound_hash;
    bool in_compound, compound_due;
};

/* A stemmer with its memory of recent words. NULL when memory is out. */
struct text *text_new(void);
void text_free(struct text *t); /* NULL is fine */

/* Begins to cut the first TEXT_BYTES_MAX bytes of `s`, which stays borrowed. */
void text_scan_init(struct text_scan *sc, struct text *t, const char *s, size_t len);
/* The next token into `out`; false at the end. */
bool text_next(struct text_scan *sc, struct text_token *out);

/* The same hash for the bytes of a name, mixed with `seed` to keep kinds of names apart. */
uint64_t text_hash(uint64_t seed, const char *s, size_t len);
/* Combines two hashes; the order matters. */
uint64_t text_hash_pair(uint64_t a, uint64_t b);

#endif
