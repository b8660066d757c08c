/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hits of a query as JSON: what is said of each insight, why it was found, and its newest
 * evidence. Written straight as text: building a tree first took as long as the search.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "retrieve_query.h"

/* ---- Reasons ---- */

/* Whether the bytes are UTF-8: a sentence that was cut may end inside a character. */
static bool is_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    while (*p != '\0') {
        unsigned more = *p < 0x80 ? 0 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;

        if (more > 0 && (*p < 0xc2 || *p > 0xf4))
            return false;
        for (p++; more > 0; more--, p++)
            if ((*p & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* Adds a reason: one sentence, at most 511 bytes of it. */
static void __attribute__((format(printf, 2, 3)))
add_sentence(struct jsonw *w, const char *fmt, ...)
{
    char text[512], visible[sizeof(text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    jsonw_text(w, is_utf8(text) ? text : str_visible(text, strlen(text), visible, sizeof(visible)));
}

/* The asker's own words that the document has, as they were written. */
static void why_words(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    char list[400] = "";
    size_t len = 0, n = 0;

    for (size_t i = 0; i < c->n_words && n < WHY_WORDS; i++) {
        const struct query_word *asked = &c->words[i];
        char word[80];

        if (asked->is_compound || lexical_occurrences(c->r->lexical, asked->hash, d->ordinal) == 0)
            continue;
        str_visible(c->q->text + asked->offset, asked->len, word, TEXT_WORD_MAX + 4);
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", n > 0 ? ", " : "", word);
        if (len >= sizeof(list))
            break;
        n++;
    }
    if (n > 0)
        add_sentence(w, "It shares these words with the question: %s.", list);
}

static void why_technique(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    const char *own = symbols_get(&c->r->technique.names, c->r->docs[d->ordinal].technique);

    for (size_t i = 0; i < c->n_concepts; i++) {
        const char *name = vocab_at(c->concepts[i])->name;

        if (strcmp(name, own) == 0) {
            add_sentence(w, "The question names its technique, %s.", own);
            return;
        }
        if (lexical_occurrences(c->r->lexical, retrieve_concept_term(name), d->ordinal) > 0) {
            add_sentence(w, "It speaks of %s, which the question names.", name);
            return;
        }
    }
    if (c->q->technique != NULL && strcmp(c->q->technique, own) != 0)
        add_sentence(w, "Its technique, %s, is also called '%.80s'.", own, c->q->technique);
}

static void why_evidence(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    const struct insight_effect *e = &d->effect;
    double percent = 100 * (exp(e->mean) - 1);

    if (e->n == 0 && d->in->all.failures > 0)
        add_sentence(w, "It was never measured; %u attempts failed.", d->in->all.failures);
    else if (e->n == 0)
        add_sentence(w, "It was never measured: its effect is a guess.");
    else if (e->side_n > 0)
        add_sentence(w,
                     "Measured %u times on this side of its condition: %+.1f %% speed, positive "
                     "with probability %.2f.",
                     e->side_n, percent, e->p_positive);
    else if (e->cell[0] != '\0')
        add_sentence(w, "Measured %u times on %s: %+.1f %% speed, positive with probability %.2f.",
                     e->n, e->cell, percent, e->p_positive);
    else if (c->device_class != NULL)
        add_sentence(w,
                     "Never measured on %s: the effect is that of %u measurements elsewhere, "
                     "%+.1f %% speed.",
                     c->device_class, e->n, percent);
    else
        add_sentence(w, "Measured %u times: %+.1f %% speed, positive with probability %.2f.", e->n,
                     percent, e->p_positive);
    if (e->foreign > 0)
        add_sentence(w, "%u of these measurements were imported and count for %.2f each.",
                     e->foreign, e->trust);
}

static void why_condition(const struct candidate *d, struct jsonw *w)
{
    const char *condition = d->in->condition;

    if (condition[0] == '\0')
        return;
    if (d->effect.side < 0)
        add_sentence(w, "Its sign depends on a condition: %s.", condition);
    else
        add_sentence(w, "Its sign depends on a condition, which %s here: %s.",
                     d->effect.side == 0 ? "holds" : "does not hold", condition);
}

static void why_scope(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    const struct claim *k = &d->in->claim;
    char nearest[400];

    if (d->on_task)
        add_sentence(w, "It has evidence on the task %s.", c->q->task);
    if (c->q->family != NULL && k->family[0] == '\0')
        add_sentence(w, "Its scope is every family.");
    else if (c->q->family != NULL && situation_related(c, k->family))
        add_sentence(w, "It is of the related family %s.", k->family);
    if (situation_sentence(c, d, nearest, sizeof(nearest)))
        add_sentence(w, "%s", nearest);
    if (c->profile.bottleneck[0] != '\0' && strcmp(k->bottleneck, c->profile.bottleneck) == 0)
        add_sentence(w, "It is about kernels bound by %s, as the question says.",
                     strcmp(k->bottleneck, "memory") == 0 ? "memory bandwidth" : k->bottleneck);
}

static void why_rest(const struct candidate *d, struct jsonw *w)
{
    const struct claim *k = &d->in->claim;

    if (k->param[0] != '\0')
        add_sentence(w, "It was tried as %s = %s against %s.", k->param, k->with_value,
                     k->without_value);
}

static void write_why(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    jsonw_key(w, "why");
    jsonw_open(w, '[');
    why_words(c, d, w);
    why_technique(c, d, w);
    if (c->n_terms > 0)
        add_sentence(w, "Its similarity to the question is %.2f.", d->cosine);
    why_evidence(c, d, w);
    why_scope(c, d, w);
    why_condition(d, w);
    why_rest(d, w);
    jsonw_close(w, ']');
}

/* ---- Evidence ---- */

struct newest {
    const struct evtable *t;
    uint32_t rows[EVIDENCE_MAX];
    size_t n;
};

static bool is_newer(const struct evtable *t, uint32_t x, uint32_t y)
{
    const struct evrow *a = evtable_row(t, x), *b = evtable_row(t, y);

    if (a->measured_at_s != b->measured_at_s)
        return a->measured_at_s > b->measured_at_s;
    return memcmp(a->id.bytes, b->id.bytes, sizeof(a->id.bytes)) < 0;
}

static int keep_newest(void *ctx, uint32_t row)
{
    struct newest *k = ctx;
    size_t at = k->n;

    if (at == EVIDENCE_MAX && !is_newer(k->t, row, k->rows[at - 1]))
        return 0;
    if (at < EVIDENCE_MAX)
        k->n++;
    else
        at--;
    for (; at > 0 && is_newer(k->t, row, k->rows[at - 1]); at--)
        k->rows[at] = k->rows[at - 1];
    k->rows[at] = row;
    return 0;
}

static void write_id(struct jsonw *w, const char *key, const uint8_t bytes[32])
{
    static const uint8_t none[32];

    jsonw_key(w, key);
    if (memcmp(bytes, none, sizeof(none)) == 0)
        jsonw_null(w);
    else
        jsonw_hex(w, bytes, 32);
}

static void write_text(struct jsonw *w, const char *key, const char *s)
{
    jsonw_key(w, key);
    jsonw_text(w, s);
}

static void write_int(struct jsonw *w, const char *key, int64_t v)
{
    jsonw_key(w, key);
    jsonw_int(w, v);
}

static void write_real(struct jsonw *w, const char *key, double v)
{
    jsonw_key(w, key);
    jsonw_real(w, v);
}

/* Log effects leave as natural logs, not as micro-units. */
static void write_micro(struct jsonw *w, const char *key, int64_t q)
{
    jsonw_key(w, key);
    jsonw_micro(w, q);
}

static void write_row(struct jsonw *w, const struct evtable *t, const struct evrow *row)
{
    jsonw_open(w, '{');
    write_id(w, "id", row->id.bytes);
    write_text(w, "task", evtable_name(t, row->task));
    write_text(w, "device", evtable_name(t, row->device));
    write_text(w, "device_class", evtable_name(t, row->device_class));
    write_text(w, "shape", evtable_name(t, row->shape));
    write_text(w, "toolchain", evtable_name(t, row->toolchain));
    write_micro(w, "effect", row->effect_q);
    write_micro(w, "sd", row->sd_q);
    jsonw_key(w, "steered");
    jsonw_bool(w, row->steered);
    write_text(w, "failure", evtable_name(t, row->failure));
    write_int(w, "measured_at", (int64_t)row->measured_at_s);
    write_id(w, "with", row->with.bytes);
    write_id(w, "without", row->without.bytes);
    jsonw_close(w, '}');
}

static void write_evidence(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    struct newest newest = { .t = c->r->evidence };

    retrieve_each_row(c->r, d->in, c->q->as_of_ns, keep_newest, &newest);
    jsonw_key(w, "evidence");
    jsonw_open(w, '[');
    for (size_t i = 0; i < newest.n; i++)
        write_row(w, newest.t, evtable_row(newest.t, newest.rows[i]));
    jsonw_close(w, ']');
}

/* ---- A hit ---- */

static void write_rank(struct jsonw *w, const char *key, uint32_t rank)
{
    jsonw_key(w, key);
    if (rank != 0)
        jsonw_int(w, rank);
    else
        jsonw_null(w);
}

static void write_ranks(struct jsonw *w, const struct candidate *d)
{
    jsonw_key(w, "ranks");
    jsonw_open(w, '{');
    write_rank(w, "lexical", d->lexical_rank);
    write_rank(w, "vector", d->vector_rank);
    write_rank(w, "fused", d->fused_rank);
    write_rank(w, "usefulness", d->useful_rank);
    jsonw_close(w, '}');
}

static void write_scope(struct jsonw *w, const struct claim *k)
{
    jsonw_key(w, "scope");
    jsonw_open(w, '{');
    write_text(w, "family", k->family);
    write_text(w, "dtype", k->dtype);
    write_text(w, "language", k->language);
    write_text(w, "bottleneck", k->bottleneck);
    write_text(w, "requires", k->requires);
    jsonw_close(w, '}');
}

static void write_effect(struct jsonw *w, const struct insight_effect *e)
{
    jsonw_key(w, "effect");
    jsonw_open(w, '{');
    write_real(w, "mean", e->mean);
    write_real(w, "sd", e->sd);
    write_real(w, "p_positive", e->p_positive);
    write_int(w, "n", e->n);
    write_text(w, "cell", e->cell);
    write_int(w, "blind", e->blind);
    write_int(w, "steered", e->steered);
    jsonw_key(w, "blind_mean");
    if (e->blind > 0)
        jsonw_real(w, e->blind_mean);
    else
        jsonw_null(w);
    write_int(w, "foreign", e->foreign);
    jsonw_key(w, "levels");
    jsonw_open(w, '[');
    for (size_t i = 0; i < INSIGHT_LEVELS; i++)
        jsonw_int(w, e->levels[i]);
    jsonw_close(w, ']');
    jsonw_key(w, "holds");
    if (e->side < 0)
        jsonw_null(w);
    else
        jsonw_bool(w, e->side == 0);
    write_int(w, "side_n", e->side_n);
    jsonw_close(w, '}');
}

static void write_failures(struct jsonw *w, const struct insight *in)
{
    write_int(w, "failures", in->all.failures);
    jsonw_key(w, "failure_classes");
    jsonw_open(w, '{');
    for (size_t i = 0; i < in->n_failures; i++)
        write_int(w, in->failures[i].class, in->failures[i].n);
    jsonw_close(w, '}');
}

/* The learned condition: as text, and for programs. */
static void write_condition(struct jsonw *w, const struct insight *in)
{
    write_text(w, "condition", in->condition);
    jsonw_key(w, "when");
    if (in->when.op == INSIGHT_ALWAYS) {
        jsonw_null(w);
    } else {
        jsonw_open(w, '{');
        write_text(w, "feature", in->when.feature);
        write_text(w, "op", insight_op_name(in->when.op));
        if (in->when.op == INSIGHT_AT_MOST)
            write_real(w, "value", in->when.value);
        else
            write_text(w, "value", in->when.text);
        jsonw_key(w, "helps");
        jsonw_bool(w, in->when.helps);
        jsonw_close(w, '}');
    }
    jsonw_key(w, "contradicted");
    jsonw_bool(w, in->contradicted);
}

static void write_hit(const struct query *c, const struct candidate *d, struct jsonw *w)
{
    const struct insight *in = d->in;

    jsonw_open(w, '{');
    write_text(w, "insight", in->id.hex);
    write_text(w, "statement", in->claim.statement);
    write_text(w, "technique",
               symbols_get(&c->r->technique.names, c->r->docs[d->ordinal].technique));
    write_scope(w, &in->claim);
    write_condition(w, in);
    write_effect(w, &d->effect);
    write_int(w, "blind", in->all.blind);
    write_int(w, "steered", in->all.steered);
    write_failures(w, in);
    write_text(w, "state", insight_state_name(in->state));
    write_real(w, "score", d->score);
    write_why(c, d, w);
    write_evidence(c, d, w);
    if (c->q->explain)
        write_ranks(w, d);
    jsonw_close(w, '}');
}

void answer_hits(const struct query *c, struct candidate *const *chosen, size_t n, struct jsonw *w)
{
    jsonw_open(w, '[');
    for (size_t i = 0; i < n; i++)
        write_hit(c, chosen[i], w);
    jsonw_close(w, ']');
}
