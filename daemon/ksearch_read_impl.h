/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that read a K-Search run share; nobody else includes it. Thread: any. */
#ifndef KS_DAEMON_KSEARCH_READ_IMPL_H
#define KS_DAEMON_KSEARCH_READ_IMPL_H

#include "ksearch_read.h"

/* ---- ksearch_values.c ---- */

/* Adds one sentence to what was skipped. */
void ksearch_skip(struct ksearch_run *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/*
 * Parses JSON that may have the bare words NaN and Infinity, which become empty texts (no number
 * reads them); *n_words counts them. Fresh; NULL with ERR_INVALID.
 */
json_t *ksearch_json(const char *text, size_t len, size_t *n_words, const char *what,
                     struct err *err);
/* A number, or a text that is one and nothing else; NaN for all others. */
double ksearch_number_of(const json_t *v);
/* A member as a number from `low` to `high`: clamped, or `fallback` where it is none. Both are
 * repairs; a missing or null one is not. */
double ksearch_number(struct ksearch_run *r, const char *node, const json_t *obj, const char *key,
                      double low, double high, double fallback);

/* Cuts a text to at most `max` bytes, between characters. */
void ksearch_cut(char *s, size_t max);
/* A member as text of at most `max` bytes, without the blanks around it; owned. "" when it is
 * missing; a repair when it is no text, or too long. */
char *ksearch_text(struct ksearch_run *r, const char *node, const json_t *obj, const char *key,
                   size_t max);

/* ---- ksearch_read_store.c ---- */

/* Reads the store into r->solutions. ERR_LIMIT. */
int ksearch_read_store(struct ksearch_run *r, const char *text, size_t len, struct err *err);
void ksearch_solution_release(struct ksearch_solution *s);

#endif
