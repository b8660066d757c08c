/* SPDX-License-Identifier: Apache-2.0 */
/* All searches of the daemon; see searches.h. */
#include "sched/searches.h"

#include <assert.h>
#include <event2/event.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "eval/launcher.h"
#include "log.h"
#include "loop.h"
#include "rpc/rpc.h"
#include "sched/turns.h"
#include "search/outcome.h"
#include "search/planner.h"
#include "work.h"

enum { STALL_RETRY_S = 5 };

enum phase {
    PHASE_IDLE,
    PHASE_QUEUED,
    PHASE_PLANNING,
    PHASE_MEASURING,
    PHASE_DUELLING,
    PHASE_RECORDING,
    PHASE_CONTROLLING,
    PHASE_STALLED
};

struct runner {
    struct list node; /* in searches.live */
    struct searches *owner;
    struct search *search;
    struct turn turn;
    struct work work;
    enum phase phase;
    /* of the step under way */
    uint64_t turn_started_ns, own_ns, sync_ns, seed;
    struct eval_job *job;
    bool has_result, has_duel, duelled_twice;
    struct eval_result result, duel;
    json_t *notices;      /* made by the worker, sent by the loop */
    struct search *fresh; /* loaded again after a failed write */
    bool diverged;        /* and could not be loaded: memory is ahead of the base */
    char held_up[300];    /* guarded by searches.lock */
    struct event *retry;
    enum search_state
        state; /* after the last step, for the loop: the search itself may be with a worker */
    /* a change asked for */
    enum searches_control want;
    searches_done_fn *want_done;
    void *want_arg;
};

struct searches {
    struct daemon *daemon;
    struct list live;
    /* Guards the list and runner.search against readers on workers; the loop alone writes. */
    pthread_rwlock_t lock;
    bool closing;
};

static void runner_wake(struct runner *r);

void search_spec_release(struct search_spec *spec)
{
    free(spec->task);
    free(spec->device);
    free(spec->set);
    free(spec->proposer);
    free(spec->strategy);
    memset(spec, 0, sizeof(*spec));
}

void search_scope_release(struct search_scope *scope)
{
    free(scope->family);
    free(scope->shape);
    free(scope->dtype);
    free(scope->language);
    free(scope->bottleneck);
    free(scope->device_class);
    free(scope->toolchain);
    json_decref(scope->features);
    json_decref(scope->relatives);
    memset(scope, 0, sizeof(*scope));
}

static struct runner *find_runner(const struct searches *ss, const char *id)
{
    for (struct list *n = ss->live.next; n != &ss->live; n = n->next) {
        struct runner *r = LIST_OF(n, struct runner, node);

        if (strcmp(r->search->spec.id, id) == 0)
            return r;
    }
    return NULL;
}

static uint64_t mono(const struct runner *r)
{
    return r->owner->daemon->clock->mono_ns(r->owner->daemon->clock);
}

/* ---- Notices: what watchers are told ---- */

static const struct trial *trial_of_event(const struct search *s, const json_t *ev)
{
    return search_trial(s, (uint64_t)jsonx_int(ev, "evaluation", 0));
}

static void describe_trial(const struct search *s, const struct trial *t, json_t *n)
{
    json_object_set_new(n, "title", json_string(t->title));
    json_object_set_new(n, "why", json_string(t->why));
    json_object_set_new(n, "arm",
                        json_string(t->adopted[0]                 ? "adopted"
                                    : t->arm == ENGINE_ARM_MEMORY ? "memory"
                                                                  : "memory-free"));
    json_object_set_new(n, "assignment", space_to_json(s->space, t->a));
    if (t->measured) {
        json_object_set_new(n, "objective",
                            t->ok ? json_real(exp(1e-6 * (double)t->objective_q)) : json_null());
        json_object_set_new(n, "best",
                            t->has_best ? json_real(exp(1e-6 * (double)t->best_q)) : json_null());
    }
    if (t->predicted)
        json_object_set_new(n, "predicted",
                            json_pack("{s:f, s:f}", "objective", exp(t->mean), "log_sd", t->sd));
}

/* An event as clients see it: without what only the fold needs, with what a person wants to know.
 */
