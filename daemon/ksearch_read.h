/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of the artifacts of a K-Search run: its world model (one JSON document) and its store of
 * solutions (one JSON object a line). What it leaves is a tree that keeps our invariants: one root,
 * unique ids, no cycles, numbers in range, and evidence only where the store has it. What had to be
 * read otherwise than written is a repair, what could not be used is skipped; both are sentences.
 * docs/k-search.md has the rules. Thread: any; a run belongs to its caller.
 */
#ifndef KS_DAEMON_KSEARCH_READ_H
#define KS_DAEMON_KSEARCH_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "search/world.h"

enum {
    KSEARCH_FILE_MAX = 128 << 20, /* bytes of both files together */
    KSEARCH_SOURCE_MAX = 1 << 20, /* bytes of one program */
    KSEARCH_SOLUTIONS_MAX = 4000, /* fewer than a search may have programs */
    KSEARCH_SENTENCES_MAX = 100,  /* repairs, and things skipped, that are told; all are counted */
    KSEARCH_NONE = -1
};

/* What was measured of a solution, as the store says. Numbers are NaN where it does not. */
struct ksearch_result {
    bool passed;
    const char *status; /* "ok" or a failure class of ours; static */
    double vs_baseline; /* mean of baseline latency over its own; comparable */
    double speedup;     /* over a naive reference; another scale */
    double latency_ms, reference_ms;
    char *log; /* excerpt, "" for none */
};

struct ksearch_solution {
    char *id, *name, *task, *language, *source;
    size_t line; /* in the store, from 1: the order in which they were found */
    struct ksearch_result result;
    int node; /* that it is attached to; KSEARCH_NONE */
};

/* A node; those before it in `nodes` have its parent among them. Texts are within the world's caps.
 */
struct ksearch_node {
    char id[WORLD_ID_MAX + 1];
    int parent; /* KSEARCH_NONE for node 0, the root */
    char *decision, *choice, *impacts, *notes, *title, *description, *rationale;
    double rating, confidence, score;
    int difficulty;
    bool has_expected;
    double expected; /* natural log of the factor over the baseline */
    int solution;    /* attached; KSEARCH_NONE while it is open */
};

struct ksearch_run {
    char *summary;
    size_t n_nodes, n_solutions;
    struct ksearch_node *nodes;
    struct ksearch_solution *solutions; /* in the order of the store */
    json_t *repairs, *skipped;          /* the first KSEARCH_SENTENCES_MAX sentences of each */
    size_t n_repairs, n_skipped;
};

/*
 * Reads both texts. ERR_INVALID (the world model is none), ERR_LIMIT (too many nodes or solutions).
 * Release with ksearch_run_release.
 */
int ksearch_read(const char *model, size_t model_len, const char *store, size_t store_len,
                 struct ksearch_run *out, struct err *err);
void ksearch_run_release(struct ksearch_run *r);
/* Adds one sentence to the repairs. */
void ksearch_repair(struct ksearch_run *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
