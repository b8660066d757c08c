/* SPDX-License-Identifier: Apache-2.0 */
/* Retrieval: what is kept beside the insights, its snapshot and its upkeep; see retrieve.h. */
#include "retrieve.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "checksum.h"
#include "retrieve_impl.h"

enum {
    DOC_TERMS_MAX = 4096,
    DOC_STEMS_MAX = 1024,
    DOC_CONCEPTS_MAX = 32,
    CATCH_UP_DUE = 1024, /* waiting vectors that make upkeep worth while */
    CATCH_UP_STEP = 256, /* indexed under one write lock: about 2 ms */
};

/* ---- Life ---- */

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for retrieval");
}

int retrieve_open(const struct retrieve_options *o, struct retrieve **out, struct err *err)
{
    struct retrieve *r;

    if (vocab_init(err) != 0)
        return -1;
    r = calloc(1, sizeof(*r));
    if (r == NULL)
        return no_memory(err);
    r->options = *o;
    r->loading = true;
    pthread_mutex_init(&r->pool_lock, NULL);
    r->dir = strdup(o->dir);
    r->options.dir = r->dir;
    r->evidence = evtable_new();
    r->lexical = lexical_new();
    r->vectors = vindex_new();
    r->text = text_new();
    if (r->dir == NULL || r->evidence == NULL || r->lexical == NULL || r->vectors == NULL ||
        r->text == NULL) {
        retrieve_close(r);
        return no_memory(err);
    }
    *out = r;
    return 0;
}

static void preload_release(struct retrieve *r);

void retrieve_close(struct retrieve *r)
{
    if (r == NULL)
        return;
    preload_release(r);
    retrieve_scratch_free_all(r->pool);
    pthread_mutex_destroy(&r->pool_lock);
    text_free(r->text);
    vindex_free(r->vectors);
    retrieve_model_release(r);
    lexical_free(r->lexical);
    evtable_free(r->evidence);
    bitset_release(&r->retracted);
    bitset_release(&r->superseded);
    for (size_t i = 0; i < r->n_devices; i++)
        bitset_release(&r->devices[i]);
    free(r->devices);
    symbols_release(&r->technique_raw);
    free(r->technique_of_raw);
    facet_release(&r->technique);
    facet_release(&r->family);
    facet_release(&r->requires);
    free(r->docs);
    free(r->dir);
    free(r);
}

static void __attribute__((format(printf, 2, 3)))
notice(const struct retrieve *r, const char *fmt, ...)
{
    char sentence[1024];
    va_list ap;

    if (r->options.notice == NULL)
        return;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, ap);
    va_end(ap);
    r->options.notice(r->options.notice_ctx, sentence);
}

/* ---- The terms of a document ---- */

struct doc_terms {
    uint64_t terms[DOC_TERMS_MAX];
    size_t n;
    uint64_t stems[DOC_STEMS_MAX];
    size_t n_stems;
};

uint64_t retrieve_concept_term(const char *technique)
{
    static const uint64_t seed = 0x7465636e69717565ull; /* keeps techniques apart from words */

    return text_hash(seed, technique, strlen(technique));
}

static void add_term(struct doc_terms *d, uint64_t term)
{
    if (d->n < DOC_TERMS_MAX)
        d->terms[d->n++] = term;
}

static void add_field(struct doc_terms *d, struct text *t, const char *s)
{
    struct text_scan sc;
    struct text_token tok;

    text_scan_init(&sc, t, s, strlen(s));
    while (text_next(&sc, &tok)) {
        if (tok.is_stop)
            continue;
        add_term(d, tok.hash);
        if (!tok.is_compound && d->n_stems < DOC_STEMS_MAX)
            d->stems[d->n_stems++] = tok.hash;
    }
}

