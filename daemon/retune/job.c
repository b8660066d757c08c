/* SPDX-License-Identifier: Apache-2.0 */
/* Running retunes; see job.h. */
#include "retune/job.h"

#include <event2/event.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "daemon.h"
#include "kb.h"
#include "log.h"
#include "loop.h"
#include "retune/measure.h"
#include "retune/report.h"
#include "rpc/rpc.h"
#include "rpc/rpc_search.h"
#include "sched/searches.h"
#include "sched/turns.h"
#include "work.h"

enum {
    TRIES_MAX = 3, /* evaluations of one step lost to the infrastructure before it is given up */
    SEARCH_EVALS_MIN = 5, /* a search of fewer teaches nothing */
    POLL_MS = 50,
    RETRY_MS = 5000,
    LISTED_MAX = 1000,
    TESTS_SHARE = 4,   /* tests of insights may take this part of the budget */
    CONTROL_FACTOR = 2 /* a control search may take twice what the retune had for a task */
};
#define LIST_KEY "retunes"

enum job_phase {
    JOB_IDLE,
    JOB_STORING,
    JOB_QUEUED, /* for its turn on the processor */
    JOB_MEASURING,
    JOB_RECORDING, /* on a worker: a result, the choice of searches, or the report */
    JOB_SEARCHING,
    JOB_WAITING /* storage failed; tried again after a while */
};

enum step { STEP_KNOWN, STEP_MEASURE, STEP_CHOOSE, STEP_SEARCH, STEP_REPORT };

struct job {
    struct list node; /* in retunes.live */
    struct retunes *owner;
    char id[SEARCH_ID_MAX];
    json_t *doc, *progress;
    enum job_phase phase;
    bool cancelled;
    struct turn turn;
    struct work work;
    struct event *timer;
    retune_done_fn *done;
    void *arg;
    /* of the step under way; `step` and `ending` are what the worker goes by */
    enum step step;
    bool ending; /* because it was cancelled */
    struct eval_job *eval;
    struct eval_result result;
    bool has_result;
    unsigned tries;
    uint64_t began_ns, seed;
    struct search_scope scope;
    json_t *program;
    json_t *next; /* progress as it will be, made by the worker */
    char lost[300];
};

struct retunes {
    struct daemon *daemon;
    struct list live;
    bool closing;
};

/* Reading and writing the list of all retunes is one step. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

static void job_wake(struct job *job);

static uint64_t mono(const struct job *job)
{
    const struct clock *c = job->owner->daemon->clock;

    return c->mono_ns(c);
}

/* ---- Notices ---- */

static void publish(struct job *job, const char *type, json_t *event)
{
    struct daemon *d = job->owner->daemon;
    char key[64];

    snprintf(key, sizeof(key), "retune:%s", job->id);
    if (event == NULL || !rpc_subscribed(d->rpc, key)) {
        json_decref(event);
        return;
    }
    json_object_set_new(event, "type", json_string(type));
    json_object_set(event, "spent_evals", json_object_get(job->progress, "spent_evals"));
    json_object_set(event, "budget", json_object_get(job->doc, "budget"));
    rpc_notify(d->rpc, key, "retune.event",
               json_pack("{s:s, s:o}", "retune", job->id, "event", event));
}

static void publish_end(struct job *job)
{
    struct daemon *d = job->owner->daemon;
    char key[64];

    snprintf(key, sizeof(key), "retune:%s", job->id);
    rpc_notify(
        d->rpc, key, "retune.end",
        json_pack("{s:s, s:s}", "retune", job->id, "state", jsonx_str(job->progress, "state", "")));
    rpc_end_stream(d->rpc, key);
}

/* ---- What comes next: a function of the two documents ---- */

static size_t n_results(const struct job *job)
{
    return json_array_size(json_object_get(job->progress, "results"));
}

static double budget_evals(const struct job *job)
{
    return jsonx_num(json_object_get(job->doc, "budget"), "evals", 0);
}

/* Seconds left of the budget; infinite without one. */
static double time_left(const struct job *job)
{
    double budget = jsonx_num(json_object_get(job->doc, "budget"), "time", 0);

    return budget > 0 ? budget - 1e-9 * jsonx_num(job->progress, "spent_ns", 0) : INFINITY;
}

