/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One query while it is answered: what retrieve_query.c (candidates, usefulness, order) and
 * retrieve_answer.c (the hits as JSON, with reasons) share; for them alone.
 */
#ifndef KS_KB_RETRIEVE_QUERY_H
#define KS_KB_RETRIEVE_QUERY_H

#include "base/jsonw.h"
#include "fold.h"
#include "kb.h"
#include "profile.h"
#include "retrieve_impl.h"

enum {
    LIMIT_MAX = 100,
    EVIDENCE_MAX = 8,
    POOL_MIN = 100,   /* candidates from each search */
    POOL_PER_HIT = 4, /* or this many for each hit asked for */
    POOL_MAX = LIMIT_MAX * POOL_PER_HIT,
    JUDGED_MIN = 40,   /* candidates whose usefulness is judged */
    BROWSE_MAX = 1024, /* insights judged one by one when there is no text */
    RRF_K = 60,
    CONCEPTS_MAX = 16,
    WHY_WORDS = 8,
    SITUATION_MEMO = 32, /* shapes compared with the question's */
    ROWS_MAX = 64,       /* evidence looked through for a task or device kind */
};

struct candidate {
    uint32_t ordinal;
    uint32_t lexical_rank, vector_rank, fused_rank, useful_rank; /* from 1; 0 for none */
    float bm25, cosine;
    double fused, relevance, usefulness, score, adjusted;
    const struct insight *in; /* as it is, or `past.in` */
    struct insight_effect effect;
    bool on_task, taken;
    bool near_known;                /* evidence whose shape can be compared: the nearest */
    struct regime_match near;       /* ... how near, */
    uint32_t near_task, near_shape; /* ... and where (evtable_name) */
    /* The insight at the time asked for; owned. */
    struct past {
        struct insight in;
        struct fold fold;
        struct names names;
    } * past;
};

struct retrieve_scratch {
    struct retrieve_scratch *next;
    struct text *text;
    struct lexical_scratch *lexical;
    uint64_t *words; /* two bit sets */
    size_t cap_words;
    struct lexical_hit lexical_hits[POOL_MAX];
    struct vindex_hit vector_hits[POOL_MAX];
    struct candidate candidates[MAX(2 * POOL_MAX, BROWSE_MAX)];
};

struct query_word {
    uint64_t hash;
    uint32_t offset, len; /* in the text */
    bool is_compound;
};

/* How near a task and shape that was measured is to the question. */
struct situation_memo {
    uint32_t task, shape; /* evtable_name */
    enum regime_kinship kinship;
    const char *dtype; /* of the claim; borrowed */
    struct regime_match match;
};

struct query {
    const struct retrieve *r;
    const struct kb_query *q;
    struct retrieve_scratch *s;
    struct filter filter;
    struct query_word words[LEXICAL_QUERY_TERMS];
    size_t n_words;
    uint16_t concepts[CONCEPTS_MAX];
    size_t n_concepts;
    uint64_t terms[LEXICAL_QUERY_TERMS];
    size_t n_terms;
    struct profile profile;   /* what the text says beside its words */
    struct regime regime;     /* asked about: given, completed by the text */
    const char *device_class; /* given, or said by the text; NULL for any */
    bool has_shape;           /* the regime has axes */
    struct situation_memo memo[SITUATION_MEMO];
    size_t n_memo;
    enum regime_level nearest;    /* of the hits' evidence, when there are hits and has_shape */
    const struct vindex *vectors; /* those that the embedding is of */
    struct embedding embedding;
    size_t n_lexical, n_vector;
    size_t n; /* candidates */
    uint32_t irrelevant;
};

/* ---- retrieve_regime.c ---- */

/* Reads what the question says of the situation into profile, regime and device_class. */
void situation_read(struct query *c);
/* Whether the family is among those that are related to the one asked about. */
bool situation_related(const struct query *c, const char *family);
/* Takes one row of a candidate's evidence into account. */
void situation_see(struct query *c, struct candidate *d, const struct evrow *row);
/* How well the candidate fits the situation, in (0, 1]; 1 when nothing was said of it. */
double situation_factor(const struct query *c, const struct candidate *d);
/* The nearest evidence as a sentence; false when its shape was not asked about or is not known. */
bool situation_sentence(const struct query *c, const struct candidate *d, char *out, size_t size);
/* What is to be said when no hit's evidence is near the shape asked about; NULL otherwise. */
const char *situation_note(const struct query *c);
/* The value of the feature that the insight's condition is about; false when it is not known. */
bool situation_condition_feature(const struct query *c, const struct insight *in, double *out);

/* ---- retrieve_answer.c ---- */

/* Writes the hits, best first, as an array; the writer keeps what failed. */
void answer_hits(const struct query *c, struct candidate *const *chosen, size_t n, struct jsonw *w);

#endif
