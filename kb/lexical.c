/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BM25; see lexical.h. A search goes through the documents block by block, with the terms by
 * falling upper bound of what they can add. In a block the lists of the first terms are added up in
 * a small array; only documents that the remaining (common) terms could still lift over the k-th
 * best score so far are looked up in those terms' lists, which are not read otherwise. Every score
 * is the sum over the terms in the same order, so that skipping changes no digit.
 */
#include "lexical.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

static const float k1 = 1.2f, b = 0.75f;
/* Bounds are raised by this much, to cover the rounding of float sums. */
static const float bound_slack = 1.0001f;

enum {
    TF_MAX = 255,
    TF_TABLE = 4,
    LEN_LONG = 255,
    DOCS_MAX = 1 << 30,
    BLOCK = 4096,     /* documents scored at a time: their scores stay in the first-level cache */
    STRIDE = 16,      /* scores compared at a time */
    LOOK_UP_COST = 8, /* a look-up costs as much as reading about so many postings */
};

struct list {
    uint64_t hash;
    uint32_t n, cap; /* capacity 0 with postings: the arrays are parts of the slabs */
    uint32_t *docs;  /* ascending */
    struct occurrence {
        uint8_t tf;
        uint8_t len; /* of the document; LEN_LONG: look it up */
    } * at;
    uint8_t max_tf;
    uint16_t min_len; /* shortest document that has the term */
};

struct lexical {
    struct list *lists;
    size_t n_lists, cap_lists;
    uint32_t *slots; /* open addressing: list number plus 1, 0 for none */
    size_t n_slots;  /* power of two */
    uint16_t *lens;
    uint32_t n_docs;
    size_t cap_docs;
    uint64_t total_len, n_postings;
    uint32_t *slab_docs; /* of the lists that were read from a file, side by side */
    struct occurrence *slab_at;
    uint64_t *sorted; /* of the document being added */
    size_t cap_sorted;
};

struct term {
    const struct list *list;
    float weight; /* idf * (k1 + 1) */
    float bound;  /* most it can add to a document */
};

struct lexical_scratch {
    float acc[BLOCK];                /* scores within the block; all zero between blocks */
    float table[TF_TABLE][LEN_LONG]; /* saturation by occurrences less one, and length */
    float norm_per_len, norm_base;
};

/* The k best so far: a heap with the worst on top. */
struct top {
    struct lexical_hit *hits;
    size_t n, k;
};

/* One search. */
struct search {
    const struct lexical *x;
    struct lexical_scratch *s;
    struct term terms[LEXICAL_QUERY_TERMS];
    uint32_t at[LEXICAL_QUERY_TERMS];    /* place in each term's list */
    float rest[LEXICAL_QUERY_TERMS + 1]; /* what the terms from this one on can add */
    size_t n;
    const uint64_t *allowed;
    struct top top;
};

struct lexical *lexical_new(void)
{
    return calloc(1, sizeof(struct lexical));
}

void lexical_free(struct lexical *x)
{
    if (x == NULL)
        return;
    for (size_t i = 0; i < x->n_lists; i++) {
        if (x->lists[i].cap == 0)
            continue;
        free(x->lists[i].docs);
        free(x->lists[i].at);
    }
    free(x->slab_docs);
    free(x->slab_at);
    free(x->lists);
    free(x->slots);
    free(x->lens);
    free(x->sorted);
    free(x);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the lexical index");
}

/* Grows *p to hold `need` elements; the contents stay when it fails. */
static int grow(void *p, size_t *cap, size_t need, size_t size, struct err *err)
{
    void **at = p;
    size_t want = MAX(*cap * 2, MAX(need, (size_t)16));
    void *q;

    if (need <= *cap)
        return 0;
    q = reallocarray(*at, want, size);
    if (q == NULL)
        return no_memory(err);
    *at = q;
    *cap = want;
    return 0;
}