/* Old best programs may take all of the budget, tests of insights a quarter of it. */
static bool may_measure(const struct job *job, const json_t *step)
{
    double spent = jsonx_num(job->progress, "spent_evals", 0);
    bool is_test = json_object_get(step, "insight") != NULL;

    return time_left(job) > 0 &&
           spent < (is_test ? budget_evals(job) / TESTS_SHARE : budget_evals(job));
}

/* The number of the search that comes next; SIZE_MAX when all are over. */
static size_t next_search(const struct job *job)
{
    json_t *search;
    size_t i;

    json_array_foreach (json_object_get(job->progress, "searches"), i, search) {
        if (!jsonx_bool(search, "over", 0))
            return i;
    }
    return SIZE_MAX;
}

static enum step next_step(const struct job *job)
{
    const json_t *step = json_array_get(json_object_get(job->doc, "steps"), n_results(job));

    if (job->cancelled)
        return STEP_REPORT;
    if (json_object_get(job->progress, "searches") == NULL) {
        if (step != NULL && json_object_get(step, "known") != NULL)
            return STEP_KNOWN;
        return step != NULL && may_measure(job, step) ? STEP_MEASURE : STEP_CHOOSE;
    }
    return next_search(job) != SIZE_MAX ? STEP_SEARCH : STEP_REPORT;
}

/* ---- Storing ---- */

static char *doc_key(const char *id, bool progress)
{
    char *key = str_printf("retune/%s%s", id, progress ? "/progress" : "");

    if (key == NULL)
        abort(); /* as xmalloc does */
    return key;
}

static int put_progress(struct kb_batch *b, const char *id, const json_t *progress, struct err *err)
{
    CLEANUP(freep) char *key = doc_key(id, true);

    return kb_batch_put_doc(b, KB_SIDE, key, progress, err);
}

