/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of a provider's embedding model: stored under the model and the claim, so that a restart
 * does not ask for them again, and given to retrieval in the order of the insights; see kb.h.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "kb_impl.h"
#include "text.h"

enum {
    TAKE_STEP = 512,         /* stored vectors entered under one write lock */
    SWEEP_STEP = 4096,       /* vectors of other models deleted in one write */
    MODEL_BYTES = 8,         /* of a key: a hash of the model's id */
    CLAIM_TEXT_MAX = 1 << 18 /* what a provider is asked to embed of one claim */
};

_Static_assert(sizeof(((struct kb_embedding_stats *)0)->model) == RETRIEVE_MODEL_MAX,
               "one length for a model's id");

static void key_of_model(const char *model, struct key *out)
{
    static const uint64_t seed = 0x656d62656464696eull;

    key_of_u64(text_hash(seed, model, strlen(model)), out);
}

static void key_of_vector(const char *model, const struct id *id, struct key *out)
{
    key_of_model(model, out);
    str_unhex(id->hex, ID_BYTES, out->bytes + MODEL_BYTES);
    out->len = MODEL_BYTES + ID_BYTES;
}

int kb_embedding_begin(struct kb *kb, const char *model, struct err *err)
{
    int rc;

    if (kb_refresh(kb, err) != 0)
        return -1;
    pthread_rwlock_wrlock(&kb->lock);
    rc = retrieve_model_begin(kb->retrieve, model, err);
    if (rc == 0) {
        str_copy(kb->model, sizeof(kb->model), model);
        kb->models_swept = false;
    }
    pthread_rwlock_unlock(&kb->lock);
    return rc;
}

/* ---- The next job ---- */

/* Ids and texts of the insights from the first that lacks a vector on, at most `max`. */
static int take_texts(struct kb *kb, size_t max, struct kb_embedding_job *job, struct err *err)
{
    uint32_t first = retrieve_model_missing(kb->retrieve);
    size_t n = MIN(max, (size_t)(kb->table.n - MIN((size_t)first, kb->table.n)));

    job->first = first;
    job->ids = calloc(n + 1, sizeof(*job->ids));
    job->texts = calloc(n + 1, sizeof(*job->texts));
    if (job->ids == NULL || job->texts == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu claims to embed", n);
    for (; job->n < n; job->n++) {
        const struct insight *in = &kb->table.by_ordinal[first + job->n]->in;
        struct buf text = { .max = CLAIM_TEXT_MAX };

        if (embed_claim_text(&in->claim, &text, err) != 0 ||
            (job->texts[job->n] = buf_take(&text)) == NULL) {
            buf_release(&text);
            return err_ctx(err, "insight %.12s", in->id.hex);
        }
        job->ids[job->n] = in->id;
    }
    return 0;
}

/* Reads one stored vector; *found tells. A damaged one counts as missing. */
static int read_vector(struct kb *kb, const char *model, const struct id *id, struct embedding *out,
                       bool *found, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = sizeof(*out) };
    struct key key;

    *found = false;
    key_of_vector(model, id, &key);
    if (store_get(kb->store, CF_EMBEDDING, &key, &value, err) != 0)
        return err->code == ERR_NOT_FOUND || err->code == ERR_LIMIT ? 0 : -1;
    if (value.len == sizeof(*out)) {
        memcpy(out, value.data, sizeof(*out));
        *found = true;
    }
    return 0;
}

static int enter(struct kb *kb, uint32_t first, const struct embedding *v, size_t n,
                 struct err *err)
{
    int rc;

    pthread_rwlock_wrlock(&kb->lock);
    rc = retrieve_model_put(kb->retrieve, first, v, n, err);
    pthread_rwlock_unlock(&kb->lock);
    return rc;
}

