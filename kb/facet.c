/* SPDX-License-Identifier: Apache-2.0 */
/* Bit sets and facets; see facet.h. */
#include "facet.h"

#include <string.h>

#include "base/mem.h"

int bitset_reserve(struct bitset *b, size_t n, struct err *err)
{
    size_t need = (n + 63) / 64, want = MAX(need, b->n_words + b->n_words / 2);
    uint64_t *words;

    if (need <= b->n_words)
        return 0;
    words = reallocarray(b->words, want, sizeof(*words));
    if (words == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a bit set");
    memset(words + b->n_words, 0, (want - b->n_words) * sizeof(*words));
    b->words = words;
    b->n_words = want;
    return 0;
}

void bitset_put(struct bitset *b, uint32_t number, bool on)
{
    uint64_t bit = 1ull << (number % 64);

    if (on)
        b->words[number / 64] |= bit;
    else if (number / 64 < b->n_words)
        b->words[number / 64] &= ~bit;
}

bool bitset_has(const struct bitset *b, uint32_t number)
{
    return number / 64 < b->n_words && (b->words[number / 64] >> (number % 64) & 1) != 0;
}

void bitset_release(struct bitset *b)
{
    free(b->words);
    *b = (struct bitset){ 0 };
}

uint32_t bits_count(const uint64_t *words, uint32_t n)
{
    uint32_t sum = 0;

    for (uint32_t w = 0; w < n / 64; w++)
        sum += (uint32_t)__builtin_popcountll(words[w]);
    if (n % 64 != 0)
        sum += (uint32_t)__builtin_popcountll(words[n / 64] & ((1ull << (n % 64)) - 1));
    return sum;
}

static int lists_reserve(struct facet *f, size_t n, struct err *err)
{
    size_t want = MAX(n, f->cap_lists * 2);
    struct facet_list *lists;

    if (n <= f->cap_lists)
        return 0;
    lists = reallocarray(f->lists, want, sizeof(*lists));
    if (lists == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a facet");
    memset(lists + f->cap_lists, 0, (want - f->cap_lists) * sizeof(*lists));
    f->lists = lists;
    f->cap_lists = want;
    return 0;
}

int facet_reserve(struct facet *f, const char *value, uint32_t *number, struct err *err)
{
    struct facet_list *l;
    uint32_t *v;

    /* A list for every name, also for one that this call adds. */
    if (lists_reserve(f, (size_t)f->names.n + 1, err) != 0 ||
        symbols_add(&f->names, value, number, err) != 0)
        return -1;
    l = &f->lists[*number];
    if (l->n < l->cap)
        return 0;
    v = reallocarray(l->v, MAX(l->cap * 2, 8u), sizeof(*v));
    if (v == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a facet");
    l->v = v;
    l->cap = MAX(l->cap * 2, 8u);
    return 0;
}

void facet_put(struct facet *f, uint32_t number, uint32_t insight)
{
    struct facet_list *l = &f->lists[number];

    l->v[l->n++] = insight;
}

void facet_mark(const struct facet *f, uint32_t number, uint64_t *words, bool on)
{
    const struct facet_list *l = &f->lists[number];

    if (on)
        for (uint32_t i = 0; i < l->n; i++)
            words[l->v[i] / 64] |= 1ull << (l->v[i] % 64);
    else
        for (uint32_t i = 0; i < l->n; i++)
            words[l->v[i] / 64] &= ~(1ull << (l->v[i] % 64));
}

void facet_release(struct facet *f)
{
    for (uint32_t i = 0; f->lists != NULL && i < f->names.n; i++)
        free(f->lists[i].v);
    free(f->lists);
    symbols_release(&f->names);
    *f = (struct facet){ 0 };
}
