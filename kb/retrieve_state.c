/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of insights, facets and evidence in the snapshot; see retrieve_state.h. */
#include "retrieve_state.h"

#include <string.h>

#include "base/mem.h"
#include "retrieve_impl.h"

uint64_t retrieve_state_layout(void)
{
    uint64_t h = text_hash_pair(evtable_layout(), sizeof(struct retrieve_doc));

    h = text_hash_pair(h, offsetof(struct retrieve_doc, technique));
    h = text_hash_pair(h, offsetof(struct retrieve_doc, gain));
    return text_hash_pair(h, offsetof(struct retrieve_doc, state));
}

/* ---- Writing ---- */

static void put_symbols(struct snap_writer *w, enum snap_section section, const struct symbols *t)
{
    snap_begin(w, section);
    symbols_put(w, t);
}

static void put_devices(struct snap_writer *w, const struct retrieve *r)
{
    snap_begin(w, SNAP_DEVICES);
    for (size_t i = 0; i < r->n_devices; i++) {
        const struct bitset *b = &r->devices[i];
        uint64_t head[2] = { i, b->n_words };

        if (b->n_words == 0)
            continue;
        snap_put(w, head, sizeof(head));
        snap_put(w, b->words, b->n_words * sizeof(*b->words));
    }
}

void retrieve_state_put(struct snap_writer *w, const struct retrieve *r)
{
    evtable_put(w, r->evidence);
    snap_begin(w, SNAP_DOCS);
    snap_put(w, r->docs, r->n_docs * sizeof(*r->docs));
    put_symbols(w, SNAP_TECHNIQUES, &r->technique.names);
    put_symbols(w, SNAP_FAMILIES, &r->family.names);
    put_symbols(w, SNAP_REQUIRES, &r->requires.names);
    put_symbols(w, SNAP_SPELLINGS, &r->technique_raw);
    snap_begin(w, SNAP_TECHNIQUE_OF_SPELLING);
    snap_put(w, r->technique_of_raw, r->technique_raw.n * sizeof(*r->technique_of_raw));
    put_devices(w, r);
}

/* ---- Reading ---- */

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for retrieval");
}

static int do_not_fit(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "its rows of insights do not fit together");
}

static int take_docs(const struct snap *s, struct retrieve *r, struct err *err)
{
    size_t n;
    const struct retrieve_doc *docs = snap_elements(s, SNAP_DOCS, sizeof(*docs), &n, err);

    if (docs == NULL)
        return -1;
    if (n > UINT32_MAX / 2)
        return do_not_fit(err);
    r->cap_docs = n + n / 8 + 64;
    r->docs = snap_copy(docs, sizeof(*docs), n, r->cap_docs);
    if (r->docs == NULL || bitset_reserve(&r->retracted, n + 1, err) != 0 ||
        bitset_reserve(&r->superseded, n + 1, err) != 0)
        return no_memory(err);
    r->n_docs = (uint32_t)n;
    for (uint32_t i = 0; i < r->n_docs; i++) {
        bitset_put(&r->retracted, i, docs[i].state == INSIGHT_RETRACTED);
        bitset_put(&r->superseded, i, docs[i].state == INSIGHT_SUPERSEDED);
    }
    return 0;
}

static uint32_t doc_value(const struct retrieve_doc *d, enum snap_section column)
{
    return column == SNAP_TECHNIQUES ? d->technique
           : column == SNAP_FAMILIES ? d->family
                                     : d->requires;
}

/* The lists of a facet follow from the rows. */
static int take_facet(const struct snap *s, struct retrieve *r, enum snap_section column,
                      struct facet *f, struct err *err)
{
    if (symbols_take(s, column, &f->names, err) != 0)
        return -1;
    f->lists = calloc((size_t)f->names.n + 1, sizeof(*f->lists));
    if (f->lists == NULL)
        return no_memory(err);
    f->cap_lists = (size_t)f->names.n + 1;
    for (uint32_t i = 0; i < r->n_docs; i++) {
        uint32_t v = doc_value(&r->docs[i], column);

        if (v >= f->names.n)
            return do_not_fit(err);
        f->lists[v].cap++;
    }
    for (uint32_t v = 0; v < f->names.n; v++) {
        f->lists[v].cap += f->lists[v].cap / 8 + 8;
        f->lists[v].v = reallocarray(NULL, f->lists[v].cap, sizeof(*f->lists[v].v));
        if (f->lists[v].v == NULL)
            return no_memory(err);
    }
    for (uint32_t i = 0; i < r->n_docs; i++)
        facet_put(f, doc_value(&r->docs[i], column), i);
    return 0;
}

