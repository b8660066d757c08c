/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue: requests wait until somebody answers them over the socket; see provider_queue.h.
 *
 *     open -answer-> ended --deliver--> done, freed
 *         \-cancel-/
 *
 * Leases are compared with the clock whenever they matter. The timer only tells watchers that one
 * has run out; nothing depends on when it fires. Thread: loop.
 */
#include "llm/provider_queue.h"

#include <event2/event.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"

enum { QUEUE_OPEN_MAX = 2048, BYTES_PER_TOKEN = 4 };

struct queue {
    struct llm llm;
    const struct clock *clock;
    struct list open;  /* struct llm_job, oldest first */
    struct list ended; /* answered or cancelled, not told yet */
    struct event *deliver, *lease_end;
    void (*changed)(void *ctx);
    void *changed_ctx;
    bool closing;
};

struct llm_job {
    struct list link; /* in open or in ended */
    char *id, *hash, *kind, *search, *task;
    char *system, *prefix, *prompt, *schema_name;
    json_t *schema; /* NULL: free text */
    enum llm_role role;
    unsigned attempt;
    uint64_t max_tokens, asked_ns, asked_wall_ns;
    char who[LLM_WHO_MAX]; /* of the last lease */
    uint64_t lease_end_ns; /* 0: none */
    llm_done_fn *done;
    void *ctx;
    bool over;    /* in ended */
    char *answer; /* NULL: cancelled */
    char model[LLM_MODEL_MAX];
    double seconds;
};

static struct queue *queue_of(const struct llm *m)
{
    return LIST_OF(m, struct queue, llm);
}

static uint64_t now_ns(const struct queue *q)
{
    return q->clock->mono_ns(q->clock);
}

static void queue_changed(struct queue *q)
{
    if (q->changed != NULL)
        q->changed(q->changed_ctx);
}

static size_t job_bytes(const struct llm_job *j)
{
    return strlen(j->system) + strlen(j->prefix) + strlen(j->prompt);
}

static void job_free(struct llm_job *j)
{
    list_remove(&j->link);
    free(j->id);
    free(j->hash);
    free(j->kind);
    free(j->search);
    free(j->task);
    free(j->system);
    free(j->prefix);
    free(j->prompt);
    free(j->schema_name);
    json_decref(j->schema);
    free(j->answer);
    free(j);
}

static struct llm_job *job_find(const struct queue *q, const char *id)
{
    LIST_FOREACH (n, (struct list *)&q->open) {
        struct llm_job *j = LIST_OF(n, struct llm_job, link);

        if (strcmp(j->id, id) == 0)
            return j;
    }
    return NULL;
}

/* ---- Leases ---- */

static double lease_left_s(const struct queue *q, const struct llm_job *j)
{
    uint64_t now = now_ns(q);

    return j->lease_end_ns > now ? (double)(j->lease_end_ns - now) / (double)NS_PER_SEC : 0;
}

/* Does somebody other than `who` (NULL: nobody in particular) hold it? */
static bool leased_away(const struct queue *q, const struct llm_job *j, const char *who)
{
    return lease_left_s(q, j) > 0 && (who == NULL || strcmp(j->who, who) != 0);
}

static int lease_conflict(const struct queue *q, const struct llm_job *j, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "request '%s' is leased to '%s' for another %.0f s", j->id,
                   j->who, ceil(lease_left_s(q, j)));
}

/* Wakes up when the first of the leases runs out. */
static void lease_watch(struct queue *q)
{
    double first = 0;
    struct timeval tv;

    LIST_FOREACH (n, &q->open) {
        double left = lease_left_s(q, LIST_OF(n, struct llm_job, link));

        if (left > 0 && (first <= 0 || left < first))
            first = left;
    }
    if (first <= 0) {
        evtimer_del(q->lease_end);
        return;
    }
    /* A little late, so that the lease is over by then. */
    first += 1e-3;
    tv.tv_sec = (time_t)first;
    tv.tv_usec = (suseconds_t)((first - floor(first)) * 1e6);
    evtimer_add(q->lease_end, &tv);
}

static void on_lease_end(evutil_socket_t fd, short what, void *arg)
{
    struct queue *q = arg;

    (void)fd;
    (void)what;
    lease_watch(q);
    queue_changed(q);
}

static int check_who(const char *who, struct err *err)
{
    char seen[100];

    if (who == NULL || (str_is_name(who) && strlen(who) < LLM_WHO_MAX))
        return 0;
    return err_set(err, ERR_INVALID,
                   "'who' is '%s'; allowed are 1 to %d letters, digits, '_', '.' and '-'",
                   str_visible(who, strlen(who), seen, sizeof(seen)), LLM_WHO_MAX - 1);
}

