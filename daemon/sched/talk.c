/* SPDX-License-Identifier: Apache-2.0 */
/* A search's calls to its language model; see talk.h. */
#include "sched/talk.h"

#include <event2/event.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "llms.h"
#include "log.h"
#include "loop.h"
#include "sched/runner.h"
#include "search/journal.h"

enum { AGAIN_FIRST_S = 5, AGAIN_MOST_S = 300 };

struct talk_call {
    struct list node;
    struct runner *owner; /* NULL: nobody wants the answer any more */
    struct llm_job *job;
    uint64_t n;
};

int talk_open(struct runner *r, struct err *err)
{
    struct talk *t = &r->talk;

    if (!search_has_model(r->search))
        return 0;
    t->model = llms_find(r->owner->daemon->llms, r->search->spec.proposer, err);
    return t->model != NULL ? 0 : -1;
}

static void drop_requests(struct talk *t)
{
    for (size_t i = 0; i < t->n_requests; i++)
        call_request_release(&t->requests[i]);
    free(t->requests);
    t->requests = NULL;
    t->n_requests = t->cap_requests = 0;
}

/* The provider still answers, as cancelled; the call then frees itself. */
static void let_go(struct talk_call *c, struct llm *model)
{
    list_remove(&c->node);
    c->owner = NULL;
    model->cancel(model, c->job);
}

void talk_close(struct runner *r)
{
    struct talk *t = &r->talk;

    while (t->model != NULL && !list_empty(&t->calls))
        let_go(LIST_OF(t->calls.next, struct talk_call, node), t->model);
    drop_requests(t);
    if (t->again)
        event_free(t->again);
    t->again = NULL;
    json_decref(t->arrived);
    json_decref(t->storing);
    t->arrived = t->storing = NULL;
    free(t->known);
    t->known = NULL;
}

/* ---- Storing ---- */

bool talk_has_arrived(const struct runner *r)
{
    return json_array_size(r->talk.arrived) > 0;
}

void talk_before(struct runner *r)
{
    struct talk *t = &r->talk;
    const json_t *ev;
    size_t i;

    free(t->known);
    t->known = NULL;
    t->n_known = 0;
    t->storing = TAKE(t->arrived);
    for (const struct list *at = t->calls.next; at != &t->calls; at = at->next)
        t->n_known++;
    t->known = xcalloc(t->n_known + json_array_size(t->storing) + 1, sizeof(*t->known));
    t->n_known = 0;
    for (const struct list *at = t->calls.next; at != &t->calls; at = at->next)
        t->known[t->n_known++] = LIST_OF(at, struct talk_call, node)->n;
    json_array_foreach (t->storing, i, ev)
        if (strcmp(jsonx_str(ev, "type", ""), "answered") == 0)
            t->known[t->n_known++] = (uint64_t)jsonx_int(ev, "call", 0);
    /* a paused search keeps what was asked, and asks nothing more */
    t->hold = r->search->state == SEARCH_PAUSED ||
              (t->again != NULL && event_pending(t->again, EV_TIMEOUT, NULL));
}

/* What could not be written is written with what comes next. */
void talk_after(struct runner *r, bool ok)
{
    struct talk *t = &r->talk;

    if (!ok && t->storing != NULL) {
        if (t->arrived != NULL)
            json_array_extend(t->storing, t->arrived);
        json_decref(t->arrived);
        t->arrived = TAKE(t->storing);
    }
    json_decref(t->storing);
    t->storing = NULL;
    if (!ok)
        drop_requests(t);
}

int talk_store(struct runner *r, struct journal *j, struct err *err)
{
    json_t *events = r->talk.storing, *ev;
    size_t i;

    json_array_foreach (events, i, ev) {
        const struct call *c = calls_get(&r->search->calls, (uint64_t)jsonx_int(ev, "call", 0));

        /* after a failed write it may be there already */
        if (c != NULL && !c->answered && journal_add(j, json_deep_copy(ev), err) != 0)
            return -1;
    }
    return 0;
}

/* ---- Asking ---- */

static bool is_known(const struct talk *t, uint64_t n)
{
    for (size_t i = 0; i < t->n_known; i++)
        if (t->known[i] == n)
            return true;
    return false;
}

int talk_read_requests(struct runner *r, struct err *err)
{
    const struct calls *calls = &r->search->calls;
    struct talk *t = &r->talk;
    const struct call *c = NULL;
    uint64_t after = 0;

    while (!t->hold && (c = calls_unanswered(calls, after)) != NULL) {
        after = c->n;
        if (is_known(t, c->n))
            continue;
        t->requests = xgrow(t->requests, &t->cap_requests, t->n_requests + 1, sizeof(*t->requests));
        if (call_request_read(r->search, c, &t->requests[t->n_requests], err) != 0)
            return -1;
        t->n_requests++;
    }
    return 0;
}

