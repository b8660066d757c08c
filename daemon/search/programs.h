/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs of a search: number 0 is the one it began with (the template, or the task's
 * baseline), later ones a model wrote or memory gave. Each has tunables of its own, perhaps none,
 * and a numeric engine that tunes them. Thread: the search's.
 */
#ifndef KS_SEARCH_PROGRAMS_H
#define KS_SEARCH_PROGRAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "record.h"

struct engine;
struct search;
struct search_scope;
struct space;
struct trial;

enum { PROGRAM_NONE = UINT32_MAX, PROGRAMS_MAX = 4096 };

struct program {
    struct id id;          /* content address, key of its KB_PROGRAM document */
    char *source;          /* owned */
    struct space *space;   /* owned */
    struct engine *engine; /* owned; NULL without tunables, and when loaded for reading */
    uint32_t parent;       /* that it was made from; PROGRAM_NONE */
    uint64_t call;         /* that wrote it; 0: nobody here */
    char *note;            /* what its author says of it; "" */
    bool has_expected;     /* its author predicts its objective: natural log and deviation (0:
                              does not say) */
    double expected, expected_sd;
    json_t *uses;       /* insights that its author says it follows: ids as written; owned, NULL
                           for none */
    json_t *assignment; /* to measure it with first; NULL: its defaults. Owned */
    char *from;         /* "task@device" of a program adopted from memory; "" */
};

struct programs {
    size_t n, cap;
    struct program *items; /* programs 1..n */
};

void programs_release(struct programs *p);
/* How many there are, the first one included. */
uint32_t search_programs(const struct search *s);
/* Parts of program p < search_programs; borrowed. */
const struct space *search_program_space(const struct search *s, uint32_t p);
const char *search_program_source(const struct search *s, uint32_t p);
struct id search_program_id(const struct search *s, uint32_t p);
struct engine *search_program_engine(const struct search *s, uint32_t p);
/* The record of a later program; NULL for program 0. */
const struct program *search_program_record(const struct search *s, uint32_t p);
/* The number of the program with this id; PROGRAM_NONE. */
uint32_t search_program_find(const struct search *s, const struct id *id);
/* Of a trial's program. */
const struct space *trial_space(const struct search *s, const struct trial *t);

/*
 * The program document (KB_PROGRAM) of a source under the scope's language and `march`; writes its
 * content address, which is of source and build settings alone, to scope->program. Fresh. Thread:
 * any.
 */
json_t *program_document(struct search_scope *scope, const char *source, json_t *space);

/* The fold of a `program` event. ERR_CORRUPT, and what space and engine say. */
int programs_apply(struct search *s, const json_t *ev, struct err *err);
/* The best measured trial of a program, 0 for none; with `ok` alone, or the last one of any outcome
 * when none passed. */
uint64_t search_program_best(const struct search *s, uint32_t p);
uint64_t search_program_last(const struct search *s, uint32_t p);

#endif
