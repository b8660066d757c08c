/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a question says of a kernel's situation in plain words: "memory-bound, 64 experts, 8 tokens
 * each, sm_90" is a bottleneck, a shape regime and an architecture. It ranks and never filters: a
 * word read wrongly costs places, not hits. docs/retrieval.md has the phrases. Thread: any.
 */
#ifndef KS_KB_PROFILE_H
#define KS_KB_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "regime.h"

enum { PROFILE_LABEL_MAX = 24, PROFILE_TEXT_MAX = REGIME_TEXT_MAX + 96 };

struct profile {
    char bottleneck[PROFILE_LABEL_MAX];   /* "memory", "compute", "latency"; "" not said */
    char device_class[PROFILE_LABEL_MAX]; /* "sm_90", "cpu-avx512"; "" not said */
    struct regime regime;                 /* with the data type */
};

/* Reads any text; what it does not understand it leaves to the words' own search. */
void profile_read(const char *text, struct profile *out);
bool profile_is_empty(const struct profile *p);
/* "memory-bound, experts=64,tokens_per_expert=8, sm_90"; "" for none. Returns out. */
char *profile_text(const struct profile *p, char *out, size_t size);

#endif