/* ---- The search's side ---- */

static void job_tell(struct llm_job *j)
{
    struct err err = { .code = ERR_CANCELLED };
    size_t bytes = job_bytes(j);

    if (j->answer != NULL) {
        j->done(j->ctx,
                &(struct llm_answer){ .text = j->answer,
                                      .model = j->model,
                                      .tokens_in = bytes / BYTES_PER_TOKEN,
                                      .tokens_out = strlen(j->answer) / BYTES_PER_TOKEN,
                                      .estimated = true,
                                      .seconds = j->seconds,
                                      .tries = 1 },
                NULL);
    } else {
        err_set(&err, ERR_CANCELLED, "request '%s' was withdrawn before it was answered", j->id);
        j->done(j->ctx, NULL, &err);
    }
    job_free(j);
}

static void on_deliver(evutil_socket_t fd, short what, void *arg)
{
    struct queue *q = arg;

    (void)fd;
    (void)what;
    while (!list_empty(&q->ended))
        job_tell(LIST_OF(q->ended.next, struct llm_job, link));
}

/* Takes the request off the list; who asked is told from the loop. */
static void job_end(struct queue *q, struct llm_job *j)
{
    j->over = true;
    list_remove(&j->link);
    list_append(&q->ended, &j->link);
    event_active(q->deliver, EV_TIMEOUT, 0);
    lease_watch(q);
    queue_changed(q);
}

static char *text_dup(const char *text)
{
    return xstrdup(text != NULL ? text : "");
}

static int check_text(const char *text, const char *what, size_t *total, struct err *err)
{
    json_auto_t *utf8 = NULL;

    if (text == NULL)
        return 0;
    utf8 = json_string(text);
    if (utf8 == NULL)
        return err_set(err, ERR_INVALID, "the %s of a request is no UTF-8", what);
    *total += strlen(text);
    return 0;
}

static int check_request(const struct queue *q, const struct llm_request *req, struct err *err)
{
    size_t total = 0, n = 0;

    if (q->closing)
        return err_set(err, ERR_CANCELLED, "the queue is being shut down");
    if (job_find(q, req->id) != NULL)
        return err_set(err, ERR_INVALID, "request '%s' waits in the queue already", req->id);
    if (check_text(req->system, "system message", &total, err) != 0 ||
        check_text(req->prefix, "prefix", &total, err) != 0 ||
        check_text(req->prompt, "prompt", &total, err) != 0)
        return -1;
    if (total > LLM_PROMPT_MAX)
        return err_set(err, ERR_LIMIT, "a prompt of %zu bytes; at most %d", total, LLM_PROMPT_MAX);
    LIST_FOREACH (at, (struct list *)&q->open) {
        n++;
    }
    if (n >= QUEUE_OPEN_MAX)
        return err_set(err, ERR_LIMIT, "%d requests wait to be answered; at most so many may",
                       QUEUE_OPEN_MAX);
    return 0;
}

static int queue_start(struct llm *m, const struct llm_request *req, llm_done_fn *done, void *ctx,
                       struct llm_job **out, struct err *err)
{
    struct queue *q = queue_of(m);
    struct llm_job *j;

    if (check_request(q, req, err) != 0)
        return -1;
    j = xcalloc(1, sizeof(*j));
    j->id = xstrdup(req->id);
    j->hash = xstrdup(req->hash);
    j->kind = xstrdup(req->kind);
    j->search = xstrdup(req->search);
    j->task = xstrdup(req->task);
    j->system = text_dup(req->system);
    j->prefix = text_dup(req->prefix);
    j->prompt = text_dup(req->prompt);
    if (req->schema != NULL) {
        j->schema_name = xstrdup(req->schema_name != NULL ? req->schema_name : "answer");
        /* A copy: what the caller's is part of may change or go. */
        j->schema = json_deep_copy(req->schema);
    }
    j->role = req->role;
    j->attempt = req->attempt;
    j->max_tokens = req->max_tokens;
    j->asked_ns = now_ns(q);
    j->asked_wall_ns = q->clock->wall_ns(q->clock);
    j->done = done;
    j->ctx = ctx;
    list_append(&q->open, &j->link);
    *out = j;
    queue_changed(q);
    return 0;
}

static void queue_cancel(struct llm *m, struct llm_job *j)
{
    if (!j->over)
        job_end(queue_of(m), j);
}

