/* SPDX-License-Identifier: Apache-2.0 */
/* The insights of a retune: evidence on both devices, labels, and how each could be tested. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "retune/survey_impl.h"

enum { BASES_TRIED = 200 }; /* best old records among which a testable pair is looked for */

void survey_insight_release(struct survey_insight *si)
{
    insight_release(&si->in);
    for (size_t k = 0; k < PLAN_KEYS; k++) {
        free(si->keys[k]);
        json_decref(si->assignments[k]);
    }
}

/* ---- Gathering ---- */

static bool is_of_family(const struct survey *s, const char *family)
{
    for (size_t i = 0; i < s->n_tasks; i++)
        if (*family == '\0' || strcmp(s->tasks[i].family, family) == 0)
            return true;
    return false;
}

static int copy_insight(void *ctx, const struct insight *in)
{
    struct survey *s = ctx;
    struct err ignored;

    if (in->state != INSIGHT_ACTIVE || in->n_evidence == 0 || !is_of_family(s, in->claim.family))
        return 0;
    s->insights = xgrow(s->insights, &s->cap_insights, s->n_insights + 1, sizeof(*s->insights));
    memset(&s->insights[s->n_insights], 0, sizeof(*s->insights));
    if (insight_dup(in, &s->insights[s->n_insights].in, &ignored) != 0)
        return 1;
    s->n_insights++;
    return 0;
}

static size_t task_index(const struct survey *s, const char *name)
{
    for (size_t i = 0; i < s->n_tasks; i++)
        if (strcmp(s->tasks[i].name, name) == 0)
            return i;
    return SIZE_MAX;
}

static void add_evidence(struct label_evidence *to, const struct evidence *e)
{
    struct insight_sums *sums = &to->sums;

    if (e->measured_at_s >= to->last_s) {
        to->last_s = e->measured_at_s;
        snprintf(to->versions, sizeof(to->versions), "%s", e->toolchain);
    }
    if (strcmp(e->kind, "failure") == 0) {
        sums->failures++;
        return;
    }
    *(e->steered ? &sums->steered : &sums->blind) += 1;
    sums->positive += e->effect_q > 0;
    sums->effect_q += e->effect_q;
    sums->effect_sq_q += (uint64_t)((e->effect_q / 1000) * (e->effect_q / 1000));
}

static void settle(struct label_evidence *e)
{
    struct insight alone = { .all = e->sums };
    struct insight_effect effect = insight_posterior(&alone, NULL, NULL, NULL);

    e->mean = effect.mean;
    e->sd = effect.sd;
    e->p_positive = e->sums.blind + e->sums.steered > 0 ? effect.p_positive : 0.5;
}

/*
 * Evidence on either device, of the chosen tasks. On the new one only what was measured under its
 * present versions speaks of it; with --toolchain everything older is the old side.
 */
static int read_evidence(struct survey *s, struct survey_insight *si, struct roofline_shift *shift,
                         struct err *err)
{
    CLEANUP(freep) bool *seen = xcalloc(s->n_tasks + 1, sizeof(*seen));
    struct versions_change c;

    for (size_t i = 0; i < si->in.n_evidence; i++) {
        struct evidence e;
        size_t task;
        bool on_new, on_old;

        if (kb_get_evidence(s->kb, &si->in.evidence[i], &e, err) != 0)
            return err_ctx(err, "evidence of insight '%.12s'", si->in.id.hex);
        task = task_index(s, e.task);
        on_new = strcmp(e.device, s->req->device) == 0 &&
                 versions_compare(e.toolchain, s->versions, &c, 1) == 0;
        on_old = strcmp(e.device, s->from_name) == 0 && !(s->req->toolchain && on_new);
        if (task != SIZE_MAX && on_new && !on_old)
            add_evidence(&si->new, &e);
        if (task != SIZE_MAX && on_old) {
            add_evidence(&si->old, &e);
            seen[task] = true;
        }
        evidence_release(&e);
    }
    settle(&si->old);
    settle(&si->new);
    *shift = (struct roofline_shift){ 0 };
    for (size_t t = 0; t < s->n_tasks; t++) {
        if (!seen[t])
            continue;
        shift->workloads += s->tasks[t].shift.workloads;
        shift->crossed += s->tasks[t].shift.crossed;
        shift->moved |= s->tasks[t].shift.moved;
        shift->balance_from = s->tasks[t].shift.balance_from;
        shift->balance_to = s->tasks[t].shift.balance_to;
    }
    return 0;
}

static bool has_evidence(const struct label_evidence *e)
{
    return e->sums.blind + e->sums.steered + e->sums.failures > 0;
}

/* ---- How it could be tested ---- */

/* The side of the claim that an assignment in JSON is on: 1 with, -1 without, 0 neither. */
static int side_of(const struct claim *c, const json_t *assignment)
{
    const json_t *v = json_object_get(assignment, c->param);
    char text[64] = "";

    if (json_is_string(v))
        str_copy(text, sizeof(text), json_string_value(v));
    else if (json_is_boolean(v))
        str_copy(text, sizeof(text), json_is_true(v) ? "1" : "0");
    else if (json_is_integer(v))
        snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(text, sizeof(text), "%.17g", json_real_value(v));
    if (strcmp(text, c->with_value) == 0)
        return 1;
    return strcmp(text, c->without_value) == 0 ? -1 : 0;
}

