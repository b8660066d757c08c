/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets and the ledger; see spend.h. */
#include "search/spend.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/journal.h"
#include "search/search.h"
#include "search/stop.h"

/* Share of a budget from which on it is said that little is left. */
static const double notice_share = 0.9;

static const struct {
    const char *name, *used_up;
    const char *what; /* of which a share is spent */
    double per;       /* of the budget's units in one of those that are shown */
    bool of_models;   /* spent by language models alone */
} kinds[SPEND_KIND_COUNT] = {
    [SPEND_EVALS] = { "evals", "the budget of evaluations is used up", "evaluations", 1, false },
    [SPEND_TOKENS] = { "tokens", "the budget of tokens is used up", "tokens", 1, true },
    [SPEND_USD] = { "usd", "the budget of money is used up", "US dollars", 1e6, true },
    [SPEND_TIME] = { "time", "the budget of time is used up", "seconds", 1e9, false },
    [SPEND_DEVICE] = { "device", "the budget of device time is used up", "seconds of device time",
                       1e9, false },
};

static const char *const stage_names[SPEND_STAGE_COUNT] = { "build", "check",   "timing",
                                                            "duel",  "holdout", "evaluation" };

/* ---- Budgets ---- */

static uint64_t budget_of(const struct search_spec *spec, enum spend_kind k)
{
    switch (k) {
    case SPEND_EVALS:
        return spec->budget_evals;
    case SPEND_TOKENS:
        return spec->budget_tokens;
    case SPEND_USD:
        return spec->budget_usd_q;
    case SPEND_TIME:
        return spec->budget_time_ns;
    case SPEND_DEVICE:
        return spec->budget_device_ns;
    case SPEND_KIND_COUNT:
        break;
    }
    return 0;
}

bool spend_is_bounded(const struct search_spec *spec, enum spend_kind k)
{
    return k == SPEND_EVALS || budget_of(spec, k) > 0 || (spec->budget_given & 1u << k);
}

/* What was spent so far, in the budget's unit: evaluations, tokens, millionths of a dollar,
 * nanoseconds. */
static uint64_t used_of(const struct search *s, enum spend_kind k)
{
    switch (k) {
    case SPEND_EVALS:
        return search_measured(s);
    case SPEND_TOKENS:
        return s->tokens;
    case SPEND_USD:
        return s->usd_q > 0 ? (uint64_t)s->usd_q : 0;
    case SPEND_TIME:
        return s->wall_ns;
    case SPEND_DEVICE:
        return s->device_ns;
    case SPEND_KIND_COUNT:
        break;
    }
    return 0;
}

static bool is_used_up(const struct search *s, enum spend_kind k)
{
    if (!spend_is_bounded(&s->spec, k) || (kinds[k].of_models && !search_has_model(s)))
        return false;
    return used_of(s, k) >= budget_of(&s->spec, k);
}

const char *spend_exhausted(const struct search *s)
{
    for (unsigned k = 0; k < SPEND_KIND_COUNT; k++)
        if (is_used_up(s, k))
            return kinds[k].used_up;
    return stop_reached(s);
}

const char *spend_talk_exhausted(const struct search *s)
{
    static const enum spend_kind of_talk[] = { SPEND_TOKENS, SPEND_USD, SPEND_TIME };

    for (size_t i = 0; i < ARRAY_LEN(of_talk); i++)
        if (is_used_up(s, of_talk[i]))
            return kinds[of_talk[i]].used_up;
    return NULL;
}

static bool is_short(const struct search *s, enum spend_kind k)
{
    double budget = (double)budget_of(&s->spec, k);

    return spend_is_bounded(&s->spec, k) && budget > 0 &&
           (double)used_of(s, k) >= notice_share * budget;
}

static json_t *notice_text(const struct search *s, enum spend_kind k)
{
    double used = (double)used_of(s, k), budget = (double)budget_of(&s->spec, k);

    return json_sprintf("%.0f %% of the budget of %.6g %s are spent", 100 * used / budget,
                        budget / kinds[k].per, kinds[k].what);
}

int spend_note(struct journal *j, struct err *err)
{
    struct search *s = j->search;

    for (unsigned k = SPEND_TOKENS; k < SPEND_KIND_COUNT; k++) {
        if ((s->noticed & 1u << k) || !is_short(s, k))
            continue;
        if (journal_add(j,
                        json_pack("{s:s, s:s, s:o}", "type", "notice", "about", kinds[k].name,
                                  "text", notice_text(s, k)),
                        err) != 0)
            return -1;
    }
    return 0;
}

static enum spend_kind kind_from_name(const char *name)
{
    for (unsigned k = 0; k < SPEND_KIND_COUNT; k++)
        if (strcmp(kinds[k].name, name) == 0)
            return (enum spend_kind)k;
    return SPEND_KIND_COUNT;
}

