/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A quick reader of plain JSON texts: no escapes, no names over 127 bytes, no more than 64 levels.
 * What it does not take, good or bad, is left to jansson, which says what is wrong. Thread: any.
 */
#ifndef KS_BASE_JSONREAD_H
#define KS_BASE_JSONREAD_H

#include <jansson.h>
#include <stddef.h>

/* The value that exactly `len` bytes hold, the same as jansson's with duplicate names refused; the
 * caller's. NULL: not plain, not JSON, or no memory. */
json_t *jsonread_plain(const char *text, size_t len);

#endif