static json_t *notice_of(const struct search *s, const json_t *ev)
{
    json_t *n = json_deep_copy(ev);
    const struct trial *t = trial_of_event(s, ev);

    json_object_del(n, "edit");
    json_object_del(n, "memory");
    json_object_del(n, "choice");
    if (t != NULL)
        describe_trial(s, t, n);
    json_object_set_new(n, "budget",
                        json_pack("{s:I, s:I}", "evals", (json_int_t)s->spec.budget_evals, "spent",
                                  (json_int_t)search_measured(s)));
    return n;
}

static void make_notices(struct runner *r, const json_t *events)
{
    const json_t *ev;
    size_t i;

    if (r->notices == NULL)
        r->notices = json_array();
    json_array_foreach (events, i, ev)
        if (strcmp(jsonx_str(ev, "type", ""), "edited") != 0)
            json_array_append_new(r->notices, notice_of(r->search, ev));
}

static void publish(struct runner *r)
{
    struct daemon *d = r->owner->daemon;
    char key[64];
    json_t *ev;
    size_t i;

    r->state = r->search->state;
    snprintf(key, sizeof(key), "search:%s", r->search->spec.id);
    json_array_foreach (r->notices, i, ev)
        if (rpc_subscribed(d->rpc, key))
            rpc_notify(d->rpc, key, "search.event",
                       json_pack("{s:s, s:O}", "search", r->search->spec.id, "event", ev));
    json_decref(r->notices);
    r->notices = NULL;
    if (search_is_over(r->search->state)) {
        rpc_notify(d->rpc, key, "search.end",
                   json_pack("{s:s, s:s}", "search", r->search->spec.id, "state",
                             search_state_name(r->search->state)));
        rpc_end_stream(d->rpc, key);
    }
}

/* ---- Steps on a worker ---- */

typedef int step_fn(struct runner *r, struct journal *j, struct err *err);

/*
 * One step: fold and batch under the search's lock, one synced write. When it fails, the search in
 * memory is ahead of the base, so it is loaded again; the step is then taken anew.
 */
static int run_step(struct runner *r, step_fn *step, struct err *err)
{
    struct search *s = r->search;
    uint64_t start = mono(r);
    struct err ignored;
    struct journal j;
    int rc;

    pthread_mutex_lock(&s->lock);
    rc = journal_open(&j, s, r->owner->daemon->clock, err);
    if (rc == 0) {
        rc = step(r, &j, err);
        if (rc == 0)
            rc = journal_commit(&j, err);
        if (rc == 0) {
            make_notices(r, j.events);
            r->sync_ns += kb_batch_sync_ns(j.batch);
        }
        journal_close(&j);
    }
    r->own_ns += mono(r) - start;
    pthread_mutex_unlock(&s->lock);
    if (rc != 0 && search_load(s->kb, s->spec.id, false, &r->fresh, &ignored) != 0)
        r->fresh = NULL;
    return rc;
}

static struct runner *runner_of(struct work *w)
{
    return LIST_OF(w, struct runner, work);
}

static int plan_step(struct runner *r, struct journal *j, struct err *err)
{
    (void)r;
    return planner_step(j, err);
}

static int plan_run(struct work *w, struct err *err)
{
    return run_step(runner_of(w), plan_step, err);
}

static int record_step(struct runner *r, struct journal *j, struct err *err)
{
    struct outcome o = { &r->result, r->has_duel ? &r->duel : NULL, mono(r) - r->turn_started_ns,
                         r->seed };

    return outcome_record(j, &o, err);
}

static int record_run(struct work *w, struct err *err)
{
    struct runner *r = runner_of(w);
    int rc = run_step(r, record_step, err);

    if (rc == 0)
        search_note_overhead(r->search, r->own_ns - r->sync_ns, r->sync_ns);
    return rc;
}

static int control_step(struct runner *r, struct journal *j, struct err *err)
{
    static const struct {
        const char *type, *reason;
    } rows[] = {
        [SEARCHES_PAUSE] = { "paused", "paused by the user" },
        [SEARCHES_RESUME] = { "resumed", "" },
        [SEARCHES_CANCEL] = { "cancelled", "cancelled by the user" },
        [SEARCHES_FAIL] = { "failed", NULL },
    };
    const char *reason = rows[r->want].reason ? rows[r->want].reason : r->held_up;

    return journal_add(j, json_pack("{s:s, s:s}", "type", rows[r->want].type, "reason", reason),
                       err);
}