static int read_list(struct kb *kb, json_t **out, struct err *err)
{
    if (kb_get_doc(kb, KB_SIDE, LIST_KEY, out, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *out = json_pack("{s:[]}", "retunes");
    return 0;
}

/* Sets the entry of this retune in the list, in the batch. Call with list_lock held. */
static int put_listed(struct kb *kb, struct kb_batch *b, const struct job *job, const char *state,
                      struct err *err)
{
    json_auto_t *list = NULL;
    json_t *rows, *row, *mine = NULL;
    size_t i;

    if (read_list(kb, &list, err) != 0)
        return -1;
    rows = json_object_get(list, "retunes");
    json_array_foreach (rows, i, row) {
        if (strcmp(jsonx_str(row, "id", ""), job->id) == 0)
            mine = row;
    }
    if (mine == NULL) {
        mine = json_pack("{s:s, s:s, s:s, s:b, s:O}", "id", job->id, "device",
                         jsonx_str(job->doc, "device", ""), "from", jsonx_str(job->doc, "from", ""),
                         "toolchain", jsonx_bool(job->doc, "toolchain", 0), "created",
                         json_object_get(job->doc, "created"));
        json_array_append_new(rows, mine);
        if (json_array_size(rows) > LISTED_MAX)
            json_array_remove(rows, 0);
    }
    json_object_set_new(mine, "state", json_string(state));
    return kb_batch_put_doc(b, KB_SIDE, LIST_KEY, list, err);
}

static struct job *job_of(struct work *w)
{
    return LIST_OF(w, struct job, work);
}

static int store_run(struct work *w, struct err *err)
{
    struct job *job = job_of(w);
    struct kb *kb = job->owner->daemon->kb;
    CLEANUP(freep) char *key = doc_key(job->id, false);
    struct kb_batch *b = kb_batch_new(kb);
    int rc = -1;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to store a retune");
    pthread_mutex_lock(&list_lock);
    if (kb_batch_put_doc(b, KB_SIDE, key, job->doc, err) == 0 &&
        put_progress(b, job->id, job->progress, err) == 0 &&
        put_listed(kb, b, job, "running", err) == 0)
        rc = kb_commit(b, err);
    pthread_mutex_unlock(&list_lock);
    kb_batch_free(b);
    return rc;
}

/* ---- Steps on a worker ---- */

static json_t *lost_entry(const char *message)
{
    return json_pack("{s:s, s:i, s:i, s:s, s:s}", "status", "lost", "objective_q", 0, "sd_q", 0,
                     "fact", "", "message", message);
}

static void add_spent(struct job *job, json_t *next, long long evals)
{
    uint64_t ns = mono(job) - job->began_ns;

    json_object_set_new(next, "spent_evals",
                        json_integer(jsonx_int(next, "spent_evals", 0) + evals));
    json_object_set_new(next, "spent_ns",
                        json_integer(jsonx_int(next, "spent_ns", 0) + (json_int_t)ns));
}

/* The result under way, and whatever is known after it. */
static int record_result(struct job *job, struct kb_batch *b, json_t *next, struct err *err)
{
    const json_t *steps = json_object_get(job->doc, "steps"), *step;
    json_t *results = json_object_get(next, "results"), *entry;

    if (job->has_result) {
        bool measured = job->lost[0] == '\0';

        if (!measured)
            entry = lost_entry(job->lost);
        else if (measure_record(job->owner->daemon, b, json_object_get(job->doc, "device_record"),
                                steps, results, &job->result, &job->scope, job->program, job->seed,
                                &entry, err) != 0)
            return -1;
        json_array_append_new(results, entry);
        add_spent(job, next, measured);
    }
    while ((step = json_array_get(steps, json_array_size(results))) != NULL &&
           json_object_get(step, "known") != NULL)
        json_array_append(results, json_object_get(step, "known"));
    return 0;
}

/* How much a task changed: the carried program's log against the old one, refuted insights. */
static double change_of(const struct job *job, const json_t *task)
{
    const json_t *steps = json_object_get(job->doc, "steps"),
                 *results = json_object_get(job->progress, "results");
    const char *name = jsonx_str(task, "task", "");
    double change = 0, old = jsonx_num(json_object_get(task, "old"), "objective", 1);
    const char *failed;
    double effect, sd;
    json_t *item;
    size_t i;

    json_array_foreach ((json_t *)results, i, item) {
        const json_t *step = json_array_get(steps, i);

        if (strcmp(jsonx_str(step, "task", ""), name) != 0 ||
            json_object_get(step, "insight") != NULL)
            continue;
        if (strcmp(jsonx_str(item, "status", ""), "ok") == 0)
            change += fabs(1e-6 * jsonx_num(item, "objective_q", 0) - log(fmax(old, 1e-9)));
        else
            change += 1; /* the best program fails there */
    }
    json_array_foreach (json_object_get(job->doc, "insights"), i, item) {
        if (strcmp(jsonx_str(item, "task", ""), name) == 0 &&
            report_verdict(item, steps, results, &effect, &sd, &failed) == -1)
            change += fabs(effect) + 0.01;
    }
    return change;
}

struct changed {
    const json_t *task;
    double change;
};

static int by_change(const void *pa, const void *pb)
{
    const struct changed *a = pa, *b = pb;

    if (a->change != b->change)
        return a->change > b->change ? -1 : 1;
    return strcmp(jsonx_str(a->task, "task", ""), jsonx_str(b->task, "task", ""));
}

static void add_search(json_t *searches, const json_t *task_row, const char *kind, uint64_t evals,
                       double time_s)
{
    char id[SEARCH_ID_MAX];
    json_t *row;

    rpc_search_new_id(id);
    row = json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:b}", "id", id, "task",
                    jsonx_str(task_row, "task", ""), "set", jsonx_str(task_row, "set", ""), "kind",
                    kind, "evals", (json_int_t)evals, "started", 0, "over", 0);
    if (isfinite(time_s))
        json_object_set_new(row, "time", json_real(time_s));
    json_array_append_new(searches, row);
}

/* What is left of the budget goes to short warm searches, those tasks first that changed most. */
static void choose_searches(struct job *job, json_t *next)
{
    const json_t *tasks = json_object_get(job->doc, "tasks");
    CLEANUP(freep)
    struct changed *v = xcalloc(json_array_size(tasks) + 1, sizeof(*v));
    json_t *searches = json_array(), *task;
    double left = budget_evals(job) - jsonx_num(next, "spent_evals", 0);
    size_t i, n = 0, some;

    json_array_foreach ((json_t *)tasks, i, task) {
        if (jsonx_bool(task, "measurable", 0))
            v[n++] = (struct changed){ task, change_of(job, task) };
    }
    qsort(v, n, sizeof(*v), by_change);
    some = MIN(n, left > 0 ? (size_t)(left / SEARCH_EVALS_MIN) : 0);
    if (time_left(job) <= 0)
        some = 0;
    for (i = 0; i < some; i++) {
        /* Equal shares; the first get what does not divide. */
        uint64_t share = (uint64_t)left / some + (i < (uint64_t)left % some);

        add_search(searches, v[i].task, "warm", share, time_left(job) / (double)some);
    }
    for (i = 0; jsonx_bool(job->doc, "control", 0) && i < n; i++)
        add_search(searches, v[i].task, "control",
                   (uint64_t)(CONTROL_FACTOR * budget_evals(job) / (double)n), INFINITY);
    json_object_set_new(next, "searches", searches);
}

