/* SPDX-License-Identifier: Apache-2.0 */
/* One request through its tries; see openai_impl.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "llm/openai_impl.h"
#include "log.h"
#include "loop.h"
#include "secret.h"

enum { BYTES_PER_TOKEN = 4 };

static uint64_t now_ns(const struct openai *o)
{
    return o->clock->mono_ns(o->clock);
}

static struct openai_model *model_of(const struct llm_job *j)
{
    return j->o->chain[j->role].model[j->at];
}

static void step_in(struct llm_job *j, double seconds)
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

static void finish_failed(struct llm_job *j)
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

static void finish_answered(struct llm_job *j)
{
    struct llm_answer a = {
        .text = buf_str(&j->answer.text),
        .model = model_of(j)->name,
        .tokens_in = j->in,
        .tokens_cached = j->cached,
        .tokens_out = j->out,
        .estimated = j->estimated,
        .usd_q = j->usd_q,
        .seconds = (double)(now_ns(j->o) - j->start_ns) / (double)NS_PER_SEC,
        .tries = j->tries,
    };

    model_of(j)->answers++;
    if (j->answer.text.len > 0) /* an echoed key would be stored with the answer */
        secret_redact_whole(j->o->key, j->answer.text.data, j->answer.text.len);
    finish(j, &a, NULL);
}

/* ---- Again, or elsewhere ---- */

static void next_model(struct llm_job *j)
{
    if (j->at + 1 >= j->o->chain[j->role].n) {
        finish_failed(j);
        return;
    }
    log_info("llm: %s; going on with the model '%s'", j->err.msg,
             j->o->chain[j->role].model[j->at + 1]->name);
    j->at++;
    j->tries_of_model = 0;
    j->state = OPENAI_PAUSED;
    step_in(j, 0);
}

/* Full jitter: anything up to a bound that doubles, so that many that failed together do not come
 * back together. */
static double backoff(struct llm_job *j, double asked_s)
{
    struct openai *o = j->o;
    double bound = MIN(o->backoff_max_s, o->backoff_s * exp2(MIN(j->tries_of_model, 30u) - 1.0));

    if (asked_s > 0)
        return asked_s + rng_double(&o->rng) * MIN(o->backoff_s, bound);
    return rng_double(&o->rng) * bound;
}

static void again_or_next(struct llm_job *j, double asked_s)
{
    struct openai *o = j->o;
    struct openai_model *m = model_of(j);
    double delay = backoff(j, asked_s);

    if (asked_s > o->backoff_max_s) {
        size_t n = strlen(j->err.msg);

        snprintf(j->err.msg + n, sizeof(j->err.msg) - n,
                 "; it asks for %.0f s of waiting, more than 'llm_backoff_max' allows", asked_s);
        next_model(j);
        return;
    }
    if (j->tries_of_model > o->retries || m->breaker.state == BREAKER_OPEN) {
        next_model(j);
        return;
    }
    log_info("llm: %s; trying again in %.1f s", j->err.msg, delay);
    j->state = OPENAI_PAUSED;
    step_in(j, delay);
}

static void set_error(struct llm_job *j, enum err_code code, const char *what)
{
    j->later = j->later || code == ERR_UPSTREAM;
    err_set(&j->err, code, "the model '%s' at '%.100s' %s", model_of(j)->name, j->o->url, what);
    secret_redact(j->o->key, j->err.msg, strlen(j->err.msg)); /* it may be logged on the way */
}

/* Down, or out of its mind: what the breaker counts. */
static void failed_try(struct llm_job *j, const char *what, double asked_s)
{
    struct openai *o = j->o;

    set_error(j, ERR_UPSTREAM, what);
    breaker_failed(&model_of(j)->breaker, now_ns(o), o->breaker_failures, o->breaker_wait_ns);
    again_or_next(j, asked_s);
}

/* ---- Judging a try ---- */

static void at_once(struct llm_job *j)
{
    j->tries_of_model--; /* what was asked was our fault */
    j->state = OPENAI_PAUSED;
    step_in(j, 0);
}

