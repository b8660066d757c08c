/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of insights; see label.h. */
#include "retune/label.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static const double survival_high = 0.75; /* below it is low, once it was learned */
static const double shrank = 0.8;         /* a capacity at this share of the old one or less */
static const double one_sign = 0.9;       /* certainty of the sign that carries */
enum { SURVIVAL_LEAST = 6 };              /* decided insights before a rate is believed */

const char *retune_label_name(enum retune_label l)
{
    static const char *const names[RETUNE_LABEL_COUNT] = { "carry", "re-verify", "void" };

    return names[l];
}

const char *retune_ground_name(enum retune_ground g)
{
    static const char *const names[RETUNE_GROUND_COUNT] = {
        [GROUND_FEATURE_MISSING] = "feature-missing",
        [GROUND_CAPACITY_SMALL] = "capacity-too-small",
        [GROUND_VALUE_UNAVAILABLE] = "value-unavailable",
        [GROUND_REFUTED] = "refuted-there",
        [GROUND_CONFIRMED] = "confirmed-there",
        [GROUND_VERSIONS] = "toolchain-changed",
        [GROUND_CAPACITY_UNKNOWN] = "capacity-unknown",
        [GROUND_BALANCE] = "balance-moved",
        [GROUND_CAPACITY_SHRANK] = "capacity-shrank",
        [GROUND_FEATURES_GONE] = "features-gone",
        [GROUND_SURVIVAL_LOW] = "survival-low",
        [GROUND_SURVIVAL_UNKNOWN] = "survival-unknown",
        [GROUND_EVIDENCE_THIN] = "evidence-thin",
        [GROUND_SAME] = "same",
    };

    return names[g];
}

/* ---- Requirements ---- */

/* One item: 1 met, 0 not, -1 unknown. */
static int item_met(char *item, const json_t *device, bool *is_capacity)
{
    char *sign = strstr(item, ">=");
    double least, have;

    *is_capacity = sign != NULL;
    if (sign == NULL) {
        if (delta_lists(json_object_get(device, "features"), item))
            return 1;
        /* A record without any feature says nothing of this one. */
        return json_array_size(json_object_get(device, "features")) > 0 ? 0 : -1;
    }
    *sign = '\0';
    have = delta_number(device, item);
    *sign = '>';
    if (!str_to_double(sign + 2, &least) || !isfinite(have))
        return -1;
    return have >= least;
}

int label_requires(const char *requires, const json_t *device, char *what, size_t size,
                   bool *is_capacity)
{
    CLEANUP(freep) char *list = xstrdup(requires);
    char *save = NULL;
    int worst = 1;

    for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        bool capacity;
        int met = item_met(item, device, &capacity);

        if (met == 1 || (met == -1 && worst == -1))
            continue;
        str_copy(what, size, item);
        *is_capacity = capacity;
        worst = met;
        if (met == 0)
            break;
    }
    return worst;
}

/* ---- The rules ---- */