/* Marks the search under way as started, or as over with what it spent. */
static int record_search(struct job *job, json_t *next, struct err *err)
{
    json_t *row = json_array_get(json_object_get(next, "searches"), next_search(job));
    json_auto_t *doc = NULL;
    struct kb *kb = job->owner->daemon->kb;

    if (!jsonx_bool(row, "started", 0)) {
        json_object_set_new(row, "started", json_true());
        return 0;
    }
    json_object_set_new(row, "over", json_true());
    if (job->lost[0]) {
        json_object_set_new(row, "started", json_false());
        json_object_set_new(row, "state", json_string(job->lost));
        return 0;
    }
    if (kb_get_doc(kb, KB_SEARCH, jsonx_str(row, "id", ""), &doc, err) != 0)
        return err_ctx(err, "a retune's search");
    json_object_set(row, "state", json_object_get(doc, "state"));
    if (strcmp(jsonx_str(row, "kind", ""), "warm") == 0)
        add_spent(job, next, jsonx_int(doc, "evaluations", 0));
    return 0;
}

static int make_report(struct job *job, struct kb_batch *b, json_t *next, struct err *err)
{
    struct kb *kb = job->owner->daemon->kb;
    const char *state = job->ending ? "cancelled" : "done";
    json_t *report;

    if (report_make(kb, job->doc, next, &report, err) != 0)
        return -1;
    json_object_set_new(next, "report", report);
    json_object_set_new(next, "state", json_string(state));
    return put_listed(kb, b, job, state, err);
}

static int step_run(struct work *w, struct err *err)
{
    struct job *job = job_of(w);
    struct kb_batch *b = kb_batch_new(job->owner->daemon->kb);
    int rc = -1;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a step of a retune");
    job->next = json_deep_copy(job->progress);
    pthread_mutex_lock(&list_lock); /* for the report's sake */
    switch (job->step) {
    case STEP_KNOWN:
    case STEP_MEASURE:
        rc = record_result(job, b, job->next, err);
        break;
    case STEP_CHOOSE:
        choose_searches(job, job->next);
        rc = 0;
        break;
    case STEP_SEARCH:
        rc = record_search(job, job->next, err);
        break;
    case STEP_REPORT:
        rc = make_report(job, b, job->next, err);
        break;
    }
    if (rc == 0 && put_progress(b, job->id, job->next, err) == 0)
        rc = kb_commit(b, err);
    else
        rc = -1;
    pthread_mutex_unlock(&list_lock);
    kb_batch_free(b);
    return rc;
}

/* ---- The loop's side ---- */

static void step_clear(struct job *job)
{
    if (job->has_result && job->lost[0] == '\0')
        eval_result_release(&job->result);
    job->has_result = false;
    job->lost[0] = '\0';
    search_scope_release(&job->scope);
    memset(&job->scope, 0, sizeof(job->scope));
    json_decref(job->program);
    job->program = NULL;
    json_decref(job->next);
    job->next = NULL;
}

static void job_free(struct job *job)
{
    step_clear(job);
    if (job->timer != NULL)
        event_free(job->timer);
    json_decref(job->doc);
    json_decref(job->progress);
    free(job);
}

static void free_later(void *arg)
{
    job_free(arg);
}

static void wait_ms(struct job *job, enum job_phase phase, int ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    job->phase = phase;
    event_add(job->timer, &tv);
}

/* What watchers are told of the step that was stored. */
static void tell_step(struct job *job, size_t results_before, bool chose)
{
    const json_t *results = json_object_get(job->progress, "results");

    for (size_t i = results_before; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        const json_t *step = json_array_get(json_object_get(job->doc, "steps"), i);
        json_t *event =
            json_pack("{s:s, s:s, s:s, s:b, s:O}", "task", jsonx_str(step, "task", ""), "why",
                      jsonx_str(step, "why", ""), "status", jsonx_str(r, "status", ""), "known",
                      json_object_get(step, "known") != NULL, "assignment",
                      json_object_get(step, "assignment"));

        if (strcmp(jsonx_str(r, "status", ""), "ok") == 0)
            json_object_set_new(event, "objective",
                                json_real(exp(1e-6 * jsonx_num(r, "objective_q", 0))));
        publish(job, "measured", event);
    }
    if (chose)
        publish(job, "searches",
                json_pack("{s:O}", "searches", json_object_get(job->progress, "searches")));
}

