/* SPDX-License-Identifier: Apache-2.0 */
/* The embedding provider; see embedder.h. */
#include "embedder.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "embedding_openai.h"
#include "kb.h"
#include "log.h"
#include "loop.h"
#include "secret.h"
#include "work.h"

enum { BACK_OFF_MAX_S = 60, IDLE_CLIENTS_MAX = 8 };

struct embedder {
    struct daemon *daemon;
    char *key;
    char model_id[160];
    struct openai_config config; /* borrows from the daemon's conf, and `key` */
    struct event *timer;
    struct work step;
    atomic_bool stopped;
    atomic_bool complete; /* the provider's vectors answer; never unset */

    /* The worker's, one step at a time. */
    size_t batch;    /* texts in a request; halved when the provider does not take them */
    size_t embedded; /* claims the provider embedded since the start */
    size_t entered;  /* vectors of the last step; 0: nothing was left */
    bool smaller;    /* the last step failed, and fewer texts may do */
    struct openai_client *client;
    enum openai_fault fault;
    unsigned failures; /* steps failed in a row; the loop's */

    pthread_mutex_t lock; /* guards what follows */
    size_t dim;           /* numbers of the provider's vectors; 0 while unknown */
    struct openai_client *idle[IDLE_CLIENTS_MAX];
    size_t n_idle, asking;
    uint64_t leave_until_ns; /* no question before then */
    unsigned query_failures;
    char failure[sizeof(((struct err *)0)->msg)];
};

/* ---- Background ---- */

static void step_later(struct embedder *e, double seconds)
{
    const struct timeval tv = { (time_t)seconds,
                                (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6) };

    if (!atomic_load(&e->stopped))
        event_add(e->timer, &tv);
}

static double back_off_s(unsigned failures)
{
    return failures > 6 ? BACK_OFF_MAX_S : MIN((double)(1u << (failures - 1)), BACK_OFF_MAX_S);
}

static void set_failure(struct embedder *e, const char *sentence)
{
    pthread_mutex_lock(&e->lock);
    str_copy(e->failure, sizeof(e->failure), sentence);
    pthread_mutex_unlock(&e->lock);
}

static size_t get_dim(struct embedder *e)
{
    size_t dim;

    pthread_mutex_lock(&e->lock);
    dim = e->dim;
    pthread_mutex_unlock(&e->lock);
    return dim;
}

static void set_dim(struct embedder *e, size_t dim)
{
    pthread_mutex_lock(&e->lock);
    e->dim = dim;
    pthread_mutex_unlock(&e->lock);
}

/*
 * The provider did not take these texts: fewer are tried; one text that it refuses although it took
 * others gets no direction, so that it is found by its words alone and does not hold up the rest.
 */
static int give_in(struct embedder *e, const struct kb_embedding_job *job, struct embedding *v,
                   struct err *err)
{
    if (e->fault != OPENAI_INPUT)
        return -1;
    if (job->n > 1) {
        e->batch = job->n / 2;
        e->smaller = true;
        return -1;
    }
    if (e->embedded == 0)
        return -1;
    log_warn("embedding: insight %.12s is left out of the vectors: %s", job->ids[0].hex, err->msg);
    memset(v, 0, sizeof(*v));
    return 0;
}

