/* SPDX-License-Identifier: Apache-2.0 */
/* A fast checksum of files that are caches: it finds damage, not forgery. Thread: any. */
#ifndef KS_KB_CHECKSUM_H
#define KS_KB_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Several bytes a cycle. In this machine's byte order. Any one changed word shows. */
uint64_t checksum(const void *data, size_t len);

#endif