/* Every field of the claim, and the techniques that they name, by any synonym. */
static void collect_terms(struct doc_terms *d, struct text *t, const struct claim *c,
                          const char *technique)
{
    const char *fields[] = { c->technique, c->statement,  c->mechanism,    c->family,
                             c->dtype,     c->language,   c->bottleneck,   c->requires,
                             c->param,     c->with_value, c->without_value };
    uint16_t found[DOC_CONCEPTS_MAX];
    size_t n;

    d->n = d->n_stems = 0;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        add_field(d, t, fields[i]);
    add_term(d, retrieve_concept_term(technique));
    n = vocab_scan(d->stems, d->n_stems, found, DOC_CONCEPTS_MAX);
    for (size_t i = 0; i < n; i++)
        if (strcmp(vocab_at(found[i])->name, technique) != 0)
            add_term(d, retrieve_concept_term(vocab_at(found[i])->name));
}

/* Computes and enters what searching needs; both indexes or none. */
static int index_insight(struct retrieve *r, const struct insight *in, const char *technique,
                         struct err *err)
{
    struct doc_terms d;
    struct embedding e;

    collect_terms(&d, r->text, &in->claim, technique);
    embed_claim(r->text, &in->claim, &e);
    if (vindex_reserve(r->vectors, err) != 0 || lexical_add(r->lexical, d.terms, d.n, err) != 0)
        return -1;
    return vindex_add(r->vectors, &e, err);
}

/* ---- Columns ---- */

double retrieve_gain(const struct insight_effect *e)
{
    double size = e->mean / (fabs(e->mean) + 0.1); /* -1 .. 1; a tenth in log-speedup is half way */
    double confidence = 1 / (1 + e->sd / 0.15);    /* half at the prior's width, 1 when certain */

    return 0.5 * (1 + size) * confidence;
}

/* The facet value of a technique as the claim spells it; spellings are few, resolving is slow. */
static int technique_number(struct retrieve *r, const char *raw, uint32_t *out, struct err *err)
{
    uint32_t known = symbols_find(&r->technique_raw, raw), i;
    char name[VOCAB_NAME_MAX];

    if (known != SYMBOLS_NONE) {
        const char *canonical = symbols_get(&r->technique.names, r->technique_of_raw[known]);

        return facet_reserve(&r->technique, canonical, out, err);
    }
    if (r->technique_raw.n >= r->cap_raw) {
        size_t cap = MAX(r->cap_raw * 2, (size_t)64);
        uint32_t *of = reallocarray(r->technique_of_raw, cap, sizeof(*of));

        if (of == NULL)
            return no_memory(err);
        r->technique_of_raw = of;
        r->cap_raw = cap;
    }
    if (facet_reserve(&r->technique, vocab_canonical(raw, name), out, err) != 0 ||
        symbols_add(&r->technique_raw, raw, &i, err) != 0)
        return -1;
    r->technique_of_raw[i] = *out;
    return 0;
}

static int docs_reserve(struct retrieve *r, struct err *err)
{
    size_t cap = MAX(r->cap_docs * 2, (size_t)64);
    struct retrieve_doc *docs;

    if (bitset_reserve(&r->retracted, (size_t)r->n_docs + 1, err) != 0 ||
        bitset_reserve(&r->superseded, (size_t)r->n_docs + 1, err) != 0)
        return -1;
    if (r->n_docs < r->cap_docs)
        return 0;
    docs = reallocarray(r->docs, cap, sizeof(*docs));
    if (docs == NULL)
        return no_memory(err);
    r->docs = docs;
    r->cap_docs = cap;
    return 0;
}

static int devices_reserve(struct retrieve *r, uint32_t device, struct err *err)
{
    size_t want = MAX((size_t)device + 1, r->n_devices * 2);
    struct bitset *devices;

    if (device >= r->n_devices) {
        devices = reallocarray(r->devices, want, sizeof(*devices));
        if (devices == NULL)
            return no_memory(err);
        memset(devices + r->n_devices, 0, (want - r->n_devices) * sizeof(*devices));
        r->devices = devices;
        r->n_devices = want;
    }
    return bitset_reserve(&r->devices[device], r->n_docs, err);
}