/* The pair around one assignment: itself and its neighbour on the other side, both valid. */
static bool pair_at(const struct survey_task *t, size_t p, uint16_t with, uint16_t without,
                    const uint16_t *base, uint16_t *first, uint16_t *second)
{
    size_t bytes = space_n(t->space) * sizeof(*base);

    memcpy(first, base, bytes);
    memcpy(second, base, bytes);
    if (base[p] != without)
        first[p] = with;
    second[p] = base[p] == without ? with : without;
    return space_valid(t->space, first) && space_valid(t->space, second);
}

static bool find_pair(const struct survey_task *t, const struct claim *c, uint16_t *first,
                      uint16_t *second)
{
    int p = space_find(t->space, c->param), with, without;
    uint16_t base[SPACE_PARAMS_MAX];
    struct err ignored;

    if (p < 0)
        return false;
    with = space_value_find(t->space, (size_t)p, c->with_value);
    without = space_value_find(t->space, (size_t)p, c->without_value);
    if (with < 0 || without < 0)
        return false;
    /* Two passes: first where one side is a program that was measured, then a changed one. */
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < t->old.n && i < BASES_TRIED; i++) {
            if (strcmp(t->old.v[i].status, "ok") != 0)
                break;
            if (space_from_json(t->space, t->old.v[i].assignment, base, &ignored) != 0)
                continue;
            if (pass == 0 && base[p] != with && base[p] != without)
                continue;
            if (pair_at(t, (size_t)p, (uint16_t)with, (uint16_t)without, base, first, second))
                return true;
        }
    return false;
}

/* Stored best programs that are on the side that the evidence favours. */
static uint32_t count_relying(const struct survey *s, const struct survey_insight *si)
{
    int favoured = si->old.mean >= 0 ? 1 : -1;
    uint32_t n = 0;

    for (size_t t = 0; t < s->n_tasks; t++)
        if (strcmp(s->tasks[t].family, si->in.claim.family) == 0 &&
            side_of(&si->in.claim, s->tasks[t].old.v[0].assignment) == favoured)
            n++;
    return n;
}

static void keep_pair(struct survey_insight *si, const struct survey_task *t, size_t task,
                      const uint16_t *first, const uint16_t *second)
{
    const uint16_t *both[PLAN_KEYS] = { first, second };

    si->task = task;
    for (size_t k = 0; k < PLAN_KEYS; k++) {
        si->keys[k] = survey_key(t, both[k]);
        si->assignments[k] = space_to_json(t->space, both[k]);
    }
}

/*
 * Tested on the task of its family whose best program it bears on, else on the first that has a
 * pair for it. Its value is void when no task has a valid assignment with it.
 */
static void find_test(struct survey *s, struct survey_insight *si)
{
    const struct claim *c = &si->in.claim;
    uint16_t first[SPACE_PARAMS_MAX], second[SPACE_PARAMS_MAX];
    bool spaces = false, value = false;

    si->task = SIZE_MAX;
    for (size_t i = 0; i < s->n_tasks && *c->param != '\0'; i++) {
        const struct survey_task *t = &s->tasks[i];
        int p;

        if (t->space == NULL || strcmp(t->family, c->family) != 0)
            continue;
        p = space_find(t->space, c->param);
        spaces = true;
        value |=
            p >= 0 && survey_value_is_valid(t->space, (size_t)p,
                                            space_value_find(t->space, (size_t)p, c->with_value));
        if (t->why_not[0] || si->task != SIZE_MAX || !find_pair(t, c, first, second))
            continue;
        keep_pair(si, t, i, first, second);
    }
    si->value_missing = spaces && !value;
}

/* ---- Labels ---- */

static void label(struct survey *s, struct survey_insight *si, const struct roofline_shift *shift)
{
    struct label_input in = {
        .claim = &si->in.claim,
        .old = &si->old,
        .new = &si->new,
        .delta = &s->delta,
        .device = s->to,
        .versions = s->versions,
        .shift = shift,
        .survival = survival_rate(s->survival, jsonx_str(s->from, "class", ""),
                                  jsonx_str(s->to, "class", ""), si->in.claim.technique),
        .value_missing = si->value_missing,
        .toolchain_only = s->req->toolchain,
    };

    label_insight(&in, &si->label);
}

int survey_find_insights(struct survey *s, struct err *err)
{
    size_t kept = 0;

    if (kb_each_insight(s->kb, copy_insight, s) != 0)
        return err_set(err, ERR_NOMEM, "no memory to bring the insights up to date");
    for (size_t i = 0; i < s->n_insights; i++) {
        struct survey_insight *si = &s->insights[i];
        struct roofline_shift shift;

        if (read_evidence(s, si, &shift, err) != 0)
            return -1;
        if (!has_evidence(&si->old) || kept == SURVEY_INSIGHTS_MAX) {
            s->left_out += has_evidence(&si->old);
            survey_insight_release(si);
            memset(si, 0, sizeof(*si)); /* released once more with the survey, harmlessly */
            continue;
        }
        find_test(s, si);
        si->relying = count_relying(s, si);
        label(s, si, &shift);
        if (kept != i) {
            s->insights[kept] = *si;
            memset(si, 0, sizeof(*si));
        }
        kept++;
    }
    s->n_insights = kept;
    return 0;
}
