/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's answer as a program: a whole file in a fence, or search-and-replace blocks that are
 * verified against the program they apply to. The program declares its tunables in comments, which
 * become a space for the numeric engine. docs/llm.md has the grammar. Nothing in a program is ever
 * rewritten: what was answered is what is built. Answers are hostile input. Thread: any.
 */
#ifndef KS_SEARCH_ARTIFACT_H
#define KS_SEARCH_ARTIFACT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    ARTIFACT_SOURCE_MAX = 256 << 10, /* bytes of a program */
    ARTIFACT_TUNABLES_MAX = 16,
    ARTIFACT_NOTE_MAX = 400,
    ARTIFACT_USES_MAX = 16,
    ARTIFACT_ERRORS_MAX = 20 /* sentences that are told; the rest is counted */
};

struct artifact {
    char *source;  /* the program whole; owned */
    json_t *space; /* {"parameters": [...], "constraints": [...]}, as space_parse takes it, with no
                      parameters where the program declares none; owned */
    bool patched;  /* from blocks */
    char *note;    /* what the answer says that it did; "" */
    bool has_expected;  /* the answer predicts its objective */
    double expected;    /* natural log of the objective */
    double expected_sd; /* natural log; 0 when it says nothing of it */
    size_t n_uses;      /* insights that the answer says it follows: ids as written */
    char *uses[ARTIFACT_USES_MAX];
};
void artifact_release(struct artifact *a);

/*
 * Parses an answer in `language` ("c"). `base` is the text that blocks apply to; NULL: only a whole
 * file will do. ERR_INVALID with a summary; `errors` (an array of sentences, appended to) has
 * everything that is wrong, uncut, for whoever answered to mend: which block does not match and
 * where the nearest text is, which tunable is malformed, what is missing. A think block before the
 * answer (thinking.h) is no part of it, and its lines do not count.
 */
int artifact_parse(const char *language, const char *answer, const char *base, struct artifact *out,
                   json_t *errors, struct err *err);

/*
 * The tunables that a program declares, as a space (above). ERR_INVALID, `errors` as above:
 * malformed lines, values that do not fit, a default that breaks a constraint, a name that is no
 * macro of the program, macros that the build itself defines (KS_...).
 */
int artifact_tunables(const char *source, json_t **space, json_t *errors, struct err *err);

/* The description of the grammar for a prompt, static text. `patches`: are blocks allowed? NULL for
 * an unknown language. */
const char *artifact_grammar(const char *language, bool patches);

#endif