static int control_run(struct work *w, struct err *err)
{
    return run_step(runner_of(w), control_step, err);
}

/* ---- The loop's side ---- */

static void clear_results(struct runner *r)
{
    if (r->has_result)
        eval_result_release(&r->result);
    if (r->has_duel)
        eval_result_release(&r->duel);
    r->has_result = r->has_duel = r->duelled_twice = false;
}

static void runner_free(void *arg)
{
    struct runner *r = arg;

    clear_results(r);
    if (r->retry)
        event_free(r->retry);
    json_decref(r->notices);
    search_free(r->fresh);
    search_free(r->search);
    free(r);
}

static void runner_remove(struct runner *r)
{
    struct searches *ss = r->owner;

    pthread_rwlock_wrlock(&ss->lock);
    list_remove(&r->node);
    pthread_rwlock_unlock(&ss->lock);
    loop_defer(ss->daemon->loop, runner_free, r);
}

static void answer_want(struct runner *r, const struct err *err)
{
    searches_done_fn *done = r->want_done;

    r->want = SEARCHES_NONE;
    r->want_done = NULL;
    if (done)
        done(r->want_arg, r->search->spec.id, err);
}

/* Will the same step fail again, whatever happens to disk and memory? */
static bool is_hopeless(const struct runner *r, const struct err *err)
{
    return err->code != ERR_IO && err->code != ERR_NOMEM && err->code != ERR_CANCELLED &&
           !r->diverged && r->want == SEARCHES_NONE;
}

/*
 * A step failed: go back to what is stored. Storage is tried again after a while; a step that
 * cannot succeed ends the search with the reason.
 */
static void stall(struct runner *r, const struct err *err)
{
    struct timeval wait = { STALL_RETRY_S, 0 };
    struct search *old = r->search;

    log_error("search %s: %s", old->spec.id, err->msg);
    json_decref(r->notices);
    r->notices = NULL;
    r->diverged = r->fresh == NULL;
    pthread_rwlock_wrlock(&r->owner->lock);
    str_copy(r->held_up, sizeof(r->held_up), err->msg);
    if (r->fresh) {
        r->search = TAKE(r->fresh);
        search_free(old);
    }
    pthread_rwlock_unlock(&r->owner->lock);
    clear_results(r);
    turns_end(&r->turn);
    r->state = r->search->state;
    if (is_hopeless(r, err)) {
        r->want = SEARCHES_FAIL;
        r->phase = PHASE_IDLE;
        runner_wake(r);
        return;
    }
    r->phase = PHASE_STALLED;
    event_add(r->retry, &wait);
}

static void retry_cb(evutil_socket_t fd, short what, void *arg)
{
    struct runner *r = arg;

    LOOP_CALLBACK("search_retry");
    (void)fd;
    (void)what;
    if (r->diverged) {
        /* Blocks, but only while storage that failed is being waited for. */
        struct err err;

        if (search_load(r->search->kb, r->search->spec.id, false, &r->fresh, &err) != 0)
            r->fresh = NULL;
        else
            err_set(&err, ERR_IO, "storage failed before");
        stall(r, &err);
        return;
    }
    r->phase = PHASE_IDLE;
    runner_wake(r);
}

/* Ends a step's turn and looks what comes next. */
static void step_over(struct runner *r)
{
    publish(r);
    clear_results(r);
    if (r->held_up[0]) {
        pthread_rwlock_wrlock(&r->owner->lock);
        r->held_up[0] = '\0';
        pthread_rwlock_unlock(&r->owner->lock);
    }
    r->phase = PHASE_IDLE;
    turns_end(&r->turn);
    if (search_is_over(r->search->state)) {
        struct err over = { .code = ERR_OK };

        log_info("search %s is %s: %s", r->search->spec.id, search_state_name(r->search->state),
                 r->search->reason);
        if (r->want != SEARCHES_NONE) {
            err_set(&over, ERR_CONFLICT, "search '%s' is %s", r->search->spec.id,
                    search_state_name(r->search->state));
            answer_want(r, r->want == SEARCHES_CANCEL && r->search->state == SEARCH_CANCELLED
                               ? NULL
                               : &over);
        }
        runner_remove(r);
        return;
    }
    runner_wake(r);
}

static void record_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);

    if (err == NULL)
        step_over(r);
    else
        stall(r, err);
}

