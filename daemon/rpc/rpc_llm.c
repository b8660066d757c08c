/* SPDX-License-Identifier: Apache-2.0 */
/* llm.*: the side of the queue that answers, and how the language models are doing. */
#include "rpc/rpc_llm.h"

#include "daemon.h"
#include "llm/provider_queue.h"
#include "llms.h"
#include "proto/limits.h"
#include "proto/methods.h"
#include "rpc/rpc.h"

_Static_assert(PROTO_LLM_ANSWER_MAX == LLM_ANSWER_MAX, "client and queue take the same answers");

/* The models go before the connections do: then the call is ended here, and NULL. */
static struct llms *llms_of(struct rpc_call *call)
{
    struct llms *m = rpc_daemon(call)->llms;
    struct err err;

    if (m == NULL) {
        err_set(&err, ERR_CANCELLED, "the daemon is stopping");
        rpc_fail(call, &err);
    }
    return m;
}

/* ---- Looking ---- */

struct pending_params {
    char *search;
};

static const struct param pending_rows[] = {
    { "search", PARAM_NAME, offsetof(struct pending_params, search), 0,
      "only requests of this search", 0, 0, NULL, 0 },
    { 0 },
};

static void llm_pending(struct rpc_call *call, void *params)
{
    const struct pending_params *p = params;
    struct llms *m = llms_of(call);

    if (m == NULL)
        return;
    rpc_reply(call, json_pack("{s:o}", "requests", llm_queue_pending(llms_queue(m), p->search)));
}

static void llm_watch(struct rpc_call *call, void *params)
{
    struct llms *m = llms_of(call);
    struct err err;

    (void)params;
    if (m == NULL)
        return;
    if (rpc_subscribe(call, RPC_LLM_STREAM, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, json_pack("{s:o}", "requests", llm_queue_pending(llms_queue(m), NULL)));
}

static void llm_status(struct rpc_call *call, void *params)
{
    struct llms *m = llms_of(call);

    (void)params;
    if (m != NULL)
        rpc_reply(call, llms_status(m));
}

/* ---- Taking and giving back ---- */

struct take_params {
    char *id, *search, *who;
    double lease;
};

static const struct param take_rows[] = {
    { "id", PARAM_NAME, offsetof(struct take_params, id), 0,
      "the request (the oldest one that nobody else holds)", 0, 0, NULL, 0 },
    { "search", PARAM_NAME, offsetof(struct take_params, search), 0, "only requests of this search",
      0, 0, NULL, 0 },
    { "who", PARAM_NAME, offsetof(struct take_params, who), 0,
      "who works on it from now on, at most 63 bytes; without it the request is shown and not "
      "leased",
      0, 0, NULL, 0 },
    { "lease", PARAM_REAL, offsetof(struct take_params, lease), 0,
      "seconds after which others may take it (900)", 0, LLM_LEASE_MAX_S, NULL, 0 },
    { 0 },
};

static void llm_take(struct rpc_call *call, void *params)
{
    const struct take_params *p = params;
    struct llms *m = llms_of(call);
    json_t *request;
    struct err err;

    if (m == NULL)
        return;
    if (llm_queue_take(llms_queue(m), p->id, p->search, p->who, p->lease, &request, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, request);
}

struct release_params {
    char *id, *who;
};

static const struct param release_rows[] = {
    { "id", PARAM_NAME, offsetof(struct release_params, id), PARAM_REQUIRED, "the request", 0, 0,
      NULL, 0 },
    { "who", PARAM_NAME, offsetof(struct release_params, who), PARAM_REQUIRED, "who holds it", 0, 0,
      NULL, 0 },
    { 0 },
};

static void llm_release(struct rpc_call *call, void *params)
{
    const struct release_params *p = params;
    struct llms *m = llms_of(call);
    struct err err;

    if (m == NULL)
        return;
    if (llm_queue_release(llms_queue(m), p->id, p->who, &err) != 0)
        rpc_fail(call, &err);
    else
        rpc_reply(call, json_pack("{s:s}", "id", p->id));
}

/* ---- Answering ---- */

struct answer_params {
    char *id, *who, *model;
    json_t *text; /* as JSON: it may be larger than other texts, and the queue says by how much */
};

static const struct param answer_rows[] = {
    { "id", PARAM_NAME, offsetof(struct answer_params, id), PARAM_REQUIRED, "the request", 0, 0,
      NULL, 0 },
    { "text", PARAM_JSON, offsetof(struct answer_params, text), PARAM_REQUIRED,
      "the answer as a model would give it: a text of 1 to 1048576 bytes", 0, 0, NULL, 0 },
    { "who", PARAM_NAME, offsetof(struct answer_params, who), 0,
      "who answers: has to be who holds the lease, if anybody does", 0, 0, NULL, 0 },
    { "model", PARAM_STR, offsetof(struct answer_params, model), 0,
      "model that wrote the answer, for the record", 0, LLM_MODEL_MAX - 1, NULL, 0 },
    { 0 },
};

static void llm_answer(struct rpc_call *call, void *params)
{
    const struct answer_params *p = params;
    struct llms *m = llms_of(call);
    struct err err;

    if (m == NULL)
        return;
    if (!json_is_string(p->text)) {
        err_set(&err, ERR_INVALID, "'text' is no string; request '%s' stays open", p->id);
        rpc_fail(call, &err);
    } else if (llm_queue_answer(llms_queue(m), p->id, p->who, p->model, json_string_value(p->text),
                                json_string_length(p->text), &err) != 0) {
        rpc_fail(call, &err);
    } else {
        rpc_reply(call, json_pack("{s:s, s:I}", "id", p->id, "bytes",
                                  (json_int_t)json_string_length(p->text)));
    }
}

#define REQUEST                                                                                    \
    "id, search, task, kind, role, attempt, asked, lease{who, left_s} or null, bytes, "            \
    "schema, hash"

const struct rpc_method rpc_llm_methods[] = {
    { METHOD_LLM_PENDING, pending_rows, sizeof(struct pending_params), 0, llm_pending,
      "Lists the requests to a language model that wait for somebody to answer them, oldest first.",
      "{requests[{" REQUEST "}]}", NULL },
    { METHOD_LLM_TAKE, take_rows, sizeof(struct take_params), RPC_WRITE, llm_take,
      "One open request whole, and with `who` a lease of it: nobody else can then take or answer "
      "it "
      "until the lease runs out. Taking it again renews the lease.",
      "{id, search, task, kind, role, attempt, asked, lease, bytes, hash, system, prefix, prompt, "
      "schema_name, schema{} or null, max_tokens}",
      NULL },
    { METHOD_LLM_RELEASE, release_rows, sizeof(struct release_params), RPC_WRITE, llm_release,
      "Gives a lease back before it runs out.", "{id}", NULL },
    { METHOD_LLM_ANSWER, answer_rows, sizeof(struct answer_params), RPC_WRITE, llm_answer,
      "Answers an open request. An answer that is refused leaves it open.", "{id, bytes}", NULL },
    { METHOD_LLM_WATCH, NULL, 0, RPC_STREAM, llm_watch,
      "Streams the list of open requests as notifications llm.pending, whenever it changes.",
      "{requests[]} as llm.pending", NULL },
    { METHOD_LLM_STATUS, NULL, 0, 0, llm_status,
      "How the language models are doing; null is one that no search asked for yet.",
      "{openai{}, queue{pending, leased}, replay{}}", NULL },
    { 0 },
};
