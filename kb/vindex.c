/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest neighbours; see vindex.h. faiss's headers define a global OK: they stay in this file. */
#include "vindex.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <faiss/c_api/index_io_c.h>

#include <omp.h>

#include "base/mem.h"

enum {
    CHUNK = 8192, /* 2 MB of vectors: one large page */
    COUNT_MAX = 1 << 30,
    TRAIN_PER_LIST = 40, /* training vectors a list; faiss warns below 39 */
    ASSIGN_BLOCK = 4096, /* vectors handed to faiss at a time */
    LISTS_MIN = 64,
    LISTS_MAX = 65536,
    LARGE_PAGE = 2 << 20,
    SCAN_BLOCK = 16,       /* products computed at a time */
    FILTER_PROBES_MAX = 2, /* times VINDEX_PROBES */
    PREFETCH_BLOCK = 32,   /* vectors asked from memory ahead of their use */
    PREFETCH_AHEAD = 4,
    PLACES = 128, /* of a list looked at together */
};

struct chunk {
    struct embedding *v; /* [CHUNK] */
    float *inverse;      /* [CHUNK]: 1 / length; 0 for an all-zero vector */
};

/* Copies of the vectors of one cluster, side by side. */
struct vlist {
    uint32_t n, cap;
    bool in_slab; /* the arrays are parts of the slabs */
    uint32_t *numbers;
    struct embedding *v;
    float *inverse;
};

/* A clustering and who is in which cluster. */
struct lists {
    FaissIndex *ivf; /* trained, and left empty: its quantizer assigns vectors to lists */
    size_t n;
    struct vlist *v;
    struct { /* all lists side by side, with some room in each; a list that outgrows it moves out */
        uint32_t *numbers;
        struct embedding *v;
        float *inverse;
    } slab;
    struct embedding *centres; /* rounded: finding the nearest takes a tenth of faiss's time */
    float *scale;              /* of a rounded centre to the true one */
    float *half_square;        /* of the true centre's length */
    uint32_t indexed;          /* vectors 0 .. indexed - 1 are in a list */
    uint32_t trained_for;      /* vectors there were when it was trained */
};

struct vindex {
    struct chunk **chunks; /* never moved, so that a build can read them without the lock */
    size_t n_chunks, cap_chunks;
    uint32_t count;
    struct lists *lists; /* NULL while there are none */
};

struct vindex_build {
    struct chunk **chunks; /* a copy of the table */
    uint32_t count;
    struct lists *lists;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the vector index");
}

static int faiss_failed(const char *what, struct err *err)
{
    return err_set(err, ERR_INTERNAL, "faiss cannot %s: %s", what, faiss_get_last_error());
}

/*
 * Memory for vectors, in large pages where the system grants them: a search touches hundreds of
 * pages, and with small ones it spends a third of its time on translating addresses.
 */
static void *vectors_alloc(size_t n)
{
    size_t size = (n * sizeof(struct embedding) + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void *p = aligned_alloc(LARGE_PAGE, MAX(size, (size_t)LARGE_PAGE));

    if (p != NULL)
        madvise(p, size, MADV_HUGEPAGE); /* a wish: small pages do as well */
    return p;
}

static void chunk_free(struct chunk *c)
{
    if (c == NULL)
        return;
    free(c->v);
    free(c->inverse);
    free(c);
}

static struct chunk *chunk_new(void)
{
    struct chunk *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->v = vectors_alloc(CHUNK);
    c->inverse = malloc(CHUNK * sizeof(*c->inverse));
    if (c->v != NULL && c->inverse != NULL)
        return c;
    chunk_free(c);
    return NULL;
}

struct vindex *vindex_new(void)
{
    return calloc(1, sizeof(struct vindex));
}

static void vlist_free(struct vlist *l)
{
    if (l->in_slab)
        return;
    free(l->numbers);
    free(l->v);
    free(l->inverse);
}

static void lists_free(struct lists *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; l->v != NULL && i < l->n; i++)
        vlist_free(&l->v[i]);
    free(l->v);
    free(l->slab.numbers);
    free(l->slab.v);
    free(l->slab.inverse);
    free(l->centres);
    free(l->scale);
    free(l->half_square);
    if (l->ivf != NULL)
        faiss_Index_free(l->ivf);
    free(l);
}

