/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of artifacts, for artifact*.c and tunables.c alone: sentences about what is wrong, a
 * C source taken apart as far as a look before the build needs it, and blocks applied to a base.
 * Nothing here changes a byte of a source. Thread: any.
 */
#ifndef KS_SEARCH_ARTIFACT_IMPL_H
#define KS_SEARCH_ARTIFACT_IMPL_H

#include "search/artifact.h"

enum {
    ARTIFACT_QUOTE_MAX = 100, /* bytes of a quoted line, with room for escapes */
    ARTIFACT_BLOCKS_MAX = 64,
    ARTIFACT_FENCES_MAX = 64
};

/* ---- What is wrong ---- */

/* Sentences for whoever answered. `list` is borrowed; n counts those too many to tell as well. */
struct complaints {
    json_t *list;
    size_t n;
};
void complain(struct complaints *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 0 without complaints; else ERR_INVALID about `what` with the first of them, and their number as
 * the last sentence of the list where not all are told. `first` is the list's length before. */
int complaints_end(const struct complaints *c, size_t first, const char *what, struct err *err);
/* The bytes, up to the first newline, as a sentence may show them; returns `out`. */
char *artifact_quote(const char *s, size_t len, char out[ARTIFACT_QUOTE_MAX]);

/* ---- What an answer says ---- */

/* Takes in a line of prose, blanks at its ends taken off, if it is a NOTE, EXPECT or USES of
 * artifact.h; `number` is its line of the answer. Notes are joined, and cut at ARTIFACT_NOTE_MAX;
 * what does not look like an id is left out of USES. */
void artifact_hear(struct artifact *out, const char *line, size_t line_len, size_t number,
                   struct complaints *c);

/* The grammar of C programs as a model is told it, without and with blocks. */
extern const char c_grammar_whole[], c_grammar_patch[];

/* ---- A C source ---- */

struct c_directive {
    size_t line;
    char name[16]; /* "define", "include", ... */
    char *rest;    /* what follows, comments and line splices taken out */
    bool guarded;  /* a define of X under #ifndef X */
};

/* A comment that starts with '@' (the '@' is the first byte of `text`). */
struct c_remark {
    size_t line;
    bool block; /* between slash-star and star-slash */
    char *text; /* its first line */
};

struct c_text {
    char *code; /* as long as the source; comments, literals, directives and #if 0 are blanks */
    size_t n_directives, cap_directives;
    struct c_directive *directives; /* live ones */
    size_t n_remarks, cap_remarks;
    struct c_remark *remarks;
};

/* Takes the source apart; complains of comments, literals, conditionals and brackets that do not
 * end, which is what a cut-off answer looks like. */
void c_text_read(const char *source, struct c_text *out, struct complaints *c);
void c_text_release(struct c_text *t);
/* Is `name` used as an identifier, other than to guard or define it? */
bool c_text_uses(const struct c_text *t, const char *name);
/* Is there a definition, with a body, of a function of this name? `is_static` (may be NULL): and
 * is it one that nobody else sees? */
bool c_text_defines(const struct c_text *t, const char *name, bool *is_static);
/* The look at a whole C program before it is built: the kernel, includes, size. */
void c_text_look(const struct c_text *t, const char *source, struct complaints *c);

/* The tunables of a program, as artifact_tunables; NULL after a complaint. */
json_t *tunables_read(const struct c_text *t, struct complaints *c);

/* ---- Blocks ---- */

struct artifact_block {
    size_t line;          /* of the answer */
    const char *old_text; /* borrowed from the answer; whole lines */
    size_t old_len;
    const char *new_text;
    size_t new_len;
};

/* The base with the blocks applied in order; NULL after a complaint. Owned. */
char *artifact_patch(const char *base, const struct artifact_block *blocks, size_t n,
                     struct complaints *c);

#endif
