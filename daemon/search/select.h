/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which node next: the frontier, two named policies over it, the record of why, and the
 * deterministic fallbacks that keep a search from running dry. Everything here is a pure function
 * of the world and its arguments, so a restart takes the same decision. Thread: any that may read
 * the world.
 */
#ifndef KS_SEARCH_SELECT_H
#define KS_SEARCH_SELECT_H

#include "search/scorebook.h"
#include "search/world.h"
#include "search/world_ops.h"

enum select_policy { SELECT_UTILITY, SELECT_LEXICOGRAPHIC, SELECT_POLICY_COUNT };

/* "utility", "lexicographic". */
const char *select_policy_name(enum select_policy p);
/* The policy of this name; SELECT_POLICY_COUNT when there is none. */
enum select_policy select_policy_from_name(const char *name);

struct select_params {
    enum select_policy policy;
    int max_difficulty;         /* lexicographic gate, 1..5 (4) */
    int relaxed_max_difficulty; /* gate once the best reaches half the baseline's speed (4) */
    double budget_left;         /* share of the evaluations left, 0..1; negative: not scaled */
    uint64_t seed;              /* breaks ties of equal utility */
    const uint32_t *in_flight;  /* nodes being executed: not chosen, and a cost to siblings */
    size_t n_in_flight;
    /* Nodes that are not to be chosen now, whatever they are worth; NULL: none. */
    bool (*keeps_off)(const void *ctx, uint32_t node);
    const void *keeps_off_ctx;
    /* What the scores' author was right about so far, for the utility policy alone; NULL: scores
     * are taken as they are. Borrowed. */
    const struct score_correction *correction;
    /*
     * The utility policy alone: a score counts by what there is to gain. Scores are probabilities,
     * and nodes below different parents start from different programs; what brings them to one
     * scale is the expected gain over the best of all, relative to the largest of the frontier.
     */
    bool weighs_gain;
};

/* utility, gates 4 and 4, no scaling, nothing in flight, no correction. */
struct select_params select_defaults(void);

/* Everything a choice looked at, for one node. */
struct select_features {
    uint32_t node;
    char id[WORLD_ID_MAX + 1];
    double score;          /* 0..1, as the node has it */
    double corrected;      /* what the utility is computed from; the score itself without a
                              correction, and under the lexicographic policy */
    double promise;        /* what the score is multiplied by: expected gain over the best, relative
                              to the frontier's largest; 0.5 without a forecast; 1 when not weighed */
    double rating;         /* 0..10 */
    double confidence;     /* 0..1 */
    double parent_quality; /* q: parent's over best objective, 0..1; 0.5 under the root */
    bool under_root;
    int difficulty;
    double difficulty_scale; /* 0.75 (all budget left) .. 1.25 (none); 1 when not scaled */
    uint32_t failed_cycles;
    uint32_t siblings_in_flight;
    double utility; /* computed under either policy */
    bool gated;     /* lexicographic: above the difficulty gate */
};

struct select_choice {
    enum select_policy policy;
    size_t frontier; /* executable nodes, without those in flight */
    size_t eligible; /* of them, through the gate (all of them when it was dropped) */
    int gate;        /* difficulty gate used; 0 under utility */
    bool gate_dropped;
    struct select_features chosen;
    bool has_runner_up;
    struct select_features runner_up; /* what would have been chosen otherwise */
};

/* Writes up to `max` executable nodes in insertion order into `out` (may be NULL when max is 0);
 * returns how many there are. */
size_t select_frontier(const struct world *w, uint32_t *out, size_t max);

/* Chooses the next node; false when nothing is executable that is not in flight. */
bool select_next(const struct world *w, const struct select_params *p, struct select_choice *out);

/* The choice as stored in the event log, and back (strict; ERR_INVALID). */
json_t *select_choice_to_json(const struct select_choice *c);
int select_choice_from_json(const json_t *j, struct select_choice *out, struct err *err);
/* "Why this node?": a few sentences. Needs no world, so it explains old choices too. */
int select_explain(const struct select_choice *c, struct buf *out, struct err *err);

/* True when the node has an open child with an action title and difficulty below 5. */
bool select_has_continuation(const struct world *w, uint32_t node);
/*
 * True when the proposer should be asked before selecting: fewer than 3 executable nodes, or the
 * best node has no open child.
 */
bool select_needs_proposals(const struct world *w);
/*
 * The deterministic fallbacks: an insert of one generic small step under `node` (continuation:
 * score 0.35) or under the best node, the root when nothing is solved (score 0.60). `*out` is
 * initialised as an edit of the system with one operation, which only a full world refuses. Where
 * `node` cannot have children (a leaf, the last depth, an abandoned node) its nearest ancestor that
 * can takes its place.
 */
void select_continuation_edit(const struct world *w, uint32_t node, uint64_t round,
                              struct world_edit *out);
void select_best_edit(const struct world *w, uint64_t round, struct world_edit *out);
/* Was the node made by one of them, by its title? Its score is then nobody's opinion. */
bool select_is_fallback(const struct world_node *n);

#endif
