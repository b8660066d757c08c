/* SPDX-License-Identifier: Apache-2.0 */
/* Sorted buckets; see idmap.h. */
#include "idmap.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* The first 16 digits as a number; missing digits count as zero. Digit order is number order. */
static uint64_t lead_of(const char *hex)
{
    uint64_t n = 0;
    int i;

    for (i = 0; i < 16 && hex[i]; i++)
        n = n << 4 | (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    return i == 0 ? 0 : n << (64 - 4 * i);
}

static size_t bucket_of(const struct idmap *m, uint64_t lead)
{
    return m->bits == 0 ? 0 : (size_t)(lead >> (64 - m->bits));
}

/* First slot that is not below (lead, hex). */
static uint32_t slot_of(const struct idmap_bucket *b, uint64_t lead, const char *hex)
{
    uint32_t low = 0, high = b->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct idmap_slot *s = &b->slots[mid];

        if (s->lead < lead ||
            (s->lead == lead && strcmp(((const struct id *)s->value)->hex, hex) < 0))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int idmap_init(struct idmap *m, unsigned bits, struct err *err)
{
    assert(bits <= 16);
    m->bits = bits;
    m->count = 0;
    m->buckets = calloc((size_t)1 << bits, sizeof(*m->buckets));
    if (m->buckets == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a map of ids");
    return 0;
}

void idmap_release(struct idmap *m, void (*free_value)(void *value))
{
    if (m->buckets == NULL)
        return;
    for (size_t i = 0; i < (size_t)1 << m->bits; i++) {
        struct idmap_bucket *b = &m->buckets[i];

        for (uint32_t k = 0; free_value && k < b->n; k++)
            free_value(b->slots[k].value);
        free(b->slots);
    }
    free(m->buckets);
    m->buckets = NULL;
    m->count = 0;
}

void *idmap_get(const struct idmap *m, const struct id *id)
{
    uint64_t lead = lead_of(id->hex);
    const struct idmap_bucket *b = &m->buckets[bucket_of(m, lead)];
    uint32_t at = slot_of(b, lead, id->hex);

    if (at == b->n || strcmp(((const struct id *)b->slots[at].value)->hex, id->hex) != 0)
        return NULL;
    return b->slots[at].value;
}

int idmap_add(struct idmap *m, void *value, struct err *err)
{
    const struct id *id = value;
    uint64_t lead = lead_of(id->hex);
    struct idmap_bucket *b = &m->buckets[bucket_of(m, lead)];
    uint32_t at = slot_of(b, lead, id->hex);

    if (b->n == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 4;
        struct idmap_slot *slots = realloc(b->slots, cap * sizeof(*slots));

        if (slots == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a map of %zu ids", m->count + 1);
        b->slots = slots;
        b->cap = cap;
    }
    memmove(&b->slots[at + 1], &b->slots[at], (b->n - at) * sizeof(*b->slots));
    b->slots[at] = (struct idmap_slot){ .lead = lead, .value = value };
    b->n++;
    m->count++;
    return 0;
}

/* Values from .. to - 1 belong to this bucket; some room for more. */
static int bucket_fill(struct idmap_bucket *b, char *values, size_t size, size_t n, struct err *err)
{
    size_t cap = n + n / 8 + 1;

    b->slots = reallocarray(NULL, cap, sizeof(*b->slots));
    if (b->slots == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a map of ids");
    b->cap = (uint32_t)cap;
    for (; b->n < n; b->n++, values += size)
        b->slots[b->n] =
            (struct idmap_slot){ lead_of(((const struct id *)(void *)values)->hex), values };
    return 0;
}

int idmap_fill(struct idmap *m, void *values, size_t size, size_t n, struct err *err)
{
    char *at = values;

    for (size_t from = 0, to; from < n; from = to) {
        size_t bucket = bucket_of(m, lead_of((at + from * size)));

        for (to = from + 1; to < n && bucket_of(m, lead_of(at + to * size)) == bucket;)
            to++;
        if (bucket_fill(&m->buckets[bucket], at + from * size, size, to - from, err) == 0)
            continue;
        for (size_t i = 0; i < (size_t)1 << m->bits; i++) {
            free(m->buckets[i].slots);
            m->buckets[i] = (struct idmap_bucket){ 0 };
        }
        return -1;
    }
    m->count = n;
    return 0;
}

void *idmap_find(const struct idmap *m, const char *digits, bool *ambiguous)
{
    uint64_t lead = lead_of(digits);
    struct idmap_at at = { .bucket = bucket_of(m, lead) };
    size_t len = strlen(digits);
    struct id *found, *next;

    *ambiguous = false;
    at.slot = slot_of(&m->buckets[at.bucket], lead, digits);
    found = idmap_next(m, &at);
    if (found == NULL || strncmp(found->hex, digits, len) != 0)
        return NULL;
    next = idmap_next(m, &at);
    if (next != NULL && strncmp(next->hex, digits, len) == 0) {
        *ambiguous = true;
        return NULL;
    }
    return found;
}

void *idmap_next(const struct idmap *m, struct idmap_at *at)
{
    for (; at->bucket < (size_t)1 << m->bits; at->bucket++, at->slot = 0)
        if (at->slot < m->buckets[at->bucket].n)
            return m->buckets[at->bucket].slots[at->slot++].value;
    return NULL;
}
