/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world model of one search: a typed decision tree with beliefs and measured evidence.
 * It changes only through world_apply (world_ops.h), one edit at a time, all or nothing; the tree
 * is a fold over its committed edits, so the same edits on an empty world give an identical tree.
 * Nodes are never removed: a dead end stays as a tombstone with its reason.
 * The invariants I1 to I9 that world_check tests are listed in docs/world-model.md.
 * Thread: the loop that owns the search; const functions from any thread while nobody writes.
 */
#ifndef KS_SEARCH_WORLD_H
#define KS_SEARCH_WORLD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define WORLD_NONE UINT32_MAX /* no node */
#define WORLD_ROOT_ID "root"

enum {
    WORLD_ID_MAX = 63, /* bytes of a node id; [A-Za-z0-9_.-], not starting with '.' or '-' */
    WORLD_NODES_MAX = 4096,
    WORLD_BYTES_MAX = 16 << 20,   /* of all nodes and their texts */
    WORLD_BYTES_MODEL = 12 << 20, /* edits of a model end here: what was measured has to fit */
    WORLD_DEPTH_MAX = 64,
    WORLD_COMMITMENTS_MAX = 64, /* of one node */
    WORLD_FAILURES_MAX = 20,    /* failure classes counted per node */
    WORLD_LABEL_MAX = 200,      /* title, decision, choice, parameter name and value */
    WORLD_TEXT_MAX = 4000,      /* description, rationale, impacts, notes */
    WORLD_REASON_MAX = 400,
    WORLD_ASSIGNMENT_MAX = 16384,
    WORLD_PROGRAM_HEX = 64,
    WORLD_STATUS_MAX = 31
};

enum world_kind {
    WORLD_ROOT,     /* the specification; no decision */
    WORLD_DECISION, /* one design decision; may have children */
    WORLD_LEAF,     /* an assignment of numeric parameters; no children */
    WORLD_KIND_COUNT
};

/*
 *   insert ──> OPEN ──attach──> CLOSED       (children become executable)
 *               └──abandon, or the failed-cycle limit──> ABANDONED, with all below it
 */
enum world_state { WORLD_OPEN, WORLD_CLOSED, WORLD_ABANDONED, WORLD_STATE_COUNT };

/* "root", "decision", "leaf"; "open", "closed", "abandoned". */
const char *world_kind_name(enum world_kind kind);
const char *world_state_name(enum world_state state);

/* A structural or numeric parameter that this node, and all below it, fixes to a value. */
struct world_commitment {
    char *param, *value;
};

struct world_action {
    char *title;       /* "" when the node cannot be executed */
    char *description; /* what to do, "" for none */
    char *rationale;   /* why it should help, "" for none */
    int difficulty;    /* 1 (easy) .. 5 */
    double score;      /* priority, 0..1 */
    bool has_expected;
    double expected;    /* predicted natural log of the objective (speed-up over the baseline) */
    double expected_sd; /* its standard deviation, natural log; >= 0 */
};

struct world_failure {
    char status[WORLD_STATUS_MAX + 1]; /* failure class, "build_failed" */
    uint32_t count;
};

/* What only the system writes. */
struct world_evidence {
    char program[WORLD_PROGRAM_HEX + 1]; /* of the attached solution; "" unless closed */
    char *assignment;                    /* canonical JSON object; "" unless closed */
    int64_t objective_q; /* micro-log of the objective; valid when closed and status is "ok" */
    int64_t sd_q;        /* its standard deviation, micro-log */
    uint64_t evaluation; /* number of the evaluation within the search; 0 unless closed */
    char status[WORLD_STATUS_MAX + 1];          /* of the last counted attempt or solution */
    char parent_program[WORLD_PROGRAM_HEX + 1]; /* the parent's solution when inserted; "" */
    uint32_t attempts;                          /* evaluations spent on this node */
    uint32_t failed_cycles;                     /* cycles that ended without a pass */
    uint32_t n_failures;
    struct world_failure failures[WORLD_FAILURES_MAX]; /* in order of first appearance */
};

/* Where a node taken from memory came from; both texts "" when it was not. */
struct world_graft {
    char *search;      /* id of the search it was first seen in */
    char *insight;     /* id of the insight behind it */
    double similarity; /* of task and device, 0..1 */
    bool discounted;   /* beliefs were lowered by distance */
};

/* One node. All texts are owned by the world and never NULL. */
struct world_node {
    char id[WORLD_ID_MAX + 1];
    uint32_t index;  /* place in insertion order, the handle used everywhere; 0 is the root */
    uint32_t parent; /* WORLD_NONE for the root; always smaller than index */
    uint32_t first_child, last_child, prev_sibling, next_sibling;
    uint32_t n_children;
    uint32_t depth; /* 0 for the root */
    enum world_kind kind;
    enum world_state state;
    char *decision; /* the question decided, "" on the root */
    char *choice;   /* the answer taken */
    size_t n_commitments;
    struct world_commitment *commitments; /* sorted by param, this node's own */
    struct world_action action;
    double rating;     /* of the plan down to here, 0..10 */
    double confidence; /* 0..1 */
    char *impacts;     /* free text on bandwidth, registers, hardware fit */
    char *notes;
    char *reason; /* why it was abandoned */
    struct world_evidence evidence;
    struct world_graft graft;
    uint64_t created_round, updated_round; /* evaluation numbers */
};

struct world;

/* An empty world: the root alone, open. Aborts when memory is out, as all of this file does. */
struct world *world_new(void);
void world_free(struct world *w);

/* Nodes are 0 .. world_count - 1 in insertion order; the root is 0. */
uint32_t world_count(const struct world *w);
/* Bytes held by nodes and texts, as the cap counts them. */
size_t world_bytes(const struct world *w);
/* Edits committed so far. */
uint64_t world_revision(const struct world *w);
/* The node of a valid index; borrowed until the next world_apply. */
const struct world_node *world_get(const struct world *w, uint32_t index);
/* Index of the node with this id, or WORLD_NONE. */
uint32_t world_find(const struct world *w, const char *id);

/* True when the node is open, has an action title, and its parent is the root or closed. */
bool world_is_executable(const struct world *w, uint32_t index);
/* True when a solution that passed is attached. */
bool world_is_solved(const struct world_node *n);
/* The solved node of the greatest objective, the earliest among equals; WORLD_NONE for none. */
uint32_t world_best(const struct world *w);
/*
 * Value that the path from the root down to `index` commits `param` to; NULL for none. Borrowed.
 */
const char *world_commitment(const struct world *w, uint32_t index, const char *param);
/* A fresh JSON object of all commitments on the path from the root to `index`. */
json_t *world_commitments_to_json(const struct world *w, uint32_t index);
/* The action text of a node for a coder: id, base, title, difficulty, description, expectation. */
int world_action_text(const struct world *w, uint32_t index, struct buf *out, struct err *err);

/* ERR_INTERNAL naming the first invariant that does not hold, 0 when all do. */
int world_check(const struct world *w, struct err *err);

/* One node as JSON, and the whole tree {format, revision, best, nodes[]} in insertion order. Fresh.
 */
json_t *world_node_to_json(const struct world *w, uint32_t index);
json_t *world_to_json(const struct world *w);
/* An indented tree with beliefs and evidence, one line a node, as the command line shows it.
 * ERR_LIMIT when `out` is too small. */
int world_render_text(const struct world *w, struct buf *out, struct err *err);

#endif