static struct list *list_find(const struct lexical *x, uint64_t hash)
{
    if (x->n_slots == 0)
        return NULL;
    for (size_t i = hash & (x->n_slots - 1); x->slots[i] != 0; i = (i + 1) & (x->n_slots - 1))
        if (x->lists[x->slots[i] - 1].hash == hash)
            return &x->lists[x->slots[i] - 1];
    return NULL;
}

static void slot_put(uint32_t *slots, size_t n_slots, uint64_t hash, uint32_t value)
{
    size_t i = hash & (n_slots - 1);

    while (slots[i] != 0)
        i = (i + 1) & (n_slots - 1);
    slots[i] = value;
}

/* Keeps the table at most half full with one list more. */
static int slots_reserve(struct lexical *x, struct err *err)
{
    size_t n = x->n_slots == 0 ? 1024 : x->n_slots * 2;
    uint32_t *slots;

    if ((x->n_lists + 1) * 2 <= x->n_slots)
        return 0;
    slots = calloc(n, sizeof(*slots));
    if (slots == NULL)
        return no_memory(err);
    for (size_t i = 0; i < x->n_lists; i++)
        slot_put(slots, n, x->lists[i].hash, (uint32_t)i + 1);
    free(x->slots);
    x->slots = slots;
    x->n_slots = n;
    return 0;
}

static struct list *list_make(struct lexical *x, uint64_t hash, struct err *err)
{
    struct list *l = list_find(x, hash);

    if (l != NULL)
        return l;
    if (slots_reserve(x, err) != 0 ||
        grow(&x->lists, &x->cap_lists, x->n_lists + 1, sizeof(*x->lists), err) != 0)
        return NULL;
    l = &x->lists[x->n_lists++];
    *l = (struct list){ .hash = hash, .min_len = UINT16_MAX };
    slot_put(x->slots, x->n_slots, hash, (uint32_t)x->n_lists);
    return l;
}

/* Room in arrays of its own. */
static int list_own(struct list *l, size_t cap, struct err *err)
{
    uint32_t *docs = reallocarray(NULL, cap, sizeof(*docs));
    struct occurrence *at = reallocarray(NULL, cap, sizeof(*at));

    if (docs == NULL || at == NULL) {
        free(docs);
        free(at);
        return no_memory(err);
    }
    if (l->n > 0) {
        memcpy(docs, l->docs, l->n * sizeof(*docs));
        memcpy(at, l->at, l->n * sizeof(*at));
    }
    l->docs = docs;
    l->at = at;
    l->cap = (uint32_t)cap;
    return 0;
}

static int list_reserve(struct list *l, size_t want, struct err *err)
{
    uint32_t *docs;
    struct occurrence *at;

    if (want <= l->cap)
        return 0;
    if (l->cap == 0)
        return list_own(l, MAX(want, (size_t)l->n + l->n / 2), err);
    want = MAX(want, (size_t)l->cap + l->cap / 2);
    docs = reallocarray(l->docs, want, sizeof(*docs));
    if (docs == NULL)
        return no_memory(err);
    l->docs = docs;
    at = reallocarray(l->at, want, sizeof(*at));
    if (at == NULL)
        return no_memory(err);
    l->at = at;
    l->cap = (uint32_t)want;
    return 0;
}

static void list_append(struct list *l, uint32_t doc, uint8_t tf, uint16_t len)
{
    l->docs[l->n] = doc;
    l->at[l->n] = (struct occurrence){ tf, (uint8_t)MIN(len, LEN_LONG) };
    l->n++;
    l->max_tf = MAX(l->max_tf, tf);
    l->min_len = MIN(l->min_len, len);
}

static int compare_u64(const void *p, const void *q)
{
    uint64_t x = *(const uint64_t *)p, y = *(const uint64_t *)q;

    return x < y ? -1 : x > y;
}

