/* SPDX-License-Identifier: Apache-2.0 */
/* What comes of a try: an answer, the same again, the next model, or the end; see openai_impl.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "llm/openai_impl.h"
#include "log.h"

enum { BYTES_PER_TOKEN = 4 };

/* ---- Again, or elsewhere ---- */

static void next_model(struct llm_job *j)
{
    if (j->at + 1 >= j->o->chain[j->role].n) {
        openai_job_fail(j);
        return;
    }
    log_info("llm: %s; going on with the model '%s'", j->err.msg,
             j->o->chain[j->role].model[j->at + 1]->name);
    j->at++;
    j->tries_of_model = 0;
    j->state = OPENAI_PAUSED;
    openai_job_step(j, 0);
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
    struct openai_model *m = openai_job_model(j);
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
    openai_job_step(j, delay);
}

/* Down, or out of its mind: what the breaker counts. */
static void failed_try(struct llm_job *j, const char *what, double asked_s)
{
    struct openai *o = j->o;

    openai_job_error(j, ERR_UPSTREAM, what);
    breaker_failed(&openai_job_model(j)->breaker, openai_now_ns(o), o->breaker_failures,
                   o->breaker_wait_ns);
    again_or_next(j, asked_s);
}

/* ---- Judging a try ---- */

static void at_once(struct llm_job *j)
{
    j->tries_of_model--; /* what was asked was our fault */
    j->state = OPENAI_PAUSED;
    openai_job_step(j, 0);
}

static void judge_fault(struct llm_job *j, const struct wire_fault *f, long status, double asked_s)
{
    struct openai_model *m = openai_job_model(j);
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
        openai_job_error(j, ERR_UPSTREAM, what);
        again_or_next(j, asked_s);
        break;
    case WIRE_TOO_LONG:
        openai_job_error(j, ERR_LIMIT, what);
        openai_job_fail(j);
        break;
    case WIRE_LACKS:
        m->features &= ~f->feature;
        openai_job_error(j, ERR_INVALID, what);
        log_info("llm: %s; going on without that", j->err.msg);
        at_once(j);
        break;
    case WIRE_OTHER_API:
        if (m->wanted == LLM_API_AUTO && m->api == LLM_API_CHAT) {
            m->api = LLM_API_RESPONSES;
            at_once(j);
            break;
        }
        openai_job_error(j, ERR_INVALID, what);
        next_model(j);
        break;
    case WIRE_REFUSED:
    case WIRE_INVALID:
        openai_job_error(j, f->kind == WIRE_REFUSED ? ERR_REFUSED : ERR_INVALID, what);
        next_model(j);
        break;
    }
}

static void count_tokens(struct llm_job *j)
{
    const struct wire_answer *a = &j->answer;
    struct openai_model *m = openai_job_model(j);
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
    breaker_succeeded(&openai_job_model(j)->breaker);
    openai_job_error(j, ERR_REFUSED, what);
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
        breaker_succeeded(&openai_job_model(j)->breaker);
        openai_job_answer(j);
        return;
    case WIRE_CUT:
        breaker_succeeded(&openai_job_model(j)->breaker);
        openai_job_error(j, ERR_LIMIT,
                         "was cut off at its limit of tokens before its answer was whole; "
                         "'llm_max_tokens' and the model set that limit");
        openai_job_fail(j);
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

/* What came with a good status is whole as far as it will be; 0, or -1 with j->bad. */
static int read_rest(struct llm_job *j)
{
    if (j->streams)
        return j->answer.over ? 0 : sse_end(&j->sse, &j->bad);
    return wire_whole(openai_job_model(j)->api, buf_str(&j->body), j->body.len, &j->answer,
                      &j->bad);
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
    breaker_unknown(&openai_job_model(j)->breaker, openai_now_ns(j->o));
    openai_job_error(j, j->bad.code, what);
    openai_job_fail(j);
}

void openai_judge(struct llm_job *j, const struct http_result *r)
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
