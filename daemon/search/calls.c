/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to language models; see calls.h. */
#include "search/calls.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/plan_answer.h"
#include "search/search.h"

static const struct {
    const char *name;
    enum llm_role role;
    bool writes;
} kinds[CALL_KIND_COUNT] = {
    [CALL_INIT] = { "init", LLM_PLANNER, false },
    [CALL_PROPOSE] = { "propose", LLM_PLANNER, false },
    [CALL_REFINE] = { "refine", LLM_PLANNER, false },
    [CALL_TOO_HARD] = { "too_hard", LLM_PLANNER, false },
    [CALL_CODE] = { "code", LLM_CODER, true },
    [CALL_DEBUG] = { "debug", LLM_CODER, true },
    [CALL_IMPROVE] = { "improve", LLM_CODER, true },
    [CALL_SAMPLE] = { "sample", LLM_CODER, true },
    [CALL_MUTATE] = { "mutate", LLM_CODER, true },
};

const char *call_kind_name(enum call_kind k)
{
    return (unsigned)k < CALL_KIND_COUNT ? kinds[k].name : "?";
}

enum call_kind call_kind_from_name(const char *name)
{
    for (unsigned k = 0; k < CALL_KIND_COUNT; k++)
        if (strcmp(kinds[k].name, name) == 0)
            return (enum call_kind)k;
    return CALL_KIND_COUNT;
}

enum llm_role call_role(enum call_kind k)
{
    return kinds[k].role;
}

bool call_writes(enum call_kind k)
{
    return kinds[k].writes;
}

void calls_release(struct calls *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].answer);
        json_decref(c->items[i].told);
    }
    free(c->items);
    memset(c, 0, sizeof(*c));
}

struct call *calls_get(const struct calls *c, uint64_t n)
{
    return n >= 1 && n <= c->n ? &c->items[n - 1] : NULL;
}

struct call *calls_unanswered(const struct calls *c, uint64_t after)
{
    for (uint64_t n = after + 1; n <= c->n; n++)
        if (!c->items[n - 1].answered && !c->items[n - 1].used)
            return &c->items[n - 1];
    return NULL;
}

struct call *calls_unused(const struct calls *c, uint64_t after)
{
    for (uint64_t n = after + 1; n <= c->n; n++)
        if (c->items[n - 1].answered && !c->items[n - 1].used)
            return &c->items[n - 1];
    return NULL;
}

/* ---- The fold ---- */

static int misfit(struct err *err, const struct search *s, const char *what)
{
    return err_set(err, ERR_CORRUPT, "event %llu of search '%s' does not fit: %s",
                   (unsigned long long)s->next_seq, s->spec.id, what);
}

static void lane_asks(struct search *s, const struct call *c)
{
    struct lane *l = &s->lanes[c->lane];

    l->call = c->n;
    l->told |= call_writes(c->kind) && json_array_size(c->told) > 0;
    l->stage = call_writes(c->kind) ? LANE_WRITING : LANE_TELLING;
}

int calls_apply_asked(struct search *s, const json_t *ev, struct err *err)
{
    struct call c = { .n = (uint64_t)jsonx_int(ev, "call", 0),
                      .kind = call_kind_from_name(jsonx_str(ev, "kind", "")),
                      .lane = (int)jsonx_int(ev, "lane", -1),
                      .attempt = (unsigned)jsonx_int(ev, "try", 1),
                      .seq = s->next_seq,
                      .cycles = s->cycle };

    if (c.n != s->calls.n + 1 || c.kind == CALL_KIND_COUNT || c.lane >= LANES_MAX || c.lane < -1)
        return misfit(err, s, "a call out of order");
    if (!str_copy(c.hash, sizeof(c.hash), jsonx_str(ev, "hash", "")))
        return misfit(err, s, "a call without a hash");
    c.told = json_deep_copy(json_object_get(ev, "insights"));
    s->calls.items = xgrow(s->calls.items, &s->calls.cap, s->calls.n + 1, sizeof(struct call));
    s->calls.items[s->calls.n++] = c;
    if (c.lane >= 0)
        lane_asks(s, &c);
    return 0;
}

int calls_apply_answered(struct search *s, const json_t *ev, struct err *err)
{
    struct call *c = calls_get(&s->calls, (uint64_t)jsonx_int(ev, "call", 0));

    if (c == NULL || c->answered)
        return misfit(err, s, "an answer to what was not asked");
    c->answered = true;
    c->answer = xstrdup(jsonx_str(ev, "answer", ""));
    str_copy(c->model, sizeof(c->model), jsonx_str(ev, "model", ""));
    c->tokens_in = (uint64_t)jsonx_int(ev, "tokens_in", 0);
    c->tokens_cached = (uint64_t)jsonx_int(ev, "tokens_cached", 0);
    c->tokens_out = (uint64_t)jsonx_int(ev, "tokens_out", 0);
    c->usd_q = jsonx_int(ev, "usd_q", 0);
    c->seconds = jsonx_num(ev, "seconds", 0);
    c->estimated = jsonx_bool(ev, "estimated", 0);
    return 0;
}

