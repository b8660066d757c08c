/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the provider of endpoints: provider_openai.c owns the provider and its models,
 * openai_job.c carries one request through its tries, openai_judge.c says what came of one.
 *
 *     start -> QUEUED -> SENT -> done(answer)
 *                ^        | \--> done(error)
 *                |        v
 *                +----- PAUSED (before the same model again, or the next one)
 *
 * Every arrow into done is taken from an event of the loop, never from start. Thread: loop.
 */
#ifndef KS_LLM_OPENAI_IMPL_H
#define KS_LLM_OPENAI_IMPL_H

#include <event2/event.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/rng.h"
#include "llm/breaker.h"
#include "llm/http.h"
#include "llm/llm.h"
#include "llm/models.h"
#include "llm/openai_wire.h"
#include "llm/sse.h"

enum { OPENAI_MODELS_MAX = LLM_CHAIN_MAX * (LLM_ROLE_COUNT + 1) };

struct openai_model {
    char name[LLM_MODEL_MAX];
    enum llm_api wanted; /* of the configuration */
    enum llm_api api;    /* in use: CHAT or RESPONSES */
    unsigned features;   /* that the endpoint has not refused yet */
    struct breaker breaker;
    uint64_t requests, answers, tokens_in, tokens_out;
    int64_t usd_q;
};

struct openai {
    struct llm llm; /* first */
    struct event_base *base;
    const struct clock *clock;
    struct http *http;
    struct rng rng; /* of waiting times alone */
    char *url, *key;
    const char *effort; /* NULL: not mentioned */
    struct llm_prices prices;
    struct llm_temperatures temperatures;
    uint64_t max_tokens, parallel, retries, breaker_failures, breaker_wait_ns;
    double connect_s, first_s, idle_s, total_s, backoff_s, backoff_max_s;
    struct openai_model model[OPENAI_MODELS_MAX];
    size_t n_models;
    struct {
        struct openai_model *model[LLM_CHAIN_MAX];
        size_t n;
    } chain[LLM_ROLE_COUNT];
    struct list jobs, queue; /* all; those that wait for a place, in order */
    size_t n_jobs, n_sent;
    bool closing;
    char trouble[256]; /* of the last request that failed for good; "" after one that did not */
};

enum openai_job_state { OPENAI_QUEUED, OPENAI_SENT, OPENAI_PAUSED, OPENAI_ENDING };

struct llm_job {
    struct openai *o;
    struct list all, place; /* in o->jobs, o->queue */
    enum openai_job_state state;
    bool cancelled;
    struct event *timer; /* the next step */
    llm_done_fn *done;
    void *ctx;
    /* Of the request; owned. */
    char *id, *system, *prefix, *prompt, *schema_name;
    json_t *schema;
    enum llm_role role;
    unsigned attempt;
    uint64_t max_tokens;
    /* Tries. */
    uint64_t start_ns;
    size_t at; /* in the role's chain */
    unsigned tries, tries_of_model;
    uint64_t in, cached, out; /* tokens of all tries */
    int64_t usd_q;
    bool estimated, later; /* some model of the chain may work later */
    struct err err;        /* of the last try */
    /* The try under way. */
    struct http_transfer *transfer;
    unsigned used; /* features */
    struct sse sse;
    bool streams;
    struct buf body; /* of what is no stream */
    struct wire_answer answer;
    struct err bad; /* why on_bytes wanted no more; ERR_OK for nothing */
};

/* Goes to the queue at the loop's next turn. */
void openai_job_begin(struct llm_job *j);
/* Ends it at the loop's next turn. */
void openai_job_cancel(struct llm_job *j);
/* Calls done as cancelled now, and frees. */
void openai_job_drop(struct llm_job *j);

/* Monotonic. */
uint64_t openai_now_ns(const struct openai *o);

/* ---- Of openai_job.c for openai_judge.c ---- */

/* The model that the request is at. */
struct openai_model *openai_job_model(const struct llm_job *j);
/* Goes to the queue after a while. */
void openai_job_step(struct llm_job *j, double seconds);
/* Sets j->err: "the model 'm' at 'url' WHAT", without the key. */
void openai_job_error(struct llm_job *j, enum err_code code, const char *what);
/* Ends: with j->err, or with j->answer. The job is gone. */
void openai_job_fail(struct llm_job *j);
void openai_job_answer(struct llm_job *j);

/* A try has ended: takes one of the ways above. The job may be gone. */
void openai_judge(struct llm_job *j, const struct http_result *r);

#endif