/* Room for every posting of the document, so that entering it cannot fail half-way. */
static int reserve_document(struct lexical *x, size_t n, struct err *err)
{
    if (grow(&x->lens, &x->cap_docs, (size_t)x->n_docs + 1, sizeof(*x->lens), err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct list *l;

        if (i > 0 && x->sorted[i] == x->sorted[i - 1])
            continue;
        l = list_make(x, x->sorted[i], err);
        if (l == NULL || list_reserve(l, (size_t)l->n + 1, err) != 0)
            return -1;
    }
    return 0;
}

int lexical_add(struct lexical *x, const uint64_t *terms, size_t n, struct err *err)
{
    uint16_t len = (uint16_t)MIN(n, (size_t)UINT16_MAX);

    if (x->n_docs >= DOCS_MAX)
        return err_set(err, ERR_LIMIT, "the lexical index holds at most %d documents", DOCS_MAX);
    if (grow(&x->sorted, &x->cap_sorted, n, sizeof(*x->sorted), err) != 0)
        return -1;
    if (n > 0) {
        memcpy(x->sorted, terms, n * sizeof(*terms));
        qsort(x->sorted, n, sizeof(*x->sorted), compare_u64);
    }
    if (reserve_document(x, n, err) != 0)
        return -1;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && x->sorted[end] == x->sorted[i];)
            end++;
        list_append(list_find(x, x->sorted[i]), x->n_docs, (uint8_t)MIN(end - i, (size_t)TF_MAX),
                    len);
        x->n_postings++;
    }
    x->lens[x->n_docs++] = len;
    x->total_len += len;
    return 0;
}

uint32_t lexical_docs(const struct lexical *x)
{
    return x->n_docs;
}

uint64_t lexical_terms(const struct lexical *x)
{
    return x->n_lists;
}

uint64_t lexical_postings(const struct lexical *x)
{
    return x->n_postings;
}

uint32_t lexical_frequency(const struct lexical *x, uint64_t term)
{
    const struct list *l = list_find(x, term);

    return l != NULL ? l->n : 0;
}