/* On which devices the insight's present evidence was measured. */
static int update_devices(struct retrieve *r, const struct insight *in, struct err *err)
{
    for (size_t i = 0; i < r->n_devices; i++)
        if (bitset_has(&r->devices[i], in->ordinal))
            bitset_put(&r->devices[i], in->ordinal, false);
    for (size_t i = 0; i < in->n_evidence; i++) {
        uint32_t row = evtable_find(r->evidence, &in->evidence[i]), device;

        if (row == EVTABLE_NONE)
            continue;
        device = evtable_row(r->evidence, row)->device;
        if (devices_reserve(r, device, err) != 0)
            return -1;
        bitset_put(&r->devices[device], in->ordinal, true);
    }
    return 0;
}

int retrieve_update(struct retrieve *r, const struct insight *in, struct err *err)
{
    struct insight_effect effect;

    if (in->ordinal >= r->n_docs)
        return err_set(err, ERR_INTERNAL, "insight number %u was never added to retrieval",
                       in->ordinal);
    effect = insight_posterior(in, NULL, NULL, NULL);
    r->docs[in->ordinal].gain = (float)retrieve_gain(&effect);
    r->docs[in->ordinal].state = in->state;
    bitset_put(&r->retracted, in->ordinal, in->state == INSIGHT_RETRACTED);
    bitset_put(&r->superseded, in->ordinal, in->state == INSIGHT_SUPERSEDED);
    return update_devices(r, in, err);
}

static uint64_t id_lead(const struct id *id)
{
    char digits[17];
    uint8_t bytes[8] = { 0 };
    uint64_t lead;

    str_copy(digits, sizeof(digits), id->hex);
    str_unhex(digits, sizeof(bytes), bytes);
    memcpy(&lead, bytes, sizeof(lead));
    return lead;
}

int retrieve_add(struct retrieve *r, const struct insight *in, struct err *err)
{
    struct retrieve_doc doc = { .id_lead = id_lead(&in->id), .recorded_at_ns = in->recorded_at_ns };

    if (in->ordinal != r->n_docs)
        return err_set(err, ERR_INTERNAL, "insight number %u was added out of order, after %u",
                       in->ordinal, r->n_docs);
    if (docs_reserve(r, err) != 0 ||
        technique_number(r, in->claim.technique, &doc.technique, err) != 0 ||
        facet_reserve(&r->family, in->claim.family, &doc.family, err) != 0 ||
        facet_reserve(&r->requires, in->claim.requires, &doc.requires, err) != 0)
        return -1;
    if (!r->loading &&
        index_insight(r, in, symbols_get(&r->technique.names, doc.technique), err) != 0)
        return -1;
    r->docs[r->n_docs++] = doc;
    facet_put(&r->technique, doc.technique, in->ordinal);
    facet_put(&r->family, doc.family, in->ordinal);
    facet_put(&r->requires, doc.requires, in->ordinal);
    return retrieve_update(r, in, err);
}

int retrieve_add_evidence(struct retrieve *r, const struct id *id, const struct evidence *ev,
                          uint64_t recorded_at_ns, struct err *err)
{
    return evtable_add(r->evidence, id, ev, recorded_at_ns, err);
}

int retrieve_add_retraction(struct retrieve *r, const struct id *target, uint64_t recorded_at_ns,
                            struct err *err)
{
    return evtable_retract(r->evidence, target, recorded_at_ns, err);
}

void retrieve_get_stats(const struct retrieve *r, struct retrieve_stats *out)
{
    uint32_t indexed = vindex_indexed(r->vectors);

    *out = (struct retrieve_stats){
        .insights = r->n_docs,
        .evidence = evtable_count(r->evidence),
        .vectors_indexed = indexed,
        .vectors_pending = vindex_count(r->vectors) - indexed,
        .terms = lexical_terms(r->lexical),
        .postings = lexical_postings(r->lexical),
        .exact = indexed == 0,
    };
}

/* ---- Snapshot ----
 *
 * head | lexical index | vectors and IVF index | checksum (8 bytes) of all before. In this
 * machine's byte order: it is a cache, rebuilt wherever it does not fit.
 */

struct snapshot_head {
    char magic[8];
    uint32_t schema, dim;
    char model[32];
    uint64_t seq;
    uint64_t count;  /* insights it covers: ordinals 0 .. count - 1 */
    uint64_t id_sum; /* over their addresses in order */
    uint64_t vocab;  /* fingerprint of the vocabulary that terms and vectors come from */
};