void vindex_free(struct vindex *v)
{
    if (v == NULL)
        return;
    for (size_t i = 0; i < v->n_chunks; i++)
        chunk_free(v->chunks[i]);
    free(v->chunks);
    lists_free(v->lists);
    free(v);
}

static int chunk_add(struct vindex *v, struct err *err)
{
    struct chunk *c;

    if (v->n_chunks == v->cap_chunks) {
        size_t cap = MAX(v->cap_chunks * 2, (size_t)16);
        struct chunk **chunks = reallocarray(v->chunks, cap, sizeof(*chunks));

        if (chunks == NULL)
            return no_memory(err);
        v->chunks = chunks;
        v->cap_chunks = cap;
    }
    c = chunk_new();
    if (c == NULL)
        return no_memory(err);
    v->chunks[v->n_chunks++] = c;
    return 0;
}

static float inverse_length(const struct embedding *q)
{
    int32_t sq = embed_dot(q, q);

    return sq > 0 ? 1.0f / sqrtf((float)sq) : 0.0f;
}

int vindex_reserve(struct vindex *v, struct err *err)
{
    if (v->count >= COUNT_MAX)
        return err_set(err, ERR_LIMIT, "the vector index holds at most %d vectors", COUNT_MAX);
    return v->count / CHUNK == v->n_chunks ? chunk_add(v, err) : 0;
}

int vindex_add(struct vindex *v, const struct embedding *e, struct err *err)
{
    uint32_t at = v->count % CHUNK;
    struct chunk *c;

    if (vindex_reserve(v, err) != 0)
        return -1;
    c = v->chunks[v->count / CHUNK];
    c->v[at] = *e;
    c->inverse[at] = inverse_length(e);
    v->count++;
    return 0;
}

uint32_t vindex_count(const struct vindex *v)
{
    return v->count;
}

uint32_t vindex_indexed(const struct vindex *v)
{
    return v->lists != NULL ? v->lists->indexed : 0;
}

const struct embedding *vindex_get(const struct vindex *v, uint32_t number)
{
    return &v->chunks[number / CHUNK]->v[number % CHUNK];
}

float vindex_score(const struct vindex *v, const struct embedding *q, uint32_t number)
{
    const struct chunk *c = v->chunks[number / CHUNK];

    return (float)embed_dot(q, &c->v[number % CHUNK]) * inverse_length(q) *
           c->inverse[number % CHUNK];
}

/* The k best so far: a heap with the worst on top. */
struct top {
    struct vindex_hit *hits;
    size_t n, k;
};

static bool is_better(struct vindex_hit x, struct vindex_hit y)
{
    return x.score != y.score ? x.score > y.score : x.number < y.number;
}

static int compare_hits(const void *p, const void *q)
{
    const struct vindex_hit *x = p, *y = q;

    return is_better(*x, *y) ? -1 : is_better(*y, *x);
}

static void sift_down(struct top *t, struct vindex_hit h)
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

