/* SPDX-License-Identifier: Apache-2.0 */
/* What ksearch_read.c and ksearch_read_store.c share; nobody else includes it. */
#ifndef KS_DAEMON_KSEARCH_READ_IMPL_H
#define KS_DAEMON_KSEARCH_READ_IMPL_H

#include "ksearch_read.h"

/* Adds one sentence to what was skipped. */
void ksearch_skip(struct ksearch_run *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/*
 * Parses JSON that may have the bare words NaN and Infinity, which become empty texts (no number
 * reads them); *n_words counts them. Fresh; NULL with ERR_INVALID.
 */
json_t *ksearch_json(const char *text, size_t len, size_t *n_words, const char *what,
                     struct err *err);
/* A member as a number from `low` to `high`: clamped, or `fallback` where it is none. Both are
 * repairs; a missing or null one is not. */
double ksearch_number(struct ksearch_run *r, const char *node, const json_t *obj, const char *key,
                      double low, double high, double fallback);

/* Reads the store into r->solutions. ERR_LIMIT. */
int ksearch_read_store(struct ksearch_run *r, const char *text, size_t len, struct err *err);
void ksearch_solution_release(struct ksearch_solution *s);

#endif