static const char snapshot_magic[8] = "ksvec\r\n";
/* Raised when terms, postings, vectors or this layout change their meaning. */
enum { SNAPSHOT_SCHEMA = 1 };

static uint64_t id_sum(const struct retrieve *r, uint64_t count)
{
    uint64_t h = count;

    for (uint64_t i = 0; i < count; i++)
        h = text_hash_pair(h, r->docs[i].id_lead);
    return h;
}

/* Checksum of the first len bytes of an open file. */
static int file_checksum(int fd, size_t len, uint64_t *out, struct err *err)
{
    void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return err_set(err, ERR_IO, "cannot map the vector snapshot: %m");
    *out = checksum(p, len);
    munmap(p, len);
    return 0;
}

static void closefp(FILE **f)
{
    if (*f != NULL)
        fclose(*f);
}

static int write_body(const struct retrieve *r, uint64_t seq, const char *model, FILE *f,
                      struct err *err)
{
    struct snapshot_head head = { .schema = SNAPSHOT_SCHEMA,
                                  .dim = EMBED_DIM,
                                  .seq = seq,
                                  .count = r->n_docs,
                                  .id_sum = id_sum(r, r->n_docs),
                                  .vocab = vocab_fingerprint() };
    uint64_t sum = 0;
    long len;

    memcpy(head.magic, snapshot_magic, sizeof(head.magic));
    str_copy(head.model, sizeof(head.model), model);
    if (fwrite(&head, sizeof(head), 1, f) != 1)
        return err_set(err, ERR_IO, "cannot write the vector snapshot: %m");
    if (lexical_write(r->lexical, f, err) != 0 || vindex_write(r->vectors, f, err) != 0)
        return -1;
    if (fflush(f) != 0 || (len = ftell(f)) < 0)
        return err_set(err, ERR_IO, "cannot write the vector snapshot: %m");
    if (file_checksum(fileno(f), (size_t)len, &sum, err) != 0)
        return -1;
    if (fwrite(&sum, sizeof(sum), 1, f) != 1 || fflush(f) != 0 || fsync(fileno(f)) != 0)
        return err_set(err, ERR_IO, "cannot write the vector snapshot: %m");
    return 0;
}

int retrieve_snapshot(const struct retrieve *r, uint64_t seq, struct err *err)
{
    return retrieve_snapshot_as(r, seq, EMBED_MODEL, err);
}

int retrieve_snapshot_as(const struct retrieve *r, uint64_t seq, const char *model, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/vectors.faiss", r->dir);
    CLEANUP(freep) char *temp = str_printf("%s/vectors.faiss.tmp", r->dir);
    CLEANUP(closefp) FILE *f = NULL;

    if (path == NULL || temp == NULL)
        return no_memory(err);
    f = fopen(temp, "w+e");
    if (f == NULL)
        return err_set(err, ERR_IO, "cannot create '%s': %m", temp);
    if (write_body(r, seq, model, f, err) != 0) {
        unlink(temp);
        return err_ctx(err, "the old vector snapshot stays");
    }
    if (rename(temp, path) != 0) {
        err_set(err, ERR_IO, "cannot rename '%s': %m", temp);
        unlink(temp);
        return -1;
    }
    return file_sync_dir(r->dir, err);
}

/* Whether the head and the checksum are those of a whole file of ours. */
static int check_file(FILE *f, struct snapshot_head *head, struct err *err)
{
    struct stat st;
    uint64_t sum = 0, want = 0;

    if (fstat(fileno(f), &st) != 0)
        return err_set(err, ERR_IO, "it cannot be read: %m");
    if ((uint64_t)st.st_size < sizeof(*head) + sizeof(sum) || fread(head, sizeof(*head), 1, f) != 1)
        return err_set(err, ERR_CORRUPT, "it is too short");
    if (memcmp(head->magic, snapshot_magic, sizeof(head->magic)) != 0)
        return err_set(err, ERR_CORRUPT, "it does not start as a snapshot does");
    if (file_checksum(fileno(f), (size_t)st.st_size - sizeof(sum), &sum, err) != 0)
        return -1;
    if (pread(fileno(f), &want, sizeof(want), st.st_size - (off_t)sizeof(want)) != sizeof(want) ||
        sum != want)
        return err_set(err, ERR_CORRUPT, "its checksum is wrong");
    return 0;
}