static void sift_up(struct top *t, struct vindex_hit h)
{
    size_t i = t->n++;

    while (i > 0 && is_better(t->hits[(i - 1) / 2], h)) {
        t->hits[i] = t->hits[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->hits[i] = h;
}

static inline void top_add(struct top *t, struct vindex_hit h)
{
    if (t->n < t->k)
        sift_up(t, h);
    else if (is_better(h, t->hits[0]))
        sift_down(t, h);
}

/* A query ready for many products. */
struct probe {
    struct embedding_wide wide;
    float inverse;
    const uint64_t *allowed;
};

static bool is_allowed(const struct probe *q, uint32_t number)
{
    return q->allowed == NULL || (q->allowed[number / 64] >> (number % 64) & 1) != 0;
}

static void scan_chunk(const struct chunk *c, const struct probe *q, uint32_t first, uint32_t from,
                       uint32_t n, struct top *top)
{
    int32_t dots[SCAN_BLOCK];

    for (uint32_t at = from, m; at < from + n; at += m) {
        m = MIN(from + n - at, (uint32_t)SCAN_BLOCK);
        embed_dots(&q->wide, &c->v[at], m, dots);
        for (uint32_t i = 0; i < m; i++)
            top_add(top, (struct vindex_hit){ first + at + i,
                                              (float)dots[i] * q->inverse * c->inverse[at + i] });
    }
}

/* Scores vectors from .. count - 1. */
static void scan_all(const struct vindex *v, const struct probe *q, uint32_t from, struct top *top)
{
    for (uint32_t at = from, n; at < v->count; at += n) {
        n = MIN(v->count - at, CHUNK - at % CHUNK);
        scan_chunk(v->chunks[at / CHUNK], q, at - at % CHUNK, at % CHUNK, n, top);
    }
}

static void scan_numbers(const struct vindex *v, const struct probe *q, const uint32_t *numbers,
                         size_t n, struct top *top)
{
    for (size_t i = 0; i < n; i++) {
        const struct chunk *c = v->chunks[numbers[i] / CHUNK];
        uint32_t at = numbers[i] % CHUNK;
        int32_t dot;

        embed_dots(&q->wide, &c->v[at], 1, &dot);
        top_add(top, (struct vindex_hit){ numbers[i], (float)dot * q->inverse * c->inverse[at] });
    }
}

static void prefetch_bytes(const void *from, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch((const char *)from + i);
}

static void prefetch_vector(const struct vindex *v, uint32_t number)
{
    prefetch_bytes(vindex_get(v, number), sizeof(struct embedding));
}

/* The same for those allowed: their numbers a block ahead, so that memory is asked early. */
static void scan_allowed(const struct vindex *v, const struct probe *q, uint32_t from,
                         struct top *top)
{
    uint32_t blocks[2][PREFETCH_BLOCK];
    size_t n = 0, before = 0;
    int now = 0;

    for (uint32_t w = from / 64; (uint64_t)w * 64 < v->count; w++) {
        uint64_t word = q->allowed[w];

        if (w == from / 64)
            word &= ~0ull << (from % 64);
        if (v->count - w * 64 < 64)
            word &= (1ull << (v->count % 64)) - 1;
        for (; word != 0; word &= word - 1) {
            blocks[now][n] = w * 64 + (uint32_t)__builtin_ctzll(word);
            prefetch_vector(v, blocks[now][n++]);
            if (n < PREFETCH_BLOCK)
                continue;
            scan_numbers(v, q, blocks[!now], before, top);
            before = n;
            n = 0;
            now = !now;
        }
    }
    scan_numbers(v, q, blocks[!now], before, top);
    scan_numbers(v, q, blocks[now], n, top);
}

static void scan(const struct vindex *v, const struct probe *q, uint32_t from, struct top *top)
{
    if (q->allowed != NULL)
        scan_allowed(v, q, from, top);
    else
        scan_all(v, q, from, top);
}

static uint32_t count_allowed(const uint64_t *allowed, uint32_t n)
{
    uint32_t sum = 0;

    for (uint32_t w = 0; w < n / 64; w++)
        sum += (uint32_t)__builtin_popcountll(allowed[w]);
    if (n % 64 != 0)
        sum += (uint32_t)__builtin_popcountll(allowed[n / 64] & ((1ull << (n % 64)) - 1));
    return sum;
}

static void scan_list(const struct vlist *l, const struct probe *q, struct top *top)
{
    int32_t dots[SCAN_BLOCK];

    for (uint32_t at = 0, m; at < l->n; at += m) {
        m = MIN(l->n - at, (uint32_t)SCAN_BLOCK);
        if (at + m < l->n)
            prefetch_bytes(&l->v[at + m],
                           MIN(l->n - at - m, (uint32_t)SCAN_BLOCK) * sizeof(struct embedding));
        embed_dots(&q->wide, &l->v[at], m, dots);
        for (uint32_t i = 0; i < m; i++)
            top_add(top, (struct vindex_hit){ l->numbers[at + i],
                                              (float)dots[i] * q->inverse * l->inverse[at + i] });
    }
}

/* Some vectors of a list, each asked from memory a few ahead of its use. */
static void scan_places(const struct vlist *l, const struct probe *q, const uint32_t *at, size_t n,
                        struct top *top)
{
    for (size_t k = 0; k < MIN(n, (size_t)PREFETCH_AHEAD); k++)
        prefetch_bytes(&l->v[at[k]], sizeof(l->v[0]));
    for (size_t k = 0; k < n; k++) {
        int32_t dot;

        if (k + PREFETCH_AHEAD < n)
            prefetch_bytes(&l->v[at[k + PREFETCH_AHEAD]], sizeof(l->v[0]));
        embed_dots(&q->wide, &l->v[at[k]], 1, &dot);
        top_add(top, (struct vindex_hit){ l->numbers[at[k]],
                                          (float)dot * q->inverse * l->inverse[at[k]] });
    }
}

static void scan_list_allowed(const struct vlist *l, const struct probe *q, struct top *top)
{
    uint32_t at[PLACES];

    for (uint32_t i = 0; i < l->n;) {
        uint32_t end = MIN(l->n, i + PLACES);
        size_t n = 0;

        /* Written always and counted when allowed: a branch would often be guessed wrong. */
        for (; i < end; i++) {
            at[n] = i;
            n += is_allowed(q, l->numbers[i]);
        }
        scan_places(l, q, at, n, top);
    }
}

/* The lists whose centres are nearest to the query: least distance, hence greatest x.c - c.c/2. */
static int search_lists(const struct lists *l, const struct probe *q, size_t probes,
                        struct top *top, struct err *err)
{
    struct top nearest = { .k = probes };
    CLEANUP(freep) struct vindex_hit *hits = malloc(probes * sizeof(*hits));
    CLEANUP(freep) int32_t *dots = malloc(l->n * sizeof(*dots));

    if (hits == NULL || dots == NULL)
        return no_memory(err);
    nearest.hits = hits;
    embed_dots(&q->wide, l->centres, l->n, dots);
    for (size_t i = 0; i < l->n; i++)
        top_add(&nearest,
                (struct vindex_hit){ (uint32_t)i, (float)dots[i] * q->inverse * l->scale[i] -
                                                      l->half_square[i] });
    for (size_t i = 0; i < probes; i++) {
        if (q->allowed != NULL)
            scan_list_allowed(&l->v[hits[i].number], q, top);
        else
            scan_list(&l->v[hits[i].number], q, top);
    }
    return 0;
}

/*
 * How many lists to visit; 0 for all vectors allowed, one by one. A filter spreads the neighbours
 * over more lists, while fewer vectors of each need comparing: up to twice the probes cost no
 * more than an unfiltered search and keep its recall (query_bench measures both).
 */
static size_t probes_for(const struct lists *l, const uint64_t *allowed)
{
    uint32_t n_allowed = allowed != NULL ? count_allowed(allowed, l->indexed) : l->indexed;
    uint64_t probes = (uint64_t)VINDEX_PROBES * l->indexed / MAX(n_allowed, 1u);

    probes = MIN(probes, (uint64_t)VINDEX_PROBES * FILTER_PROBES_MAX);
    return n_allowed > VINDEX_EXACT_MAX && probes < l->n ? (size_t)probes : 0;
}

int vindex_search(const struct vindex *v, const struct embedding *q, size_t k,
                  const uint64_t *allowed, bool exact, struct vindex_hit *out, size_t *n,
                  struct err *err)
{
    struct top top = { .hits = out, .k = MIN(k, (size_t)v->count) };
    struct probe probe = { .inverse = inverse_length(q), .allowed = allowed };
    uint32_t from = 0;
    size_t probes;

    *n = 0;
    if (probe.inverse == 0 || top.k == 0)
        return 0;
    embed_widen(q, &probe.wide);
    if (v->lists != NULL && !exact && (probes = probes_for(v->lists, allowed)) > 0) {
        if (search_lists(v->lists, &probe, probes, &top, err) != 0)
            return -1;
        from = v->lists->indexed;
    }
    scan(v, &probe, from, &top);
    qsort(out, top.n, sizeof(*out), compare_hits);
    *n = top.n;
    return 0;
}

/* ---- Lists ---- */

static int vlist_reserve(struct vlist *l, struct err *err)
{
    uint32_t cap = MAX(l->cap + l->cap / 2, 16u);
    struct vlist more = { .n = l->n, .cap = cap };

    if (l->n < l->cap)
        return 0;
    more.numbers = reallocarray(NULL, cap, sizeof(*more.numbers));
    more.v = reallocarray(NULL, cap, sizeof(*more.v));
    more.inverse = reallocarray(NULL, cap, sizeof(*more.inverse));
    if (more.numbers == NULL || more.v == NULL || more.inverse == NULL) {
        vlist_free(&more);
        return no_memory(err);
    }
    if (l->n > 0) {
        memcpy(more.numbers, l->numbers, l->n * sizeof(*l->numbers));
        memcpy(more.v, l->v, l->n * sizeof(*l->v));
        memcpy(more.inverse, l->inverse, l->n * sizeof(*l->inverse));
    }
    vlist_free(l);
    *l = more;
    return 0;
}

/* Moves one list into the slabs at this place, with a quarter more room than it needs. */
static uint32_t vlist_settle(struct lists *l, struct vlist *list, size_t at)
{
    struct vlist in = { .n = list->n,
                        .cap = list->n + list->n / 4 + 4,
                        .in_slab = true,
                        .numbers = l->slab.numbers + at,
                        .v = l->slab.v + at,
                        .inverse = l->slab.inverse + at };

    if (list->n > 0) {
        memcpy(in.numbers, list->numbers, list->n * sizeof(*in.numbers));
        memcpy(in.v, list->v, list->n * sizeof(*in.v));
        memcpy(in.inverse, list->inverse, list->n * sizeof(*in.inverse));
    }
    vlist_free(list);
    *list = in;
    return in.cap;
}

/* Puts all lists side by side, once they are filled. */
static int lists_settle(struct lists *l, struct err *err)
{
    size_t room = 0, at = 0;

    for (size_t i = 0; i < l->n; i++)
        room += l->v[i].n + l->v[i].n / 4 + 4;
    l->slab.numbers = reallocarray(NULL, room, sizeof(*l->slab.numbers));
    l->slab.v = vectors_alloc(room);
    l->slab.inverse = reallocarray(NULL, room, sizeof(*l->slab.inverse));
    if (l->slab.numbers == NULL || l->slab.v == NULL || l->slab.inverse == NULL)
        return no_memory(err);
    for (size_t i = 0; i < l->n; i++)
        at += vlist_settle(l, &l->v[i], at);
    return 0;
}

/* Puts the next vector into its list. */
static int lists_put(struct lists *l, struct chunk *const *chunks, int64_t label, struct err *err)
{
    const struct chunk *c = chunks[l->indexed / CHUNK];
    struct vlist *list;

    if (label < 0 || (size_t)label >= l->n)
        return err_set(err, ERR_INTERNAL, "faiss assigned list %lld of %zu", (long long)label,
                       l->n);
    list = &l->v[label];
    if (vlist_reserve(list, err) != 0)
        return -1;
    list->numbers[list->n] = l->indexed;
    list->v[list->n] = c->v[l->indexed % CHUNK];
    list->inverse[list->n] = c->inverse[l->indexed % CHUNK];
    list->n++;
    l->indexed++;
    return 0;
}

static void fill_floats(struct chunk *const *chunks, uint32_t from, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i++)
        embed_to_float(&chunks[(from + i) / CHUNK]->v[(from + i) % CHUNK],
                       out + (size_t)i * EMBED_DIM);
}

/* Assigns and puts vectors indexed .. to - 1. */
static int lists_fill(struct lists *l, struct chunk *const *chunks, uint32_t to, struct err *err)
{
    const FaissIndexIVF *ivf = faiss_IndexIVF_cast(l->ivf);
    uint32_t block = MAX(MIN(to - l->indexed, (uint32_t)ASSIGN_BLOCK), 1u);
    CLEANUP(freep) float *x = reallocarray(NULL, block, EMBED_DIM * sizeof(*x));
    CLEANUP(freep) int64_t *labels = reallocarray(NULL, block, sizeof(*labels));

    if (x == NULL || labels == NULL)
        return no_memory(err);
    while (l->indexed < to) {
        uint32_t n = MIN(to - l->indexed, block);

        fill_floats(chunks, l->indexed, n, x);
        if (faiss_Index_assign(faiss_IndexIVF_quantizer(ivf), n, x, labels, 1) != OK)
            return faiss_failed("assign lists", err);
        for (uint32_t i = 0; i < n; i++)
            if (lists_put(l, chunks, labels[i], err) != 0)
                return -1;
    }
    return 0;
}

/* A power of two near three times the square root: 512 at 20k, 1024 at 100k, 4096 at 1M. */
static uint32_t lists_for(uint32_t n)
{
    uint32_t lists = LISTS_MIN;

    while (lists < LISTS_MAX && (double)lists * 2 <= 4.0 * sqrt((double)n))
        lists *= 2;
    return lists;
}

/* Trains on vectors taken at equal steps. */
static int train(FaissIndex *ivf, const struct vindex_build *b, size_t lists, struct err *err)
{
    uint32_t n = (uint32_t)MIN((uint64_t)b->count, (uint64_t)lists * TRAIN_PER_LIST);
    CLEANUP(freep) float *x = reallocarray(NULL, n, EMBED_DIM * sizeof(*x));

    if (x == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < n; i++)
        fill_floats(b->chunks, (uint32_t)((uint64_t)i * b->count / n), 1,
                    x + (size_t)i * EMBED_DIM);
    if (faiss_Index_train(ivf, n, x) != OK)
        return faiss_failed("train the index", err);
    return 0;
}

/* Takes the centres over from faiss, rounded to bytes. */
static int lists_set_centres(struct lists *l, struct err *err)
{
    FaissIndexFlat *flat =
        faiss_IndexFlat_cast(faiss_IndexIVF_quantizer(faiss_IndexIVF_cast(l->ivf)));
    float *x = NULL;
    size_t size = 0;

    if (flat != NULL)
        faiss_IndexFlat_xb(flat, &x, &size);
    if (size != l->n * EMBED_DIM)
        return err_set(err, ERR_CORRUPT, "faiss's index has not the centres of %zu lists", l->n);
    l->centres = reallocarray(NULL, l->n, sizeof(*l->centres));
    l->scale = reallocarray(NULL, l->n, sizeof(*l->scale));
    l->half_square = reallocarray(NULL, l->n, sizeof(*l->half_square));
    if (l->centres == NULL || l->scale == NULL || l->half_square == NULL)
        return no_memory(err);
    for (size_t c = 0; c < l->n; c++, x += EMBED_DIM) {
        float most = 1e-30f, square = 0;

        for (size_t i = 0; i < EMBED_DIM; i++) {
            most = fmaxf(most, fabsf(x[i]));
            square += x[i] * x[i];
        }
        for (size_t i = 0; i < EMBED_DIM; i++)
            l->centres[c].v[i] = (int8_t)lrintf(x[i] / most * 127);
        l->scale[c] = most / 127;
        l->half_square[c] = square / 2;
    }
    return 0;
}

/* Vectors have length 1, so that the nearest by distance are the nearest by cosine. */
static struct lists *lists_new(size_t n, struct err *err)
{
    struct lists *l = calloc(1, sizeof(*l));
    char description[32];

    if (l == NULL || (l->v = calloc(n, sizeof(*l->v))) == NULL) {
        no_memory(err);
        goto fail;
    }
    l->n = n;
    snprintf(description, sizeof(description), "IVF%zu,Flat", n);
    if (faiss_index_factory(&l->ivf, EMBED_DIM, description, METRIC_L2) != OK) {
        l->ivf = NULL;
        faiss_failed("make an index", err);
        goto fail;
    }
    return l;
fail:
    lists_free(l);
    return NULL;
}

bool vindex_build_due(const struct vindex *v)
{
    if (v->count < VINDEX_IVF_MIN)
        return false;
    return v->lists == NULL || v->count / 2 >= v->lists->trained_for;
}

int vindex_build_begin(const struct vindex *v, struct vindex_build **out, struct err *err)
{
    struct vindex_build *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return no_memory(err);
    b->chunks = malloc(MAX(v->n_chunks, (size_t)1) * sizeof(*b->chunks));
    if (b->chunks == NULL) {
        free(b);
        return no_memory(err);
    }
    memcpy(b->chunks, v->chunks, v->n_chunks * sizeof(*b->chunks));
    b->count = v->count;
    *out = b;
    return 0;
}

void vindex_build_free(struct vindex_build *b)
{
    if (b == NULL)
        return;
    free(b->chunks);
    lists_free(b->lists);
    free(b);
}

int vindex_build_run(struct vindex_build *b, struct err *err)
{
    omp_set_num_threads(1);
    b->lists = lists_new(lists_for(b->count), err);
    if (b->lists == NULL || train(b->lists->ivf, b, b->lists->n, err) != 0 ||
        lists_set_centres(b->lists, err) != 0)
        return -1;
    b->lists->trained_for = b->count;
    if (lists_fill(b->lists, b->chunks, b->count, err) != 0)
        return -1;
    return lists_settle(b->lists, err);
}

void vindex_build_swap(struct vindex *v, struct vindex_build *b)
{
    struct lists *old = v->lists;

    v->lists = b->lists;
    b->lists = old;
}

int vindex_catch_up(struct vindex *v, uint32_t max, struct err *err)
{
    if (v->lists == NULL || v->lists->indexed == v->count)
        return 0;
    omp_set_num_threads(1);
    return lists_fill(v->lists, v->chunks, MIN(v->count, v->lists->indexed + max), err);
}

/* ---- Files: head | vectors | list of each indexed vector | faiss's index ---- */

struct file_head {
    uint32_t count, indexed, trained_for, n_lists; /* n_lists 0: no lists */
};

static int write_lists(const struct lists *l, FILE *f, struct err *err)
{
    CLEANUP(freep) uint16_t *list_of = reallocarray(NULL, MAX(l->indexed, 1u), sizeof(*list_of));

    if (list_of == NULL)
        return no_memory(err);
    for (size_t i = 0; i < l->n; i++)
        for (uint32_t j = 0; j < l->v[i].n; j++)
            list_of[l->v[i].numbers[j]] = (uint16_t)i;
    if (fwrite(list_of, sizeof(*list_of), l->indexed, f) != l->indexed)
        return err_set(err, ERR_IO, "cannot write the vectors: %m");
    if (faiss_write_index(l->ivf, f) != OK)
        return err_set(err, ERR_IO, "faiss cannot write its index: %s", faiss_get_last_error());
    return 0;
}

int vindex_write(const struct vindex *v, FILE *f, struct err *err)
{
    struct file_head head = { .count = v->count };
    bool ok;

    if (v->lists != NULL) {
        head.indexed = v->lists->indexed;
        head.trained_for = v->lists->trained_for;
        head.n_lists = (uint32_t)v->lists->n;
    }
    ok = fwrite(&head, sizeof(head), 1, f) == 1;
    for (uint32_t at = 0, n; at < v->count && ok; at += n) {
        n = MIN(v->count - at, (uint32_t)CHUNK);
        ok = fwrite(v->chunks[at / CHUNK]->v, sizeof(struct embedding), n, f) == n;
    }
    if (!ok)
        return err_set(err, ERR_IO, "cannot write the vectors: %m");
    return v->lists != NULL ? write_lists(v->lists, f, err) : 0;
}

static int damaged(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the vectors in the snapshot are damaged");
}

static int read_vectors(struct vindex *v, uint32_t count, FILE *f, struct err *err)
{
    while (v->count < count) {
        uint32_t n = MIN(count - v->count, (uint32_t)CHUNK);
        struct chunk *c;

        if (vindex_reserve(v, err) != 0)
            return -1;
        c = v->chunks[v->count / CHUNK];
        if (fread(c->v, sizeof(struct embedding), n, f) != n)
            return damaged(err);
        for (uint32_t i = 0; i < n; i++)
            c->inverse[i] = inverse_length(&c->v[i]);
        v->count += n;
    }
    return 0;
}

static int read_faiss(struct lists *l, FILE *f, struct err *err)
{
    const FaissIndexIVF *ivf;

    if (faiss_read_index(f, 0, &l->ivf) != OK) {
        l->ivf = NULL;
        return err_set(err, ERR_CORRUPT, "faiss cannot read its index: %s", faiss_get_last_error());
    }
    ivf = faiss_IndexIVF_cast(l->ivf);
    if (ivf == NULL || faiss_Index_d(l->ivf) != EMBED_DIM || faiss_IndexIVF_nlist(ivf) != l->n ||
        !faiss_Index_is_trained(l->ivf))
        return damaged(err);
    return lists_set_centres(l, err);
}

/* Empty lists side by side, with the room that lists_settle gives them. */
static int lists_place(struct lists *l, const uint16_t *list_of, uint32_t n, struct err *err)
{
    size_t room = 0, at = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (list_of[i] >= l->n)
            return damaged(err);
        l->v[list_of[i]].cap++;
    }
    for (size_t i = 0; i < l->n; i++) {
        l->v[i].cap += l->v[i].cap / 4 + 4;
        l->v[i].in_slab = true;
        room += l->v[i].cap;
    }
    l->slab.numbers = reallocarray(NULL, room, sizeof(*l->slab.numbers));
    l->slab.v = vectors_alloc(room);
    l->slab.inverse = reallocarray(NULL, room, sizeof(*l->slab.inverse));
    if (l->slab.numbers == NULL || l->slab.v == NULL || l->slab.inverse == NULL)
        return no_memory(err);
    for (size_t i = 0; i < l->n; i++) {
        l->v[i].numbers = l->slab.numbers + at;
        l->v[i].v = l->slab.v + at;
        l->v[i].inverse = l->slab.inverse + at;
        at += l->v[i].cap;
    }
    return 0;
}

