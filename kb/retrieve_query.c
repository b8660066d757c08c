/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One query: filters, the two searches, fusion, usefulness, diversity, and the answer with its
 * reasons. docs/retrieval.md has the formulas. Everything works on scratch memory taken from a
 * pool, so that queries run together under the read lock.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "fold.h"
#include "kb.h"
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
    ROWS_MAX = 64, /* evidence looked through for a task or device kind */
};

/* Least cosine of a hit that shares no word and no technique with the text. */
static const float cosine_min = 0.15f;

struct candidate {
    uint32_t ordinal;
    uint32_t lexical_rank, vector_rank, fused_rank, useful_rank; /* from 1; 0 for none */
    float bm25, cosine;
    double fused, relevance, usefulness, score, adjusted;
    const struct insight *in; /* as it is, or `past.in` */
    struct insight_effect effect;
    bool on_task, taken;
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
    struct embedding embedding;
    size_t n_lexical, n_vector;
    size_t n; /* candidates */
    uint32_t irrelevant;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for a query");
}

/* ---- Scratch ---- */

static void scratch_free(struct retrieve_scratch *s)
{
    text_free(s->text);
    lexical_scratch_free(s->lexical);
    free(s->words);
    free(s);
}

void retrieve_scratch_free_all(struct retrieve_scratch *s)
{
    while (s != NULL) {
        struct retrieve_scratch *next = s->next;

        scratch_free(s);
        s = next;
    }
}

static struct retrieve_scratch *scratch_new(void)
{
    struct retrieve_scratch *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return NULL;
    s->text = text_new();
    s->lexical = lexical_scratch_new();
    if (s->text == NULL || s->lexical == NULL) {
        scratch_free(s);
        return NULL;
    }
    return s;
}

static struct retrieve_scratch *scratch_take(struct retrieve *r)
{
    struct retrieve_scratch *s;

    pthread_mutex_lock(&r->pool_lock);
    s = r->pool;
    if (s != NULL)
        r->pool = s->next;
    pthread_mutex_unlock(&r->pool_lock);
    return s != NULL ? s : scratch_new();
}

static void scratch_give(struct retrieve *r, struct retrieve_scratch *s)
{
    pthread_mutex_lock(&r->pool_lock);
    s->next = r->pool;
    r->pool = s;
    pthread_mutex_unlock(&r->pool_lock);
}

static int filter_reserve(struct query *c, struct err *err)
{
    size_t words = ((size_t)c->r->n_docs + 63) / 64, want = MAX(words * 2, (size_t)64);
    uint64_t *p;

    if (want > c->s->cap_words) {
        want += want / 2;
        p = reallocarray(c->s->words, want, sizeof(*p));
        if (p == NULL)
            return no_memory(err);
        c->s->words = p;
        c->s->cap_words = want;
    }
    c->filter.pass = c->s->words;
    c->filter.one = c->s->words + words;
    return 0;
}

/* ---- The question ---- */

static void take_word(struct query *c, const struct text_token *tok)
{
    for (size_t i = 0; i < c->n_words; i++)
        if (c->words[i].hash == tok->hash)
            return;
    c->words[c->n_words++] =
        (struct query_word){ tok->hash, tok->offset, tok->len, tok->is_compound };
}

/* Words first, then techniques that they name; together at most LEXICAL_QUERY_TERMS. */
static void read_text(struct query *c)
{
    uint64_t stems[LEXICAL_QUERY_TERMS];
    struct text_scan sc;
    struct text_token tok;
    size_t n = 0;

    text_scan_init(&sc, c->s->text, c->q->text, strlen(c->q->text));
    while (c->n_words < LEXICAL_QUERY_TERMS - CONCEPTS_MAX && text_next(&sc, &tok)) {
        if (tok.is_stop)
            continue;
        take_word(c, &tok);
        if (!tok.is_compound && n < LEXICAL_QUERY_TERMS)
            stems[n++] = tok.hash;
    }
    c->n_concepts = vocab_scan(stems, n, c->concepts, CONCEPTS_MAX);
    for (size_t i = 0; i < c->n_words; i++)
        c->terms[c->n_terms++] = c->words[i].hash;
    for (size_t i = 0; i < c->n_concepts; i++)
        c->terms[c->n_terms++] = retrieve_concept_term(vocab_at(c->concepts[i])->name);
}

