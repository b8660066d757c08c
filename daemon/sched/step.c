/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker does with a runner's search, one step at a time; see step.h. */
#include "sched/step.h"

#include <string.h>

#include "base/jsonx.h"
#include "log.h"
#include "sched/notice.h"
#include "sched/runner.h"
#include "search/author.h"
#include "search/history.h"
#include "search/journal.h"
#include "search/outcome.h"
#include "search/planner.h"

static uint64_t mono(const struct runner *r)
{
    return r->owner->daemon->clock->mono_ns(r->owner->daemon->clock);
}

static void make_notices(struct runner *r, const json_t *events)
{
    const json_t *ev;
    size_t i;

    if (r->notices == NULL)
        r->notices = json_array();
    json_array_foreach (events, i, ev)
        if (strcmp(jsonx_str(ev, "type", ""), "edited") != 0 &&
            strcmp(jsonx_str(ev, "type", ""), "text") != 0)
            json_array_append_new(r->notices, notice_of_event(r->search, ev));
}

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

static int plan_step(struct runner *r, struct journal *j, struct err *err)
{
    (void)r;
    return planner_step(j, err);
}

int step_plan(struct work *w, struct err *err)
{
    struct runner *r = runner_of(w);
    int rc = run_step(r, plan_step, err);

    r->plan_ns = r->own_ns - r->sync_ns;
    return rc;
}

static int store_step(struct runner *r, struct journal *j, struct err *err)
{
    return talk_store(r, j, err);
}

static int author_plan_step(struct runner *r, struct journal *j, struct err *err)
{
    return author_step(j, r->owner->daemon->prompts, err);
}

int step_talk(struct work *w, struct err *err)
{
    struct runner *r = runner_of(w);

    if (json_array_size(r->talk.storing) > 0 && run_step(r, store_step, err) != 0)
        return -1;
    if (run_step(r, author_plan_step, err) != 0)
        return -1;
    r->plan_ns = r->own_ns - r->sync_ns;
    return talk_read_requests(r, err);
}

static int record_step(struct runner *r, struct journal *j, struct err *err)
{
    struct outcome o = { &r->result, r->has_duel ? &r->duel : NULL, mono(r) - r->turn_started_ns,
                         r->seed };

    if (j->search->holdout.open != 0)
        return holdout_record(j, o.result, o.wall_ns, err);
    return outcome_record(j, &o, err);
}

/* What was recorded enters the ledger; a reading that fails is done again when somebody asks. */
static void read_on(struct runner *r)
{
    uint64_t start = mono(r);
    struct err ignored;

    history_follow(r->owner->daemon->history, r->search->kb, r->search->spec.id, &ignored);
    r->own_ns += mono(r) - start;
}

int step_record(struct work *w, struct err *err)
{
    struct runner *r = runner_of(w);
    int rc = run_step(r, record_step, err);

    if (rc == 0) {
        read_on(r);
        pthread_mutex_lock(&r->search->lock); /* who is shown the search reads it meanwhile */
        search_note_overhead(r->search, r->own_ns - r->sync_ns, r->sync_ns, r->start_ns);
        pthread_mutex_unlock(&r->search->lock);
        log_debug("search %s: own time %.3f ms (plan %.3f), fsync %.3f ms, launching %.3f ms",
                  r->search->spec.id, (double)(r->own_ns - r->sync_ns) / 1e6,
                  (double)r->plan_ns / 1e6, (double)r->sync_ns / 1e6, (double)r->start_ns / 1e6);
    }
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
        [SEARCHES_FAIL] = { "failed", "it cannot go on" },
    };
    const char *reason = r->why[0] ? r->why : rows[r->want].reason;

    return journal_add(j, json_pack("{s:s, s:s}", "type", rows[r->want].type, "reason", reason),
                       err);
}

int step_control(struct work *w, struct err *err)
{
    return run_step(runner_of(w), control_step, err);
}

int step_store(struct work *w, struct err *err)
{
    return run_step(runner_of(w), store_step, err);
}
