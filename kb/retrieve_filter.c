/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hard filters: each is a bit set over all insights, so that they combine exactly and can say how
 * many insights each of them removes; see retrieve_impl.h and docs/retrieval.md.
 */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "kb.h"
#include "retrieve_impl.h"

static size_t n_words(const struct retrieve *r)
{
    return ((size_t)r->n_docs + 63) / 64;
}

static void fill(const struct retrieve *r, uint64_t *words, bool on)
{
    memset(words, on ? 0xff : 0, n_words(r) * sizeof(*words));
    if (on && r->n_docs % 64 != 0)
        words[n_words(r) - 1] = (1ull << (r->n_docs % 64)) - 1;
}

/* Takes f->one into f->pass and enters how many of `base` insights it removes. */
static int combine(const struct retrieve *r, struct filter *f, const char *name, uint32_t base,
                   json_t *removed, struct err *err)
{
    uint32_t kept = bits_count(f->one, r->n_docs);

    for (size_t w = 0; w < n_words(r); w++)
        f->pass[w] &= f->one[w];
    if (json_object_set_new(removed, name, json_integer(base - MIN(kept, base))) != 0)
        return err_set(err, ERR_NOMEM, "no memory for the filters' counts");
    return 0;
}

/* Claims of the families in a comma-separated list. */
static void mark_related(const struct retrieve *r, const char *list, uint64_t *words)
{
    while (*list != '\0') {
        size_t n = strcspn(list, ",");
        char family[VOCAB_NAME_MAX + 1];
        uint32_t number;

        if (n < sizeof(family)) {
            memcpy(family, list, n);
            family[n] = '\0';
            number = symbols_find(&r->family.names, family);
            if (n > 0 && number != SYMBOLS_NONE)
                facet_mark(&r->family, number, words, true);
        }
        list += n + (list[n] != '\0');
    }
}

static void mark_family(const struct retrieve *r, const char *family, uint64_t *words)
{
    uint32_t own = symbols_find(&r->family.names, family);
    uint32_t any = symbols_find(&r->family.names, "");

    if (own != SYMBOLS_NONE)
        facet_mark(&r->family, own, words, true);
    if (any != SYMBOLS_NONE)
        facet_mark(&r->family, any, words, true);
}

static void mark_technique(const struct retrieve *r, const char *technique, uint64_t *words)
{
    char name[VOCAB_NAME_MAX];
    uint32_t number = symbols_find(&r->technique.names, vocab_canonical(technique, name));

    if (number != SYMBOLS_NONE)
        facet_mark(&r->technique, number, words, true);
}

/* Whether a comma-separated list has the item, in any case. */
static bool list_has(const char *list, const char *item, size_t len)
{
    while (*list != '\0') {
        size_t n = strcspn(list, ", ");

        if (n == len && strncasecmp(list, item, len) == 0)
            return true;
        list += n + (list[n] != '\0');
    }
    return false;
}

/* A capacity (NAME>=NUMBER) is none of the features that a question can give: it passes. */
static bool list_within(const char *needed, const char *present)
{
    while (*needed != '\0') {
        size_t n = strcspn(needed, ", ");

        if (n > 0 && memchr(needed, '>', n) == NULL && !list_has(present, needed, n))
            return false;
        needed += n + (needed[n] != '\0');
    }
    return true;
}

/* Distinct requirement lists are few: each is judged once. */
static void mark_features(const struct retrieve *r, const char *features, uint64_t *words)
{
    fill(r, words, true);
    for (uint32_t i = 0; i < r->requires.names.n; i++)
        if (!list_within(symbols_get(&r->requires.names, i), features))
            facet_mark(&r->requires, i, words, false);
}

struct device_search {
    const struct retrieve *r;
    uint32_t device;
};

static int is_on_device(void *ctx, uint32_t row)
{
    const struct device_search *s = ctx;

    return evtable_row(s->r->evidence, row)->device == s->device;
}

static void mark_device(const struct retrieve *r, const struct kb_query *q, uint64_t *words)
{
    struct device_search s = { r, evtable_name_find(r->evidence, q->device) };
    const struct bitset *set;

    if (s.device >= r->n_devices)
        return;
    set = &r->devices[s.device];
    if (q->as_of_ns == 0) {
        memcpy(words, set->words, MIN(set->n_words, n_words(r)) * sizeof(*words));
        return;
    }
    for (uint32_t i = 0; i < r->n_docs; i++) {
        const struct insight *in;

        if (r->docs[i].recorded_at_ns > q->as_of_ns)
            continue;
        in = r->options.insight(r->options.insight_ctx, i);
        if (retrieve_each_row(r, in, q->as_of_ns, is_on_device, &s) != 0)
            words[i / 64] |= 1ull << (i % 64);
    }
}

