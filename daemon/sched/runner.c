/* SPDX-License-Identifier: Apache-2.0 */
/* One live search on its way through its turns; see runner.h. */
#include "sched/runner.h"

#include <event2/event.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "log.h"
#include "loop.h"
#include "rpc/rpc.h"
#include "sched/evaluation.h"
#include "sched/step.h"
#include "search/outcome.h"

enum { STALL_RETRY_S = 5 };

/* ---- Notices: what watchers are told ---- */

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

/* ---- The loop's side ---- */

static void clear_results(struct runner *r)
{
    if (r->has_result)
        eval_result_release(&r->result);
    if (r->has_duel)
        eval_result_release(&r->duel);
    r->has_result = r->has_duel = r->duelled_twice = false;
}

void runner_free(struct runner *r)
{
    clear_results(r);
    talk_close(r);
    if (r->retry)
        event_free(r->retry);
    json_decref(r->notices);
    search_free(r->fresh);
    searches_drop(r->owner, r->search);
    free(r);
}

static void free_later(void *arg)
{
    runner_free(arg);
}

static void runner_remove(struct runner *r)
{
    struct searches *ss = r->owner;

    pthread_mutex_lock(&ss->lock);
    list_remove(&r->node);
    pthread_mutex_unlock(&ss->lock);
    ss->ended++;
    loop_defer(ss->daemon->loop, free_later, r);
}

void runner_answer(struct runner *r, const struct err *err)
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
    pthread_mutex_lock(&r->owner->lock);
    str_copy(r->held_up, sizeof(r->held_up), err->msg);
    if (r->fresh) {
        r->search = TAKE(r->fresh);
        r->search->history = r->owner->daemon->history;
    }
    pthread_mutex_unlock(&r->owner->lock);
    if (r->search != old)
        searches_drop(r->owner, old);
    clear_results(r);
    turns_end(&r->turn);
    r->state = r->search->state;
    if (is_hopeless(r, err)) {
        r->want = SEARCHES_FAIL;
        str_copy(r->why, sizeof(r->why), err->msg);
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
        pthread_mutex_lock(&r->owner->lock);
        r->held_up[0] = '\0';
        pthread_mutex_unlock(&r->owner->lock);
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
            runner_answer(r, r->want == SEARCHES_CANCEL && r->search->state == SEARCH_CANCELLED
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

static void start_evaluation(struct runner *r, bool duel)
{
    struct err err;

    r->phase = duel ? PHASE_DUELLING : PHASE_MEASURING;
    if (evaluation_start(r, duel, measure_done, &err) == 0)
        return;
    r->job = NULL;
    eval_result_fail(duel ? &r->duel : &r->result, EVAL_INFRASTRUCTURE, r->search->spec.task,
                     r->search->spec.set, err.msg);
    *(duel ? &r->has_duel : &r->has_result) = true;
    submit(r, PHASE_RECORDING, step_record, record_done);
}

/* An evaluation is over, and no worker has the search. */
static void measured(struct runner *r)
{
    bool duel = r->phase == PHASE_DUELLING;
    struct eval_result result = r->ended;

    r->has_ended = false;
    if (r->was_cancelled || r->keep_failed) {
        if (!r->was_cancelled)
            eval_result_release(&result);
        if (r->keep_failed) {
            r->keep_failed = false;
            stall(r, &r->keep_err);
            return;
        }
        clear_results(r);
        r->phase = PHASE_IDLE;
        turns_end(&r->turn);
        runner_wake(r);
        return;
    }
    /* A duel that the machine spoiled is fought once more: its loser would never be proposed again.
     */
    if (duel && result.status != EVAL_OK && !r->duelled_twice) {
        eval_result_release(&result);
        r->duelled_twice = true;
        start_evaluation(r, true);
        return;
    }
    *(duel ? &r->duel : &r->result) = result;
    *(duel ? &r->has_duel : &r->has_result) = true;
    if (!duel && r->search->holdout.open == 0 && outcome_wants_duel(r->search, &r->result))
        start_evaluation(r, true);
    else
        submit(r, PHASE_RECORDING, step_record, record_done);
}

static void measure_done(void *ctx, const struct eval_result *result, const json_t *record)
{
    struct runner *r = ctx;

    r->job = NULL;
    r->has_ended = true;
    r->was_cancelled = result->status == EVAL_CANCELLED;
    if (!r->was_cancelled)
        evaluation_keep(result, record, &r->ended);
    if (!r->keeping)
        measured(r);
}

/* Is there something to evaluate: a trial, or a champion on the hold-out set? */
static bool wants_machine(const struct search *s)
{
    return search_open_trial(s) != NULL || s->holdout.open != 0;
}

static void plan_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);

    if (err != NULL) {
        stall(r, err);
        return;
    }
    if (!wants_machine(r->search) || r->want == SEARCHES_CANCEL || r->owner->closing) {
        step_over(r);
        return;
    }
    publish(r);
    start_evaluation(r, false);
}