/* Enters the stored vectors at the head of a job; *taken says how many. */
static int take_stored(struct kb *kb, const char *model, const struct kb_embedding_job *job,
                       size_t *taken, struct err *err)
{
    CLEANUP(freep) struct embedding *v = calloc(job->n + 1, sizeof(*v));
    bool found = true;
    size_t n = 0;

    if (v == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu stored vectors", job->n);
    while (n < job->n && found) {
        if (read_vector(kb, model, &job->ids[n], &v[n], &found, err) != 0)
            return -1;
        n += found;
    }
    *taken = n;
    return n > 0 || job->n == 0 ? enter(kb, job->first, v, n, err) : 0;
}

struct sweep {
    struct kb *kb;
    struct store_batch *batch;
    struct key keep;
    size_t n;
};

static int sweep_one(void *ctx, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct sweep *s = ctx;
    struct key k = { .len = key_len };

    (void)value;
    (void)value_len;
    if (key_len > sizeof(k.bytes) ||
        (key_len >= MODEL_BYTES && memcmp(key, s->keep.bytes, MODEL_BYTES) == 0))
        return 0;
    memcpy(k.bytes, key, key_len);
    store_batch_delete(s->batch, s->kb->store, CF_EMBEDDING, &k);
    return ++s->n == SWEEP_STEP;
}

/* Deletes vectors of models that nothing uses any more, once the present one is complete. */
static int sweep_others(struct kb *kb, const char *model, struct err *err)
{
    struct sweep s = { .kb = kb };
    int rc = 0;

    key_of_model(model, &s.keep);
    do {
        s.n = 0;
        s.batch = store_batch_new();
        if (s.batch == NULL)
            return err_set(err, ERR_NOMEM, "no memory to delete old vectors");
        rc = store_each(kb->store, CF_EMBEDDING, NULL, NULL, sweep_one, &s, err);
        if (rc == 0 && s.n > 0) {
            pthread_mutex_lock(&kb->commit);
            rc = store_write(kb->store, s.batch, false, err);
            pthread_mutex_unlock(&kb->commit);
        }
        store_batch_free(s.batch);
    } while (rc == 0 && s.n == SWEEP_STEP);
    kb->models_swept = rc == 0;
    return rc;
}

/* Drops what was taken already from the head of a job. */
static void job_advance(struct kb_embedding_job *job, size_t taken, size_t max)
{
    size_t keep = MIN(job->n - taken, max);

    for (size_t i = 0; i < job->n; i++)
        if (i < taken || i >= taken + keep)
            free(job->texts[i]);
    memmove(job->ids, job->ids + taken, keep * sizeof(*job->ids));
    memmove(job->texts, job->texts + taken, keep * sizeof(*job->texts));
    job->first += (uint32_t)taken;
    job->n = keep;
}

int kb_embedding_next(struct kb *kb, size_t max, struct kb_embedding_job *out, struct err *err)
{
    struct kb_embedding_job job = { 0 };
    char model[RETRIEVE_MODEL_MAX];
    size_t taken = 0;

    do {
        int rc;

        kb_embedding_job_release(&job);
        if (kb_refresh(kb, err) != 0)
            return -1;
        pthread_rwlock_rdlock(&kb->lock);
        str_copy(model, sizeof(model), kb->model);
        str_copy(job.model, sizeof(job.model), model);
        rc = take_texts(kb, MAX(max, (size_t)TAKE_STEP), &job, err);
        pthread_rwlock_unlock(&kb->lock);
        if (rc == 0 && model[0] != '\0')
            rc = take_stored(kb, model, &job, &taken, err);
        if (rc != 0) {
            kb_embedding_job_release(&job);
            return -1;
        }
    } while (job.n > 0 && taken == job.n);
    if (job.n == 0 && model[0] != '\0' && !kb->models_swept && sweep_others(kb, model, err) != 0) {
        kb_embedding_job_release(&job);
        return -1;
    }
    job_advance(&job, taken, max);
    *out = job;
    return 0;
}

/* ---- The vectors ---- */

static int store_vectors(struct kb *kb, const struct kb_embedding_job *job,
                         const struct embedding *v, struct err *err)
{
    struct store_batch *b = store_batch_new();
    struct key key;
    int rc;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to store %zu vectors", job->n);
    for (size_t i = 0; i < job->n; i++) {
        key_of_vector(job->model, &job->ids[i], &key);
        store_batch_put(b, kb->store, CF_EMBEDDING, &key, "", 0, &v[i], sizeof(v[i]));
    }
    pthread_mutex_lock(&kb->commit);
    rc = store_write(kb->store, b, kb->sync, err);
    pthread_mutex_unlock(&kb->commit);
    store_batch_free(b);
    return rc;
}

int kb_embedding_put(struct kb *kb, const struct kb_embedding_job *job,
                     const struct embedding *vectors, struct err *err)
{
    bool same;

    pthread_rwlock_rdlock(&kb->lock);
    same = strcmp(kb->model, job->model) == 0;
    pthread_rwlock_unlock(&kb->lock);
    if (!same)
        return err_set(err, ERR_CONFLICT, "the embedding model is no longer '%s'", job->model);
    if (store_vectors(kb, job, vectors, err) != 0)
        return err_ctx(err, "vectors of the model '%s'", job->model);
    return enter(kb, job->first, vectors, job->n, err);
}

void kb_embedding_job_release(struct kb_embedding_job *job)
{
    for (size_t i = 0; i < job->n; i++)
        free(job->texts[i]);
    free(job->texts);
    free(job->ids);
    *job = (struct kb_embedding_job){ 0 };
}

void kb_embedding_get_stats(struct kb *kb, struct kb_embedding_stats *out)
{
    *out = (struct kb_embedding_stats){ .model = "" };
    pthread_rwlock_rdlock(&kb->lock);
    str_copy(out->model, sizeof(out->model), kb->model);
    str_copy(out->active, sizeof(out->active), retrieve_model_active(kb->retrieve));
    out->total = kb->table.n;
    out->embedded = MIN((uint64_t)retrieve_model_missing(kb->retrieve), out->total);
    pthread_rwlock_unlock(&kb->lock);
}
