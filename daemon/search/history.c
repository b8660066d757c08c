/* SPDX-License-Identifier: Apache-2.0 */
/* The fold over all searches; see history.h. */
#include "search/history.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/forecast.h"
#include "search/ledger.h"
#include "search/rivalry.h"
#include "search/scorebook.h"
#include "search/search.h"

/* One search, as far as it was read. Owned strings. */
struct past_search {
    char *id, *family, *device_class, *proposer;
    bool warm, over, damaged;
    uint64_t created_s, next_seq;
    json_t *attempt; /* the one under way; NULL for none */
    struct rivalry rivalry;
    char *problem; /* NULL for none */
};

struct history {
    pthread_mutex_t lock;
    size_t n, cap;
    struct past_search **searches; /* sorted by id */
    struct ledger *ledger;
    struct credit_table credit;
    struct score_past scores;
};

struct history *history_new(void)
{
    struct history *h = xcalloc(1, sizeof(*h));

    pthread_mutex_init(&h->lock, NULL);
    h->ledger = ledger_new();
    return h;
}

static void past_free(struct past_search *t)
{
    free(t->id);
    free(t->family);
    free(t->device_class);
    free(t->proposer);
    free(t->problem);
    json_decref(t->attempt);
    free(t);
}

void history_free(struct history *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < h->n; i++)
        past_free(h->searches[i]);
    free(h->searches);
    ledger_free(h->ledger);
    credit_release(&h->credit);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* ---- Events ---- */

struct reading {
    struct history *h;
    struct past_search *t;
};

static bool is_adopted(const json_t *attempt)
{
    return jsonx_str(attempt, "adopted", "")[0] != '\0';
}

/* A forecast that was made before there was a correction is its own corrected one. */
static void score(struct reading *r, const json_t *attempt, double outcome)
{
    const json_t *raw = json_object_get(attempt, "predicted");
    const json_t *corrected = json_object_get(attempt, "corrected");
    struct ledger_outcome o = { .family = r->t->family,
                                .device_class = r->t->device_class,
                                .mean = jsonx_num(raw, "mean", NAN),
                                .sd = jsonx_num(raw, "sd", NAN),
                                .outcome = outcome };
    char unnamed[SOURCE_NAME_MAX];

    if (!json_is_object(raw))
        return;
    snprintf(unnamed, sizeof(unnamed), "%s/%s/unknown", r->t->proposer,
             is_adopted(attempt) ? "adopted" : jsonx_str(attempt, "arm", "other"));
    o.source = jsonx_str(attempt, "source", unnamed);
    o.corrected_mean = jsonx_num(corrected, "mean", o.mean);
    o.corrected_sd = jsonx_num(corrected, "sd", o.sd);
    ledger_add(r->h->ledger, &o);
}

static void score_claims(struct reading *r, const json_t *claims)
{
    const json_t *c;
    size_t i;

    json_array_foreach (claims, i, c) {
        struct ledger_outcome o = { .source = FORECAST_INSIGHT,
                                    .family = r->t->family,
                                    .device_class = r->t->device_class,
                                    .mean = jsonx_num(c, "mean", NAN),
                                    .sd = jsonx_num(c, "sd", NAN),
                                    .corrected_mean = jsonx_num(c, "corrected_mean", NAN),
                                    .corrected_sd = jsonx_num(c, "corrected_sd", NAN),
                                    .outcome = jsonx_num(c, "outcome", NAN) };

        ledger_add(r->h->ledger, &o);
    }
}

static void on_attempt(struct reading *r, const json_t *event)
{
    json_decref(r->t->attempt);
    r->t->attempt = json_deep_copy(event);
    credit_count_attempt(&r->h->credit, event);
}

/* What is known by an equal object is no second measurement: it scores and credits nothing. */
static void on_measured(struct reading *r, const json_t *event)
{
    struct past_search *t = r->t;
    const json_t *credit = json_object_get(event, "credit");
    bool ok = strcmp(jsonx_str(event, "status", ""), "ok") == 0;
    int64_t objective_q = jsonx_int(event, "objective_q", 0);
    const char *arm = jsonx_str(t->attempt, "arm", "");

    if (t->attempt == NULL || json_object_get(event, "same_as") != NULL)
        return;
    if (ok)
        score(r, t->attempt, 1e-6 * (double)objective_q);
    score_claims(r, json_object_get(event, "claims"));
    if (json_is_object(credit))
        credit_count_outcome(&r->h->credit, json_object_get(t->attempt, "followed"), ok,
                             jsonx_int(credit, "lift_q", 0), (int)jsonx_int(credit, "verdict", 0));
    if (t->warm && !is_adopted(t->attempt) &&
        (strcmp(arm, "memory") == 0 || strcmp(arm, "cold") == 0))
        rivalry_add(&t->rivalry, (uint64_t)jsonx_int(event, "evaluation", 0),
                    strcmp(arm, "memory") == 0, ok, objective_q, jsonx_int(event, "sd_q", 0));
    json_decref(t->attempt);
    t->attempt = NULL;
}