/*
 * All CPU devices are this one machine, under whatever name and flags it was probed, so they share
 * one turn.
 */
static const char *turn_name(const struct search *s)
{
    return str_has_prefix(s->scope.device_class, "cpu") ? "cpu" : s->spec.device;
}

static void set_held_up(struct runner *r, const char *text)
{
    pthread_mutex_lock(&r->owner->lock);
    str_copy(r->held_up, sizeof(r->held_up), text);
    pthread_mutex_unlock(&r->owner->lock);
}

/* A search that its model has left stops by itself, and says why. */
static void give_in(struct runner *r)
{
    set_held_up(r, r->talk.trouble);
    str_copy(r->why, sizeof(r->why), r->talk.trouble);
    r->want = r->talk.missing ? SEARCHES_FAIL : SEARCHES_PAUSE;
    r->phase = PHASE_IDLE;
    runner_wake(r);
}

static void turn_go(struct turn *t);

/* ---- Answers that arrive beside an evaluation ---- */

static bool may_keep(const struct runner *r)
{
    return (r->phase == PHASE_QUEUED || r->phase == PHASE_MEASURING ||
            r->phase == PHASE_DUELLING) &&
           !r->keeping && !r->keep_failed && !r->has_ended && talk_has_arrived(r);
}

static void keep_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);

    r->keeping = false;
    talk_after(r, err == NULL);
    if (err == NULL) {
        publish(r);
    } else if (r->job != NULL || r->has_ended) {
        r->keep_failed = true;
        r->keep_err = *err;
        if (r->job != NULL)
            evaluator_cancel(r->job);
    } else {
        r->turn_came = false;
        stall(r, err);
        return;
    }
    if (r->has_ended) {
        measured(r);
        return;
    }
    if (r->turn_came && !r->owner->closing)
        turn_go(&r->turn);
    runner_wake(r); /* more may have arrived meanwhile */
}

/* An answer may have taken long and cost much: it does not wait for the evaluation to be over. */
static void keep(struct runner *r)
{
    talk_before(r);
    r->keeping = true;
    r->work.run = step_store;
    r->work.done = keep_done;
    work_submit(r->owner->daemon->work, &r->work);
}

void runner_keep(struct runner *r)
{
    struct err err;

    if (!talk_has_arrived(r) || search_is_over(r->search->state) || r->phase == PHASE_STALLED)
        return;
    talk_before(r);
    if (step_store(&r->work, &err) != 0)
        log_error("search %s: answers that had arrived are lost: %s", r->search->spec.id, err.msg);
    talk_after(r, true);
}

/* What a model's search does after planning: evaluate in its turn, wait for answers, or end. */
static void talk_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);
    char text[300];

    talk_after(r, err == NULL);
    if (err != NULL) {
        stall(r, err);
        return;
    }
    if (!r->owner->closing && !search_is_over(r->search->state))
        talk_start(r);
    if (r->owner->closing || r->want != SEARCHES_NONE || search_is_over(r->search->state)) {
        step_over(r);
        return;
    }
    publish(r);
    if (r->search->state == SEARCH_RUNNING && r->talk.hopeless) {
        give_in(r);
        return;
    }
    if (r->search->state == SEARCH_RUNNING && wants_machine(r->search)) {
        set_held_up(r, "");
        r->phase = PHASE_QUEUED;
        if (r->search->recorded)
            turn_go(&r->turn);
        else
            turns_ask(r->owner->daemon->turns, turn_name(r->search), &r->turn);
        runner_wake(r); /* what arrived while it planned does not wait for the evaluation */
        return;
    }
    talk_text(r, text, sizeof(text));
    set_held_up(r, r->search->state == SEARCH_RUNNING ? text : "");
    r->phase = PHASE_WAITING;
    if (talk_has_arrived(r))
        runner_wake(r);
}

static void turn_go(struct turn *t)
{
    struct runner *r = LIST_OF(t, struct runner, turn);

    r->turn_came = r->keeping;
    if (r->keeping)
        return;
    r->turn_started_ns = r->owner->daemon->clock->mono_ns(r->owner->daemon->clock);
    if (r->talk.model != NULL) {
        r->start_ns = 0;
        start_evaluation(r, false);
        return;
    }
    r->own_ns = r->sync_ns = r->plan_ns = r->start_ns = 0;
    submit(r, PHASE_PLANNING, step_plan, plan_done);
}