static void job_over(struct job *job)
{
    log_info("retune %s is %s", job->id, jsonx_str(job->progress, "state", ""));
    publish_end(job);
    list_remove(&job->node);
    loop_defer(job->owner->daemon->loop, free_later, job);
}

static void step_done(struct work *w, const struct err *err)
{
    struct job *job = job_of(w);
    size_t before = n_results(job);
    bool chose;

    turns_end(&job->turn);
    if (err != NULL) {
        bool closing = job->owner->closing;

        if (!closing)
            log_error("retune %s: %s", job->id, err->msg);
        step_clear(job);
        job->phase = JOB_IDLE;
        if (!closing)
            wait_ms(job, JOB_WAITING, RETRY_MS);
        return;
    }
    chose = json_object_get(job->progress, "searches") == NULL &&
            json_object_get(job->next, "searches") != NULL;
    json_decref(job->progress);
    job->progress = TAKE(job->next);
    step_clear(job);
    job->tries = 0;
    job->phase = JOB_IDLE;
    tell_step(job, before, chose);
    if (strcmp(jsonx_str(job->progress, "state", ""), "running") != 0)
        job_over(job);
    else
        job_wake(job);
}

static void submit(struct job *job)
{
    job->step = next_step(job);
    job->ending = job->cancelled;
    job->phase = JOB_RECORDING;
    job->work.run = step_run;
    job->work.done = step_done;
    work_submit(job->owner->daemon->work, &job->work);
}

static void give_up(struct job *job, const char *why)
{
    str_copy(job->lost, sizeof(job->lost), why);
    job->has_result = true;
    submit(job);
}

/* ---- Measuring ---- */

static void start_measuring(struct job *job);

static void measured(void *ctx, const struct eval_result *r, const json_t *record)
{
    struct job *job = ctx;
    bool ours = !eval_status_blames(r->status) && r->status != EVAL_OK;
    bool doubtful = r->status == EVAL_UNSTABLE || r->status == EVAL_CLOCK_TAMPERED;
    struct err err;

    job->eval = NULL;
    if (r->status == EVAL_CANCELLED) {
        turns_end(&job->turn);
        step_clear(job);
        job->phase = JOB_IDLE;
        if (!job->owner->closing)
            job_wake(job);
        return;
    }
    if ((ours || doubtful) && ++job->tries < TRIES_MAX) {
        step_clear(job);
        start_measuring(job);
    } else if (ours) {
        give_up(job, r->message);
    } else if (eval_result_from_json((json_t *)record, &job->result, &err) != 0) {
        give_up(job, err.msg);
    } else {
        job->has_result = true;
        submit(job);
    }
}

static void start_measuring(struct job *job)
{
    struct daemon *d = job->owner->daemon;
    const json_t *step = json_array_get(json_object_get(job->doc, "steps"), n_results(job));
    struct rng rng = rng_derive((uint64_t)jsonx_int(job->doc, "seed", 0), "retune",
                                n_results(job) * TRIES_MAX + job->tries);
    struct err err;

    job->phase = JOB_MEASURING;
    job->seed = rng_u64(&rng);
    if (measure_start(d, json_object_get(job->doc, "device_record"), step, job->seed, &job->scope,
                      &job->program, measured, job, &job->eval, &err) != 0) {
        job->eval = NULL;
        give_up(job, err.msg);
    }
}

static void turn_go(struct turn *t)
{
    struct job *job = LIST_OF(t, struct job, turn);

    job->began_ns = mono(job);
    start_measuring(job);
}

/* Looking a measurement up takes no machine's time. */
static void measure(struct job *job)
{
    const json_t *step = json_array_get(json_object_get(job->doc, "steps"), n_results(job)), *task;
    const json_t *tasks = json_object_get(job->doc, "tasks");
    const char *kind = jsonx_str(json_object_get(job->doc, "device_record"), "kind", "");
    bool recorded = false;
    size_t i;

    json_array_foreach ((json_t *)tasks, i, task) {
        if (strcmp(jsonx_str(task, "task", ""), jsonx_str(step, "task", "")) == 0)
            recorded = jsonx_bool(task, "recorded", 0);
    }
    job->phase = JOB_QUEUED;
    if (recorded)
        turn_go(&job->turn);
    else
        turns_ask(job->owner->daemon->turns,
                  strcmp(kind, "cpu") == 0 ? "cpu" : jsonx_str(job->doc, "device", ""), &job->turn);
}