/* Retracted insights, less those withdrawn only after the time asked for. */
static void mark_not_retracted(const struct retrieve *r, uint64_t as_of_ns, uint64_t *words)
{
    fill(r, words, true);
    for (size_t w = 0; w < n_words(r); w++)
        words[w] &= ~r->retracted.words[w];
    if (as_of_ns == 0)
        return;
    for (uint32_t i = 0; i < r->n_docs; i++) {
        const struct insight *in;

        if (!bitset_has(&r->retracted, i))
            continue;
        in = r->options.insight(r->options.insight_ctx, i);
        if (evtable_retracted_at(r->evidence, &in->id) > as_of_ns)
            words[i / 64] |= 1ull << (i % 64);
    }
}

static void mark_not_superseded(const struct retrieve *r, uint64_t *words)
{
    fill(r, words, true);
    for (size_t w = 0; w < n_words(r); w++)
        words[w] &= ~r->superseded.words[w];
}

static void mark_as_of(const struct retrieve *r, uint64_t as_of_ns, uint64_t *words)
{
    for (uint32_t i = 0; i < r->n_docs; i++)
        if (r->docs[i].recorded_at_ns <= as_of_ns)
            words[i / 64] |= 1ull << (i % 64);
}

/* What is no choice of the asker but the state of the insight: entered only when it removes some.
 */
static int apply_state(const struct retrieve *r, const struct kb_query *q, struct filter *f,
                       uint32_t base, json_t *removed, struct err *err)
{
    mark_not_retracted(r, q->as_of_ns, f->one);
    if (bits_count(f->one, r->n_docs) < base && combine(r, f, "retracted", base, removed, err) != 0)
        return -1;
    mark_not_superseded(r, f->one);
    if (bits_count(f->one, r->n_docs) < base &&
        combine(r, f, "superseded", base, removed, err) != 0)
        return -1;
    return 0;
}

int filter_apply(const struct retrieve *r, const struct kb_query *q, struct filter *f,
                 json_t *removed, struct err *err)
{
    uint32_t base = r->n_docs;

    fill(r, f->pass, true);
    if (apply_state(r, q, f, base, removed, err) != 0)
        return -1;
    if (q->as_of_ns != 0) {
        fill(r, f->one, false);
        mark_as_of(r, q->as_of_ns, f->one);
        if (combine(r, f, "as_of", base, removed, err) != 0)
            return -1;
    }
    if (q->family != NULL) {
        fill(r, f->one, false);
        mark_family(r, q->family, f->one);
        if (q->related != NULL)
            mark_related(r, q->related, f->one);
        if (combine(r, f, "family", base, removed, err) != 0)
            return -1;
    }
    if (q->technique != NULL) {
        fill(r, f->one, false);
        mark_technique(r, q->technique, f->one);
        if (combine(r, f, "technique", base, removed, err) != 0)
            return -1;
    }
    if (q->device != NULL) {
        fill(r, f->one, false);
        mark_device(r, q, f->one);
        if (combine(r, f, "device", base, removed, err) != 0)
            return -1;
    }
    if (q->features != NULL) {
        mark_features(r, q->features, f->one);
        if (combine(r, f, "features", base, removed, err) != 0)
            return -1;
    }
    f->n_pass = bits_count(f->pass, r->n_docs);
    return 0;
}

int retrieve_each_row(const struct retrieve *r, const struct insight *in, uint64_t as_of_ns,
                      int (*fn)(void *ctx, uint32_t row), void *ctx)
{
    int rc = 0;

    for (size_t i = 0; i < in->n_evidence && rc == 0; i++) {
        uint32_t row = evtable_find(r->evidence, &in->evidence[i]);

        if (row != EVTABLE_NONE && evrow_counts(evtable_row(r->evidence, row), as_of_ns))
            rc = fn(ctx, row);
    }
    if (as_of_ns == 0)
        return rc;
    /* The present list lacks what was withdrawn since then: those rows are found by their claim. */
    for (uint32_t row = evtable_of_claim(r->evidence, &in->id); row != EVTABLE_NONE && rc == 0;
         row = evtable_row(r->evidence, row)->next) {
        const struct evrow *e = evtable_row(r->evidence, row);

        if (e->retracted_at_ns != 0 && evrow_counts(e, as_of_ns))
            rc = fn(ctx, row);
    }
    return rc;
}
