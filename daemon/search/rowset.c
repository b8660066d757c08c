/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of assignments and their encoding; see table.h. */
#include "search/rowset.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

void rowset_init(struct rowset *t, const struct space *space)
{
    *t = (struct rowset){ .space = space };
}

void rowset_release(struct rowset *t)
{
    free(t->rows);
    free(t->slots);
    *t = (struct rowset){ .space = t->space };
}

void rowset_clear(struct rowset *t)
{
    t->n = 0;
    if (t->slots != NULL)
        memset(t->slots, 0, (t->mask + 1) * sizeof(*t->slots));
}

const uint16_t *rowset_row(const struct rowset *t, size_t i)
{
    return t->rows + i * space_n(t->space);
}

/* Where the assignment is, or the empty slot where it would be. */
static size_t slot_of(const struct rowset *t, const uint16_t *a)
{
    size_t at = space_hash(t->space, a) & t->mask, bytes = space_n(t->space) * sizeof(*a);

    while (t->slots[at] != 0 && memcmp(rowset_row(t, t->slots[at] - 1), a, bytes) != 0)
        at = (at + 1) & t->mask;
    return at;
}

long rowset_find(const struct rowset *t, const uint16_t *a)
{
    return t->n == 0 ? -1 : (long)t->slots[slot_of(t, a)] - 1;
}

static void rehash(struct rowset *t, size_t slots)
{
    free(t->slots);
    t->slots = xcalloc(slots, sizeof(*t->slots));
    t->mask = slots - 1;
    for (size_t i = 0; i < t->n; i++)
        t->slots[slot_of(t, rowset_row(t, i))] = (uint32_t)i + 1;
}

size_t rowset_add(struct rowset *t, const uint16_t *a, bool *added)
{
    const size_t width = space_n(t->space);
    size_t at;

    if (t->slots == NULL || 2 * (t->n + 1) > t->mask + 1)
        rehash(t, t->slots == NULL ? 64 : 2 * (t->mask + 1));
    at = slot_of(t, a);
    *added = t->slots[at] == 0;
    if (!*added)
        return t->slots[at] - 1;
    /* One more, so that there is an array also where a row holds nothing. */
    t->rows = xgrow(t->rows, &t->room, (t->n + 1) * width + 1, sizeof(*t->rows));
    memcpy(t->rows + t->n * width, a, width * sizeof(*a));
    t->slots[at] = (uint32_t)++t->n;
    return t->n - 1;
}

/* ---- encoding ---- */

static void encode_numbers(const struct space_param *p, float *code)
{
    double low = INFINITY, high = -INFINITY, first = p->values[0].num;

    for (uint16_t i = 0; i < p->n_values; i++)
        first = MIN(first, p->values[i].num);
    for (uint16_t i = 0; i < p->n_values; i++) {
        double v = p->values[i].num, rank = 0.0;

        for (uint16_t j = 0; j < p->n_values; j++)
            rank += p->values[j].num < v;
        v = first < 0.0 ? rank : log2(first == 0.0 ? v + 1.0 : v);
        code[i] = (float)v;
        low = MIN(low, (double)code[i]);
        high = MAX(high, (double)code[i]);
    }
    for (uint16_t i = 0; i < p->n_values; i++)
        code[i] = (float)(((double)code[i] - low) / (high - low));
}

/* An ordered enum is as far apart as its list says. */
static void encode_listed(const struct space_param *p, float *code)
{
    for (uint16_t i = 0; i < p->n_values; i++)
        code[i] = p->kind == SPACE_ORDINAL ? (float)i / (float)(p->n_values - 1) : (float)i;
}

void encoding_init(struct encoding *e, const struct space *space)
{
    memset(e, 0, sizeof(*e));
    for (size_t i = 0; i < space_n(space); i++) {
        const struct space_param *p = space_param(space, i);

        if (p->n_values < 2)
            continue;
        e->param[e->n] = (uint8_t)i;
        e->unordered[e->n] = p->kind == SPACE_CATEGORICAL && p->n_values > 2;
        e->code[e->n] = xcalloc(p->n_values, sizeof(float));
        if (p->kind == SPACE_CATEGORICAL || p->type == SPACE_ENUM)
            encode_listed(p, e->code[e->n]);
        else
            encode_numbers(p, e->code[e->n]);
        e->n++;
    }
}

void encoding_release(struct encoding *e)
{
    for (size_t c = 0; c < e->n; c++)
        free(e->code[c]);
    memset(e, 0, sizeof(*e));
}

void encoding_row(const struct encoding *e, const uint16_t *a, float *out, size_t stride)
{
    for (size_t c = 0; c < e->n; c++)
        out[c * stride] = e->code[c][a[e->param[c]]];
}