static void judge_fault(struct llm_job *j, const struct wire_fault *f, long status, double asked_s)
{
    struct openai_model *m = model_of(j);
    char what[WIRE_WORDS_MAX + 80], number[32] = "";

    if (status != 0)
        snprintf(number, sizeof(number), " %ld", status);
    snprintf(what, sizeof(what), "answered%s%s: %s", number,
             status == 401 || status == 403 ? " (the key is missing or is not accepted)" : "",
             f->words);
    if (f->kind == WIRE_LATER) {
        failed_try(j, what, asked_s);
        return;
    }
    if (f->kind != WIRE_BUSY || m->breaker.state == BREAKER_HALF_OPEN)
        breaker_succeeded(&m->breaker); /* somebody is there */
    switch (f->kind) {
    case WIRE_LATER:
        break;
    case WIRE_BUSY:
        set_error(j, ERR_UPSTREAM, what);
        again_or_next(j, asked_s);
        break;
    case WIRE_TOO_LONG:
        set_error(j, ERR_LIMIT, what);
        finish_failed(j);
        break;
    case WIRE_LACKS:
        m->features &= ~f->feature;
        set_error(j, ERR_INVALID, what);
        log_info("llm: %s; going on without that", j->err.msg);
        at_once(j);
        break;
    case WIRE_OTHER_API:
        if (m->wanted == LLM_API_AUTO && m->api == LLM_API_CHAT) {
            m->api = LLM_API_RESPONSES;
            at_once(j);
            break;
        }
        set_error(j, ERR_INVALID, what);
        next_model(j);
        break;
    case WIRE_REFUSED:
    case WIRE_INVALID:
        set_error(j, f->kind == WIRE_REFUSED ? ERR_REFUSED : ERR_INVALID, what);
        next_model(j);
        break;
    }
}

static void count_tokens(struct llm_job *j)
{
    const struct wire_answer *a = &j->answer;
    struct openai_model *m = model_of(j);
    size_t asked = strlen(j->system) + strlen(j->prefix) + strlen(j->prompt);
    uint64_t in = a->counted ? a->in : asked / BYTES_PER_TOKEN;
    uint64_t out = a->counted ? a->out : a->text.len / BYTES_PER_TOKEN;
    int64_t usd_q;

    if (!a->counted && a->end == WIRE_OPEN)
        return; /* broke off: nobody knows */
    usd_q = llm_prices_cost(&j->o->prices, m->name, in, a->cached, out);
    j->estimated = j->estimated || !a->counted;
    j->in += in;
    j->cached += a->cached;
    j->out += out;
    j->usd_q += usd_q;
    m->tokens_in += in;
    m->tokens_out += out;
    m->usd_q += usd_q;
}

static void refused_content(struct llm_job *j, const char *why)
{
    char what[WIRE_WORDS_MAX + 80], words[WIRE_WORDS_MAX];

    str_visible(buf_str(&j->answer.text), j->answer.text.len, words, sizeof(words));
    snprintf(what, sizeof(what), "%s%s%s", why, words[0] ? ": " : "", words);
    breaker_succeeded(&model_of(j)->breaker);
    set_error(j, ERR_REFUSED, what);
    next_model(j);
}

/* An answer came to its end, such as it is. */
static void judge_answer(struct llm_job *j)
{
    count_tokens(j);
    switch (j->answer.end) {
    case WIRE_OPEN:
        failed_try(j, "ended its answer before it was whole", 0);
        return;
    case WIRE_COMPLETE:
        if (j->answer.text.len == 0) {
            failed_try(j, "gave an empty answer", 0);
            return;
        }
        breaker_succeeded(&model_of(j)->breaker);
        finish_answered(j);
        return;
    case WIRE_CUT:
        breaker_succeeded(&model_of(j)->breaker);
        set_error(j, ERR_LIMIT,
                  "was cut off at its limit of tokens before its answer was whole; "
                  "'llm_max_tokens' and the model set that limit");
        finish_failed(j);
        return;
    case WIRE_FILTERED:
        refused_content(j, "was stopped by its endpoint's content filter");
        return;
    case WIRE_DECLINED:
        refused_content(j, "declined to answer");
        return;
    case WIRE_FAILED:
        judge_fault(j, &j->answer.fault, 0, 0);
        return;
    }
}

static int on_sse(void *ctx, const char *name, const char *data, size_t len, struct err *err)
{
    struct llm_job *j = ctx;

    return wire_event(model_of(j)->api, name, data, len, &j->answer, err);
}

