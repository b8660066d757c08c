/* SPDX-License-Identifier: Apache-2.0 */
/* One request: its place in the queue, its transfers, its end; see openai_impl.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "llm/openai_impl.h"
#include "loop.h"
#include "secret.h"

uint64_t openai_now_ns(const struct openai *o)
{
    return o->clock->mono_ns(o->clock);
}

struct openai_model *openai_job_model(const struct llm_job *j)
{
    return j->o->chain[j->role].model[j->at];
}

void openai_job_step(struct llm_job *j, double seconds)
{
    struct timeval tv = { .tv_sec = (time_t)seconds };

    tv.tv_usec = (suseconds_t)((seconds - (double)tv.tv_sec) * 1e6);
    event_add(j->timer, &tv);
}

/* ---- The end ---- */

static void try_release(struct llm_job *j)
{
    sse_release(&j->sse);
    buf_release(&j->body);
    wire_answer_release(&j->answer);
    j->answer = (struct wire_answer){ 0 };
    j->streams = false;
    j->bad.code = ERR_OK;
    j->used = 0;
}

static void job_free(struct llm_job *j)
{
    try_release(j);
    if (j->timer != NULL)
        event_free(j->timer);
    free(j->id);
    free(j->system);
    free(j->prefix);
    free(j->prompt);
    free(j->schema_name);
    json_decref(j->schema);
    free(j);
}

/* The only place that calls done. */
static void finish(struct llm_job *j, const struct llm_answer *a, struct err *err)
{
    struct openai *o = j->o;

    j->state = OPENAI_ENDING;
    event_del(j->timer);
    list_remove(&j->all);
    list_remove(&j->place);
    o->n_jobs--;
    if (a != NULL)
        o->trouble[0] = '\0';
    if (err != NULL)
        secret_redact(o->key, err->msg, strlen(err->msg));
    if (err != NULL && err->code != ERR_CANCELLED)
        str_copy(o->trouble, sizeof(o->trouble), err->msg);
    j->done(j->ctx, a, err);
    job_free(j);
}

static void finish_cancelled(struct llm_job *j)
{
    struct err err;

    err_set(&err, ERR_CANCELLED, "the request '%s' was cancelled", j->id);
    finish(j, NULL, &err);
}

void openai_job_fail(struct llm_job *j)
{
    struct err err = j->err;

    if (j->later && (err.code == ERR_REFUSED || err.code == ERR_INVALID))
        err.code = ERR_UPSTREAM;
    if (j->tries > 1) {
        size_t n = strlen(err.msg);

        snprintf(err.msg + n, sizeof(err.msg) - n, " (after %u requests)", j->tries);
    }
    finish(j, NULL, &err);
}

void openai_job_answer(struct llm_job *j)
{
    struct llm_answer a = {
        .text = buf_str(&j->answer.text),
        .model = openai_job_model(j)->name,
        .tokens_in = j->in,
        .tokens_cached = j->cached,
        .tokens_out = j->out,
        .estimated = j->estimated,
        .usd_q = j->usd_q,
        .seconds = (double)(openai_now_ns(j->o) - j->start_ns) / (double)NS_PER_SEC,
        .tries = j->tries,
    };

    openai_job_model(j)->answers++;
    if (j->answer.text.len > 0) /* an echoed key would be stored with the answer */
        secret_redact_whole(j->o->key, j->answer.text.data, j->answer.text.len);
    finish(j, &a, NULL);
}

void openai_job_error(struct llm_job *j, enum err_code code, const char *what)
{
    j->later = j->later || code == ERR_UPSTREAM;
    err_set(&j->err, code, "the model '%s' at '%.100s' %s", openai_job_model(j)->name, j->o->url,
            what);
    secret_redact(j->o->key, j->err.msg, strlen(j->err.msg)); /* it may be logged on the way */
}

/* ---- The transfer ---- */

static int on_sse(void *ctx, const char *name, const char *data, size_t len, struct err *err)
{
    struct llm_job *j = ctx;

    return wire_event(openai_job_model(j)->api, name, data, len, &j->answer, err);
}

static int on_bytes(void *ctx, long status, bool stream, const char *bytes, size_t len)
{
    struct llm_job *j = ctx;
    struct err ignored;

    if (status >= 300) { /* enough of it for its words */
        j->body.max = WIRE_BODY_MAX;
        return buf_add(&j->body, bytes, len, &ignored);
    }
    if (!stream) {
        j->body.max = WIRE_BODY_MAX;
        if (buf_add(&j->body, bytes, len, &j->bad) == 0)
            return 0;
        return err_ctx(&j->bad, "the answer");
    }
    j->streams = true;
    if (j->answer.over)
        return 0;
    if (sse_feed(&j->sse, bytes, len, &j->bad) != 0)
        return -1;
    if (j->answer.over)
        http_settle(j->transfer);
    return 0;
}

