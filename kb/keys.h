/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of a knowledge base (Ed25519): its own pair, which signs what it exports, and the public
 * keys of others whose packs it takes. They live in DIR/keys beside the store, in no backup and in
 * no fact: private.pem (mode 0600, made when it is first needed) and trusted/FINGERPRINT.pub. `dir`
 * is the data folder. docs/packs.md has the formats. Thread: any; blocks.
 */
#ifndef KS_KB_KEYS_H
#define KS_KB_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "record.h"

enum {
    KEYS_RAW = 32,        /* bytes of a public key */
    KEYS_SIGNATURE = 64,  /* bytes of a signature */
    KEYS_NAME_MAX = 96,   /* bytes of a key's name */
    KEYS_LINE_MAX = 192,  /* room for keys_line, with its NUL */
    KEYS_TEXT_MAX = 8192, /* bytes of a file with a public key */
    KEYS_TRUSTED_MAX = 1000
};

struct public_key {
    uint8_t raw[KEYS_RAW];
    struct id fingerprint;        /* SHA-256 of `raw` */
    char name[KEYS_NAME_MAX + 1]; /* who it is; "" when nobody said */
};

/* Sets the fingerprint of a raw key; the name is empty. */
void keys_of_raw(const uint8_t raw[KEYS_RAW], struct public_key *out);
/*
 * Reads a public key from text: a line "ksearch-ed25519 BASE64 [NAME]" (lines that start with '#'
 * are comments), or PEM. ERR_INVALID says what is wrong, ERR_REFUSED for a private key.
 */
int keys_parse(const char *text, size_t len, struct public_key *out, struct err *err);
/* "ksearch-ed25519 BASE64 NAME", what keys_parse reads. Returns `out`. */
char *keys_line(const struct public_key *k, char out[KEYS_LINE_MAX]);

/*
 * The public half of the own pair, which is made when there is none. ERR_IO, ERR_CORRUPT (no
 * Ed25519 key in the file), ERR_REFUSED (others may read the private half), ERR_NOMEM.
 */
int keys_own(const char *dir, struct public_key *out, struct err *err);
/* Signs with the own key; as keys_own. */
int keys_sign(const char *dir, const void *data, size_t len, uint8_t out[KEYS_SIGNATURE],
              struct err *err);
/* Is `signature` one of these bytes by this key? */
bool keys_verify(const struct public_key *k, const void *data, size_t len,
                 const uint8_t signature[KEYS_SIGNATURE]);

/*
 * Trusts a key under `k->name` (str_is_name). A trusted one gets the new name. ERR_CONFLICT when
 * another key has the name, ERR_INVALID for no name, ERR_LIMIT over KEYS_TRUSTED_MAX, ERR_IO.
 */
int keys_trust(const char *dir, const struct public_key *k, struct err *err);
/* The trusted key of this fingerprint. ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO. */
int keys_trusted(const char *dir, const struct id *fingerprint, struct public_key *out,
                 struct err *err);
/*
 * Ends the trust in the key of this name, or whose fingerprint starts with these digits (at least
 * 6); `*out` says which it was. Facts that came with it stay. ERR_NOT_FOUND, ERR_INVALID (several),
 * ERR_IO.
 */
int keys_distrust(const char *dir, const char *which, struct public_key *out, struct err *err);
/* Calls fn for each trusted key, by fingerprint, until it returns non-zero. */
int keys_each(const char *dir, int (*fn)(void *ctx, const struct public_key *k), void *ctx,
              struct err *err);

#endif
