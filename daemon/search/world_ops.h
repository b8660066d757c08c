/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits of the world model: a list of typed operations, each validated, committed together or not
 * at all. A model's edit is parsed by world_edit_from_model, which knows no system-owned field;
 * what is stored as an event goes through world_edit_to_json and world_edit_from_json. Errors are
 * sentences in a report that is never cut, one or more per operation. Thread: the loop that owns
 * the world. Memory: as in world.h; texts given are copied.
 */
#ifndef KS_SEARCH_WORLD_OPS_H
#define KS_SEARCH_WORLD_OPS_H

#include "search/world.h"

enum {
    WORLD_EDIT_OPS_MAX = 4096,
    WORLD_MODEL_NEW_MAX = 3,     /* new nodes in one edit of a model */
    WORLD_INIT_NEW_MAX = 64,     /* in the first edit of a model, which seeds the tree */
    WORLD_SYSTEM_NEW_MAX = 1024, /* in one edit of the system or the built-in proposer */
    WORLD_SPLIT_MAX = 8,         /* children of one split */
    WORLD_FAILED_CYCLES_MAX = 2  /* default limit before a node is abandoned */
};

enum world_actor { WORLD_BY_SYSTEM, WORLD_BY_BUILTIN, WORLD_BY_MODEL, WORLD_ACTOR_COUNT };

enum world_op_kind {
    WORLD_OP_INSERT,     /* one child under `node` */
    WORLD_OP_UPDATE,     /* beliefs and texts of `node` */
    WORLD_OP_SPLIT,      /* optional patch of `node`, and children under it */
    WORLD_OP_ABANDON,    /* `node` and all open below it, with `reason` */
    WORLD_OP_ATTACH,     /* system: closes `node` with `solution` (the root too: a seed) */
    WORLD_OP_ATTEMPT,    /* system: one evaluation spent on `node`, ended as `status` */
    WORLD_OP_FAIL_CYCLE, /* system: a cycle without a pass; abandons at `limit` of them */
    WORLD_OP_COUNT
};

/* Fields of a node that an operation may give; bits of world_spec.set. */
enum {
    WORLD_SET_DECISION = 1 << 0,
    WORLD_SET_CHOICE = 1 << 1,
    WORLD_SET_RATING = 1 << 2,
    WORLD_SET_CONFIDENCE = 1 << 3,
    WORLD_SET_IMPACTS = 1 << 4,
    WORLD_SET_NOTES = 1 << 5,
    WORLD_SET_TITLE = 1 << 6,
    WORLD_SET_DESCRIPTION = 1 << 7,
    WORLD_SET_RATIONALE = 1 << 8,
    WORLD_SET_DIFFICULTY = 1 << 9,
    WORLD_SET_SCORE = 1 << 10,
    WORLD_SET_EXPECTED = 1 << 11,
    WORLD_SET_EXPECTED_SD = 1 << 12,
    WORLD_SET_ID = 1 << 13,             /* insert: the wanted id */
    WORLD_SET_KIND = 1 << 14,           /* insert */
    WORLD_SET_PARENT_PROGRAM = 1 << 15, /* insert: must be the parent's solution */
    WORLD_SET_GRAFT = 1 << 16           /* insert, system and built-in only */
};

/* A new node, or a patch: only what `set` names counts. Owned texts. */
struct world_spec {
    unsigned set;
    char *id, *decision, *choice, *impacts, *notes, *title, *description, *rationale;
    char *parent_program;
    double rating, confidence, score, expected, expected_sd, difficulty;
    enum world_kind kind;
    size_t n_commitments, cap_commitments;
    struct world_commitment *commitments; /* insert only */
    struct world_graft graft;
};

struct world_solution {
    char *program;       /* 64 hex digits */
    char *assignment;    /* JSON object as text */
    char *status;        /* "ok", or a failure class (a seed may be attached to the root failed) */
    int64_t objective_q; /* micro-log */
    int64_t sd_q;
    uint64_t evaluation; /* >= 1 */
};

struct world_op {
    enum world_op_kind kind;
    char *node;             /* target, or parent of what is inserted */
    struct world_spec spec; /* INSERT: the node; UPDATE, SPLIT: the patch */
    size_t n_children, cap_children;
    struct world_spec *children; /* SPLIT */
    char *reason;                /* ABANDON, FAIL_CYCLE */
    char *status;                /* ATTEMPT: "ok" or a failure class; FAIL_CYCLE: may be NULL */
    uint32_t limit;              /* FAIL_CYCLE: >= 1 */
    struct world_solution solution;
};

struct world_edit {
    enum world_actor actor;
    char *cause;    /* "init", "refine", "propose", "cycle", "graft" ... at most 200 bytes */
    uint64_t round; /* evaluation number at which it was made */
    uint32_t max_new;
    size_t n_ops, cap_ops;
    struct world_op *ops;
};