static void wake_next(struct openai *o)
{
    struct list *first = o->queue.next;

    if (first != &o->queue && o->n_sent < o->parallel && !o->closing)
        openai_job_step(LIST_OF(first, struct llm_job, place), 0);
}

static void on_end(void *ctx, const struct http_result *r)
{
    struct llm_job *j = ctx;
    struct openai *o = j->o;

    j->transfer = NULL;
    o->n_sent--;
    openai_judge(j, r);
    wake_next(o);
}

static int send_request(struct llm_job *j, struct err *err)
{
    struct openai *o = j->o;
    struct openai_model *m = openai_job_model(j);
    struct wire_request w = { m->api,         m->features,
                              m->name,        j->system,
                              j->prefix,      j->prompt,
                              j->schema_name, j->schema,
                              o->effort,      llm_temperature_of(&o->temperatures, j->attempt),
                              j->max_tokens };
    CLEANUP(freep) char *url = wire_url(o->url, m->api);
    CLEANUP(freep) char *body = NULL;
    struct http_request r = { .url = url,
                              .key = o->key,
                              .connect_s = o->connect_s,
                              .first_s = o->first_s,
                              .idle_s = o->idle_s,
                              .total_s = o->total_s,
                              .on_bytes = on_bytes,
                              .on_end = on_end,
                              .ctx = j };

    try_release(j);
    j->sse = (struct sse){ .fn = on_sse, .ctx = j };
    if (wire_body(&w, &body, &j->used, err) != 0)
        return -1;
    r.body = body;
    return url != NULL ? http_start(o->http, &r, &j->transfer, err)
                       : err_set(err, ERR_NOMEM, "no memory for an address");
}

/* Passes over models that are left alone; false when it was the last: the job is gone. */
static bool enter_model(struct llm_job *j)
{
    struct openai *o = j->o;

    while (!breaker_enter(&openai_job_model(j)->breaker, openai_now_ns(o))) {
        const struct breaker *b = &openai_job_model(j)->breaker;
        char what[128];

        if (b->state == BREAKER_OPEN)
            snprintf(what, sizeof(what),
                     "failed %llu times in a row and is left alone for another %.0f s",
                     (unsigned long long)b->failures,
                     ceil((double)(b->until_ns - openai_now_ns(o)) / (double)NS_PER_SEC));
        else
            str_copy(what, sizeof(what), "failed and is being tried with another request");
        j->later = true;
        if (j->err.code == ERR_OK) /* else the reason of before says more */
            openai_job_error(j, ERR_UPSTREAM, what);
        if (j->at + 1 >= o->chain[j->role].n) {
            openai_job_fail(j);
            return false;
        }
        j->at++;
        j->tries_of_model = 0;
    }
    return true;
}

static void on_step(evutil_socket_t fd, short kind, void *arg)
{
    LOOP_CALLBACK("llm_step");
    struct llm_job *j = arg;
    struct openai *o = j->o;

    (void)fd;
    (void)kind;
    if (j->cancelled) {
        finish_cancelled(j);
        wake_next(o);
        return;
    }
    if (j->state != OPENAI_QUEUED) {
        j->state = OPENAI_QUEUED;
        list_append(&o->queue, &j->place);
    }
    if (o->n_sent >= o->parallel)
        return; /* wake_next will */
    if (!enter_model(j)) {
        wake_next(o);
        return;
    }
    list_remove(&j->place);
    j->state = OPENAI_SENT;
    j->tries++;
    j->tries_of_model++;
    openai_job_model(j)->requests++;
    if (send_request(j, &j->err) != 0) {
        breaker_unknown(&openai_job_model(j)->breaker, openai_now_ns(o));
        openai_job_fail(j);
        wake_next(o);
        return;
    }
    o->n_sent++;
    wake_next(o);
}

/* ---- What the provider calls ---- */

void openai_job_begin(struct llm_job *j)
{
    struct openai *o = j->o;

    j->start_ns = openai_now_ns(o);
    j->state = OPENAI_PAUSED;
    j->timer = evtimer_new(o->base, on_step, j);
    if (j->timer == NULL)
        abort(); /* a small fixed allocation, as of xmalloc */
    list_append(&o->jobs, &j->all);
    list_init(&j->place);
    o->n_jobs++;
    openai_job_step(j, 0);
}

static void stop_transfer(struct llm_job *j)
{
    if (j->transfer == NULL)
        return;
    http_cancel(j->transfer);
    j->transfer = NULL;
    j->o->n_sent--;
    breaker_unknown(&openai_job_model(j)->breaker, openai_now_ns(j->o));
}

void openai_job_cancel(struct llm_job *j)
{
    if (j->state == OPENAI_ENDING || j->cancelled)
        return;
    j->cancelled = true;
    stop_transfer(j);
    openai_job_step(j, 0);
}

void openai_job_drop(struct llm_job *j)
{
    stop_transfer(j);
    finish_cancelled(j);
}
