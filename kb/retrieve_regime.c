/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a question says of a kernel's situation, and how near an insight's evidence is to it: the
 * factors of usefulness that shape regimes and profiles give. Nothing here filters.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "retrieve_query.h"

static const double factor_unknown = 0.85; /* nothing is known of the evidence's shape */
static const double factor_far = 0.6;      /* evidence as far away as can be */
static const double factor_dtype = 0.7;    /* the claim is about another data type */
static const double factor_bound = 0.85;   /* ... another bottleneck */
static const double factor_any_bound = 0.95;

void situation_read(struct query *c)
{
    profile_read(c->q->text, &c->profile);
    c->device_class = c->q->device_class;
    if (c->device_class == NULL && c->profile.device_class[0] != '\0')
        c->device_class = c->profile.device_class;
    c->regime = c->profile.regime;
    if (c->q->regime != NULL) {
        c->regime = *c->q->regime;
        regime_complete(&c->regime, &c->profile.regime);
    }
    c->has_shape = c->regime.n > 0;
}

/* ---- Regimes of evidence ---- */

/* The regime of the task that was measured; of its stored shape when nobody knows the task. */
static void read_known(const struct query *c, uint32_t task, uint32_t shape, const char *dtype,
                       struct regime *out)
{
    const struct evtable *t = c->r->evidence;

    if (c->q->task_regime == NULL ||
        !c->q->task_regime(c->q->task_regime_ctx, evtable_name(t, task), out))
        regime_read(evtable_name(t, shape), out);
    if (out->dtype[0] == '\0' && dtype[0] != '\0')
        regime_dtype_name(dtype, out->dtype);
}

static enum regime_kinship kinship_of(const struct query *c, const char *family)
{
    if (c->q->family == NULL || family[0] == '\0' || strcmp(family, c->q->family) == 0)
        return REGIME_OWN_FAMILY;
    return situation_related(c, family) ? REGIME_RELATED_FAMILY : REGIME_OTHER_FAMILY;
}

bool situation_related(const struct query *c, const char *family)
{
    const char *list = c->q->related;

    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ",");

        if (strlen(family) == n && strncmp(list, family, n) == 0)
            return true;
        list += n + (list[n] != '\0');
    }
    return false;
}

/* Few shapes were ever measured: each is compared once a question. */
static struct regime_match match_of(struct query *c, const struct evrow *row,
                                    const struct claim *claim)
{
    enum regime_kinship kinship = kinship_of(c, claim->family);
    struct regime known;
    struct regime_match m;

    for (size_t i = 0; i < c->n_memo; i++)
        if (c->memo[i].task == row->task && c->memo[i].shape == row->shape &&
            c->memo[i].kinship == kinship && strcmp(c->memo[i].dtype, claim->dtype) == 0)
            return c->memo[i].match;
    read_known(c, row->task, row->shape, claim->dtype, &known);
    m = regime_meet(&c->regime, &known, kinship);
    if (c->n_memo < SITUATION_MEMO)
        c->memo[c->n_memo++] =
            (struct situation_memo){ row->task, row->shape, kinship, claim->dtype, m };
    return m;
}

void situation_see(struct query *c, struct candidate *d, const struct evrow *row)
{
    struct regime_match m;

    if (!c->has_shape)
        return;
    m = match_of(c, row, &d->in->claim);
    if (m.shared == 0 || (d->near_known && m.similarity <= d->near.similarity))
        return;
    d->near = m;
    d->near_known = true;
    d->near_task = row->task;
    d->near_shape = row->shape;
}

/* ---- Factors ---- */

static double dtype_factor(const struct query *c, const struct claim *k)
{
    char dtype[REGIME_LABEL_MAX];

    if (c->regime.dtype[0] == '\0' || k->dtype[0] == '\0')
        return 1;
    return strcmp(regime_dtype_name(k->dtype, dtype), c->regime.dtype) == 0 ? 1 : factor_dtype;
}

double situation_factor(const struct query *c, const struct candidate *d)
{
    const struct claim *k = &d->in->claim;
    double f = dtype_factor(c, k);

    /* A match has looked at the data type already. */
    if (d->near_known)
        f = factor_far + (1 - factor_far) * d->near.similarity;
    else if (c->has_shape)
        f *= factor_unknown;
    if (c->profile.bottleneck[0] != '\0' && strcmp(k->bottleneck, c->profile.bottleneck) != 0)
        f *= k->bottleneck[0] != '\0' ? factor_bound : factor_any_bound;
    return f;
}

/* ---- Words ---- */

/* The axis whose difference weighs most: "tokens_per_expert 8 against 16"; "" for none. */
static void biggest_difference(const struct regime *asked, const struct regime *known, char *out,
                               size_t size)
{
    double most = 0;

    out[0] = '\0';
    for (size_t i = 0; i < asked->n; i++) {
        struct regime one = { .n = 1, .axes = { asked->axes[i] } };
        struct regime_match m;
        double theirs;

        if (!regime_get(known, asked->axes[i].name, &theirs))
            continue;
        m = regime_meet(&one, known, REGIME_OWN_FAMILY);
        if (m.distance > most) {
            most = m.distance;
            snprintf(out, size, "%s %.4g there against %.4g here", asked->axes[i].name, theirs,
                     asked->axes[i].value);
        }
    }
}

bool situation_sentence(const struct query *c, const struct candidate *d, char *out, size_t size)
{
    const char *task;
    struct regime known;
    char most[160];
    int n;

    if (!d->near_known)
        return false;
    task = evtable_name(c->r->evidence, d->near_task);
    read_known(c, d->near_task, d->near_shape, d->in->claim.dtype, &known);
    biggest_difference(&c->regime, &known, most, sizeof(most));
    n = snprintf(out, size, "Nearest evidence is on %.96s: %s, distance %.2f, likeness %.2f%s%s",
                 task, regime_level_name(d->near.level), d->near.distance, d->near.similarity,
                 most[0] ? "; " : "", most);
    if (d->near.guard != NULL && n > 0 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, "; capped, because the %s differs", d->near.guard);
    if (n > 0 && (size_t)n + 1 < size)
        memcpy(out + n, ".", 2);
    return true;
}

const char *situation_note(const struct query *c)
{
    if (!c->has_shape)
        return NULL;
    switch (c->nearest) {
    case REGIME_SAME:
    case REGIME_NEAR:
    case REGIME_LEVEL_COUNT:
        return NULL;
    case REGIME_FAMILY:
        return "No evidence is near this shape: the nearest is of the same family alone, and far "
               "away or of another number format.";
    case REGIME_RELATED:
        return "No evidence is near this shape: the nearest is of a related family.";
    case REGIME_NONE:
        return "No evidence of these hits can be compared with this shape.";
    }
    return NULL;
}

bool situation_condition_feature(const struct query *c, const struct insight *in, double *out)
{
    const json_t *v;

    if (in->when.op != INSIGHT_AT_MOST || in->condition[0] == '\0')
        return false;
    v = json_object_get(c->q->context, in->when.feature);
    if (json_is_number(v)) {
        *out = json_number_value(v);
        return true;
    }
    return regime_get(&c->regime, in->when.feature, out);
}