/* ---- Searching ---- */

static void launched(void *arg, const char *id, const struct err *err)
{
    struct job *job = arg;

    (void)id;
    if (err != NULL && !job->owner->closing) {
        str_copy(job->lost, sizeof(job->lost), err->msg);
        log_error("retune %s could not search: %s", job->id, err->msg);
        submit(job); /* it is over before it began */
        return;
    }
    wait_ms(job, JOB_SEARCHING, POLL_MS);
}

/* Is the search stored already, by a daemon that was killed after it had started it? */
static bool is_stored(struct job *job, const char *id)
{
    struct err ignored;
    json_t *doc;

    if (kb_get_doc(job->owner->daemon->kb, KB_SEARCH, id, &doc, &ignored) != 0)
        return false;
    json_decref(doc);
    return true;
}

static void launch(struct job *job, const json_t *row)
{
    const char *kind = jsonx_str(row, "kind", ""), *id = jsonx_str(row, "id", "");
    json_auto_t *params =
        json_pack("{s:s, s:s, s:s, s:b, s:I, s:{s:O}}", "task", jsonx_str(row, "task", ""), "set",
                  jsonx_str(row, "set", ""), "device", jsonx_str(job->doc, "device", ""), "cold",
                  strcmp(kind, "control") == 0, "seed", (json_int_t)jsonx_int(job->doc, "seed", 0),
                  "budget", "evals", json_object_get(row, "evals"));

    if (json_object_get(row, "time") != NULL)
        json_object_set(json_object_get(params, "budget"), "time", json_object_get(row, "time"));
    publish(job, "search", json_deep_copy(row));
    rpc_search_launch(job->owner->daemon, id, params, launched, job);
}

/*
 * One search after the other: noted as begun, started unless it is stored, waited for, noted as
 * over.
 */
static void search_on(struct job *job)
{
    const json_t *row =
        json_array_get(json_object_get(job->progress, "searches"), next_search(job));
    const char *id = jsonx_str(row, "id", "");

    if (!jsonx_bool(row, "started", 0)) {
        job->began_ns = mono(job);
        submit(job);
        return;
    }
    job->phase = JOB_SEARCHING;
    if (searches_live_state(job->owner->daemon->searches, id) != SEARCH_STATE_COUNT)
        wait_ms(job, JOB_SEARCHING, POLL_MS);
    else if (is_stored(job, id))
        submit(job);
    else
        launch(job, row);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct job *job = arg;

    LOOP_CALLBACK("retune_timer");
    (void)fd;
    (void)what;
    job->phase = JOB_IDLE;
    job_wake(job);
}

static void job_wake(struct job *job)
{
    if (job->phase != JOB_IDLE || job->owner->closing)
        return;
    if (job->began_ns == 0)
        job->began_ns = mono(job);
    switch (next_step(job)) {
    case STEP_MEASURE:
        measure(job);
        return;
    case STEP_SEARCH:
        search_on(job);
        return;
    case STEP_KNOWN:
    case STEP_CHOOSE:
    case STEP_REPORT:
        submit(job);
        return;
    }
}

/* ---- Starting ---- */

static struct job *job_new(struct retunes *rs, const char *id, json_t *doc, json_t *progress)
{
    struct job *job = xcalloc(1, sizeof(*job));

    job->owner = rs;
    str_copy(job->id, sizeof(job->id), id);
    job->doc = doc;
    job->progress = progress;
    job->turn.go = turn_go;
    job->timer = evtimer_new(loop_base(rs->daemon->loop), on_timer, job);
    list_append(&rs->live, &job->node);
    return job;
}

static void store_done(struct work *w, const struct err *err)
{
    struct job *job = job_of(w);

    job->phase = JOB_IDLE;
    job->done(job->arg, job->id, err);
    if (err != NULL) {
        list_remove(&job->node);
        loop_defer(job->owner->daemon->loop, free_later, job);
        return;
    }
    log_info("retune %s: from %s to %s, %zu insights, %zu planned", job->id,
             jsonx_str(job->doc, "from", ""), jsonx_str(job->doc, "device", ""),
             json_array_size(json_object_get(job->doc, "insights")),
             json_array_size(json_object_get(job->doc, "plan")));
    job_wake(job);
}

