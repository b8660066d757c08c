/* SPDX-License-Identifier: Apache-2.0 */
/* A running SHA-256 (OpenSSL EVP). Thread: a digest belongs to its caller. */
#ifndef KS_KB_DIGEST_H
#define KS_KB_DIGEST_H

#include <stddef.h>

#include "record.h"

struct digest;

/* NULL when memory is out. */
struct digest *digest_new(void);
void digest_add(struct digest *d, const void *data, size_t len);
/* Ends it; the digest can only be freed afterwards. */
void digest_end(struct digest *d, struct id *out);
void digest_free(struct digest *d); /* NULL is fine */

#endif