static void submit(struct runner *r, enum phase phase, int (*run)(struct work *, struct err *),
                   void (*done)(struct work *, const struct err *))
{
    r->phase = phase;
    r->work.run = run;
    r->work.done = done;
    work_submit(r->owner->daemon->work, &r->work);
}

static void measure_done(void *ctx, const struct eval_result *result, const json_t *record);

/* Build macros of an assignment as the evaluator wants them; `holder` keeps the strings. */
static size_t assignment_defines(const struct search *s, const uint16_t *a, json_t **holder,
                                 struct eval_define *out)
{
    const char *name;
    json_t *value;
    size_t n = 0;

    *holder = space_defines(s->space, a);
    json_object_foreach (*holder, name, value)
        if (n < EVAL_DEFINES_MAX)
            out[n++] = (struct eval_define){ name, json_string_value(value) };
    return n;
}

static void start_evaluation(struct runner *r, bool duel)
{
    struct daemon *d = r->owner->daemon;
    struct search *s = r->search;
    struct trial *t = search_open_trial(s), *champion = search_trial(s, s->champion);
    const struct pack_definition *def = packs_find(d->packs, s->spec.task);
    struct eval_define mine[EVAL_DEFINES_MAX], his[EVAL_DEFINES_MAX];
    json_t *holder = NULL, *his_holder = NULL;
    struct rng rng = rng_derive(s->spec.seed, duel ? "duel" : "measure",
                                t->n * 8 + (duel ? r->duelled_twice : t->tries));
    struct eval_request req = {
        .pack = def ? def->pack : NULL,
        .definition = s->spec.task,
        .set = s->spec.set,
        .device = s->spec.device,
        .seed = rng_u64(&rng),
        .threads = (uint32_t)d->conf->eval_threads,
        .read_gbs = s->scope.read_gbs,
        .fma_gflops = s->scope.fma_gflops,
        .limits = eval_default_limits(),
        .timing = { (uint32_t)d->conf->pairs_min, (uint32_t)d->conf->pairs_max,
                    d->conf->timing_budget_s },
    };
    uint64_t start = mono(r);
    struct err err;
    int rc;

    req.candidate.source = s->source;
    req.candidate.source_len = strlen(s->source);
    req.candidate.defines = mine;
    req.candidate.n_defines = assignment_defines(s, t->a, &holder, mine);
    if (duel) {
        req.champion = req.candidate;
        req.champion.defines = his;
        req.champion.n_defines = assignment_defines(s, champion->a, &his_holder, his);
    } else {
        r->seed = req.seed;
    }
    r->phase = duel ? PHASE_DUELLING : PHASE_MEASURING;
    rc = evaluator_start(d->evaluator, &req, measure_done, r, &r->job, &err);
    json_decref(holder);
    json_decref(his_holder);
    r->own_ns += mono(r) - start;
    if (rc != 0) {
        r->job = NULL;
        eval_result_fail(&r->result, EVAL_INFRASTRUCTURE, s->spec.task, s->spec.set, err.msg);
        r->has_result = true;
        submit(r, PHASE_RECORDING, record_run, record_done);
    }
}

/* Keeps a copy of a borrowed result; a record that does not parse again is our fault, not the
 * candidate's. */
static void keep_result(const struct eval_result *from, const json_t *record,
                        struct eval_result *to)
{
    struct err err;

    if (from->status == EVAL_INFRASTRUCTURE)
        eval_result_fail(to, EVAL_INFRASTRUCTURE, from->definition ? from->definition : "",
                         from->set ? from->set : "", from->message);
    else if (eval_result_from_json((json_t *)record, to, &err) != 0)
        eval_result_fail(to, EVAL_INFRASTRUCTURE, from->definition, from->set, err.msg);
}

static void measure_done(void *ctx, const struct eval_result *result, const json_t *record)
{
    struct runner *r = ctx;
    bool duel = r->phase == PHASE_DUELLING;

    r->job = NULL;
    if (result->status == EVAL_CANCELLED) {
        clear_results(r);
        r->phase = PHASE_IDLE;
        turns_end(&r->turn);
        runner_wake(r);
        return;
    }
    /* A duel that the machine spoiled is fought once more: its loser would never be proposed again.
     */
    if (duel && result->status != EVAL_OK && !r->duelled_twice) {
        r->duelled_twice = true;
        start_evaluation(r, true);
        return;
    }
    keep_result(result, record, duel ? &r->duel : &r->result);
    *(duel ? &r->has_duel : &r->has_result) = true;
    if (!duel && outcome_wants_duel(r->search, &r->result))
        start_evaluation(r, true);
    else
        submit(r, PHASE_RECORDING, record_run, record_done);
}

