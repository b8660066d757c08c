/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings: strict parsing, names, hex, escaping of text that came from outside. Thread: any.
 */
#ifndef KS_BASE_STR_H
#define KS_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Formats into fresh memory; NULL when memory is out. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Whole-string parses: no blanks, no rest, no overflow; finite only. */
bool str_to_u64(const char *s, uint64_t *out);
bool str_to_i64(const char *s, int64_t *out);
bool str_to_double(const char *s, double *out);
/* "90", "90s", "5m", "2h", "250ms" to nanoseconds. */
bool str_to_duration_ns(const char *s, uint64_t *out_ns);

/* Names of tasks, devices, tunables: 1 to 96 of [A-Za-z0-9_.-], not starting with '.' or '-'. */
bool str_is_name(const char *s);
/* A lower-case hexadecimal string of exactly `len` digits. */
bool str_is_hex(const char *s, size_t len);
void str_hex(const uint8_t *bytes, size_t n, char *out /* 2n + 1 */);
bool str_unhex(const char *hex, size_t n, uint8_t *out /* n */);

/*
 * Makes text from models, compilers or clients fit for a log line or a terminal: control characters
 * become \n, \t or \xNN, bytes that are not UTF-8 become \xNN, and the text is cut at `size` with
 * "...". Returns `out`.
 */
char *str_visible(const char *s, size_t len, char *out, size_t size);

/* Copies at most size - 1 bytes and ends with a NUL; returns false when it had to cut. */
bool str_copy(char *out, size_t size, const char *s);

bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);

#endif