/* First place at or after `from` whose document is not below `doc`. */
static uint32_t list_seek(const struct list *l, uint32_t from, uint32_t doc)
{
    uint32_t step = 1, lo = from, hi;

    while (lo + step < l->n && l->docs[lo + step] < doc) {
        lo += step;
        step *= 2;
    }
    hi = MIN(lo + step, l->n);
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (l->docs[mid] < doc)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t lexical_occurrences(const struct lexical *x, uint64_t term, uint32_t doc)
{
    const struct list *l = list_find(x, term);
    uint32_t i;

    if (l == NULL || l->n == 0)
        return 0;
    i = list_seek(l, 0, doc);
    return i < l->n && l->docs[i] == doc ? l->at[i].tf : 0;
}

struct lexical_scratch *lexical_scratch_new(void)
{
    return calloc(1, sizeof(struct lexical_scratch));
}

void lexical_scratch_free(struct lexical_scratch *s)
{
    free(s);
}

/* tf / (tf + norm): how much of a term's weight a document of this length gets. */
static float saturation(const struct lexical_scratch *s, uint8_t tf, uint16_t len)
{
    return tf / (tf + s->norm_base + s->norm_per_len * len);
}

static void norms_fill(const struct lexical *x, struct lexical_scratch *s)
{
    s->norm_base = k1 * (1 - b);
    s->norm_per_len = x->total_len > 0 ? k1 * b * (float)x->n_docs / (float)x->total_len : 0;
    for (uint16_t len = 0; len < LEN_LONG; len++)
        for (uint8_t tf = 1; tf <= TF_TABLE; tf++)
            s->table[tf - 1][len] = saturation(s, tf, len);
}

/* The same for one posting, nearly always from the table. */
static inline float posting_score(const struct lexical *x, const struct lexical_scratch *s,
                                  const struct list *l, uint32_t i)
{
    struct occurrence o = l->at[i];

    if (__builtin_expect(o.tf > TF_TABLE || o.len == LEN_LONG, 0))
        return saturation(s, o.tf, x->lens[l->docs[i]]);
    return s->table[o.tf - 1][o.len];
}

static int compare_terms(const void *p, const void *q)
{
    const struct term *x = p, *y = q;

    if (x->bound != y->bound)
        return x->bound > y->bound ? -1 : 1;
    return x->list->hash < y->list->hash ? -1 : x->list->hash > y->list->hash;
}

/* The distinct terms that occur, with their weights, by falling bound. */
static size_t terms_prepare(const struct lexical *x, const struct lexical_scratch *s,
                            const uint64_t *hashes, size_t n, struct term *out)
{
    size_t found = 0;

    for (size_t i = 0; i < n && found < LEXICAL_QUERY_TERMS; i++) {
        const struct list *l = list_find(x, hashes[i]);
        bool again = l == NULL || l->n == 0;
        float idf;

        for (size_t j = 0; j < found && !again; j++)
            again = out[j].list == l;
        if (again)
            continue;
        idf = logf(1 + ((float)(x->n_docs - l->n) + 0.5f) / ((float)l->n + 0.5f));
        out[found].list = l;
        out[found].weight = idf * (k1 + 1);
        out[found].bound = out[found].weight * saturation(s, l->max_tf, l->min_len) * bound_slack;
        found++;
    }
    qsort(out, found, sizeof(*out), compare_terms);
    return found;
}

static bool is_better(struct lexical_hit x, struct lexical_hit y)
{
    return x.score != y.score ? x.score > y.score : x.doc < y.doc;
}

static int compare_hits(const void *p, const void *q)
{
    const struct lexical_hit *x = p, *y = q;

    return is_better(*x, *y) ? -1 : is_better(*y, *x);
}

static void sift_up(struct top *t, struct lexical_hit h)
{
    size_t i = t->n++;

    while (i > 0 && is_better(t->hits[(i - 1) / 2], h)) {
        t->hits[i] = t->hits[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->hits[i] = h;
}

static void sift_down(struct top *t, struct lexical_hit h)
{
    size_t i = 0, c;

    while ((c = 2 * i + 1) < t->n) {
        if (c + 1 < t->n && is_better(t->hits[c], t->hits[c + 1]))
            c++;
        if (is_better(t->hits[c], h))
            break;
        t->hits[i] = t->hits[c];
        i = c;
    }
    t->hits[i] = h;
}

/* What a document must exceed to enter: those that come have higher numbers, so equal is too
 * little.
 */
static float top_least(const struct top *t)
{
    return t->n < t->k ? 0 : t->hits[0].score;
}

static void top_add(struct top *t, uint32_t doc, float score)
{
    if (score <= top_least(t))
        return;
    if (t->n < t->k)
        sift_up(t, (struct lexical_hit){ doc, score });
    else
        sift_down(t, (struct lexical_hit){ doc, score });
}

static bool is_allowed(const struct search *q, uint32_t doc)
{
    return q->allowed == NULL || (q->allowed[doc / 64] >> (doc % 64) & 1) != 0;
}

/* Adds terms from `first` on to the score, as long as it can still enter. */
static void look_up(struct search *q, uint32_t doc, float score, size_t first)
{
    for (size_t t = first; t < q->n; t++) {
        const struct list *l = q->terms[t].list;

        if (score * bound_slack + q->rest[t] <= top_least(&q->top))
            return;
        q->at[t] = list_seek(l, q->at[t], doc);
        if (q->at[t] < l->n && l->docs[q->at[t]] == doc)
            score += q->terms[t].weight * posting_score(q->x, q->s, l, q->at[t]);
    }
    top_add(&q->top, doc, score);
}

/* Adds one term's postings below `end` into the block that begins at `first`. */
static void accumulate(struct search *q, size_t term, uint32_t first, uint32_t end)
{
    const struct list *l = q->terms[term].list;
    float weight = q->terms[term].weight;
    uint32_t i = q->at[term];

    for (; i < l->n && l->docs[i] < end; i++)
        q->s->acc[l->docs[i] - first] += weight * posting_score(q->x, q->s, l, i);
    q->at[term] = i;
}

/* Whether any of a stride's scores exceeds the value. */
static inline bool any_above(const float *acc, float value)
{
    int any = 0;

    for (size_t i = 0; i < STRIDE; i++)
        any |= acc[i] > value;
    return any != 0;
}

/* What the terms added up so far must exceed for the others to lift a document into the answer. */
static float least_partial(const struct search *q, size_t first_term)
{
    return MAX((top_least(&q->top) - q->rest[first_term]) / bound_slack, 0);
}

/* Looks up the block's documents that the terms from `first_term` on can still lift into the
 * answer. */
static void settle_block(struct search *q, uint32_t first, size_t first_term)
{
    float need = least_partial(q, first_term);
    const float *acc = q->s->acc;

    for (size_t i = 0; i < BLOCK; i += STRIDE) {
        if (!any_above(acc + i, need))
            continue;
        for (size_t k = i; k < i + STRIDE; k++)
            if (acc[k] > need && is_allowed(q, first + (uint32_t)k))
                look_up(q, first + (uint32_t)k, acc[k], first_term);
        need = least_partial(q, first_term);
    }
}

/*
 * How many terms to add up in the next block. Documents with none of them cannot enter when what
 * the others can add is at most the k-th best score; stopping at an eighth of it leaves few to look
 * up, which costs many times what adding up costs.
 */
static size_t essential_terms(const struct search *q)
{
    size_t n = q->n;

    while (n > 0 && q->rest[n - 1] <= top_least(&q->top) / 8)
        n--;
    return n;
}

static bool is_block_empty(const struct search *q, uint32_t first, uint32_t end)
{
    if (q->allowed == NULL)
        return false;
    for (uint32_t w = first / 64; w * 64 < end; w++)
        if (q->allowed[w] != 0)
            return false;
    return true;
}

static void search_blocks(struct search *q)
{
    for (uint32_t first = 0; first < q->x->n_docs; first += BLOCK) {
        uint32_t end = MIN(q->x->n_docs - first, (uint32_t)BLOCK) + first;
        size_t n = essential_terms(q);

        if (is_block_empty(q, first, end))
            continue;
        for (size_t t = 0; t < q->n; t++)
            q->at[t] = list_seek(q->terms[t].list, q->at[t], first);
        for (size_t t = 0; t < n; t++)
            accumulate(q, t, first, end);
        settle_block(q, first, n);
        memset(q->s->acc, 0, sizeof(q->s->acc));
    }
}

/* When the filter lets few pass, they are looked up one by one. */
static void search_allowed(struct search *q)
{
    for (uint32_t w = 0; (uint64_t)w * 64 < q->x->n_docs; w++)
        for (uint64_t word = q->allowed[w]; word != 0; word &= word - 1) {
            uint32_t doc = w * 64 + (uint32_t)__builtin_ctzll(word);

            if (doc < q->x->n_docs)
                look_up(q, doc, 0, 0);
        }
}

/* Whether looking up the allowed documents is less work than reading the lists. */
static bool is_selective(const struct search *q)
{
    uint64_t postings = 0, n_allowed = 0, most;

    if (q->allowed == NULL)
        return false;
    for (size_t t = 0; t < q->n; t++)
        postings += q->terms[t].list->n;
    most = postings / LOOK_UP_COST / MAX(q->n, (size_t)1);
    for (uint32_t w = 0; (uint64_t)w * 64 < q->x->n_docs && n_allowed <= most; w++)
        n_allowed += (uint64_t)__builtin_popcountll(q->allowed[w]);
    return n_allowed <= most;
}

void lexical_search(const struct lexical *x, struct lexical_scratch *s, const uint64_t *terms,
                    size_t n_terms, const uint64_t *allowed, size_t k, struct lexical_hit *out,
                    size_t *n)
{
    struct search q = { .x = x, .s = s, .allowed = allowed, .top = { .hits = out, .k = k } };

    if (k > 0 && x->n_docs > 0) {
        norms_fill(x, s);
        q.n = terms_prepare(x, s, terms, n_terms, q.terms);
        for (size_t t = q.n; t > 0; t--)
            q.rest[t - 1] = q.rest[t] + q.terms[t - 1].bound;
        if (is_selective(&q))
            search_allowed(&q);
        else
            search_blocks(&q);
    }
    qsort(out, q.top.n, sizeof(*out), compare_hits);
    *n = q.top.n;
}

static bool put(FILE *f, const void *data, size_t size)
{
    return size == 0 || fwrite(data, size, 1, f) == 1;
}

static bool get(FILE *f, void *data, size_t size)
{
    return size == 0 || fread_unlocked(data, size, 1, f) == 1;
}

int lexical_write(const struct lexical *x, FILE *f, struct err *err)
{
    uint64_t head[4] = { x->n_docs, x->n_lists, x->n_postings, x->total_len };
    bool ok = put(f, head, sizeof(head)) && put(f, x->lens, x->n_docs * sizeof(*x->lens));

    for (size_t i = 0; i < x->n_lists && ok; i++) {
        const struct list *l = &x->lists[i];

        ok = put(f, &l->hash, sizeof(l->hash)) && put(f, &l->n, sizeof(l->n)) &&
             put(f, l->docs, l->n * sizeof(*l->docs)) && put(f, l->at, l->n * sizeof(*l->at));
    }
    return ok ? 0 : err_set(err, ERR_IO, "cannot write the lexical index: %m");
}

static int damaged(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the lexical index in the snapshot is damaged");
}

/* The next list, `room` postings may come at most. */
static int list_read(struct lexical *x, FILE *f, uint64_t room, struct err *err)
{
    size_t before = x->n_lists;
    struct list *l;
    uint64_t hash;
    uint32_t n;

    if (!get(f, &hash, sizeof(hash)) || !get(f, &n, sizeof(n)) || n > x->n_docs || n > room ||
        hash == 0)
        return damaged(err);
    l = list_make(x, hash, err);
    if (l == NULL)
        return -1;
    if (x->n_lists == before)
        return damaged(err);
    l->docs = x->slab_docs + x->n_postings;
    l->at = x->slab_at + x->n_postings;
    if (!get(f, l->docs, n * sizeof(*l->docs)) || !get(f, l->at, n * sizeof(*l->at)))
        return damaged(err);
    for (uint32_t i = 0; i < n; i++) {
        if (l->docs[i] >= x->n_docs || (i > 0 && l->docs[i] <= l->docs[i - 1]) ||
            l->at[i].tf == 0 || l->at[i].len != MIN(x->lens[l->docs[i]], LEN_LONG))
            return damaged(err);
        l->max_tf = MAX(l->max_tf, l->at[i].tf);
        l->min_len = MIN(l->min_len, x->lens[l->docs[i]]);
    }
    l->n = n;
    x->n_postings += n;
    return 0;
}

static int read_all(struct lexical *x, FILE *f, struct err *err)
{
    uint64_t head[4];

    if (!get(f, head, sizeof(head)) || head[0] > DOCS_MAX)
        return damaged(err);
    if (grow(&x->lens, &x->cap_docs, head[0], sizeof(*x->lens), err) != 0)
        return -1;
    x->n_docs = (uint32_t)head[0];
    x->total_len = head[3];
    if (!get(f, x->lens, x->n_docs * sizeof(*x->lens)))
        return damaged(err);
    x->slab_docs = reallocarray(NULL, MAX(head[2], 1u), sizeof(*x->slab_docs));
    x->slab_at = reallocarray(NULL, MAX(head[2], 1u), sizeof(*x->slab_at));
    if (x->slab_docs == NULL || x->slab_at == NULL)
        return no_memory(err);
    for (uint64_t i = 0; i < head[1]; i++)
        if (list_read(x, f, head[2] - x->n_postings, err) != 0)
            return -1;
    return x->n_postings == head[2] ? 0 : damaged(err);
}

int lexical_read(FILE *f, struct lexical **out, struct err *err)
{
    struct lexical *x = lexical_new();

    if (x == NULL)
        return no_memory(err);
    if (read_all(x, f, err) != 0) {
        lexical_free(x);
        return -1;
    }
    *out = x;
    return 0;
}
