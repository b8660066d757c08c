/* SPDX-License-Identifier: Apache-2.0 */
/* What ksearch_import.c and ksearch_import_trials.c share; nobody else includes it. */
#ifndef KS_DAEMON_KSEARCH_IMPORT_IMPL_H
#define KS_DAEMON_KSEARCH_IMPORT_IMPL_H

#include "ksearch_import.h"
#include "ksearch_read.h"
#include "search/search.h"
#include "search/world_ops.h"

/* What one measurement scatters where the records do not say: 5 %, as a micro-log. */
enum { UNKNOWN_SD_Q = 48790 };

/* The scale of the objective: ratios over a baseline and over a naive reference do not mix. */
enum scale { SCALE_NONE, SCALE_BASELINE, SCALE_REFERENCE };
struct import {
    struct kb *kb;
    const struct ksearch_place *place;
    struct ksearch_run run;
    char id[SEARCH_ID_MAX];
    struct id digest; /* of files, task and device */
    enum scale scale;
    struct kb_batch *batch;
    struct world *world;
    bool *inserted, *closes, *closed; /* per node */
    struct id *programs;              /* per solution */
    long *numbers;                    /* of programs in the search, per solution; -1 */
    struct id *facts;                 /* evaluations, per solution; "" for none */
    uint64_t seq, trials, cycles, n_programs, n_facts, n_claims, n_closed;
    uint64_t best_trial;
    int64_t best_q;
};

/* ksearch_import.c */

/* Takes the event, and the edit (NULL for none), which must apply. */
int import_emit(struct import *im, json_t *event, struct world_edit *edit, struct err *err);

/* ksearch_import_trials.c */

/* Failed, or passed with an objective on the scale: what can be a trial and a fact. */
bool import_is_measured(const struct import *im, const struct ksearch_solution *s);
bool import_is_ok(const struct import *im, const struct ksearch_solution *s);
/* The document of a program, and its address. */
int import_put_program(struct import *im, const char *language, const char *source, struct id *id,
                       struct err *err);
/* Program 0 is what the run began with: its seed, or nothing that its records have. */
int import_first_program(struct import *im, struct err *err);
/* The event that gives the program of solution `at` to the lane (-1: to none). */
int import_program(struct import *im, size_t at, long parent, int lane, struct err *err);
/* A solution as one cycle with one evaluation on a node, which it closes when `closes`. */
int import_trial(struct import *im, size_t at, const char *node, const char *title, long base,
                 bool closes, struct err *err);
/* The number of the program that a node's action starts from: its parent's. */
long import_base(const struct import *im, const struct ksearch_node *n);
/* A node and its parent that were both measured are a pair for the technique that it names. */
int import_learn(struct import *im, size_t node, struct err *err);

#endif
