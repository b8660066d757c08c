/* SPDX-License-Identifier: Apache-2.0 */
/* What other searches find meanwhile; see live.h. */
#include "search/live.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/search.h"

enum { INSIGHTS_TOLD = 4 }; /* that speak for a finding */

#define SIMILARITY_LEAST 0.3 /* of a finding; farther ones only feed the next search's prior */

/* ---- Looking ---- */

struct look {
    struct search *search;
    const char *task;
    double shape_similarity;
    struct live next; /* what is known, this look's findings among it */
    bool changed[LIVE_MAX];
    struct err err;
    bool failed;
};

/* The place of a source among the findings; the least useful one when all places are taken. */
static size_t place_of(const struct live *l, const char *task, const char *device)
{
    size_t least = 0;

    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->found[i].task, task) == 0 && strcmp(l->found[i].device, device) == 0)
            return i;
        if (l->found[i].similarity < l->found[least].similarity)
            least = i;
    }
    return l->n < LIVE_MAX ? l->n : least;
}

/* The best objective known of a source: what was recalled at the start, or heard since. */
static int64_t known_best(const struct look *k, const char *task, const char *device)
{
    const struct memory *m = k->search->memory;
    int64_t best = INT64_MIN;

    for (size_t i = 0; i < m->n_sources; i++)
        if (m->sources[i].has_level && strcmp(m->sources[i].task, task) == 0 &&
            strcmp(m->sources[i].device, device) == 0)
            best = m->sources[i].best_q;
    for (size_t i = 0; i < k->next.n; i++)
        if (strcmp(k->next.found[i].task, task) == 0 &&
            strcmp(k->next.found[i].device, device) == 0 && k->next.found[i].objective_q > best)
            best = k->next.found[i].objective_q;
    return best;
}

static void hear(struct look *k, const struct live_finding *f)
{
    size_t at = place_of(&k->next, f->task, f->device);

    k->next.found[at] = *f;
    k->next.n = MAX(k->next.n, at + 1);
    k->changed[at] = true;
}

static int look_at(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct look *k = ctx;
    struct search *s = k->search;
    struct live_finding f = { .objective_q = e->objective_q, .evaluation = *id };
    double translated, device;

    (void)seq;
    if (strcmp(e->status, "ok") != 0 || e->objective_q <= known_best(k, e->task, e->device) ||
        !memory_translate(s->space, e->assignment, f.a, &translated) || engine_seen(s->engine, f.a))
        return 0;
    if (memory_device_similarity(s->kb, s->spec.device, s->scope.device_class, e->device, &device,
                                 &k->err) != 0) {
        k->failed = true;
        return 1;
    }
    f.similarity = k->shape_similarity * translated * device;
    if (f.similarity < SIMILARITY_LEAST || !str_copy(f.task, sizeof(f.task), e->task) ||
        !str_copy(f.device, sizeof(f.device), e->device))
        return 0;
    hear(k, &f);
    return 0;
}

static json_t *finding_json(const struct search *s, const struct live_finding *f)
{
    struct memory_insight told[INSIGHTS_TOLD];
    size_t n = memory_insights_for(s->kb, s->space, s->scope.family, s->scope.device_class,
                                   kb_last_seq(s->kb), f->a, f->similarity, told, INSIGHTS_TOLD);
    json_t *insights = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(insights, json_string(told[i].id.hex));
    return json_pack("{s:s, s:s, s:f, s:I, s:s, s:o, s:o}", "task", f->task, "device", f->device,
                     "similarity", f->similarity, "objective_q", (json_int_t)f->objective_q,
                     "evaluation", f->evaluation.hex, "assignment", space_to_json(s->space, f->a),
                     "insights", insights);
}

/* All insights that speak for a finding, as the ledger wants to know of them. */
static json_t *offered(const struct search *s, const json_t *found)
{
    struct insight_place at = search_place(s);
    struct id ids[LIVE_MAX * INSIGHTS_TOLD];
    const json_t *f, *insight;
    size_t i, k, n = 0;

    json_array_foreach (found, i, f)
        json_array_foreach (json_object_get(f, "insights"), k, insight)
            str_copy(ids[n++].hex, sizeof(ids[0].hex), json_string_value(insight));
    return credit_offered(s->kb, s->space, &at, ids, n);
}