static void plan_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);

    if (err != NULL) {
        stall(r, err);
        return;
    }
    if (search_open_trial(r->search) == NULL || r->want == SEARCHES_CANCEL || r->owner->closing) {
        step_over(r);
        return;
    }
    publish(r);
    start_evaluation(r, false);
}

static void turn_go(struct turn *t)
{
    struct runner *r = LIST_OF(t, struct runner, turn);

    r->turn_started_ns = mono(r);
    r->own_ns = r->sync_ns = 0;
    submit(r, PHASE_PLANNING, plan_run, plan_done);
}

static void control_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);

    if (err != NULL) {
        answer_want(r, err);
        stall(r, err);
        return;
    }
    r->state = r->search->state;
    answer_want(r, NULL);
    step_over(r);
}

/*
 * All CPU devices are this one machine, under whatever name and flags it was probed, so they share
 * one turn.
 */
static const char *turn_name(const struct search *s)
{
    return str_has_prefix(s->scope.device_class, "cpu") ? "cpu" : s->spec.device;
}

/* Looks what an idle search should do: a change asked for first, else its next turn. */
static void runner_wake(struct runner *r)
{
    if (r->phase != PHASE_IDLE || r->owner->closing)
        return;
    if (r->want != SEARCHES_NONE) {
        submit(r, PHASE_CONTROLLING, control_run, control_done);
        return;
    }
    if (r->search->state == SEARCH_PAUSED || search_is_over(r->search->state))
        return;
    r->phase = PHASE_QUEUED;
    turns_ask(r->owner->daemon->turns, turn_name(r->search), &r->turn);
}

static struct runner *runner_new(struct searches *ss, struct search *s)
{
    struct runner *r = xcalloc(1, sizeof(*r));

    r->owner = ss;
    r->search = s;
    r->state = s->state;
    r->turn.go = turn_go;
    r->retry = evtimer_new(loop_base(ss->daemon->loop), retry_cb, r);
    pthread_rwlock_wrlock(&ss->lock);
    list_append(&ss->live, &r->node);
    pthread_rwlock_unlock(&ss->lock);
    return r;
}

/* ---- Starting ---- */

struct start {
    struct work work;
    struct searches *owner;
    struct search_spec spec;
    struct search_scope scope;
    json_t *program;
    struct search *search;
    searches_done_fn *done;
    void *arg;
};

static int start_run(struct work *w, struct err *err)
{
    struct start *st = LIST_OF(w, struct start, work);
    struct kb *kb = st->owner->daemon->kb;
    struct kb_batch *b = kb_batch_new(kb);
    const struct clock *c = st->owner->daemon->clock;
    json_t *doc = search_document(&st->spec, &st->scope, c->wall_ns(c) / NS_PER_SEC);
    int rc = -1;

    if (b == NULL || doc == NULL)
        err_set(err, ERR_NOMEM, "no memory to start a search");
    else if (kb_batch_put_doc(b, KB_PROGRAM, st->scope.program.hex, st->program, err) == 0 &&
             kb_batch_put_doc(b, KB_SEARCH, st->spec.id, doc, err) == 0 && kb_commit(b, err) == 0)
        rc = search_new(kb, doc, false, &st->search, err);
    kb_batch_free(b);
    json_decref(doc);
    return rc;
}

static void start_done(struct work *w, const struct err *err)
{
    struct start *st = LIST_OF(w, struct start, work);

    if (err == NULL && !st->owner->closing) {
        struct runner *r = runner_new(st->owner, TAKE(st->search));

        log_info("search %s: %s on %s, %s, seed %llu, %llu evaluations", st->spec.id, st->spec.task,
                 st->spec.device, st->spec.cold ? "cold" : "warm",
                 (unsigned long long)st->spec.seed, (unsigned long long)st->spec.budget_evals);
        st->done(st->arg, st->spec.id, NULL);
        runner_wake(r);
    } else {
        struct err stopping = { .code = ERR_CANCELLED, .msg = "the daemon is stopping" };

        st->done(st->arg, st->spec.id, err ? err : &stopping);
    }
    search_free(st->search);
    search_spec_release(&st->spec);
    search_scope_release(&st->scope);
    json_decref(st->program);
    free(st);
}