static int take_spellings(const struct snap *s, struct retrieve *r, struct err *err)
{
    size_t n;
    const uint32_t *of = snap_elements(s, SNAP_TECHNIQUE_OF_SPELLING, sizeof(*of), &n, err);

    if (of == NULL || symbols_take(s, SNAP_SPELLINGS, &r->technique_raw, err) != 0)
        return -1;
    if (n != r->technique_raw.n)
        return do_not_fit(err);
    r->technique_of_raw = reallocarray(NULL, n + 64, sizeof(*of));
    if (r->technique_of_raw == NULL)
        return no_memory(err);
    r->cap_raw = n + 64;
    memcpy(r->technique_of_raw, of, n * sizeof(*of));
    for (size_t i = 0; i < n; i++)
        if (of[i] >= r->technique.names.n)
            return do_not_fit(err);
    return 0;
}

static int take_devices(const struct snap *s, struct retrieve *r, struct err *err)
{
    size_t n, names = MAX((size_t)evtable_name_count(r->evidence), (size_t)1);
    const uint64_t *at = snap_elements(s, SNAP_DEVICES, sizeof(*at), &n, err);

    if (at == NULL)
        return -1;
    r->devices = calloc(names, sizeof(*r->devices));
    if (r->devices == NULL)
        return no_memory(err);
    r->n_devices = names;
    while (n > 0) {
        uint64_t device = at[0], words = n > 1 ? at[1] : UINT64_MAX;
        struct bitset *b;

        if (device >= names || words == 0 || words > n - 2)
            return do_not_fit(err);
        b = &r->devices[device];
        if (b->words != NULL || bitset_reserve(b, words * 64, err) != 0)
            return b->words != NULL ? do_not_fit(err) : -1;
        memcpy(b->words, at + 2, words * sizeof(*at));
        at += 2 + words;
        n -= 2 + words;
    }
    return 0;
}

static void state_free(struct retrieve *r)
{
    evtable_free(r->evidence);
    r->evidence = NULL;
    bitset_release(&r->retracted);
    bitset_release(&r->superseded);
    for (size_t i = 0; i < r->n_devices; i++)
        bitset_release(&r->devices[i]);
    free(r->devices);
    r->devices = NULL;
    r->n_devices = 0;
    symbols_release(&r->technique_raw);
    free(r->technique_of_raw);
    r->technique_of_raw = NULL;
    r->cap_raw = 0;
    facet_release(&r->technique);
    facet_release(&r->family);
    facet_release(&r->requires);
    free(r->docs);
    r->docs = NULL;
    r->n_docs = 0;
    r->cap_docs = 0;
}

int retrieve_state_reset(struct retrieve *r, struct err *err)
{
    state_free(r);
    r->evidence = evtable_new();
    return r->evidence != NULL ? 0 : no_memory(err);
}

int retrieve_state_take(const struct snap *s, struct retrieve *r, struct err *err)
{
    static const enum snap_section large[] = { SNAP_EVIDENCE_ROWS, SNAP_EVIDENCE_BY_ID,
                                               SNAP_EVIDENCE_BY_CLAIM, SNAP_EVIDENCE_RETRACTED,
                                               SNAP_DOCS };
    struct err ignored;

    if (evtable_take(s, r->evidence, err) == 0 && take_docs(s, r, err) == 0 &&
        take_facet(s, r, SNAP_TECHNIQUES, &r->technique, err) == 0 &&
        take_facet(s, r, SNAP_FAMILIES, &r->family, err) == 0 &&
        take_facet(s, r, SNAP_REQUIRES, &r->requires, err) == 0 && take_spellings(s, r, err) == 0 &&
        take_devices(s, r, err) == 0) {
        for (size_t i = 0; i < ARRAY_LEN(large); i++)
            snap_forget(s, large[i]);
        return 0;
    }
    (void)retrieve_state_reset(r, &ignored);
    return -1;
}