/* What came with a good status is whole as far as it will be; 0, or -1 with j->bad. */
static int read_rest(struct llm_job *j)
{
    if (j->streams)
        return j->answer.over ? 0 : sse_end(&j->sse, &j->bad);
    return wire_whole(model_of(j)->api, buf_str(&j->body), j->body.len, &j->answer, &j->bad);
}

static void judge_bad(struct llm_job *j)
{
    char what[sizeof(j->bad.msg)];

    snprintf(what, sizeof(what), "gave an answer that cannot be used: %.380s", j->bad.msg);
    count_tokens(j);
    if (j->bad.code == ERR_UPSTREAM) {
        failed_try(j, what, 0);
        return;
    }
    breaker_unknown(&model_of(j)->breaker, now_ns(j->o));
    set_error(j, j->bad.code, what);
    finish_failed(j);
}

static void judge(struct llm_job *j, const struct http_result *r)
{
    bool good = r->status >= 200 && r->status < 300;
    struct wire_fault fault;
    char what[sizeof(r->words) + 40];

    if (r->status >= 300) {
        wire_fault_read(r->status, buf_str(&j->body), j->body.len, j->used, &fault);
        judge_fault(j, &fault, r->status, r->retry_after_s);
        return;
    }
    if (j->bad.code != ERR_OK) {
        judge_bad(j);
        return;
    }
    if (good && (r->outcome == HTTP_ANSWERED || (j->streams && j->answer.end != WIRE_OPEN))) {
        if (read_rest(j) != 0)
            judge_bad(j);
        else
            judge_answer(j);
        return;
    }
    snprintf(what, sizeof(what), "%s: %s",
             r->outcome == HTTP_UNREACHABLE ? "cannot be reached"
             : r->outcome == HTTP_TIMEOUT   ? "is too slow"
                                            : "broke off its answer",
             r->words);
    failed_try(j, what, r->retry_after_s);
}

/* ---- The transfer ---- */

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
        step_in(LIST_OF(first, struct llm_job, place), 0);
}

static void on_end(void *ctx, const struct http_result *r)
{
    struct llm_job *j = ctx;
    struct openai *o = j->o;

    j->transfer = NULL;
    o->n_sent--;
    judge(j, r);
    wake_next(o);
}

static int send_request(struct llm_job *j, struct err *err)
{
    struct openai *o = j->o;
    struct openai_model *m = model_of(j);
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

    while (!breaker_enter(&model_of(j)->breaker, now_ns(o))) {
        const struct breaker *b = &model_of(j)->breaker;
        char what[128];

        if (b->state == BREAKER_OPEN)
            snprintf(what, sizeof(what),
                     "failed %llu times in a row and is left alone for another %.0f s",
                     (unsigned long long)b->failures,
                     ceil((double)(b->until_ns - now_ns(o)) / (double)NS_PER_SEC));
        else
            str_copy(what, sizeof(what), "failed and is being tried with another request");
        j->later = true;
        if (j->err.code == ERR_OK) /* else the reason of before says more */
            set_error(j, ERR_UPSTREAM, what);
        if (j->at + 1 >= o->chain[j->role].n) {
            finish_failed(j);
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
    model_of(j)->requests++;
    if (send_request(j, &j->err) != 0) {
        breaker_unknown(&model_of(j)->breaker, now_ns(o));
        finish_failed(j);
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

    j->start_ns = now_ns(o);
    j->state = OPENAI_PAUSED;
    j->timer = evtimer_new(o->base, on_step, j);
    if (j->timer == NULL)
        abort(); /* a small fixed allocation, as of xmalloc */
    list_append(&o->jobs, &j->all);
    list_init(&j->place);
    o->n_jobs++;
    step_in(j, 0);
}

static void stop_transfer(struct llm_job *j)
{
    if (j->transfer == NULL)
        return;
    http_cancel(j->transfer);
    j->transfer = NULL;
    j->o->n_sent--;
    breaker_unknown(&model_of(j)->breaker, now_ns(j->o));
}

void openai_job_cancel(struct llm_job *j)
{
    if (j->state == OPENAI_ENDING || j->cancelled)
        return;
    j->cancelled = true;
    stop_transfer(j);
    step_in(j, 0);
}

void openai_job_drop(struct llm_job *j)
{
    stop_transfer(j);
    finish_cancelled(j);
}