static int read_lists(struct vindex *v, const struct file_head *head, FILE *f, struct err *err)
{
    CLEANUP(freep) uint16_t *list_of = NULL;
    struct lists *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return no_memory(err);
    v->lists = l;
    l->n = head->n_lists;
    l->v = calloc(l->n, sizeof(*l->v));
    list_of = reallocarray(NULL, MAX(head->indexed, 1u), sizeof(*list_of));
    if (l->v == NULL || list_of == NULL)
        return no_memory(err);
    if (fread(list_of, sizeof(*list_of), head->indexed, f) != head->indexed)
        return damaged(err);
    if (lists_place(l, list_of, head->indexed, err) != 0)
        return -1;
    for (uint32_t i = 0; i < head->indexed; i++)
        if (lists_put(l, v->chunks, list_of[i], err) != 0)
            return -1;
    l->trained_for = head->trained_for;
    return read_faiss(l, f, err);
}

int vindex_read(FILE *f, struct vindex **out, struct err *err)
{
    struct vindex *v = vindex_new();
    struct file_head head;

    if (v == NULL)
        return no_memory(err);
    if (fread(&head, sizeof(head), 1, f) != 1 || head.count > COUNT_MAX ||
        head.indexed > head.count || head.n_lists > LISTS_MAX) {
        vindex_free(v);
        return damaged(err);
    }
    if (read_vectors(v, head.count, f, err) != 0 ||
        (head.n_lists != 0 && read_lists(v, &head, f, err) != 0)) {
        vindex_free(v);
        return -1;
    }
    *out = v;
    return 0;
}
