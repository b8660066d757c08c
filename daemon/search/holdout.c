/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the champion on workloads that were held back; see holdout.h. */
#include "search/holdout.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "eval/result.h"
#include "search/journal.h"
#include "search/search.h"

static void check_release(struct holdout_check *c)
{
    free(c->status);
    free(c->message);
}

void holdout_release(struct holdout *h)
{
    for (size_t i = 0; i < h->n; i++)
        check_release(&h->checks[i]);
    free(h->checks);
    memset(h, 0, sizeof(*h));
}

/* ---- When ---- */

static bool is_checked(const struct search *s, uint64_t evaluation)
{
    for (size_t i = 0; i < s->holdout.n; i++)
        if (s->holdout.checks[i].evaluation == evaluation)
            return true;
    return false;
}

struct trial *holdout_open_trial(const struct search *s)
{
    return search_trial(s, s->holdout.open);
}

bool holdout_is_due_at_end(const struct search *s)
{
    return s->spec.holdout != NULL && s->holdout.open == 0 && s->champion != 0 &&
           !is_checked(s, s->champion);
}

bool holdout_is_due(const struct search *s)
{
    return holdout_is_due_at_end(s) &&
           search_measured(s) >= s->holdout.asked_at + (uint64_t)HOLDOUT_EVERY;
}

/* ---- The events ---- */

int holdout_plan(struct journal *j, struct err *err)
{
    return journal_add(j,
                       json_pack("{s:s, s:I}", "type", "holdout_due", "evaluation",
                                 (json_int_t)j->search->champion),
                       err);
}

/* Does the result say something of the program? Times that scatter, or that do not fit what was
 * seen from outside, say something of the machine first. */
static bool is_telling(const struct eval_result *r)
{
    return r->status == EVAL_OK || (eval_status_blames(r->status) && r->status != EVAL_UNSTABLE &&
                                    r->status != EVAL_CLOCK_TAMPERED);
}

static json_t *result_event(const struct search *s, const struct eval_result *r, uint64_t wall_ns)
{
    double ms = r->build_ms + r->check_ms + r->timing_ms;

    return json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I}", "type", "holdout", "evaluation",
                     (json_int_t)s->holdout.open, "status", eval_status_name(r->status), "message",
                     r->message ? r->message : "", "objective_q",
                     (json_int_t)eval_result_objective_q(r), "sd_q",
                     (json_int_t)eval_result_sd_q(r), "device_ns", (json_int_t)(ms * 1e6),
                     "wall_ns", (json_int_t)wall_ns);
}

int holdout_record(struct journal *j, const struct eval_result *r, uint64_t wall_ns,
                   struct err *err)
{
    const struct search *s = j->search;

    if (is_telling(r) || s->holdout.tries + 1 >= SEARCH_TRIES_MAX)
        return journal_add(j, result_event(s, r, wall_ns), err);
    return journal_add(j,
                       json_pack("{s:s, s:I, s:s}", "type", "holdout_lost", "evaluation",
                                 (json_int_t)s->holdout.open, "message",
                                 r->message ? r->message : ""),
                       err);
}

/* ---- The fold ---- */

static int misfit(struct err *err, const struct search *s, const char *what)
{
    return err_set(err, ERR_CORRUPT, "event %llu of search '%s' does not fit: %s",
                   (unsigned long long)s->next_seq, s->spec.id, what);
}

static uint64_t counted(const json_t *ev, const char *key)
{
    long long v = jsonx_int(ev, key, 0);

    return v > 0 ? (uint64_t)v : 0;
}

int holdout_apply_due(struct search *s, const json_t *ev, struct err *err)
{
    if (!holdout_is_due_at_end(s) || search_open_trial(s) != NULL ||
        counted(ev, "evaluation") != s->champion)
        return misfit(err, s, "no check on the hold-out set can begin here");
    s->holdout.open = s->champion;
    s->holdout.tries = 0;
    s->holdout.tuned_q = search_best_q(s);
    s->holdout.asked_at = search_measured(s);
    return 0;
}

static int check_open(const struct search *s, const json_t *ev, struct err *err)
{
    if (s->holdout.open == 0 || counted(ev, "evaluation") != s->holdout.open)
        return misfit(err, s, "no check on the hold-out set of this evaluation is open");
    return 0;
}

int holdout_apply_lost(struct search *s, const json_t *ev, struct err *err)
{
    if (check_open(s, ev, err) != 0)
        return -1;
    s->holdout.tries++;
    return 0;
}

int holdout_apply(struct search *s, const json_t *ev, struct err *err)
{
    struct holdout *h = &s->holdout;

    if (check_open(s, ev, err) != 0)
        return -1;
    h->checks = xgrow(h->checks, &h->cap, h->n + 1, sizeof(*h->checks));
    h->checks[h->n++] = (struct holdout_check){
        .evaluation = h->open,
        .tuned_q = h->tuned_q,
        .status = xstrdup(jsonx_str(ev, "status", "")),
        .message = xstrdup(jsonx_str(ev, "message", "")),
        .ok = strcmp(jsonx_str(ev, "status", ""), "ok") == 0,
        .objective_q = jsonx_int(ev, "objective_q", 0),
        .sd_q = jsonx_int(ev, "sd_q", 0),
        .device_ns = counted(ev, "device_ns"),
    };
    h->open = 0;
    s->device_ns += counted(ev, "device_ns");
    s->wall_ns += counted(ev, "wall_ns");
    s->accounted_s = MAX(s->accounted_s, counted(ev, "at"));
    return 0;
}

/* ---- JSON ---- */

static void add_figures(const struct holdout_check *c, json_t *o)
{
    json_object_set_new(o, "tuned", json_real(exp(1e-6 * (double)c->tuned_q)));
    json_object_set_new(o, "objective",
                        c->ok ? json_real(exp(1e-6 * (double)c->objective_q)) : json_null());
    json_object_set_new(
        o, "gap", c->ok ? json_real(1e-6 * (double)(c->tuned_q - c->objective_q)) : json_null());
}

json_t *holdout_json(const struct search *s)
{
    json_t *checks, *o;

    if (s->spec.holdout == NULL)
        return NULL;
    checks = json_array();
    for (size_t i = 0; i < s->holdout.n; i++) {
        const struct holdout_check *c = &s->holdout.checks[i];

        o = json_pack("{s:I, s:s, s:s}", "evaluation", (json_int_t)c->evaluation, "status",
                      c->status, "message", c->message);
        add_figures(c, o);
        json_array_append_new(checks, o);
    }
    return json_pack("{s:s, s:o, s:o}", "set", s->spec.holdout, "checking",
                     s->holdout.open ? json_integer((json_int_t)s->holdout.open) : json_null(),
                     "checks", checks);
}

void holdout_describe(const struct search *s, json_t *notice)
{
    const struct holdout *h = &s->holdout;

    json_object_set_new(notice, "set", json_string(s->spec.holdout ? s->spec.holdout : ""));
    for (size_t i = h->n; i > 0; i--)
        if (strcmp(jsonx_str(notice, "type", ""), "holdout") == 0 &&
            h->checks[i - 1].evaluation == counted(notice, "evaluation")) {
            add_figures(&h->checks[i - 1], notice);
            return;
        }
}