void searches_start(struct searches *ss, struct search_spec *spec, struct search_scope *scope,
                    const char *template_source, json_t *space, searches_done_fn *done, void *arg)
{
    struct start *st = xcalloc(1, sizeof(*st));
    struct err ignored;
    json_t *identity = json_pack("{s:s, s:s, s:s}", "language", scope->language, "settings",
                                 "-O3 -march=native", "source", template_source);

    st->owner = ss;
    st->done = done;
    st->arg = arg;
    /* A program is addressed by its source and build settings alone. */
    id_of_json(identity, &scope->program, &ignored);
    json_decref(identity);
    st->program = json_pack("{s:s, s:s, s:s, s:s, s:O}", "language", scope->language, "settings",
                            "-O3 -march=native", "source", template_source, "family", scope->family,
                            "space", space);
    st->spec = *spec;
    st->scope = *scope;
    memset(spec, 0, sizeof(*spec));
    memset(scope, 0, sizeof(*scope));
    st->work.run = start_run;
    st->work.done = start_done;
    work_submit(ss->daemon->work, &st->work);
}

/* ---- Requests ---- */

/* Requests on searches that are over need an answer from the base: off the loop. */
struct late {
    struct work work;
    struct searches *owner;
    char id[SEARCH_ID_MAX];
    searches_done_fn *done;
    void *arg;
};