static json_t *queue_status(const struct llm *m)
{
    const struct queue *q = queue_of(m);
    json_int_t pending = 0, leased = 0;

    LIST_FOREACH (n, (struct list *)&q->open) {
        pending++;
        leased += leased_away(q, LIST_OF(n, struct llm_job, link), NULL);
    }
    return json_pack("{s:I, s:I}", "pending", pending, "leased", leased);
}

static void queue_free(struct llm *m)
{
    struct queue *q = queue_of(m);

    q->closing = true;
    q->changed = NULL;
    while (!list_empty(&q->open))
        job_end(q, LIST_OF(q->open.next, struct llm_job, link));
    on_deliver(-1, 0, q);
    event_free(q->deliver);
    event_free(q->lease_end);
    free(q);
}

int llm_queue_new(struct event_base *base, const struct clock *clock, struct llm **out,
                  struct err *err)
{
    struct queue *q = xcalloc(1, sizeof(*q));

    q->llm = (struct llm){ "queue", queue_start, queue_cancel, queue_status, queue_free };
    q->clock = clock;
    list_init(&q->open);
    list_init(&q->ended);
    q->deliver = event_new(base, -1, 0, on_deliver, q);
    q->lease_end = evtimer_new(base, on_lease_end, q);
    if (q->deliver == NULL || q->lease_end == NULL) {
        if (q->deliver != NULL)
            event_free(q->deliver);
        if (q->lease_end != NULL)
            event_free(q->lease_end);
        free(q);
        return err_set(err, ERR_NOMEM, "no memory for the queue's events");
    }
    *out = &q->llm;
    return 0;
}

/* ---- The answering side ---- */

static json_t *lease_json(const struct queue *q, const struct llm_job *j)
{
    double left = lease_left_s(q, j);

    return left > 0 ? json_pack("{s:s, s:f}", "who", j->who, "left_s", left) : json_null();
}

static json_t *job_json(const struct queue *q, const struct llm_job *j)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:o, s:I, s:s?, s:s}", "id", j->id,
                     "search", j->search, "task", j->task, "kind", j->kind, "role",
                     llm_role_name(j->role), "attempt", (int)j->attempt, "asked",
                     (json_int_t)(j->asked_wall_ns / NS_PER_SEC), "lease", lease_json(q, j),
                     "bytes", (json_int_t)job_bytes(j), "schema", j->schema_name, "hash", j->hash);
}

/* The list's members, and what is only of interest to who answers. */
static json_t *job_whole(const struct queue *q, const struct llm_job *j)
{
    json_t *out = job_json(q, j);

    json_object_set_new(out, "schema_name", j->schema ? json_string(j->schema_name) : json_null());
    json_object_set(out, "schema", j->schema ? j->schema : json_null());
    json_object_set_new(out, "max_tokens", json_integer((json_int_t)j->max_tokens));
    json_object_set_new(out, "system", json_string(j->system));
    json_object_set_new(out, "prefix", json_string(j->prefix));
    json_object_set_new(out, "prompt", json_string(j->prompt));
    return out;
}

json_t *llm_queue_pending(struct llm *queue, const char *search)
{
    struct queue *q = queue_of(queue);
    json_t *out = json_array();

    LIST_FOREACH (n, &q->open) {
        const struct llm_job *j = LIST_OF(n, struct llm_job, link);

        if (search == NULL || strcmp(j->search, search) == 0)
            json_array_append_new(out, job_json(q, j));
    }
    return out;
}

static int find_open(const struct queue *q, const char *id, struct llm_job **out, struct err *err)
{
    char seen[100];

    *out = job_find(q, id);
    if (*out != NULL)
        return 0;
    return err_set(err, ERR_NOT_FOUND,
                   "no request '%s' waits for an answer: it was answered or withdrawn, or never "
                   "asked; 'llm pending' lists those that wait",
                   str_visible(id, strlen(id), seen, sizeof(seen)));
}

/* The oldest request that `who` may have. */
static int find_free(const struct queue *q, const char *search, const char *who,
                     struct llm_job **out, struct err *err)
{
    double soonest = 0;
    size_t held = 0;

    LIST_FOREACH (n, (struct list *)&q->open) {
        struct llm_job *j = LIST_OF(n, struct llm_job, link);
        double left = lease_left_s(q, j);

        if (search != NULL && strcmp(j->search, search) != 0)
            continue;
        if (!leased_away(q, j, who)) {
            *out = j;
            return 0;
        }
        soonest = held++ == 0 ? left : MIN(soonest, left);
    }
    if (held > 0)
        return err_set(err, ERR_NOT_FOUND,
                       "all open requests (%zu) are leased to others; the first lease ends in "
                       "%.0f s",
                       held, ceil(soonest));
    return err_set(err, ERR_NOT_FOUND,
                   search ? "no request of this search waits for an answer"
                          : "no request waits for an answer");
}

