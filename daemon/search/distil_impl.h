/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of distil.h share. Private to daemon/search. Thread: as there. */
#ifndef KS_SEARCH_DISTIL_IMPL_H
#define KS_SEARCH_DISTIL_IMPL_H

#include "search/distil.h"
#include "vocab.h"

struct search;
struct text;
struct trial;

enum { DISTIL_NAMES_MAX = 256 };

/* What no claim may name: this machine, this task, its workloads. */
struct distil_names {
    size_t n;
    char *items[DISTIL_NAMES_MAX];
    char host[256];
    const char *hosts[1];
    size_t n_hosts;
};

/* One cycle under way. */
struct distil {
    struct journal *j;
    struct search *s;
    const struct distil_case *c;
    const struct trial *with; /* the case's, or the failure */
    struct distil_names names;
    struct text *text;
    json_t *accepted, *refused;
};

/* ---- distil_words.c ---- */

/* Fills d->names; release with distil_release_names. */
void distil_collect_names(struct distil *d);
void distil_release_names(struct distil_names *n);
/* The techniques that a text names; returns how many of `cap` there are. */
size_t distil_named(const struct distil *d, const char *text, uint16_t *out, size_t cap);
/* Why a statement cannot stand, NULL when it can. Static. */
const char *distil_statement_fault(const struct distil *d, const char *s);
/*
 * The technique that a model's word stands for: the vocabulary's, by any synonym or as the only one
 * named, or one of its own (*proposed). Why there is none, NULL when there is. Static.
 */
const char *distil_technique(const struct distil *d, const char *given, char out[VOCAB_NAME_MAX],
                             bool *proposed);
/* Mechanism and condition as one text; "" where they say what no claim may. Owned; NULL: no memory.
 */
char *distil_mechanism(const struct distil *d, const json_t *insight);

#endif
