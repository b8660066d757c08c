/* SPDX-License-Identifier: Apache-2.0 */
/* Which insights were followed, and what that was worth; see credit.h. */
#include "search/credit.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- Offers ---- */

/* What one pair scatters about its cell's mean, as insight.h takes it before there are any. */
static const double pair_sd = 0.05;

static void add_prediction(const struct insight *in, const struct insight_place *at, json_t *offer)
{
    static const struct insight_place anywhere = { .foreign_weight = INSIGHT_FOREIGN_WEIGHT };
    struct insight_effect e = insight_effect_at(in, at ? at : &anywhere);

    if (offer == NULL || e.n == 0)
        return;
    json_object_set_new(offer, "mean", json_real(e.mean));
    json_object_set_new(offer, "sd", json_real(hypot(e.sd, pair_sd)));
}

static json_t *offer_json(struct kb *kb, const struct space *space, const struct insight_place *at,
                          const struct id *id)
{
    struct insight in;
    struct err ignored;
    json_t *offer = NULL;
    int p;

    if (kb_get_insight(kb, id->hex, &in, &ignored) != 0)
        return NULL;
    p = in.claim.param[0] ? space_find(space, in.claim.param) : -1;
    if (p >= 0 && space_value_find(space, (size_t)p, in.claim.with_value) >= 0)
        offer = json_pack("{s:s, s:s, s:s, s:s}", "insight", in.id.hex, "param", in.claim.param,
                          "with", in.claim.with_value, "without", in.claim.without_value);
    add_prediction(&in, at, offer);
    insight_release(&in);
    return offer;
}

json_t *credit_offered(struct kb *kb, const struct space *space, const struct insight_place *at,
                       const struct id *ids, size_t n)
{
    json_t *offered = json_array();

    for (size_t i = 0; i < n && json_array_size(offered) < CREDIT_OFFERS_MAX; i++) {
        json_t *offer = offer_json(kb, space, at, &ids[i]);

        if (offer != NULL)
            json_array_append_new(offered, offer);
    }
    return offered;
}

static int offer_find(const struct credit_offers *o, const char *insight)
{
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->items[i].insight.hex, insight) == 0)
            return (int)i;
    return -1;
}

int credit_take(struct credit_offers *o, const struct space *space, const json_t *offered,
                struct err *err)
{
    const json_t *v;
    size_t i;

    json_array_foreach (offered, i, v) {
        const char *id = jsonx_str(v, "insight", "");
        int p = space_find(space, jsonx_str(v, "param", ""));
        int with = p < 0 ? -1 : space_value_find(space, (size_t)p, jsonx_str(v, "with", ""));
        int without = p < 0 ? -1 : space_value_find(space, (size_t)p, jsonx_str(v, "without", ""));

        if (!str_is_hex(id, ID_HEX) || with < 0)
            return err_set(err, ERR_CORRUPT, "a stored offer of an insight to a search is damaged");
        if (o->n == CREDIT_OFFERS_MAX || offer_find(o, id) >= 0)
            continue;
        str_copy(o->items[o->n].insight.hex, sizeof(o->items[o->n].insight.hex), id);
        o->items[o->n].param = (size_t)p;
        o->items[o->n].with = (uint16_t)with;
        o->items[o->n].without = without < 0 ? SPACE_ANY : (uint16_t)without;
        o->items[o->n].mean = jsonx_num(v, "mean", 0);
        o->items[o->n].sd = jsonx_num(v, "sd", 0);
        o->n++;
    }
    return 0;
}

/* ---- Attempts ---- */

void credit_serve(const struct credit_offers *o, const uint16_t *a, json_t *attempt)
{
    json_t *served, *followed, *against;

    if (o->n == 0)
        return;
    served = json_array();
    followed = json_array();
    against = json_array();
    for (size_t i = 0; i < o->n; i++) {
        const struct credit_offer *offer = &o->items[i];

        json_array_append_new(served, json_string(offer->insight.hex));
        if (a[offer->param] == offer->with)
            json_array_append_new(followed, json_string(offer->insight.hex));
        else if (a[offer->param] == offer->without)
            json_array_append_new(against, json_string(offer->insight.hex));
    }
    json_object_set_new(attempt, "served", served);
    json_object_set_new(attempt, "followed", followed);
    json_object_set_new(attempt, "against", against);
}