static void control_done(struct work *w, const struct err *err)
{
    struct runner *r = runner_of(w);

    if (err != NULL) {
        runner_answer(r, err);
        stall(r, err);
        return;
    }
    r->state = r->search->state;
    runner_answer(r, NULL);
    step_over(r);
}

/* Plans with the model; a paused search stores what arrived all the same. */
static void wake_talk(struct runner *r)
{
    struct err err;

    if (r->talk.model == NULL && talk_open(r, &err) != 0) {
        r->talk.hopeless = true;
        str_copy(r->talk.trouble, sizeof(r->talk.trouble), err.msg);
        if (r->search->state != SEARCH_PAUSED)
            give_in(r);
        return;
    }
    if (r->search->state == SEARCH_PAUSED && !talk_has_arrived(r))
        return;
    r->own_ns = r->sync_ns = r->plan_ns = 0;
    talk_before(r);
    submit(r, PHASE_PLANNING, step_talk, talk_done);
}

void runner_wake(struct runner *r)
{
    if (r->keeping)
        return;
    if (may_keep(r) && !r->owner->closing) {
        keep(r);
        return;
    }
    if ((r->phase != PHASE_IDLE && r->phase != PHASE_WAITING) || r->owner->closing)
        return;
    if (r->want != SEARCHES_NONE) {
        if (r->want == SEARCHES_RESUME)
            talk_hope(r);
        submit(r, PHASE_CONTROLLING, step_control, control_done);
        return;
    }
    if (search_is_over(r->search->state))
        return;
    if (search_has_model(r->search)) {
        wake_talk(r);
        return;
    }
    if (r->search->state == SEARCH_PAUSED)
        return;
    r->phase = PHASE_QUEUED;
    /* Looking a measurement up takes no machine's time: recorded searches wait for nobody. */
    if (r->search->recorded) {
        turn_go(&r->turn);
        return;
    }
    turns_ask(r->owner->daemon->turns, turn_name(r->search), &r->turn);
}

struct runner *runner_new(struct searches *ss, struct search *s)
{
    struct runner *r = xcalloc(1, sizeof(*r));

    r->owner = ss;
    r->search = s;
    s->history = ss->daemon->history;
    r->state = s->state;
    r->turn.go = turn_go;
    list_init(&r->talk.calls);
    r->retry = evtimer_new(loop_base(ss->daemon->loop), retry_cb, r);
    pthread_mutex_lock(&ss->lock);
    list_append(&ss->live, &r->node);
    pthread_mutex_unlock(&ss->lock);
    return r;
}

/* ---- Requests ---- */

static int may_request(const struct runner *r, enum searches_control what, struct err *err)
{
    enum search_state state = r->state;

    if (r->want != SEARCHES_NONE)
        return err_set(err, ERR_CONFLICT, "search '%s' is being changed already; ask again",
                       r->search->spec.id);
    if (what == SEARCHES_RESUME && state != SEARCH_PAUSED)
        return err_set(err, ERR_CONFLICT, "search '%s' is %s; only a paused one can be resumed",
                       r->search->spec.id, search_state_name(state));
    if (what == SEARCHES_PAUSE && state == SEARCH_PAUSED)
        return err_set(err, ERR_CONFLICT, "search '%s' is paused already", r->search->spec.id);
    return 0;
}

int runner_request(struct runner *r, enum searches_control what, searches_done_fn *done, void *arg,
                   struct err *err)
{
    if (may_request(r, what, err) != 0)
        return -1;
    r->want = what;
    r->want_done = done;
    r->want_arg = arg;
    r->why[0] = '\0';
    if (what == SEARCHES_PAUSE && r->talk.hopeless)
        str_copy(r->why, sizeof(r->why), r->talk.trouble);
    if (r->phase == PHASE_QUEUED) {
        turns_end(&r->turn);
        r->turn_came = false;
        r->phase = PHASE_IDLE;
    } else if (r->phase == PHASE_WAITING) {
        r->phase = PHASE_IDLE;
    } else if (r->phase == PHASE_STALLED) {
        event_del(r->retry);
        r->phase = PHASE_IDLE;
    } else if (r->job != NULL && what == SEARCHES_CANCEL) {
        evaluator_cancel(r->job);
    }
    runner_wake(r);
    return 0;
}