int spend_apply_notice(struct search *s, const json_t *ev, struct err *err)
{
    enum spend_kind k = kind_from_name(jsonx_str(ev, "about", ""));

    if (k == SPEND_KIND_COUNT)
        return err_set(err, ERR_CORRUPT, "a notice of search '%s' is about no budget", s->spec.id);
    s->noticed |= 1u << k;
    return 0;
}

/* ---- The fold ---- */

static uint64_t counted(const json_t *ev, const char *key)
{
    long long v = jsonx_int(ev, key, 0);

    return v > 0 ? (uint64_t)v : 0;
}

/* Numbers come from providers: sums stop at the top instead of starting again at 0. */
static uint64_t added(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static int64_t added_q(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? (b > 0 ? INT64_MAX : INT64_MIN) : sum;
}

/*
 * Time waited for answers counts once, however many were waited for side by side, and not while
 * something was measured: nothing while an evaluation is under way, which has a time of its own,
 * else at most what has passed since time was counted last. Events tell their second, so one of
 * slack.
 */
void spend_apply_answered(struct search *s, const json_t *ev)
{
    uint64_t at_s = counted(ev, "at");
    uint64_t passed_s = at_s > s->accounted_s && s->accounted_s > 0 ? at_s - s->accounted_s : 0;
    double waited = fmax(0, jsonx_num(ev, "seconds", 0));

    if (s->accounted_s > 0)
        waited = fmin(waited, (double)passed_s + 1);
    if (search_open_trial(s) == NULL && s->holdout.open == 0) {
        s->wall_ns = added(s->wall_ns, (uint64_t)(fmin(waited, 1e8) * 1e9));
        s->accounted_s = MAX(s->accounted_s, at_s);
    }
    s->tokens = added(s->tokens, added(counted(ev, "tokens_in"), counted(ev, "tokens_out")));
    s->usd_q = added_q(s->usd_q, jsonx_int(ev, "usd_q", 0));
}

void spend_apply_measured(struct search *s, struct trial *t, const json_t *ev)
{
    uint64_t at_s = counted(ev, "at");

    t->build_ns = counted(ev, "build_ns");
    t->check_ns = counted(ev, "check_ns");
    t->timing_ns = counted(ev, "timing_ns");
    t->duel_ns = counted(ev, "duel_ns");
    t->spent = (struct trial_spent){ s->tokens, s->wall_ns, s->device_ns, s->usd_q };
    if (at_s > s->accounted_s)
        s->accounted_s = at_s;
}

/* ---- The ledger ---- */

static void count_call(const struct call *c, struct spend *p)
{
    struct spend_calls *row = &p->calls[c->kind];

    row->calls++;
    row->lost += c->lost;
    if (!c->answered)
        return;
    row->answers++;
    row->tokens_in = added(row->tokens_in, c->tokens_in);
    row->tokens_cached = added(row->tokens_cached, c->tokens_cached);
    row->tokens_out = added(row->tokens_out, c->tokens_out);
    if (c->estimated)
        row->estimated = added(row->estimated, added(c->tokens_in, c->tokens_out));
    row->usd_q = added_q(row->usd_q, c->usd_q);
    row->seconds += c->seconds;
}

static void count_stage(struct spend *p, enum spend_stage g, uint64_t ns)
{
    p->stages[g].n += ns > 0;
    p->stages[g].ns += ns;
}

static void count_trial(const struct trial *t, struct spend *p)
{
    uint64_t split = t->build_ns + t->check_ns + t->timing_ns + t->duel_ns;

    p->device_ns += t->device_ns;
    count_stage(p, SPEND_BUILD, t->build_ns);
    count_stage(p, SPEND_CHECK, t->check_ns);
    count_stage(p, SPEND_TIMING, t->timing_ns);
    count_stage(p, SPEND_DUEL, t->duel_ns);
    count_stage(p, SPEND_UNSPLIT, t->device_ns > split ? t->device_ns - split : 0);
}

void spend_of(const struct search *s, struct spend *out)
{
    struct spend p = { .evals = search_measured(s), .wall_ns = s->wall_ns };

    for (uint64_t n = 1; n <= s->calls.n; n++)
        count_call(calls_get(&s->calls, n), &p);
    for (unsigned k = 0; k < CALL_KIND_COUNT; k++) {
        p.tokens_in = added(p.tokens_in, p.calls[k].tokens_in);
        p.tokens_cached = added(p.tokens_cached, p.calls[k].tokens_cached);
        p.tokens_out = added(p.tokens_out, p.calls[k].tokens_out);
        p.estimated = added(p.estimated, p.calls[k].estimated);
        p.usd_q = added_q(p.usd_q, p.calls[k].usd_q);
    }
    p.tokens = added(p.tokens_in, p.tokens_out);
    for (uint64_t n = 1; n <= p.evals; n++)
        count_trial(search_trial(s, n), &p);
    for (size_t i = 0; i < s->holdout.n; i++) {
        p.device_ns += s->holdout.checks[i].device_ns;
        count_stage(&p, SPEND_HOLDOUT, s->holdout.checks[i].device_ns);
    }
    *out = p;
}

/* ---- JSON ---- */

/* A count, or money or time in the unit that is shown. */
static json_t *amount(enum spend_kind k, uint64_t v)
{
    if (kinds[k].per == 1)
        return json_integer((json_int_t)MIN(v, (uint64_t)INT64_MAX));
    return json_real((double)v / kinds[k].per);
}

json_t *spend_given_to_json(const struct search_spec *spec)
{
    json_t *given = json_array();

    for (unsigned k = 0; k < SPEND_KIND_COUNT; k++)
        if (spec->budget_given & 1u << k)
            json_array_append_new(given, json_string(kinds[k].name));
    return given;
}

int spend_given_from_json(const json_t *given, struct search_spec *spec, struct err *err)
{
    json_t *name;
    size_t i;

    json_array_foreach (given, i, name) {
        enum spend_kind k =
            json_is_string(name) ? kind_from_name(json_string_value(name)) : SPEND_KIND_COUNT;

        if (k == SPEND_KIND_COUNT)
            return err_set(err, ERR_CORRUPT, "the stored budget of search '%s' is damaged",
                           spec->id);
        spec->budget_given |= 1u << k;
    }
    return 0;
}

json_t *spend_budget_json(const struct search_spec *spec)
{
    json_t *budget = json_object();

    for (unsigned k = 0; k < SPEND_KIND_COUNT; k++)
        if (spend_is_bounded(spec, k))
            json_object_set_new(budget, kinds[k].name, amount(k, budget_of(spec, k)));
    return budget;
}

json_t *spend_json(const struct spend *p)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f}", "evals",
                     amount(SPEND_EVALS, p->evals), "tokens", amount(SPEND_TOKENS, p->tokens),
                     "tokens_in", amount(SPEND_TOKENS, p->tokens_in), "tokens_cached",
                     amount(SPEND_TOKENS, p->tokens_cached), "tokens_out",
                     amount(SPEND_TOKENS, p->tokens_out), "tokens_estimated",
                     amount(SPEND_TOKENS, p->estimated), "usd", (double)p->usd_q / 1e6, "time",
                     (double)p->wall_ns / 1e9, "device", (double)p->device_ns / 1e9);
}

