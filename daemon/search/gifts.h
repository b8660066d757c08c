/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole programs that memory gives a search whose programs a language model writes: the best ones
 * of near tasks, whoever wrote them, with the assignment that they were measured with. They are
 * stored with the search (`seeded` and `shared` events) by content address, so that a restart knows
 * the same, and count for nothing before they were measured here. Kept here too: which nodes of the
 * tree memory had a hand in, for the memory-free arm. A cold search has none. Thread: the search's.
 */
#ifndef KS_SEARCH_GIFTS_H
#define KS_SEARCH_GIFTS_H

#include <jansson.h>
#include <stdbool.h>

#include "kb.h"
#include "search/memory.h"
#include "search/world.h"

struct search;

enum { GIFTS_MAX = 32, GIFT_FROM_MAX = 204 /* "task@device" */ };

struct gift {
    struct id program;  /* its KB_PROGRAM document */
    struct id here;     /* its content address under this search's build settings */
    json_t *assignment; /* owned */
    char from[GIFT_FROM_MAX];
    double similarity;    /* of task and device, (0, 1] */
    int64_t objective_q;  /* what it reached there, micro-log */
    struct id evaluation; /* that says so */
    bool live;            /* found while this search ran */
    bool taken;           /* a cycle for it has begun */
};

struct gifts {
    size_t n;
    struct gift v[GIFTS_MAX];
    json_t *plans;                        /* for the tree, graft_model.h; owned, may be NULL */
    uint8_t steered[WORLD_NODES_MAX / 8]; /* by node: memory had a hand in it */
};

/* ---- gifts_recall.c ---- */

/*
 * Sources among the relatives of the search's scope as of m->as_of, nearest first, into `m`; and at
 * most `most` programs of theirs to adopt, as the stored array. ERR_IO, ERR_CORRUPT, ERR_NOMEM.
 * Thread: worker, blocks.
 */
int gifts_recall(const struct search *s, struct memory *m, size_t most, json_t **out,
                 struct err *err);
/*
 * The `shared` event to store when a running search found a program that beats the best here;
 * *event stays NULL when none did. Reads the knowledge base from s->looked_seq on and moves that.
 * Errors and thread as above.
 */
int gifts_look(struct search *s, json_t **event, struct err *err);

/* ---- gifts.c ---- */

void gifts_release(struct gifts *g);
/* The fold of a stored array; `live` for those of a `shared` event. ERR_CORRUPT. */
int gifts_apply(struct gifts *g, const json_t *list, bool live, struct err *err);
/* The fold of a `cycle` event, which may be a gift's. */
void gifts_apply_cycle(struct gifts *g, const json_t *ev);
/* After any event: notes of the nodes from index `from` on whether memory had a hand in them. */
void gifts_note_nodes(struct search *s, const json_t *ev, uint32_t from);
/* A node from memory, planned by a call that was told insights, or the system's below such a one.
 */
bool gifts_steered(const struct search *s, uint32_t node);

/* The gift that a program of the search is; NULL when it is none. Borrowed. */
const struct gift *gifts_of_program(const struct search *s, uint32_t program);
/* The seeds[] entries of search.show, appended. */
void gifts_seeds(const struct search *s, json_t *seeds);

#endif