static int embed_job(struct embedder *e, const struct kb_embedding_job *job, struct err *err)
{
    CLEANUP(freep) struct embedding *v = calloc(job->n, sizeof(*v));
    size_t dim = get_dim(e);

    if (v == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu vectors", job->n);
    if (openai_embed(e->client, &e->config, (const char *const *)job->texts, job->n,
                     e->daemon->conf->embedding_timeout_s, &e->stopped, &dim, v, &e->fault,
                     err) == 0) {
        set_dim(e, dim);
        e->embedded += job->n;
        e->batch = MIN(e->batch * 2, (size_t)e->daemon->conf->embedding_batch);
    } else if (give_in(e, job, v, err) != 0) {
        return -1;
    }
    if (kb_embedding_put(e->daemon->kb, job, v, err) != 0)
        return -1;
    e->entered = job->n;
    return 0;
}

static void look_whether_complete(struct embedder *e)
{
    struct kb_embedding_stats stats;

    if (atomic_load(&e->complete))
        return;
    kb_embedding_get_stats(e->daemon->kb, &stats);
    if (strcmp(stats.active, e->model_id) == 0) {
        atomic_store(&e->complete, true);
        log_info("embedding: the vectors of '%s' are complete and answer from now on", e->model_id);
    }
}

static int step_run(struct work *w, struct err *err)
{
    struct embedder *e = LIST_OF(w, struct embedder, step);
    struct kb_embedding_job job = { .n = 0 };
    int rc;

    e->entered = 0;
    e->smaller = false;
    e->fault = OPENAI_LATER;
    rc = kb_embedding_next(e->daemon->kb, e->batch, &job, err);
    if (rc == 0 && job.n > 0)
        rc = embed_job(e, &job, err);
    kb_embedding_job_release(&job);
    look_whether_complete(e);
    return rc;
}

static void step_failed(struct embedder *e, const struct err *err)
{
    double wait;

    set_failure(e, err->msg);
    if (e->smaller) {
        log_info("embedding: %s; %zu texts at a time are tried", err->msg, e->batch);
        work_submit(e->daemon->work, &e->step);
        return;
    }
    wait = back_off_s(++e->failures);
    log_warn("embedding: %s; tried again in %.0f s", err->msg, wait);
    step_later(e, wait);
}

static void step_done(struct work *w, const struct err *err)
{
    struct embedder *e = LIST_OF(w, struct embedder, step);

    if (atomic_load(&e->stopped) || (err != NULL && err->code == ERR_CANCELLED))
        return;
    if (err != NULL) {
        step_failed(e, err);
        return;
    }
    if (e->failures > 0 || e->entered > 0)
        set_failure(e, "");
    e->failures = 0;
    if (e->entered > 0)
        work_submit(e->daemon->work, &e->step);
    else
        step_later(e, 1);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct embedder *e = arg;

    (void)fd;
    (void)what;
    work_submit(e->daemon->work, &e->step);
}

/* ---- Life ---- */

static void name_model(struct embedder *e)
{
    const struct conf *conf = e->daemon->conf;

    if (conf->embedding_dimensions > 0)
        snprintf(e->model_id, sizeof(e->model_id), "openai:%.120s:%llu", conf->embedding_model,
                 (unsigned long long)conf->embedding_dimensions);
    else
        snprintf(e->model_id, sizeof(e->model_id), "openai:%.140s", conf->embedding_model);
}

int embedder_open(struct daemon *d, struct embedder **out, struct err *err)
{
    struct embedder *e;

    *out = NULL;
    if (d->conf->embedding == CONF_EMBEDDING_BUILTIN)
        return 0;
    e = xcalloc(1, sizeof(*e));
    e->daemon = d;
    pthread_mutex_init(&e->lock, NULL);
    name_model(e);
    e->batch = (size_t)d->conf->embedding_batch;
    e->step.run = step_run;
    e->step.done = step_done;
    e->timer = evtimer_new(loop_base(d->loop), on_timer, e);
    e->client = openai_client_new();
    if (e->timer == NULL || e->client == NULL) {
        embedder_free(e);
        return err_set(err, ERR_NOMEM, "no memory for the embedding provider");
    }
    if (secret_load("embedding_key_file", d->conf->embedding_key_file, &e->key, err) != 0 ||
        kb_embedding_begin(d->kb, e->model_id, err) != 0) {
        embedder_free(e);
        return -1;
    }
    e->config = (struct openai_config){ d->conf->embedding_url, d->conf->embedding_model, e->key,
                                        d->conf->embedding_dimensions };
    step_later(e, 0);
    *out = e;
    return 0;
}

void embedder_stop(struct embedder *e)
{
    if (e == NULL)
        return;
    atomic_store(&e->stopped, true);
    event_del(e->timer);
    work_cancel(e->daemon->work, &e->step);
}

void embedder_free(struct embedder *e)
{
    if (e == NULL)
        return;
    if (e->timer != NULL)
        event_free(e->timer);
    openai_client_free(e->client);
    for (size_t i = 0; i < e->n_idle; i++)
        openai_client_free(e->idle[i]);
    pthread_mutex_destroy(&e->lock);
    free(e->key);
    free(e);
}

/* ---- Questions ---- */

static uint64_t now_ns(const struct embedder *e)
{
    return e->daemon->clock->mono_ns(e->daemon->clock);
}

bool embedder_answers(struct embedder *e)
{
    return e != NULL && atomic_load(&e->complete);
}

/* At most half of the workers wait for the provider at a time: the others go on answering. */
static struct openai_client *client_take(struct embedder *e, char *note)
{
    size_t most = MAX((size_t)e->daemon->conf->workers / 2, (size_t)1);
    struct openai_client *c = NULL;
    bool room;

    pthread_mutex_lock(&e->lock);
    room = e->asking < most && now_ns(e) >= e->leave_until_ns;
    if (room) {
        e->asking++;
        c = e->n_idle > 0 ? e->idle[--e->n_idle] : NULL;
    } else if (e->asking >= most) {
        snprintf(note, EMBEDDER_NOTE_MAX,
                 "The embedding provider is answering %zu other questions: the built-in vectors "
                 "were used.",
                 e->asking);
    } else {
        snprintf(note, EMBEDDER_NOTE_MAX,
                 "The embedding provider is left alone after a failure (%s): the built-in vectors "
                 "were used.",
                 e->failure);
    }
    pthread_mutex_unlock(&e->lock);
    if (room && c == NULL && (c = openai_client_new()) == NULL) {
        pthread_mutex_lock(&e->lock);
        e->asking--;
        pthread_mutex_unlock(&e->lock);
        snprintf(note, EMBEDDER_NOTE_MAX, "There was no memory to ask the embedding provider.");
    }
    return c;
}

static void client_give(struct embedder *e, struct openai_client *c, size_t dim,
                        const struct err *failed)
{
    pthread_mutex_lock(&e->lock);
    e->asking--;
    if (failed == NULL) {
        e->dim = dim;
        e->query_failures = 0;
        e->leave_until_ns = 0;
        e->failure[0] = '\0';
    } else {
        e->query_failures++;
        e->leave_until_ns =
            now_ns(e) + (uint64_t)(back_off_s(e->query_failures) * (double)NS_PER_SEC);
        str_copy(e->failure, sizeof(e->failure), failed->msg);
    }
    if (e->n_idle < IDLE_CLIENTS_MAX) {
        e->idle[e->n_idle++] = c;
        c = NULL;
    }
    pthread_mutex_unlock(&e->lock);
    openai_client_free(c);
}

bool embedder_query(struct embedder *e, const char *text, struct embedding *out,
                    char note[EMBEDDER_NOTE_MAX])
{
    struct openai_client *c = client_take(e, note);
    size_t dim = get_dim(e);
    enum openai_fault fault;
    struct err err;
    int rc;

    if (c == NULL)
        return false;
    rc = openai_embed(c, &e->config, &text, 1, e->daemon->conf->embedding_query_wait_s, &e->stopped,
                      &dim, out, &fault, &err);
    client_give(e, c, dim, rc == 0 ? NULL : &err);
    if (rc != 0)
        snprintf(note, EMBEDDER_NOTE_MAX, "The built-in vectors were used: %s.", err.msg);
    return rc == 0;
}

json_t *embedder_status(struct embedder *e)
{
    struct kb_embedding_stats s;
    json_t *status;

    if (e == NULL)
        return json_pack("{s:s, s:s}", "provider", "builtin", "model", EMBED_MODEL);
    kb_embedding_get_stats(e->daemon->kb, &s);
    pthread_mutex_lock(&e->lock);
    status = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "provider", "openai", "model", e->model_id,
                       "active", s.active[0] ? s.active : EMBED_MODEL, "embedded",
                       (json_int_t)s.embedded, "total", (json_int_t)s.total, "failure", e->failure);
    pthread_mutex_unlock(&e->lock);
    return status;
}