static json_t *calls_row(enum call_kind k, const struct spend_calls *row)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:f, s:f}", "stage",
                     call_kind_name(k), "calls", (json_int_t)row->calls, "answers",
                     (json_int_t)row->answers, "lost", (json_int_t)row->lost, "tokens_in",
                     amount(SPEND_TOKENS, row->tokens_in), "tokens_cached",
                     amount(SPEND_TOKENS, row->tokens_cached), "tokens_out",
                     amount(SPEND_TOKENS, row->tokens_out), "tokens_estimated",
                     amount(SPEND_TOKENS, row->estimated), "usd", (double)row->usd_q / 1e6,
                     "seconds", row->seconds);
}

json_t *spend_ledger_json(const struct spend *p)
{
    json_t *ledger = json_array();

    for (unsigned k = 0; k < CALL_KIND_COUNT; k++)
        if (p->calls[k].calls > 0)
            json_array_append_new(ledger, calls_row(k, &p->calls[k]));
    for (unsigned g = 0; g < SPEND_STAGE_COUNT; g++) {
        if ((g == SPEND_UNSPLIT || g == SPEND_HOLDOUT) && p->stages[g].n == 0)
            continue;
        json_array_append_new(ledger, json_pack("{s:s, s:I, s:f}", "stage", stage_names[g], "n",
                                                (json_int_t)p->stages[g].n, "seconds",
                                                (double)p->stages[g].ns / 1e9));
    }
    return ledger;
}

json_t *spend_notices_json(const struct search *s)
{
    json_t *notices = json_array();

    for (unsigned k = SPEND_TOKENS; k < SPEND_KIND_COUNT && !search_is_over(s->state); k++)
        if (is_short(s, k))
            json_array_append_new(notices, notice_text(s, k));
    return notices;
}

void spend_add_point(const struct search *s, const struct trial *t, json_t *point)
{
    json_object_set_new(point, "tokens", amount(SPEND_TOKENS, t->spent.tokens));
    json_object_set_new(point, "usd", json_real((double)t->spent.usd_q / 1e6));
    json_object_set_new(point, "device_s", json_real((double)t->spent.device_ns / 1e9));
    if (!s->recorded)
        json_object_set_new(point, "wall_s", json_real((double)t->spent.wall_ns / 1e9));
}
