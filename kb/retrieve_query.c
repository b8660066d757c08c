/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One query: filters, the two searches, fusion, usefulness, diversity, and the answer
 * (retrieve_answer.c). docs/retrieval.md has the formulas. Everything works on scratch memory taken
 * from a pool, so that queries run together under the read lock.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "retrieve_query.h"
#include "schema.h"

/* Least cosine of a hit that shares no word and no technique with the text. */
static const float cosine_min = 0.15f;

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

    if (c->q->vector != NULL && c->r->active.vectors != NULL) {
        c->vectors = c->r->active.vectors;
        c->embedding = *c->q->vector;
        return;
    }
    c->vectors = c->r->vectors;
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
    return vindex_search(c->vectors, &c->embedding, k, allowed, false, c->s->vector_hits,
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
    /* Beside a provider's vectors, insights that have none yet must not lose to unrelated ones. */
    while (c->vectors == c->r->active.vectors && c->n_vector > 0 &&
           c->s->vector_hits[c->n_vector - 1].score <= 0)
        c->n_vector--;
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

        /* An insight that came just now may lack a vector of a provider's model. */
        if (d->vector_rank == 0 && d->ordinal < vindex_count(c->vectors))
            d->cosine = vindex_score(c->vectors, &c->embedding, d->ordinal);
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
        .foreign = row->foreign,
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
    fold_lend(&p->fold, &p->in);
    p->in.n_evidence = d->in->n_evidence; /* rows are looked up by it, and by time */
    p->in.evidence = d->in->evidence;
    if (p->fold.n_evidence != d->in->n_evidence) {
        p->in.condition = (char *)"";
        p->in.contradicted = false;
        p->in.when = (struct insight_condition){ .op = INSIGHT_ALWAYS };
    }
    d->past = p;
    d->in = &p->in;
    return 0;
}

struct kin {
    struct query *c;
    struct candidate *d;
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
    if (k->c->device_class != NULL &&
        same_kind(evtable_name(t, row->device_class), k->c->device_class))
        k->kind = true;
    situation_see(k->c, k->d, row);
    return ++k->seen >= ROWS_MAX || (k->task && k->kind && !k->c->has_shape);
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
    if (family[0] == '\0')
        return 0.8;
    return situation_related(c, family) ? 0.6 : 0.5;
}

static double device_similarity(const struct query *c, const struct candidate *d, bool kind)
{
    if (c->device_class == NULL || d->effect.cell[0] != '\0')
        return 1;
    if (kind)
        return 0.85;
    return d->effect.n == 0 ? 0.75 : 0.65; /* measured, and never on anything like it */
}

/* The posterior in the place asked about, with the feature that its condition is about. */
static struct insight_effect effect_here(const struct query *c, const struct insight *in)
{
    struct insight_place at = { .device_class = c->device_class,
                                .shape = c->q->shape,
                                .foreign_weight = INSIGHT_FOREIGN_WEIGHT };
    json_auto_t *features = NULL;
    double value;

    if (situation_condition_feature(c, in, &value)) {
        features = json_pack("{s:f}", in->when.feature, value); /* without memory: not known */
        at.features = features;
    }
    return insight_effect_at(in, &at);
}