int calls_apply_lost(struct search *s, const json_t *ev, struct err *err)
{
    struct call *c = calls_get(&s->calls, (uint64_t)jsonx_int(ev, "call", 0));

    if (c == NULL || c->answered)
        return misfit(err, s, "a call is lost that was not under way");
    c->lost++;
    /* Given up: nobody waits for it any more. */
    if (jsonx_bool(ev, "dropped", 0))
        c->used = true;
    return 0;
}

json_t *call_answered_event(uint64_t call, const struct llm_answer *a)
{
    json_t *text = json_string(a->text);

    if (text == NULL) /* a call without an answer would be waited for without end */
        text = json_string("(the answer was not UTF-8)");
    return json_pack("{s:s, s:I, s:o, s:s, s:I, s:I, s:I, s:I, s:f, s:b, s:i}", "type", "answered",
                     "call", (json_int_t)call, "answer", text, "model", a->model ? a->model : "",
                     "tokens_in", (json_int_t)a->tokens_in, "tokens_cached",
                     (json_int_t)a->tokens_cached, "tokens_out", (json_int_t)a->tokens_out, "usd_q",
                     (json_int_t)a->usd_q, "seconds", a->seconds, "estimated", a->estimated,
                     "tries", (int)a->tries);
}

/* ---- Reading a request back ---- */

static int take_event(void *ctx, uint64_t seq, const json_t *event)
{
    (void)seq;
    *(json_t **)ctx = json_incref((json_t *)event);
    return 1;
}

static int read_event(const struct search *s, json_int_t seq, const char *type, json_t **out,
                      struct err *err)
{
    json_t *found = NULL;

    if (seq < 0)
        return err_set(err, ERR_CORRUPT, "a call of search '%s' has no text", s->spec.id);
    if (kb_each_event(s->kb, s->spec.id, (uint64_t)seq, take_event, &found, err) != 0)
        return -1;
    if (found == NULL || strcmp(jsonx_str(found, "type", ""), type) != 0) {
        json_decref(found);
        return err_set(err, ERR_CORRUPT, "event %lld of search '%s' is not what a call needs",
                       (long long)seq, s->spec.id);
    }
    *out = found;
    return 0;
}

/*
 * Who is asked: a plan whose form was wrong goes to the editor. A program that was not usable twice
 * goes to whoever plans, mostly the stronger model: the last try is not the coder's again.
 */
static enum llm_role role_asked(const struct call *c)
{
    if (c->attempt > 1 && !call_writes(c->kind))
        return LLM_EDITOR;
    return c->attempt >= CALL_TRIES_MAX ? LLM_PLANNER : call_role(c->kind);
}

int call_request_read(const struct search *s, const struct call *c, struct call_request *out,
                      struct err *err)
{
    const char *schema_name = NULL;

    memset(out, 0, sizeof(*out));
    if (read_event(s, (json_int_t)c->seq, "asked", &out->event, err) != 0 ||
        read_event(s, jsonx_int(out->event, "system", -1), "text", &out->system, err) != 0 ||
        read_event(s, jsonx_int(out->event, "prefix", -1), "text", &out->prefix, err) != 0) {
        call_request_release(out);
        return -1;
    }
    snprintf(out->id, sizeof(out->id), "%s.%llu", s->spec.id, (unsigned long long)c->n);
    if (!call_writes(c->kind))
        out->schema = plan_answer_schema(c->kind, &schema_name);
    out->req = (struct llm_request){ .id = out->id,
                                     .hash = c->hash,
                                     .role = role_asked(c),
                                     .kind = call_kind_name(c->kind),
                                     .search = s->spec.id,
                                     .task = s->spec.task,
                                     .attempt = c->attempt,
                                     .system = jsonx_str(out->system, "text", ""),
                                     .prefix = jsonx_str(out->prefix, "text", ""),
                                     .prompt = jsonx_str(out->event, "prompt", ""),
                                     .schema_name = schema_name,
                                     .schema = out->schema };
    return 0;
}

void call_request_release(struct call_request *r)
{
    json_decref(r->event);
    json_decref(r->system);
    json_decref(r->prefix);
    json_decref(r->schema);
    memset(r, 0, sizeof(*r));
}
