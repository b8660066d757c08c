/* SPDX-License-Identifier: Apache-2.0 */
/* Claims and evidence of a cycle; see distil.h. */
#include "search/distil_impl.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/journal.h"
#include "search/plan_answer.h"
#include "search/search.h"
#include "text.h"
#include "vocab.h"

enum { TOLD_MAX = 240 };

/* ---- Evidence ---- */

/* What the system knows of the cycle: a pair, a failure, or nothing (NULL). */
static const char *evidence_kind(const struct distil *d)
{
    const struct trial *with = d->with, *without = d->c->without;

    if (with == NULL || !with->evaluation.hex[0])
        return NULL;
    if (!with->ok)
        return "failure";
    if (without == NULL || !without->ok || !without->evaluation.hex[0] ||
        strcmp(with->evaluation.hex, without->evaluation.hex) == 0)
        return NULL;
    return "pair";
}

static int64_t effect_q(const struct distil *d)
{
    return d->with->ok ? d->with->value_q - d->c->without->value_q : 0;
}

/* Evidence borrows its strings: it is serialised at once and never released. */
static int add_evidence(const struct distil *d, const struct id *claim, struct err *err)
{
    const struct search *s = d->s;
    const struct trial *with = d->with, *without = d->c->without;
    bool told = !d->c->memory_free && s->memory != NULL && s->offers.n > 0;
    struct evidence e = {
        .claim = *claim,
        .kind = (char *)evidence_kind(d),
        .with = with->evaluation,
        .effect_q = effect_q(d),
        .steered = told || trial_steered(with),
        .failure = with->ok ? "" : with->status,
        .task = s->spec.task,
        .device = s->spec.device,
        .device_class = s->scope.device_class,
        .shape = s->scope.shape,
        .toolchain = s->scope.toolchain,
        .features = s->scope.features,
        .measured_at_s = d->j->clock->wall_ns(d->j->clock) / NS_PER_SEC,
    };

    if (with->ok) {
        e.without = without->evaluation;
        e.sd_q = llround(hypot((double)with->sd_q, (double)without->sd_q));
    }
    return kb_batch_add_evidence(d->j->batch, &e, NULL, err);
}

/* ---- Claims ---- */

static void refuse(const struct distil *d, const char *why, const char *text)
{
    char visible[TOLD_MAX];

    str_visible(text, strlen(text), visible, sizeof(visible));
    json_array_append_new(d->refused, json_pack("{s:s, s:s}", "why", why, "text", visible));
}

/* Adds a claim with its evidence; the texts are borrowed. What the base refuses, as what a model
 * said badly, is in the report. */
static int state_claim(const struct distil *d, const char *technique, const char *statement,
                       const char *mechanism, bool proposed, struct err *err)
{
    const struct search *s = d->s;
    struct claim claim = { .technique = (char *)technique,
                           .statement = (char *)statement,
                           .mechanism = (char *)mechanism,
                           .family = s->scope.family,
                           .dtype = s->scope.dtype,
                           .language = s->scope.language,
                           .bottleneck = s->scope.bottleneck,
                           .requires = "",
                           .param = "",
                           .with_value = "",
                           .without_value = "" };
    struct id id;

    if (kb_batch_add_claim(d->j->batch, &claim, &id, err) != 0) {
        if (err->code != ERR_INVALID)
            return -1;
        refuse(d, err->msg, statement);
        return 0;
    }
    if (add_evidence(d, &id, err) != 0)
        return -1;
    json_array_append_new(d->accepted,
                          json_pack("{s:s, s:s, s:b, s:s}", "claim", id.hex, "technique", technique,
                                    "proposed", proposed, "statement", statement));
    return 0;
}

/* One claim a technique and a statement once: the cycle has one effect. */
static bool said_before(const struct distil *d, const char *technique, const char *statement)
{
    json_t *claim;
    size_t i;

    json_array_foreach (d->accepted, i, claim)
        if (strcmp(jsonx_str(claim, "technique", ""), technique) == 0 ||
            strcasecmp(jsonx_str(claim, "statement", ""), statement) == 0)
            return true;
    return false;
}

/* The text without blanks around it, and with one for each run of them inside. Owned. */
static char *tidy(const char *s)
{
    char *out = xcalloc(strlen(s) + 1, 1);
    size_t n = 0;

    for (; *s; s++)
        if (*s != ' ' || (n > 0 && out[n - 1] != ' '))
            out[n++] = *s;
    while (n > 0 && out[n - 1] == ' ')
        out[--n] = '\0';
    return out;
}

