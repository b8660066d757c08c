/* SPDX-License-Identifier: Apache-2.0 */
/* Models behind an OpenAI-compatible endpoint: chains, limits, displays; see openai_impl.h. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "llm/openai_impl.h"
#include "secret.h"

static struct openai *openai_of(const struct llm *m)
{
    return (struct openai *)m; /* `llm` is its first member */
}

/* ---- Requests ---- */

static int check_request(const struct openai *o, const struct llm_request *r, struct err *err)
{
    size_t len = strlen(r->system) + strlen(r->prefix) + strlen(r->prompt);

    if (o->closing)
        return err_set(err, ERR_CANCELLED, "the daemon is stopping");
    if (o->chain[r->role].n == 0)
        return err_set(err, ERR_INVALID,
                       "no model is named for the role '%s': 'llm_%s' and 'llm_models' are empty",
                       llm_role_name(r->role), llm_role_name(r->role));
    if (len > LLM_PROMPT_MAX)
        return err_set(err, ERR_LIMIT, "the prompt of '%s' has %zu bytes; at most %d are allowed",
                       r->id, len, LLM_PROMPT_MAX);
    return 0;
}

static int openai_start(struct llm *m, const struct llm_request *r, llm_done_fn *done, void *ctx,
                        struct llm_job **out, struct err *err)
{
    struct openai *o = openai_of(m);
    struct llm_job *j;

    if (check_request(o, r, err) != 0)
        return -1;
    j = xcalloc(1, sizeof(*j));
    j->o = o;
    j->done = done;
    j->ctx = ctx;
    j->id = xstrdup(r->id);
    j->system = xstrdup(r->system);
    j->prefix = xstrdup(r->prefix);
    j->prompt = xstrdup(r->prompt);
    j->err.code = ERR_OK;
    j->schema_name = r->schema_name != NULL ? xstrdup(r->schema_name) : NULL;
    j->schema = json_incref((json_t *)r->schema);
    j->role = r->role;
    j->attempt = r->attempt;
    j->max_tokens = r->max_tokens > 0 ? r->max_tokens : o->max_tokens;
    openai_job_begin(j);
    *out = j;
    return 0;
}

static void openai_cancel(struct llm *m, struct llm_job *job)
{
    (void)m;
    openai_job_cancel(job);
}

/* ---- Displays ---- */

static json_t *model_status(const struct openai_model *m)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "model", m->name, "api",
                     m->api == LLM_API_CHAT ? "chat" : "responses", "state",
                     breaker_state_name(m->breaker.state), "failures",
                     (json_int_t)m->breaker.failures, "requests", (json_int_t)m->requests,
                     "answers", (json_int_t)m->answers, "tokens_in", (json_int_t)m->tokens_in,
                     "tokens_out", (json_int_t)m->tokens_out, "usd", (double)m->usd_q / 1e6);
}

static json_t *openai_status(const struct llm *m)
{
    const struct openai *o = openai_of(m);
    json_t *models = json_array();

    for (size_t i = 0; i < o->n_models; i++)
        json_array_append_new(models, model_status(&o->model[i]));
    return json_pack("{s:s, s:s, s:I, s:I, s:o, s:s*}", "name", o->llm.name, "url", o->url,
                     "pending", (json_int_t)o->n_jobs, "sent", (json_int_t)o->n_sent, "models",
                     models, "trouble", o->trouble[0] != '\0' ? o->trouble : NULL);
}

/* ---- Life ---- */

/* The model of this name and interface, made when it is new. */
static struct openai_model *model_for(struct openai *o, const char *name, enum llm_api api,
                                      bool stream)
{
    struct openai_model *m;

    for (size_t i = 0; i < o->n_models; i++)
        if (strcmp(o->model[i].name, name) == 0 && o->model[i].wanted == api)
            return &o->model[i];
    m = &o->model[o->n_models++];
    str_copy(m->name, sizeof(m->name), name);
    m->wanted = api;
    m->api = api == LLM_API_RESPONSES ? LLM_API_RESPONSES : LLM_API_CHAT;
    m->features = WIRE_ALL & ~(stream ? 0u : (unsigned)WIRE_STREAM);
    return m;
}