/* ---- Building ---- */

/* An empty edit with the actor's cap on new nodes (WORLD_MODEL_NEW_MAX or WORLD_SYSTEM_NEW_MAX). */
void world_edit_init(struct world_edit *e, enum world_actor actor, const char *cause,
                     uint64_t round);
void world_edit_release(struct world_edit *e);
/* Appends an operation on `node`; borrowed until the next one is added. */
struct world_op *world_edit_add(struct world_edit *e, enum world_op_kind kind, const char *node);
/* Appends a child to a split (or to any operation that has children). Borrowed as above. */
struct world_spec *world_op_child(struct world_op *op);
/* Sets one text field; `field` is one WORLD_SET_ bit of a text. NULL sets "". */
void world_spec_text(struct world_spec *s, unsigned field, const char *text);
/* Sets one number; `field` is one WORLD_SET_ bit of a number. Ranges are checked by world_apply. */
void world_spec_number(struct world_spec *s, unsigned field, double value);
void world_spec_kind(struct world_spec *s, enum world_kind kind);
/* Commits a parameter to a value (copied); given twice, the last counts. */
void world_spec_commit(struct world_spec *s, const char *param, const char *value);
/* Either id may be NULL. */
void world_spec_graft(struct world_spec *s, const char *search, const char *insight,
                      double similarity, bool discounted);
/* Shorthands for the system's own operations. */
void world_edit_abandon(struct world_edit *e, const char *node, const char *reason);
void world_edit_attach(struct world_edit *e, const char *node, const char *program,
                       const char *assignment, const char *status, int64_t objective_q,
                       int64_t sd_q, uint64_t evaluation);
void world_edit_attempt(struct world_edit *e, const char *node, const char *status);
void world_edit_fail_cycle(struct world_edit *e, const char *node, uint32_t limit,
                           const char *reason);

/* ---- Reports ---- */

struct world_issue {
    size_t op;  /* index of the operation; SIZE_MAX for the edit as a whole */
    char *text; /* a sentence */
};

/* What became of an edit. Zero-initialise; reusable after world_report_release. */
struct world_report {
    size_t n_issues, cap_issues;
    struct world_issue *issues; /* why it was refused, all of them */
    size_t n_repairs, cap_repairs;
    struct world_issue *repairs; /* what lenient parsing read differently from what was written */
    size_t n_inserted, cap_inserted;
    uint32_t *inserted; /* indices of new nodes, in order; empty unless committed */
};

void world_report_release(struct world_report *r);
/* The issues as lines "operation 2: ...\n": the error section of a retry. */
int world_report_text(const struct world_report *r, struct buf *out, struct err *err);
/* {status: per op "ok"|"refused", issues[{op, text}], repairs[...], inserted n} for events. Fresh.
 */
json_t *world_report_to_json(const struct world_report *r, size_t n_ops);

/* ---- Parsing and applying ---- */

enum world_parse {
    WORLD_PARSE_STRICT,  /* a number of the wrong type or out of range is an issue */
    WORLD_PARSE_LENIENT, /* "0.8", "8/10", "1.2x", 70 (percent), 9 of 5: read and counted as repairs
                          */
    WORLD_PARSE_COUNT
};

/*
 * Parses a model's answer {"ops": [...]} (operations update_node, insert_node, split_node,
 * delete_node, abandon_node; field names in docs/world-model.md) into `*out`, an edit by
 * WORLD_BY_MODEL. Unknown keys and system-owned fields are issues in `report`, and ERR_INVALID.
 */
int world_edit_from_model(const json_t *answer, enum world_parse mode, const char *cause,
                          uint64_t round, struct world_edit *out, struct world_report *report,
                          struct err *err);
/* Parses the stored form of an edit, strictly. ERR_INVALID. */
int world_edit_from_json(const json_t *j, struct world_edit *out, struct err *err);
/* The stored form: {actor, cause, round, max_new, ops[]}. Fresh. */
json_t *world_edit_to_json(const struct world_edit *e);

/*
 * Applies all operations in order, or none. Every operation is tried, so that the report has every
 * issue; then, with any issue, everything is undone. `report` may be NULL. ERR_INVALID (a summary;
 * the report has the sentences), ERR_LIMIT when the world is full. The new nodes of one edit may
 * refer to each other by the ids they ask for.
 */
int world_apply(struct world *w, const struct world_edit *e, struct world_report *report,
                struct err *err);
/* Would it be applied? As above, and everything is undone in any case. */
int world_try(struct world *w, const struct world_edit *e, struct world_report *report,
              struct err *err);

#endif