static uint32_t bits_of(const struct credit_offers *o, const json_t *ids)
{
    uint32_t bits = 0;
    const json_t *v;
    size_t i;

    json_array_foreach (ids, i, v) {
        int at = json_is_string(v) ? offer_find(o, json_string_value(v)) : -1;

        if (at >= 0)
            bits |= 1u << at;
    }
    return bits;
}

struct credit_served credit_of_attempt(const struct credit_offers *o, const json_t *attempt)
{
    return (struct credit_served){ bits_of(o, json_object_get(attempt, "served")),
                                   bits_of(o, json_object_get(attempt, "followed")),
                                   bits_of(o, json_object_get(attempt, "against")) };
}

/* ---- The table ---- */

/* Where an id is, or would be. */
static size_t position(const struct credit_table *t, const char *insight, bool *there)
{
    size_t low = 0, high = t->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = strcmp(t->rows[mid].insight.hex, insight);

        if (c == 0) {
            *there = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *there = false;
    return low;
}

const struct credit_row *credit_find(const struct credit_table *t, const char *insight)
{
    bool there;
    size_t at = position(t, insight, &there);

    return there ? &t->rows[at] : NULL;
}

/* NULL for what is no id. */
static struct credit_row *row_of(struct credit_table *t, const json_t *insight)
{
    const char *id = json_string_value(insight);
    bool there;
    size_t at;

    if (id == NULL || !str_is_hex(id, ID_HEX))
        return NULL;
    at = position(t, id, &there);
    if (there)
        return &t->rows[at];
    t->rows = xgrow(t->rows, &t->cap, t->n + 1, sizeof(*t->rows));
    memmove(&t->rows[at + 1], &t->rows[at], (t->n - at) * sizeof(*t->rows));
    t->n++;
    t->rows[at] = (struct credit_row){ 0 };
    str_copy(t->rows[at].insight.hex, sizeof(t->rows[at].insight.hex), id);
    return &t->rows[at];
}

static void count_ids(struct credit_table *t, const json_t *ids, size_t member)
{
    const json_t *v;
    size_t i;

    json_array_foreach (ids, i, v) {
        struct credit_row *r = row_of(t, v);

        if (r != NULL)
            ++*(uint64_t *)((char *)r + member);
    }
}

void credit_count_attempt(struct credit_table *t, const json_t *attempt)
{
    count_ids(t, json_object_get(attempt, "served"), offsetof(struct credit_row, served));
    count_ids(t, json_object_get(attempt, "followed"), offsetof(struct credit_row, adopted));
    count_ids(t, json_object_get(attempt, "against"), offsetof(struct credit_row, against));
}

void credit_count_outcome(struct credit_table *t, const json_t *followed, bool ok, int64_t lift_q,
                          int verdict)
{
    int64_t n = (int64_t)json_array_size(followed), rest;
    const json_t *v;
    size_t i;

    if (n == 0)
        return;
    rest = lift_q % n;
    json_array_foreach (followed, i, v) {
        struct credit_row *r = row_of(t, v);
        int64_t share = lift_q / n;

        if (r == NULL)
            continue;
        if (rest != 0) {
            share += rest > 0 ? 1 : -1;
            rest -= rest > 0 ? 1 : -1;
        }
        if (ok)
            *(share > 0 ? &r->lift_q : &r->debit_q) += share;
        r->wins += verdict > 0;
        r->losses += verdict < 0;
    }
}

json_t *credit_json(const struct credit_row *r)
{
    static const struct credit_row none;

    if (r == NULL)
        r = &none;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "served", (json_int_t)r->served,
                     "adopted", (json_int_t)r->adopted, "against", (json_int_t)r->against, "wins",
                     (json_int_t)r->wins, "losses", (json_int_t)r->losses, "lift",
                     1e-6 * (double)r->lift_q, "debit", 1e-6 * (double)r->debit_q);
}

void credit_release(struct credit_table *t)
{
    free(t->rows);
    *t = (struct credit_table){ 0 };
}