static void embed_query(struct query *c)
{
    const struct embed_context ctx = { .technique = c->q->technique, .family = c->q->family };

    embed_text(c->s->text, c->q->text, strlen(c->q->text), &ctx, &c->embedding);
}

/* ---- Candidates ---- */

static int compare_ordinals(const void *p, const void *q)
{
    const struct candidate *x = p, *y = q;

    return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

static int run_searches(struct query *c, struct err *err)
{
    size_t k = MIN(MAX(c->q->limit * POOL_PER_HIT, (size_t)POOL_MIN), (size_t)POOL_MAX);
    const uint64_t *allowed = c->filter.n_pass == c->r->n_docs ? NULL : c->filter.pass;

    lexical_search(c->r->lexical, c->s->lexical, c->terms, c->n_terms, allowed, k,
                   c->s->lexical_hits, &c->n_lexical);
    return vindex_search(c->r->vectors, &c->embedding, k, allowed, false, c->s->vector_hits,
                         &c->n_vector, err);
}

/* One candidate an insight, with its place in each list. */
static void join_lists(struct query *c)
{
    struct candidate *list = c->s->candidates;
    size_t n = 0, kept = 0;

    for (size_t i = 0; i < c->n_lexical; i++)
        list[n++] = (struct candidate){ .ordinal = c->s->lexical_hits[i].doc,
                                        .lexical_rank = (uint32_t)i + 1,
                                        .bm25 = c->s->lexical_hits[i].score };
    for (size_t i = 0; i < c->n_vector; i++)
        list[n++] = (struct candidate){ .ordinal = c->s->vector_hits[i].number,
                                        .vector_rank = (uint32_t)i + 1,
                                        .cosine = c->s->vector_hits[i].score };
    qsort(list, n, sizeof(*list), compare_ordinals);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && list[kept - 1].ordinal == list[i].ordinal) {
            list[kept - 1].lexical_rank |= list[i].lexical_rank;
            list[kept - 1].vector_rank |= list[i].vector_rank;
            list[kept - 1].bm25 += list[i].bm25;
            list[kept - 1].cosine += list[i].cosine;
        } else {
            list[kept++] = list[i];
        }
    }
    c->n = kept;
}

/* Drops what only resembles the text from afar. */
static void drop_irrelevant(struct query *c)
{
    struct candidate *list = c->s->candidates;
    size_t kept = 0;

    for (size_t i = 0; i < c->n; i++)
        if (list[i].lexical_rank != 0 || list[i].cosine >= cosine_min)
            list[kept++] = list[i];
    c->irrelevant = kept == 0 ? c->filter.n_pass : 0;
    c->n = kept;
}

/*
 * Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009), scaled so that first in both lists is
 * 1; ranks alone are flat at the top, so the scores relative to the best ones weigh in as much.
 */
static void fuse(struct query *c)
{
    struct candidate *list = c->s->candidates;
    float best_bm25 = c->n_lexical > 0 ? c->s->lexical_hits[0].score : 0;
    float best_cosine = c->n_vector > 0 ? c->s->vector_hits[0].score : 0;

    for (size_t i = 0; i < c->n; i++) {
        struct candidate *d = &list[i];
        double share = 0;

        if (d->vector_rank == 0)
            d->cosine = vindex_score(c->r->vectors, &c->embedding, d->ordinal);
        if (d->lexical_rank != 0)
            d->fused += 1.0 / (RRF_K + d->lexical_rank);
        if (d->vector_rank != 0)
            d->fused += 1.0 / (RRF_K + d->vector_rank);
        if (best_bm25 > 0)
            share += 0.5 * d->bm25 / best_bm25;
        if (best_cosine > 0)
            share += 0.5 * MAX(d->cosine, 0) / best_cosine;
        d->relevance = d->fused * (RRF_K + 1) / 2 * (1 + share) / 2;
    }
}