static int take_insight(const struct distil *d, const json_t *insight, struct err *err)
{
    CLEANUP(freep) char *statement = tidy(jsonx_str(insight, "statement", ""));
    CLEANUP(freep) char *mechanism = NULL;
    char technique[VOCAB_NAME_MAX] = "";
    bool proposed = false;
    const char *why;

    if (!json_is_object(insight))
        why = "an insight is an object with technique and statement";
    else if ((why = distil_statement_fault(d, statement)) == NULL)
        why = distil_technique(d, jsonx_str(insight, "technique", ""), technique, &proposed);
    if (why == NULL && said_before(d, technique, statement))
        why = "the technique, or the statement, was stated before in this cycle";
    if (why != NULL) {
        refuse(d, why, statement);
        return 0;
    }
    mechanism = distil_mechanism(d, insight);
    if (mechanism == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    return state_claim(d, technique, statement, mechanism, proposed, err);
}

static int take_insights(const struct distil *d, const json_t *insights, struct err *err)
{
    json_t *insight;
    size_t i;

    json_array_foreach (insights, i, insight) {
        if (i >= PLAN_INSIGHTS_MAX) {
            refuse(d, "a cycle states no more than four insights", "");
            break;
        }
        if (take_insight(d, insight, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- Without a model's words ---- */

/* The technique that the node is about: the first that its title names, else its own decision and
 * commitments. */
static const struct vocab_entry *intended(const struct distil *d)
{
    const struct world_node *n = world_get(d->s->world, d->c->node);
    uint16_t found;

    if (distil_named(d, n->action.title, &found, 1) == 1 ||
        distil_named(d, n->choice, &found, 1) == 1)
        return vocab_at(found);
    for (size_t i = 0; i < n->n_commitments; i++)
        if (distil_named(d, n->commitments[i].param, &found, 1) == 1 ||
            distil_named(d, n->commitments[i].value, &found, 1) == 1)
            return vocab_at(found);
    return NULL;
}

/* In the vocabulary's words, so that equal findings of all searches are equal claims. */
static int state_intent(const struct distil *d, struct err *err)
{
    const struct vocab_entry *e = intended(d);
    CLEANUP(freep) char *statement = NULL;

    if (e == NULL) {
        refuse(d, "the node names no technique of the vocabulary: nothing is stated", "");
        return 0;
    }
    statement = str_printf("Apply %s: %s", e->name, e->summary);
    if (statement == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    return state_claim(d, e->name, statement, "", false, err);
}

/* ---- The cycle ---- */

/* A cycle without a pass: what its last attempt failed with. */
static const struct trial *last_failure(const struct search *s, uint64_t cycle)
{
    for (uint64_t n = search_measured(s); n >= 1; n--) {
        const struct trial *t = search_trial(s, n);

        if (t->cycle == cycle)
            return t->ok ? NULL : t;
    }
    return NULL;
}

static int learn(struct distil *d, const json_t *insights, struct err *err)
{
    if (evidence_kind(d) == NULL) {
        refuse(d, "nothing was measured that could be compared: nothing is stated", "");
        return 0;
    }
    distil_collect_names(d);
    if (take_insights(d, insights, err) != 0)
        return -1;
    return json_array_size(d->accepted) > 0 ? 0 : state_intent(d, err);
}

int distil_cycle(struct journal *j, const struct distil_case *c, const json_t *insights,
                 json_t **report, struct err *err)
{
    struct distil d = { .j = j, .s = j->search, .c = c, .with = c->with };
    const char *kind;
    int rc = 0;

    if (c->node >= world_count(j->search->world))
        return err_set(err, ERR_INTERNAL, "a cycle of no node cannot be learned from");
    if (d.with == NULL)
        d.with = last_failure(d.s, c->cycle);
    d.text = text_new();
    d.accepted = json_array();
    d.refused = json_array();
    if (d.text == NULL || d.accepted == NULL || d.refused == NULL)
        rc = err_set(err, ERR_NOMEM, "no memory to learn from a cycle");
    if (rc == 0)
        rc = learn(&d, insights, err);
    text_free(d.text);
    distil_release_names(&d.names);
    if (rc != 0) {
        json_decref(d.accepted);
        json_decref(d.refused);
        return -1;
    }
    kind = evidence_kind(&d);
    *report = json_pack("{s:s?, s:I, s:o, s:o}", "evidence", kind, "effect_q",
                        (json_int_t)(kind ? effect_q(&d) : 0), "accepted", d.accepted, "refused",
                        d.refused);
    return *report ? 0 : err_set(err, ERR_NOMEM, "no memory for a report on a cycle");
}
