/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What jansson leaves to us: strict parsing of outside bytes with a depth cap and a readable error,
 * and the canonical form (sorted keys, compact) that content addresses are computed over. Thread:
 * any.
 */
#ifndef KS_BASE_JSONX_H
#define KS_BASE_JSONX_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/*
 * Parses one JSON text of exactly `len` bytes; duplicate keys, trailing bytes, NaN and more than 64
 * levels are ERR_INVALID. The caller owns `*out`. `what` names the text in the error.
 */
int jsonx_parse(const char *text, size_t len, const char *what, json_t **out, struct err *err);
/* The same for a file of at most `max` bytes. ERR_NOT_FOUND, ERR_IO, ERR_LIMIT, ERR_INVALID. */
int jsonx_load(const char *path, size_t max, json_t **out, struct err *err);
/* Canonical text: sorted keys, compact, 17 significant digits. Owned; NULL when memory is out. */
char *jsonx_canonical(const json_t *v);

/* Typed look-ups for JSON of our own making: absent or of another type gives the fallback. */
const char *jsonx_str(const json_t *obj, const char *key, const char *fallback);
double jsonx_num(const json_t *obj, const char *key, double fallback);
long long jsonx_int(const json_t *obj, const char *key, long long fallback);
int jsonx_bool(const json_t *obj, const char *key, int fallback);

#endif