static int read_event(void *ctx, uint64_t seq, const json_t *event)
{
    struct reading *r = ctx;
    const char *type = jsonx_str(event, "type", "");

    if (strcmp(type, "attempt") == 0)
        on_attempt(r, event);
    else if (strcmp(type, "measured") == 0)
        on_measured(r, event);
    else if (strcmp(type, "cycle_end") == 0)
        score_past_add(&r->h->scores, json_object_get(event, "bet"));
    else if (strcmp(type, "done") == 0 || strcmp(type, "failed") == 0 ||
             strcmp(type, "cancelled") == 0)
        r->t->over = true;
    r->t->next_seq = seq + 1;
    return 0;
}

/* ---- Searches ---- */

static struct past_search *find(struct history *h, const char *id, size_t *at)
{
    size_t low = 0, high = h->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = strcmp(h->searches[mid]->id, id);

        if (c == 0)
            return h->searches[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *at = low;
    return NULL;
}

static struct past_search *add(struct history *h, size_t at, const json_t *doc)
{
    const json_t *scope = json_object_get(doc, "scope");
    struct past_search *t = xcalloc(1, sizeof(*t));

    t->id = xstrdup(jsonx_str(doc, "id", ""));
    t->family = xstrdup(jsonx_str(scope, "family", ""));
    t->device_class = xstrdup(jsonx_str(scope, "device_class", ""));
    t->proposer = xstrdup(jsonx_str(doc, "proposer", ""));
    t->warm = !jsonx_bool(doc, "cold", 1);
    t->created_s = (uint64_t)jsonx_int(doc, "created", 0);
    h->searches = xgrow(h->searches, &h->cap, h->n + 1, sizeof(struct past_search *));
    memmove(&h->searches[at + 1], &h->searches[at], (h->n - at) * sizeof(struct past_search *));
    h->searches[at] = t;
    h->n++;
    return t;
}

/* Damage is the search's own: the others are read all the same. What may pass, such as a lack of
 * memory, is tried again from where it stopped. */
static void read_on(struct history *h, struct kb *kb, struct past_search *t)
{
    struct reading r = { h, t };
    struct err err;

    if (t->over || t->damaged)
        return;
    free(t->problem);
    t->problem = NULL;
    if (kb_each_event(kb, t->id, t->next_seq, read_event, &r, &err) == 0)
        return;
    t->problem = xstrdup(err.msg);
    t->damaged = err.code != ERR_IO && err.code != ERR_NOMEM;
}

struct new_searches {
    struct history *h;
    json_t *docs;
};

static int note_new(void *ctx, const char *key, const json_t *doc)
{
    struct new_searches *n = ctx;
    size_t at;

    if (strcmp(jsonx_str(doc, "id", ""), key) == 0 && find(n->h, key, &at) == NULL)
        json_array_append(n->docs, (json_t *)doc);
    return 0;
}

/* The lock is held. */
static int refresh(struct history *h, struct kb *kb, struct err *err)
{
    struct new_searches n = { h, json_array() };
    json_t *doc;
    size_t i, at;
    int rc = kb_each_doc(kb, KB_SEARCH, note_new, &n, err);

    json_array_foreach (n.docs, i, doc)
        if (find(h, jsonx_str(doc, "id", ""), &at) == NULL)
            add(h, at, doc);
    json_decref(n.docs);
    for (i = 0; rc == 0 && i < h->n; i++)
        read_on(h, kb, h->searches[i]);
    return rc;
}

int history_refresh(struct history *h, struct kb *kb, struct err *err)
{
    int rc;

    pthread_mutex_lock(&h->lock);
    rc = refresh(h, kb, err);
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int history_follow(struct history *h, struct kb *kb, const char *search, struct err *err)
{
    struct past_search *t;
    json_t *doc;
    size_t at;
    int rc = 0;

    pthread_mutex_lock(&h->lock);
    t = find(h, search, &at);
    if (t == NULL) {
        rc = kb_get_doc(kb, KB_SEARCH, search, &doc, err);
        if (rc == 0) {
            t = add(h, at, doc);
            json_decref(doc);
        }
    }
    if (rc == 0)
        read_on(h, kb, t);
    pthread_mutex_unlock(&h->lock);
    return rc;
}

static void recall_close(const struct history *given, struct history *used)
{
    pthread_mutex_unlock(&used->lock);
    if (used != given)
        history_free(used);
}

/* A history to read from, refreshed and locked: `h`, or one for the occasion where that is NULL. */
static struct history *recall_open(struct history *h, struct kb *kb, struct err *err)
{
    struct history *used = h != NULL ? h : history_new();

    pthread_mutex_lock(&used->lock);
    if (refresh(used, kb, err) == 0)
        return used;
    recall_close(h, used);
    return NULL;
}

int history_recall(struct history *h, struct kb *kb, const char *family, const char *device_class,
                   json_t **out, struct err *err)
{
    struct history *used = recall_open(h, kb, err);

    if (used == NULL)
        return -1;
    *out = ledger_recall(used->ledger, family, device_class);
    recall_close(h, used);
    return 0;
}

int history_recall_scores(struct history *h, struct kb *kb, json_t **out, struct err *err)
{
    struct history *used = recall_open(h, kb, err);

    if (used == NULL)
        return -1;
    *out = score_past_json(&used->scores);
    recall_close(h, used);
    return 0;
}

/* ---- Answers ---- */

json_t *history_calibration(struct history *h)
{
    json_t *j;

    pthread_mutex_lock(&h->lock);
    j = ledger_json(h->ledger);
    pthread_mutex_unlock(&h->lock);
    return j;
}

struct credit_row history_credit(struct history *h, const char *insight)
{
    struct credit_row copy = { 0 };
    const struct credit_row *found;

    pthread_mutex_lock(&h->lock);
    found = credit_find(&h->credit, insight);
    if (found != NULL)
        copy = *found;
    pthread_mutex_unlock(&h->lock);
    return copy;
}

json_t *history_transfer(struct history *h)
{
    json_int_t warm = 0, judged = 0, lost = 0, pairs = 0, worse = 0, better = 0;
    json_t *rate;

    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->n; i++) {
        const struct past_search *t = h->searches[i];

        warm += t->warm;
        judged += rivalry_judged(&t->rivalry);
        lost += rivalry_memory_lost(&t->rivalry);
        pairs += (json_int_t)t->rivalry.pairs;
        worse += (json_int_t)t->rivalry.pairs_worse;
        better += (json_int_t)t->rivalry.pairs_better;
    }
    pthread_mutex_unlock(&h->lock);
    rate = judged > 0 ? json_real((double)lost / (double)judged) : json_null();
    return json_pack("{s:I, s:I, s:I, s:o, s:I, s:I, s:I}", "searches", warm, "judged", judged,
                     "lost", lost, "rate", rate, "pairs", pairs, "pairs_worse", worse,
                     "pairs_better", better);
}

void history_view_take(struct history *h, struct history_view *out)
{
    *out = (struct history_view){ 0 };
    pthread_mutex_lock(&h->lock);
    out->credit.n = out->credit.cap = h->credit.n;
    out->credit.rows = xcalloc(h->credit.n + 1, sizeof(*out->credit.rows));
    if (h->credit.n > 0)
        memcpy(out->credit.rows, h->credit.rows, h->credit.n * sizeof(*out->credit.rows));
    out->warm = xcalloc(h->n + 1, sizeof(*out->warm));
    for (size_t i = 0; i < h->n; i++)
        if (h->searches[i]->warm)
            out->warm[out->n_warm++] =
                (struct history_warm){ xstrdup(h->searches[i]->family), h->searches[i]->created_s };
    pthread_mutex_unlock(&h->lock);
}

uint64_t history_view_warm(const struct history_view *v, const char *family, uint64_t since_s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < v->n_warm; i++)
        n += v->warm[i].created_s >= since_s && strcmp(v->warm[i].family, family) == 0;
    return n;
}

void history_view_release(struct history_view *v)
{
    credit_release(&v->credit);
    for (size_t i = 0; i < v->n_warm; i++)
        free(v->warm[i].family);
    free(v->warm);
    *v = (struct history_view){ 0 };
}

json_t *history_problems(struct history *h)
{
    json_t *out = json_array();

    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->n; i++)
        if (h->searches[i]->problem != NULL)
            json_array_append_new(out, json_pack("{s:s, s:s}", "search", h->searches[i]->id,
                                                 "problem", h->searches[i]->problem));
    pthread_mutex_unlock(&h->lock);
    return out;
}