/* Without text: what is allowed, best usefulness over all cells first when it is too many. */
static void browse(struct query *c)
{
    struct candidate *list = c->s->candidates;
    const struct retrieve *r = c->r;
    size_t n = 0;

    for (uint32_t i = 0; i < r->n_docs; i++) {
        size_t at = n, up;

        if ((c->filter.pass[i / 64] >> (i % 64) & 1) == 0)
            continue;
        if (n == BROWSE_MAX) {
            if (r->docs[i].gain <= r->docs[list[0].ordinal].gain)
                continue;
            /* A heap with the least useful on top: the new one replaces it. */
            for (at = 0; (up = 2 * at + 1) < n; at = up) {
                if (up + 1 < n &&
                    r->docs[list[up + 1].ordinal].gain < r->docs[list[up].ordinal].gain)
                    up++;
                if (r->docs[list[up].ordinal].gain >= r->docs[i].gain)
                    break;
                list[at] = list[up];
            }
        } else {
            for (n++; at > 0; at = up) {
                up = (at - 1) / 2;
                if (r->docs[list[up].ordinal].gain <= r->docs[i].gain)
                    break;
                list[at] = list[up];
            }
        }
        list[at] = (struct candidate){ .ordinal = i, .relevance = 1 };
    }
    c->n = n;
}

/* ---- Usefulness ---- */

struct past_fill {
    const struct retrieve *r;
    struct past *past;
    struct err *err;
};

static int id_of(const uint8_t bytes[32], struct id *out)
{
    static const uint8_t none[32];

    if (memcmp(bytes, none, sizeof(none)) == 0)
        return -1;
    str_hex(bytes, 32, out->hex);
    return 0;
}

static int past_add(void *ctx, uint32_t number)
{
    struct past_fill *f = ctx;
    const struct evtable *t = f->r->evidence;
    const struct evrow *row = evtable_row(t, number);
    struct id id = { "" };
    const struct evidence e = {
        .kind = (char *)(row->is_failure ? "failure" : "pair"),
        .effect_q = row->effect_q,
        .sd_q = row->sd_q,
        .steered = row->steered,
        .failure = (char *)evtable_name(t, row->failure),
        .task = (char *)evtable_name(t, row->task),
        .device = (char *)evtable_name(t, row->device),
        .device_class = (char *)evtable_name(t, row->device_class),
        .shape = (char *)evtable_name(t, row->shape),
        .toolchain = (char *)evtable_name(t, row->toolchain),
        .measured_at_s = row->measured_at_s,
    };

    id_of(row->id.bytes, &id);
    return fold_add(&f->past->fold, &f->past->names, &id, &e, f->err);
}

static void past_free(struct past *p)
{
    if (p == NULL)
        return;
    fold_release(&p->fold);
    names_release(&p->names);
    free(p);
}

/* The insight as the evidence of that time shows it; the condition only if it is from then. */
static int past_make(struct query *c, struct candidate *d, struct err *err)
{
    struct past_fill f = { c->r, calloc(1, sizeof(*f.past)), err };
    struct past *p = f.past;

    if (p == NULL)
        return no_memory(err);
    if (retrieve_each_row(c->r, d->in, c->q->as_of_ns, past_add, &f) != 0) {
        past_free(p);
        return -1;
    }
    p->in = *d->in;
    p->in.state = d->in->state == INSIGHT_RETRACTED ? INSIGHT_ACTIVE : d->in->state;
    p->in.all = p->fold.all;
    p->in.n_cells = p->fold.n_cells;
    p->in.cells = p->fold.cells;
    if (p->fold.n_evidence != d->in->n_evidence)
        p->in.condition = (char *)"";
    d->past = p;
    d->in = &p->in;
    return 0;
}

struct kin {
    const struct query *c;
    unsigned seen;
    bool task, kind;
};

/* "cpu-avx512" and "cpu-avx2" are of one kind, "sm_90" and "sm_100" of another. */
static bool same_kind(const char *x, const char *y)
{
    size_t n = strcspn(x, "-_");

    return n == strcspn(y, "-_") && strncmp(x, y, n) == 0;
}

static int look_at_kin(void *ctx, uint32_t number)
{
    struct kin *k = ctx;
    const struct evtable *t = k->c->r->evidence;
    const struct evrow *row = evtable_row(t, number);
    const struct kb_query *q = k->c->q;

    if (q->task != NULL && strcmp(evtable_name(t, row->task), q->task) == 0)
        k->task = true;
    if (q->device_class != NULL && same_kind(evtable_name(t, row->device_class), q->device_class))
        k->kind = true;
    return ++k->seen >= ROWS_MAX || (k->task && k->kind);
}