static int set_chain(struct openai *o, const struct conf *c, enum llm_role role, const char *text,
                     struct err *err)
{
    bool own = text[0] != '\0';
    CLEANUP(freep) char *option = str_printf("llm_%s", own ? llm_role_name(role) : "models");
    struct llm_chain chain;

    if (llm_chain_parse(option, own ? text : c->llm_models, &chain, err) != 0)
        return -1;
    for (size_t i = 0; i < chain.n; i++) {
        enum llm_api api = chain.model[i].api;

        if (api == LLM_API_AUTO)
            api = (enum llm_api)c->llm_api;
        o->chain[role].model[i] = model_for(o, chain.model[i].name, api, c->llm_stream);
    }
    o->chain[role].n = chain.n;
    return 0;
}

static int set_models(struct openai *o, const struct conf *c, struct err *err)
{
    if (set_chain(o, c, LLM_PLANNER, c->llm_planner, err) != 0 ||
        set_chain(o, c, LLM_CODER, c->llm_coder, err) != 0 ||
        set_chain(o, c, LLM_EDITOR, c->llm_editor, err) != 0)
        return -1;
    if (o->n_models == 0)
        return err_set(err, ERR_INVALID,
                       "'llm_models' is empty; it names the models to ask at 'llm_url'");
    return 0;
}

static void set_limits(struct openai *o, const struct conf *c)
{
    o->url = xstrdup(c->llm_url);
    o->effort = conf_effort_name(c);
    o->max_tokens = c->llm_max_tokens;
    o->parallel = c->llm_parallel;
    o->retries = c->llm_retries;
    o->breaker_failures = c->llm_breaker_failures;
    o->breaker_wait_ns = (uint64_t)(c->llm_breaker_wait_s * (double)NS_PER_SEC);
    o->connect_s = c->llm_connect_timeout_s;
    o->first_s = c->llm_first_timeout_s;
    o->idle_s = c->llm_idle_timeout_s;
    o->total_s = c->llm_timeout_s;
    o->backoff_s = c->llm_backoff_s;
    o->backoff_max_s = c->llm_backoff_max_s;
}

static void openai_free(struct llm *m)
{
    struct openai *o = openai_of(m);

    o->closing = true;
    while (!list_empty(&o->jobs))
        openai_job_drop(LIST_OF(o->jobs.next, struct llm_job, all));
    http_free(o->http);
    free(o->url);
    free(o->key);
    free(o);
}

int llm_openai_new(struct event_base *base, const struct conf *conf, const struct clock *clock,
                   struct llm **out, struct err *err)
{
    struct openai *o = xcalloc(1, sizeof(*o));
    bool tls = str_has_prefix(conf->llm_url, "https://");
    uint64_t seed = clock->mono_ns(clock);

    o->llm = (struct llm){ "openai", openai_start, openai_cancel, openai_status, openai_free };
    o->base = base;
    o->clock = clock;
    list_init(&o->jobs);
    list_init(&o->queue);
    rng_os(&seed, sizeof(seed));
    o->rng = rng_seeded(seed);
    set_limits(o, conf);
    if (set_models(o, conf, err) != 0 || llm_prices_parse(conf->llm_prices, &o->prices, err) != 0 ||
        llm_temperatures_parse(conf->llm_temperature, &o->temperatures, err) != 0 ||
        secret_load("llm_key_file", conf->llm_key_file, &o->key, err) != 0 ||
        http_new(base, conf->llm_proxy, conf->llm_ca_file, tls, &o->http, err) != 0) {
        openai_free(&o->llm);
        return -1;
    }
    *out = &o->llm;
    return 0;
}