void retunes_start(struct retunes *rs, json_t *doc, retune_done_fn *done, void *arg)
{
    struct daemon *d = rs->daemon;
    char id[SEARCH_ID_MAX];
    struct job *job;

    rpc_search_new_id(id);
    id[0] = 'r';
    json_object_set_new(doc, "id", json_string(id));
    json_object_set_new(doc, "created",
                        json_integer((json_int_t)(d->clock->wall_ns(d->clock) / NS_PER_SEC)));
    job = job_new(rs, id, doc,
                  json_pack("{s:s, s:[], s:i, s:i}", "state", "running", "results", "spent_evals",
                            0, "spent_ns", 0));
    job->done = done;
    job->arg = arg;
    job->phase = JOB_STORING;
    job->work.run = store_run;
    job->work.done = store_done;
    work_submit(d->work, &job->work);
}

static struct job *find_job(const struct retunes *rs, const char *id)
{
    for (struct list *n = rs->live.next; n != &rs->live; n = n->next)
        if (strcmp(LIST_OF(n, struct job, node)->id, id) == 0)
            return LIST_OF(n, struct job, node);
    return NULL;
}

/* The same tasks in any order; none asked for is all. */
static bool same_tasks(const json_t *doc, const json_t *asked)
{
    const json_t *mine = json_object_get(doc, "asked");
    json_t *a, *b;
    size_t i, k;

    if (json_array_size(mine) != json_array_size(asked))
        return false;
    json_array_foreach ((json_t *)mine, i, a) {
        bool found = false;

        json_array_foreach ((json_t *)asked, k, b)
            found |= json_equal(a, b);
        if (!found)
            return false;
    }
    return true;
}

const char *retunes_find(const struct retunes *rs, const char *device, const char *from,
                         bool toolchain, const json_t *tasks)
{
    for (struct list *n = rs->live.next; n != &rs->live; n = n->next) {
        const struct job *job = LIST_OF(n, const struct job, node);

        if (strcmp(jsonx_str(job->doc, "device", ""), device) == 0 && !job->cancelled &&
            job->phase != JOB_STORING && jsonx_bool(job->doc, "toolchain", 0) == toolchain &&
            (from == NULL || strcmp(jsonx_str(job->doc, "from", ""), from) == 0) &&
            same_tasks(job->doc, tasks))
            return job->id;
    }
    return NULL;
}

bool retunes_live(const struct retunes *rs, const char *id)
{
    return find_job(rs, id) != NULL;
}

static void cancelled(void *arg, const char *id, const struct err *err)
{
    (void)arg;
    (void)id;
    (void)err; /* it ended by itself meanwhile */
}