/* How near the insight's scope and evidence are to the task asked about, in (0, 1]. */
static double task_similarity(const struct query *c, const struct candidate *d)
{
    const char *family = d->in->claim.family;

    if (d->on_task)
        return 1;
    if (c->q->family == NULL)
        return c->q->task == NULL ? 1 : 0.7;
    if (strcmp(family, c->q->family) == 0)
        return 0.9;
    return family[0] == '\0' ? 0.8 : 0.5;
}

static double device_similarity(const struct query *c, const struct candidate *d, bool kind)
{
    if (c->q->device_class == NULL || d->effect.cell[0] != '\0')
        return 1;
    if (kind)
        return 0.85;
    return d->effect.n == 0 ? 0.75 : 0.65; /* measured, and never on anything like it */
}

static int judge(struct query *c, struct candidate *d, struct err *err)
{
    struct kin kin = { .c = c };

    d->in = c->r->options.insight(c->r->options.insight_ctx, d->ordinal);
    if (c->q->as_of_ns != 0 && past_make(c, d, err) != 0)
        return -1;
    if (c->q->task != NULL || c->q->device_class != NULL)
        retrieve_each_row(c->r, d->in, c->q->as_of_ns, look_at_kin, &kin);
    d->on_task = kin.task;
    d->effect = insight_posterior(d->in, c->q->device_class, c->q->shape, NULL);
    d->usefulness =
        task_similarity(c, d) * device_similarity(c, d, kin.kind) * retrieve_gain(&d->effect);
    d->score = d->relevance * (0.5 + d->usefulness);
    return 0;
}

static int compare_ids(const struct candidate *x, const struct candidate *y)
{
    return strcmp(x->in->id.hex, y->in->id.hex);
}

static int by_fused(const void *p, const void *q)
{
    const struct candidate *x = p, *y = q;

    return x->fused != y->fused ? (x->fused > y->fused ? -1 : 1) : compare_ids(x, y);
}

static int by_score(const void *p, const void *q)
{
    const struct candidate *x = p, *y = q;

    return x->score != y->score ? (x->score > y->score ? -1 : 1) : compare_ids(x, y);
}

static int by_relevance(const void *p, const void *q)
{
    const struct candidate *x = p, *y = q;

    if (x->relevance != y->relevance)
        return x->relevance > y->relevance ? -1 : 1;
    return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

/* Usefulness at most triples a score: what is far down in relevance need not be judged. */
static void keep_relevant(struct query *c)
{
    if (c->n_terms == 0)
        return;
    qsort(c->s->candidates, c->n, sizeof(struct candidate), by_relevance);
    c->n = MIN(c->n, MAX(c->q->limit * POOL_PER_HIT, (size_t)JUDGED_MIN));
}

static int judge_all(struct query *c, struct err *err)
{
    struct candidate *list = c->s->candidates;

    keep_relevant(c);
    for (size_t i = 0; i < c->n; i++)
        if (judge(c, &list[i], err) != 0)
            return -1;
    if (c->q->explain) {
        qsort(list, c->n, sizeof(*list), by_fused);
        for (size_t i = 0; i < c->n; i++)
            list[i].fused_rank = list[i].fused > 0 ? (uint32_t)i + 1 : 0;
    }
    qsort(list, c->n, sizeof(*list), by_score);
    for (size_t i = 0; i < c->n; i++)
        list[i].useful_rank = (uint32_t)i + 1;
    return 0;
}

/* ---- Diversity ---- */

/* How much of its score a candidate keeps beside one that was chosen. */
static double novelty(const struct query *c, const struct candidate *d, const struct candidate *of)
{
    const struct claim *x = &d->in->claim, *y = &of->in->claim;

    if (c->r->docs[d->ordinal].technique != c->r->docs[of->ordinal].technique)
        return 1;
    return strcmp(x->param, y->param) == 0 && strcmp(x->family, y->family) == 0 ? 0.85 : 0.95;
}

/* Greedy (maximal marginal relevance): each choice lowers those like it. Ends in `chosen`. */
static size_t choose(struct query *c, struct candidate **chosen)
{
    struct candidate *list = c->s->candidates;
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++)
        list[i].adjusted = list[i].score;
    while (n < c->q->limit && n < c->n) {
        struct candidate *best = NULL;

        for (size_t i = 0; i < c->n; i++)
            if (!list[i].taken && (best == NULL || list[i].adjusted > best->adjusted))
                best = &list[i];
        best->taken = true;
        chosen[n++] = best;
        for (size_t i = 0; i < c->n; i++)
            if (!list[i].taken)
                list[i].adjusted *= novelty(c, &list[i], best);
    }
    return n;
}