static int late_run(struct work *w, struct err *err)
{
    struct late *l = LIST_OF(w, struct late, work);
    json_t *doc;

    if (kb_get_doc(l->owner->daemon->kb, KB_SEARCH, l->id, &doc, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            err_set(err, ERR_NOT_FOUND, "there is no search '%s'; 'search list' shows them", l->id);
        return -1;
    }
    err_set(err, ERR_CONFLICT, "search '%s' is %s already", l->id, jsonx_str(doc, "state", "over"));
    json_decref(doc);
    return -1;
}

static void late_done(struct work *w, const struct err *err)
{
    struct late *l = LIST_OF(w, struct late, work);

    l->done(l->arg, l->id, err);
    free(l);
}

static bool may_request(const struct runner *r, enum searches_control what, struct err *err)
{
    enum search_state state = r->state;

    if (r->want != SEARCHES_NONE)
        return err_set(err, ERR_CONFLICT, "search '%s' is being changed already; ask again",
                       r->search->spec.id) == 0;
    if (what == SEARCHES_RESUME && state != SEARCH_PAUSED)
        return err_set(err, ERR_CONFLICT, "search '%s' is %s; only a paused one can be resumed",
                       r->search->spec.id, search_state_name(state)) == 0;
    if (what == SEARCHES_PAUSE && state == SEARCH_PAUSED)
        return err_set(err, ERR_CONFLICT, "search '%s' is paused already", r->search->spec.id) == 0;
    return true;
}

void searches_request(struct searches *ss, const char *id, enum searches_control what,
                      searches_done_fn *done, void *arg)
{
    struct runner *r = find_runner(ss, id);
    struct err err;

    if (r == NULL) {
        struct late *l = xcalloc(1, sizeof(*l));

        l->owner = ss;
        str_copy(l->id, sizeof(l->id), id);
        l->done = done;
        l->arg = arg;
        l->work.run = late_run;
        l->work.done = late_done;
        work_submit(ss->daemon->work, &l->work);
        return;
    }
    if (!may_request(r, what, &err)) {
        done(arg, id, &err);
        return;
    }
    r->want = what;
    r->want_done = done;
    r->want_arg = arg;
    if (r->phase == PHASE_QUEUED) {
        turns_end(&r->turn);
        r->phase = PHASE_IDLE;
    } else if (r->phase == PHASE_STALLED) {
        event_del(r->retry);
        r->phase = PHASE_IDLE;
    } else if (r->job != NULL && what == SEARCHES_CANCEL) {
        evaluator_cancel(r->job);
    }
    runner_wake(r);
}

int searches_with(struct searches *ss, const char *id,
                  int (*fn)(void *ctx, const struct search *s, const char *held_up,
                            struct err *err),
                  void *ctx, struct err *err)
{
    struct search *stored;
    struct runner *r;
    int rc;

    pthread_rwlock_rdlock(&ss->lock);
    r = find_runner(ss, id);
    if (r != NULL) {
        pthread_mutex_lock(&r->search->lock);
        rc = fn(ctx, r->search, r->held_up, err);
        pthread_mutex_unlock(&r->search->lock);
        pthread_rwlock_unlock(&ss->lock);
        return rc;
    }
    pthread_rwlock_unlock(&ss->lock);
    if (search_load(ss->daemon->kb, id, true, &stored, err) != 0)
        return -1;
    rc = fn(ctx, stored, "", err);
    search_free(stored);
    return rc;
}

enum search_state searches_live_state(const struct searches *ss, const char *id)
{
    const struct runner *r = find_runner(ss, id);

    return r ? r->state : SEARCH_STATE_COUNT;
}

json_t *searches_status(const struct searches *ss)
{
    json_int_t counts[SEARCH_STATE_COUNT] = { 0 };
    json_t *status = json_object();

    for (struct list *n = ss->live.next; n != &ss->live; n = n->next)
        counts[LIST_OF(n, struct runner, node)->state]++;
    for (int i = 0; i < SEARCH_STATE_COUNT; i++)
        if (counts[i])
            json_object_set_new(status, search_state_name((enum search_state)i),
                                json_integer(counts[i]));
    return status;
}

/* ---- Opening and closing ---- */

struct unfinished {
    size_t n;
    char (*ids)[SEARCH_ID_MAX];
};

static int list_unfinished(void *ctx, const char *key, const json_t *doc)
{
    struct unfinished *u = ctx;
    enum search_state state = search_state_from_name(jsonx_str(doc, "state", ""));

    if (state == SEARCH_STATE_COUNT || search_is_over(state))
        return 0;
    u->ids = xrealloc(u->ids, (u->n + 1) * sizeof(*u->ids));
    str_copy(u->ids[u->n++], SEARCH_ID_MAX, key);
    return 0;
}

int searches_open(struct daemon *d, struct searches **out, struct err *err)
{
    struct searches *ss = xcalloc(1, sizeof(*ss));
    struct unfinished u = { 0 };

    ss->daemon = d;
    list_init(&ss->live);
    pthread_rwlock_init(&ss->lock, NULL);
    if (kb_each_doc(d->kb, KB_SEARCH, list_unfinished, &u, err) != 0) {
        searches_close(ss);
        return err_ctx(err, "looking for unfinished searches");
    }
    *out = ss;
    for (size_t i = 0; i < u.n; i++) {
        struct search *s;
        struct err problem;

        if (search_load(d->kb, u.ids[i], false, &s, &problem) != 0) {
            log_error("search %s cannot go on: %s", u.ids[i], problem.msg);
            continue;
        }
        log_info("search %s goes on (%s, %llu of %llu evaluations)", s->spec.id,
                 search_state_name(s->state), (unsigned long long)search_measured(s),
                 (unsigned long long)s->spec.budget_evals);
        runner_wake(runner_new(ss, s));
    }
    free(u.ids);
    return 0;
}

void searches_close(struct searches *ss)
{
    if (ss == NULL)
        return;
    ss->closing = true;
    LIST_FOREACH (n, &ss->live) {
        struct runner *r = LIST_OF(n, struct runner, node);

        if (r->job)
            evaluator_cancel(r->job);
    }
    /* What is under way ends on the loop: evaluations as cancelled, work when it is done. */
    for (bool busy = true; busy;) {
        busy = false;
        LIST_FOREACH (n, &ss->live) {
            struct runner *r = LIST_OF(n, struct runner, node);

            if (r->phase != PHASE_IDLE && r->phase != PHASE_STALLED && r->phase != PHASE_QUEUED)
                busy = true;
        }
        if (busy)
            loop_turn(ss->daemon->loop, true);
    }
    LIST_FOREACH (n, &ss->live) {
        struct runner *r = LIST_OF(n, struct runner, node);

        if (r->want != SEARCHES_NONE) {
            struct err stopping = { .code = ERR_CANCELLED, .msg = "the daemon is stopping" };

            answer_want(r, &stopping);
        }
        turns_end(&r->turn);
        list_remove(&r->node);
        runner_free(r);
    }
    pthread_rwlock_destroy(&ss->lock);
    free(ss);
}
