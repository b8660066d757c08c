/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prompts: one template file per kind of call (daemon/search/prompts/, overridden file by file from
 * a folder of the user's), filled with sections that are made of the folded state. Sections have
 * byte budgets and are shortened by whole rows, never inside one; what is left out is said. The
 * system text and the prefix are the same for all calls of a search, so providers can cache them.
 * docs/prompts.md has the language and the sections. Thread: any; a set is immutable once loaded.
 */
#ifndef KS_SEARCH_PROMPT_H
#define KS_SEARCH_PROMPT_H

#include <jansson.h>

#include "search/calls.h"
#include "search/programs.h"

struct prompts;

/* The built-in templates, those of `dir` (NULL, "": none) in their place. ERR_NOT_FOUND,
 * ERR_INVALID (file and line: unknown name, a block that is not closed), ERR_LIMIT, ERR_IO. Thread:
 * blocks. */
int prompts_load(const char *dir, struct prompts **out, struct err *err);
void prompts_free(struct prompts *p); /* NULL is fine */

/*
 * Writes the built-in templates into a folder, made when missing, for a user to change. Overwrites
 * nothing: ERR_CONFLICT when one of the names is taken there, and then no file was written. ERR_IO.
 * Thread: blocks.
 */
int prompts_export(const char *dir, struct err *err);

enum { PROMPT_PARENTS_MAX = 4 };

/* What a call is about, beyond the folded state; borrowed. */
struct prompt_ask {
    enum call_kind kind;
    int lane;             /* -1 for the search as a whole */
    unsigned attempt;     /* 1..; above 1 with the two below */
    const char *previous; /* the answer that was not usable */
    const json_t *errors; /* what was wrong with it, all sentences */
    const json_t
        *insights;    /* hits of a query (kb.h), what may be told of past searches; NULL: nothing */
    uint64_t sample;  /* CALL_SAMPLE, CALL_MUTATE: number of the sample */
    size_t n_parents; /* CALL_MUTATE: programs to start from, the first is the one to change */
    uint32_t parents[PROMPT_PARENTS_MAX];
};

struct prompt {
    char *system, *prefix, *text; /* owned */
    const char *schema_name;      /* static; NULL: the answer is a program */
    json_t *schema;               /* owned; NULL */
    json_t *sections;             /* {name: bytes} of what went in; owned */
};
void prompt_release(struct prompt *p);

/* Makes the prompt of a call. Reads feedback of trials from the knowledge base. ERR_LIMIT when the
 * template alone is over LLM_PROMPT_MAX, ERR_IO, ERR_CORRUPT. Thread: worker that holds the
 * search's lock, blocks. */
int prompt_make(const struct prompts *p, const struct search *s, const struct prompt_ask *ask,
                struct prompt *out, struct err *err);

#endif