/* ---- The answer ---- */

static int add_sentence(json_t *why, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int add_sentence(json_t *why, struct err *err, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    json_t *s;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    s = json_string(text);
    /* Cutting may have split a character. */
    if (s == NULL) {
        char visible[sizeof(text)];

        s = json_string(str_visible(text, strlen(text), visible, sizeof(visible)));
    }
    return json_array_append_new(why, s) == 0 ? 0 : no_memory(err);
}

/* The asker's own words that the document has, as they were written. */
static int why_words(const struct query *c, const struct candidate *d, json_t *why, struct err *err)
{
    char list[400] = "";
    size_t len = 0, n = 0;

    for (size_t i = 0; i < c->n_words && n < WHY_WORDS; i++) {
        const struct query_word *w = &c->words[i];
        char word[80];

        if (w->is_compound || lexical_occurrences(c->r->lexical, w->hash, d->ordinal) == 0)
            continue;
        str_visible(c->q->text + w->offset, w->len, word, TEXT_WORD_MAX + 4);
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", n > 0 ? ", " : "", word);
        if (len >= sizeof(list))
            break;
        n++;
    }
    return n > 0 ? add_sentence(why, err, "It shares these words with the question: %s.", list) : 0;
}

static int why_technique(const struct query *c, const struct candidate *d, json_t *why,
                         struct err *err)
{
    const char *own = symbols_get(&c->r->technique.names, c->r->docs[d->ordinal].technique);

    for (size_t i = 0; i < c->n_concepts; i++) {
        const char *name = vocab_at(c->concepts[i])->name;

        if (strcmp(name, own) == 0)
            return add_sentence(why, err, "The question names its technique, %s.", own);
        if (lexical_occurrences(c->r->lexical, retrieve_concept_term(name), d->ordinal) > 0)
            return add_sentence(why, err, "It speaks of %s, which the question names.", name);
    }
    if (c->q->technique != NULL && strcmp(c->q->technique, own) != 0)
        return add_sentence(why, err, "Its technique, %s, is also called '%.80s'.", own,
                            c->q->technique);
    return 0;
}

static int why_evidence(const struct query *c, const struct candidate *d, json_t *why,
                        struct err *err)
{
    const struct insight_effect *e = &d->effect;
    double percent = 100 * (exp(e->mean) - 1);
    const char *class = c->q->device_class;

    if (e->n == 0)
        return d->in->all.failures > 0
                   ? add_sentence(why, err, "It was never measured; %u attempts failed.",
                                  d->in->all.failures)
                   : add_sentence(why, err, "It was never measured: its effect is a guess.");
    if (e->cell[0] != '\0')
        return add_sentence(why, err,
                            "Measured %u times on %s: %+.1f %% speed, positive with "
                            "probability %.2f.",
                            e->n, e->cell, percent, e->p_positive);
    if (class != NULL)
        return add_sentence(why, err,
                            "Fewer than two measurements on %s: the effect is that of all %u "
                            "measurements, %+.1f %% speed.",
                            class, e->n, percent);
    return add_sentence(why, err,
                        "Measured %u times: %+.1f %% speed, positive with probability %.2f.", e->n,
                        percent, e->p_positive);
}

static int why_rest(const struct query *c, const struct candidate *d, json_t *why, struct err *err)
{
    const struct claim *k = &d->in->claim;

    if (d->on_task && add_sentence(why, err, "It has evidence on the task %s.", c->q->task) != 0)
        return -1;
    if (c->q->family != NULL && k->family[0] == '\0' &&
        add_sentence(why, err, "Its scope is every family.") != 0)
        return -1;
    if (d->in->condition[0] != '\0' &&
        add_sentence(why, err, "Its sign depends on a condition: %s.", d->in->condition) != 0)
        return -1;
    if (k->param[0] != '\0' && add_sentence(why, err, "It was tried as %s = %s against %s.",
                                            k->param, k->with_value, k->without_value) != 0)
        return -1;
    return 0;
}

static json_t *why_of(const struct query *c, const struct candidate *d, struct err *err)
{
    json_t *why = json_array();

    if (why == NULL) {
        no_memory(err);
        return NULL;
    }
    if (why_words(c, d, why, err) != 0 || why_technique(c, d, why, err) != 0 ||
        (c->n_terms > 0 &&
         add_sentence(why, err, "Its similarity to the question is %.2f.", d->cosine) != 0) ||
        why_evidence(c, d, why, err) != 0 || why_rest(c, d, why, err) != 0) {
        json_decref(why);
        return NULL;
    }
    return why;
}

struct newest {
    const struct evtable *t;
    uint32_t rows[EVIDENCE_MAX];
    size_t n;
};

static bool is_newer(const struct evtable *t, uint32_t x, uint32_t y)
{
    const struct evrow *a = evtable_row(t, x), *b = evtable_row(t, y);

    if (a->measured_at_s != b->measured_at_s)
        return a->measured_at_s > b->measured_at_s;
    return memcmp(a->id.bytes, b->id.bytes, sizeof(a->id.bytes)) < 0;
}

static int keep_newest(void *ctx, uint32_t row)
{
    struct newest *k = ctx;
    size_t at = k->n;

    if (at == EVIDENCE_MAX && !is_newer(k->t, row, k->rows[at - 1]))
        return 0;
    if (at < EVIDENCE_MAX)
        k->n++;
    else
        at--;
    for (; at > 0 && is_newer(k->t, row, k->rows[at - 1]); at--)
        k->rows[at] = k->rows[at - 1];
    k->rows[at] = row;
    return 0;
}

static json_t *id_json(const uint8_t bytes[32])
{
    struct id id;

    return id_of(bytes, &id) == 0 ? json_string(id.hex) : json_null();
}

/* Log effects leave as natural logs, not as micro-units. */
static json_t *row_json(const struct evtable *t, const struct evrow *row)
{
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:b, s:s, s:I, s:o, s:o}", "id",
        id_json(row->id.bytes), "task", evtable_name(t, row->task), "device",
        evtable_name(t, row->device), "device_class", evtable_name(t, row->device_class), "shape",
        evtable_name(t, row->shape), "toolchain", evtable_name(t, row->toolchain), "effect",
        (double)row->effect_q / 1e6, "sd", (double)row->sd_q / 1e6, "steered", row->steered,
        "failure", evtable_name(t, row->failure), "measured_at", (json_int_t)row->measured_at_s,
        "with", id_json(row->with.bytes), "without", id_json(row->without.bytes));
}

