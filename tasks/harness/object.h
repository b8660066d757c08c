/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a built shared object is made of, read from its ELF headers. The object is hostile: every
 * offset and count is checked against its length and a cap, and what is damaged is "not known".
 * Thread: any.
 */
#ifndef KS_HARNESS_OBJECT_H
#define KS_HARNESS_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

/* Bytes. */
struct object_size {
    uint64_t text, data, bss; /* code and constants; initialised, and zeroed variables */
    /* ks_kernel and the other functions of the source that are left: what it calls, each once, and
     * what was inlined where it was inlined. By the symbol table, at most `text`; 0 without one. */
    uint64_t kernel_text;
};

/* False when `data` is no complete little-endian 64-bit ELF object. */
bool object_measure(const void *data, size_t len, struct object_size *out);

/*
 * A digest of what the loader maps: program headers and the bytes of the loadable segments. Symbol
 * tables, comments and debug data are not loaded and do not count, nor does where the section table
 * lies. Objects are linked without a build id, which would tell apart what runs alike. Equal
 * digests are equal programs. False as above.
 */
bool object_digest(const void *data, size_t len, char out[SHA256_HEX + 1]);

#endif
