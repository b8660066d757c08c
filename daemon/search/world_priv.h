/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of struct world, shared by world*.c and select.c alone.
 * Thread: as world.h.
 */
#ifndef KS_SEARCH_WORLD_PRIV_H
#define KS_SEARCH_WORLD_PRIV_H

#include "search/world.h"
#include "search/world_ops.h"

/* Open addressing with linear probing and backward-shift deletion: node indices by hash. */
struct world_table {
    struct world_slot {
        uint64_t hash;
        uint32_t index; /* WORLD_NONE: empty */
    } * slots;
    size_t n, cap; /* cap is a power of two, or 0 */
};

struct world {
    uint32_t n;
    size_t cap;
    struct world_node **nodes; /* each its own block, so lent pointers outlive growth */
    uint64_t *saved_in;        /* [cap] serial of the last transaction that saved the node */
    size_t saved_cap;
    uint64_t serial;           /* of transactions begun */
    struct world_table ids;    /* by id */
    struct world_table titles; /* by parent and normalised title; nodes with a title only */
    size_t bytes;
    uint64_t revision;
};

/* Lower-case words joined by one blank; `out` holds WORLD_LABEL_MAX + 1 bytes. */
void world_title_normalise(const char *title, char *out);
/* The child of `parent` with this title once normalised; WORLD_NONE for none (or an empty title).
 */
uint32_t world_find_title(const struct world *w, uint32_t parent, const char *title);

/* Tells the title table that node `index` is about to lose, or has got, its title. */
void world_title_forget(struct world *w, uint32_t index);
void world_title_learn(struct world *w, uint32_t index);

/* Links `n`, whose parent, id and texts are set, in at the end; takes it. */
void world_append(struct world *w, struct world_node *n);
/* Takes out and frees the newest node. */
void world_pop(struct world *w);

/* A node with every text "" and no links; and its end. */
struct world_node *world_node_new(void);
void world_node_release(struct world_node *n); /* the texts */
void world_node_free(struct world_node *n);
/* A deep copy of the texts of `from` into `to`, which is overwritten. */
void world_node_copy(struct world_node *to, const struct world_node *from);
size_t world_node_bytes(const struct world_node *n);

/* Next node after `at` in depth-first order below `top`; WORLD_NONE at the end. */
uint32_t world_walk(const struct world *w, uint32_t top, uint32_t at);

/* True for text that is UTF-8 throughout (what JSON can carry). */
bool world_is_utf8(const char *s);

/* One row per text or number that an operation may give: parsing, checking, printing use the same.
 */
enum world_field_type { WORLD_FIELD_TEXT, WORLD_FIELD_REAL, WORLD_FIELD_INT };
struct world_field {
    unsigned bit;
    const char *name; /* in JSON; NULL ends the table */
    bool in_action;
    enum world_field_type type;
    size_t offset;   /* in struct world_spec */
    size_t text_max; /* bytes */
    double min, max;
};
extern const struct world_field world_fields[];
const struct world_field *world_field_find(unsigned bit);

/* Where the value of a field of that type is. Borrowed. */
char **world_spec_text_at(struct world_spec *s, const struct world_field *f);
double *world_spec_number_at(struct world_spec *s, const struct world_field *f);

void world_spec_release(struct world_spec *s);

/* Appends a sentence to a list of issues. */
void world_report_issue(struct world_report *r, size_t op, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void world_report_repair(struct world_report *r, size_t op, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