static json_t *evidence_of(const struct query *c, const struct candidate *d)
{
    struct newest newest = { .t = c->r->evidence };
    json_t *list = json_array();

    retrieve_each_row(c->r, d->in, c->q->as_of_ns, keep_newest, &newest);
    for (size_t i = 0; i < newest.n; i++)
        if (json_array_append_new(list,
                                  row_json(newest.t, evtable_row(newest.t, newest.rows[i])))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *rank_json(uint32_t rank)
{
    return rank != 0 ? json_integer(rank) : json_null();
}

static json_t *hit_json(const struct query *c, const struct candidate *d, struct err *err)
{
    const struct insight *in = d->in;
    const struct claim *k = &in->claim;
    json_t *why = why_of(c, d, err), *evidence, *hit;

    if (why == NULL)
        return NULL;
    evidence = evidence_of(c, d);
    hit = json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s}, s:s, s:{s:f, s:f, s:i, s:s},"
                    " s:i, s:i, s:i, s:s, s:f, s:o, s:o}",
                    "insight", in->id.hex, "statement", k->statement, "technique",
                    symbols_get(&c->r->technique.names, c->r->docs[d->ordinal].technique), "scope",
                    "family", k->family, "dtype", k->dtype, "language", k->language, "bottleneck",
                    k->bottleneck, "requires", k->requires, "condition", in->condition, "effect",
                    "mean", d->effect.mean, "sd", d->effect.sd, "n", (int)d->effect.n, "cell",
                    d->effect.cell, "blind", (int)in->all.blind, "steered", (int)in->all.steered,
                    "failures", (int)in->all.failures, "state", insight_state_name(in->state),
                    "score", d->score, "why", why, "evidence", evidence);
    if (hit != NULL && c->q->explain &&
        json_object_set_new(hit, "ranks",
                            json_pack("{s:o, s:o, s:o, s:o}", "lexical", rank_json(d->lexical_rank),
                                      "vector", rank_json(d->vector_rank), "fused",
                                      rank_json(d->fused_rank), "usefulness",
                                      rank_json(d->useful_rank))) != 0) {
        json_decref(hit);
        hit = NULL;
    }
    if (hit == NULL)
        no_memory(err);
    return hit;
}

