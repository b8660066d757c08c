/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of a JSON edit, shared by world_parse.c and world_edit_json.c alone. It collects
 * issues in a report and goes on, so that all of an answer's errors are told at once. Thread: as
 * world.h.
 */
#ifndef KS_SEARCH_WORLD_PARSE_H
#define KS_SEARCH_WORLD_PARSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "search/world_ops.h"

struct world_parser {
    enum world_parse mode;
    bool trusted; /* the stored form */
    size_t op;    /* index, for issues */
    struct world_report *report;
};

/* The issue that `where` has a key it must not have: a system-owned one, or an unknown one. */
void world_parse_refuse_key(struct world_parser *p, const char *where, const char *key);
/* Reads the text `v` into the field `bit` of `s`; null is none unless trusted. */
void world_parse_string(struct world_parser *p, const char *key, const json_t *v, unsigned bit,
                        struct world_spec *s);
/* Reads a node to insert (`is_new`) or a patch, called `where` in issues. `v` may be NULL. */
void world_parse_spec(struct world_parser *p, const char *where, json_t *v, bool is_new,
                      struct world_spec *s);

#endif
