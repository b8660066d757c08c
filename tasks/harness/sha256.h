/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 (FIPS 180-4), because the harness is carried alone and links no crypto library. Names
 * objects and cache entries. Thread: any; a hash belongs to its caller.
 */
#ifndef KS_HARNESS_SHA256_H
#define KS_HARNESS_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 64 /* digits of a digest */

struct sha256 {
    uint32_t state[8];
    uint64_t len; /* bytes so far */
    uint8_t block[64];
};

void sha256_init(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t len);
/* A string with its NUL, so that "ab","c" and "a","bc" differ. */
void sha256_adds(struct sha256 *h, const char *s);
/* Ends the hash: lower-case hexadecimal digits and a NUL. */
void sha256_hex(struct sha256 *h, char out[SHA256_HEX + 1]);

#endif
