/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring this machine: the device record of docs/design.md section 5. */
#ifndef KS_HARNESS_PROBE_H
#define KS_HARNESS_PROBE_H

#include <jansson.h>

#include "base/err.h"

/*
 * Measures for one to two seconds on all processors this process may use. `name`: the device's
 * name; `march`: what candidates will be compiled for, which decides how wide the throughput loop
 * is. The caller owns *out. ERR_INVALID (the compiler does not know `march`), ERR_IO, ERR_NOMEM.
 */
int probe(const char *name, const char *march, json_t **out, struct err *err);

#endif