static int judge(struct query *c, struct candidate *d, struct err *err)
{
    struct kin kin = { .c = c, .d = d };

    d->in = c->r->options.insight(c->r->options.insight_ctx, d->ordinal);
    if (c->q->as_of_ns != 0 && past_make(c, d, err) != 0)
        return -1;
    if (c->q->task != NULL || c->device_class != NULL || c->has_shape)
        retrieve_each_row(c->r, d->in, c->q->as_of_ns, look_at_kin, &kin);
    d->on_task = kin.task;
    d->effect = effect_here(c, d->in);
    d->usefulness = task_similarity(c, d) * situation_factor(c, d) *
                    device_similarity(c, d, kin.kind) * retrieve_gain(&d->effect);
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

static int find_candidates(struct query *c, struct err *err)
{
    read_text(c);
    situation_read(c);
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

/* {filter: how many insights it removes} */
static void write_removed(const json_t *removed, struct jsonw *w)
{
    const char *name;
    json_t *v;

    jsonw_key(w, "removed");
    jsonw_open(w, '{');
    json_object_foreach ((json_t *)removed, name, v) {
        jsonw_key(w, name);
        jsonw_int(w, json_integer_value(v));
    }
    jsonw_close(w, '}');
}

/* What the question was understood to say, and what has to be said of the answer. */
static void write_notes(const struct query *c, struct jsonw *w)
{
    char understood[PROFILE_TEXT_MAX], shape[REGIME_TEXT_MAX], note[1024];

    if (c->q->explain) {
        jsonw_key(w, "understood");
        jsonw_open(w, '{');
        jsonw_key(w, "profile");
        jsonw_text(w, profile_text(&c->profile, understood, sizeof(understood)));
        jsonw_key(w, "shape");
        jsonw_text(w, regime_text(&c->regime, shape, sizeof(shape)));
        jsonw_key(w, "techniques");
        jsonw_open(w, '[');
        for (size_t i = 0; i < c->n_concepts; i++)
            jsonw_text(w, vocab_at(c->concepts[i])->name);
        jsonw_close(w, ']');
        jsonw_key(w, "embedding");
        jsonw_text(w, c->vectors != NULL && c->vectors == c->r->active.vectors ? c->r->active.name
                                                                               : EMBED_MODEL);
        jsonw_close(w, '}');
    }
    if (c->q->note == NULL && situation_note(c) == NULL)
        return;
    jsonw_key(w, "notes");
    jsonw_open(w, '[');
    if (c->q->note != NULL)
        jsonw_text(w, str_visible(c->q->note, strlen(c->q->note), note, sizeof(note)));
    if (situation_note(c) != NULL)
        jsonw_text(w, situation_note(c));
    jsonw_close(w, ']');
}

static int answer(struct query *c, json_t *removed, struct jsonw *w, struct err *err)
{
    struct candidate *chosen[LIMIT_MAX];
    int rc = -1;

    if (filter_reserve(c, err) != 0 || filter_apply(c->r, c->q, &c->filter, removed, err) != 0 ||
        find_candidates(c, err) != 0)
        return -1;
    if (c->irrelevant > 0 &&
        json_object_set_new(removed, "relevance", json_integer(c->irrelevant)) != 0)
        return no_memory(err);
    if (judge_all(c, err) == 0) {
        size_t n = choose(c, chosen);

        c->nearest = n > 0 ? REGIME_NONE : REGIME_LEVEL_COUNT;
        for (size_t i = 0; i < n; i++)
            if (chosen[i]->near_known)
                c->nearest = MIN(c->nearest, chosen[i]->near.level);
        jsonw_key(w, "hits");
        answer_hits(c, chosen, n, w);
        rc = jsonw_end(w);
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

int retrieve_query_text(const struct retrieve *r, const struct kb_query *q, struct buf *out,
                        struct err *err)
{
    const struct clock *clock = clock_system();
    uint64_t began = clock->mono_ns(clock);
    struct retrieve *pool = (struct retrieve *)r; /* only its pool changes, under its own lock */
    struct query c = { .r = r, .q = q };
    struct jsonw w = { .out = out, .err = err };
    json_auto_t *removed = NULL;
    int rc;

    assert(!r->loading);
    if (check_query(q, err) != 0)
        return -1;
    removed = json_object();
    if (removed == NULL || (c.s = scratch_take(pool)) == NULL)
        return no_memory(err);
    jsonw_open(&w, '{');
    rc = answer(&c, removed, &w, err);
    scratch_give(pool, c.s);
    if (rc != 0)
        return -1;
    write_removed(removed, &w);
    write_notes(&c, &w);
    jsonw_key(&w, "took_us");
    jsonw_int(&w, (int64_t)((clock->mono_ns(clock) - began) / 1000));
    jsonw_close(&w, '}');
    return jsonw_end(&w);
}

int retrieve_query(const struct retrieve *r, const struct kb_query *q, json_t **out,
                   struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = RETRIEVE_ANSWER_MAX };

    if (retrieve_query_text(r, q, &text, err) != 0)
        return -1;
    return json_of_value(buf_str(&text), text.len, out, err);
}