/* What the head says of the file itself. */
static int check_kind(const struct snapshot_head *head, struct err *err)
{
    if (head->schema != SNAPSHOT_SCHEMA)
        return err_set(err, ERR_CORRUPT, "its schema is %u, not %d", head->schema, SNAPSHOT_SCHEMA);
    if (strncmp(head->model, EMBED_MODEL, sizeof(head->model)) != 0 || head->dim != EMBED_DIM)
        return err_set(err, ERR_CORRUPT, "its vectors are of the model '%.31s', not '%s'",
                       head->model, EMBED_MODEL);
    if (head->vocab != vocab_fingerprint())
        return err_set(err, ERR_CORRUPT, "it was made with another vocabulary of techniques");
    return 0;
}

static int check_base(const struct retrieve *r, const struct snapshot_head *head, uint64_t last_seq,
                      struct err *err)
{
    if (head->seq > last_seq || head->count > r->n_docs)
        return err_set(err, ERR_CORRUPT, "it is of sequence number %llu, and the base ends at %llu",
                       (unsigned long long)head->seq, (unsigned long long)last_seq);
    if (head->id_sum != id_sum(r, head->count))
        return err_set(err, ERR_CORRUPT, "it is stale: its insights are not those of the base");
    return 0;
}

static int read_parts(const char *dir, struct retrieve_preload *p, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/vectors.faiss", dir);
    CLEANUP(closefp) FILE *f = path != NULL ? fopen(path, "re") : NULL;

    p->head = calloc(1, sizeof(*p->head));
    if (path == NULL || p->head == NULL)
        return no_memory(err);
    if (f == NULL)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "it is missing")
                               : err_set(err, ERR_IO, "it cannot be opened: %m");
    if (check_file(f, p->head, err) != 0 || check_kind(p->head, err) != 0 ||
        lexical_read(f, &p->lexical, err) != 0 || vindex_read(f, &p->vectors, err) != 0)
        return -1;
    if (lexical_docs(p->lexical) != p->head->count || vindex_count(p->vectors) != p->head->count)
        return err_set(err, ERR_CORRUPT, "its parts do not agree");
    return 0;
}

static void *preload_run(void *arg)
{
    struct retrieve *r = arg;

    r->preload.rc = read_parts(r->dir, &r->preload, &r->preload.why);
    return NULL;
}

void retrieve_preload(struct retrieve *r)
{
    r->preload.running = pthread_create(&r->preload.thread, NULL, preload_run, r) == 0;
}

static void preload_end(struct retrieve *r)
{
    if (r->preload.running)
        pthread_join(r->preload.thread, NULL);
    r->preload.running = false;
}

static void preload_release(struct retrieve *r)
{
    preload_end(r);
    lexical_free(r->preload.lexical);
    vindex_free(r->preload.vectors);
    free(r->preload.head);
    r->preload = (struct retrieve_preload){ .rc = -1 };
}

/* Takes the indexes of the file over when they are of this base. */
static int take_snapshot(struct retrieve *r, uint64_t last_seq, struct snapshot_head *head,
                         struct err *err)
{
    if (r->preload.running)
        preload_end(r);
    else
        preload_run(r);
    if (r->preload.head != NULL)
        *head = *r->preload.head;
    if (r->preload.rc != 0) {
        *err = r->preload.why;
        return -1;
    }
    if (check_base(r, head, last_seq, err) != 0)
        return -1;
    lexical_free(r->lexical);
    vindex_free(r->vectors);
    r->lexical = TAKE(r->preload.lexical);
    r->vectors = TAKE(r->preload.vectors);
    return 0;
}

/* Indexes the insights from number `from` on. */
static int index_rest(struct retrieve *r, uint32_t from, struct err *err)
{
    for (uint32_t i = from; i < r->n_docs; i++) {
        const struct insight *in = r->options.insight(r->options.insight_ctx, i);
        const char *technique = symbols_get(&r->technique.names, r->docs[i].technique);

        if (index_insight(r, in, technique, err) != 0)
            return err_ctx(err, "indexing insight %.12s", in->id.hex);
    }
    return 0;
}