int retunes_cancel(struct retunes *rs, const char *id, struct err *err)
{
    struct job *job = find_job(rs, id);
    const json_t *row;

    if (job == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no retune '%s' under way", id);
    if (job->cancelled)
        return err_set(err, ERR_CONFLICT, "retune '%s' is being cancelled already", id);
    job->cancelled = true;
    switch (job->phase) {
    case JOB_MEASURING:
        if (job->eval != NULL)
            evaluator_cancel(job->eval);
        break;
    case JOB_QUEUED:
        turns_end(&job->turn);
        job->phase = JOB_IDLE;
        break;
    case JOB_SEARCHING:
        row = json_array_get(json_object_get(job->progress, "searches"), next_search(job));
        if (row != NULL && event_pending(job->timer, EV_TIMEOUT, NULL)) {
            searches_request(rs->daemon->searches, jsonx_str(row, "id", ""), SEARCHES_CANCEL,
                             cancelled, NULL);
            event_del(job->timer);
            job->phase = JOB_IDLE;
        }
        break;
    case JOB_WAITING:
        event_del(job->timer);
        job->phase = JOB_IDLE;
        break;
    case JOB_IDLE:
    case JOB_STORING:
    case JOB_RECORDING:
        break;
    }
    job_wake(job);
    return 0;
}

/* ---- Opening and closing ---- */

static int reopen(struct retunes *rs, const char *id, struct err *err)
{
    CLEANUP(freep) char *key = doc_key(id, false), *progress_key = doc_key(id, true);
    json_auto_t *doc = NULL, *progress = NULL;

    if (kb_get_doc(rs->daemon->kb, KB_SIDE, key, &doc, err) != 0 ||
        kb_get_doc(rs->daemon->kb, KB_SIDE, progress_key, &progress, err) != 0)
        return -1;
    log_info("retune %s goes on (%zu of %zu steps)", id,
             json_array_size(json_object_get(progress, "results")),
             json_array_size(json_object_get(doc, "steps")));
    job_wake(job_new(rs, id, json_incref(doc), json_incref(progress)));
    return 0;
}

int retunes_open(struct daemon *d, struct retunes **out, struct err *err)
{
    struct retunes *rs = xcalloc(1, sizeof(*rs));
    json_auto_t *list = NULL;
    json_t *row;
    size_t i;

    rs->daemon = d;
    list_init(&rs->live);
    if (read_list(d->kb, &list, err) != 0) {
        free(rs);
        return err_ctx(err, "looking for unfinished retunes");
    }
    *out = rs;
    d->retunes = rs; /* what is woken below may look for it */
    json_array_foreach (json_object_get(list, "retunes"), i, row) {
        struct err problem;

        if (strcmp(jsonx_str(row, "state", ""), "running") == 0 &&
            reopen(rs, jsonx_str(row, "id", ""), &problem) != 0)
            log_error("retune %s cannot go on: %s", jsonx_str(row, "id", ""), problem.msg);
    }
    return 0;
}

void retunes_close(struct retunes *rs)
{
    if (rs == NULL)
        return;
    rs->closing = true;
    LIST_FOREACH (n, &rs->live) {
        struct job *job = LIST_OF(n, struct job, node);

        if (job->eval != NULL)
            evaluator_cancel(job->eval);
    }
    for (bool busy = true; busy;) {
        busy = false;
        LIST_FOREACH (n, &rs->live) {
            struct job *job = LIST_OF(n, struct job, node);

            if (job->phase == JOB_STORING || job->phase == JOB_MEASURING ||
                job->phase == JOB_RECORDING ||
                (job->phase == JOB_SEARCHING && !event_pending(job->timer, EV_TIMEOUT, NULL)))
                busy = true;
        }
        if (busy)
            loop_turn(rs->daemon->loop, true);
    }
    LIST_FOREACH (n, &rs->live) {
        struct job *job = LIST_OF(n, struct job, node);

        turns_end(&job->turn);
        list_remove(&job->node);
        job_free(job);
    }
    free(rs);
}

/* ---- Answers ---- */

json_t *retune_plan_json(const json_t *doc)
{
    static const char *const members[] = { "from",  "toolchain", "budget", "delta",   "roofline",
                                           "tasks", "insights",  "plan",   "left_out" };
    json_t *out = json_pack("{s:s}", "to", jsonx_str(doc, "device", ""));

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (json_object_get(doc, members[i]) != NULL)
            json_object_set(out, members[i], json_object_get(doc, members[i]));
    return out;
}

int retune_show(struct daemon *d, const char *id, json_t **out, struct err *err)
{
    CLEANUP(freep) char *key = doc_key(id, false), *progress_key = doc_key(id, true);
    json_auto_t *doc = NULL, *progress = NULL;
    json_t *show, *report;

    if (kb_get_doc(d->kb, KB_SIDE, key, &doc, err) != 0 ||
        kb_get_doc(d->kb, KB_SIDE, progress_key, &progress, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            err_set(err, ERR_NOT_FOUND, "there is no retune '%s'", id);
        return -1;
    }
    report = json_object_get(progress, "report");
    if (report != NULL)
        json_incref(report);
    else if (report_make(d->kb, doc, progress, &report, err) != 0)
        return -1;
    show = retune_plan_json(doc);
    json_object_set_new(show, "id", json_string(id));
    json_object_set(show, "created", json_object_get(doc, "created"));
    json_object_set(show, "state", json_object_get(progress, "state"));
    if (json_object_get(progress, "searches") != NULL)
        json_object_set(show, "searches", json_object_get(progress, "searches"));
    json_object_set_new(show, "report", report);
    *out = show;
    return 0;
}

int retune_list(struct daemon *d, json_t **out, struct err *err)
{
    json_auto_t *list = NULL;
    json_t *rows, *newest_first = json_array();

    if (read_list(d->kb, &list, err) != 0) {
        json_decref(newest_first);
        return -1;
    }
    rows = json_object_get(list, "retunes");
    for (size_t i = json_array_size(rows); i > 0; i--)
        json_array_append(newest_first, json_array_get(rows, i - 1));
    *out = json_pack("{s:o}", "retunes", newest_first);
    return 0;
}
