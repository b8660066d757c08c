/* SPDX-License-Identifier: Apache-2.0 */
/* One task pack from its folder: the parser behind pack.c. Thread: worker, blocks. */
#ifndef KS_EVAL_PACK_PARSE_H
#define KS_EVAL_PACK_PARSE_H

#include "eval/pack.h"

/* Reads the pack at `dir`. Never fails: what is wrong becomes its problems. One reference. */
struct pack *pack_parse(const char *dir);
struct pack *pack_ref(struct pack *p);
void pack_unref(struct pack *p); /* NULL is fine */
/* Adds a sentence to the pack's problems. */
void pack_problem(struct pack *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
