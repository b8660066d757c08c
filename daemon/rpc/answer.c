/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of answers; see answer.h. */
#include "rpc/answer.h"

#include <math.h>

#include "base/mem.h"

double answer_ratio(int64_t log_q)
{
    return exp((double)log_q * 1e-6);
}

json_t *answer_stats(const struct kb_stats *s)
{
    static const char *const doc_names[] = { "task", "device", "program", "search", "side" };
    json_t *facts = json_object(), *docs = json_object();

    _Static_assert(ARRAY_LEN(doc_names) == KB_DOC_COUNT, "a name per kind of document");
    for (int i = 0; i < FACT_COUNT; i++)
        json_object_set_new(facts, fact_kind_name((enum fact_kind)i),
                            json_integer((json_int_t)s->facts[i]));
    for (int i = 0; i < KB_DOC_COUNT; i++)
        json_object_set_new(docs, doc_names[i], json_integer((json_int_t)s->docs[i]));
    return json_pack("{s:o, s:o, s:I, s:I, s:{s:I, s:I, s:b}, s:I, s:I}", "facts", facts,
                     "documents", docs, "insights", (json_int_t)s->insights, "last_seq",
                     (json_int_t)s->last_seq, "vectors", "indexed", (json_int_t)s->vectors_indexed,
                     "pending", (json_int_t)s->vectors_pending, "exact", (int)s->index_exact,
                     "bytes_on_disk", (json_int_t)s->bytes_on_disk, "schema",
                     (json_int_t)s->schema);
}

json_t *answer_effect(const struct insight_effect *e)
{
    json_t *levels = json_array();

    for (size_t i = 0; i < INSIGHT_LEVELS; i++)
        json_array_append_new(levels, json_integer(e->levels[i]));
    return json_pack("{s:f, s:f, s:f, s:I, s:s, s:I, s:I, s:o, s:I, s:f, s:o}", "mean", e->mean,
                     "sd", e->sd, "p_positive", e->p_positive, "n", (json_int_t)e->n, "cell",
                     e->cell, "blind", (json_int_t)e->blind, "steered", (json_int_t)e->steered,
                     "blind_mean", e->blind > 0 ? json_real(e->blind_mean) : json_null(), "foreign",
                     (json_int_t)e->foreign, "trust", e->trust, "levels", levels);
}

static json_t *failures_json(const struct insight *in)
{
    json_t *classes = json_object();

    for (size_t i = 0; i < in->n_failures; i++)
        json_object_set_new(classes, in->failures[i].class, json_integer(in->failures[i].n));
    return classes;
}

/* The learned condition for programs; null for none. */
static json_t *when_json(const struct insight_condition *when)
{
    if (when->op == INSIGHT_ALWAYS)
        return json_null();
    return json_pack("{s:s, s:s, s:o, s:b}", "feature", when->feature, "op",
                     insight_op_name(when->op), "value",
                     when->op == INSIGHT_AT_MOST ? json_real(when->value) : json_string(when->text),
                     "helps", (int)when->helps);
}

json_t *answer_insight(const struct insight *in)
{
    const struct claim *c = &in->claim;
    struct insight_effect e = insight_posterior(in, NULL, NULL, NULL);

    return json_pack(
        "{s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s}, s:s, s:o, s:b, s:s, s:o, s:I, s:I, s:I, "
        "s:o, s:I}",
        "insight", in->id.hex, "technique", c->technique, "statement", c->statement, "mechanism",
        c->mechanism, "scope", "family", c->family, "dtype", c->dtype, "language", c->language,
        "bottleneck", c->bottleneck, "requires", c->requires, "condition",
        in->condition != NULL ? in->condition : "", "when", when_json(&in->when), "contradicted",
        (int)in->contradicted, "state", insight_state_name(in->state), "effect",
        e.n > 0 ? answer_effect(&e) : json_null(), "blind", (json_int_t)in->all.blind, "steered",
        (json_int_t)in->all.steered, "failures", (json_int_t)in->all.failures, "failure_classes",
        failures_json(in), "evidence_count", (json_int_t)in->n_evidence);
}