static json_t *hits_json(struct query *c, struct err *err)
{
    struct candidate *chosen[LIMIT_MAX];
    size_t n = choose(c, chosen);
    json_t *hits = json_array();

    if (hits == NULL) {
        no_memory(err);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *hit = hit_json(c, chosen[i], err);

        if (hit == NULL || json_array_append_new(hits, hit) != 0) {
            if (hit != NULL)
                no_memory(err);
            json_decref(hits);
            return NULL;
        }
    }
    return hits;
}

static int find_candidates(struct query *c, struct err *err)
{
    read_text(c);
    if (c->n_terms == 0) {
        browse(c);
        return 0;
    }
    embed_query(c);
    if (c->filter.n_pass == 0)
        return 0;
    if (run_searches(c, err) != 0)
        return -1;
    join_lists(c);
    drop_irrelevant(c);
    fuse(c);
    return 0;
}

static int answer(struct query *c, json_t *removed, json_t **hits, struct err *err)
{
    int rc = -1;

    if (filter_reserve(c, err) != 0 || filter_apply(c->r, c->q, &c->filter, removed, err) != 0 ||
        find_candidates(c, err) != 0)
        return -1;
    if (c->irrelevant > 0 &&
        json_object_set_new(removed, "relevance", json_integer(c->irrelevant)) != 0)
        return no_memory(err);
    if (judge_all(c, err) == 0) {
        *hits = hits_json(c, err);
        rc = *hits != NULL ? 0 : -1;
    }
    for (size_t i = 0; i < c->n; i++)
        past_free(c->s->candidates[i].past);
    return rc;
}

static int check_query(const struct kb_query *q, struct err *err)
{
    if (q->limit < 1 || q->limit > LIMIT_MAX)
        return err_set(err, ERR_INVALID, "limit is %zu; allowed are 1 to %d", q->limit, LIMIT_MAX);
    if (q->text == NULL)
        return err_set(err, ERR_INVALID, "text is missing; it may be empty");
    if (strnlen(q->text, TEXT_BYTES_MAX + 1) > TEXT_BYTES_MAX)
        return err_set(err, ERR_INVALID, "text is longer than the %d bytes allowed",
                       TEXT_BYTES_MAX);
    return 0;
}

int retrieve_query(const struct retrieve *r, const struct kb_query *q, json_t **out,
                   struct err *err)
{
    const struct clock *clock = clock_system();
    uint64_t began = clock->mono_ns(clock);
    struct retrieve *pool = (struct retrieve *)r; /* only its pool changes, under its own lock */
    struct query c = { .r = r, .q = q };
    json_auto_t *removed = NULL;
    json_t *hits = NULL;
    int rc;

    assert(!r->loading);
    if (check_query(q, err) != 0)
        return -1;
    removed = json_object();
    if (removed == NULL || (c.s = scratch_take(pool)) == NULL)
        return no_memory(err);
    rc = answer(&c, removed, &hits, err);
    scratch_give(pool, c.s);
    if (rc != 0)
        return -1;
    *out = json_pack("{s:o, s:O, s:I}", "hits", hits, "removed", removed, "took_us",
                     (json_int_t)((clock->mono_ns(clock) - began) / 1000));
    return *out != NULL ? 0 : no_memory(err);
}