static void set(struct labelled *out, enum retune_label label, enum retune_ground ground,
                const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void set(struct labelled *out, enum retune_label label, enum retune_ground ground,
                const char *fmt, ...)
{
    va_list ap;

    out->label = label;
    out->ground = ground;
    va_start(ap, fmt);
    vsnprintf(out->text, sizeof(out->text), fmt, ap);
    va_end(ap);
}

static uint32_t pairs(const struct label_evidence *e)
{
    return e->sums.blind + e->sums.steered;
}

/* Certainty of the sign that the evidence has. */
static double certainty(const struct label_evidence *e)
{
    return fmax(e->p_positive, 1 - e->p_positive);
}

static bool void_by_requirement(const struct label_input *in, struct labelled *out)
{
    char what[128];
    bool capacity = false;
    int met = label_requires(in->claim->requires, in->device, what, sizeof(what), &capacity);

    if (met == 1)
        return false;
    if (met == -1)
        set(out, LABEL_REVERIFY, GROUND_CAPACITY_UNKNOWN,
            "it needs %s, of which the new device's record says nothing", what);
    else if (capacity)
        set(out, LABEL_VOID, GROUND_CAPACITY_SMALL, "it needs %s, which the new device has not",
            what);
    else
        set(out, LABEL_VOID, GROUND_FEATURE_MISSING,
            "it needs the feature %s, which the new device has not", what);
    return true;
}

/* A measurement on the device itself beats every argument. */
static bool measured_there(const struct label_input *in, struct labelled *out)
{
    bool same;

    if (pairs(in->new) == 0 || certainty(in->new) < one_sign)
        return false;
    same = (in->old->mean > 0) == (in->new->mean > 0);
    if (pairs(in->old) == 0)
        return false;
    set(out, same ? LABEL_CARRY : LABEL_VOID, same ? GROUND_CONFIRMED : GROUND_REFUTED,
        "measured there in %u pair%s: %+.1f %% against %+.1f %% before", pairs(in->new),
        pairs(in->new) == 1 ? "" : "s", 100 * expm1(in->new->mean), 100 * expm1(in->old->mean));
    return true;
}

static bool versions_differ(const struct label_input *in, struct labelled *out)
{
    struct versions_change c;

    if (versions_compare(in->old->versions, in->versions, &c, 1) == 0)
        return false;
    set(out, LABEL_REVERIFY, GROUND_VERSIONS, "%s was %s and is %s", c.axis,
        *c.from ? c.from : "absent", *c.to ? c.to : "absent");
    return true;
}

static bool balance_moved(const struct label_input *in, struct labelled *out)
{
    const struct roofline_shift *s = in->shift;

    if (s->crossed > 0) {
        set(out, LABEL_REVERIFY, GROUND_BALANCE,
            "%zu of %zu workloads are bound by something else on the new device", s->crossed,
            s->workloads);
        return true;
    }
    if (s->workloads > 0 || !s->moved)
        return false;
    if (isfinite(s->balance_from) && isfinite(s->balance_to))
        set(out, LABEL_REVERIFY, GROUND_BALANCE,
            "the machine balance moves from %.3g to %.3g operations per byte, and nothing places "
            "the workloads",
            s->balance_from, s->balance_to);
    else
        set(out, LABEL_REVERIFY, GROUND_BALANCE,
            "the balance of one of the devices is not known, and nothing places the workloads");
    return true;
}

/* Does the claim ask for more of something than its alternative: a larger tile, more unrolling? */
static bool asks_for_more(const struct claim *c)
{
    double with, without;

    return str_to_double(c->with_value, &with) && str_to_double(c->without_value, &without) &&
           with > without;
}

/* Which capacity a technique lives on, by words of its name; NULL when none. */
static const char *const *capacities_of(const char *technique)
{
    static const char *const close[] = { "shared_bytes.block", "shared_bytes.unit",
                                         "cache_bytes.l1d", "cache_bytes.l2", NULL };
    static const char *const registers[] = { "registers.block", "registers.unit", NULL };
    static const struct {
        const char *word;
        const char *const *capacities;
    } rows[] = { { "register", registers }, { "unroll", registers }, { "til", close },
                 { "block", close },        { "cach", close },       { "shared", close },
                 { "staging", close },      { "tuning", close } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strstr(technique, rows[i].word) != NULL)
            return rows[i].capacities;
    return NULL;
}

static bool capacity_shrank(const struct label_input *in, struct labelled *out)
{
    const char *const *capacities = capacities_of(in->claim->technique);

    if (capacities == NULL || !asks_for_more(in->claim))
        return false;
    for (; *capacities; capacities++) {
        double ratio = delta_ratio(in->delta, *capacities);

        if (!(ratio <= shrank))
            continue;
        set(out, LABEL_REVERIFY, GROUND_CAPACITY_SHRANK,
            "%s is %.2f of what it was, and the claim asks for more of it", *capacities, ratio);
        return true;
    }
    return false;
}

static bool features_gone(const struct label_input *in, struct labelled *out)
{
    size_t n = json_array_size(in->delta->removed);

    if (n == 0)
        return false;
    set(out, LABEL_REVERIFY, GROUND_FEATURES_GONE, "%zu feature%s of the old device %s gone: %s%s",
        n, n == 1 ? "" : "s", n == 1 ? "is" : "are",
        json_string_value(json_array_get(in->delta->removed, 0)), n > 1 ? ", ..." : "");
    return true;
}

static bool survival_doubted(const struct label_input *in, struct labelled *out)
{
    const struct survival_rate *r = &in->survival;

    if (r->n + r->n_parent >= SURVIVAL_LEAST && r->mean < survival_high) {
        set(out, LABEL_REVERIFY, GROUND_SURVIVAL_LOW,
            "effects of %s keep their sign between these devices in %.0f %% of cases (%u of %u "
            "measured)",
            in->claim->technique, 100 * r->mean, r->kept, r->n);
        return true;
    }
    if (in->delta->same_class || r->n + r->n_parent >= SURVIVAL_LEAST)
        return false;
    set(out, LABEL_REVERIFY, GROUND_SURVIVAL_UNKNOWN,
        "too little was measured on both kinds of device to say how often %s carries over",
        in->claim->technique);
    return true;
}

static bool evidence_thin(const struct label_input *in, struct labelled *out)
{
    const struct label_evidence *e = in->old;
    const char *why = pairs(e) == 0             ? "it rests on failures alone"
                      : pairs(e) == 1           ? "it rests on one pair"
                      : e->sums.blind == 0      ? "all its confirmations were steered"
                      : certainty(e) < one_sign ? "its evidence has both signs"
                                                : NULL;

    if (why == NULL)
        return false;
    set(out, LABEL_REVERIFY, GROUND_EVIDENCE_THIN, "%s on the old device", why);
    return true;
}

/*
 * Acting on it is wrong when its sign there is the other: the old sign was right and did not
 * survive, or was wrong and was not turned over either.
 */
static double probability_wrong(const struct label_input *in, const struct labelled *l)
{
    double sign = certainty(in->old), keeps = in->survival.mean;

    if (l->label == LABEL_VOID)
        return 0; /* nobody acts on it */
    if (l->ground == GROUND_CONFIRMED)
        return 1 - certainty(in->new);
    if (in->toolchain_only)
        keeps =
            fmax(keeps, survival_high); /* another compiler is a smaller step than another GPU */
    if (l->label == LABEL_CARRY)
        keeps = fmax(keeps, survival_high);
    return sign * (1 - keeps) + (1 - sign) * keeps;
}

void label_insight(const struct label_input *in, struct labelled *out)
{
    memset(out, 0, sizeof(*out));
    if (void_by_requirement(in, out)) {
        /* decided */
    } else if (in->value_missing) {
        set(out, LABEL_VOID, GROUND_VALUE_UNAVAILABLE,
            "no valid assignment on the new device has %s = %s", in->claim->param,
            in->claim->with_value);
    } else if (in->toolchain_only) {
        if (!versions_differ(in, out) && !evidence_thin(in, out))
            set(out, LABEL_CARRY, GROUND_SAME, "nothing changed since it was measured");
    } else if (!measured_there(in, out) && !versions_differ(in, out) && !balance_moved(in, out) &&
               !capacity_shrank(in, out) && !features_gone(in, out) && !survival_doubted(in, out) &&
               !evidence_thin(in, out)) {
        set(out, LABEL_CARRY, GROUND_SAME, "%s, same balance, %u blind pair%s of one sign",
            in->delta->same_class ? "same class of device" : "a high survival rate",
            in->old->sums.blind, in->old->sums.blind == 1 ? "" : "s");
    }
    out->p_wrong = probability_wrong(in, out);
}
