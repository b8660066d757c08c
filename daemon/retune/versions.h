/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions of what stands between a kernel and its machine: compiler, driver, libraries. A device
 * record has them as `toolchain` (text), `driver` (text) and `libraries` (name to text); a cell of
 * the knowledge base has them as one text, "nvcc 12.4; driver 550.54; cublas 12.4". A record with a
 * toolchain alone gives that text as it is. Thread: any.
 */
#ifndef KS_RETUNE_VERSIONS_H
#define KS_RETUNE_VERSIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { VERSIONS_TEXT_MAX = 400, VERSIONS_AXES_MAX = 24, VERSIONS_AXIS_MAX = 96 };

/* The cell's text of a device record; cut at VERSIONS_TEXT_MAX at the end of an axis. Owned. */
char *versions_of_device(const json_t *device);

/* One axis on which two texts differ: "compiler", "driver", or a library's name. */
struct versions_change {
    char axis[VERSIONS_AXIS_MAX], from[VERSIONS_AXIS_MAX], to[VERSIONS_AXIS_MAX]; /* "" for none */
};

/*
 * The axes on which the texts differ, compiler first, then in the order of `from`, then what only
 * `to` has; returns how many, at most `max`. A side without any version (an empty text) is unknown
 * and differs from nothing.
 */
size_t versions_compare(const char *from, const char *to, struct versions_change *out, size_t max);

#endif