static void again_cb(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("talk_again");
    (void)fd;
    (void)what;
    runner_wake(arg);
}

static void arrive(struct runner *r, json_t *event)
{
    if (r->talk.arrived == NULL)
        r->talk.arrived = json_array();
    json_array_append_new(r->talk.arrived, event);
}

/* What went wrong is said; the call is asked again after a while, longer each time. */
static void gave_up(struct runner *r, uint64_t n, const struct err *err)
{
    struct talk *t = &r->talk;
    double wait = fmin(AGAIN_MOST_S, AGAIN_FIRST_S * pow(2, t->failures));
    struct timeval tv = { (time_t)wait, 0 };
    bool hopeless = err->code != ERR_UPSTREAM && err->code != ERR_IO && err->code != ERR_NOMEM;

    t->failures++;
    /* what ends a search is not covered up by what comes in beside it */
    if (hopeless || !t->hopeless)
        str_copy(t->trouble, sizeof(t->trouble), err->msg);
    t->missing |= err->code == ERR_NOT_FOUND;
    t->hopeless |= hopeless;
    log_warn("search %s: call %llu: %s", r->search->spec.id, (unsigned long long)n, err->msg);
    arrive(r, json_pack("{s:s, s:I, s:s, s:s}", "type", "unanswered", "call", (json_int_t)n,
                        "message", err->msg, "code", err_name(err->code)));
    if (t->again == NULL)
        t->again = evtimer_new(loop_base(r->owner->daemon->loop), again_cb, r);
    event_add(t->again, &tv);
}

/* An answer that was cut, or a question that is too long: as if nothing usable had been said. */
static void unusable(struct runner *r, uint64_t n, const struct err *err)
{
    CLEANUP(freep) char *text = str_printf("(no answer: %s)", err->msg);
    struct llm_answer a = { .text = text, .model = "", .estimated = true };

    arrive(r, call_answered_event(n, &a));
}

static void answered(void *ctx, const struct llm_answer *a, const struct err *err)
{
    struct talk_call *c = ctx;
    struct runner *r = c->owner;
    uint64_t n = c->n;

    if (r == NULL) {
        free(c);
        return;
    }
    list_remove(&c->node);
    free(c);
    if (a == NULL && err->code == ERR_CANCELLED)
        return;
    if (a == NULL && err->code == ERR_LIMIT) {
        unusable(r, n, err);
    } else if (a == NULL) {
        gave_up(r, n, err);
    } else {
        r->talk.failures = 0;
        if (!r->talk.hopeless)
            r->talk.trouble[0] = '\0';
        arrive(r, call_answered_event(n, a));
    }
    runner_wake(r);
}

static void start_call(struct runner *r, const struct call_request *req)
{
    struct talk *t = &r->talk;
    const struct call *call =
        calls_get(&r->search->calls, (uint64_t)jsonx_int(req->event, "call", 0));
    struct talk_call *c = xcalloc(1, sizeof(*c));
    struct err err;

    c->owner = r;
    c->n = call->n;
    list_append(&t->calls, &c->node);
    if (t->model->start(t->model, &req->req, answered, c, &c->job, &err) != 0) {
        list_remove(&c->node);
        free(c);
        gave_up(r, call->n, &err);
    }
}

/* Calls that the search has dropped. */
static void end_unwanted(struct runner *r)
{
    struct talk *t = &r->talk;
    struct list *at = t->calls.next, *next;

    for (; at != &t->calls; at = next) {
        struct talk_call *c = LIST_OF(at, struct talk_call, node);
        const struct call *call = calls_get(&r->search->calls, c->n);

        next = at->next;
        if (call == NULL || call->used || call->answered)
            let_go(c, t->model);
    }
}

void talk_start(struct runner *r)
{
    struct talk *t = &r->talk;

    if (t->model == NULL)
        return;
    end_unwanted(r);
    for (size_t i = 0; i < t->n_requests; i++)
        start_call(r, &t->requests[i]);
    drop_requests(t);
}

/* ---- Waiting ---- */

void talk_hope(struct runner *r)
{
    r->talk.hopeless = r->talk.missing = false;
    r->talk.trouble[0] = '\0';
}

void talk_text(const struct runner *r, char *out, size_t size)
{
    size_t n = 0;

    for (const struct list *at = r->talk.calls.next; at != &r->talk.calls; at = at->next)
        n++;
    if (r->talk.trouble[0])
        str_copy(out, size, r->talk.trouble);
    else
        snprintf(out, size, "%zu request%s wait%s for %s", n, n == 1 ? "" : "s", n == 1 ? "s" : "",
                 strcmp(r->search->spec.proposer, "queue") == 0
                     ? "an answer: 'ksearch llm pending' shows them"
                     : "the language model");
}
