/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a fuzz target is: one function that takes any bytes and must neither crash, hang nor break
 * its own asserts. fuzz.c drives it with seeds and mutations of them; a coverage-guided fuzzer can
 * call it as well.
 */
#ifndef KS_TEST_FUZZ_H
#define KS_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

void fuzz_one(const uint8_t *data, size_t len);

#endif