int llm_queue_take(struct llm *queue, const char *id, const char *search, const char *who,
                   double lease_s, json_t **out, struct err *err)
{
    struct queue *q = queue_of(queue);
    struct llm_job *j = NULL;

    if (!(lease_s >= 0 && lease_s <= LLM_LEASE_MAX_S))
        return err_set(err, ERR_INVALID, "'lease' is %g s; allowed are 0 to %d", lease_s,
                       LLM_LEASE_MAX_S);
    if (check_who(who, err) != 0)
        return -1;
    if (id == NULL ? find_free(q, search, who, &j, err) != 0 : find_open(q, id, &j, err) != 0)
        return -1;
    if (search != NULL && strcmp(j->search, search) != 0)
        return err_set(err, ERR_NOT_FOUND, "request '%s' is of search '%s'", j->id, j->search);
    if (leased_away(q, j, who))
        return lease_conflict(q, j, err);
    if (who != NULL) {
        str_copy(j->who, sizeof(j->who), who);
        j->lease_end_ns =
            now_ns(q) + (uint64_t)((lease_s > 0 ? lease_s : LLM_LEASE_S) * (double)NS_PER_SEC);
        lease_watch(q);
        queue_changed(q);
    }
    *out = job_whole(q, j);
    return 0;
}

int llm_queue_release(struct llm *queue, const char *id, const char *who, struct err *err)
{
    struct queue *q = queue_of(queue);
    struct llm_job *j;

    if (check_who(who, err) != 0 || find_open(q, id, &j, err) != 0)
        return -1;
    if (leased_away(q, j, who))
        return lease_conflict(q, j, err);
    if (lease_left_s(q, j) <= 0)
        return err_set(err, ERR_CONFLICT, "nobody holds a lease of request '%s'", j->id);
    j->lease_end_ns = 0;
    lease_watch(q);
    queue_changed(q);
    return 0;
}

static int check_answer(const char *text, size_t len, struct err *err)
{
    json_auto_t *utf8 = NULL;

    if (len > LLM_ANSWER_MAX)
        return err_set(err, ERR_LIMIT, "an answer of %zu bytes; at most %d", len, LLM_ANSWER_MAX);
    if (memchr(text, '\0', len) != NULL)
        return err_set(err, ERR_INVALID, "the answer holds a NUL byte; it must be text");
    utf8 = json_stringn(text, len);
    if (utf8 == NULL)
        return err_set(err, ERR_INVALID, "the answer is no UTF-8 text");
    for (size_t i = 0; i < len; i++)
        if (strchr(" \t\r\n", text[i]) == NULL)
            return 0;
    return err_set(err, ERR_INVALID, "the answer is empty");
}

/* "queue", "queue:alice", "queue:alice/gpt-5.2". */
static void model_name(char *out, size_t size, const char *who, const char *model)
{
    CLEANUP(freep)
    char *name = str_printf("queue%s%s%s%s", who || model ? ":" : "", who ? who : "",
                            who && model ? "/" : "", model ? model : "");

    if (name == NULL)
        abort(); /* as xmalloc does */
    str_copy(out, size, name);
}

static int check_model(const char *model, struct err *err)
{
    if (model == NULL || (*model != '\0' && strlen(model) < LLM_MODEL_MAX))
        return 0;
    return err_set(err, ERR_INVALID, "'model' has %zu bytes; allowed are 1 to %d", strlen(model),
                   LLM_MODEL_MAX - 1);
}

int llm_queue_answer(struct llm *queue, const char *id, const char *who, const char *model,
                     const char *text, size_t len, struct err *err)
{
    struct queue *q = queue_of(queue);
    struct llm_job *j;

    if (check_who(who, err) != 0 || check_model(model, err) != 0 || find_open(q, id, &j, err) != 0)
        return -1;
    if (leased_away(q, j, who))
        return lease_conflict(q, j, err);
    if (check_answer(text, len, err) != 0)
        return err_ctx(err, "request '%s' stays open", j->id);
    j->answer = xmalloc(len + 1);
    memcpy(j->answer, text, len);
    j->answer[len] = '\0';
    model_name(j->model, sizeof(j->model), who, model);
    j->seconds = (double)(now_ns(q) - j->asked_ns) / (double)NS_PER_SEC;
    job_end(q, j);
    return 0;
}

void llm_queue_on_change(struct llm *queue, void (*changed)(void *ctx), void *ctx)
{
    struct queue *q = queue_of(queue);

    q->changed = changed;
    q->changed_ctx = ctx;
}