int retrieve_finish_load(struct retrieve *r, uint64_t last_seq, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/vectors.faiss", r->dir);
    struct snapshot_head head = { 0 };
    struct err why = { 0 };
    uint32_t from = 0;

    if (path == NULL)
        return no_memory(err);
    if (take_snapshot(r, last_seq, &head, &why) == 0) {
        from = (uint32_t)head.count;
        if (from < r->n_docs)
            notice(r,
                   "The vector snapshot is older than the base (sequence number %llu of %llu): "
                   "%u newer insights are embedded again.",
                   (unsigned long long)head.seq, (unsigned long long)last_seq, r->n_docs - from);
    } else if (r->n_docs > 0 || why.code != ERR_NOT_FOUND) {
        notice(r,
               "The vector snapshot '%s' is not used, because %s; its vectors are computed from "
               "%u insights.",
               path, why.msg, r->n_docs);
    }
    preload_release(r);
    if (index_rest(r, from, err) != 0)
        return -1;
    r->loading = false;
    return 0;
}

/* ---- Upkeep ---- */

/* The indexes that answer or are to answer, NULL where there is none. */
enum { KEPT_INDEXES = 3 };

static struct vindex *kept_index(const struct retrieve *r, int i)
{
    return i == 0 ? r->vectors : i == 1 ? r->active.vectors : r->next.vectors;
}

static bool index_due(const struct vindex *v)
{
    uint32_t indexed = vindex_indexed(v);

    return vindex_build_due(v) || (indexed > 0 && vindex_count(v) - indexed >= CATCH_UP_DUE);
}

bool retrieve_maintain_due(const struct retrieve *r)
{
    for (int i = 0; i < KEPT_INDEXES; i++)
        if (kept_index(r, i) != NULL && index_due(kept_index(r, i)))
            return true;
    return false;
}

static int build_index(struct vindex *v, pthread_rwlock_t *lock, struct err *err)
{
    struct vindex_build *b = NULL;
    int rc;

    pthread_rwlock_rdlock(lock);
    rc = vindex_build_begin(v, &b, err);
    pthread_rwlock_unlock(lock);
    if (rc == 0)
        rc = vindex_build_run(b, err);
    if (rc == 0) {
        pthread_rwlock_wrlock(lock);
        vindex_build_swap(v, b);
        pthread_rwlock_unlock(lock);
    }
    vindex_build_free(b);
    return rc;
}

static int catch_up(struct vindex *v, pthread_rwlock_t *lock, struct err *err)
{
    bool more = true;
    int rc = 0;

    while (more && rc == 0) {
        pthread_rwlock_wrlock(lock);
        rc = vindex_catch_up(v, CATCH_UP_STEP, err);
        more = vindex_indexed(v) > 0 && vindex_indexed(v) < vindex_count(v);
        pthread_rwlock_unlock(lock);
    }
    return rc;
}

static int maintain_index(struct vindex *v, pthread_rwlock_t *lock, struct err *err)
{
    bool build;

    pthread_rwlock_rdlock(lock);
    build = vindex_build_due(v);
    pthread_rwlock_unlock(lock);
    if (build && build_index(v, lock, err) != 0)
        return -1;
    return catch_up(v, lock, err);
}

int retrieve_maintain(struct retrieve *r, pthread_rwlock_t *lock, struct err *err)
{
    struct vindex *v[KEPT_INDEXES];
    int rc = 0;

    if (atomic_exchange(&r->maintaining, true))
        return err_set(err, ERR_CONFLICT, "the indexes are being maintained already");
    pthread_rwlock_rdlock(lock);
    for (int i = 0; i < KEPT_INDEXES; i++)
        v[i] = kept_index(r, i);
    pthread_rwlock_unlock(lock);
    for (int i = 0; i < KEPT_INDEXES && rc == 0; i++)
        if (v[i] != NULL)
            rc = maintain_index(v[i], lock, err);
    atomic_store(&r->maintaining, false);
    return rc;
}