static json_t *shared_event(const struct look *k, uint64_t seq)
{
    json_t *found = json_array();

    for (size_t i = 0; i < k->next.n; i++)
        if (k->changed[i])
            json_array_append_new(found, finding_json(k->search, &k->next.found[i]));
    if (json_array_size(found) == 0) {
        json_decref(found);
        return NULL;
    }
    return json_pack("{s:s, s:I, s:o, s:o}", "type", "shared", "as_of", (json_int_t)seq, "found",
                     found, "offered", offered(k->search, found));
}

int live_look(struct search *s, json_t **event, struct err *err)
{
    struct memory_relative relatives[MEMORY_RELATIVES_MAX];
    size_t n = memory_relatives(s->scope.relatives, relatives, MEMORY_RELATIVES_MAX);
    uint64_t last = kb_last_seq(s->kb);
    struct look *k;
    int rc = 0;

    s->looked_seq = MAX(s->looked_seq, MAX(s->live.seq, s->memory->as_of));
    if (last <= s->looked_seq)
        return 0;
    k = xcalloc(1, sizeof(*k));
    k->search = s;
    k->next = s->live;
    for (size_t i = 0; i < n && rc == 0; i++) {
        k->task = relatives[i].task;
        k->shape_similarity = relatives[i].similarity;
        rc = kb_each_evaluation_since(s->kb, k->task, NULL, s->looked_seq + 1, last, look_at, k,
                                      err);
        if (rc == 0 && k->failed) {
            *err = k->err;
            rc = -1;
        }
    }
    if (rc == 0) {
        s->looked_seq = last;
        *event = shared_event(k, last);
    }
    free(k);
    return rc;
}

/* ---- The fold ---- */

static int parse_finding(const json_t *j, const struct space *space, struct live_finding *out,
                         struct err *err)
{
    out->similarity = jsonx_num(j, "similarity", 0);
    out->objective_q = jsonx_int(j, "objective_q", 0);
    if (!str_copy(out->task, sizeof(out->task), jsonx_str(j, "task", "")) ||
        !str_copy(out->device, sizeof(out->device), jsonx_str(j, "device", "")) || !out->task[0] ||
        !str_copy(out->evaluation.hex, sizeof(out->evaluation.hex), jsonx_str(j, "evaluation", "")))
        return err_set(err, ERR_CORRUPT, "a stored finding of another search is damaged");
    if (space_from_json(space, json_object_get(j, "assignment"), out->a, err) != 0)
        return err_ctx(err, "stored finding of another search");
    return 0;
}

int live_apply(struct live *l, const json_t *event, const struct space *space, struct err *err)
{
    const json_t *v;
    size_t i;

    json_array_foreach (json_object_get(event, "found"), i, v) {
        struct live_finding f = { 0 };
        size_t at;

        if (parse_finding(v, space, &f, err) != 0)
            return -1;
        at = place_of(l, f.task, f.device);
        l->found[at] = f;
        l->n = MAX(l->n, at + 1);
        l->heard++;
    }
    l->seq = (uint64_t)jsonx_int(event, "as_of", 0);
    return 0;
}

void live_seeds(const struct live *l, const struct space *space, json_t *seeds)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct live_finding *f = &l->found[i];
        char from[LIVE_FROM_MAX];

        snprintf(from, sizeof(from), "%s@%s", f->task, f->device);
        json_array_append_new(seeds, json_pack("{s:s, s:s, s:f, s:b, s:o, s:f}", "program",
                                               f->evaluation.hex, "from", from, "similarity",
                                               f->similarity, "live", 1, "assignment",
                                               space_to_json(space, f->a), "objective_there",
                                               exp(1e-6 * (double)f->objective_q)));
    }
}
